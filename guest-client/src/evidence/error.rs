//! Why there is no evidence: a variant per check.

use std::io;
use std::path::PathBuf;

use protocol::ids::{Digest, NoRandomness, Platform};

use crate::agent::wire::AGENT_BUSY;

fn named(log: &Option<Digest>) -> String {
    log.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
}

fn said(error: &Option<io::Error>) -> String {
    error.as_ref().map_or_else(|| "its answer is empty".to_owned(), ToString::to_string)
}

/// Why there is no evidence.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// `auto` found no way.
    #[error("this machine offers no evidence: neither {} nor {} exists", configfs.display(), device.display())]
    NoSource {
        /// The configfs folder that was looked for.
        configfs: PathBuf,
        /// The device that was looked for.
        device: PathBuf,
    },
    /// An agent's socket where an interface of one's own is needed.
    #[error("{} is another agent's socket, not an interface that an agent can serve", path.display())]
    NotASource {
        /// The socket.
        path: PathBuf,
    },
    /// A TD whose kernel shows no configfs folder: `/dev/tdx_guest` alone gives no quote.
    #[error("this is a TDX guest, which has {}, but {} does not exist", device.display(), configfs.display())]
    NoTdxConfigfs {
        /// The device that is there.
        device: PathBuf,
        /// The configfs folder that was looked for.
        configfs: PathBuf,
    },
    /// The configfs folder is not there.
    #[error("{} does not exist", root.display())]
    NoConfigfs {
        /// The folder.
        root: PathBuf,
    },
    /// The kernel has the folder and no driver behind it (`ENXIO`).
    #[error("the kernel has no provider of reports")]
    NoProvider,
    /// The driver behind configfs is for a platform that this program does not speak.
    #[error("the kernel's provider of reports is {found:?}; expected sev_guest or tdx_guest")]
    OtherProvider {
        /// What `provider` reads.
        found: String,
    },
    /// Evidence of a kind that this program does not speak.
    #[error("evidence of kind {found} is not supported")]
    PlatformUnknown {
        /// The kind.
        found: String,
    },
    /// The platform was one thing before the report and another behind it.
    #[error("the platform was {expected} and then {found}")]
    PlatformChanged {
        /// Before.
        expected: Platform,
        /// Behind.
        found: Platform,
    },
    /// No right to use the interface.
    #[error("no permission to {action} {}", path.display())]
    Permission {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
    },
    /// Others wrote to our report instance again and again.
    #[error("another process wrote to the report request in each of {attempts} attempts")]
    Raced {
        /// How often it was tried.
        attempts: u32,
    },
    /// The kernel did not take the report data: after our writes its counter stands too low.
    #[error("the kernel did not take the report data: its generation is {found}, expected {expected}")]
    NotTaken {
        /// The number of our writes.
        expected: u64,
        /// The counter.
        found: u64,
    },
    /// The interface stayed busy.
    #[error("the interface stayed busy in {attempts} attempts")]
    Busy {
        /// How often it was tried.
        attempts: u32,
    },
    /// A text attribute does not read as what it is.
    #[error("{attribute} reads {found:?}")]
    Attribute {
        /// Its name.
        attribute: &'static str,
        /// What it reads.
        found: String,
    },
    /// A report of another size.
    #[error("the report has {found} bytes, expected {expected}")]
    ReportSize {
        /// The size of a report.
        expected: usize,
        /// The size found.
        found: usize,
    },
    /// The host gave no quote: whatever it lacks, the guest and its kernel are well.
    #[error("the host gave no quote: {}", said(error))]
    NoQuote {
        /// The kernel's answer, `ETIMEDOUT` after half a minute or `EIO`; `None` where the quote is empty.
        error: Option<io::Error>,
    },
    /// A quote of a version that has no known place for its report data.
    #[error("the quote is of version {found}, expected 4 or 5")]
    QuoteVersion {
        /// The version found.
        found: u16,
    },
    /// A quote that ends before its report does.
    #[error("the quote of {found} bytes ends before its report does")]
    QuoteCut {
        /// Its size in bytes.
        found: usize,
    },
    /// The event log beside the evidence is not the one that the evidence binds.
    #[error("the event log is {}, and the evidence is over {}", named(found), named(expected))]
    EventLogChanged {
        /// SHA-256 of what the evidence is over.
        expected: Option<Digest>,
        /// SHA-256 of what stands beside it.
        found: Option<Digest>,
    },
    /// More bytes than that may have.
    #[error("{what} has more than {limit} bytes")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// A report over other bytes than it was asked for.
    #[error("the report is not over the report data that was asked for")]
    ReportData,
    /// The device refused. It is not asked again: a driver that sees an error twice may give up its key until the next boot.
    #[error("the guest device refused: firmware error {firmware:#x}, host error {host:#x}, errno {errno}")]
    Device {
        /// The low half of `exitinfo2`.
        firmware: u32,
        /// The high half of `exitinfo2`.
        host: u32,
        /// The system call's error number, 0 where it succeeded.
        errno: i32,
    },
    /// The firmware answered with an error of its own (AMD 56860, MSG_REPORT_RSP, status).
    #[error("the firmware answered with status {status:#x}")]
    Firmware {
        /// The status.
        status: u32,
    },
    /// The evidence agent does not answer.
    #[error("the evidence agent at {} does not answer: {error}", path.display())]
    AgentUnreachable {
        /// Its socket.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// What it answered is no message.
    #[error("the evidence agent's answer cannot be read: {0}")]
    AgentAnswer(String),
    /// It cannot answer now: too many ask it, or what it asks itself is busy or down.
    #[error("the evidence agent cannot answer now ({code}): {what}")]
    AgentBusy {
        /// Its stable code.
        code: String,
        /// In words.
        what: String,
    },
    /// It refused.
    #[error("the evidence agent refused ({code}): {what}")]
    AgentRefused {
        /// Its stable code.
        code: String,
        /// In words.
        what: String,
    },
    /// No random bytes for a name.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The operating system refused.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Its answer.
        error: io::Error,
    },
}

