//! Models that must bear their maker's signature: verified before a byte of them is written.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use models_manifest::folder::SealFolder;
use models_manifest::signature::ModelSigner;
use models_manifest::{Backend, ChunkSize, MANIFEST_NAME, ModelRules, Pickles, RequiredSignature, Silent, Workers, seal_model};
use protocol::encoding::sha256;
use protocol::ids::Version;
use rustix::process::{Pid, Signal, kill_process};
use testbed::maker::{Maker, SIGNATURE};
use testbed::model::ModelFile;
use testbed::services::storage::{Storage, Trick};

use super::support::{PUBLISHER, Record};
use super::{Guest, assert_exit, ended, guest, list, text, until};

const CONFIG: &str = "{\"hidden_size\": 8}";

/// What a maker signs: `config.json` alone.
fn files() -> [ModelFile; 1] {
    [ModelFile { path: "config.json".to_owned(), size: CONFIG.len() as u64, sha256: *sha256(CONFIG.as_bytes()).as_bytes() }]
}

fn signer(maker: &Maker) -> ModelSigner {
    maker.pem().parse().unwrap()
}

impl Guest {
    /// Seals a model, under the maker's signature where there is one, and gives the broker its record.
    fn signed_model(&self, maker: Option<&Maker>) -> PathBuf {
        let (source, sealed) = (self.folder.path().join("model"), self.folder.path().join("sealed"));
        let _ = fs::remove_dir_all(&sealed);
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("config.json"), CONFIG).unwrap();
        let bundle = source.join(SIGNATURE);
        let signer = maker.map(signer);
        match maker {
            Some(maker) => fs::write(&bundle, maker.sign(&files())).unwrap(),
            None => drop(fs::remove_file(&bundle)),
        }
        let order = SealFolder {
            source: &source,
            destination: &sealed,
            name: "llama".parse().unwrap(),
            version: Version::FIRST,
            chunk_size: ChunkSize::SMALLEST,
            backend: Backend::AwsLc,
            workers: Workers::one(),
        };
        let signature = signer.as_ref().map(|signer| RequiredSignature { signer, bundle: &bundle });
        let made = seal_model(&order, &ModelRules { pickles: Pickles::Refused, signature }, &PUBLISHER.key(), &mut Silent).unwrap();
        let record = Record { secret: made.key.as_bytes().to_vec(), publisher: PUBLISHER, manifest: Some(made.document.digest()) };
        self.broker.state().records.insert("llama".into(), record);
        sealed
    }

    fn requires(&self, maker: &Maker, contents: &str) {
        let path = self.folder.path().join("guest.toml");
        let text = fs::read_to_string(&path).unwrap();
        let before = text.split("[[model-signers]]").next().unwrap();
        let key = signer(maker).to_string();
        let table = format!("[[model-signers]]\nmodel = \"llama\"\ncontents = \"{contents}\"\nkey = \"\"\"\n{key}\"\"\"\n");
        fs::write(path, format!("{before}{table}")).unwrap();
    }
}

#[test]
fn a_model_is_opened_only_under_the_signature_that_the_configuration_requires() {
    let guest = guest();
    if !guest.has_memory() {
        return;
    }
    let (maker, stranger) = (Maker::named("maker"), Maker::named("stranger"));
    let to = guest.in_memory("model");
    for contents in ["hashed", "publisher-vouches"] {
        guest.requires(&maker, contents);
        let output = guest.unseal(&guest.signed_model(None), &to, &[]);
        assert_exit(&output, 5);
        assert!(text(&output.stderr).contains("(model-signature-missing)"), "{}", text(&output.stderr));
        let output = guest.unseal(&guest.signed_model(Some(&stranger)), &to, &[]);
        assert_exit(&output, 5);
        assert!(text(&output.stderr).contains("(model-signature-other-key)"), "{}", text(&output.stderr));
        assert_eq!(list(guest.memory.path()), [""; 0], "nothing was written");
        let output = guest.unseal(&guest.signed_model(Some(&maker)), &to, &["--json"]);
        assert_exit(&output, 0);
        assert!(text(&output.stdout).contains(&signer(&maker).id().to_string()));
        assert_eq!(fs::read_to_string(to.join("config.json")).unwrap(), CONFIG);
        fs::remove_dir_all(&to).unwrap();
    }
}

