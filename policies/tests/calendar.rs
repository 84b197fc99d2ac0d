//! The TCB calendar, grace, and the forecast of when time alone will deny a platform.

use attestation::{PlatformClaims, ProductLine, SnpClaims, Tcb, TcbStatus, TdxClaims, TdxStanding};
use policies::{Aging, Calendar, Check, Forecast, Policy, Verdict, codes};
use protocol::documents::{BaselineProduct, TcbBaseline, TcbBaselinesBody};
use protocol::dsse::SignedDocument;
use protocol::ids::Version;
use protocol::keys::SigningKey;
use protocol::time::UnixTime;

mod subjects;

use subjects::{NOW, snp, tdx};

const DAY: u64 = 86400;

const fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds)
}

const fn later(days: u64) -> UnixTime {
    at(NOW + days * DAY)
}

fn genoa(published: UnixTime, snp: u8, microcode: u8) -> TcbBaseline {
    TcbBaseline { product: BaselineProduct::Genoa, published, fmc: None, bootloader: 10, tee: 0, snp, microcode }
}

fn named(name: &str, baselines: &[TcbBaseline]) -> Calendar {
    let key = SigningKey::from_seed(&[1; 32]).unwrap();
    let body = TcbBaselinesBody {
        installation: *key.public(),
        name: name.parse().unwrap(),
        version: Version::FIRST,
        baselines: baselines.to_vec(),
    };
    Calendar::new(&SignedDocument::sign(&body, &key).unwrap().authenticate(&[*key.public()]).unwrap())
}

fn calendar(baselines: &[TcbBaseline]) -> Calendar {
    named("amd", baselines)
}

/// A policy with Genoa by the calendar; `launch` is a line of its own for that TCB.
fn policy(grace: &str, launch: &str) -> Policy {
    let text = format!(
        "format = 1\nrole = \"whole-vm\"\nconfiguration = \"config-is-measured\"\nattestation-lifetime = \"1 hour\"\n\
         revocation-max-age = \"60 days\"\n[snp]\nvmpl = [0]\nhost-data = \"host-data-not-trusted\"\ncalendar = \"amd\"\n[snp.measurements]\na = [\"{}\"]\n\
         [snp.products.genoa]\nminimum-tcb = \"calendar\"\ngrace = \"{grace}\"\n{launch}",
        "a1".repeat(48)
    );
    Policy::parse(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// A Genoa machine on which all four TCBs are these.
fn machine(snp_part: u8, microcode: u8) -> SnpClaims {
    let tcb = Tcb { fmc: None, bootloader: 10, tee: 0, snp: snp_part, microcode };
    SnpClaims { current_tcb: tcb, reported_tcb: tcb, committed_tcb: tcb, launch_tcb: tcb, ..snp() }
}

fn failed(checks: &[Check]) -> Vec<&'static str> {
    checks.iter().filter(|check| check.verdict == Verdict::Failed).map(|check| check.code).collect()
}

fn judge(policy: &Policy, claims: &SnpClaims, calendar: Option<&Calendar>, at: UnixTime) -> Vec<&'static str> {
    failed(&policy.examine(&PlatformClaims::Snp(claims.clone()), None, calendar, at))
}

const TCBS: [&str; 3] = ["snp-tcb-committed", "snp-tcb-reported", "snp-tcb-launch"];

#[test]
fn the_newest_baseline_whose_grace_is_over_is_what_a_guest_needs() {
    let calendar = calendar(&[genoa(later(0), 22, 80), genoa(later(10), 22, 84), genoa(later(20), 23, 84)]);
    let policy = policy("5 days", "");
    let judge = |claims: &SnpClaims, at| judge(&policy, claims, Some(&calendar), at);
    let second_before = |time: UnixTime| at(time.seconds() - 1);
    assert_eq!(judge(&machine(22, 80), second_before(later(15))), [""; 0]);
    assert_eq!(judge(&machine(22, 80), later(15)), TCBS);
    assert_eq!(judge(&machine(22, 84), later(15)), [""; 0]);
    assert_eq!(judge(&machine(22, 84), second_before(later(25))), [""; 0]);
    assert_eq!(judge(&machine(22, 84), later(25)), TCBS);
    assert_eq!(judge(&machine(23, 84), later(25)), [""; 0]);
    assert_eq!(judge(&machine(255, 83), later(25)), TCBS, "part by part");
}

