//! From the leaf certificate to the pinned root, and what the root revoked: steps 4 to 6. What passed can be kept and used again,
//! under the same anchors and for the same bytes only, and at any time within its windows.

use std::time::Duration;

use der::Decode as _;
use protocol::encoding::{Fields, sha256};
use protocol::limits;
use protocol::time::UnixTime;
use rustls_pki_types::{CertificateDer, Der, TrustAnchor};
use webpki::{EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use super::crl::Lists;
use super::leaf::{self, Leaf};
use super::pss;
use super::report::Report;
use super::roots::Root;
use crate::anchors::Anchors;
use crate::chains::ChainKey;
use crate::claims::{ProductLine, Revocation, SigningKeyKind};
use crate::collateral::SnpCollateral;
use crate::evidence::SnpEvidence;
use crate::rejection::Rejection;
use crate::steps::Steps;
use crate::x509::crl::{self, ListWindow};
use crate::x509::{self, Certificate, Malformed, Window, serial_text};

impl ChainKey {
    /// The key of an SNP question: the anchors, what the report says of its key (kind, line, TCB, chip), and each certificate and
    /// revocation list at hand.
    pub(super) fn of_snp(question: &Question<'_>) -> Self {
        let Question { report, kind, line, evidence, collateral, anchors } = question;
        let mut fields = Fields::new("portcullis/snp-chain/v2")
            .field(anchors.digest())
            .field(kind.as_str())
            .optional(line.map(|line| line.as_str().as_bytes()))
            .field(report.reported_tcb)
            .field(report.chip_id);
        for list in [&evidence.certificates, &evidence.crls] {
            fields = list.iter().fold(fields.field("list"), |fields, item| fields.field(sha256(item)));
        }
        Self::new(&fields.field(collateral.digest))
    }
}

/// What steps 4 to 6 are asked.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) report: &'a Report<'a>,
    pub(super) kind: SigningKeyKind,
    /// The line by CPUID.
    pub(super) line: Option<ProductLine>,
    pub(super) evidence: &'a SnpEvidence,
    pub(super) collateral: &'a SnpCollateral,
    pub(super) anchors: &'a Anchors,
}

/// A leaf certificate whose chain ends in a pinned root and of whose authorities none is revoked.
pub(crate) struct SnpChain {
    key: ChainKey,
    leaf: Leaf,
    /// Of the leaf, its issuer and the root.
    windows: [Window; 3],
    lists: Vec<ListWindow>,
}

impl SnpChain {
    /// Whether this answers the question of `key` at a time: it was established for that key, and every certificate is valid.
    pub(super) fn answers(&self, key: &ChainKey, at: UnixTime) -> bool {
        self.key == *key && self.windows.iter().all(|window| window.check(at).is_ok())
    }

    /// What is known of revocation at a time.
    pub(super) fn revocation(&self, at: UnixTime) -> Revocation {
        crl::status(&self.lists, at)
    }

    pub(super) const fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// Steps 4 to 6 in order.
    pub(super) fn establish(question: &Question<'_>, key: ChainKey, at: UnixTime, steps: &mut Steps) -> Result<Self, Rejection> {
        let Question { report, kind, line, evidence, collateral, anchors } = *question;

        // 4. Leaf certificate: of the kind that the report names, of its line, with the extensions of its profile.
        let brought = parse_all(&evidence.certificates, "evidence")?;
        let provided = parse_all(&collateral.certificates, "collateral")?;
        let came = brought.len();
        let at_hand: Vec<Certificate<'_>> = brought.into_iter().chain(provided).collect();
        let (certificate, leaf) = leaf::choose(&at_hand, kind, line, report, at)?;
        steps.passed(4, || leaf.describe());

        // 5. Chain: leaf, the line's ASK or ASVK, the pinned ARK.
        let root = anchors.root(leaf.line)?;
        let issuer = leaf::issuer_name(kind, leaf.line);
        let issuers = candidates(&at_hand, anchors, &issuer);
        let intermediate = path(certificate, &leaf, &issuers, &issuer, root, at)?;
        let windows = [leaf.valid, intermediate.window(issuer_kind(kind)), root.valid];
        steps.passed(5, || {
            let until = windows.iter().map(|window| window.not_after).min().unwrap_or(at);
            format!("{kind} by {issuer} by the pinned ARK-{}, valid at {at} and until {until}", root.line)
        });

        // 6. Revocation: no list of the root names an authority of the chain, or one that came with the evidence as its own. One that is
        // merely held, and is not in the path, signed nothing here.
        let lists = Lists::verify(&evidence.crls, &collateral.crls, root)?;
        let named = at_hand.iter().take(came).filter(|certificate| certificate.common_name() == issuer);
        for authority in named.chain([&intermediate]) {
            lists.check_authority(root.line, &issuer, authority.serial)?;
        }
        lists.check_leaf(root.line, kind, &leaf.serial)?;
        let chain = Self { key, windows, lists: lists.windows(), leaf };
        steps.passed(6, || format!("{issuer} with serial number {}: {}", serial_text(intermediate.serial), chain.revocation(at)));
        Ok(chain)
    }
}

/// Common name, for people, of the authority over leaf certificates of a kind.
pub(super) const fn issuer_kind(kind: SigningKeyKind) -> &'static str {
    match kind {
        SigningKeyKind::Vcek => "ASK",
        SigningKeyKind::Vlek => "ASVK",
    }
}

