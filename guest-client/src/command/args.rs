//! What people type.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use protocol::documents::Kind;
use protocol::ids::{Name, Nonce, Role, Version};
use protocol::messages::Item;

use super::failure::Failure;
use crate::config::{self, Config, Overrides, Plaintext};
use crate::evidence::{self, Choice, EventLogChoice};
use crate::exchange::Terms;
use crate::retry::{Patience, Waiting};
use connection::PlainHttp;

const AFTER: &str = "\
Exit codes:
  0  done, or permitted
  1  something here does not work
  2  wrong use
  3  denied: the broker answered, and the answer is no
  4  the broker cannot be reached, or cannot serve now
  5  whoever answered is not believed: identity, signature, receipt, or a log that was rolled back
  6  this machine gives no evidence

Examples:
  portcullis-guest check --model acme/llama-3-8b
  portcullis-guest unseal --model acme/llama-3-8b --sealed /mnt/models/llama --to /run/models/llama
  portcullis-guest release --credential acme/openai --out /run/secrets/openai
  portcullis-guest evidence-agent --socket workload:vllm=/run/portcullis/vllm/agent.sock
  portcullis-guest evidence --unpinned --report report.bin --certificate-table certs.bin
  portcullis-guest evidence --unpinned --report quote.bin --event-log ccel.bin

The configuration (/etc/portcullis/guest.toml) needs two lines:
  root = \"ed25519:...\"                       # the installation root that this guest trusts
  broker = \"https://broker.example.com\"";

/// Proves what this guest is to a Portcullis broker, and gets what is released to it.
#[derive(Debug, Parser)]
#[command(name = "portcullis-guest", version, after_help = AFTER, max_term_width = 120)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Collect evidence and show it; nothing is sent anywhere
    Evidence(EvidenceArguments),
    /// The whole exchange, with nothing released
    Check(CheckArguments),
    /// Get a model's key or credentials
    Release(ReleaseArguments),
    /// Get a model's key and open the sealed folder
    Unseal(UnsealArguments),
    /// Serve evidence to this VM's workloads, one socket for each
    EvidenceAgent(AgentArguments),
    /// Print the digest of the effective configuration, which a policy can require
    ConfigDigest(DigestArguments),
    /// Print a script that completes this command's arguments
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// Where the configuration is, and what the command line changes in it.
#[derive(Debug, Args)]
pub struct Common {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = config::PATH)]
    pub config: PathBuf,
    /// Another broker; leaves the configuration's digest as it is, because every answer is checked against the pinned root
    #[arg(long, value_name = "URL")]
    pub broker: Option<String>,
    /// Authorities for TLS, PEM; leaves the digest as it is
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Speak plain HTTP to other machines too; changes the digest
    #[arg(long)]
    pub allow_plain_http: bool,
    /// auto, configfs, device or agent:PATH; leaves the digest as it is
    #[arg(long, value_name = "SOURCE")]
    pub evidence: Option<Choice>,
    /// Keep the last checkpoint of the broker's log in this folder, and refuse a log that does not follow from it; changes the digest
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Answer as one JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

impl Common {
    /// The effective configuration, with what else the command line changes.
    ///
    /// # Errors
    /// [`Failure::Config`].
    pub fn effective(&self, more: Overrides) -> Result<Config, Failure> {
        let overrides = Overrides {
            broker: self.broker.clone(),
            ca_file: self.ca.clone(),
            plain_http: self.allow_plain_http.then_some(PlainHttp::Anywhere),
            evidence: self.evidence.clone(),
            state: self.state.clone(),
            ..more
        };
        Ok(Config::read(&self.config)?.overridden(overrides))
    }
}

impl Config {
    /// What an exchange is under.
    ///
    /// # Errors
    /// [`Failure::Config`] where a covered file cannot be read.
    pub(super) fn terms(&self) -> Result<Terms, Failure> {
        Ok(Terms { root: self.root, configuration: self.digest()?, state: self.state.clone() })
    }
}

/// What is asked for.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Asks {
    /// A model's key; the highest version without @VERSION
    #[arg(long = "model", value_name = "NAME[@VERSION]")]
    pub models: Vec<Named>,
    /// A credential; the highest version without @VERSION
    #[arg(long = "credential", value_name = "NAME[@VERSION]")]
    pub credentials: Vec<Named>,
}

impl Asks {
    /// Models first, then credentials.
    #[must_use]
    pub fn items(&self) -> Vec<Item> {
        let models = self.models.iter().map(|named| named.item(Kind::Model));
        models.chain(self.credentials.iter().map(|named| named.item(Kind::Credential))).collect()
    }
}

