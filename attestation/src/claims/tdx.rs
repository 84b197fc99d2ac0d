//! What a verified TDX quote says, and what Intel's collateral says of the platform that made it.

use std::fmt;

use protocol::encoding::hex;
use protocol::time::UnixTime;
use serde::{Deserialize, Serialize};

use super::{Revocation, SecondOpinion, bits, optional_hex};
use crate::event_log::{self, EventLogError};

/// Everything in a TD quote that a policy can read (Intel TDX DCAP quoting library API, "TD Quote Format"), and what certificates,
/// collateral and event log add to it. Byte strings stand as stored; in JSON they are lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TdxClaims {
    /// Version of the quote: 4 or 5.
    pub quote_version: u16,
    /// Which TD report stands in it.
    pub body: TdBody,
    /// TEE_TCB_SVN: byte 0 is the module's minor SVN, byte 1 its major version.
    #[serde(with = "hex")]
    pub tee_tcb_svn: [u8; 16],
    /// MRSEAM: the TDX module's measurement.
    #[serde(with = "hex")]
    pub mrseam: [u8; 48],
    /// MRSIGNERSEAM: its signer; all zero for Intel.
    #[serde(with = "hex")]
    pub mrsignerseam: [u8; 48],
    /// SEAMATTRIBUTES.
    #[serde(serialize_with = "bits")]
    pub seam_attributes: u64,
    /// TDATTRIBUTES.
    pub td_attributes: TdAttributes,
    /// XFAM: which extended features the TD may use.
    #[serde(serialize_with = "bits")]
    pub xfam: u64,
    /// MRTD: what was in the TD when it was built.
    #[serde(with = "hex")]
    pub mrtd: [u8; 48],
    /// MRCONFIGID: the host's choice at launch.
    #[serde(with = "hex")]
    pub mrconfigid: [u8; 48],
    /// MROWNER: the host's choice at launch.
    #[serde(with = "hex")]
    pub mrowner: [u8; 48],
    /// MROWNERCONFIG: the host's choice at launch.
    #[serde(with = "hex")]
    pub mrownerconfig: [u8; 48],
    /// RTMR0 to RTMR3: what the guest extended.
    #[serde(serialize_with = "registers")]
    pub rtmrs: [[u8; 48]; 4],
    /// REPORTDATA: what the guest put in.
    #[serde(with = "hex")]
    pub report_data: [u8; 64],
    /// TEE_TCB_SVN_2: of the module that runs now; `None` in a TD 1.0 report.
    #[serde(serialize_with = "optional_hex")]
    pub tee_tcb_svn_2: Option<[u8; 16]>,
    /// MRSERVICETD: the service TDs bound to this one, all zero where there are none; `None` in a TD 1.0 report.
    #[serde(serialize_with = "optional_hex")]
    pub mrservicetd: Option<[u8; 48]>,
    /// What a TD 1.5 Ex report adds; `None` in others.
    pub extended: Option<TdExtended>,
    /// The platform, by its PCK certificate. In JSON it is called `pck`: there `platform` says which kind the claims are of.
    #[serde(rename = "pck")]
    pub platform: PckClaims,
    /// ISVSVN of the quoting enclave.
    pub qe_isv_svn: u16,
    /// What Intel's collateral says of platform, module and quoting enclave.
    pub tcb: TcbVerdict,
    /// The TCB info that said so.
    pub tcb_info: CollateralSource,
    /// The quoting enclave identity that said so.
    pub qe_identity: CollateralSource,
    /// What is known of revoked PCK certificates: the PCK authority's list, which Intel issues every few weeks.
    pub revocation: Revocation,
    /// What is known of revoked PCK authorities and signers of collateral: the root's list, which Intel issues about once a year.
    pub root_revocation: Revocation,
    /// The event log.
    pub event_log: EventLog,
    /// What the independent verifier said.
    pub second_opinion: SecondOpinion,
}

/// Which TD report a quote carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum TdBody {
    /// 584 bytes.
    #[serde(rename = "1.0")]
    Td10,
    /// 648 bytes.
    #[serde(rename = "1.5")]
    Td15,
    /// 885 bytes.
    #[serde(rename = "1.5-ex")]
    Td15Ex,
}

impl fmt::Display for TdBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Td10 => "1.0",
            Self::Td15 => "1.5",
            Self::Td15Ex => "1.5-ex",
        })
    }
}

/// TDATTRIBUTES (Intel TDX module ABI, "TDATTRIBUTES"; Linux `asm/shared/tdx.h`), as a mask with names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TdAttributes {
    /// All 64 bits.
    #[serde(serialize_with = "bits")]
    pub raw: u64,
}

