//! Real evidence, made by real hardware: the folder of vectors where there is one, and what the `sev` crate publishes everywhere.
//!
//! The folder's `vectors.json` says what each item is and what an independent tool made of it; every row on SNP must get its verdict
//! here, and a row that no test knows fails.

use std::path::{Path, PathBuf};

use protocol::encoding::sha256;
use protocol::time::UnixTime;
use serde_json::Value;

use super::crl::Lists;
use super::leaf::issuer_name;
use super::{pss, report::Report};
use crate::anchors::Anchors;
use crate::claims::{PlatformClaims, ProductLine, Revocation, SecondOpinion, SigningKeyKind, SnpClaims};
use crate::collateral::{Collateral, Lapsed, PreparedCollateral};
use crate::evidence::{Evidence, Rejected, ReportDataRule, SnpEvidence};
use crate::rejection::Rejection;
use crate::vectors::{folder, read};
use crate::x509::Certificate;
use crate::x509::crl::RevocationList;
use crate::{GenuineEvidence, judge_with_steps};

/// A row of `vectors.json`.
struct Row {
    files: String,
    claims: String,
    verdict: String,
}

fn rows(folder: &Path) -> Vec<Row> {
    let json: Vec<Value> = serde_json::from_slice(&read(folder, "vectors.json")).unwrap();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    json.iter()
        .map(|row| Row { files: text(row, "files"), claims: text(row, "claims"), verdict: text(row, "verdict") })
        .filter(|row| row.files.starts_with("snp/"))
        .collect()
}

/// One report with the certificates and lists that the operator would hold.
struct Case {
    evidence: Evidence,
    collateral: Collateral,
}

impl Case {
    fn new(report: Vec<u8>, certificates: Vec<Vec<u8>>) -> Self {
        Self { evidence: Evidence::Snp(SnpEvidence { report, certificates, crls: Vec::new() }), collateral: Collateral::default() }
    }

    fn judge(&self, at: UnixTime) -> Result<GenuineEvidence, Rejected> {
        let anchors = Anchors::vendor();
        let collateral = PreparedCollateral::prepare(self.collateral.clone(), &anchors);
        judge_with_steps(&self.evidence, &collateral, &anchors, ReportDataRule::NotCompared, Lapsed::Rejected, at)
    }

    fn snp(&mut self) -> &mut SnpEvidence {
        let Evidence::Snp(evidence) = &mut self.evidence else { panic!("not of SNP") };
        evidence
    }
}

fn claims(genuine: &GenuineEvidence) -> &SnpClaims {
    let PlatformClaims::Snp(claims) = genuine.platform() else { panic!("not of SNP") };
    claims
}

/// The days in `… valid 2023-04-03..2030-04-03`.
fn window(verdict: &str) -> (UnixTime, UnixTime) {
    let (_, days) = verdict.rsplit_once("valid ").unwrap_or_else(|| panic!("no window in {verdict:?}"));
    let (from, until) = days.split_once("..").unwrap();
    let day = |text: &str| UnixTime::parse(&format!("{}T00:00:00Z", &text[..10])).unwrap();
    (day(from), day(until))
}

const DAY: u64 = 86_400;

fn days_after(time: UnixTime, days: u64) -> UnixTime {
    UnixTime::from_seconds(time.seconds() + days * DAY)
}

fn line_of(name: &str) -> ProductLine {
    let name = name.trim_start_matches("snp/").trim_start_matches("ca/").trim_start_matches("crl/");
    match name.split('-').next() {
        Some("milan") => ProductLine::Milan,
        Some("genoa" | "siena") => ProductLine::Genoa,
        Some("turin") => ProductLine::Turin,
        other => panic!("no line in {other:?}"),
    }
}

