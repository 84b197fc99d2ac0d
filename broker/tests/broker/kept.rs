//! What is kept, what is not and why, what is forgotten, and what could be verified with what is there.

use std::sync::Arc;
use std::time::Duration;

use attestation::{Collateral, PckAuthority, ProductLine, SigningKeyKind, TdxCollateral};
use axum::http::StatusCode;
use broker::clock;
use broker::collateral::{Ability, CollateralHouse, FILE, Named, NotKept, Origin, Piece, PieceKey, RawPiece, Refused, Vendor, Vendors};
use broker::feed::Upstream;
use broker::serve::warn_of_expiry;
use broker::store::{
    Append, Head, Reply, Store, StoreError, StoredDecision, StoredDocument, StoredFloor, StoredPiece, StoredSighting, StoredTile,
};
use protocol::admin::{CollateralHeld, CollateralImported};
use protocol::collateral::{CollateralBundleBody, CollateralKind, CollateralPiece};
use protocol::dsse::SignedDocument;
use protocol::ids::{DecisionId, Nonce, Platform};
use protocol::messages::EvidenceMessage;
use protocol::time::UnixTime;
use protocol::transcript::Transcript;
use testbed::services::Pcs;
use testbed::snp::{Authority, GuestShape, Leaf, Line, Root, SoftPlatform};
use testbed::tdx::{SoftTdx, TdShape};

use crate::feed::{CLIENT, CRL, ask_for_release, bare, fetch, learn, listing, vcek};
use crate::feed_tdx::{Site, anchors, ask, carry, intel, judged, number, tcb};
use crate::house::*;
use crate::http::{Served, logs, problem, serve_house};

const DAY: u64 = 24 * 3600;
const PLATFORM_LIST: PieceKey = PieceKey::PckCrl(PckAuthority::Platform);
const ASK: PieceKey = PieceKey::AmdAuthority(ProductLine::Genoa, SigningKeyKind::Vcek);

fn soft() -> SoftTdx {
    SoftTdx::new()
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds)
}

fn plain(bytes: Vec<u8>) -> RawPiece {
    RawPiece { bytes, issuer_chain: Vec::new() }
}

/// A PCK list with or without the chain of its authority.
fn list(platform: &SoftTdx) -> (RawPiece, RawPiece) {
    let soft = platform.collateral();
    let chain = soft.pck_list_issuer_chain.into_bytes();
    (RawPiece { bytes: soft.pck_list.clone(), issuer_chain: chain }, plain(soft.pck_list))
}

/// A TCB info of an evaluation number, from when to when it is in force.
fn tcb_info(number: u32, issued: UnixTime, until: UnixTime) -> RawPiece {
    let platform = soft().with(|platform| {
        platform.evaluation = number;
        (platform.validity.documents.not_before, platform.validity.documents.not_after) = (issued.seconds(), until.seconds());
    });
    RawPiece { bytes: platform.tcb_info_body(|_| ()), issuer_chain: platform.tcb_issuer_chain().into_bytes() }
}

fn days(at: UnixTime, days: i64) -> UnixTime {
    UnixTime::from_seconds(at.seconds().saturating_add_signed(days * 24 * 3600))
}

#[tokio::test]
async fn a_list_that_no_authority_at_hand_vouches_for_is_not_kept() {
    let now = clock::now();
    let (genuine, genuine_alone) = list(&soft());
    let (forged, forged_alone) = list(&soft().under(Root::Other));
    let site = Site::new().await;
    let house = site.house().await;
    let offer = async |raw: &RawPiece, origin| house.offer(PLATFORM_LIST, raw.clone(), origin, now).await;
    for origin in [Origin::Upstream, Origin::Carried] {
        for raw in [&forged_alone, &forged, &genuine_alone] {
            assert_eq!(offer(raw, origin).await, Err(NotKept::NoAuthority), "nobody can tell whose it is");
        }
    }
    let tdx = TdxCollateral { crls: vec![forged_alone.bytes.clone()], ..TdxCollateral::default() };
    let imported = house.import(Collateral { tdx, ..Collateral::default() }, now).await;
    assert_eq!(imported, [("pck-crl".to_owned(), Err(NotKept::NoAuthority))]);
    assert_eq!((house.pieces().len(), site.store().await.pieces().await.unwrap().len()), (0, 0));
    // With its authority it is kept, and from then on its authority is held.
    assert_eq!(offer(&genuine, Origin::Upstream).await, Ok(()));
    for raw in [&forged_alone, &forged] {
        let refused = offer(raw, Origin::Carried).await;
        assert!(matches!(&refused, Err(NotKept::Rejected(why)) if why.code() == "tdx-crl-signature"), "{refused:?}");
    }
    assert_eq!(offer(&genuine_alone, Origin::Upstream).await, Ok(()));
    let held = house.piece(&PLATFORM_LIST).unwrap();
    assert!(!held.raw.issuer_chain.is_empty(), "it took over the authority of the one in whose place it is");
    drop(house);
    assert!(site.house().await.piece(&PLATFORM_LIST).is_some(), "after a restart too");
}

