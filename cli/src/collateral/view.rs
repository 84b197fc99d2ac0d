//! What is known of each piece, for people and programs.

use attestation::Anchors;
use attestation::forms::{PieceSummary, Validity};
use protocol::collateral::{CollateralKind, CollateralPiece};
use protocol::ids::{AnchorClass, Digest};
use protocol::time::UnixTime;
use serde::Serialize;

use super::forms::{Found, LeftOut, Signer};
use super::judge;
use crate::console::{Console, Tone};
use crate::records::Form;

const DAY: u64 = 24 * 3600;

/// Everything that was found, in the shape of its JSON; README.md of this crate documents it.
#[derive(Debug, Serialize)]
pub(super) struct View {
    at: UnixTime,
    /// Under whose roots; absent where only dates were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    anchors: Option<AnchorClass>,
    bundles: Vec<BundleView>,
    pub(super) pieces: Vec<PieceView>,
    left_out: Vec<LeftOutView>,
}

#[derive(Debug, Serialize)]
struct BundleView {
    file: String,
    created: UnixTime,
    signature: &'static str,
    signer: String,
}

/// A file that gave nothing.
#[derive(Debug, Serialize)]
pub(crate) struct LeftOutView {
    file: String,
    why: String,
}

impl LeftOutView {
    pub(crate) fn of(left: &LeftOut) -> Self {
        Self { file: left.path.display().to_string(), why: left.why.to_string() }
    }

    /// Says so on standard error.
    pub(crate) fn print(&self, console: &mut Console<'_>) {
        console.note(format!("left out: {}: {}", self.file, self.why));
    }
}

/// One piece.
#[derive(Debug, Serialize)]
pub(super) struct PieceView {
    piece: Digest,
    kind: CollateralKind,
    subject: String,
    evaluation: Option<u32>,
    issued: Option<UnixTime>,
    next_update: Option<UnixTime>,
    /// Whole days until the next update; negative where it is past.
    days_left: Option<i64>,
    source: String,
    /// What is wrong with it, where anything is.
    problem: Option<Problem>,
}

/// What is wrong with a piece.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    /// A stable code.
    pub(super) code: &'static str,
    /// What was expected and found.
    pub(super) detail: String,
}

impl Problem {
    /// The code of what is neither good nor bad, for want of what it was signed with.
    pub(super) const NOT_JUDGED: &str = "not-judged";

    fn is_bad(&self) -> bool {
        self.code != Self::NOT_JUDGED
    }
}

impl View {
    /// By dates alone.
    pub(super) fn dated(found: &Found, at: UnixTime) -> Self {
        let pieces = found.pieces.iter().map(|piece| PieceView::new(piece, at, None)).collect();
        Self::new(found, at, None, pieces)
    }

    /// Each piece verified under the roots.
    pub(super) fn judged(found: &Found, anchors: &Anchors, at: UnixTime) -> Self {
        let problems = judge::problems(&found.pieces, anchors, at);
        let pieces = found.pieces.iter().zip(problems).map(|(piece, problem)| PieceView::new(piece, at, problem)).collect();
        Self::new(found, at, Some(anchors.class()), pieces)
    }

    fn new(found: &Found, at: UnixTime, anchors: Option<AnchorClass>, pieces: Vec<PieceView>) -> Self {
        let bundle = |bundle: &super::forms::Bundle| {
            let (signature, signer) = match bundle.signer {
                Signer::Verified(authority) => ("verified", authority.to_string()),
                Signer::NotChecked(id) => ("not-checked", id.to_string()),
            };
            BundleView { file: bundle.path.display().to_string(), created: bundle.created, signature, signer }
        };
        Self {
            at,
            anchors,
            bundles: found.bundles.iter().map(bundle).collect(),
            pieces,
            left_out: found.left_out.iter().map(LeftOutView::of).collect(),
        }
    }

    /// How many pieces are bad or out of date.
    pub(super) fn bad(&self) -> usize {
        self.pieces.iter().filter(|piece| piece.problem.as_ref().is_some_and(Problem::is_bad)).count()
    }

    /// How many nobody could judge.
    pub(super) fn not_judged(&self) -> usize {
        self.pieces.iter().filter(|piece| piece.problem.as_ref().is_some_and(|problem| !problem.is_bad())).count()
    }

