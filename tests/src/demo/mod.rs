//! The stories that `cargo demo` tells, every sentence of which it checks: here a model's, in [`agent`] an agent's. [`machine`] is none: a
//! machine to try things on.

pub mod agent;
pub mod machine;
mod page;
mod rates;
mod refusals;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use tempfile::TempDir;
use testbed::model::{self, Extras, ModelFile, ModelShape};

use crate::arguments;
use crate::failure::{Failure, expect};
use crate::installation::{Installation, MODEL};
use crate::machine::Tee;
use crate::memory::{Kind, Room};
use crate::policy;
use crate::programs::{Programs, Server};
use crate::recorder::Recorder;

pub use page::{Page, Style, Tone, brief};
pub use rates::Size;

/// The socket of the genuine guest's evidence agent.
const GENUINE: &str = "genuine.sock";
/// Files of the model that are listed by name.
const LISTED: usize = 8;
/// Each of the two shards of the model that is made on the spot (bytes).
const SHARD: u64 = 8 << 20;

/// What the person who runs the demo wants.
pub struct Wishes {
    /// The kind of confidential VM.
    pub tee: Tee,
    /// A model folder of their own.
    pub model: Option<PathBuf>,
    /// Whether the folder of the demo stays.
    pub after: Afterwards,
    /// How large a model shall be, beside the story's, that is sealed and opened against the clock.
    pub size: Option<Size>,
}

/// What becomes of the demo's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// It is removed, whatever happens.
    Remove,
    /// It stays, but for plaintext: keys, records, the store and its log, to look at.
    Keep,
}

/// Tells the story. Every process has ended and every folder is gone when this returns, but for what was wished to stay.
///
/// # Errors
/// [`Failure`] where anything is not as the story says.
pub fn tell<W: Write>(wishes: &Wishes, executable: &Path, interrupted: Arc<AtomicBool>, page: &mut Page<W>) -> Result<(), Failure> {
    let began = Instant::now();
    // Before anything else: whoever has no room for it learns so at once.
    let rates = wishes.size.map(|size| rates::room(size).map(|room| (size, room))).transpose()?;
    let place = std::env::temp_dir();
    let mut folder = tempfile::Builder::new().prefix("portcullis-demo-").tempdir_in(&place).map_err(Failure::io(&place))?;
    if wishes.after == Afterwards::Keep {
        folder.disable_cleanup(true);
        page.heading(&format!("Everything but plaintext is kept in {}\n", folder.path().display()))?;
    }
    let programs = Programs::new(executable, folder.path()).without_limit().interrupted_by(interrupted);
    introduce(wishes.tee, page)?;
    let model = Model::of(wishes, &folder, page)?;
    let mut story = Story::begin(programs, wishes.tee, model, page)?;
    story.keys()?;
    story.broker()?;
    story.policy()?;
    story.seal()?;
    story.release()?;
    story.refusals()?;
    if let Some((size, room)) = &rates {
        story.rates(*size, room)?;
    }
    story.audit()?;
    story.end()?;
    let seconds = began.elapsed().as_secs_f64();
    page.heading("\nEverything went as told.")?;
    drop((folder, rates));
    let left = match wishes.after {
        Afterwards::Remove => "every file is gone",
        Afterwards::Keep => "the opened model is gone",
    };
    page.say(&format!("It took {seconds:.1} seconds. Every process has ended and {left}."))
}

fn introduce<W: Write>(tee: Tee, page: &mut Page<W>) -> Result<(), Failure> {
    page.heading("Portcullis: a model's key goes to a machine that proves what it runs, and to nobody else")?;
    page.line("")?;
    page.say(
        "You own a model. You want to run it on somebody else's machines, and nobody there shall be able to copy it: not the \
         cloud's staff, not whoever breaks into the host. So the model travels encrypted, and its key waits at a broker. A \
         confidential VM is a virtual machine whose memory the processor encrypts and whose start the processor measures. It can ask the \
         processor for a signed report of what was started in it. The broker checks that report, and only then gives it the key.",
    )?;
    if tee == Tee::Tdx {
        page.line("")?;
        page.say(
            "Here the processor is Intel's, and its confidential VMs are called trust domains (TDX). The signed report is called a quote. \
             It says what the VM was built from, and holds four registers into which firmware and boot loader write, as a chain of \
             fingerprints, everything that they start. The list of what was written is the event log, and goes along.",
        )?;
    }
    page.line("")?;
    page.say(
        "What follows is the real software: the same commands, the same server, the same files as in production. One thing is \
         not real: the processor.",
    )?;
    let (reports, roots) = match tee {
        Tee::Snp => ("reports under test roots", "AMD's real roots accepts such reports"),
        Tee::Tdx => ("quotes under a test root", "Intel's real root accepts such quotes"),
    };
    page.warn(&format!(
        "It is a program that signs {reports}. This installation is therefore of anchor class: test. No installation \
         that trusts {roots}, or anything else from here."
    ))
}

