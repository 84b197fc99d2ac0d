//! An identity as everybody but its keeper sees it: how it stands, and tokens for it.
//!
//! What is known is read from a `watch` and from the cache of tokens, and never waits. Only a token for an audience that the cache
//! does not have, or has for longer than half its life, is an order to the keeper.

use std::collections::BTreeMap;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::ids::Name;
use protocol::messages::Secret;
use protocol::spiffe::SpiffeId;
use protocol::time::UnixTime;
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use zeroize::Zeroizing;

use super::bundles::Bundles;
use crate::clock::{self, Moment};

/// Audiences that the cache has tokens or refusals for, at most; those that were asked for by whoever asks the socket.
pub const AUDIENCES: usize = 64;
/// Orders that wait for the keeper at most.
pub const ORDERS: usize = 64;
/// How long whoever asked waits for the keeper, which may be waiting for the broker.
const ANSWER: Duration = Duration::from_secs(15);

/// How an identity stands.
#[derive(Clone, Debug)]
pub enum Standing {
    /// There is none: nobody has answered yet, or not for as long as the last one held.
    Unknown,
    /// There is one.
    Identified(Arc<Identity>),
    /// There is none, and somebody says no, for the broker or in its place: without a signature it is worth no more than silence.
    Rejected(Arc<Denied>),
    /// The broker says no.
    Denied(Arc<Denied>),
}

/// Who this workload is. No `Clone`: it holds a private key, which is erased when it goes.
pub struct Identity {
    /// The name.
    pub id: SpiffeId,
    /// The last second at which the broker's permit holds.
    pub expires: UnixTime,
    /// The certificate and its key.
    pub x509: Arc<X509>,
    /// By what others are believed.
    pub bundles: Arc<Bundles>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("id", &self.id).field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Identity {
    /// The last second at which all of it holds.
    #[must_use]
    pub fn until(&self) -> UnixTime {
        self.expires.min(self.x509.not_after)
    }
}

/// A certificate for a key that was made here.
pub struct X509 {
    /// DER, the leaf first.
    pub certificates: Vec<Vec<u8>>,
    /// The leaf's key, PKCS#8 DER.
    pub key: Zeroizing<Vec<u8>>,
    /// The leaf's serial number, hex.
    pub serial: String,
    /// When it is renewed, if the broker answers: since boot.
    pub renew: Duration,
    /// Its last second.
    pub not_after: UnixTime,
}

/// A JWT-SVID.
#[derive(Debug)]
pub struct Token {
    /// For whom it is.
    pub audience: String,
    /// The token.
    pub token: Secret,
    /// Its number in the broker's log.
    pub jti: String,
    /// When it is renewed, if the broker answers: since boot.
    pub renew: Duration,
    /// From when on it holds no longer.
    pub expires: UnixTime,
}

impl Token {
    /// Whether it need not be renewed yet.
    #[must_use]
    pub fn is_fresh(&self, at: Moment) -> bool {
        at.boot < self.renew
    }

    /// The token as text. JWTs are ASCII; one that is not was refused when it came.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.token.expose()).into_owned()
    }
}

/// A no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Denied {
    /// The first failing check.
    pub code: String,
    /// What was found.
    pub found: String,
    /// What may help.
    pub hint: String,
    /// The decision that the operator can look up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// There is no identity, because nobody has said yet who this is.
    #[error("the broker has not said yet who this workload is")]
    Unknown,
    /// There is no identity, because the broker says no.
    #[error("the broker refuses the identity: {}", .0.code)]
    Denied(Arc<Denied>),
    /// Not for this audience.
    #[error("the policy gives no token for this audience ({})", .0.code)]
    Audience(Arc<Denied>),
    /// The broker does not answer.
    #[error("the broker does not answer")]
    Outage,
    /// Too many orders wait, or too many audiences are kept.
    #[error("too many tokens are being asked for")]
    Busy,
    /// The keeper has ended.
    #[error("the sidecar is about to end")]
    Ending,
}

/// What a keeper is asked to do.
#[derive(Debug)]
pub enum Order {
    /// Get a token for this audience.
    Token(String, oneshot::Sender<Result<Arc<Token>, NoToken>>),
    /// Ask the broker now.
    Renew,
    /// End.
    Stop,
}

