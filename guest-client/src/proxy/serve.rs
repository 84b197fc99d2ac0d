//! One connection of an agent, one request: its head is judged, then its body and the answer stream through.
//!
//! A connection carries one request and ends with its answer. What an agent sends behind it is read by nobody, so there is no second request to hide.

use std::convert::Infallible;
use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use protocol::messages::{Problem, Secret};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::CredentialSource;
use super::asked::{Asked, AskedError, Length, Rules};
use super::body::{Cut, End, Progress, Sent, Streamed, Trouble, Whole};
use super::config::ProxyConfig;
use super::counts::Counts;
use super::echo::Watch;
use super::head;
use super::refusal::Refusal;
use super::upstream::Upstream;
use crate::seldom::Seldom;

/// Until a head has come.
const HEAD: Duration = Duration::from_secs(10);
/// What an agent may still be sending when it has its answer is read for this long, and up to [`LINGER_BYTES`], so that the answer arrives.
const LINGER: Duration = Duration::from_secs(2);
/// See [`LINGER`].
const LINGER_BYTES: u64 = 1024 * 1024;
/// Connections at a time that are not served and still told so.
const TURNED_AWAY: usize = 32;
/// What is read ahead of an agent's body (bytes): more than the largest head.
const BUFFER: usize = 64 * 1024;
/// The longest path in the log.
const SHOWN: usize = 200;

/// Headers of an answer that end here: about the connection; about other ways to the upstream; and cookies, because a session that was begun with the
/// credential is a credential too.
const ENDS_HERE: &[&str] = &[
    "alt-svc",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-connection",
    "set-cookie",
    "set-cookie2",
    "transfer-encoding",
    "upgrade",
];

type Answer = Response<Either<Whole, Streamed>>;

/// Who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// By a socket: this user, if the kernel said.
    User(Option<u32>),
    /// By a port: anybody on this machine.
    Anybody,
}

/// Everything that a connection needs.
pub struct Door {
    rules: Rules,
    upstream: Upstream,
    source: CredentialSource,
    users: Vec<u32>,
    limits: Limits,
    places: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    turned_away_seldom: Seldom,
    counts: Arc<Counts>,
    name: String,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    answer: Duration,
    idle: Duration,
    whole: Duration,
}

/// Why there is no head.
enum NoHead {
    /// The agent went without asking.
    Gone,
    Refused(Refusal),
}

impl<E: Into<AskedError>> From<E> for NoHead {
    fn from(error: E) -> Self {
        Self::Refused(Refusal::Asked(error.into()))
    }
}

impl Door {
    /// As configured, called by these names beside the upstream's.
    #[must_use]
    pub fn new(config: &ProxyConfig, names: Vec<String>, upstream: Upstream, source: CredentialSource) -> Self {
        let name = config.listen.to_string();
        let mut users = config.users.clone();
        users.push(rustix::process::geteuid().as_raw());
        Self {
            rules: Rules {
                upstream: config.upstream_names(),
                names,
                header: config.header.clone(),
                allow: config.allow.clone(),
                body: config.body,
            },
            upstream,
            source,
            users,
            limits: Limits { answer: config.answer, idle: config.idle, whole: config.whole },
            places: Arc::new(Semaphore::new(usize::from(config.connections))),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
            turned_away_seldom: Seldom::default(),
            counts: Arc::new(Counts::new(name.clone())),
            name,
        }
    }

