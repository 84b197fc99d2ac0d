//! `portcullis credential`: API credentials as records, with no model beside them: sealed, put, shown, rolled back, revoked.

mod put;
mod rollback;
mod secret;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::documents::Kind;
use protocol::ids::Name;
use serde_json::json;

use crate::console::Console;
use crate::failure::{Exit, Outcome};
use crate::files;
use crate::record::{self, RecordError, ReleaseArguments};
use crate::revoke::{RevokeArguments, Target};
use secret::SecretArguments;

/// Credentials that agents get once they have proven themselves
#[derive(Subcommand)]
pub(crate) enum Credential {
    Put(Box<put::PutCredential>),
    Seal(Box<SealCredential>),
    List(show::ListCredentials),
    Show(show::ShowCredential),
    Rollback(rollback::Rollback),
    Revoke(RevokeCredential),
}

/// Revoke a credential: the broker releases it no more
///
/// NAME revokes every version, also later ones; NAME@VERSION that one. A model or an identity of the same name stays. What was released before
/// stays released: revoke, then replace the secret where it is used.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis credential revoke agents/research/openai@2 --reason 'leaked' \\
        --authority-key authority.key --root root.pub \\
        --broker https://broker.example.com --token-file token")]
pub(crate) struct RevokeCredential {
    /// NAME or NAME@VERSION
    target: Target,

    #[command(flatten)]
    revoke: RevokeArguments,
}

/// Seal a credential to a broker: what comes out is a record file to publish
///
/// The secret is taken as it is, byte for byte; a final line feed is part of it. `put` does this and publishes it at once.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    printf %s \"$API_KEY\" | portcullis credential seal openai/prod --version 1 --secret-file - \\
        --publisher-key publisher.key --policy agents --authority authority.pub \\
        --installation https://broker.example.com --root root.pub --record openai.record.json")]
pub(crate) struct SealCredential {
    /// The credential's name
    name: Name,

    #[command(flatten)]
    secret: SecretArguments,

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
            Self::Put(put) => put.run(console),
            Self::Seal(seal) => seal.run(console),
            Self::List(list) => list.run(console),
            Self::Show(show) => show.run(console),
            Self::Rollback(rollback) => rollback.run(console),
            Self::Revoke(RevokeCredential { target, revoke }) => revoke.run(target.of(Some(Kind::Credential)), console),
        }
    }
}

impl SealCredential {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        files::expect_absent(&self.record)?;
        let prepared = self.release.prepare(console)?;
        let (installation, version) = (prepared.installation().clone(), prepared.version());
        let secret = self.secret.read(console)?;
        let record = prepared.record(Kind::Credential, self.name.clone(), None, &secret.bytes)?;
        record::write(&self.record, &record).map_err(RecordError::from)?;
        let statement = record.statement.digest();
        if self.json {
            console.json(&json!({ "record": self.record, "name": self.name, "version": version, "statement": statement }));
            return Ok(Exit::Done);
        }
        let fields = [
            ("credential", format!("{} version {version}", self.name)),
            ("kind", secret.kind.as_str().to_owned()),
            ("for", format!("installation {installation}")),
            ("statement", statement.to_string()),
            ("record", self.record.display().to_string()),
        ];
        console.fields("", fields.into_iter().chain(secret.expires.map(|expires| ("expires", expires.to_string()))));
        Ok(Exit::Done)
    }
}
