//! Single pieces of Intel's, judged outside of any evidence: by whoever shows or carries them. Documents are judged by preparing them
//! ([`crate::PreparedCollateral`]); here are the pieces that count only beside others.

use protocol::time::UnixTime;

use super::certificate::{self, PLATFORM_CA, PROCESSOR_CA, TCB_SIGNING};
use super::pck::issued_authority;
use super::rejection::TdxRejection;
use super::root::IntelRoot;
use crate::anchors::Anchors;
use crate::rejection::Rejection;
use crate::snp::pieces::PieceWindow;
use crate::x509::crl::RevocationList;
use crate::x509::{Certificate, Malformed, common_name, serial_text};

/// What a certificate is called in rejections.
const CERTIFICATE: &str = "certificate of Intel's";

/// Whether a certificate (DER) is of a PCK authority that Intel's root in force issued. Time and revocation are not judged.
#[must_use]
pub fn is_pck_authority(der: &[u8], anchors: &Anchors) -> bool {
    let issued = |root| Certificate::parse(der).is_ok_and(|certificate| issued_authority(&certificate, root, CERTIFICATE).is_ok());
    anchors.intel().is_ok_and(issued)
}

/// That a certificate (DER) is a PCK authority's or the document signer's, issued by the root in force, valid at a time, and revoked by no
/// list of the root among `crls`.
///
/// # Errors
/// The [`Rejection`], as a chain through it would get.
pub fn judge_intel_certificate(der: &[u8], crls: &[Vec<u8>], anchors: &Anchors, at: UnixTime) -> Result<PieceWindow, Rejection> {
    judge_certificate(der, crls, anchors, at).map_err(Rejection::Tdx)
}

fn judge_certificate(der: &[u8], crls: &[Vec<u8>], anchors: &Anchors, at: UnixTime) -> Result<PieceWindow, TdxRejection> {
    let root = anchors.intel()?;
    let certificate = parse(der)?;
    if certificate.common_name() == TCB_SIGNING {
        certificate::end_entity(&certificate).map_err(|fault| fault.of_chain(CERTIFICATE))?;
        certificate::issued_by(&certificate, &root.subject, &root.key).map_err(|fault| fault.of_chain(CERTIFICATE))?;
        if is_revoked(&certificate, crls, root) {
            return Err(TdxRejection::SignerRevoked { document: "collateral", serial: serial_text(certificate.serial) });
        }
    } else {
        let (authority, _) = issued_authority(&certificate, root, CERTIFICATE)?;
        if is_revoked(&certificate, crls, root) {
            return Err(TdxRejection::AuthorityRevoked { authority, serial: serial_text(certificate.serial) });
        }
    }
    let window = certificate.window(CERTIFICATE);
    window.check(at)?;
    Ok(PieceWindow { issued: window.not_before, until: window.not_after })
}

/// That a list (DER) is well formed, and signed by the root in force, or by a PCK authority among `authorities` (DER) that the root issued
/// and that no list of the root among `crls` revokes. `None` where it names an authority that is not at hand: then nobody has verified it.
/// Times are not judged.
///
/// # Errors
/// The [`Rejection`], as a chain that the list is about would get.
pub fn judge_intel_crl(der: &[u8], authorities: &[Vec<u8>], crls: &[Vec<u8>], anchors: &Anchors) -> Result<Option<PieceWindow>, Rejection> {
    judge_crl(der, authorities, crls, anchors).map_err(Rejection::Tdx)
}

fn judge_crl(der: &[u8], authorities: &[Vec<u8>], crls: &[Vec<u8>], anchors: &Anchors) -> Result<Option<PieceWindow>, TdxRejection> {
    let root = anchors.intel()?;
    let list = RevocationList::parse(der).map_err(|Malformed(what)| TdxRejection::CrlMalformed { index: 0, what })?;
    let window = PieceWindow { issued: list.this_update, until: list.next_update };
    if list.issuer == root.subject {
        return if root.key.signed(&list.signed) { Ok(Some(window)) } else { Err(TdxRejection::CrlSignature { index: 0 }) };
    }
    let name = common_name(list.issuer).unwrap_or_default();
    if ![PLATFORM_CA, PROCESSOR_CA].contains(&name) {
        return Err(TdxRejection::CrlIssuer { index: 0, found: name.to_owned() });
    }
    let mut at_hand = false;
    for certificate in authorities.iter().filter_map(|der| Certificate::parse(der).ok()) {
        let Ok((kind, key)) = issued_authority(&certificate, root, CERTIFICATE) else { continue };
        if certificate.subject != list.issuer {
            continue;
        }
        at_hand = true;
        if key.signed(&list.signed) {
            return match is_revoked(&certificate, crls, root) {
                true => Err(TdxRejection::AuthorityRevoked { authority: kind, serial: serial_text(certificate.serial) }),
                false => Ok(Some(window)),
            };
        }
    }
    if at_hand { Err(TdxRejection::CrlSignature { index: 0 }) } else { Ok(None) }
}

