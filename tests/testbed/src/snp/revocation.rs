//! A revocation list before it is signed (RFC 5280 section 5), every field of it public.

use super::certificates::{Issuer, Name};
use crate::der;
use crate::rsa::PssParameters;
use crate::x509::{Extension, SignatureState, extensions};

/// One revoked certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Serial number.
    pub serial: u64,
    /// When, in seconds since 1970-01-01 UTC.
    pub at: u64,
    /// Extensions of the entry: AMD's lists have none.
    pub extensions: Vec<Extension>,
}

/// A revocation list before it is signed.
#[derive(Clone, Debug)]
pub struct RevocationList {
    /// `version` as encoded: 1 for version 2. `None` leaves the field out, which means version 1.
    pub version: Option<u64>,
    /// Issuer name.
    pub issuer: Name,
    /// `thisUpdate`, seconds since 1970-01-01 UTC.
    pub this_update: u64,
    /// `nextUpdate`, seconds since 1970-01-01 UTC.
    pub next_update: Option<u64>,
    /// What is revoked. An empty list leaves the field out, as RFC 5280 demands.
    pub revoked: Vec<Revoked>,
    /// Extensions: authority key identifier and list number by default.
    pub extensions: Vec<Extension>,
    /// Signature parameters.
    pub parameters: PssParameters,
    /// Another `AlgorithmIdentifier` in the signed part.
    pub inner_algorithm: Option<Vec<u8>>,
    /// Another `AlgorithmIdentifier` beside the signature.
    pub outer_algorithm: Option<Vec<u8>>,
    /// The key that signs.
    pub signer: Issuer,
    /// What becomes of the signature.
    pub signature: SignatureState,
}

impl RevocationList {
    /// Adds a serial number, revoked when the list was made.
    pub fn revoke(&mut self, serial: u64) {
        self.revoked.push(Revoked { serial, at: self.this_update, extensions: Vec::new() });
    }

    /// `TBSCertList`, DER.
    #[must_use]
    pub fn to_be_signed(&self) -> Vec<u8> {
        let algorithm = self.inner_algorithm.clone().unwrap_or_else(|| self.parameters.identifier());
        let entries: Vec<u8> = self.revoked.iter().flat_map(Revoked::der).collect();
        der::sequence(&[
            &self.version.map(der::integer).unwrap_or_default(),
            &algorithm,
            &self.issuer.der(),
            &der::time(self.this_update),
            &self.next_update.map(der::time).unwrap_or_default(),
            &if entries.is_empty() { Vec::new() } else { der::element(0x30, &entries) },
            &extensions(0, &self.extensions),
        ])
    }

    /// The signed list, DER.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        self.sign(&self.to_be_signed())
    }

    /// Signs any other `TBSCertList` bytes with this list's key, parameters and flaw.
    #[must_use]
    pub fn sign(&self, to_be_signed: &[u8]) -> Vec<u8> {
        let signature = self.signature.apply(self.signer.0.sign(to_be_signed, &self.parameters));
        let algorithm = self.outer_algorithm.clone().unwrap_or_else(|| self.parameters.identifier());
        der::sequence(&[to_be_signed, &algorithm, &der::bit_string(&signature)])
    }
}

impl Revoked {
    fn der(&self) -> Vec<u8> {
        let list: Vec<u8> = self.extensions.iter().flat_map(Extension::der).collect();
        let list = if list.is_empty() { list } else { der::element(0x30, &list) };
        der::sequence(&[&der::integer(self.serial), &der::time(self.at), &list])
    }
}
