//! What an issuer publishes, signed by its broker: for whoever copies it to a web server that clouds can reach.
//!
//! The files themselves carry no signature, since their readers know none; and whoever swaps a key in them is everybody. So they are
//! fetched under the pinned root, like everything else that a broker says of itself: `GET /v1/identity` answers a [`PublishedAnswer`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Bundle, BundleError, TrustDomain};
use crate::documents::{Certificate, CertificateError};
use crate::dsse::{Body, Document, DocumentError, SignedDocument};
use crate::ids::AnchorClass;
use crate::keys::{PublicKey, SigningKey};
use crate::time::UnixTime;
use crate::tokens::{KeySet, KeySetError};

/// How long ago an answer may have been signed: it is signed when it is asked for, and an older one may lack a key, or have one too many.
pub const FRESH: Duration = Duration::from_secs(600);

/// Everything that an issuer publishes, each text exactly as it is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedBody {
    /// The installation.
    pub installation: PublicKey,
    /// The class of roots under which its guests are judged.
    pub anchors: AnchorClass,
    /// Its trust domain.
    pub trust_domain: TrustDomain,
    /// When this was signed.
    pub at: UnixTime,
    /// The SPIFFE bundle: `/identity/bundle`.
    pub bundle: String,
    /// The keys of attestation results: `/identity/results/jwks`.
    pub results: String,
    /// What clouds read, where there is an issuer for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federation: Option<PublishedFederation>,
}

/// What clouds read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedFederation {
    /// The issuer's URL.
    pub issuer: String,
    /// OpenID Connect discovery: `/.well-known/openid-configuration`.
    pub discovery: String,
    /// The keys of tokens for clouds: `/identity/jwks`.
    pub jwks: String,
}

impl Body for PublishedBody {
    const PAYLOAD_TYPE: &'static str = "application/vnd.portcullis.published-identity+json";
}

/// What `GET /v1/identity` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedAnswer {
    /// The signed [`PublishedBody`].
    pub published: SignedDocument,
    /// The certificate of the identity key that signed it.
    pub identity: SignedDocument,
}

/// What an issuer publishes, after all of it was read. Only [`PublishedAnswer::open`] makes one.
#[derive(Debug)]
pub struct Published {
    document: Document<PublishedBody>,
    bundle: Bundle,
    results: KeySet,
    jwks: Option<KeySet>,
}

impl Published {
    /// The texts.
    #[must_use]
    pub fn body(&self) -> &PublishedBody {
        self.document.body()
    }

    /// The bundle.
    #[must_use]
    pub const fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The keys of attestation results.
    #[must_use]
    pub const fn results(&self) -> &KeySet {
        &self.results
    }

    /// The keys that clouds read.
    #[must_use]
    pub const fn jwks(&self) -> Option<&KeySet> {
        self.jwks.as_ref()
    }
}

impl PublishedAnswer {
    /// Signs what is published.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn write(body: &PublishedBody, key: &SigningKey, identity: &SignedDocument) -> Result<Self, DocumentError> {
        Ok(Self { published: SignedDocument::sign(body, key)?, identity: identity.clone() })
    }

    /// Opens an answer: the identity is certified by the pinned root, has signed this for this installation just now, and every text in
    /// it is what it should be.
    ///
    /// # Errors
    /// [`PublishedError`], a variant per check, in that order.
    pub fn open(&self, root: &PublicKey, at: UnixTime) -> Result<Published, PublishedError> {
        let certificate = Certificate::verify(&self.identity, root, at)?;
        let document = self.published.authenticate::<PublishedBody>(&[*certificate.identity()?])?;
        let body = document.body();
        if body.installation != *root {
            return Err(PublishedError::Installation { expected: *root, found: body.installation });
        }
        if at.since(body.at).max(body.at.since(at)) > FRESH {
            return Err(PublishedError::Stale { signed: body.at, at });
        }
        let bundle = Bundle::parse(&body.trust_domain, body.bundle.as_bytes())?;
        let results = KeySet::parse(body.results.as_bytes())?;
        let jwks = body.federation.as_ref().map(|federation| KeySet::parse(federation.jwks.as_bytes())).transpose()?;
        Ok(Published { bundle, results, jwks, document })
    }
}

