//! Soft platforms under their own roots: real bytes, any field of which can be made wrong and re-signed.
//!
//! This crate is written from the vendors' layouts and shares no code with the crates that judge its bytes, so that one misreading
//! cannot agree with itself. Everything is deterministic: the same settings give the same bytes in every process.
//!
//! * [`snp`]: an AMD SEV-SNP machine: ARK, ASK, ASVK, VCEK, VLEK, revocation lists, attestation reports, certificate tables.
//! * [`tdx`]: an Intel TDX machine: root, PCK authorities, PCK, TCB signer, revocation lists, TCB info, QE identity, quotes, event logs.
//! * [`configfs`]: a fake configfs-tsm over FUSE, serving such a machine's reports to one guest, and a TD's event log as its kernel shows it.
//! * [`services`]: the vendors' services over HTTP, serving what such machines have, well or badly.
//! * [`mapped`]: a process that reads a file through a memory map, as engines do, and dies of it where they would.
//! * [`maker`]: whoever released a model, and signed it.
//! * [`model`]: a small model folder in Hugging Face's layout.
//! * [`rsa`]: the committed test keys and the RSASSA-PSS signatures under them.
//! * [`x509`] and [`der`]: the parts of certificates that every vendor's have, and the few DER encodings that they need.

pub mod configfs;
pub mod der;
pub mod maker;
#[allow(unsafe_code)]
pub mod mapped;
pub mod model;
pub mod rsa;
pub mod services;
pub mod snp;
pub mod tdx;
pub mod x509;
