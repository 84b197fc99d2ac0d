//! The byte-exact vectors of SPEC.md: what a second implementation must reproduce or open.
//!
//! `PORTCULLIS_WRITE_VECTORS=1 cargo test -p portcullis-protocol --test vectors` writes them anew. Sealed messages are random, so
//! theirs are kept and opened; everything else is computed again and compared.
#![allow(missing_docs)]

use std::path::PathBuf;

use protocol::challenge::ChallengeKey;
use protocol::documents::{CertificateBody, CertifiedKey, Kind, StatementBody};
use protocol::dsse::{SignedDocument, pae};
use protocol::encoding::{sha256, to_base64};
use protocol::envelope::{self, Draft, RecordFile};
use protocol::hpke::{self, RecipientSecret, Sealed};
use protocol::ids::{AnchorClass, DecisionId, Digest, Nonce, Platform, RequestId, Role, Version};
use protocol::keys::SigningKey;
use protocol::log::Receipt;
use protocol::messages::{EvidenceMessage, Item, ItemOutcome, Outcome, Purpose, ReceivedRequest, ReleaseAnswer, ReleaseRequest, Secret};
use protocol::time::UnixTime;
use protocol::transcript::Transcript;
use serde_json::{Value, json};
use zeroize::Zeroizing;

fn signer(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

fn recipient(seed: u8) -> RecipientSecret {
    RecipientSecret::from_seed(&[seed; 32]).unwrap()
}

const ROOT: u8 = 1;
const PUBLISHER: u8 = 2;
const AUTHORITY: u8 = 3;
const IDENTITY: u8 = 4;
const GUEST_SIGNING: u8 = 5;
const BROKER_SEALING: u8 = 6;
const GUEST_HPKE: u8 = 7;
const AT: UnixTime = UnixTime::from_seconds(1_800_000_000);

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(format!("{name}.json"))
}

fn read(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(path(name)).unwrap()).unwrap()
}

/// Writes a vector anew where that was asked for.
fn written(name: &str, vector: impl FnOnce() -> Value) -> Value {
    if std::env::var_os("PORTCULLIS_WRITE_VECTORS").is_some() {
        std::fs::write(path(name), serde_json::to_string_pretty(&vector()).unwrap() + "\n").unwrap();
    }
    read(name)
}

/// A vector that is computed again and compared.
fn same(name: &str, computed: &Value) {
    assert_eq!(written(name, || computed.clone()), *computed, "{name}");
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(bytes)
}

fn transcript() -> Transcript {
    Transcript {
        platform: Platform::SevSnp,
        installation: *signer(ROOT).public(),
        nonce: Nonce::from([0x11; 32]),
        hpke_key: recipient(GUEST_HPKE).public().clone(),
        signing_key: *signer(GUEST_SIGNING).public(),
        role: Role::Workload("vllm".parse().unwrap()),
        configuration: Digest::from([0x22; 32]),
        gpu_evidence: None,
        event_log: None,
    }
}

#[test]
fn keys_have_these_public_halves_and_ids() {
    let secret = recipient(GUEST_HPKE);
    let ed25519 = json!({ "seed": hex([ROOT; 32]), "public": signer(ROOT).public(), "id": signer(ROOT).public().id() });
    let x_wing = json!({ "seed": hex([GUEST_HPKE; 32]), "public": to_base64(secret.public().as_bytes()), "id": secret.public().id() });
    same("keys", &json!({ "ed25519": ed25519, "x-wing": x_wing }));
}

#[test]
fn a_transcript_has_this_report_data() {
    let whole = Transcript { role: Role::WholeVm, ..transcript() };
    let with_gpu = Transcript { gpu_evidence: Some(Digest::from([0x33; 32])), event_log: Some(Digest::from([0x44; 32])), ..transcript() };
    let tdx = Transcript { platform: Platform::Tdx, ..transcript() };
    let with_log = Transcript { event_log: tdx_evidence().event_log_digest(), ..tdx.clone() };
    assert_eq!(with_log.event_log, Some(sha256(EVENT_LOG)));
    let vector = |transcript: &Transcript| {
        json!({
            "platform": transcript.platform, "installation": transcript.installation, "nonce": transcript.nonce,
            "hpke_key": transcript.hpke_key, "signing_key": transcript.signing_key, "role": transcript.role,
            "configuration": transcript.configuration, "gpu_evidence": transcript.gpu_evidence, "event_log": transcript.event_log,
            "t0": hex(transcript.t0()), "gpu_nonce": hex(transcript.gpu_nonce()), "report_data": hex(transcript.report_data()),
        })
    };
    same("transcript", &json!([vector(&whole), vector(&transcript()), vector(&with_gpu), vector(&tdx), vector(&with_log)]));
}

