//! The HTTP client of the feed: `GET` alone, limits on size and time, no redirects, no proxy from the environment.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{DATE, RETRY_AFTER, USER_AGENT};
use axum::http::{HeaderMap, Request};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use protocol::time::UnixTime;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::PrimitiveDateTime;
use time::macros::format_description;

use super::pace::LONGEST_RETRY_AFTER;

/// One answer (bytes): TCB info of a family with some dozen levels has 20 KiB, a revocation list less.
pub const ANSWER: usize = 1024 * 1024;

/// What came back, whatever its status.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// At most [`ANSWER`] bytes.
    pub body: Vec<u8>,
}

impl Reply {
    /// How long the server asks to be left alone from now on (RFC 9110, section 10.2.3): seconds, or a date. The date is held against
    /// the server's own clock where it shows one (`Date`), else against ours. It cannot ask for more than [`LONGEST_RETRY_AFTER`].
    #[must_use]
    pub fn retry_after(&self, at: UnixTime) -> Option<Duration> {
        let text = |name| Some(self.headers.get(name)?.to_str().ok()?.trim());
        let asked = text(RETRY_AFTER)?;
        let asked = match asked.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => date(asked)?.since(text(DATE).and_then(date).unwrap_or(at)),
        };
        Some(asked.min(LONGEST_RETRY_AFTER))
    }
}

/// The one form of a date that is sent (RFC 9110, section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(text: &str) -> Option<UnixTime> {
    let form = format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    let date = PrimitiveDateTime::parse(text, form).ok()?;
    u64::try_from(date.assume_utc().unix_timestamp()).ok().map(UnixTime::from_seconds)
}

/// Why nothing came back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoReply {
    /// No connection, or it broke.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// No whole answer in time.
    #[error("gave no whole answer within {} s", after.as_secs_f32())]
    TimedOut {
        /// How long it was waited for.
        after: Duration,
    },
    /// More than [`ANSWER`].
    #[error("its answer has more than {ANSWER} bytes")]
    TooLarge,
}

/// A client of one upstream.
pub struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    timeout: Duration,
}

impl Client {
    /// A client that believes the web's authorities (Mozilla's list, compiled in), or those in a PEM file. TLS is for privacy:
    /// collateral is believed for its signatures.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn new(ca_file: Option<&Path>, timeout: Duration) -> Result<Self, String> {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let builder = match ca_file {
            Some(path) => builder.with_root_certificates(authorities(path)?),
            None => builder.with_webpki_roots(),
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(timeout));
        let tls = builder.with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        Ok(Self { pool: Pool::builder(TokioExecutor::new()).build(connector), timeout })
    }

    /// `GET`.
    ///
    /// # Errors
    /// [`NoReply`]; an answer of any status is a [`Reply`].
    pub async fn get(&self, url: &str) -> Result<Reply, NoReply> {
        tokio::time::timeout(self.timeout, self.exchange(url)).await.unwrap_or(Err(NoReply::TimedOut { after: self.timeout }))
    }

    async fn exchange(&self, url: &str) -> Result<Reply, NoReply> {
        let request = Request::get(url).header(USER_AGENT, concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        let request = request.body(Empty::new()).map_err(|error| NoReply::Unreachable(error.to_string()))?;
        let response = self.pool.request(request).await.map_err(|error| NoReply::Unreachable(chain(&error)))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ANSWER).collect().await.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => NoReply::TooLarge,
            None => NoReply::Unreachable(chain(error.as_ref())),
        })?;
        Ok(Reply { status: parts.status.as_u16(), headers: parts.headers, body: body.to_bytes().to_vec() })
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let explain = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| explain(&error))? {
        roots.add(certificate.map_err(|error| explain(&error))?).map_err(|error| explain(&error))?;
    }
    if roots.is_empty() { Err(explain(&"it holds no certificate")) } else { Ok(roots) }
}

/// An error with its causes.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    /// What an answer with this `Retry-After`, and this `Date`, asks for at 2026-10-21T07:20:00Z.
    fn asked(retry_after: &'static str, date: Option<&'static str>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static(retry_after));
        if let Some(date) = date {
            headers.insert(DATE, HeaderValue::from_static(date));
        }
        let reply = Reply { status: 429, headers, body: Vec::new() };
        reply.retry_after(UnixTime::parse("2026-10-21T07:20:00Z").unwrap()).map(|wait| wait.as_secs())
    }

    #[test]
    fn an_upstream_cannot_ask_for_a_wait_without_end() {
        let end = "Fri, 31 Dec 9999 23:59:59 GMT";
        for (text, expected) in [("7", Some(7)), ("0", Some(0)), ("999999999", Some(3600)), (end, Some(3600))] {
            assert_eq!(asked(text, None), expected, "{text}");
        }
        let none = Reply { status: 429, headers: HeaderMap::new(), body: Vec::new() };
        assert_eq!(none.retry_after(UnixTime::from_seconds(0)), None);
    }

    #[test]
    fn a_date_is_held_against_the_servers_clock_else_against_ours() {
        let (at, earlier) = ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:27:30 GMT");
        assert_eq!([asked(at, None), asked(at, Some(earlier)), asked(at, Some("just now"))], [Some(480), Some(30), Some(480)]);
        assert_eq!(asked(earlier, Some(at)), Some(0), "it is past");
        for nonsense in ["", "soon", "-1", "1.5", "2026-10-21T07:28:00Z", "Wed, 21 Oct 2026 07:28:00 CET", "Thu, 01 Jan 1960 00:00:00 GMT"]
        {
            assert_eq!(asked(nonsense, None), None, "{nonsense}");
        }
    }

    #[test]
    fn a_file_without_authorities_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "no certificate here\n").unwrap();
        assert!(Client::new(Some(&path), Duration::from_secs(1)).is_err());
        assert!(Client::new(None, Duration::from_secs(1)).is_ok());
    }
}
