//! Every no, with a near miss beside it. A genuine guest that is refused learns codes and its own found values; a caller that
//! proves nothing learns one code.

use broker::clock;
use broker::decision::Rejection;
use broker::server::Broker;
use protocol::challenge::ChallengeError;
use protocol::documents::{Kind, StatementBody};
use protocol::dsse::SignedDocument;
use protocol::encoding::Fields;
use protocol::entries::{Entry, Event};
use protocol::envelope::{Draft, Envelope, RecordFile, Wrapped, write_record};
use protocol::hpke::{self, RecipientSecret};
use protocol::ids::{AnchorClass, Digest, Platform, Role};
use protocol::keys::PublicKey;
use protocol::messages::{EvidenceMessage, Item, ItemOutcome, Outcome, ReleaseRequest};
use protocol::time::UnixTime;
use testbed::snp::GuestShape;

use crate::house::*;

#[tokio::test]
async fn record_known() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let mut guest = Guest::asking(&["acme/unknown"]);
    guest.items.push(Item { kind: Kind::Model, ..credential("acme/llama") });
    guest.items.push(Item { version: Some(version(2)), ..credential("acme/llama") });
    guest.items.push(Item { version: Some(version(1)), ..credential("acme/llama") });
    let outcome = ask(&broker, &guest).await;
    let codes: Vec<_> = outcome.items.iter().map(codes).collect();
    assert_eq!(codes, [vec!["record-known"], vec!["record-known"], vec!["record-known"], vec![]]);
}

#[tokio::test]
async fn record_revoked() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let asked = async || codes(&ask(&broker, &Guest::default()).await.items[0]).join(",");
    broker.ledger.put(house.revocations(1, &[("acme/llama", Some(2)), ("acme", None)])).await.unwrap();
    assert_eq!(asked().await, "", "another version and another name");
    let theirs = house.trust.revocations(&revocation_document(&other_authority(), 1, &[("acme/llama", None)])).unwrap();
    broker.ledger.put(theirs).await.unwrap();
    assert_eq!(asked().await, "", "by an authority that does not speak for the name");
    broker.ledger.put(house.revocations(2, &[("acme/llama", Some(1))])).await.unwrap();
    assert_eq!(asked().await, "record-revoked");
    broker.ledger.put(house.revocations(3, &[("acme/llama", None)])).await.unwrap();
    assert_eq!(asked().await, "record-revoked");
    broker.ledger.put(house.revocations(4, &[])).await.unwrap();
    assert_eq!(asked().await, "", "the newest list is the complete one");
}

#[tokio::test]
async fn the_newest_credential_is_the_newest_that_is_not_revoked() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    for number in [2, 3] {
        broker.ledger.put(house.record("acme/llama", number)).await.unwrap();
        let model = Draft { kind: Kind::Model, manifest: Some(Digest::from([4; 32])), ..house.draft("acme/model", number) };
        let file = write_record(model, b"key", &[house.sealing_key()], &publisher()).unwrap();
        broker.ledger.put(house.trust.record(file).unwrap()).await.unwrap();
    }
    let mut guest = Guest::asking(&["acme/llama"]);
    guest.items.push(Item { version: Some(version(3)), ..credential("acme/llama") });
    guest.items.push(Item { kind: Kind::Model, ..credential("acme/model") });
    let asked = async || {
        let outcome = ask(&broker, &guest).await;
        let seen = |item: &ItemOutcome| (item.item().version.map(|version| version.number()), codes(item).join(","));
        outcome.items.iter().map(seen).collect::<Vec<_>>()
    };
    let granted = |number| (Some(number), String::new());
    let refused = (Some(3), "record-revoked".to_owned());
    assert_eq!(asked().await, [granted(3), granted(3), granted(3)]);
    broker.ledger.put(house.revocations(1, &[("acme/llama", Some(3)), ("acme/model", Some(3))])).await.unwrap();
    assert_eq!(asked().await, [granted(2), refused.clone(), refused.clone()], "a model of which the newest is revoked is refused");
    broker.ledger.put(house.revocations(2, &[("acme/llama", Some(3)), ("acme/llama", Some(2))])).await.unwrap();
    assert_eq!(asked().await, [granted(1), refused.clone(), granted(3)]);
    broker.ledger.put(house.revocations(3, &[("acme/llama", None)])).await.unwrap();
    assert_eq!(asked().await, [refused.clone(), refused, granted(3)], "where all are revoked, the newest says so");
}

