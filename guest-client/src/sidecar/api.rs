//! The local API: models are listed, added, removed and renewed over HTTP on a Unix socket. Who may: the sidecar's own user and the users that
//! the configuration names, as the kernel says who connected (`SO_PEERCRED`); the socket's permission bits come before that.
//!
//! ```text
//! curl --unix-socket /run/portcullis/sidecar.sock http://sidecar/v1/models
//! curl --unix-socket … -X PUT -d '{"name":"acme/tone","sealed":"/mnt/sealed/tone","base":"acme/llama"}' 'http://sidecar/v1/models?wait=60'
//! curl --unix-socket … -X DELETE http://sidecar/v1/models/acme/tone
//! curl --unix-socket … http://sidecar/v1/identities
//! curl --unix-socket … -X POST http://sidecar/v1/renew
//! ```
//!
//! `PUT` and `DELETE` answer 202 when the order is taken; with `wait=SECONDS`, `PUT` answers 200 once the model is open, and 504 if it is not by then.
//! Credentials have routes of their own ([`super::credentials`]).
//!
//! What was added lives as long as the process: the configuration is what a restart goes by.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, Extension, FromRequest, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use protocol::ids::Name;
use protocol::messages::Problem;
use protocol::spiffe::{SpiffeId, TrustDomain};
use protocol::time::UnixTime;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::catalog::{ModelView, Phase};
use super::config::Wanted;
use super::credentials;
use super::keeper::{Order, Refused};
use super::listen;
use super::shown::Shown;
use crate::identity::view::{Denied, Standing};
use crate::seldom::Seldom;

/// The largest body (bytes): one model.
const BODY: usize = 16 * 1024;
/// The longest wait for a model to open (seconds).
const LONGEST_WAIT: u64 = 3600;
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Connections at once: one for each model that somebody waits for, and a few more.
const CONNECTIONS: usize = 128;
/// How long a connection may live: the longest wait, and what is around it.
const LIFETIME: Duration = Duration::from_secs(LONGEST_WAIT + 60);

struct Api {
    shown: Shown,
    orders: SyncSender<Order>,
    peers: Vec<u32>,
    refusals: Seldom,
}

/// The user who connected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) Option<u32>);

impl Peer {
    fn of(stream: &tokio::net::UnixStream) -> Self {
        Self(stream.peer_cred().ok().map(|peer| peer.uid()))
    }
}

/// Serves until the task is ended.
///
/// # Errors
/// The system's.
pub fn serve(socket: UnixListener, peers: Vec<u32>, shown: Shown, orders: SyncSender<Order>) -> io::Result<JoinHandle<()>> {
    socket.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(socket)?;
    let routes = routes(peers, shown, orders);
    let bounds = listen::Bounds { connections: CONNECTIONS, lifetime: LIFETIME };
    Ok(tokio::spawn(listen::serve(listener, bounds, move |stream| routes.clone().layer(Extension(Peer::of(stream))))))
}

/// The routes, for the sidecar's own user and these `peers`; each request says who asks.
fn routes(mut peers: Vec<u32>, shown: Shown, orders: SyncSender<Order>) -> Router {
    peers.push(rustix::process::geteuid().as_raw());
    let secrets = credentials::routes(Arc::clone(&shown.credentials), peers.clone());
    let api = Arc::new(Api { shown, orders, peers, refusals: Seldom::default() });
    Router::new()
        .route("/v1/models", get(list).put(add))
        .route("/v1/models/{*name}", get(one).delete(remove))
        .route("/v1/identities", get(list_identities))
        .route("/v1/renew", post(renew))
        .layer(from_fn_with_state(Arc::clone(&api), known_peer))
        .with_state(api)
        .merge(secrets)
        .layer(DefaultBodyLimit::max(BODY))
}

