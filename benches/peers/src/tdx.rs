//! `attestation::verify` beside `dcap-qvl`'s own verification of the same quote under the same collateral: both without a policy.

use std::hint::black_box;
use std::path::{Path, PathBuf};

use attestation::forms::{self, CollateralFile};
use attestation::{
    Anchors, ChainCache, Collateral, Evidence, Lapsed, NoCache, PreparedCollateral, ReportDataRule, TdxEvidence, judge, verify,
};
use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::verify::QuoteVerifier;
use portcullis_benches::clock;
use portcullis_benches::rounds::{Contender, print, side_by_side};
use portcullis_benches::session::{Chains, NOW, transcript};
use protocol::ids::Platform;
use protocol::time::UnixTime;
use testbed::tdx::{SoftTdx, TdShape};

use crate::{OPERATIONS, ROUNDS};

/// Prints both tables.
pub fn measure() {
    soft();
    match real() {
        Some(case) => measure_real(&case),
        None => println!("\nskipped: no folder of real evidence (set PORTCULLIS_EVIDENCE)"),
    }
}

const PEER: &str = "dcap-qvl 0.7.1 with ring, collateral read before, full verification";

fn soft() {
    let platform = SoftTdx::new();
    let transcript = transcript(Platform::Tdx);
    let quote = platform.guest(TdShape::default()).attest(&transcript.report_data()).quote;
    let anchors = Anchors::test_with_intel(Vec::new(), platform.root_der()).expect("a soft root");
    let bundle = bundle(&platform);
    let collateral = of_bundle(&serde_json::to_vec(&bundle).expect("JSON"));
    let evidence = Evidence::Tdx(TdxEvidence { quote: quote.clone(), event_log: None });
    let prepared = PreparedCollateral::prepare(collateral.clone(), &anchors);
    let run = |prepared: &PreparedCollateral, cache: &dyn ChainCache| {
        drop(black_box(verify(black_box(&evidence), prepared, &anchors, &transcript, cache, NOW).expect("genuine")));
    };
    let verifier = QuoteVerifier::new(platform.root_der());
    let peer = || drop(black_box(verifier.verify(black_box(&quote), &bundle, NOW.seconds()).expect("genuine")));
    let chains = Chains::default();
    let contenders = [
        Contender::new(PEER, peer),
        Contender::new("attestation::verify, everything cold", || {
            run(&PreparedCollateral::prepare(black_box(&collateral).clone(), &anchors), &NoCache);
        }),
        Contender::new("attestation::verify, collateral prepared, chain cached", || run(&prepared, &chains)),
    ];
    print("soft TDX, version 4", &side_by_side(&mut { contenders }, ROUNDS, OPERATIONS, clock::thread));
}

fn bundle(platform: &SoftTdx) -> QuoteCollateralV3 {
    let soft = platform.collateral();
    let (tcb_info, qe_identity) = (platform.tcb_info().json(), platform.qe_identity().json());
    let sign = |text: &str| testbed::tdx::sign(&platform.key(testbed::tdx::Role::TcbSigner), text.as_bytes()).to_vec();
    QuoteCollateralV3 {
        pck_crl_issuer_chain: soft.pck_list_issuer_chain,
        root_ca_crl: soft.root_list,
        pck_crl: soft.pck_list,
        tcb_info_issuer_chain: soft.issuer_chain.clone(),
        tcb_info_signature: sign(&tcb_info),
        tcb_info,
        qe_identity_issuer_chain: soft.issuer_chain,
        qe_identity_signature: sign(&qe_identity),
        qe_identity,
        pck_certificate_chain: None,
    }
}

/// Our view of the peer's own form.
fn of_bundle(bytes: &[u8]) -> Collateral {
    forms::collateral(&forms::gather(&[CollateralFile { name: "bundle.json", bytes }]).pieces)
}

/// A real quote with its collateral in both views, and a time at which it holds.
struct Real {
    quote: Vec<u8>,
    bundle: QuoteCollateralV3,
    collateral: Collateral,
    at: UnixTime,
}

fn real() -> Option<Real> {
    let named = std::env::var_os("PORTCULLIS_EVIDENCE").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/evidence")).join("tdx");
    let quote = std::fs::read(folder.join("v4-dcapqvl-sample-b0c06f.quote.bin")).ok()?;
    let folder = folder.join("collateral/b0c06f000000-20250619-eval17");
    let bytes = std::fs::read(folder.join("bundle.json")).ok()?;
    let at = std::fs::read_to_string(folder.join("verify_time.txt")).ok()?;
    let at = UnixTime::from_seconds(at.split_whitespace().next()?.parse().ok()?);
    Some(Real { quote, bundle: serde_json::from_slice(&bytes).ok()?, collateral: of_bundle(&bytes), at })
}

/// By `judge`, which also writes down each step for people: a real quote answers no transcript of ours.
fn measure_real(Real { quote, bundle, collateral, at }: &Real) {
    let anchors = Anchors::vendor();
    let evidence = Evidence::Tdx(TdxEvidence { quote: quote.clone(), event_log: None });
    let run = |prepared: &PreparedCollateral| {
        let judged = judge(black_box(&evidence), prepared, &anchors, ReportDataRule::NotCompared, Lapsed::Rejected, *at);
        drop(black_box(judged.expect("genuine")));
    };
    let prepared = PreparedCollateral::prepare(collateral.clone(), &anchors);
    let verifier = QuoteVerifier::new_prod();
    let contenders = [
        Contender::new(PEER, || drop(black_box(verifier.verify(black_box(quote), bundle, at.seconds()).expect("genuine")))),
        Contender::new("attestation::judge, everything cold, steps noted", || {
            run(&PreparedCollateral::prepare(black_box(collateral).clone(), &anchors));
        }),
        Contender::new("attestation::judge, collateral prepared, chain cold, steps noted", || run(&prepared)),
    ];
    print("real quote, version 4", &side_by_side(&mut { contenders }, ROUNDS, OPERATIONS, clock::thread));
}
