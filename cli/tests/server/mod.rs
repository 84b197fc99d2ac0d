//! A small HTTP server in this process: it answers what it is told to, with the protocol's own types.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use protocol::messages::Problem;

/// The token that the server knows.
pub const TOKEN: &str = "open-sesame";

/// What to answer to one method and path.
#[derive(Clone)]
pub struct Answer {
    status: u16,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Answer {
    /// 200 with JSON.
    pub fn json(value: &(impl serde::Serialize + ?Sized)) -> Self {
        Self { status: 200, content_type: "application/json", body: serde_json::to_vec(value).unwrap() }
    }

    /// 200 with bytes.
    #[allow(dead_code)]
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, content_type: "application/octet-stream", body: bytes.into() }
    }

    /// A problem document.
    pub fn problem(problem: &Problem) -> Self {
        Self { status: problem.status, content_type: Problem::MEDIA_TYPE, body: serde_json::to_vec(problem).unwrap() }
    }
}

#[derive(Default)]
struct State {
    answers: BTreeMap<String, Answer>,
    received: Vec<(String, Vec<u8>)>,
}

/// A running server; it ends with the process.
pub struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// On a free port of this machine.
    pub fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let (send, receive) = std::sync::mpsc::channel();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                send.send(listener.local_addr().unwrap()).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let shared = Arc::clone(&shared);
                    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
                }
            });
        });
        Self { address: receive.recv().unwrap(), state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, answers `request`, such as `GET /v1/records`, with this.
    pub fn on(&self, request: &str, answer: Answer) {
        self.state.lock().unwrap().answers.insert(request.to_owned(), answer);
    }

    /// Forgets every answer to paths that begin so.
    #[allow(dead_code)]
    pub fn forget(&self, prefix: &str) {
        self.state.lock().unwrap().answers.retain(|request, _| !request.starts_with(prefix));
    }

    /// The bodies that came with this request, oldest first.
    pub fn received(&self, request: &str) -> Vec<Vec<u8>> {
        let state = self.state.lock().unwrap();
        state.received.iter().filter(|(name, _)| name == request).map(|(_, body)| body.clone()).collect()
    }
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let name = format!("{} {}", request.method(), request.uri().path());
    let is_public = name.starts_with("GET /log/") || matches!(name.as_str(), "GET /v1/installation" | "GET /v1/identity");
    let authorised = request.headers().get("authorization").is_some_and(|value| value == &format!("Bearer {TOKEN}"));
    let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
    let mut state = state.lock().unwrap();
    state.received.push((name.clone(), body));
    let answer = if is_public || authorised {
        let missing = || Answer::problem(&Problem::new(404, "not-found", "there is no such thing"));
        state.answers.get(&name).cloned().unwrap_or_else(missing)
    } else {
        Answer::problem(&Problem::new(401, "unauthorised", "an administrative token is needed"))
    };
    let response = Response::builder().status(answer.status).header("content-type", answer.content_type);
    Ok(response.body(Full::from(answer.body)).unwrap())
}
