//! `[tdx]`, from shape to rules.

use toml::Spanned;

use super::{HostWords, accepted_lists, age, allowed, grace, host_value};
use crate::error::Reason;
use crate::language::{self, EventList, EventRules, Number, Text, WordOrList};
use crate::rules::{Event, EventRule, Register, RegisterValue, Tdx, TdxTcb};
use crate::sets::List;
use crate::values::{Fault, advisory, bytes, day, distinct, fault, list, named_sets, number, required, set_name, sets_of};

/// XFAM bits 0 and 1, x87 and SSE: every TD has them (Intel TDX module ABI, "XFAM").
pub(crate) const XFAM_BASE: u64 = 0x3;

/// The features that may be enabled without the key: SSE, AVX, AVX-512, PT, PKRU, CET, user interrupts, LBR and AMX.
const XFAM_DEFAULT: u64 = 0x0006_dbe7;

const LIST_48: &str = "\"all-zero\" or a list of 48-byte values in hex";

const fn only_zero(key: &'static str) -> HostWords {
    HostWords { key, configuration: false, not_trusted: None, expected: LIST_48 }
}

const MRCONFIGID: HostWords = HostWords {
    key: "tdx.mrconfigid",
    configuration: true,
    not_trusted: Some("mrconfigid-not-trusted"),
    expected: "\"all-zero\", \"configuration-digest\", \"mrconfigid-not-trusted\" or a list of 48-byte values in hex",
};

const TD_ID: HostWords = HostWords {
    key: "tdx.td-id",
    configuration: false,
    not_trusted: Some("not-checked"),
    expected: "\"all-zero\", \"not-checked\" or a list of 32-byte values in hex",
};

const DEVICE_INFO: HostWords = HostWords {
    key: "tdx.device-info",
    configuration: false,
    not_trusted: Some("not-checked"),
    expected: "\"all-zero\", \"not-checked\" or a list of 48-byte values in hex",
};

pub(super) fn tdx(table: &Spanned<language::Tdx>) -> Result<Tdx, Fault> {
    let at = table.span().start;
    let table = table.get_ref();
    let zero_or_list = |choice: Option<&WordOrList>, key| host_value::<48>(choice, &only_zero(key));
    let instances = ("tdx.platform-instances.allow", "tdx.platform-instances.deny");
    let (instances_allowed, instances_denied) = accepted_lists(table.platform_instances.as_ref(), instances, bytes)?;
    let (ppids_allowed, ppids_denied) = accepted_lists(table.ppids.as_ref(), ("tdx.ppids.allow", "tdx.ppids.deny"), bytes)?;
    Ok(Tdx {
        measurements: required(named_sets(table.measurements.as_ref(), "tdx.measurements")?, at, "tdx.measurements")?,
        registers: registers(at, table)?,
        modules: named_sets(table.mrseam.as_ref(), "tdx.mrseam")?,
        pks: allowed(table.attributes.pks.as_ref(), "tdx.attributes.pks")?,
        key_locker: allowed(table.attributes.key_locker.as_ref(), "tdx.attributes.key-locker")?,
        perfmon: allowed(table.attributes.perfmon.as_ref(), "tdx.attributes.perfmon")?,
        xfam: xfam(table.xfam.as_ref())?,
        mrconfigid: host_value(table.mrconfigid.as_ref(), &MRCONFIGID)?,
        mrowner: zero_or_list(table.mrowner.as_ref(), "tdx.mrowner")?,
        mrownerconfig: zero_or_list(table.mrownerconfig.as_ref(), "tdx.mrownerconfig")?,
        service_td: zero_or_list(table.mrservicetd.as_ref(), "tdx.mrservicetd")?,
        vm_ids: vm_ids(table.vm_ids.as_ref())?,
        td_id: host_value(table.td_id.as_ref(), &TD_ID)?,
        device_info: host_value(table.device_info.as_ref(), &DEVICE_INFO)?,
        fmspcs: list(table.fmspcs.as_ref(), "tdx.fmspcs", bytes)?,
        instances_allowed,
        instances_denied,
        ppids_allowed,
        ppids_denied,
        smt: allowed(table.smt.as_ref(), "tdx.smt")?,
        tcb: tcb(&table.tcb)?,
        collateral: age(table.collateral_max_age.as_ref(), "tdx.collateral-max-age")?,
    })
}

fn xfam(mask: Option<&Number>) -> Result<u64, Fault> {
    let Some(mask) = mask else { return Ok(XFAM_DEFAULT) };
    let read: u64 = number(mask, "tdx.xfam", (1, u64::MAX), ("0x1", "0x7fff_ffff_ffff_ffff"))?;
    if read & XFAM_BASE == XFAM_BASE { Ok(read) } else { fault(mask.span().start, Reason::XfamWithoutBase) }
}

/// Virtual machines of a partitioned TD; 0, the TD itself, without the key.
fn vm_ids(ids: Option<&Spanned<Vec<Number>>>) -> Result<List<u8>, Fault> {
    let Some(ids) = ids else { return Ok(List::new(vec![0])) };
    let read = ids.get_ref().iter().map(|id| Ok((id.span().start, number(id, "tdx.vm-ids", (0, 3), ("0", "3"))?)));
    distinct(read.collect::<Result<_, _>>()?, ids.span().start, "tdx.vm-ids").map(List::new)
}

