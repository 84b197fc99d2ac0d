//! The fake configfs as a process of its own, for tests whose guest is one: the test binary re-executes itself and calls [`serve`].

use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use super::{FakeConfigfs, Fault, NoFuse};
use crate::snp::{GuestShape, Leaf, Line, SoftPlatform};

/// Why [`serve`] gave up.
#[derive(Debug)]
pub enum ServeError {
    /// The arguments make no sense.
    Usage(String),
    /// Nothing could be mounted.
    NoFuse(NoFuse),
    /// Standard input or output failed.
    Io(io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => write!(formatter, "{what}"),
            Self::NoFuse(why) => write!(formatter, "{why}"),
            Self::Io(why) => write!(formatter, "standard input or output: {why}"),
        }
    }
}

impl std::error::Error for ServeError {}

/// Mounts a fake configfs, prints `ready`, waits until standard input ends, and unmounts. So it ends with the process that started it.
///
/// Arguments are pairs; `mount` is required:
/// `mount FOLDER`, `line milan|genoa|turin`, `chip NAME`, `leaf vcek|vlek`, `measurement HEX`, `policy NUMBER`, `host-data HEX`, `vmpl NUMBER`,
/// `fault no-provider|no-auxblob|empty-auxblob|other-report-data|rival-after-inblob|rival-after-outblob` (a rival comes once; repeat for more).
///
/// # Errors
/// [`ServeError`], nothing mounted then.
pub fn serve(arguments: impl IntoIterator<Item = String>) -> Result<(), ServeError> {
    let (folder, configfs) = parse(arguments).map_err(ServeError::Usage)?;
    let mounted = configfs.mount(&folder).map_err(ServeError::NoFuse)?;
    writeln!(io::stdout(), "ready").and_then(|()| io::stdout().flush()).map_err(ServeError::Io)?;
    io::stdin().read_to_end(&mut Vec::new()).map_err(ServeError::Io)?;
    drop(mounted);
    Ok(())
}

fn parse(arguments: impl IntoIterator<Item = String>) -> Result<(PathBuf, FakeConfigfs), String> {
    let mut folder = None;
    let mut line = Line::Milan;
    let mut chip = "first".to_owned();
    let mut shape = GuestShape::default();
    let mut faults = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} wants a value"))?;
        match name.as_str() {
            "mount" => folder = Some(PathBuf::from(value)),
            "line" => line = parse_line(&value)?,
            "chip" => chip = value,
            "leaf" => shape.leaf = parse_leaf(&value)?,
            "measurement" => shape.measurement = Some(parse_hex(&value)?),
            "policy" => shape.policy = value.parse().map_err(|_| format!("policy {value} is not a number"))?,
            "host-data" => shape.host_data = parse_hex(&value)?,
            "vmpl" => shape.vmpl = value.parse().map_err(|_| format!("vmpl {value} is not a number"))?,
            "fault" => faults.push(parse_fault(&value)?),
            _ => return Err(format!("{name} is not an argument")),
        }
    }
    let configfs = FakeConfigfs::new(SoftPlatform::new(line).with_chip(&chip).guest(shape));
    Ok((folder.ok_or("mount is missing")?, faults.into_iter().fold(configfs, FakeConfigfs::with)))
}

fn parse_line(name: &str) -> Result<Line, String> {
    Line::ALL.into_iter().find(|line| line.name().eq_ignore_ascii_case(name)).ok_or_else(|| format!("{name} is not a product line"))
}

fn parse_leaf(name: &str) -> Result<Leaf, String> {
    match name {
        "vcek" => Ok(Leaf::Vcek),
        "vlek" => Ok(Leaf::Vlek),
        _ => Err(format!("{name} is neither vcek nor vlek")),
    }
}

fn parse_fault(name: &str) -> Result<Fault, String> {
    Ok(match name {
        "no-provider" => Fault::NoProvider,
        "no-auxblob" => Fault::NoAuxblob,
        "empty-auxblob" => Fault::Auxblob(Vec::new()),
        "other-report-data" => Fault::OtherReportData,
        "rival-after-inblob" => Fault::RivalAfterInblob { times: 1 },
        "rival-after-outblob" => Fault::RivalAfterOutblob { times: 1 },
        _ => return Err(format!("{name} is not a fault")),
    })
}

fn parse_hex<const LENGTH: usize>(text: &str) -> Result<[u8; LENGTH], String> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    let bytes: Option<Vec<u8>> =
        digits.map(|digits| digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect());
    let wrong = || format!("{text} is not {LENGTH} bytes in hexadecimal");
    if text.len() != 2 * LENGTH {
        return Err(wrong());
    }
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<(), String> {
        parse(arguments.iter().map(|argument| (*argument).to_owned())).map(|_| ())
    }

    #[test]
    fn an_argument_that_makes_no_sense_is_named() {
        let measurement = "ab".repeat(48);
        assert_eq!(parsed(&["mount", "x", "line", "turin", "measurement", &measurement, "fault", "no-auxblob", "leaf", "vlek"]), Ok(()));
        assert_eq!(parsed(&[]), Err("mount is missing".to_owned()));
        assert_eq!(parsed(&["mount"]), Err("mount wants a value".to_owned()));
        assert_eq!(parsed(&["mount", "x", "line", "rome"]), Err("rome is not a product line".to_owned()));
        assert_eq!(parsed(&["mount", "x", "speed", "1"]), Err("speed is not an argument".to_owned()));
        assert_eq!(parsed(&["mount", "x", "host-data", "0g"]), Err("0g is not 32 bytes in hexadecimal".to_owned()));
        assert_eq!(parsed(&["mount", "x", "fault", "all"]), Err("all is not a fault".to_owned()));
    }
}
