//! The vendors' collateral that this broker has: carried here in a folder, imported, fetched, or brought by guests.
//!
//! Not trusted: what is kept here verified when it came, and is verified again wherever it is used. A new piece takes the place of
//! an old one only after it verified, and only where it is no worse: not of a lower evaluation number than was ever accepted, of the
//! same number not issued earlier, and, from an upstream, not expired. What is kept outlives a restart.

mod ability;
mod folder;
mod intel;
mod leaves;
mod not_kept;
mod piece;
mod refusals;
mod replaced;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use attestation::forms;
use attestation::{Anchors, Collateral, Evidence, PreparedCollateral, ProductLine, Rejection, SigningKeyKind, TdxCollateral, VcekName};
use protocol::limits;
use protocol::time::UnixTime;
use tokio::sync::Mutex;

pub use ability::{Ability, UsableUntil};
pub use folder::CollateralFolder;
use intel::of_intel;
pub use leaves::Leaves;
pub use not_kept::NotKept;
pub(crate) use piece::hex;
pub use piece::{BadKey, Piece, PieceKey, RawPiece, Vendor};
use refusals::Refusals;
pub use refusals::{FILE, Refused};
use replaced::Replaced;

use crate::store::{Store, StoreError, StoredFloor, StoredPiece};

/// How often it is said again that a piece expires.
const SAID_AGAIN: Duration = Duration::from_secs(24 * 3600);
/// How often stored pieces that did not verify are looked at again: the clock may have been wrong.
const TRIED_AGAIN: Duration = Duration::from_secs(10 * 60);
/// How long after its last use to any policy a piece is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(30 * 24 * 3600);

/// Which vendors' platforms an installation is for, as its configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vendors {
    /// `[collateral.amd]` is there.
    pub amd: Named,
    /// `[collateral.intel]` is there.
    pub intel: Named,
    /// It names an upstream.
    pub intel_upstream: Named,
}

/// Whether the configuration names something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Named {
    /// It does.
    Yes,
    /// It does not.
    #[default]
    No,
}

/// Where a piece comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The vendor's service, or a mirror of it. It has no reason to send what has expired.
    Upstream,
    /// Somebody carried it here, perhaps a while ago.
    Carried,
    /// This broker's store.
    Stored,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upstream => "fetched",
            Self::Carried => "carried here",
            Self::Stored => "from the store",
        })
    }
}

/// All collateral that is there.
pub struct CollateralHouse {
    anchors: Arc<Anchors>,
    store: Arc<dyn Store>,
    folder: CollateralFolder,
    vendors: Vendors,
    held: RwLock<Held>,
    leaves: Leaves,
    /// A piece is compared with the one that is held, then kept: one at a time.
    keeping: Mutex<()>,
    said: std::sync::Mutex<HashMap<PieceKey, UnixTime>>,
    refusals: Refusals,
    /// When stored pieces were last read, if some of them were not used.
    unused: std::sync::Mutex<Option<UnixTime>>,
}

struct Held {
    /// All but VCEKs, by the text of their keys.
    pieces: BTreeMap<String, Arc<Piece>>,
    floors: BTreeMap<String, u32>,
    replaced: Replaced,
    in_use: Arc<PreparedCollateral>,
    /// What lies in the folder, is kept nowhere, and was not handed on to the verifier.
    left_out: Vec<Refused>,
}

/// What a piece says of itself, once it verified.
struct Judged {
    issued: UnixTime,
    until: UnixTime,
    evaluation: Option<(String, u32)>,
}

impl Judged {
    /// What a newer piece has more of, in this order: the evaluation number, then the time of issue.
    fn rank(issued: UnixTime, evaluation: Option<&(String, u32)>) -> (u32, UnixTime) {
        (evaluation.map_or(0, |(_, number)| *number), issued)
    }
}

