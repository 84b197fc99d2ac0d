//! Evidence from the kernel's `tsm/report` folder (`Documentation/ABI/testing/configfs-tsm-report`, Linux 6.7 and later).
//!
//! The folder is shared by all processes of the VM, so a request is made as follows, and anything else is another's doing:
//!
//! 1. Make a directory under a random name: a report instance of our own.
//! 2. Write options (the privilege level, where an SNP guest has not level 0), then `inblob` in one write of 64 bytes.
//! 3. Read `generation`, `provider`, `outblob`, `auxblob`, and `generation` again. Each write to the instance counts one, and the
//!    kernel delivers a binary write at close, where nobody learns of its error: so both counters must equal the number of our writes.
//! 4. Compare the report data inside the report.
//! 5. Remove the directory, on every path.
//!
//! `provider` says what is behind the folder: `sev_guest`, whose reports have 1184 bytes and may come with certificates, or `tdx_guest`, whose
//! quotes carry their certificates inside and may have zeros behind them. Its event log stands elsewhere ([`super::event_log`]).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::ids::{Platform, random_bytes};
use protocol::limits;

use super::{Collected, EventLogChoice, EvidenceError, SNP_REPORT_DATA, Source, quote};
use crate::retry::{Pace, SystemPace};

/// Where the kernel has the folder.
pub const ROOT: &str = "/sys/kernel/config/tsm/report";
/// How often a request is made anew after another process disturbed it.
const ATTEMPTS: u32 = 5;
/// The wait before each further attempt is below this.
const PAUSE: Duration = Duration::from_millis(200);
/// The most that is read of an SNP report (bytes): what the kernel itself gives at most on the kernels that know SNP only.
const BLOB: usize = 32 * 1024;
/// The most that is read of a text attribute (bytes): numbers and a driver's name.
const TEXT: usize = 64;

/// The kernel's `tsm/report` folder.
pub struct ConfigfsTsm {
    root: PathBuf,
    event_log: EventLogChoice,
    pace: Arc<dyn Pace>,
}

impl ConfigfsTsm {
    /// At `root`, which is [`ROOT`] but in tests.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), event_log: EventLogChoice::Auto, pace: Arc::new(SystemPace::start()) }
    }

    /// The same with another event log than the kernel's.
    #[must_use]
    pub fn with_event_log(self, event_log: EventLogChoice) -> Self {
        Self { event_log, ..self }
    }

    fn request(&self, report_data: &[u8; 64]) -> Result<Collected, Refused> {
        let instance = Instance::create(&self.root)?;
        let mut writes = 0;
        if let Some(floor) = instance.privilege_floor()? {
            instance.write("privlevel", floor.to_string().as_bytes())?;
            writes += 1;
        }
        instance.write("inblob", report_data)?;
        writes += 1;
        instance.expect_generation(writes)?;
        let platform = instance.provider()?;
        let collected = match platform {
            Platform::SevSnp => instance.snp()?,
            Platform::Tdx => instance.tdx()?,
        };
        instance.expect_generation(writes)?;
        match platform {
            Platform::SevSnp if collected.report.len() != limits::SNP_REPORT => {
                return Err(EvidenceError::ReportSize { expected: limits::SNP_REPORT, found: collected.report.len() }.into());
            }
            Platform::SevSnp if collected.report.get(SNP_REPORT_DATA) != Some(report_data.as_slice()) => {
                return Err(EvidenceError::ReportData.into());
            }
            Platform::SevSnp => {}
            Platform::Tdx => quote::check(&collected.report, report_data)?,
        }
        Ok(collected)
    }
}

impl Source for ConfigfsTsm {
    fn platform(&self) -> Result<Platform, EvidenceError> {
        Instance::create(&self.root)?.provider()
    }

    fn event_log(&self) -> Result<Option<Vec<u8>>, EvidenceError> {
        self.event_log.read()
    }

    fn collect(&self, report_data: &[u8; 64]) -> Result<Collected, EvidenceError> {
        let mut last = EvidenceError::Raced { attempts: 0 };
        for attempt in 1..=ATTEMPTS {
            last = match self.request(report_data) {
                Ok(collected) => return Ok(collected),
                Err(Refused::Finally(error)) => return Err(error),
                Err(Refused::Raced) => EvidenceError::Raced { attempts: attempt },
                Err(Refused::Busy) => EvidenceError::Busy { attempts: attempt },
                Err(Refused::NotTaken(error)) => error,
            };
            if attempt < ATTEMPTS {
                self.pace.sleep(self.pace.below(PAUSE));
            }
        }
        Err(last)
    }
}

/// Why one request failed.
enum Refused {
    /// Another process wrote to our instance.
    Raced,
    /// `EBUSY` or `EAGAIN`.
    Busy,
    /// The kernel's counter is lower than our writes.
    NotTaken(EvidenceError),
    /// For a reason that another request does not change.
    Finally(EvidenceError),
}

impl From<EvidenceError> for Refused {
    fn from(error: EvidenceError) -> Self {
        match &error {
            EvidenceError::Io { error: cause, .. } if matches!(cause.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN)) => Self::Busy,
            EvidenceError::NotTaken { expected, found } if found > expected => Self::Raced,
            EvidenceError::NotTaken { .. } => Self::NotTaken(error),
            _ => Self::Finally(error),
        }
    }
}

