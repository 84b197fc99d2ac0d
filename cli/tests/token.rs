//! `portcullis token verify`: JWT-SVIDs and attestation results, as a relying party sees them.

mod terminal;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use cli::Exit;
use protocol::ids::AnchorClass;
use protocol::keys::SigningKey;
use protocol::spiffe::Bundle;
use protocol::time::UnixTime;
use protocol::tokens::result::{Appraisal, CPU, EarClaims, TYPE, TrustClaim, Vector, VerifierId};
use protocol::tokens::{EcKey, JwtSvidClaims, KeySet, from_base64url, sign};
use serde_json::json;
use tempfile::TempDir;
use terminal::{Ran, portcullis};

const NOW: u64 = 1_800_000_000;
const AT: &str = "2027-01-15T08:00:00Z";
static KEY: LazyLock<EcKey> = LazyLock::new(|| EcKey::generate().unwrap());

/// A folder with the published keys.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        let keys = vec![KEY.jwk()];
        let bundle = Bundle::new("acme.example".parse().unwrap(), 1, Duration::from_secs(300), vec![], keys.clone()).unwrap();
        desk.write("bundle.json", &bundle.to_json());
        desk.write("jwks.json", &KeySet::new(keys.into_iter().map(|key| key.with_usage("sig")).collect()).unwrap().to_json());
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// Runs `token verify` at [`AT`] for tokens of soft platforms; words that begin with `./` are paths here.
    fn verify(&self, words: &str) -> Ran {
        self.run(&format!("{words} --anchors test"))
    }

    fn run(&self, words: &str) -> Ran {
        let root = self.0.path().display().to_string();
        let all = format!("token verify --at {AT} {words}");
        portcullis(all.split_whitespace().map(|word| word.replace("./", &format!("{root}/"))))
    }
}

fn svid() -> JwtSvidClaims {
    JwtSvidClaims {
        iss: Some("https://id.acme.example".to_owned()),
        sub: "spiffe://acme.example/inference/vllm".parse().unwrap(),
        aud: vec!["tools".to_owned()],
        iat: UnixTime::from_seconds(NOW),
        nbf: None,
        exp: UnixTime::from_seconds(NOW + 300),
        jti: "f00d".to_owned(),
        anchors: Some(AnchorClass::Test),
    }
}

fn result(hardware: TrustClaim) -> EarClaims {
    let vector = Vector { hardware: Some(hardware), executables: Some(TrustClaim::AFFIRMING), ..Vector::default() };
    EarClaims {
        iss: "https://id.acme.example".to_owned(),
        sub: Some("spiffe://acme.example/inference/vllm".to_owned()),
        aud: "tools".to_owned(),
        iat: UnixTime::from_seconds(NOW),
        exp: UnixTime::from_seconds(NOW + 300),
        jti: "beef".to_owned(),
        nonce: Some("0123456789abcdef".to_owned()),
        verifier: VerifierId { developer: "portcullis".to_owned(), build: "test\u{1b}[31m".to_owned() },
        submods: BTreeMap::from([(CPU.to_owned(), Appraisal::new(vector, Some("inference".to_owned())))]),
        key: *SigningKey::from_seed(&[1; 32]).unwrap().public(),
        anchors: AnchorClass::Test,
    }
}

#[test]
fn an_svid_verifies_and_is_shown() {
    let desk = Desk::new();
    // With the line's end that files have.
    desk.write("svid.jwt", &format!("{}\n", svid().sign(&*KEY).unwrap()));
    let ran = desk.verify("./svid.jwt --keys ./bundle.json --audience tools --trust-domain acme.example").done();
    let kid = KEY.jwk().kid().unwrap().to_owned();
    let expected = format!(
        "valid     JWT-SVID\n\
         subject   spiffe://acme.example/inference/vllm\n\
         issuer    https://id.acme.example\n\
         audience  tools\n\
         issued    {AT}\n\
         expires   2027-01-15T08:05:00Z\n\
         number    f00d\n\
         key       {kid} by ES256\n\
         anchors   TEST ROOTS\n"
    );
    assert_eq!((ran.out.as_str(), ran.err.as_str()), (expected.as_str(), ""));
    let ran = desk.verify("./svid.jwt --keys ./jwks.json --audience tools --issuer https://id.acme.example --json").done();
    let json = ran.json();
    assert_eq!((&json["valid"], &json["class"], &json["trust_domain"]), (&json!(true), &json!("jwt-svid"), &json!("acme.example")));
    assert_eq!((&json["claims"]["jti"], &json["kid"], &json["alg"]), (&json!("f00d"), &json!(kid), &json!("ES256")));
    let ran = desk.verify("./svid.jwt --keys ./jwks.json --audience tools").done();
    assert!(ran.err.contains("--trust-domain or --issuer"), "{}", ran.err);
}

