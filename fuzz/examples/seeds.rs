//! Writes `corpus-seeds/`: for each target a few small genuine inputs, so that the fuzzer begins behind the first checks.
//! `cargo run --example seeds`.
//!
//! Everything comes from the soft platforms and from the fixtures' keys; nothing from real evidence. Keys, certificates and reports are
//! the same in every run; encapsulations and the nonce of a challenge are fresh.

use std::path::{Path, PathBuf};
use std::time::Duration;

use attestation::ProductLine;
use guest_client::agent::wire;
use policies::Policy;
use portcullis_fuzz::model::Model;
use portcullis_fuzz::snp::Machine;
use portcullis_fuzz::tdx::{TdMachine, claims};
use portcullis_fuzz::{NOW, Signer, documents, log, maker, recipient, tokens};
use protocol::challenge::ChallengeKey;
use protocol::collateral::{CollateralBundleBody, CollateralKind, CollateralPiece};
use protocol::credential::{Content, CredentialBody, MAGIC, Variable};
use protocol::documents::{CertificateBody, CertifiedKey, Kind, PolicyBody, Revocation, RevocationsBody};
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
use protocol::tokens::from_base64url;
use testbed::snp::{Guid, Leaf, Line, SoftPlatform, certificate_table};
use testbed::tdx::{
    Ending, EventLog, EventRecord, NEWEST_TCB, RevocationList, Role as TdxRole, Root, SoftTdx, SpecId, Standing, event_type, sign,
};
use zeroize::Zeroizing;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus-seeds");
    evidence(&folder)?;
    td_evidence(&folder)?;
    event_logs(&folder)?;
    keys_and_documents(&folder)?;
    exchange(&folder)?;
    audit_log(&folder)?;
    identities(&folder)?;
    texts(&folder)?;
    credentials(&folder)?;
    storages(&folder)?;
    upstreams(&folder)?;
    requests(&folder)?;
    workload_connections(&folder)?;
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

/// Quotes with every kind of report, one of them in a larger buffer; certificates, lists and documents under the soft root.
fn td_evidence(folder: &Path) -> std::io::Result<()> {
    let machines = || (0u8..).zip(TdMachine::all());
    let padded = [TdMachine::chosen(0).quote.as_slice(), &[0; 70]].concat();
    let quotes = machines().map(|(choice, machine)| chosen(choice, &machine.quote));
    write(folder, "tdx_quote", quotes.chain([chosen(0, &padded)]))?;
    let certificates = machines().take(2).flat_map(|(choice, machine)| {
        let all = machine.chain.iter().cloned().chain([machine.platform.tcb_signer_der(), machine.platform.root_der()]);
        (0u8..).zip(all).map(move |(place, der)| [&[choice, place], der.as_slice()].concat())
    });
    write(folder, "tdx_certificates", certificates.collect::<Vec<_>>())?;
    let lists = machines().take(2).flat_map(|(choice, machine)| {
        let platform = &machine.platform;
        // Under another key, so that the target signs: it asserts that nothing else is believed.
        let other = SoftTdx::new().under(Root::Other).key(TdxRole::Root);
        let revoking = |list: &mut RevocationList| {
            list.revoke(&platform.serial(TdxRole::Pck));
            list.revoke(&[1]);
            list.signer = other.clone();
        };
        let pck = [platform.pck_list_der(&[]), platform.pck_list_with(revoking)].map(|der| chosen(choice | 0x80, &der));
        [platform.root_list_der(&[]), platform.root_list_with(revoking)].map(|der| chosen(choice, &der)).into_iter().chain(pck)
    });
    write(folder, "tdx_crl", lists.collect::<Vec<_>>())?;
    let platform = SoftTdx::new();
    let (info, identity) = (platform.tcb_info(), platform.qe_identity());
    let older = platform.tcb_info().with(|info| {
        info.levels[0].standing = Standing::new("SWHardeningNeeded", NEWEST_TCB).advising(&["INTEL-SA-90005"]);
        info.levels.truncate(1);
        info.module_identities.as_mut().expect("identities").truncate(2);
    });
    let seeds = [
        chosen(0, &platform.tcb_info_body(|_| ())),
        chosen(0x40, &platform.qe_identity_body(|_| ())),
        chosen(0x80, info.json().as_bytes()),
        chosen(0x80, older.json().as_bytes()),
        chosen(0xc0, identity.json().as_bytes()),
    ];
    write(folder, "tdx_collateral", seeds)
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
    let gone = |version| Revocation { kind: None, name: name("acme/llama"), version, reason: "leaked".to_owned() };
    let revoked = vec![gone(None), gone(Some(Version::FIRST))];
    let revocations = RevocationsBody { installation: root, version: Version::FIRST, revoked };
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
        chosen(6, &json(&documents::calendar())),
    ];
    write(folder, "signed_document", seeds)?;
    write(folder, "record_file", [json(&documents::record())])?;
    collateral(folder)
}

