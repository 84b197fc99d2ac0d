//! A sidecar's life, in real processes: it starts, becomes ready, serves models and an adapter, follows a new version, outlives a broker's outage,
//! is denied, and puts everything away. What opens models runs as it would in a pod: in namespaces of its own, as another user, without a capability.
//! (docs/pods.md has the other ways, tests/tests/pods their tests.)

mod world;

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use guest_client::sidecar::notes::Notes;
use portcullis_tests::arguments;
use portcullis_tests::installation::{MODEL, whose};
use portcullis_tests::machine::Tee;
use portcullis_tests::memory::Kind;
use portcullis_tests::policy;
use portcullis_tests::programs::{Part, Server};
use serde_json::Value;
use testbed::model::{self, ModelFile};
use testbed::services::storage::{Storage, Trick};
use world::{CONTAINER_USER, GENUINE, World, assert_exit, can_mount, container, plaintext};

/// How long anything may take: generous, because machines are busy.
const PATIENCE: Duration = Duration::from_secs(90);
/// The adapter of [`MODEL`].
const ADAPTER: &str = "acme/tiny-llama-tone";
/// A credential.
const CREDENTIAL: &str = "acme/openai";
/// A model of its own.
const OTHER: &str = "acme/other";

/// An installation and what a sidecar is told.
struct Pod {
    world: World,
    address: String,
}

/// As whom a sidecar runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum As {
    /// A container's user, in its namespaces, without a capability.
    Container,
    /// As the test: mounting takes privileges.
    Privileged,
}

/// A running sidecar.
struct Sidecar {
    server: Server,
    probes: String,
    socket: PathBuf,
    models: PathBuf,
}

impl Pod {
    /// With [`MODEL`] published, and a broker that keeps its address when it starts again.
    fn new() -> Self {
        let mut world = World::with_model();
        let address = world.installation.url().trim_start_matches("http://").to_owned();
        world.installation.stop().unwrap();
        let config = world.installation.read("broker/broker.toml").unwrap();
        world.installation.write("broker/broker.toml", config.replace("127.0.0.1:0", &address).as_bytes()).unwrap();
        world.installation.start().unwrap();
        Self { world, address }
    }

    /// Whether models lie in memory here; says so where they do not, and what lies on a disk is not taken in.
    fn is_in_memory(&self) -> bool {
        let in_memory = self.world.room.kind() == Kind::Memory;
        if !in_memory {
            println!("skipped: no memory file system here");
        }
        in_memory
    }

    fn start_broker(&mut self) {
        self.world.installation.start().unwrap();
        assert!(self.world.installation.url().ends_with(&self.address));
    }

    /// The policy with another lifetime of attestations, as version `version`.
    fn put_lifetime(&self, version: u32, lifetime: &str) {
        let digest = self.world.installation.config_digest("guest.toml").unwrap();
        let text = policy::accepting(Tee::Snp, &[&digest]).replace("\"1 hour\"", &format!("\"{lifetime}\""));
        self.world.installation.put_policy_text(version, &text).unwrap();
    }

    /// A policy that accepts no guest at all.
    fn put_denial(&self, version: u32) {
        let text = policy::accepting(Tee::Snp, &[&"0".repeat(64)]);
        self.world.installation.put_policy_text(version, &text).unwrap();
    }

    /// A configuration, with these lines, that requires [`MODEL`] to be its maker's, and a policy in version `version` that accepts it.
    fn requires_signer(&self, version: u32, lines: &str, contents: &str) {
        let key = testbed::maker::Maker::named("maker").pem();
        let table = format!("[[model-signers]]\nmodel = \"{MODEL}\"\ncontents = \"{contents}\"\nkey = \"\"\"\n{key}\"\"\"\n");
        self.world.installation.write_guest("guest.toml", &format!("{lines}{table}")).unwrap();
        let digest = self.world.installation.config_digest("guest.toml").unwrap();
        self.world.installation.put_policy_text(version, &policy::accepting(Tee::Snp, &[&digest])).unwrap();
    }

    /// Starts a sidecar with these lines in a container, and waits for nothing but its probes.
    fn sidecar(&self, lines: &str) -> Sidecar {
        self.sidecar_as(As::Container, lines)
    }

