//! The Workload API: the Rust `spiffe` crate as it is published, against a socket whose identity a test writes; and callers who are not
//! the workload, or whose requests are not the workload's own.

mod support;

use std::future::Future;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use guest_client::agent::bind;
use guest_client::clock;
use guest_client::identity::view::{Denied, Identity, NoToken, Order, Standing, Token, Tokens, View, X509};
use guest_client::identity::workload_api::generated::{
    JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest, ValidateJwtsvidResponse, X509svidRequest, X509svidResponse,
};
use guest_client::identity::workload_api::peer::Callers;
use guest_client::identity::workload_api::serve::serve;
use protocol::spiffe::SpiffeId;
use protocol::tokens::EcKey;
use rustix::process::geteuid;
use spiffe::{TrustDomain, WorkloadApiClient, WorkloadApiError, X509Source};
use support::issuer::Authority;
use support::now;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

const HOUR: Duration = Duration::from_secs(3600);
/// How long anything may take: generous, because machines are busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A socket, and everything that a keeper would write.
struct Served {
    authority: Authority,
    other: Authority,
    id: SpiffeId,
    standing: watch::Sender<Standing>,
    tokens: Arc<Tokens>,
    path: PathBuf,
    /// Orders that were given, in words.
    orders: Arc<Mutex<Vec<String>>>,
    _folder: TempDir,
}

impl Served {
    fn new(callers: Callers) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("workload.sock");
        let (standing, seen) = watch::channel(Standing::Unknown);
        let tokens = Arc::new(Tokens::default());
        let (orders, queue) = std::sync::mpsc::sync_channel(8);
        let view = View::new("agents/research".parse().unwrap(), seen, Arc::clone(&tokens), orders);
        let (authority, other) = (Authority::new("acme.example"), Authority::new("partner.example"));
        let id: SpiffeId = "spiffe://acme.example/agents/research".parse().unwrap();
        serve(bind(&path, 0o666).unwrap(), callers, view).unwrap();
        let given = Arc::new(Mutex::new(Vec::new()));
        let served = Self { authority, other, id, standing, tokens, path, orders: Arc::clone(&given), _folder: folder };
        let issuing = (Authority::new("acme.example"), served.id.clone());
        std::thread::spawn(move || keep(&issuing.0, &issuing.1, &queue, &given));
        served
    }

    fn for_us() -> Self {
        let served = Self::new(Callers { users: vec![geteuid().as_raw()], cgroup: None });
        served.identify();
        served
    }

    /// A new certificate under a new key.
    fn identify(&self) {
        let key = EcKey::generate().unwrap();
        let svid = self.authority.certify(key.spki().as_der(), &self.id, HOUR);
        let (renew, not_after) = (clock::moment().boot + HOUR / 2, svid.not_after);
        let x509 = X509 { certificates: svid.certificates, key: key.to_pkcs8().unwrap(), serial: svid.serial, renew, not_after };
        let bundles = Arc::new(self.authority.bundles(&self.id, &[&self.other]));
        let identity = Identity { id: self.id.clone(), expires: now().plus(HOUR), x509: Arc::new(x509), bundles };
        self.standing.send_replace(Standing::Identified(Arc::new(identity)));
    }

    fn keep_token(&self, audience: &str) -> String {
        let svid = self.authority.token(&self.id, audience, HOUR);
        let renew = clock::moment().boot + HOUR / 2;
        let token = Token { audience: svid.audience, token: svid.token, jti: svid.jti, renew, expires: svid.expires };
        let text = token.text();
        self.tokens.keep(Arc::new(token));
        text
    }

    fn endpoint(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    async fn client(&self) -> WorkloadApiClient {
        WorkloadApiClient::connect_to(self.endpoint()).await.unwrap()
    }

    /// A connection that puts nothing into a request by itself.
    async fn raw(&self) -> Grpc<Channel> {
        let path = self.path.clone();
        let connect = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
        });
        Grpc::new(Endpoint::from_static("http://workload").connect_with_connector(connect).await.unwrap())
    }
}

