//! Each knob of the soft TDX machine changes what it names, and nothing else changes by itself.

use p256::ecdsa::{Signature, VerifyingKey, signature::Verifier};
use testbed::tdx::{
    Document, Ending, EventLog, EventRecord, PckAuthority, Role, Root, SgxExtension, SignatureFlaw, SoftTdx, TdAttributes, TdShape, oid,
};

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn verifies(coordinates: &[u8], signature: &[u8], message: &[u8]) -> bool {
    let key = VerifyingKey::from_sec1_bytes(&[&[4], coordinates].concat()).expect("a point of the curve");
    Signature::from_slice(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
}

/// Whether the attestation key's signature of a version 4 quote verifies under the key in the quote.
fn quote_verifies(quote: &[u8]) -> bool {
    verifies(&quote[636 + 64..636 + 128], &quote[636..636 + 64], &quote[..632])
}

/// Whether the QE report's signature verifies under the machine's PCK.
fn qe_verifies(platform: &SoftTdx, quote: &[u8]) -> bool {
    let (report, signature) = (&quote[636 + 134..636 + 518], &quote[636 + 518..636 + 582]);
    verifies(&testbed::tdx::coordinates(&platform.key(Role::Pck)), signature, report)
}

#[test]
fn the_same_settings_give_the_same_bytes() {
    let (first, second) = (SoftTdx::new(), SoftTdx::new());
    assert_eq!(first.guest(TdShape::default()).attest(&[1; 64]), second.guest(TdShape::default()).attest(&[1; 64]));
    assert_eq!(first.collateral(), second.collateral());
}

#[test]
fn another_machine_or_tcb_or_root_has_another_pck() {
    let platform = SoftTdx::new();
    let quote = platform.quote().bytes();
    assert!(qe_verifies(&platform, &quote));
    let others = [
        platform.clone().with_chip("second"),
        platform.clone().with(|machine| machine.components[0] -= 1),
        platform.clone().with(|machine| machine.pce_svn -= 1),
        platform.clone().under(Root::Other),
    ];
    for other in others {
        assert!(!qe_verifies(&other, &quote));
    }
}

#[test]
fn a_changed_field_is_signed_at_its_own_layer() {
    let platform = SoftTdx::new();
    let genuine = platform.quote().bytes();
    let debuggable = platform.quote().with(|quote| quote.body.td_attributes |= TdAttributes::DEBUG).bytes();
    assert_eq!((genuine[48 + 120], debuggable[48 + 120]), (0, 1));
    let enclave = platform.quote().with(|quote| quote.qe_report.isv_svn = 3).bytes();
    assert_eq!(enclave[636 + 134 + 258], 3);
    let byte = platform.quote().with(|quote| quote.body.overrides.push((583, 9))).bytes();
    assert_eq!(byte[48 + 583], 9);
    for quote in [genuine, debuggable, enclave, byte] {
        assert!(quote_verifies(&quote) && qe_verifies(&platform, &quote));
    }
}

#[test]
fn a_negated_s_verifies_and_every_other_flaw_of_the_numbers_does_not() {
    let platform = SoftTdx::new();
    let genuine = platform.quote().bytes();
    for flaw in SignatureFlaw::INVALID {
        let quote = platform.quote().with(|quote| quote.signature = flaw).bytes();
        assert!(!quote_verifies(&quote) && qe_verifies(&platform, &quote), "{flaw:?}");
        let quote = platform.quote().with(|quote| quote.qe_signature = flaw).bytes();
        assert!(quote_verifies(&quote) && !qe_verifies(&platform, &quote), "{flaw:?}");
    }
    let negated = platform.quote().with(|quote| (quote.signature, quote.qe_signature) = (SignatureFlaw::NegatedS, SignatureFlaw::NegatedS));
    assert_ne!(negated.bytes(), genuine);
    assert!(quote_verifies(&negated.bytes()) && qe_verifies(&platform, &negated.bytes()));
}

#[test]
fn another_stated_key_is_bound_and_does_not_verify() {
    let platform = SoftTdx::new();
    let stated = testbed::tdx::coordinates(&platform.key(Role::TcbSigner));
    let quote = platform.quote().with(|quote| quote.stated_key = Some(stated));
    assert!(!quote_verifies(&quote.bytes()));
    assert!(contains(&quote.bytes(), &quote.binding()));
    let unbound = platform.quote().with(|quote| quote.qe_report.report_data = Some([9; 64]));
    assert!(!contains(&unbound.bytes(), &unbound.binding()[..32]) && quote_verifies(&unbound.bytes()));
}

#[test]
fn a_changed_certificate_says_what_it_was_told_to_say() {
    let platform = SoftTdx::new();
    let mut extension = platform.sgx_extension();
    extension.components[3] = 0x80;
    extension.more.push(SgxExtension::element("4", &[0x04, 6, 1, 2, 3, 4, 5, 6]));
    let pck = platform.pck_with(|pck| pck.set(oid::SGX, extension.der()));
    assert!(contains(&pck, &[2, 4, 0x02, 2, 0, 0x80]) && contains(&pck, &[0x04, 6, 1, 2, 3, 4, 5, 6]));
    let none = platform.pck_with(|pck| pck.remove(oid::SGX));
    assert!(!contains(&none, &testbed::der::oid(oid::SGX)));
    let foreign = platform.pck_with(|pck| pck.signer = platform.clone().under(Root::Other).key(Role::PckAuthority(PckAuthority::Platform)));
    assert_ne!(foreign, platform.pck_der());
    let named = platform.tcb_signer_with(|signer| signer.subject.common_name = "Intel SGX PCK Certificate".to_owned());
    assert!(contains(&named, b"Intel SGX PCK Certificate") && !contains(&named, b"TCB Signing"));
}

#[test]
fn a_document_carries_any_text_under_a_genuine_signature() {
    let platform = SoftTdx::new();
    let document = platform.tcb_info_document(&platform.tcb_info());
    let genuine = String::from_utf8(document.bytes()).unwrap();
    let twice = document.clone().replacing("\"id\":\"TDX\",", "\"id\":\"TDX\",\"id\":\"SGX\",");
    let missing = document.clone().replacing("\"tcbType\":0,", "");
    let unknown = platform.tcb_info_document(&platform.tcb_info().with(|info| info.levels[0].standing.status = "Splendid".to_owned()));
    for other in [&twice, &missing, &unknown] {
        let other = String::from_utf8(other.bytes()).unwrap();
        assert_ne!(other[other.len() - 130..], genuine[genuine.len() - 130..], "it has a signature of its own");
    }
    let unsigned = genuine.replace("\"tcbType\":0", "\"tcbType\":1");
    assert_eq!(unsigned[unsigned.len() - 130..], genuine[genuine.len() - 130..]);
    let flawed = Document { signature: SignatureFlaw::FlippedS, ..document };
    assert_ne!(flawed.bytes(), genuine.as_bytes());
}

#[test]
fn a_log_can_be_wrong_in_every_way_and_still_be_written() {
    let log = EventLog::empty().then(EventRecord::hashed(1, 4, &[0; 4]));
    let bytes = log.bytes();
    let wrong = [
        log.clone().with(|log| log.spec_id = None),
        log.clone().with(|log| log.spec_id.as_mut().unwrap().algorithms = vec![(4, 20)]),
        log.clone().with(|log| log.records[0].digests[0].0 = 0x000b),
        log.clone().with(|log| log.records[0].digests.clear()),
        log.clone().with(|log| log.records[0].digest_count = Some(2)),
        log.clone().with(|log| log.records[0].data_size = Some(u32::MAX)),
        log.clone().with(|log| log.records[0].index = 5),
        log.clone().with(|log| log.ending = Ending::None),
        log.clone().with(|log| log.behind.push(7)),
    ];
    for wrong in wrong {
        assert_ne!(wrong.bytes(), bytes);
    }
    assert_eq!(log.with(|log| log.records[0].index = 0).rtmrs(), [[0; 48]; 4], "MRTD is no register of the replay");
}

#[test]
fn a_dated_machine_has_intels_windows_around_the_day() {
    let now = 1_790_000_000;
    let validity = SoftTdx::new().dated(now).validity;
    for (window, days) in [(validity.pck, 2555), (validity.root_list, 365), (validity.pck_list, 30), (validity.documents, 30)] {
        assert!(window.not_before < now && now < window.not_after);
        assert_eq!(window.not_after - window.not_before, days * 86_400);
    }
}
