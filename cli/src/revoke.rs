//! `portcullis revoke`: adds to an authority's one complete list of revocations.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use protocol::documents::{Kind, Revocation, RevocationsBody};
use protocol::dsse::{DocumentError, SignedDocument};
use protocol::ids::{BadId, Name, Version};
use protocol::keys::PublicKey;
use serde_json::json;

use crate::broker::{AdminArguments, Broker, BrokerError};
use crate::console::Console;
use crate::failure::{Exit, Failure, Outcome};
use crate::installation::RootArgument;
use crate::keys::{self, KeyError, KeyKind, UnlockArguments};

/// Revoke a record or an identity: the broker releases it no more
///
/// NAME revokes every version, also later ones; NAME@VERSION that one; of everything that has the name unless --kind says otherwise. What was released before stays released: revoke,
/// then replace the secret where it is used. The authority's current list is fetched, checked, extended, signed and put.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis revoke llama-3-8b@1 --reason 'weights withdrawn' --authority-key authority.key \\
        --root root.pub \\
        --broker https://broker.example.com --token-file token")]
pub(crate) struct Revoke {
    /// NAME or NAME@VERSION
    target: Target,

    /// Only what is of this kind: model, credential, or identity, which is given by the policy of that name
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,

    #[command(flatten)]
    revoke: RevokeArguments,
}

/// Why something is revoked, by whom, and where.
#[derive(Args)]
pub(crate) struct RevokeArguments {
    /// Why, for people: it stands in the list and in `portcullis list`
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,

    /// The secret key of the authority that the record names
    #[arg(long, value_name = "FILE")]
    authority_key: PathBuf,

    /// Print what changed as JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pinned: RootArgument,

    #[command(flatten)]
    unlock: UnlockArguments,

    #[command(flatten)]
    admin: AdminArguments,
}

fn kind(text: &str) -> Result<Kind, String> {
    let kinds = [Kind::Model, Kind::Credential, Kind::Identity];
    kinds.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| "expected model, credential or identity".to_owned())
}

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    kind: Option<Kind>,
    name: Name,
    version: Option<Version>,
}

impl Target {
    /// One version of a credential.
    pub(crate) fn credential(name: &Name, version: Version) -> Self {
        Self { kind: Some(Kind::Credential), name: name.clone(), version: Some(version) }
    }

    /// The same name and version, of this kind.
    pub(crate) fn of(self, kind: Option<Kind>) -> Self {
        Self { kind, ..self }
    }

    /// Whether an entry of a list revokes all that this does.
    fn is_covered_by(&self, entry: &Revocation) -> bool {
        entry.name == self.name
            && (entry.kind.is_none() || entry.kind == self.kind)
            && (entry.version.is_none() || entry.version == self.version)
    }
}

impl FromStr for Target {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        match text.split_once('@') {
            None => Ok(Self { kind: None, name: text.parse()?, version: None }),
            Some((name, version)) => Ok(Self { kind: None, name: name.parse()?, version: Some(version.parse()?) }),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(kind) = self.kind {
            write!(f, "{} ", kind.as_str())?;
        }
        match self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => write!(f, "{} (every version)", self.name),
        }
    }
}

/// Why nothing was revoked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevokeError {
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

/// A list that was put.
pub(crate) struct Revoked {
    before: Option<Version>,
    now: Version,
    revoked: usize,
    /// The index of the log entry about it.
    pub(crate) entry: u64,
}

impl Revoked {
    /// As programs read it.
    pub(crate) fn list(&self) -> serde_json::Value {
        json!({ "before": self.before, "now": self.now, "revoked": self.revoked })
    }
}

impl Revoke {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Outcome {
        self.revoke.run(self.target.of(self.kind), console)
    }
}

