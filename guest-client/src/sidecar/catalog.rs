//! The models and how each stands: written by the keeper and the openers, read by everybody else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::ids::{Digest, Name, Version};
use protocol::keys::PublicKey;
use protocol::messages::Reason;
use protocol::time::UnixTime;
use serde::Serialize;
use tokio::sync::watch;

use super::config::{OnExpiry, SidecarConfig, Wanted, Way};
use super::lease::Lease;
use super::place;
use crate::clock::{self, Moment};
use crate::report::plain;

/// Codes of denials that are counted apart; more are counted as `other`, so that nobody makes series grow.
const CODES: usize = 64;

/// How a version stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Phase {
    /// Being opened.
    Opening {
        /// Plaintext bytes written.
        done: u64,
        /// Plaintext bytes in all; 0 while that is unknown.
        total: u64,
    },
    /// Its files can be read.
    Open {
        /// Its files.
        files: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// No longer wanted; held until nobody has it open.
    Held,
    /// Left by an earlier life of the sidecar; the broker has not answered yet.
    Left,
    /// It could not be opened; tried again later.
    Failed {
        /// Why.
        why: String,
    },
}

/// A version of a model.
#[derive(Clone, Debug, Serialize)]
pub struct VersionView {
    /// The version.
    pub version: Version,
    /// How it stands.
    #[serde(flatten)]
    pub phase: Phase,
    /// Where its files are.
    pub path: PathBuf,
    /// How it is opened.
    pub way: Way,
    /// The digest of the manifest that was released.
    pub manifest: Digest,
    /// Who published it.
    pub publisher: PublicKey,
    /// Chunks or files that were not what was sealed.
    pub tampered: u64,
}

/// The last answer about a model that was no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Denial {
    /// The first failing check.
    pub code: String,
    /// What was found, or what happened.
    pub found: String,
    /// What may help.
    pub hint: String,
    /// The decision that the operator can look up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
}

impl Denial {
    /// By the first reason that a decision gives.
    #[must_use]
    pub fn new(reason: Option<Reason>, decision: &str) -> Self {
        let reason = reason.unwrap_or_else(|| Reason { code: "refused".to_owned(), found: String::new(), hint: String::new() });
        Self { code: reason.code, found: reason.found, hint: reason.hint, decision: Some(decision.to_owned()) }
    }
}

/// A model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelView {
    /// Its name.
    pub name: Name,
    /// The version asked for; without it, the highest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Version>,
    /// The model that it is an adapter of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Name>,
    /// The version that the link leads to.
    pub current: Option<Version>,
    /// Where the link is.
    pub link: PathBuf,
    /// The broker's last permit for the current version, or for the one that was current last.
    pub lease: Option<Lease>,
    /// Whether it was found to have run out, and done what that does.
    pub expired: bool,
    /// The last answer, if it was no.
    pub denial: Option<Denial>,
    /// Its versions.
    pub versions: Vec<VersionView>,
}

impl ModelView {
    fn new(wanted: &Wanted, models: &Path) -> Self {
        Self {
            name: wanted.name.clone(),
            wanted: wanted.version,
            base: wanted.base.clone(),
            current: None,
            link: place::current(models, &wanted.name),
            lease: None,
            expired: false,
            denial: None,
            versions: Vec::new(),
        }
    }

    /// Whether the permit has run out, also where nobody has acted on it yet.
    #[must_use]
    pub fn is_expired(&self, at: Moment) -> bool {
        self.expired || self.lease.is_some_and(|lease| lease.is_over(at))
    }

    /// How the current version stands.
    #[must_use]
    pub fn current(&self) -> Option<&VersionView> {
        self.versions.iter().find(|version| Some(version.version) == self.current)
    }

    /// Shows how a version stands, in the place of how it stood.
    pub fn show(&mut self, view: VersionView) {
        match self.version_mut(view.version) {
            Some(shown) => *shown = VersionView { tampered: shown.tampered, ..view },
            None => self.versions.push(view),
        }
    }

    /// The version, if it is known.
    pub fn version_mut(&mut self, version: Version) -> Option<&mut VersionView> {
        self.versions.iter_mut().find(|view| view.version == version)
    }
}

/// What is counted over all models.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Refusals by code.
    pub denials: BTreeMap<String, u64>,
    /// Exchanges that nobody answered.
    pub outages: u64,
    /// Answers that were not believed.
    pub untrusted: u64,
    /// Exchanges that were answered.
    pub answered: u64,
    /// Plaintext bytes that were written by opening.
    pub opened_bytes: u64,
    /// Seconds that opening took.
    pub opening: Duration,
    /// Plaintext bytes that mounts gave to readers.
    pub mounted_bytes: u64,
    /// Chunks or files that were not what was sealed, by model.
    pub tampered: BTreeMap<String, u64>,
}

struct State {
    models: BTreeMap<Name, ModelView>,
    counts: Counts,
    /// Whether every configured model was open at one time.
    started: bool,
    configured: Vec<Name>,
    last_answer: Option<Instant>,
}

