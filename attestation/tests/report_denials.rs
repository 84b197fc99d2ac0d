//! Reports of which one thing is wrong, signed all the same: each is refused by the check that is there for it, and what lies just
//! within the rule passes.

mod soft;

use attestation::{ProductLine, Rejection, ReportDataRule, Revocation, SecondOpinion, SigningKeyKind, Tcb};
use soft::Case;
use testbed::snp::{Cpuid, KeyInfo, Leaf, Line, ReportBuilder, SignatureFlaw, SoftPlatform};

fn milan() -> SoftPlatform {
    SoftPlatform::new(Line::Milan)
}

/// The verdict on Milan's report with a change.
fn changed(change: impl FnOnce(&mut ReportBuilder)) -> Case {
    Case::of(&milan(), &milan().report().with(change))
}

#[test]
fn genuine_reports_of_every_line_version_and_key_pass() {
    for line in Line::ALL {
        for leaf in [Leaf::Vcek, Leaf::Vlek] {
            for version in 2..=5 {
                let platform = SoftPlatform::new(line);
                let by = platform.report_by(leaf);
                let report = platform.report_of_version(version).with(|report| {
                    report.key_info = by.key_info;
                    report.chip_id = by.chip_id;
                });
                let claims = Case::of(&platform, &report).passes();
                assert_eq!((claims.version, claims.product), (version, soft::product(line)));
                assert_eq!(claims.launch_mitigations.is_some(), version == 5);
                assert_eq!(claims.chip_id.is_some(), leaf == Leaf::Vcek);
                assert_eq!(claims.csp_id.is_some(), leaf == Leaf::Vlek);
                assert_eq!(claims.revocation, Revocation::Unknown);
                let unread = version == 2 && leaf == Leaf::Vlek;
                assert_eq!(matches!(claims.second_opinion, SecondOpinion::Unavailable { .. }), unread, "{line:?} {leaf:?} {version}");
            }
        }
    }
}

#[test]
fn a_report_is_exactly_1184_bytes() {
    for length in [0, 1, 671, 672, 1183, 1185, 2368] {
        let mut case = Case::milan();
        case.evidence.report.resize(length, 0);
        assert_eq!(case.fails(), Rejection::ReportLength { expected: 1184, found: length });
    }
    Case::milan().passes();
}

#[test]
fn only_versions_2_to_5_are_read() {
    for found in [0, 1, 6, 7, u32::MAX] {
        assert_eq!(changed(|report| report.version = found).fails(), Rejection::ReportVersion { found });
    }
}

#[test]
fn every_reserved_byte_is_zero() {
    let regions = |version: u32| {
        let (cpuid, mitigations) = (if version == 2 { 0x188 } else { 0x18b }, if version == 5 { 0x208 } else { 0x1f8 });
        [(0x4c, 0x50), (cpuid, 0x1a0), (0x1eb, 0x1ec), (0x1ef, 0x1f0), (mitigations, 0x2a0)]
    };
    for version in [2, 3, 4, 5] {
        let report = milan().report_of_version(version);
        Case::of(&milan(), &report).passes();
        for offset in regions(version).into_iter().flat_map(|(from, until)| from..until) {
            let rejection = Case::of(&milan(), &report.clone().set_byte(offset, 1)).fails();
            assert!(matches!(rejection, Rejection::ReservedNotZero { .. }), "version {version}, {offset:#x}: {rejection}");
        }
    }
    for bit in 5..32 {
        let expected = Rejection::ReservedNotZero { field: "bits 31:5 of the key info", offset: 0x48 };
        assert_eq!(changed(|report| report.key_info |= 1 << bit).fails(), expected);
    }
}

#[test]
fn vmpl_is_0_to_3_and_a_host_asks_for_no_reports() {
    for found in [4, 0xff, u32::MAX] {
        assert_eq!(changed(|report| report.vmpl = found).fails(), Rejection::VmplRange { found });
    }
    for vmpl in 0..=3 {
        assert_eq!(changed(|report| report.vmpl = vmpl).passes().vmpl, vmpl);
    }
}

#[test]
fn no_more_certificates_and_lists_come_than_anybody_needs() {
    let padded = |count: usize| {
        let mut case = Case::milan();
        case.evidence.certificates.resize(count, milan().ark_der());
        case
    };
    padded(16).passes();
    assert_eq!(padded(17).fails(), Rejection::TooMany { what: "certificates in the evidence", limit: 16, found: 17 });
    let mut case = Case::milan();
    case.collateral.certificates = vec![milan().ark_der(); 17];
    assert_eq!(case.fails(), Rejection::TooMany { what: "certificates in the collateral", limit: 16, found: 17 });
    let mut case = Case::milan();
    case.collateral.crls = vec![milan().crl_der(&[]); 17];
    assert_eq!(case.fails(), Rejection::TooMany { what: "revocation lists in the collateral", limit: 16, found: 17 });
    case.evidence.crls = std::mem::take(&mut case.collateral.crls);
    assert_eq!(case.fails(), Rejection::TooMany { what: "revocation lists in the evidence", limit: 16, found: 17 });
    case.evidence.crls.truncate(16);
    case.passes();
}

