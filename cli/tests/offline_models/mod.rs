//! What is sealed and what is not: pickles, caches, signatures of the model's maker; and two versions side by side.

use std::path::PathBuf;
use std::process::Command;

use super::Installation;
use cli::Exit;
use testbed::model::SHARDS;

/// What is said first wherever a test installation's broker is sealed for.
const LOUD: &str = "warning: TEST ROOTS: installation acme trusts soft platforms; seal nothing of value for it\n";

#[test]
fn pickles_are_refused_by_name_and_sealed_when_told() {
    let installation = Installation::new();
    installation.model();
    installation.desk.write("model/pytorch_model.bin", "anything");
    installation.desk.write("model/extra", b"\x80\x04K\x01.");
    let err = LOUD.to_owned()
        + "error: loading these files runs code: extra (starts as a pickle of protocol 4), pytorch_model.bin (named .bin)\n\
               hint: convert the weights to safetensors and leave these files out; or accept what they run by --allow-pickle\n";
    installation.seal("").refused(Exit::Failed, &err);
    assert!(!installation.desk.path("sealed").exists() && !installation.desk.path("sealed.record.json").exists());
    installation.seal("--allow-pickle").done();
}

#[test]
fn a_damaged_safetensors_file_is_not_sealed() {
    let installation = Installation::new();
    installation.model();
    let shard = SHARDS[1];
    let path = installation.desk.path("model").join(shard);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let ran = installation.seal("");
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.starts_with(&format!("{LOUD}error: {shard} is no safetensors file: the tensors take ")), "{}", ran.err);
    std::fs::write(&path, whole).unwrap();
    installation.seal("").done();
}

#[test]
fn inspect_shows_tensors_and_the_policy_of_the_record_beside_the_folder() {
    let installation = Installation::new();
    installation.model();
    installation.seal("").done();
    let desk = &installation.desk;
    let json = desk.run("inspect ./sealed --json --publisher ./publisher.pub").done().json();
    let shards: Vec<_> = json["files"].as_array().unwrap().iter().filter(|file| !file["tensors"].is_null()).collect();
    assert_eq!(shards.len(), 2, "{json}");
    let parameters: u64 = shards.iter().map(|file| file["tensors"]["parameters"].as_u64().unwrap()).sum();
    assert_eq!(json["tensors"]["parameters"].as_u64(), Some(parameters));
    assert!(parameters > 0 && json["model_signature"].is_null());
    assert_eq!(json["record"]["says"]["policy"], "inference");
    let text = desk.run("inspect ./sealed").done().out;
    assert!(text.contains("policy ") && text.contains("inference by ed25519:") && text.contains("TENSORS"), "{text}");
    std::fs::rename(desk.path("sealed.record.json"), desk.path("first.json")).unwrap();
    std::fs::rename(desk.path("sealed"), desk.path("first")).unwrap();
    installation.seal("").done();
    let other = desk.run("inspect ./sealed --record ./first.json");
    assert_eq!(other.exit, Exit::Failed);
    assert!(other.err.contains("is of manifest") && other.err.contains("hint: name this folder's own record"), "{}", other.err);
    desk.run("inspect ./first --record ./first.json").done();
}

#[test]
fn inspect_shows_a_folder_of_plaintext_as_what_it_is() {
    let installation = Installation::new();
    let made = installation.model();
    let desk = &installation.desk;
    let json = desk.run("inspect ./model --json").done().json();
    assert_eq!((&json["kind"], &json["sealed"]), (&"plaintext".into(), &false.into()));
    let shown: Vec<_> = json["files"].as_array().unwrap().iter().map(|file| (file["path"].as_str(), file["bytes"].as_u64())).collect();
    let mut expected: Vec<_> = made.iter().map(|file| (Some(file.path.as_str()), Some(file.size))).collect();
    expected.sort_unstable();
    assert_eq!(shown, expected);
    assert_eq!(json["bytes"].as_u64(), Some(made.iter().map(|file| file.size).sum()));
    // The same tensors as the sealed folder's manifest says.
    installation.seal("").done();
    let sealed = desk.run("inspect ./sealed --json").done().json();
    assert!(json["tensors"]["dtypes"]["BF16"].as_u64() > Some(0), "{json}");
    assert_eq!(json["tensors"], sealed["tensors"]);
    let text = desk.run("inspect ./model").done().out;
    assert!(text.contains("not sealed: plaintext, without a manifest") && text.contains("TENSORS") && text.contains(SHARDS[0]), "{text}");
    assert!(!text.contains("runs code") && !text.contains("damaged"), "{text}");
    // What seal would refuse is said, and nothing is refused for it.
    desk.write("model/pytorch_model.bin", "anything");
    let json = desk.run("inspect ./model --json").done().json();
    let of =
        |json: &serde_json::Value, path: &str| json["files"].as_array().unwrap().iter().find(|file| file["path"] == path).unwrap().clone();
    assert_eq!(of(&json, "pytorch_model.bin")["runs_code"], "named .bin");
    assert!(of(&json, "config.json")["runs_code"].is_null());
    // Whoever expects a sealed folder is not shown another.
    for expecting in ["--publisher ./publisher.pub", "--record ./sealed.record.json"] {
        let ran = desk.run(&format!("inspect ./model {expecting}"));
        assert_eq!((ran.exit, ran.out.as_str()), (Exit::Usage, ""), "{}", ran.err);
        assert!(ran.err.contains("hint: a sealed folder has its manifest at the top"), "{}", ran.err);
    }
}

