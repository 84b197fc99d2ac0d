//! What a broker does not take from whoever holds its administrative token: the token is no reason to believe a document.

mod world;

use portcullis_tests::arguments;
use portcullis_tests::installation::{MODEL, POLICY};
use portcullis_tests::machine::Machine;
use portcullis_tests::policy::Draft;
use portcullis_tests::programs::Ended;
use protocol::documents::StatementBody;
use protocol::dsse::SignedDocument;
use protocol::envelope::{Envelope, RecordFile};
use protocol::keyfile::{KeyFile, Unlock};
use protocol::keys::SigningKey;
use serde_json::Value;
use world::{GENUINE, World, assert_exit};

/// A command that the broker refused, by this code and in words that hold this.
fn assert_refused(ended: &Ended, code: &str, what: &str) {
    assert_exit(ended, 1);
    assert!(ended.stderr.contains(&format!("the broker refused ({code})")) && ended.stderr.contains(what), "{}", ended.stderr);
    assert_eq!(ended.stderr.contains("token"), code == "admin-token", "{}", ended.stderr);
}

fn record(world: &World, name: &str) -> Value {
    serde_json::from_str(&world.installation.read(name).unwrap()).unwrap()
}

fn publish(world: &World, record: &Value) -> Ended {
    world.installation.write("hostile.json", record.to_string().as_bytes()).unwrap();
    world.installation.command(arguments!["publish", "hostile.json"]).unwrap()
}

#[test]
fn an_envelope_that_was_moved_to_another_statement_is_refused() {
    let world = World::with_model();
    world.publish("acme/other", 1, "other", 2);
    let (own, other) = (record(&world, "sealed.record.json"), record(&world, "other.record.json"));
    let source = world.installation.path("other.plain");
    world.installation.seal(&source, "acme/new", 1, "new").unwrap();
    let new = record(&world, "new.record.json");

    let mut moved = new.clone();
    moved["envelope"] = other["envelope"].clone();
    assert_refused(&publish(&world, &moved), "envelope-of-another-statement", "the envelope belongs to statement");
    // The same, and the envelope says that it is this statement's.
    moved["envelope"]["statement"] = new["envelope"]["statement"].clone();
    assert_refused(&publish(&world, &moved), "envelope-does-not-open", "");
    let mut flipped = new.clone();
    flipped["envelope"]["recipients"] = own["envelope"]["recipients"].clone();
    assert_refused(&publish(&world, &flipped), "envelope-does-not-open", "");
    assert_exit(&publish(&world, &new), 0);
}

#[test]
fn a_statement_that_was_signed_again_under_another_name_releases_nothing() {
    let world = World::with_model();
    let file: RecordFile = serde_json::from_str(&world.installation.read("sealed.record.json").unwrap()).unwrap();
    let key = KeyFile::parse(world.installation.read("publisher.key").unwrap().as_bytes()).unwrap();
    let seed = key.open("publisher", &Unlock::Nothing).unwrap();
    let publisher = SigningKey::from_seed(&seed).unwrap();
    let body = file.statement.authenticate::<StatementBody>(&[*publisher.public()]).unwrap().body().clone();
    // By the trusted publisher itself, over an envelope that it did not make.
    let again = |body: &StatementBody| {
        let statement = SignedDocument::sign(body, &publisher).unwrap();
        let envelope = Envelope { statement: statement.digest(), ..file.envelope.clone() };
        publish(&world, &serde_json::to_value(RecordFile { statement, envelope }).unwrap())
    };
    let other_name = StatementBody { name: "acme/mine".parse().unwrap(), ..body.clone() };
    assert_refused(&again(&other_name), "envelope-does-not-open", "");
    let other_policy = StatementBody { policy: "lax".parse().unwrap(), version: "2".parse().unwrap(), ..body.clone() };
    assert_refused(&again(&other_policy), "envelope-does-not-open", "");
    // The very statement is what the broker has already.
    assert_refused(&again(&body), "already-in-force", "");
}

#[test]
fn a_record_by_a_publisher_that_does_not_speak_for_its_name_is_refused() {
    let world = World::with_model();
    let source = world.installation.path("sealed.plain");
    world.installation.seal(&source, "globex/model", 1, "foreign").unwrap();
    assert_refused(&publish(&world, &record(&world, "foreign.record.json")), "name-not-covered", "globex/model");
    world.installation.seal(&source, "acme/model", 1, "own").unwrap();
    let own = record(&world, "own.record.json");
    // Another publisher's signature, under the trusted publisher's name.
    let mut forged = own.clone();
    forged["statement"]["signatures"][0]["sig"] = record(&world, "sealed.record.json")["statement"]["signatures"][0]["sig"].clone();
    assert_refused(&publish(&world, &forged), "document-refused", "does not verify");
    assert_exit(&publish(&world, &own), 0);
}

#[test]
fn a_policy_by_another_authority_is_refused_and_so_is_an_older_one() {
    let world = World::with_model();
    world.installation.command(arguments!["keygen", "--kind", "authority", "--out", "stranger"]).unwrap().expect(0).unwrap();
    let put = |version: &str, key: &str| {
        let put = arguments!["policy", "put", "policy.toml", "--name", POLICY, "--version", version, "--authority-key", key];
        world.installation.command(put).unwrap()
    };
    assert_refused(&put("50", "stranger.key"), "document-refused", "which is not trusted for it");
    assert_exit(&put("50", "authority.key"), 0);
    assert_refused(&put("49", "authority.key"), "version-not-higher", "49");
    assert_exit(&put("51", "authority.key"), 0);
}

#[test]
fn without_the_token_nothing_is_put_and_nothing_told() {
    let world = World::with_model();
    world.installation.write("wrong.token", b"AAAA\n").unwrap();
    let wrong = |command: &[&str]| {
        let command = command.iter().copied().chain(["--token-file", "wrong.token"]).map(std::ffi::OsString::from);
        world.installation.command(command.collect::<Vec<_>>()).unwrap()
    };
    for command in [&["list"][..], &["policy", "get", POLICY], &["publish", "sealed.record.json"]] {
        assert_refused(&wrong(command), "admin-token", "token");
        assert!(wrong(command).stdout.is_empty());
    }
    assert_exit(&world.installation.command(arguments!["list"]).unwrap(), 0);
}

#[test]
fn a_new_policy_decides_from_the_next_request_on() {
    let world = World::with_model();
    assert_exit(&world.check(), 0);
    let digest = world.installation.config_digest("guest.toml").unwrap();
    let stricter = Draft { firmware: 25, ..Draft::accepting(&Machine::default(), &[&digest]) };
    world.installation.put_policy(60, &stricter).unwrap();
    assert_exit(&world.check_as("guest.toml", GENUINE, MODEL), 3);
    world.installation.put_policy(61, &Draft { firmware: 24, ..stricter }).unwrap();
    assert_exit(&world.check_as("guest.toml", GENUINE, MODEL), 0);
}