    pub(super) fn print(&self, form: Form, console: &mut Console<'_>) {
        if form == Form::Json {
            console.json(self);
            return;
        }
        for BundleView { file, created, signature, signer } in &self.bundles {
            let tone = if *signature == "verified" { Tone::Good } else { Tone::Warning };
            let signature = format!("{}: {signer}", console.paint(tone, signature));
            console.fields("", [("bundle", file.clone()), ("created", created.to_string()), ("signature", signature)]);
            console.line("");
        }
        let rows: Vec<Vec<String>> = self.pieces.iter().map(|piece| piece.row(console)).collect();
        console.table(&["KIND", "SUBJECT", "NUMBER", "ISSUED", "NEXT UPDATE", "DAYS", "SOURCE", "STATE"], &rows);
        self.left_out.iter().for_each(|left| left.print(console));
    }
}

impl PieceView {
    fn new(piece: &CollateralPiece, at: UnixTime, problem: Option<Problem>) -> Self {
        let PieceSummary { subject, evaluation, validity } = PieceSummary::of(piece);
        let next_update = validity.and_then(|validity| validity.next_update);
        Self {
            piece: piece.digest(),
            kind: piece.kind,
            subject,
            evaluation,
            issued: validity.map(|validity| validity.issued),
            next_update,
            days_left: next_update.map(|until| days(at, until)),
            source: piece.source.clone(),
            problem: match problem {
                Some(problem) if problem.is_bad() => Some(problem),
                // What has expired is out of date whoever signed it.
                not_judged => dated(validity, at).or(not_judged),
            },
        }
    }

    fn row(&self, console: &Console<'_>) -> Vec<String> {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let day = |time: Option<UnixTime>| or_none(time.map(|time| time.to_string().chars().take(10).collect()));
        let state = match &self.problem {
            None => console.paint(Tone::Good, "ok"),
            Some(problem) => {
                let tone = if problem.is_bad() { Tone::Bad } else { Tone::Warning };
                console.paint(tone, &format!("{}: {}", problem.code, problem.detail))
            }
        };
        vec![
            self.kind.as_str().to_owned(),
            self.subject.clone(),
            or_none(self.evaluation.map(|number| number.to_string())),
            day(self.issued),
            day(self.next_update),
            or_none(self.days_left.map(|days| days.to_string())),
            self.source.clone(),
            state,
        ]
    }
}

/// What the dates alone say.
fn dated(validity: Option<Validity>, at: UnixTime) -> Option<Problem> {
    let Some(Validity { issued, next_update }) = validity else {
        return Some(Problem { code: "unreadable", detail: "not of the form that its kind has".to_owned() });
    };
    if at < issued {
        return Some(Problem { code: "not-yet-valid", detail: format!("issued at {issued}, after {at}") });
    }
    match next_update {
        Some(until) if at > until => Some(Problem { code: "expired", detail: format!("its next update was due at {until}, before {at}") }),
        _ => None,
    }
}

/// Whole days from `at` to `until`, towards zero.
fn days(at: UnixTime, until: UnixTime) -> i64 {
    let whole = |later: UnixTime, earlier: UnixTime| i64::try_from(later.since(earlier).as_secs() / DAY).unwrap_or(i64::MAX);
    if until >= at { whole(until, at) } else { -whole(at, until) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(seconds)
    }

    #[test]
    fn days_left_are_whole_and_fall_below_zero() {
        assert_eq!([days(at(0), at(DAY)), days(at(0), at(DAY - 1)), days(at(3 * DAY), at(0)), days(at(5), at(0))], [1, 0, -3, 0]);
    }

    #[test]
    fn a_piece_holds_from_its_first_second_to_its_last() {
        let validity = Some(Validity { issued: at(10), next_update: Some(at(20)) });
        let code = |seconds| dated(validity, at(seconds)).map(|problem| problem.code);
        assert_eq!([code(9), code(10), code(20), code(21)], [Some("not-yet-valid"), None, None, Some("expired")]);
        assert_eq!(dated(None, at(1)).map(|problem| problem.code), Some("unreadable"));
    }
}
