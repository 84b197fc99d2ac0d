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
use testbed::snp::{Authority, Line, SoftPlatform};
use testbed::tdx::{PckAuthority, Role, Root, SoftTdx};

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
    let soft = SoftTdx::new();
    std::fs::create_dir(desk.path("intel")).unwrap();
    desk.write("anchors.pem", pem("CERTIFICATE", &soft.root_der()));
    desk.write("intel/root.crl", soft.collateral().root_list);
    desk.write("intel/pck.crl", soft.collateral().pck_list);
    let problems = || {
        let ran = desk.run(&format!("collateral verify ./intel --anchors ./anchors.pem --at {AT} --json"));
        let pieces = ran.json()["pieces"].as_array().unwrap().clone();
        (ran.exit, pieces.iter().map(|piece| piece["problem"]["code"].clone()).collect::<Vec<_>>())
    };
    assert_eq!(problems(), (Exit::Done, vec![json!("not-judged"), json!(null)]));
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

/// Intel's collateral of a soft machine, as folders of its service's bodies.
fn intel(desk: &Desk) -> SoftTdx {
    let platform = SoftTdx::new().dated(UnixTime::parse(AT).unwrap().seconds());
    let collateral = platform.collateral();
    std::fs::create_dir(desk.path("intel")).unwrap();
    desk.write("intel/tcb_info.json", &collateral.tcb_info);
    desk.write("intel/qe_identity.json", &collateral.qe_identity);
    desk.write("intel/tcb_signing_chain.pem", &collateral.issuer_chain);
    desk.write("intel/rootcacrl", hex(&collateral.root_list));
    desk.write("intel/pckcrl", hex(&collateral.pck_list));
    desk.write("intel/pck_crl_issuer_chain.pem", &collateral.pck_list_issuer_chain);
    desk.write("intel.pem", pem("CERTIFICATE", &platform.root_der()));
    platform
}

/// In capitals, as caching services write them.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Kind and problem of each piece.
fn judged(ran: &Ran) -> Vec<(String, Option<String>)> {
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let piece = |piece: &serde_json::Value| (text(&piece["kind"]).unwrap(), text(&piece["problem"]["code"]));
    ran.json()["pieces"].as_array().unwrap().iter().map(piece).collect()
}

#[test]
fn a_list_that_nobody_verified_is_not_judged_and_is_neither_good_nor_bad() {
    let desk = Desk::new();
    let platform = intel(&desk);
    let verify = |more: &str| desk.run(&format!("collateral verify ./intel --at {AT} --json --anchors {more}"));
    let all = verify("./intel.pem").done();
    assert_eq!(judged(&all).iter().filter(|(kind, problem)| kind == "tdx-crl" && problem.is_none()).count(), 2, "{}", all.out);
    assert!(!all.err.contains("not judged"), "{}", all.err);
    std::fs::remove_file(desk.path("intel/pck_crl_issuer_chain.pem")).unwrap();
    let without = verify("./intel.pem").done();
    assert!(judged(&without).contains(&("tdx-crl".to_owned(), Some("not-judged".to_owned()))), "{}", without.out);
    assert!(without.out.contains("no authority of its name is at hand"), "{}", without.out);
    assert!(without.err.ends_with("1 of 4 pieces are not judged: nothing here says whether they are genuine\n"), "{}", without.err);
    let late = desk.run("collateral verify ./intel --anchors ./intel.pem --at 2999-01-01 --json");
    assert!(judged(&late).iter().all(|(_, problem)| problem.is_some() && problem.as_deref() != Some("not-judged")), "{}", late.out);
    // The authority's certificate alone is as good as its chain, unless a list beside it revokes it.
    desk.write("intel/authority.der", platform.pck_authority_der());
    let known = verify("./intel.pem").done();
    assert!(judged(&known).iter().all(|(_, problem)| problem.is_none()), "{}", known.out);
    let serial = platform.serial(Role::PckAuthority(PckAuthority::Platform));
    desk.write("intel/rootcacrl", platform.root_list_der(&[serial]));
    let revoked = verify("./intel.pem");
    assert_eq!(revoked.exit, Exit::Failed);
    let problem = Some("tdx-authority-revoked".to_owned());
    let bad: Vec<_> = judged(&revoked).into_iter().filter(|(_, found)| *found == problem).map(|(kind, _)| kind).collect();
    assert_eq!(bad, ["tdx-certificate", "tdx-crl"], "{}", revoked.out);
    // Roots that have none of Intel's judge nothing of Intel's.
    let other = verify("./anchors.pem");
    assert_eq!(other.exit, Exit::Failed);
    assert!(judged(&other).iter().all(|(_, problem)| problem.as_deref() == Some("tdx-not-anchored")), "{}", other.out);
}

