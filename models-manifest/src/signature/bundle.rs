//! The bundle's form: a Sigstore bundle 0.3 with a public key, in it a DSSE envelope, in it an in-toto statement with the predicate of
//! OpenSSF Model Signing 1.0.
//!
//! ```text
//! { "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
//!   "verificationMaterial": { "publicKey": { "hint": SHA-256 of the key's PEM }, … },
//!   "dsseEnvelope": { "payloadType": "application/vnd.in-toto+json", "payload": base64, "signatures": [{ "sig": base64, … }] } }
//!
//! { "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://model_signing/signature/v1.0",
//!   "subject": [{ "name": TEXT, "digest": { "sha256": SHA-256 over all resources' digests } }],
//!   "predicate": { "serialization": { "method": "files", "hash_type": "sha256", "allow_symlinks": BOOL, "ignore_paths": [PATH…] },
//!                  "resources": [{ "name": PATH, "algorithm": "sha256", "digest": HEX }, …] } }
//! ```
//! What is not signed and decides nothing may be there and is not read: log entries, key ids. So may further members of the
//! predicate, as its authors ask of verifiers of version 1.0.

use protocol::dsse::pae;
use protocol::encoding::{from_base64, from_hex};
use protocol::limits::MANIFEST_FILES;
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

use super::error::SignatureError;
use super::key::ModelSigner;
use crate::content::Unique;
use crate::path::ModelPath;

/// The largest bundle that is read (bytes): twice the base64 of 100 000 short resources.
pub const LIMIT: usize = 32 * 1024 * 1024;

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://model_signing/signature/v1.0";

/// A bundle, well formed as far as its envelope goes. Nothing in it is believed before [`Self::verify`].
#[derive(Debug)]
pub struct Bundle {
    hint: Option<String>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// Every member that is read, and those that say that the bundle was made in another way.
#[derive(Deserialize)]
struct BundleBody {
    #[serde(rename = "mediaType")]
    media_type: String,
    #[serde(rename = "verificationMaterial")]
    material: Material,
    #[serde(rename = "dsseEnvelope")]
    envelope: Option<Envelope>,
}

#[derive(Deserialize)]
struct Material {
    #[serde(rename = "publicKey")]
    public_key: Option<PublicKeyHint>,
    certificate: Option<IgnoredAny>,
    #[serde(rename = "x509CertificateChain")]
    chain: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct PublicKeyHint {
    hint: Option<String>,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<SignatureBody>,
}

#[derive(Deserialize)]
struct SignatureBody {
    sig: String,
}

#[derive(Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicate")]
    _predicate: IgnoredAny,
}

#[derive(Deserialize)]
struct Subject {
    name: String,
    digest: Unique<String>,
}

#[derive(Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Serialization {
    method: String,
    hash_type: String,
    #[serde(rename = "allow_symlinks")]
    _allow_symlinks: bool,
    #[serde(default)]
    ignore_paths: Vec<String>,
    #[serde(default, rename = "shard_size")]
    _shard_size: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

fn form(error: impl ToString) -> SignatureError {
    SignatureError::Form { what: error.to_string() }
}

impl Bundle {
    /// From the bundle's file, at most `LIMIT` bytes.
    ///
    /// # Errors
    /// [`SignatureError::TooLarge`], [`SignatureError::Form`], [`SignatureError::MediaType`], [`SignatureError::NotByKey`],
    /// [`SignatureError::PayloadType`], [`SignatureError::Signatures`].
    pub fn parse(json: &[u8]) -> Result<Self, SignatureError> {
        if json.len() > LIMIT {
            return Err(SignatureError::TooLarge { limit: LIMIT, found: json.len() });
        }
        let body: BundleBody = serde_json::from_slice(json).map_err(form)?;
        if body.media_type != MEDIA_TYPE {
            return Err(SignatureError::MediaType { expected: MEDIA_TYPE, found: body.media_type });
        }
        let Material { public_key: Some(public_key), certificate: None, chain: None } = body.material else {
            return Err(SignatureError::NotByKey);
        };
        let envelope = body.envelope.ok_or_else(|| form("missing field `dsseEnvelope`"))?;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(SignatureError::PayloadType { expected: PAYLOAD_TYPE, found: envelope.payload_type });
        }
        let [signature] = envelope.signatures.as_slice() else {
            return Err(SignatureError::Signatures { found: envelope.signatures.len() });
        };
        Ok(Self {
            hint: public_key.hint.filter(|hint| !hint.is_empty()),
            payload: from_base64(&envelope.payload).ok_or_else(|| form("the payload is no base64"))?,
            signature: from_base64(&signature.sig).ok_or_else(|| form("the signature is no base64"))?,
        })
    }

