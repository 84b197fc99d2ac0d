//! An independent implementation (`jsonwebtoken`) reads what we write, and writes what we read; and whatever we accept, it accepts.

use std::collections::HashSet;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use der::asn1::{AnyRef, OctetStringRef};
use der::{Decode, Reader, SliceReader};
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation, decode, encode};

use super::super::jwk::Curve;
use super::super::{Algorithm, KeySet, TokenError, sign, verify};
use super::*;

/// The same algorithm by its other name; P-521 is not read there.
fn theirs(algorithm: Algorithm) -> Option<jsonwebtoken::Algorithm> {
    algorithm.as_str().parse().ok()
}

/// What they say of a token under the one key of a set, at our time: it is in their past, so times are looked at here.
fn read_by_them(token: &str, key: &Jwk) -> Result<Value, jsonwebtoken::errors::Error> {
    let published = KeySet::new(vec![key.clone()]).unwrap().to_json();
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_str(&published).unwrap();
    let header = jsonwebtoken::decode_header(token)?;
    let found = set.find(header.kid.as_deref().unwrap_or_default()).expect("their set has our key by its name");
    let mut validation = Validation::new(header.alg);
    validation.set_audience(&["tools"]);
    validation.required_spec_claims = HashSet::from(["exp".to_owned(), "aud".to_owned()]);
    validation.validate_exp = false;
    decode::<Value>(token, &DecodingKey::from_jwk(found)?, &validation).map(|data| data.claims)
}

#[test]
fn they_read_what_we_sign_through_the_published_set() {
    let signers: [(&dyn TokenSigner, Jwk); 2] = [(&*EC, EC.jwk()), (&*RSA, RSA.jwk())];
    for (signer, key) in signers {
        let token = sign("JWT", &claims(), signer).unwrap();
        assert_eq!(read_by_them(&token, &key).unwrap(), claims());
        let (message, _) = token.rsplit_once('.').unwrap();
        let forged = format!("{message}.{}", to_base64url(&signer.sign(b"something else").unwrap()));
        assert!(read_by_them(&forged, &key).is_err());
    }
}

/// The PKCS#1 key inside PKCS#8, which is what they take.
fn pkcs1(pkcs8: &[u8]) -> Vec<u8> {
    let mut reader = SliceReader::new(pkcs8).unwrap();
    reader
        .sequence(|inner| {
            u8::decode(inner)?;
            AnyRef::decode(inner)?;
            Ok::<_, der::Error>(<&OctetStringRef>::decode(inner)?.as_bytes().to_vec())
        })
        .unwrap()
}

#[test]
fn we_read_what_they_sign() {
    let ec = EncodingKey::from_ec_der(&EC.to_pkcs8().unwrap());
    let rsa = EncodingKey::from_rsa_der(&pkcs1(&RSA.to_pkcs8().unwrap()));
    let open = [EC.spki().jwk().clone().with_kid("ec"), Jwk::rsa_for_tests(&RSA).with_kid("rsa")];
    for algorithm in Algorithm::ALL {
        let Some(alg) = theirs(algorithm).filter(|_| !matches!(algorithm, Algorithm::Es384 | Algorithm::Es512)) else { continue };
        let (kid, key) = if algorithm == Algorithm::Es256 { ("ec", &ec) } else { ("rsa", &rsa) };
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(alg) };
        let token = encode(&header, &claims(), key).unwrap();
        let verified = verify(&token, &expected(&open)).unwrap_or_else(|error| panic!("{algorithm}: {error}"));
        assert_eq!((verified.header().algorithm, verified.claims()), (algorithm, &claims()));
    }
}

/// A key of another kind, by the implementation below us.
enum Foreign {
    Ec(Algorithm, EcdsaKeyPair),
    Rsa(Algorithm, &'static dyn RsaEncoding, RsaKeyPair),
}

impl TokenSigner for Foreign {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ec(algorithm, _) | Self::Rsa(algorithm, ..) => *algorithm,
        }
    }

    fn kid(&self) -> &'static str {
        "foreign"
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let random = SystemRandom::new();
        Ok(match self {
            Self::Ec(_, pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Rsa(_, encoding, pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature).unwrap();
                signature
            }
        })
    }
}

