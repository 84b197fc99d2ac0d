//! The HTTP interface on a real socket.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use broker::config::{Config, ConfigError, Limits, Tls};
use broker::serve::sum_up_rejections;
use broker::server::{Broker, listen, router};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use protocol::admin::{Accepted, Ending, Explanation, RecordSummary};
use protocol::dsse::SignedDocument;
use protocol::entries::{Entry, Event};
use protocol::limits;
use protocol::log::tiles::{TileKind, decode_bundle};
use protocol::log::{MemoryTree, TilePath, VerifiedCheckpoint, leaf_hash, tree};
use protocol::messages::{ChallengeAnswer, EvidenceMessage, InstallationAnswer, ItemOutcome, Problem, ReleaseAnswer, ReleaseRequest};
use protocol::time::UnixTime;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::house::*;

/// A broker that listens, until it is stopped.
pub struct Served {
    pub house: House,
    pub broker: Arc<Broker>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    ended: tokio::task::JoinHandle<()>,
}

pub async fn serve_house(house: House, tls: Option<&Tls>) -> Served {
    let broker = house.open().await;
    serve_broker(house, broker, tls).await
}

pub async fn serve_broker(house: House, broker: Arc<Broker>, tls: Option<&Tls>) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let tls = tls.map(|tls| listen::acceptor(tls).unwrap());
    let ended = tokio::spawn(listen::serve(listener, tls, router(Arc::clone(&broker)), house.limits.connections, stopped));
    Served { house, broker, address, stop, ended }
}

async fn served() -> Served {
    serve_house(House::with_llama().await, None).await
}

pub type Answer = Response<Bytes>;

async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, request: Request<Full<Bytes>>) -> Answer {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

fn request(method: &str, path: &str, token: Option<&str>, body: Vec<u8>) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header(header::HOST, "broker");
    let request = match token {
        Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
        None => request,
    };
    request.body(Full::new(body.into())).unwrap()
}

impl Served {
    pub async fn call(&self, method: &str, path: &str, body: Vec<u8>) -> Answer {
        over(TcpStream::connect(self.address).await.unwrap(), request(method, path, None, body)).await
    }

    pub async fn admin(&self, method: &str, path: &str, body: Vec<u8>) -> Answer {
        let token = broker::custody::read_token(&self.house.data()).unwrap();
        over(TcpStream::connect(self.address).await.unwrap(), request(method, path, Some(&token), body)).await
    }

    pub async fn challenge(&self) -> Vec<u8> {
        let answer = self.call("POST", "/v1/challenge", vec![]).await;
        assert_eq!(answer.status(), StatusCode::OK);
        serde_json::from_slice::<ChallengeAnswer>(answer.body()).unwrap().challenge
    }

    pub async fn release(&self, guest: &Guest, body: &ReleaseRequest) -> Answer {
        self.call("POST", "/v1/release", SignedDocument::sign(body, &guest.signing).unwrap().to_json()).await
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        self.ended.await.unwrap();
    }
}

#[track_caller]
pub fn problem(answer: &Answer, status: u16, code: &str) -> Problem {
    assert_eq!(answer.status().as_u16(), status, "{:?}", answer.body());
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
    let problem: Problem = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!((problem.status, problem.code.as_str()), (status, code));
    assert_eq!(problem.type_uri, format!("urn:portcullis:problem:{code}"));
    assert!(!problem.title.is_empty());
    problem
}

/// Every log line of this process, at the most talkative level.
pub fn logs() -> Arc<Mutex<Vec<u8>>> {
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    static LOGS: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    let lines = LOGS.get_or_init(|| {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&lines);
        let filter = tracing_subscriber::EnvFilter::new("info,portcullis_broker=trace,broker=trace,sqlx=debug");
        let make = move || Lines(Arc::clone(&writer));
        tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(make).init();
        lines
    });
    Arc::clone(lines)
}

