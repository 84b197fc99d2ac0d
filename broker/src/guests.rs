//! Guests that this broker verified, kept in memory so that they can renew without collecting evidence again.
//!
//! What is kept is evidence, and each renewal verifies it again against the collateral, revocations and policies of that
//! moment. Claims are never rebuilt from a token. A replica that does not hold a guest says `attest-again`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use attestation::{Anchors, ChainCache, Evidence, PreparedCollateral, Rejection, VerifiedClaims};
use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use protocol::encoding::Fields;
use protocol::ids::Digest;
use protocol::keys::PublicKey;
use protocol::time::UnixTime;

/// What is kept at most (bytes). Where it is full, whoever asked longest ago makes room: some 16,000 SNP guests of 6 KiB of evidence, or some 4,500 TDX guests of 25 KiB, most of it their event logs.
const CAPACITY: u64 = 256 * 1024 * 1024;
/// What a guest takes beside its evidence and what was read out of that: keys, claims, the cache's own.
const EACH: usize = 4 * 1024;
/// What the platform signs of an SNP report (AMD 56860, table 23).
const SNP_SIGNED: usize = 0x2A0;
/// Header and TD report 1.0 of a version 4 quote (Intel TDX DCAP quoting library API, "TD Quote Format").
const QUOTE_4_SIGNED: usize = 48 + 584;
/// Where a version 5 quote tells the size of its report, and where that begins.
const QUOTE_5_SIZE: std::ops::Range<usize> = 50..54;

/// What the platform signs of evidence. The signature behind it is left out of the digest: with (r, s) goes (r, n - s), and the same
/// evidence would have two digests; so it would with other certificates in a quote. An event log is covered by the report data.
fn signed(evidence: &Evidence) -> &[u8] {
    let (bytes, end) = match evidence {
        Evidence::Snp(snp) => (&snp.report, Some(SNP_SIGNED)),
        Evidence::Tdx(tdx) => (&tdx.quote, quote_signed(&tdx.quote)),
    };
    end.and_then(|end| bytes.get(..end)).unwrap_or(bytes)
}

fn quote_signed(quote: &[u8]) -> Option<usize> {
    match quote.first_chunk()? {
        [4, 0] => Some(QUOTE_4_SIGNED),
        _ => {
            let size = quote.get(QUOTE_5_SIZE)?.try_into().ok().map(u32::from_le_bytes)?;
            QUOTE_5_SIZE.end.checked_add(usize::try_from(size).ok()?)
        }
    }
}

/// Bytes of evidence as it is kept.
fn size(evidence: &Evidence) -> usize {
    match evidence {
        Evidence::Snp(snp) => snp.report.len() + snp.certificates.iter().chain(&snp.crls).map(Vec::len).sum::<usize>(),
        Evidence::Tdx(tdx) => tdx.quote.len() + tdx.event_log.as_ref().map_or(0, Vec::len),
    }
}

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
        let digest = Fields::new("portcullis/evidence/v1").field(signed(&evidence)).sha256();
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
        collateral: &PreparedCollateral,
        anchors: &Anchors,
        chains: &dyn ChainCache,
        at: UnixTime,
    ) -> Result<Self, Rejection> {
        let claims = attestation::verify_again(&self.claims, &self.evidence, collateral, anchors, chains, at)?;
        Ok(Self { evidence: Arc::clone(&self.evidence), claims: Arc::new(claims), digest: self.digest })
    }
}

/// All guests that are kept, by the key that signs their requests.
pub struct Guests(Cache<PublicKey, Kept>);

#[derive(Clone)]
struct Kept {
    guest: HeldGuest,
    /// Behind this second nothing is permitted to it any more without fresh evidence.
    until: UnixTime,
    /// How long that is from when it was kept.
    life: Duration,
}

/// A guest is kept for as long as it can be permitted anything. One that attests again does so under a new key, and its old one goes
/// by itself.
struct WhileUseful;

impl Expiry<PublicKey, Kept> for WhileUseful {
    fn expire_after_create(&self, _: &PublicKey, kept: &Kept, _: Instant) -> Option<Duration> {
        Some(kept.life)
    }

    fn expire_after_update(&self, _: &PublicKey, kept: &Kept, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(kept.life)
    }
}

impl Default for Guests {
    fn default() -> Self {
        Self::holding(CAPACITY)
    }
}

impl Guests {
    /// With room for so many bytes. The newest is always taken in: by how often a key was asked for, which is how this cache decides
    /// otherwise, a guest that attested just now would never be worth the place of another.
    fn holding(capacity: u64) -> Self {
        // What is read out of evidence, an event log's events above all, is about as large again.
        let weight = |_: &PublicKey, kept: &Kept| u32::try_from(EACH + 2 * size(&kept.guest.evidence)).unwrap_or(u32::MAX);
        let cache = Cache::builder().max_capacity(capacity).weigher(weight).eviction_policy(EvictionPolicy::lru());
        Self(cache.expire_after(WhileUseful).build())
    }

    /// The guest that signs with `key`.
    #[must_use]
    pub fn find(&self, key: &PublicKey) -> Option<HeldGuest> {
        self.0.get(key).map(|kept| kept.guest)
    }

