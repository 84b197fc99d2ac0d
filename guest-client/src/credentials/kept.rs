//! One credential that is kept: what each answer of the broker and each second does to it. Time is an argument.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::credential::{CredentialBody, CredentialError};
use protocol::ids::{Digest, Version};
use protocol::keys::PublicKey;
use protocol::messages::{Item, ItemOutcome, Secret};
use protocol::time::UnixTime;
use tokio::sync::watch;

use super::files::{self, Files, Place};
use super::{CredentialSource, Ended, Held, Standing};
use crate::clock::Moment;
use crate::sidecar::catalog::Denial;
use crate::sidecar::lease::Lease;

/// What was released. No `Debug`, no `Clone`: it holds the secret.
pub struct Grant {
    pub(super) version: Version,
    statement: Digest,
    publisher: PublicKey,
    lease: UnixTime,
    secret: Secret,
}

impl Grant {
    /// From an answer that grants something.
    #[must_use]
    pub fn of(outcome: ItemOutcome) -> Option<Self> {
        let ItemOutcome::Granted { item, publisher, statement, expires, secret, .. } = outcome else { return None };
        Some(Self { version: item.version?, statement, publisher, lease: expires, secret })
    }
}

/// Why what was released cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The secret is no credential's body.
    #[error("version {version} is no credential: {error}")]
    Form {
        /// The version.
        version: Version,
        /// Why.
        error: CredentialError,
    },
    /// Its end has come.
    #[error("version {version} was to be used until {expires}")]
    Expired {
        /// The version.
        version: Version,
        /// Its last second.
        expires: UnixTime,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
}

impl Unusable {
    /// A stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Form { error, .. } => error.code(),
            Self::Expired { .. } => "credential-expired",
            Self::File { .. } => "credential-file",
        }
    }
}

/// What a permit without a release says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permitted {
    /// What is held may be used further.
    Renewed,
    /// Another version is current: it is to be released.
    Other,
}

/// A credential.
pub(super) struct Kept {
    item: Item,
    places: Vec<Place>,
    written: Vec<PathBuf>,
    lease: Option<Lease>,
    /// A version was released that cannot be used, and this one is held in its place.
    passed_over: bool,
    standing: watch::Sender<Standing>,
    value: watch::Sender<Option<Arc<Secret>>>,
    changes: watch::Sender<()>,
}

impl Kept {
    pub(super) fn new(item: Item, changes: watch::Sender<()>) -> Self {
        let (standing, value) = (watch::Sender::new(Standing::Awaited(None)), watch::Sender::new(None));
        Self { item, places: Vec::new(), written: Vec::new(), lease: None, passed_over: false, standing, value, changes }
    }

    /// What the broker is asked for.
    pub(super) const fn item(&self) -> &Item {
        &self.item
    }

    pub(super) fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    pub(super) fn source(&self) -> CredentialSource {
        self.value.subscribe()
    }

