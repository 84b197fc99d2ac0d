//! What people type.

use std::ffi::OsString;
use std::fmt;
use std::num::NonZero;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use models_manifest::Workers;
use protocol::documents::Kind;
use protocol::ids::{Name, Nonce, Role, Version};
use protocol::messages::Item;

use super::child::{OnRevoke, OnRotate};
use super::failure::{Failure, Stream};
use super::given::{CredentialFor, Way};
use super::watch::Shown;
use crate::config::{self, Config, Overrides, Plaintext};
use crate::evidence::{self, Choice, EventLogChoice};
use crate::exchange::Terms;
use crate::retry::{Patience, Waiting};
use crate::sources::SealedLocation;
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
  130, 143  ended by Ctrl-C, by SIGTERM, before it was done

Examples:
  portcullis-guest check --model acme/llama-3-8b
  portcullis-guest unseal --model acme/llama-3-8b --sealed /mnt/models/llama --to /run/models/llama
  portcullis-guest mount --model acme/llama-3-8b --sealed https://models.example.com/llama --at /models/llama
  portcullis-guest exec --mount acme/llama-3-8b=/models/llama --sealed /mnt/models/llama -- vllm serve /models/llama
  portcullis-guest exec --credential OPENAI_API_KEY=agents/research/openai -- python agent.py
  portcullis-guest unseal --model acme/llama-3-8b --sealed s3://acme-models/llama --to /run/models/llama
  portcullis-guest sidecar --pod /etc/portcullis/sidecar.toml
  portcullis-guest proxy --proxies /etc/portcullis/proxies.toml
  portcullis-guest release --credential acme/openai --out /run/secrets/openai
  portcullis-guest identity --policy agents/research --out /run/secrets/identity
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
    /// Get this guest's signed identity: a certificate and its key, or a token
    Identity(IdentityArguments),
    /// Get a model's key and open the sealed folder
    Unseal(UnsealArguments),
    /// Get a model's key and mount the sealed folder: it is there at once, and decrypted as it is read
    Mount(MountArguments),
    /// Run a program with models mounted where only it sees them, or with credentials, without privileges
    Exec(ExecArguments),
    /// Serve one mount; its order, with the key, comes on standard input
    #[command(hide = true)]
    MountServer(MountServerArguments),
    /// Become a program without capabilities; exec starts it
    #[command(hide = true)]
    ExecEngine(ExecEngineArguments),
    /// Keep a pod's models open: attest, open or mount, renew, and answer probes
    Sidecar(SidecarArguments),
    /// Add credentials to requests to upstreams, for programs that must not hold them
    Proxy(ProxyArguments),
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
    /// Where an answer goes.
    #[must_use]
    pub const fn stream(&self) -> Stream {
        if self.json { Stream::Json } else { Stream::Text }
    }

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

/// What a decision is asked for about.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct CheckAsks {
    /// A model's key; the highest version without @VERSION
    #[arg(long = "model", value_name = "NAME[@VERSION]")]
    pub models: Vec<Named>,
    /// A credential; the highest version without @VERSION
    #[arg(long = "credential", value_name = "NAME[@VERSION]")]
    pub credentials: Vec<Named>,
    /// The identity that this policy gives
    #[arg(long = "identity", value_name = "POLICY")]
    pub identity: Option<Name>,
}

impl CheckAsks {
    /// Models first, then credentials, then the identity.
    #[must_use]
    pub fn items(&self) -> Vec<Item> {
        let models = self.models.iter().map(|named| named.item(Kind::Model));
        let credentials = self.credentials.iter().map(|named| named.item(Kind::Credential));
        let identity = self.identity.iter().map(|name| Item { kind: Kind::Identity, name: name.clone(), version: None });
        models.chain(credentials).chain(identity).collect()
    }
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
    pub(super) name: Name,
    version: Option<Version>,
}

impl Named {
    /// The version, where one is named.
    #[must_use]
    pub const fn version(&self) -> Option<Version> {
        self.version
    }

    /// As a record of this kind.
    #[must_use]
    pub fn item(&self, kind: Kind) -> Item {
        Item { kind, name: self.name.clone(), version: self.version }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}@{}", self.name, version.number()),
            None => write!(f, "{}", self.name),
        }
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
    pub asks: CheckAsks,
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