impl CollateralHouse {
    /// Reads what the folder and the store have. Stored pieces are verified again; one that does not verify is left alone.
    ///
    /// # Errors
    /// What is wrong with the folder or the store.
    pub async fn open(
        folder: Option<PathBuf>,
        vendors: Vendors,
        anchors: Arc<Anchors>,
        store: Arc<dyn Store>,
        at: UnixTime,
    ) -> Result<Self, String> {
        let folder = CollateralFolder::open(folder, at)?;
        let floors = store.floors().await.map_err(|error| error.to_string())?;
        let held = Held {
            pieces: BTreeMap::new(),
            replaced: Replaced::new(),
            floors: floors.into_iter().map(|StoredFloor { subject, number }| (subject, number)).collect(),
            in_use: Arc::new(PreparedCollateral::prepare(Collateral::default(), &anchors)),
            left_out: Vec::new(),
        };
        let house = Self {
            anchors,
            store,
            folder,
            vendors,
            held: RwLock::new(held),
            leaves: Leaves::default(),
            keeping: Mutex::default(),
            said: std::sync::Mutex::default(),
            refusals: Refusals::default(),
            unused: std::sync::Mutex::default(),
        };
        house.take_back_all(at).await.map_err(|error| error.to_string())?;
        house.import_folder(at).await;
        house.rebuild(at);
        Ok(house)
    }

    /// Takes the stored pieces that are not held, each of them verified again.
    async fn take_back_all(&self, at: UnixTime) -> Result<(), StoreError> {
        let _one = self.keeping.lock().await;
        let mut unused = None;
        // Authorities stand before what they signed, in the order of keys.
        for stored in self.store.pieces().await? {
            if self.take_back_replaced(&stored) {
                continue;
            }
            let (text, key) = (stored.key.clone(), stored.key.parse::<PieceKey>());
            if key.as_ref().is_ok_and(|key| self.piece(key).is_some()) {
                continue;
            }
            match self.take_back(stored, at) {
                Ok(None) => key.iter().for_each(|key| self.refusals.settle(key)),
                Ok(Some(gone)) => self.store.remove_piece(&gone.key.to_string()).await?,
                Err(why) => {
                    tracing::warn!(key = text, %why, "a stored piece of collateral is not used");
                    let kind = key.as_ref().map_or(FILE, PieceKey::kind);
                    self.refusals.note(kind, text, Origin::Stored, &why, at);
                    unused = Some(at);
                }
            }
        }
        for line in self.lines() {
            self.drop_revoked(line).await?;
        }
        *self.unused.lock().unwrap_or_else(PoisonError::into_inner) = unused;
        Ok(())
    }

    /// Gives the certificate that goes for this one, where it is one of too many.
    fn take_back(&self, stored: StoredPiece, at: UnixTime) -> Result<Option<Arc<Piece>>, NotKept> {
        let key: PieceKey = stored.key.parse()?;
        let raw = RawPiece { bytes: stored.bytes, issuer_chain: stored.issuer_chain };
        let Judged { issued, until, evaluation } = self.judge(&key, &raw, at)?;
        self.above_floor(evaluation.as_ref())?;
        // Whatever the clock said then, it did not come in the future: the next fetch counts from here.
        let fetched_at = UnixTime::from_seconds(stored.fetched_at).min(at);
        Ok(self.put(Piece { key, raw, fetched_at, issued, until, evaluation }))
    }

