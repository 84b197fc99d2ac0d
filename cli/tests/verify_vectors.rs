//! Every SNP row of the evidence folder gets its expected verdict from `portcullis verify`.

mod terminal;

use std::path::{Path, PathBuf};

use cli::Exit;
use serde::Deserialize;
use terminal::{Ran, evidence, portcullis};

#[derive(Deserialize)]
struct Row {
    files: String,
    claims: String,
    verdict: String,
}

fn rows(evidence: &Path) -> Vec<Row> {
    let rows: Vec<Row> = serde_json::from_slice(&std::fs::read(evidence.join("vectors.json")).unwrap()).unwrap();
    rows.into_iter().filter(|row| row.files.starts_with("snp/")).collect()
}

fn verify(arguments: &[&Path], flags: &[&str]) -> Ran {
    let paths = arguments.iter().map(|path| path.as_os_str().to_owned());
    portcullis(std::iter::once("verify".into()).chain(paths).chain(flags.iter().map(|flag| (*flag).into())))
}

/// A report with one certificate.
fn judge(report: &Path, certificate: &Path, flags: &[&str]) -> Ran {
    let mut arguments: Vec<std::ffi::OsString> = vec!["verify".into(), report.into(), "--cert".into(), certificate.into()];
    arguments.extend(flags.iter().map(Into::into));
    portcullis(arguments)
}

/// The certificates that lie beside a report: `NAME.vcek.der`, `NAME.vlek.der`, and others of the same key.
fn certificates_of(report: &Path) -> Vec<PathBuf> {
    let name = report.file_name().unwrap().to_str().unwrap().strip_suffix("report.bin").unwrap().to_owned();
    let mut found: Vec<PathBuf> = std::fs::read_dir(report.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "der"))
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&name))
        .collect();
    found.sort();
    found
}

/// The report that a row begins with, where it is one.
fn report_of(row: &Row) -> Option<&str> {
    let (file, _) = row.files.split_once(".report.bin")?;
    Some(file)
}

/// When the row's verdict holds: now, or the last day of a VLEK, which lives one year.
fn at(row: &Row) -> Option<String> {
    let (_, window) = row.verdict.split_once("VLEK valid ")?;
    let (_, until) = window.split_once("..")?;
    Some(format!("{}T00:00:00Z", until.get(..10)?))
}

#[test]
fn every_genuine_report_is_genuine_with_each_of_its_certificates_and_says_what_the_index_says() {
    let Some(evidence) = evidence() else { return };
    let mut judged = 0;
    for row in rows(&evidence) {
        let Some(name) = report_of(&row).filter(|_| row.verdict.starts_with("ACCEPT")) else { continue };
        let report = evidence.join(format!("{name}.report.bin"));
        let certificates = certificates_of(&report);
        assert!(!certificates.is_empty(), "{name} has no certificate");
        for certificate in certificates {
            let time = at(&row);
            let mut flags = vec!["--json"];
            flags.extend(time.iter().flat_map(|time| ["--at", time.as_str()]));
            let ran = judge(&report, &certificate, &flags);
            assert_eq!(ran.exit, Exit::Done, "{name} with {}: {}", certificate.display(), ran.err);
            let json = ran.json();
            assert_eq!(json["verdict"], "genuine");
            assert_eq!(json["anchors"], "vendor");
            assert_eq!(json["steps"].as_array().unwrap().len(), attestation::STEPS.len());
            assert!(json["reason"].as_array().unwrap().is_empty());
            compare(&row, &json["claims"], name);
            judged += 1;
        }
    }
    assert!(judged >= 25, "only {judged} were judged");
}

/// The claims against what an independent tool read: `key=value` words in the index.
fn compare(row: &Row, claims: &serde_json::Value, name: &str) {
    let words = row.claims.split([' ', ';']).filter_map(|word| word.split_once('='));
    for (key, expected) in words {
        let found = match key {
            "measurement" | "report_data" | "host_data" => claims[key].as_str().unwrap().to_owned(),
            "vmpl" | "guest_svn" => claims[key].to_string(),
            "policy" => claims["guest_policy"]["raw"].as_str().unwrap().to_owned(),
            "debug" => if claims["guest_policy"]["debug"].as_bool().unwrap() { "True" } else { "False" }.to_owned(),
            "plat_info" => claims["platform_info"].as_str().unwrap().to_owned(),
            _ => continue,
        };
        assert_eq!(found, expected, "{key} of {name}");
    }
}

#[test]
fn every_report_without_certificate_is_rejected_as_that() {
    let Some(evidence) = evidence() else { return };
    let mut judged = 0;
    for row in rows(&evidence) {
        let Some(name) = report_of(&row).filter(|name| name.starts_with("snp/nocert-") || name.starts_with("snp/neg-")) else { continue };
        let ran = verify(&[&evidence.join(format!("{name}.report.bin"))], &["--json"]);
        assert_eq!(ran.exit, Exit::Failed, "{name}");
        assert_eq!(ran.json()["reason"], serde_json::json!(["snp-leaf-missing"]), "{name}");
        assert!(ran.err.ends_with("reason: snp-leaf-missing\n"), "{}", ran.err);
        judged += 1;
    }
    assert!(judged >= 3, "only {judged} were judged");
}

