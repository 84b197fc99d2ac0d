//! Where evidence comes from, and what must hold before it leaves the guest.
//!
//! Two levels, because two kinds of process exist. Whoever owns the platform's interface is a [`Source`]: it asks for a report
//! over 64 bytes. Whoever only needs to prove something is served by an [`Attester`]: it hands in what the proof is to bind, and
//! gets the transcript and the evidence over it. [`Local`] makes the first into the second; [`AgentSocket`] asks the evidence
//! agent of the VM, which never takes 64 bytes from anybody.
//!
//! | module | from where |
//! | --- | --- |
//! | [`configfs`] | the kernel's `tsm/report` folder (Linux 6.7 and later), preferred: SEV-SNP and TDX |
//! | [`device`] | `/dev/sev-guest`, for older kernels: SEV-SNP |
//! | [`event_log`] | the event log of a TDX guest, which goes with its quote |
//! | [`socket`] | the evidence agent's socket |
//!
//! Which platform it is, is nobody's choice: the kernel says so (`provider`). The transcript binds the event log's digest, so the log is
//! read before the quote is asked for.

pub mod configfs;
pub mod device;
mod error;
pub mod event_log;
#[allow(unsafe_code)]
mod ioctl;
mod quote;
pub mod socket;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use protocol::encoding::sha256;
use protocol::hpke::RecipientKey;
use protocol::ids::{Digest, Nonce, Platform, Role};
use protocol::keys::PublicKey;
use protocol::limits;
use protocol::messages::EvidenceMessage;
use protocol::transcript::Transcript;

pub use configfs::ConfigfsTsm;
pub use device::SevGuestDevice;
pub use error::EvidenceError;
pub use event_log::EventLogChoice;
pub use socket::AgentSocket;

/// What a platform's interface gave for 64 bytes of report data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// The kind of confidential VM.
    pub platform: Platform,
    /// The report: for SEV-SNP 1184 bytes, for TDX a quote of at most 16 KiB.
    pub report: Vec<u8>,
    /// What the host sent along: for SEV-SNP a certificate table of at most 16 KiB, empty where there is none, as for TDX.
    pub certificate_table: Vec<u8>,
}

/// Whoever owns the platform's interface.
pub trait Source: Send + Sync {
    /// The kind of confidential VM, known before any report: it is part of what a report binds.
    ///
    /// # Errors
    /// [`EvidenceError`], where the interface is not there or is of a kind that this program does not speak.
    fn platform(&self) -> Result<Platform, EvidenceError>;

    /// The event log that goes with this platform's reports, as it is sent; `None` where there is none. Asked for before a report.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn event_log(&self) -> Result<Option<Vec<u8>>, EvidenceError> {
        Ok(None)
    }

    /// A report over `report_data`.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn collect(&self, report_data: &[u8; 64]) -> Result<Collected, EvidenceError>;
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn platform(&self) -> Result<Platform, EvidenceError> {
        (**self).platform()
    }

    fn event_log(&self) -> Result<Option<Vec<u8>>, EvidenceError> {
        (**self).event_log()
    }

    fn collect(&self, report_data: &[u8; 64]) -> Result<Collected, EvidenceError> {
        (**self).collect(report_data)
    }
}

/// What one attestation is to bind, but for what only the attester knows: platform, role and event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestInputs {
    /// The broker's nonce.
    pub nonce: Nonce,
    /// The installation that the guest pinned.
    pub installation: PublicKey,
    /// The guest's fresh HPKE key.
    pub hpke_key: RecipientKey,
    /// The guest's fresh signing key.
    pub signing_key: PublicKey,
    /// SHA-256 of the guest's effective configuration.
    pub configuration: Digest,
}

impl AttestInputs {
    /// The transcript that they make on `platform` in `role` with an event log of this digest. No GPU evidence: this program collects none yet.
    #[must_use]
    pub fn transcript(&self, platform: Platform, role: Role, event_log: Option<Digest>) -> Transcript {
        Transcript {
            platform,
            installation: self.installation,
            nonce: self.nonce,
            hpke_key: self.hpke_key.clone(),
            signing_key: self.signing_key,
            role,
            configuration: self.configuration,
            gpu_evidence: None,
            event_log,
        }
    }
}

/// Evidence, and the transcript that its report data binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attested {
    /// The transcript.
    pub transcript: Transcript,
    /// The evidence.
    pub evidence: EvidenceMessage,
}

