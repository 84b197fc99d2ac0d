//! A certificate before it is signed, every field of it public: Intel's own profile by default, anything else on request.

use p256::ecdsa::SigningKey;

use super::keys;
use crate::der;
use crate::x509::{BasicConstraints, Extension, SignatureState, Window, extensions};

/// Object identifiers of the extensions that Intel's certificates and lists carry.
pub mod oid {
    /// SGX extensions of a PCK certificate; see [`super::super::SgxExtension`].
    pub const SGX: &str = "1.2.840.113741.1.13.1";
    /// Subject key identifier.
    pub const SUBJECT_KEY: &str = "2.5.29.14";
    /// Key usage.
    pub const KEY_USAGE: &str = "2.5.29.15";
    /// Basic constraints.
    pub const BASIC_CONSTRAINTS: &str = "2.5.29.19";
    /// Revocation list number.
    pub const CRL_NUMBER: &str = "2.5.29.20";
    /// Why a certificate was revoked.
    pub const REASON: &str = "2.5.29.21";
    /// Revocation list distribution points.
    pub const CRL_POINTS: &str = "2.5.29.31";
    /// Authority key identifier.
    pub const AUTHORITY_KEY: &str = "2.5.29.35";
}

/// A distinguished name in Intel's form: these five attributes in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// CN.
    pub common_name: String,
    /// O.
    pub organization: String,
    /// L.
    pub locality: String,
    /// ST.
    pub state: String,
    /// C, a `PrintableString`; the others are `UTF8String`.
    pub country: String,
}

impl Name {
    /// Intel's name with this common name.
    #[must_use]
    pub fn intel(common_name: &str) -> Self {
        Self {
            common_name: common_name.to_owned(),
            organization: "Intel Corporation".to_owned(),
            locality: "Santa Clara".to_owned(),
            state: "CA".to_owned(),
            country: "US".to_owned(),
        }
    }

    /// `Name`, DER.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        let attributes = [
            ("2.5.4.3", der::utf8_string(&self.common_name)),
            ("2.5.4.10", der::utf8_string(&self.organization)),
            ("2.5.4.7", der::utf8_string(&self.locality)),
            ("2.5.4.8", der::utf8_string(&self.state)),
            ("2.5.4.6", der::printable_string(&self.country)),
        ];
        let parts = attributes.map(|(kind, value)| der::set(&der::sequence(&[&der::oid(kind), &value])));
        der::element(0x30, &parts.concat())
    }
}

/// A certificate before it is signed.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// `version` as encoded: 2 for X.509 v3.
    pub version: u64,
    /// Serial number, big-endian.
    pub serial: Vec<u8>,
    /// Issuer name.
    pub issuer: Name,
    /// Subject name.
    pub subject: Name,
    /// Validity.
    pub valid: Window,
    /// `SubjectPublicKeyInfo`, DER.
    pub public_key: Vec<u8>,
    /// Extensions in order; duplicates are possible.
    pub extensions: Vec<Extension>,
    /// Another `AlgorithmIdentifier` in the signed part.
    pub inner_algorithm: Option<Vec<u8>>,
    /// Another `AlgorithmIdentifier` beside the signature.
    pub outer_algorithm: Option<Vec<u8>>,
    /// The key that signs.
    pub signer: SigningKey,
    /// What becomes of the signature.
    pub signature: SignatureState,
}

impl Certificate {
    /// The first extension with this identifier.
    #[must_use]
    pub fn extension(&self, oid: &str) -> Option<&Extension> {
        self.extensions.iter().find(|extension| extension.oid == oid)
    }

    /// Replaces the value of an extension, or adds one that is not critical.
    pub fn set(&mut self, oid: &str, value: Vec<u8>) {
        match self.extensions.iter_mut().find(|extension| extension.oid == oid) {
            Some(extension) => extension.value = value,
            None => self.extensions.push(Extension::new(oid, value)),
        }
    }

    /// Takes every extension with this identifier away.
    pub fn remove(&mut self, oid: &str) {
        self.extensions.retain(|extension| extension.oid != oid);
    }

    /// Repeats an extension at the end.
    ///
    /// # Panics
    /// When there is none to repeat.
    pub fn duplicate(&mut self, oid: &str) {
        let extension = self.extension(oid).expect("an extension to repeat").clone();
        self.extensions.push(extension);
    }

    /// Sets or removes basic constraints; critical, as Intel has them.
    pub fn set_basic_constraints(&mut self, constraints: BasicConstraints) {
        let value = match constraints {
            BasicConstraints::Absent => return self.remove(oid::BASIC_CONSTRAINTS),
            BasicConstraints::NotAuthority => der::sequence(&[]),
            BasicConstraints::Authority => der::sequence(&[&der::TRUE]),
            BasicConstraints::PathLength(length) => der::sequence(&[&der::TRUE, &der::integer(length)]),
        };
        self.set_critical(oid::BASIC_CONSTRAINTS, value);
    }

    /// Sets key usage to these bits (RFC 5280 section 4.2.1.3: 0 is `digitalSignature`, 1 `nonRepudiation`, 5 `keyCertSign`, 6 `cRLSign`);
    /// critical, as Intel has it.
    pub fn set_key_usage(&mut self, bits: &[u8]) {
        self.set_critical(oid::KEY_USAGE, der::named_bits(bits));
    }

    fn set_critical(&mut self, oid: &str, value: Vec<u8>) {
        match self.extensions.iter_mut().find(|extension| extension.oid == oid) {
            Some(extension) => *extension = Extension::critical(oid, value),
            None => self.extensions.push(Extension::critical(oid, value)),
        }
    }

    /// `TBSCertificate`, DER.
    #[must_use]
    pub fn to_be_signed(&self) -> Vec<u8> {
        let validity = der::sequence(&[&der::time(self.valid.not_before), &der::time(self.valid.not_after)]);
        let algorithm = self.inner_algorithm.clone().unwrap_or_else(keys::ecdsa_with_sha256);
        der::sequence(&[
            &der::context(0, &der::integer(self.version)),
            &der::unsigned(&self.serial),
            &algorithm,
            &self.issuer.der(),
            &validity,
            &self.subject.der(),
            &self.public_key,
            &extensions(3, &self.extensions),
        ])
    }

    /// The signed certificate, DER.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        self.sign(&self.to_be_signed())
    }

    /// Signs any other `TBSCertificate` bytes with this certificate's key and flaw.
    #[must_use]
    pub fn sign(&self, to_be_signed: &[u8]) -> Vec<u8> {
        let signature = self.signature.apply(keys::sign_der(&self.signer, to_be_signed));
        let algorithm = self.outer_algorithm.clone().unwrap_or_else(keys::ecdsa_with_sha256);
        der::sequence(&[to_be_signed, &algorithm, &der::bit_string(&signature)])
    }
}
