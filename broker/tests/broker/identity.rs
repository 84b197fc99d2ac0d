//! Identities: what a permitted guest gets, read by others' code; every no by its code, with a near miss beside it; keys that rotate; foreign
//! trust domains.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::clock;
use broker::config::{Federated, Identity};
use broker::identity::federation::FederationError;
use broker::identity::{Issuer, IssuerError, keys_path};
use broker::server::Broker;
use protocol::admin::{Ending, Explanation};
use protocol::documents::Kind;
use protocol::entries::{Decided, Entry, Event, IssuerUse, KeyAction};
use protocol::ids::{AnchorClass, Role};
use protocol::keyfile::Unlock;
use protocol::messages::{EvidenceMessage, Identified, Item, ItemOutcome, Outcome, Purpose, ReleaseRequest};
use protocol::spiffe::published::PublishedAnswer;
use protocol::spiffe::{Bundle, BundleError, TrustDomain};
use protocol::time::UnixTime;
use protocol::tokens::result::{CPU, Ear, TYPE as RESULT, Tier};
use protocol::tokens::svid::verify_svid;
use protocol::tokens::{EcKey, Expected, Jwk, KeySet, TokenError};
use testbed::snp::{GuestShape, Leaf};

use crate::house::*;
use crate::http::{problem, serve_house};

const TOOLS: &str = "tools.acme.example";
const CLOUD: &str = "sts.amazonaws.com";
const VERIFIER: &str = "verifier.acme.example";
const ISSUER: &str = "https://id.acme.example";
const AGENT: &str = "spiffe://acme.example/agents/research";
const POLICY: &str = "acme/agents";

fn domain(text: &str) -> TrustDomain {
    text.parse().unwrap()
}

fn configured(issuer: Option<&str>) -> Identity {
    Identity {
        trust_domain: domain("acme.example"),
        issuer: issuer.map(str::to_owned),
        key_life: 30 * 24 * HOUR,
        overlap: None,
        federated: Vec::new(),
    }
}

/// The test policy for one workload, with an `[identity]` table of this template.
fn agents(template: &str) -> String {
    with_identity(&policy(), template)
}

fn with_identity(policy: &str, template: &str) -> String {
    format!(
        "{}\n[identity]\nspiffe-id = \"{template}\"\naudiences = [\"{TOOLS}\"]\nfederation-audiences = [\"{CLOUD}\"]\n\
         result-audiences = [\"{VERIFIER}\"]\n",
        policy.replace("role = \"whole-vm\"", "role = \"workload:research\"")
    )
}

const TEMPLATE: &str = "spiffe://acme.example/agents/{workload}";

/// An installation that gives identities below `agents/`.
async fn house() -> House {
    let mut house = House::new().await;
    house.identity = Some(configured(Some(ISSUER)));
    house.trust.authorities[0].identities = vec!["agents/*".to_owned()];
    let broker = house.open().await;
    put_policy(&house, &broker, 1, &agents(TEMPLATE)).await;
    house
}

async fn put_policy(house: &House, broker: &Broker, number: u64, toml: &str) {
    let admitted = house.trust.policy(&policy_document(&authority(), POLICY, number, toml)).unwrap();
    broker.ledger.put(admitted).await.unwrap();
}

fn identity(policy: &str) -> Item {
    Item { kind: Kind::Identity, name: name(policy), version: None }
}

/// An agent that wants everything.
fn agent() -> Guest {
    let forms = Forms {
        key: Some(EcKey::generate().unwrap()),
        audiences: vec![TOOLS.to_owned(), CLOUD.to_owned()],
        result: Some(VERIFIER.to_owned()),
    };
    Guest { role: Role::Workload(name("research")), items: vec![identity(POLICY)], forms: Some(forms), ..Guest::default() }
}

fn asking(forms: Forms) -> Guest {
    Guest { forms: Some(forms), ..agent() }
}

fn audience(audience: &str) -> Guest {
    asking(Forms { audiences: vec![audience.to_owned()], ..Forms::default() })
}

fn key_of(guest: &Guest) -> &EcKey {
    guest.forms.as_ref().unwrap().key.as_ref().unwrap()
}

#[track_caller]
fn identified(outcome: Outcome) -> Box<Identified> {
    match outcome.items.into_iter().next() {
        Some(ItemOutcome::Identified(identified)) => identified,
        other => panic!("{other:?}"),
    }
}

/// What the log says of the first item.
fn decided(outcome: &Outcome) -> Decided {
    let Event::Decision { items, .. } = Entry::parse(&outcome.receipt.entry).unwrap().event else { panic!("a decision") };
    items.into_iter().next().unwrap()
}

async fn refused(broker: &Broker, guest: &Guest) -> String {
    let outcome = ask(broker, guest).await;
    let decided = decided(&outcome);
    let codes = codes(&outcome.items[0]).join(",");
    assert_eq!(decided.issued.is_none(), !codes.is_empty(), "drawn exactly for a permit");
    assert_eq!(decided.reasons.join(","), codes);
    codes
}

/// All events of the log.
async fn events(broker: &Broker) -> Vec<Event> {
    let size = broker.ledger.published().edge.size();
    let entries = broker.store.entries(0..size).await.unwrap();
    entries.iter().map(|bytes| Entry::parse(bytes).unwrap().event).collect()
}

// What an identity is.

#[tokio::test]
async fn a_permitted_guest_is_who_the_policy_says_and_the_log_says_it_first() {
    let house = house().await;
    let broker = house.open().await;
    let guest = agent();
    let outcome = ask(&broker, &guest).await;
    let decided = decided(&outcome);
    let issued = decided.issued.unwrap();
    let given = identified(outcome);
    assert_eq!((given.spiffe_id.to_string().as_str(), &given.item), (AGENT, &identity(POLICY)));
    let x509 = given.x509.as_ref().unwrap();
    assert_eq!(issued.spiffe_id, given.spiffe_id);
    assert_eq!(issued.x509_serial.as_ref(), Some(&x509.serial));
    assert_eq!(issued.x509_key, Some(key_of(&guest).spki().digest()));
    let result = ear(&broker, given.result.as_ref().unwrap(), VERIFIER).unwrap();
    let numbers: Vec<_> = given.jwt.iter().map(|jwt| jwt.jti.clone()).chain(result.number().map(str::to_owned)).collect();
    assert_eq!(issued.jti, numbers);
    assert_eq!(numbers.len(), 3);
    let distinct: std::collections::BTreeSet<_> = numbers.iter().collect();
    assert_eq!(distinct.len(), 3);
    assert!(given.federated.is_empty());
}

