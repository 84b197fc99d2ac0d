//! `attestation::verify` of an SNP report, against the bare signature checks that it cannot do without.
//!
//! Goals: chain cached, at most 1.15 times one P-384 verify of the same bytes; chain cold, at most 1.3 times one P-384 and two
//! RSA-4096-PSS verifies. A revocation list of the operator is a third RSA signature: measured by itself. `peers/` has the `sev` crate's
//! own verification beside it.
//!
//! The first part is on the soft platform, whose reports answer a transcript as a release needs; its RSA and P-384 signatures are of the
//! same kind and size as AMD's. The second is on real evidence, where there is any (`PORTCULLIS_EVIDENCE`), by `attestation::judge`, which
//! also writes down each step for people.

use std::hint::black_box;
use std::path::{Path, PathBuf};

use attestation::{
    Anchors, ChainCache, Collateral, Evidence, Lapsed, NoCache, PreparedCollateral, ProductLine, ReportDataRule, SnpEvidence, judge, verify,
};
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, ParsedPublicKey, RSA_PSS_2048_8192_SHA384};
use portcullis_benches::rounds::{Contender, print, side_by_side};
use portcullis_benches::session::{Chains, NOW, transcript};
use portcullis_benches::{clock, insist_on_release, process};
use protocol::ids::Platform;
use testbed::snp::{Authority, GuestShape, Leaf, Line, SoftPlatform};

const ROUNDS: usize = 41;
const OPERATIONS: u32 = 50;

fn main() {
    insist_on_release();
    println!("{}", process::machine());
    soft();
    match real() {
        Some(cases) => cases.iter().for_each(measure_real),
        None => println!("\nskipped: no folder of real evidence (set PORTCULLIS_EVIDENCE)"),
    }
}

fn soft() {
    let platform = SoftPlatform::new(Line::Milan);
    let transcript = transcript(Platform::SevSnp);
    let report = platform.guest(GuestShape::default()).attest(&transcript.report_data()).report;
    let anchors = Anchors::test(vec![(ProductLine::Milan, platform.ark_der())]).expect("a soft root");
    let certificates = platform.certificates(Leaf::Vcek);
    let evidence = Evidence::Snp(SnpEvidence { report: report.clone(), certificates: certificates.clone(), crls: Vec::new() });
    let crl = platform.crl_der(&[]);
    let prepare = |collateral| PreparedCollateral::prepare(collateral, &anchors);
    let without = prepare(Collateral::default());
    let with = prepare(Collateral { crls: vec![crl.clone()], ..Collateral::default() });
    let run = |collateral: &PreparedCollateral, cache: &dyn ChainCache| {
        drop(black_box(verify(black_box(&evidence), collateral, &anchors, &transcript, cache, NOW).expect("genuine")));
    };
    let floor = Floor {
        report: &report,
        key: platform.leaf_key(Leaf::Vcek).verifying_key().to_sec1_point(false).as_bytes().to_vec(),
        leaf: &certificates[0],
        intermediate: &certificates[1],
        issuer: rsa_key(&platform, Authority::Ask),
        root: rsa_key(&platform, Authority::Ark),
    };
    let (leaf, intermediate, list) = (Signed::of(floor.leaf), Signed::of(floor.intermediate), Signed::of(&crl));
    let p384 = floor.p384();
    let (chains, chains_with) = (Chains::default(), Chains::default());
    let warm = [
        Contender::new("bare P-384 verify of the same bytes", || p384.check()),
        Contender::new("attestation::verify, chain cached", || run(&without, &chains)),
        Contender::new("the same, with a revocation list", || run(&with, &chains_with)),
    ];
    print("soft Milan, chain cached", &side_by_side(&mut { warm }, ROUNDS, OPERATIONS, clock::thread));

    let two = || {
        p384.check();
        leaf.check(&floor.issuer);
        intermediate.check(&floor.root);
    };
    let cold = [
        Contender::new("bare P-384 and two RSA-4096-PSS verifies", two),
        Contender::new("attestation::verify, chain cold", || run(&without, &NoCache)),
    ];
    print("soft Milan, chain cold", &side_by_side(&mut { cold }, ROUNDS, OPERATIONS / 5, clock::thread));

    let three = || {
        two();
        list.check(&floor.root);
    };
    let listed = [
        Contender::new("bare P-384 and three RSA-4096-PSS verifies", three),
        Contender::new("attestation::verify, chain cold, with a revocation list", || run(&with, &NoCache)),
    ];
    print("soft Milan, chain cold, list", &side_by_side(&mut { listed }, ROUNDS, OPERATIONS / 5, clock::thread));
}

