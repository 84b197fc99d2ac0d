//! The collateral feed, against services that are real servers and misbehave as they are told.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use attestation::{Evidence, ProductLine, SigningKeyKind, SnpEvidence, VcekName};
use axum::http::StatusCode;
use broker::clock;
use broker::collateral::{Ability, Named, NotKept, Origin, PieceKey, RawPiece, Vendor, Vendors};
use broker::feed::{Feed, Settings, Upstream, Wanted};
use broker::server::Broker;
use protocol::messages::ReleaseRequest;
use protocol::time::UnixTime;
use testbed::services::{Kds, Mood};
use testbed::snp::{GuestShape, Root, SoftPlatform};

use crate::house::*;
use crate::http::{Answer, Served, problem, retry_after, serve_house};

pub const CRL: PieceKey = PieceKey::AmdCrl(ProductLine::Genoa);
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub const CHAINS: &str = "/vcek/v1/Genoa/cert_chain";
pub const LISTS: &str = "/vcek/v1/Genoa/crl";

pub fn settings(kds: &Kds) -> Settings {
    let amd = Some(Upstream { url: kds.url(), ca_file: None });
    Settings { amd, timeout: Duration::from_millis(400), ..Settings::default() }
}

/// A house that asks this service, and has nothing yet.
pub async fn house(kds: &Kds) -> House {
    let mut house = House::with_llama().await;
    std::fs::remove_file(house.data().join("collateral/genoa.crl")).unwrap();
    house.feed = settings(kds);
    house.vendors = Vendors { amd: Named::Yes, ..Vendors::default() };
    house
}

/// Fetches everything that is due at a time, and what becomes due by that.
pub async fn fetch(feed: &Arc<Feed>, at: UnixTime) {
    loop {
        let tasks = feed.start_due(at);
        if tasks.is_empty() {
            return;
        }
        for task in tasks {
            task.await.unwrap();
        }
    }
}

pub async fn served(kds: &Kds) -> Served {
    let served = serve_house(house(kds).await, None).await;
    fetch(&served.broker.feed, clock::now()).await;
    served
}

pub fn later(at: UnixTime, hours: u64) -> UnixTime {
    at.plus(Duration::from_secs(hours * 3600))
}

pub fn vcek(platform: &SoftPlatform) -> PieceKey {
    PieceKey::Vcek(VcekName::new(ProductLine::Genoa, platform.chip_id, platform.tcb.bytes(platform.line)).unwrap())
}

