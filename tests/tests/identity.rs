//! Who a workload is, in real processes and for clients that know nothing of Portcullis: the `spiffe` crate and its rustls integration, Python's
//! `spiffe`, `boto3` and `google-auth`. An agent starts, is identified, is renewed, outlives an outage, and is denied.

mod world;

use std::fs;
use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_tests::arguments;
use portcullis_tests::machine::{Machine, SoftMachine};
use portcullis_tests::policy::Draft;
use portcullis_tests::programs::{Ended, Part, Server};
use portcullis_tests::python::Python;
use protocol::ids::Role;
use serde_json::Value;
use spiffe::{WorkloadApiClient, WorkloadApiError, X509Source};
use spiffe_rustls::{authorizer, mtls_client, mtls_server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use world::{World, assert_exit, plaintext};

/// How long anything may take: generous, because machines are busy.
const PATIENCE: Duration = Duration::from_secs(90);
const DOMAIN: &str = "acme.example";
const ISSUER: &str = "https://id.acme.example";
const TOOLS: &str = "tools.acme.example";
const AWS: &str = "sts.amazonaws.com";
const GOOGLE: &str = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/agents/providers/acme";

/// An installation whose broker gives identities.
struct Agents {
    world: World,
}

/// A workload with a sidecar of its own.
struct Workload {
    name: &'static str,
    sidecar: Option<Server>,
    probes: String,
    api: PathBuf,
    socket: PathBuf,
    tokens: PathBuf,
    _agent: Server,
}

impl Drop for Workload {
    fn drop(&mut self) {
        drop(self.sidecar.take().map(Server::stop));
    }
}

impl Agents {
    fn new() -> Self {
        let mut world = World::new();
        let address = world.installation.url().trim_start_matches("http://").to_owned();
        world.installation.stop().unwrap();
        let config = world.installation.read("broker/broker.toml").unwrap();
        world.installation.write("broker/broker.toml", config.replace("127.0.0.1:0", &address).as_bytes()).unwrap();
        world.installation.configure_identities(DOMAIN, Some(ISSUER), "agents/*").unwrap();
        world.installation.start().unwrap();
        Self { world }
    }

    /// The policy that says who `workload` is.
    fn put_policy(&self, workload: &str, version: u32, change: impl FnOnce(&mut Draft)) {
        let digest = self.world.installation.config_digest("guest.toml").unwrap();
        let mut draft = Draft::accepting(&machine(workload), &[&digest]);
        change(&mut draft);
        let text = format!(
            "{}\n[identity]\nspiffe-id = \"spiffe://{DOMAIN}/agents/{{workload}}\"\naudiences = [\"{TOOLS}\"]\n\
             federation-audiences = [\"{AWS}\", \"{GOOGLE}\"]\nresult-audiences = [\"verifier.acme.example\"]\n",
            draft.text()
        );
        self.world.installation.write("identity.toml", text.as_bytes()).unwrap();
        let (name, version) = (policy_of(workload), version.to_string());
        let put = arguments!["policy", "put", "identity.toml", "--name", name, "--version", version, "--authority-key", "authority.key"];
        self.world.installation.command(put).unwrap().expect(0).unwrap();
    }

    fn agent(&self, workload: &str) -> (String, Server) {
        let socket = format!("{workload}.sock");
        let agent = machine(workload).start_agent(self.world.installation.programs(), &socket).unwrap();
        (socket, agent)
    }

    /// Starts `workload` with a sidecar that serves its socket, with these lines more.
    fn start(&self, workload: &'static str, lines: &str) -> Workload {
        let (agent_socket, agent) = self.agent(workload);
        let path = |name: &str| self.world.installation.path(&format!("{workload}-{name}"));
        let (api, socket, port) = (path("api.sock"), path("workload.sock"), free_port());
        let tokens = self.world.to(&format!("{workload}-tokens"));
        fs::create_dir_all(&tokens).unwrap();
        let user = rustix::process::geteuid().as_raw();
        let text = format!(
            "socket = \"{}\"\nprobes = \"127.0.0.1:{port}\"\ncheck-every-seconds = 3600\n\
             [[identity]]\npolicy = \"{}\"\nsocket = \"{}\"\nusers = [{user}]\n{}",
            api.display(),
            policy_of(workload),
            socket.display(),
            lines.replace("TOKENS", &tokens.display().to_string()),
        );
        let pod = format!("{workload}.toml");
        self.world.installation.write(&pod, text.as_bytes()).unwrap();
        let how = arguments!["sidecar", "--config", "guest.toml", "--evidence", format!("agent:{agent_socket}"), "--pod", pod, "--json"];
        let serving = |line: &str| line.contains("serving the Workload API").then(String::new);
        let sidecar = Some(self.world.installation.programs().serve(Part::Guest, how, serving).unwrap());
        Workload { name: workload, sidecar, probes: format!("127.0.0.1:{port}"), api, socket, tokens, _agent: agent }
    }

    /// `portcullis-guest identity`, as `workload`.
    fn identity(&self, workload: &str, arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Ended {
        let (socket, _agent) = self.agent(workload);
        let how = arguments!["identity", "--config", "guest.toml", "--evidence", format!("agent:{socket}"), "--retry-for", "0"];
        self.world.installation.guest(how.into_iter().chain(arguments)).unwrap()
    }
}

fn machine(workload: &str) -> Machine {
    Machine::default().with(|machine| machine.role = Role::Workload(workload.parse().unwrap()))
}

fn policy_of(workload: &str) -> String {
    format!("agents/{workload}")
}

fn id_of(workload: &str) -> String {
    format!("spiffe://{DOMAIN}/agents/{workload}")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One request over a stream that is then closed: status and body.
fn http(mut stream: impl Read + Write, method: &str, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: sidecar\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

impl Workload {
    fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    fn probe(&self, path: &str) -> (u16, String) {
        http(TcpStream::connect(&self.probes).unwrap(), "GET", path, "")
    }

    fn renew(&self) {
        assert_eq!(http(UnixStream::connect(&self.api).unwrap(), "POST", "/v1/renew", "").0, 202);
    }

    /// What the local API tells of its one identity.
    fn shown(&self) -> Value {
        let (_, body) = http(UnixStream::connect(&self.api).unwrap(), "GET", "/v1/identities", "");
        serde_json::from_str::<Value>(&body).unwrap()[0].take()
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds(self) {
            let log = self.sidecar.as_ref().map(Server::log).unwrap_or_default();
            assert!(Instant::now() < until, "{}: not {what}\n{log}", self.name);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn ready(self) -> Self {
        self.until("ready", |workload| workload.probe("/readyz").0 == 200);
        self
    }

    fn token(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.tokens.join(name)).ok()
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("within patience") })
}

/// One token file.
fn token_file(audience: &str, name: &str) -> String {
    format!("[[identity.token]]\naudience = \"{audience}\"\npath = \"TOKENS/{name}\"\n")
}

#[test]
fn an_agent_is_identified_renewed_outlives_an_outage_and_is_denied() {
    let mut agents = Agents::new();
    agents.put_policy("research", 1, |_| {});
    let agent = agents.start("research", &token_file(AWS, "aws")).ready();
    assert_eq!(agent.shown()["spiffe_id"], id_of("research"));
    run(async {
        let source = X509Source::builder().endpoint(agent.endpoint()).build().await.unwrap();
        let svid = source.svid().unwrap();
        assert_eq!(svid.spiffe_id().to_string(), id_of("research"));
        let client = WorkloadApiClient::connect_to(agent.endpoint()).await.unwrap();
        let token = client.fetch_jwt_svid(&[TOOLS], None).await.unwrap();
        let bundles = client.fetch_jwt_bundles().await.unwrap();
        let verified = spiffe::JwtSvid::parse_and_validate(token.token(), &bundles, &[TOOLS]).unwrap();
        assert_eq!(verified.spiffe_id().to_string(), id_of("research"));
        assert_eq!(client.validate_jwt_token(TOOLS, token.token()).await.unwrap().spiffe_id().to_string(), id_of("research"));
        let refused = client.fetch_jwt_svid(&["elsewhere.example"], None).await.unwrap_err();
        assert!(matches!(refused, WorkloadApiError::PermissionDenied(_)), "{refused:?}");

        // A renewal is another certificate under another key, and reaches whoever watches.
        let mut updates = source.updated();
        agent.renew();
        updates.changed().await.unwrap();
        assert_ne!(source.svid().unwrap().leaf().as_bytes(), svid.leaf().as_bytes());

        // A broker that does not answer changes nothing, and what is kept is still given.
        let serial = agent.shown()["serial"].clone();
        agents.world.installation.stop().unwrap();
        agent.renew();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(agent.shown()["serial"], serial);
        assert_eq!(client.fetch_jwt_svid(&[TOOLS], None).await.unwrap().token(), token.token());
        assert!(agent.token("aws").is_some());
        agents.world.installation.start().unwrap();

        // The measurement is no longer accepted: certificate, tokens and files go.
        agents.put_policy("research", 2, |draft| draft.measurement = [9; 48]);
        agent.renew();
        agent.until("denied", |agent| agent.shown()["state"] == "denied");
        while source.svid().is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let denied = client.fetch_x509_svid().await.unwrap_err();
        assert!(matches!(denied, WorkloadApiError::PermissionDenied(_)), "{denied:?}");
        assert!(client.fetch_jwt_svid(&[TOOLS], None).await.is_err());
        assert!(agent.token("aws").is_none());
        let (status, body) = agent.probe("/readyz");
        assert_eq!(status, 503);
        assert!(body.contains("snp-measurement"), "{body}");
    });
}

#[test]
fn a_revoked_name_is_an_identity_no_longer() {
    let agents = Agents::new();
    agents.put_policy("research", 1, |_| {});
    let agent = agents.start("research", "").ready();
    agents.world.installation.revoke("agents/research", "the agent was taken over").unwrap();
    agent.renew();
    agent.until("denied", |agent| agent.shown()["state"] == "denied");
    assert_eq!(agent.shown()["denial"]["code"], "identity-revoked");
    let metric = format!("portcullis_sidecar_identity_held{{identity=\"{}\"}} 0", policy_of("research"));
    assert!(agent.probe("/metrics").1.contains(&metric));
}

#[test]
fn the_end_takes_an_identity_back_whatever_its_keeper_waits_for() {
    let mut agents = Agents::new();
    // An exchange that hangs does so for longer than an end may take.
    let timeout = format!("timeout-seconds = 300\n{}", plaintext(&agents.world.room));
    agents.world.installation.write_guest("guest.toml", &timeout).unwrap();
    agents.put_policy("research", 1, |_| {});
    let mut agent = agents.start("research", &token_file(AWS, "aws")).ready();
    agent.until("holding its token", |agent| agent.token("aws").is_some());

    // A broker that takes questions and answers none.
    let address = agents.world.installation.url().trim_start_matches("http://").to_owned();
    agents.world.installation.stop().unwrap();
    let silent = TcpListener::bind(address).unwrap();
    silent.set_nonblocking(true).unwrap();
    agent.renew();
    let asking = std::cell::OnceCell::new();
    agent.until("asking", |_| silent.accept().is_ok_and(|asked| asking.set(asked).is_ok()));
    let sidecar = agent.sidecar.take().unwrap();
    assert_exit(&sidecar.stop().unwrap(), 0);
    assert_eq!(agent.token("aws"), None);
    assert!(UnixStream::connect(&agent.socket).is_err() && asking.get().is_some());
}

#[test]
fn a_sidecar_without_a_folder_of_models_is_ready_and_says_what_adding_one_takes() {
    let agents = Agents::new();
    agents.put_policy("research", 1, |_| {});
    let agent = agents.start("research", "").ready();
    assert_eq!(agent.probe("/startupz").0, 200);
    let call = |method: &str, path: &str, body: &str| http(UnixStream::connect(&agent.api).unwrap(), method, path, body);
    let (status, answer) = call("PUT", "/v1/models", "{\"name\":\"acme/a\",\"sealed\":\"/s\"}");
    let problem: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, &problem["code"]), (409, &"no-models-folder".into()), "{answer}");
    assert!(problem["hint"].as_str().unwrap().contains("models = "), "{answer}");
    assert_eq!(call("DELETE", "/v1/models/acme/a", "").0, 404);
    assert_eq!(call("GET", "/v1/models", ""), (200, "[]".to_owned()));
    agent.renew();
    assert_eq!(agent.probe("/readyz").0, 200);
}

#[test]
fn pythons_spiffe_package_is_served_and_sees_the_rotation() {
    let python = match Python::with(&["spiffe"]) {
        Ok(python) => python,
        Err(skipped) => return println!("{skipped}"),
    };
    let agents = Agents::new();
    agents.put_policy("research", 1, |_| {});
    let agent = agents.start("research", "").ready();
    let running = {
        let socket = agent.socket.display().to_string();
        std::thread::spawn(move || python.run("workload.py", [socket.as_str(), TOOLS, "rotation"]))
    };
    // It watches at some time; whenever that is, a renewal follows.
    while !running.is_finished() {
        std::thread::sleep(Duration::from_secs(2));
        agent.renew();
    }
    let found: Value = serde_json::from_str(&running.join().unwrap().unwrap()).unwrap();
    for field in ["id", "token", "parsed", "validated"] {
        assert_eq!(found[field], id_of("research"), "{found}");
    }
    assert_eq!((&found["authorities"], &found["rotated"]), (&1.into(), &true.into()), "{found}");
}

#[test]
fn the_clouds_own_libraries_log_in_by_token_files() {
    let python = match Python::with(&["boto3", "google.auth", "requests", "jwt"]) {
        Ok(python) => python,
        Err(skipped) => return println!("{skipped}"),
    };
    let agents = Agents::new();
    agents.put_policy("research", 1, |_| {});
    let agent = agents.start("research", &(token_file(AWS, "aws") + &token_file(GOOGLE, "google"))).ready();
    agent.until("holding tokens", |agent| agent.token("aws").is_some() && agent.token("google").is_some());
    let mode = fs::metadata(agent.tokens.join("aws")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    agents.world.installation.command(arguments!["identity", "export", "--out", "published"]).unwrap().expect(0).unwrap();
    let path = |name: &str| agent.tokens.join(name).display().to_string();
    let published = agents.world.installation.path("published").display().to_string();
    let folder = agents.world.installation.path("").display().to_string();
    let id = id_of("research");
    let said = python.run("clouds.py", [&published, ISSUER, &id, &path("aws"), &path("google"), GOOGLE, &folder]).unwrap();
    let found: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(found["aws"], "arn:aws:sts::1:assumed-role/research/agent", "{found}");
    assert_eq!(found["google"], "ya29.agent", "{found}");
    for field in ["swapped", "forged", "subject"] {
        assert_eq!(found[field], true, "{field}: {found}");
    }
    let seen = found["seen"].to_string();
    assert!(seen.contains(&format!("aws login of {id}")) && seen.contains(&format!("google login of {id}")), "{found}");
}

/// A process of this test that does the work of the ignored test `name`, and knows nothing but these variables.
fn process(name: &str, variables: &[(&str, &str)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", name, "--nocapture"]).env_clear().envs(variables.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap()
}

/// What both say once the other is who it must be.
const GREETING: &[u8] = b"you are who you say\n";

#[test]
#[ignore = "a process of its own: two_processes_authenticate_each_other starts it"]
fn tool_server() {
    run(async {
        let source = X509Source::new().await.unwrap();
        let config = mtls_server(source).authorize(authorizer::exact([variable("CLIENT")]).unwrap()).build().unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("port {}", listener.local_addr().unwrap().port());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            match acceptor.accept(stream).await {
                Ok(mut stream) => drop((stream.write_all(GREETING).await, stream.shutdown().await)),
                Err(error) => println!("refused {error}"),
            }
        }
    });
}

#[test]
#[ignore = "a process of its own: two_processes_authenticate_each_other starts it"]
fn tool_client() {
    run(async {
        let source = X509Source::new().await.unwrap();
        let config = mtls_client(source).authorize(authorizer::exact([variable("SERVER")]).unwrap()).build().unwrap();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let stream = tokio::net::TcpStream::connect(variable("ADDRESS")).await.unwrap();
        let mut stream = connector.connect("tools".try_into().unwrap(), stream).await.unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, GREETING);
    });
}

/// The server's process, ended when this goes.
struct Tools {
    child: Child,
    address: String,
    /// What it says is not read, but must have somewhere to go.
    _said: BufReader<ChildStdout>,
}

impl Drop for Tools {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tools {
    fn start(workload: &Workload, client: &str) -> Self {
        let mut child = process("tool_server", &[("SPIFFE_ENDPOINT_SOCKET", &workload.endpoint()), ("CLIENT", client)]);
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let port = said.by_ref().lines().map_while(Result::ok).find_map(|line| line.split("port ").nth(1).map(str::to_owned));
        Self { child, address: format!("127.0.0.1:{}", port.expect("a port")), _said: said }
    }

    /// Whether a process with `workload`'s identity gets through to this server, which must be `server`.
    fn lets_in(&self, workload: &Workload, server: &str) -> bool {
        let socket = workload.endpoint();
        let child = process("tool_client", &[("SPIFFE_ENDPOINT_SOCKET", &socket), ("ADDRESS", &self.address), ("SERVER", server)]);
        child.wait_with_output().unwrap().status.success()
    }
}

#[test]
fn two_processes_authenticate_each_other_with_nothing_but_the_api() {
    let agents = Agents::new();
    agents.put_policy("research", 1, |_| {});
    agents.put_policy("tools", 1, |_| {});
    let (research, tools) = (agents.start("research", "").ready(), agents.start("tools", "").ready());
    let server = Tools::start(&tools, &id_of("research"));
    assert!(server.lets_in(&research, &id_of("tools")));
    assert!(!server.lets_in(&research, &id_of("other")), "the client demands another server");
    assert!(!server.lets_in(&tools, &id_of("tools")), "the server demands another client");
    // Both go on over a renewal of both.
    research.renew();
    tools.renew();
    assert!(server.lets_in(&research, &id_of("tools")));
}

#[test]
fn the_command_writes_a_certificate_or_a_token_once() {
    let agents = Agents::new();
    agents.put_policy("research", 1, |_| {});
    let out = agents.world.to("identity");
    let done = agents.identity("research", arguments!["--policy", "agents/research", "--out", &out, "--json"]);
    assert_exit(&done, 0);
    assert_eq!(done.json().unwrap()["items"][0]["result"], "identified");
    for name in ["svid.pem", "key.pem", "bundle.pem", "bundle.json"] {
        assert_eq!(fs::metadata(out.join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    openssl_agrees(&out);
    // A token to a file; another workload's evidence, another audience and another policy get none.
    let file = agents.world.to("token");
    let token = |workload: &str, policy: &str, audience: &str| {
        agents.identity(workload, arguments!["--policy", policy, "--audience", audience, "--token-file", &file, "--json"])
    };
    assert_exit(&token("research", "agents/research", TOOLS), 0);
    assert_eq!(fs::read_to_string(&file).unwrap().matches('.').count(), 2);
    for (workload, policy, audience, code) in [
        ("stranger", "agents/research", TOOLS, "role"),
        ("research", "agents/research", "elsewhere.example", "identity-audience"),
        ("research", "agents/nobody", TOOLS, "identity-unknown"),
    ] {
        let denied = token(workload, policy, audience);
        assert_exit(&denied, 3);
        assert_eq!(world::text(&denied, "/code"), code, "{}", denied.stdout);
    }
    let result = arguments!["--policy", "agents/research", "--result-audience", "verifier.acme.example", "--token-file", &file];
    assert_exit(&agents.identity("research", result), 0);
    let exported = agents.world.installation.command(arguments!["identity", "export", "--out", "published"]).unwrap();
    assert_exit(&exported, 0);
    let keys = agents.world.installation.path("published/identity/results/jwks");
    let verify = |audience: &str| {
        let how = arguments!["token", "verify", &file, "--keys", &keys, "--audience", audience, "--expect", "result", "--anchors", "test"];
        agents.world.installation.command(how).unwrap()
    };
    // Whether it affirms every part is the policy's doing; that it holds is ours.
    let verified = verify("verifier.acme.example");
    assert!([0, 3].contains(&verified.code), "{}{}", verified.stdout, verified.stderr);
    assert_exit(&verify("elsewhere.example"), 1);
}

/// OpenSSL, where there is one, verifies the certificate by the bundle, and finds the key to be its own.
fn openssl_agrees(folder: &Path) {
    let openssl = |arguments: &[&str]| Command::new("openssl").args(arguments).current_dir(folder).output();
    let Ok(verified) = openssl(&["verify", "-CAfile", "bundle.pem", "svid.pem"]) else { return println!("skipped: no openssl here") };
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let certified = openssl(&["x509", "-in", "svid.pem", "-noout", "-pubkey"]).unwrap().stdout;
    let own = openssl(&["pkey", "-in", "key.pem", "-pubout"]).unwrap().stdout;
    assert_eq!(certified, own);
}
