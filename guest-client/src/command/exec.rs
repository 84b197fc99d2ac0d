//! `exec` and `exec-engine`: a program as a child, with models mounted where only it sees them, and with credentials that it is given.
//!
//! ```text
//! exec            attests, supervises; holds credentials and renews them; holds no model's plaintext. With mounts: in a user and mount
//! │               namespace of its own
//! ├─ mount-server one for each model; holds its key; its memory is closed to the program
//! └─ program      no capabilities, no_new_privs; signals are passed on to it, its exit code is exec's
//! ```

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::thread::{self, JoinHandle};

use protocol::documents::Kind;
use protocol::messages::{Item, Outcome, Purpose};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::args::{ExecArguments, ExecEngineArguments};
use super::child::{Having, OnRotate, Plan, run};
use super::decide::decide;
use super::failure::{Failure, Stream};
use super::given::{Given, take_over};
use super::log_to_stderr;
use super::mount::{can_mount, order, start};
use super::unseal::Grant;
use super::watch::Interrupt;
use crate::config::{Config, Overrides, Plaintext};
use crate::credentials::{Credentials, Keeping, Settings};
use crate::mount::server::Parent;
use crate::mount::supervised::{MountServer, Orders, ServerError, Stopper};
use crate::{destination, isolation};

/// `exec`. What can be known to fail does so before the keys are asked for.
pub fn exec(arguments: &ExecArguments) -> Result<ExitCode, Failure> {
    if arguments.mounts.len() != arguments.sealed.len() {
        return Err(Failure::Usage("each --mount needs one --sealed, in the same order"));
    }
    let given = given(arguments)?;
    let config = arguments.common.effective(Overrides::default())?;
    if !arguments.mounts.is_empty() {
        isolation::enter()?;
    }
    isolation::close_memory();
    // On a thread, of which there is none before the namespaces are entered. Nothing waits before that.
    let interrupt = Interrupt::listen();
    for (mount, sealed) in arguments.mounts.iter().zip(&arguments.sealed) {
        can_mount(&config, sealed, &mount.at)?;
    }
    can_give(&config, &given)?;
    given.iter().for_each(Given::clear);
    // Standard output is the program's.
    let models = arguments.mounts.iter().map(|mount| mount.model.item(Kind::Model));
    let credentials = given.iter().map(|given| Item { kind: Kind::Credential, name: given.name.clone(), version: given.version });
    let items: Vec<Item> = models.chain(credentials).collect();
    let answered = decide(&config, &arguments.persistence, Purpose::Release, &items, Stream::Error)?;
    let mut outcome = answered.into_outcome();
    let released = outcome.items.split_off(arguments.mounts.len());
    let mut servers = Vec::new();
    for ((mount, sealed), item) in arguments.mounts.iter().zip(&arguments.sealed).zip(outcome.items) {
        let plan = arguments.serving.plan(&mount.at, Parent::Needed).map_err(ServerError::Start)?;
        let order = order(&config, sealed, Grant::of_item(item)?).map_err(ServerError::Start)?;
        let server = start(&plan, &order, config.model_signer(&mount.model.name), drop)?;
        servers.push(Heard::new(server).map_err(ServerError::Start)?);
    }
    let code = with_credentials(arguments, &config, &interrupt, given, Outcome { items: released, ..outcome });
    end(servers);
    code
}

/// The credentials, each in its way, with what can be known to make no sense refused.
fn given(arguments: &ExecArguments) -> Result<Vec<Given>, Failure> {
    let given = Given::pair(&arguments.credentials, &arguments.ways).map_err(Failure::Usage)?;
    if matches!(arguments.on_rotate, OnRotate::Signal(_)) && !given.iter().all(Given::is_replaced) {
        return Err(Failure::Usage("--on-rotate signal needs --as file:PATH: a variable or a descriptor stays what it is"));
    }
    Ok(given)
}

/// Checks what can be known before the secrets are asked for: that they stay in memory.
fn can_give(config: &Config, given: &[Given]) -> Result<(), Failure> {
    if given.is_empty() || config.plaintext != Plaintext::Memory {
        return Ok(());
    }
    destination::never_swapped()?;
    given.iter().filter_map(Given::place).try_for_each(|place| destination::in_memory(&place.judged()))?;
    Ok(())
}

/// Runs the program, with its credentials kept for as long as it runs.
fn with_credentials(
    arguments: &ExecArguments,
    config: &Config,
    interrupt: &Interrupt,
    given: Vec<Given>,
    outcome: Outcome,
) -> Result<ExitCode, Failure> {
    let ExecArguments { engine, on_rotate, on_revoke, .. } = arguments;
    let plan = Plan { engine, on_rotate: *on_rotate, on_revoke: *on_revoke, grace: arguments.grace.0, interrupt };
    if given.is_empty() {
        return run(&plan, Having::nothing());
    }
    log_to_stderr(arguments.common.json);
    let mut credentials = Credentials::new();
    for given in &given {
        credentials.watch(&given.name, given.version);
        if let Some(place) = given.place() {
            credentials.place(&given.name, given.version, place);
        }
    }
    // Their files are there from now on.
    interrupt.keeps();
    for (given, item) in given.iter().zip(outcome.items) {
        credentials.accept(&given.name, given.version, item)?;
    }
    let having = Having::these(given, &mut credentials)?;
    having.check()?;
    let settings = Settings { check_every: arguments.check_every.0, catalog: None };
    // Its files go with it.
    let keeping: Keeping = credentials.start(config, config.terms()?, settings)?;
    let code = run(&plan, having);
    drop(keeping);
    code
}

/// A mount server that somebody listens to: one that nobody hears stops at its full pipe, and whoever reads the model with it.
struct Heard {
    stopper: Stopper,
    _orders: Orders,
    hearing: JoinHandle<()>,
}

impl Heard {
    fn new(server: MountServer) -> io::Result<Self> {
        let stopper = server.stopper();
        let (orders, mut said) = server.split();
        let hearing = thread::Builder::new().name("mount-events".to_owned()).spawn(move || {
            while let Ok(Some(_)) = said.next_event() {}
            // Its status may have been taken note of before.
            let _ = said.wait();
        })?;
        Ok(Self { stopper, _orders: orders, hearing })
    }
}

/// Asks the mount servers to end, and waits until they have.
fn end(servers: Vec<Heard>) {
    servers.iter().for_each(|server| server.stopper.stop());
    for server in servers {
        let _ = server.hearing.join();
    }
}

/// `exec-engine`: gives up all capabilities, takes over the variables, then becomes the program. Its exit codes are those of shells.
pub fn exec_engine(arguments: &ExecEngineArguments) -> Result<(), Failure> {
    isolation::give_up_capabilities()?;
    let Some((program, rest)) = arguments.engine.engine.split_first() else { return Err(Failure::Usage("no program behind --")) };
    let mut command = Command::new(program);
    command.args(rest);
    if let Some(number) = arguments.environment {
        take_over(number, &mut command).map_err(Failure::Engine)?;
    }
    if let Some(parent) = arguments.tied_to {
        // Nobody else would end it when it must end.
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| Failure::Engine(error.into()))?;
        if getppid().is_none_or(|found| found.as_raw_nonzero().get() != parent) {
            return Err(Failure::Usage("exec-engine was left alone before it began"));
        }
    }
    let error = command.exec();
    eprintln!("error: cannot start {}: {error}", program.display());
    std::process::exit(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
}