#[tokio::test]
async fn a_certificate_verifies_under_the_bundle_and_is_for_the_guests_key() {
    let house = house().await;
    let broker = house.open().await;
    let guest = agent();
    let given = identified(ask(&broker, &guest).await);
    let x509 = given.x509.as_ref().unwrap();
    let bundle = Bundle::parse(given.spiffe_id.trust_domain(), given.bundle.as_bytes()).unwrap();
    let [root] = bundle.x509_authorities() else { panic!("one authority") };
    let root = root.as_slice().into();
    let anchor = webpki::anchor_from_trusted_cert(&root).unwrap();
    let [leaf] = x509.certificates.as_slice() else { panic!("a leaf without the root") };
    let leaf = leaf.as_slice().into();
    let certificate = webpki::EndEntityCert::try_from(&leaf).unwrap();
    let now = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(clock::now().seconds()));
    for usage in [webpki::KeyUsage::client_auth(), webpki::KeyUsage::server_auth()] {
        let algorithms = [webpki::aws_lc_rs::ECDSA_P256_SHA256];
        certificate.verify_for_usage(&algorithms, std::slice::from_ref(&anchor), &[], now, usage, None, None).unwrap();
    }
    let names: Vec<_> = certificate.valid_uri_names().collect();
    assert_eq!(names, [AGENT]);
    assert_eq!(certificate.valid_dns_names().count(), 0);
    assert_eq!(certificate.subject_public_key_info().as_ref(), key_of(&guest).spki().as_der());
    // Under another trust domain's authority it does not.
    let other = self::house().await.open().await.issuer.as_ref().unwrap().published().unwrap();
    let other = Bundle::parse(&domain("acme.example"), other.bundle.as_bytes()).unwrap();
    let root = other.x509_authorities()[0].as_slice().into();
    let anchor = webpki::anchor_from_trusted_cert(&root).unwrap();
    let algorithms = [webpki::aws_lc_rs::ECDSA_P256_SHA256];
    let usage = webpki::KeyUsage::client_auth();
    assert!(certificate.verify_for_usage(&algorithms, &[anchor], &[], now, usage, None, None).is_err());
}

#[tokio::test]
async fn a_certificates_form_is_the_standards() {
    use x509_cert::der::Decode;
    use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};

    let house = house().await;
    let broker = house.open().await;
    let given = identified(ask(&broker, &agent()).await);
    let x509 = given.x509.unwrap();
    let leaf = x509_cert::Certificate::from_der(&x509.certificates[0]).unwrap();
    let body = leaf.tbs_certificate();
    let hex: String = body.serial_number().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((hex.len(), &hex), (40, &x509.serial));
    let (critical, usage) = body.get_extension::<KeyUsage>().unwrap().unwrap();
    assert!(critical && usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign());
    let (_, constraints) = body.get_extension::<BasicConstraints>().unwrap().unwrap();
    assert!(!constraints.ca);
    let (_, extended) = body.get_extension::<ExtendedKeyUsage>().unwrap().unwrap();
    assert_eq!(extended.0.len(), 2);
    assert_eq!(body.validity().not_after.to_unix_duration().as_secs(), x509.not_after.seconds());
    assert!(body.validity().not_before.to_unix_duration().as_secs() < clock::now().seconds());
    let bundle = Bundle::parse(given.spiffe_id.trust_domain(), given.bundle.as_bytes()).unwrap();
    let root = x509_cert::Certificate::from_der(&bundle.x509_authorities()[0]).unwrap();
    let (critical, constraints) = root.tbs_certificate().get_extension::<BasicConstraints>().unwrap().unwrap();
    assert!(critical && constraints.ca && constraints.path_len_constraint == Some(0));
    assert!(root.tbs_certificate().subject().to_string().contains("anchors: test"), "a test installation says so");
}

