//! Every rule of `[tdx]` over claims: for each code a denial for exactly that reason, and a near miss that passes.
//!
//! Each row takes the full policy and claims that it permits, changes either, and states the codes that must fail.

use attestation::{EventLog, MeasuredEvent, PlatformClaims, Revocation, SecondOpinion, TcbStatus, TdAttributes, TdBody, TdxClaims};
use policies::{Check, Policy, Verdict};
use protocol::ids::{Digest, Role};
use protocol::time::UnixTime;

mod subjects;

use subjects::{NOW, event, tdx};

const FULL: &str = include_str!("tdx.toml");
const DAY: u64 = 86400;

const fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds)
}

/// What a policy looks at: claims as data, and what the transcript would add.
struct Subject {
    claims: TdxClaims,
    role: Role,
    configuration: Digest,
    at: UnixTime,
}

fn events(claims: &mut TdxClaims) -> &mut Vec<MeasuredEvent> {
    match &mut claims.event_log {
        EventLog::Replayed { events } => events,
        EventLog::Absent => panic!("a log"),
    }
}

/// The least that the full policy permits: a TD 1.5 Ex report in a quote of version 5.
fn full() -> Subject {
    Subject { claims: tdx(), role: "workload:chat/llama".parse().unwrap(), configuration: Digest::from([0xc1; 32]), at: at(NOW) }
}

/// One row of the tables.
struct Row {
    place: (u32, &'static str),
    policy: Vec<(String, String)>,
    change: fn(&mut Subject),
    fails: &'static [&'static str],
}

/// As in `rules.rs`.
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
        assert_eq!(text.matches(from).count(), 1, "{from:?} stands once in tdx.toml");
        text = text.replace(from, to);
    }
    Policy::parse(&text).unwrap_or_else(|error| panic!("{error}\nhint: {}", error.hint()))
}

fn failed(checks: &[Check]) -> Vec<&'static str> {
    checks.iter().filter(|check| check.verdict == Verdict::Failed).map(|check| check.code).collect()
}

fn run(row: &Row) -> Vec<Check> {
    let mut subject = full();
    (row.change)(&mut subject);
    let Subject { claims, role, configuration, at } = subject;
    policy(&row.policy).examine(&PlatformClaims::Tdx(claims), Some((&role, &configuration)), None, at)
}

fn check(table: &[Row]) {
    for row in table {
        let (line, why) = row.place;
        let checks = run(row);
        assert_eq!(failed(&checks), row.fails, "line {line}: {why}: {checks:#?}");
    }
}

fn hex(byte: &str, size: usize) -> String {
    byte.repeat(size)
}

fn general() -> Vec<Row> {
    let exceptions = "[\"version-5-quote\"]";
    vec![
        pass!("everything is as the policy asks", |_| ()),
        deny!("another workload", |s| s.role = Role::WholeVm => ["role"]),
        deny!("another configuration", |s| s.configuration = Digest::from([0xc2; 32]) => ["configuration"]),
        deny!("no revocation list", |s| s.claims.revocation = Revocation::Unknown => ["revocation-age"]),
        deny!("no second opinion on a quote that the verifier reads", |s| s.claims.quote_version = 4 => ["second-opinion"]),
        pass!("a second opinion on it", |s| {
            s.claims.quote_version = 4;
            s.claims.second_opinion = SecondOpinion::Agreed;
        }),
        deny!("the exception of another platform"; exceptions => "[\"masked-version-2-report\"]"; |_| () => ["second-opinion"]),
        pass!("any quote, by name"; exceptions => "[\"any-quote\"]"; |s| s.claims.quote_version = 4),
    ]
}

fn identity() -> Vec<Row> {
    let module = format!("[tdx.mrseam]\nmodule-5 = [\"{}\"]\n", hex("a5", 48));
    vec![
        deny!("another MRTD", |s| s.claims.mrtd[47] ^= 1 => ["tdx-measurement"]),
        pass!("an MRTD of the second set", |s| s.claims.mrtd = [0xa3; 48]),
        deny!("another RTMR0", |s| s.claims.rtmrs[0][0] ^= 1 => ["tdx-rtmr0"]),
        pass!("another RTMR0 that is not checked"; format!("rtmr0 = {{ machine = [\"{}\"] }}", hex("b0", 48)) => "rtmr0 = \"not-checked\"";
            |s| s.claims.rtmrs[0][0] ^= 1),
        deny!("another RTMR1"; "rtmr3 = \"all-zero\"" => format!("rtmr3 = \"all-zero\"\nrtmr1 = {{ a = [\"{}\"] }}", hex("b1", 48));
            |s| s.claims.rtmrs[1][5] ^= 1 => ["tdx-rtmr1"]),
        pass!("this RTMR1"; "rtmr3 = \"all-zero\"" => format!("rtmr3 = \"all-zero\"\nrtmr1 = {{ a = [\"{}\"] }}", hex("b1", 48)); |_| ()),
        pass!("another RTMR1 where its events are what is judged", |s| s.claims.rtmrs[1][0] ^= 1),
        deny!("another RTMR2", |s| s.claims.rtmrs[2] = [0xb1; 48] => ["tdx-rtmr2"]),
        deny!("an RTMR3 that was extended", |s| s.claims.rtmrs[3][0] = 1 => ["tdx-rtmr3"]),
        pass!("an untouched RTMR3 by its value"; "rtmr3 = \"all-zero\"" => format!("rtmr3 = {{ none = [\"{}\"] }}", hex("00", 48)); |_| ()),
        deny!("another module", |s| s.claims.mrseam[0] ^= 1 => ["tdx-mrseam"]),
        pass!("another module where none is named"; module => ""; |s| s.claims.mrseam[0] ^= 1),
    ]
}

