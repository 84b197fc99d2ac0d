//! Every rule of the language over claims: for each code a denial for exactly that reason, and a near miss that passes.
//!
//! Each row takes the full policy and claims that it permits, changes either, and states the codes that must fail.

use attestation::{FirmwareVersion, PlatformClaims, ProductLine, ProductSource, Revocation, SecondOpinion, SigningKeyKind, SnpClaims, Tcb};
use policies::{Check, Policy, Verdict};
use protocol::ids::{Digest, Role};
use protocol::time::UnixTime;

mod subjects;

use subjects::{NOW, snp};

const FULL: &str = include_str!("full.toml");
const DAY: u64 = 86400;

/// What a policy looks at: claims as data, and what the transcript would add.
struct Subject {
    claims: SnpClaims,
    role: Role,
    configuration: Digest,
    at: UnixTime,
}

/// The least that the full policy permits: on a Genoa chip, under a VCEK, every minimum met exactly.
fn genoa() -> Subject {
    Subject {
        claims: snp(),
        role: "workload:chat/llama".parse().unwrap(),
        configuration: Digest::from([0xc1; 32]),
        at: UnixTime::from_seconds(NOW),
    }
}

/// One row of the tables.
struct Row {
    place: (u32, &'static str),
    policy: Vec<(String, String)>,
    change: fn(&mut Subject),
    fails: &'static [&'static str],
}

/// The subject is denied for exactly these codes: `deny!(why, change of the subject => [codes])`, or with changes of the policy's
/// text `deny!(why; from => to, …; change of the subject => [codes])`.
macro_rules! deny {
    ($why:literal, $change:expr => [$($code:literal),*]) => {
        Row { place: (line!(), $why), policy: Vec::new(), change: $change, fails: &[$($code),*] }
    };
    ($why:literal; $($from:expr => $to:expr),+; $change:expr => [$($code:literal),*]) => {
        Row {
            place: (line!(), $why),
            policy: vec![$(($from.to_string(), $to.to_string())),+],
            change: $change,
            fails: &[$($code),*],
        }
    };
}

/// The subject is permitted.
macro_rules! pass {
    ($why:literal, $change:expr) => {
        deny!($why, $change => [])
    };
    ($why:literal; $($from:expr => $to:expr),+; $change:expr) => {
        deny!($why; $($from => $to),+; $change => [])
    };
}

fn policy(changes: &[(String, String)]) -> Policy {
    let mut text = FULL.to_owned();
    for (from, to) in changes {
        assert_eq!(text.matches(from).count(), 1, "{from:?} stands once in full.toml");
        text = text.replace(from, to);
    }
    Policy::parse(&text).unwrap_or_else(|error| panic!("{error}"))
}

fn failed(checks: &[Check]) -> Vec<&'static str> {
    checks.iter().filter(|check| check.verdict == Verdict::Failed).map(|check| check.code).collect()
}

fn run(row: &Row) -> Vec<Check> {
    let mut subject = genoa();
    (row.change)(&mut subject);
    let Subject { claims, role, configuration, at } = subject;
    policy(&row.policy).examine(&PlatformClaims::Snp(claims), Some((&role, &configuration)), None, at)
}

fn check(table: &[Row]) {
    for row in table {
        let (line, why) = row.place;
        let checks = run(row);
        assert_eq!(failed(&checks), row.fails, "line {line}: {why}: {checks:#?}");
    }
}

const fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds)
}

