//! Bundles of OpenSSF Model Signing: each refusal, with a near miss. The other implementation's are in the command's tests.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair,
};
use protocol::dsse::pae;
use protocol::encoding::{sha256, to_base64};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::signature::{Bundle, HashType, KeyError, ModelSigner, SignatureError};

/// The parts of a SubjectPublicKeyInfo before the point.
const PREFIXES: [(&str, &EcdsaSigningAlgorithm); 3] = [
    ("3059301306072a8648ce3d020106082a8648ce3d030107034200", &ECDSA_P256_SHA256_ASN1_SIGNING),
    ("3076301006072a8648ce3d020106052b81040022036200", &ECDSA_P384_SHA384_ASN1_SIGNING),
    ("30819b301006072a8648ce3d020106052b8104002303818600", &ECDSA_P521_SHA512_ASN1_SIGNING),
];

/// Whoever released the model.
pub(super) struct Maker {
    pair: EcdsaKeyPair,
    pub(super) signer: ModelSigner,
    pem: String,
}

impl Maker {
    pub(super) fn new(curve: usize) -> Self {
        let (prefix, algorithm) = PREFIXES[curve];
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let der = [hex::decode(prefix).unwrap(), pair.public_key().as_ref().to_vec()].concat();
        let text = to_base64(&der);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
        Self { pair, signer: pem.parse().unwrap(), pem }
    }

    /// A bundle over a statement.
    pub(super) fn bundle(&self, statement: &Value) -> Value {
        let payload = statement.to_string().into_bytes();
        self.bundle_of(&payload)
    }

    fn bundle_of(&self, payload: &[u8]) -> Value {
        let signature = self.pair.sign(&SystemRandom::new(), &pae("application/vnd.in-toto+json", payload)).unwrap();
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": { "publicKey": { "hint": sha256(self.pem.as_bytes()).to_string() }, "tlogEntries": [] },
            "dsseEnvelope": {
                "payload": to_base64(payload), "payloadType": "application/vnd.in-toto+json",
                "signatures": [{ "sig": to_base64(signature.as_ref()), "keyid": "" }],
            },
        })
    }
}

/// A statement over files by their content.
pub(super) fn statement(files: &[(&str, &[u8])], ignored: &[&str]) -> Value {
    let digests: Vec<[u8; 32]> = files.iter().map(|(_, bytes)| Sha256::digest(bytes).into()).collect();
    let resources: Vec<Value> = files
        .iter()
        .zip(&digests)
        .map(|((name, _), digest)| json!({ "name": name, "algorithm": "sha256", "digest": hex::encode(digest) }))
        .collect();
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": "tiny", "digest": { "sha256": hex::encode(Sha256::digest(digests.concat())) } }],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": { "method": "files", "hash_type": "sha256", "allow_symlinks": false, "ignore_paths": ignored },
            "resources": resources,
        },
    })
}

fn sample() -> Value {
    statement(&[("config.json", b"{}"), ("model.safetensors", b"weights")], &["model.sig", ".git", "docs/"])
}

/// Of a changed bundle.
fn parse(change: impl FnOnce(&mut Value)) -> Result<Bundle, SignatureError> {
    let mut bundle = Maker::new(0).bundle(&sample());
    change(&mut bundle);
    Bundle::parse(bundle.to_string().as_bytes())
}

/// Of a changed statement that is signed as it is.
fn signed(change: impl FnOnce(&mut Value)) -> Result<crate::signature::SignedModel, SignatureError> {
    let maker = Maker::new(0);
    let mut statement = sample();
    change(&mut statement);
    Bundle::parse(maker.bundle(&statement).to_string().as_bytes()).unwrap().verify(&maker.signer)
}

macro_rules! refused {
    ($result:expr, $pattern:pat) => {
        match $result.err() {
            Some($pattern) => {}
            other => panic!("{other:?}, not {}", stringify!($pattern)),
        }
    };
}