#[test]
fn keys_of_other_trust_domains_verify_by_every_algorithm_of_theirs_and_by_no_other() {
    let rsa = |algorithm, encoding| {
        (Foreign::Rsa(algorithm, encoding, RsaKeyPair::from_pkcs8(&RSA.to_pkcs8().unwrap()).unwrap()), Jwk::rsa_for_tests(&RSA))
    };
    let ec = |algorithm, curve, signing: &'static EcdsaSigningAlgorithm| {
        let pair = EcdsaKeyPair::generate(signing).unwrap();
        let key = Jwk::ec(curve, pair.public_key().as_ref().to_vec()).unwrap();
        (Foreign::Ec(algorithm, pair), key)
    };
    for (signer, key) in [
        rsa(Algorithm::Rs384, &RSA_PKCS1_SHA384),
        rsa(Algorithm::Rs512, &RSA_PKCS1_SHA512),
        rsa(Algorithm::Ps256, &RSA_PSS_SHA256),
        rsa(Algorithm::Ps384, &RSA_PSS_SHA384),
        rsa(Algorithm::Ps512, &RSA_PSS_SHA512),
        ec(Algorithm::Es384, Curve::P384, &ECDSA_P384_SHA384_FIXED_SIGNING),
        ec(Algorithm::Es512, Curve::P521, &ECDSA_P521_SHA512_FIXED_SIGNING),
    ] {
        let key = key.with_kid("foreign");
        let token = sign("JWT", &claims(), &signer).unwrap();
        assert_eq!(verify(&token, &expected(std::slice::from_ref(&key))).unwrap().claims(), &claims());
        if let Some(alg) = theirs(signer.algorithm()) {
            let bound = key.clone().with_algorithm(signer.algorithm()).unwrap();
            assert_eq!(jsonwebtoken::decode_header(&token).unwrap().alg, alg);
            assert_eq!(read_by_them(&token, &bound).unwrap(), claims());
        }
        for other in Algorithm::ALL.into_iter().filter(|other| *other != signer.algorithm()) {
            let header = format!(r#"{{"alg":"{other}","kid":"foreign","typ":"JWT"}}"#);
            let token = raw(&header, &claims().to_string(), &signer);
            let refused = verify(&token, &expected(std::slice::from_ref(&key))).unwrap_err();
            let right = matches!(refused, TokenError::KeyAlgorithm { .. } | TokenError::Signature { .. });
            assert!(right, "{} as {other}: {refused}", signer.algorithm());
        }
    }
}

#[test]
fn what_they_would_take_and_we_do_not() {
    // A shared secret, an unsigned token and a header with a key of its own are tricks that readers fell for: refused by name.
    let header = |alg| Header { kid: Some(EC.kid().to_owned()), ..Header::new(alg) };
    let secret = serde_json::to_vec(&EC.jwk()).unwrap();
    let token = encode(&header(jsonwebtoken::Algorithm::HS256), &claims(), &EncodingKey::from_secret(&secret)).unwrap();
    assert_eq!(verify(&token, &expected(&keys())).unwrap_err(), TokenError::UnknownAlgorithm { found: "\"HS256\"".to_owned() });
    let with_key = Header { jku: Some("https://evil.example/keys".to_owned()), ..header(jsonwebtoken::Algorithm::ES256) };
    let token = encode(&with_key, &claims(), &EncodingKey::from_ec_der(&EC.to_pkcs8().unwrap())).unwrap();
    assert_eq!(verify(&token, &expected(&keys())).unwrap_err(), TokenError::HeaderMember { member: "jku".to_owned() });
    let twice = raw(&super::header(&*EC, ""), &claims().to_string().replacen('{', r#"{"aud":"others","#, 1), &*EC);
    assert!(matches!(verify(&twice, &expected(&keys())), Err(TokenError::Duplicate { .. })));
}
