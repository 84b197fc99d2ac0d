//! A session's verification: the transcript that a report answers, renewal, and chains that are kept.

mod soft;

use std::sync::{Arc, Mutex};

use attestation::{
    Anchors, ChainCache, ChainKey, Collateral, Evidence, NoCache, PlatformClaims, PreparedCollateral, Rejection, Revocation, SnpEvidence,
    VerifiedChain, VerifiedClaims,
};
use protocol::hpke::RecipientKey;
use protocol::ids::{Digest, Nonce, Platform, Role};
use protocol::keys::PublicKey;
use protocol::time::UnixTime;
use protocol::transcript::Transcript;
use soft::{NOW, anchors};
use testbed::snp::{Authority, GuestShape, Leaf, Line, Root, SoftPlatform};

fn transcript() -> Transcript {
    Transcript {
        platform: Platform::SevSnp,
        installation: PublicKey::from_bytes([1; 32]),
        nonce: Nonce::from([2; 32]),
        hpke_key: RecipientKey::from_bytes(&[3; 1216]).unwrap(),
        signing_key: PublicKey::from_bytes([4; 32]),
        role: Role::WholeVm,
        configuration: Digest::from([5; 32]),
        gpu_evidence: None,
        event_log: None,
    }
}

/// What a guest of a platform sends for a transcript, as its kernel hands it out.
fn answer(platform: &SoftPlatform, transcript: &Transcript) -> Evidence {
    let soft = platform.guest(GuestShape::default()).attest(&transcript.report_data());
    Evidence::Snp(SnpEvidence::from_certificate_table(soft.report, &soft.certificate_table).unwrap())
}

fn milan() -> SoftPlatform {
    SoftPlatform::new(Line::Milan)
}

/// Keeps everything, and counts.
#[derive(Default)]
struct Kept {
    chains: Mutex<Vec<(ChainKey, Arc<VerifiedChain>)>>,
    found: Mutex<usize>,
}

impl Kept {
    fn len(&self) -> usize {
        self.chains.lock().unwrap().len()
    }

    fn found(&self) -> usize {
        *self.found.lock().unwrap()
    }
}

impl ChainCache for Kept {
    fn find(&self, key: &ChainKey) -> Option<Arc<VerifiedChain>> {
        let found = self.chains.lock().unwrap().iter().find(|(kept, _)| kept == key).map(|(_, chain)| Arc::clone(chain));
        *self.found.lock().unwrap() += usize::from(found.is_some());
        found
    }

    fn keep(&self, key: ChainKey, chain: Arc<VerifiedChain>) {
        self.chains.lock().unwrap().push((key, chain));
    }
}

/// Answers every question with the one chain that it has.
struct Confused(Arc<VerifiedChain>);

impl ChainCache for Confused {
    fn find(&self, _key: &ChainKey) -> Option<Arc<VerifiedChain>> {
        Some(Arc::clone(&self.0))
    }

    fn keep(&self, _key: ChainKey, _chain: Arc<VerifiedChain>) {}
}

fn revocation(claims: &VerifiedClaims) -> Revocation {
    let PlatformClaims::Snp(claims) = claims.platform() else { panic!("not of SNP") };
    claims.revocation
}

fn verify(
    evidence: &Evidence,
    collateral: &Collateral,
    anchors: &Anchors,
    transcript: &Transcript,
    cache: &dyn ChainCache,
    at: UnixTime,
) -> Result<VerifiedClaims, Rejection> {
    attestation::verify(evidence, &PreparedCollateral::prepare(collateral.clone(), anchors), anchors, transcript, cache, at)
}

fn verify_again(
    earlier: &VerifiedClaims,
    evidence: &Evidence,
    collateral: &Collateral,
    anchors: &Anchors,
    cache: &dyn ChainCache,
    at: UnixTime,
) -> Result<VerifiedClaims, Rejection> {
    attestation::verify_again(earlier, evidence, &PreparedCollateral::prepare(collateral.clone(), anchors), anchors, cache, at)
}

#[test]
fn a_report_answers_one_transcript_only() {
    let own = transcript();
    let evidence = answer(&milan(), &own);
    let verified = verify(&evidence, &Collateral::default(), &anchors(), &own, &NoCache, NOW).unwrap();
    assert_eq!(verified.transcript(), &own);
    assert_eq!(verified.verified_at(), NOW);
    assert_eq!(verified.anchors(), protocol::ids::AnchorClass::Test);
    let other = Transcript { nonce: Nonce::from([9; 32]), ..own.clone() };
    let rejection = verify(&evidence, &Collateral::default(), &anchors(), &other, &NoCache, NOW).unwrap_err();
    let expected = Rejection::ReportData { expected: other.report_data().into(), found: own.report_data().into() };
    assert_eq!(rejection, expected);
    let tdx = Transcript { platform: Platform::Tdx, ..own };
    let rejection = verify(&evidence, &Collateral::default(), &anchors(), &tdx, &NoCache, NOW).unwrap_err();
    assert_eq!(rejection, Rejection::PlatformMismatch { expected: Platform::Tdx, found: Platform::SevSnp });
}

