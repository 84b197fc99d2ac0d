//! What may join the documents in force: a refusal for every check, and a near miss.

use broker::documents::{Admitted, PutError};
use broker::ledger::PutFailed;
use protocol::documents::{Kind, PolicyBody};
use protocol::dsse::{DocumentError, SignedDocument};
use protocol::envelope::{Draft, RecordFile, write_record};
use protocol::ids::AnchorClass;
use protocol::keys::SigningKey;
use protocol::time::UnixTime;

use crate::house::*;

fn sealed(house: &House, draft: Draft, by: &SigningKey) -> RecordFile {
    write_record(draft, SECRET, &[house.sealing_key()], by).unwrap()
}

#[tokio::test]
async fn a_record_by_a_publisher_for_this_installation_joins() {
    let house = House::new().await;
    assert!(house.trust.record(house.record_file("acme/llama", 1)).is_ok());
}

#[tokio::test]
async fn a_record_by_a_stranger_does_not_join() {
    let house = House::new().await;
    let stranger = house.trust.record(sealed(&house, house.draft("acme/llama", 1), &key(9))).unwrap_err();
    assert_eq!(stranger, PutError::Document(DocumentError::UnknownSigner { found: key(9).public().id() }));
    let authority_s = house.trust.record(sealed(&house, house.draft("acme/llama", 1), &authority())).unwrap_err();
    assert!(matches!(authority_s, PutError::Document(DocumentError::UnknownSigner { .. })), "an authority is no publisher");
}

#[tokio::test]
async fn a_record_whose_statement_was_changed_does_not_join() {
    let house = House::new().await;
    let mut file = house.record_file("acme/llama", 1);
    let at = file.statement.payload.len() / 2;
    file.statement.payload[at] ^= 1;
    let expected = PutError::Document(DocumentError::BadSignature { signer: *publisher().public() });
    assert_eq!(house.trust.record(file).unwrap_err(), expected);
}

#[tokio::test]
async fn a_record_for_another_installation_does_not_join() {
    let house = House::new().await;
    let draft = Draft { installation: *key(9).public(), ..house.draft("acme/llama", 1) };
    let expected = PutError::Installation { expected: *root().public(), found: *key(9).public() };
    assert_eq!(house.trust.record(sealed(&house, draft, &publisher())).unwrap_err(), expected);
}

#[tokio::test]
async fn a_publisher_speaks_for_its_own_names_only() {
    let house = House::new().await;
    for (record, covered) in [("acme/llama", true), ("acme/a/b", true), ("acme", false), ("acmee/llama", false), ("evil/llama", false)] {
        let result = house.trust.record(house.record_file(record, 1)).map(drop);
        let expected = PutError::Name { signer: *publisher().public(), found: name(record) };
        assert_eq!(result, if covered { Ok(()) } else { Err(expected) }, "{record}");
    }
}

#[tokio::test]
async fn a_record_of_the_other_anchor_class_does_not_join() {
    let house = House::new().await;
    let draft = Draft { anchors: AnchorClass::Vendor, ..house.draft("acme/llama", 1) };
    let expected = PutError::AnchorClass { expected: AnchorClass::Test, found: AnchorClass::Vendor };
    assert_eq!(house.trust.record(sealed(&house, draft, &publisher())).unwrap_err(), expected);
}

#[tokio::test]
async fn an_envelope_of_another_statement_does_not_join() {
    let house = House::new().await;
    let (one, two) = (house.record_file("acme/one", 1), house.record_file("acme/two", 1));
    let expected = PutError::Envelope { expected: one.statement.digest(), found: two.statement.digest() };
    assert_eq!(house.trust.record(RecordFile { statement: one.statement, envelope: two.envelope }).unwrap_err(), expected);
}

#[tokio::test]
async fn a_policy_joins_by_an_authority_for_its_own_names_and_only_as_a_policy() {
    let house = House::new().await;
    let put = |document: &SignedDocument| house.trust.policy(document).map(drop);
    assert_eq!(put(&policy_document(&authority(), "acme/strict", 1, &policy())), Ok(()));
    assert_eq!(put(&policy_document(&other_authority(), "other/strict", 1, &policy())), Ok(()));
    let not_covered = PutError::Name { signer: *other_authority().public(), found: name("acme/strict") };
    assert_eq!(put(&policy_document(&other_authority(), "acme/strict", 1, &policy())), Err(not_covered));
    let publisher_s = put(&policy_document(&publisher(), "acme/strict", 1, &policy()));
    assert!(matches!(publisher_s, Err(PutError::Document(DocumentError::UnknownSigner { .. }))));
    let unknown_key = format!("{}\n[insecure]\n", policy());
    assert!(matches!(put(&policy_document(&authority(), "acme/strict", 1, &unknown_key)), Err(PutError::Policy(_))));
    let body = PolicyBody { installation: *key(9).public(), name: name("acme/strict"), version: version(1), toml: policy() };
    let elsewhere = SignedDocument::sign(&body, &authority()).unwrap();
    assert!(matches!(put(&elsewhere), Err(PutError::Installation { .. })));
    let list = revocation_document(&authority(), 1, &[]);
    assert!(matches!(put(&list), Err(PutError::Document(DocumentError::WrongType { .. }))));
}