async fn known_peer(State(api): State<Arc<Api>>, Extension(Peer(user)): Extension<Peer>, request: Request, next: Next) -> Response {
    match user {
        Some(user) if api.peers.contains(&user) => next.run(request).await,
        _ => {
            if let Some(untold) = api.refusals.happened("other-user", Instant::now()) {
                tracing::warn!(?user, untold, "a caller of the local API was refused");
            }
            problem(403, "other-user", "this user may not use the local API", "name its number under peers in sidecar.toml")
        }
    }
}

async fn list(State(api): State<Arc<Api>>) -> Response {
    Json(api.shown.catalog.list()).into_response()
}

async fn one(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Response {
    match name.parse().ok().and_then(|name: Name| api.shown.catalog.model(&name)) {
        Some(model) => Json(model).into_response(),
        None => problem(404, "no-such-model", "no such model is kept", "GET /v1/models lists them"),
    }
}

#[derive(Deserialize)]
struct Waiting {
    #[serde(default)]
    wait: u64,
}

async fn add(State(api): State<Arc<Api>>, Query(Waiting { wait }): Query<Waiting>, request: Request) -> Response {
    let Ok(body) = tokio::time::timeout(BODY_TIME, String::from_request(request, &())).await else {
        return problem(408, "slow-body", "the body did not come in time", "");
    };
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return rejection.into_response(),
    };
    let wanted: Wanted = match serde_json::from_str(&body) {
        Ok(wanted) => wanted,
        Err(error) => {
            return problem(
                400,
                "model-form",
                &error.to_string(),
                "a model is {\"name\":…,\"sealed\":…} with version, base and way where wanted",
            );
        }
    };
    let name = wanted.name.clone();
    let mut changes = api.shown.catalog.watch();
    if let Err(response) = order(&api, |reply| Order::Add(wanted, reply)).await {
        return *response;
    }
    let ended = async {
        loop {
            match api.shown.catalog.model(&name) {
                None => return problem(404, "no-such-model", "the model was removed meanwhile", ""),
                Some(model) if is_settled(&model) => return (StatusCode::OK, Json(model)).into_response(),
                // The catalog goes on for as long as this process.
                Some(_) => drop(changes.changed().await),
            }
        }
    };
    let wait = Duration::from_secs(wait.min(LONGEST_WAIT));
    match (wait.is_zero(), tokio::time::timeout(wait, ended).await) {
        (false, Ok(response)) => response,
        (true, _) => (StatusCode::ACCEPTED, Json(api.shown.catalog.model(&name))).into_response(),
        (false, Err(_)) => {
            let why = api.shown.catalog.model(&name).map(|model| reason(&model)).unwrap_or_default();
            problem(504, "not-open-yet", &why, "it is still being tried; GET /v1/models/NAME tells how it stands")
        }
    }
}

/// Whether what is wanted of a model is so.
fn is_settled(model: &ModelView) -> bool {
    let open = model.current().is_some_and(|view| matches!(view.phase, Phase::Open { .. }));
    open && (model.wanted.is_none() || model.wanted == model.current)
}

/// Why a model is not open.
fn reason(model: &ModelView) -> String {
    let failed = model.versions.iter().find_map(|view| if let Phase::Failed { why } = &view.phase { Some(why.clone()) } else { None });
    let denied = || model.denial.as_ref().map(|denial| format!("denied: {}, found {}", denial.code, denial.found));
    denied().or(failed).unwrap_or_else(|| "the broker has not answered, or the model is being opened".to_owned())
}

async fn remove(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Response {
    let Ok(name) = name.parse::<Name>() else { return problem(404, "no-such-model", "no such model is kept", "GET /v1/models lists them") };
    match order(&api, |reply| Order::Remove(name, reply)).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(response) => *response,
    }
}

/// An identity, without what is the workload's alone.
#[derive(Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum IdentityView {
    Unknown {
        policy: Name,
    },
    Identified {
        policy: Name,
        spiffe_id: SpiffeId,
        expires: UnixTime,
        serial: String,
        not_after: UnixTime,
        trust_domains: Vec<TrustDomain>,
    },
    Rejected {
        policy: Name,
        denial: Denied,
    },
    Denied {
        policy: Name,
        denial: Denied,
    },
}

