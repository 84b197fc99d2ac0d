//! The feed where somebody misbehaves: guests that invent platforms, upstreams that answer with nothing of use, authorities of the web, the
//! store, and the clock.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use attestation::{ProductLine, VcekName};
use axum::http::StatusCode;
use broker::clock;
use broker::collateral::{Ability, PieceKey};
use broker::feed::upstream::Update;
use broker::feed::{Feed, Settings, Upstream, Wanted};
use protocol::time::UnixTime;
use rcgen::{CertifiedKey, KeyPair};
use testbed::services::{Answer, Kds, Mood, Pcs, Service};
use testbed::snp::{GuestShape, Leaf};
use testbed::tdx::SoftTdx;
use tokio::net::{TcpListener, TcpStream};

use crate::feed::{CLIENT, CRL, LISTS, ask_for_release, bare, chip_path, ends, fetch, held, house, later, listing, served, vcek};
use crate::feed_tdx::{self, Site, evaluated, filled, judged, number};
use crate::house::*;
use crate::http::{logs, problem, serve_house};
use crate::ledger::{GOOD, PIECES_LOST, PIECES_PANIC, bad_line};

const ROOT_LIST: &str = "/sgx/certification/v4/rootcacrl";
const IDENTITY: &str = "/tdx/certification/v4/qe/identity";

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// The key of a chip that nobody has.
fn invented(number: u16) -> PieceKey {
    let mut chip = [0xab; 64];
    chip[..2].copy_from_slice(&number.to_be_bytes());
    PieceKey::Vcek(VcekName::new(ProductLine::Genoa, chip, platform().tcb.bytes(platform().line)).unwrap())
}

#[tokio::test]
async fn a_mirror_that_forbids_what_it_does_not_know_does_not_have_it() {
    for status in [401, 403, 405, 451] {
        let kds = Kds::start(vec![platform()]);
        let served = served(&kds).await;
        let stranger = platform().with_chip("a stranger");
        kds.set_for(&chip_path(&stranger), Mood::Status(status));
        kds.set_for(LISTS, Mood::Status(status));
        problem(&ask_for_release(&served, &bare(&stranger)).await, 503, "collateral-being-fetched");
        fetch(&served.broker.feed, clock::now()).await;
        let told = problem(&ask_for_release(&served, &bare(&stranger)).await, 403, "snp-leaf-missing");
        assert!(told.hint.unwrap().contains("knows no such platform"), "{status}");
        assert_eq!((ends(&served, "absent").await, ends(&served, "failed").await), (1, 0), "{status}");
        fetch(&served.broker.feed, later(clock::now(), 25)).await;
        assert_eq!(ends(&served, "failed").await, 1, "{status}: of what every guest needs it is a failure");
    }
}

#[tokio::test]
async fn a_platform_that_is_answered_with_nothing_of_use_is_turned_away_after_some_attempts_and_asked_for_again_later() {
    for mood in [Mood::Status(500), Mood::Garbage, Mood::Huge(2 * 1024 * 1024)] {
        let kds = Kds::start(vec![platform()]);
        let served = served(&kds).await;
        let (feed, key, start) = (&served.broker.feed, vcek(&platform()), clock::now());
        kds.set_for(&chip_path(&platform()), mood);
        for round in 0..5 {
            let at = start.plus(seconds(200 * round));
            assert!(matches!(feed.want(key, CLIENT, at), Wanted::Coming(_)), "{mood:?} {round}");
            fetch(feed, at).await;
        }
        assert_eq!(feed.want(key, CLIENT, start.plus(seconds(800))), Wanted::Unusable, "{mood:?}");
        let told = problem(&ask_for_release(&served, &bare(&platform())).await, 403, "snp-leaf-missing");
        assert!(told.hint.unwrap().contains("nothing of use"), "{mood:?}");
        assert_eq!(kds.count(&chip_path(&platform())), 5, "{mood:?}");
        kds.set(Mood::Well);
        assert!(matches!(feed.want(key, CLIENT, start.plus(seconds(4000))), Wanted::Coming(_)), "{mood:?}");
        fetch(feed, start.plus(seconds(4000))).await;
        assert_eq!(ask_for_release(&served, &bare(&platform())).await.status(), StatusCode::OK, "{mood:?}");
    }
}

#[tokio::test]
async fn while_the_upstream_is_gone_a_guest_is_told_to_come_back_however_often_it_asks() {
    let kds = Kds::start(vec![platform()]);
    let served = served(&kds).await;
    kds.stop();
    for round in 0..20 {
        let at = clock::now().plus(seconds(400 * round));
        assert!(matches!(served.broker.feed.want(vcek(&platform()), CLIENT, at), Wanted::Coming(_)), "{round}");
        fetch(&served.broker.feed, at).await;
    }
}