#[test]
fn a_bundle_by_the_required_key_says_which_files_were_signed() {
    for curve in 0..3 {
        let maker = Maker::new(curve);
        let bundle = Bundle::parse(maker.bundle(&sample()).to_string().as_bytes()).unwrap();
        let signed = bundle.verify(&maker.signer).unwrap();
        assert_eq!((signed.name(), signed.hash(), signed.files().len()), ("tiny", HashType::Sha256, 2));
        let ignores = |path: &str| signed.ignores(&path.parse().unwrap());
        assert!(ignores("model.sig") && ignores(".git/config") && ignores("docs/a/b"));
        assert!(!ignores("model.sig2") && !ignores(".gitignore") && !ignores("docs2/a") && !ignores("a/model.sig"));
        refused!(bundle.verify(&Maker::new(curve).signer), SignatureError::OtherKey { .. });
        assert_eq!(maker.signer.to_string(), maker.pem);
    }
}

#[test]
fn without_a_hint_the_signature_alone_decides() {
    let maker = Maker::new(0);
    for hint in [json!({}), json!({ "hint": null }), json!({ "hint": "" })] {
        let mut bundle = maker.bundle(&sample());
        bundle["verificationMaterial"]["publicKey"] = hint;
        let bundle = Bundle::parse(bundle.to_string().as_bytes()).unwrap();
        assert!(bundle.verify(&maker.signer).is_ok());
        refused!(bundle.verify(&Maker::new(0).signer), SignatureError::BadSignature { .. });
        refused!(bundle.verify(&Maker::new(1).signer), SignatureError::BadSignature { .. });
    }
}

#[test]
fn a_bundle_that_was_changed_does_not_verify() {
    let maker = Maker::new(0);
    let genuine = maker.bundle(&sample());
    let other = maker.bundle(&statement(&[("config.json", b"{}")], &[]));
    let mut swapped = genuine.clone();
    swapped["dsseEnvelope"]["payload"] = other["dsseEnvelope"]["payload"].clone();
    refused!(Bundle::parse(swapped.to_string().as_bytes()).unwrap().verify(&maker.signer), SignatureError::BadSignature { .. });
    assert!(Bundle::parse(genuine.to_string().as_bytes()).unwrap().verify(&maker.signer).is_ok());
}

#[test]
fn another_kind_of_bundle_is_refused_by_name() {
    assert!(parse(|_| ()).is_ok());
    assert!(parse(|bundle| bundle["more"] = json!(1)).is_ok(), "what is not signed and not read may be there");
    refused!(
        parse(|bundle| bundle["mediaType"] = json!("application/vnd.dev.sigstore.bundle.v0.2+json")),
        SignatureError::MediaType { .. }
    );
    refused!(parse(|bundle| bundle["verificationMaterial"] = json!({ "certificate": { "rawBytes": "" } })), SignatureError::NotByKey);
    refused!(
        parse(|bundle| bundle["verificationMaterial"]["x509CertificateChain"] = json!({ "certificates": [] })),
        SignatureError::NotByKey
    );
    refused!(parse(|bundle| bundle["dsseEnvelope"]["payloadType"] = json!("text/plain")), SignatureError::PayloadType { .. });
    refused!(parse(|bundle| bundle["dsseEnvelope"]["signatures"] = json!([])), SignatureError::Signatures { found: 0 });
    let twice = |bundle: &mut Value| {
        let one = bundle["dsseEnvelope"]["signatures"][0].clone();
        bundle["dsseEnvelope"]["signatures"] = json!([one, one]);
    };
    refused!(parse(twice), SignatureError::Signatures { found: 2 });
    refused!(parse(|bundle| bundle["dsseEnvelope"]["payload"] = json!("%")), SignatureError::Form { .. });
    refused!(parse(|bundle| *bundle = json!({})), SignatureError::Form { .. });
    refused!(Bundle::parse(b""), SignatureError::Form { .. });
    refused!(Bundle::parse(&vec![b' '; 32 * 1024 * 1024 + 1]), SignatureError::TooLarge { .. });
    refused!(Bundle::parse(&vec![b' '; 32 * 1024 * 1024]), SignatureError::Form { .. });
}