/// Bundles and forms, with what the soft platforms hand out.
fn collateral(folder: &Path) -> std::io::Result<()> {
    let platform = SoftPlatform::new(Line::Milan);
    let td = SoftTdx::new();
    let soft = td.collateral();
    let piece = |kind: CollateralKind, bytes: &[u8]| CollateralPiece {
        kind,
        bytes: bytes.to_vec(),
        issuer_chain: kind.has_chain().then(|| soft.issuer_chain.clone()),
        source: "seeds".to_owned(),
    };
    let pieces = vec![
        piece(CollateralKind::SnpCrl, &platform.crl_der(&[])),
        piece(CollateralKind::TdxTcbInfo, &soft.tcb_info),
        piece(CollateralKind::SnpCertificate, &platform.vcek_der()),
    ];
    let bundle = CollateralBundleBody { created: NOW, pieces };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (info, identity) = (td.tcb_info().json(), td.qe_identity().json());
    let signature = |text: &str| hex(&sign(&td.key(TdxRole::TcbSigner), text.as_bytes()));
    let quote = serde_json::json!({
        "pck_crl_issuer_chain": soft.pck_list_issuer_chain, "root_ca_crl": hex(&soft.root_list), "pck_crl": hex(&soft.pck_list),
        "tcb_info_issuer_chain": soft.issuer_chain, "tcb_info": info, "tcb_info_signature": signature(&info),
        "qe_identity_issuer_chain": soft.issuer_chain, "qe_identity": identity, "qe_identity_signature": signature(&identity),
    });
    let encoded = soft.issuer_chain.replace(' ', "%20").replace('\n', "%0A");
    // As text: the TCB info in it keeps its very bytes.
    let client = format!(
        r#"{{"collaterals":{{"tcbinfos":[{{"fmspc":"{}","tdx_tcbinfo":{}}}],"tdqeidentity":{},"pckcacrl":{{"platformCrl":"{}"}},
        "certificates":{{"TCB-Info-Issuer-Chain":"{encoded}","SGX-Enclave-Identity-Issuer-Chain":"{encoded}"}},"rootcacrl":"{}"}}}}"#,
        td.fmspc_hex(),
        String::from_utf8_lossy(&soft.tcb_info),
        serde_json::Value::from(String::from_utf8_lossy(&soft.qe_identity)),
        hex(&soft.pck_list),
        hex(&soft.root_list),
    );
    let pair = |first: &[u8], second: &[u8]| {
        let at = (first.len() * 256).div_ceil(first.len() + second.len());
        chosen(2, &[&[at as u8], first, second].concat())
    };
    let named = |files: &[(&str, &[u8])]| {
        let file =
            |(name, bytes): &(&str, &[u8])| [&[name.len() as u8], name.as_bytes(), &(bytes.len() as u16).to_le_bytes(), bytes].concat();
        chosen(3, &files.iter().flat_map(file).collect::<Vec<_>>())
    };
    // Of another signer: which of two chains a body takes, its name decides.
    let other = SoftTdx::new().under(Root::Other).collateral().issuer_chain;
    let (info_body, identity_body) = (soft.tcb_info.as_slice(), soft.qe_identity.as_slice());
    let seeds = [
        chosen(0, &json(&bundle)),
        chosen(1, &signed(&bundle, Signer::Authority).to_json()),
        chosen(1, &platform.crl_der(&[])),
        chosen(1, &soft.pck_list),
        chosen(1, quote.to_string().as_bytes()),
        chosen(1, client.as_bytes()),
        chosen(1, soft.pck_list_issuer_chain.as_bytes()),
        chosen(1, encoded.as_bytes()),
        pair(&soft.tcb_info, soft.issuer_chain.as_bytes()),
        pair(&soft.qe_identity, soft.issuer_chain.as_bytes()),
        pair(&soft.pck_list, soft.pck_list_issuer_chain.as_bytes()),
        named(&[("tcb_info.json", info_body), ("qe_signing.pem", other.as_bytes()), ("tcb_signing.pem", soft.issuer_chain.as_bytes())]),
        named(&[("a/tcb", info_body), ("a/qe", identity_body), ("a/q.pem", other.as_bytes()), ("b.pem", soft.issuer_chain.as_bytes())]),
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
        identity: None,
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
        issued: None,
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

/// From the protocol's own vectors: tokens that hold, and each that is refused.
fn identities(folder: &Path) -> std::io::Result<()> {
    let entries = |list: &str| tokens::VECTOR[list].as_array().expect("a list").clone();
    let text = |value: &serde_json::Value| value.as_str().expect("text").as_bytes().to_vec();
    let whole = |class: &'static str| {
        let all = entries("accepted").into_iter().chain(entries("refused"));
        all.filter(move |entry| entry["class"] == class).map(|entry| entry["token"].clone())
    };
    let claims = |class: &'static str| {
        let accepted = entries("accepted").into_iter().filter(move |entry| entry["class"] == class);
        accepted
            .map(move |entry| from_base64url(entry["token"].as_str().expect("text").split('.').nth(1).expect("claims")).expect("base64"))
    };
    let header = tokens::header(&tokens::ISSUER.jwt, "JWT");
    let jwt = whole("jwt-svid").map(|token| chosen(0, &text(&token)));
    write(folder, "jwt", jwt.chain([chosen(1, header.as_bytes())]).chain(claims("jwt-svid").map(|claims| chosen(2, &claims))))?;
    let ear = whole("attestation-result").map(|token| chosen(0, &text(&token)));
    write(folder, "ear", ear.chain(claims("attestation-result").map(|claims| chosen(1, &claims))))?;
    let issuer = &*tokens::ISSUER;
    let key = serde_json::to_vec(&issuer.jwt.jwk()).expect("JSON");
    let bundles = [
        chosen(0, issuer.bundle.to_json().as_bytes()),
        chosen(1, issuer.result_keys.to_json().as_bytes()),
        chosen(2, &key),
        chosen(3, issuer.jwt.spki().as_der()),
    ];
    write(folder, "bundle", bundles)?;
    let texts: [(u8, &[u8]); 4] = [
        (0, b"spiffe://acme.example/inference/vllm"),
        (1, b"spiffe://acme.example"),
        (2, b"spiffe://acme.example/{anchors}/{platform}/{policy}/{workload}\nvllm\nresearch"),
        (2, b"spiffe://acme.example/{workload}\na/b"),
    ];
    write(folder, "spiffe_template", texts.map(|(choice, text)| chosen(choice, text)))
}

