//! What the trust domain publishes: the same for everybody, made anew with each change of the keys.

use std::sync::Arc;
use std::time::Duration;

use protocol::entries::IssuerUse;
use protocol::spiffe::Bundle;
use protocol::tokens::{Jwk, KeySet};
use serde::Serialize;

use super::ring::Ring;
use super::{IssuerError, Realm};

/// How often others should ask for the bundle: far more often than a successor is published before it signs.
const REFRESH: Duration = Duration::from_secs(300);

/// Texts in JSON, ready to be served.
#[derive(Clone)]
pub struct Published {
    /// The SPIFFE bundle: everything that verifies an SVID of ours.
    pub bundle: Arc<str>,
    /// The keys that clouds read: RS256 alone. `None` without an issuer, once nothing lives that its keys signed.
    pub jwks: Option<Arc<str>>,
    /// OpenID Connect discovery. `None` without an issuer.
    pub discovery: Option<Arc<str>>,
    /// The keys of attestation results. They verify nothing else, and stand in no bundle.
    pub results: Arc<str>,
}

/// OpenID Connect Discovery, what the clouds read of it.
#[derive(Serialize)]
struct Discovery<'a> {
    issuer: &'a str,
    jwks_uri: String,
    response_types_supported: [&'a str; 1],
    subject_types_supported: [&'a str; 1],
    id_token_signing_alg_values_supported: [&'a str; 1],
}

impl Published {
    pub(super) fn of(ring: &Ring, realm: &Realm) -> Result<Self, IssuerError> {
        let jwks = |usage| ring.of(usage).map(|key| key.jwk()).collect::<Vec<Jwk>>();
        let certificates = ring.of(IssuerUse::X509).filter_map(|key| key.certificate().cloned()).collect();
        let svids = [jwks(IssuerUse::JwtEs256), jwks(IssuerUse::JwtRs256)].concat();
        let bundle = Bundle::new(realm.trust_domain.clone(), ring.sequence, REFRESH, certificates, svids)?;
        let set = |usage| {
            let keys = jwks(usage).into_iter().map(|key| key.with_usage("sig")).collect();
            KeySet::new(keys).map(|set| Arc::from(set.to_json()))
        };
        let issuer = realm.issuer.as_deref();
        Ok(Self {
            bundle: bundle.to_json().into(),
            jwks: (issuer.is_some() || ring.of(IssuerUse::JwtRs256).next().is_some()).then(|| set(IssuerUse::JwtRs256)).transpose()?,
            discovery: issuer.map(discovery).transpose()?,
            results: set(IssuerUse::Result)?,
        })
    }
}

fn discovery(issuer: &str) -> Result<Arc<str>, IssuerError> {
    let discovery = Discovery {
        issuer,
        jwks_uri: format!("{issuer}/identity/jwks"),
        response_types_supported: ["id_token"],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: ["RS256"],
    };
    serde_json::to_string(&discovery).map(Arc::from).map_err(|error| IssuerError::Form(error.to_string()))
}
