//! Bundles: what is read, what is refused by name, and what may follow what.

use std::time::Duration;

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    PKCS_RSA_SHA256, SanType,
};
use serde_json::{Value, json};

use super::{Bundle, BundleError, TrustDomain};
use crate::encoding::to_base64;
use crate::limits;
use crate::time::UnixTime;
use crate::tokens::{EcKey, Jwk, JwkError, RsaKey};

fn domain(name: &str) -> TrustDomain {
    name.parse().unwrap()
}

fn acme() -> TrustDomain {
    domain("acme.example")
}

/// A CA's certificate, changed.
fn certificate(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.subject_alt_names = vec![SanType::URI("spiffe://acme.example".try_into().unwrap())];
    change(&mut params);
    params.self_signed(key).unwrap().der().to_vec()
}

fn ca() -> Vec<u8> {
    certificate(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(), |_| ())
}

fn jwk() -> Jwk {
    EcKey::generate().unwrap().jwk()
}

fn bundle(sequence: u64, x509: Vec<Vec<u8>>, jwt: Vec<Jwk>) -> Result<Bundle, BundleError> {
    Bundle::new(acme(), sequence, Duration::from_secs(60), x509, jwt)
}

fn parse(json: &Value) -> Result<Bundle, BundleError> {
    Bundle::parse(&acme(), json.to_string().as_bytes())
}

fn written(bundle: &Bundle) -> Value {
    serde_json::from_str(&bundle.to_json()).unwrap()
}

#[test]
fn a_bundle_reads_back_as_it_was_written() {
    for curve in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384] {
        let der = certificate(&KeyPair::generate_for(curve).unwrap(), |_| ());
        let whole = bundle(7, vec![der.clone(), ca()], vec![jwk(), jwk()]).unwrap();
        let json = written(&whole);
        assert_eq!((&json["spiffe_sequence"], &json["spiffe_refresh_hint"]), (&json!(7), &json!(60)));
        assert_eq!((&json["keys"][0]["use"], &json["keys"][0]["x5c"]), (&json!("x509-svid"), &json!([to_base64(&der)])));
        assert!(json["keys"][0].get("kid").is_none() && json["keys"][0]["kty"] == "EC");
        assert_eq!((&json["keys"][2]["use"], json["keys"][2].get("x5c")), (&json!("jwt-svid"), None));
        assert_eq!(json["keys"][2]["kid"], json!(whole.jwt_authorities()[0].kid()));
        assert_eq!(parse(&json), Ok(whole));
    }
}

#[test]
fn an_rsa_ca_reads_with_its_own_key_beside_it() {
    let key = RsaKey::generate().unwrap();
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&key.to_pkcs8().unwrap().as_slice().into(), &PKCS_RSA_SHA256).unwrap();
    let whole = bundle(1, vec![certificate(&pair, |_| ())], vec![]).unwrap();
    let json = written(&whole);
    let jwk = serde_json::to_value(key.jwk()).unwrap();
    assert_eq!((&json["keys"][0]["kty"], &json["keys"][0]["n"]), (&json!("RSA"), &jwk["n"]));
    assert_eq!(parse(&json), Ok(whole));
}

#[test]
fn what_is_not_known_is_passed_over() {
    let whole = bundle(1, vec![ca()], vec![jwk()]).unwrap();
    let mut json = written(&whole);
    let keys = json["keys"].as_array_mut().unwrap();
    let mut unnamed = keys[1].clone();
    unnamed.as_object_mut().unwrap().remove("use");
    keys.push(unnamed);
    keys.push(json!({ "kty": "EC", "use": "wit-svid", "kid": "w" }));
    keys.push(json!({ "kty": "oct", "use": "jwt-svid", "kid": "o" }));
    keys.push(json!({ "kty": "OKP", "crv": "Ed25519", "use": "jwt-svid", "kid": "e", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }));
    json["more"] = json!(true);
    assert_eq!(parse(&json), Ok(whole));
    json.as_object_mut().unwrap().remove("spiffe_sequence");
    json.as_object_mut().unwrap().remove("spiffe_refresh_hint");
    let read = parse(&json).unwrap();
    assert_eq!((read.sequence(), read.refresh_hint()), (0, Duration::from_secs(300)));
}

#[test]
fn a_bundle_without_keys_is_a_revoked_trust_domain() {
    let empty = || BundleError::Empty { trust_domain: acme() };
    assert_eq!(parse(&json!({ "keys": [] })), Err(empty()));
    // Keys of kinds that are not known here revoke nothing.
    assert_eq!(
        parse(&json!({ "keys": [{ "kty": "oct", "use": "jwt-svid", "kid": "o" }, { "kty": "EC", "use": "wit-svid" }] })),
        Err(BundleError::NoneUsable { trust_domain: acme() })
    );
    assert_eq!(bundle(1, vec![], vec![]), Err(empty()));
}