#[test]
fn a_token_that_does_not_hold_is_refused_with_its_code() {
    let desk = Desk::new();
    let other = EcKey::generate().unwrap();
    desk.write("svid.jwt", &svid().sign(&*KEY).unwrap());
    desk.write("stranger.jwt", &svid().sign(&other).unwrap());
    desk.write("result.jwt", &result(TrustClaim::AFFIRMING).sign(&*KEY).unwrap());
    desk.write("empty.jwt", "");
    desk.write("long.jwt", &"a".repeat(16_385));
    let old = JwtSvidClaims { exp: UnixTime::from_seconds(NOW - 60), ..svid() };
    desk.write("old.jwt", &old.sign(&*KEY).unwrap());
    for (words, code) in [
        ("./svid.jwt --keys ./bundle.json --audience others", "token-audience"),
        ("./svid.jwt --keys ./bundle.json --audience tools --issuer https://id.acme.example/", "token-issuer"),
        ("./svid.jwt --keys ./bundle.json --audience tools --trust-domain other.example", "svid-trust-domain"),
        ("./svid.jwt --keys ./bundle.json --audience tools --expect result", "token-type"),
        ("./result.jwt --keys ./bundle.json --audience tools --expect svid", "token-type"),
        ("./result.jwt --keys ./bundle.json --audience tools --trust-domain other.example", "svid-trust-domain"),
        ("./stranger.jwt --keys ./bundle.json --audience tools", "token-unknown-key"),
        ("./old.jwt --keys ./bundle.json --audience tools", "token-expired"),
        ("./empty.jwt --keys ./bundle.json --audience tools", "token-form"),
        ("./long.jwt --keys ./bundle.json --audience tools", "token-too-large"),
    ] {
        let err = desk.verify(words).refused_with(Exit::Failed);
        assert!(err.ends_with(&format!("reason: {code}\n")), "{words}: {err}");
    }
    let json = desk.verify("./svid.jwt --keys ./bundle.json --audience others --json");
    assert_eq!((json.exit, &json.json()["valid"], &json.json()["reason"]), (Exit::Failed, &json!(false), &json!("token-audience")));
}

#[test]
fn a_soft_platforms_token_passes_only_where_it_is_asked_for() {
    let desk = Desk::new();
    desk.write("svid.jwt", &svid().sign(&*KEY).unwrap());
    desk.write("result.jwt", &result(TrustClaim::AFFIRMING).sign(&*KEY).unwrap());
    let vendor = (
        JwtSvidClaims { anchors: Some(AnchorClass::Vendor), ..svid() },
        EarClaims { anchors: AnchorClass::Vendor, ..result(TrustClaim::AFFIRMING) },
    );
    desk.write("vendor-svid.jwt", &vendor.0.sign(&*KEY).unwrap());
    desk.write("vendor-result.jwt", &vendor.1.sign(&*KEY).unwrap());
    desk.write("other-svid.jwt", &JwtSvidClaims { anchors: None, ..svid() }.sign(&*KEY).unwrap());
    for token in ["svid", "result"] {
        let err = desk.run(&format!("./{token}.jwt --keys ./jwks.json --audience tools")).refused_with(Exit::Failed);
        assert!(err.contains("reason: token-anchors\n"), "{err}");
        let err = desk.verify(&format!("./vendor-{token}.jwt --keys ./jwks.json --audience tools")).refused_with(Exit::Failed);
        assert!(err.contains("reason: token-anchors\n"), "{err}");
    }
    for token in ["vendor-svid", "vendor-result", "other-svid"] {
        desk.run(&format!("./{token}.jwt --keys ./jwks.json --audience tools")).done();
    }
}

