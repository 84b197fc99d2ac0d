//! A soft Intel TDX machine.
//!
//! [`SoftTdx`] is one machine with its TDX module and quoting enclave: it has PPID, FMSPC and SVNs, derives its PCK from them, gets
//! certificates from its own root, revocation lists and documents from its own TCB signer, and makes quotes.
//!
//! ```
//! use testbed::tdx::{SoftTdx, TdAttributes, TdReportKind, TdShape};
//!
//! let platform = SoftTdx::new();
//! // What a TD hands out for 64 bytes of report data: a quote, and an event log that replays to its RTMRs.
//! let evidence = platform.guest(TdShape::default()).attest(&[7; 64]);
//! assert_eq!(evidence.quote[48 + 520..48 + 584], [7; 64]);
//! // One that differs in a single field and is signed all the same.
//! let debuggable = platform.quote().with(|quote| quote.body.td_attributes |= TdAttributes::DEBUG).bytes();
//! assert_ne!(debuggable, platform.quote().bytes());
//! // The same TD with a TD 1.5 report, which needs a version 5 quote.
//! let newer = platform.guest(TdShape::version_5(TdReportKind::Td15)).attest(&[7; 64]);
//! assert_eq!(newer.quote.len(), evidence.quote.len() + 6 + 64);
//! // A certificate with one thing wrong, signed by the right authority.
//! let expired = platform.pck_with(|pck| pck.valid.not_after = pck.valid.not_before + 1);
//! assert_ne!(expired, platform.pck_der());
//! // Collateral: genuine, with another status, and with its text broken before it is signed.
//! let genuine = platform.collateral().tcb_info;
//! let revoked = platform.tcb_info_body(|info| info.levels[0].standing.status = "Revoked".to_owned());
//! let twice = platform.tcb_info_document(&platform.tcb_info()).replacing("\"version\":3", "\"version\":3,\"version\":3").bytes();
//! assert!(genuine != revoked && genuine != twice);
//! ```
//!
//! Layouts: Intel TDX DCAP quoting library API, "Quote Format"; Intel SGX PCK certificate and CRL profile; Intel PCS API version 4; TCG PC
//! Client Platform Firmware Profile, "Event Logging".

mod certificates;
mod collateral;
mod document;
mod enclave;
mod event_log;
mod guest;
mod issued;
mod keys;
pub mod pem;
mod platform;
mod profiles;
mod qe_identity;
mod quote;
mod revocation;
mod sgx;
mod signature;
mod tcb_info;
mod td_report;

pub use crate::x509::{BasicConstraints, Extension, SignatureState, Window};
pub use certificates::{Certificate, Name, oid};
pub use collateral::{NEWEST_TCB, OLDER_TCB, OLDEST_TCB, SoftTdxCollateral};
pub use document::{Document, IsvLevel, Standing};
pub use enclave::{ENCLAVE_REPORT_LENGTH, EnclaveReport, TD_QE_SIGNER};
pub use event_log::{Ending, EventLog, EventRecord, SHA384, SpecId, event_type};
pub use guest::{SoftTdEvidence, SoftTdGuest, TdShape};
pub(crate) use keys::derived;
pub use keys::{coordinates, key_identifier, public_key_info, sign, sign_der};
pub use platform::{PckAuthority, Role, Root, SoftTdx, Validity};
pub use qe_identity::QeIdentity;
pub use quote::{DataHeader, INTEL_QE_VENDOR, Quote, QuoteHeader};
pub use revocation::{RevocationList, Revoked};
pub use sgx::{PlatformPart, SgxExtension};
pub use signature::SignatureFlaw;
pub use tcb_info::{ModuleIdentity, PlatformLevel, TcbInfo};
pub use td_report::{TdAttributes, TdExtended, TdReport, TdReportKind};
