//! `portcullis verify` on TDX quotes: every real one gets its expected verdict, and a soft platform every way to hand one in.

mod terminal;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cli::Exit;
use protocol::time::UnixTime;
use serde_json::{Value, json};
use tempfile::TempDir;
use terminal::{Ran, evidence, portcullis};
use testbed::tdx::{SoftTdx, TdShape};

/// One line of the table of verdicts: what independent evaluators say of a quote under some collateral at a time.
struct Row {
    quote: String,
    collateral: String,
    at: String,
    expected: Expected,
}

#[derive(Debug, PartialEq)]
enum Expected {
    Status(String),
    Code(&'static str),
}

fn rows(evidence: &Path) -> Vec<Row> {
    let text = std::fs::read_to_string(evidence.join("tdx-verdicts.csv")).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        let at = UnixTime::from_seconds(cells[2].parse().unwrap()).to_string();
        let expected = match (cells[3], cells[5]) {
            // The independent evaluator judges the module that the TD was launched on alone.
            (relaunch @ "TDRelaunchAdvised", _) => Expected::Status(relaunch.to_owned()),
            (_, "NotSupported") => Expected::Code("tdx-tcb-not-supported"),
            (_, "ERR:cert-not-valid-at-time") => Expected::Code("tdx-certificate-not-yet-valid"),
            (_, status) => Expected::Status(status.to_owned()),
        };
        Row { quote: cells[0].to_owned(), collateral: cells[1].to_owned(), at, expected }
    };
    text.lines().skip(1).map(row).collect()
}

fn verify(quote: &Path, collateral: Option<&Path>, flags: &[&str]) -> Ran {
    let mut arguments: Vec<OsString> = vec!["verify".into(), quote.into(), "--json".into()];
    if let Some(collateral) = collateral {
        arguments.extend(["--collateral".into(), collateral.into()]);
    }
    arguments.extend(flags.iter().map(Into::into));
    portcullis(arguments)
}

fn found(ran: &Ran) -> (Exit, Value) {
    let json = ran.json();
    let reason = json["reason"][0].clone();
    (ran.exit, if reason.is_null() { json["claims"]["tcb"]["status"].clone() } else { reason })
}

#[test]
fn every_real_quote_gets_its_verdict_under_each_collateral_in_both_forms() {
    let Some(evidence) = evidence() else { return };
    let rows = rows(&evidence);
    assert!(rows.len() >= 50, "only {} rows", rows.len());
    for Row { quote, collateral, at, expected } in rows {
        let expected = match expected {
            Expected::Status(status) => (Exit::Done, json!(status)),
            Expected::Code(code) => (Exit::Failed, json!(code)),
        };
        let folder = evidence.join(&collateral);
        for form in [folder.clone(), folder.join("bundle.json")] {
            let ran = verify(&evidence.join(&quote), Some(&form), &["--at", &at]);
            assert_eq!(found(&ran), expected, "{quote} with {} at {at}: {}", form.display(), ran.err);
        }
    }
}

/// A set of real collateral and a time at which all of it holds.
fn set(evidence: &Path, name: &str) -> (PathBuf, String) {
    let folder = evidence.join("tdx/collateral").join(name);
    let text = std::fs::read_to_string(folder.join("verify_time.txt")).unwrap();
    let at = UnixTime::from_seconds(text.split_whitespace().next().unwrap().parse().unwrap());
    (folder, at.to_string())
}

#[test]
fn zeros_of_the_buffer_behind_a_quote_change_nothing() {
    let Some(evidence) = evidence() else { return };
    let (collateral, at) = set(&evidence, "00806f050000-20250121-eval17");
    let claims = |quote: &str| {
        let ran = verify(&evidence.join(quote), Some(&collateral), &["--at", &at]);
        assert_eq!(ran.exit, Exit::Done, "{quote}: {}", ran.err);
        ran.json()["claims"].clone()
    };
    assert_eq!(claims("tdx/raw-google-cos113-padded-8000B.bin"), claims("tdx/v4-google-cos113-00806f.quote.bin"));
    for quote in ["tdx/raw-oasis-trailing-5006B.bin", "tdx/v4-oasis-trailing-c0806f.quote.bin", "tdx/v4-oasis-c0806f.quote.bin"] {
        let ran = verify(&evidence.join(quote), None, &["--at", "2024-10-01T00:00:00Z"]);
        assert_eq!(found(&ran), (Exit::Failed, json!("tdx-crl-missing")), "{quote}: {}", ran.err);
    }
}

#[test]
fn a_pre_production_platform_is_not_rooted_in_intels_root() {
    let Some(evidence) = evidence() else { return };
    let ran = verify(&evidence.join("tdx/v4-trustee4-PREPROD-30806f.quote.bin"), None, &[]);
    assert_eq!(found(&ran), (Exit::Failed, json!("tdx-root-mismatch")), "{}", ran.err);
}

