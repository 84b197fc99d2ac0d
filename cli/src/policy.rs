//! `portcullis policy`: check a policy's text, sign and put it, get it back.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use policies::Policy;
use protocol::documents::PolicyBody;
use protocol::dsse::{DocumentError, SignedDocument};
use protocol::ids::{Name, Version};
use protocol::keys::PublicKey;
use protocol::limits;
use serde_json::json;
use zeroize::Zeroizing;

use crate::broker::AdminArguments;
use crate::console::{Console, Tone};
use crate::failure::{Exit, Failure, Outcome};
use crate::files;
use crate::installation::RootArgument;
use crate::keys::{self, KeyKind, UnlockArguments};
use crate::records::{Form, print_accepted};

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
    portcullis policy put inference.toml --name inference --version 2 --authority-key authority.key --root root.pub \\
        --broker https://broker.example.com --token-file token")]
pub(crate) struct Put {
    /// The policy (TOML)
    file: PathBuf,

    /// The policy's name: what records refer to
    #[arg(long, value_name = "NAME")]
    name: Name,

    /// The version: a whole number that only grows
    #[arg(long, value_name = "N")]
    version: Version,

    /// The authority's secret key
    #[arg(long, value_name = "FILE")]
    authority_key: PathBuf,

    /// Print the answer as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    pinned: RootArgument,

    #[command(flatten)]
    unlock: UnlockArguments,

    #[command(flatten)]
    admin: AdminArguments,
}

impl Put {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        let (text, _) = read(&self.file)?;
        let key = keys::signing_key(&self.authority_key, KeyKind::Authority, &self.unlock)?;
        let body = PolicyBody { installation: self.pinned.root, name: self.name, version: self.version, toml: text.to_string() };
        let signed = SignedDocument::sign(&body, &key).map_err(Failure::failed)?;
        let accepted = self.admin.connect()?.put_policy(&signed)?;
        print_accepted("policy", &accepted, Form::of(self.json), console);
        Ok(Exit::Done)
    }
}

/// Get a policy from a broker
///
/// With --toml the text alone goes to standard output, to be edited and put again. The signature is checked under the
/// authority that --authority names.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
    portcullis policy get inference --authority authority.pub --broker https://broker.example.com --token-file token
    portcullis policy get inference --toml --broker https://broker.example.com --token-file token > inference.toml")]
pub(crate) struct Get {
    /// The policy's name
    name: Name,

    /// The authority that must have signed it: `ed25519:…` or a .pub file
    #[arg(long, value_name = "KEY", value_parser = keys::public_key)]
    authority: Option<PublicKey>,

    /// Print the text alone
    #[arg(long, conflicts_with = "json")]
    toml: bool,

    /// Print as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    admin: AdminArguments,
}

/// A policy as it came, and who vouches for it.
struct Received {
    body: PolicyBody,
    signer: Option<PublicKey>,
    signed: SignedDocument,
}

impl Get {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        let received = receive(self.admin.connect()?.policy(&self.name)?, self.authority)?;
        if received.body.name != self.name {
            return Err(Failure::failed(format_args!("the broker answered with policy {}, not {}", received.body.name, self.name)));
        }
        if received.signer.is_none() && (self.toml || self.json) {
            console.warning("the signature is not checked; give --authority");
        }
        if self.toml {
            console.bytes(received.body.toml.as_bytes());
        } else if self.json {
            let PolicyBody { name, version, toml, .. } = &received.body;
            let digest = received.signed.digest();
            console.json(&json!({ "name": name, "version": version, "document": digest, "authority": received.signer, "toml": toml }));
        } else {
            received.print(console);
        }
        Ok(Exit::Done)
    }
}

/// Reads the body; checks the signature where an authority is named.
fn receive(signed: SignedDocument, authority: Option<PublicKey>) -> Result<Received, Failure> {
    match authority {
        Some(authority) => {
            let document = signed.authenticate::<PolicyBody>(&[authority]).map_err(|error| match error {
                DocumentError::UnknownSigner { .. } => Failure::failed(format_args!("the policy is not signed by {authority}")),
                other => Failure::failed(other),
            })?;
            Ok(Received { body: document.body().clone(), signer: Some(authority), signed })
        }
        None => {
            let body = serde_json::from_slice(&signed.payload)
                .map_err(|error| Failure::failed(format_args!("the answer is not a policy: {error}")))?;
            Ok(Received { body, signer: None, signed })
        }
    }
}

impl Received {
    fn print(&self, console: &mut Console<'_>) {
        let [signature] = &self.signed.signatures;
        let signer = match &self.signer {
            Some(authority) => format!("{} by {authority}", console.paint(Tone::Good, "verified")),
            None => format!("{}: key id {}; give --authority", console.paint(Tone::Warning, "not checked"), signature.keyid),
        };
        let fields = [
            ("policy", format!("{} version {}", self.body.name, self.body.version)),
            ("document", self.signed.digest().to_string()),
            ("signature", signer),
        ];
        console.fields("", fields);
        console.line("");
        console.line(self.body.toml.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use protocol::keys::SigningKey;

    use super::*;

    fn signed(key: &SigningKey) -> SignedDocument {
        let body = PolicyBody {
            installation: PublicKey::from_bytes([1; 32]),
            name: "a".parse().unwrap(),
            version: Version::FIRST,
            toml: "format = 1".to_owned(),
        };
        SignedDocument::sign(&body, key).unwrap()
    }

    #[test]
    fn a_policy_counts_as_verified_only_under_the_authority_that_was_named() {
        let (own, other) = (SigningKey::from_seed(&[1; 32]).unwrap(), SigningKey::from_seed(&[2; 32]).unwrap());
        assert_eq!(receive(signed(&own), Some(*own.public())).map(|received| received.signer).ok(), Some(Some(*own.public())));
        assert_eq!(receive(signed(&own), None).map(|received| received.signer).ok(), Some(None));
        assert!(receive(signed(&own), Some(*other.public())).is_err());
    }
}