#[tokio::test]
async fn tcb_calendar() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let asked = async |broker: &Broker| codes(&ask(broker, &Guest::default()).await.items[0]).join(",");
    let dated = house.trust.policy(&policy_document(&authority(), "acme/strict", 2, &dated_policy())).unwrap();
    broker.ledger.put(dated).await.unwrap();
    let without = "snp-tcb-calendar,snp-tcb-committed,snp-tcb-reported,snp-tcb-launch";
    assert_eq!(asked(&broker).await, without, "no calendar");
    let days_ago = |days: u64| UnixTime::from_seconds(clock::now().seconds() - days * 86400);
    let mut trust = house.trust.clone();
    trust.authorities[1].names = vec!["*".to_owned()];
    let theirs = trust.calendar(&calendar_document(&other_authority(), "acme/amd", 1, &[(days_ago(90), 88)])).unwrap();
    broker.ledger.put(theirs).await.unwrap();
    assert_eq!(asked(&broker).await, without, "of the same name, by another authority than the policy's");
    let own = |number, baselines: &[(UnixTime, u8)]| {
        house.trust.calendar(&calendar_document(&authority(), "acme/amd", number, baselines)).unwrap()
    };
    broker.ledger.put(own(1, &[(days_ago(90), 88), (days_ago(29), 89)])).await.unwrap();
    assert_eq!(asked(&broker).await, "", "the newer baseline's grace is not over");
    broker.ledger.put(own(2, &[(days_ago(90), 88), (days_ago(31), 89)])).await.unwrap();
    assert_eq!(asked(&broker).await, "snp-tcb-committed,snp-tcb-reported,snp-tcb-launch");
    broker.ledger.put(own(3, &[(days_ago(90), 88)])).await.unwrap();
    drop(broker);
    let broker = house.open().await;
    assert_eq!(asked(&broker).await, "", "a calendar is there again after a restart");
}

#[tokio::test]
async fn policy_present() {
    let house = House::new().await;
    let broker = house.open().await;
    broker.ledger.put(house.record("acme/llama", 1)).await.unwrap();
    let asked = async || codes(&ask(&broker, &Guest::default()).await.items[0]).join(",");
    assert_eq!(asked().await, "policy-present");
    // The same name by an authority that the statement does not name: somebody else's rules.
    let mut trust = house.trust.clone();
    trust.authorities[1].names = vec!["*".to_owned()];
    let theirs = trust.policy(&policy_document(&other_authority(), "acme/strict", 1, &policy())).unwrap();
    broker.ledger.put(theirs).await.unwrap();
    assert_eq!(asked().await, "policy-present");
    let ours = house.trust.policy(&policy_document(&authority(), "acme/strict", 1, &policy())).unwrap();
    broker.ledger.put(ours).await.unwrap();
    assert_eq!(asked().await, "");
}

#[tokio::test]
async fn record_publisher() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let naming = |number, key: &PublicKey| {
        let toml = format!("{}\n[record.publishers]\nrelease = [\"{key}\"]\n", policy());
        house.trust.policy(&policy_document(&authority(), "acme/strict", number, &toml)).unwrap()
    };
    broker.ledger.put(naming(2, key(9).public())).await.unwrap();
    let refused = ask(&broker, &Guest::default()).await;
    assert_eq!(codes(&refused.items[0]), ["record-publisher"], "trusted by the operator, not by the policy");
    let ItemOutcome::Refused { reasons, .. } = &refused.items[0] else { panic!("{refused:?}") };
    assert_eq!(reasons[0].found, publisher().public().to_string());
    broker.ledger.put(naming(3, publisher().public())).await.unwrap();
    assert_eq!(codes(&ask(&broker, &Guest::default()).await.items[0]), [""; 0]);
}