#[tokio::test]
async fn invented_platforms_do_not_keep_the_queue_full_nor_the_upstream_busy() {
    let kds = Kds::start(vec![platform()]);
    let mut house = house(&kds).await;
    house.feed = Settings { per_client: 10_000, in_all: 10_000, ..house.feed };
    let broker = house.open().await;
    let (feed, now) = (&broker.feed, clock::now());
    fetch(feed, now).await;
    let standing = kds.count("");
    assert_eq!(standing, 3);
    for number in 0..1024 - 3 {
        assert!(matches!(feed.want(invented(number), CLIENT, now), Wanted::Coming(_)), "{number}");
    }
    assert_eq!(feed.want(vcek(&platform()), CLIENT, now), Wanted::OverBudget(seconds(10)), "all are on their way");
    kds.stop();
    fetch(feed, now).await;
    assert!(matches!(feed.want(vcek(&platform()), CLIENT, now), Wanted::Coming(_)), "in the place of one that failed");
    let due = feed.start_due(now.plus(seconds(16 * 60)));
    assert!(due.is_empty(), "nobody asked for any of them for a quarter of an hour");
}

#[tokio::test]
async fn networks_of_one_ipv6_allotment_do_not_starve_the_others() {
    let kds = Kds::start(vec![platform()]);
    let mut house = house(&kds).await;
    house.feed = Settings { per_client: 2, in_all: 40, ..house.feed };
    let (broker, now) = (house.open().await, clock::now());
    let network = |site, number| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, site, number, 0, 0, 0, 0));
    let want = |number, client| broker.feed.want(invented(number), client, now);
    for number in 0..10 {
        assert!(matches!(want(number, network(1, number)), Wanted::Coming(_)), "{number}");
    }
    assert_eq!(want(10, network(1, 10)), Wanted::OverBudget(seconds(360)));
    assert!(matches!(want(10, network(2, 10)), Wanted::Coming(_)), "another allotment");
    assert!(matches!(want(11, CLIENT), Wanted::Coming(_)), "an IPv4 address");
}

#[tokio::test]
async fn what_the_store_does_not_take_or_panics_at_is_asked_for_again() {
    for (fault, outcome) in [(PIECES_LOST, "not-stored"), (PIECES_PANIC, "failed")] {
        let kds = Kds::start(vec![platform()]);
        let house = house(&kds).await;
        let line = bad_line(&house).await;
        let broker = house.open_on(Arc::clone(&line) as Arc<dyn broker::store::Store>).await;
        let served = crate::http::serve_broker(house, broker, None).await;
        line.next.store(fault, Ordering::SeqCst);
        let now = clock::now();
        fetch(&served.broker.feed, now).await;
        assert_eq!((ends(&served, outcome).await, served.broker.collateral.pieces().len()), (3, 0), "{outcome}");
        line.next.store(GOOD, Ordering::SeqCst);
        fetch(&served.broker.feed, later(now, 1)).await;
        assert_eq!((ends(&served, "kept").await, served.broker.collateral.pieces().len()), (3, 3), "{outcome}");
    }
}

/// Asks for everything at a time at which the service behaves so, and says for how long it is left alone then.
async fn left_alone(settings: impl Fn(&mut Settings), moods: &[(&str, Mood)]) -> u64 {
    let kds = Kds::start(vec![platform()]);
    let mut house = house(&kds).await;
    settings(&mut house.feed);
    let broker = house.open().await;
    for (path, mood) in moods {
        kds.set_for(path, *mood);
    }
    let at = clock::now();
    fetch(&broker.feed, at).await;
    let Wanted::Coming(wait) = broker.feed.want(vcek(&platform()), CLIENT, at) else { panic!("it is on its way") };
    wait.as_secs()
}

#[tokio::test]
async fn an_upstream_says_in_seconds_or_by_a_date_how_long_it_is_left_alone() {
    let now = clock::now().seconds();
    for (mood, expected) in [
        (Mood::RetryAfter("700"), 700),
        (Mood::RetryAt { until: 1_000_700, date: Some(1_000_000) }, 700),
        (Mood::RetryAt { until: now + 700, date: None }, 700),
        (Mood::RetryAt { until: now + 700_000, date: None }, 3600),
        (Mood::RetryAfter("soon"), 60),
        (Mood::RetryAfter("-5"), 60),
        (Mood::RetryAfter("99999999999"), 3600),
    ] {
        let wait = left_alone(|_| (), &[("", mood)]).await;
        assert!((expected - 10..=expected + 10).contains(&wait), "{mood:?} {wait}");
    }
}

