//! `portcullis collateral`: the vendors' signed statements about their processors, carried to where there is no network.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `forms` | files and folders in, pieces out |
//! | `view` | what is known of each piece, as table and JSON |
//! | `judge` | each piece under the roots, with what lies beside it |
//! | `export`, `import` | to a bundle, to a broker |
//! | `forecast` | which platforms a policy will deny, and when |

mod export;
mod forecast;
pub(crate) mod forms;
mod import;
mod judge;
mod view;

pub(crate) use view::LeftOutView;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::ids::AnchorClass;
use protocol::keys::PublicKey;
use protocol::time::UnixTime;

use crate::anchors;
use crate::clock;
use crate::console::Console;
use crate::failure::{Exit, Failure, Outcome};
use crate::keys;
use crate::records::Form;

/// Carry, check and import vendor collateral
#[derive(Subcommand)]
pub(crate) enum CollateralCommand {
    Export(export::Export),
    Import(import::Import),
    Show(Show),
    Verify(Verify),
    Forecast(forecast::Forecast),
}

impl CollateralCommand {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Outcome {
        match self {
            Self::Export(export) => export.run(console),
            Self::Import(import) => import.run(console),
            Self::Show(show) => show.run(console),
            Self::Verify(verify) => verify.run(console),
            Self::Forecast(forecast) => forecast.run(console),
        }
    }
}

/// Show what files or folders of collateral hold: each piece, and how long it lasts
///
/// Takes bundles, DER and PEM, bodies of Intel's collateral service with their signing chains beside them, the JSON of
/// dcap-qvl, and what Intel's PCS client tool writes. Nothing is verified but the dates; `collateral verify` does that.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
    portcullis collateral show collateral.json --authority authority.pub
    portcullis collateral show ./from-intel ./from-amd --at 2026-12-24 --json")]
pub(crate) struct Show {
    /// Files or folders
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Count days from this day or time (2026-12-24, 2026-12-24T08:00:00Z); now by default
    #[arg(long, value_name = "TIME", value_parser = clock::moment)]
    at: Option<UnixTime>,

    /// The authority that must have signed each bundle: `ed25519:…` or a .pub file
    #[arg(long, value_name = "KEY", value_parser = keys::public_key)]
    authority: Option<PublicKey>,

    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        let found = forms::read(&self.paths, self.authority.as_ref())?;
        let at = self.at.unwrap_or_else(clock::now);
        let view = view::View::dated(&found, at);
        view.print(Form::of(self.json), console);
        Ok(Exit::Done)
    }
}

/// Verify collateral under the vendors' roots, as of a time
///
/// Every piece is judged: signatures, roles and chain up to a root that is compiled in, or named by --anchors, its dates, and
/// whether a revocation list beside it names it. A list whose authority is not at hand is not-judged: a broker may hold that
/// authority, or not.
#[derive(Args)]
#[command(after_long_help = "\
Exit codes:
  0  every piece is genuine and in force, or not-judged, which a note says
  1  a piece is bad, revoked or out of date
  2  wrong use: bad arguments, a file that cannot be read, no collateral at all

Examples:
    portcullis collateral verify collateral.json --authority authority.pub
    portcullis collateral verify ./from-intel --at 2026-12-24T00:00:00Z")]
pub(crate) struct Verify {
    /// Files or folders
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Verify under these test roots (PEM) instead of the vendors'
    #[arg(long, value_name = "FILE")]
    anchors: Option<PathBuf>,

    /// Judge as of this day or time (2026-12-24, 2026-12-24T08:00:00Z); now by default
    #[arg(long, value_name = "TIME", value_parser = clock::moment)]
    at: Option<UnixTime>,

    /// The authority that must have signed each bundle: `ed25519:…` or a .pub file
    #[arg(long, value_name = "KEY", value_parser = keys::public_key)]
    authority: Option<PublicKey>,

    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Verify {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        let anchors = anchors::read(self.anchors.as_deref())?;
        if anchors.class() == AnchorClass::Test {
            console.warning("TEST ROOTS: this says nothing about any real processor");
        }
        let found = forms::read(&self.paths, self.authority.as_ref())?;
        let at = self.at.unwrap_or_else(clock::now);
        let view = view::View::judged(&found, &anchors, at);
        view.print(Form::of(self.json), console);
        let (all, bad, not_judged) = (view.pieces.len(), view.bad(), view.not_judged());
        if not_judged > 0 {
            console.note(format!("{not_judged} of {all} pieces are not judged: nothing here says whether they are genuine"));
        }
        if bad == 0 {
            return Ok(Exit::Done);
        }
        Failure::failed(format_args!("{bad} of {all} pieces are bad or out of date")).report(console);
        Ok(Exit::Failed)
    }
}
