//! The exchange on the wire: challenge, signed request, sealed and signed answer.
//!
//! | step | HTTP | body |
//! | --- | --- | --- |
//! | challenge | `POST /v1/challenge` | [`ChallengeAnswer`] |
//! | release | `POST /v1/release` | [`ReleaseRequest`], signed by the attested key (DSSE) |
//! | answer | 200 | [`ReleaseAnswer`]: an [`Outcome`], sealed to the attested key and signed by the broker |
//! | refusal | 4xx, 5xx | [`Problem`] (RFC 9457): whoever was not verified learns a code and a number, no more |

pub mod identity;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::documents::{Certificate, CertificateError, Kind};
use crate::dsse::{Body, DocumentError, SignedDocument};
use crate::encoding::{Fields, Spacing, bounded_base64, place_of, secret_json, sha256};
use crate::hpke::{self, HpkeError, RecipientKey, RecipientSecret, Sealed};
use crate::ids::{DecisionId, Digest, Name, Platform, RequestId, Role, Version};
use crate::keys::{PublicKey, SigningKey};
use crate::limits;
use crate::log::Receipt;
use crate::time::UnixTime;

pub use identity::{Identified, IdentityAsk, JwtSvid, SvidKey, SvidKeyError, X509Svid};

/// What `POST /v1/challenge` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChallengeAnswer {
    /// A [`crate::challenge::Challenge`].
    #[serde(with = "crate::encoding::base64")]
    pub challenge: Vec<u8>,
    /// Its last second, for people; the challenge carries it itself.
    pub expires: UnixTime,
}

/// What `GET /v1/installation` answers: public keys, each certified by the root that callers have pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstallationAnswer {
    /// The root's public key: a convenience, never a reason to trust it.
    pub root: PublicKey,
    /// Certificates ([`crate::documents::CertificateBody`]) of identity, log and sealing keys.
    pub certificates: Vec<SignedDocument>,
}

/// Evidence as a guest sends it. An open enum: vTPM-based clouds and GPUs join later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum EvidenceMessage {
    /// An AMD SEV-SNP report.
    #[serde(rename = "sev-snp")]
    SevSnp {
        /// The report, 1184 bytes.
        #[serde(with = "crate::encoding::base64")]
        report: Vec<u8>,
        /// The host's certificate table beside it, at most 16 KiB; empty where there is none.
        #[serde(with = "crate::encoding::base64", default)]
        certificate_table: Vec<u8>,
    },
    /// A quote of an Intel TDX guest.
    #[serde(rename = "tdx")]
    Tdx {
        /// The quote, at most 16 KiB.
        #[serde(serialize_with = "crate::encoding::base64::serialize", deserialize_with = "bounded_base64::<{ limits::TD_QUOTE }, _>")]
        quote: Vec<u8>,
        /// The event log that led to the quote's registers (ACPI `CCEL`), at most 512 KiB; absent, and never empty, where the guest has none.
        #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "write_event_log", deserialize_with = "read_event_log")]
        event_log: Option<Vec<u8>>,
    },
    /// The evidence that this broker keeps in memory from an earlier request under the same keys.
    #[serde(rename = "held")]
    Held {},
}

impl EvidenceMessage {
    /// The kind of confidential VM that such evidence is of; `None` where it stands elsewhere.
    #[must_use]
    pub const fn platform(&self) -> Option<Platform> {
        match self {
            Self::SevSnp { .. } => Some(Platform::SevSnp),
            Self::Tdx { .. } => Some(Platform::Tdx),
            Self::Held {} => None,
        }
    }

    /// What stands in the transcript for its event log: SHA-256 of the bytes as sent; `None` without one.
    #[must_use]
    pub fn event_log_digest(&self) -> Option<Digest> {
        match self {
            Self::Tdx { event_log, .. } => event_log.as_deref().map(sha256),
            Self::SevSnp { .. } | Self::Held {} => None,
        }
    }
}

fn write_event_log<S: Serializer>(log: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    match log {
        Some(log) => crate::encoding::base64::serialize(log, serializer),
        None => serializer.serialize_none(),
    }
}

