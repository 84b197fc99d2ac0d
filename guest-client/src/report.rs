//! What people and programs learn about how a command ended: standard output, JSON, the container's termination log.
//!
//! Texts that came over the network pass through [`plain`]: a code or a hint never moves anybody's cursor.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use protocol::messages::{ItemOutcome, Outcome, Reason};
use serde::Serialize;

use crate::exchange::ExchangeError;

/// Where Kubernetes reads a container's last words, unless it is told otherwise.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// How much of them it reads (bytes).
const TERMINATION_LIMIT: usize = 4096;

/// How a command ended, where it did not succeed; or what `check` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `permitted`, `denied` or `failed`.
    pub result: &'static str,
    /// A stable code: of the failure; of a denial, the first failing check's.
    pub code: String,
    /// In words.
    pub message: String,
    /// What may help.
    pub hint: String,
    /// The decision's number, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// The index of its entry in the broker's audit log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_entry: Option<u64>,
    /// Every item that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<ItemReport>,
}

/// What was decided about one item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ItemReport {
    /// `model`, `credential` or `identity`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The version that was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// `granted`, `identified`, `permitted` or `refused`.
    pub result: &'static str,
    /// Until when a permit holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Every check that failed, with what the guest was found to be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
}

impl ItemReport {
    fn of(outcome: &ItemOutcome) -> Self {
        let item = outcome.item();
        let (result, expires, reasons) = match outcome {
            ItemOutcome::Granted { expires, .. } => ("granted", Some(expires.to_string()), &[][..]),
            ItemOutcome::Identified(identified) => ("identified", Some(identified.expires.to_string()), &[][..]),
            ItemOutcome::Permitted { expires, .. } => ("permitted", Some(expires.to_string()), &[][..]),
            ItemOutcome::Refused { reasons, .. } => ("refused", None, reasons.as_slice()),
        };
        Self {
            kind: item.kind.as_str(),
            name: item.name.to_string(),
            version: item.version.map(protocol::ids::Version::number),
            result,
            expires,
            reasons: reasons.iter().map(shown).collect(),
        }
    }
}

fn shown(reason: &Reason) -> Reason {
    Reason { code: plain(&reason.code), found: plain(&reason.found), hint: plain(&reason.hint) }
}

impl Report {
    /// Of a decision. Holds no secret: of a grant, only that it was one.
    #[must_use]
    pub fn of_decision(outcome: &Outcome, entry: u64) -> Self {
        let items: Vec<ItemReport> = outcome.items.iter().map(ItemReport::of).collect();
        let refused = items.iter().filter(|item| item.result == "refused").count();
        let first = items.iter().flat_map(|item| &item.reasons).next();
        let (result, code, message, hint) = if refused == 0 {
            ("permitted", "permitted".to_owned(), format!("all {} items are permitted", items.len()), String::new())
        } else {
            let code = first.map_or_else(|| "refused".to_owned(), |reason| reason.code.clone());
            let hint = first.map(|reason| reason.hint.clone()).unwrap_or_default();
            ("denied", code, format!("{refused} of {} items are refused", items.len()), hint)
        };
        Self { result, code, message, hint, decision: Some(outcome.decision.to_string()), log_entry: Some(entry), items }
    }

    /// Of an exchange that gave no decision.
    #[must_use]
    pub fn of_error(error: &ExchangeError) -> Self {
        let result = if matches!(error, ExchangeError::Rejected(_)) { "denied" } else { "failed" };
        let mut message = plain(&error.to_string());
        if let ExchangeError::Rejected(problem) = error
            && let Some(detail) = &problem.detail
        {
            message = format!("{message}: {}", plain(detail));
        }
        let decision = error.decision().map(|decision| decision.to_string());
        Self { result, code: plain(error.code()), message, hint: plain(error.hint()), decision, log_entry: None, items: Vec::new() }
    }

