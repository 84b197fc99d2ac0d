//! What the keeper holds in plaintext, from the first byte to the last: versions that are being opened, that are open, and that are leaving.
//!
//! ```text
//!            begin           opened, linked            another is current             nobody uses it
//! released ────────► opening ───────────────► current ───────────────────► leaving ────────────────────► put away
//!  an earlier life's ────── noted ────────────► held ──┘  ended lease, `remove` ──► forced, until it succeeds ─┘
//! ```
//!
//! Every version under the folder of models is in one of these books at any time, each under a lease of its own. An opening has a number, and
//! what it says later is heard by that number: a model may have been removed and added again meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use models_manifest::ModelKey;
use models_manifest::folder::remove_abandoned;
use protocol::ids::{Digest, Name, Version};
use protocol::keys::PublicKey;
use protocol::time::UnixTime;

use super::catalog::{Phase, VersionView};
use super::config::{OnExpiry, Wanted};
use super::hook::Change;
use super::keeper::{FIRST_BACKOFF, Keeping, LONGEST_BACKOFF, Order, Refused, TICK};
use super::lease::Lease;
use super::notes::Under;
use super::place::{self, Found};
use super::version::{Ending, OpenFailed, OpenVersion, Opening};
use crate::clock;

/// A version that is no longer current keeps its name for this long at least: a loader that found it still opens its files.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// How long what cannot be put away is tried at the end, and openings are waited for.
const FAREWELL: Duration = Duration::from_secs(60);

/// The number of an opening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpeningId(u64);

/// A model as the keeper keeps it.
pub(super) struct Kept {
    pub(super) wanted: Wanted,
    pub(super) current: Option<Version>,
    /// What lies there and is not leaving: the current version; before there is one, what an earlier life left.
    pub(super) held: BTreeMap<Version, Held>,
    pub(super) opening: Option<OpeningId>,
    /// Whether what was current last has run out.
    pub(super) expired: bool,
    pub(super) failures: u32,
    /// When it may be opened again after a failure.
    pub(super) not_before: Option<Instant>,
}

impl Kept {
    pub(super) const fn new(wanted: Wanted) -> Self {
        Self { wanted, current: None, held: BTreeMap::new(), opening: None, expired: false, failures: 0, not_before: None }
    }

    /// Takes up what is wanted of it now.
    pub(super) fn want(&mut self, wanted: Wanted) {
        (self.wanted, self.failures, self.not_before) = (wanted, 0, None);
    }

    /// Whether a key may be asked for now.
    pub(super) fn may_open(&self) -> bool {
        self.opening.is_none() && self.not_before.is_none_or(|time| Instant::now() >= time)
    }
}

/// A version that lies there in plaintext.
pub(super) struct Held {
    pub(super) open: OpenVersion,
    /// The opening that it comes from.
    pub(super) id: OpeningId,
    pub(super) lease: Lease,
    /// Whether the last answer about it was no.
    pub(super) denied: bool,
    /// Whether its lease was found to have run out.
    pub(super) expired: bool,
}

impl Held {
    pub(super) const fn new(open: OpenVersion, id: OpeningId, lease: Lease) -> Self {
        Self { open, id, lease, denied: false, expired: false }
    }
}

/// A version that is no longer wanted.
pub(super) struct Leaving {
    pub(super) name: Name,
    pub(super) version: Version,
    pub(super) held: Held,
    /// Since when.
    pub(super) since: Instant,
    /// Whoever uses it.
    pub(super) forced: bool,
}

/// An opening that has not ended yet.
pub(super) struct Underway {
    pub(super) name: Name,
    pub(super) version: Version,
    pub(super) lease: Lease,
    pub(super) ending: Arc<Ending>,
    /// The exit code of its mount server, where that ended first.
    pub(super) server_ended: Option<i32>,
}

/// What was released of a version.
pub(super) struct Released {
    pub(super) key: ModelKey,
    pub(super) manifest: Digest,
    pub(super) publisher: PublicKey,
    /// The last second at which that is permitted.
    pub(super) until: UnixTime,
}

