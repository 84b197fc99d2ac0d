//! `portcullis collateral`: every form in, one bundle out, and what a broker answers.

mod server;
mod terminal;

use std::path::{Path, PathBuf};

use cli::Exit;
use protocol::admin::{CollateralForecast, CollateralHeld, CollateralImported, PieceOutcome, RefusedPiece};
use protocol::collateral::{CollateralBundleBody, CollateralKind, CollateralPiece};
use protocol::dsse::SignedDocument;
use protocol::ids::Digest;
use protocol::keys::PublicKey;
use protocol::time::UnixTime;
use serde_json::json;
use server::{Answer, Server, TOKEN};
use tempfile::TempDir;
use terminal::{Ran, evidence, portcullis};
use testbed::snp::{Line, SoftPlatform};

/// A folder with an authority's key, AMD files of a soft platform, and a broker that answers what it is told to.
struct Desk {
    folder: TempDir,
    platform: SoftPlatform,
    server: Server,
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", protocol::encoding::to_base64(der))
}

/// Within the windows of the soft platforms' certificates and lists.
const AT: &str = "2026-11-23T00:00:00Z";

impl Desk {
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap(), platform: SoftPlatform::new(Line::Genoa), server: Server::start() };
        for kind in ["authority", "root"] {
            desk.run(&format!("keygen --kind {kind} --out ./{kind}")).done();
        }
        std::fs::create_dir(desk.path("amd")).unwrap();
        desk.write("amd/vcek.der", desk.platform.vcek_der());
        desk.write("amd/cert_chain", pem("CERTIFICATE", &desk.platform.ask_der()) + &pem("CERTIFICATE", &desk.platform.ark_der()));
        desk.write("amd/crl", desk.platform.crl_der(&[]));
        desk.write("amd/notes.txt", "fetched on Monday");
        desk.write("anchors.pem", pem("CERTIFICATE", &desk.platform.ark_der()));
        desk.write("token", TOKEN);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// Runs the command; words that begin with `./` are paths here.
    fn run(&self, words: &str) -> Ran {
        let root = self.folder.path().display().to_string();
        portcullis(words.split_whitespace().map(|word| word.replace("./", &format!("{root}/"))))
    }

    fn online(&self, words: &str) -> Ran {
        self.run(&format!("{words} --broker {} --token-file ./token", self.server.url()))
    }

    fn authority(&self) -> PublicKey {
        std::fs::read_to_string(self.path("authority.pub")).unwrap().trim().parse().unwrap()
    }

    /// What a bundle holds, once its signature is checked.
    fn bundle(&self, bytes: &[u8]) -> CollateralBundleBody {
        let signed = SignedDocument::parse::<CollateralBundleBody>(bytes).unwrap();
        signed.authenticate::<CollateralBundleBody>(&[self.authority()]).unwrap().body().clone()
    }
}

const EXPORT: &str = "collateral export --from ./amd --out ./bundle.json --authority-key ./authority.key";

#[test]
fn a_folder_becomes_a_bundle_that_its_authority_signed() {
    let desk = Desk::new();
    let ran = desk.run(&format!("{EXPORT} --json")).done();
    assert_eq!(ran.json()["pieces"], 3);
    assert!(ran.err.contains("notes.txt: no form of collateral"), "{}", ran.err);
    let body = desk.bundle(&std::fs::read(desk.path("bundle.json")).unwrap());
    let kinds: Vec<_> = body.pieces.iter().map(|piece| (piece.kind, piece.source.as_str())).collect();
    use CollateralKind::{SnpCertificate, SnpCrl};
    assert_eq!(kinds, [(SnpCertificate, "cert_chain"), (SnpCrl, "crl"), (SnpCertificate, "vcek.der")]);
    assert_eq!(desk.run(EXPORT).exit, Exit::Usage, "never over an existing file");
}

