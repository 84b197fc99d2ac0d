//! `portcullis revoke`: adds to an authority's one complete list of revocations.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use protocol::documents::{Revocation, RevocationsBody};
use protocol::dsse::{DocumentError, SignedDocument};
use protocol::ids::{BadId, Name, Version};
use protocol::keys::PublicKey;
use serde_json::json;

use crate::broker::{AdminArguments, BrokerError};
use crate::console::Console;
use crate::failure::{Exit, Failure, Outcome};
use crate::installation::RootArgument;
use crate::keys::{self, KeyError, KeyKind, UnlockArguments};

/// Revoke a record: the broker releases it no more
///
/// NAME revokes every version, also later ones; NAME@VERSION that one. What was released before stays released: revoke,
/// then replace the secret where it is used. The authority's current list is fetched, checked, extended, signed and put.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis revoke llama-3-8b@1 --reason 'weights withdrawn' --authority-key authority.key --root root.pub \\
        --broker https://broker.example.com --token-file token")]
pub(crate) struct Revoke {
    /// NAME or NAME@VERSION
    target: Target,

    /// Why, for people: it stands in the list and in `portcullis list`
    #[arg(long, value_name = "TEXT")]
    reason: String,

    /// The secret key of the authority that the record names
    #[arg(long, value_name = "FILE")]
    authority_key: PathBuf,

    /// Print what changed as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    pinned: RootArgument,

    #[command(flatten)]
    unlock: UnlockArguments,

    #[command(flatten)]
    admin: AdminArguments,
}

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    name: Name,
    version: Option<Version>,
}

impl FromStr for Target {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        match text.split_once('@') {
            None => Ok(Self { name: text.parse()?, version: None }),
            Some((name, version)) => Ok(Self { name: name.parse()?, version: Some(version.parse()?) }),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => write!(f, "{} (every version)", self.name),
        }
    }
}

/// Why nothing was revoked.
#[derive(Debug, thiserror::Error)]
enum RevokeError {
    /// The authority's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The current list is not what its authority signed, or the new one breaks the rules of a list.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The current list is of another installation.
    #[error("the broker's list is for installation {found}, not for {expected}")]
    Installation {
        /// The pinned root.
        expected: PublicKey,
        /// What the list names.
        found: PublicKey,
    },
    /// There is no higher number.
    #[error(transparent)]
    Version(#[from] BadId),
}

impl From<RevokeError> for Failure {
    fn from(error: RevokeError) -> Self {
        match error {
            RevokeError::Key(error) => error.into(),
            RevokeError::Broker(error) => error.into(),
            RevokeError::Installation { .. } => Self::failed(error).hint("is --root the root of this broker's installation?"),
            RevokeError::Document(_) | RevokeError::Version(_) => Self::failed(error),
        }
    }
}

impl Revoke {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Outcome {
        Ok(self.revoke(console)?)
    }

