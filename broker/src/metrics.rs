//! What `/metrics` shows: few labels, each of few values, so that no caller can make a series grow.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use protocol::time::UnixTime;

use crate::collateral::{Ability, PieceKey, Vendor};
use crate::feed::Counters;

/// Of each kind of collateral: how many pieces are kept, and the earliest last second.
type Sums = BTreeMap<&'static str, (usize, UnixTime)>;

/// Outcome and reason. Both come from fixed tables of codes, which their type says: nothing that a caller sends is ever a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    outcome: &'static str,
    reason: &'static str,
}

/// The broker's metrics.
pub struct Metrics {
    registry: Registry,
    decisions: Family<Reason, Counter>,
    seconds: Histogram,
    log_entries: Gauge<u64, AtomicU64>,
    documents: Family<[(&'static str, &'static str); 1], Counter>,
    pieces: Family<[(&'static str, &'static str); 1], Gauge<u64, AtomicU64>>,
    expiry: Family<[(&'static str, &'static str); 1], Gauge<i64, AtomicI64>>,
    verifiable: Family<[(&'static str, &'static str); 1], Gauge<u64, AtomicU64>>,
}

impl Metrics {
    /// With what the feed counts.
    pub(crate) fn new(feed: &Counters) -> Self {
        let mut registry = Registry::with_prefix("portcullis");
        let decisions = Family::default();
        registry.register("decisions", "Items and requests by outcome and first reason", decisions.clone());
        let seconds = Histogram::new([0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0]);
        registry.register_with_unit("release", "How long release requests took", Unit::Seconds, seconds.clone());
        let log_entries = Gauge::default();
        registry.register("log_entries", "Entries of the audit log", log_entries.clone());
        let documents = Family::default();
        registry.register("documents_put", "Documents put in force, by type", documents.clone());
        let pieces = Family::default();
        registry.register("collateral_pieces", "Pieces of collateral that are kept, by kind", pieces.clone());
        let expiry = Family::default();
        let help = "Until the first piece of a kind expires; negative once it has";
        registry.register_with_unit("collateral_expiry", help, Unit::Seconds, expiry.clone());
        let verifiable = Family::default();
        let help = "Whether some platform of a vendor that the configuration names could be verified (1), or none (0)";
        registry.register("collateral_verifiable", help, verifiable.clone());
        registry.register("collateral_fetches", "Fetches of collateral by source and outcome", feed.fetches.clone());
        let help = "Fetches of collateral that guests asked for beyond their budget, by source";
        registry.register("collateral_budget_refusals", help, feed.refusals.clone());
        Self { registry, decisions, seconds, log_entries, documents, pieces, expiry, verifiable }
    }

    /// Counts an outcome: `granted`, `identified`, `permitted`, `refused` or `rejected`, with the first reason where there is one.
    pub fn count(&self, outcome: &'static str, reason: &'static str) {
        self.decisions.get_or_create(&Reason { outcome, reason }).inc();
    }

    /// Counts a document.
    pub fn document(&self, kind: &'static str) {
        self.documents.get_or_create(&[("type", kind)]).inc();
    }

    /// Notes how long a release request took.
    pub fn observe(&self, seconds: f64) {
        self.seconds.observe(seconds);
    }

    /// The text form, with what is so at this moment: the size of the log, what collateral is kept, and what it is good for.
    #[must_use]
    pub fn text(&self, log_entries: u64, collateral: &Sums, abilities: &[(Vendor, Ability)], at: UnixTime) -> String {
        self.log_entries.set(log_entries);
        for (vendor, ability) in abilities {
            let verifiable = u64::from(!matches!(ability, Ability::No(_)));
            self.verifiable.get_or_create(&[("vendor", vendor.as_str())]).set(verifiable);
        }
        self.expiry.clear();
        for kind in PieceKey::KINDS {
            let (count, earliest) = collateral.get(kind).map_or((0, None), |(count, earliest)| (*count, Some(*earliest)));
            self.pieces.get_or_create(&[("kind", kind)]).set(u64::try_from(count).unwrap_or(u64::MAX));
            if let Some(earliest) = earliest {
                let seconds = |duration: std::time::Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
                self.expiry.get_or_create(&[("kind", kind)]).set(seconds(earliest.since(at)) - seconds(at.since(earliest)));
            }
        }
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_counted_by_its_reason() {
        let metrics = Metrics::new(&Counters::default());
        metrics.count("refused", "snp-measurement");
        metrics.count("refused", "snp-measurement");
        let at = UnixTime::from_seconds(1_800_000_000);
        let sums = Sums::from([("amd-crl", (2, UnixTime::from_seconds(1_799_999_990)))]);
        let abilities = [(Vendor::Amd, Ability::Until(at)), (Vendor::Intel, Ability::No("no list"))];
        let text = metrics.text(7, &sums, &abilities, at);
        assert!(text.contains("portcullis_collateral_verifiable{vendor=\"amd\"} 1"), "{text}");
        assert!(text.contains("portcullis_collateral_verifiable{vendor=\"intel\"} 0"), "{text}");
        assert!(text.contains("portcullis_collateral_pieces{kind=\"amd-crl\"} 2"), "{text}");
        assert!(text.contains("portcullis_collateral_expiry_seconds{kind=\"amd-crl\"} -10"), "{text}");
        assert!(text.contains("portcullis_collateral_pieces{kind=\"vcek\"} 0"), "{text}");
        assert!(!text.contains("expiry_seconds{kind=\"vcek\"}"), "what is not there does not expire");
        assert!(text.contains("portcullis_decisions_total{outcome=\"refused\",reason=\"snp-measurement\"} 2"), "{text}");
        assert!(text.contains("portcullis_log_entries 7"), "{text}");
    }
}