/// `identity`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("issued").required(true).multiple(true).args(["out", "audience", "result_audience"])))]
pub struct IdentityArguments {
    #[command(flatten)]
    pub common: Common,
    /// The policy that says who this is
    #[arg(long, value_name = "NAME")]
    pub policy: Name,
    /// Write svid.pem, key.pem, bundle.pem and bundle.json to this folder, mode 0600
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// A JWT-SVID for this audience, to standard output, which changes the digest, or to --token-file
    #[arg(long, value_name = "AUDIENCE", conflicts_with = "result_audience")]
    pub audience: Option<String>,
    /// An attestation result (EAR) for this audience, to standard output, which changes the digest, or to --token-file
    #[arg(long, value_name = "AUDIENCE")]
    pub result_audience: Option<String>,
    /// Write the token to this file, mode 0600
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Write to any file system, also one that the host reads; changes the digest
    #[arg(long)]
    pub to_disk: bool,
    #[command(flatten)]
    pub persistence: Persistence,
}

impl IdentityArguments {
    /// For whom a token is asked for, if one is.
    #[must_use]
    pub fn token_audience(&self) -> Option<&str> {
        self.audience.as_deref().or(self.result_audience.as_deref())
    }
}

/// A model that is asked for, and where it lies.
#[derive(Debug, Args)]
pub struct SealedModelArguments {
    #[command(flatten)]
    pub common: Common,
    /// The model; the highest version without @VERSION
    #[arg(long, value_name = "NAME[@VERSION]")]
    pub model: Named,
    /// Where the sealed model lies: a folder, https://HOST/PREFIX or s3://BUCKET/PREFIX
    #[arg(long, value_name = "PLACE")]
    pub sealed: SealedLocation,
    #[command(flatten)]
    pub persistence: Persistence,
}

/// `unseal`.
#[derive(Debug, Args)]
pub struct UnsealArguments {
    #[command(flatten)]
    pub asked: SealedModelArguments,
    /// The new folder, in memory of the guest: tmpfs or ramfs, without active swap
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Write to any file system, also one that the host reads; changes the digest
    #[arg(long)]
    pub to_disk: bool,
    /// If it fails or is ended, keep what was opened beside the new folder; and go on from what an earlier run with --resume kept.
    /// What lies there is checked against the signed manifest again, chunk by chunk
    #[arg(long)]
    pub resume: bool,
    #[command(flatten)]
    pub work: WorkArguments,
    /// How progress is shown on standard error [default: bar on a terminal, else json with --json]
    #[arg(long, value_name = "HOW", value_enum)]
    pub progress: Option<Shown>,
}

/// How a mount is served.
#[derive(Clone, Copy, Debug, Args)]
pub struct Serving {
    /// Threads that answer the kernel [default: one a core, 2 to 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: Option<u16>,
    /// MiB of decrypted chunks held on their way to the page cache
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub held: u16,
    /// MiB decrypted ahead of whoever reads forward [default: 4]; of a model that is fetched, MiB fetched ahead, never more than he
    /// has read [default: half of the storage's memory-mib]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub ahead: Option<u16>,
    /// At the end go on for this long for those who still have files open
    #[arg(long, value_name = "TIME", default_value = "0s")]
    pub linger: Span,
}

/// `mount`.
#[derive(Debug, Args)]
pub struct MountArguments {
    #[command(flatten)]
    pub asked: SealedModelArguments,
    /// The mount point, an empty folder; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    pub at: PathBuf,
    /// Let the mount go on when this process is killed
    #[arg(long)]
    pub outlive: bool,
    #[command(flatten)]
    pub serving: Serving,
}

/// `mount-server`.
#[derive(Debug, Args)]
pub struct MountServerArguments {
    /// The mount point
    #[arg(long, value_name = "DIR")]
    pub at: PathBuf,
    /// Go on when standard input ends
    #[arg(long)]
    pub outlive: bool,
    #[command(flatten)]
    pub serving: Serving,
}

/// `exec`.
#[derive(Debug, Args)]
#[command(after_help = EXEC)]
pub struct ExecArguments {
    #[command(flatten)]
    pub common: Common,
    /// A model and its mount point; the highest version without @VERSION; once for each model
    #[arg(long = "mount", value_name = "NAME[@VERSION]=DIR", required_unless_present = "credentials", requires = "sealed")]
    pub mounts: Vec<MountAt>,
    /// Where the sealed model of each --mount lies, in their order: a folder, https://HOST/PREFIX or s3://BUCKET/PREFIX
    #[arg(long, value_name = "PLACE", requires = "mounts")]
    pub sealed: Vec<SealedLocation>,
    /// A credential and the variable that it goes to, or those of a set that are taken; the newest version without @VERSION; once for each
    #[arg(long = "credential", value_name = "VARIABLE[,VARIABLE]=NAME[@VERSION]")]
    pub credentials: Vec<CredentialFor>,
    /// How each --credential is given, in their order: env, file:PATH (the variable holds the path) or fd (the path of a descriptor);
    /// [default: env]
    #[arg(long = "as", value_name = "WAY", requires = "credentials")]
    pub ways: Vec<Way>,
    /// What another version of a credential does: restart, signal (HUP), signal:NAME or ignore; files are replaced in any case
    #[arg(long, value_name = "WHAT", default_value = "ignore", requires = "credentials")]
    pub on_rotate: OnRotate,
    /// What the end of a credential does: its revocation, its lease's end, its own
    #[arg(long, value_name = "WHAT", value_enum, default_value = "ignore", requires = "credentials")]
    pub on_revoke: OnRevoke,
    /// How often the broker is asked for new versions and revocations at least
    #[arg(long, value_name = "TIME", default_value = "5m", requires = "credentials")]
    pub check_every: Span,
    /// How long the program has to end when it is asked to, before it is killed
    #[arg(long, value_name = "TIME", default_value = "10s", requires = "credentials")]
    pub grace: Span,
    #[command(flatten)]
    pub serving: Serving,
    #[command(flatten)]
    pub persistence: Persistence,
    #[command(flatten)]
    pub engine: EngineArguments,
}

