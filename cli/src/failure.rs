//! How a command ends: exit codes, and failures as people read them.

use std::fmt;

/// How a command ended. The numbers are part of the command's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what it was asked. For `verify`: the evidence is genuine and, where a policy was given, permitted. (0)
    Done,
    /// It could not do it, or what it looked at is not right. For `verify`: the evidence is rejected. (1)
    Failed,
    /// Wrong use: bad arguments, a file that cannot be read or is of another kind. (2)
    Usage,
    /// The evidence is genuine and the policy denies it. (3)
    Denied,
    /// Ended by the user; nothing is left behind. (130)
    Interrupted,
}

impl Exit {
    /// The process's exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Denied => 3,
            Self::Interrupted => 130,
        }
    }
}

/// Why a command did not do what it was asked: one line, what may help, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    exit: Exit,
}

impl Failure {
    /// It could not be done.
    pub(crate) fn failed(error: impl fmt::Display) -> Self {
        Self { message: error.to_string(), hint: None, exit: Exit::Failed }
    }

    /// It was asked wrongly.
    pub(crate) fn usage(error: impl fmt::Display) -> Self {
        Self { message: error.to_string(), hint: None, exit: Exit::Usage }
    }

    /// The user ended it.
    pub(crate) fn interrupted() -> Self {
        Self { message: "interrupted; nothing is left behind".to_owned(), hint: None, exit: Exit::Interrupted }
    }

    /// Adds what may help.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The exit code.
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// Prints the failure to standard error.
    pub(crate) fn report(&self, console: &mut crate::console::Console<'_>) {
        console.error(&self.message);
        if let Some(hint) = &self.hint {
            console.hint(hint);
        }
    }
}

/// What a command ends with.
pub(crate) type Outcome = Result<Exit, Failure>;