/// Why what is said to be published is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishedError {
    /// The broker's identity is not certified by the pinned root.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Not signed by that identity.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Of another installation.
    #[error("this is published by installation {found}, not by {expected}")]
    Installation {
        /// The pinned root.
        expected: PublicKey,
        /// What it names.
        found: PublicKey,
    },
    /// Not of now.
    #[error("this was signed at {signed}; it is {at}")]
    Stale {
        /// When it was signed.
        signed: UnixTime,
        /// The time of checking.
        at: UnixTime,
    },
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A key set.
    #[error(transparent)]
    KeySet(#[from] KeySetError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::{CertificateBody, CertifiedKey};
    use crate::tokens::EcKey;

    const AT: UnixTime = UnixTime::from_seconds(1_800_000_000);

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32]).unwrap()
    }

    fn certificate(certified: CertifiedKey) -> SignedDocument {
        let (installation, name, anchors) = (*key(1).public(), "acme".parse().unwrap(), AnchorClass::Test);
        let (not_before, not_after) = (UnixTime::from_seconds(0), AT.plus(FRESH * 10));
        SignedDocument::sign(&CertificateBody { installation, name, anchors, certified, not_before, not_after }, &key(1)).unwrap()
    }

    fn body() -> PublishedBody {
        let trust_domain: TrustDomain = "acme.example".parse().unwrap();
        let key_of_svids = EcKey::generate().unwrap().jwk();
        let bundle = Bundle::new(trust_domain.clone(), 1, FRESH, vec![], vec![key_of_svids.clone()]).unwrap().to_json();
        let results = KeySet::new(vec![key_of_svids]).unwrap().to_json();
        let (installation, anchors) = (*key(1).public(), AnchorClass::Test);
        PublishedBody { installation, anchors, trust_domain, at: AT, bundle, results, federation: None }
    }

    fn open(body: &PublishedBody, signer: &SigningKey, at: UnixTime) -> Result<(), PublishedError> {
        let certificate = certificate(CertifiedKey::Identity(*key(2).public()));
        PublishedAnswer::write(body, signer, &certificate).unwrap().open(key(1).public(), at).map(drop)
    }

    #[test]
    fn it_is_signed_by_the_certified_identity_of_this_installation_just_now() {
        assert_eq!(open(&body(), &key(2), AT), Ok(()));
        let stranger = PublishedError::Document(DocumentError::UnknownSigner { found: key(3).public().id() });
        assert_eq!(open(&body(), &key(3), AT), Err(stranger));
        let other = PublishedBody { installation: *key(9).public(), ..body() };
        let refused = PublishedError::Installation { expected: *key(1).public(), found: *key(9).public() };
        assert_eq!(open(&other, &key(2), AT), Err(refused));
        assert_eq!(open(&body(), &key(2), AT.plus(FRESH)), Ok(()));
        let late = AT.plus(FRESH + Duration::from_secs(1));
        assert_eq!(open(&body(), &key(2), late), Err(PublishedError::Stale { signed: AT, at: late }));
        let early = UnixTime::from_seconds(AT.seconds() - FRESH.as_secs() - 1);
        assert_eq!(open(&body(), &key(2), early), Err(PublishedError::Stale { signed: AT, at: early }));
    }

    #[test]
    fn a_key_for_another_purpose_publishes_nothing() {
        let log = certificate(CertifiedKey::Log(*key(2).public()));
        let refused = PublishedAnswer::write(&body(), &key(2), &log).unwrap().open(key(1).public(), AT).err();
        let expected = PublishedError::Certificate(CertificateError::Purpose { expected: "identity", found: "log" });
        assert_eq!(refused, Some(expected));
    }

    #[test]
    fn every_text_is_what_it_should_be() {
        let empty = PublishedBody { bundle: "{\"keys\":[]}".to_owned(), ..body() };
        assert!(matches!(open(&empty, &key(2), AT), Err(PublishedError::Bundle(BundleError::Empty { .. }))));
        let none = PublishedBody { results: "[]".to_owned(), ..body() };
        assert!(matches!(open(&none, &key(2), AT), Err(PublishedError::KeySet(_))));
        let federation = |jwks: &str| {
            let (issuer, discovery, jwks) = ("https://a".to_owned(), "{}".to_owned(), jwks.to_owned());
            PublishedBody { federation: Some(PublishedFederation { issuer, discovery, jwks }), ..body() }
        };
        assert!(matches!(open(&federation("{}"), &key(2), AT), Err(PublishedError::KeySet(_))));
        assert_eq!(open(&federation("{\"keys\":[]}"), &key(2), AT), Ok(()));
    }
}
