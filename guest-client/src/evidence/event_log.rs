//! The event log that firmware and boot loader of a TDX guest wrote: what was extended into RTMR0 to RTMR3, one record each.
//!
//! Firmware sets an area of memory aside for it and tells its place and size in the ACPI table `CCEL` (ACPI 6.5, "CC Event Log"); the kernel
//! shows the area as a file. The records (TCG PC Client Platform Firmware Profile, section 10: one `TCG_PCR_EVENT`, then
//! `TCG_PCR_EVENT2`) fill a small part of it, and padding the rest, which nobody needs to send. Nothing here is judged: whoever has the
//! quote replays the log. One that does not read as records goes as it is.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use protocol::limits;

use super::EvidenceError;

/// Where the kernel has it.
pub const PATH: &str = "/sys/firmware/acpi/tables/data/CCEL";
/// How much of the padding goes along, so that a reader sees that the log ended there: more than the 12 bytes that a record begins with.
const PADDING: usize = 16;

/// Which event log goes with a quote. In text: `auto`, `none`, or an absolute path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EventLogChoice {
    /// The kernel's file, where it has one.
    #[default]
    Auto,
    /// None: a policy that needs events says no then, and one that does not need them is not hurt by a log that lags behind its registers.
    Without,
    /// This file, which must be there: for an image that extends registers itself and keeps the whole log.
    File(PathBuf),
}

impl EventLogChoice {
    /// The log, with the padding behind it cut off.
    ///
    /// # Errors
    /// [`EvidenceError::TooLarge`], and those of reading a file.
    pub fn read(&self) -> Result<Option<Vec<u8>>, EvidenceError> {
        let log = match self {
            Self::Without => return Ok(None),
            Self::Auto => match file(Path::new(PATH)) {
                Err(EvidenceError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => return Ok(None),
                log => log?,
            },
            Self::File(path) => file(path)?,
        };
        // An area that firmware never wrote to, of whichever byte memory was filled with, is no log.
        if is_padding(&log) {
            return Ok(None);
        }
        let end = records(&log).map_or(log.len(), |end| end.saturating_add(PADDING).min(log.len()));
        Ok(log.get(..end).map(<[u8]>::to_vec))
    }
}

impl FromStr for EventLogChoice {
    type Err = BadEventLog;
    fn from_str(text: &str) -> Result<Self, BadEventLog> {
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::Without),
            path if Path::new(path).is_absolute() => Ok(Self::File(PathBuf::from(path))),
            _ => Err(BadEventLog),
        }
    }
}

impl fmt::Display for EventLogChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Without => f.write_str("none"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The text names no event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an event log: expected auto, none or an absolute path")]
pub struct BadEventLog;

fn file(path: &Path) -> Result<Vec<u8>, EvidenceError> {
    let failed = |error| EvidenceError::of("read", path, error);
    let most = u64::try_from(limits::EVENT_LOG).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(most).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > limits::EVENT_LOG {
        return Err(EvidenceError::TooLarge { what: "the event log", limit: limits::EVENT_LOG });
    }
    Ok(bytes)
}

/// Where the records end and nothing but padding follows; `None` where the log does not read as records.
fn records(log: &[u8]) -> Option<usize> {
    let mut rest = log;
    let sizes = digest_sizes(first_record(&mut rest)?)?;
    while !is_padding(rest) {
        take(&mut rest, 8)?; // register and type
        for _ in 0..word(&mut rest)? {
            let algorithm = half(&mut rest)?;
            let (_, size) = sizes.iter().find(|(known, _)| *known == algorithm)?;
            take(&mut rest, *size)?;
        }
        let size = word(&mut rest)?;
        take(&mut rest, usize::try_from(size).ok()?)?;
    }
    log.len().checked_sub(rest.len())
}

/// Nothing, or one of the two bytes that memory is filled with.
fn is_padding(rest: &[u8]) -> bool {
    rest.iter().all(|byte| *byte == 0xff) || rest.iter().all(|byte| *byte == 0)
}

/// The data of the first record: register, type, SHA-1 digest, size, data.
fn first_record<'l>(rest: &mut &'l [u8]) -> Option<&'l [u8]> {
    take(rest, 28)?;
    let size = word(rest)?;
    take(rest, usize::try_from(size).ok()?)
}