fn event_log() -> Vec<Row> {
    let rule = |register: &str| format!("{register} = {{ allow = [{{ type = 7, digest = \"{}\" }}] }}", hex("77", 48));
    let (rtmr0, rtmr3) =
        (format!("[tdx.events]\n{}\n[tdx.attributes]", rule("rtmr0")), format!("[tdx.events]\n{}\n[tdx.attributes]", rule("rtmr3")));
    vec![
        deny!("no event log", |s| s.claims.event_log = EventLog::Absent => ["tdx-rtmr1-events", "tdx-rtmr2-events"]),
        pass!("the other sequence", |s| {
            events(&mut s.claims).retain(|event| event.rtmr != 1);
            events(&mut s.claims).push(event(1, 0x8000_0003, 0xe3));
        }),
        deny!("a sequence and one event more", |s| events(&mut s.claims).push(event(1, 4, 0xe2)) => ["tdx-rtmr1-events"]),
        deny!("a sequence and one event less", |s| drop(events(&mut s.claims).pop()) => ["tdx-rtmr1-events"]),
        deny!("a sequence in another order", |s| events(&mut s.claims).swap(1, 3) => ["tdx-rtmr1-events"]),
        deny!("an event of another type", |s| events(&mut s.claims)[1].kind = 4 => ["tdx-rtmr1-events"]),
        deny!("an event with another digest", |s| events(&mut s.claims)[3].digest[0] ^= 1 => ["tdx-rtmr1-events"]),
        deny!("events of another register", |s| events(&mut s.claims)[1].rtmr = 0 => ["tdx-rtmr1-events"]),
        deny!("no event where some are expected", |s| events(&mut s.claims).retain(|event| event.rtmr != 1) => ["tdx-rtmr1-events"]),
        pass!("allowed events in any order and number", |s| {
            events(&mut s.claims).swap(2, 4);
            events(&mut s.claims).push(event(2, 13, 0xe4));
        }),
        pass!("without an event that is allowed and not required", |s| drop(events(&mut s.claims).remove(2))),
        deny!("without the required one", |s| drop(events(&mut s.claims).remove(4)) => ["tdx-rtmr2-events"]),
        deny!("an unexpected event behind all that is required", |s| events(&mut s.claims).push(event(2, 13, 0xe6)) => ["tdx-rtmr2-events"]),
        deny!("an allowed digest under another type", |s| events(&mut s.claims).push(event(2, 14, 0xe4)) => ["tdx-rtmr2-events"]),
        deny!("an event of RTMR0 that no rule names"; "[tdx.attributes]" => rtmr0; |_| () => ["tdx-rtmr0-events"]),
        pass!("the one that it names"; "[tdx.attributes]" => rtmr0; |s| events(&mut s.claims)[0] = event(0, 7, 0x77)),
        pass!("RTMR3 without any event"; "[tdx.attributes]" => rtmr3; |_| ()),
        deny!("RTMR3 with another"; "[tdx.attributes]" => rtmr3; |s| events(&mut s.claims).push(event(3, 7, 0x78)) => ["tdx-rtmr3-events"]),
    ]
}

