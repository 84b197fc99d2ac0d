//! What the keeper does with what it is told, on real folders and real openings; only the broker's words are the test's own.

use std::fs::{self, File};
use std::future::pending;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, TrySendError};
use std::time::{Duration, Instant};

use models_manifest::signature::ModelSigner;
use models_manifest::{
    Backend, ChunkSize, MANIFEST_NAME, ModelKey, ModelRules, Pickles, RequiredSignature, SealFolder, Silent, Workers, seal_model,
};
use protocol::documents::Kind;
use protocol::encoding::sha256;
use protocol::ids::{DecisionId, Digest, Name, Version};
use protocol::keys::SigningKey;
use protocol::log::Receipt;
use protocol::messages::{Item, ItemOutcome, Outcome, Problem, Reason};
use protocol::time::UnixTime;
use tempfile::TempDir;
use testbed::maker::{Maker, SIGNATURE};
use testbed::model::ModelFile;
use testbed::services::storage::{Storage as Web, Trick};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::catalog::{Catalog, Phase};
use super::config::{SidecarConfig, Wanted, Way};
use super::holding::{GRACE, OpeningId, Released, Report};
use super::hook::Hook;
use super::keeper::{Keeping, Order, Refused, Thread, keep_none};
use super::lease::Lease;
use super::notes::Notes;
use super::place;
use super::version::{OpenFailed, OpenVersion};
use super::{SidecarError, until_asked};
use crate::clock;
use crate::config::{Config, RequiredModelSigner, SignedContents};
use crate::exchange::ExchangeError;
use crate::mount::supervised::ServerError;
use crate::signals::Asked;

const MODEL: &str = "acme/llama";
const REMOVE: &str = "on-expiry = \"remove\"\non-denial = \"at-once\"\n";

fn name() -> Name {
    MODEL.parse().unwrap()
}

fn numbered(number: u64) -> Version {
    number.try_into().unwrap()
}

fn in_an_hour() -> UnixTime {
    clock::now().plus(Duration::from_secs(3600))
}

/// A sealed model on disk, and what a broker releases of it.
struct Sealed {
    key: ModelKey,
    manifest: Digest,
}

/// A keeper with models in memory; each test plays the broker.
struct Rig {
    keeping: Keeping,
    catalog: Arc<Catalog>,
    models: PathBuf,
    publisher: SigningKey,
    sealed: Vec<Sealed>,
    folder: TempDir,
}

