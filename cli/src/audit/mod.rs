//! `portcullis audit`: reads a broker's log and believes nothing that its key has not signed and its tree does not hold.

mod entries;
mod log;
mod proof;
mod walk;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use protocol::limits;
use protocol::log::checkpoint::VerifiedCheckpoint;
use protocol::time::UnixTime;
use serde_json::json;

use crate::broker::BrokerArguments;
use crate::clock;
use crate::console::{Console, Tone};
use crate::failure::{Exit, Failure, Outcome};
use crate::files::{self, Access};
use crate::installation::{RootArgument, log_certificates};
use crate::records::Form;
use crate::size;
use log::{Log, LogReadError};
use proof::ProofFile;
use walk::{Audit, AuditError};

/// Audit the broker's log
#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    Verify(Verify),
    Tail(Tail),
    Prove(Prove),
    CheckProof(CheckProof),
}

impl AuditCommand {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Outcome {
        match self {
            Self::Verify(verify) => verify.run(console),
            Self::Tail(tail) => tail.run(console),
            Self::Prove(prove) => prove.run(console),
            Self::CheckProof(check) => check.run(console),
        }
    }
}

/// Whose log, and where.
#[derive(Args)]
struct LogArguments {
    #[command(flatten)]
    pinned: RootArgument,

    #[command(flatten)]
    broker: BrokerArguments,
}

impl LogArguments {
    /// Connects, and finds the log's keys under the pinned root.
    fn open(&self) -> Result<Log<crate::broker::Broker>, Failure> {
        let broker = self.broker.connect()?;
        let certificates = log_certificates(&broker.installation()?.certificates, &self.pinned.root, clock::now())?;
        Ok(Log::new(broker, self.pinned.root, &certificates)?)
    }
}

/// Read the whole log and check it
///
/// Checks the checkpoint's signature under the certified log key, recomputes the root from every entry, compares every
/// published tile, reads each entry, and, with --state, that the log has only grown since the checkpoint that was kept.
/// A log that passes has this one history; keep the state file elsewhere than the broker, or it proves nothing.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis audit verify --broker https://broker.example.com --root root.pub \\
        --state broker.checkpoint")]
pub(crate) struct Verify {
    /// The checkpoint of the last audit: read, compared, and replaced once all is well
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,

    /// Print as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    log: LogArguments,
}

impl Verify {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        let log = self.log.open()?;
        let kept = match &self.state {
            Some(path) => read_state(path, &log)?,
            None => None,
        };
        let (note, checkpoint) = log.checkpoint()?;
        let audit = walk::walk(&log, &checkpoint, kept.as_ref())?;
        if let Some(path) = &self.state {
            files::replace(path, note.as_bytes())?;
        }
        match Form::of(self.json) {
            Form::Json => console.json(&json!({
                "log": checkpoint.origin().as_str(), "size": checkpoint.size(), "root": checkpoint.root(),
                "kept": kept.as_ref().map(VerifiedCheckpoint::size), "entries": audit,
            })),
            Form::Text => print_audit(&checkpoint, kept.as_ref(), &audit, console),
        }
        if kept.is_none() {
            console.hint("that this is the log's only history shows with --state FILE, from one audit to the next");
        }
        Ok(Exit::Done)
    }
}

/// The checkpoint that was kept; `None` before the first audit.
fn read_state(path: &Path, log: &Log<crate::broker::Broker>) -> Result<Option<VerifiedCheckpoint>, Failure> {
    if !path.exists() {
        return Ok(None);
    }
    let note = files::read_text(path, "a checkpoint", limits::LOG_CHECKPOINT)?;
    let kept = log.verify_checkpoint(&note).map_err(|error| {
        Failure::failed(format_args!("{}: {error}", path.display()))
            .hint("this file should hold the checkpoint of an earlier audit of this log")
    })?;
    Ok(Some(kept))
}