/// Whoever can have a transcript proven.
pub trait Attester: Send + Sync {
    /// Evidence over the transcript of `inputs`.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn attest(&self, inputs: &AttestInputs) -> Result<Attested, EvidenceError>;
}

impl<A: Attester + ?Sized> Attester for Box<A> {
    fn attest(&self, inputs: &AttestInputs) -> Result<Attested, EvidenceError> {
        (**self).attest(inputs)
    }
}

/// A [`Source`] of this very process, and the role that it speaks in.
pub struct Local<S> {
    source: S,
    role: Role,
}

impl<S: Source> Local<S> {
    /// Whoever reaches the interface speaks for the whole VM.
    #[must_use]
    pub const fn whole_vm(source: S) -> Self {
        Self { source, role: Role::WholeVm }
    }

    /// In `role`: for the evidence agent, which knows by the socket for whom it speaks.
    pub(crate) const fn in_role(source: S, role: Role) -> Self {
        Self { source, role }
    }
}

impl<S: Source> Attester for Local<S> {
    fn attest(&self, inputs: &AttestInputs) -> Result<Attested, EvidenceError> {
        let platform = self.source.platform()?;
        let event_log = match platform {
            Platform::SevSnp => None,
            Platform::Tdx => self.source.event_log()?,
        };
        let transcript = inputs.transcript(platform, self.role.clone(), event_log.as_deref().map(sha256));
        let evidence = message(self.source.collect(&transcript.report_data())?, event_log);
        check(&evidence, &transcript)?;
        Ok(Attested { transcript, evidence })
    }
}

/// Collected evidence as it is sent.
fn message(collected: Collected, event_log: Option<Vec<u8>>) -> EvidenceMessage {
    let Collected { platform, report, certificate_table } = collected;
    match platform {
        Platform::SevSnp => EvidenceMessage::SevSnp { report, certificate_table },
        Platform::Tdx => EvidenceMessage::Tdx { quote: report, event_log },
    }
}

/// Where the report data stands in an SNP report (AMD 56860, table 23).
const SNP_REPORT_DATA: std::ops::Range<usize> = 0x50..0x90;

/// That evidence is of the transcript's platform, has the sizes of its kind, comes with the transcript's event log, and is over its report data.
pub(crate) fn check(evidence: &EvidenceMessage, transcript: &Transcript) -> Result<(), EvidenceError> {
    match evidence.platform() {
        Some(platform) if platform == transcript.platform => {}
        Some(found) => return Err(EvidenceError::PlatformChanged { expected: transcript.platform, found }),
        None => return Err(EvidenceError::PlatformUnknown { found: "held".to_owned() }),
    }
    let (expected, found) = (transcript.event_log, evidence.event_log_digest());
    if found != expected {
        return Err(EvidenceError::EventLogChanged { expected, found });
    }
    let report_data = &transcript.report_data();
    match evidence {
        EvidenceMessage::SevSnp { report, certificate_table } => {
            if report.len() != limits::SNP_REPORT {
                return Err(EvidenceError::ReportSize { expected: limits::SNP_REPORT, found: report.len() });
            }
            if certificate_table.len() > limits::SNP_CERTIFICATE_TABLE {
                return Err(EvidenceError::TooLarge { what: "the certificate table", limit: limits::SNP_CERTIFICATE_TABLE });
            }
            if report.get(SNP_REPORT_DATA) == Some(report_data.as_slice()) { Ok(()) } else { Err(EvidenceError::ReportData) }
        }
        EvidenceMessage::Tdx { quote, event_log } => {
            if event_log.as_ref().is_some_and(|log| log.len() > limits::EVENT_LOG) {
                return Err(EvidenceError::TooLarge { what: "the event log", limit: limits::EVENT_LOG });
            }
            quote::check(quote, report_data)
        }
        EvidenceMessage::Held {} => Err(EvidenceError::PlatformUnknown { found: "held".to_owned() }),
    }
}

/// Which way to evidence the configuration names. In text: `auto`, `configfs`, `device`, `agent:PATH`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// configfs where its folder exists, else the device where it exists.
    #[default]
    Auto,
    /// The kernel's `tsm/report` folder.
    Configfs,
    /// `/dev/sev-guest`.
    Device,
    /// The evidence agent's socket.
    Agent(PathBuf),
}

