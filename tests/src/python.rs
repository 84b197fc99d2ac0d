//! A Python with the packages that some tests use, where there is one: `tests/python/requirements.txt` says which.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable that names it; without it, `python3` is asked.
const VARIABLE: &str = "PORTCULLIS_PYTHON";

/// A Python that has what was asked for.
pub struct Python(PathBuf);

impl Python {
    /// One that has these modules.
    ///
    /// # Errors
    /// One line that says what is missing, for a test to print as the reason that it is skipped.
    pub fn with(modules: &[&str]) -> Result<Self, String> {
        let program = std::env::var_os(VARIABLE).map_or_else(|| PathBuf::from("python3"), PathBuf::from);
        let find = "import importlib.util, sys; print(*[name for name in sys.argv[1:] if not importlib.util.find_spec(name)])";
        let hint = format!("{VARIABLE} names a Python with tests/python/requirements.txt");
        let found = match Command::new(&program).args(["-c", find]).args(modules).output() {
            Ok(found) if found.status.success() => String::from_utf8_lossy(&found.stdout).trim().to_owned(),
            _ => return Err(format!("skipped: no Python here ({hint})")),
        };
        if found.is_empty() { Ok(Self(program)) } else { Err(format!("skipped: this Python lacks {found} ({hint})")) }
    }

    /// Whether it has this module too.
    #[must_use]
    pub fn has(&self, module: &str) -> bool {
        let find = format!("import importlib.util, sys; sys.exit(not importlib.util.find_spec({module:?}))");
        Command::new(&self.0).args(["-c", &find]).status().is_ok_and(|status| status.success())
    }

    /// Runs a script of `tests/python/` to its end, and gives its standard output.
    ///
    /// # Errors
    /// What it said, where it did not start or did not end well.
    pub fn run<A: AsRef<OsStr>>(&self, script: &str, arguments: impl IntoIterator<Item = A>) -> Result<String, String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
        let arguments: Vec<OsString> = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        let ended = Command::new(&self.0).arg("-B").arg(&path).args(&arguments).output().map_err(|error| error.to_string())?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if ended.status.success() {
            Ok(said(&ended.stdout))
        } else {
            Err(format!("{script}: {}{}", said(&ended.stdout), said(&ended.stderr)))
        }
    }
}
