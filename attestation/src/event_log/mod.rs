//! A TD's event log, read strictly and replayed to the four registers of its quote (ACPI table CCEL, whose log has the TCG2 form:
//! TCG PC Client Platform Firmware Profile, section 10.2; UEFI 2.11, section 38).
//!
//! All integers are little-endian.
//!
//! ```text
//! header     0   4  register: 0 or 1             record     0   4  register: 1 to 4 are RTMR0 to RTMR3, 0 is MRTD
//!            4   4  type: 3, EV_NO_ACTION                   4   4  type
//!            8  20  SHA-1 digest: zero                      8   4  count of digests: one for each declared algorithm
//!           28   4  size of the data                       12      each: 2 algorithm, then its digest
//!           32      data                                        4  size of the data
//!                                                                  data
//! header's data: 0  16  "Spec ID Event03", zero             4  number of algorithms
//!               16   4  platform class: 0 or 1                 each: 2 algorithm, 2 size of its digests
//!               20   2  version: minor 0, major 2           1  size of the vendor information
//!               22   1  errata                                 vendor information
//!               23   1  word size: 1 or 2
//! ```
//! The log ends with its bytes (as a TCG2 log does), or where nothing but 0xff or nothing but zero follows (as the table's area does).
//!
//! A replay proves, of each event, its register, its place in it and its digest. It proves neither the event's data nor its type: whoever hands
//! the log over may write there what he likes. Data is handed on only where the digest is of these very bytes; a type stays the log's word.
//! Remarks (EV_NO_ACTION) are not extended and are left out.

mod error;
mod kinds;
mod reader;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

use protocol::limits;

pub use error::EventLogError;
pub(crate) use kinds::name as kind_name;

use crate::claims::MeasuredEvent;
use kinds::{NO_ACTION, proven, sha384};
use reader::Reader;

/// Events in one log: a boot leaves some dozen, an application's register some hundred.
const EVENTS: usize = 4096;

/// SHA-384, in which the registers are extended.
const SHA384: u16 = 0x000c;

/// TCG's identifiers of digest algorithms, and the size of their digests (TCG Algorithm Registry, table 3).
const ALGORITHMS: [(u16, usize); 8] =
    [(0x0004, 20), (0x000b, 32), (SHA384, 48), (0x000d, 64), (0x0012, 32), (0x0027, 32), (0x0028, 48), (0x0029, 64)];

/// Reads `log`, and replays it: its events, in its order, if they extend all four registers to `rtmrs`.
pub(crate) fn replay(log: &[u8], rtmrs: &[[u8; 48]; 4]) -> Result<Vec<MeasuredEvent>, EventLogError> {
    let events = read(log)?;
    for (rtmr, expected) in (0..).zip(rtmrs) {
        let found = events.iter().filter(|event| event.rtmr == rtmr).fold([0; 48], |value, event| sha384(&[&value, &event.digest]));
        if found != *expected {
            return Err(EventLogError::Replay { rtmr, expected: (*expected).into(), found: found.into() });
        }
    }
    Ok(events)
}

/// Every event of a log that would be extended.
fn read(log: &[u8]) -> Result<Vec<MeasuredEvent>, EventLogError> {
    if log.len() > limits::EVENT_LOG {
        return Err(EventLogError::TooLong { limit: limits::EVENT_LOG, found: log.len() });
    }
    let mut reader = Reader::new(log);
    let declared = header(&mut reader)?;
    let mut events = Vec::new();
    let mut records: usize = 0;
    while !is_at_end(&reader)? {
        records = records.saturating_add(1);
        if records > EVENTS {
            return Err(EventLogError::TooManyEvents { limit: EVENTS });
        }
        events.extend(record(&mut reader, &declared)?);
    }
    Ok(events)
}

/// The first record: the algorithms that it declares.
fn header(reader: &mut Reader<'_>) -> Result<Vec<u16>, EventLogError> {
    let register = reader.u32("header's register")?;
    if register > 1 {
        return Err(EventLogError::HeaderRegister { found: register });
    }
    let kind = reader.u32("header's type")?;
    if kind != NO_ACTION {
        return Err(EventLogError::HeaderKind { found: kind });
    }
    if reader.chunk("header's digest")? != &[0; 20] {
        return Err(EventLogError::HeaderDigest {});
    }
    let mut data = reader.sized("header's data")?;
    let signature = data.chunk("signature")?;
    if signature != b"Spec ID Event03\0" {
        return Err(EventLogError::HeaderSignature { found: (*signature).into() });
    }
    let class = data.u32("platform class")?;
    if class > 1 {
        return Err(EventLogError::HeaderClass { found: class });
    }
    let [minor, major, _errata, word] = *data.chunk("version")?;
    if (major, minor) != (2, 0) {
        return Err(EventLogError::HeaderVersion { major, minor });
    }
    if !(1..=2).contains(&word) {
        return Err(EventLogError::HeaderWord { found: word });
    }
    let declared = algorithms(&mut data)?;
    let vendor = data.u8("size of the vendor information")?;
    data.take(usize::from(vendor), "vendor information")?;
    match data.rest().len() {
        0 => Ok(declared),
        found => Err(EventLogError::HeaderTrailing { found }),
    }
}

