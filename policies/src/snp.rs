//! The rules for AMD SEV-SNP, in the order of [`crate::codes::CODES`]: standards of the report are `attestation`'s to check,
//! what the report says is judged here.

use attestation::{FirmwareVersion, ProductLine, SigningKeyKind, SnpClaims, Tcb};
use protocol::time::UnixTime;

use crate::calendar::{Baseline, Calendar};
use crate::checks::{Checks, exposure, host_value, listed, named, needs_configuration, passed_if};
use crate::codes::{self, Code};
use crate::decision::Subject;
use crate::rules::{Exposure, Floor, IdBlock, PLATFORM_BITS, Product, Protection, Snp};
use crate::sets::List;

/// REPORT_ID_MA of a guest without a migration agent (AMD 56860, table "ATTESTATION_REPORT").
const NO_MIGRATION_AGENT: [u8; 32] = [0xff; 32];

/// The codes of the rules here that read the guest's situation.
pub(crate) fn needs_situation(rules: &Snp) -> Option<&'static str> {
    needs_configuration(&rules.host_data).then_some(codes::SNP_HOST_DATA.code)
}

/// Runs every rule.
pub(crate) fn run(rules: &Snp, claims: &SnpClaims, subject: &Subject<'_>, checks: &mut Checks) {
    let product = rules.products.of(claims.product);
    product_and_key(rules, claims, product, checks);
    identity(rules, claims, checks);
    guest_policy(rules, claims, checks);
    if let Some(product) = product {
        let baseline = calendar(rules, product, claims, subject, checks);
        tcb(product, baseline, [&claims.committed_tcb, &claims.reported_tcb, &claims.launch_tcb], checks);
    }
    firmware(rules, product, claims, checks);
    let levels = format!("one of {}", rules.vmpl.spell_out(ToString::to_string));
    checks.note(&codes::SNP_VMPL, levels, claims.vmpl.to_string(), passed_if(rules.vmpl.contains(&claims.vmpl)));
    let configuration = subject.situation.map(|(_, configuration)| configuration);
    host_value(&codes::SNP_HOST_DATA, &rules.host_data, &claims.host_data, configuration, checks);
    platform_info(rules, claims.platform_info, checks);
    mitigations(&codes::SNP_MITIGATIONS_LAUNCH, rules.launch_mitigations, claims.launch_mitigations, checks);
    mitigations(&codes::SNP_MITIGATIONS_CURRENT, rules.current_mitigations, claims.current_mitigations, checks);
    chip(rules, claims, checks);
    if claims.signing_key == SigningKeyKind::Vlek {
        csp(rules, claims.csp_id.as_deref(), checks);
    }
}

fn product_and_key(rules: &Snp, claims: &SnpClaims, product: Option<&Product>, checks: &mut Checks) {
    let lines = ProductLine::ALL.iter().filter(|line| rules.products.of(**line).is_some());
    let expected = format!("one of {}", lines.map(|line| line.as_str()).collect::<Vec<_>>().join(", "));
    checks.note(&codes::SNP_PRODUCT, expected, claims.product.as_str(), passed_if(product.is_some()));
    let kinds = rules.signing_keys.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" or ");
    let verdict = passed_if(rules.signing_keys.contains(&claims.signing_key));
    checks.note(&codes::SNP_SIGNING_KEY, kinds, claims.signing_key.as_str(), verdict);
}

fn identity(rules: &Snp, claims: &SnpClaims, checks: &mut Checks) {
    if let Some(sets) = &rules.measurements {
        named(&codes::SNP_MEASUREMENT, sets, Some(&claims.measurement), "none", checks);
    }
    if let Some(rules) = &rules.id_block {
        id_block(rules, claims, checks);
    }
}