#[tokio::test]
async fn anchor_class() {
    // A vendor record cannot be put into a test installation; should one stand there all the same, test evidence gets nothing.
    let mut house = House::with_llama().await;
    house.trust.anchors = AnchorClass::Vendor;
    let draft = Draft { anchors: AnchorClass::Vendor, ..house.draft("acme/valuable", 1) };
    let vendor = house.trust.record(write_record(draft, SECRET, &[house.sealing_key()], &publisher()).unwrap()).unwrap();
    house.trust.anchors = AnchorClass::Test;
    let broker = house.open().await;
    broker.ledger.put(vendor).await.unwrap();
    let outcome = ask(&broker, &Guest::asking(&["acme/valuable", "acme/llama"])).await;
    assert_eq!(codes(&outcome.items[0]), ["anchor-class"]);
    assert!(matches!(outcome.items[1], ItemOutcome::Granted { .. }));
}

#[tokio::test]
async fn a_policys_own_no_shows_the_guest_what_was_found() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let soft = |shape| Guest { soft: platform().guest(shape), ..Guest::default() };
    let refused = [
        (soft(GuestShape { measurement: Some([9; 48]), ..GuestShape::default() }), vec!["snp-measurement"]),
        (soft(GuestShape { policy: 0x3_0000 | 1 << 19, ..GuestShape::default() }), vec!["snp-debug"]),
        (Guest { configuration: Digest::from([2; 32]), ..Guest::default() }, vec!["configuration"]),
        (Guest { role: Role::Workload(name("chat")), ..Guest::default() }, vec!["role"]),
    ];
    for (guest, expected) in refused {
        let outcome = ask(&broker, &guest).await;
        assert_eq!(codes(&outcome.items[0]), expected);
        let ItemOutcome::Refused { reasons, .. } = &outcome.items[0] else { panic!("{outcome:?}") };
        assert!(!reasons[0].found.is_empty() && !reasons[0].hint.is_empty());
    }
    assert_eq!(codes(&ask(&broker, &soft(GuestShape::default())).await.items[0]), [""; 0]);
}

/// What a genuine guest is told about a record whose envelope is `envelope`, and about `acme/llama` beside it.
async fn with_envelope(house: &House, file: RecordFile) -> Outcome {
    let broker = house.open().await;
    let item = house.trust.record(file).unwrap();
    let protocol_name = item.place().subject.rsplit_once("credential/").unwrap().1.to_owned();
    broker.ledger.put(item).await.unwrap();
    let outcome = ask(&broker, &Guest::asking(&[&protocol_name, "acme/llama"])).await;
    assert!(matches!(outcome.items[1], ItemOutcome::Granted { .. }), "the other item is not hurt");
    outcome
}

#[tokio::test]
async fn envelope_not_for_this_broker() {
    let house = House::with_llama().await;
    let stranger = RecipientSecret::generate().unwrap();
    let file = write_record(house.draft("acme/elsewhere", 1), SECRET, &[stranger.public().clone()], &publisher()).unwrap();
    assert_eq!(codes(&with_envelope(&house, file).await.items[0]), ["envelope-not-for-this-broker"]);
}

#[tokio::test]
async fn envelope_does_not_open() {
    let house = House::with_llama().await;
    let mut file = house.record_file("acme/changed", 1);
    file.envelope.recipients[0].sealed.ciphertext[0] ^= 1;
    assert_eq!(codes(&with_envelope(&house, file).await.items[0]), ["envelope-does-not-open"]);
}