/// An event log that is there is not empty, and `null` is none.
fn read_event_log<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    bounded_base64::<{ limits::EVENT_LOG }, D>(deserializer).map(Some)
}

/// What a guest wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Release what is asked for.
    Release,
    /// Decide about it all the same, and release nothing.
    Check,
}

/// One thing that a guest asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// What kind of record, or an identity.
    pub kind: Kind,
    /// The record's name; for an identity the policy's.
    pub name: Name,
    /// The record's version; absent: the highest that the broker has. An identity has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
}

/// A guest's request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// A fresh number.
    pub request: RequestId,
    /// The installation that the guest pinned.
    pub installation: PublicKey,
    /// The challenge, as received.
    #[serde(with = "crate::encoding::base64")]
    pub challenge: Vec<u8>,
    /// The kind of confidential VM.
    pub platform: Platform,
    /// Evidence over the transcript that these fields make.
    pub evidence: EvidenceMessage,
    /// The guest's HPKE key.
    pub hpke_key: RecipientKey,
    /// The guest's signing key, which signs this request.
    pub signing_key: PublicKey,
    /// For whom in the VM the evidence speaks.
    pub role: Role,
    /// SHA-256 of the guest's effective configuration.
    pub configuration: Digest,
    /// Whether to release or only to decide.
    pub purpose: Purpose,
    /// What is asked for, 1 to [`limits::ASKS`]; one identity at most.
    pub items: Vec<Item>,
    /// In which forms the identity is wanted; present exactly where one is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityAsk>,
}

impl Body for ReleaseRequest {
    const PAYLOAD_TYPE: &'static str = "application/vnd.portcullis.release-request+json";
    const LIMIT: usize = limits::REQUEST_BODY;

    fn check(&self) -> Result<(), &'static str> {
        if self.items.is_empty() || self.items.len() > limits::ASKS {
            return Err("a request asks for 1 to 64 items");
        }
        let distinct: std::collections::HashSet<_> = self.items.iter().collect();
        if distinct.len() != self.items.len() {
            return Err("a request asks for each item once");
        }
        self.check_identity()
    }
}

impl ReleaseRequest {
    /// One identity at most, by the name of a policy alone, and its forms beside it.
    fn check_identity(&self) -> Result<(), &'static str> {
        let mut identities = self.items.iter().filter(|item| item.kind == Kind::Identity);
        match (identities.next(), &self.identity) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err("forms of an identity, and none is asked for"),
            (Some(_), None) => Err("an identity is asked for in no form"),
            (Some(Item { version: Some(_), .. }), _) => Err("an identity is asked for by the name of a policy, without a version"),
            (Some(_), Some(_)) if identities.next().is_some() => Err("a request asks for one identity at most"),
            (Some(_), Some(ask)) => ask.check(),
        }
    }
}

/// A request that its own signing key signed. Whether that key is attested is what verification finds out.
#[derive(Debug)]
pub struct ReceivedRequest {
    /// The request.
    pub body: ReleaseRequest,
    /// What it is known by: SHA-256 of the signed bytes.
    pub digest: Digest,
}

impl ReceivedRequest {
    /// Reads a request and checks the signature by the key that it names.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn read(json: &[u8]) -> Result<Self, DocumentError> {
        /// The one field that says which key to check by. The whole body is read, strictly, behind the signature.
        #[derive(Deserialize)]
        struct Signer {
            signing_key: PublicKey,
        }
        let signed = SignedDocument::parse::<ReleaseRequest>(json)?;
        let refuse = |error: serde_json::Error| DocumentError::Body { expected: ReleaseRequest::PAYLOAD_TYPE, what: error.to_string() };
        let signer: Signer = serde_json::from_slice(&signed.payload).map_err(refuse)?;
        let document = signed.authenticate::<ReleaseRequest>(&[signer.signing_key])?;
        Ok(Self { digest: *document.digest(), body: document.body().clone() })
    }
}

