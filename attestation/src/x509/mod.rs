//! The parts of X.509 that the vendors' profiles use, read without copying: certificates, names, extensions, and what they have
//! in common with revocation lists (RFC 5280). Parsing proves nothing; the signatures are checked elsewhere.

pub(crate) mod crl;

use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, OctetStringRef};
use der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};
use protocol::limits;
use protocol::time::UnixTime;
use rustls_pki_types::AlgorithmIdentifier;
use x509_cert::time::Time;

/// What is wrong with some DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl From<der::Error> for Malformed {
    fn from(_: der::Error) -> Self {
        Self("not DER of its type")
    }
}

pub(crate) const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
pub(crate) const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// The contents of the next value, which must have `tag`.
pub(crate) fn contents<'a>(reader: &mut SliceReader<'a>, tag: Tag) -> Result<&'a [u8], Malformed> {
    let value = AnyRef::decode(reader)?;
    if value.tag() == tag { Ok(value.value()) } else { Err(Malformed("not DER of its type")) }
}

/// The contents of the one SEQUENCE that `bytes` are, exactly.
pub(crate) fn only_sequence(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let mut reader = SliceReader::new(bytes)?;
    let inner = contents(&mut reader, Tag::Sequence)?;
    end(reader)?;
    Ok(inner)
}

/// That nothing follows.
pub(crate) fn end(reader: SliceReader<'_>) -> Result<(), Malformed> {
    if reader.is_finished() { Ok(()) } else { Err(Malformed("bytes behind its end")) }
}

/// What certificates and revocation lists have in common: a body, the algorithm of its signature, and the signature.
#[derive(Clone, Copy)]
pub(crate) struct Signed<'a> {
    /// The signed bytes: the body with its tag and length.
    pub(crate) message: &'a [u8],
    /// The body's contents.
    pub(crate) body: &'a [u8],
    /// Contents of the AlgorithmIdentifier; the body's own must be the same.
    pub(crate) algorithm: &'a [u8],
    /// The signature's bytes.
    pub(crate) signature: &'a [u8],
}

impl<'a> Signed<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = SliceReader::new(only_sequence(bytes)?)?;
        let message = reader.tlv_bytes()?;
        let algorithm = contents(&mut reader, Tag::Sequence)?;
        let signature = BitStringRef::decode(&mut reader)?.as_bytes().ok_or(Malformed("a signature with unused bits"))?;
        end(reader)?;
        Ok(Self { message, body: only_sequence(message)?, algorithm, signature })
    }
}

/// One extension.
#[derive(Clone, Copy)]
pub(crate) struct Extension<'a> {
    pub(crate) id: ObjectIdentifier,
    pub(crate) critical: bool,
    /// Contents of extnValue.
    pub(crate) value: &'a [u8],
}

/// Reads `Extensions`, given with its tag.
pub(crate) fn extensions(bytes: &[u8]) -> Result<Vec<Extension<'_>>, Malformed> {
    let mut reader = SliceReader::new(only_sequence(bytes)?)?;
    let mut extensions = Vec::new();
    while !reader.is_finished() {
        let mut one = SliceReader::new(contents(&mut reader, Tag::Sequence)?)?;
        let id = ObjectIdentifier::decode(&mut one)?;
        let critical = Option::<bool>::decode(&mut one)?.unwrap_or(false);
        let value = <&OctetStringRef>::decode(&mut one)?.as_bytes();
        end(one)?;
        extensions.push(Extension { id, critical, value });
    }
    Ok(extensions)
}

/// Reads a `Time`.
pub(crate) fn time(reader: &mut SliceReader<'_>) -> Result<UnixTime, Malformed> {
    Ok(UnixTime::from_seconds(Time::decode(reader)?.to_unix_duration().as_secs()))
}

/// The one common name in a `Name`, given as its contents.
pub(crate) fn common_name(name: &[u8]) -> Result<&str, Malformed> {
    let mut found = None;
    let mut names = SliceReader::new(name)?;
    while !names.is_finished() {
        let mut relative = SliceReader::new(contents(&mut names, Tag::Set)?)?;
        while !relative.is_finished() {
            let mut attribute = SliceReader::new(contents(&mut relative, Tag::Sequence)?)?;
            let id = ObjectIdentifier::decode(&mut attribute)?;
            let value = AnyRef::decode(&mut attribute)?;
            end(attribute)?;
            if id == COMMON_NAME && found.replace(text(value)?).is_some() {
                return Err(Malformed("a name with two common names"));
            }
        }
    }
    found.ok_or(Malformed("a name without common name"))
}

fn text(value: AnyRef<'_>) -> Result<&str, Malformed> {
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString => core::str::from_utf8(value.value()).map_err(|_| Malformed("a name that is no text")),
        _ => Err(Malformed("a name that is no text")),
    }
}

/// A serial number in lower-case hex, without leading zeros.
pub(crate) fn serial_text(serial: &[u8]) -> String {
    let digits: String = serial.iter().map(|byte| format!("{byte:02x}")).collect();
    let trimmed = digits.trim_start_matches('0');
    if trimmed.is_empty() { "0".to_owned() } else { trimmed.to_owned() }
}