#[test]
fn show_says_what_a_bundle_holds_and_who_carried_it() {
    let desk = Desk::new();
    desk.run(EXPORT).done();
    let json = desk.run(&format!("collateral show ./bundle.json --at {AT} --json")).done().json();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["at", "bundles", "left_out", "pieces"]);
    assert_eq!(json["bundles"][0]["signature"], "not-checked");
    assert_eq!(json["pieces"][1]["kind"], "snp-crl");
    assert_eq!(json["pieces"][1]["subject"], "ARK-Genoa");
    assert!(json["pieces"][1]["days_left"].as_i64().unwrap() > 0);
    assert!(json["pieces"].as_array().unwrap().iter().all(|piece| piece["problem"].is_null()), "{json}");
    let text = desk.run(&format!("collateral show ./bundle.json --authority ./authority.pub --at {AT}")).done().out;
    assert!(text.contains(&format!("verified: {}", desk.authority())), "{text}");
    assert!(text.contains("SEV-VCEK by SEV-Genoa"), "{text}");
    let other = desk.run("collateral show ./bundle.json --authority ./root.pub");
    assert_eq!(other.exit, Exit::Failed);
    assert!(other.err.contains("not trusted for it"), "{}", other.err);
}

#[test]
fn verify_ends_with_1_where_a_piece_is_bad_or_out_of_date() {
    let desk = Desk::new();
    desk.run(&format!("collateral verify ./amd --anchors ./anchors.pem --at {AT}")).done();
    let late = desk.run("collateral verify ./amd --anchors ./anchors.pem --at 2999-01-01T00:00:00Z --json");
    assert_eq!((late.exit, late.json()["pieces"][1]["problem"]["code"].clone()), (Exit::Failed, json!("expired")));
    assert!(late.err.ends_with("error: 3 of 3 pieces are bad or out of date\n"), "{}", late.err);
    let vendor = desk.run(&format!("collateral verify ./amd --at {AT} --json"));
    assert_eq!(vendor.exit, Exit::Failed, "a soft platform is nothing under the vendors' roots: {}", vendor.out);
}

#[test]
fn verify_says_of_a_list_without_its_authority_that_it_was_not_judged() {
    let desk = Desk::new();
    let soft = testbed::tdx::SoftTdx::new();
    std::fs::create_dir(desk.path("intel")).unwrap();
    desk.write("anchors.pem", pem("CERTIFICATE", &soft.root_der()));
    desk.write("intel/root.crl", soft.collateral().root_list);
    desk.write("intel/pck.crl", soft.collateral().pck_list);
    let problems = || {
        let ran = desk.run(&format!("collateral verify ./intel --anchors ./anchors.pem --at {AT} --json"));
        let pieces = ran.json()["pieces"].as_array().unwrap().clone();
        (ran.exit, pieces.iter().map(|piece| piece["problem"]["code"].clone()).collect::<Vec<_>>())
    };
    assert_eq!(problems(), (Exit::Failed, vec![json!("not-judged"), json!(null)]));
    desk.write("intel/pck_issuer_chain.pem", soft.collateral().pck_list_issuer_chain);
    assert_eq!(problems(), (Exit::Done, vec![json!(null), json!(null)]));
}

#[test]
fn a_flipped_bit_in_a_list_or_certificate_is_found() {
    let desk = Desk::new();
    for name in ["amd/crl", "amd/vcek.der"] {
        let genuine = std::fs::read(desk.path(name)).unwrap();
        let mut changed = genuine.clone();
        *changed.last_mut().unwrap() ^= 1;
        desk.write(name, &changed);
        let ran = desk.run(&format!("collateral verify ./amd --anchors ./anchors.pem --at {AT} --json"));
        let bad: Vec<_> = ran.json()["pieces"].as_array().unwrap().iter().filter(|piece| !piece["problem"].is_null()).cloned().collect();
        assert_eq!((ran.exit, bad.len()), (Exit::Failed, 1), "{name}: {}", ran.out);
        assert_eq!(bad[0]["source"], name.trim_start_matches("amd/"));
        desk.write(name, genuine);
    }
}

