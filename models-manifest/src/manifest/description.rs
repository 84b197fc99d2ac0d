//! What the manifest says beyond what opens the model (format 2): tensors by file, and the model's own signature. Both are the
//! publisher's word of what was found in the files when they were sealed; they are for people, and for a guest that requires a signer.

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;

use super::{FileEntry, ManifestError};
use crate::content::safetensors::{Dtype, Tensors};
use crate::path::ModelPath;
use crate::signature::SignerId;

/// What was found in the files of a model, in their order.
#[derive(Default)]
pub(crate) struct Description {
    pub(crate) tensors: Vec<Option<Tensors>>,
    pub(crate) signature: Option<ModelSignature>,
}

/// A model's own signature, which the publisher verified when it sealed the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSignature {
    path: ModelPath,
    signer: SignerId,
}

impl ModelSignature {
    pub(crate) const fn new(path: ModelPath, signer: SignerId) -> Self {
        Self { path, signer }
    }

    /// Which file of the model is the bundle.
    #[must_use]
    pub const fn path(&self) -> &ModelPath {
        &self.path
    }

    /// The key that it verified under.
    #[must_use]
    pub const fn signer(&self) -> &SignerId {
        &self.signer
    }
}

/// The signature as the manifest's JSON has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignatureBody {
    pub(crate) path: String,
    pub(crate) key: SignerId,
}

impl SignatureBody {
    pub(crate) fn of(signature: &ModelSignature) -> Self {
        Self { path: signature.path.to_string(), key: signature.signer }
    }

    pub(crate) fn read(&self, files: &[FileEntry]) -> Result<ModelSignature, ManifestError> {
        let file = files.iter().find(|file| file.path().as_str() == self.path);
        let file = file.ok_or_else(|| ManifestError::SignatureFile { path: self.path.clone() })?;
        Ok(ModelSignature::new(file.path().clone(), self.key))
    }
}

/// A file's tensors as the manifest's JSON has them: how many of each dtype, and all their elements.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TensorsBody {
    pub(crate) parameters: u64,
    #[serde(deserialize_with = "no_more_than_there_are")]
    pub(crate) dtypes: Vec<(String, u64)>,
}

/// A manifest is read before anybody's signature on it is known: a list that cannot be right takes no memory.
fn no_more_than_there_are<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, u64)>, D::Error> {
    struct Dtypes;
    impl<'de> Visitor<'de> for Dtypes {
        type Value = Vec<(String, u64)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {} dtypes, each with a number of tensors", Dtype::KNOWN)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut found = Vec::new();
            while let Some(item) = items.next_element()? {
                if found.len() == Dtype::KNOWN {
                    return Err(de::Error::invalid_length(found.len().saturating_add(1), &self));
                }
                found.push(item);
            }
            Ok(found)
        }
    }
    deserializer.deserialize_seq(Dtypes)
}

impl TensorsBody {
    pub(crate) fn of(tensors: &Tensors) -> Self {
        let dtypes = tensors.dtypes().iter().map(|(dtype, count)| (dtype.as_str().to_owned(), *count)).collect();
        Self { parameters: tensors.parameters(), dtypes }
    }

    /// Dtypes must be known, in ascending order, each with a tensor at least.
    pub(crate) fn read(&self, path: &ModelPath) -> Result<Tensors, ManifestError> {
        let ascending = self.dtypes.windows(2).all(|pair| matches!(pair, [(one, _), (two, _)] if one < two));
        let known = self.dtypes.iter().map(|(name, count)| Some((Dtype::find(name).filter(|_| *count > 0)?, *count)));
        let dtypes: Option<BTreeMap<Dtype, u64>> = known.collect();
        let tensors = dtypes.filter(|_| ascending).and_then(|dtypes| Tensors::new(dtypes, self.parameters));
        tensors.ok_or_else(|| ManifestError::Tensors { path: path.clone() })
    }
}

/// An optional member that stands there: `null` is no way to say that it does not.
pub(crate) fn stated<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
