//! A folder of plaintext, as `portcullis inspect` shows it: nobody has sealed or signed it, so nothing is said of it but what lies there.

use std::path::Path;

use models_manifest::{SealError, Surveyed, survey_folder};
use serde::Serialize;

use crate::console::{Console, Tone};
use crate::hub::{self, HubError};
use crate::size;
use crate::tensors::{self, TensorsView};

/// Why a folder of plaintext cannot be shown, or something in it is wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlainError {
    /// A cache without the revision.
    #[error(transparent)]
    Source(#[from] HubError),
    /// It cannot be sealed as it is.
    #[error(transparent)]
    Survey(#[from] SealError),
}

#[derive(Serialize)]
struct View {
    kind: &'static str,
    /// Always false: whoever reads this by program shall not have to know the kinds.
    sealed: bool,
    files: Vec<FileView>,
    bytes: u64,
    tensors: Option<TensorsView>,
}

#[derive(Serialize)]
struct FileView {
    path: String,
    bytes: u64,
    tensors: Option<TensorsView>,
    /// How it shows that loading the file runs code.
    runs_code: Option<String>,
    /// Why it is no safetensors file, where it is named as one.
    damaged: Option<String>,
}

impl FileView {
    fn of(file: &Surveyed) -> Self {
        let tensors = file.tensors.as_ref().map(Result::as_ref);
        Self {
            path: file.path.to_string(),
            bytes: file.size,
            tensors: tensors.and_then(Result::ok).map(TensorsView::of),
            runs_code: file.pickle.as_ref().map(ToString::to_string),
            damaged: tensors.and_then(Result::err).map(ToString::to_string),
        }
    }

    /// What stands in the last column.
    fn remark(&self, console: &Console<'_>) -> String {
        let tensors = self.tensors.iter().map(ToString::to_string);
        let code = self.runs_code.iter().map(|sign| format!("{} {sign}", console.paint(Tone::Warning, "runs code:")));
        let damaged = self.damaged.iter().map(|what| format!("{} {what}", console.paint(Tone::Bad, "damaged:")));
        tensors.chain(code).chain(damaged).collect()
    }
}

/// Shows the folder's files, what tensors they hold, and which of them `seal` would refuse.
///
/// # Errors
/// [`PlainError`]; [`SealError::Safetensors`] after all was shown.
pub(crate) fn show(folder: &Path, json: bool, console: &mut Console<'_>) -> Result<(), PlainError> {
    let files = survey_folder(&hub::source(folder)?)?;
    let of_files = files.iter().filter_map(|file| file.tensors.as_ref()?.as_ref().ok());
    let view = View {
        kind: "plaintext",
        sealed: false,
        bytes: files.iter().fold(0, |sum, file| sum.saturating_add(file.size)),
        tensors: tensors::sum(of_files),
        files: files.iter().map(FileView::of).collect(),
    };
    if json {
        console.json(&view);
    } else {
        print(folder, &view, console);
    }
    let damaged = files.into_iter().find_map(|file| Some((file.path, file.tensors?.err()?)));
    damaged.map_or(Ok(()), |(path, error)| Err(SealError::Safetensors { path, error }.into()))
}

fn print(folder: &Path, view: &View, console: &mut Console<'_>) {
    let state = format!("{}: plaintext, without a manifest; nobody vouches for it", console.paint(Tone::Warning, "not sealed"));
    let mut fields = vec![
        ("folder", folder.display().to_string()),
        ("state", state),
        ("files", format!("{}, {}", size::count(view.files.len(), "file"), size::bytes(view.bytes))),
    ];
    fields.extend(view.tensors.as_ref().map(|tensors| ("tensors", tensors.to_string())));
    console.fields("", fields);
    console.line("");
    let row = |file: &FileView| vec![size::bytes(file.bytes), file.path.clone(), file.remark(console)];
    let rows: Vec<Vec<String>> = view.files.iter().map(row).collect();
    console.table(&["SIZE", "FILE", "TENSORS"], &rows);
}