/// A report instance of ours. Dropping it removes it.
struct Instance(PathBuf);

impl Instance {
    fn create(root: &Path) -> Result<Self, EvidenceError> {
        if !root.is_dir() {
            return Err(EvidenceError::NoConfigfs { root: root.to_owned() });
        }
        let path = root.join(format!("portcullis-{:032x}", u128::from_be_bytes(random_bytes()?)));
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| EvidenceError::of("make a report request in", root, error))?;
        Ok(Self(path))
    }

    /// One write, whole. The file is opened as it is: a truncation would be one more write.
    fn write(&self, attribute: &'static str, bytes: &[u8]) -> Result<(), EvidenceError> {
        let path = self.0.join(attribute);
        let failed = |error| EvidenceError::of("write", &path, error);
        let mut file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
        let written = file.write(bytes).map_err(failed)?;
        if written == bytes.len() { Ok(()) } else { Err(failed(io::Error::from(io::ErrorKind::WriteZero))) }
    }

    fn read(&self, attribute: &'static str, what: &'static str, limit: usize) -> Result<Vec<u8>, EvidenceError> {
        let path = self.0.join(attribute);
        let failed = |error: io::Error| match error.raw_os_error() {
            Some(libc::EFBIG) => EvidenceError::TooLarge { what, limit },
            _ => EvidenceError::of("read", &path, error),
        };
        let mut bytes = Vec::new();
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        File::open(&path).map_err(failed)?.take(most).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > limit { Err(EvidenceError::TooLarge { what, limit }) } else { Ok(bytes) }
    }

    /// A report and its certificates.
    fn snp(&self) -> Result<Collected, EvidenceError> {
        let report = self.read("outblob", "the report", BLOB)?;
        let certificate_table = self.optional_blob("auxblob", "the certificate table", limits::SNP_CERTIFICATE_TABLE)?;
        Ok(Collected { platform: Platform::SevSnp, report, certificate_table })
    }

    /// A quote, without the zeros behind it. The kernel asks the host for it, and waits half a minute for an answer.
    fn tdx(&self) -> Result<Collected, EvidenceError> {
        let buffer = self.read("outblob", "the quote", quote::BUFFER).map_err(EvidenceError::of_quote)?;
        if buffer.is_empty() {
            return Err(EvidenceError::NoQuote { error: None });
        }
        let report = quote::trimmed(buffer);
        Ok(Collected { platform: Platform::Tdx, report, certificate_table: Vec::new() })
    }

    /// Empty where the kernel does not have the attribute.
    fn optional_blob(&self, attribute: &'static str, what: &'static str, limit: usize) -> Result<Vec<u8>, EvidenceError> {
        if self.0.join(attribute).exists() { self.read(attribute, what, limit) } else { Ok(Vec::new()) }
    }

    fn text(&self, attribute: &'static str) -> Result<String, EvidenceError> {
        let bytes = self.read(attribute, attribute, TEXT)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(text.strip_suffix('\n').map_or_else(|| text.clone(), str::to_owned))
    }

    fn number(&self, attribute: &'static str) -> Result<u64, EvidenceError> {
        let text = self.text(attribute)?;
        text.parse().map_err(|_| EvidenceError::Attribute { attribute, found: text })
    }

    fn expect_generation(&self, writes: u64) -> Result<(), EvidenceError> {
        let found = self.number("generation")?;
        if found == writes { Ok(()) } else { Err(EvidenceError::NotTaken { expected: writes, found }) }
    }

    fn provider(&self) -> Result<Platform, EvidenceError> {
        match self.text("provider")? {
            text if text == "sev_guest" => Ok(Platform::SevSnp),
            text if text == "tdx_guest" => Ok(Platform::Tdx),
            found => Err(EvidenceError::OtherProvider { found }),
        }
    }

    /// The level to ask for, where the kernel's default of 0 is not this guest's: below its floor it would be refused.
    fn privilege_floor(&self) -> Result<Option<u64>, EvidenceError> {
        if !self.0.join("privlevel_floor").exists() {
            return Ok(None);
        }
        Ok(Some(self.number("privlevel_floor")?).filter(|floor| *floor > 0))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a report request could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_that_is_no_number_is_named_with_what_it_reads() {
        let folder = tempfile::tempdir().unwrap();
        let instance = Instance(folder.path().join("one"));
        fs::create_dir(&instance.0).unwrap();
        let generation = instance.0.join("generation");
        for (text, expected) in [("7\n", Some(7)), ("7", Some(7)), ("none\n", None), ("-1\n", None), ("", None)] {
            fs::write(&generation, text).unwrap();
            match (instance.number("generation"), expected) {
                (Ok(number), Some(expected)) => assert_eq!(number, expected),
                (Err(EvidenceError::Attribute { attribute: "generation", found }), None) => assert_eq!(found, text.trim_end()),
                (other, _) => panic!("{text:?}: {other:?}"),
            }
        }
        fs::remove_file(generation).unwrap();
    }
}
