//! `init`, certificates that the root signs elsewhere, protected keys, sample configurations.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use broker::clock;
use broker::custody::{CustodyError, Installation, Keys, TestAnchor, unlock};
use broker::init::{InitError, Plan, Root, init, install_certificates};
use protocol::documents::{CertificateBody, CertificateError};
use protocol::dsse::{DocumentError, SignedDocument};
use protocol::ids::AnchorClass;
use protocol::keyfile::{KeyFileError, Unlock};
use testbed::tdx::SoftTdx;
use zeroize::Zeroizing;

use crate::house::*;

fn plan(data: &Path, root: Root, unlock: Unlock) -> Plan {
    Plan { data: data.to_owned(), name: name("acme"), root, test_anchors: vec![], unlock, validity: HOUR, at: clock::now() }
}

fn open(data: &Path, unlock: &Unlock) -> Result<(), CustodyError> {
    Keys::open(data, &Installation::read(data)?, unlock, clock::now()).map(drop)
}

#[tokio::test]
async fn an_installation_without_test_roots_is_of_class_vendor() {
    let folder = tempfile::tempdir().unwrap();
    let done = init(plan(folder.path(), Root::Here(root()), Unlock::Nothing)).await.unwrap();
    assert_eq!(done.installation.anchors, AnchorClass::Vendor);
    assert_eq!(broker::init::anchors(&done.installation).unwrap().class(), AnchorClass::Vendor);
    assert!(done.requests.is_none());
    assert_eq!(open(folder.path(), &Unlock::Nothing), Ok(()));
    let again = init(plan(folder.path(), Root::Here(root()), Unlock::Nothing)).await;
    assert_eq!(again.map(drop), Err(InitError::NotEmpty(folder.path().to_owned())));
}

#[tokio::test]
async fn a_test_installation_has_a_root_of_amds_of_intels_or_both() {
    let folder = tempfile::tempdir().unwrap();
    let amd = || TestAnchor { product: "Genoa".into(), certificate: platform().ark_der() };
    let intel = || TestAnchor { product: TestAnchor::INTEL.into(), certificate: SoftTdx::new().root_der() };
    let mut number = 0;
    let mut try_with = |test_anchors: Vec<TestAnchor>| {
        number += 1;
        let plan = Plan { test_anchors, ..plan(&folder.path().join(number.to_string()), Root::Here(root()), Unlock::Nothing) };
        init(plan)
    };
    for roots in [vec![amd()], vec![intel()], vec![amd(), intel()]] {
        let made = try_with(roots.clone()).await.unwrap().installation;
        assert_eq!((made.anchors, &made.test_anchors), (AnchorClass::Test, &roots));
        assert_eq!(broker::init::anchors(&made).unwrap().class(), AnchorClass::Test);
    }
    assert_eq!(try_with(vec![intel(), intel()]).await.map(drop), Err(InitError::IntelTwice(2)));
    // Each vendor's root in the other's place, and a name that is nobody's.
    for crossed in [TestAnchor { certificate: amd().certificate, ..intel() }, TestAnchor { certificate: intel().certificate, ..amd() }] {
        assert!(matches!(try_with(vec![crossed]).await.map(drop), Err(InitError::Anchor(_))));
    }
    let unknown = TestAnchor { product: "intel".into(), ..intel() };
    assert_eq!(try_with(vec![unknown]).await.map(drop), Err(InitError::Product("intel".into())));
}

#[tokio::test]
async fn what_init_writes_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    init(plan(&data, Root::Here(root()), Unlock::Nothing)).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o077;
    for file in ["", "keys", "keys/sealing.key", "keys/log.key", "admin.token", "store.sqlite"] {
        assert_eq!(mode(&data.join(file)), 0, "{file}");
    }
}

/// What `portcullis certify` does with the requests, on the machine that has the root key.
fn certified(requests: &Path, by: &protocol::keys::SigningKey) -> Vec<SignedDocument> {
    let bodies: Vec<CertificateBody> = serde_json::from_slice(&std::fs::read(requests).unwrap()).unwrap();
    bodies.iter().map(|body| SignedDocument::sign(body, by).unwrap()).collect()
}