    fn sidecar_as(&self, who: As, lines: &str) -> Sidecar {
        let (models, run) = (self.world.to("models"), self.world.installation.path("run"));
        let mut programs = self.world.installation.programs().clone();
        fs::create_dir_all(&models).unwrap();
        fs::create_dir_all(&run).unwrap();
        if who == As::Container
            && let Some(container) = container()
        {
            self.world.open_to_all();
            fs::set_permissions(self.world.room.path(), fs::Permissions::from_mode(0o711)).unwrap();
            for folder in [&models, &run] {
                std::os::unix::fs::chown(folder, Some(CONTAINER_USER), Some(CONTAINER_USER)).unwrap();
            }
            programs = programs.within(container, self.world.executable());
        }
        let (socket, port) = (run.join("sidecar.sock"), free_port());
        let head = format!(
            "models = \"{}\"\nsocket = \"{}\"\npeers = [0]\nprobes = \"127.0.0.1:{port}\"\ncheck-every-seconds = 3600\n",
            models.display(),
            socket.display()
        );
        self.world.installation.write("sidecar.toml", format!("{head}{lines}").as_bytes()).unwrap();
        let how =
            arguments!["sidecar", "--config", "guest.toml", "--evidence", format!("agent:{GENUINE}"), "--pod", "sidecar.toml", "--json"];
        let server = programs.serve(Part::Guest, how, |line| line.contains("serving probes").then(String::new)).unwrap();
        Sidecar { server, probes: format!("127.0.0.1:{port}"), socket, models }
    }

    fn sealed(&self, name: &str) -> String {
        self.world.installation.path(name).display().to_string()
    }

    fn model(&self, name: &str, sealed: &str, more: &str) -> String {
        format!("[[model]]\nname = \"{name}\"\nsealed = \"{}\"\n{more}\n", self.sealed(sealed))
    }
}

impl Sidecar {
    /// The status and body of a probe.
    fn probe(&self, path: &str) -> (u16, String) {
        http(TcpStream::connect(&self.probes).unwrap(), "GET", path, "")
    }

    fn local(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        http(UnixStream::connect(&self.socket).unwrap(), method, path, body)
    }

