//! `portcullis certify`: the offline root signs what a broker asks for.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use protocol::documents::{CertificateBody, CertifiedKey};
use protocol::dsse::{DocumentError, SignedDocument};
use protocol::ids::AnchorClass;
use protocol::keys::{PublicKey, SigningKey};
use protocol::limits;

use crate::clock;
use crate::console::Console;
use crate::failure::{Exit, Failure, Outcome};
use crate::files::{self, Access, FileError};
use crate::keys::{self, KeyError, KeyKind, UnlockArguments};

/// Sign a broker's certificate requests with the installation root.
///
/// Runs where the root key is kept; needs no network. The requests are the file that `portcullis-broker init` writes.
/// What is certified is printed: read it before the file leaves this machine. The answer goes back to the broker.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis certify --root-key root.key --requests requests.json --out certificates.json \\
        --days 90")]
pub(crate) struct Certify {
    /// The installation root's secret key
    #[arg(long, value_name = "FILE")]
    root_key: PathBuf,

    /// The broker's requests
    #[arg(long, value_name = "FILE")]
    requests: PathBuf,

    /// Where to write the certificates
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// Certify from now on for this many days, whatever the requests say
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3660))]
    days: Option<u32>,

    #[command(flatten)]
    unlock: UnlockArguments,
}

/// Why nothing is certified.
#[derive(Debug, thiserror::Error)]
enum CertifyError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The root key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Not a list of requests.
    #[error("{path} holds no certificate requests: {what}", path = path.display())]
    Requests {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// For another root.
    #[error("the {purpose} key is requested for installation {found}, this root is {expected}")]
    Installation {
        /// Of which request.
        purpose: &'static str,
        /// This root.
        expected: PublicKey,
        /// What the request names.
        found: PublicKey,
    },
    /// The requests are not of one broker.
    #[error("the requests do not agree on the installation's {what}")]
    Disagree {
        /// On what.
        what: &'static str,
    },
    /// It cannot be signed.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

impl From<CertifyError> for Failure {
    fn from(error: CertifyError) -> Self {
        match error {
            CertifyError::File(error) => error.into(),
            CertifyError::Key(error) => error.into(),
            CertifyError::Requests { .. } => Self::usage(error).hint("give the file that `portcullis-broker init` wrote"),
            CertifyError::Installation { .. } => {
                Self::failed(error).hint("initialise the broker with this root's public key, or use the other root's secret key")
            }
            CertifyError::Disagree { .. } | CertifyError::Document(_) => Self::failed(error),
        }
    }
}

impl Certify {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Outcome {
        files::expect_absent(&self.out)?;
        let mut requests = self.read()?;
        let root = keys::signing_key(&self.root_key, KeyKind::Root, &self.unlock)?;
        check(&requests, root.public())?;
        if let Some(days) = self.days {
            let now = clock::now();
            for request in &mut requests {
                request.not_before = now;
                request.not_after = now.plus(Duration::from_secs(u64::from(days) * 86_400));
            }
        }
        show(&requests, console);
        self.write(&sign(&requests, &root)?)?;
        console.line(format!("\nwritten to {}", self.out.display()));
        Ok(Exit::Done)
    }

    fn read(&self) -> Result<Vec<CertificateBody>, CertifyError> {
        let refuse = |what: String| CertifyError::Requests { path: self.requests.clone(), what };
        let json = files::read(&self.requests, "certificate requests", limits::DOCUMENT)?;
        let requests: Vec<CertificateBody> = serde_json::from_slice(&json).map_err(|error| refuse(error.to_string()))?;
        if requests.is_empty() { Err(refuse("the list is empty".to_owned())) } else { Ok(requests) }
    }

    fn write(&self, certificates: &[SignedDocument]) -> Result<(), CertifyError> {
        let mut json = serde_json::to_vec_pretty(certificates).unwrap_or_default();
        json.push(b'\n');
        Ok(files::write_new(&self.out, Access::Public, &json)?)
    }
}

/// All for this root, and of one installation.
fn check(requests: &[CertificateBody], root: &PublicKey) -> Result<(), CertifyError> {
    if let Some(stray) = requests.iter().find(|request| request.installation != *root) {
        return Err(CertifyError::Installation { purpose: stray.certified.purpose(), expected: *root, found: stray.installation });
    }
    if requests.windows(2).any(|pair| pair[0].name != pair[1].name) {
        return Err(CertifyError::Disagree { what: "name" });
    }
    if requests.windows(2).any(|pair| pair[0].anchors != pair[1].anchors) {
        return Err(CertifyError::Disagree { what: "anchor class" });
    }
    Ok(())
}

fn sign(requests: &[CertificateBody], root: &SigningKey) -> Result<Vec<SignedDocument>, CertifyError> {
    requests.iter().map(|request| Ok(SignedDocument::sign(request, root)?)).collect()
}

fn show(requests: &[CertificateBody], console: &mut Console<'_>) {
    if let Some(first) = requests.first() {
        let fields =
            [("installation", first.name.to_string()), ("root", first.installation.to_string()), ("anchors", first.anchors.to_string())];
        console.fields("", fields);
        if first.anchors == AnchorClass::Test {
            console.warning("TEST ROOTS: this broker trusts soft platforms; it may hold nothing of value");
        }
        console.line("");
    }
    let rows: Vec<Vec<String>> = requests
        .iter()
        .map(|request| {
            let key = match &request.certified {
                CertifiedKey::Identity(key) | CertifiedKey::Log(key) => key.to_string(),
                CertifiedKey::Sealing(key) => format!("x-wing key {}", key.id()),
            };
            vec![request.certified.purpose().to_owned(), request.not_before.to_string(), request.not_after.to_string(), key]
        })
        .collect();
    console.table(&["PURPOSE", "FROM", "UNTIL", "KEY"], &rows);
}
