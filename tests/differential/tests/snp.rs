//! SNP reports: ours beside a report verifier, which checks signatures and leaves the rest to its caller.

use differential::evidence::{folder, read};
use differential::snp::{REPORT_VERIFIER, SnpCase};
use differential::{Difference, Row, Table, rules_are_written};
use protocol::time::UnixTime;
use testbed::snp::{KeyInfo, Leaf, Line, SignatureFlaw, SoftPlatform, oid};

const PINNED: &str = "the vendor's root is pinned; a chain from the attester is never a reason to trust";
const RECEIVED: &str = "the signature is checked over the received bytes, not over a re-serialisation";
const ZERO: &str = "upper bytes of r and s, and every reserved byte, must be zero";
const KIND: &str = "the signing key's kind in the report decides which certificate may verify it";
const PROFILE: &str =
    "every certificate of a chain has the exact name, the profile and the issuer of its role, and is valid at the time of judging";
const REVOKED: &str = "what any list of the root names is revoked, however old the list, the root itself included";
const ALGORITHM: &str = "both places in which a certificate names its signature algorithm say the same";
const STRUCTURE: &str = "a report that breaks its own structure is refused, though its signature is good";
const TCB: &str = "a report's TCB versions stand in their order, and REPORTED_TCB is that of the key that signed it";
const CHIP: &str = "a VCEK and its report are of one chip";

const ROWS: &[Row] = &[
    Row::accepted(
        REPORT_VERIFIER,
        "Signer certificate does not RSA sign signee certificate",
        PINNED,
        &["another root", "the root of another line"],
    ),
    Row::refused(REPORT_VERIFIER, "snp-authority-revoked", REVOKED, &["a revoked ASK"]),
    Row::refused(REPORT_VERIFIER, "snp-certificate-malformed", ALGORITHM, &["ASK", "leaf"]),
    Row::refused(REPORT_VERIFIER, "snp-chain-expired", PROFILE, &["a leaf out of date", "an ASK out of date"]),
    Row::refused(REPORT_VERIFIER, "snp-chain-not-an-authority", PROFILE, &["an ASK that is no authority"]),
    Row::refused(REPORT_VERIFIER, "snp-chain-signature", PINNED, &["everything under another root"]),
    Row::refused(REPORT_VERIFIER, "snp-chip-id-mismatch", CHIP, &["another chip"]),
    Row::refused(REPORT_VERIFIER, "snp-chip-key-masked", STRUCTURE, &["masked chip key"]),
    Row::refused(REPORT_VERIFIER, "snp-leaf-extension-missing", PROFILE, &["a leaf without HWID"]),
    Row::refused(REPORT_VERIFIER, "snp-not-signed", KIND, &["no signing key"]),
    Row::refused(REPORT_VERIFIER, "snp-platform-info-unknown", STRUCTURE, &["unknown platform info bit"]),
    Row::refused(REPORT_VERIFIER, "snp-policy-bit-17", STRUCTURE, &["policy bit 17 clear"]),
    Row::refused(REPORT_VERIFIER, "snp-policy-reserved", ZERO, &["reserved policy bit"]),
    Row::refused(REPORT_VERIFIER, "snp-report-version", STRUCTURE, &["version 6"]),
    Row::refused(REPORT_VERIFIER, "snp-signature", RECEIVED, &["report"]),
    Row::refused(REPORT_VERIFIER, "snp-signature-algorithm", STRUCTURE, &["signature algorithm 2"]),
    Row::refused(
        REPORT_VERIFIER,
        "snp-signature-padding",
        ZERO,
        &["Reserved", "UpperR", "UpperS", "behind s", "upper bytes of r", "upper bytes of s"],
    ),
    Row::refused(REPORT_VERIFIER, "snp-tcb-current-below-reported", TCB, &["a lower current TCB"]),
    Row::refused(REPORT_VERIFIER, "snp-tcb-mismatch", TCB, &["a higher reported TCB", "a lower reported TCB"]),
    Row::refused(REPORT_VERIFIER, "snp-vmpl-range", STRUCTURE, &["VMPL 4"]),
];