#[test]
fn a_key_that_is_known_and_malformed_refuses_the_bundle() {
    let whole = written(&bundle(1, vec![ca()], vec![jwk()]).unwrap());
    let changed = |index: usize, member: &str, value: Value| {
        let mut json = whole.clone();
        match value {
            Value::Null => drop(json["keys"][index].as_object_mut().unwrap().remove(member)),
            value => json["keys"][index][member] = value,
        }
        parse(&json)
    };
    let other = written(&bundle(1, vec![ca()], vec![]).unwrap())["keys"][0]["x5c"][0].clone();
    assert_eq!(changed(0, "x5c", json!([other])), Err(BundleError::OtherKey { index: 0 }));
    let own = whole["keys"][0]["x5c"][0].clone();
    assert_eq!(changed(0, "x5c", json!([own, own])), Err(BundleError::Certificates { index: 0, found: 2 }));
    assert_eq!(changed(0, "x5c", json!([])), Err(BundleError::Certificates { index: 0, found: 0 }));
    assert_eq!(changed(0, "x5c", Value::Null), Err(BundleError::Certificates { index: 0, found: 0 }));
    assert_eq!(changed(0, "x5c", json!(["!"])), Err(BundleError::Certificate { what: "is not base64" }));
    assert_eq!(changed(0, "x5c", json!(["AAAA"])), Err(BundleError::Certificate { what: "is not X.509 in DER" }));
    assert_eq!(changed(0, "x5c", json!(["A".repeat(10_928)])), Err(BundleError::Certificate { what: "is too large" }));
    assert_eq!(changed(0, "y", Value::Null), Err(BundleError::Key { index: 0, error: JwkError::Member { name: "y" } }));
    assert_eq!(changed(0, "d", json!("AA")), Err(BundleError::Key { index: 0, error: JwkError::Private }));
    assert_eq!(changed(1, "d", json!("AA")), Err(BundleError::Key { index: 1, error: JwkError::Private }));
    assert_eq!(changed(1, "x", json!("AA")), Err(BundleError::Key { index: 1, error: JwkError::Member { name: "x" } }));
    assert_eq!(changed(1, "kid", Value::Null), Err(BundleError::NoKeyId));
    assert!(matches!(changed(0, "x5c", json!("AA")), Err(BundleError::Form { .. })));
    let key = jwk();
    let twice = bundle(1, vec![], vec![key.clone(), jwk().with_kid(key.kid().unwrap())]);
    assert_eq!(twice, Err(BundleError::SameName { kid: key.kid().unwrap().to_owned() }));
}

#[test]
fn only_a_ca_of_this_trust_domain_is_an_authority() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let with = |change: fn(&mut CertificateParams)| bundle(1, vec![certificate(&key, change)], vec![]);
    let wrong = |what| Err(BundleError::Certificate { what });
    assert!(with(|_| ()).is_ok());
    assert!(with(|params| params.subject_alt_names.clear()).is_ok(), "a CA need not have an ID");
    assert_eq!(with(|params| params.is_ca = IsCa::NoCa), wrong("is no CA's"));
    assert_eq!(with(|params| params.is_ca = IsCa::ExplicitNoCa), wrong("is no CA's"));
    assert_eq!(with(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]), wrong("may not sign certificates"));
    assert_eq!(with(|params| params.key_usages.clear()), wrong("may not sign certificates"));
    for other in ["spiffe://other.example", "spiffe://acme.example/a", "https://acme.example", "spiffe://acme.example:1"] {
        let der = certificate(&key, |params| params.subject_alt_names = vec![SanType::URI(other.try_into().unwrap())]);
        let refused = bundle(1, vec![der], vec![]).unwrap_err();
        assert_eq!(refused, BundleError::OtherTrustDomain { expected: acme(), found: other.to_owned() });
    }
    let ed25519 = certificate(&KeyPair::generate_for(&PKCS_ED25519).unwrap(), |_| ());
    assert_eq!(bundle(1, vec![ed25519], vec![]), wrong("has a key of a kind that is not read here"));
    let trailing = [ca(), vec![0]].concat();
    assert_eq!(bundle(1, vec![trailing], vec![]), wrong("is not X.509 in DER"));
}

