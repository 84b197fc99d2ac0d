//! What policies and TCB calendars have in common: an authority signs them, and a broker keeps the newest version under a name.

use std::path::PathBuf;

use clap::Args;
use protocol::dsse::{Body, DocumentError, SignedDocument};
use protocol::ids::{Name, Version};
use protocol::keys::PublicKey;

use crate::broker::AdminArguments;
use crate::console::{Console, Tone};
use crate::failure::{Exit, Failure, Outcome};
use crate::installation::RootArgument;
use crate::keys::{self, KeyKind, UnlockArguments};
use crate::records::{Form, print_accepted};

/// A body of this kind.
pub(crate) trait Named: Body + Clone {
    /// What it is called: `policy`.
    const WHAT: &'static str;
    /// Where the broker keeps it.
    const PATH: &'static str;

    fn name(&self) -> &Name;
    fn version(&self) -> Version;
}

/// How a document is signed and put.
#[derive(Args)]
pub(crate) struct PutArguments {
    /// Its name: by which others refer to it
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

impl PutArguments {
    /// Signs the body that `body` makes of installation, name and version, and puts it.
    pub(crate) fn put<B: Named>(
        self,
        body: impl FnOnce(PublicKey, Name, Version) -> Result<B, Failure>,
        console: &mut Console<'_>,
    ) -> Outcome {
        let body = body(self.pinned.root, self.name, self.version)?;
        let key = keys::signing_key(&self.authority_key, KeyKind::Authority, &self.unlock)?;
        let signed = SignedDocument::sign(&body, &key).map_err(Failure::failed)?;
        let accepted = self.admin.connect()?.put_document::<B>(&signed)?;
        print_accepted(B::WHAT, &accepted, Form::of(self.json), console);
        Ok(Exit::Done)
    }
}

/// How a document is got.
#[derive(Args)]
pub(crate) struct GetArguments {
    /// Its name
    name: Name,

    /// The authority that must have signed it: `ed25519:…` or a .pub file
    #[arg(long, value_name = "KEY", value_parser = keys::public_key)]
    authority: Option<PublicKey>,

    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    admin: AdminArguments,
}

impl GetArguments {
    /// The document of this name, which the broker cannot exchange for another's.
    pub(crate) fn get<B: Named>(&self) -> Result<Received<B>, Failure> {
        let received = Received::<B>::new(self.admin.connect()?.document::<B>(&self.name)?, self.authority)?;
        match received.body.name() {
            name if *name == self.name => Ok(received),
            other => Err(Failure::failed(format_args!("the broker answered with {} {other}, not {}", B::WHAT, self.name))),
        }
    }
}

/// A document as it came, and who vouches for it.
pub(crate) struct Received<B> {
    pub(crate) body: B,
    /// The authority that was named, where one was; then the signature is its own.
    pub(crate) signer: Option<PublicKey>,
    pub(crate) signed: SignedDocument,
}

impl<B: Named> Received<B> {
    /// Reads the body; checks the signature where an authority is named.
    fn new(signed: SignedDocument, authority: Option<PublicKey>) -> Result<Self, Failure> {
        let body = match authority {
            Some(authority) => {
                let document = signed.authenticate::<B>(&[authority]).map_err(|error| match error {
                    DocumentError::UnknownSigner { .. } => Failure::failed(format_args!("the {} is not signed by {authority}", B::WHAT)),
                    other => Failure::failed(other),
                })?;
                document.body().clone()
            }
            None => serde_json::from_slice(&signed.payload)
                .map_err(|error| Failure::failed(format_args!("the answer is no {}: {error}", B::WHAT)))?,
        };
        Ok(Self { body, signer: authority, signed })
    }

    /// Says so where nobody vouches for what a program is about to read.
    pub(crate) fn warn(&self, console: &mut Console<'_>) {
        if self.signer.is_none() {
            console.warning("the signature is not checked; give --authority");
        }
    }

    /// Name, version, digest and signature, for people.
    pub(crate) fn print(&self, console: &mut Console<'_>) {
        let [signature] = &self.signed.signatures;
        let signer = match &self.signer {
            Some(authority) => format!("{} by {authority}", console.paint(Tone::Good, "verified")),
            None => format!("{}: key id {}; give --authority", console.paint(Tone::Warning, "not checked"), signature.keyid),
        };
        let fields = [
            (B::WHAT, format!("{} version {}", self.body.name(), self.body.version())),
            ("document", self.signed.digest().to_string()),
            ("signature", signer),
        ];
        console.fields("", fields);
        console.line("");
    }
}

#[cfg(test)]
mod tests {
    use protocol::documents::{BaselineProduct, PolicyBody, TcbBaseline, TcbBaselinesBody};
    use protocol::keys::SigningKey;
    use protocol::time::UnixTime;

    use super::*;

    fn counts_as_verified_only_under_the_authority_that_was_named<B: Named>(body: &B) {
        let (own, other) = (SigningKey::from_seed(&[1; 32]).unwrap(), SigningKey::from_seed(&[2; 32]).unwrap());
        let signed = SignedDocument::sign(body, &own).unwrap();
        let signer = |authority| Received::<B>::new(signed.clone(), authority).map(|received| received.signer).ok();
        assert_eq!(signer(Some(*own.public())), Some(Some(*own.public())));
        assert_eq!(signer(None), Some(None));
        assert_eq!(signer(Some(*other.public())), None);
    }

    #[test]
    fn a_document_counts_as_verified_only_under_the_authority_that_was_named() {
        let (installation, name, version) = (PublicKey::from_bytes([1; 32]), "a".parse::<Name>().unwrap(), Version::FIRST);
        let policy = PolicyBody { installation, name: name.clone(), version, toml: "format = 1".to_owned() };
        counts_as_verified_only_under_the_authority_that_was_named(&policy);
        let (product, published) = (BaselineProduct::Milan, UnixTime::from_seconds(0));
        let baselines = vec![TcbBaseline { product, published, fmc: None, bootloader: 4, tee: 0, snp: 22, microcode: 213 }];
        counts_as_verified_only_under_the_authority_that_was_named(&TcbBaselinesBody { installation, name, version, baselines });
    }
}
