//! Quotes of a soft TDX machine with one thing wrong, each beside one that is nearly so and passes.

mod soft_tdx;

use attestation::{HexBytes, ReportDataRule, TdBody, TdxRejection};
use protocol::limits;
use soft_tdx::Case;
use testbed::tdx::{DataHeader, SignatureFlaw, SoftTdx, TdReportKind};

/// Offsets in a version 4 quote.
const SIGNATURE_DATA_LENGTH: usize = 48 + 584;

fn of_version_5(kind: TdReportKind) -> Case {
    Case::genuine().quote(|quote| (quote.header.version, quote.body.kind) = (5, kind))
}

#[test]
fn a_genuine_quote_of_every_kind_passes() {
    let claims = Case::genuine().passes();
    assert_eq!((claims.quote_version, claims.body), (4, TdBody::Td10));
    assert_eq!((claims.tee_tcb_svn_2, claims.mrservicetd, &claims.extended), (None, None, &None));
    for (kind, body) in [(TdReportKind::Td10, TdBody::Td10), (TdReportKind::Td15, TdBody::Td15), (TdReportKind::Td15Ex, TdBody::Td15Ex)] {
        let claims = of_version_5(kind).passes();
        assert_eq!((claims.quote_version, claims.body), (5, body));
        assert_eq!(claims.tee_tcb_svn_2.is_some(), body != TdBody::Td10);
        assert_eq!(claims.extended.is_some(), body == TdBody::Td15Ex);
    }
}

#[test]
fn a_quote_is_not_longer_than_any() {
    let limit = limits::TD_QUOTE;
    let case = Case::genuine().bytes(|quote| quote.resize(limit + 1, 0));
    assert_eq!(case.fails(), TdxRejection::QuoteTooLong { limit, found: limit + 1 });
    // Text between and behind certificates is no part of them.
    let room = limit - Case::genuine().evidence.quote.len();
    let case = Case::genuine().quote(|quote| quote.certification.resize(quote.certification.len() + room, b'\n'));
    assert_eq!(case.evidence.quote.len(), limit);
    case.passes();
}

#[test]
fn a_quote_in_cbor_is_refused_by_that_name() {
    // An array of four, a tag, a tag of one byte: COSE_Sign1 and CWT; and the first and the last of their major types.
    for first in [0x80, 0x84, 0xd2, 0xd8, 0xdf] {
        let case = Case::genuine().bytes(|quote| quote[0] = first);
        assert_eq!(case.fails(), TdxRejection::QuoteDice {});
    }
    for beside in [0x7f, 0xe0] {
        let case = Case::genuine().bytes(|quote| quote[0] = beside);
        assert_eq!(case.fails(), TdxRejection::QuoteVersion { found: beside.into() });
    }
    Case::genuine().passes();
}

#[test]
fn a_quote_that_ends_early_names_the_field() {
    let cut = |length| Case::genuine().bytes(|quote| quote.truncate(length)).fails();
    assert_eq!(cut(0), TdxRejection::QuoteTruncated { field: "header" });
    assert_eq!(cut(47), TdxRejection::QuoteTruncated { field: "header" });
    assert_eq!(cut(48), TdxRejection::QuoteTruncated { field: "TD report" });
    assert_eq!(cut(SIGNATURE_DATA_LENGTH - 1), TdxRejection::QuoteTruncated { field: "TD report" });
    assert_eq!(cut(SIGNATURE_DATA_LENGTH + 3), TdxRejection::QuoteTruncated { field: "signature data" });
    let whole = Case::genuine().evidence.quote.len();
    assert_eq!(cut(whole - 1), TdxRejection::QuoteTruncated { field: "signature data" });
    Case::genuine().bytes(|quote| quote.truncate(whole)).passes();
    // Lengths inside that promise more than there is.
    let more = Case::genuine().quote(|quote| quote.outer.size = Some(u32::MAX));
    assert_eq!(more.fails(), TdxRejection::QuoteTruncated { field: "certification data" });
    let more = Case::genuine().quote(|quote| quote.section_size = Some(u32::MAX));
    assert_eq!(more.fails(), TdxRejection::QuoteTruncated { field: "signature data" });
}

#[test]
fn a_quote_is_of_version_4_or_5() {
    for found in [0, 3, 6] {
        let case = Case::genuine().quote(|quote| quote.header.version = found);
        assert_eq!(case.fails(), TdxRejection::QuoteVersion { found });
    }
    Case::genuine().quote(|quote| quote.header.version = 4).passes();
    Case::genuine().quote(|quote| quote.header.version = 5).passes();
}

#[test]
fn the_attestation_key_is_of_p256() {
    for found in [0, 1, 3] {
        let case = Case::genuine().quote(|quote| quote.header.key_type = found);
        assert_eq!(case.fails(), TdxRejection::AttestationKeyType { found });
    }
    Case::genuine().quote(|quote| quote.header.key_type = 2).passes();
}

