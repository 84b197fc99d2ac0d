//! `portcullis verify` over a soft platform: every way to hand in evidence, policies, and wrong use.

mod terminal;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cli::Exit;
use serde_json::json;
use tempfile::TempDir;
use terminal::{Ran, portcullis};
use testbed::snp::{Authority, GuestShape, Leaf, Line, SoftPlatform};

/// A folder with one guest's evidence in all its forms.
struct Bench {
    folder: TempDir,
    platform: SoftPlatform,
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = protocol::encoding::to_base64(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

impl Bench {
    fn new(shape: GuestShape) -> Self {
        let (folder, platform) = (tempfile::tempdir().unwrap(), SoftPlatform::new(Line::Genoa));
        let evidence = platform.guest(shape).attest(&[7; 64]);
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("report.bin", &evidence.report);
        write("table.bin", &evidence.certificate_table);
        write("both.bin", &[evidence.report, evidence.certificate_table].concat());
        write("vcek.der", &platform.vcek_der());
        write("ask.der", &platform.ask_der());
        write("chain.pem", (pem("CERTIFICATE", &platform.vcek_der()) + &pem("CERTIFICATE", &platform.ask_der())).as_bytes());
        write("anchors.pem", pem("CERTIFICATE", &platform.ark_der()).as_bytes());
        write("crl.der", &platform.crl_der(&[]));
        write("crl.pem", pem("X509 CRL", &platform.crl_der(&[])).as_bytes());
        Self { folder, platform }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// Runs `verify` under the soft root; words that are names of files here become their paths.
    fn verify(&self, words: &str) -> Ran {
        self.verify_bare(&format!("{words} --anchors anchors.pem"))
    }

    fn verify_bare(&self, words: &str) -> Ran {
        let word = |word: &str| if Path::new(word).extension().is_some() { self.path(word).into() } else { OsString::from(word) };
        portcullis(std::iter::once(OsString::from("verify")).chain(words.split(' ').map(word)))
    }
}

fn genuine() -> Bench {
    Bench::new(GuestShape::default())
}

const UNKNOWN: &str = "revocation is unknown: no list that is about this chain was given; --crl or --collateral takes AMD's\n";

const LOUD: &str = "warning: TEST ROOTS: this verdict says nothing about any real processor\n";

#[test]
fn evidence_is_taken_in_every_form() {
    let bench = genuine();
    for words in [
        "both.bin",
        "report.bin --cert-table table.bin",
        "report.bin --cert vcek.der --cert ask.der",
        "report.bin --cert chain.pem",
        "both.bin --crl crl.der",
        "both.bin --crl crl.pem",
    ] {
        let ran = bench.verify(words).done();
        assert!(ran.out.contains("\ngenuine\n"), "{words}: {}", ran.out);
        let unknown = if words.contains("--crl") { "" } else { UNKNOWN };
        assert_eq!(ran.err, format!("{LOUD}{unknown}"), "{words}");
    }
}

#[test]
fn the_json_has_the_documented_shape() {
    let bench = genuine();
    let json = bench.verify("both.bin --crl crl.der --json --at 2026-06-01T12:00:00+02:00").json();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["anchors", "at", "claims", "reason", "steps", "verdict"]);
    assert_eq!((json["anchors"].as_str(), json["at"].as_str()), (Some("test"), Some("2026-06-01T10:00:00Z")));
    assert_eq!(json["steps"][0]["number"], 1);
    assert_eq!(json["steps"][0]["name"], attestation::STEPS[0]);
    assert!(json["steps"][0]["compared"].is_string());
    assert_eq!(json["claims"]["platform"], "sev-snp");
    assert_eq!(json["claims"]["product"], "genoa");
}

#[test]
fn report_data_is_compared_where_it_is_given() {
    let bench = genuine();
    bench.verify(&format!("both.bin --report-data {}", "07".repeat(64))).done();
    let ran = bench.verify(&format!("both.bin --json --report-data {}", "08".repeat(64)));
    assert_eq!((ran.exit, ran.json()["rejection"]["code"].as_str()), (Exit::Failed, Some("snp-report-data")));
    assert_eq!(ran.json()["rejection"]["step"], 10);
    assert_eq!(ran.json()["steps"].as_array().unwrap().len(), 9);
    assert!(ran.json().get("claims").is_none());
    let short = bench.verify("both.bin --report-data 0708");
    assert_eq!(short.exit, Exit::Usage);
    assert!(short.err.contains("expected 128 hex digits (64 bytes), found 4 characters"), "{}", short.err);
}

#[test]
fn a_rejection_names_step_reason_and_hint() {
    let bench = genuine();
    let ran = bench.verify("report.bin");
    assert!(ran.out.contains("FAIL  leaf certificate"), "{}", ran.out);
    assert!(ran.out.ends_with("\nrejected\n"));
    let expected = format!(
        "{LOUD}error: rejected at step 4: no VCEK certificate came with the report\n\
         hint: give the chip's VCEK or the provider's VLEK with --cert, or the host's table with --cert-table\n\
         reason: snp-leaf-missing\n"
    );
    ran.refused(Exit::Failed, &expected);
}

#[test]
fn evidence_that_is_ill_formed_is_rejected_and_not_wrong_use() {
    let bench = genuine();
    let report = std::fs::read(bench.path("report.bin")).unwrap();
    for (bytes, code) in [
        (Vec::new(), "snp-report-length"),
        (report[..1183].to_vec(), "snp-report-length"),
        ([report.as_slice(), &[1]].concat(), "snp-certificate-table"),
        ([report.as_slice(), &[0xff; 100_000]].concat(), "snp-certificate-table"),
        (vec![0x55; 1184], "snp-report-version"),
    ] {
        bench.write("bad.bin", bytes);
        let ran = bench.verify("bad.bin --cert chain.pem --json");
        assert_eq!((ran.exit, ran.json()["reason"].clone()), (Exit::Failed, json!([code])));
    }
    bench.write("garbage.der", [0x30, 0x82, 0xff, 0xff, 0]);
    let ran = bench.verify("report.bin --cert garbage.der --json");
    assert_eq!((ran.exit, ran.json()["reason"].clone()), (Exit::Failed, json!(["snp-certificate-malformed"])));
    let ran = bench.verify("both.bin --crl garbage.der --json");
    assert_eq!((ran.exit, ran.json()["reason"].clone()), (Exit::Failed, json!(["snp-crl-malformed"])));
}

#[test]
fn a_soft_platform_is_nothing_under_the_vendors_roots() {
    let ran = genuine().verify_bare("both.bin --json");
    assert_eq!((ran.exit, ran.json()["anchors"].as_str()), (Exit::Failed, Some("vendor")));
    assert!(!ran.err.contains("TEST ROOTS"));
}

#[test]
fn a_revoked_authority_is_rejected() {
    let bench = genuine();
    bench.write("revoked.der", bench.platform.crl_der(&[bench.platform.serial(Authority::Ask)]));
    let ran = bench.verify("both.bin --crl revoked.der --json");
    assert_eq!((ran.exit, ran.json()["reason"].clone()), (Exit::Failed, json!(["snp-authority-revoked"])));
}

#[test]
fn time_is_an_argument() {
    let bench = genuine();
    let ran = bench.verify("both.bin --json --at 1999-01-01T00:00:00Z");
    assert_eq!((ran.exit, ran.json()["reason"].clone()), (Exit::Failed, json!(["snp-chain-not-yet-valid"])));
    assert!(ran.err.contains("hint: to judge evidence as of its own time, add --at\n"));
    assert_eq!(bench.verify("both.bin --at yesterday").exit, Exit::Usage);
}

#[test]
fn wrong_use_ends_with_2_and_says_what_is_wrong() {
    let bench = genuine();
    bench.write("empty.pem", "");
    bench.write("damaged.pem", "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n");
    bench.write("policy.toml", "format = 1\nrolle = \"whole-vm\"\n");
    let path = |name: &str| bench.path(name).display().to_string();
    let cases = [
        ("missing.bin", format!("error: cannot read {}: No such file or directory (os error 2)\n", path("missing.bin"))),
        ("report.bin --cert missing.pem", format!("error: cannot read {}: No such file or directory (os error 2)\n", path("missing.pem"))),
        ("report.bin --cert empty.pem", format!("error: {} is empty; expected certificates as DER or PEM\n", path("empty.pem"))),
        (
            "report.bin --cert crl.pem",
            format!(
                "error: {} holds PEM, but no block `CERTIFICATE`\nhint: certificates go to --cert, revocation lists to --crl, test roots to --anchors\n",
                path("crl.pem")
            ),
        ),
        (
            "both.bin --cert-table table.bin",
            format!(
                "error: {} is longer than a report, so a certificate table follows it, and --cert-table names another\nhint: a report alone has exactly 1184 bytes\n",
                path("both.bin")
            ),
        ),
    ];
    for (words, err) in cases {
        bench.verify(words).refused(Exit::Usage, &format!("{LOUD}{err}"));
    }
    let damaged = bench.verify("report.bin --cert damaged.pem");
    assert_eq!(damaged.exit, Exit::Usage);
    assert!(damaged.err.contains("is damaged PEM"), "{}", damaged.err);
    let policy = bench.verify("both.bin --policy policy.toml");
    assert_eq!(policy.exit, Exit::Usage);
    assert!(policy.err.contains("policy.toml: line 2, column 1: "), "{}", policy.err);
    assert_eq!(bench.verify_bare("").exit, Exit::Usage);
    assert_eq!(bench.verify_bare("both.bin --sure").exit, Exit::Usage);
}

#[test]
fn an_anchor_that_is_no_root_is_wrong_use() {
    let bench = genuine();
    bench.write("leaf.pem", pem("CERTIFICATE", &bench.platform.vcek_der()));
    bench.write("twice.pem", pem("CERTIFICATE", &bench.platform.ark_der()).repeat(2));
    for (name, expected) in [("leaf.pem", "SEV-VCEK"), ("twice.pem", "two ARKs for Genoa")] {
        let ran = bench.verify_bare(&format!("both.bin --anchors {name}"));
        assert_eq!(ran.exit, Exit::Usage);
        assert!(ran.err.contains(expected), "{}", ran.err);
    }
}

/// A policy that the soft guest of `shape` passes, but for what `change` makes of its text.
fn policy(bench: &Bench, change: impl FnOnce(String) -> String) -> String {
    let measurement = bench.verify("both.bin --json").json()["claims"]["measurement"].as_str().unwrap().to_owned();
    let text = format!(
        "format = 1\nrole = \"whole-vm\"\nconfiguration = \"config-is-measured\"\nattestation-lifetime = \"1 hour\"\n\
         [snp]\nvmpl = [0]\n[snp.guest-policy]\nsmt = \"allowed\"\n[snp.measurements]\nsoft = [\"{measurement}\"]\n\
         [snp.products.genoa]\nminimum-tcb = {{ bootloader = 0, tee = 0, snp = 0, microcode = 0 }}\n"
    );
    change(text)
}

#[test]
fn a_policy_that_permits_ends_with_0_and_says_what_it_could_not_ask() {
    let bench = genuine();
    bench.write("policy.toml", policy(&bench, |text| text));
    let ran = bench.verify("both.bin --crl crl.der --policy policy.toml --json").done();
    let json = ran.json();
    assert_eq!((json["verdict"].as_str(), json["policy"]["verdict"].as_str()), (Some("genuine"), Some("permitted")));
    assert!(json["policy"]["left_out"].as_array().unwrap().contains(&json!("role")));
    let text = bench.verify("both.bin --crl crl.der --policy policy.toml").done().out;
    assert!(text.contains("not asked, for want of a guest's session: role"), "{text}");
    assert!(text.ends_with("\ngenuine, and permitted by the policy\n"), "{text}");
}

#[test]
fn a_policy_that_denies_ends_with_3_and_lists_every_failing_check() {
    let bench = Bench::new(GuestShape { policy: 0x3_0000 | 1 << 19, ..GuestShape::default() });
    bench.write("policy.toml", policy(&bench, |text| text.replace("smt = \"allowed\"", "smt = \"denied\"")));
    let ran = bench.verify("both.bin --policy policy.toml --json");
    assert_eq!(ran.exit, Exit::Denied);
    let json = ran.json();
    assert_eq!((json["verdict"].as_str(), json["policy"]["verdict"].as_str()), (Some("denied"), Some("denied")));
    assert_eq!(json["reason"], json!(["revocation-age", "snp-debug", "snp-smt"]));
    let failed = json["policy"]["checks"].as_array().unwrap().iter().filter(|check| check["verdict"] == "failed").count();
    assert_eq!(failed, 3);
    assert!(ran.err.ends_with("error: denied by the policy\nreason: revocation-age\nreason: snp-debug\nreason: snp-smt\n"), "{}", ran.err);
    let text = bench.verify("both.bin --policy policy.toml").out;
    assert!(text.contains("FAIL  snp-debug"), "{text}");
    assert!(text.ends_with("\ngenuine, and denied by the policy\n"), "{text}");
}

/// The policy's minimum TCB from a calendar.
fn dated(text: String) -> String {
    let fixed = "minimum-tcb = { bootloader = 0, tee = 0, snp = 0, microcode = 0 }";
    text.replace("[snp]\n", "[snp]\ncalendar = \"amd\"\n").replace(fixed, "minimum-tcb = \"calendar\"\ngrace = \"30 days\"")
}

/// Two baselines: what the soft chip has, and what it has not, since November 2026.
const BASELINES: &str = r#"[
    {"product":"genoa","published":"2026-01-01T00:00:00Z","bootloader":0,"tee":0,"snp":0,"microcode":0},
    {"product":"genoa","published":"2026-11-01T00:00:00Z","bootloader":0,"tee":0,"snp":255,"microcode":0}
]"#;

#[test]
fn a_policy_with_a_calendar_is_asked_under_the_baselines_that_are_brought() {
    let bench = genuine();
    bench.write("policy.toml", policy(&bench, dated));
    bench.write("amd.json", BASELINES);
    let ask = |words: &str| {
        let ran = bench.verify(&format!("both.bin --crl crl.der --policy policy.toml --json {words}"));
        (ran.exit, ran.json()["reason"].clone())
    };
    // Until the grace is over, the baseline before is what counts.
    assert_eq!(ask("--calendar amd.json --at 2026-11-30T00:00:00Z"), (Exit::Done, json!([])));
    let tcb = json!(["snp-tcb-committed", "snp-tcb-reported", "snp-tcb-launch"]);
    assert_eq!(ask("--calendar amd.json --at 2026-12-01T00:00:00Z"), (Exit::Denied, tcb));
    let no_calendar = json!(["snp-tcb-calendar", "snp-tcb-committed", "snp-tcb-reported", "snp-tcb-launch"]);
    assert_eq!(ask("--at 2026-11-30T00:00:00Z"), (Exit::Denied, no_calendar.clone()));
    bench.write("other.json", BASELINES.replace("genoa", "turin").replace("\"tee\"", "\"fmc\":0,\"tee\""));
    assert_eq!(ask("--calendar other.json --at 2026-11-30T00:00:00Z"), (Exit::Denied, no_calendar));
}

#[test]
fn a_calendar_that_is_none_or_that_nobody_asks_for_is_wrong_use() {
    let bench = genuine();
    bench.write("policy.toml", policy(&bench, |text| text));
    bench.write("dated.toml", policy(&bench, dated));
    bench.write("amd.json", BASELINES);
    bench.write("falling.json", BASELINES.replace("\"snp\":255", "\"snp\":1").replace("\"snp\":0", "\"snp\":2"));
    bench.write("text.json", "{}");
    let wrong = |words: &str, expected: &str| {
        let ran = bench.verify(&format!("both.bin --crl crl.der {words}"));
        assert_eq!(ran.exit, Exit::Usage, "{words}");
        assert!(ran.err.contains(expected), "{words}: {}", ran.err);
    };
    wrong("--calendar amd.json", "--policy <FILE>");
    wrong("--policy policy.toml --calendar amd.json", "names no TCB calendar");
    wrong("--policy dated.toml --calendar text.json", "hint: `portcullis calendar check --help` shows the form");
    wrong("--policy dated.toml --calendar falling.json", "falling.json: ");
    wrong("--policy dated.toml --calendar absent.json", "absent.json");
    let ran = bench.verify("both.bin --crl crl.der --policy dated.toml --calendar amd.json --at 2026-11-30T00:00:00Z");
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
}

#[test]
fn rejected_evidence_is_not_shown_to_a_policy() {
    let bench = genuine();
    bench.write("policy.toml", policy(&bench, |text| text));
    let json = bench.verify("report.bin --policy policy.toml --json").json();
    assert_eq!((json["verdict"].as_str(), json.get("policy")), (Some("rejected"), None));
}

#[test]
fn a_report_under_a_vlek_names_its_provider() {
    let bench = Bench::new(GuestShape { leaf: Leaf::Vlek, ..GuestShape::default() });
    let ran = bench.verify("both.bin").done();
    assert!(ran.out.contains("cloud provider"), "{}", ran.out);
}