/// Tells the keeper how an opening ended, however it did.
pub(super) struct Report {
    orders: SyncSender<Order>,
    id: OpeningId,
    opened: Option<Result<OpenVersion, OpenFailed>>,
}

impl Report {
    /// Opens, and tells of it, also where that panics.
    pub(super) fn of(orders: SyncSender<Order>, id: OpeningId, open: impl FnOnce() -> Result<OpenVersion, OpenFailed>) {
        let mut report = Self { orders, id, opened: None };
        report.opened = Some(open());
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let opened = self.opened.take().unwrap_or(Err(OpenFailed::BrokeOff));
        // Where the keeper has ended, nobody needs to know.
        let _ = self.orders.send(Order::Opened(self.id, Box::new(opened)));
    }
}

impl Keeping {
    /// Takes in what an earlier life left: what is noted, under the lease that is noted. Anything else is removed.
    pub(super) fn take_in(&mut self, found: &Found) {
        let at = clock::moment();
        for (name, version) in &found.versions {
            let path = place::version(self.notes.models(), name, *version);
            let left = self.notes.read(name, *version).and_then(|note| {
                let open = OpenVersion::left(path.clone(), &note, self.guest.plaintext)?;
                Some(Held::new(open, self.next_id(), note.lease(at)))
            });
            match left {
                Some(held) => self.take_in_version(name, *version, held),
                None => {
                    tracing::warn!(model = %name, %version, "an earlier life left it, and no note that is believed; it is removed");
                    let id = self.next_id();
                    let open = OpenVersion::leftover(path);
                    self.put_away(name, *version, Held::new(open, id, Lease::new(at.wall, at)));
                }
            }
        }
        let is_held = |name: &Name| self.models.get(name).is_some_and(|kept| !kept.held.is_empty());
        found.links.iter().filter(|name| !is_held(name)).for_each(|name| self.drop_link(name));
        for folder in &found.folders {
            match remove_abandoned(folder) {
                Ok(0) => {}
                Ok(removed) => {
                    tracing::warn!(folder = %folder.display(), removed, "openings that were killed have left plaintext; it is removed")
                }
                Err(error) => {
                    tracing::error!(folder = %folder.display(), %error, "what openings that were killed have left cannot be removed")
                }
            }
        }
        let held = self.models.iter().flat_map(|(name, kept)| kept.held.keys().map(|version| (name.clone(), *version)));
        let leaving = self.leaving.iter().filter(|leaving| !leaving.forced).map(|leaving| (leaving.name.clone(), leaving.version));
        if let Err(error) = self.notes.keep_only(&held.chain(leaving).collect::<Vec<_>>()) {
            tracing::warn!(%error, "old notes cannot be removed");
        }
    }

    fn take_in_version(&mut self, name: &Name, version: Version, held: Held) {
        tracing::info!(model = %name, %version, lease = %held.lease.until(), "an earlier life left it whole; taken in under its lease");
        let Some(kept) = self.models.get_mut(name) else {
            return self.leave(name, BTreeMap::from([(version, held)]));
        };
        let view = view(version, &held.open, Phase::Left);
        kept.held.insert(version, held);
        self.catalog.update(name, |model| model.show(view));
    }

    const fn next_id(&mut self) -> OpeningId {
        self.last.0 = self.last.0.wrapping_add(1);
        self.last
    }

    /// What the broker is to be asked about by its number: what lies there or is being opened of models that are kept.
    pub(super) fn asked_about(&self) -> impl Iterator<Item = (&Name, Version, Lease)> {
        let held = self.models.iter().flat_map(|(name, kept)| kept.held.iter().map(move |(version, held)| (name, *version, held.lease)));
        let opening = self.models.values().filter_map(|kept| self.openings.get(&kept.opening?));
        let leaving = self.leaving.iter().filter(|leaving| !leaving.forced && self.models.contains_key(&leaving.name));
        held.chain(opening.map(|opening| (&opening.name, opening.version, opening.lease)))
            .chain(leaving.map(|leaving| (&leaving.name, leaving.version, leaving.held.lease)))
    }

