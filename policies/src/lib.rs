//! The policy language and its evaluation: verified claims become a [`Decision`].
//!
//! A policy is a strict TOML text (LANGUAGE.md beside this crate; `examples/` has whole ones). [`Policy::parse`] reads it once;
//! [`Policy::decide`] then runs every rule over the claims of one guest and says yes with a [`Permit`], or no with every check
//! that failed. The rules:
//!
//! - Each rule that is stated must hold. A rule with several values holds if one of them matches.
//! - Nothing is unchecked by silence: a key without a default must be stated, any other default is the strict one. A weakness is
//!   accepted only by a word that says so at the place where it is accepted.
//! - A claim that the evidence does not carry fails every rule on it.
//! - Every check is reported with what was expected and what was found, under a stable code ([`codes`]).
//!
//! Not decided here: whether the evidence is genuine (`attestation` rejects it before), whether the record is revoked and who may
//! sign policies (the broker's `record`), and what a permitted image does with what it gets.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::as_conversions))]

mod calendar;
mod checks;
pub mod codes;
mod compile;
mod decision;
mod error;
mod forecast;
mod general;
mod identity;
mod language;
mod rules;
mod sets;
mod snp;
mod tdx;
mod values;

use std::time::Duration;

use protocol::ids::{Name, Role};

pub use calendar::Calendar;
pub use decision::{Ask, Check, Decision, Permit, Verdict};
pub use error::{PolicyError, Reason};
pub use forecast::{Aging, Forecast, SnpAging};
pub use identity::{Audience, IdentityRules};

/// A policy, ready to decide. Whose signature it bore is the caller's to know.
#[derive(Debug)]
pub struct Policy {
    rules: rules::Rules,
}

impl Policy {
    /// Reads a policy of at most [`protocol::limits::DOCUMENT`] bytes.
    ///
    /// # Errors
    /// [`PolicyError`] with line, column, reason and hint, for the first thing in the text that is not the language's.
    pub fn parse(toml: &str) -> Result<Self, PolicyError> {
        compile::compile(toml).map(|rules| Self { rules })
    }

    /// What the policy's author says it is for.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.rules.description.as_deref()
    }

    /// For whom in the VM evidence must speak.
    #[must_use]
    pub const fn role(&self) -> &Role {
        &self.rules.role
    }

    /// The TCB calendar that decisions need, by the same authority as this policy; `None` where they need none.
    #[must_use]
    pub fn calendar(&self) -> Option<&Name> {
        self.rules.snp.as_ref().and_then(|snp| snp.calendar.as_ref())
    }

    /// Who a guest is that this policy permits; `None` where it gives no identity.
    #[must_use]
    pub const fn identity(&self) -> Option<&IdentityRules> {
        self.rules.identity.as_ref()
    }

    /// How long one attestation is good for: between 1 minute and 7 days.
    #[must_use]
    pub const fn attestation_lifetime(&self) -> Duration {
        self.rules.attestation_lifetime
    }
}
