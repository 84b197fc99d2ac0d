//! What the command asks of a broker, over HTTP.

use std::path::{Path, PathBuf};

use clap::Args;
use connection::{Client, Endpoint, HttpError, PlainHttp, Reply};
use protocol::admin::{Accepted, CollateralForecast, CollateralHeld, CollateralImported, Explanation, RecordSummary};
use protocol::dsse::SignedDocument;
use protocol::envelope::RecordFile;
use protocol::ids::{DecisionId, Name};
use protocol::log::tiles::TilePath;
use protocol::messages::{InstallationAnswer, Problem};
use protocol::spiffe::published::PublishedAnswer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::documents::Named;
use crate::failure::Failure;
use crate::files::{self, FileError};

/// The largest token file (bytes).
const TOKEN: usize = 4096;

/// How to reach a broker.
#[derive(Args)]
pub(crate) struct BrokerArguments {
    /// The broker's URL
    #[arg(long, value_name = "URL", env = "PORTCULLIS_BROKER")]
    broker: String,

    #[command(flatten)]
    transport: TransportArguments,
}

/// How to speak to it.
#[derive(Args)]
pub(crate) struct TransportArguments {
    /// Certificates of the authorities that may vouch for the broker's host (PEM) in place of the web's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Speak plain HTTP to other hosts than this one
    #[arg(long)]
    allow_plain_http: bool,
}

/// How to reach a broker as its administrator.
#[derive(Args)]
pub(crate) struct AdminArguments {
    #[command(flatten)]
    broker: BrokerArguments,

    /// The file that holds the administrative token
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_TOKEN_FILE")]
    token_file: PathBuf,
}

/// How to reach a broker as its administrator, for a command that can do without.
#[derive(Args)]
pub(crate) struct MaybeAdminArguments {
    /// The broker's URL
    #[arg(long, value_name = "URL", env = "PORTCULLIS_BROKER")]
    broker: Option<String>,

    #[command(flatten)]
    transport: TransportArguments,

    /// The file that holds the administrative token
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

impl BrokerArguments {
    pub(crate) fn connect(&self) -> Result<Broker, BrokerError> {
        self.transport.connect(&self.broker)
    }
}

impl TransportArguments {
    pub(crate) fn connect(&self, url: &str) -> Result<Broker, BrokerError> {
        let mut endpoint = Endpoint::new(url);
        endpoint.ca_file.clone_from(&self.ca);
        endpoint.plain_http = if self.allow_plain_http { PlainHttp::Anywhere } else { PlainHttp::LoopbackOnly };
        Ok(Broker { client: Client::new(&endpoint)?, token: None })
    }
}

impl AdminArguments {
    pub(crate) fn connect(&self) -> Result<Broker, BrokerError> {
        Ok(Broker { token: Some(token(&self.token_file)?), ..self.broker.connect()? })
    }
}

impl MaybeAdminArguments {
    pub(crate) fn connect(&self) -> Result<Broker, BrokerError> {
        let url = self.broker.as_deref().ok_or(BrokerError::NotNamed { argument: "--broker" })?;
        let file = self.token_file.as_deref().ok_or(BrokerError::NotNamed { argument: "--token-file" })?;
        Ok(Broker { token: Some(token(file)?), ..self.transport.connect(url)? })
    }
}

fn token(path: &Path) -> Result<Zeroizing<String>, BrokerError> {
    let token = files::read_text(path, "a token", TOKEN)?;
    let token = Zeroizing::new(token.trim().to_owned());
    if token.is_empty() { Err(BrokerError::EmptyToken { path: path.to_owned() }) } else { Ok(token) }
}

/// One broker, and the right to administer it where there is a token.
pub(crate) struct Broker {
    client: Client,
    token: Option<Zeroizing<String>>,
}

impl Broker {
    /// The certified keys.
    pub(crate) fn installation(&self) -> Result<InstallationAnswer, BrokerError> {
        self.get("/v1/installation")
    }

    /// What its issuer of identities publishes.
    pub(crate) fn published_identity(&self) -> Result<PublishedAnswer, BrokerError> {
        self.get("/v1/identity")
    }

    pub(crate) fn put_record(&self, record: &RecordFile) -> Result<Accepted, BrokerError> {
        self.put("/v1/records", record)
    }

    pub(crate) fn records(&self) -> Result<Vec<RecordSummary>, BrokerError> {
        self.get("/v1/records")
    }

    pub(crate) fn put_document<B: Named>(&self, document: &SignedDocument) -> Result<Accepted, BrokerError> {
        self.put(B::PATH, document)
    }

    pub(crate) fn document<B: Named>(&self, name: &Name) -> Result<SignedDocument, BrokerError> {
        self.get(&format!("{}/{name}", B::PATH))
    }

    pub(crate) fn put_revocations(&self, revocations: &SignedDocument) -> Result<Accepted, BrokerError> {
        self.put("/v1/revocations", revocations)
    }

    /// The current lists, one an authority.
    pub(crate) fn revocations(&self) -> Result<Vec<SignedDocument>, BrokerError> {
        self.get("/v1/revocations")
    }

    pub(crate) fn decision(&self, id: &DecisionId) -> Result<Explanation, BrokerError> {
        self.get(&format!("/v1/decisions/{id}"))
    }

    pub(crate) fn put_collateral(&self, bundle: &SignedDocument) -> Result<CollateralImported, BrokerError> {
        self.put("/v1/collateral", bundle)
    }

    /// The collateral that it holds.
    pub(crate) fn collateral(&self) -> Result<CollateralHeld, BrokerError> {
        self.get("/v1/collateral")
    }