fn credentials(folder: &Path) -> std::io::Result<()> {
    let secret = |text: &str| Secret::new(Zeroizing::new(text.as_bytes().to_vec()));
    let expires = Some(NOW);
    let name = "service-account.json".parse().expect("a file name");
    let variable = |name: &str, value: &str| Variable { name: name.parse().expect("a variable"), value: secret(value) };
    let bodies = [
        CredentialBody { expires, content: Content::Opaque(secret("sk-1")) },
        CredentialBody { expires: None, content: Content::File { name, value: secret("{}") } },
        CredentialBody { expires, content: Content::Variables(vec![variable("A", "one"), variable("PASSWORD", "two")]) },
    ];
    // The long form stands behind its magic, which the target adds.
    let long = bodies.iter().map(|body| chosen(0, body.write().expect("a body").get(MAGIC.len()..).unwrap_or_default()));
    let text = b"# comment\nA=one # two\nexport B='x \"y\"'\nC=\"1\\n2\\\\\"\n";
    write(folder, "credential_body", long.chain([chosen(0, b"sk-1"), chosen(1, text)]))
}

fn texts(folder: &Path) -> std::io::Result<()> {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let mut seeds = vec![std::fs::read(policies.join("tests/full.toml"))?, std::fs::read(policies.join("tests/tdx.toml"))?];
    for entry in std::fs::read_dir(policies.join("examples"))? {
        seeds.push(std::fs::read(entry?.path())?);
    }
    seeds.sort_by_key(Vec::len);
    let measurement: String = Machine::chosen(0).claims().measurement.iter().map(|byte| format!("{byte:02x}")).collect();
    seeds.push(accepting(&measurement).into_bytes());
    seeds.extend(accepting_td(TdMachine::chosen(0)).map(String::into_bytes));
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
    let vendors = "[collateral.amd]\nupstream = \"vendor\"\nca_file = \"a.pem\"\n[collateral.intel]\nupstream = \"https://pccs.example.com:8081/x\"\n\
                   update = \"standard\"\n[collateral.budget]\nper_client = 4\nin_all = 60\n";
    let fetching = format!("root = \"{}\"\ndata = \"d\"\n[listen]\naddress = \"127.0.0.1:1\"\n{vendors}", key(1));
    write(folder, "broker_config", [broker.into_bytes(), tls.into_bytes(), fetching.into_bytes()])?;
    let guest = format!(
        "root = \"{}\"\nbroker = \"https://broker.example.com\"\nca-file = \"/ca.pem\"\nplain-http = \"anywhere\"\ntimeout-seconds = 5\nevidence = \"agent:/run/a\"\n\
         configfs = \"/x\"\nstate = \"/run/s\"\nplaintext = \"disk\"\nstdout = \"allowed\"\ncovers = [\"/etc/engine\"]\n",
        key(1)
    );
    let guest = format!(
        "{guest}[storage]\nconnections = 4\nrange-mib = 8\nmemory-mib = 64\nidle-seconds = 9\nretry-seconds = 60\nca-file = \"/b.pem\"\n[storage.s3]\n\
         endpoint = \"https://s3.example.com\"\nregion = \"r\"\naddressing = \"virtual-host\"\ncredentials = \"file:/c\"\n"
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

/// Policies that a TD on this machine satisfies: by its registers, and by the events of its log.
fn accepting_td(machine: &TdMachine) -> [String; 2] {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let body = &machine.guest.quote.body;
    let rest = format!(
        "format = 1\nrole = \"whole-vm\"\nconfiguration = \"config-is-measured\"\nattestation-lifetime = \"1 hour\"\n\
         second-opinion-exceptions = [\"any-quote\"]\n[tdx]\nsmt = \"allowed\"\n[tdx.measurements]\nimage = [\"{}\"]\n",
        hex(&body.mrtd)
    );
    let registers: String = (0..4).map(|rtmr| format!("rtmr{rtmr} = {{ a = [\"{}\"] }}\n", hex(&body.rtmrs[rtmr]))).collect();
    let genuine = machine.judge_with_log(&machine.quote).expect("a genuine TD");
    let events: String = (0..4u8)
        .map(|rtmr| {
            let events = claims(&genuine).event_log.events_of(rtmr).expect("a log");
            let texts: Vec<String> =
                events.map(|event| format!("{{ type = {}, digest = \"{}\" }}", event.kind, hex(&event.digest))).collect();
            match texts.as_slice() {
                [] => format!("[tdx.rtmrs]\nrtmr{rtmr} = \"all-zero\"\n"),
                texts => format!("[tdx.events.rtmr{rtmr}.sequences]\nboot = [{}]\n", texts.join(", ")),
            }
        })
        .collect();
    let texts = [format!("{rest}[tdx.rtmrs]\n{registers}"), format!("{rest}{events}")];
    for text in &texts {
        let checks = Policy::parse(text).expect("a policy").examine(genuine.platform(), None, None, NOW);
        assert!(checks.iter().all(|check| check.verdict == policies::Verdict::Passed), "{checks:?}");
    }
    texts
}

/// Answers of the vendors' services: a header's value and a body, behind where the value ends in 256ths.
fn upstreams(folder: &Path) -> std::io::Result<()> {
    let td = SoftTdx::new();
    let soft = td.collateral();
    let answer = |choice: u8, value: &str, body: &[u8]| {
        let at = (value.len() * 256).div_ceil(value.len() + body.len());
        [&[choice, at as u8], value.as_bytes(), body].concat()
    };
    let escaped = |text: &str| text.replace(' ', "%20").replace('\n', "%0A").replace('+', "%2B");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let authority = testbed::tdx::pem::chain(&[SoftPlatform::new(Line::Milan).ask_der()]);
    let list = testbed::tdx::pem::chain(std::slice::from_ref(&soft.root_list)).replace("CERTIFICATE", "X509 CRL");
    let seeds = [
        answer(0, &escaped(&soft.issuer_chain), &soft.tcb_info),
        answer(3, &escaped(&soft.issuer_chain), &soft.qe_identity),
        answer(4, &escaped(&soft.pck_list_issuer_chain), &soft.pck_list),
        answer(4, &escaped(&soft.pck_list_issuer_chain), hex(&soft.pck_list).as_bytes()),
        answer(5, "", list.as_bytes()),
        answer(5, "", format!("\"{}\"", hex(&soft.root_list)).as_bytes()),
        answer(6, "", authority.as_bytes()),
        answer(8, "", &SoftPlatform::new(Line::Milan).vcek_der()),
    ];
    write(folder, "upstream_answer", seeds)
}

fn sealed_models(folder: &Path) -> std::io::Result<()> {
    let manifest = Model::seal().manifest;
    write(folder, "manifest", [chosen(0, &manifest.to_json()), chosen(1, &manifest.payload)])?;
    let header = |json: &str, data: usize| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &vec![0; data]].concat();
    let two = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"F4","shape":[4],"data_offsets":[12,14]}}"#;
    write(folder, "safetensors", [header("{}", 0), header(two, 14), header("{}      ", 0)])?;
    let pickles: [&[u8]; 5] = [
        b"cos\nsystem\n(S'id'\ntR.",
        b"(dp0\nVa\np1\nI1\ns.",
        b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.",
        b"\x80\x04\x95\x0a\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.",
        b"PK\x03\x04\x14\0\0\0\0\0PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    ];
    write(folder, "pickle", pickles.map(<[u8]>::to_vec))?;
    write(folder, "model_signature", [chosen(0, &maker::sign(maker::STATEMENT.as_bytes())), chosen(1, maker::STATEMENT.as_bytes())])?;
    // Lists of changes are any bytes: some lengths and patterns to begin with.
    let bytes = |step: usize, length: usize| (0..length).map(|at| (at * step + at / 7) as u8).collect::<Vec<_>>();
    write(folder, "sealed_reader", [Vec::new(), bytes(1, 40), bytes(37, 64), bytes(73, 128), bytes(151, 200)])
}