#[tokio::test]
async fn a_stored_list_that_nobody_vouches_for_is_not_used_and_the_genuine_one_takes_its_place() {
    let site = Site::new().await;
    carry(&site.folder(), &soft());
    let (_, forged) = list(&soft().under(Root::Other));
    let stored = StoredPiece { key: PLATFORM_LIST.to_string(), bytes: forged.bytes, issuer_chain: Vec::new(), fetched_at: 7 };
    site.store().await.keep_piece(stored, None).await.unwrap();
    std::fs::remove_file(site.folder().join("platform.crl")).unwrap();
    let now = clock::now();
    let house = site.house().await;
    assert!(house.piece(&PLATFORM_LIST).is_none());
    assert_eq!(intel(&house, now), Ability::No("no revocation list of a PCK authority is in force"));
    let refused: Vec<_> = house.refused().into_iter().map(|refused| (refused.subject, refused.origin, refused.why)).collect();
    assert_eq!(refused, [(PLATFORM_LIST.to_string(), Origin::Stored, NotKept::NoAuthority.to_string())]);
    carry(&site.folder(), &soft());
    house.refresh(now).await;
    assert_eq!((intel(&house, now), judged(&house, now), house.refused()), (Ability::InForce, Ok(()), vec![]));
}

#[tokio::test]
async fn each_reason_not_to_keep_a_piece_is_told_from_what_is_nearly_so() {
    let now = clock::now();
    let (before, far) = (days(now, -5), days(now, 30));
    let site = Site::new().await;
    let house = site.house().await;
    let offer = async |key, raw, origin| house.offer(key, raw, origin, now).await;
    // Another piece than was asked for.
    let found = tcb().to_string();
    let refused = offer(PieceKey::TcbInfo([9; 6]), tcb_info(20, before, far), Origin::Upstream).await;
    assert_eq!(refused, Err(NotKept::Other { found: found.clone() }));
    // Expired, where an upstream sends it; who carries something here may have been on the way for long.
    let (late, last) = (at(now.seconds() - 1), now);
    assert_eq!(offer(tcb(), tcb_info(20, before, late), Origin::Upstream).await, Err(NotKept::Expired { until: late, at: now }));
    assert_eq!(offer(tcb(), tcb_info(20, before, last), Origin::Upstream).await, Ok(()));
    assert_eq!(offer(tcb(), tcb_info(20, before, late), Origin::Carried).await, Ok(()));
    // Of the future.
    let next = at(now.seconds() + 1);
    assert_eq!(offer(tcb(), tcb_info(20, next, far), Origin::Carried).await, Err(NotKept::NotYet { issued: next, at: now }));
    assert_eq!(offer(tcb(), tcb_info(20, now, far), Origin::Carried).await, Ok(()));
    // Older: of the same number, issued earlier. A higher number is newer whenever it was issued, a lower one is below the floor.
    let earlier = at(now.seconds() - 1);
    let older = NotKept::Older { held: now, found: earlier };
    assert_eq!(offer(tcb(), tcb_info(20, earlier, far), Origin::Upstream).await, Err(older.clone()));
    assert_eq!(house.refused(), [], "an upstream may be behind");
    assert_eq!(offer(tcb(), tcb_info(20, earlier, far), Origin::Carried).await, Err(older.clone()));
    let refused = Refused { kind: "tcb-info", subject: found, origin: Origin::Carried, why: older.to_string(), at: now };
    assert_eq!((house.refused(), house.why_not(&PieceKey::TcbInfo([9; 6]))), (vec![refused], vec![]), "seen, and no reason for a lack");
    assert_eq!(offer(tcb(), tcb_info(21, before, far), Origin::Upstream).await, Ok(()));
    assert_eq!((number(&house), house.refused()), (Some(21), vec![]));
    let below = NotKept::BelowFloor { floor: 21, found: 20 };
    assert_eq!(offer(tcb(), tcb_info(20, now, far), Origin::Carried).await, Err(below));
    assert_eq!(offer(tcb(), tcb_info(21, before, far), Origin::Upstream).await, Ok(()), "as good as what is held");
}