/// In place of a keeper: it issues for `refused` nothing, and for everybody else a token.
fn keep(authority: &Authority, id: &SpiffeId, queue: &Receiver<Order>, given: &Mutex<Vec<String>>) {
    while let Ok(order) = queue.recv() {
        let Order::Token(audience, reply) = order else { continue };
        given.lock().unwrap().push(audience.clone());
        let answer = match audience.as_str() {
            "refused" => Err(NoToken::Audience(Arc::new(denied("identity-audience")))),
            "outage" => Err(NoToken::Outage),
            audience => {
                let svid = authority.token(id, audience, HOUR);
                let renew = clock::moment().boot + HOUR / 2;
                Ok(Arc::new(Token { audience: svid.audience, token: svid.token, jti: svid.jti, renew, expires: svid.expires }))
            }
        };
        let _ = reply.send(answer);
    }
}

fn denied(code: &str) -> Denied {
    Denied { code: code.into(), found: String::new(), hint: String::new(), decision: None }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("within patience") })
}

fn headed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

async fn fetch_token(grpc: &mut Grpc<Channel>, request: Request<JwtsvidRequest>) -> Result<JwtsvidResponse, Status> {
    grpc.ready().await.unwrap();
    let path = "/SpiffeWorkloadAPI/FetchJWTSVID".parse().unwrap();
    grpc.unary(request, path, ProstCodec::default()).await.map(tonic::Response::into_inner)
}

async fn validate(grpc: &mut Grpc<Channel>, audience: &str, svid: &str) -> Result<ValidateJwtsvidResponse, Status> {
    grpc.ready().await.unwrap();
    let request = headed(ValidateJwtsvidRequest { audience: audience.into(), svid: svid.into() });
    let path = "/SpiffeWorkloadAPI/ValidateJWTSVID".parse().unwrap();
    grpc.unary(request, path, ProstCodec::default()).await.map(tonic::Response::into_inner)
}

async fn fetch_certificates(grpc: &mut Grpc<Channel>, request: Request<X509svidRequest>) -> Result<X509svidResponse, Status> {
    grpc.ready().await.unwrap();
    let path = "/SpiffeWorkloadAPI/FetchX509SVID".parse().unwrap();
    let mut stream = grpc.server_streaming(request, path, ProstCodec::default()).await?.into_inner();
    stream.message().await.map(|message| message.expect("a message"))
}

fn token_for(audience: &str) -> JwtsvidRequest {
    JwtsvidRequest { audience: vec![audience.into()], spiffe_id: String::new() }
}

