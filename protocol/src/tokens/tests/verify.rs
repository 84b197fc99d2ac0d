//! The verifier's checks, in their order.

use proptest::prelude::*;
use serde_json::json;

use super::super::{Algorithm, Part, TokenError, from_base64url, sign, to_base64url, verify};
use super::*;
use crate::limits;

fn refused(token: &str) -> TokenError {
    verify(token, &expected(&keys())).unwrap_err()
}

#[test]
fn what_was_signed_verifies_and_says_what_it_said() {
    let signers: [&dyn TokenSigner; 2] = [&*EC, &*RSA];
    for signer in signers {
        let token = sign("JWT", &claims(), signer).unwrap();
        let verified = verify(&token, &expected(&keys())).unwrap();
        assert_eq!(verified.claims(), &claims());
        assert_eq!(verified.expires().seconds(), NOW + 300);
        let header = verified.header();
        assert_eq!((header.algorithm, header.kid.as_str(), header.typ.as_str()), (signer.algorithm(), signer.kid(), "JWT"));
    }
}

// 1. Form.

#[test]
fn a_token_has_three_parts_and_a_limit() {
    let token = sign("JWT", &claims(), &*EC).unwrap();
    for bad in ["", ".", "a.b", "a.b.c.d", &token.replace('.', ""), &format!("{token}.")] {
        assert_eq!(refused(bad), TokenError::Form, "{bad}");
    }
    let long = "a".repeat(limits::TOKEN + 1);
    assert_eq!(refused(&long), TokenError::TooLarge { limit: 16384, found: 16385 });
    assert_eq!(refused(&long[1..]), TokenError::Form);
    // As large as it may be, and a byte more.
    let padded = |size: usize| with("pad", json!("x".repeat(size)));
    let fits = (11_000..12_288).rev().find_map(|size| sign("JWT", &padded(size), &*EC).ok()).unwrap();
    assert!(fits.len() > limits::TOKEN - 4 && verify(&fits, &expected(&keys())).is_ok(), "{}", fits.len());
    assert!(matches!(sign("JWT", &padded(12_288), &*EC), Err(TokenError::TooLarge { .. })));
}

#[test]
fn each_part_is_canonical_base64_for_urls() {
    let token = sign("JWT", &claims(), &*EC).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let put = |index: usize, part: &str| {
        let mut parts = parts.clone();
        parts[index] = part;
        parts.join(".")
    };
    for (index, part) in [Part::Header, Part::Claims, Part::Signature].into_iter().enumerate() {
        for bad in [format!("{}=", parts[index]), format!("{} ", parts[index]), format!("+{}", &parts[index][1..]), "A".to_owned()] {
            let found = refused(&put(index, &bad));
            // A changed claims part is looked at behind the signature, which it breaks.
            let expected =
                if part == Part::Claims { TokenError::Signature { kid: EC.kid().to_owned() } } else { TokenError::Base64 { part } };
            assert_eq!(found, expected, "{part} {bad}");
        }
    }
    // 64 bytes end in a character of which two bits count; the others are zero.
    let last = parts[2].chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let sloppy = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    let changed = format!("{}{sloppy}", &parts[2][..parts[2].len() - 1]);
    assert_eq!(refused(&put(2, &changed)), TokenError::Base64 { part: Part::Signature });
    // Signed all the same, a claims part that is no base64 is found.
    let message = format!("{}.{}", to_base64url(header(&*EC, "").as_bytes()), "e30=");
    let signed = format!("{message}.{}", to_base64url(&EC.sign(message.as_bytes()).unwrap()));
    assert_eq!(refused(&signed), TokenError::Base64 { part: Part::Claims });
}

// 2. The header.