    /// What `signer` signed.
    ///
    /// # Errors
    /// [`SignatureError::OtherKey`], [`SignatureError::BadSignature`]; then, of what was signed: [`SignatureError::Form`],
    /// [`SignatureError::StatementType`], [`SignatureError::PredicateType`], [`SignatureError::Method`],
    /// [`SignatureError::HashType`], [`SignatureError::Subjects`], [`SignatureError::Resource`], [`SignatureError::TooManyResources`],
    /// [`SignatureError::RootDigest`].
    pub fn verify(&self, signer: &ModelSigner) -> Result<SignedModel, SignatureError> {
        if let Some(found) = self.hint.as_ref().filter(|hint| **hint != signer.hint()) {
            return Err(SignatureError::OtherKey { expected: signer.hint(), found: found.clone() });
        }
        if !signer.verifies(&pae(PAYLOAD_TYPE, &self.payload), &self.signature) {
            return Err(SignatureError::BadSignature { expected: signer.id() });
        }
        SignedModel::read(&self.payload)
    }
}

/// How a model's files were hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashType {
    /// SHA-256.
    Sha256,
    /// BLAKE3, 32 bytes.
    Blake3,
}

impl HashType {
    fn find(name: &str) -> Option<Self> {
        match name {
            "sha256" => Some(Self::Sha256),
            "blake3" => Some(Self::Blake3),
            _ => None,
        }
    }
}

/// What a signer signed: each file's digest, and which paths were left out. Only [`Bundle::verify`] makes one.
#[derive(Debug)]
pub struct SignedModel {
    name: String,
    hash: HashType,
    files: BTreeMap<ModelPath, [u8; 32]>,
    ignored: Vec<String>,
}

impl SignedModel {
    fn read(payload: &[u8]) -> Result<Self, SignatureError> {
        let statement: Statement = serde_json::from_slice(payload).map_err(form)?;
        if statement.kind != STATEMENT {
            return Err(SignatureError::StatementType { expected: STATEMENT, found: statement.kind });
        }
        if statement.predicate_type != PREDICATE {
            return Err(SignatureError::PredicateType { expected: PREDICATE, found: statement.predicate_type });
        }
        let [subject] = statement.subject.as_slice() else {
            return Err(SignatureError::Subjects { found: statement.subject.len() });
        };
        // Only now: another kind of statement has another predicate.
        let Signed { predicate } = serde_json::from_slice(payload).map_err(form)?;
        let Predicate { serialization, resources } = predicate;
        if serialization.method != "files" {
            return Err(SignatureError::Method { found: serialization.method });
        }
        let hash = HashType::find(&serialization.hash_type).ok_or(SignatureError::HashType { found: serialization.hash_type.clone() })?;
        if resources.len() > MANIFEST_FILES {
            return Err(SignatureError::TooManyResources { limit: MANIFEST_FILES, found: resources.len() });
        }
        let mut root = Sha256::new();
        let mut files = BTreeMap::new();
        for resource in resources {
            let bad = |what: String| SignatureError::Resource { name: resource.name.clone(), what };
            if resource.algorithm != serialization.hash_type {
                return Err(bad(format!("hashed by {:?}, where all are by {:?}", resource.algorithm, serialization.hash_type)));
            }
            let path: ModelPath = resource.name.parse().map_err(|error: crate::path::PathError| bad(error.to_string()))?;
            let digest: [u8; 32] =
                from_hex(&resource.digest).ok_or_else(|| bad("the digest is not 64 lower-case hex digits".to_owned()))?;
            root.update(digest);
            if files.insert(path, digest).is_some() {
                return Err(bad("it stands twice".to_owned()));
            }
        }
        let found: [u8; 32] = root.finalize().into();
        let expected = subject.digest.0.get("sha256").and_then(|digest| from_hex::<32>(digest));
        if expected != Some(found) {
            return Err(SignatureError::RootDigest);
        }
        Ok(Self { name: subject.name.clone(), hash, files, ignored: serialization.ignore_paths })
    }

    /// What the signer called the model: the name of a folder.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the files were hashed.
    #[must_use]
    pub const fn hash(&self) -> HashType {
        self.hash
    }

    /// Each signed file's digest.
    #[must_use]
    pub const fn files(&self) -> &BTreeMap<ModelPath, [u8; 32]> {
        &self.files
    }

    /// Whether the signer left `path` out: it, or a folder that it lies in, is in the signed list of what was ignored.
    #[must_use]
    pub fn ignores(&self, path: &ModelPath) -> bool {
        let path = path.as_str();
        self.ignored.iter().any(|ignored| {
            let ignored = ignored.trim_end_matches('/');
            !ignored.is_empty() && path.strip_prefix(ignored).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

/// The predicate of a statement, typed.
#[derive(Deserialize)]
struct Signed {
    predicate: Predicate,
}
