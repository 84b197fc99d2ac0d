//! Guests that this broker verified, kept in memory so that they can renew without collecting evidence again.
//!
//! What is kept is evidence, and each renewal verifies it again against the collateral, revocations and policies of that
//! moment. Claims are never rebuilt from a token. A replica that does not hold a guest says `attest-again`.

use std::sync::Arc;
use std::time::Duration;

use attestation::{Anchors, ChainCache, Collateral, Evidence, Rejection, VerifiedClaims};
use moka::sync::Cache;
use protocol::encoding::Fields;
use protocol::ids::Digest;
use protocol::keys::PublicKey;
use protocol::time::UnixTime;

/// Guests that are kept at most: some 8 KiB each.
const CAPACITY: u64 = 8192;
/// How long one is kept at most, whatever its policy says: the longest attestation lifetime that a policy can give.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// What the platform signs of an SNP report (AMD 56860, table 23). The signature behind it is left out of the digest: with (r, s)
/// goes (r, n - s), and the same evidence would have two digests.
const SNP_SIGNED: usize = 0x2A0;

/// A verified guest: its evidence, and what that proved.
#[derive(Clone)]
pub struct HeldGuest {
    evidence: Arc<Evidence>,
    claims: Arc<VerifiedClaims>,
    digest: Digest,
}

impl HeldGuest {
    /// Keeps evidence with the claims that it proved.
    #[must_use]
    pub fn new(evidence: Evidence, claims: VerifiedClaims) -> Self {
        let Evidence::Snp(snp) = &evidence;
        let signed = snp.report.get(..SNP_SIGNED).unwrap_or(&snp.report);
        let digest = Fields::new("portcullis/evidence/v1").field(signed).sha256();
        Self { evidence: Arc::new(evidence), claims: Arc::new(claims), digest }
    }

    /// What the evidence proved.
    #[must_use]
    pub const fn claims(&self) -> &Arc<VerifiedClaims> {
        &self.claims
    }

    /// The evidence.
    #[must_use]
    pub const fn evidence(&self) -> &Arc<Evidence> {
        &self.evidence
    }

    /// The digest of what the platform signed.
    #[must_use]
    pub const fn evidence_digest(&self) -> &Digest {
        &self.digest
    }

    /// Verifies the same evidence again, now. The attestation's age still counts from the first time.
    ///
    /// # Errors
    /// The rejection, as for fresh evidence.
    pub fn verify_again(
        &self,
        collateral: &Collateral,
        anchors: &Anchors,
        chains: &dyn ChainCache,
        at: UnixTime,
    ) -> Result<Self, Rejection> {
        let claims = attestation::verify_again(&self.claims, &self.evidence, collateral, anchors, chains, at)?;
        Ok(Self { evidence: Arc::clone(&self.evidence), claims: Arc::new(claims), digest: self.digest })
    }
}

/// All guests that are kept, by the key that signs their requests.
pub struct Guests(Cache<PublicKey, HeldGuest>);

impl Default for Guests {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(CAPACITY).time_to_live(LONGEST).build())
    }
}

impl Guests {
    /// The guest that signs with `key`.
    #[must_use]
    pub fn find(&self, key: &PublicKey) -> Option<HeldGuest> {
        self.0.get(key)
    }

    /// Keeps a guest.
    pub fn keep(&self, guest: HeldGuest) {
        self.0.insert(guest.claims.transcript().signing_key, guest);
    }
}