#[test]
fn inspect_names_a_damaged_file_of_plaintext_after_all_others_were_shown() {
    let installation = Installation::new();
    installation.model();
    let desk = &installation.desk;
    let path = desk.path("model").join(SHARDS[0]);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let ran = desk.run("inspect ./model");
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.out.contains(SHARDS[1]) && ran.out.contains("damaged: the tensors take"), "{}", ran.out);
    assert!(ran.err.starts_with(&format!("error: {} is no safetensors file: the tensors take", SHARDS[0])), "{}", ran.err);
    let json = desk.run("inspect ./model --json").json();
    assert!(json["files"].as_array().unwrap().iter().any(|file| file["path"] == SHARDS[0] && !file["damaged"].is_null()), "{json}");
    // A sealed folder that lost its manifest is no plaintext of a model.
    std::fs::write(&path, whole).unwrap();
    installation.seal("").done();
    std::fs::remove_file(desk.path("sealed/portcullis-manifest.json")).unwrap();
    assert_eq!(desk.run("inspect ./sealed").exit, Exit::Failed);
    // What cannot be sealed at all is said as seal says it.
    std::os::unix::fs::symlink("config.json", desk.path("model/link")).unwrap();
    let ran = desk.run("inspect ./model");
    assert!(ran.exit == Exit::Failed && ran.err.contains("hint: copy the folder with links followed"), "{}", ran.err);
}

#[test]
fn diff_says_by_its_exit_code_whether_a_difference_shows() {
    let installation = Installation::new();
    installation.model();
    installation.seal("").done();
    let desk = &installation.desk;
    let keep = |name: &str| {
        std::fs::rename(desk.path("sealed"), desk.path(name)).unwrap();
        std::fs::remove_file(desk.path("sealed.record.json")).unwrap();
    };
    keep("one");
    let same = desk.run("diff ./one ./one --json").done().json();
    assert_eq!((same["different"].as_bool(), same["files"][0]["change"].as_str()), (Some(false), Some("same")));
    installation.seal("").done();
    keep("again");
    let alike = desk.run("diff ./one ./again --publisher ./publisher.pub --json").done().json();
    assert!(alike["files"].as_array().unwrap().iter().all(|file| file["change"] == "alike"), "other keys, and nothing else that shows");
    desk.write("model/added.json", "{}");
    desk.write("model/config.json", "{\"other\": 1}");
    std::fs::remove_file(desk.path("model/tokenizer.json")).unwrap();
    installation.seal("").done();
    keep("two");
    let ran = desk.run("diff ./one ./two --json");
    assert_eq!(ran.exit, Exit::Failed);
    let json = ran.json();
    let change = |path: &str| {
        let files = json["files"].as_array().unwrap();
        files.iter().find(|file| file["path"] == path).unwrap()["change"].as_str().unwrap().to_owned()
    };
    assert_eq!(["added.json", "config.json", "tokenizer.json"].map(change), ["added", "changed", "removed"]);
    let text = desk.run("diff ./one ./two").out;
    assert!(text.contains("CHANGE") && text.contains("added") && text.contains(" -> "), "{text}");
    let ran = desk.run("diff ./one ./model");
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("model: there is no manifest"), "{}", ran.err);
}