/// A token as others' code reads it.
fn foreign(token: &str, keys: &[Jwk], algorithm: jsonwebtoken::Algorithm, audience: &str) -> BTreeMap<String, serde_json::Value> {
    let header = jsonwebtoken::decode_header(token).unwrap();
    let key = keys.iter().find(|key| key.kid() == header.kid.as_deref()).expect("published");
    let key: jsonwebtoken::jwk::Jwk = serde_json::from_value(serde_json::to_value(key).unwrap()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(algorithm);
    validation.set_audience(&[audience]);
    jsonwebtoken::decode(token, &jsonwebtoken::DecodingKey::from_jwk(&key).unwrap(), &validation).unwrap().claims
}

#[tokio::test]
async fn a_token_is_for_one_audience_and_signed_by_that_audiences_key() {
    let house = house().await;
    let broker = house.open().await;
    let given = identified(ask(&broker, &agent()).await);
    let bundle = Bundle::parse(given.spiffe_id.trust_domain(), given.bundle.as_bytes()).unwrap();
    let published = broker.issuer.as_ref().unwrap().published().unwrap();
    let clouds = KeySet::parse(published.jwks.unwrap().as_bytes()).unwrap();
    let [tools, cloud] = given.jwt.as_slice() else { panic!("two tokens") };
    for (jwt, audience, other) in [(tools, TOOLS, CLOUD), (cloud, CLOUD, TOOLS)] {
        let token = std::str::from_utf8(jwt.token.expose()).unwrap();
        let at = clock::now();
        assert_eq!(verify_svid(token, &bundle, audience, at).unwrap().id(), &given.spiffe_id);
        assert!(verify_svid(token, &bundle, other, at).is_err(), "for another audience");
        assert!(verify_svid(token, &bundle, audience, at.plus(Duration::from_secs(400))).is_err(), "later");
        assert_eq!(jwt.audience, audience);
    }
    let read = |jwt: &protocol::messages::JwtSvid, keys: &[Jwk], algorithm, audience| {
        foreign(std::str::from_utf8(jwt.token.expose()).unwrap(), keys, algorithm, audience)
    };
    let claims = read(tools, bundle.jwt_authorities(), jsonwebtoken::Algorithm::ES256, TOOLS);
    assert_eq!((claims["sub"].as_str(), claims.get("iss"), claims["aud"][0].as_str()), (Some(AGENT), None, Some(TOOLS)));
    assert_eq!(claims["jti"].as_str(), Some(tools.jti.as_str()));
    let claims = read(cloud, clouds.keys(), jsonwebtoken::Algorithm::RS256, CLOUD);
    assert_eq!((claims["sub"].as_str(), claims["iss"].as_str()), (Some(AGENT), Some(ISSUER)));
    assert_eq!(claims["exp"].as_u64(), Some(cloud.expires.seconds()));
    // The key of one audience is not another's.
    let header = jsonwebtoken::decode_header(tools.token.expose()).unwrap();
    assert!(clouds.keys().iter().all(|key| key.kid() != header.kid.as_deref()));
}

fn ear(broker: &Broker, token: &str, audience: &str) -> Result<Ear, protocol::tokens::result::EarError> {
    let published = broker.issuer.as_ref().unwrap().published().unwrap();
    let keys = KeySet::parse(published.results.as_bytes()).unwrap();
    let expected = Expected { types: &[RESULT], audience, keys: keys.keys(), issuer: Some("spiffe://acme.example"), at: clock::now() };
    Ear::verify(token, &expected)
}

#[tokio::test]
async fn an_attestation_result_has_its_own_key_and_type_and_is_bound_to_the_attested_key() {
    let house = house().await;
    let broker = house.open().await;
    let guest = agent();
    let given = identified(ask(&broker, &guest).await);
    let token = given.result.as_ref().unwrap();
    let read = ear(&broker, token, VERIFIER).unwrap();
    assert_eq!(read.key().and_then(Jwk::as_ed25519), Some(guest.signing.public()));
    assert_eq!((read.subject(), read.anchors()), (Some(AGENT), Some(AnchorClass::Test)));
    assert_eq!(read.worst(&[CPU]), Tier::Warning, "a minimum that a policy names may be years old");
    assert_eq!(read.submods()[CPU].policy(), Some(POLICY));
    assert!(ear(&broker, token, TOOLS).is_err(), "for another audience");
    let bundle = Bundle::parse(given.spiffe_id.trust_domain(), given.bundle.as_bytes()).unwrap();
    assert!(verify_svid(token, &bundle, VERIFIER, clock::now()).is_err(), "it is no SVID");
    let svid = std::str::from_utf8(given.jwt[0].token.expose()).unwrap();
    let refused = ear(&broker, svid, TOOLS).unwrap_err();
    assert!(matches!(refused, protocol::tokens::result::EarError::Token(TokenError::Type { .. })), "{refused:?}");
    let published = broker.issuer.as_ref().unwrap().published().unwrap();
    let results = KeySet::parse(published.results.as_bytes()).unwrap();
    assert!(results.keys().iter().all(|key| bundle.jwt_authorities().iter().all(|other| !other.is_same_key(key))));
}

#[tokio::test]
async fn a_result_is_affirming_where_the_firmware_is_what_the_calendar_wants() {
    let house = house().await;
    let broker = house.open().await;
    let day = Duration::from_secs(24 * 3600);
    let published = UnixTime::from_seconds(clock::now().seconds() - 100 * day.as_secs());
    let calendar = calendar_document(&authority(), "acme/amd", 1, &[(published, 88)]);
    broker.ledger.put(house.trust.calendar(&calendar).unwrap()).await.unwrap();
    put_policy(&house, &broker, 2, &with_identity(&dated_policy(), TEMPLATE)).await;
    let given = identified(ask(&broker, &agent()).await);
    assert_eq!(ear(&broker, given.result.as_ref().unwrap(), VERIFIER).unwrap().worst(&[CPU]), Tier::Affirming);
}

#[tokio::test]
async fn a_weakness_that_the_policy_accepts_is_still_in_the_result() {
    let house = house().await;
    let broker = house.open().await;
    let vlek = "vmpl = [0]\nsigning-keys = [\"vlek\"]\ncsps.allow = [\"CN=cc-test-region.example\"]";
    put_policy(&house, &broker, 2, &agents(TEMPLATE).replace("vmpl = [0]", vlek)).await;
    let of_a_provider = GuestShape { leaf: Leaf::Vlek, ..GuestShape::default() };
    let given = identified(ask(&broker, &Guest { soft: platform().guest(of_a_provider), ..agent() }).await);
    let read = ear(&broker, given.result.as_ref().unwrap(), VERIFIER).unwrap();
    let names: Vec<_> = read.submods()[CPU].vector().claims().map(|(name, _)| name).collect();
    assert_eq!(names, ["configuration", "executables", "hardware", "runtime-opaque"], "which instance it is, nobody says");
}

#[tokio::test]
async fn nothing_outlives_the_permit() {
    let house = house().await;
    let broker = house.open().await;
    let guest = agent();
    let at = clock::now();
    let given = identified(exchange(&broker, &guest, &guest.request(&challenge(&broker, at)), at).await.unwrap());
    assert_eq!((given.expires, given.x509.as_ref().unwrap().not_after), (at.plus(HOUR), at.plus(HOUR)));
    assert!(given.jwt.iter().all(|jwt| jwt.expires == at.plus(Duration::from_secs(300))));
    let late = at.plus(Duration::from_secs(3600 - 120));
    let renewal = guest.request_with(&challenge(&broker, late), EvidenceMessage::Held {});
    let given = identified(exchange(&broker, &guest, &renewal, late).await.unwrap());
    assert_eq!((given.expires, given.x509.as_ref().unwrap().not_after), (at.plus(HOUR), at.plus(HOUR)));
    assert!(given.jwt.iter().all(|jwt| jwt.expires == at.plus(HOUR)), "a renewal makes no attestation younger");
    let over = at.plus(HOUR + Duration::from_secs(1));
    let renewal = guest.request_with(&challenge(&broker, over), EvidenceMessage::Held {});
    let outcome = exchange(&broker, &guest, &renewal, over).await.unwrap();
    assert_eq!(codes(&outcome.items[0]), ["attestation-age"]);
}

#[tokio::test]
async fn nothing_asked_for_is_answered_with_the_bundles_alone() {
    let house = house().await;
    let broker = house.open().await;
    let outcome = ask(&broker, &asking(Forms::default())).await;
    let issued = decided(&outcome).issued.unwrap();
    assert_eq!((issued.x509_serial, issued.x509_key, issued.jti), (None, None, vec![]));
    let given = identified(outcome);
    assert!(given.x509.is_none() && given.jwt.is_empty() && given.result.is_none());
    assert!(Bundle::parse(&domain("acme.example"), given.bundle.as_bytes()).is_ok());
}

#[tokio::test]
async fn a_check_draws_nothing() {
    let house = house().await;
    let broker = house.open().await;
    let outcome = ask(&broker, &Guest { purpose: Purpose::Check, ..agent() }).await;
    assert!(matches!(&outcome.items[0], ItemOutcome::Permitted { item, .. } if *item == identity(POLICY)), "{outcome:?}");
    assert_eq!(decided(&outcome).issued, None);
}

#[tokio::test]
async fn an_identity_and_a_record_are_decided_apart() {
    let house = house().await;
    let broker = house.open().await;
    broker.ledger.put(house.record("acme/llama", 1)).await.unwrap();
    put_strict(&house, &broker).await;
    let guest = Guest { items: vec![identity(POLICY), credential("acme/llama")], ..agent() };
    let outcome = ask(&broker, &guest).await;
    assert!(matches!(outcome.items[0], ItemOutcome::Identified(_)));
    assert_eq!(codes(&outcome.items[1]), ["role"], "the record's policy means the whole VM");
}

async fn put_strict(house: &House, broker: &Broker) {
    let strict = house.trust.policy(&policy_document(&authority(), "acme/strict", 1, &policy())).unwrap();
    broker.ledger.put(strict).await.unwrap();
}

// Every no.

#[tokio::test]
async fn identity_unknown() {
    let house = house().await;
    let broker = house.open().await;
    put_strict(&house, &broker).await;
    let named = |policy| Guest { items: vec![identity(policy)], ..agent() };
    assert_eq!(refused(&broker, &named("acme/nobody")).await, "identity-unknown");
    assert_eq!(refused(&broker, &named("acme/strict")).await, "identity-unknown", "a policy that gives none");
    assert_eq!(refused(&broker, &named(POLICY)).await, "");
}

#[tokio::test]
async fn identity_ambiguous() {
    let mut house = house().await;
    house.trust.authorities[1].names = vec!["*".to_owned()];
    let broker = house.open().await;
    let theirs = |number, toml: &str| house.trust.policy(&policy_document(&other_authority(), POLICY, number, toml)).unwrap();
    broker.ledger.put(theirs(1, &policy())).await.unwrap();
    assert_eq!(refused(&broker, &agent()).await, "", "another authority's policy of the name gives no identity");
    broker.ledger.put(theirs(2, &agents(TEMPLATE))).await.unwrap();
    assert_eq!(refused(&broker, &agent()).await, "identity-ambiguous");
}

#[tokio::test]
async fn identity_revoked() {
    let house = house().await;
    let broker = house.open().await;
    broker.ledger.put(house.revocations(1, &[(POLICY, Some(2)), ("acme", None)])).await.unwrap();
    assert_eq!(refused(&broker, &agent()).await, "", "another version and another name");
    let of_credential = revocation_document_of(Some(Kind::Credential), &authority(), 2, &[(POLICY, Some(1)), (POLICY, None)]);
    broker.ledger.put(house.trust.revocations(&of_credential).unwrap()).await.unwrap();
    assert_eq!(refused(&broker, &agent()).await, "", "a credential of the same name");
    let theirs = house.trust.revocations(&revocation_document(&other_authority(), 1, &[(POLICY, None)])).unwrap();
    broker.ledger.put(theirs).await.unwrap();
    assert_eq!(refused(&broker, &agent()).await, "", "by an authority that does not speak for the name");
    let of_identity = revocation_document_of(Some(Kind::Identity), &authority(), 3, &[(POLICY, Some(1))]);
    broker.ledger.put(house.trust.revocations(&of_identity).unwrap()).await.unwrap();
    assert_eq!(refused(&broker, &agent()).await, "identity-revoked");
    put_policy(&house, &broker, 2, &agents(TEMPLATE)).await;
    assert_eq!(refused(&broker, &agent()).await, "", "a newer version of the policy");
    broker.ledger.put(house.revocations(4, &[(POLICY, None)])).await.unwrap();
    assert_eq!(refused(&broker, &agent()).await, "identity-revoked");
}

#[tokio::test]
async fn the_policys_own_no_is_the_identitys() {
    let house = house().await;
    let broker = house.open().await;
    let soft = |shape| Guest { soft: platform().guest(shape), ..agent() };
    let cases = [
        (soft(GuestShape { measurement: Some([9; 48]), ..GuestShape::default() }), "snp-measurement"),
        (Guest { configuration: protocol::ids::Digest::from([2; 32]), ..agent() }, "configuration"),
        // Another workload of the same VM asks.
        (Guest { role: Role::Workload(name("chat")), ..agent() }, "role"),
    ];
    for (guest, expected) in cases {
        assert_eq!(refused(&broker, &guest).await, expected);
    }
    let whole = Guest { role: Role::WholeVm, ..agent() };
    assert_eq!(refused(&broker, &whole).await, "role,identity-template,identity-path");
    assert_eq!(refused(&broker, &soft(GuestShape::default())).await, "");
}

#[tokio::test]
async fn identity_trust_domain() {
    let mut house = house().await;
    let broker = house.open().await;
    put_policy(&house, &broker, 2, &agents("spiffe://other.example/agents/{workload}")).await;
    assert_eq!(refused(&broker, &agent()).await, "identity-trust-domain");
    put_policy(&house, &broker, 3, &agents("spiffe://ACME.example/agents/{workload}")).await;
    assert_eq!(refused(&broker, &agent()).await, "", "trust domains have no case");
    drop(broker);
    house.identity = None;
    let without = house.open().await;
    assert_eq!(refused(&without, &audience(TOOLS)).await, "identity-trust-domain", "a broker that gives none");
}

#[tokio::test]
async fn identity_template() {
    let house = house().await;
    let broker = house.open().await;
    put_policy(&house, &broker, 2, &agents("spiffe://acme.example/agents/{policy}")).await;
    let outcome = ask(&broker, &agent()).await;
    assert_eq!(codes(&outcome.items[0]), ["identity-template", "identity-path"], "the policy's name has a slash");
    put_policy(&house, &broker, 3, &agents("spiffe://acme.example/agents/{platform}/{anchors}")).await;
    let given = identified(ask(&broker, &agent()).await);
    assert_eq!(given.spiffe_id.path(), "/agents/sev-snp/test");
}

#[tokio::test]
async fn identity_path() {
    for (patterns, expected) in [
        (vec![], "identity-path"),
        (vec!["agents"], "identity-path"),
        (vec!["inference/*", "agents/other"], "identity-path"),
        (vec!["agents/research"], ""),
        (vec!["*"], ""),
    ] {
        let mut house = house().await;
        house.trust.authorities[0].identities = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        let broker = house.open().await;
        assert_eq!(refused(&broker, &agent()).await, expected, "{patterns:?}");
    }
}

fn with_key(request: &ReleaseRequest, change: impl FnOnce(&mut protocol::messages::SvidKey)) -> ReleaseRequest {
    let mut request = request.clone();
    change(request.identity.as_mut().unwrap().x509.as_mut().unwrap());
    request
}

#[tokio::test]
async fn identity_key() {
    let house = house().await;
    let broker = house.open().await;
    let guest = agent();
    let at = clock::now();
    let asked = async |guest: &Guest, request: &ReleaseRequest| {
        let outcome = exchange(&broker, guest, request, at).await.unwrap();
        codes(&outcome.items[0]).join(",")
    };
    let request = || guest.request(&challenge(&broker, at));
    let (mine, earlier) = (request(), request());
    let seen = earlier.identity.clone().unwrap().x509.unwrap();
    assert_eq!(asked(&guest, &with_key(&mine, |key| *key = seen.clone())).await, "identity-key", "a proof from another request");
    let other = EcKey::generate().unwrap();
    let foreign = other.spki().as_der().to_vec();
    assert_eq!(asked(&guest, &with_key(&request(), |key| key.public_key = foreign.clone())).await, "identity-key", "another's key");
    assert_eq!(asked(&guest, &with_key(&request(), |key| key.public_key.truncate(90))).await, "identity-key", "no key at all");
    assert_eq!(asked(&guest, &with_key(&request(), |key| key.proof[8] ^= 1)).await, "identity-key");
    // The whole ask of one guest, replayed by another in a request of the same number.
    let thief = Guest { forms: None, ..agent() };
    let victims = request();
    let replay = ReleaseRequest { request: victims.request, identity: victims.identity.clone(), ..thief.request(&challenge(&broker, at)) };
    assert_eq!(asked(&thief, &replay).await, "identity-key", "for another attested key");
    assert_eq!(asked(&guest, &request()).await, "");
}

#[tokio::test]
async fn identity_audience() {
    let mut house = house().await;
    let broker = house.open().await;
    for (guest, expected) in [
        (audience("elsewhere.example"), "identity-audience"),
        (audience("Tools.acme.example"), "identity-audience"),
        (audience(VERIFIER), "identity-audience"),
        (asking(Forms { result: Some(TOOLS.to_owned()), ..Forms::default() }), "identity-audience"),
        (
            asking(Forms { audiences: vec![TOOLS.into(), "x".into(), "y".into()], ..Forms::default() }),
            "identity-audience,identity-audience",
        ),
        (audience(TOOLS), ""),
        (audience(CLOUD), ""),
        (asking(Forms { result: Some(VERIFIER.to_owned()), ..Forms::default() }), ""),
    ] {
        assert_eq!(refused(&broker, &guest).await, expected);
    }
    drop(broker);
    house.identity = Some(configured(None));
    let without = house.open().await;
    assert_eq!(refused(&without, &audience(CLOUD)).await, "identity-audience", "no issuer to federate with");
    assert_eq!(refused(&without, &audience(TOOLS)).await, "");
}

#[tokio::test]
async fn a_request_cannot_be_replayed_for_another_token() {
    let house = house().await;
    let broker = house.open().await;
    let guest = agent();
    let at = clock::now();
    let request = guest.request(&challenge(&broker, at));
    assert!(exchange(&broker, &guest, &request, at).await.is_ok());
    let again = exchange(&broker, &guest, &request, at).await.unwrap_err();
    assert_eq!(again, No::NotRecorded(broker::ledger::RecordError::Replayed));
}

#[tokio::test]
async fn an_operator_sees_every_check_and_no_token() {
    let house = house().await;
    let broker = house.open().await;
    let outcome = ask(&broker, &agent()).await;
    let details = broker.ledger.decision(outcome.decision).await.unwrap().unwrap();
    let explanation: Explanation = serde_json::from_slice(&details).unwrap();
    let Ending::Decided { items, .. } = explanation.ending else { panic!("decided") };
    let codes: Vec<_> = items[0].checks.iter().map(|check| check.code.as_str()).collect();
    assert_eq!(codes[..3], ["identity-unknown", "identity-ambiguous", "identity-revoked"]);
    let behind = ["identity-trust-domain", "identity-template", "identity-path", "identity-key"];
    assert!(codes.ends_with(&[&behind[..], &["identity-audience"; 3]].concat()), "{codes:?}");
    let template = items[0].checks.iter().find(|check| check.code == "identity-template").unwrap();
    assert_eq!((template.expected.as_str(), template.found.as_str()), (TEMPLATE, AGENT));
    assert_eq!(items[0].policy.as_ref().map(|policy| &policy.name), Some(&name(POLICY)));
    let given = identified(outcome);
    let store = house.store_bytes();
    for secret in given.jwt.iter().map(|jwt| jwt.token.expose()).chain([given.result.as_ref().unwrap().as_bytes()]) {
        let signature = secret.rsplit(|byte| *byte == b'.').next().unwrap();
        assert!(!contains(&store, signature) && !contains(&details, signature));
    }
}

// The issuer's keys.

fn issuer(broker: &Broker) -> &Arc<Issuer> {
    broker.issuer.as_ref().unwrap()
}

fn own_bundle(broker: &Broker) -> Bundle {
    Bundle::parse(&domain("acme.example"), issuer(broker).published().unwrap().bundle.as_bytes()).unwrap()
}

#[tokio::test]
async fn each_key_is_an_entry_of_the_log_and_is_there_again_after_a_restart() {
    let house = house().await;
    let broker = house.open().await;
    let bundle = own_bundle(&broker);
    let made = |events: &[Event]| {
        let uses = events.iter().filter_map(|event| match event {
            Event::IssuerKey { usage, action: KeyAction::Created, .. } => Some(*usage),
            _ => None,
        });
        uses.collect::<Vec<_>>()
    };
    let all = [IssuerUse::X509, IssuerUse::JwtEs256, IssuerUse::JwtRs256, IssuerUse::Result];
    assert_eq!(made(&events(&broker).await), all, "once, at the first start");
    drop(broker);
    assert_eq!(own_bundle(&*house.open().await), bundle);
    let kids: Vec<_> = bundle.jwt_authorities().iter().map(|key| key.kid().unwrap().to_owned()).collect();
    let logged = events(&*house.open().await).await;
    let is_logged = |kid: &String| logged.iter().any(|event| matches!(event, Event::IssuerKey { kid: logged, .. } if logged == kid));
    assert!(kids.iter().all(is_logged));
}

#[tokio::test]
async fn a_successor_is_published_then_signs_and_the_old_key_stays_until_all_it_signed_is_over() {
    let house = house().await;
    let broker = house.open().await;
    let (start, day) = (house.at, 24 * HOUR);
    let at = |days: u32| start.plus(days * day);
    let first = own_bundle(&broker);
    issuer(&broker).rotate(&broker.ledger, at(22)).await.unwrap();
    assert_eq!(own_bundle(&broker), first, "not yet due");
    issuer(&broker).rotate(&broker.ledger, at(23)).await.unwrap();
    let second = own_bundle(&broker);
    assert!(second.follows(&first).is_ok() && second.sequence() > first.sequence());
    assert_eq!((second.x509_authorities().len(), second.jwt_authorities().len()), (2, 4));
    assert!(first.x509_authorities().iter().all(|der| second.x509_authorities().contains(der)));
    // From the thirtieth day on the second signs, and every copy of the bundle that is a week old verifies it.
    issuer(&broker).rotate(&broker.ledger, at(31)).await.unwrap();
    let third = own_bundle(&broker);
    assert_eq!((third.x509_authorities().len(), third.jwt_authorities().len()), (2, 2), "certificates of the first may still live");
    issuer(&broker).rotate(&broker.ledger, at(32)).await.unwrap();
    let fourth = own_bundle(&broker);
    assert_eq!((fourth.x509_authorities().len(), fourth.jwt_authorities().len()), (1, 2));
    assert!(first.x509_authorities().iter().all(|der| !fourth.x509_authorities().contains(der)));
    assert!(third.follows(&second).is_ok() && fourth.follows(&third).is_ok());
    let retired = events(&broker).await.iter().filter(|event| matches!(event, Event::IssuerKey { action: KeyAction::Retired, .. })).count();
    assert_eq!(retired, 4);
    drop(broker);
    assert_eq!(own_bundle(&*house.open().await), fourth);
}

#[tokio::test]
async fn a_key_for_clouds_stays_published_without_an_issuer_until_all_it_signed_is_over() {
    let mut house = house().await;
    let broker = house.open().await;
    let with = own_bundle(&broker);
    let given = identified(ask(&broker, &audience(CLOUD)).await);
    let token = std::str::from_utf8(given.jwt[0].token.expose()).unwrap().to_owned();
    drop(broker);

    house.identity = Some(configured(None));
    let broker = house.open().await;
    let without = own_bundle(&broker);
    assert_eq!(without.jwt_authorities(), with.jwt_authorities());
    assert!(without.follows(&with).is_ok());
    assert_eq!(verify_svid(&token, &without, CLOUD, clock::now()).unwrap().id(), &given.spiffe_id);
    let published = issuer(&broker).published().unwrap();
    let clouds = KeySet::parse(published.jwks.unwrap().as_bytes()).unwrap();
    foreign(&token, clouds.keys(), jsonwebtoken::Algorithm::RS256, CLOUD);
    assert!(published.discovery.is_none(), "nobody is told to come");
    drop(broker);

    // A later start does not put it off.
    let (ended, life_and_margin) = (house.at, Duration::from_secs(300) + HOUR);
    house.at = ended.plus(life_and_margin);
    let broker = house.open().await;
    assert_eq!(own_bundle(&broker).jwt_authorities(), with.jwt_authorities());
    assert!(issuer(&broker).published().unwrap().jwks.is_some());
    issuer(&broker).rotate(&broker.ledger, ended.plus(life_and_margin + Duration::from_secs(1))).await.unwrap();
    let gone = own_bundle(&broker);
    assert_eq!(gone.jwt_authorities().len(), 1);
    assert!(gone.follows(&without).is_ok());
    assert!(issuer(&broker).published().unwrap().jwks.is_none());
    assert!(verify_svid(&token, &gone, CLOUD, clock::now()).is_err());
    let retired = events(&broker).await.into_iter().filter_map(|event| match event {
        Event::IssuerKey { usage, action: KeyAction::Retired, .. } => Some(usage),
        _ => None,
    });
    assert_eq!(retired.collect::<Vec<_>>(), [IssuerUse::JwtRs256]);
}

fn open(house: &House) -> Result<Issuer, IssuerError> {
    Issuer::open(house.identity.as_ref().unwrap(), &house.data(), &house.installation(), &Unlock::Nothing)
}

#[tokio::test]
async fn a_folder_from_before_there_were_identities_gets_its_key_and_a_lost_one_is_never_replaced() {
    let mut house = House::new().await;
    house.identity = Some(configured(None));
    let key = house.data().join("keys/issuer.key");
    std::fs::remove_file(&key).unwrap();
    drop(house.open().await);
    assert!(key.exists() && keys_path(&house.data()).exists());
    std::fs::remove_file(&key).unwrap();
    assert!(matches!(open(&house).err(), Some(IssuerError::Custody(_))));
    assert!(!key.exists(), "a new one could open nothing");
}

#[tokio::test]
async fn keys_never_change_their_trust_domain() {
    let mut house = house().await;
    drop(house.open().await);
    let other = domain("other.example");
    house.identity.as_mut().unwrap().trust_domain = other.clone();
    assert_eq!(open(&house).err(), Some(IssuerError::TrustDomain { expected: other, found: domain("acme.example") }));
}

#[tokio::test]
async fn a_step_that_cannot_be_finished_changes_nothing_and_is_gone_on_with() {
    let house = house().await;
    let broker = house.open().await;
    let before = own_bundle(&broker);
    let due = house.at.plus(23 * 24 * HOUR);
    let keys = house.data().join("keys");
    let beside = keys.join("issuer.json.new");
    // What stands in the way of writing is a folder of that name.
    std::fs::create_dir(&beside).unwrap();
    std::fs::write(beside.join("full"), "").unwrap();
    for _ in 0..3 {
        let failed = issuer(&broker).rotate(&broker.ledger, due).await.unwrap_err();
        assert!(matches!(failed, IssuerError::Write { .. }), "{failed:?}");
        assert_eq!(own_bundle(&broker), before);
    }
    std::fs::remove_dir_all(&beside).unwrap();
    issuer(&broker).rotate(&broker.ledger, due).await.unwrap();
    assert_ne!(own_bundle(&broker), before);
    let made = events(&broker).await.iter().filter(|event| matches!(event, Event::IssuerKey { action: KeyAction::Created, .. })).count();
    assert_eq!(made, 8, "each key once, however often it was tried");
}

#[tokio::test]
async fn a_step_that_took_too_long_is_begun_anew_so_that_its_keys_are_published_for_the_overlap() {
    let house = house().await;
    let broker = house.open().await;
    let due = house.at.plus(23 * 24 * HOUR);
    let beside = house.data().join("keys/issuer.json.new");
    std::fs::create_dir(&beside).unwrap();
    std::fs::write(beside.join("full"), "").unwrap();
    issuer(&broker).rotate(&broker.ledger, due).await.unwrap_err();
    std::fs::remove_dir_all(&beside).unwrap();
    let late = due.plus(6 * 24 * HOUR);
    issuer(&broker).rotate(&broker.ledger, late).await.unwrap();
    let logged = events(&broker).await;
    let signs: Vec<_> = logged
        .iter()
        .filter_map(|event| match event {
            Event::IssuerKey { action: KeyAction::Created, not_before, .. } => Some(*not_before),
            _ => None,
        })
        .collect();
    assert_eq!(signs.len(), 12, "the first four, four that never served, and these");
    assert!(signs[8..].iter().all(|signs| *signs >= late.plus(7 * 24 * HOUR)), "{signs:?}");
}

// What is published.

#[tokio::test]
async fn what_others_need_is_published() {
    let served = serve_house(house().await, None).await;
    let get = async |path| served.call("GET", path, vec![]).await;
    let bundle = get("/identity/bundle").await;
    assert_eq!(bundle.headers()["content-type"], "application/json");
    let bundle = Bundle::parse(&domain("acme.example"), bundle.body()).unwrap();
    assert_eq!(bundle, own_bundle(&served.broker));
    let discovery: serde_json::Value = serde_json::from_slice(get("/.well-known/openid-configuration").await.body()).unwrap();
    assert_eq!(discovery["issuer"], ISSUER);
    assert_eq!(discovery["jwks_uri"], format!("{ISSUER}/identity/jwks"));
    assert_eq!(discovery["id_token_signing_alg_values_supported"], serde_json::json!(["RS256"]));
    let jwks: serde_json::Value = serde_json::from_slice(get("/identity/jwks").await.body()).unwrap();
    let keys = jwks["keys"].as_array().unwrap();
    assert!(keys.iter().all(|key| key["alg"] == "RS256" && key["use"] == "sig" && key["kid"].is_string()), "{jwks}");
    assert_eq!(keys.len(), 1);
    let results = KeySet::parse(get("/identity/results/jwks").await.body()).unwrap();
    assert_eq!(results.keys().len(), 1);
    // All of it at once, signed under the root.
    let answer: PublishedAnswer = serde_json::from_slice(get("/v1/identity").await.body()).unwrap();
    let signed = answer.open(root().public(), clock::now()).unwrap();
    assert_eq!((signed.bundle(), signed.results()), (&bundle, &results));
    let federation = signed.body().federation.as_ref().unwrap();
    assert_eq!((federation.issuer.as_str(), federation.jwks.as_bytes()), (ISSUER, &**get("/identity/jwks").await.body()));
    assert_eq!(federation.discovery.as_bytes(), &**get("/.well-known/openid-configuration").await.body());
}

#[tokio::test]
async fn a_broker_without_identities_or_issuer_says_so() {
    let served = serve_house(House::new().await, None).await;
    for path in ["/v1/identity", "/identity/bundle", "/identity/jwks", "/identity/results/jwks", "/.well-known/openid-configuration"] {
        problem(&served.call("GET", path, vec![]).await, 404, "no-identities");
    }
    let mut house = House::new().await;
    house.identity = Some(configured(None));
    let served = serve_house(house, None).await;
    for path in ["/identity/jwks", "/.well-known/openid-configuration"] {
        problem(&served.call("GET", path, vec![]).await, 404, "no-issuer");
    }
    assert_eq!(served.call("GET", "/identity/bundle", vec![]).await.status(), 200);
}

// Foreign trust domains.

/// The issuer of another installation, whose bundle is carried here.
struct Foreign {
    house: House,
    broker: Arc<Broker>,
}

impl Foreign {
    async fn new() -> Self {
        Self::from(0).await
    }

    /// Begun so many days from now.
    async fn from(days: u32) -> Self {
        let mut house = House::new().await;
        house.at = house.at.plus(days * 24 * HOUR);
        house.identity = Some(Identity { trust_domain: domain("partner.example"), ..configured(None) });
        let broker = house.open().await;
        Self { house, broker }
    }

    fn bundle(&self) -> String {
        issuer(&self.broker).published().unwrap().bundle.to_string()
    }

    async fn rotate(&self, days: u32) {
        issuer(&self.broker).rotate(&self.broker.ledger, self.house.at.plus(days * 24 * HOUR)).await.unwrap();
    }
}

/// A house that is federated with `partner.example` by a file.
async fn federated() -> (House, std::path::PathBuf) {
    let mut house = house().await;
    let file = house.data().join("partner.json");
    let partner = Federated { trust_domain: domain("partner.example"), bundle: file.clone() };
    house.identity.as_mut().unwrap().federated = vec![partner];
    (house, file)
}

async fn looked(broker: &Broker, at: UnixTime) -> Vec<Result<u64, &'static str>> {
    let outcomes = issuer(broker).refresh_federation(&broker.ledger, at).await;
    outcomes.into_iter().map(|(_, outcome)| outcome.map_err(|error| error.code())).collect()
}