#[test]
fn the_spiffe_crate_gets_certificate_key_and_bundles() {
    run(async {
        let served = Served::for_us();
        let client = served.client().await;
        let svid = client.fetch_x509_svid().await.unwrap();
        assert_eq!(svid.spiffe_id().to_string(), served.id.uri());
        let context = client.fetch_x509_context().await.unwrap();
        for (domain, authority) in [("acme.example", &served.authority), ("partner.example", &served.other)] {
            let bundle = context.bundle_set().get(&TrustDomain::new(domain).unwrap()).unwrap();
            let found: Vec<&[u8]> = bundle.authorities().iter().map(|certificate| certificate.as_bytes()).collect();
            assert_eq!(found, authority.bundle().x509_authorities().iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
        assert_eq!(client.fetch_x509_bundles().await.unwrap().len(), 2);
    });
}

#[test]
fn the_spiffe_crate_gets_tokens_and_verifies_them_by_the_bundles() {
    run(async {
        let served = Served::for_us();
        served.keep_token("tools.acme.example");
        let client = served.client().await;
        let svid = client.fetch_jwt_svid(&["tools.acme.example"], None).await.unwrap();
        assert_eq!((svid.spiffe_id().to_string(), svid.audience()), (served.id.uri(), ["tools.acme.example".to_owned()].as_slice()));
        let bundles = client.fetch_jwt_bundles().await.unwrap();
        let verified = spiffe::JwtSvid::parse_and_validate(svid.token(), &bundles, &["tools.acme.example"]).unwrap();
        assert_eq!(verified.spiffe_id().to_string(), served.id.uri());
        assert!(spiffe::JwtSvid::parse_and_validate(svid.token(), &bundles, &["others.acme.example"]).is_err());
        let claims = client.validate_jwt_token("tools.acme.example", svid.token()).await.unwrap();
        assert_eq!(claims.spiffe_id().to_string(), served.id.uri());
        assert!(served.orders.lock().unwrap().is_empty(), "what is kept is not asked for");
        assert_eq!(client.fetch_jwt_svid(&["others.acme.example"], None).await.unwrap().audience(), ["others.acme.example".to_owned()]);
        assert_eq!(*served.orders.lock().unwrap(), ["others.acme.example"]);
    });
}

#[test]
fn rotation_reaches_whoever_watches_and_a_denial_takes_the_identity_away() {
    run(async {
        let served = Served::for_us();
        let source = X509Source::builder().endpoint(served.endpoint()).build().await.unwrap();
        let first = source.svid().unwrap().leaf().as_bytes().to_vec();
        let mut updates = source.updated();
        served.identify();
        updates.changed().await.unwrap();
        let second = source.svid().unwrap().leaf().as_bytes().to_vec();
        assert_ne!(first, second);
        served.standing.send_replace(Standing::Denied(Arc::new(denied("snp-measurement"))));
        updates.changed().await.unwrap();
        assert!(source.svid().is_err(), "it is withdrawn");
        served.identify();
        updates.changed().await.unwrap();
        assert_ne!(source.svid().unwrap().leaf().as_bytes(), second);
    });
}

#[test]
fn a_stream_says_a_thing_once() {
    run(async {
        let served = Served::for_us();
        let client = served.client().await;
        let mut bundles = client.stream_jwt_bundles().await.unwrap();
        bundles.next().await.unwrap().unwrap();
        // The bundles are the same: nothing is said.
        served.identify();
        assert!(tokio::time::timeout(Duration::from_millis(300), bundles.next()).await.is_err());
        served.standing.send_replace(Standing::Unknown);
        let error = bundles.next().await.unwrap().unwrap_err();
        assert_eq!(code(&error), Some(Code::Unavailable), "{error}");
    });
}

fn code(error: &WorkloadApiError) -> Option<Code> {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    if matches!(error, WorkloadApiError::PermissionDenied(_)) {
        return Some(Code::PermissionDenied);
    }
    while let Some(found) = source {
        if let Some(status) = found.downcast_ref::<Status>() {
            return Some(status.code());
        }
        if found.to_string().contains("unavailable") {
            return Some(Code::Unavailable);
        }
        source = found.source();
    }
    None
}

#[test]
fn a_request_without_the_header_is_refused_and_so_is_one_with_another_value() {
    run(async {
        let served = Served::for_us();
        served.keep_token("a");
        let mut grpc = served.raw().await;
        assert!(fetch_token(&mut grpc, headed(token_for("a"))).await.is_ok(), "the near miss");
        let bare = fetch_token(&mut grpc, Request::new(token_for("a"))).await.unwrap_err();
        assert_eq!(bare.code(), Code::InvalidArgument);
        for value in ["True", "1", "false", ""] {
            let mut request = Request::new(token_for("a"));
            request.metadata_mut().insert("workload.spiffe.io", value.parse().unwrap());
            assert_eq!(fetch_token(&mut grpc, request).await.unwrap_err().code(), Code::InvalidArgument, "{value}");
        }
        let stream = fetch_certificates(&mut grpc, Request::new(X509svidRequest {})).await.unwrap_err();
        assert_eq!(stream.code(), Code::InvalidArgument);
        assert!(fetch_certificates(&mut grpc, headed(X509svidRequest {})).await.is_ok());
    });
}

#[test]
fn another_user_gets_nothing() {
    run(async {
        let served = Served::new(Callers { users: vec![geteuid().as_raw() + 1], cgroup: None });
        served.identify();
        served.keep_token("a");
        let mut grpc = served.raw().await;
        let token = served.keep_token("a");
        for code in [
            fetch_token(&mut grpc, headed(token_for("a"))).await.unwrap_err().code(),
            fetch_certificates(&mut grpc, headed(X509svidRequest {})).await.unwrap_err().code(),
            validate(&mut grpc, "a", &token).await.unwrap_err().code(),
        ] {
            assert_eq!(code, Code::PermissionDenied);
        }
        let error = served.client().await.fetch_x509_svid().await.unwrap_err();
        assert!(matches!(error, WorkloadApiError::PermissionDenied(_)), "{error:?}");
    });
}

#[test]
fn another_cgroup_gets_nothing() {
    run(async {
        let cgroup = Some("/nobody/is/here".to_owned().try_into().unwrap());
        let served = Served::new(Callers { users: vec![geteuid().as_raw()], cgroup });
        served.identify();
        let error = fetch_certificates(&mut served.raw().await, headed(X509svidRequest {})).await.unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied);
    });
}

#[test]
fn strangers_leave_room_for_the_workload() {
    run(async {
        let stranger = Served::new(Callers { users: vec![], cgroup: None });
        stranger.identify();
        let mut held = Vec::new();
        for _ in 0..40 {
            held.push(tokio::net::UnixStream::connect(&stranger.path).await.unwrap());
        }
        // Those without a place were closed: reading gives the end.
        let mut ended = 0;
        for stream in &mut held {
            let mut byte = [0; 64];
            let read = tokio::io::AsyncReadExt::read(stream, &mut byte);
            if let Ok(Ok(0) | Err(_)) = tokio::time::timeout(Duration::from_millis(50), read).await {
                ended += 1;
            }
        }
        assert!(ended >= 40 - 16, "{ended}");
    });
}

#[test]
fn a_token_is_for_one_audience_of_this_identity() {
    run(async {
        let served = Served::for_us();
        served.keep_token("a");
        let mut grpc = served.raw().await;
        let ask = |audience: &[&str], id: &str| {
            let audience = audience.iter().map(|&audience| audience.to_owned()).collect();
            headed(JwtsvidRequest { audience, spiffe_id: id.into() })
        };
        assert!(fetch_token(&mut grpc, ask(&["a"], &served.id.uri())).await.is_ok());
        for (audience, id, code) in [
            (&["a", "b"][..], "", Code::InvalidArgument),
            (&[], "", Code::InvalidArgument),
            (&[""], "", Code::InvalidArgument),
            (&["a b"], "", Code::InvalidArgument),
            (&["ä"], "", Code::InvalidArgument),
            (&["a"], "spiffe://acme.example/agents/other", Code::PermissionDenied),
            (&["a"], "spiffe://acme.example/agents/../research", Code::InvalidArgument),
            (&["refused"], "", Code::PermissionDenied),
            (&["outage"], "", Code::Unavailable),
        ] {
            assert_eq!(fetch_token(&mut grpc, ask(audience, id)).await.unwrap_err().code(), code, "{audience:?} {id}");
        }
        let long = "a".repeat(257);
        assert_eq!(fetch_token(&mut grpc, ask(&[&long], "")).await.unwrap_err().code(), Code::InvalidArgument);
        assert!(fetch_token(&mut grpc, ask(&[&long[1..]], "")).await.is_ok());
    });
}

#[test]
fn a_presented_token_is_verified_by_its_own_trust_domain_alone() {
    run(async {
        let served = Served::for_us();
        let mut grpc = served.raw().await;
        let text = |svid: protocol::messages::JwtSvid| String::from_utf8(svid.token.expose().to_vec()).unwrap();
        let partner: SpiffeId = "spiffe://partner.example/agent".parse().unwrap();
        let ours = text(served.authority.token(&served.id, "me", HOUR));
        let theirs = text(served.other.token(&partner, "me", HOUR));
        let by_rsa = text(served.authority.token_by(&served.authority.rs256, &served.id, "me", HOUR));
        for (token, id) in [(&ours, &served.id), (&theirs, &partner), (&by_rsa, &served.id)] {
            let response = validate(&mut grpc, "me", token).await.unwrap();
            assert_eq!(response.spiffe_id, id.uri());
            assert!(response.claims.unwrap().fields.contains_key("exp"));
        }
        let stranger: SpiffeId = "spiffe://stranger.example/agent".parse().unwrap();
        for (token, audience) in [
            // A partner's key speaks for nobody here.
            (text(served.other.token(&served.id, "me", HOUR)), "me"),
            (text(served.authority.token(&partner, "me", HOUR)), "me"),
            (text(Authority::new("stranger.example").token(&stranger, "me", HOUR)), "me"),
            (ours.clone(), "others"),
            (format!("{ours}x"), "me"),
            ("no token".to_owned(), "me"),
        ] {
            let error = validate(&mut grpc, audience, &token).await.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        }
    });
}

#[test]
fn grpcs_c_library_is_answered_though_it_names_the_socket_by_its_path() {
    run(async {
        let served = Served::for_us();
        served.keep_token("a");
        let fields =
            b"@\x05:path\x20/SpiffeWorkloadAPI/FetchX509SVID@\n:authority\x10tmp%2FdumpG.sock\x83\x86@\x0ccontent-type\x10application/grpc\
                       @\x02te\x08trailers\x00\x12workload.spiffe.io\x04true";
        let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
            [&[0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, stream], payload].concat()
        };
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend([frame(4, 0, 0, &[]), frame(1, 4, 1, fields), frame(0, 1, 1, &[0; 5])].concat());
        let mut stream = tokio::net::UnixStream::connect(&served.path).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes).await.unwrap();
        // The first frame of the stream is the answer's head and no reset.
        loop {
            let mut head = [0; 9];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut head).await.unwrap();
            let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut payload).await.unwrap();
            if head[8] == 1 {
                assert_eq!(head[3], 1, "a frame of type {}: {payload:?}", head[3]);
                break;
            }
        }
    });
}

