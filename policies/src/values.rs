//! How single values are written in a policy: words, byte strings, durations, versions, lists of them.
//! Each reader takes the key for its complaint and gives the value or a [`Fault`] at the value's place.

use std::collections::BTreeMap;
use std::time::Duration;

use attestation::FirmwareVersion;
use protocol::encoding::from_hex;
use protocol::ids::Name;
use protocol::keys::PublicKey;
use protocol::time::UnixTime;

use crate::error::Reason;
use crate::language::{Number, Sets, Text, Texts};
use crate::sets::{List, NamedSets};

/// A complaint and the byte offset of what it is about.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) at: usize,
    pub(crate) reason: Reason,
}

/// A complaint about the value at `at`.
pub(crate) fn fault<T>(at: usize, reason: Reason) -> Result<T, Fault> {
    Err(Fault { at, reason })
}

/// The value of a key that has no default; its absence is reported at `at`, where its table starts.
pub(crate) fn required<T>(value: Option<T>, at: usize, key: &'static str) -> Result<T, Fault> {
    value.ok_or(Fault { at, reason: Reason::Missing { key } })
}

/// The meaning of a word.
pub(crate) fn word<T: Copy>(text: &Text, key: &'static str, words: &[(&str, T)], expected: &'static str) -> Result<T, Fault> {
    let known = words.iter().find(|(word, _)| word == text.get_ref());
    match known {
        Some((_, meaning)) => Ok(*meaning),
        None => fault(text.span().start, Reason::Word { key, found: text.get_ref().clone(), expected }),
    }
}

/// `N` bytes of lower-case hex.
pub(crate) fn bytes<const N: usize>(text: &Text, key: &'static str) -> Result<[u8; N], Fault> {
    let expected = match N {
        6 => "12 lower-case hex digits (6 bytes)",
        16 => "32 lower-case hex digits (16 bytes)",
        32 => "64 lower-case hex digits (32 bytes)",
        48 => "96 lower-case hex digits (48 bytes)",
        _ => "lower-case hex digits",
    };
    from_hex(text.get_ref()).ok_or(Fault { at: text.span().start, reason: Reason::Hex { key, expected } })
}

/// A chip id: 64 bytes, or the 8 bytes that a Turin chip has, which the report pads with zeros (AMD 57230, "hwID").
pub(crate) fn chip(text: &Text, key: &'static str) -> Result<[u8; 64], Fault> {
    let short = || {
        let mut id = [0; 64];
        let (head, _) = id.split_first_chunk_mut::<8>()?;
        *head = from_hex(text.get_ref())?;
        Some(id)
    };
    let id = from_hex(text.get_ref()).or_else(short);
    let expected = "128 lower-case hex digits (64 bytes), or the 16 digits of a Turin chip";
    let id = id.ok_or(Fault { at: text.span().start, reason: Reason::Hex { key, expected } })?;
    if id == [0; 64] { fault(text.span().start, Reason::AllZero { key }) } else { Ok(id) }
}

/// A whole number and a unit. Bounds are the caller's.
pub(crate) fn duration(text: &Text) -> Result<Duration, Fault> {
    let read = || {
        let (number, unit) = text.get_ref().split_once(' ')?;
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let seconds = match unit {
            "second" | "seconds" => 1,
            "minute" | "minutes" => 60,
            "hour" | "hours" => 3600,
            "day" | "days" => 86400,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
    };
    read().ok_or(Fault { at: text.span().start, reason: Reason::Duration { found: text.get_ref().clone() } })
}

/// Numbers divided by dots, each 0 to 255 without sign or leading zero.
fn dotted<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split('.');
    for number in &mut numbers {
        let part = parts.next()?;
        *number = part.parse().ok()?;
        if number.to_string() != part {
            return None;
        }
    }
    parts.next().is_none().then_some(numbers)
}

/// `MAJOR.MINOR.BUILD`.
pub(crate) fn firmware(text: &Text, key: &'static str) -> Result<FirmwareVersion, Fault> {
    match dotted(text.get_ref()) {
        Some([major, minor, build]) => Ok(FirmwareVersion { major, minor, build }),
        None => {
            fault(text.span().start, Reason::Word { key, found: text.get_ref().clone(), expected: "MAJOR.MINOR.BUILD such as \"1.55.29\"" })
        }
    }
}

/// `MAJOR.MINOR`.
pub(crate) fn abi(text: &Text, key: &'static str) -> Result<(u8, u8), Fault> {
    match dotted(text.get_ref()) {
        Some([major, minor]) => Ok((major, minor)),
        None => fault(text.span().start, Reason::Word { key, found: text.get_ref().clone(), expected: "MAJOR.MINOR such as \"1.51\"" }),
    }
}

/// A number that fits `T` and lies within `least..=most`.
pub(crate) fn number<T: TryFrom<i64> + PartialOrd>(
    value: &Number,
    key: &'static str,
    range: (T, T),
    words: (&'static str, &'static str),
) -> Result<T, Fault> {
    match T::try_from(*value.get_ref()) {
        Ok(number) if number >= range.0 && number <= range.1 => Ok(number),
        _ => fault(value.span().start, Reason::Bounds { key, least: words.0, most: words.1 }),
    }
}

