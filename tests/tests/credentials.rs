//! A credential's life, in real processes: put, given to a program, rotated, rolled back, revoked, over; and seen by nobody else.

mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_tests::arguments;
use portcullis_tests::installation::{MODEL, POLICY, whose};
use portcullis_tests::machine::Tee;
use portcullis_tests::policy;
use portcullis_tests::programs::{Ended, Part, Server};
use protocol::encoding::to_base64;
use serde_json::Value;
use world::{GENUINE, World, assert_exit, can_mount};

/// How long anything may take: generous, because machines are busy.
const PATIENCE: Duration = Duration::from_secs(90);
/// A credential.
const OPENAI: &str = "acme/openai";
/// Another user than the one that the tests run as.
const OTHER: u32 = 1000;

/// Writes each start to the file `seen`, which lies in memory, and every signal; then waits.
const AGENT: &str = "echo \"start $KEY\" >> SEEN; trap 'echo \"hup $(cat \"$KEY\")\" >> SEEN' HUP; trap 'echo term >> SEEN; exit 0' TERM; \
                     echo serving >&2; while :; do sleep 0.05; done";

struct Desk {
    world: World,
}

impl Desk {
    fn new() -> Self {
        Self { world: World::new() }
    }

    /// `portcullis credential put`, as the next version.
    fn put(&self, name: &str, secret: &[u8], more: &[&str]) -> Value {
        let what = arguments!["credential", "put", name, "--json"].into_iter().chain(more.iter().map(Into::into));
        let from: &[&str] = if more.contains(&"--env-file") { &[] } else { &["--from", "-"] };
        let ended = self
            .world
            .installation
            .programs()
            .run_with(Part::Command, what.chain(from.iter().map(Into::into)).chain(whose()), secret)
            .unwrap();
        assert_exit(&ended, 0);
        ended.json().unwrap()
    }

    /// `portcullis credential …`.
    fn credential(&self, words: &[&str]) -> Ended {
        self.world.installation.command(arguments!["credential"].into_iter().chain(words.iter().map(Into::into))).unwrap()
    }

    /// `portcullis-guest exec …`, as it would be typed.
    fn exec(&self, how: &[&str], program: &[&str]) -> Vec<std::ffi::OsString> {
        let words = arguments!["exec", "--config", "guest.toml", "--evidence", format!("agent:{GENUINE}"), "--retry-for", "0"];
        words.into_iter().chain(how.iter().map(Into::into)).chain(arguments!["--"]).chain(program.iter().map(Into::into)).collect()
    }

    /// Runs a program to its end.
    fn run(&self, how: &[&str], program: &[&str]) -> Ended {
        self.world.installation.guest(self.exec(how, program)).unwrap()
    }

    /// Starts the agent with `KEY`, whose signs of life are in the file `seen` in memory.
    fn agent(&self, seen: &str, how: &[&str]) -> Agent {
        let seen = self.world.to(seen);
        let script = AGENT.replace("SEEN", &seen.display().to_string());
        let how = [&["--check-every", "1s", "--grace", "20s", "--json"], how].concat();
        let words = self.exec(&how, &["sh", "-c", &script]);
        let server = self.world.installation.programs().serve(Part::Guest, words, |line| (line == "serving").then(String::new)).unwrap();
        Agent { server, seen }
    }

    fn memory(&self, name: &str) -> String {
        self.world.to(name).display().to_string()
    }

    /// That none of these secrets stands in what anybody said, or in a file outside the guest's memory.
    fn assert_nowhere(&self, secrets: &[&str], said: &[&str]) {
        let forms: Vec<String> = secrets.iter().flat_map(|secret| [(*secret).to_owned(), to_base64(secret.as_bytes())]).collect();
        let logs = [self.world.installation.broker_log(), self.world.agent.log()];
        for text in said.iter().copied().chain(logs.iter().map(String::as_str)) {
            assert!(forms.iter().all(|form| !text.contains(form.as_str())), "{text}");
        }
        let mut waiting = vec![self.world.installation.programs().folder().to_owned()];
        while let Some(folder) = waiting.pop() {
            for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_dir() {
                    waiting.push(entry);
                } else if let Ok(bytes) = fs::read(&entry) {
                    let holds = |form: &String| bytes.windows(form.len()).any(|window| window == form.as_bytes());
                    assert!(!forms.iter().any(holds), "{} holds a secret", entry.display());
                }
            }
        }
    }
}