#[test]
fn what_is_no_collateral_is_wrong_use() {
    let desk = Desk::new();
    let path = |name: &str| desk.path(name).display().to_string();
    std::fs::create_dir(desk.path("empty")).unwrap();
    desk.write("tcb_info.json", r#"{"tcbInfo":{"id":"TDX"},"signature":"00"}"#);
    for (name, error) in [
        ("amd/notes.txt", format!("error: {} holds no collateral: no form of collateral\n", path("amd/notes.txt"))),
        ("empty", format!("error: no collateral in {}\n", path("empty"))),
        ("missing.json", format!("error: cannot read {}: No such file or directory (os error 2)\n", path("missing.json"))),
        ("tcb_info.json", format!("error: {} holds no collateral: no signing chain lies beside it\n", path("tcb_info.json"))),
    ] {
        let ran = desk.run(&format!("collateral show ./{name}"));
        assert_eq!(ran.exit, Exit::Usage);
        assert!(ran.err.starts_with(&error), "{}", ran.err);
    }
    assert_eq!(desk.run("collateral show").exit, Exit::Usage);
}

fn imported(refused: Option<&str>) -> Answer {
    let outcome = |refused: Option<&str>| PieceOutcome {
        piece: Digest::from([1; 32]),
        kind: CollateralKind::SnpCrl,
        subject: "ARK-Genoa".to_owned(),
        refused: refused.map(str::to_owned),
    };
    Answer::json(&CollateralImported { document: Digest::from([7; 32]), entry: 41, pieces: vec![outcome(None), outcome(refused)] })
}

#[test]
fn a_bundle_goes_to_the_broker_as_it_was_carried() {
    let desk = Desk::new();
    desk.run(EXPORT).done();
    desk.server.on("PUT /v1/collateral", imported(None));
    let ran = desk.online("collateral import ./bundle.json").done();
    assert!(ran.out.contains("log entry  41") && ran.out.contains("accepted"), "{}", ran.out);
    let sent = desk.server.received("PUT /v1/collateral");
    assert_eq!(sent[0], std::fs::read(desk.path("bundle.json")).unwrap().trim_ascii());
}

#[test]
fn other_forms_are_signed_on_the_way_and_need_a_key() {
    let desk = Desk::new();
    desk.server.on("PUT /v1/collateral", imported(None));
    let ran = desk.online("collateral import ./amd");
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("hint: give --authority-key"), "{}", ran.err);
    assert!(desk.server.received("PUT /v1/collateral").is_empty());
    desk.online("collateral import ./amd --authority-key ./authority.key").done();
    assert_eq!(desk.bundle(&desk.server.received("PUT /v1/collateral")[0]).pieces.len(), 3);
}

#[test]
fn a_piece_that_the_broker_refuses_ends_with_1_and_its_reason() {
    let desk = Desk::new();
    desk.run(EXPORT).done();
    desk.server.on("PUT /v1/collateral", imported(Some("a newer one is held")));
    let ran = desk.online("collateral import ./bundle.json");
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.out.contains("refused: a newer one is held"), "{}", ran.out);
    assert!(ran.err.ends_with("error: the broker refused 1 of 2 pieces\n"), "{}", ran.err);
}