/// Values that were read one by one from a list: at least one, none twice.
pub(crate) fn distinct<T: Ord + Clone>(values: Vec<(usize, T)>, at: usize, key: &'static str) -> Result<Vec<T>, Fault> {
    if values.is_empty() {
        return fault(at, Reason::Empty { key });
    }
    let mut seen = std::collections::BTreeSet::new();
    for (place, value) in &values {
        if !seen.insert(value) {
            return fault(*place, Reason::Repeated { key });
        }
    }
    Ok(values.into_iter().map(|(_, value)| value).collect())
}

/// Reads each text of a list.
pub(crate) fn each<T: Ord + Clone>(
    texts: &[Text],
    at: usize,
    key: &'static str,
    read: impl Fn(&Text, &'static str) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let values = texts.iter().map(|text| Ok((text.span().start, read(text, key)?))).collect::<Result<_, _>>()?;
    distinct(values, at, key)
}

/// A list of values, prepared for lookup; `None` where the key is not there.
pub(crate) fn list<T: Ord + Clone>(
    texts: Option<&Texts>,
    key: &'static str,
    read: impl Fn(&Text, &'static str) -> Result<T, Fault>,
) -> Result<Option<List<T>>, Fault> {
    texts.map(|texts| each(texts.get_ref(), texts.span().start, key, read).map(List::new)).transpose()
}

/// A publisher's key.
fn publisher(text: &Text, key: &'static str) -> Result<[u8; 32], Fault> {
    let public: Result<PublicKey, _> = text.get_ref().parse();
    public.map(|public| *public.as_bytes()).map_err(|_| Fault { at: text.span().start, reason: Reason::PublisherKey { key } })
}

/// A SHA-384 digest that is not all zero: that is the hardware's word for "there is none".
fn digest(text: &Text, key: &'static str) -> Result<[u8; 48], Fault> {
    match bytes::<48>(text, key)? {
        zero if zero == [0; 48] => fault(text.span().start, Reason::AllZero { key }),
        digest => Ok(digest),
    }
}

/// Named sets of SHA-384 digests, none of them all zero; `None` where the key is not there.
pub(crate) fn named_sets(sets: Option<&Sets>, key: &'static str) -> Result<Option<NamedSets<48>>, Fault> {
    sets.map(|sets| sets_of(sets.get_ref(), sets.span().start, key, digest)).transpose()
}

/// Named sets of byte strings: at least one.
pub(crate) fn sets_of<const N: usize>(
    sets: &BTreeMap<Text, Texts>,
    at: usize,
    key: &'static str,
    value: impl Fn(&Text, &'static str) -> Result<[u8; N], Fault> + Copy,
) -> Result<NamedSets<N>, Fault> {
    read_sets(sets, at, key, value).map(NamedSets::new)
}

/// Named sets of publishers' keys: at least one.
pub(crate) fn publishers(sets: &Sets, key: &'static str) -> Result<NamedSets<32>, Fault> {
    let read = read_sets(sets.get_ref(), sets.span().start, key, publisher)?;
    Ok(NamedSets::spelled(read, |bytes| PublicKey::from_bytes(*bytes).to_string()))
}

/// Sets as they were read, in the order of their names.
type ReadSets<const N: usize> = Vec<(Name, Vec<[u8; N]>)>;

fn read_sets<const N: usize>(
    sets: &BTreeMap<Text, Texts>,
    at: usize,
    key: &'static str,
    value: impl Fn(&Text, &'static str) -> Result<[u8; N], Fault> + Copy,
) -> Result<ReadSets<N>, Fault> {
    if sets.is_empty() {
        return fault(at, Reason::Empty { key });
    }
    let mut read = Vec::new();
    for (name, values) in sets {
        read.push((set_name(name)?, each(values.get_ref(), values.span().start, key, value)?));
    }
    Ok(read)
}

/// The name of a set.
pub(crate) fn set_name(name: &Text) -> Result<Name, Fault> {
    let found = name.get_ref();
    found.parse().map_err(|_| Fault { at: name.span().start, reason: Reason::SetName { found: found.clone() } })
}

/// The first second of a day, `YYYY-MM-DD`, UTC.
pub(crate) fn day(text: &Text, key: &'static str) -> Result<UnixTime, Fault> {
    let found = text.get_ref();
    let read = (found.len() == 10).then(|| UnixTime::parse(&format!("{found}T00:00:00Z")).ok()).flatten();
    read.ok_or(Fault {
        at: text.span().start,
        reason: Reason::Word { key, found: found.clone(), expected: "a day such as \"2024-03-13\"" },
    })
}

/// An advisory of Intel's: a misspelt one would deny nothing.
pub(crate) fn advisory(text: &Text, key: &'static str) -> Result<String, Fault> {
    let found = text.get_ref();
    let digits = found.strip_prefix("INTEL-SA-").or_else(|| found.strip_prefix("INTEL-DOC-"));
    if digits.is_some_and(|digits| digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit())) {
        return Ok(found.clone());
    }
    let expected = "an advisory such as \"INTEL-SA-00960\" or \"INTEL-DOC-10000\"";
    fault(text.span().start, Reason::Word { key, found: found.clone(), expected })
}
