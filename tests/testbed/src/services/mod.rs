//! The vendors' services as real HTTP servers on loopback, serving what soft platforms have: AMD's key distribution service ([`Kds`]) and
//! Intel's provisioning certification service or a caching service in its place ([`Pcs`]); and a web server as a storage of sealed models
//! ([`storage::Storage`]), which misbehaves request by request.
//!
//! What is served can be changed while they run, and so can how: [`Mood`], also by path. Requests are remembered.
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
    /// Asks to be left alone (429), after a while.
    ThrottledLate {
        /// The while.
        after: Duration,
        /// `Retry-After` in seconds.
        retry_after: u64,
    },
    /// Asks to be left alone (429) in these words.
    RetryAfter(&'static str),
    /// Asks to be left alone (429) until a date.
    RetryAt {
        /// The date, in seconds since 1970.
        until: u64,
        /// What its own clock shows (`Date`); `None`: it does not say.
        date: Option<u64>,
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
    /// Answers 200 with a body in chunks that does not end.
    Endless,
    /// Answers 200 with one byte of the body in each such span.
    Drips(Duration),
    /// Sends whoever asks (302) to the same path below `/elsewhere`, where everything is as it should be.
    Redirects,
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
    /// By the beginning of the path; the last that fits counts.
    moods: Mutex<Vec<(String, Mood)>>,
    asked: Mutex<Vec<Ask>>,
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
        let (moods, asked) = (Mutex::default(), Mutex::default());
        let state = Arc::new(State { moods, asked, stopped: AtomicBool::new(false), serve: Box::new(serve) });
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
        *self.state.moods.lock().expect("no thread panics") = vec![(String::new(), mood)];
    }

    /// Changes how it behaves from now on where the path begins so.
    ///
    /// # Panics
    /// When a serving thread panicked.
    pub fn set_for(&self, path: &str, mood: Mood) {
        self.state.moods.lock().expect("no thread panics").push((path.to_owned(), mood));
    }

    /// Requests whose path begins so, whatever became of them.
    ///
    /// # Panics
    /// When a serving thread panicked.
    #[must_use]
    pub fn count(&self, path: &str) -> usize {
        self.asked(path).len()
    }

    /// What was asked for where the path begins so, in its order.
    ///
    /// # Panics
    /// When a serving thread panicked.
    #[must_use]
    pub fn asked(&self, path: &str) -> Vec<Ask> {
        self.state.asked.lock().expect("no thread panics").iter().filter(|ask| ask.path.starts_with(path)).cloned().collect()
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
    fn mood(&self, path: &str) -> Mood {
        let moods = self.moods.lock().expect("no thread panics");
        moods.iter().rev().find(|(begins, _)| path.starts_with(begins)).map_or(Mood::Well, |(_, mood)| *mood)
    }

    /// One request, one answer, and the end of the connection.
    fn attend(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?.take(64 * 1024));
        let mut first = String::new();
        lines.read_line(&mut first)?;
        let mut line = String::new();
        while lines.read_line(&mut line)? > 2 {
            line.clear();
        }
        let Some(mut ask) = parse(&first) else { return Ok(()) };
        self.asked.lock().expect("no thread panics").push(ask.clone());
        let mood = self.mood(&ask.path);
        if let Mood::Slow(by) | Mood::ThrottledLate { after: by, .. } = mood {
            std::thread::sleep(by);
        }
        let elsewhere = format!("{ELSEWHERE}{}", target(&first).unwrap_or_default());
        if let Some(path) = ask.path.strip_prefix(ELSEWHERE) {
            ask.path = path.to_owned();
        }
        if let Some((status, headers)) = throttling(mood) {
            let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            return write(&mut stream, status, &Answer { headers, body: Vec::new() }, usize::MAX);
        }
        match (mood, (self.serve)(&ask)) {
            (Mood::HangsUp, _) => Ok(()),
            (Mood::Redirects, _) if !first.contains(ELSEWHERE) => {
                let headers = vec![("Location".to_owned(), elsewhere)];
                write(&mut stream, 302, &Answer { headers, body: Vec::new() }, usize::MAX)
            }
            (Mood::Status(status), _) => write(&mut stream, status, &Answer::default(), usize::MAX),
            (Mood::Well | Mood::Slow(_) | Mood::Redirects, Some(answer)) => write(&mut stream, 200, &answer, usize::MAX),
            (Mood::Garbage, Some(answer)) => write(&mut stream, 200, &Answer { body: b"<html>busy</html>".to_vec(), ..answer }, usize::MAX),
            (Mood::Huge(size), Some(answer)) => write(&mut stream, 200, &Answer { body: vec![b' '; size], ..answer }, usize::MAX),
            (Mood::Endless, Some(_)) => endless(&mut stream),
            (Mood::Drips(span), Some(answer)) => {
                write(&mut stream, 200, &answer, 0)?;
                answer.body.iter().try_for_each(|byte| {
                    std::thread::sleep(span);
                    stream.write_all(&[*byte])
                })
            }
            (Mood::Truncated, Some(answer)) => {
                let half = answer.body.len() / 2;
                write(&mut stream, 200, &answer, half)
            }
            (Mood::Halved, Some(mut answer)) => {
                answer.body.truncate(answer.body.len() / 2);
                write(&mut stream, 200, &answer, usize::MAX)
            }
            (_, _) => write(&mut stream, 404, &Answer::default(), usize::MAX),
        }
    }
}