#[tokio::test]
async fn a_stored_piece_whose_key_names_nothing_is_named_and_left_alone() {
    let site = Site::new().await;
    let now = clock::now();
    let RawPiece { bytes, issuer_chain } = tcb_info(20, days(now, -5), days(now, 30));
    for key in ["intel/tcb/7706FE000000", "intel/tcb/7706fe000000"] {
        let (bytes, issuer_chain) = (bytes.clone(), issuer_chain.clone());
        site.store().await.keep_piece(StoredPiece { key: key.to_owned(), bytes, issuer_chain, fetched_at: 7 }, None).await.unwrap();
    }
    let house = site.house().await;
    let bad = "intel/tcb/7706FE000000".parse::<PieceKey>().unwrap_err();
    let refused: Vec<_> = house.refused().into_iter().map(|refused| (refused.kind, refused.subject, refused.why)).collect();
    assert_eq!(refused, [(FILE, "intel/tcb/7706FE000000".to_owned(), NotKept::Key(bad).to_string())]);
    assert_eq!((number(&house), house.pieces().len()), (Some(20), 1));
}

/// A store that can be read, and that keeps no collateral.
struct Failing(Arc<dyn Store>);

fn no_space() -> StoreError {
    StoreError::Database("no space".to_owned())
}

impl Store for Failing {
    fn head(&self) -> Reply<'_, Option<Head>> {
        self.0.head()
    }
    fn documents(&self) -> Reply<'_, Vec<StoredDocument>> {
        self.0.documents()
    }
    fn spent<'a>(&'a self, nonces: &'a [Nonce]) -> Reply<'a, Vec<Nonce>> {
        self.0.spent(nonces)
    }
    fn append(&self, step: Append) -> Reply<'_, ()> {
        self.0.append(step)
    }
    fn entries(&self, range: std::ops::Range<u64>) -> Reply<'_, Vec<Vec<u8>>> {
        self.0.entries(range)
    }
    fn tile(&self, level: u8, index: u64) -> Reply<'_, Option<StoredTile>> {
        self.0.tile(level, index)
    }
    fn decision(&self, id: DecisionId) -> Reply<'_, Option<(u64, StoredDecision)>> {
        self.0.decision(id)
    }
    fn pieces(&self) -> Reply<'_, Vec<StoredPiece>> {
        self.0.pieces()
    }
    fn keep_piece(&self, _: StoredPiece, _: Option<StoredFloor>) -> Reply<'_, ()> {
        Box::pin(async { Err(no_space()) })
    }
    fn remove_piece<'a>(&'a self, key: &'a str) -> Reply<'a, ()> {
        self.0.remove_piece(key)
    }
    fn floors(&self) -> Reply<'_, Vec<StoredFloor>> {
        self.0.floors()
    }
    fn sightings(&self) -> Reply<'_, Vec<StoredSighting>> {
        self.0.sightings()
    }
    fn keep_sightings(&self, sightings: Vec<StoredSighting>, bound: usize) -> Reply<'_, ()> {
        self.0.keep_sightings(sightings, bound)
    }
}

#[tokio::test]
async fn what_the_store_does_not_keep_is_not_in_use() {
    let now = clock::now();
    let site = Site::new().await;
    let older = tcb_info(20, days(now, -5), days(now, 30));
    site.house().await.offer(tcb(), older, Origin::Carried, now).await.unwrap();
    let failing = Arc::new(Failing(site.store().await));
    let house = CollateralHouse::open(None, Vendors::default(), anchors(), failing, now).await.unwrap();
    let newer = tcb_info(21, days(now, -4), days(now, 30));
    let refused = house.offer(tcb(), newer.clone(), Origin::Carried, now).await;
    assert_eq!((refused, number(&house)), (Err(NotKept::Store(no_space())), Some(20)));
    assert_eq!(house.floors().into_values().collect::<Vec<_>>(), [20], "the floor stays too");
    let house = site.house().await;
    assert_eq!((house.offer(tcb(), newer, Origin::Carried, now).await, number(&house)), (Ok(()), Some(21)));
}

