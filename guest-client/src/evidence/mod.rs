//! Where evidence comes from, and what must hold before it leaves the guest.
//!
//! Two levels, because two kinds of process exist. Whoever owns the platform's interface is a [`Source`]: it asks for a report
//! over 64 bytes. Whoever only needs to prove something is served by an [`Attester`]: it hands in what the proof is to bind, and
//! gets the transcript and the evidence over it. [`Local`] makes the first into the second; [`AgentSocket`] asks the evidence
//! agent of the VM, which never takes 64 bytes from anybody.
//!
//! | module | from where |
//! | --- | --- |
//! | [`configfs`] | the kernel's `tsm/report` folder (Linux 6.7 and later), preferred |
//! | [`device`] | `/dev/sev-guest`, for older kernels |
//! | [`socket`] | the evidence agent's socket |

pub mod configfs;
pub mod device;
mod error;
#[allow(unsafe_code)]
mod ioctl;
pub mod socket;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use protocol::hpke::RecipientKey;
use protocol::ids::{Digest, Nonce, Platform, Role};
use protocol::keys::PublicKey;
use protocol::limits;
use protocol::messages::EvidenceMessage;
use protocol::transcript::Transcript;

pub use configfs::ConfigfsTsm;
pub use device::SevGuestDevice;
pub use error::EvidenceError;
pub use socket::AgentSocket;

/// What a platform's interface gave for 64 bytes of report data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// The kind of confidential VM.
    pub platform: Platform,
    /// The report: for SEV-SNP 1184 bytes.
    pub report: Vec<u8>,
    /// What the host sent along: for SEV-SNP a certificate table of at most 16 KiB, empty where there is none.
    pub certificate_table: Vec<u8>,
}

/// Whoever owns the platform's interface.
pub trait Source: Send + Sync {
    /// The kind of confidential VM, known before any report: it is part of what a report binds.
    ///
    /// # Errors
    /// [`EvidenceError`], where the interface is not there or is of a kind that this program does not speak.
    fn platform(&self) -> Result<Platform, EvidenceError>;

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

    fn collect(&self, report_data: &[u8; 64]) -> Result<Collected, EvidenceError> {
        (**self).collect(report_data)
    }
}

/// What one attestation is to bind, but for what only the attester knows: platform and role.
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
    /// The transcript that they make on `platform` in `role`. No GPU evidence and no event log: this program collects neither yet.
    #[must_use]
    pub fn transcript(&self, platform: Platform, role: Role) -> Transcript {
        Transcript {
            platform,
            installation: self.installation,
            nonce: self.nonce,
            hpke_key: self.hpke_key.clone(),
            signing_key: self.signing_key,
            role,
            configuration: self.configuration,
            gpu_evidence: None,
            event_log: None,
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
        let transcript = inputs.transcript(self.source.platform()?, self.role.clone());
        let report_data = transcript.report_data();
        let collected = self.source.collect(&report_data)?;
        if collected.platform != transcript.platform {
            return Err(EvidenceError::PlatformChanged { expected: transcript.platform, found: collected.platform });
        }
        Ok(Attested { evidence: message(collected, &report_data)?, transcript })
    }
}

/// Collected evidence as it is sent, once it is of the right form and over these 64 bytes.
///
/// # Errors
/// [`EvidenceError::PlatformUnknown`], [`EvidenceError::ReportSize`], [`EvidenceError::TooLarge`], [`EvidenceError::ReportData`].
pub(crate) fn message(collected: Collected, report_data: &[u8; 64]) -> Result<EvidenceMessage, EvidenceError> {
    match collected.platform {
        Platform::SevSnp => {
            let evidence = EvidenceMessage::SevSnp { report: collected.report, certificate_table: collected.certificate_table };
            check(&evidence, report_data)?;
            Ok(evidence)
        }
        Platform::Tdx => Err(EvidenceError::PlatformUnknown { found: "tdx".to_owned() }),
    }
}

/// Where the report data stands in an SNP report (AMD 56860, table 23).
const SNP_REPORT_DATA: std::ops::Range<usize> = 0x50..0x90;

/// That evidence has the sizes of its kind and is over these 64 bytes.
pub(crate) fn check(evidence: &EvidenceMessage, report_data: &[u8; 64]) -> Result<(), EvidenceError> {
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

impl Choice {
    /// The source that this process owns by it; `configfs_root` is [`configfs::ROOT`] but in tests.
    ///
    /// # Errors
    /// [`EvidenceError::NoSource`] where `auto` finds none, [`EvidenceError::NotASource`] for an agent's socket.
    pub fn source(&self, configfs_root: &Path) -> Result<Box<dyn Source>, EvidenceError> {
        match self {
            Self::Auto if configfs_root.is_dir() => Self::Configfs.source(configfs_root),
            Self::Auto if Path::new(device::PATH).exists() => Self::Device.source(configfs_root),
            Self::Auto => Err(EvidenceError::NoSource { configfs: configfs_root.to_owned(), device: PathBuf::from(device::PATH) }),
            Self::Configfs => Ok(Box::new(ConfigfsTsm::at(configfs_root))),
            Self::Device => Ok(Box::new(SevGuestDevice::open()?)),
            Self::Agent(path) => Err(EvidenceError::NotASource { path: path.clone() }),
        }
    }

    /// The attester that this process is served by.
    ///
    /// # Errors
    /// As [`Self::source`].
    pub fn attester(&self, configfs_root: &Path) -> Result<Box<dyn Attester>, EvidenceError> {
        match self {
            Self::Agent(path) => Ok(Box::new(AgentSocket::at(path))),
            _ => Ok(Box::new(Local::whole_vm(self.source(configfs_root)?))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let nowhere = Path::new("/nonexistent/tsm/report");
        if Path::new(device::PATH).exists() {
            println!("skipped: this machine has {}", device::PATH);
            return;
        }
        assert!(matches!(Choice::Auto.source(nowhere), Err(EvidenceError::NoSource { configfs, .. }) if configfs == nowhere));
    }

    #[test]
    fn an_agents_socket_is_no_source_of_ones_own() {
        let path = PathBuf::from("/run/a.sock");
        assert!(
            matches!(Choice::Agent(path.clone()).source(Path::new("/")), Err(EvidenceError::NotASource { path: found }) if found == path)
        );
    }

    fn snp(report: usize, table: usize) -> Collected {
        let mut report = vec![0; report];
        if let Some(part) = report.get_mut(SNP_REPORT_DATA) {
            part.fill(7);
        }
        Collected { platform: Platform::SevSnp, report, certificate_table: vec![0; table] }
    }

    #[test]
    fn evidence_leaves_the_guest_in_its_sizes_and_over_the_right_bytes_only() {
        let limit = limits::SNP_CERTIFICATE_TABLE;
        assert!(message(snp(1184, 0), &[7; 64]).is_ok() && message(snp(1184, limit), &[7; 64]).is_ok());
        assert!(matches!(message(snp(1183, 0), &[7; 64]), Err(EvidenceError::ReportSize { expected: 1184, found: 1183 })));
        assert!(matches!(message(snp(1185, 0), &[7; 64]), Err(EvidenceError::ReportSize { expected: 1184, found: 1185 })));
        assert!(matches!(message(snp(1184, limit + 1), &[7; 64]), Err(EvidenceError::TooLarge { .. })));
        assert!(matches!(message(snp(1184, 0), &[8; 64]), Err(EvidenceError::ReportData)));
        let tdx = Collected { platform: Platform::Tdx, ..snp(1184, 0) };
        assert!(matches!(message(tdx, &[7; 64]), Err(EvidenceError::PlatformUnknown { .. })));
    }
}
