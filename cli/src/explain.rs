//! `portcullis explain`: everything about one decision.

use clap::Args;
use protocol::admin::{CheckVerdict, Ending, ExplainedCheck, ExplainedItem, Explanation};
use protocol::entries::Verdict;
use protocol::ids::{AnchorClass, DecisionId};
use protocol::messages::Purpose;

use crate::broker::{AdminArguments, BrokerError};
use crate::checks::{self, Mark, Row};
use crate::console::{Console, Tone};
use crate::failure::{Exit, Failure, Outcome};
use crate::records::Form;

/// Explain a decision: every check, what was expected, what was found
///
/// The guest's own log, the container's termination message and the audit log carry the decision's id.
#[derive(Args)]
#[command(after_long_help = "\
Example:
    portcullis explain 6f1c0e3a9d5b4c27a8e0f1d2c3b4a596 --broker https://broker.example.com \\
        --token-file token")]
pub(crate) struct Explain {
    /// The decision's id, 32 hex digits
    #[arg(value_name = "DECISION-ID")]
    decision: DecisionId,

    /// Print as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    admin: AdminArguments,
}

impl Explain {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Outcome {
        let explanation = self.admin.connect()?.decision(&self.decision).map_err(|error| self.not_found(error))?;
        match Form::of(self.json) {
            Form::Json => console.json(&explanation),
            Form::Text => print(&explanation, console),
        }
        Ok(Exit::Done)
    }

    fn not_found(&self, error: BrokerError) -> Failure {
        if error.is_not_found() {
            Failure::failed(format_args!("the broker knows no decision {}", self.decision))
                .hint("requests that were rejected before anything was verified are kept in memory only, and only for a while")
        } else {
            error.into()
        }
    }
}

fn print(explanation: &Explanation, console: &mut Console<'_>) {
    let anchors = match explanation.anchors {
        AnchorClass::Vendor => "vendor".to_owned(),
        AnchorClass::Test => console.paint(Tone::Warning, "TEST ROOTS"),
    };
    let mut fields = vec![("decision", explanation.decision.to_string()), ("at", explanation.at.to_string()), ("anchors", anchors)];
    fields.extend(explanation.request.map(|request| ("request", request.to_string())));
    match &explanation.ending {
        Ending::Rejected { code, detail, hint } => {
            fields.extend([("rejected", console.paint(Tone::Bad, code)), ("because", detail.clone()), ("hint", hint.clone())]);
            console.fields("", fields);
        }
        Ending::Decided { entry, purpose, platform, role, configuration, guest, evidence, claims, items } => {
            let purpose = match purpose {
                Purpose::Release => "release",
                Purpose::Check => "check: nothing is released",
            };
            fields.extend([
                ("log entry", entry.to_string()),
                ("purpose", purpose.to_owned()),
                ("platform", platform.to_string()),
                ("role", role.to_string()),
                ("configuration", configuration.to_string()),
                ("guest key", guest.to_string()),
                ("evidence", evidence.to_string()),
            ]);
            console.fields("", fields);
            console.line("");
            console.fields("  ", claims.iter().map(|claim| (claim.name.as_str(), claim.value.clone())));
            for item in items {
                print_item(item, console);
            }
        }
    }
}

fn print_item(item: &ExplainedItem, console: &mut Console<'_>) {
    let verdict = match item.verdict {
        Verdict::Permitted => console.paint(Tone::Good, "permitted"),
        Verdict::Refused => console.paint(Tone::Bad, "refused"),
    };
    let version = item.item.version.map(|version| format!(" version {version}")).unwrap_or_default();
    let policy = item.policy.as_ref().map(|policy| format!(" by policy {} version {}", policy.name, policy.version)).unwrap_or_default();
    let name = console.paint(Tone::Strong, &format!("{} {}{version}", item.item.kind.as_str(), item.item.name));
    console.line("");
    console.line(format!("{name}: {verdict}{policy}"));
    checks::print(&item.checks.iter().map(row_of).collect::<Vec<_>>(), console);
}

fn row_of(check: &ExplainedCheck) -> Row<'_> {
    let mark = match check.verdict {
        CheckVerdict::Passed => Mark::Passed,
        CheckVerdict::Failed => Mark::Failed,
    };
    Row { code: &check.code, expected: &check.expected, found: &check.found, mark }
}

#[cfg(test)]
mod tests {
    use protocol::admin::{Claim, PolicyReference};
    use protocol::documents::Kind;
    use protocol::ids::{Digest, Platform, Role, Version};
    use protocol::messages::Item;
    use protocol::time::UnixTime;

    use super::*;
    use crate::console::Style;

    fn printed(ending: Ending) -> String {
        let explanation = Explanation {
            decision: DecisionId::from([1; 16]),
            at: UnixTime::from_seconds(0),
            anchors: AnchorClass::Test,
            request: None,
            ending,
        };
        let mut out = Vec::new();
        print(&explanation, &mut Console::new(&mut out, std::io::sink(), Style::Plain));
        String::from_utf8(out).unwrap()
    }

    fn check(code: &str, verdict: CheckVerdict) -> ExplainedCheck {
        ExplainedCheck { code: code.to_owned(), expected: "no debug".to_owned(), found: "debug".to_owned(), verdict }
    }

    #[test]
    fn a_refusal_names_every_failing_check_with_both_sides() {
        let item = ExplainedItem {
            item: Item { kind: Kind::Model, name: "llama".parse().unwrap(), version: Some(Version::FIRST) },
            verdict: Verdict::Refused,
            policy: Some(PolicyReference { name: "inference".parse().unwrap(), version: Version::FIRST, document: Digest::from([0; 32]) }),
            checks: vec![check("role", CheckVerdict::Passed), check("snp-debug", CheckVerdict::Failed)],
        };
        let zero = Digest::from([0; 32]);
        let text = printed(Ending::Decided {
            entry: 7,
            purpose: Purpose::Release,
            platform: Platform::SevSnp,
            role: Role::WholeVm,
            configuration: zero,
            guest: zero,
            evidence: zero,
            claims: vec![Claim { name: "vmpl".to_owned(), value: "0".to_owned() }],
            items: vec![item],
        });
        let expected = "
  vmpl  0

model llama version 1: refused by policy inference version 1
  ok    role       debug
  FAIL  snp-debug  expected no debug
                   found    debug
                   hint     launch the guest without the debug bit; no policy can accept it
";
        assert!(text.ends_with(expected), "{text}");
        assert!(text.contains("anchors        TEST ROOTS\n"), "{text}");
    }

    #[test]
    fn a_rejection_says_code_detail_and_hint() {
        let text = printed(Ending::Rejected {
            code: "snp-signature".to_owned(),
            detail: "it does not verify".to_owned(),
            hint: "none".to_owned(),
        });
        assert!(text.ends_with("rejected  snp-signature\nbecause   it does not verify\nhint      none\n"), "{text}");
    }
}
