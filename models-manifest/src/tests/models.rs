//! Models sealed under rules: each refusal leaves nothing behind, and has a near miss.

use std::cell::Cell;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::content::file;
use super::publisher;
use super::signatures::{Maker, statement};
use super::vectors::write;
use crate::content::pickle::PickleSign;
use crate::content::safetensors::SafetensorsError;
use crate::folder::{ModelRules, OpenFolder, Pickles, RequiredSignature, SealFolder, seal_model, unlock_folder};
use crate::signature::{self, Depth, ModelSigner, SignatureError};
use crate::{Advance, Backend, ChunkSize, FolderSource, ModelKey, Progress, SealError, Sealed, SealedModel, Silent, Workers};

const CONFIG: &[u8] = b"{\"hidden_size\": 8}";

fn weights() -> Vec<u8> {
    file("{\"w\":{\"dtype\":\"BF16\",\"shape\":[50,1000],\"data_offsets\":[0,100000]}}", 100_000)
}

/// A folder with a model, and room beside it.
pub(super) struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.put("config.json", CONFIG);
        desk.put("model.safetensors", &weights());
        desk
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        write(&self.at("source"), path, bytes);
    }

    fn seal_under(&self, rules: &ModelRules<'_>, progress: &mut dyn Progress) -> Result<Sealed, SealError> {
        let _ = fs::remove_dir_all(self.at("sealed"));
        let order = SealFolder {
            source: &self.at("source"),
            destination: &self.at("sealed"),
            name: "acme/tiny".parse().unwrap(),
            version: protocol::ids::Version::FIRST,
            chunk_size: ChunkSize::SMALLEST,
            backend: Backend::AwsLc,
            workers: Workers::one(),
        };
        let sealed = seal_model(&order, rules, &publisher(), progress);
        let names: Vec<_> = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.iter().filter(|name| name.to_str().unwrap().starts_with(".portcullis")).count(), 0, "nothing is left behind");
        assert_eq!(sealed.is_ok(), self.at("sealed").exists());
        sealed
    }

    fn seal(&self, pickles: Pickles) -> Result<Sealed, SealError> {
        self.seal_under(&ModelRules { pickles, signature: None }, &mut Silent)
    }

    fn seal_signed(&self, signer: &ModelSigner, bundle: &Path) -> Result<Sealed, SealError> {
        let signature = Some(RequiredSignature { signer, bundle });
        self.seal_under(&ModelRules { pickles: Pickles::Refused, signature }, &mut Silent)
    }

    fn sign(&self, maker: &Maker, files: &[(&str, &[u8])], ignored: &[&str]) -> PathBuf {
        self.put("model.sig", maker.bundle(&statement(files, ignored)).to_string().as_bytes());
        self.at("source/model.sig")
    }

    fn unlock(&self, sealed: &Sealed) -> SealedModel<FolderSource> {
        let (publishers, released) = ([*publisher().public()], sealed.document.digest());
        let order = OpenFolder { sealed: &self.at("sealed"), publishers: &publishers, released: &released, backend: Backend::AwsLc };
        unlock_folder(order, ModelKey::from_bytes(zeroize::Zeroizing::new(*sealed.key.as_bytes()))).unwrap()
    }
}

#[test]
fn the_manifest_says_which_tensors_the_files_have() {
    let desk = Desk::new();
    let sealed = desk.seal(Pickles::Refused).unwrap();
    let model = desk.unlock(&sealed);
    let [config, weights] = model.contents().files() else { panic!("two files") };
    assert_eq!(config.tensors(), None);
    let tensors = weights.tensors().unwrap();
    assert_eq!((tensors.count(), tensors.parameters(), tensors.dtypes().len()), (1, 50_000, 1));
    assert_eq!(model.contents().signature(), None);
    assert_eq!(*model.contents(), sealed.contents);
}

#[test]
fn pickles_are_refused_all_at_once_unless_they_are_allowed() {
    let desk = Desk::new();
    desk.put("pytorch_model.bin", b"anything");
    desk.put("optimizer/state", b"\x80\x04K\x01.");
    desk.put("notes.txt", b"pickles are refused");
    let Err(SealError::Pickles { files }) = desk.seal(Pickles::Refused) else { panic!("not refused") };
    let found: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.sign.clone())).collect();
    let extension = PickleSign::Extension { found: "bin".into() };
    assert_eq!(found, [("optimizer/state", PickleSign::Protocol { protocol: 4 }), ("pytorch_model.bin", extension)]);
    assert!(desk.seal(Pickles::Allowed).is_ok());
    fs::remove_file(desk.at("source/pytorch_model.bin")).unwrap();
    fs::remove_file(desk.at("source/optimizer/state")).unwrap();
    assert!(desk.seal(Pickles::Refused).is_ok());
}

