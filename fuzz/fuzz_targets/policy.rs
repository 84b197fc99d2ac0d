//! Policies, and their evaluation over guests that a careful policy refuses.

#![no_main]

use std::sync::OnceLock;

use attestation::{Collateral, PlatformClaims, TdxStanding};
use libfuzzer_sys::fuzz_target;
use policies::{Aging, Calendar, Forecast, Policy, Verdict, codes};
use portcullis_fuzz::snp::Machine;
use portcullis_fuzz::tdx::TdMachine;
use portcullis_fuzz::{NOW, Signer, documents};
use protocol::ids::{Digest, Role};
use testbed::snp::ReportBuilder;
use testbed::tdx::{TdAttributes, TdReport};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let policy = match Policy::parse(text) {
        Ok(policy) => policy,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!((60..=7 * 86_400).contains(&policy.attestation_lifetime().as_secs()));
    assert!(policy.left_out().iter().all(|code| codes::find(code).is_some()));
    let (roles, digest) = ([Role::WholeVm, policy.role().clone()], Digest::from([1; 32]));
    for guest in guests() {
        for situation in [None, Some((&roles[0], &digest)), Some((&roles[1], &digest))] {
            for calendar in [None, Some(calendar())] {
                let checks = policy.examine(&guest.claims, situation, calendar, NOW);
                assert!(!checks.is_empty() && checks.iter().all(|check| codes::find(check.code).is_some()));
                let permitted = checks.iter().all(|check| check.verdict == Verdict::Passed);
                let word = guest.word.is_some_and(|word| text.contains(word));
                assert!(!permitted || word, "permitted {:?} without a word", guest.word);
                // What is forecast is denied then, and by that check; and what denies now by what was published is forecast for now.
                let forecasts = forecasts(&policy, &guest.claims, calendar);
                for forecast in &forecasts {
                    assert!(codes::find(forecast.check).is_some());
                    let then = policy.examine(&guest.claims, situation, calendar, forecast.denied_at);
                    assert!(then.iter().any(|check| check.code == forecast.check && check.verdict == Verdict::Failed), "{forecast:?}");
                }
                for check in checks.iter().filter(|check| check.verdict == Verdict::Failed && is_forecast(check.code)) {
                    let now = |forecast: &Forecast| forecast.check == check.code && forecast.denied_at <= NOW;
                    // The calendar's own first baseline that is missed stands for those of the other TCBs.
                    let tcb = |forecast: &Forecast| check.code.starts_with("snp-tcb-") && forecast.check.starts_with("snp-tcb-");
                    // A platform that has no table is denied for that alone.
                    let platform = |forecast: &Forecast| forecast.check == "platform";
                    let told = forecasts.iter().any(|forecast| now(forecast) || tcb(forecast) || platform(forecast));
                    assert!(told, "{check:?} is not among {forecasts:?}");
                }
            }
        }
    }
});

/// Whether a check is on what is published of platforms.
fn is_forecast(code: &str) -> bool {
    let all = ["platform", "revocation-age", "snp-product", "tdx-collateral-age", "tdx-root-revocation-age"];
    all.contains(&code) || code.starts_with("snp-tcb-") || code.starts_with("tdx-tcb-")
}

fn forecasts(policy: &Policy, claims: &PlatformClaims, calendar: Option<&Calendar>) -> Vec<Forecast> {
    match (Aging::from(claims), claims) {
        (Aging::SevSnp(platform), _) => policy.forecast_snp(&platform, platform.revocation, calendar, NOW),
        (Aging::Tdx(_), PlatformClaims::Tdx(claims)) => policy.forecast_tdx(&TdxStanding::from(claims), NOW),
        (Aging::Tdx(_), PlatformClaims::Snp(_)) => unreachable!("a TDX platform of SNP claims"),
    }
}

/// Baselines of every line, one of them of a year ago.
fn calendar() -> &'static Calendar {
    static CALENDAR: OnceLock<Calendar> = OnceLock::new();
    CALENDAR.get_or_init(|| {
        let body = serde_json::to_vec(&documents::calendar()).expect("JSON");
        Calendar::new(&documents::read(&body, Signer::Authority).expect("a calendar"))
    })
}

struct Guest {
    claims: PlatformClaims,
    /// What a policy must say to permit it; `None` where no policy can.
    word: Option<&'static str>,
}

/// What a policy must say to permit a guest, and how it differs from the genuine one.
type ReportChange = (&'static str, fn(&mut ReportBuilder));
type TdChange = (Option<&'static str>, fn(&mut TdReport));

fn guests() -> &'static [Guest] {
    static GUESTS: OnceLock<Vec<Guest>> = OnceLock::new();
    GUESTS.get_or_init(|| {
        let changes: [ReportChange; 4] = [
            ("vmpl", |_| ()),
            ("debug", |report| report.policy |= 1 << 19),
            ("migration", |report| report.policy |= 1 << 18),
            ("vmpl", |report| report.vmpl = 3),
        ];
        let td_changes: [TdChange; 5] = [
            (Some("measurements"), |_| ()),
            (None, |report| report.td_attributes |= TdAttributes::DEBUG),
            (None, |report| report.td_attributes |= TdAttributes::MIGRATABLE),
            (None, |report| report.td_attributes &= !TdAttributes::SEPT_VE_DISABLE),
            (Some("perfmon"), |report| report.td_attributes |= TdAttributes::PERFMON),
        ];
        let guest = |machine: &Machine, (word, change): ReportChange| {
            let report = machine.platform.sign(&machine.platform.report_by(machine.leaf).with(change));
            let collateral = Collateral { crls: vec![machine.crl.clone()], ..Collateral::default() };
            let genuine = machine.judge(machine.evidence(&report), &collateral).expect("a genuine guest");
            Guest { claims: genuine.platform().clone(), word: Some(word) }
        };
        let td = |machine: &TdMachine, (word, change): TdChange| {
            let quote = machine.guest.quote.clone().with(|quote| change(&mut quote.body)).bytes();
            Guest { claims: machine.judge(&quote).expect("a genuine TD").platform().clone(), word }
        };
        // With its event log, by which a policy may judge instead of by registers.
        let logged = |machine: &TdMachine| Guest {
            claims: machine.judge_with_log(&machine.quote).expect("a genuine TD with its log").platform().clone(),
            word: Some("measurements"),
        };
        let guests = Machine::all().iter().flat_map(|machine| changes.map(|change| guest(machine, change)));
        let tds = TdMachine::all().iter().flat_map(|machine| td_changes.map(|change| td(machine, change)));
        guests.chain(tds).chain(TdMachine::all().iter().map(logged)).collect()
    })
}
