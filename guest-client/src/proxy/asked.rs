//! What an agent may ask for: the checks on a request's head, and what of it goes on.
//!
//! 1. The head is read to the letter ([`super::head`]).
//! 2. The method is none that opens a tunnel or sends back what it got.
//! 3. There is one `Host`, and it is a name of this proxy or of the upstream.
//! 4. The body has one length: one `Content-Length` in digits, or one `Transfer-Encoding: chunked`, or neither; `GET` and `HEAD` have none.
//! 5. The connection stays what it is: no `Upgrade`, no `Connection` option that names other headers, no expectation but `100-continue`.
//! 6. Nothing says that the request is really another one (`X-HTTP-Method-Override`, `X-Original-URL`), or comes from a web page.
//! 7. The target has one reading ([`super::target`]).
//! 8. The allow-list has a line for it.
//!
//! Of the headers, those go on that are about the request: not those about the connection, the way, or who asks. `Authorization`, cookies, and the
//! header that the credential goes into are the proxy's: an agent's own are dropped.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::allow::{Allowed, is_forwarded};
use super::head::{Head, HeadError};
use super::target::{Target, TargetError};

/// Headers about the connection or its framing, which end here, and those that only a client's side of a proxy has (RFC 9110, 7.6.1).
const ENDS_HERE: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Who asks, and by which way: an upstream might believe it.
const ABOUT_THE_WAY: &[&str] = &["forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "x-forwarded"];
/// What bears a credential: one is added, so another is dropped.
const BEARS_A_CREDENTIAL: &[&str] = &["authorization", "cookie", "cookie2"];
/// Headers by which some servers take a request for another one than its first line says.
const OVERRIDES: &[&str] = &[
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-host",
    "x-rewrite-url",
];
/// Headers that a browser puts into what a web page asks for.
const FROM_A_PAGE: &[&str] = &["origin", "sec-fetch-site"];

/// The rules of one proxy.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Names of the upstream, in lower case: `HOST:PORT`, and `HOST` where the port is the scheme's own.
    pub upstream: Vec<String>,
    /// Names that this proxy is called by beside them, in lower case.
    pub names: Vec<String>,
    /// The header that the credential goes into.
    pub header: HeaderName,
    /// What may be asked for.
    pub allow: Vec<Allowed>,
    /// The longest body (bytes).
    pub body: u64,
}

/// How long a request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// There is none.
    None,
    /// So many bytes, not 0.
    Known(u64),
    /// In chunks.
    Chunked,
}

/// Whether the agent takes trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailers {
    /// It said `TE: trailers`.
    Taken,
    /// It did not.
    NotTaken,
}

/// A request that may go on. Only [`Self::judge`] makes one.
#[derive(Clone, Debug)]
pub struct Asked {
    method: String,
    target: Target,
    headers: HeaderMap,
    length: Length,
    trailers: Trailers,
}

/// Why a request does not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskedError {
    /// The head is not to the letter.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// `CONNECT` or `TRACE`.
    #[error("the method {method} is never let through")]
    Method {
        /// Which.
        method: String,
    },
    /// No `Host`, or more than one.
    #[error("expected one Host header, found {found}")]
    HostCount {
        /// How many.
        found: usize,
    },
    /// A `Host` that is neither this proxy nor the upstream.
    #[error("the Host header names neither this proxy nor the upstream")]
    Host,
    /// `Content-Length` more than once, or not in digits.
    #[error("there is more than one Content-Length, or it is no number")]
    ContentLength,
    /// `Transfer-Encoding` more than once, or other than `chunked`.
    #[error("there is more than one Transfer-Encoding, or it is not \"chunked\"")]
    TransferEncoding,
    /// Both.
    #[error("there are both Content-Length and Transfer-Encoding")]
    TwoLengths,
    /// A body where there is none.
    #[error("a GET or HEAD request has a body")]
    UnexpectedBody,
    /// A body longer than the proxy takes.
    #[error("the body has more than {limit} bytes")]
    BodyTooLarge {
        /// The limit.
        limit: u64,
    },
    /// `Upgrade`.
    #[error("the connection cannot be upgraded")]
    Upgrade,
    /// A `Connection` option other than `close`, `keep-alive` and `TE`.
    #[error("the Connection header names something else than close, keep-alive and TE")]
    ConnectionOption,
    /// An expectation other than `100-continue`.
    #[error("the Expect header is not 100-continue")]
    Expectation,
    /// A header that makes the request another one.
    #[error("the header {name} would make the request another one")]
    Override {
        /// Which, of a fixed list.
        name: &'static str,
    },
    /// What a browser sends for a web page.
    #[error("the header {name} says that a web page asks")]
    FromAPage {
        /// Which, of a fixed list.
        name: &'static str,
    },
    /// A target with more than one reading.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// No line of the allow-list covers it.
    #[error("no line of the allow-list covers this method and path")]
    NotAllowed,
}

