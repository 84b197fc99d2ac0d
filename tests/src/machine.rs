//! A soft machine with one guest on it, and the guest client's own evidence agent over that guest.

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

/// What the agent says once it serves.
const SERVING: &str = "serving";

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

    /// The machine in words, for a command line; [`Self::from_words`] reads them.
    fn words(&self) -> [String; 7] {
        let root = match self.root {
            Root::Trusted => "trusted",
            Root::Other => "other",
        };
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        [
            hex(&self.measurement),
            self.policy.to_string(),
            self.vmpl.to_string(),
            hex(&self.host_data),
            self.firmware.to_string(),
            root.to_owned(),
            self.role.to_string(),
        ]
    }

    fn from_words(words: &[&str]) -> Option<Self> {
        let [measurement, policy, vmpl, host_data, firmware, root, role] = words else { return None };
        Some(Self {
            measurement: from_hex(measurement)?,
            policy: policy.parse().ok()?,
            vmpl: vmpl.parse().ok()?,
            host_data: from_hex(host_data)?,
            firmware: firmware.parse().ok()?,
            root: match *root {
                "trusted" => Root::Trusted,
                "other" => Root::Other,
                _ => return None,
            },
            role: role.parse().ok()?,
        })
    }

    /// Starts the evidence agent on this machine, serving at `socket` in the programs' folder.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn start_agent(&self, programs: &Programs, socket: &str) -> Result<Server, Failure> {
        let words = std::iter::once(socket.to_owned()).chain(self.words()).map(OsString::from);
        programs.serve(Part::Agent, words, |line| (line == SERVING).then(String::new))
    }
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

/// The evidence agent over a soft machine. Arguments: program name, socket, the machine's words.
#[must_use]
pub fn run_agent(arguments: Vec<OsString>) -> ExitCode {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let [_, socket, machine @ ..] = words.as_slice() else { return ExitCode::from(2) };
    let Some(machine) = Machine::from_words(machine) else { return ExitCode::from(2) };
    let served = bind(Path::new(socket), 0o600).and_then(|listener| {
        let agent = serve(vec![Served { listener, role: machine.role.clone() }], SoftSource(machine.guest()))?;
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
            assert_eq!(Machine::from_words(&words.each_ref().map(String::as_str)), Some(machine));
        }
    }
}
