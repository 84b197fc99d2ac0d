//! Two sealed versions, side by side, by their manifests: what can be said without a key.
//!
//! Sealing encrypts under fresh keys, so that two sealings of one file have nothing in common: that a file is unchanged cannot be seen,
//! only that its size or its tensors are others.

use std::cmp::Ordering;

use crate::manifest::{Contents, FileEntry};

/// What became of one path.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// It is in the second alone.
    Added(&'a FileEntry),
    /// It is in the first alone.
    Removed(&'a FileEntry),
    /// It is in both, and its size or its tensors are others.
    Changed(&'a FileEntry, &'a FileEntry),
    /// It is in both, and nothing shows a difference. Its bytes may still be others.
    Alike(&'a FileEntry, &'a FileEntry),
    /// It is the same sealed file: the root over its ciphertext is the same.
    Same(&'a FileEntry),
}

/// Every path of both, in order.
#[must_use]
pub fn compare<'a>(first: &'a Contents, second: &'a Contents) -> Vec<Change<'a>> {
    let (mut one, mut two) = (first.files().iter().peekable(), second.files().iter().peekable());
    let mut changes = Vec::new();
    loop {
        let order = match (one.peek(), two.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(two)) => one.path().cmp(two.path()),
        };
        let before = if order == Ordering::Greater { None } else { one.next() };
        let after = if order == Ordering::Less { None } else { two.next() };
        changes.extend(match (before, after) {
            (Some(before), Some(after)) => Some(both(before, after)),
            (Some(before), None) => Some(Change::Removed(before)),
            (None, Some(after)) => Some(Change::Added(after)),
            (None, None) => None,
        });
    }
}

fn both<'a>(before: &'a FileEntry, after: &'a FileEntry) -> Change<'a> {
    if before.root() == after.root() {
        return Change::Same(before);
    }
    let shows = |file: &FileEntry| (file.geometry().size(), file.tensors().cloned());
    if shows(before) == shows(after) { Change::Alike(before, after) } else { Change::Changed(before, after) }
}
