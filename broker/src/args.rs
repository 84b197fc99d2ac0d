//! What people type: `portcullis-broker init | certificates | serve | check-config | completions`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use protocol::ids::Name;
use protocol::keys::PublicKey;

/// The key-release broker: verifies evidence, decides, records, and only then releases.
#[derive(Parser)]
#[command(name = "portcullis-broker", version, max_term_width = 110, after_help = EXITS)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXITS: &str = "Exit codes: 0 done, 1 it failed, 2 wrong use.";

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Make a data folder: keys, an empty store, the first log entry, a configuration to begin with
    #[command(after_help = INIT)]
    Init(InitArgs),
    /// Take in certificates that the root signed elsewhere
    #[command(after_help = CERTIFICATES)]
    Certificates(CertificatesArgs),
    /// Serve until SIGTERM
    Serve(ConfigArgs),
    /// Read a configuration and everything that it names, and say what is wrong
    CheckConfig(CheckArgs),
    /// Print a completion script
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

const INIT: &str = "\
Examples:
  The root key is here for this moment (take it offline afterwards):
    portcullis keygen --kind root --out root
    portcullis-broker init --data ./broker --name acme --root-key root.key

  The root key stays offline; carry ./broker/requests.json to it:
    portcullis-broker init --data ./broker --name acme --root ed25519:...
    portcullis certify --root-key root.key --requests requests.json --out certificates.json
    portcullis-broker certificates --data ./broker certificates.json";

const CERTIFICATES: &str = "\
Example:
  portcullis-broker certificates --data ./broker certificates.json";

/// `init`.
#[derive(Args)]
pub struct InitArgs {
    /// The folder to make
    #[arg(long)]
    pub data: PathBuf,
    /// The installation's name, also the origin of its audit log
    #[arg(long)]
    pub name: Name,
    /// The installation root's key file, used once and not kept
    #[arg(long, conflicts_with = "root", required_unless_present = "root")]
    pub root_key: Option<PathBuf>,
    /// A file with the passphrase of the root's key file
    #[arg(long, requires = "root_key")]
    pub root_passphrase_file: Option<PathBuf>,
    /// The installation root's public key, where the private one is elsewhere
    #[arg(long)]
    pub root: Option<PublicKey>,
    /// Protect the broker's keys by the passphrase in this file
    #[arg(long, conflicts_with = "protect_by_key_file")]
    pub protect_by_passphrase_file: Option<PathBuf>,
    /// Protect the broker's keys by the bytes of this file
    #[arg(long)]
    pub protect_by_key_file: Option<PathBuf>,
    /// How long the certificates of the broker's keys hold
    #[arg(long, default_value_t = 365, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
    /// Make a TEST installation that judges evidence under this root, and never under the vendors': Milan=ARK.der, Genoa=, Turin=, or
    /// Intel=ROOT.der; once for each
    #[arg(long, value_name = "PRODUCT=FILE")]
    pub test_anchor: Vec<String>,
}

/// `certificates`.
#[derive(Args)]
pub struct CertificatesArgs {
    /// The data folder
    #[arg(long)]
    pub data: PathBuf,
    /// What `portcullis certify` wrote
    pub certificates: PathBuf,
}

/// `serve`.
#[derive(Args)]
pub struct ConfigArgs {
    /// The configuration
    #[arg(long, env = "PORTCULLIS_BROKER_CONFIG", default_value = "/etc/portcullis/broker.toml")]
    pub config: PathBuf,
}

/// `check-config`.
#[derive(Args)]
pub struct CheckArgs {
    /// The configuration
    pub config: PathBuf,
    /// Check the file alone, not what it names: for sample configurations
    #[arg(long)]
    pub syntax_only: bool,
}
