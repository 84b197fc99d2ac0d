//! A mount server as a process of its own, seen from whoever started it.
//!
//! The server is this same program, started again as `mount-server`. It holds the key and no way to the broker; whoever renews and
//! attests holds no plaintext, and neither ends with the other's crash.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::order::{COUNTERS, Order};

/// The name under which the program is started again; it looks at nothing but its arguments.
pub const PROGRAM: &str = "portcullis-guest";

/// Why there is no mount.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The process could not be started, or talked to.
    #[error("cannot start a mount server: {0}")]
    Start(#[from] io::Error),
    /// It ended before the folder was there; it has said why on standard error.
    #[error("the mount server ended before it was ready ({status})")]
    NotReady {
        /// How it ended.
        status: ExitStatus,
    },
}

/// This program, to be started again.
///
/// # Errors
/// Where the system does not say which program this is.
pub fn again() -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg0(PROGRAM);
    Ok(command)
}

/// What a mount server is started with beside its order.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The mount point.
    pub at: PathBuf,
    /// More arguments of `mount-server`.
    pub more: Vec<OsString>,
}

/// A running mount server. Dropping it asks nothing of it: where it does not outlive its parent, it ends when its input does.
pub struct MountServer {
    child: Child,
    orders: ChildStdin,
    events: BufReader<ChildStdout>,
    ready: String,
}

impl MountServer {
    /// Starts one, gives it its order, and waits until the folder is there.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn start(plan: &Plan, order: &Order) -> Result<Self, ServerError> {
        Self::start_until(plan, order, |_, _| {})
    }

    /// The same; `started` learns of the process before that is waited for: what asks it to end, and where `/proc` tells, what it is known by.
    ///
    /// # Errors
    /// [`ServerError`]; once the process was killed, [`ServerError::NotReady`].
    pub fn start_until(plan: &Plan, order: &Order, started: impl FnOnce(Stopper, Option<ServerIdentity>)) -> Result<Self, ServerError> {
        let mut command = again()?;
        command.arg("mount-server").arg("--at").arg(&plan.at).args(&plan.more);
        // A group of its own: Ctrl-C is for whoever started it, who then ends it in order.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let (Some(mut orders), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        };
        // It is not waited for yet, so that its number is its own. Where /proc is another PID namespace's, nobody can tell.
        let process = Pid::from_child(&child);
        started(Stopper(process), ServerIdentity::of(process).ok());
        match order.write(&mut orders) {
            // One that has ended already does not read; its status says more than the pipe's error.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
        let mut events = BufReader::new(stdout);
        let mut ready = String::new();
        if events.read_line(&mut ready)? == 0 {
            return Err(ServerError::NotReady { status: child.wait()? });
        }
        Ok(Self { child, orders, events, ready: ready.trim_end().to_owned() })
    }

    /// Its `ready` line, as it said it.
    #[must_use]
    pub fn ready(&self) -> &str {
        &self.ready
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its two ends apart: what it is asked, and what it says, for two threads.
    #[must_use]
    pub fn split(self) -> (Orders, Said) {
        (Orders(self.orders), Said { child: self.child, events: self.events })
    }

    /// The next line that it says; `None` when it has ended.
    ///
    /// # Errors
    /// The pipe's.
    pub fn next_event(&mut self) -> io::Result<Option<String>> {
        next_line(&mut self.events)
    }

    /// What asks it to end, also from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Pid::from_child(&self.child))
    }

    /// What it is known by also to a later process that did not start it.
    ///
    /// # Errors
    /// Where `/proc` does not tell.
    pub fn identity(&self) -> io::Result<ServerIdentity> {
        ServerIdentity::of(Pid::from_child(&self.child))
    }

    /// Waits until it has ended: its exit code, 128 and more where a signal ended it.
    ///
    /// # Errors
    /// The system's.
    pub fn wait(&mut self) -> io::Result<i32> {
        Ok(code(self.child.wait()?))
    }
}

/// A mount server's process. Numbers of processes are given again; a number with the time of the start is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerIdentity {
    process: i32,
    /// In the kernel's ticks since boot.
    started: u64,
}

impl ServerIdentity {
    fn of(process: Pid) -> io::Result<Self> {
        Ok(Self { process: process.as_raw_pid(), started: started(process.as_raw_pid())? })
    }

    /// Kills it, if it is still there: nobody reads through it any more. Its mount is then dead, and is to be detached.
    pub fn kill(self) {
        let Some(process) = Pid::from_raw(self.process) else { return };
        let Ok(held) = pidfd_open(process, PidfdFlags::empty()) else { return };
        // What is held is what is looked at: its number is not given again meanwhile.
        if started(self.process).is_ok_and(|started| started == self.started) {
            // Where it has ended already, there is nothing to end.
            let _ = pidfd_send_signal(held, Signal::KILL);
        }
    }
}

/// When a process started: field 22 of `/proc/PID/stat` (`proc_pid_stat(5)`), which is the 20th behind the name in parentheses.
fn started(process: i32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let field = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok());
    field.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn next_line(events: &mut BufReader<ChildStdout>) -> io::Result<Option<String>> {
    let mut line = String::new();
    Ok((events.read_line(&mut line)? > 0).then(|| line.trim_end().to_owned()))
}

/// What a mount server is asked. While this is kept, it has somebody who listens.
pub struct Orders(ChildStdin);

impl Orders {
    /// Asks for a line of counters, which comes among what is [said](Said).
    ///
    /// # Errors
    /// Where the server has ended.
    pub fn ask_counters(&mut self) -> io::Result<()> {
        writeln!(self.0, "{COUNTERS}")
    }
}

/// What a mount server says.
pub struct Said {
    child: Child,
    events: BufReader<ChildStdout>,
}

impl Said {
    /// The next line; `None` when the server has ended.
    ///
    /// # Errors
    /// The pipe's.
    pub fn next_event(&mut self) -> io::Result<Option<String>> {
        next_line(&mut self.events)
    }

    /// Waits until the server has ended: its exit code, 128 and more where a signal ended it.
    ///
    /// # Errors
    /// The system's.
    pub fn wait(&mut self) -> io::Result<i32> {
        Ok(code(self.child.wait()?))
    }
}

/// Asks a mount server to end.
#[derive(Clone, Copy, Debug)]
pub struct Stopper(Pid);

impl Stopper {
    /// Asks it to unmount and to end (`SIGTERM`).
    pub fn stop(self) {
        // Where it has ended already, there is nothing to ask.
        let _ = kill_process(self.0, Signal::TERM);
    }
}

/// An exit code as shells give it: 128 and the signal's number where a signal ended the process.
#[must_use]
pub fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| status.signal().map_or(1, |signal| signal.saturating_add(128)))
}

/// A path that means the same after the working directory has changed.
///
/// # Errors
/// Where there is no working directory.
pub fn absolute(path: &Path) -> io::Result<PathBuf> {
    std::path::absolute(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_killed_by_its_number_and_its_start_together() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let identity = ServerIdentity::of(Pid::from_child(&child)).unwrap();
        ServerIdentity { started: identity.started + 1, ..identity }.kill();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(child.try_wait().unwrap().is_none(), "another process that was given the number");
        identity.kill();
        assert_eq!(code(child.wait().unwrap()), 128 + 9);
        identity.kill();
    }
}