impl TdAttributes {
    /// Bit 0: the host may debug the TD.
    pub const DEBUG: u64 = 1;
    /// Byte 0, "TD under debug": any bit set makes the TD untrusted.
    pub const UNTRUSTED: u64 = 0xff;
    /// Bit 28: the host cannot inject exceptions on private pages.
    pub const SEPT_VE_DISABLE: u64 = 1 << 28;
    /// Bit 29: the TD may be migrated.
    pub const MIGRATABLE: u64 = 1 << 29;
    /// Bit 30: supervisor protection keys.
    pub const PKS: u64 = 1 << 30;
    /// Bit 31: key locker.
    pub const KEY_LOCKER: u64 = 1 << 31;
    /// Bit 63: performance counters.
    pub const PERFMON: u64 = 1 << 63;
}

/// What a TD 1.5 Ex report has behind MRSERVICETD. Bytes as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TdExtended {
    /// vmId.
    pub vm_id: u8,
    /// tdId.
    #[serde(with = "hex")]
    pub td_id: [u8; 32],
    /// devInfo.
    #[serde(with = "hex")]
    pub device_info: [u8; 48],
    /// initServTdHash.
    #[serde(with = "hex")]
    pub initial_service_td_hash: [u8; 48],
    /// initServTdAttributes.
    #[serde(serialize_with = "bits")]
    pub initial_service_td_attributes: u64,
    /// initCpuSvn.
    #[serde(with = "hex")]
    pub initial_cpu_svn: [u8; 16],
    /// initTeeTcbSvn.
    #[serde(with = "hex")]
    pub initial_tee_tcb_svn: [u8; 16],
    /// initTeeFmspc.
    #[serde(with = "hex")]
    pub initial_fmspc: [u8; 12],
    /// curServTdHash.
    #[serde(with = "hex")]
    pub current_service_td_hash: [u8; 48],
    /// curServTdAttributes.
    #[serde(serialize_with = "bits")]
    pub current_service_td_attributes: u64,
}

/// What a PCK certificate says of its platform (Intel SGX PCK certificate profile, section 1.3.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PckClaims {
    /// Which of Intel's authorities issued it.
    pub authority: PckAuthority,
    /// FMSPC: family, model, stepping, platform type, customer SKU.
    #[serde(with = "hex")]
    pub fmspc: [u8; 6],
    /// PCEID.
    #[serde(with = "hex")]
    pub pceid: [u8; 2],
    /// PPID: this processor.
    #[serde(with = "hex")]
    pub ppid: [u8; 16],
    /// Sixteen component SVNs.
    #[serde(with = "hex")]
    pub components: [u8; 16],
    /// PCESVN.
    pub pce_svn: u16,
    /// Platform instance id: this machine; `None` under the processor authority.
    #[serde(serialize_with = "optional_hex")]
    pub platform_instance: Option<[u8; 16]>,
    /// Whether packages can be added; `None` under the processor authority.
    pub dynamic_platform: Option<bool>,
    /// Whether Intel keeps the platform's root keys; `None` under the processor authority.
    pub cached_keys: Option<bool>,
    /// Whether SMT is on; `None` under the processor authority.
    pub smt_enabled: Option<bool>,
}

/// An authority over PCK certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PckAuthority {
    /// Intel SGX PCK Platform CA: machines of several packages.
    Platform,
    /// Intel SGX PCK Processor CA: machines of one.
    Processor,
}

impl PckAuthority {
    /// `platform` or `processor`, as in the collateral service's addresses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Processor => "processor",
        }
    }
}

/// A TCB status that is not a rejection (Intel PCS API, "TCB info"; QVL). `Revoked`, no matching level and unknown words are rejections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TcbStatus {
    /// Nothing newer is demanded.
    UpToDate,
    /// Software in the TD must mitigate something.
    #[serde(rename = "SWHardeningNeeded")]
    SwHardeningNeeded,
    /// The platform may need other settings.
    ConfigurationNeeded,
    /// Both.
    #[serde(rename = "ConfigurationAndSWHardeningNeeded")]
    ConfigurationAndSwHardeningNeeded,
    /// A newer TCB is out.
    OutOfDate,
    /// The same, and the platform may need other settings.
    OutOfDateConfigurationNeeded,
    /// The platform was updated under the running TD, which still descends from the old TCB.
    #[serde(rename = "TDRelaunchAdvised")]
    RelaunchAdvised,
    /// The same, and the platform may need other settings.
    #[serde(rename = "TDRelaunchAdvisedConfigurationNeeded")]
    RelaunchAdvisedConfigurationNeeded,
}

impl TcbStatus {
    /// Every status, best first.
    pub const ALL: [Self; 8] = [
        Self::UpToDate,
        Self::SwHardeningNeeded,
        Self::ConfigurationNeeded,
        Self::ConfigurationAndSwHardeningNeeded,
        Self::OutOfDate,
        Self::OutOfDateConfigurationNeeded,
        Self::RelaunchAdvised,
        Self::RelaunchAdvisedConfigurationNeeded,
    ];