/// `NAME` or `NAME@VERSION`.
#[derive(Clone, Debug)]
pub struct Named {
    name: Name,
    version: Option<Version>,
}

impl Named {
    /// As a record of this kind.
    #[must_use]
    pub fn item(&self, kind: Kind) -> Item {
        Item { kind, name: self.name.clone(), version: self.version }
    }
}

impl FromStr for Named {
    type Err = protocol::ids::BadId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('@') {
            Some((name, version)) => Ok(Self { name: name.parse()?, version: Some(version.parse()?) }),
            None => Ok(Self { name: text.parse()?, version: None }),
        }
    }
}

/// How long to go on.
#[derive(Debug, Args)]
pub struct Persistence {
    /// Try again for this long while the broker cannot be reached or cannot serve
    #[arg(long, value_name = "TIME", default_value = "2m")]
    pub retry_for: Span,
    /// After a denial ask again, about every --wait-interval, until the answer is yes
    #[arg(long)]
    pub wait: bool,
    /// About how often to ask again after a denial
    #[arg(long, value_name = "TIME", default_value = "60s", requires = "wait")]
    pub wait_interval: Span,
    /// Give up waiting after this long; without it, never
    #[arg(long, value_name = "TIME", requires = "wait")]
    pub wait_for: Option<Span>,
    /// Where to leave the reason of a denial [default: $TERMINATION_LOG, or /dev/termination-log if it exists]
    #[arg(long, value_name = "FILE")]
    pub termination_log: Option<PathBuf>,
}

impl Persistence {
    /// As the retry module takes it.
    #[must_use]
    pub fn patience(&self) -> Patience {
        let denial = if self.wait {
            // Denials are retried slowly, whatever somebody types: a broker's log takes an entry for each.
            Waiting::Every { interval: self.wait_interval.0.max(Duration::from_secs(1)), until: self.wait_for.map(|span| span.0) }
        } else {
            Waiting::No
        };
        Patience { outage: self.retry_for.0, denial }
    }
}

/// `90`, `90s`, `5m`, `2h`: a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.trim_end_matches(['s', 'm', 'h']);
        let factor = match text.strip_prefix(digits) {
            Some("" | "s") => 1,
            Some("m") => 60,
            Some("h") => 3600,
            _ => return Err("expected a time such as 90s, 5m or 2h"),
        };
        let number: u64 = digits.parse().map_err(|_| "expected a time such as 90s, 5m or 2h")?;
        number
            .checked_mul(factor)
            .filter(|seconds| *seconds <= 365 * 86_400)
            .map(Duration::from_secs)
            .map(Self)
            .ok_or("expected a year at most")
    }
}

/// `evidence`.
#[derive(Debug, Args)]
pub struct EvidenceArguments {
    #[command(flatten)]
    pub common: Common,
    /// A broker's nonce, 64 hex digits; without it a random one
    #[arg(long, value_name = "HEX", conflicts_with = "challenge")]
    pub nonce: Option<Nonce>,
    /// A broker's challenge, base64, as POST /v1/challenge answers it
    #[arg(long, value_name = "BASE64")]
    pub challenge: Option<String>,
    /// Without a configuration, to look at a machine before there is one: no broker takes such evidence
    #[arg(long)]
    pub unpinned: bool,
    /// Write the raw SEV-SNP report or TDX quote there
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write the raw certificate table of SEV-SNP there
    #[arg(long, value_name = "FILE")]
    pub certificate_table: Option<PathBuf>,
    /// Write the event log of TDX there
    #[arg(long, value_name = "FILE")]
    pub event_log: Option<PathBuf>,
    /// Which event log is collected, where the configuration does not say: auto, none or a path
    #[arg(long, value_name = "LOG")]
    pub event_log_source: Option<EventLogChoice>,
    /// The configfs folder, where the configuration does not say
    #[arg(long, value_name = "DIR", hide = true)]
    pub configfs: Option<PathBuf>,
}

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub asks: Asks,
    #[command(flatten)]
    pub persistence: Persistence,
    /// Check what unseal and release would ask with --to-disk; changes the digest
    #[arg(long)]
    pub to_disk: bool,
}

/// `release`.
#[derive(Debug, Args)]
pub struct ReleaseArguments {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub asks: Asks,
    #[command(flatten)]
    pub destination: ReleaseDestination,
    /// Write to any file system, also one that the host reads; changes the digest
    #[arg(long)]
    pub to_disk: bool,
    #[command(flatten)]
    pub persistence: Persistence,
}