#[tokio::test]
async fn each_thing_that_a_quote_needs_is_named_where_it_is_missing() {
    let now = clock::now();
    let collateral = soft().collateral();
    let chain = collateral.issuer_chain.clone().into_bytes();
    let signed = |bytes: Vec<u8>| RawPiece { bytes, issuer_chain: chain.clone() };
    let pieces = [
        (PieceKey::QeIdentity, signed(collateral.qe_identity), "no identity of the quoting enclave is in force"),
        (PieceKey::RootCrl, plain(collateral.root_list), "no revocation list of the root is in force"),
        (PLATFORM_LIST, list(&soft()).0, "no revocation list of a PCK authority is in force"),
        (tcb(), signed(collateral.tcb_info), "no TCB info of any family of platforms is in force"),
    ];
    for (missing, _, why) in &pieces {
        let house = Site::new().await.house().await;
        for (key, raw, _) in pieces.iter().filter(|(key, ..)| key != missing) {
            assert_eq!(house.offer(*key, raw.clone(), Origin::Carried, now).await, Ok(()));
        }
        assert_eq!(intel(&house, now), Ability::No(why));
        let raw = pieces.iter().find(|(key, ..)| key == missing).unwrap().1.clone();
        assert_eq!(house.offer(*missing, raw, Origin::Carried, now).await, Ok(()));
        assert_eq!(intel(&house, now), Ability::InForce);
    }
}

/// An installation for these vendors, which has nothing, and nobody to ask.
pub async fn bare_house(vendors: Vendors) -> House {
    let mut house = House::with_llama().await;
    std::fs::remove_file(house.data().join("collateral/genoa.crl")).unwrap();
    house.vendors = vendors;
    house
}

const BOTH: Vendors = Vendors { amd: Named::Yes, intel: Named::Yes, intel_upstream: Named::No };
pub const INTEL: Vendors = Vendors { amd: Named::No, ..BOTH };

async fn ready(served: &Served) -> String {
    let answer = served.call("GET", "/readyz", vec![]).await;
    match answer.status() {
        StatusCode::OK => String::from_utf8(answer.body().to_vec()).unwrap(),
        _ => problem(&answer, 503, "collateral-missing").detail.unwrap(),
    }
}

async fn verifiable(served: &Served) -> Vec<String> {
    let text = String::from_utf8(served.call("GET", "/metrics", vec![]).await.body().to_vec()).unwrap();
    let mut lines: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("portcullis_collateral_verifiable")).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn a_broker_that_could_verify_platforms_of_one_vendor_is_ready_and_names_the_other() {
    let served = serve_house(bare_house(BOTH).await, None).await;
    let (amd, intel) = ("amd: no revocation list of any product line is in force", "intel: no identity of the quoting enclave is in force");
    assert_eq!(ready(&served).await, format!("{amd}; {intel}"));
    assert_eq!(verifiable(&served).await, ["{vendor=\"amd\"} 0", "{vendor=\"intel\"} 0"]);
    std::fs::write(served.house.data().join("collateral/genoa.crl"), platform().crl_der(&[])).unwrap();
    served.broker.collateral.refresh(clock::now()).await;
    assert_eq!(ready(&served).await, format!("ready\n{intel}\n"));
    assert_eq!(verifiable(&served).await, ["{vendor=\"amd\"} 1", "{vendor=\"intel\"} 0"]);
    carry(&served.house.data().join("collateral"), &soft());
    served.broker.collateral.refresh(clock::now()).await;
    assert_eq!(ready(&served).await, "ready\n");
    let unnamed = serve_house(bare_house(Vendors::default()).await, None).await;
    assert_eq!((ready(&unnamed).await.as_str(), verifiable(&unnamed).await), ("ready\n", vec![]));
}

