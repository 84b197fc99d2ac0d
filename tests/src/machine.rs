//! A soft machine with one guest on it, and the guest client's own evidence agent over that guest. AMD's are here, Intel's in [`td`].

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use guest_client::agent::{Served, bind, serve};
use guest_client::evidence::{Collected, EvidenceError, Source};
use protocol::encoding::from_hex;
use protocol::ids::{Platform, Role};
use testbed::snp::{GuestShape, Line, Root, SoftGuest, SoftPlatform, Tcb};

use crate::failure::Failure;
use crate::programs::{Part, Programs, Server};
use crate::td::{self, TdMachine};

/// What the agent says once it serves.
const SERVING: &str = "serving";

/// A kind of confidential VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Tee {
    /// AMD SEV-SNP
    #[default]
    Snp,
    /// Intel TDX
    Tdx,
}

impl Tee {
    /// The genuine machine of this kind.
    #[must_use]
    pub fn genuine(self) -> Box<dyn SoftMachine> {
        match self {
            Self::Snp => Box::new(Machine::default()),
            Self::Tdx => Box::new(TdMachine::default()),
        }
    }

    /// The root that soft machines of this kind are under: the name by which a broker knows it, and the certificate (DER).
    #[must_use]
    pub fn anchor(self) -> (&'static str, Vec<u8>) {
        match self {
            Self::Snp => ("Milan", SoftPlatform::new(Line::Milan).ark_der()),
            Self::Tdx => ("Intel", td::today().root_der()),
        }
    }

    /// What their vendor says of them today, as files of a collateral folder: their names and bytes.
    #[must_use]
    pub fn collateral(self) -> Vec<(&'static str, Vec<u8>)> {
        match self {
            Self::Snp => vec![("milan.crl", SoftPlatform::new(Line::Milan).crl_der(&[]))],
            Self::Tdx => td::collateral(&td::today()),
        }
    }
}

/// A soft machine of either kind: what an evidence agent can be started on.
pub trait SoftMachine {
    /// The machine in words, its kind first, for a command line; [`run_agent`] reads them.
    fn words(&self) -> Vec<String>;

    /// Starts the evidence agent on this machine, serving at `socket` in the programs' folder.
    ///
    /// # Errors
    /// [`Failure`].
    fn start_agent(&self, programs: &Programs, socket: &str) -> Result<Server, Failure> {
        let words = std::iter::once(socket.to_owned()).chain(self.words()).map(OsString::from);
        programs.serve(Part::Agent, words, |line| (line == SERVING).then(String::new))
    }
}

/// A machine of AMD's Milan line, and the guest on it. The default is one that a careful policy accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// What was booted: SHA-384, 48 bytes.
    pub measurement: [u8; 48],
    /// How it was launched: the guest policy (AMD 56860, table "Guest Policy").
    pub policy: u64,
    /// The privilege level that asks for reports.
    pub vmpl: u32,
    /// What the host said at launch.
    pub host_data: [u8; 32],
    /// The SNP firmware's security version.
    pub firmware: u8,
    /// Under which hierarchy its certificates are.
    pub root: Root,
    /// For whom the agent's socket speaks.
    pub role: Role,
}

impl Default for Machine {
    fn default() -> Self {
        let guest = SoftPlatform::new(Line::Milan).guest(GuestShape::default());
        Self {
            measurement: guest.report.measurement,
            policy: guest.report.policy,
            vmpl: guest.report.vmpl,
            host_data: guest.report.host_data,
            firmware: guest.platform.tcb.snp,
            root: Root::Trusted,
            role: Role::WholeVm,
        }
    }
}

impl Machine {
    /// The guest policy bit that lets the host debug the guest, and so read all its memory.
    pub const DEBUG: u64 = 1 << 19;

    /// The same with one thing changed.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The guest as the testbed knows it.
    #[must_use]
    pub fn guest(&self) -> SoftGuest {
        let platform = SoftPlatform::new(Line::Milan).under(self.root);
        let tcb = Tcb { snp: self.firmware, ..platform.tcb };
        platform.with_tcb(tcb).guest(GuestShape {
            measurement: Some(self.measurement),
            policy: self.policy,
            vmpl: self.vmpl,
            host_data: self.host_data,
            ..GuestShape::default()
        })
    }

    fn from_words(words: &[&str]) -> Option<Self> {
        let [measurement, policy, vmpl, host_data, firmware, root, role] = words else { return None };
        Some(Self {
            measurement: from_hex(measurement)?,
            policy: policy.parse().ok()?,
            vmpl: vmpl.parse().ok()?,
            host_data: from_hex(host_data)?,
            firmware: firmware.parse().ok()?,
            root: root_from(root)?,
            role: role.parse().ok()?,
        })
    }
}

/// The first word of a machine of AMD's.
const SNP: &str = "snp";

impl SoftMachine for Machine {
    fn words(&self) -> Vec<String> {
        vec![
            SNP.to_owned(),
            hex(&self.measurement),
            self.policy.to_string(),
            self.vmpl.to_string(),
            hex(&self.host_data),
            self.firmware.to_string(),
            root_word(self.root).to_owned(),
            self.role.to_string(),
        ]
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) const fn root_word(root: Root) -> &'static str {
    match root {
        Root::Trusted => "trusted",
        Root::Other => "other",
    }
}

pub(crate) fn root_from(word: &str) -> Option<Root> {
    [Root::Trusted, Root::Other].into_iter().find(|root| root_word(*root) == word)
}

/// The guest's reports, as the guest client takes them from a kernel.
pub struct SoftSource(pub SoftGuest);

impl Source for SoftSource {
    fn platform(&self) -> Result<Platform, EvidenceError> {
        Ok(Platform::SevSnp)
    }

    fn collect(&self, report_data: &[u8; 64]) -> Result<Collected, EvidenceError> {
        let evidence = self.0.attest(report_data);
        Ok(Collected { platform: Platform::SevSnp, report: evidence.report, certificate_table: evidence.certificate_table })
    }
}

/// The evidence agent over a soft machine. Arguments: program name, socket, the machine's words, its kind first.
#[must_use]
pub fn run_agent(arguments: Vec<OsString>) -> ExitCode {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let [_, socket, kind, machine @ ..] = words.as_slice() else { return ExitCode::from(2) };
    let Some((role, source)) = source(kind, machine) else { return ExitCode::from(2) };
    let served = bind(Path::new(socket), 0o600).and_then(|listener| {
        let agent = serve(vec![Served { listener, role }], source)?;
        eprintln!("{SERVING}");
        agent.join();
        Ok(())
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// For whom the machine of these words speaks, and where its evidence comes from.
fn source(kind: &str, words: &[&str]) -> Option<(Role, Box<dyn Source>)> {
    match kind {
        SNP => Machine::from_words(words).map(|machine| (machine.role.clone(), Box::new(SoftSource(machine.guest())) as Box<dyn Source>)),
        td::TDX => TdMachine::from_words(words).map(|machine| (machine.role.clone(), Box::new(machine.source()) as Box<dyn Source>)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_reads_back_from_its_words() {
        let other = Machine::default().with(|machine| {
            machine.measurement = [7; 48];
            machine.policy |= Machine::DEBUG;
            machine.vmpl = 2;
            machine.host_data = [9; 32];
            machine.firmware = 3;
            machine.root = Root::Other;
            machine.role = "workload:vllm".parse().unwrap();
        });
        for machine in [Machine::default(), other] {
            let words = machine.words();
            let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
            assert_eq!(Machine::from_words(&words), Some(machine));
        }
    }
}
