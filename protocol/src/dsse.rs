//! Signed documents: DSSE envelopes (Dead Simple Signing Envelope, v1) with one Ed25519 signature over a JSON body.
//!
//! The signature covers `PAE(type, payload) = "DSSEv1" SP len(type) SP type SP len(payload) SP payload`, so a body
//! signed as one type never passes as another. A document's digest is SHA-256 of the same bytes: it names what was
//! signed, not how the envelope around it was spelled.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::encoding::sha256;
use crate::ids::Digest;
use crate::keys::{KeyId, PublicKey, Signature, SigningKey};
use crate::limits;

/// What a signed document says. The type string separates the domains.
pub trait Body: Serialize + DeserializeOwned {
    /// The DSSE payload type.
    const PAYLOAD_TYPE: &'static str;

    /// The largest envelope of this type (bytes of its JSON form).
    const LIMIT: usize = limits::DOCUMENT;

    /// Rules beyond the types of the fields.
    ///
    /// # Errors
    /// What is wrong, in a few words.
    fn check(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

/// A DSSE envelope as received: nothing about it is believed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedDocument {
    /// The type of the payload.
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// The body, as the exact bytes that were signed.
    #[serde(with = "crate::encoding::base64")]
    pub payload: Vec<u8>,
    /// Exactly one signature.
    pub signatures: [DocumentSignature; 1],
}

/// One signature of a [`SignedDocument`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentSignature {
    /// Which key made it: a hint.
    pub keyid: KeyId,
    /// The signature over the PAE.
    pub sig: Signature,
}

impl SignedDocument {
    /// Signs `body`.
    ///
    /// # Errors
    /// [`DocumentError::Body`] where the body breaks its own rules.
    pub fn sign<B: Body>(body: &B, key: &SigningKey) -> Result<Self, DocumentError> {
        body.check().map_err(|what| DocumentError::Body { expected: B::PAYLOAD_TYPE, what: what.to_owned() })?;
        let payload =
            serde_json::to_vec(body).map_err(|error| DocumentError::Body { expected: B::PAYLOAD_TYPE, what: error.to_string() })?;
        let sig = key.sign(&pae(B::PAYLOAD_TYPE, &payload));
        let signature = DocumentSignature { keyid: key.public().id(), sig };
        Ok(Self { payload_type: B::PAYLOAD_TYPE.to_owned(), payload, signatures: [signature] })
    }

    /// Reads the JSON form of an envelope that a `B` is expected in.
    ///
    /// # Errors
    /// [`DocumentError::TooLarge`] or [`DocumentError::Envelope`].
    pub fn parse<B: Body>(json: &[u8]) -> Result<Self, DocumentError> {
        if json.len() > B::LIMIT {
            return Err(DocumentError::TooLarge { limit: B::LIMIT, found: json.len() });
        }
        object(json).map_err(DocumentError::Envelope)
    }

    /// The JSON form.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// SHA-256 of the PAE.
    #[must_use]
    pub fn digest(&self) -> Digest {
        sha256(&pae(&self.payload_type, &self.payload))
    }

    /// Verifies the signature under one of the `trusted` keys, and only then reads the body.
    ///
    /// # Errors
    /// In this order: [`DocumentError::WrongType`], [`DocumentError::UnknownSigner`], [`DocumentError::BadSignature`], [`DocumentError::Body`].
    pub fn authenticate<B: Body>(&self, trusted: &[PublicKey]) -> Result<Document<B>, DocumentError> {
        if self.payload_type != B::PAYLOAD_TYPE {
            return Err(DocumentError::WrongType { expected: B::PAYLOAD_TYPE, found: self.payload_type.clone() });
        }
        let [signature] = &self.signatures;
        let signer =
            trusted.iter().find(|key| key.id() == signature.keyid).ok_or(DocumentError::UnknownSigner { found: signature.keyid })?;
        let signed = pae(&self.payload_type, &self.payload);
        signer.verify(&signed, &signature.sig).map_err(|_| DocumentError::BadSignature { signer: *signer })?;
        let refuse = |what: String| DocumentError::Body { expected: B::PAYLOAD_TYPE, what };
        let body: B = object(&self.payload).map_err(refuse)?;
        body.check().map_err(|what| refuse(what.to_owned()))?;
        Ok(Document { body, digest: sha256(&signed), signer: *signer, signed: self.clone() })
    }
}