fn attributes() -> Vec<Row> {
    let mask = "xfam = 0x600e7\n";
    vec![
        deny!("a TD that the host may debug", |s| s.claims.td_attributes.raw |= TdAttributes::DEBUG => ["tdx-debug"]),
        deny!("a TD under profiling", |s| s.claims.td_attributes.raw |= 0x10 => ["tdx-debug"]),
        deny!("a reserved bit of byte 0", |s| s.claims.td_attributes.raw |= 0x80 => ["tdx-debug"]),
        deny!("a host that may inject exceptions", |s| s.claims.td_attributes.raw = 0 => ["tdx-sept-ve-disable"]),
        deny!("a migratable TD", |s| s.claims.td_attributes.raw |= TdAttributes::MIGRATABLE => ["tdx-migratable"]),
        deny!("protection keys", |s| s.claims.td_attributes.raw |= TdAttributes::PKS => ["tdx-pks"]),
        deny!("protection keys by default"; "pks = \"denied\"\n" => ""; |s| s.claims.td_attributes.raw |= TdAttributes::PKS => ["tdx-pks"]),
        pass!("protection keys where they are allowed"; "pks = \"denied\"" => "pks = \"allowed\"";
            |s| s.claims.td_attributes.raw |= TdAttributes::PKS),
        deny!("key locker", |s| s.claims.td_attributes.raw |= TdAttributes::KEY_LOCKER => ["tdx-key-locker"]),
        deny!("key locker by default"; "key-locker = \"denied\"\n" => "";
            |s| s.claims.td_attributes.raw |= TdAttributes::KEY_LOCKER => ["tdx-key-locker"]),
        pass!("key locker where it is allowed"; "key-locker = \"denied\"" => "key-locker = \"allowed\"";
            |s| s.claims.td_attributes.raw |= TdAttributes::KEY_LOCKER),
        deny!("performance counters", |s| s.claims.td_attributes.raw |= TdAttributes::PERFMON => ["tdx-perfmon"]),
        deny!("performance counters by default"; "perfmon = \"denied\"\n" => "";
            |s| s.claims.td_attributes.raw |= TdAttributes::PERFMON => ["tdx-perfmon"]),
        pass!("performance counters where they are allowed"; "perfmon = \"denied\"" => "perfmon = \"allowed\"";
            |s| s.claims.td_attributes.raw |= TdAttributes::PERFMON),
        deny!("an attribute without a rule", |s| s.claims.td_attributes.raw |= 1 << 27 => ["tdx-attributes"]),
        deny!("an attribute that nobody knows", |s| s.claims.td_attributes.raw |= 1 << 40 => ["tdx-attributes"]),
        deny!("a feature outside the mask", |s| s.claims.xfam |= 0x200 => ["tdx-xfam"]),
        pass!("the same feature by default"; mask => ""; |s| s.claims.xfam |= 0x200),
        deny!("a feature outside the default"; mask => ""; |s| s.claims.xfam |= 1 << 10 => ["tdx-xfam"]),
        deny!("a TD without SSE", |s| s.claims.xfam = 0x1 => ["tdx-xfam"]),
        pass!("a TD with the least", |s| s.claims.xfam = 0x3),
    ]
}

fn host_values() -> Vec<Row> {
    let (config, owner, owner_config) = (
        format!("[\"{}\"]", hex("d1", 48)),
        format!("mrowner = [\"{}\"]\n", hex("d2", 48)),
        format!("mrownerconfig = [\"{}\"]\n", hex("d3", 48)),
    );
    let config_key = format!("mrconfigid = {config}\n");
    vec![
        deny!("another MRCONFIGID", |s| s.claims.mrconfigid[47] ^= 1 => ["tdx-mrconfigid"]),
        deny!("MRCONFIGID by default"; config_key => ""; |_| () => ["tdx-mrconfigid"]),
        pass!("no MRCONFIGID by default"; config_key => ""; |s| s.claims.mrconfigid = [0; 48]),
        deny!("an MRCONFIGID that is not the configuration"; config => "\"configuration-digest\""; |_| () => ["tdx-mrconfigid"]),
        pass!("an MRCONFIGID that is the configuration"; config => "\"configuration-digest\""; |s| {
            s.claims.mrconfigid = [0; 48];
            s.claims.mrconfigid[..32].fill(0xc1);
        }),
        deny!("the configuration, and something behind it"; config => "\"configuration-digest\""; |s| s.claims.mrconfigid = [0xc1; 48]
            => ["tdx-mrconfigid"]),
        pass!("any MRCONFIGID by its name"; config => "\"mrconfigid-not-trusted\""; |s| s.claims.mrconfigid = [7; 48]),
        deny!("another MROWNER", |s| s.claims.mrowner[0] ^= 1 => ["tdx-mrowner"]),
        deny!("MROWNER by default"; owner => ""; |_| () => ["tdx-mrowner"]),
        pass!("no MROWNER by default"; owner => ""; |s| s.claims.mrowner = [0; 48]),
        deny!("another MROWNERCONFIG", |s| s.claims.mrownerconfig[0] ^= 1 => ["tdx-mrownerconfig"]),
        deny!("MROWNERCONFIG by default"; owner_config => ""; |_| () => ["tdx-mrownerconfig"]),
        pass!("no MROWNERCONFIG by default"; owner_config => ""; |s| s.claims.mrownerconfig = [0; 48]),
    ]
}

