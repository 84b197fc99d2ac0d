//! An upstream over TLS that notes every whole request, byte by byte as it came, and answers by its path.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// One whole request.
#[derive(Clone, Debug)]
pub struct Heard {
    pub head: String,
    pub body: Vec<u8>,
    pub server_name: Option<String>,
}

impl Heard {
    /// The values of a header.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    pub fn first_line(&self) -> &str {
        self.head.lines().next().unwrap()
    }
}

struct Shared {
    heard: Mutex<Vec<Heard>>,
    /// Heads of requests, whole or not.
    begun: AtomicUsize,
    /// Connections that have ended.
    ended: AtomicUsize,
    /// What `/v1/stream` and `/v1/hold` wait for.
    gate: Semaphore,
}

pub struct Upstream {
    pub port: u16,
    pub ca: PathBuf,
    shared: Arc<Shared>,
    _folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Upstream {
    /// For the name `localhost`.
    pub fn start() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, certificate.pem()).unwrap();
        let (chain, secret) = (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap());
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(builder.with_no_client_auth().with_single_cert(chain, secret).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shared =
            Arc::new(Shared { heard: Mutex::default(), begun: AtomicUsize::new(0), ended: AtomicUsize::new(0), gate: Semaphore::new(0) });
        let serving = Arc::clone(&shared);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&serving));
                tokio::spawn(async move {
                    stream.set_nodelay(true).unwrap();
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        while serve(&mut stream, &shared).await.is_some() {}
                        let _ = stream.shutdown().await;
                        shared.ended.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        Self { port, ca, shared, _folder: folder, _runtime: runtime }
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// Every whole request so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.shared.heard.lock().unwrap().clone()
    }

    pub fn only(&self) -> Heard {
        let mut heard = self.heard();
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard.remove(0)
    }

    /// Requests that have begun, whole or not.
    pub fn begun(&self) -> usize {
        self.shared.begun.load(Ordering::SeqCst)
    }

    /// Lets so many waiting answers go on.
    pub fn open_gate(&self, times: usize) {
        self.shared.gate.add_permits(times);
    }

    /// Waits until so many connections have ended.
    pub fn await_ended(&self, count: usize) {
        until("connections have ended", || self.shared.ended.load(Ordering::SeqCst) >= count);
    }

    pub fn await_begun(&self, count: usize) {
        until("requests have begun", || self.begun() >= count);
    }
}

pub fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "not yet: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

type Stream = TlsStream<TcpStream>;

async fn read_to(stream: &mut Stream, ending: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(ending) {
        bytes.push(stream.read_u8().await.ok()?);
    }
    Some(bytes)
}

async fn read_exactly(stream: &mut Stream, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}

