//! The issuer of the fixtures: the keys of the protocol's own vectors, so that a token signed in one process verifies in the next.

use std::sync::LazyLock;

use protocol::encoding::from_base64;
use protocol::spiffe::Bundle;
use protocol::tokens::{EcKey, KeySet, RsaKey, TokenSigner, to_base64url};
use serde_json::Value;

/// `protocol/vectors/tokens.json`.
pub static VECTOR: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../protocol/vectors/tokens.json")).expect("JSON"));

/// For whom the vectors' tokens are.
pub const AUDIENCE: &str = "tools.acme.example";

/// Who signs.
pub struct Issuer {
    /// JWT-SVIDs.
    pub jwt: EcKey,
    /// JWT-SVIDs for clouds.
    pub cloud: RsaKey,
    /// Attestation results.
    pub results: EcKey,
    /// What is published of the first two.
    pub bundle: Bundle,
    /// What is published of the last.
    pub result_keys: KeySet,
}

/// The same in every process.
pub static ISSUER: LazyLock<Issuer> = LazyLock::new(|| {
    let private = |name: &str| from_base64(VECTOR["private_keys"][name].as_str().expect("text")).expect("base64");
    Issuer {
        jwt: EcKey::from_pkcs8(&private("jwt-es256")).expect("a key"),
        cloud: RsaKey::from_pkcs8(&private("jwt-rs256")).expect("a key"),
        results: EcKey::from_pkcs8(&private("result")).expect("a key"),
        bundle: Bundle::parse(&"acme.example".parse().expect("a name"), VECTOR["bundle"].to_string().as_bytes()).expect("a bundle"),
        result_keys: KeySet::parse(VECTOR["result_keys"].to_string().as_bytes()).expect("keys"),
    }
});

/// A token of exactly these parts, signed by `key`.
///
/// # Panics
/// Never: a P-256 key signs anything.
#[must_use]
pub fn token(header: &[u8], claims: &[u8], key: &dyn TokenSigner) -> String {
    let message = format!("{}.{}", to_base64url(header), to_base64url(claims));
    let signature = key.sign(message.as_bytes()).expect("a signature");
    format!("{message}.{}", to_base64url(&signature))
}

/// The header that such a key's tokens have.
#[must_use]
pub fn header(key: &dyn TokenSigner, typ: &str) -> String {
    format!(r#"{{"alg":"{}","kid":"{}","typ":"{typ}"}}"#, key.algorithm(), key.kid())
}
