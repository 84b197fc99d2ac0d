//! `portcullis credential seal`: an API credential as a record, with no model beside it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::documents::Kind;
use protocol::ids::Name;
use protocol::limits;
use serde_json::json;

use crate::console::Console;
use crate::failure::{Exit, Outcome};
use crate::files;
use crate::record::{self, RecordError, ReleaseArguments};

/// Seal API credentials that agents get once they have proven themselves
#[derive(Subcommand)]
pub(crate) enum Credential {
    Seal(SealCredential),
}

/// Seal a credential to a broker: what comes out is a record file to publish.
///
/// The secret is taken as it is, byte for byte; a final line feed is part of it.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    printf %s \"$API_KEY\" | portcullis credential seal openai/prod --version 1 --secret-file - \\
        --publisher-key publisher.key --policy agents --authority authority.pub \\
        --installation https://broker.example.com --root root.pub --record openai.record.json")]
pub(crate) struct SealCredential {
    /// The credential's name
    name: Name,

    /// The file that holds the secret; `-` is standard input
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,

    /// Where to write the record
    #[arg(long, value_name = "FILE")]
    record: PathBuf,

    /// Print what was made as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    release: ReleaseArguments,
}

impl Credential {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Outcome {
        match self {
            Self::Seal(seal) => seal.run(console),
        }
    }
}

impl SealCredential {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        files::expect_absent(&self.record)?;
        let prepared = self.release.prepare(console)?;
        let (installation, version) = (prepared.installation().clone(), prepared.version());
        let secret = files::read(&self.secret_file, "a credential", limits::SECRET)?;
        let record = prepared.record(Kind::Credential, self.name.clone(), None, &secret)?;
        record::write(&self.record, &record).map_err(RecordError::from)?;
        let statement = record.statement.digest();
        if self.json {
            console.json(&json!({ "record": self.record, "name": self.name, "version": version, "statement": statement }));
            return Ok(Exit::Done);
        }
        console.fields(
            "",
            [
                ("credential", format!("{} version {version}", self.name)),
                ("for", format!("installation {installation}")),
                ("statement", statement.to_string()),
                ("record", self.record.display().to_string()),
            ],
        );
        Ok(Exit::Done)
    }
}
