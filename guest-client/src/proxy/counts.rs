//! Uses of a proxy, counted: answers by class, refusals by code, what was cut short, bytes.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The numbers. Every key is one of a fixed set: nothing that an agent or an upstream sends becomes a label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections that are being served.
    pub open: u64,
    /// Answers of the upstream by class: `2xx`.
    pub answers: BTreeMap<&'static str, u64>,
    /// Requests that got none, by code.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Answers that did not come to their end, by code.
    pub cuts: BTreeMap<&'static str, u64>,
    /// Bytes of bodies to the upstream.
    pub sent: u64,
    /// Bytes of bodies from it.
    pub received: u64,
}

/// What one proxy has done.
#[derive(Debug)]
pub struct Counts {
    proxy: String,
    tally: Mutex<Tally>,
}

impl Counts {
    /// Of the proxy with this name, with nothing done.
    #[must_use]
    pub fn new(proxy: String) -> Self {
        Self { proxy, tally: Mutex::default() }
    }

    /// The numbers now.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.lock().clone()
    }

    pub(super) fn opened(self: &Arc<Self>) -> Open {
        self.lock().open += 1;
        Open(Arc::clone(self))
    }

    pub(super) fn answered(&self, status: u16) {
        *self.lock().answers.entry(class(status)).or_default() += 1;
    }

    pub(super) fn refused(&self, code: &'static str) {
        *self.lock().refusals.entry(code).or_default() += 1;
    }

    pub(super) fn ended(&self, cut: Option<&'static str>, sent: u64, received: u64) {
        let mut tally = self.lock();
        if let Some(code) = cut {
            *tally.cuts.entry(code).or_default() += 1;
        }
        tally.sent = tally.sent.saturating_add(sent);
        tally.received = tally.received.saturating_add(received);
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is being served, until this goes.
#[derive(Debug)]
pub(super) struct Open(Arc<Counts>);

impl Drop for Open {
    fn drop(&mut self) {
        let mut tally = self.0.lock();
        tally.open = tally.open.saturating_sub(1);
    }
}

const fn class(status: u16) -> &'static str {
    match status {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "other",
    }
}

/// A proxy and a code or class.
type Labels = [(&'static str, String); 2];
/// A proxy.
type Proxy = [(&'static str, String); 1];

/// Shows what these proxies have done.
pub fn register(registry: &mut Registry, proxies: &[Arc<Counts>]) {
    let answers = Family::<Labels, Counter>::default();
    let refusals = Family::<Labels, Counter>::default();
    let cuts = Family::<Labels, Counter>::default();
    let (sent, received) = (Family::<Proxy, Counter>::default(), Family::<Proxy, Counter>::default());
    let open = Family::<Proxy, Gauge<u64, AtomicU64>>::default();
    for counts in proxies {
        let tally = counts.tally();
        let proxy = || ("proxy", counts.proxy.clone());
        for (family, key, numbers) in
            [(&answers, "class", &tally.answers), (&refusals, "reason", &tally.refusals), (&cuts, "reason", &tally.cuts)]
        {
            for (name, number) in numbers {
                family.get_or_create(&[proxy(), (key, (*name).to_owned())]).inc_by(*number);
            }
        }
        sent.get_or_create(&[proxy()]).inc_by(tally.sent);
        received.get_or_create(&[proxy()]).inc_by(tally.received);
        open.get_or_create(&[proxy()]).set(tally.open);
    }
    registry.register("proxy_answers", "Requests that the upstream answered, by class of its status", answers);
    registry.register("proxy_refusals", "Requests that the proxy answered itself, by reason", refusals);
    registry.register("proxy_cuts", "Answers that did not come to their end, by reason", cuts);
    registry.register_with_unit("proxy_sent", "Bodies of requests to the upstream", Unit::Bytes, sent);
    registry.register_with_unit("proxy_received", "Bodies of answers from the upstream", Unit::Bytes, received);
    registry.register("proxy_open", "Connections of agents that are being served", open);
}
