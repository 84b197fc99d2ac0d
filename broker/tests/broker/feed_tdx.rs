//! The feed of Intel's collateral: documents with floors, and lists. Evidence is judged with what it brought.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use attestation::{Anchors, Evidence, Lapsed, PckAuthority, ReportDataRule, TdxEvidence};
use broker::clock;
use broker::collateral::{Ability, CollateralHouse, Named, NotKept, Origin, PieceKey, RawPiece, Vendors};
use broker::feed::{Feed, Settings, Upstream, Wanted};
use broker::store::Store;
use broker::store::sqlite::SqliteStore;
use protocol::admin::{CollateralHeld, Ending, Explanation};
use protocol::ids::Platform;
use protocol::messages::{EvidenceMessage, Problem, ReleaseRequest};
use protocol::time::UnixTime;
use protocol::transcript::Transcript;
use tempfile::TempDir;
use testbed::services::{Answer, Mood, Pcs, Service};
use testbed::snp::Root;
use testbed::tdx::{SoftTdx, TdShape};

use crate::feed::{CLIENT, fetch, later};
use crate::house::{Guest, House};
use crate::http::{Answer as Said, Served, problem, retry_after, serve_house};

const DOCUMENTS: &str = "/tdx/certification/v4/tcb";

pub fn tcb() -> PieceKey {
    PieceKey::TcbInfo(SoftTdx::new().fmspc)
}

pub fn anchors() -> Arc<Anchors> {
    Arc::new(Anchors::test_with_intel(Vec::new(), SoftTdx::new().root_der()).unwrap())
}

/// A place for a store and a folder.
pub struct Site(TempDir);

impl Site {
    pub async fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(site.folder()).unwrap();
        SqliteStore::create(&site.path()).await.unwrap();
        site
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("store.sqlite")
    }

    pub fn folder(&self) -> std::path::PathBuf {
        self.0.path().join("collateral")
    }

    pub async fn store(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(&self.path()).await.unwrap())
    }

    pub async fn house(&self) -> Arc<CollateralHouse> {
        self.house_for(Vendors { intel: Named::Yes, ..Vendors::default() }).await
    }

    async fn house_for(&self, vendors: Vendors) -> Arc<CollateralHouse> {
        Arc::new(CollateralHouse::open(Some(self.folder()), vendors, anchors(), self.store().await, clock::now()).await.unwrap())
    }
}

pub fn feed(url: String, house: &Arc<CollateralHouse>) -> Arc<Feed> {
    let intel = Some(Upstream { url, ca_file: None });
    let settings = Settings { intel, timeout: Duration::from_millis(400), ..Settings::default() };
    Arc::new(Feed::new(&settings, Arc::clone(house)).unwrap())
}

/// Everything that a guest on the soft machine needs.
pub async fn filled(pcs: &Pcs, house: &Arc<CollateralHouse>) -> Arc<Feed> {
    let feed = feed(pcs.url(), house);
    assert!(matches!(feed.want(tcb(), CLIENT, clock::now()), Wanted::Coming(_)));
    fetch(&feed, clock::now()).await;
    feed
}

/// The soft machine with documents of another number, issued a while ago.
pub fn evaluated(number: u32, days_ago: u64) -> SoftTdx {
    let mut platform = SoftTdx::new();
    platform.evaluation = number;
    platform.validity.documents.not_before = clock::now().seconds() - days_ago * 24 * 3600;
    platform
}

pub fn number(house: &CollateralHouse) -> Option<u32> {
    house.piece(&tcb())?.evaluation.as_ref().map(|(_, number)| *number)
}

/// Whether Intel's platforms could be verified, without any policy that allows for age.
pub fn intel(house: &CollateralHouse, at: UnixTime) -> Ability {
    house.abilities(&|piece| piece.until, at)[0].1
}

pub fn judged(house: &CollateralHouse, at: UnixTime) -> Result<(), attestation::Rejection> {
    let soft = SoftTdx::new().guest(TdShape::default()).attest(&[7; 64]);
    let evidence = Evidence::Tdx(TdxEvidence { quote: soft.quote, event_log: None });
    attestation::judge(&evidence, &house.current(), &anchors(), ReportDataRule::NotCompared, Lapsed::Rejected, at).map(drop)
}