impl Rig {
    /// With these lines of `sidecar.toml`, and versions 1 and 2 of [`MODEL`] sealed.
    fn new(lines: &str) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let publisher = SigningKey::generate().unwrap();
        let sealed = [1, 2].map(|number| seal(&folder, number, &publisher, None)).into();
        let (models, text) = (folder.path().join("models"), folder.path().display());
        let text = format!("models = \"{text}/models\"\n{lines}[[model]]\nname = \"{MODEL}\"\nsealed = \"{text}/sealed-{{version}}\"\n");
        let (keeping, catalog) = keeper_of(&models, &text);
        Self { keeping, catalog, models, publisher, sealed, folder }
    }

    /// Another life of the same sidecar: the first has been killed.
    fn again(self, lines: &str) -> Self {
        let Self { keeping, models, publisher, sealed, folder, .. } = self;
        drop(keeping);
        let text = format!("models = \"{}\"\n{lines}", models.display());
        let (keeping, catalog) = keeper_of(&models, &text);
        let mut rig = Self { keeping, catalog, models, publisher, sealed, folder };
        rig.keeping.take_in(&place::find(&rig.models).unwrap());
        rig
    }

    fn model(&self) -> String {
        format!("[[model]]\nname = \"{MODEL}\"\nsealed = \"{}/sealed-{{version}}\"\n", self.folder.path().display())
    }

    /// The model is added by the local API, as the file had it.
    fn add_again(&mut self) {
        let sealed = format!("{}/sealed-{{version}}", self.folder.path().display());
        self.keeping.add(Wanted { sealed, ..wanted(MODEL, None) }).unwrap();
    }

    /// Version 3, which its maker has signed and must have, to be mounted from a web server.
    fn signed(&mut self) -> Web {
        let maker = Maker::named("maker");
        self.sealed.push(seal(&self.folder, 3, &self.publisher, Some(&maker)));
        let key = maker.pem().parse().unwrap();
        self.keeping.guest.model_signers.push(RequiredModelSigner { model: name(), key, contents: SignedContents::Hashed });
        let web = Web::start(&self.folder.path().join("sealed-3"));
        let wanted = &mut self.keeping.models.get_mut(&name()).unwrap().wanted;
        (wanted.sealed, wanted.way) = (web.url(), Some(Way::Mount));
        web
    }

    fn path(&self, number: u64) -> PathBuf {
        place::version(&self.models, &name(), numbered(number))
    }

    fn link(&self) -> PathBuf {
        place::current(&self.models, &name())
    }

    fn released(&self, number: u64, until: UnixTime) -> Released {
        let sealed = &self.sealed[usize::try_from(number - 1).unwrap()];
        let key = ModelKey::from_bytes(Zeroizing::new(*sealed.key.as_bytes()));
        Released { key, manifest: sealed.manifest, publisher: *self.publisher.public(), until }
    }

    fn begin(&mut self, number: u64) {
        let released = self.released(number, in_an_hour());
        self.keeping.begin(&name(), numbered(number), released);
    }

    /// Waits for the word of an opening, without taking it.
    fn heard(&mut self) -> (OpeningId, Box<Result<OpenVersion, OpenFailed>>) {
        match self.keeping.queue.recv_timeout(Duration::from_secs(30)).unwrap() {
            Order::Opened(id, opened) => (id, opened),
            _ => panic!("another order"),
        }
    }

    /// Releases and opens a version.
    fn open(&mut self, number: u64) {
        self.begin(number);
        let (id, opened) = self.heard();
        self.keeping.take(Order::Opened(id, opened));
        assert_eq!(self.current(), Some(numbered(number)));
    }

    fn current(&self) -> Option<Version> {
        self.catalog.model(&name()).and_then(|model| model.current)
    }

    fn phase(&self, number: u64) -> Option<Phase> {
        let model = self.catalog.model(&name())?;
        model.versions.into_iter().find(|view| view.version == numbered(number)).map(|view| view.phase)
    }

    fn unready(&self) -> Vec<&'static str> {
        self.catalog.unready(clock::moment()).into_iter().map(|unready| unready.code).collect()
    }

    fn lease(&mut self, number: u64) -> Lease {
        self.keeping.held_mut(&name(), numbered(number)).unwrap().lease
    }

    /// What is asked is answered like this.
    fn decided(&mut self, answers: Vec<(Item, ItemOutcome)>) -> Vec<Item> {
        let (items, outcomes): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
        let receipt = Receipt { entry: vec![], proof: String::new() };
        self.keeping.decided(&items, Outcome { decision: DecisionId::from([7; 16]), at: clock::now(), items: outcomes, receipt })
    }

    /// Ends the leases of everything that is leaving, without anybody's word.
    fn end_leaving(&mut self) {
        let at = clock::moment();
        self.keeping.leaving.iter_mut().for_each(|leaving| leaving.held.lease = leaving.held.lease.ended(at));
    }

    /// As if the grace of what is leaving were over.
    fn after_the_grace(&mut self) {
        self.keeping.leaving.iter_mut().for_each(|leaving| leaving.since = Instant::now().checked_sub(GRACE).unwrap());
    }
}

fn keeper_of(models: &Path, text: &str) -> (Keeping, Arc<Catalog>) {
    let root = SigningKey::generate().unwrap();
    // Memory is what it is; whether this machine swaps is not what is tested here.
    let guest = format!("root = \"{}\"\nbroker = \"http://127.0.0.1:9\"\nplaintext = \"disk\"\n", root.public());
    let sidecar = SidecarConfig::parse(text).unwrap();
    let catalog = Arc::new(Catalog::new(&sidecar));
    let notes = Notes::claim(models).unwrap();
    let orders = mpsc::sync_channel(16);
    let hook = Hook::new(sidecar.on_change.clone()).unwrap();
    (Keeping::new(Config::parse(&guest).unwrap(), sidecar, notes, Arc::clone(&catalog), orders, hook), catalog)
}

