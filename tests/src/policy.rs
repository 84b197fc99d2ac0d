//! The text of a policy for guests on soft machines.

use std::fmt::Write as _;

use protocol::ids::Role;

use crate::machine::Machine;

/// What the policy demands.
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
        let configuration = match self.configurations.as_slice() {
            [] => "\"config-is-measured\"".to_owned(),
            digests => format!("{digests:?}"),
        };
        let mut measurement = String::new();
        for byte in self.measurement {
            // Writing to a String does not fail.
            let _ = write!(measurement, "{byte:02x}");
        }
        format!(
            "format = 1\n\
             description = \"One image, one configuration, no debugger, current firmware\"\n\
             role = \"{role}\"\n\
             configuration = {configuration}\n\
             attestation-lifetime = \"1 hour\"\n\
             \n\
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
            role = self.role,
            firmware = self.firmware,
        )
    }
}