fn parse_all<'a>(certificates: &'a [Vec<u8>], place: &'static str) -> Result<Vec<Certificate<'a>>, Rejection> {
    let parse = |(index, der): (usize, &'a Vec<u8>)| {
        Certificate::parse(der).map_err(|Malformed(what)| Rejection::CertificateMalformed { place, index, what })
    };
    certificates.iter().enumerate().map(parse).collect()
}

/// The certificates that bear the issuer's name, each once: at hand, then compiled in.
pub(super) fn candidates<'a>(at_hand: &[Certificate<'a>], anchors: &'a Anchors, issuer: &str) -> Vec<CertificateDer<'a>> {
    let named = at_hand.iter().filter(|certificate| certificate.common_name() == issuer).map(|certificate| certificate.der);
    let built_in = anchors.intermediates().filter(|der| Certificate::parse(der).is_ok_and(|parsed| parsed.common_name() == issuer));
    let mut candidates: Vec<CertificateDer<'a>> = Vec::new();
    for der in named.chain(built_in).take(limits::CERTIFICATES) {
        if !candidates.iter().any(|earlier| earlier.as_ref() == der) {
            candidates.push(CertificateDer::from(der));
        }
    }
    candidates
}

/// Builds the path from a leaf to the root and gives the intermediate in it. Times, names, authorities, path lengths and signatures are
/// checked by `webpki`; key usage and the exact path length of the profile here.
pub(super) fn path<'a>(
    certificate: &Certificate<'_>,
    leaf: &Leaf,
    issuers: &'a [CertificateDer<'a>],
    issuer: &str,
    root: &Root,
    at: UnixTime,
) -> Result<Certificate<'a>, Rejection> {
    leaf.valid.check(at)?;
    root.valid.check(at)?;
    if issuers.is_empty() {
        return Err(Rejection::IntermediateMissing { expected: issuer.to_owned() });
    }
    let refused = |error: Error| refusal(error, leaf.kind, root.line, at);
    let leaf_der = CertificateDer::from(certificate.der);
    let end_entity = EndEntityCert::try_from(&leaf_der).map_err(refused)?;
    let anchor = [TrustAnchor {
        subject: Der::from_slice(&root.subject),
        subject_public_key_info: Der::from_slice(x509::only_sequence(&root.key).unwrap_or_default()),
        name_constraints: None,
    }];
    let time = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(at.seconds()));
    let path = end_entity.verify_for_usage(pss::ALGORITHMS, &anchor, issuers, time, NoExtendedKeyUsage, None, None).map_err(refused)?;
    let mut intermediates = path.intermediate_certificates();
    let (Some(intermediate), None) = (intermediates.next(), intermediates.next()) else {
        return Err(Rejection::ChainPathLength {});
    };
    let used = issuers.iter().find(|der| **der == intermediate.der());
    let used = used.and_then(|der| Certificate::parse(der).ok()).ok_or(Rejection::ChainUnknownIssuer { line: root.line })?;
    authority(&used)?;
    Ok(used)
}

/// The profile of an ASK or ASVK: path length 0, and certificates are all that it signs.
pub(super) fn authority(certificate: &Certificate<'_>) -> Result<(), Rejection> {
    let constraints = certificate.extension(x509::BASIC_CONSTRAINTS).and_then(|value| BasicConstraints::from_der(value).ok());
    match constraints {
        Some(BasicConstraints { ca: true, path_len_constraint: Some(0) }) => {}
        Some(BasicConstraints { ca: true, .. }) => return Err(Rejection::ChainPathLength {}),
        _ => return Err(Rejection::ChainNotAnAuthority {}),
    }
    match certificate.extension(x509::KEY_USAGE).and_then(|value| KeyUsage::from_der(value).ok()) {
        Some(usage) if usage.key_cert_sign() => Ok(()),
        _ => Err(Rejection::ChainKeyUsage {}),
    }
}

/// AMD's certificates have no extended key usage; one that has was made for something else.
struct NoExtendedKeyUsage;

impl ExtendedKeyUsageValidator for NoExtendedKeyUsage {
    fn validate(&self, mut purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        match purposes.next() {
            None => Ok(()),
            Some(_) => Err(Error::ExtensionValueInvalid),
        }
    }
}

/// Our name for what `webpki` refused. The leaf's own times were checked before, so that a time is the issuer's.
fn refusal(error: Error, kind: SigningKeyKind, line: ProductLine, at: UnixTime) -> Rejection {
    let time = |time: rustls_pki_types::UnixTime| UnixTime::from_seconds(time.as_secs());
    let certificate = issuer_kind(kind);
    match error {
        Error::UnknownIssuer => Rejection::ChainUnknownIssuer { line },
        Error::InvalidSignatureForPublicKey => Rejection::ChainSignature { line },
        Error::UnsupportedSignatureAlgorithmContext(_) | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            Rejection::ChainAlgorithm {}
        }
        Error::CertNotValidYet { not_before, .. } => Rejection::ChainNotYetValid { certificate, not_before: time(not_before), at },
        Error::CertExpired { not_after, .. } => Rejection::ChainExpired { certificate, not_after: time(not_after), at },
        Error::EndEntityUsedAsCa => Rejection::ChainNotAnAuthority {},
        Error::PathLenConstraintViolated => Rejection::ChainPathLength {},
        other => Rejection::ChainRefused { why: other.to_string() },
    }
}
