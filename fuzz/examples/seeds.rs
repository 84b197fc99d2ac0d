//! Writes `corpus-seeds/`: for each target a few small genuine inputs, so that the fuzzer begins behind the first checks.
//! `cargo run --example seeds`.
//!
//! Everything comes from the soft platforms and from the fixtures' keys; nothing from real evidence. Keys, certificates and reports are
//! the same in every run; encapsulations and the nonce of a challenge are fresh.

use std::path::{Path, PathBuf};
use std::time::Duration;

use attestation::ProductLine;
use guest_client::agent::wire;
use portcullis_fuzz::model::Model;
use portcullis_fuzz::snp::Machine;
use portcullis_fuzz::{NOW, Signer, documents, log, recipient};
use protocol::challenge::ChallengeKey;
use protocol::collateral::{CollateralBundleBody, CollateralKind, CollateralPiece};
use protocol::documents::{
    BaselineProduct, CertificateBody, CertifiedKey, Kind, PolicyBody, Revocation, RevocationsBody, TcbBaseline, TcbBaselinesBody,
};
use protocol::dsse::{Body, SignedDocument};
use protocol::entries::{Decided, Entry, Event, RejectionCount, Verdict};
use protocol::hpke;
use protocol::ids::{AnchorClass, DecisionId, Digest, Name, Nonce, Platform, RequestId, Role, Version};
use protocol::keyfile::{KeyFile, Unlock};
use protocol::keys::PublicKey;
use protocol::log::tiles::encode_bundle;
use protocol::log::tree::consistency_proof;
use protocol::log::{ConsistencyProof, VerifierKey};
use protocol::messages::{
    AnswerBody, ChallengeAnswer, EvidenceMessage, InstallationAnswer, Item, ItemOutcome, Outcome, Problem, Purpose, Reason, ReleaseAnswer,
    ReleaseRequest, Secret,
};
use protocol::time::UnixTime;
use testbed::snp::{Guid, Leaf, Line, SoftPlatform, certificate_table};
use testbed::tdx::{Ending, EventLog, EventRecord, SpecId, event_type};
use zeroize::Zeroizing;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus-seeds");
    evidence(&folder)?;
    event_logs(&folder)?;
    keys_and_documents(&folder)?;
    exchange(&folder)?;
    audit_log(&folder)?;
    texts(&folder)?;
    sealed_models(&folder)
}

/// Writes one target's seeds, numbered.
fn write(folder: &Path, target: &str, seeds: impl IntoIterator<Item = Vec<u8>>) -> std::io::Result<()> {
    let folder: PathBuf = folder.join(target);
    std::fs::create_dir_all(&folder)?;
    for (number, seed) in seeds.into_iter().enumerate() {
        std::fs::write(folder.join(format!("{number:02}")), seed)?;
    }
    Ok(())
}

/// A byte that chooses, then the rest.
fn chosen(choice: u8, rest: &[u8]) -> Vec<u8> {
    [&[choice], rest].concat()
}

fn evidence(folder: &Path) -> std::io::Result<()> {
    let machines = || (0u8..).zip(Machine::all());
    let reports = machines().map(|(choice, machine)| chosen(choice, &machine.report));
    let old = SoftPlatform::new(Line::Milan);
    let older = old.sign(&old.report_of_version(2));
    write(folder, "snp_report", reports.chain([chosen(0, &older)]))?;
    let tables = Machine::all().iter().map(|machine| {
        let leaf = if machine.leaf == Leaf::Vcek { Guid::VCEK } else { Guid::VLEK };
        let named: Vec<_> = [leaf, Guid::ASK, Guid::ARK].into_iter().zip(machine.certificates.iter().map(Vec::as_slice)).collect();
        certificate_table(&named)
    });
    let small = [(Guid::VCEK, b"vcek".as_slice()), (Guid::EXTRA_PLATFORM_INFO, b"xx"), (Guid::CRL, b"crl")];
    write(folder, "snp_certificate_table", tables.take(2).chain([certificate_table(&small), certificate_table(&[])]))?;
    let certificates = machines().flat_map(|(choice, machine)| {
        (0u8..).zip(&machine.certificates).map(move |(place, der)| [&[choice, place], der.as_slice()].concat())
    });
    write(folder, "snp_certificates", certificates.collect::<Vec<_>>())?;
    let lists = machines().take(3).flat_map(|(choice, machine)| {
        // Not signed: the target signs, and asserts that nothing else is.
        let mut revoking = machine.platform.crl_der(&[1, 0x01_0001]);
        revoking.iter_mut().rev().take(16).for_each(|byte| *byte = 0);
        [machine.crl.clone(), revoking].map(|der| chosen(choice, &der))
    });
    write(folder, "snp_crl", lists.collect::<Vec<_>>())
}

