//! What the evidence of each platform last said, under each policy that decided about it: for the forecast of which will be denied.
//!
//! Kept in memory, bounded, the longest unseen going first; and written to the store now and then, so that a restart forgets nothing
//! that was written. Nothing is decided on it.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use attestation::PlatformClaims;
use policies::Aging;
use protocol::admin::{CollateralForecast, ForecastDenial, ForecastPlatform, PolicyReference};
use protocol::ids::Name;
use protocol::keys::PublicKey;
use protocol::time::UnixTime;

use crate::collateral::hex;
use crate::decision::Verdicts;
use crate::documents::ActiveDocuments;
use crate::store::{Store, StoreError, StoredSighting};

/// Platforms that are remembered at most, each under each of its policies: some hundred bytes each.
const SIGHTINGS: usize = 8192;

/// Which platform, under whose policy of which name.
type Key = (String, PublicKey, Name);

struct Sighting {
    claims: Aging,
    seen: UnixTime,
}

/// The platforms seen lately.
pub struct Sightings {
    since: UnixTime,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    all: HashMap<Key, Sighting>,
    /// What the store does not have.
    unwritten: HashSet<Key>,
}

impl Sightings {
    /// Those that the store has; what cannot be read is left alone.
    #[must_use]
    pub fn new(stored: Vec<StoredSighting>, at: UnixTime) -> Self {
        let (before, mut all) = (stored.len(), HashMap::new());
        for (key, sighting) in stored.into_iter().filter_map(read).take(SIGHTINGS) {
            all.insert(key, sighting);
        }
        if all.len() < before {
            tracing::warn!(unread = before - all.len(), "sightings of platforms in the store that cannot be read");
        }
        let since = all.values().map(|sighting| sighting.seen).min().map_or(at, |first| first.min(at));
        Self { since, last: Mutex::new(Last { all, unwritten: HashSet::new() }) }
    }

    /// Remembers what was decided about, whatever was decided.
    pub(crate) fn note(&self, verdicts: &Verdicts) {
        let claims = verdicts.claims.platform();
        let (machine, claims) = (machine(claims), Aging::from(claims));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for item in &verdicts.items {
            let (Some(authority), Some(policy)) = (item.authority(), &item.policy) else { continue };
            let key = (machine.clone(), *authority, policy.name.clone());
            last.note(key, Sighting { claims: claims.clone(), seen: verdicts.at });
        }
    }

    /// Writes what is new.
    ///
    /// # Errors
    /// The store's; what was not written is tried again.
    pub async fn write(&self, store: &dyn Store) -> Result<(), StoreError> {
        let (keys, new) = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        if new.is_empty() {
            return Ok(());
        }
        let written = store.keep_sightings(new, SIGHTINGS).await;
        if written.is_err() {
            self.last.lock().unwrap_or_else(PoisonError::into_inner).unwritten.extend(keys);
        }
        written
    }

    /// What the policies in force will say of them, if nothing but the time changes.
    #[must_use]
    pub fn forecast(&self, documents: &ActiveDocuments, at: UnixTime) -> CollateralForecast {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut platforms: Vec<ForecastPlatform> = last
            .all
            .iter()
            .filter_map(|((machine, authority, name), sighting)| {
                let policy = documents.policy(authority, name)?;
                let body = policy.document.body();
                let reference = PolicyReference { name: body.name.clone(), version: body.version, document: *policy.document.digest() };
                let calendar = policy.policy.calendar().and_then(|name| documents.calendar(authority, name));
                let denied = policy.policy.forecast(&sighting.claims, calendar.map(|calendar| &calendar.calendar), at);
                Some(ForecastPlatform {
                    platform: sighting.claims.platform(),
                    machine: machine.clone(),
                    seen: sighting.seen,
                    policy: reference,
                    denied: denied.map(|denial| ForecastDenial { from: denial.denied_at, check: denial.check.to_owned(), why: denial.why }),
                })
            })
            .collect();
        platforms.sort_by_key(|platform| {
            let from = platform.denied.as_ref().map(|denial| denial.from);
            (from.is_none(), from, platform.machine.clone(), platform.policy.name.clone())
        });
        CollateralForecast { at, since: self.since, platforms }
    }
}

impl Last {
    fn note(&mut self, key: Key, sighting: Sighting) {
        if self.all.len() >= SIGHTINGS && !self.all.contains_key(&key) {
            self.forget_oldest();
        }
        self.unwritten.insert(key.clone());
        self.all.insert(key, sighting);
    }