#[tokio::test]
async fn a_foreign_bundle_goes_to_guests_and_only_a_newer_one_takes_its_place() {
    let (house, file) = federated().await;
    let foreign = Foreign::new().await;
    let broker = house.open().await;
    let partner = || issuer(&broker).federated(house.at).get(&domain("partner.example")).cloned();
    assert_eq!(looked(&broker, house.at).await, [Err("bundle-unreadable")]);
    assert_eq!(looked(&broker, house.at).await, [], "said once");
    assert_eq!(partner(), None);
    let first = foreign.bundle();
    std::fs::write(&file, &first).unwrap();
    assert_eq!(looked(&broker, house.at).await, [Ok(1)]);
    assert_eq!(looked(&broker, house.at).await, []);
    let given = identified(ask(&broker, &agent()).await);
    assert_eq!(given.federated.get(&domain("partner.example")), Some(&first));
    let taken = events(&broker).await;
    assert!(matches!(taken.iter().filter(|event| matches!(event, Event::IdentityFederated { .. })).count(), 1));
    foreign.rotate(23).await;
    let second = foreign.bundle();
    std::fs::write(&file, &second).unwrap();
    assert_eq!(looked(&broker, house.at).await, [Ok(2)]);
    assert_eq!(partner().as_ref(), Some(&second));
    std::fs::write(&file, &first).unwrap();
    assert_eq!(looked(&broker, house.at).await, [Err("bundle-rolled-back")]);
    assert_eq!(partner().as_ref(), Some(&second), "the last good one stays");
    drop(broker);
    let broker = house.open().await;
    assert_eq!(looked(&broker, house.at).await, [Err("bundle-rolled-back")], "also after a restart");
    assert_eq!(issuer(&broker).federated(house.at).len(), 1);
}