#[test]
fn a_renewal_judges_again_and_makes_no_attestation_younger() {
    let evidence = answer(&milan(), &transcript());
    let first = verify(&evidence, &Collateral::default(), &anchors(), &transcript(), &NoCache, NOW).unwrap();
    let later = NOW.plus(std::time::Duration::from_secs(3600));
    let fresh = Collateral { crls: vec![milan().crl_der(&[])], ..Collateral::default() };
    let second = verify_again(&first, &evidence, &fresh, &anchors(), &NoCache, later).unwrap();
    assert_eq!(second.verified_at(), NOW);
    assert_eq!((revocation(&first), matches!(revocation(&second), Revocation::Checked { .. })), (Revocation::Unknown, true));
    let revoking = Collateral { crls: vec![milan().crl_der(&[milan().serial(Authority::Ask)])], ..Collateral::default() };
    let rejection = verify_again(&first, &evidence, &revoking, &anchors(), &NoCache, later).unwrap_err();
    assert_eq!(rejection.code(), "snp-authority-revoked");
    let another = answer(&milan(), &Transcript { nonce: Nonce::from([9; 32]), ..transcript() });
    let rejection = verify_again(&first, &another, &fresh, &anchors(), &NoCache, later).unwrap_err();
    assert_eq!(rejection.code(), "snp-report-data");
}

#[test]
fn a_chain_is_kept_only_after_every_step_passed_and_found_again() {
    let kept = Kept::default();
    let evidence = answer(&milan(), &transcript());
    let other = Transcript { nonce: Nonce::from([9; 32]), ..transcript() };
    verify(&evidence, &Collateral::default(), &anchors(), &other, &kept, NOW).unwrap_err();
    assert_eq!(kept.len(), 0, "the report data was wrong");
    verify(&evidence, &Collateral::default(), &anchors(), &transcript(), &kept, NOW).unwrap();
    assert_eq!((kept.len(), kept.found()), (1, 0));
    // Another report of the same chip.
    verify(&answer(&milan(), &other), &Collateral::default(), &anchors(), &other, &kept, NOW).unwrap();
    assert_eq!((kept.len(), kept.found()), (1, 1));
    // A forged one gains nothing from it.
    let Evidence::Snp(mut forged) = answer(&milan(), &other) else { panic!("not of SNP") };
    forged.report[0x90] ^= 1;
    let rejection = verify(&Evidence::Snp(forged), &Collateral::default(), &anchors(), &other, &kept, NOW).unwrap_err();
    assert_eq!((rejection.code(), kept.found()), ("snp-signature", 2));
}

#[test]
fn a_kept_chain_counts_under_its_own_anchors_and_lists_only() {
    let kept = Kept::default();
    let evidence = answer(&milan(), &transcript());
    let judge = |collateral: &Collateral, anchors: &Anchors| verify(&evidence, collateral, anchors, &transcript(), &kept, NOW);
    judge(&Collateral::default(), &anchors()).unwrap();
    let theirs = Anchors::test(vec![(attestation::ProductLine::Milan, milan().under(Root::Other).ark_der())]).unwrap();
    assert_eq!(judge(&Collateral::default(), &theirs).unwrap_err().code(), "snp-chain-signature");
    assert_eq!(judge(&Collateral::default(), &Anchors::vendor()).unwrap_err().code(), "snp-chain-signature");
    let listed = |serials: &[u64]| Collateral { crls: vec![milan().crl_der(serials)], ..Collateral::default() };
    assert_eq!(judge(&listed(&[milan().serial(Authority::Ask)]), &anchors()).unwrap_err().code(), "snp-authority-revoked");
    assert_eq!(kept.found(), 0);
    let checked = judge(&listed(&[]), &anchors()).unwrap();
    assert!(matches!(revocation(&checked), Revocation::Checked { .. }));
    assert_eq!((kept.len(), kept.found()), (2, 0));
}

#[test]
fn a_kept_chain_is_judged_at_the_time_of_its_use() {
    let kept = Kept::default();
    let mut platform = milan().dated(NOW.seconds());
    platform.validity.revocations.not_after = NOW.seconds() + 10;
    platform.validity.leaves.not_after = NOW.seconds() + 20;
    let evidence = answer(&platform, &transcript());
    let collateral = Collateral { crls: vec![platform.crl_der(&[])], ..Collateral::default() };
    let judge = |seconds: u64| {
        let at = UnixTime::from_seconds(NOW.seconds() + seconds);
        verify(&evidence, &collateral, &anchors(), &transcript(), &kept, at)
    };
    assert!(matches!(revocation(&judge(0).unwrap()), Revocation::Checked { .. }));
    assert!(matches!(revocation(&judge(10).unwrap()), Revocation::Checked { .. }));
    assert!(matches!(revocation(&judge(11).unwrap()), Revocation::Stale { .. }));
    judge(20).unwrap();
    assert_eq!((kept.len(), kept.found()), (1, 3));
    assert_eq!(judge(21).unwrap_err().code(), "snp-chain-expired");
    let before = UnixTime::from_seconds(platform.validity.leaves.not_before - 1);
    let rejection = verify(&evidence, &collateral, &anchors(), &transcript(), &kept, before).unwrap_err();
    assert_eq!(rejection.code(), "snp-chain-not-yet-valid");
}