async fn list_identities(State(api): State<Arc<Api>>) -> Response {
    let shown = api.shown.identities.iter().map(|view| {
        let policy = view.policy.clone();
        match view.standing() {
            Standing::Unknown => IdentityView::Unknown { policy },
            Standing::Rejected(denied) => IdentityView::Rejected { policy, denial: Denied::clone(&denied) },
            Standing::Denied(denied) => IdentityView::Denied { policy, denial: Denied::clone(&denied) },
            Standing::Identified(identity) => IdentityView::Identified {
                policy,
                spiffe_id: identity.id.clone(),
                expires: identity.expires,
                serial: identity.x509.serial.clone(),
                not_after: identity.x509.not_after,
                trust_domains: identity.bundles.all().map(|bundle| bundle.trust_domain().clone()).collect(),
            },
        }
    });
    Json(shown.collect::<Vec<_>>()).into_response()
}

async fn renew(State(api): State<Arc<Api>>) -> Response {
    for view in api.shown.identities.iter() {
        // One that is asked for much is renewed soon enough.
        let _ = view.renew();
    }
    api.shown.credentials.ask();
    match api.orders.try_send(Order::Ask) {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(error) => not_taken(&error),
    }
}

/// Gives the keeper an order and waits until it is taken.
async fn order(api: &Api, order: impl FnOnce(oneshot::Sender<Result<(), Refused>>) -> Order) -> Result<(), Box<Response>> {
    let (reply, answer) = oneshot::channel();
    api.orders.try_send(order(reply)).map_err(|error| Box::new(not_taken(&error)))?;
    match answer.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(refused)) => {
            let status = if matches!(refused, Refused::NoSuchModel { .. }) { 404 } else { 409 };
            Err(Box::new(problem(status, refused.code(), &refused.to_string(), refused.hint())))
        }
        Err(_) => Err(Box::new(ending())),
    }
}

/// Why the keeper does not take an order.
fn not_taken(error: &TrySendError<Order>) -> Response {
    match error {
        TrySendError::Full(_) => problem(503, "busy", "too many orders wait already", "try again"),
        TrySendError::Disconnected(_) => ending(),
    }
}

fn ending() -> Response {
    problem(503, "ending", "the sidecar is about to end", "")
}

pub(super) fn problem(status: u16, code: &str, title: &str, hint: &str) -> Response {
    let mut problem = Problem::new(status, code, title);
    problem.hint = (!hint.is_empty()).then(|| hint.to_owned());
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, Problem::MEDIA_TYPE)], serde_json::to_vec(&problem).unwrap_or_default()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seldom::tests::assert_told_seldom;
    use crate::sidecar::catalog::Catalog;
    use crate::sidecar::config::SidecarConfig;
    use axum::body::Body;
    use axum::http;
    use tower::ServiceExt;

    #[tokio::test]
    async fn users_that_may_not_use_it_are_told_of_once_a_second() {
        let catalog = Arc::new(Catalog::new(&SidecarConfig::parse("[[credential]]\nname = \"a\"\n").unwrap()));
        let (orders, _queue) = std::sync::mpsc::sync_channel(1);
        let own = rustix::process::geteuid().as_raw();
        let (peer, other) = (own + 1, own + 2);
        let routes = routes(vec![peer], Shown::models(catalog), orders);
        let status = async |user| {
            let request = http::Request::get("/v1/models").body(Body::empty()).unwrap();
            routes.clone().layer(Extension(Peer(user))).oneshot(request).await.unwrap().status()
        };
        assert_eq!((status(Some(own)).await, status(Some(peer)).await), (StatusCode::OK, StatusCode::OK));
        assert_told_seldom("a caller of the local API was refused", async || {
            assert_eq!(status(Some(other)).await, StatusCode::FORBIDDEN);
        })
        .await;
    }
}