    pub(crate) fn forecast(&self) -> Result<CollateralForecast, BrokerError> {
        self.get("/v1/collateral/forecast")
    }

    /// The latest checkpoint, a signed note.
    pub(crate) fn checkpoint(&self) -> Result<String, BrokerError> {
        let reply = expect_success(self.client.get("/log/checkpoint", None)?)?;
        String::from_utf8(reply.body).map_err(|_| BrokerError::Answer { what: "the checkpoint is not text".to_owned() })
    }

    /// A tile or bundle; `None` where the broker has none at this path.
    pub(crate) fn tile(&self, path: &TilePath) -> Result<Option<Vec<u8>>, BrokerError> {
        let reply = self.client.get(&format!("/log/{path}"), None)?;
        if reply.status == 404 { Ok(None) } else { Ok(Some(expect_success(reply)?.body)) }
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, BrokerError> {
        answer(self.client.get(path, self.bearer())?)
    }

    fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, BrokerError> {
        let body = serde_json::to_vec(body).map_err(|error| BrokerError::Answer { what: error.to_string() })?;
        answer(self.client.put(path, body, self.bearer())?)
    }

    fn bearer(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.as_str())
    }
}

fn answer<T: DeserializeOwned>(reply: Reply) -> Result<T, BrokerError> {
    let reply = expect_success(reply)?;
    serde_json::from_slice(&reply.body).map_err(|error| BrokerError::Answer { what: error.to_string() })
}

/// The reply, or what its problem document says.
fn expect_success(reply: Reply) -> Result<Reply, BrokerError> {
    if reply.is_success() {
        return Ok(reply);
    }
    let is_problem = reply.content_type.as_deref() == Some(Problem::MEDIA_TYPE);
    match serde_json::from_slice::<Problem>(&reply.body) {
        Ok(problem) if is_problem => Err(BrokerError::Refused(Box::new(problem))),
        _ => Err(BrokerError::Status { status: reply.status }),
    }
}

/// Why a broker did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokerError {
    /// The token cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The token file is empty.
    #[error("{path} holds no token", path = path.display())]
    EmptyToken { path: PathBuf },
    /// Neither argument nor environment says it.
    #[error("this needs {argument}, or --from")]
    NotNamed { argument: &'static str },
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A no, with its reason.
    #[error("the broker refused ({code}): {title}{detail}", code = .0.code, title = .0.title, detail = .0.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default())]
    Refused(Box<Problem>),
    /// An answer without a reason.
    #[error("the answer has HTTP status {status} and no reason")]
    Status { status: u16 },
    /// Not what a broker answers.
    #[error("the answer is not a broker's: {what}")]
    Answer { what: String },
}

impl BrokerError {
    /// Whether the broker says that there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.status == 404) || matches!(self, Self::Status { status: 404 })
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::File(error) => error.into(),
            BrokerError::EmptyToken { .. } | BrokerError::NotNamed { .. } => Self::usage(error),
            BrokerError::Http(
                ref inner @ (HttpError::Url { .. } | HttpError::PlainHttp { .. } | HttpError::CaFile { .. } | HttpError::Token),
            ) => {
                let hint = if matches!(inner, HttpError::PlainHttp { .. }) { "use https, or --allow-plain-http" } else { inner.hint() };
                Self::usage(error).hint(hint)
            }
            BrokerError::Http(HttpError::Unreachable { .. } | HttpError::TimedOut { .. }) => {
                Self::failed(error).hint("is the broker running, and does the network let this machine reach it?")
            }
            BrokerError::Http(ref inner) => {
                let hint = inner.hint();
                Self::failed(error).hint(hint)
            }
            BrokerError::Refused(ref problem) => {
                let hint = match (&problem.hint, problem.status) {
                    (Some(hint), _) => Some(hint.clone()),
                    (None, 401) => Some("the token is not one that this broker knows; see --token-file".to_owned()),
                    _ => None,
                };
                let failure = Self::failed(error);
                match hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
            BrokerError::Status { .. } | BrokerError::Answer { .. } => {
                Self::failed(error).hint("does the URL lead to a broker, and to this version of it?")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, content_type: &str, body: &str) -> Reply {
        Reply { status, body: body.into(), retry_after: None, content_type: Some(content_type.to_owned()) }
    }

    #[test]
    fn a_refusal_says_the_brokers_reason_and_a_strange_answer_says_its_status() {
        let mut problem = Problem::new(409, "version-not-higher", "the version is not higher");
        problem.detail = Some("found 1, have 2".to_owned());
        let body = serde_json::to_string(&problem).unwrap();
        let refused = expect_success(reply(409, Problem::MEDIA_TYPE, &body)).unwrap_err();
        assert_eq!(refused.to_string(), "the broker refused (version-not-higher): the version is not higher: found 1, have 2");
        assert!(!refused.is_not_found());
        let strange = expect_success(reply(502, "text/html", "<html>")).unwrap_err();
        assert_eq!(strange.to_string(), "the answer has HTTP status 502 and no reason");
        assert!(expect_success(reply(404, "text/plain", "")).unwrap_err().is_not_found());
        assert!(expect_success(reply(200, "application/json", "{}")).is_ok());
    }

    #[test]
    fn a_body_that_is_no_answer_is_refused_strictly() {
        let summaries: Result<Vec<RecordSummary>, _> = answer(reply(200, "application/json", "[{\"name\":\"a\"}]"));
        assert!(matches!(summaries, Err(BrokerError::Answer { .. })));
        let empty: Vec<RecordSummary> = answer(reply(200, "application/json", "[]")).unwrap();
        assert!(empty.is_empty());
    }
}
