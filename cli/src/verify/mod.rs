//! `portcullis verify`: judges evidence offline, under the vendors' roots or named test roots.
//!
//! It needs no network and no broker, and it releases nothing: what comes out is data.

mod recognised;
mod tdx;
mod text;
mod verdict;

use std::path::{Path, PathBuf};

use attestation::{
    Anchors, Collateral, Evidence, GenuineEvidence, Lapsed, PreparedCollateral, Rejected, ReportDataRule, SnpEvidence, TdxEvidence,
    VcekName, forms,
};
use clap::Args;
use policies::{Calendar, Policy, PolicyError};
use protocol::ids::{AnchorClass, Version};
use protocol::limits;
use protocol::time::UnixTime;

use crate::anchors::{self, AnchorsError};
use crate::calendar::{self, CalendarError};
use crate::collateral::LeftOutView;
use crate::collateral::forms::{self as collateral, FormsError};
use crate::console::Console;
use crate::failure::{Failure, Outcome};
use crate::files::{self, FileError};
use crate::pem::{self, Content, PemError};
use crate::{clock, failure::Exit};
use recognised::Recognised;
use verdict::{Asked, PolicyVerdict, Verdict};

/// The largest file of evidence that is read (bytes). Longer than a report with its largest table, so that what is too long is judged, and judged as that.
const EVIDENCE: usize = 1024 * 1024;

/// Judge evidence offline: is it genuine, and what does it say?
///
/// FILE is an AMD SEV-SNP attestation report of 1184 bytes, or a report with the host's certificate table behind it; or an
/// Intel TDX quote of version 4 or 5. Every step is listed with what it compared. The vendors' root certificates are compiled
/// in, and so are AMD's intermediates (ASK, ASVK). A report needs the certificate of the chip (VCEK) or of the cloud provider
/// (VLEK); a quote brings its own, and needs Intel's collateral.
#[derive(Args)]
#[command(after_long_help = "\
Exit codes:
  0  genuine, and permitted where a policy is given
  1  rejected: not genuine, not well formed, expired or revoked
  2  wrong use: bad arguments, a file that cannot be read
  3  denied: genuine, and the policy says no

Examples:
  A report with its chip's certificate:
    portcullis verify report.bin --cert vcek.der
  With the host's certificate table and AMD's revocation list:
    portcullis verify report.bin --cert-table table.bin --crl milan.crl
  A TDX quote with its event log, and collateral as it was fetched or carried:
    portcullis verify quote.bin --collateral ./from-intel --event-log ccel.bin
  As of a past day, against a policy, for a program to read:
    portcullis verify report.bin --cert chain.pem --at 2026-03-01 --policy inference.toml --json
  Against a policy whose minimum TCB moves with a calendar:
    portcullis verify report.bin --cert vcek.der --crl milan.crl \\
        --policy inference.toml --calendar amd.json")]
pub(crate) struct Verify {
    /// The report, or the report followed by its certificate table; or the quote; `-` is standard input
    file: PathBuf,

    /// A certificate that came with the evidence, DER or PEM; a PEM file may hold several
    #[arg(long = "cert", value_name = "FILE")]
    certificates: Vec<PathBuf>,

    /// The host's certificate table (auxblob), where it lies in a file of its own
    #[arg(long, value_name = "FILE")]
    cert_table: Option<PathBuf>,

    /// A revocation list of AMD's, DER or PEM; without one, revocation is unknown
    #[arg(long = "crl", value_name = "FILE")]
    crls: Vec<PathBuf>,

    /// Collateral: a file or folder in any form that `collateral show` reads
    #[arg(long = "collateral", value_name = "PATH")]
    collateral: Vec<PathBuf>,

    /// The event log (CCEL) that came with a quote
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,

    /// Judge under these test roots (PEM of self-signed ARKs, or of an Intel SGX Root CA) instead of the vendors'
    #[arg(long, value_name = "FILE")]
    anchors: Option<PathBuf>,

    /// Judge as of this day or time (2026-12-24, 2026-12-24T08:00:00Z); now by default
    #[arg(long, value_name = "TIME", value_parser = clock::moment)]
    at: Option<UnixTime>,

    /// The 64 bytes of report data that are expected; not compared by default
    #[arg(long, value_name = "HEX", value_parser = report_data)]
    report_data: Option<[u8; 64]>,

    /// Also ask this policy (TOML); every check is listed
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// The TCB calendar that the policy names: the baselines, as `calendar put` takes them
    #[arg(long, value_name = "FILE", requires = "policy")]
    calendar: Option<PathBuf>,

    /// Print the verdict, steps, claims and checks as JSON
    #[arg(long)]
    json: bool,
}

fn report_data(text: &str) -> Result<[u8; 64], String> {
    let digits = text.to_ascii_lowercase();
    protocol::encoding::from_hex(&digits)
        .ok_or_else(|| format!("expected 128 hex digits (64 bytes), found {} characters", text.chars().count()))
}