fn algorithms(data: &mut Reader<'_>) -> Result<Vec<u16>, EventLogError> {
    let count = data.u32("number of algorithms")?;
    let mut declared = Vec::new();
    if usize::try_from(count).is_ok_and(|count| count == 0 || count > ALGORITHMS.len()) {
        return Err(EventLogError::AlgorithmCount { limit: ALGORITHMS.len(), found: count });
    }
    for _ in 0..count {
        let algorithm = data.u16("algorithm")?;
        let expected = digest_size(algorithm).ok_or(EventLogError::AlgorithmUnknown { found: algorithm })?;
        let found = data.u16("digest size")?;
        if usize::from(found) != expected {
            return Err(EventLogError::AlgorithmSize { algorithm, expected, found });
        }
        if declared.contains(&algorithm) {
            return Err(EventLogError::AlgorithmTwice { algorithm });
        }
        declared.push(algorithm);
    }
    if declared.contains(&SHA384) { Ok(declared) } else { Err(EventLogError::AlgorithmMissing {}) }
}

fn digest_size(algorithm: u16) -> Option<usize> {
    ALGORITHMS.iter().find(|(known, _)| *known == algorithm).map(|(_, size)| *size)
}

/// Whether the log ends here: with its bytes, or with padding. Where a record's register and type are padding, so must be all the rest.
fn is_at_end(reader: &Reader<'_>) -> Result<bool, EventLogError> {
    for padding in [0xff, 0x00] {
        match reader.rest().iter().position(|byte| *byte != padding) {
            None => return Ok(true),
            Some(at) if at >= 8 => return Err(EventLogError::Padding { offset: reader.offset().saturating_add(at), expected: padding }),
            Some(_) => {}
        }
    }
    Ok(false)
}

/// The next record: its event, or none where it is a remark.
fn record(reader: &mut Reader<'_>, declared: &[u16]) -> Result<Option<MeasuredEvent>, EventLogError> {
    let offset = reader.offset();
    let register = reader.u32("register")?;
    let kind = reader.u32("type")?;
    let digest = digests(reader, offset, declared)?;
    let data = reader.sized("data")?.rest();
    if kind == NO_ACTION {
        return Ok(None);
    }
    let rtmr = match register {
        0 => return Err(EventLogError::RegisterBuildTime { offset }),
        1 => 0,
        2 => 1,
        3 => 2,
        4 => 3,
        found => return Err(EventLogError::Register { offset, found }),
    };
    Ok(Some(MeasuredEvent { rtmr, kind, digest, data: proven(kind, &digest, data) }))
}

/// The SHA-384 digest of a record that has exactly one digest for each declared algorithm.
fn digests(reader: &mut Reader<'_>, offset: usize, declared: &[u16]) -> Result<[u8; 48], EventLogError> {
    let count = reader.u32("count of digests")?;
    let wrong_count = EventLogError::DigestCount { offset, expected: declared.len(), found: count };
    if usize::try_from(count).is_ok_and(|count| count > ALGORITHMS.len()) {
        return Err(wrong_count);
    }
    let mut seen = Vec::with_capacity(declared.len());
    let mut sha384 = None;
    for _ in 0..count {
        let algorithm = reader.u16("digest algorithm")?;
        let size = digest_size(algorithm).ok_or(EventLogError::DigestUnknown { offset, found: algorithm })?;
        if !declared.contains(&algorithm) {
            return Err(EventLogError::DigestUndeclared { offset, found: algorithm });
        }
        if seen.contains(&algorithm) {
            return Err(EventLogError::DigestTwice { offset, algorithm });
        }
        seen.push(algorithm);
        if algorithm == SHA384 {
            sha384 = Some(*reader.chunk("digest")?);
        } else {
            reader.take(size, "digest")?;
        }
    }
    let sha384 = sha384.ok_or(EventLogError::DigestMissing { offset })?;
    if seen.len() == declared.len() { Ok(sha384) } else { Err(wrong_count) }
}