/// A policy that permits the soft TD, with lines of its own.
pub fn tdx_policy(lines: &str) -> String {
    let mrtd: String = soft().guest(TdShape::default()).quote.body.mrtd.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "format = 1\nrole = \"whole-vm\"\nconfiguration = [\"{}\"]\nattestation-lifetime = \"1 hour\"\n\
         second-opinion-exceptions = [\"any-quote\"]\n[tdx]\nsmt = \"allowed\"\n{lines}[tdx.measurements]\nimage = [\"{mrtd}\"]\n\
         [tdx.rtmrs]\nrtmr0 = \"not-checked\"\nrtmr1 = \"not-checked\"\nrtmr2 = \"not-checked\"\nrtmr3 = \"not-checked\"\n",
        "c1".repeat(32)
    )
}

pub async fn put_policy(house: &House, number: u64, text: &str) {
    let admitted = house.trust.policy(&policy_document(&authority(), "acme/strict", number, text)).unwrap();
    house.open_ledger(None).await.unwrap().put(admitted).await.unwrap();
}

/// The soft machine, its documents in force between these days.
fn documented(now: UnixTime, from: i64, until: i64) -> SoftTdx {
    soft().with(|platform| {
        let documents = &mut platform.validity.documents;
        (documents.not_before, documents.not_after) = (days(now, from).seconds(), days(now, until).seconds());
    })
}

#[tokio::test]
async fn a_broker_stays_ready_for_as_long_as_a_policy_in_force_allows_for_the_age_of_collateral() {
    let now = clock::now();
    for (lines, expected) in [
        ("", "intel: no identity of the quoting enclave is in force".to_owned()),
        ("collateral-max-age = \"10 days\"\n", "intel: no identity of the quoting enclave is in force".to_owned()),
        ("collateral-max-age = \"30 days\"\n", format!("ready\nintel: by collateral that has lapsed, until {}\n", days(now, 10))),
    ] {
        let house = bare_house(INTEL).await;
        put_policy(&house, 2, &tdx_policy(lines)).await;
        carry(&house.data().join("collateral"), &documented(now, -20, -1));
        let served = serve_house(house, None).await;
        assert_eq!(ready(&served).await, expected, "{lines}");
    }
}

#[tokio::test]
async fn without_intels_service_a_broker_releases_until_the_policys_age_limit_and_says_when_that_is() {
    let now = clock::now();
    let pcs = Pcs::start(vec![documented(now, -1, 10)]);
    let mut house = bare_house(INTEL).await;
    house.feed.intel = Some(Upstream { url: pcs.url(), ca_file: None });
    let patient = tdx_policy("collateral-max-age = \"20 days\"\n");
    put_policy(&house, 2, &patient).await;
    let in_force = policies::Policy::parse(&patient).unwrap();
    let served = serve_house(house, None).await;
    let broker = &served.broker;
    broker.feed.want(tcb(), CLIENT, now);
    fetch(&broker.feed, now).await;
    pcs.stop();
    assert_eq!(ask(&served, &soft()).await.status(), StatusCode::OK);
    let forecast = broker.sightings.forecast(&broker.ledger.published().documents, &broker.collateral, now);
    let denied = forecast.platforms[0].denials[0].clone();
    let last = days(now, 19);
    assert_eq!((denied.check.as_str(), denied.from), ("tdx-collateral-age", at(last.seconds() + 1)));
    let guest = Guest::default();
    for (at, permitted) in [(last, true), (denied.from, false)] {
        fetch(&broker.feed, at).await;
        let challenge = challenge(broker, at);
        let transcript = Transcript { platform: Platform::Tdx, ..guest.transcript(&challenge) };
        let quote = soft().guest(TdShape::default()).attest(&transcript.report_data()).quote;
        let request = guest.request_with(&challenge, EvidenceMessage::Tdx { quote, event_log: None });
        let request = protocol::messages::ReleaseRequest { platform: Platform::Tdx, ..request };
        let (verdicts, held) = decide(broker, &guest.sign(&request), at).unwrap();
        let checks = in_force.examine(held.claims().platform(), None, None, at);
        let failed: Vec<_> = checks.iter().filter(|check| check.verdict != policies::Verdict::Passed).map(|check| check.code).collect();
        assert_eq!(failed, if permitted { vec![] } else { vec!["tdx-collateral-age"] }, "{at}");
        assert_eq!(verdicts.permitted_until().is_some(), permitted, "{at}");
        let documents = broker.ledger.published().documents;
        let ability = broker.collateral.abilities(&|piece| documents.usable_until(piece), at);
        let expected = if permitted { Ability::Until(last) } else { Ability::No("no identity of the quoting enclave is in force") };
        assert_eq!(ability, [(Vendor::Intel, expected)]);
    }
}