#[test]
fn the_first_baseline_holds_at_any_time_for_there_is_none_before_it() {
    let calendar = calendar(&[genoa(later(10), 22, 80)]);
    let policy = policy("30 days", "");
    assert_eq!(judge(&policy, &machine(22, 79), Some(&calendar), later(0)), TCBS);
    assert_eq!(judge(&policy, &machine(22, 80), Some(&calendar), later(0)), [""; 0]);
}

#[test]
fn without_grace_a_baseline_counts_from_its_own_second() {
    let calendar = calendar(&[genoa(later(0), 22, 80), genoa(later(10), 22, 84)]);
    let policy = policy("0 days", "");
    assert_eq!(judge(&policy, &machine(22, 80), Some(&calendar), at(NOW + 10 * DAY - 1)), [""; 0]);
    assert_eq!(judge(&policy, &machine(22, 80), Some(&calendar), later(10)), TCBS);
}

#[test]
fn without_the_calendar_that_is_named_a_guest_is_denied() {
    let denied = ["snp-tcb-calendar", "snp-tcb-committed", "snp-tcb-reported", "snp-tcb-launch"];
    let policy = policy("30 days", "");
    let found = |calendar: Option<&Calendar>| {
        let checks = policy.examine(&PlatformClaims::Snp(machine(255, 255)), None, calendar, later(0));
        assert_eq!(failed(&checks), denied);
        checks.into_iter().find(|check| check.code == "snp-tcb-calendar").unwrap().found
    };
    assert_eq!(found(None), "none in force");
    assert_eq!(found(Some(&named("amd-2", &[genoa(later(0), 22, 80)]))), "the calendar amd-2");
    let turin = TcbBaseline { product: BaselineProduct::Turin, fmc: Some(0), ..genoa(later(0), 1, 1) };
    assert_eq!(found(Some(&calendar(&[turin]))), "amd version 1: no baseline of Genoa");
    assert_eq!(judge(&policy, &machine(255, 255), Some(&calendar(&[genoa(later(0), 22, 80)])), later(0)), [""; 0]);
    assert_eq!(policy.calendar().map(ToString::to_string).as_deref(), Some("amd"));
}

#[test]
fn a_minimum_of_its_own_stands_in_place_of_the_calendars() {
    let calendar = calendar(&[genoa(later(0), 22, 80)]);
    let policy = policy("30 days", "minimum-launch-tcb = { bootloader = 9, tee = 0, snp = 21, microcode = 72 }");
    let mut claims = machine(22, 80);
    claims.launch_tcb = Tcb { fmc: None, bootloader: 9, tee: 0, snp: 21, microcode: 72 };
    assert_eq!(judge(&policy, &claims, Some(&calendar), later(0)), [""; 0]);
    claims.launch_tcb.microcode = 71;
    assert_eq!(judge(&policy, &claims, Some(&calendar), later(0)), ["snp-tcb-launch"]);
    assert_eq!(judge(&policy, &claims, None, later(0)), ["snp-tcb-calendar", "snp-tcb-committed", "snp-tcb-reported", "snp-tcb-launch"]);
}

