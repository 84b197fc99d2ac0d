//! Evidence from `/dev/sev-guest`, for kernels before 6.7 (`Documentation/virt/coco/sev-guest.rst`).
//!
//! The driver and the firmware speak over an encrypted channel whose nonce is a counter. Where the two lose step, the driver
//! gives up its key until the next boot, and no report is to be had any more. So this asks once; it asks again only where the
//! host says in so many words that it is busy, a few times and slowly, and where it says that it has more certificates than fit.
//!
//! The system call is `ioctl.rs`'s; the `sev` crate has it too, but walks a table that the host controls without a bound.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use protocol::ids::Platform;
use protocol::limits;

pub use super::ioctl::Driver;
use super::{Collected, EvidenceError, Source};
use crate::retry::{Pace, SystemPace};

/// The device.
pub const PATH: &str = "/dev/sev-guest";
/// The size of the driver's response buffer (`struct snp_report_resp`).
pub const RESPONSE: usize = 4000;
/// How often it is asked while the host is busy.
const ATTEMPTS: u32 = 4;
/// The wait after the first busy answer is this and up to as much again; each later one is twice the last.
const PAUSE: Duration = Duration::from_secs(1);
/// Host error: the certificate buffer is too small (`SNP_GUEST_VMM_ERR_INVALID_LEN`).
const HOST_INVALID_LENGTH: u32 = 1;
/// Host error: busy (`SNP_GUEST_VMM_ERR_BUSY`).
const HOST_BUSY: u32 = 2;
/// Where the report stands in the response: behind status, size and 24 reserved bytes (AMD 56860, MSG_REPORT_RSP).
const REPORT: std::ops::Range<usize> = 32..32 + limits::SNP_REPORT;

/// What the driver gave.
pub struct Answer {
    /// `struct snp_report_resp`.
    pub response: Box<[u8; RESPONSE]>,
    /// The certificate buffer: the host's table, or zeros.
    pub certificates: Vec<u8>,
}

/// What it said instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFailed {
    /// The system call's error number, 0 where it succeeded.
    pub errno: i32,
    /// Firmware error in the low half, host error in the high half.
    pub exitinfo2: u64,
}

impl RequestFailed {
    const fn firmware(self) -> u32 {
        (self.exitinfo2 & 0xffff_ffff) as u32
    }

    const fn host(self) -> u32 {
        (self.exitinfo2 >> 32) as u32
    }
}

/// Whoever makes the one request that is needed: the driver.
pub trait GuestRequests: Send + Sync {
    /// `SNP_GET_EXT_REPORT`, with room for `certificates` bytes: whole pages, at most 16 KiB.
    ///
    /// # Errors
    /// [`RequestFailed`], as the driver says it.
    fn extended_report(&self, user_data: &[u8; 64], vmpl: u32, certificates: usize) -> Result<Answer, RequestFailed>;
}

/// The guest device. Reports are asked for at privilege level 0: a guest at another level has a kernel with [`super::ConfigfsTsm`].
pub struct SevGuestDevice<G = Driver> {
    requests: G,
    pace: Arc<dyn Pace>,
}

impl SevGuestDevice<Driver> {
    /// Opens [`PATH`].
    ///
    /// # Errors
    /// [`EvidenceError::NoProvider`] where there is none, [`EvidenceError::Permission`], [`EvidenceError::Io`].
    pub fn open() -> Result<Self, EvidenceError> {
        let path = Path::new(PATH);
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => EvidenceError::NoProvider,
            _ => EvidenceError::of("open", path, error),
        })?;
        Ok(Self::over(Driver(file), Arc::new(SystemPace::start())))
    }
}

impl<G: GuestRequests> SevGuestDevice<G> {
    pub(crate) fn over(requests: G, pace: Arc<dyn Pace>) -> Self {
        Self { requests, pace }
    }
}

impl<G: GuestRequests> Source for SevGuestDevice<G> {
    fn platform(&self) -> Result<Platform, EvidenceError> {
        Ok(Platform::SevSnp)
    }

