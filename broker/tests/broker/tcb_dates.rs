//! What Intel's documents say of a platform as time goes on: since when a TCB is superseded, and what a newer document will do to whom.

use attestation::{Evidence, Lapsed, PlatformClaims, ReportDataRule, TcbStatus, TdxEvidence};
use axum::http::StatusCode;
use broker::clock;
use broker::collateral::{CollateralHouse, NotKept, Origin, RawPiece};
use broker::feed::Upstream;
use protocol::time::UnixTime;
use testbed::services::Pcs;
use testbed::tdx::{NEWEST_TCB, SoftTdx, TcbInfo, TdShape};

use crate::feed::{CLIENT, fetch};
use crate::feed_tdx::{Site, anchors, ask, carry, evaluated, number, tcb};
use crate::http::serve_house;
use crate::kept::{INTEL, bare_house, put_policy, tdx_policy};

const DAY: u64 = 24 * 3600;

/// A TCB info of an evaluation number, with a change made before it is signed.
fn document(evaluation: u32, days_ago: u64, change: impl FnOnce(&mut TcbInfo)) -> RawPiece {
    let platform = evaluated(evaluation, days_ago);
    RawPiece { bytes: platform.tcb_info_body(change), issuer_chain: platform.tcb_issuer_chain().into_bytes() }
}

/// The same levels, the newest dated anew.
fn dated(evaluation: u32, days_ago: u64, date: u64) -> RawPiece {
    document(evaluation, days_ago, |info| info.levels[0].standing.date = date)
}

/// Since when the platform of an older TCB is superseded.
fn superseded(house: &CollateralHouse) -> Option<u64> {
    let machine = SoftTdx::new().with(|machine| machine.pce_svn = 10);
    let quote = machine.guest(TdShape::default()).attest(&[7; 64]).quote;
    let evidence = Evidence::Tdx(TdxEvidence { quote, event_log: None });
    let judged =
        attestation::judge(&evidence, &house.current(), &anchors(), ReportDataRule::NotCompared, Lapsed::Rejected, clock::now()).unwrap();
    let PlatformClaims::Tdx(claims) = judged.platform() else { panic!("{judged:?}") };
    assert_eq!(claims.tcb.status, TcbStatus::OutOfDate);
    claims.tcb.superseded.map(UnixTime::seconds)
}

async fn replaced(site: &Site) -> Vec<String> {
    let pieces = site.store().await.pieces().await.unwrap();
    pieces.into_iter().map(|piece| piece.key).filter(|key| key.starts_with("intel/replaced/")).collect()
}

#[tokio::test]
async fn a_period_of_grace_does_not_begin_anew_where_a_level_is_dated_anew() {
    let (site, anew) = (Site::new().await, NEWEST_TCB + 40 * DAY);
    carry(&site.folder(), &evaluated(20, 30));
    let house = site.house().await;
    assert_eq!((number(&house), superseded(&house)), (Some(20), Some(NEWEST_TCB)));
    let offer = async |raw: RawPiece| house.offer(tcb(), raw, Origin::Upstream, clock::now()).await;
    // One of the same number takes the place of the other altogether.
    offer(dated(20, 20, NEWEST_TCB + DAY)).await.unwrap();
    assert_eq!((superseded(&house), replaced(&site).await), (Some(NEWEST_TCB + DAY), vec![]));
    offer(dated(21, 9, anew)).await.unwrap();
    assert_eq!((number(&house), superseded(&house)), (Some(21), Some(NEWEST_TCB + DAY)));
    // What was replaced judges nobody: the number is never undercut, here or after a restart.
    assert!(matches!(offer(dated(20, 8, NEWEST_TCB)).await, Err(NotKept::BelowFloor { .. })));
    std::fs::remove_dir_all(site.folder()).unwrap();
    std::fs::create_dir(site.folder()).unwrap();
    let again = site.house().await;
    assert_eq!((number(&again), superseded(&again)), (Some(21), Some(NEWEST_TCB + DAY)));
    // Whoever never had the earlier one knows no better.
    let elsewhere = Site::new().await;
    carry(&elsewhere.folder(), &evaluated(20, 30));
    std::fs::remove_file(elsewhere.folder().join("tcb.json")).unwrap();
    let other = elsewhere.house().await;
    other.offer(tcb(), dated(21, 9, anew), Origin::Upstream, clock::now()).await.unwrap();
    assert_eq!(superseded(&other), Some(anew));
}

#[tokio::test]
async fn of_what_was_replaced_some_years_worth_is_kept() {
    let site = Site::new().await;
    carry(&site.folder(), &evaluated(20, 40));
    let house = site.house().await;
    let first = house.floors().keys().filter(|subject| subject.starts_with("TDX/")).count();
    for evaluation in 21..=33 {
        let raw = dated(evaluation, u64::from(60 - evaluation), NEWEST_TCB + u64::from(evaluation) * DAY);
        house.offer(tcb(), raw, Origin::Upstream, clock::now()).await.unwrap();
    }
    let kept = replaced(&site).await;
    assert_eq!((first, kept.len()), (1, 12), "{kept:?}");
    assert!(kept.iter().all(|key| !key.ends_with("/20")) && kept.iter().any(|key| key.ends_with("/21")), "{kept:?}");
    assert_eq!(superseded(&house), Some(NEWEST_TCB + 21 * DAY));
    assert_eq!(superseded(&*site.house().await), Some(NEWEST_TCB + 21 * DAY));
}

#[tokio::test]
async fn a_forecast_asks_the_collateral_of_now() {
    let pcs = Pcs::start(vec![evaluated(20, 2)]);
    let mut house = bare_house(INTEL).await;
    house.feed.intel = Some(Upstream { url: pcs.url(), ca_file: None });
    put_policy(&house, 2, &tdx_policy("")).await;
    let served = serve_house(house, None).await;
    let broker = &served.broker;
    broker.feed.want(tcb(), CLIENT, clock::now());
    fetch(&broker.feed, clock::now()).await;
    assert_eq!(ask(&served, &SoftTdx::new()).await.status(), StatusCode::OK);
    let denials = || {
        let forecast = broker.sightings.forecast(&broker.ledger.published().documents, &broker.collateral, clock::now());
        let [platform] = forecast.platforms.as_slice() else { panic!("{forecast:?}") };
        let now = platform.denials.iter().filter(|denial| denial.from <= forecast.at);
        now.map(|denial| denial.check.clone()).collect::<Vec<_>>()
    };
    assert_eq!(denials(), [""; 0]);
    // A TCB recovery is published, and the machine is behind: it is told before the guest asks again.
    let keep = async |raw: RawPiece| broker.collateral.offer(tcb(), raw, Origin::Upstream, clock::now()).await.unwrap();
    keep(document(21, 1, |info| info.levels[0].pce_svn += 1)).await;
    assert_eq!(denials(), ["tdx-tcb-status"]);
    keep(document(22, 1, |info| info.levels.clear())).await;
    assert_eq!(denials(), ["tdx-tcb-not-supported"]);
    keep(document(23, 1, |_| ())).await;
    assert_eq!(denials(), [""; 0]);
}
