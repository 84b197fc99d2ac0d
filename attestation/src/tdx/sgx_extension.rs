//! The SGX extension of a PCK certificate (Intel SGX PCK certificate profile, section 1.3.5): SEQUENCE of pairs, each an OID and a value.
//!
//! ```text
//! 1.2.840.113741.1.13.1
//!   .1  PPID                  OCTET STRING 16
//!   .2  TCB                   SEQUENCE: .1 to .16 component SVNs, INTEGER 0 to 255; .17 PCESVN, INTEGER 16 bits; .18 CPUSVN, OCTET STRING 16
//!   .3  PCEID                 OCTET STRING 2
//!   .4  FMSPC                 OCTET STRING 6
//!   .5  SGXType               ENUMERATED 0 to 2
//!   .6  PlatformInstanceID    OCTET STRING 16    platform authority only
//!   .7  Configuration         SEQUENCE: .1 dynamicPlatform, .2 cachedKeys, .3 smtEnabled, BOOLEAN    platform authority only
//! ```

use der::asn1::{ObjectIdentifier, OctetStringRef};
use der::{Decode, Reader as _, SliceReader, Tag};

use super::rejection::TdxRejection;
use crate::claims::{PckAuthority, PckClaims};
use crate::x509::{Certificate, Malformed, contents, end, only_sequence};

const SGX: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1");

/// Parts by the number behind the extension's OID.
const NAMES: [(u8, &str); 7] =
    [(1, "PPID"), (2, "TCB"), (3, "PCEID"), (4, "FMSPC"), (5, "SGXType"), (6, "PlatformInstanceID"), (7, "Configuration")];

const COMPONENTS: [&str; 16] = [
    "TCB component 1",
    "TCB component 2",
    "TCB component 3",
    "TCB component 4",
    "TCB component 5",
    "TCB component 6",
    "TCB component 7",
    "TCB component 8",
    "TCB component 9",
    "TCB component 10",
    "TCB component 11",
    "TCB component 12",
    "TCB component 13",
    "TCB component 14",
    "TCB component 15",
    "TCB component 16",
];

const CONFIGURATION: [(u8, &str); 3] = [(1, "dynamicPlatform"), (2, "cachedKeys"), (3, "smtEnabled")];

/// Reads the extension of a certificate that `authority` issued: each part once, none unknown, each of its type.
pub(super) fn read(certificate: &Certificate<'_>, authority: PckAuthority) -> Result<PckClaims, TdxRejection> {
    let value = certificate.extension(SGX).ok_or(TdxRejection::PckExtension { what: "none, or two" })?;
    let parts = Parts::read(value, SGX.as_bytes(), &NAMES)?;
    let tcb = tcb(parts.value(2)?)?;
    parts.number::<u8>(5, Tag::Enumerated).and_then(|kind| if kind <= 2 { Ok(()) } else { Err(bad_value(5, &NAMES)) })?;
    let (platform_instance, configuration) = match authority {
        PckAuthority::Platform => (Some(parts.octets(6)?), Some(Configuration::read(parts.value(7)?)?)),
        PckAuthority::Processor => {
            parts.forbid(6)?;
            parts.forbid(7)?;
            (None, None)
        }
    };
    Ok(PckClaims {
        authority,
        fmspc: parts.octets(4)?,
        pceid: parts.octets(3)?,
        ppid: parts.octets(1)?,
        components: tcb.components,
        pce_svn: tcb.pce_svn,
        platform_instance,
        dynamic_platform: configuration.as_ref().map(|found| found.dynamic_platform),
        cached_keys: configuration.as_ref().map(|found| found.cached_keys),
        smt_enabled: configuration.as_ref().map(|found| found.smt_enabled),
    })
}

struct Tcb {
    components: [u8; 16],
    pce_svn: u16,
}

fn tcb(value: &[u8]) -> Result<Tcb, TdxRejection> {
    let mut names = [(0, ""); 18];
    let all = COMPONENTS.iter().copied().chain(["PCESVN", "CPUSVN"]);
    for ((number, name), slot) in (1..).zip(all).zip(names.iter_mut()) {
        *slot = (number, name);
    }
    let arc = below(SGX.as_bytes(), 2);
    let parts = Parts::read(value, &arc, &names)?;
    let mut components = [0; 16];
    for (number, component) in (1..).zip(components.iter_mut()) {
        *component = parts.number(number, Tag::Integer)?;
    }
    parts.octets::<16>(18)?;
    Ok(Tcb { components, pce_svn: parts.number(17, Tag::Integer)? })
}

struct Configuration {
    dynamic_platform: bool,
    cached_keys: bool,
    smt_enabled: bool,
}