#[test]
fn an_authority_that_the_list_beside_it_revokes_is_bad_and_so_is_what_it_signed() {
    let desk = Desk::new();
    let verify = || desk.run(&format!("collateral verify ./amd --anchors ./anchors.pem --at {AT} --json"));
    let serial = desk.platform.serial(Authority::Ask);
    desk.write("amd/crl", desk.platform.crl_der(&[serial + 1]));
    verify().done();
    desk.write("amd/crl", desk.platform.crl_der(&[serial]));
    let ran = verify();
    let revoked = || Some("snp-authority-revoked".to_owned());
    let expected = [("snp-certificate".to_owned(), revoked()), ("snp-crl".to_owned(), None), ("snp-certificate".to_owned(), revoked())];
    assert_eq!((ran.exit, judged(&ran)), (Exit::Failed, expected.to_vec()), "{}", ran.out);
    // A list that somebody else made names nobody.
    let mut forged = desk.platform.crl_der(&[serial]);
    *forged.last_mut().unwrap() ^= 1;
    desk.write("amd/crl", forged);
    assert_eq!(judged(&verify())[0].1, None);
}

#[test]
fn a_providers_certificate_is_judged_under_its_root() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("vlek")).unwrap();
    desk.write("vlek/vlek.der", desk.platform.vlek_der());
    desk.write("vlek/asvk.der", desk.platform.asvk_der());
    let verify = || desk.run(&format!("collateral verify ./vlek --anchors ./anchors.pem --at {AT} --json"));
    assert!(judged(&verify().done()).iter().all(|(_, problem)| problem.is_none()));
    let mut flipped = desk.platform.vlek_der();
    *flipped.last_mut().unwrap() ^= 1;
    desk.write("vlek/vlek.der", flipped);
    assert_eq!(verify().exit, Exit::Failed);
}

#[test]
fn a_really_revoked_authority_is_bad_beside_amds_list() {
    let Some(evidence) = evidence() else { return };
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &Path, name: &str| std::fs::copy(from, folder.path().join(name)).unwrap();
    copy(&evidence.join("snp/ca/genoa-ask-20001-REVOKED.der"), "ask.der");
    let verify = || portcullis(["collateral", "verify", folder.path().to_str().unwrap(), "--at", "2026-03-01", "--json"]);
    assert_eq!(judged(&verify().done()), [("snp-certificate".to_owned(), None)], "without a list nobody knows");
    let lists = std::fs::read_dir(evidence.join("snp/crl")).unwrap().map(|entry| entry.unwrap().path());
    for list in lists.filter(|path| path.is_file()) {
        copy(&list, list.file_name().unwrap().to_str().unwrap());
    }
    let ran = verify();
    assert_eq!(ran.exit, Exit::Failed);
    let expected = ("snp-certificate".to_owned(), Some("snp-authority-revoked".to_owned()));
    assert!(judged(&ran).contains(&expected), "{}", ran.out);
}