/// The models and how each stands.
pub struct Catalog {
    state: Mutex<State>,
    changes: watch::Sender<()>,
    on_expiry: OnExpiry,
}

/// What readiness says of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unready {
    /// The model.
    pub model: Name,
    /// A stable code.
    pub code: &'static str,
}

impl Catalog {
    /// Of the models that are configured, none of which is open.
    #[must_use]
    pub fn new(config: &SidecarConfig) -> Self {
        // Without a folder for them, none is configured.
        let wanted = config.models.iter().flat_map(|models| config.wanted.iter().map(move |wanted| (models, wanted)));
        let models = wanted.map(|(models, wanted)| (wanted.name.clone(), ModelView::new(wanted, models))).collect();
        let configured: Vec<Name> = config.wanted.iter().map(|wanted| wanted.name.clone()).collect();
        let started = configured.is_empty();
        let state = State { models, counts: Counts::default(), started, configured, last_answer: None };
        Self { state: Mutex::new(state), changes: watch::Sender::new(()), on_expiry: config.on_expiry }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let changed = change(&mut state);
        let all_open = |name: &Name| state.models.get(name).is_some_and(|model| model.current.is_some());
        state.started = state.started || state.configured.iter().all(all_open);
        drop(state);
        self.changes.send_replace(());
        changed
    }

    /// Learns of changes, for whoever waits for one.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The models by name.
    #[must_use]
    pub fn list(&self) -> Vec<ModelView> {
        self.state().models.values().cloned().collect()
    }

    /// One model.
    #[must_use]
    pub fn model(&self, name: &Name) -> Option<ModelView> {
        self.state().models.get(name).cloned()
    }

    /// What is counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state().counts.clone()
    }

    /// How long ago the broker last answered.
    #[must_use]
    pub fn since_answer(&self) -> Option<Duration> {
        self.state().last_answer.map(|at| at.elapsed())
    }

    /// Whether every configured model was open at one time.
    #[must_use]
    pub fn started(&self) -> bool {
        self.state().started
    }

    /// The models that are not as they should be; empty where everything can be read. A model that was added later counts from when
    /// it was first open: adding one makes no pod unready. A lease ends by the clocks, whether the keeper has come to it or not.
    #[must_use]
    pub fn unready(&self, at: Moment) -> Vec<Unready> {
        let state = self.state();
        let why = |model: &ModelView| match model.current() {
            _ if model.is_expired(at) && self.on_expiry != OnExpiry::Keep => Some("lease-expired"),
            None if state.configured.contains(&model.name) => Some("not-open"),
            _ => None,
        };
        state.models.values().filter_map(|model| Some(Unready { model: model.name.clone(), code: why(model)? })).collect()
    }

    /// Takes a model in, which is to appear under the folder `models`, or takes up what is wanted of it now.
    pub fn want(&self, wanted: &Wanted, models: &Path) {
        self.change(|state| {
            let model = state.models.entry(wanted.name.clone()).or_insert_with(|| ModelView::new(wanted, models));
            (model.wanted, model.base) = (wanted.version, wanted.base.clone());
        });
    }

    /// Forgets a model.
    pub fn forget(&self, name: &Name) {
        self.change(|state| {
            state.models.remove(name);
            state.configured.retain(|configured| configured != name);
        });
    }

    /// Changes what is known of a model, if it is known.
    pub fn update(&self, name: &Name, update: impl FnOnce(&mut ModelView)) {
        self.change(|state| {
            if let Some(model) = state.models.get_mut(name) {
                update(model);
            }
        });
    }

    /// Notes how far an opening is. Does not wake whoever waits for changes.
    pub fn progress(&self, name: &Name, version: Version, done: u64, total: u64) {
        if let Some(view) = self.state().models.get_mut(name).and_then(|model| model.version_mut(version)) {
            view.phase = Phase::Opening { done, total };
        }
    }

    /// A permit for the current version.
    pub fn permitted(&self, name: &Name, lease: Lease) {
        self.update(name, |model| (model.lease, model.expired) = (Some(lease), false));
    }

    /// The last answer about a model was no longer no.
    pub fn no_longer_denied(&self, name: &Name) {
        self.update(name, |model| model.denial = None);
    }

    /// A no.
    pub fn denied(&self, name: &Name, denial: &Denial) {
        self.change(|state| {
            let code = plain(&denial.code);
            let known = state.counts.denials.len() < CODES || state.counts.denials.contains_key(&code);
            *state.counts.denials.entry(if known { code } else { "other".to_owned() }).or_default() += 1;
            if let Some(model) = state.models.get_mut(name) {
                model.denial = Some(denial.clone());
            }
        });
    }

    /// Counts something.
    pub fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.state().counts);
    }

    /// The broker has answered.
    pub fn answered(&self) {
        let mut state = self.state();
        state.counts.answered += 1;
        state.last_answer = Some(Instant::now());
    }

    /// Something of a model was not what was sealed.
    pub fn tampered(&self, name: &Name, version: Version) {
        self.change(|state| {
            *state.counts.tampered.entry(name.to_string()).or_default() += 1;
            if let Some(view) = state.models.get_mut(name).and_then(|model| model.version_mut(version)) {
                view.tampered += 1;
            }
        });
    }
}