    /// A version that is held, or leaving in peace.
    pub(super) fn held_mut(&mut self, name: &Name, version: Version) -> Option<&mut Held> {
        let held = self.models.get_mut(name).and_then(|kept| kept.held.get_mut(&version));
        let is_it = |leaving: &&mut Leaving| leaving.name == *name && leaving.version == version && !leaving.forced;
        held.or_else(|| self.leaving.iter_mut().find(is_it).map(|leaving| &mut leaving.held))
    }

    /// Whether the last answer about it was no.
    pub(super) fn is_denied(&self, name: &Name, version: Version) -> bool {
        let held = self.models.get(name).and_then(|kept| kept.held.get(&version));
        let mut leaving = self.leaving.iter().filter(|leaving| leaving.name == *name && leaving.version == version);
        held.or_else(|| leaving.next().map(|leaving| &leaving.held)).is_some_and(|held| held.denied)
    }

    /// Notes under which lease a version lies there. Without a note, whoever comes after us opens it anew.
    pub(super) fn note(&mut self, name: &Name, version: Version) {
        let Some(note) = self.held_mut(name, version).map(|held| held.open.note(&held.lease)) else { return };
        if let Err(error) = self.notes.write(name, version, &note) {
            tracing::warn!(model = %name, %version, %error, "it cannot be noted; after a restart it is opened anew");
        }
    }

    /// No longer keeps a model. What of it is in use stays until that ends, or its lease.
    pub(super) fn remove(&mut self, name: &Name) -> Result<(), Refused> {
        if let Some((adapter, _)) = self.models.iter().find(|(_, kept)| kept.wanted.base.as_ref() == Some(name)) {
            return Err(Refused::HasAdapters { name: name.clone(), adapter: adapter.clone() });
        }
        let Some(kept) = self.models.remove(name) else { return Err(Refused::NoSuchModel { name: name.clone() }) };
        if let Some(opening) = kept.opening.and_then(|id| self.openings.get(&id)) {
            opening.ending.end();
        }
        self.drop_link(name);
        self.leave(name, kept.held);
        self.catalog.forget(name);
        Ok(())
    }

    /// Starts to open a version, or takes it back as it lies there.
    pub(super) fn begin(&mut self, name: &Name, version: Version, released: Released) {
        let Released { key, manifest, publisher, until } = released;
        let Some(kept) = self.models.get(name).filter(|kept| kept.opening.is_none() && kept.current != Some(version)) else { return };
        if self.openings.values().any(|opening| opening.name == *name && opening.version == version) {
            // One that was given up is about to end; what it says then asks again.
            return;
        }
        let (way, sealed) = (kept.wanted.way.unwrap_or(self.sidecar.way), kept.wanted.sealed(version));
        let signer = self.guest.model_signer(name).cloned();
        let under = Under::new(manifest, publisher, signer.as_ref(), way);
        let lease = Lease::new(until, clock::moment());
        if let Some((held, forced)) = self.take_back(name, version) {
            if !forced && held.open.is_whole() && held.open.under == under {
                return self.make_current(name, version, Held::new(held.open, held.id, lease));
            }
            if !self.put_away(name, version, held) {
                return self.not_opened(name, version, &OpenFailed::Occupied);
            }
        }
        let (id, ending) = (self.next_id(), Arc::default());
        let path = place::version(self.notes.models(), name, version);
        let phase = Phase::Opening { done: 0, total: 0 };
        self.catalog.update(name, |model| model.show(VersionView { version, phase, path, way, manifest, publisher, tampered: 0 }));
        let opening = Opening {
            name: name.clone(),
            version,
            key,
            under,
            sealed,
            storage: self.guest.storage.clone(),
            signer,
            models: self.notes.models().to_owned(),
            plaintext: self.guest.plaintext,
            rooms: Arc::clone(&self.rooms),
            ending: Arc::clone(&ending),
        };
        self.openings.insert(id, Underway { name: name.clone(), version, lease, ending, server_ended: None });
        if let Some(kept) = self.models.get_mut(name) {
            kept.opening = Some(id);
        }
        tracing::info!(model = %name, %version, ?way, "opening");
        let (catalog, orders) = (Arc::clone(&self.catalog), self.orders.clone());
        let work = move || {
            let ends = orders.clone();
            // Where the keeper has ended, nobody needs to know.
            Report::of(orders, id, || opening.open(&catalog, move |code| drop(ends.send(Order::MountEnded(id, code)))));
        };
        if let Err(error) = std::thread::Builder::new().name("opening".to_owned()).spawn(work) {
            self.opened(id, Err(OpenFailed::Thread(error)));
        }
    }