/// A released secret. It has no `Debug`; its bytes are erased when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes.
    #[must_use]
    pub const fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(crate::encoding::to_base64(&self.0)))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::encoding::base64::deserialize(deserializer).map(|bytes| Self(Zeroizing::new(bytes)))
    }
}

/// What became of one item.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ItemOutcome {
    /// Released.
    Granted {
        /// What was asked for, with the version that was found.
        item: Item,
        /// The publisher whose statement it is.
        publisher: PublicKey,
        /// The digest of the statement.
        statement: Digest,
        /// The digest of the model's signed manifest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        manifest: Option<Digest>,
        /// The last second at which the permit holds.
        expires: UnixTime,
        /// The secret.
        secret: Secret,
    },
    /// It would have been released; this was a check.
    Permitted {
        /// What was asked for, with the version that was found.
        item: Item,
        /// The last second at which a permit would hold.
        expires: UnixTime,
    },
    /// An identity, given.
    Identified(Box<Identified>),
    /// Not released.
    Refused {
        /// What was asked for.
        item: Item,
        /// Every check that failed.
        reasons: Vec<Reason>,
    },
}

impl ItemOutcome {
    /// What was asked for.
    #[must_use]
    pub const fn item(&self) -> &Item {
        match self {
            Self::Granted { item, .. } | Self::Permitted { item, .. } | Self::Refused { item, .. } => item,
            Self::Identified(identified) => &identified.item,
        }
    }
}

/// One reason for a refusal, as the guest may know it: what was found about itself, not what was expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// A stable code.
    pub code: String,
    /// What was found.
    pub found: String,
    /// What may help, for people.
    pub hint: String,
}

/// What the broker decided, as the attested guest reads it after opening.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The decision's number: what `portcullis explain` takes.
    pub decision: DecisionId,
    /// The broker's time of deciding.
    pub at: UnixTime,
    /// One outcome an item, in the order of the request.
    pub items: Vec<ItemOutcome>,
    /// Proof that the decision stands in the audit log.
    pub receipt: Receipt,
}

/// The signed part of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerBody {
    /// The digest of the request that this answers.
    pub request: Digest,
    /// The [`Outcome`], as one HPKE message to the attested key.
    pub sealed: Sealed,
}

impl Body for AnswerBody {
    const PAYLOAD_TYPE: &'static str = "application/vnd.portcullis.release-answer+json";
    const LIMIT: usize = 8 * limits::DOCUMENT;
}

/// What `POST /v1/release` answers to a verified guest, whether it got something or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseAnswer {
    /// The signed [`AnswerBody`].
    pub answer: SignedDocument,
    /// The certificate of the identity key that signed it.
    pub identity: SignedDocument,
}

impl ReleaseAnswer {
    /// Seals `outcome` to the guest and signs it.
    ///
    /// # Errors
    /// [`AnswerError::Hpke`] where the guest's key cannot be sealed to.
    pub fn write(
        outcome: &Outcome,
        request: Digest,
        guest: &RecipientKey,
        key: &SigningKey,
        identity: &SignedDocument,
    ) -> Result<Self, AnswerError> {
        let plaintext = secret_json(outcome, Spacing::Compact).map_err(|error| AnswerError::Outcome(place_of(&error)))?;
        let sealed = hpke::seal(guest, info(&request).as_bytes(), &[], &plaintext)?;
        let answer = SignedDocument::sign(&AnswerBody { request, sealed }, key)?;
        Ok(Self { answer, identity: identity.clone() })
    }

    /// Opens an answer: the identity is certified by the pinned root, the answer is signed by that identity, is the answer
    /// to this request, and opens with the guest's key.
    ///
    /// # Errors
    /// [`AnswerError`], a variant per check, in that order.
    pub fn open(&self, request: &Digest, root: &PublicKey, guest: &RecipientSecret, at: UnixTime) -> Result<Outcome, AnswerError> {
        let certificate = Certificate::verify(&self.identity, root, at)?;
        let document = self.answer.authenticate::<AnswerBody>(&[*certificate.identity()?])?;
        let body = document.body();
        if body.request != *request {
            return Err(AnswerError::OtherRequest { expected: *request, found: body.request });
        }
        let plaintext = hpke::open(guest, info(request).as_bytes(), &[], &body.sealed)?;
        serde_json::from_slice(&plaintext).map_err(|error| AnswerError::Outcome(place_of(&error)))
    }
}

