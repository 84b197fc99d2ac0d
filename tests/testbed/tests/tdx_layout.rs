//! Every field of quotes, TD reports, enclave reports and event logs stands at the vendor's offset.

use p256::ecdsa::{Signature, VerifyingKey, signature::Verifier};
use sha2::{Digest, Sha256, Sha384};
use testbed::tdx::{
    DataHeader, EventLog, EventRecord, PckAuthority, Quote, Role, SHA384, SoftTdx, TdExtended, TdReport, TdReportKind, TdShape, event_type,
};

/// A TD report in which no two fields have the same value.
fn distinct(kind: TdReportKind) -> TdReport {
    SoftTdx::new().td_report().with(|report| {
        report.kind = kind;
        report.tee_tcb_svn = [1; 16];
        report.mrseam = [2; 48];
        report.mrsignerseam = [3; 48];
        report.seam_attributes = u64::from_le_bytes([4; 8]);
        report.td_attributes = u64::from_le_bytes([5; 8]);
        report.xfam = u64::from_le_bytes([6; 8]);
        report.mrtd = [7; 48];
        report.mrconfigid = [8; 48];
        report.mrowner = [9; 48];
        report.mrownerconfig = [10; 48];
        report.rtmrs = [[11; 48], [12; 48], [13; 48], [14; 48]];
        report.report_data = [15; 64];
        report.tee_tcb_svn_2 = [16; 16];
        report.mrservicetd = [17; 48];
        report.extended = TdExtended {
            vm_id: 18,
            td_id: [19; 32],
            device_info: [20; 48],
            initial_service_td_hash: [21; 48],
            initial_service_td_attributes: u64::from_le_bytes([22; 8]),
            initial_cpu_svn: [23; 16],
            initial_tee_tcb_svn: [24; 16],
            initial_fmspc: [25; 12],
            current_service_td_hash: [26; 48],
            current_service_td_attributes: u64::from_le_bytes([27; 8]),
        };
    })
}

/// Sizes of the fields of a TD report, in order.
const FIELDS: [usize; 27] = [16, 48, 48, 8, 8, 8, 48, 48, 48, 48, 48, 48, 48, 48, 64, 16, 48, 1, 32, 48, 48, 8, 16, 16, 12, 48, 8];

