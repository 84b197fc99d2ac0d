//! `unseal`: the model's key from the broker, and the sealed folder opened with it, to memory of the guest.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use models_manifest::folder::OpenFolder;
use models_manifest::{Advance, Backend, Contents, ModelKey, Progress, inspect_folder, open_folder};
use protocol::documents::Kind;
use protocol::ids::Digest;
use protocol::keys::PublicKey;
use protocol::messages::{ItemOutcome, Purpose, Secret};
use serde::Serialize;
use zeroize::Zeroizing;

use super::args::{UnsealArguments, plaintext};
use super::decide::decide;
use super::failure::{Failure, Stream};
use crate::config::{Overrides, Plaintext};
use crate::destination;

/// What `unseal --json` prints.
#[derive(Serialize)]
struct Unsealed {
    result: &'static str,
    model: String,
    version: u64,
    manifest: Digest,
    publisher: PublicKey,
    to: String,
    files: usize,
    bytes: u64,
    seconds: f64,
    log_entry: u64,
}

/// `unseal`. What can be known to fail does so before the key is asked for.
pub fn unseal(arguments: &UnsealArguments) -> Result<(), Failure> {
    let config = arguments.common.effective(Overrides { plaintext: plaintext(arguments.to_disk), ..Overrides::default() })?;
    if config.plaintext == Plaintext::Memory {
        destination::in_memory(&arguments.to)?;
    }
    inspect_folder(&arguments.sealed, &[])?;
    let stream = if arguments.common.json { Stream::Json } else { Stream::Text };
    let items = [arguments.model.item(Kind::Model)];
    let answered = decide(&config, &arguments.persistence, Purpose::Release, &items, stream)?;
    let log_entry = answered.entry();
    let grant = Grant::of(answered.into_outcome().items)?;
    let (manifest, publisher) = (grant.manifest, grant.publisher);
    let began = Instant::now();
    let contents = grant.open(arguments)?;
    let unsealed = Unsealed {
        result: "unsealed",
        model: contents.name().to_string(),
        version: contents.version().number(),
        manifest,
        publisher,
        to: arguments.to.display().to_string(),
        files: contents.files().len(),
        bytes: contents.total(),
        seconds: began.elapsed().as_secs_f64(),
        log_entry,
    };
    if arguments.common.json {
        println!("{}", serde_json::to_string(&unsealed).unwrap_or_default());
    } else {
        let Unsealed { model, version, to, files, bytes, seconds, .. } = unsealed;
        println!("unsealed: model {model}@{version} to {to}: {files} files, {bytes} bytes, {seconds:.1} s (log entry {log_entry})");
    }
    Ok(())
}

/// The grant of one model: the key, and which manifest by which publisher it is for.
struct Grant {
    key: ModelKey,
    manifest: Digest,
    publisher: PublicKey,
}

impl Grant {
    fn of(mut items: Vec<ItemOutcome>) -> Result<Self, Failure> {
        match items.pop() {
            Some(ItemOutcome::Granted { publisher, manifest: Some(manifest), secret, .. }) => {
                Ok(Self { key: model_key(&secret)?, manifest, publisher })
            }
            _ => Err(Failure::ModelKey),
        }
    }

    /// The manifest must be the granted one, by the granted publisher, before anything else of the folder is read.
    fn open(self, arguments: &UnsealArguments) -> Result<Contents, Failure> {
        let order =
            OpenFolder { sealed: &arguments.sealed, publishers: &[self.publisher], released: &self.manifest, backend: Backend::default() };
        let mut watch = Watch::begin();
        Ok(open_folder(order, self.key, &arguments.to, &mut watch)?)
    }
}

fn model_key(secret: &Secret) -> Result<ModelKey, Failure> {
    ModelKey::from_secret(Zeroizing::new(secret.expose().to_vec())).map_err(|_| Failure::ModelKey)
}

/// Shows progress on a terminal, and ends the work where the process is asked to end: then nothing is left behind.
struct Watch {
    bar: Option<ProgressBar>,
    ended: Arc<AtomicBool>,
}

impl Watch {
    fn begin() -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        std::thread::spawn(move || wait_for_end(&seen));
        Self { bar: std::io::stderr().is_terminal().then(bar), ended }
    }
}

impl Progress for Watch {
    fn advance(&mut self, advance: Advance<'_>) -> ControlFlow<()> {
        if let Some(bar) = &self.bar {
            bar.set_length(advance.total);
            bar.set_position(advance.done);
            bar.set_message(advance.path.to_string());
        }
        if self.ended.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let style = "{bar:30} {bytes} of {total_bytes} {bytes_per_sec} {eta} {wide_msg}";
    ProgressBar::new(0).with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The first SIGINT or SIGTERM ends the work in order, the second at once.
fn wait_for_end(ended: &AtomicBool) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else { return };
        for _ in 0..2 {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if ended.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        }
    });
}