/// The leaf certificates of a report: `NAME.vcek.der`, `NAME.vcek-alt1.der`, `NAME.vlek.der`.
fn leaves(folder: &Path, stem: &str) -> Vec<Vec<u8>> {
    let name = stem.trim_start_matches("snp/");
    let mut names: Vec<String> = std::fs::read_dir(folder.join("snp"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|file| file.ends_with(".der"))
        .filter(|file| file.strip_prefix(name).is_some_and(|rest| rest.starts_with(".vcek") || rest.starts_with(".vlek")))
        .collect();
    names.sort_by_key(|name| (name.len(), name.clone()));
    names.iter().map(|file| read(folder, &format!("snp/{file}"))).collect()
}

#[test]
fn every_real_report_gets_its_expected_verdict() {
    let Some(folder) = folder() else { return };
    let mut reports = 0;
    for row in rows(&folder) {
        let Some((stem, _)) = row.files.split_once(".report.bin") else { continue };
        let report = read(&folder, &format!("{stem}.report.bin"));
        reports += 1;
        if row.verdict.starts_with("ACCEPT") {
            accepted(&folder, stem, &report, &row);
        } else {
            let parsed = Report::parse(&report).unwrap_or_else(|error| panic!("{stem}: {error}"));
            let kind = parsed.signing_key().unwrap();
            let rejected = Case::new(report.clone(), Vec::new()).judge(days_after(UnixTime::from_seconds(0), 20_000)).unwrap_err();
            assert_eq!(rejected.rejection, Rejection::LeafMissing { kind }, "{stem}");
            assert_eq!(rejected.passed.len(), 3, "{stem}");
        }
    }
    assert!(reports >= 28, "only {reports} reports");
}

fn accepted(folder: &Path, stem: &str, report: &[u8], row: &Row) {
    let (from, until) = window(&row.verdict);
    let leaves = leaves(folder, stem);
    assert!(!leaves.is_empty(), "{stem}: no leaf certificate");
    // The first leaf's window is the row's; the others are reissues under the same key.
    let case = Case::new(report.to_vec(), vec![leaves[0].clone()]);
    let genuine = case.judge(days_after(from, 2)).unwrap_or_else(|error| panic!("{stem}: {error} {:?}", error.passed));
    assert_eq!(genuine.steps().len(), crate::STEPS.len(), "{stem}");
    let claims = claims(&genuine);
    assert_eq!(claims.product, line_of(stem), "{stem}");
    assert_eq!(claims.second_opinion, SecondOpinion::Agreed, "{stem}");
    assert_eq!(claims.revocation, Revocation::Unknown, "{stem}");
    assert_eq!(claims.guest_policy.debug, stem.contains("DEBUG"), "{stem}");
    assert_eq!(claims.signing_key == SigningKeyKind::Vlek, stem.contains("vlek"), "{stem}");
    assert_eq!(claims.chip_id.is_none(), stem.contains("vlek"), "{stem}");
    same_as_independently_read(stem, claims, report, &row.claims);
    for leaf in &leaves {
        let valid = Certificate::parse(leaf).unwrap();
        let case = Case::new(report.to_vec(), vec![leaf.clone()]);
        case.judge(valid.not_before).unwrap_or_else(|error| panic!("{stem}: {error}"));
        case.judge(valid.not_after).unwrap_or_else(|error| panic!("{stem}: {error}"));
    }
    let early = case.judge(UnixTime::from_seconds(from.seconds() - 2 * DAY)).unwrap_err();
    assert!(matches!(early.rejection, Rejection::ChainNotYetValid { certificate: "VCEK" | "VLEK", .. }), "{stem}: {early}");
    let late = case.judge(days_after(until, 2)).unwrap_err();
    assert!(matches!(late.rejection, Rejection::ChainExpired { certificate: "VCEK" | "VLEK", .. }), "{stem}: {late}");
}

/// Compares with `v3 fms=190101 fw=1.55.29 policy=0x30000 debug=False vmpl=0 …; measurement=…`.
fn same_as_independently_read(stem: &str, claims: &SnpClaims, report: &[u8], expected: &str) {
    let mut compared = 0;
    for (key, value) in expected.split([' ', ';']).filter_map(|pair| pair.split_once('=')) {
        let found = match key {
            "fw" => claims.current_version.to_string(),
            "policy" => format!("{:#x}", claims.guest_policy.raw),
            "debug" => if claims.guest_policy.debug { "True" } else { "False" }.to_owned(),
            "vmpl" => claims.vmpl.to_string(),
            "plat_info" => format!("{:#x}", claims.platform_info),
            "guest_svn" => claims.guest_svn.to_string(),
            "measurement" => hex::encode(claims.measurement),
            "report_data" => hex::encode(claims.report_data),
            "host_data" => hex::encode(claims.host_data),
            "fms" if value == "-" => "-".to_owned(),
            "fms" => hex::encode(&report[0x188..0x18b]),
            _ => continue,
        };
        assert_eq!(found, value, "{stem}: {key}");
        compared += 1;
    }
    assert!(compared >= 10, "{stem}: compared only {compared} fields of {expected:?}");
    assert!(expected.starts_with(&format!("v{} ", claims.version)), "{stem}");
}

#[test]
fn every_other_row_gets_its_expected_verdict() {
    let Some(folder) = folder() else { return };
    for row in rows(&folder) {
        let name = row.files.split([' ', '/']).take_while(|part| *part != ".pem").collect::<Vec<_>>().join("/");
        let name = name.trim_end_matches("/.pem");
        match name {
            name if name.contains(".report.bin") => {}
            name if name.starts_with("snp/ca/") => authority(&folder, name, &row),
            name if name.starts_with("snp/crl/") => list(&folder, name, &row),
            "snp/neg-genoa-v3-yaxi.vcek-product-turin.der" => {
                let rejection = with_leaf(&folder, "snp/genoa-v3-yaxi", name, "2025-08-01T00:00:00Z").unwrap_err().rejection;
                let expected = Rejection::LeafProductMismatch { expected: ProductLine::Genoa, found: ProductLine::Turin };
                assert_eq!(rejection, expected);
            }
            "snp/neg-milan-vcek-invalid-new.der" | "snp/neg-milan-vcek-invalid-legacy.der" => {
                let rejected = with_leaf(&folder, "snp/milan-v3-dstack", name, "2026-07-01T00:00:00Z").unwrap_err();
                // The one is signed by somebody else; the other has its HWID in an OCTET STRING besides.
                let expected = match name.contains("legacy") {
                    false => Rejection::ChainSignature { line: ProductLine::Milan },
                    true => Rejection::LeafExtensionValue { name: "hwID" },
                };
                assert_eq!(rejected.rejection, expected, "{name}");
            }
            "snp/vcek-turin-sevcrate.der" => leaf_without_report(&folder, name),
            "snp/milan-v2-gosevguest-DEBUG.vcek-kds2026.der" => {
                let genuine = with_leaf(&folder, "snp/milan-v2-gosevguest-DEBUG", name, "2026-09-01T00:00:00Z").unwrap();
                assert!(claims(&genuine).guest_policy.debug);
            }
            other => panic!("no test knows the row {other:?}"),
        }
    }
}

fn with_leaf(folder: &Path, stem: &str, leaf: &str, at: &str) -> Result<GenuineEvidence, Rejected> {
    let report = read(folder, &format!("{stem}.report.bin"));
    Case::new(report, vec![read(folder, leaf)]).judge(UnixTime::parse(at).unwrap())
}

/// An ARK is the pinned key; an ASK or ASVK is signed by it; and none of the files is what its row does not say.
fn authority(folder: &Path, name: &str, row: &Row) {
    let der = read(folder, name);
    assert!(row.claims.contains(&sha256(&der).to_string()), "{name}");
    let anchors = Anchors::vendor();
    let root = anchors.root(line_of(name)).unwrap();
    let certificate = Certificate::parse(&der).unwrap();
    assert!(pss::is_signed_by(&certificate.signed, &root.key), "{name}");
    if row.verdict == "trust anchor" {
        assert_eq!((certificate.key, certificate.subject), (root.key.as_slice(), root.subject.as_slice()), "{name}");
        assert_eq!(certificate.window("ARK"), root.valid, "{name}");
    } else if !name.contains("REVOKED") {
        assert!(anchors.intermediates().any(|compiled_in| compiled_in == der), "{name} is not compiled in");
    }
}

/// A list verifies under the line's root and names whom its row says.
fn list(folder: &Path, name: &str, row: &Row) {
    let anchors = Anchors::vendor();
    let root = anchors.root(line_of(name)).unwrap();
    let collateral = [read(folder, name)];
    let lists = Lists::verify(&[], &collateral, root).unwrap();
    let subject = issuer_name(SigningKeyKind::Vcek, root.line);
    for authority in ["ask", "asvk", "ask-20001-REVOKED"] {
        let file = format!("snp/ca/{}-{authority}.der", root.line.as_str().to_lowercase());
        let Ok(der) = std::fs::read(folder.join(file)) else { continue };
        let verdict = lists.check_authority(root.line, &subject, Certificate::parse(&der).unwrap().serial);
        let revoked = authority.contains("REVOKED");
        assert_eq!(verdict.is_err(), revoked, "{name}: {authority}");
        assert!(!revoked || row.claims.contains("0x20001"), "{name}");
    }
    let mut forged = collateral[0].clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let refused = Lists::verify(&[], &[forged], root).err();
    assert_eq!(refused, Some(Rejection::CrlSignature { index: 0, line: root.line }), "{name}");
}

fn leaf_without_report(folder: &Path, name: &str) {
    let der = read(folder, name);
    let leaf = Certificate::parse(&der).unwrap();
    let anchors = Anchors::vendor();
    let issuer = anchors.intermediates().map(|der| Certificate::parse(der).unwrap()).find(|issuer| issuer.subject == leaf.issuer);
    assert!(pss::is_signed_by(&leaf.signed, issuer.unwrap().key), "{name}");
}

#[test]
fn a_real_list_is_fresh_within_its_window_and_stale_after_it() {
    let Some(folder) = folder() else { return };
    for (stem, crl, fresh, stale) in [
        ("snp/milan-v3-oak-cb", "snp/crl/milan-ark-20250506.crl.der", "2025-06-01T00:00:00Z", "2026-06-01T00:00:00Z"),
        ("snp/milan-v3-aws-vlek-trustee", "snp/crl/milan-ark-20250506.crl.der", "2025-12-01T00:00:00Z", ""),
        ("snp/genoa-v3-yaxi", "snp/crl/genoa-ark-20241023.crl.der", "2025-08-01T00:00:00Z", "2025-12-01T00:00:00Z"),
    ] {
        let mut case = Case::new(read(&folder, &format!("{stem}.report.bin")), leaves(&folder, stem));
        case.collateral.crls.push(read(&folder, crl));
        let revocation = |at: &str| claims(&case.judge(UnixTime::parse(at).unwrap()).unwrap()).revocation;
        assert!(matches!(revocation(fresh), Revocation::Checked { .. }), "{stem}: {}", revocation(fresh));
        if !stale.is_empty() {
            assert!(matches!(revocation(stale), Revocation::Stale { .. }), "{stem}: {}", revocation(stale));
        }
    }
}

#[test]
fn a_really_revoked_authority_is_refused_even_by_a_stale_list() {
    let Some(folder) = folder() else { return };
    let stem = "snp/genoa-v3-yaxi";
    let mut case = Case::new(read(&folder, &format!("{stem}.report.bin")), leaves(&folder, stem));
    case.collateral.crls.push(read(&folder, "snp/crl/genoa-ark-20241023.crl.der"));
    case.judge(UnixTime::parse("2025-08-01T00:00:00Z").unwrap()).unwrap();
    case.snp().certificates.push(read(&folder, "snp/ca/genoa-ask-20001-REVOKED.der"));
    let expected = Rejection::AuthorityRevoked { line: ProductLine::Genoa, subject: "SEV-Genoa".to_owned(), serial: "20001".to_owned() };
    for at in ["2025-08-01T00:00:00Z", "2025-12-01T00:00:00Z"] {
        assert_eq!(case.judge(UnixTime::parse(at).unwrap()).unwrap_err().rejection, expected);
    }
}

#[test]
fn the_chain_that_the_attester_brings_is_a_cache() {
    let Some(folder) = folder() else { return };
    let at = UnixTime::parse("2026-07-01T00:00:00Z").unwrap();
    let stem = "snp/milan-v3-dstack";
    let mut case = Case::new(read(&folder, &format!("{stem}.report.bin")), leaves(&folder, stem));
    // Its own authorities in any order, and those of another line: the leaf is found, the rest is no matter.
    for name in ["genoa-ark", "milan-ark", "genoa-ask", "milan-ask", "milan-asvk"] {
        case.snp().certificates.insert(0, read(&folder, &format!("snp/ca/{name}.der")));
    }
    case.judge(at).unwrap();
}

#[test]
fn no_bit_of_a_real_report_can_be_changed() {
    let Some(folder) = folder() else { return };
    let at = UnixTime::parse("2026-07-01T00:00:00Z").unwrap();
    let stem = "snp/milan-v3-dstack";
    let genuine = read(&folder, &format!("{stem}.report.bin"));
    let mut case = Case::new(genuine.clone(), leaves(&folder, stem));
    case.judge(at).unwrap();
    for position in 0..genuine.len() {
        let mut changed = genuine.clone();
        changed[position] ^= 1 << (position % 8);
        case.snp().report = changed;
        assert!(case.judge(at).is_err(), "byte {position:#x}");
    }
    for length in [0, 1, 1183, 1185] {
        let mut changed = genuine.clone();
        changed.resize(length, 0);
        case.snp().report = changed;
        let expected = Rejection::ReportLength { expected: 1184, found: length };
        assert_eq!(case.judge(at).unwrap_err().rejection, expected);
    }
}

#[test]
fn no_byte_of_a_real_certificate_or_list_can_be_changed() {
    let Some(folder) = folder() else { return };
    let at = UnixTime::parse("2025-06-01T00:00:00Z").unwrap();
    let stem = "snp/milan-v3-oak-cb";
    let (leaf, crl) = (leaves(&folder, stem).remove(0), read(&folder, "snp/crl/milan-ark-20250506.crl.der"));
    let mut case = Case::new(read(&folder, &format!("{stem}.report.bin")), vec![leaf.clone()]);
    case.collateral.crls.push(crl.clone());
    case.judge(at).unwrap();
    for position in 0..leaf.len() {
        case.snp().certificates[0][position] ^= 1;
        assert!(case.judge(at).is_err(), "leaf, byte {position:#x}");
        case.snp().certificates[0][position] ^= 1;
    }
    for position in 0..crl.len() {
        case.collateral.crls[0][position] ^= 1;
        // One that bears another name is no list of this root: it proves nothing, as if nobody had brought it.
        let proves_nothing = |genuine| claims(&genuine).revocation == Revocation::Unknown;
        assert!(case.judge(at).map_or(true, proves_nothing), "list, byte {position:#x}");
        case.collateral.crls[0][position] ^= 1;
    }
    assert!(RevocationList::parse(&crl[..crl.len() - 1]).is_err());
}

/// Files of the `sev` crate that cargo has unpacked for its build.
fn published() -> PathBuf {
    let metadata = cargo_metadata::MetadataCommand::new().manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).exec().unwrap();
    let sev = metadata.packages.iter().find(|package| package.name.as_str() == "sev").unwrap();
    sev.manifest_path.parent().unwrap().join("tests/certs_data").into()
}

#[test]
fn the_published_milan_report_is_genuine() {
    let folder = published();
    let text = String::from_utf8(read(&folder, "report_milan.hex")).unwrap();
    let report = hex::decode(text.split_whitespace().collect::<String>()).unwrap();
    let mut case = Case::new(report, vec![read(&folder, "vcek_milan.der")]);
    let at = UnixTime::parse("2026-01-01T00:00:00Z").unwrap();
    let genuine = case.judge(at).unwrap();
    let claims = claims(&genuine);
    assert_eq!((claims.version, claims.product), (2, ProductLine::Milan));
    assert_eq!(claims.stepping.as_deref(), Some("B0"));
    assert_eq!(claims.second_opinion, SecondOpinion::Agreed);
    // The near miss: the last bit of the measurement.
    case.snp().report[0xbf] ^= 1;
    assert_eq!(case.judge(at).unwrap_err().rejection, Rejection::Signature { kind: SigningKeyKind::Vcek });
}

#[test]
fn the_published_turin_certificate_chains_to_the_pinned_root() {
    leaf_without_report(&published(), "vcek_turin.der");
}
