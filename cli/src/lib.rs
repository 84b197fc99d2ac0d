//! The portcullis command: seal, publish, verify, explain, audit.
//!
//! [`run`] is the whole of it; the binary, the tests and the demo call it alike. Results go to standard output, everything
//! else to standard error. README.md beside this crate lists commands, exit codes and JSON shapes.

mod clock;
mod console;
mod failure;
mod files;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use console::{Console, Style};
pub use failure::Exit;

/// Releases keys of AI models to proven confidential VMs, and to nobody else.
#[derive(Parser)]
#[command(name = "portcullis", version, propagate_version = true, arg_required_else_help = true, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Verify(verify::Verify),
}

/// Runs the command on the process's own streams. `arguments` starts with the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    ExitCode::from(run_on(arguments, &mut Console::process()).code())
}

/// Runs the command on the streams of `console`.
pub fn run_on(arguments: impl IntoIterator<Item = OsString>, console: &mut Console<'_>) -> Exit {
    let exit = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => dispatch(arguments.command, console),
        Err(error) => explain_usage(&error, console),
    };
    console.finish(exit)
}

fn dispatch(command: Command, console: &mut Console<'_>) -> Exit {
    let outcome = match command {
        Command::Verify(verify) => verify.run(console),
    };
    outcome.unwrap_or_else(|failure| {
        failure.report(console);
        failure.exit()
    })
}

/// Help and version go to standard output and are no failure; anything else is wrong use.
fn explain_usage(error: &clap::Error, console: &mut Console<'_>) -> Exit {
    let text = error.render();
    let text = if console.is_coloured() { text.ansi().to_string() } else { text.to_string() };
    if error.use_stderr() {
        console.note(text.trim_end());
        Exit::Usage
    } else {
        console.bytes(text.as_bytes());
        Exit::Done
    }
}
