//! The list that an evaluation writes its checks to.

use crate::codes::Code;
use crate::decision::{Check, Verdict};

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
