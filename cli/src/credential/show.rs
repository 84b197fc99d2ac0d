//! `portcullis credential list` and `show`: which versions a broker has, and which one guests get. What a credential holds and until when
//! it may be used is sealed: neither the broker nor its administrator can tell.

use clap::Args;
use protocol::admin::RecordSummary;
use protocol::documents::Kind;
use protocol::ids::{Name, Version};

use crate::broker::AdminArguments;
use crate::console::{Console, Tone};
use crate::failure::{Exit, Failure, Outcome};

/// List the credentials that a broker has
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis credential list --broker https://broker.example.com --token-file token")]
pub(crate) struct ListCredentials {
    /// Print as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    admin: AdminArguments,
}

/// Show the versions of one credential, and which of them guests get
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis credential show agents/research/openai --broker https://broker.example.com \\
        --token-file token")]
pub(crate) struct ShowCredential {
    /// The credential's name
    name: Name,

    /// Print as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    admin: AdminArguments,
}

impl ListCredentials {
    pub(super) fn run(self, console: &mut Console<'_>) -> Outcome {
        let mut records = self.admin.connect()?.records()?;
        records.retain(|record| record.kind == Kind::Credential);
        if self.json {
            console.json(&records);
        } else if records.is_empty() {
            console.note("no credentials");
        } else {
            let rows: Vec<Vec<String>> = records.iter().map(|record| row(record, current(&records, &record.name), console)).collect();
            console.table(&["NAME", "VERSION", "POLICY", "STATE"], &rows);
        }
        Ok(Exit::Done)
    }
}

impl ShowCredential {
    pub(super) fn run(self, console: &mut Console<'_>) -> Outcome {
        let mut records = self.admin.connect()?.records()?;
        records.retain(|record| record.kind == Kind::Credential && record.name == self.name);
        if records.is_empty() {
            return Err(Failure::failed(format_args!("the broker has no credential {}", self.name)));
        }
        records.sort_by_key(|record| record.version);
        if self.json {
            console.json(&records);
            return Ok(Exit::Done);
        }
        let current = current(&records, &self.name);
        let released = current.map_or_else(|| "none: every version is revoked".to_owned(), |version| format!("version {version}"));
        console.fields("", [("credential", self.name.to_string()), ("guests get", released)]);
        for record in &records {
            console.line("");
            console.fields("", fields(record, current, console));
        }
        Ok(Exit::Done)
    }
}

fn fields(record: &RecordSummary, current: Option<Version>, console: &Console<'_>) -> [(&'static str, String); 5] {
    [
        ("version", record.version.to_string()),
        ("state", state(record, current, console)),
        ("policy", record.policy.to_string()),
        ("publisher", record.publisher.to_string()),
        ("statement", record.statement.to_string()),
    ]
}

/// The version that guests get who name none: the newest that is not revoked.
pub(super) fn current(records: &[RecordSummary], name: &Name) -> Option<Version> {
    let own = records.iter().filter(|record| record.kind == Kind::Credential && record.name == *name && record.revoked.is_none());
    own.map(|record| record.version).max()
}

fn row(record: &RecordSummary, current: Option<Version>, console: &Console<'_>) -> Vec<String> {
    vec![record.name.to_string(), record.version.to_string(), record.policy.to_string(), state(record, current, console)]
}

fn state(record: &RecordSummary, current: Option<Version>, console: &Console<'_>) -> String {
    match (&record.revoked, record.policy_present) {
        (Some(reason), _) => console.paint(Tone::Bad, &format!("revoked: {reason}")),
        (None, false) => console.paint(Tone::Warning, "waits for its policy"),
        (None, true) if current == Some(record.version) => console.paint(Tone::Good, "current"),
        (None, true) => "released to who names it".to_owned(),
    }
}