#[tokio::test]
async fn a_guest_gets_its_secret_and_nobody_else_sees_it() {
    let logs = logs();
    let served = served().await;
    let guest = Guest::default();
    let body = guest.request(&served.challenge().await);
    let answer = served.release(&guest, &body).await;
    assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.body());
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    let release: ReleaseAnswer = serde_json::from_slice(answer.body()).unwrap();
    let digest = SignedDocument::sign(&body, &guest.signing).unwrap().digest();
    let outcome = guest.open(&release, &digest, broker::clock::now());
    assert!(matches!(outcome.items.as_slice(), [ItemOutcome::Granted { secret, .. }] if secret.expose() == SECRET));
    problem(&served.release(&guest, &body).await, 403, "challenge-replayed");

    let explained = served.admin("GET", &format!("/v1/decisions/{}", outcome.decision), vec![]).await;
    let explanation: Explanation = serde_json::from_slice(explained.body()).unwrap();
    assert!(matches!(&explanation.ending, Ending::Decided { items, .. } if !items[0].checks.is_empty()));

    let metrics = served.call("GET", "/metrics", vec![]).await;
    let text = String::from_utf8(metrics.body().to_vec()).unwrap();
    assert!(text.contains("portcullis_decisions_total{outcome=\"granted\",reason=\"\"} 1"), "{text}");
    let lines = logs.lock().unwrap().clone();
    assert!(contains(&lines, outcome.decision.to_string().as_bytes()), "one event a decision");
    let seeds = [house_seed(&served.house, "sealing"), house_seed(&served.house, "identity"), house_seed(&served.house, "log")];
    for secret in [SECRET, &seeds[0], &seeds[1], &seeds[2]] {
        for form in [secret.to_vec(), protocol::encoding::to_base64(secret).trim_end_matches('=').as_bytes().to_vec(), hex(secret)] {
            for (place, bytes) in [
                ("logs", lines.as_slice()),
                ("the store", &served.house.store_bytes()),
                ("the answer", answer.body()),
                ("the explanation", explained.body()),
                ("metrics", metrics.body()),
            ] {
                assert!(!contains(bytes, &form), "{place}");
            }
        }
    }
    served.stop().await;
}