/// The model that the story is about.
struct Model {
    folder: PathBuf,
    name: &'static str,
    files: Vec<ModelFile>,
}

impl Model {
    fn of<W: Write>(wishes: &Wishes, folder: &TempDir, page: &mut Page<W>) -> Result<Self, Failure> {
        page.step("A model")?;
        if let Some(own) = &wishes.model {
            let own = own.canonicalize().map_err(Failure::io(own))?;
            let files = model::read(&own).map_err(Failure::io(&own))?;
            let model = Self { folder: own, name: "acme/your-model", files };
            page.say(&format!("Yours, from {}: {}.", model.folder.display(), model.size()))?;
            return Ok(model);
        }
        let made = folder.path().join("model");
        let shape = ModelShape { seed: 1, shard_bytes: SHARD, extras: Extras::None };
        let files = model::write(&made, &shape).map_err(Failure::io(&made))?;
        let model = Self { folder: PathBuf::from("model"), name: MODEL, files };
        page.say(&format!("Made on the spot, in the layout that engines load: {}.", model.size()))?;
        model.list(page, "made")?;
        Ok(model)
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    fn size(&self) -> String {
        let tenths = self.bytes().saturating_mul(10) >> 20;
        format!("{} files, {}.{} MiB", self.files.len(), tenths / 10, tenths % 10)
    }

    fn list<W: Write>(&self, page: &mut Page<W>, word: &str) -> Result<(), Failure> {
        for file in self.files.iter().take(LISTED) {
            let digest: String = file.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            page.result(Tone::Good, word, &format!("{:34}  {:>9} bytes  SHA-256 {digest}", file.path, file.size))?;
        }
        match self.files.len() {
            all if all > LISTED => page.say(&format!("and {} more", all - LISTED)),
            _ => Ok(()),
        }
    }
}

/// The story while it is told.
struct Story<'p, W> {
    page: &'p mut Page<W>,
    tee: Tee,
    model: Model,
    installation: Installation,
    /// Where the guest writes the opened model.
    room: Room,
    /// The genuine guest's evidence agent.
    agent: Option<Server>,
    /// Who writes down what passes between guest and broker.
    recorder: Option<Recorder>,
    permitted: u64,
    refused: u64,
}

impl<'p, W: Write> Story<'p, W> {
    fn begin(programs: Programs, tee: Tee, model: Model, page: &'p mut Page<W>) -> Result<Self, Failure> {
        // Room for one opened model: each is removed before the next.
        let room = Room::find(model.bytes())?;
        let installation = Installation::new(programs, tee);
        Ok(Self { page, tee, model, installation, room, agent: None, recorder: None, permitted: 0, refused: 0 })
    }

    fn keys(&mut self) -> Result<(), Failure> {
        self.page.step("Three keys")?;
        self.page.say(
            "The root says which broker is the right one; it signs once and then goes into a safe. The publisher signs models. \
             The authority signs the rules.",
        )?;
        for kind in ["root", "publisher", "authority"] {
            let ended = self.installation.keygen(kind)?;
            self.page.command(&ended.line)?;
        }
        Ok(())
    }

    fn broker(&mut self) -> Result<(), Failure> {
        self.page.step("A broker")?;
        self.page.say(
            "It gets keys of its own, certified by the root, and an empty store. Then it serves. It never sees the model; it holds \
             keys, encrypted, and decides who gets them.",
        )?;
        if self.tee == Tee::Tdx {
            self.page.say(
                "Beside it lies what Intel's service says about processors today, signed: which firmware is current and which has known \
                 weaknesses, and which certificates are revoked. Here a folder was carried in by hand; nothing is asked over the network.",
            )?;
        }
        let ended = self.installation.init()?;
        expect("the announced anchor class", ended.stdout.contains("anchor class test"), true)?;
        self.page.command(&ended.line)?;
        for line in ended.stdout.lines().take(2) {
            self.page.say(line)?;
        }
        self.installation.configure()?;
        let line = self.installation.start()?;
        expect("the broker's warning about test roots", self.installation.broker_log().contains("TEST roots"), true)?;
        self.page.command(&line)?;
        self.page.say(&format!("listening at {}", self.installation.url()))?;
        self.page.say(
            "(PORTCULLIS_BROKER, PORTCULLIS_ROOT and PORTCULLIS_TOKEN_FILE tell the commands below where it is, whose broker it must \
             prove to be, and with what right they administer it.)",
        )
    }