fn info(request: &Digest) -> Fields {
    Fields::new("portcullis/answer/v1").field(request)
}

/// Why an answer is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The broker's identity is not certified by the pinned root.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Not signed by that identity.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The answer to another request.
    #[error("this answers request {found}, not {expected}")]
    OtherRequest {
        /// The request that was sent.
        expected: Digest,
        /// The one that is answered.
        found: Digest,
    },
    /// It does not open.
    #[error(transparent)]
    Hpke(#[from] HpkeError),
    /// What it holds is no outcome.
    #[error("the answer holds no valid outcome: {0}")]
    Outcome(String),
}

/// RFC 9457, with a stable code and the number of the decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:portcullis:problem:CODE`.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// A stable code.
    pub code: String,
    /// What happened, where that may be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What may help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What the operator can look the matter up by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionId>,
}

impl Problem {
    /// The media type.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// A problem with this code.
    #[must_use]
    pub fn new(status: u16, code: &str, title: &str) -> Self {
        let type_uri = format!("urn:portcullis:problem:{code}");
        Self { type_uri, title: title.to_owned(), status, code: code.to_owned(), detail: None, hint: None, decision: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::{CertificateBody, CertifiedKey};
    use crate::ids::AnchorClass;

    fn root() -> SigningKey {
        SigningKey::from_seed(&[1; 32]).unwrap()
    }
    fn identity() -> SigningKey {
        SigningKey::from_seed(&[2; 32]).unwrap()
    }
    fn guest() -> RecipientSecret {
        RecipientSecret::from_seed(&[3; 32]).unwrap()
    }
    const AT: UnixTime = UnixTime::from_seconds(1000);

    fn certificate(certified: CertifiedKey) -> SignedDocument {
        let body = CertificateBody {
            installation: *root().public(),
            name: "acme".parse().unwrap(),
            anchors: AnchorClass::Test,
            certified,
            not_before: UnixTime::from_seconds(0),
            not_after: UnixTime::from_seconds(2000),
        };
        SignedDocument::sign(&body, &root()).unwrap()
    }

    fn outcome() -> Outcome {
        let receipt = Receipt { entry: vec![], proof: String::new() };
        Outcome { decision: DecisionId::from([1; 16]), at: AT, items: vec![], receipt }
    }

    fn answer(request: u8, key: &SigningKey, identity: &SignedDocument) -> ReleaseAnswer {
        ReleaseAnswer::write(&outcome(), Digest::from([request; 32]), guest().public(), key, identity).unwrap()
    }

    fn open(answer: &ReleaseAnswer) -> Result<Outcome, AnswerError> {
        answer.open(&Digest::from([7; 32]), root().public(), &guest(), AT)
    }

    #[test]
    fn the_guest_reads_the_certified_brokers_answer_to_its_own_request() {
        let certified = certificate(CertifiedKey::Identity(*identity().public()));
        assert_eq!(open(&answer(7, &identity(), &certified)).unwrap(), outcome());
        let replayed = open(&answer(8, &identity(), &certified)).unwrap_err();
        assert_eq!(replayed, AnswerError::OtherRequest { expected: Digest::from([7; 32]), found: Digest::from([8; 32]) });
    }

    #[test]
    fn an_impostor_cannot_answer() {
        let certified = certificate(CertifiedKey::Identity(*identity().public()));
        let impostor = SigningKey::from_seed(&[9; 32]).unwrap();
        let expected = AnswerError::Document(DocumentError::UnknownSigner { found: impostor.public().id() });
        assert_eq!(open(&answer(7, &impostor, &certified)).unwrap_err(), expected);
        let wrong_purpose = certificate(CertifiedKey::Log(*identity().public()));
        let expected = AnswerError::Certificate(CertificateError::Purpose { expected: "identity", found: "log" });
        assert_eq!(open(&answer(7, &identity(), &wrong_purpose)).unwrap_err(), expected);
    }

    #[test]
    fn an_answer_sealed_to_another_guest_does_not_open() {
        let certified = certificate(CertifiedKey::Identity(*identity().public()));
        let other = RecipientSecret::from_seed(&[4; 32]).unwrap();
        let stray = ReleaseAnswer::write(&outcome(), Digest::from([7; 32]), other.public(), &identity(), &certified).unwrap();
        assert_eq!(open(&stray).unwrap_err(), AnswerError::Hpke(HpkeError::Open));
    }

    fn request() -> ReleaseRequest {
        ReleaseRequest {
            request: RequestId::from([1; 16]),
            installation: *root().public(),
            challenge: vec![0; 73],
            platform: Platform::SevSnp,
            evidence: EvidenceMessage::SevSnp { report: vec![0; 1184], certificate_table: vec![] },
            hpke_key: guest().public().clone(),
            signing_key: *identity().public(),
            role: Role::WholeVm,
            configuration: Digest::from([0; 32]),
            purpose: Purpose::Release,
            items: vec![Item { kind: Kind::Model, name: "a".parse().unwrap(), version: None }],
            identity: None,
        }
    }

    #[test]
    fn a_request_is_signed_by_the_key_that_it_names() {
        let signed = SignedDocument::sign(&request(), &identity()).unwrap();
        let received = ReceivedRequest::read(&signed.to_json()).unwrap();
        assert_eq!((received.body, received.digest), (request(), signed.digest()));
        let stranger = SigningKey::from_seed(&[9; 32]).unwrap();
        let refused = ReceivedRequest::read(&SignedDocument::sign(&request(), &stranger).unwrap().to_json()).unwrap_err();
        assert_eq!(refused, DocumentError::UnknownSigner { found: stranger.public().id() });
    }

    #[test]
    fn a_request_asks_for_each_item_once_and_for_one_at_least() {
        for items in [vec![], vec![request().items[0].clone(); 2], (0..65).map(numbered).collect()] {
            let refused = SignedDocument::sign(&ReleaseRequest { items, ..request() }, &identity()).unwrap_err();
            assert!(matches!(refused, DocumentError::Body { .. }));
        }
        assert!(SignedDocument::sign(&ReleaseRequest { items: (0..64).map(numbered).collect(), ..request() }, &identity()).is_ok());
    }

    fn tdx(quote: usize, event_log: Option<usize>) -> EvidenceMessage {
        EvidenceMessage::Tdx { quote: vec![0xff; quote], event_log: event_log.map(|length| vec![0xff; length]) }
    }

    #[test]
    fn a_quote_and_an_event_log_have_1_byte_to_their_limits() {
        let reads = |evidence: &EvidenceMessage| serde_json::from_slice::<EvidenceMessage>(&serde_json::to_vec(evidence).unwrap());
        for good in [tdx(1, None), tdx(limits::TD_QUOTE, None), tdx(1, Some(1)), tdx(1, Some(limits::EVENT_LOG))] {
            assert_eq!(reads(&good).unwrap(), good);
        }
        // One and three bytes beyond: within and beyond the characters that the limit takes.
        for beyond in [1, 3] {
            let error = reads(&tdx(limits::TD_QUOTE + beyond, None)).unwrap_err().to_string();
            assert!(error.starts_with("not 1 to 16384 bytes of base64"), "{error}");
            let error = reads(&tdx(1, Some(limits::EVENT_LOG + beyond))).unwrap_err().to_string();
            assert!(error.starts_with("not 1 to 524288 bytes of base64"), "{error}");
        }
        assert!(reads(&tdx(0, None)).is_err() && reads(&tdx(1, Some(0))).is_err());
    }

    #[test]
    fn an_event_log_is_there_or_not() {
        let read = |json: &str| serde_json::from_str::<EvidenceMessage>(json);
        assert_eq!(read(r#"{"type":"tdx","quote":"/w=="}"#).unwrap(), tdx(1, None));
        assert_eq!(read(r#"{"type":"tdx","quote":"/w==","event_log":"/w=="}"#).unwrap(), tdx(1, Some(1)));
        for bad in [
            r#"{"type":"tdx","quote":"/w==","event_log":null}"#,
            r#"{"type":"tdx","quote":"/w==","event_log":""}"#,
            r#"{"type":"tdx","quote":"/w"}"#,
            r#"{"type":"tdx","quote":"/w==","quote":"/w=="}"#,
            r#"{"type":"tdx","quote":"/w==","report":"/w=="}"#,
            r#"{"type":"tdx","event_log":"/w=="}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(tdx(1, None).event_log_digest(), None);
        assert_eq!(tdx(1, Some(1)).event_log_digest(), Some(sha256(&[0xff])));
    }

    #[test]
    fn an_identity_is_asked_for_once_by_name_and_with_its_forms() {
        let identity = |name: &str, version| Item { kind: Kind::Identity, name: name.parse().unwrap(), version };
        let check = |items: Vec<Item>, ask: Option<IdentityAsk>| ReleaseRequest { items, identity: ask, ..request() }.check();
        let ask = || Some(IdentityAsk { jwt_audiences: vec!["tools".to_owned()], ..IdentityAsk::default() });
        assert_eq!(check(vec![identity("a", None)], ask()), Ok(()));
        assert_eq!(check(vec![numbered(0), identity("a", None)], Some(IdentityAsk::default())), Ok(()));
        assert_eq!(check(vec![identity("a", None)], None), Err("an identity is asked for in no form"));
        assert_eq!(check(vec![numbered(0)], ask()), Err("forms of an identity, and none is asked for"));
        let twice = vec![identity("a", None), numbered(0), identity("b", None)];
        assert_eq!(check(twice, ask()), Err("a request asks for one identity at most"));
        let versioned = vec![identity("a", Some(Version::FIRST))];
        assert_eq!(check(versioned, ask()), Err("an identity is asked for by the name of a policy, without a version"));
        let same = vec![identity("a", None), identity("a", None)];
        assert_eq!(check(same, ask()), Err("a request asks for each item once"));
        let bad = IdentityAsk { result_audience: Some(String::new()), ..IdentityAsk::default() };
        assert!(check(vec![identity("a", None)], Some(bad)).is_err());
        let whole = ReleaseRequest { items: vec![identity("a", None)], identity: ask(), ..request() };
        let signed = SignedDocument::sign(&whole, &self::identity()).unwrap();
        assert_eq!(ReceivedRequest::read(&signed.to_json()).unwrap().body, whole);
        assert!(!String::from_utf8(serde_json::to_vec(&request()).unwrap()).unwrap().contains("\"identity\""));
    }

    #[test]
    fn the_largest_request_fits() {
        let longest = |number: u32| Item {
            name: format!("{number:0>128}").parse().unwrap(),
            version: Some(Version::try_from((1_u64 << 53) - 1).unwrap()),
            ..numbered(0)
        };
        let largest = ReleaseRequest {
            platform: Platform::Tdx,
            evidence: tdx(limits::TD_QUOTE, Some(limits::EVENT_LOG)),
            role: Role::Workload("w".repeat(128).parse().unwrap()),
            items: (0..63).map(longest).chain([Item { kind: Kind::Identity, version: None, ..longest(63) }]).collect(),
            identity: Some(IdentityAsk {
                x509: Some(SvidKey { public_key: vec![0xff; 91], proof: vec![0xff; 72] }),
                jwt_audiences: (0..8).map(|number| format!("{number:a>256}")).collect(),
                result_audience: Some("a".repeat(256)),
            }),
            ..request()
        };
        let signed = SignedDocument::sign(&largest, &identity()).unwrap().to_json();
        assert!(signed.len() > limits::REQUEST_BODY * 9 / 10, "{}", signed.len());
        assert_eq!(ReceivedRequest::read(&signed).unwrap().body, largest);
    }

    fn numbered(number: u32) -> Item {
        Item { kind: Kind::Credential, name: format!("c{number}").parse().unwrap(), version: None }
    }
}
