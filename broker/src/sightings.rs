//! What the evidence of each platform last said, under each policy that decided about it: for the forecast of which will be denied.
//!
//! Kept in memory since the broker started, bounded, the longest unseen going first. Nothing is decided on it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use attestation::{EventLog, PlatformClaims};
use protocol::admin::{CollateralForecast, ForecastDenial, ForecastPlatform, PolicyReference};
use protocol::ids::{Name, Platform};
use protocol::keys::PublicKey;
use protocol::time::UnixTime;

use crate::collateral::hex;
use crate::decision::Verdicts;
use crate::documents::ActiveDocuments;

/// Platforms that are remembered at most, each under each of its policies: some 2 KiB each.
const SIGHTINGS: usize = 8192;

/// Which platform, under whose policy of which name.
type Key = (String, PublicKey, Name);

struct Sighting {
    claims: PlatformClaims,
    seen: UnixTime,
}

/// The platforms seen lately.
pub struct Sightings {
    since: UnixTime,
    last: Mutex<HashMap<Key, Sighting>>,
}

impl Sightings {
    /// None yet.
    #[must_use]
    pub fn new(since: UnixTime) -> Self {
        Self { since, last: Mutex::default() }
    }

    /// Remembers what was decided about, whatever was decided.
    pub(crate) fn note(&self, verdicts: &Verdicts) {
        let claims = without_log(verdicts.claims.platform());
        let machine = machine(&claims);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for item in &verdicts.items {
            let (Some(record), Some(policy)) = (&item.record, &item.policy) else { continue };
            let key = (machine.clone(), record.statement.body().authority, policy.name.clone());
            if last.len() >= SIGHTINGS && !last.contains_key(&key) {
                forget_oldest(&mut last);
            }
            last.insert(key, Sighting { claims: claims.clone(), seen: verdicts.at });
        }
    }

    /// What the policies in force will say of them, if nothing but the time changes.
    #[must_use]
    pub fn forecast(&self, documents: &ActiveDocuments, at: UnixTime) -> CollateralForecast {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut platforms: Vec<ForecastPlatform> = last
            .iter()
            .filter_map(|((machine, authority, name), sighting)| {
                let policy = documents.policy(authority, name)?;
                let body = policy.document.body();
                let reference = PolicyReference { name: body.name.clone(), version: body.version, document: *policy.document.digest() };
                let calendar = policy.policy.calendar().and_then(|name| documents.calendar(authority, name));
                let denied = policy.policy.forecast(&sighting.claims, calendar.map(|calendar| &calendar.calendar), at);
                Some(ForecastPlatform {
                    platform: platform(&sighting.claims),
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

/// Makes room for a sixteenth at once, so that a full memory is not searched for each newcomer.
fn forget_oldest(last: &mut HashMap<Key, Sighting>) {
    let mut seen: Vec<UnixTime> = last.values().map(|sighting| sighting.seen).collect();
    seen.sort_unstable();
    let Some(limit) = seen.get(SIGHTINGS / 16).copied() else { return };
    let before = last.len();
    last.retain(|_, sighting| sighting.seen > limit);
    if last.is_empty() && before > 0 {
        tracing::debug!(before, "all sightings were of one second; all are forgotten");
    }
}

fn without_log(claims: &PlatformClaims) -> PlatformClaims {
    let mut claims = claims.clone();
    match &mut claims {
        PlatformClaims::Snp(_) => {}
        PlatformClaims::Tdx(claims) => claims.event_log = EventLog::Absent,
    }
    claims
}

const fn platform(claims: &PlatformClaims) -> Platform {
    match claims {
        PlatformClaims::Snp(_) => Platform::SevSnp,
        PlatformClaims::Tdx(_) => Platform::Tdx,
    }
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
