//! What Intel's certificate profiles have in common (Intel SGX PCK certificate profile, sections 1.2 to 1.4).

use der::Decode as _;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use super::p256::{IssuerKey, SignerKey};
use super::rejection::TdxRejection;
use crate::x509::{self, Certificate, Malformed, common_name};

pub(super) const ROOT: &str = "Intel SGX Root CA";
pub(super) const PLATFORM_CA: &str = "Intel SGX PCK Platform CA";
pub(super) const PROCESSOR_CA: &str = "Intel SGX PCK Processor CA";
pub(super) const PCK: &str = "Intel SGX PCK Certificate";
pub(super) const TCB_SIGNING: &str = "Intel SGX TCB Signing";

/// What is wrong with a certificate. It becomes a rejection by the place that the certificate stands in.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    Malformed(&'static str),
    Name { found: String },
    Issuer { found: String },
    Profile(&'static str),
    NotAnAuthority,
    IsAnAuthority,
    PathLength,
    KeyUsage,
    Algorithm,
    Signature,
}

impl From<Malformed> for Fault {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Malformed(what)
    }
}

impl Fault {
    /// The rejection of a certificate of the PCK chain.
    pub(super) fn of_chain(self, certificate: &'static str) -> TdxRejection {
        match self {
            Self::Malformed(what) => TdxRejection::CertificateMalformed { certificate, what },
            Self::Name { found } => TdxRejection::CertificateName { certificate, found },
            Self::Issuer { found } => TdxRejection::CertificateIssuer { certificate, found },
            Self::Profile(what) => TdxRejection::CertificateProfile { certificate, what },
            Self::NotAnAuthority => TdxRejection::NotAnAuthority { certificate },
            Self::IsAnAuthority => TdxRejection::IsAnAuthority { certificate },
            Self::PathLength => TdxRejection::PathLength { certificate },
            Self::KeyUsage => TdxRejection::KeyUsage { certificate },
            Self::Algorithm => TdxRejection::CertificateAlgorithm { certificate },
            Self::Signature => TdxRejection::CertificateSignature { certificate },
        }
    }

    /// The rejection of a document's signer.
    pub(super) fn of_signer(self, document: &'static str) -> TdxRejection {
        let profile = |what| TdxRejection::SignerProfile { document, what };
        match self {
            Self::Malformed(what) => TdxRejection::SignerChain { document, what },
            Self::Name { found } => TdxRejection::SignerName { document, found },
            Self::Issuer { .. } => TdxRejection::SignerRoot { document },
            Self::Profile(what) => profile(what),
            Self::NotAnAuthority => profile("no certificate authority"),
            Self::IsAnAuthority => profile("a certificate authority"),
            Self::PathLength => profile("another path length"),
            Self::KeyUsage => profile("another key usage"),
            Self::Algorithm => profile("signed by another algorithm than ECDSA with SHA-256"),
            Self::Signature => TdxRejection::SignerSignature { document },
        }
    }
}

/// Checks the profile of an authority over certificates and revocation lists, but for name and signature, and gives its key.
pub(super) fn authority(certificate: &Certificate<'_>, path_length: u8) -> Result<IssuerKey, Fault> {
    extensions(certificate)?;
    match constraints(certificate) {
        Some(BasicConstraints { ca: true, path_len_constraint }) if path_len_constraint == Some(path_length) => {}
        Some(BasicConstraints { ca: true, .. }) => return Err(Fault::PathLength),
        _ => return Err(Fault::NotAnAuthority),
    }
    match usage(certificate) {
        Some(usage) if usage.key_cert_sign() && usage.crl_sign() => {}
        _ => return Err(Fault::KeyUsage),
    }
    IssuerKey::of(certificate.key).ok_or(OTHER_KEY)
}

/// Checks the profile of a certificate that signs other things, but for name and signature, and gives its key.
pub(super) fn end_entity(certificate: &Certificate<'_>) -> Result<SignerKey, Fault> {
    extensions(certificate)?;
    match constraints(certificate) {
        Some(BasicConstraints { ca: false, path_len_constraint: None }) => {}
        Some(BasicConstraints { ca: true, .. }) => return Err(Fault::IsAnAuthority),
        _ => return Err(Fault::Profile("no basic constraints of its kind")),
    }
    match usage(certificate) {
        Some(usage) if usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign() => {}
        _ => return Err(Fault::KeyUsage),
    }
    SignerKey::of(certificate.key).ok_or(OTHER_KEY)
}

const OTHER_KEY: Fault = Fault::Profile("its key is not of P-256");

fn constraints(certificate: &Certificate<'_>) -> Option<BasicConstraints> {
    certificate.extension(x509::BASIC_CONSTRAINTS).and_then(|value| BasicConstraints::from_der(value).ok())
}

fn usage(certificate: &Certificate<'_>) -> Option<KeyUsage> {
    certificate.extension(x509::KEY_USAGE).and_then(|value| KeyUsage::from_der(value).ok())
}

/// Each extension stands once, and none is critical that nothing here knows.
fn extensions(certificate: &Certificate<'_>) -> Result<(), Fault> {
    let mut seen = Vec::with_capacity(certificate.extensions.len());
    for extension in &certificate.extensions {
        if seen.contains(&extension.id) {
            return Err(Fault::Profile("an extension twice"));
        }
        seen.push(extension.id);
        if extension.critical && ![x509::BASIC_CONSTRAINTS, x509::KEY_USAGE].contains(&extension.id) {
            return Err(Fault::Profile("a critical extension of an unknown kind"));
        }
    }
    Ok(())
}

/// That a certificate has exactly this common name.
pub(super) fn named(certificate: &Certificate<'_>, name: &str) -> Result<(), Fault> {
    match certificate.common_name() {
        found if found == name => Ok(()),
        found => Err(Fault::Name { found: found.to_owned() }),
    }
}

/// That a certificate names `subject` (contents of a `Name`, byte by byte) as its issuer, and verifies under that one's key.
pub(super) fn issued_by(certificate: &Certificate<'_>, subject: &[u8], key: &IssuerKey) -> Result<(), Fault> {
    named_issuer(certificate, subject)?;
    signed_by(certificate, key)
}

pub(super) fn named_issuer(certificate: &Certificate<'_>, subject: &[u8]) -> Result<(), Fault> {
    if certificate.issuer == subject {
        return Ok(());
    }
    Err(Fault::Issuer { found: common_name(certificate.issuer).unwrap_or_default().to_owned() })
}

pub(super) fn signed_by(certificate: &Certificate<'_>, key: &IssuerKey) -> Result<(), Fault> {
    if !IssuerKey::is_algorithm_of(&certificate.signed) {
        return Err(Fault::Algorithm);
    }
    if key.signed(&certificate.signed) { Ok(()) } else { Err(Fault::Signature) }
}