    /// For people: one block, no secret.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = self.write_to(&mut text);
        text
    }

    fn write_to(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "{}: {} ({})", self.result, self.message, self.code)?;
        for item in &self.items {
            let version = item.version.map(|version| format!("@{version}")).unwrap_or_default();
            writeln!(text, "  {:<9} {} {}{version}", item.result, item.kind, item.name)?;
            for reason in &item.reasons {
                writeln!(text, "            {}: found {}", reason.code, reason.found)?;
                if !reason.hint.is_empty() {
                    writeln!(text, "            hint: {}", reason.hint)?;
                }
            }
        }
        if self.items.is_empty() && !self.hint.is_empty() {
            writeln!(text, "hint: {}", self.hint)?;
        }
        match &self.decision {
            Some(decision) => writeln!(text, "decision {decision}: its operator sees more with: portcullis explain {decision}"),
            None => Ok(()),
        }
    }

    /// As one JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Leaves the text where the container's platform looks for last words: in the file that the command line or the
    /// variable `TERMINATION_LOG` names, else in Kubernetes' own, if it exists. That it fails is no second failure.
    pub fn leave(&self, named: Option<&Path>) {
        let path = named.map(Path::to_owned).or_else(|| std::env::var_os("TERMINATION_LOG").map(PathBuf::from));
        let path = path.or_else(|| Some(PathBuf::from(TERMINATION_LOG)).filter(|path| path.exists()));
        let Some(path) = path else { return };
        if let Err(error) = std::fs::write(&path, cut(&self.to_text(), TERMINATION_LIMIT)) {
            eprintln!("warning: the termination log {} cannot be written: {error}", path.display());
        }
    }
}

/// The beginning of a text, at most this many bytes.
fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// The text with every control character made visible, and at most 512 characters long.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).take(512).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::documents::Kind;
    use protocol::ids::{DecisionId, Digest};
    use protocol::keys::PublicKey;
    use protocol::log::Receipt;
    use protocol::messages::{Item, Problem, Secret};
    use protocol::time::UnixTime;
    use zeroize::Zeroizing;

    fn item(name: &str) -> Item {
        Item { kind: Kind::Credential, name: name.parse().unwrap(), version: None }
    }

    fn outcome(items: Vec<ItemOutcome>) -> Outcome {
        let receipt = Receipt { entry: vec![], proof: String::new() };
        Outcome { decision: DecisionId::from([7; 16]), at: UnixTime::from_seconds(0), items, receipt }
    }

    fn granted(secret: &[u8]) -> ItemOutcome {
        ItemOutcome::Granted {
            item: item("a"),
            publisher: PublicKey::from_bytes([1; 32]),
            statement: Digest::from([2; 32]),
            manifest: None,
            expires: UnixTime::from_seconds(9),
            secret: Secret::new(Zeroizing::new(secret.to_vec())),
        }
    }

    fn refused(found: &str) -> ItemOutcome {
        let reason = Reason { code: "snp-measurement".into(), found: found.into(), hint: "use the image of the policy".into() };
        ItemOutcome::Refused { item: item("b"), reasons: vec![reason] }
    }

    #[test]
    fn a_denial_says_code_decision_hint_and_what_was_found_and_no_secret() {
        let report = Report::of_decision(&outcome(vec![granted(b"sesame-open"), refused("abcd")]), 5);
        let (text, json) = (report.to_text(), report.to_json());
        for part in ["denied", "snp-measurement", "abcd", "use the image of the policy", &"07".repeat(16)] {
            assert!(text.contains(part) && json.contains(part), "{part}: {text}");
        }
        for secret in ["sesame-open", &protocol::encoding::to_base64(b"sesame-open")] {
            assert!(!text.contains(secret) && !json.contains(secret));
        }
        assert_eq!(report.result, "denied");
        assert_eq!(Report::of_decision(&outcome(vec![granted(b"x")]), 5).result, "permitted");
    }

    #[test]
    fn what_comes_over_the_network_moves_no_cursor() {
        let report = Report::of_decision(&outcome(vec![refused("\u{1b}[2Jgone\r\n")]), 5);
        assert!(!report.to_text().contains('\u{1b}') && report.to_text().contains("\u{fffd}[2Jgone"));
        let mut problem = Problem::new(403, "a\u{7}b", "title\u{1b}]0;x");
        problem.detail = Some("de\ttail".into());
        let text = Report::of_error(&ExchangeError::Rejected(Box::new(problem))).to_text();
        assert!(text.chars().all(|character| character == '\n' || !character.is_control()), "{text:?}");
        assert_eq!(plain(&"x".repeat(1000)).len(), 512);
    }

    #[test]
    fn last_words_are_left_where_they_are_looked_for_and_no_longer_than_they_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("termination-log");
        let report = Report::of_decision(&outcome((0..64).map(|_| refused(&"ä".repeat(200))).collect()), 5);
        report.leave(Some(&path));
        let left = std::fs::read_to_string(&path).unwrap();
        assert!(left.len() <= TERMINATION_LIMIT && left.len() > TERMINATION_LIMIT - 4, "{}", left.len());
        assert!(report.to_text().starts_with(&left));
        assert_eq!(cut("äb", 1), "");
        assert_eq!(cut("äb", 2), "ä");
    }
}
