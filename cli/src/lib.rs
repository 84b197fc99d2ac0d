//! The portcullis command: seal, publish, verify, explain, audit.
//!
//! [`run`] is the whole of it; the binary, the tests and the demo call it alike. Results go to standard output, everything
//! else to standard error. README.md beside this crate lists commands, exit codes and JSON shapes.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `verify` | judging evidence offline |
//! | `token` | verifying what a broker signed: JWT-SVIDs, attestation results |
//! | `keygen`, `certify`, `keys` | keys and their files; the offline root's work |
//! | `seal`, `credential`, `record` | a secret becomes a record, sealed to the broker that the pinned root certified |
//! | `inspect`, `plain`, `diff`, `tensors` | what files say of themselves, and two sealed versions side by side |
//! | `hub` | where a model of the hub lies on this machine |
//! | `collateral`, `anchors` | vendor collateral: carried, checked, imported; the roots that judge it |
//! | `identity` | what a broker's issuer of identities publishes |
//! | `records`, `policy`, `calendar`, `revoke`, `explain` | what administrators ask a broker |
//! | `audit` | the broker's log, read and checked |
//! | `broker`, `installation` | the way to a broker, and whom to believe there |
//! | `console`, `checks`, `failure`, `files`, `interrupt`, `clock`, `size` | how a command speaks, ends, and touches the machine |

mod anchors;
mod audit;
mod broker;
mod calendar;
mod certify;
mod checks;
mod clock;
mod collateral;
mod console;
mod credential;
mod diff;
mod documents;
mod explain;
mod failure;
mod files;
mod hub;
mod identity;
mod inspect;
mod installation;
mod interrupt;
mod keygen;
mod keys;
mod pem;
mod plain;
mod policy;
mod progress;
mod record;
mod records;
mod revoke;
mod seal;
mod size;
mod tensors;
mod token;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

pub use console::{Console, Style};
pub use failure::Exit;

/// Releases keys of AI models to proven confidential VMs, and to nobody else.
#[derive(Parser)]
#[command(name = "portcullis", version, arg_required_else_help = true, max_term_width = 110)]
#[command(after_help = "\
Exit codes: 0 done, 1 failed or rejected, 2 wrong use, 3 denied by a policy, 130 interrupted.
Where a command wants a broker, a root or a token, it also takes PORTCULLIS_BROKER, PORTCULLIS_ROOT and PORTCULLIS_TOKEN_FILE.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Keygen(keygen::Keygen),
    Certify(certify::Certify),
    Seal(Box<seal::Seal>),
    #[command(subcommand)]
    Credential(Box<credential::Credential>),
    Inspect(inspect::Inspect),
    Diff(diff::Diff),
    Publish(records::Publish),
    List(records::List),
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    #[command(subcommand)]
    Calendar(calendar::CalendarCommand),
    Revoke(revoke::Revoke),
    Explain(explain::Explain),
    #[command(subcommand)]
    Identity(identity::IdentityCommand),
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    Verify(verify::Verify),
    #[command(subcommand)]
    Token(token::TokenCommand),
    #[command(subcommand)]
    Collateral(Box<collateral::CollateralCommand>),
    Completions(Completions),
}

/// Print a completion script for a shell
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis completions bash > /etc/bash_completion.d/portcullis")]
struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

impl Completions {
    fn run(&self, console: &mut Console<'_>) -> failure::Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "portcullis", &mut script);
        console.bytes(&script);
        Ok(Exit::Done)
    }
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
        Command::Keygen(keygen) => keygen.run(console),
        Command::Certify(certify) => certify.run(console),
        Command::Seal(seal) => seal.run(console),
        Command::Credential(credential) => credential.run(console),
        Command::Inspect(inspect) => inspect.run(console),
        Command::Diff(diff) => diff.run(console),
        Command::Publish(publish) => publish.run(console),
        Command::List(list) => list.run(console),
        Command::Policy(policy) => policy.run(console),
        Command::Calendar(calendar) => calendar.run(console),
        Command::Revoke(revoke) => revoke.run(console),
        Command::Explain(explain) => explain.run(console),
        Command::Identity(identity) => identity.run(console),
        Command::Audit(audit) => audit.run(console),
        Command::Verify(verify) => verify.run(console),
        Command::Token(token) => token.run(console),
        Command::Collateral(collateral) => collateral.run(console),
        Command::Completions(completions) => completions.run(console),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_well_formed_and_every_command_has_an_example() {
        fn check(command: &clap::Command) {
            for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
                if sub.has_subcommands() {
                    check(sub);
                } else {
                    let help = sub.get_after_long_help().map(ToString::to_string).unwrap_or_default();
                    assert!(help.contains("Example"), "{} has no example", sub.get_name());
                    // A longer line is broken when it is shown, without the backslash that lets a shell read on.
                    let long = help.lines().find(|line| line.starts_with("    ") && line.chars().count() > 100);
                    assert_eq!(long, None, "{} has a line that is broken", sub.get_name());
                }
            }
        }
        Arguments::command().debug_assert();
        check(&Arguments::command());
    }
}
