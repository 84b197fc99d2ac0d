//! JWT-SVIDs: as they came, and any header and any claims under a good signature.
//!
//! Input: a byte that chooses which, then the token, the header or the claims.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::tokens::{AUDIENCE, ISSUER, VECTOR, header, token};
use protocol::time::UnixTime;
use protocol::tokens::svid::{unverified_id, verify_svid};
use protocol::tokens::{SKEW, SvidError, TokenError, TokenSigner, VerifiedSvid};

/// When the vectors' tokens hold.
const AT: UnixTime = UnixTime::from_seconds(1_800_000_000);

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    match choice % 3 {
        0 => as_it_came(bytes),
        1 => any_header(bytes),
        _ => any_claims(bytes),
    }
});

fn read(token: &str) -> Result<VerifiedSvid, SvidError> {
    verify_svid(token, &ISSUER.bundle, AUDIENCE, AT)
}

/// Nothing that the vectors do not have was ever signed.
fn as_it_came(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = unverified_id(text);
    if read(text).is_ok() {
        assert!(VECTOR["accepted"].as_array().expect("a list").iter().any(|entry| entry["token"] == text), "a token that nobody signed");
    }
}

/// What passes has the key's own algorithm and name and an expected type, and nothing else.
fn any_header(bytes: &[u8]) {
    let claims = VECTOR["accepted"][0]["claims"].to_string();
    let signed = token(bytes, claims.as_bytes(), &ISSUER.jwt);
    if let Ok(svid) = read(&signed) {
        let found = svid.token().header();
        assert_eq!((found.algorithm, found.kid.as_str()), (ISSUER.jwt.algorithm(), ISSUER.jwt.kid()));
        assert!(matches!(found.typ.as_str(), "JWT" | "JOSE"));
        let members = serde_json::from_slice::<serde_json::Value>(bytes).expect("what was read is JSON");
        assert_eq!(members.as_object().map(|members| members.len()), Some(3));
    }
}

fn any_claims(bytes: &[u8]) {
    let signed = token(header(&ISSUER.jwt, "JWT").as_bytes(), bytes, &ISSUER.jwt);
    let svid = match read(&signed) {
        Ok(svid) => svid,
        Err(SvidError::Token(TokenError::Signature { .. } | TokenError::UnknownKey { .. })) => panic!("the signature is good"),
        Err(_) => return,
    };
    assert_eq!(*svid.token().claims(), serde_json::from_slice::<serde_json::Value>(bytes).expect("what was read is JSON"));
    assert_eq!((svid.id().trust_domain(), unverified_id(&signed).as_ref()), (ISSUER.bundle.trust_domain(), Ok(svid.id())));
    // Half a minute behind its end it holds no longer, and never for others or with a changed byte.
    let late = verify_svid(&signed, &ISSUER.bundle, AUDIENCE, svid.token().expires().plus(SKEW));
    assert!(matches!(late, Err(SvidError::Token(TokenError::Expired { .. }))));
    assert!(verify_svid(&signed, &ISSUER.bundle, "", AT).is_err() || svid.token().claims()["aud"].to_string().contains("\"\""));
    let changed = token(header(&ISSUER.jwt, "JWT").as_bytes(), &[bytes, b" "].concat(), &ISSUER.jwt);
    let (message, _) = changed.rsplit_once('.').expect("three parts");
    let (_, signature) = signed.rsplit_once('.').expect("three parts");
    let refused = read(&format!("{message}.{signature}"));
    assert!(matches!(refused, Err(SvidError::Token(TokenError::Signature { .. } | TokenError::TooLarge { .. }))));
}
