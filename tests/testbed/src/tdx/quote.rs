//! A TD quote (Intel TDX DCAP quoting library API, "Quote Format"), each layer built from public fields and signed when the bytes are made.

use p256::ecdsa::SigningKey;
use sha2::{Digest, Sha256};

use super::enclave::EnclaveReport;
use super::keys;
use super::signature::SignatureFlaw;
use super::td_report::TdReport;

/// Intel's QE vendor id.
pub const INTEL_QE_VENDOR: [u8; 16] = [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];

/// The first 48 bytes of a quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteHeader {
    /// 0: version: 4, or 5 with a body descriptor behind the header.
    pub version: u16,
    /// 2: attestation key type, 2 for ECDSA with P-256.
    pub key_type: u16,
    /// 4: TEE type, 0x81 for TDX.
    pub tee_type: u32,
    /// 8: reserved.
    pub reserved: [u8; 4],
    /// 12: QE vendor id.
    pub vendor: [u8; 16],
    /// 28: user data; the first 16 bytes are the QE's id.
    pub user_data: [u8; 20],
}

/// A certification data element's type and, where it shall not be the true one, its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// 5 is a PEM chain, 6 a QE report with its own certification data.
    pub kind: u16,
    /// Another size than the data's own.
    pub size: Option<u32>,
}

/// A quote before it is signed. [`Self::bytes`] signs whatever the fields say.
#[derive(Clone, Debug)]
pub struct Quote {
    /// The header.
    pub header: QuoteHeader,
    /// Another body descriptor (type and size) than the body's own; versions other than 5 write none.
    pub descriptor: Option<(u16, u32)>,
    /// The TD report.
    pub body: TdReport,
    /// Another length of the signature section than its own.
    pub section_size: Option<u32>,
    /// The key that signs header and body.
    pub attestation_key: SigningKey,
    /// What becomes of its signature.
    pub signature: SignatureFlaw,
    /// Another public key in the quote than that key's own.
    pub stated_key: Option<[u8; 64]>,
    /// The outer certification data: type 6.
    pub outer: DataHeader,
    /// The quoting enclave's report, bound to the stated key and the QE's data unless it names its own report data.
    pub qe_report: EnclaveReport,
    /// The key that signs the QE report: the PCK.
    pub qe_signer: SigningKey,
    /// What becomes of that signature.
    pub qe_signature: SignatureFlaw,
    /// Another length of the QE authentication data than its own.
    pub qe_auth_size: Option<u16>,
    /// QE authentication data.
    pub qe_auth_data: Vec<u8>,
    /// The inner certification data: type 5.
    pub inner: DataHeader,
    /// Its content: the PEM chain of the PCK and a NUL.
    pub certification: Vec<u8>,
    /// Bytes behind the inner data, inside the outer data.
    pub behind_inner: Vec<u8>,
    /// Bytes behind the outer data, inside the signature section.
    pub behind_outer: Vec<u8>,
    /// Bytes behind the signature section, counted nowhere: padding.
    pub padding: Vec<u8>,
}

impl Quote {
    /// Applies a change and hands the quote back.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Zero bytes behind, up to this many bytes in all, as drivers hand quotes out in buffers of a fixed size.
    #[must_use]
    pub fn padded_to(mut self, length: usize) -> Self {
        self.padding.clear();
        self.padding = vec![0; length.saturating_sub(self.bytes().len())];
        self
    }

    /// Header, descriptor and body: what the attestation key signs.
    #[must_use]
    pub fn signed_part(&self) -> Vec<u8> {
        let mut bytes = self.header.bytes();
        let body = self.body.bytes();
        if self.header.version == 5 {
            let (kind, size) = self.descriptor.unwrap_or((self.body.kind.body_type(), body.len() as u32));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(size.to_le_bytes());
        }
        bytes.extend(body);
        bytes
    }

    /// The QE report's report data that binds the attestation key: SHA-256 of key and QE authentication data, then 32 zero bytes.
    #[must_use]
    pub fn binding(&self) -> [u8; 64] {
        let mut binding = [0; 64];
        let digest = Sha256::new_with_prefix(self.public_key()).chain_update(&self.qe_auth_data).finalize();
        binding[..32].copy_from_slice(&digest);
        binding
    }

    /// The whole quote.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let signed = self.signed_part();
        let mut section = self.signature.apply(keys::sign(&self.attestation_key, &signed)).to_vec();
        section.extend(self.public_key());
        section.extend(self.outer.around(&self.qe_certification()));
        section.extend(&self.behind_outer);
        let size = self.section_size.unwrap_or(section.len() as u32);
        [signed.as_slice(), &size.to_le_bytes(), &section, &self.padding].concat()
    }

    /// What stands in the outer certification data.
    fn qe_certification(&self) -> Vec<u8> {
        let report = self.qe_report.bytes(self.binding());
        let signature = self.qe_signature.apply(keys::sign(&self.qe_signer, &report));
        let auth_size = self.qe_auth_size.unwrap_or(self.qe_auth_data.len() as u16);
        [
            report.as_slice(),
            &signature,
            &auth_size.to_le_bytes(),
            &self.qe_auth_data,
            &self.inner.around(&self.certification),
            &self.behind_inner,
        ]
        .concat()
    }

    fn public_key(&self) -> [u8; 64] {
        self.stated_key.unwrap_or_else(|| keys::coordinates(&self.attestation_key))
    }
}

impl QuoteHeader {
    fn bytes(&self) -> Vec<u8> {
        [
            self.version.to_le_bytes().as_slice(),
            &self.key_type.to_le_bytes(),
            &self.tee_type.to_le_bytes(),
            &self.reserved,
            &self.vendor,
            &self.user_data,
        ]
        .concat()
    }
}

impl DataHeader {
    /// An element of this type with its true size.
    #[must_use]
    pub fn of(kind: u16) -> Self {
        Self { kind, size: None }
    }

    fn around(self, data: &[u8]) -> Vec<u8> {
        let size = self.size.unwrap_or(data.len() as u32);
        [self.kind.to_le_bytes().as_slice(), &size.to_le_bytes(), data].concat()
    }
}