#[test]
fn a_line_with_a_fixed_minimum_needs_no_calendar() {
    let policy = policy("30 days", "[snp.products.milan]\nminimum-tcb = { bootloader = 10, tee = 0, snp = 22, microcode = 80 }");
    let milan = |snp, microcode| SnpClaims { product: ProductLine::Milan, ..machine(snp, microcode) };
    assert_eq!(judge(&policy, &milan(22, 80), None, later(0)), [""; 0]);
    let forecast = |claims: SnpClaims| {
        let forecasts = forecasts(&policy, &PlatformClaims::Snp(claims), None, later(0));
        forecasts.into_iter().map(|forecast| (forecast.denied_at <= later(0), forecast.check)).collect::<Vec<_>>()
    };
    assert_eq!(forecast(milan(22, 80)), [(false, "revocation-age")]);
    let tcbs = ["snp-tcb-committed", "snp-tcb-reported", "snp-tcb-launch"].map(|check| (true, check));
    assert_eq!(forecast(milan(22, 79)), [tcbs.as_slice(), &[(false, "revocation-age")]].concat());
    let turin = SnpClaims { product: ProductLine::Turin, ..machine(22, 80) };
    assert_eq!(forecast(turin), [(true, "snp-product"), (false, "revocation-age")]);
}

/// What is forecast of claims under the collateral that they were judged with.
fn forecasts(policy: &Policy, claims: &PlatformClaims, calendar: Option<&Calendar>, at: UnixTime) -> Vec<Forecast> {
    match (Aging::from(claims), claims) {
        (Aging::SevSnp(platform), _) => policy.forecast_snp(&platform, platform.revocation, calendar, at),
        (Aging::Tdx(_), PlatformClaims::Tdx(claims)) => policy.forecast_tdx(&TdxStanding::from(claims), at),
        (Aging::Tdx(_), PlatformClaims::Snp(_)) => unreachable!(),
    }
}

