//! `portcullis publish` and `portcullis list`: records at a broker.

use std::path::PathBuf;

use clap::Args;
use protocol::admin::{Accepted, RecordSummary};
use protocol::envelope::RecordFile;
use protocol::limits;

use crate::broker::AdminArguments;
use crate::console::{Console, Tone};
use crate::failure::{Exit, Failure, Outcome};
use crate::files;

/// Publish a record: from then on the broker can release what it holds
///
/// Nothing secret crosses in the clear: the record is sealed to the broker, and signed by its publisher.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis publish llama-3-8b.sealed.record.json --broker https://broker.example.com \\
        --token-file token")]
pub(crate) struct Publish {
    /// The record file, as `seal` or `credential seal` wrote it
    record: PathBuf,

    /// Print the answer as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    admin: AdminArguments,
}

impl Publish {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Outcome {
        let json = files::read(&self.record, "a record file", limits::DOCUMENT)?;
        let record: RecordFile = serde_json::from_slice(&json).map_err(|error| {
            Failure::usage(format_args!("{} is not a record file: {error}", self.record.display()))
                .hint("a record file is what `portcullis seal` writes")
        })?;
        let accepted = self.admin.connect()?.put_record(&record)?;
        print_accepted("published", &accepted, Form::of(self.json), console);
        Ok(Exit::Done)
    }
}

/// For whom something is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Form {
    /// From the flag `--json`.
    pub(crate) const fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// What the broker says about a document that it took.
pub(crate) fn print_accepted(what: &str, accepted: &Accepted, form: Form, console: &mut Console<'_>) {
    match form {
        Form::Json => console.json(accepted),
        Form::Text => console.fields("", [(what, accepted.document.to_string()), ("log entry", accepted.entry.to_string())]),
    }
}

/// List the records that a broker has
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis list --broker https://broker.example.com --token-file token")]
pub(crate) struct List {
    /// Print as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    admin: AdminArguments,
}

impl List {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Outcome {
        let records = self.admin.connect()?.records()?;
        match Form::of(self.json) {
            Form::Json => console.json(&records),
            Form::Text => print_list(&records, console),
        }
        Ok(Exit::Done)
    }
}

fn print_list(records: &[RecordSummary], console: &mut Console<'_>) {
    if records.is_empty() {
        console.note("no records");
        return;
    }
    let rows: Vec<Vec<String>> = records.iter().map(|record| row(record, console)).collect();
    console.table(&["KIND", "NAME", "VERSION", "POLICY", "STATE"], &rows);
}

fn row(record: &RecordSummary, console: &Console<'_>) -> Vec<String> {
    let state = match (&record.revoked, record.policy_present) {
        (Some(reason), _) => console.paint(Tone::Bad, &format!("revoked: {reason}")),
        (None, false) => console.paint(Tone::Warning, "waits for its policy"),
        (None, true) => console.paint(Tone::Good, "ready"),
    };
    vec![record.kind.as_str().to_owned(), record.name.to_string(), record.version.to_string(), record.policy.to_string(), state]
}

#[cfg(test)]
mod tests {
    use protocol::documents::Kind;
    use protocol::ids::{Digest, Version};
    use protocol::keys::PublicKey;

    use super::*;
    use crate::console::Style;

    fn summary(name: &str, policy_present: bool, revoked: Option<&str>) -> RecordSummary {
        RecordSummary {
            kind: Kind::Model,
            name: name.parse().unwrap(),
            version: Version::FIRST,
            policy: "inference".parse().unwrap(),
            policy_present,
            publisher: PublicKey::from_bytes([1; 32]),
            statement: Digest::from([2; 32]),
            manifest: Some(Digest::from([3; 32])),
            revoked: revoked.map(str::to_owned),
        }
    }

    #[test]
    fn a_list_says_which_records_can_be_released_and_why_others_cannot() {
        let records = [summary("ready", true, None), summary("early", false, None), summary("gone", true, Some("leaked"))];
        let mut out = Vec::new();
        print_list(&records, &mut Console::new(&mut out, std::io::sink(), Style::Plain));
        let expected = "\
KIND   NAME   VERSION  POLICY     STATE
model  ready  1        inference  ready
model  early  1        inference  waits for its policy
model  gone   1        inference  revoked: leaked
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