/// A document whose signature was verified under a key that the caller trusts for it. Only
/// [`SignedDocument::authenticate`] makes one.
#[derive(Debug)]
pub struct Document<B> {
    body: B,
    digest: Digest,
    signer: PublicKey,
    signed: SignedDocument,
}

impl<B> Document<B> {
    /// What it says.
    #[must_use]
    pub const fn body(&self) -> &B {
        &self.body
    }

    /// SHA-256 of what was signed.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Who signed it.
    #[must_use]
    pub const fn signer(&self) -> &PublicKey {
        &self.signer
    }

    /// The envelope, to hand on.
    #[must_use]
    pub const fn signed(&self) -> &SignedDocument {
        &self.signed
    }
}

/// Reads a JSON object. The JSON reader would also take an array, by the order of the fields: a second spelling that nobody signs.
pub(crate) fn object<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    match json.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(json).map_err(|error| error.to_string()),
        _ => Err("expected a JSON object".to_owned()),
    }
}

/// The DSSE pre-authentication encoding.
#[must_use]
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// Why a signed document is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Larger than its type allows.
    #[error("the document has {found} bytes, more than the {limit} that its type allows")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
        /// The size in bytes.
        found: usize,
    },
    /// Not a DSSE envelope with one signature.
    #[error("not a signed document: {0}")]
    Envelope(String),
    /// Another type of document.
    #[error("expected a document of type {expected}, found {found:?}")]
    WrongType {
        /// The type that was expected.
        expected: &'static str,
        /// The type that it says it is.
        found: String,
    },
    /// Signed by a key that is not trusted for it.
    #[error("the document is signed by key {found}, which is not trusted for it")]
    UnknownSigner {
        /// The key that the signature names.
        found: KeyId,
    },
    /// The signature does not verify.
    #[error("the signature of {signer} on the document does not verify")]
    BadSignature {
        /// The key that it should have verified under.
        signer: PublicKey,
    },
    /// The signature is good, and what it signs is not of this type.
    #[error("the body is not a valid {expected}: {what}")]
    Body {
        /// The type that was expected.
        expected: &'static str,
        /// What is wrong.
        what: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Note {
        text: String,
    }
    impl Body for Note {
        const PAYLOAD_TYPE: &'static str = "application/vnd.portcullis.test-note+json";
        fn check(&self) -> Result<(), &'static str> {
            if self.text.is_empty() { Err("text is empty") } else { Ok(()) }
        }
    }
    #[derive(Debug, Serialize, Deserialize)]
    struct Other {}
    impl Body for Other {
        const PAYLOAD_TYPE: &'static str = "application/vnd.portcullis.test-other+json";
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32]).unwrap()
    }

    fn signed() -> SignedDocument {
        SignedDocument::sign(&Note { text: "hello".into() }, &key(1)).unwrap()
    }

    #[test]
    fn a_trusted_signature_gives_the_body_and_its_signer() {
        let trusted = [*key(2).public(), *key(1).public()];
        let document = SignedDocument::parse::<Note>(&signed().to_json()).unwrap().authenticate::<Note>(&trusted).unwrap();
        assert_eq!(document.body().text, "hello");
        assert_eq!(document.signer(), key(1).public());
        assert_eq!(*document.digest(), signed().digest());
    }

    #[test]
    fn an_untrusted_signer_is_refused() {
        let refused = signed().authenticate::<Note>(&[*key(2).public()]).unwrap_err();
        assert_eq!(refused, DocumentError::UnknownSigner { found: key(1).public().id() });
    }

    #[test]
    fn a_changed_payload_is_refused() {
        let mut changed = signed();
        changed.payload[9] ^= 1;
        let refused = changed.authenticate::<Note>(&[*key(1).public()]).unwrap_err();
        assert_eq!(refused, DocumentError::BadSignature { signer: *key(1).public() });
    }

    #[test]
    fn one_type_never_passes_as_another() {
        let mut relabelled = signed();
        relabelled.payload_type = Other::PAYLOAD_TYPE.to_owned();
        assert_eq!(
            relabelled.authenticate::<Other>(&[*key(1).public()]).unwrap_err(),
            DocumentError::BadSignature { signer: *key(1).public() }
        );
        let refused = signed().authenticate::<Other>(&[*key(1).public()]).unwrap_err();
        assert_eq!(refused, DocumentError::WrongType { expected: Other::PAYLOAD_TYPE, found: Note::PAYLOAD_TYPE.to_owned() });
    }

    #[test]
    fn a_signed_body_that_breaks_its_rules_is_refused() {
        let read = |payload: &str| {
            let sig = key(1).sign(&pae(Note::PAYLOAD_TYPE, payload.as_bytes()));
            let signatures = [DocumentSignature { keyid: key(1).public().id(), sig }];
            let document = SignedDocument { payload_type: Note::PAYLOAD_TYPE.to_owned(), payload: payload.into(), signatures };
            document.authenticate::<Note>(&[*key(1).public()]).map(|document| document.body)
        };
        assert_eq!(read(r#"{"text":"a"}"#), Ok(Note { text: "a".into() }));
        for bad in [r#"{"text":"a","more":1}"#, r#"{"text":"a","text":"a"}"#, r#"{"text":1}"#, r#"{"text":"a"}x"#, r#"["a"]"#, "{}", ""] {
            assert!(matches!(read(bad), Err(DocumentError::Body { .. })), "{bad}");
        }
        let empty = DocumentError::Body { expected: Note::PAYLOAD_TYPE, what: "text is empty".into() };
        assert_eq!(read(r#"{"text":""}"#), Err(empty));
        assert!(matches!(SignedDocument::sign(&Note { text: String::new() }, &key(1)), Err(DocumentError::Body { .. })));
    }

    #[test]
    fn a_strangers_words_are_quoted_without_control_characters() {
        let hostile = SignedDocument { payload_type: "\u{1b}[2J".into(), ..signed() };
        let refused = hostile.authenticate::<Note>(&[*key(1).public()]).unwrap_err().to_string();
        assert!(refused.ends_with(r#"found "\u{1b}[2J""#), "{refused}");
    }

    #[test]
    fn an_envelope_has_exactly_one_signature_and_no_unknown_field() {
        let json = String::from_utf8(signed().to_json()).unwrap();
        let two = json.replace("\"signatures\":[", "\"signatures\":[{\"keyid\":\"00\",\"sig\":\"\"},");
        assert!(matches!(SignedDocument::parse::<Note>(two.as_bytes()), Err(DocumentError::Envelope(_))));
        let unknown = json.replacen('{', "{\"extra\":1,", 1);
        assert!(matches!(SignedDocument::parse::<Note>(unknown.as_bytes()), Err(DocumentError::Envelope(_))));
        let SignedDocument { payload_type, payload, signatures } = signed();
        let array = serde_json::to_vec(&(payload_type, crate::encoding::to_base64(&payload), signatures)).unwrap();
        assert_eq!(SignedDocument::parse::<Note>(&array), Err(DocumentError::Envelope("expected a JSON object".into())));
        let trailing = format!("{json}x");
        assert!(matches!(SignedDocument::parse::<Note>(trailing.as_bytes()), Err(DocumentError::Envelope(_))));
        let large = vec![b' '; limits::DOCUMENT + 1];
        assert_eq!(SignedDocument::parse::<Note>(&large), Err(DocumentError::TooLarge { limit: limits::DOCUMENT, found: large.len() }));
    }
}
