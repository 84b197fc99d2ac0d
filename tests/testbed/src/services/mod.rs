//! The vendors' services as real HTTP servers on loopback, serving what soft platforms have: AMD's key distribution service ([`Kds`]) and
//! Intel's provisioning certification service or a caching service in its place ([`Pcs`]); and a web server as a storage of sealed models
//! ([`storage::Storage`]), which misbehaves request by request.
//!
//! What is served can be changed while they run, and so can how: [`Mood`]. Requests are counted by path.
//!
//! ```
//! use testbed::services::{Kds, Mood};
//! use testbed::snp::{Line, SoftPlatform};
//!
//! let kds = Kds::start(vec![SoftPlatform::new(Line::Genoa)]);
//! kds.set(Mood::Throttled { status: 429, retry_after: Some(10) });
//! assert!(kds.url().starts_with("http://127.0.0.1:"));
//! assert_eq!(kds.count("/vcek/v1/Genoa/crl"), 0);
//! ```

mod kds;
mod pcs;
pub mod storage;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use kds::Kds;
pub use pcs::Pcs;

/// How a service behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    #[default]
    Well,
    /// Asks to be left alone.
    Throttled {
        /// 429, or 503.
        status: u16,
        /// `Retry-After` in seconds.
        retry_after: Option<u64>,
    },
    /// Answers genuinely, after a while.
    Slow(Duration),
    /// Answers 200 with bytes that mean nothing.
    Garbage,
    /// Answers 200 with the right length and the first half of the body, then closes.
    Truncated,
    /// Answers 200 with the first half of the body as if it were all.
    Halved,
    /// Answers 200 with a body of this many bytes.
    Huge(usize),
    /// Answers with this status and nothing else: 404, 500.
    Status(u16),
    /// Takes the request and closes the connection.
    HangsUp,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The path, without the query.
    pub path: String,
    /// The query's parameters in their order.
    pub query: Vec<(String, String)>,
}