/// A report of an older body, with what it does not carry.
fn body(subject: &mut Subject, body: TdBody) {
    subject.claims.body = body;
    subject.claims.extended = None;
    if body == TdBody::Td10 {
        subject.claims.mrservicetd = None;
        subject.claims.tee_tcb_svn_2 = None;
    }
}

fn unbound(subject: &mut Subject) {
    subject.claims.mrservicetd = Some([0; 48]);
    let extended = subject.claims.extended.as_mut().unwrap();
    (extended.initial_service_td_hash, extended.initial_service_td_attributes) = ([0; 48], 0);
    (extended.current_service_td_hash, extended.current_service_td_attributes) = ([0; 48], 0);
}

fn extended() -> Vec<Row> {
    let service = format!("mrservicetd = [\"{}\"]\n", hex("d4", 48));
    let (td_id, device) = (format!("td-id = [\"{}\"]\n", hex("d5", 32)), format!("device-info = [\"{}\"]\n", hex("d6", 48)));
    vec![
        deny!("another service TD", |s| s.claims.mrservicetd = Some([9; 48]) => ["tdx-service-td"]),
        deny!("a service TD by default"; service => ""; |_| () => ["tdx-service-td", "tdx-service-td-history"]),
        pass!("no service TD by default"; service => ""; unbound),
        deny!("no service TD where one is listed", unbound => ["tdx-service-td", "tdx-service-td-history"]),
        pass!("a TD 1.0 report, which is made for TDs without service TDs"; service => "", td_id => "", device => ""; |s| body(s, TdBody::Td10)),
        deny!("a TD 1.0 report where a service TD is listed"; td_id => "", device => ""; |s| body(s, TdBody::Td10) => ["tdx-service-td"]),
        deny!("a TD 1.5 report that lacks the field"; service => "", td_id => "", device => ""; |s| {
            body(s, TdBody::Td15);
            s.claims.mrservicetd = None;
        } => ["tdx-service-td"]),
        deny!("another service TD at launch", |s| s.claims.extended.as_mut().unwrap().initial_service_td_hash[0] ^= 1
            => ["tdx-service-td-history"]),
        deny!("another service TD now", |s| s.claims.extended.as_mut().unwrap().current_service_td_hash[0] ^= 1
            => ["tdx-service-td-history"]),
        deny!("a service TD under debug", |s| s.claims.extended.as_mut().unwrap().current_service_td_attributes |= 1
            => ["tdx-service-td-history"]),
        deny!("attributes of a service TD that is not there"; service => ""; |s| {
            unbound(s);
            s.claims.extended.as_mut().unwrap().current_service_td_attributes = 1 << 28;
        } => ["tdx-service-td-history"]),
        deny!("a virtual machine that is not named", |s| s.claims.extended.as_mut().unwrap().vm_id = 2 => ["tdx-vm-id"]),
        deny!("a virtual machine by default"; "vm-ids = [0, 1]\n" => ""; |_| () => ["tdx-vm-id"]),
        pass!("the TD itself by default"; "vm-ids = [0, 1]\n" => ""; |s| s.claims.extended.as_mut().unwrap().vm_id = 0),
        deny!("another TD", |s| s.claims.extended.as_mut().unwrap().td_id[0] ^= 1 => ["tdx-td-id"]),
        deny!("a TD id by default"; td_id => ""; |_| () => ["tdx-td-id"]),
        pass!("no TD id by default"; td_id => ""; |s| s.claims.extended.as_mut().unwrap().td_id = [0; 32]),
        pass!("any TD id by its name"; td_id => "td-id = \"not-checked\"\n"; |s| s.claims.extended.as_mut().unwrap().td_id = [1; 32]),
        deny!("other devices", |s| s.claims.extended.as_mut().unwrap().device_info[0] ^= 1 => ["tdx-device-info"]),
        deny!("devices by default"; device => ""; |_| () => ["tdx-device-info"]),
        pass!("no devices by default"; device => ""; |s| s.claims.extended.as_mut().unwrap().device_info = [0; 48]),
        pass!("any devices by their name"; device => "device-info = \"not-checked\"\n";
            |s| s.claims.extended.as_mut().unwrap().device_info = [1; 48]),
        deny!("lists that a TD 1.5 report cannot meet", |s| body(s, TdBody::Td15) => ["tdx-td-id", "tdx-device-info"]),
        pass!("a TD 1.5 report without such lists"; td_id => "", device => ""; |s| body(s, TdBody::Td15)),
    ]
}