impl FromStr for Choice {
    type Err = BadChoice;
    fn from_str(text: &str) -> Result<Self, BadChoice> {
        match text {
            "auto" => Ok(Self::Auto),
            "configfs" => Ok(Self::Configfs),
            "device" => Ok(Self::Device),
            _ => match text.strip_prefix("agent:") {
                Some(path) if !path.is_empty() => Ok(Self::Agent(PathBuf::from(path))),
                _ => Err(BadChoice),
            },
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Configfs => f.write_str("configfs"),
            Self::Device => f.write_str("device"),
            Self::Agent(path) => write!(f, "agent:{}", path.display()),
        }
    }
}

/// The text names no way to evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a way to evidence: expected auto, configfs, device or agent:PATH")]
pub struct BadChoice;

/// Where the kernel's interfaces are, and what is taken of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interfaces {
    /// The configfs folder: [`configfs::ROOT`] but in tests.
    pub configfs: PathBuf,
    /// The event log that goes with a quote.
    pub event_log: EventLogChoice,
}

impl Default for Interfaces {
    fn default() -> Self {
        Self { configfs: PathBuf::from(configfs::ROOT), event_log: EventLogChoice::Auto }
    }
}

impl Choice {
    /// The source that this process owns by it.
    ///
    /// # Errors
    /// [`EvidenceError::NoSource`] or [`EvidenceError::NoTdxConfigfs`] where `auto` finds none, [`EvidenceError::NotASource`] for an agent's socket.
    pub fn source(&self, interfaces: &Interfaces) -> Result<Box<dyn Source>, EvidenceError> {
        let Interfaces { configfs, event_log } = interfaces;
        match self {
            Self::Auto => found(configfs, Path::new(device::PATH), Path::new(TDX_DEVICE))?.source(interfaces),
            Self::Configfs => Ok(Box::new(ConfigfsTsm::at(configfs).with_event_log(event_log.clone()))),
            Self::Device => Ok(Box::new(SevGuestDevice::open()?)),
            Self::Agent(path) => Err(EvidenceError::NotASource { path: path.clone() }),
        }
    }

    /// The attester that this process is served by.
    ///
    /// # Errors
    /// As [`Self::source`].
    pub fn attester(&self, interfaces: &Interfaces) -> Result<Box<dyn Attester>, EvidenceError> {
        match self {
            Self::Agent(path) => Ok(Box::new(AgentSocket::at(path))),
            _ => Ok(Box::new(Local::whole_vm(self.source(interfaces)?))),
        }
    }
}

/// What a TD has on every kernel that can run in one. It gives reports for this machine alone, and no quotes.
const TDX_DEVICE: &str = "/dev/tdx_guest";

