//! Keys from files: public ones as text, secret ones unlocked.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use protocol::encoding::{from_base64, to_base64};
use protocol::hpke::{HpkeError, RecipientKey};
use protocol::keyfile::{self, KeyFile, KeyFileError, Unlock};
use protocol::keys::{BadKey, PublicKey, SigningKey};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::files::{self, FileError};

/// The largest public key file (bytes): an X-Wing key in base64 has 1.6 KiB.
const PUBLIC: usize = 4096;
/// The largest passphrase file (bytes).
const PASSPHRASE: usize = 4096;
/// The largest file that protects a key (bytes).
const PROTECTING: usize = 64 * 1024;

/// How text names an X-Wing key.
const X_WING: &str = "x-wing:";

/// An Ed25519 public key: `ed25519:…`, or a `.pub` file that holds one.
pub(crate) fn public_key(text: &str) -> Result<PublicKey, PublicKeyError> {
    from_text_or_file(text, "ed25519:", |text| text.parse().map_err(PublicKeyError::from))
}

/// An X-Wing public key: `x-wing:…`, or a `.pub` file that holds one.
pub(crate) fn recipient_key(text: &str) -> Result<RecipientKey, PublicKeyError> {
    from_text_or_file(text, X_WING, |text| {
        let bytes = text.strip_prefix(X_WING).and_then(from_base64).ok_or(HpkeError::RecipientKey)?;
        Ok(RecipientKey::from_bytes(&bytes)?)
    })
}

/// The text form of an X-Wing public key.
pub(crate) fn recipient_text(key: &RecipientKey) -> String {
    format!("{X_WING}{}", to_base64(key.as_bytes()))
}

fn from_text_or_file<K>(text: &str, prefix: &'static str, parse: impl Fn(&str) -> Result<K, PublicKeyError>) -> Result<K, PublicKeyError> {
    if text.starts_with(prefix) {
        return parse(text);
    }
    let path = Path::new(text);
    let content = files::read_text(path, "a public key", PUBLIC).map_err(|error| PublicKeyError::File { prefix, error })?;
    parse(content.trim()).map_err(|error| PublicKeyError::InFile { path: path.to_owned(), error: Box::new(error) })
}

/// Why a text or a file is no public key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublicKeyError {
    /// Neither a key nor a file.
    #[error("not a key (it would begin with {prefix}), and {error}")]
    File { prefix: &'static str, error: FileError },
    /// The file holds something else.
    #[error("{path}: {error}", path = path.display())]
    InFile { path: PathBuf, error: Box<Self> },
    /// Not an Ed25519 key.
    #[error(transparent)]
    Ed25519(#[from] BadKey),
    /// Not an X-Wing key.
    #[error("not a recipient key: expected x-wing: and 1216 bytes of base64")]
    Recipient(#[from] HpkeError),
}

/// What a key is for; it stands in the key file, and a key of one kind never serves another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum KeyKind {
    /// The installation root: certifies the broker's keys; keep it offline (Ed25519)
    Root,
    /// A publisher: signs models and credentials (Ed25519)
    Publisher,
    /// An authority: signs policies and revocations (Ed25519)
    Authority,
    /// The broker's identity: signs its answers (Ed25519)
    Identity,
    /// The broker's log: signs checkpoints (Ed25519)
    Log,
    /// The broker's sealing key: opens records (X-Wing)
    Sealing,
    /// A further recipient of records, kept offline (X-Wing)
    Recovery,
    /// The broker's challenge secret (32 random bytes)
    Challenge,
}

impl KeyKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Publisher => "publisher",
            Self::Authority => "authority",
            Self::Identity => "identity",
            Self::Log => "log",
            Self::Sealing => "sealing",
            Self::Recovery => "recovery",
            Self::Challenge => "challenge",
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What unlocks the key file of a command. Never a value on the command line: other users can read those.
#[derive(Args)]
pub(crate) struct UnlockArguments {
    /// Read the key's passphrase from the first line of this file instead of asking on the terminal
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    passphrase_file: Option<PathBuf>,

    /// The file that protects the key
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl UnlockArguments {
    fn unlock(&self, path: &Path, file: &KeyFile) -> Result<Unlock, KeyError> {
        if let Some(protecting) = &self.key_file {
            return protecting_file(protecting).map(Unlock::KeyFile);
        }
        if let Some(from) = &self.passphrase_file {
            return passphrase_file(from).map(Unlock::Passphrase);
        }
        if file.wants_passphrase() {
            return ask(&format!("passphrase for {}: ", path.display())).map(Unlock::Passphrase);
        }
        Ok(Unlock::Nothing)
    }
}

/// The bytes of a file that protects a key.
pub(crate) fn protecting_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    Ok(files::read(path, "a protecting key file", PROTECTING)?)
}

/// The first line of a passphrase file.
pub(crate) fn passphrase_file(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let text = files::read_text(path, "a passphrase file", PASSPHRASE)?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

/// Asks on the terminal, without echo.
pub(crate) fn ask(prompt: &str) -> Result<Zeroizing<String>, KeyError> {
    rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(|_| KeyError::NoTerminal)
}

/// Reads and unlocks a signing key of `kind`.
pub(crate) fn signing_key(path: &Path, kind: KeyKind, unlock: &UnlockArguments) -> Result<SigningKey, KeyError> {
    let json = files::read(path, "a key file", keyfile::LIMIT)?;
    let refuse = |error| KeyError::Refused { path: path.to_owned(), error };
    let file = KeyFile::parse(&json).map_err(refuse)?;
    // What it is for comes first: nobody types a passphrase for the wrong file.
    if file.kind() != kind.as_str() {
        return Err(refuse(KeyFileError::Kind { expected: kind.to_string(), found: file.kind().to_owned() }));
    }
    let seed = file.open(kind.as_str(), &unlock.unlock(path, &file)?).map_err(refuse)?;
    let key = SigningKey::from_seed(&seed)?;
    if PublicKey::from_str(file.public()).ok().as_ref() != Some(key.public()) {
        return Err(KeyError::OtherPublic { path: path.to_owned() });
    }
    Ok(key)
}

/// Why a secret key cannot be had. None of the texts holds anything of a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key file does not open.
    #[error("{path}: {error}", path = path.display())]
    Refused { path: PathBuf, error: KeyFileError },
    /// The public half in the file is another key's.
    #[error("{path}: the secret does not belong to the public key that the file names", path = path.display())]
    OtherPublic { path: PathBuf },
    /// Nobody to ask.
    #[error("a passphrase is needed, and there is no terminal to ask on")]
    NoTerminal,
    /// The seed is none.
    #[error(transparent)]
    Seed(#[from] BadKey),
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::File(error) => error.into(),
            KeyError::NoTerminal => Self::usage(error).hint("give --passphrase-file FILE"),
            KeyError::Refused { error: KeyFileError::OtherUnlock { expected }, .. } => Self::usage(error).hint(match expected {
                "a passphrase" => "give --passphrase-file FILE, or run it on a terminal",
                "a key file" => "give --key-file FILE",
                _ => "it lies in the clear: give neither --passphrase-file nor --key-file",
            }),
            KeyError::Refused { error: KeyFileError::Kind { .. }, .. } => {
                Self::usage(error).hint("each kind of key has its own file; `portcullis keygen --help` lists them")
            }
            KeyError::Refused { error: KeyFileError::Form(_), .. } => {
                Self::usage(error).hint("the secret key is in the file that ends in .key; the one in .pub is its public half")
            }
            KeyError::Refused { .. } | KeyError::OtherPublic { .. } | KeyError::Seed(_) => Self::failed(error),
        }
    }
}
