//! The vectors of SPEC.md section 11: a proof of possession, tokens that hold, and for each trick a token that is refused by name.
//!
//! `PORTCULLIS_WRITE_VECTORS=1 cargo test -p portcullis-protocol --test identity_vectors` makes keys and tokens anew, since ECDSA is random.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use protocol::encoding::{from_base64, to_base64};
use protocol::ids::{AnchorClass, RequestId};
use protocol::keys::SigningKey;
use protocol::messages::SvidKey;
use protocol::spiffe::Bundle;
use protocol::time::UnixTime;
use protocol::tokens::result::{self, Appraisal, CPU, Ear, EarClaims, TrustClaim, Vector, VerifierId};
use protocol::tokens::svid::verify_svid;
use protocol::tokens::{EcKey, Expected, JwtSvidClaims, KeySet, RsaKey, TokenSigner, to_base64url};
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;
const AT: UnixTime = UnixTime::from_seconds(NOW);
const AUDIENCE: &str = "tools.acme.example";

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(format!("{name}.json"))
}

fn written(name: &str, vector: impl FnOnce() -> Value) -> Value {
    if std::env::var_os("PORTCULLIS_WRITE_VECTORS").is_some() {
        std::fs::write(path(name), serde_json::to_string_pretty(&vector()).unwrap() + "\n").unwrap();
    }
    serde_json::from_slice(&std::fs::read(path(name)).unwrap()).unwrap()
}

fn ed25519(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

fn text<'v>(vector: &'v Value, name: &str) -> &'v str {
    vector[name].as_str().unwrap_or_else(|| panic!("{name} in {vector}"))
}

#[test]
fn a_proof_of_possession_verifies() {
    let (installation, guest, request) = (*ed25519(1).public(), *ed25519(5).public(), RequestId::from([0x88; 16]));
    let vector = written("svid-key", || {
        let key = EcKey::generate().unwrap();
        let proven = SvidKey::prove(&key, &installation, &request, &guest).unwrap();
        let private = to_base64(&key.to_pkcs8().unwrap());
        json!({ "installation": installation, "request": request, "signing_key": guest, "private_key": private, "svid_key": proven })
    });
    let proven: SvidKey = serde_json::from_value(vector["svid_key"].clone()).unwrap();
    let key = EcKey::from_pkcs8(&from_base64(text(&vector, "private_key")).unwrap()).unwrap();
    assert_eq!(proven.check(&installation, &request, &guest).as_ref(), Ok(key.spki()));
    assert!(proven.check(&installation, &RequestId::from([0x89; 16]), &guest).is_err());
}

/// The issuer's keys, and what is signed with them.
struct Issuer {
    jwt: EcKey,
    cloud: RsaKey,
    results: EcKey,
}

impl Issuer {
    fn new() -> Self {
        Self { jwt: EcKey::generate().unwrap(), cloud: RsaKey::generate().unwrap(), results: EcKey::generate().unwrap() }
    }

    fn bundle(&self) -> Bundle {
        Bundle::new("acme.example".parse().unwrap(), 7, Duration::from_secs(300), vec![], vec![self.jwt.jwk(), self.cloud.jwk()]).unwrap()
    }

    fn vector(&self) -> Value {
        let keys = KeySet::new(vec![self.results.jwk().with_usage("sig")]).unwrap();
        let private = |der: &[u8]| to_base64(der);
        json!({
            "checked_at": AT, "audience": AUDIENCE, "trust_domain": "acme.example",
            "private_keys": {
                "jwt-es256": private(&self.jwt.to_pkcs8().unwrap()), "jwt-rs256": private(&self.cloud.to_pkcs8().unwrap()),
                "result": private(&self.results.to_pkcs8().unwrap()),
            },
            "bundle": serde_json::from_str::<Value>(&self.bundle().to_json()).unwrap(),
            "result_keys": serde_json::from_str::<Value>(&keys.to_json()).unwrap(),
            "accepted": self.accepted(), "refused": self.refused(),
        })
    }