impl AskedError {
    /// A stable name for each variant.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Head(error) => error.code(),
            Self::Method { .. } => "method-refused",
            Self::HostCount { .. } => "host-count",
            Self::Host => "host-unknown",
            Self::ContentLength => "content-length",
            Self::TransferEncoding => "transfer-encoding",
            Self::TwoLengths => "two-lengths",
            Self::UnexpectedBody => "unexpected-body",
            Self::BodyTooLarge { .. } => "body-too-large",
            Self::Upgrade => "upgrade",
            Self::ConnectionOption => "connection-option",
            Self::Expectation => "expectation",
            Self::Override { .. } => "override-header",
            Self::FromAPage { .. } => "web-page",
            Self::Target(error) => error.code(),
            Self::NotAllowed => "not-allowed",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Head(HeadError::TooLarge | HeadError::TooMany) => 431,
            Self::Head(HeadError::Version) => 505,
            Self::Method { .. } => 405,
            Self::Host | Self::Target(TargetError::OtherHost) => 421,
            Self::BodyTooLarge { .. } => 413,
            Self::Expectation => 417,
            Self::Target(TargetError::TooLong) => 414,
            Self::FromAPage { .. } | Self::NotAllowed => 403,
            _ => 400,
        }
    }
}

impl Asked {
    /// Judges a whole head by the rules of a proxy, in the order that the head of this file says.
    ///
    /// # Errors
    /// [`AskedError`].
    pub fn judge(bytes: &[u8], rules: &Rules) -> Result<Self, AskedError> {
        let head = Head::parse(bytes)?;
        if !is_forwarded(head.method) {
            return Err(AskedError::Method { method: head.method.to_owned() });
        }
        check_host(&head, rules)?;
        let length = length(&head, rules.body)?;
        check_connection(&head)?;
        check_sincerity(&head)?;
        let target = Target::parse(head.target, &rules.upstream)?;
        if !rules.allow.iter().any(|line| line.covers(head.method, &target)) {
            return Err(AskedError::NotAllowed);
        }
        let trailers = trailers(&head);
        Ok(Self { method: head.method.to_owned(), target, headers: headers(&head, &rules.header)?, length, trailers })
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The target.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// The headers that go on.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body's length.
    #[must_use]
    pub const fn length(&self) -> Length {
        self.length
    }

    /// Whether the agent takes trailers.
    #[must_use]
    pub const fn trailers(&self) -> Trailers {
        self.trailers
    }
}

fn check_host(head: &Head<'_>, rules: &Rules) -> Result<(), AskedError> {
    let hosts: Vec<&str> = head.values("host").collect();
    let [host] = hosts.as_slice() else { return Err(AskedError::HostCount { found: hosts.len() }) };
    let known = rules.upstream.iter().chain(&rules.names).any(|name| name.eq_ignore_ascii_case(host));
    if known { Ok(()) } else { Err(AskedError::Host) }
}

fn length(head: &Head<'_>, limit: u64) -> Result<Length, AskedError> {
    let lengths: Vec<&str> = head.values("content-length").collect();
    let codings: Vec<&str> = head.values("transfer-encoding").collect();
    let length = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Length::None,
        ([text], []) => match digits(text)? {
            0 => Length::None,
            bytes if bytes > limit => return Err(AskedError::BodyTooLarge { limit }),
            bytes => Length::Known(bytes),
        },
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Length::Chunked,
        ([], _) => return Err(AskedError::TransferEncoding),
        (_, []) => return Err(AskedError::ContentLength),
        _ => return Err(AskedError::TwoLengths),
    };
    if length != Length::None && matches!(head.method, "GET" | "HEAD") { Err(AskedError::UnexpectedBody) } else { Ok(length) }
}

