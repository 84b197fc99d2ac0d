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
    RECORD_PUBLISHER = "record-publisher",
        "The key that signed the record's statement is in one of the sets of `[record.publishers]`.",
        "let the publisher whom the policy names seal and publish the record, or add this publisher's key if it is meant";
    ROLE = "role",
        "The evidence speaks for the `role` that the policy names: the whole VM, or one workload.",
        "ask from the workload that the policy names, or name this one in a policy of its own";
    CONFIGURATION = "configuration",
        "The digest of the guest's effective configuration is on the policy's list, or the policy waives it by `config-is-measured`.",
        "compare the guest's configuration with the one that was reviewed; add its digest to `configuration` if the change is meant";
    PLATFORM = "platform",
        "The policy has a table for the platform: `[snp]` or `[tdx]`.",
        "add the table with the rules for this platform, or run the guest on one that the policy names";
    REVOCATION_AGE = "revocation-age",
        "The revocation list of the platform's certificate (AMD's root; Intel's PCK authority) was consulted, and is in force, or no older than `revocation-max-age` where the policy has it.",
        "fetch the vendor's current revocation list into the broker's collateral";
    SECOND_OPINION = "second-opinion",
        "An independent parser read the same in every field of the SNP report or TD report, or its known exception is named in `second-opinion-exceptions`.",
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
    SNP_TCB_CALENDAR = "snp-tcb-calendar",
        "The TCB calendar that `calendar` names is in force and has a baseline of the line, where `minimum-tcb = \"calendar\"`.",
        "put the TCB baselines, signed by the authority of this policy: `portcullis calendar put`";
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
    TDX_MEASUREMENT = "tdx-measurement",
        "MRTD, what was in the TD when it was built, is in one of the sets of `[tdx.measurements]`.",
        "compute the MRTD of the firmware that should run and compare; add it if it was reviewed";
    TDX_RTMR0 = "tdx-rtmr0",
        "RTMR0 is what `rtmr0` under `[tdx.rtmrs]` expects: in one of its sets, all zero, or anything by the word `not-checked`.",
        "by convention the register holds firmware configuration, ACPI tables and boot variables: find out what changed, and add the value if it was reviewed";
    TDX_RTMR0_EVENTS = "tdx-rtmr0-events",
        "An event log that replays to RTMR0 has exactly the events that `[tdx.events.rtmr0]` expects, and none besides.",
        "send the event log with the quote; compare the event that is named with the image that should run";
    TDX_RTMR1 = "tdx-rtmr1",
        "RTMR1 is what `rtmr1` under `[tdx.rtmrs]` expects: in one of its sets, all zero, or anything by the word `not-checked`.",
        "by convention the register holds boot loader and kernel: find out what changed, and add the value if it was reviewed";
    TDX_RTMR1_EVENTS = "tdx-rtmr1-events",
        "An event log that replays to RTMR1 has exactly the events that `[tdx.events.rtmr1]` expects, and none besides.",
        "send the event log with the quote; compare the event that is named with the image that should run";
    TDX_RTMR2 = "tdx-rtmr2",
        "RTMR2 is what `rtmr2` under `[tdx.rtmrs]` expects: in one of its sets, all zero, or anything by the word `not-checked`.",
        "by convention the register holds kernel command line, initrd and OS: find out what changed, and add the value if it was reviewed";
    TDX_RTMR2_EVENTS = "tdx-rtmr2-events",
        "An event log that replays to RTMR2 has exactly the events that `[tdx.events.rtmr2]` expects, and none besides.",
        "send the event log with the quote; compare the event that is named with the image that should run";
    TDX_RTMR3 = "tdx-rtmr3",
        "RTMR3 is what `rtmr3` under `[tdx.rtmrs]` expects: in one of its sets, all zero, or anything by the word `not-checked`.",
        "by convention the register holds the runtime and its applications: find out what changed, and add the value if it was reviewed";
    TDX_RTMR3_EVENTS = "tdx-rtmr3-events",
        "An event log that replays to RTMR3 has exactly the events that `[tdx.events.rtmr3]` expects, and none besides.",
        "send the event log with the quote; compare the event that is named with the image that should run";
    TDX_MRSEAM = "tdx-mrseam",
        "MRSEAM, the measurement of the TDX module, is in one of the sets of `[tdx.mrseam]`.",
        "update the host's TDX module to one that the policy names, or add its measurement from Intel's release";
    TDX_DEBUG = "tdx-debug",
        "Byte 0 of TDATTRIBUTES is zero: with any of its bits the host debugs or profiles the TD.",
        "launch the guest without debug and profiling attributes; no policy can accept them";
    TDX_SEPT_VE_DISABLE = "tdx-sept-ve-disable",
        "SEPT_VE_DISABLE is set: the host cannot inject exceptions on private pages.",
        "launch the guest with SEPT_VE_DISABLE; no policy can do without it";
    TDX_MIGRATABLE = "tdx-migratable",
        "The TD is not migratable.",
        "launch the guest without the migration attribute; no policy can accept it";
    TDX_PKS = "tdx-pks",
        "Supervisor protection keys are off, unless the policy says `pks = \"allowed\"`.",
        "launch the guest without PKS, or accept it by name";
    TDX_KEY_LOCKER = "tdx-key-locker",
        "Key locker is off, unless the policy says `key-locker = \"allowed\"`.",
        "launch the guest without key locker, or accept it by name";
    TDX_PERFMON = "tdx-perfmon",
        "Performance counters are off, unless the policy says `perfmon = \"allowed\"`.",
        "launch the guest without performance counters, or accept their side channels by name";
    TDX_ATTRIBUTES = "tdx-attributes",
        "No attribute is set that the language has no rule for.",
        "launch the guest without it, or upgrade the program if a later version knows the attribute";
    TDX_XFAM = "tdx-xfam",
        "XFAM includes 0x3 and no feature outside `xfam`.",
        "launch the guest without the feature, or add its bit to `xfam`";
    TDX_MRCONFIGID = "tdx-mrconfigid",
        "MRCONFIGID is what the policy expects: all zero, a value of its list, or the guest's configuration digest followed by 16 zero bytes.",
        "launch the guest with the expected value; it is the host's choice and proves nothing unless it is compared";
    TDX_MROWNER = "tdx-mrowner",
        "MROWNER is all zero, or a value of `mrowner`.",
        "launch the guest with the expected value; it is the host's choice and proves nothing unless it is compared";
    TDX_MROWNERCONFIG = "tdx-mrownerconfig",
        "MROWNERCONFIG is all zero, or a value of `mrownerconfig`.",
        "launch the guest with the expected value; it is the host's choice and proves nothing unless it is compared";
    TDX_SERVICE_TD = "tdx-service-td",
        "No service TD is bound to the guest, or MRSERVICETD is a value of `mrservicetd`.",
        "launch the guest without a service TD, or list its MRSERVICETD if it was reviewed";
    TDX_SERVICE_TD_HISTORY = "tdx-service-td-history",
        "The service TDs at launch and now, which a TD 1.5 Ex report names, keep the rule of `mrservicetd`, and none is under debug.",
        "launch the guest without a service TD, or list its hash if it was reviewed";
    TDX_VM_ID = "tdx-vm-id",
        "The virtual machine of a partitioned TD that asked for the report is in `vm-ids`.",
        "ask from a virtual machine that the policy names: 0 is the TD itself";
    TDX_TD_ID = "tdx-td-id",
        "The TD id of a TD 1.5 Ex report is all zero, a value of `td-id`, or anything by the word `not-checked`.",
        "write `td-id = \"not-checked\"` where any instance may have the secret, or list the ids that may";
    TDX_DEVICE_INFO = "tdx-device-info",
        "The device info of a TD 1.5 Ex report is all zero, a value of `device-info`, or anything by the word `not-checked`.",
        "launch the guest without trusted devices, or list the value that was reviewed";
    TDX_FMSPC = "tdx-fmspc",
        "The platform's FMSPC is in `fmspcs`, where the policy has such a list.",
        "add the platform's FMSPC, or run the guest on a listed platform";
    TDX_INSTANCE_ALLOWED = "tdx-platform-instance-allowed",
        "The platform instance is in `allow`, where the policy has such a list.",
        "add the machine to the inventory in the policy, or run the guest on a listed one";
    TDX_INSTANCE_DENIED = "tdx-platform-instance-denied",
        "The platform instance is named and not in `deny`, where the policy has such a list.",
        "run the guest on another machine; this one was excluded on purpose";
    TDX_PPID_ALLOWED = "tdx-ppid-allowed",
        "The processor's PPID is in `allow`, where the policy has such a list.",
        "add the processor to the inventory in the policy, or run the guest on a listed one";
    TDX_PPID_DENIED = "tdx-ppid-denied",
        "The processor's PPID is not in `deny`, where the policy has such a list.",
        "run the guest on another machine; this one was excluded on purpose";
    TDX_SMT = "tdx-smt",
        "The platform's certificate says that SMT is off, unless the policy says `smt = \"allowed\"`.",
        "switch SMT off in the host's firmware settings and register the platform again, or accept its side channels by name";
    TDX_TCB_STATUS = "tdx-tcb-status",
        "The merged TCB status, and the platform's own where another part hides it, is UpToDate, or one that `[tdx.tcb]` accepts by name or by a period of grace.",
        "update the host's firmware and TDX module, then launch the guest again; accept a status by name only after reading its advisories";
    TDX_TCB_ADVISORIES = "tdx-tcb-advisories",
        "Every advisory of a status that is accepted by name is listed with it.",
        "read the advisory that is not listed; add it to `accept` if it does not concern this guest";
    TDX_TCB_GRACE = "tdx-tcb-grace",
        "The TCB of a platform that is out of date was superseded no longer ago than `out-of-date-grace`.",
        "update the host's firmware and TDX module, then launch the guest again: its time is over";
    TDX_TCB_DENIED_ADVISORIES = "tdx-tcb-denied-advisories",
        "No advisory of the platform is in `denied-advisories`, whatever its status.",
        "update the host's firmware and TDX module; this weakness was excluded on purpose";
    TDX_TCB_DATE = "tdx-tcb-date",
        "The platform's TCB date is not before `not-before`.",
        "update the host's firmware and TDX module";
    TDX_TCB_EVALUATION = "tdx-tcb-evaluation",
        "TCB info and QE identity have at least `minimum-evaluation-number`.",
        "fetch Intel's current collateral into the broker, with `update=early`";
    TDX_COLLATERAL_AGE = "tdx-collateral-age",
        "TCB info and QE identity are in force, or issued no longer ago than `collateral-max-age`.",
        "fetch Intel's current collateral into the broker";
    TDX_ROOT_REVOCATION = "tdx-root-revocation-age",
        "A revocation list of Intel's root was consulted, and is in force or no older than `revocation-max-age`.",
        "fetch the current list of Intel's root into the broker's collateral";
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