    /// What was done.
    #[must_use]
    pub const fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Serves a connection in a task of its own, or turns it away.
    pub fn welcome<S>(self: &Arc<Self>, stream: S, caller: Caller)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let unknown = matches!(caller, Caller::User(user) if !user.is_some_and(|user| self.users.contains(&user)));
        let refusal = if unknown { Some(Refusal::OtherUser) } else { None };
        let place = if unknown { None } else { Arc::clone(&self.places).try_acquire_owned().ok() };
        let door = Arc::clone(self);
        match (refusal, place) {
            (None, Some(place)) => drop(tokio::spawn(async move {
                let _open = door.counts.opened();
                door.visit(stream, caller).await;
                drop(place);
            })),
            (refusal, _) => self.turn_away(stream, caller, refusal.unwrap_or(Refusal::Busy)),
        }
    }

    /// Whoever is not served takes no place from those who are; of those who are told so, there are not too many either.
    fn turn_away<S>(self: &Arc<Self>, stream: S, caller: Caller, refusal: Refusal)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let code = refusal.code();
        self.counts.refused(code);
        if let Some(untold) = self.turned_away_seldom.happened(code, Instant::now()) {
            tracing::warn!(proxy = self.name, user = user(caller), code, untold, "a request was refused");
        }
        if let Ok(place) = Arc::clone(&self.turned_away).try_acquire_owned() {
            tokio::spawn(async move {
                tell(stream, &refusal).await;
                drop(place);
            });
        }
    }

    async fn visit<S>(self: &Arc<Self>, mut stream: S, caller: Caller)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        match timeout(HEAD, self.read_head(&mut stream)).await.unwrap_or(Err(NoHead::Refused(Refusal::HeadTimeout))) {
            Ok((asked, bytes)) => self.carry(stream, Arc::new(asked), bytes, caller).await,
            Err(NoHead::Gone) => {}
            Err(NoHead::Refused(refusal)) => {
                self.refuse(caller, &refusal);
                tell(stream, &refusal).await;
            }
        }
    }

    /// A head that may go on, and all bytes that came, it included.
    async fn read_head<S: AsyncRead + Unpin>(&self, stream: &mut S) -> Result<(Asked, Vec<u8>), NoHead> {
        let mut bytes = Vec::with_capacity(4096);
        let mut seen = 0;
        loop {
            if let Some(end) = head::end(&bytes, seen)? {
                let asked = Asked::judge(bytes.get(..end).unwrap_or_default(), &self.rules)?;
                return Ok((asked, bytes));
            }
            seen = bytes.len();
            if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
                return Err(NoHead::Gone);
            }
        }
    }

    /// Lets the HTTP library read the body and write the answer.
    async fn carry<S>(self: &Arc<Self>, stream: S, asked: Arc<Asked>, bytes: Vec<u8>, caller: Caller)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (read, write) = tokio::io::split(stream);
        let whole = tokio::io::join(Cursor::new(bytes).chain(read), write);
        let service = service_fn(|request| {
            let (door, asked) = (Arc::clone(self), Arc::clone(&asked));
            async move { Ok::<_, Infallible>(door.answer(request, &asked, caller).await) }
        });
        let mut server = http1::Builder::new();
        server.keep_alive(false).auto_date_header(false).max_buf_size(BUFFER).timer(TokioTimer::new()).header_read_timeout(HEAD);
        let served = timeout(self.limits.whole, server.serve_connection(TokioIo::new(whole), service).without_shutdown()).await;
        if let Ok(Ok(parts)) = served {
            linger(parts.io.into_inner()).await;
        }
    }

    async fn answer(self: &Arc<Self>, request: Request<Incoming>, asked: &Asked, caller: Caller) -> Answer {
        let occasion = Use::new(self, asked, caller);
        match self.exchange(request, asked, &occasion.progress).await {
            Ok((response, watch)) => self.hand_on(response, watch, occasion),
            Err((refusal, why)) => {
                self.counts.refused(refusal.code());
                occasion.refused(&refusal, &why);
                problem(&refusal)
            }
        }
    }

    /// The upstream's answer, its head looked through; or why there is none, for the agent and for the log.
    async fn exchange(
        &self,
        request: Request<Incoming>,
        asked: &Asked,
        progress: &Arc<Progress>,
    ) -> Result<(Response<Incoming>, Watch), (Refusal, String)> {
        let plain = |refusal: Refusal| (refusal, String::new());
        if !is_the_same(&request, asked) {
            return Err(plain(Refusal::TwoReadings));
        }
        let secret = self.credential().map_err(plain)?;
        let body = (asked.length() != Length::None).then(|| request.into_body());
        let sent = Sent::new(body, self.rules.body, Arc::clone(progress));
        let request = self.upstream.request(asked, sent, &secret).map_err(plain)?;
        let answered = tokio::select! {
            biased;
            () = gone(self.source.clone()) => return Err(plain(Refusal::NoCredential)),
            answered = timeout(self.limits.answer, self.upstream.send(request)) => answered,
        };
        let response = match (answered, progress.trouble()) {
            (Ok(Ok(response)), _) => response,
            (_, Some(Trouble::TooLarge)) => return Err(plain(AskedError::BodyTooLarge { limit: self.rules.body }.into())),
            (_, Some(Trouble::Broken)) => return Err(plain(Refusal::BodyBroken)),
            (Ok(Err(error)), None) => return Err((Refusal::Unreachable, connection::chain(&error))),
            (Err(_), None) => return Err(plain(Refusal::AnswerTimeout)),
        };
        let watch = Watch::new(secret);
        check_answer(&response, &watch).map_err(plain)?;
        Ok((response, watch))
    }

    fn hand_on(&self, response: Response<Incoming>, watch: Watch, mut occasion: Use) -> Answer {
        let (parts, body) = response.into_parts();
        self.counts.answered(parts.status.as_u16());
        occasion.status = Some(parts.status.as_u16());
        let headers = headers(&parts.headers, occasion.method == "HEAD");
        let streamed = Streamed::new(body, watch, Box::pin(gone(self.source.clone())), self.limits.idle, Box::new(occasion));
        let mut answer = Response::new(Either::Right(streamed));
        // A new answer: neither the upstream's words behind the status nor its version go on.
        *answer.status_mut() = parts.status;
        *answer.headers_mut() = headers;
        answer
    }

    /// The credential now. Where nobody keeps it fresh, there is none.
    fn credential(&self) -> Result<Arc<Secret>, Refusal> {
        if self.source.has_changed().is_err() {
            return Err(Refusal::NoCredential);
        }
        self.source.borrow().clone().ok_or(Refusal::NoCredential)
    }

    fn refuse(&self, caller: Caller, refusal: &Refusal) {
        self.counts.refused(refusal.code());
        tracing::warn!(proxy = self.name, user = user(caller), code = refusal.code(), "a request was refused");
    }
}