#[test]
fn what_is_named_twice_is_read_once_and_files_that_are_named_lie_beside_each_other() {
    let desk = Desk::new();
    intel(&desk);
    let pieces = |words: &str| {
        let ran = desk.run(&format!("collateral show {words} --at {AT} --json")).done();
        ran.json()["pieces"].as_array().unwrap().len()
    };
    for twice in ["./amd ./amd", "./amd/crl ./amd/crl", "./amd ./amd/crl", "./amd/cert_chain ./amd"] {
        assert_eq!(pieces(twice), if twice == "./amd/crl ./amd/crl" { 1 } else { 3 }, "{twice}");
    }
    assert_eq!(pieces("./intel/tcb_info.json ./intel/tcb_signing_chain.pem"), 1);
    let every = |folder: &str| {
        let mut names: Vec<_> = std::fs::read_dir(desk.path(folder)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names.iter().map(|name| format!("./{folder}/{}", name.display())).collect::<Vec<_>>().join(" ")
    };
    assert_eq!((pieces(&every("intel")), pieces("./intel")), (4, 4));
    let ran = desk.run(&format!("collateral show {}", every("amd"))).done();
    assert!(ran.err.contains("notes.txt: no form of collateral"), "{}", ran.err);
    // A later copy brings the chain of a list that came without.
    std::fs::create_dir(desk.path("alone")).unwrap();
    std::fs::copy(desk.path("intel/pckcrl"), desk.path("alone/pckcrl")).unwrap();
    let both = desk.run(&format!("collateral verify ./alone ./intel --at {AT} --anchors ./intel.pem --json")).done();
    assert!(judged(&both).iter().all(|(_, problem)| problem.is_none()), "{}", both.out);
    // Damage to what is collateral is not passed over.
    let bundle = r#"{"payloadType":"application/vnd.portcullis.collateral+json","payload":""#;
    desk.write("cut.json", bundle);
    let cut = desk.run("collateral show ./amd/crl ./cut.json");
    assert_eq!(cut.exit, Exit::Usage);
    assert!(cut.err.contains("cut.json holds no collateral: begins as JSON and is none: EOF"), "{}", cut.err);
    assert!(cut.err.contains("hint: was it cut off on its way?"), "{}", cut.err);
}

#[test]
fn odd_files_in_a_folder_are_left_out_and_named() {
    let desk = Desk::new();
    std::os::unix::fs::symlink("nowhere", desk.path("amd/dangling")).unwrap();
    std::os::unix::fs::symlink("crl", desk.path("amd/link")).unwrap();
    std::os::unix::fs::symlink(".", desk.path("amd/loop")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(desk.path("amd/socket")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(desk.path("amd/queue")).status().unwrap();
    assert!(fifo.success());
    std::fs::File::create(desk.path("amd/backup.tar")).unwrap().set_len(20 * 1024 * 1024).unwrap();
    let ran = desk.run(&format!("collateral show ./amd --at {AT} --json")).done();
    let json = ran.json();
    assert_eq!(json["pieces"].as_array().unwrap().len(), 3, "{json}");
    let left_out: Vec<_> = json["left_out"].as_array().unwrap().iter().map(|left| left["file"].as_str().unwrap()).collect();
    let expected: Vec<_> =
        ["backup.tar", "dangling", "queue", "socket", "notes.txt"].map(|name| desk.path("amd").join(name).display().to_string()).to_vec();
    assert_eq!(left_out, expected);
    let why = |index: usize| json["left_out"][index]["why"].as_str().unwrap().to_owned();
    assert!(why(0).starts_with("20971520 bytes are more than"), "{}", why(0));
    assert!(why(1).starts_with("cannot be read: No such file"), "{}", why(1));
    assert_eq!((why(2), why(3)), ("no regular file".to_owned(), "no regular file".to_owned()));
}

#[test]
fn folders_that_cannot_be_read_or_hold_too_much_are_named() {
    let desk = Desk::new();
    let deep = desk.path("deep").join("a/b/c/d/e/f/g/h/i");
    std::fs::create_dir_all(&deep).unwrap();
    let ran = desk.run("collateral show ./deep");
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("or folders more than 8 deep"), "{}", ran.err);
    let many = desk.path("many");
    std::fs::create_dir(&many).unwrap();
    for number in 0..=2 * protocol::limits::COLLATERAL_PIECES {
        std::fs::write(many.join(number.to_string()), "").unwrap();
    }
    assert!(desk.run("collateral show ./many").err.contains("holds more than"), "too many files");
}

#[test]
fn a_bundle_of_somebody_else_and_a_damaged_one_have_hints_of_their_own() {
    let desk = Desk::new();
    desk.run(EXPORT).done();
    let show = |key: &str| desk.run(&format!("collateral show ./bundle.json --authority ./{key}.pub"));
    show("authority").done();
    let other = show("root");
    assert_eq!(other.exit, Exit::Failed);
    assert!(other.err.contains("hint: the bundle came from somebody else"), "{}", other.err);
    let text = std::fs::read_to_string(desk.path("bundle.json")).unwrap();
    let (head, signature) = text.split_once("\"sig\":\"").unwrap();
    let digit = if signature.starts_with('A') { "B" } else { "A" };
    desk.write("bundle.json", format!("{head}\"sig\":\"{digit}{}", &signature[1..]));
    let damaged = show("authority");
    assert_eq!(damaged.exit, Exit::Failed);
    assert!(damaged.err.contains("hint: the bundle was changed or damaged"), "{}", damaged.err);
}

#[test]
fn a_bundle_goes_to_standard_output_and_comes_from_standard_input() {
    let desk = Desk::new();
    let to_output = EXPORT.replace("./bundle.json", "-");
    let ran = desk.run(&to_output).done();
    assert_eq!(desk.bundle(ran.out.as_bytes()).pieces.len(), 3);
    assert!(!Path::new("-").exists());
    desk.write("bundle.json", &ran.out);
    let shown = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["collateral", "show", "-", "--at", AT, "--json"])
        .stdin(std::fs::File::open(desk.path("bundle.json")).unwrap())
        .output()
        .unwrap();
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let json: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((json["pieces"].as_array().unwrap().len(), json["bundles"][0]["file"].as_str()), (3, Some("-")));
}

#[test]
fn each_chip_is_named_with_the_file_that_it_came_from() {
    let desk = Desk::new();
    desk.write("amd/other.der", SoftPlatform::new(Line::Genoa).with_chip("other").vcek_der());
    let text = desk.run(&format!("collateral show ./amd --at {AT}")).done().out;
    let rows: Vec<&str> = text.lines().filter(|line| line.contains("SEV-VCEK by SEV-Genoa, chip ")).collect();
    assert_eq!(rows.len(), 2, "{text}");
    assert!(rows[0].contains("other.der") && rows[1].contains("vcek.der"), "{text}");
    assert_ne!(rows[0].split("chip ").nth(1).unwrap()[..16], rows[1].split("chip ").nth(1).unwrap()[..16]);
}

#[test]
fn the_public_half_of_a_key_signs_nothing() {
    let desk = Desk::new();
    let ran = desk.run(&EXPORT.replace("authority.key", "authority.pub"));
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("hint: the secret key is in the file that ends in .key"), "{}", ran.err);
    let other = desk.run(&EXPORT.replace("authority.key", "root.key"));
    assert!(other.err.contains("expected a key of kind authority, found one of kind root"), "{}", other.err);
}

