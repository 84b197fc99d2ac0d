//! A command that is run when something changed, so that an engine can be told.

use std::collections::VecDeque;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use protocol::ids::{Name, Version};
use rustix::process::{Pid, Signal, kill_process_group};

/// How long a hook may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Changes that wait for their turn at most.
const WAITING: usize = 1024;

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A version is open and current.
    Current,
    /// A version was put away.
    Removed,
    /// The lease has run out.
    Expired,
    /// A renewal succeeded after the lease had run out.
    Renewed,
}

impl Change {
    /// The word for it, as the hook finds it in `PORTCULLIS_CHANGE`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Removed => "removed",
            Self::Expired => "expired",
            Self::Renewed => "renewed",
        }
    }
}

/// What has changed, as the variable that names it.
#[derive(Clone, Copy)]
enum Thing {
    Model,
    Credential,
}

impl Thing {
    const fn variable(self) -> &'static str {
        match self {
            Self::Model => "PORTCULLIS_MODEL",
            Self::Credential => "PORTCULLIS_CREDENTIAL",
        }
    }
}

struct Call {
    change: Change,
    thing: Thing,
    name: Name,
    version: Option<Version>,
    path: PathBuf,
}

/// Runs the hook, one change after the other, out of everybody's way.
#[derive(Clone)]
pub struct Hook(Option<mpsc::SyncSender<Call>>);

impl Hook {
    /// By this command, or none at all where it is empty.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn new(command: Vec<String>) -> io::Result<Self> {
        let mut words = VecDeque::from(command);
        let Some(program) = words.pop_front() else { return Ok(Self(None)) };
        let arguments = Vec::from(words);
        let (sender, calls) = mpsc::sync_channel::<Call>(WAITING);
        let running = move || calls.iter().for_each(|call| run(&program, &arguments, &call, PATIENCE));
        std::thread::Builder::new().name("hook".to_owned()).spawn(running)?;
        Ok(Self(Some(sender)))
    }

    /// Tells it of a model's change. `path` is where the model is or was.
    pub fn tell(&self, change: Change, name: &Name, version: Option<Version>, path: &Path) {
        self.call(Call { change, thing: Thing::Model, name: name.clone(), version, path: path.to_owned() });
    }

    /// Tells it of a credential's change: [`Change::Current`] or [`Change::Expired`]. `path` is its file as the configuration names it;
    /// empty where there is none.
    pub fn tell_credential(&self, change: Change, name: &Name, version: Option<Version>, path: &Path) {
        self.call(Call { change, thing: Thing::Credential, name: name.clone(), version, path: path.to_owned() });
    }

    fn call(&self, call: Call) {
        if let Some(sender) = &self.0 {
            let (name, change) = (call.name.clone(), call.change.as_str());
            // The thread ends with its senders only, and nobody waits for it.
            if sender.try_send(call).is_err() {
                tracing::warn!(%name, change, "the hook is not told: {WAITING} changes wait for it already");
            }
        }
    }
}

/// The command, for one change. Of this process's environment it gets the search path alone: credentials of storages are in the rest.
fn command(program: &str, arguments: &[String], call: &Call) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).process_group(0);
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command
        .env("PORTCULLIS_CHANGE", call.change.as_str())
        .env(call.thing.variable(), call.name.as_str())
        .env("PORTCULLIS_PATH", &call.path);
    command.env("PORTCULLIS_VERSION", call.version.map(|version| version.number().to_string()).unwrap_or_default());
    command
}

fn run(program: &str, arguments: &[String], call: &Call, patience: Duration) {
    let (name, change) = (&call.name, call.change.as_str());
    let mut child = match command(program, arguments, call).spawn() {
        Ok(child) => child,
        Err(error) => return tracing::warn!(%name, change, %error, program, "the hook cannot be started"),
    };
    let until = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return tracing::info!(%name, change, "the hook was run"),
            Ok(Some(status)) => return tracing::warn!(%name, change, %status, "the hook failed"),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
            Ok(None) | Err(_) => {
                // With everything that it has started.
                let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
                let _ = child.wait();
                return tracing::warn!(%name, change, "the hook took too long and was ended");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hook_learns_what_changed_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let line = "echo $PORTCULLIS_CHANGE $PORTCULLIS_MODEL $PORTCULLIS_CREDENTIAL $PORTCULLIS_VERSION $PORTCULLIS_PATH >> \"$0\"";
        let hook = Hook::new(vec!["sh".into(), "-c".into(), line.into(), log.display().to_string()]).unwrap();
        let name: Name = "acme/llama".parse().unwrap();
        hook.tell(Change::Current, &name, Some("3".parse().unwrap()), Path::new("/models/acme/llama@3"));
        hook.tell(Change::Expired, &name, None, Path::new("/models/acme/llama@current"));
        hook.tell_credential(Change::Current, &"acme/openai".parse().unwrap(), Some("4".parse().unwrap()), Path::new("/run/openai"));
        let expected = "current acme/llama 3 /models/acme/llama@3\nexpired acme/llama /models/acme/llama@current\n\
                        current acme/openai 4 /run/openai\n";
        let until = Instant::now() + Duration::from_secs(20);
        while std::fs::read_to_string(&log).unwrap_or_default() != expected {
            assert!(Instant::now() < until, "{:?}", std::fs::read_to_string(&log));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn call() -> Call {
        Call {
            change: Change::Current,
            thing: Thing::Model,
            name: "acme/llama".parse().unwrap(),
            version: None,
            path: "/models/acme/llama@3".into(),
        }
    }

    #[test]
    fn the_hook_gets_the_search_path_and_what_changed_and_no_other_variable() {
        let output = command("env", &[], &call()).output().unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        let names: std::collections::BTreeSet<_> = output.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        let told = ["PORTCULLIS_CHANGE", "PORTCULLIS_MODEL", "PORTCULLIS_PATH", "PORTCULLIS_VERSION"];
        assert!(names.iter().all(|name| *name == "PATH" || told.contains(name)), "{output}");
        assert!(told.iter().all(|name| names.contains(name)) && std::env::vars().count() > 1, "{output}");
    }

    #[test]
    fn a_hook_that_takes_too_long_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let number = folder.path().join("number");
        let line = "sleep 600 & echo $! > \"$0\"; wait";
        run("sh", &["-c".into(), line.into(), number.display().to_string()], &call(), Duration::from_millis(500));
        let started = std::fs::read_to_string(&number).unwrap().trim().to_owned();
        let state = || std::fs::read_to_string(format!("/proc/{started}/stat")).unwrap_or_default();
        let until = Instant::now() + Duration::from_secs(20);
        // Gone, or dead and not yet waited for by whoever took it over.
        while !state().is_empty() && !state().contains(") Z ") {
            assert!(Instant::now() < until, "{}", state());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