    /// Keeps a guest to which something is permitted until `until`, now being `at`.
    pub fn keep(&self, guest: HeldGuest, until: UnixTime, at: UnixTime) {
        let key = guest.claims.transcript().signing_key;
        let until = self.0.get(&key).map_or(until, |kept| kept.until.max(until));
        self.0.insert(key, Kept { guest, until, life: until.since(at) });
    }
}

#[cfg(test)]
mod tests {
    use attestation::{Collateral, NoCache, ProductLine, SnpEvidence, TdxEvidence, verify};
    use protocol::hpke::RecipientSecret;
    use protocol::ids::{Nonce, Platform, Role};
    use protocol::transcript::Transcript;
    use testbed::snp::{GuestShape, Leaf, Line, SoftGuest, SoftPlatform};
    use testbed::tdx::{SoftTdx, TdReportKind, TdShape};

    use super::*;

    fn digest(evidence: &Evidence) -> Digest {
        Fields::new("portcullis/evidence/v1").field(signed(evidence)).sha256()
    }

    #[test]
    fn evidence_is_known_by_what_the_platform_signed_and_by_nothing_else() {
        let shapes = [TdShape::default(), TdShape::version_5(TdReportKind::Td10), TdShape::version_5(TdReportKind::Td15Ex)];
        for (shape, length) in shapes.into_iter().zip([632, 638, 939]) {
            let quote = SoftTdx::new().guest(shape).attest(&[7; 64]).quote;
            let of = |quote: Vec<u8>| Evidence::Tdx(TdxEvidence { quote, event_log: None });
            let own = of(quote.clone());
            assert_eq!(signed(&own), &quote[..length]);
            let (mut inside, mut behind) = (quote.clone(), quote.clone());
            inside[length - 1] ^= 1;
            behind[length] ^= 1;
            assert_ne!(digest(&of(inside)), digest(&own));
            assert_eq!(digest(&of(behind)), digest(&own));
        }
        let report = |at: usize| {
            let mut report = vec![0; 1184];
            report[at] = 1;
            Evidence::Snp(SnpEvidence { report, ..SnpEvidence::default() })
        };
        assert_eq!(digest(&report(SNP_SIGNED)), digest(&report(SNP_SIGNED + 1)));
        assert_ne!(digest(&report(SNP_SIGNED - 1)), digest(&report(SNP_SIGNED)));
    }

    #[test]
    fn what_is_no_quote_has_a_digest_too() {
        for quote in [vec![], vec![4], vec![4, 0], vec![5; 54], vec![5, 0]] {
            assert_eq!(signed(&Evidence::Tdx(TdxEvidence { quote: quote.clone(), event_log: None })), quote);
        }
    }

    /// 2026-11-23: within the soft platform's window.
    const AT: UnixTime = UnixTime::from_seconds(1_795_392_000);

    /// A verified guest that signs with the key of this number.
    fn held(guest: &SoftGuest, number: u8) -> HeldGuest {
        let transcript = Transcript {
            platform: Platform::SevSnp,
            installation: PublicKey::from_bytes([1; 32]),
            nonce: Nonce::from([2; 32]),
            hpke_key: RecipientSecret::from_seed(&[3; 32]).unwrap().public().clone(),
            signing_key: PublicKey::from_bytes([number; 32]),
            role: Role::WholeVm,
            configuration: Digest::from([5; 32]),
            gpu_evidence: None,
            event_log: None,
        };
        let report = guest.attest(&transcript.report_data()).report;
        let anchors = Anchors::test(vec![(ProductLine::Milan, guest.platform.ark_der())]).unwrap();
        let evidence = Evidence::Snp(SnpEvidence { report, certificates: guest.platform.certificates(Leaf::Vcek), crls: Vec::new() });
        let collateral = PreparedCollateral::prepare(Collateral::default(), &anchors);
        let claims = verify(&evidence, &collateral, &anchors, &transcript, &NoCache, AT).unwrap();
        HeldGuest::new(evidence, claims)
    }

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    #[test]
    fn a_guest_is_kept_for_as_long_as_anything_can_be_permitted_to_it() {
        let guest = SoftPlatform::new(Line::Milan).guest(GuestShape::default());
        let guests = Guests::default();
        guests.keep(held(&guest, 1), AT.plus(Duration::from_secs(3600)), AT);
        guests.keep(held(&guest, 2), AT, AT);
        assert!(guests.find(&key(1)).is_some());
        assert!(guests.find(&key(2)).is_none(), "its last second is over");
        // What is permitted for a shorter time does not shorten what was permitted before.
        guests.keep(held(&guest, 1), AT, AT);
        assert!(guests.find(&key(1)).is_some());
    }

    #[test]
    fn whoever_attested_last_is_kept_where_there_is_no_room_for_all() {
        let guest = SoftPlatform::new(Line::Milan).guest(GuestShape::default());
        let each = u64::try_from(EACH + 2 * size(held(&guest, 0).evidence())).unwrap();
        let guests = Guests::holding(4 * each);
        for number in 1..=20 {
            guests.keep(held(&guest, number), AT.plus(Duration::from_secs(3600)), AT);
            // The others are asked for all the time, this one never was.
            (1..number).for_each(|other| drop(guests.find(&key(other))));
            guests.0.run_pending_tasks();
            assert!(guests.find(&key(number)).is_some(), "{number}");
        }
        let kept = (1..=20).filter(|number| guests.find(&key(*number)).is_some()).count();
        assert_eq!(kept, 4);
    }
}
