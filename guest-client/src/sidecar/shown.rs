//! What the local API, the probes and the metrics read: how everything stands that the sidecar keeps.

use std::sync::Arc;

use protocol::ids::Name;
use serde::Serialize;

use super::catalog::Catalog;
use super::credentials::{CredentialView, Pod};
use crate::identity::view::{Standing, View};
use crate::proxy::counts::Counts;

/// How everything stands. Cloning it shares it.
#[derive(Clone)]
pub struct Shown {
    /// The models.
    pub catalog: Arc<Catalog>,
    /// The identities.
    pub identities: Arc<[View]>,
    /// The credentials.
    pub credentials: Arc<Pod>,
    /// What the credential proxies have counted.
    pub proxies: Arc<[Arc<Counts>]>,
}

/// A credential that may not be used now.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct MissingCredential {
    credential: Name,
    code: Option<String>,
}

/// An identity that there is none of.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct MissingIdentity {
    identity: Name,
    code: String,
}

impl Shown {
    /// Models alone.
    #[must_use]
    pub fn models(catalog: Arc<Catalog>) -> Self {
        Self { catalog, identities: Arc::default(), credentials: Arc::default(), proxies: Arc::default() }
    }

    /// The credentials that may not be used now, and why.
    #[must_use]
    pub fn missing_credentials(&self) -> Vec<MissingCredential> {
        let missing = self.credentials.views().into_iter().filter(|view| !view.is_held());
        missing.map(|CredentialView { name, code, .. }| MissingCredential { credential: name, code }).collect()
    }

    /// The identities that there are none of, and why.
    #[must_use]
    pub fn missing_identities(&self) -> Vec<MissingIdentity> {
        let why = |view: &View| match view.standing() {
            Standing::Identified(_) => None,
            Standing::Unknown => Some("not-identified".to_owned()),
            Standing::Rejected(denied) | Standing::Denied(denied) => Some(denied.code.clone()),
        };
        self.identities.iter().filter_map(|view| Some(MissingIdentity { identity: view.policy.clone(), code: why(view)? })).collect()
    }
}