/// How many bytes each algorithm's digests have: `TCG_EfiSpecIDEvent`, behind 24 bytes of signature and versions.
fn digest_sizes(mut event: &[u8]) -> Option<Vec<(u16, usize)>> {
    take(&mut event, 24)?;
    let count = word(&mut event)?;
    (0..count).map(|_| Some((half(&mut event)?, usize::from(half(&mut event)?)))).collect()
}

fn take<'l>(rest: &mut &'l [u8], count: usize) -> Option<&'l [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn word(rest: &mut &[u8]) -> Option<u32> {
    take(rest, 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn half(rest: &mut &[u8]) -> Option<u16> {
    take(rest, 2)?.try_into().ok().map(u16::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of SHA-384 records with these data, written from the layout.
    fn log(data: &[&[u8]]) -> Vec<u8> {
        let mut log = [&1_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), &[0; 20], &33_u32.to_le_bytes()].concat();
        log.extend_from_slice(b"Spec ID Event03\0");
        log.extend_from_slice(&[0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0c, 0, 48, 0, 0]);
        for data in data {
            log.extend_from_slice(&[1, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0x0c, 0]);
            log.extend_from_slice(&[0xab; 48]);
            log.extend_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
            log.extend_from_slice(data);
        }
        log
    }

    fn read(log: &[u8]) -> Option<Vec<u8>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), log).unwrap();
        EventLogChoice::File(file.path().to_owned()).read().unwrap()
    }

    #[test]
    fn padding_stays_behind_but_for_the_bytes_that_show_it() {
        // The last record's own data ends in what also is padding.
        let records = log(&[b"one", &[0xff; 40]]);
        for byte in [0xff, 0] {
            let area = [records.as_slice(), &vec![byte; 64 * 1024 - records.len()]].concat();
            assert_eq!(read(&area).unwrap(), area[..records.len() + PADDING]);
        }
        assert_eq!(read(&records).unwrap(), records, "no padding");
        let little = [records.as_slice(), &[0xff; 3]].concat();
        assert_eq!(read(&little).unwrap(), little);
    }

    #[test]
    fn what_does_not_read_as_records_goes_as_it_is() {
        let good = log(&[b"one"]);
        let behind = [good.as_slice(), &[0xff; 100], b"something behind the padding"].concat();
        let mut other_algorithm = [good.as_slice(), &[0xff; 100]].concat();
        other_algorithm[28 + 4 + 33 + 12] = 0x0b;
        for log in [behind, other_algorithm, good[..good.len() - 1].to_vec(), vec![7; 10]] {
            assert_eq!(read(&log).unwrap(), log);
        }
    }

    #[test]
    fn an_area_that_holds_padding_alone_is_no_log() {
        for byte in [0xff, 0] {
            assert_eq!(read(&vec![byte; 64 * 1024]), None);
            let touched = [vec![byte; 4095], vec![7]].concat();
            assert_eq!(read(&touched).unwrap(), touched, "whatever it is, it is for the broker to judge");
        }
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[[0xff; 8], [0; 8]].concat()).unwrap().len(), 16, "two bytes are not one filling");
    }

    #[test]
    fn a_log_has_its_limit() {
        assert_eq!(read(&vec![7; limits::EVENT_LOG]).unwrap().len(), limits::EVENT_LOG);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![7; limits::EVENT_LOG + 1]).unwrap();
        let refused = EventLogChoice::File(file.path().to_owned()).read();
        assert!(matches!(refused, Err(EvidenceError::TooLarge { what: "the event log", limit: limits::EVENT_LOG })));
    }

    #[test]
    fn a_named_file_must_be_there() {
        let missing = EventLogChoice::File(PathBuf::from("/nonexistent")).read();
        assert!(matches!(missing, Err(EvidenceError::Io { path, .. }) if path == Path::new("/nonexistent")));
        assert_eq!(EventLogChoice::Without.read().unwrap(), None);
    }

    #[test]
    fn a_choice_reads_back() {
        for text in ["auto", "none", "/run/log.bin"] {
            assert_eq!(text.parse::<EventLogChoice>().unwrap().to_string(), text);
        }
        for bad in ["", "log.bin", "None"] {
            assert_eq!(bad.parse::<EventLogChoice>(), Err(BadEventLog));
        }
    }
}
