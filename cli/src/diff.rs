//! `portcullis diff`: two sealed versions of a model, side by side, without a key.

use std::path::PathBuf;

use clap::Args;
use models_manifest::compare::{Change, compare};
use models_manifest::{FileEntry, Inspection, OpenError, Signer, inspect_folder};
use protocol::ids::{Digest, Name, Version};
use protocol::keys::PublicKey;
use serde::Serialize;

use crate::console::Console;
use crate::failure::{Exit, Failure, Outcome};
use crate::keys;
use crate::size;
use crate::tensors::{self, SignatureView, TensorsView};

/// Compare two sealed folders: files added, removed and changed, tensors, signers.
///
/// Only the manifests are read. Each sealing encrypts under fresh keys, so a file of the same size and the same tensors shows as
/// "alike": whether its bytes are the same cannot be told without the keys. A file shows as "same" only where both folders
/// are of one sealing. Signatures are checked under the publishers that --publisher names.
#[derive(Args)]
#[command(after_long_help = "\
Exit codes: 0 where no difference shows, 1 where one does, 2 for wrong use or a folder that cannot be read. That signature or model signature are
by other keys is a difference; name and version are not.

Examples:
    portcullis diff ./v1.sealed ./v2.sealed --publisher publisher.pub
    portcullis diff ./v1.sealed ./v2.sealed --json")]
pub(crate) struct Diff {
    /// The first sealed folder
    #[arg(value_name = "A")]
    first: PathBuf,

    /// The second sealed folder
    #[arg(value_name = "B")]
    second: PathBuf,

    /// A publisher whose signature counts: `ed25519:…` or a .pub file
    #[arg(long = "publisher", value_name = "KEY", value_parser = keys::public_key)]
    publishers: Vec<PublicKey>,

    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Why the two cannot be compared.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}", path = path.display())]
struct DiffError {
    path: PathBuf,
    error: OpenError,
}

impl From<DiffError> for Failure {
    fn from(error: DiffError) -> Self {
        Self::usage(error).hint("a sealed folder has its manifest at the top")
    }
}

#[derive(Serialize)]
struct DiffView {
    first: SideView,
    second: SideView,
    different: bool,
    files: Vec<FileView>,
}

/// One of the two.
#[derive(Serialize)]
struct SideView {
    name: Name,
    version: Version,
    manifest: Digest,
    /// The key of a publisher that was given; otherwise what the signature calls its key.
    publisher: Option<PublicKey>,
    keyid: Option<String>,
    files: usize,
    bytes: u64,
    tensors: Option<TensorsView>,
    model_signature: Option<SignatureView>,
}

impl SideView {
    fn of(inspection: &Inspection) -> Self {
        let contents = &inspection.contents;
        let (publisher, keyid) = match &inspection.signer {
            Signer::Publisher(publisher) => (Some(*publisher), None),
            Signer::Unknown(keyid) => (None, Some(keyid.to_string())),
        };
        Self {
            name: contents.name().clone(),
            version: contents.version(),
            manifest: inspection.digest,
            publisher,
            keyid,
            files: contents.files().len(),
            bytes: contents.total(),
            tensors: tensors::of_all(contents),
            model_signature: contents.signature().map(SignatureView::of),
        }
    }

    fn signer(&self) -> String {
        match (&self.publisher, &self.keyid) {
            (Some(publisher), _) => format!("{publisher}, verified"),
            (None, keyid) => format!("key id {}, not checked", keyid.as_deref().unwrap_or_default()),
        }
    }

    fn model_signer(&self) -> &str {
        self.model_signature.as_ref().map_or("nobody", |signature| signature.key.as_str())
    }
}

/// What became of one path.
#[derive(Serialize)]
struct FileView {
    path: String,
    change: &'static str,
    before: Option<StateView>,
    after: Option<StateView>,
}

/// What one manifest says of a file.
#[derive(Serialize)]
struct StateView {
    bytes: u64,
    tensors: Option<TensorsView>,
}

impl StateView {
    fn of(file: &FileEntry) -> Self {
        Self { bytes: file.geometry().size(), tensors: file.tensors().map(TensorsView::of) }
    }
}

impl FileView {
    fn of(change: &Change<'_>) -> Self {
        let (word, before, after) = match *change {
            Change::Added(file) => ("added", None, Some(file)),
            Change::Removed(file) => ("removed", Some(file), None),
            Change::Changed(before, after) => ("changed", Some(before), Some(after)),
            Change::Alike(before, after) => ("alike", Some(before), Some(after)),
            Change::Same(file) => ("same", Some(file), Some(file)),
        };
        let path = before.or(after).map(|file| file.path().to_string()).unwrap_or_default();
        Self { path, change: word, before: before.map(StateView::of), after: after.map(StateView::of) }
    }

    fn shows(&self) -> bool {
        !matches!(self.change, "alike" | "same")
    }
}

impl Diff {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Outcome {
        let read = |path: &PathBuf| inspect_folder(path, &self.publishers).map_err(|error| DiffError { path: path.clone(), error });
        let (first, second) = (read(&self.first)?, read(&self.second)?);
        let files: Vec<FileView> = compare(&first.contents, &second.contents).iter().map(FileView::of).collect();
        let (first, second) = (SideView::of(&first), SideView::of(&second));
        let signers =
            |side: &SideView| (side.publisher, side.keyid.clone(), side.model_signature.as_ref().map(|signed| signed.key.clone()));
        let different = signers(&first) != signers(&second) || files.iter().any(FileView::shows);
        let view = DiffView { first, second, different, files };
        if self.json {
            console.json(&view);
        } else {
            print(&view, console);
        }
        Ok(if different { Exit::Failed } else { Exit::Done })
    }
}

/// One value, or how it changed.
fn change(before: String, after: String) -> String {
    if before == after { before } else { format!("{before} -> {after}") }
}

fn print(view: &DiffView, console: &mut Console<'_>) {
    let both = |text: &dyn Fn(&SideView) -> String| change(text(&view.first), text(&view.second));
    let tensors = |side: &SideView| side.tensors.as_ref().map_or_else(|| "not said".to_owned(), ToString::to_string);
    let fields = [
        ("model", both(&|side| format!("{} version {}", side.name, side.version))),
        ("manifest", both(&|side| side.manifest.to_string())),
        ("publisher", both(&SideView::signer)),
        ("model signed by", both(&|side| side.model_signer().to_owned())),
        ("files", both(&|side| format!("{}, {}", size::count(side.files, "file"), size::bytes(side.bytes)))),
        ("tensors", both(&tensors)),
    ];
    console.fields("", fields);
    console.line("");
    let shown = |state: Option<&StateView>| state.map(|state| size::bytes(state.bytes)).unwrap_or_default();
    let row = |file: &FileView| {
        let tensors = |state: Option<&StateView>| state.and_then(|state| state.tensors.as_ref()).map(ToString::to_string);
        let said = match (tensors(file.before.as_ref()), tensors(file.after.as_ref())) {
            (Some(before), Some(after)) => change(before, after),
            (before, after) => before.or(after).unwrap_or_default(),
        };
        vec![file.change.to_owned(), shown(file.before.as_ref()), shown(file.after.as_ref()), file.path.clone(), said]
    };
    let rows: Vec<Vec<String>> = view.files.iter().map(row).collect();
    console.table(&["CHANGE", "BEFORE", "AFTER", "FILE", "TENSORS"], &rows);
}