/// What `auto` stands for on this machine.
fn found(configfs: &Path, snp: &Path, tdx: &Path) -> Result<Choice, EvidenceError> {
    if configfs.is_dir() {
        Ok(Choice::Configfs)
    } else if snp.exists() {
        Ok(Choice::Device)
    } else if tdx.exists() {
        Err(EvidenceError::NoTdxConfigfs { device: tdx.to_owned(), configfs: configfs.to_owned() })
    } else {
        Err(EvidenceError::NoSource { configfs: configfs.to_owned(), device: snp.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_what_is_there_and_tells_a_td_on_an_old_kernel_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (configfs, snp, tdx) = (path("report"), path("sev-guest"), path("tdx_guest"));
        let auto = || found(&configfs, &snp, &tdx);
        assert!(matches!(auto(), Err(EvidenceError::NoSource { device, .. }) if device == snp));
        std::fs::write(&tdx, "").unwrap();
        let old = auto().unwrap_err();
        assert!(matches!(&old, EvidenceError::NoTdxConfigfs { device, configfs: looked } if *device == tdx && *looked == configfs));
        assert!(old.hint().contains("Linux 6.7"), "{}", old.hint());
        std::fs::create_dir(&configfs).unwrap();
        assert!(matches!(auto(), Ok(Choice::Configfs)));
        std::fs::remove_dir(&configfs).unwrap();
        std::fs::write(&snp, "").unwrap();
        assert!(matches!(auto(), Ok(Choice::Device)));
    }

    #[test]
    fn a_choice_reads_back() {
        for text in ["auto", "configfs", "device", "agent:/run/portcullis/vllm.sock"] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
        for bad in ["", "agent:", "Auto", "tpm"] {
            assert_eq!(bad.parse::<Choice>(), Err(BadChoice));
        }
    }

    #[test]
    fn auto_names_both_places_where_it_looked() {
        let nowhere = Interfaces { configfs: PathBuf::from("/nonexistent/tsm/report"), ..Interfaces::default() };
        if Path::new(device::PATH).exists() {
            println!("skipped: this machine has {}", device::PATH);
            return;
        }
        assert!(matches!(Choice::Auto.source(&nowhere), Err(EvidenceError::NoSource { configfs, .. }) if configfs == nowhere.configfs));
    }

    #[test]
    fn an_agents_socket_is_no_source_of_ones_own() {
        let path = PathBuf::from("/run/a.sock");
        let refused = Choice::Agent(path.clone()).source(&Interfaces::default());
        assert!(matches!(refused, Err(EvidenceError::NotASource { path: found }) if found == path));
    }

    fn transcript(platform: Platform, event_log: Option<&[u8]>) -> Transcript {
        let inputs = AttestInputs {
            nonce: Nonce::from([1; 32]),
            installation: PublicKey::from_bytes([2; 32]),
            hpke_key: RecipientKey::from_bytes(&[3; 1216]).unwrap(),
            signing_key: PublicKey::from_bytes([4; 32]),
            configuration: Digest::from([5; 32]),
        };
        inputs.transcript(platform, Role::WholeVm, event_log.map(sha256))
    }

    /// A report of this size over the report data of `transcript`.
    fn snp(transcript: &Transcript, report: usize, table: usize) -> EvidenceMessage {
        let mut report = vec![0; report];
        if let Some(part) = report.get_mut(SNP_REPORT_DATA) {
            part.copy_from_slice(&transcript.report_data());
        }
        EvidenceMessage::SevSnp { report, certificate_table: vec![0; table] }
    }

    #[test]
    fn evidence_leaves_the_guest_in_its_sizes_and_over_the_right_bytes_only() {
        let limit = limits::SNP_CERTIFICATE_TABLE;
        let own = transcript(Platform::SevSnp, None);
        let checked = |report, table| check(&snp(&own, report, table), &own);
        assert!(checked(1184, 0).is_ok() && checked(1184, limit).is_ok());
        assert!(matches!(checked(1183, 0), Err(EvidenceError::ReportSize { expected: 1184, found: 1183 })));
        assert!(matches!(checked(1185, 0), Err(EvidenceError::ReportSize { expected: 1184, found: 1185 })));
        assert!(matches!(checked(1184, limit + 1), Err(EvidenceError::TooLarge { .. })));
        let other = Transcript { role: Role::Workload("a".parse().unwrap()), ..own.clone() };
        assert!(matches!(check(&snp(&other, 1184, 0), &own), Err(EvidenceError::ReportData)));
        assert!(matches!(check(&EvidenceMessage::Held {}, &own), Err(EvidenceError::PlatformUnknown { .. })));
    }

    /// A quote of version 4 over the report data of `transcript`, with no signature.
    fn tdx(transcript: &Transcript, event_log: Option<&[u8]>) -> EvidenceMessage {
        let mut quote = vec![0; 632];
        quote[0] = 4;
        quote[568..].copy_from_slice(&transcript.report_data());
        EvidenceMessage::Tdx { quote, event_log: event_log.map(<[u8]>::to_vec) }
    }

    #[test]
    fn a_quote_leaves_the_guest_with_the_event_log_that_it_binds_only() {
        let (with, without) = (transcript(Platform::Tdx, Some(b"log")), transcript(Platform::Tdx, None));
        assert!(check(&tdx(&with, Some(b"log")), &with).is_ok() && check(&tdx(&without, None), &without).is_ok());
        for (evidence, transcript) in
            [(tdx(&with, None), &with), (tdx(&with, Some(b"lag")), &with), (tdx(&without, Some(b"log")), &without)]
        {
            assert!(matches!(check(&evidence, transcript), Err(EvidenceError::EventLogChanged { .. })));
        }
        assert!(matches!(check(&tdx(&with, None), &without), Err(EvidenceError::ReportData)));
        let snp = transcript(Platform::SevSnp, None);
        let refused = check(&tdx(&without, None), &snp);
        assert!(matches!(refused, Err(EvidenceError::PlatformChanged { expected: Platform::SevSnp, found: Platform::Tdx })));
        let large = vec![0; limits::EVENT_LOG + 1];
        let transcript = transcript(Platform::Tdx, Some(&large));
        assert!(matches!(check(&tdx(&transcript, Some(&large)), &transcript), Err(EvidenceError::TooLarge { what: "the event log", .. })));
    }
}