/// Seals a version, under its maker's signature where there is one.
fn seal(folder: &TempDir, number: u64, publisher: &SigningKey, maker: Option<&Maker>) -> Sealed {
    let (source, destination) = (folder.path().join(format!("plain-{number}")), folder.path().join(format!("sealed-{number}")));
    fs::create_dir(&source).unwrap();
    let files = [("config.json", number.to_string().into_bytes()), ("weights", vec![7; 100_000])];
    files.iter().for_each(|(path, bytes)| fs::write(source.join(path), bytes).unwrap());
    let signer: Option<ModelSigner> = maker.map(|maker| maker.pem().parse().unwrap());
    let bundle = source.join(SIGNATURE);
    if let Some(maker) = maker {
        let signed = files.map(|(path, bytes)| ModelFile {
            path: path.to_owned(),
            size: u64::try_from(bytes.len()).unwrap(),
            sha256: *sha256(&bytes).as_bytes(),
        });
        fs::write(&bundle, maker.sign(&signed)).unwrap();
    }
    let signature = signer.as_ref().map(|signer| RequiredSignature { signer, bundle: &bundle });
    let (chunk_size, workers) = (ChunkSize::try_from(65_536).unwrap(), Workers::default());
    let (source, destination) = (source.as_path(), destination.as_path());
    let order =
        SealFolder { source, destination, name: name(), version: numbered(number), chunk_size, backend: Backend::default(), workers };
    let sealed = seal_model(&order, &ModelRules { pickles: Pickles::Allowed, signature }, publisher, &mut Silent).unwrap();
    Sealed { key: sealed.key, manifest: sealed.document.digest() }
}

fn item(number: Option<u64>) -> Item {
    Item { kind: Kind::Model, name: name(), version: number.map(numbered) }
}

fn permitted(number: u64, until: UnixTime) -> ItemOutcome {
    ItemOutcome::Permitted { item: item(Some(number)), expires: until }
}

fn refused(number: u64) -> ItemOutcome {
    let reason = Reason { code: "record-revoked".into(), found: "leaked".into(), hint: String::new() };
    ItemOutcome::Refused { item: item(Some(number)), reasons: vec![reason] }
}

fn wanted(of: &str, base: Option<&str>) -> Wanted {
    let base = base.map(|base| base.parse().unwrap());
    Wanted { name: of.parse().unwrap(), version: None, sealed: "/nonexistent".into(), base, way: None }
}

#[test]
fn a_later_life_takes_in_what_is_noted_and_its_lease_ends_it() {
    let mut rig = Rig::new(REMOVE);
    rig.open(1);
    let before = rig.lease(1);
    let lines = format!("{REMOVE}{}", rig.model());
    let mut rig = rig.again(&lines);
    assert_eq!((rig.current(), rig.phase(1), rig.unready()), (None, Some(Phase::Left), vec!["not-open"]), "the broker has not answered");
    assert!(rig.path(1).is_dir() && rig.link().exists(), "engines notice nothing");
    assert_eq!(rig.lease(1).until(), before.until());
    assert_eq!(rig.keeping.held(), [item(Some(1))]);

    // Released again, it is current without being opened.
    let mut rig = rig.again(&lines);
    rig.begin(1);
    assert_eq!((rig.current(), rig.keeping.openings.len()), (Some(numbered(1)), 0));

    // Where nobody answers, the lease ends it.
    let mut rig = rig.again(&lines);
    let at = clock::moment();
    rig.keeping.held_mut(&name(), numbered(1)).unwrap().lease = before.ended(at);
    rig.keeping.end_leases();
    assert!(!rig.path(1).exists() && rig.link().symlink_metadata().is_err());
    assert_eq!(rig.unready(), ["lease-expired"]);
}

#[test]
fn a_later_life_obeys_a_lease_that_ended_while_nobody_looked_and_goes_by_the_clock_that_cannot_be_set_back() {
    let mut rig = Rig::new(REMOVE);
    rig.open(1);
    let at = clock::moment();
    // By the wall clock, which may have been set back, there is an hour left.
    let lease = Lease::noted(in_an_hour(), at.boot.saturating_sub(Duration::from_secs(1)), at);
    rig.keeping.held_mut(&name(), numbered(1)).unwrap().lease = lease;
    rig.keeping.note(&name(), numbered(1));
    let lines = format!("{REMOVE}{}", rig.model());
    let mut rig = rig.again(&lines);
    rig.keeping.end_leases();
    assert!(!rig.path(1).exists());
}