/// Digits and nothing else: no sign, no list, no space.
fn digits(text: &str) -> Result<u64, AskedError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AskedError::ContentLength);
    }
    text.parse().map_err(|_| AskedError::ContentLength)
}

fn check_connection(head: &Head<'_>) -> Result<(), AskedError> {
    if head.values("upgrade").next().is_some() || head.values("http2-settings").next().is_some() {
        return Err(AskedError::Upgrade);
    }
    let options = head.values("connection").flat_map(|value| value.split(',')).map(|option| option.trim_matches([' ', '\t']));
    for option in options {
        if option.eq_ignore_ascii_case("upgrade") {
            return Err(AskedError::Upgrade);
        }
        if !["", "close", "keep-alive", "te"].iter().any(|known| known.eq_ignore_ascii_case(option)) {
            return Err(AskedError::ConnectionOption);
        }
    }
    let mut expectations = head.values("expect");
    if expectations.any(|value| !value.eq_ignore_ascii_case("100-continue")) { Err(AskedError::Expectation) } else { Ok(()) }
}

/// Whether the request is the one that its first line says, from whom it seems to be.
fn check_sincerity(head: &Head<'_>) -> Result<(), AskedError> {
    let first = |names: &[&'static str]| names.iter().copied().find(|name| head.values(name).next().is_some());
    if let Some(name) = first(OVERRIDES) {
        return Err(AskedError::Override { name });
    }
    first(FROM_A_PAGE).map_or(Ok(()), |name| Err(AskedError::FromAPage { name }))
}

fn trailers(head: &Head<'_>) -> Trailers {
    let mut codings = head.values("te").flat_map(|value| value.split(','));
    let taken = codings.any(|coding| coding.trim_matches([' ', '\t']).eq_ignore_ascii_case("trailers"));
    if taken { Trailers::Taken } else { Trailers::NotTaken }
}

fn headers(head: &Head<'_>, credential: &HeaderName) -> Result<HeaderMap, AskedError> {
    let mut headers = HeaderMap::with_capacity(head.fields.len());
    for (name, value) in &head.fields {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HeadError::Name)?;
        if goes_on(&name, credential) {
            headers.append(name, HeaderValue::from_str(value).map_err(|_| HeadError::Value)?);
        }
    }
    Ok(headers)
}

fn goes_on(name: &HeaderName, credential: &HeaderName) -> bool {
    // Answers are looked through for the credential, so they are asked for as they are.
    let dropped = [ENDS_HERE, ABOUT_THE_WAY, BEARS_A_CREDENTIAL, &["accept-encoding"]];
    let text = name.as_str();
    name != credential && !dropped.iter().any(|names| names.contains(&text)) && !text.starts_with("x-forwarded-")
}

