//! What can go otherwise than it should, for people who read a failed test or a failed demo.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a step was not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A program cannot be started.
    #[error("cannot start {line}: {error}")]
    Start {
        /// The command line.
        line: String,
        /// The system's error.
        error: std::io::Error,
    },
    /// A program takes too long.
    #[error("{line} did not end within {after:?}")]
    TimedOut {
        /// The command line.
        line: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// A server ended, or took too long, before it served.
    #[error("{line} does not serve; it said:\n{log}")]
    NotServing {
        /// The command line.
        line: String,
        /// Its standard error.
        log: String,
    },
    /// A program ended otherwise than expected.
    #[error("{line} ended with exit code {found}, expected {expected}; it said:\n{output}")]
    Exit {
        /// The command line.
        line: String,
        /// The exit code that was expected.
        expected: i32,
        /// The exit code; -1 for a signal.
        found: i32,
        /// Both its streams.
        output: String,
    },
    /// Something is not what it should be.
    #[error("{what}: expected {expected}, found {found}")]
    Unexpected {
        /// What.
        what: String,
        /// How it should be.
        expected: String,
        /// How it is.
        found: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// Not enough memory for what was wished.
    #[error("no memory file system has room for {}; {} are free\nhint: a smaller --size", in_gigabytes(*needed), in_gigabytes(*free))]
    NoMemory {
        /// What is needed (bytes).
        needed: u64,
        /// The most that is free on any of them, or in memory altogether (bytes).
        free: u64,
    },
    /// The outsider's own client failed.
    #[error("the outsider's request cannot be made: {0}")]
    Outsider(String),
    /// The terminal is gone.
    #[error("cannot write to standard output: {0}")]
    Output(std::io::Error),
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// A failure to read or write `path`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, error }
    }

    /// A failure of the outsider's client.
    pub fn outsider(error: impl std::fmt::Display) -> Self {
        Self::Outsider(error.to_string())
    }
}

/// `12.9 GB`.
fn in_gigabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000_000;
    format!("{}.{} GB", tenths / 10, tenths % 10)
}

/// That two values are the same.
///
/// # Errors
/// [`Failure::Unexpected`].
pub fn expect<T: PartialEq + std::fmt::Display>(what: &str, found: T, expected: T) -> Result<(), Failure> {
    if found == expected {
        return Ok(());
    }
    Err(Failure::Unexpected { what: what.to_owned(), expected: expected.to_string(), found: found.to_string() })
}