#[test]
fn a_bundle_follows_one_with_a_lower_number_or_its_own() {
    let (key, other) = (jwk(), jwk());
    let numbered = |sequence, key: &Jwk| bundle(sequence, vec![], vec![key.clone()]).unwrap();
    assert_eq!(numbered(8, &other).follows(&numbered(7, &key)), Ok(()));
    assert_eq!(numbered(7, &key).follows(&numbered(7, &key)), Ok(()));
    assert_eq!(numbered(6, &key).follows(&numbered(7, &key)), Err(BundleError::RolledBack { expected: 7, found: 6 }));
    assert_eq!(numbered(0, &key).follows(&numbered(7, &key)), Err(BundleError::RolledBack { expected: 7, found: 0 }));
    assert_eq!(numbered(7, &other).follows(&numbered(7, &key)), Err(BundleError::SameNumber { found: 7 }));
    assert_eq!(numbered(0, &other).follows(&numbered(0, &key)), Ok(()), "a publisher without numbers");
    let elsewhere = Bundle::new(domain("other.example"), 9, Duration::ZERO, vec![], vec![key.clone()]).unwrap();
    let refused = elsewhere.follows(&numbered(7, &key)).unwrap_err();
    assert_eq!(refused, BundleError::OtherTrustDomain { expected: acme(), found: "other.example".to_owned() });
}

#[test]
fn a_bundle_is_live_while_one_of_its_cas_holds() {
    let at = UnixTime::from_seconds(2_000_000_000);
    let until = |year: i32| {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        certificate(&key, |params| params.not_after = rcgen::date_time_ymd(year, 1, 1))
    };
    let live = |x509: Vec<Vec<u8>>| bundle(1, x509, vec![jwk()]).unwrap().check_live(at);
    assert_eq!(live(vec![until(2030), until(2040)]), Ok(()));
    let not_after = UnixTime::parse("2030-01-01T00:00:00Z").unwrap();
    assert_eq!(live(vec![until(2029), until(2030)]), Err(BundleError::Expired { not_after, at }));
    assert_eq!(live(vec![]), Ok(()), "keys of tokens do not expire");
    let from = |year: i32| {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        certificate(&key, |params| params.not_before = rcgen::date_time_ymd(year, 1, 1))
    };
    let not_before = UnixTime::parse("2034-01-01T00:00:00Z").unwrap();
    assert_eq!(live(vec![from(2035), from(2034)]), Err(BundleError::NotYet { not_before, at }));
    assert_eq!(live(vec![from(2034), until(2030)]), Err(BundleError::NotYet { not_before, at }), "one is over, the other has not begun");
    assert_eq!(live(vec![from(2034), from(2033)]), Ok(()));
    let early = bundle(1, vec![from(2034)], vec![]).unwrap();
    assert_eq!(early.check_live(not_before), Ok(()));
    let edge = bundle(1, vec![until(2030)], vec![]).unwrap();
    assert_eq!(edge.check_live(not_after), Ok(()));
    assert!(edge.check_live(UnixTime::from_seconds(not_after.seconds() + 1)).is_err());
}

#[test]
fn a_bundle_has_limits_and_one_form() {
    let large = vec![b' '; limits::SPIFFE_BUNDLE + 1];
    assert_eq!(Bundle::parse(&acme(), &large), Err(BundleError::TooLarge { limit: 65536, found: 65537 }));
    let many = |count: usize| parse(&json!({ "keys": vec![json!({ "kty": "oct" }); count] }));
    assert_eq!(many(limits::KEY_SET_KEYS), Err(BundleError::NoneUsable { trust_domain: acme() }));
    assert_eq!(many(limits::KEY_SET_KEYS + 1), Err(BundleError::TooMany { limit: 100, found: 101 }));
    assert_eq!(bundle(1, vec![], vec![jwk(); 101]), Err(BundleError::TooMany { limit: 100, found: 101 }));
    let duplicate = Bundle::parse(&acme(), br#"{"keys":[],"spiffe_sequence":1,"spiffe_sequence":2}"#);
    assert_eq!(duplicate, Err(BundleError::Duplicate { member: "spiffe_sequence".to_owned() }));
    for bad in ["", "[]", "{}", r#"{"keys":[],"spiffe_sequence":-1}"#, r#"{"keys":[],"spiffe_sequence":"1"}"#, r#"{"keys":[{}]}"#, "{}{}"] {
        assert!(matches!(Bundle::parse(&acme(), bad.as_bytes()), Err(BundleError::Form { .. })), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_change_to_a_bundle_makes_it_panic_or_another_trust_domains(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut json = bundle(1, vec![ca()], vec![jwk()]).unwrap().to_json().into_bytes();
        let at = place.index(json.len());
        json[at] = byte;
        if let Ok(read) = Bundle::parse(&acme(), &json) {
            prop_assert_eq!(read.trust_domain(), &acme());
            prop_assert_eq!(Bundle::parse(&acme(), read.to_json().as_bytes()), Ok(read));
        }
    }
}
