//! The story of `cargo demo -- agent`: an agent in a proven guest gets who it is and what it may use, calls a tool that checks who calls,
//! and loses both when its measurement is withdrawn.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use protocol::encoding::sha256;
use protocol::ids::Role;

use super::{Afterwards, Page, Tone, Wishes};
use crate::agent::{ANSWERED, KEY, LISTENING, NOBODY, REFUSED};
use crate::arguments;
use crate::failure::{Failure, expect};
use crate::installation::Installation;
use crate::machine::{Machine, SoftMachine, Tee};
use crate::memory::{Kind, Room};
use crate::policy::{Draft, TdDraft};
use crate::programs::{Ended, Part, Programs, Server};
use crate::td::TdMachine;

/// The trust domain.
const DOMAIN: &str = "acme.example";
/// Who the agent is; also the name of the policy that says so.
const RESEARCH: &str = "research";
/// Who serves the tool.
const SEARCH: &str = "search";
/// The agent's credential: a record like a model's key.
const CREDENTIAL: &str = "acme/search-key";
/// What the credential is.
const API_KEY: &str = "sk-acme-0123456789";
/// How often sidecar and `exec` ask the broker whether it still holds, in seconds: the bound that the story states.
const CHECK_EVERY: u64 = 2;
/// What a busy machine may take beside that.
const SLACK: Duration = Duration::from_secs(30);

/// Tells the story. Every process has ended and every folder is gone when this returns, but for what was wished to stay.
///
/// # Errors
/// [`Failure`] where anything is not as the story says.
pub fn tell<W: Write>(wishes: &Wishes, executable: &Path, interrupted: Arc<AtomicBool>, page: &mut Page<W>) -> Result<(), Failure> {
    let began = Instant::now();
    let place = std::env::temp_dir();
    let mut folder = tempfile::Builder::new().prefix("portcullis-demo-").tempdir_in(&place).map_err(Failure::io(&place))?;
    if wishes.after == Afterwards::Keep {
        folder.disable_cleanup(true);
        page.heading(&format!("Everything is kept in {}\n", folder.path().display()))?;
    }
    let programs = Programs::new(executable, folder.path()).without_limit().interrupted_by(interrupted);
    introduce(wishes.tee, page)?;
    let mut story = Story { page, tee: wishes.tee, installation: Installation::new(programs, wishes.tee), room: Room::find(1 << 20)? };
    story.broker()?;
    story.policies()?;
    story.credential()?;
    let tools = story.workload(SEARCH, "The tool's own guest")?;
    let agent = story.workload(RESEARCH, "The agent's guest")?;
    let (server, address) = story.tool(&tools)?;
    let running = story.agent(&agent, &address)?;
    story.others(&tools, &address)?;
    story.withdrawal(&agent, running, &address)?;
    story.audit()?;
    drop((server, agent, tools));
    story.installation.stop()?;
    let seconds = began.elapsed().as_secs_f64();
    page.heading("\nEverything went as told.")?;
    drop(folder);
    let left = if wishes.after == Afterwards::Remove { "every file is gone" } else { "its folder stays" };
    page.say(&format!("It took {seconds:.1} seconds. Every process has ended and {left}."))
}

fn introduce<W: Write>(tee: Tee, page: &mut Page<W>) -> Result<(), Failure> {
    page.heading("Portcullis: an agent gets who it is, and what it may use, by proving what it runs in")?;
    page.line("")?;
    page.say(
        "An agent acts for you: it calls tools, reads data, spends money. So each tool must know which agent calls, and the agent needs API \
         keys. Both are usually written into its deployment, where whoever runs the machine can copy them. Here the agent runs in a \
         confidential VM, and the broker gives it a name and its key only after the processor has said what was started in there, and only \
         for as long as that is still good. Agent and tool know nothing of this: they speak SPIFFE, as many programs do, and TLS.",
    )?;
    page.line("")?;
    let processor = match tee {
        Tee::Snp => "AMD's SEV-SNP",
        Tee::Tdx => "Intel's TDX",
    };
    page.warn(&format!(
        "Everything is the real software but the processor: a program signs what {processor} would, under test roots. This installation is of \
         anchor class: test."
    ))
}

/// The machine that a workload's guest runs on.
fn machine(tee: Tee, workload: &str, changed: bool) -> Result<Box<dyn SoftMachine>, Failure> {
    let role = role(workload)?;
    Ok(match tee {
        Tee::Snp => Box::new(Machine::default().with(|machine| {
            machine.role = role;
            machine.measurement[0] ^= u8::from(changed);
        })),
        Tee::Tdx => Box::new(TdMachine::default().with(|machine| {
            machine.role = role;
            machine.mrtd[0] ^= u8::from(changed);
        })),
    })
}