fn house_seed(house: &House, kind: &str) -> Vec<u8> {
    let file = std::fs::read(house.data().join(format!("keys/{kind}.key"))).unwrap();
    let file = protocol::keyfile::KeyFile::parse(&file).unwrap();
    file.open(kind, &protocol::keyfile::Unlock::Nothing).unwrap().to_vec()
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

#[tokio::test]
async fn rejections_have_a_number_are_counted_and_are_one_entry_together() {
    let served = served().await;
    let guest = Guest::default();
    let entries = served.broker.ledger.published().edge.size();
    for _ in 0..20 {
        problem(&served.call("POST", "/v1/release", b"{}".to_vec()).await, 400, "request-form");
    }
    let unknown = served.release(&guest, &guest.request_with(&served.challenge().await, EvidenceMessage::Held {})).await;
    let told = problem(&unknown, 409, "attest-again");
    assert!(told.detail.is_none(), "whoever proves nothing learns a code, a hint and a number");
    let path = format!("/v1/decisions/{}", told.decision.unwrap());
    let explanation: Explanation = serde_json::from_slice(served.admin("GET", &path, vec![]).await.body()).unwrap();
    assert!(matches!(explanation.ending, Ending::Rejected { code, .. } if code == "attest-again"));
    assert_eq!(served.broker.ledger.published().edge.size(), entries);
    sum_up_rejections(&served.broker).await;
    sum_up_rejections(&served.broker).await;
    assert_eq!(served.broker.ledger.published().edge.size(), entries + 1);
    let bytes = served.broker.store.entries(entries..entries + 1).await.unwrap();
    let Event::Rejections { counts } = Entry::parse(&bytes[0]).unwrap().event else { panic!("rejections") };
    let counts: Vec<_> = counts.iter().map(|count| (count.code.as_str(), count.count)).collect();
    assert_eq!(counts, [("attest-again", 1), ("request-form", 20)]);
}

#[tokio::test]
async fn nothing_that_a_caller_sends_becomes_a_metric_label_or_stays_in_memory_at_length() {
    let served = served().await;
    let series = async || {
        let text = String::from_utf8(served.call("GET", "/metrics", vec![]).await.body().to_vec()).unwrap();
        text.lines().filter(|line| line.starts_with("portcullis_decisions_total")).count()
    };
    let junk = |number: usize| format!("{{\"{}{number}\":1}}", "x".repeat(100_000)).into_bytes();
    let first = served.call("POST", "/v1/release", junk(0)).await;
    let (decision, before) = (problem(&first, 400, "request-form").decision.unwrap(), series().await);
    for number in 1..10 {
        served.call("POST", &format!("/v1/junk{number}"), vec![]).await;
        served.call("POST", "/v1/release", junk(number)).await;
        let guest = Guest::asking(&[&format!("acme/unknown{number}")]);
        assert_eq!(served.release(&guest, &guest.request(&served.challenge().await)).await.status(), StatusCode::OK);
    }
    assert_eq!(series().await, before + 1, "record-known joined");
    let explained = served.admin("GET", &format!("/v1/decisions/{decision}"), vec![]).await;
    assert!(explained.body().len() < 2000);
}

#[tokio::test]
async fn a_guest_that_may_have_nothing_is_not_held() {
    let served = served().await;
    for (record, status) in [("acme/unknown", StatusCode::CONFLICT), ("acme/llama", StatusCode::OK)] {
        let guest = Guest::asking(&[record]);
        assert_eq!(served.release(&guest, &guest.request(&served.challenge().await)).await.status(), StatusCode::OK);
        let renewal = served.release(&guest, &guest.request_with(&served.challenge().await, EvidenceMessage::Held {})).await;
        assert_eq!(renewal.status(), status, "{record}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_as_a_problem() {
    let served = served().await;
    problem(&served.call("POST", "/v1/release", vec![b' '; limits::REQUEST_BODY + 1]).await, 413, "body-too-large");
    problem(&served.call("POST", "/v1/release", vec![b' '; limits::REQUEST_BODY]).await, 400, "request-form");
    problem(&served.admin("PUT", "/v1/records", vec![b' '; 2 * limits::DOCUMENT + 1]).await, 413, "body-too-large");
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems() {
    let served = served().await;
    problem(&served.call("GET", "/", vec![]).await, 404, "no-such-route");
    problem(&served.call("GET", "/v1/release", vec![]).await, 405, "method-not-allowed");
    problem(&served.call("GET", "/log/tile/0/../../x", vec![]).await, 404, "tile-unknown");
    assert_eq!(served.call("GET", "/healthz", vec![]).await.body(), "ok\n");
    assert_eq!(served.call("GET", "/readyz", vec![]).await.body(), "ready\n");
}

#[tokio::test]
async fn administration_needs_the_token() {
    let served = served().await;
    let routes = [
        ("GET", "/v1/records"),
        ("PUT", "/v1/policies"),
        ("GET", "/v1/revocations"),
        ("GET", "/v1/tcb-baselines/x"),
        ("GET", "/v1/decisions/x"),
    ];
    for (method, path) in routes {
        let answer = served.call(method, path, vec![]).await;
        problem(&answer, 401, "admin-token");
        assert_eq!(answer.headers()[header::WWW_AUTHENTICATE], "Bearer");
        let stream = TcpStream::connect(served.address).await.unwrap();
        problem(&over(stream, request(method, path, Some("AAAA"), vec![])).await, 401, "admin-token");
    }
    assert_eq!(served.admin("GET", "/v1/records", vec![]).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn documents_are_put_listed_and_refused_by_name() {
    let served = served().await;
    let house = &served.house;
    let put = async |kind: &str, body: Vec<u8>| served.admin("PUT", &format!("/v1/{kind}"), body).await;
    let record = |name, version| serde_json::to_vec(&house.record_file(name, version)).unwrap();
    let answer = put("records", record("acme/new", 1)).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let accepted: Accepted = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(accepted.documents, *served.broker.ledger.published().documents.digest());
    problem(&put("records", record("acme/new", 1)).await, 409, "version-not-higher");
    problem(&put("records", record("evil/new", 1)).await, 403, "name-not-covered");
    problem(&put("records", b"{}".to_vec()).await, 400, "record-form");
    let mut elsewhere = house.record_file("acme/elsewhere", 1);
    elsewhere.envelope.recipients[0].sealed.ciphertext[0] ^= 1;
    problem(&put("records", serde_json::to_vec(&elsewhere).unwrap()).await, 422, "envelope-does-not-open");
    let stranger = policy_document(&publisher(), "acme/strict", 2, &policy()).to_json();
    problem(&put("policies", stranger).await, 403, "document-refused");
    let same = policy_document(&authority(), "acme/strict", 1, &policy()).to_json();
    problem(&put("policies", same).await, 409, "already-in-force");
    problem(&put("policies", policy_document(&authority(), "acme/strict", 2, "format = 2").to_json()).await, 422, "policy-form");
    let baselines = [(UnixTime::from_seconds(0), 88)];
    assert_eq!(put("tcb-baselines", calendar_document(&authority(), "acme/amd", 1, &baselines).to_json()).await.status(), 201);
    let same = calendar_document(&authority(), "acme/amd", 1, &baselines).to_json();
    problem(&put("tcb-baselines", same).await, 409, "already-in-force");
    let calendar = served.admin("GET", "/v1/tcb-baselines/acme/amd", vec![]).await;
    let calendar: SignedDocument = serde_json::from_slice(calendar.body()).unwrap();
    assert_eq!(calendar.signatures[0].keyid, authority().public().id());
    problem(&served.admin("GET", "/v1/tcb-baselines/acme/none", vec![]).await, 404, "calendar-unknown");
    assert_eq!(put("revocations", revocation_document(&authority(), 1, &[("acme/new", None)]).to_json()).await.status(), 201);

    let listed: Vec<RecordSummary> = serde_json::from_slice(served.admin("GET", "/v1/records", vec![]).await.body()).unwrap();
    let revoked: Vec<_> = listed.iter().map(|record| (record.name.as_str(), record.revoked.as_deref(), record.policy_present)).collect();
    assert_eq!(revoked, [("acme/llama", None, true), ("acme/new", Some("leaked"), true)]);
    let policy: SignedDocument = serde_json::from_slice(served.admin("GET", "/v1/policies/acme/strict", vec![]).await.body()).unwrap();
    assert_eq!(policy.signatures[0].keyid, authority().public().id());
    problem(&served.admin("GET", "/v1/policies/acme/none", vec![]).await, 404, "policy-unknown");
    problem(&served.admin("GET", "/v1/decisions/00", vec![]).await, 404, "decision-unknown");
}

#[tokio::test]
async fn an_outsider_rebuilds_the_log_from_its_tiles() {
    let served = served().await;
    while served.broker.ledger.published().edge.size() < 300 {
        served.broker.ledger.note(Event::Started { version: "test".into() }).await.unwrap();
    }
    let note = served.call("GET", "/log/checkpoint", vec![]).await;
    let (origin, key) = (served.house.identity().origin, log_key(&served.house));
    let checkpoint = VerifiedCheckpoint::verify(std::str::from_utf8(note.body()).unwrap(), &origin, &[key]).unwrap();
    let mut rebuilt = MemoryTree::with_capacity(300);
    for index in 0..2 {
        let path = TilePath::at(TileKind::Entries, index, checkpoint.size()).unwrap();
        let bundle = served.call("GET", &format!("/log/{path}"), vec![]).await;
        assert_eq!(bundle.status(), StatusCode::OK, "{path}");
        let mut hashes = Vec::new();
        for entry in decode_bundle(bundle.body(), path.width()).unwrap() {
            assert_eq!(Entry::parse(entry).unwrap().installation, *root().public());
            rebuilt.push(leaf_hash(entry));
            hashes.extend_from_slice(leaf_hash(entry).as_bytes());
        }
        let path = TilePath::at(TileKind::Hashes { level: 0 }, index, checkpoint.size()).unwrap();
        assert_eq!(served.call("GET", &format!("/log/{path}"), vec![]).await.body().as_ref(), hashes);
    }
    assert_eq!(tree::root(&rebuilt, checkpoint.size()).unwrap(), *checkpoint.root());
    problem(&served.call("GET", "/log/tile/entries/002", vec![]).await, 404, "tile-unknown");
    problem(&served.call("GET", "/log/tile/entries/001.p/200", vec![]).await, 404, "tile-unknown");

    behind_its_back(&served.house.store_path(), "DELETE FROM entries WHERE idx = 7").await;
    problem(&served.call("GET", "/log/tile/entries/000", vec![]).await, 503, "store-failed");
}

pub fn retry_after(headers: &HeaderMap) -> u64 {
    headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let mut house = House::with_llama().await;
    house.limits = Limits { requests_per_second: 1, burst: 3, ..Limits::default() };
    let served = serve_house(house, None).await;
    for _ in 0..3 {
        served.challenge().await;
    }
    let answer = served.call("POST", "/v1/challenge", vec![]).await;
    problem(&answer, 429, "rate-limit");
    assert_eq!(retry_after(answer.headers()), 1);
    assert_eq!(served.call("GET", "/healthz", vec![]).await.status(), StatusCode::OK, "probes are never refused");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    served.challenge().await;
}

#[tokio::test]
async fn a_busy_broker_says_so_and_cuts_off_who_is_too_slow() {
    let mut house = House::with_llama().await;
    house.limits = Limits { concurrent: 1, request_seconds: 1, ..Limits::default() };
    let served = serve_house(house, None).await;
    let mut slow = TcpStream::connect(served.address).await.unwrap();
    slow.write_all(b"POST /v1/release HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{").await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let answer = served.call("POST", "/v1/challenge", vec![]).await;
    problem(&answer, 503, "busy");
    assert!(retry_after(answer.headers()) >= 1);
    let mut head = [0; 12];
    slow.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 408");
    served.challenge().await;
}

#[tokio::test]
async fn a_store_that_was_moved_is_not_ready_and_an_outage_says_when_to_come_back() {
    let served = served().await;
    let other = served.house.open().await;
    other.ledger.note(Event::Started { version: "test".into() }).await.unwrap();
    let guest = Guest::default();
    let answer = served.release(&guest, &guest.request(&served.challenge().await)).await;
    problem(&answer, 503, "not-recorded");
    assert!(retry_after(answer.headers()) >= 1);
    let answer = served.call("GET", "/readyz", vec![]).await;
    problem(&answer, 503, "store-does-not-match-its-log");
    assert!(retry_after(answer.headers()) >= 1);
}

#[tokio::test]
async fn stopping_finishes_the_request_that_is_under_way() {
    let served = served().await;
    let guest = Guest::default();
    let body = SignedDocument::sign(&guest.request(&served.challenge().await), &guest.signing).unwrap().to_json();
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let head = format!("POST /v1/release HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body[..100]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    served.stop.send(true).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(TcpStream::connect(served.address).await.is_err(), "nobody new is let in");
    assert!(!served.ended.is_finished());
    stream.write_all(&body[100..]).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    served.ended.await.unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let mut house = House::with_llama().await;
    house.limits = Limits { connections: 1, ..Limits::default() };
    let served = serve_house(house, None).await;
    let idle = TcpStream::connect(served.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let waiting = tokio::time::timeout(Duration::from_millis(300), served.call("GET", "/healthz", vec![])).await;
    assert!(waiting.is_err());
    drop(idle);
    assert_eq!(served.call("GET", "/healthz", vec![]).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn who_says_nothing_or_only_half_of_it_is_cut_off() {
    let served = served().await;
    let started = std::time::Instant::now();
    let cut_off = async |said: &[u8]| {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(said).await.unwrap();
        drop(stream.read_to_end(&mut Vec::new()).await);
    };
    let all = async { tokio::join!(cut_off(b""), cut_off(b"PRI * HTTP/2.0"), cut_off(b"GET / HTTP/1.1\r\nhost: x\r\n")) };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("they are cut off");
    assert!(started.elapsed() >= Duration::from_secs(9), "slow is not cut off at once");
}

#[tokio::test]
async fn guests_and_publishers_come_over_tls() {
    let house = House::with_llama().await;
    let issued = rcgen::generate_simple_self_signed(vec!["broker.test".to_owned()]).unwrap();
    let tls = Tls { certificates: house.data().join("tls.pem"), key: house.data().join("tls.key") };
    std::fs::write(&tls.certificates, issued.cert.pem()).unwrap();
    std::fs::write(&tls.key, issued.signing_key.serialize_pem()).unwrap();
    let served = serve_house(house, Some(&tls)).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
    let connect = async |name: &'static str| {
        let stream = TcpStream::connect(served.address).await.unwrap();
        connector.connect(ServerName::try_from(name).unwrap(), stream).await
    };
    let answer = over(connect("broker.test").await.unwrap(), request("GET", "/v1/installation", None, vec![])).await;
    let installation: InstallationAnswer = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!((installation.root, installation.certificates.len()), (*root().public(), 3));
    assert!(connect("elsewhere.test").await.is_err());
    assert!(listen::acceptor(&Tls { key: tls.certificates.clone(), ..tls }).is_err());
    served.stop().await;
}

#[test]
fn plain_http_beyond_loopback_is_refused_by_the_configuration() {
    let config = |listen: &str| Config::parse(&format!("root = \"{}\"\ndata = \"d\"\n[listen]\n{listen}\n", root().public())).map(drop);
    assert!(matches!(config("address = \"0.0.0.0:8443\""), Err(ConfigError::Rule { .. })));
    assert!(matches!(config("address = \"[::]:8443\""), Err(ConfigError::Rule { .. })));
    assert_eq!(config("address = \"[::1]:8443\""), Ok(()));
}
