//! The HTTP interface: routes, limits, and one handler a route. What is decided is decided elsewhere.
//!
//! | route | for |
//! | --- | --- |
//! | `POST /v1/challenge`, `POST /v1/release`, `GET /v1/installation` | guests |
//! | `/v1/records`, `/v1/policies`, `/v1/revocations`, `/v1/tcb-baselines`, `/v1/decisions`, `/v1/collateral` | operators and publishers, by token |
//! | `GET /v1/identity`, `GET /identity/bundle`, `GET /identity/jwks`, `GET /identity/results/jwks`, `GET /.well-known/openid-configuration` | whoever checks identities |
//! | `GET /log/checkpoint`, `GET /log/tile/…` | monitors: tlog-tiles |
//! | `GET /healthz`, `GET /readyz`, `GET /metrics` | the platform |

mod admin;
mod collateral;
mod guest;
mod identity;
pub mod listen;
mod monitor;
mod problem;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use attestation::Anchors;
use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use protocol::encoding::sha256;
use protocol::ids::Digest;
use protocol::limits;
use protocol::messages::InstallationAnswer;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::alarms::Alarms;
use crate::chains::Chains;
use crate::collateral::CollateralHouse;
use crate::config::Limits;
use crate::custody::Keys;
use crate::documents::Trust;
use crate::feed::Feed;
use crate::guests::Guests;
use crate::identity::Issuer;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::rejections::Rejections;
use crate::sightings::Sightings;
use crate::store::Store;
use problem::{Refusal, refuse};

/// Client addresses whose rate is kept apart; some 100 bytes each. Beyond it, everybody shares one rate until quiet ones go.
const CLIENTS: usize = 65_536;

/// Readers of the log at once; each may hold 256 entries of at most 64 KiB.
const READERS: usize = 16;

/// Everything that handlers share.
pub struct Broker {
    /// The broker's keys.
    pub keys: Keys,
    /// Its installation, as the public sees it.
    pub installation: InstallationAnswer,
    /// The roots of the platforms.
    pub anchors: Arc<Anchors>,
    /// The vendors' collateral.
    pub collateral: Arc<CollateralHouse>,
    /// How more of it comes.
    pub feed: Arc<Feed>,
    /// Verified chains.
    pub chains: Chains,
    /// Verified guests.
    pub guests: Guests,
    /// Whose documents count.
    pub trust: Trust,
    /// The audit log and the documents in force.
    pub ledger: Ledger,
    /// What outlives the process.
    pub store: Arc<dyn Store>,
    /// Requests that proved nothing.
    pub rejections: Rejections,
    /// What somebody should look at.
    pub alarms: Alarms,
    /// Platforms seen lately.
    pub sightings: Sightings,
    /// The issuer of identities, where this broker gives any.
    pub issuer: Option<Arc<Issuer>>,
    /// Counters.
    pub metrics: Metrics,
    /// Limits on callers.
    pub limits: Limits,
    /// SHA-256 of the administrative token.
    pub token: Digest,
    rate: DefaultKeyedRateLimiter<IpAddr>,
    places: Semaphore,
    readers: Semaphore,
}

/// What a broker is made of, before its limits are set up.
pub struct Parts {
    /// See [`Broker`].
    pub keys: Keys,
    /// See [`Broker`].
    pub installation: InstallationAnswer,
    /// See [`Broker`].
    pub anchors: Arc<Anchors>,
    /// See [`Broker`].
    pub collateral: Arc<CollateralHouse>,
    /// See [`Broker`].
    pub feed: Arc<Feed>,
    /// See [`Broker`].
    pub trust: Trust,
    /// See [`Broker`].
    pub ledger: Ledger,
    /// See [`Broker`].
    pub store: Arc<dyn Store>,
    /// See [`Broker`].
    pub sightings: Sightings,
    /// See [`Broker`].
    pub issuer: Option<Arc<Issuer>>,
    /// See [`Broker`].
    pub limits: Limits,
    /// The administrative token.
    pub token: Zeroizing<String>,
}

impl Broker {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { keys, installation, anchors, collateral, feed, trust, ledger, store, sightings, issuer, limits, token } = parts;
        let one = NonZeroU32::MIN;
        let quota = Quota::per_second(NonZeroU32::new(limits.requests_per_second).unwrap_or(one));
        let rate = RateLimiter::keyed(quota.allow_burst(NonZeroU32::new(limits.burst).unwrap_or(one)));
        let places = Semaphore::new(limits.concurrent);
        let token = sha256(token.as_bytes());
        let (chains, guests, rejections, metrics) =
            (Chains::default(), Guests::default(), Rejections::default(), Metrics::new(&feed.counters()));
        Self {
            keys,
            installation,
            anchors,
            collateral,
            feed,
            chains,
            guests,
            trust,
            ledger,
            store,
            rejections,
            alarms: Alarms::default(),
            sightings,
            issuer,
            metrics,
            limits,
            token,
            rate,
            places,
            readers: Semaphore::new(READERS),
        }
    }

    /// Whose rate a request counts against.
    fn client(&self, peer: IpAddr) -> IpAddr {
        if self.rate.len() < CLIENTS { client_network(peer) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) }
    }

    /// Forgets clients that have been quiet, so that the table of rates stays small.
    pub fn forget_quiet_clients(&self) {
        self.rate.retain_recent();
    }
}