fn id_block(rules: &IdBlock, claims: &SnpClaims, checks: &mut Checks) {
    if let Some(sets) = &rules.id_keys {
        let digest = Some(&claims.id_key_digest).filter(|digest| **digest != [0; 48]);
        named(&codes::SNP_ID_KEY, sets, digest, "none: the guest was launched without an ID block", checks);
    }
    if let Some(sets) = &rules.author_keys {
        let digest = claims.author_key_digest.as_ref().filter(|_| claims.author_key_enabled);
        named(&codes::SNP_AUTHOR_KEY, sets, digest, "none: no author key was enabled", checks);
    }
    let least = rules.minimum_guest_svn;
    let verdict = passed_if(claims.guest_svn >= least);
    checks.note(&codes::SNP_GUEST_SVN, format!("at least {least}"), claims.guest_svn.to_string(), verdict);
    listed(&codes::SNP_FAMILY_ID, rules.family_ids.as_ref(), &claims.family_id, checks);
    listed(&codes::SNP_IMAGE_ID, rules.image_ids.as_ref(), &claims.image_id, checks);
}

fn guest_policy(rules: &Snp, claims: &SnpClaims, checks: &mut Checks) {
    let (rules, claim) = (&rules.guest_policy, &claims.guest_policy);
    exposure(&codes::SNP_DEBUG, Exposure::Denied, claim.debug, checks);
    exposure(&codes::SNP_MIGRATION, Exposure::Denied, claim.migrate_ma, checks);
    let agent = if claims.report_id_ma == NO_MIGRATION_AGENT { "none".to_owned() } else { hex::encode(claims.report_id_ma) };
    checks.note(&codes::SNP_MIGRATION_AGENT, "none", agent, passed_if(claims.report_id_ma == NO_MIGRATION_AGENT));
    exposure(&codes::SNP_SMT, rules.smt, claim.smt, checks);
    exposure(&codes::SNP_CXL, rules.cxl, claim.cxl, checks);
    protection(&codes::SNP_SINGLE_SOCKET, rules.single_socket, claim.single_socket, checks);
    protection(&codes::SNP_AES_256_XTS, rules.mem_aes_256_xts, claim.mem_aes_256_xts, checks);
    protection(&codes::SNP_RAPL, rules.rapl_disabled, claim.rapl_disabled, checks);
    protection(&codes::SNP_CIPHERTEXT_HIDING, rules.ciphertext_hiding, claim.ciphertext_hiding, checks);
    protection(&codes::SNP_PAGE_SWAP, rules.page_swap_disabled, claim.page_swap_disabled, checks);
    let (major, minor) = rules.minimum_abi;
    let found = (claim.abi_major, claim.abi_minor);
    let verdict = passed_if(found >= rules.minimum_abi);
    checks.note(&codes::SNP_ABI, format!("at least {major}.{minor}"), format!("{}.{}", found.0, found.1), verdict);
}

/// A guest policy bit that demands something of the host.
fn protection(code: &'static Code, rule: Protection, required: bool, checks: &mut Checks) {
    let expected = match rule {
        Protection::Required => "required",
        Protection::Optional => "required or not",
    };
    let found = if required { "required" } else { "not required" };
    checks.note(code, expected, found, passed_if(required || rule == Protection::Optional));
}

/// The calendar's baseline for the line, where a minimum comes from it.
fn calendar<'a>(rules: &Snp, product: &Product, claims: &SnpClaims, subject: &Subject<'a>, checks: &mut Checks) -> Option<&'a Baseline> {
    let (name, grace) = (rules.calendar.as_ref()?, product.grace?);
    let line = claims.product;
    let calendar = subject.calendar.filter(|calendar| calendar.name() == name);
    let baseline = calendar.and_then(|calendar| calendar.in_force(line, grace, subject.at));
    let found = match (subject.calendar, calendar, baseline) {
        (None, ..) => "none in force".to_owned(),
        (Some(other), None, _) => format!("the calendar {}", other.name()),
        (_, Some(calendar), None) => format!("{name} version {}: no baseline of {line}", calendar.version()),
        (_, Some(calendar), Some(baseline)) => {
            format!("{name} version {}: the baseline of {}", calendar.version(), baseline.published)
        }
    };
    let expected = format!("the calendar {name} with a baseline of {line}");
    checks.note(&codes::SNP_TCB_CALENDAR, expected, found, passed_if(baseline.is_some()));
    baseline
}

/// The TCBs that a report has a minimum for: committed, reported, at launch.
pub(crate) type Tcbs<'a> = [&'a Tcb; 3];