#[tokio::test]
async fn the_log_warns_of_what_expires_and_says_until_when_a_policy_takes_it() {
    let logs = logs();
    // A time that no other test has, to find the lines by.
    let now = at(clock::now().seconds() - 86_413);
    let until = days(now, 3);
    let house = bare_house(Vendors::default()).await;
    let patient = policy().replace("format = 1\n", "format = 1\nrevocation-max-age = \"20 days\"\n");
    put_policy(&house, 2, &patient).await;
    let issued = at(now.seconds() - 10);
    std::fs::write(house.data().join("collateral/genoa.crl"), listing(issued.seconds(), until.seconds()).crl_der(&[])).unwrap();
    let broker = house.open().await;
    let week = Duration::from_secs(7 * DAY);
    let said = |at| {
        let before = logs.lock().unwrap().len();
        warn_of_expiry(&broker, week, at);
        let lines = String::from_utf8(logs.lock().unwrap()[before..].to_vec()).unwrap();
        let own = lines.lines().filter(|line| line.contains(&until.to_string())).map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let field = |name: &str| line["fields"][name].as_str().unwrap().to_owned();
            assert_eq!((line["level"].as_str().unwrap(), field("key")), ("WARN", CRL.to_string()));
            (field("message"), field("usable_until"))
        });
        own.collect::<Vec<_>>()
    };
    let usable = days(issued, 20).to_string();
    assert_eq!(said(days(until, -8)), []);
    assert_eq!(said(until), [("collateral expires soon".to_owned(), usable.clone())]);
    assert_eq!(said(until), [], "once a day");
    let lapsed = "collateral has expired; policies that allow for its age go on".to_owned();
    assert_eq!(said(days(until, 1)), [(lapsed, usable.clone())]);
    let too_old = "collateral has expired, and no policy in force allows for its age".to_owned();
    assert_eq!(said(days(issued, 21)), [(too_old, usable)]);
}

#[tokio::test]
async fn a_stray_file_of_amds_hurts_nobody_and_is_named() {
    let house = bare_house(Vendors { amd: Named::Yes, ..Vendors::default() }).await;
    let write = |name: &str, bytes: &[u8]| std::fs::write(house.data().join("collateral").join(name), bytes).unwrap();
    write("genoa.crl", &platform().crl_der(&[]));
    write("other-line.crl", &SoftPlatform::new(Line::Milan).crl_der(&[]));
    write("forged.crl", &platform().under(Root::Other).crl_der(&[7]));
    write("ask.der", &platform().ask_der());
    write("asvk.der", &platform().asvk_der());
    write("other-ask.der", &SoftPlatform::new(Line::Milan).ask_der());
    for serial in 1..=20 {
        write(&format!("vlek-{serial}.der"), &platform().vlek_with(|vlek| vlek.serial = serial));
    }
    let served = serve_house(house, None).await;
    let answer = ask_for_release(&served, &Guest::default()).await;
    assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.body());
    // The near miss: a provider's certificate that is handed on serves a guest that has none.
    let provided = platform().guest(GuestShape { leaf: Leaf::Vlek, ..GuestShape::default() });
    let guest = Guest { soft: testbed::snp::SoftGuest { certificate_table: Vec::new(), ..provided }, ..Guest::default() };
    assert_eq!(ask_for_release(&served, &guest).await.status(), StatusCode::OK);
    let refused = served.broker.collateral.refused();
    let of = |kind: &str| refused.iter().filter(|refused| refused.kind == kind).collect::<Vec<_>>();
    assert_eq!((of("amd-crl").len(), of("amd-authority").len()), (1, 1), "{refused:?}");
    let beyond = of(FILE);
    assert_eq!(beyond.len(), 6, "16 stand beside each other, two of them the authorities: {beyond:?}");
    assert!(beyond.iter().all(|refused| refused.why == "more than 16 certificates of authorities and providers"), "{beyond:?}");
    assert_eq!(ready(&served).await, "ready\n");
    assert_eq!(served.broker.collateral.sums()["amd-crl"].0, 1, "what lies in the folder is metered");
}

