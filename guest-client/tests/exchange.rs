//! The exchange against a broker that keeps the protocol, and against one that breaks it in one place.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use connection::{Client, Endpoint, HttpError};
use guest_client::evidence::Local;
use guest_client::exchange::{Answered, Class, ExchangeError, Session, Terms};
use protocol::documents::Kind;
use protocol::ids::{Digest, Version};
use protocol::messages::{EvidenceMessage, Item, ItemOutcome, Purpose};
use protocol::transcript::Transcript;
use support::{Broker, Field, Mischief, PUBLISHER, ROOT, Record, Soft, credential};

const CONFIGURATION: [u8; 32] = [0xcc; 32];

fn terms(state: Option<&Path>) -> Terms {
    Terms { root: *ROOT.key().public(), configuration: Digest::from(CONFIGURATION), state: state.map(Path::to_owned) }
}

fn client(broker: &Broker) -> Client {
    Client::new(&Endpoint { timeout: Duration::from_secs(5), ..Endpoint::new(&broker.url()) }).unwrap()
}

fn ask(broker: &Broker, purpose: Purpose, items: &[Item], state: Option<&Path>) -> Result<Answered, ExchangeError> {
    let (client, attester) = (client(broker), Local::whole_vm(Soft::new()));
    Session::new(&client, &attester, terms(state)).release(purpose, items)
}

fn broker() -> Broker {
    Broker::start(&[("openai", "sk-1234"), ("github", "ghp-5678")])
}

