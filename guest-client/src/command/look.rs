//! `evidence` and `config-digest`: looking at what this guest is, with nothing sent anywhere.

use std::path::{Path, PathBuf};

use protocol::challenge::Challenge;
use protocol::encoding::from_base64;
use protocol::hpke::{RecipientKey, RecipientSecret};
use protocol::ids::{Digest, Nonce, Platform, Role};
use protocol::keys::{PublicKey, SigningKey};
use protocol::messages::EvidenceMessage;
use serde::Serialize;

use super::args::{DigestArguments, EvidenceArguments, plaintext};
use super::failure::Failure;
use crate::config::{Overrides, Stdout};
use crate::evidence::{self, AttestInputs, Attested, Choice};

/// What `evidence` prints: the evidence and all that its report data binds.
#[derive(Serialize)]
struct Shown {
    platform: Platform,
    role: Role,
    installation: PublicKey,
    nonce: Nonce,
    hpke_key: RecipientKey,
    signing_key: PublicKey,
    configuration: Digest,
    #[serde(with = "protocol::encoding::hex")]
    report_data: [u8; 64],
    evidence: EvidenceMessage,
}

/// `evidence`. The keys that it binds are fresh, and their secret halves are forgotten: it is for looking at.
pub fn evidence(arguments: &EvidenceArguments) -> Result<(), Failure> {
    let keys = |error: &dyn std::fmt::Display| Failure::Keys(error.to_string());
    let setting = Setting::of(arguments)?;
    let attester = setting.choice.attester(&setting.configfs)?;
    let inputs = AttestInputs {
        nonce: nonce(arguments)?,
        installation: setting.root,
        hpke_key: RecipientSecret::generate().map_err(|error| keys(&error))?.public().clone(),
        signing_key: *SigningKey::generate().map_err(|error| keys(&error))?.public(),
        configuration: setting.configuration,
    };
    let Attested { transcript, evidence } = attester.attest(&inputs)?;
    if let EvidenceMessage::SevSnp { report, certificate_table } = &evidence {
        write(arguments.report.as_deref(), report)?;
        write(arguments.certificate_table.as_deref(), certificate_table)?;
    }
    let shown = Shown {
        report_data: transcript.report_data(),
        platform: transcript.platform,
        role: transcript.role,
        installation: transcript.installation,
        nonce: transcript.nonce,
        hpke_key: transcript.hpke_key,
        signing_key: transcript.signing_key,
        configuration: transcript.configuration,
        evidence,
    };
    println!("{}", serde_json::to_string_pretty(&shown).map_err(|error| keys(&error))?);
    Ok(())
}

/// Under which configuration evidence is collected.
struct Setting {
    root: PublicKey,
    configuration: Digest,
    choice: Choice,
    configfs: PathBuf,
}

impl Setting {
    fn of(arguments: &EvidenceArguments) -> Result<Self, Failure> {
        let kernels = || PathBuf::from(evidence::configfs::ROOT);
        if arguments.unpinned {
            let choice = arguments.common.evidence.clone().unwrap_or_default();
            let configfs = arguments.configfs.clone().unwrap_or_else(kernels);
            return Ok(Self { root: PublicKey::from_bytes([0; 32]), configuration: Digest::from([0; 32]), choice, configfs });
        }
        let config = arguments.common.effective(Overrides::default())?;
        let configuration = config.digest()?;
        Ok(Self {
            root: config.root,
            configuration,
            choice: config.evidence,
            configfs: arguments.configfs.clone().unwrap_or(config.configfs),
        })
    }
}

fn nonce(arguments: &EvidenceArguments) -> Result<Nonce, Failure> {
    match (&arguments.nonce, &arguments.challenge) {
        (Some(nonce), _) => Ok(*nonce),
        (None, Some(text)) => {
            let challenge = from_base64(text).and_then(|bytes| Challenge::parse(&bytes).ok());
            challenge.map(|challenge| *challenge.nonce()).ok_or(Failure::Usage("--challenge is no challenge of a broker"))
        }
        (None, None) => Ok(Nonce::random()?),
    }
}

fn write(path: Option<&Path>, bytes: &[u8]) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, bytes).map_err(|error| Failure::Write { path: path.to_owned(), error })
}

/// What `config-digest --json` prints: the digest, and every field that it covers.
#[derive(Serialize)]
struct ShownDigest {
    digest: Digest,
    root: PublicKey,
    plaintext: &'static str,
    stdout: &'static str,
    plain_http: &'static str,
    state: Option<PathBuf>,
    covers: Vec<PathBuf>,
}

/// `config-digest`.
pub fn config_digest(arguments: &DigestArguments) -> Result<(), Failure> {
    let stdout = arguments.stdout.then_some(Stdout::Allowed);
    let config = arguments.common.effective(Overrides { plaintext: plaintext(arguments.to_disk), stdout, ..Overrides::default() })?;
    let digest = config.digest()?;
    if !arguments.common.json {
        println!("{digest}");
        return Ok(());
    }
    let shown = ShownDigest {
        digest,
        root: config.root,
        plaintext: config.plaintext.as_str(),
        stdout: config.stdout.as_str(),
        plain_http: config.plain_http(),
        state: config.state,
        covers: config.covers,
    };
    println!("{}", serde_json::to_string_pretty(&shown).map_err(|error| Failure::Keys(error.to_string()))?);
    Ok(())
}