fn rsa_key(platform: &SoftPlatform, authority: Authority) -> ParsedPublicKey {
    let info = platform.authority_key(authority).public_key_info();
    ParsedPublicKey::new(&RSA_PSS_2048_8192_SHA384, &info).expect("an RSA key")
}

/// What a verification cannot do without.
struct Floor<'a> {
    report: &'a [u8],
    key: Vec<u8>,
    leaf: &'a [u8],
    intermediate: &'a [u8],
    issuer: ParsedPublicKey,
    root: ParsedPublicKey,
}

/// One P-384 signature over the bytes of a report.
struct P384<'a> {
    key: ParsedPublicKey,
    message: &'a [u8],
    signature: Vec<u8>,
}

impl Floor<'_> {
    fn p384(&self) -> P384<'_> {
        let (message, signature) = self.report.split_at(0x2a0);
        let scalar = |at: usize| signature[at..at + 48].iter().rev().copied();
        let key = ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &self.key).expect("a P-384 key");
        P384 { key, message, signature: scalar(0).chain(scalar(72)).collect() }
    }
}

impl P384<'_> {
    fn check(&self) {
        self.key.verify_sig(black_box(self.message), black_box(&self.signature)).expect("a good signature");
    }
}

/// The signed part of a certificate or list, and its signature.
struct Signed<'a> {
    body: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// An RSA-4096 signature is the last 512 bytes.
    fn of(der: &'a [u8]) -> Self {
        let content = &der[4..];
        let length = 4 + usize::from(u16::from_be_bytes([content[2], content[3]]));
        assert!(der[1] == 0x82 && content[1] == 0x82, "two-byte lengths, as in every certificate of this size");
        Self { body: &content[..length], signature: &der[der.len() - 512..] }
    }

    fn check(&self, issuer: &ParsedPublicKey) {
        issuer.verify_sig(black_box(self.body), black_box(self.signature)).expect("a good signature");
    }
}

/// A real report with its certificates: leaf, intermediate, root.
struct Real {
    name: &'static str,
    report: Vec<u8>,
    certificates: Vec<Vec<u8>>,
}

fn real() -> Option<Vec<Real>> {
    let named = std::env::var_os("PORTCULLIS_EVIDENCE").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/evidence")).join("snp");
    let read = |name: &str| std::fs::read(folder.join(name)).ok();
    let case = |name: &'static str, report: &str, leaf: &str| {
        // Intermediate and root are compiled in, as in the broker.
        Some(Real { name, report: read(report)?, certificates: vec![read(leaf)?] })
    };
    [
        case("real Milan, version 3", "milan-v3-aci-sidecar.report.bin", "milan-v3-aci-sidecar.vcek.der"),
        case("real Genoa, version 5", "genoa-v5-yaxi.report.bin", "genoa-v5-yaxi.vcek.der"),
    ]
    .into_iter()
    .collect()
}

fn measure_real(case: &Real) {
    let evidence = Evidence::Snp(SnpEvidence { report: case.report.clone(), certificates: case.certificates.clone(), crls: Vec::new() });
    let anchors = Anchors::vendor();
    let collateral = PreparedCollateral::prepare(Collateral::default(), &anchors);
    let judged = || {
        let judged = judge(black_box(&evidence), &collateral, &anchors, ReportDataRule::NotCompared, Lapsed::Rejected, NOW);
        drop(black_box(judged.expect("genuine")));
    };
    // The leaf's P-384 point is the one uncompressed 97-byte BIT STRING of its certificate.
    let leaf = &case.certificates[0];
    let at = leaf.windows(4).position(|window| window == [0x03, 0x62, 0x00, 0x04]).expect("a P-384 key") + 3;
    let (message, signature) = case.report.split_at(0x2a0);
    let scalar = |at: usize| signature[at..at + 48].iter().rev().copied();
    let key = ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &leaf[at..at + 97]).expect("a P-384 key");
    let p384 = P384 { key, message, signature: scalar(0).chain(scalar(72)).collect() };
    let contenders = [
        Contender::new("bare P-384 verify of the same bytes", || p384.check()),
        Contender::new("attestation::judge, chain cold, steps noted", judged),
    ];
    print(case.name, &side_by_side(&mut { contenders }, ROUNDS, OPERATIONS / 5, clock::thread));
}
