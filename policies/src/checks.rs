//! The list that an evaluation writes its checks to.

use protocol::ids::Digest;

use crate::codes::Code;
use crate::decision::{Check, Verdict};
use crate::rules::{Exposure, HostValue};
use crate::sets::{List, NamedSets};

/// Checks in the order in which they ran.
#[derive(Default)]
pub(crate) struct Checks(Vec<Check>);

/// How a comparison came out.
pub(crate) fn passed_if(condition: bool) -> Verdict {
    if condition { Verdict::Passed } else { Verdict::Failed }
}

impl Checks {
    /// Notes one check.
    pub(crate) fn note(&mut self, code: &'static Code, expected: impl Into<String>, found: impl Into<String>, verdict: Verdict) {
        // One allocation for all but the longest policies.
        if self.0.is_empty() {
            self.0.reserve(40);
        }
        self.0.push(Check { code: code.code, expected: expected.into(), found: found.into(), verdict });
    }

    pub(crate) fn into_vec(self) -> Vec<Check> {
        self.0
    }
}

/// A digest against named sets.
pub(crate) fn named<const N: usize>(code: &'static Code, sets: &NamedSets<N>, digest: Option<&[u8; N]>, absent: &str, checks: &mut Checks) {
    let set = digest.and_then(|digest| sets.find(digest));
    let found = match (digest, set) {
        (None, _) => absent.to_owned(),
        (Some(digest), None) => hex::encode(digest),
        (Some(digest), Some(name)) => format!("{} ({name})", hex::encode(digest)),
    };
    checks.note(code, sets.expected(), found, passed_if(set.is_some()));
}

/// A value against a list, where the policy has one.
pub(crate) fn listed<const N: usize>(code: &'static Code, list: Option<&List<[u8; N]>>, value: &[u8; N], checks: &mut Checks) {
    if let Some(list) = list {
        let expected = format!("one of {}", list.in_hex());
        checks.note(code, expected, hex::encode(value), passed_if(list.contains(value)));
    }
}

/// A bit that exposes the guest to something.
pub(crate) fn exposure(code: &'static Code, rule: Exposure, allowed: bool, checks: &mut Checks) {
    let expected = match rule {
        Exposure::Denied => "not allowed",
        Exposure::Accepted => "allowed or not",
    };
    let found = if allowed { "allowed" } else { "not allowed" };
    checks.note(code, expected, found, passed_if(!allowed || rule == Exposure::Accepted));
}

/// A value that the host chose. Without a situation, a rule that needs the guest's configuration is left out, as
/// [`needs_configuration`] says.
pub(crate) fn host_value<const N: usize>(
    code: &'static Code,
    rule: &HostValue<N>,
    found: &[u8; N],
    configuration: Option<&Digest>,
    checks: &mut Checks,
) {
    let Some((expected, verdict)) = compare(rule, found, configuration) else { return };
    checks.note(code, expected, hex::encode(found), verdict);
}

/// Whether a rule cannot run without the guest's configuration.
pub(crate) const fn needs_configuration<const N: usize>(rule: &HostValue<N>) -> bool {
    matches!(rule, HostValue::ConfigurationDigest)
}

/// What a rule expects of a value, and whether it holds; `None` where it needs a configuration that is not there.
pub(crate) fn compare<const N: usize>(rule: &HostValue<N>, found: &[u8; N], configuration: Option<&Digest>) -> Option<(String, Verdict)> {
    Some(match rule {
        HostValue::AllZero => ("all zero".to_owned(), passed_if(*found == [0; N])),
        HostValue::OneOf(list) => (format!("one of {}", list.in_hex()), passed_if(list.contains(found))),
        HostValue::NotTrusted(word) => (format!("anything: {word}"), Verdict::Passed),
        HostValue::ConfigurationDigest => {
            let digest = configuration?;
            let (expected, zeros) = found.split_at_checked(digest.as_bytes().len())?;
            let same = expected == digest.as_bytes() && zeros.iter().all(|byte| *byte == 0);
            let padding = if zeros.is_empty() { "" } else { " and zeros behind it" };
            (format!("the configuration digest {digest}{padding}"), passed_if(same))
        }
    })
}