/// Where a released secret goes.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ReleaseDestination {
    /// Write the one secret to this file, mode 0600
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write each secret to a file of its name in this folder, mode 0600
    #[arg(long, value_name = "DIR")]
    pub out_dir: Option<PathBuf>,
    /// Write the one secret to standard output, which in a container is the host's log; changes the digest
    #[arg(long)]
    pub stdout: bool,
}

/// `unseal`.
#[derive(Debug, Args)]
pub struct UnsealArguments {
    #[command(flatten)]
    pub common: Common,
    /// The model; the highest version without @VERSION
    #[arg(long, value_name = "NAME[@VERSION]")]
    pub model: Named,
    /// The sealed folder
    #[arg(long, value_name = "DIR")]
    pub sealed: PathBuf,
    /// The new folder, in memory of the guest: tmpfs or ramfs, without active swap
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Write to any file system, also one that the host reads; changes the digest
    #[arg(long)]
    pub to_disk: bool,
    #[command(flatten)]
    pub persistence: Persistence,
}

/// What `--to-disk` says.
#[must_use]
pub fn plaintext(to_disk: bool) -> Option<Plaintext> {
    to_disk.then_some(Plaintext::Disk)
}

/// `config-digest`.
#[derive(Debug, Args)]
pub struct DigestArguments {
    #[command(flatten)]
    pub common: Common,
    /// The digest with --to-disk
    #[arg(long)]
    pub to_disk: bool,
    /// The digest with --stdout
    #[arg(long)]
    pub stdout: bool,
}

/// `evidence-agent`.
#[derive(Debug, Args)]
pub struct AgentArguments {
    /// A socket and for whom it speaks: whole-vm=PATH or workload:NAME=PATH; once for each
    #[arg(long = "socket", value_name = "ROLE=PATH", required = true)]
    pub sockets: Vec<RoleSocket>,
    /// The sockets' permission bits, octal
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = mode)]
    pub mode: u32,
    /// auto, configfs or device
    #[arg(long, value_name = "SOURCE", default_value = "auto")]
    pub evidence: Choice,
    /// Which event log goes with a TDX quote: auto, none or a path
    #[arg(long, value_name = "LOG", default_value = "auto")]
    pub event_log: EventLogChoice,
    /// The configfs folder
    #[arg(long, value_name = "DIR", default_value = evidence::configfs::ROOT, hide = true)]
    pub configfs: PathBuf,
    /// Log as JSON
    #[arg(long)]
    pub json: bool,
}

/// `ROLE=PATH`.
#[derive(Clone, Debug)]
pub struct RoleSocket {
    /// For whom the socket speaks.
    pub role: Role,
    /// Where it is.
    pub path: PathBuf,
}

impl FromStr for RoleSocket {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (role, path) = text.split_once('=').filter(|(_, path)| !path.is_empty()).ok_or("expected ROLE=PATH")?;
        Ok(Self { role: role.parse().map_err(|error: protocol::ids::BadId| error.to_string())?, path: PathBuf::from(path) })
    }
}

fn mode(text: &str) -> Result<u32, &'static str> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).ok_or("expected octal permission bits such as 0660")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    fn parses(line: &str) -> bool {
        Arguments::try_parse_from(line.split(' ')).is_ok()
    }

    #[test]
    fn what_is_asked_for_and_where_it_goes_must_be_said() {
        assert!(parses("g release --credential a --out /run/a"));
        assert!(parses("g release --model a@2 --credential b --out-dir /run/a"));
        for bad in [
            "g release --credential a",
            "g release --out /a",
            "g release --credential a --out /a --stdout",
            "g check",
            "g release --model a@0 --out /a",
        ] {
            assert!(!parses(bad), "{bad}");
        }
        assert!(parses("g check --model a --wait --wait-for 5m"));
        assert!(!parses("g check --model a --wait-for 5m"));
    }

    #[test]
    fn a_span_has_a_unit_and_an_end() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("5m", 300), ("2h", 7200), ("0", 0)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_secs(seconds))));
        }
        for bad in ["", "s", "5d", "5mm", "-5", "1e9h", "9999999h", "18446744073709551615m"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_socket_speaks_for_one_role() {
        assert!(parses("g evidence-agent --socket workload:vllm=/run/a --socket whole-vm=/run/b --mode 0660"));
        for bad in ["vllm=/run/a", "workload:vllm", "workload:vllm=", "=/run/a"] {
            assert!(!parses(&format!("g evidence-agent --socket {bad}")), "{bad}");
        }
        assert!(!parses("g evidence-agent"));
        assert!(!parses("g evidence-agent --socket whole-vm=/a --mode 1777"));
    }
}
