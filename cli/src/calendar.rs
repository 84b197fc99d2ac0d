//! `portcullis calendar`: the TCB baselines that policies with `minimum-tcb = "calendar"` ask for: check a file, sign and put it, get it back.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use protocol::documents::{TcbBaseline, TcbBaselinesBody};
use protocol::dsse::Body as _;
use protocol::ids::{Name, Version};
use protocol::keys::PublicKey;
use protocol::limits;
use serde_json::json;

use crate::console::Console;
use crate::documents::{GetArguments, Named, PutArguments};
use crate::failure::{Exit, Failure, Outcome};
use crate::files::{self, FileError};

/// Check, put and get TCB calendars
#[derive(Subcommand)]
pub(crate) enum CalendarCommand {
    Check(Check),
    Put(Put),
    Get(Get),
}

impl CalendarCommand {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Outcome {
        match self {
            Self::Check(check) => check.run(console),
            Self::Put(put) => put.run(console),
            Self::Get(get) => get.run(console),
        }
    }
}

impl Named for TcbBaselinesBody {
    const WHAT: &'static str = "calendar";
    const PATH: &'static str = "/v1/tcb-baselines";

    fn name(&self) -> &Name {
        &self.name
    }

    fn version(&self) -> Version {
        self.version
    }
}

/// Check that a file holds TCB baselines
///
/// The file is a JSON list, by line (milan, genoa, turin) and in each line by date; each baseline raises the one before:
/// {"product":"genoa","published":"2026-03-10T00:00:00Z","bootloader":10,"tee":0,"snp":23,"microcode":84}.
/// Turin's have "fmc" besides.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis calendar check amd.json")]
pub(crate) struct Check {
    /// The baselines (JSON); `-` is standard input
    file: PathBuf,
}

impl Check {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        let body = read(&self.file, &NOBODY, "check".parse().map_err(Failure::failed)?, Version::FIRST)?;
        console.fields("", [("calendar", self.file.display().to_string()), ("baselines", body.baselines.len().to_string())]);
        Ok(Exit::Done)
    }
}

/// For a file that nobody is about to sign: the rules of baselines read nothing of who they are for.
pub(crate) const NOBODY: PublicKey = PublicKey::from_bytes([0; 32]);

/// Why a file holds no baselines.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CalendarError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is another JSON, or none; or it breaks a rule.
    #[error("{path}: {why}", path = path.display())]
    Baselines {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl From<CalendarError> for Failure {
    fn from(error: CalendarError) -> Self {
        match error {
            CalendarError::File(error) => error.into(),
            CalendarError::Baselines { .. } => Self::failed(error).hint("`portcullis calendar check --help` shows the form"),
        }
    }
}

/// The baselines in a file, whose rules hold, as a calendar of this name.
pub(crate) fn read(path: &Path, installation: &PublicKey, name: Name, version: Version) -> Result<TcbBaselinesBody, CalendarError> {
    let refused = |why: String| CalendarError::Baselines { path: path.to_owned(), why };
    let text = files::read_text(path, "TCB baselines", limits::DOCUMENT)?;
    let baselines = serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
    let body = TcbBaselinesBody { installation: *installation, name, version, baselines };
    body.check().map_err(|why| refused(why.to_owned()))?;
    Ok(body)
}

/// Sign TCB baselines and put them to a broker
///
/// Policies of the same authority that name this calendar obey it from then on. A broker takes only a higher version than it has.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis calendar put amd.json --name amd --version 2 --authority-key authority.key \\
        --root root.pub \\
        --broker https://broker.example.com --token-file token")]
pub(crate) struct Put {
    /// The baselines (JSON)
    file: PathBuf,

    #[command(flatten)]
    put: PutArguments,
}

impl Put {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        let Self { file, put } = self;
        put.put(|root, name, version| Ok(read(&file, &root, name, version)?), console)
    }
}

/// Get a TCB calendar from a broker
///
/// With --baselines the list alone goes to standard output, to be edited and put again. The signature is checked under the
/// authority that --authority names.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
    portcullis calendar get amd --authority authority.pub --broker https://broker.example.com \\
        --token-file token
    portcullis calendar get amd --baselines --broker https://broker.example.com \\
        --token-file token > amd.json")]
pub(crate) struct Get {
    /// Print the baselines alone
    #[arg(long, conflicts_with = "json")]
    baselines: bool,

    #[command(flatten)]
    get: GetArguments,
}

impl Get {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        let received = self.get.get::<TcbBaselinesBody>()?;
        let TcbBaselinesBody { name, version, baselines, .. } = &received.body;
        if self.baselines {
            received.warn(console);
            console.json(baselines);
        } else if self.get.json {
            received.warn(console);
            let (digest, authority) = (received.signed.digest(), received.signer);
            console.json(&json!({ "name": name, "version": version, "document": digest, "authority": authority, "baselines": baselines }));
        } else {
            received.print(console);
            baselines.iter().for_each(|baseline| print(baseline, console));
        }
        Ok(Exit::Done)
    }
}

fn print(baseline: &TcbBaseline, console: &mut Console<'_>) {
    let TcbBaseline { product, published, fmc, bootloader, tee, snp, microcode } = baseline;
    let fmc = fmc.map_or_else(String::new, |fmc| format!("fmc {fmc} "));
    let product = product.as_str();
    console.line(format!("{product:<6} {published}  {fmc}bootloader {bootloader} tee {tee} snp {snp} microcode {microcode}"));
}
