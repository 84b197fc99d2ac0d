//! Which platforms time will deny, if nothing about them changes: for whoever must renew collateral or firmware before that day.

use attestation::{CollateralSource, PlatformClaims, ProductLine, Revocation, Tcb, TdxStanding, TdxTcb};
use protocol::ids::Platform;
use protocol::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::calendar::Calendar;
use crate::checks::Checks;
use crate::codes::{self, Code};
use crate::decision::Verdict;
use crate::rules::{Age, Tdx};
use crate::tdx::Standing;
use crate::{Policy, general, snp, tdx};

/// What of a platform's claims is judged by what is published about it: plain data that can be kept for long. It permits nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "platform", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Aging {
    /// AMD SEV-SNP.
    SevSnp(SnpAging),
    /// Intel TDX: collateral says what its TCB is worth, [`TdxTcb`] which one it is.
    Tdx(TdxTcb),
}

/// An SNP platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnpAging {
    /// Its processor line.
    pub product: ProductLine,
    committed: Tcb,
    reported: Tcb,
    launch: Tcb,
    /// What was known of revocation when it was seen.
    pub revocation: Revocation,
}

impl Aging {
    /// The kind of platform.
    #[must_use]
    pub const fn platform(&self) -> Platform {
        match self {
            Self::SevSnp(_) => Platform::SevSnp,
            Self::Tdx(_) => Platform::Tdx,
        }
    }
}

impl From<&PlatformClaims> for Aging {
    fn from(claims: &PlatformClaims) -> Self {
        match claims {
            PlatformClaims::Snp(claims) => Self::SevSnp(SnpAging {
                product: claims.product,
                committed: claims.committed_tcb,
                reported: claims.reported_tcb,
                launch: claims.launch_tcb,
                revocation: claims.revocation,
            }),
            PlatformClaims::Tdx(claims) => Self::Tdx(TdxTcb::from(claims)),
        }
    }
}

/// One check that fails, or that time alone will fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// The first second at which the check fails; where that is not told by a date, the time of the forecast.
    pub denied_at: UnixTime,
    /// The check's code.
    pub check: &'static str,
    /// What will have happened, for people.
    pub why: String,
}

impl Forecast {
    const fn new(denied_at: UnixTime, code: &'static Code, why: String) -> Self {
        Self { denied_at, check: code.code, why }
    }

    /// From the last second at which a check passes.
    fn after(last: UnixTime, code: &'static Code, why: String) -> Self {
        Self::new(UnixTime::from_seconds(last.seconds().saturating_add(1)), code, why)
    }
}

impl Policy {
    /// The last second at which this policy takes a list of revoked certificates of a kind of platform (AMD's root's; a PCK authority's of
    /// Intel's), by its dates. `None` where it has no table for such platforms.
    #[must_use]
    pub fn takes_list_until(&self, platform: Platform, issued: UnixTime, next_update: UnixTime) -> Option<UnixTime> {
        let served = match platform {
            Platform::SevSnp => self.rules.snp.is_some(),
            Platform::Tdx => self.rules.tdx.is_some(),
        };
        served.then(|| general::fresh_until(self.rules.revocation, issued, next_update))
    }

    /// The same of a list of Intel's root.
    #[must_use]
    pub fn takes_root_list_until(&self, issued: UnixTime, next_update: UnixTime) -> Option<UnixTime> {
        self.rules.tdx.as_ref().map(|_| tdx::root_list_fresh_until(self.rules.revocation, issued, next_update))
    }

    /// The same of a TCB info or QE identity of Intel's.
    #[must_use]
    pub fn takes_document_until(&self, issued: UnixTime, next_update: UnixTime) -> Option<UnixTime> {
        self.rules.tdx.as_ref().map(|rules| general::fresh_until(rules.collateral, issued, next_update))
    }

