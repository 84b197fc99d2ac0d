//! Identity in the exchange: what a guest asks for beside an item of kind identity, and what it gets.
//!
//! The guest makes the key of its certificate itself. It proves possession of it by a signature of that key over this request, and the
//! attested key signs the whole request: so the certificate is for a key that the attested guest holds, and a proof seen elsewhere is
//! worth nothing in another request.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Item, Secret};
use crate::encoding::{Fields, bounded_base64, to_base64};
use crate::ids::RequestId;
use crate::keys::PublicKey;
use crate::limits;
use crate::spiffe::{SpiffeId, TrustDomain};
use crate::time::UnixTime;
use crate::tokens::{EcKey, JwkError, P256Spki, TokenError};

/// A key that a guest wants certified, and its proof of possession.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SvidKey {
    /// SubjectPublicKeyInfo of a P-256 key, DER.
    #[serde(serialize_with = "crate::encoding::base64::serialize", deserialize_with = "bounded_base64::<{ P256Spki::SIZE }, _>")]
    pub public_key: Vec<u8>,
    /// ECDSA with SHA-256 by that key over what [`SvidKey::prove`] says, DER.
    #[serde(serialize_with = "crate::encoding::base64::serialize", deserialize_with = "bounded_base64::<PROOF, _>")]
    pub proof: Vec<u8>,
}

/// An ECDSA signature on P-256 in DER: at most two numbers of 33 bytes with their headers.
const PROOF: usize = 72;

impl SvidKey {
    /// Proves possession of `key` in the request `request` to `installation`, signed by `signing_key`: a signature over
    /// `LP("portcullis/svid-key/v1") ‖ LP(installation) ‖ LP(request) ‖ LP(signing key) ‖ LP(public key)`.
    ///
    /// # Errors
    /// [`TokenError::Signing`].
    pub fn prove(key: &EcKey, installation: &PublicKey, request: &RequestId, signing_key: &PublicKey) -> Result<Self, TokenError> {
        let public_key = key.spki().as_der().to_vec();
        let proof = key.sign_asn1(possession(installation, request, signing_key, &public_key).as_bytes())?;
        Ok(Self { public_key, proof })
    }

    /// Checks the proof. The caller knows that `signing_key` signed the request of this number.
    ///
    /// # Errors
    /// [`SvidKeyError`].
    pub fn check(&self, installation: &PublicKey, request: &RequestId, signing_key: &PublicKey) -> Result<P256Spki, SvidKeyError> {
        let key = P256Spki::parse(&self.public_key)?;
        let message = possession(installation, request, signing_key, &self.public_key);
        if key.verifies_asn1(message.as_bytes(), &self.proof) { Ok(key) } else { Err(SvidKeyError::Possession) }
    }
}

fn possession(installation: &PublicKey, request: &RequestId, signing_key: &PublicKey, public_key: &[u8]) -> Fields {
    let fields = Fields::new("portcullis/svid-key/v1").field(installation.as_bytes()).field(request);
    fields.field(signing_key.as_bytes()).field(public_key)
}

/// Why a key is not certified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SvidKeyError {
    /// Not a key of the kind that is certified.
    #[error(transparent)]
    Key(#[from] JwkError),
    /// Whoever asks has not proven that it holds the key.
    #[error("possession of the key is not proven for this request")]
    Possession,
}

/// In which forms a guest wants its identity. Which identity that is, it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityAsk {
    /// An X.509-SVID for this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x509: Option<SvidKey>,
    /// A JWT-SVID for each of these, at most [`limits::AUDIENCES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jwt_audiences: Vec<String>,
    /// An attestation result for this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_audience: Option<String>,
}

impl IdentityAsk {
    /// What must hold of any ask, before a policy is looked at. Nothing asked for in any form is no mistake: the answer still says whose
    /// identity it is and has the bundles.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.jwt_audiences.len() > limits::AUDIENCES {
            return Err("an identity is asked for by at most 8 audiences");
        }
        if !self.jwt_audiences.iter().chain(&self.result_audience).all(|audience| is_audience(audience)) {
            return Err("an audience is 1 to 256 printable ASCII characters without white space");
        }
        let distinct: HashSet<_> = self.jwt_audiences.iter().collect();
        if distinct.len() == self.jwt_audiences.len() { Ok(()) } else { Err("an identity is asked for by each audience once") }
    }
}