fn general() -> Vec<Row> {
    let configuration = format!("[\"{}\"]", "c1".repeat(32));
    vec![
        pass!("everything is as the policy asks", |_| ()),
        deny!("another workload", |s| s.role = "workload:chat/llama2".parse().unwrap() => ["role"]),
        deny!("the whole VM where a workload is asked for", |s| s.role = Role::WholeVm => ["role"]),
        deny!("a workload where the whole VM is asked for"; "workload:chat/llama" => "whole-vm"; |_| () => ["role"]),
        deny!("a workload that calls itself whole-vm"; "workload:chat/llama" => "whole-vm"; 
            |s| s.role = "workload:whole-vm".parse().unwrap() => ["role"]),
        pass!("the whole VM"; "workload:chat/llama" => "whole-vm"; |s| s.role = Role::WholeVm),
        deny!("another configuration", |s| s.configuration = Digest::from([0xc2; 32]) => ["configuration"]),
        pass!("another configuration that the measurement covers"; configuration => "\"config-is-measured\""; 
            |s| s.configuration = Digest::from([0xc2; 32])),
        deny!("no second opinion on a report of another kind", |s| s.claims.second_opinion = SecondOpinion::Unavailable { why: "other" }
            => ["second-opinion"]),
        deny!("no second opinion on a masked report of a later version"; chips() => ""; |s| {
            s.claims.second_opinion = SecondOpinion::Unavailable { why: "other" };
            s.claims.chip_id = None;
        } => ["second-opinion", "snp-chip-masked"]),
        pass!("no second opinion on a masked version 2 report, which is named"; chips() => "", "masked-chips = \"denied\"" => "masked-chips = \"accepted\"";
            masked_version_2),
        deny!("no second opinion on a masked version 2 report, which is not named"; chips() => "",
            "masked-chips = \"denied\"" => "masked-chips = \"accepted\"",
            "second-opinion-exceptions = [\"masked-version-2-report\"]\n" => "";
            masked_version_2 => ["second-opinion"]),
    ]
}

fn revocation() -> Vec<Row> {
    let list = "revocation-max-age = \"30 days\"\n";
    vec![
        deny!("no list, whatever the maximum age", |s| s.claims.revocation = Revocation::Unknown => ["revocation-age"]),
        deny!("no list, without a maximum age"; list => ""; |s| s.claims.revocation = Revocation::Unknown => ["revocation-age"]),
        pass!("a list of exactly the maximum age", |_| ()),
        deny!("a list one second older, though in force", |s| s.at = at(NOW + 1) => ["revocation-age"]),
        pass!("the same without a maximum age"; list => ""; |s| s.at = at(NOW + 1)),
        pass!("a list in its last second"; list => ""; |s| s.at = at(NOW + 300 * DAY)),
        deny!("a list that has run out since it was checked"; list => ""; |s| s.at = at(NOW + 300 * DAY + 1) => ["revocation-age"]),
        deny!("a stale list without a maximum age"; list => ""; 
            |s| s.claims.revocation = Revocation::Stale { this_update: at(NOW - DAY), next_update: at(NOW - 1) } => ["revocation-age"]),
        deny!("a stale list without a maximum age, whatever the clock says now"; list => ""; 
            |s| s.claims.revocation = Revocation::Stale { this_update: at(NOW - DAY), next_update: at(NOW + DAY) } => ["revocation-age"]),
        pass!("a stale list within the maximum age", |s| s.claims.revocation =
            Revocation::Stale { this_update: at(NOW - DAY), next_update: at(NOW - 1) }),
        deny!("a stale list beyond the maximum age",
            |s| s.claims.revocation = Revocation::Stale { this_update: at(NOW - 31 * DAY), next_update: at(NOW - 1) } => ["revocation-age"]),
        deny!("a list from the future",
            |s| s.claims.revocation = Revocation::Checked { this_update: at(NOW + 1), next_update: at(NOW + DAY) } => ["revocation-age"]),
    ]
}

fn identity() -> Vec<Row> {
    vec![
        deny!("another measurement", |s| s.claims.measurement[47] ^= 1 => ["snp-measurement"]),
        pass!("a measurement of the second set", |s| s.claims.measurement = [0xa3; 48]),
        deny!("another ID key", |s| s.claims.id_key_digest[0] ^= 1 => ["snp-id-key"]),
        deny!("no ID block", |s| {
            s.claims.id_key_digest = [0; 48];
            s.claims.author_key_enabled = false;
            s.claims.author_key_digest = None;
            s.claims.guest_svn = 0;
            s.claims.family_id = [0; 16];
            s.claims.image_id = [0; 16];
        } => ["snp-id-key", "snp-author-key", "snp-guest-svn", "snp-family-id", "snp-image-id"]),
        deny!("another author key", |s| s.claims.author_key_digest = Some([0xb1; 48]) => ["snp-author-key"]),
        deny!("no author key", |s| { s.claims.author_key_digest = None; s.claims.author_key_enabled = false; } => ["snp-author-key"]),
        deny!("an author key that was not enabled", |s| s.claims.author_key_enabled = false => ["snp-author-key"]),
        pass!("no author key where none is asked for"; format!("[snp.id-block.author-keys]\nauthority = [\"{}\"]\n", "b2".repeat(48)) => ""; 
            |s| { s.claims.author_key_digest = None; s.claims.author_key_enabled = false; }),
        pass!("any ID key that the author key vouches for"; format!("[snp.id-block.id-keys]\nrelease = [\"{}\"]\n", "b1".repeat(48)) => ""; 
            |s| s.claims.id_key_digest = [9; 48]),
        deny!("an older release", |s| s.claims.guest_svn = 2 => ["snp-guest-svn"]),
        pass!("a newer release", |s| s.claims.guest_svn = u32::MAX),
        deny!("another family", |s| s.claims.family_id[0] ^= 1 => ["snp-family-id"]),
        deny!("another image", |s| s.claims.image_id[15] ^= 1 => ["snp-image-id"]),
    ]
}