/// With which status and headers a service asks to be left alone, if it does.
fn throttling(mood: Mood) -> Option<(u16, Vec<(&'static str, String)>)> {
    let after = |text: String| vec![("Retry-After", text)];
    match mood {
        Mood::Throttled { status, retry_after } => {
            Some((status, retry_after.map(|seconds| after(seconds.to_string())).unwrap_or_default()))
        }
        Mood::ThrottledLate { retry_after, .. } => Some((429, after(retry_after.to_string()))),
        Mood::RetryAfter(text) => Some((429, after(text.to_owned()))),
        Mood::RetryAt { until, date: own } => {
            Some((429, after(date(until)).into_iter().chain(own.map(|own| ("Date", date(own)))).collect()))
        }
        _ => None,
    }
}

/// Where [`Mood::Redirects`] sends whoever asks.
const ELSEWHERE: &str = "/elsewhere";

/// `GET TARGET HTTP/1.1`.
fn target(line: &str) -> Option<&str> {
    line.strip_prefix("GET ")?.split(' ').next()
}

/// `GET PATH?QUERY HTTP/1.1`.
fn parse(line: &str) -> Option<Ask> {
    let target = target(line)?;
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

/// Writes chunks until whoever asked has had enough.
fn endless(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 Soft\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")?;
    let chunk = [b"1000\r\n".as_slice(), &[b' '; 0x1000], b"\r\n"].concat();
    loop {
        stream.write_all(&chunk)?;
    }
}

/// A time as HTTP writes it (RFC 9110, section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [(&str, u64); 12] = [
        ("Jan", 31),
        ("Feb", 28),
        ("Mar", 31),
        ("Apr", 30),
        ("May", 31),
        ("Jun", 30),
        ("Jul", 31),
        ("Aug", 31),
        ("Sep", 30),
        ("Oct", 31),
        ("Nov", 30),
        ("Dec", 31),
    ];
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut name = "Dec";
    for (month, length) in MONTHS {
        let length = length + u64::from(month == "Feb" && leap(year));
        if day < length {
            name = month;
            break;
        }
        day -= length;
    }
    let weekday = DAYS[(days % 7) as usize];
    format!("{weekday}, {:02} {name} {year} {:02}:{:02}:{:02} GMT", day + 1, second / 3600, second / 60 % 60, second % 60)
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

    fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.platforms.lock().expect("no thread panics"));
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
    fn a_certification_service_has_an_older_evaluation_for_whoever_asks_for_the_standard_one() {
        let (new, old) = (SoftTdx::new(), SoftTdx::new().with(|platform| platform.evaluation = 19));
        let pcs = Pcs::start(vec![new.clone()]);
        let ask = |update: &str| get(&pcs.url(), &format!("/tdx/certification/v4/qe/identity{update}")).2;
        assert_eq!(ask("?update=standard"), new.qe_identity_body(|_| ()), "where no recovery is under way they are the same");
        pcs.replace_standard(vec![old.clone()]);
        assert_eq!(ask("?update=early"), new.qe_identity_body(|_| ()));
        assert_eq!([ask("?update=standard"), ask("")], [0; 2].map(|_| old.qe_identity_body(|_| ())), "the standard one is the default");
        let asked = pcs.asked("/tdx/certification/v4/qe").iter().map(|ask| ask.parameter("update").map(str::to_owned)).collect::<Vec<_>>();
        assert_eq!(asked, [Some("standard".to_owned()), Some("early".to_owned()), Some("standard".to_owned()), None]);
    }

    #[test]
    fn dates_are_as_http_writes_them() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT"),
        ] {
            assert_eq!(date(seconds), text);
        }
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
        let (status, head, _) = ask(Mood::ThrottledLate { after: Duration::from_millis(1), retry_after: 8 });
        assert!(status == 429 && head.contains("Retry-After: 8"), "{head}");
        assert!(ask(Mood::RetryAfter("soon")).1.contains("Retry-After: soon"));
        let (_, head, _) = ask(Mood::RetryAt { until: 784_111_777, date: Some(0) });
        assert!(head.contains("Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\nDate: Thu, 01 Jan 1970"), "{head}");
        assert_eq!(ask(Mood::Drips(Duration::ZERO)).2, list);
        let (status, head, _) = ask(Mood::Redirects);
        assert!(status == 302 && head.contains("Location: /elsewhere/vcek/v1/Milan/crl"), "{head}");
        assert_eq!(get(&kds.url(), "/elsewhere/vcek/v1/Milan/crl").2, list);
        kds.set(Mood::Well);
        kds.set_for("/vcek/v1/Milan/crl", Mood::Status(403));
        let chain = "/vcek/v1/Milan/cert_chain";
        assert_eq!([get(&kds.url(), "/vcek/v1/Milan/crl").0, get(&kds.url(), chain).0], [403, 200]);
        kds.set(Mood::Endless);
        let mut stream = TcpStream::connect(kds.url().strip_prefix("http://").unwrap()).unwrap();
        write!(stream, "GET {chain} HTTP/1.1\r\nHost: soft\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 1 << 20]).unwrap();
        drop(stream);
        kds.stop();
        std::thread::sleep(Duration::from_millis(50));
        assert!(TcpStream::connect(kds.url().strip_prefix("http://").unwrap()).is_err(), "whoever connects is refused");
    }
}
