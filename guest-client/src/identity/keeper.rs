//! The keeper of one identity: the one thread that asks the broker for it, and lets go of it in time.
//!
//! A certificate and a token are renewed at about half of their life, each certificate with a key of its own; at half of the
//! broker's permit the guest attests anew. Between that the broker is asked at a configured interval whether the identity still
//! holds, which also brings new bundles. Where the broker does not answer, what there is stays until it runs out. Where it says
//! no, all of it is dropped at once: certificate, key, tokens, and the files that they are in. A no that is about an audience alone
//! takes nothing but that audience. Only a no that is sealed to this guest and signed by the broker counts: a rejection of the guest as a
//! whole bears no signature, so whoever is on the way can say it, and it takes nothing before its time; where there is nothing to take, it is
//! shown to whoever looks after the guest, and to workloads it is no other than silence.
//!
//! What is due when goes by the time since boot, which nobody sets: a clock that was wrong for a moment neither stops the keeper nor makes it
//! look later. An identity ends by the wall clock or by the time since boot, whichever is first ([`Lease`]).
//!
//! Time is an argument of all that is decided here, and the broker is an [`Issuer`]: tests put theirs in its place.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use protocol::ids::{DecisionId, Name};
use protocol::messages::{Identified, Reason};
use protocol::time::UnixTime;
use protocol::tokens::EcKey;
use tokio::sync::watch;

use super::bundles::Bundles;
use super::files::TokenFiles;
use super::view::{Denied, Identity, NoToken, ORDERS, Order, Standing, Token, Tokens, View, X509};
use crate::clock::{self, Moment};
use crate::config::Config;
use crate::exchange::{AskFor, Class, ExchangeError, Session, Terms};
use crate::report::{Report, plain};
use crate::retry::{Pace, SystemPace};
use crate::sidecar::SidecarError;
use crate::sidecar::lease::Lease;
use connection::Client;

/// How often the keeper looks what time has brought.
const TICK: Duration = Duration::from_secs(1);
/// The wait after the first failure is below this, after each further one below twice as much.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// No wait after a failure is longer, unless the broker asks for it.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// After a no the broker is asked again after about this.
const DENIAL_RETRY: Duration = Duration::from_secs(60);
/// Renewals are up to this share earlier than half of a life, so that pods that started together do not come together.
const JITTER: f64 = 0.2;
/// Audiences in one request at most, as the protocol has it.
const AUDIENCES: usize = protocol::limits::AUDIENCES;
/// The code of a refusal that is about an audience.
const AUDIENCE_CODE: &str = "identity-audience";

/// What is kept.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The policy that says who this is.
    pub policy: Name,
    /// How often the broker is asked at least.
    pub check_every: Duration,
}

/// What the broker answers, once it is believed.
#[derive(Debug)]
pub enum Answer {
    /// This is who it is.
    Identified(Box<Identified>, Bundles),
    /// No.
    Refused(Vec<Reason>, DecisionId),
}

/// Who issues identities: a broker, by a session.
pub trait Issuer {
    /// Asks for the identity, and what is to be issued for it.
    ///
    /// # Errors
    /// [`ExchangeError`].
    fn identify(&mut self, policy: &Name, ask: &AskFor<'_>) -> Result<Answer, ExchangeError>;

    /// Attests anew at the next time.
    fn forget(&mut self);
}

impl Issuer for Session<'_> {
    fn identify(&mut self, policy: &Name, ask: &AskFor<'_>) -> Result<Answer, ExchangeError> {
        let answered = Session::identify(self, policy, &[], ask)?;
        if !answered.is_permitted() {
            Report::of_decision(answered.outcome(), answered.entry()).leave(None);
        }
        let decision = answered.outcome().decision;
        Ok(match answered.into_identity() {
            Ok((identified, bundles)) => Answer::Identified(Box::new(identified), bundles),
            Err(reasons) => Answer::Refused(reasons, decision),
        })
    }

    fn forget(&mut self) {
        Session::forget(self);
    }
}

/// A keeper that runs.
pub struct Kept {
    /// What everybody else sees.
    pub view: View,
    orders: SyncSender<Order>,
}

impl Kept {
    /// Starts a keeper with a session of its own.
    ///
    /// # Errors
    /// [`SidecarError::Http`], [`SidecarError::Evidence`], [`SidecarError::Threads`].
    pub fn start(guest: &Config, terms: Terms, plan: Plan, files: TokenFiles) -> Result<Self, SidecarError> {
        let client = Client::new(&guest.broker)?;
        let attester = guest.evidence.attester(&guest.interfaces)?;
        let (keeper, view, orders, queue) = Keeper::new(plan, files, Box::new(SystemPace::start()));
        let thread = std::thread::Builder::new().name("identity".to_owned()).spawn(move || {
            let mut session = Session::new(&client, &*attester, terms);
            keeper.run(&mut session, &queue);
        });
        thread.map(drop).map_err(SidecarError::Threads)?;
        Ok(Self { view, orders })
    }

