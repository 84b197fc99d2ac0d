//! What each step compared, where somebody wants to read it.

use crate::STEPS;
use crate::claims::Step;

/// Takes note of steps that passed, or does not: text that nobody reads is not made.
pub(crate) enum Steps {
    /// For a release: the verdict is enough.
    Unread,
    /// For people.
    Noted(Vec<Step>),
}

impl Steps {
    /// Step `number` passed.
    pub(crate) fn passed(&mut self, number: u8, compared: impl FnOnce() -> String) {
        if let Self::Noted(steps) = self {
            let name = STEPS.get(usize::from(number.saturating_sub(1))).copied().unwrap_or_default();
            steps.push(Step { number, name, compared: compared() });
        }
    }

    /// What was noted.
    pub(crate) fn into_noted(self) -> Vec<Step> {
        match self {
            Self::Unread => Vec::new(),
            Self::Noted(steps) => steps,
        }
    }
}