/// Tokens by audience, and refusals that are not asked about again before their time.
#[derive(Debug, Default)]
pub struct Tokens(Mutex<BTreeMap<String, Cached>>);

#[derive(Clone, Debug)]
enum Cached {
    Token(Arc<Token>),
    /// Until when, since boot.
    Refused(Arc<Denied>, Duration),
}

impl Tokens {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Cached>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token for this audience, if it holds at this time, fresh or not.
    #[must_use]
    pub fn held(&self, audience: &str, at: Moment) -> Option<Arc<Token>> {
        match self.lock().get(audience) {
            Some(Cached::Token(token)) if at.wall < token.expires => Some(Arc::clone(token)),
            _ => None,
        }
    }

    /// The refusal of this audience that still counts.
    #[must_use]
    pub fn refused(&self, audience: &str, at: Moment) -> Option<Arc<Denied>> {
        match self.lock().get(audience) {
            Some(Cached::Refused(denied, until)) if at.boot < *until => Some(Arc::clone(denied)),
            _ => None,
        }
    }

    /// Keeps a token.
    pub fn keep(&self, token: Arc<Token>) {
        self.lock().insert(token.audience.clone(), Cached::Token(token));
    }

    /// Keeps a refusal until then, since boot.
    pub fn refuse(&self, audience: &str, denied: Arc<Denied>, until: Duration) {
        self.lock().insert(audience.to_owned(), Cached::Refused(denied, until));
    }

    /// Forgets what no longer holds. Whether there is room for this audience.
    pub fn tidy(&self, audience: &str, at: Moment) -> bool {
        let mut tokens = self.lock();
        tokens.retain(|_, cached| match cached {
            Cached::Token(token) => at.wall < token.expires,
            Cached::Refused(_, until) => at.boot < *until,
        });
        tokens.len() < AUDIENCES || tokens.contains_key(audience)
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.lock().clear();
    }
}

/// An identity, seen from outside its keeper.
#[derive(Clone, Debug)]
pub struct View {
    /// The policy that it is asked for by.
    pub policy: Name,
    standing: watch::Receiver<Standing>,
    tokens: Arc<Tokens>,
    orders: SyncSender<Order>,
}

impl View {
    /// Of what a keeper writes to the other ends.
    #[must_use]
    pub const fn new(policy: Name, standing: watch::Receiver<Standing>, tokens: Arc<Tokens>, orders: SyncSender<Order>) -> Self {
        Self { policy, standing, tokens, orders }
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// The same, and whenever it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Asks the keeper to ask the broker now.
    ///
    /// # Errors
    /// [`NoToken::Busy`], [`NoToken::Ending`].
    pub fn renew(&self) -> Result<(), NoToken> {
        self.order(Order::Renew)
    }

    /// A token for `audience`: from the cache while it is fresh, else by the keeper; and the cached one while it holds, where the
    /// broker does not answer.
    ///
    /// # Errors
    /// [`NoToken`].
    pub async fn token(&self, audience: &str) -> Result<Arc<Token>, NoToken> {
        match self.standing() {
            Standing::Unknown | Standing::Rejected(_) => return Err(NoToken::Unknown),
            Standing::Denied(denied) => return Err(NoToken::Denied(denied)),
            Standing::Identified(_) => {}
        }
        let at = clock::moment();
        if let Some(denied) = self.tokens.refused(audience, at) {
            return Err(NoToken::Audience(denied));
        }
        let held = self.tokens.held(audience, at);
        if let Some(token) = held.as_ref().filter(|token| token.is_fresh(at)) {
            return Ok(Arc::clone(token));
        }
        match (self.asked(audience).await, held) {
            (Err(NoToken::Outage | NoToken::Busy), Some(token)) => Ok(token),
            (answer, _) => answer,
        }
    }

    async fn asked(&self, audience: &str) -> Result<Arc<Token>, NoToken> {
        let (reply, answer) = oneshot::channel();
        self.order(Order::Token(audience.to_owned(), reply))?;
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(NoToken::Ending),
            Err(_) => Err(NoToken::Outage),
        }
    }

    fn order(&self, order: Order) -> Result<(), NoToken> {
        self.orders.try_send(order).map_err(|error| match error {
            TrySendError::Full(_) => NoToken::Busy,
            TrySendError::Disconnected(_) => NoToken::Ending,
        })
    }
}
