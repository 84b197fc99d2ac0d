//! `portcullis seal`: a model folder in, a sealed folder and its record out.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use models_manifest::folder::SealFolder;
use models_manifest::signature::{self, KeyError, ModelSigner};
use models_manifest::{Backend, ChunkSize, ModelRules, Pickles, RequiredSignature, SealError, seal_model};
use protocol::documents::Kind;
use protocol::ids::Name;
use protocol::limits;
use serde_json::json;

use crate::clock;
use crate::console::Console;
use crate::failure::{Exit, Failure, Outcome};
use crate::files::{self, FileError};
use crate::hub::{self, HubError};
use crate::progress::{Events, Watcher, WorkArguments};
use crate::record::{self, Prepared, RecordError, ReleaseArguments};
use crate::size;
use crate::tensors::{self, SignatureView};

/// Seal a model folder: encrypt it under a fresh key that only the broker can release.
///
/// The sealed folder has the same file names and a signed manifest; put it on any storage, which need not be trusted.
/// The record holds the key, sealed to the broker: publish it with `portcullis publish`. Nothing secret is left behind:
/// whoever loses the record seals again. Whatever goes wrong, also Ctrl-C, leaves neither folder nor record.
///
/// A folder as Hugging Face's cache keeps it may be named too; its links are followed to its own blobs, and nowhere else.
/// Files that run code when they are loaded (pickles: .bin, .pt, .pkl and what looks like them inside) are refused, and
/// every .safetensors file must be one. The manifest, which anybody can read, says what tensors the files have.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
    portcullis seal ./Llama-3-8B --model llama-3-8b --version 1 --out ./llama-3-8b.sealed \\
        --publisher-key publisher.key --policy inference --authority authority.pub \\
        --installation https://broker.example.com --root root.pub --recovery recovery.pub
    portcullis publish llama-3-8b.sealed.record.json --broker https://broker.example.com \\
        --token-file token

    # From the cache that `hf download` fills, and only what its maker signed (OpenSSF, with a key):
    portcullis seal hf:meta-llama/Llama-3-8B --require-signed-by meta.pem --model llama-3-8b \\
        --version 2 --out ./v2.sealed \\
        --publisher-key publisher.key --policy inference --authority authority.pub \\
        --installation https://broker.example.com --root root.pub")]
pub(crate) struct Seal {
    /// The folder of plaintext, all of which is sealed: a plain one, a repository's folder in Hugging Face's cache, or
    /// `hf:ORG/NAME[@REVISION]` for one in the cache of this machine
    #[arg(value_name = "DIR")]
    source: PathBuf,

    /// Seal files that run code when they are loaded
    #[arg(long)]
    allow_pickle: bool,

    /// Whose OpenSSF model signature the folder must bear: a public key in PEM
    #[arg(long, value_name = "FILE")]
    require_signed_by: Option<PathBuf>,

    /// The model signature; DIR/model.sig by default. One from elsewhere is sealed as model.sig
    #[arg(long, value_name = "FILE", requires = "require_signed_by")]
    signature: Option<PathBuf>,

    /// The model's name
    #[arg(long, value_name = "NAME")]
    model: Name,

    /// The sealed folder to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Where to write the record; OUT.record.json by default
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// Print events as JSON, one a line: sealing (progress, each second), sealed
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    work: WorkArguments,

    #[command(flatten)]
    release: ReleaseArguments,
}

/// Why a model is not sealed.
#[derive(Debug, thiserror::Error)]
enum SealCommandError {
    /// The record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The folder.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Where it is.
    #[error(transparent)]
    Source(#[from] HubError),
    /// The model signer's key.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not a model signer's key.
    #[error("{path}: {error}", path = path.display())]
    Signer { path: PathBuf, error: KeyError },
    /// The record would lie among the sealed files.
    #[error("the record would lie inside the sealed folder {folder}", folder = .0.display())]
    RecordInside(PathBuf),
}

impl From<SealCommandError> for Failure {
    fn from(error: SealCommandError) -> Self {
        match error {
            SealCommandError::Record(error) => error.into(),
            SealCommandError::File(error) => error.into(),
            SealCommandError::Source(_) => {
                Self::usage(error).hint("hf:ORG/NAME, or hf:ORG/NAME@REVISION; `hf download ORG/NAME` fetches one")
            }
            SealCommandError::Signer { .. } => Self::usage(error).hint("as `openssl ec -pubout` writes it"),
            SealCommandError::RecordInside(_) => {
                Self::usage(error).hint("a sealed folder holds nothing but what its manifest lists; name another place with --record")
            }
            SealCommandError::Seal(SealError::Cancelled(_)) => Self::interrupted(),
            SealCommandError::Seal(ref inner) => {
                let hint = seal_hint(inner);
                let failure = Self::failed(error);
                match hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
        }
    }
}

/// What may help.
pub(crate) const fn seal_hint(error: &SealError) -> Option<&'static str> {
    match error {
        SealError::Symlink { .. } => Some("copy the folder with links followed: cp -rL FROM TO"),
        SealError::CacheLink { .. } => Some("the cache is damaged or was tampered with: fetch the model anew"),
        SealError::NoSnapshot { .. } => Some("name a revision that was fetched, or fetch it"),
        SealError::Pickles { .. } => {
            Some("convert the weights to safetensors and leave these files out; or accept what they run by --allow-pickle")
        }
        SealError::Safetensors { .. } => Some("the file is damaged or was made to be read in two ways: fetch it anew"),
        SealError::Signature(error) => Some(error.hint()),
        SealError::SignatureName { .. } => Some("name the signature in the folder with --signature, or take it out of the folder"),
        SealError::Reopen(_) => Some("what was written to the destination came back otherwise: check its disk"),
        SealError::Path { .. } => Some("rename the file: names are printable ASCII without backslash and colon"),
        SealError::Destination(_) => Some("name a folder that does not exist yet, outside the source"),
        SealError::SourceChanged { .. } => Some("wait until nobody writes to the folder any more"),
        _ => None,
    }
}

impl Seal {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Outcome {
        let record_path = self.record.clone().unwrap_or_else(|| beside(&self.out));
        if record_path.starts_with(&self.out) {
            return Err(SealCommandError::RecordInside(self.out).into());
        }
        files::expect_absent(&record_path)?;
        let (source, signer) = self.source_and_signer()?;
        let bundle = self.signature.clone().unwrap_or_else(|| source.join(signature::NAME));
        let rules = ModelRules {
            pickles: if self.allow_pickle { Pickles::Allowed } else { Pickles::Refused },
            signature: signer.as_ref().map(|signer| RequiredSignature { signer, bundle: &bundle }),
        };
        let prepared = self.release.prepare(console)?;
        let order = SealFolder {
            source: &source,
            destination: &self.out,
            name: self.model,
            version: prepared.version(),
            chunk_size: ChunkSize::default(),
            backend: Backend::default(),
            workers: self.work.workers(),
        };
        let events = if self.json { Events::Json } else { Events::Bar };
        seal(&order, &rules, prepared, &record_path, events, console)?;
        Ok(Exit::Done)
    }