/// A program that `exec` runs.
struct Agent {
    server: Server,
    seen: PathBuf,
}

impl Agent {
    fn seen(&self) -> String {
        fs::read_to_string(&self.seen).unwrap_or_default()
    }

    fn until_seen(&self, expected: &str) {
        until(|| self.seen() == expected, || format!("expected {expected:?}, seen {:?}\n{}", self.seen(), self.server.log()));
    }

    /// Waits until it has ended by itself.
    fn ended(self) -> Ended {
        let log = || self.server.log();
        until(|| log().contains("the program was ended"), || format!("it goes on\n{}", log()));
        self.server.stop().unwrap()
    }
}

fn until(holds: impl Fn() -> bool, or: impl Fn() -> String) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{}", or());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_program_is_given_credentials_as_variables_files_and_descriptors() {
    let desk = Desk::new();
    let secrets = ["sk-opaque-0123456789", "sk-in-a-file-0123456789", "sk-of-a-set-0123456789"];
    assert_eq!(desk.put(OPENAI, secrets[0].as_bytes(), &[])["version"], 1);
    assert_eq!(desk.put("acme/gcp", secrets[1].as_bytes(), &["--file-name", "sa.json"])["kind"], "file");
    let set = format!("# ours\nexport USER_ID=agent\nPASSWORD='{}'\n", secrets[2]);
    assert_eq!(desk.put("acme/db", set.as_bytes(), &["--env-file", "-"])["kind"], "env");
    let folder = format!("{}/", desk.world.room.path().display());
    let how = ["--credential", "KEY=acme/openai", "--as", "env", "--credential", "GCP=acme/gcp", "--as"];
    let file = format!("file:{folder}");
    let how =
        [&how[..], &[&file, "--credential", "PASSWORD,USER_ID=acme/db", "--as", "env", "--credential", "FD=acme/gcp@1", "--as", "fd"]]
            .concat();
    // The program says what it has, and what of it others could see: arguments of itself, environment of its parent.
    let out = desk.memory("out");
    let script = format!(
        "{{ echo \"$KEY\"; echo \"$GCP\"; cat \"$GCP\"; echo; echo \"$USER_ID $PASSWORD\"; cat \"$FD\"; echo; stat -c %a \"$GCP\"; }} > {out}; \
         tr '\\0' '\\n' < /proc/$PPID/environ > {out}.parent; tr '\\0' '\\n' < /proc/$PPID/cmdline >> {out}.parent; \
         head -c 1 /proc/$PPID/mem > /dev/null 2> {out}.memory; grep NoNewPrivs /proc/self/status > {out}.privileges; \
         for fd in /proc/self/fd/*; do case $(readlink $fd) in *memfd:environment*) wc -c < $fd > {out}.rest;; esac; done; exit 7"
    );
    let ended = desk.run(&how, &["sh", "-c", &script]);
    assert_exit(&ended, 7);
    let expected = format!("{0}\n{folder}sa.json\n{1}\nagent {2}\n{1}\n600\n", secrets[0], secrets[1], secrets[2]);
    assert_eq!(fs::read_to_string(&out).unwrap(), expected);
    let read = |end: &str| fs::read_to_string(format!("{out}.{end}")).unwrap_or_default();
    // A process whose memory is closed shows its environment to nobody; where the kernel lets it be read, nothing stands in it.
    assert!(secrets.iter().all(|secret| !read("parent").contains(secret)), "{}", read("parent"));
    assert!(read("memory").to_lowercase().contains("denied"), "{}", read("memory"));
    assert_eq!(read("privileges"), "NoNewPrivs:\t1\n");
    assert_eq!(read("rest"), "0\n", "what carried the variables is empty");
    assert!(!Path::new(&format!("{folder}sa.json")).exists(), "the file goes with the program");
    for end in ["", ".parent", ".memory", ".privileges", ".rest"] {
        let _ = fs::remove_file(format!("{out}{end}"));
    }
    assert_eq!(fs::read_dir(desk.world.room.path()).unwrap().count(), 0);
    desk.assert_nowhere(&secrets, &[&ended.stdout, &ended.stderr]);

    // What does not fit is refused before the program starts.
    let refused = |how: &[&str], code: i32, part: &str| {
        let ended = desk.run(how, &["sh", "-c", "echo started"]);
        assert_exit(&ended, code);
        assert!(!ended.stdout.contains("started") && ended.stderr.contains(part), "{}{}", ended.stdout, ended.stderr);
    };
    refused(&["--credential", "NONE=acme/db"], 1, "credential-no-variable");
    refused(&["--credential", "A,B=acme/openai"], 1, "credential-no-set");
    refused(&["--credential", "*=acme/db"], 2, "name those that are taken");
    refused(&["--credential", "PASSWORD=acme/openai", "--credential", "USER_ID,PASSWORD=acme/db"], 2, "a variable is named twice");
    let folders = ["--credential", "A=acme/openai", "--as", &file, "--credential", "B=acme/gcp", "--as", &file];
    refused(&folders, 2, "one path");
    refused(&["--credential", "LD_PRELOAD=acme/openai"], 2, "decides which code");
    refused(&["--credential", "KEY=acme/unknown"], 3, "record-known");
    refused(&["--credential", "KEY=acme/openai", "--on-rotate", "signal"], 2, "needs --as file");
    refused(&["--credential", "KEY=acme/openai", "--as", "file:/proc/key"], 1, "destination-not-memory");
}