    fn accepted(&self) -> Vec<Value> {
        let accepted = |name: &str, class: &str, token: String| json!({ "name": name, "class": class, "token": token });
        let cloud = JwtSvidClaims { iss: Some("https://id.acme.example".to_owned()), ..svid() };
        vec![
            accepted("jwt-svid", "jwt-svid", svid().sign(&self.jwt).unwrap()),
            accepted("jwt-svid-for-a-cloud", "jwt-svid", cloud.sign(&self.cloud).unwrap()),
            accepted("jwt-svid-of-type-jose", "jwt-svid", token(&header(&self.jwt, "JOSE", ""), &svid_json().to_string(), &self.jwt)),
            accepted("result-affirming", "attestation-result", ear(TrustClaim::AFFIRMING).sign(&self.results).unwrap()),
            accepted("result-warning", "attestation-result", ear(TrustClaim::WARNING).sign(&self.results).unwrap()),
        ]
    }

    fn refused(&self) -> Vec<Value> {
        let refused =
            |class: &str, name: &str, code: &str, token: String| json!({ "name": name, "class": class, "code": code, "token": token });
        let of_svid = |name: &str, code: &str, token: String| refused("jwt-svid", name, code, token);
        let good = svid().sign(&self.jwt).unwrap();
        let (message, _) = good.rsplit_once('.').unwrap();
        let with_header = |header: &str| token(header, &svid_json().to_string(), &self.jwt);
        let more = |member: &str| with_header(&header(&self.jwt, "JWT", member));
        let relabelled = |alg: &str| with_header(&header(&self.jwt, "JWT", "").replace("ES256", alg));
        let claims = |change: &dyn Fn(&mut Value)| {
            let mut claims = svid_json();
            change(&mut claims);
            token(&header(&self.jwt, "JWT", ""), &claims.to_string(), &self.jwt)
        };
        let put = |name: &'static str, value: Value| claims(&move |claims| claims[name] = value.clone());
        let without = |name: &'static str| claims(&move |claims| drop(claims.as_object_mut().unwrap().remove(name)));
        let unsigned = format!(
            "{}.",
            message.replacen(message.split('.').next().unwrap(), &to_base64url(br#"{"alg":"none","kid":"x","typ":"JWT"}"#), 1)
        );
        let rsa_as_pss = token(&header(&self.cloud, "JWT", "").replace("RS256", "PS256"), &svid_json().to_string(), &self.cloud);
        let twice = svid_json().to_string().replacen('{', r#"{"aud":["others"],"#, 1);
        let stranger = EcKey::generate().unwrap();
        let in_its_name = token(&header(&stranger, "JWT", "").replace(stranger.kid(), self.jwt.kid()), &svid_json().to_string(), &stranger);
        let mut list = vec![
            of_svid("alg-none", "token-unknown-algorithm", unsigned),
            of_svid("alg-hs256", "token-unknown-algorithm", relabelled("HS256")),
            of_svid("alg-eddsa", "token-unknown-algorithm", relabelled("EdDSA")),
            of_svid("alg-of-another-kind-of-key", "token-key-algorithm", relabelled("RS256")),
            of_svid("alg-not-the-keys-own", "token-key-algorithm", rsa_as_pss),
            of_svid("header-jku", "token-header-member", more(r#","jku":"https://evil.example/keys""#)),
            of_svid("header-jwk", "token-header-member", more(&format!(r#","jwk":{}"#, serde_json::to_string(&self.jwt.jwk()).unwrap()))),
            of_svid("header-x5u", "token-header-member", more(r#","x5u":"https://evil.example/cert""#)),
            of_svid("header-crit", "token-header-member", more(r#","crit":["exp"]"#)),
            of_svid("header-b64", "token-header-member", more(r#","b64":false"#)),
            of_svid("header-alg-twice", "token-duplicate-member", more(r#","alg":"none""#)),
            of_svid("type-missing", "token-no-type", with_header(&format!(r#"{{"alg":"ES256","kid":"{}"}}"#, self.jwt.kid()))),
            of_svid("type-of-a-result", "token-type", ear(TrustClaim::AFFIRMING).sign(&self.jwt).unwrap()),
            of_svid("type-of-a-wit", "token-type", with_header(&header(&self.jwt, "wit+jwt", ""))),
            of_svid("kid-missing", "token-no-key-id", with_header(r#"{"alg":"ES256","typ":"JWT"}"#)),
            of_svid("kid-of-nobody", "token-unknown-key", svid().sign(&stranger).unwrap()),
            of_svid("kid-of-the-results", "token-unknown-key", svid().sign(&self.results).unwrap()),
            of_svid("signed-by-a-stranger", "token-signature", in_its_name),
            of_svid(
                "signature-in-der",
                "token-signature-length",
                format!("{message}.{}", to_base64url(&self.jwt.sign_asn1(message.as_bytes()).unwrap())),
            ),
            of_svid("signature-missing", "token-signature-length", format!("{message}.")),
            of_svid("padding", "token-base64", format!("{good}==")),
            of_svid("four-parts", "token-form", format!("{good}.e30")),
            of_svid("claims-audience-twice", "token-duplicate-member", token(&header(&self.jwt, "JWT", ""), &twice, &self.jwt)),
            of_svid("audience-of-others", "token-audience", put("aud", json!(["others"]))),
            of_svid("audience-in-capitals", "token-audience", put("aud", json!([AUDIENCE.to_uppercase()]))),
            of_svid("audience-missing", "token-claim", without("aud")),
            of_svid("expiry-missing", "token-claim", without("exp")),
            of_svid("expiry-with-a-fraction", "token-claim", put("exp", json!(NOW as f64 + 60.5))),
            of_svid("expired", "token-expired", put("exp", json!(NOW - 30))),
            of_svid("not-yet", "token-not-yet", put("nbf", json!(NOW + 31))),
            of_svid("from-the-future", "token-from-the-future", put("iat", json!(NOW + 31))),
            of_svid("subject-missing", "token-claim", without("sub")),
            of_svid("subject-climbs", "svid-subject", put("sub", json!("spiffe://acme.example/a/../b"))),
            of_svid("subject-without-path", "svid-subject", put("sub", json!("spiffe://acme.example"))),
            of_svid("subject-of-another-trust-domain", "svid-trust-domain", put("sub", json!("spiffe://other.example/a"))),
        ];
        let of_result = |name: &str, code: &str, token: String| refused("attestation-result", name, code, token);
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut claims = ear_json(&self.results);
            change(&mut claims);
            token(&header(&self.results, result::TYPE, ""), &claims.to_string(), &self.results)
        };
        let part = |appraisal: Value| changed(&move |claims| claims["submods"][CPU] = appraisal.clone());
        let newer = part(json!({ "ear_status": "affirming", "ear_trustworthiness_vector": { "hardware": 2 } }));
        list.extend([
            of_result(
                "result-of-type-jwt",
                "token-type",
                token(&header(&self.results, "JWT", ""), &ear_json(&self.results).to_string(), &self.results),
            ),
            of_result("result-by-the-key-of-svids", "token-unknown-key", ear(TrustClaim::AFFIRMING).sign(&self.jwt).unwrap()),
            of_result(
                "result-of-a-newer-profile",
                "ear-profile",
                changed(&|claims| claims["eat_profile"] = json!("tag:ietf.org,2026:rats/ear#03")),
            ),
            of_result("result-with-newer-names", "ear-no-status", newer),
            of_result("result-without-parts", "ear-parts", changed(&|claims| claims["submods"] = json!({}))),
            of_result(
                "result-better-than-its-vector",
                "ear-better-than-vector",
                part(json!({ "ear.status": "affirming", "ear.trustworthiness-vector": { "hardware": 2, "executables": 99 } })),
            ),
            of_result(
                "result-affirming-what-was-not-understood",
                "ear-better-than-vector",
                part(json!({ "ear.status": "affirming", "ear.trustworthiness-vector": { "hardware": 1 } })),
            ),
            of_result("result-affirming-nothing", "ear-better-than-vector", part(json!({ "ear.status": "affirming" }))),
            of_result(
                "result-with-an-unknown-claim",
                "ear-form",
                part(json!({ "ear.status": "affirming", "ear.trustworthiness-vector": { "hardware": 2, "firmware": 96 } })),
            ),
        ]);
        list
    }
}

fn header(key: &dyn TokenSigner, typ: &str, more: &str) -> String {
    format!(r#"{{"alg":"{}","kid":"{}","typ":"{typ}"{more}}}"#, key.algorithm(), key.kid())
}

/// A token of exactly these parts.
fn token(header: &str, claims: &str, key: &dyn TokenSigner) -> String {
    let message = format!("{}.{}", to_base64url(header.as_bytes()), to_base64url(claims.as_bytes()));
    let signature = key.sign(message.as_bytes()).unwrap();
    format!("{message}.{}", to_base64url(&signature))
}

fn svid() -> JwtSvidClaims {
    JwtSvidClaims {
        iss: None,
        sub: "spiffe://acme.example/inference/vllm".parse().unwrap(),
        aud: vec![AUDIENCE.to_owned()],
        iat: AT,
        nbf: None,
        exp: UnixTime::from_seconds(NOW + 300),
        jti: "6f1c0e3a9d5b4c27a8e0f1d2c3b4a596".to_owned(),
        anchors: Some(AnchorClass::Test),
    }
}

fn svid_json() -> Value {
    serde_json::to_value(svid()).unwrap()
}

fn ear(hardware: TrustClaim) -> EarClaims {
    let affirming = Some(TrustClaim::AFFIRMING);
    let vector = Vector { hardware: Some(hardware), executables: affirming, runtime_opaque: affirming, ..Vector::default() };
    EarClaims {
        iss: "https://id.acme.example".to_owned(),
        sub: Some("spiffe://acme.example/inference/vllm".to_owned()),
        aud: AUDIENCE.to_owned(),
        iat: AT,
        exp: UnixTime::from_seconds(NOW + 300),
        jti: "7f1c0e3a9d5b4c27a8e0f1d2c3b4a596".to_owned(),
        nonce: Some("EREREREREREREREREREREREREREREREREREREREREREREREREQ".to_owned()),
        verifier: VerifierId { developer: "portcullis".to_owned(), build: "portcullis 0.1.0".to_owned() },
        submods: BTreeMap::from([(CPU.to_owned(), Appraisal::new(vector, Some("inference".to_owned())))]),
        key: *ed25519(5).public(),
        anchors: AnchorClass::Test,
    }
}

/// The claims of a result as JSON.
fn ear_json(key: &EcKey) -> Value {
    let token = ear(TrustClaim::AFFIRMING).sign(key).unwrap();
    let keys = [key.jwk()];
    let expected = Expected { types: &[result::TYPE], audience: AUDIENCE, keys: &keys, issuer: None, at: AT };
    protocol::tokens::verify(&token, &expected).unwrap().into_claims()
}

/// A token's fate: its claims or status, or the code of its refusal.
fn judge(vector: &Value, entry: &Value) -> Result<Value, &'static str> {
    let at = serde_json::from_value(vector["checked_at"].clone()).unwrap();
    let (audience, token) = (text(vector, "audience"), text(entry, "token"));
    match text(entry, "class") {
        "jwt-svid" => {
            let bundle = Bundle::parse(&text(vector, "trust_domain").parse().unwrap(), vector["bundle"].to_string().as_bytes()).unwrap();
            verify_svid(token, &bundle, audience, at).map(|svid| svid.token().claims().clone()).map_err(|error| error.code())
        }
        _ => {
            let keys = KeySet::parse(vector["result_keys"].to_string().as_bytes()).unwrap();
            let expected = Expected { types: &[result::TYPE], audience, keys: keys.keys(), issuer: None, at };
            Ear::verify(token, &expected).map(|ear| json!(ear.worst(&[CPU]))).map_err(|error| error.code())
        }
    }
}

#[test]
fn each_token_has_the_fate_that_its_vector_says() {
    let vector = written("tokens", || {
        let mut vector = Issuer::new().vector();
        let fates: Vec<_> = vector["accepted"].as_array().unwrap().iter().map(|entry| judge(&vector, entry).unwrap()).collect();
        for (entry, fate) in vector["accepted"].as_array_mut().unwrap().iter_mut().zip(fates) {
            let name = if entry["class"] == "jwt-svid" { "claims" } else { "status" };
            entry[name] = fate;
        }
        vector
    });
    let list = |name: &str| vector[name].as_array().unwrap().clone();
    assert!(list("accepted").len() >= 5 && list("refused").len() >= 44);
    for entry in list("accepted") {
        let expected = if entry["class"] == "jwt-svid" { &entry["claims"] } else { &entry["status"] };
        assert_eq!(judge(&vector, &entry).as_ref(), Ok(expected), "{}", entry["name"]);
    }
    for entry in list("refused") {
        assert_eq!(judge(&vector, &entry).err(), Some(text(&entry, "code")), "{}", entry["name"]);
    }
}
