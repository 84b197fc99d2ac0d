//! What an attestation result says of a guest that a policy permitted: no more than its evidence says.
//!
//! A policy may accept a weakness by name, such as a TCB that is out of date. The guest then has its identity, and its result still
//! says so: `hardware` is affirming only where it is known to be up to date.

use attestation::{PlatformClaims, Revocation, TcbStatus, VerifiedClaims};
use policies::codes::SNP_TCB_CALENDAR;
use policies::{Check, Verdict};
use protocol::tokens::result::{TrustClaim, Vector};

/// What is known of a guest that a policy permitted.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// What its evidence proved.
    pub claims: &'a VerifiedClaims,
    /// What its policy looked at.
    pub checks: &'a [Check],
}

impl Known<'_> {
    /// Whether the authority's calendar of TCBs was met. AMD's reports say which TCB is there, and not whether there is a newer one; a minimum
    /// that stands in a policy may be years old.
    fn meets_calendar(&self) -> bool {
        self.checks.iter().any(|check| check.code == SNP_TCB_CALENDAR.code && check.verdict == Verdict::Passed)
    }

    /// The trustworthiness vector: the policy said yes to measurement and configuration.
    pub(super) fn vector(&self) -> Vector {
        let (named, up_to_date, revocation) = match self.claims.platform() {
            PlatformClaims::Snp(claims) => {
                let committed = claims.current_tcb == claims.committed_tcb && claims.current_version == claims.committed_version;
                (claims.chip_id.is_some(), committed && self.meets_calendar(), claims.revocation)
            }
            PlatformClaims::Tdx(claims) => (true, claims.tcb.status == TcbStatus::UpToDate, claims.revocation),
        };
        let checked = matches!(revocation, Revocation::Checked { .. });
        let judged = |good: bool| Some(if good { TrustClaim::AFFIRMING } else { TrustClaim::WARNING });
        Vector {
            // A report that hides its chip says nothing of which instance it is.
            instance_identity: named.then(|| judged(checked)).flatten(),
            configuration: Some(TrustClaim::AFFIRMING),
            executables: Some(TrustClaim::AFFIRMING),
            hardware: judged(up_to_date && checked),
            // Debugging is off: no policy can accept it.
            runtime_opaque: Some(TrustClaim::AFFIRMING),
            ..Vector::default()
        }
    }
}