#[tokio::test]
async fn an_authority_that_a_held_list_names_is_not_kept_and_one_that_is_held_goes() {
    let house = bare_house(Vendors::default()).await;
    let broker = house.open().await;
    let now = clock::now();
    let serial = platform().serial(Authority::Ask);
    let offer = async |key, bytes| broker.collateral.offer(key, plain(bytes), Origin::Carried, now).await;
    assert_eq!(offer(ASK, platform().ask_der()).await, Ok(()));
    let issued = |ago: u64, serials: &[u64]| listing(now.seconds() - ago, now.seconds() + DAY).crl_der(serials);
    assert_eq!(offer(CRL, issued(9, &[serial + 100])).await, Ok(()));
    assert!(broker.collateral.piece(&ASK).is_some());
    assert_eq!(offer(CRL, issued(8, &[serial])).await, Ok(()));
    assert!(broker.collateral.piece(&ASK).is_none());
    let refused = offer(ASK, platform().ask_der()).await;
    assert!(matches!(&refused, Err(NotKept::Rejected(why)) if why.code() == "snp-authority-revoked"), "{refused:?}");
    assert!(house.open().await.collateral.piece(&ASK).is_none(), "after a restart too");
    let renewed = platform().ask_with(|ask| ask.serial = serial + 1);
    assert_eq!(offer(ASK, renewed).await, Ok(()));
}

#[tokio::test]
async fn a_certificate_that_was_fetched_outlives_a_restart_once_a_report_under_it_verified() {
    let house = bare_house(Vendors::default()).await;
    let now = clock::now();
    let broker = house.open().await;
    broker.collateral.offer(ASK, plain(platform().ask_der()), Origin::Upstream, now).await.unwrap();
    let fetched = async || broker.collateral.offer(vcek(&platform()), plain(platform().vcek_der()), Origin::Upstream, now).await;
    assert_eq!(fetched().await, Ok(()));
    assert!(broker.collateral.piece(&vcek(&platform())).is_some());
    let again = house.open().await;
    assert!(again.collateral.piece(&vcek(&platform())).is_none() && again.collateral.piece(&ASK).is_some());
    learn(&broker, &bare(&platform())).await;
    assert!(house.open().await.collateral.piece(&vcek(&platform())).is_some());
    assert_eq!(fetched().await, Ok(()));
    assert!(house.open().await.collateral.piece(&vcek(&platform())).is_some(), "what is kept stays kept when it is fetched anew");
}

#[tokio::test]
async fn after_a_start_with_a_wrong_clock_stored_pieces_are_tried_again() {
    let house = bare_house(Vendors::default()).await;
    let now = clock::now();
    {
        let broker = house.open().await;
        broker.collateral.offer(ASK, plain(platform().ask_der()), Origin::Carried, now).await.unwrap();
        let list = listing(now.seconds() - 10, now.seconds() + DAY).crl_der(&[]);
        broker.collateral.offer(CRL, plain(list), Origin::Carried, now).await.unwrap();
    }
    let past = at(DAY);
    let collateral = CollateralHouse::open(
        None,
        Vendors::default(),
        Arc::new(broker::init::anchors(&house.installation()).unwrap()),
        house.store().await,
        past,
    )
    .await
    .unwrap();
    assert!(collateral.piece(&ASK).is_none(), "it is not valid yet");
    assert_eq!(collateral.piece(&CRL).unwrap().fetched_at, past, "it did not come in the future");
    collateral.refresh(at(past.seconds() + 599)).await;
    assert!(collateral.piece(&ASK).is_none());
    collateral.refresh(now).await;
    assert!(collateral.piece(&ASK).is_some() && collateral.refused().is_empty());
}

