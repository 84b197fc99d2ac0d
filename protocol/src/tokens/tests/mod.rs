//! Tokens: every check by name with a near miss that passes, other people's vectors, and an independent implementation.

mod elsewhere;
mod keys;
mod result;
mod svid;
mod verify;

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::{EcKey, Expected, Jwk, RsaKey, TokenSigner, to_base64url};
use crate::time::UnixTime;

/// The time of checking, in seconds.
const NOW: u64 = 1_800_000_000;
const AT: UnixTime = UnixTime::from_seconds(NOW);

/// Making RSA keys takes a while, so all tests share theirs.
static EC: LazyLock<EcKey> = LazyLock::new(|| EcKey::generate().unwrap());
static RSA: LazyLock<RsaKey> = LazyLock::new(|| RsaKey::generate().unwrap());

fn keys() -> Vec<Jwk> {
    vec![EC.jwk(), RSA.jwk()]
}

fn expected(keys: &[Jwk]) -> Expected<'_> {
    Expected { types: &["JWT"], audience: "tools", keys, issuer: None, at: AT }
}

fn claims() -> Value {
    json!({ "sub": "spiffe://acme.example/a", "aud": ["tools"], "iat": NOW, "exp": NOW + 300, "jti": "1" })
}

/// The claims with one changed; `null` takes it out.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

/// A token of this header and these claims, as text, signed by `key` whatever they say.
fn raw(header: &str, claims: &str, key: &dyn TokenSigner) -> String {
    let message = format!("{}.{}", to_base64url(header.as_bytes()), to_base64url(claims.as_bytes()));
    let signature = key.sign(message.as_bytes()).unwrap();
    format!("{message}.{}", to_base64url(&signature))
}

/// A header of this key's own, with `more` behind it.
fn header(key: &dyn TokenSigner, more: &str) -> String {
    format!(r#"{{"alg":"{}","kid":"{}","typ":"JWT"{more}}}"#, key.algorithm(), key.kid())
}
