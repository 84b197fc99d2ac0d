//! `portcullis collateral export`: one signed file to carry.

use std::path::PathBuf;

use clap::Args;
use protocol::admin::RefusedPiece;
use protocol::collateral::{CollateralBundleBody, CollateralPiece};
use protocol::dsse::SignedDocument;
use protocol::ids::Digest;
use protocol::limits;
use serde::Serialize;

use super::forms;
use super::view::LeftOutView;
use crate::broker::MaybeAdminArguments;
use crate::clock;
use crate::console::Console;
use crate::failure::{Exit, Failure, Outcome};
use crate::files::{self, Access};
use crate::keys::{self, KeyKind, UnlockArguments};
use crate::records::Form;
use crate::size;

/// Put collateral into one signed bundle, to be carried to where there is no network
///
/// The pieces come from files and folders (--from), or from a broker that has a network. The signature says who carried
/// them; every piece is verified under the vendors' roots when it is imported, whoever carried it.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  What a connected broker has:
    portcullis collateral export --out collateral.json --authority-key authority.key \\
        --broker https://broker.example.com --token-file token
  Folders that other tools wrote:
    portcullis collateral export --from ./from-intel --from platform_collaterals.json \\
        --out collateral.json --authority-key authority.key")]
pub(crate) struct Export {
    /// A file or folder of collateral, in any form
    #[arg(long = "from", value_name = "PATH")]
    from: Vec<PathBuf>,

    /// Where to write the bundle; `-` is standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// The secret key of an authority that the brokers know
    #[arg(long, value_name = "FILE")]
    authority_key: PathBuf,

    /// Print what was written as JSON; nothing is, where the bundle itself goes to standard output
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    unlock: UnlockArguments,

    #[command(flatten)]
    admin: MaybeAdminArguments,
}

#[derive(Serialize)]
struct Exported {
    file: String,
    document: Digest,
    pieces: usize,
    bytes: usize,
}

impl Export {
    pub(super) fn run(self, console: &mut Console<'_>) -> Outcome {
        let to_standard_output = files::is_standard_stream(&self.out);
        if !to_standard_output {
            files::expect_absent(&self.out)?;
        }
        let pieces = if self.from.is_empty() { self.held(console)? } else { from_files(&self.from, console)? };
        let signed = bundle(pieces, &self.authority_key, &self.unlock)?;
        let pieces = CollateralBundleBody::of_anybody(&signed).map_or(0, |body| body.pieces.len());
        let mut json = signed.to_json();
        json.push(b'\n');
        if to_standard_output {
            // The bundle, and nothing beside it.
            console.line(String::from_utf8_lossy(json.trim_ascii_end()));
            return Ok(Exit::Done);
        }
        files::write_new(&self.out, Access::Public, &json)?;
        let exported = Exported { file: self.out.display().to_string(), document: signed.digest(), pieces, bytes: json.len() };
        match Form::of(self.json) {
            Form::Json => console.json(&exported),
            Form::Text => {
                let what = format!("{}, {}", size::count(pieces, "piece"), size::bytes(json.len() as u64));
                console.fields("", [("bundle", exported.file), ("document", exported.document.to_string()), ("holds", what)]);
            }
        }
        Ok(Exit::Done)
    }

    /// What a broker has.
    fn held(&self, console: &mut Console<'_>) -> Result<Vec<CollateralPiece>, Failure> {
        let held = self.admin.connect()?.collateral()?;
        if held.left_out > 0 {
            let left_out = size::count(usize::try_from(held.left_out).unwrap_or(usize::MAX), "certificate");
            console.warning(&format!("the broker has more than one answer may hold; {left_out} of chips left out"));
        }
        for RefusedPiece { subject, origin, why, at, .. } in &held.refused {
            console.note(format!("not held: {subject}, {origin} at {at}: {why}"));
        }
        if held.pieces.is_empty() {
            return Err(Failure::failed("the broker has no collateral"));
        }
        Ok(held.pieces)
    }
}

/// The pieces of files and folders.
pub(super) fn from_files(paths: &[PathBuf], console: &mut Console<'_>) -> Result<Vec<CollateralPiece>, Failure> {
    let found = forms::read(paths, None)?;
    found.left_out.iter().for_each(|left| LeftOutView::of(left).print(console));
    Ok(found.pieces)
}

/// Signs a bundle of now.
pub(super) fn bundle(pieces: Vec<CollateralPiece>, key: &std::path::Path, unlock: &UnlockArguments) -> Result<SignedDocument, Failure> {
    let key = keys::signing_key(key, KeyKind::Authority, unlock)?;
    let signed = SignedDocument::sign(&CollateralBundleBody { created: clock::now(), pieces }, &key).map_err(Failure::failed)?;
    if signed.to_json().len() > limits::COLLATERAL_BUNDLE {
        return Err(Failure::failed(format_args!("the bundle would have more than {} bytes", limits::COLLATERAL_BUNDLE))
            .hint("put the certificates of fewer chips into one bundle"));
    }
    Ok(signed)
}
