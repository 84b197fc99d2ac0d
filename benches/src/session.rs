//! The session that the benchmarks' evidence answers, the time at which it is judged, and a cache of chains that keeps every one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use attestation::{ChainCache, ChainKey, VerifiedChain};
use protocol::hpke::RecipientSecret;
use protocol::ids::{Digest, Nonce, Platform, Role};
use protocol::keys::PublicKey;
use protocol::time::UnixTime;
use protocol::transcript::Transcript;

/// 2026-11-23: within the soft platforms' windows.
pub const NOW: UnixTime = UnixTime::from_seconds(1_795_392_000);

/// Keeps every chain.
#[derive(Default)]
pub struct Chains(Mutex<HashMap<ChainKey, Arc<VerifiedChain>>>);

impl ChainCache for Chains {
    fn find(&self, key: &ChainKey) -> Option<Arc<VerifiedChain>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn keep(&self, key: ChainKey, chain: Arc<VerifiedChain>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, chain);
    }
}

/// What the evidence answers.
#[must_use]
pub fn transcript(platform: Platform) -> Transcript {
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