/// Seconds until a lease runs out, negative behind it.
#[must_use]
pub fn seconds_left(lease: UnixTime) -> i64 {
    let difference = |later: UnixTime, earlier: UnixTime| i64::try_from(later.since(earlier).as_secs()).unwrap_or(i64::MAX);
    difference(lease, clock::now()) - difference(clock::now(), lease)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(more: &str) -> Catalog {
        let model = "[[model]]\nname = \"acme/a\"\nsealed = \"/s\"\n";
        Catalog::new(&SidecarConfig::parse(&format!("models = \"/models\"\n{more}{model}")).unwrap())
    }

    fn wanted(name: &str) -> Wanted {
        Wanted { name: name.parse().unwrap(), version: None, sealed: "/s".into(), base: None, way: None }
    }

    fn codes(catalog: &Catalog) -> Vec<&'static str> {
        catalog.unready(clock::moment()).into_iter().map(|unready| unready.code).collect()
    }

    fn open(catalog: &Catalog, name: &str) {
        catalog.update(&name.parse().unwrap(), |model| {
            let version = Version::FIRST;
            let (manifest, publisher) = (Digest::from([0; 32]), PublicKey::from_bytes([0; 32]));
            let phase = Phase::Open { files: 1, bytes: 1 };
            model.versions.push(VersionView { version, phase, path: "/p".into(), way: Way::Open, manifest, publisher, tampered: 0 });
            model.current = Some(version);
        });
    }

    #[test]
    fn a_pod_is_started_once_and_ready_while_its_models_can_be_read() {
        let catalog = catalog("");
        let name: Name = "acme/a".parse().unwrap();
        assert_eq!((catalog.started(), codes(&catalog)), (false, vec!["not-open"]));
        open(&catalog, "acme/a");
        assert_eq!((catalog.started(), codes(&catalog)), (true, vec![]));
        catalog.want(&wanted("acme/b"), Path::new("/models"));
        assert_eq!(codes(&catalog), Vec::<&str>::new(), "a model that was added makes no pod unready");
        catalog.update(&name, |model| model.expired = true);
        assert_eq!((catalog.started(), codes(&catalog)), (true, vec!["lease-expired"]));
        let at = clock::moment();
        catalog.permitted(&name, Lease::new(at.wall.plus(Duration::from_secs(60)), at));
        assert_eq!(codes(&catalog), Vec::<&str>::new());
        catalog.update(&name, |model| model.current = None);
        assert_eq!((catalog.started(), codes(&catalog)), (true, vec!["not-open"]));
        catalog.forget(&name);
        assert_eq!(codes(&catalog), Vec::<&str>::new());
    }

    #[test]
    fn a_lease_ends_by_the_clock_also_where_nobody_comes_to_it() {
        let catalog = catalog("");
        open(&catalog, "acme/a");
        let at = clock::moment();
        catalog.permitted(&"acme/a".parse().unwrap(), Lease::new(at.wall.plus(Duration::from_secs(60)), at));
        let after = |seconds| Moment { wall: at.wall, boot: at.boot + Duration::from_secs(seconds) };
        assert!(catalog.unready(after(60)).is_empty());
        assert_eq!(catalog.unready(after(61))[0].code, "lease-expired");
    }

    #[test]
    fn who_keeps_expired_models_stays_ready() {
        let catalog = catalog("on-expiry = \"keep\"\n");
        open(&catalog, "acme/a");
        catalog.update(&"acme/a".parse().unwrap(), |model| model.expired = true);
        assert_eq!(codes(&catalog), Vec::<&str>::new());
    }

    #[test]
    fn denials_are_counted_by_a_bounded_number_of_codes() {
        let catalog = catalog("");
        let name: Name = "acme/a".parse().unwrap();
        for at in 0..CODES + 10 {
            let denial = Denial { code: format!("code-{at}"), found: String::new(), hint: String::new(), decision: None };
            catalog.denied(&name, &denial);
        }
        let denials = catalog.counts().denials;
        assert_eq!((denials.len(), denials["other"]), (CODES + 1, 10));
        assert_eq!(catalog.model(&name).unwrap().denial.unwrap().code, format!("code-{}", CODES + 9));
    }

    #[test]
    fn a_lease_is_counted_down_below_zero() {
        assert!((58..=60).contains(&seconds_left(clock::now().plus(Duration::from_secs(60)))));
        let past = UnixTime::from_seconds(clock::now().seconds() - 60);
        assert!((-62..=-60).contains(&seconds_left(past)));
    }
}