pub fn chip_path(platform: &SoftPlatform) -> String {
    format!("/vcek/v1/Genoa/{}", platform.chip_id.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// A guest whose host hands out no certificates.
pub fn bare(platform: &SoftPlatform) -> Guest {
    let mut soft = platform.guest(GuestShape::default());
    soft.certificate_table = Vec::new();
    Guest { soft, ..Guest::default() }
}

/// Has the broker keep what it fetched for this guest, as it does once the guest's evidence verified.
pub async fn learn(broker: &Broker, guest: &Guest) {
    let report = guest.soft.attest(&[0; 64]).report;
    let mut evidence = SnpEvidence { report, certificates: Vec::new(), crls: Vec::new() };
    broker.collateral.leaves().complete(&mut evidence);
    broker.collateral.learn(&Evidence::Snp(evidence), clock::now()).await;
}

pub async fn ask_for_release(served: &Served, guest: &Guest) -> Answer {
    let body: ReleaseRequest = guest.request(&served.challenge().await);
    served.release(guest, &body).await
}

/// A list of the trusted root issued at a time, and its platform.
pub fn listing(issued: u64, until: u64) -> SoftPlatform {
    let mut platform = platform();
    platform.validity.revocations.not_before = issued;
    platform.validity.revocations.not_after = until;
    platform
}

pub fn held(broker: &Broker) -> Vec<u8> {
    broker.collateral.piece(&CRL).unwrap().raw.bytes.clone()
}

pub async fn metrics(served: &Served) -> String {
    String::from_utf8(served.call("GET", "/metrics", vec![]).await.body().to_vec()).unwrap()
}

/// How many fetches from AMD ended so.
pub async fn ends(served: &Served, outcome: &str) -> usize {
    let line = format!("portcullis_collateral_fetches_total{{source=\"amd\",outcome=\"{outcome}\"}} ");
    metrics(served).await.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_missing_vcek_is_fetched_once_for_all_who_wait_and_then_released_on() {
    let kds = Kds::start(vec![platform()]);
    let served = served(&kds).await;
    for _ in 0..8 {
        let answer = ask_for_release(&served, &bare(&platform())).await;
        let told = problem(&answer, 503, "collateral-being-fetched");
        assert!(told.hint.is_some() && retry_after(answer.headers()) >= 1);
    }
    let at = clock::now();
    let tasks: Vec<_> = (0..8).flat_map(|_| served.broker.feed.start_due(at)).collect();
    assert_eq!(tasks.len(), 1, "one request, however many wait");
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(ask_for_release(&served, &bare(&platform())).await.status(), StatusCode::OK);
    assert_eq!(ask_for_release(&served, &bare(&platform())).await.status(), StatusCode::OK);
    assert_eq!(kds.count(&chip_path(&platform())), 1);
    fetch(&served.broker.feed, later(at, 24 * 300)).await;
    assert_eq!(kds.count(&chip_path(&platform())), 1, "it has no news until it expires");
}

#[tokio::test]
async fn a_certificate_of_an_older_tcb_is_one_that_is_missing() {
    let kds = Kds::start(vec![platform()]);
    let served = served(&kds).await;
    let mut older = platform().tcb;
    older.snp -= 1;
    let mut guest = bare(&platform());
    guest.soft.certificate_table = platform().with_tcb(older).guest(GuestShape::default()).certificate_table;
    problem(&ask_for_release(&served, &guest).await, 503, "collateral-being-fetched");
    fetch(&served.broker.feed, clock::now()).await;
    assert_eq!(ask_for_release(&served, &guest).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn what_the_upstream_does_not_have_is_a_rejection_and_not_asked_for_again_for_a_while() {
    let kds = Kds::start(vec![platform()]);
    let served = served(&kds).await;
    let stranger = platform().with_chip("a stranger");
    problem(&ask_for_release(&served, &bare(&stranger)).await, 503, "collateral-being-fetched");
    fetch(&served.broker.feed, clock::now()).await;
    for _ in 0..3 {
        let told = problem(&ask_for_release(&served, &bare(&stranger)).await, 403, "snp-leaf-missing");
        assert!(told.hint.unwrap().contains("knows no such platform") && told.decision.is_some());
    }
    assert_eq!(kds.count(&chip_path(&stranger)), 1);
    kds.replace(vec![stranger.clone()]);
    let feed = &served.broker.feed;
    assert_eq!(feed.want(vcek(&stranger), CLIENT, clock::now()), Wanted::Absent);
    assert!(matches!(feed.want(vcek(&stranger), CLIENT, later(clock::now(), 1)), Wanted::Coming(_)));
    fetch(feed, later(clock::now(), 1)).await;
    assert_eq!(ask_for_release(&served, &bare(&stranger)).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn where_nobody_is_asked_the_rejection_says_so() {
    let served = serve_house(House::with_llama().await, None).await;
    let told = problem(&ask_for_release(&served, &bare(&platform())).await, 403, "snp-leaf-missing");
    assert!(told.hint.unwrap().contains("[collateral.amd] upstream"));
    assert!(served.broker.feed.start_due(clock::now()).is_empty());
}

#[tokio::test]
async fn evidence_that_is_wrong_in_another_way_costs_no_fetch() {
    let kds = Kds::start(vec![platform()]);
    let served = served(&kds).await;
    let guest = bare(&platform());
    let mut body = guest.request(&served.challenge().await);
    let protocol::messages::EvidenceMessage::SevSnp { report, .. } = &mut body.evidence else { panic!("fresh evidence") };
    report[8 + 2] = 0;
    problem(&served.release(&guest, &body).await, 503, "collateral-being-fetched");
    report_is_cut(&mut body);
    problem(&served.release(&guest, &body).await, 403, "snp-report-length");
    fetch(&served.broker.feed, clock::now()).await;
    assert_eq!(kds.count(&chip_path(&platform())), 1);
}

fn report_is_cut(body: &mut ReleaseRequest) {
    let protocol::messages::EvidenceMessage::SevSnp { report, .. } = &mut body.evidence else { panic!("fresh evidence") };
    report.pop();
}

#[tokio::test]
async fn what_a_verified_guest_brought_serves_the_next_that_comes_without_it() {
    let served = serve_house(House::with_llama().await, None).await;
    let flawed = {
        let mut guest = Guest::default();
        guest.soft.certificate_table = SoftPlatform::new(platform().line).under(Root::Other).guest(GuestShape::default()).certificate_table;
        guest
    };
    assert_eq!(ask_for_release(&served, &flawed).await.status(), StatusCode::FORBIDDEN);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(served.broker.collateral.pieces().len(), 1, "what did not verify is not kept; the list lies in the folder");
    assert_eq!(ask_for_release(&served, &Guest::default()).await.status(), StatusCode::OK);
    for _ in 0..100 {
        if served.broker.collateral.piece(&vcek(&platform())).is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ask_for_release(&served, &bare(&platform())).await.status(), StatusCode::OK);
    let again = served.house.open().await;
    assert!(again.collateral.piece(&vcek(&platform())).is_some(), "after a restart too");
}

#[tokio::test]
async fn every_way_to_fail_leaves_what_is_held_in_use_and_is_waited_out() {
    let ways = [
        (Mood::Throttled { status: 429, retry_after: Some(1) }, "throttled"),
        (Mood::Throttled { status: 503, retry_after: None }, "throttled"),
        (Mood::Slow(Duration::from_secs(2)), "timed-out"),
        (Mood::Garbage, "refused"),
        (Mood::Halved, "refused"),
        (Mood::Truncated, "unreachable"),
        (Mood::HangsUp, "unreachable"),
        (Mood::Huge(2 * 1024 * 1024), "too-large"),
        (Mood::Endless, "too-large"),
        (Mood::Drips(Duration::from_millis(50)), "timed-out"),
        (Mood::Redirects, "failed"),
        (Mood::Status(304), "failed"),
        (Mood::Status(500), "failed"),
        (Mood::Status(404), "absent"),
    ];
    let start = clock::now().seconds();
    for (mood, outcome) in ways {
        let kds = Kds::start(vec![listing(start - 100, start + 400 * 24 * 3600)]);
        let served = served(&kds).await;
        let (broker, before) = (&served.broker, held(&served.broker));
        let news = listing(start - 50, start + 400 * 24 * 3600);
        kds.replace(vec![news.clone()]);
        kds.set(mood);
        let tomorrow = later(clock::now(), 25);
        let asked = kds.count("");
        fetch(&broker.feed, tomorrow).await;
        assert!(kds.count("") > asked, "{mood:?}");
        assert_eq!(held(broker), before, "{mood:?}");
        let told = metrics(&served).await;
        assert!(told.contains(&format!("portcullis_collateral_fetches_total{{source=\"amd\",outcome=\"{outcome}\"}}")), "{mood:?} {told}");
        assert_eq!(ask_for_release(&served, &Guest::default()).await.status(), StatusCode::OK, "{mood:?}");
        let asked = kds.count("");
        fetch(&broker.feed, tomorrow).await;
        assert_eq!(kds.count(""), asked, "{mood:?}: it is waited out");
        assert_eq!(kds.count("/elsewhere"), 0, "{mood:?}: nobody goes where the upstream sends");
        kds.set(Mood::Well);
        fetch(&broker.feed, later(tomorrow, 2)).await;
        assert_eq!(held(broker), news.crl_der(&[]), "{mood:?}: the news came in the end");
    }
}

#[tokio::test]
async fn what_is_no_better_than_what_is_held_does_not_take_its_place() {
    let now = clock::now();
    let start = now.seconds();
    let year = 365 * 24 * 3600;
    let kds = Kds::start(vec![listing(start - 1000, start + year)]);
    let served = served(&kds).await;
    let before = held(&served.broker);
    let worse = [
        (listing(start - 1001, start + year), "outdated", ""),
        (listing(start - 500, start - 1), "outdated", "it ran out at "),
        (listing(start + 90 * 24 * 3600, start + year), "refused", "it was issued at "),
        (listing(start - 500, start + year).under(Root::Other), "refused", "does not verify"),
    ];
    for (round, (platform, outcome, why)) in (1..).zip(worse) {
        let before_it = ends(&served, outcome).await;
        kds.replace(vec![platform]);
        fetch(&served.broker.feed, later(now, 30 * round)).await;
        assert_eq!(held(&served.broker), before, "{round}");
        assert!(ends(&served, outcome).await > before_it, "{round}");
        // That a newer one is held is no refusal: nothing is missing.
        let refused: Vec<_> = served.broker.collateral.refused().into_iter().filter(|refused| refused.kind == CRL.kind()).collect();
        assert_eq!(refused.is_empty(), why.is_empty(), "{round}: {refused:?}");
        assert!(refused.iter().all(|refused| refused.why.contains(why)), "{round}: {refused:?}");
    }
    assert!(kds.count(LISTS) >= 5);
    let better = listing(start - 999, start + year);
    kds.replace(vec![better.clone()]);
    fetch(&served.broker.feed, later(now, 30 * 5)).await;
    assert_eq!(held(&served.broker), better.crl_der(&[]));
}

#[tokio::test]
async fn another_machines_certificate_is_not_kept() {
    let kds = Kds::start(vec![platform()]);
    let served = served(&kds).await;
    let at = clock::now();
    let offer =
        async |key, bytes| served.broker.collateral.offer(key, RawPiece { bytes, issuer_chain: vec![] }, Origin::Upstream, at).await;
    let stranger = platform().with_chip("a stranger");
    let refused = offer(vcek(&stranger), platform().vcek_der()).await;
    assert!(matches!(&refused, Err(NotKept::Rejected(why)) if why.code() == "snp-chip-id-mismatch"), "{refused:?}");
    let other = SoftPlatform::new(platform().line).under(Root::Other);
    let refused = offer(vcek(&platform()), other.vcek_der()).await;
    assert!(matches!(&refused, Err(NotKept::Rejected(why)) if why.code() == "snp-chain-signature"), "{refused:?}");
    let asvk = PieceKey::AmdAuthority(ProductLine::Genoa, SigningKeyKind::Vcek);
    assert!(offer(asvk, platform().asvk_der()).await.is_err());
    assert_eq!(offer(vcek(&platform()), platform().vcek_der()).await, Ok(()));
}

#[tokio::test]
async fn an_upstream_is_left_alone_for_as_long_as_it_asks() {
    let kds = Kds::start(vec![platform()]);
    let house = house(&kds).await;
    let broker = house.open().await;
    kds.set(Mood::Throttled { status: 429, retry_after: Some(900) });
    let at = clock::now();
    fetch(&broker.feed, at).await;
    let asked = kds.count("");
    assert!((1..=3).contains(&asked));
    kds.set(Mood::Well);
    let Wanted::Coming(wait) = broker.feed.want(vcek(&platform()), CLIENT, at) else { panic!("it is on its way") };
    assert_eq!(wait, Duration::from_secs(900), "a guest is told of it");
    fetch(&broker.feed, at.plus(Duration::from_secs(899))).await;
    assert_eq!(kds.count(""), asked);
    fetch(&broker.feed, at.plus(Duration::from_secs(900))).await;
    assert!(broker.collateral.piece(&vcek(&platform())).is_some() && broker.collateral.piece(&CRL).is_some());
}

#[tokio::test]
async fn a_piece_is_fetched_anew_before_it_expires_and_not_much_earlier() {
    let now = clock::now();
    let (start, life) = (now.seconds(), 8 * 3600);
    let kds = Kds::start(vec![listing(start - 10, start + life)]);
    let served = served(&kds).await;
    assert_eq!((kds.count(LISTS), kds.count(CHAINS)), (1, 1));
    kds.replace(vec![listing(start + 2 * 3600, start + 2 * life)]);
    fetch(&served.broker.feed, later(now, 3)).await;
    assert_eq!(kds.count(LISTS), 1, "before half of its life");
    fetch(&served.broker.feed, later(now, 7)).await;
    assert_eq!((kds.count(LISTS), kds.count(CHAINS)), (2, 1), "after three quarters of its life");
    assert_eq!(served.broker.collateral.piece(&CRL).unwrap().until.seconds(), start + 2 * life);
}

#[tokio::test]
async fn a_broker_whose_upstream_is_gone_keeps_serving_also_after_a_restart() {
    let kds = Kds::start(vec![platform()]);
    let (house, guest) = (house(&kds).await, bare(&platform()));
    {
        let broker = house.open().await;
        broker.feed.want(vcek(&platform()), CLIENT, clock::now());
        fetch(&broker.feed, clock::now()).await;
        // What was fetched is kept once a report under it verified.
        learn(&broker, &guest).await;
    }
    kds.stop();
    let served = serve_house(house, None).await;
    fetch(&served.broker.feed, later(clock::now(), 25)).await;
    assert_eq!(served.call("GET", "/readyz", vec![]).await.body(), "ready\n");
    assert_eq!(ask_for_release(&served, &guest).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn without_its_upstream_a_broker_releases_until_the_policys_age_limit_and_says_when_that_is() {
    let now = clock::now();
    let kds = Kds::start(vec![listing(now.seconds() - 10, now.seconds() + 10 * 24 * 3600)]);
    let house = house(&kds).await;
    let patient = policy().replace("format = 1\n", "format = 1\nrevocation-max-age = \"20 days\"\n");
    let admitted = house.trust.policy(&policy_document(&authority(), "acme/strict", 2, &patient)).unwrap();
    house.open().await.ledger.put(admitted).await.unwrap();
    let (served, guest) = (serve_house(house, None).await, bare(&platform()));
    let broker = &served.broker;
    broker.feed.want(vcek(&platform()), CLIENT, now);
    fetch(&broker.feed, now).await;
    kds.stop();
    assert_eq!(ask_for_release(&served, &guest).await.status(), StatusCode::OK);
    let forecast = broker.sightings.forecast(&broker.ledger.published().documents, &broker.collateral, now);
    let denied = forecast.platforms[0].denials[0].clone();
    assert_eq!((denied.check.as_str(), denied.from), ("revocation-age", UnixTime::from_seconds(now.seconds() - 10 + 20 * 24 * 3600 + 1)));
    let last = UnixTime::from_seconds(denied.from.seconds() - 1);
    for (at, permitted) in [(last, true), (denied.from, false)] {
        fetch(&broker.feed, at).await;
        let (verdicts, _) = decide(broker, &guest.sign(&guest.request(&challenge(broker, at))), at).unwrap();
        assert_eq!(verdicts.permitted_until().is_some(), permitted);
    }
}

#[tokio::test]
async fn a_broker_that_could_verify_no_platform_of_a_vendor_it_names_is_not_ready() {
    let kds = Kds::start(vec![platform()]);
    let served = serve_house(house(&kds).await, None).await;
    let told = problem(&served.call("GET", "/readyz", vec![]).await, 503, "collateral-missing");
    assert_eq!(told.detail.unwrap(), "amd: no revocation list of any product line is in force");
    fetch(&served.broker.feed, clock::now()).await;
    assert_eq!(served.call("GET", "/readyz", vec![]).await.body(), "ready\n");
    let collateral = &served.broker.collateral;
    let until = collateral.piece(&CRL).unwrap().until;
    let amd = |at| collateral.abilities(&|piece| piece.until, at);
    assert_eq!(amd(until), [(Vendor::Amd, Ability::InForce)]);
    let why = "no revocation list of any product line is in force";
    assert_eq!(amd(until.plus(Duration::from_secs(1))), [(Vendor::Amd, Ability::No(why))]);
}

#[tokio::test]
async fn what_expires_is_said_once_a_day_and_shown_in_metrics() {
    let now = clock::now();
    let kds = Kds::start(vec![listing(now.seconds() - 10, now.seconds() + 10 * 24 * 3600)]);
    let served = served(&kds).await;
    let collateral = &served.broker.collateral;
    let week = Duration::from_secs(7 * 24 * 3600);
    let keys = |at| collateral.expiring(week, at).iter().map(|piece| piece.key).collect::<Vec<_>>();
    assert_eq!(keys(now), []);
    assert_eq!(keys(later(now, 4 * 24)), [CRL]);
    assert_eq!(keys(later(now, 4 * 24 + 23)), []);
    assert_eq!(keys(later(now, 5 * 24)), [CRL]);
    let text = metrics(&served).await;
    for line in ["pieces{kind=\"amd-crl\"} 1", "pieces{kind=\"amd-authority\"} 2", "pieces{kind=\"tcb-info\"} 0"] {
        assert!(text.contains(&format!("portcullis_collateral_{line}")), "{line} {text}");
    }
    assert!(text.contains("portcullis_collateral_expiry_seconds{kind=\"amd-crl\"} 86"), "{text}");
}

#[tokio::test]
async fn fetches_that_guests_cause_have_a_budget() {
    let kds = Kds::start(vec![platform()]);
    let mut house = house(&kds).await;
    house.feed = Settings { per_client: 2, in_all: 3, ..house.feed };
    let served = serve_house(house, None).await;
    fetch(&served.broker.feed, clock::now()).await;
    let chip = |number: u8| platform().with_chip(&format!("chip {number}"));
    for number in 0..2 {
        problem(&ask_for_release(&served, &bare(&chip(number))).await, 503, "collateral-being-fetched");
    }
    let answer = ask_for_release(&served, &bare(&chip(2))).await;
    problem(&answer, 503, "collateral-over-budget");
    assert!((1000..=1800).contains(&retry_after(answer.headers())));
    problem(&ask_for_release(&served, &bare(&chip(1))).await, 503, "collateral-being-fetched");
    let feed = &served.broker.feed;
    assert!(matches!(feed.want(vcek(&chip(3)), CLIENT, clock::now()), Wanted::Coming(_)), "another client has its own");
    assert!(matches!(feed.want(vcek(&chip(4)), CLIENT, clock::now()), Wanted::OverBudget(_)), "all together have one");
    let text = metrics(&served).await;
    assert!(text.contains("portcullis_collateral_budget_refusals_total{source=\"amd\"} 2"), "{text}");
    assert_eq!(ask_for_release(&served, &Guest::default()).await.status(), StatusCode::OK, "who needs no fetch is not hurt");
}

#[tokio::test]
async fn the_feed_runs_by_itself_until_it_is_stopped() {
    let kds = Kds::start(vec![platform()]);
    let house = house(&kds).await;
    let broker = house.open().await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let running = tokio::spawn(Arc::clone(&broker.feed).run(stopped));
    let key = vcek(&platform());
    broker.feed.want(key, CLIENT, clock::now());
    for _ in 0..200 {
        if broker.collateral.piece(&key).is_some() && broker.collateral.piece(&CRL).is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(broker.collateral.pieces().len(), 4, "ASK, ASVK, list, VCEK");
    stop.send(true).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn what_is_carried_here_is_kept_piece_by_piece() {
    let house = House::with_llama().await;
    std::fs::remove_file(house.data().join("collateral/genoa.crl")).unwrap();
    let broker = house.open().await;
    let now = clock::now();
    let expired = listing(now.seconds() - 1000, now.seconds() - 1).crl_der(&[]);
    let certificates = vec![platform().vcek_der(), platform().ask_der(), b"junk".to_vec(), platform().ark_der()];
    let crls = vec![expired, SoftPlatform::new(testbed::snp::Line::Milan).crl_der(&[])];
    let outcomes = broker.collateral.import(attestation::Collateral { certificates, crls, ..Default::default() }, now).await;
    let kept: Vec<_> = outcomes.iter().filter_map(|(_, outcome)| outcome.as_ref().ok()).copied().collect();
    assert_eq!(kept, [PieceKey::AmdAuthority(ProductLine::Genoa, SigningKeyKind::Vcek), vcek(&platform()), CRL]);
    let refused: Vec<_> = outcomes.into_iter().filter_map(|(_, outcome)| outcome.err()).collect();
    assert_eq!(refused, vec![NotKept::Unknown; 3], "junk, a root, a line without one");
    drop(broker);
    assert_eq!(house.open().await.collateral.pieces().len(), 3);
}
