//! The whole path, in real processes: seal, publish, release, open; restarts, audits, and a guest that remembers.

mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use portcullis_tests::arguments;
use portcullis_tests::installation::MODEL;
use portcullis_tests::machine::{Machine, SoftMachine};
use portcullis_tests::policy::Draft;
use protocol::encoding::to_base64;
use testbed::model;
use world::{GENUINE, World, assert_exit, plaintext, text};

#[test]
fn a_sealed_model_is_published_released_and_opened_byte_for_byte() {
    let world = World::new();
    let files = world.publish(MODEL, 1, "sealed", 1);
    let to = world.to("model");
    let ended = world.installation.unseal("guest.toml", GENUINE, MODEL, "sealed", &to).unwrap();
    assert_exit(&ended, 0);
    assert_eq!((text(&ended, "/result"), text(&ended, "/model")), ("unsealed".into(), MODEL.into()));
    assert_eq!(model::read(&to).unwrap(), files);
    // A second guest process of the same VM gets it too, elsewhere; never over what is there.
    let again = world.installation.unseal("guest.toml", GENUINE, MODEL, "sealed", &to).unwrap();
    assert_exit(&again, 1);
    assert_eq!(model::read(&to).unwrap(), files);
    assert_exit(&world.installation.unseal("guest.toml", GENUINE, MODEL, "sealed", &world.to("second")).unwrap(), 0);
}

#[test]
fn the_highest_version_is_released_unless_another_is_named() {
    let world = World::with_model();
    let second = world.publish(MODEL, 2, "sealed-2", 2);
    let to = world.to("model");
    assert_exit(&world.installation.unseal("guest.toml", GENUINE, MODEL, "sealed-2", &to).unwrap(), 0);
    assert_eq!(model::read(&to).unwrap(), second);
    let first = format!("{MODEL}@1");
    assert_exit(&world.installation.unseal("guest.toml", GENUINE, &first, "sealed", &world.to("first")).unwrap(), 0);
    // The key of one version opens no other version's folder.
    let crossed = world.installation.unseal("guest.toml", GENUINE, &first, "sealed-2", &world.to("crossed")).unwrap();
    assert_exit(&crossed, 1);
    assert!(!world.to("crossed").exists());
}

#[test]
fn a_check_is_decided_and_logged_and_releases_nothing() {
    let world = World::with_model();
    let before: Vec<_> = files_below(world.installation.programs().folder());
    let ended = world.check();
    assert_exit(&ended, 0);
    assert_eq!((text(&ended, "/result"), text(&ended, "/items/0/result")), ("permitted".into(), "permitted".into()));
    assert!(!ended.stdout.contains("secret"), "{}", ended.stdout);
    assert_eq!(fs::read_dir(world.room.path()).unwrap().count(), 0);
    let new: Vec<_> = files_below(world.installation.programs().folder()).into_iter().filter(|file| !before.contains(file)).collect();
    assert!(new.iter().all(|file| file.contains("store.sqlite")), "{new:?}");
    let audit = world.installation.command(arguments!["audit", "verify", "--json"]).unwrap();
    assert_eq!(audit.json().unwrap()["entries"]["permitted"], 1);
}

#[test]
fn a_credential_reaches_a_file_of_its_owner_and_stands_nowhere_else() {
    let world = World::new();
    let secret = b"sk-live-0123456789-never-to-be-seen\n";
    world.installation.seal_credential("acme/openai", secret, "openai.json").unwrap();
    world.installation.publish("openai.json").unwrap();
    let out = world.to("openai");
    let ask = |out: &Path| {
        let how = arguments!["release", "--config", "guest.toml", "--evidence", format!("agent:{GENUINE}"), "--json"];
        world.installation.guest(how.into_iter().chain(arguments!["--credential", "acme/openai", "--out", out])).unwrap()
    };
    let ended = ask(&out);
    assert_exit(&ended, 0);
    assert_eq!(fs::read(&out).unwrap(), secret);
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);

    // Neither as it is nor in base64, in nothing that anybody said or wrote.
    let forms = [String::from_utf8(secret.to_vec()).unwrap().trim().to_owned(), to_base64(secret), to_base64(&secret[..24])];
    let said = [ended.stdout, ended.stderr, world.installation.broker_log(), world.agent.log()];
    let folder = world.installation.programs().folder();
    let mut written = 0;
    for name in files_below(folder) {
        let Ok(bytes) = fs::read(folder.join(&name)) else { continue };
        written += 1;
        assert!(!forms.iter().any(|form| holds(&bytes, form.as_bytes())), "{name} holds the secret");
    }
    assert!(written > 10);
    assert!(said.iter().all(|text| forms.iter().all(|form| !text.contains(form))));
}