const EXEC: &str = "\
Examples:
  portcullis-guest exec --mount acme/llama-3-8b=/models/llama --sealed /mnt/models/llama -- vllm serve /models/llama
  portcullis-guest exec --credential OPENAI_API_KEY=agents/research/openai --on-rotate restart --on-revoke end -- python agent.py
  portcullis-guest exec --credential PGUSER,PGPASSWORD=agents/research/database -- psql
  portcullis-guest exec --credential GOOGLE_APPLICATION_CREDENTIALS=agents/research/gcp --as file:/run/agent/ --on-rotate signal -- agentd";

/// `exec-engine`.
#[derive(Debug, Args)]
pub struct ExecEngineArguments {
    /// The inherited descriptor with its variables
    #[arg(long, value_name = "FD")]
    pub environment: Option<u32>,
    /// End when this process does, which must be the parent
    #[arg(long, value_name = "PID")]
    pub tied_to: Option<i32>,
    #[command(flatten)]
    pub engine: EngineArguments,
}

/// What is run.
#[derive(Debug, Args)]
pub struct EngineArguments {
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub engine: Vec<OsString>,
}

/// `NAME[@VERSION]=DIR`.
#[derive(Clone, Debug)]
pub struct MountAt {
    /// The model.
    pub model: Named,
    /// The mount point.
    pub at: PathBuf,
}

impl FromStr for MountAt {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (model, at) = text.split_once('=').filter(|(_, at)| !at.is_empty()).ok_or("expected NAME[@VERSION]=DIR")?;
        Ok(Self { model: model.parse().map_err(|error: protocol::ids::BadId| error.to_string())?, at: PathBuf::from(at) })
    }
}

impl UnsealArguments {
    /// How progress is shown.
    #[must_use]
    pub fn shown(&self) -> Shown {
        self.progress.unwrap_or_else(|| Shown::fitting(self.asked.common.json))
    }
}

/// How much of the machine is used.
#[derive(Debug, Args)]
pub struct WorkArguments {
    /// Threads that decrypt [default: one for each processor]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZero<usize>>,
    /// What their buffers may take together; fewer threads work where it is too little for all
    #[arg(long, value_name = "MIB", default_value_t = Workers::MEMORY >> 20)]
    pub memory: usize,
}