#[test]
fn what_nobody_noted_is_removed_at_the_start() {
    let mut rig = Rig::new("");
    rig.open(1);
    let note = rig.keeping.notes.read(&name(), numbered(1)).unwrap();
    fs::create_dir_all(rig.path(2)).unwrap();
    fs::create_dir_all(rig.models.join("gone/model@7/deep")).unwrap();
    fs::create_dir_all(rig.models.join("acme/.portcullis-partial-0123456789abcdef/model")).unwrap();
    fs::set_permissions(rig.models.join("acme/.portcullis-partial-0123456789abcdef"), fs::Permissions::from_mode(0o700)).unwrap();
    let busy = rig.models.join("acme/.portcullis-partial-busy");
    fs::create_dir(&busy).unwrap();
    fs::set_permissions(&busy, fs::Permissions::from_mode(0o700)).unwrap();
    let lock = File::open(&busy).unwrap();
    lock.lock().unwrap();
    std::os::unix::fs::symlink("model@7", rig.models.join("gone/model@current")).unwrap();
    fs::write(rig.models.join("gone/other"), "somebody's").unwrap();
    let lines = rig.model();
    let rig = rig.again(&lines);
    assert!(rig.path(1).is_dir(), "noted");
    assert!(!rig.path(2).exists() && !rig.models.join("gone/model@7").exists());
    assert!(rig.models.join("gone/model@current").symlink_metadata().is_err());
    assert!(!rig.models.join("acme/.portcullis-partial-0123456789abcdef").exists() && busy.exists(), "somebody fills that one");
    assert!(rig.models.join("gone/other").exists(), "no sidecar made it");

    // A note of another folder than lies there now is none.
    fs::rename(rig.path(1), rig.folder.path().join("elsewhere")).unwrap();
    fs::create_dir(rig.path(1)).unwrap();
    rig.keeping.notes.write(&name(), numbered(1), &note).unwrap();
    let rig = rig.again(&lines);
    assert!(!rig.path(1).exists());
    assert_eq!(rig.keeping.notes.read(&name(), numbered(1)), None);
}

#[test]
fn what_is_no_longer_wanted_after_a_restart_leaves_as_what_was_superseded_does() {
    let mut rig = Rig::new("");
    rig.open(1);
    let reader = File::open(rig.path(1).join("weights")).unwrap();
    let mut rig = rig.again("");
    assert!(rig.link().symlink_metadata().is_err(), "nobody is to find it any more");
    rig.after_the_grace();
    rig.keeping.let_go();
    assert!(rig.path(1).is_dir(), "somebody has a file of it open");
    drop(reader);
    rig.keeping.let_go();
    assert!(!rig.path(1).exists() && rig.keeping.leaving.is_empty());

    // Also a version that was superseded while nobody ran.
    rig.add_again();
    rig.open(1);
    let lines = rig.model();
    let mut rig = rig.again(&lines);
    rig.open(2);
    rig.after_the_grace();
    rig.keeping.let_go();
    assert!(!rig.path(1).exists() && rig.path(2).is_dir());
}

#[test]
fn an_answer_about_one_version_says_nothing_about_another() {
    let mut rig = Rig::new(REMOVE);
    rig.open(1);
    let before = rig.lease(1);
    assert_eq!(rig.keeping.held(), [item(None), item(Some(1))], "by its number, and what is wanted");

    // The newest is revoked, and the open one permitted.
    let until = in_an_hour().plus(Duration::from_secs(600));
    rig.decided(vec![(item(None), refused(2)), (item(Some(1)), permitted(1, until))]);
    assert_eq!((rig.current(), rig.lease(1).until()), (Some(numbered(1)), until));
    assert_eq!(rig.catalog.model(&name()).unwrap().denial.unwrap().code, "record-revoked", "it is shown");
    assert!(rig.unready().is_empty());

    // A permit for the newest is none for the open one.
    let newer = rig.decided(vec![(item(None), permitted(2, until.plus(Duration::from_secs(600))))]);
    assert_eq!((newer, rig.lease(1).until()), (vec![item(Some(2))], until));
    assert_ne!(before.until(), until);

    // The open one is revoked, and the newest permitted.
    let newer = rig.decided(vec![(item(None), permitted(2, until)), (item(Some(1)), refused(1))]);
    assert_eq!(newer, [item(Some(2))]);
    assert!(!rig.path(1).exists() && rig.unready() == ["lease-expired"]);
}

