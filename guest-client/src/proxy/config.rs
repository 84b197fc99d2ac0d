//! `[[proxy]]`: where an agent asks, what it may ask, which upstream answers, and which credential goes with it.
//!
//! What a mistake here would give away is refused when the file is read: an upstream without TLS, a port that other machines reach, an empty
//! allow-list, a header with a meaning of its own.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Uri;
use hyper::header::{AUTHORIZATION, HeaderName};
use hyper::http::uri::Authority;
use protocol::ids::{Name, Version};
use serde::Deserialize;

use super::allow::Allowed;
use super::asked::may_bear_the_credential;
use crate::config::ConfigError;
use crate::users;

/// Proxies at most in one file: an agent's upstreams.
pub const PROXIES: usize = 32;
/// The largest file (bytes).
const FILE: u64 = 256 * 1024;
/// Lines of one allow-list at most.
const ALLOW: usize = 128;
/// What stands for the credential in `value`.
const PLACE: &str = "{credential}";
/// The longest `value`.
const VALUE: usize = 256;

/// The longest body, where the file does not say (bytes).
const BODY: u64 = 64 * 1024 * 1024;
/// Connections at a time, where the file does not say.
const CONNECTIONS: u16 = 128;
/// Until an answer's head is there, where the file does not say: models think for minutes.
const ANSWER: Duration = Duration::from_secs(600);
/// Between two pieces of an answer, where the file does not say.
const IDLE: Duration = Duration::from_secs(300);
/// For a request and its answer as a whole, where the file does not say.
const WHOLE: Duration = Duration::from_secs(3600);
/// No time in the file is longer.
const LONGEST: u64 = 86_400;

/// Where agents ask.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listen {
    /// A Unix socket.
    Socket(PathBuf),
    /// A port on this machine.
    Loopback(SocketAddr),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Loopback(address) => write!(f, "{address}"),
        }
    }
}

/// What stands before and behind the credential in its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Before.
    pub before: String,
    /// Behind.
    pub behind: String,
}

/// `[[proxy]]`, word for word.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProxyWords {
    listen: String,
    #[serde(default)]
    users: Vec<u32>,
    socket_mode: Option<String>,
    upstream: String,
    ca_file: Option<PathBuf>,
    credential: Name,
    version: Option<Version>,
    header: Option<String>,
    value: Option<String>,
    allow: Vec<String>,
    body_bytes: Option<u64>,
    connections: Option<u16>,
    answer_seconds: Option<u64>,
    idle_seconds: Option<u64>,
    whole_seconds: Option<u64>,
}

/// A proxy, as it is to be.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Where agents ask.
    pub listen: Listen,
    /// Users beside our own that may, on a socket.
    pub users: Vec<u32>,
    /// The socket's permission bits.
    pub socket_mode: u32,
    /// The upstream's host, with its port where that is not 443.
    pub upstream: Authority,
    /// Certificates of the authorities that may vouch for it; `None`: those of the web.
    pub ca_file: Option<PathBuf>,
    /// The credential's name.
    pub credential: Name,
    /// Its version; without it, the newest.
    pub version: Option<Version>,
    /// The header that it goes into.
    pub header: HeaderName,
    /// What it stands between there.
    pub value: Template,
    /// What may be asked for.
    pub allow: Vec<Allowed>,
    /// The longest body (bytes).
    pub body: u64,
    /// Connections of agents at a time.
    pub connections: u16,
    /// Until an answer's head is there.
    pub answer: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// For a request and its answer as a whole.
    pub whole: Duration,
}

/// A file of proxies and nothing else, word for word.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    proxy: Vec<ProxyWords>,
}