/// The body as the head says, decoded; behind it, in chunks, whatever trailers there are.
async fn body(stream: &mut Stream, heard: &Heard) -> Option<Vec<u8>> {
    if let [length] = heard.values("content-length").as_slice() {
        return read_exactly(stream, length.parse().unwrap()).await;
    }
    if heard.values("transfer-encoding").is_empty() {
        return Some(Vec::new());
    }
    let mut whole = Vec::new();
    loop {
        let line = String::from_utf8(read_to(stream, b"\r\n").await?).unwrap();
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        if size == 0 {
            loop {
                let line = read_to(stream, b"\r\n").await?;
                if line == b"\r\n" {
                    return Some(whole);
                }
                whole.extend_from_slice(b"TRAILER ");
                whole.extend_from_slice(&line);
            }
        }
        whole.extend_from_slice(&read_exactly(stream, size).await?);
        read_to(stream, b"\r\n").await?;
    }
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn whole(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

/// Until the gate opens; `None` where the proxy has gone before.
async fn wait(stream: &mut Stream, shared: &Shared) -> Option<()> {
    tokio::select! {
        place = shared.gate.acquire() => {
            place.unwrap().forget();
            Some(())
        }
        _ = stream.read_u8() => None,
    }
}

/// One request; whether to go on.
async fn serve(stream: &mut Stream, shared: &Shared) -> Option<()> {
    let server_name = stream.get_ref().1.server_name().map(str::to_owned);
    let head = String::from_utf8(read_to(stream, b"\r\n\r\n").await?).unwrap();
    shared.begun.fetch_add(1, Ordering::SeqCst);
    let mut heard = Heard { head, body: Vec::new(), server_name };
    let target = heard.first_line().split(' ').nth(1).unwrap().to_owned();
    let path = target.split('?').next().unwrap();
    if path == "/v1/early" {
        stream.write_all(whole("413 Content Too Large", "connection: close\r\n", "too much").as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        return None;
    }
    heard.body = body(stream, &heard).await?;
    shared.heard.lock().unwrap().push(heard.clone());
    let chunked = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n";
    let answer = match path {
        "/v1/models" => {
            let headers = "content-type: application/json\r\nx-request-id: r-1\r\nset-cookie: session=abc\r\nalt-svc: h3=\":443\"\r\n\
                           connection: keep-alive, x-hop\r\nx-hop: a\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n";
            whole("200 OK", headers, if heard.first_line().starts_with("HEAD") { "" } else { "{\"data\":[]}" })
        }
        "/v1/stream" => {
            stream.write_all(format!("{chunked}trailer: x-sum\r\n\r\n{}", chunk("data: 1\n\n")).as_bytes()).await.ok()?;
            stream.flush().await.ok()?;
            wait(stream, shared).await?;
            format!("{}0\r\nx-sum: 7\r\n\r\n", chunk("data: 2\n\n"))
        }
        "/v1/say" => {
            stream.write_all(format!("{chunked}\r\n{}", chunk(heard.values("x-say")[0])).as_bytes()).await.ok()?;
            stream.flush().await.ok()?;
            wait(stream, shared).await?;
            "0\r\n\r\n".to_owned()
        }
        "/v1/flood" => {
            stream.write_all(format!("{chunked}\r\n").as_bytes()).await.ok()?;
            loop {
                stream.write_all(chunk(&"a".repeat(60_000)).as_bytes()).await.ok()?;
            }
        }
        "/v1/hold" => {
            wait(stream, shared).await?;
            whole("200 OK", "", "held")
        }
        "/v1/away" => whole("307 Temporary Redirect", &format!("location: {}\r\n", heard.values("x-to")[0]), ""),
        "/v1/echo" => whole("401 Unauthorized", "", &heard.head),
        "/v1/echo-pieces" => {
            stream.write_all(format!("{chunked}\r\n{}", chunk("before: ")).as_bytes()).await.ok()?;
            for piece in heard.values("authorization")[0].as_bytes().chunks(3) {
                stream.write_all(chunk(std::str::from_utf8(piece).unwrap()).as_bytes()).await.ok()?;
                stream.flush().await.ok()?;
            }
            format!("{}0\r\n\r\n", chunk(" behind"))
        }
        "/v1/echo-header" => whole("401 Unauthorized", &format!("www-authenticate: {}\r\n", heard.values("authorization")[0]), ""),
        "/v1/echo-trailer" => {
            format!("{chunked}trailer: x-key\r\n\r\n{}0\r\nx-key: {}\r\n\r\n", chunk("a"), heard.values("authorization")[0])
        }
        "/v1/echo-reason" => format!("HTTP/1.1 401 {}\r\ncontent-length: 0\r\n\r\n", heard.values("authorization")[0]),
        "/v1/switch" => "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n".to_owned(),
        "/v1/coded" => "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "/v1/break" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nten bytes.").await.ok()?;
            return None;
        }
        "/v1/until-closed" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end").await.ok()?;
            return None;
        }
        _ => whole("200 OK", "", &format!("{} bytes", heard.body.len())),
    };
    stream.write_all(answer.as_bytes()).await.ok()?;
    stream.flush().await.ok()
}