#[test]
fn more_versions_than_one_request_takes_are_asked_about_in_several() {
    let mut rig = Rig::new("");
    rig.open(1);
    for number in 2..=super::config::MODELS {
        rig.keeping.add(wanted(&format!("acme/m{number}"), None)).unwrap();
        let kept = rig.keeping.models.get_mut(&format!("acme/m{number}").parse().unwrap()).unwrap();
        kept.current = Some(Version::FIRST);
    }
    assert_eq!(rig.keeping.held().len(), super::config::MODELS + 1);
    assert!(rig.keeping.held().len() > protocol::limits::ASKS);
    assert_eq!(rig.keeping.add(wanted("acme/more", None)), Err(Refused::TooMany));
}

#[test]
fn what_cannot_be_put_away_is_tried_until_it_is_gone() {
    let mut rig = Rig::new(REMOVE);
    rig.open(1);
    let Some(obstacle) = Obstacle::on(&rig.path(1)) else { return };
    rig.decided(vec![(item(Some(1)), refused(1))]);
    assert!(rig.path(1).exists() && rig.keeping.leaving.iter().all(|leaving| leaving.forced) && rig.keeping.leaving.len() == 1);
    assert_eq!(rig.keeping.notes.read(&name(), numbered(1)), None, "nobody believes it whole");
    rig.keeping.let_go();
    assert_eq!(rig.keeping.leaving.len(), 1);
    // Nor does it come back meanwhile.
    rig.begin(1);
    assert_eq!((rig.current(), rig.keeping.openings.len(), rig.keeping.leaving.len()), (None, 0, 1));
    drop(obstacle);
    rig.keeping.let_go();
    assert!(!rig.path(1).exists() && rig.keeping.leaving.is_empty());
}

/// What makes removing a folder fail, for root too: something is mounted in it. `None`, and one line, where this machine does not let us.
struct Obstacle(PathBuf);

impl Obstacle {
    fn on(folder: &Path) -> Option<Self> {
        let inner = folder.join("obstacle");
        fs::create_dir(&inner).unwrap();
        let made = std::process::Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&inner).output();
        if made.is_ok_and(|output| output.status.success()) {
            return Some(Self(inner));
        }
        println!("skipped: nothing can be mounted here");
        None
    }
}

impl Drop for Obstacle {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg(&self.0).status().unwrap();
    }
}

#[test]
fn a_model_that_was_removed_and_added_again_during_its_opening_hears_its_own_opening_only() {
    let mut rig = Rig::new("");
    rig.begin(1);
    let (id, opened) = rig.heard();
    rig.keeping.remove(&name()).unwrap();
    rig.add_again();
    // The first opening has not been heard yet: a second does not write where it may.
    rig.begin(1);
    assert_eq!(rig.keeping.openings.len(), 1);
    rig.keeping.take(Order::Opened(id, opened));
    assert_eq!((rig.current(), rig.path(1).exists(), rig.keeping.openings.len()), (None, false, 0), "it was another life's");
    rig.open(1);
    assert_eq!(fs::read_to_string(rig.link().join("config.json")).unwrap(), "1");
}

#[test]
fn a_model_that_comes_back_within_the_grace_is_shown_and_is_what_it_was() {
    let mut rig = Rig::new("");
    rig.open(1);
    rig.keeping.remove(&name()).unwrap();
    assert!(rig.path(1).is_dir() && rig.link().symlink_metadata().is_err());
    rig.add_again();
    rig.begin(1);
    assert_eq!((rig.current(), rig.phase(1)), (Some(numbered(1)), Some(Phase::Open { files: 2, bytes: 100_001 })));
    assert!(rig.keeping.leaving.is_empty() && rig.keeping.openings.is_empty());
    rig.after_the_grace();
    rig.keeping.let_go();
    assert!(rig.link().join("weights").exists());
}

