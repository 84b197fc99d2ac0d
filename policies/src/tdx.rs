//! The rules for Intel TDX, in the order of [`crate::codes::CODES`]: what the quote and Intel's collateral say is judged here.

use attestation::{CollateralSource, EventLog, MeasuredEvent, Revocation, TcbStatus, TcbVerdict, TdAttributes, TdBody, TdxClaims};
use protocol::time::UnixTime;

use crate::checks::{Checks, compare, exposure, host_value, listed, named, needs_configuration, passed_if};
use crate::codes::{self, Code};
use crate::compile::XFAM_BASE;
use crate::decision::{Subject, Verdict};
use crate::general::{self, words};
use crate::rules::{Age, Event, EventRule, Exposure, HostValue, Register, RegisterValue, Tdx, TdxTcb};
use crate::sets::List;

/// TDATTRIBUTES that the language has a rule for; any other is denied.
const KNOWN_ATTRIBUTES: u64 = TdAttributes::UNTRUSTED
    | TdAttributes::SEPT_VE_DISABLE
    | TdAttributes::MIGRATABLE
    | TdAttributes::PKS
    | TdAttributes::KEY_LOCKER
    | TdAttributes::PERFMON;

/// The codes of the registers' rules, on the value and on the events.
static REGISTERS: [(&Code, &Code); 4] = [
    (&codes::TDX_RTMR0, &codes::TDX_RTMR0_EVENTS),
    (&codes::TDX_RTMR1, &codes::TDX_RTMR1_EVENTS),
    (&codes::TDX_RTMR2, &codes::TDX_RTMR2_EVENTS),
    (&codes::TDX_RTMR3, &codes::TDX_RTMR3_EVENTS),
];

/// The codes of the rules here that read the guest's situation.
pub(crate) fn needs_situation(rules: &Tdx) -> Option<&'static str> {
    needs_configuration(&rules.mrconfigid).then_some(codes::TDX_MRCONFIGID.code)
}

/// Runs every rule. `lists` is the policy's rule on revocation lists.
pub(crate) fn run(rules: &Tdx, lists: Age, claims: &TdxClaims, subject: &Subject<'_>, checks: &mut Checks) {
    named(&codes::TDX_MEASUREMENT, &rules.measurements, Some(&claims.mrtd), "none", checks);
    for (number, ((rule, found), codes)) in (0u8..).zip(rules.registers.iter().zip(&claims.rtmrs).zip(REGISTERS)) {
        register(codes, rule, (number, found), &claims.event_log, checks);
    }
    if let Some(sets) = &rules.modules {
        named(&codes::TDX_MRSEAM, sets, Some(&claims.mrseam), "none", checks);
    }
    attributes(rules, claims.td_attributes.raw, checks);
    xfam(rules.xfam, claims.xfam, checks);
    let configuration = subject.situation.map(|(_, configuration)| configuration);
    host_value(&codes::TDX_MRCONFIGID, &rules.mrconfigid, &claims.mrconfigid, configuration, checks);
    host_value(&codes::TDX_MROWNER, &rules.mrowner, &claims.mrowner, None, checks);
    host_value(&codes::TDX_MROWNERCONFIG, &rules.mrownerconfig, &claims.mrownerconfig, None, checks);
    service_td(rules, claims, checks);
    extended(rules, claims, checks);
    platform(rules, claims, checks);
    let TdxClaims { tcb, tcb_info, qe_identity, root_revocation, .. } = claims;
    standing(rules, lists, Standing { tcb, documents: [tcb_info, qe_identity], root_revocation: *root_revocation }, subject.at, checks);
}

/// What Intel's collateral says of a platform, on which time bears.
#[derive(Clone, Copy)]
pub(crate) struct Standing<'a> {
    pub(crate) tcb: &'a TcbVerdict,
    /// TCB info and QE identity.
    pub(crate) documents: [&'a CollateralSource; 2],
    pub(crate) root_revocation: Revocation,
}

/// The rules on it.
pub(crate) fn standing(rules: &Tdx, lists: Age, standing: Standing<'_>, at: UnixTime, checks: &mut Checks) {
    tcb(&rules.tcb, standing, at, checks);
    collateral(rules.collateral, standing.documents, at, checks);
    root_revocation(lists, standing.root_revocation, at, checks);
}