    /// Asks it to end. It is not waited for, because it may be waiting for a broker: [`super::files::Closer`] ends its token files.
    pub fn stop(self) {
        // Where it has ended already, there is nobody to tell; where too many wait for it, it ends with the process.
        let _ = self.orders.try_send(Order::Stop);
    }
}

/// What is to be issued.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Want {
    certificate: Option<Certificate>,
    audiences: Vec<String>,
}

/// A certificate is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Certificate;

impl Want {
    /// The same in several requests, each for one thing.
    fn apart(self) -> Vec<Self> {
        let certificate = self.certificate.map(|certificate| Self { certificate: Some(certificate), audiences: Vec::new() });
        let token = |audience| Self { certificate: None, audiences: vec![audience] };
        certificate.into_iter().chain(self.audiences.into_iter().map(token)).collect()
    }

    fn things(&self) -> usize {
        usize::from(self.certificate.is_some()) + self.audiences.len()
    }
}

/// Why a round with the broker ended without an answer; and when to come back, where that was asked for.
struct Unanswered(Option<Duration>);

/// The keeper.
pub struct Keeper {
    plan: Plan,
    files: TokenFiles,
    pace: Box<dyn Pace>,
    standing: watch::Sender<Standing>,
    tokens: Arc<Tokens>,
    /// The broker's permit, until half of it is over.
    permit: Option<Lease>,
    /// How long the identity holds that there is.
    lease: Option<Lease>,
    /// When the broker is next asked whether the identity still holds: since boot.
    look: Duration,
    /// Before this the broker is left alone: since boot.
    not_before: Duration,
    failures: u32,
    /// Somebody asked for a new certificate.
    renew: bool,
}

impl Keeper {
    /// A keeper, what others see of it, and both ends of its orders. Nothing is asked for yet.
    #[must_use]
    pub fn new(plan: Plan, files: TokenFiles, pace: Box<dyn Pace>) -> (Self, View, SyncSender<Order>, Receiver<Order>) {
        let (orders, queue) = mpsc::sync_channel(ORDERS);
        let (standing, seen) = watch::channel(Standing::Unknown);
        let tokens = Arc::new(Tokens::default());
        let view = View::new(plan.policy.clone(), seen, Arc::clone(&tokens), orders.clone());
        let (look, not_before) = (Duration::ZERO, Duration::ZERO);
        let keeper = Self { plan, files, pace, standing, tokens, permit: None, lease: None, look, not_before, failures: 0, renew: false };
        (keeper, view, orders, queue)
    }

    /// Until it is told to stop.
    pub fn run(mut self, issuer: &mut dyn Issuer, queue: &Receiver<Order>) {
        loop {
            self.step(issuer, clock::moment());
            let order = match queue.recv_timeout(TICK) {
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(order) => order,
                Err(RecvTimeoutError::Timeout) => continue,
            };
            self.take(order, issuer, clock::moment());
        }
        self.drop_all(Standing::Unknown);
    }

    /// Does what it is asked to; but for [`Order::Stop`], which is [`Self::run`]'s.
    pub fn take(&mut self, order: Order, issuer: &mut dyn Issuer, at: Moment) {
        match order {
            // Whoever asked may have gone.
            Order::Token(audience, reply) => drop(reply.send(self.token(issuer, audience, at))),
            Order::Renew => self.renew(),
            Order::Stop => {}
        }
    }

    /// What time has brought: what has run out goes, and what is due is asked for.
    pub fn step(&mut self, issuer: &mut dyn Issuer, at: Moment) {
        if self.lease.is_some_and(|lease| lease.is_over(at)) {
            tracing::error!(identity = %self.plan.policy, "the identity has run out, and the broker has not renewed it");
            self.drop_all(Standing::Unknown);
        }
        if at.boot >= self.not_before {
            let due = self.due(at);
            if due.things() > 0 || at.boot >= self.look {
                self.round(issuer, due, at);
            }
        }
        self.files.write(&self.tokens, at);
    }

    /// Asks for everything anew at the next step.
    fn renew(&mut self) {
        (self.not_before, self.renew) = (Duration::ZERO, true);
    }

    fn identity(&self) -> Option<Arc<Identity>> {
        match &*self.standing.borrow() {
            Standing::Identified(identity) => Some(Arc::clone(identity)),
            Standing::Unknown | Standing::Rejected(_) | Standing::Denied(_) => None,
        }
    }

