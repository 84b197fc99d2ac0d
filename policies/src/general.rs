//! The rules that hold for every kind of platform: age, publisher, role, configuration, revocation, second opinion.

use std::time::Duration;

use attestation::{PlatformClaims, Revocation, SecondOpinion};
use protocol::keys::PublicKey;
use protocol::time::UnixTime;

use crate::checks::{Checks, passed_if};
use crate::codes::{self, Code};
use crate::decision::{Subject, Verdict};
use crate::rules::{Age, Configuration, Rules};

/// Whether claims that were verified at `verified` still speak for the guest `at` this time.
pub(crate) fn attestation_age(rules: &Rules, verified: UnixTime, at: UnixTime, checks: &mut Checks) {
    let age = at.since(verified);
    let expected = format!("verified at most {} ago", words(rules.attestation_lifetime));
    if verified > at {
        checks.note(&codes::ATTESTATION_AGE, expected, format!("verified at {verified}, which is after {at}"), Verdict::Failed);
    } else {
        let verdict = passed_if(age <= rules.attestation_lifetime);
        checks.note(&codes::ATTESTATION_AGE, expected, format!("verified {} ago", words(age)), verdict);
    }
}

/// Whether the record's statement bears the signature of a publisher whom the policy names, where it names any.
pub(crate) fn publisher(rules: &Rules, publisher: &PublicKey, checks: &mut Checks) {
    let Some(sets) = &rules.publishers else { return };
    let set = sets.find(publisher.as_bytes());
    let found = set.map_or_else(|| publisher.to_string(), |name| format!("{publisher} ({name})"));
    checks.note(&codes::RECORD_PUBLISHER, sets.expected(), found, passed_if(set.is_some()));
}

/// The codes of the rules here that read what is asked for.
pub(crate) fn needs_ask(rules: &Rules) -> &'static [&'static str] {
    const CODES: [&str; 1] = [codes::RECORD_PUBLISHER.code];
    if rules.publishers.is_some() { &CODES } else { &[] }
}

/// The codes of the rules here that read the guest's situation.
pub(crate) fn needs_situation() -> [&'static str; 2] {
    [codes::ROLE.code, codes::CONFIGURATION.code]
}

/// The platforms by their usual names.
const SNP: &str = "AMD SEV-SNP";
const TDX: &str = "Intel TDX";

/// Runs every rule of this file but [`attestation_age`] and [`publisher`].
pub(crate) fn run(rules: &Rules, subject: &Subject<'_>, checks: &mut Checks) {
    if let Some((role, configuration)) = subject.situation {
        checks.note(&codes::ROLE, rules.role.to_string(), role.to_string(), passed_if(*role == rules.role));
        let (expected, verdict) = match &rules.configuration {
            Configuration::IsMeasured => ("any: config-is-measured".to_owned(), Verdict::Passed),
            Configuration::OneOf(list) => {
                (format!("one of {}", list.spell_out(ToString::to_string)), passed_if(list.contains(configuration)))
            }
        };
        checks.note(&codes::CONFIGURATION, expected, configuration.to_string(), verdict);
    }
    let (found, stated, revoked, opinion) = match subject.platform {
        PlatformClaims::Snp(claims) => (SNP, rules.snp.is_some(), claims.revocation, &claims.second_opinion),
        PlatformClaims::Tdx(claims) => (TDX, rules.tdx.is_some(), claims.revocation, &claims.second_opinion),
    };
    let tables = [(SNP, rules.snp.is_some()), (TDX, rules.tdx.is_some())];
    let expected = tables.iter().filter(|(_, stated)| *stated).map(|(name, _)| *name).collect::<Vec<_>>().join(" or ");
    checks.note(&codes::PLATFORM, expected, found, passed_if(stated));
    revocation(rules.revocation, revoked, subject.at, checks);
    second_opinion(rules, subject.platform, opinion, checks);
}

/// The list that could name the platform's certificate.
pub(crate) fn revocation(rule: Age, claim: Revocation, at: UnixTime, checks: &mut Checks) {
    let expected = match rule {
        Age::InForce => "a revocation list in force".to_owned(),
        Age::AtMost(age) => format!("a revocation list issued at most {} ago", words(age)),
    };
    list(&codes::REVOCATION_AGE, expected, claim, |this_update, next_update| fresh_until(rule, this_update, next_update), at, checks);
}

/// The last second at which a list or document is fresh enough.
pub(crate) fn fresh_until(rule: Age, this_update: UnixTime, next_update: UnixTime) -> UnixTime {
    match rule {
        Age::InForce => next_update,
        Age::AtMost(age) => this_update.plus(age),
    }
}

/// A check on a list: that there is one, and that it is fresh. A renewed decision may come after the verification, so that this is
/// asked of `at`.
pub(crate) fn list(
    code: &'static Code,
    expected: String,
    claim: Revocation,
    fresh_until: impl Fn(UnixTime, UnixTime) -> UnixTime,
    at: UnixTime,
    checks: &mut Checks,
) {
    let (Revocation::Checked { this_update, next_update } | Revocation::Stale { this_update, next_update }) = claim else {
        return checks.note(code, expected, claim.to_string(), Verdict::Failed);
    };
    let found = format!("issued {this_update}, {} ago, due {next_update}", words(at.since(this_update)));
    let until = fresh_until(this_update, next_update);
    // A list that was past its due when it was judged is so whatever the clock says now.
    let past_due = until == next_update && matches!(claim, Revocation::Stale { .. });
    checks.note(code, expected, found, passed_if(this_update <= at && at <= until && !past_due));
}

fn second_opinion(rules: &Rules, claims: &PlatformClaims, opinion: &SecondOpinion, checks: &mut Checks) {
    let exceptions = &rules.second_opinion_exceptions;
    let expected = match exceptions.as_slice() {
        [] => "agreed".to_owned(),
        some => format!("agreed, or {}", some.iter().map(|exception| exception.as_str()).collect::<Vec<_>>().join(" or ")),
    };
    let verdict = match opinion {
        SecondOpinion::Agreed => Verdict::Passed,
        SecondOpinion::Unavailable { .. } => passed_if(exceptions.iter().any(|exception| exception.covers(claims))),
    };
    checks.note(&codes::SECOND_OPINION, expected, opinion.to_string(), verdict);
}

/// A duration for people, in its largest whole unit or two: `1 hour`, `26 days 4 hours`.
pub(crate) fn words(duration: Duration) -> String {
    let plural = |number: u64, unit: &str| format!("{number} {unit}{}", if number == 1 { "" } else { "s" });
    let pair = |large: u64, name: &str, small: u64, part: &str| {
        if small == 0 { plural(large, name) } else { format!("{} {}", plural(large, name), plural(small, part)) }
    };
    let seconds = duration.as_secs();
    match seconds {
        0..60 => plural(seconds, "second"),
        60..3600 => pair(seconds / 60, "minute", seconds % 60, "second"),
        3600..86400 => pair(seconds / 3600, "hour", seconds / 60 % 60, "minute"),
        _ => pair(seconds / 86400, "day", seconds / 3600 % 24, "hour"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        let words = |seconds| words(Duration::from_secs(seconds));
        assert_eq!([words(0), words(1), words(90), words(3600)], ["0 seconds", "1 second", "1 minute 30 seconds", "1 hour"]);
        assert_eq!([words(3661), words(86400), words(90_000)], ["1 hour 1 minute", "1 day", "1 day 1 hour"]);
    }
}
