//! Why a model is not what its signer signed: a variant per check.

use crate::error::OpenError;
use crate::path::ModelPath;
use crate::source::Cancelled;

use super::key::SignerId;

/// Why a model's signature does not hold.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// A sealed model without a bundle that its publisher verified.
    #[error("the model was sealed without a model signature")]
    Missing,
    /// The bundle stands under a name that whoever loads the model may read it by: what is not signed in it would be read too.
    #[error("the signature is {found}; expected a name that ends in .sig")]
    BundleName {
        /// Its path.
        found: ModelPath,
    },
    /// The bundle is too large.
    #[error("the signature has {found} bytes, more than {limit}")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
        /// Its size in bytes.
        found: usize,
    },
    /// No bundle, or not of its form.
    #[error("not a model signature: {what}")]
    Form {
        /// What is wrong, with its place.
        what: String,
    },
    /// Another kind or version of bundle.
    #[error("the bundle is {found:?}, not {expected:?}")]
    MediaType {
        /// What is read.
        expected: &'static str,
        /// What it says.
        found: String,
    },
    /// Made with a certificate or an identity, not with a key.
    #[error("the signature was not made with a key")]
    NotByKey,
    /// Another kind of payload.
    #[error("the signature is over {found:?}, not over {expected:?}")]
    PayloadType {
        /// What is read.
        expected: &'static str,
        /// What it says.
        found: String,
    },
    /// Not one signature.
    #[error("the bundle has {found} signatures, not one")]
    Signatures {
        /// How many.
        found: usize,
    },
    /// By another key, as the bundle itself says.
    #[error("the signature names key {found}; required is {expected}")]
    OtherKey {
        /// The required key's hint.
        expected: String,
        /// The hint in the bundle.
        found: String,
    },
    /// The signature is not the required key's.
    #[error("the signature does not verify under the required key {expected}")]
    BadSignature {
        /// The required key.
        expected: SignerId,
    },
    /// No in-toto statement of version 1.
    #[error("what was signed is {found:?}, not {expected:?}")]
    StatementType {
        /// What is read.
        expected: &'static str,
        /// What it says.
        found: String,
    },
    /// A statement about something else, or of another version.
    #[error("the signed statement is {found:?}, not {expected:?}")]
    PredicateType {
        /// What is read.
        expected: &'static str,
        /// What it says.
        found: String,
    },
    /// Files were cut into shards.
    #[error("the model was signed by {found:?}; only whole files are read")]
    Method {
        /// The method.
        found: String,
    },
    /// An unknown hash function.
    #[error("the files were hashed by {found:?}; sha256 and blake3 are known")]
    HashType {
        /// Its name.
        found: String,
    },
    /// Not about one model.
    #[error("the statement is about {found} subjects, not one")]
    Subjects {
        /// How many.
        found: usize,
    },
    /// A signed file that cannot be one.
    #[error("the signed file {name:?}: {what}")]
    Resource {
        /// Its name.
        name: String,
        /// Why.
        what: String,
    },
    /// More files than a model may have.
    #[error("{found} files are signed, more than {limit}")]
    TooManyResources {
        /// The limit.
        limit: usize,
        /// How many.
        found: usize,
    },
    /// The digest over all files is not that of the files listed.
    #[error("the digest over all signed files is not that of the listed ones")]
    RootDigest,
    /// A file that was signed and is not there.
    #[error("{path} was signed and is not there")]
    FileMissing {
        /// Its path.
        path: ModelPath,
    },
    /// A file that is there, was not signed, and is not among those that the signer left out.
    #[error("{path} was not signed")]
    FileUnsigned {
        /// Its path.
        path: ModelPath,
    },
    /// A file that is another than was signed.
    #[error("{path} is not what was signed: {found}, signed {expected}")]
    FileDigest {
        /// Its path.
        path: ModelPath,
        /// The signed digest in hex.
        expected: String,
        /// The file's digest in hex.
        found: String,
    },
    /// The publisher verified the bundle under another key.
    #[error("the publisher verified the model's signature under key {found}; required is {expected}")]
    OtherSigner {
        /// The required key.
        expected: SignerId,
        /// The key in the manifest.
        found: SignerId,
    },
    /// The sealed model cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Whoever watched ended it.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl SignatureError {
    /// A stable name for each variant.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing => "model-signature-missing",
            Self::BundleName { .. } => "model-signature-name",
            Self::TooLarge { .. } => "model-signature-too-large",
            Self::Form { .. } => "model-signature-form",
            Self::MediaType { .. } => "model-signature-media-type",
            Self::NotByKey => "model-signature-not-by-key",
            Self::PayloadType { .. } => "model-signature-payload-type",
            Self::Signatures { .. } => "model-signature-count",
            Self::OtherKey { .. } | Self::OtherSigner { .. } => "model-signature-other-key",
            Self::BadSignature { .. } => "model-signature-bad",
            Self::StatementType { .. } => "model-signature-statement",
            Self::PredicateType { .. } => "model-signature-predicate",
            Self::Method { .. } => "model-signature-method",
            Self::HashType { .. } => "model-signature-hash",
            Self::Subjects { .. } => "model-signature-subjects",
            Self::Resource { .. } => "model-signature-resource",
            Self::TooManyResources { .. } => "model-signature-resources",
            Self::RootDigest => "model-signature-root",
            Self::FileMissing { .. } => "model-signature-file-missing",
            Self::FileUnsigned { .. } => "model-signature-file-unsigned",
            Self::FileDigest { .. } => "model-signature-file-digest",
            Self::Open(error) => error.code(),
            Self::Cancelled(_) => "cancelled",
        }
    }

    /// What may help.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::BundleName { .. } => "the publisher seals the signature as model.sig",
            Self::Missing => "the publisher seals it with --require-signed-by",
            Self::TooLarge { .. } | Self::Form { .. } | Self::MediaType { .. } | Self::PayloadType { .. } | Self::Signatures { .. } => {
                "expected is what `model_signing sign key` of OpenSSF Model Signing 1.0 writes"
            }
            Self::NotByKey => "signatures by certificate or by a Sigstore identity are not read; ask the signer for one made with a key",
            Self::OtherKey { .. } | Self::OtherSigner { .. } | Self::BadSignature { .. } => {
                "is it the signer's key, and the signature of this model?"
            }
            Self::StatementType { .. } | Self::PredicateType { .. } | Self::Subjects { .. } | Self::Resource { .. } => {
                "ask the signer to sign anew with OpenSSF Model Signing 1.0"
            }
            Self::TooManyResources { .. } | Self::RootDigest => "ask the signer to sign anew with OpenSSF Model Signing 1.0",
            Self::Method { .. } => "ask the signer to sign whole files, as is the default",
            Self::HashType { .. } => "ask the signer to sign with SHA-256, as is the default",
            Self::FileMissing { .. } => "fetch the model as a whole",
            Self::FileUnsigned { .. } => "take the file away, or ask the signer to sign it",
            Self::FileDigest { .. } => "the file was changed after it was signed: fetch it anew",
            Self::Open(_) | Self::Cancelled(_) => "nothing is left behind",
        }
    }
}
