//! `portcullis inspect`: what a sealed folder, a record or a key file says of itself, and how much of it is verified; and what lies in a
//! folder that is not sealed.

use std::path::{Path, PathBuf};

use clap::Args;
use models_manifest::manifest::Signer;
use models_manifest::{FolderSource, Inspection, OpenError, inspect_folder};
use protocol::documents::StatementBody;
use protocol::dsse::{Body as _, DocumentError};
use protocol::envelope::RecordFile;
use protocol::ids::{Digest, Name, Version};
use protocol::keyfile::{KeyFile, KeyFileError, Unlock};
use protocol::keys::PublicKey;
use protocol::limits;
use serde::Serialize;

use crate::console::{Console, Tone};
use crate::failure::{Exit, Failure, Outcome};
use crate::files::{self, FileError};
use crate::keys;
use crate::plain::{self, PlainError};
use crate::seal::seal_hint;
use crate::size;
use crate::tensors::{self, SignatureView, TensorsView};

/// Show what a sealed folder, a folder of plaintext or a record file holds.
///
/// Of a sealed folder: its files, what tensors they had when they were sealed, who signed it, and the key of its maker's own signature,
/// if the publisher verified one; with its record (DIR.record.json, or --record) also the policy that decides who gets it.
/// Signatures are checked under the publishers that --publisher names; without it, nothing vouches for what is shown.
/// Of a sealed folder it is also checked that it holds the listed files in their sizes and nothing else.
/// What the files hold is checked when a guest opens them.
///
/// A folder without a manifest is shown as what it is, plaintext: its files, the tensors in them, and what seal would refuse. Where
/// --publisher or --record asks for a sealed one, it is an error.
#[derive(Args)]
#[command(after_long_help = "\
Exit codes: 0 where nothing that could be checked is wrong, 1 where something is, 2 for wrong use.

Examples:
    portcullis inspect ./llama-3-8b.sealed --publisher publisher.pub
    portcullis inspect ./llama-3-8b.sealed --record llama-3-8b.record.json --publisher publisher.pub
    portcullis inspect llama-3-8b.sealed.record.json --publisher publisher.pub --json
    portcullis inspect ./Llama-3-8B")]
pub(crate) struct Inspect {
    /// A sealed folder, a folder of plaintext, a record file, or a key file
    path: PathBuf,

    /// A publisher whose signature counts: `ed25519:…` or a .pub file
    #[arg(long = "publisher", value_name = "KEY", value_parser = keys::public_key)]
    publishers: Vec<PublicKey>,

