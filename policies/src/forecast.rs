//! When a platform that is permitted now will be denied, if nothing about it changes: for whoever must renew collateral or firmware
//! before that day.

use attestation::{PlatformClaims, Revocation, SnpClaims, TdxClaims};
use protocol::time::UnixTime;

use crate::calendar::Calendar;
use crate::codes::{self, Code};
use crate::rules::{Age, Snp, Tdx};
use crate::{Policy, snp, tdx};

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
    /// The first of the checks on time that these claims will fail, if neither they nor the collateral behind them change: revocation list,
    /// TCB info and QE identity, periods of grace, the TCB calendar. `None` where no time is in sight.
    ///
    /// A [`Forecast::denied_at`] that is not after `at` says: denied by now. Checks that time does not move, such as on measurements, are
    /// left to [`Self::examine`]; so is a platform that this policy has no table for.
    #[must_use]
    pub fn forecast(&self, claims: &PlatformClaims, calendar: Option<&Calendar>, at: UnixTime) -> Option<Forecast> {
        let rules = &self.rules;
        let (revoked, mut times) = match (claims, &rules.snp, &rules.tdx) {
            (PlatformClaims::Snp(claims), Some(rules), _) => (claims.revocation, snp(rules, claims, calendar, at)),
            (PlatformClaims::Tdx(claims), _, Some(rules)) => (claims.revocation, tdx(rules, claims)),
            (PlatformClaims::Snp(_), None, _) | (PlatformClaims::Tdx(_), _, None) => return None,
        };
        times.push(revocation(rules.revocation, revoked, at));
        times.into_iter().min_by_key(|forecast| forecast.denied_at)
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

fn snp(rules: &Snp, claims: &SnpClaims, calendar: Option<&Calendar>, at: UnixTime) -> Vec<Forecast> {
    let denied = snp::denied_by_calendar(rules, claims, calendar, at);
    denied.map(|(from, code, why)| Forecast::new(from, code, why)).into_iter().collect()
}

fn tdx(rules: &Tdx, claims: &TdxClaims) -> Vec<Forecast> {
    let documents = [("TCB info", &claims.tcb_info), ("QE identity", &claims.qe_identity)];
    let mut times: Vec<_> = documents
        .into_iter()
        .map(|(name, source)| {
            let why = format!(
                "the {name} of {} {}",
                source.issued,
                if matches!(rules.collateral, Age::InForce) { "runs out" } else { "is too old" }
            );
            Forecast::after(tdx::fresh_until(rules.collateral, source), &codes::TDX_COLLATERAL_AGE, why)
        })
        .collect();
    if let Some(end) = tdx::grace_ends(&rules.tcb, claims) {
        let why = format!("the period of grace of a platform that is {} ends", claims.tcb.status);
        times.push(Forecast::after(end, &codes::TDX_TCB_GRACE, why));
    }
    times
}

fn next_second(time: UnixTime) -> UnixTime {
    UnixTime::from_seconds(time.seconds().saturating_add(1))
}