    /// Intel's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SwHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSwHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::RelaunchAdvised => "TDRelaunchAdvised",
            Self::RelaunchAdvisedConfigurationNeeded => "TDRelaunchAdvisedConfigurationNeeded",
        }
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for PckAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The merged verdict of platform, module and quoting enclave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TcbVerdict {
    /// The merged status, relaunch included.
    pub status: TcbStatus,
    /// The earliest `tcbDate` of the parts: every advisory before it is dealt with.
    pub date: UnixTime,
    /// Advisories of all parts, sorted, each once.
    pub advisories: Vec<String>,
    /// Since when there is something newer for a part that is out of date (where none is: for any part): the earliest `tcbDate` that any
    /// document at hand, however old, gives a level above its own. `None` where there is nothing newer. A grace period counts from here.
    pub superseded: Option<UnixTime>,
    /// The platform (SGX and TDX components) at launch.
    pub platform: TcbPart,
    /// The TDX module at launch; `None` where TEE_TCB_SVN says major version 0, which the platform's level covers.
    pub module: Option<TcbPart>,
    /// The quoting enclave.
    pub qe: TcbPart,
}

/// What one part's level says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TcbPart {
    /// Its status.
    pub status: TcbStatus,
    /// Its `tcbDate`.
    pub date: UnixTime,
    /// Its advisories, as the document lists them.
    pub advisories: Vec<String>,
}

/// A signed JSON document of Intel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollateralSource {
    /// `tcbEvaluationDataNumber`.
    pub evaluation: u32,
    /// `issueDate`.
    pub issued: UnixTime,
    /// `nextUpdate`: past it, the document is stale, and only a policy with a maximum age takes it.
    pub next_update: UnixTime,
}

impl fmt::Display for CollateralSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "number {}, issued {}, due {}", self.evaluation, self.issued, self.next_update)
    }
}

/// What is known of the guest's event log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "log", rename_all = "kebab-case")]
pub enum EventLog {
    /// None came with the evidence.
    Absent,
    /// It replays to all four registers of the quote.
    Replayed {
        /// Every extended event, in the order of the log.
        events: Vec<MeasuredEvent>,
    },
}

impl EventLog {
    /// Reads a CCEL or TCG2 event log and replays it to `rtmrs`, as [`crate::verify`] does with a quote's registers.
    ///
    /// # Errors
    /// The [`EventLogError`] of the first check that says no.
    pub fn replay(log: &[u8], rtmrs: &[[u8; 48]; 4]) -> Result<Self, EventLogError> {
        event_log::replay(log, rtmrs).map(|events| Self::Replayed { events })
    }

    /// Every event, in the order of the log; `None` without a log, which says nothing of what was extended.
    #[must_use]
    pub fn events(&self) -> Option<&[MeasuredEvent]> {
        match self {
            Self::Absent => None,
            Self::Replayed { events } => Some(events),
        }
    }

    /// The events of RTMR `rtmr` (0 to 3), all of them and in the order in which they were extended; `None` without a log.
    pub fn events_of(&self, rtmr: u8) -> Option<impl Iterator<Item = &MeasuredEvent>> {
        self.events().map(|events| events.iter().filter(move |event| event.rtmr == rtmr))
    }
}

/// One event of a replayed log. Its register, its place among the register's events and its digest are proven by the replay; its data only
/// where there is any, and its type never.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MeasuredEvent {
    /// RTMR number: 0 to 3.
    pub rtmr: u8,
    /// Event type (TCG PC Client Platform Firmware Profile, section 10.4.1). The log's word: no digest covers it.
    pub kind: u32,
    /// SHA-384 digest that was extended.
    #[serde(with = "hex")]
    pub digest: [u8; 48],
    /// The bytes whose SHA-384 the digest is, where the log has them: the event's data or, for EFI variables and boot loaders' texts, the part
    /// of it that is measured. `None` where the digest is of something else, so that the log's data is nobody's word.
    #[serde(serialize_with = "optional_bytes")]
    pub data: Option<Vec<u8>>,
}

impl MeasuredEvent {
    /// The type's name in its specification, `EV_SEPARATOR` for one; `None` for a type that is not there.
    #[must_use]
    pub fn kind_name(&self) -> Option<&'static str> {
        event_log::kind_name(self.kind)
    }
}

fn registers<S: serde::Serializer>(value: &[[u8; 48]; 4], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(value.iter().map(::hex::encode))
}

fn optional_bytes<S: serde::Serializer>(value: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.serialize_str(&::hex::encode(value)),
        None => serializer.serialize_none(),
    }
}
