//! What whoever checks identities reads: the trust domain's bundle, the key sets, OpenID Connect discovery. All of it is public, and the
//! same for everybody; `portcullis identity export` writes it as files for a web server that clouds can reach.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use protocol::spiffe::published::{PublishedAnswer, PublishedBody, PublishedFederation};

use super::Broker;
use super::problem::{Refusal, refuse};
use crate::clock;
use crate::identity::Published;

/// As often as the bundle asks to be read anew.
const CACHED: &str = "public, max-age=300";

pub async fn bundle(State(broker): State<Arc<Broker>>) -> Response {
    answer(&broker, |published| Some(published.bundle))
}

pub async fn jwks(State(broker): State<Arc<Broker>>) -> Response {
    answer(&broker, |published| published.jwks)
}

pub async fn results(State(broker): State<Arc<Broker>>) -> Response {
    answer(&broker, |published| Some(published.results))
}

pub async fn discovery(State(broker): State<Arc<Broker>>) -> Response {
    answer(&broker, |published| published.discovery)
}

/// All of it at once, signed by this broker: what `portcullis identity export` fetches under the pinned root.
pub async fn signed(State(broker): State<Arc<Broker>>) -> Response {
    let Some(issuer) = &broker.issuer else {
        return refuse(404, "no-identities", "this broker gives no identities");
    };
    let Some(published) = issuer.published() else {
        return refuse(503, "no-keys-yet", "the issuer has no keys yet");
    };
    let realm = issuer.realm();
    let federation = match (&realm.issuer, published.discovery, published.jwks) {
        (Some(issuer), Some(discovery), Some(jwks)) => {
            Some(PublishedFederation { issuer: issuer.clone(), discovery: discovery.to_string(), jwks: jwks.to_string() })
        }
        _ => None,
    };
    let body = PublishedBody {
        installation: broker.installation.root,
        anchors: broker.trust.anchors,
        trust_domain: realm.trust_domain.clone(),
        at: clock::now(),
        bundle: published.bundle.to_string(),
        results: published.results.to_string(),
        federation,
    };
    match PublishedAnswer::write(&body, &broker.keys.identity, &broker.keys.identity_certificate) {
        Ok(answer) => ([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response(),
        Err(error) => Refusal::new(500, "not-signed", "what is published could not be signed").detail(error.to_string()).into_response(),
    }
}

fn answer(broker: &Broker, which: impl FnOnce(Published) -> Option<Arc<str>>) -> Response {
    let Some(issuer) = &broker.issuer else {
        return refuse(404, "no-identities", "this broker gives no identities");
    };
    let Some(published) = issuer.published() else {
        return refuse(503, "no-keys-yet", "the issuer has no keys yet");
    };
    match which(published) {
        Some(text) => ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, CACHED)], text.to_string()).into_response(),
        None => Refusal::new(404, "no-issuer", "this broker federates with no cloud")
            .hint("[identity] issuer names the URL that clouds know it by")
            .into_response(),
    }
}
