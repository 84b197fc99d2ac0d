//! A guest whose configuration requires a model's maker to have signed it: whichever way the model is served, it is not served without.

mod world;

use std::fs;

use portcullis_tests::arguments;
use portcullis_tests::installation::{MODEL, whose};
use portcullis_tests::machine::Tee;
use portcullis_tests::policy;
use portcullis_tests::programs::Ended;
use testbed::maker::{Maker, SIGNATURE};
use testbed::model::{self, Extras, ModelShape};
use world::{GENUINE, World, assert_exit, can_mount, plaintext};

/// A world in which [`MODEL`] is unsigned in version 1, by a stranger in 2, by the required maker in 3.
fn world(contents: &str) -> World {
    let world = World::with_model();
    let (maker, stranger) = (Maker::named("maker"), Maker::named("stranger"));
    for (version, signer) in [(2u32, &stranger), (3, &maker)] {
        let source = world.installation.path(&format!("signed{version}"));
        let files = model::write(&source, &ModelShape { seed: version.into(), shard_bytes: 300_000, extras: Extras::Nested }).unwrap();
        let (odd, files): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| !file.path.is_ascii());
        odd.iter().for_each(|file| fs::remove_file(source.join(&file.path)).unwrap());
        fs::write(source.join(SIGNATURE), signer.sign(&files)).unwrap();
        world.installation.write("signer.pem", signer.pem().as_bytes()).unwrap();
        let out = format!("sealed{version}");
        let what = arguments!["seal", source, "--model", MODEL, "--version", version.to_string(), "--out", &out];
        let seal = what.into_iter().chain(arguments!["--require-signed-by", "signer.pem"]).chain(whose());
        assert_exit(&world.installation.command(seal).unwrap(), 0);
        world.installation.publish(&format!("{out}.record.json")).unwrap();
    }
    let table = format!("[[model-signers]]\nmodel = \"{MODEL}\"\ncontents = \"{contents}\"\nkey = \"\"\"\n{}\"\"\"\n", maker.pem());
    world.installation.write_guest("guest.toml", &format!("{}{table}", plaintext(&world.room))).unwrap();
    let digest = world.installation.config_digest("guest.toml").unwrap();
    world.installation.put_policy_text(9, &policy::accepting(Tee::Snp, &[&digest])).unwrap();
    world
}

fn guest(world: &World, command: &str, more: &[&str]) -> Ended {
    let how = arguments![command, "--config", "guest.toml", "--evidence", format!("agent:{GENUINE}"), "--retry-for", "0"];
    world.installation.guest(how.into_iter().chain(more.iter().map(std::ffi::OsString::from))).unwrap()
}

fn assert_refused(ended: &Ended, code: &str) {
    assert_exit(ended, 5);
    assert!(ended.stderr.contains(&format!("({code})")), "{}", ended.stderr);
}

#[test]
fn neither_a_mount_nor_an_engine_begins_without_the_required_signature() {
    if !can_mount() {
        return;
    }
    for contents in ["hashed", "publisher-vouches"] {
        let world = world(contents);
        let at = world.to("mounted");
        for (version, sealed, code) in [(1, "sealed", "model-signature-missing"), (2, "sealed2", "model-signature-other-key")] {
            let model = format!("{MODEL}@{version}");
            let mount = guest(&world, "mount", &["--model", &model, "--sealed", sealed, "--at", at.to_str().unwrap()]);
            assert_refused(&mount, code);
            assert!(!at.exists(), "nothing was mounted");
            let place = format!("{model}={}", at.display());
            let engine = guest(&world, "exec", &["--mount", &place, "--sealed", sealed, "--", "echo", "the engine ran"]);
            assert_refused(&engine, code);
            assert!(!engine.stdout.contains("the engine ran"));
        }
        let (place, config) = (format!("{MODEL}@3={}", at.display()), at.join("config.json"));
        let engine = guest(&world, "exec", &["--mount", &place, "--sealed", "sealed3", "--", "cat", config.to_str().unwrap()]);
        assert_exit(&engine, 0);
        assert!(engine.stdout.contains("LlamaForCausalLM"), "{}", engine.stdout);
    }
}