#[test]
fn a_denial_goes_to_standard_output_and_to_the_termination_log() {
    let world = World::with_model();
    let denied = Machine::default().with(|machine| machine.policy |= Machine::DEBUG);
    let _agent = denied.start_agent(world.installation.programs(), "denied.sock").unwrap();
    let how = arguments!["check", "--config", "guest.toml", "--evidence", "agent:denied.sock", "--model", MODEL];
    let ended = world.installation.guest(how.into_iter().chain(arguments!["--termination-log", "last-words"])).unwrap();
    assert_exit(&ended, 3);
    let left = world.installation.read("last-words").unwrap();
    for words in [&ended.stdout, &left] {
        for part in ["snp-debug", "hint: launch the guest without the debug bit", "found allowed", "portcullis explain"] {
            assert!(words.contains(part), "{part} is not in: {words}");
        }
    }
    // The variable of the environment, which every program here has, when no flag names a file; a success leaves nothing.
    assert!(!world.installation.path("termination-log").exists());
    assert_exit(&world.check(), 0);
    assert!(!world.installation.path("termination-log").exists());
    assert_exit(&world.check_as("guest.toml", "denied.sock", MODEL), 3);
    assert!(world.installation.read("termination-log").unwrap().contains("snp-debug"));
}

#[test]
fn each_way_to_fail_has_its_exit_code() {
    let mut world = World::with_model();
    // 1: something here.
    assert_exit(&world.check_as("missing.toml", GENUINE, MODEL), 1);
    let to = world.to("model");
    assert_exit(&world.installation.unseal("guest.toml", GENUINE, MODEL, "no-such-folder", &to).unwrap(), 1);
    // 2: wrong use.
    assert_exit(&world.installation.guest(arguments!["check", "--config", "guest.toml"]).unwrap(), 2);
    // 3: denied.
    let unknown = world.check_as("guest.toml", GENUINE, "acme/unknown");
    assert_exit(&unknown, 3);
    assert_eq!(world.failed_checks(&unknown), ["record-known"]);
    // 5: whoever answers is not believed, because this guest pins another root.
    let guest = world.installation.read("guest.toml").unwrap();
    let (own, other) = (world.installation.read("root.pub").unwrap(), world.installation.read("publisher.pub").unwrap());
    world.installation.write("other-root.toml", guest.replace(own.trim(), other.trim()).as_bytes()).unwrap();
    assert_exit(&world.check_as("other-root.toml", GENUINE, MODEL), 5);
    // 6: no evidence, because nobody serves there.
    let none = world.check_as("guest.toml", "nobody.sock", MODEL);
    assert_exit(&none, 6);
    // 4: nobody answers.
    world.installation.stop().unwrap();
    assert_exit(&world.check(), 4);
}

#[test]
fn a_broker_that_was_stopped_or_killed_goes_on_where_it_was() {
    let mut world = World::with_model();
    assert_exit(&world.check(), 0);
    world.installation.stop().unwrap();
    world.installation.start().unwrap();
    world.follow_broker();
    assert_exit(&world.check(), 0);
    world.installation.kill();
    world.installation.start().unwrap();
    world.follow_broker();
    assert_exit(&world.installation.unseal("guest.toml", GENUINE, MODEL, "sealed", &world.to("model")).unwrap(), 0);
    let audit = world.installation.command(arguments!["audit", "verify", "--json"]).unwrap();
    assert_exit(&audit, 0);
    let entries = &audit.json().unwrap()["entries"];
    assert_eq!((entries["permitted"].as_u64(), entries["starts"].as_u64()), (Some(3), Some(3)), "{entries}");
}

#[test]
fn the_log_is_verified_and_an_entry_of_it_proven_offline() {
    let mut world = World::with_model();
    let entry = world.check().json().unwrap()["log_entry"].as_u64().unwrap();
    let verify = arguments!["audit", "verify", "--state", "kept.checkpoint"];
    assert_exit(&world.installation.command(verify.clone()).unwrap(), 0);
    assert_exit(&world.check(), 0);
    let again = world.installation.command(verify).unwrap();
    assert_exit(&again, 0);
    assert!(again.stdout.contains("all still there"), "{}", again.stdout);

    assert_exit(&world.installation.command(arguments!["audit", "prove", entry.to_string(), "--out", "proof.json"]).unwrap(), 0);
    world.installation.stop().unwrap();
    let check = |file: &str| world.installation.command(arguments!["audit", "check-proof", file]).unwrap();
    let proven = check("proof.json");
    assert_exit(&proven, 0);
    // A proof with one other letter in its entry proves nothing.
    let mut proof: serde_json::Value = serde_json::from_str(&world.installation.read("proof.json").unwrap()).unwrap();
    let text = proof.pointer("/receipt/entry").and_then(|entry| entry.as_str()).unwrap().to_owned();
    let flipped = if text.starts_with('A') { 'B' } else { 'A' };
    proof["receipt"]["entry"] = format!("{flipped}{}", &text[1..]).into();
    world.installation.write("forged.json", proof.to_string().as_bytes()).unwrap();
    assert_exit(&check("forged.json"), 1);
}

