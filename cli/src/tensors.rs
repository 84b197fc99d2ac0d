//! What a manifest says of tensors and of a model's own signature, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use models_manifest::content::safetensors::Tensors;
use models_manifest::{Contents, ModelSignature};
use serde::Serialize;

use crate::size;

/// Tensors of a file, or of all files of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct TensorsView {
    /// How many.
    pub(crate) count: u64,
    /// Their elements.
    pub(crate) parameters: u64,
    /// How many tensors there are of each dtype.
    pub(crate) dtypes: BTreeMap<&'static str, u64>,
}

impl TensorsView {
    pub(crate) fn of(tensors: &Tensors) -> Self {
        let mut view = Self::default();
        view.add(tensors);
        view
    }

    fn add(&mut self, tensors: &Tensors) {
        self.count = self.count.saturating_add(tensors.count());
        self.parameters = self.parameters.saturating_add(tensors.parameters());
        for (dtype, count) in tensors.dtypes() {
            let sum = self.dtypes.entry(dtype.as_str()).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
}

/// `291 tensors, 8030261248 parameters: 290 BF16, 1 F32`.
impl fmt::Display for TensorsView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = size::count(usize::try_from(self.count).unwrap_or(usize::MAX), "tensor");
        write!(f, "{count}, {} parameters", self.parameters)?;
        let dtypes: Vec<String> = self.dtypes.iter().map(|(dtype, count)| format!("{count} {dtype}")).collect();
        if dtypes.is_empty() { Ok(()) } else { write!(f, ": {}", dtypes.join(", ")) }
    }
}

/// All files' tensors together; `None` where the manifest speaks of none.
pub(crate) fn of_all(contents: &Contents) -> Option<TensorsView> {
    sum(contents.files().iter().filter_map(|file| file.tensors()))
}

/// The tensors of several files together; `None` where there is no file.
pub(crate) fn sum<'t>(files: impl Iterator<Item = &'t Tensors>) -> Option<TensorsView> {
    let mut files = files.peekable();
    files.peek()?;
    let mut all = TensorsView::default();
    files.for_each(|tensors| all.add(tensors));
    Some(all)
}

/// The model's own signature, which the publisher verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SignatureView {
    /// The file that is the bundle.
    pub(crate) path: String,
    /// SHA-256 of the signer's public key (DER).
    pub(crate) key: String,
}

impl SignatureView {
    pub(crate) fn of(signature: &ModelSignature) -> Self {
        Self { path: signature.path().to_string(), key: signature.signer().to_string() }
    }
}