fn launch() -> Vec<Row> {
    vec![
        deny!("a guest that the host may debug", |s| s.claims.guest_policy.debug = true => ["snp-debug"]),
        deny!("a guest that may be migrated", |s| s.claims.guest_policy.migrate_ma = true => ["snp-migration"]),
        deny!("a guest with a migration agent", |s| s.claims.report_id_ma[31] = 0xfe => ["snp-migration-agent"]),
        deny!("an all-zero migration agent is one", |s| s.claims.report_id_ma = [0; 32] => ["snp-migration-agent"]),
        deny!("SMT", |s| s.claims.guest_policy.smt = true => ["snp-smt"]),
        deny!("SMT by default"; "smt = \"denied\"\n" => ""; |s| s.claims.guest_policy.smt = true => ["snp-smt"]),
        pass!("SMT where it is allowed"; "smt = \"denied\"" => "smt = \"allowed\""; |s| s.claims.guest_policy.smt = true),
        pass!("no SMT where it is allowed"; "smt = \"denied\"" => "smt = \"allowed\""; |_| ()),
        deny!("CXL", |s| s.claims.guest_policy.cxl = true => ["snp-cxl"]),
        deny!("CXL by default"; "cxl = \"denied\"\n" => ""; |s| s.claims.guest_policy.cxl = true => ["snp-cxl"]),
        pass!("CXL where it is allowed"; "cxl = \"denied\"" => "cxl = \"allowed\""; |s| s.claims.guest_policy.cxl = true),
        deny!("two sockets", |s| s.claims.guest_policy.single_socket = false => ["snp-single-socket"]),
        pass!("two sockets where that is optional"; "single-socket = \"required\"" => "single-socket = \"optional\""; 
            |s| s.claims.guest_policy.single_socket = false),
        deny!("AES-128 memory encryption", |s| s.claims.guest_policy.mem_aes_256_xts = false => ["snp-aes-256-xts"]),
        pass!("AES-128 by default"; "mem-aes-256-xts = \"required\"\n" => ""; |s| s.claims.guest_policy.mem_aes_256_xts = false),
        deny!("RAPL", |s| s.claims.guest_policy.rapl_disabled = false => ["snp-rapl"]),
        pass!("RAPL where that is optional"; "\nrapl-disabled = \"required\"" => ""; |s| s.claims.guest_policy.rapl_disabled = false),
        deny!("visible ciphertext", |s| s.claims.guest_policy.ciphertext_hiding = false => ["snp-ciphertext-hiding"]),
        pass!("visible ciphertext where that is optional"; "ciphertext-hiding = \"required\"" => "ciphertext-hiding = \"optional\""; 
            |s| s.claims.guest_policy.ciphertext_hiding = false),
        deny!("page swapping", |s| s.claims.guest_policy.page_swap_disabled = false => ["snp-page-swap"]),
        pass!("page swapping where that is optional"; "page-swap-disabled = \"required\"" => "page-swap-disabled = \"optional\""; 
            |s| s.claims.guest_policy.page_swap_disabled = false),
        deny!("a lower ABI minor", |s| s.claims.guest_policy.abi_minor = 50 => ["snp-abi"]),
        deny!("a lower ABI major with a higher minor", |s| {
            s.claims.guest_policy.abi_major = 0;
            s.claims.guest_policy.abi_minor = 255;
        } => ["snp-abi"]),
        pass!("a higher ABI major with a lower minor", |s| {
            s.claims.guest_policy.abi_major = 2;
            s.claims.guest_policy.abi_minor = 0;
        }),
        pass!("any ABI by default"; "minimum-abi = \"1.51\"\n" => ""; |s| {
            s.claims.guest_policy.abi_major = 0;
            s.claims.guest_policy.abi_minor = 0;
        }),
        deny!("a level that is not named", |s| s.claims.vmpl = 2 => ["snp-vmpl"]),
        pass!("the other level that is named", |s| s.claims.vmpl = 1),
    ]
}