#[test]
fn a_file_named_safetensors_is_one() {
    let desk = Desk::new();
    let mut cut = weights();
    cut.pop();
    desk.put("model.safetensors", &cut);
    for pickles in [Pickles::Refused, Pickles::Allowed] {
        let Err(SealError::Safetensors { path, error }) = desk.seal(pickles) else { panic!("not refused") };
        assert_eq!((path.as_str(), error), ("model.safetensors", SafetensorsError::DataSize { expected: 100_000, found: 99_999 }));
    }
    desk.put("model.safetensors", &weights());
    desk.put("tiny.safetensors", &file(&format!("{{}}{}", " ".repeat(638)), 0));
    assert!(desk.seal(Pickles::Refused).is_ok(), "one that starts as a pickle would");
}

/// Does something once, at the first chunk.
struct Meddler<'a> {
    act: &'a dyn Fn(),
    done: Cell<bool>,
}

impl Progress for Meddler<'_> {
    fn advance(&mut self, _: Advance<'_>) -> ControlFlow<()> {
        if !self.done.replace(true) {
            (self.act)();
        }
        ControlFlow::Continue(())
    }
}

#[test]
fn what_counts_is_what_was_sealed_and_not_what_was_looked_at_before() {
    let desk = Desk::new();
    desk.put("a", &[0; 10]);
    // Of the same size, after the first look and before it is read.
    let during = |path: &str, bytes: &[u8], rules: &ModelRules<'_>| {
        desk.seal_under(rules, &mut Meddler { act: &|| desk.put(path, bytes), done: Cell::new(false) })
    };
    let rules = ModelRules { pickles: Pickles::Refused, signature: None };
    desk.put("notes", b"0123456789");
    let pickle = b"\x80\x04K\x01.01234";
    assert!(matches!(during("notes", pickle, &rules), Err(SealError::Pickles { files }) if files.len() == 1));
    desk.put("notes", b"0123456789");
    let maker = Maker::new(0);
    let bundle =
        desk.sign(&maker, &[("a", &[0; 10]), ("config.json", CONFIG), ("model.safetensors", &weights()), ("notes", b"0123456789")], &[]);
    let signed = ModelRules { signature: Some(RequiredSignature { signer: &maker.signer, bundle: &bundle }), ..rules };
    let refused = during("notes", b"9876543210", &signed).err();
    assert!(
        matches!(&refused, Some(SealError::Signature(SignatureError::FileDigest { path, .. })) if path.as_str() == "notes"),
        "{refused:?}"
    );
    desk.put("notes", b"0123456789");
    assert!(during("elsewhere/notes", b"", &signed).is_ok(), "what came too late is not sealed");
}

#[test]
fn a_required_signature_covers_every_file_that_is_sealed() {
    let (desk, maker) = (Desk::new(), Maker::new(1));
    let weights = weights();
    let files: [(&str, &[u8]); 2] = [("config.json", CONFIG), ("model.safetensors", &weights)];
    let bundle = desk.sign(&maker, &files, &["model.sig", ".git"]);
    let sealed = desk.seal_signed(&maker.signer, &bundle).unwrap();
    let named = sealed.contents.signature().unwrap();
    assert_eq!((named.path().as_str(), *named.signer()), ("model.sig", maker.signer.id()));
    let refused = |expected: &str| match desk.seal_signed(&maker.signer, &bundle).err() {
        Some(error) => assert_eq!(error.code(), expected, "{error}"),
        None => panic!("sealed, not {expected}"),
    };
    desk.put("chat_template.jinja", b"{{ evil }}");
    refused("model-signature-file-unsigned");
    fs::remove_file(desk.at("source/chat_template.jinja")).unwrap();
    desk.put(".git/config", b"");
    assert!(desk.seal_signed(&maker.signer, &bundle).is_ok(), "the signer left it out");
    desk.put("config.json", b"{\"hidden_size\": 9}");
    refused("model-signature-file-digest");
    fs::remove_file(desk.at("source/config.json")).unwrap();
    refused("model-signature-file-missing");
    desk.put("config.json", CONFIG);
    assert!(desk.seal_signed(&maker.signer, &bundle).is_ok());
    let other = Maker::new(1).signer;
    assert!(matches!(desk.seal_signed(&other, &bundle), Err(SealError::Signature(SignatureError::OtherKey { .. }))));
    let absent = desk.seal_signed(&maker.signer, &desk.at("source/absent.sig"));
    assert!(matches!(absent, Err(SealError::Io { action: "read the signature", .. })));
}

#[test]
fn a_signature_from_elsewhere_is_sealed_with_the_model() {
    let (desk, maker) = (Desk::new(), Maker::new(0));
    let inside = desk.sign(&maker, &[("config.json", CONFIG), ("model.safetensors", &weights())], &[]);
    let outside = desk.at("elsewhere.sig");
    fs::copy(&inside, &outside).unwrap();
    assert!(matches!(desk.seal_signed(&maker.signer, &outside), Err(SealError::SignatureName { .. })));
    fs::remove_file(&inside).unwrap();
    let sealed = desk.seal_signed(&maker.signer, &outside).unwrap();
    assert_eq!(sealed.contents.files().len(), 3);
    assert_eq!(sealed.contents.signature().unwrap().path().as_str(), signature::NAME);
}