impl EvidenceError {
    const BUSY: &str = "evidence-busy";
    const RACED: &str = "evidence-raced";
    const NO_QUOTE: &str = "evidence-no-quote";

    /// A stable name.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoSource { .. } => "evidence-no-source",
            Self::NotASource { .. } => "evidence-not-a-source",
            Self::NoConfigfs { .. } => "evidence-no-configfs",
            Self::NoTdxConfigfs { .. } => "evidence-no-tdx-configfs",
            Self::NoProvider => "evidence-no-provider",
            Self::OtherProvider { .. } => "evidence-other-provider",
            Self::PlatformUnknown { .. } => "evidence-platform-unknown",
            Self::PlatformChanged { .. } => "evidence-platform-changed",
            Self::Permission { .. } => "evidence-permission",
            Self::Raced { .. } => Self::RACED,
            Self::NotTaken { .. } => "evidence-not-taken",
            Self::Busy { .. } => Self::BUSY,
            Self::Attribute { .. } => "evidence-attribute",
            Self::ReportSize { .. } => "evidence-report-size",
            Self::NoQuote { .. } => Self::NO_QUOTE,
            Self::QuoteVersion { .. } => "evidence-quote-version",
            Self::QuoteCut { .. } => "evidence-quote-cut",
            Self::EventLogChanged { .. } => "evidence-event-log",
            Self::TooLarge { .. } => "evidence-too-large",
            Self::ReportData => "evidence-report-data",
            Self::Device { .. } => "evidence-device",
            Self::Firmware { .. } => "evidence-firmware",
            Self::AgentUnreachable { .. } => "evidence-agent-unreachable",
            Self::AgentAnswer(_) => "evidence-agent-answer",
            Self::AgentBusy { .. } => "evidence-agent-busy",
            Self::AgentRefused { .. } => "evidence-agent-refused",
            Self::NoRandomness(_) => "no-randomness",
            Self::Io { .. } => "evidence-io",
        }
    }

    /// What may help.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoSource { .. } => {
                "is this a confidential VM? In a container, mount the evidence agent's socket and set evidence = \"agent:PATH\""
            }
            Self::NotASource { .. } => "an agent needs configfs or device",
            Self::NoConfigfs { .. } => "mount configfs (mount -t configfs none /sys/kernel/config); it needs Linux 6.7 and the module tsm",
            Self::NoTdxConfigfs { .. } => {
                "quotes come through configfs-tsm alone: Linux 6.7 or later, with configfs mounted and the modules tsm and tdx_guest"
            }
            Self::NoProvider => "load the guest's driver (modprobe sev-guest or tdx-guest); without one this machine is no confidential VM",
            Self::OtherProvider { .. } | Self::PlatformUnknown { .. } => "this version speaks AMD SEV-SNP and Intel TDX",
            Self::PlatformChanged { .. } | Self::EventLogChanged { .. } => "something stands between this program and the kernel",
            Self::Permission { .. } => "run as root in the VM, or let the evidence agent do so and use its socket",
            Self::Raced { .. } => "find the other process that writes to tsm/report; only one should",
            Self::NotTaken { .. } => "the kernel's counter may have wrapped (EBUSY), which no writer is told",
            Self::Busy { .. } => "the host throttles report requests; try again later and less often",
            Self::NoQuote { .. } => {
                "is the host's quote generation service (QGS) running, and reachable for this VM? It is the host operator's to mend"
            }
            Self::Attribute { .. }
            | Self::ReportSize { .. }
            | Self::QuoteVersion { .. }
            | Self::QuoteCut { .. }
            | Self::TooLarge { .. } => "this kernel speaks another format than this program",
            Self::ReportData => "something stands between this program and the firmware, or two processes share one request",
            Self::Device { .. } | Self::Firmware { .. } => "see the kernel's log for sev-guest; it is not asked again, to spare its key",
            Self::AgentUnreachable { .. } => "is the evidence agent running, and is the socket of this workload mounted?",
            Self::AgentAnswer(_) => "agent and client may be of different versions",
            Self::AgentBusy { .. } => "try again later; the evidence agent's log says what it waits for",
            Self::AgentRefused { .. } => "see the evidence agent's log",
            Self::NoRandomness(_) => "the kernel's random generator is not ready",
            Self::Io { .. } => "see the kernel's log",
        }
    }

    /// Whether trying again later may help.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Raced { .. } | Self::Busy { .. } | Self::NoQuote { .. } | Self::AgentUnreachable { .. } | Self::AgentBusy { .. }
        )
    }

    /// What an evidence agent's refusal is to whoever asked it: an outage where the agent's own error is one.
    pub(super) fn refused(code: String, what: String) -> Self {
        match code.as_str() {
            AGENT_BUSY | Self::BUSY | Self::RACED | Self::NO_QUOTE => Self::AgentBusy { code, what },
            _ => Self::AgentRefused { code, what },
        }
    }

    /// An error of reading the quote, with those told apart that are the host's: `ETIMEDOUT` where it never answers, `EIO` where it says no.
    pub(super) fn of_quote(error: Self) -> Self {
        match error {
            Self::Io { error, .. } if matches!(error.raw_os_error(), Some(libc::ETIMEDOUT | libc::EIO)) => {
                Self::NoQuote { error: Some(error) }
            }
            other => other,
        }
    }

    /// An error of a file operation, with the ones that mean something here told apart.
    pub(super) fn of(action: &'static str, path: &std::path::Path, error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENXIO) => Self::NoProvider,
            Some(libc::EACCES | libc::EPERM) => Self::Permission { action, path: path.to_owned() },
            _ => Self::Io { action, path: path.to_owned(), error },
        }
    }
}
