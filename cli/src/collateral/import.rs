//! `portcullis collateral import`: what was carried, to a broker.

use std::path::PathBuf;

use clap::Args;
use protocol::admin::{CollateralImported, PieceOutcome};
use protocol::dsse::SignedDocument;

use super::export;
use super::forms::{self, Found};
use crate::broker::AdminArguments;
use crate::console::{Console, Tone};
use crate::failure::{Exit, Failure, Outcome};
use crate::keys::UnlockArguments;
use crate::records::Form;

/// Import collateral to a broker: a bundle as it was carried, or files and folders in any form
///
/// A bundle goes to the broker as it is; anything else is signed here first, with --authority-key. The broker verifies every
/// piece under its roots and answers for each. The exit code is 1 where it refused one.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
    portcullis collateral import collateral.json \\
        --broker https://broker.example.com --token-file token
    portcullis collateral import ./from-intel --authority-key authority.key \\
        --broker https://broker.example.com --token-file token")]
pub(crate) struct Import {
    /// A bundle; or files and folders
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// The authority's secret key, to sign what is no bundle
    #[arg(long, value_name = "FILE")]
    authority_key: Option<PathBuf>,

    /// Print the answer as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    unlock: UnlockArguments,

    #[command(flatten)]
    admin: AdminArguments,
}

impl Import {
    pub(super) fn run(self, console: &mut Console<'_>) -> Outcome {
        let signed = self.signed(console)?;
        let imported = self.admin.connect()?.put_collateral(&signed)?;
        match Form::of(self.json) {
            Form::Json => console.json(&imported),
            Form::Text => print(&imported, console),
        }
        let refused = imported.pieces.iter().filter(|piece| piece.refused.is_some()).count();
        if refused == 0 {
            return Ok(Exit::Done);
        }
        Failure::failed(format_args!("the broker refused {refused} of {} pieces", imported.pieces.len())).report(console);
        Ok(Exit::Failed)
    }

    /// The bundle that was carried, or a new one.
    fn signed(&self, console: &mut Console<'_>) -> Result<SignedDocument, Failure> {
        if let Some(key) = &self.authority_key {
            return export::bundle(export::from_files(&self.paths, console)?, key, &self.unlock);
        }
        let Found { mut bundles, .. } = forms::read(&self.paths, None)?;
        match (self.paths.as_slice(), bundles.pop()) {
            ([one], Some(bundle)) if bundle.path == *one => Ok(bundle.signed),
            _ => Err(Failure::usage("this is not one bundle, and nobody signs it")
                .hint("give --authority-key, the key of an authority that the broker's configuration names")),
        }
    }
}

fn print(imported: &CollateralImported, console: &mut Console<'_>) {
    console.fields("", [("imported", imported.document.to_string()), ("log entry", imported.entry.to_string())]);
    console.line("");
    let rows: Vec<Vec<String>> = imported.pieces.iter().map(|piece| row(piece, console)).collect();
    console.table(&["KIND", "SUBJECT", "RESULT"], &rows);
}

fn row(piece: &PieceOutcome, console: &Console<'_>) -> Vec<String> {
    let result = match &piece.refused {
        None => console.paint(Tone::Good, "accepted"),
        Some(reason) => console.paint(Tone::Bad, &format!("refused: {reason}")),
    };
    vec![piece.kind.as_str().to_owned(), piece.subject.clone(), result]
}