/// Whether the credential may go into this header: it is none that has a meaning of its own here.
#[must_use]
pub fn may_bear_the_credential(name: &HeaderName) -> bool {
    let text = name.as_str();
    let reserved = [ENDS_HERE, ABOUT_THE_WAY, OVERRIDES, FROM_A_PAGE, &["accept-encoding", "content-encoding", "content-type", "range"]];
    let ours = matches!(text, "authorization" | "cookie");
    ours || !(reserved.iter().any(|names| names.contains(&text)) || text.starts_with("x-forwarded-") || text.contains('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            upstream: vec!["api.example.com".into(), "api.example.com:443".into()],
            names: vec!["localhost".into()],
            header: HeaderName::from_static("x-api-key"),
            allow: ["POST /v1/chat", "GET /v1/models", "DELETE /v1/files/*"].map(|line| line.parse().unwrap()).to_vec(),
            body: 1000,
        }
    }

    fn judge(first: &str, lines: &[&str]) -> Result<Asked, AskedError> {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        Asked::judge(format!("{first} HTTP/1.1\r\n{lines}\r\n").as_bytes(), &rules())
    }

    fn post(lines: &[&str]) -> Result<Asked, AskedError> {
        judge("POST /v1/chat", &[&["Host: localhost"], lines].concat())
    }

    #[test]
    fn what_is_allowed_goes_on_without_what_ends_here() {
        let asked = post(&[
            "Content-Length: 12",
            "Content-Type: application/json",
            "Authorization: Bearer mine",
            "X-API-Key: mine",
            "x-api-key: mine-too",
            "Cookie: a=b",
            "Connection: keep-alive, TE",
            "Keep-Alive: timeout=5",
            "TE: trailers",
            "Proxy-Authorization: Basic bWluZQ==",
            "X-Forwarded-Host: evil.example",
            "Forwarded: host=evil.example",
            "Via: 1.1 me",
            "Accept-Encoding: gzip",
            "Accept: text/event-stream",
            "Expect: 100-Continue",
            "X-Stainless-Lang: python",
        ])
        .unwrap();
        let names: Vec<&str> = asked.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "accept", "x-stainless-lang"]);
        assert_eq!((asked.method(), asked.target().as_str()), ("POST", "/v1/chat"));
        assert_eq!((asked.length(), asked.trailers()), (Length::Known(12), Trailers::Taken));
        assert_eq!(post(&["Transfer-Encoding: Chunked"]).unwrap().length(), Length::Chunked);
        assert_eq!(post(&["Content-Length: 0"]).unwrap().length(), Length::None);
    }

    #[test]
    fn there_is_one_host_and_it_is_known() {
        for host in ["Host: localhost", "host: API.example.com", "Host: api.example.com:443"] {
            assert!(judge("GET /v1/models", &[host]).is_ok(), "{host}");
        }
        let count = |lines: &[&str]| judge("GET /v1/models", lines).unwrap_err();
        assert_eq!(count(&[]), AskedError::HostCount { found: 0 });
        assert_eq!(count(&["Host: localhost", "Host: localhost"]), AskedError::HostCount { found: 2 });
        assert_eq!(count(&["Host: localhost", "host: evil.example"]), AskedError::HostCount { found: 2 });
        for host in
            ["Host: evil.example", "Host:", "Host: localhost, evil.example", "Host: api.example.com@evil.example", "Host: localhost:1"]
        {
            assert_eq!(count(&[host]), AskedError::Host, "{host}");
        }
    }

    #[test]
    fn a_body_has_one_length() {
        use AskedError::{ContentLength, TransferEncoding, TwoLengths};
        for (lines, error) in [
            (&["Content-Length: 5", "Content-Length: 5"][..], ContentLength),
            (&["Content-Length: 5", "Content-Length: 6"], ContentLength),
            (&["Content-Length: +5"], ContentLength),
            (&["Content-Length: 5, 5"], ContentLength),
            (&["Content-Length: 0x5"], ContentLength),
            (&["Content-Length: -1"], ContentLength),
            (&["Content-Length:"], ContentLength),
            (&["Content-Length: 99999999999999999999"], ContentLength),
            (&["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], TransferEncoding),
            (&["Transfer-Encoding: chunked, chunked"], TransferEncoding),
            (&["Transfer-Encoding: gzip, chunked"], TransferEncoding),
            (&["Transfer-Encoding: xchunked"], TransferEncoding),
            (&["Transfer-Encoding: identity"], TransferEncoding),
            (&["Transfer-Encoding:"], TransferEncoding),
            (&["Content-Length: 5", "Transfer-Encoding: chunked"], TwoLengths),
            (&["Transfer-Encoding: chunked", "Content-Length: 5"], TwoLengths),
            (&["Transfer-Encoding: identity", "Content-Length: 0"], TwoLengths),
        ] {
            assert_eq!(post(lines).unwrap_err(), error, "{lines:?}");
        }
        assert_eq!(post(&["Content-Length: 1001"]).unwrap_err(), AskedError::BodyTooLarge { limit: 1000 });
        assert!(post(&["Content-Length: 1000"]).is_ok());
        for body in ["Content-Length: 1", "Transfer-Encoding: chunked"] {
            assert_eq!(judge("GET /v1/models", &["Host: localhost", body]).unwrap_err(), AskedError::UnexpectedBody);
        }
        assert!(judge("GET /v1/models", &["Host: localhost", "Content-Length: 0"]).is_ok());
        assert!(judge("DELETE /v1/files/a", &["Host: localhost", "Content-Length: 1"]).is_ok());
    }

    #[test]
    fn a_connection_stays_what_it_is() {
        for line in ["Upgrade: websocket", "Connection: Upgrade", "Connection: keep-alive, upgrade", "HTTP2-Settings: AAMAAABk"] {
            assert_eq!(post(&[line]).unwrap_err(), AskedError::Upgrade, "{line}");
        }
        for line in ["Connection: x-api-key", "Connection: close, Content-Type", "Connection: host", "Connection: close;a"] {
            assert_eq!(post(&[line]).unwrap_err(), AskedError::ConnectionOption, "{line}");
        }
        assert_eq!(post(&["Expect: 200-ok"]).unwrap_err(), AskedError::Expectation);
        for line in ["Connection: close", "Connection: Keep-Alive,TE", "Connection:"] {
            assert!(post(&[line]).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_request_is_not_another_one_and_not_a_web_pages() {
        for (line, name) in [
            ("X-HTTP-Method-Override: DELETE", "x-http-method-override"),
            ("X-Original-URL: /admin", "x-original-url"),
            ("X-Rewrite-URL: /admin", "x-rewrite-url"),
        ] {
            assert_eq!(post(&[line]).unwrap_err(), AskedError::Override { name }, "{line}");
        }
        assert_eq!(post(&["Origin: https://evil.example"]).unwrap_err(), AskedError::FromAPage { name: "origin" });
        assert_eq!(post(&["Sec-Fetch-Site: cross-site"]).unwrap_err(), AskedError::FromAPage { name: "sec-fetch-site" });
        assert!(post(&["Sec-Fetch-Mode: cors"]).is_ok(), "what Node's fetch sends");
    }

    #[test]
    fn method_and_path_are_on_the_list() {
        let refused = |first: &str| judge(first, &["Host: localhost"]).unwrap_err();
        for first in ["POST /v1/models", "GET /v1/chat", "HEAD /v1/models", "get /v1/models", "GET /v1/models/a", "OPTIONS /v1/models"] {
            assert_eq!(refused(first), AskedError::NotAllowed, "{first}");
        }
        for method in ["CONNECT", "TRACE", "trace"] {
            assert_eq!(refused(&format!("{method} /v1/models")), AskedError::Method { method: method.to_owned() });
        }
        assert_eq!(refused("CONNECT evil.example:443"), AskedError::Method { method: "CONNECT".into() });
        assert_eq!(refused("GET https://evil.example/v1/models"), AskedError::Target(TargetError::OtherHost));
        assert_eq!(refused("GET /v1/files/../models"), AskedError::Target(TargetError::DotSegment));
        assert!(judge("GET https://api.example.com/v1/models", &["Host: api.example.com"]).is_ok());
    }

    #[test]
    fn the_credential_goes_into_a_header_without_a_meaning_of_its_own() {
        let may = |name: &'static str| may_bear_the_credential(&HeaderName::from_static(name));
        assert!(["authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"].into_iter().all(may));
        let reserved =
            ["host", "connection", "content-length", "transfer-encoding", "x-forwarded-for", "origin", "x-original-url", "x_api_key"];
        assert!(!reserved.into_iter().any(may));
    }
}
