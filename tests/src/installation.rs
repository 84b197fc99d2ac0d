//! One installation in one folder: keys, a broker, a publisher, an authority, a guest's configuration. Everything is done by commands.

use std::fs;
use std::path::{Path, PathBuf};

use protocol::admin::Explanation;
use protocol::keys::PublicKey;

use crate::arguments;
use crate::failure::Failure;
use crate::machine::Tee;
use crate::policy::{self, Draft};
use crate::programs::{Ended, Part, Programs, Server};

/// The name of the model that everything here is about.
pub const MODEL: &str = "acme/tiny-llama";
/// The name of the policy that it demands.
pub const POLICY: &str = "inference";

/// Where an installation lies, and its broker while it runs.
pub struct Installation {
    programs: Programs,
    tee: Tee,
    broker: Option<Server>,
    /// What lies in the collateral folder at first in place of [`Tee::collateral`].
    carried: Option<Vec<(&'static str, Vec<u8>)>>,
}

impl Installation {
    /// In the folder of `programs`, for guests of this kind. Nothing is made yet.
    #[must_use]
    pub fn new(mut programs: Programs, tee: Tee) -> Self {
        programs.set("PORTCULLIS_ROOT", "root.pub");
        programs.set("PORTCULLIS_TOKEN_FILE", "broker/admin.token");
        Self { programs, tee, broker: None, carried: None }
    }

    /// The same with everything that tests begin with: keys, an initialised and configured broker that runs, a guest's
    /// configuration (`guest.toml`), and a policy that accepts [`Tee::genuine`] with it.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn ready(programs: Programs, tee: Tee) -> Result<Self, Failure> {
        Self::new(programs, tee).made_ready()
    }