impl Ask {
    /// A parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// A successful answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Headers beside the length.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What is served: `None` is 404.
type Serve = dyn Fn(&Ask) -> Option<Answer> + Send + Sync;

struct State {
    mood: Mutex<Mood>,
    counts: Mutex<BTreeMap<String, usize>>,
    stopped: AtomicBool,
    serve: Box<Serve>,
}

/// A server on loopback; it stops when it is dropped.
pub struct Service {
    address: SocketAddr,
    state: Arc<State>,
}

impl Service {
    /// Serves what `serve` says.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn start(serve: impl Fn(&Ask) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (mood, counts) = (Mutex::default(), Mutex::default());
        let state = Arc::new(State { mood, counts, stopped: AtomicBool::new(false), serve: Box::new(serve) });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), shared) = (stream, Arc::clone(&shared)) else { continue };
                // Whoever hangs up early hurts nobody else.
                std::thread::spawn(move || drop(shared.attend(stream)));
            }
        });
        Self { address, state }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes how it behaves from now on.
    ///
    /// # Panics
    /// When a serving thread panicked.
    pub fn set(&self, mood: Mood) {
        *self.state.mood.lock().expect("no thread panics") = mood;
    }

    /// Requests whose path begins so, whatever became of them.
    ///
    /// # Panics
    /// When a serving thread panicked.
    #[must_use]
    pub fn count(&self, path: &str) -> usize {
        let counts = self.state.counts.lock().expect("no thread panics");
        counts.iter().filter(|(asked, _)| asked.starts_with(path)).map(|(_, count)| count).sum()
    }

    /// Stops it: whoever connects is refused.
    pub fn stop(&self) {
        if !self.state.stopped.swap(true, Ordering::SeqCst) {
            // Wakes the accepting thread, which sees that it is over.
            drop(TcpStream::connect(self.address));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

impl State {
    /// One request, one answer, and the end of the connection.
    fn attend(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?.take(64 * 1024));
        let mut first = String::new();
        lines.read_line(&mut first)?;
        let mut line = String::new();
        while lines.read_line(&mut line)? > 2 {
            line.clear();
        }
        let Some(ask) = parse(&first) else { return Ok(()) };
        *self.counts.lock().expect("no thread panics").entry(ask.path.clone()).or_default() += 1;
        let mood = *self.mood.lock().expect("no thread panics");
        if let Mood::Slow(by) = mood {
            std::thread::sleep(by);
        }
        let genuine = (self.serve)(&ask);
        match (mood, genuine) {
            (Mood::HangsUp, _) => Ok(()),
            (Mood::Throttled { status, retry_after }, _) => {
                let headers = retry_after.map(|seconds| ("Retry-After".to_owned(), seconds.to_string())).into_iter().collect();
                write(&mut stream, status, &Answer { headers, body: Vec::new() }, usize::MAX)
            }
            (Mood::Status(status), _) => write(&mut stream, status, &Answer::default(), usize::MAX),
            (Mood::Well | Mood::Slow(_), Some(answer)) => write(&mut stream, 200, &answer, usize::MAX),
            (Mood::Garbage, Some(answer)) => write(&mut stream, 200, &Answer { body: b"<html>busy</html>".to_vec(), ..answer }, usize::MAX),
            (Mood::Huge(size), Some(answer)) => write(&mut stream, 200, &Answer { body: vec![b' '; size], ..answer }, usize::MAX),
            (Mood::Truncated, Some(answer)) => {
                let half = answer.body.len() / 2;
                write(&mut stream, 200, &answer, half)
            }
            (Mood::Halved, Some(mut answer)) => {
                answer.body.truncate(answer.body.len() / 2);
                write(&mut stream, 200, &answer, usize::MAX)
            }
            (_, None) => write(&mut stream, 404, &Answer::default(), usize::MAX),
        }
    }
}

/// `GET PATH?QUERY HTTP/1.1`.
fn parse(line: &str) -> Option<Ask> {
    let target = line.strip_prefix("GET ")?.split(' ').next()?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parameter = |text: &str| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    Some(Ask { path: path.to_owned(), query: query.split('&').filter_map(parameter).collect() })
}

/// Writes an answer whose body ends after `most` bytes, whatever length was promised.
fn write(stream: &mut TcpStream, status: u16, answer: &Answer, most: usize) -> std::io::Result<()> {
    let headers: String = answer.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("HTTP/1.1 {status} Soft\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", answer.body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(answer.body.get(..most).unwrap_or(&answer.body))
}

/// What is served, changeable while it is.
struct Served<T> {
    service: Service,
    platforms: Arc<Mutex<T>>,
}

impl<T: Send + 'static> Served<T> {
    fn start(platforms: T, serve: impl Fn(&T, &Ask) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let platforms = Arc::new(Mutex::new(platforms));
        let shared = Arc::clone(&platforms);
        let service = Service::start(move |ask| serve(&shared.lock().expect("no thread panics"), ask));
        Self { service, platforms }
    }

    fn replace(&self, platforms: T) {
        *self.platforms.lock().expect("no thread panics") = platforms;
    }
}

impl<T> Deref for Served<T> {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snp::{Line, SoftPlatform};
    use crate::tdx::SoftTdx;

    /// The status, the head and the body of an answer.
    fn get(url: &str, path: &str) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: soft\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return (0, String::new(), Vec::new()) };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        (head[9..12].parse().unwrap(), head, bytes[end + 4..].to_vec())
    }

    #[test]
    fn a_key_distribution_service_has_chains_lists_and_the_certificate_of_each_tcb() {
        for line in Line::ALL {
            let platform = SoftPlatform::new(line);
            let kds = Kds::start(vec![platform.clone()]);
            let name = line.name();
            assert_eq!(get(&kds.url(), &format!("/vcek/v1/{name}/crl")).2, platform.crl_der(&[]));
            let chain = String::from_utf8(get(&kds.url(), &format!("/vlek/v1/{name}/cert_chain")).2).unwrap();
            assert_eq!(chain, crate::tdx::pem::chain(&[platform.asvk_der(), platform.ark_der()]));
            let chip = if line == Line::Turin { hex(&platform.chip_id[..8]) } else { hex(&platform.chip_id) };
            let tcb = platform.tcb;
            let fmc = if line == Line::Turin { format!("fmcSPL={:02}&", tcb.fmc) } else { String::new() };
            let rest = format!("blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}", tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode);
            assert_eq!(get(&kds.url(), &format!("/vcek/v1/{name}/{chip}?{fmc}{rest}")).2, platform.vcek_der());
            assert_eq!(get(&kds.url(), &format!("/vcek/v1/{name}/{}?{fmc}{rest}", "00".repeat(64))).0, 404);
            assert_eq!(get(&kds.url(), &format!("/vcek/v1/{name}/{chip}?{fmc}")).0, 404);
            assert_eq!(kds.count("/vcek/"), 4);
        }
    }

    #[test]
    fn a_certification_service_has_documents_and_lists_with_their_chains() {
        let platform = SoftTdx::new();
        let pcs = Pcs::start(vec![platform.clone()]);
        let (status, head, body) = get(&pcs.url(), "/tdx/certification/v4/tcb?fmspc=7706fe000000&update=early");
        assert_eq!((status, body), (200, platform.collateral().tcb_info));
        assert!(head.contains("TCB-Info-Issuer-Chain: -----BEGIN%20CERTIFICATE-----%0A"), "{head}");
        assert_eq!(get(&pcs.url(), "/tdx/certification/v4/qe/identity").2, platform.collateral().qe_identity);
        assert_eq!(get(&pcs.url(), "/sgx/certification/v4/pckcrl?ca=platform&encoding=der").2, platform.collateral().pck_list);
        assert_ne!(get(&pcs.url(), "/sgx/certification/v4/pckcrl?ca=processor&encoding=der").2, platform.collateral().pck_list);
        assert_eq!(get(&pcs.url(), "/sgx/certification/v4/rootcacrl").2, hex(&platform.collateral().root_list).into_bytes());
        assert_eq!(get(&pcs.url(), "/tdx/certification/v4/tcb?fmspc=000000000000").0, 404);
        pcs.replace(vec![platform.clone().with(|platform| platform.evaluation = 19)]);
        assert_ne!(get(&pcs.url(), "/tdx/certification/v4/qe/identity").2, platform.collateral().qe_identity);
    }

    #[test]
    fn a_service_misbehaves_as_it_is_told() {
        let kds = Kds::start(vec![SoftPlatform::new(Line::Milan)]);
        let list = SoftPlatform::new(Line::Milan).crl_der(&[]);
        let ask = |mood| {
            kds.set(mood);
            get(&kds.url(), "/vcek/v1/Milan/crl")
        };
        let (status, head, _) = ask(Mood::Throttled { status: 429, retry_after: Some(7) });
        assert!(status == 429 && head.contains("Retry-After: 7"), "{head}");
        assert_eq!(ask(Mood::Status(500)).0, 500);
        assert_eq!(ask(Mood::HangsUp).0, 0);
        assert_eq!(ask(Mood::Garbage).2, b"<html>busy</html>");
        assert_eq!(ask(Mood::Huge(99)).2.len(), 99);
        let (_, head, body) = ask(Mood::Truncated);
        assert!(head.contains(&format!("Content-Length: {}", list.len())) && body.len() == list.len() / 2);
        assert_eq!(ask(Mood::Halved).2.len(), list.len() / 2);
        assert_eq!(ask(Mood::Slow(Duration::from_millis(1))).2, list);
        assert_eq!(kds.count(""), 8);
        kds.stop();
        std::thread::sleep(Duration::from_millis(50));
        assert!(TcpStream::connect(kds.url().strip_prefix("http://").unwrap()).is_err(), "whoever connects is refused");
    }
}