/// Why nothing could be judged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of certificates or revocation lists.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Two certificate tables.
    #[error("{path} is longer than a report, so a certificate table follows it, and --cert-table names another", path = path.display())]
    TwoTables {
        /// The evidence.
        path: PathBuf,
    },
    /// Collateral.
    #[error(transparent)]
    Forms(#[from] FormsError),
    /// Evidence in another dress or of another kind than any that is judged here.
    #[error("{path} is {what}", path = path.display())]
    NotBytes {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: Recognised,
    },
    /// An argument for another kind of evidence.
    #[error("{path} is {what}; {argument} goes with {other}", path = path.display())]
    OtherKind {
        /// The evidence.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// The argument.
        argument: &'static str,
        /// What that goes with.
        other: &'static str,
    },
    /// The roots.
    #[error(transparent)]
    Anchors(#[from] AnchorsError),
    /// A calendar that is none.
    #[error(transparent)]
    Calendar(#[from] CalendarError),
    /// A calendar that the policy does not ask for.
    #[error("{policy} names no TCB calendar, and --calendar brings one", policy = policy.display())]
    NoCalendar {
        /// The file of the policy.
        policy: PathBuf,
    },
    /// A policy that is none.
    #[error("{path}: {error}", path = path.display())]
    Policy {
        /// The file of the policy.
        path: PathBuf,
        /// What is wrong with it, and where.
        error: Box<PolicyError>,
    },
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::File(error) => error.into(),
            VerifyError::Pem(error) => error.into(),
            VerifyError::Anchors(error) => error.into(),
            VerifyError::Forms(error) => error.into(),
            VerifyError::NotBytes { what, .. } => Self::usage(error).hint(what.hint()),
            VerifyError::OtherKind { .. } | VerifyError::NoCalendar { .. } => Self::usage(error),
            VerifyError::Calendar(CalendarError::File(error)) => error.into(),
            VerifyError::Calendar(_) => Self::usage(error).hint("`portcullis calendar check --help` shows the form"),
            VerifyError::Policy { error: ref inner, .. } => {
                let hint = inner.hint();
                Self::usage(error).hint(hint)
            }
            VerifyError::TwoTables { .. } => Self::usage(error).hint("a report alone has exactly 1184 bytes"),
        }
    }
}

impl Verify {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Outcome {
        let anchors = anchors::read(self.anchors.as_deref())?;
        let asked = self.policy.as_deref().map(|path| self.asked(path)).transpose()?;
        let at = self.at.unwrap_or_else(clock::now);
        if anchors.class() == AnchorClass::Test {
            console.warning("TEST ROOTS: this verdict says nothing about any real processor");
        }
        // Without a policy nobody says how old collateral may be: it has to be in force.
        let lapsed = if asked.is_some() { Lapsed::Claimed } else { Lapsed::Rejected };
        let (collateral, left_out) = self.collateral()?;
        let judged = self.judge(collateral, &anchors, lapsed, at)?;
        let verdict = Verdict::new(anchors.class(), at, judged, asked.as_ref()).with_left_out(left_out);
        verdict.left_out.iter().for_each(|left| left.print(console));
        if self.json {
            console.json(&verdict);
        } else {
            text::print(&verdict, console);
        }
        Ok(verdict.report(console))
    }

    /// The policy that is asked too, with its calendar where one is brought.
    fn asked(&self, path: &Path) -> Result<Asked, VerifyError> {
        let policy = read_policy(path)?;
        let calendar = match (&self.calendar, policy.calendar()) {
            (None, _) => None,
            (Some(_), None) => return Err(VerifyError::NoCalendar { policy: path.to_owned() }),
            // The file has no name of its own: it is meant as the one that the policy names.
            (Some(file), Some(name)) => {
                let body = calendar::read(file, &calendar::NOBODY, name.clone(), Version::FIRST)?;
                let refused = |why: &str| CalendarError::Baselines { path: file.clone(), why: why.to_owned() };
                Some(Calendar::of_anybody(&body).map_err(refused)?)
            }
        };
        Ok(Asked { policy, calendar })
    }

    /// Reads evidence and collateral and judges them.
    fn judge(
        &self,
        mut collateral: Collateral,
        anchors: &Anchors,
        lapsed: Lapsed,
        at: UnixTime,
    ) -> Result<Result<GenuineEvidence, Rejected>, VerifyError> {
        let bytes = files::read(&self.file, "evidence", EVIDENCE)?;
        if let Some(what) = recognised::of(&bytes) {
            return Err(VerifyError::NotBytes { path: self.file.clone(), what });
        }
        let evidence = if is_td_quote(&bytes) {
            Evidence::Tdx(self.quote(bytes.to_vec())?)
        } else {
            match self.report(&bytes, &mut collateral)? {
                Ok(report) => Evidence::Snp(report),
                Err(rejected) => return Ok(Err(rejected)),
            }
        };
        let expected = self.report_data.map_or(ReportDataRule::NotCompared, ReportDataRule::Exactly);
        let prepared = PreparedCollateral::prepare(collateral, anchors);
        Ok(attestation::judge_with_steps(&evidence, &prepared, anchors, expected, lapsed, at))
    }