fn host_data() -> Vec<Row> {
    let list = format!("[\"{}\"]", "d1".repeat(32));
    let key = format!("host-data = {list}\n");
    vec![
        deny!("other host data", |s| s.claims.host_data[31] ^= 1 => ["snp-host-data"]),
        deny!("no host data where some is expected", |s| s.claims.host_data = [0; 32] => ["snp-host-data"]),
        deny!("host data by default"; key => ""; |_| () => ["snp-host-data"]),
        pass!("no host data by default"; key => ""; |s| s.claims.host_data = [0; 32]),
        deny!("host data that is not the configuration"; list => "\"configuration-digest\""; |_| () => ["snp-host-data"]),
        pass!("host data that is the configuration"; list => "\"configuration-digest\""; |s| s.claims.host_data = [0xc1; 32]),
        deny!("host data of a configuration that is not listed"; list => "\"configuration-digest\""; |s| {
            s.claims.host_data = [0xc2; 32];
            s.configuration = Digest::from([0xc2; 32]);
        } => ["configuration"]),
        pass!("any host data by its name"; list => "\"host-data-not-trusted\""; |s| s.claims.host_data = [7; 32]),
    ]
}

fn platform() -> Vec<Row> {
    let genoa = "minimum-tcb = { bootloader = 10, tee = 0, snp = 23, microcode = 84 }\nminimum-committed-tcb";
    vec![
        deny!("a line without a table"; "[snp.products.milan]\nminimum-tcb = { bootloader = 4, tee = 0, snp = 22, microcode = 213 }\n" => ""; 
            milan => ["snp-product"]),
        pass!("a line with a table", milan),
        pass!("a version 2 report of a listed line", |s| {
            s.claims.version = 2;
            s.claims.product_from = ProductSource::Certificate;
        }),
        deny!("a version 2 report of another line"; "[snp.products.milan]\nminimum-tcb = { bootloader = 4, tee = 0, snp = 22, microcode = 213 }\n" => ""; 
            |s| { milan(s); s.claims.version = 2; s.claims.product_from = ProductSource::Certificate; } => ["snp-product"]),
        pass!("Turin with its FMC", turin),
        deny!("Turin with an older FMC", |s| { turin(s); s.claims.launch_tcb.fmc = Some(0); } => ["snp-tcb-launch"]),
        deny!("a TCB of another layout", |s| { turin(s); s.claims.launch_tcb.fmc = None; } => ["snp-tcb-launch"]),
        deny!("an older committed TCB", |s| { s.claims.committed_tcb.microcode = 79; s.claims.current_tcb.microcode = 79; }
            => ["snp-tcb-committed"]),
        pass!("the oldest committed TCB", |s| {
            s.claims.committed_tcb.microcode = 80;
            s.claims.current_tcb.microcode = 80;
        }),
        deny!("an older reported TCB", |s| s.claims.reported_tcb.microcode = 81 => ["snp-tcb-reported"]),
        deny!("an older launch TCB", |s| s.claims.launch_tcb.snp = 20 => ["snp-tcb-launch"]),
        deny!("a newer part does not make up for an older one", |s| {
            s.claims.launch_tcb = Tcb { fmc: None, bootloader: 8, tee: 255, snp: 255, microcode: 255 };
        } => ["snp-tcb-launch"]),
        deny!("one minimum for all where the others are not stated"; "minimum-committed-tcb = { bootloader = 10, tee = 0, snp = 22, microcode = 80 }\n" => "",
            "minimum-reported-tcb = { bootloader = 10, tee = 0, snp = 22, microcode = 82 }\n" => "",
            "minimum-launch-tcb = { bootloader = 9, tee = 0, snp = 21, microcode = 72 }\n" => ""; |_| () => ["snp-tcb-committed", "snp-tcb-reported", "snp-tcb-launch"]),
        pass!("a higher minimum for all is not what counts where each is stated"; genoa => "minimum-tcb = { bootloader = 99, tee = 9, snp = 99, microcode = 99 }\nminimum-committed-tcb"; |_| ()),
        deny!("firmware that is not committed", |s| s.claims.current_version.build = 41 => ["snp-provisional-firmware"]),
        deny!("microcode that is not committed", |s| s.claims.current_tcb.microcode = 83 => ["snp-provisional-firmware"]),
        pass!("provisional firmware where it is accepted"; "provisional-firmware = \"denied\"" => "provisional-firmware = \"accepted\""; 
            |s| { s.claims.current_version.build = 41; s.claims.current_tcb.microcode = 83; }),
        deny!("older firmware", |s| { s.claims.current_version.build = 39; s.claims.committed_version.build = 39; }
            => ["snp-firmware-version"]),
        deny!("older firmware that the host can roll back to"; "provisional-firmware = \"denied\"" => "provisional-firmware = \"accepted\""; 
            |s| s.claims.committed_version.build = 39 => ["snp-firmware-version"]),
        pass!("newer minor, lower build", |s| {
            s.claims.current_version = FirmwareVersion { major: 1, minor: 56, build: 0 };
            s.claims.committed_version = s.claims.current_version;
        }),
        deny!("a bit that must be set", |s| s.claims.platform_info = 0b10_0000 => ["snp-platform-set"]),
        deny!("the other bit that must be set", |s| s.claims.platform_info = 0b100 => ["snp-platform-set"]),
        deny!("a bit that must be clear", |s| s.claims.platform_info |= 1 => ["snp-platform-clear"]),
        pass!("bits that no rule names", |s| s.claims.platform_info |= 0b1101_1010),
        deny!("a mitigation missing at launch", |s| s.claims.launch_mitigations = Some(0x1) => ["snp-mitigations-launch"]),
        deny!("a mitigation missing now", |s| s.claims.current_mitigations = Some(0x3) => ["snp-mitigations-current"]),
        deny!("mitigations that the report cannot state", |s| {
            s.claims.version = 3;
            s.claims.launch_mitigations = None;
            s.claims.current_mitigations = None;
        } => ["snp-mitigations-launch", "snp-mitigations-current"]),
        pass!("more mitigations", |s| {
            s.claims.launch_mitigations = Some(0x7);
            s.claims.current_mitigations = Some(u64::MAX);
        }),
    ]
}