#[test]
fn no_line_of_an_example_is_broken_by_the_help() {
    for words in ["verify", "collateral show", "collateral verify", "collateral export", "collateral import"] {
        let text = portcullis(words.split(' ').chain(["--help"])).out;
        let examples = text.split_once("Examples:").unwrap_or_else(|| panic!("{words}: {text}")).1;
        for (line, next) in examples.lines().zip(examples.lines().skip(1).chain([""])) {
            assert!(line.len() <= 100, "{words}: {line}");
            let goes_on = line.starts_with("    ") && line.ends_with('\\');
            assert_eq!(goes_on, next.starts_with("        "), "{words}: {line}");
        }
    }
}

#[test]
fn two_roots_in_the_place_of_intels_are_refused() {
    let desk = Desk::new();
    let root = |root: Root| pem("CERTIFICATE", &SoftTdx::new().under(root).root_der());
    desk.write("two.pem", root(Root::Trusted) + &root(Root::Other));
    let ran = desk.run("collateral verify ./amd --anchors ./two.pem");
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("two.pem holds two roots in the place of Intel's"), "{}", ran.err);
    desk.write("one.pem", root(Root::Trusted));
    assert_eq!(desk.run("collateral verify ./amd --anchors ./one.pem").exit, Exit::Failed, "judged, under no root of AMD's");
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