    /// The collateral, and what of its files gave none.
    fn collateral(&self) -> Result<(Collateral, Vec<LeftOutView>), VerifyError> {
        let found = collateral::read(&self.collateral, None)?;
        let mut collateral = forms::collateral(&found.pieces);
        for path in &self.crls {
            collateral.crls.append(&mut pem::read(path, Content::RevocationLists)?);
        }
        Ok((collateral, found.left_out.iter().map(LeftOutView::of).collect()))
    }

    /// A TD quote and its event log.
    fn quote(&self, quote: Vec<u8>) -> Result<TdxEvidence, VerifyError> {
        let snp =
            [("--cert", !self.certificates.is_empty()), ("--cert-table", self.cert_table.is_some()), ("--crl", !self.crls.is_empty())];
        if let Some((argument, _)) = snp.into_iter().find(|(_, given)| *given) {
            return Err(VerifyError::OtherKind { path: self.file.clone(), what: "a TD quote", argument, other: "an SNP report" });
        }
        let log = self.event_log.as_deref().map(|path| files::read(path, "an event log", EVIDENCE)).transpose()?;
        Ok(TdxEvidence { quote, event_log: log.map(|log| log.to_vec()) })
    }

    /// An SNP report, and the certificates that came with it or that the collateral has for it.
    fn report(&self, bytes: &[u8], collateral: &mut Collateral) -> Result<Result<SnpEvidence, Rejected>, VerifyError> {
        if self.event_log.is_some() {
            let (what, argument, other) = ("no TD quote", "--event-log", "a TD quote");
            return Err(VerifyError::OtherKind { path: self.file.clone(), what, argument, other });
        }
        let (report, table) = bytes.split_at(bytes.len().min(limits::SNP_REPORT));
        let table = match &self.cert_table {
            None => table.to_vec(),
            Some(_) if !table.is_empty() => return Err(VerifyError::TwoTables { path: self.file.clone() }),
            Some(path) => files::read(path, "a certificate table", EVIDENCE)?.to_vec(),
        };
        let mut certificates = Vec::new();
        for path in &self.certificates {
            certificates.append(&mut pem::read(path, Content::Certificates)?);
        }
        let mut evidence = match SnpEvidence::from_certificate_table(report.to_vec(), &table) {
            Ok(evidence) => evidence,
            Err(rejection) => return Ok(Err(Rejected { rejection, passed: Vec::new() })),
        };
        evidence.certificates.append(&mut certificates);
        // A bundle may hold the certificates of many chips: only this one's goes in.
        let (leaves, authorities): (Vec<_>, Vec<_>) = collateral.certificates.drain(..).partition(|der| forms::is_of_a_chip(der));
        collateral.certificates = authorities;
        let chip = VcekName::of_report(report);
        evidence.certificates.extend(leaves.into_iter().filter(|der| chip.is_none_or(|chip| chip.is_of(der))).take(LEAVES));
        Ok(Ok(evidence))
    }
}

/// Certificates of chips that are tried where the report does not name its chip.
const LEAVES: usize = limits::CERTIFICATES / 2;

/// Whether bytes begin as a TD quote: version 4 or 5, a key type, TEE type 0x81. A report's version has four bytes, of which the key type
/// would be the upper two, and they are zero.
fn is_td_quote(bytes: &[u8]) -> bool {
    matches!(bytes, [4 | 5, 0, low, high, 0x81, 0, 0, 0, ..] if (*low, *high) != (0, 0))
}

fn read_policy(path: &Path) -> Result<Policy, VerifyError> {
    let text = files::read_text(path, "a policy", limits::DOCUMENT)?;
    Policy::parse(&text).map_err(|error| VerifyError::Policy { path: path.to_owned(), error: Box::new(error) })
}

impl Verdict {
    /// Says on standard error why the answer is no; ends the command.
    fn report(&self, console: &mut Console<'_>) -> Exit {
        if let Some(rejection) = &self.rejection {
            Failure::failed(format!("rejected at step {}: {}", rejection.step, rejection.detail)).report(console);
            if let Some(hint) = verdict::hint(rejection.code) {
                console.hint(hint);
            }
        } else if self.policy.as_ref().is_some_and(PolicyVerdict::is_denied) {
            Failure::failed("denied by the policy").report(console);
        } else if self.policy.is_none() && self.revocation_is_unknown() {
            console.note("revocation is unknown: no list that is about this chain was given; --crl or --collateral takes AMD's");
        }
        for code in &self.reason {
            console.note(format!("reason: {code}"));
        }
        self.exit()
    }
}
