//! Verified certificate chains, kept so that a busy broker verifies each platform's chain once. A kept chain is judged again
//! against the time of each use, and its key names the anchors and revocation lists that it was verified under.

use std::sync::Arc;
use std::time::Duration;

use attestation::{ChainCache, ChainKey, VerifiedChain};
use moka::sync::Cache;

/// Chains that are kept at most: one a machine and TCB level, some 2 KiB each.
const CAPACITY: u64 = 16_384;
/// A chain that nobody uses goes.
const IDLE: Duration = Duration::from_secs(24 * 3600);

/// The broker's chain cache.
pub struct Chains(Cache<ChainKey, Arc<VerifiedChain>>);

impl Default for Chains {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(CAPACITY).time_to_idle(IDLE).build())
    }
}

impl ChainCache for Chains {
    fn find(&self, key: &ChainKey) -> Option<Arc<VerifiedChain>> {
        self.0.get(key)
    }

    fn keep(&self, key: ChainKey, chain: Arc<VerifiedChain>) {
        self.0.insert(key, chain);
    }
}
