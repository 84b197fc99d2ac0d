//! One genuine release from end to end, and what never leaves it.

use broker::clock;
use broker::decision::Rejection;
use broker::ledger::RecordError;
use broker::release::release;
use protocol::entries::{Entry, Event, Verdict};
use protocol::envelope::{unwrap, write_record};
use protocol::hpke::RecipientSecret;
use protocol::messages::{AnswerError, EvidenceMessage, ItemOutcome, Purpose};

use crate::house::*;

#[tokio::test]
async fn a_genuine_guest_gets_the_secret_and_a_receipt_for_it() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let guest = Guest::default();
    let at = clock::now();
    let request = guest.sign(&guest.request(&challenge(&broker, at)));
    let (verdicts, _) = decide(&broker, &request, at).unwrap();
    let sealed = release(broker.ledger.record(verdicts).await.unwrap(), &broker.keys, None, at).unwrap();
    let wire = serde_json::to_vec(sealed.answer()).unwrap();
    assert!(!contains(&wire, SECRET), "the secret crosses sealed");

    let outcome = guest.open(sealed.answer(), &request.digest, at);
    let [ItemOutcome::Granted { item, publisher: by, expires, secret, .. }] = outcome.items.as_slice() else { panic!("{outcome:?}") };
    assert_eq!(secret.expose(), SECRET);
    assert_eq!((*by, item.version), (*publisher().public(), Some(version(1))));
    assert_eq!(*expires, at.plus(HOUR), "the policy's attestation-lifetime");

    let receipt = outcome.receipt.verify(&house.identity().origin, &log_key(&house)).unwrap();
    let entry = Entry::parse(receipt.entry()).unwrap();
    assert_eq!((entry.installation, entry.documents), (*root().public(), *broker.ledger.published().documents.digest()));
    let Event::Decision { decision, request: about, guest: to, items, .. } = entry.event else { panic!("{entry:?}") };
    assert_eq!((decision, about, to), (outcome.decision, request.digest, guest.hpke.public().id()));
    assert_eq!(items[0].verdict, Verdict::Permitted);

    // Whoever listened can neither open it nor have it answer another request.
    let listener = RecipientSecret::generate().unwrap();
    assert!(matches!(sealed.answer().open(&request.digest, root().public(), &listener, at), Err(AnswerError::Hpke(_))));
    let other = protocol::ids::Digest::from([9; 32]);
    assert!(matches!(sealed.answer().open(&other, root().public(), &guest.hpke, at), Err(AnswerError::OtherRequest { .. })));

    assert!(!contains(&house.store_bytes(), SECRET), "the store holds it sealed");
    let encoded = protocol::encoding::to_base64(SECRET);
    assert!(!contains(&house.store_bytes(), encoded.trim_end_matches('=').as_bytes()));
    let details = broker.ledger.decision(outcome.decision).await.unwrap().unwrap();
    assert!(contains(&details, b"snp-measurement") && !contains(&details, SECRET));
}

#[tokio::test]
async fn a_check_is_decided_and_recorded_and_releases_nothing() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let before = broker.ledger.published().edge.size();
    let outcome = ask(&broker, &Guest { purpose: Purpose::Check, ..Guest::default() }).await;
    assert!(matches!(outcome.items.as_slice(), [ItemOutcome::Permitted { .. }]), "{outcome:?}");
    assert!(!contains(&serde_json::to_vec(&outcome).unwrap(), b"secret"));
    assert_eq!(broker.ledger.published().edge.size(), before + 1);
    assert!(matches!(ask(&broker, &Guest::default()).await.items.as_slice(), [ItemOutcome::Granted { .. }]));
}

#[tokio::test]
async fn a_challenge_serves_one_request() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let (guest, at) = (Guest::default(), clock::now());
    let challenge = challenge(&broker, at);
    let request = guest.request(&challenge);
    assert!(exchange(&broker, &guest, &request, at).await.is_ok());
    let replayed = Err(No::NotRecorded(RecordError::Replayed));
    assert_eq!(exchange(&broker, &guest, &request, at).await, replayed);
    let impostor = Guest::default();
    assert_eq!(exchange(&broker, &impostor, &impostor.request(&challenge), at).await, replayed, "whoever asks");
    assert!(exchange(&broker, &guest, &guest.request(&self::challenge(&broker, at)), at).await.is_ok());
}

#[tokio::test]
async fn a_challenge_serves_one_of_two_requests_that_arrive_together() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let (guest, at) = (Guest::default(), clock::now());
    let request = guest.sign(&guest.request(&challenge(&broker, at)));
    let (one, two) = (decide(&broker, &request, at).unwrap().0, decide(&broker, &request, at).unwrap().0);
    let (one, two) = tokio::join!(broker.ledger.record(one), broker.ledger.record(two));
    let results = [one.map(drop), two.map(drop)];
    assert!(results.contains(&Ok(())) && results.contains(&Err(RecordError::Replayed)), "{results:?}");
}

#[tokio::test]
async fn a_challenge_stays_spent_across_a_restart() {
    let house = House::with_llama().await;
    let (guest, at) = (Guest::default(), clock::now());
    let broker = house.open().await;
    let request = guest.request(&challenge(&broker, at));
    assert!(exchange(&broker, &guest, &request, at).await.is_ok());
    drop(broker);
    let restarted = house.open().await;
    assert_eq!(exchange(&restarted, &guest, &request, at).await, Err(No::NotRecorded(RecordError::Replayed)));
}

