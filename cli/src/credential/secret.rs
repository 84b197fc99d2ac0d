//! What a credential holds, as it is told: bytes, a file, or a set of environment variables; and until when it may be used.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use protocol::credential::{Content, CredentialBody, CredentialError, CredentialKind, EnvFileError, FileName, read_env_file};
use protocol::limits;
use protocol::messages::Secret;
use protocol::time::UnixTime;
use zeroize::Zeroizing;

use crate::clock;
use crate::console::Console;
use crate::failure::Failure;
use crate::files::{self, FileError};

/// The longest span from now on.
const LONGEST: u64 = 100 * 365 * 86_400;

/// Where the secret comes from, and what it is.
#[derive(Args)]
pub(crate) struct SecretArguments {
    /// The file that holds the secret, which is taken byte for byte; `-` is standard input
    #[arg(long, visible_alias = "secret-file", value_name = "FILE", required_unless_present = "env_file", conflicts_with = "env_file")]
    from: Option<PathBuf>,

    /// A set of environment variables: a line NAME=VALUE for each, also in quotes; `-` is standard input
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,

    /// It is a file, and this is its name where guests put it into a folder
    #[arg(long, value_name = "NAME", requires = "from")]
    file_name: Option<FileName>,

    /// Until when guests may use it: a time such as 2027-01-31T00:00:00Z, or a span from now such as 90d, 12h or 30m
    #[arg(long, value_name = "WHEN")]
    expires: Option<Expires>,
}

/// `--expires`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expires {
    At(UnixTime),
    In(Duration),
}

impl FromStr for Expires {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a time such as 2027-01-31T00:00:00Z, or a span such as 90d, 12h or 30m";
        if let Ok(time) = UnixTime::parse(text) {
            return Ok(Self::At(time));
        }
        let factor = match text.chars().last() {
            Some('d') => 86_400,
            Some('h') => 3600,
            Some('m') => 60,
            Some('s') => 1,
            _ => return Err(EXPECTED),
        };
        let digits = text.trim_end_matches(['d', 'h', 'm', 's']);
        let number: u64 = if digits.len() + 1 == text.len() { digits.parse().map_err(|_| EXPECTED)? } else { return Err(EXPECTED) };
        let seconds = number.checked_mul(factor).filter(|seconds| (1..=LONGEST).contains(seconds));
        seconds.map(Duration::from_secs).map(Self::In).ok_or("expected a hundred years at most")
    }
}

/// A secret, ready to be sealed.
pub(super) struct Encoded {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) kind: CredentialKind,
    pub(super) expires: Option<UnixTime>,
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is no set of variables.
    #[error(transparent)]
    EnvFile(#[from] EnvFileError),
    /// It is no credential.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// Its end has come before it began.
    #[error("{expires} has passed: no guest would use it")]
    Passed {
        /// Its end.
        expires: UnixTime,
    },
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::File(error) => error.into(),
            // As it was before there were kinds.
            SecretError::Credential(CredentialError::Size { limit, found }) => {
                Self::usage(format_args!("the secret has {found} bytes, expected 1 to {limit}"))
            }
            SecretError::EnvFile(_) | SecretError::Credential(_) | SecretError::Passed { .. } => Self::usage(error),
        }
    }
}

impl SecretArguments {
    /// Reads and encodes it.
    pub(super) fn read(&self, console: &mut Console<'_>) -> Result<Encoded, SecretError> {
        let now = clock::now();
        let expires = self.expires.map(|expires| match expires {
            Expires::At(time) => time,
            Expires::In(span) => now.plus(span),
        });
        if let Some(expires) = expires.filter(|expires| *expires <= now) {
            return Err(SecretError::Passed { expires });
        }
        let body = CredentialBody { expires, content: self.content(console)? };
        Ok(Encoded { bytes: body.write()?, kind: body.kind(), expires })
    }

    fn content(&self, console: &mut Console<'_>) -> Result<Content, SecretError> {
        if let Some(path) = &self.env_file {
            let text = files::read_text(path, "a set of variables", limits::SECRET)?;
            return Ok(Content::Variables(read_env_file(&text)?));
        }
        let path = self.from.clone().unwrap_or_else(|| PathBuf::from("-"));
        let value = Secret::new(files::read(&path, "a credential", limits::SECRET)?);
        Ok(match &self.file_name {
            Some(name) => Content::File { name: name.clone(), value },
            None => {
                if value.expose().ends_with(b"\n") {
                    console.warning("the secret ends with a line feed, which is part of it: printf %s \"$KEY\" writes none");
                }
                Content::Opaque(value)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_or_a_span() {
        let span = |seconds| Ok(Expires::In(Duration::from_secs(seconds)));
        assert_eq!("90d".parse(), span(90 * 86_400));
        assert_eq!("12h".parse(), span(43_200));
        assert_eq!("1m".parse(), span(60));
        assert_eq!("2027-01-31T00:00:00Z".parse(), Ok(Expires::At(UnixTime::parse("2027-01-31T00:00:00Z").unwrap())));
        for bad in ["", "d", "0d", "90", "90dd", "-1d", "1.5h", "2027-01-31", "36501d", "99999999999999999999d"] {
            assert!(bad.parse::<Expires>().is_err(), "{bad}");
        }
    }
}
