//! Keys: their forms, other people's vectors, and what is refused.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::jwk::Curve;
use super::super::{Algorithm, JwkError, KeySet, KeySetError, P256Spki, TokenError, from_base64url};
use super::*;
use crate::encoding::sha256;
use crate::keys::PublicKey;
use crate::limits;

impl Jwk {
    /// The same RSA key without name or algorithm.
    pub(super) fn rsa_for_tests(key: &RsaKey) -> Self {
        let json = serde_json::to_value(key.jwk()).unwrap();
        serde_json::from_value(json!({ "kty": json["kty"], "n": json["n"], "e": json["e"] })).unwrap()
    }
}

fn read(json: &Value) -> Result<Jwk, String> {
    serde_json::from_value(json.clone()).map_err(|error: serde_json::Error| error.to_string())
}

/// The key of RFC 7515, appendix A.3.
fn rfc7515_ec() -> Value {
    json!({ "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" })
}

#[test]
fn thumbprints_are_those_of_the_standards() {
    // RFC 7638, section 3.1.
    let rsa = json!({
        "kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    });
    let key = read(&rsa).unwrap();
    assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    assert_eq!((key.kid(), key.algorithm()), (Some("2011-04-29"), Some(Algorithm::Rs256)));
    // RFC 8037, appendix A.3.
    let ed25519 = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
    assert_eq!(read(&ed25519).unwrap().thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn the_signature_of_rfc_7515_verifies() {
    let key = read(&rfc7515_ec()).unwrap();
    let message = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let signature = from_base64url("DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q").unwrap();
    assert!(key.verifies(Algorithm::Es256, message.as_bytes(), &signature));
    assert!(!key.verifies(Algorithm::Es256, &message.as_bytes()[1..], &signature));
    assert!(!key.verifies(Algorithm::Rs256, message.as_bytes(), &signature));
    // As a token it is refused: it names neither its type nor its key.
    let token = format!("{message}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q");
    assert!(matches!(super::super::verify(&token, &expected(&[key])), Err(TokenError::NoType { .. })));
}

#[test]
fn keys_survive_pkcs8_and_json() {
    let again = EcKey::from_pkcs8(&EC.to_pkcs8().unwrap()).unwrap();
    assert_eq!((again.jwk(), again.spki()), (EC.jwk(), EC.spki()));
    let again = RsaKey::from_pkcs8(&RSA.to_pkcs8().unwrap()).unwrap();
    assert_eq!((again.jwk(), again.spki().unwrap()), (RSA.jwk(), RSA.spki().unwrap()));
    for key in keys().into_iter().chain([Jwk::ed25519(PublicKey::from_bytes([7; 32])), EC.jwk().with_usage("sig")]) {
        assert_eq!(read(&serde_json::to_value(&key).unwrap()), Ok(key));
    }
    assert_eq!(EC.kid(), EC.jwk().thumbprint());
    assert_eq!(EC.jwk().thumbprint(), EC.jwk().with_usage("sig").with_kid("other").thumbprint());
    assert_eq!(EcKey::from_pkcs8(&RSA.to_pkcs8().unwrap()).unwrap_err(), TokenError::PrivateKey { expected: "ECDSA on P-256" });
    let expected = TokenError::PrivateKey { expected: "RSA of 2048 to 8192 bits" };
    assert_eq!(RsaKey::from_pkcs8(&EC.to_pkcs8().unwrap()).unwrap_err(), expected);
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap().to_pkcs8v1().unwrap();
    assert_eq!(EcKey::from_pkcs8(p384.as_ref()).unwrap_err(), TokenError::PrivateKey { expected: "ECDSA on P-256" });
}

#[test]
fn a_private_key_shows_nothing_of_itself() {
    assert_eq!(format!("{:?}", *EC), format!("EcKey({})", EC.kid()));
    assert_eq!(format!("{:?}", *RSA), format!("RsaKey({})", RSA.kid()));
}

#[test]
fn a_key_with_a_private_part_is_refused() {
    for member in ["d", "p", "q", "k"] {
        let mut key = rfc7515_ec();
        key[member] = json!("AA");
        assert_eq!(read(&key), Err(JwkError::Private.to_string()), "{member}");
    }
    assert!(read(&rfc7515_ec()).is_ok());
}

#[test]
fn a_point_lies_on_its_curve_and_coordinates_have_their_length() {
    let with = |member: &str, value: &str| {
        let mut key = rfc7515_ec();
        key[member] = json!(value);
        read(&key)
    };
    let x = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    assert_eq!(with("y", x), Err(JwkError::Point { curve: "P-256" }.to_string()));
    assert_eq!(with("x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), Err(JwkError::Point { curve: "P-256" }.to_string()));
    for bad in ["", "AA", "AAf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", &format!("{x}="), "not base64!"] {
        assert_eq!(with("x", bad), Err(JwkError::Member { name: "x" }.to_string()), "{bad}");
    }
    assert_eq!(with("crv", "P-384"), Err(JwkError::Member { name: "x" }.to_string()));
    assert_eq!(with("crv", "secp256k1"), Err(JwkError::Unsupported { what: "crv" }.to_string()));
    assert_eq!(with("kty", "oct"), Err(JwkError::Unsupported { what: "kty" }.to_string()));
    assert_eq!(with("alg", "ES384"), Err(JwkError::Unsupported { what: "alg of its kty and crv" }.to_string()));
    assert_eq!(with("alg", "ECDH-ES"), Err(JwkError::Unsupported { what: "alg" }.to_string()));
    assert_eq!(with("kid", ""), Err(JwkError::Member { name: "kid" }.to_string()));
    assert!(with("alg", "ES256").is_ok());
    let infinity = Jwk::ec(Curve::P256, vec![0]);
    assert_eq!(infinity.unwrap_err(), JwkError::Point { curve: "P-256" });
    let compressed = [&[2], &EC.spki().as_der()[27..59]].concat();
    assert_eq!(Jwk::ec(Curve::P256, compressed).unwrap_err(), JwkError::Point { curve: "P-256" });
}

#[test]
fn an_rsa_key_is_large_and_odd() {
    let modulus = |bytes: usize| {
        let mut modulus = vec![0xff; bytes];
        modulus[0] = 0x80;
        modulus
    };
    let e = vec![1, 0, 1];
    for good in [256, 384, 512, 1024] {
        assert!(Jwk::rsa(modulus(good), e.clone()).is_ok());
    }
    let refused = |modulus: Vec<u8>| Jwk::rsa(modulus, e.clone()).unwrap_err();
    assert_eq!(refused(modulus(128)), JwkError::Modulus { bits: 1024 });
    assert_eq!(refused(modulus(1025)), JwkError::Modulus { bits: 8200 });
    assert_eq!(refused([vec![0x7f], modulus(255)].concat()), JwkError::Modulus { bits: 2047 });
    assert_eq!(refused(vec![]), JwkError::Modulus { bits: 0 });
    assert_eq!(refused([vec![0], modulus(256)].concat()), JwkError::Modulus { bits: 2048 }, "a leading zero");
    let mut even = modulus(256);
    even[255] = 0xfe;
    assert_eq!(refused(even), JwkError::Modulus { bits: 2048 });
    for bad in [vec![], vec![1], vec![3], vec![0xff, 0xff], vec![1, 0, 0], vec![0, 1, 0, 1], vec![1; 6]] {
        assert_eq!(Jwk::rsa(modulus(256), bad).unwrap_err(), JwkError::Exponent);
    }
    assert!(Jwk::rsa(modulus(256), vec![1, 0, 0, 0, 1]).is_ok());
}

#[test]
fn a_set_passes_over_what_it_does_not_know_and_refuses_what_is_malformed() {
    let parse = |keys: Value| KeySet::parse(json!({ "keys": keys }).to_string().as_bytes());
    let ec = serde_json::to_value(EC.jwk()).unwrap();
    let secp = json!({ "kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA" });
    let set = parse(json!([{ "kty": "oct" }, secp, ec, { "kty": "RSA", "n": "AA", "e": "AQAB", "alg": "RSA-OAEP" }]));
    assert!(matches!(set, Err(KeySetError::Key { index: 3, error: JwkError::Modulus { .. } })));
    let set = parse(json!([{ "kty": "oct" }, secp, ec])).unwrap();
    assert_eq!(set.keys(), [EC.jwk()]);
    assert_eq!(KeySet::parse(set.to_json().as_bytes()), Ok(set));
    assert_eq!(parse(json!([ec, ec])), Err(KeySetError::SameName { kid: EC.kid().to_owned() }));
    let bad = json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" });
    assert_eq!(parse(json!([ec, bad])), Err(KeySetError::Key { index: 1, error: JwkError::Member { name: "x" } }));
    let many = |count: usize| parse(Value::Array(vec![json!({ "kty": "oct" }); count]));
    assert_eq!(many(limits::KEY_SET_KEYS), Ok(KeySet::default()));
    assert_eq!(many(limits::KEY_SET_KEYS + 1), Err(KeySetError::TooMany { limit: 100, found: 101 }));
    let large = vec![b' '; limits::SPIFFE_BUNDLE + 1];
    assert_eq!(KeySet::parse(&large), Err(KeySetError::TooLarge { limit: 65536, found: 65537 }));
    assert_eq!(KeySet::parse(br#"{"keys":[],"keys":[]}"#), Err(KeySetError::Duplicate { member: "keys".to_owned() }));
    for bad in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[1]}"#, r#"{"keys":[{}]}"#, r#"{"keys":[["oct"]]}"#] {
        assert!(matches!(KeySet::parse(bad.as_bytes()), Err(KeySetError::Form { .. })), "{bad}");
    }
}

#[test]
fn a_subject_public_key_is_read_in_one_form_alone() {
    let der = EC.spki().as_der();
    assert_eq!(der.len(), P256Spki::SIZE);
    assert_eq!(P256Spki::parse(der).as_ref(), Ok(EC.spki()));
    assert_eq!(EC.spki().digest(), sha256(der));
    for length in 0..der.len() {
        assert!(P256Spki::parse(&der[..length]).is_err(), "{length}");
    }
    assert_eq!(P256Spki::parse(&[der, &[0]].concat()), Err(JwkError::Point { curve: "P-256" }));
    assert_eq!(P256Spki::parse(&RSA.spki().unwrap()), Err(JwkError::NotP256));
    let mut changed = der.to_vec();
    changed[25] = 1;
    assert_eq!(P256Spki::parse(&changed), Err(JwkError::NotP256), "unused bits");
    changed = der.to_vec();
    changed[90] ^= 1;
    assert_eq!(P256Spki::parse(&changed), Err(JwkError::Point { curve: "P-256" }));
    let signature = EC.sign_asn1(b"message").unwrap();
    assert!(EC.spki().verifies_asn1(b"message", &signature));
    assert!(!EC.spki().verifies_asn1(b"Message", &signature));
    assert!(!EC.spki().verifies_asn1(b"message", &EC.sign(b"message").unwrap()), "not in DER");
}

proptest! {
    #[test]
    fn a_set_that_parses_is_written_and_read_back(bytes in prop::collection::vec(any::<u8>(), 0..200), x in "[A-Za-z0-9_-]{43}") {
        let _ = KeySet::parse(&bytes);
        let _ = P256Spki::parse(&bytes);
        let json = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x }] }).to_string();
        if let Ok(set) = KeySet::parse(json.as_bytes()) {
            prop_assert_eq!(KeySet::parse(set.to_json().as_bytes()), Ok(set));
        }
    }
}