/// As firmware leaves them, cut where the events end, with a second algorithm, and with each type whose data is taken apart.
fn event_logs(folder: &Path) -> std::io::Result<()> {
    let boot = EventLog::boot();
    let cut = boot.clone().with(|log| log.ending = Ending::None);
    let zeros = EventLog::empty().with(|log| log.ending = Ending::Zeros(32));
    let mut twice = EventRecord::hashed(1, event_type::SEPARATOR, &[0; 4]);
    twice.digests.insert(0, (0x000b, vec![7; 32]));
    let algorithms = vec![(0x000b, 32), (0x000c, 48)];
    let two = EventLog::empty().then(twice).with(|log| log.spec_id = Some(SpecId { algorithms, ..SpecId::default() }));
    let variable = [&[1; 16][..], &2u64.to_le_bytes(), &5u64.to_le_bytes(), b"B\0O\0value"].concat();
    let value = EventRecord::hashed(0, 0x8000_0002, b"value").digests.remove(0).1.try_into().expect("48 bytes");
    let text = EventRecord::hashed(2, event_type::IPL, b"set a").digests.remove(0).1.try_into().expect("48 bytes");
    let parts = EventLog::empty().then(EventRecord::given(0, 0x8000_0002, value, &variable)).then(EventRecord::given(
        2,
        event_type::IPL,
        text,
        b"grub_cmd: set a\0",
    ));
    write(folder, "tdx_event_log", [boot, cut, zeros, two, parts].map(|log| log.bytes()))
}

fn keys_and_documents(folder: &Path) -> std::io::Result<()> {
    let protect = |unlock| KeyFile::protect("log", "ed25519:", &[7; 32], &unlock).expect("a key file").to_json().as_bytes().to_vec();
    let passphrase = protect(Unlock::Passphrase(Zeroizing::new("a passphrase".to_owned())));
    write(folder, "key_file", [protect(Unlock::Nothing), protect(Unlock::KeyFile(Zeroizing::new(vec![7; 32]))), passphrase])?;
    let root = *Signer::Root.key().public();
    let policy = PolicyBody { installation: root, name: name("inference"), version: Version::FIRST, toml: "format = 1".to_owned() };
    let gone = |version| Revocation { name: name("acme/llama"), version, reason: "leaked".to_owned() };
    let revoked = vec![gone(None), gone(Some(Version::FIRST))];
    let revocations = RevocationsBody { installation: root, version: Version::FIRST, revoked };
    let baseline = |day: u64, microcode| TcbBaseline {
        product: BaselineProduct::Turin,
        published: UnixTime::from_seconds(day * 86_400),
        fmc: Some(1),
        bootloader: 1,
        tee: 1,
        snp: 4,
        microcode,
    };
    let baselines = vec![baseline(20_000, 81), baseline(20_100, 82)];
    let calendar = TcbBaselinesBody { installation: root, name: name("amd"), version: Version::FIRST, baselines };
    let sealed = hpke::seal(recipient().public(), b"info", &[], b"outcome").expect("sealed");
    let statement = documents::statement();
    let seeds = [
        chosen(0, &signed(&statement, Signer::Publisher).to_json()),
        chosen(1, &json(&statement)),
        chosen(2, &json(&policy)),
        chosen(3, &json(&revocations)),
        chosen(4, &json(&certificate(CertifiedKey::Identity(*Signer::Identity.key().public())))),
        chosen(4, &json(&certificate(CertifiedKey::Log(*Signer::Log.key().public())))),
        chosen(4, &json(&certificate(CertifiedKey::Sealing(recipient().public().clone())))),
        chosen(5, &json(&AnswerBody { request: Digest::from([9; 32]), sealed })),
        chosen(6, &json(&calendar)),
    ];
    write(folder, "signed_document", seeds)?;
    write(folder, "record_file", [json(&documents::record())])?;
    collateral(folder)
}