impl ProxyConfig {
    /// Reads a file of proxies.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Vec<Self>, ConfigError> {
        let io = |error| ConfigError::Io { path: path.to_owned(), error };
        let mut text = String::new();
        std::fs::File::open(path).map_err(io)?.take(FILE + 1).read_to_string(&mut text).map_err(io)?;
        if text.len() as u64 > FILE {
            return Err(ConfigError::TooLarge { path: path.to_owned(), limit: FILE });
        }
        Self::parse(&text).map_err(|what| ConfigError::Form { path: path.to_owned(), what })
    }

    /// From the text of such a file; the error says line and column, or the proxy.
    ///
    /// # Errors
    /// What is wrong, with its place.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        if file.proxy.is_empty() { Err("proxy: there is none".to_owned()) } else { Self::all(file.proxy) }
    }

    /// The proxies of a file, each checked, and all of them beside each other.
    ///
    /// # Errors
    /// What is wrong, with the proxy that it is wrong in.
    pub fn all(words: Vec<ProxyWords>) -> Result<Vec<Self>, String> {
        if words.len() > PROXIES {
            return Err(format!("proxy: {} of them, more than {PROXIES}", words.len()));
        }
        let mut places = BTreeSet::new();
        let mut proxies = Vec::with_capacity(words.len());
        for words in words {
            let listen = words.listen.clone();
            let proxy = Self::new(words).map_err(|what| format!("proxy {listen}: {what}"))?;
            if !is_any_port(&proxy.listen) && !places.insert(proxy.listen.clone()) {
                return Err(format!("proxy {listen}: it is named twice"));
            }
            proxies.push(proxy);
        }
        Ok(proxies)
    }

    /// From the words of one table.
    ///
    /// # Errors
    /// What is wrong.
    pub fn new(words: ProxyWords) -> Result<Self, String> {
        let listen = listen(&words.listen)?;
        let socket_mode = socket_mode(&listen, &words)?;
        let header = header(words.header.as_deref())?;
        let value = template(words.value.as_deref(), &header)?;
        if words.ca_file.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err("ca-file: expected an absolute path".to_owned());
        }
        let (answer, idle) = (seconds("answer-seconds", words.answer_seconds, ANSWER)?, seconds("idle-seconds", words.idle_seconds, IDLE)?);
        if words.body_bytes == Some(0) || words.connections == Some(0) {
            return Err("body-bytes and connections: expected 1 or more".to_owned());
        }
        Ok(Self {
            listen,
            users: words.users,
            socket_mode,
            upstream: upstream(&words.upstream)?,
            ca_file: words.ca_file,
            credential: words.credential,
            version: words.version,
            header,
            value,
            allow: allow(&words.allow)?,
            body: words.body_bytes.unwrap_or(BODY),
            connections: words.connections.unwrap_or(CONNECTIONS),
            answer,
            idle,
            whole: seconds("whole-seconds", words.whole_seconds, WHOLE)?,
        })
    }

    /// The upstream's names in lower case: with its port, and without where that is the scheme's own.
    #[must_use]
    pub fn upstream_names(&self) -> Vec<String> {
        let host = self.upstream.host().to_ascii_lowercase();
        match self.upstream.port_u16() {
            None => vec![format!("{host}:443"), host],
            Some(port) => vec![format!("{host}:{port}")],
        }
    }
}

const fn is_any_port(listen: &Listen) -> bool {
    matches!(listen, Listen::Loopback(address) if address.port() == 0)
}

fn listen(text: &str) -> Result<Listen, String> {
    if text.starts_with('/') {
        return Ok(Listen::Socket(PathBuf::from(text)));
    }
    let address: SocketAddr = text.parse().map_err(|_| "listen: expected the absolute path of a socket, or ADDRESS:PORT".to_owned())?;
    if address.ip().is_loopback() { Ok(Listen::Loopback(address)) } else { Err(format!("listen: {address} is not on loopback")) }
}

/// A socket that names users is opened to all by its mode, because the kernel says who connects; one that names none is our own user's.
fn socket_mode(listen: &Listen, words: &ProxyWords) -> Result<u32, String> {
    if matches!(listen, Listen::Loopback(_)) && (words.socket_mode.is_some() || !words.users.is_empty()) {
        return Err("users and socket-mode: nobody can tell who connects to a port; use a socket".to_owned());
    }
    users::check(&words.users).map_err(|what| format!("users: {what}"))?;
    let usual = if words.users.is_empty() { 0o600 } else { 0o666 };
    let mode = words.socket_mode.as_deref().map_or(Ok(usual), |text| u32::from_str_radix(text, 8));
    mode.ok().filter(|mode| *mode <= 0o777).ok_or("socket-mode: expected three octal digits, as \"660\"".to_owned())
}

fn upstream(text: &str) -> Result<Authority, String> {
    let uri: Uri = text.parse().map_err(|_| "upstream: expected https://HOST or https://HOST:PORT".to_owned())?;
    if uri.scheme_str() != Some("https") {
        return Err("upstream: a credential goes over TLS alone: expected https://".to_owned());
    }
    let authority = uri.authority().ok_or("upstream: it names no host")?;
    if authority.as_str().contains('@') {
        return Err("upstream: it holds a user name".to_owned());
    }
    // The parser takes no fragment into account; a `#` is refused with everything else that is behind the host.
    let behind = text.get("https://".len() + authority.as_str().len()..).unwrap_or_default();
    if !matches!(behind, "" | "/") {
        return Err("upstream: expected a host without path and query; paths stand in allow".to_owned());
    }
    if authority.host().is_empty() || (authority.as_str() != authority.host() && authority.port_u16().is_none_or(|port| port == 0)) {
        return Err("upstream: expected https://HOST or https://HOST:PORT".to_owned());
    }
    let host = authority.host();
    let plain = if authority.port_u16() == Some(443) { host } else { authority.as_str() };
    plain.to_ascii_lowercase().parse().map_err(|_| "upstream: the host cannot be used".to_owned())
}