/// A thief of nothing but a publisher's signature re-signs a statement under another name; whoever can seal has no opening.
#[tokio::test]
async fn envelope_commitment() {
    let house = House::with_llama().await;
    let original = house.record_file("acme/first", 1);
    let body = original.statement.authenticate::<StatementBody>(&[*publisher().public()]).unwrap();
    let body = StatementBody { name: name("acme/second"), ..body.body().clone() };
    let statement = SignedDocument::sign(&body, &publisher()).unwrap();
    let digest = statement.digest();
    // The old envelope does not open in the new statement's context.
    let third = SignedDocument::sign(&StatementBody { name: name("acme/third"), ..body }, &publisher()).unwrap();
    let envelope = Envelope { statement: third.digest(), ..original.envelope };
    assert_eq!(codes(&with_envelope(&house, RecordFile { statement: third, envelope }).await.items[0]), ["envelope-does-not-open"]);
    let content = [[7; 32].as_slice(), SECRET].concat();
    let info = Fields::new("portcullis/envelope/v1").field(digest);
    let sealed = hpke::seal(&house.sealing_key(), info.as_bytes(), &[], &content).unwrap();
    let recipients = vec![Wrapped { recipient: house.sealing_key().id(), sealed }];
    let forged = RecordFile { statement, envelope: Envelope { statement: digest, recipients } };
    assert_eq!(codes(&with_envelope(&house, forged).await.items[0]), ["envelope-commitment"]);
}

#[tokio::test]
async fn sixty_four_refusals_fit_into_one_entry_and_name_every_item() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let long = |number: usize| format!("acme/{}{number:02}", "x".repeat(120));
    for number in 0..64 {
        broker.ledger.put(house.record(&long(number), 1)).await.unwrap();
    }
    let strange = GuestShape { measurement: Some([9; 48]), policy: 0x3_0000 | 1 << 19, vmpl: 3, ..GuestShape::default() };
    let names: Vec<_> = (0..64).map(long).collect();
    let mut guest = Guest::asking(&names.iter().map(String::as_str).collect::<Vec<_>>());
    guest.soft = platform().guest(strange);
    (guest.role, guest.configuration) = (Role::Workload(name("chat")), Digest::from([2; 32]));
    let outcome = ask(&broker, &guest).await;
    let receipt = outcome.receipt.verify(&house.identity().origin, &log_key(&house)).unwrap();
    let Event::Decision { items, .. } = Entry::parse(receipt.entry()).unwrap().event else { panic!("a decision") };
    assert_eq!(items.len(), 64);
    assert!(items.iter().all(|item| !item.reasons.is_empty() && item.reasons.len() <= 8));
}

async fn rejected(change: impl FnOnce(&mut ReleaseRequest)) -> Rejection {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let (guest, at) = (Guest::default(), clock::now());
    let genuine = guest.request(&challenge(&broker, at));
    let mut changed = genuine.clone();
    change(&mut changed);
    let entries = broker.ledger.published().edge.size();
    let Err(No::Rejected(rejection)) = exchange(&broker, &guest, &changed, at).await else { panic!("not rejected") };
    assert_eq!(broker.ledger.published().edge.size(), entries, "garbage is never an entry");
    assert!(exchange(&broker, &guest, &genuine, at).await.is_ok(), "the near miss passes, with the same challenge");
    rejection
}

#[tokio::test]
async fn other_installation() {
    let expected = Rejection::Installation { expected: *root().public(), found: *key(9).public() };
    assert_eq!(rejected(|request| request.installation = *key(9).public()).await, expected);
    assert_eq!(expected.code(), "other-installation");
}

#[tokio::test]
async fn challenge_form() {
    let rejection = rejected(|request| request.challenge.push(0)).await;
    assert_eq!((&rejection, rejection.code()), (&Rejection::Challenge(ChallengeError::Form), "challenge-form"));
}

#[tokio::test]
async fn challenge_not_ours() {
    let rejection = rejected(|request| request.challenge[1] ^= 1).await;
    assert_eq!((&rejection, rejection.code()), (&Rejection::Challenge(ChallengeError::NotOurs), "challenge-not-ours"));
    let foreign = rejected(|request| {
        let stranger = protocol::challenge::ChallengeKey::new(zeroize::Zeroizing::new([8; 32]), *root().public());
        request.challenge = stranger.mint(clock::now(), HOUR).unwrap().as_bytes().to_vec();
    });
    assert_eq!(foreign.await.code(), "challenge-not-ours");
}