/// Every forecast is right: a second before, the check passes; at that second, it does not. They are these, the earliest first.
#[track_caller]
fn holds(policy: &Policy, claims: &PlatformClaims, calendar: Option<&Calendar>, expected: &[(u64, &'static str)]) {
    let aging = Aging::from(claims);
    let kept: Aging = serde_json::from_slice(&serde_json::to_vec(&aging).unwrap()).unwrap();
    assert_eq!((kept.platform(), &kept), (aging.platform(), &aging));
    let found = forecasts(policy, claims, calendar, later(0));
    assert_eq!(found.iter().map(|forecast| (forecast.denied_at.seconds(), forecast.check)).collect::<Vec<_>>(), expected);
    let fails = |check: &str, at| failed(&policy.examine(claims, None, calendar, at)).contains(&check);
    for Forecast { denied_at, check, why } in &found {
        assert!(codes::find(check).is_some() && !why.is_empty());
        assert!(fails(check, *denied_at), "{check} at {denied_at}: {why}");
        let before = found.iter().any(|other| other.check == *check && other.denied_at < *denied_at);
        assert_eq!(fails(check, at(denied_at.seconds() - 1)), before, "{check} before {denied_at}: {why}");
    }
}

#[test]
fn a_forecast_names_each_check_that_time_will_fail() {
    // `snp()` has a list of 30 days ago, and the policy takes 60.
    let policy = policy("5 days", "");
    let revoked = (NOW + 30 * DAY + 1, "revocation-age");
    let claims = PlatformClaims::Snp(machine(22, 80));
    holds(&policy, &claims, Some(&calendar(&[genoa(later(0), 22, 80)])), &[revoked]);
    let baselines = [genoa(later(0), 22, 80), genoa(later(10), 22, 84), genoa(later(12), 23, 84)];
    holds(&policy, &claims, Some(&calendar(&baselines)), &[(NOW + 15 * DAY, "snp-tcb-committed"), revoked]);
    holds(&policy, &PlatformClaims::Snp(machine(22, 84)), Some(&calendar(&baselines)), &[(NOW + 17 * DAY, "snp-tcb-committed"), revoked]);
    holds(&policy, &PlatformClaims::Snp(machine(23, 84)), Some(&calendar(&baselines)), &[revoked]);
    let mut launched = machine(23, 84);
    launched.launch_tcb.microcode = 80;
    holds(&policy, &PlatformClaims::Snp(launched), Some(&calendar(&baselines)), &[(NOW + 15 * DAY, "snp-tcb-launch"), revoked]);
}

#[test]
fn a_forecast_says_now_where_it_is_denied_already() {
    let policy = policy("5 days", "");
    let now = |claims: SnpClaims, calendar: Option<&Calendar>| {
        let first = forecasts(&policy, &PlatformClaims::Snp(claims), calendar, later(0)).remove(0);
        assert!(first.denied_at <= later(0), "{first:?}");
        first.check
    };
    assert_eq!(now(machine(22, 80), None), "snp-tcb-calendar");
    assert_eq!(now(machine(22, 79), Some(&calendar(&[genoa(later(9), 22, 80)]))), "snp-tcb-committed");
    assert_eq!(now(machine(22, 80), Some(&calendar(&[genoa(at(0), 22, 79), genoa(at(DAY), 22, 81)]))), "snp-tcb-committed");
    let unknown = SnpClaims { revocation: attestation::Revocation::Unknown, ..machine(22, 80) };
    assert_eq!(now(unknown, Some(&calendar(&[genoa(later(0), 22, 80)]))), "revocation-age");
}

/// A TDX policy; `lines` stand under `[tdx]`.
fn tdx_policy(lines: &str) -> Policy {
    Policy::parse(&tdx_text(lines)).unwrap_or_else(|error| panic!("{error}"))
}

fn tdx_text(lines: &str) -> String {
    format!(
        "format = 1\nrole = \"whole-vm\"\nconfiguration = \"config-is-measured\"\nattestation-lifetime = \"1 hour\"\n\
         revocation-max-age = \"400 days\"\n[tdx]\n{lines}\n[tdx.measurements]\na = [\"{}\"]\n[tdx.rtmrs]\nrtmr0 = \"not-checked\"\n\
         rtmr1 = \"not-checked\"\nrtmr2 = \"not-checked\"\nrtmr3 = \"not-checked\"\n",
        "a1".repeat(48)
    )
}

#[test]
fn a_forecast_for_tdx_looks_at_collateral_lists_and_grace() {
    // `tdx()`: documents of 20 days ago, due in 10 days; lists of 30 and 250 days ago, due in 1 and 120 days.
    let claims = PlatformClaims::Tdx(tdx());
    let lists = [(NOW + 370 * DAY + 1, "revocation-age"), (NOW + 150 * DAY + 1, "tdx-root-revocation-age")];
    let documents = |days: u64| (NOW + days * DAY + 1, "tdx-collateral-age");
    holds(&tdx_policy(""), &claims, None, &[documents(10), documents(10), lists[1], lists[0]]);
    holds(&tdx_policy("collateral-max-age = \"45 days\""), &claims, None, &[documents(25), documents(25), lists[1], lists[0]]);
    let mut older = tdx();
    older.qe_identity.next_update = later(5);
    holds(&tdx_policy(""), &PlatformClaims::Tdx(older), None, &[documents(5), documents(10), lists[1], lists[0]]);
    let mut behind = tdx();
    (behind.tcb.status, behind.tcb.platform.status) = (TcbStatus::OutOfDate, TcbStatus::OutOfDate);
    behind.tcb.superseded = Some(at(NOW - 26 * DAY));
    let grace = tdx_policy("tcb.out-of-date-grace = \"30 days\"");
    let ends = (NOW + 4 * DAY + 1, "tdx-tcb-grace");
    holds(&grace, &PlatformClaims::Tdx(behind.clone()), None, &[ends, documents(10), documents(10), lists[1], lists[0]]);
    (behind.tcb.status, behind.tcb.platform.status) = (TcbStatus::UpToDate, TcbStatus::UpToDate);
    holds(&grace, &PlatformClaims::Tdx(behind), None, &[documents(10), documents(10), lists[1], lists[0]]);
    // By their own dates, the lists run out as they say.
    let own = Policy::parse(&tdx_text("").replace("revocation-max-age = \"400 days\"\n", "")).unwrap();
    let due = [(NOW + DAY + 1, "revocation-age"), (NOW + 120 * DAY + 1, "tdx-root-revocation-age")];
    holds(&own, &claims, None, &[due[0], documents(10), documents(10), due[1]]);
}

#[test]
fn a_forecast_for_tdx_says_what_denies_it_now() {
    let now = |lines: &str, change: fn(&mut TdxClaims)| {
        let mut claims = tdx();
        change(&mut claims);
        let found = forecasts(&tdx_policy(lines), &PlatformClaims::Tdx(claims), None, at(NOW));
        found.into_iter().filter(|forecast| forecast.denied_at <= at(NOW)).map(|forecast| forecast.check).collect::<Vec<_>>()
    };
    let out_of_date =
        |claims: &mut TdxClaims| (claims.tcb.status, claims.tcb.platform.status) = (TcbStatus::OutOfDate, TcbStatus::OutOfDate);
    assert_eq!(now("", |_| ()), [""; 0]);
    assert_eq!(now("", out_of_date), ["tdx-tcb-status"]);
    assert_eq!(now("", |claims| claims.tcb.status = TcbStatus::RelaunchAdvised), ["tdx-tcb-status"]);
    // Nobody knows since when.
    assert_eq!(now("tcb.out-of-date-grace = \"30 days\"", out_of_date), ["tdx-tcb-grace"]);
    assert_eq!(now("tcb.minimum-evaluation-number = 18", |_| ()), ["tdx-tcb-evaluation"]);
    assert_eq!(now("tcb.minimum-evaluation-number = 17", |_| ()), [""; 0]);
    assert_eq!(now("tcb.not-before = \"2024-03-14\"", |_| ()), ["tdx-tcb-date"]);
    let advised = |claims: &mut TdxClaims| claims.tcb.advisories.push("INTEL-SA-00999".to_owned());
    assert_eq!(now("tcb.denied-advisories = [\"INTEL-SA-00999\"]", advised), ["tdx-tcb-denied-advisories"]);
    assert_eq!(now("", |claims| claims.root_revocation = attestation::Revocation::Unknown), ["tdx-root-revocation-age"]);
    assert_eq!(now("", |claims| claims.revocation = attestation::Revocation::Unknown), ["revocation-age"]);
    assert_eq!(now("", |claims| claims.tcb_info.next_update = at(NOW - 1)), ["tdx-collateral-age"]);
}

#[test]
fn a_platform_without_a_table_is_denied_now() {
    let found = forecasts(&tdx_policy(""), &PlatformClaims::Snp(snp()), None, later(0));
    assert_eq!(found.iter().map(|forecast| (forecast.denied_at, forecast.check)).collect::<Vec<_>>(), [(later(0), "platform")]);
    let found = forecasts(&policy("5 days", ""), &PlatformClaims::Tdx(tdx()), None, later(0));
    assert_eq!(found.iter().map(|forecast| (forecast.denied_at, forecast.check)).collect::<Vec<_>>(), [(later(0), "platform")]);
}

#[test]
fn a_policy_says_how_long_it_takes_a_list_or_a_document() {
    use protocol::ids::Platform::{SevSnp, Tdx};
    let (issued, next) = (later(0), later(10));
    let of_snp = policy("0 days", "");
    assert_eq!(of_snp.takes_list_until(SevSnp, issued, next), Some(later(60)), "its own limit, not the list's");
    assert_eq!((of_snp.takes_list_until(Tdx, issued, next), of_snp.takes_document_until(issued, next)), (None, None));
    let of_tdx = tdx_policy("");
    assert_eq!((of_tdx.takes_list_until(Tdx, issued, next), of_tdx.takes_list_until(SevSnp, issued, next)), (Some(later(400)), None));
    let of_root = |policy: &Policy, days: u64| policy.takes_root_list_until(issued, later(days));
    assert_eq!([of_root(&of_tdx, 10), of_root(&of_tdx, 401), of_root(&of_snp, 10)], [Some(later(400)), Some(later(401)), None]);
    assert_eq!(of_tdx.takes_document_until(issued, next), Some(next), "where it has no limit, the document's");
    assert_eq!(tdx_policy("collateral-max-age = \"5 days\"").takes_document_until(issued, next), Some(later(5)));
}