#[test]
fn another_version_restarts_the_program_or_is_told_to_it_or_is_left_alone() {
    let desk = Desk::new();
    desk.put(OPENAI, b"sk-first-0123456789", &[]);
    let file = desk.memory("key");
    let way = format!("file:{file}");
    let restarted = desk.agent("restarted", &["--credential", "KEY=acme/openai", "--on-rotate", "restart"]);
    let told = desk.agent("told", &["--credential", "KEY=acme/openai", "--as", &way, "--on-rotate", "signal"]);
    let left = desk.agent("left", &["--credential", "KEY=acme/openai"]);
    let pinned = desk.agent("pinned", &["--credential", "KEY=acme/openai@1", "--on-rotate", "restart"]);
    assert_eq!(restarted.seen(), "start sk-first-0123456789\n");
    assert_eq!(told.seen(), format!("start {file}\n"));
    assert_eq!(fs::read(&file).unwrap(), b"sk-first-0123456789");

    assert_eq!(desk.put(OPENAI, b"sk-second-0123456789", &[])["version"], 2);
    restarted.until_seen("start sk-first-0123456789\nterm\nstart sk-second-0123456789\n");
    told.until_seen(&format!("start {file}\nhup sk-second-0123456789\n"));
    let shown = desk.credential(&["show", OPENAI]);
    assert!(shown.stdout.contains("version 2") && shown.stdout.contains("released to who names it"), "{}", shown.stdout);

    // Back again: the later version is revoked, and no secret is needed for it.
    let back = ["rollback", OPENAI, "--reason", "it lacks a scope", "--authority-key", "authority.key", "--json"];
    let rolled = desk.credential(&back);
    assert_exit(&rolled, 0);
    let rolled = rolled.json().unwrap();
    assert_eq!((&rolled["version"], &rolled["revoked"]), (&1.into(), &serde_json::json!([2])));
    let again = "start sk-first-0123456789\nterm\nstart sk-second-0123456789\nterm\nstart sk-first-0123456789\n";
    restarted.until_seen(again);
    told.until_seen(&format!("start {file}\nhup sk-second-0123456789\nhup sk-first-0123456789\n"));
    let listed = desk.credential(&["list"]).stdout;
    assert!(listed.contains("current") && listed.contains("revoked: it lacks a scope"), "{listed}");
    let nothing = desk.credential(&back);
    assert_exit(&nothing, 1);
    assert!(nothing.stderr.contains("no earlier version"), "{}", nothing.stderr);
    let named = desk.run(&["--credential", "KEY=acme/openai@2"], &["true"]);
    assert_exit(&named, 3);
    // The version behind it is a new one.
    assert_eq!(desk.put(OPENAI, b"sk-third-0123456789", &[])["version"], 3);
    restarted.until_seen(&format!("{again}term\nstart sk-third-0123456789\n"));

    for agent in [&left, &pinned] {
        assert_eq!(agent.seen(), "start sk-first-0123456789\n");
    }
    let mut said = Vec::new();
    for agent in [restarted, told, left, pinned] {
        let ended = agent.server.stop().unwrap();
        assert_exit(&ended, 0);
        assert!(fs::read_to_string(&agent.seen).unwrap().ends_with("term\n"), "a signal to end is passed on");
        said.push(ended.stderr);
    }
    assert!(!Path::new(&file).exists());
    let said: Vec<&str> = said.iter().map(String::as_str).collect();
    desk.assert_nowhere(&["sk-first-0123456789", "sk-second-0123456789", "sk-third-0123456789"], &said);
}

