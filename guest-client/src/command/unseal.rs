//! `unseal`: the model's key from the broker, and the sealed model opened with it, wherever it lies, to memory of the guest.

use std::time::Instant;

use models_manifest::folder::{Attempt, Opening, open_model};
use models_manifest::{Contents, ModelKey, Opened};
use protocol::documents::Kind;
use protocol::ids::Digest;
use protocol::keys::PublicKey;
use protocol::messages::{ItemOutcome, Purpose, Secret};
use serde::Serialize;
use zeroize::Zeroizing;

use super::args::{SealedModelArguments, UnsealArguments, plaintext};
use super::decide::decide;
use super::failure::Failure;
use super::watch::{Interrupt, Watch};
use crate::config::{Config, Overrides, Plaintext, RequiredModelSigner};
use crate::sources::{Reached, SealedLocation};
use crate::{capacity, destination};

/// What `unseal --json` prints.
#[derive(Serialize)]
struct Unsealed {
    result: &'static str,
    model: String,
    version: u64,
    manifest: Digest,
    publisher: PublicKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_signer: Option<String>,
    to: String,
    files: usize,
    bytes: u64,
    /// Of these, bytes that an earlier attempt had opened.
    kept: u64,
    seconds: f64,
    log_entry: u64,
}

/// `unseal`. What can be known to fail does so before the key is asked for; what is read first is fetched while it is.
pub fn unseal(arguments: &UnsealArguments) -> Result<(), Failure> {
    let (asked, interrupt) = (&arguments.asked, Interrupt::listen());
    let config = asked.common.effective(Overrides { plaintext: plaintext(arguments.to_disk), ..Overrides::default() })?;
    if config.plaintext == Plaintext::Memory {
        destination::in_memory(&arguments.to)?;
    }
    let reached = Reached::at(&asked.sealed, &config.storage)?;
    let kept = arguments.resume.then(|| Attempt::place(&arguments.to)).transpose()?;
    capacity::fits(&reached.inspection().contents, &arguments.to, kept.as_deref())?;
    reached.prefetch();
    let (grant, log_entry) = Grant::ask(&config, asked)?;
    let (manifest, publisher) = (grant.manifest, grant.publisher);
    let began = Instant::now();
    let signer = config.model_signer(&asked.model.name);
    let opened = grant.open(arguments, reached, signer, &interrupt);
    let (contents, Opened { kept }) = opened.map_err(|failure| failure.ended_by(interrupt.asked()))?;
    let unsealed = Unsealed {
        result: "unsealed",
        model_signer: signer.map(|required| required.key.id().to_string()),
        model: contents.name().to_string(),
        version: contents.version().number(),
        manifest,
        publisher,
        to: arguments.to.display().to_string(),
        files: contents.files().len(),
        bytes: contents.total(),
        kept,
        seconds: began.elapsed().as_secs_f64(),
        log_entry,
    };
    if asked.common.json {
        println!("{}", serde_json::to_string(&unsealed).unwrap_or_default());
    } else {
        let Unsealed { model, version, to, files, bytes, seconds, .. } = unsealed;
        let kept = if kept > 0 { format!(", {kept} of them kept from before") } else { String::new() };
        println!("unsealed: model {model}@{version} to {to}: {files} files, {bytes} bytes{kept}, {seconds:.1} s (log entry {log_entry})");
    }
    Ok(())
}

/// The grant of one model: the key, and which manifest by which publisher it is for.
pub(super) struct Grant {
    pub(super) key: ModelKey,
    pub(super) manifest: Digest,
    pub(super) publisher: PublicKey,
}

impl Grant {
    /// Asks the broker for one model; and the index of the decision's entry in its log.
    pub(super) fn ask(config: &Config, asked: &SealedModelArguments) -> Result<(Self, u64), Failure> {
        let items = [asked.model.item(Kind::Model)];
        let answered = decide(config, &asked.persistence, Purpose::Release, &items, asked.common.stream())?;
        let log_entry = answered.entry();
        let item = answered.into_outcome().items.pop().ok_or(Failure::ModelKey)?;
        Ok((Self::of_item(item)?, log_entry))
    }

    /// Of one item.
    pub(super) fn of_item(item: ItemOutcome) -> Result<Self, Failure> {
        match item {
            ItemOutcome::Granted { publisher, manifest: Some(manifest), secret, .. } => {
                Ok(Self { key: model_key(&secret)?, manifest, publisher })
            }
            _ => Err(Failure::ModelKey),
        }
    }

    /// The manifest must be the granted one, by the granted publisher, before anything else of the model is read; and what it
    /// lists must bear the signature that the configuration requires before anything is written. Both readings are held to the same
    /// roots, so that what was verified is what is opened.
    fn open(
        self,
        arguments: &UnsealArguments,
        reached: Reached,
        signer: Option<&RequiredModelSigner>,
        interrupt: &Interrupt,
    ) -> Result<(Contents, Opened), Failure> {
        let mut watch = Watch::begin(arguments.shown(), interrupt, reached.stopper());
        let model = reached.unlock(&[self.publisher], &self.manifest, self.key)?;
        if let Some(required) = signer {
            required.verify(&model, &mut watch)?;
        }
        let attempt = if arguments.resume { Attempt::Resumed } else { Attempt::Once };
        let apart_from = if let SealedLocation::Folder(folder) = &arguments.asked.sealed { Some(folder.as_path()) } else { None };
        let opening = Opening { destination: &arguments.to, apart_from, workers: arguments.work.workers(), attempt };
        let opened = open_model(&model, opening, &mut watch).map_err(|error| match attempt {
            Attempt::Once => Failure::from(error),
            Attempt::Resumed => Failure::kept(error, &arguments.to),
        })?;
        Ok((model.contents().clone(), opened))
    }
}

fn model_key(secret: &Secret) -> Result<ModelKey, Failure> {
    ModelKey::from_secret(Zeroizing::new(secret.expose().to_vec())).map_err(|_| Failure::ModelKey)
}