#[tokio::test]
async fn challenge_expired() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let (guest, at) = (Guest::default(), clock::now());
    let request = guest.request(&challenge(&broker, at));
    let late = at.plus(std::time::Duration::from_secs(121));
    let expected = Rejection::Challenge(ChallengeError::Expired { expires: at.plus(std::time::Duration::from_secs(120)), at: late });
    assert_eq!(expected.code(), "challenge-expired");
    assert_eq!(exchange(&broker, &guest, &request, late).await, Err(No::Rejected(expected)));
    let last = at.plus(std::time::Duration::from_secs(120));
    assert!(exchange(&broker, &guest, &request, last).await.is_ok());
}

#[tokio::test]
async fn platform_mismatch() {
    let expected = Rejection::Platform { expected: Platform::SevSnp, found: Platform::Tdx };
    assert_eq!(rejected(|request| request.platform = Platform::Tdx).await, expected);
    assert_eq!(expected.code(), "platform-mismatch");
}

#[tokio::test]
async fn attest_again() {
    let rejection = rejected(|request| request.evidence = EvidenceMessage::Held {}).await;
    assert_eq!((&rejection, rejection.code()), (&Rejection::AttestAgain, "attest-again"));
}

#[tokio::test]
async fn evidence_of_another_guest_or_session_proves_nothing() {
    let stolen = |request: &mut ReleaseRequest| {
        let victim = Guest::default();
        request.evidence = victim.request(&request.challenge).evidence;
    };
    assert_eq!(rejected(stolen).await.code(), "snp-report-data");
    let flipped = |request: &mut ReleaseRequest| {
        let EvidenceMessage::SevSnp { report, .. } = &mut request.evidence else { panic!("fresh evidence") };
        report[0x90] ^= 1;
    };
    assert_eq!(rejected(flipped).await.code(), "snp-signature");
    assert_eq!(rejected(|request| request.role = Role::Workload(name("chat"))).await.code(), "snp-report-data");
    assert_eq!(rejected(|request| request.configuration = Digest::from([2; 32])).await.code(), "snp-report-data");
}

#[tokio::test]
async fn evidence_under_the_vendors_roots_only_is_not_test_evidence() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let (guest, at) = (Guest::default(), clock::now());
    let request = guest.sign(&guest.request(&challenge(&broker, at)));
    let vendor = decide_under(&broker, &attestation::Anchors::vendor(), &request, at);
    assert_eq!(vendor.map(drop).unwrap_err().code(), "snp-chain-signature");
    assert!(decide(&broker, &request, at).is_ok());
}

/// The order of the group of P-384.
const ORDER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973";

#[tokio::test]
async fn the_second_form_of_a_signature_is_the_same_evidence() {
    let house = House::with_llama().await;
    let broker = house.open().await;
    let (guest, at) = (Guest::default(), clock::now());
    let genuine = guest.request(&challenge(&broker, at));
    let mut other = genuine.clone();
    let EvidenceMessage::SevSnp { report, .. } = &mut other.evidence else { panic!("fresh evidence") };
    // s, little-endian, 72 bytes behind r (AMD 56860, "Format for an ECDSA P-384 signature"); n - s signs as well.
    let mut borrow = 0;
    for (at, byte) in report[0x2A0 + 72..0x2A0 + 72 + 48].iter_mut().enumerate() {
        let order = i32::from(u8::from_str_radix(&ORDER[94 - 2 * at..96 - 2 * at], 16).unwrap());
        let difference = order - i32::from(*byte) - borrow;
        borrow = i32::from(difference < 0);
        *byte = difference.rem_euclid(256).try_into().unwrap();
    }
    assert_ne!(genuine.evidence, other.evidence);
    let digest = |request: &ReleaseRequest| *decide(&broker, &guest.sign(request), at).unwrap().1.evidence_digest();
    assert_eq!(digest(&genuine), digest(&other));
    assert_ne!(digest(&genuine), digest(&guest.request(&challenge(&broker, at))));
}