/// Bundles and forms. Of Intel's there are only shapes here: chains and signatures that nobody made.
fn collateral(folder: &Path) -> std::io::Result<()> {
    let platform = SoftPlatform::new(Line::Milan);
    let chain = "-----BEGIN CERTIFICATE-----\nAw==\n-----END CERTIFICATE-----\n";
    let dates = r#""issueDate":"2026-01-01T00:00:00Z","nextUpdate":"2026-01-31T00:00:00Z","tcbEvaluationDataNumber":1"#;
    let info = format!(r#"{{"id":"TDX","version":3,{dates},"fmspc":"00806F050000"}}"#);
    let body = format!(r#"{{"tcbInfo":{info},"signature":"00"}}"#);
    let piece = |kind: CollateralKind, bytes: &[u8]| CollateralPiece {
        kind,
        bytes: bytes.to_vec(),
        issuer_chain: kind.has_chain().then(|| chain.to_owned()),
        source: "seeds".to_owned(),
    };
    let pieces = vec![
        piece(CollateralKind::SnpCrl, &platform.crl_der(&[])),
        piece(CollateralKind::TdxTcbInfo, body.as_bytes()),
        piece(CollateralKind::SnpCertificate, &platform.vcek_der()),
    ];
    let bundle = CollateralBundleBody { created: NOW, pieces };
    let quote = serde_json::json!({
        "pck_crl_issuer_chain": chain, "root_ca_crl": "", "pck_crl": "", "tcb_info_issuer_chain": chain, "tcb_info": info,
        "tcb_info_signature": "00", "qe_identity_issuer_chain": chain, "qe_identity": "{}", "qe_identity_signature": "00",
    });
    let client = format!(
        r#"{{"collaterals":{{"tcbinfos":[{{"tdx_tcbinfo":{{"tcbInfo": {info}, "signature": "00"}}}}],"pckcacrl":{{}},"tdqeidentity":"{{}}",
        "certificates":{{"TCB-Info-Issuer-Chain":"-----BEGIN%20CERTIFICATE-----%0A","SGX-Enclave-Identity-Issuer-Chain":"x"}},"rootcacrl":""}}}}"#
    );
    let seeds = [
        chosen(0, &json(&bundle)),
        chosen(1, &signed(&bundle, Signer::Authority).to_json()),
        chosen(1, &platform.crl_der(&[])),
        chosen(1, quote.to_string().as_bytes()),
        chosen(1, client.as_bytes()),
        chosen(2, &[&[128], body.as_bytes(), chain.as_bytes()].concat()),
    ];
    write(folder, "collateral_bundle", seeds)
}

fn exchange(folder: &Path) -> std::io::Result<()> {
    let root = *Signer::Root.key().public();
    let key = ChallengeKey::new(Zeroizing::new([3; 32]), root);
    let challenge = key.mint(NOW, Duration::from_secs(120)).expect("randomness");
    write(folder, "challenge", [challenge.as_bytes().to_vec()])?;

    let item = Item { kind: Kind::Model, name: name("acme/llama"), version: Some(Version::FIRST) };
    let request = |evidence, items| ReleaseRequest {
        request: RequestId::from([5; 16]),
        installation: root,
        challenge: challenge.as_bytes().to_vec(),
        platform: Platform::SevSnp,
        evidence,
        hpke_key: recipient().public().clone(),
        signing_key: *Signer::Guest.key().public(),
        role: Role::Workload(name("vllm")),
        configuration: Digest::from([6; 32]),
        purpose: Purpose::Release,
        items,
    };
    let table = certificate_table(&[(Guid::VCEK, b"vcek"), (Guid::ASK, b"ask")]);
    let fresh = || EvidenceMessage::SevSnp { report: Machine::chosen(0).report.clone(), certificate_table: table.clone() };
    let credential = Item { kind: Kind::Credential, name: name("acme/token"), version: None };
    let requests = [request(fresh(), vec![item.clone(), credential.clone()]), request(EvidenceMessage::Held {}, vec![credential.clone()])];
    let whole = requests.iter().map(|request| chosen(0, &signed(request, Signer::Guest).to_json()));
    write(folder, "release_request", whole.chain(requests.iter().map(|request| chosen(1, &json(request)))))?;

    let expires = NOW.plus(Duration::from_secs(3600));
    let secret = Secret::new(Zeroizing::new(vec![1; 32]));
    let (publisher, statement) = (*Signer::Publisher.key().public(), Digest::from([2; 32]));
    let reason = Reason { code: "snp-debug".to_owned(), found: "debug allowed".to_owned(), hint: "launch without".to_owned() };
    let outcome = Outcome {
        decision: DecisionId::from([4; 16]),
        at: NOW,
        items: vec![
            ItemOutcome::Granted { item: item.clone(), publisher, statement, manifest: Some(statement), expires, secret },
            ItemOutcome::Permitted { item: item.clone(), expires },
            ItemOutcome::Refused { item: credential.clone(), reasons: vec![reason] },
        ],
        receipt: log::receipt(3),
    };
    let identity = signed(&certificate(CertifiedKey::Identity(*Signer::Identity.key().public())), Signer::Root);
    // For another request than the target's: the target asserts that it opens none.
    let answer = ReleaseAnswer::write(&outcome, Digest::from([0; 32]), recipient().public(), &Signer::Identity.key(), &identity);
    let mut problem = Problem::new(403, "snp-signature", "nothing is proven");
    problem.decision = Some(DecisionId::from([4; 16]));
    let seeds = [
        chosen(0, &json(&answer.expect("an answer"))),
        chosen(1, &json(&outcome)),
        chosen(2, &json(&problem)),
        chosen(3, &json(&InstallationAnswer { root, certificates: vec![identity] })),
        chosen(4, &json(&ChallengeAnswer { challenge: challenge.as_bytes().to_vec(), expires: challenge.expires() })),
    ];
    write(folder, "release_answer", seeds)?;

    let question = wire::Question {
        version: wire::VERSION,
        nonce: Nonce::from([1; 32]),
        installation: root,
        hpke_key: recipient().public().clone(),
        signing_key: *Signer::Guest.key().public(),
        configuration: Digest::from([6; 32]),
    };
    let attested = wire::Reply::Attested { platform: Platform::SevSnp, role: Role::WholeVm, evidence: fresh() };
    let refused = wire::Reply::Refused { code: "device".to_owned(), what: "no device".to_owned() };
    write(folder, "agent_message", [chosen(0, &frame(&question)), chosen(1, &frame(&attested)), chosen(1, &frame(&refused))])
}

