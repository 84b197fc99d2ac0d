//! Each knob of the soft platform changes what it names, and nothing else changes by itself.

use p384::ecdsa::{Signature, signature::Verifier};
use testbed::der;
use testbed::rsa::{Hash, PssParameters};
use testbed::snp::{
    BasicConstraints, GuestShape, Guid, Issuer, KeyInfo, Leaf, Line, Root, SignatureFlaw, SignatureState, SoftPlatform, certificate_table,
    oid,
};

fn verifies(platform: &SoftPlatform, leaf: Leaf, report: &[u8]) -> bool {
    let big_endian = |offset: usize| report[offset..offset + 48].iter().rev().copied().collect::<Vec<u8>>();
    let scalars = [big_endian(0x2a0), big_endian(0x2e8)].concat();
    let key = platform.leaf_key(leaf);
    Signature::from_slice(&scalars).is_ok_and(|signature| key.verifying_key().verify(&report[..0x2a0], &signature).is_ok())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn the_same_settings_give_the_same_bytes() {
    let (first, second) = (SoftPlatform::new(Line::Turin), SoftPlatform::new(Line::Turin));
    assert_eq!(first.certificates(Leaf::Vcek), second.certificates(Leaf::Vcek));
    assert_eq!(first.sign(&first.report()), second.sign(&second.report()));
    assert_eq!(first.crl_der(&[1]), second.crl_der(&[1]));
}

#[test]
fn another_chip_or_tcb_or_root_has_another_vcek() {
    let platform = SoftPlatform::new(Line::Milan);
    let mut older = platform.tcb;
    older.microcode -= 1;
    let others = [platform.clone().with_chip("second"), platform.clone().with_tcb(older), platform.clone().under(Root::Other)];
    let report = platform.sign(&platform.report());
    assert!(verifies(&platform, Leaf::Vcek, &report));
    for other in others {
        assert!(!verifies(&other, Leaf::Vcek, &report));
    }
}

#[test]
fn the_vlek_signs_when_the_key_information_says_so() {
    let platform = SoftPlatform::new(Line::Genoa);
    let report = platform.sign(&platform.report_by(Leaf::Vlek));
    assert!(verifies(&platform, Leaf::Vlek, &report));
    assert_eq!(report[0x1a0..0x1e0], [0; 64], "a provider with a VLEK masks the chip");
    let mut by_the_wrong_key = report;
    platform.resign(&mut by_the_wrong_key, Leaf::Vcek);
    assert!(verifies(&platform, Leaf::Vcek, &by_the_wrong_key));
    assert_eq!(by_the_wrong_key[0x48], KeyInfo::VLEK as u8);
}

#[test]
fn a_byte_that_was_set_is_signed() {
    let platform = SoftPlatform::new(Line::Milan);
    let report = platform.sign(&platform.report().set_byte(0x29f, 1));
    assert_eq!(report[0x29f], 1);
    assert!(verifies(&platform, Leaf::Vcek, &report));
}

#[test]
fn a_negated_s_verifies_and_every_other_flaw_of_the_numbers_does_not() {
    let platform = SoftPlatform::new(Line::Milan);
    let genuine = platform.sign(&platform.report());
    for flaw in SignatureFlaw::INVALID {
        let mut report = genuine.clone();
        flaw.apply(&mut report);
        assert_ne!(report, genuine, "{flaw:?}");
        assert_eq!(report[..0x2a0], genuine[..0x2a0], "{flaw:?} touches the signature only");
        // Padding and reserved bytes are nothing that the two numbers say: only a reader of all bytes notices.
        let padding = matches!(flaw, SignatureFlaw::UpperR | SignatureFlaw::UpperS | SignatureFlaw::Reserved);
        assert_eq!(verifies(&platform, Leaf::Vcek, &report), padding, "{flaw:?}");
    }
    let mut negated = genuine.clone();
    SignatureFlaw::NegatedS.apply(&mut negated);
    assert_ne!(negated, genuine);
    assert!(verifies(&platform, Leaf::Vcek, &negated));
}

#[test]
fn a_changed_certificate_says_what_it_was_told_to_say() {
    let platform = SoftPlatform::new(Line::Milan);
    let wrong_name = platform.vcek_with(|vcek| vcek.subject.common_name = "SEV-VLEK".to_owned());
    assert!(contains(&wrong_name, b"SEV-VLEK") && !contains(&wrong_name, b"SEV-VCEK"));
    let wrapped = platform.vcek_with(|vcek| vcek.set_hwid_wrapped(&[7; 64]));
    assert!(contains(&wrapped, &[[0x04, 66, 0x04, 64].as_slice(), &[7; 64]].concat()));
    let short = platform.vcek_with(|vcek| vcek.set_hwid(&[7; 8]));
    assert!(contains(&short, &[0x04, 8, 7, 7, 7, 7, 7, 7, 7, 7]));
    let high = platform.vcek_with(|vcek| vcek.set_level(oid::TEE, 0x80));
    assert!(contains(&high, &[0x04, 4, 0x02, 2, 0, 0x80]));
    let count = |der: &[u8], oid: &str| der.windows(der::oid(oid).len()).filter(|window| *window == der::oid(oid)).count();
    assert_eq!(count(&platform.vcek_with(|vcek| vcek.duplicate(oid::SNP)), oid::SNP), 2);
    assert_eq!(count(&platform.vcek_with(|vcek| vcek.remove(oid::SNP)), oid::SNP), 0);
    assert_eq!(count(&platform.vcek_with(|vcek| vcek.set_csp_id("CN=x")), oid::CSP_ID), 1);
    let no_authority = platform.ask_with(|ask| ask.set_basic_constraints(BasicConstraints::NotAuthority));
    assert!(contains(&no_authority, &[0x06, 3, 0x55, 0x1d, 0x13, 0x01, 1, 0xff, 0x04, 2, 0x30, 0]));
    let list_only = platform.ask_with(|ask| ask.set_key_usage(&[6]));
    assert!(contains(&list_only, &[0x04, 4, 0x03, 2, 1, 0x02]));
    let weak = PssParameters { hash: Hash::Sha256, mask_hash: Hash::Sha256, salt_length: 32, ..PssParameters::AMD };
    assert!(contains(&platform.ask_with(|ask| ask.parameters = weak.clone()), &weak.identifier()));
    let other = platform.clone().under(Root::Other);
    let foreign = platform.vcek_with(|vcek| vcek.signer = Issuer(other.authority_key(testbed::snp::Authority::Ask)));
    assert_eq!(foreign.len(), platform.vcek_der().len());
    let (genuine, flipped) = (platform.vcek_der(), platform.vcek_with(|vcek| vcek.signature = SignatureState::Flipped));
    assert_eq!(genuine[..genuine.len() - 1], flipped[..flipped.len() - 1]);
    assert_ne!(genuine, flipped);
}

#[test]
fn a_guest_hands_out_its_report_and_the_chain_that_signed_it() {
    let platform = SoftPlatform::new(Line::Turin);
    let shape = GuestShape { host_data: [9; 32], author_key_digest: Some([8; 48]), leaf: Leaf::Vlek, ..GuestShape::default() };
    let evidence = platform.guest(shape).attest(&[5; 64]);
    assert_eq!(evidence.report[0x50..0x90], [5; 64]);
    assert_eq!(evidence.report[0xc0..0xe0], [9; 32]);
    assert_eq!(evidence.report[0x110..0x140], [8; 48]);
    assert_eq!(evidence.report[0x48], (KeyInfo::VLEK | KeyInfo::AUTHOR_KEY_EN) as u8);
    assert!(verifies(&platform, Leaf::Vlek, &evidence.report));
    let (vlek, asvk, ark) = (platform.vlek_der(), platform.asvk_der(), platform.ark_der());
    assert_eq!(evidence.certificate_table, certificate_table(&[(Guid::VLEK, &vlek), (Guid::ASK, &asvk), (Guid::ARK, &ark)]));
}
