//! When a platform that is permitted now will be denied, if nothing about it changes: for whoever must renew collateral or firmware
//! before that day.

use attestation::{CollateralSource, PlatformClaims, ProductLine, Revocation, Tcb, TcbStatus};
use protocol::ids::Platform;
use protocol::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::calendar::Calendar;
use crate::codes::{self, Code};
use crate::rules::{Age, Tdx};
use crate::{Policy, snp, tdx};

/// What of a platform's claims time bears on: little, and plain data that can be kept for long. It permits nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aging {
    revocation: Revocation,
    of: Of,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "platform", rename_all = "kebab-case", deny_unknown_fields)]
enum Of {
    SevSnp { product: ProductLine, committed: Tcb, reported: Tcb, launch: Tcb },
    Tdx { status: TcbStatus, superseded: Option<UnixTime>, tcb_info: CollateralSource, qe_identity: CollateralSource },
}

impl Aging {
    /// The kind of platform.
    #[must_use]
    pub const fn platform(&self) -> Platform {
        match self.of {
            Of::SevSnp { .. } => Platform::SevSnp,
            Of::Tdx { .. } => Platform::Tdx,
        }
    }
}

impl From<&PlatformClaims> for Aging {
    fn from(claims: &PlatformClaims) -> Self {
        match claims {
            PlatformClaims::Snp(claims) => Self {
                revocation: claims.revocation,
                of: Of::SevSnp {
                    product: claims.product,
                    committed: claims.committed_tcb,
                    reported: claims.reported_tcb,
                    launch: claims.launch_tcb,
                },
            },
            PlatformClaims::Tdx(claims) => Self {
                revocation: claims.revocation,
                of: Of::Tdx {
                    status: claims.tcb.status,
                    superseded: claims.tcb.superseded,
                    tcb_info: claims.tcb_info,
                    qe_identity: claims.qe_identity,
                },
            },
        }
    }
}

/// One check that time alone will fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// The first second at which the check fails.
    pub denied_at: UnixTime,
    /// The check's code.
    pub check: &'static str,
    /// What will have happened, for people.
    pub why: String,
}

impl Forecast {
    fn new(denied_at: UnixTime, code: &'static Code, why: String) -> Self {
        Self { denied_at, check: code.code, why }
    }

    /// From the last second at which a check passes.
    fn after(last: UnixTime, code: &'static Code, why: String) -> Self {
        Self::new(next_second(last), code, why)
    }
}

impl Policy {
    /// The last second at which this policy takes a revocation list of the vendor of a kind of platform, by its dates. `None` where it has
    /// no table for such platforms.
    #[must_use]
    pub fn takes_list_until(&self, platform: Platform, issued: UnixTime, next_update: UnixTime) -> Option<UnixTime> {
        let served = match platform {
            Platform::SevSnp => self.rules.snp.is_some(),
            Platform::Tdx => self.rules.tdx.is_some(),
        };
        served.then(|| last_second(self.rules.revocation, issued, next_update))
    }

    /// The same of a TCB info or QE identity of Intel's.
    #[must_use]
    pub fn takes_document_until(&self, issued: UnixTime, next_update: UnixTime) -> Option<UnixTime> {
        self.rules.tdx.as_ref().map(|rules| last_second(rules.collateral, issued, next_update))
    }

    /// The first of the checks on time that these claims will fail, if neither they nor the collateral behind them change: revocation list,
    /// TCB info and QE identity, periods of grace, the TCB calendar. `None` where no time is in sight.
    ///
    /// A [`Forecast::denied_at`] that is not after `at` says: denied by now. Checks that time does not move, such as on measurements, are
    /// left to [`Self::examine`]; so is a platform that this policy has no table for.
    #[must_use]
    pub fn forecast(&self, claims: &Aging, calendar: Option<&Calendar>, at: UnixTime) -> Option<Forecast> {
        let rules = &self.rules;
        let mut times = match (&claims.of, &rules.snp, &rules.tdx) {
            (Of::SevSnp { product, committed, reported, launch }, Some(rules), _) => {
                let denied = snp::denied_by_calendar(rules, *product, [committed, reported, launch], calendar, at);
                denied.map(|(from, code, why)| Forecast::new(from, code, why)).into_iter().collect()
            }
            (Of::Tdx { status, superseded, tcb_info, qe_identity }, _, Some(rules)) => {
                let mut times = documents(rules, tcb_info, qe_identity);
                times.extend(tdx::grace_ends(&rules.tcb, *status, *superseded).map(|end| grace(*status, end)));
                times
            }
            (Of::SevSnp { .. }, None, _) | (Of::Tdx { .. }, _, None) => return None,
        };
        times.push(revocation(rules.revocation, claims.revocation, at));
        times.into_iter().min_by_key(|forecast| forecast.denied_at)
    }
}

fn last_second(rule: Age, issued: UnixTime, next_update: UnixTime) -> UnixTime {
    match rule {
        Age::InForce => next_update,
        Age::AtMost(age) => issued.plus(age),
    }
}

fn revocation(rule: Age, claim: Revocation, at: UnixTime) -> Forecast {
    let code = &codes::REVOCATION_AGE;
    match (rule, claim) {
        (_, Revocation::Unknown) => Forecast::new(at, code, "there is no revocation list".to_owned()),
        (Age::AtMost(age), Revocation::Checked { this_update, .. } | Revocation::Stale { this_update, .. }) => {
            Forecast::after(this_update.plus(age), code, format!("the revocation list of {this_update} is too old"))
        }
        (Age::InForce, Revocation::Checked { this_update, next_update }) => {
            Forecast::after(next_update, code, format!("the revocation list of {this_update} runs out"))
        }
        // It was stale when it was judged, so it is no later; its own dates say since when.
        (Age::InForce, Revocation::Stale { this_update, next_update }) => {
            let since = next_second(next_update).min(at);
            Forecast::new(since, code, format!("the revocation list of {this_update} has run out"))
        }
    }
}

fn documents(rules: &Tdx, tcb_info: &CollateralSource, qe_identity: &CollateralSource) -> Vec<Forecast> {
    let word = if matches!(rules.collateral, Age::InForce) { "runs out" } else { "is too old" };
    let one = |name: &str, source: &CollateralSource| {
        let why = format!("the {name} of {} {word}", source.issued);
        Forecast::after(tdx::fresh_until(rules.collateral, source), &codes::TDX_COLLATERAL_AGE, why)
    };
    vec![one("TCB info", tcb_info), one("QE identity", qe_identity)]
}

fn grace(status: TcbStatus, end: UnixTime) -> Forecast {
    Forecast::after(end, &codes::TDX_TCB_GRACE, format!("the period of grace of a platform that is {status} ends"))
}

fn next_second(time: UnixTime) -> UnixTime {
    UnixTime::from_seconds(time.seconds().saturating_add(1))
}