#[test]
fn the_end_of_a_mount_server_that_overtakes_the_word_that_it_serves_is_not_lost() {
    let mut rig = Rig::new("");
    rig.begin(1);
    let (id, opened) = rig.heard();
    rig.keeping.take(Order::MountEnded(id, 5));
    rig.keeping.take(Order::Opened(id, opened));
    assert_eq!(rig.current(), None);
    assert!(matches!(rig.phase(1), Some(Phase::Failed { why }) if why.contains("exit code 5")));
    // And that of another opening says nothing about this one.
    rig.keeping.models.get_mut(&name()).unwrap().not_before = None;
    rig.open(1);
    rig.keeping.take(Order::MountEnded(id, 5));
    assert_eq!(rig.current(), Some(numbered(1)));
}

#[test]
fn without_a_link_a_version_is_not_open_and_with_one_it_need_not_be_opened_again() {
    let mut rig = Rig::new("");
    fs::create_dir_all(rig.link().join("somebody's")).unwrap();
    rig.begin(1);
    let (id, opened) = rig.heard();
    rig.keeping.take(Order::Opened(id, opened));
    assert_eq!((rig.current(), rig.unready()), (None, vec!["not-open"]));
    assert!(matches!(rig.phase(1), Some(Phase::Failed { why }) if why.contains("link")));
    assert!(rig.keeping.models[&name()].not_before.is_some(), "it is tried again, later");
    fs::remove_dir_all(rig.link()).unwrap();
    rig.begin(1);
    assert_eq!((rig.current(), rig.keeping.openings.len()), (Some(numbered(1)), 0));
}

#[test]
fn a_note_that_cannot_be_written_makes_nothing_fail() {
    let mut rig = Rig::new("");
    fs::create_dir_all(rig.models.join(".portcullis/acme%llama@1/in the way")).unwrap();
    rig.open(1);
    assert_eq!(rig.keeping.notes.read(&name(), numbered(1)), None);
    let lines = rig.model();
    let rig = rig.again(&lines);
    assert!(!rig.path(1).exists(), "and nobody believes what was not noted");
}

#[test]
fn what_an_opening_does_that_nobody_foresaw_is_a_failure_like_any_other() {
    let mut rig = Rig::new("");
    rig.begin(1);
    let (id, opened) = rig.heard();
    drop(opened);
    let orders = rig.keeping.orders.clone();
    let flawed = std::thread::spawn(move || Report::of(orders, id, || panic!("a flaw of the test's own")));
    assert!(flawed.join().is_err());
    let (heard, opened) = rig.heard();
    assert!(heard == id && matches!(*opened, Err(OpenFailed::BrokeOff)));
    rig.keeping.take(Order::Opened(id, opened));
    assert!(rig.keeping.openings.is_empty() && rig.keeping.models[&name()].opening.is_none());
    assert!(rig.keeping.models[&name()].not_before.is_some());
    // The near miss: one that ends says itself how.
    Report::of(rig.keeping.orders.clone(), id, || Err(OpenFailed::Occupied));
    let (heard, opened) = rig.heard();
    assert!(heard == id && matches!(*opened, Err(OpenFailed::Occupied)));
}

#[test]
fn a_removed_model_whose_files_are_in_use_is_still_under_its_lease() {
    let mut rig = Rig::new(REMOVE);
    rig.open(1);
    let _reader = File::open(rig.path(1).join("weights")).unwrap();
    rig.keeping.remove(&name()).unwrap();
    assert!(rig.keeping.held().is_empty(), "nobody wants it renewed");
    rig.after_the_grace();
    rig.keeping.end_leases();
    rig.keeping.let_go();
    assert!(rig.path(1).is_dir());
    rig.end_leaving();
    rig.keeping.end_leases();
    assert!(!rig.path(1).exists() && rig.keeping.leaving.is_empty());
}

#[test]
fn a_no_that_nobody_signed_ends_no_lease() {
    let mut rig = Rig::new(REMOVE);
    rig.open(1);
    let error = ExchangeError::Rejected(Box::new(Problem::new(403, "snp-signature", "not genuine")));
    assert_eq!(rig.keeping.not_answered(&[item(None), item(Some(1))], &error), None);
    rig.keeping.end_leases();
    assert!(rig.path(1).is_dir() && rig.unready().is_empty());
    assert_eq!(rig.catalog.model(&name()).unwrap().denial.unwrap().code, "snp-signature", "it is shown");
    assert_eq!((rig.catalog.counts().outages, rig.catalog.counts().answered), (1, 0));
    // The same from the broker, signed.
    rig.decided(vec![(item(Some(1)), refused(1))]);
    assert!(!rig.path(1).exists());
}

