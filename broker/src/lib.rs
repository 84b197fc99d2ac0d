//! The broker: challenge, verify, decide, record, release.
//!
//! ```text
//!   request ──► decision::Judge::decide ──► ledger::Ledger::record ──► release::release ──► answer
//!                 │  attestation::verify      │  spends the nonce         │  unwraps, seals to
//!                 │  policies decide          │  appends the entry        │  the attested key
//!                 ▼                           ▼                           ▼
//!               Rejection (proves nothing)  nothing durable, nothing released
//! ```
//! The arrows are types: each step consumes what only the step before it can make.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`decision`] | the whole decision, top to bottom |
//! | [`ledger`] | the audit log's one writer |
//! | [`release`] | the one place that sees a secret on its way to a guest |
//! | [`documents`] | records, policies, revocations in force |
//! | [`store`] | what outlives the process |
//! | [`custody`] | the broker's keys |
//! | [`identity`] | the trust domain's issuer: its keys, and what it signs |
//! | [`server`] | HTTP |
//! | [`collateral`], [`feed`] | the vendors' collateral: what is there, and how more comes |
//! | [`guests`], [`chains`], [`rejections`], [`metrics`] | what it keeps in memory |
//! | [`alarms`] | what somebody should look at |
//! | [`config`], [`init`], [`serve`], [`args`] | what operators write and type |
//! | [`clock`] | the one reader of the clock |

pub mod alarms;
pub mod args;
pub mod chains;
pub mod clock;
pub mod collateral;
pub mod config;
pub mod custody;
pub mod decision;
pub mod documents;
pub mod feed;
pub mod guests;
pub mod identity;
pub mod init;
pub mod ledger;
pub mod metrics;
pub mod rejections;
pub mod release;
pub mod serve;
pub mod server;
pub mod sightings;
pub mod store;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use protocol::dsse::SignedDocument;
use protocol::keyfile::{KeyFile, Unlock};
use protocol::keys::SigningKey;
use zeroize::Zeroizing;

use args::{CertificatesArgs, CheckArgs, Cli, Command, InitArgs};
use config::{Config, LogFormat};
use custody::TestAnchor;
use init::{Plan, Root};

/// Runs the command line `args`, program name first.
#[must_use]
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("portcullis-broker: {message}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<(), String> {
    match command {
        Command::Init(args) => initialise(args),
        Command::Certificates(args) => install(&args),
        Command::Serve(args) => {
            let format = Config::read(&args.config).map_err(text)?.log.format;
            log_to_stderr(format);
            runtime()?.block_on(serve::serve(&args.config)).map_err(text)
        }
        Command::CheckConfig(args) => check_config(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "portcullis-broker", &mut std::io::stdout());
            Ok(())
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(text)
}

fn log_to_stderr(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("PORTCULLIS_LOG").unwrap_or_else(|_| "info".into());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => subscriber.json().flatten_event(true).with_target(false).init(),
        LogFormat::Text => subscriber.with_target(false).compact().init(),
    }
}

fn initialise(args: InitArgs) -> Result<(), String> {
    let root = match (&args.root_key, args.root) {
        (Some(path), _) => Root::Here(root_key(path, args.root_passphrase_file.as_deref())?),
        (None, Some(root)) => Root::Elsewhere(root),
        (None, None) => return Err("name --root-key or --root".to_owned()),
    };
    let unlock = config::Unlock { passphrase_file: args.protect_by_passphrase_file, key_file: args.protect_by_key_file };
    let plan = Plan {
        data: args.data.clone(),
        name: args.name,
        root,
        test_anchors: args.test_anchor.iter().map(|text| test_anchor(text)).collect::<Result<_, _>>()?,
        unlock: custody::unlock(&unlock).map_err(text)?,
        validity: Duration::from_secs(u64::from(args.days) * 24 * 3600),
        at: clock::now(),
    };
    let done = runtime()?.block_on(init::init(plan)).map_err(text)?;
    println!("initialised {} at {}, anchor class {}", done.installation.name, args.data.display(), done.installation.anchors);
    println!("root: {}", done.installation.root);
    match done.requests {
        Some(path) => println!("next: carry {} to the root key: portcullis certify --help", path.display()),
        None => println!("next: name publishers and authorities in {}", args.data.join("broker.toml").display()),
    }
    Ok(())
}

fn root_key(path: &Path, passphrase: Option<&Path>) -> Result<SigningKey, String> {
    let explain = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = KeyFile::parse(&Zeroizing::new(std::fs::read(path).map_err(|error| explain(&error))?)).map_err(|error| explain(&error))?;
    let unlock = config::Unlock { passphrase_file: passphrase.map(Path::to_owned), key_file: None };
    let unlock = if file.wants_passphrase() { custody::unlock(&unlock).map_err(text)? } else { Unlock::Nothing };
    let seed = file.open("root", &unlock).map_err(|error| explain(&error))?;
    SigningKey::from_seed(&seed).map_err(|error| explain(&error))
}

fn test_anchor(text: &str) -> Result<TestAnchor, String> {
    let (product, path) = text.split_once('=').ok_or_else(|| format!("{text}: expected PRODUCT=FILE, such as Milan=ark.der"))?;
    let certificate = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    Ok(TestAnchor { product: product.to_owned(), certificate })
}

fn install(args: &CertificatesArgs) -> Result<(), String> {
    let path = &args.certificates;
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let signed: Vec<SignedDocument> = serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    let installation = init::install_certificates(&args.data, signed, clock::now()).map_err(text)?;
    println!("{} certificates in all", installation.certificates.len());
    Ok(())
}

fn check_config(args: &CheckArgs) -> Result<(), String> {
    if args.syntax_only {
        Config::read(&args.config).map_err(text)?;
        println!("{} is well formed", args.config.display());
    } else {
        let installation = serve::check(&args.config).map_err(text)?;
        println!(
            "{} is good: {}, root {}, anchor class {}",
            args.config.display(),
            installation.name,
            installation.root,
            installation.anchors
        );
    }
    Ok(())
}
