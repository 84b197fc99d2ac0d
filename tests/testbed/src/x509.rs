//! The parts of certificates and revocation lists (RFC 5280) that every vendor's have, whatever their names and signatures.

use crate::der;

/// A span of time, both ends included, in seconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First valid second.
    pub not_before: u64,
    /// Last valid second.
    pub not_after: u64,
}

/// One extension of a certificate or revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Dotted identifier.
    pub oid: String,
    /// The criticality byte: 0xff writes `TRUE`, 0 leaves it out, anything else is written as it is.
    pub critical: u8,
    /// Content of `extnValue`: usually one DER element.
    pub value: Vec<u8>,
}

impl Extension {
    /// An extension that is not critical.
    #[must_use]
    pub fn new(oid: &str, value: Vec<u8>) -> Self {
        Self { oid: oid.to_owned(), critical: 0, value }
    }

    /// A critical extension.
    #[must_use]
    pub fn critical(oid: &str, value: Vec<u8>) -> Self {
        Self { critical: 0xff, ..Self::new(oid, value) }
    }

    /// `Extension`, DER.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        let critical = if self.critical == 0 { Vec::new() } else { der::element(0x01, &[self.critical]) };
        der::sequence(&[&der::oid(&self.oid), &critical, &der::octet_string(&self.value)])
    }
}

/// What becomes of a signature after it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureState {
    /// Left as it is.
    Genuine,
    /// Its last bit is flipped.
    Flipped,
    /// Its last byte is missing.
    Short,
    /// It is zero bytes of the same number.
    Zero,
}

impl SignatureState {
    pub(crate) fn apply(self, mut signature: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Genuine => {}
            Self::Flipped => *signature.last_mut().expect("a signature has bytes") ^= 1,
            Self::Short => signature.truncate(signature.len() - 1),
            Self::Zero => signature.fill(0),
        }
        signature
    }
}

/// What the basic constraints extension says (RFC 5280 section 4.2.1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BasicConstraints {
    /// No such extension.
    Absent,
    /// Present, `cA` false.
    NotAuthority,
    /// `cA` true, no path length.
    Authority,
    /// `cA` true with this path length.
    PathLength(u64),
}

/// The explicitly tagged extensions field, or nothing when there are none.
pub(crate) fn extensions(tag: u8, list: &[Extension]) -> Vec<u8> {
    if list.is_empty() {
        return Vec::new();
    }
    let encoded: Vec<u8> = list.iter().flat_map(Extension::der).collect();
    der::context(tag, &der::element(0x30, &encoded))
}

/// Value of an authority key identifier extension that carries a key identifier only.
pub(crate) fn authority_key_value(identifier: &[u8]) -> Vec<u8> {
    der::sequence(&[&der::element(0x80, identifier)])
}

/// Value of a distribution points extension with one address.
pub(crate) fn distribution_point_value(address: &str) -> Vec<u8> {
    let name = der::element(0x86, address.as_bytes());
    der::sequence(&[&der::sequence(&[&der::context(0, &der::context(0, &name))])])
}