#[test]
fn a_guest_that_requires_a_signer_verifies_before_it_uses() {
    let (desk, maker) = (Desk::new(), Maker::new(0));
    let verify = |sealed: &Sealed, signer: &ModelSigner, depth| signature::verify(&desk.unlock(sealed), signer, depth, &mut Silent);
    let unsigned = desk.seal(Pickles::Refused).unwrap();
    for depth in [Depth::Contents, Depth::PublisherVouches] {
        assert!(matches!(verify(&unsigned, &maker.signer, depth), Err(SignatureError::Missing)));
    }
    let bundle = desk.sign(&maker, &[("config.json", CONFIG), ("model.safetensors", &weights())], &[]);
    let sealed = desk.seal_signed(&maker.signer, &bundle).unwrap();
    for depth in [Depth::Contents, Depth::PublisherVouches] {
        assert_eq!(verify(&sealed, &maker.signer, depth).unwrap().files().len(), 2);
        assert!(matches!(verify(&sealed, &Maker::new(0).signer, depth), Err(SignatureError::OtherSigner { .. })));
    }
}

/// A publisher whom nobody holds to anything signs a manifest that claims a signature.
#[test]
fn a_publishers_word_is_not_taken_for_what_the_guest_can_see() {
    let (desk, maker) = (Desk::new(), Maker::new(0));
    desk.sign(&maker, &[("config.json", b"another"), ("model.safetensors", &weights())], &[]);
    let lie_at = |desk: &Desk, name: &str| {
        let sealed = desk.seal(Pickles::Refused).unwrap();
        let named = crate::ModelSignature::new(name.parse().unwrap(), maker.signer.id());
        let tensors = sealed.contents.files().iter().map(|file| file.tensors().cloned()).collect();
        let contents = sealed.contents.clone().described(crate::manifest::Description { tensors, signature: Some(named) });
        let document = contents.sign(&publisher()).unwrap();
        fs::write(desk.at("sealed").join(crate::MANIFEST_NAME), document.to_json()).unwrap();
        desk.unlock(&Sealed { document, contents, ..sealed })
    };
    let lie = |desk: &Desk| lie_at(desk, signature::NAME);
    let model = lie(&desk);
    let verify = |model: &SealedModel<FolderSource>, depth| signature::verify(model, &maker.signer, depth, &mut Silent).err();
    assert!(matches!(verify(&model, Depth::Contents), Some(SignatureError::FileDigest { .. })));
    assert!(verify(&model, Depth::PublisherVouches).is_none(), "this one is left to the publisher's word, as the configuration says");
    desk.put("extra.json", b"{}");
    let model = lie(&desk);
    for depth in [Depth::Contents, Depth::PublisherVouches] {
        assert!(matches!(verify(&model, depth), Some(SignatureError::FileUnsigned { .. })), "{depth:?}");
    }
    fs::remove_file(desk.at("source/extra.json")).unwrap();
    // The genuine signature under a name that engines read, with members that nobody signed.
    let genuine = fs::read_to_string(desk.at("source/model.sig")).unwrap();
    let planted = genuine.replacen('{', "{\"base_model_name_or_path\":\"elsewhere\",", 1);
    fs::remove_file(desk.at("source/model.sig")).unwrap();
    for (name, refused) in [("adapter_config.json", true), (".sig/config.json", true), ("a.sig", false)] {
        desk.put(name, planted.as_bytes());
        let found = verify(&lie_at(&desk, name), Depth::PublisherVouches);
        assert_eq!(matches!(&found, Some(SignatureError::BundleName { found }) if found.as_str() == name), refused, "{name}: {found:?}");
        assert_eq!(found.is_none(), !refused, "{name}");
        let sealed = desk.seal_signed(&maker.signer, &desk.at(&format!("source/{name}")));
        assert_eq!(matches!(sealed, Err(SealError::Signature(SignatureError::BundleName { .. }))), refused, "{name}");
        fs::remove_file(desk.at(&format!("source/{name}"))).unwrap();
    }
    desk.put("model.sig", b"{}");
    assert!(matches!(verify(&lie(&desk), Depth::PublisherVouches), Some(SignatureError::Form { .. })));
}

#[test]
fn holding_a_model_to_its_signature_can_be_ended() {
    let (desk, maker) = (Desk::new(), Maker::new(0));
    let bundle = desk.sign(&maker, &[("config.json", CONFIG), ("model.safetensors", &weights())], &[]);
    struct Patient(usize);
    impl Progress for Patient {
        fn advance(&mut self, _: Advance<'_>) -> ControlFlow<()> {
            self.0 = self.0.saturating_sub(1);
            if self.0 == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    let rules = ModelRules { pickles: Pickles::Refused, signature: Some(RequiredSignature { signer: &maker.signer, bundle: &bundle }) };
    // Four chunks are sealed (of the weights two), three are hashed.
    for steps in 1..=7 {
        assert!(matches!(desk.seal_under(&rules, &mut Patient(steps)), Err(SealError::Cancelled(_))), "{steps}");
    }
    assert!(desk.seal_under(&rules, &mut Patient(8)).is_ok());
}