#[tokio::test]
async fn what_every_guest_needs_comes_at_start_and_a_family_when_it_is_first_seen() {
    let pcs = Pcs::start(vec![SoftTdx::new()]);
    let site = Site::new().await;
    let house = site.house().await;
    let feed = feed(pcs.url(), &house);
    let now = clock::now();
    fetch(&feed, now).await;
    for key in
        [PieceKey::RootCrl, PieceKey::QeIdentity, PieceKey::PckCrl(PckAuthority::Platform), PieceKey::PckCrl(PckAuthority::Processor)]
    {
        assert!(house.piece(&key).is_some(), "{key}");
    }
    assert_eq!(judged(&house, now).unwrap_err().code(), "tdx-collateral-missing");
    assert_eq!(pcs.count(DOCUMENTS), 0);
    for _ in 0..8 {
        assert!(matches!(feed.want(tcb(), CLIENT, now), Wanted::Coming(_)));
    }
    fetch(&feed, now).await;
    assert_eq!(judged(&house, now), Ok(()));
    assert_eq!(pcs.count(DOCUMENTS), 1);
    fetch(&feed, later(now, 25)).await;
    assert_eq!(pcs.count(DOCUMENTS), 2, "from then on it is fetched anew");
    assert_eq!(judged(&*site.house().await, now), Ok(()), "after a restart too");
    let unknown = PieceKey::TcbInfo([9; 6]);
    feed.want(unknown, CLIENT, now);
    fetch(&feed, now).await;
    assert_eq!(feed.want(unknown, CLIENT, now), Wanted::Absent);
}

#[tokio::test]
async fn the_highest_evaluation_number_is_never_undercut() {
    let pcs = Pcs::start(vec![evaluated(20, 2)]);
    let site = Site::new().await;
    {
        let house = site.house().await;
        let feed = filled(&pcs, &house).await;
        assert_eq!(number(&house), Some(20));
        pcs.replace(vec![evaluated(19, 1)]);
        fetch(&feed, later(clock::now(), 25)).await;
        assert_eq!(number(&house), Some(20), "it is newer, and of a lower number");
        pcs.replace(vec![evaluated(21, 1)]);
        fetch(&feed, later(clock::now(), 50)).await;
        assert_eq!(number(&house), Some(21), "the near miss is kept");
    }
    site.store().await.remove_piece(&tcb().to_string()).await.unwrap();
    let house = site.house().await;
    assert_eq!(number(&house), None);
    let old = evaluated(20, 1);
    let raw = RawPiece { bytes: old.tcb_info_body(|_| ()), issuer_chain: old.tcb_issuer_chain().into_bytes() };
    for origin in [Origin::Upstream, Origin::Carried] {
        let refused = house.offer(tcb(), raw.clone(), origin, clock::now()).await;
        assert_eq!(refused, Err(NotKept::BelowFloor { floor: 21, found: 20 }), "also when the piece itself is gone");
    }
    let same = evaluated(21, 1);
    let raw = RawPiece { bytes: same.tcb_info_body(|_| ()), issuer_chain: same.tcb_issuer_chain().into_bytes() };
    assert_eq!(house.offer(tcb(), raw, Origin::Carried, clock::now()).await, Ok(()));
}

#[tokio::test]
async fn a_stored_piece_below_its_floor_is_not_used() {
    let pcs = Pcs::start(vec![evaluated(20, 2)]);
    let site = Site::new().await;
    filled(&pcs, &site.house().await).await;
    let store = site.store().await;
    let old = store.pieces().await.unwrap().into_iter().find(|piece| piece.key == tcb().to_string()).unwrap();
    let floor = broker::store::StoredFloor { subject: "TDX/7706fe000000".to_owned(), number: 21 };
    store.keep_piece(old, Some(floor)).await.unwrap();
    assert_eq!(number(&*site.house().await), None);
}

#[tokio::test]
async fn every_way_to_fail_leaves_the_documents_that_are_held_in_use() {
    let ways = [
        Mood::Throttled { status: 429, retry_after: Some(1) },
        Mood::Slow(Duration::from_secs(2)),
        Mood::Garbage,
        Mood::Halved,
        Mood::Truncated,
        Mood::HangsUp,
        Mood::Status(500),
        Mood::Status(404),
        Mood::Huge(2 * 1024 * 1024),
    ];
    for mood in ways {
        let pcs = Pcs::start(vec![evaluated(20, 2)]);
        let house = Site::new().await.house().await;
        let feed = filled(&pcs, &house).await;
        pcs.replace(vec![evaluated(21, 1)]);
        pcs.set(mood);
        fetch(&feed, later(clock::now(), 25)).await;
        assert_eq!((number(&house), judged(&house, clock::now())), (Some(20), Ok(())), "{mood:?}");
        pcs.set(Mood::Well);
        fetch(&feed, later(clock::now(), 27)).await;
        assert_eq!(number(&house), Some(21), "{mood:?}");
    }
}