/// Beginnings of connections to the Workload API, behind the size of the pieces in which they come.
fn workload_connections(folder: &Path) -> std::io::Result<()> {
    let fields = b"@\x05:path\x04/a%b@\n:authority\x10tmp%2FdumpG.sock\x83\x86@\x02te\x08trailers\x00\x12workload.spiffe.io\x04true";
    let frame = |kind: u8, flags: u8, payload: &[u8]| [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1], payload].concat();
    let padded = [&[2][..], b"\x80\0\0\0\x01", fields, b"\0\0"].concat();
    let (head, tail) = fields.split_at(20);
    let frames = [
        frame(1, 4, fields),
        frame(1, 0x2c, &padded),
        [frame(1, 0, head), frame(9, 4, tail), frame(0, 1, &[0; 5])].concat(),
        frame(1, 4, b"\x41\x03a%b\x01\x83abc"),
    ];
    let connection = |frames: Vec<u8>| [&[3][..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, &[]), &frames].concat();
    write(folder, "workload_authority", frames.map(connection))
}

/// Heads of requests to the credential proxy.
fn requests(folder: &Path) -> std::io::Result<()> {
    let heads = [
        "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /v1/chat?a=b HTTP/1.1\r\nHost: a.example\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n",
        "POST /v1/chat HTTP/1.1\r\nhost: a.example:443\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n",
        "DELETE https://a.example/v1/files/a%20b HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a\r\nCookie: b\r\n\r\n",
        "GET /v1/%2e%2e/a HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /v1/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET /v1/a HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ];
    write(folder, "proxy_request", heads.map(|head| head.as_bytes().to_vec()))
}

/// Heads of answers behind the 18 bytes of what was asked for, and places.
fn storages(folder: &Path) -> std::io::Result<()> {
    let answer = |start: u64, length: u64, status: u16, head: &str| {
        [&start.to_le_bytes()[..], &length.to_le_bytes(), &(status - 200).to_le_bytes(), head.as_bytes()].concat()
    };
    let answers = [
        answer(0, 4096, 206, "content-range: bytes 0-4095/65536\netag: \"a\"\ncontent-length: 4096"),
        answer(4096, 4096, 206, "content-range: bytes 4096-5000/5001"),
        answer(0, 4096, 200, "content-length: 20"),
        answer(0, 4096, 416, "content-range: bytes */0"),
        answer(0, 4096, 302, "location: https://h/a"),
        answer(0, 4096, 503, "retry-after: 7"),
    ];
    write(folder, "storage_answer", answers)?;
    let places = ["/mnt/models/llama", "https://h:8443/a/b", "s3://acme-models/llama/3", "gs://acme", "az://acme/a"];
    write(folder, "sealed_location", places.map(|place| place.as_bytes().to_vec()))
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