#[tokio::test]
async fn a_decision_on_documents_that_changed_is_not_recorded() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let (guest, at) = (Guest::default(), clock::now());
    let request = guest.sign(&guest.request(&challenge(&broker, at)));
    let (verdicts, _) = decide(&broker, &request, at).unwrap();
    broker.ledger.put(house.revocations(1, &[("acme/llama", None)])).await.unwrap();
    assert_eq!(broker.ledger.record(verdicts).await.map(drop), Err(RecordError::DocumentsChanged));
    // The nonce was not spent; deciding again sees the revocation.
    let (verdicts, _) = decide(&broker, &request, at).unwrap();
    let sealed = release(broker.ledger.record(verdicts).await.unwrap(), &broker.keys, None, at).unwrap();
    assert_eq!(codes(&guest.open(sealed.answer(), &request.digest, at).items[0]), ["record-revoked"]);
}

#[tokio::test]
async fn a_permit_holds_as_long_as_its_attestation_and_no_longer() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    for (late, expected) in [(HOUR, [].as_slice()), (HOUR + std::time::Duration::from_secs(1), &["permit-expired"])] {
        let (guest, at) = (Guest::default(), clock::now());
        let request = guest.sign(&guest.request(&challenge(&broker, at)));
        let recorded = broker.ledger.record(decide(&broker, &request, at).unwrap().0).await.unwrap();
        let sealed = release(recorded, &broker.keys, None, at.plus(late)).unwrap();
        assert_eq!(codes(&guest.open(sealed.answer(), &request.digest, at).items[0]), expected);
    }
}

fn held(guest: &Guest, challenge: &[u8]) -> protocol::messages::ReleaseRequest {
    guest.request_with(challenge, EvidenceMessage::Held {})
}

#[tokio::test]
async fn a_verified_guest_renews_with_the_evidence_that_is_held() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let guest = Guest::default();
    let at = clock::now();
    assert!(exchange(&broker, &guest, &guest.request(&challenge(&broker, at)), at).await.is_ok());
    for minutes in [30, 60] {
        let later = at.plus(std::time::Duration::from_secs(60 * minutes));
        let outcome = exchange(&broker, &guest, &held(&guest, &challenge(&broker, later)), later).await.unwrap();
        match &outcome.items[0] {
            ItemOutcome::Granted { expires, .. } => assert_eq!(*expires, at.plus(HOUR), "renewing makes no attestation younger"),
            other => panic!("after {minutes} minutes: {other:?}"),
        }
    }
    // Nothing can be permitted to it any more, and it is not kept.
    let late = at.plus(HOUR + std::time::Duration::from_secs(60));
    let refused = exchange(&broker, &guest, &held(&guest, &challenge(&broker, late)), late).await;
    assert!(matches!(refused, Err(No::Rejected(Rejection::AttestAgain))), "{refused:?}");
}

#[tokio::test]
async fn a_renewal_under_anything_else_than_was_attested_must_attest_again() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let (guest, at) = (Guest::default(), clock::now());
    let renew = async |guest: &Guest| exchange(&broker, guest, &held(guest, &challenge(&broker, at)), at).await;
    assert_eq!(renew(&guest).await.unwrap_err().code(), "attest-again", "never seen");
    assert!(exchange(&broker, &guest, &guest.request(&challenge(&broker, at)), at).await.is_ok());
    let same = || Guest { hpke: guest.hpke.clone(), signing: copy(&guest), ..Guest::default() };
    let changed = [
        Guest { role: protocol::ids::Role::Workload(name("chat")), ..same() },
        Guest { configuration: protocol::ids::Digest::from([2; 32]), ..same() },
        Guest { hpke: RecipientSecret::generate().unwrap(), ..same() },
        Guest { signing: protocol::keys::SigningKey::generate().unwrap(), ..same() },
    ];
    for other in &changed {
        assert_eq!(renew(other).await.unwrap_err().code(), "attest-again");
    }
    assert!(renew(&same()).await.is_ok());
}

fn copy(guest: &Guest) -> protocol::keys::SigningKey {
    protocol::keys::SigningKey::from_seed(&guest.signing.seed().unwrap()).unwrap()
}

#[tokio::test]
async fn a_renewal_is_judged_by_the_collateral_of_its_own_time() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let (guest, at) = (Guest::default(), clock::now());
    assert!(exchange(&broker, &guest, &guest.request(&challenge(&broker, at)), at).await.is_ok());
    let ask = platform().serial(testbed::snp::Authority::Ask);
    let list = house.data().join("collateral/genoa.crl");
    std::fs::write(&list, platform().crl_der(&[ask])).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
    std::fs::File::options().write(true).open(&list).unwrap().set_modified(later).unwrap();
    broker.collateral.refresh(at).await;
    let refused = exchange(&broker, &guest, &held(&guest, &challenge(&broker, at)), at).await.unwrap_err();
    assert_eq!(refused.code(), "snp-authority-revoked");
}

#[tokio::test]
async fn a_recovery_key_opens_a_record_without_the_broker() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let recovery = RecipientSecret::generate().unwrap();
    let recipients = [house.sealing_key(), recovery.public().clone()];
    let file = write_record(house.draft("acme/kept", 1), SECRET, &recipients, &publisher()).unwrap();
    let envelope = file.envelope.clone();
    let statement = file.statement.authenticate(&[*publisher().public()]).unwrap();
    broker.ledger.put(house.trust.record(file).unwrap()).await.unwrap();
    let outcome = ask(&broker, &Guest::asking(&["acme/kept"])).await;
    assert!(matches!(outcome.items.as_slice(), [ItemOutcome::Granted { secret, .. }] if secret.expose() == SECRET));
    assert_eq!(unwrap(&envelope, &statement, &recovery).unwrap().as_slice(), SECRET);
    assert!(unwrap(&envelope, &statement, &RecipientSecret::generate().unwrap()).is_err());
}
