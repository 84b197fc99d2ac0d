//! `attestation::verify` of a TD quote, against the bare signature checks that it cannot do without.
//!
//! Goals, without the second opinion: with prepared collateral and a cached chain, at most 1.25 times two bare P-256 verifies; with
//! everything cold, at most 1.3 times the nine verifies that it needs. `peers/` has `dcap-qvl`'s own verification beside it.
//!
//! Only version 4 quotes get a second opinion, so a version 5 quote in the same build goes without; `--no-default-features` leaves it out
//! of the build. The first part is on the soft platform, whose quotes answer a transcript as a release needs. The second is on real
//! evidence, where there is any (`PORTCULLIS_EVIDENCE`), by `attestation::judge`, which also writes down each step for people.

mod floor;

use std::hint::black_box;
use std::path::{Path, PathBuf};

use attestation::forms::{self, CollateralFile};
use attestation::{
    Anchors, ChainCache, Collateral, Evidence, Lapsed, NoCache, PlatformClaims, PreparedCollateral, ReportDataRule, SecondOpinion,
    SignedBody, TdxCollateral, TdxEvidence, judge, verify,
};
use floor::Floor;
use portcullis_benches::rounds::{Contender, print, side_by_side};
use portcullis_benches::session::{Chains, NOW, transcript};
use portcullis_benches::{clock, insist_on_release, process};
use protocol::ids::Platform;
use protocol::time::UnixTime;
use testbed::tdx::{SoftTdx, TdReportKind, TdShape};

const ROUNDS: usize = 41;
const OPERATIONS: u32 = 100;

fn main() {
    insist_on_release();
    println!("{}", process::machine());
    soft("soft TDX, version 4", TdShape::default());
    soft("soft TDX, version 5", TdShape::version_5(TdReportKind::Td15));
    match real() {
        Some(case) => measure_real(&case),
        None => println!("\nskipped: no folder of real evidence (set PORTCULLIS_EVIDENCE)"),
    }
}

fn soft(title: &str, shape: TdShape) {
    let platform = SoftTdx::new();
    let transcript = transcript(Platform::Tdx);
    let quote = platform.guest(shape).attest(&transcript.report_data()).quote;
    let anchors = Anchors::test_with_intel(Vec::new(), platform.root_der()).expect("a soft root");
    let soft = platform.collateral();
    let signed = |body| SignedBody { body, issuer_chain: soft.issuer_chain.clone().into_bytes() };
    let tdx = TdxCollateral {
        tcb_infos: vec![signed(soft.tcb_info.clone())],
        qe_identities: vec![signed(soft.qe_identity.clone())],
        crls: vec![soft.root_list.clone(), soft.pck_list.clone()],
        certificates: Vec::new(),
        ..TdxCollateral::default()
    };
    let collateral = Collateral { tdx, ..Collateral::default() };
    let floor = Floor::of(&quote, &collateral.tdx, &platform.root_der());
    let evidence = Evidence::Tdx(TdxEvidence { quote, event_log: None });
    let prepared = PreparedCollateral::prepare(collateral.clone(), &anchors);
    let run = |prepared: &PreparedCollateral, cache: &dyn ChainCache| {
        verify(black_box(&evidence), prepared, &anchors, &transcript, cache, NOW).expect("genuine")
    };
    let opinion = opinion(run(&prepared, &NoCache).platform());
    let chains = Chains::default();
    let ours = format!("attestation::verify, collateral prepared, chain cached, {opinion}");
    let warm = [
        Contender::new("two bare P-256 verifies of the same bytes", || floor.two()),
        Contender::new(&ours, || drop(black_box(run(&prepared, &chains)))),
    ];
    print(&format!("{title}, warm"), &side_by_side(&mut { warm }, ROUNDS, OPERATIONS, clock::thread));

    let ours = format!("attestation::verify, collateral and chain cold, {opinion}");
    let cold = [
        Contender::new("nine bare P-256 verifies of the same bytes", || floor.nine()),
        Contender::new(&ours, || {
            let prepared = PreparedCollateral::prepare(black_box(&collateral).clone(), &anchors);
            drop(black_box(run(&prepared, &NoCache)));
        }),
    ];
    print(&format!("{title}, cold"), &side_by_side(&mut { cold }, ROUNDS, OPERATIONS / 5, clock::thread));
}

fn opinion(claims: &PlatformClaims) -> &'static str {
    match claims {
        PlatformClaims::Tdx(claims) if claims.second_opinion == SecondOpinion::Agreed => "with second opinion",
        _ => "without second opinion",
    }
}

/// A real quote with the collateral of its platform, and a time at which it holds.
struct Real {
    quote: Vec<u8>,
    collateral: Collateral,
    at: UnixTime,
}

fn real() -> Option<Real> {
    let named = std::env::var_os("PORTCULLIS_EVIDENCE").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/evidence")).join("tdx");
    let quote = std::fs::read(folder.join("v4-dcapqvl-sample-b0c06f.quote.bin")).ok()?;
    let folder = folder.join("collateral/b0c06f000000-20250619-eval17");
    let bundle = std::fs::read(folder.join("bundle.json")).ok()?;
    let at = std::fs::read_to_string(folder.join("verify_time.txt")).ok()?;
    let at = UnixTime::from_seconds(at.split_whitespace().next()?.parse().ok()?);
    let gathered = forms::gather(&[CollateralFile { name: "bundle.json", bytes: &bundle }]);
    Some(Real { quote, collateral: forms::collateral(&gathered.pieces), at })
}

fn measure_real(case: &Real) {
    let Real { quote, collateral, at } = case;
    let anchors = Anchors::vendor();
    let evidence = Evidence::Tdx(TdxEvidence { quote: quote.clone(), event_log: None });
    let judged = |prepared: &PreparedCollateral| {
        judge(black_box(&evidence), prepared, &anchors, ReportDataRule::NotCompared, Lapsed::Rejected, *at).expect("genuine")
    };
    let prepared = PreparedCollateral::prepare(collateral.clone(), &anchors);
    let opinion = opinion(judged(&prepared).platform());
    let floor = Floor::of(quote, &collateral.tdx, &floor::chain(quote)[2]);
    let (one, other) = (
        format!("attestation::judge, collateral prepared, chain cold, steps noted, {opinion}"),
        format!("attestation::judge, everything cold, steps noted, {opinion}"),
    );
    let contenders = [
        Contender::new("nine bare P-256 verifies of the same bytes", || floor.nine()),
        Contender::new(&one, || drop(black_box(judged(&prepared)))),
        Contender::new(&other, || {
            drop(black_box(judged(&PreparedCollateral::prepare(black_box(collateral).clone(), &anchors))));
        }),
    ];
    print("real quote, version 4", &side_by_side(&mut { contenders }, ROUNDS, OPERATIONS / 5, clock::thread));
}