    fn is_ready(&self) -> bool {
        self.probe("/readyz").0 == 200
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < until, "not {what}: {}\n{}", self.local("GET", "/v1/models", "").1, self.server.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The value of a metric, its name with its labels.
    fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.probe("/metrics");
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    fn model(&self, name: &str) -> Value {
        serde_json::from_str(&self.local("GET", &format!("/v1/models/{name}"), "").1).unwrap()
    }

    fn current(&self, name: &str) -> PathBuf {
        self.models.join(format!("{name}@current"))
    }

    fn assert_holds(&self, name: &str, files: &[ModelFile]) {
        assert_eq!(model::read(&fs::canonicalize(self.current(name)).unwrap()).unwrap(), files);
    }
}

/// One request over a stream that is then closed: status and body.
fn http(mut stream: impl Read + Write, method: &str, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: sidecar\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn two_models_and_an_adapter_are_served_through_a_new_version_an_outage_and_the_end() {
    let mut pod = Pod::new();
    let first = pod.world.publish(OTHER, 1, "other", 2);
    let tone = pod.world.publish(ADAPTER, 1, "tone", 3);
    let log = pod.world.to("changes");
    fs::write(&log, "").unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
    let hook =
        format!("on-change = [\"sh\", \"-c\", \"echo $PORTCULLIS_CHANGE $PORTCULLIS_MODEL $PORTCULLIS_VERSION >> {}\"]\n", log.display());
    let adapter = pod.model(ADAPTER, "tone", &format!("base = \"{MODEL}\""));
    // The sealed files of each version are in a folder of their own.
    fs::create_dir(pod.world.installation.path("llama")).unwrap();
    fs::rename(pod.world.installation.path("sealed"), pod.world.installation.path("llama/1")).unwrap();
    let lines = format!("{hook}{}{}{adapter}", pod.model(MODEL, "llama/{version}", ""), pod.model(OTHER, "other", ""));
    let sidecar = pod.sidecar(&lines);
    assert_eq!(sidecar.probe("/livez").0, 200);
    sidecar.until("ready", Sidecar::is_ready);
    assert_eq!(sidecar.probe("/startupz").0, 200);
    sidecar.assert_holds(OTHER, &first);
    sidecar.assert_holds(ADAPTER, &tone);
    assert_eq!(sidecar.model(ADAPTER)["base"], MODEL);
    assert!(sidecar.metric(&format!("portcullis_sidecar_lease_seconds{{model=\"{MODEL}\"}}")).unwrap() > 3500.0);

    // A new version becomes current at once; the old one is held until its last file is closed.
    let reader = File::open(sidecar.current(MODEL).join(model::SHARDS[0])).unwrap();
    let second = pod.world.publish(MODEL, 2, "llama/2", 9);
    assert_eq!(sidecar.local("POST", "/v1/renew", "").0, 202);
    sidecar.until("current in version 2", |sidecar| sidecar.model(MODEL)["current"] == 2);
    sidecar.assert_holds(MODEL, &second);
    assert!(sidecar.is_ready());
    let old = sidecar.models.join(format!("{MODEL}@1"));
    std::thread::sleep(Duration::from_secs(12));
    assert!(old.is_dir(), "somebody still has a file of it open");
    assert_eq!(sidecar.metric(&format!("portcullis_sidecar_versions_held{{model=\"{MODEL}\"}}")), Some(1.0));
    drop(reader);
    sidecar.until("put away", |_| !old.exists());

    // A broker that does not answer changes nothing.
    pod.world.installation.stop().unwrap();
    assert_eq!(sidecar.local("POST", "/v1/renew", "").0, 202);
    sidecar.until("counting the outage", |sidecar| sidecar.metric("portcullis_sidecar_outages_total").unwrap() >= 1.0);
    assert!(sidecar.is_ready());
    assert_eq!((sidecar.probe("/startupz").0, sidecar.probe("/livez").0), (200, 200));
    pod.start_broker();
    let answered = sidecar.metric("portcullis_sidecar_exchanges_total").unwrap();
    sidecar.until("answered again", |sidecar| sidecar.metric("portcullis_sidecar_exchanges_total").unwrap() > answered);

    let Sidecar { server, models, .. } = sidecar;
    assert_exit(&server.stop().unwrap(), 0);
    assert_eq!(names(&models.join("acme")), [""; 0], "everything is put away");
    let changes = fs::read_to_string(&log).unwrap();
    let expected = [(MODEL, 1), (OTHER, 1), (ADAPTER, 1), (MODEL, 2)];
    assert!(expected.iter().all(|(name, version)| changes.contains(&format!("current {name} {version}\n"))), "{changes}");
    assert!(changes.contains(&format!("removed {MODEL} 1\n")), "{changes}");
}

#[test]
fn models_come_and_go_by_the_local_api() {
    let pod = Pod::new();
    let tone = pod.world.publish(ADAPTER, 1, "tone", 3);
    let sidecar = pod.sidecar(&pod.model(MODEL, "sealed", ""));
    sidecar.until("ready", Sidecar::is_ready);
    let wanted = |more: Value| {
        let mut wanted = serde_json::json!({ "name": ADAPTER, "sealed": pod.sealed("tone") });
        wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        wanted.to_string()
    };
    let code = |answer: &(u16, String)| serde_json::from_str::<Value>(&answer.1).unwrap()["code"].as_str().unwrap().to_owned();

    let adrift = sidecar.local("PUT", "/v1/models", &wanted(serde_json::json!({ "base": "acme/unknown" })));
    assert_eq!((adrift.0, code(&adrift)), (409, "no-base".into()));
    let added = sidecar.local("PUT", "/v1/models?wait=60", &wanted(serde_json::json!({ "base": MODEL })));
    assert_eq!(added.0, 200, "{}", added.1);
    sidecar.assert_holds(ADAPTER, &tone);

    let standing = sidecar.local("DELETE", &format!("/v1/models/{MODEL}"), "");
    assert_eq!((standing.0, code(&standing)), (409, "has-adapters".into()));
    assert_eq!(sidecar.local("DELETE", &format!("/v1/models/{ADAPTER}"), "").0, 202);
    sidecar.until("gone", |sidecar| !sidecar.models.join(format!("{ADAPTER}@1")).exists());
    assert!(!sidecar.current(ADAPTER).exists());
    assert!(sidecar.is_ready());
    let gone = sidecar.local("DELETE", &format!("/v1/models/{ADAPTER}"), "");
    assert_eq!((gone.0, code(&gone)), (404, "no-such-model".into()));

    // What cannot be opened is said, and makes the pod no less ready; what was changed in storage is counted.
    let unknown = sidecar.local("PUT", "/v1/models?wait=2", &serde_json::json!({ "name": "acme/unknown", "sealed": "/s" }).to_string());
    assert_eq!((unknown.0, code(&unknown)), (504, "not-open-yet".into()));
    assert!(unknown.1.contains("record-known"), "{}", unknown.1);
    let shard = pod.world.installation.path("tone").join(model::SHARDS[0]);
    let mut bytes = fs::read(&shard).unwrap();
    bytes[100_000] ^= 1;
    fs::write(&shard, &bytes).unwrap();
    let changed = sidecar.local("PUT", "/v1/models?wait=5", &wanted(serde_json::json!({})));
    assert_eq!(changed.0, 504, "{}", changed.1);
    assert!(changed.1.contains("chunk-hash"), "{}", changed.1);
    assert!(!sidecar.models.join(format!("{ADAPTER}@1")).exists(), "a failure leaves nothing");
    assert!(sidecar.metric(&format!("portcullis_sidecar_tampered_total{{model=\"{ADAPTER}\"}}")).unwrap() >= 1.0);
    assert!(sidecar.is_ready());
    bytes[100_000] ^= 1;
    fs::write(&shard, &bytes).unwrap();
    sidecar.until("open after all", |sidecar| sidecar.model(ADAPTER)["current"] == 1);

    for (body, status) in
        [("{}", 400), ("{\"name\":\"acme/a\",\"sealed\":\"/s\",\"more\":1}", 400), ("{\"name\":\"../a\",\"sealed\":\"/s\"}", 400)]
    {
        assert_eq!(sidecar.local("PUT", "/v1/models", body).0, status, "{body}");
    }
}

#[test]
fn a_lease_that_runs_out_does_what_is_configured_and_a_new_one_heals_it() {
    let mut pod = Pod::new();
    pod.put_lifetime(10, "1 minute");
    let sidecar = pod.sidecar(&format!("on-expiry = \"remove\"\n{}", pod.model(MODEL, "sealed", "")));
    sidecar.until("ready", Sidecar::is_ready);
    pod.world.installation.stop().unwrap();
    let path = sidecar.models.join(format!("{MODEL}@1"));
    let left = |sidecar: &Sidecar| sidecar.metric(&format!("portcullis_sidecar_lease_seconds{{model=\"{MODEL}\"}}")).unwrap();
    while left(&sidecar) > 2.0 {
        assert!(sidecar.is_ready() && path.is_dir(), "the lease still holds");
        std::thread::sleep(Duration::from_millis(200));
    }
    sidecar.until("unready", |sidecar| !sidecar.is_ready());
    sidecar.until("removed", |_| !path.exists());
    let (_, body) = sidecar.probe("/readyz");
    assert!(body.contains("lease-expired"), "{body}");
    assert_eq!((sidecar.probe("/startupz").0, sidecar.probe("/livez").0), (200, 200));
    pod.start_broker();
    sidecar.until("ready again", Sidecar::is_ready);
    assert!(path.is_dir());
}

#[test]
fn a_lease_is_renewed_by_attesting_anew_before_it_ends() {
    let pod = Pod::new();
    pod.put_lifetime(10, "1 minute");
    let sidecar = pod.sidecar(&pod.model(MODEL, "sealed", ""));
    sidecar.until("ready", Sidecar::is_ready);
    let lease = |sidecar: &Sidecar| sidecar.model(MODEL)["lease"].clone();
    let first = lease(&sidecar);
    sidecar.until("renewed", |sidecar| lease(sidecar) != first);
    assert!(sidecar.is_ready());
    assert_eq!(sidecar.metric("portcullis_sidecar_outages_total"), Some(0.0));
}

#[test]
fn a_denied_renewal_counts_at_once_where_that_is_configured() {
    let pod = Pod::new();
    let other = pod.model(MODEL, "sealed", "");
    let sidecar = pod.sidecar(&format!("on-denial = \"at-once\"\n{other}"));
    sidecar.until("ready", Sidecar::is_ready);
    pod.put_denial(10);
    assert_eq!(sidecar.local("POST", "/v1/renew", "").0, 202);
    sidecar.until("unready", |sidecar| !sidecar.is_ready());
    assert_eq!(sidecar.model(MODEL)["denial"]["code"], "configuration");
    assert!(sidecar.current(MODEL).exists(), "unready keeps the files");
    assert!(sidecar.metric("portcullis_sidecar_denials_total{reason=\"configuration\"}").unwrap() >= 1.0);
    pod.put_lifetime(11, "1 hour");
    assert_eq!(sidecar.local("POST", "/v1/renew", "").0, 202);
    sidecar.until("ready again", Sidecar::is_ready);
    assert_eq!(sidecar.model(MODEL)["denial"], Value::Null);
}

#[test]
fn a_revoked_model_is_not_renewed_and_another_is() {
    let pod = Pod::new();
    let other = pod.world.publish(OTHER, 1, "other", 2);
    let lines =
        format!("on-denial = \"at-once\"\non-expiry = \"remove\"\n{}{}", pod.model(MODEL, "sealed", ""), pod.model(OTHER, "other", ""));
    let sidecar = pod.sidecar(&lines);
    sidecar.until("ready", Sidecar::is_ready);
    pod.world.installation.revoke(MODEL, "leaked").unwrap();
    assert_eq!(sidecar.local("POST", "/v1/renew", "").0, 202);
    sidecar.until("removed", |sidecar| !sidecar.current(MODEL).exists() && !sidecar.models.join(format!("{MODEL}@1")).exists());
    assert_eq!(sidecar.model(MODEL)["denial"]["code"], "record-revoked");
    sidecar.assert_holds(OTHER, &other);
    let (status, body) = sidecar.probe("/readyz");
    assert!(status == 503 && body.contains(MODEL) && !body.contains(OTHER), "{body}");
}

#[test]
fn a_revoked_model_is_removed_in_every_version_also_one_that_is_only_held() {
    let pod = Pod::new();
    fs::create_dir(pod.world.installation.path("llama")).unwrap();
    fs::rename(pod.world.installation.path("sealed"), pod.world.installation.path("llama/1")).unwrap();
    let sidecar = pod.sidecar(&format!("on-denial = \"at-once\"\non-expiry = \"remove\"\n{}", pod.model(MODEL, "llama/{version}", "")));
    sidecar.until("ready", Sidecar::is_ready);
    let mut reader = File::open(sidecar.current(MODEL).join("config.json")).unwrap();
    pod.world.publish(MODEL, 2, "llama/2", 9);
    assert_eq!(sidecar.local("POST", "/v1/renew", "").0, 202);
    sidecar.until("current in version 2", |sidecar| sidecar.model(MODEL)["current"] == 2);
    let version = |number: u32| sidecar.models.join(format!("{MODEL}@{number}"));
    assert!(version(1).is_dir() && version(2).is_dir(), "somebody has a file of the first open");
    pod.world.installation.revoke(MODEL, "leaked").unwrap();
    assert_eq!(sidecar.local("POST", "/v1/renew", "").0, 202);
    sidecar.until("removed", |_| !version(1).exists() && !version(2).exists());
    // Who has it open keeps it: that is the kernel's, and docs/sidecar.md says so.
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(text.contains("LlamaForCausalLM"));
}

#[test]
fn a_revoked_version_says_nothing_about_another() {
    let pod = Pod::new();
    fs::create_dir(pod.world.installation.path("llama")).unwrap();
    fs::rename(pod.world.installation.path("sealed"), pod.world.installation.path("llama/1")).unwrap();
    let sidecar = pod.sidecar(&format!("on-denial = \"at-once\"\non-expiry = \"remove\"\n{}", pod.model(MODEL, "llama/{version}", "")));
    sidecar.until("ready", Sidecar::is_ready);
    let version = |number: u32| sidecar.models.join(format!("{MODEL}@{number}"));
    let renew = || assert_eq!(sidecar.local("POST", "/v1/renew", "").0, 202);

    // The newest is refused, and the one that is open is permitted.
    pod.world.publish(MODEL, 2, "llama/2", 9);
    pod.world.installation.revoke(&format!("{MODEL}@2"), "leaked").unwrap();
    renew();
    sidecar.until("told", |sidecar| sidecar.model(MODEL)["denial"]["code"] == "record-revoked");
    assert!(sidecar.is_ready() && version(1).is_dir());

    // A newer one is permitted, opened, and the open one is refused meanwhile.
    pod.world.publish(MODEL, 3, "llama/3", 10);
    let _reader = File::open(version(1).join("config.json")).unwrap();
    renew();
    sidecar.until("current in version 3", |sidecar| sidecar.model(MODEL)["current"] == 3);
    pod.world.installation.revoke(&format!("{MODEL}@1"), "leaked").unwrap();
    renew();
    sidecar.until("removed", |_| !version(1).exists());
    assert!(sidecar.is_ready() && version(3).is_dir());
}

#[test]
fn a_sidecar_that_starts_again_ends_the_leases_of_its_earlier_life() {
    let mut pod = Pod::new();
    if !pod.is_in_memory() {
        return;
    }
    pod.put_lifetime(10, "1 minute");
    pod.world.publish(OTHER, 1, "other", 2);
    let (remove, model) = ("on-expiry = \"remove\"\n", pod.model(MODEL, "sealed", ""));
    let sidecar = pod.sidecar(&format!("{remove}{model}{}", pod.model(OTHER, "other", "")));
    sidecar.until("ready", Sidecar::is_ready);
    let path = |name: &str| sidecar.models.join(format!("{name}@1"));
    let (kept, superfluous) = (path(MODEL), path(OTHER));
    let _reader = File::open(superfluous.join("config.json")).unwrap();
    let partial = sidecar.models.join("acme/.portcullis-partial-0123456789abcdef");
    drop(sidecar);
    pod.world.installation.stop().unwrap();
    fs::create_dir_all(partial.join("model")).unwrap();
    fs::set_permissions(&partial, fs::Permissions::from_mode(0o700)).unwrap();
    let owner = fs::metadata(&kept).unwrap();
    let (user, group) = (std::os::unix::fs::MetadataExt::uid(&owner), std::os::unix::fs::MetadataExt::gid(&owner));
    std::os::unix::fs::chown(&partial, Some(user), Some(group)).unwrap();

    // The broker does not answer, and only one of the two is wanted now.
    let sidecar = pod.sidecar(&format!("{remove}{model}"));
    sidecar.until("tidy", |_| !partial.exists());
    assert!(kept.is_dir() && sidecar.current(MODEL).exists(), "engines notice nothing");
    assert!(superfluous.is_dir() && sidecar.current(OTHER).symlink_metadata().is_err(), "in use, and no longer to be found");
    sidecar.until("removed", |_| !kept.exists() && !superfluous.exists());
    assert!(sidecar.current(MODEL).symlink_metadata().is_err());
    assert!(sidecar.probe("/readyz").1.contains("lease-expired"));
    pod.start_broker();
    sidecar.until("ready again", Sidecar::is_ready);
    let Sidecar { server, models, .. } = sidecar;
    assert_exit(&server.stop().unwrap(), 0);
    assert_eq!(names(&models.join("acme")), [""; 0]);
}

#[test]
fn what_is_left_when_a_sidecar_was_killed_is_put_away_at_the_end_of_the_next() {
    let mut pod = Pod::new();
    if !pod.is_in_memory() {
        return;
    }
    let lines = pod.model(MODEL, "sealed", "");
    let sidecar = pod.sidecar(&lines);
    sidecar.until("ready", Sidecar::is_ready);
    drop(sidecar);
    pod.world.installation.stop().unwrap();
    // It never hears from the broker.
    let Sidecar { server, models, .. } = pod.sidecar(&lines);
    assert!(models.join(format!("{MODEL}@1")).is_dir());
    assert_exit(&server.stop().unwrap(), 0);
    assert_eq!(names(&models.join("acme")), [""; 0]);
}

#[test]
fn a_storage_that_says_nothing_holds_up_no_end() {
    let pod = Pod::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let sealed = format!("http://{}/model", silent.local_addr().unwrap());
    let sidecar = pod.sidecar(&format!("[[model]]\nname = \"{MODEL}\"\nsealed = \"{sealed}\"\n"));
    // It waits for an answer now.
    let (_held, _) = silent.accept().unwrap();
    let Sidecar { server, models, .. } = sidecar;
    let began = Instant::now();
    assert_exit(&server.stop().unwrap(), 0);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(names(&models.join("acme")), [""; 0]);
}

/// Waits until it holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "not {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_end_closes_doors_and_removes_secrets_without_waiting_then_the_models_go_and_the_folder_is_free_last() {
    let mut pod = Pod::new();
    // An exchange that hangs does so for longer than this test takes.
    let timeout = format!("timeout-seconds = 300\n{}", plaintext(&pod.world.room));
    pod.world.installation.write_guest("guest.toml", &timeout).unwrap();
    pod.put_lifetime(10, "1 hour");
    let what = arguments!["credential", "put", CREDENTIAL, "--from", "-"].into_iter().chain(whose());
    pod.world.installation.programs().run_with(Part::Command, what, b"sk-0123456789").unwrap().expect(0).unwrap();
    let (secret, proxy) = (pod.world.to("credential"), pod.world.installation.path("run/proxy.sock"));
    let lines = format!(
        "[[credential]]\nname = \"{CREDENTIAL}\"\nfile = \"{}\"\n[[proxy]]\nlisten = \"{}\"\nupstream = \"https://127.0.0.1:1\"\n\
         credential = \"{CREDENTIAL}\"\nallow = [\"GET /v1/models\"]\n{}",
        secret.display(),
        proxy.display(),
        pod.model(MODEL, "sealed", "")
    );
    let sidecar = pod.sidecar_as(As::Privileged, &lines);
    sidecar.until("ready", |sidecar| sidecar.is_ready() && secret.exists());
    assert!(UnixStream::connect(&proxy).is_ok());

    // A broker that takes questions and answers none: the keepers of models and of credentials wait for it.
    pod.world.installation.stop().unwrap();
    let silent = TcpListener::bind(&pod.address).unwrap();
    silent.set_nonblocking(true).unwrap();
    assert_eq!(sidecar.local("POST", "/v1/renew", "").0, 202);
    let mut asking = Vec::new();
    until("asked by both", || {
        asking.extend(silent.accept().ok());
        asking.len() == 2
    });
    let (link, version) = (sidecar.current(MODEL), sidecar.models.join(format!("{MODEL}@1")));
    let Sidecar { server, probes, socket, models } = sidecar;
    let ended = std::thread::spawn(move || server.stop().unwrap());
    until("behind closed doors", || {
        UnixStream::connect(&proxy).is_err() && UnixStream::connect(&socket).is_err() && TcpStream::connect(&probes).is_err()
    });
    until("without secrets", || !secret.exists());
    let taken = Notes::claim(&models).err().map(|error| error.kind());
    assert_eq!(taken, Some(ErrorKind::ResourceBusy), "the folder is still its own");
    assert!(link.exists() && version.is_dir() && !ended.is_finished(), "what the keeper holds waits for the keeper");

    // Nobody waits any more.
    drop((silent, asking));
    let mut free = None;
    until("free", || {
        free = Notes::claim(&models).ok();
        free.is_some()
    });
    assert_eq!(names(&models.join("acme")), [""; 0], "whoever gets the folder next finds nothing in it");
    assert_exit(&ended.join().unwrap(), 0);
}

#[test]
fn a_storage_that_says_nothing_while_a_signer_is_checked_holds_up_no_end() {
    let pod = Pod::new();
    // What is tested ends before there is a mount, so neither privileges nor memory without swap are needed.
    pod.requires_signer(10, "plaintext = \"disk\"\n", "hashed");
    let start = |web: &Storage| pod.sidecar(&format!("way = \"mount\"\n[[model]]\nname = \"{MODEL}\"\nsealed = \"{}\"\n", web.url()));
    let web = Storage::start(&pod.world.installation.path("sealed"));
    // The manifest comes for what it says, and does not come once more for the check.
    web.next("portcullis-manifest.json", std::iter::once(Trick::Well).chain(vec![Trick::StallsAfter(10); 9]));
    let sidecar = start(&web);
    sidecar.until("checking", |_| web.asked().len() == 2);
    let Sidecar { server, models, .. } = sidecar;
    let began = Instant::now();
    assert_exit(&server.stop().unwrap(), 0);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(names(&models.join("acme")), [""; 0]);
    // The near miss: it comes, and the check has its say.
    let web = Storage::start(&pod.world.installation.path("sealed"));
    let sidecar = start(&web);
    sidecar.until("refused", |sidecar| sidecar.local("GET", "/v1/models", "").1.contains("model-signature-missing"));
    assert_exit(&sidecar.server.stop().unwrap(), 0);
}

#[test]
fn connections_that_say_nothing_keep_nobody_from_probes_for_long() {
    let pod = Pod::new();
    let sidecar = pod.sidecar(&pod.model(MODEL, "sealed", ""));
    sidecar.until("ready", Sidecar::is_ready);
    let idle: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(&sidecar.probes).unwrap()).collect();
    assert!(sidecar.is_ready(), "once those before it have been let go");
    let is_let_go = |mut stream: TcpStream| {
        stream.set_nonblocking(true).unwrap();
        stream.read(&mut [0; 512]).is_ok()
    };
    // 64 have a place at once: the probe came 101st.
    assert!(idle.into_iter().map(is_let_go).filter(|let_go| *let_go).count() >= 101 - 64);
}