fn audit_log(folder: &Path) -> std::io::Result<()> {
    let receipt = log::receipt(3);
    let consistency = |old| ConsistencyProof {
        old_size: old,
        hashes: consistency_proof(&log::tree(log::ENTRIES), old, log::ENTRIES).expect("a proof"),
        checkpoint: log::checkpoint(log::ENTRIES),
    };
    let seeds = [
        chosen(3 * 3, receipt.proof.as_bytes()),
        chosen(3 * 5 + 1, consistency(5).to_string().as_bytes()),
        chosen(3 * 8 + 1, consistency(8).to_string().as_bytes()),
        chosen(2, &json(&receipt)),
    ];
    write(folder, "log_proof", seeds)?;
    let checkpoint = log::checkpoint(log::ENTRIES);
    let text = checkpoint.split("\n\n").next().unwrap_or_default();
    let vkey = VerifierKey { name: log::origin(), key: *Signer::Log.key().public() };
    let seeds = [
        chosen(0, checkpoint.as_bytes()),
        chosen(1, format!("{text}\n").as_bytes()),
        chosen(2, b"acme/log"),
        chosen(3, vkey.to_string().as_bytes()),
    ];
    write(folder, "log_note", seeds)?;
    let bundle = encode_bundle(&[log::entry(0), log::entry(1), Vec::new()]).expect("a bundle");
    let seeds =
        [chosen(0, b"tile/0/x001/x234/067"), chosen(0, b"tile/entries/273.p/112"), chosen(1, &[7; 64]), chosen(2, &chosen(2, &bundle))];
    write(folder, "log_tiles", seeds)?;

    let decided = |verdict, reasons: &[&str]| Decided {
        kind: Kind::Model,
        name: name("acme/llama"),
        version: Some(Version::FIRST),
        statement: Some(Digest::from([1; 32])),
        policy: Some(Digest::from([2; 32])),
        verdict,
        reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
    };
    let (digest, signer) = (Digest::from([3; 32]), *Signer::Publisher.key().public());
    let events = [
        Event::Initialised {},
        Event::Started { version: "0.1.0".to_owned() },
        Event::RecordPut { name: name("acme/llama"), version: Version::FIRST, statement: digest, publisher: signer },
        Event::PolicyPut { name: name("inference"), version: Version::FIRST, document: digest, authority: signer },
        Event::RevocationsPut { version: Version::FIRST, document: digest, authority: signer, revoked: 2 },
        Event::CollateralImported { document: digest, authority: signer, pieces: 4 },
        Event::TcbBaselinesPut { name: name("amd"), version: Version::FIRST, document: digest, authority: signer },
        Event::Decision {
            decision: DecisionId::from([4; 16]),
            request: digest,
            nonce: digest,
            guest: digest,
            purpose: Purpose::Check,
            items: vec![decided(Verdict::Permitted, &[]), decided(Verdict::Refused, &["snp-debug", "snp-vmpl"])],
            details: digest,
        },
        Event::Rejections { counts: vec![RejectionCount { code: "snp-signature".to_owned(), count: 3 }] },
    ];
    let entry = |event| Entry {
        origin: "acme/log".to_owned(),
        installation: *Signer::Root.key().public(),
        anchors: AnchorClass::Test,
        at: NOW,
        documents: digest,
        event,
    };
    write(folder, "entries", events.into_iter().map(|event| json(&entry(event))))
}