#[test]
fn a_revoked_credential_ends_the_program_where_that_is_asked_for() {
    let desk = Desk::new();
    desk.put(OPENAI, b"sk-first-0123456789", &[]);
    desk.put("acme/other", b"sk-other-0123456789", &[]);
    let file = desk.memory("key");
    let ended = desk.agent("ended", &["--credential", "KEY=acme/openai", "--on-revoke", "end"]);
    let left = desk.agent("left", &["--credential", "KEY=acme/openai", "--as", &format!("file:{file}")]);
    let other = desk.agent("other", &["--credential", "KEY=acme/other", "--on-revoke", "end"]);
    assert!(Path::new(&file).exists());
    let revoked = desk.credential(&["revoke", OPENAI, "--reason", "leaked", "--authority-key", "authority.key"]);
    assert_exit(&revoked, 0);
    let seen = ended.seen.clone();
    let ended = ended.ended();
    assert_exit(&ended, 3);
    assert!(ended.stderr.contains("acme/openai version 1") && ended.stderr.contains("record-revoked"), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(seen).unwrap(), "start sk-first-0123456789\nterm\n");
    until(|| !Path::new(&file).exists(), || format!("the file is there still\n{}", left.server.log()));
    assert_eq!(left.seen(), format!("start {file}\n"), "the program goes on");
    assert_eq!(other.seen(), "start sk-other-0123456789\n", "another credential is another matter");
    // Who starts now gets none, and what one that was killed has left is no longer there.
    fs::write(&file, "left").unwrap();
    assert_exit(&desk.run(&["--credential", "KEY=acme/openai", "--as", &format!("file:{file}")], &["true"]), 3);
    assert!(!Path::new(&file).exists());
    for agent in [left, other] {
        assert_exit(&agent.server.stop().unwrap(), 0);
    }
}