#[test]
fn a_model_without_the_signature_that_the_configuration_requires_is_not_opened() {
    let pod = Pod::new();
    let ways: &[&str] = if can_mount() { &["open", "mount"] } else { &["open"] };
    for (version, (contents, way)) in
        (10..).zip(["hashed", "publisher-vouches"].into_iter().flat_map(|word| ways.iter().map(move |way| (word, way))))
    {
        pod.requires_signer(version, plaintext(&pod.world.room), contents);
        let who = if *way == "mount" { As::Privileged } else { As::Container };
        let sidecar = pod.sidecar_as(who, &pod.model(MODEL, "sealed", &format!("way = \"{way}\"")));
        sidecar.until("refused", |sidecar| sidecar.local("GET", "/v1/models", "").1.contains("model-signature-missing"));
        assert!(!sidecar.is_ready() && !sidecar.current(MODEL).exists());
        assert!(!sidecar.models.join(format!("{MODEL}@1/config.json")).exists());
        assert_exit(&sidecar.server.stop().unwrap(), 0);
        // The next one may be another user, who does not take this one's folder over.
        fs::remove_dir_all(&sidecar.models).unwrap();
    }
}

#[test]
fn a_sidecar_that_was_killed_starts_again_without_opening_anew() {
    let pod = Pod::new();
    if !pod.is_in_memory() {
        return;
    }
    let lines = pod.model(MODEL, "sealed", "");
    let sidecar = pod.sidecar(&lines);
    sidecar.until("ready", Sidecar::is_ready);
    let weights = fs::canonicalize(sidecar.current(MODEL)).unwrap().join(model::SHARDS[0]);
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let before = inode(&weights);
    drop(sidecar);
    let sidecar = pod.sidecar(&lines);
    sidecar.until("ready", Sidecar::is_ready);
    assert_eq!(inode(&weights), before);
    // What is not noted as whole is opened anew.
    drop(sidecar);
    for note in fs::read_dir(pod.world.to("models").join(".portcullis")).unwrap() {
        fs::remove_file(note.unwrap().path()).unwrap();
    }
    let sidecar = pod.sidecar(&lines);
    sidecar.until("ready", Sidecar::is_ready);
    assert_ne!(inode(&weights), before);
}

