//! What crosses the wire between publisher, broker and guest: how it is bound, wrapped, signed and proven.
//!
//! This crate is pure: bytes and a time in, a named value or a named reason out. It has no clock, no I/O,
//! no runtime and no logging. SPEC.md beside it says the same in prose, with byte-exact vectors.
//!
//! | module | what it fixes |
//! | --- | --- |
//! | [`encoding`] | length-prefixed, domain-separated byte strings; hex and base64 as they stand in JSON |
//! | [`ids`] | names, versions, digests, nonces, roles: each a type of its own |
//! | [`limits`] | how large anything from outside may be, and where the number comes from |
//! | [`keys`] | Ed25519 keys and their text forms |
//! | [`transcript`] | what the report data of an attestation report binds |
//! | [`challenge`] | the challenge that any replica can check |
//! | [`collateral`] | vendor collateral carried to where there is no network |
//! | [`admin`] | what operators and publishers ask a broker |
//! | [`entries`] | what stands in the audit log |
//! | [`messages`] | the release request and its answer; the identity in it |
//! | [`hpke`] | the one suite: X-Wing, HKDF-SHA256, AES-256-GCM |
//! | [`dsse`] | signed documents |
//! | [`documents`] | what the signed documents say: certificates, statements, policies, revocations, TCB baselines |
//! | [`envelope`] | the secret of a statement, sealed to its recipients |
//! | [`credential`] | what a credential's secret holds: bytes, a file, environment variables; and until when |
//! | [`keyfile`] | secret keys at rest |
//! | [`spiffe`] | SPIFFE IDs, templates that make them, bundles of trust domains |
//! | [`tokens`] | JWT-SVIDs and attestation results: signed, and verified |
//! | [`log`] | Merkle tree, checkpoints, proofs and receipts of the audit log |
//! | [`time`] | seconds since 1970 as an argument |
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::as_conversions))]

pub mod admin;
pub mod challenge;
pub mod collateral;
pub mod credential;
pub mod documents;
pub mod dsse;
pub mod encoding;
pub mod entries;
pub mod envelope;
pub mod hpke;
pub mod ids;
pub mod keyfile;
pub mod keys;
pub mod limits;
pub mod log;
pub mod messages;
pub mod spiffe;
pub mod time;
pub mod tokens;
pub mod transcript;