    /// Takes a version that lies there out of the books; whether it was to be put away by force.
    fn take_back(&mut self, name: &Name, version: Version) -> Option<(Held, bool)> {
        if let Some(held) = self.models.get_mut(name).and_then(|kept| kept.held.remove(&version)) {
            return Some((held, false));
        }
        let at = self.leaving.iter().position(|leaving| leaving.name == *name && leaving.version == version)?;
        let Leaving { held, forced, .. } = self.leaving.swap_remove(at);
        Some((held, forced))
    }

    /// An opening has ended.
    pub(super) fn opened(&mut self, id: OpeningId, opened: Result<OpenVersion, OpenFailed>) {
        let Some(Underway { name, version, lease, ending, server_ended }) = self.openings.remove(&id) else { return };
        let kept = self.models.get_mut(&name).filter(|kept| kept.opening == Some(id));
        let is_wanted = kept.map(|kept| kept.opening = None).is_some();
        match (opened, server_ended) {
            (Ok(open), None) if is_wanted && !ending.is_asked() => self.make_current(&name, version, Held::new(open, id, lease)),
            (Ok(open), ended) => {
                self.put_away(&name, version, Held::new(open, id, lease));
                if let Some(code) = ended.filter(|_| is_wanted) {
                    return self.not_opened(&name, version, &OpenFailed::ServerEnded { code });
                }
                self.catalog.update(&name, |model| model.versions.retain(|view| view.version != version));
                self.ask_soon();
            }
            (Err(error), _) if is_wanted => self.not_opened(&name, version, &error),
            // It was given up. Whoever wants the same version again has waited for this.
            (Err(_), _) => self.ask_soon(),
        }
    }

    /// Points the link at a version; what was there before leaves.
    fn make_current(&mut self, name: &Name, version: Version, held: Held) {
        let (id, lease, path, files, bytes) = (held.id, held.lease, held.open.path.clone(), held.open.files, held.open.bytes);
        let shown = view(version, &held.open, Phase::Open { files, bytes });
        let Some(kept) = self.models.get_mut(name) else { return self.leave(name, BTreeMap::from([(version, held)])) };
        kept.held.insert(version, held);
        self.note(name, version);
        if let Err(error) = place::make_current(&self.notes, name, version) {
            // It lies there whole, and the next time it need not be opened.
            self.catalog.update(name, |model| model.show(shown));
            return self.not_opened(name, version, &OpenFailed::Link(error));
        }
        let Some(kept) = self.models.get_mut(name) else { return };
        (kept.failures, kept.not_before, kept.current) = (0, None, Some(version));
        let was_expired = std::mem::replace(&mut kept.expired, false);
        let old = kept.held.extract_if(.., |other, _| *other != version).collect();
        self.leave(name, old);
        self.catalog.update(name, |model| {
            model.versions.iter_mut().for_each(|view| view.phase = Phase::Held);
            model.show(shown);
            (model.current, model.lease, model.expired) = (Some(version), Some(lease), false);
        });
        tracing::info!(model = %name, %version, id = id.0, path = %path.display(), files, bytes, "open and current");
        self.hook.tell(Change::Current, name, Some(version), &path);
        if was_expired {
            self.permitted_again(name, Some(version), lease);
        }
        if self.models.values().any(|kept| kept.wanted.base.as_ref() == Some(name) && kept.current.is_none()) {
            self.ask_soon();
        }
    }

