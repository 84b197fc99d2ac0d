//! Credentials of a pod: held as `sidecar.toml` says, written to files, shown to probes, given out by the local API to the users that are named.
//!
//! ```text
//! curl --unix-socket /run/portcullis/sidecar.sock http://sidecar/v1/credentials
//! curl --unix-socket … http://sidecar/v1/credentials/agents/research/openai            # the value, byte for byte
//! curl --unix-socket … http://sidecar/v1/credentials/agents/research/db?variable=PGPASSWORD
//! ```
//!
//! The list names no secret. A value is given to the sidecar's own user and to those named under `users` of that credential, as the kernel
//! says who connected; who may list and change models (`peers`) may not read credentials for that.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use protocol::credential::{Content, CredentialBody};
use protocol::ids::{Name, Version};
use protocol::time::UnixTime;
use serde::{Deserialize, Serialize};

use super::SidecarError;
use super::api::{Peer, problem};
use super::catalog::{Catalog, Denial};
use super::config::{SidecarConfig, WantedCredential};
use super::hook::{Change, Hook};
use crate::config::{Config, Plaintext};
use crate::credentials::files;
use crate::credentials::keeper::View;
use crate::credentials::{Credentials, Keeping, Settings, Standing};
use crate::destination;
use crate::exchange::Terms;
use crate::seldom::Seldom;

/// The version of the credential that is answered.
const VERSION: &str = "portcullis-version";
/// The last second at which it may be used.
const UNTIL: &str = "portcullis-until";

/// A pod's credentials, held; none where the file names none.
#[derive(Default)]
pub struct Pod {
    keeping: Option<Keeping>,
    wanted: Vec<WantedCredential>,
}

/// How a credential stands, as the local API and probes tell it: nothing secret.
#[derive(Clone, Debug, Serialize)]
pub struct CredentialView {
    /// Its name.
    pub name: Name,
    /// The version asked for; without it, the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Version>,
    /// `awaited`, `held` or `ended`.
    pub state: &'static str,
    /// The version that is or was held.
    pub version: Option<Version>,
    /// What it is: `opaque`, `file` or `env`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// The names of its variables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<String>,
    /// The last second at which the broker's permit holds.
    pub lease: Option<UnixTime>,
    /// The last second at which it may be used, as its publisher has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<UnixTime>,
    /// Why it is not held: a stable code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The broker's word, if it said no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denial: Option<Denial>,
}

impl CredentialView {
    fn of(view: &View) -> Self {
        let empty = Self {
            name: view.name.clone(),
            wanted: view.wanted,
            state: "awaited",
            version: None,
            kind: None,
            variables: Vec::new(),
            lease: None,
            expires: None,
            code: None,
            denial: None,
        };
        match view.standing() {
            Standing::Awaited(denial) => {
                Self { code: Some(denial.as_ref().map_or_else(|| "not-held".to_owned(), |denial| denial.code.clone())), denial, ..empty }
            }
            Standing::Held { held, lease } => {
                let variables = match &held.body.content {
                    Content::Variables(variables) => variables.iter().map(|variable| variable.name.to_string()).collect(),
                    Content::Opaque(_) | Content::File { .. } => Vec::new(),
                };
                let (version, kind) = (Some(held.version), Some(held.body.kind().as_str()));
                Self { state: "held", version, kind, variables, lease: Some(lease), expires: held.body.expires, ..empty }
            }
            Standing::Ended { version, why } => {
                let code = Some(why.code().to_owned());
                let denial = if let crate::credentials::Ended::Denied(denial) = why { Some(denial) } else { None };
                Self { state: "ended", version: Some(version), code, denial, ..empty }
            }
        }
    }

    /// Whether it may be used.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.state == "held"
    }
}