fn print_audit(checkpoint: &VerifiedCheckpoint, kept: Option<&VerifiedCheckpoint>, audit: &Audit, console: &mut Console<'_>) {
    let growth = match kept {
        Some(kept) => format!("{} entries at the last audit, all still there", kept.size()),
        None => "no earlier checkpoint was kept".to_owned(),
    };
    let mut fields = vec![
        ("log", checkpoint.origin().to_string()),
        ("entries", format!("{}, every one read", checkpoint.size())),
        ("root", checkpoint.root().to_string()),
        ("history", growth),
    ];
    fields.extend(audit.first.zip(audit.last).map(|(first, last)| ("from", format!("{first} until {last}"))));
    fields.extend([
        ("decisions", format!("{}: {} permitted, {} refused", size::count(audit.decisions, "request"), audit.permitted, audit.refused)),
        ("rejections", size::count(usize::try_from(audit.rejected).unwrap_or(usize::MAX), "request")),
        ("documents", size::count(audit.documents, "change")),
        ("starts", audit.starts.to_string()),
    ]);
    console.fields("", fields);
    let verdict = console.paint(Tone::Good, "the log is whole");
    console.line(format!("\n{verdict}"));
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Read(error) => error.into(),
            AuditError::Shrunk { .. } | AuditError::Rewritten { .. } => Self::failed(error).hint(
                "keep both checkpoints, the one in the state file and the broker's: each is signed, and together they prove that the log was rewritten or its store rolled back",
            ),
            other => Self::failed(other).hint("the log's store was changed, or the broker shows a damaged copy"),
        }
    }
}

/// Show the last entries of the log
///
/// Each entry that is shown is proven to be in the tree that the checkpoint names.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis audit tail --lines 20 --follow --broker https://broker.example.com --root root.pub")]
pub(crate) struct Tail {
    /// How many entries
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    lines: u64,

    /// Go on with new entries as they come
    #[arg(long, short)]
    follow: bool,

    /// Print as JSON, one entry a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    log: LogArguments,
}

/// How often a followed log is asked for more.
const INTERVAL: Duration = Duration::from_secs(2);

impl Tail {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        let log = self.log.open()?;
        let (_, mut checkpoint) = log.checkpoint()?;
        let mut shown = checkpoint.size().saturating_sub(self.lines);
        loop {
            for (index, entry) in log.entries(shown..checkpoint.size(), &checkpoint)? {
                entries::print(index, &entry, Form::of(self.json), console);
            }
            shown = checkpoint.size();
            console.flush();
            if !self.follow || console.is_broken() {
                return Ok(Exit::Done);
            }
            std::thread::sleep(INTERVAL);
            let (_, next) = log.checkpoint()?;
            log.check_growth(&checkpoint, &next)?;
            checkpoint = next;
        }
    }
}

/// Prove that an entry is in the log
///
/// The file holds the entry, its tlog-proof with the signed checkpoint, and the certificate of the log's key: whoever
/// knows the root checks it offline with `audit check-proof`.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis audit prove 1234 --out entry-1234.proof.json --broker https://broker.example.com \\
        --root root.pub")]
pub(crate) struct Prove {
    /// The entry's index
    index: u64,

    /// Where to write the proof
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    #[command(flatten)]
    log: LogArguments,
}

impl Prove {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        files::expect_absent(&self.out)?;
        let log = self.log.open()?;
        let (note, checkpoint) = log.checkpoint()?;
        let receipt = log.receipt(self.index, &note, &checkpoint)?;
        let file = ProofFile { certificate: log.certificate_of(&receipt)?, receipt };
        // What is handed out is what the receiver will accept.
        let proven = file.check(&self.log.pinned.root, clock::now())?;
        let mut json = serde_json::to_vec_pretty(&file).unwrap_or_default();
        json.push(b'\n');
        files::write_new(&self.out, Access::Public, &json)?;
        proven.print(Form::Text, console);
        Ok(Exit::Done)
    }
}

/// Check a proof that `audit prove` made, offline
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis audit check-proof entry-1234.proof.json --root root.pub")]
pub(crate) struct CheckProof {
    /// The proof
    file: PathBuf,

    /// Check the certificate of the log's key as of this time; now by default
    #[arg(long, value_name = "RFC3339", value_parser = UnixTime::parse)]
    at: Option<UnixTime>,

    /// Print as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    pinned: RootArgument,
}

impl CheckProof {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        let json = files::read(&self.file, "a proof", limits::LOG_PROOF + limits::DOCUMENT)?;
        let file: ProofFile = serde_json::from_slice(&json).map_err(|error| {
            Failure::usage(format_args!("{} is not a proof: {error}", self.file.display()))
                .hint("give the file that `portcullis audit prove` wrote")
        })?;
        let proven = file.check(&self.pinned.root, self.at.unwrap_or_else(clock::now))?;
        proven.print(Form::of(self.json), console);
        Ok(Exit::Done)
    }
}

impl From<LogReadError> for Failure {
    fn from(error: LogReadError) -> Self {
        match error {
            LogReadError::Broker(error) => error.into(),
            LogReadError::Index { .. } => Self::usage(error),
            LogReadError::Growth(_) => Self::failed(error).hint("run `portcullis audit verify` with a kept checkpoint"),
            other => Self::failed(other),
        }
    }
}

#[cfg(test)]
mod tests;
