//! The vendors' collateral that this broker has: carried here in a folder, imported, fetched, or brought by guests.
//!
//! Not trusted: what is kept here verified when it came, and is verified again wherever it is used. A new piece takes the place of
//! an old one only after it verified, and only where it is no worse: not issued earlier, not of a lower evaluation number than
//! was ever accepted, and, from an upstream, not expired. What is kept outlives a restart.

mod folder;
mod piece;
mod refusals;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use attestation::{
    Anchors, Collateral, Evidence, PreparedCollateral, ProductLine, Rejection, SignedBody, SigningKeyKind, SnpEvidence, TdxCollateral,
    TdxPiece, TdxPieceKind, VcekName,
};
use protocol::encoding::to_base64;
use protocol::limits;
use protocol::time::UnixTime;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::Mutex;

pub use folder::CollateralFolder;
pub(crate) use piece::hex;
pub use piece::{BadKey, Piece, PieceKey, RawPiece, Vendor};
use refusals::Refusals;
pub use refusals::{FILE, Refused};

use crate::store::{Store, StoreError, StoredFloor, StoredPiece};

/// Certificates of VCEKs that are kept at most: one a machine and TCB version, some 2 KiB each.
const LEAVES: usize = 65_536;
/// How often it is said again that a piece expires.
const SAID_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// Which vendors' platforms an installation is for, as its configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vendors {
    /// `[collateral.amd]` is there.
    pub amd: Named,
    /// `[collateral.intel]` is there.
    pub intel: Named,
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
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upstream => "fetched",
            Self::Carried => "carried here",
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
}

struct Held {
    /// All but VCEKs, by the text of their keys.
    pieces: BTreeMap<String, Arc<Piece>>,
    floors: BTreeMap<String, u32>,
    in_use: Arc<PreparedCollateral>,
}

/// Certificates of VCEKs by what the keys are derived from. They stand apart because each guest needs one of them.
#[derive(Default)]
pub struct Leaves(RwLock<HashMap<VcekName, Arc<Piece>>>);

impl Leaves {
    fn find(&self, name: &VcekName) -> Option<Arc<Piece>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Puts the certificate of the key that an SNP report says signed it beside the certificates that came with it, where it is
    /// held and did not come. The verifier chooses among them.
    pub fn complete(&self, evidence: &mut SnpEvidence) {
        let held = VcekName::of_report(&evidence.report).and_then(|name| self.find(&name));
        let Some(piece) = held else { return };
        if evidence.certificates.len() < limits::CERTIFICATES && !evidence.certificates.contains(&piece.raw.bytes) {
            evidence.certificates.push(piece.raw.bytes.clone());
        }
    }
}