    /// The same, with these files in the collateral folder when the broker first starts.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn ready_with_collateral(programs: Programs, tee: Tee, files: Vec<(&'static str, Vec<u8>)>) -> Result<Self, Failure> {
        let mut installation = Self::new(programs, tee);
        installation.carried = Some(files);
        installation.made_ready()
    }

    fn made_ready(self) -> Result<Self, Failure> {
        let mut installation = self;
        let tee = installation.tee;
        for kind in ["root", "publisher", "authority"] {
            installation.keygen(kind)?;
        }
        installation.init()?;
        installation.configure()?;
        installation.start()?;
        installation.write_guest("guest.toml", "")?;
        let digest = installation.config_digest("guest.toml")?;
        installation.put_policy_text(1, &policy::accepting(tee, &[&digest]))?;
        Ok(installation)
    }

    /// How its programs are run.
    #[must_use]
    pub const fn programs(&self) -> &Programs {
        &self.programs
    }

    /// A file or folder of it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.programs.folder().join(name)
    }

    /// The broker's URL; empty while none runs.
    #[must_use]
    pub fn url(&self) -> &str {
        self.broker.as_ref().map_or("", Server::answer)
    }

    /// What the broker has said so far.
    #[must_use]
    pub fn broker_log(&self) -> String {
        self.broker.as_ref().map(Server::log).unwrap_or_default()
    }

    /// The pinned root.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn root(&self) -> Result<PublicKey, Failure> {
        let text = self.read("root.pub")?;
        text.trim().parse().map_err(|error: protocol::keys::BadKey| Failure::Unexpected {
            what: "root.pub".to_owned(),
            expected: "a public key".to_owned(),
            found: error.to_string(),
        })
    }

    /// `portcullis keygen`: `KIND.key` and `KIND.pub`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn keygen(&self, kind: &str) -> Result<Ended, Failure> {
        self.command(arguments!["keygen", "--kind", kind, "--out", kind])?.expect(0)
    }

    /// `portcullis-broker init`, of class `test`: its root is the soft platform's. Also carries the vendor's part, the soft
    /// platform's revocation lists and signed documents, to `collateral/`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn init(&self) -> Result<Ended, Failure> {
        let (name, anchor) = self.tee.anchor();
        self.write("anchor.der", &anchor)?;
        let folder = self.path("collateral");
        fs::create_dir_all(&folder).map_err(Failure::io(&folder))?;
        for (name, bytes) in self.carried.clone().unwrap_or_else(|| self.tee.collateral()) {
            self.write(&format!("collateral/{name}"), &bytes)?;
        }
        let anchor = format!("{name}=anchor.der");
        let plan = arguments!["init", "--data", "broker", "--name", "acme", "--root-key", "root.key", "--test-anchor", anchor];
        self.programs.run(Part::Broker, plan)?.expect(0)
    }

    /// Completes the `broker.toml` that `init` wrote, as an operator would: any free port, who may publish and who decides, where
    /// the revocation lists are.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn configure(&self) -> Result<(), Failure> {
        let written = self.read("broker/broker.toml")?;
        let (publisher, authority) = (self.read("publisher.pub")?, self.read("authority.pub")?);
        let text = format!(
            "{}\n[[publisher]]\nkey = \"{}\"\nnames = [\"acme/*\"]\n\n[[authority]]\nkey = \"{}\"\nnames = [\"*\"]\n\n[collateral]\nfolder = \"../collateral\"\n",
            written.replace("127.0.0.1:8443", "127.0.0.1:0"),
            publisher.trim(),
            authority.trim(),
        );
        self.write("broker/broker.toml", text.as_bytes())?;
        self.programs.run(Part::Broker, arguments!["check-config", "broker/broker.toml"])?.expect(0)?;
        Ok(())
    }

    /// Completes it further: the broker issues identities under `domain`, for clouds by the URL `issuer`, and the authority may give names
    /// of this `pattern`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn configure_identities(&self, domain: &str, issuer: Option<&str>, pattern: &str) -> Result<(), Failure> {
        let names = "names = [\"*\"]";
        let written = self.read("broker/broker.toml")?;
        let authority = written.replace(names, &format!("{names}\nidentities = [\"{pattern}\"]"));
        let issuer = issuer.map(|url| format!("issuer = \"{url}\"\n")).unwrap_or_default();
        self.write("broker/broker.toml", format!("{authority}\n[identity]\ntrust-domain = \"{domain}\"\n{issuer}").as_bytes())?;
        self.programs.run(Part::Broker, arguments!["check-config", "broker/broker.toml"])?.expect(0)?;
        Ok(())
    }

    /// `portcullis-broker serve`, until [`Self::stop`]. Gives the command line.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn start(&mut self) -> Result<String, Failure> {
        let server = self.programs.serve(Part::Broker, arguments!["serve", "--config", "broker/broker.toml"], listening)?;
        self.programs.set("PORTCULLIS_BROKER", server.answer());
        let line = server.line().to_owned();
        self.broker = Some(server);
        Ok(line)
    }

    /// Stops the broker in order.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn stop(&mut self) -> Result<(), Failure> {
        match self.broker.take() {
            Some(server) => server.stop()?.expect(0).map(drop),
            None => Ok(()),
        }
    }

    /// Kills the broker, as a power cut would.
    pub fn kill(&mut self) {
        self.broker = None;
    }

    /// `portcullis policy put`, of the policy that models here demand.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn put_policy(&self, version: u32, draft: &Draft) -> Result<Ended, Failure> {
        self.put_policy_text(version, &draft.text())
    }

    /// The same of a policy of either kind.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn put_policy_text(&self, version: u32, text: &str) -> Result<Ended, Failure> {
        self.write("policy.toml", text.as_bytes())?;
        let put = arguments!["policy", "put", "policy.toml", "--name", POLICY, "--version", version.to_string()];
        self.command(put.into_iter().chain(arguments!["--authority-key", "authority.key"]))?.expect(0)
    }

    /// `portcullis seal`: the folder `source` as the model `name`, to `out` and `out.record.json`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn seal(&self, source: &Path, name: &str, version: u32, out: &str) -> Result<Ended, Failure> {
        let what = arguments!["seal", source, "--model", name, "--version", version.to_string(), "--out", out];
        self.command(what.into_iter().chain(whose()))?.expect(0)
    }

    /// `portcullis credential seal`, of what is given on standard input, to `record`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn seal_credential(&self, name: &str, secret: &[u8], record: &str) -> Result<Ended, Failure> {
        let what = arguments!["credential", "seal", name, "--version", "1", "--secret-file", "-", "--record", record];
        self.programs.run_with(Part::Command, what.into_iter().chain(whose()), secret)?.expect(0)
    }

    /// `portcullis publish`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn publish(&self, record: &str) -> Result<Ended, Failure> {
        self.command(arguments!["publish", record])?.expect(0)
    }

    /// `portcullis revoke`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn revoke(&self, target: &str, reason: &str) -> Result<Ended, Failure> {
        self.command(arguments!["revoke", target, "--reason", reason, "--authority-key", "authority.key"])?.expect(0)
    }

    /// `portcullis explain --json`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn explain(&self, decision: &str) -> Result<Explanation, Failure> {
        let ended = self.command(arguments!["explain", decision, "--json"])?.expect(0)?;
        serde_json::from_str(&ended.stdout).map_err(|error| Failure::Unexpected {
            what: ended.line.clone(),
            expected: "an explanation".to_owned(),
            found: error.to_string(),
        })
    }

    /// Any `portcullis` command.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn command(&self, arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Ended, Failure> {
        self.programs.run(Part::Command, arguments)
    }

    /// Any `portcullis-guest` command.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn guest(&self, arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Ended, Failure> {
        self.programs.run(Part::Guest, arguments)
    }

    /// `portcullis-guest unseal --json`, of the newest version of `model` from the folder `sealed` to `to`, with evidence from the
    /// agent at `socket`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn unseal(&self, config: &str, socket: &str, model: &str, sealed: &str, to: &Path) -> Result<Ended, Failure> {
        let how = arguments!["unseal", "--config", config, "--evidence", format!("agent:{socket}"), "--json"];
        self.guest(how.into_iter().chain(arguments!["--model", model, "--sealed", sealed, "--to", to]))
    }

    /// Writes a guest's configuration: the root, the broker, and `more` lines.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn write_guest(&self, name: &str, more: &str) -> Result<(), Failure> {
        self.write_guest_of(name, self.url(), more)
    }

    /// The same for a broker elsewhere.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn write_guest_of(&self, name: &str, url: &str, more: &str) -> Result<(), Failure> {
        let root = self.read("root.pub")?;
        self.write(name, format!("root = \"{}\"\nbroker = \"{url}\"\n{more}", root.trim()).as_bytes())
    }

    /// `portcullis-guest config-digest`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn config_digest(&self, config: &str) -> Result<String, Failure> {
        Ok(self.guest(arguments!["config-digest", "--config", config])?.expect(0)?.stdout.trim().to_owned())
    }

    /// Reads a file of it.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn read(&self, name: &str) -> Result<String, Failure> {
        let path = self.path(name);
        fs::read_to_string(&path).map_err(Failure::io(&path))
    }

    /// Writes a file of it, and the folders that it lies in.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.path(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Failure::io(folder))?;
        }
        fs::write(&path, bytes).map_err(Failure::io(&path))
    }
}

/// Who seals, under which policy by whom: arguments of every command that makes a record.
#[must_use]
pub fn whose() -> [std::ffi::OsString; 6] {
    arguments!["--policy", POLICY, "--authority", "authority.pub", "--publisher-key", "publisher.key"]
}

/// The URL in the broker's line `listening`.
fn listening(line: &str) -> Option<String> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    let url = event.get("url").and_then(serde_json::Value::as_str)?;
    (event.get("message").and_then(serde_json::Value::as_str) == Some("listening")).then(|| url.to_owned())
}
