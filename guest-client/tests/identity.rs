//! Identities from a broker that keeps the protocol, and from one that breaks it in one place: nothing is believed because it is said.

mod support;

use std::time::Duration;

use connection::{Client, Endpoint};
use guest_client::evidence::Local;
use guest_client::exchange::{Answered, AskFor, Class, ExchangeError, Session, Terms};
use protocol::ids::Digest;
use protocol::messages::{EvidenceMessage, ItemOutcome, Purpose};
use protocol::tokens::EcKey;
use support::{Broker, Forged, Mischief, ROOT, Soft, credential, identity};

const POLICY: &str = "agents/research";
const ID: &str = "spiffe://acme.example/agents/research";

fn broker() -> Broker {
    let broker = Broker::start(&[("openai", "sk-1234")]);
    broker.identify(ID);
    broker
}

fn with_session<T>(broker: &Broker, work: impl FnOnce(&mut Session<'_>) -> T) -> T {
    let client = Client::new(&Endpoint { timeout: Duration::from_secs(20), ..Endpoint::new(&broker.url()) }).unwrap();
    let attester = Local::whole_vm(Soft::new());
    let terms = Terms { root: *ROOT.key().public(), configuration: Digest::from([0xcc; 32]), state: None };
    work(&mut Session::new(&client, &attester, terms))
}

/// A certificate and a token, as most ask.
fn ask(broker: &Broker) -> Result<Answered, ExchangeError> {
    let (key, audiences) = (EcKey::generate().unwrap(), vec!["tools".to_owned()]);
    let ask = AskFor { x509: Some(&key), jwt_audiences: &audiences, result_audience: None };
    with_session(broker, |session| session.identify(&POLICY.parse().unwrap(), &[], &ask))
}

#[test]
fn an_identity_comes_with_what_was_asked_for() {
    let answered = ask(&broker()).unwrap();
    assert!(answered.is_permitted());
    let (identified, bundles) = answered.into_identity().unwrap();
    assert_eq!(identified.spiffe_id.uri(), ID);
    assert!(identified.x509.is_some() && identified.jwt[0].audience == "tools" && identified.result.is_none());
    assert_eq!(bundles.all().count(), 1);
}

#[test]
fn an_identity_and_credentials_come_in_one_answer() {
    let broker = broker();
    let ask = AskFor { result_audience: Some("verifier"), ..AskFor::default() };
    let answered = with_session(&broker, |session| session.identify(&POLICY.parse().unwrap(), &[credential("openai")], &ask)).unwrap();
    assert!(matches!(answered.outcome().items[..], [ItemOutcome::Identified(_), ItemOutcome::Granted { .. }]));
    assert!(answered.into_identity().unwrap().0.result.is_some());
}

#[test]
fn a_check_issues_nothing() {
    let broker = broker();
    let answered = with_session(&broker, |session| session.release(Purpose::Check, &[identity(POLICY)])).unwrap();
    assert!(matches!(answered.outcome().items[..], [ItemOutcome::Permitted { .. }]));
}

#[test]
fn a_refusal_keeps_its_reasons() {
    let broker = broker();
    broker.state().refused_audiences.push("tools".into());
    let reasons = ask(&broker).unwrap().into_identity().unwrap_err();
    assert_eq!((reasons[0].code.as_str(), reasons[0].found.as_str()), ("identity-audience", "tools"));
}

#[test]
fn possession_is_proven_for_this_request_by_the_attested_key() {
    let broker = broker();
    broker.state().holds = true;
    let key = EcKey::generate().unwrap();
    let ask = AskFor { x509: Some(&key), ..AskFor::default() };
    with_session(&broker, |session| {
        for _ in 0..2 {
            session.identify(&POLICY.parse().unwrap(), &[], &ask).unwrap().into_identity().unwrap();
        }
    });
    let state = broker.state();
    let [first, second] = state.requests.as_slice() else { panic!("{} requests", state.requests.len()) };
    assert_eq!(second.evidence, EvidenceMessage::Held {});
    let proof = |request: &protocol::messages::ReleaseRequest| request.identity.clone().unwrap().x509.unwrap();
    let root = ROOT.key();
    assert!(proof(first).check(root.public(), &first.request, &first.signing_key).is_ok());
    assert!(proof(first).check(root.public(), &second.request, &second.signing_key).is_err(), "it is worth nothing in another request");
    assert_ne!(proof(first).proof, proof(second).proof);
}

/// What is refused where the broker does this wrong; without it, all is well.
fn refusal(forged: Forged) -> ExchangeError {
    let broker = broker();
    broker.misbehave(Mischief::Identity(forged));
    let error = ask(&broker).map(|_| ()).expect_err(&format!("{forged:?}"));
    broker.misbehave(Mischief::None);
    assert!(ask(&broker).is_ok(), "the near miss");
    error
}

#[test]
fn whatever_is_issued_wrongly_is_refused_by_name() {
    for (forged, code) in [
        (Forged::NoCertificate, "identity-number"),
        (Forged::OtherKey, "svid-other-key"),
        (Forged::OtherSerial, "svid-other-serial"),
        (Forged::TwoNames, "svid-names"),
        (Forged::OtherName, "svid-other-name"),
        (Forged::Authority, "svid-path"),
        (Forged::Future, "svid-path"),
        (Forged::Shorter, "svid-path"),
        (Forged::OnlyClient, "svid-path"),
        (Forged::OtherAuthority, "svid-path"),
        (Forged::OtherBundle, "svid-path"),
        (Forged::OwnFederated, "identity-bundle-own-federated"),
        (Forged::NoBundle, "identity-bundle"),
        (Forged::NoToken, "identity-number"),
        (Forged::OtherAudience, "identity-other-audience"),
        (Forged::MisnamedAudience, "identity-token"),
        (Forged::OtherSubject, "identity-other-subject"),
        (Forged::OtherSigner, "identity-token"),
        (Forged::LogNothing, "identity-other-issued"),
        (Forged::LogName, "identity-other-issued"),
        (Forged::LogSerial, "identity-other-issued"),
        (Forged::LogKey, "identity-other-issued"),
        (Forged::LogJti, "identity-other-issued"),
        (Forged::LogMore, "identity-other-issued"),
        (Forged::Versioned, "answer-other-item"),
    ] {
        let error = refusal(forged);
        assert_eq!((error.code(), error.class()), (code, Class::Untrusted), "{forged:?}: {error}");
    }
}

#[test]
fn an_attestation_result_that_is_not_this_guests_or_not_in_the_log_is_refused_by_name() {
    let broker = broker();
    let audiences = vec!["tools".to_owned()];
    let ask = AskFor { x509: None, jwt_audiences: &audiences, result_audience: Some("verifier") };
    let ask = || with_session(&broker, |session| session.identify(&POLICY.parse().unwrap(), &[], &ask)).map(drop);
    for (forged, code) in [
        (Forged::ResultSubject, "identity-other-result"),
        (Forged::ResultAudience, "identity-other-result"),
        (Forged::ResultKey, "identity-other-result"),
        (Forged::ResultType, "identity-result"),
        (Forged::LogLacksResult, "identity-other-issued"),
        (Forged::LogMore, "identity-other-issued"),
    ] {
        broker.misbehave(Mischief::Identity(forged));
        let error = ask().expect_err(&format!("{forged:?}"));
        assert_eq!((error.code(), error.class()), (code, Class::Untrusted), "{forged:?}: {error}");
    }
    broker.misbehave(Mischief::None);
    assert!(ask().is_ok(), "the near miss");
}

#[test]
fn what_was_not_asked_for_is_refused() {
    let broker = broker();
    broker.misbehave(Mischief::Identity(Forged::Unasked));
    let policy = POLICY.parse().unwrap();
    let error = with_session(&broker, |session| session.identify(&policy, &[], &AskFor::default())).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "identity-number");
    broker.misbehave(Mischief::None);
    let answered = with_session(&broker, |session| session.identify(&policy, &[], &AskFor::default())).unwrap();
    assert!(answered.into_identity().unwrap().0.x509.is_none(), "bundles alone can be asked for");
}