    fn collect(&self, report_data: &[u8; 64]) -> Result<Collected, EvidenceError> {
        let mut room = limits::SNP_CERTIFICATE_TABLE;
        let mut busy = 0;
        loop {
            match self.requests.extended_report(report_data, 0, room) {
                Ok(answer) => return read(&answer),
                Err(failed) if failed.host() == HOST_BUSY => {
                    busy += 1;
                    if busy == ATTEMPTS {
                        return Err(EvidenceError::Busy { attempts: busy });
                    }
                    let pause = PAUSE.saturating_mul(1 << (busy - 1));
                    self.pace.sleep(pause.saturating_add(self.pace.below(pause)));
                }
                // More certificates than the driver itself can pass on: the report alone is enough, the broker has its own.
                Err(failed) if failed.host() == HOST_INVALID_LENGTH && room > 0 => room = 0,
                Err(failed) => {
                    return Err(EvidenceError::Device { firmware: failed.firmware(), host: failed.host(), errno: failed.errno });
                }
            }
        }
    }
}

fn read(answer: &Answer) -> Result<Collected, EvidenceError> {
    let word = |at: usize| answer.response.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
    let (status, size) = (word(0), word(4));
    if status != 0 {
        return Err(EvidenceError::Firmware { status });
    }
    let found = usize::try_from(size).unwrap_or(usize::MAX);
    if found != limits::SNP_REPORT {
        return Err(EvidenceError::ReportSize { expected: limits::SNP_REPORT, found });
    }
    let report = answer.response.get(REPORT).unwrap_or_default().to_vec();
    Ok(Collected { platform: Platform::SevSnp, report, certificate_table: trimmed(&answer.certificates) })
}

/// Bytes of one entry of a certificate table: GUID, offset, length (AMD 56421, SNP extended guest request).
const ENTRY: usize = 24;