    pub(super) fn not_opened(&mut self, name: &Name, version: Version, error: &OpenFailed) {
        let Some(kept) = self.models.get_mut(name) else { return };
        let wait = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(kept.failures)).min(LONGEST_BACKOFF);
        kept.failures = kept.failures.saturating_add(1);
        let time = Instant::now() + wait;
        kept.not_before = Some(time);
        self.ask_at(time);
        tracing::error!(model = %name, %version, %error, "not opened; trying again in {} s", wait.as_secs());
        let why = error.to_string();
        self.catalog.update(name, |model| {
            if let Some(view) = model.version_mut(version) {
                view.phase = Phase::Failed { why };
            }
        });
        if error.is_tampering() {
            self.catalog.tampered(name, version);
        }
    }

    /// A mount server that ended by itself leaves a dead mount: the version is released and mounted again, where it is still wanted.
    pub(super) fn mount_ended(&mut self, id: OpeningId, code: i32) {
        if let Some(opening) = self.openings.get_mut(&id) {
            // It was faster than the word that it serves.
            opening.server_ended = Some(code);
            return;
        }
        self.leaving.iter_mut().filter(|leaving| leaving.held.id == id).for_each(|leaving| leaving.forced = true);
        let ended = self.models.iter().find_map(|(name, kept)| {
            let (version, _) = kept.held.iter().find(|(_, held)| held.id == id)?;
            Some((name.clone(), *version))
        });
        let Some((name, version)) = ended else { return };
        let Some((kept, held)) = self.models.get_mut(&name).and_then(|kept| kept.held.remove(&version).map(|held| (kept, held))) else {
            return;
        };
        tracing::error!(model = %name, %version, code, "the mount server has ended; mounting again");
        kept.current = kept.current.filter(|current| *current != version);
        self.put_away(&name, version, held);
        self.catalog.update(&name, |model| {
            model.current = model.current.filter(|current| *current != version);
            model.versions.retain(|view| view.version != version);
        });
        self.ask_soon();
    }

    /// Ends what has run out.
    pub(super) fn end_leases(&mut self) {
        let at = clock::moment();
        let held = self.models.iter().flat_map(|(name, kept)| kept.held.iter().map(move |(version, held)| (name, *version, held)));
        let over = held.filter(|(.., held)| !held.expired && held.lease.is_over(at));
        let over: Vec<(Name, Version)> = over.map(|(name, version, _)| (name.clone(), version)).collect();
        over.iter().for_each(|(name, version)| self.expire(name, *version));
        if self.sidecar.on_expiry == OnExpiry::Remove {
            self.openings.values().filter(|opening| opening.lease.is_over(at)).for_each(|opening| opening.ending.end());
            let leaving = self.leaving.iter_mut().filter(|leaving| leaving.held.lease.is_over(at));
            leaving.for_each(|leaving| leaving.forced = true);
            self.put_away_forced();
        }
    }

    fn expire(&mut self, name: &Name, version: Version) {
        let removes = self.sidecar.on_expiry == OnExpiry::Remove;
        let Some(kept) = self.models.get_mut(name) else { return };
        let Some(held) = kept.held.get_mut(&version) else { return };
        held.expired = true;
        let lease = held.lease;
        tracing::error!(model = %name, %version, what = ?self.sidecar.on_expiry, "the lease has run out");
        let is_current = kept.current.is_none_or(|current| current == version);
        kept.expired = kept.expired || is_current;
        let gone = if removes { kept.held.remove(&version) } else { None };
        if removes && is_current {
            kept.current = None;
            self.drop_link(name);
        }
        if let Some(held) = gone {
            self.put_away(name, version, held);
        }
        self.catalog.update(name, |model| {
            if is_current {
                (model.expired, model.lease) = (true, Some(lease));
            }
            if removes {
                model.current = model.current.filter(|current| *current != version);
                model.versions.retain(|view| view.version != version);
            }
        });
        if is_current {
            self.hook.tell(Change::Expired, name, Some(version), &place::current(self.notes.models(), name));
        }
    }

    fn leave(&mut self, name: &Name, versions: BTreeMap<Version, Held>) {
        let since = Instant::now();
        let leaving = versions.into_iter().map(|(version, held)| Leaving { name: name.clone(), version, held, since, forced: false });
        self.leaving.extend(leaving);
    }

    /// Puts a version away now, whoever uses it; whether it is gone. What is not gone is tried again until it is.
    fn put_away(&mut self, name: &Name, version: Version, held: Held) -> bool {
        match held.open.put_away(&self.notes, name, version) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(model = %name, %version, %error, "it cannot be put away; trying again");
                self.leaving.push(Leaving { name: name.clone(), version, held, since: Instant::now(), forced: true });
                false
            }
        }
    }

    fn put_away_forced(&mut self) {
        for Leaving { name, version, held, .. } in self.leaving.extract_if(.., |leaving| leaving.forced).collect::<Vec<_>>() {
            if self.put_away(&name, version, held) {
                tracing::info!(model = %name, %version, "put away");
                self.no_longer_held(&name, version);
            }
        }
    }

    /// Puts away what nobody has open any more, and tries again what is to go by force.
    pub(super) fn let_go(&mut self) {
        self.put_away_forced();
        let ripe = |leaving: &mut Leaving| !leaving.forced && leaving.since.elapsed() >= GRACE;
        for mut leaving in self.leaving.extract_if(.., ripe).collect::<Vec<_>>() {
            let (name, version) = (leaving.name.clone(), leaving.version);
            match leaving.held.open.is_idle() {
                Ok(false) => self.leaving.push(leaving),
                Ok(true) => {
                    let path = leaving.held.open.path.clone();
                    if self.put_away(&name, version, leaving.held) {
                        tracing::info!(model = %name, %version, "put away");
                        self.no_longer_held(&name, version);
                        self.hook.tell(Change::Removed, &name, Some(version), &path);
                    }
                }
                Err(error) => {
                    tracing::error!(model = %name, %version, %error, "it cannot be told whether it is in use; trying again");
                    leaving.since = Instant::now();
                    self.leaving.push(leaving);
                }
            }
        }
    }

    fn no_longer_held(&self, name: &Name, version: Version) {
        self.catalog.update(name, |model| model.versions.retain(|view| view.version != version || view.phase != Phase::Held));
    }

    pub(super) fn ask_counters(&mut self) {
        self.models.values_mut().flat_map(|kept| kept.held.values_mut()).for_each(|held| held.open.ask_counters());
    }

    fn drop_link(&self, name: &Name) {
        if let Err(error) = place::remove_current(self.notes.models(), name) {
            tracing::error!(model = %name, %error, "the link cannot be removed");
        }
    }

    /// Puts everything away, whoever uses it. What is being opened ends, and leaves nothing.
    pub(super) fn put_all_away(mut self) {
        self.openings.values().for_each(|opening| opening.ending.end());
        for (name, kept) in std::mem::take(&mut self.models) {
            self.drop_link(&name);
            self.leave(&name, kept.held);
        }
        self.leaving.iter_mut().for_each(|leaving| leaving.forced = true);
        let until = Instant::now() + FAREWELL;
        loop {
            self.put_away_forced();
            if self.leaving.is_empty() && self.openings.is_empty() {
                return;
            }
            if Instant::now() >= until {
                let (leaving, openings) = (self.leaving.len(), self.openings.len());
                return tracing::error!(leaving, openings, "not everything could be put away; the next sidecar tries again");
            }
            match self.queue.recv_timeout(TICK) {
                Ok(Order::Opened(id, opened)) => self.opened(id, *opened),
                // Whoever waits for an answer learns that there is none.
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TICK),
            }
        }
    }
}

fn view(version: Version, open: &OpenVersion, phase: Phase) -> VersionView {
    let OpenVersion { path, under, .. } = open;
    let Under { manifest, publisher, way, .. } = under;
    VersionView { version, phase, path: path.clone(), way: *way, manifest: *manifest, publisher: *publisher, tampered: 0 }
}