/// One X.509 v3 certificate.
pub(crate) struct Certificate<'a> {
    pub(crate) der: &'a [u8],
    pub(crate) signed: Signed<'a>,
    /// Contents of the INTEGER.
    pub(crate) serial: &'a [u8],
    /// Contents of the `Name`.
    pub(crate) issuer: &'a [u8],
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    /// Contents of the `Name`.
    pub(crate) subject: &'a [u8],
    /// `SubjectPublicKeyInfo` with its tag and length.
    pub(crate) key: &'a [u8],
    pub(crate) extensions: Vec<Extension<'a>>,
}

impl<'a> Certificate<'a> {
    /// Reads exactly one certificate of at most [`limits::CERTIFICATE`] bytes.
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, Malformed> {
        if der.len() > limits::CERTIFICATE {
            return Err(Malformed("longer than any certificate"));
        }
        let signed = Signed::parse(der)?;
        let mut body = SliceReader::new(signed.body)?;
        let mut version = SliceReader::new(contents(&mut body, context(0))?)?;
        if u8::decode(&mut version)? != 2 {
            return Err(Malformed("not X.509 version 3"));
        }
        end(version)?;
        let serial = contents(&mut body, Tag::Integer)?;
        if contents(&mut body, Tag::Sequence)? != signed.algorithm {
            return Err(Malformed("two different signature algorithms"));
        }
        let issuer = contents(&mut body, Tag::Sequence)?;
        let mut validity = SliceReader::new(contents(&mut body, Tag::Sequence)?)?;
        let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
        end(validity)?;
        let subject = contents(&mut body, Tag::Sequence)?;
        let key = body.tlv_bytes()?;
        let extensions = extensions(contents(&mut body, context(3))?)?;
        end(body)?;
        Ok(Self { der, signed, serial, issuer, not_before, not_after, subject, key, extensions })
    }

    /// The subject's common name; empty where it has none that can be read.
    pub(crate) fn common_name(&self) -> &'a str {
        common_name(self.subject).unwrap_or_default()
    }

    /// When it is valid.
    pub(crate) fn window(&self, certificate: &'static str) -> Window {
        Window { certificate, not_before: self.not_before, not_after: self.not_after }
    }

    /// The value of the extension `id`, if there is exactly one.
    pub(crate) fn extension(&self, id: ObjectIdentifier) -> Option<&'a [u8]> {
        let mut all = self.extensions.iter().filter(|extension| extension.id == id);
        let first = all.next()?;
        all.next().is_none().then_some(first.value)
    }
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Which certificate, for people.
    pub(crate) certificate: &'static str,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
}

/// A certificate that is not valid at the time of judging. Each vendor has a rejection for either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Untimely {
    NotYet { certificate: &'static str, not_before: UnixTime, at: UnixTime },
    Expired { certificate: &'static str, not_after: UnixTime, at: UnixTime },
}

impl Window {
    /// That `at` lies within.
    pub(crate) fn check(&self, at: UnixTime) -> Result<(), Untimely> {
        let Self { certificate, not_before, not_after } = *self;
        if at < not_before {
            return Err(Untimely::NotYet { certificate, not_before, at });
        }
        if at > not_after {
            return Err(Untimely::Expired { certificate, not_after, at });
        }
        Ok(())
    }
}

/// The bits of the key in a `SubjectPublicKeyInfo` (given with its tag) whose algorithm is `algorithm`; `None` where it is another.
pub(crate) fn public_key(key: &[u8], algorithm: AlgorithmIdentifier) -> Result<Option<&[u8]>, Malformed> {
    let mut reader = SliceReader::new(only_sequence(key)?)?;
    let found = contents(&mut reader, Tag::Sequence)?;
    let key = BitStringRef::decode(&mut reader)?.as_bytes().ok_or(Malformed("a key with unused bits"))?;
    end(reader)?;
    Ok((found == algorithm.as_ref()).then_some(key))
}

/// The tag of a constructed, context-specific value.
pub(crate) const fn context(number: u32) -> Tag {
    Tag::ContextSpecific { constructed: true, number: TagNumber(number) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testbed::der;

    fn name(attributes: &[(&str, Vec<u8>)]) -> Vec<u8> {
        attributes.iter().flat_map(|(kind, value)| der::set(&der::sequence(&[&der::oid(kind), value]))).collect()
    }

    #[test]
    fn a_name_has_one_common_name_and_it_is_text() {
        let (common, unit) = ("2.5.4.3", "2.5.4.11");
        assert_eq!(common_name(&name(&[(unit, der::utf8_string("a")), (common, der::utf8_string("b"))])), Ok("b"));
        assert_eq!(common_name(&name(&[(common, der::printable_string("b"))])), Ok("b"));
        let twice = name(&[(common, der::utf8_string("a")), (common, der::utf8_string("b"))]);
        assert_eq!(common_name(&twice), Err(Malformed("a name with two common names")));
        assert_eq!(common_name(&name(&[(unit, der::utf8_string("a"))])), Err(Malformed("a name without common name")));
        assert_eq!(common_name(&name(&[(common, der::octet_string(b"a"))])), Err(Malformed("a name that is no text")));
        assert_eq!(common_name(&name(&[(common, der::element(0x0c, &[0xff]))])), Err(Malformed("a name that is no text")));
    }
}
