//! A proxy, its upstream, the credential in a test's hand, and an agent with a raw socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use guest_client::proxy::Proxy;
use guest_client::proxy::config::{ProxyConfig, ProxyWords};
use guest_client::proxy::counts::{Counts, Tally};
use protocol::messages::Secret;
use serde_json::Value;
use tokio::sync::watch;
use tracing_subscriber::fmt::MakeWriter;
use zeroize::Zeroizing;

use crate::upstream::{Upstream, until};

/// The credential.
pub const KEY: &str = "sk-live-0123456789abcdef";
/// What is allowed.
const ALLOW: &str = r#"allow = ["GET /v1/*", "HEAD /v1/models", "POST /v1/*", "DELETE /v1/files/*"]"#;

pub struct Scene {
    pub upstream: Upstream,
    pub socket: PathBuf,
    pub address: Option<SocketAddr>,
    credential: Option<watch::Sender<Option<Arc<Secret>>>>,
    counts: Arc<Counts>,
    _folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

fn secret(text: &str) -> Option<Arc<Secret>> {
    Some(Arc::new(Secret::new(Zeroizing::new(text.as_bytes().to_vec()))))
}

impl Scene {
    /// On a socket, as the least table has it, with these lines beside.
    pub fn new(lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listen = folder.path().join("proxy.sock").display().to_string();
        Self::at(folder, &listen, lines)
    }

    /// On a port.
    pub fn on_a_port() -> Self {
        Self::at(tempfile::tempdir().unwrap(), "127.0.0.1:0", "")
    }

    fn at(folder: tempfile::TempDir, listen: &str, lines: &str) -> Self {
        log();
        let upstream = Upstream::start();
        let allow = if lines.contains("allow = ") { "" } else { ALLOW };
        let upstream_line = if lines.contains("upstream = ") { String::new() } else { format!("upstream = \"{}\"\n", upstream.url()) };
        let ca = if lines.contains("ca-file = ") { String::new() } else { format!("ca-file = {:?}\n", upstream.ca()) };
        let text = format!("listen = {listen:?}\ncredential = \"agents/a\"\n{upstream_line}{ca}{allow}\n{lines}\n");
        let words: ProxyWords = toml::from_str(&text).unwrap();
        let config = ProxyConfig::new(words).unwrap();
        let (credential, source) = watch::channel(secret(KEY));
        let proxy = Proxy::bind(&config, source).unwrap();
        let (counts, address) = (proxy.counts(), proxy.address());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        {
            let _inside = runtime.enter();
            drop(proxy.serve().unwrap());
        }
        Self { upstream, socket: PathBuf::from(listen), address, credential: Some(credential), counts, _folder: folder, _runtime: runtime }
    }

    pub fn put(&self, text: &str) {
        self.credential.as_ref().unwrap().send_replace(secret(text));
    }

    pub fn revoke(&self) {
        self.credential.as_ref().unwrap().send_replace(None);
    }

    /// Whoever keeps the credential fresh has ended.
    pub fn abandon(&mut self) {
        self.credential = None;
    }

    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends these bytes, and reads until the proxy ends the connection.
    pub fn raw(&self, bytes: &[u8]) -> Answer {
        match self.address {
            None => exchange(self.connect(), bytes),
            Some(address) => {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                exchange(stream, bytes)
            }
        }
    }

    /// A request without a body.
    pub fn ask(&self, method: &str, target: &str, headers: &str) -> Answer {
        self.raw(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes())
    }

    pub fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, "")
    }

    pub fn tally(&self) -> Tally {
        self.counts.tally()
    }

    /// The numbers, once they hold.
    pub fn await_tally(&self, what: &str, holds: impl Fn(&Tally) -> bool) {
        until(what, || holds(&self.tally()));
    }
}

fn exchange(mut stream: impl Read + Write, bytes: &[u8]) -> Answer {
    // A proxy that has refused may end the connection before all is written.
    let _ = stream.write_all(bytes);
    Answer::read(stream)
}

/// What came back, to the last byte.
#[derive(Debug)]
pub struct Answer {
    pub text: String,
}

impl Answer {
    pub fn read(mut stream: impl Read) -> Self {
        let mut bytes = Vec::new();
        let ended = stream.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        assert!(ended.is_ok(), "{ended:?} behind {text:?}");
        assert!(!text.contains(KEY), "the agent has learnt the credential: {text}");
        Self { text }
    }

    pub fn status(&self) -> u16 {
        self.text.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {:?}", self.text)).parse().unwrap()
    }

    pub fn head(&self) -> &str {
        self.text.split_once("\r\n\r\n").unwrap().0
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head().lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").unwrap().1
    }

    /// The code of a problem.
    pub fn code(&self) -> String {
        let problem: Value = serde_json::from_str(self.body()).unwrap_or_else(|_| panic!("no problem: {:?}", self.text));
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(problem["status"], self.status());
        problem["code"].as_str().unwrap().to_owned()
    }

    /// The pieces of a chunked body.
    pub fn pieces(&self) -> Vec<&str> {
        let mut pieces = Vec::new();
        let mut rest = self.body();
        while let Some((size, behind)) = rest.split_once("\r\n") {
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                break;
            }
            pieces.push(&behind[..size]);
            rest = &behind[size + 2..];
        }
        pieces
    }
}

/// Everything that this process logs, at every level.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

pub fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).with_max_level(tracing::Level::TRACE);
        subscriber.init();
        log
    })
}