fn secret(outcome: &ItemOutcome) -> &[u8] {
    match outcome {
        ItemOutcome::Granted { secret, .. } => secret.expose(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_permitted_is_released_and_recorded() {
    let broker = broker();
    let answered = ask(&broker, Purpose::Release, &[credential("github"), credential("openai")], None).unwrap();
    assert!(answered.is_permitted());
    assert_eq!((answered.entry(), answered.log_size()), (5, 6));
    let items = &answered.outcome().items;
    assert_eq!((secret(&items[0]), secret(&items[1])), (b"ghp-5678".as_slice(), b"sk-1234".as_slice()));
}

#[test]
fn the_report_binds_the_requests_own_fields() {
    let broker = broker();
    ask(&broker, Purpose::Release, &[credential("openai")], None).unwrap();
    let state = broker.state();
    let request = &state.requests[0];
    let transcript = Transcript {
        platform: request.platform,
        installation: *ROOT.key().public(),
        nonce: *protocol::challenge::Challenge::parse(&request.challenge).unwrap().nonce(),
        hpke_key: request.hpke_key.clone(),
        signing_key: request.signing_key,
        role: request.role.clone(),
        configuration: Digest::from(CONFIGURATION),
        gpu_evidence: None,
        event_log: None,
    };
    let EvidenceMessage::SevSnp { report, certificate_table } = &request.evidence else { panic!("{request:?}") };
    assert_eq!(report[0x50..0x90], transcript.report_data());
    assert!(!certificate_table.is_empty());
}

#[test]
fn a_check_releases_nothing() {
    let broker = broker();
    let answered = ask(&broker, Purpose::Check, &[credential("openai")], None).unwrap();
    assert!(matches!(answered.outcome().items[..], [ItemOutcome::Permitted { .. }]));
    assert!(answered.is_permitted());
}

#[test]
fn a_denial_is_an_answer_with_the_guests_own_found_values() {
    let broker = broker();
    broker.state().refused.insert("openai".into(), "abcd".into());
    let answered = ask(&broker, Purpose::Release, &[credential("openai"), credential("github")], None).unwrap();
    assert!(!answered.is_permitted());
    let ItemOutcome::Refused { reasons, .. } = &answered.outcome().items[0] else { panic!("{answered:?}") };
    assert_eq!((reasons[0].code.as_str(), reasons[0].found.as_str()), ("snp-measurement", "abcd"));
}

/// Runs an exchange with a broker that does this wrong.
fn refusal(mischief: Mischief) -> ExchangeError {
    let broker = broker();
    broker.misbehave(mischief);
    let error = ask(&broker, Purpose::Release, &[credential("openai")], None).unwrap_err();
    broker.misbehave(Mischief::None);
    assert!(ask(&broker, Purpose::Release, &[credential("openai")], None).is_ok(), "the near miss");
    error
}

#[test]
fn an_answer_that_does_not_hold_together_is_refused_by_name() {
    for (mischief, code) in [
        (Mischief::OtherRoot, "answer-identity"),
        (Mischief::ExpiredIdentity, "answer-identity"),
        (Mischief::LogKeySigns, "answer-identity"),
        (Mischief::UncertifiedSigner, "answer-signature"),
        (Mischief::OtherRequest, "answer-other-request"),
        (Mischief::OtherGuest, "answer-not-sealed-to-us"),
        (Mischief::ExtraItem, "answer-item-count"),
        (Mischief::OtherItem, "answer-other-item"),
        (Mischief::OtherKind, "answer-other-kind"),
        (Mischief::NoReceipt, "receipt"),
        (Mischief::OtherProof, "receipt"),
        (Mischief::OtherLogKey, "receipt"),
        (Mischief::NoLogCertificate, "log-no-certificate"),
        (Mischief::Oversized, "reply-too-large"),
        (Mischief::Garbage, "reply-form"),
    ] {
        let error = refusal(mischief);
        assert_eq!((error.code(), error.class()), (code, Class::Untrusted), "{mischief:?}: {error}");
    }
}

#[test]
fn a_receipt_for_anything_else_is_refused_by_what_differs() {
    for (field, expected) in [
        (Field::Decision, "decision"),
        (Field::Request, "request"),
        (Field::Nonce, "nonce"),
        (Field::Guest, "guest key"),
        (Field::Purpose, "purpose"),
        (Field::Installation, "log, installation or anchor class"),
        (Field::Verdict, "verdict on an item"),
        (Field::Statement, "verdict on an item"),
        (Field::Kind, "kind: it is no decision"),
    ] {
        match refusal(Mischief::OtherEntry(field)) {
            ExchangeError::OtherEntry { what } => assert_eq!(what, expected, "{field:?}"),
            other => panic!("{field:?}: {other}"),
        }
    }
}

#[test]
fn a_refusal_behind_a_recorded_permit_keeps_its_reason() {
    let broker = broker();
    broker.state().refused.insert("openai".into(), "permit expired".into());
    broker.misbehave(Mischief::OtherEntry(Field::Verdict));
    let answered = ask(&broker, Purpose::Release, &[credential("openai")], None).unwrap();
    assert!(matches!(answered.outcome().items[..], [ItemOutcome::Refused { .. }]));
}

#[test]
fn yesterdays_answer_is_no_answer() {
    let broker = broker();
    assert!(ask(&broker, Purpose::Release, &[credential("openai")], None).is_ok());
    broker.misbehave(Mischief::Replay);
    assert_eq!(ask(&broker, Purpose::Release, &[credential("openai")], None).unwrap_err().code(), "answer-other-request");
}

#[test]
fn the_version_that_was_asked_for_is_the_one_that_comes() {
    let broker = broker();
    broker.misbehave(Mischief::OtherVersion);
    let asked = Item { version: Some(Version::FIRST), ..credential("openai") };
    let error = ask(&broker, Purpose::Release, std::slice::from_ref(&asked), None).unwrap_err();
    assert!(matches!(error, ExchangeError::OtherItem { .. }), "{error}");
    assert!(ask(&broker, Purpose::Release, &[credential("openai")], None).is_ok(), "any version will do where none was asked for");
    broker.misbehave(Mischief::None);
    assert!(ask(&broker, Purpose::Release, &[asked], None).is_ok());
}

#[test]
fn a_model_comes_with_its_manifests_digest() {
    let broker = broker();
    let record = Record { secret: vec![7; 32], publisher: PUBLISHER, manifest: Some(Digest::from([4; 32])) };
    broker.state().records.insert("llama".into(), record);
    let model = Item { kind: Kind::Model, ..credential("llama") };
    assert!(ask(&broker, Purpose::Release, std::slice::from_ref(&model), None).is_ok());
    broker.misbehave(Mischief::NoManifest);
    let error = ask(&broker, Purpose::Release, &[model], None).unwrap_err();
    assert!(matches!(error, ExchangeError::OtherKindOfAnswer { .. }), "{error}");
}

#[test]
fn a_rejection_keeps_its_code_and_its_number() {
    let error = refusal(Mischief::Reject);
    assert_eq!((error.code(), error.class()), ("snp-signature", Class::Denied));
    assert_eq!(error.decision().unwrap().to_string(), "dd".repeat(16));
}

#[test]
fn an_outage_says_when_to_come_back() {
    let error = refusal(Mischief::Unavailable { times: 1, after: 7 });
    assert_eq!((error.code(), error.class()), ("broker-unavailable", Class::Outage(Some(Duration::from_secs(7)))));
    assert_eq!(refusal(Mischief::HangUp).class(), Class::Outage(None));
    let nobody = Client::new(&Endpoint::new("http://127.0.0.1:1")).unwrap();
    let error = Session::new(&nobody, &Local::whole_vm(Soft::new()), terms(None)).release(Purpose::Check, &[credential("a")]).unwrap_err();
    assert_eq!((error.code(), error.class()), ("broker-unreachable", Class::Outage(None)));
}

#[test]
fn a_slow_broker_is_waited_for_no_longer_than_the_limit() {
    let broker = broker();
    broker.misbehave(Mischief::Slow);
    let client = Client::new(&Endpoint { timeout: Duration::from_millis(300), ..Endpoint::new(&broker.url()) }).unwrap();
    let began = Instant::now();
    let error = Session::new(&client, &Local::whole_vm(Soft::new()), terms(None)).release(Purpose::Check, &[credential("a")]).unwrap_err();
    assert!(matches!(error, ExchangeError::Http(HttpError::TimedOut { .. })), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_broker_that_holds_the_evidence_is_not_sent_it_again() {
    let broker = broker();
    broker.state().holds = true;
    let (client, attester) = (client(&broker), Local::whole_vm(Soft::new()));
    let mut session = Session::new(&client, &attester, terms(None));
    session.release(Purpose::Release, &[credential("openai")]).unwrap();
    session.release(Purpose::Release, &[credential("github")]).unwrap();
    let held =
        |broker: &Broker| broker.state().requests.iter().map(|request| request.evidence == EvidenceMessage::Held {}).collect::<Vec<_>>();
    assert_eq!(held(&broker), [false, true]);
    // Another replica does not hold it: the guest attests again by itself, under fresh keys.
    broker.state().holds = false;
    session.release(Purpose::Release, &[credential("github")]).unwrap();
    assert_eq!(held(&broker), [false, true, true, false]);
    let state = broker.state();
    assert_eq!(state.requests[1].signing_key, state.requests[0].signing_key);
    assert_ne!(state.requests[3].signing_key, state.requests[0].signing_key);
    assert_ne!(state.requests[3].hpke_key, state.requests[0].hpke_key);
}

#[test]
fn an_outage_or_an_answer_that_is_not_believed_is_no_reason_to_attest_again() {
    let broker = broker();
    broker.state().holds = true;
    let (client, attester) = (client(&broker), Local::whole_vm(Soft::new()));
    let mut session = Session::new(&client, &attester, terms(None));
    let last_is_held = |broker: &Broker| broker.state().requests.last().unwrap().evidence == EvidenceMessage::Held {};
    session.release(Purpose::Release, &[credential("openai")]).unwrap();
    assert!(!last_is_held(&broker));
    for (mischief, class) in [(Mischief::HangUp, Class::Outage(None)), (Mischief::OtherRequest, Class::Untrusted)] {
        broker.misbehave(mischief);
        assert_eq!(session.release(Purpose::Release, &[credential("openai")]).unwrap_err().class(), class, "{mischief:?}");
        broker.misbehave(Mischief::None);
        session.release(Purpose::Release, &[credential("openai")]).unwrap();
        assert!(last_is_held(&broker), "{mischief:?}");
    }
    // A rejection may be about what is held: fresh evidence is another matter.
    broker.misbehave(Mischief::Reject);
    assert_eq!(session.release(Purpose::Release, &[credential("openai")]).unwrap_err().class(), Class::Denied);
    broker.misbehave(Mischief::None);
    session.release(Purpose::Release, &[credential("openai")]).unwrap();
    assert!(!last_is_held(&broker));
}

#[test]
fn a_log_that_was_rolled_back_or_rewritten_is_noticed_by_a_guest_that_remembers() {
    for (mischief, code) in [(Mischief::RollBack, "log-rolled-back"), (Mischief::Rewrite, "log-rewritten")] {
        let folder = tempfile::tempdir().unwrap();
        let broker = broker();
        let release = |state| ask(&broker, Purpose::Release, &[credential("openai")], state);
        for _ in 0..3 {
            release(Some(folder.path())).unwrap();
        }
        broker.misbehave(mischief);
        let error = release(Some(folder.path())).unwrap_err();
        assert_eq!((error.code(), error.class()), (code, Class::Untrusted), "{error}");
        assert!(release(None).is_ok(), "a guest that does not remember does not notice");
    }
}

#[test]
fn a_bearer_token_is_sent_to_the_endpoint_and_a_redirect_is_not_followed() {
    let broker = broker();
    let reply = client(&broker).put("/v1/records", b"{}".to_vec(), Some("token")).unwrap();
    assert_eq!((reply.status, reply.content_type.as_deref()), (404, Some("application/problem+json")));
    assert_eq!(broker.state().authorization.as_deref(), Some("Bearer token"));
    assert_eq!(client(&broker).get("/elsewhere", Some("token")).unwrap().status, 307);
    assert_eq!(broker.state().calls, 2);
    assert_eq!(client(&broker).put("/v1/records", b"{}".to_vec(), Some("to\nken")), Err(HttpError::Token));
}