    /// What is due: the certificate, and the tokens that files hold.
    fn due(&self, at: Moment) -> Want {
        let certificate = (self.renew || self.identity().is_none_or(|identity| at.boot >= identity.x509.renew)).then_some(Certificate);
        let is_due = |audience: &&str| {
            let fresh = self.tokens.held(audience, at).is_some_and(|token| token.is_fresh(at));
            !fresh && self.tokens.refused(audience, at).is_none()
        };
        let audiences = self.files.audiences().filter(is_due).take(AUDIENCES).map(str::to_owned).collect();
        Want { certificate, audiences }
    }

    /// One round with the broker.
    fn round(&mut self, issuer: &mut dyn Issuer, want: Want, at: Moment) {
        if self.permit.is_some_and(|permit| permit.until_half(at).is_zero()) {
            issuer.forget();
            // Asked for once; the next permit is another.
            self.permit = None;
        }
        match self.ask(issuer, want, at) {
            Ok(()) => (self.failures, self.renew) = (0, false),
            Err(Unanswered(after)) => {
                let bound = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST_BACKOFF);
                self.failures = self.failures.saturating_add(1);
                self.not_before = at.boot + after.unwrap_or_default() + self.pace.below(bound) + TICK;
            }
        }
    }

    fn ask(&mut self, issuer: &mut dyn Issuer, want: Want, at: Moment) -> Result<(), Unanswered> {
        let key = want.certificate.map(|Certificate| EcKey::generate()).transpose().map_err(|error| {
            tracing::error!(identity = %self.plan.policy, %error, "there is no fresh key");
            Unanswered(None)
        })?;
        let ask = AskFor { x509: key.as_ref(), jwt_audiences: &want.audiences, result_audience: None };
        match issuer.identify(&self.plan.policy, &ask) {
            Ok(Answer::Identified(identified, bundles)) => self.identified(*identified, bundles, key.as_ref(), at),
            Ok(Answer::Refused(reasons, decision)) => {
                let about_audience = !reasons.is_empty() && reasons.iter().all(|reason| reason.code == AUDIENCE_CODE);
                let denied = denied(reasons, decision);
                match want.audiences.as_slice() {
                    [audience] if about_audience && want.things() == 1 => {
                        self.refused(audience, denied, at);
                        Ok(())
                    }
                    // Which one it is about is found out by asking for each alone.
                    [_, ..] if about_audience => want.apart().into_iter().try_for_each(|one| self.ask(issuer, one, at)),
                    _ => {
                        self.denied(denied, at);
                        Ok(())
                    }
                }
            }
            Err(error) => self.not_answered(&error, at),
        }
    }

    fn identified(&mut self, identified: Identified, mut bundles: Bundles, key: Option<&EcKey>, at: Moment) -> Result<(), Unanswered> {
        let held = self.identity();
        if let Some(held) = &held {
            match bundles.follow(&held.bundles) {
                Ok(kept) => kept.iter().for_each(|error| {
                    tracing::warn!(identity = %self.plan.policy, %error, "a foreign bundle is older than the one that is held, which stays");
                }),
                Err(error) => {
                    tracing::error!(identity = %self.plan.policy, %error, "the broker's bundle is older than the one that is held; nothing is taken");
                    return Err(Unanswered(None));
                }
            }
        }
        let Identified { spiffe_id, expires, x509, jwt, .. } = identified;
        let same = held.filter(|held| held.id == spiffe_id);
        let x509 = match (x509, key, &same) {
            (Some(svid), Some(key), _) => {
                let key = key.to_pkcs8().map_err(|_| Unanswered(None))?;
                let renew = self.renewal(at, svid.not_after);
                tracing::info!(identity = %self.plan.policy, id = %spiffe_id, serial = svid.serial, not_after = %svid.not_after, "certified");
                Arc::new(X509 { certificates: svid.certificates, key, serial: svid.serial, renew, not_after: svid.not_after })
            }
            (_, _, Some(held)) => Arc::clone(&held.x509),
            // The policy gives another name now: what there is of the old one goes, and a certificate is asked for at once.
            (_, _, None) => {
                self.drop_all(Standing::Unknown);
                return Ok(());
            }
        };
        if same.is_none() {
            self.tokens.clear();
        }
        for svid in jwt {
            tracing::info!(identity = %self.plan.policy, audience = plain(&svid.audience), jti = plain(&svid.jti), "token issued");
            let renew = self.renewal(at, svid.expires);
            self.tokens.keep(Arc::new(Token { audience: svid.audience, token: svid.token, jti: svid.jti, renew, expires: svid.expires }));
        }
        let identity = Identity { id: spiffe_id, expires, x509, bundles: Arc::new(bundles) };
        self.permit = Some(Lease::after(self.permit, expires, at));
        self.lease = Some(Lease::after(self.lease, identity.until(), at));
        self.look = at.boot + self.spread(self.plan.check_every);
        self.standing.send_replace(Standing::Identified(Arc::new(identity)));
        Ok(())
    }

    /// When about half of what is left is over, since boot; a little earlier by chance.
    fn renewal(&self, at: Moment, until: UnixTime) -> Duration {
        at.boot + self.spread(until.since(at.wall) / 2)
    }

    fn spread(&self, span: Duration) -> Duration {
        span.saturating_sub(self.pace.below(span.mul_f64(JITTER)))
    }

    /// No token for this audience; the rest stays.
    fn refused(&mut self, audience: &str, denied: Denied, at: Moment) {
        tracing::warn!(identity = %self.plan.policy, audience = plain(audience), code = denied.code, "no token for this audience");
        self.tokens.refuse(audience, Arc::new(denied), at.boot + self.spread(DENIAL_RETRY));
        self.files.remove(audience);
    }

    fn denied(&mut self, denied: Denied, at: Moment) {
        let Denied { code, found, hint, decision } = &denied;
        let decision = decision.as_deref().unwrap_or_default();
        tracing::error!(identity = %self.plan.policy, code, found, hint, decision, "denied; the identity is dropped");
        self.drop_all(Standing::Denied(Arc::new(denied)));
        self.not_before = at.boot + self.spread(DENIAL_RETRY);
    }

    fn not_answered(&mut self, error: &ExchangeError, at: Moment) -> Result<(), Unanswered> {
        let (code, hint, identity) = (error.code(), error.hint(), &self.plan.policy);
        match error.class() {
            Class::Outage(after) => {
                tracing::warn!(%identity, %error, code, hint, "the broker does not answer; the identity stays until it runs out");
                Err(Unanswered(after))
            }
            Class::Denied => {
                let Report { code, message, hint, decision, .. } = Report::of_error(error);
                tracing::error!(%identity, %error, code, hint, "the guest is turned away; the identity stays until it runs out");
                let rejected = Standing::Rejected(Arc::new(Denied { code, found: message, hint, decision }));
                self.standing.send_if_modified(|standing| {
                    let counts = matches!(standing, Standing::Unknown | Standing::Rejected(_));
                    if counts {
                        *standing = rejected;
                    }
                    counts
                });
                self.not_before = at.boot + self.spread(DENIAL_RETRY);
                Ok(())
            }
            Class::Untrusted => {
                tracing::error!(%identity, %error, code, hint, "whoever answers is not believed; the identity stays until it runs out");
                Err(Unanswered(None))
            }
            Class::NoEvidence | Class::Local => {
                tracing::error!(%identity, %error, code, hint, "nothing can be asked of the broker");
                Err(Unanswered(None))
            }
        }
    }

    /// A token that the cache does not have.
    fn token(&mut self, issuer: &mut dyn Issuer, audience: String, at: Moment) -> Result<Arc<Token>, NoToken> {
        let settled = |keeper: &Self| match &*keeper.standing.borrow() {
            Standing::Unknown | Standing::Rejected(_) => Some(Err(NoToken::Unknown)),
            Standing::Denied(denied) => Some(Err(NoToken::Denied(Arc::clone(denied)))),
            Standing::Identified(_) => match keeper.tokens.held(&audience, at).filter(|token| token.is_fresh(at)) {
                Some(token) => Some(Ok(token)),
                None => keeper.tokens.refused(&audience, at).map(|denied| Err(NoToken::Audience(denied))),
            },
        };
        // Somebody else may have asked for the same meanwhile.
        if let Some(answer) = settled(self) {
            return answer;
        }
        if !self.tokens.tidy(&audience, at) {
            return Err(NoToken::Busy);
        }
        if at.boot < self.not_before {
            return Err(NoToken::Outage);
        }
        self.round(issuer, Want { certificate: None, audiences: vec![audience.clone()] }, at);
        settled(self).unwrap_or(Err(NoToken::Outage))
    }

    /// Lets go of everything.
    fn drop_all(&mut self, standing: Standing) {
        self.tokens.clear();
        self.files.remove_all();
        (self.permit, self.lease) = (None, None);
        self.standing.send_replace(standing);
    }
}

fn denied(reasons: Vec<Reason>, decision: DecisionId) -> Denied {
    let decision = Some(decision.to_string());
    match reasons.into_iter().next() {
        Some(reason) => Denied { code: plain(&reason.code), found: plain(&reason.found), hint: plain(&reason.hint), decision },
        None => Denied { code: "refused".to_owned(), found: String::new(), hint: String::new(), decision },
    }
}
