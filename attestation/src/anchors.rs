//! The roots that evidence is judged under: the vendors' own, or those named for a test installation.

use protocol::encoding::Fields;
use protocol::ids::{AnchorClass, Digest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::claims::ProductLine;
use crate::rejection::{BadAnchor, Rejection};
use crate::snp::roots::{self, Root};
use crate::tdx::rejection::TdxRejection;
use crate::tdx::root::IntelRoot;

/// The roots in force: AMD's, one per product line at most, and Intel's, one at most. Their class is that of every claim made under them.
pub struct Anchors {
    class: AnchorClass,
    roots: Vec<Root>,
    /// Certificates of AMD's intermediates, DER: a cache.
    intermediates: Vec<Vec<u8>>,
    intel: Option<IntelRoot>,
    digest: Digest,
}

impl Anchors {
    /// AMD's and Intel's own roots, compiled in.
    #[must_use]
    pub fn vendor() -> Self {
        let intermediates = CertificateDer::pem_slice_iter(roots::INTERMEDIATES).filter_map(Result::ok).map(|der| der.to_vec()).collect();
        Self::new(AnchorClass::Vendor, roots::vendor(), intermediates, IntelRoot::vendor())
    }

    /// Roots of soft SNP platforms, each a self-signed ARK certificate (DER) with the line it stands for.
    ///
    /// # Errors
    /// [`BadAnchor`] where a certificate is not of the ARK's profile, does not verify under its own key, or stands for a line a second time.
    pub fn test(arks: Vec<(ProductLine, Vec<u8>)>) -> Result<Self, BadAnchor> {
        if arks.is_empty() {
            return Err(BadAnchor::None);
        }
        Self::of_test(arks, None)
    }

    /// Roots of soft platforms: those of [`Self::test`], or none, and a self-signed certificate (DER) in the place of Intel's root.
    ///
    /// # Errors
    /// As [`Self::test`]; and [`BadAnchor`] where `intel_root` is not of the profile of Intel's root or does not verify under its own key.
    pub fn test_with_intel(arks: Vec<(ProductLine, Vec<u8>)>, intel_root: Vec<u8>) -> Result<Self, BadAnchor> {
        Self::of_test(arks, Some(IntelRoot::self_signed(&intel_root)?))
    }

    fn of_test(arks: Vec<(ProductLine, Vec<u8>)>, intel: Option<IntelRoot>) -> Result<Self, BadAnchor> {
        let mut roots: Vec<Root> = Vec::with_capacity(arks.len());
        for (line, der) in arks {
            if roots.iter().any(|root| root.line == line) {
                return Err(BadAnchor::Twice { line });
            }
            roots.push(Root::self_signed(line, &der)?);
        }
        Ok(Self::new(AnchorClass::Test, roots, Vec::new(), intel))
    }

    fn new(class: AnchorClass, mut roots: Vec<Root>, intermediates: Vec<Vec<u8>>, intel: Option<IntelRoot>) -> Self {
        roots.sort_by_key(|root| root.line);
        let mut fields = Fields::new("portcullis/anchors/v3").field(class.as_str());
        for root in &roots {
            fields = fields
                .field(root.line.as_str())
                .field(&root.subject)
                .field(&root.key)
                .number(root.valid.not_before.seconds())
                .number(root.valid.not_after.seconds());
        }
        fields = fields.field("intel");
        if let Some(root) = &intel {
            fields = fields
                .field(&root.subject)
                .field(&root.serial)
                .field(&root.spki)
                .number(root.valid.not_before.seconds())
                .number(root.valid.not_after.seconds());
        }
        Self { class, digest: fields.sha256(), roots, intermediates, intel }
    }

    /// Whether these are the vendor's roots or others.
    #[must_use]
    pub const fn class(&self) -> AnchorClass {
        self.class
    }

    /// A digest over everything of the roots that a verdict depends on: class, names, keys and validity, and the serial number of Intel's,
    /// by which it can revoke itself.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// AMD's lines that have a root here.
    pub fn lines(&self) -> impl Iterator<Item = ProductLine> {
        self.roots.iter().map(|root| root.line)
    }

    /// Intel's root.
    pub(crate) fn intel(&self) -> Result<&IntelRoot, TdxRejection> {
        self.intel.as_ref().ok_or(TdxRejection::NotAnchored {})
    }

    /// Whether Intel's root, or one in its place, is here.
    #[must_use]
    pub const fn has_intel(&self) -> bool {
        self.intel.is_some()
    }

    /// AMD's root of a line.
    pub(crate) fn root(&self, line: ProductLine) -> Result<&Root, Rejection> {
        self.roots.iter().find(|root| root.line == line).ok_or(Rejection::ProductNotAnchored { line })
    }

    /// AMD's root with a name, given as the contents of a `Name`.
    pub(crate) fn root_named(&self, subject: &[u8]) -> Option<&Root> {
        self.roots.iter().find(|root| root.subject == subject)
    }

    pub(crate) fn intermediates(&self) -> impl Iterator<Item = &[u8]> {
        self.intermediates.iter().map(Vec::as_slice)
    }
}
