//! Policies, and their evaluation over guests that a careful policy refuses.

#![no_main]

use std::sync::OnceLock;

use attestation::{Collateral, PlatformClaims};
use libfuzzer_sys::fuzz_target;
use policies::{Policy, Verdict, codes};
use portcullis_fuzz::NOW;
use portcullis_fuzz::snp::Machine;
use protocol::ids::{Digest, Role};
use testbed::snp::ReportBuilder;

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
            let checks = policy.examine(&guest.claims, situation, None, NOW);
            assert!(!checks.is_empty() && checks.iter().all(|check| codes::find(check.code).is_some()));
            let permitted = checks.iter().all(|check| check.verdict == Verdict::Passed);
            assert!(!permitted || text.contains(guest.word), "permitted {} without a word", guest.word);
        }
    }
});

struct Guest {
    claims: PlatformClaims,
    /// What a policy must say to permit it.
    word: &'static str,
}

fn guests() -> &'static [Guest] {
    static GUESTS: OnceLock<Vec<Guest>> = OnceLock::new();
    GUESTS.get_or_init(|| {
        let changes: [(&str, fn(&mut ReportBuilder)); 4] = [
            ("vmpl", |_| ()),
            ("debug", |report| report.policy |= 1 << 19),
            ("migration", |report| report.policy |= 1 << 18),
            ("vmpl", |report| report.vmpl = 3),
        ];
        let guest = |machine: &Machine, (word, change): (&'static str, fn(&mut ReportBuilder))| {
            let report = machine.platform.sign(&machine.platform.report_by(machine.leaf).with(change));
            let collateral = Collateral { crls: vec![machine.crl.clone()], ..Collateral::default() };
            let genuine = machine.judge(machine.evidence(&report), &collateral).expect("a genuine guest");
            Guest { claims: genuine.platform().clone(), word }
        };
        Machine::all().iter().flat_map(|machine| changes.map(|change| guest(machine, change))).collect()
    })
}
