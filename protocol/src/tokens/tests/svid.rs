//! JWT-SVIDs under the bundles of their trust domains.

use std::time::Duration;

use serde_json::json;

use super::super::svid::{TYPE, TYPES, unverified_id, verify_svid, verify_svid_by};
use super::super::{JwtSvidClaims, SvidError, TokenError, result, sign};
use super::*;
use crate::ids::AnchorClass;
use crate::spiffe::{Bundle, SpiffeError};

fn bundle(trust_domain: &str) -> Bundle {
    Bundle::new(trust_domain.parse().unwrap(), 1, Duration::from_secs(300), vec![], keys()).unwrap()
}

fn svid() -> JwtSvidClaims {
    JwtSvidClaims {
        iss: None,
        sub: "spiffe://acme.example/inference/vllm".parse().unwrap(),
        aud: vec!["tools".to_owned()],
        iat: AT,
        nbf: None,
        exp: UnixTime::from_seconds(NOW + 300),
        jti: "f00d".to_owned(),
        anchors: Some(AnchorClass::Test),
    }
}

fn read(token: &str) -> Result<super::super::VerifiedSvid, SvidError> {
    verify_svid(token, &bundle("acme.example"), "tools", AT)
}

#[test]
fn an_svid_says_what_it_said() {
    let token = svid().sign(&*EC).unwrap();
    let verified = read(&token).unwrap();
    assert_eq!((verified.id(), unverified_id(&token).as_ref()), (&svid().sub, Ok(verified.id())));
    assert_eq!(serde_json::from_value::<JwtSvidClaims>(verified.token().claims().clone()).unwrap(), svid());
    let claims = json!({
        "sub": "spiffe://acme.example/inference/vllm", "aud": ["tools"], "iat": NOW, "exp": NOW + 300, "jti": "f00d",
        "portcullis.anchors": "test",
    });
    assert_eq!(verified.token().claims(), &claims);
    let federated = JwtSvidClaims { iss: Some("https://id.acme.example".to_owned()), nbf: Some(AT), ..svid() };
    let verified = read(&federated.sign(&*RSA).unwrap()).unwrap();
    assert_eq!(serde_json::from_value::<JwtSvidClaims>(verified.token().claims().clone()).unwrap(), federated);
    // Claims that others add say nothing to us, and one audience may stand alone.
    let foreign = json!({ "sub": svid().sub, "aud": "tools", "exp": NOW + 60, "more": { "x": 1 } });
    assert_eq!(read(&sign("JOSE", &foreign, &*EC).unwrap()).unwrap().id(), &svid().sub);
}

#[test]
fn an_svid_verifies_under_its_own_trust_domain_alone() {
    let token = svid().sign(&*EC).unwrap();
    let refused = verify_svid(&token, &bundle("other.example"), "tools", AT).unwrap_err();
    assert_eq!(refused, SvidError::TrustDomain { expected: "other.example".parse().unwrap(), found: svid().sub });
    assert_eq!(refused.code(), "svid-trust-domain");
    // Keys in another form: with a trust domain the same, and without one the caller answers for it.
    let keys = keys();
    let expected = Expected { types: &["eat+jwt"], ..expected(&keys) };
    let other = "other.example".parse().unwrap();
    assert_eq!(verify_svid_by(&token, &expected, Some(&other)).unwrap_err(), refused);
    assert_eq!(verify_svid_by(&token, &expected, None).unwrap().id(), &svid().sub);
}

#[test]
fn a_subject_is_a_spiffe_id_with_a_path() {
    for (bad, error) in [
        ("vllm", SpiffeError::Scheme),
        ("spiffe://acme.example", SpiffeError::NoPath),
        ("spiffe://acme.example/../x", SpiffeError::Path),
        ("https://acme.example/x", SpiffeError::Scheme),
    ] {
        let token = sign(TYPE, &with("sub", json!(bad)), &*EC).unwrap();
        assert_eq!(read(&token).unwrap_err(), SvidError::Subject(error.clone()), "{bad}");
        assert_eq!(unverified_id(&token).unwrap_err(), SvidError::Subject(error));
    }
    for bad in [Value::Null, json!(1)] {
        let token = sign(TYPE, &with("sub", bad), &*EC).unwrap();
        assert!(matches!(read(&token).unwrap_err(), SvidError::Token(TokenError::Claim { name: "sub", .. })));
        assert!(matches!(unverified_id(&token).unwrap_err(), SvidError::Token(TokenError::Claim { name: "sub", .. })));
    }
}

#[test]
fn a_token_of_another_class_is_no_svid_and_an_svid_is_none_of_another() {
    let ear = sign(result::TYPE, &claims(), &*EC).unwrap();
    assert!(matches!(read(&ear).unwrap_err(), SvidError::Token(TokenError::Type { .. })));
    let token = svid().sign(&*EC).unwrap();
    let refused = result::Ear::verify(&token, &Expected { types: &[result::TYPE], ..expected(&keys()) }).unwrap_err();
    assert!(matches!(refused, result::EarError::Token(TokenError::Type { .. })));
    assert!(!TYPES.contains(&result::TYPE));
}

#[test]
fn an_svid_for_another_audience_or_time_is_refused() {
    let token = svid().sign(&*EC).unwrap();
    let refused = verify_svid(&token, &bundle("acme.example"), "other", AT).unwrap_err();
    assert!(matches!(refused, SvidError::Token(TokenError::Audience { .. })));
    let late = verify_svid(&token, &bundle("acme.example"), "tools", UnixTime::from_seconds(NOW + 330)).unwrap_err();
    assert!(matches!(late, SvidError::Token(TokenError::Expired { .. })));
}
