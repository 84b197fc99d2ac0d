//! A program as a child, with what becomes of its credentials: it is started again, told, or ended, as it was asked for, and all that it
//! started is ended with it; signals are passed on to it, and its exit code is this command's.

use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::args::EngineArguments;
use super::failure::{Exit, Failure};
use super::family::Family;
use super::given::{Bundle, Given, GivenError};
use super::watch::Interrupt;
use crate::credentials::{Credentials, Held, Standing};
use crate::mount::supervised::again;

/// What was killed and is still there is killed again after this, with what it has started meanwhile.
const AGAIN: Duration = Duration::from_millis(100);

/// What another version of a credential does to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRotate {
    /// It is ended and started again, with the new version.
    Restart,
    /// It gets this signal.
    Signal(Signal),
    /// Nothing.
    Ignore,
}

impl FromStr for OnRotate {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "restart" => return Ok(Self::Restart),
            "ignore" => return Ok(Self::Ignore),
            "signal" => return Ok(Self::Signal(Signal::HUP)),
            _ => {}
        }
        let name = text.strip_prefix("signal:").ok_or("expected restart, signal, signal:NAME or ignore")?;
        let signal = match name.strip_prefix("SIG").unwrap_or(name) {
            "HUP" => Signal::HUP,
            "INT" => Signal::INT,
            "TERM" => Signal::TERM,
            "USR1" => Signal::USR1,
            "USR2" => Signal::USR2,
            _ => return Err("expected HUP, INT, TERM, USR1 or USR2 behind signal:"),
        };
        Ok(Self::Signal(signal))
    }
}

/// What the end of a credential does to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OnRevoke {
    /// It is ended.
    End,
    /// Nothing.
    Ignore,
}

/// What the program is run with beside its own words.
pub struct Plan<'a> {
    /// The program and its arguments.
    pub engine: &'a EngineArguments,
    /// What another version does.
    pub on_rotate: OnRotate,
    /// What an end does.
    pub on_revoke: OnRevoke,
    /// How long it has to end when it is asked to.
    pub grace: Duration,
    /// Who has listened for signals until the program can have them.
    pub interrupt: &'a Interrupt,
}

/// A credential that the program has.
struct Had {
    given: Given,
    standing: watch::Receiver<Standing>,
    held: Arc<Held>,
}

/// The credentials that the program has, and what tells of their changes.
pub struct Having {
    had: Vec<Had>,
    changes: watch::Receiver<()>,
}

impl Having {
    /// None: nothing ever changes.
    #[must_use]
    pub fn nothing() -> Self {
        let (_, changes) = watch::channel(());
        Self { had: Vec::new(), changes }
    }

    /// These, of which each was released.
    ///
    /// # Errors
    /// [`Failure::Usage`], where one was not: an answer that permits everything has them all.
    pub fn these(given: Vec<Given>, credentials: &mut Credentials) -> Result<Self, Failure> {
        let had = given.into_iter().map(|given| {
            let standing = credentials.watch(&given.name, given.version);
            let held = standing.borrow().held().cloned().ok_or(Failure::Usage("a credential was not released"))?;
            Ok(Had { given, standing, held })
        });
        Ok(Self { had: had.collect::<Result<_, Failure>>()?, changes: credentials.changes() })
    }

    fn bundle(&self) -> Result<Bundle, GivenError> {
        let mut bundle = Bundle::default();
        self.had.iter().try_for_each(|had| had.given.give(&had.held, &mut bundle))?;
        Ok(bundle)
    }

    /// Checks that the program can be given what there is.
    ///
    /// # Errors
    /// [`Failure::Given`].
    pub fn check(&self) -> Result<(), Failure> {
        self.bundle().map(drop).map_err(Failure::from)
    }

    /// Takes up what is held now. Which ones are other versions than the program has, and which can be used no more.
    fn look(&mut self) -> Look {
        let mut look = Look::default();
        for had in &mut self.had {
            match &*had.standing.borrow_and_update() {
                Standing::Held { held, .. } if held.statement != had.held.statement => {
                    had.held = Arc::clone(held);
                    look.rotated.push((had.given.name.to_string(), held.version.to_string()));
                }
                Standing::Ended { version, why } => {
                    look.ended.get_or_insert_with(|| format!("{} version {version}: {why} ({})", had.given.name, why.code()));
                }
                Standing::Held { .. } | Standing::Awaited(_) => {}
            }
        }
        look
    }

    async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // Nobody will tell of anything any more.
            std::future::pending::<()>().await;
        }
    }
}

#[derive(Default)]
struct Look {
    rotated: Vec<(String, String)>,
    ended: Option<String>,
}