#[tokio::test]
async fn a_foreign_bundle_that_is_refused_changes_nothing() {
    let (house, file) = federated().await;
    let foreign = Foreign::new().await;
    let broker = house.open().await;
    std::fs::write(&file, foreign.bundle()).unwrap();
    assert_eq!(looked(&broker, house.at).await, [Ok(1)]);
    let own = issuer(&broker).published().unwrap().bundle.to_string();
    let cases = [
        (own, "bundle-other-trust-domain"),
        ("{}".to_owned(), "bundle-form"),
        ("x".repeat(70_000), "bundle-too-large"),
        (foreign.bundle().replacen("\"spiffe_sequence\":1", "\"spiffe_sequence\":1,\"spiffe_sequence\":9", 1), "bundle-duplicate-member"),
    ];
    for (text, code) in cases {
        std::fs::write(&file, text).unwrap();
        assert_eq!(looked(&broker, house.at).await, [Err(code)]);
        assert_eq!(issuer(&broker).federated(house.at).len(), 1, "{code}");
    }
}

#[tokio::test]
async fn a_foreign_bundle_that_expires_is_handed_out_no_longer() {
    let (house, file) = federated().await;
    let foreign = Foreign::new().await;
    let broker = house.open().await;
    let years = house.at.plus(400 * 24 * HOUR);
    std::fs::write(&file, foreign.bundle()).unwrap();
    assert_eq!(looked(&broker, years).await, [Err("bundle-expired")], "expired before it was carried here");
    assert_eq!(looked(&broker, house.at).await, [Ok(1)]);
    assert_eq!(issuer(&broker).federated(house.at).len(), 1);
    assert!(issuer(&broker).federated(years).is_empty());
}