/// Whether a text can stand as an audience: 1 to [`limits::AUDIENCE`] printable ASCII characters without white space.
#[must_use]
pub fn is_audience(text: &str) -> bool {
    (1..=limits::AUDIENCE).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// An identity as a guest gets it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identified {
    /// What was asked for.
    pub item: Item,
    /// Whose identity it is.
    pub spiffe_id: SpiffeId,
    /// The last second at which the permit holds: nothing below holds longer.
    pub expires: UnixTime,
    /// The certificate, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x509: Option<X509Svid>,
    /// One token an audience, in the order in which they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jwt: Vec<JwtSvid>,
    /// The attestation result, where one was asked for: a token bound to the attested key. In JSON it has its whole name, since `result` there
    /// says what became of the item.
    #[serde(rename = "attestation_result", default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The bundle of the own trust domain: a [`crate::spiffe::Bundle`] as JSON.
    pub bundle: String,
    /// Those of the trust domains that it is federated with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub federated: BTreeMap<TrustDomain, String>,
}

/// A certificate with what stands above it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct X509Svid {
    /// DER, leaf first, without the root.
    #[serde(serialize_with = "write_certificates", deserialize_with = "read_certificates")]
    pub certificates: Vec<Vec<u8>>,
    /// The leaf's serial number in lower-case hex, as it stands in the audit log.
    pub serial: String,
    /// The leaf's last second.
    pub not_after: UnixTime,
}

/// A token for one audience.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtSvid {
    /// For whom.
    pub audience: String,
    /// The token: whoever has it can use it.
    pub token: Secret,
    /// Its number, as it stands in the audit log.
    pub jti: String,
    /// From when on it holds no longer.
    pub expires: UnixTime,
}

fn write_certificates<S: Serializer>(certificates: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(certificates.iter().map(|der| to_base64(der)))
}