#[test]
fn profiles_that_are_not_served_are_said_to_be_so() {
    run(async {
        let served = Served::for_us();
        let mut grpc = served.raw().await;
        grpc.ready().await.unwrap();
        let path = "/SpiffeWorkloadAPI/FetchWITSVID".parse().unwrap();
        let codec = ProstCodec::<X509svidRequest, X509svidResponse>::default();
        let error = grpc.server_streaming(headed(X509svidRequest {}), path, codec).await.unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented);
    });
}

#[test]
fn a_workload_that_starts_with_its_sidecar_waits_for_the_first_answer() {
    run(async {
        let served = Served::new(Callers { users: vec![geteuid().as_raw()], cgroup: None });
        let client = served.client().await;
        let asking = tokio::spawn(async move { client.fetch_x509_svid().await });
        tokio::time::sleep(Duration::from_millis(200)).await;
        served.identify();
        assert_eq!(asking.await.unwrap().unwrap().spiffe_id().to_string(), served.id.uri());
    });
}

#[test]
fn what_is_kept_is_given_without_asking_anybody() {
    run(async {
        let served = Served::for_us();
        let kept = served.keep_token("a");
        let mut grpc = served.raw().await;
        for _ in 0..3 {
            let response = fetch_token(&mut grpc, headed(token_for("a"))).await.unwrap();
            assert_eq!(response.svids.iter().map(|svid| svid.svid.as_str()).collect::<Vec<_>>(), [kept.as_str()]);
        }
        assert_eq!(*served.orders.lock().unwrap(), [""; 0]);
    });
}

/// `cargo test --release -p portcullis-guest-client --test workload_api -- --ignored --nocapture pace`
#[test]
#[ignore = "it measures"]
fn pace_of_tokens_that_are_kept() {
    run(async {
        let served = Served::for_us();
        served.keep_token("a");
        let mut grpc = served.raw().await;
        let mut took = Vec::new();
        for round in 0..5100 {
            let began = Instant::now();
            fetch_token(&mut grpc, headed(token_for("a"))).await.unwrap();
            if round >= 100 {
                took.push(began.elapsed());
            }
        }
        took.sort_unstable();
        println!("a token that is kept: median {:?}, p99 {:?}", took[took.len() / 2], took[took.len() * 99 / 100]);
    });
}