#[tokio::test]
async fn a_document_of_another_family_another_signer_or_another_time_is_not_kept() {
    let mut other = SoftTdx::new();
    other.fmspc = [0x77, 6, 0xfe, 0, 0, 1];
    let mut expired = SoftTdx::new();
    expired.validity.documents.not_after = clock::now().seconds() - 1;
    for (platform, name) in [(other, "family"), (SoftTdx::new().under(Root::Other), "root"), (expired, "expired")] {
        let (body, chain) = (platform.tcb_info_body(|_| ()), platform.tcb_issuer_chain().replace('\n', "%0A").replace(' ', "%20"));
        let headers = vec![("SGX-TCB-Info-Issuer-Chain".to_owned(), chain)];
        let pcs = Service::start(move |_| Some(Answer { headers: headers.clone(), body: body.clone() }));
        let house = Site::new().await.house().await;
        let feed = feed(pcs.url(), &house);
        feed.want(tcb(), CLIENT, clock::now());
        fetch(&feed, clock::now()).await;
        assert!(pcs.count(DOCUMENTS) == 1 && house.pieces().is_empty(), "{name}");
    }
}

#[tokio::test]
async fn an_intel_installation_is_ready_once_a_quote_could_be_verified() {
    let pcs = Pcs::start(vec![SoftTdx::new()]);
    let asked = Vendors { intel: Named::Yes, intel_upstream: Named::Yes, ..Vendors::default() };
    let house = Site::new().await.house_for(asked).await;
    assert_eq!(intel(&house, clock::now()), Ability::No("no identity of the quoting enclave is in force"));
    let feed = feed(pcs.url(), &house);
    fetch(&feed, clock::now()).await;
    assert_eq!(intel(&house, clock::now()), Ability::InForce, "a family's document is fetched when its first guest comes");
    feed.want(tcb(), CLIENT, clock::now());
    fetch(&feed, clock::now()).await;
    let end = UnixTime::from_seconds(SoftTdx::new().validity.documents.not_after);
    assert_eq!(intel(&house, end), Ability::InForce);
    assert_eq!(intel(&house, end.plus(Duration::from_secs(1))), Ability::No("no identity of the quoting enclave is in force"));
}

pub fn carry(folder: &Path, platform: &SoftTdx) {
    let collateral = platform.collateral();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    write("tcb.json", &collateral.tcb_info);
    write("tcb_issuer_chain.pem", collateral.issuer_chain.as_bytes());
    write("qe.json", &collateral.qe_identity);
    write("qe_issuer_chain.pem", collateral.issuer_chain.as_bytes());
    write("root.crl", &collateral.root_list);
    write("platform.crl", &collateral.pck_list);
    write("platform_issuer_chain.pem", collateral.pck_list_issuer_chain.as_bytes());
}

#[tokio::test]
async fn a_folder_alone_serves_and_has_floors_too() {
    let site = Site::new().await;
    carry(&site.folder(), &evaluated(20, 2));
    let house = site.house().await;
    let now = clock::now();
    assert_eq!((number(&house), judged(&house, now), intel(&house, now)), (Some(20), Ok(()), Ability::InForce));
    carry(&site.folder(), &evaluated(19, 1));
    assert_eq!(number(&*site.house().await), Some(20));
}

/// Asks as a guest on this soft TDX machine.
pub async fn ask(served: &Served, machine: &SoftTdx) -> Said {
    let (guest, challenge) = (Guest::default(), served.challenge().await);
    let transcript = Transcript { platform: Platform::Tdx, ..guest.transcript(&challenge) };
    let quote = machine.guest(TdShape::default()).attest(&transcript.report_data()).quote;
    let evidence = EvidenceMessage::Tdx { quote, event_log: None };
    served.release(&guest, &ReleaseRequest { platform: Platform::Tdx, ..guest.request_with(&challenge, evidence) }).await
}

pub async fn served(pcs: &Pcs) -> Served {
    let mut house = House::with_llama().await;
    house.feed.intel = Some(Upstream { url: pcs.url(), ca_file: None });
    serve_house(house, None).await
}