/// The network that one client has to itself: an IPv4 address, or the 64-bit prefix of an IPv6 address, within which it can
/// take any address that it likes.
fn client_network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

/// All routes.
pub fn router(broker: Arc<Broker>) -> Router {
    let public = Router::new()
        .route("/v1/challenge", post(guest::challenge))
        .route("/v1/release", post(guest::release))
        .route("/v1/installation", get(guest::installation))
        .route("/v1/identity", get(identity::signed))
        .route("/identity/bundle", get(identity::bundle))
        .route("/identity/jwks", get(identity::jwks))
        .route("/identity/results/jwks", get(identity::results))
        .route("/.well-known/openid-configuration", get(identity::discovery))
        .layer(DefaultBodyLimit::max(limits::REQUEST_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&broker), within_limits));
    let log = Router::new()
        .route("/log/checkpoint", get(monitor::checkpoint))
        .route("/log/tile/{*path}", get(monitor::tile))
        .layer(middleware::from_fn_with_state(Arc::clone(&broker), in_turn));
    let admin = Router::new()
        .route("/v1/records", put(admin::put_record).get(admin::list_records))
        .route("/v1/policies", put(admin::put_policy))
        .route("/v1/policies/{*name}", get(admin::policy))
        .route("/v1/revocations", put(admin::put_revocations).get(admin::revocations))
        .route("/v1/tcb-baselines", put(admin::put_calendar))
        .route("/v1/tcb-baselines/{*name}", get(admin::calendar))
        .route("/v1/decisions/{id}", get(admin::decision))
        .layer(DefaultBodyLimit::max(2 * limits::DOCUMENT))
        .layer(middleware::from_fn_with_state(Arc::clone(&broker), admin::authorised));
    let collateral = Router::new()
        .route("/v1/collateral", put(collateral::put).get(collateral::held))
        .route("/v1/collateral/forecast", get(collateral::forecast))
        .layer(DefaultBodyLimit::max(limits::COLLATERAL_BUNDLE))
        .layer(middleware::from_fn_with_state(Arc::clone(&broker), admin::authorised));
    Router::new()
        .merge(public)
        .merge(log)
        .merge(admin)
        .merge(collateral)
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(monitor::ready))
        .route("/metrics", get(monitor::metrics))
        .fallback(|| async { refuse(404, "no-such-route", "there is nothing here") })
        .method_not_allowed_fallback(|| async { refuse(405, "method-not-allowed", "not by this method") })
        .with_state(broker)
}

/// Readers of the log wait for their turn, without a rate: auditors read all of it.
async fn in_turn(State(broker): State<Arc<Broker>>, request: Request, next: Next) -> Response {
    let read = async {
        let _turn = broker.readers.acquire().await;
        next.run(request).await
    };
    match tokio::time::timeout(Duration::from_secs(broker.limits.request_seconds), read).await {
        Ok(response) => response,
        Err(_) => refuse(503, "busy", "too many readers of the log at once"),
    }
}

/// A place for every request, a rate for every client address, an end for every request.
async fn within_limits(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if let Err(until) = broker.rate.check_key(&broker.client(peer.ip())) {
        let wait = until.wait_time_from(DefaultClock::default().now());
        broker.metrics.count("rejected", "rate-limit");
        return Refusal::new(429, "rate-limit", "too many requests from this address").retry_after(wait).into_response();
    }
    let Ok(_place) = broker.places.try_acquire() else {
        broker.metrics.count("rejected", "busy");
        return Refusal::new(503, "busy", "too many requests at once").retry_after(Duration::from_secs(1)).into_response();
    };
    match tokio::time::timeout(Duration::from_secs(broker.limits.request_seconds), next.run(request)).await {
        Ok(response) => response,
        Err(_) => refuse(408, "too-slow", "the request took too long"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_one_rate_however_many_addresses_it_can_take() {
        let network = |text: &str| client_network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:aaaa::1"), network("2001:db8:1:2:bbbb::2"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
        assert_ne!(network("192.0.2.7"), network("192.0.2.8"));
    }
}