impl WorkArguments {
    /// As the opening takes it.
    #[must_use]
    pub fn workers(&self) -> Workers {
        self.threads.map_or_else(Workers::default, Workers::new).within(self.memory.saturating_mul(1 << 20))
    }
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
    fn an_identity_is_written_somewhere_and_has_one_token_at_most() {
        for good in ["--out /run/a", "--audience a", "--out /run/a --audience a --token-file /run/t", "--result-audience a"] {
            assert!(parses(&format!("g identity --policy agents/a {good}")), "{good}");
        }
        for bad in ["", " --token-file /t", " --audience a --result-audience b", " --audience a --audience b"] {
            assert!(!parses(&format!("g identity --policy agents/a{bad}")), "{bad}");
        }
        assert!(!parses("g identity --out /run/a") && !parses("g identity --policy ../a --out /run/a"));
        assert!(parses("g check --identity agents/a") && !parses("g check --identity a --identity b"));
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
    fn an_engine_stands_behind_two_dashes_with_a_sealed_folder_for_each_mount() {
        assert!(parses("g exec --mount acme/a@2=/m/a --sealed /s -- vllm serve --mount x"));
        assert!(parses("g exec --mount a=/m/a --sealed /s --mount b=/m/b --sealed /t -- true"));
        for bad in ["--mount a=/m --sealed /s", "--mount a=/m --sealed /s true", "--sealed /s -- true", "--mount a=/m -- true"] {
            assert!(!parses(&format!("g exec {bad}")), "{bad}");
        }
        for bad in ["a", "a=", "=/m", "a@0=/m"] {
            assert!(!parses(&format!("g exec --mount {bad} --sealed /s -- true")), "{bad}");
        }
    }

    #[test]
    fn a_program_gets_credentials_with_or_without_mounts() {
        assert!(parses("g exec --credential K=acme/a -- true"));
        assert!(parses("g exec --credential K,J=acme/a -- true"));
        assert!(!parses("g exec --credential *=acme/a -- true"));
        assert!(parses("g exec --credential K=a --credential J=b@2 --as env --as file:/run/b --on-rotate signal:USR1 -- true"));
        assert!(parses("g exec --credential K=a --mount a=/m --sealed /s --on-revoke end --check-every 30s -- true"));
        for bad in
            ["", "--on-rotate restart --mount a=/m --sealed /s", "--credential K=a --sealed /s", "--credential K=a --on-rotate reload"]
        {
            assert!(!parses(&format!("g exec {bad} -- true")), "{bad}");
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

/// `sidecar`.
#[derive(Debug, Args)]
#[command(after_help = SIDECAR)]
pub struct SidecarArguments {
    #[command(flatten)]
    pub common: Common,
    /// What the sidecar keeps open, from where and to where
    #[arg(long, value_name = "FILE", default_value = crate::sidecar::config::PATH)]
    pub pod: PathBuf,
    /// Write plaintext to any file system, also one that the host reads; changes the digest
    #[arg(long)]
    pub to_disk: bool,
}

/// `proxy`.
#[derive(Debug, Args)]
#[command(after_help = PROXY)]
pub struct ProxyArguments {
    #[command(flatten)]
    pub common: Common,
    /// Where agents ask, what they may ask, which upstream answers, and with which credential
    #[arg(long, value_name = "FILE")]
    pub proxies: PathBuf,
    /// How often the broker is asked for new versions and revocations at least
    #[arg(long, value_name = "TIME", default_value = "5m")]
    pub check_every: Span,
}

const PROXY: &str = "\
The file of proxies; a sidecar.toml has the same tables:
  [[proxy]]
  listen = \"/run/portcullis/research/openai.sock\"   # or \"127.0.0.1:8081\"; a socket for each workload
  users = [1000]                                     # who may connect, besides our own user
  upstream = \"https://api.openai.com\"               # ca-file = \"/PATH\" names its authorities
  credential = \"agents/research/openai\"             # version = 2 pins one
  header = \"authorization\"                          # value = \"Bearer {credential}\"
  allow = [\"POST /v1/chat/completions\", \"GET /v1/models\", \"GET /v1/files/*\"]";

const SIDECAR: &str = "\
What it keeps open (/etc/portcullis/sidecar.toml):
  models = \"/models\"                         # where models appear, if any are kept: /models/NAME@VERSION and NAME@current
  way = \"open\"                               # to memory; \"mount\": by FUSE, decrypted on first touch
  probes = \"0.0.0.0:9901\"                    # /startupz /readyz /livez /metrics  [127.0.0.1:9901]
  socket = \"/run/portcullis/sidecar.sock\"    # the local API; peers = [1000] lets other users in, socket-mode = \"660\"
  check-every-seconds = 300                   # how often the broker is asked at least: new versions, revocations
  on-expiry = \"unready\"                      # what the end of a lease does: keep, unready or remove
  on-denial = \"at-expiry\"                    # when a denied renewal counts: at-expiry or at-once
  on-change = [\"/usr/local/bin/reload\"]      # run on each change, with PORTCULLIS_CHANGE, _MODEL, _VERSION and _PATH

  [[model]]
  name = \"acme/llama-3-8b\"                   # version = 3 pins one; without it, the newest is followed
  sealed = \"/mnt/models/llama/{version}\"

  [[identity]]
  policy = \"agents/research\"                # says who this workload is
  socket = \"/run/research/workload.sock\"    # the SPIFFE Workload API, for users = [1000] alone
  users = [1000]
  [[identity.token]]
  audience = \"sts.amazonaws.com\"            # a JWT-SVID, kept fresh in a file
  path = \"/run/research/aws-token\"
  [[credential]]
  name = \"agents/research/openai\"           # held and renewed; version = 2 pins one
  file = \"/run/agent/openai\"                # replaced at once when it changes; mode = \"640\"
  users = [1000]                             # who may GET /v1/credentials/NAME besides the sidecar's own user

  [[proxy]]                                  # adds a credential to requests to one upstream: see proxy --help

  [[model]]
  name = \"acme/llama-3-8b-tone\"
  sealed = \"/mnt/models/tone\"
  base = \"acme/llama-3-8b\"                   # an adapter: opened after its base, removed before it";
