//! `attestation::verify` beside the `sev` crate's own verification of the same report under the same chain.
//!
//! Goal: at least 4 times faster. `cargo run --release` in this folder.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, Mutex, PoisonError};

use attestation::{
    Anchors, ChainCache, ChainKey, Collateral, Evidence, NoCache, PreparedCollateral, ProductLine, SnpEvidence, VerifiedChain, verify,
};
use portcullis_benches::rounds::{Contender, print, side_by_side};
use portcullis_benches::{clock, insist_on_release, process};
use protocol::hpke::RecipientSecret;
use protocol::ids::{Digest, Nonce, Platform, Role};
use protocol::keys::PublicKey;
use protocol::time::UnixTime;
use protocol::transcript::Transcript;
use sev::certs::snp::{Certificate, Chain, Verifiable, ca};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser;
use testbed::snp::{GuestShape, Leaf, Line, SoftPlatform};

/// 2026-11-23: within the soft platforms' windows.
const NOW: UnixTime = UnixTime::from_seconds(1_795_392_000);
const ROUNDS: usize = 21;
const OPERATIONS: u32 = 10;

/// Keeps every chain.
#[derive(Default)]
struct Chains(Mutex<HashMap<ChainKey, Arc<VerifiedChain>>>);

impl ChainCache for Chains {
    fn find(&self, key: &ChainKey) -> Option<Arc<VerifiedChain>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn keep(&self, key: ChainKey, chain: Arc<VerifiedChain>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, chain);
    }
}

/// The `sev` crate's view of the same bytes.
struct Sev {
    chain: Chain,
    report: AttestationReport,
}

impl Sev {
    fn parse(certificates: &[Vec<u8>], report: &[u8]) -> Self {
        let certificate = |index: usize| Certificate::from_der(&certificates[index]).expect("a certificate");
        let chain = Chain { ca: ca::Chain { ark: certificate(2), ask: certificate(1) }, vek: certificate(0) };
        Self { chain, report: AttestationReport::from_bytes(report).expect("a report") }
    }

    /// Three RSA signatures, one of them the root's own, and the report's.
    fn verify(&self) {
        (&self.chain, &self.report).verify().expect("genuine");
    }

    /// The report's signature alone.
    fn verify_report(&self) {
        (&self.chain.vek, &self.report).verify().expect("genuine");
    }
}

fn main() {
    insist_on_release();
    println!("{}", process::machine());
    let platform = SoftPlatform::new(Line::Milan);
    let transcript = Transcript {
        platform: Platform::SevSnp,
        installation: PublicKey::from_bytes([1; 32]),
        nonce: Nonce::from([2; 32]),
        hpke_key: RecipientSecret::from_seed(&[3; 32]).expect("a seed").public().clone(),
        signing_key: PublicKey::from_bytes([4; 32]),
        role: Role::WholeVm,
        configuration: Digest::from([5; 32]),
        gpu_evidence: None,
        event_log: None,
    };
    let report = platform.guest(GuestShape::default()).attest(&transcript.report_data()).report;
    let anchors = Anchors::test(vec![(ProductLine::Milan, platform.ark_der())]).expect("a soft root");
    let certificates = platform.certificates(Leaf::Vcek);
    let evidence = Evidence::Snp(SnpEvidence { report: report.clone(), certificates: certificates.clone(), crls: Vec::new() });
    let (collateral, chains) = (PreparedCollateral::prepare(Collateral::default(), &anchors), Chains::default());
    let run = |cache: &dyn ChainCache| {
        drop(black_box(verify(black_box(&evidence), &collateral, &anchors, &transcript, cache, NOW).expect("genuine")));
    };
    let peer = Sev::parse(&certificates, &report);
    let mut cold = [
        Contender::new("attestation::verify, chain cold: parsing, profiles and policy structure included", || run(&NoCache)),
        Contender::new("sev 8, chain and report, everything parsed before", || peer.verify()),
        Contender::new("sev 8, chain and report, parsing included", || Sev::parse(black_box(&certificates), black_box(&report)).verify()),
    ];
    print("soft Milan, chain cold", &side_by_side(&mut cold, ROUNDS, OPERATIONS, clock::thread));
    let mut warm = [
        Contender::new("attestation::verify, chain cached: parsing included", || run(&chains)),
        Contender::new("sev 8, report alone, everything parsed before", || peer.verify_report()),
    ];
    print("soft Milan, chain cached", &side_by_side(&mut warm, ROUNDS, OPERATIONS, clock::thread));
}