#[tokio::test]
async fn revocations_join_by_an_authority_of_this_installation() {
    let house = House::new().await;
    assert!(house.trust.revocations(&revocation_document(&authority(), 1, &[("acme/llama", None)])).is_ok());
    let stranger = house.trust.revocations(&revocation_document(&publisher(), 1, &[])).map(drop);
    assert!(matches!(stranger, Err(PutError::Document(DocumentError::UnknownSigner { .. }))));
}

#[tokio::test]
async fn a_tcb_calendar_joins_by_an_authority_for_its_own_names_and_only_as_a_calendar() {
    let house = House::new().await;
    let at = UnixTime::from_seconds(0);
    let put = |document: &SignedDocument| house.trust.calendar(document).map(drop);
    assert_eq!(put(&calendar_document(&authority(), "acme/amd", 1, &[(at, 88)])), Ok(()));
    let not_covered = PutError::Name { signer: *other_authority().public(), found: name("acme/amd") };
    assert_eq!(put(&calendar_document(&other_authority(), "acme/amd", 1, &[(at, 88)])), Err(not_covered));
    let publisher_s = put(&calendar_document(&publisher(), "acme/amd", 1, &[(at, 88)]));
    assert!(matches!(publisher_s, Err(PutError::Document(DocumentError::UnknownSigner { .. }))));
    let policy_s = put(&policy_document(&authority(), "acme/amd", 1, &policy()));
    assert!(matches!(policy_s, Err(PutError::Document(DocumentError::WrongType { .. }))));
}

async fn put(broker: &broker::server::Broker, admitted: Admitted) -> Result<(), PutError> {
    match broker.ledger.put(admitted).await {
        Ok(_) => Ok(()),
        Err(PutFailed::Refused(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn versions_only_grow() {
    let house = House::new().await;
    let broker = house.open().await;
    let old = |newest, found| Err(PutError::Version { newest: version(newest), found: version(found) });
    assert_eq!(put(&broker, house.record("acme/llama", 2)).await, Ok(()));
    assert_eq!(put(&broker, house.record("acme/llama", 1)).await, old(2, 1));
    assert_eq!(put(&broker, house.record("acme/llama", 2)).await, old(2, 2), "another secret under the same version");
    assert_eq!(put(&broker, house.record("acme/llama", 3)).await, Ok(()));
    assert_eq!(put(&broker, house.record("acme/other", 1)).await, Ok(()), "another name");
    let model = Draft { kind: Kind::Model, manifest: Some([1; 32].into()), ..house.draft("acme/llama", 1) };
    assert_eq!(put(&broker, house.trust.record(sealed(&house, model, &publisher())).unwrap()).await, Ok(()), "another kind");

    let policy = |number| house.trust.policy(&policy_document(&authority(), "other/strict", number, &policy())).unwrap();
    assert_eq!(put(&broker, policy(5)).await, Ok(()));
    assert_eq!(put(&broker, policy(5)).await, Err(PutError::Unchanged));
    assert_eq!(put(&broker, policy(4)).await, old(5, 4));
    let theirs = policy_document(&other_authority(), "other/strict", 1, &crate::house::policy());
    assert_eq!(put(&broker, house.trust.policy(&theirs).unwrap()).await, Ok(()), "another authority");

    let calendar = |number| {
        let baselines = [(UnixTime::from_seconds(0), 88)];
        house.trust.calendar(&calendar_document(&authority(), "acme/amd", number, &baselines)).unwrap()
    };
    assert_eq!(put(&broker, calendar(2)).await, Ok(()));
    assert_eq!(put(&broker, calendar(2)).await, Err(PutError::Unchanged));
    assert_eq!(put(&broker, calendar(1)).await, old(2, 1), "a baseline is not undone by an older calendar");

    assert_eq!(put(&broker, house.revocations(2, &[("acme/llama", None)])).await, Ok(()));
    assert_eq!(put(&broker, house.revocations(1, &[])).await, old(2, 1), "a revocation is not undone by an older list");
}

#[tokio::test]
async fn documents_of_a_signer_that_was_taken_out_decide_nothing_and_give_their_versions_to_nobody() {
    let mut house = House::with_llama().await;
    let broker = house.open().await;
    put(&broker, house.record("acme/llama", 2)).await.unwrap();
    drop(broker);
    let signers = house.trust.publishers.clone();
    house.trust.publishers[0].key = *key(8).public();
    let broker = house.open().await;
    assert_eq!(codes(&ask(&broker, &Guest::default()).await.items[0]), ["record-known"]);
    let by_another = |number| house.trust.record(sealed(&house, house.draft("acme/llama", number), &key(8))).unwrap();
    let expected = PutError::Version { newest: version(2), found: version(1) };
    assert_eq!(put(&broker, by_another(1)).await, Err(expected));
    assert_eq!(put(&broker, by_another(3)).await, Ok(()));
    assert_eq!(codes(&ask(&broker, &Guest::default()).await.items[0]), [""; 0]);
    drop(broker);
    house.trust.publishers = signers;
    let broker = house.open().await;
    let mut guest = Guest::default();
    guest.items[0].version = Some(version(2));
    assert_eq!(codes(&ask(&broker, &guest).await.items[0]), [""; 0], "they count again once the signer does");
}
