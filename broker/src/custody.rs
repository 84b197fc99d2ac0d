//! The broker's own keys: read from their files, unlocked, and checked against what the installation root certified.
//!
//! | file | what its thief gains, with what unlocks it |
//! | --- | --- |
//! | `keys/sealing.key` | with the store: every secret of every record |
//! | `keys/identity.key` | can answer guests in this broker's name |
//! | `keys/log.key` | can fork the audit log |
//! | `keys/challenge.key` | can mint challenges; each still serves once |
//! | `keys/issuer.key` | with `keys/issuer.json`: can be anybody in the trust domain ([`crate::identity`]) |
//!
//! The seeds are protected at rest; while the broker runs, its memory holds them.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use protocol::challenge::ChallengeKey;
use protocol::documents::{Certificate, CertificateError, CertifiedKey};
use protocol::dsse::SignedDocument;
use protocol::hpke::{HpkeError, RecipientKey, RecipientSecret};
use protocol::ids::{AnchorClass, Name};
use protocol::keyfile::{KeyFile, KeyFileError, Unlock};
use protocol::keys::{BadKey, PublicKey, SigningKey};
use protocol::time::UnixTime;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::config;

/// What `init` fixed about an installation: `installation.json` in the data folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installation {
    /// The name that people know it by.
    pub name: Name,
    /// The root's public key.
    pub root: PublicKey,
    /// The class of roots under which it judges evidence.
    pub anchors: AnchorClass,
    /// Test roots by product line; empty for class `vendor`.
    #[serde(default)]
    pub test_anchors: Vec<TestAnchor>,
    /// The certificates of its identity, log and sealing keys; empty until the root has signed them.
    #[serde(default)]
    pub certificates: Vec<SignedDocument>,
}

/// One test root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestAnchor {
    /// `Milan`, `Genoa` or `Turin`; or `Intel`, whose one root is over all its platforms.
    pub product: String,
    /// The self-signed certificate, DER.
    #[serde(with = "protocol::encoding::base64")]
    pub certificate: Vec<u8>,
}

impl TestAnchor {
    /// The product of a root in the place of the Intel SGX Root CA.
    pub const INTEL: &str = "Intel";
}

impl Installation {
    /// Where it lies in the data folder.
    #[must_use]
    pub fn path(data: &Path) -> PathBuf {
        data.join("installation.json")
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`CustodyError::Read`], [`CustodyError::Installation`].
    pub fn read(data: &Path) -> Result<Self, CustodyError> {
        let path = Self::path(data);
        serde_json::from_slice(&read(&path)?).map_err(|error| CustodyError::Installation { path, error: error.to_string() })
    }

    /// The origin of its audit log.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}/log", self.name)
    }
}

/// The keys of a running broker.
pub struct Keys {
    /// Signs answers.
    pub identity: SigningKey,
    /// The identity key's certificate, to go with every answer.
    pub identity_certificate: SignedDocument,
    /// Opens envelopes.
    pub sealing: RecipientSecret,
    /// Mints and checks challenges.
    pub challenge: ChallengeKey,
}

impl Keys {
    /// Reads and unlocks all keys, and finds the certificate of each. The log's key stands apart: its one writer owns it.
    ///
    /// # Errors
    /// [`CustodyError`]; in particular [`CustodyError::NotCertified`] where the root has not certified a key, or not for now.
    pub fn open(data: &Path, installation: &Installation, unlock: &Unlock, at: UnixTime) -> Result<(Self, SigningKey), CustodyError> {
        let seed = |kind: &'static str| read_key(&key_path(data, kind), kind, unlock);
        let identity = SigningKey::from_seed(&*seed("identity")?)?;
        let log = SigningKey::from_seed(&*seed("log")?)?;
        let sealing = RecipientSecret::from_seed(&*seed("sealing")?)?;
        let identity_certificate = certificate(installation, &CertifiedKey::Identity(*identity.public()), at)?;
        certificate(installation, &CertifiedKey::Log(*log.public()), at)?;
        certificate(installation, &CertifiedKey::Sealing(sealing.public().clone()), at)?;
        let challenge = ChallengeKey::new(seed("challenge")?, installation.root);
        Ok((Self { identity, identity_certificate, sealing, challenge }, log))
    }
}

