//! Attestation results: never better than what was found, and nothing else read as one.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::super::result::{Appraisal, Binding, CPU, Ear, EarClaims, EarError, PROFILE, TYPE, Tier, TrustClaim, Vector, VerifierId};
use super::super::{TokenError, sign};
use super::*;
use crate::ids::AnchorClass;
use crate::keys::SigningKey;

fn vector() -> Vector {
    Vector {
        instance_identity: Some(TrustClaim::AFFIRMING),
        executables: Some(TrustClaim::AFFIRMING),
        hardware: Some(TrustClaim::AFFIRMING),
        runtime_opaque: Some(TrustClaim::AFFIRMING),
        ..Vector::default()
    }
}

fn ear() -> EarClaims {
    EarClaims {
        iss: "https://id.acme.example".to_owned(),
        sub: Some("spiffe://acme.example/a".to_owned()),
        aud: "tools".to_owned(),
        iat: AT,
        exp: UnixTime::from_seconds(NOW + 300),
        jti: "f00d".to_owned(),
        nonce: Some("0123456789abcdef".to_owned()),
        verifier: VerifierId::this(),
        submods: BTreeMap::from([(CPU.to_owned(), Appraisal::new(vector(), Some("inference".to_owned())))]),
        key: *SigningKey::from_seed(&[1; 32]).unwrap().public(),
        anchors: AnchorClass::Test,
    }
}

fn read(token: &str) -> Result<Ear, EarError> {
    Ear::verify(token, &Expected { types: &[TYPE], ..expected(&keys()) })
}

/// The claims of [`ear`] as JSON.
fn written() -> Value {
    let token = ear().sign(&*EC).unwrap();
    let expected_keys = keys();
    super::super::verify(&token, &Expected { types: &[TYPE], ..expected(&expected_keys) }).unwrap().into_claims()
}

/// What a reader makes of [`ear`] with a change.
fn changed(change: impl FnOnce(&mut Value)) -> Result<Ear, EarError> {
    let mut claims = written();
    change(&mut claims);
    read(&sign(TYPE, &claims, &*EC).unwrap())
}

#[test]
fn a_result_has_the_deployed_names() {
    let key = crate::encoding::to_base64(SigningKey::from_seed(&[1; 32]).unwrap().public().as_bytes());
    let x = key.replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned();
    let expected = json!({
        "eat_profile": "tag:github.com,2023:veraison/ear",
        "iss": "https://id.acme.example", "sub": "spiffe://acme.example/a", "aud": "tools",
        "iat": NOW, "exp": NOW + 300, "jti": "f00d", "eat_nonce": "0123456789abcdef",
        "ear.verifier-id": { "developer": "portcullis", "build": concat!("portcullis ", env!("CARGO_PKG_VERSION")) },
        "submods": { "cpu0": {
            "ear.status": "affirming",
            "ear.trustworthiness-vector": { "instance-identity": 2, "executables": 2, "hardware": 2, "runtime-opaque": 2 },
            "ear.appraisal-policy-id": "inference",
        } },
        "cnf": { "jwk": { "kty": "OKP", "crv": "Ed25519", "x": x } },
        "portcullis.anchors": "test",
    });
    assert_eq!(written(), expected);
}

#[test]
fn whoever_a_result_was_issued_to_sees_whom_it_is_about_without_its_keys() {
    let whole = ear();
    let binding = Binding::unverified(&whole.sign(&*EC).unwrap()).unwrap();
    assert_eq!((binding.subject(), binding.audience(), binding.number()), (whole.sub.as_deref(), Some("tools"), Some("f00d")));
    assert_eq!(binding.key(), Some(&whole.key));
    // A token of another type is no result, whatever it claims.
    let other = Binding::unverified(&sign("JWT", &written(), &*EC).unwrap()).unwrap_err();
    assert!(matches!(other, EarError::Token(TokenError::Type { .. })), "{other}");
    let mut claims = written();
    claims["aud"] = json!(["tools", "others"]);
    assert!(matches!(Binding::unverified(&sign(TYPE, &claims, &*EC).unwrap()), Err(EarError::Form(_))), "it is for one");
    claims["aud"] = json!("tools");
    claims["cnf"] = json!({ "jwk": EC.jwk() });
    assert_eq!(Binding::unverified(&sign(TYPE, &claims, &*EC).unwrap()).unwrap().key(), None, "a key of another kind");
}

#[test]
fn a_result_reads_back() {
    let read = read(&ear().sign(&*EC).unwrap()).unwrap();
    let whole = ear();
    assert_eq!((read.submods(), read.issuer(), read.subject()), (&whole.submods, Some(whole.iss.as_str()), whole.sub.as_deref()));
    assert_eq!((read.issued(), read.expires(), read.number()), (whole.iat, whole.exp, Some("f00d")));
    assert_eq!((read.nonce(), read.verifier(), read.anchors()), (whole.nonce.as_deref(), &whole.verifier, Some(whole.anchors)));
    assert_eq!(read.key().and_then(Jwk::as_ed25519), Some(&whole.key));
    assert_eq!(read.worst(&[CPU]), Tier::Affirming);
    let cpu = &read.submods()[CPU];
    assert_eq!((cpu.status(), cpu.vector(), cpu.policy()), (Tier::Affirming, &vector(), Some("inference")));
}

