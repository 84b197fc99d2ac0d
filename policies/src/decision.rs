//! The decision: what was asked, what was checked, and the permit that only a yes can make.

use protocol::hpke::RecipientKey;
use protocol::ids::{Digest, Role};
use protocol::keys::PublicKey;
use protocol::time::UnixTime;
use serde::Serialize;

use attestation::{PlatformClaims, VerifiedClaims};

use crate::calendar::Calendar;
use crate::checks::Checks;
use crate::{Policy, general, snp, tdx};

/// What is asked for: data of the caller that a [`Permit`] carries on, so that it can serve nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Digest of the record's statement.
    pub record: Digest,
    /// Whose key signed that statement: one that the broker's configuration trusts for the record's name.
    pub publisher: PublicKey,
    /// Digest of the whole active set of signed documents that the decision stands on: its revision.
    pub documents: Digest,
}

/// The policy said yes to one ask by one guest. It exists only after [`Policy::decide`], and it is used up by being recorded.
///
/// It cannot be copied, made up or read from a file:
/// ```compile_fail,E0277
/// fn copies<T: Clone>() {}
/// copies::<policies::Permit>();
/// ```
/// ```compile_fail,E0277
/// fn made_up<T: Default>() {}
/// made_up::<policies::Permit>();
/// ```
/// ```compile_fail,E0277
/// fn read<T: serde::de::DeserializeOwned>() {}
/// read::<policies::Permit>();
/// ```
#[derive(Debug)]
#[must_use = "a permit is recorded before anything is released"]
pub struct Permit {
    ask: Ask,
    guest_key: RecipientKey,
    expires: UnixTime,
}

impl Permit {
    /// Digest of the record's statement.
    #[must_use]
    pub const fn record(&self) -> &Digest {
        &self.ask.record
    }

    /// The attested key: what is released is sealed to it and to nothing else.
    #[must_use]
    pub const fn guest_key(&self) -> &RecipientKey {
        &self.guest_key
    }

    /// Digest of the active set of signed documents.
    #[must_use]
    pub const fn documents(&self) -> &Digest {
        &self.ask.documents
    }

    /// When the attestation is used up: the time of verification plus the policy's `attestation-lifetime`.
    #[must_use]
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }
}

/// What a policy says to one ask, with every check that it ran.
#[derive(Debug)]
#[must_use]
pub enum Decision {
    /// Every check passed.
    Permit(Permit, Vec<Check>),
    /// At least one check failed; all that failed are among these.
    Denial(Vec<Check>),
}

impl Decision {
    /// Every check that ran, in the order of [`crate::codes::CODES`].
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        match self {
            Self::Permit(_, checks) | Self::Denial(checks) => checks,
        }
    }
}

/// One check that ran. Neither side is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its stable code; [`crate::codes::find`] explains it.
    pub code: &'static str,
    /// What the policy expects, for people.
    pub expected: String,
    /// What the claims say, for people.
    pub found: String,
    /// Whether they agree.
    pub verdict: Verdict,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The claim is what the policy expects.
    Passed,
    /// It is not, or the evidence does not carry it.
    Failed,
}

/// What one evaluation looks at. Without a situation, the rules that need one are left out ([`Policy::left_out`]).
pub(crate) struct Subject<'a> {
    pub(crate) platform: &'a PlatformClaims,
    pub(crate) situation: Option<(&'a Role, &'a Digest)>,
    pub(crate) calendar: Option<&'a Calendar>,
    pub(crate) at: UnixTime,
}

impl Policy {
    /// Decides over `ask` by the guest whose claims these are. Time `at` is now.
    ///
    /// Every rule runs, also after one has failed, so that a denial names all that is wrong. `calendar` is the one that
    /// [`Self::calendar`] names, by the authority that signed this policy; a policy that names one denies without it.
    pub fn decide(&self, claims: &VerifiedClaims, ask: &Ask, calendar: Option<&Calendar>, at: UnixTime) -> Decision {
        let transcript = claims.transcript();
        let mut checks = Checks::default();
        general::attestation_age(&self.rules, claims.verified_at(), at, &mut checks);
        general::publisher(&self.rules, &ask.publisher, &mut checks);
        let situation = Some((&transcript.role, &transcript.configuration));
        self.run(&Subject { platform: claims.platform(), situation, calendar, at }, &mut checks);
        let checks = checks.into_vec();
        // `all` is true of an empty list; a policy that ran no check must not permit.
        if checks.is_empty() || checks.iter().any(|check| check.verdict != Verdict::Passed) {
            return Decision::Denial(checks);
        }
        let expires = claims.verified_at().plus(self.rules.attestation_lifetime);
        Decision::Permit(Permit { ask: ask.clone(), guest_key: transcript.hpke_key.clone(), expires }, checks)
    }

    /// Runs the rules over claims as plain data, for judging offline; nothing can be released on the outcome.
    ///
    /// `situation` is the guest's role and the digest of its configuration, which stand in the transcript and not in the
    /// report. Without it the rules that [`Self::left_out`] lists do not run: say so to whoever reads the outcome.
    #[must_use]
    pub fn examine(
        &self,
        platform: &PlatformClaims,
        situation: Option<(&Role, &Digest)>,
        calendar: Option<&Calendar>,
        at: UnixTime,
    ) -> Vec<Check> {
        let mut checks = Checks::default();
        self.run(&Subject { platform, situation, calendar, at }, &mut checks);
        checks.into_vec()
    }

    /// The codes of this policy's rules that [`Self::examine`] cannot run without a situation, or for want of a record.
    #[must_use]
    pub fn left_out(&self) -> Vec<&'static str> {
        let mut codes = general::needs_ask(&self.rules).to_vec();
        codes.extend(general::needs_situation());
        codes.extend(self.rules.snp.as_ref().and_then(snp::needs_situation));
        codes.extend(self.rules.tdx.as_ref().and_then(tdx::needs_situation));
        codes
    }

    fn run(&self, subject: &Subject<'_>, checks: &mut Checks) {
        general::run(&self.rules, subject, checks);
        // A platform without a table was denied just now, by `platform`.
        match (subject.platform, &self.rules.snp, &self.rules.tdx) {
            (PlatformClaims::Snp(claims), Some(rules), _) => snp::run(rules, claims, subject, checks),
            (PlatformClaims::Tdx(claims), _, Some(rules)) => tdx::run(rules, self.rules.revocation, claims, subject, checks),
            (PlatformClaims::Snp(_), None, _) | (PlatformClaims::Tdx(_), _, None) => {}
        }
    }
}