#[test]
fn a_challenge_is_these_bytes() {
    let key = ChallengeKey::new(Zeroizing::new([0x55; 32]), *signer(ROOT).public());
    let vector = written("challenge", || {
        let challenge = key.mint(AT, std::time::Duration::from_secs(120)).unwrap();
        json!({
            "secret": hex([0x55; 32]), "installation": signer(ROOT).public(), "checked_at": AT,
            "challenge": to_base64(challenge.as_bytes()), "nonce": challenge.nonce(), "expires": challenge.expires(),
        })
    });
    let bytes = protocol::encoding::from_base64(vector["challenge"].as_str().unwrap()).unwrap();
    let challenge = key.check(&bytes, AT).unwrap();
    assert_eq!((json!(challenge.nonce()), json!(challenge.expires())), (vector["nonce"].clone(), vector["expires"].clone()));
}

#[test]
fn an_hpke_message_opens() {
    let secret = recipient(GUEST_HPKE);
    let vector = written("hpke", || {
        let sealed = hpke::seal(secret.public(), b"info", b"aad", b"plaintext").unwrap();
        let (info, aad, plaintext) = (hex("info"), hex("aad"), hex("plaintext"));
        json!({ "seed": hex([GUEST_HPKE; 32]), "info": info, "aad": aad, "sealed": sealed, "plaintext": plaintext })
    });
    let sealed: Sealed = serde_json::from_value(vector["sealed"].clone()).unwrap();
    assert_eq!(**hpke::open(&secret, b"info", b"aad", &sealed).unwrap(), *b"plaintext");
}

fn draft() -> Draft {
    Draft {
        installation: *signer(ROOT).public(),
        name: "acme/llama".parse().unwrap(),
        version: Version::FIRST,
        kind: Kind::Model,
        manifest: Some(Digest::from([0x66; 32])),
        policy: "inference".parse().unwrap(),
        authority: *signer(AUTHORITY).public(),
        anchors: AnchorClass::Test,
    }
}

#[test]
fn a_statement_commits_and_signs_like_this() {
    let Draft { installation, name, version, kind, manifest, policy, authority, anchors } = draft();
    let commitment = Digest::from([0; 32]);
    let mut body = StatementBody { installation, name, version, kind, manifest, policy, authority, anchors, commitment };
    body.commitment = envelope::commit(&body, &[0x77; 32], b"the model key");
    let signed = SignedDocument::sign(&body, &signer(PUBLISHER)).unwrap();
    let vector = json!({
        "publisher_seed": hex([PUBLISHER; 32]), "opening": hex([0x77; 32]), "secret": hex("the model key"),
        "payload": String::from_utf8(signed.payload.clone()).unwrap(), "pae": hex(pae(&signed.payload_type, &signed.payload)),
        "signed": signed, "digest": signed.digest(),
    });
    same("statement", &vector);
}

#[test]
fn a_record_opens_to_its_secret() {
    let vector = written("record", || {
        let recipients = [recipient(BROKER_SEALING).public().clone()];
        let record = envelope::write_record(draft(), b"the model key", &recipients, &signer(PUBLISHER)).unwrap();
        json!({ "sealing_seed": hex([BROKER_SEALING; 32]), "record": record, "secret": hex("the model key") })
    });
    let record: RecordFile = serde_json::from_value(vector["record"].clone()).unwrap();
    let statement = record.statement.authenticate::<StatementBody>(&[*signer(PUBLISHER).public()]).unwrap();
    assert_eq!(**envelope::unwrap(&record.envelope, &statement, &recipient(BROKER_SEALING)).unwrap(), *b"the model key");
}