/// The table without the zeros behind its last blob; nothing where the buffer is all zeros. A table that does not add up
/// stays as it is: judging it is the broker's.
fn trimmed(buffer: &[u8]) -> Vec<u8> {
    let mut end = 0_usize;
    for (place, entry) in buffer.chunks_exact(ENTRY).enumerate() {
        if entry.iter().all(|byte| *byte == 0) {
            let table = if place == 0 { 0 } else { (place + 1) * ENTRY };
            return buffer.get(..end.max(table)).unwrap_or(buffer).to_vec();
        }
        let word = |at: usize| entry.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
        let blob = u64::from(word(16)) + u64::from(word(20));
        end = end.max(usize::try_from(blob).unwrap_or(usize::MAX));
    }
    buffer.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::tests::Scripted;
    use std::sync::Mutex;
    use testbed::snp::{GuestShape, Line, SoftGuest, SoftPlatform, certificate_table};

    /// What a driver answers, in turn; it remembers what it was asked for. Its reports are a soft platform's.
    struct Script {
        guest: SoftGuest,
        answers: Mutex<Vec<Result<(u32, u32), RequestFailed>>>,
        rooms: Mutex<Vec<usize>>,
    }

    impl GuestRequests for Script {
        fn extended_report(&self, user_data: &[u8; 64], vmpl: u32, certificates: usize) -> Result<Answer, RequestFailed> {
            self.rooms.lock().unwrap().push(certificates);
            assert_eq!(vmpl, 0);
            let (status, size) = self.answers.lock().unwrap().remove(0)?;
            let evidence = self.guest.attest(user_data);
            let mut response = Box::new([0; RESPONSE]);
            response[..4].copy_from_slice(&status.to_le_bytes());
            response[4..8].copy_from_slice(&size.to_le_bytes());
            response[REPORT].copy_from_slice(&evidence.report);
            let mut table = vec![0; certificates];
            if certificates > 0 {
                table[..evidence.certificate_table.len()].copy_from_slice(&evidence.certificate_table);
            }
            Ok(Answer { response, certificates: table })
        }
    }

    const GOOD: Result<(u32, u32), RequestFailed> = Ok((0, 1184));

    const fn failed(host: u32, firmware: u32) -> Result<(u32, u32), RequestFailed> {
        Err(RequestFailed { errno: libc::EIO, exitinfo2: ((host as u64) << 32) | firmware as u64 })
    }

    fn run(answers: Vec<Result<(u32, u32), RequestFailed>>) -> (Result<Collected, EvidenceError>, Vec<usize>, Vec<u128>) {
        let guest = SoftPlatform::new(Line::Milan).guest(GuestShape::default());
        let pace = Arc::new(Scripted::new(0.5));
        let device = SevGuestDevice::over(Script { guest, answers: Mutex::new(answers), rooms: Mutex::default() }, pace.clone());
        let result = device.collect(&[9; 64]);
        assert!(device.requests.answers.lock().unwrap().is_empty(), "asked less often than expected");
        let slept = pace.slept.lock().unwrap().iter().map(Duration::as_millis).collect();
        (result, device.requests.rooms.lock().unwrap().clone(), slept)
    }

    #[test]
    fn a_report_and_its_certificates_come_from_one_request() {
        let (result, rooms, slept) = run(vec![GOOD]);
        let expected = SoftPlatform::new(Line::Milan).guest(GuestShape::default()).attest(&[9; 64]);
        let collected = result.unwrap();
        assert_eq!((collected.report, collected.certificate_table), (expected.report, expected.certificate_table));
        assert_eq!((rooms, slept), (vec![limits::SNP_CERTIFICATE_TABLE], vec![]));
    }

    #[test]
    fn a_busy_host_is_asked_a_few_times_and_ever_more_slowly() {
        let (result, _, slept) = run(vec![failed(2, 0), failed(2, 0), failed(2, 0), GOOD]);
        assert!(result.is_ok());
        assert_eq!(slept, [1500, 3000, 6000]);
        let (result, _, slept) = run(vec![failed(2, 0); 4]);
        assert!(matches!(result, Err(EvidenceError::Busy { attempts: 4 })));
        assert_eq!(slept.len(), 3);
    }

    #[test]
    fn more_certificates_than_fit_leave_the_report_alone() {
        let (result, rooms, _) = run(vec![failed(1, 0), GOOD]);
        assert!(result.unwrap().certificate_table.is_empty());
        assert_eq!(rooms, [limits::SNP_CERTIFICATE_TABLE, 0]);
    }

    #[test]
    fn any_other_refusal_is_final() {
        let (result, rooms, slept) = run(vec![failed(0, 0x16)]);
        assert!(matches!(result, Err(EvidenceError::Device { firmware: 0x16, host: 0, errno: libc::EIO })));
        assert_eq!((rooms.len(), slept.len()), (1, 0));
        assert!(matches!(run(vec![failed(7, 0)]).0, Err(EvidenceError::Device { host: 7, .. })));
        assert!(matches!(run(vec![failed(1, 0), failed(1, 0)]).0, Err(EvidenceError::Device { host: 1, .. })));
    }

    #[test]
    fn the_firmwares_status_and_the_reports_size_are_checked() {
        assert!(matches!(run(vec![Ok((0x16, 1184))]).0, Err(EvidenceError::Firmware { status: 0x16 })));
        assert!(matches!(run(vec![Ok((0, 0))]).0, Err(EvidenceError::ReportSize { expected: 1184, found: 0 })));
        assert!(matches!(run(vec![Ok((0, 1185))]).0, Err(EvidenceError::ReportSize { found: 1185, .. })));
    }

    #[test]
    fn a_table_ends_with_its_last_blob() {
        let guest = SoftPlatform::new(Line::Milan).guest(GuestShape::default());
        let mut padded = guest.certificate_table.clone();
        padded.resize(limits::SNP_CERTIFICATE_TABLE, 0);
        assert_eq!(trimmed(&padded), guest.certificate_table);
        assert!(trimmed(&[0; 4096]).is_empty());
        assert!(trimmed(&certificate_table(&[])).is_empty());
        assert_eq!(trimmed(&[0xff; 4096]), [0xff; 4096], "a table that does not add up stays as it is");
    }
}
