//! A session's verification of TDX evidence: the transcript that a quote answers, its event log, renewal, and chains that are kept.

mod soft_tdx;

use std::sync::{Arc, Mutex};

use attestation::{
    Anchors, ChainCache, ChainKey, Collateral, EventLog, EventLogError, Evidence, NoCache, PreparedCollateral, Rejection, Revocation,
    TdxCollateral, TdxEvidence, TdxRejection, VerifiedChain, VerifiedClaims, verify, verify_again,
};
use protocol::encoding::sha256;
use protocol::hpke::RecipientKey;
use protocol::ids::{Digest, Nonce, Platform, Role};
use protocol::keys::PublicKey;
use protocol::time::UnixTime;
use protocol::transcript::Transcript;
use soft_tdx::{NOW, anchors, claims, collateral};
use testbed::tdx::{self, Root, SoftTdx, TdShape};

/// What the default TD of a soft machine answers.
fn transcript() -> Transcript {
    let log = SoftTdx::new().guest(TdShape::default()).event_log.unwrap();
    Transcript {
        platform: Platform::Tdx,
        installation: PublicKey::from_bytes([1; 32]),
        nonce: Nonce::from([2; 32]),
        hpke_key: RecipientKey::from_bytes(&[3; 1216]).unwrap(),
        signing_key: PublicKey::from_bytes([4; 32]),
        role: Role::WholeVm,
        configuration: Digest::from([5; 32]),
        gpu_evidence: None,
        event_log: Some(sha256(&log)),
    }
}

fn answer(platform: &SoftTdx, transcript: &Transcript) -> TdxEvidence {
    let soft = platform.guest(TdShape::default()).attest(&transcript.report_data());
    TdxEvidence { quote: soft.quote, event_log: soft.event_log }
}

fn prepared(tdx: TdxCollateral) -> PreparedCollateral {
    PreparedCollateral::prepare(Collateral { tdx, ..Collateral::default() }, &anchors())
}

fn genuine() -> PreparedCollateral {
    prepared(collateral(&SoftTdx::new()))
}

/// Keeps everything, and counts.
#[derive(Default)]
struct Kept {
    chains: Mutex<Vec<(ChainKey, Arc<VerifiedChain>)>>,
    found: Mutex<usize>,
}