    /// The record of a sealed folder; DIR.record.json by default, where there is one
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Why nothing can be shown, or something that is shown is wrong.
#[derive(Debug, thiserror::Error)]
enum InspectError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The sealed folder.
    #[error(transparent)]
    Folder(#[from] OpenError),
    /// The folder of plaintext.
    #[error(transparent)]
    Plain(#[from] PlainError),
    /// Neither a record nor a key.
    #[error("{path} is neither a sealed folder nor a record file nor a key file: {what}", path = path.display())]
    Unknown { path: PathBuf, what: String },
    /// The record's statement.
    #[error("the statement: {0}")]
    Statement(DocumentError),
    /// The record is another sealing's.
    #[error("{path} is of manifest {}, not of {expected}", found.map_or_else(|| "none".to_owned(), |found| found.to_string()), path = path.display())]
    Record { path: PathBuf, expected: Digest, found: Option<Digest> },
    /// The envelope is another statement's.
    #[error("the envelope belongs to statement {found}, not to {expected}")]
    Envelope { expected: Digest, found: Digest },
}

impl From<InspectError> for Failure {
    fn from(error: InspectError) -> Self {
        match error {
            InspectError::File(error) => error.into(),
            InspectError::Unknown { .. } => Self::usage(error),
            InspectError::Folder(OpenError::ManifestMissing) => {
                Self::usage(error).hint("a sealed folder has its manifest at the top; is this the plaintext?")
            }
            InspectError::Plain(PlainError::Survey(ref inner)) => {
                let hint = seal_hint(inner);
                let failure = Self::failed(error);
                match hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
            InspectError::Record { .. } => Self::failed(error).hint("name this folder's own record with --record"),
            InspectError::Plain(PlainError::Source(_))
            | InspectError::Folder(_)
            | InspectError::Statement(_)
            | InspectError::Envelope { .. } => Self::failed(error),
        }
    }
}

/// How far a signature is believed.
#[derive(Debug, Serialize)]
#[serde(tag = "signature", rename_all = "kebab-case")]
enum Signed {
    /// By a publisher that was given.
    Verified { publisher: PublicKey },
    /// By somebody else; the key id is what the signature says.
    NotChecked { keyid: String },
}

#[derive(Serialize)]
struct FolderView {
    kind: &'static str,
    name: Name,
    version: Version,
    manifest: Digest,
    #[serde(flatten)]
    signed: Signed,
    files: Vec<FileView>,
    bytes: u64,
    tensors: Option<TensorsView>,
    model_signature: Option<SignatureView>,
    record: Option<RecordView>,
}

#[derive(Serialize)]
struct FileView {
    path: String,
    bytes: u64,
    sealed_bytes: u64,
    tensors: Option<TensorsView>,
}

#[derive(Serialize)]
struct RecordView {
    kind: &'static str,
    statement: Digest,
    #[serde(flatten)]
    signed: Signed,
    says: StatementBody,
    recipients: Vec<Digest>,
}

#[derive(Serialize)]
struct KeyView {
    kind: &'static str,
    key_kind: String,
    public: String,
}

impl Inspect {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Outcome {
        if self.path.is_dir() {
            self.folder(console)?
        } else {
            self.file(console)?
        }
        Ok(Exit::Done)
    }

    fn folder(&self, console: &mut Console<'_>) -> Result<(), InspectError> {
        let inspected = inspect_folder(&self.path, &self.publishers);
        // Whoever expects a sealed folder is not told of another.
        if matches!(inspected, Err(OpenError::ManifestMissing)) && self.publishers.is_empty() && self.record.is_none() {
            return Ok(plain::show(&self.path, self.json, console)?);
        }
        let Inspection { contents, digest, signer } = inspected?;
        let signed = match signer {
            Signer::Publisher(publisher) => Signed::Verified { publisher },
            Signer::Unknown(keyid) => Signed::NotChecked { keyid: keyid.to_string() },
        };
        let file = |file: &models_manifest::FileEntry| FileView {
            path: file.path().to_string(),
            bytes: file.geometry().size(),
            sealed_bytes: file.geometry().sealed_size(),
            tensors: file.tensors().map(TensorsView::of),
        };
        let record = self.record_of(&digest)?;
        let view = FolderView {
            kind: "sealed-model",
            name: contents.name().clone(),
            version: contents.version(),
            manifest: digest,
            signed,
            files: contents.files().iter().map(file).collect(),
            bytes: contents.total(),
            tensors: tensors::of_all(&contents),
            model_signature: contents.signature().map(SignatureView::of),
            record,
        };
        if self.json {
            console.json(&view);
        } else {
            print_folder(&view, console);
        }
        FolderSource::new(&self.path).check_listing(&contents)?;
        Ok(())
    }

    /// The folder's record, where it was named or lies beside the folder; it must be of this manifest.
    fn record_of(&self, manifest: &Digest) -> Result<Option<RecordView>, InspectError> {
        let beside = files::with_suffix(&self.path.components().collect::<PathBuf>(), ".record.json");
        let Some(path) = self.record.clone().or_else(|| beside.is_file().then_some(beside)) else { return Ok(None) };
        let json = files::read(&path, "a record", limits::DOCUMENT)?;
        let unknown = |error: serde_json::Error| InspectError::Unknown { path: path.clone(), what: error.to_string() };
        let record: RecordFile = serde_json::from_slice(&json).map_err(unknown)?;
        let view = view_record(&record, &self.publishers)?;
        if view.says.manifest.as_ref() == Some(manifest) {
            Ok(Some(view))
        } else {
            Err(InspectError::Record { path, expected: *manifest, found: view.says.manifest })
        }
    }

    fn file(&self, console: &mut Console<'_>) -> Result<(), InspectError> {
        let json = files::read(&self.path, "a record or key file", limits::DOCUMENT)?;
        if let Ok(key) = KeyFile::parse(&json) {
            self.print_key(&key, console);
            return Ok(());
        }
        let unknown = |error: serde_json::Error| InspectError::Unknown { path: self.path.clone(), what: error.to_string() };
        let record: RecordFile = serde_json::from_slice(&json).map_err(unknown)?;
        let view = view_record(&record, &self.publishers)?;
        if self.json {
            console.json(&view);
        } else {
            print_record(&view, &self.path, console);
        }
        Ok(())
    }

    fn print_key(&self, key: &KeyFile, console: &mut Console<'_>) {
        let view = KeyView { kind: "key", key_kind: key.kind().to_owned(), public: key.public().to_owned() };
        if self.json {
            console.json(&view);
            return;
        }
        console.fields("", [("key", view.key_kind), ("public", view.public), ("unlocked by", unlocked_by(key).to_owned())]);
    }
}

/// What unlocks a key file: what it answers to somebody who has nothing.
fn unlocked_by(key: &KeyFile) -> &'static str {
    match key.open(key.kind(), &Unlock::Nothing) {
        Ok(_) => "nothing: it lies in the clear",
        Err(KeyFileError::OtherUnlock { expected }) => expected,
        Err(_) => "nothing: it is damaged",
    }
}

/// What a record says; the signature is checked where its publisher was given, the envelope always.
fn view_record(record: &RecordFile, publishers: &[PublicKey]) -> Result<RecordView, InspectError> {
    let statement = record.statement.digest();
    let (signed, says) = match record.statement.authenticate::<StatementBody>(publishers) {
        Ok(document) => (Signed::Verified { publisher: *document.signer() }, document.body().clone()),
        Err(DocumentError::UnknownSigner { found }) => {
            let refuse = |what: String| InspectError::Statement(DocumentError::Body { expected: StatementBody::PAYLOAD_TYPE, what });
            let body: StatementBody = serde_json::from_slice(&record.statement.payload).map_err(|error| refuse(error.to_string()))?;
            body.check().map_err(|what| refuse(what.to_owned()))?;
            (Signed::NotChecked { keyid: found.to_string() }, body)
        }
        Err(error) => return Err(InspectError::Statement(error)),
    };
    if record.envelope.statement != statement {
        return Err(InspectError::Envelope { expected: statement, found: record.envelope.statement });
    }
    let recipients = record.envelope.recipients.iter().map(|wrapped| wrapped.recipient).collect();
    Ok(RecordView { kind: "record", statement, signed, says, recipients })
}

fn signature(signed: &Signed, console: &Console<'_>) -> String {
    match signed {
        Signed::Verified { publisher } => format!("{} by {publisher}", console.paint(Tone::Good, "verified")),
        Signed::NotChecked { keyid } => format!("{}: key id {keyid}; give --publisher", console.paint(Tone::Warning, "not checked")),
    }
}

fn print_folder(view: &FolderView, console: &mut Console<'_>) {
    let mut fields = vec![
        ("model", format!("{} version {}", view.name, view.version)),
        ("manifest", view.manifest.to_string()),
        ("signature", signature(&view.signed, console)),
        ("files", format!("{}, {}", size::count(view.files.len(), "file"), size::bytes(view.bytes))),
    ];
    fields.extend(view.tensors.as_ref().map(|tensors| ("tensors", tensors.to_string())));
    let signed = view.model_signature.as_ref();
    fields.extend(signed.map(|signed| ("model signed by", format!("{} ({}); the publisher verified it", signed.key, signed.path))));
    if let Some(record) = &view.record {
        let says = &record.says;
        fields.extend([
            ("policy", format!("{} by {}", says.policy, says.authority)),
            ("installation", format!("{} ({})", says.installation, says.anchors)),
            ("record", format!("{}, signature {}", record.statement, signature(&record.signed, console))),
        ]);
    }
    console.fields("", fields);
    console.line("");
    let described = view.tensors.is_some();
    let row = |file: &FileView| {
        let tensors = file.tensors.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut cells = vec![size::bytes(file.bytes), file.path.clone()];
        cells.extend(described.then_some(tensors));
        cells
    };
    let rows: Vec<Vec<String>> = view.files.iter().map(row).collect();
    console.table(if described { &["SIZE", "FILE", "TENSORS"] } else { &["SIZE", "FILE"] }, &rows);
}

fn print_record(view: &RecordView, path: &Path, console: &mut Console<'_>) {
    let says = &view.says;
    let mut fields = vec![
        ("record", path.display().to_string()),
        (says.kind.as_str(), format!("{} version {}", says.name, says.version)),
        ("statement", view.statement.to_string()),
        ("signature", signature(&view.signed, console)),
        ("installation", says.installation.to_string()),
        ("anchors", says.anchors.to_string()),
        ("policy", says.policy.to_string()),
        ("authority", says.authority.to_string()),
    ];
    fields.extend(says.manifest.map(|manifest| ("manifest", manifest.to_string())));
    fields.extend(view.recipients.iter().map(|recipient| ("sealed to", format!("x-wing key {recipient}"))));
    console.fields("", fields);
}