    fn held(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn held_mut(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What evidence is verified with, but for the certificates of VCEKs.
    #[must_use]
    pub fn current(&self) -> Arc<PreparedCollateral> {
        Arc::clone(&self.held().in_use)
    }

    /// The certificates of VCEKs.
    #[must_use]
    pub const fn leaves(&self) -> &Leaves {
        &self.leaves
    }

    /// The piece that is kept under a key.
    #[must_use]
    pub fn piece(&self, key: &PieceKey) -> Option<Arc<Piece>> {
        match key {
            PieceKey::Vcek(name) => self.leaves.find(name),
            key => self.held().pieces.get(&key.to_string()).cloned(),
        }
    }

    /// All pieces that are held, in no order. Providers' certificates (VLEK) that lie in the folder are not among them.
    #[must_use]
    pub fn pieces(&self) -> Vec<Arc<Piece>> {
        let mut pieces = self.leaves.all();
        pieces.extend(self.held().pieces.values().cloned());
        pieces
    }

    /// The floors: the highest evaluation numbers that were ever accepted.
    #[must_use]
    pub fn floors(&self) -> BTreeMap<String, u32> {
        self.held().floors.clone()
    }

    /// Product lines under the roots in force.
    #[must_use]
    pub fn lines(&self) -> Vec<ProductLine> {
        self.anchors.lines().collect()
    }

    /// Whether Intel's root, or one in its place, is in force.
    #[must_use]
    pub fn has_intel_root(&self) -> bool {
        self.anchors.has_intel()
    }

    /// Reads the folder again where it changed, and tries stored pieces again that did not verify.
    pub async fn refresh(&self, at: UnixTime) {
        let mut changed = false;
        if self.is_to_try_again(at) {
            match self.take_back_all(at).await {
                Ok(()) => changed = true,
                Err(error) => tracing::error!(%error, "stored collateral cannot be read"),
            }
        }
        if self.folder.refresh(at) {
            self.import_folder(at).await;
            changed = true;
        }
        if changed {
            self.rebuild(at);
        }
    }

    fn is_to_try_again(&self, at: UnixTime) -> bool {
        let last = *self.unused.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| at < last || at >= last.plus(TRIED_AGAIN))
    }

    /// The certificates of VCEKs in the folder stand with the others: a bundle may bring hundreds, and evidence needs one.
    async fn take_in_leaves(&self, at: UnixTime) {
        for bytes in self.folder.current().certificates.iter().cloned() {
            let Some(name) = VcekName::of_certificate(&bytes) else { continue };
            let key = PieceKey::Vcek(name);
            let stored = StoredPiece { key: key.to_string(), bytes, issuer_chain: Vec::new(), fetched_at: at.seconds() };
            let taken = match self.take_back(stored, at) {
                Ok(None) => Ok(()),
                Ok(Some(gone)) => self.store.remove_piece(&gone.key.to_string()).await.map_err(NotKept::from),
                Err(why) => Err(why),
            };
            if let Err(why) = taken {
                tracing::warn!(%key, %why, "a certificate in the collateral folder is not used");
                self.refusals.note(key.kind(), key.to_string(), Origin::Carried, &why, at);
            }
        }
    }

    /// Keeps a piece, once it verified and is no worse than the one that is held; where it is kept, that is durable. The certificate of a
    /// VCEK that an upstream sent is held in memory: it is kept once a report under it verified ([`Self::learn`]).
    ///
    /// # Errors
    /// [`NotKept`]; the old piece stays, and [`Self::refused`] says why the new one is not there.
    pub async fn offer(&self, key: PieceKey, raw: RawPiece, origin: Origin, at: UnixTime) -> Result<(), NotKept> {
        let kept = self.keep(key, raw, origin, at).await;
        match &kept {
            Ok(()) => self.refusals.settle(&key),
            Err(why) => self.refusals.note(key.kind(), key.to_string(), origin, why, at),
        }
        kept
    }

    async fn keep(&self, key: PieceKey, raw: RawPiece, origin: Origin, at: UnixTime) -> Result<(), NotKept> {
        let _one = self.keeping.lock().await;
        let held = self.piece(&key);
        // A folder brings the same again and again. (Certificates of VCEKs that lie in it may be nowhere else.)
        let same = held.as_ref().is_some_and(|held| held.raw.bytes == raw.bytes);
        if same && origin == Origin::Carried && !matches!(key, PieceKey::Vcek(_)) {
            return Ok(());
        }
        let raw = self.completed(&key, raw);
        let Judged { issued, until, evaluation } = self.judge(&key, &raw, at)?;
        if origin == Origin::Upstream && until < at {
            return Err(NotKept::Expired { until, at });
        }
        if issued > at {
            return Err(NotKept::NotYet { issued, at });
        }
        self.above_floor(evaluation.as_ref())?;
        if let Some(held) = &held
            && Judged::rank(held.issued, held.evaluation.as_ref()) > Judged::rank(issued, evaluation.as_ref())
        {
            return Err(NotKept::Older { held: held.issued, found: issued });
        }
        let piece = Piece { key, raw, fetched_at: at, issued, until, evaluation };
        if let PieceKey::Vcek(name) = key
            && origin == Origin::Upstream
            && !self.leaves.keeps(&name)
        {
            self.leaves.hold(name, piece);
            return Ok(());
        }
        let RawPiece { bytes, issuer_chain } = piece.raw.clone();
        let stored = StoredPiece { key: key.to_string(), bytes, issuer_chain, fetched_at: at.seconds() };
        let floor = piece.evaluation.clone().map(|(subject, number)| StoredFloor { subject, number });
        if let Some(held) = held {
            self.keep_replaced(&held, floor.as_ref().map(|floor| floor.number)).await?;
        }
        self.store.keep_piece(stored, floor).await?;
        if let Some(gone) = self.put(piece) {
            tracing::info!(key = %gone.key, "forgotten, for too many certificates are kept");
            self.store.remove_piece(&gone.key.to_string()).await?;
        }
        if let PieceKey::AmdCrl(line) = key {
            self.drop_revoked(line).await?;
        }
        if !matches!(key, PieceKey::Vcek(_)) {
            self.rebuild(at);
        }
        Ok(())
    }

    /// Forgets the authorities of a line that a list of its root names: nothing is verified through them any more.
    async fn drop_revoked(&self, line: ProductLine) -> Result<(), StoreError> {
        for kind in [SigningKeyKind::Vcek, SigningKeyKind::Vlek] {
            let key = PieceKey::AmdAuthority(line, kind);
            let Some(piece) = self.piece(&key) else { continue };
            if let Err(why) = self.is_unrevoked(&piece.raw.bytes, line) {
                tracing::warn!(%key, %why, "an authority is forgotten");
                self.forget(&key).await?;
            }
        }
        Ok(())
    }

    fn is_unrevoked(&self, authority: &[u8], line: ProductLine) -> Result<(), Rejection> {
        let list = self.piece(&PieceKey::AmdCrl(line)).map(|piece| piece.raw.bytes.clone());
        attestation::judge_amd_revocation(authority, list.as_slice(), line, &self.anchors)
    }

    async fn forget(&self, key: &PieceKey) -> Result<(), StoreError> {
        self.store.remove_piece(&key.to_string()).await?;
        match key {
            PieceKey::Vcek(name) => self.leaves.remove(name),
            key => drop(self.held_mut().pieces.remove(&key.to_string())),
        }
        Ok(())
    }

    /// Forgets pieces of single machines and families (certificates of VCEKs, TCB infos) that no policy has had a use for in 30 days and
    /// that nobody renewed. Lists stay, however old: what they name is revoked for ever. So do floors.
    pub async fn forget_lapsed(&self, usable_until: UsableUntil<'_>, at: UnixTime) {
        let _one = self.keeping.lock().await;
        let of_one = |key: &PieceKey| matches!(key, PieceKey::Vcek(_) | PieceKey::TcbInfo(_));
        let lapsed = |piece: &Arc<Piece>| of_one(&piece.key) && usable_until(piece).max(piece.until).plus(FORGOTTEN) < at;
        let lapsed: Vec<_> = self.pieces().into_iter().filter(lapsed).collect();
        for piece in &lapsed {
            let (key, until) = (&piece.key, piece.until);
            match self.forget(key).await {
                Ok(()) => tracing::info!(%key, %until, "forgotten: it lapsed long ago, and nobody renewed it"),
                Err(error) => tracing::error!(%key, %error, "what lapsed long ago cannot be forgotten"),
            }
        }
        if !lapsed.is_empty() {
            self.rebuild(at);
        }
    }

    /// Whether verified evidence may hold what is not held here.
    #[must_use]
    pub fn may_learn(&self, evidence: &Evidence) -> bool {
        let Evidence::Snp(evidence) = evidence else { return false };
        VcekName::of_report(&evidence.report).is_some_and(|name| !self.leaves.keeps(&name))
    }

    /// Keeps what a verified guest brought, or what was fetched for it: the certificate of the VCEK that signed its report, which led to the
    /// pinned root in the verification that has just passed. It is found among what came by chip and TCB version, and verified by itself once more.
    pub async fn learn(&self, evidence: &Evidence, at: UnixTime) {
        let Evidence::Snp(evidence) = evidence else { return };
        let Some(name) = VcekName::of_report(&evidence.report).filter(|name| !self.leaves.keeps(name)) else { return };
        let Some(certificate) = evidence.certificates.iter().find(|der| name.is_of(der)) else { return };
        // With the guest's own authorities at hand: here they were verified with the rest.
        let brought: Vec<_> = evidence.certificates.iter().filter(|der| !name.is_of(der)).cloned().collect();
        let authorities: Vec<_> = brought.iter().cloned().chain(self.authorities()).collect();
        if name.judge(certificate, &authorities, &self.anchors, at).is_err() {
            return;
        }
        for der in &brought {
            let key = PieceKey::AmdAuthority(name.line(), SigningKeyKind::Vcek);
            if self.piece(&key).is_none()
                && attestation::judge_amd_authority(der, name.line(), SigningKeyKind::Vcek, &self.anchors, at).is_ok()
            {
                self.keep_quietly(key, der, at).await;
            }
        }
        self.keep_quietly(PieceKey::Vcek(name), certificate, at).await;
    }

    async fn keep_quietly(&self, key: PieceKey, der: &[u8], at: UnixTime) {
        let raw = RawPiece { bytes: der.to_vec(), issuer_chain: Vec::new() };
        match self.keep(key, raw, Origin::Carried, at).await {
            Ok(()) => tracing::info!(%key, "kept what a verified guest brought"),
            Err(why) => tracing::debug!(%key, %why, "what a guest brought is not kept"),
        }
    }

    /// Keeps what somebody carried here, each piece as [`Self::offer`] does, and says what became of each.
    pub async fn import(&self, mut collateral: Collateral, at: UnixTime) -> Vec<(String, Result<PieceKey, NotKept>)> {
        let mut outcomes = Vec::new();
        let (mut authorities, mut others) = (Vec::new(), Vec::new());
        for der in std::mem::take(&mut collateral.certificates) {
            match self.name_certificate(&der, at) {
                Some(key @ PieceKey::AmdAuthority(..)) => authorities.push((key, der)),
                named => others.push((named, der)),
            }
        }
        let certificates = authorities.into_iter().map(|(key, der)| (Some(key), der)).chain(others);
        let crls = std::mem::take(&mut collateral.crls).into_iter().map(|der| {
            let line = self.anchors.lines().find(|line| attestation::judge_amd_crl(&der, *line, &self.anchors).is_ok());
            ("amd-crl", line.map(PieceKey::AmdCrl).ok_or(NotKept::Unknown), RawPiece { bytes: der, issuer_chain: Vec::new() })
        });
        let certificates =
            certificates.map(|(key, bytes)| ("amd-authority", key.ok_or(NotKept::Unknown), RawPiece { bytes, issuer_chain: Vec::new() }));
        let intel = self.name_intel(collateral.tdx);
        for (kind, key, raw) in certificates.chain(crls).chain(intel).collect::<Vec<_>>() {
            match key {
                Ok(key) => {
                    let kept = self.offer(key, raw, Origin::Carried, at).await;
                    outcomes.push((key.to_string(), kept.map(|()| key)));
                }
                Err(why) => {
                    self.refusals.note(kind, kind.to_owned(), Origin::Carried, &why, at);
                    outcomes.push((kind.to_owned(), Err(why)));
                }
            }
        }
        outcomes
    }

    /// What a certificate of AMD's is the certificate of.
    fn name_certificate(&self, der: &[u8], at: UnixTime) -> Option<PieceKey> {
        let kinds = [SigningKeyKind::Vcek, SigningKeyKind::Vlek];
        let pairs = self.anchors.lines().flat_map(|line| kinds.map(|kind| (line, kind)));
        let authority =
            |(line, kind): &(ProductLine, SigningKeyKind)| attestation::judge_amd_authority(der, *line, *kind, &self.anchors, at).is_ok();
        let named = pairs.into_iter().find(authority).map(|(line, kind)| PieceKey::AmdAuthority(line, kind));
        named.or_else(|| VcekName::of_certificate(der).map(PieceKey::Vcek))
    }

    /// Pieces that expire within `warning`, or have expired, each at most once a day.
    pub fn expiring(&self, warning: Duration, at: UnixTime) -> Vec<Arc<Piece>> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let soon = self.pieces().into_iter().filter(|piece| piece.until <= at.plus(warning));
        let unsaid = soon.filter(|piece| said.get(&piece.key).is_none_or(|when| at >= when.plus(SAID_AGAIN)));
        let unsaid: Vec<_> = unsaid.collect();
        said.extend(unsaid.iter().map(|piece| (piece.key, at)));
        unsaid
    }

