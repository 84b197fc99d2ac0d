//! Single pieces of collateral, judged outside of any evidence: by whoever fetches and keeps them, before they are kept.
//!
//! What passes here is worth keeping, and no more: each piece is verified again wherever it is used.

use protocol::time::UnixTime;
use rustls_pki_types::CertificateDer;

use super::chain;
use super::crl::Lists;
use super::leaf::{self, Leaf};
use super::pss;
use super::report::Report;
use super::{product, tcb};
use crate::anchors::Anchors;
use crate::claims::{ProductLine, SigningKeyKind, Tcb};
use crate::rejection::{HexBytes, Rejection};
use crate::x509::crl::RevocationList;
use crate::x509::{Certificate, Malformed, common_name};

/// What a VCEK is derived from, and what AMD's key distribution service finds its certificate by. An unverified report names
/// it: whoever sends one chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VcekName {
    line: ProductLine,
    chip_id: [u8; 64],
    raw: [u8; 8],
    tcb: Tcb,
}

impl VcekName {
    /// From a line, CHIP_ID and the eight bytes of REPORTED_TCB.
    ///
    /// # Errors
    /// [`Rejection::TcbLayout`] where a byte of the TCB version that the line does not use is not zero.
    pub fn new(line: ProductLine, chip_id: [u8; 64], reported_tcb: [u8; 8]) -> Result<Self, Rejection> {
        Ok(Self { line, chip_id, raw: reported_tcb, tcb: tcb::decode(reported_tcb, line, "REPORTED_TCB")? })
    }

    /// Of the key that signed a report, as the report says. `None` where it says that no VCEK did, names no chip, has no CPUID
    /// (version 2), or is no report.
    #[must_use]
    pub fn of_report(report: &[u8]) -> Option<Self> {
        let report = Report::parse(report).ok()?;
        if report.signing_key().ok()? != SigningKeyKind::Vcek || report.chip_id_is_masked() {
            return None;
        }
        let (family, model) = report.cpuid?;
        Self::new(product::from_cpuid(family, model).ok()?, report.chip_id, report.reported_tcb).ok()
    }

    /// Of the key that a VCEK certificate (DER) says it is of. `None` where it breaks the profile. Its signature is not looked at.
    #[must_use]
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::parse(der).ok()?;
        if certificate.common_name() != SigningKeyKind::Vcek.common_name() {
            return None;
        }
        let leaf = Leaf::read(&certificate, SigningKeyKind::Vcek, None).ok()?;
        Some(Self { line: leaf.line, chip_id: leaf.hwid?, raw: tcb::encode(leaf.tcb, leaf.line), tcb: leaf.tcb })
    }

    /// The product line.
    #[must_use]
    pub const fn line(&self) -> ProductLine {
        self.line
    }

    /// CHIP_ID. On Turin 8 bytes and zeros.
    #[must_use]
    pub const fn chip_id(&self) -> &[u8; 64] {
        &self.chip_id
    }

    /// REPORTED_TCB as it stands in the report.
    #[must_use]
    pub const fn reported_tcb(&self) -> [u8; 8] {
        self.raw
    }

    /// REPORTED_TCB in parts.
    #[must_use]
    pub const fn tcb(&self) -> Tcb {
        self.tcb
    }

    /// Whether a certificate (DER) says that it is this VCEK's. Its signature is not looked at.
    #[must_use]
    pub fn is_of(&self, der: &[u8]) -> bool {
        Certificate::parse(der).is_ok_and(|certificate| self.leaf(&certificate).is_ok())
    }

    /// That a certificate (DER) is this VCEK's and leads to the pinned root of its line at a time, through one of `intermediates` (DER)
    /// or one that is compiled in. Gives when it is valid.
    ///
    /// # Errors
    /// The [`Rejection`], as evidence under it would get at steps 4, 5, 8 and 9.
    pub fn judge(&self, der: &[u8], intermediates: &[Vec<u8>], anchors: &Anchors, at: UnixTime) -> Result<PieceWindow, Rejection> {
        let certificate = parse(der)?;
        let leaf = self.leaf(&certificate)?;
        let root = anchors.root(self.line)?;
        let issuer = leaf::issuer_name(SigningKeyKind::Vcek, self.line);
        let at_hand: Vec<Certificate<'_>> = intermediates.iter().filter_map(|der| Certificate::parse(der).ok()).collect();
        let issuers: Vec<CertificateDer<'_>> = chain::candidates(&at_hand, anchors, &issuer);
        chain::path(&certificate, &leaf, &issuers, &issuer, root, at)?;
        Ok(PieceWindow { issued: leaf.valid.not_before, until: leaf.valid.not_after })
    }

    fn leaf(&self, certificate: &Certificate<'_>) -> Result<Leaf, Rejection> {
        if certificate.common_name() != SigningKeyKind::Vcek.common_name() {
            return Err(Rejection::LeafMissing { kind: SigningKeyKind::Vcek });
        }
        let leaf = Leaf::read(certificate, SigningKeyKind::Vcek, Some(self.line))?;
        leaf.check_reserved()?;
        if leaf.tcb != self.tcb {
            return Err(Rejection::TcbMismatch { report: self.tcb, certificate: leaf.tcb });
        }
        match leaf.hwid {
            Some(hwid) if hwid != self.chip_id => {
                Err(Rejection::ChipIdMismatch { report: HexBytes::from(self.chip_id), certificate: HexBytes::from(hwid) })
            }
            _ => Ok(leaf),
        }
    }
}

