//! What the evidence of each platform last said, under each policy that decided about it: for the forecast of which will be denied.
//! The forecast asks the policies and the collateral of now.
//!
//! Kept in memory, bounded, the longest unseen going first; and written to the store now and then, so that a restart forgets nothing
//! that was written. Nothing is decided on it.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use attestation::{PlatformClaims, Revocation};
use policies::{Aging, Forecast, Policy, SnpAging};
use protocol::admin::{CollateralForecast, ForecastDenial, ForecastPlatform, PolicyReference};
use protocol::ids::Name;
use protocol::keys::PublicKey;
use protocol::time::UnixTime;

use crate::collateral::{CollateralHouse, PieceKey, hex};
use crate::decision::Verdicts;
use crate::documents::ActiveDocuments;
use crate::store::{Store, StoreError, StoredSighting};

/// Platforms that are remembered at most, each under each of its policies: some hundred bytes each.
const SIGHTINGS: usize = 8192;

/// How long ago "lately" was: what was not seen since is not forecast.
const LATELY: Duration = Duration::from_secs(30 * 24 * 3600);

/// Which platform, under whose policy of which name.
type Key = (String, PublicKey, Name);

#[derive(Clone)]
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

    /// What the policies in force say and will say of them, if nothing but the time changes.
    #[must_use]
    pub fn forecast(&self, documents: &ActiveDocuments, collateral: &CollateralHouse, at: UnixTime) -> CollateralForecast {
        let lately = |sighting: &Sighting| at.since(sighting.seen) <= LATELY;
        let seen: Vec<(Key, Sighting)> = {
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            last.all.iter().filter(|(_, sighting)| lately(sighting)).map(|(key, sighting)| (key.clone(), sighting.clone())).collect()
        };
        let now = Now { documents, collateral, at };
        let mut platforms: Vec<ForecastPlatform> = seen.into_iter().filter_map(|(key, sighting)| now.of(key, &sighting)).collect();
        platforms.sort_by_key(|platform| {
            let from = platform.denials.first().map(|denial| denial.from);
            (from.is_none(), from, platform.machine.clone(), platform.policy.name.clone())
        });
        CollateralForecast { at, since: self.since, platforms }
    }
}

/// What a forecast is made with.
struct Now<'a> {
    documents: &'a ActiveDocuments,
    collateral: &'a CollateralHouse,
    at: UnixTime,
}

impl Now<'_> {
    /// `None` where the policy is no more.
    fn of(&self, (machine, authority, name): Key, sighting: &Sighting) -> Option<ForecastPlatform> {
        let policy = self.documents.policy(&authority, &name)?;
        let body = policy.document.body();
        let denials = match &sighting.claims {
            Aging::SevSnp(claims) => self.snp(&authority, &policy.policy, claims),
            Aging::Tdx(claims) => match self.collateral.current().tdx_standing(claims, self.at) {
                Ok(standing) => denials(policy.policy.forecast_tdx(&standing, self.at)),
                Err(rejection) => vec![ForecastDenial { from: self.at, check: rejection.code().to_owned(), why: rejection.to_string() }],
            },
        };
        Some(ForecastPlatform {
            platform: sighting.claims.platform(),
            machine,
            seen: sighting.seen,
            policy: PolicyReference { name: body.name.clone(), version: body.version, document: *policy.document.digest() },
            denials,
        })
    }

    fn snp(&self, authority: &PublicKey, policy: &Policy, claims: &SnpAging) -> Vec<ForecastDenial> {
        let calendar = policy.calendar().and_then(|name| self.documents.calendar(authority, name)).map(|active| &active.calendar);
        let held = self.collateral.piece(&PieceKey::AmdCrl(claims.product)).filter(|piece| piece.issued <= self.at);
        // A guest may have brought a newer list than the one that is held.
        let revocation = match (claims.revocation, held) {
            (Revocation::Checked { this_update, .. } | Revocation::Stale { this_update, .. }, Some(held)) if this_update > held.issued => {
                claims.revocation
            }
            (_, Some(held)) => Revocation::Checked { this_update: held.issued, next_update: held.until },
            (brought, None) => brought,
        };
        denials(policy.forecast_snp(claims, revocation, calendar, self.at))
    }
}

fn denials(forecasts: Vec<Forecast>) -> Vec<ForecastDenial> {
    let denial = |Forecast { denied_at, check, why }| ForecastDenial { from: denied_at, check: check.to_owned(), why };
    forecasts.into_iter().map(denial).collect()
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

/// The machine as far as its evidence names one, else its family; and the TCB under which the guest was launched, since a machine that was
/// updated still runs guests of before.
fn machine(claims: &PlatformClaims) -> String {
    match claims {
        PlatformClaims::Snp(claims) => {
            let machine = match (claims.chip_id, &claims.csp_id) {
                (Some(chip), _) => format!("{} {}", claims.product, hex(&chip)),
                (None, Some(provider)) => format!("{} of {provider}, tcb {}", claims.product, claims.reported_tcb),
                (None, None) => format!("{}, tcb {}", claims.product, claims.reported_tcb),
            };
            format!("{machine}, launched under {}", claims.launch_tcb)
        }
        PlatformClaims::Tdx(claims) => {
            let platform = &claims.platform;
            let machine = platform.platform_instance.unwrap_or(platform.ppid);
            format!("{} {}, launched under {}", hex(&platform.fmspc), hex(&machine), hex(&claims.tee_tcb_svn))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(machine: u64, seen: u64) -> StoredSighting {
        let (zeros, svn) = ("00".repeat(16), "0b010400".to_owned() + &"00".repeat(12));
        let claims = serde_json::json!({
            "platform": "tdx", "authority": "platform", "fmspc": "90c06f000000", "pceid": "0000", "components": zeros, "pce_svn": 13,
            "qe_isv_svn": 8, "tee_tcb_svn": svn, "tee_tcb_svn_2": null,
        });
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
