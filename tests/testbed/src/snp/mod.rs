//! A soft AMD SEV-SNP machine.
//!
//! [`SoftPlatform`] is one processor with its firmware: it has a chip identifier and a TCB version, derives its VCEK and VLEK from them as the
//! hardware does (another TCB, another key), gets certificates from its own ARK, ASK and ASVK, and signs attestation reports.
//!
//! ```
//! use testbed::snp::{GuestShape, Line, SoftPlatform};
//!
//! let platform = SoftPlatform::new(Line::Milan);
//! // A genuine report, and one that differs in a single field and is signed all the same.
//! let genuine = platform.sign(&platform.report());
//! let debuggable = platform.sign(&platform.report().with(|report| report.policy |= 1 << 19));
//! assert_ne!(genuine, debuggable);
//! // A certificate with one thing wrong, signed by the right authority.
//! let expired = platform.vcek_with(|vcek| vcek.valid.not_after = vcek.valid.not_before + 1);
//! assert_ne!(expired, platform.vcek_der());
//! // What a guest's kernel hands out for 64 bytes of report data.
//! let evidence = platform.guest(GuestShape::default()).attest(&[7; 64]);
//! assert_eq!(evidence.report.len(), 1184);
//! ```
//!
//! Layouts: AMD 56860 (SEV-SNP firmware ABI), table "ATTESTATION_REPORT Structure"; AMD 57230 (VCEK certificate and KDS interface).

mod certificates;
mod guest;
mod platform;
mod profiles;
mod report;
mod revocation;
mod table;

pub use crate::x509::{BasicConstraints, Extension, SignatureState, Window};
pub use certificates::{Certificate, Issuer, Name, oid};
pub use guest::{GuestShape, SoftEvidence, SoftGuest};
pub use platform::{Authority, Leaf, Line, Root, SoftPlatform, Tcb, Validity, chip_id};
pub use report::{Cpuid, FirmwareVersion, KeyInfo, REPORT_LENGTH, ReportBuilder, SIGNATURE_OFFSET, SignatureFlaw};
pub use revocation::{RevocationList, Revoked};
pub use table::{Guid, certificate_table, raw_certificate_table};
