//! The way to a broker: HTTP over TLS, with limits on size and time. It decides nothing about trust: what comes back is
//! signed and sealed, or refused, by whoever reads it.
//!
//! The calls block; each client drives its connections on a runtime of its own. Redirects are not followed and no proxy
//! is taken from the environment: a measured configuration names the one place that is asked.

use std::error::Error;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Connections;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use protocol::limits::REPLY_BODY;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

/// How long one call may take, from name lookup to the last byte.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may have been idle to be used again. Nobody listens on it between calls, so that it would not be noticed that the other
/// side has closed it, as brokers do after ten seconds.
const IDLE: Duration = Duration::from_secs(5);
/// The longest wait that a server may ask for: one that asks for more is taken to ask for this.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);

/// Where plain HTTP is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlainHttp {
    /// To this machine only.
    #[default]
    LoopbackOnly,
    /// To any host. What is asked for, and by whom, is then readable on the way; nothing that is released is.
    Anywhere,
}

/// Where a broker is.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `https://HOST[:PORT][/PREFIX]`, or `http://` as [`PlainHttp`] allows.
    pub url: String,
    /// Certificates of the authorities that may vouch for the host, PEM. `None`: those of the web (Mozilla's list, compiled in).
    pub ca_file: Option<PathBuf>,
    /// Where plain HTTP is spoken.
    pub plain_http: PlainHttp,
    /// How long one call may take.
    pub timeout: Duration,
}

impl Endpoint {
    /// At `url`, with the web's authorities, plain HTTP on loopback only, and [`TIMEOUT`].
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), ca_file: None, plain_http: PlainHttp::LoopbackOnly, timeout: TIMEOUT }
    }
}

/// What a server answered, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body, at most [`REPLY_BODY`] bytes.
    pub body: Vec<u8>,
    /// How long the server asks to be left alone: `Retry-After` in seconds, at most [`LONGEST_RETRY_AFTER`].
    pub retry_after: Option<Duration>,
    /// The media type, without parameters.
    pub content_type: Option<String>,
}

impl Reply {
    /// Whether the status is 200 to 299.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }
}

/// A client of one endpoint. It keeps connections open between calls.
pub struct Client {
    runtime: tokio::runtime::Runtime,
    pool: Pool<Full<Bytes>>,
    base: String,
    timeout: Duration,
}

impl Client {
    /// For `endpoint`. Nothing is connected yet.
    ///
    /// # Errors
    /// [`HttpError::Url`], [`HttpError::PlainHttp`], [`HttpError::CaFile`], [`HttpError::Runtime`].
    pub fn new(endpoint: &Endpoint) -> Result<Self, HttpError> {
        let base = base(endpoint)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| HttpError::Runtime(error.to_string()))?;
        let pool = pool(endpoint.ca_file.as_deref())?;
        Ok(Self { runtime, pool, base, timeout: endpoint.timeout })
    }

    /// `GET`. `path` begins with `/`.
    ///
    /// # Errors
    /// [`HttpError`], where there is no answer to speak of; an answer of any status is a [`Reply`].
    pub fn get(&self, path: &str, bearer: Option<&str>) -> Result<Reply, HttpError> {
        self.call(Method::GET, path, Vec::new(), bearer)
    }

    /// `POST` with a JSON body, or with none where `body` is empty.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn post(&self, path: &str, body: Vec<u8>, bearer: Option<&str>) -> Result<Reply, HttpError> {
        self.call(Method::POST, path, body, bearer)
    }

    /// `PUT` with a JSON body.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn put(&self, path: &str, body: Vec<u8>, bearer: Option<&str>) -> Result<Reply, HttpError> {
        self.call(Method::PUT, path, body, bearer)
    }

    /// Where it sends to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.base
    }

    fn call(&self, method: Method, path: &str, body: Vec<u8>, bearer: Option<&str>) -> Result<Reply, HttpError> {
        let request = self.request(method, path, body, bearer)?;
        let exchange = async {
            let response = self.pool.request(request).await.map_err(|error| self.unreachable(&error))?;
            self.read(response).await
        };
        let timed = async { tokio::time::timeout(self.timeout, exchange).await };
        self.runtime.block_on(timed).unwrap_or_else(|_| Err(HttpError::TimedOut { url: self.base.clone(), after: self.timeout }))
    }

    fn request(&self, method: Method, path: &str, body: Vec<u8>, bearer: Option<&str>) -> Result<Request<Full<Bytes>>, HttpError> {
        let uri = format!("{}{path}", self.base);
        let mut request = Request::builder().method(method).uri(&uri).header(USER_AGENT, concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = bearer {
            let text = Zeroizing::new(format!("Bearer {token}"));
            let mut value = HeaderValue::from_str(&text).map_err(|_| HttpError::Token)?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request.body(Full::from(body)).map_err(|error| HttpError::Url { url: uri, what: error.to_string() })
    }

    async fn read(&self, response: Response<hyper::body::Incoming>) -> Result<Reply, HttpError> {
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, REPLY_BODY).collect().await.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => HttpError::ReplyTooLarge { limit: REPLY_BODY },
            None => self.unreachable(error.as_ref()),
        })?;
        Ok(Reply {
            status: parts.status.as_u16(),
            body: body.to_bytes().to_vec(),
            retry_after: retry_after(&parts.headers),
            content_type: content_type(&parts.headers),
        })
    }

    fn unreachable(&self, error: &(dyn Error + 'static)) -> HttpError {
        HttpError::Unreachable { url: self.base.clone(), what: chain(error) }
    }
}

