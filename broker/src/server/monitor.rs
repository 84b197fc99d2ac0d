//! What monitors and the platform call: the audit log as static tiles (tlog-tiles), readiness, metrics.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use protocol::log::TilePath;
use protocol::log::tiles::{TileKind, encode_bundle};
use protocol::time::UnixTime;

use super::Broker;
use super::problem::{Refusal, refuse};
use crate::clock;
use crate::collateral::{Ability, Vendor};
use crate::store::StoreError;

const IMMUTABLE: (HeaderName, &str) = (header::CACHE_CONTROL, "public, max-age=31536000, immutable");

pub async fn checkpoint(State(broker): State<Arc<Broker>>) -> Response {
    let checkpoint = broker.ledger.published().checkpoint.to_string();
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")], checkpoint).into_response()
}

/// A tile of hashes or a bundle of entries. Only what the published checkpoint covers is shown.
pub async fn tile(State(broker): State<Arc<Broker>>, Path(path): Path<String>) -> Response {
    let unknown = || refuse(404, "tile-unknown", "no such tile");
    let Ok(path) = format!("tile/{path}").parse::<TilePath>() else { return unknown() };
    let published = broker.ledger.published();
    let width = u64::from(path.width());
    let bytes = match path.kind() {
        TileKind::Entries => {
            let first = path.index().saturating_mul(256);
            let end = first.saturating_add(width);
            if end > published.edge.size() {
                return unknown();
            }
            match broker.store.entries(first..end).await {
                Ok(entries) if entries.len() == usize::from(path.width()) => encode_bundle(&entries).ok(),
                Ok(_) => return failed(&StoreError::Damaged("fewer entries than the log has")),
                Err(error) => return failed(&error),
            }
        }
        TileKind::Hashes { level } => match published.edge.tile_bytes(&path) {
            Some(bytes) => Some(bytes),
            None => match u8::try_from(level) {
                Ok(level) => match broker.store.tile(level, path.index()).await {
                    Ok(stored) => stored.and_then(|tile| tile.hashes.get(..usize::from(path.width()) * 32).map(<[u8]>::to_vec)),
                    Err(error) => return failed(&error),
                },
                Err(_) => None,
            },
        },
    };
    match bytes {
        Some(bytes) => ([(header::CONTENT_TYPE, "application/octet-stream"), IMMUTABLE], bytes).into_response(),
        None => unknown(),
    }
}

fn failed(error: &StoreError) -> Response {
    tracing::error!(%error, "the log could not be read");
    refuse(503, "store-failed", "the store failed")
}

/// Ready to decide: the log can grow, the store answers, its head is where this broker left it, and there is collateral to verify
/// some platform of a vendor that the configuration names, if it names any. What is not as it should be of another vendor stands in the
/// body: nobody stops a broker that serves one vendor's platforms because another's cannot be verified.
pub async fn ready(State(broker): State<Arc<Broker>>) -> Response {
    let mismatch = || refuse(503, "store-does-not-match-its-log", "the store is not where this broker left it");
    if !broker.ledger.can_grow() {
        return mismatch();
    }
    let abilities = abilities(&broker, clock::now());
    let notes = |(vendor, ability): &(Vendor, Ability)| match ability {
        Ability::InForce => None,
        Ability::Until(last) => Some(format!("{}: by collateral that has lapsed, until {last}", vendor.as_str())),
        Ability::No(why) => Some(format!("{}: {why}", vendor.as_str())),
    };
    let notes: Vec<String> = abilities.iter().filter_map(notes).collect();
    if !abilities.is_empty() && abilities.iter().all(|(_, ability)| matches!(ability, Ability::No(_))) {
        let detail = notes.join("; ");
        let hint = "the log says what became of fetches; or carry collateral here: [collateral] folder";
        return Refusal::new(503, "collateral-missing", "no platform can be verified").detail(detail).hint(hint).into_response();
    }
    let ready = || [vec!["ready".to_owned()], notes].concat().iter().map(|line| format!("{line}\n")).collect::<String>();
    match broker.store.head().await {
        // Larger than what is published: a group that is being answered at this moment.
        Ok(Some(head)) if head.size > broker.ledger.published().edge.size() => ready().into_response(),
        Ok(Some(head)) if head.checkpoint == *broker.ledger.published().checkpoint => ready().into_response(),
        Ok(_) => mismatch(),
        Err(error) => failed(&error),
    }
}

/// What could be verified, by what the policies in force make of the collateral's age.
fn abilities(broker: &Broker, at: UnixTime) -> Vec<(Vendor, Ability)> {
    let documents = broker.ledger.published().documents;
    broker.collateral.abilities(&|piece| documents.usable_until(piece), at)
}

pub async fn metrics(State(broker): State<Arc<Broker>>) -> Response {
    let at = clock::now();
    let abilities = abilities(&broker, at);
    let text = broker.metrics.text(broker.ledger.published().edge.size(), &broker.collateral.sums(), &abilities, at);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
