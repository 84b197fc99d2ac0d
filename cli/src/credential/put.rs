//! `portcullis credential put`: a secret becomes a record on this machine, and the record goes to the broker.

use clap::Args;
use protocol::admin::RecordSummary;
use protocol::documents::Kind;
use protocol::ids::{Name, Version};
use serde_json::json;

use super::secret::SecretArguments;
use crate::broker::AdminArguments;
use crate::console::Console;
use crate::failure::{Exit, Failure, Outcome};
use crate::installation::RootArgument;
use crate::record::RuleArguments;

/// Put a credential: sealed here to the broker, signed, and published as the next version
///
/// Guests that follow the credential take the new version when they next ask; those that name a version keep theirs. The older version is
/// released to who names it until it is revoked, so rotation has an overlap: put the new one, wait until all guests have it, make the old secret
/// worthless where it is used, revoke its version.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
    printf %s \"$API_KEY\" | portcullis credential put agents/research/openai --from - --expires 90d \\
        --policy agents/research --authority authority.pub --publisher-key publisher.key \\
        --root root.pub \\
        --broker https://broker.example.com --token-file token
    portcullis credential put agents/research/gcp --from key.json --file-name gcp.json …
    portcullis credential put agents/research/database --env-file database.env …")]
pub(crate) struct PutCredential {
    /// The credential's name
    name: Name,

    #[command(flatten)]
    secret: SecretArguments,

    /// The version [default: the next one that the broker has not]
    #[arg(long, value_name = "N")]
    version: Option<Version>,

    #[command(flatten)]
    rules: RuleArguments,

    #[command(flatten)]
    pinned: RootArgument,

    #[command(flatten)]
    admin: AdminArguments,

    /// Print what was made as JSON
    #[arg(long)]
    json: bool,
}

impl PutCredential {
    pub(super) fn run(self, console: &mut Console<'_>) -> Outcome {
        let secret = self.secret.read(console)?;
        let broker = self.admin.connect()?;
        let version = match self.version {
            Some(version) => version,
            None => next(&broker.records()?, &self.name)?,
        };
        let prepared = self.rules.prepare(console, self.pinned.root, version, &broker.installation()?.certificates)?;
        let installation = prepared.installation().clone();
        let record = prepared.record(Kind::Credential, self.name.clone(), None, &secret.bytes)?;
        let accepted = broker.put_record(&record)?;
        let statement = record.statement.digest();
        if self.json {
            console.json(&json!({
                "name": self.name, "version": version, "kind": secret.kind.as_str(), "expires": secret.expires,
                "statement": statement, "entry": accepted.entry,
            }));
            return Ok(Exit::Done);
        }
        let fields = [
            ("credential", format!("{} version {version}", self.name)),
            ("kind", secret.kind.as_str().to_owned()),
            ("for", format!("installation {installation}")),
            ("statement", statement.to_string()),
            ("log entry", accepted.entry.to_string()),
        ];
        console.fields("", fields.into_iter().chain(secret.expires.map(|expires| ("expires", expires.to_string()))));
        Ok(Exit::Done)
    }
}

/// The version behind the highest.
fn next(records: &[RecordSummary], name: &Name) -> Result<Version, Failure> {
    let own = records.iter().filter(|record| record.kind == Kind::Credential && record.name == *name);
    match own.map(|record| record.version.number()).max() {
        Some(highest) => Version::try_from(highest.saturating_add(1)).map_err(Failure::failed),
        None => Ok(Version::FIRST),
    }
}
