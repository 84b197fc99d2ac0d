//! Our verdicts and fields beside other verifiers', on the same bytes: real vectors, soft platforms, and mutations of both.
//!
//! Where two verifiers differ, either one of them has a fault, or ours is stricter on purpose. Every such purpose is a [`Row`] of a table in the
//! test that meets it, with the rule of ours behind it; `docs/advisories.md` has the same rules. A difference without a row fails, and so does a
//! row that nothing meets any more.

pub mod evidence;
pub mod ours;
pub mod peers;
pub mod snp;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// What a verifier reads, by name; as text, so that each can say it in its own way.
pub type Fields = BTreeMap<&'static str, String>;

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

    fn words(&self) -> &str {
        match self {
            Self::Accepted(_) => ACCEPTED,
            Self::Refused(why) => why,
            Self::Panicked => "panicked",
        }
    }
}

/// In a row: the verifier accepts.
pub const ACCEPTED: &str = "accepted";

/// One kind of difference, and our rule behind it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Who differs.
    pub peer: &'static str,
    /// What we say: [`ACCEPTED`], one of our codes, or the name of a field that both read differently.
    pub ours: &'static str,
    /// What the peer says: [`ACCEPTED`], or words of its refusal.
    pub theirs: &'static str,
    /// Our rule. `docs/advisories.md` has this very sentence.
    pub rule: &'static str,
}

impl Row {
    /// A row: who differs, what we say, what they say, and our rule.
    #[must_use]
    pub const fn new(peer: &'static str, ours: &'static str, theirs: &'static str, rule: &'static str) -> Self {
        Self { peer, ours, theirs, rule }
    }
}

/// The rows, and which of them were met.
pub struct Table {
    rows: &'static [Row],
    met: BTreeSet<usize>,
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

    /// Compares two verdicts on one case. Two refusals agree, whatever the reasons: a case can be wrong in several ways.
    pub fn compare(&mut self, case: &str, peer: &'static str, ours: &Verdict, theirs: &Verdict) {
        self.compared += 1;
        match (ours, theirs) {
            (Verdict::Accepted(own), Verdict::Accepted(other)) => {
                self.accepted += 1;
                for (name, value) in other {
                    let own = own.get(name).map_or("absent", String::as_str);
                    if own != value {
                        self.difference(case, peer, name, ACCEPTED, &format!("{own} / {value}"));
                    }
                }
            }
            (Verdict::Accepted(_), _) | (_, Verdict::Accepted(_)) => self.difference(case, peer, ours.words(), theirs.words(), ""),
            (Verdict::Panicked, _) => self.difference(case, peer, "panicked", theirs.words(), ""),
            (Verdict::Refused(_), _) => {}
        }
    }

    fn difference(&mut self, case: &str, peer: &str, ours: &str, theirs: &str, detail: &str) {
        let meets = |row: &Row| row.peer == peer && row.ours == ours && theirs.contains(row.theirs);
        match self.rows.iter().position(meets) {
            Some(place) => drop(self.met.insert(place)),
            None => {
                self.unexplained.entry(format!("{peer}: ours {ours:?}, theirs {theirs:?}")).or_default().push(format!("{case} {detail}"))
            }
        }
    }

    /// No difference without a row.
    ///
    /// # Panics
    /// When there is one.
    pub fn explained(&self) {
        let unexplained: Vec<String> = self
            .unexplained
            .iter()
            .map(|(kind, cases)| {
                format!("{kind}\n    {} cases, as {}", cases.len(), cases.iter().take(4).cloned().collect::<Vec<_>>().join("; "))
            })
            .collect();
        assert!(unexplained.is_empty(), "differences without a row:\n{}", unexplained.join("\n"));
    }

    /// No difference without a row, no row without a difference.
    ///
    /// # Panics
    /// When there is one.
    pub fn close(&self) {
        self.explained();
        let unmet: Vec<&Row> = self.rows.iter().enumerate().filter(|(place, _)| !self.met.contains(place)).map(|(_, row)| row).collect();
        assert!(unmet.is_empty(), "rows that nothing meets: {unmet:#?}");
    }
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