#[test]
fn the_signature_algorithm_is_ecdsa_p384() {
    for found in [0, 2, u32::MAX] {
        assert_eq!(changed(|report| report.signature_algorithm = found).fails(), Rejection::SignatureAlgorithm { found });
    }
}

#[test]
fn the_signing_key_is_a_vcek_or_a_vlek_that_signs() {
    assert_eq!(changed(|report| report.key_info = KeyInfo::NONE).fails(), Rejection::NotSigned {});
    for found in 2..=6 {
        assert_eq!(changed(|report| report.key_info = found << 2).fails(), Rejection::SigningKeyReserved { found });
    }
    assert_eq!(changed(|report| report.key_info = KeyInfo::MASK_CHIP_KEY).fails(), Rejection::ChipKeyMasked {});
    let claims = changed(|report| report.key_info = KeyInfo::AUTHOR_KEY_EN).passes();
    assert!(claims.author_key_enabled && claims.author_key_digest.is_some());
    assert_eq!(Case::milan().passes().author_key_digest, None);
}

#[test]
fn a_processor_without_a_root_is_unknown_and_venice_has_none() {
    for (family, model) in [(0x1a, 0x50), (0x1a, 0x9f), (0x1a, 0xc0), (0x19, 0x20), (0x17, 0x31), (0, 0)] {
        let case = changed(|report| report.cpuid = Some(Cpuid { family, model, stepping: 0 }));
        assert_eq!(case.fails(), Rejection::ProductUnknown { family, model });
    }
    // Another model of the same line.
    changed(|report| report.cpuid = Some(Cpuid { family: 0x19, model: 0x0f, stepping: 0 })).passes();
}

#[test]
fn a_line_whose_root_is_not_in_force_is_refused() {
    let genoa = SoftPlatform::new(Line::Genoa);
    let only_genoa = attestation::Anchors::test(vec![(ProductLine::Genoa, genoa.ark_der())]).unwrap();
    let expected = Rejection::ProductNotAnchored { line: ProductLine::Milan };
    assert_eq!(Case::milan().judge_under(&only_genoa).unwrap_err(), expected);
    let version_2 = Case::of(&milan(), &milan().report_of_version(2));
    assert_eq!(version_2.judge_under(&only_genoa).unwrap_err(), expected);
    Case::of(&genoa, &genoa.report()).judge_under(&only_genoa).unwrap();
}

#[test]
fn every_flaw_of_a_signature_is_named() {
    for flaw in SignatureFlaw::INVALID {
        let mut case = Case::milan();
        flaw.apply(&mut case.evidence.report);
        let expected = match flaw {
            SignatureFlaw::ZeroR | SignatureFlaw::OrderR | SignatureFlaw::Empty => Rejection::SignatureRange { part: "r" },
            SignatureFlaw::ZeroS | SignatureFlaw::OrderS => Rejection::SignatureRange { part: "s" },
            SignatureFlaw::UpperR => Rejection::SignaturePadding { part: "r" },
            SignatureFlaw::UpperS => Rejection::SignaturePadding { part: "s" },
            SignatureFlaw::Reserved => Rejection::SignaturePadding { part: "reserved" },
            _ => Rejection::Signature { kind: SigningKeyKind::Vcek },
        };
        assert_eq!(case.fails(), expected, "{flaw:?}");
    }
    let mut other_form = Case::milan();
    SignatureFlaw::NegatedS.apply(&mut other_form.evidence.report);
    other_form.passes();
}

#[test]
fn the_signature_is_the_leafs() {
    let mut case = Case::milan();
    milan().with_chip("another").resign(&mut case.evidence.report, Leaf::Vcek);
    assert_eq!(case.fails(), Rejection::Signature { kind: SigningKeyKind::Vcek });
    let mut case = Case::genuine(Line::Milan, Leaf::Vlek);
    milan().resign(&mut case.evidence.report, Leaf::Vcek);
    assert_eq!(case.fails(), Rejection::Signature { kind: SigningKeyKind::Vlek });
}

#[test]
fn a_tcb_version_has_the_lines_layout() {
    let fields = [(0x38, "CURRENT_TCB"), (0x180, "REPORTED_TCB"), (0x1e0, "COMMITTED_TCB"), (0x1f0, "LAUNCH_TCB")];
    for (line, unused) in [(Line::Milan, 2..6), (Line::Genoa, 2..6), (Line::Turin, 4..7)] {
        let platform = SoftPlatform::new(line);
        for (offset, field) in fields {
            for byte in unused.clone() {
                let case = Case::of(&platform, &platform.report().set_byte(offset + byte, 1));
                assert_eq!(case.fails(), Rejection::TcbLayout { field, line: soft::product(line) }, "byte {byte}");
            }
        }
    }
    let rejection = changed(|report| report.tcb_layout = Line::Turin).fails();
    assert_eq!(rejection, Rejection::TcbLayout { field: "REPORTED_TCB", line: ProductLine::Milan });
}

