//! Cases drawn from seeds: the same thousand in every run, and others where `PORTCULLIS_SEEDS` names them (`5000..9000`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use attestation::TcbStatus;
use differential::drawn::{Drawn, NAME};
use differential::peers::{WHOLE_VERIFIER, whole_verifier};
use differential::{Row, Table, Verdict};

use crate::compare_quote;
use crate::rules::{EXACT, ISSUED, MASK, ONCE, PART, PCEID, STATUS};

pub const ROWS: &[Row] = &[
    Row::refused(WHOLE_VERIFIER, "tdx-crl-missing", ISSUED, &["drawn"]),
    Row::refused(WHOLE_VERIFIER, "tdx-document-version", EXACT, &["drawn"]),
    Row::refused(WHOLE_VERIFIER, "tdx-pceid-mismatch", PCEID, &["drawn"]),
    Row::refused(WHOLE_VERIFIER, "tdx-qe-attributes", MASK, &["drawn"]),
    Row::refused(WHOLE_VERIFIER, "tdx-tcb-level-duplicate", ONCE, &["drawn"]),
    Row::refused(WHOLE_VERIFIER, "tdx-tcb-part-status", PART, &["drawn"]),
    Row::refused(WHOLE_VERIFIER, "tdx-tcb-status-unknown", STATUS, &["drawn"]),
];

fn seeds() -> Option<Range<u64>> {
    let text = std::env::var("PORTCULLIS_SEEDS").ok()?;
    let (first, end) = text.split_once("..").expect("PORTCULLIS_SEEDS is FIRST..END");
    Some(first.parse().expect("the first seed")..end.parse().expect("the seed behind the last"))
}

#[test]
fn verdicts_on_drawn_cases_differ_only_as_listed() {
    let mut table = Table::new(ROWS);
    let named = seeds();
    let (mut statuses, mut refusals) = (BTreeSet::new(), BTreeMap::new());
    for seed in named.clone().unwrap_or(0..1000) {
        let Drawn { case, pck } = Drawn::of(seed);
        let ours = case.judge();
        table.compare(&case.name, WHOLE_VERIFIER, &ours, &whole_verifier(&case));
        match &ours {
            Verdict::Accepted(fields) => {
                statuses.insert(fields["status"].clone());
                // What we refuse for its certificates or collateral is none of its business.
                compare_quote(&mut table, &case, &ours, &pck);
            }
            Verdict::Refused(code) => *refusals.entry(code.clone()).or_insert(0) += 1,
            Verdict::Panicked => {}
        }
    }
    println!("{} pairs of verdicts, {} accepted by both; {statuses:?}; {refusals:?}", table.compared, table.accepted);
    table.explained();
    if named.is_none() {
        table.close();
        assert!(table.accepted > 700, "most come as far as what they say: {}", table.accepted);
        assert_eq!(statuses.len(), TcbStatus::ALL.len(), "{statuses:?}");
    }
}

#[test]
fn a_seed_is_always_the_same_case() {
    let [one, again, other] = [7, 7, 8].map(|seed| Drawn::of(seed).case);
    assert_eq!((&one.quote, &one.bundle.tcb_info, one.at), (&again.quote, &again.bundle.tcb_info, again.at));
    assert_ne!(one.quote, other.quote);
    assert!(one.name.starts_with(NAME));
}