fn header(text: Option<&str>) -> Result<HeaderName, String> {
    let name = text.map_or(Ok(AUTHORIZATION), |text| HeaderName::from_bytes(text.as_bytes())).map_err(|_| "header: not a header's name")?;
    if may_bear_the_credential(&name) { Ok(name) } else { Err(format!("header: {name} has a meaning of its own")) }
}

fn template(text: Option<&str>, header: &HeaderName) -> Result<Template, String> {
    let usual = if *header == AUTHORIZATION { "Bearer {credential}" } else { PLACE };
    let text = text.unwrap_or(usual);
    if text.len() > VALUE || !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Err("value: expected printable ASCII, not too long".to_owned());
    }
    match text.split_once(PLACE) {
        Some((before, behind)) if !behind.contains(PLACE) => Ok(Template { before: before.to_owned(), behind: behind.to_owned() }),
        _ => Err(format!("value: expected {PLACE} in it, once")),
    }
}

fn allow(lines: &[String]) -> Result<Vec<Allowed>, String> {
    if lines.is_empty() {
        return Err("allow: nothing is allowed; name methods and paths, as \"GET /v1/models\"".to_owned());
    }
    if lines.len() > ALLOW {
        return Err(format!("allow: {} lines, more than {ALLOW}", lines.len()));
    }
    lines.iter().map(|line| line.parse().map_err(|error| format!("allow: {line:?}: {error}"))).collect()
}

