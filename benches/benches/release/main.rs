//! Releases a second, and what one costs the broker: a real broker process with its embedded store and its durable audit log, and 1, 8
//! and 32 clients that keep their connections.
//!
//! Goal: the broker's CPU time for one release is at most 1.67 times its floor, which is one P-384 verify, one X-Wing encapsulation, one
//! Ed25519 verify and one Ed25519 sign, all by `aws-lc-rs`, measured in the same run. `TEE=tdx` takes guests of Intel TDX instead, whose
//! floor has two P-256 verifies in the place of the first; `--no-default-features` builds the broker without the second opinion on them.
//!
//! `WORK=renewal` takes agents that the broker has verified instead, who renew a JWT-SVID: the evidence is verified again, and the floor has the
//! token's signature besides. `WORK=storm` lets `AGENTS=10000` of them come at once, each with a connection of its own that asks for a challenge
//! and renews; the goal is that all are served within 60 seconds, and none is refused for load without `Retry-After`.
//!
//! Each request of a release is of a guest of its own: fresh keys, a fresh nonce, a report over them. All that is made before the clock starts. The
//! broker is this program, started again; its log goes to a file. `SECONDS=5` says how long each number of clients is measured,
//! `CLIENTS=1,8,32` which numbers.

mod drive;
mod floor;
mod installation;
mod machine;
mod storm;

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portcullis_benches::rounds::quantile;
use portcullis_benches::{insist_on_release, process};

use drive::Driven;
use installation::{Agent, Installation, Wish};

/// How the broker is told from the driver.
const AS_BROKER: &str = "--as-broker";
/// Clients at once.
const CLIENTS: &str = "1,8,32";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let [_, how, rest @ ..] = arguments.as_slice()
        && how == AS_BROKER
    {
        return broker::run(std::iter::once("portcullis-broker".into()).chain(rest.iter().cloned()));
    }
    insist_on_release();
    println!("{}", process::machine());
    let seconds = std::env::var("SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let installation = Installation::start();
    println!("guests of {}", installation.platform());
    match std::env::var("WORK").as_deref() {
        Err(_) | Ok("release") => {
            let make = || installation.attested(&Agent::new(), Wish::Model);
            numbers_of_clients(&installation, &make, Wish::Model, Duration::from_secs(seconds));
        }
        Ok("renewal") => {
            let (agents, turn) = (drive::attested(&installation, 32), AtomicUsize::new(0));
            let next = || &agents[turn.fetch_add(1, Ordering::Relaxed) % agents.len()];
            let make = || installation.renewal(next(), Wish::Token);
            numbers_of_clients(&installation, &make, Wish::Token, Duration::from_secs(seconds));
        }
        Ok("storm") => storm::measure(&installation),
        Ok(other) => panic!("WORK is release, renewal or storm, not {other}"),
    }
    ExitCode::SUCCESS
}

fn numbers_of_clients(installation: &Installation, make: drive::Make<'_>, wish: Wish, span: Duration) {
    let floor = floor::measure(installation.platform(), wish);
    println!("\n| clients | answers | a second | p50 ms | p99 ms | broker CPU us | x floor | driver CPU us | broker's share |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let numbers = std::env::var("CLIENTS").unwrap_or_else(|_| CLIENTS.to_owned());
    for clients in numbers.split(',').map(|number| number.parse().expect("a number of clients")) {
        report(clients, &drive::drive(installation, make, clients, span), floor);
    }
}

fn report(clients: usize, driven: &Driven, floor: Duration) {
    let releases = u32::try_from(driven.latencies.len()).unwrap_or(u32::MAX);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(releases);
    let millis = |share| quantile(&driven.latencies, share).as_secs_f64() * 1e3;
    println!(
        "| {clients} | {releases} | {:.0} | {:.2} | {:.2} | {:.0} | {:.2} | {:.0} | {:.0} % |",
        f64::from(releases) / driven.elapsed.as_secs_f64(),
        millis(0.5),
        millis(0.99),
        each(driven.broker),
        each(driven.broker) / (floor.as_secs_f64() * 1e6),
        each(driven.driver),
        100.0 * driven.broker.as_secs_f64() / (driven.broker + driven.driver).as_secs_f64(),
    );
}