    fn revoke(self, console: &mut Console<'_>) -> Result<Exit, RevokeError> {
        let key = keys::signing_key(&self.authority_key, KeyKind::Authority, &self.unlock)?;
        let broker = self.admin.connect()?;
        let current = current(&broker.revocations()?, &self.pinned.root, key.public())?;
        let before = current.as_ref().map(|list| list.version);
        let Some(next) = extended(current, &self.pinned.root, &self.target, &self.reason)? else {
            console.note(format!("{} is revoked already; nothing was changed", self.target));
            return Ok(Exit::Done);
        };
        let accepted = broker.put_revocations(&SignedDocument::sign(&next, &key)?)?;
        if self.json {
            let (name, version) = (&self.target.name, self.target.version);
            let list = json!({ "before": before, "now": next.version, "revoked": next.revoked.len() });
            console.json(
                &json!({ "revoked": { "name": name, "version": version }, "reason": self.reason, "list": list, "entry": accepted.entry }),
            );
            return Ok(Exit::Done);
        }
        let before = before.map_or_else(|| "none".to_owned(), |version| version.to_string());
        console.fields(
            "",
            [
                ("revoked", self.target.to_string()),
                ("reason", self.reason),
                ("list", format!("{before} -> {}, now {} revoked", next.version, next.revoked.len())),
                ("log entry", accepted.entry.to_string()),
            ],
        );
        Ok(Exit::Done)
    }
}

/// The authority's own list among those that the broker has, checked.
fn current(lists: &[SignedDocument], root: &PublicKey, authority: &PublicKey) -> Result<Option<RevocationsBody>, RevokeError> {
    for signed in lists {
        match signed.authenticate::<RevocationsBody>(&[*authority]) {
            Ok(document) if document.body().installation == *root => return Ok(Some(document.body().clone())),
            Ok(document) => return Err(RevokeError::Installation { expected: *root, found: document.body().installation }),
            Err(DocumentError::UnknownSigner { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// The next list; `None` where the target is in the current one.
fn extended(
    current: Option<RevocationsBody>,
    root: &PublicKey,
    target: &Target,
    reason: &str,
) -> Result<Option<RevocationsBody>, RevokeError> {
    let mut list = match current {
        None => RevocationsBody { installation: *root, version: Version::FIRST, revoked: Vec::new() },
        Some(list) => {
            let covers = |entry: &Revocation| entry.name == target.name && (entry.version.is_none() || entry.version == target.version);
            if list.revoked.iter().any(covers) {
                return Ok(None);
            }
            RevocationsBody { version: Version::try_from(list.version.number() + 1)?, ..list }
        }
    };
    list.revoked.push(Revocation { name: target.name.clone(), version: target.version, reason: reason.to_owned() });
    Ok(Some(list))
}

#[cfg(test)]
mod tests {
    use protocol::keys::SigningKey;

    use super::*;

    const ROOT: PublicKey = PublicKey::from_bytes([1; 32]);

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    fn list(targets: &[&str]) -> Option<RevocationsBody> {
        targets.iter().fold(None, |list, text| extended(list, &ROOT, &target(text), "why").unwrap())
    }

    #[test]
    fn a_target_is_a_name_or_a_name_and_a_version() {
        assert_eq!(target("a/b@2"), Target { name: "a/b".parse().unwrap(), version: Some(Version::try_from(2).unwrap()) });
        assert_eq!(target("a/b").version, None);
        for bad in ["", "@1", "a@", "a@0", "a@1@2", "A"] {
            assert!(bad.parse::<Target>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_next_list_has_all_that_the_last_one_had_and_a_higher_number() {
        let two = list(&["a@1", "b"]).unwrap();
        assert_eq!((two.version.number(), two.revoked.len()), (2, 2));
        assert!(two.find(&"a".parse().unwrap(), Version::FIRST).is_some());
        assert!(two.find(&"a".parse().unwrap(), Version::try_from(2).unwrap()).is_none());
        assert!(two.find(&"b".parse().unwrap(), Version::try_from(9).unwrap()).is_some());
    }

    #[test]
    fn what_is_revoked_already_changes_nothing_but_a_wider_revocation_does() {
        assert_eq!(extended(list(&["a@1"]), &ROOT, &target("a@1"), "again").unwrap(), None);
        assert_eq!(extended(list(&["a"]), &ROOT, &target("a@1"), "again").unwrap(), None);
        assert_eq!(extended(list(&["a@1"]), &ROOT, &target("a"), "all").unwrap().map(|list| list.revoked.len()), Some(2));
        assert_eq!(extended(list(&["a@1"]), &ROOT, &target("a@2"), "too").unwrap().map(|list| list.revoked.len()), Some(2));
    }

    #[test]
    fn only_the_authoritys_own_list_of_this_installation_is_extended() {
        let (own, other) = (SigningKey::from_seed(&[1; 32]).unwrap(), SigningKey::from_seed(&[2; 32]).unwrap());
        let body = list(&["a"]).unwrap();
        let (by_own, by_other) = (SignedDocument::sign(&body, &own).unwrap(), SignedDocument::sign(&body, &other).unwrap());
        assert_eq!(current(&[by_other.clone(), by_own.clone()], &ROOT, own.public()).unwrap(), Some(body.clone()));
        assert_eq!(current(&[by_other], &ROOT, own.public()).unwrap(), None);
        let mut forged = by_own.clone();
        forged.payload = SignedDocument::sign(&list(&["b"]).unwrap(), &other).unwrap().payload;
        assert!(matches!(current(&[forged], &ROOT, own.public()), Err(RevokeError::Document(DocumentError::BadSignature { .. }))));
        let elsewhere = PublicKey::from_bytes([9; 32]);
        assert!(matches!(current(&[by_own], &elsewhere, own.public()), Err(RevokeError::Installation { found: ROOT, .. })));
    }
}