/// The process that serves the mount at `path`.
fn mount_server(path: &Path) -> Option<rustix::process::Pid> {
    let words = |pid: &str| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let is_server = |words: &[u8]| {
        let mut words = words.split(|byte| *byte == 0);
        words.clone().any(|word| word == b"mount-server") && words.any(|word| word == path.as_os_str().as_encoded_bytes())
    };
    let mut processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let found = processes.find(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()) && is_server(&words(pid)))?;
    rustix::process::Pid::from_raw(found.parse().unwrap())
}

#[test]
fn a_mounted_model_is_served_by_a_process_of_its_own_and_mounted_again_when_that_dies() {
    if !can_mount() {
        return;
    }
    let pod = Pod::new();
    let first = pod.world.publish(OTHER, 1, "other", 2);
    let sidecar = pod.sidecar_as(
        As::Privileged,
        &format!("way = \"mount\"\n{}{}", pod.model(OTHER, "other", ""), pod.model(MODEL, "sealed", "way = \"open\"")),
    );
    sidecar.until("ready", Sidecar::is_ready);
    assert_eq!(sidecar.model(OTHER)["versions"][0]["way"], "mount");
    let path = fs::canonicalize(sidecar.current(OTHER)).unwrap();
    let server = mount_server(&path).expect("a mount server");

    // What was changed in storage is an I/O error for its reader, and counted; the rest is read.
    let shard = pod.world.installation.path("other").join(model::SHARDS[0]);
    let whole = fs::read(&shard).unwrap();
    let mut flipped = whole.clone();
    flipped[200_000] ^= 1;
    fs::write(&shard, &flipped).unwrap();
    assert_eq!(fs::read(path.join(model::SHARDS[0])).unwrap_err().raw_os_error(), Some(5));
    let tampered = format!("portcullis_sidecar_tampered_total{{model=\"{OTHER}\"}}");
    sidecar.until("counted", |sidecar| sidecar.metric(&tampered).is_some_and(|count| count >= 1.0));
    fs::write(&shard, &whole).unwrap();
    sidecar.assert_holds(OTHER, &first);

    rustix::process::kill_process(server, rustix::process::Signal::KILL).unwrap();
    sidecar.until("mounted again", |sidecar| mount_server(&path).is_some_and(|now| now != server) && sidecar.is_ready());
    sidecar.assert_holds(OTHER, &first);

    let Sidecar { server, models, .. } = sidecar;
    assert_exit(&server.stop().unwrap(), 0);
    assert_eq!(names(&models.join("acme")), [""; 0], "everything is unmounted and put away");
    let until = Instant::now() + PATIENCE;
    while mount_server(&path).is_some() {
        assert!(Instant::now() < until, "the mount server goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_model_on_a_web_server_is_mounted_and_what_the_server_does_is_told() {
    if !can_mount() {
        return;
    }
    let pod = Pod::new();
    let first = pod.world.publish(OTHER, 1, "other", 2);
    let web = Storage::start(&pod.world.installation.path("other"));
    let config = pod.world.installation.read("guest.toml").unwrap();
    pod.world.installation.write("guest.toml", format!("{config}\n[storage]\nretry-seconds = 0\n").as_bytes()).unwrap();
    let lines = format!("way = \"mount\"\n[[model]]\nname = \"{OTHER}\"\nsealed = \"{}\"\n", web.url());
    let sidecar = pod.sidecar_as(As::Privileged, &lines);
    sidecar.until("ready", Sidecar::is_ready);
    assert_eq!(sidecar.model(OTHER)["versions"][0]["way"], "mount");
    let path = fs::canonicalize(sidecar.current(OTHER)).unwrap();
    assert!(mount_server(&path).is_some());
    let page = |offset: u64| {
        let mut page = [0; 4096];
        std::os::unix::fs::FileExt::read_exact_at(&File::open(path.join(model::SHARDS[1])).unwrap(), &mut page, offset)
    };
    // A lie is an I/O error for its reader, and counted; an outage is an I/O error; both are over when the server is right again.
    web.always(Trick::Flipped);
    assert_eq!(page(100_000).unwrap_err().raw_os_error(), Some(5));
    let tampered = format!("portcullis_sidecar_tampered_total{{model=\"{OTHER}\"}}");
    sidecar.until("counted", |sidecar| sidecar.metric(&tampered).is_some_and(|count| count >= 1.0));
    web.always(Trick::Status(503, None));
    assert_eq!(page(280_000).unwrap_err().raw_os_error(), Some(5));
    sidecar.until("logged", |sidecar| sidecar.server.log().contains("storage-busy"));
    web.always(Trick::Well);
    sidecar.assert_holds(OTHER, &first);
    assert!(sidecar.is_ready());

    let Sidecar { server, models, .. } = sidecar;
    assert_exit(&server.stop().unwrap(), 0);
    assert_eq!(names(&models.join("acme")), [""; 0], "everything is unmounted and put away");
}

#[test]
fn a_mount_that_outlived_its_sidecar_ends_with_its_lease() {
    if !can_mount() {
        return;
    }
    let mut pod = Pod::new();
    pod.put_lifetime(10, "1 minute");
    let lines = format!("way = \"mount\"\non-expiry = \"remove\"\n{}", pod.model(MODEL, "sealed", ""));
    let sidecar = pod.sidecar_as(As::Privileged, &lines);
    sidecar.until("ready", Sidecar::is_ready);
    let path = fs::canonicalize(sidecar.current(MODEL)).unwrap();
    let server = mount_server(&path).expect("a mount server");
    drop(sidecar);
    pod.world.installation.stop().unwrap();
    let sidecar = pod.sidecar_as(As::Privileged, &lines);
    assert!(path.join("config.json").exists() && mount_server(&path) == Some(server), "readers notice nothing");
    sidecar.until("removed", |_| !path.exists() && mount_server(&path).is_none());
    pod.start_broker();
    sidecar.until("ready again", Sidecar::is_ready);
    assert!(mount_server(&path).is_some_and(|now| now != server));
    assert_exit(&sidecar.server.stop().unwrap(), 0);
}