    /// What was not kept lately, and the files of the folder that are no collateral.
    #[must_use]
    pub fn refused(&self) -> Vec<Refused> {
        let mut all = self.refusals.all();
        all.extend(self.folder.left_out());
        all.extend(self.held().left_out.iter().cloned());
        all
    }

    /// What may explain that a piece of this kind is not held: the last one that was refused, or files of the folder from which nothing was
    /// taken.
    #[must_use]
    pub fn why_not(&self, key: &PieceKey) -> Vec<Refused> {
        match self.refusals.of(key.kind()) {
            Some(refused) => vec![refused],
            None => self.folder.left_out(),
        }
    }

    /// Of each kind: how many pieces are kept, and the earliest last second.
    #[must_use]
    pub fn sums(&self) -> BTreeMap<&'static str, (usize, UnixTime)> {
        let mut sums = BTreeMap::new();
        for piece in self.pieces() {
            let (count, earliest) = sums.entry(piece.key.kind()).or_insert((0, piece.until));
            *count += 1;
            *earliest = piece.until.min(*earliest);
        }
        sums
    }

    /// Imports what lies in the folder, but for the certificates of chips and providers; those of chips are taken in by themselves.
    async fn import_folder(&self, at: UnixTime) {
        let mut carried = (*self.folder.current()).clone();
        carried.certificates.retain(|der| !forms::is_of_a_chip(der));
        for (piece, outcome) in self.import(carried, at).await {
            match outcome {
                Ok(_) => {}
                Err(why @ NotKept::Older { .. }) => {
                    tracing::info!(piece, %why, "what lies in the collateral folder is older than what is held")
                }
                Err(why) => tracing::warn!(piece, %why, "what lies in the collateral folder is not used"),
            }
        }
        self.take_in_leaves(at).await;
    }

    fn above_floor(&self, evaluation: Option<&(String, u32)>) -> Result<(), NotKept> {
        let Some((subject, found)) = evaluation else { return Ok(()) };
        let floor = self.held().floors.get(subject).copied().unwrap_or(0);
        if *found < floor { Err(NotKept::BelowFloor { floor, found: *found }) } else { Ok(()) }
    }

    /// That a piece is what its key says, and genuine.
    fn judge(&self, key: &PieceKey, raw: &RawPiece, at: UnixTime) -> Result<Judged, NotKept> {
        let anchors = &self.anchors;
        let window = match *key {
            PieceKey::AmdAuthority(line, kind) => {
                let window = attestation::judge_amd_authority(&raw.bytes, line, kind, anchors, at)?;
                self.is_unrevoked(&raw.bytes, line)?;
                window
            }
            PieceKey::AmdCrl(line) => attestation::judge_amd_crl(&raw.bytes, line, anchors)?,
            PieceKey::Vcek(name) => name.judge(&raw.bytes, &self.authorities(), anchors, at)?,
            PieceKey::TcbInfo(_) | PieceKey::QeIdentity | PieceKey::PckCrl(_) | PieceKey::RootCrl => return self.judge_intel(key, raw),
        };
        Ok(Judged { issued: window.issued, until: window.until, evaluation: None })
    }

    /// Certificates of AMD's authorities at hand, DER.
    fn authorities(&self) -> Vec<Vec<u8>> {
        let held = self.held();
        let kept = held.pieces.values().filter(|piece| matches!(piece.key, PieceKey::AmdAuthority(..)));
        kept.map(|piece| piece.raw.bytes.clone()).collect()
    }

    /// Gives the certificate that goes for this one, where it is one of too many.
    fn put(&self, piece: Piece) -> Option<Arc<Piece>> {
        if let PieceKey::Vcek(name) = piece.key {
            return self.leaves.keep(name, piece);
        }
        let mut held = self.held_mut();
        if let Some((subject, number)) = &piece.evaluation {
            let floor = held.floors.entry(subject.clone()).or_insert(0);
            *floor = (*floor).max(*number);
        }
        held.pieces.insert(piece.key.to_string(), Arc::new(piece));
        None
    }

    /// Puts together what evidence is verified with: the pieces that are held, and providers' certificates (VLEK) from the folder, which are
    /// kept nowhere.
    fn rebuild(&self, at: UnixTime) {
        let mut held = self.held_mut();
        // Read under the lock: of two that put things together, the later has the newer folder.
        let folder = self.folder.current();
        let mut in_use = Collateral::default();
        for piece in held.pieces.values() {
            match piece.key {
                PieceKey::AmdAuthority(..) => in_use.certificates.push(piece.raw.bytes.clone()),
                PieceKey::AmdCrl(_) => in_use.crls.push(piece.raw.bytes.clone()),
                _ => {
                    let TdxCollateral { tcb_infos, qe_identities, crls, certificates, replaced: _ } = of_intel(&piece.key, &piece.raw);
                    in_use.tdx.tcb_infos.extend(tcb_infos);
                    in_use.tdx.qe_identities.extend(qe_identities);
                    in_use.tdx.crls.extend(crls);
                    in_use.tdx.certificates.extend(certificates);
                }
            }
        }
        in_use.tdx.replaced.extend(held.replaced.values().cloned());
        in_use.tdx.certificates.sort();
        in_use.tdx.certificates.dedup();
        held.left_out.clear();
        let of_provider = |der: &&Vec<u8>| forms::is_of_a_chip(der) && VcekName::of_certificate(der).is_none();
        for (index, der) in folder.certificates.iter().enumerate().filter(|(_, der)| of_provider(der)) {
            // The verifier refuses every report where one certificate is ill-formed, or there are too many.
            let why = match self.problem_of(der) {
                Some(rejection) => rejection.to_string(),
                None if in_use.certificates.len() >= limits::CERTIFICATES => {
                    format!("more than {} certificates of authorities and providers", limits::CERTIFICATES)
                }
                None => {
                    in_use.certificates.push(der.clone());
                    continue;
                }
            };
            let subject = format!("SNP certificate {index} of the folder");
            tracing::warn!(subject, why, "a certificate in the collateral folder is not used");
            held.left_out.push(Refused { kind: FILE, subject, origin: Origin::Carried, why, at });
        }
        let prepared = PreparedCollateral::prepare(in_use, &self.anchors);
        for (piece, why) in prepared.problems() {
            tracing::warn!(piece, %why, "a piece of collateral does not verify; it hurts those alone whom it would have served");
        }
        held.in_use = Arc::new(prepared);
    }

    /// What is wrong with the form of a certificate of AMD's.
    fn problem_of(&self, der: &[u8]) -> Option<Rejection> {
        let alone = Collateral { certificates: vec![der.to_vec()], ..Collateral::default() };
        PreparedCollateral::prepare(alone, &self.anchors).problems().next().map(|(_, rejection)| rejection.clone())
    }
}
