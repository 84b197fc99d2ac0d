//! What a certificate or revocation list says of itself (RFC 5280, sections 4.1 and 5.1): whose it is and until when. Enough to sort
//! it and to show it; the verifier reads it anew.

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode as _, Reader as _, SliceReader, Tag, TagNumber, Tagged as _};
use protocol::time::UnixTime;
use x509_cert::time::Time;

/// Intel's root (Intel SGX PCK certificate profile).
pub(super) const INTEL_ROOT: &str = "Intel SGX Root CA";
/// Who signs TCB infos and identities.
pub(super) const TCB_SIGNING: &str = "Intel SGX TCB Signing";
/// A platform.
pub(super) const PCK: &str = "Intel SGX PCK Certificate";

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Whose authorities issued it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vendor {
    Amd,
    Intel,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peeked {
    /// The issuer's common name.
    pub(super) issuer: String,
    pub(super) content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Certificate { subject: String, not_before: UnixTime, not_after: UnixTime },
    RevocationList { this_update: UnixTime, next_update: Option<UnixTime> },
}

impl Peeked {
    /// By the names that the vendors' profiles fix: `ARK-Milan`, `SEV-Milan`, `SEV-VLEK-Milan`; `Intel SGX …`.
    pub(super) fn vendor(&self) -> Option<Vendor> {
        match self.issuer.as_str() {
            name if name.starts_with("ARK-") || name.starts_with("SEV-") => Some(Vendor::Amd),
            name if name.starts_with("Intel SGX ") => Some(Vendor::Intel),
            _ => None,
        }
    }

    pub(super) fn subject(&self) -> Option<&str> {
        match &self.content {
            Content::Certificate { subject, .. } => Some(subject),
            Content::RevocationList { .. } => None,
        }
    }

    /// A certificate that names itself as its issuer.
    pub(super) fn is_root(&self) -> bool {
        self.subject() == Some(self.issuer.as_str())
    }

    /// An authority of Intel's that is not the root.
    pub(super) fn is_intermediate(&self) -> bool {
        self.subject().is_some_and(|subject| subject != PCK && subject != INTEL_ROOT && subject != TCB_SIGNING)
    }
}

/// Reads exactly one certificate or list.
pub(super) fn peek(bytes: &[u8]) -> Option<Peeked> {
    let mut outer = SliceReader::new(contents(&mut SliceReader::new(bytes).ok()?, Tag::Sequence)?).ok()?;
    let mut body = SliceReader::new(contents(&mut outer, Tag::Sequence)?).ok()?;
    let first = AnyRef::decode(&mut body).ok()?;
    let version = Tag::ContextSpecific { constructed: true, number: TagNumber(0) };
    match first.tag() {
        tag if tag == version => certificate(&mut body),
        Tag::Integer => revocation_list(&mut body),
        _ => None,
    }
}

fn certificate(body: &mut SliceReader<'_>) -> Option<Peeked> {
    contents(body, Tag::Integer)?;
    contents(body, Tag::Sequence)?;
    let issuer = common_name(contents(body, Tag::Sequence)?)?;
    let mut validity = SliceReader::new(contents(body, Tag::Sequence)?).ok()?;
    let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
    let subject = common_name(contents(body, Tag::Sequence)?)?;
    Some(Peeked { issuer, content: Content::Certificate { subject, not_before, not_after } })
}

fn revocation_list(body: &mut SliceReader<'_>) -> Option<Peeked> {
    contents(body, Tag::Sequence)?;
    let issuer = common_name(contents(body, Tag::Sequence)?)?;
    let this_update = time(body)?;
    let next_update = match Tag::peek(body) {
        Ok(Tag::UtcTime | Tag::GeneralizedTime) => Some(time(body)?),
        _ => None,
    };
    Some(Peeked { issuer, content: Content::RevocationList { this_update, next_update } })
}

fn contents<'a>(reader: &mut SliceReader<'a>, tag: Tag) -> Option<&'a [u8]> {
    AnyRef::decode(reader).ok().filter(|value| value.tag() == tag).map(|value| value.value())
}

fn time(reader: &mut SliceReader<'_>) -> Option<UnixTime> {
    Some(UnixTime::from_seconds(Time::decode(reader).ok()?.to_unix_duration().as_secs()))
}

/// The first common name of a `Name`, given as its contents.
fn common_name(name: &[u8]) -> Option<String> {
    let mut names = SliceReader::new(name).ok()?;
    while !names.is_finished() {
        let mut relative = SliceReader::new(contents(&mut names, Tag::Set)?).ok()?;
        let mut attribute = SliceReader::new(contents(&mut relative, Tag::Sequence)?).ok()?;
        let id = ObjectIdentifier::decode(&mut attribute).ok()?;
        let value = AnyRef::decode(&mut attribute).ok()?;
        if id == COMMON_NAME {
            return core::str::from_utf8(value.value()).ok().map(str::to_owned);
        }
    }
    None
}