/// When a piece of collateral was issued, and when it runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceWindow {
    /// Its first second: `thisUpdate`, or `notBefore`.
    pub issued: UnixTime,
    /// Its last second: `nextUpdate`, or `notAfter`.
    pub until: UnixTime,
}

/// That a list (DER) is well formed and signed by the pinned root of a line. Times are not judged.
///
/// # Errors
/// [`Rejection::CrlMalformed`], [`Rejection::CrlIssuer`], [`Rejection::CrlSignature`], [`Rejection::ProductNotAnchored`].
pub fn judge_amd_crl(der: &[u8], line: ProductLine, anchors: &Anchors) -> Result<PieceWindow, Rejection> {
    let list = RevocationList::parse(der).map_err(|Malformed(what)| Rejection::CrlMalformed { index: 0, what })?;
    let root = anchors.root(line)?;
    if list.issuer != root.subject {
        return Err(Rejection::CrlIssuer { index: 0, found: common_name(list.issuer).unwrap_or_default().to_owned() });
    }
    if !pss::is_signed_by(&list.signed, &root.key) {
        return Err(Rejection::CrlSignature { index: 0, line });
    }
    Ok(PieceWindow { issued: list.this_update, until: list.next_update })
}

/// That a certificate (DER) is the authority over leaf certificates of a kind and line, signed by the pinned root, and valid at a time.
///
/// # Errors
/// The [`Rejection`], as a chain through it would get.
pub fn judge_amd_authority(
    der: &[u8],
    line: ProductLine,
    kind: SigningKeyKind,
    anchors: &Anchors,
    at: UnixTime,
) -> Result<PieceWindow, Rejection> {
    let certificate = parse(der)?;
    let expected = leaf::issuer_name(kind, line);
    let root = anchors.root(line)?;
    if certificate.common_name() != expected {
        return Err(Rejection::IntermediateMissing { expected });
    }
    if certificate.issuer != root.subject {
        return Err(Rejection::ChainUnknownIssuer { line });
    }
    if !pss::is_signed_by(&certificate.signed, &root.key) {
        return Err(Rejection::ChainSignature { line });
    }
    chain::authority(&certificate)?;
    let window = certificate.window(chain::issuer_kind(kind));
    window.check(at)?;
    Ok(PieceWindow { issued: window.not_before, until: window.not_after })
}

/// That no list that the pinned root of a line signed, however old, names an authority (DER) of that line. What else lies among the lists
/// (DER) is judged for itself.
///
/// # Errors
/// [`Rejection::AuthorityRevoked`], [`Rejection::CertificateMalformed`], [`Rejection::ProductNotAnchored`].
pub fn judge_amd_revocation(der: &[u8], crls: &[Vec<u8>], line: ProductLine, anchors: &Anchors) -> Result<(), Rejection> {
    let certificate = parse(der)?;
    let lists = Lists::verify(crls, &[], anchors.root(line)?)?;
    lists.check_authority(line, certificate.common_name(), certificate.serial)
}

