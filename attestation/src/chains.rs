//! Certificate chains that passed, kept to be used again.

use std::sync::Arc;

use protocol::encoding::Fields;
use protocol::ids::Digest;

use crate::snp::chain::SnpChain;
use crate::tdx::pck::PckChain;

/// Keeps verified chains, so that a guest that comes again costs only the checks of its own signatures. The broker's is bounded.
///
/// A chain comes out of [`crate::verify`] alone, after every step passed; it is checked against its key, the anchors' part in it and the
/// time of judging on each use, so that a cache that mixes them up causes refusals or needless work, never acceptance.
pub trait ChainCache: Send + Sync {
    /// The chain that was kept under `key`.
    fn find(&self, key: &ChainKey) -> Option<Arc<VerifiedChain>>;
    /// Keeps `chain` under `key`, or does not.
    fn keep(&self, key: ChainKey, chain: Arc<VerifiedChain>);
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCache;

impl ChainCache for NoCache {
    fn find(&self, _key: &ChainKey) -> Option<Arc<VerifiedChain>> {
        None
    }

    fn keep(&self, _key: ChainKey, _chain: Arc<VerifiedChain>) {}
}

/// Everything that the choice of a chain and the verdict on it depend on, but for the time: the anchors, what the evidence says of its
/// key, and each certificate and revocation list at hand. The kinds of platform have domains of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChainKey(Digest);

impl ChainKey {
    /// The key over `fields`, whose label names the kind of platform.
    pub(crate) fn new(fields: &Fields) -> Self {
        Self(fields.sha256())
    }
}

/// A chain that ends in a pinned root, with what its leaf says and none of it revoked. Of one kind of platform.
pub struct VerifiedChain(Kind);

enum Kind {
    Snp(Arc<SnpChain>),
    Pck(Arc<PckChain>),
}

impl VerifiedChain {
    pub(crate) const fn of_snp(chain: Arc<SnpChain>) -> Self {
        Self(Kind::Snp(chain))
    }

    pub(crate) const fn of_pck(chain: Arc<PckChain>) -> Self {
        Self(Kind::Pck(chain))
    }

    /// The chain, if it is of an SNP guest.
    pub(crate) fn snp(&self) -> Option<Arc<SnpChain>> {
        match &self.0 {
            Kind::Snp(chain) => Some(Arc::clone(chain)),
            Kind::Pck(_) => None,
        }
    }

    /// The chain, if it is of a TDX platform.
    pub(crate) fn pck(&self) -> Option<Arc<PckChain>> {
        match &self.0 {
            Kind::Pck(chain) => Some(Arc::clone(chain)),
            Kind::Snp(_) => None,
        }
    }
}

/// Where a chain came from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was kept by an earlier verification.
    Cache,
    /// It was established now, and is kept once every step has passed.
    New,
}