fn platform() -> Vec<Row> {
    let instances = format!("allow = [\"{}\"]\n", hex("f1", 16));
    let ppids = format!("allow = [\"{}\"]\n", hex("f3", 16));
    let all_instances = format!("[tdx.platform-instances]\n{instances}deny = [\"{}\"]\n", hex("f2", 16));
    vec![
        deny!("another platform", |s| s.claims.platform.fmspc[0] ^= 1 => ["tdx-fmspc"]),
        pass!("the other platform of the list", |s| s.claims.platform.fmspc[0] = 0x90),
        pass!("any platform without a list"; "fmspcs = [\"b0c06f000000\", \"90c06f000000\"]\n" => ""; |s| s.claims.platform.fmspc[0] ^= 1),
        deny!("another machine", |s| s.claims.platform.platform_instance = Some([9; 16]) => ["tdx-platform-instance-allowed"]),
        pass!("any machine but a denied one"; instances => ""; |s| s.claims.platform.platform_instance = Some([9; 16])),
        deny!("a denied machine"; instances => ""; |s| s.claims.platform.platform_instance = Some([0xf2; 16])
            => ["tdx-platform-instance-denied"]),
        deny!("a machine without a name", |s| s.claims.platform.platform_instance = None
            => ["tdx-platform-instance-allowed", "tdx-platform-instance-denied"]),
        pass!("a machine without a name where none is asked for"; all_instances => ""; |s| s.claims.platform.platform_instance = None),
        deny!("another processor", |s| s.claims.platform.ppid = [9; 16] => ["tdx-ppid-allowed"]),
        pass!("any processor but a denied one"; ppids => ""; |s| s.claims.platform.ppid = [9; 16]),
        deny!("a denied processor"; ppids => ""; |s| s.claims.platform.ppid = [0xf4; 16] => ["tdx-ppid-denied"]),
        deny!("SMT", |s| s.claims.platform.smt_enabled = Some(true) => ["tdx-smt"]),
        deny!("SMT by default"; "smt = \"denied\"\n" => ""; |s| s.claims.platform.smt_enabled = Some(true) => ["tdx-smt"]),
        deny!("a certificate that does not say", |s| s.claims.platform.smt_enabled = None => ["tdx-smt"]),
        pass!("SMT where it is allowed"; "smt = \"denied\"" => "smt = \"allowed\""; |s| s.claims.platform.smt_enabled = Some(true)),
        pass!("a certificate that does not say where it is allowed"; "smt = \"denied\"" => "smt = \"allowed\"";
            |s| s.claims.platform.smt_enabled = None),
    ]
}

/// The platform's own level says this, and no other part says anything.
fn status(subject: &mut Subject, status: TcbStatus, advisories: &[&str]) {
    let tcb = &mut subject.claims.tcb;
    (tcb.status, tcb.platform.status) = (status, status);
    tcb.advisories = advisories.iter().map(|advisory| (*advisory).to_owned()).collect();
    tcb.platform.advisories.clone_from(&tcb.advisories);
}

/// The same beside a quoting enclave that was superseded yesterday, which hides it in the merged status.
fn hidden(subject: &mut Subject, own: TcbStatus, merged: TcbStatus, advisories: &[&str]) {
    status(subject, own, advisories);
    let tcb = &mut subject.claims.tcb;
    tcb.status = merged;
    (tcb.qe.status, tcb.superseded) = (TcbStatus::OutOfDate, Some(at(NOW - DAY)));
    tcb.qe.advisories.push("INTEL-SA-01192".to_owned());
    tcb.advisories.push("INTEL-SA-01192".to_owned());
}

/// Out of date since so many seconds.
fn behind(subject: &mut Subject, status: TcbStatus, seconds: u64) {
    self::status(subject, status, &["INTEL-SA-01192"]);
    subject.claims.tcb.superseded = Some(at(NOW - seconds));
}