#[test]
fn a_result_that_is_bound_to_no_key_of_its_presenter_is_refused() {
    let desk = Desk::new();
    let signed = result(TrustClaim::AFFIRMING).sign(&*KEY).unwrap();
    let claims = from_base64url(signed.split('.').nth(1).unwrap()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    let write = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut claims = claims.clone();
        change(&mut claims);
        desk.write("result.jwt", &sign(TYPE, &claims, &*KEY).unwrap());
        desk.verify("./result.jwt --keys ./jwks.json --audience tools")
    };
    write(&|_| ()).done();
    let unbound = |claims: &mut serde_json::Value| drop(claims.as_object_mut().unwrap().remove("cnf"));
    let of_another_kind = |claims: &mut serde_json::Value| claims["cnf"] = json!({ "jwk": KEY.jwk() });
    for ran in [write(&unbound), write(&of_another_kind)] {
        let err = ran.refused_with(Exit::Failed);
        assert!(err.contains("reason: result-unbound\n"), "{err}");
    }
}

#[test]
fn a_result_that_affirms_is_done_and_one_that_does_not_is_denied() {
    let desk = Desk::new();
    desk.write("good.jwt", &result(TrustClaim::AFFIRMING).sign(&*KEY).unwrap());
    desk.write("bad.jwt", &result(TrustClaim::WARNING).sign(&*KEY).unwrap());
    let ran = desk.verify("./good.jwt --keys ./jwks.json --audience tools").done();
    assert!(ran.out.starts_with("valid     attestation result\nstatus    affirming\n"), "{}", ran.out);
    assert!(ran.out.contains("\ncpu0: affirming by policy inference\n  executables  2 (affirming)\n"), "{}", ran.out);
    assert!(ran.out.contains("TEST ROOTS") && !ran.out.contains('\u{1b}'), "{}", ran.out);
    assert!(ran.err.contains("prove that it holds the bound key"), "{}", ran.err);
    let denied = desk.verify("./bad.jwt --keys ./jwks.json --audience tools --json");
    assert_eq!((denied.exit, &denied.json()["status"]), (Exit::Denied, &json!("warning")));
    let missing = desk.verify("./good.jwt --keys ./jwks.json --audience tools --require cpu0 --require gpu0 --json");
    assert_eq!((missing.exit, &missing.json()["status"]), (Exit::Denied, &json!("contraindicated")));
}

/// Answers one request with this status and body.
fn serve_once(status: &'static str, body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0; 1];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"GET /identity/jwks HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&head));
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).unwrap();
    });
    format!("http://{at}/identity/jwks")
}

#[test]
fn keys_come_from_where_they_are_published() {
    let desk = Desk::new();
    desk.write("svid.jwt", &svid().sign(&*KEY).unwrap());
    let published = std::fs::read_to_string(desk.path("jwks.json")).unwrap();
    let url = serve_once("200 OK", published);
    desk.verify(&format!("./svid.jwt --keys {url} --audience tools --trust-domain acme.example")).done();
    let url = serve_once("404 Not Found", String::new());
    let err = desk.verify(&format!("./svid.jwt --keys {url} --audience tools")).refused_with(Exit::Usage);
    assert!(err.contains("answered with status 404"), "{err}");
}

#[test]
fn keys_that_are_none_are_wrong_use() {
    let desk = Desk::new();
    desk.write("svid.jwt", &svid().sign(&*KEY).unwrap());
    desk.write("none.json", "{}");
    desk.write("private.json", &json!({ "keys": [{ "kty": "EC", "crv": "P-256", "x": "", "y": "", "d": "" }] }).to_string());
    for (keys, says) in [
        ("./none.json", "not a set of keys"),
        ("./private.json", "has a private part"),
        ("./absent.json", "cannot read"),
        ("https://id.acme.example", "names no document"),
        ("http://id.acme.example/keys", "plain HTTP"),
    ] {
        let err = desk.verify(&format!("./svid.jwt --audience tools --keys {keys}")).refused_with(Exit::Usage);
        assert!(err.contains(says), "{keys}: {err}");
    }
}
