//! `portcullis policy`: check a policy's text, sign and put it, get it back.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use policies::Policy;
use protocol::documents::PolicyBody;
use protocol::ids::{Name, Version};
use protocol::limits;
use serde_json::json;
use zeroize::Zeroizing;

use crate::console::Console;
use crate::documents::{GetArguments, Named, PutArguments};
use crate::failure::{Exit, Failure, Outcome};
use crate::files;

/// Check, put and get policies
#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    Check(Check),
    Put(Put),
    Get(Get),
}

impl PolicyCommand {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Outcome {
        match self {
            Self::Check(check) => check.run(console),
            Self::Put(put) => put.run(console),
            Self::Get(get) => get.run(console),
        }
    }
}

impl Named for PolicyBody {
    const WHAT: &'static str = "policy";
    const PATH: &'static str = "/v1/policies";

    fn name(&self) -> &Name {
        &self.name
    }

    fn version(&self) -> Version {
        self.version
    }
}

/// Check that a file is a policy
///
/// Exit code 1 where it is none; the message names line and column.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis policy check inference.toml")]
pub(crate) struct Check {
    /// The policy (TOML); `-` is standard input
    file: PathBuf,
}

impl Check {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        let (_, policy) = read(&self.file)?;
        let lifetime = format!("{} s", policy.attestation_lifetime().as_secs());
        let mut fields = vec![("policy", self.file.display().to_string())];
        fields.extend(policy.description().map(|text| ("description", text.to_owned())));
        fields.extend([("role", policy.role().to_string()), ("attestation lifetime", lifetime)]);
        fields.extend(policy.identity().map(|identity| ("identity", identity.template().to_string())));
        console.fields("", fields);
        Ok(Exit::Done)
    }
}

/// The text of a policy that parses, and the policy.
fn read(path: &Path) -> Result<(Zeroizing<String>, Policy), Failure> {
    let text = files::read_text(path, "a policy", limits::DOCUMENT)?;
    match Policy::parse(&text) {
        Ok(policy) => Ok((text, policy)),
        Err(error) => Err(Failure::failed(format_args!("{}: {error}", path.display())).hint(error.hint())),
    }
}

/// Sign a policy and put it to a broker
///
/// The text is checked first. A broker takes only a higher version than it has, and obeys it from then on.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis policy put inference.toml --name inference --version 2 \\
        --authority-key authority.key --root root.pub \\
        --broker https://broker.example.com --token-file token")]
pub(crate) struct Put {
    /// The policy (TOML)
    file: PathBuf,

    #[command(flatten)]
    put: PutArguments,
}

impl Put {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        let Self { file, put } = self;
        let body = |installation, name, version| {
            let (text, _) = read(&file)?;
            Ok(PolicyBody { installation, name, version, toml: text.to_string() })
        };
        put.put(body, console)
    }
}

/// Get a policy from a broker
///
/// With --toml the text alone goes to standard output, to be edited and put again. The signature is checked under the
/// authority that --authority names.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
    portcullis policy get inference --authority authority.pub --broker https://broker.example.com \\
        --token-file token
    portcullis policy get inference --toml --broker https://broker.example.com \\
        --token-file token > inference.toml")]
pub(crate) struct Get {
    /// Print the text alone
    #[arg(long, conflicts_with = "json")]
    toml: bool,

    #[command(flatten)]
    get: GetArguments,
}

impl Get {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        let received = self.get.get::<PolicyBody>()?;
        let PolicyBody { name, version, toml, .. } = &received.body;
        if self.toml {
            received.warn(console);
            console.bytes(toml.as_bytes());
        } else if self.get.json {
            received.warn(console);
            let (digest, authority) = (received.signed.digest(), received.signer);
            console.json(&json!({ "name": name, "version": version, "document": digest, "authority": authority, "toml": toml }));
        } else {
            received.print(console);
            console.line(toml.trim_end());
        }
        Ok(Exit::Done)
    }
}