fn register(
    (value_code, events_code): (&'static Code, &'static Code),
    rule: &Register,
    (number, found): (u8, &[u8; 48]),
    log: &EventLog,
    checks: &mut Checks,
) {
    match &rule.value {
        Some(RegisterValue::OneOf(sets)) => named(value_code, sets, Some(found), "none", checks),
        Some(RegisterValue::AllZero) => {
            checks.note(value_code, "all zero: never extended", hex::encode(found), passed_if(*found == [0; 48]));
        }
        Some(RegisterValue::NotChecked) => checks.note(value_code, "anything: not-checked", hex::encode(found), Verdict::Passed),
        None => {}
    }
    let Some(rule) = &rule.events else { return };
    let EventLog::Replayed { events } = log else {
        return checks.note(events_code, expected_events(rule), "no event log", Verdict::Failed);
    };
    let own: Vec<Event> = events.iter().filter(|event| event.rtmr == number).map(event).collect();
    let (found, verdict) = judge_events(rule, &own);
    checks.note(events_code, expected_events(rule), found, verdict);
}

fn event(event: &MeasuredEvent) -> Event {
    Event { kind: event.kind, digest: event.digest }
}

fn in_words(event: &Event) -> String {
    format!("{:#010x} {}", event.kind, hex::encode(event.digest))
}

fn expected_events(rule: &EventRule) -> String {
    match rule {
        EventRule::Sequences(sequences) => {
            let each = sequences.iter().map(|(name, steps)| format!("{name}: {}", counted(steps.len())));
            format!("exactly the events of one of {}", each.collect::<Vec<_>>().join("; "))
        }
        EventRule::Allowed { allowed, required } => {
            format!("{} required; none but {}", counted(required.len()), allowed.spell_out(in_words))
        }
    }
}

fn counted(number: usize) -> String {
    format!("{number} event{}", if number == 1 { "" } else { "s" })
}

fn judge_events(rule: &EventRule, own: &[Event]) -> (String, Verdict) {
    match rule {
        EventRule::Sequences(sequences) => {
            if let Some((name, _)) = sequences.iter().find(|(_, steps)| steps == own) {
                return (format!("{} ({name})", counted(own.len())), Verdict::Passed);
            }
            let common = |steps: &[Event]| steps.iter().zip(own).take_while(|(step, own)| step == own).count();
            let longest = sequences.iter().map(|(_, steps)| common(steps)).max().unwrap_or(0);
            let found = match own.get(longest) {
                Some(other) => format!("{}; the first that fits none is number {}: {}", counted(own.len()), longest + 1, in_words(other)),
                None => format!("{}, where more are expected", counted(own.len())),
            };
            (found, Verdict::Failed)
        }
        EventRule::Allowed { allowed, required } => {
            let unexpected = own.iter().find(|event| !allowed.contains(*event));
            let missing = required.iter().find(|event| !own.contains(event));
            let mut found = counted(own.len());
            if let Some(event) = unexpected {
                found = format!("{found}; not expected: {}", in_words(event));
            }
            if let Some(event) = missing {
                found = format!("{found}; missing: {}", in_words(event));
            }
            (found, passed_if(unexpected.is_none() && missing.is_none()))
        }
    }
}

fn attributes(rules: &Tdx, found: u64, checks: &mut Checks) {
    let bits = |mask: u64| format!("{:#x}", found & mask);
    let untrusted = found & TdAttributes::UNTRUSTED;
    checks.note(&codes::TDX_DEBUG, "byte 0 of TDATTRIBUTES is zero", bits(TdAttributes::UNTRUSTED), passed_if(untrusted == 0));
    let disabled = found & TdAttributes::SEPT_VE_DISABLE != 0;
    checks.note(&codes::TDX_SEPT_VE_DISABLE, "set", if disabled { "set" } else { "not set" }, passed_if(disabled));
    exposure(&codes::TDX_MIGRATABLE, Exposure::Denied, found & TdAttributes::MIGRATABLE != 0, checks);
    exposure(&codes::TDX_PKS, rules.pks, found & TdAttributes::PKS != 0, checks);
    exposure(&codes::TDX_KEY_LOCKER, rules.key_locker, found & TdAttributes::KEY_LOCKER != 0, checks);
    exposure(&codes::TDX_PERFMON, rules.perfmon, found & TdAttributes::PERFMON != 0, checks);
    let unknown = found & !KNOWN_ATTRIBUTES;
    checks.note(&codes::TDX_ATTRIBUTES, "no bit without a rule", bits(!KNOWN_ATTRIBUTES), passed_if(unknown == 0));
}