#[test]
fn a_model_is_mounted_from_a_web_server_only_under_the_signature_that_the_configuration_requires() {
    if !super::can_mount() {
        return;
    }
    let guest = guest();
    let (maker, stranger) = (Maker::named("maker"), Maker::named("stranger"));
    for contents in ["hashed", "publisher-vouches"] {
        guest.requires(&maker, contents);
        let mounts = |signer: Option<&Maker>| {
            let server = Storage::start(&guest.signed_model(signer));
            let mounted = guest.mounts(&server.url(), |at| assert_eq!(fs::read_to_string(at.join("config.json")).unwrap(), CONFIG));
            (mounted, server.asked().iter().any(|asked| asked.path == "config.json"))
        };
        for (signer, code) in [(None, "model-signature-missing"), (Some(&stranger), "model-signature-other-key")] {
            let (mounted, read) = mounts(signer);
            let (exit, said) = mounted.unwrap_err();
            assert!(exit == Some(5) && said.contains(&format!("({code})")), "{said}");
            assert!(!read, "no file of the model was read");
        }
        mounts(Some(&maker)).0.unwrap();
    }
}

#[test]
fn a_signal_ends_a_mount_and_an_engine_that_is_to_have_one_while_their_storage_says_nothing() {
    if !super::can_mount() {
        return;
    }
    let guest = guest();
    let maker = Maker::named("maker");
    guest.requires(&maker, "hashed");
    let sealed = guest.signed_model(Some(&maker));
    let at = guest.folder.path().join("mounted");
    let (place, config) = (format!("llama={}", at.display()), guest.folder.path().join("guest.toml"));
    let signals = [(Signal::INT, "SIGINT", 130), (Signal::TERM, "SIGTERM", 143)];
    // The signature is checked here; then the mount server asks for the manifest once more.
    let stalls = [(SIGNATURE, 0), (MANIFEST_NAME, 1)];
    for ((signal, name, code), (path, well)) in signals.into_iter().flat_map(|signal| stalls.map(|stalls| (signal, stalls))) {
        for word in ["mount", "mount --outlive", "exec"] {
            let server = Storage::start(&sealed);
            server.next(path, [vec![Trick::Well; well], vec![Trick::StallsAfter(10); 9]].concat());
            let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis-guest"));
            command.args(word.split(' ')).arg("--config").arg(&config).args(["--sealed", &server.url()]);
            match word {
                "exec" => command.args(["--mount", &place, "--", "echo", "the engine ran"]),
                _ => command.args(["--model", "llama", "--at"]).arg(&at),
            };
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            // One that has ended by itself is not waited for yet, and so still has its number.
            let is_over = || fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap().contains(") Z ");
            until(|| server.asked().iter().filter(|asked| asked.path == path).count() > well || is_over());
            kill_process(Pid::from_child(&child), signal).unwrap();
            let (status, out, err) = ended(child);
            if err.contains("(isolation-") {
                println!("skipped: {err}");
                continue;
            }
            assert_eq!((status, out.as_str()), (Some(code), ""), "{word}, {path}: {err}");
            assert!(err.contains(&format!("error: ended by {name}\n")), "{word}, {path}: {err}");
            // A server whose parent is gone ends by itself.
            until(|| !at.exists());
        }
    }
    // The near miss: it comes, and nobody asks it to end.
    let server = Storage::start(&sealed);
    guest.mounts(&server.url(), |at| assert_eq!(fs::read_to_string(at.join("config.json")).unwrap(), CONFIG)).unwrap();
}