fn compare(table: &mut Table, case: &SnpCase) {
    table.compare(&case.name, REPORT_VERIFIER, &case.judge(), &case.report_verifier());
}

/// Genuine cases of every line and key.
fn genuine() -> Vec<SnpCase> {
    let mut cases = Vec::new();
    for line in Line::ALL {
        let platform = SoftPlatform::new(line);
        for leaf in [Leaf::Vcek, Leaf::Vlek] {
            cases.push(SnpCase::soft(&format!("{line:?} {leaf:?}"), &platform, &platform.report_by(leaf)));
        }
    }
    cases
}

/// A change in a report before it is signed.
type Change = (&'static str, fn(&mut testbed::snp::ReportBuilder));

const SIGNED: &[Change] = &[
    ("version 1", |report| report.version = 1),
    ("version 6", |report| report.version = 6),
    ("VMPL 4", |report| report.vmpl = 4),
    ("signature algorithm 2", |report| report.signature_algorithm = 2),
    ("no signing key", |report| report.key_info = KeyInfo::NONE),
    ("masked chip key", |report| report.key_info |= KeyInfo::MASK_CHIP_KEY),
    ("policy bit 17 clear", |report| report.policy &= !(1 << 17)),
    ("reserved policy bit", |report| report.policy |= 1 << 40),
    ("unknown platform info bit", |report| report.platform_info |= 1 << 40),
    ("another chip", |report| report.chip_id[0] ^= 1),
    ("a higher reported TCB", |report| report.reported_tcb.snp += 1),
    ("a lower reported TCB", |report| report.reported_tcb.snp -= 1),
    ("a lower current TCB", |report| report.current_tcb.snp -= 1),
    ("reserved byte behind the key info", |report| report.overrides.push((0x4c, 1))),
    ("reserved byte before the chip id", |report| report.overrides.push((0x18b, 1))),
    ("reserved byte before the signature", |report| report.overrides.push((0x29f, 1))),
    ("debug", |report| report.policy |= 1 << 19),
    ("another measurement", |report| report.measurement[0] ^= 1),
];

#[test]
fn verdicts_on_snp_reports_differ_only_as_listed() {
    let mut table = Table::new(ROWS);
    for case in genuine() {
        compare(&mut table, &case);
    }
    let platform = SoftPlatform::new(Line::Genoa);
    let genuine = SnpCase::soft("Genoa", &platform, &platform.report());
    for (name, change) in SIGNED {
        compare(&mut table, &SnpCase::soft(name, &platform, &platform.report().with(change)));
    }
    for flaw in SignatureFlaw::INVALID {
        compare(&mut table, &genuine.with(&format!("{flaw:?}"), |case| flaw.apply(&mut case.report)));
    }
    for position in 0..genuine.report.len() {
        compare(
            &mut table,
            &genuine.with(&format!("{} @ byte {position:#x}", part(position)), |case| case.report[position] ^= 1 << (position % 8)),
        );
    }
    for length in [0, 1, 0x29f, 0x2a0, 1183, 1185] {
        compare(&mut table, &genuine.with(&format!("length {length}"), |case| case.report.resize(length, 0)));
    }
    // Not the root's: ours is pinned, and takes none that came.
    for (place, authority) in ["leaf", "ASK"].into_iter().enumerate() {
        for position in (0..genuine.certificates[place].len()).step_by(7) {
            let name = format!("{authority} @ byte {position:#x}");
            compare(&mut table, &genuine.with(&name, |case| case.certificates[place][position] ^= 1));
        }
    }
    certificates(&mut table, &platform, &genuine);
    real(&mut table);
    println!("{} pairs of verdicts, {} accepted by both", table.compared, table.accepted);
    table.close();
}

/// The part of a report in which a byte lies (AMD 56860, "ATTESTATION_REPORT").
fn part(position: usize) -> &'static str {
    let parts = [
        (0, "report"),
        (0x2a0, "r"),
        (0x2a0 + 48, "upper bytes of r"),
        (0x2e8, "s"),
        (0x2e8 + 48, "upper bytes of s"),
        (0x330, "behind s"),
    ];
    parts.iter().rev().find(|(first, _)| *first <= position).unwrap().1
}

