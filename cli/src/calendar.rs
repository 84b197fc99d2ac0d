//! `portcullis calendar`: the TCB baselines that policies with `minimum-tcb = "calendar"` ask for: check a file, sign and put it, get it back.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use protocol::documents::{TcbBaseline, TcbBaselinesBody};
use protocol::dsse::{Body as _, DocumentError, SignedDocument};
use protocol::ids::{Name, Version};
use protocol::keys::PublicKey;
use protocol::limits;
use serde_json::json;

use crate::broker::AdminArguments;
use crate::console::{Console, Tone};
use crate::failure::{Exit, Failure, Outcome};
use crate::files;
use crate::installation::RootArgument;
use crate::keys::{self, KeyKind, UnlockArguments};
use crate::records::{Form, print_accepted};

/// Check, put and get TCB calendars
#[derive(Subcommand)]
pub(crate) enum CalendarCommand {
    Check(Check),
    Put(Put),
    Get(Get),
}

impl CalendarCommand {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Outcome {
        match self {
            Self::Check(check) => check.run(console),
            Self::Put(put) => put.run(console),
            Self::Get(get) => get.run(console),
        }
    }
}

/// Check that a file holds TCB baselines
///
/// The file is a JSON list, by line (milan, genoa, turin) and in each line by date; each baseline raises the one before:
/// {"product":"genoa","published":"2026-03-10T00:00:00Z","bootloader":10,"tee":0,"snp":23,"microcode":84}.
/// Turin's have "fmc" besides.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis calendar check amd.json")]
pub(crate) struct Check {
    /// The baselines (JSON); `-` is standard input
    file: PathBuf,
}

impl Check {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        // Its rules read nothing of who it is for.
        let body = TcbBaselinesBody {
            installation: PublicKey::from_bytes([0; 32]),
            name: "check".parse().map_err(Failure::failed)?,
            version: Version::FIRST,
            baselines: read(&self.file)?,
        };
        body.check().map_err(|why| refused(&self.file, why))?;
        console.fields("", [("calendar", self.file.display().to_string()), ("baselines", body.baselines.len().to_string())]);
        Ok(Exit::Done)
    }
}

fn refused(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::failed(format_args!("{}: {why}", path.display())).hint("`portcullis calendar check --help` shows the form")
}

fn read(path: &Path) -> Result<Vec<TcbBaseline>, Failure> {
    let text = files::read_text(path, "TCB baselines", limits::DOCUMENT)?;
    serde_json::from_str(&text).map_err(|error| refused(path, error))
}

/// Sign TCB baselines and put them to a broker
///
/// Policies of the same authority that name this calendar obey it from then on. A broker takes only a higher version than it has.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis calendar put amd.json --name amd --version 2 --authority-key authority.key --root root.pub \\
        --broker https://broker.example.com --token-file token")]
pub(crate) struct Put {
    /// The baselines (JSON)
    file: PathBuf,

    /// The calendar's name: what policies refer to
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
        let baselines = read(&self.file)?;
        let body = TcbBaselinesBody { installation: self.pinned.root, name: self.name, version: self.version, baselines };
        body.check().map_err(|why| refused(&self.file, why))?;
        let key = keys::signing_key(&self.authority_key, KeyKind::Authority, &self.unlock)?;
        let signed = SignedDocument::sign(&body, &key).map_err(Failure::failed)?;
        let accepted = self.admin.connect()?.put_calendar(&signed)?;
        print_accepted("calendar", &accepted, Form::of(self.json), console);
        Ok(Exit::Done)
    }
}

/// Get a TCB calendar from a broker
///
/// With --baselines the list alone goes to standard output, to be edited and put again. The signature is checked under the
/// authority that --authority names.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
    portcullis calendar get amd --authority authority.pub --broker https://broker.example.com --token-file token
    portcullis calendar get amd --baselines --broker https://broker.example.com --token-file token > amd.json")]
pub(crate) struct Get {
    /// The calendar's name
    name: Name,

    /// The authority that must have signed it: `ed25519:…` or a .pub file
    #[arg(long, value_name = "KEY", value_parser = keys::public_key)]
    authority: Option<PublicKey>,