fn milan(subject: &mut Subject) {
    let tcb = Tcb { fmc: None, bootloader: 4, tee: 0, snp: 22, microcode: 213 };
    let claims = &mut subject.claims;
    claims.product = ProductLine::Milan;
    (claims.current_tcb, claims.reported_tcb, claims.committed_tcb, claims.launch_tcb) = (tcb, tcb, tcb, tcb);
}

fn turin(subject: &mut Subject) {
    let tcb = Tcb { fmc: Some(1), bootloader: 1, tee: 1, snp: 4, microcode: 81 };
    let claims = &mut subject.claims;
    claims.product = ProductLine::Turin;
    (claims.current_tcb, claims.reported_tcb, claims.committed_tcb, claims.launch_tcb) = (tcb, tcb, tcb, tcb);
    let mut chip = [0; 64];
    chip[..8].fill(0xe3);
    claims.chip_id = Some(chip);
}

fn masked_version_2(subject: &mut Subject) {
    subject.claims.version = 2;
    subject.claims.product_from = ProductSource::Certificate;
    subject.claims.chip_id = None;
    subject.claims.second_opinion = SecondOpinion::Unavailable { why: "masked" };
}

/// The full policy's lists of chips.
fn chips() -> String {
    format!("[snp.chips]\nallow = [\"{}\", \"{}\"]\ndeny = [\"{}\"]\n", "e1".repeat(64), "e3".repeat(8), "e2".repeat(64))
}

fn vlek(subject: &mut Subject) {
    subject.claims.signing_key = SigningKeyKind::Vlek;
    subject.claims.chip_id = None;
    subject.claims.csp_id = Some("CN=one".into());
}