/// Certificates of the right authority with one thing wrong.
fn certificates(table: &mut Table, platform: &SoftPlatform, genuine: &SnpCase) {
    let other = SoftPlatform::new(Line::Genoa).with_chip("another");
    let milan = SoftPlatform::new(Line::Milan);
    let cases: [(&str, usize, Vec<u8>); 8] = [
        ("a leaf out of date", 0, platform.vcek_with(|leaf| leaf.valid.not_after = leaf.valid.not_before + 1)),
        ("a leaf without HWID", 0, platform.vcek_with(|leaf| leaf.remove(oid::HWID))),
        ("a leaf of another chip", 0, other.vcek_der()),
        ("a VLEK for a VCEK's report", 0, platform.vlek_der()),
        ("an ASK out of date", 1, platform.ask_with(|ask| ask.valid.not_after = ask.valid.not_before + 1)),
        (
            "an ASK that is no authority",
            1,
            platform.ask_with(|ask| ask.set_basic_constraints(testbed::snp::BasicConstraints::NotAuthority)),
        ),
        ("the root of another line", 2, milan.ark_der()),
        ("another root", 2, SoftPlatform::new(Line::Genoa).under(testbed::snp::Root::Other).ark_der()),
    ];
    for (name, place, der) in cases {
        compare(table, &genuine.with(name, |case| case.certificates[place] = der));
    }
    let impostor = SoftPlatform::new(Line::Genoa).under(testbed::snp::Root::Other);
    let forged = SnpCase::soft("everything under another root", &impostor, &impostor.report());
    compare(table, &forged);
    let revoked = platform.crl_der(&[platform.serial(testbed::snp::Authority::Ask)]);
    compare(table, &genuine.with("a revoked ASK", |case| case.crls.push(revoked)));
}

/// Real reports with their VCEK or VLEK, judged while it was valid.
fn real(table: &mut Table) {
    let Some(folder) = folder() else { return };
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.join("snp")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(stem) = name.strip_suffix(".report.bin") else { continue };
        let (kind, authority) = if stem.contains("vlek") { ("vlek", "asvk") } else { ("vcek", "ask") };
        let line = match stem.trim_start_matches("neg-").split('-').next() {
            Some("milan") => "milan",
            Some("genoa" | "siena") => "genoa",
            Some("turin") => "turin",
            _ => continue,
        };
        let leaf = folder.join(format!("snp/{stem}.{kind}.der"));
        let intermediate = folder.join(format!("snp/ca/{line}-{authority}.der"));
        let (Ok(leaf), Ok(intermediate)) = (std::fs::read(leaf), std::fs::read(intermediate)) else { continue };
        let certificates = [leaf, intermediate, read(&folder, &format!("snp/ca/{line}-ark.der"))];
        let report = read(&folder, &format!("snp/{name}"));
        // The VLEK was valid for a year from December 2024.
        let at = if kind == "vlek" { UnixTime::parse("2025-06-01T00:00:00Z") } else { UnixTime::parse("2026-07-01T00:00:00Z") };
        let case = SnpCase { name: stem.to_owned(), report, certificates, crls: Vec::new(), soft: None, at: at.unwrap().seconds() };
        if kind == "vlek" {
            assert!(case.judge().is_accepted(), "{stem} while its VLEK was valid");
        }
        compare(table, &case);
        seen += 1;
    }
    assert_eq!(seen, 25, "real reports with their leaf");
}

#[test]
fn a_row_names_a_code_of_ours_or_words_and_a_rule_of_the_page() {
    rules_are_written(ROWS);
    for row in ROWS {
        assert!(!matches!(row.difference, Difference::Refused(code) if !attestation::Rejection::CODES.contains(&code)), "{row:?}");
    }
}