/// What a piece says of itself, once it verified.
struct Judged {
    issued: UnixTime,
    until: UnixTime,
    evaluation: Option<(String, u32)>,
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
        let pieces = store.pieces().await.map_err(|error| error.to_string())?;
        let floors = store.floors().await.map_err(|error| error.to_string())?;
        let held = Held {
            pieces: BTreeMap::new(),
            floors: floors.into_iter().map(|StoredFloor { subject, number }| (subject, number)).collect(),
            in_use: Arc::new(PreparedCollateral::prepare(Collateral::default(), &anchors)),
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
        };
        // Authorities stand before what they signed, in the order of keys.
        for stored in pieces {
            let key = stored.key.clone();
            if let Err(why) = house.take_back(stored, at) {
                tracing::warn!(key, %why, "a stored piece of collateral is not used");
            }
        }
        house.take_in_leaves(at);
        house.import_folder(at).await;
        house.rebuild();
        Ok(house)
    }

    fn take_back(&self, stored: StoredPiece, at: UnixTime) -> Result<(), NotKept> {
        let key: PieceKey = stored.key.parse()?;
        let raw = RawPiece { bytes: stored.bytes, issuer_chain: stored.issuer_chain };
        let Judged { issued, until, evaluation } = self.judge(&key, &raw, at)?;
        self.above_floor(evaluation.as_ref())?;
        self.put(Piece { key, raw, fetched_at: UnixTime::from_seconds(stored.fetched_at), issued, until, evaluation });
        Ok(())
    }

    /// What evidence is verified with, but for the certificates of VCEKs.
    #[must_use]
    pub fn current(&self) -> Arc<PreparedCollateral> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner).in_use)
    }

    /// What lies in the folder, as it is.
    #[must_use]
    pub fn carried(&self) -> Arc<Collateral> {
        self.folder.current()
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
            key => self.held.read().unwrap_or_else(PoisonError::into_inner).pieces.get(&key.to_string()).cloned(),
        }
    }

    /// All pieces that are kept, in no order. What lies in the folder is not among them.
    #[must_use]
    pub fn pieces(&self) -> Vec<Arc<Piece>> {
        let leaves = self.leaves.0.read().unwrap_or_else(PoisonError::into_inner);
        self.held.read().unwrap_or_else(PoisonError::into_inner).pieces.values().chain(leaves.values()).cloned().collect()
    }

    /// The floors: the highest evaluation numbers that were ever accepted.
    #[must_use]
    pub fn floors(&self) -> BTreeMap<String, u32> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).floors.clone()
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

    /// Reads the folder again where it changed.
    pub async fn refresh(&self, at: UnixTime) {
        if self.folder.refresh(at) {
            self.take_in_leaves(at);
            self.import_folder(at).await;
            self.rebuild();
        }
    }

    /// The certificates of VCEKs in the folder stand with the others: a bundle may bring hundreds, and evidence needs one.
    fn take_in_leaves(&self, at: UnixTime) {
        for bytes in self.folder.current().certificates.iter().cloned() {
            let Some(name) = VcekName::of_certificate(&bytes) else { continue };
            let key = PieceKey::Vcek(name);
            let stored = StoredPiece { key: key.to_string(), bytes, issuer_chain: Vec::new(), fetched_at: at.seconds() };
            if let Err(why) = self.take_back(stored, at) {
                tracing::warn!(%key, %why, "a certificate in the collateral folder is not used");
                self.refusals.note(key.kind(), key.to_string(), Origin::Carried, &why, at);
            }
        }
    }

    /// Keeps a piece, once it verified and is no worse than the one that is held; where it is kept, that is durable.
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
        let Judged { issued, until, evaluation } = self.judge(&key, &raw, at)?;
        if origin == Origin::Upstream && until < at {
            return Err(NotKept::Expired { until, at });
        }
        if issued > at {
            return Err(NotKept::NotYet { issued, at });
        }
        self.above_floor(evaluation.as_ref())?;
        match self.piece(&key) {
            Some(held) if held.issued > issued => return Err(NotKept::Older { held: held.issued, found: issued }),
            None if matches!(key, PieceKey::Vcek(_)) && self.leaves.0.read().unwrap_or_else(PoisonError::into_inner).len() >= LEAVES => {
                return Err(NotKept::Full);
            }
            _ => {}
        }
        let stored = StoredPiece {
            key: key.to_string(),
            bytes: raw.bytes.clone(),
            issuer_chain: raw.issuer_chain.clone(),
            fetched_at: at.seconds(),
        };
        let floor = evaluation.clone().map(|(subject, number)| StoredFloor { subject, number });
        self.store.keep_piece(stored, floor).await?;
        self.put(Piece { key, raw, fetched_at: at, issued, until, evaluation });
        if !matches!(key, PieceKey::Vcek(_)) {
            self.rebuild();
        }
        Ok(())
    }

    /// Whether verified evidence may hold what is not held here.
    #[must_use]
    pub fn may_learn(&self, evidence: &Evidence) -> bool {
        let Evidence::Snp(evidence) = evidence else { return false };
        VcekName::of_report(&evidence.report).is_some_and(|name| self.leaves.find(&name).is_none())
    }

    /// Keeps what a verified guest brought: the certificate of the VCEK that signed its report, which led to the pinned root in
    /// the verification that has just passed. It is found among what came by chip and TCB version, and verified by itself once more.
    pub async fn learn(&self, evidence: &Evidence, at: UnixTime) {
        let Evidence::Snp(evidence) = evidence else { return };
        let Some(name) = VcekName::of_report(&evidence.report).filter(|name| self.leaves.find(name).is_none()) else { return };
        let Some(certificate) = evidence.certificates.iter().find(|der| name.is_of(der)) else { return };
        // With the guest's own authorities at hand: here they were verified with the rest.
        let brought: Vec<_> = evidence.certificates.iter().filter(|der| !name.is_of(der)).cloned().collect();
        if name.judge(certificate, &brought, &self.anchors, at).is_err() {
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

    /// What each of Intel's pieces is, or why that is not known, with its kind. Lists get the certificates that they need as their issuer
    /// chain.
    fn name_intel(&self, tdx: TdxCollateral) -> Vec<(&'static str, Result<PieceKey, NotKept>, RawPiece)> {
        let key = |tdx: TdxCollateral| key_of(&self.read_intel(tdx)?).ok_or(NotKept::Unknown);
        let raw = |bytes, issuer_chain| RawPiece { bytes, issuer_chain };
        let mut named = Vec::new();
        let chain = pem_of(&tdx.certificates);
        for SignedBody { body, issuer_chain } in tdx.tcb_infos {
            let one = vec![SignedBody { body: body.clone(), issuer_chain: issuer_chain.clone() }];
            named.push(("tcb-info", key(TdxCollateral { tcb_infos: one, ..TdxCollateral::default() }), raw(body, issuer_chain)));
        }
        for SignedBody { body, issuer_chain } in tdx.qe_identities {
            let one = vec![SignedBody { body: body.clone(), issuer_chain: issuer_chain.clone() }];
            named.push(("qe-identity", key(TdxCollateral { qe_identities: one, ..TdxCollateral::default() }), raw(body, issuer_chain)));
        }
        for der in tdx.crls {
            let of_list = TdxCollateral { crls: vec![der.clone()], certificates: tdx.certificates.clone(), ..TdxCollateral::default() };
            let key = key(of_list);
            let kind = key.as_ref().map_or("pck-crl", PieceKey::kind);
            named.push((kind, key, raw(der, chain.clone())));
        }
        named
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

    /// Why this broker could not verify any platform of a vendor that its configuration names.
    #[must_use]
    pub fn unable(&self, at: UnixTime) -> Option<(Vendor, &'static str)> {
        let in_force = |key: PieceKey| self.piece(&key).is_some_and(|piece| at <= piece.until);
        let lines = self.lines();
        let carried = self.folder.current();
        let in_folder = |line: ProductLine| {
            carried.crls.iter().any(|der| attestation::judge_amd_crl(der, line, &self.anchors).is_ok_and(|window| at <= window.until))
        };
        if self.vendors.amd == Named::Yes && !lines.iter().any(|line| in_force(PieceKey::AmdCrl(*line)) || in_folder(*line)) {
            return Some((Vendor::Amd, "no revocation list of any product line is in force"));
        }
        let intel = self.current().tdx_pieces();
        let lacks = |wanted: &dyn Fn(&TdxPiece) -> bool| !intel.iter().any(|piece| wanted(piece) && at <= piece.next_update);
        if self.vendors.intel == Named::No {
            return None;
        }
        let reasons: [(bool, &'static str); 3] = [
            (lacks(&|piece| matches!(piece.kind, TdxPieceKind::QeIdentity)), "no identity of the quoting enclave is in force"),
            (lacks(&|piece| matches!(piece.kind, TdxPieceKind::RootCrl)), "no revocation list of the root is in force"),
            (lacks(&|piece| matches!(piece.kind, TdxPieceKind::PckCrl)), "no revocation list of a PCK authority is in force"),
        ];
        reasons.into_iter().find(|(lacks, _)| *lacks).map(|(_, why)| (Vendor::Intel, why))
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

    /// Imports what lies in the folder of Intel's.
    async fn import_folder(&self, at: UnixTime) {
        let tdx = self.folder.current().tdx.clone();
        for (piece, outcome) in self.import(Collateral { tdx, ..Collateral::default() }, at).await {
            if let Err(why) = outcome {
                tracing::warn!(piece, %why, "what lies in the collateral folder is not used");
            }
        }
    }

    fn above_floor(&self, evaluation: Option<&(String, u32)>) -> Result<(), NotKept> {
        let Some((subject, found)) = evaluation else { return Ok(()) };
        let floor = self.held.read().unwrap_or_else(PoisonError::into_inner).floors.get(subject).copied().unwrap_or(0);
        if *found < floor { Err(NotKept::BelowFloor { floor, found: *found }) } else { Ok(()) }
    }

    /// That a piece is what its key says, and genuine.
    fn judge(&self, key: &PieceKey, raw: &RawPiece, at: UnixTime) -> Result<Judged, NotKept> {
        let anchors = &self.anchors;
        let window = match *key {
            PieceKey::AmdAuthority(line, kind) => attestation::judge_amd_authority(&raw.bytes, line, kind, anchors, at)?,
            PieceKey::AmdCrl(line) => attestation::judge_amd_crl(&raw.bytes, line, anchors)?,
            PieceKey::Vcek(name) => name.judge(&raw.bytes, &self.authorities(), anchors, at)?,
            PieceKey::TcbInfo(_) | PieceKey::QeIdentity | PieceKey::PckCrl(_) | PieceKey::RootCrl => return self.judge_intel(key, raw),
        };
        Ok(Judged { issued: window.issued, until: window.until, evaluation: None })
    }

    fn judge_intel(&self, key: &PieceKey, raw: &RawPiece) -> Result<Judged, NotKept> {
        let piece = self.read_intel(of_intel(key, raw))?;
        if key_of(&piece) != Some(*key) {
            return Err(NotKept::Other { found: key_of(&piece).map_or_else(String::new, |key| key.to_string()) });
        }
        let evaluation = piece.evaluation.and_then(|number| Some((floor_of(key)?, number)));
        Ok(Judged { issued: piece.issued, until: piece.next_update, evaluation })
    }

    /// The one piece in this, verified. A list of the root that is held is looked at too: it may name the signer.
    fn read_intel(&self, mut tdx: TdxCollateral) -> Result<TdxPiece, NotKept> {
        let root_list = self.piece(&PieceKey::RootCrl).filter(|_| tdx.crls.is_empty());
        let others = usize::from(root_list.is_some());
        tdx.crls.extend(root_list.map(|piece| piece.raw.bytes.clone()));
        let prepared = PreparedCollateral::prepare(Collateral { tdx, ..Collateral::default() }, &self.anchors);
        if let Some((_, rejection)) = prepared.problems().next() {
            return Err(rejection.clone().into());
        }
        let mut pieces = prepared.tdx_pieces();
        if others == 1 {
            pieces.retain(|piece| !matches!(piece.kind, TdxPieceKind::RootCrl));
        }
        pieces.pop().ok_or(NotKept::Unknown)
    }

    /// Certificates of AMD's authorities at hand, DER.
    fn authorities(&self) -> Vec<Vec<u8>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let kept = held.pieces.values().filter(|piece| matches!(piece.key, PieceKey::AmdAuthority(..)));
        kept.map(|piece| piece.raw.bytes.clone()).chain(self.folder.current().certificates.iter().cloned()).collect()
    }

    fn put(&self, piece: Piece) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((subject, number)) = &piece.evaluation {
            let floor = held.floors.entry(subject.clone()).or_insert(0);
            *floor = (*floor).max(*number);
        }
        match piece.key {
            PieceKey::Vcek(name) => {
                self.leaves.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(piece));
            }
            key => {
                held.pieces.insert(key.to_string(), Arc::new(piece));
            }
        }
    }

    /// Puts folder and pieces together.
    fn rebuild(&self) {
        let mut in_use = (*self.folder.current()).clone();
        // What lies there of Intel's was imported: it has floors.
        in_use.tdx = TdxCollateral::default();
        in_use.certificates.retain(|der| VcekName::of_certificate(der).is_none());
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        for piece in held.pieces.values() {
            let (list, bytes) = match piece.key {
                PieceKey::AmdAuthority(..) => (&mut in_use.certificates, &piece.raw.bytes),
                PieceKey::AmdCrl(_) => (&mut in_use.crls, &piece.raw.bytes),
                _ => {
                    let TdxCollateral { tcb_infos, qe_identities, crls, certificates } = of_intel(&piece.key, &piece.raw);
                    in_use.tdx.tcb_infos.extend(tcb_infos);
                    in_use.tdx.qe_identities.extend(qe_identities);
                    in_use.tdx.crls.extend(crls);
                    in_use.tdx.certificates.extend(certificates);
                    continue;
                }
            };
            if !list.contains(bytes) {
                list.push(bytes.clone());
            }
        }
        in_use.tdx.certificates.sort();
        in_use.tdx.certificates.dedup();
        let prepared = PreparedCollateral::prepare(in_use, &self.anchors);
        for (piece, why) in prepared.problems() {
            tracing::warn!(piece, %why, "a piece of collateral does not verify; it hurts those alone whom it would have served");
        }
        held.in_use = Arc::new(prepared);
    }
}

/// A piece of Intel's, as the verifier takes it.
fn of_intel(key: &PieceKey, raw: &RawPiece) -> TdxCollateral {
    let body = || vec![SignedBody { body: raw.bytes.clone(), issuer_chain: raw.issuer_chain.clone() }];
    match key {
        PieceKey::TcbInfo(_) => TdxCollateral { tcb_infos: body(), ..TdxCollateral::default() },
        PieceKey::QeIdentity => TdxCollateral { qe_identities: body(), ..TdxCollateral::default() },
        _ => {
            let chain = CertificateDer::pem_slice_iter(&raw.issuer_chain).filter_map(Result::ok).map(|der| der.to_vec());
            TdxCollateral { crls: vec![raw.bytes.clone()], certificates: chain.collect(), ..TdxCollateral::default() }
        }
    }
}

/// The key of a verified piece of Intel's.
const fn key_of(piece: &TdxPiece) -> Option<PieceKey> {
    match (piece.kind, piece.fmspc, piece.authority) {
        (TdxPieceKind::TcbInfo, Some(fmspc), _) => Some(PieceKey::TcbInfo(fmspc)),
        (TdxPieceKind::QeIdentity, ..) => Some(PieceKey::QeIdentity),
        (TdxPieceKind::RootCrl, ..) => Some(PieceKey::RootCrl),
        (TdxPieceKind::PckCrl, _, Some(authority)) => Some(PieceKey::PckCrl(authority)),
        _ => None,
    }
}

/// What a piece's evaluation number is the number of.
fn floor_of(key: &PieceKey) -> Option<String> {
    match key {
        PieceKey::TcbInfo(fmspc) => Some(format!("TDX/{}", hex(fmspc))),
        PieceKey::QeIdentity => Some("TD_QE".to_owned()),
        _ => None,
    }
}

/// Certificates in PEM.
fn pem_of(certificates: &[Vec<u8>]) -> Vec<u8> {
    let one = |der: &Vec<u8>| format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", to_base64(der));
    certificates.iter().map(one).collect::<String>().into_bytes()
}

/// Why a piece is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// It does not verify.
    #[error(transparent)]
    Rejected(Box<Rejection>),
    /// It is nothing that this broker keeps under the roots in force.
    #[error("it is nothing that is kept under the roots in force")]
    Unknown,
    /// It is another piece than the one that was asked for.
    #[error("it is another piece: {found}")]
    Other {
        /// Which.
        found: String,
    },
    /// Its key in the store names nothing.
    #[error(transparent)]
    Key(#[from] BadKey),
    /// It has expired.
    #[error("it ran out at {until}, before {at}")]
    Expired {
        /// Its last second.
        until: UnixTime,
        /// Now.
        at: UnixTime,
    },
    /// It is of the future.
    #[error("it was issued at {issued}, after {at}")]
    NotYet {
        /// When it was issued.
        issued: UnixTime,
        /// Now.
        at: UnixTime,
    },
    /// A newer one is held.
    #[error("it was issued at {found}, the one that is held at {held}")]
    Older {
        /// Of the one that is held.
        held: UnixTime,
        /// Of this one.
        found: UnixTime,
    },
    /// A higher evaluation number was accepted before.
    #[error("its evaluation number is {found}, and {floor} was accepted before")]
    BelowFloor {
        /// The highest number that was ever accepted.
        floor: u32,
        /// This one's.
        found: u32,
    },
    /// There are too many.
    #[error("no more than {LEAVES} certificates are kept")]
    Full,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Rejection> for NotKept {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(Box::new(rejection))
    }
}