#[test]
fn a_quote_is_of_a_td() {
    for found in [0, 0x80, 0x83, 0x181, 0x8100_0000] {
        let case = Case::genuine().quote(|quote| quote.header.tee_type = found);
        assert_eq!(case.fails(), TdxRejection::TeeType { found });
    }
    Case::genuine().quote(|quote| quote.header.tee_type = 0x81).passes();
}

#[test]
fn the_quoting_enclave_is_intels_and_what_is_reserved_is_ignored() {
    let genuine = Case::genuine().platform.quote().header.vendor;
    let mut vendor = genuine;
    vendor[15] ^= 1;
    let case = Case::genuine().quote(|quote| quote.header.vendor = vendor);
    assert_eq!(case.fails(), TdxRejection::QeVendor { expected: HexBytes::from(genuine), found: HexBytes::from(vendor) });
    Case::genuine().quote(|quote| (quote.header.reserved, quote.header.user_data) = ([1; 4], [9; 20])).passes();
}

#[test]
fn the_body_of_version_5_is_a_td_report_of_the_size_of_its_type() {
    for found in [0, 1, 5] {
        let case = of_version_5(TdReportKind::Td15).quote(|quote| {
            (quote.header.version, quote.body.kind, quote.descriptor) = (5, TdReportKind::Td15, Some((found, 648)));
        });
        assert_eq!(case.fails(), TdxRejection::BodyType { found });
    }
    for (kind, size) in [(3, 584), (3, 649), (2, 648), (4, 648)] {
        let case = Case::genuine().quote(|quote| {
            (quote.header.version, quote.body.kind, quote.descriptor) = (5, TdReportKind::Td15, Some((kind, size)));
        });
        let (body, expected) = match kind {
            2 => (TdBody::Td10, 584),
            3 => (TdBody::Td15, 648),
            _ => (TdBody::Td15Ex, 885),
        };
        assert_eq!(case.fails(), TdxRejection::BodySize { body, expected, found: size });
    }
    of_version_5(TdReportKind::Td15).passes();
}

#[test]
fn certification_data_is_of_type_6_and_in_it_of_type_5() {
    for found in [1, 5, 7] {
        let case = Case::genuine().quote(|quote| quote.outer = DataHeader::of(found));
        assert_eq!(case.fails(), TdxRejection::CertificationType { place: "the quote", expected: 6, found });
    }
    for found in [1, 3, 4, 6] {
        let case = Case::genuine().quote(|quote| quote.inner = DataHeader::of(found));
        assert_eq!(case.fails(), TdxRejection::CertificationType { place: "the QE report's certification data", expected: 5, found });
    }
    Case::genuine().quote(|quote| (quote.outer, quote.inner) = (DataHeader::of(6), DataHeader::of(5))).passes();
}

#[test]
fn every_part_ends_with_its_last_field() {
    let case = Case::genuine().quote(|quote| quote.behind_inner = vec![0; 3]);
    assert_eq!(case.fails(), TdxRejection::CertificationLength { place: "the QE report's certification data", left: 3 });
    let case = Case::genuine().quote(|quote| quote.behind_outer = vec![0]);
    assert_eq!(case.fails(), TdxRejection::CertificationLength { place: "the signature data", left: 1 });
    // The QE authentication data ends by its length alone: what stands behind that is read as the type of what follows.
    let place = "the QE report's certification data";
    let sized = |size| Case::genuine().quote(|quote| quote.qe_auth_size = Some(size));
    // From within the PEM, which begins with five hyphens; and the last bytes of the data.
    let (longer, shorter) = (u16::from_le_bytes(*b"--"), u16::from_le_bytes([30, 31]));
    assert_eq!(sized(40).fails(), TdxRejection::CertificationType { place, expected: 5, found: longer });
    assert_eq!(sized(30).fails(), TdxRejection::CertificationType { place, expected: 5, found: shorter });
    sized(32).passes();
}

#[test]
fn the_quoting_enclaves_authentication_data_is_short() {
    let limit = limits::QE_AUTHENTICATION_DATA;
    let of = |length: usize| Case::genuine().quote(|quote| quote.qe_auth_data = vec![7; length]);
    assert_eq!(of(limit + 1).fails(), TdxRejection::QeAuthenticationData { limit, found: limit + 1 });
    of(limit).passes();
    of(0).passes();
}

#[test]
fn behind_a_quote_there_are_zero_bytes_and_not_many() {
    let padded = |length: usize| Case::genuine().quote(|quote| quote.padding = vec![0; length]);
    assert_eq!(padded(70).passes(), Case::genuine().passes());
    let limit = limits::TD_QUOTE_PADDING;
    padded(limit).passes();
    assert_eq!(padded(limit + 1).fails(), TdxRejection::PaddingTooLong { limit, found: limit + 1 });
    let offset = padded(70).evidence.quote.len() - 1;
    assert_eq!(padded(70).bytes(|quote| quote[offset] = 1).fails(), TdxRejection::PaddingNotZero { offset });
}

