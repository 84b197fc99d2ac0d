//! Opening the log: everything about a stored log that can be checked against its own signed head, before anything is decided.

use std::sync::Arc;

use protocol::entries::Entry;
use protocol::keys::PublicKey;
use protocol::log::{Hash, HashSource, LogError, Node, TileTree, VerifiedCheckpoint, leaf_hash, verify_consistency};

use super::{Identity, OpenError, Published, tiles};
use crate::documents::{ActiveDocuments, Trust};
use crate::store::{Head, Store};

pub(super) async fn open(
    store: &dyn Store,
    key: &PublicKey,
    identity: &Identity,
    trust: &Trust,
    kept: Option<&str>,
) -> Result<Published, OpenError> {
    let head = store.head().await?.ok_or(OpenError::Empty)?;
    // 1. The head is what the log key signed.
    let checkpoint = VerifiedCheckpoint::verify(&head.checkpoint, &identity.origin, &[*key])?;
    if checkpoint.size() != head.size || *checkpoint.root().as_bytes() != head.root {
        return Err(OpenError::Head { expected: checkpoint.size(), found: head.size });
    }
    // 2. The stored tree has that root.
    let edge = rebuild(store, &head).await?;
    // 3. It continues what was kept elsewhere.
    if let Some(kept) = kept {
        let kept = VerifiedCheckpoint::verify(kept, &identity.origin, &[*key]).map_err(OpenError::Kept)?;
        continues(store, &edge, &checkpoint, &kept).await?;
    }
    // 4. The last entry is the one in the tree, and this log's.
    let last = last_entry(store, &edge, identity).await?;
    // 5. The documents are those that it commits to.
    let (documents, left_out) = ActiveDocuments::load(&store.documents().await?, trust)?;
    if last.documents != *documents.digest() || head.documents != *documents.digest() {
        return Err(OpenError::Documents { expected: last.documents, found: *documents.digest() });
    }
    for (slot, error) in left_out {
        tracing::warn!(slot, %error, "a stored document decides nothing");
    }
    Ok(Published { documents: Arc::new(documents), checkpoint: head.checkpoint.into(), edge: Arc::new(edge) })
}

/// Rebuilds the tree's edge from what is stored, and proves it against the root.
async fn rebuild(store: &dyn Store, head: &Head) -> Result<TileTree, OpenError> {
    let tiles = tiles(store, TileTree::tiles_to_rebuild(head.size)).await?;
    let first = head.size - head.size % 256;
    let leaves: Vec<_> = store.entries(first..head.size).await?.iter().map(|entry| leaf_hash(entry)).collect();
    Ok(TileTree::rebuild(head.size, &Hash::from_bytes(head.root), &leaves, &tiles)?)
}

async fn continues(store: &dyn Store, edge: &TileTree, newest: &VerifiedCheckpoint, kept: &VerifiedCheckpoint) -> Result<(), OpenError> {
    let unproven = |error| OpenError::RolledBack(LogError::Inconsistent(error));
    let tiles = tiles(store, edge.tiles_for_consistency(kept.size()).map_err(unproven)?).await?;
    let proof = edge.consistency_proof(kept.size(), &tiles).map_err(unproven)?;
    verify_consistency(&kept.head(), &newest.head(), &proof).map_err(unproven)
}

/// The last entry. The root was rebuilt from full tiles where the size is a multiple of 256, so the entry itself is compared
/// with its leaf.
async fn last_entry(store: &dyn Store, edge: &TileTree, identity: &Identity) -> Result<Entry, OpenError> {
    let index = edge.size().checked_sub(1).ok_or(OpenError::LastEntry)?;
    let stored = store.entries(index..edge.size()).await?;
    let bytes = stored.first().ok_or(OpenError::LastEntry)?;
    if edge.hash(Node { level: 0, index }) != Some(leaf_hash(bytes)) {
        return Err(OpenError::LastEntryChanged);
    }
    let entry = Entry::parse(bytes)?;
    let expected = (identity.origin.to_string(), identity.installation, identity.anchors);
    let found = (entry.origin.clone(), entry.installation, entry.anchors);
    if found == expected {
        return Ok(entry);
    }
    let words = |(origin, installation, anchors): (String, PublicKey, protocol::ids::AnchorClass)| {
        format!("{origin} of {installation}, class {anchors}")
    };
    Err(OpenError::OtherLog { expected: words(expected), found: words(found) })
}