#[test]
fn an_event_log_replays_or_is_rejected() {
    let Some(evidence) = evidence() else { return };
    let (collateral, at) = set(&evidence, "00806f050000-20250121-eval17");
    let quote = evidence.join("tdx/v4-google-cos113-00806f.quote.bin");
    let judge = |log: &str| {
        let log = evidence.join("eventlog").join(log);
        verify(&quote, Some(&collateral), &["--at", &at, "--event-log", log.to_str().unwrap()])
    };
    let genuine = judge("cos113.ccel.bin").done().json();
    assert_eq!(genuine["claims"]["event_log"]["log"], "replayed");
    assert!(genuine["claims"]["event_log"]["events"].as_array().unwrap().len() > 10);
    let changed = judge("neg-cos113-dupe-separator.ccel.bin");
    assert_eq!(found(&changed), (Exit::Failed, json!("tdx-event-log-replay")), "{}", changed.err);
    let other = judge("trustee-ovmf.ccel.bin");
    assert_eq!(found(&other), (Exit::Failed, json!("tdx-event-log-replay")), "{}", other.err);
}

#[test]
fn collateral_past_its_next_update_is_a_rejection_without_a_policy() {
    let Some(evidence) = evidence() else { return };
    let (collateral, _) = set(&evidence, "00806f050000-20250121-eval17");
    let ran = verify(&evidence.join("tdx/v4-google-cos113-00806f.quote.bin"), Some(&collateral), &["--at", "2025-04-01T00:00:00Z"]);
    // All three have lapsed; the lists are looked at first.
    assert_eq!(found(&ran), (Exit::Failed, json!("tdx-crl-lapsed")), "{}", ran.err);
    assert!(ran.err.contains("hint: to judge as of a time when the collateral held, add --at"), "{}", ran.err);
}

/// A folder with the evidence of a soft TD in all its forms, and an SNP report beside it.
struct Bench(TempDir);

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", protocol::encoding::to_base64(der))
}

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        let platform = SoftTdx::new().dated(UnixTime::parse(AT).unwrap().seconds());
        let evidence = platform.guest(TdShape::default()).attest(&[7; 64]);
        bench.write("quote.bin", &evidence.quote);
        bench.write("ccel.bin", evidence.event_log.unwrap());
        bench.write("root.pem", pem(&platform.root_der()));
        let collateral = platform.collateral();
        std::fs::create_dir(bench.path("intel")).unwrap();
        bench.write("intel/tcb_info.json", &collateral.tcb_info);
        bench.write("intel/qe_identity.json", &collateral.qe_identity);
        bench.write("intel/tcb_signing_chain.pem", &collateral.issuer_chain);
        bench.write("intel/root.crl", &collateral.root_list);
        bench.write("intel/pck.crl", &collateral.pck_list);
        bench.write("intel/pck_crl_issuer_chain.pem", &collateral.pck_list_issuer_chain);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// Runs the command; words that begin with `./` are paths here.
    fn run(&self, words: &str) -> Ran {
        let root = self.0.path().display().to_string();
        portcullis(words.split_whitespace().map(|word| word.replace("./", &format!("{root}/"))))
    }

    fn verify(&self, more: &str) -> Ran {
        self.run(&format!("verify ./quote.bin --anchors ./root.pem --at {AT} {more}"))
    }
}

/// Within the windows of the soft platform's certificates and collateral.
const AT: &str = "2026-11-23T00:00:00Z";

const LOUD: &str = "warning: TEST ROOTS: this verdict says nothing about any real processor\n";

#[test]
fn a_soft_quote_is_genuine_with_folder_bundle_and_log() {
    let bench = Bench::new();
    bench.run("keygen --kind authority --out ./authority").done();
    bench.run("collateral export --from ./intel --out ./bundle.json --authority-key ./authority.key").done();
    for words in ["--collateral ./intel", "--collateral ./bundle.json", "--collateral ./intel --event-log ./ccel.bin"] {
        let ran = bench.verify(words).done();
        assert!(ran.out.contains("\ngenuine\n"), "{words}: {}", ran.out);
        assert_eq!(ran.err, LOUD);
    }
    let json = bench.verify("--collateral ./intel --event-log ./ccel.bin --json").done().json();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["anchors", "at", "claims", "reason", "steps", "verdict"]);
    assert_eq!((json["claims"]["platform"].as_str(), json["anchors"].as_str()), (Some("tdx"), Some("test")));
    assert_eq!(json["claims"]["pck"]["authority"], "platform", "one key says one thing");
    assert_eq!(json["steps"][0]["name"], attestation::TDX_STEPS[0]);
    assert_eq!(json["claims"]["event_log"]["log"], "replayed");
    bench.run(&format!("collateral verify ./intel --anchors ./root.pem --at {AT}")).done();
}