#[test]
fn orders_that_never_end_hold_up_nothing_and_bring_no_question_forward() {
    let mut rig = Rig::new(REMOVE);
    rig.open(1);
    rig.keeping.held_mut(&name(), numbered(1)).unwrap().lease = Lease::new(clock::now(), clock::moment());
    // The broker has asked to be left alone for a while.
    rig.keeping.back_off(Some(Duration::from_secs(60)));
    let orders = rig.keeping.orders.clone();
    let until = Instant::now() + Duration::from_secs(10);
    while rig.path(1).exists() {
        assert!(Instant::now() < until, "the lease never ends");
        // Another is always there.
        while orders.try_send(Order::Ask).is_ok() {}
        assert!(rig.keeping.step(|_| panic!("it was asked all the same")));
    }
}

#[test]
fn bases_do_not_stand_on_their_adapters() {
    let mut rig = Rig::new("");
    rig.keeping.add(wanted("acme/tone", Some(MODEL))).unwrap();
    rig.keeping.add(wanted("acme/formal", Some("acme/tone"))).unwrap();
    let cycle = |name: &str, base: &str| Err(Refused::BaseCycle { name: name.parse().unwrap(), base: base.parse().unwrap() });
    assert_eq!(rig.keeping.add(wanted(MODEL, Some("acme/formal"))), cycle(MODEL, "acme/formal"));
    assert_eq!(rig.keeping.add(wanted("acme/tone", Some("acme/tone"))), cycle("acme/tone", "acme/tone"));
    rig.keeping.add(wanted("acme/formal", Some(MODEL))).unwrap();
}

#[test]
fn a_keeper_that_breaks_off_is_noticed_and_leaves_what_a_later_life_takes_in() {
    let mut rig = Rig::new(REMOVE);
    rig.open(1);
    let (path, lines) = (rig.path(1), format!("models = \"{}\"\n{REMOVE}{}", rig.models.display(), rig.model()));
    let Rig { keeping, models, folder: _folder, .. } = rig;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let orders = keeping.orders.clone();
    let mut thread = Thread::start(move || keeping.run(|_| panic!("a flaw of the test's own"))).unwrap();
    let noticed = async { tokio::time::timeout(Duration::from_secs(30), until_asked(pending(), &mut thread)).await };
    assert!(matches!(runtime.block_on(noticed), Ok(Err(SidecarError::KeeperEnded))));
    // Nobody takes an order any more, and so nobody waits until one is taken.
    assert!(matches!(orders.try_send(Order::Ask), Err(TrySendError::Disconnected(_))));
    thread.stop(&orders);
    assert!(path.is_dir(), "engines notice nothing");

    // The near miss: a keeper that goes on, until the process is asked to end.
    let (mut keeping, _) = keeper_of(&models, &lines);
    keeping.take_in(&place::find(&models).unwrap());
    assert_eq!(keeping.held(), [item(Some(1))]);
    let orders = keeping.orders.clone();
    let mut thread = Thread::start(move || keeping.run(|keeping| keeping.back_off(Some(Duration::from_secs(60))))).unwrap();
    let later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Asked::Terminate
    };
    assert!(matches!(runtime.block_on(until_asked(later, &mut thread)), Ok(Asked::Terminate)));
    assert!(path.is_dir() && orders.try_send(Order::Ask).is_ok());
    thread.stop(&orders);
    assert!(!path.exists());
}

