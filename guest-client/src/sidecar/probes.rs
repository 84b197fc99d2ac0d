//! Startup, readiness, liveness and metrics, as a kubelet and Prometheus ask for them. They tell names of models and codes, nothing else,
//! and change nothing.
//!
//! | path | 200 where | else |
//! | --- | --- | --- |
//! | `/startupz` | every configured model was open at one time, and every credential held | 503 |
//! | `/readyz` | every model can be read at this moment, no lease has run out that counts, every credential may be used, every identity is there | 503, with names and codes |
//! | `/livez` | the process answers | |
//! | `/metrics` | | |

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::task::JoinHandle;

use super::catalog::Unready;
use super::listen;
use super::metrics;
use super::shown::Shown;
use super::version::OpenVersion;
use crate::clock;

/// How long a model may take to give a byte.
const READ: Duration = Duration::from_secs(2);
/// Connections at once: a kubelet's, Prometheus', and a few of people.
const CONNECTIONS: usize = 64;
/// How long a connection may live, an answer included.
const LIFETIME: Duration = Duration::from_secs(60);

/// Serves until the task is ended.
///
/// # Errors
/// The system's.
pub fn serve(listener: TcpListener, shown: Shown) -> io::Result<JoinHandle<()>> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let routes = Router::new()
        .route("/startupz", get(started))
        .route("/readyz", get(ready))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/metrics", get(measured))
        .with_state(Arc::new(Probed { shown, held: AtomicBool::new(false) }));
    let bounds = listen::Bounds { connections: CONNECTIONS, lifetime: LIFETIME };
    Ok(tokio::spawn(listen::serve(listener, bounds, move |_| routes.clone())))
}

/// What is asked about.
struct Probed {
    shown: Shown,
    /// Whether every credential was held at one time.
    held: AtomicBool,
}

impl Probed {
    fn started(&self) -> bool {
        if self.shown.missing_credentials().is_empty() {
            self.held.store(true, Ordering::Relaxed);
        }
        self.shown.catalog.started() && self.held.load(Ordering::Relaxed)
    }
}

async fn started(State(probed): State<Arc<Probed>>) -> Response {
    if probed.started() { "started\n".into_response() } else { (StatusCode::SERVICE_UNAVAILABLE, "opening\n").into_response() }
}

async fn ready(State(probed): State<Arc<Probed>>) -> Response {
    let shown = &probed.shown;
    let mut unready = shown.catalog.unready(clock::moment());
    for model in shown.catalog.list().into_iter().filter(|model| model.current().is_some()) {
        if unready.iter().any(|unready| unready.model == model.name) {
            continue;
        }
        // Through the link, as an engine does.
        let link = model.link.clone();
        let read = tokio::task::spawn_blocking(move || OpenVersion::read_a_byte(&link));
        match tokio::time::timeout(READ, read).await {
            Ok(Ok(Ok(()))) => {}
            Ok(_) => unready.push(Unready { model: model.name, code: "not-readable" }),
            Err(_) => unready.push(Unready { model: model.name, code: "slow-to-read" }),
        }
    }
    let (credentials, identities) = (shown.missing_credentials(), shown.missing_identities());
    let ready = unready.is_empty() && credentials.is_empty() && identities.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({ "ready": ready, "models": unready, "credentials": credentials, "identities": identities });
    (status, Json(body)).into_response()
}

async fn measured(State(probed): State<Arc<Probed>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics::text(&probed.shown)).into_response()
}