impl Kept {
    /// Chains kept, and how often one was found.
    fn counts(&self) -> (usize, usize) {
        (self.chains.lock().unwrap().len(), *self.found.lock().unwrap())
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

fn verified(evidence: TdxEvidence, transcript: &Transcript, cache: &dyn ChainCache, at: UnixTime) -> Result<VerifiedClaims, Rejection> {
    verify(&Evidence::Tdx(evidence), &genuine(), &anchors(), transcript, cache, at)
}

#[test]
fn collateral_and_chains_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<PreparedCollateral>();
    shared::<VerifiedChain>();
    shared::<Anchors>();
}

#[test]
fn a_quote_answers_its_own_transcript_and_no_other() {
    let evidence = answer(&SoftTdx::new(), &transcript());
    let own = verified(evidence.clone(), &transcript(), &NoCache, NOW).unwrap();
    assert_eq!((own.verified_at(), own.transcript()), (NOW, &transcript()));
    let EventLog::Replayed { events } = &claims(own.platform()).event_log else { panic!("a log") };
    assert!(!events.is_empty());
    let other = Transcript { nonce: Nonce::from([9; 32]), ..transcript() };
    assert_eq!(verified(evidence.clone(), &other, &NoCache, NOW).unwrap_err().code(), "tdx-report-data");
    let snp = Transcript { platform: Platform::SevSnp, ..transcript() };
    assert_eq!(
        verified(evidence, &snp, &NoCache, NOW).unwrap_err(),
        Rejection::PlatformMismatch { expected: Platform::SevSnp, found: Platform::Tdx }
    );
}

#[test]
fn the_event_log_is_the_one_of_the_transcript() {
    let evidence = answer(&SoftTdx::new(), &transcript());
    let (expected, bytes) = (transcript().event_log, evidence.event_log.clone().unwrap());
    let without = TdxEvidence { event_log: None, ..evidence.clone() };
    let rejection = verified(without.clone(), &transcript(), &NoCache, NOW).unwrap_err();
    assert_eq!(rejection, Rejection::EventLogMismatch { expected, found: None });
    // Zero bytes behind a log end it as well, and are other bytes.
    let longer = [bytes, vec![0; 64]].concat();
    let found = Some(sha256(&longer));
    let rejection = verified(TdxEvidence { event_log: Some(longer), ..evidence }, &transcript(), &NoCache, NOW).unwrap_err();
    assert_eq!(rejection, Rejection::EventLogMismatch { expected, found });
    // A guest may come without: then it says so in what it signs.
    let none = Transcript { event_log: None, ..transcript() };
    let rejection = verified(without, &none, &NoCache, NOW).unwrap_err();
    assert_eq!(rejection.code(), "tdx-report-data");
    let without = TdxEvidence { event_log: None, ..answer(&SoftTdx::new(), &none) };
    assert_eq!(claims(verified(without, &none, &NoCache, NOW).unwrap().platform()).event_log, EventLog::Absent);
}

#[test]
fn an_event_log_replays_to_all_four_registers() {
    let shape = |change: fn(&mut tdx::EventLog)| {
        let log = tdx::EventLog::boot().with(change).bytes();
        let transcript = Transcript { event_log: Some(sha256(&log)), ..transcript() };
        let evidence = TdxEvidence { event_log: Some(log), ..answer(&SoftTdx::new(), &transcript) };
        verified(evidence, &transcript, &NoCache, NOW)
    };
    let found = shape(|log| drop(log.records.pop())).unwrap_err();
    assert!(matches!(found, Rejection::Tdx(TdxRejection::EventLog(EventLogError::Replay { .. }))), "{found}");
    assert_eq!((found.code(), found.step()), ("tdx-event-log-replay", 12));
    shape(|_| ()).unwrap();
}

#[test]
fn a_renewal_is_judged_by_the_collateral_and_time_of_its_own() {
    let soft = SoftTdx::new();
    let evidence = Evidence::Tdx(answer(&soft, &transcript()));
    let first = verify(&evidence, &genuine(), &anchors(), &transcript(), &NoCache, NOW).unwrap();
    let later = NOW.plus(std::time::Duration::from_secs(600));
    let second = verify_again(&first, &evidence, &genuine(), &anchors(), &NoCache, later).unwrap();
    assert_eq!(second.verified_at(), NOW);
    let mut revoking = collateral(&soft);
    revoking.crls[1] = soft.pck_list_der(&[soft.serial(tdx::Role::Pck)]);
    let rejection = verify_again(&first, &evidence, &prepared(revoking), &anchors(), &NoCache, later).unwrap_err();
    assert_eq!(rejection.code(), "tdx-pck-revoked");
    let another = Evidence::Tdx(answer(&soft, &Transcript { nonce: Nonce::from([9; 32]), ..transcript() }));
    assert_eq!(verify_again(&first, &another, &genuine(), &anchors(), &NoCache, later).unwrap_err().code(), "tdx-report-data");
}

#[test]
fn a_chain_is_kept_after_every_step_passed_and_then_used() {
    let kept = Kept::default();
    let soft = SoftTdx::new();
    let other = Transcript { nonce: Nonce::from([9; 32]), ..transcript() };
    verified(answer(&soft, &transcript()), &other, &kept, NOW).unwrap_err();
    assert_eq!(kept.counts(), (0, 0));
    verified(answer(&soft, &transcript()), &transcript(), &kept, NOW).unwrap();
    assert_eq!(kept.counts(), (1, 0));
    let warm = verified(answer(&soft, &other), &other, &kept, NOW).unwrap();
    assert_eq!(kept.counts(), (1, 1));
    assert!(matches!(claims(warm.platform()).revocation, Revocation::Checked { .. }));
    // What the quoting enclave and the attestation key sign is checked all the same.
    for (flawed, code) in [
        (soft.quote().with(|quote| quote.signature = tdx::SignatureFlaw::FlippedS), "tdx-quote-signature"),
        (soft.quote().with(|quote| quote.qe_signature = tdx::SignatureFlaw::FlippedS), "tdx-qe-report-signature"),
    ] {
        let quote = flawed.bytes();
        assert_eq!(verified(TdxEvidence { quote, ..answer(&soft, &other) }, &other, &kept, NOW).unwrap_err().code(), code);
    }
    // Another machine has another chain.
    verified(answer(&soft.clone().with_chip("second"), &other), &other, &kept, NOW).unwrap();
    assert_eq!(kept.counts().0, 2);
}

#[test]
fn a_kept_chain_answers_for_its_anchors_its_lists_and_its_time_alone() {
    let kept = Kept::default();
    let soft = SoftTdx::new().with(|soft| soft.validity.pck.not_after = NOW.seconds() + 10);
    let evidence = Evidence::Tdx(answer(&soft, &transcript()));
    let judge = |collateral: TdxCollateral, at| verify(&evidence, &prepared(collateral), &anchors(), &transcript(), &kept, at);
    judge(collateral(&soft), NOW).unwrap();
    let rejection = judge(collateral(&soft), NOW.plus(std::time::Duration::from_secs(11))).unwrap_err();
    assert_eq!(rejection.code(), "tdx-certificate-expired");
    let mut revoking = collateral(&soft);
    revoking.crls[1] = soft.pck_list_der(&[soft.serial(tdx::Role::Pck)]);
    assert_eq!(judge(revoking, NOW).unwrap_err().code(), "tdx-pck-revoked");
    let theirs = Anchors::test_with_intel(Vec::new(), soft.clone().under(Root::Other).root_der()).unwrap();
    let prepared = PreparedCollateral::prepare(Collateral { tdx: collateral(&soft), ..Collateral::default() }, &theirs);
    assert_eq!(verify(&evidence, &prepared, &theirs, &transcript(), &kept, NOW).unwrap_err().code(), "tdx-root-mismatch");
    // Lists that lapse under way are a claim, from a kept chain too.
    let lapsing = soft.clone().with(|soft| soft.validity.pck_list.not_after = NOW.seconds() + 5);
    judge(collateral(&lapsing), NOW).unwrap();
    let before = kept.counts();
    let stale = judge(collateral(&lapsing), NOW.plus(std::time::Duration::from_secs(6))).unwrap();
    assert!(matches!(claims(stale.platform()).revocation, Revocation::Stale { .. }));
    assert_eq!(kept.counts(), (before.0, before.1 + 1));
}

#[test]
fn a_cache_that_mixes_chains_up_gains_nothing() {
    let (kept, soft) = (Kept::default(), SoftTdx::new());
    verified(answer(&soft, &transcript()), &transcript(), &kept, NOW).unwrap();
    let confused = Confused(Arc::clone(&kept.chains.lock().unwrap()[0].1));
    let other = answer(&soft.clone().with_chip("second"), &transcript());
    let second = verified(other, &transcript(), &confused, NOW).unwrap();
    assert_ne!(claims(second.platform()).platform.ppid, soft.ppid);
    let impostor = answer(&soft.under(Root::Other), &transcript());
    assert_eq!(verified(impostor, &transcript(), &confused, NOW).unwrap_err().code(), "tdx-root-mismatch");
}