/// Until the credential is no longer there, or nobody keeps it fresh.
async fn gone(mut source: CredentialSource) {
    while source.borrow_and_update().is_some() && source.changed().await.is_ok() {}
}

/// Whether the HTTP library has read what we have.
fn is_the_same(request: &Request<Incoming>, asked: &Asked) -> bool {
    let target = request.uri().path_and_query().map(hyper::http::uri::PathAndQuery::as_str);
    let length = match asked.length() {
        Length::None => request.body().is_end_stream(),
        Length::Known(bytes) => request.body().size_hint().exact() == Some(bytes),
        Length::Chunked => request.body().size_hint().exact().is_none(),
    };
    request.method().as_str() == asked.method() && target == Some(asked.target().as_str()) && length
}

/// Whether an answer's head can be handed on.
fn check_answer(response: &Response<Incoming>, watch: &Watch) -> Result<(), Refusal> {
    let mut codings = response.headers().get_all(TRANSFER_ENCODING).iter();
    let coded = codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if response.status() == StatusCode::SWITCHING_PROTOCOLS || coded {
        return Err(Refusal::AnswerForm);
    }
    if response.headers().values().any(|value| watch.is_in(value.as_bytes())) { Err(Refusal::Echo) } else { Ok(()) }
}

/// The headers of an answer that go on: without those that end here, and those that its `Connection` names.
fn headers(found: &HeaderMap, of_head: bool) -> HeaderMap {
    let named: Vec<String> = found
        .get_all(hyper::header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let goes_on = |name: &HeaderName| {
        // The length of a body is told by the body; an answer to HEAD has none.
        let length = name == CONTENT_LENGTH && !of_head;
        !length && !ENDS_HERE.contains(&name.as_str()) && !named.iter().any(|named| named == name.as_str())
    };
    found.iter().filter(|(name, _)| goes_on(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn problem(refusal: &Refusal) -> Answer {
    let whole: Whole = Full::new(Bytes::from(refusal.problem())).map_err(|never: Infallible| match never {});
    let mut answer = Response::new(Either::Left(whole));
    *answer.status_mut() = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Problem::MEDIA_TYPE));
    answer
}

/// Answers with a refusal, as far as the agent takes it.
async fn tell<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, refusal: &Refusal) {
    if let Ok(Ok(())) = timeout(LINGER, stream.write_all(&refusal.to_bytes())).await {
        linger(stream).await;
    }
}

/// Says that nothing more comes, and reads what is still on its way: a connection that is closed with bytes unread takes its answer with it.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let ending = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await?;
        Ok::<_, io::Error>(())
    };
    // An agent that has gone is as well.
    let _ = timeout(LINGER, ending).await;
}

const fn user(caller: Caller) -> Option<u32> {
    match caller {
        Caller::User(user) => user,
        Caller::Anybody => None,
    }
}

/// One use of the credential, or an attempt at one; when it goes, it has ended, and is counted and logged.
struct Use {
    counts: Arc<Counts>,
    proxy: String,
    user: Option<u32>,
    method: String,
    path: String,
    began: Instant,
    progress: Arc<Progress>,
    received: u64,
    status: Option<u16>,
    how: Option<Result<(), Cut>>,
}

impl Use {
    fn new(door: &Door, asked: &Asked, caller: Caller) -> Self {
        // A path that may go on is ASCII, and has no query.
        let path = asked.target().path().chars().take(SHOWN).collect();
        Self {
            counts: Arc::clone(&door.counts),
            proxy: door.name.clone(),
            user: user(caller),
            method: asked.method().to_owned(),
            path,
            began: Instant::now(),
            progress: Arc::default(),
            received: 0,
            status: None,
            how: None,
        }
    }

    fn refused(&self, refusal: &Refusal, why: &str) {
        let Self { proxy, user, method, path, .. } = self;
        tracing::warn!(proxy, user, method, path, code = refusal.code(), why, "a request got no answer of the upstream");
    }
}

impl End for Use {
    fn passed(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    fn ended(&mut self, how: Result<(), Cut>) {
        self.how = Some(how);
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let sent = self.progress.bytes();
        let Some(status) = self.status else { return self.counts.ended(None, sent, 0) };
        let cut = self.how.unwrap_or(Err(Cut::Gone)).err().map(Cut::code);
        self.counts.ended(cut, sent, self.received);
        let Self { proxy, user, method, path, received, .. } = self;
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        match cut {
            None => tracing::info!(proxy, user, method, path, status, sent, received, millis, "the credential was used"),
            Some(code) => {
                tracing::warn!(proxy, user, method, path, status, sent, received, millis, code, "the credential was used; cut short")
            }
        }
    }
}