#[test]
fn a_guest_and_an_auditor_that_remember_catch_a_store_that_was_put_back() {
    let mut world = World::with_model();
    let state = format!("state = \"{}\"\n{}", world.installation.path("state").display(), plaintext(&world.room));
    world.installation.write_guest("remembering.toml", &state).unwrap();
    let digests = ["guest.toml", "remembering.toml"].map(|config| world.installation.config_digest(config).unwrap());
    let digests = digests.each_ref().map(String::as_str);
    world.installation.put_policy(9, &Draft::accepting(&Machine::default(), &digests)).unwrap();
    let audit = arguments!["audit", "verify", "--state", "kept.checkpoint"];

    world.installation.stop().unwrap();
    let old = save(&world);
    restart(&mut world, &state);
    assert_exit(&world.check_as("remembering.toml", GENUINE, MODEL), 0);
    assert_exit(&world.installation.command(audit.clone()).unwrap(), 0);

    // Stopping and starting alone is nothing to notice.
    world.installation.stop().unwrap();
    restart(&mut world, &state);
    assert_exit(&world.check_as("remembering.toml", GENUINE, MODEL), 0);
    assert_exit(&world.installation.command(audit.clone()).unwrap(), 0);

    // The store alone: the broker itself notices, by the checkpoint that it keeps beside it.
    world.installation.stop().unwrap();
    restore(&world, &old, |name| name.starts_with("store.sqlite"));
    let refused = world.installation.start().unwrap_err().to_string();
    assert!(refused.contains("an older store was put back"), "{refused}");

    // Everything that the broker has: then it is whole in itself, and who keeps nothing cannot notice.
    restore(&world, &old, |_| true);
    restart(&mut world, &state);
    assert_exit(&world.check(), 0);
    let caught = world.check_as("remembering.toml", GENUINE, MODEL);
    assert_exit(&caught, 5);
    assert_eq!(text(&caught, "/code"), "log-rolled-back");
    assert_exit(&world.installation.command(audit).unwrap(), 1);
}

#[test]
fn a_broker_whose_store_was_emptied_does_not_serve() {
    let mut world = World::with_model();
    world.installation.stop().unwrap();
    let whole = save(&world);
    fs::write(world.installation.path("broker/store.sqlite"), b"").unwrap();
    assert!(world.installation.start().is_err());
    restore(&world, &whole, |_| true);
    world.installation.start().unwrap();
}

#[test]
fn a_sealed_folder_that_was_changed_is_not_opened_and_leaves_nothing() {
    let world = World::with_model();
    let shard = world.installation.path("sealed").join(model::SHARDS[0]);
    let whole = fs::read(&shard).unwrap();
    let mut flipped = whole.clone();
    flipped[150_000] ^= 1;
    fs::write(&shard, &flipped).unwrap();
    let to = world.to("model");
    let ended = world.installation.unseal("guest.toml", GENUINE, MODEL, "sealed", &to).unwrap();
    assert_exit(&ended, 1);
    assert!(ended.stderr.contains("was not opened"), "{}", ended.stderr);
    assert_eq!(fs::read_dir(world.room.path()).unwrap().count(), 0, "something was left behind");
    fs::write(&shard, &whole).unwrap();
    assert_exit(&world.installation.unseal("guest.toml", GENUINE, MODEL, "sealed", &to).unwrap(), 0);
}

/// Starts the broker, which has another address now, and tells both guests.
fn restart(world: &mut World, state: &str) {
    world.installation.start().unwrap();
    world.follow_broker();
    world.installation.write_guest("remembering.toml", state).unwrap();
}

/// The files of the broker's data folder but for its keys, with their content.
fn save(world: &World) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(world.installation.path("broker")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Puts back what was saved, as far as it is `of_interest` by its name; what is newer goes.
fn restore(world: &World, saved: &[(PathBuf, Vec<u8>)], of_interest: fn(&str) -> bool) {
    let is_of_interest = |path: &Path| of_interest(&path.file_name().unwrap().to_string_lossy());
    for (path, _) in save(world).iter().filter(|(path, _)| is_of_interest(path)) {
        fs::remove_file(path).unwrap();
    }
    for (path, bytes) in saved.iter().filter(|(path, _)| is_of_interest(path)) {
        fs::write(path, bytes).unwrap();
    }
}

/// The names of all files below a folder.
fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { waiting.push(path) } else { found.push(path.strip_prefix(folder).unwrap().display().to_string()) }
        }
    }
    found
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