#[test]
fn a_kept_chain_ends_with_the_first_of_its_certificates() {
    let end = NOW.seconds() + 10;
    let at = |seconds: u64| UnixTime::from_seconds(NOW.seconds() + seconds);
    let check = |platform: &SoftPlatform, anchors: &Anchors, certificate: &str| {
        let kept = Kept::default();
        let evidence = answer(platform, &transcript());
        let judge = |at| verify(&evidence, &Collateral::default(), anchors, &transcript(), &kept, at);
        judge(at(0)).unwrap();
        judge(at(10)).unwrap();
        assert_eq!((kept.len(), kept.found()), (1, 1));
        let rejection = judge(at(11)).unwrap_err();
        let Rejection::ChainExpired { certificate: found, not_after, .. } = rejection else { panic!("{rejection}") };
        assert_eq!((found, not_after), (certificate, UnixTime::from_seconds(end)));
    };
    let mut short_authorities = milan();
    short_authorities.validity.authorities.not_after = end;
    check(&short_authorities, &anchors(), "ASK");
    let short_root = Anchors::test(vec![(attestation::ProductLine::Milan, short_authorities.ark_der())]).unwrap();
    check(&milan(), &short_root, "ARK");
}

#[test]
fn each_kind_of_key_tcb_and_chip_has_its_own_kept_chain() {
    let older = testbed::snp::Tcb { microcode: milan().tcb.microcode - 1, ..milan().tcb };
    let machines = [milan(), milan().with_chip("another"), milan().with_tcb(older)];
    let mut certificates: Vec<Vec<u8>> = machines.iter().map(SoftPlatform::vcek_der).collect();
    certificates.extend(milan().certificates(Leaf::Vlek));
    certificates.push(milan().ask_der());
    let collateral = Collateral { certificates, ..Collateral::default() };
    let by = |machine: &SoftPlatform, leaf| {
        let named =
            machine.report_by(leaf).with(|report| (report.report_data, report.chip_id) = (transcript().report_data(), machine.chip_id));
        machine.sign(&named)
    };
    let mut reports: Vec<Vec<u8>> = machines.iter().map(|machine| by(machine, Leaf::Vcek)).collect();
    reports.push(by(&milan(), Leaf::Vlek));
    let kept = Kept::default();
    for (round, report) in [0, 1].into_iter().flat_map(|round| reports.iter().map(move |report| (round, report))) {
        let evidence = Evidence::Snp(SnpEvidence { report: report.clone(), ..SnpEvidence::default() });
        verify(&evidence, &collateral, &anchors(), &transcript(), &kept, NOW).unwrap();
        assert_eq!(kept.found() > 0, round == 1);
    }
    assert_eq!((kept.len(), kept.found()), (4, 4));
}

#[test]
fn a_cache_that_mixes_chains_up_lets_nobody_in() {
    let kept = Kept::default();
    verify(&answer(&milan(), &transcript()), &Collateral::default(), &anchors(), &transcript(), &kept, NOW).unwrap();
    let confused = Confused(Arc::clone(&kept.chains.lock().unwrap()[0].1));
    // An impostor of the same name, whose chain the cache takes for the genuine one; then a genuine guest of another chip.
    let impostor = answer(&milan().under(Root::Other), &transcript());
    let rejection = verify(&impostor, &Collateral::default(), &anchors(), &transcript(), &confused, NOW).unwrap_err();
    assert_eq!(rejection.code(), "snp-chain-signature");
    let another = answer(&milan().with_chip("another"), &transcript());
    verify(&another, &Collateral::default(), &anchors(), &transcript(), &confused, NOW).unwrap();
}

#[test]
fn a_certificate_table_is_read_as_the_kernel_hands_it_out() {
    let soft = milan().guest(GuestShape { leaf: Leaf::Vlek, ..GuestShape::default() }).attest(&transcript().report_data());
    let evidence = SnpEvidence::from_certificate_table(soft.report.clone(), &soft.certificate_table).unwrap();
    assert_eq!(evidence.certificates, milan().certificates(Leaf::Vlek));
    let cut = &soft.certificate_table[..soft.certificate_table.len() - 1];
    let expected = Rejection::CertificateTable { what: "a content beyond the end" };
    assert_eq!(SnpEvidence::from_certificate_table(soft.report, cut).unwrap_err(), expected);
}