fn seconds(key: &str, found: Option<u64>, usual: Duration) -> Result<Duration, String> {
    match found {
        None => Ok(usual),
        Some(seconds @ 1..=LONGEST) => Ok(Duration::from_secs(seconds)),
        Some(_) => Err(format!("{key}: expected 1 to {LONGEST}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<ProxyConfig>, String> {
        ProxyConfig::parse(text)
    }

    /// A table in which `key` has this value, or no other key is there beside what must be.
    fn table(key: &str, value: &str) -> String {
        let least = [
            ("listen", "\"/run/a.sock\""),
            ("upstream", "\"https://api.example.com\""),
            ("credential", "\"agents/a\""),
            ("allow", "[\"GET /v1/models\"]"),
        ];
        let mut text = "[[proxy]]\n".to_owned();
        for (name, usual) in least.into_iter().filter(|(name, _)| *name != key) {
            text.push_str(&format!("{name} = {usual}\n"));
        }
        if !key.is_empty() {
            text.push_str(&format!("{key} = {value}\n"));
        }
        text
    }

    fn one(key: &str, value: &str) -> Result<ProxyConfig, String> {
        read(&table(key, value)).map(|mut all| all.remove(0))
    }

    #[test]
    fn the_least_table_is_a_bearer_token_on_our_own_users_socket() {
        let proxy = one("", "").unwrap();
        assert_eq!(proxy.listen, Listen::Socket("/run/a.sock".into()));
        assert_eq!((proxy.header, proxy.value), (AUTHORIZATION, Template { before: "Bearer ".into(), behind: String::new() }));
        assert_eq!((proxy.socket_mode, proxy.users.len(), proxy.body), (0o600, 0, BODY));
        assert_eq!(proxy.upstream.as_str(), "api.example.com");
    }

    #[test]
    fn what_is_said_is_read() {
        assert_eq!(one("users", "[1000]").unwrap().socket_mode, 0o666);
        assert_eq!(one("listen", "\"127.0.0.1:8081\"").unwrap().listen, Listen::Loopback("127.0.0.1:8081".parse().unwrap()));
        assert_eq!(one("listen", "\"[::1]:8081\"").unwrap().listen.to_string(), "[::1]:8081");
        let key = one("header", "\"X-Api-Key\"").unwrap();
        assert_eq!((key.header.as_str(), key.value), ("x-api-key", Template { before: String::new(), behind: String::new() }));
        let value = one("value", "\"token {credential}, v=1\"").unwrap().value;
        assert_eq!((value.before.as_str(), value.behind.as_str()), ("token ", ", v=1"));
        assert_eq!(one("idle-seconds", "5").unwrap().idle, Duration::from_secs(5));
    }

    #[test]
    fn an_upstream_has_its_names() {
        let names = |url: &str| one("upstream", &format!("{url:?}")).unwrap().upstream_names();
        assert_eq!(names("https://API.example.com/"), ["api.example.com:443", "api.example.com"]);
        assert_eq!(names("https://api.example.com:443"), ["api.example.com:443", "api.example.com"]);
        assert_eq!(names("https://127.0.0.1:8443"), ["127.0.0.1:8443"]);
        assert_eq!(names("https://[::1]:8443"), ["[::1]:8443"]);
    }

    #[test]
    fn what_would_give_something_away_is_refused_with_its_reason() {
        let allow = |lines: usize| format!("[{}]", vec!["\"GET /a\""; lines].join(","));
        for (key, value, part) in [
            ("upstream", "\"http://api.example.com\"".to_owned(), "TLS"),
            ("upstream", "\"http://127.0.0.1:1\"".to_owned(), "TLS"),
            ("upstream", "\"api.example.com\"".to_owned(), "TLS"),
            ("upstream", "\"https://u:p@api.example.com\"".to_owned(), "user name"),
            ("upstream", "\"https://api.example.com/v1\"".to_owned(), "without path"),
            ("upstream", "\"https://api.example.com?a\"".to_owned(), "without path"),
            ("upstream", "\"https://api.example.com#a\"".to_owned(), "without path"),
            ("upstream", "\"https://api.example.com:0\"".to_owned(), "HOST:PORT"),
            ("upstream", "\"https://api.example.com:\"".to_owned(), "HOST:PORT"),
            ("upstream", "\"https://\"".to_owned(), "HOST:PORT"),
            ("listen", "\"0.0.0.0:8081\"".to_owned(), "loopback"),
            ("listen", "\"[::]:8081\"".to_owned(), "loopback"),
            ("listen", "\"a.sock\"".to_owned(), "absolute"),
            ("listen", "\"localhost:8081\"".to_owned(), "ADDRESS:PORT"),
            ("listen", "\"127.0.0.1:1\"\nusers = [1000]".to_owned(), "use a socket"),
            ("listen", "\"127.0.0.1:1\"\nsocket-mode = \"600\"".to_owned(), "use a socket"),
            ("users", "[65534]".to_owned(), "namespace"),
            ("socket-mode", "\"888\"".to_owned(), "octal"),
            ("header", "\"a b\"".to_owned(), "name"),
            ("header", "\"Host\"".to_owned(), "meaning"),
            ("header", "\"Transfer-Encoding\"".to_owned(), "meaning"),
            ("value", "\"Bearer\"".to_owned(), "once"),
            ("value", "\"{credential}{credential}\"".to_owned(), "once"),
            ("value", "\"a\\r\\nHost: {credential}\"".to_owned(), "printable"),
            ("allow", "[]".to_owned(), "nothing"),
            ("allow", allow(ALLOW + 1), "more than"),
            ("allow", "[\"GET /../a\"]".to_owned(), "dots"),
            ("ca-file", "\"ca.pem\"".to_owned(), "absolute"),
            ("body-bytes", "0".to_owned(), "1 or more"),
            ("connections", "0".to_owned(), "1 or more"),
            ("answer-seconds", "0".to_owned(), "1 to"),
            ("whole-seconds", "86401".to_owned(), "1 to"),
            ("credential", "\"/a\"".to_owned(), "credential"),
            ("alow", "[]".to_owned(), "alow"),
        ] {
            let error = one(key, &value).unwrap_err();
            assert!(error.contains(part), "{key} = {value}: {error}");
        }
        assert!(one("allow", &allow(ALLOW)).is_ok());
    }

    #[test]
    fn no_place_is_named_twice() {
        assert!(read("proxy = []").unwrap_err().contains("none"));
        assert!(read(&format!("models = \"/m\"\n{}", table("", ""))).unwrap_err().contains("models"), "a sidecar's file is another");
        assert!(read(&table("", "").repeat(2)).unwrap_err().contains("twice"));
        let other = table("", "") + &table("listen", "\"/run/b.sock\"");
        assert_eq!(read(&other).unwrap().len(), 2);
        let many: String = (0..=PROXIES).map(|at| table("listen", &format!("\"/run/{at}.sock\""))).collect();
        assert!(read(&many).unwrap_err().contains("more than"));
    }
}