impl Configuration {
    fn read(value: &[u8]) -> Result<Self, TdxRejection> {
        let arc = below(SGX.as_bytes(), 7);
        let parts = Parts::read(value, &arc, &CONFIGURATION)?;
        Ok(Self { dynamic_platform: parts.boolean(1)?, cached_keys: parts.boolean(2)?, smt_enabled: parts.boolean(3)? })
    }
}

/// The arc `number` below an arc; one byte, as every number here is below 128.
fn below(arc: &[u8], number: u8) -> Vec<u8> {
    let mut arc = arc.to_vec();
    arc.push(number);
    arc
}

/// Pairs of an OID and a value, by the number behind the arc that they stand below. Values have their tags and lengths.
struct Parts<'a> {
    names: &'a [(u8, &'static str)],
    values: Vec<(u8, &'a [u8])>,
}

impl<'a> Parts<'a> {
    fn read(bytes: &'a [u8], arc: &[u8], names: &'a [(u8, &'static str)]) -> Result<Self, TdxRejection> {
        let malformed = |Malformed(what)| TdxRejection::PckExtension { what };
        let mut reader = SliceReader::new(only_sequence(bytes).map_err(malformed)?).map_err(|error| malformed(error.into()))?;
        let mut values: Vec<(u8, &'a [u8])> = Vec::with_capacity(names.len());
        while !reader.is_finished() {
            let (id, value) = pair(&mut reader).map_err(malformed)?;
            let number = match id.as_bytes().strip_prefix(arc) {
                Some(&[number]) => number,
                _ => return Err(TdxRejection::PckExtension { what: "a part of an unknown kind" }),
            };
            let name = name(number, names).ok_or(TdxRejection::PckExtension { what: "a part of an unknown kind" })?;
            if values.iter().any(|(earlier, _)| *earlier == number) {
                return Err(TdxRejection::PckExtensionDuplicate { name });
            }
            values.push((number, value));
        }
        Ok(Self { names, values })
    }

    fn find(&self, number: u8) -> Option<&'a [u8]> {
        self.values.iter().find(|(found, _)| *found == number).map(|(_, value)| *value)
    }

    fn value(&self, number: u8) -> Result<&'a [u8], TdxRejection> {
        self.find(number).ok_or(TdxRejection::PckExtensionMissing { name: name(number, self.names).unwrap_or_default() })
    }

    fn forbid(&self, number: u8) -> Result<(), TdxRejection> {
        match self.find(number) {
            None => Ok(()),
            Some(_) => Err(TdxRejection::PckExtensionForbidden { name: name(number, self.names).unwrap_or_default() }),
        }
    }

    fn octets<const N: usize>(&self, number: u8) -> Result<[u8; N], TdxRejection> {
        let value = <&OctetStringRef>::from_der(self.value(number)?).map_err(|_| bad_value(number, self.names))?;
        value.as_bytes().try_into().map_err(|_| bad_value(number, self.names))
    }

    /// A DER INTEGER, or an ENUMERATED, which has the same contents.
    fn number<T: TryFrom<u16>>(&self, number: u8, tag: Tag) -> Result<T, TdxRejection> {
        let value = self.value(number)?;
        let decoded = match tag {
            Tag::Enumerated => enumerated(value),
            _ => u16::from_der(value).map_err(Malformed::from),
        };
        decoded.ok().and_then(|decoded| T::try_from(decoded).ok()).ok_or_else(|| bad_value(number, self.names))
    }

    fn boolean(&self, number: u8) -> Result<bool, TdxRejection> {
        bool::from_der(self.value(number)?).map_err(|_| bad_value(number, self.names))
    }
}

fn pair<'a>(reader: &mut SliceReader<'a>) -> Result<(ObjectIdentifier, &'a [u8]), Malformed> {
    let mut one = SliceReader::new(contents(reader, Tag::Sequence)?)?;
    let id = ObjectIdentifier::decode(&mut one)?;
    let value = one.tlv_bytes()?;
    end(one)?;
    Ok((id, value))
}

/// One byte is enough for any ENUMERATED here.
fn enumerated(value: &[u8]) -> Result<u16, Malformed> {
    let mut reader = SliceReader::new(value)?;
    let found = contents(&mut reader, Tag::Enumerated)?;
    end(reader)?;
    match found {
        [byte] => Ok(u16::from(*byte)),
        _ => Err(Malformed("not DER of its type")),
    }
}

fn name(number: u8, names: &[(u8, &'static str)]) -> Option<&'static str> {
    names.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

fn bad_value(number: u8, names: &[(u8, &'static str)]) -> TdxRejection {
    TdxRejection::PckExtensionValue { name: name(number, names).unwrap_or_default() }
}