fn parse(der: &[u8]) -> Result<Certificate<'_>, TdxRejection> {
    Certificate::parse(der).map_err(|Malformed(what)| TdxRejection::CertificateMalformed { certificate: CERTIFICATE, what })
}

/// Whether a list that the root signed, however old, names a certificate. What else lies among the lists is judged for itself.
fn is_revoked(certificate: &Certificate<'_>, crls: &[Vec<u8>], root: &IntelRoot) -> bool {
    let lists = crls.iter().filter_map(|der| RevocationList::parse(der).ok());
    let mut own = lists.filter(|list| list.issuer == root.subject && root.key.signed(&list.signed));
    own.any(|list| list.names(certificate.serial))
}

#[cfg(test)]
mod tests {
    use super::*;
    use testbed::tdx::{PckAuthority as SoftAuthority, Role, SoftTdx};

    const AT: u64 = 1_795_392_000;
    const AUTHORITY: Role = Role::PckAuthority(SoftAuthority::Platform);

    fn soft() -> (SoftTdx, Anchors) {
        let platform = SoftTdx::new().dated(AT);
        let anchors = Anchors::test_with_intel(Vec::new(), platform.root_der()).unwrap();
        (platform, anchors)
    }

    fn code<T>(judged: Result<T, Rejection>) -> &'static str {
        judged.err().map_or("ok", |rejection| rejection.code())
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(seconds)
    }

    #[test]
    fn a_list_counts_once_its_authority_is_at_hand_and_is_its_own() {
        let (platform, anchors) = soft();
        let (list, authority) = (platform.pck_list_der(&[]), platform.pck_authority_der());
        let judge = |list: &[u8], authorities: &[Vec<u8>], crls: &[Vec<u8>]| judge_intel_crl(list, authorities, crls, &anchors);
        assert!(judge(&list, std::slice::from_ref(&authority), &[]).unwrap().is_some());
        assert!(judge(&list, &[platform.tcb_signer_der(), platform.pck_der(), vec![1]], &[]).unwrap().is_none());
        let other = platform.pck_list_with(|list| list.revoke(&[9]));
        let mut flipped = other.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(code(judge(&flipped, std::slice::from_ref(&authority), &[])), "tdx-crl-signature");
        assert!(judge(&flipped, &[], &[]).unwrap().is_none(), "nobody at hand can tell");
        let revoked = platform.root_list_der(&[platform.serial(AUTHORITY)]);
        assert_eq!(code(judge(&list, std::slice::from_ref(&authority), std::slice::from_ref(&revoked))), "tdx-authority-revoked");
        assert!(judge(&list, &[authority], &[platform.root_list_der(&[vec![9]])]).unwrap().is_some());
    }

    #[test]
    fn the_roots_list_is_the_roots() {
        let (platform, anchors) = soft();
        let list = platform.root_list_der(&[]);
        assert!(judge_intel_crl(&list, &[], &[], &anchors).unwrap().is_some());
        let mut flipped = list.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(code(judge_intel_crl(&flipped, &[], &[], &anchors)), "tdx-crl-signature");
        assert_eq!(code(judge_intel_crl(&[1], &[], &[], &anchors)), "tdx-crl-malformed");
        let amd = testbed::snp::SoftPlatform::new(testbed::snp::Line::Genoa);
        assert_eq!(code(judge_intel_crl(&amd.crl_der(&[]), &[], &[], &anchors)), "tdx-crl-issuer");
        let without = Anchors::test(vec![(crate::ProductLine::Genoa, amd.ark_der())]).unwrap();
        assert_eq!(code(judge_intel_crl(&list, &[], &[], &without)), "tdx-not-anchored");
    }

    #[test]
    fn a_certificate_is_one_of_the_roots_valid_and_not_revoked() {
        let (platform, anchors) = soft();
        let judge = |der: &[u8], crls: &[Vec<u8>], time| code(judge_intel_certificate(der, crls, &anchors, at(time)));
        for (der, role, revoked) in [
            (platform.pck_authority_der(), AUTHORITY, "tdx-authority-revoked"),
            (platform.tcb_signer_der(), Role::TcbSigner, "tdx-signer-revoked"),
        ] {
            assert_eq!(judge(&der, &[], AT), "ok");
            let list = platform.root_list_der(&[platform.serial(role)]);
            assert_eq!(judge(&der, std::slice::from_ref(&list), AT), revoked);
            let mut forged = list;
            *forged.last_mut().unwrap() ^= 1;
            assert_eq!(judge(&der, &[forged, platform.pck_list_der(&[platform.serial(role)])], AT), "ok", "no list of the root's");
            assert_eq!(judge(&der, &[], AT + (1 << 32)), "tdx-certificate-expired");
            let mut flipped = der;
            *flipped.last_mut().unwrap() ^= 1;
            assert_eq!(judge(&flipped, &[], AT), "tdx-certificate-signature");
        }
        assert_eq!(judge(&platform.pck_der(), &[], AT), "tdx-certificate-name");
        assert_eq!(judge(&[1], &[], AT), "tdx-certificate-malformed");
    }
}