#[tokio::test]
async fn a_foreign_bundle_from_the_future_waits_for_its_time() {
    let (house, file) = federated().await;
    let foreign = Foreign::from(2).await;
    let broker = house.open().await;
    std::fs::write(&file, foreign.bundle()).unwrap();
    assert_eq!(looked(&broker, house.at).await, [Err("bundle-not-yet")]);
    assert_eq!(looked(&broker, house.at.plus(HOUR)).await, [], "said once");
    assert!(issuer(&broker).federated(house.at).is_empty());
    assert_eq!(looked(&broker, foreign.house.at).await, [Ok(1)], "the same file, two days later");
}

#[tokio::test]
async fn a_foreign_trust_domain_without_keys_is_revoked() {
    let (house, file) = federated().await;
    let foreign = Foreign::new().await;
    let broker = house.open().await;
    let first = foreign.bundle();
    std::fs::write(&file, &first).unwrap();
    assert_eq!(looked(&broker, house.at).await, [Ok(1)]);
    std::fs::write(&file, "{\"keys\":[],\"spiffe_sequence\":2}").unwrap();
    assert_eq!(looked(&broker, house.at).await, [Err("bundle-empty")]);
    assert!(issuer(&broker).federated(house.at).is_empty());
    std::fs::write(&file, &first).unwrap();
    assert_eq!(looked(&broker, house.at).await, [Err("bundle-rolled-back")], "the old one put back is no news");
    drop(broker);
    let broker = house.open().await;
    assert!(issuer(&broker).federated(house.at).is_empty(), "also after a restart");
    foreign.rotate(23).await;
    std::fs::write(&file, foreign.bundle()).unwrap();
    assert_eq!(looked(&broker, house.at).await, [Ok(2)]);
    assert_eq!(issuer(&broker).federated(house.at).len(), 1);
}