/// What is being done.
enum Phase {
    /// The program runs.
    Running,
    /// It was asked to end, to be started again; when it is ended, and whether somebody wants it to end for good.
    Restarting { until: Instant, for_good: bool },
    /// It was asked to end, because of this credential.
    Ending { until: Instant, why: String },
    /// It has ended by itself, and what it started is asked to end: nobody else would end that when its credential does.
    Leaving { until: Instant },
}

impl Phase {
    const fn until(&self) -> Option<Instant> {
        match self {
            Self::Running => None,
            Self::Restarting { until, .. } | Self::Ending { until, .. } | Self::Leaving { until } => Some(*until),
        }
    }

    const fn until_mut(&mut self) -> Option<&mut Instant> {
        match self {
            Self::Running => None,
            Self::Restarting { until, .. } | Self::Ending { until, .. } | Self::Leaving { until } => Some(until),
        }
    }
}

/// The program, its status once it has ended, and what it started.
struct Program {
    process: Pid,
    status: Option<WaitStatus>,
    family: Family,
}

impl Program {
    /// Its process, while that is its own.
    fn running(&self) -> Option<Pid> {
        self.status.is_none().then_some(self.process)
    }

    /// Sends it a signal that is its own; once it has ended, what it started has it.
    fn pass(&self, signal: Signal) {
        match self.running() {
            Some(process) => {
                // Where it has just ended, its status comes next.
                let _ = kill_process(process, signal);
            }
            None => self.family.signal(None, signal),
        }
    }
}

/// Runs the program to its end, and gives its exit code: 128 and the signal's number where a signal ended it, and that of a denial where
/// it was ended because a credential was.
///
/// # Errors
/// [`Failure::Engine`], [`Failure::Given`]; [`Failure::Ended`] where a signal came before there was a program.
pub fn run(plan: &Plan<'_>, having: Having) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Engine)?;
    runtime.block_on(supervise(plan, having))
}

async fn supervise(plan: &Plan<'_>, mut having: Having) -> Result<ExitCode, Failure> {
    // Before there is a child to miss.
    let mut signals = Signals::watch().map_err(Failure::Engine)?;
    if let Some(asked) = plan.interrupt.hand_over() {
        return Err(Failure::Ended(asked, None));
    }
    // What changed between the release and now is in the first bundle already.
    let first = having.look();
    if let (Some(why), OnRevoke::End) = (first.ended, plan.on_revoke) {
        return Ok(denied(&why));
    }
    // Where the program is never ended, what it starts is its own.
    let ends = plan.on_revoke == OnRevoke::End || plan.on_rotate == OnRotate::Restart;
    let family = if ends { Family::begin().map_err(Failure::Engine)? } else { Family::default() };
    let mut program = Program { process: start(plan, having.bundle()?)?, status: None, family };
    let mut phase = Phase::Running;
    loop {
        match next(&mut signals, &mut having, phase.until()).await {
            Seen::Child => {
                let ended = reap(program.process);
                let first = program.status.is_none() && ended.is_some();
                program.status = program.status.or(ended);
                let Some(status) = program.status else { continue };
                let left = ends && !program.family.members().is_empty();
                if left && matches!(phase, Phase::Running) && plan.on_revoke == OnRevoke::End {
                    phase = Phase::Leaving { until: Instant::now() + plan.grace };
                }
                if left && !matches!(phase, Phase::Running) {
                    if first {
                        program.family.signal(None, Signal::TERM);
                    }
                    // The end of each is told here: whose parent has ended is this process's.
                    continue;
                }
                match phase {
                    Phase::Restarting { for_good: false, .. } => {
                        (program.process, program.status) = (start(plan, having.bundle()?)?, None);
                        phase = Phase::Running;
                    }
                    Phase::Ending { why, .. } => return Ok(denied(&why)),
                    Phase::Running | Phase::Restarting { .. } | Phase::Leaving { .. } => return Ok(ExitCode::from(code(status))),
                }
            }
            Seen::Passed(signal) => {
                program.pass(signal);
                if let Phase::Restarting { for_good, .. } = &mut phase {
                    *for_good |= matches!(signal, Signal::TERM | Signal::INT | Signal::QUIT);
                }
            }
            Seen::Late => {
                program.family.signal(program.running(), Signal::KILL);
                if let Some(until) = phase.until_mut() {
                    *until = Instant::now() + AGAIN;
                }
            }
            Seen::Changed => changed(plan, &mut having, &program, &mut phase),
        }
    }
}