fn role(workload: &str) -> Result<Role, Failure> {
    workload.parse().map(Role::Workload).map_err(|error: protocol::ids::BadId| Failure::Unexpected {
        what: workload.to_owned(),
        expected: "a workload's name".to_owned(),
        found: error.to_string(),
    })
}

fn id(workload: &str) -> String {
    format!("spiffe://{DOMAIN}/agents/{workload}")
}

fn policy_name(workload: &str) -> String {
    format!("agents/{workload}")
}

fn socket(workload: &str) -> String {
    format!("{workload}.sock")
}

/// A guest: its evidence agent, and its sidecar, which serves the Workload API.
struct Workload {
    name: &'static str,
    endpoint: String,
    _sidecar: Server,
    _evidence: Server,
}

struct Story<'p, W> {
    page: &'p mut Page<W>,
    tee: Tee,
    installation: Installation,
    room: Room,
}

impl<W: Write> Story<'_, W> {
    fn broker(&mut self) -> Result<(), Failure> {
        self.page.step("Keys, and a broker with a trust domain")?;
        self.page.say(
            "As in the story of a model: a root, a publisher, an authority; and a broker. Here the broker also issues identities, under a trust \
             domain with keys of its own, and one line of its configuration says which names the authority may give.",
        )?;
        for kind in ["root", "publisher", "authority"] {
            self.installation.keygen(kind)?;
        }
        self.installation.init()?;
        self.installation.configure()?;
        self.installation.configure_identities(DOMAIN, None, "agents/*")?;
        self.page.file(&format!("[[authority]]\nidentities = [\"agents/*\"]\n\n[identity]\ntrust-domain = \"{DOMAIN}\"\n"))?;
        let line = self.installation.start()?;
        self.page.command(&line)?;
        let plaintext = if self.room.kind() == Kind::Memory { "" } else { "plaintext = \"disk\"\n" };
        self.installation.write_guest("guest.toml", plaintext)
    }

    fn policies(&mut self) -> Result<(), Failure> {
        self.page.step("The owner's rules, which also say who it is")?;
        self.page.say("Two images were reviewed: the agent's, and the tool's. What each guest may have is decided as for a model; the last lines say its name.")?;
        for workload in [SEARCH, RESEARCH] {
            let ended = self.put(workload, 1, false)?;
            self.page.command(&ended.line)?;
        }
        self.page.file(IDENTITY)
    }

    /// The policy of a workload; `withdrawn`: for another image than the one that runs.
    fn put(&self, workload: &str, version: u32, withdrawn: bool) -> Result<Ended, Failure> {
        let digest = self.installation.config_digest("guest.toml")?;
        let other = |measurement: &mut [u8; 48]| measurement[0] ^= u8::from(withdrawn);
        let rules = match self.tee {
            Tee::Snp => {
                let mut draft = Draft::accepting(&Machine::default(), &[&digest]);
                other(&mut draft.measurement);
                Draft { role: role(workload)?, ..draft }.text()
            }
            Tee::Tdx => {
                let mut draft = TdDraft::accepting(&TdMachine::default(), &[&digest]);
                other(&mut draft.mrtd);
                TdDraft { role: role(workload)?, ..draft }.text()
            }
        };
        let file = format!("{workload}.policy.toml");
        self.installation.write(&file, format!("{rules}\n{IDENTITY}").as_bytes())?;
        let put = arguments!["policy", "put", &file, "--name", policy_name(workload), "--version", version.to_string()];
        self.installation.command(put.into_iter().chain(arguments!["--authority-key", "authority.key"]))?.expect(0)
    }

    fn credential(&mut self) -> Result<(), Failure> {
        self.page.step("The agent's API key is sealed")?;
        self.page.say("On the owner's own machine, to the broker, under the agent's rules. It stands in no deployment and in no image.")?;
        let put = arguments!["credential", "put", CREDENTIAL, "--from", "-", "--policy", policy_name(RESEARCH)];
        let whose = arguments!["--authority", "authority.pub", "--publisher-key", "publisher.key"];
        let programs = self.installation.programs();
        let ended = programs.run_with(Part::Command, put.into_iter().chain(whose), API_KEY.as_bytes())?.expect(0)?;
        self.page.command(&ended.line)
    }

    fn workload(&mut self, name: &'static str, heading: &str) -> Result<Workload, Failure> {
        self.page.step(heading)?;
        self.page.say("Beside the workload runs the sidecar. It proves the guest, gets the identity, and serves it on a socket that only the workload has.")?;
        let evidence = machine(self.tee, name, false)?.start_agent(self.installation.programs(), &socket(name))?;
        let api = self.installation.path(&format!("{name}.workload.sock"));
        let user = rustix::process::geteuid().as_raw();
        let identity = format!("[[identity]]\npolicy = \"{}\"\nsocket = \"{}\"\nusers = [{user}]\n", policy_name(name), api.display());
        let head = format!("probes = \"127.0.0.1:0\"\ncheck-every-seconds = {CHECK_EVERY}\n");
        let pod = format!("{name}.sidecar.toml");
        self.installation.write(&pod, format!("{head}\n{identity}").as_bytes())?;
        self.page.file(&identity)?;
        let how = arguments!["sidecar", "--config", "guest.toml", "--evidence", format!("agent:{}", socket(name)), "--pod", &pod, "--json"];
        let serving = |line: &str| line.contains("serving the Workload API").then(String::new);
        let sidecar = self.installation.programs().serve(Part::Guest, how, serving)?;
        self.page.command(sidecar.line())?;
        Ok(Workload { name, endpoint: format!("unix://{}", api.display()), _sidecar: sidecar, _evidence: evidence })
    }

    fn as_workload(&self, workload: &Workload) -> Programs {
        self.installation.programs().with("SPIFFE_ENDPOINT_SOCKET", &workload.endpoint)
    }

    fn tool(&mut self, tools: &Workload) -> Result<(Server, String), Failure> {
        self.page.step("The tool's server")?;
        self.page.say(&format!(
            "An ordinary program. It gets its certificate from the socket, as any SPIFFE program does, and serves whoever proves to be {}, and \
             knows the API key.",
            id(RESEARCH)
        ))?;
        let what = arguments![id(RESEARCH), sha256(API_KEY.as_bytes()).to_string()];
        let listening = |line: &str| line.strip_prefix(LISTENING).map(str::to_owned);
        let server = self.as_workload(tools).serve(Part::DemoTool, what, listening)?;
        self.page.command(&format!("SPIFFE_ENDPOINT_SOCKET={} {}", tools.endpoint, server.line()))?;
        let address = server.answer().to_owned();
        self.page.say(&format!("{LISTENING}{address}"))?;
        Ok((server, address))
    }

    /// The agent, with its key, under `exec`; it goes on for as long as it may.
    fn agent(&mut self, workload: &Workload, address: &str) -> Result<Server, Failure> {
        self.page.step("The agent starts, and uses the tool")?;
        self.page.say(
            "Its key comes by exec, which gets it from the broker and puts it into the agent's environment; its name comes from the socket. \
             Agent and tool prove to each other by TLS who they are.",
        )?;
        let programs = self.as_workload(workload);
        let how = arguments!["exec", "--config", "guest.toml", "--evidence", format!("agent:{}", socket(workload.name))];
        let what =
            arguments!["--credential", format!("{KEY}={CREDENTIAL}"), "--on-revoke", "end", "--check-every", format!("{CHECK_EVERY}s")];
        let program = arguments!["--", programs.executable(), "--as", Part::DemoAgent.program(), address, id(SEARCH), "on"];
        let answered = |line: &str| line.strip_prefix(ANSWERED).map(str::to_owned);
        let running = programs.serve(Part::Guest, how.into_iter().chain(what).chain(program), answered)?;
        let itself = format!("{} --as {}", programs.executable().display(), Part::DemoAgent.program());
        let line = running.line().replace(&itself, Part::DemoAgent.program());
        self.page.command(&format!("SPIFFE_ENDPOINT_SOCKET={} {line}", workload.endpoint))?;
        expect("who the agent is", running.log().contains(&format!("I am {}", id(RESEARCH))), true)?;
        expect("the tool's answer is to the agent", running.answer().contains(&id(RESEARCH)), true)?;
        self.page.result(Tone::Good, "I am", &id(RESEARCH))?;
        self.page.result(Tone::Good, "the tool answered", running.answer())?;
        Ok(running)
    }

    /// Who is not the agent.
    fn others(&mut self, tools: &Workload, address: &str) -> Result<(), Failure> {
        self.page.step("Another workload calls the tool")?;
        self.page.say("It has an identity of its own, of the same broker, and has even found the API key. It is not the agent.")?;
        let programs = self.as_workload(tools).with(KEY, API_KEY);
        let ended = programs.run(Part::DemoAgent, arguments![address, id(SEARCH), "once"])?.expect(1)?;
        expect("the tool's refusal", ended.stderr.contains(REFUSED), true)?;
        self.page.result(Tone::Bad, "REFUSED", &format!("by the tool: it is {}", id(SEARCH)))?;

        self.page.step("Another image asks to be the agent")?;
        self.page.say("The agent's guest, with one thing changed in its image.")?;
        let evidence = machine(self.tee, RESEARCH, true)?.start_agent(self.installation.programs(), "changed.sock")?;
        let code = match self.tee {
            Tee::Snp => "snp-measurement",
            Tee::Tdx => "tdx-measurement",
        };
        self.denied("changed.sock", &arguments!["--out", self.room.path().join("stolen")], code)?;
        drop(evidence);

        self.page.step("The agent asks for a token that it may not have")?;
        self.page.say("Tokens are for audiences, and the rules list them: a token for one service is worth nothing at another.")?;
        let token = arguments!["--audience", "bank.example", "--token-file", self.room.path().join("token")];
        self.denied(&socket(RESEARCH), &token, "identity-audience")
    }

    /// A guest asks for the agent's identity and is denied by this check.
    fn denied(&mut self, evidence: &str, what: &[std::ffi::OsString], code: &str) -> Result<(), Failure> {
        let how = arguments!["identity", "--config", "guest.toml", "--evidence", format!("agent:{evidence}"), "--retry-for", "0", "--json"];
        let ask = how.into_iter().chain(arguments!["--policy", policy_name(RESEARCH)]).chain(what.iter().cloned());
        let ended = self.installation.guest(ask)?.expect(3)?;
        self.page.command(&ended.line)?;
        let found = ended.json()?;
        let text = |pointer: &str| found.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default();
        expect("the code that the guest learns", text("/code"), code)?;
        self.page.result(Tone::Bad, "DENIED", &format!("by check {code}"))?;
        let explained = self.installation.command(arguments!["explain", text("/decision")])?.expect(0)?;
        let line = explained.stdout.lines().find(|line| line.contains(code)).unwrap_or_default();
        expect("the operator sees the check", line.contains(code), true)?;
        self.page.command(&explained.line)?;
        self.page.say(line.trim())
    }

    fn withdrawal(&mut self, workload: &Workload, running: Server, address: &str) -> Result<(), Failure> {
        self.page.step("The agent's image is withdrawn")?;
        self.page.say(&format!(
            "A flaw was found in it. The owner puts rules that no longer accept it. Sidecar and exec ask every {CHECK_EVERY} seconds whether \
             what they hold still holds, so that is how long the agent has."
        ))?;
        let ended = self.put(RESEARCH, 2, true)?;
        let withdrawn = Instant::now();
        self.page.command(&ended.line)?;
        let ended = running.ended(Duration::from_secs(CHECK_EVERY) + SLACK)?.expect(3)?;
        let after = withdrawn.elapsed().as_secs_f64();
        expect("the agent had used its tool until then", ended.stderr.contains(ANSWERED), true)?;
        self.page.result(Tone::Bad, "ENDED", &format!("the agent, {after:.1} seconds later, by exec; its exit code is 3: denied"))?;
        // The sidecar asks on its own: until it has, whoever asks is still somebody, and may lose that in the middle of it.
        let until = Instant::now() + Duration::from_secs(CHECK_EVERY) + SLACK;
        let again = loop {
            let again = self.as_workload(workload).with(KEY, API_KEY).run(Part::DemoAgent, arguments![address, id(SEARCH), "once"])?;
            if again.stderr.contains(NOBODY) || Instant::now() > until {
                break again.expect(1)?;
            }
        };
        expect("the agent is nobody", again.stderr.contains(NOBODY), true)?;
        self.page.say("It is started again, on the same machine, by somebody who knows the key:")?;
        self.page.result(Tone::Bad, "NOBODY", again.stderr.lines().last().unwrap_or_default())
    }

    fn audit(&mut self) -> Result<(), Failure> {
        self.page.step("What the auditor sees")?;
        self.page.say(
            "Every identity that was given is in the log, by the number of its certificate and of each token, before it was signed.",
        )?;
        let ended = self.installation.command(arguments!["audit", "verify", "--json"])?.expect(0)?;
        let found = ended.json()?;
        let size = found.get("size").and_then(serde_json::Value::as_u64).unwrap_or_default();
        expect("something is in the log", size > 5, true)?;
        self.page.command("portcullis audit verify")?;
        self.page.result(Tone::Good, "the log is whole", &format!("{size} entries, every one read"))
    }
}

/// The table of the policies that says who the guest is.
const IDENTITY: &str = "\
[identity]
spiffe-id = \"spiffe://acme.example/agents/{workload}\"
x509-lifetime = \"5 minutes\"
audiences = [\"tools.acme.example\"]
";