fn tcb() -> Vec<Row> {
    let grace = "out-of-date-grace = \"30 days\"\n";
    let accept = "SWHardeningNeeded = [\"INTEL-SA-00960\", \"INTEL-SA-00982\"]\n";
    vec![
        pass!("hardening that is accepted, every advisory of it listed", |s| status(
            s,
            TcbStatus::SwHardeningNeeded,
            &["INTEL-SA-00960", "INTEL-SA-00982"]
        )),
        pass!("with one of them", |s| status(s, TcbStatus::SwHardeningNeeded, &["INTEL-SA-00982"])),
        deny!("with one more", |s| status(s, TcbStatus::SwHardeningNeeded, &["INTEL-SA-00960", "INTEL-SA-00961"]) => ["tdx-tcb-advisories"]),
        deny!("hardening by default"; accept => ""; |s| status(s, TcbStatus::SwHardeningNeeded, &["INTEL-SA-00960"]) => ["tdx-tcb-status"]),
        pass!("configuration without an advisory", |s| status(s, TcbStatus::ConfigurationNeeded, &[])),
        deny!("configuration with an advisory that another status is accepted with",
            |s| status(s, TcbStatus::ConfigurationNeeded, &["INTEL-SA-00960"]) => ["tdx-tcb-advisories"]),
        deny!("both, where each is accepted alone", |s| status(s, TcbStatus::ConfigurationAndSwHardeningNeeded, &["INTEL-SA-00960"])
            => ["tdx-tcb-status"]),
        pass!("both, by name"; "ConfigurationNeeded = []" => "ConfigurationAndSWHardeningNeeded = [\"INTEL-SA-00960\"]";
            |s| status(s, TcbStatus::ConfigurationAndSwHardeningNeeded, &["INTEL-SA-00960"])),
        pass!("out of date in the last second of grace", |s| behind(s, TcbStatus::OutOfDate, 30 * DAY)),
        deny!("out of date a second longer", |s| behind(s, TcbStatus::OutOfDate, 30 * DAY + 1) => ["tdx-tcb-grace"]),
        deny!("out of date since nobody knows when", |s| { behind(s, TcbStatus::OutOfDate, 0); s.claims.tcb.superseded = None; }
            => ["tdx-tcb-grace"]),
        deny!("out of date by default"; grace => ""; |s| behind(s, TcbStatus::OutOfDate, 0) => ["tdx-tcb-status"]),
        pass!("up to date, with a newer level long since", |s| s.claims.tcb.superseded = Some(at(NOW - 300 * DAY))),
        pass!("out of date and to be configured, where both are accepted", |s| behind(s, TcbStatus::OutOfDateConfigurationNeeded, DAY)),
        deny!("the same too long", |s| behind(s, TcbStatus::OutOfDateConfigurationNeeded, 31 * DAY) => ["tdx-tcb-grace"]),
        deny!("the same where no configuration is accepted"; "ConfigurationNeeded = []\n" => "";
            |s| behind(s, TcbStatus::OutOfDateConfigurationNeeded, DAY) => ["tdx-tcb-status"]),
        pass!("the same where both at once are"; "ConfigurationNeeded = []" => "ConfigurationAndSWHardeningNeeded = []";
            |s| behind(s, TcbStatus::OutOfDateConfigurationNeeded, DAY)),
        pass!("a quoting enclave under grace beside an UpToDate platform", |s| hidden(s, TcbStatus::UpToDate, TcbStatus::OutOfDate, &[])),
        pass!("beside one of hardening that is accepted, for which the enclave's advisory counts nothing", |s| hidden(
            s,
            TcbStatus::SwHardeningNeeded,
            TcbStatus::OutOfDate,
            &["INTEL-SA-00982"]
        )),
        deny!("beside one of hardening by another advisory",
            |s| hidden(s, TcbStatus::SwHardeningNeeded, TcbStatus::OutOfDate, &["INTEL-SA-00961"]) => ["tdx-tcb-advisories"]),
        deny!("beside one of hardening, where none is accepted"; accept => "";
            |s| hidden(s, TcbStatus::SwHardeningNeeded, TcbStatus::OutOfDate, &["INTEL-SA-00982"]) => ["tdx-tcb-status"]),
        pass!("beside one to be configured, where that is accepted", |s| hidden(
            s,
            TcbStatus::ConfigurationNeeded,
            TcbStatus::OutOfDateConfigurationNeeded,
            &[]
        )),
        deny!("beside one to be configured and hardened, where each is accepted alone",
            |s| hidden(s, TcbStatus::ConfigurationAndSwHardeningNeeded, TcbStatus::OutOfDateConfigurationNeeded, &[]) => ["tdx-tcb-status"]),
        deny!("beside one to be configured, where both at once are accepted"; "ConfigurationNeeded = []" => "ConfigurationAndSWHardeningNeeded = []";
            |s| hidden(s, TcbStatus::ConfigurationNeeded, TcbStatus::OutOfDateConfigurationNeeded, &[]) => ["tdx-tcb-status"]),
        deny!("a TD to be relaunched", |s| behind(s, TcbStatus::RelaunchAdvised, DAY) => ["tdx-tcb-status"]),
        deny!("a TD to be relaunched and configured", |s| behind(s, TcbStatus::RelaunchAdvisedConfigurationNeeded, DAY)
            => ["tdx-tcb-status"]),
        deny!("a denied advisory under grace", |s| { behind(s, TcbStatus::OutOfDate, DAY); s.claims.tcb.advisories.push("INTEL-SA-00999".into()); }
            => ["tdx-tcb-denied-advisories"]),
        deny!("a denied advisory of an UpToDate platform", |s| status(s, TcbStatus::UpToDate, &["INTEL-DOC-10001"])
            => ["tdx-tcb-denied-advisories"]),
        pass!("another advisory of an UpToDate platform", |s| status(s, TcbStatus::UpToDate, &["INTEL-DOC-10000"])),
        deny!("a TCB of the day before", |s| s.claims.tcb.date = at(s.claims.tcb.date.seconds() - 1) => ["tdx-tcb-date"]),
        pass!("a TCB of the day before without a floor"; "not-before = \"2024-03-13\"\n" => "";
            |s| s.claims.tcb.date = at(s.claims.tcb.date.seconds() - 1)),
        deny!("an older TCB info", |s| s.claims.tcb_info.evaluation = 16 => ["tdx-tcb-evaluation"]),
        deny!("an older QE identity", |s| s.claims.qe_identity.evaluation = 16 => ["tdx-tcb-evaluation"]),
        pass!("older ones without a minimum"; "minimum-evaluation-number = 17\n" => ""; |s| {
            s.claims.tcb_info.evaluation = 1;
            s.claims.qe_identity.evaluation = 1;
        }),
    ]
}

