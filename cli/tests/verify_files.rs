//! `portcullis verify`: what it says of files that are not what they should be, and of collateral that gives nothing.

mod terminal;

use std::path::PathBuf;

use cli::Exit;
use protocol::encoding::to_base64;
use protocol::time::UnixTime;
use serde_json::json;
use tempfile::TempDir;
use terminal::{Ran, portcullis};
use testbed::tdx::{SoftTdx, TdShape};

/// Within the windows of the soft platform's certificates and collateral.
const AT: &str = "2026-11-23T00:00:00Z";

/// A folder with a soft TD's quote and its collateral as a caching service hands it out: revocation lists in hex digits.
struct Bench {
    folder: TempDir,
    quote: Vec<u8>,
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", to_base64(der))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Bench {
    fn new() -> Self {
        let platform = SoftTdx::new().dated(UnixTime::parse(AT).unwrap().seconds());
        let quote = platform.guest(TdShape::default()).attest(&[7; 64]).quote;
        let bench = Self { folder: tempfile::tempdir().unwrap(), quote };
        std::fs::create_dir(bench.path("intel")).unwrap();
        let collateral = platform.collateral();
        bench.write("quote.bin", &bench.quote);
        bench.write("root.pem", pem(&platform.root_der()));
        bench.write("intel/tcb_info.json", &collateral.tcb_info);
        bench.write("intel/qe_identity.json", &collateral.qe_identity);
        bench.write("intel/tcb_signing_chain.pem", &collateral.issuer_chain);
        bench.write("intel/rootcacrl", hex(&collateral.root_list));
        bench.write("intel/pckcrl", to_base64(&collateral.pck_list));
        bench.write("intel/pck_crl_issuer_chain.pem", &collateral.pck_list_issuer_chain);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// Runs the command; words that begin with `./` are paths here.
    fn verify(&self, words: &str) -> Ran {
        let root = self.folder.path().display().to_string();
        let words = format!("verify {words} --anchors ./root.pem --at {AT}");
        portcullis(words.split_whitespace().map(|word| word.replace("./", &format!("{root}/"))))
    }
}

#[test]
fn the_lists_of_a_caching_service_are_read_as_it_writes_them() {
    let bench = Bench::new();
    let ran = bench.verify("./quote.bin --collateral ./intel --json").done();
    assert_eq!(ran.json()["claims"]["revocation"]["status"], "checked", "{}", ran.out);
    assert!(!ran.err.contains("left out") && ran.json().get("left_out").is_none(), "{}", ran.err);
}

#[test]
fn collateral_that_gives_nothing_is_named() {
    let bench = Bench::new();
    bench.write("intel/notes.txt", "fetched on Monday");
    bench.write("intel/cut.crl", "30820");
    let ran = bench.verify("./quote.bin --collateral ./intel --json").done();
    let file = |name: &str| bench.path(name).display().to_string();
    let expected = json!([
        { "file": file("intel/cut.crl"), "why": "an odd number of hex digits" },
        { "file": file("intel/notes.txt"), "why": "no form of collateral" },
    ]);
    assert_eq!(ran.json()["left_out"], expected);
    assert!(ran.err.contains(&format!("left out: {}: no form of collateral\n", file("intel/notes.txt"))), "{}", ran.err);
    let text = bench.verify("./quote.bin --collateral ./intel").done();
    assert!(text.err.contains("left out: ") && text.out.contains("\ngenuine\n"), "{}", text.err);
}

#[test]
fn evidence_as_text_and_an_enclaves_quote_are_recognised() {
    let bench = Bench::new();
    bench.write("quote.hex", hex(&bench.quote));
    bench.write("quote.b64", to_base64(&bench.quote));
    let mut enclave = bench.quote.clone();
    enclave[0] = 3;
    enclave[4] = 0;
    bench.write("enclave.bin", enclave);
    for (name, what, hint) in [
        ("quote.hex", "evidence as text, in hex digits; expected its bytes", "xxd -r -p"),
        ("quote.b64", "evidence as text, in base64; expected its bytes", "base64 -d"),
        ("enclave.bin", "a quote of an SGX enclave; expected one of a TD", "only confidential VMs"),
    ] {
        let ran = bench.verify(&format!("./{name} --collateral ./intel"));
        assert_eq!(ran.exit, Exit::Usage, "{name}: {}", ran.out);
        assert!(ran.err.contains(&format!("error: {} is {what}\n", bench.path(name).display())), "{}", ran.err);
        assert!(ran.err.contains(hint), "{}", ran.err);
    }
    bench.write("other.txt", "no evidence at all");
    assert_eq!(bench.verify("./other.txt").exit, Exit::Failed, "what is not recognised is judged, and rejected");
}

#[test]
fn a_day_is_a_time() {
    let bench = Bench::new();
    let root = bench.path("root.pem").display().to_string();
    let quote = bench.path("quote.bin").display().to_string();
    let intel = bench.path("intel").display().to_string();
    let verify = |at: &str| portcullis(["verify", &quote, "--collateral", &intel, "--anchors", &root, "--at", at, "--json"]);
    assert_eq!(verify("2026-11-23").done().json()["at"], AT);
    let refused = verify("Monday");
    assert_eq!(refused.exit, Exit::Usage);
    assert!(refused.err.contains("such as 2026-12-24 or 2026-12-24T08:00:00Z"), "{}", refused.err);
}
