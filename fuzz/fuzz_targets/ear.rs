//! Attestation results: as they came, and any claims under a good signature.
//!
//! Input: a byte that chooses which, then the token or the claims.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::tokens::{AUDIENCE, ISSUER, VECTOR, header, token};
use protocol::time::UnixTime;
use protocol::tokens::result::{self, Ear, EarError, Tier};
use protocol::tokens::{Expected, TokenError};

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    if choice % 2 == 0 {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if read(text).is_ok() {
            assert!(
                VECTOR["accepted"].as_array().expect("a list").iter().any(|entry| entry["token"] == text),
                "a result that nobody signed"
            );
        }
    } else {
        any_claims(bytes);
    }
});

fn read(token: &str) -> Result<Ear, EarError> {
    let at = UnixTime::from_seconds(1_800_000_000);
    let expected = Expected { types: &[result::TYPE], audience: AUDIENCE, keys: ISSUER.result_keys.keys(), issuer: None, at };
    Ear::verify(token, &expected)
}

/// What passes is of the one profile, and no status in it is better than its vector.
fn any_claims(bytes: &[u8]) {
    let ear = match read(&token(header(&ISSUER.results, result::TYPE).as_bytes(), bytes, &ISSUER.results)) {
        Ok(ear) => ear,
        Err(EarError::Token(TokenError::Signature { .. } | TokenError::UnknownKey { .. })) => panic!("the signature is good"),
        Err(_) => return,
    };
    let claims = serde_json::from_slice::<serde_json::Value>(bytes).expect("what was read is JSON");
    assert_eq!(claims["eat_profile"], result::PROFILE);
    assert!(!ear.submods().is_empty());
    for (part, appraisal) in ear.submods() {
        assert!(!appraisal.status().is_better_than(appraisal.vector().worst()));
        assert!(!ear.worst(&[]).is_better_than(appraisal.status()));
        assert!(!claims["submods"][part]["ear.status"].is_null());
        for (name, claim) in appraisal.vector().claims() {
            assert_eq!(claims["submods"][part]["ear.trustworthiness-vector"][name], claim.value());
            assert!(!claim.tier().is_some_and(|tier| appraisal.status().is_better_than(tier)));
        }
    }
    assert_eq!(ear.worst(&["a part that no result has\0"]), Tier::Contraindicated);
}
