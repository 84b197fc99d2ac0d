//! The text of a policy for guests on soft machines.

use std::fmt::Write as _;

use protocol::ids::Role;
use testbed::tdx::SHA384;

use crate::machine::{Machine, Tee, hex};
use crate::td::TdMachine;

/// A policy (TOML) that accepts the genuine machine of this kind with these configurations, and no machine that is worse.
#[must_use]
pub fn accepting(tee: Tee, configurations: &[&str]) -> String {
    match tee {
        Tee::Snp => Draft::accepting(&Machine::default(), configurations).text(),
        Tee::Tdx => TdDraft::accepting(&TdMachine::default(), configurations).text(),
    }
}

/// The lines that policies of both kinds begin with.
fn beginning(description: &str, role: &Role, configurations: &[String]) -> String {
    let configuration = match configurations {
        [] => "\"config-is-measured\"".to_owned(),
        digests => format!("{digests:?}"),
    };
    format!(
        "format = 1\n\
         description = \"{description}\"\n\
         role = \"{role}\"\n\
         configuration = {configuration}\n\
         attestation-lifetime = \"1 hour\"\n\
         \n"
    )
}

/// What a policy for TDX demands.
#[derive(Clone, Debug)]
pub struct TdDraft {
    /// For whom evidence must speak.
    pub role: Role,
    /// The accepted digests of the guest's configuration; none writes the waiver `config-is-measured`.
    pub configurations: Vec<String>,
    /// What the guest must have been built from.
    pub mrtd: [u8; 48],
    /// What firmware, kernel and application must have extended: RTMR0, RTMR1, RTMR3.
    pub registers: [[u8; 48]; 3],
    /// The events of RTMR2: type and digest of each.
    pub events: Vec<(u32, Vec<u8>)>,
}

impl TdDraft {
    /// One that accepts `machine` with these configurations, and no machine that is worse.
    #[must_use]
    pub fn accepting(machine: &TdMachine, configurations: &[&str]) -> Self {
        let log = machine.event_log();
        let [rtmr0, rtmr1, _, rtmr3] = log.rtmrs();
        let extended = log.records.iter().filter(|record| record.index == 3 && record.kind != testbed::tdx::event_type::NO_ACTION);
        let digest =
            |digests: &[(u16, Vec<u8>)]| digests.iter().find(|(algorithm, _)| *algorithm == SHA384).map(|(_, digest)| digest.clone());
        Self {
            role: machine.role.clone(),
            configurations: configurations.iter().map(|&digest| digest.to_owned()).collect(),
            mrtd: machine.mrtd,
            registers: [rtmr0, rtmr1, rtmr3],
            events: extended.filter_map(|record| Some((record.kind, digest(&record.digests)?))).collect(),
        }
    }

    /// The policy (TOML).
    #[must_use]
    pub fn text(&self) -> String {
        let mut text =
            beginning("One image, one boot, one configuration, no debugger, a current platform", &self.role, &self.configurations);
        let [rtmr0, rtmr1, rtmr3] = self.registers.map(|register| hex(&register));
        let mut events = String::new();
        for (kind, digest) in &self.events {
            // Writing to a String does not fail.
            let _ = writeln!(events, "    {{ type = {kind}, digest = \"{}\" }},", hex(digest));
        }
        text += &format!(
            "[tdx]\n\
             smt = \"allowed\"\n\
             \n\
             [tdx.measurements]\n\
             inference-image = [\"{}\"]\n\
             \n\
             [tdx.rtmrs]\n\
             rtmr0 = {{ firmware-settings = [\"{rtmr0}\"] }}\n\
             rtmr1 = {{ kernel = [\"{rtmr1}\"] }}\n\
             rtmr3 = {{ inference-server = [\"{rtmr3}\"] }}\n\
             \n\
             [tdx.events.rtmr2.sequences]\n\
             command-line = [\n{events}]\n",
            hex(&self.mrtd)
        );
        text
    }
}

/// What a policy for SEV-SNP demands.
#[derive(Clone, Debug)]
pub struct Draft {
    /// For whom evidence must speak.
    pub role: Role,
    /// The accepted digests of the guest's configuration; none writes the waiver `config-is-measured`.
    pub configurations: Vec<String>,
    /// What must have been booted.
    pub measurement: [u8; 48],
    /// The least security version of the SNP firmware.
    pub firmware: u8,
}

impl Draft {
    /// One that accepts `machine` with these configurations, and no machine that is worse.
    #[must_use]
    pub fn accepting(machine: &Machine, configurations: &[&str]) -> Self {
        Self {
            role: machine.role.clone(),
            configurations: configurations.iter().map(|&digest| digest.to_owned()).collect(),
            measurement: machine.measurement,
            firmware: machine.firmware,
        }
    }

    /// The policy (TOML). The other parts of the TCB are those of the testbed's well-kept Milan.
    #[must_use]
    pub fn text(&self) -> String {
        let beginning = beginning("One image, one configuration, no debugger, current firmware", &self.role, &self.configurations);
        format!(
            "{beginning}\
             [snp]\n\
             vmpl = [0]\n\
             \n\
             [snp.measurements]\n\
             inference-image = [\"{measurement}\"]\n\
             \n\
             [snp.guest-policy]\n\
             smt = \"allowed\"\n\
             \n\
             [snp.products.milan]\n\
             minimum-tcb = {{ bootloader = 4, tee = 0, snp = {firmware}, microcode = 219 }}\n",
            measurement = hex(&self.measurement),
            firmware = self.firmware,
        )
    }
}
