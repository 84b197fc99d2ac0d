//! TDX quotes: ours beside a whole verifier, which judges collateral too, and a quote verifier, which judges the quote alone.

mod bytes;
mod certificates;
mod collateral;
mod drawn;
mod quotes;
mod real;
mod rules;

use attestation::TdxRejection;
use differential::ours::{Case, Root};
use differential::peers::{QUOTE_VERIFIER, QUOTE_VERIFIER_BY_KEY, WHOLE_VERIFIER, quote_verifier, whole_verifier};
use differential::{Difference, Row, Table, Verdict, rules_are_written};
use testbed::tdx::{Role, SoftTdx, coordinates};

/// Both peers beside ours.
fn compare(table: &mut Table, case: &Case) {
    let ours = case.judge();
    table.compare(&case.name, WHOLE_VERIFIER, &ours, &whole_verifier(case));
    compare_quote(table, case, &ours, &coordinates(&SoftTdx::new().key(Role::Pck)));
}

/// The peer that judges certificates and collateral.
fn compare_whole(table: &mut Table, case: &Case) {
    table.compare(&case.name, WHOLE_VERIFIER, &case.judge(), &whole_verifier(case));
}

/// The peer that judges the quote alone; by `pck` under a soft root. By our rule it is asked for version 4 alone.
fn compare_quote(table: &mut Table, case: &Case, ours: &Verdict, pck: &[u8; 64]) {
    let (peer, key) = match case.root {
        Root::Vendor => (QUOTE_VERIFIER, None),
        Root::Soft(_) => (QUOTE_VERIFIER_BY_KEY, Some(pck)),
    };
    let theirs = quote_verifier(case, key);
    if case.quote.first() == Some(&5) {
        return assert!(!theirs.is_accepted(), "{}: a version 5 quote has a second reader now: compare it", case.name);
    }
    table.compare(&case.name, peer, ours, &theirs);
}

/// All differences are explained, and all rows met.
fn finish(table: &Table) {
    println!("{} pairs of verdicts, {} accepted by both", table.compared, table.accepted);
    table.close();
}

#[test]
fn a_row_names_a_code_of_ours_or_words_or_a_field_and_a_rule_of_the_page() {
    let tables: [&[Row]; 7] = [quotes::ROWS, collateral::ROWS, certificates::ROWS, bytes::SOFT, bytes::REAL, real::ROWS, drawn::ROWS];
    tables.into_iter().for_each(rules_are_written);
    for row in tables.into_iter().flatten() {
        match row.difference {
            Difference::Refused(code) => assert!(TdxRejection::CODES.contains(&code), "{row:?}"),
            Difference::Accepted(words) => assert!(!words.is_empty(), "{row:?}"),
            Difference::Read { field, ours, theirs } => assert!(WHOLE_VERIFIER.fields.contains(&field) && ours != theirs, "{row:?}"),
        }
        assert!(!row.cases.is_empty(), "{row:?}");
    }
}
