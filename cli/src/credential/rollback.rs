//! `portcullis credential rollback`: back to an earlier version, by revoking every later one.
//!
//! No secret is needed and none is moved: the earlier version is in the broker still, and of a credential guests get the newest version
//! that is not revoked. A version that was rolled back is never current again; its successor is put as a new version.

use clap::Args;
use protocol::admin::RecordSummary;
use protocol::documents::Kind;
use protocol::ids::{Name, Version};
use serde_json::json;

use super::show::current;
use crate::console::Console;
use crate::failure::{Exit, Failure, Outcome};
use crate::revoke::{RevokeArguments, Target};

/// Go back to an earlier version of a credential, by revoking every later one
///
/// Guests take the earlier version when they next ask. The secret of that version must still be good where it is used.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis credential rollback agents/research/openai --reason 'the new key lacks a scope' \\
        --authority-key authority.key \\
        --root root.pub --broker https://broker.example.com --token-file token")]
pub(crate) struct Rollback {
    /// The credential's name
    name: Name,

    /// The version to go back to [default: the one before the current]
    #[arg(long, value_name = "N")]
    to: Option<Version>,

    #[command(flatten)]
    revoke: RevokeArguments,
}

/// Why there is nothing to go back to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum RollbackError {
    /// No such version.
    #[error("the broker has no version {version} of {name}")]
    NoSuchVersion {
        /// The credential.
        name: Name,
        /// What was asked for.
        version: Version,
    },
    /// It is revoked itself.
    #[error("version {version} of {name} is revoked")]
    Revoked {
        /// The credential.
        name: Name,
        /// What was asked for.
        version: Version,
    },
    /// There is no earlier one.
    #[error("{name} has no earlier version that is not revoked")]
    NoEarlier {
        /// The credential.
        name: Name,
    },
}

impl Rollback {
    pub(super) fn run(self, console: &mut Console<'_>) -> Outcome {
        let records = self.revoke.connect()?.records()?;
        let (to, later) = plan(&records, &self.name, self.to).map_err(|error| {
            Failure::failed(error).hint("portcullis credential show NAME lists its versions; credential put makes a new one")
        })?;
        if later.is_empty() {
            console.note(format!("version {to} of {} is the current one; nothing was changed", self.name));
            return Ok(Exit::Done);
        }
        let targets: Vec<Target> = later.iter().map(|version| Target::credential(&self.name, *version)).collect();
        let (json, reason) = (self.revoke.json, self.revoke.reason.clone());
        let Some(done) = self.revoke.revoke(&targets)? else {
            console.note("every later version is revoked already; nothing was changed");
            return Ok(Exit::Done);
        };
        if json {
            console.json(
                &json!({ "name": self.name, "version": to, "revoked": later, "reason": reason, "list": done.list(), "entry": done.entry }),
            );
            return Ok(Exit::Done);
        }
        let revoked: Vec<String> = later.iter().map(ToString::to_string).collect();
        console.fields(
            "",
            [
                ("credential", self.name.to_string()),
                ("guests get", format!("version {to}")),
                ("revoked", format!("version {}", revoked.join(", "))),
                ("reason", reason),
                ("log entry", done.entry.to_string()),
            ],
        );
        Ok(Exit::Done)
    }
}

/// The version to go back to, and the later ones that are to be revoked.
fn plan(records: &[RecordSummary], name: &Name, to: Option<Version>) -> Result<(Version, Vec<Version>), RollbackError> {
    let own = || records.iter().filter(|record| record.kind == Kind::Credential && record.name == *name);
    let mut valid: Vec<Version> = own().filter(|record| record.revoked.is_none()).map(|record| record.version).collect();
    valid.sort_unstable();
    let to = match to {
        Some(version) if valid.contains(&version) => version,
        Some(version) if own().any(|record| record.version == version) => {
            return Err(RollbackError::Revoked { name: name.clone(), version });
        }
        Some(version) => return Err(RollbackError::NoSuchVersion { name: name.clone(), version }),
        None => {
            let current = current(records, name);
            let earlier = valid.iter().copied().filter(|version| Some(*version) < current).max();
            earlier.ok_or_else(|| RollbackError::NoEarlier { name: name.clone() })?
        }
    };
    Ok((to, valid.into_iter().filter(|version| *version > to).collect()))
}

#[cfg(test)]
mod tests {
    use protocol::ids::Digest;
    use protocol::keys::PublicKey;

    use super::*;

    fn record(number: u64, revoked: Option<&str>) -> RecordSummary {
        RecordSummary {
            kind: Kind::Credential,
            name: "acme/openai".parse().unwrap(),
            version: version(number),
            policy: "agents".parse().unwrap(),
            policy_present: true,
            publisher: PublicKey::from_bytes([1; 32]),
            statement: Digest::from([2; 32]),
            manifest: None,
            revoked: revoked.map(str::to_owned),
        }
    }

    fn version(number: u64) -> Version {
        Version::try_from(number).unwrap()
    }

    #[test]
    fn later_versions_are_revoked_and_the_earlier_one_is_there_still() {
        let name: Name = "acme/openai".parse().unwrap();
        let mut records = vec![record(1, None), record(2, Some("leaked")), record(3, None), record(4, None)];
        let planned = |records: &[RecordSummary], to: Option<u64>| plan(records, &name, to.map(version));
        assert_eq!(planned(&records, None), Ok((version(3), vec![version(4)])));
        assert_eq!(planned(&records, Some(1)), Ok((version(1), vec![version(3), version(4)])));
        assert_eq!(planned(&records, Some(4)), Ok((version(4), vec![])));
        assert_eq!(planned(&records, Some(2)), Err(RollbackError::Revoked { name: name.clone(), version: version(2) }));
        assert_eq!(planned(&records, Some(5)), Err(RollbackError::NoSuchVersion { name: name.clone(), version: version(5) }));
        records.truncate(2);
        assert_eq!(planned(&records, None), Err(RollbackError::NoEarlier { name: name.clone() }));
        // A model of the same name is another thing.
        records.push(RecordSummary { kind: Kind::Model, ..record(9, None) });
        assert_eq!(planned(&records, None), Err(RollbackError::NoEarlier { name: name.clone() }));
    }
}
