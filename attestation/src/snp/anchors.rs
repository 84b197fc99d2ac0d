//! The roots that evidence is judged under: AMD's own, or those named for a test installation.

use der::Decode as _;
use protocol::encoding::Fields;
use protocol::ids::{AnchorClass, Digest};
use protocol::time::UnixTime;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use super::x509::{Certificate, Malformed};
use super::{oid, pss, roots};
use crate::claims::ProductLine;
use crate::rejection::{BadAnchor, Rejection};

/// The roots in force, one per product line at most. Their class is that of every claim made under them.
pub struct Anchors {
    class: AnchorClass,
    roots: Vec<Root>,
    /// Certificates of intermediates, DER: a cache.
    intermediates: Vec<Vec<u8>>,
    digest: Digest,
}

/// One root: a key with a name.
pub(super) struct Root {
    pub(super) line: ProductLine,
    /// Contents of its `Name`.
    pub(super) subject: Vec<u8>,
    /// Its `SubjectPublicKeyInfo`.
    pub(super) key: Vec<u8>,
    pub(super) valid: Window,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Which certificate, for people.
    pub(super) certificate: &'static str,
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
}

impl Window {
    /// That `at` lies within.
    pub(super) fn check(&self, at: UnixTime) -> Result<(), Rejection> {
        let Self { certificate, not_before, not_after } = *self;
        if at < not_before {
            return Err(Rejection::ChainNotYetValid { certificate, not_before, at });
        }
        if at > not_after {
            return Err(Rejection::ChainExpired { certificate, not_after, at });
        }
        Ok(())
    }
}

impl Anchors {
    /// AMD's own roots, compiled in.
    #[must_use]
    pub fn vendor() -> Self {
        let intermediates = CertificateDer::pem_slice_iter(roots::INTERMEDIATES).filter_map(Result::ok).map(|der| der.to_vec()).collect();
        Self::new(AnchorClass::Vendor, roots::vendor(), intermediates)
    }

    /// Roots of soft platforms, each a self-signed ARK certificate (DER) with the line it stands for.
    ///
    /// # Errors
    /// [`BadAnchor`] where a certificate is not of the ARK's profile, does not verify under its own key, or stands for a line a second time.
    pub fn test(arks: Vec<(ProductLine, Vec<u8>)>) -> Result<Self, BadAnchor> {
        let mut roots: Vec<Root> = Vec::with_capacity(arks.len());
        for (line, der) in arks {
            if roots.iter().any(|root| root.line == line) {
                return Err(BadAnchor::Twice { line });
            }
            roots.push(self_signed(line, &der)?);
        }
        if roots.is_empty() {
            return Err(BadAnchor::None);
        }
        Ok(Self::new(AnchorClass::Test, roots, Vec::new()))
    }

    fn new(class: AnchorClass, mut roots: Vec<Root>, intermediates: Vec<Vec<u8>>) -> Self {
        roots.sort_by_key(|root| root.line);
        let mut fields = Fields::new("portcullis/snp-anchors/v1").field(class.as_str());
        for root in &roots {
            fields = fields
                .field(root.line.as_str())
                .field(&root.subject)
                .field(&root.key)
                .number(root.valid.not_before.seconds())
                .number(root.valid.not_after.seconds());
        }
        Self { class, digest: fields.sha256(), roots, intermediates }
    }

    /// Whether these are the vendor's roots or others.
    #[must_use]
    pub const fn class(&self) -> AnchorClass {
        self.class
    }

    /// A digest over class, names, keys and validity of the roots.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The lines that have a root here.
    pub fn lines(&self) -> impl Iterator<Item = ProductLine> {
        self.roots.iter().map(|root| root.line)
    }

    /// The root of a line.
    pub(super) fn root(&self, line: ProductLine) -> Result<&Root, Rejection> {
        self.roots.iter().find(|root| root.line == line).ok_or(Rejection::ProductNotAnchored { line })
    }

    /// The root with a name, given as the contents of a `Name`.
    pub(super) fn root_named(&self, subject: &[u8]) -> Option<&Root> {
        self.roots.iter().find(|root| root.subject == subject)
    }

    pub(super) fn intermediates(&self) -> impl Iterator<Item = &[u8]> {
        self.intermediates.iter().map(Vec::as_slice)
    }
}

/// Reads an ARK of the profile: named for its line, self-signed, an authority over certificates and revocation lists.
fn self_signed(line: ProductLine, der: &[u8]) -> Result<Root, BadAnchor> {
    let malformed = |Malformed(what)| BadAnchor::Malformed { line, what };
    let ark = Certificate::parse(der).map_err(malformed)?;
    if ark.common_name() != format!("ARK-{line}") || ark.issuer != ark.subject {
        return Err(BadAnchor::Name { line, found: ark.common_name().to_owned() });
    }
    let authority = ark.extension(oid::BASIC_CONSTRAINTS).and_then(|value| BasicConstraints::from_der(value).ok());
    if !authority.is_some_and(|constraints| constraints.ca) {
        return Err(BadAnchor::Malformed { line, what: "no certificate authority" });
    }
    let usage = ark.extension(oid::KEY_USAGE).and_then(|value| KeyUsage::from_der(value).ok());
    if !usage.is_some_and(|usage| usage.key_cert_sign() && usage.crl_sign()) {
        return Err(BadAnchor::Malformed { line, what: "not for signing certificates and revocation lists" });
    }
    if !pss::is_signed_by(&ark.signed, ark.key) {
        return Err(BadAnchor::Signature { line });
    }
    Ok(Root { line, subject: ark.subject.to_vec(), key: ark.key.to_vec(), valid: ark.window("ARK") })
}
