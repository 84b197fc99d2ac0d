//! The `portcullis-guest` command: arguments in, exit code out. Everything that decides anything is in the library's modules.

mod args;
mod decide;
mod failure;
mod look;
mod unseal;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use self::args::{AgentArguments, Arguments, Command};
use self::failure::{Exit, Failure};
use crate::agent::{Served, bind, serve};
use crate::evidence::Interfaces;

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
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell().into(),
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Evidence(arguments) => look::evidence(&arguments),
        Command::ConfigDigest(arguments) => look::config_digest(&arguments),
        Command::Check(arguments) => decide::check(&arguments),
        Command::Release(arguments) => decide::release(&arguments),
        Command::Unseal(arguments) => unseal::unseal(&arguments),
        Command::EvidenceAgent(arguments) => agent(arguments),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "portcullis-guest", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// A core file would hold keys, and the guest's disk may be the host's.
fn forbid_core_dumps() {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    // Lowering one's own limit is always allowed.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
}

fn agent(arguments: AgentArguments) -> Result<(), Failure> {
    let colour = std::io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colour).with_target(false);
    // Tests that run several commands in one process set it once.
    let _ = if arguments.json { subscriber.json().try_init() } else { subscriber.try_init() };
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