#[test]
fn another_profile_is_refused_to_the_letter() {
    for other in ["tag:ietf.org,2026:rats/ear#03", "tag:github.com,2023:veraison/ear#1", "TAG:github.com,2023:veraison/ear", ""] {
        let refused = changed(|claims| claims["eat_profile"] = json!(other)).unwrap_err();
        assert_eq!(refused, EarError::Profile { found: Some(other.to_owned()) });
    }
    for missing in [Value::Null, json!([PROFILE])] {
        assert_eq!(changed(|claims| claims["eat_profile"] = missing).unwrap_err(), EarError::Profile { found: None });
    }
    // The newer draft's names under the deployed profile: no status, which is never a pass.
    let newer = |claims: &mut Value| claims["submods"] = json!({ "cpu0": { "ear_status": "affirming" } });
    assert_eq!(changed(newer).unwrap_err(), EarError::NoStatus { part: CPU.to_owned() });
}

#[test]
fn a_status_that_is_missing_or_better_than_its_vector_is_refused() {
    let status = |status: Value, vector: Value| {
        changed(|claims| claims["submods"][CPU] = json!({ "ear.status": status, "ear.trustworthiness-vector": vector }))
    };
    let better = |status, vector| EarError::BetterThanVector { part: CPU.to_owned(), status, vector };
    for (says, found, tier) in [
        ("affirming", json!({ "hardware": 32 }), Tier::Warning),
        ("affirming", json!({ "hardware": 2, "executables": 96 }), Tier::Contraindicated),
        ("affirming", json!({ "hardware": 2, "executables": -1 }), Tier::None),
        ("affirming", json!({ "hardware": 2, "executables": 1 }), Tier::None),
        ("affirming", json!({ "hardware": 0 }), Tier::None),
        ("affirming", json!({}), Tier::None),
        ("none", json!({ "hardware": 33 }), Tier::Warning),
        ("none", json!({ "hardware": -128 }), Tier::Contraindicated),
        ("warning", json!({ "hardware": 127 }), Tier::Contraindicated),
    ] {
        let named: Tier = serde_json::from_value(json!(says)).unwrap();
        assert_eq!(status(json!(says), found).unwrap_err(), better(named, tier));
    }
    // Equal or worse passes, by name or by number.
    for (says, found) in [
        (json!("affirming"), json!({ "hardware": 31, "executables": -2 })),
        (json!(2), json!({ "hardware": 2 })),
        (json!("none"), json!({ "hardware": 2 })),
        (json!(0), json!({})),
        (json!("warning"), json!({ "hardware": 95, "executables": -33 })),
        (json!(32), json!({ "hardware": 2 })),
        (json!("contraindicated"), json!({ "hardware": 99 })),
        (json!(96), json!({})),
    ] {
        assert!(status(says.clone(), found).is_ok(), "{says}");
    }
    let missing = changed(|claims| drop(claims["submods"][CPU].as_object_mut().unwrap().remove("ear.status"))).unwrap_err();
    assert_eq!(missing, EarError::NoStatus { part: CPU.to_owned() });
    for bad in [json!("Affirming"), json!("ok"), json!(1), json!(3), json!(-1), json!(2.0), json!(300), json!(["affirming"])] {
        assert!(matches!(status(bad.clone(), json!({ "hardware": 2 })), Err(EarError::Form(_))), "{bad}");
    }
    // A claim that nobody knows could be the worst of all.
    assert!(matches!(status(json!("affirming"), json!({ "hardware": 2, "firmware": 96 })), Err(EarError::Form(_))));
    assert!(matches!(status(json!("affirming"), json!({ "hardware": 200 })), Err(EarError::Form(_))));
}

#[test]
fn one_bad_part_spoils_the_whole_and_so_does_a_missing_one() {
    let part = |says: &str, hardware: i8| json!({ "ear.status": says, "ear.trustworthiness-vector": { "hardware": hardware } });
    let two = |second: Value| changed(|claims| claims["submods"]["gpu0"] = second).unwrap();
    assert_eq!(two(part("affirming", 2)).worst(&[CPU, "gpu0"]), Tier::Affirming);
    assert_eq!(two(part("none", 0)).worst(&[CPU]), Tier::None);
    assert_eq!(two(part("warning", 32)).worst(&[]), Tier::Warning);
    assert_eq!(two(part("affirming", 2)).worst(&[CPU, "gpu1"]), Tier::Contraindicated);
    assert_eq!(changed(|claims| claims["submods"] = json!({})).unwrap_err(), EarError::Parts { found: 0 });
    let many = |count: usize| {
        let parts: serde_json::Map<_, _> = (0..count).map(|number| (format!("gpu{number}"), part("none", 0))).collect();
        changed(|claims| claims["submods"] = parts.into())
    };
    assert!(many(64).is_ok());
    assert_eq!(many(65).unwrap_err(), EarError::Parts { found: 65 });
    let listed = changed(|claims| claims["submods"]["gpu0"] = json!(["affirming", { "hardware": 2 }, null]));
    assert!(matches!(listed, Err(EarError::Form(_))), "members without their names");
    let listed = changed(|claims| claims["submods"][CPU]["ear.trustworthiness-vector"] = json!([2, 2, 2]));
    assert!(matches!(listed, Err(EarError::Form(_))), "values without their names");
    // A nested token is no appraisal that is read here.
    let nested = changed(|claims| claims["submods"]["gpu0"] = json!(["JWT", "a.b.c"]));
    assert!(matches!(nested, Err(EarError::Form(_))));
}

