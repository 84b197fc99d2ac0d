//! The part of the story in which the answer is no: each time by another check, which is named.

use std::io::Write;

use protocol::admin::{CheckVerdict, Ending, ExplainedCheck};
use protocol::messages::Problem;

use super::{GENUINE, Story, Tone};
use crate::arguments;
use crate::failure::{Failure, expect};
use crate::machine::{Machine, SoftMachine, Tee};
use crate::outsider::{Keys, Outsider};
use crate::programs::Ended;
use crate::td::{Log, TdMachine};

/// A guest that the rules deny.
struct Denied {
    heading: &'static str,
    text: &'static str,
    /// Its machine.
    machine: Box<dyn SoftMachine>,
    /// Its configuration.
    config: &'static str,
    /// Every check that fails.
    codes: &'static [&'static str],
}

/// What the host writes into the guest's configuration.
const TAMPERED: &str = "stdout = \"allowed\"\n";

fn denied(tee: Tee) -> Vec<Denied> {
    let mut denied = match tee {
        Tee::Snp => denied_by_snp(),
        Tee::Tdx => denied_by_tdx(),
    };
    denied.push(Denied {
        heading: "A configuration that the host has changed",
        text: "The right image on the right processor, but the host added a line to the guest's configuration: secrets may go to \
               standard output, which is the host's log. The digest of the configuration is part of the proof.",
        machine: tee.genuine(),
        config: "changed.toml",
        codes: &["configuration"],
    });
    denied
}

fn denied_by_snp() -> Vec<Denied> {
    let changed = |change: fn(&mut Machine)| Box::new(Machine::default().with(change));
    vec![
        Denied {
            heading: "Another image",
            text: "Somebody changed one thing in the image, to get in later. The measurement is another.",
            machine: changed(|machine| machine.measurement[0] ^= 1),
            config: "guest.toml",
            codes: &["snp-measurement"],
        },
        Denied {
            heading: "A guest under a debugger",
            text: "The right image, but the host started it in debug mode, in which it can read all its memory.",
            machine: changed(|machine| machine.policy |= Machine::DEBUG),
            config: "guest.toml",
            codes: &["snp-debug"],
        },
        Denied {
            heading: "Old firmware",
            text: "The right image, on a processor whose firmware lacks a security fix. The report says so, and cannot be made to say otherwise.",
            machine: changed(|machine| machine.firmware -= 1),
            config: "guest.toml",
            codes: &["snp-tcb-committed", "snp-tcb-reported", "snp-tcb-launch"],
        },
    ]
}

fn denied_by_tdx() -> Vec<Denied> {
    let changed = |change: fn(&mut TdMachine)| Box::new(TdMachine::default().with(change));
    vec![
        Denied {
            heading: "Another image",
            text: "Somebody changed one thing in what the VM is built from, to get in later. Its measurement, MRTD, is another.",
            machine: changed(|machine| machine.mrtd[0] ^= 1),
            config: "guest.toml",
            codes: &["tdx-measurement"],
        },
        Denied {
            heading: "A guest under a debugger",
            text: "The right image, but the host started it in debug mode, in which it can read all its memory.",
            machine: changed(|machine| machine.attributes |= TdMachine::DEBUG),
            config: "guest.toml",
            codes: &["tdx-debug"],
        },
        Denied {
            heading: "Old firmware",
            text: "The right image, on a processor whose microcode lacks a security fix. The quote says which microcode it is, and Intel's \
                   signed document says that a newer one is out: out of date.",
            machine: changed(|machine| machine.microcode -= 1),
            config: "guest.toml",
            codes: &["tdx-tcb-status"],
        },
        Denied {
            heading: "Another command line for the kernel",
            text: "The right image again, so MRTD is right too. But the host told the boot loader to start the kernel with a shell in place of \
                   the inference server. The boot loader wrote that into a register before the kernel ran, and nothing can be taken out again.",
            machine: changed(|machine| machine.command_line = b"console=ttyS0 init=/bin/sh\0".to_vec()),
            config: "guest.toml",
            codes: &["tdx-rtmr2-events"],
        },
        Denied {
            heading: "An event log that is kept back",
            text: "The genuine guest, whose host hides the event log from it. Without the log nobody can tell what the register stands for, \
                   and what cannot be told is denied.",
            machine: changed(|machine| machine.log = Log::Withheld),
            config: "guest.toml",
            codes: &["tdx-rtmr2-events"],
        },
    ]
}

