//! The credential proxy in real processes: an agent asks with `curl` and holds nothing; the key is released, rotated and revoked under it.

mod world;

#[path = "../../guest-client/tests/proxy/upstream.rs"]
#[allow(dead_code, reason = "made for more tests than these")]
mod upstream;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use portcullis_tests::arguments;
use portcullis_tests::installation::POLICY;
use portcullis_tests::programs::{Part, Server};
use protocol::encoding::to_base64;
use upstream::Upstream;
use world::{GENUINE, World, assert_exit};

/// How long anything may take: generous, because machines are busy.
const PATIENCE: Duration = Duration::from_secs(90);
/// The credential.
const NAME: &str = "acme/openai";
const FIRST: &str = "sk-first-0123456789abcdef";
const SECOND: &str = "sk-second-0123456789abcdef";

fn no_curl() -> bool {
    let missing = Command::new("curl").arg("--version").output().is_err();
    if missing {
        println!("skipped: no curl");
    }
    missing
}

struct Desk {
    world: World,
    upstream: Upstream,
    socket: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let world = World::new();
        let socket = world.installation.path("agent.sock");
        Self { world, upstream: Upstream::start(), socket }
    }

    fn put(&self, secret: &str) {
        let what = arguments!["credential", "put", NAME, "--from", "-", "--policy", POLICY, "--authority", "authority.pub"];
        let words = what.into_iter().chain(arguments!["--publisher-key", "publisher.key"]);
        assert_exit(&self.world.installation.programs().run_with(Part::Command, words, secret.as_bytes()).unwrap(), 0);
    }

    fn revoke(&self) {
        let words = arguments!["credential", "revoke", NAME, "--reason", "leaked", "--authority-key", "authority.key"];
        assert_exit(&self.world.installation.command(words).unwrap(), 0);
    }

    fn table(&self) -> String {
        format!(
            "[[proxy]]\nlisten = {:?}\nupstream = \"{}\"\nca-file = {:?}\ncredential = \"{NAME}\"\nallow = [\"GET /v1/*\", \"POST /v1/chat\"]\n",
            self.socket,
            self.upstream.url(),
            self.upstream.ca()
        )
    }

    fn serve(&self, how: impl IntoIterator<Item = OsString>, ready: fn(&str) -> Option<String>) -> Server {
        let words = how.into_iter().chain(arguments!["--config", "guest.toml", "--evidence", format!("agent:{GENUINE}"), "--json"]);
        self.world.installation.programs().serve(Part::Guest, words, ready).unwrap()
    }

    /// An agent's request by an unmodified client: status and body.
    fn ask(&self, how: &[&str], target: &str) -> (String, String) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "30", "--write-out", "\n%{http_code}", "--unix-socket"]).arg(&self.socket);
        let ended = curl.args(how).arg(format!("http://localhost{target}")).output().expect("curl runs");
        let text = String::from_utf8(ended.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        assert!(!body.contains(FIRST) && !body.contains(SECOND), "{body}");
        (status.to_owned(), body.to_owned())
    }

    fn until(&self, server: &Server, what: &str, holds: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < until, "not yet: {what}\n{}", server.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn bore(&self) -> Option<String> {
        self.upstream.heard().last().map(|heard| heard.values("authorization").concat())
    }
}

#[test]
fn an_agent_uses_a_key_that_it_never_holds_through_release_rotation_and_revocation() {
    let desk = Desk::new();
    desk.put(FIRST);
    desk.world.installation.write("proxies.toml", desk.table().as_bytes()).unwrap();
    let server = desk.serve(arguments!["proxy", "--proxies", "proxies.toml", "--check-every", "1s"], |line| {
        line.contains("serving a proxy").then(String::new)
    });
    desk.until(&server, "released", || desk.ask(&[], "/v1/models").0 == "200");
    assert_eq!(desk.bore(), Some(format!("Bearer {FIRST}")));

    let posted = desk.ask(&["--header", "Authorization: Bearer mine", "--json", "{\"a\":1}"], "/v1/chat");
    assert_eq!(posted, ("200".to_owned(), "7 bytes".to_owned()));
    assert_eq!(desk.bore(), Some(format!("Bearer {FIRST}")));
    let before = desk.upstream.begun();
    let (status, body) = desk.ask(&["--path-as-is"], "/v1/../admin");
    assert!(status == "400" && body.contains("target-dot-segment"), "{status} {body}");
    let (status, body) = desk.ask(&["--request", "DELETE"], "/v1/models");
    assert!(status == "403" && body.contains("not-allowed"), "{status} {body}");
    assert_eq!(desk.upstream.begun(), before);

    desk.put(SECOND);
    desk.until(&server, "rotated", || desk.ask(&[], "/v1/models").0 == "200" && desk.bore() == Some(format!("Bearer {SECOND}")));
    desk.revoke();
    desk.until(&server, "revoked", || desk.ask(&[], "/v1/models").0 == "503");
    assert!(desk.ask(&[], "/v1/models").1.contains("credential-absent"));

    let ended = server.stop().unwrap();
    assert_exit(&ended, 0);
    assert!(ended.stderr.contains("the credential was used"), "{}", ended.stderr);
    for secret in [FIRST, SECOND] {
        for form in [secret.to_owned(), to_base64(secret.as_bytes())] {
            assert!(
                !ended.stderr.contains(&form) && !ended.stdout.contains(&form) && !desk.world.installation.broker_log().contains(&form)
            );
        }
    }
}

#[test]
fn a_sidecars_proxy_is_in_its_probes_and_metrics() {
    if no_curl() {
        return;
    }
    let desk = Desk::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let probes = listener.local_addr().unwrap().to_string();
    drop(listener);
    let head = format!("models = \"{}\"\nprobes = \"{probes}\"\ncheck-every-seconds = 1\n", desk.world.to("models").display());
    desk.world.installation.write("sidecar.toml", format!("{head}{}", desk.table()).as_bytes()).unwrap();
    let server = desk.serve(arguments!["sidecar", "--pod", "sidecar.toml"], |line| line.contains("serving probes").then(String::new));
    let probe = |path: &str| {
        let ended =
            Command::new("curl").args(["--silent", "--max-time", "30", &format!("http://{probes}{path}")]).output().expect("curl runs");
        String::from_utf8(ended.stdout).unwrap()
    };
    desk.until(&server, "the proxy answers", || desk.ask(&[], "/v1/models").0 == "503");
    assert!(probe("/readyz").contains(&format!("\"credential\":\"{NAME}\"")), "{}", probe("/readyz"));
    desk.put(FIRST);
    desk.until(&server, "released", || desk.ask(&[], "/v1/models").0 == "200");
    desk.until(&server, "ready", || probe("/readyz").contains("\"ready\":true"));
    let label = format!("proxy=\"{}\"", desk.socket.display());
    let metrics = probe("/metrics");
    for line in [
        format!("portcullis_sidecar_proxy_answers_total{{{label},class=\"2xx\"}} 1"),
        format!("portcullis_sidecar_proxy_refusals_total{{{label},reason=\"credential-absent\"}}"),
    ] {
        assert!(metrics.contains(&line), "{line}:\n{metrics}");
    }
    assert_exit(&server.stop().unwrap(), 0);
}