/// Connections over TLS or plain TCP, kept open between requests whose bodies are `B`. Who may be asked, and for how long, is the caller's
/// to say.
pub type Pool<B> = Connections<HttpsConnector<HttpConnector>, B>;

/// Connections to hosts that the authorities in `ca_file` vouch for; `None`: those of the web.
///
/// # Errors
/// [`HttpError::CaFile`], [`HttpError::Runtime`].
pub fn pool<B: Body<Data: Send> + Send>(ca_file: Option<&Path>) -> Result<Pool<B>, HttpError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls(ca_file)?).https_or_http().enable_http1().wrap_connector(tcp);
    Ok(Connections::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(connector))
}

/// As [`pool`], but over TLS alone, and a connection that is not there within `connecting` never is.
///
/// # Errors
/// [`HttpError::CaFile`], [`HttpError::Runtime`].
pub fn tls_pool<B: Body<Data: Send> + Send>(ca_file: Option<&Path>, connecting: Duration) -> Result<Pool<B>, HttpError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connecting));
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls(ca_file)?).https_only().enable_http1().wrap_connector(tcp);
    Ok(Connections::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(connector))
}

/// The endpoint's URL without a final slash, once it is one that may be spoken to.
fn base(endpoint: &Endpoint) -> Result<String, HttpError> {
    let bad = |what: &str| HttpError::Url { url: endpoint.url.clone(), what: what.to_owned() };
    let uri: Uri = endpoint.url.parse().map_err(|_| bad("not a URL"))?;
    let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
    if authority.as_str().contains('@') {
        return Err(bad("it holds a user name; credentials do not belong in a URL"));
    }
    if uri.query().is_some() || endpoint.url.contains('#') {
        return Err(bad("it has a query or a fragment"));
    }
    match (uri.scheme_str(), endpoint.plain_http) {
        (Some("https"), _) | (Some("http"), PlainHttp::Anywhere) => {}
        (Some("http"), PlainHttp::LoopbackOnly) if is_loopback(authority.host()) => {}
        (Some("http"), PlainHttp::LoopbackOnly) => return Err(HttpError::PlainHttp { host: authority.host().to_owned() }),
        _ => return Err(bad("expected https://HOST or http://HOST")),
    }
    Ok(endpoint.url.trim_end_matches('/').to_owned())
}

/// Whether a URL's host is this machine.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || literal.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn tls(ca_file: Option<&Path>) -> Result<ClientConfig, HttpError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| HttpError::Runtime(error.to_string()))?;
    let builder = match ca_file {
        Some(path) => builder.with_root_certificates(authorities(path)?),
        None => builder.with_webpki_roots(),
    };
    Ok(builder.with_no_client_auth())
}

fn authorities(path: &Path) -> Result<RootCertStore, HttpError> {
    let refuse = |what: String| HttpError::CaFile { path: path.to_owned(), what };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| refuse(error.to_string()))? {
        roots.add(certificate.map_err(|error| refuse(error.to_string()))?).map_err(|error| refuse(error.to_string()))?;
    }
    if roots.is_empty() { Err(refuse("it holds no certificate".to_owned())) } else { Ok(roots) }
}

