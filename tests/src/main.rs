//! `cargo demo`; and, started again by itself or by the tests with `--as PART`, every program of the project.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{CommandFactory, Parser};
use portcullis_tests::demo::{Afterwards, Page, Size, Wishes, agent, tell};
use portcullis_tests::failure::Failure;
use portcullis_tests::machine::Tee;
use portcullis_tests::programs::dispatch;
use tokio::signal::unix::{SignalKind, signal};

/// Which story is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Told {
    /// A model's key goes to a machine that proves what it runs, and to nobody else
    #[default]
    Model,
    /// An agent gets a name and an API key, uses a tool, and loses both
    Agent,
}

/// Seals a model, releases its key to a machine that proves what it is, and shows who does not get it; or tells the story of an agent.
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
}

fn main() -> ExitCode {
    let given: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = dispatch(&given) {
        return code;
    }
    let arguments = Arguments::parse_from(given);
    if arguments.story == Told::Agent && (arguments.model.is_some() || arguments.size.is_some()) {
        let message = "--model and --size belong to the story of a model";
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
