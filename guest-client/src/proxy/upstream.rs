//! The upstream: the one place that the credential goes to, over TLS, in the one header. Its address is the configuration's; nothing of a request
//! is in it but a path that the allow-list covers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use connection::{HttpError, Pool, tls_pool};
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderName, HeaderValue, TE};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Method, Request, Response, Uri};
use protocol::messages::Secret;
use zeroize::Zeroizing;

use super::asked::{Asked, Length, Trailers};
use super::body::Sent;
use super::config::{ProxyConfig, Template};
use super::refusal::Refusal;

/// Until a connection is there.
const CONNECTING: Duration = Duration::from_secs(10);
/// The shortest credential (bytes): of a shorter one, any answer might hold it by chance.
const SHORTEST: usize = 8;
/// The longest (bytes): servers take headers of 8 KiB.
const LONGEST: usize = 7 * 1024;

/// A credential without a final line ending, as it comes from files.
#[must_use]
pub fn bare(secret: &Secret) -> &[u8] {
    let bytes = secret.expose();
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

/// Connections to one upstream.
pub struct Upstream {
    pool: Pool<Sent>,
    authority: Authority,
    header: HeaderName,
    value: Template,
}

impl Upstream {
    /// As a proxy is configured. Nothing is connected yet.
    ///
    /// # Errors
    /// [`HttpError::CaFile`], [`HttpError::Runtime`].
    pub fn new(config: &ProxyConfig) -> Result<Self, HttpError> {
        Ok(Self {
            pool: tls_pool(config.ca_file.as_deref(), CONNECTING)?,
            authority: config.upstream.clone(),
            header: config.header.clone(),
            value: config.value.clone(),
        })
    }

    /// Sends what was asked for, with the credential. Redirects come back as they are.
    ///
    /// # Errors
    /// The client's, with the causes that it has: nothing of headers or bodies.
    pub async fn send(&self, request: Request<Sent>) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        self.pool.request(request).await
    }

    /// The request that goes to the upstream.
    ///
    /// # Errors
    /// [`Refusal::CredentialForm`]; [`Refusal::TwoReadings`] where the HTTP library does not take what we read.
    pub fn request(&self, asked: &Asked, body: Sent, secret: &Arc<Secret>) -> Result<Request<Sent>, Refusal> {
        let credential = self.credential(secret)?;
        let mut request = Request::new(body);
        *request.method_mut() = Method::from_bytes(asked.method().as_bytes()).map_err(|_| Refusal::TwoReadings)?;
        *request.uri_mut() = self.uri(asked)?;
        let headers = request.headers_mut();
        *headers = asked.headers().clone();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if asked.trailers() == Trailers::Taken {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if asked.length() == Length::None && !matches!(asked.method(), "GET" | "HEAD") {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        headers.insert(self.header.clone(), credential);
        Ok(request)
    }

    fn uri(&self, asked: &Asked) -> Result<Uri, Refusal> {
        let path: PathAndQuery = asked.target().as_str().parse().map_err(|_| Refusal::TwoReadings)?;
        if path.as_str() != asked.target().as_str() {
            return Err(Refusal::TwoReadings);
        }
        let uri = Uri::builder().scheme(Scheme::HTTPS).authority(self.authority.clone()).path_and_query(path);
        uri.build().map_err(|_| Refusal::TwoReadings)
    }

    /// The header's value. It is erased when the request goes, as far as it lies in memory of ours.
    fn credential(&self, secret: &Secret) -> Result<HeaderValue, Refusal> {
        let bare = bare(secret);
        let edges = [bare.first(), bare.last()];
        let printable = bare.iter().all(|byte| *byte == b' ' || byte.is_ascii_graphic());
        if !(SHORTEST..=LONGEST).contains(&bare.len()) || !printable || edges.contains(&Some(&b' ')) {
            return Err(Refusal::CredentialForm);
        }
        let value = Zeroizing::new([self.value.before.as_bytes(), bare, self.value.behind.as_bytes()].concat());
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(value)).map_err(|_| Refusal::CredentialForm)?;
        value.set_sensitive(true);
        Ok(value)
    }
}