    /// Print the baselines alone
    #[arg(long, conflicts_with = "json")]
    baselines: bool,

    /// Print as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    admin: AdminArguments,
}

impl Get {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        let signed = self.admin.connect()?.calendar(&self.name)?;
        let body = receive(&signed, self.authority)?;
        if body.name != self.name {
            return Err(Failure::failed(format_args!("the broker answered with calendar {}, not {}", body.name, self.name)));
        }
        if self.authority.is_none() && (self.baselines || self.json) {
            console.warning("the signature is not checked; give --authority");
        }
        if self.baselines {
            console.json(&body.baselines);
        } else if self.json {
            let TcbBaselinesBody { name, version, baselines, .. } = &body;
            let digest = signed.digest();
            let authority = self.authority;
            console.json(&json!({ "name": name, "version": version, "document": digest, "authority": authority, "baselines": baselines }));
        } else {
            print(&body, &signed, self.authority, console);
        }
        Ok(Exit::Done)
    }
}

/// Reads the body; checks the signature where an authority is named.
fn receive(signed: &SignedDocument, authority: Option<PublicKey>) -> Result<TcbBaselinesBody, Failure> {
    let Some(authority) = authority else {
        return serde_json::from_slice(&signed.payload)
            .map_err(|error| Failure::failed(format_args!("the answer is not a TCB calendar: {error}")));
    };
    let document = signed.authenticate::<TcbBaselinesBody>(&[authority]).map_err(|error| match error {
        DocumentError::UnknownSigner { .. } => Failure::failed(format_args!("the calendar is not signed by {authority}")),
        other => Failure::failed(other),
    })?;
    Ok(document.body().clone())
}

fn print(body: &TcbBaselinesBody, signed: &SignedDocument, authority: Option<PublicKey>, console: &mut Console<'_>) {
    let [signature] = &signed.signatures;
    let signer = match authority {
        Some(authority) => format!("{} by {authority}", console.paint(Tone::Good, "verified")),
        None => format!("{}: key id {}; give --authority", console.paint(Tone::Warning, "not checked"), signature.keyid),
    };
    let fields =
        [("calendar", format!("{} version {}", body.name, body.version)), ("document", signed.digest().to_string()), ("signature", signer)];
    console.fields("", fields);
    console.line("");
    for baseline in &body.baselines {
        let TcbBaseline { product, published, fmc, bootloader, tee, snp, microcode } = baseline;
        let fmc = fmc.map_or_else(String::new, |fmc| format!("fmc {fmc} "));
        let product = product.as_str();
        console.line(format!("{product:<6} {published}  {fmc}bootloader {bootloader} tee {tee} snp {snp} microcode {microcode}"));
    }
}

#[cfg(test)]
mod tests {
    use protocol::documents::BaselineProduct;
    use protocol::keys::SigningKey;
    use protocol::time::UnixTime;

    use super::*;

    fn signed(key: &SigningKey) -> SignedDocument {
        let published = UnixTime::from_seconds(0);
        let baseline =
            TcbBaseline { product: BaselineProduct::Milan, published, fmc: None, bootloader: 4, tee: 0, snp: 22, microcode: 213 };
        let body = TcbBaselinesBody {
            installation: PublicKey::from_bytes([1; 32]),
            name: "amd".parse().unwrap(),
            version: Version::FIRST,
            baselines: vec![baseline],
        };
        SignedDocument::sign(&body, key).unwrap()
    }

    #[test]
    fn a_calendar_counts_as_verified_only_under_the_authority_that_was_named() {
        let (own, other) = (SigningKey::from_seed(&[1; 32]).unwrap(), SigningKey::from_seed(&[2; 32]).unwrap());
        assert_eq!(receive(&signed(&own), Some(*own.public())).map(|body| body.baselines.len()).ok(), Some(1));
        assert_eq!(receive(&signed(&own), None).map(|body| body.baselines.len()).ok(), Some(1));
        assert!(receive(&signed(&own), Some(*other.public())).is_err());
    }
}
