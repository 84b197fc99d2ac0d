//! Every check that a policy can run, by its stable code: what it means, and what an operator can do where it fails.
//!
//! A [`crate::Check`] can only be made from an entry of this table, so no code can be missing in it.

/// One kind of check.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// The stable name, kebab-case. It stands in denials, logs, metrics and the documentation; it never changes its meaning.
    pub code: &'static str,
    /// What is checked, in one sentence.
    pub meaning: &'static str,
    /// What an operator can do where it fails.
    pub hint: &'static str,
}

/// The entry of `code`; `None` for a text that is no code.
#[must_use]
pub fn find(code: &str) -> Option<&'static Code> {
    CODES.iter().copied().find(|entry| entry.code == code)
}

macro_rules! codes {
    ($($name:ident = $code:literal, $meaning:literal, $hint:literal;)*) => {
        $(#[doc = concat!("`", $code, "`: ", $meaning)]
        pub static $name: Code = Code { code: $code, meaning: $meaning, hint: $hint };)*

        /// Every check, in the order in which a policy runs them.
        pub static CODES: &[&Code] = &[$(&$name),*];
    };
}

codes! {
    ATTESTATION_AGE = "attestation-age",
        "The evidence was verified before now, and no longer ago than `attestation-lifetime`.",
        "let the guest attest again; where it just did, compare the clocks of the brokers";
    ROLE = "role",
        "The evidence speaks for the `role` that the policy names: the whole VM, or one workload.",
        "ask from the workload that the policy names, or name this one in a policy of its own";
    CONFIGURATION = "configuration",
        "The digest of the guest's effective configuration is on the policy's list, or the policy waives it by `config-is-measured`.",
        "compare the guest's configuration with the one that was reviewed; add its digest to `configuration` if the change is meant";
    REVOCATION_AGE = "revocation-age",
        "A revocation list of the vendor was consulted, and is in force or no older than `revocation-max-age`.",
        "fetch the vendor's current revocation list into the broker's collateral";
    SECOND_OPINION = "second-opinion",
        "An independent parser read the same in every field, or its known exception is named in `second-opinion-exceptions`.",
        "name the exception in the policy if this kind of report is meant to be accepted";
    SNP_PRODUCT = "snp-product",
        "The processor line has a table of its own under `[snp.products]`, with its minimum TCB.",
        "add the line with AMD's minimum TCB from its security bulletins, or run the guest on a listed line";
    SNP_SIGNING_KEY = "snp-signing-key",
        "The kind of key that signed the report is in `signing-keys`.",
        "a cloud provider's VLEK must be accepted by name, together with `[snp.csps]`";
    SNP_MEASUREMENT = "snp-measurement",
        "The launch measurement is in one of the sets of `[snp.measurements]`.",
        "compute the measurement of the image that should run (firmware, kernel, vCPU count and type all change it) and compare; add it if it was reviewed";
    SNP_ID_KEY = "snp-id-key",
        "The key that signed the guest's ID block is in one of the sets of `id-keys`.",
        "launch the guest with the ID block that its publisher signed";
    SNP_AUTHOR_KEY = "snp-author-key",
        "An author key was enabled at launch and is in one of the sets of `author-keys`.",
        "launch the guest with the ID authentication block that carries the author key";
    SNP_GUEST_SVN = "snp-guest-svn",
        "The guest SVN in the ID block is at least `minimum-guest-svn`.",
        "launch a newer release of the image; older ones were given up on purpose";
    SNP_FAMILY_ID = "snp-family-id",
        "The family id in the ID block is in `family-ids`.",
        "launch the image with the ID block made for it";
    SNP_IMAGE_ID = "snp-image-id",
        "The image id in the ID block is in `image-ids`.",
        "launch the image with the ID block made for it";
    SNP_DEBUG = "snp-debug",
        "The guest policy does not allow debugging: with it the host reads all of the guest's memory.",
        "launch the guest without the debug bit; no policy can accept it";
    SNP_MIGRATION = "snp-migration",
        "The guest policy does not allow a migration agent.",
        "launch the guest without the migration bit; no policy can accept it";
    SNP_MIGRATION_AGENT = "snp-migration-agent",
        "The report names no migration agent.",
        "launch the guest without a migration agent; no policy can accept one";
    SNP_SMT = "snp-smt",
        "The guest policy does not allow SMT, unless the policy says `smt = \"allowed\"`.",
        "launch the guest with SMT forbidden, or accept its side channels by name";
    SNP_CXL = "snp-cxl",
        "The guest policy does not allow CXL memory, unless the policy says `cxl = \"allowed\"`.",
        "launch the guest with CXL forbidden, or accept it by name";
    SNP_SINGLE_SOCKET = "snp-single-socket",
        "The guest policy restricts the guest to one socket, where `single-socket = \"required\"`.",
        "launch the guest with the single-socket bit";
    SNP_AES_256_XTS = "snp-aes-256-xts",
        "The guest policy requires AES-256-XTS memory encryption, where `mem-aes-256-xts = \"required\"`.",
        "launch the guest with the AES-256-XTS bit, on a host that encrypts so";
    SNP_RAPL = "snp-rapl",
        "The guest policy requires RAPL to be off, where `rapl-disabled = \"required\"`.",
        "launch the guest with the RAPL-disabled bit, on a host that has it off";
    SNP_CIPHERTEXT_HIDING = "snp-ciphertext-hiding",
        "The guest policy requires ciphertext hiding, where `ciphertext-hiding = \"required\"`.",
        "launch the guest with the ciphertext-hiding bit, on a host that has it on";
    SNP_PAGE_SWAP = "snp-page-swap",
        "The guest policy forbids page swapping, where `page-swap-disabled = \"required\"`.",
        "launch the guest with the page-swap-disabled bit";
    SNP_ABI = "snp-abi",
        "The guest policy asks for a firmware ABI of at least `minimum-abi`.",
        "launch the guest with a higher minimum ABI in its policy";
    SNP_TCB_COMMITTED = "snp-tcb-committed",
        "Every part of the committed TCB is at least the line's minimum: the host cannot roll back below it.",
        "update the host's firmware and microcode and commit them (SNP_COMMIT)";
    SNP_TCB_REPORTED = "snp-tcb-reported",
        "Every part of the reported TCB, which the signing key derives from, is at least the line's minimum.",
        "update the host's firmware and raise its reported TCB (SNP_CONFIG)";
    SNP_TCB_LAUNCH = "snp-tcb-launch",
        "Every part of the TCB at the guest's launch is at least the line's minimum.",
        "launch the guest again on the updated host";
    SNP_PROVISIONAL_FIRMWARE = "snp-provisional-firmware",
        "The running firmware is the committed one, unless the policy says `provisional-firmware = \"accepted\"`.",
        "let the host commit its firmware (SNP_COMMIT); until then it can roll back";
    SNP_FIRMWARE_VERSION = "snp-firmware-version",
        "The running and the committed firmware version are at least the line's `minimum-firmware`.",
        "update the host's SNP firmware and commit it";
    SNP_VMPL = "snp-vmpl",
        "The privilege level that asked for the report is in `vmpl`.",
        "ask from a level that the policy names: 0, or another where a paravisor is part of the measured image";
    SNP_HOST_DATA = "snp-host-data",
        "HOST_DATA is what the policy expects: all zero, a value of its list, or the guest's configuration digest.",
        "launch the guest with the expected host data; it is the host's choice and proves nothing unless it is compared";
    SNP_PLATFORM_SET = "snp-platform-set",
        "Every platform bit of `must-be-set` is set.",
        "switch the feature on in the host's firmware settings";
    SNP_PLATFORM_CLEAR = "snp-platform-clear",
        "Every platform bit of `must-be-clear` is clear.",
        "switch the feature off in the host's firmware settings";
    SNP_MITIGATIONS_LAUNCH = "snp-mitigations-launch",
        "Every required mitigation was on when the guest was launched.",
        "update the host's firmware, then launch the guest again; reports before version 5 cannot say";
    SNP_MITIGATIONS_CURRENT = "snp-mitigations-current",
        "Every required mitigation is on now.",
        "update the host's firmware; reports before version 5 cannot say";
    SNP_CHIP_MASKED = "snp-chip-masked",
        "A report under a VCEK names its chip, unless the policy says `masked-chips = \"accepted\"`.",
        "let the host stop masking the chip id (SNP_CONFIG)";
    SNP_CHIP_ALLOWED = "snp-chip-allowed",
        "The chip is in `allow`, where the policy has such a list.",
        "add the machine to the inventory in the policy, or run the guest on a listed one";
    SNP_CHIP_DENIED = "snp-chip-denied",
        "The chip is named and not in `deny`, where the policy has such a list.",
        "run the guest on another machine; this one was excluded on purpose";
    SNP_CSP_ALLOWED = "snp-csp-allowed",
        "The cloud provider of the VLEK is in `allow`.",
        "add the provider and region to the policy if guests are meant to run there";
    SNP_CSP_DENIED = "snp-csp-denied",
        "The cloud provider of the VLEK is not in `deny`.",
        "run the guest elsewhere; this provider or region was excluded on purpose";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_kebab_case_and_unique() {
        let mut seen = std::collections::HashSet::new();
        for entry in CODES {
            assert!(seen.insert(entry.code), "{} stands twice", entry.code);
            assert!(entry.code.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')), "{}", entry.code);
            assert_eq!(find(entry.code), Some(*entry));
        }
        assert_eq!(find("snp"), None);
    }

    #[test]
    fn the_language_reference_has_this_table_and_no_more() {
        let (_, table) =
            include_str!("../LANGUAGE.md").split_once("| code | what is checked | where it fails |\n| --- | --- | --- |\n").unwrap();
        let documented: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
        let rows: Vec<String> = CODES.iter().map(|entry| format!("| `{}` | {} | {} |", entry.code, entry.meaning, entry.hint)).collect();
        assert_eq!(documented, rows);
    }
}