#[test]
fn a_program_that_does_not_end_is_killed_and_one_whose_keeper_is_killed_does_not_go_on() {
    let desk = Desk::new();
    desk.put(OPENAI, b"sk-first-0123456789", &[]);
    let seen = desk.memory("pid");
    let script = format!("trap '' TERM; echo $$ $PPID > {seen}; echo serving >&2; while :; do sleep 0.05; done");
    let how = ["--credential", "KEY=acme/openai", "--on-revoke", "end", "--check-every", "1s", "--grace", "1s"];
    let start = || {
        let words = desk.exec(&how, &["sh", "-c", &script]);
        let server = desk.world.installation.programs().serve(Part::Guest, words, |line| (line == "serving").then(String::new)).unwrap();
        let pids = fs::read_to_string(&seen).unwrap();
        let (pid, parent) = pids.trim().split_once(' ').unwrap();
        (server, pid.to_owned(), parent.to_owned())
    };
    let runs = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    let (server, pid, parent) = start();
    assert!(runs(&pid));
    let shown = |pid: &str, what: &str| fs::read(format!("/proc/{pid}/{what}")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(shown(&pid, "environ").unwrap().contains("KEY=sk-first-0123456789"), "the program's own");
    match shown(&parent, "environ") {
        Ok(environment) => assert!(environment.contains("TERMINATION_LOG=") && !environment.contains("sk-first"), "{environment}"),
        Err(error) => println!("skipped: the keeper's environment is closed to this user ({error})"),
    }
    assert!(!shown(&parent, "cmdline").unwrap_or_default().contains("sk-first") && !shown(&pid, "cmdline").unwrap().contains("sk-first"));
    drop(server);
    until(|| !runs(&pid), || "it goes on without its keeper".to_owned());

    let (server, pid, _) = start();
    desk.credential(&["revoke", OPENAI, "--reason", "leaked", "--authority-key", "authority.key"]);
    until(|| !runs(&pid), || format!("it goes on\n{}", server.log()));
    assert_exit(&server.stop().unwrap(), 3);
}

#[test]
fn what_a_program_started_ends_with_it() {
    let desk = Desk::new();
    desk.put(OPENAI, b"sk-first-0123456789", &[]);
    let seen = desk.memory("pid");
    // A session of its own, deaf to TERM, and left alone by the program, which is not.
    let left = format!("trap '' TERM; echo $$ > {seen}; echo serving >&2; while :; do sleep 0.05; done");
    let runs = |pid: &str| fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "));
    let start = |script: &str| {
        let how = ["--credential", "KEY=acme/openai", "--on-revoke", "end", "--check-every", "1s", "--grace", "1s"];
        let words = desk.exec(&how, &["sh", "-c", script, &left]);
        let server = desk.world.installation.programs().serve(Part::Guest, words, |line| (line == "serving").then(String::new)).unwrap();
        (server, fs::read_to_string(&seen).unwrap())
    };
    // The program ends by itself: its exit code is exec's, and nothing goes on with the credential.
    let (server, pid) = start(&format!("setsid sh -c \"$0\" & while ! test -s {seen}; do sleep 0.05; done; exit 7"));
    until(|| !runs(&pid), || format!("it goes on\n{}", server.log()));
    assert_exit(&server.stop().unwrap(), 7);
    fs::remove_file(&seen).unwrap();

    let (server, pid) = start("setsid sh -c \"$0\" & wait");
    assert!(runs(&pid));
    desk.credential(&["revoke", OPENAI, "--reason", "leaked", "--authority-key", "authority.key"]);
    until(|| !runs(&pid), || format!("it goes on\n{}", server.log()));
    assert_exit(&server.stop().unwrap(), 3);
}

#[test]
fn a_credential_is_used_until_its_own_end_and_no_longer() {
    let desk = Desk::new();
    let put = desk.put(OPENAI, b"sk-short-0123456789", &["--expires", "40s"]);
    assert!(put["expires"].is_string());
    let agent = desk.agent("agent", &["--credential", "KEY=acme/openai", "--on-revoke", "end"]);
    assert_eq!(agent.seen(), "start sk-short-0123456789\n");
    let ended = agent.ended();
    assert_exit(&ended, 3);
    assert!(ended.stderr.contains("credential-expired"), "{}", ended.stderr);
    let late = desk.run(&["--credential", "KEY=acme/openai"], &["true"]);
    assert_exit(&late, 3);
    assert!(late.stderr.contains("credential-expired"), "{}", late.stderr);
    let out = desk.world.to("late");
    let released =
        arguments!["release", "--config", "guest.toml", "--evidence", format!("agent:{GENUINE}"), "--credential", OPENAI, "--out", &out];
    assert_exit(&desk.world.installation.guest(released).unwrap(), 3);
    assert!(!out.exists());
    // Its successor is used.
    desk.put(OPENAI, b"sk-next-0123456789", &["--expires", "1h"]);
    assert_exit(&desk.run(&["--credential", "KEY=acme/openai"], &["sh", "-c", "test \"$KEY\" = sk-next-0123456789"]), 0);
    let past =
        ["put", OPENAI, "--from", "guest.toml", "--expires", "2020-01-01T00:00:00Z", "--policy", POLICY, "--authority", "authority.pub"];
    let past = desk.credential(&[&past[..], &["--publisher-key", "publisher.key"]].concat());
    assert_exit(&past, 2);
    assert!(past.stderr.contains("has passed"), "{}", past.stderr);
}

#[test]
fn a_lease_is_renewed_while_the_broker_answers_and_ends_when_it_does_not() {
    let mut desk = Desk::new();
    desk.put(OPENAI, b"sk-first-0123456789", &[]);
    let digest = desk.world.installation.config_digest("guest.toml").unwrap();
    let text = policy::accepting(Tee::Snp, &[&digest]).replace("\"1 hour\"", "\"1 minute\"");
    desk.world.installation.put_policy_text(10, &text).unwrap();
    let agent = desk.agent("agent", &["--credential", "KEY=acme/openai", "--on-revoke", "end"]);
    let began = Instant::now();
    // Past its first lease, by renewals.
    while began.elapsed() < Duration::from_secs(70) {
        assert!(!agent.server.log().contains("the program was ended"), "{}", agent.server.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    desk.world.installation.stop().unwrap();
    let ended = agent.ended();
    assert_exit(&ended, 3);
    assert!(ended.stderr.contains("lease-expired"), "{}", ended.stderr);
}

/// A sidecar that holds credentials.
struct Sidecar {
    server: Server,
    probes: String,
    socket: PathBuf,
}

impl Sidecar {
    fn start(world: &World, lines: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (models, socket) = (world.to("models"), world.installation.path("sidecar.sock"));
        let (models, path) = (models.display(), socket.display());
        let head = format!(
            "models = \"{models}\"\nsocket = \"{path}\"\nsocket-mode = \"666\"\nprobes = \"127.0.0.1:{port}\"\ncheck-every-seconds = 3600\n"
        );
        world.installation.write("sidecar.toml", format!("{head}{lines}").as_bytes()).unwrap();
        let how =
            arguments!["sidecar", "--config", "guest.toml", "--evidence", format!("agent:{GENUINE}"), "--pod", "sidecar.toml", "--json"];
        let ready = |line: &str| line.contains("serving probes").then(String::new);
        let server = world.installation.programs().serve(Part::Guest, how, ready).unwrap();
        Self { server, probes: format!("http://127.0.0.1:{port}"), socket }
    }

    /// What curl gets, as this user: the status, and head and body.
    fn curl(&self, user: Option<u32>, path: &str, more: &[&str]) -> (u16, String) {
        let mut words: Vec<String> = Vec::new();
        if let Some(user) = user {
            words.extend(["setpriv", "--clear-groups", "--reuid", &user.to_string(), "--regid", &user.to_string()].map(str::to_owned));
        }
        words.extend(["curl", "-sS", "-D", "-", "-w", "\n%{http_code}", "--unix-socket"].map(str::to_owned));
        words.push(self.socket.display().to_string());
        words.push(format!("http://sidecar{path}"));
        words.extend(more.iter().map(|word| (*word).to_owned()));
        let output = Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        (status.parse().unwrap(), body.to_owned())
    }

    fn probe(&self, path: &str) -> String {
        let output = Command::new("curl").args(["-sS", &format!("{}{path}", self.probes)]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        until(|| holds(self), || format!("not {what}: {}\n{}", self.curl(None, "/v1/credentials", &[]).1, self.server.log()));
    }

    fn renew(&self) {
        assert_eq!(self.curl(None, "/v1/renew", &["-X", "POST"]).0, 202);
    }
}

#[test]
fn a_sidecar_holds_credentials_as_files_and_gives_them_to_the_users_that_are_named() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: no curl");
        return;
    }
    let desk = Desk::new();
    let secrets = ["sk-first-0123456789", "sk-second-0123456789", "sk-of-a-set-0123456789"];
    desk.put(OPENAI, secrets[0].as_bytes(), &[]);
    desk.put("acme/db", format!("PASSWORD={}\nUSER_ID=agent\n", secrets[2]).as_bytes(), &["--env-file", "-"]);
    let (file, changes) = (desk.world.to("openai"), desk.world.installation.path("changes"));
    let hook = format!(
        "on-change = [\"sh\", \"-c\", \"echo $PORTCULLIS_CHANGE $PORTCULLIS_CREDENTIAL $PORTCULLIS_VERSION >> {}\"]\n",
        changes.display()
    );
    // A proxy's own version of a credential is not what the local API gives out.
    let lines = format!(
        "{hook}[[credential]]\nname = \"{OPENAI}\"\nfile = \"{}\"\nmode = \"640\"\nusers = [{OTHER}]\n[[credential]]\nname = \"acme/db\"\n\
         [[proxy]]\nlisten = \"{}\"\nupstream = \"https://127.0.0.1:1\"\ncredential = \"{OPENAI}\"\nversion = 1\nallow = [\"GET /v1/models\"]\n",
        file.display(),
        desk.world.installation.path("proxy.sock").display()
    );
    let sidecar = Sidecar::start(&desk.world, &lines);
    sidecar.until("ready", |sidecar| sidecar.probe("/readyz").contains("\"ready\":true"));
    assert_eq!(sidecar.probe("/startupz"), "started\n");
    assert_eq!(fs::read(&file).unwrap(), secrets[0].as_bytes());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    let path = format!("/v1/credentials/{OPENAI}");
    let (status, answer) = sidecar.curl(None, &path, &[]);
    assert_eq!(status, 200);
    assert!(
        answer.ends_with(secrets[0]) && answer.contains("cache-control: no-store") && answer.contains("portcullis-version: 1"),
        "{answer}"
    );
    let (status, answer) = sidecar.curl(None, "/v1/credentials/acme/db", &[]);
    assert!(status == 200 && answer.ends_with(&format!("PASSWORD=\"{}\"\nUSER_ID=\"agent\"\n", secrets[2])), "{answer}");
    assert!(sidecar.curl(None, "/v1/credentials/acme/db?variable=USER_ID", &[]).1.ends_with("\nagent"));
    assert_eq!(sidecar.curl(None, "/v1/credentials/acme/db?variable=NONE", &[]).0, 404);
    for (path, status) in [("/v1/credentials/acme/none", 404), ("/v1/credentials/../models", 404), ("/v1/credentials/%2e%2e/x", 404)] {
        assert_eq!(sidecar.curl(None, path, &["--path-as-is"]).0, status, "{path}");
    }
    let (_, listed) = sidecar.curl(None, "/v1/credentials", &[]);
    assert!(listed.contains("\"state\":\"held\"") && listed.contains("PASSWORD"), "{listed}");
    assert!(secrets.iter().all(|secret| !listed.contains(secret)));

    // Whoever connects is known by the kernel's word.
    if rustix::process::geteuid().is_root() {
        desk.world.open_to_all();
        assert!(sidecar.curl(Some(OTHER), &path, &[]).1.ends_with(secrets[0]));
        for (user, path) in
            [(OTHER, "/v1/credentials/acme/db"), (OTHER, "/v1/models"), (OTHER + 1, path.as_str()), (OTHER + 1, "/v1/credentials")]
        {
            let (status, answer) = sidecar.curl(Some(user), path, &[]);
            assert!(status == 403 && answer.contains("other-user"), "{user} {path}: {answer}");
        }
    } else {
        println!("skipped: only root can be somebody else");
    }

    // Rotated, revoked, and permitted again.
    desk.put(OPENAI, secrets[1].as_bytes(), &[]);
    sidecar.renew();
    sidecar.until("rotated", |sidecar| sidecar.curl(None, &path, &[]).1.ends_with(secrets[1]));
    assert_eq!(fs::read(&file).unwrap(), secrets[1].as_bytes());
    assert!(sidecar.probe("/metrics").contains(&format!("portcullis_sidecar_credential_version{{credential=\"{OPENAI}\"}} 2")));
    assert_exit(&desk.credential(&["revoke", OPENAI, "--reason", "leaked", "--authority-key", "authority.key"]), 0);
    sidecar.renew();
    sidecar.until("revoked", |sidecar| sidecar.curl(None, &path, &[]).0 == 503);
    sidecar.until("without its file", |_| !file.exists());
    assert!(sidecar.curl(None, &path, &[]).1.contains("record-revoked"));
    let ready = sidecar.probe("/readyz");
    assert!(ready.contains("\"ready\":false") && ready.contains("record-revoked") && !ready.contains("acme/db"), "{ready}");
    assert_eq!(sidecar.probe("/startupz"), "started\n");
    let expected = ["current acme/db 1", "current acme/openai 1", "current acme/openai 2", "expired acme/openai 2"];
    let told = || fs::read_to_string(&changes).unwrap_or_default();
    sidecar.until("told", |_| expected.iter().all(|line| told().contains(line)));

    let ended = sidecar.server.stop().unwrap();
    assert_exit(&ended, 0);
    desk.assert_nowhere(&secrets, &[&ended.stdout, &ended.stderr]);
}

#[test]
fn a_sidecar_removes_the_files_of_its_credentials_when_it_ends() {
    let desk = Desk::new();
    desk.put(OPENAI, b"sk-first-0123456789", &[]);
    let file = desk.world.to("openai");
    let lines = format!("[[credential]]\nname = \"{OPENAI}\"\nfile = \"{}\"\n", file.display());
    let sidecar = Sidecar::start(&desk.world, &lines);
    until(|| file.exists(), || sidecar.server.log());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_exit(&sidecar.server.stop().unwrap(), 0);
    assert!(!file.exists());

    // What one that was killed has left does not outlive what became of the credential meanwhile.
    assert_exit(&desk.credential(&["revoke", OPENAI, "--reason", "leaked", "--authority-key", "authority.key"]), 0);
    fs::write(&file, "left").unwrap();
    let sidecar = Sidecar::start(&desk.world, &lines);
    until(|| !file.exists(), || sidecar.server.log());
    assert_exit(&sidecar.server.stop().unwrap(), 0);
    assert!(!file.exists());
}

#[test]
fn a_program_gets_its_model_and_its_credential_in_one() {
    let desk = Desk::new();
    if !can_mount() {
        return;
    }
    desk.put(OPENAI, b"sk-first-0123456789", &[]);
    desk.world.publish(MODEL, 1, "sealed", 1);
    let (at, seen) = (desk.world.to("mounted"), desk.memory("seen"));
    fs::create_dir(&at).unwrap();
    let mount = format!("{MODEL}={}", at.display());
    let how = ["--credential", "KEY=acme/openai", "--on-revoke", "end", "--mount", &mount, "--sealed", "sealed"];
    let script = format!("test \"$KEY\" = sk-first-0123456789 && cat {}/config.json > {seen}; exit $?", at.display());
    assert_exit(&desk.run(&how, &["sh", "-c", &script]), 0);
    assert_eq!(fs::read(seen).unwrap(), fs::read(desk.world.installation.path("sealed.plain/config.json")).unwrap());
    assert_eq!(fs::read_dir(&at).unwrap().count(), 0, "the mount was the program's own");
    // What is revoked ends the program, and the mount with it.
    let began = desk.memory("began");
    let script = format!("test -e {}/config.json || exit 9; echo > {began}; while :; do sleep 0.05; done", at.display());
    let how = [how.as_slice(), &["--check-every", "1s", "--grace", "1s"]].concat();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| desk.run(&how, &["sh", "-c", &script]));
        until(|| Path::new(&began).exists() || running.is_finished(), || "it never begins".to_owned());
        desk.credential(&["revoke", OPENAI, "--reason", "leaked", "--authority-key", "authority.key"]);
        let ended = running.join().unwrap();
        assert_exit(&ended, 3);
        assert!(ended.stderr.contains("record-revoked"), "{}", ended.stderr);
    });
    assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
}
