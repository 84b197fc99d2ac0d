//! `portcullis verify`: judges evidence offline, under the vendors' roots or named test roots.
//!
//! It needs no network and no broker, and it releases nothing: what comes out is data.

mod text;
mod verdict;

use std::path::{Path, PathBuf};

use attestation::{Anchors, Collateral, Evidence, GenuineEvidence, Rejected, ReportDataRule, SnpEvidence};
use clap::Args;
use policies::{Policy, PolicyError};
use protocol::ids::AnchorClass;
use protocol::limits;
use protocol::time::UnixTime;

use crate::anchors::{self, AnchorsError};
use crate::console::Console;
use crate::failure::{Failure, Outcome};
use crate::files::{self, FileError};
use crate::pem::{self, Content, PemError};
use crate::{clock, failure::Exit};
use verdict::{PolicyVerdict, Verdict};

/// The largest file of evidence that is read (bytes). Longer than a report with its largest table, so that what is too long is judged, and judged as that.
const EVIDENCE: usize = 1024 * 1024;

/// Judge evidence offline: is it genuine, and what does it say?
///
/// FILE is an AMD SEV-SNP attestation report of 1184 bytes, or a report with the host's certificate table behind it.
/// Every step is listed with what it compared. AMD's root certificates are compiled in, and so are its intermediates
/// (ASK, ASVK): the certificate of the chip (VCEK) or of the cloud provider (VLEK) is what must come with the report.
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
  As of a past day, against a policy, for a program to read:
    portcullis verify report.bin --cert chain.pem --at 2026-03-01T00:00:00Z --policy inference.toml --json")]
pub(crate) struct Verify {
    /// The report, or the report followed by its certificate table; `-` is standard input
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

    /// Judge under these test roots (PEM of self-signed ARKs) instead of the vendor's
    #[arg(long, value_name = "FILE")]
    anchors: Option<PathBuf>,

    /// Judge as of this time; now by default
    #[arg(long, value_name = "RFC3339", value_parser = UnixTime::parse)]
    at: Option<UnixTime>,

    /// The 64 bytes of report data that are expected; not compared by default
    #[arg(long, value_name = "HEX", value_parser = report_data)]
    report_data: Option<[u8; 64]>,

    /// Also ask this policy (TOML); every check is listed
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

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
    /// The roots.
    #[error(transparent)]
    Anchors(#[from] AnchorsError),
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
        let policy = self.policy.as_deref().map(read_policy).transpose()?;
        let at = self.at.unwrap_or_else(clock::now);
        if anchors.class() == AnchorClass::Test {
            console.warning("TEST ROOTS: this verdict says nothing about any real processor");
        }
        let judged = self.judge(&anchors, at)?;
        let verdict = Verdict::new(anchors.class(), at, judged, policy.as_ref());
        if self.json {
            console.json(&verdict);
        } else {
            text::print(&verdict, console);
        }
        Ok(verdict.report(console))
    }

    /// Reads evidence and collateral and judges them.
    fn judge(&self, anchors: &Anchors, at: UnixTime) -> Result<Result<GenuineEvidence, Rejected>, VerifyError> {
        let (report, table) = self.evidence()?;
        let mut certificates = Vec::new();
        for path in &self.certificates {
            certificates.append(&mut pem::read(path, Content::Certificates)?);
        }
        let mut collateral = Collateral::default();
        for path in &self.crls {
            collateral.crls.append(&mut pem::read(path, Content::RevocationLists)?);
        }
        let mut evidence = match SnpEvidence::from_certificate_table(report, &table) {
            Ok(evidence) => evidence,
            Err(rejection) => return Ok(Err(Rejected { rejection, passed: Vec::new() })),
        };
        evidence.certificates.append(&mut certificates);
        let expected = self.report_data.map_or(ReportDataRule::NotCompared, ReportDataRule::Exactly);
        Ok(attestation::judge_with_steps(&Evidence::Snp(evidence), &collateral, anchors, expected, at))
    }

    /// The report and the certificate table beside it, empty where there is none.
    fn evidence(&self) -> Result<(Vec<u8>, Vec<u8>), VerifyError> {
        let bytes = files::read(&self.file, "evidence", EVIDENCE)?;
        let (report, table) = bytes.split_at(bytes.len().min(limits::SNP_REPORT));
        let table = match &self.cert_table {
            None => table.to_vec(),
            Some(_) if !table.is_empty() => return Err(VerifyError::TwoTables { path: self.file.clone() }),
            Some(path) => files::read(path, "a certificate table", EVIDENCE)?.to_vec(),
        };
        Ok((report.to_vec(), table))
    }
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
        }
        for code in &self.reason {
            console.note(format!("reason: {code}"));
        }
        self.exit()
    }
}
