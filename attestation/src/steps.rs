//! What each step compared, where somebody wants to read it.

use crate::claims::Step;

/// Takes note of steps that passed, or does not: text that nobody reads is not made.
pub(crate) enum Steps {
    /// For a release: the verdict is enough.
    Unread,
    /// For people.
    Noted {
        /// The names of the steps, in order.
        names: &'static [&'static str],
        /// Those that passed.
        passed: Vec<Step>,
    },
}

impl Steps {
    /// Takes note, by these names.
    pub(crate) fn noted(names: &'static [&'static str]) -> Self {
        Self::Noted { names, passed: Vec::with_capacity(names.len()) }
    }

    /// Step `number` passed.
    pub(crate) fn passed(&mut self, number: u8, compared: impl FnOnce() -> String) {
        if let Self::Noted { names, passed } = self {
            let name = names.get(usize::from(number.saturating_sub(1))).copied().unwrap_or_default();
            passed.push(Step { number, name, compared: compared() });
        }
    }

    /// What was noted.
    pub(crate) fn into_noted(self) -> Vec<Step> {
        match self {
            Self::Unread => Vec::new(),
            Self::Noted { passed, .. } => passed,
        }
    }
}