#[tokio::test]
async fn how_long_an_upstream_is_left_alone_counts_from_its_answer() {
    let late = Mood::ThrottledLate { after: Duration::from_millis(2100), retry_after: 20 };
    let wait = left_alone(|settings| settings.timeout = seconds(20), &[("", late)]).await;
    assert!((22..=32).contains(&wait), "{wait}");
}

#[tokio::test]
async fn of_several_waits_that_an_upstream_asks_for_the_longest_counts() {
    let late = Mood::ThrottledLate { after: Duration::from_millis(200), retry_after: 5 };
    let wait = left_alone(|_| (), &[("", late), (LISTS, Mood::Throttled { status: 503, retry_after: Some(900) })]).await;
    assert!((900..=910).contains(&wait), "{wait}");
}

#[tokio::test]
async fn a_clock_that_is_set_back_stops_nothing() {
    let now = clock::now();
    let ahead = later(now, 30 * 24);
    let news = |issued: u64| listing(now.seconds() - issued, now.seconds() + 400 * 24 * 3600);
    let kds = Kds::start(vec![news(100)]);
    let mut house = house(&kds).await;
    house.feed.per_client = 1;
    let broker = house.open().await;
    let feed = &broker.feed;
    fetch(feed, ahead).await;
    assert!(matches!(feed.want(invented(1), CLIENT, ahead), Wanted::Coming(_)));
    assert_eq!(feed.want(invented(2), CLIENT, ahead), Wanted::OverBudget(seconds(3600)));
    kds.set(Mood::Throttled { status: 429, retry_after: Some(900) });
    fetch(feed, ahead).await;
    // It is set back by a month.
    kds.set(Mood::Well);
    let Wanted::Coming(wait) = feed.want(invented(1), CLIENT, now) else { panic!("it is on its way") };
    assert!((895..=910).contains(&wait.as_secs()), "{wait:?}");
    let asked = kds.count("");
    fetch(feed, now.plus(seconds(890))).await;
    assert_eq!(kds.count(""), asked, "the pause still counts");
    feed.want(invented(1), CLIENT, now.plus(seconds(890)));
    fetch(feed, now.plus(seconds(920))).await;
    assert_eq!(kds.count(""), asked + 1);
    assert!(matches!(feed.want(invented(2), CLIENT, now.plus(seconds(3700))), Wanted::Coming(_)), "the budget filled up again");
    kds.replace(vec![news(50)]);
    fetch(feed, later(now, 19)).await;
    assert_eq!(held(&broker), news(50).crl_der(&[]), "what every guest needs is fetched anew within a day");
}

#[tokio::test]
async fn what_came_while_the_clock_ran_ahead_is_fetched_anew_after_a_restart() {
    let now = clock::now();
    let news = |issued: u64| listing(now.seconds() - issued, now.seconds() + 400 * 24 * 3600);
    let kds = Kds::start(vec![news(100)]);
    let house = house(&kds).await;
    fetch(&house.open().await.feed, later(now, 30 * 24)).await;
    let broker = house.open().await;
    assert!(broker.collateral.piece(&CRL).unwrap().fetched_at <= later(now, 1), "it did not come in the future");
    kds.replace(vec![news(50)]);
    for (hours, expected) in [(0, news(100)), (11, news(100)), (19, news(50))] {
        fetch(&broker.feed, later(now, hours)).await;
        assert_eq!(held(&broker), expected.crl_der(&[]), "{hours}");
    }
}

/// A server in front of a service that speaks TLS with this certificate.
async fn before(service: &Service, certified: &CertifiedKey<KeyPair>) -> SocketAddr {
    let to = service.url().strip_prefix("http://").unwrap().to_owned();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certified.cert.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, to) = (acceptor.clone(), to.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut onward = TcpStream::connect(to).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut stream, &mut onward).await);
            });
        }
    });
    address
}