/// The lists of PCK authority and root: issued so many days ago, due in so many.
fn lists(subject: &mut Subject, pck: (u64, u64), root: (u64, u64)) {
    let list = |(since, due): (u64, u64)| Revocation::Checked { this_update: at(NOW - since * DAY), next_update: at(NOW + due * DAY) };
    (subject.claims.revocation, subject.claims.root_revocation) = (list(pck), list(root));
}

fn root_list() -> Vec<Row> {
    let key = "revocation-max-age = \"30 days\"\n";
    const fn lapsed(since: u64) -> Revocation {
        Revocation::Stale { this_update: at(NOW - since), next_update: at(NOW - 1) }
    }
    vec![
        pass!("a root's list of last year, in force, beside a new one of the authority", |s| lists(s, (5, 25), (300, 65))),
        pass!("the same where the root's is due first", |s| lists(s, (5, 25), (350, 15))),
        deny!("an old list of the authority beside a new one of the root", |s| lists(s, (31, 60), (5, 300)) => ["revocation-age"]),
        deny!("no list of the root", |s| s.claims.root_revocation = Revocation::Unknown => ["tdx-root-revocation-age"]),
        deny!("no list of the root, without an age"; key => ""; |s| s.claims.root_revocation = Revocation::Unknown
            => ["tdx-root-revocation-age"]),
        pass!("in its last second"; key => ""; |s| s.claims.root_revocation = Revocation::Checked { this_update: at(NOW - DAY), next_update: at(NOW) }),
        deny!("past its due, without an age"; key => ""; |s| {
            s.claims.root_revocation = Revocation::Stale { this_update: at(NOW - DAY), next_update: at(NOW - 1) };
        } => ["tdx-root-revocation-age"]),
        deny!("past its due since the verification"; key => ""; |s| {
            s.claims.root_revocation = Revocation::Checked { this_update: at(NOW - DAY), next_update: at(NOW - 1) };
        } => ["tdx-root-revocation-age"]),
        pass!("past its due, within the age", |s| s.claims.root_revocation = lapsed(30 * DAY)),
        deny!("past its due, and a second too old", |s| s.claims.root_revocation = lapsed(30 * DAY + 1) => ["tdx-root-revocation-age"]),
        deny!("from the future", |s| s.claims.root_revocation = Revocation::Checked { this_update: at(NOW + 1), next_update: at(NOW + DAY) }
            => ["tdx-root-revocation-age"]),
    ]
}

fn collateral() -> Vec<Row> {
    let key = "collateral-max-age = \"20 days\"\n";
    vec![
        deny!("a TCB info a second too old, though in force", |s| s.claims.tcb_info.issued = at(NOW - 20 * DAY - 1)
            => ["tdx-collateral-age"]),
        deny!("a QE identity a second too old", |s| s.claims.qe_identity.issued = at(NOW - 20 * DAY - 1) => ["tdx-collateral-age"]),
        pass!("past its due date, within the age", |s| s.claims.tcb_info.next_update = at(NOW - DAY)),
        deny!("past its due date without an age"; key => ""; |s| s.claims.tcb_info.next_update = at(NOW - 1) => ["tdx-collateral-age"]),
        pass!("in its last second"; key => ""; |s| s.claims.tcb_info.next_update = at(NOW)),
        pass!("old, and in force"; key => ""; |s| s.claims.tcb_info.issued = at(NOW - 90 * DAY)),
        deny!("from the future", |s| s.claims.tcb_info.issued = at(NOW + 1) => ["tdx-collateral-age"]),
    ]
}

#[test]
fn general_rules_deny_exactly_what_they_name() {
    check(&general());
}

#[test]
fn identity_rules_deny_exactly_what_they_name() {
    check(&identity());
    check(&event_log());
}

#[test]
fn launch_rules_deny_exactly_what_they_name() {
    check(&attributes());
    check(&host_values());
    check(&extended());
}