#[test]
fn a_signed_statement_of_another_kind_is_refused_by_name() {
    assert!(signed(|_| ()).is_ok());
    assert!(signed(|statement| statement["predicate"]["model_card"] = json!({})).is_ok(), "verifiers of 1.0 ignore further members");
    refused!(signed(|statement| statement["_type"] = json!("https://in-toto.io/Statement/v0.1")), SignatureError::StatementType { .. });
    refused!(
        signed(|statement| statement["predicateType"] = json!("https://model_signing/Digests/v0.1")),
        SignatureError::PredicateType { .. }
    );
    refused!(signed(|statement| statement["subject"] = json!([])), SignatureError::Subjects { found: 0 });
    refused!(signed(|statement| statement["predicate"]["serialization"]["method"] = json!("shards")), SignatureError::Method { .. });
    refused!(signed(|statement| statement["predicate"]["serialization"]["hash_type"] = json!("blake2b")), SignatureError::HashType { .. });
    let other = |statement: &mut Value| statement["predicate"]["resources"][1]["algorithm"] = json!("blake3");
    refused!(signed(other), SignatureError::Resource { .. });
    for name in ["../config.json", "/etc/passwd", "a//b", "model:0:4", "config.json"] {
        refused!(signed(|statement| statement["predicate"]["resources"][1]["name"] = json!(name)), SignatureError::Resource { .. });
    }
    let digest = |text: &'static str| signed(|statement| statement["predicate"]["resources"][0]["digest"] = json!(text));
    refused!(digest("00"), SignatureError::Resource { .. });
    refused!(digest("44136FA355B3678A1146AD16F7E8649E94FB4FC21FE77E8310C060F61CAAFF8A"), SignatureError::Resource { .. });
    refused!(digest("0000000000000000000000000000000000000000000000000000000000000000"), SignatureError::RootDigest);
    refused!(signed(|statement| statement["subject"][0]["digest"] = json!({ "sha512": "00" })), SignatureError::RootDigest);
    refused!(signed(|statement| statement["predicate"]["resources"] = json!([{}])), SignatureError::Form { .. });
    let maker = Maker::new(0);
    let text = sample().to_string().replace("\"sha256\":\"", "\"sha256\":\"00\",\"sha256\":\"");
    refused!(
        Bundle::parse(maker.bundle_of(text.as_bytes()).to_string().as_bytes()).unwrap().verify(&maker.signer),
        SignatureError::Form { .. }
    );
}

#[test]
fn a_signers_key_is_one_pem_block_of_a_known_curve() {
    let maker = Maker::new(0);
    let parse = |pem: &str| pem.parse::<ModelSigner>();
    assert_eq!(parse(&maker.pem.replace('\n', "\r\n")).unwrap(), maker.signer);
    assert_eq!(parse("").unwrap_err(), KeyError::Pem);
    assert_eq!(parse(&maker.pem.replace("PUBLIC", "PRIVATE")).unwrap_err(), KeyError::Pem);
    assert_eq!(parse(&format!("{0}{0}", maker.pem)).unwrap_err(), KeyError::Pem);
    let of = |der: &str| parse(&format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", to_base64(&hex::decode(der).unwrap())));
    let ed25519 = format!("302a300506032b6570032100{}", "11".repeat(32));
    assert_eq!(of(&ed25519).unwrap_err(), KeyError::Curve);
    assert_eq!(of(&format!("{}02{}", PREFIXES[0].0, "11".repeat(64))).unwrap_err(), KeyError::Point);
    assert_eq!(of(&format!("{}04{}", PREFIXES[0].0, "11".repeat(64))).unwrap_err(), KeyError::Point);
    assert_eq!(of(&format!("{}04{}", PREFIXES[0].0, "11".repeat(65))).unwrap_err(), KeyError::Curve);
}