fn texts(folder: &Path) -> std::io::Result<()> {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let mut seeds = vec![std::fs::read(policies.join("tests/full.toml"))?];
    for entry in std::fs::read_dir(policies.join("examples"))? {
        seeds.push(std::fs::read(entry?.path())?);
    }
    seeds.sort_by_key(Vec::len);
    let measurement: String = Machine::chosen(0).claims().measurement.iter().map(|byte| format!("{byte:02x}")).collect();
    seeds.push(accepting(&measurement).into_bytes());
    write(folder, "policy", seeds)?;

    let key = |byte| PublicKey::from_bytes([byte; 32]);
    let broker = format!(
        "root = \"{}\"\ndata = \"data\"\n[listen]\naddress = \"127.0.0.1:8443\"\n[unlock]\npassphrase_file = \"p\"\n[[publisher]]\nkey = \"{}\"\nnames = [\"acme/*\"]\n\
         [[authority]]\nkey = \"{}\"\nnames = [\"*\"]\n[collateral]\nfolder = \"c\"\n[limits]\nrequests_per_second = 50\nburst = 9\nconcurrent = 5\nconnections = 7\n\
         challenge_seconds = 60\nrequest_seconds = 3\n[log]\nformat = \"text\"\n",
        key(1),
        key(2),
        key(3),
    );
    let tls = format!(
        "root = \"{}\"\ndata = \"d\"\n[listen]\naddress = \"[::]:1\"\nplain_http = \"behind-a-proxy\"\ntls = {{ certificates = \"c\", key = \"k\" }}\n",
        key(1)
    );
    write(folder, "broker_config", [broker.into_bytes(), tls.into_bytes()])?;
    let guest = format!(
        "root = \"{}\"\nbroker = \"https://broker.example.com\"\nca-file = \"/ca.pem\"\nplain-http = \"anywhere\"\ntimeout-seconds = 5\nevidence = \"agent:/run/a\"\n\
         configfs = \"/x\"\nstate = \"/run/s\"\nplaintext = \"disk\"\nstdout = \"allowed\"\ncovers = [\"/etc/engine\"]\n",
        key(1)
    );
    write(folder, "guest_config", [guest.into_bytes(), format!("root = \"{}\"\nbroker = \"http://[::1]:80\"\n", key(1)).into_bytes()])
}

/// A policy that the genuine guest of the first machine satisfies, so that its permits are reached.
fn accepting(measurement: &str) -> String {
    let product = ProductLine::Milan.to_string().to_lowercase();
    format!(
        "format = 1\nrole = \"whole-vm\"\nconfiguration = \"config-is-measured\"\nattestation-lifetime = \"1 hour\"\n[snp]\nvmpl = [0]\n\
         [snp.measurements]\nimage = [\"{measurement}\"]\n[snp.guest-policy]\nsmt = \"allowed\"\n\
         [snp.products.{product}]\nminimum-tcb = {{ bootloader = 0, tee = 0, snp = 0, microcode = 0 }}\n"
    )
}

fn sealed_models(folder: &Path) -> std::io::Result<()> {
    let manifest = Model::seal().manifest;
    write(folder, "manifest", [chosen(0, &manifest.to_json()), chosen(1, &manifest.payload)])?;
    // Lists of changes are any bytes: some lengths and patterns to begin with.
    let bytes = |step: usize, length: usize| (0..length).map(|at| (at * step + at / 7) as u8).collect::<Vec<_>>();
    write(folder, "sealed_reader", [Vec::new(), bytes(1, 40), bytes(37, 64), bytes(73, 128), bytes(151, 200)])
}

fn certificate(certified: CertifiedKey) -> CertificateBody {
    CertificateBody {
        installation: *Signer::Root.key().public(),
        name: name("acme"),
        anchors: AnchorClass::Test,
        certified,
        not_before: NOW,
        not_after: NOW.plus(Duration::from_secs(86_400)),
    }
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn signed<B: Body>(body: &B, signer: Signer) -> SignedDocument {
    SignedDocument::sign(body, &signer.key()).expect("a body that obeys its rules")
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON")
}

fn frame(message: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::write(&mut bytes, message).expect("a message");
    bytes
}