fn signer() -> Vec<Row> {
    let chips = chips();
    let allow = format!("allow = [\"{}\", \"{}\"]\n", "e1".repeat(64), "e3".repeat(8));
    let masked = "masked-chips = \"denied\"";
    let vcek = "signing-keys = [\"vcek\", \"vlek\"]";
    let csps = "\n[snp.csps]\nallow = [\"CN=one\"]\ndeny = [\"CN=two\"]\n";
    vec![
        deny!("a VLEK by default"; vcek => "", csps => "", chips => ""; vlek => ["snp-signing-key", "snp-csp-allowed"]),
        deny!("a VCEK where a VLEK is asked for"; vcek => "signing-keys = [\"vlek\"]"; |_| () => ["snp-signing-key"]),
        pass!("a VLEK of a listed provider"; chips => ""; vlek),
        deny!("a VLEK of another provider"; chips => ""; |s| { vlek(s); s.claims.csp_id = Some("CN=one.example".into()); }
            => ["snp-csp-allowed"]),
        deny!("a VLEK of a denied provider"; chips => ""; |s| { vlek(s); s.claims.csp_id = Some("CN=two".into()); }
            => ["snp-csp-allowed", "snp-csp-denied"]),
        deny!("a VLEK that names no provider"; chips => ""; |s| { vlek(s); s.claims.csp_id = None; }
            => ["snp-csp-allowed", "snp-csp-denied"]),
        deny!("a VLEK's report against lists of chips", vlek => ["snp-chip-allowed", "snp-chip-denied"]),
        deny!("a masked chip"; chips => ""; |s| s.claims.chip_id = None => ["snp-chip-masked"]),
        deny!("a masked chip by default"; chips => "", masked => ""; |s| s.claims.chip_id = None => ["snp-chip-masked"]),
        pass!("a masked chip where it is accepted"; chips => "", masked => "masked-chips = \"accepted\""; |s| s.claims.chip_id = None),
        deny!("a masked chip against lists", |s| s.claims.chip_id = None => ["snp-chip-masked", "snp-chip-allowed", "snp-chip-denied"]),
        deny!("a chip that is not listed", |s| s.claims.chip_id = Some([0xe4; 64]) => ["snp-chip-allowed"]),
        deny!("a chip that shares eight bytes with a Turin's", |s| s.claims.chip_id = Some([0xe3; 64]) => ["snp-chip-allowed"]),
        pass!("any chip without a list"; allow => ""; |s| s.claims.chip_id = Some([0xe4; 64])),
        deny!("a denied chip"; allow => ""; |s| s.claims.chip_id = Some([0xe2; 64]) => ["snp-chip-denied"]),
        pass!("a denied chip that is denied no more"; chips => ""; |s| s.claims.chip_id = Some([0xe2; 64])),
    ]
}

#[test]
fn general_rules_deny_exactly_what_they_name() {
    check(&general());
    check(&revocation());
}

#[test]
fn identity_rules_deny_exactly_what_they_name() {
    check(&identity());
}

#[test]
fn launch_rules_deny_exactly_what_they_name() {
    check(&launch());
    check(&host_data());
}

#[test]
fn platform_rules_deny_exactly_what_they_name() {
    check(&platform());
}

#[test]
fn signer_rules_deny_exactly_what_they_name() {
    check(&signer());
}

#[test]
fn every_code_has_a_row_that_denies_for_it_and_is_passed_in_another() {
    let rows = [general(), revocation(), identity(), launch(), host_data(), platform(), signer()].concat_rows();
    let denied: std::collections::HashSet<_> = rows.iter().flat_map(|row| row.fails.iter().copied()).collect();
    let passed: std::collections::HashSet<_> =
        rows.iter().flat_map(run).filter(|check| check.verdict == Verdict::Passed).map(|check| check.code).collect();
    for entry in policies::codes::CODES {
        // Elsewhere: what needs verified claims, a record, two platforms or a calendar, and all of the other platform.
        let elsewhere = ["attestation-age", "record-publisher", "platform", "snp-tcb-calendar"];
        if !elsewhere.contains(&entry.code) && !entry.code.starts_with("tdx-") {
            assert!(denied.contains(entry.code) && passed.contains(entry.code), "{} has no row", entry.code);
        }
    }
}