#[test]
fn a_rejection_names_the_step_of_tdx_the_reason_and_a_hint() {
    let bench = Bench::new();
    let ran = bench.verify("");
    assert!(ran.out.contains("FAIL  revocation"), "{}", ran.out);
    assert!(ran.err.contains("error: rejected at step 3: "), "{}", ran.err);
    assert!(ran.err.ends_with("with --collateral\nreason: tdx-crl-missing\n"), "{}", ran.err);
    assert_eq!(ran.exit, Exit::Failed);
}

#[test]
fn to_take_collateral_away_turns_no_rejection_into_a_yes() {
    let verdict = |without: &[&str]| {
        let bench = Bench::new();
        without.iter().for_each(|name| std::fs::remove_file(bench.path("intel").join(name)).unwrap());
        found(&bench.verify("--collateral ./intel --json"))
    };
    for list in ["root.crl", "pck.crl"] {
        assert_eq!(verdict(&[list]), (Exit::Failed, json!("tdx-crl-missing")), "{list}");
    }
    for document in ["tcb_info.json", "qe_identity.json"] {
        assert_eq!(verdict(&[document]), (Exit::Failed, json!("tdx-collateral-missing")), "{document}");
    }
    // Nobody needs the chain of a list whose authority stands in the quote.
    assert_eq!(verdict(&["pck_crl_issuer_chain.pem"]).0, Exit::Done);
}

#[test]
fn report_data_is_compared_where_it_is_given() {
    let bench = Bench::new();
    bench.verify(&format!("--collateral ./intel --report-data {}", "07".repeat(64))).done();
    let ran = bench.verify(&format!("--collateral ./intel --json --report-data {}", "08".repeat(64)));
    assert_eq!((ran.exit, ran.json()["rejection"]["code"].as_str()), (Exit::Failed, Some("tdx-report-data")));
}

#[test]
fn a_soft_platform_is_nothing_under_the_vendors_roots() {
    let bench = Bench::new();
    let ran = bench.run(&format!("verify ./quote.bin --collateral ./intel --at {AT} --json"));
    assert_eq!(found(&ran), (Exit::Failed, json!("tdx-root-mismatch")));
    assert!(!ran.err.contains("TEST ROOTS"));
}

#[test]
fn arguments_for_another_kind_of_evidence_are_wrong_use() {
    let bench = Bench::new();
    let quote = bench.path("quote.bin").display().to_string();
    let ran = bench.verify("--collateral ./intel --cert ./root.pem");
    ran.refused(Exit::Usage, &format!("{LOUD}error: {quote} is a TD quote; --cert goes with an SNP report\n"));
    bench.write("report.bin", [2, 0, 0, 0]);
    let report = bench.path("report.bin").display().to_string();
    let ran = bench.run("verify ./report.bin --event-log ./ccel.bin");
    ran.refused(Exit::Usage, &format!("error: {report} is no TD quote; --event-log goes with a TD quote\n"));
}

#[test]
fn a_policy_judges_lapsed_collateral_by_its_age() {
    let bench = Bench::new();
    let (soon, late) = ("2026-12-27T00:00:00Z", "2027-01-15T00:00:00Z");
    let judge =
        |at: &str, more: &str| bench.run(&format!("verify ./quote.bin --anchors ./root.pem --collateral ./intel --at {at} --json {more}"));
    for at in [soon, late] {
        assert_eq!(found(&judge(at, "")), (Exit::Failed, json!("tdx-crl-lapsed")), "{at}");
    }
    let claims = bench.verify("--collateral ./intel --json").json()["claims"].clone();
    let register = |index: usize| format!("rtmr{index} = {{ soft = [{}] }}\n", claims["rtmrs"][index]);
    let policy = format!(
        "format = 1\nrole = \"whole-vm\"\nconfiguration = \"config-is-measured\"\nattestation-lifetime = \"1 hour\"\n\
         revocation-max-age = \"45 days\"\n[tdx]\nsmt = \"allowed\"\ncollateral-max-age = \"45 days\"\n[tdx.measurements]\n\
         soft = [{}]\n[tdx.rtmrs]\n{}",
        claims["mrtd"],
        (0..4).map(register).collect::<String>()
    );
    bench.write("policy.toml", policy);
    let permitted = judge(soon, "--policy ./policy.toml");
    assert_eq!(permitted.exit, Exit::Done, "{}{}", permitted.out, permitted.err);
    // Where this program has no second verifier, the rule on it is not asked, and that is said.
    let agreed = permitted.json()["claims"]["second_opinion"]["opinion"] == "agreed";
    let left_out = permitted.json()["policy"]["left_out"].as_array().unwrap().contains(&json!("second-opinion"));
    let asked = permitted.json()["policy"]["checks"].as_array().unwrap().iter().any(|check| check["code"] == "second-opinion");
    assert_eq!((left_out, asked), (!agreed, agreed));
    let denied = judge(late, "--policy ./policy.toml");
    assert_eq!(denied.exit, Exit::Denied, "{}", denied.err);
    assert!(denied.json()["reason"].as_array().unwrap().contains(&json!("tdx-collateral-age")), "{}", denied.out);
}