impl<W: Write> Story<'_, W> {
    pub(super) fn refusals(&mut self) -> Result<(), Failure> {
        self.page.line("")?;
        self.page.heading("Now those who must not have it. Each asks the same broker for the same model.")?;
        let guest = self.installation.read("guest.toml")?;
        self.installation.write("changed.toml", format!("{guest}{TAMPERED}").as_bytes())?;
        for (number, denied) in denied(self.tee).into_iter().enumerate() {
            self.page.step(denied.heading)?;
            self.page.say(denied.text)?;
            let socket = format!("denied-{number}.sock");
            let agent = denied.machine.start_agent(self.installation.programs(), &socket)?;
            self.expect_denial(denied.config, &socket, denied.codes)?;
            drop(agent);
        }
        self.replay()?;
        self.foreign_evidence()?;
        self.revocation()
    }

    /// A guest asks and is denied by exactly these checks; nothing is left where the model would be.
    fn expect_denial(&mut self, config: &str, socket: &str, codes: &[&str]) -> Result<(), Failure> {
        let to = self.room.path().join("denied");
        let ended = self.installation.unseal(config, socket, self.model.name, "sealed", &to)?.expect(3)?;
        self.refused += 1;
        expect("a denied guest leaves nothing behind", to.exists(), false)?;
        self.page.command(&ended.line)?;
        let (code, decision) = (text_at(&ended, "/code")?, text_at(&ended, "/decision")?);
        let failed = self.failed_checks(&decision)?;
        let found: Vec<&str> = failed.iter().map(|check| check.code.as_str()).collect();
        expect("the failed checks", found.join(" "), codes.join(" "))?;
        expect("the code that the guest learns", code.as_str(), codes.first().copied().unwrap_or_default())?;
        self.page.result(Tone::Bad, "DENIED", &format!("by check {code}"))?;
        self.page.command(&format!("portcullis explain {decision}"))?;
        if let Some(known) = policies::codes::find(&code) {
            self.page.detail("the rule", known.meaning)?;
        }
        if let Some(check) = failed.first() {
            self.page.detail("expected", &check.expected)?;
            self.page.detail("found", &check.found)?;
        }
        match found.split_first() {
            Some((_, rest)) if !rest.is_empty() => self.page.detail("also", &format!("{} failed", rest.join(" and "))),
            _ => Ok(()),
        }
    }

    /// The checks that failed, as the operator sees them.
    fn failed_checks(&self, decision: &str) -> Result<Vec<ExplainedCheck>, Failure> {
        match self.installation.explain(decision)?.ending {
            Ending::Decided { items, .. } => {
                let checks = items.into_iter().flat_map(|item| item.checks);
                Ok(checks.filter(|check| check.verdict == CheckVerdict::Failed).collect())
            }
            Ending::Rejected { code, .. } => {
                Err(Failure::Unexpected { what: format!("decision {decision}"), expected: "a denial".to_owned(), found: code })
            }
        }
    }

    fn outsider(&self) -> Result<Outsider, Failure> {
        Outsider::new(self.installation.url(), self.installation.root()?)
    }

    /// The body of the last request, as somebody on the network wrote it down.
    fn recorded(&self) -> Result<Vec<u8>, Failure> {
        let recorded = self.recorder.as_ref().and_then(|recorder| recorder.last_posted("/v1/release"));
        recorded.ok_or_else(|| Failure::Outsider("nothing was recorded".to_owned()))
    }

    fn replay(&mut self) -> Result<(), Failure> {
        self.page.step("A recorded request, sent again")?;
        self.page.say(
            "The genuine guest gets the key once more. Somebody on the network, through whom its traffic has gone all the time, writes its \
             request down and sends the same bytes again. Each challenge is good for one request.",
        )?;
        let key = self.room.path().join("key");
        let ask = arguments!["release", "--config", "guest.toml", "--evidence", format!("agent:{GENUINE}"), "--json"];
        let ended = self.installation.guest(ask.into_iter().chain(arguments!["--model", self.model.name, "--out", &key]))?.expect(0)?;
        self.permitted += 1;
        std::fs::remove_file(&key).map_err(Failure::io(&key))?;
        self.page.command(&ended.line)?;
        let problem = self.outsider()?.send_bytes(self.recorded()?)?.refusal()?;
        self.expect_rejection(&problem, "challenge-replayed", "a challenge that no request has used")
    }

    fn foreign_evidence(&mut self) -> Result<(), Failure> {
        self.page.step("The evidence of another guest")?;
        self.page.say(
            "A thief gets a fresh challenge, takes the genuine report from the recording, and puts his own keys beside it, so that the \
             answer would be encrypted to him. But the report is over the keys of the guest that it was made for.",
        )?;
        let (outsider, keys) = (self.outsider()?, Keys::generate()?);
        let request = Outsider::adopt(&self.recorded()?, &outsider.challenge()?, &keys)?;
        let problem = outsider.send(&request, &keys)?.refusal()?;
        let code = match self.tee {
            Tee::Snp => "snp-report-data",
            Tee::Tdx => "tdx-report-data",
        };
        self.expect_rejection(&problem, code, "report data over the keys that signed the request")
    }

    /// A request that proves nothing was refused by this check. Where the broker does not say what it expected, `expected` does.
    fn expect_rejection(&mut self, problem: &Problem, code: &str, expected: &str) -> Result<(), Failure> {
        expect("the code of the rejection", problem.code.as_str(), code)?;
        let decision = problem.decision.map(|decision| decision.to_string()).unwrap_or_default();
        let Ending::Rejected { code, detail, .. } = self.installation.explain(&decision)?.ending else {
            return Err(Failure::Unexpected { what: decision, expected: code.to_owned(), found: "a decision".to_owned() });
        };
        let (expected, found) = match detail.strip_prefix("expected ").and_then(|rest| rest.split_once(", found ")) {
            Some((expected, found)) => (expected, found),
            None => (expected, detail.as_str()),
        };
        self.page.result(Tone::Bad, "REJECTED", &format!("by check {code}"))?;
        self.page.command(&format!("portcullis explain {decision}"))?;
        self.page.detail("expected", expected)?;
        self.page.detail("found", found)
    }

    fn revocation(&mut self) -> Result<(), Failure> {
        self.page.step("A model that was withdrawn")?;
        self.page.say("The owner revokes the model. The genuine guest, which got the key a moment ago, asks again.")?;
        let ended = self.installation.revoke(self.model.name, "withdrawn by its owner")?;
        self.page.command(&ended.line)?;
        self.expect_denial("guest.toml", GENUINE, &["record-revoked"])?;
        self.page.say("A key that was released before cannot be taken back. From now on nobody gets it.")
    }
}

/// A text in what a program printed as JSON.
fn text_at(ended: &Ended, pointer: &str) -> Result<String, Failure> {
    let found = ended.json()?;
    let text = found.pointer(pointer).and_then(serde_json::Value::as_str).map(str::to_owned);
    text.ok_or_else(|| Failure::Unexpected { what: ended.line.clone(), expected: format!("a text at {pointer}"), found: found.to_string() })
}