#[test]
fn the_pck_signed_the_quoting_enclaves_report() {
    for flaw in SignatureFlaw::INVALID {
        assert_eq!(Case::genuine().quote(|quote| quote.qe_signature = flaw).fails(), TdxRejection::QeReportSignature {}, "{flaw:?}");
    }
    let another = SoftTdx::new().with_chip("second").quote().qe_signer;
    assert_eq!(Case::genuine().quote(|quote| quote.qe_signer = another).fails(), TdxRejection::QeReportSignature {});
    Case::genuine().quote(|quote| quote.qe_signature = SignatureFlaw::NegatedS).passes();
}

#[test]
fn the_quoting_enclave_vouches_for_the_attestation_key_and_its_data() {
    let other_key = [1; 64];
    let bound = Case::genuine().platform.quote().binding();
    let case = Case::genuine().quote(|quote| (quote.stated_key, quote.qe_report.report_data) = (Some(other_key), Some(bound)));
    assert_eq!(case.fails(), TdxRejection::AttestationKeyBinding {});
    let case = Case::genuine().quote(|quote| (quote.qe_auth_data, quote.qe_report.report_data) = (vec![0; 32], Some(bound)));
    assert_eq!(case.fails(), TdxRejection::AttestationKeyBinding {});
    let mut tail = bound;
    tail[63] = 1;
    let case = Case::genuine().quote(|quote| quote.qe_report.report_data = Some(tail));
    assert_eq!(case.fails(), TdxRejection::QeReportDataTail {});
    Case::genuine().quote(|quote| quote.qe_report.report_data = Some(bound)).passes();
}

#[test]
fn the_quoting_enclave_is_the_one_of_the_identity() {
    let expected = Case::genuine().platform.qe_report();
    let case = Case::genuine().quote(|quote| quote.qe_report.misc_select = 1);
    let found = HexBytes::from([1, 0, 0, 0]);
    assert_eq!(case.fails(), TdxRejection::QeMiscselect { expected: HexBytes::from([0; 4]), found });

    // A value with a bit outside its mask is nobody's.
    let masked = |value: u8, mask: u8| {
        let (misc_select, misc_select_mask) = ([value, 0, 0, 0], [mask, 0xff, 0xff, 0xff]);
        let body = SoftTdx::new().qe_identity_body(|identity| {
            (identity.misc_select, identity.misc_select_mask) = (misc_select, misc_select_mask);
        });
        Case::genuine().qe_identity(body).quote(|quote| quote.qe_report.misc_select = 1)
    };
    let one = HexBytes::from([1, 0, 0, 0]);
    assert_eq!(masked(1, 0xfe).fails(), TdxRejection::QeMiscselect { expected: one.clone(), found: one });
    masked(0, 0xfe).passes();
    masked(1, 0xff).passes();

    // DEBUG is under the mask, the extended features are not.
    let mut identity = [0; 16];
    identity[0] = 0x11;
    let mut debug = expected.attributes;
    debug[0] |= 2;
    let case = Case::genuine().quote(|quote| quote.qe_report.attributes = debug);
    assert_eq!(case.fails(), TdxRejection::QeAttributes { expected: HexBytes::from(identity), found: HexBytes::from(debug) });
    Case::genuine().quote(|quote| quote.qe_report.attributes[8] ^= 4).passes();

    let mut signer = expected.mrsigner;
    signer[31] ^= 1;
    let case = Case::genuine().quote(|quote| quote.qe_report.mrsigner = signer);
    assert_eq!(case.fails(), TdxRejection::QeSigner { expected: HexBytes::from(expected.mrsigner), found: HexBytes::from(signer) });

    let case = Case::genuine().quote(|quote| quote.qe_report.isv_prod_id = 1);
    assert_eq!(case.fails(), TdxRejection::QeProduct { expected: 2, found: 1 });
    // Which build of the enclave it is, is no part of its identity.
    Case::genuine().quote(|quote| quote.qe_report.mrenclave = [9; 32]).passes();
}

#[test]
fn the_attestation_key_signed_the_quote() {
    for flaw in SignatureFlaw::INVALID {
        assert_eq!(Case::genuine().quote(|quote| quote.signature = flaw).fails(), TdxRejection::QuoteSignature {}, "{flaw:?}");
    }
    // Every byte of header and body is signed: bytes that no earlier step looks at.
    for offset in [8, 28, 48 + 16, 48 + 120, 48 + 136, 48 + 328, 48 + 583] {
        assert_eq!(Case::genuine().bytes(|quote| quote[offset] ^= 1).fails(), TdxRejection::QuoteSignature {}, "{offset}");
    }
    Case::genuine().quote(|quote| quote.signature = SignatureFlaw::NegatedS).passes();
}

#[test]
fn the_report_data_is_what_is_asked_for() {
    let mut case = Case::genuine().quote(|quote| quote.body.report_data = [7; 64]);
    case.expected = ReportDataRule::Exactly([7; 64]);
    assert_eq!(case.passes().report_data, [7; 64]);
    let mut other = [7; 64];
    other[63] = 8;
    case.expected = ReportDataRule::Exactly(other);
    assert_eq!(case.fails(), TdxRejection::ReportData { expected: HexBytes::from(other), found: HexBytes::from([7; 64]) });
}