#[test]
fn what_a_result_must_have_is_looked_for() {
    for name in ["iat", "ear.verifier-id", "submods"] {
        let missing = changed(|claims| drop(claims.as_object_mut().unwrap().remove(name))).unwrap_err();
        assert!(matches!(missing, EarError::Form(_)), "{name}");
    }
    for name in ["iss", "sub", "jti", "eat_nonce", "cnf", "portcullis.anchors"] {
        assert!(changed(|claims| drop(claims.as_object_mut().unwrap().remove(name))).is_ok(), "{name}");
    }
    for bad in ["1234567", &"x".repeat(89)] {
        assert_eq!(changed(|claims| claims["eat_nonce"] = json!(bad)).unwrap_err(), EarError::Nonce);
        let unwritable = EarClaims { nonce: Some((*bad).to_owned()), ..ear() };
        assert!(matches!(unwritable.sign(&*EC), Err(TokenError::Unwritable(_))));
    }
    assert!(changed(|claims| claims["eat_nonce"] = json!("12345678")).is_ok());
    assert!(matches!(EarClaims { submods: BTreeMap::new(), ..ear() }.sign(&*EC), Err(TokenError::Unwritable(_))));
    let private = json!({ "jwk": { "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "d": "AA" } });
    assert!(matches!(changed(|claims| claims["cnf"] = private), Err(EarError::Form(_))));
    let thumbprint = json!({ "jkt": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" });
    assert!(
        matches!(changed(|claims| claims["cnf"] = thumbprint), Err(EarError::Form(_))),
        "a binding that is not understood is not ignored"
    );
}

#[test]
fn values_fall_into_the_tiers_of_the_standard() {
    for (value, tier) in [
        (-128, Tier::Contraindicated),
        (-97, Tier::Contraindicated),
        (-96, Tier::Warning),
        (-33, Tier::Warning),
        (-32, Tier::Affirming),
        (-2, Tier::Affirming),
        (-1, Tier::None),
        (1, Tier::None),
        (2, Tier::Affirming),
        (31, Tier::Affirming),
        (32, Tier::Warning),
        (95, Tier::Warning),
        (96, Tier::Contraindicated),
        (127, Tier::Contraindicated),
    ] {
        assert_eq!(TrustClaim::new(value).tier(), Some(tier), "{value}");
    }
    assert_eq!(TrustClaim::new(0).tier(), None);
    assert_eq!(Vector::default().worst(), Tier::None);
}

fn any_vector() -> impl Strategy<Value = Vector> {
    prop::collection::vec(prop::option::of(any::<i8>()), 8).prop_map(|values| {
        let mut values = values.into_iter().map(|value| value.map(TrustClaim::new));
        let mut next = || values.next().flatten();
        Vector {
            instance_identity: next(),
            configuration: next(),
            executables: next(),
            file_system: next(),
            hardware: next(),
            runtime_opaque: next(),
            storage_opaque: next(),
            sourced_data: next(),
        }
    })
}

proptest! {
    /// Whatever was found, what is signed reads back, and its status is no better than any claim.
    #[test]
    fn a_signed_result_is_never_better_than_its_vector(vector in any_vector()) {
        let submods = BTreeMap::from([(CPU.to_owned(), Appraisal::new(vector, None))]);
        let read = read(&EarClaims { submods, ..ear() }.sign(&*EC).unwrap()).unwrap();
        let cpu = &read.submods()[CPU];
        prop_assert_eq!(cpu.vector(), &vector);
        for (name, claim) in vector.claims() {
            prop_assert!(!claim.tier().is_some_and(|tier| cpu.status().is_better_than(tier)), "{}", name);
        }
        prop_assert_eq!(cpu.status() == Tier::Affirming, vector.claims().any(|(_, claim)| claim.tier().is_some())
            && vector.claims().all(|(_, claim)| matches!(claim.tier(), None | Some(Tier::Affirming))));
    }

    /// No status that is read is better than its vector, whatever a signer wrote.
    #[test]
    fn a_read_result_is_never_better_than_its_vector(vector in any_vector(), says in prop::sample::select(vec!["affirming", "none", "warning", "contraindicated"])) {
        let submods = json!({ "cpu0": { "ear.status": says, "ear.trustworthiness-vector": vector } });
        if let Ok(read) = changed(|claims| claims["submods"] = submods) {
            prop_assert!(!read.worst(&[CPU]).is_better_than(vector.worst()));
        }
    }
}