    /// Makes room for a sixteenth at once, so that a full memory is not searched for each newcomer.
    fn forget_oldest(&mut self) {
        let mut seen: Vec<UnixTime> = self.all.values().map(|sighting| sighting.seen).collect();
        seen.sort_unstable();
        let Some(limit) = seen.get(SIGHTINGS / 16).copied() else { return };
        let before = self.all.len();
        self.all.retain(|_, sighting| sighting.seen > limit);
        if self.all.is_empty() && before > 0 {
            tracing::debug!(before, "all sightings were of one second; all are forgotten");
        }
        let all = &self.all;
        self.unwritten.retain(|key| all.contains_key(key));
    }

    /// What the store does not have, and counts as written from now on.
    fn take(&mut self) -> (HashSet<Key>, Vec<StoredSighting>) {
        let keys = std::mem::take(&mut self.unwritten);
        let stored = keys.iter().filter_map(|key| stored(key, self.all.get(key)?)).collect();
        (keys, stored)
    }
}

fn stored((machine, authority, policy): &Key, Sighting { claims, seen }: &Sighting) -> Option<StoredSighting> {
    let claims = serde_json::to_vec(claims).ok()?;
    let (machine, authority, policy) = (machine.clone(), authority.to_string(), policy.to_string());
    Some(StoredSighting { machine, authority, policy, seen: seen.seconds(), claims })
}

fn read(StoredSighting { machine, authority, policy, seen, claims }: StoredSighting) -> Option<(Key, Sighting)> {
    let key = (machine, authority.parse().ok()?, policy.parse().ok()?);
    Some((key, Sighting { claims: serde_json::from_slice(&claims).ok()?, seen: UnixTime::from_seconds(seen) }))
}

/// The machine as far as its evidence names one; else its family.
fn machine(claims: &PlatformClaims) -> String {
    match claims {
        PlatformClaims::Snp(claims) => match (claims.chip_id, &claims.csp_id) {
            (Some(chip), _) => format!("{} {}", claims.product, hex(&chip)),
            (None, Some(provider)) => format!("{} of {provider}, tcb {}", claims.product, claims.reported_tcb),
            (None, None) => format!("{}, tcb {}", claims.product, claims.reported_tcb),
        },
        PlatformClaims::Tdx(claims) => {
            let platform = &claims.platform;
            let machine = platform.platform_instance.unwrap_or(platform.ppid);
            format!("{} {}", hex(&platform.fmspc), hex(&machine))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(machine: u64, seen: u64) -> StoredSighting {
        let claims = serde_json::json!({ "revocation": { "status": "unknown" }, "of": {
            "platform": "tdx", "status": "UpToDate", "superseded": null,
            "tcb_info": { "evaluation": 20, "issued": "2026-11-01T00:00:00Z", "next_update": "2026-12-01T00:00:00Z" },
            "qe_identity": { "evaluation": 20, "issued": "2026-11-01T00:00:00Z", "next_update": "2026-12-01T00:00:00Z" },
        }});
        let claims: Aging = serde_json::from_value(claims).unwrap();
        StoredSighting {
            machine: machine.to_string(),
            authority: PublicKey::from_bytes([1; 32]).to_string(),
            policy: "inference".to_owned(),
            seen,
            claims: serde_json::to_vec(&claims).unwrap(),
        }
    }

    fn len(sightings: &Sightings) -> (usize, usize) {
        let last = sightings.last.lock().unwrap();
        (last.all.len(), last.unwritten.len())
    }

    #[test]
    fn what_was_stored_is_remembered_but_for_what_cannot_be_read() {
        let claims = b"{}".to_vec();
        let stored = vec![sighting(1, 50), sighting(2, 40), StoredSighting { claims, ..sighting(3, 30) }];
        let sightings = Sightings::new(stored, UnixTime::from_seconds(60));
        assert_eq!((len(&sightings), sightings.since.seconds()), ((2, 0), 40));
        let none = Sightings::new(Vec::new(), UnixTime::from_seconds(60));
        assert_eq!((len(&none), none.since.seconds()), ((0, 0), 60));
    }

    #[test]
    fn a_full_memory_forgets_those_that_were_longest_unseen_and_does_not_write_them() {
        let sightings = Sightings::new(Vec::new(), UnixTime::from_seconds(0));
        let mut last = sightings.last.lock().unwrap();
        for number in 0..=SIGHTINGS as u64 {
            let (key, sighting) = read(sighting(number, number)).unwrap();
            last.note(key, sighting);
        }
        let kept = SIGHTINGS - SIGHTINGS / 16;
        assert_eq!((last.all.len(), last.unwritten.len()), (kept, kept));
        let (keys, stored) = last.take();
        assert_eq!((keys.len(), stored.len(), last.unwritten.len()), (kept, kept, 0));
        assert!(stored.iter().all(|sighting| sighting.seen > (SIGHTINGS / 16) as u64));
        assert_eq!(stored.iter().find(|sighting| sighting.seen == 8000), Some(&sighting(8000, 8000)));
    }
}
