//! Our verdicts and fields beside other verifiers', on the same bytes: real vectors, soft platforms, and mutations of both.
//!
//! Where two verifiers differ, either one of them has a fault, or ours decides otherwise on purpose. Every such purpose is a [`Row`] of a table
//! in the test that meets it: the cases that it excuses, by name, and the rule of ours behind it; `docs/advisories.md` has the same rules. A
//! difference without a row fails, in a case that its row does not name too, and so does a case of a row that nothing meets any more.

pub mod drawn;
pub mod evidence;
pub mod ours;
pub mod peers;
pub mod snp;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// What a verifier reads, by name; as text, so that each can say it in its own way.
pub type Fields = BTreeMap<&'static str, String>;

/// A field that the evidence does not carry. What a verifier does not read at all is not among its fields.
pub const ABSENT: &str = "absent";

/// A field that not all evidence carries.
pub(crate) fn optional<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| ABSENT.to_owned(), text)
}

/// Another verifier, by what it is asked here.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// What it is asked for.
    pub role: &'static str,
    /// What it reads: exactly these fields, whatever the evidence.
    pub fields: &'static [&'static str],
}

/// A panic of somebody who is asked is a verdict, and not printed.
static QUIET: Once = Once::new();

thread_local! {
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// What a verifier makes of some evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Genuine, and this is what it says.
    Accepted(Fields),
    /// Not, and why: a code or a sentence.
    Refused(String),
    /// It ended in a panic.
    Panicked,
}

impl Verdict {
    /// Asks somebody whose code may panic.
    pub fn of(ask: impl FnOnce() -> Result<Fields, String>) -> Self {
        QUIET.call_once(|| {
            let loud = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                if !ASKED.get() {
                    loud(panic)
                }
            }));
        });
        ASKED.set(true);
        let answer = catch_unwind(AssertUnwindSafe(ask));
        ASKED.set(false);
        match answer {
            Ok(Ok(fields)) => Self::Accepted(fields),
            Ok(Err(why)) => Self::Refused(why),
            Err(_) => Self::Panicked,
        }
    }

    /// Whether it is genuine.
    #[must_use]
    pub const fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted(_))
    }
}

/// How two verifiers differ on one case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// We refuse, under this code, what the peer accepts.
    Refused(&'static str),
    /// We accept what the peer refuses with a reason in which these words stand.
    Accepted(&'static str),
    /// Both accept, and read a field differently.
    Read {
        /// The field.
        field: &'static str,
        /// What we read.
        ours: &'static str,
        /// What the peer reads.
        theirs: &'static str,
    },
}

/// One difference, the cases that may have it, and our rule behind it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The role of who differs.
    pub peer: &'static str,
    /// How.
    pub difference: Difference,
    /// The names of the cases that differ so. Each has to.
    pub cases: &'static [&'static str],
    /// Our rule. `docs/advisories.md` has this very sentence.
    pub rule: &'static str,
}

impl Row {
    /// Cases that we refuse under `code`, and the peer accepts.
    #[must_use]
    pub const fn refused(peer: Peer, code: &'static str, rule: &'static str, cases: &'static [&'static str]) -> Self {
        Self { peer: peer.role, difference: Difference::Refused(code), cases, rule }
    }

    /// Cases that we accept, and the peer refuses with these words.
    #[must_use]
    pub const fn accepted(peer: Peer, words: &'static str, rule: &'static str, cases: &'static [&'static str]) -> Self {
        Self { peer: peer.role, difference: Difference::Accepted(words), cases, rule }
    }

    /// Cases that both accept, and of which a field reads as `ours` with us and as `theirs` with the peer.
    #[must_use]
    pub const fn read(
        peer: Peer,
        field: &'static str,
        [ours, theirs]: [&'static str; 2],
        rule: &'static str,
        cases: &'static [&'static str],
    ) -> Self {
        Self { peer: peer.role, difference: Difference::Read { field, ours, theirs }, cases, rule }
    }
}

