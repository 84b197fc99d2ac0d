//! Evidence bytes become verified claims, or a [`Rejection`] that names the check.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::as_conversions))]

mod claims;
mod rejection;

pub use claims::{
    FirmwareVersion, GenuineEvidence, GuestPolicy, PlatformClaims, ProductLine, ProductSource, Revocation, SecondOpinion, SigningKeyKind,
    SnpClaims, Step, Tcb, VerifiedClaims,
};
pub use rejection::{BadAnchor, HexBytes, Rejection};

/// The names of the steps, in order: step 1 is the first.
pub const STEPS: [&str; 14] = [
    "format",
    "signature algorithm and signing key",
    "product line",
    "leaf certificate",
    "chain to the pinned root",
    "revocation",
    "signature",
    "TCB of the signing key",
    "chip identity",
    "report data",
    "guest policy, structure",
    "TCB relations",
    "platform info, structure",
    "second opinion",
];
