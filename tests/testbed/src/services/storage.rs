//! A web server that serves a folder by ranges, well or badly: what a sealed model is fetched from.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How the bytes of an endless body are sent.
const BLOCK: usize = 64 * 1024;
/// Where an endless body ends all the same: nobody may have read so far.
const ENDLESS: usize = 256 * 1024 * 1024;

/// What is done with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trick {
    /// Served as it should be.
    Well,
    /// Only this status, with this `Retry-After` in seconds.
    Status(u16, Option<u64>),
    /// Taken, and the connection closed.
    HangsUp,
    /// Bytes that are no HTTP.
    Garbage,
    /// The range, of which the connection carries only so many bytes before it closes.
    CutAfter(usize),
    /// So many bytes of the range, and then nothing, for as long as the client waits.
    StallsAfter(usize),
    /// The range, in blocks of so many bytes with a pause before each.
    Slow(usize, Duration),
    /// Head and body of the beginning of the range, so many bytes at most.
    Shorter(usize),
    /// The head of the range, with a body that is half as long and says so.
    Halved,
    /// Status 200 and the whole object.
    Whole,
    /// Status 200 and the whole object, without a length.
    Unmeasured,
    /// The range, and behind it bytes without end.
    Endless,
    /// The right length from one byte later on, and it says so.
    OtherRange,
    /// The range, of an object that is said to be one byte longer.
    OtherTotal,
    /// The range, under this entity tag.
    Tagged(&'static str),
    /// The range, with every byte another.
    Flipped,
    /// The range, said to be in this coding.
    Coded(&'static str),
    /// A redirect to there.
    Redirect(String),
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The path, decoded, without its first slash.
    pub path: String,
    /// First and last byte.
    pub range: Option<(u64, u64)>,
}

#[derive(Default)]
struct State {
    always: Option<Trick>,
    next: Vec<(String, VecDeque<Trick>)>,
    asked: Vec<Asked>,
    serving: usize,
    most: usize,
}

struct Shared {
    folder: PathBuf,
    state: Mutex<State>,
    stopped: AtomicBool,
}

/// A storage on loopback; it stops when it is dropped.
pub struct Storage {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Storage {
    /// Serves the files of `folder`, as they are when they are asked for.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { folder: folder.to_owned(), state: Mutex::default(), stopped: AtomicBool::new(false) });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), shared) = (stream, Arc::clone(&accepting)) else { continue };
                // Whoever hangs up early hurts nobody else.
                std::thread::spawn(move || drop(shared.attend(&stream)));
            }
        });
        Self { address, shared }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What is done with every request from now on for which nothing else is said.
    pub fn always(&self, trick: Trick) {
        self.shared.state().always = Some(trick);
    }

    /// What is done with the next requests whose path ends so, one after the other.
    pub fn next(&self, path: &str, tricks: impl IntoIterator<Item = Trick>) {
        self.shared.state().next.push((path.to_owned(), tricks.into_iter().collect()));
    }

    /// What was asked for, in the order of arrival.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.state().asked.clone()
    }

    /// The most requests that were served at the same time.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.shared.state().most
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which sees that it is over.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics")
    }

    /// Requests of one connection, until one ends it.
    fn attend(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut lines = BufReader::new(stream.try_clone()?);
        while let Some(asked) = read_request(&mut lines)? {
            let trick = {
                let mut state = self.state();
                state.asked.push(asked.clone());
                state.serving += 1;
                state.most = state.most.max(state.serving);
                let said = state.next.iter_mut().find(|(path, tricks)| asked.path.ends_with(path.as_str()) && !tricks.is_empty());
                said.and_then(|(_, tricks)| tricks.pop_front()).or_else(|| state.always.clone()).unwrap_or(Trick::Well)
            };
            let served = self.serve(stream, &asked, trick);
            self.state().serving -= 1;
            if !served? {
                break;
            }
        }
        Ok(())
    }

    /// Answers; whether the connection goes on.
    fn serve(&self, stream: &TcpStream, asked: &Asked, trick: Trick) -> std::io::Result<bool> {
        let Some(object) = self.object(&asked.path) else { return status(stream, 404, "") };
        let total = object.len();
        let whole = (0, total.saturating_sub(1));
        let (first, last) = asked.range.map_or(whole, |(first, last)| (index(first), index(last).min(whole.1)));
        match trick {
            Trick::Status(code, after) => {
                return status(stream, code, &after.map_or(String::new(), |after| format!("Retry-After: {after}\r\n")));
            }
            Trick::Redirect(to) => return status(stream, 302, &format!("Location: {to}\r\n")),
            Trick::HangsUp => return Ok(false),
            Trick::Garbage => return send(stream, b"SSH-2.0-OpenSSH_9.2\r\n").map(|()| false),
            _ if first >= total => return status(stream, 416, &format!("Content-Range: bytes */{total}\r\n")),
            _ => {}
        }
        let range = &object[first..=last];
        let partial = |first: usize, last: usize, total: usize, length: usize, more: &str| {
            format!("HTTP/1.1 206 Partial\r\nContent-Range: bytes {first}-{last}/{total}\r\nContent-Length: {length}\r\n{more}\r\n")
        };
        let head = partial(first, last, total, range.len(), "");
        let (head, body) = match trick {
            Trick::CutAfter(most) => return send_all(stream, &head, &range[..most.min(range.len())]).map(|()| false),
            Trick::StallsAfter(most) => {
                send_all(stream, &head, &range[..most.min(range.len())])?;
                // Until the client gives up.
                let mut nothing = [0; 1];
                let mut waiting = stream;
                return waiting.read(&mut nothing).map(|_| false);
            }
            Trick::Slow(block, pause) => {
                send(stream, head.as_bytes())?;
                for part in range.chunks(block) {
                    std::thread::sleep(pause);
                    send(stream, part)?;
                }
                return Ok(true);
            }
            Trick::Endless => {
                // Without a length the body ends with the connection.
                send(
                    stream,
                    format!("HTTP/1.1 206 Partial\r\nContent-Range: bytes {first}-{last}/{total}\r\nConnection: close\r\n\r\n").as_bytes(),
                )?;
                send(stream, range)?;
                for _ in 0..ENDLESS / BLOCK {
                    send(stream, &[0x5a; BLOCK])?;
                }
                return Ok(false);
            }
            Trick::Unmeasured => return send_all(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", &object).map(|()| false),
            Trick::Whole => (format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n"), object.clone()),
            Trick::Shorter(most) => {
                let length = most.min(range.len());
                (partial(first, first + length - 1, total, length, ""), range[..length].to_vec())
            }
            Trick::Halved => (partial(first, last, total, range.len() / 2, ""), range[..range.len() / 2].to_vec()),
            Trick::OtherRange => (partial(first + 1, last + 1, total + 1, range.len(), ""), range.to_vec()),
            Trick::OtherTotal => (partial(first, last, total + 1, range.len(), ""), range.to_vec()),
            Trick::Tagged(tag) => (partial(first, last, total, range.len(), &format!("ETag: {tag}\r\n")), range.to_vec()),
            Trick::Coded(coding) => (partial(first, last, total, range.len(), &format!("Content-Encoding: {coding}\r\n")), range.to_vec()),
            Trick::Flipped => (head, range.iter().map(|byte| !byte).collect()),
            _ => (head, range.to_vec()),
        };
        send_all(stream, &head, &body).map(|()| true)
    }

    fn object(&self, path: &str) -> Option<Vec<u8>> {
        let inside = path.split('/').all(|segment| !segment.is_empty() && segment != "..");
        inside.then(|| fs::read(self.folder.join(path)).ok()).flatten()
    }
}

/// One request's first line and headers; `None` at the end of the connection.
fn read_request(lines: &mut impl BufRead) -> std::io::Result<Option<Asked>> {
    let mut first = String::new();
    lines.by_ref().take(64 * 1024).read_line(&mut first)?;
    let mut range = None;
    let mut line = String::new();
    while lines.by_ref().take(64 * 1024).read_line(&mut line)? > 2 {
        let lower = line.to_ascii_lowercase();
        if let Some((from, to)) = lower.trim().strip_prefix("range: bytes=").and_then(|range| range.split_once('-')) {
            range = from.parse().ok().zip(to.parse().ok());
        }
        line.clear();
    }
    let target = first.strip_prefix("GET /").and_then(|rest| rest.split(' ').next());
    Ok(target.map(|target| Asked { path: decoded(target.split('?').next().unwrap_or_default()), range }))
}

/// Without percent-encoding.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.extend(part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()));
        bytes.extend(part.get(2..).unwrap_or_default().as_bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn status(stream: &TcpStream, code: u16, headers: &str) -> std::io::Result<bool> {
    send(stream, format!("HTTP/1.1 {code} Soft\r\n{headers}Content-Length: 0\r\n\r\n").as_bytes()).map(|()| true)
}

fn send(mut stream: &TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes)
}

fn send_all(stream: &TcpStream, head: &str, body: &[u8]) -> std::io::Result<()> {
    send(stream, head.as_bytes())?;
    send(stream, body)
}