fn registers(at: usize, table: &language::Tdx) -> Result<[Register; 4], Fault> {
    let language::Registers { rtmr0, rtmr1, rtmr2, rtmr3 } = &table.rtmrs;
    let events = &table.events;
    Ok([
        register(at, ("rtmr0", "tdx.rtmrs.rtmr0", "tdx.events.rtmr0"), rtmr0.as_ref(), events.rtmr0.as_ref())?,
        register(at, ("rtmr1", "tdx.rtmrs.rtmr1", "tdx.events.rtmr1"), rtmr1.as_ref(), events.rtmr1.as_ref())?,
        register(at, ("rtmr2", "tdx.rtmrs.rtmr2", "tdx.events.rtmr2"), rtmr2.as_ref(), events.rtmr2.as_ref())?,
        register(at, ("rtmr3", "tdx.rtmrs.rtmr3", "tdx.events.rtmr3"), rtmr3.as_ref(), events.rtmr3.as_ref())?,
    ])
}

/// One register's rules: a value, events, or the word that waives both.
fn register(
    at: usize,
    (register, value_key, events_key): (&'static str, &'static str, &'static str),
    value: Option<&Spanned<language::Register>>,
    events: Option<&Spanned<EventRules>>,
) -> Result<Register, Fault> {
    let rules = Register {
        value: value.map(|value| register_value(value, value_key)).transpose()?,
        events: events.map(|events| event_rule(events, register, events_key)).transpose()?,
    };
    match (&rules, value) {
        (Register { value: None, events: None }, _) => fault(at, Reason::SilentRegister { register }),
        (Register { value: Some(RegisterValue::NotChecked), events: Some(_) }, Some(value)) => {
            fault(value.span().start, Reason::RegisterNotCheckedWithEvents { register })
        }
        _ => Ok(rules),
    }
}

fn register_value(value: &Spanned<language::Register>, key: &'static str) -> Result<RegisterValue, Fault> {
    let at = value.span().start;
    match value.get_ref() {
        language::Register::Word(word) => match word.as_str() {
            "all-zero" => Ok(RegisterValue::AllZero),
            "not-checked" => Ok(RegisterValue::NotChecked),
            found => fault(at, Reason::Word { key, found: found.to_owned(), expected: "\"all-zero\", \"not-checked\" or named sets" }),
        },
        language::Register::Sets(sets) => sets_of(sets, at, key, bytes::<48>).map(RegisterValue::OneOf),
    }
}

fn event_rule(rules: &Spanned<EventRules>, register: &'static str, key: &'static str) -> Result<EventRule, Fault> {
    let at = rules.span().start;
    let EventRules { sequences, allow, require } = rules.get_ref();
    match (sequences, allow, require) {
        (Some(sequences), None, None) => {
            if sequences.get_ref().is_empty() {
                return fault(sequences.span().start, Reason::Empty { key });
            }
            let mut read = Vec::new();
            for (name, steps) in sequences.get_ref() {
                // The same event may stand in a sequence more than once.
                let steps = events(steps, key)?.into_iter().map(|(_, event)| event).collect();
                read.push((set_name(name)?.to_string(), steps));
            }
            Ok(EventRule::Sequences(read))
        }
        (None, None, None) | (Some(_), _, _) => fault(at, Reason::EventRules { register }),
        (None, allow, require) => {
            let side = |side: Option<&EventList>| match side {
                None => Ok(Vec::new()),
                Some(list) => distinct(events(list, key)?, list.span().start, key),
            };
            let required = side(require.as_ref())?;
            let mut all = side(allow.as_ref())?;
            all.extend(required.iter().cloned());
            all.sort_unstable();
            all.dedup();
            Ok(EventRule::Allowed { allowed: List::new(all), required })
        }
    }
}

/// TCG PC Client Platform Firmware Profile, section 10.4.1.
const EV_NO_ACTION: u32 = 3;

fn events(list: &EventList, key: &'static str) -> Result<Vec<(usize, Event)>, Fault> {
    if list.get_ref().is_empty() {
        return fault(list.span().start, Reason::Empty { key });
    }
    let event = |event: &Spanned<language::Event>| {
        let language::Event { kind, digest } = event.get_ref();
        let kind = number(kind, key, (0, u32::MAX), ("0", "0xffff_ffff"))?;
        if kind == EV_NO_ACTION {
            return fault(event.span().start, Reason::Remark { key });
        }
        Ok((event.span().start, Event { kind, digest: bytes(digest, key)? }))
    };
    list.get_ref().iter().map(event).collect()
}

fn tcb(table: &language::TdxTcb) -> Result<TdxTcb, Fault> {
    Ok(TdxTcb {
        sw_hardening: accepted(table.accept.sw_hardening.as_ref())?,
        configuration: accepted(table.accept.configuration.as_ref())?,
        configuration_and_sw_hardening: accepted(table.accept.configuration_and_sw_hardening.as_ref())?,
        grace: table.out_of_date_grace.as_ref().map(|text| grace(text, "tdx.tcb.out-of-date-grace")).transpose()?,
        denied_advisories: list(table.denied_advisories.as_ref(), "tdx.tcb.denied-advisories", advisory)?,
        not_before: table.not_before.as_ref().map(|text: &Text| day(text, "tdx.tcb.not-before")).transpose()?,
        minimum_evaluation: table
            .minimum_evaluation_number
            .as_ref()
            .map(|value| number(value, "tdx.tcb.minimum-evaluation-number", (1, u32::MAX), ("1", "4294967295")))
            .transpose()?,
    })
}

/// The advisories with which a status is accepted. Here an empty list says something: the status, and no advisory.
fn accepted(texts: Option<&language::Texts>) -> Result<Option<List<String>>, Fault> {
    match texts {
        Some(texts) if texts.get_ref().is_empty() => Ok(Some(List::new(Vec::new()))),
        texts => list(texts, "tdx.tcb.accept", advisory),
    }
}