#[test]
fn a_repositorys_folder_in_a_cache_is_sealed_as_its_main_revision() {
    let installation = Installation::new();
    installation.model();
    let desk = &installation.desk;
    let repository = desk.path("models--acme--tiny");
    let snapshot = repository.join("snapshots/0123456789");
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::create_dir_all(repository.join("blobs")).unwrap();
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(repository.join("refs/main"), "0123456789").unwrap();
    for (number, entry) in std::fs::read_dir(desk.path("model")).unwrap().enumerate() {
        let entry = entry.unwrap();
        std::fs::rename(entry.path(), repository.join(format!("blobs/{number}"))).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{number}"), snapshot.join(entry.file_name())).unwrap();
    }
    std::fs::remove_dir(desk.path("model")).unwrap();
    std::fs::rename(&repository, desk.path("model")).unwrap();
    assert_eq!(installation.seal("").exit, Exit::Failed, "a folder of another name is no cache");
    std::fs::rename(desk.path("model"), &repository).unwrap();
    let command = |source: &str| {
        desk.run(&format!(
            "seal {source} --model acme/llama --version 3 --out ./sealed --publisher-key ./publisher.key --policy inference \
             --authority ./authority.pub --installation ./installation.json --root ./root.pub"
        ))
    };
    let bad = command("hf:acme/tiny/more");
    assert_eq!((bad.exit, bad.err.contains("hint: hf:ORG/NAME")), (Exit::Usage, true), "{}", bad.err);
    command("./models--acme--tiny").done();
    let json = desk.run("inspect ./sealed --json").done().json();
    assert!(json["files"].as_array().unwrap().iter().any(|file| file["path"] == "config.json"));
}

/// A Python that has the other implementation, `model-signing`; a line where there is none.
fn other_implementation() -> Option<PathBuf> {
    let named = std::env::var_os("PORTCULLIS_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| "python3".into());
    let there = Command::new(&python).args(["-c", "import model_signing"]).output().is_ok_and(|ran| ran.status.success());
    if !there {
        println!("skipped: no Python with the package model-signing (PORTCULLIS_PYTHON names one)");
    }
    there.then_some(python)
}

fn openssl(arguments: &[&str]) {
    let ran = Command::new("openssl").args(arguments).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn a_model_that_the_other_implementation_signed_is_sealed_and_no_other() {
    let Some(python) = other_implementation() else { return };
    if Command::new("openssl").arg("version").output().is_err() {
        return println!("skipped: no openssl to make keys with");
    }
    for (curve, name) in [("prime256v1", "P-256"), ("secp384r1", "P-384"), ("secp521r1", "P-521")] {
        let installation = Installation::new();
        installation.model();
        let desk = &installation.desk;
        let path = |name: &str| desk.path(name).display().to_string();
        for key in ["maker", "stranger"] {
            openssl(&["ecparam", "-genkey", "-name", curve, "-noout", "-out", &path(&format!("{key}.key.pem"))]);
            openssl(&["ec", "-in", &path(&format!("{key}.key.pem")), "-pubout", "-out", &path(&format!("{key}.pem"))]);
        }
        let mut sign = Command::new(&python);
        sign.args(["-m", "model_signing", "sign", "key", &path("model"), "--signature", &path("model/model.sig")]);
        let signed = sign.args(["--private_key", &path("maker.key.pem")]).output().unwrap();
        assert!(signed.status.success(), "{name}: {}", String::from_utf8_lossy(&signed.stderr));
        let other = installation.seal("--require-signed-by ./stranger.pem");
        assert_eq!(other.exit, Exit::Failed, "{name}");
        assert!(other.err.starts_with(&format!("{LOUD}error: the signature names key ")), "{}", other.err);
        let ran = installation.seal("--require-signed-by ./maker.pem").done();
        assert!(ran.out.contains("model.sig), every file verified"), "{}", ran.out);
        let json = desk.run("inspect ./sealed --json").done().json();
        assert_eq!(json["model_signature"]["path"], "model.sig");
        std::fs::remove_dir_all(desk.path("sealed")).unwrap();
        std::fs::remove_file(desk.path("sealed.record.json")).unwrap();
        desk.write("model/config.json", "{}");
        let changed = installation.seal("--require-signed-by ./maker.pem");
        assert!(changed.err.starts_with(&format!("{LOUD}error: config.json is not what was signed: ")), "{}", changed.err);
        assert!(!desk.path("sealed").exists());
    }
}

#[test]
fn a_required_signer_needs_a_key_and_a_signature() {
    let installation = Installation::new();
    installation.model();
    installation.desk.write("none.pem", "no key");
    let ran = installation.seal("--require-signed-by ./none.pem");
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("not one PEM block") && ran.err.contains("hint: as `openssl ec -pubout`"), "{}", ran.err);
    assert_eq!(installation.seal("--signature ./model.sig").exit, Exit::Usage, "a signature by nobody in particular");
}