#[test]
fn a_header_member_that_changes_what_is_checked_is_refused_by_name() {
    for (name, value) in [
        ("crit", r#"["exp"]"#),
        ("b64", "false"),
        ("jku", r#""https://evil.example/keys""#),
        ("jwk", r#"{"kty":"EC"}"#),
        ("x5u", r#""https://evil.example/cert""#),
        ("x5c", "[]"),
        ("x5t", r#""AA""#),
        ("x5t#S256", r#""AA""#),
        ("cty", r#""JWT""#),
        ("zip", r#""DEF""#),
        ("anything", "null"),
    ] {
        let token = raw(&header(&*EC, &format!(r#","{name}":{value}"#)), &claims().to_string(), &*EC);
        assert_eq!(refused(&token), TokenError::HeaderMember { member: name.to_owned() });
    }
    assert!(verify(&raw(&header(&*EC, ""), &claims().to_string(), &*EC), &expected(&keys())).is_ok());
}

#[test]
fn a_member_that_stands_twice_is_refused_in_header_and_claims() {
    let duplicate = |part, member: &str| TokenError::Duplicate { part, member: member.to_owned() };
    for more in [r#","alg":"none""#, r#","kid":"x""#, r#","typ":"JWT""#] {
        let member = more.split('"').nth(1).unwrap();
        assert_eq!(refused(&raw(&header(&*EC, more), &claims().to_string(), &*EC)), duplicate(Part::Header, member));
    }
    let twice = claims().to_string().replacen('{', r#"{"aud":"others","#, 1);
    assert_eq!(refused(&raw(&header(&*EC, ""), &twice, &*EC)), duplicate(Part::Claims, "aud"));
    let nested = with("act", json!({ "sub": "x" })).to_string().replace(r#"{"sub":"x"}"#, r#"{"sub":"x","sub":"y"}"#);
    assert_eq!(refused(&raw(&header(&*EC, ""), &nested, &*EC)), duplicate(Part::Claims, "sub"));
}

#[test]
fn a_header_is_one_json_object() {
    for bad in ["", "[]", "null", "\"JWT\"", "{}{}", "{\"alg\":}", &format!("{} x", header(&*EC, ""))] {
        assert!(matches!(refused(&raw(bad, &claims().to_string(), &*EC)), TokenError::Json { part: Part::Header, .. }), "{bad}");
    }
    for bad in ["", "[]", "1", "{}{}"] {
        assert!(matches!(refused(&raw(&header(&*EC, ""), bad, &*EC)), TokenError::Json { part: Part::Claims, .. }), "{bad}");
    }
}

// 3. The type.

#[test]
fn a_token_of_another_type_is_refused_whoever_signed_it() {
    let types = || vec!["JWT".to_owned()];
    for other in ["eat+jwt", "wit+jwt", "dpop+jwt", "at+jwt", "jwt", "application/jwt", "JOSE", "JWT "] {
        let token = sign(other, &claims(), &*EC).unwrap();
        assert_eq!(refused(&token), TokenError::Type { expected: types(), found: other.to_owned() });
    }
    let untyped = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, EC.kid());
    assert_eq!(refused(&raw(&untyped, &claims().to_string(), &*EC)), TokenError::NoType { expected: types() });
    for bad in ["null", "1", "\"\"", "[\"JWT\"]"] {
        let odd = format!(r#"{{"alg":"ES256","kid":"{}","typ":{bad}}}"#, EC.kid());
        assert_eq!(refused(&raw(&odd, &claims().to_string(), &*EC)), TokenError::NoType { expected: types() }, "{bad}");
    }
    let key = [EC.jwk()];
    let either = Expected { types: &["JWT", "JOSE"], ..expected(&key) };
    assert!(verify(&sign("JOSE", &claims(), &*EC).unwrap(), &either).is_ok());
}

// 4. Algorithm and key.

#[test]
fn an_algorithm_that_is_not_accepted_is_refused_before_any_key_is_looked_for() {
    for bad in
        ["\"none\"", "\"None\"", "\"HS256\"", "\"EdDSA\"", "\"Ed25519\"", "\"ES256K\"", "\"es256\"", "\"\"", "null", "1", "[\"ES256\"]"]
    {
        let header = format!(r#"{{"alg":{bad},"kid":"nobody","typ":"JWT"}}"#);
        let token = raw(&header, &claims().to_string(), &*EC);
        assert!(matches!(refused(&token), TokenError::UnknownAlgorithm { .. }), "{bad}");
    }
    let absent = raw(r#"{"kid":"nobody","typ":"JWT"}"#, &claims().to_string(), &*EC);
    assert_eq!(refused(&absent), TokenError::UnknownAlgorithm { found: "\"\"".to_owned() });
    // Without a signature, as `none` has it.
    let header = to_base64url(br#"{"alg":"none","kid":"x","typ":"JWT"}"#);
    let token = format!("{header}.{}.", to_base64url(claims().to_string().as_bytes()));
    assert_eq!(refused(&token), TokenError::UnknownAlgorithm { found: "\"none\"".to_owned() });
}

#[test]
fn the_key_decides_by_which_algorithm_it_signs() {
    let relabelled = |key: &dyn TokenSigner, algorithm: Algorithm| {
        let header = header(key, "").replace(key.algorithm().as_str(), algorithm.as_str());
        refused(&raw(&header, &claims().to_string(), key))
    };
    for other in Algorithm::ALL {
        if other != Algorithm::Es256 {
            assert_eq!(relabelled(&*EC, other), TokenError::KeyAlgorithm { kid: EC.kid().to_owned(), found: other });
        }
        if other != Algorithm::Rs256 {
            assert_eq!(relabelled(&*RSA, other), TokenError::KeyAlgorithm { kid: RSA.kid().to_owned(), found: other });
        }
    }
    // A key that names no algorithm takes those of its kind, and the signature then has to be so.
    let open = [Jwk::rsa_for_tests(&RSA).with_kid(RSA.kid())];
    let token = |algorithm: Algorithm| raw(&header(&*RSA, "").replace("RS256", algorithm.as_str()), &claims().to_string(), &*RSA);
    assert!(verify(&token(Algorithm::Rs256), &expected(&open)).is_ok());
    for other in [Algorithm::Ps256, Algorithm::Rs384, Algorithm::Rs512] {
        assert_eq!(verify(&token(other), &expected(&open)).unwrap_err(), TokenError::Signature { kid: RSA.kid().to_owned() });
    }
    assert!(matches!(verify(&token(Algorithm::Es256), &expected(&open)), Err(TokenError::KeyAlgorithm { .. })));
}

#[test]
fn the_key_must_be_named_known_and_the_only_one_of_its_name() {
    let unnamed = raw(r#"{"alg":"ES256","typ":"JWT"}"#, &claims().to_string(), &*EC);
    assert_eq!(refused(&unnamed), TokenError::NoKeyId);
    let empty = raw(r#"{"alg":"ES256","kid":"","typ":"JWT"}"#, &claims().to_string(), &*EC);
    assert_eq!(refused(&empty), TokenError::NoKeyId);
    let token = sign("JWT", &claims(), &*EC).unwrap();
    let kid = || EC.kid().to_owned();
    assert_eq!(verify(&token, &expected(&[])).unwrap_err(), TokenError::UnknownKey { kid: kid() });
    assert_eq!(verify(&token, &expected(&[RSA.jwk()])).unwrap_err(), TokenError::UnknownKey { kid: kid() });
    let unnamed_key = [EC.spki().jwk().clone()];
    assert_eq!(verify(&token, &expected(&unnamed_key)).unwrap_err(), TokenError::UnknownKey { kid: kid() });
    let twice = [EC.jwk(), RSA.jwk().with_kid(EC.kid())];
    assert_eq!(verify(&token, &expected(&twice)).unwrap_err(), TokenError::AmbiguousKey { kid: kid() });
}

#[test]
fn a_key_for_something_else_verifies_no_token() {
    let token = sign("JWT", &claims(), &*EC).unwrap();
    for usage in ["enc", "x509-svid", "wit-svid", "SIG", ""] {
        let refused = verify(&token, &expected(&[EC.jwk().with_usage(usage)])).unwrap_err();
        assert_eq!(refused, TokenError::KeyUse { kid: EC.kid().to_owned(), usage: usage.to_owned() });
    }
    for usage in ["sig", "jwt-svid"] {
        assert!(verify(&token, &expected(&[EC.jwk().with_usage(usage)])).is_ok());
    }
    let ed25519 = [Jwk::ed25519(crate::keys::PublicKey::from_bytes([1; 32])).with_kid(EC.kid())];
    let refused = verify(&token, &expected(&ed25519)).unwrap_err();
    assert_eq!(refused, TokenError::KeyAlgorithm { kid: EC.kid().to_owned(), found: Algorithm::Es256 });
}

// 5. The signature.

#[test]
fn an_ecdsa_signature_is_two_numbers_of_full_length_and_not_der() {
    let token = sign("JWT", &claims(), &*EC).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let der = EC.sign_asn1(message.as_bytes()).unwrap();
    let length = |found| TokenError::SignatureLength { algorithm: Algorithm::Es256, expected: 64, found };
    assert_eq!(refused(&format!("{message}.{}", to_base64url(&der))), length(der.len()));
    let bytes = from_base64url(signature).unwrap();
    assert_eq!(refused(&format!("{message}.{}", to_base64url(&bytes[..63]))), length(63));
    assert_eq!(refused(&format!("{message}.{}", to_base64url(&[&bytes[..], &[0]].concat()))), length(65));
    assert_eq!(refused(&format!("{message}.")), length(0));
    let zero = format!("{message}.{}", to_base64url(&[0; 64]));
    assert_eq!(refused(&zero), TokenError::Signature { kid: EC.kid().to_owned() });
    let short = raw(&header(&*RSA, "").replace(RSA.kid(), EC.kid()), &claims().to_string(), &*RSA);
    assert!(matches!(refused(&short), TokenError::KeyAlgorithm { .. }));
}

#[test]
fn another_key_of_the_same_name_does_not_verify() {
    let other = EcKey::generate().unwrap();
    let named = other.spki().jwk().clone().with_kid(EC.kid());
    let token = sign("JWT", &claims(), &*EC).unwrap();
    assert_eq!(verify(&token, &expected(&[named])).unwrap_err(), TokenError::Signature { kid: EC.kid().to_owned() });
}

// 6 to 8. Claims.

fn signed(claims: &Value) -> Result<super::super::Verified, TokenError> {
    verify(&sign("JWT", claims, &*EC).unwrap(), &expected(&keys()))
}

#[test]
fn the_issuer_is_the_expected_one_to_the_letter() {
    let keys = keys();
    let by = |claims: &Value| {
        let expected = Expected { issuer: Some("https://id.acme.example"), ..expected(&keys) };
        verify(&sign("JWT", claims, &*EC).unwrap(), &expected)
    };
    assert!(by(&with("iss", json!("https://id.acme.example"))).is_ok());
    let other =
        |found: Option<&str>| TokenError::Issuer { expected: "https://id.acme.example".to_owned(), found: found.map(str::to_owned) };
    assert_eq!(by(&claims()).unwrap_err(), other(None));
    for found in ["https://id.acme.example/", "https://ID.acme.example", "http://id.acme.example", ""] {
        assert_eq!(by(&with("iss", json!(found))).unwrap_err(), other(Some(found)));
    }
    let not_text = TokenError::Claim { name: "iss", what: "is not a text" };
    assert_eq!(signed(&with("iss", json!(["https://id.acme.example"]))).unwrap_err(), not_text, "even where none is expected");
    assert!(signed(&with("iss", json!("anybody"))).is_ok());
}

#[test]
fn the_audience_is_among_the_tokens_to_the_letter() {
    for good in [json!("tools"), json!(["tools"]), json!(["others", "tools"])] {
        assert!(signed(&with("aud", good)).is_ok());
    }
    for (bad, found) in [
        (json!("Tools"), vec!["Tools"]),
        (json!(["tools/"]), vec!["tools/"]),
        (json!(["tool", "s"]), vec!["tool", "s"]),
        (json!([]), vec![]),
        (json!(""), vec![""]),
        (json!("tools,others"), vec!["tools,others"]),
    ] {
        let found = found.into_iter().map(str::to_owned).collect();
        assert_eq!(signed(&with("aud", bad)).unwrap_err(), TokenError::Audience { expected: "tools".to_owned(), found });
    }
    let wrong = |what| TokenError::Claim { name: "aud", what };
    assert_eq!(signed(&with("aud", Value::Null)).unwrap_err(), wrong("is missing"));
    assert_eq!(signed(&with("aud", json!(["tools", 1]))).unwrap_err(), wrong("is not a list of texts"));
    assert_eq!(signed(&with("aud", json!({ "tools": 1 }))).unwrap_err(), wrong("is neither a text nor a list of texts"));
}

#[test]
fn a_token_holds_from_its_beginning_to_its_end_and_half_a_minute_more() {
    let at = |seconds| UnixTime::from_seconds(seconds);
    assert_eq!(signed(&with("exp", json!(NOW - 30))).unwrap_err(), TokenError::Expired { expired: at(NOW - 30), at: AT });
    assert!(signed(&with("exp", json!(NOW - 29))).is_ok());
    assert_eq!(signed(&with("nbf", json!(NOW + 31))).unwrap_err(), TokenError::NotYet { not_before: at(NOW + 31), at: AT });
    assert!(signed(&with("nbf", json!(NOW + 30))).is_ok());
    assert_eq!(signed(&with("iat", json!(NOW + 31))).unwrap_err(), TokenError::Future { issued: at(NOW + 31), at: AT });
    assert!(signed(&with("iat", json!(NOW + 30))).is_ok());
    assert!(signed(&with("iat", Value::Null)).is_ok());
    assert!(signed(&with("exp", json!(u64::MAX))).is_ok());
}

#[test]
fn a_time_is_a_whole_number_and_an_end_is_required() {
    assert_eq!(signed(&with("exp", Value::Null)).unwrap_err(), TokenError::Claim { name: "exp", what: "is missing" });
    for name in ["exp", "nbf", "iat"] {
        for bad in [json!(NOW as f64 + 0.5), json!(1.8e9), json!(-1), json!("1900000000"), json!([NOW]), json!(true)] {
            let what = "is not a whole number of seconds since 1970";
            assert_eq!(signed(&with(name, bad)).unwrap_err(), TokenError::Claim { name, what });
        }
    }
    let null = claims().to_string().replace(&format!("\"exp\":{}", NOW + 300), "\"exp\":null");
    assert!(matches!(refused(&raw(&header(&*EC, ""), &null, &*EC)), TokenError::Claim { name: "exp", .. }));
}

#[test]
fn only_an_object_without_duplicates_is_signed() {
    assert!(matches!(sign("JWT", &json!([1]), &*EC), Err(TokenError::Unwritable(_))));
    assert!(matches!(sign("JWT", &"text", &*EC), Err(TokenError::Unwritable(_))));
}

#[test]
fn each_reason_has_a_code_of_its_own() {
    let text = || "x".to_owned();
    let (part, kid) = (Part::Header, text());
    let all = [
        TokenError::TooLarge { limit: 1, found: 2 },
        TokenError::Form,
        TokenError::Base64 { part },
        TokenError::Json { part, what: text() },
        TokenError::Duplicate { part, member: text() },
        TokenError::HeaderMember { member: text() },
        TokenError::UnknownAlgorithm { found: text() },
        TokenError::NoType { expected: vec![text()] },
        TokenError::Type { expected: vec![text()], found: text() },
        TokenError::NoKeyId,
        TokenError::UnknownKey { kid: text() },
        TokenError::AmbiguousKey { kid: text() },
        TokenError::KeyUse { kid: text(), usage: text() },
        TokenError::KeyAlgorithm { kid: text(), found: Algorithm::Es256 },
        TokenError::SignatureLength { algorithm: Algorithm::Es256, expected: 64, found: 0 },
        TokenError::Signature { kid },
        TokenError::Claim { name: "exp", what: "x" },
        TokenError::Issuer { expected: text(), found: None },
        TokenError::Audience { expected: text(), found: vec![] },
        TokenError::Expired { expired: AT, at: AT },
        TokenError::NotYet { not_before: AT, at: AT },
        TokenError::Future { issued: AT, at: AT },
        TokenError::Unwritable(text()),
        TokenError::Signing,
        TokenError::PrivateKey { expected: "x" },
    ];
    let codes: std::collections::BTreeSet<_> = all.iter().map(TokenError::code).collect();
    assert_eq!(codes.len(), all.len());
    assert!(all.iter().all(|error| !error.to_string().is_empty() && error.code().starts_with("token-")));
}

proptest! {
    /// A changed character anywhere is refused, and so is a piece taken out.
    #[test]
    fn no_change_to_a_token_passes(place in any::<prop::sample::Index>(), character in "[A-Za-z0-9_.-]", cut in any::<bool>()) {
        let token = sign("JWT", &claims(), &*EC).unwrap();
        let at = place.index(token.len());
        let middle = if cut { "" } else { character.as_str() };
        let changed = format!("{}{middle}{}", &token[..at], &token[at + 1..]);
        prop_assume!(changed != token);
        prop_assert!(verify(&changed, &expected(&keys())).is_err());
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,120}", header in "\\PC{0,60}", claims in "\\PC{0,60}") {
        let _ = verify(&text, &expected(&keys()));
        let _ = verify(&raw(&header, &claims, &*EC), &expected(&keys()));
    }
}