#[test]
fn a_td_report_has_its_fields_one_behind_the_other() {
    let expected: Vec<u8> = FIELDS.iter().zip(1u8..).flat_map(|(size, value)| vec![value; *size]).collect();
    for (kind, length) in TdReportKind::ALL.into_iter().zip([584, 648, 885]) {
        let bytes = distinct(kind).bytes();
        assert_eq!(bytes.len(), length, "{kind:?}");
        assert_eq!(bytes, expected[..length], "{kind:?}");
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> usize {
    usize::from(u16::from_le_bytes(bytes[offset..offset + 2].try_into().unwrap()))
}

fn u32_at(bytes: &[u8], offset: usize) -> usize {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap()) as usize
}

fn verifies(coordinates: &[u8], signature: &[u8], message: &[u8]) -> bool {
    let key = VerifyingKey::from_sec1_bytes(&[&[4], coordinates].concat()).expect("a point of the curve");
    Signature::from_slice(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
}

/// Every kind of quote: version 4, and version 5 with each body.
fn every_quote(platform: &SoftTdx) -> Vec<Quote> {
    let shapes = TdReportKind::ALL.map(TdShape::version_5).into_iter().chain([TdShape::default()]);
    shapes.map(|shape| platform.guest(shape).quote).collect()
}

#[test]
fn a_quote_is_header_descriptor_body_and_a_signature_section_in_which_every_signature_verifies() {
    let platform = SoftTdx::new();
    for quote in every_quote(&platform) {
        let bytes = quote.bytes();
        let version_5 = quote.header.version == 5;
        assert_eq!(u16_at(&bytes, 0), if version_5 { 5 } else { 4 });
        assert_eq!((u16_at(&bytes, 2), u32_at(&bytes, 4)), (2, 0x81));
        assert_eq!(bytes[12..28], [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07]);
        let body = if version_5 {
            assert_eq!(u16_at(&bytes, 48), usize::from(quote.body.kind.body_type()));
            assert_eq!(u32_at(&bytes, 50), quote.body.kind.length());
            54
        } else {
            48
        };
        let section = body + quote.body.kind.length();
        assert_eq!(bytes[body..section], quote.body.bytes());
        let (signed, section) = bytes.split_at(section);
        assert_eq!(u32_at(section, 0), section.len() - 4);
        let section = &section[4..];
        let (signature, key) = (&section[..64], &section[64..128]);
        assert!(verifies(key, signature, signed));
        assert_eq!((u16_at(section, 128), u32_at(section, 130)), (6, section.len() - 134));
        let outer = &section[134..];
        let (report, report_signature) = (&outer[..384], &outer[384..448]);
        assert!(verifies(&testbed::tdx::coordinates(&platform.key(Role::Pck)), report_signature, report));
        assert_eq!(report[48], 0x15);
        assert_eq!(report[128..160], testbed::tdx::TD_QE_SIGNER);
        assert_eq!((u16_at(report, 256), u16_at(report, 258)), (2, 8));
        let auth = u16_at(outer, 448);
        assert_eq!(auth, 32);
        let binding = Sha256::new_with_prefix(key).chain_update(&outer[450..450 + auth]).finalize();
        assert_eq!(report[320..352], binding[..]);
        assert_eq!(report[352..384], [0; 32]);
        let inner = &outer[450 + auth..];
        assert_eq!((u16_at(inner, 0), u32_at(inner, 2)), (5, inner.len() - 6));
        let chain = std::str::from_utf8(&inner[6..]).unwrap();
        assert_eq!(chain.matches("-----BEGIN CERTIFICATE-----\n").count(), 3);
        assert!(chain.ends_with("-----END CERTIFICATE-----\n\0"));
    }
}

#[test]
fn padding_lies_behind_the_signature_section_and_nowhere_else() {
    let guest = SoftTdx::new().guest(TdShape { padded_to: 8000, ..TdShape::default() });
    let plain = guest.quote.bytes();
    let padded = guest.attest(&[0; 64]).quote;
    assert_eq!(padded.len(), 8000);
    assert_eq!(padded[..plain.len()], plain);
    assert!(padded[plain.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn sizes_and_types_can_lie() {
    let platform = SoftTdx::new();
    let bytes = platform
        .quote()
        .with(|quote| {
            quote.header.version = 5;
            quote.descriptor = Some((7, 9));
            quote.section_size = Some(1);
            quote.outer = DataHeader { kind: 3, size: Some(2) };
            quote.inner = DataHeader { kind: 4, size: Some(5) };
            quote.qe_auth_size = Some(6);
        })
        .bytes();
    assert_eq!((u16_at(&bytes, 48), u32_at(&bytes, 50), u32_at(&bytes, 638)), (7, 9, 1));
    assert_eq!((u16_at(&bytes, 642 + 128), u32_at(&bytes, 642 + 130)), (3, 2));
    let outer = 642 + 134;
    assert_eq!(u16_at(&bytes, outer + 448), 6);
    assert_eq!((u16_at(&bytes, outer + 482), u32_at(&bytes, outer + 484)), (4, 5));
    assert!(verifies(&bytes[642 + 64..642 + 128], &bytes[642..642 + 64], &bytes[..638]), "it is signed with the lie inside");
}

#[test]
fn a_pck_certificate_says_what_its_machine_is() {
    let contains = |der: &[u8], part: &[u8]| der.windows(part.len()).any(|window| window == part);
    let platform = SoftTdx::new();
    let [of_platform, of_processor] =
        [PckAuthority::Platform, PckAuthority::Processor].map(|authority| platform.clone().certified_by(authority).pck_der());
    // 1.2.840.113741.1.13.1 and a suffix, as DER has it.
    let element = |suffix: &[u8]| [&[0x06, 9 + suffix.len() as u8, 0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 1, 13, 1], suffix].concat();
    for der in [&of_platform, &of_processor] {
        assert!(contains(der, &[element(&[1]), vec![0x04, 16], platform.ppid.to_vec()].concat()));
        assert!(contains(der, &[element(&[2, 1]), vec![0x02, 1, 4]].concat()));
        assert!(contains(der, &[element(&[2, 17]), vec![0x02, 1, 11]].concat()));
        assert!(contains(der, &[element(&[3]), vec![0x04, 2, 0, 0]].concat()));
        assert!(contains(der, &[element(&[4]), vec![0x04, 6, 0x77, 0x06, 0xfe, 0, 0, 0]].concat()));
        assert!(contains(der, &[element(&[5]), vec![0x0a, 1, 1]].concat()));
    }
    for (suffix, value) in [(vec![6], vec![0x04, 16]), (vec![7, 3], vec![0x01, 1, 0xff])] {
        assert!(contains(&of_platform, &[element(&suffix), value.clone()].concat()));
        assert!(!contains(&of_processor, &[element(&suffix), value].concat()));
    }
}

#[test]
fn an_event_log_is_a_header_and_records_that_replay_to_the_registers_of_the_quote() {
    let log = EventLog::empty()
        .then(EventRecord::hashed(0, event_type::SEPARATOR, &[0; 4]))
        .then(EventRecord::no_action(0, b"locality"))
        .then(EventRecord::given(3, event_type::RUNTIME, [5; 48], b"abc"));
    let bytes = log.bytes();
    assert_eq!((u32_at(&bytes, 0), u32_at(&bytes, 4), u32_at(&bytes, 28)), (1, 3, 33));
    assert_eq!(bytes[8..28], [0; 20]);
    assert_eq!(bytes[32..48], *b"Spec ID Event03\0");
    assert_eq!((u32_at(&bytes, 56), u16_at(&bytes, 60), u16_at(&bytes, 62), bytes[64]), (1, usize::from(SHA384), 48, 0));
    let record = &bytes[65..];
    assert_eq!((u32_at(record, 0), u32_at(record, 4), u32_at(record, 8), u16_at(record, 12)), (1, 4, 1, 12));
    assert_eq!(record[14..62], Sha384::digest([0u8; 4])[..]);
    assert_eq!((u32_at(record, 62), u32_at(record, 66)), (4, 0));
    let last = &record[70 + 74..];
    assert_eq!((u32_at(last, 0), u32_at(last, 4), u32_at(last, 62)), (4, 0x0800_0001, 3));
    assert_eq!(last[14..62], [5; 48]);
    assert_eq!(last[66..], [b"abc".as_slice(), &[0xff; 64]].concat());
    let extended = |digest: &[u8]| Sha384::new_with_prefix([0u8; 48]).chain_update(digest).finalize().to_vec();
    assert_eq!(log.rtmrs()[0].to_vec(), extended(&Sha384::digest([0u8; 4])));
    assert_eq!(log.rtmrs()[1..3], [[0; 48]; 2]);
    assert_eq!(log.rtmrs()[3].to_vec(), extended(&[5; 48]));
    let guest = SoftTdx::new().guest(TdShape { event_log: Some(log.clone()), ..TdShape::default() });
    let evidence = guest.attest(&[0; 64]);
    assert_eq!(evidence.event_log, Some(bytes));
    assert_eq!(evidence.quote[48 + 328..48 + 520], log.rtmrs().concat());
}
