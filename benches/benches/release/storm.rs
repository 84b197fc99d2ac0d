//! Many agents at once: what a cluster does to its broker when everything renews in the same second.

use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use portcullis_benches::process;
use portcullis_benches::rounds::quantile;
use protocol::messages::ChallengeAnswer;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::drive::{self, Answer, Connection};
use crate::installation::{Agent, Installation, Wish};

/// Memory of a client's thread (bytes).
const STACK: usize = 128 * 1024;
/// How long a client waits where the broker could not be reached, or said when to come back.
const PAUSE: Duration = Duration::from_secs(1);

/// What became of everybody.
#[derive(Default)]
struct Tally {
    /// From the common start to the answer.
    served: Vec<Duration>,
    /// Answers that said when to come back.
    sent_back: usize,
    /// Connections that were refused or ended.
    not_reached: usize,
    /// Answers that refused, and did not say when to come back.
    refused: Vec<String>,
}

/// Prints how long it took until all were served.
pub fn measure(installation: &Installation) {
    let agents = std::env::var("AGENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let descriptors = Some(agents as u64 + 1000);
    setrlimit(Resource::Nofile, Rlimit { current: descriptors, maximum: descriptors }).expect("as many descriptors");
    let agents = drive::attested(installation, agents);
    let (tally, barrier) = (Mutex::new(Tally::default()), Barrier::new(agents.len() + 1));
    let broker = || process::cpu(installation.pid()).expect("a broker");
    let (before, start) = thread::scope(|scope| {
        for agent in &agents {
            let (tally, barrier) = (&tally, &barrier);
            let client = move || {
                barrier.wait();
                one(installation, agent, Instant::now(), tally);
            };
            thread::Builder::new().stack_size(STACK).spawn_scoped(scope, client).expect("a thread");
        }
        let before = broker();
        barrier.wait();
        (before, Instant::now())
    });
    let (elapsed, cpu) = (start.elapsed(), broker() - before);
    let mut tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.served.sort_unstable();
    println!("\n| agents | served | all within s | p50 s | p99 s | told to come back | not reached | refused otherwise | broker CPU s |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    println!(
        "| {} | {} | {:.1} | {:.1} | {:.1} | {} | {} | {} | {:.1} |",
        agents.len(),
        tally.served.len(),
        elapsed.as_secs_f64(),
        quantile(&tally.served, 0.5).as_secs_f64(),
        quantile(&tally.served, 0.99).as_secs_f64(),
        tally.sent_back,
        tally.not_reached,
        tally.refused.len(),
        cpu.as_secs_f64(),
    );
    tally.refused.iter().take(3).for_each(|body| println!("refused: {body}"));
}

/// One agent: until it is served, or refused without being told to come back.
fn one(installation: &Installation, agent: &Agent, start: Instant, tally: &Mutex<Tally>) {
    let tally = || tally.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let Ok(answer) = attempt(installation, agent) else {
            tally().not_reached += 1;
            thread::sleep(PAUSE);
            continue;
        };
        match (answer.status, answer.retry_after) {
            (200, _) => return tally().served.push(start.elapsed()),
            (_, Some(seconds)) => {
                tally().sent_back += 1;
                thread::sleep(Duration::from_secs(seconds).max(PAUSE));
            }
            (status, None) => return tally().refused.push(format!("{status}: {}", String::from_utf8_lossy(&answer.body))),
        }
    }
}

/// A challenge and a renewal, on one connection.
fn attempt(installation: &Installation, agent: &Agent) -> std::io::Result<Answer> {
    let mut connection = Connection::try_open(installation.address())?;
    let answer = connection.try_send("POST", "/v1/challenge", None, b"")?;
    if answer.status != 200 {
        return Ok(answer);
    }
    let challenge: ChallengeAnswer = serde_json::from_slice(&answer.body).expect("a challenge");
    let request = installation.renewal_over(agent, Wish::Token, challenge.challenge);
    connection.try_send("POST", "/v1/release", None, &request.body)
}