#[tokio::test]
async fn over_tls_an_upstream_has_the_name_that_was_configured_under_an_authority_that_was() {
    let certified = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (own, other, elsewhere) = (certified("localhost"), certified("localhost"), certified("elsewhere.test"));
    let folder = tempfile::tempdir().unwrap();
    let authority = |name: &str, of: &CertifiedKey<KeyPair>| {
        let path = folder.path().join(name);
        std::fs::write(&path, of.cert.pem()).unwrap();
        Some(path)
    };
    let cases = [
        ("its own authority", &own, authority("own.pem", &own), 3),
        ("another authority", &own, authority("other.pem", &other), 0),
        ("the web's authorities", &own, None, 0),
        ("another name", &elsewhere, authority("elsewhere.pem", &elsewhere), 0),
    ];
    for (case, certified, ca_file, kept) in cases {
        let kds = Kds::start(vec![platform()]);
        let address = before(&kds, certified).await;
        let mut house = house(&kds).await;
        house.feed.amd = Some(Upstream { url: format!("https://localhost:{}", address.port()), ca_file });
        house.feed.timeout = seconds(10);
        let served = serve_house(house, None).await;
        fetch(&served.broker.feed, clock::now()).await;
        assert_eq!((ends(&served, "kept").await, ends(&served, "unreachable").await), (kept, 3 - kept), "{case}");
        assert_eq!((served.broker.collateral.pieces().len(), kds.count("")), (kept, kept), "{case}");
    }
}

#[tokio::test]
async fn a_guest_whose_report_does_not_name_its_certificate_is_told_to_bring_it() {
    let kds = Kds::start(vec![platform()]);
    let served = served(&kds).await;
    let told = async |soft: testbed::snp::SoftGuest| {
        let mut guest = Guest { soft, ..Guest::default() };
        assert_eq!(ask_for_release(&served, &guest).await.status(), StatusCode::OK, "with it, it is served");
        guest.soft.certificate_table = Vec::new();
        problem(&ask_for_release(&served, &guest).await, 403, "snp-leaf-missing").hint.unwrap()
    };
    let old = platform().guest(GuestShape { version: Some(2), ..GuestShape::default() });
    assert!(told(old).await.starts_with("a report of version 2 does not say"));
    let mut hidden = platform().guest(GuestShape::default());
    hidden.report.chip_id = [0; 64];
    assert!(told(hidden).await.contains("its chip id is masked"));
    let vlek = platform().guest(GuestShape { leaf: Leaf::Vlek, ..GuestShape::default() });
    assert!(told(vlek).await.starts_with("the report is signed by a VLEK"));
    let asked = kds.count("");
    fetch(&served.broker.feed, clock::now()).await;
    assert_eq!(kds.count(""), asked, "nobody was asked for any of them");
}

/// The feed of a house.
fn feed_of(settings: Settings, house: &Arc<broker::collateral::CollateralHouse>) -> Arc<Feed> {
    Arc::new(Feed::new(&Settings { timeout: seconds(5), ..settings }, Arc::clone(house)).unwrap())
}

fn intel(pcs: &Pcs) -> Settings {
    Settings { intel: Some(Upstream { url: pcs.url(), ca_file: None }), ..Settings::default() }
}

#[tokio::test]
async fn the_list_of_intels_root_comes_from_where_the_configuration_says() {
    let logs = logs();
    let pcs = Pcs::start(vec![SoftTdx::new()]);
    pcs.set_for(ROOT_LIST, Mood::Status(404));
    let list = SoftTdx::new().collateral().root_list;
    let elsewhere =
        Service::start(move |ask| (ask.path == "/IntelSGXRootCA.der").then(|| Answer { headers: Vec::new(), body: list.clone() }));
    let lacks = Ability::No("no revocation list of the root is in force");
    for (root_crl, ability) in
        [(None, lacks), (Some(Upstream { url: format!("{}/IntelSGXRootCA.der", elsewhere.url()), ca_file: None }), Ability::InForce)]
    {
        let house = Site::new().await.house().await;
        let feed = feed_of(Settings { root_crl, ..intel(&pcs) }, &house);
        feed.want(feed_tdx::tcb(), CLIENT, clock::now());
        fetch(&feed, clock::now()).await;
        assert_eq!(feed_tdx::intel(&house, clock::now()), ability);
        assert_eq!(house.piece(&PieceKey::RootCrl).is_some(), ability == Ability::InForce);
    }
    assert_eq!((pcs.count(ROOT_LIST), elsewhere.count("")), (1, 1));
    let lines = String::from_utf8(logs.lock().unwrap().clone()).unwrap();
    let told = |line: &&str| line.contains("\"level\":\"WARN\"") && line.contains("intel/root-crl") && line.contains("root_crl_url");
    assert_eq!(lines.lines().filter(told).count(), 1, "the operator is warned, and told what to say");
}

