//! `portcullis keygen`: a new key, as a protected file and its public half.

use std::path::{Path, PathBuf};

use clap::Args;
use protocol::hpke::{HpkeError, RecipientSecret};
use protocol::ids::{NoRandomness, random_bytes};
use protocol::keyfile::{KeyFile, KeyFileError, Unlock};
use protocol::keys::{BadKey, SigningKey};
use zeroize::Zeroizing;

use crate::console::Console;
use crate::failure::{Exit, Failure, Outcome};
use crate::files::{self, Access, FileError};
use crate::keys::{self, KeyError, KeyKind};

/// Make a key: NAME.key holds the secret, NAME.pub the public key.
///
/// The secret file is readable by its owner alone. Protect it with a passphrase, or with a second file that is kept
/// elsewhere; without either it lies in the clear. Existing files are never written over.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  The offline root of an installation, behind a passphrase:
    portcullis keygen --kind root --out root --passphrase
  A publisher's key in CI, behind a file that the CI keeps as a secret:
    portcullis keygen --kind publisher --out publisher --key-file /run/secrets/unlock")]
pub(crate) struct Keygen {
    /// What the key is for
    #[arg(long, value_enum)]
    kind: KeyKind,

    /// Where to write: NAME.key and NAME.pub
    #[arg(long, value_name = "NAME")]
    out: PathBuf,

    /// Protect it with a passphrase, asked twice on the terminal
    #[arg(long, conflicts_with_all = ["passphrase_file", "key_file"])]
    passphrase: bool,

    /// Protect it with the passphrase on the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    passphrase_file: Option<PathBuf>,

    /// Protect it with the contents of this file (at least 32 random bytes)
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// Why there is no new key.
#[derive(Debug, thiserror::Error)]
enum KeygenError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The passphrase or the protecting file.
    #[error(transparent)]
    Unlock(#[from] KeyError),
    /// The two passphrases are not the same.
    #[error("the two passphrases differ")]
    PassphrasesDiffer,
    /// The protection is refused.
    #[error(transparent)]
    Protection(#[from] KeyFileError),
    /// No key.
    #[error(transparent)]
    Signing(#[from] BadKey),
    /// No key.
    #[error(transparent)]
    Recipient(#[from] HpkeError),
    /// No random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl From<KeygenError> for Failure {
    fn from(error: KeygenError) -> Self {
        match error {
            KeygenError::File(error) => error.into(),
            KeygenError::Unlock(error) => error.into(),
            KeygenError::Protection(KeyFileError::WeakKeyFile { .. }) => {
                Self::usage(error).hint("make one with: head -c 32 /dev/urandom > FILE")
            }
            KeygenError::Protection(_) | KeygenError::PassphrasesDiffer => Self::usage(error),
            KeygenError::Signing(_) | KeygenError::Recipient(_) | KeygenError::NoRandomness(_) => Self::failed(error),
        }
    }
}

/// A fresh secret and its public half; the text is empty for a secret without one.
struct Fresh {
    seed: Zeroizing<[u8; 32]>,
    /// As the key file holds it.
    in_file: String,
    /// As people hand it on.
    public: Option<String>,
}

impl Fresh {
    fn generate(kind: KeyKind) -> Result<Self, KeygenError> {
        match kind {
            KeyKind::Root | KeyKind::Publisher | KeyKind::Authority | KeyKind::Identity | KeyKind::Log => {
                let key = SigningKey::generate()?;
                let public = key.public().to_string();
                Ok(Self { seed: key.seed()?, in_file: public.clone(), public: Some(public) })
            }
            KeyKind::Sealing | KeyKind::Recovery => {
                let secret = RecipientSecret::generate()?;
                let in_file = protocol::encoding::to_base64(secret.public().as_bytes());
                let public = Some(keys::recipient_text(secret.public()));
                Ok(Self { seed: Zeroizing::new(*secret.seed()), in_file, public })
            }
            KeyKind::Challenge => Ok(Self { seed: Zeroizing::new(random_bytes()?), in_file: String::new(), public: None }),
        }
    }
}

impl Keygen {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Outcome {
        let (secret_path, public_path) = (files::with_suffix(&self.out, ".key"), files::with_suffix(&self.out, ".pub"));
        files::expect_absent(&secret_path)?;
        files::expect_absent(&public_path)?;
        let unlock = self.unlock()?;
        let public = self.write(&unlock, &secret_path, &public_path)?;
        if let Some(public) = public {
            console.line(public);
        }
        if matches!(unlock, Unlock::Nothing) {
            console.warning(&format!("{} lies in the clear", secret_path.display()));
            console.hint("protect it with --passphrase or --key-file, or keep it where nobody else reads");
        }
        Ok(Exit::Done)
    }

    fn unlock(&self) -> Result<Unlock, KeygenError> {
        if let Some(path) = &self.key_file {
            return Ok(Unlock::KeyFile(keys::protecting_file(path)?));
        }
        if let Some(path) = &self.passphrase_file {
            return Ok(Unlock::Passphrase(keys::passphrase_file(path)?));
        }
        if !self.passphrase {
            return Ok(Unlock::Nothing);
        }
        let first = keys::ask("passphrase: ")?;
        let second = keys::ask("once more: ")?;
        if *first == *second { Ok(Unlock::Passphrase(first)) } else { Err(KeygenError::PassphrasesDiffer) }
    }

    /// Writes both files, or none; gives the public key.
    fn write(&self, unlock: &Unlock, secret_path: &Path, public_path: &Path) -> Result<Option<String>, KeygenError> {
        let fresh = Fresh::generate(self.kind)?;
        let file = KeyFile::protect(self.kind.as_str(), &fresh.in_file, &fresh.seed, unlock)?;
        files::write_new(secret_path, Access::Owner, file.to_json().as_bytes())?;
        if let Some(public) = &fresh.public
            && let Err(error) = files::write_new(public_path, Access::Public, format!("{public}\n").as_bytes())
        {
            // Half a pair is none.
            let _ = std::fs::remove_file(secret_path);
            return Err(error.into());
        }
        Ok(fresh.public)
    }
}