    /// Which folder, and whose signature it must bear.
    fn source_and_signer(&self) -> Result<(PathBuf, Option<ModelSigner>), SealCommandError> {
        let source = hub::source(&self.source)?;
        let signer = self.require_signed_by.as_ref().map(|path| {
            let pem = files::read(path, "a public key", limits::DOCUMENT)?;
            let signer = String::from_utf8_lossy(&pem).parse::<ModelSigner>();
            signer.map_err(|error| SealCommandError::Signer { path: path.clone(), error })
        });
        Ok((source, signer.transpose()?))
    }
}

/// `OUT.record.json`, beside `OUT`.
fn beside(out: &Path) -> PathBuf {
    // A trailing slash would put the record inside.
    let plain: PathBuf = out.components().collect();
    files::with_suffix(&plain, ".record.json")
}

/// Seals folder and record. Where the record fails, the sealed folder goes too: without it nobody can open the folder.
fn seal(
    order: &SealFolder<'_>,
    rules: &ModelRules<'_>,
    prepared: Prepared,
    record_path: &Path,
    events: Events,
    console: &mut Console<'_>,
) -> Result<(), SealCommandError> {
    let (source, installation, version) = (order.source, prepared.installation().clone(), prepared.version());
    let started = clock::monotonic();
    let mut watcher = Watcher::new(events, console);
    let sealed = seal_model(order, rules, prepared.publisher(), &mut watcher)?;
    watcher.finish();
    let elapsed = started.elapsed();
    let manifest = sealed.document.digest();
    let written = prepared
        .record(Kind::Model, order.name.clone(), Some(manifest), sealed.key.as_bytes())
        .and_then(|record| record::write(record_path, &record).map(|()| record.statement.digest()).map_err(RecordError::from));
    let statement = match written {
        Ok(statement) => statement,
        Err(error) => {
            let _ = fs::remove_dir_all(order.destination);
            return Err(error.into());
        }
    };
    let (files, total) = (sealed.contents.files().len(), sealed.contents.total());
    let signed = sealed.contents.signature();
    let summary = tensors::of_all(&sealed.contents);
    match events {
        Events::Json => console.event(&json!({
            "event": "sealed", "folder": order.destination, "record": record_path, "name": order.name, "version": version,
            "files": files, "bytes": total, "manifest": manifest, "statement": statement,
            "tensors": summary, "model_signature": signed.map(SignatureView::of),
        })),
        Events::Bar => {
            let mut fields = vec![
                (
                    "sealed",
                    format!("{} ({}, {}{})", source.display(), size::count(files, "file"), size::bytes(total), rate(total, elapsed)),
                ),
                ("model", format!("{} version {version}", order.name)),
            ];
            fields.extend(summary.map(|summary| ("tensors", summary.to_string())));
            fields.extend(signed.map(|signed| ("signed by", format!("{} ({}), every file verified", signed.signer(), signed.path()))));
            fields.extend([
                ("for", format!("installation {installation}")),
                ("folder", order.destination.display().to_string()),
                ("record", record_path.display().to_string()),
                ("manifest", manifest.to_string()),
            ]);
            console.fields("", fields);
        }
    }
    Ok(())
}

/// `, 2.1 GB/s`; nothing where the time is too short to say.
fn rate(bytes: u64, elapsed: Duration) -> String {
    let milliseconds = elapsed.as_millis();
    if milliseconds < 100 {
        return String::new();
    }
    let rate = u64::try_from(u128::from(bytes) * 1000 / milliseconds).unwrap_or(u64::MAX);
    format!(", {}/s", size::bytes(rate))
}
