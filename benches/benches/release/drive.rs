//! The driver: clients that keep their connections and send what was prepared, one request after another.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use portcullis_benches::{clock, process};

use crate::installation::{Agent, Installation, Prepared, Wish};

/// Makes one request.
pub type Make<'a> = &'a (dyn Fn() -> Prepared + Sync);

/// One number of clients, measured.
pub struct Driven {
    /// Of each release, sorted.
    pub latencies: Vec<Duration>,
    /// On the wall.
    pub elapsed: Duration,
    /// The broker's CPU time.
    pub broker: Duration,
    /// The driver's CPU time.
    pub driver: Duration,
}

/// An HTTP/1.1 connection that is kept.
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

/// What came back.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The seconds of `Retry-After`.
    pub retry_after: Option<u64>,
    /// The body.
    pub body: Vec<u8>,
}

impl Connection {
    pub fn open(address: &str) -> Self {
        Self::try_open(address).expect("a broker")
    }

    pub fn try_open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host: address.to_owned() })
    }

    /// Sends a request and waits for its answer.
    pub fn send(&mut self, method: &str, path: &str, bearer: Option<&str>, body: &[u8]) -> Answer {
        self.try_send(method, path, bearer, body).expect("a connection")
    }

    /// The same, where the connection may end. Reads just enough of HTTP for answers of known length.
    pub fn try_send(&mut self, method: &str, path: &str, bearer: Option<&str>, body: &[u8]) -> io::Result<Answer> {
        let authorization = bearer.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\n{authorization}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.host,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request)?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::ConnectionAborted)?;
        let (mut length, mut retry_after) = (0, None);
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            if let Some(value) = line.strip_prefix("retry-after:") {
                retry_after = value.trim().parse().ok();
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Answer { status, retry_after, body })
    }
}

/// Runs `clients` for about `span`: a short run first says how many requests that takes.
pub fn drive(installation: &Installation, make: Make<'_>, clients: usize, span: Duration) -> Driven {
    let trial = run(installation, make, clients, 100.max(clients * 10));
    let rate = trial.latencies.len() as f64 / trial.elapsed.as_secs_f64();
    run(installation, make, clients, (rate * span.as_secs_f64()) as usize)
}

/// Agents that the broker has verified.
pub fn attested(installation: &Installation, count: usize) -> Vec<Agent> {
    let agents: Vec<_> = (0..count).map(|_| Agent::new()).collect();
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| {
        for part in agents.chunks(count.div_ceil(threads).max(1)) {
            scope.spawn(move || {
                let mut connection = Connection::open(installation.address());
                for agent in part {
                    let request = installation.attested(agent, Wish::Token);
                    let answer = connection.send("POST", "/v1/release", None, &request.body);
                    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
                }
            });
        }
    });
    agents
}

fn run(installation: &Installation, make: Make<'_>, clients: usize, count: usize) -> Driven {
    let prepared = prepare(make, count);
    let (next, barrier) = (AtomicUsize::new(0), Barrier::new(clients + 1));
    let client = || {
        let mut connection = Connection::open(installation.address());
        let (mut latencies, mut last) = (Vec::with_capacity(count), None);
        barrier.wait();
        while let Some(request) = prepared.get(next.fetch_add(1, Ordering::Relaxed)) {
            let start = Instant::now();
            let answer = connection.send("POST", "/v1/release", None, &request.body);
            latencies.push(start.elapsed());
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
            last = Some((request, answer.body));
        }
        // The clock stops here; what follows is no part of it.
        barrier.wait();
        barrier.wait();
        if let Some((request, body)) = last {
            installation.check(request, &body);
        }
        latencies
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        let broker = || process::cpu(installation.pid()).expect("a broker");
        let before = (broker(), clock::process());
        barrier.wait();
        let start = Instant::now();
        barrier.wait();
        let elapsed = start.elapsed();
        let after = (broker(), clock::process());
        barrier.wait();
        let mut latencies: Vec<Duration> = threads.into_iter().flat_map(|thread| thread.join().expect("a client")).collect();
        latencies.sort_unstable();
        Driven { latencies, elapsed, broker: after.0 - before.0, driver: after.1 - before.1 }
    })
}

/// Made by all cores: signing a report takes longer than the broker takes to check it.
fn prepare(make: Make<'_>, count: usize) -> Vec<Prepared> {
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| {
        let part = || scope.spawn(move || (0..count.div_ceil(threads)).map(|_| make()).collect::<Vec<_>>());
        let parts: Vec<_> = (0..threads).map(|_| part()).collect();
        parts.into_iter().flat_map(|part| part.join().expect("requests")).collect()
    })
}