#[test]
fn what_a_connected_broker_has_is_exported_under_an_authority() {
    let desk = Desk::new();
    let crl = desk.platform.crl_der(&[]);
    let piece = CollateralPiece { kind: CollateralKind::SnpCrl, bytes: crl, issuer_chain: None, source: "the broker".to_owned() };
    let refused = RefusedPiece {
        kind: "tcb-info".to_owned(),
        subject: "intel/tcb/50806f000000".to_owned(),
        origin: "carried here".to_owned(),
        why: "its evaluation number is 19, and 20 was accepted before".to_owned(),
        at: UnixTime::from_seconds(0),
    };
    desk.server
        .on("GET /v1/collateral", Answer::json(&CollateralHeld { pieces: vec![piece.clone()], left_out: 2, refused: vec![refused] }));
    let ran = desk.online("collateral export --out ./bundle.json --authority-key ./authority.key").done();
    assert!(ran.err.contains("2 certificates of chips left out"), "{}", ran.err);
    let not_held =
        "not held: intel/tcb/50806f000000, carried here at 1970-01-01T00:00:00Z: its evaluation number is 19, and 20 was accepted before";
    assert!(ran.err.contains(not_held), "{}", ran.err);
    assert_eq!(desk.bundle(&std::fs::read(desk.path("bundle.json")).unwrap()).pieces, [piece]);
    let nowhere = desk.run("collateral export --out ./other.json --authority-key ./authority.key");
    assert_eq!((nowhere.exit, nowhere.err.as_str()), (Exit::Usage, "error: this needs --broker, or --from\n"));
    assert!(!desk.path("other.json").exists());
}

#[test]
fn a_forecast_is_the_brokers() {
    let desk = Desk::new();
    let at = UnixTime::from_seconds(1_795_392_000);
    desk.server.on("GET /v1/collateral/forecast", Answer::json(&CollateralForecast { at, since: at, platforms: Vec::new() }));
    let ran = desk.online("collateral forecast").done();
    assert_eq!(ran.err, format!("no platform was seen since {at}\n"));
    assert_eq!(desk.online("collateral forecast --json").done().json()["platforms"], json!([]));
}

/// The sets of real TDX collateral that are whole, each with a time at which all of it holds.
fn sets(evidence: &Path) -> Vec<(PathBuf, String)> {
    let folder = evidence.join("tdx/collateral");
    let mut sets: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    sets.retain(|set| set.join("verify_time.txt").exists());
    sets.sort();
    let time = |set: &PathBuf| {
        let text = std::fs::read_to_string(set.join("verify_time.txt")).unwrap();
        UnixTime::from_seconds(text.split_whitespace().next().unwrap().parse().unwrap()).to_string()
    };
    sets.iter().map(|set| (set.clone(), time(set))).collect()
}

#[test]
fn every_real_set_verifies_at_its_time_in_both_its_forms() {
    let Some(evidence) = evidence() else { return };
    for (set, at) in sets(&evidence) {
        for path in [set.clone(), set.join("bundle.json")] {
            let ran = portcullis(["collateral", "verify", path.to_str().unwrap(), "--at", &at, "--json"]);
            assert_eq!(ran.exit, Exit::Done, "{}: {}{}", path.display(), ran.out, ran.err);
            assert_eq!(ran.json()["pieces"].as_array().unwrap().len(), 4);
        }
    }
}

#[test]
fn a_changed_digit_in_a_real_body_is_found() {
    let Some(evidence) = evidence() else { return };
    let (set, at) = sets(&evidence).remove(0);
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&set).unwrap().map(|entry| entry.unwrap()).filter(|entry| entry.file_name() != "bundle.json") {
        let mut bytes = std::fs::read(entry.path()).unwrap();
        if entry.file_name() == "tcb_info.json" {
            let at = bytes.windows(8).position(|window| window == b"\"pcesvn\"").unwrap() + 9;
            bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
        }
        std::fs::write(folder.path().join(entry.file_name()), bytes).unwrap();
    }
    let ran = portcullis(["collateral", "verify", folder.path().to_str().unwrap(), "--at", &at, "--json"]);
    let bad: Vec<_> = ran.json()["pieces"].as_array().unwrap().iter().filter(|piece| !piece["problem"].is_null()).cloned().collect();
    assert_eq!((ran.exit, bad.len(), bad[0]["kind"].clone()), (Exit::Failed, 1, json!("tdx-tcb-info")));
}