fn tcb(product: &Product, baseline: Option<&Baseline>, found: Tcbs<'_>, checks: &mut Checks) {
    let mut note = |code, floor: Floor, found: &Tcb| {
        let floor = match floor {
            Floor::Fixed(floor) => Some(floor),
            Floor::Calendar => baseline.map(|baseline| baseline.minimum),
        };
        let expected = floor.map_or_else(|| "a baseline that counts".to_owned(), |floor| format!("at least {floor}"));
        let verdict = passed_if(floor.is_some_and(|floor| found.is_at_least(&floor)));
        checks.note(code, expected, found.to_string(), verdict);
    };
    for ((code, floor), found) in TCB_CODES.iter().zip(product.floors()).zip(found) {
        note(code, floor, found);
    }
}

/// The codes of their rules.
static TCB_CODES: [&Code; 3] = [&codes::SNP_TCB_COMMITTED, &codes::SNP_TCB_REPORTED, &codes::SNP_TCB_LAUNCH];

/// Each denial that a machine's line and TCBs bring: from when on, by which check, and why. The time is `at` for those that are not the
/// calendar's to date: no table for the line, a fixed minimum, a calendar that is not there.
pub(crate) fn denials(
    rules: &Snp,
    line: ProductLine,
    found: Tcbs<'_>,
    calendar: Option<&Calendar>,
    at: UnixTime,
) -> Vec<(UnixTime, &'static Code, String)> {
    let Some(product) = rules.products.of(line) else {
        return vec![(at, &codes::SNP_PRODUCT, format!("the policy has no table for {line}"))];
    };
    let rows = || TCB_CODES.iter().copied().zip(product.floors()).zip(found);
    let fixed = rows().filter_map(|((code, floor), found)| match floor {
        Floor::Fixed(floor) if !found.is_at_least(&floor) => Some((at, code, format!("{found} is not at least {floor}"))),
        _ => None,
    });
    let dated: Vec<(&'static Code, &Tcb)> =
        rows().filter(|((_, floor), _)| *floor == Floor::Calendar).map(|((code, _), found)| (code, found)).collect();
    fixed.chain(by_calendar(rules, product, line, &dated, calendar, at)).collect()
}

/// The first baseline of the calendar that a machine does not reach.
fn by_calendar(
    rules: &Snp,
    product: &Product,
    line: ProductLine,
    dated: &[(&'static Code, &Tcb)],
    calendar: Option<&Calendar>,
    at: UnixTime,
) -> Option<(UnixTime, &'static Code, String)> {
    let (name, grace) = (rules.calendar.as_ref()?, product.grace?);
    let Some(calendar) = calendar.filter(|calendar| calendar.name() == name) else {
        return Some((at, &codes::SNP_TCB_CALENDAR, format!("the calendar {name} is not in force")));
    };
    let mut baselines = calendar.of(line, grace).peekable();
    if baselines.peek().is_none() {
        return Some((at, &codes::SNP_TCB_CALENDAR, format!("the calendar {name} has no baseline of {line}")));
    }
    baselines.find_map(|(from, baseline)| {
        let (code, _) = dated.iter().find(|(_, found)| !found.is_at_least(&baseline.minimum))?;
        let why = format!("the baseline of {} asks for {}", baseline.published, baseline.minimum);
        Some((from.unwrap_or(at), *code, why))
    })
}

fn firmware(rules: &Snp, product: Option<&Product>, claims: &SnpClaims, checks: &mut Checks) {
    let state = |version: &FirmwareVersion, tcb: &Tcb| format!("version {version} with {tcb}");
    let (current, committed) = (&claims.current_version, &claims.committed_version);
    let same = current == committed && claims.current_tcb == claims.committed_tcb;
    let expected = match rules.provisional_firmware {
        Exposure::Denied => "the current firmware is the committed one",
        Exposure::Accepted => "the current firmware may be provisional",
    };
    let found = if same {
        format!("both {}", state(current, &claims.current_tcb))
    } else {
        format!("current {}, committed {}", state(current, &claims.current_tcb), state(committed, &claims.committed_tcb))
    };
    let verdict = passed_if(same || rules.provisional_firmware == Exposure::Accepted);
    checks.note(&codes::SNP_PROVISIONAL_FIRMWARE, expected, found, verdict);
    if let Some(least) = product.and_then(|product| product.firmware) {
        let verdict = passed_if(*current >= least && *committed >= least);
        let found = format!("current {current}, committed {committed}");
        checks.note(&codes::SNP_FIRMWARE_VERSION, format!("at least {least}"), found, verdict);
    }
}

fn platform_info(rules: &Snp, found: u64, checks: &mut Checks) {
    let (set, clear) = (rules.platform_info.must_be_set, rules.platform_info.must_be_clear);
    if set != 0 {
        checks.note(&codes::SNP_PLATFORM_SET, bit_names(set), bit_names(found), passed_if(found & set == set));
    }
    if clear != 0 {
        checks.note(&codes::SNP_PLATFORM_CLEAR, format!("none of {}", bit_names(clear)), bit_names(found), passed_if(found & clear == 0));
    }
}

/// The names of the bits of a PLATFORM_INFO value, and what is left in hex.
fn bit_names(value: u64) -> String {
    let mut names: Vec<String> = PLATFORM_BITS.iter().filter(|(bit, _)| value & bit != 0).map(|(_, name)| (*name).to_owned()).collect();
    let unnamed = PLATFORM_BITS.iter().fold(value, |left, (bit, _)| left & !bit);
    if unnamed != 0 {
        names.push(format!("{unnamed:#x}"));
    }
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn mitigations(code: &'static Code, mask: Option<u64>, claim: Option<u64>, checks: &mut Checks) {
    let Some(mask) = mask else { return };
    let found = claim.map_or("not reported".to_owned(), |vector| format!("{vector:#x}"));
    let verdict = passed_if(claim.is_some_and(|vector| vector & mask == mask));
    checks.note(code, format!("all bits of {mask:#x}"), found, verdict);
}

fn chip(rules: &Snp, claims: &SnpClaims, checks: &mut Checks) {
    let vlek = claims.signing_key == SigningKeyKind::Vlek;
    let expected = match rules.masked_chips {
        Exposure::Denied => "a chip id, or a VLEK's report",
        Exposure::Accepted => "a chip id or none",
    };
    let found = match (claims.chip_id, vlek) {
        (Some(id), _) => hex::encode(id),
        (None, true) => "none: a VLEK's report".to_owned(),
        (None, false) => "none: masked".to_owned(),
    };
    let verdict = passed_if(claims.chip_id.is_some() || vlek || rules.masked_chips == Exposure::Accepted);
    checks.note(&codes::SNP_CHIP_MASKED, expected, found.as_str(), verdict);
    if let Some(list) = &rules.chips_allowed {
        let verdict = passed_if(claims.chip_id.is_some_and(|id| list.contains(&id)));
        checks.note(&codes::SNP_CHIP_ALLOWED, format!("one of {}", list.in_hex()), found.as_str(), verdict);
    }
    if let Some(list) = &rules.chips_denied {
        // A chip that is not named cannot be shown to be off the list.
        let verdict = passed_if(claims.chip_id.is_some_and(|id| !list.contains(&id)));
        checks.note(&codes::SNP_CHIP_DENIED, format!("none of {}", list.in_hex()), found, verdict);
    }
}

/// Rules on the provider that a VLEK was made for. They always run on a VLEK, so that one accepted without a list would be denied.
fn csp(rules: &Snp, claim: Option<&str>, checks: &mut Checks) {
    let found = claim.unwrap_or("none");
    let names = |list: &List<String>| list.spell_out(Clone::clone);
    let expected = rules.csps_allowed.as_ref().map_or("none".to_owned(), |list| format!("one of {}", names(list)));
    let allowed = claim.zip(rules.csps_allowed.as_ref()).is_some_and(|(id, list)| list.contains(id));
    checks.note(&codes::SNP_CSP_ALLOWED, expected, found, passed_if(allowed));
    if let Some(list) = &rules.csps_denied {
        let verdict = passed_if(claim.is_some_and(|id| !list.contains(id)));
        checks.note(&codes::SNP_CSP_DENIED, format!("none of {}", names(list)), found, verdict);
    }
}
