//! What `/metrics` shows: few labels, each of few values, so that no caller can make a series grow.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

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
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("portcullis");
        let decisions = Family::default();
        registry.register("decisions", "Items and requests by outcome and first reason", decisions.clone());
        let seconds = Histogram::new([0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0]);
        registry.register_with_unit("release", "How long release requests took", Unit::Seconds, seconds.clone());
        let log_entries = Gauge::default();
        registry.register("log_entries", "Entries of the audit log", log_entries.clone());
        let documents = Family::default();
        registry.register("documents_put", "Documents put in force, by type", documents.clone());
        Self { registry, decisions, seconds, log_entries, documents }
    }
}

impl Metrics {
    /// Counts an outcome: `granted`, `permitted`, `refused` or `rejected`, with the first reason where there is one.
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

    /// The text form. `log_entries` is read at this moment.
    #[must_use]
    pub fn text(&self, log_entries: u64) -> String {
        self.log_entries.set(log_entries);
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
        let metrics = Metrics::default();
        metrics.count("refused", "snp-measurement");
        metrics.count("refused", "snp-measurement");
        let text = metrics.text(7);
        assert!(text.contains("portcullis_decisions_total{outcome=\"refused\",reason=\"snp-measurement\"} 2"), "{text}");
        assert!(text.contains("portcullis_log_entries 7"), "{text}");
    }
}