#[tokio::test]
async fn the_root_key_can_stay_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let done = init(plan(&data, Root::Elsewhere(*root().public()), Unlock::Nothing)).await.unwrap();
    let requests = done.requests.unwrap();
    assert_eq!(open(&data, &Unlock::Nothing), Err(CustodyError::NotCertified { purpose: "identity", last: None }));
    let stranger = install_certificates(&data, certified(&requests, &key(9)), clock::now()).map(drop);
    let expected = CertificateError::Document(DocumentError::UnknownSigner { found: key(9).public().id() });
    assert_eq!(stranger, Err(InitError::Certificate(expected)));
    let late = clock::now().plus(2 * HOUR);
    let expired = install_certificates(&data, certified(&requests, &root()), late).map(drop);
    assert!(matches!(expired, Err(InitError::Certificate(CertificateError::Window { .. }))));
    assert!(open(&data, &Unlock::Nothing).is_err(), "none of them was taken");
    install_certificates(&data, certified(&requests, &root()), clock::now()).unwrap();
    assert_eq!(open(&data, &Unlock::Nothing), Ok(()));
    let twice = install_certificates(&data, certified(&requests, &root()), clock::now()).unwrap();
    assert_eq!(twice.certificates.len(), 3);
}

#[tokio::test]
async fn certificates_of_another_installation_of_the_same_root_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    let done = init(plan(&ours, Root::Elsewhere(*root().public()), Unlock::Nothing)).await.unwrap();
    let elsewhere = Plan { name: name("other"), ..plan(&theirs, Root::Elsewhere(*root().public()), Unlock::Nothing) };
    let elsewhere = init(elsewhere).await.unwrap();
    let refused = install_certificates(&ours, certified(&elsewhere.requests.unwrap(), &root()), clock::now()).map(drop);
    assert!(matches!(refused, Err(InitError::OtherInstallation { .. })));
    assert!(install_certificates(&ours, certified(&done.requests.unwrap(), &root()), clock::now()).is_ok());
}

#[tokio::test]
async fn a_key_that_was_put_in_the_place_of_a_certified_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    for data in [&ours, &theirs] {
        init(plan(data, Root::Here(root()), Unlock::Nothing)).await.unwrap();
    }
    for (kind, purpose) in [("identity", "identity"), ("log", "log"), ("sealing", "sealing")] {
        let file = format!("keys/{kind}.key");
        let own = std::fs::read(ours.join(&file)).unwrap();
        std::fs::copy(theirs.join(&file), ours.join(&file)).unwrap();
        assert_eq!(open(&ours, &Unlock::Nothing), Err(CustodyError::NotCertified { purpose, last: None }), "{kind}");
        std::fs::write(ours.join(&file), own).unwrap();
        assert_eq!(open(&ours, &Unlock::Nothing), Ok(()));
    }
}

#[tokio::test]
async fn keys_open_with_the_passphrase_or_key_file_that_protects_them_and_with_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let passphrase = |text: &str| Unlock::Passphrase(Zeroizing::new(text.to_owned()));
    let key_file = |byte: u8| Unlock::KeyFile(Zeroizing::new(vec![byte; 64]));
    for (number, right, wrong) in [(1, passphrase("right"), passphrase("wrong")), (2, key_file(1), key_file(2))] {
        let data = folder.path().join(number.to_string());
        init(plan(&data, Root::Here(root()), clone(&right))).await.unwrap();
        assert_eq!(open(&data, &right), Ok(()));
        let refused = |unlock: &Unlock| match open(&data, unlock) {
            Err(CustodyError::Key { error, .. }) => error,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(&wrong), KeyFileError::WrongUnlock);
        assert!(matches!(refused(&Unlock::Nothing), KeyFileError::OtherUnlock { .. }));
        let sealing = std::fs::read_to_string(data.join("keys/sealing.key")).unwrap();
        std::fs::write(data.join("keys/sealing.key"), sealing.replace("\"public\": \"", "\"public\": \"A")).unwrap();
        assert_eq!(refused(&right), KeyFileError::WrongUnlock, "what a file says of itself is bound to it");
    }
}