#[tokio::test]
async fn a_trust_domain_that_does_not_number_its_bundles_comes_back_from_a_revocation_by_another_one() {
    let (house, file) = federated().await;
    let foreign = Foreign::new().await;
    let broker = house.open().await;
    let unnumbered = |bundle: String| {
        let mut json: serde_json::Value = serde_json::from_str(&bundle).unwrap();
        assert!(json.as_object_mut().unwrap().remove("spiffe_sequence").is_some());
        json.to_string()
    };
    let first = unnumbered(foreign.bundle());
    for (content, outcome) in [(first.as_str(), Ok(0)), ("{\"keys\":[{\"kty\":\"EC\",\"use\":\"wit-svid\"}]}", Err("bundle-none-usable"))] {
        std::fs::write(&file, content).unwrap();
        assert_eq!(looked(&broker, house.at).await, [outcome]);
        assert_eq!(issuer(&broker).federated(house.at).len(), 1, "keys of kinds that nobody knows revoke nothing");
    }
    foreign.rotate(23).await;
    let second = unnumbered(foreign.bundle());
    for (content, outcome) in [("{\"keys\":[]}", Err("bundle-empty")), (&first, Err("bundle-rolled-back")), (&second, Ok(0))] {
        std::fs::write(&file, content).unwrap();
        assert_eq!(looked(&broker, house.at).await, [outcome]);
    }
    assert_eq!(issuer(&broker).federated(house.at).len(), 1);
}

#[test]
fn refusals_of_foreign_bundles_have_codes() {
    let empty = FederationError::Bundle(BundleError::Empty { trust_domain: domain("a") });
    assert_eq!(empty.code(), "bundle-empty");
    let read = FederationError::Read { path: "a".into(), error: String::new() };
    assert_eq!(read.code(), "bundle-unreadable");
}