#[test]
fn at_the_end_all_is_put_away_whoever_uses_it_and_whoever_waits_learns_that_there_is_no_answer() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut rig = Rig::new("");
    rig.open(1);
    let (note, link) = (rig.models.join(".portcullis/acme%llama@1"), rig.link());
    let mut reader = File::open(link.join("config.json")).unwrap();
    rig.keeping.models.get_mut(&name()).unwrap().wanted.sealed = format!("http://{}/model", silent.local_addr().unwrap());
    rig.begin(2);
    // It has connected, and waits for an answer.
    let (_held, _) = silent.accept().unwrap();
    assert!(note.exists());
    let Rig { keeping, models, folder: _folder, .. } = rig;
    let orders = keeping.orders.clone();
    let add = |of: &str| {
        let (reply, answer) = oneshot::channel();
        assert!(orders.try_send(Order::Add(wanted(of, None), reply)).is_ok());
        answer
    };
    let before = add("acme/before");
    assert!(orders.try_send(Order::Stop).is_ok());
    let behind = add("acme/behind");
    let began = Instant::now();
    let thread = Thread::start(move || keeping.run(|keeping| keeping.back_off(None))).unwrap();
    thread.stop(&orders);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(before.blocking_recv(), Ok(Ok(())));
    assert!(behind.blocking_recv().is_err());
    assert_eq!(fs::read_dir(models.join("acme")).unwrap().count(), 0);
    assert!(!note.exists() && link.symlink_metadata().is_err());
    // Who has a file open keeps it: that is the kernel's.
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "1");
}

#[test]
fn where_there_is_no_folder_of_models_whoever_adds_one_is_told_what_is_missing() {
    let (orders, queue) = mpsc::sync_channel(16);
    let keeping = std::thread::spawn(move || keep_none(&queue));
    orders.send(Order::Ask).unwrap();
    let (reply, answer) = oneshot::channel();
    orders.send(Order::Add(wanted(MODEL, None), reply)).unwrap();
    let refused = answer.blocking_recv().unwrap().unwrap_err();
    assert_eq!((&refused, refused.code()), (&Refused::NoFolder, "no-models-folder"));
    assert!(refused.to_string().contains("`models`") && refused.hint().contains("models = "), "{refused} {}", refused.hint());
    let (reply, answer) = oneshot::channel();
    orders.send(Order::Remove(name(), reply)).unwrap();
    assert_eq!(answer.blocking_recv().unwrap(), Err(Refused::NoSuchModel { name: name() }));
    assert!(!keeping.is_finished());
    orders.send(Order::Stop).unwrap();
    keeping.join().unwrap();
    // Where there is a folder, the same is taken.
    Rig::new("").keeping.add(wanted("acme/other", None)).unwrap();
}

#[test]
fn an_opening_that_waits_for_its_storage_ends_when_it_is_told_to() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut rig = Rig::new("");
    let sealed = format!("http://{}/model", silent.local_addr().unwrap());
    rig.keeping.models.get_mut(&name()).unwrap().wanted.sealed = sealed;
    rig.begin(1);
    // It has connected, and waits for an answer.
    let (_held, _) = silent.accept().unwrap();
    let began = Instant::now();
    rig.keeping.put_all_away();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(fs::read_dir(rig.models.join("acme")).unwrap().count(), 0);
}

#[test]
fn a_check_of_a_models_signer_that_waits_for_its_storage_ends_when_it_is_told_to() {
    let stalls = |before: Vec<Trick>| before.into_iter().chain(vec![Trick::StallsAfter(10); 9]);
    // The manifest for what it says, and once more for the check; then the signature; then what it signs.
    for (path, before) in [(MANIFEST_NAME, vec![Trick::Well]), (SIGNATURE, vec![]), ("weights", vec![])] {
        let mut rig = Rig::new("");
        let web = rig.signed();
        let stalled = before.len() + 1;
        web.next(path, stalls(before));
        rig.begin(3);
        until(|| web.asked().iter().filter(|asked| asked.path == path).count() == stalled);
        let began = Instant::now();
        rig.keeping.put_all_away();
        assert!(began.elapsed() < Duration::from_secs(30), "{path}: {:?}", began.elapsed());
        assert_eq!(fs::read_dir(rig.models.join("acme")).unwrap().count(), 0, "{path}");
    }
    // The near miss: the storage gives all of it, and what fails is what comes next, since this program is no mount server.
    let mut rig = Rig::new("");
    let _web = rig.signed();
    rig.begin(3);
    let (_, opened) = rig.heard();
    let Err(error) = *opened else { panic!("a test serves no mount") };
    assert!(matches!(error, OpenFailed::Server(ServerError::NotReady { .. })), "{error}");
}

fn until(holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < until, "it does not come to that");
        std::thread::sleep(Duration::from_millis(10));
    }
}