    pub(super) fn place(&mut self, place: Place) {
        if !self.places.contains(&place) {
            self.places.push(place);
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.standing.borrow().held().is_some()
    }

    /// The version that is held, by its number, where the one that is current cannot be used: asked about by name alone, it would not be
    /// permitted any more, though nobody has refused it.
    pub(super) fn by_number(&self) -> Option<Item> {
        let held = self.standing.borrow().held().map(|held| held.version);
        held.filter(|_| self.passed_over).map(|version| Item { version: Some(version), ..self.item.clone() })
    }

    /// How long there is until half of the lease is over; nothing where there is none.
    pub(super) fn until_half(&self, at: Moment) -> Option<Duration> {
        self.lease.map(|lease| lease.until_half(at))
    }

    /// How long there is until its own end; nothing where there is none.
    pub(super) fn until_end(&self, at: Moment) -> Option<Duration> {
        let standing = self.standing.borrow();
        standing.held().and_then(|held| held.body.expires).map(|expires| expires.since(at.wall))
    }

    /// Asked for this, the broker would release this version, until then.
    pub(super) fn permitted(&mut self, asked: &Item, version: Version, until: UnixTime, at: Moment) -> Permitted {
        let held = self.standing.borrow().held().cloned();
        match held {
            Some(held) if held.version == version => {
                // Asked for as it is wanted: then what is held is current, and nothing is passed over.
                self.passed_over &= *asked != self.item;
                self.lend(until, at);
                self.publish(Standing::Held { held, lease: until });
                Permitted::Renewed
            }
            _ => Permitted::Other,
        }
    }

    /// The broker has released it. What cannot be used displaces nothing that can.
    pub(super) fn granted(&mut self, grant: Grant, files: &Files, at: Moment) -> Result<(), Unusable> {
        let Grant { version, statement, publisher, lease, secret } = grant;
        let body = CredentialBody::read(secret.expose()).map_err(|error| Unusable::Form { version, error });
        let body = body.and_then(|body| match body.expires {
            Some(expires) if body.is_over(at.wall) => Err(Unusable::Expired { version, expires }),
            _ => Ok(body),
        });
        let written = body.and_then(|body| self.write(&body, files).map(|written| (body, written)));
        let (body, written) = match written {
            Ok(usable) => usable,
            Err(unusable) => {
                self.not_usable(version, &unusable);
                return Err(unusable);
            }
        };
        std::mem::replace(&mut self.written, written)
            .iter()
            .filter(|path| !self.written.contains(path))
            .for_each(|path| files.remove(path));
        self.passed_over = false;
        self.lend(lease, at);
        let value = body.single().cloned().map(Arc::new);
        self.value.send_if_modified(|current| {
            let changed = *current != value;
            *current = value;
            changed
        });
        self.publish(Standing::Held { held: Arc::new(Held { version, statement, publisher, body }), lease });
        Ok(())
    }

    /// The broker says no, to this guest.
    pub(super) fn refused(&mut self, denial: Denial, files: &Files) {
        if self.is_held() { self.end(Ended::Denied(denial), files) } else { self.still_not(denial) }
    }

    /// Somebody says no, for the broker or in its place: it counts only where nothing is held.
    pub(super) fn rejected(&mut self, denial: Denial) {
        if !self.is_held() {
            self.still_not(denial);
        }
    }

    /// Ends it where its time has come.
    pub(super) fn end_if_over(&mut self, at: Moment, files: &Files) {
        let Some(held) = self.standing.borrow().held().cloned() else { return };
        match held.body.expires {
            Some(expires) if held.body.is_over(at.wall) => self.end(Ended::Expired(expires), files),
            _ if self.lease.is_some_and(|lease| lease.is_over(at)) => self.end(Ended::Lease, files),
            _ => {}
        }
    }

    fn write(&self, body: &CredentialBody, files: &Files) -> Result<Vec<PathBuf>, Unusable> {
        if self.places.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = files::bytes(body);
        let write = |place: &Place| {
            let path = place.path(&self.item.name, body);
            files.write(&path, &bytes, place.mode()).map(|()| path.clone()).map_err(|error| Unusable::File { path, error })
        };
        self.places.iter().map(write).collect()
    }

    fn not_usable(&mut self, version: Version, unusable: &Unusable) {
        if self.is_held() {
            self.passed_over = true;
        } else if let Unusable::Expired { expires, .. } = unusable {
            self.publish(Standing::Ended { version, why: Ended::Expired(*expires) });
        }
    }

    fn lend(&mut self, until: UnixTime, at: Moment) {
        self.lease = Some(Lease::after(self.lease, until, at));
    }

    fn end(&mut self, why: Ended, files: &Files) {
        let Some(version) = self.standing.borrow().held().map(|held| held.version) else { return };
        tracing::error!(credential = %self.item.name, %version, code = why.code(), %why, "the credential has ended");
        (self.lease, self.passed_over) = (None, false);
        self.value.send_replace(None);
        self.publish(Standing::Ended { version, why });
        std::mem::take(&mut self.written).iter().for_each(|path| files.remove(path));
    }

    fn still_not(&self, denial: Denial) {
        let ended = match &*self.standing.borrow() {
            Standing::Ended { version, .. } => Some(*version),
            Standing::Awaited(_) | Standing::Held { .. } => None,
        };
        self.publish(match ended {
            Some(version) => Standing::Ended { version, why: Ended::Denied(denial) },
            None => Standing::Awaited(Some(denial)),
        });
    }

    fn publish(&self, standing: Standing) {
        self.standing.send_replace(standing);
        self.changes.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use protocol::credential::Content;
    use protocol::documents::Kind;
    use zeroize::Zeroizing;

    use super::*;

    const NOW: Moment = Moment { wall: UnixTime::from_seconds(1000), boot: Duration::from_secs(10) };

    fn until(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(seconds)
    }

    /// At this second by a clock that nobody sets.
    fn at(seconds: u64) -> Moment {
        Moment { wall: until(seconds), boot: until(seconds).since(NOW.wall) + NOW.boot }
    }

    fn version(number: u64) -> Version {
        Version::try_from(number).unwrap()
    }

    /// The broker permits this version, asked by the name alone.
    fn permit(kept: &mut Kept, number: u64, lease: u64, at: Moment) -> Permitted {
        let asked = kept.item().clone();
        kept.permitted(&asked, version(number), until(lease), at)
    }

    fn kept() -> Kept {
        Kept::new(Item { kind: Kind::Credential, name: "acme/openai".parse().unwrap(), version: None }, watch::Sender::new(()))
    }

    fn secret(text: &str) -> Secret {
        Secret::new(Zeroizing::new(text.as_bytes().to_vec()))
    }

    fn grant_of(number: u64, secret: Secret, lease: u64) -> Grant {
        let (statement, publisher) = (Digest::from([9; 32]), PublicKey::from_bytes([1; 32]));
        Grant { version: version(number), statement, publisher, lease: until(lease), secret }
    }

    fn grant(version: u64, value: &str) -> Grant {
        grant_of(version, secret(value), 1100)
    }

    fn ending_at(expires: u64, value: &str) -> Secret {
        let body = CredentialBody { expires: Some(until(expires)), content: Content::Opaque(secret(value)) };
        Secret::new(body.write().unwrap())
    }

    fn denial() -> Denial {
        Denial { code: "record-revoked".into(), found: "revoked: leaked".into(), hint: String::new(), decision: None }
    }

    fn value(kept: &Kept) -> Option<String> {
        kept.value.borrow().as_ref().map(|secret| String::from_utf8(secret.expose().to_vec()).unwrap())
    }

    fn code(kept: &Kept) -> String {
        match &*kept.standing.borrow() {
            Standing::Awaited(None) => "awaited".into(),
            Standing::Awaited(Some(denial)) => format!("awaited {}", denial.code),
            Standing::Held { held, lease } => format!("held {} {}", held.version, lease.seconds()),
            Standing::Ended { version, why } => format!("ended {version} {}", why.code()),
        }
    }

    #[test]
    fn a_lease_that_is_not_renewed_ends_it_after_its_last_second() {
        let (mut kept, files) = (kept(), Files::default());
        assert_eq!(code(&kept), "awaited");
        kept.granted(grant(1, "one"), &files, NOW).unwrap();
        assert_eq!(kept.until_half(at(1010)), Some(Duration::from_secs(40)));
        kept.end_if_over(at(1100), &files);
        assert_eq!((code(&kept), value(&kept)), ("held 1 1100".into(), Some("one".into())));
        assert_eq!(permit(&mut kept, 1, 1200, at(1100)), Permitted::Renewed);
        kept.end_if_over(at(1101), &files);
        assert_eq!(code(&kept), "held 1 1200");
        kept.end_if_over(at(1201), &files);
        assert_eq!((code(&kept), value(&kept)), ("ended 1 lease-expired".into(), None));
        assert_eq!(kept.until_half(at(1201)), None);
        kept.granted(grant_of(1, secret("one"), 1300), &files, at(1210)).unwrap();
        assert_eq!((code(&kept), value(&kept)), ("held 1 1300".into(), Some("one".into())));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_prolong_a_lease() {
        let (mut kept, files) = (kept(), Files::default());
        kept.granted(grant(1, "one"), &files, NOW).unwrap();
        let held_back = |boot| Moment { wall: NOW.wall, boot: Duration::from_secs(boot) };
        assert_eq!(kept.until_half(held_back(60)), Some(Duration::ZERO));
        kept.end_if_over(held_back(110), &files);
        assert_eq!(code(&kept), "held 1 1100", "its last second counts");
        // What the broker says again is the same lease.
        assert_eq!(permit(&mut kept, 1, 1100, held_back(110)), Permitted::Renewed);
        kept.end_if_over(held_back(111), &files);
        assert_eq!((code(&kept), value(&kept)), ("ended 1 lease-expired".into(), None));
    }

    #[test]
    fn another_version_is_asked_for_and_takes_the_place_of_the_first() {
        let (mut kept, files) = (kept(), Files::default());
        kept.granted(grant(2, "two"), &files, NOW).unwrap();
        let mut source = kept.source();
        assert_eq!(permit(&mut kept, 3, 1200, NOW), Permitted::Other);
        assert_eq!(code(&kept), "held 2 1100", "a permit for another version renews nothing");
        kept.granted(grant(3, "three"), &files, NOW).unwrap();
        assert!(source.has_changed().unwrap());
        assert_eq!(source.borrow_and_update().as_ref().unwrap().expose(), b"three");
        // Back, after the newer one was revoked.
        assert_eq!(permit(&mut kept, 2, 1200, NOW), Permitted::Other);
        kept.granted(grant(2, "two"), &files, NOW).unwrap();
        assert_eq!((code(&kept), value(&kept)), ("held 2 1100".into(), Some("two".into())));
        permit(&mut kept, 2, 1250, NOW);
        source.borrow_and_update();
        assert!(!source.has_changed().unwrap(), "a renewal is no change of the value");
    }

    #[test]
    fn its_own_end_counts_whatever_the_broker_says() {
        let (mut kept, files) = (kept(), Files::default());
        kept.granted(grant_of(1, ending_at(1050, "one"), 5000), &files, NOW).unwrap();
        assert_eq!(kept.until_end(at(1040)), Some(Duration::from_secs(10)));
        kept.end_if_over(at(1050), &files);
        assert_eq!(value(&kept), Some("one".into()));
        kept.end_if_over(at(1051), &files);
        assert_eq!((code(&kept), value(&kept)), ("ended 1 credential-expired".into(), None));
        let refused = kept.granted(grant_of(1, ending_at(1050, "one"), 5000), &files, at(1051)).unwrap_err();
        assert!(matches!(refused, Unusable::Expired { expires, .. } if expires == until(1050)));
        assert_eq!((code(&kept), refused.code()), ("ended 1 credential-expired".into(), "credential-expired"));
    }

    #[test]
    fn what_cannot_be_used_displaces_nothing() {
        let (mut kept, files) = (kept(), Files::default());
        kept.granted(grant(1, "one"), &files, NOW).unwrap();
        let form = Secret::new(Zeroizing::new([&protocol::credential::MAGIC[..], &[9, 0]].concat()));
        assert!(matches!(kept.granted(grant_of(2, form, 1100), &files, NOW), Err(Unusable::Form { .. })));
        assert!(matches!(kept.granted(grant_of(3, ending_at(999, "old"), 1100), &files, NOW), Err(Unusable::Expired { .. })));
        kept.place(Place::new(std::path::Path::new("/nonexistent/folder/credential"), 0o600));
        assert!(matches!(kept.granted(grant(4, "four"), &files, NOW), Err(Unusable::File { .. })));
        assert_eq!((code(&kept), value(&kept)), ("held 1 1100".into(), Some("one".into())));
    }

    #[test]
    fn what_is_held_in_place_of_a_version_that_cannot_be_used_is_renewed_by_its_number() {
        let (mut kept, files) = (kept(), Files::default());
        let old = || grant_of(2, ending_at(999, "old"), 1100);
        kept.granted(old(), &files, NOW).unwrap_err();
        assert_eq!(kept.by_number(), None, "nothing is held yet");
        kept.granted(grant(1, "one"), &files, NOW).unwrap();
        assert_eq!((permit(&mut kept, 2, 1200, NOW), kept.by_number()), (Permitted::Other, None), "it may be of use");
        kept.granted(old(), &files, NOW).unwrap_err();
        let asked = kept.by_number().unwrap();
        assert_eq!(asked, Item { version: Some(Version::FIRST), ..kept.item().clone() });
        assert_eq!(kept.permitted(&asked, Version::FIRST, until(1200), at(1050)), Permitted::Renewed);
        kept.end_if_over(at(1101), &files);
        assert_eq!((code(&kept), value(&kept)), ("held 1 1200".into(), Some("one".into())));
        assert_eq!(kept.by_number(), Some(asked), "as long as the other is current");
        // The other was rolled back.
        permit(&mut kept, 1, 1300, at(1101));
        assert_eq!((code(&kept), kept.by_number()), ("held 1 1300".into(), None));
        // The publisher corrects it.
        kept.granted(old(), &files, NOW).unwrap_err();
        kept.granted(grant(3, "three"), &files, NOW).unwrap();
        assert_eq!(kept.by_number(), None);
        // A refusal by its number ends it like any other.
        kept.granted(old(), &files, NOW).unwrap_err();
        kept.refused(denial(), &files);
        assert_eq!((code(&kept), kept.by_number()), ("ended 3 record-revoked".into(), None));
    }

    #[test]
    fn a_sealed_refusal_ends_it_and_one_of_nobody_known_does_not() {
        let (mut kept, files) = (kept(), Files::default());
        kept.rejected(denial());
        assert_eq!(code(&kept), "awaited record-revoked");
        kept.granted(grant(1, "one"), &files, NOW).unwrap();
        kept.rejected(denial());
        assert_eq!(code(&kept), "held 1 1100");
        kept.refused(denial(), &files);
        assert_eq!((code(&kept), value(&kept)), ("ended 1 record-revoked".into(), None));
        kept.refused(denial(), &files);
        assert_eq!(code(&kept), "ended 1 record-revoked");
    }

    #[test]
    fn files_follow_the_version_and_go_with_the_credential() {
        let folder = tempfile::tempdir().unwrap();
        let (mut kept, files) = (kept(), Files::default());
        kept.place(Place::new(&folder.path().join("one"), 0o600));
        kept.place(Place::new(&folder.path().join(""), 0o600));
        let named = |name: &str| {
            let content = Content::File { name: name.parse().unwrap(), value: secret(name) };
            Secret::new(CredentialBody { expires: None, content }.write().unwrap())
        };
        let names = || {
            let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        kept.granted(grant_of(1, named("a.json"), 1100), &files, NOW).unwrap();
        assert_eq!(names(), ["a.json", "one"]);
        kept.granted(grant_of(2, named("b.json"), 1100), &files, NOW).unwrap();
        assert_eq!(names(), ["b.json", "one"]);
        assert_eq!(std::fs::read(folder.path().join("one")).unwrap(), b"b.json");
        kept.refused(denial(), &files);
        assert!(names().is_empty());
    }
}
