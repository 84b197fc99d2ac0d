//! The `portcullis-guest` command: arguments in, exit code out. Everything that decides anything is in the library's modules.

mod args;
mod child;
mod decide;
mod exec;
mod failure;
mod family;
mod given;
mod identity;
mod look;
mod mount;
mod proxy;
mod sidecar;
mod unseal;
mod watch;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use self::args::{AgentArguments, Arguments, Command};
use self::failure::{Exit, Failure};
use crate::agent::{Served, bind, serve};
use crate::evidence::Interfaces;
use crate::isolation;

/// Runs the command with these arguments, the program's name first, and gives its exit code. `--help` lists the codes.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors and go to standard output; where that is closed, there is nobody to tell.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    forbid_core_dumps();
    match dispatch(arguments.command) {
        Ok(code) => code,
        Err(failure) => failure.tell().into(),
    }
}

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    // Closed from the start: a key is in it before anybody thinks of it. `exec` does so once its namespaces are made, which takes files
    // that a closed process may not write; the engine's memory is the engine's own.
    if !matches!(command, Command::Exec(_) | Command::ExecEngine(_)) {
        isolation::close_memory();
    }
    let done = match command {
        Command::Evidence(arguments) => look::evidence(&arguments),
        Command::ConfigDigest(arguments) => look::config_digest(&arguments),
        Command::Check(arguments) => decide::check(&arguments),
        Command::Release(arguments) => decide::release(&arguments),
        Command::Identity(arguments) => identity::identity(&arguments),
        Command::Unseal(arguments) => unseal::unseal(&arguments),
        Command::Mount(arguments) => mount::mount(&arguments),
        Command::MountServer(arguments) => mount::mount_server(&arguments),
        // An engine's exit code is whatever it is.
        Command::Exec(arguments) => return exec::exec(&arguments),
        Command::ExecEngine(arguments) => exec::exec_engine(&arguments),
        Command::Sidecar(arguments) => sidecar::sidecar(&arguments),
        Command::Proxy(arguments) => proxy::proxy(&arguments),
        Command::EvidenceAgent(arguments) => agent(arguments),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "portcullis-guest", &mut std::io::stdout());
            Ok(())
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// A core file would hold keys, and the guest's disk may be the host's. Where cores go to a program, this limit does not count, and
/// closed memory does.
fn forbid_core_dumps() {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    // Lowering one's own limit is always allowed.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
}

/// Events as lines on standard error, for people or as JSON.
fn log_to_stderr(json: bool) {
    let colour = std::io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colour).with_target(false);
    // Tests that run several commands in one process set it once.
    let _ = if json { subscriber.json().try_init() } else { subscriber.try_init() };
}

fn agent(arguments: AgentArguments) -> Result<(), Failure> {
    log_to_stderr(arguments.json);
    let source = arguments.evidence.source(&Interfaces { configfs: arguments.configfs, event_log: arguments.event_log })?;
    let bound = arguments.sockets.into_iter().map(|socket| {
        let listener = bind(&socket.path, arguments.mode)?;
        tracing::info!(role = %socket.role, path = %socket.path.display(), "serving");
        Ok(Served { listener, role: socket.role })
    });
    let sockets = bound.collect::<Result<Vec<_>, Failure>>()?;
    serve(sockets, source)?.join();
    Ok(())
}
