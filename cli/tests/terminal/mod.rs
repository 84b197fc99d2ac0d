//! Runs the command as its binary does, and keeps what it printed.

use std::ffi::OsString;
use std::path::PathBuf;

use cli::{Console, Exit, Style};

/// What one run of the command did.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub exit: Exit,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Standard output as JSON.
    #[allow(dead_code)]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// That it did what it was asked.
    #[allow(dead_code)]
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.exit, Exit::Done, "{self:?}");
        self
    }

    /// That it ended so, with exactly this on standard error.
    #[allow(dead_code)]
    #[track_caller]
    pub fn refused(self, exit: Exit, err: &str) -> Self {
        assert_eq!((self.exit, self.err.as_str()), (exit, err), "{self:?}");
        self
    }
}

impl Ran {
    /// That it ended so; gives what stands on standard error.
    #[allow(dead_code)]
    #[track_caller]
    pub fn refused_with(self, exit: Exit) -> String {
        assert_eq!(self.exit, exit, "{self:?}");
        self.err
    }
}

/// Runs `portcullis` with these arguments.
pub fn portcullis<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console = Console::new(&mut out, &mut err, Style::Plain);
    let all = std::iter::once(OsString::from("portcullis")).chain(arguments.into_iter().map(Into::into));
    let exit = cli::run_on(all, &mut console);
    drop(console);
    Ran { exit, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

/// The folder of real evidence; `None`, with a line that says so, where it is not at hand.
#[allow(dead_code)]
pub fn evidence() -> Option<PathBuf> {
    let named = std::env::var_os("PORTCULLIS_EVIDENCE").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/evidence"));
    if folder.join("vectors.json").exists() {
        return Some(folder);
    }
    println!("skipped: no evidence folder; PORTCULLIS_EVIDENCE names it");
    None
}