fn clone(unlock: &Unlock) -> Unlock {
    match unlock {
        Unlock::Nothing => Unlock::Nothing,
        Unlock::Passphrase(text) => Unlock::Passphrase(text.clone()),
        Unlock::KeyFile(bytes) => Unlock::KeyFile(bytes.clone()),
    }
}

#[test]
fn a_passphrase_is_the_first_line_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passphrase");
    std::fs::write(&path, "correct horse\nnot this\n").unwrap();
    let config = broker::config::Unlock { passphrase_file: Some(path), key_file: None };
    assert!(matches!(unlock(&config).unwrap(), Unlock::Passphrase(text) if *text == "correct horse"));
}

fn portcullis_broker(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis-broker")).args(args).output().unwrap()
}

#[test]
fn every_sample_configuration_is_well_formed() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut samples: Vec<PathBuf> = std::fs::read_dir(examples).unwrap().map(|file| file.unwrap().path()).collect();
    samples.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    assert!(samples.len() >= 2, "{samples:?}");
    for sample in samples {
        let output = portcullis_broker(&["check-config", "--syntax-only", sample.to_str().unwrap()]);
        assert!(output.status.success(), "{}: {}", sample.display(), String::from_utf8_lossy(&output.stderr));
    }
}

/// Serves as a process of its own until it says that it listens or ends, and then until SIGTERM.
fn serve_until_listening(config: &Path) -> Result<(), String> {
    let serve = ["serve", "--config", config.to_str().unwrap()];
    let mut process = Command::new(env!("CARGO_BIN_EXE_portcullis-broker")).args(serve).stderr(Stdio::piped()).spawn().unwrap();
    let (mut lines, mut said) = (BufReader::new(process.stderr.take().unwrap()).lines(), String::new());
    for line in lines.by_ref() {
        said += &line.unwrap();
        if said.contains("\"message\":\"listening\"") {
            let stopped = Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap();
            assert!(stopped.success());
            break;
        }
    }
    lines.for_each(drop);
    if process.wait().unwrap().success() { Ok(()) } else { Err(said) }
}

#[tokio::test]
async fn a_broker_keeps_its_last_checkpoint_beside_the_store_and_does_not_start_on_an_older_one() {
    let house = House::with_llama().await;
    let config = house.data().join("broker.toml");
    let sample = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, sample.replace("127.0.0.1:8443", "127.0.0.1:0")).unwrap();
    let old = house.folder_copy();
    assert_eq!(serve_until_listening(&config), Ok(()));
    assert!(house.data().join("log.checkpoint").exists());
    assert_eq!(serve_until_listening(&config), Ok(()), "a restart continues it");
    house.put_back(&old);
    let said = serve_until_listening(&config).unwrap_err();
    assert!(said.contains("does not continue the checkpoint"), "{said}");
    std::fs::write(house.data().join("log.checkpoint"), "not a checkpoint").unwrap();
    let said = serve_until_listening(&config).unwrap_err();
    assert!(said.contains("kept beside the store does not verify"), "{said}");
}

#[tokio::test]
async fn check_config_reads_what_a_configuration_names() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    init(plan(&data, Root::Elsewhere(*root().public()), Unlock::Nothing)).await.unwrap();
    let config = data.join("broker.toml");
    let check = || portcullis_broker(&["check-config", config.to_str().unwrap()]);
    let said = String::from_utf8(check().stderr).unwrap();
    assert!(said.contains("has not certified the identity key"), "{said}");
    install_certificates(&data, certified(&data.join("requests.json"), &root()), clock::now()).unwrap();
    let output = check();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().contains("anchor class vendor"));
    let other_root = std::fs::read_to_string(&config).unwrap().replace(&root().public().to_string(), &key(9).public().to_string());
    std::fs::write(&config, other_root).unwrap();
    let said = String::from_utf8(check().stderr).unwrap();
    assert!(said.contains("pins root"), "{said}");
}