fn xfam(mask: u64, found: u64, checks: &mut Checks) {
    let verdict = passed_if(found & XFAM_BASE == XFAM_BASE && found & !mask == 0);
    checks.note(&codes::TDX_XFAM, format!("{XFAM_BASE:#x} set, and none but {mask:#x}"), format!("{found:#x}"), verdict);
}

/// The service TDs that are bound to the guest.
///
/// A TD 1.0 report has no such field. The module makes one only for a TD without service TDs (REPORTTYPE version 0: SERVTD_HASH is not
/// used), so there it says "none" as all zeros do elsewhere. Any other report that lacks the field fails.
fn service_td(rules: &Tdx, claims: &TdxClaims, checks: &mut Checks) {
    let value = match (claims.mrservicetd, claims.body) {
        (Some(value), _) => Some(value),
        (None, TdBody::Td10) => Some([0; 48]),
        (None, TdBody::Td15 | TdBody::Td15Ex) => None,
    };
    let found = match (claims.mrservicetd, claims.body) {
        (Some(value), _) => hex::encode(value),
        (None, TdBody::Td10) => "none: a TD 1.0 report".to_owned(),
        (None, TdBody::Td15 | TdBody::Td15Ex) => "not reported".to_owned(),
    };
    let (expected, verdict) = against(&rules.service_td, value.as_ref());
    checks.note(&codes::TDX_SERVICE_TD, expected, found, verdict);
    let Some(extended) = &claims.extended else { return };
    let pairs = [
        (&extended.initial_service_td_hash, extended.initial_service_td_attributes),
        (&extended.current_service_td_hash, extended.current_service_td_attributes),
    ];
    let holds = |(hash, attributes): (&[u8; 48], u64)| {
        let (_, verdict) = against(&rules.service_td, Some(hash));
        let attributes_fit = if *hash == [0; 48] { attributes == 0 } else { attributes & TdAttributes::UNTRUSTED == 0 };
        verdict == Verdict::Passed && attributes_fit
    };
    let found = pairs.map(|(hash, attributes)| format!("{} with attributes {attributes:#x}", hex::encode(hash)));
    let (expected, _) = against(&rules.service_td, None);
    let verdict = passed_if(pairs.into_iter().all(holds));
    let expected = format!("at launch and now {expected}, not under debug");
    checks.note(&codes::TDX_SERVICE_TD_HISTORY, expected, found.join("; "), verdict);
}

/// A rule without configuration on a value that may be absent.
fn against<const N: usize>(rule: &HostValue<N>, value: Option<&[u8; N]>) -> (String, Verdict) {
    let compared = compare(rule, value.unwrap_or(&[0; N]), None);
    let (expected, verdict) = compared.unwrap_or_else(|| ("the configuration digest".to_owned(), Verdict::Failed));
    (expected, if value.is_some() { verdict } else { Verdict::Failed })
}

/// What a TD 1.5 Ex report alone carries. Other reports say nothing of it: there the strict defaults have nothing to judge, and a list
/// denies.
fn extended(rules: &Tdx, claims: &TdxClaims, checks: &mut Checks) {
    let extended = claims.extended.as_ref();
    if let Some(extended) = extended {
        let ids = format!("one of {}", rules.vm_ids.spell_out(ToString::to_string));
        checks.note(&codes::TDX_VM_ID, ids, extended.vm_id.to_string(), passed_if(rules.vm_ids.contains(&extended.vm_id)));
    }
    carried(&codes::TDX_TD_ID, &rules.td_id, extended.map(|extended| &extended.td_id), checks);
    carried(&codes::TDX_DEVICE_INFO, &rules.device_info, extended.map(|extended| &extended.device_info), checks);
}

fn carried<const N: usize>(code: &'static Code, rule: &HostValue<N>, value: Option<&[u8; N]>, checks: &mut Checks) {
    if value.is_some() || matches!(rule, HostValue::OneOf(_)) {
        let (expected, verdict) = against(rule, value);
        checks.note(code, expected, value.map_or_else(|| "not reported".to_owned(), hex::encode), verdict);
    }
}

