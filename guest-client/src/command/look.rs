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
use crate::evidence::{AttestInputs, Attested, Choice, Interfaces};

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
    let attester = setting.choice.attester(&setting.interfaces)?;
    let inputs = AttestInputs {
        nonce: nonce(arguments)?,
        installation: setting.root,
        hpke_key: RecipientSecret::generate().map_err(|error| keys(&error))?.public().clone(),
        signing_key: *SigningKey::generate().map_err(|error| keys(&error))?.public(),
        configuration: setting.configuration,
    };
    let Attested { transcript, evidence } = attester.attest(&inputs)?;
    let (report, certificate_table, event_log) = match &evidence {
        EvidenceMessage::SevSnp { report, certificate_table } => (Some(report), Some(certificate_table), None),
        EvidenceMessage::Tdx { quote, event_log } => (Some(quote), None, event_log.as_ref()),
        EvidenceMessage::Held {} => (None, None, None),
    };
    write("report", arguments.report.as_deref(), report)?;
    write("certificate table", arguments.certificate_table.as_deref(), certificate_table)?;
    write("event log", arguments.event_log.as_deref(), event_log)?;
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
    interfaces: Interfaces,
}

impl Setting {
    fn of(arguments: &EvidenceArguments) -> Result<Self, Failure> {
        let mut setting = if arguments.unpinned {
            let choice = arguments.common.evidence.clone().unwrap_or_default();
            let (root, configuration) = (PublicKey::from_bytes([0; 32]), Digest::from([0; 32]));
            Self { root, configuration, choice, interfaces: Interfaces::default() }
        } else {
            let config = arguments.common.effective(Overrides::default())?;
            Self { configuration: config.digest()?, root: config.root, choice: config.evidence, interfaces: config.interfaces }
        };
        if let Some(configfs) = &arguments.configfs {
            setting.interfaces.configfs.clone_from(configfs);
        }
        if let Some(source) = &arguments.event_log_source {
            setting.interfaces.event_log.clone_from(source);
        }
        Ok(setting)
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

/// Writes what was asked for. What this platform does not have is said, and no empty file stands for it.
fn write(what: &str, path: Option<&Path>, bytes: Option<&Vec<u8>>) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    let Some(bytes) = bytes else {
        eprintln!("warning: this machine's evidence has no {what}; {} is not written", path.display());
        return Ok(());
    };
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