impl Pod {
    /// Names what the file wants to `credentials`, which may hold others' wishes already, and starts to keep all of them.
    ///
    /// # Errors
    /// [`SidecarError::Destination`], [`SidecarError::Credentials`].
    pub fn start(
        mut credentials: Credentials,
        guest: &Config,
        terms: Terms,
        sidecar: &SidecarConfig,
        catalog: &Arc<Catalog>,
    ) -> Result<Self, SidecarError> {
        for wanted in &sidecar.credentials {
            credentials.watch(&wanted.name, wanted.version);
            if let Some(place) = wanted.place() {
                if guest.plaintext == Plaintext::Memory {
                    destination::in_memory(&place.judged())?;
                }
                place.clear(&wanted.name);
                credentials.place(&wanted.name, wanted.version, place);
            }
        }
        let wanted = sidecar.credentials.clone();
        if credentials.is_empty() {
            return Ok(Self { keeping: None, wanted });
        }
        let settings = Settings { check_every: sidecar.check_every, catalog: Some(Arc::clone(catalog)) };
        Ok(Self { keeping: Some(credentials.start(guest, terms, settings)?), wanted })
    }

    /// How each stands.
    #[must_use]
    pub fn views(&self) -> Vec<CredentialView> {
        self.keeping.iter().flat_map(Keeping::views).map(CredentialView::of).collect()
    }

    /// Removes the files; later ones are not written.
    pub fn close(&self) {
        self.keeping.iter().for_each(Keeping::close);
    }

    /// Asks the broker now.
    pub fn ask(&self) {
        self.keeping.iter().for_each(Keeping::ask);
    }

    /// The credential that the file names, in the version that it names there: a proxy may use another.
    fn find(&self, name: &Name) -> Option<&View> {
        let wanted = self.wanted.iter().find(|wanted| wanted.name == *name)?;
        self.keeping.iter().flat_map(Keeping::views).find(|view| view.name == wanted.name && view.wanted == wanted.version)
    }

    /// Whether this user may read the value of this credential.
    fn may_read(&self, name: &Name, user: u32) -> bool {
        let named = |wanted: &WantedCredential| wanted.name == *name && wanted.users.contains(&user);
        user == rustix::process::geteuid().as_raw() || self.wanted.iter().any(named)
    }

    fn may_list(&self, user: u32, peers: &[u32]) -> bool {
        peers.contains(&user) || self.wanted.iter().any(|wanted| wanted.users.contains(&user))
    }

