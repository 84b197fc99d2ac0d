//! What the targets share: fixed keys, soft machines whose evidence is genuine, and signing anew.
//!
//! Most of our parsers stand behind a signature, where changed bytes never arrive. So a target does both: it hands the bytes in as they
//! came, where nothing but what was genuinely signed may pass; and where the signature was what stopped them, it signs them with the
//! fixture's key and hands them in again.

pub mod documents;
pub mod forms;
pub mod log;
pub mod maker;
pub mod model;
pub mod snp;
pub mod tdx;
pub mod tokens;

use protocol::hpke::RecipientSecret;
use protocol::keys::SigningKey;
use protocol::time::UnixTime;

/// 2026-11-23: within the soft platforms' windows.
pub const NOW: UnixTime = UnixTime::from_seconds(1_795_392_000);

/// Who signs in the fixtures. Each has a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The installation root.
    Root = 1,
    /// A publisher.
    Publisher,
    /// A policy authority.
    Authority,
    /// The broker's identity.
    Identity,
    /// The broker's log.
    Log,
    /// A guest.
    Guest,
    /// Somebody whom nobody trusts.
    Stranger,
}

impl Signer {
    /// The key: the same in every process.
    #[must_use]
    pub fn key(self) -> SigningKey {
        SigningKey::from_seed(&[self as u8; 32]).expect("any 32 bytes are a seed")
    }
}

/// An HPKE key: the same in every process.
#[must_use]
pub fn recipient() -> RecipientSecret {
    RecipientSecret::from_seed(&[8; 32]).expect("any 32 bytes are a seed")
}
