//! What `/metrics` shows, made anew for each scrape from what the catalog knows.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::catalog::{Phase, seconds_left};
use super::credentials::CredentialView;
use super::shown::Shown;
use crate::clock;
use crate::identity::view::{Standing, View};
use crate::proxy::counts::register;

/// One label and its value. Models are at most [`super::config::MODELS`], credentials as many, codes are bounded by the catalog.
type Label = [(&'static str, String); 1];

/// The text form.
#[must_use]
pub fn text(shown: &Shown) -> String {
    let catalog = &shown.catalog;
    let mut registry = Registry::with_prefix("portcullis_sidecar");
    let (models, counts, at) = (catalog.list(), catalog.counts(), clock::moment());

    let lease = Family::<Label, Gauge<i64, AtomicI64>>::default();
    let open = Family::<Label, Gauge<u64, AtomicU64>>::default();
    let version = Family::<Label, Gauge<u64, AtomicU64>>::default();
    let held = Family::<Label, Gauge<u64, AtomicU64>>::default();
    let opening = Family::<Label, Gauge<u64, AtomicU64>>::default();
    for model in &models {
        let label = || [("model", model.name.to_string())];
        if let Some(held) = model.lease {
            lease.get_or_create(&label()).set(held.seconds_left(at));
        }
        open.get_or_create(&label()).set(u64::from(model.current().is_some_and(|view| matches!(view.phase, Phase::Open { .. }))));
        version.get_or_create(&label()).set(model.current.map_or(0, protocol::ids::Version::number));
        let count = model.versions.iter().filter(|view| view.phase == Phase::Held).count();
        held.get_or_create(&label()).set(u64::try_from(count).unwrap_or(u64::MAX));
        for view in &model.versions {
            if let Phase::Opening { done, .. } = view.phase {
                opening.get_or_create(&label()).set(done);
            }
        }
    }
    registry.register_with_unit("lease", "Until the broker's permit runs out; negative once it has", Unit::Seconds, lease);
    registry.register("model_open", "Whether the current version can be read", open);
    registry.register("model_version", "The current version, 0 where there is none", version);
    registry.register("versions_held", "Versions that are no longer current and still open somewhere", held);
    registry.register_with_unit("opening", "Plaintext written of the version that is being opened", Unit::Bytes, opening);

    identity(&mut registry, &shown.identities);
    credential(&mut registry, &shown.credentials.views());
    let denials = Family::<Label, Counter>::default();
    for (code, number) in &counts.denials {
        denials.get_or_create(&[("reason", code.clone())]).inc_by(*number);
    }
    registry.register("denials", "Refusals by the first failing check", denials);
    let tampered = Family::<Label, Counter>::default();
    for (model, number) in &counts.tampered {
        tampered.get_or_create(&[("model", model.clone())]).inc_by(*number);
    }
    registry.register("tampered", "Chunks or files in storage that were not what was sealed", tampered);

    let counter = |number: u64| {
        let counter = Counter::<u64>::default();
        counter.inc_by(number);
        counter
    };
    registry.register("exchanges", "Exchanges that the broker answered", counter(counts.answered));
    registry.register("outages", "Exchanges that nobody answered", counter(counts.outages));
    registry.register("untrusted_answers", "Answers that were not believed", counter(counts.untrusted));
    registry.register_with_unit("opened", "Plaintext that opening has written", Unit::Bytes, counter(counts.opened_bytes));
    registry.register_with_unit(
        "mounted_reads",
        "Plaintext that mounts have given to the page cache",
        Unit::Bytes,
        counter(counts.mounted_bytes),
    );
    let rate = Gauge::<f64, AtomicU64>::default();
    let seconds = counts.opening.as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    rate.set(if seconds > 0.0 { counts.opened_bytes as f64 / seconds } else { 0.0 });
    registry.register("opening_bytes_per_second", "The mean rate of all openings", rate);
    if let Some(since) = catalog.since_answer() {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(since.as_secs_f64());
        registry.register_with_unit("since_answer", "Since the broker last answered", Unit::Seconds, gauge);
    }
    let ready = Gauge::<u64, AtomicU64>::default();
    let missing = !shown.missing_credentials().is_empty() || !shown.missing_identities().is_empty();
    ready.set(u64::from(catalog.started() && catalog.unready(at).is_empty() && !missing));
    registry.register("ready", "Whether every model, credential and identity is as it should be", ready);

    register(&mut registry, &shown.proxies);

    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = encode(&mut text, &registry);
    text
}

/// How long credentials may be used, and which there are none of.
fn credential(registry: &mut Registry, credentials: &[CredentialView]) {
    let lease = Family::<Label, Gauge<i64, AtomicI64>>::default();
    let held = Family::<Label, Gauge<u64, AtomicU64>>::default();
    let version = Family::<Label, Gauge<u64, AtomicU64>>::default();
    for view in credentials {
        let label = || [("credential", view.name.to_string())];
        if let Some(until) = view.lease {
            lease.get_or_create(&label()).set(seconds_left(until));
        }
        held.get_or_create(&label()).set(u64::from(view.is_held()));
        version.get_or_create(&label()).set(view.version.filter(|_| view.is_held()).map_or(0, protocol::ids::Version::number));
    }
    registry.register_with_unit("credential_lease", "Until the broker's permit for a credential runs out", Unit::Seconds, lease);
    registry.register("credential_held", "Whether a credential may be used", held);
    registry.register("credential_version", "The version that is held, 0 where there is none", version);
}

/// How long identities hold, and which there are none of.
fn identity(registry: &mut Registry, identities: &[View]) {
    let held = Family::<Label, Gauge<u64, AtomicU64>>::default();
    let left = Family::<Label, Gauge<i64, AtomicI64>>::default();
    for view in identities {
        let label = || [("identity", view.policy.to_string())];
        let standing = view.standing();
        held.get_or_create(&label()).set(u64::from(matches!(standing, Standing::Identified(_))));
        if let Standing::Identified(identity) = standing {
            left.get_or_create(&label()).set(seconds_left(identity.until()));
        }
    }
    registry.register("identity_held", "Whether there is an identity", held);
    registry.register_with_unit("identity", "Until an identity runs out, if it is not renewed", Unit::Seconds, left);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::catalog::{Catalog, Denial};
    use crate::sidecar::config::SidecarConfig;
    use crate::sidecar::lease::Lease;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn leases_denials_and_tampering_are_shown() {
        let text_of = "models = \"/m\"\n[[model]]\nname = \"acme/a\"\nsealed = \"/s\"\n";
        let catalog = Arc::new(Catalog::new(&SidecarConfig::parse(text_of).unwrap()));
        let name = "acme/a".parse().unwrap();
        let at = clock::moment();
        catalog.permitted(&name, Lease::new(at.wall.plus(Duration::from_secs(1000)), at));
        let denial = Denial { code: "snp-measurement".into(), found: String::new(), hint: String::new(), decision: None };
        catalog.denied(&name, &denial);
        catalog.tampered(&name, protocol::ids::Version::FIRST);
        let text = text(&Shown::models(catalog));
        for line in [
            "portcullis_sidecar_denials_total{reason=\"snp-measurement\"} 1",
            "portcullis_sidecar_tampered_total{model=\"acme/a\"} 1",
            "portcullis_sidecar_model_open{model=\"acme/a\"} 0",
            "portcullis_sidecar_ready 0",
        ] {
            assert!(text.contains(line), "{line}:\n{text}");
        }
        assert!(text.contains("portcullis_sidecar_lease_seconds{model=\"acme/a\"} 99") || text.contains("} 1000"), "{text}");
    }
}
