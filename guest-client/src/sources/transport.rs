//! One request for one range: redirects, the idle limit, and the body up to what was asked for.

use std::time::Duration;

use bytes::Bytes;
use connection::{Pool, chain};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, RANGE, USER_AGENT};
use object_store::signer::Url;
use tokio::time::timeout;

use super::answer::{Accepted, Answer, Asked, judge};
use super::error::FetchError;

/// Redirects in a row that are followed.
const REDIRECTS: usize = 5;

/// Whether an answer may send us elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirects {
    /// To the same host, or by HTTPS to any.
    Followed,
    /// No: the address is signed for its host.
    Refused,
}

/// What came for a request: a head that was judged, and its body.
pub enum Opened {
    /// A body.
    Body(Accepted, Incoming),
    /// The object has no bytes.
    Empty,
    /// The object ends before the range: so many bytes it has.
    EndsBefore(u64),
}

/// Connections to storages.
pub struct Transport {
    pool: Pool<Empty<Bytes>>,
    idle: Duration,
}

impl Transport {
    /// Over these connections.
    #[must_use]
    pub const fn new(pool: Pool<Empty<Bytes>>, idle: Duration) -> Self {
        Self { pool, idle }
    }

    /// Asks `url` for a range.
    ///
    /// # Errors
    /// As [`judge`]; [`FetchError::Unreachable`], [`FetchError::Idle`], [`FetchError::Redirect`].
    pub async fn open(&self, url: &str, asked: Asked, redirects: Redirects) -> Result<Opened, FetchError> {
        let mut url = Url::parse(url).map_err(|error| FetchError::Settings { what: error.to_string() })?;
        for _ in 0..=REDIRECTS {
            let response = self.request(&url, asked).await?;
            let (parts, body) = response.into_parts();
            match judge(asked, parts.status.as_u16(), &parts.headers)? {
                Answer::Body(accepted) => return Ok(Opened::Body(accepted, body)),
                Answer::Empty => return Ok(Opened::Empty),
                Answer::EndsBefore(total) => return Ok(Opened::EndsBefore(total)),
                Answer::Elsewhere(location) => url = next(&url, &location, redirects)?,
            }
        }
        Err(FetchError::Redirect { to: shown(&url), what: "it was redirected too often" })
    }

    async fn request(&self, url: &Url, asked: Asked) -> Result<hyper::Response<Incoming>, FetchError> {
        let request = Request::get(url.as_str())
            .header(USER_AGENT, concat!("portcullis/", env!("CARGO_PKG_VERSION")))
            .header(RANGE, format!("bytes={}", asked.range()))
            .header(ACCEPT_ENCODING, "identity")
            .body(Empty::new())
            .map_err(|error| FetchError::Settings { what: error.to_string() })?;
        match timeout(self.idle, self.pool.request(request)).await {
            Ok(answered) => answered.map_err(|error| FetchError::unreachable(&error)),
            Err(_) => Err(FetchError::Idle { after: self.idle }),
        }
    }

    /// Reads `accepted` bytes of the body behind what `buffer` holds. What is behind them in the body is not read, however much it
    /// is. Where it fails, `buffer` holds what came.
    ///
    /// # Errors
    /// [`FetchError::Unreachable`], [`FetchError::Idle`], [`FetchError::CutShort`].
    pub async fn read(&self, mut body: Incoming, accepted: u64, buffer: &mut Vec<u8>) -> Result<(), FetchError> {
        let mut left = usize::try_from(accepted).unwrap_or(usize::MAX);
        while left > 0 {
            let frame = match timeout(self.idle, body.frame()).await {
                Err(_) => return Err(FetchError::Idle { after: self.idle }),
                Ok(None) => {
                    let left = u64::try_from(left).unwrap_or(u64::MAX);
                    return Err(FetchError::CutShort { expected: accepted, found: accepted.saturating_sub(left) });
                }
                Ok(Some(Err(error))) => return Err(FetchError::Unreachable { what: chain(&error) }),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            let wanted = data.len().min(left);
            buffer.extend_from_slice(data.get(..wanted).unwrap_or_default());
            left = left.saturating_sub(wanted);
        }
        Ok(())
    }
}

/// Where a redirect leads, if it may: never from HTTPS to plain HTTP, never by plain HTTP to another place.
fn next(from: &Url, location: &str, redirects: Redirects) -> Result<Url, FetchError> {
    let refuse = |to: String, what| FetchError::Redirect { to, what };
    let to = from.join(location).map_err(|_| refuse(location.chars().take(80).collect(), "it is no URL"))?;
    if redirects == Redirects::Refused {
        return Err(refuse(shown(&to), "a signed request is for one host"));
    }
    let same = (from.scheme(), from.host_str(), from.port_or_known_default()) == (to.scheme(), to.host_str(), to.port_or_known_default());
    if !to.username().is_empty() || to.password().is_some() {
        return Err(refuse(shown(&to), "it holds a user name"));
    }
    if same || to.scheme() == "https" { Ok(to) } else { Err(refuse(shown(&to), "it leads elsewhere, and not by HTTPS")) }
}

/// A URL without what may be a secret in it.
fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_to_the_same_host_or_by_https() {
        let from = |from: &str, location: &str| next(&Url::parse(from).unwrap(), location, Redirects::Followed).map(String::from);
        assert_eq!(from("http://127.0.0.1:80/a/b", "/c?d=e"), Ok("http://127.0.0.1/c?d=e".into()));
        assert_eq!(from("http://127.0.0.1:81/a/b", "c"), Ok("http://127.0.0.1:81/a/c".into()));
        assert_eq!(from("https://h/a", "https://cdn.example/c?sig=1"), Ok("https://cdn.example/c?sig=1".into()));
        assert_eq!(from("http://127.0.0.1/a", "https://h/a"), Ok("https://h/a".into()));
        let elsewhere = |to: &str| Err(FetchError::Redirect { to: to.into(), what: "it leads elsewhere, and not by HTTPS" });
        assert_eq!(from("https://h/a", "http://h/a?sig=1"), elsewhere("http://h/a"));
        assert_eq!(from("http://127.0.0.1:81/a", "http://127.0.0.1:82/a"), elsewhere("http://127.0.0.1:82/a"));
        assert_eq!(from("https://h/a", "file:///etc/passwd"), elsewhere("file:///etc/passwd"));
        assert!(matches!(from("https://h/a", "https://u:p@h/a"), Err(FetchError::Redirect { .. })));
        assert!(matches!(from("https://h/a", "https://"), Err(FetchError::Redirect { what: "it is no URL", .. })));
    }

    #[test]
    fn a_signed_request_is_not_sent_elsewhere() {
        let refused = next(&Url::parse("https://h/a?sig=1").unwrap(), "https://h/b?sig=1", Redirects::Refused);
        assert_eq!(refused, Err(FetchError::Redirect { to: "https://h/b".into(), what: "a signed request is for one host" }));
    }
}
