//! `attestation::verify` beside other verifiers on the same bytes: the `sev` crate on SNP reports, `dcap-qvl` on TD quotes.
//!
//! Goals: at least 4 times faster than `sev`; at least 4 times faster than `dcap-qvl` with collateral prepared and the chain cached, and
//! not slower with everything cold. `cargo run --release` in this folder; a name (`snp`, `tdx`) runs that one alone.

mod snp;
mod tdx;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use attestation::{ChainCache, ChainKey, VerifiedChain};
use portcullis_benches::{insist_on_release, process};
use protocol::hpke::RecipientSecret;
use protocol::ids::{Digest, Nonce, Platform, Role};
use protocol::keys::PublicKey;
use protocol::time::UnixTime;
use protocol::transcript::Transcript;

/// 2026-11-23: within the soft platforms' windows.
const NOW: UnixTime = UnixTime::from_seconds(1_795_392_000);
const ROUNDS: usize = 21;
const OPERATIONS: u32 = 10;

/// Keeps every chain.
#[derive(Default)]
struct Chains(Mutex<HashMap<ChainKey, Arc<VerifiedChain>>>);

impl ChainCache for Chains {
    fn find(&self, key: &ChainKey) -> Option<Arc<VerifiedChain>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn keep(&self, key: ChainKey, chain: Arc<VerifiedChain>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, chain);
    }
}

/// What the evidence answers.
fn transcript(platform: Platform) -> Transcript {
    Transcript {
        platform,
        installation: PublicKey::from_bytes([1; 32]),
        nonce: Nonce::from([2; 32]),
        hpke_key: RecipientSecret::from_seed(&[3; 32]).expect("a seed").public().clone(),
        signing_key: PublicKey::from_bytes([4; 32]),
        role: Role::WholeVm,
        configuration: Digest::from([5; 32]),
        gpu_evidence: None,
        event_log: None,
    }
}

fn main() {
    insist_on_release();
    println!("{}", process::machine());
    let named: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|argument| argument == name);
    if wanted("snp") {
        snp::measure();
    }
    if wanted("tdx") {
        tdx::measure();
    }
}
