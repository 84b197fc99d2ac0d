//! `attestation::verify` beside the `sev` crate's own verification of the same report under the same chain.

use std::hint::black_box;

use attestation::{Anchors, ChainCache, Collateral, Evidence, NoCache, PreparedCollateral, ProductLine, SnpEvidence, verify};
use portcullis_benches::clock;
use portcullis_benches::rounds::{Contender, print, side_by_side};
use portcullis_benches::session::{Chains, NOW, transcript};
use protocol::ids::Platform;
use sev::certs::snp::{Certificate, Chain, Verifiable, ca};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser;
use testbed::snp::{GuestShape, Leaf, Line, SoftPlatform};

use crate::{OPERATIONS, ROUNDS};

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

/// Prints both tables.
pub fn measure() {
    let platform = SoftPlatform::new(Line::Milan);
    let transcript = transcript(Platform::SevSnp);
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