fn request() -> ReleaseRequest {
    let transcript = transcript();
    ReleaseRequest {
        request: RequestId::from([0x88; 16]),
        installation: transcript.installation,
        challenge: vec![0x99; 73],
        platform: transcript.platform,
        evidence: EvidenceMessage::SevSnp { report: vec![0; 1184], certificate_table: vec![] },
        hpke_key: transcript.hpke_key,
        signing_key: transcript.signing_key,
        role: transcript.role,
        configuration: transcript.configuration,
        purpose: Purpose::Release,
        items: vec![Item { kind: Kind::Model, name: "acme/llama".parse().unwrap(), version: None }],
        identity: None,
    }
}

/// What stands for an event log here: the transcript takes any bytes.
const EVENT_LOG: &[u8] = b"an event log, as sent";

fn tdx_evidence() -> EvidenceMessage {
    EvidenceMessage::Tdx { quote: vec![0; 632], event_log: Some(EVENT_LOG.to_vec()) }
}

#[test]
fn a_request_of_a_tdx_guest_signs_like_this() {
    let request = ReleaseRequest { platform: Platform::Tdx, evidence: tdx_evidence(), ..request() };
    let signed = SignedDocument::sign(&request, &signer(GUEST_SIGNING)).unwrap();
    assert_eq!(ReceivedRequest::read(&signed.to_json()).unwrap().body, request);
    same("request-tdx", &json!({ "signing_seed": hex([GUEST_SIGNING; 32]), "signed": signed, "digest": signed.digest() }));
}

#[test]
fn a_request_signs_like_this() {
    let signed = SignedDocument::sign(&request(), &signer(GUEST_SIGNING)).unwrap();
    assert_eq!(ReceivedRequest::read(&signed.to_json()).unwrap().body, request());
    same("request", &json!({ "signing_seed": hex([GUEST_SIGNING; 32]), "signed": signed, "digest": signed.digest() }));
}

fn certificate() -> SignedDocument {
    let body = CertificateBody {
        installation: *signer(ROOT).public(),
        name: "acme".parse().unwrap(),
        anchors: AnchorClass::Test,
        certified: CertifiedKey::Identity(*signer(IDENTITY).public()),
        not_before: AT,
        not_after: UnixTime::from_seconds(AT.seconds() + 86_400),
    };
    SignedDocument::sign(&body, &signer(ROOT)).unwrap()
}

#[test]
fn a_certificate_signs_like_this() {
    let signed = certificate();
    let payload = String::from_utf8(signed.payload.clone()).unwrap();
    same("certificate", &json!({ "root_seed": hex([ROOT; 32]), "payload": payload, "signed": signed, "digest": signed.digest() }));
}

#[test]
fn an_answer_opens_to_its_outcome() {
    let digest = SignedDocument::sign(&request(), &signer(GUEST_SIGNING)).unwrap().digest();
    let granted = ItemOutcome::Granted {
        item: Item { kind: Kind::Model, name: "acme/llama".parse().unwrap(), version: Some(Version::FIRST) },
        publisher: *signer(PUBLISHER).public(),
        statement: Digest::from([0xbb; 32]),
        manifest: Some(Digest::from([0x66; 32])),
        expires: UnixTime::from_seconds(AT.seconds() + 3600),
        secret: Secret::new(Zeroizing::new(b"the model key".to_vec())),
    };
    let receipt = Receipt { entry: b"entry".to_vec(), proof: "see vectors/log/receipt.json".to_owned() };
    let outcome = Outcome { decision: DecisionId::from([0xaa; 16]), at: AT, items: vec![granted], receipt };
    let guest = recipient(GUEST_HPKE);
    let vector = written("answer", || {
        let answer = ReleaseAnswer::write(&outcome, digest, guest.public(), &signer(IDENTITY), &certificate()).unwrap();
        let root = signer(ROOT);
        json!({ "request": digest, "root": root.public(), "guest_seed": hex([GUEST_HPKE; 32]), "at": AT, "answer": answer, "outcome": outcome })
    });
    let answer: ReleaseAnswer = serde_json::from_value(vector["answer"].clone()).unwrap();
    let opened = answer.open(&digest, signer(ROOT).public(), &guest, AT).unwrap();
    assert_eq!(opened, outcome);
    assert_eq!(serde_json::to_value(&opened).unwrap(), vector["outcome"]);
    let stranger = signer(9);
    assert!(answer.open(&digest, stranger.public(), &guest, AT).is_err());
}