/// A difference that was found.
enum Found<'a> {
    Refused(&'a str),
    Accepted(&'a str),
    Read { field: &'a str, ours: &'a str, theirs: &'a str },
    Panicked,
}

impl Found<'_> {
    fn is(&self, row: &Difference) -> bool {
        match (self, row) {
            (Self::Refused(found), Difference::Refused(code)) => found == code,
            (Self::Accepted(found), Difference::Accepted(words)) => found.contains(words),
            (Self::Read { field, ours, theirs }, Difference::Read { field: named, ours: own, theirs: other }) => {
                (field, ours, theirs) == (named, own, other)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(code) => write!(f, "refused by us as {code:?}, accepted"),
            Self::Accepted(words) => write!(f, "accepted by us, refused with {words:?}"),
            Self::Read { field, ours, theirs } => write!(f, "{field}: ours {ours:?}, theirs {theirs:?}"),
            Self::Panicked => f.write_str("ours panicked"),
        }
    }
}

/// The rows, and which of their cases were met.
pub struct Table {
    rows: &'static [Row],
    met: BTreeSet<(usize, &'static str)>,
    unexplained: BTreeMap<String, Vec<String>>,
    /// Pairs of verdicts compared.
    pub compared: usize,
    /// Of which both accepted.
    pub accepted: usize,
}

impl Table {
    /// A table of which nothing is met yet.
    #[must_use]
    pub fn new(rows: &'static [Row]) -> Self {
        Self { rows, met: BTreeSet::new(), unexplained: BTreeMap::new(), compared: 0, accepted: 0 }
    }

    /// Compares two verdicts on one case. Two refusals agree, whatever the reasons: a case can be wrong in several ways. Of a case's name,
    /// what stands behind ` @ ` is for people: many cases can have one name.
    ///
    /// # Panics
    /// When the peer's fields are not those that it is said to read.
    pub fn compare(&mut self, case: &str, peer: Peer, ours: &Verdict, theirs: &Verdict) {
        self.compared += 1;
        match (ours, theirs) {
            (Verdict::Accepted(own), Verdict::Accepted(other)) => {
                self.accepted += 1;
                assert!(other.keys().all(|name| peer.fields.contains(name)), "{}: fields that nobody compares: {other:?}", peer.role);
                let text = |fields: &Fields, name| fields.get(name).map_or("not read", String::as_str).to_owned();
                for field in peer.fields {
                    let (ours, theirs) = (text(own, field), text(other, field));
                    if ours != theirs {
                        self.difference(case, peer, &Found::Read { field, ours: &ours, theirs: &theirs });
                    }
                }
            }
            (Verdict::Panicked, _) => self.difference(case, peer, &Found::Panicked),
            (Verdict::Accepted(_), Verdict::Refused(why)) => self.difference(case, peer, &Found::Accepted(why)),
            (Verdict::Accepted(_), Verdict::Panicked) => self.difference(case, peer, &Found::Accepted("panicked")),
            (Verdict::Refused(code), Verdict::Accepted(_)) => self.difference(case, peer, &Found::Refused(code)),
            (Verdict::Refused(_), _) => {}
        }
    }

    fn difference(&mut self, case: &str, peer: Peer, found: &Found<'_>) {
        let name = case.split(" @ ").next().unwrap_or(case);
        for (place, row) in self.rows.iter().enumerate().filter(|(_, row)| row.peer == peer.role && found.is(&row.difference)) {
            if let Some(named) = row.cases.iter().find(|named| **named == name) {
                self.met.insert((place, named));
                return;
            }
        }
        self.unexplained.entry(format!("{}: {found}", peer.role)).or_default().push(case.to_owned());
    }

    /// Differences without a row that names their case, each with the names as a row would have them.
    #[must_use]
    pub fn unexplained(&self) -> Vec<String> {
        self.unexplained.iter().map(|(kind, cases)| format!("{kind}\n{}", names(cases))).collect()
    }

    /// Cases of rows that nothing met.
    #[must_use]
    pub fn unmet(&self) -> Vec<String> {
        let named = self.rows.iter().enumerate().flat_map(|(place, row)| row.cases.iter().map(move |case| (place, row, *case)));
        let unmet = named.filter(|(place, _, case)| !self.met.contains(&(*place, *case)));
        unmet.map(|(_, row, case)| format!("{}: {:?}: {case}", row.peer, row.difference)).collect()
    }

    /// No difference without a row.
    ///
    /// # Panics
    /// When there is one.
    pub fn explained(&self) {
        assert!(self.unexplained.is_empty(), "differences without a row:\n{}", self.unexplained().join("\n"));
    }

    /// No difference without a row, no case of a row without its difference.
    ///
    /// # Panics
    /// When there is one.
    pub fn close(&self) {
        self.explained();
        assert!(self.unmet().is_empty(), "cases of rows that nothing meets:\n{}", self.unmet().join("\n"));
    }
}

/// The distinct names among some cases, and the first of the cases that has each.
fn names(cases: &[String]) -> String {
    let mut first: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    for case in cases {
        let (name, detail) = case.split_once(" @ ").unwrap_or((case, ""));
        first.entry(name).or_insert((detail, 0)).1 += 1;
    }
    let line = |(name, (detail, count)): (&&str, &(&str, usize))| format!("    {name:?}, // {count} {detail}");
    first.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Every rule is on the page.
///
/// # Panics
/// When one is not.
pub fn rules_are_written(rows: &[Row]) {
    let page = include_str!("../../../docs/advisories.md");
    let unwritten: BTreeSet<&str> = rows.iter().map(|row| row.rule).filter(|rule| !page.contains(&format!("| {rule} | "))).collect();
    assert!(unwritten.is_empty(), "rules that docs/advisories.md does not have: {unwritten:#?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Peer = Peer { role: "peer", fields: &["flag", "status"] };
    const RULE: &str = "a rule";
    const ROWS: &[Row] = &[
        Row::refused(PEER, "code", RULE, &["late"]),
        Row::accepted(PEER, "too long", RULE, &["long"]),
        Row::read(PEER, "status", ["UpToDate", "OutOfDate"], RULE, &["in another order"]),
    ];

    fn read(status: &str, flag: &str) -> Verdict {
        Verdict::Accepted(Fields::from([("status", status.to_owned()), ("flag", flag.to_owned())]))
    }

    fn refused(why: &str) -> Verdict {
        Verdict::Refused(why.to_owned())
    }

    /// Whether one comparison is as a row says, or has nothing to explain.
    fn explained(case: &str, ours: &Verdict, theirs: &Verdict) -> bool {
        let mut table = Table::new(ROWS);
        table.compare(case, PEER, ours, theirs);
        table.unexplained().is_empty()
    }

    #[test]
    fn a_row_excuses_its_own_cases_and_no_other() {
        let genuine = read("UpToDate", "true");
        for (case, ours, theirs) in [
            ("late", refused("code"), genuine.clone()),
            ("long", genuine.clone(), refused("a quote too long")),
            ("in another order", genuine.clone(), read("OutOfDate", "true")),
        ] {
            assert!(explained(case, &ours, &theirs), "{case}");
            assert!(explained(&format!("{case} @ byte 7"), &ours, &theirs), "{case}");
            assert!(!explained("another case", &ours, &theirs), "{case}");
            assert!(!explained(&format!("{case}r"), &ours, &theirs), "{case}");
        }
        // Nor another code, other words, another value, the other way round, or another field.
        assert!(!explained("late", &refused("other"), &genuine));
        assert!(!explained("long", &genuine, &refused("too short")));
        assert!(!explained("in another order", &genuine, &read("SWHardeningNeeded", "true")));
        assert!(!explained("in another order", &read("OutOfDate", "true"), &genuine));
        assert!(!explained("in another order", &genuine, &read("UpToDate", "false")));
    }

    #[test]
    fn a_field_that_one_side_alone_has_is_a_difference() {
        let (with, without) = (read("UpToDate", "true"), read("UpToDate", ABSENT));
        assert!(!explained("", &with, &without));
        assert!(!explained("", &without, &with));
        assert!(explained("", &without, &without));
        let unread = Verdict::Accepted(Fields::from([("status", "UpToDate".to_owned())]));
        assert!(!explained("", &with, &unread));
        assert!(!explained("", &unread, &with));
    }

    #[test]
    fn two_refusals_agree_and_a_panic_of_ours_never_does() {
        assert!(explained("", &refused("one"), &refused("other")));
        assert!(explained("", &refused("one"), &Verdict::Panicked));
        assert!(!explained("late", &Verdict::Panicked, &refused("code")));
        assert!(!explained("late", &Verdict::Panicked, &read("UpToDate", "true")));
    }

    #[test]
    fn a_case_that_nothing_meets_is_named() {
        let mut table = Table::new(ROWS);
        table.compare("late", PEER, &refused("code"), &read("UpToDate", "true"));
        assert_eq!(table.unmet().len(), 2);
        table.compare("long", PEER, &read("UpToDate", "true"), &refused("too long"));
        table.compare("in another order", PEER, &read("UpToDate", "true"), &read("OutOfDate", "true"));
        table.close();
    }
}