#[tokio::test]
async fn what_no_policy_has_had_a_use_for_in_a_month_is_forgotten_but_for_lists() {
    let now = clock::now();
    let site = Site::new().await;
    let lapsed = days(now, -30);
    let house = site.house().await;
    let lists = soft().with(|platform| platform.validity.root_list.not_after = days(now, -90).seconds());
    house.offer(PieceKey::RootCrl, plain(lists.collateral().root_list), Origin::Carried, now).await.unwrap();
    house.offer(tcb(), tcb_info(20, days(now, -60), lapsed), Origin::Carried, now).await.unwrap();
    let own = |piece: &Piece| piece.until;
    house.forget_lapsed(&own, now).await;
    assert_eq!(number(&house), Some(20), "it is a month to the second");
    let next = at(now.seconds() + 1);
    house.forget_lapsed(&|piece| days(piece.until, 1), next).await;
    assert_eq!(number(&house), Some(20), "a policy had a use for it a day longer");
    house.forget_lapsed(&own, next).await;
    assert_eq!(house.pieces().iter().map(|piece| piece.key).collect::<Vec<_>>(), [PieceKey::RootCrl]);
    drop(house);
    let house = site.house().await;
    assert_eq!((house.pieces().len(), house.floors().into_values().collect::<Vec<_>>()), (1, vec![20]), "floors stay");
}

fn bundle(pieces: Vec<CollateralPiece>) -> SignedDocument {
    SignedDocument::sign(&CollateralBundleBody { created: clock::now(), pieces }, &authority()).unwrap()
}

async fn import(served: &Served, pieces: Vec<CollateralPiece>) -> Vec<Option<String>> {
    let answer = served.admin("PUT", "/v1/collateral", bundle(pieces).to_json()).await;
    assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.body());
    let imported: CollateralImported = serde_json::from_slice(answer.body()).unwrap();
    imported.pieces.into_iter().map(|piece| piece.refused).collect()
}

#[tokio::test]
async fn everything_that_a_broker_with_a_folder_exports_another_takes() {
    let house = bare_house(INTEL).await;
    carry(&house.data().join("collateral"), &soft());
    let connected = serve_house(house, None).await;
    let answer = connected.admin("GET", "/v1/collateral", Vec::new()).await;
    let held: CollateralHeld = serde_json::from_slice(answer.body()).unwrap();
    let mut kinds: Vec<_> = held.pieces.iter().map(|piece| piece.kind).collect();
    kinds.sort();
    assert_eq!(kinds, [CollateralKind::TdxTcbInfo, CollateralKind::TdxQeIdentity, CollateralKind::TdxCrl, CollateralKind::TdxCrl]);
    let apart = serve_house(bare_house(INTEL).await, None).await;
    assert_eq!(import(&apart, held.pieces).await, [const { None }; 4]);
    assert_eq!((ask(&apart, &soft()).await.status(), ready(&apart).await.as_str()), (StatusCode::OK, "ready\n"));
}

#[tokio::test]
async fn a_list_of_a_bundle_may_be_by_an_authority_that_stands_elsewhere_in_it() {
    let piece = |kind, bytes| CollateralPiece { kind, bytes, issuer_chain: None, source: "a stick".to_owned() };
    let (_, alone) = list(&soft());
    let with = |certificate| vec![piece(CollateralKind::TdxCrl, alone.bytes.clone()), piece(CollateralKind::TdxCertificate, certificate)];
    let served = serve_house(bare_house(INTEL).await, None).await;
    let refused = import(&served, with(soft().under(Root::Other).pck_authority_der())).await;
    let no_authority = "no authority over PCK certificates under the root in force".to_owned();
    assert_eq!(refused, [Some(NotKept::NoAuthority.to_string()), Some(no_authority)]);
    assert_eq!(import(&served, with(soft().pck_authority_der())).await, [None, None]);
}

#[tokio::test]
async fn an_import_does_not_undercut_the_highest_evaluation_number() {
    let now = clock::now();
    let served = serve_house(bare_house(INTEL).await, None).await;
    let of = |number: u32, ago: i64| {
        let RawPiece { bytes, issuer_chain } = tcb_info(number, days(now, -ago), days(now, 30));
        let issuer_chain = Some(String::from_utf8(issuer_chain).unwrap());
        vec![CollateralPiece { kind: CollateralKind::TdxTcbInfo, bytes, issuer_chain, source: "a stick".to_owned() }]
    };
    assert_eq!(import(&served, of(20, 9)).await, [None]);
    assert_eq!(import(&served, of(19, 1)).await, [Some("its evaluation number is 19, and 20 was accepted before".to_owned())]);
    assert_eq!(import(&served, of(20, 1)).await, [None]);
}