fn platform(rules: &Tdx, claims: &TdxClaims, checks: &mut Checks) {
    let platform = &claims.platform;
    listed(&codes::TDX_FMSPC, rules.fmspcs.as_ref(), &platform.fmspc, checks);
    let instance = platform.platform_instance.as_ref();
    allow_and_deny(
        (&codes::TDX_INSTANCE_ALLOWED, rules.instances_allowed.as_ref()),
        (&codes::TDX_INSTANCE_DENIED, rules.instances_denied.as_ref()),
        instance,
        checks,
    );
    allow_and_deny(
        (&codes::TDX_PPID_ALLOWED, rules.ppids_allowed.as_ref()),
        (&codes::TDX_PPID_DENIED, rules.ppids_denied.as_ref()),
        Some(&platform.ppid),
        checks,
    );
    let expected = match rules.smt {
        Exposure::Denied => "off",
        Exposure::Accepted => "on or off",
    };
    let found = platform.smt_enabled.map_or("not reported", |on| if on { "on" } else { "off" });
    let verdict = passed_if(rules.smt == Exposure::Accepted || platform.smt_enabled == Some(false));
    checks.note(&codes::TDX_SMT, expected, found, verdict);
}

fn allow_and_deny<const N: usize>(
    (allow_code, allow): (&'static Code, Option<&List<[u8; N]>>),
    (deny_code, deny): (&'static Code, Option<&List<[u8; N]>>),
    value: Option<&[u8; N]>,
    checks: &mut Checks,
) {
    let found = value.map_or_else(|| "not reported".to_owned(), hex::encode);
    if let Some(list) = allow {
        let verdict = passed_if(value.is_some_and(|value| list.contains(value)));
        checks.note(allow_code, format!("one of {}", list.in_hex()), found.as_str(), verdict);
    }
    if let Some(list) = deny {
        // What is not named cannot be shown to be off the list.
        let verdict = passed_if(value.is_some_and(|value| !list.contains(value)));
        checks.note(deny_code, format!("none of {}", list.in_hex()), found, verdict);
    }
}

/// Whether a status means that a newer TCB is out.
const fn is_out_of_date(status: TcbStatus) -> bool {
    matches!(status, TcbStatus::OutOfDate | TcbStatus::OutOfDateConfigurationNeeded)
}

/// The last second of grace for a platform that stays behind: counted from the day of the TCB that superseded its own. `None` where the
/// status has nothing to do with it, or the policy grants none, or that day is not known.
pub(crate) fn grace_ends(rules: &TdxTcb, status: TcbStatus, superseded: Option<UnixTime>) -> Option<UnixTime> {
    let grace = rules.grace.filter(|_| is_out_of_date(status))?;
    superseded.map(|superseded| superseded.plus(grace))
}

fn tcb(rules: &TdxTcb, Standing { tcb: verdict, documents, .. }: Standing<'_>, at: UnixTime, checks: &mut Checks) {
    // A module or quoting enclave that is out of date hides what the platform's own level says. That has to be accepted all the same.
    let (status, own) = (verdict.status, verdict.platform.status);
    let accepted = TcbStatus::ALL.into_iter().filter(|status| is_accepted(rules, *status));
    let expected = accepted.map(TcbStatus::as_str).collect::<Vec<_>>().join(" or ");
    let found = if own == status { status.to_string() } else { format!("{status}; the platform alone: {own}") };
    let verdict_on_status = passed_if(is_accepted(rules, status) && is_accepted(rules, own));
    checks.note(&codes::TDX_TCB_STATUS, expected, found, verdict_on_status);
    let spell = |advisories: &[String]| if advisories.is_empty() { "none".to_owned() } else { advisories.join(", ") };
    if let Some(list) = accepted_advisories(rules, own) {
        // Those of a part that is out of date are what its period of grace is for.
        let advisories = if own == status { &verdict.advisories } else { &verdict.platform.advisories };
        let verdict = passed_if(advisories.iter().all(|advisory| list.contains(advisory)));
        checks.note(&codes::TDX_TCB_ADVISORIES, format!("none but {}", spelled(list)), spell(advisories), verdict);
    }
    if is_out_of_date(status)
        && let Some(grace) = rules.grace
    {
        let found = match verdict.superseded {
            Some(superseded) => format!("superseded {superseded}, {} ago", words(at.since(superseded))),
            None => "superseded at an unknown time".to_owned(),
        };
        let verdict = passed_if(grace_ends(rules, status, verdict.superseded).is_some_and(|end| at <= end));
        checks.note(&codes::TDX_TCB_GRACE, format!("superseded at most {} ago", words(grace)), found, verdict);
    }
    if let Some(list) = &rules.denied_advisories {
        let free = !verdict.advisories.iter().any(|advisory| list.contains(advisory));
        let found = spell(&verdict.advisories);
        checks.note(&codes::TDX_TCB_DENIED_ADVISORIES, format!("none of {}", spelled(list)), found, passed_if(free));
    }
    if let Some(floor) = rules.not_before {
        checks.note(&codes::TDX_TCB_DATE, format!("{floor} or later"), verdict.date.to_string(), passed_if(verdict.date >= floor));
    }
    if let Some(least) = rules.minimum_evaluation {
        let [info, identity] = documents.map(|document| document.evaluation);
        let verdict = passed_if(info >= least && identity >= least);
        let found = format!("TCB info {info}, QE identity {identity}");
        checks.note(&codes::TDX_TCB_EVALUATION, format!("at least {least}"), found, verdict);
    }
}

fn spelled(advisories: &List<String>) -> String {
    let names = advisories.spell_out(Clone::clone);
    if names.is_empty() { "none".to_owned() } else { names }
}

/// Whether the policy takes a status at all. That a platform also needs other settings is accepted by its own words, grace or not.
const fn is_accepted(rules: &TdxTcb, status: TcbStatus) -> bool {
    match status {
        TcbStatus::UpToDate => true,
        TcbStatus::SwHardeningNeeded => rules.sw_hardening.is_some(),
        TcbStatus::ConfigurationNeeded => rules.configuration.is_some(),
        TcbStatus::ConfigurationAndSwHardeningNeeded => rules.configuration_and_sw_hardening.is_some(),
        TcbStatus::OutOfDate => rules.grace.is_some(),
        TcbStatus::OutOfDateConfigurationNeeded => {
            rules.grace.is_some() && (rules.configuration.is_some() || rules.configuration_and_sw_hardening.is_some())
        }
        TcbStatus::RelaunchAdvised | TcbStatus::RelaunchAdvisedConfigurationNeeded => false,
    }
}

/// The advisories with which a status is accepted, where they are what it is accepted for.
const fn accepted_advisories(rules: &TdxTcb, status: TcbStatus) -> Option<&List<String>> {
    match status {
        TcbStatus::SwHardeningNeeded => rules.sw_hardening.as_ref(),
        TcbStatus::ConfigurationNeeded => rules.configuration.as_ref(),
        TcbStatus::ConfigurationAndSwHardeningNeeded => rules.configuration_and_sw_hardening.as_ref(),
        _ => None,
    }
}

/// The last second at which a document is fresh enough.
pub(crate) fn fresh_until(rule: Age, source: &CollateralSource) -> UnixTime {
    general::fresh_until(rule, source.issued, source.next_update)
}

fn collateral(rule: Age, [tcb_info, qe_identity]: [&CollateralSource; 2], at: UnixTime, checks: &mut Checks) {
    let expected = match rule {
        Age::InForce => "TCB info and QE identity in force".to_owned(),
        Age::AtMost(age) => format!("TCB info and QE identity issued at most {} ago", words(age)),
    };
    let fresh = |source: &CollateralSource| source.issued <= at && at <= fresh_until(rule, source);
    let verdict = passed_if(fresh(tcb_info) && fresh(qe_identity));
    let found = format!("TCB info {tcb_info}; QE identity {qe_identity}");
    checks.note(&codes::TDX_COLLATERAL_AGE, expected, found, verdict);
}

/// The root's list. Intel issues one about once a year, so that a limit that is meant for the other lists does not make it run out
/// before its own due; past that it bounds this list too.
pub(crate) fn root_list_fresh_until(rule: Age, this_update: UnixTime, next_update: UnixTime) -> UnixTime {
    general::fresh_until(rule, this_update, next_update).max(next_update)
}

fn root_revocation(rule: Age, claim: Revocation, at: UnixTime, checks: &mut Checks) {
    let expected = match rule {
        Age::InForce => "a revocation list of the root in force".to_owned(),
        Age::AtMost(age) => format!("a revocation list of the root in force, or issued at most {} ago", words(age)),
    };
    let fresh_until = |this_update, next_update| root_list_fresh_until(rule, this_update, next_update);
    general::list(&codes::TDX_ROOT_REVOCATION, expected, claim, fresh_until, at, checks);
}
