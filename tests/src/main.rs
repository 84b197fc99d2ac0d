//! `cargo demo`; and, started again by itself or by the tests with `--as PART`, every program of the project.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{CommandFactory, Parser};
use portcullis_tests::demo::{Afterwards, Page, Size, Wishes, agent, machine, tell};
use portcullis_tests::failure::Failure;
use portcullis_tests::machine::Tee;
use portcullis_tests::programs::dispatch;
use protocol::ids::{BadId, Role};
use tokio::signal::unix::{SignalKind, signal};

/// Which story is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Told {
    /// A model's key goes to a machine that proves what it runs, and to nobody else
    #[default]
    Model,
    /// An agent gets a name and an API key, uses a tool, and loses both
    Agent,
    /// None: a soft machine that serves evidence until Ctrl-C, to try things on without a confidential VM
    Machine,
}

/// Seals a model, releases its key to a machine that proves what it is, and shows who does not get it; or tells the story of an agent; or
/// is a machine to try things on.
#[derive(Parser)]
#[command(name = "cargo demo --", after_help = "Exit codes: 0 everything went as told, 1 something did not, 2 wrong use, 130 interrupted.")]
struct Arguments {
    /// Which story
    #[arg(value_enum, default_value_t)]
    story: Told,
    /// Which kind of confidential VM the story is about
    #[arg(long, value_name = "KIND", value_enum, default_value_t)]
    tee: Tee,
    /// A model folder of your own; it is read, and sealed into the demo's folder
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Keep the demo's folder: keys, records, the broker's store and log; no plaintext
    #[arg(long)]
    keep: bool,
    /// Also seal and open a model of this size (500M, 4G), and show how fast that is beside cp; takes three times as much memory
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,
    /// The folder in which the machine serves evidence, and writes what a broker needs to believe it
    #[arg(long, value_name = "DIR")]
    at: Option<PathBuf>,
    /// For which workload in it the machine's evidence speaks; without one, for the whole VM
    #[arg(long, value_name = "NAME", requires = "at", value_parser = workload)]
    workload: Option<Role>,
}

fn workload(name: &str) -> Result<Role, String> {
    name.parse().map(Role::Workload).map_err(|error: BadId| error.to_string())
}

impl Arguments {
    /// What belongs to another story than the one that is asked for.
    fn out_of_place(&self) -> Option<&'static str> {
        let of_a_model = self.model.is_some() || self.size.is_some();
        match self.story {
            Told::Model | Told::Agent if self.at.is_some() => Some("--at belongs to a machine"),
            Told::Agent | Told::Machine if of_a_model => Some("--model and --size belong to the story of a model"),
            Told::Machine if self.keep => Some("--keep belongs to the stories: a machine's folder always stays"),
            Told::Machine if self.at.is_none() => Some("a machine needs --at DIR"),
            _ => None,
        }
    }
}

fn main() -> ExitCode {
    let given: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = dispatch(&given) {
        return code;
    }
    let arguments = Arguments::parse_from(given);
    if let Some(message) = arguments.out_of_place() {
        Arguments::command().error(clap::error::ErrorKind::ArgumentConflict, message).exit();
    }
    let after = if arguments.keep { Afterwards::Keep } else { Afterwards::Remove };
    let wishes = Wishes { tee: arguments.tee, model: arguments.model, after, size: arguments.size };
    let interrupted = Arc::new(AtomicBool::new(false));
    watch(Arc::clone(&interrupted));
    let told = std::env::current_exe().map_err(|error| Failure::Start { line: "cargo demo".to_owned(), error }).and_then(|executable| {
        match arguments.story {
            Told::Model => tell(&wishes, &executable, interrupted, &mut Page::stdout()),
            Told::Agent => agent::tell(&wishes, &executable, interrupted, &mut Page::stdout()),
            Told::Machine => {
                let (role, at) = (arguments.workload.unwrap_or(Role::WholeVm), arguments.at.unwrap_or_default());
                machine::serve(arguments.tee, role, &at, &executable, interrupted, &mut Page::stdout())
            }
        }
    });
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Interrupted) => {
            eprintln!("\ninterrupted; every process has ended and nothing is left behind");
            ExitCode::from(130)
        }
        Err(failure) => {
            eprintln!("\nerror: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The first SIGINT or SIGTERM ends the demo in order, the second at once.
fn watch(interrupted: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else { return };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if interrupted.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
            }
        });
    });
}