    /// Every check on published dates and TCBs that an SNP platform fails or will fail, if neither it nor what is published changes, the
    /// earliest first. `revocation` is what its line's list says now.
    ///
    /// A [`Forecast::denied_at`] that is not after `at` says: denied by now. Of a platform that the policy has no table for, that is all that
    /// is said. Checks on the guest, such as on measurements, are left to [`Self::examine`].
    #[must_use]
    pub fn forecast_snp(&self, platform: &SnpAging, revocation: Revocation, calendar: Option<&Calendar>, at: UnixTime) -> Vec<Forecast> {
        let Some(rules) = &self.rules.snp else { return vec![no_table(at)] };
        let SnpAging { product, committed, reported, launch, .. } = platform;
        let denials = snp::denials(rules, *product, [committed, reported, launch], calendar, at);
        let mut times: Vec<Forecast> = denials.into_iter().map(|(from, code, why)| Forecast::new(from, code, why)).collect();
        let fresh_until = |this, next| general::fresh_until(self.rules.revocation, this, next);
        times.push(list(&codes::REVOCATION_AGE, "revocation list", revocation, fresh_until, at));
        sorted(times)
    }

    /// The same of a TDX platform, of which `standing` is what collateral says now.
    #[must_use]
    pub fn forecast_tdx(&self, standing: &TdxStanding, at: UnixTime) -> Vec<Forecast> {
        let Some(rules) = &self.rules.tdx else { return vec![no_table(at)] };
        let TdxStanding { tcb, tcb_info, qe_identity, revocation, root_revocation } = standing;
        let lists = self.rules.revocation;
        let mut times = documents(rules, tcb_info, qe_identity);
        let fresh_until = |this, next| general::fresh_until(lists, this, next);
        times.push(list(&codes::REVOCATION_AGE, "PCK authority's revocation list", *revocation, fresh_until, at));
        let fresh_until = |this, next| tdx::root_list_fresh_until(lists, this, next);
        times.push(list(&codes::TDX_ROOT_REVOCATION, "root's revocation list", *root_revocation, fresh_until, at));
        if let Some(end) = tdx::grace_ends(&rules.tcb, tcb.status, tcb.superseded) {
            times.push(Forecast::after(
                end,
                &codes::TDX_TCB_GRACE,
                format!("the period of grace of a platform that is {} ends", tcb.status),
            ));
        }
        // What fails by now and has no date of its own.
        let mut checks = Checks::default();
        let standing = Standing { tcb, documents: [tcb_info, qe_identity], root_revocation: *root_revocation };
        tdx::standing(rules, lists, standing, at, &mut checks);
        for check in checks.into_vec().into_iter().filter(|check| check.verdict == Verdict::Failed) {
            if !times.iter().any(|time| time.check == check.code && time.denied_at <= at) {
                times.push(Forecast {
                    denied_at: at,
                    check: check.code,
                    why: format!("{}, where {} is asked for", check.found, check.expected),
                });
            }
        }
        sorted(times)
    }
}

fn no_table(at: UnixTime) -> Forecast {
    Forecast::new(at, &codes::PLATFORM, "the policy has no table for this kind of platform".to_owned())
}

fn sorted(mut times: Vec<Forecast>) -> Vec<Forecast> {
    times.sort_by_key(|forecast| forecast.denied_at);
    times
}

fn list(
    code: &'static Code,
    name: &str,
    claim: Revocation,
    fresh_until: impl Fn(UnixTime, UnixTime) -> UnixTime,
    at: UnixTime,
) -> Forecast {
    match claim {
        Revocation::Unknown => Forecast::new(at, code, format!("there is no {name}")),
        Revocation::Checked { this_update, next_update } | Revocation::Stale { this_update, next_update } => {
            let last = fresh_until(this_update, next_update);
            let (word, past_due) =
                if last == next_update { ("runs out", matches!(claim, Revocation::Stale { .. })) } else { ("is too old", false) };
            let forecast = Forecast::after(last, code, format!("the {name} of {this_update} {word}"));
            Forecast { denied_at: if past_due { forecast.denied_at.min(at) } else { forecast.denied_at }, ..forecast }
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