#[test]
fn platform_rules_deny_exactly_what_they_name() {
    check(&platform());
    check(&tcb());
    check(&collateral());
}

#[test]
fn every_code_has_a_row_that_denies_for_it_and_is_passed_in_another() {
    let tables =
        [general(), identity(), event_log(), attributes(), host_values(), extended(), platform(), tcb(), collateral(), root_list()];
    let rows: Vec<Row> = tables.into_iter().flatten().collect();
    let denied: std::collections::HashSet<_> = rows.iter().flat_map(|row| row.fails.iter().copied()).collect();
    let passed: std::collections::HashSet<_> =
        rows.iter().flat_map(run).filter(|check| check.verdict == Verdict::Passed).map(|check| check.code).collect();
    for entry in policies::codes::CODES.iter().filter(|entry| entry.code.starts_with("tdx-")) {
        assert!(denied.contains(entry.code) && passed.contains(entry.code), "{} has no row", entry.code);
    }
}

#[test]
fn all_that_is_wrong_is_reported_in_the_order_of_the_table() {
    let row = deny!("much at once", |s| {
        s.role = Role::WholeVm;
        s.claims.mrtd = [0; 48];
        s.claims.td_attributes.raw = 1;
        s.claims.event_log = EventLog::Absent;
        s.claims.platform.smt_enabled = None;
        s.claims.qe_identity.issued = at(0);
        status(s, TcbStatus::RelaunchAdvised, &[]);
    } => ["role", "tdx-measurement", "tdx-rtmr1-events", "tdx-rtmr2-events", "tdx-debug", "tdx-sept-ve-disable", "tdx-smt",
        "tdx-tcb-status", "tdx-collateral-age"]);
    let checks = run(&row);
    assert_eq!(failed(&checks), row.fails);
    let order = |code| policies::codes::CODES.iter().position(|entry| entry.code == code).unwrap();
    assert!(checks.windows(2).all(|pair| order(pair[0].code) < order(pair[1].code)), "each check once, in order");
}

#[test]
fn a_check_on_events_names_the_event_that_is_wrong() {
    let found = |row: &Row, code| run(row).into_iter().find(|check| check.code == code).unwrap().found;
    let row = pass!("", |s| events(&mut s.claims)[3].digest = [0xe9; 48]);
    let wrong = format!("3 events; the first that fits none is number 2: 0x00000004 {}", "e9".repeat(48));
    assert_eq!(found(&row, "tdx-rtmr1-events"), wrong);
    assert_eq!(found(&pass!("", |_| ()), "tdx-rtmr1-events"), "3 events (release-1)");
    let row = pass!("", |s| drop(events(&mut s.claims).pop()));
    assert_eq!(found(&row, "tdx-rtmr1-events"), "2 events, where more are expected");
    let row = pass!("", |s| {
        events(&mut s.claims)[4].digest = [0xe9; 48];
    });
    let (other, missing) = ("e9".repeat(48), "e5".repeat(48));
    assert_eq!(found(&row, "tdx-rtmr2-events"), format!("2 events; not expected: 0x0000000d {other}; missing: 0x0000000d {missing}"));
}

#[test]
fn without_a_situation_the_rules_that_need_one_are_left_out_by_name() {
    let subject = full();
    let claims = PlatformClaims::Tdx(subject.claims);
    let codes = |policy: &Policy| policy.examine(&claims, None, None, subject.at).iter().map(|check| check.code).collect::<Vec<_>>();
    let stated = policy(&[]);
    assert_eq!(stated.left_out(), ["role", "configuration"]);
    assert!(codes(&stated).contains(&"tdx-mrconfigid"));
    let list = format!("[\"{}\"]", hex("d1", 48));
    let bound = policy(&[(list, "\"configuration-digest\"".into())]);
    assert_eq!(bound.left_out(), ["role", "configuration", "tdx-mrconfigid"]);
    assert!(codes(&bound).iter().all(|code| !bound.left_out().contains(code)));
}

#[test]
fn a_platform_without_a_table_is_denied_and_one_with_a_table_is_judged_by_it_alone() {
    let subject = full();
    let situation = Some((&subject.role, &subject.configuration));
    let claims = PlatformClaims::Tdx(subject.claims);
    let judge = |text: &str| failed(&Policy::parse(text).unwrap().examine(&claims, situation, None, subject.at));
    let snp = include_str!("full.toml").replace("masked-version-2-report", "version-5-quote");
    assert_eq!(judge(&snp), ["platform"]);
    let both = format!("{FULL}\n[snp]{}", snp.split_once("[snp]").unwrap().1);
    assert_eq!(judge(&both), [""; 0]);
    assert_eq!(judge(FULL), [""; 0]);
}