/// Does what another version or an end does.
fn changed(plan: &Plan<'_>, having: &mut Having, program: &Program, phase: &mut Phase) {
    let look = having.look();
    if let (Some(why), OnRevoke::End, Phase::Running | Phase::Restarting { for_good: false, .. }) = (look.ended, plan.on_revoke, &*phase) {
        tracing::error!(why, "ending the program: it may no longer use a credential");
        program.pass(Signal::TERM);
        *phase = Phase::Ending { until: Instant::now() + plan.grace, why };
        return;
    }
    for (credential, version) in &look.rotated {
        tracing::info!(credential, version, what = ?plan.on_rotate, "another version of a credential");
    }
    match (plan.on_rotate, look.rotated.is_empty(), &*phase) {
        (OnRotate::Restart, false, Phase::Running) => {
            if let Err(error) = having.bundle() {
                tracing::error!(%error, code = error.code(), "the program goes on with what it has: it cannot be given the new version");
                return;
            }
            program.pass(Signal::TERM);
            *phase = Phase::Restarting { until: Instant::now() + plan.grace, for_good: false };
        }
        (OnRotate::Signal(signal), false, Phase::Running) => program.pass(signal),
        _ => {}
    }
}

fn denied(why: &str) -> ExitCode {
    eprintln!("error: the program was ended: {why}");
    Exit::Denied.into()
}

/// Starts the program by way of a process that gives up all capabilities and takes over its variables.
fn start(plan: &Plan<'_>, bundle: Bundle) -> Result<Pid, Failure> {
    let mut command = again().map_err(Failure::Engine)?;
    command.arg("exec-engine");
    // Closed here once the child has them.
    let _inherited: Vec<OwnedFd> = bundle.hand_over(&mut command).map_err(Failure::Engine)?;
    if plan.on_revoke == OnRevoke::End {
        command.arg("--tied-to").arg(std::process::id().to_string());
    }
    let child = command.arg("--").args(&plan.engine.engine).spawn().map_err(Failure::Engine)?;
    Ok(Pid::from_child(&child))
}

/// Takes note of every child that has ended, also of those that became ours because this may be a container's first process; the
/// program's status, if it is among them.
fn reap(program: Pid) -> Option<WaitStatus> {
    let mut found = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == program {
            found = Some(status);
        }
    }
    found
}

fn code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| signal.saturating_add(128)));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// What happened.
enum Seen {
    /// A child ended.
    Child,
    /// Somebody sent a signal that is the program's.
    Passed(Signal),
    /// The program should have ended by now.
    Late,
    /// Something became of a credential.
    Changed,
}

async fn next(signals: &mut Signals, having: &mut Having, until: Option<Instant>) -> Seen {
    let late = async {
        match until {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        seen = signals.next() => seen,
        () = late => Seen::Late,
        () = having.changed() => Seen::Changed,
    }
}

/// The signals that are passed on, and the one that says that a child ended.
struct Signals {
    child: SignalStream,
    hangup: SignalStream,
    interrupt: SignalStream,
    quit: SignalStream,
    terminate: SignalStream,
    user1: SignalStream,
    user2: SignalStream,
    /// A terminal sends its signals to the program too, which is in the same group.
    terminal: bool,
}

impl Signals {
    fn watch() -> io::Result<Self> {
        Ok(Self {
            child: signal(SignalKind::child())?,
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            terminal: io::stdin().is_terminal(),
        })
    }

    async fn next(&mut self) -> Seen {
        loop {
            let signal = tokio::select! {
                _ = self.child.recv() => return Seen::Child,
                _ = self.hangup.recv() => Signal::HUP,
                _ = self.interrupt.recv() => Signal::INT,
                _ = self.quit.recv() => Signal::QUIT,
                _ = self.terminate.recv() => Signal::TERM,
                _ = self.user1.recv() => Signal::USR1,
                _ = self.user2.recv() => Signal::USR2,
            };
            if !(self.terminal && matches!(signal, Signal::INT | Signal::QUIT)) {
                return Seen::Passed(signal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rotation_does_is_one_word() {
        assert_eq!("restart".parse(), Ok(OnRotate::Restart));
        assert_eq!("ignore".parse(), Ok(OnRotate::Ignore));
        assert_eq!("signal".parse(), Ok(OnRotate::Signal(Signal::HUP)));
        assert_eq!("signal:USR1".parse(), Ok(OnRotate::Signal(Signal::USR1)));
        assert_eq!("signal:SIGTERM".parse(), Ok(OnRotate::Signal(Signal::TERM)));
        for bad in ["", "signal:", "signal:KILL", "signal:hup", "reload"] {
            assert!(bad.parse::<OnRotate>().is_err(), "{bad}");
        }
    }
}