/// `Retry-After` as a number of seconds, at most [`LONGEST_RETRY_AFTER`]. Its other form, a date, is read as absent: our clock is not
/// the server's.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').next().map(|media| media.trim().to_ascii_lowercase())
}

/// An error with its causes: `client error (Connect): tcp connect error: connection refused`.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// Not a URL of a broker.
    #[error("the URL {url:?} cannot be used: {what}")]
    Url {
        /// The text.
        url: String,
        /// Why.
        what: String,
    },
    /// Plain HTTP to another machine, which is not allowed.
    #[error("plain HTTP to {host} is not allowed")]
    PlainHttp {
        /// The host.
        host: String,
    },
    /// The file of authorities cannot be used.
    #[error("the CA file {} cannot be used: {what}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// The bearer token holds a byte that no header may hold.
    #[error("the bearer token holds a character that an HTTP header cannot carry")]
    Token,
    /// No connection, or it broke.
    #[error("{url} cannot be reached: {what}")]
    Unreachable {
        /// The endpoint.
        url: String,
        /// Why.
        what: String,
    },
    /// No whole answer in time.
    #[error("{url} gave no whole answer within {} s", after.as_secs_f32())]
    TimedOut {
        /// The endpoint.
        url: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// More than [`REPLY_BODY`].
    #[error("the answer has more than {limit} bytes")]
    ReplyTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The runtime or the TLS library cannot start.
    #[error("the HTTP client cannot start: {0}")]
    Runtime(String),
}

impl HttpError {
    /// Whether trying again later may help: nobody answered.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. })
    }

    /// What may help.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Url { .. } => "a broker's URL looks like https://broker.example.com",
            Self::PlainHttp { .. } => "use https, or allow plain HTTP by name (plain-http = \"anywhere\", --allow-plain-http)",
            Self::CaFile { .. } => "the CA file holds one or more certificates in PEM",
            Self::Token => "a token is one line of printable ASCII",
            Self::Unreachable { .. } | Self::TimedOut { .. } => "is the broker running, and does the network let this guest reach it?",
            Self::ReplyTooLarge { .. } => "whatever answers there is not a broker",
            Self::Runtime(_) => "the process may lack file descriptors or memory",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str, plain_http: PlainHttp) -> Result<String, HttpError> {
        base(&Endpoint { plain_http, ..Endpoint::new(url) })
    }

    #[test]
    fn plain_http_stays_on_this_machine_unless_it_is_allowed_by_name() {
        for loopback in ["http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:1", "http://127.9.9.9"] {
            assert_eq!(at(loopback, PlainHttp::LoopbackOnly).as_deref(), Ok(loopback));
        }
        for (url, host) in [("http://10.0.0.1", "10.0.0.1"), ("http://localhost.example.com", "localhost.example.com")] {
            assert_eq!(at(url, PlainHttp::LoopbackOnly), Err(HttpError::PlainHttp { host: host.to_owned() }));
            assert_eq!(at(url, PlainHttp::Anywhere).as_deref(), Ok(url));
        }
        assert_eq!(at("https://broker.example.com/kbs/", PlainHttp::LoopbackOnly).as_deref(), Ok("https://broker.example.com/kbs"));
    }

    #[test]
    fn a_url_names_a_host_and_nothing_secret() {
        for bad in ["", "broker.example.com", "ftp://a", "https://user:word@a", "https://a?x=1", "https://a#b"] {
            assert!(matches!(at(bad, PlainHttp::Anywhere), Err(HttpError::Url { .. })), "{bad:?}");
        }
    }

    #[test]
    fn a_ca_file_without_a_certificate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "no certificate here\n").unwrap();
        let endpoint = Endpoint { ca_file: Some(path.clone()), ..Endpoint::new("https://a") };
        let expected = HttpError::CaFile { path, what: "it holds no certificate".to_owned() };
        assert_eq!(Client::new(&endpoint).err(), Some(expected));
    }

    #[test]
    fn a_server_cannot_ask_for_a_wait_without_end() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("999999999"));
        assert_eq!(retry_after(&headers), Some(LONGEST_RETRY_AFTER));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("Wed, 21 Oct 2026 07:28:00 GMT"));
        assert_eq!(retry_after(&headers), None);
    }
}