    /// Tells the hook of every change, until the keeper ends.
    pub async fn tell(self: Arc<Self>, hook: Hook) {
        let Some(mut changes) = self.keeping.as_ref().map(Keeping::changes) else { return };
        let mut known: Vec<CredentialView> = Vec::new();
        loop {
            let now = self.views();
            for view in &now {
                let before = known.iter().find(|known| known.name == view.name && known.wanted == view.wanted);
                let path = self.file_of(view).unwrap_or_default();
                match before.map(|before| (before.state, before.version)) {
                    Some((state, version)) if (state, version) == (view.state, view.version) => {}
                    _ if view.is_held() => hook.tell_credential(Change::Current, &view.name, view.version, &path),
                    Some(("held", _)) => hook.tell_credential(Change::Expired, &view.name, view.version, &path),
                    _ => {}
                }
            }
            known = now;
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn file_of(&self, view: &CredentialView) -> Option<std::path::PathBuf> {
        self.wanted.iter().find(|wanted| wanted.name == view.name && wanted.version == view.wanted)?.file.clone()
    }
}

/// Who asks, and what there is.
struct Api {
    pod: Arc<Pod>,
    peers: Vec<u32>,
    refusals: Seldom,
}

/// The routes, with their own check of who asks.
pub(super) fn routes(pod: Arc<Pod>, peers: Vec<u32>) -> Router {
    let api = Arc::new(Api { pod, peers, refusals: Seldom::default() });
    Router::new()
        .route("/v1/credentials", get(list))
        .route("/v1/credentials/{*name}", get(one))
        .layer(from_fn_with_state(Arc::clone(&api), known_peer))
        .with_state(api)
}

async fn known_peer(State(api): State<Arc<Api>>, Extension(Peer(user)): Extension<Peer>, request: Request, next: Next) -> Response {
    match user {
        Some(user) if api.pod.may_list(user, &api.peers) => next.run(request).await,
        _ => {
            if let Some(untold) = api.refusals.happened("other-user", Instant::now()) {
                tracing::warn!(?user, untold, "a caller of the local API was refused");
            }
            other_user()
        }
    }
}

fn other_user() -> Response {
    problem(403, "other-user", "this user may not read this", "name its number under users of the credential in sidecar.toml")
}

async fn list(State(api): State<Arc<Api>>) -> Response {
    Json(api.pod.views()).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    variable: Option<String>,
}

async fn one(
    State(api): State<Arc<Api>>,
    Extension(Peer(user)): Extension<Peer>,
    Path(name): Path<String>,
    Query(Part { variable }): Query<Part>,
) -> Response {
    let Some((name, user)) = name.parse::<Name>().ok().zip(user) else { return unknown() };
    if !api.pod.may_read(&name, user) {
        if let Some(untold) = api.refusals.happened("credential-of-others", Instant::now()) {
            tracing::warn!(user, credential = %name, untold, "a caller of the local API was refused a credential");
        }
        return other_user();
    }
    let Some(view) = api.pod.find(&name) else { return unknown() };
    let standing = view.standing();
    let Standing::Held { held, lease } = &standing else {
        let code = CredentialView::of(view).code.unwrap_or_default();
        return problem(503, "not-held", &format!("the credential may not be used now: {code}"), "GET /v1/credentials tells how it stands");
    };
    tracing::info!(user, credential = %name, version = %held.version, "a credential was read");
    let until = held.body.expires.map_or(*lease, |expires| expires.min(*lease));
    match value(&held.body, variable.as_deref()) {
        Some((kind, bytes)) => {
            let headers = [
                (header::CONTENT_TYPE.as_str(), kind.to_owned()),
                (header::CACHE_CONTROL.as_str(), "no-store".to_owned()),
                (VERSION, held.version.to_string()),
                (UNTIL, until.to_string()),
            ];
            (StatusCode::OK, headers, bytes).into_response()
        }
        None => problem(404, "no-such-variable", "the credential has no such variable", "GET /v1/credentials lists their names"),
    }
}

/// The bytes that are answered, and their media type: a set of variables as lines, or one of them alone.
fn value(body: &CredentialBody, variable: Option<&str>) -> Option<(&'static str, Vec<u8>)> {
    match (&body.content, variable) {
        (Content::Variables(variables), Some(name)) => {
            let found = variables.iter().find(|variable| variable.name.as_str() == name)?;
            Some(("text/plain; charset=utf-8", found.value.expose().to_vec()))
        }
        (_, Some(_)) => None,
        (Content::Variables(_), None) => Some(("text/plain; charset=utf-8", files::bytes(body).to_vec())),
        (Content::Opaque(_) | Content::File { .. }, None) => Some(("application/octet-stream", files::bytes(body).to_vec())),
    }
}

fn unknown() -> Response {
    problem(404, "no-such-credential", "no such credential is held", "GET /v1/credentials lists them")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seldom::tests::assert_told_seldom;
    use axum::body::Body;
    use axum::http;
    use tower::ServiceExt;

    /// A user that may read `a`, and not `b`.
    const NAMED: u32 = 4711;

    /// The routes of a pod that holds nothing yet.
    fn served() -> Router {
        let text = format!("[[credential]]\nname = \"a\"\nusers = [{NAMED}]\n[[credential]]\nname = \"b\"\n");
        let wanted = SidecarConfig::parse(&text).unwrap().credentials;
        routes(Arc::new(Pod { keeping: None, wanted }), vec![])
    }

    async fn status(routes: &Router, user: u32, path: &str) -> u16 {
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        routes.clone().layer(Extension(Peer(Some(user)))).oneshot(request).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn users_that_no_credential_names_are_told_of_once_a_second() {
        let routes = served();
        assert_eq!(status(&routes, NAMED, "/v1/credentials").await, 200);
        assert_told_seldom("a caller of the local API was refused", async || {
            assert_eq!(status(&routes, NAMED + 1, "/v1/credentials").await, 403);
        })
        .await;
    }

    #[tokio::test]
    async fn users_that_ask_for_the_credential_of_others_are_told_of_once_a_second() {
        let routes = served();
        assert_eq!(status(&routes, NAMED, "/v1/credentials/a").await, 404, "allowed, and not held yet");
        assert_told_seldom("a caller of the local API was refused a credential", async || {
            assert_eq!(status(&routes, NAMED, "/v1/credentials/b").await, 403);
        })
        .await;
    }
}