#[tokio::test]
async fn a_guest_hears_that_the_identity_of_the_quoting_enclave_is_missing_and_not_that_its_platform_is_unknown() {
    let pcs = Pcs::start(vec![SoftTdx::new()]);
    pcs.set_for(IDENTITY, Mood::Status(404));
    let served = feed_tdx::served(&pcs).await;
    fetch(&served.broker.feed, clock::now()).await;
    problem(&feed_tdx::ask(&served, &SoftTdx::new()).await, 503, "collateral-being-fetched");
    fetch(&served.broker.feed, clock::now()).await;
    let told = problem(&feed_tdx::ask(&served, &SoftTdx::new()).await, 403, "tdx-collateral-missing");
    let hint = told.hint.unwrap();
    assert!(hint.contains("identity of the quoting enclave") && !hint.contains("knows no such platform"), "{hint}");
    pcs.set(Mood::Well);
    fetch(&served.broker.feed, later(clock::now(), 1)).await;
    assert_eq!(feed_tdx::ask(&served, &SoftTdx::new()).await.status(), StatusCode::OK);
}

/// The evaluation number of the identity of the quoting enclave.
fn identity(house: &broker::collateral::CollateralHouse) -> Option<u32> {
    house.piece(&PieceKey::QeIdentity)?.evaluation.as_ref().map(|(_, number)| *number)
}

fn refused(house: &broker::collateral::CollateralHouse, kind: &str) -> Vec<String> {
    house.refused().into_iter().filter(|refused| refused.kind == kind).map(|refused| refused.why).collect()
}

#[tokio::test]
async fn the_identity_of_the_quoting_enclave_has_a_floor_too() {
    let pcs = Pcs::start(vec![evaluated(20, 3)]);
    let site = Site::new().await;
    {
        let house = site.house().await;
        let feed = filled(&pcs, &house).await;
        assert_eq!(identity(&house), Some(20));
        pcs.replace(vec![evaluated(19, 2)]);
        fetch(&feed, later(clock::now(), 25)).await;
        assert_eq!((identity(&house), refused(&house, "qe-identity").len()), (Some(20), 1));
        pcs.replace(vec![evaluated(21, 2)]);
        fetch(&feed, later(clock::now(), 50)).await;
        assert_eq!((identity(&house), refused(&house, "qe-identity").len()), (Some(21), 0), "the near miss is kept");
    }
    site.store().await.remove_piece(&PieceKey::QeIdentity.to_string()).await.unwrap();
    pcs.replace(vec![evaluated(20, 1)]);
    let house = site.house().await;
    assert_eq!((identity(&house), house.floors()["TD_QE"]), (None, 21));
    let feed = feed_of(intel(&pcs), &house);
    fetch(&feed, clock::now()).await;
    assert_eq!(refused(&house, "qe-identity"), ["its evaluation number is 20, and 21 was accepted before"]);
    assert_eq!(identity(&house), None, "also when the piece itself is gone");
    pcs.replace(vec![evaluated(21, 1)]);
    fetch(&feed, later(clock::now(), 1)).await;
    assert_eq!(identity(&house), Some(21));
}

#[tokio::test]
async fn the_evaluation_is_the_one_that_was_asked_for_and_the_older_one_does_not_follow_the_newer() {
    let old = evaluated(20, 1);
    let pcs = Pcs::start(vec![old.clone().with(|platform| platform.evaluation = 21)]);
    pcs.replace_standard(vec![old]);
    let (early, standard) = (Site::new().await, Site::new().await);
    let fetched = async |site: &Site, update: Update, at: UnixTime| {
        let house = site.house().await;
        let feed = feed_of(Settings { update, ..intel(&pcs) }, &house);
        feed.want(feed_tdx::tcb(), CLIENT, at);
        fetch(&feed, at).await;
        fetch(&feed, later(at, 25)).await;
        assert_eq!(judged(&house, clock::now()), Ok(()));
        (number(&house), identity(&house), refused(&house, "qe-identity"))
    };
    let none = Vec::<String>::new;
    let now = clock::now();
    assert_eq!(fetched(&early, Update::default(), now).await, (Some(21), Some(21), none()));
    let asked = pcs.asked("/tdx/");
    assert!(!asked.is_empty() && asked.iter().all(|ask| ask.parameter("update") == Some("early")), "{asked:?}");
    assert_eq!(fetched(&standard, Update::Standard, now).await, (Some(20), Some(20), none()));
    let below = vec!["its evaluation number is 20, and 21 was accepted before".to_owned()];
    assert_eq!(fetched(&early, Update::Standard, later(now, 50)).await, (Some(21), Some(21), below));
    assert_eq!(fetched(&standard, Update::Early, later(now, 50)).await, (Some(21), Some(21), none()));
}