#[test]
fn the_reported_tcb_is_the_certificates_part_by_part() {
    for line in Line::ALL {
        let platform = SoftPlatform::new(line);
        let certified = platform.tcb;
        let parts: [fn(&mut testbed::snp::Tcb) -> &mut u8; 5] =
            [|tcb| &mut tcb.bootloader, |tcb| &mut tcb.tee, |tcb| &mut tcb.snp, |tcb| &mut tcb.microcode, |tcb| &mut tcb.fmc];
        for part in &parts[..if line == Line::Turin { 5 } else { 4 }] {
            let mut report = platform.report();
            *part(&mut report.reported_tcb) ^= 1;
            let rejection = Case::of(&platform, &report).fails();
            let fmc = |fmc| (line == Line::Turin).then_some(fmc);
            let tcb = |tcb: testbed::snp::Tcb| Tcb {
                fmc: fmc(tcb.fmc),
                bootloader: tcb.bootloader,
                tee: tcb.tee,
                snp: tcb.snp,
                microcode: tcb.microcode,
            };
            assert_eq!(rejection, Rejection::TcbMismatch { report: tcb(report.reported_tcb), certificate: tcb(certified) });
        }
    }
}

#[test]
fn a_vcek_is_of_the_reports_chip() {
    let other = testbed::snp::chip_id(Line::Milan, "another");
    let rejection = changed(|report| report.chip_id = other).fails();
    assert!(matches!(rejection, Rejection::ChipIdMismatch { ref report, .. } if *report.as_bytes() == other), "{rejection}");
    // Turin's has 8 bytes; what stands behind them in the report must be zero.
    let turin = SoftPlatform::new(Line::Turin);
    for position in 0..64 {
        let mut report = turin.report();
        report.chip_id[position] ^= 1;
        let rejection = Case::of(&turin, &report).fails();
        assert!(matches!(rejection, Rejection::ChipIdMismatch { .. }), "byte {position}: {rejection}");
    }
}

#[test]
fn a_report_that_names_no_chip_gives_no_claim_of_one() {
    assert_eq!(changed(|report| report.chip_id = [0; 64]).passes().chip_id, None);
    let masked_version_2 = milan().report_of_version(2).with(|report| report.chip_id = [0; 64]);
    let claims = Case::of(&milan(), &masked_version_2).passes();
    assert_eq!(claims.chip_id, None);
    assert!(matches!(claims.second_opinion, SecondOpinion::Unavailable { .. }));
    assert_eq!(Case::milan().passes().chip_id, Some(milan().chip_id));
}

#[test]
fn report_data_is_compared_in_all_its_bits() {
    let found = [7; 64];
    let mut case = changed(|report| report.report_data = found);
    case.expected = ReportDataRule::Exactly(found);
    case.passes();
    for bit in 0..512 {
        let mut expected = found;
        expected[bit / 8] ^= 1 << (bit % 8);
        case.expected = ReportDataRule::Exactly(expected);
        let rejection = case.fails();
        assert!(matches!(rejection, Rejection::ReportData { .. }), "bit {bit}: {rejection}");
    }
}

#[test]
fn guest_policy_has_bit_17_and_no_reserved_bit() {
    let with = |policy: u64| changed(|report| report.policy = policy);
    assert_eq!(with(0x1_0000).fails(), Rejection::PolicyBit17 { found: 0x1_0000 });
    for bit in 26..64 {
        let found = 1 << bit | 1 << 17;
        assert_eq!(with(found).fails(), Rejection::PolicyReserved { found });
    }
    let claims = with(0x3ff_ffff).passes().guest_policy;
    assert!(claims.debug && claims.migrate_ma && claims.page_swap_disabled);
    assert_eq!((claims.abi_major, claims.abi_minor), (0xff, 0xff));
    let claims = with(0x2_1f01).passes().guest_policy;
    assert!(!claims.debug && !claims.migrate_ma && !claims.smt && !claims.cxl);
    assert_eq!((claims.abi_major, claims.abi_minor), (0x1f, 0x01));
}

#[test]
fn firmware_runs_what_it_reports_and_commits_to_no_more() {
    let rejection = changed(|report| report.current_tcb.snp -= 1).fails();
    assert!(matches!(rejection, Rejection::CurrentBelowReported { .. }), "{rejection}");
    // A higher microcode does not make up for it.
    let rejection = changed(|report| {
        report.current_tcb.snp -= 1;
        report.current_tcb.microcode += 1;
    });
    assert!(matches!(rejection.fails(), Rejection::CurrentBelowReported { .. }));
    let rejection = changed(|report| report.committed_tcb.microcode += 1).fails();
    assert!(matches!(rejection, Rejection::CommittedAboveCurrent { .. }), "{rejection}");
    changed(|report| report.current_tcb.microcode += 1).passes();
    changed(|report| report.committed_tcb.microcode -= 1).passes();
}

#[test]
fn platform_info_has_no_unknown_bit() {
    for bit in 8..64 {
        let (found, unknown) = (1 << bit | 1, 1 << bit);
        assert_eq!(changed(|report| report.platform_info = found).fails(), Rejection::PlatformInfoUnknown { found, unknown });
    }
    assert_eq!(changed(|report| report.platform_info = 0xff).passes().platform_info, 0xff);
}