/// The root's certificate of `key`, if one holds now.
fn certificate(installation: &Installation, key: &CertifiedKey, at: UnixTime) -> Result<SignedDocument, CustodyError> {
    let mut last = None;
    for signed in &installation.certificates {
        match Certificate::verify(signed, &installation.root, at) {
            Ok(found)
                if found.body().certified == *key
                    && found.body().anchors == installation.anchors
                    && found.body().name == installation.name =>
            {
                return Ok(signed.clone());
            }
            Ok(_) => {}
            Err(error) => last = Some(error),
        }
    }
    Err(CustodyError::NotCertified { purpose: key.purpose(), last })
}

/// Where a key file lies.
#[must_use]
pub fn key_path(data: &Path, kind: &str) -> PathBuf {
    data.join("keys").join(format!("{kind}.key"))
}

/// Reads one key file and unlocks it.
pub(crate) fn read_key(path: &Path, kind: &str, unlock: &Unlock) -> Result<Zeroizing<[u8; 32]>, CustodyError> {
    let refuse = |error| CustodyError::Key { path: path.to_owned(), error };
    let file = KeyFile::parse(&Zeroizing::new(read(path)?)).map_err(refuse)?;
    file.open(kind, unlock).map_err(refuse)
}

/// What the configuration says unlocks key files.
///
/// # Errors
/// [`CustodyError::Read`] where the named file cannot be read.
pub fn unlock(config: &config::Unlock) -> Result<Unlock, CustodyError> {
    if let Some(path) = &config.passphrase_file {
        let text = String::from_utf8(read(path)?).map_err(|_| CustodyError::Read { path: path.clone(), error: "not UTF-8".to_owned() })?;
        let text = Zeroizing::new(text);
        let line = text.lines().next().unwrap_or_default();
        return Ok(Unlock::Passphrase(Zeroizing::new(line.to_owned())));
    }
    if let Some(path) = &config.key_file {
        return Ok(Unlock::KeyFile(Zeroizing::new(read(path)?)));
    }
    Ok(Unlock::Nothing)
}

/// The administrative token that `init` wrote.
///
/// # Errors
/// [`CustodyError::Read`].
pub fn read_token(data: &Path) -> Result<Zeroizing<String>, CustodyError> {
    let path = data.join("admin.token");
    let text = String::from_utf8(read(&path)?).map_err(|_| CustodyError::Read { path: path.clone(), error: "not UTF-8".to_owned() })?;
    let token = Zeroizing::new(Zeroizing::new(text).trim().to_owned());
    if token.len() < 32 { Err(CustodyError::Read { path, error: "shorter than 32 characters".to_owned() }) } else { Ok(token) }
}

/// A new file that only its owner can read.
///
/// # Errors
/// The operating system's; in particular where there is one already.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A file that only its owner can read, in the place of the one that may be there: a crash leaves the old one or the new one, whole.
///
/// # Errors
/// The operating system's.
pub(crate) fn replace_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    drop(std::fs::remove_file(&beside));
    write_private(&beside, bytes)?;
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CustodyError> {
    std::fs::read(path).map_err(|error| CustodyError::Read { path: path.to_owned(), error: error.to_string() })
}

/// The public half of a sealing key in text: `x-wing:` and base64.
#[must_use]
pub fn recipient_text(key: &RecipientKey) -> String {
    format!("x-wing:{}", protocol::encoding::to_base64(key.as_bytes()))
}

/// Why the broker's keys cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CustodyError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        error: String,
    },
    /// Not an installation file.
    #[error("{} is no installation file: {error}", path.display())]
    Installation {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: String,
    },
    /// A key file does not open.
    #[error("{}: {error}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: KeyFileError,
    },
    /// The root has not certified this key, or not for now.
    #[error("the installation root has not certified the {purpose} key for now{}", last.as_ref().map(|error| format!(" ({error})")).unwrap_or_default())]
    NotCertified {
        /// What the key is for.
        purpose: &'static str,
        /// Why the last certificate that was looked at was refused.
        last: Option<CertificateError>,
    },
    /// A seed that makes no signing key.
    #[error(transparent)]
    BadKey(#[from] BadKey),
    /// A seed that makes no sealing key.
    #[error(transparent)]
    Hpke(#[from] HpkeError),
}