fn read_certificates<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
    /// One of them, within its limit.
    #[derive(Deserialize)]
    struct One(#[serde(deserialize_with = "bounded_base64::<{ limits::CERTIFICATE }, _>")] Vec<u8>);
    let list = Vec::<One>::deserialize(deserializer)?;
    if (1..=limits::SVID_CERTIFICATES).contains(&list.len()) {
        Ok(list.into_iter().map(|one| one.0).collect())
    } else {
        Err(serde::de::Error::custom("an X.509-SVID has 1 to 4 certificates"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use serde_json::json;
    use zeroize::Zeroizing;

    use super::*;
    use crate::documents::Kind;
    use crate::keys::SigningKey;

    static KEY: LazyLock<EcKey> = LazyLock::new(|| EcKey::generate().unwrap());

    fn public(seed: u8) -> PublicKey {
        *SigningKey::from_seed(&[seed; 32]).unwrap().public()
    }

    const REQUEST: [u8; 16] = [1; 16];

    fn proven() -> SvidKey {
        SvidKey::prove(&KEY, &public(1), &RequestId::from(REQUEST), &public(2)).unwrap()
    }

    #[test]
    fn a_proof_holds_for_its_installation_request_and_signing_key_alone() {
        let request = RequestId::from(REQUEST);
        let key = proven();
        assert_eq!(key.check(&public(1), &request, &public(2)).as_ref(), Ok(KEY.spki()));
        let refused = Err(SvidKeyError::Possession);
        assert_eq!(key.check(&public(9), &request, &public(2)), refused, "another installation");
        assert_eq!(key.check(&public(1), &RequestId::from([2; 16]), &public(2)), refused, "another request");
        assert_eq!(key.check(&public(1), &request, &public(9)), refused, "another guest");
        assert_eq!(key.check(&public(2), &request, &public(1)), refused, "fields in each other's place");
    }

    #[test]
    fn a_key_whose_possession_is_not_proven_is_refused() {
        let request = RequestId::from(REQUEST);
        let check = |key: &SvidKey| key.check(&public(1), &request, &public(2));
        let other = EcKey::generate().unwrap();
        let stolen = SvidKey { public_key: other.spki().as_der().to_vec(), ..proven() };
        assert_eq!(check(&stolen), Err(SvidKeyError::Possession));
        let mut changed = proven();
        let last = changed.proof.len() - 1;
        changed.proof[last] ^= 1;
        assert_eq!(check(&changed), Err(SvidKeyError::Possession));
        let message = possession(&public(1), &request, &public(2), &proven().public_key);
        let raw = SvidKey { proof: crate::tokens::TokenSigner::sign(&*KEY, message.as_bytes()).unwrap(), ..proven() };
        assert_eq!(check(&raw), Err(SvidKeyError::Possession), "not in DER");
        let unlabelled = SvidKey { proof: KEY.sign_asn1(&REQUEST).unwrap(), ..proven() };
        assert_eq!(check(&unlabelled), Err(SvidKeyError::Possession));
        let short = SvidKey { public_key: proven().public_key[1..].to_vec(), ..proven() };
        assert_eq!(check(&short), Err(SvidKeyError::Key(JwkError::NotP256)));
        let mut off_curve = proven();
        off_curve.public_key[90] ^= 1;
        assert_eq!(check(&off_curve), Err(SvidKeyError::Key(JwkError::Point { curve: "P-256" })));
    }

    #[test]
    fn key_and_proof_have_their_limits() {
        let key = proven();
        let json = serde_json::to_value(&key).unwrap();
        assert_eq!(serde_json::from_value::<SvidKey>(json.clone()).unwrap(), key);
        for (member, limit) in [("public_key", 91), ("proof", 72)] {
            for (length, good) in [(0, false), (1, true), (limit, true), (limit + 1, false)] {
                let mut changed = json.clone();
                changed[member] = json!(to_base64(&vec![0xff; length]));
                assert_eq!(serde_json::from_value::<SvidKey>(changed).is_ok(), good, "{member} {length}");
            }
        }
    }

    #[test]
    fn an_ask_has_few_audiences_each_once_and_each_printable() {
        let ask = |jwt_audiences: Vec<&str>| IdentityAsk {
            jwt_audiences: jwt_audiences.into_iter().map(str::to_owned).collect(),
            ..IdentityAsk::default()
        };
        let longest = "a".repeat(256);
        for good in [vec![], vec!["tools"], vec!["//iam.googleapis.com/projects/1", "api://AzureADTokenExchange", &longest]] {
            assert_eq!(ask(good).check(), Ok(()));
        }
        let printable = Err("an audience is 1 to 256 printable ASCII characters without white space");
        for bad in ["", "a b", "a\tb", "a\n", "ä", "\u{7f}", &"a".repeat(257)] {
            assert_eq!(ask(vec![bad]).check(), printable, "{bad:?}");
            let result = IdentityAsk { result_audience: Some(bad.to_owned()), ..IdentityAsk::default() };
            assert_eq!(result.check(), printable, "{bad:?}");
        }
        assert_eq!(ask(vec!["a", "b", "a"]).check(), Err("an identity is asked for by each audience once"));
        let numbered: Vec<String> = (0..9).map(|number| format!("a{number}")).collect();
        let few = |count: usize| ask(numbered[..count].iter().map(String::as_str).collect());
        assert_eq!(few(8).check(), Ok(()));
        assert_eq!(few(9).check(), Err("an identity is asked for by at most 8 audiences"));
    }

    fn identified() -> Identified {
        let expires = UnixTime::from_seconds(1000);
        Identified {
            item: Item { kind: Kind::Identity, name: "agents/research".parse().unwrap(), version: None },
            spiffe_id: "spiffe://acme.example/a".parse().unwrap(),
            expires,
            x509: Some(X509Svid { certificates: vec![vec![1], vec![2]], serial: "2a".to_owned(), not_after: expires }),
            jwt: vec![JwtSvid {
                audience: "tools".to_owned(),
                token: Secret::new(Zeroizing::new(b"a.b.c".to_vec())),
                jti: "1".to_owned(),
                expires,
            }],
            result: Some("d.e.f".to_owned()),
            bundle: r#"{"keys":[]}"#.to_owned(),
            federated: BTreeMap::from([("other.example".parse().unwrap(), "{}".to_owned())]),
        }
    }

    #[test]
    fn an_identity_reads_back_as_an_outcome_and_refuses_what_it_does_not_know() {
        let outcome = super::super::ItemOutcome::Identified(Box::new(identified()));
        let json = serde_json::to_value(&outcome).unwrap();
        assert_eq!((&json["result"], json["item"].get("version")), (&json!("identified"), None));
        assert_eq!(serde_json::from_value::<super::super::ItemOutcome>(json.clone()).unwrap(), outcome);
        let text = serde_json::to_string(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<super::super::ItemOutcome>(&text).unwrap(), outcome);
        let mut more = json.clone();
        more["more"] = json!(1);
        assert!(serde_json::from_value::<super::super::ItemOutcome>(more).is_err());
        for (count, good) in [(0, false), (1, true), (4, true), (5, false)] {
            let mut changed = json.clone();
            changed["x509"]["certificates"] = json!(vec!["AQ=="; count]);
            assert_eq!(serde_json::from_value::<super::super::ItemOutcome>(changed).is_ok(), good, "{count} certificates");
        }
    }

    #[test]
    fn a_token_does_not_show_itself() {
        assert!(!format!("{:?}", identified()).contains("a.b.c"));
    }
}