    fn policy(&mut self) -> Result<(), Failure> {
        self.page.step("The owner's rules")?;
        self.page.say(
            "The owner has reviewed one image, and knows its measurement: a fingerprint of all that is started in the VM. The owner has \
             also reviewed the guest's configuration file, and takes its digest.",
        )?;
        let recorder = Recorder::before(self.installation.url())?;
        let plaintext = match self.room.kind() {
            Kind::Memory => "",
            Kind::Disk => "plaintext = \"disk\"\n",
        };
        self.installation.write_guest_of("guest.toml", &recorder.url(), plaintext)?;
        self.recorder = Some(recorder);
        self.page.file(&self.installation.read("guest.toml")?)?;
        let digest = self.installation.config_digest("guest.toml")?;
        self.page.command("portcullis-guest config-digest --config guest.toml")?;
        self.page.say(&brief(&digest))?;
        if self.tee == Tee::Tdx {
            self.page.say(
                "The image's firmware then starts a kernel, and the kernel gets a command line, which decides much. So the rules also name \
                 what must stand in the registers (RTMR0, 1 and 3), and for the command line (RTMR2) the very events that the log must show.",
            )?;
        }
        let rules = policy::accepting(self.tee, &[&digest]);
        let ended = self.installation.put_policy_text(1, &rules)?;
        self.page.say("The rules are a file. What it does not allow is denied:")?;
        self.page.file(&rules)?;
        self.page.command(&ended.line)?;
        self.page.say("signed by the authority, and in force")
    }

    fn seal(&mut self) -> Result<(), Failure> {
        self.page.step("The model is sealed")?;
        self.page.say(
            "On the owner's own machine. Every file is encrypted under a fresh key. That key is encrypted to the broker and goes \
             into a record; the sealed folder can lie on any storage.",
        )?;
        let ended = self.installation.seal(&self.model.folder, self.model.name, 1, "sealed")?;
        self.page.command(&ended.line)?;
        self.expect_ciphertext()?;
        let ended = self.installation.publish("sealed.record.json")?;
        self.page.command(&ended.line)?;
        self.page.say("The broker now holds the record. Same file names, and no plaintext in any of them.")
    }

    /// Each file has a sealed one of the same name, with other content.
    fn expect_ciphertext(&self) -> Result<(), Failure> {
        let sealed = self.installation.path("sealed");
        let files = model::read(&sealed).map_err(Failure::io(&sealed))?;
        for file in &self.model.files {
            let same_name = files.iter().find(|sealed| sealed.path == file.path);
            expect(&format!("{} is there, and sealed", file.path), same_name.is_some_and(|sealed| sealed.sha256 != file.sha256), true)?;
        }
        Ok(())
    }

    fn release(&mut self) -> Result<(), Failure> {
        self.page.step("A genuine guest asks, and gets the key")?;
        self.page.say(
            "A confidential VM starts the reviewed image. Inside, the client makes fresh keys, asks the broker for a challenge, and has \
             the processor sign a report over both. The broker checks the report, step by step, against the rules, writes its decision \
             into a log, and encrypts the model's key to the guest's key. The guest opens the model.",
        )?;
        if self.room.kind() == Kind::Disk {
            self.page.warn(
                "This machine has no memory file system with enough room and without swap, so the plaintext goes to disk here. A real \
                 guest refuses that unless its reviewed configuration allows it.",
            )?;
        }
        let socket = self.installation.path(GENUINE);
        expect("the agent's socket is free", socket.exists(), false)?;
        self.agent = Some(self.tee.genuine().start_agent(self.installation.programs(), GENUINE)?);
        let to = self.room.path().join("model");
        let ended = self.installation.unseal("guest.toml", GENUINE, self.model.name, "sealed", &to)?.expect(0)?;
        self.permitted += 1;
        self.page.command(&ended.line)?;
        let opened = model::read(&to).map_err(Failure::io(&to))?;
        expect("the opened model is the owner's, byte for byte", opened == self.model.files, true)?;
        self.page.result(Tone::Good, "RELEASED", "and opened: every file is the owner's, byte for byte")?;
        self.model.list(self.page, "same")?;
        std::fs::remove_dir_all(&to).map_err(Failure::io(&to))
    }

    fn audit(&mut self) -> Result<(), Failure> {
        self.page.step("What the auditor sees")?;
        self.page.say(
            "Every decision about a verified guest is in a log before it takes effect. The log is a tree of hashes: whoever keeps its \
             last signed head notices if anything before it is changed.",
        )?;
        let ended = self.installation.command(arguments!["audit", "verify", "--json"])?.expect(0)?;
        let found = ended.json()?;
        let count = |name: &str| found.pointer(&format!("/entries/{name}")).and_then(serde_json::Value::as_u64).unwrap_or_default();
        expect("permitted in the log", count("permitted"), self.permitted)?;
        expect("refused in the log", count("refused"), self.refused)?;
        self.page.command("portcullis audit verify")?;
        let size = found.get("size").and_then(serde_json::Value::as_u64).unwrap_or_default();
        let text = format!("{size} entries, every one read; {} permitted, {} refused", self.permitted, self.refused);
        self.page.result(Tone::Good, "the log is whole", &text)
    }

    fn end(mut self) -> Result<(), Failure> {
        drop(self.agent.take());
        self.installation.stop()
    }
}
