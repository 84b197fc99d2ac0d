//! `portcullis seal`: a model folder in, a sealed folder and its record out.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use models_manifest::folder::SealFolder;
use models_manifest::{Advance, Backend, ChunkSize, Progress, SealError, seal_folder};
use protocol::documents::Kind;
use protocol::ids::Name;
use serde_json::json;

use crate::clock;
use crate::console::Console;
use crate::failure::{Exit, Failure, Outcome};
use crate::files;
use crate::interrupt::Interrupt;
use crate::record::{self, Prepared, RecordError, ReleaseArguments};
use crate::size;

/// Seal a model folder: encrypt it under a fresh key that only the broker can release.
///
/// The sealed folder has the same file names and a signed manifest; put it on any storage, which need not be trusted.
/// The record holds the key, sealed to the broker: publish it with `portcullis publish`. Nothing secret is left behind:
/// whoever loses the record seals again. Whatever goes wrong, also Ctrl-C, leaves neither folder nor record.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis seal ./Llama-3-8B --model llama-3-8b --version 1 --out ./llama-3-8b.sealed \\
        --publisher-key publisher.key --policy inference --authority authority.pub \\
        --installation https://broker.example.com --root root.pub --recovery recovery.pub
    portcullis publish llama-3-8b.sealed.record.json --broker https://broker.example.com --token-file token")]
pub(crate) struct Seal {
    /// The folder of plaintext; all of it is sealed
    #[arg(value_name = "DIR")]
    source: PathBuf,

    /// The model's name
    #[arg(long, value_name = "NAME")]
    model: Name,

    /// The sealed folder to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Where to write the record; OUT.record.json by default
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// Print events as JSON, one a line: sealing (progress), sealed
    #[arg(long)]
    json: bool,

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
    /// The record would lie among the sealed files.
    #[error("the record would lie inside the sealed folder {folder}", folder = .0.display())]
    RecordInside(PathBuf),
}

impl From<SealCommandError> for Failure {
    fn from(error: SealCommandError) -> Self {
        match error {
            SealCommandError::Record(error) => error.into(),
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

const fn seal_hint(error: &SealError) -> Option<&'static str> {
    match error {
        SealError::Symlink { .. } => Some("copy the folder with links followed: cp -rL FROM TO"),
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
        let prepared = self.release.prepare(console)?;
        let order = SealFolder {
            source: &self.source,
            destination: &self.out,
            name: self.model,
            version: prepared.version(),
            chunk_size: ChunkSize::default(),
            backend: Backend::default(),
        };
        let events = if self.json { Events::Json } else { Events::Bar };
        seal(&order, prepared, &record_path, events, console)?;
        Ok(Exit::Done)
    }
}

/// `OUT.record.json`, beside `OUT`.
fn beside(out: &Path) -> PathBuf {
    // A trailing slash would put the record inside.
    let plain: PathBuf = out.components().collect();
    files::with_suffix(&plain, ".record.json")
}

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Events {
    /// A bar, where there is a terminal.
    Bar,
    /// One JSON object a line.
    Json,
}

/// Seals folder and record. Where the record fails, the sealed folder goes too: without it nobody can open the folder.
fn seal(
    order: &SealFolder<'_>,
    prepared: Prepared,
    record_path: &Path,
    events: Events,
    console: &mut Console<'_>,
) -> Result<(), SealCommandError> {
    let (source, installation, version) = (order.source, prepared.installation().clone(), prepared.version());
    let started = clock::monotonic();
    let mut watcher = Watcher::new(events, console);
    let sealed = seal_folder(order, prepared.publisher(), &mut watcher)?;
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
    match events {
        Events::Json => console.event(&json!({
            "event": "sealed", "folder": order.destination, "record": record_path, "name": order.name, "version": version,
            "files": files, "bytes": total, "manifest": manifest, "statement": statement,
        })),
        Events::Bar => console.fields(
            "",
            [
                (
                    "sealed",
                    format!("{} ({}, {}{})", source.display(), size::count(files, "file"), size::bytes(total), rate(total, elapsed)),
                ),
                ("model", format!("{} version {version}", order.name)),
                ("for", format!("installation {installation}")),
                ("folder", order.destination.display().to_string()),
                ("record", record_path.display().to_string()),
                ("manifest", manifest.to_string()),
            ],
        ),
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

/// The least time between two events.
const INTERVAL: Duration = Duration::from_millis(250);

/// Shows progress, and ends the sealing when the user asks.
struct Watcher<'c, 'a> {
    interrupt: Interrupt,
    console: &'c mut Console<'a>,
    events: Events,
    bar: ProgressBar,
    last: Option<Instant>,
}

impl<'c, 'a> Watcher<'c, 'a> {
    fn new(events: Events, console: &'c mut Console<'a>) -> Self {
        let target = match events {
            // Indicatif draws on standard error, and nothing where that is no terminal.
            Events::Bar if console.is_process() => ProgressDrawTarget::stderr(),
            _ => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        if let Ok(style) =
            ProgressStyle::with_template("{bar:30} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} eta {eta} {wide_msg}")
        {
            bar.set_style(style);
        }
        Self { interrupt: Interrupt::listen(), console, events, bar, last: None }
    }

    /// Takes the bar away.
    fn finish(self) {
        self.bar.finish_and_clear();
    }

    /// Whether enough time has passed since the last event; the first comes at once.
    fn is_due(&mut self) -> bool {
        let now = clock::monotonic();
        let due = self.last.is_none_or(|last| now.duration_since(last) >= INTERVAL);
        if due {
            self.last = Some(now);
        }
        due
    }
}

impl Progress for Watcher<'_, '_> {
    fn advance(&mut self, advance: Advance<'_>) -> ControlFlow<()> {
        if self.interrupt.is_asked() {
            return ControlFlow::Break(());
        }
        match self.events {
            Events::Bar => {
                self.bar.set_length(advance.total);
                self.bar.set_position(advance.done);
                self.bar.set_message(advance.path.as_str().to_owned());
            }
            Events::Json => {
                if self.is_due() {
                    self.console.event(&json!({ "event": "sealing", "path": advance.path, "done": advance.done, "total": advance.total }));
                }
            }
        }
        ControlFlow::Continue(())
    }
}
