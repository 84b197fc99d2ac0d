//! `portcullis identity`: what a broker's issuer publishes, under the pinned root: shown, and written as the files of a web server.
//!
//! Whoever checks identities believes these files, and they carry no signature of their own. So they come signed by the broker, whose
//! identity the root has certified, and an older bundle never takes the place of a newer.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use protocol::ids::AnchorClass;
use protocol::limits;
use protocol::spiffe::published::{Published, PublishedError};
use protocol::spiffe::{Bundle, BundleError};
use protocol::tokens::{Algorithm, Jwk};
use serde::Serialize;

use crate::broker::BrokerArguments;
use crate::clock;
use crate::console::{Console, Tone};
use crate::failure::{Exit, Failure, Outcome};
use crate::files::{self, FileError};
use crate::installation::RootArgument;
use crate::records::Form;

/// Show and export what a broker's issuer of identities publishes
#[derive(Subcommand)]
pub(crate) enum IdentityCommand {
    Show(Show),
    Export(Export),
}

impl IdentityCommand {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Outcome {
        match self {
            Self::Show(show) => show.run(console),
            Self::Export(export) => export.run(console),
        }
    }
}

/// Whose, and where.
#[derive(Args)]
struct Source {
    #[command(flatten)]
    broker: BrokerArguments,

    #[command(flatten)]
    pinned: RootArgument,
}

impl Source {
    fn fetch(&self) -> Result<Published, Failure> {
        Ok(self.broker.connect()?.published_identity()?.open(&self.pinned.root, clock::now())?)
    }
}

/// Show the trust domain, the issuer, and their keys
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis identity show --broker https://broker.example.com --root root.pub")]
pub(crate) struct Show {
    /// Print as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    source: Source,
}

/// What `show` prints as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    trust_domain: String,
    anchors: AnchorClass,
    issuer: Option<&'a str>,
    sequence: u64,
    x509_authorities: usize,
    keys: Vec<ShownKey<'a>>,
}

/// One key for tokens.
#[derive(Serialize)]
struct ShownKey<'a> {
    kid: &'a str,
    alg: &'static str,
    signs: &'static str,
}

impl Show {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        let published = self.source.fetch()?;
        let body = published.body();
        let svids = published.bundle().jwt_authorities().iter().map(|key| shown(key, "JWT-SVIDs"));
        let keys = svids.chain(published.results().keys().iter().map(|key| shown(key, "attestation results")));
        let shown = Shown {
            trust_domain: body.trust_domain.to_string(),
            anchors: body.anchors,
            issuer: body.federation.as_ref().map(|federation| federation.issuer.as_str()),
            sequence: published.bundle().sequence(),
            x509_authorities: published.bundle().x509_authorities().len(),
            keys: keys.collect(),
        };
        match Form::of(self.json) {
            Form::Json => console.json(&shown),
            Form::Text => print(&shown, console),
        }
        Ok(Exit::Done)
    }
}

fn shown<'a>(key: &'a Jwk, signs: &'static str) -> ShownKey<'a> {
    ShownKey { kid: key.kid().unwrap_or_default(), alg: key.algorithm().map_or("any", Algorithm::as_str), signs }
}

fn print(shown: &Shown<'_>, console: &mut Console<'_>) {
    let anchors = match shown.anchors {
        AnchorClass::Vendor => "vendor".to_owned(),
        AnchorClass::Test => console.paint(Tone::Warning, "TEST ROOTS"),
    };
    let mut fields = vec![
        ("trust domain", shown.trust_domain.clone()),
        ("anchors", anchors),
        ("issuer", shown.issuer.unwrap_or("none: no federation with clouds").to_owned()),
        ("sequence", shown.sequence.to_string()),
        ("X.509 authorities", shown.x509_authorities.to_string()),
    ];
    fields.extend(shown.keys.iter().map(|key| (key.signs, format!("{} {}", key.alg, key.kid))));
    console.fields("", fields);
}

/// Write what others check identities by as the files of a web server
///
/// The files are what the broker serves itself, at the same paths below DIR: .well-known/openid-configuration and identity/jwks for clouds
/// (DIR is then the issuer's URL), identity/bundle for other trust domains, identity/results/jwks for relying parties. Export again
/// whenever keys rotate, twice in each overlap: with that of 7 days, which a broker has by default, every day is plenty.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis identity export --out /var/www/id --broker https://broker.example.com --root root.pub")]
pub(crate) struct Export {
    /// The folder to write below; it is made where it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    #[command(flatten)]
    source: Source,
}

impl Export {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        let published = self.source.fetch()?;
        export(&published, &self.out)?;
        let body = published.body();
        console.fields(
            "",
            [
                ("trust domain", body.trust_domain.to_string()),
                ("issuer", body.federation.as_ref().map_or("none", |federation| &federation.issuer).to_owned()),
                ("sequence", published.bundle().sequence().to_string()),
                ("written to", self.out.display().to_string()),
            ],
        );
        if body.anchors == AnchorClass::Test {
            console.note("this installation judges evidence under TEST roots: no cloud and nobody else should believe it");
        }
        Ok(Exit::Done)
    }
}

/// Where things lie below the issuer's URL.
const BUNDLE: &str = "identity/bundle";
const RESULTS: &str = "identity/results/jwks";
const JWKS: &str = "identity/jwks";
const DISCOVERY: &str = ".well-known/openid-configuration";

/// Each file is whole or as it was; the discovery document, which leads to the keys, comes last.
fn export(published: &Published, out: &Path) -> Result<(), ExportError> {
    let body = published.body();
    let bundle = out.join(BUNDLE);
    if bundle.exists() {
        let before = files::read(&bundle, "a SPIFFE bundle", limits::SPIFFE_BUNDLE)?;
        let before = Bundle::parse(&body.trust_domain, &before).map_err(|error| ExportError::Before { path: bundle.clone(), error })?;
        published.bundle().follows(&before)?;
    }
    let mut texts = vec![(BUNDLE, &body.bundle), (RESULTS, &body.results)];
    texts.extend(body.federation.iter().flat_map(|federation| [(JWKS, &federation.jwks), (DISCOVERY, &federation.discovery)]));
    for (place, text) in texts {
        let path = out.join(place);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| FileError::Write { path: folder.to_owned(), error })?;
        }
        files::replace(&path, text.as_bytes())?;
    }
    Ok(())
}

/// Why nothing, or not all, was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is there is no bundle of this trust domain.
    #[error("{path} holds something else: {error}", path = path.display())]
    Before {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: BundleError,
    },
    /// What is there is newer.
    #[error("what is there already is not older: {0}")]
    Older(#[from] BundleError),
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::File(error) => error.into(),
            ExportError::Before { .. } => Self::usage(error).hint("export into a folder of its own"),
            ExportError::Older(_) => Self::failed(error).hint("was an older state of the broker put back? ask its operator"),
        }
    }
}

impl From<PublishedError> for Failure {
    fn from(error: PublishedError) -> Self {
        let hint = match error {
            PublishedError::Stale { .. } => "compare this machine's clock with the broker's",
            PublishedError::Certificate(_) | PublishedError::Document(_) | PublishedError::Installation { .. } => {
                "is --root the root of this installation? ask its operator by another way than the broker itself"
            }
            PublishedError::Bundle(_) | PublishedError::KeySet(_) => "is the broker of another version than this program?",
        };
        Self::failed(error).hint(hint)
    }
}