#[test]
fn every_forged_certificate_is_rejected() {
    let Some(evidence) = evidence() else { return };
    let mut judged = 0;
    for row in rows(&evidence) {
        let is_certificate = row.files.starts_with("snp/neg-") && row.files.ends_with(".der");
        if !is_certificate {
            continue;
        }
        // Each beside the report of the very chip that it speaks of, whose own certificate is genuine.
        let (report, at, code) = match row.files.as_str() {
            "snp/neg-genoa-v3-yaxi.vcek-product-turin.der" => ("genoa-v3-yaxi", "2025-08-01T00:00:00Z", "snp-leaf-product-mismatch"),
            "snp/neg-milan-vcek-invalid-legacy.der" => ("milan-v3-dstack", "2026-07-01T00:00:00Z", "snp-leaf-extension-value"),
            "snp/neg-milan-vcek-invalid-new.der" => ("milan-v3-dstack", "2026-07-01T00:00:00Z", "snp-chain-signature"),
            other => panic!("no test knows the row {other:?}"),
        };
        let path = |file: &str| evidence.join("snp").join(file);
        let judge = |certificate: &Path| judge(&path(&format!("{report}.report.bin")), certificate, &["--json", "--at", at]);
        let ran = judge(&evidence.join(&row.files));
        assert_eq!((ran.exit, ran.json()["reason"].clone()), (Exit::Failed, serde_json::json!([code])), "{}: {}", row.files, ran.err);
        judge(&path(&format!("{report}.vcek.der"))).done();
        assert!(row.verdict.starts_with("REJECT"));
        judged += 1;
    }
    assert!(judged >= 3, "only {judged} were judged");
}

#[test]
fn a_certificate_of_another_chip_is_rejected() {
    let Some(evidence) = evidence() else { return };
    let other = evidence.join("snp/milan-v3-oak-cb.vcek.der");
    let ran = judge(&evidence.join("snp/milan-v2-sevcrate.report.bin"), &other, &["--json"]);
    assert_eq!((ran.exit, ran.json()["reason"][0].as_str()), (Exit::Failed, Some("snp-signature")));
}

#[test]
fn a_revoked_authority_is_rejected_where_the_list_is_given_and_its_successor_is_not() {
    let Some(evidence) = evidence() else { return };
    let report = evidence.join("snp/genoa-v3-yaxi.report.bin");
    let leaf = evidence.join("snp/genoa-v3-yaxi.vcek.der");
    let crl = evidence.join("snp/crl/genoa-ark-20241023.crl.der");
    let flags = ["--json", "--at", "2025-08-01T00:00:00Z"];
    let judge_with = |authority: &str| {
        let authority = evidence.join(authority);
        let mut arguments: Vec<std::ffi::OsString> = vec!["verify".into(), report.clone().into(), "--cert".into(), leaf.clone().into()];
        arguments.extend(["--cert".into(), authority.into(), "--crl".into(), crl.clone().into()]);
        arguments.extend(flags.iter().map(Into::into));
        portcullis(arguments)
    };
    for revoked in ["snp/ca/genoa-ask-20001-REVOKED.der", "snp/ca/genoa-ask-20001-REVOKED.pem"] {
        let ran = judge_with(revoked);
        assert_eq!((ran.exit, ran.json()["reason"][0].as_str()), (Exit::Failed, Some("snp-authority-revoked")));
    }
    let good = judge_with("snp/ca/genoa-ask.pem").done().json();
    assert_eq!(good["claims"]["revocation"]["status"], "checked");
}

#[test]
fn the_age_of_a_revocation_list_is_a_claim() {
    let Some(evidence) = evidence() else { return };
    let report = evidence.join("snp/milan-v3-oak-cb.report.bin");
    let crl = evidence.join("snp/crl/milan-ark-20250506.crl.der");
    for (at, status) in [("2025-12-01T00:00:00Z", "checked"), ("2026-11-01T00:00:00Z", "stale")] {
        let ran = judge(&report, &evidence.join("snp/milan-v3-oak-cb.vcek.der"), &["--crl", crl.to_str().unwrap(), "--json", "--at", at]);
        assert_eq!(ran.done().json()["claims"]["revocation"]["status"], status);
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_report_is_rejected() {
    let Some(evidence) = evidence() else { return };
    let folder = tempfile::tempdir().unwrap();
    let genuine = std::fs::read(evidence.join("snp/turin-v5-azure-tav.report.bin")).unwrap();
    let path = folder.path().join("report.bin");
    for at in (0..genuine.len()).step_by(37) {
        let mut changed = genuine.clone();
        changed[at] ^= 0x10;
        std::fs::write(&path, changed).unwrap();
        let ran = judge(&path, &evidence.join("snp/turin-v5-azure-tav.vcek.der"), &[]);
        assert_eq!(ran.exit, Exit::Failed, "byte {at}: {}", ran.out);
    }
}

#[test]
fn real_evidence_is_never_genuine_under_test_roots() {
    let Some(evidence) = evidence() else { return };
    let folder = tempfile::tempdir().unwrap();
    let anchors = folder.path().join("anchors.pem");
    let ark = testbed::snp::SoftPlatform::new(testbed::snp::Line::Milan);
    std::fs::write(&anchors, pem("CERTIFICATE", &ark.ark_der())).unwrap();
    let ran = judge(
        &evidence.join("snp/milan-v2-sevcrate.report.bin"),
        &evidence.join("snp/milan-v2-sevcrate.vcek.der"),
        &["--anchors", anchors.to_str().unwrap(), "--json"],
    );
    assert_eq!((ran.exit, ran.json()["anchors"].as_str()), (Exit::Failed, Some("test")));
    assert!(ran.err.starts_with("warning: TEST ROOTS"), "{}", ran.err);
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = protocol::encoding::to_base64(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