impl RevokeArguments {
    /// Revokes one target, and says what changed.
    pub(crate) fn run(self, target: Target, console: &mut Console<'_>) -> Outcome {
        let (as_json, reason) = (self.json, self.reason.clone());
        let Some(done) = self.revoke(std::slice::from_ref(&target))? else {
            console.note(format!("{target} is revoked already; nothing was changed"));
            return Ok(Exit::Done);
        };
        if as_json {
            let Target { kind, name, version } = target;
            let revoked = json!({ "kind": kind, "name": name, "version": version });
            console.json(&json!({ "revoked": revoked, "reason": reason, "list": done.list(), "entry": done.entry }));
            return Ok(Exit::Done);
        }
        let before = done.before.map_or_else(|| "none".to_owned(), |version| version.to_string());
        console.fields(
            "",
            [
                ("revoked", target.to_string()),
                ("reason", reason),
                ("list", format!("{before} -> {}, now {} revoked", done.now, done.revoked)),
                ("log entry", done.entry.to_string()),
            ],
        );
        Ok(Exit::Done)
    }

    pub(crate) fn connect(&self) -> Result<Broker, BrokerError> {
        self.admin.connect()
    }

    /// Extends the authority's list by all of these, in one step; `None` where all are in it.
    pub(crate) fn revoke(self, targets: &[Target]) -> Result<Option<Revoked>, RevokeError> {
        let key = keys::signing_key(&self.authority_key, KeyKind::Authority, &self.unlock)?;
        let broker = self.admin.connect()?;
        let current = current(&broker.revocations()?, &self.pinned.root, key.public())?;
        let before = current.as_ref().map(|list| list.version);
        let mut next = None;
        for target in targets {
            let list = next.clone().or_else(|| current.clone());
            next = extended(list, &self.pinned.root, target, &self.reason)?.or(next);
        }
        let Some(mut next) = next else { return Ok(None) };
        // One list, whatever it grew by.
        if let Some(before) = before {
            next.version = Version::try_from(before.number() + 1)?;
        } else {
            next.version = Version::FIRST;
        }
        let accepted = broker.put_revocations(&SignedDocument::sign(&next, &key)?)?;
        Ok(Some(Revoked { before, now: next.version, revoked: next.revoked.len(), entry: accepted.entry }))
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
            if list.revoked.iter().any(|entry| target.is_covered_by(entry)) {
                return Ok(None);
            }
            RevocationsBody { version: Version::try_from(list.version.number() + 1)?, ..list }
        }
    };
    let Target { kind, name, version } = target.clone();
    list.revoked.push(Revocation { kind, name, version, reason: reason.to_owned() });
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
        assert_eq!(target("a/b@2"), Target { kind: None, name: "a/b".parse().unwrap(), version: Some(Version::try_from(2).unwrap()) });
        assert_eq!(target("a/b").version, None);
        for bad in ["", "@1", "a@", "a@0", "a@1@2", "A"] {
            assert!(bad.parse::<Target>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_next_list_has_all_that_the_last_one_had_and_a_higher_number() {
        let two = list(&["a@1", "b"]).unwrap();
        assert_eq!((two.version.number(), two.revoked.len()), (2, 2));
        let finds = |name: &str, version| two.find(Kind::Model, &name.parse().unwrap(), Version::try_from(version).unwrap()).is_some();
        assert!(finds("a", 1) && !finds("a", 2) && finds("b", 9));
    }

    #[test]
    fn what_is_revoked_already_changes_nothing_but_a_wider_revocation_does() {
        assert_eq!(extended(list(&["a@1"]), &ROOT, &target("a@1"), "again").unwrap(), None);
        assert_eq!(extended(list(&["a"]), &ROOT, &target("a@1"), "again").unwrap(), None);
        assert_eq!(extended(list(&["a@1"]), &ROOT, &target("a"), "all").unwrap().map(|list| list.revoked.len()), Some(2));
        assert_eq!(extended(list(&["a@1"]), &ROOT, &target("a@2"), "too").unwrap().map(|list| list.revoked.len()), Some(2));
        let credential = target("a@1").of(Some(Kind::Credential));
        assert_eq!(extended(list(&["a@1"]), &ROOT, &credential, "again").unwrap(), None, "whatever has the name is revoked already");
        let of_credential = extended(None, &ROOT, &credential, "why").unwrap();
        assert_eq!(extended(of_credential.clone(), &ROOT, &credential, "again").unwrap(), None);
        assert!(extended(of_credential.clone(), &ROOT, &target("a@1").of(Some(Kind::Model)), "too").unwrap().is_some());
        assert!(extended(of_credential, &ROOT, &target("a@1"), "all").unwrap().is_some());
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
