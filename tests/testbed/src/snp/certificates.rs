//! A certificate before it is signed, every field of it public: AMD's own profile by default, anything else on request.

use crate::der;
use crate::rsa::{PssParameters, RsaKey};
use crate::x509::{BasicConstraints, Extension, SignatureState, Window, extensions};

/// Object identifiers of the extensions that AMD's certificates carry.
pub mod oid {
    /// `structVersion`.
    pub const STRUCT_VERSION: &str = "1.3.6.1.4.1.3704.1.1";
    /// `productName`.
    pub const PRODUCT_NAME: &str = "1.3.6.1.4.1.3704.1.2";
    /// `blSPL`: boot loader.
    pub const BOOTLOADER: &str = "1.3.6.1.4.1.3704.1.3.1";
    /// `teeSPL`: secure processor's operating system.
    pub const TEE: &str = "1.3.6.1.4.1.3704.1.3.2";
    /// `snpSPL`: SNP firmware.
    pub const SNP: &str = "1.3.6.1.4.1.3704.1.3.3";
    /// `spl4`: reserved; absent on Turin.
    pub const SPL_4: &str = "1.3.6.1.4.1.3704.1.3.4";
    /// `spl5`: reserved.
    pub const SPL_5: &str = "1.3.6.1.4.1.3704.1.3.5";
    /// `spl6`: reserved.
    pub const SPL_6: &str = "1.3.6.1.4.1.3704.1.3.6";
    /// `spl7`: reserved.
    pub const SPL_7: &str = "1.3.6.1.4.1.3704.1.3.7";
    /// `ucodeSPL`: microcode.
    pub const MICROCODE: &str = "1.3.6.1.4.1.3704.1.3.8";
    /// `fmcSPL`: first mutable code, from Turin on.
    pub const FMC: &str = "1.3.6.1.4.1.3704.1.3.9";
    /// `hwID`, VCEK only: the octets themselves, without a DER type around them.
    pub const HWID: &str = "1.3.6.1.4.1.3704.1.4";
    /// `cspID`, VLEK only.
    pub const CSP_ID: &str = "1.3.6.1.4.1.3704.1.5";
    /// Subject key identifier.
    pub const SUBJECT_KEY: &str = "2.5.29.14";
    /// Key usage.
    pub const KEY_USAGE: &str = "2.5.29.15";
    /// Basic constraints.
    pub const BASIC_CONSTRAINTS: &str = "2.5.29.19";
    /// Revocation list number.
    pub const CRL_NUMBER: &str = "2.5.29.20";
    /// Revocation list distribution points.
    pub const CRL_POINTS: &str = "2.5.29.31";
    /// Authority key identifier.
    pub const AUTHORITY_KEY: &str = "2.5.29.35";
}

/// A distinguished name in AMD's form: these six attributes in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// OU.
    pub organizational_unit: String,
    /// C, a `PrintableString`; the others are `UTF8String`.
    pub country: String,
    /// L.
    pub locality: String,
    /// ST.
    pub state: String,
    /// O.
    pub organization: String,
    /// CN.
    pub common_name: String,
}

impl Name {
    /// AMD's name with this common name.
    #[must_use]
    pub fn amd(common_name: &str) -> Self {
        Self {
            organizational_unit: "Engineering".to_owned(),
            country: "US".to_owned(),
            locality: "Santa Clara".to_owned(),
            state: "CA".to_owned(),
            organization: "Advanced Micro Devices".to_owned(),
            common_name: common_name.to_owned(),
        }
    }

    /// `Name`, DER.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        let attributes = [
            ("2.5.4.11", der::utf8_string(&self.organizational_unit)),
            ("2.5.4.6", der::printable_string(&self.country)),
            ("2.5.4.7", der::utf8_string(&self.locality)),
            ("2.5.4.8", der::utf8_string(&self.state)),
            ("2.5.4.10", der::utf8_string(&self.organization)),
            ("2.5.4.3", der::utf8_string(&self.common_name)),
        ];
        let parts = attributes.map(|(kind, value)| der::set(&der::sequence(&[&der::oid(kind), &value])));
        der::element(0x30, &parts.concat())
    }
}

/// The authority key under which a certificate or list is signed.
#[derive(Clone, Copy)]
pub struct Issuer(pub &'static RsaKey);

impl std::fmt::Debug for Issuer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Issuer").field(&self.0.key_identifier()).finish()
    }
}

/// A certificate before it is signed.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// `version` as encoded: 2 for X.509 v3.
    pub version: u64,
    /// Serial number; AMD gives 0 to every VCEK and VLEK.
    pub serial: u64,
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
    /// Signature parameters: how it is signed, and what both algorithm fields say.
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

    /// Sets a security patch level: any of the `oid` constants from [`oid::BOOTLOADER`] to [`oid::FMC`], or the structure's version.
    pub fn set_level(&mut self, oid: &str, level: u8) {
        self.set(oid, der::integer(level.into()));
    }

    /// Sets `productName`.
    pub fn set_product_name(&mut self, name: &str) {
        self.set(oid::PRODUCT_NAME, der::ia5_string(name));
    }

    /// Sets `hwID` to the octets as they are, AMD's own encoding.
    pub fn set_hwid(&mut self, octets: &[u8]) {
        self.set(oid::HWID, octets.to_vec());
    }

    /// Sets `hwID` to the octets inside a DER `OCTET STRING`.
    pub fn set_hwid_wrapped(&mut self, octets: &[u8]) {
        self.set(oid::HWID, der::octet_string(octets));
    }

    /// Sets `cspID`.
    pub fn set_csp_id(&mut self, id: &str) {
        self.set(oid::CSP_ID, der::ia5_string(id));
    }

    /// Sets or removes basic constraints; critical, as AMD has them.
    pub fn set_basic_constraints(&mut self, constraints: BasicConstraints) {
        let value = match constraints {
            BasicConstraints::Absent => return self.remove(oid::BASIC_CONSTRAINTS),
            BasicConstraints::NotAuthority => der::sequence(&[]),
            BasicConstraints::Authority => der::sequence(&[&der::TRUE]),
            BasicConstraints::PathLength(length) => der::sequence(&[&der::TRUE, &der::integer(length)]),
        };
        self.set_critical(oid::BASIC_CONSTRAINTS, value);
    }

    /// Sets key usage to these bits (RFC 5280 section 4.2.1.3: 5 is `keyCertSign`, 6 is `cRLSign`); critical, as AMD has it.
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
        let algorithm = self.inner_algorithm.clone().unwrap_or_else(|| self.parameters.identifier());
        der::sequence(&[
            &der::context(0, &der::integer(self.version)),
            &der::integer(self.serial),
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

    /// Signs any other `TBSCertificate` bytes with this certificate's key, parameters and flaw.
    #[must_use]
    pub fn sign(&self, to_be_signed: &[u8]) -> Vec<u8> {
        let signature = self.signature.apply(self.signer.0.sign(to_be_signed, &self.parameters));
        let algorithm = self.outer_algorithm.clone().unwrap_or_else(|| self.parameters.identifier());
        der::sequence(&[to_be_signed, &algorithm, &der::bit_string(&signature)])
    }
}