#[tokio::test]
async fn a_guest_of_a_family_not_seen_before_is_told_to_come_back_and_is_then_verified() {
    let pcs = Pcs::start(vec![SoftTdx::new()]);
    let served = served(&pcs).await;
    fetch(&served.broker.feed, clock::now()).await;
    for _ in 0..8 {
        let answer = ask(&served, &SoftTdx::new()).await;
        problem(&answer, 503, "collateral-being-fetched");
        assert!(retry_after(answer.headers()) >= 1);
    }
    fetch(&served.broker.feed, clock::now()).await;
    assert_eq!((ask(&served, &SoftTdx::new()).await.status(), pcs.count(DOCUMENTS)), (axum::http::StatusCode::OK, 1));
    let unknown = SoftTdx::new().with(|machine| machine.fmspc = [9; 6]);
    problem(&ask(&served, &unknown).await, 503, "collateral-being-fetched");
    fetch(&served.broker.feed, clock::now()).await;
    let told = problem(&ask(&served, &unknown).await, 403, "tdx-collateral-missing");
    assert!(told.hint.unwrap().contains("knows no such platform"));
}

#[tokio::test]
async fn where_nobody_is_asked_for_documents_the_rejection_says_so() {
    let served = serve_house(House::with_llama().await, None).await;
    let told = problem(&ask(&served, &SoftTdx::new()).await, 403, "tdx-collateral-missing");
    assert!(told.hint.unwrap().contains("[collateral.intel] upstream"));
}

/// What the operator reads of a rejection.
async fn explained(served: &Served, told: &Problem) -> String {
    let answer = served.admin("GET", &format!("/v1/decisions/{}", told.decision.unwrap()), Vec::new()).await;
    let explanation: Explanation = serde_json::from_slice(answer.body()).unwrap();
    let Ending::Rejected { detail, .. } = explanation.ending else { panic!("{explanation:?}") };
    detail
}

async fn refused(served: &Served) -> Vec<(String, String, String)> {
    let answer = served.admin("GET", "/v1/collateral", Vec::new()).await;
    let held: CollateralHeld = serde_json::from_slice(answer.body()).unwrap();
    held.refused.into_iter().map(|piece| (piece.kind, piece.subject, piece.why)).collect()
}

#[tokio::test]
async fn the_operator_is_told_why_a_document_that_was_carried_here_is_not_held_and_the_guest_is_not() {
    let house = House::with_llama().await;
    let (folder, platform) = (house.data().join("collateral"), evaluated(20, 2));
    carry(&folder, &platform);
    let forged = String::from_utf8(platform.collateral().tcb_info).unwrap().replace("DataNumber\":20", "DataNumber\":21");
    std::fs::write(folder.join("tcb.json"), forged).unwrap();
    let served = serve_house(house, None).await;
    let why = "the signature of the tcb-info does not verify over its bytes as received";
    assert_eq!(
        refused(&served).await,
        [("tcb-info", "tcb-info", why)].map(|(kind, subject, why)| (kind.into(), subject.into(), why.into()))
    );
    let told = problem(&ask(&served, &platform).await, 403, "tdx-collateral-missing");
    assert!(!format!("{told:?}").contains("refused"), "{told:?}");
    let detail = explained(&served, &told).await;
    assert!(detail.contains("; tcb-info, carried here at ") && detail.ends_with(&format!(", was refused: {why}")), "{detail}");
    // The good one comes in the place of the bad one, and nothing is refused any more.
    carry(&folder, &platform);
    served.broker.collateral.refresh(clock::now()).await;
    assert_eq!(refused(&served).await, []);
    assert_eq!(ask(&served, &platform).await.status(), axum::http::StatusCode::OK);
    let other = SoftTdx::new().with(|machine| machine.fmspc = [9; 6]);
    let told = problem(&ask(&served, &other).await, 403, "tdx-collateral-missing");
    assert!(!explained(&served, &told).await.contains("refused"));
}

#[tokio::test]
async fn a_file_from_which_nothing_was_taken_is_named_too() {
    let house = House::with_llama().await;
    let (folder, platform) = (house.data().join("collateral"), evaluated(20, 2));
    carry(&folder, &platform);
    std::fs::remove_file(folder.join("tcb_issuer_chain.pem")).unwrap();
    std::fs::remove_file(folder.join("qe_issuer_chain.pem")).unwrap();
    let served = serve_house(house, None).await;
    let why = "no signing chain lies beside it";
    let files = [("file", "qe.json", why), ("file", "tcb.json", why)];
    assert_eq!(refused(&served).await, files.map(|(kind, subject, why)| (kind.into(), subject.into(), why.into())));
    let told = problem(&ask(&served, &platform).await, 403, "tdx-collateral-missing");
    let detail = explained(&served, &told).await;
    assert!(detail.contains("; qe.json, carried here at ") && detail.ends_with(&format!(", was refused: {why}")), "{detail}");
}