trait ConcatRows {
    fn concat_rows(self) -> Vec<Row>;
}

impl<const N: usize> ConcatRows for [Vec<Row>; N] {
    fn concat_rows(self) -> Vec<Row> {
        self.into_iter().flatten().collect()
    }
}

#[test]
fn all_that_is_wrong_is_reported_in_the_order_of_the_table() {
    let row = deny!("much at once", |s| {
        s.role = Role::WholeVm;
        s.claims.guest_policy.debug = true;
        s.claims.measurement = [0; 48];
        s.claims.vmpl = 3;
        s.claims.launch_tcb.bootloader = 0;
    } => ["role", "snp-measurement", "snp-debug", "snp-tcb-launch", "snp-vmpl"]);
    let checks = run(&row);
    assert_eq!(failed(&checks), row.fails);
    let order = |code| policies::codes::CODES.iter().position(|entry| entry.code == code).unwrap();
    assert!(checks.windows(2).all(|pair| order(pair[0].code) < order(pair[1].code)), "each check once, in order");
}

#[test]
fn a_check_says_what_was_expected_and_found() {
    let row = deny!("old microcode", |s| s.claims.reported_tcb.microcode = 81 => []);
    let check = run(&row).into_iter().find(|check| check.code == "snp-tcb-reported").unwrap();
    assert_eq!(check.expected, "at least bootloader 10 tee 0 snp 22 microcode 82");
    assert_eq!(check.found, "bootloader 10 tee 0 snp 22 microcode 81");
    let json = serde_json::to_value(&check).unwrap();
    assert_eq!((json["code"].as_str(), json["verdict"].as_str()), (Some("snp-tcb-reported"), Some("failed")));
    let checks = run(&pass!("", |_| ()));
    let measurement = checks.iter().find(|check| check.code == "snp-measurement").unwrap();
    let (first, second, third) = ("a1".repeat(48), "a2".repeat(48), "a3".repeat(48));
    assert_eq!(measurement.expected, format!("one of llama-runtime-1: {first}; llama-runtime-2: {second} {third}"));
    assert_eq!(measurement.found, format!("{first} (llama-runtime-1)"));
}

#[test]
fn without_a_situation_the_rules_that_need_one_are_left_out_by_name() {
    let subject = genoa();
    let claims = PlatformClaims::Snp(subject.claims);
    let codes = |policy: &Policy| policy.examine(&claims, None, None, subject.at).iter().map(|check| check.code).collect::<Vec<_>>();
    let policy = policy(&[]);
    assert_eq!(policy.left_out(), ["record-publisher", "role", "configuration"]);
    assert!(codes(&policy).iter().all(|code| !policy.left_out().contains(code)));
    assert!(codes(&policy).contains(&"snp-host-data"));
    let list = format!("[\"{}\"]", "d1".repeat(32));
    let policy = self::policy(&[(list, "\"configuration-digest\"".into())]);
    assert_eq!(policy.left_out(), ["record-publisher", "role", "configuration", "snp-host-data"]);
    assert!(codes(&policy).iter().all(|code| !policy.left_out().contains(code)));
}

#[test]
fn a_set_of_thousands_costs_no_more_than_a_lookup() {
    let values: Vec<_> = (0u32..5000).map(|number| format!("\"{}\"", hex_of(number))).collect();
    let set = format!("llama-runtime-1 = [\"{}\"]", "a1".repeat(48));
    let policy = policy(&[(set.clone(), format!("{set}\nmany = [{}]", values.join(",\n")))]);
    let mut subject = genoa();
    subject.claims.measurement[..4].copy_from_slice(&4999u32.to_be_bytes());
    subject.claims.measurement[4..].fill(0x77);
    let claims = PlatformClaims::Snp(subject.claims);
    let checks = policy.examine(&claims, None, None, subject.at);
    let check = checks.iter().find(|check| check.code == "snp-measurement").unwrap();
    assert!(check.found.ends_with("(many)"), "{}", check.found);
    assert_eq!(check.expected, "one of llama-runtime-1: 1 values; llama-runtime-2: 2 values; many: 5000 values");
}

fn hex_of(number: u32) -> String {
    format!("{number:08x}{}", "77".repeat(44))
}