/// That a certificate (DER) is a chip's (VCEK) or a provider's (VLEK) and leads to the pinned root of its line at a time, through one of
/// `intermediates` (DER) or one that is compiled in, and that no list (DER) of that root revokes either. Gives when it is valid.
///
/// # Errors
/// The [`Rejection`], as evidence under it would get at steps 4 to 6.
pub fn judge_amd_leaf(
    der: &[u8],
    intermediates: &[Vec<u8>],
    crls: &[Vec<u8>],
    anchors: &Anchors,
    at: UnixTime,
) -> Result<PieceWindow, Rejection> {
    let certificate = parse(der)?;
    let is_vlek = certificate.common_name() == SigningKeyKind::Vlek.common_name();
    let kind = if is_vlek { SigningKeyKind::Vlek } else { SigningKeyKind::Vcek };
    if certificate.common_name() != kind.common_name() {
        return Err(Rejection::LeafMissing { kind });
    }
    let leaf = Leaf::read(&certificate, kind, None)?;
    leaf.check_reserved()?;
    let root = anchors.root(leaf.line)?;
    let issuer = leaf::issuer_name(kind, leaf.line);
    let at_hand: Vec<Certificate<'_>> = intermediates.iter().filter_map(|der| Certificate::parse(der).ok()).collect();
    let issuers: Vec<CertificateDer<'_>> = chain::candidates(&at_hand, anchors, &issuer);
    let intermediate = chain::path(&certificate, &leaf, &issuers, &issuer, root, at)?;
    let lists = Lists::verify(crls, &[], root)?;
    lists.check_authority(leaf.line, &issuer, intermediate.serial)?;
    lists.check_leaf(leaf.line, kind, &leaf.serial)?;
    Ok(PieceWindow { issued: leaf.valid.not_before, until: leaf.valid.not_after })
}

fn parse(der: &[u8]) -> Result<Certificate<'_>, Rejection> {
    Certificate::parse(der).map_err(|Malformed(what)| Rejection::CertificateMalformed { place: "collateral", index: 0, what })
}

#[cfg(test)]
mod tests {
    use super::*;
    use testbed::snp::{Authority, Leaf as SoftLeaf, Line, SoftPlatform};

    const AT: u64 = 1_795_392_000;

    fn code<T>(judged: Result<T, Rejection>) -> &'static str {
        judged.err().map_or("ok", |rejection| rejection.code())
    }

    #[test]
    fn a_leaf_leads_to_the_root_and_neither_it_nor_its_authority_is_revoked() {
        let platform = SoftPlatform::new(Line::Genoa).dated(AT);
        let anchors = Anchors::test(vec![(ProductLine::Genoa, platform.ark_der())]).unwrap();
        let at = UnixTime::from_seconds(AT);
        for (leaf, authority) in [(SoftLeaf::Vcek, Authority::Ask), (SoftLeaf::Vlek, Authority::Asvk)] {
            let certificates = platform.certificates(leaf);
            let (der, beside) = certificates.split_first().unwrap();
            let judge = |crls: &[Vec<u8>]| code(judge_amd_leaf(der, beside, crls, &anchors, at));
            assert_eq!(judge(&[]), "ok");
            assert_eq!(judge(&[platform.crl_der(&[platform.serial(authority)])]), "snp-authority-revoked");
            assert_eq!(judge(&[platform.crl_der(&[platform.serial(authority) + 1000])]), "ok");
            assert_eq!(code(judge_amd_leaf(der, &[], &[], &anchors, at)), "snp-intermediate-missing");
            assert_eq!(code(judge_amd_leaf(der, beside, &[], &anchors, UnixTime::from_seconds(1 << 40))), "snp-chain-expired");
            let mut flipped = der.clone();
            *flipped.last_mut().unwrap() ^= 1;
            assert_ne!(code(judge_amd_leaf(&flipped, beside, &[], &anchors, at)), "ok");
        }
        assert_eq!(code(judge_amd_leaf(&platform.ask_der(), &[], &[], &anchors, at)), "snp-leaf-missing");
    }

    #[test]
    fn an_authority_is_revoked_by_the_lists_of_its_own_root_only() {
        let platform = SoftPlatform::new(Line::Genoa).dated(AT);
        let anchors = Anchors::test(vec![(ProductLine::Genoa, platform.ark_der())]).unwrap();
        let judge = |crls: &[Vec<u8>]| code(judge_amd_revocation(&platform.ask_der(), crls, ProductLine::Genoa, &anchors));
        let list = platform.crl_der(&[platform.serial(Authority::Ask)]);
        assert_eq!(judge(std::slice::from_ref(&list)), "snp-authority-revoked");
        let mut forged = list;
        *forged.last_mut().unwrap() ^= 1;
        let other = SoftPlatform::new(Line::Milan).crl_der(&[platform.serial(Authority::Ask)]);
        assert_eq!(judge(&[forged, other, platform.crl_der(&[platform.serial(Authority::Asvk)])]), "ok");
    }
}
