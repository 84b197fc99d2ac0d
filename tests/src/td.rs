//! A soft machine with Intel TDX, the guest on it (a *trust domain*), and what Intel's collateral service would say of it.

use std::time::{SystemTime, UNIX_EPOCH};

use guest_client::evidence::{Collected, EvidenceError, Source};
use protocol::encoding::from_hex;
use protocol::ids::{Platform, Role};
use testbed::snp::Root;
use testbed::tdx::{EventLog, EventRecord, SoftTdGuest, SoftTdx, TdAttributes, TdShape, event_type};

use crate::machine::{SoftMachine, hex, root_from, root_word};

/// The first word of a machine of Intel's.
pub const TDX: &str = "tdx";
/// The microcode's place in TEE_TCB_SVN.
const MICROCODE: usize = 2;
/// Where the command line's event stands among the records of [`EventLog::boot`].
const COMMAND_LINE: usize = 5;

/// Whether the guest sends its event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// As it is.
    Sent,
    /// Not at all, though registers were extended.
    Withheld,
}

/// A machine with TDX, and the guest on it. The default is one that a careful policy accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdMachine {
    /// What the guest was built from: MRTD, SHA-384.
    pub mrtd: [u8; 48],
    /// How it was launched: TDATTRIBUTES.
    pub attributes: u64,
    /// What the host said at launch: MRCONFIGID.
    pub mrconfigid: [u8; 48],
    /// The processor's microcode, by its place in TEE_TCB_SVN.
    pub microcode: u8,
    /// The kernel's command line, which the boot loader measured into RTMR2.
    pub command_line: Vec<u8>,
    /// What becomes of the event log.
    pub log: Log,
    /// Under which hierarchy its certificates are.
    pub root: Root,
    /// For whom the agent's socket speaks.
    pub role: Role,
}

impl Default for TdMachine {
    fn default() -> Self {
        let platform = SoftTdx::new();
        let body = platform.td_report();
        let command_line = EventLog::boot().records[COMMAND_LINE].data.clone();
        Self {
            mrtd: body.mrtd,
            attributes: body.td_attributes,
            mrconfigid: body.mrconfigid,
            microcode: platform.tee_tcb_svn[MICROCODE],
            command_line,
            log: Log::Sent,
            root: Root::Trusted,
            role: Role::WholeVm,
        }
    }
}

impl TdMachine {
    /// The attribute that lets the host debug the guest, and so read all its memory.
    pub const DEBUG: u64 = TdAttributes::DEBUG;

    /// The same with one thing changed.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The machine as the testbed knows it.
    #[must_use]
    pub fn platform(&self) -> SoftTdx {
        SoftTdx::new().under(self.root).with(|platform| platform.tee_tcb_svn[MICROCODE] = self.microcode)
    }

    /// What firmware and boot loader wrote down.
    #[must_use]
    pub fn event_log(&self) -> EventLog {
        EventLog::boot().with(|log| log.records[COMMAND_LINE] = EventRecord::hashed(2, event_type::IPL, &self.command_line))
    }

    /// The guest as the testbed knows it.
    #[must_use]
    pub fn guest(&self) -> SoftTdGuest {
        self.platform().guest(TdShape {
            mrtd: Some(self.mrtd),
            td_attributes: self.attributes,
            mrconfigid: self.mrconfigid,
            event_log: Some(self.event_log()),
            ..TdShape::default()
        })
    }

    /// Where its evidence comes from.
    #[must_use]
    pub fn source(&self) -> TdSource {
        TdSource { guest: self.guest(), log: self.log }
    }

    /// Reads its words, but for the first.
    #[must_use]
    pub fn from_words(words: &[&str]) -> Option<Self> {
        let [mrtd, attributes, mrconfigid, microcode, command_line, log, root, role] = words else { return None };
        Some(Self {
            mrtd: from_hex(mrtd)?,
            attributes: attributes.parse().ok()?,
            mrconfigid: from_hex(mrconfigid)?,
            microcode: microcode.parse().ok()?,
            command_line: protocol::encoding::from_base64(command_line)?,
            log: [Log::Sent, Log::Withheld].into_iter().find(|candidate| log_word(*candidate) == *log)?,
            root: root_from(root)?,
            role: role.parse().ok()?,
        })
    }
}

const fn log_word(log: Log) -> &'static str {
    match log {
        Log::Sent => "sent",
        Log::Withheld => "withheld",
    }
}

impl SoftMachine for TdMachine {
    fn words(&self) -> Vec<String> {
        vec![
            TDX.to_owned(),
            hex(&self.mrtd),
            self.attributes.to_string(),
            hex(&self.mrconfigid),
            self.microcode.to_string(),
            protocol::encoding::to_base64(&self.command_line),
            log_word(self.log).to_owned(),
            root_word(self.root).to_owned(),
            self.role.to_string(),
        ]
    }
}

/// The guest's quotes and its event log, as the guest client takes them from a kernel.
pub struct TdSource {
    guest: SoftTdGuest,
    log: Log,
}

impl Source for TdSource {
    fn platform(&self) -> Result<Platform, EvidenceError> {
        Ok(Platform::Tdx)
    }

    fn event_log(&self) -> Result<Option<Vec<u8>>, EvidenceError> {
        Ok(self.guest.event_log.clone().filter(|_| self.log == Log::Sent))
    }

    fn collect(&self, report_data: &[u8; 64]) -> Result<Collected, EvidenceError> {
        Ok(Collected { platform: Platform::Tdx, report: self.guest.attest(report_data).quote, certificate_table: Vec::new() })
    }
}

/// What Intel's service says of this machine today, as files of a collateral folder.
#[must_use]
pub fn collateral(platform: &SoftTdx) -> Vec<(&'static str, Vec<u8>)> {
    let collateral = platform.collateral();
    let chain = collateral.issuer_chain.into_bytes();
    vec![
        ("tcb_info.json", collateral.tcb_info),
        ("tcb_signing_chain.pem", chain.clone()),
        ("qe_identity.json", collateral.qe_identity),
        ("qe_identity_signing_chain.pem", chain),
        ("root_ca_crl.der", collateral.root_list),
        ("pck_crl_platform.der", collateral.pck_list),
        ("pck_crl_issuer_chain.pem", collateral.pck_list_issuer_chain.into_bytes()),
    ]
}

/// The machine that collateral is about, with lists and documents that were issued yesterday.
#[must_use]
pub fn today() -> SoftTdx {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    SoftTdx::new().dated(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_reads_back_from_its_words() {
        let other = TdMachine::default().with(|machine| {
            machine.mrtd = [7; 48];
            machine.attributes |= TdMachine::DEBUG;
            machine.mrconfigid = [9; 48];
            machine.microcode = 3;
            machine.command_line = b"init=/bin/sh".to_vec();
            machine.log = Log::Withheld;
            machine.root = Root::Other;
            machine.role = "workload:vllm".parse().unwrap();
        });
        for machine in [TdMachine::default(), other] {
            let words = machine.words();
            let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
            assert_eq!(TdMachine::from_words(&words), Some(machine));
        }
    }

    #[test]
    fn the_default_guest_boots_as_the_testbeds_own() {
        assert_eq!(TdMachine::default().event_log(), EventLog::boot());
        let other = TdMachine::default().with(|machine| machine.command_line.push(b'!'));
        let changed: Vec<bool> = EventLog::boot().rtmrs().iter().zip(other.event_log().rtmrs()).map(|(a, b)| *a != b).collect();
        assert_eq!(changed, [false, false, true, false]);
    }
}
