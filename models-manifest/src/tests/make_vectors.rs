//! Makes the folder `vectors` anew: `cargo test -p portcullis-models-manifest make_vectors -- --ignored`. It gives the same bytes each time.

use protocol::dsse::{DocumentSignature, SignedDocument, pae};
use protocol::ids::{Digest, Version};
use protocol::keys::{PublicKey, SigningKey};
use std::collections::BTreeMap;
use std::fs;

use super::vectors::{Edit, Expect, Plaintext, Vector, vectors, write};
use super::{Counter, content, forge, publisher, stranger};
use crate::cipher::ChunkCipher;
use crate::folder::{SealFolder, seal_folder_in};
use crate::geometry::{ChunkPosition, Finality};
use crate::manifest::{FileBody, ManifestBody, SignatureBody, TensorsBody};
use crate::seal::Sealed;
use crate::signature::SignerId;
use crate::tree::{Entry, TableBuilder};
use crate::{Backend, ChunkSize, MANIFEST_NAME, Sealing, Silent, Workers};

const C: usize = 65_536;
const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "trust_remote_code": false, "vocab_size": 128}"#;
const MODEL: &str = "model.safetensors";

/// A sealed folder of `vectors/sealed`.
struct Base {
    name: &'static str,
    sealed: Sealed,
    plaintext: BTreeMap<String, Vec<u8>>,
}

impl Base {
    fn make(name: &'static str, seed: u64, plaintext: &[(&str, Vec<u8>)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        plaintext.iter().for_each(|(path, bytes)| write(folder.path(), path, bytes));
        let destination = vectors().join("sealed").join(name);
        let order = SealFolder {
            source: folder.path(),
            destination: &destination,
            name: "acme/tiny".parse().unwrap(),
            version: Version::try_from(seed).unwrap(),
            chunk_size: ChunkSize::SMALLEST,
            backend: Backend::Portable,
            workers: Workers::default(),
        };
        let sealing = Sealing::begin_with(order.chunk_size, order.backend, Counter::new(seed)).unwrap();
        let sealed = seal_folder_in(sealing, &order, &publisher(), &mut Silent).unwrap();
        Self { name, sealed, plaintext: plaintext.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.clone())).collect() }
    }

    fn file(&self, path: &str) -> Vec<u8> {
        fs::read(vectors().join("sealed").join(self.name).join(path)).unwrap()
    }

    fn cipher(&self, path: &str) -> Box<dyn ChunkCipher> {
        let contents = &self.sealed.contents;
        let entry = &contents.files()[contents.find(path).unwrap()];
        Backend::Portable.cipher(self.sealed.key.file_key(contents.sealing(), entry.path(), entry.salt()).unwrap()).unwrap()
    }

    fn body(&self) -> ManifestBody {
        serde_json::from_slice(&self.sealed.document.payload).unwrap()
    }

    fn vector(&self, name: &str, about: &str, edits: Vec<Edit>, expect: Expect) {
        self.given(name, about, edits, expect, *self.sealed.key.as_bytes(), vec![*publisher().public()], self.sealed.document.digest());
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of a vector")]
    fn given(
        &self,
        name: &str,
        about: &str,
        edits: Vec<Edit>,
        expect: Expect,
        key: [u8; 32],
        publishers: Vec<PublicKey>,
        released: Digest,
    ) {
        let vector = Vector { about: about.to_owned(), sealed: self.name.to_owned(), edits, key, publishers, released, expect };
        let json = serde_json::to_string_pretty(&vector).unwrap() + "\n";
        let path = vectors().join(format!("{name}.json"));
        assert!(!path.exists(), "{name} stands twice");
        fs::write(path, json).unwrap();
    }

    /// A vector whose manifest is another signed document; `released` names that one, so that only its own fault shows.
    fn manifest(&self, name: &str, about: &str, document: &SignedDocument, error: &str) {
        let edits = vec![put(MANIFEST_NAME, document)];
        self.given(name, about, edits, refused(error), *self.sealed.key.as_bytes(), vec![*publisher().public()], document.digest());
    }

    /// The same, for a body with a change.
    fn body_with(&self, name: &str, about: &str, error: &str, change: impl FnOnce(&mut ManifestBody)) {
        let mut body = self.body();
        change(&mut body);
        self.manifest(name, about, &SignedDocument::sign(&body, &publisher()).unwrap(), error);
    }

    /// The same, for a payload with a change to its text.
    fn payload_with(&self, name: &str, about: &str, error: &str, from: &str, to: &str) {
        let payload = String::from_utf8(self.sealed.document.payload.clone()).unwrap();
        assert!(payload.contains(from), "{name}");
        let kind = self.sealed.document.payload_type.clone();
        self.manifest(name, about, &signed(&kind, payload.replacen(from, to, 1).into_bytes(), &publisher()), error);
    }

    fn opened(&self) -> Expect {
        Expect::Opened { files: self.plaintext.iter().map(|(path, bytes)| (path.clone(), Plaintext::of(bytes))).collect() }
    }
}

fn signed(kind: &str, payload: Vec<u8>, signer: &SigningKey) -> SignedDocument {
    let sig = signer.sign(&pae(kind, &payload));
    SignedDocument { payload_type: kind.to_owned(), payload, signatures: [DocumentSignature { keyid: signer.public().id(), sig }] }
}

fn put(file: &str, document: &SignedDocument) -> Edit {
    Edit::Put { file: file.to_owned(), text: String::from_utf8(document.to_json()).unwrap() }
}

fn refused(error: &str) -> Expect {
    emitted(error, &[])
}

fn emitted(error: &str, files: &[(&str, usize)]) -> Expect {
    Expect::Refused { error: error.to_owned(), emitted: files.iter().map(|(path, bytes)| ((*path).to_owned(), *bytes)).collect() }
}

fn flip(base: &Base, file: &str, at: usize) -> Edit {
    Edit::Write { file: file.to_owned(), at, bytes: hex::encode([base.file(file)[at] ^ 1]) }
}

fn overwrite(file: &str, at: usize, bytes: &[u8]) -> Edit {
    Edit::Write { file: file.to_owned(), at, bytes: hex::encode(bytes) }
}

#[test]
#[ignore = "writes into the source tree"]
fn make_vectors() {
    let _ = fs::remove_dir_all(vectors());
    fs::create_dir_all(vectors().join("sealed")).unwrap();
    fs::write(vectors().join(".gitattributes"), "sealed/** -text\n").unwrap();
    let genuine = Base::make(
        "genuine",
        1,
        &[
            ("config.json", CONFIG.as_bytes().to_vec()),
            ("empty.txt", Vec::new()),
            (MODEL, content(1, 2 * C + 1)),
            ("tokenizer/merges.txt", content(2, 100)),
            ("tokenizer/vocab.txt", content(3, 100)),
        ],
    );
    genuine.vector("genuine", "nothing is wrong", vec![], genuine.opened());
    sizes();
    storage(&genuine);
    key_holder(&genuine);
    publisher_faults();
    documents(&genuine);
    paths(&genuine);
    numbers(&genuine);
}

fn sizes() {
    for (seed, name, size, about) in [
        (11, "empty-file", 0, "an empty file is one chunk of no bytes, with a tag"),
        (12, "exact-chunk-multiple", C, "a file of exactly one chunk has no empty chunk behind it"),
        (13, "one-byte-over", C + 1, "a file of one chunk and a byte has a last chunk of one byte"),
    ] {
        let base = Base::make(name, seed, &[("weights.bin", content(seed, size))]);
        base.vector(name, about, vec![], base.opened());
    }
}

/// What storage can do that has no key.
fn storage(genuine: &Base) {
    let config = CONFIG.len();
    let before_model = [("config.json", config), ("empty.txt", 0)];
    let table = 2 * C + 1;
    let chunk = |chunks| [&before_model[..], &[(MODEL, chunks * C)]].concat();
    let model = || MODEL.to_owned();
    let v = |name, about, edits, expect| genuine.vector(name, about, edits, expect);
    v("ciphertext-bit-flipped", "one bit of the second chunk", vec![flip(genuine, MODEL, C + 5)], emitted("chunk-hash", &chunk(1)));
    v("last-ciphertext-bit-flipped", "one bit of the last byte", vec![flip(genuine, MODEL, 2 * C)], emitted("chunk-hash", &chunk(2)));
    v("tag-bit-flipped", "one bit of the second chunk's tag", vec![flip(genuine, MODEL, table + 48)], emitted("tree-root", &before_model));
    v(
        "hash-bit-flipped",
        "one bit of the last chunk's hash",
        vec![flip(genuine, MODEL, table + 3 * 48 - 1)],
        emitted("tree-root", &before_model),
    );
    v(
        "empty-file-tag-bit-flipped",
        "an empty file has a tag too",
        vec![flip(genuine, "empty.txt", 0)],
        emitted("tree-root", &before_model[..1]),
    );
    let swap_chunks = Edit::Swap { file: model(), at: 0, with: C, length: C };
    let swap_entries = Edit::Swap { file: model(), at: table, with: table + 48, length: 48 };
    v(
        "chunks-swapped",
        "two chunks, not their entries in the table",
        vec![swap_chunks.clone()],
        emitted("chunk-hash", &chunk(0)[..2].iter().copied().chain([(MODEL, 0)]).collect::<Vec<_>>()),
    );
    v(
        "chunks-and-entries-swapped",
        "two chunks with their tags and hashes",
        vec![swap_chunks, swap_entries],
        emitted("tree-root", &before_model),
    );
    let (merges, vocab) = ("tokenizer/merges.txt", "tokenizer/vocab.txt");
    let all_before = [&before_model[..], &[(MODEL, 2 * C + 1)]].concat();
    v(
        "files-swapped",
        "two files of the same size",
        vec![Edit::SwapFiles { file: merges.into(), with: vocab.into() }],
        emitted("tree-root", &all_before),
    );
    let sealed = genuine.file(MODEL).len();
    v("truncated", "a file without its last byte", vec![Edit::Truncate { file: model(), length: sealed - 1 }], refused("file-size"));
    v("table-removed", "a file without its table", vec![Edit::Truncate { file: model(), length: table }], refused("file-size"));
    v("extended", "a file with a byte more", vec![Edit::Append { file: model(), bytes: "00".into() }], refused("file-size"));
    let mut cut = genuine.file(MODEL);
    cut.drain(C..2 * C + 1);
    v(
        "truncated-to-a-chunk",
        "a file cut behind its first chunk, with the table moved",
        vec![Edit::Truncate { file: model(), length: C }, Edit::Append { file: model(), bytes: hex::encode(&cut[C..C + 48]) }],
        refused("file-size"),
    );
    v("missing-file", "a listed file is not there", vec![Edit::Remove { file: vocab.into() }], refused("file-missing"));
    v("missing-manifest", "no manifest, no open", vec![Edit::Remove { file: MANIFEST_NAME.into() }], refused("manifest-missing"));
    v(
        "unlisted-file",
        "a file beside the listed ones",
        vec![Edit::Put { file: "modeling.py".into(), text: "import os\n".into() }],
        refused("unlisted"),
    );
    v(
        "unlisted-file-in-a-folder",
        "a file beside the listed ones of a folder",
        vec![Edit::Put { file: "tokenizer/a.py".into(), text: "import os\n".into() }],
        refused("unlisted"),
    );
    v("unlisted-folder", "an empty folder", vec![Edit::Folder { file: "code".into() }], refused("unlisted"));
    v(
        "symlink",
        "a listed file is a symbolic link to the right bytes",
        vec![Edit::Symlink { file: "config.json".into() }],
        refused("symlink"),
    );
    v(
        "manifest-symlink",
        "the manifest is a symbolic link to the right bytes",
        vec![Edit::Symlink { file: MANIFEST_NAME.into() }],
        refused("symlink"),
    );
    let other = Base::make("other-model", 2, &[("config.json", CONFIG.replace("false", "true ").into_bytes())]);
    v(
        "file-of-another-model",
        "another model's file of the same name and size",
        vec![Edit::Copy { file: "config.json".into(), from: format!("{}/config.json", other.name) }],
        refused("tree-root"),
    );
    v(
        "manifest-of-another-version",
        "a manifest by the same publisher, and not the released one",
        vec![Edit::Copy { file: MANIFEST_NAME.into(), from: format!("{}/{MANIFEST_NAME}", other.name) }],
        refused("manifest-not-released"),
    );
    let key = *genuine.sealed.key.as_bytes();
    let publishers = vec![*publisher().public()];
    let released = genuine.sealed.document.digest();
    let mut wrong = key;
    wrong[31] ^= 1;
    genuine.given("wrong-key", "one bit of the key", vec![], refused("wrong-key"), wrong, publishers.clone(), released);
    genuine.given(
        "wrong-publisher",
        "a publisher whom the opener does not trust",
        vec![],
        refused("manifest-signer"),
        key,
        vec![*stranger().public()],
        released,
    );
    genuine.given("no-publisher", "an opener that trusts nobody", vec![], refused("manifest-signer"), key, vec![], released);
    genuine.given(
        "not-the-released-manifest",
        "the release names another manifest",
        vec![],
        refused("manifest-not-released"),
        key,
        publishers,
        other.sealed.document.digest(),
    );
}

/// What a guest can do that was given the key and can write the storage.
fn key_holder(genuine: &Base) {
    let path = "config.json";
    let size = CONFIG.len();
    let position = ChunkPosition { index: 0, finality: Finality::Final };
    let cipher = genuine.cipher(path);
    let original = genuine.file(path);

    let mut same_tag = original[..size].to_vec();
    let mut change = [0; 16];
    for (to, (from, want)) in change.iter_mut().zip(CONFIG.bytes().zip(*b"{\"auto_map\":\"x\",")) {
        *to = from ^ want;
    }
    forge::same_tag(&*cipher, &mut same_tag, change);
    let tag = original[size..size + 16].try_into().unwrap();
    let mut opened = same_tag.clone();
    cipher.open(position, &mut opened, &tag).unwrap();
    assert!(opened.starts_with(b"{\"auto_map\":\"x\","));
    let about =
        "ciphertext made by a holder of the key so that the old tag is good: it decrypts to other text, and only its hash gives it away";
    genuine.vector("forged-chunk-with-the-same-tag", about, vec![overwrite(path, 0, &same_tag[..48])], emitted("chunk-hash", &[(path, 0)]));

    let mut forged = CONFIG.replace("false", "true ").into_bytes();
    let tag = cipher.seal(position, &mut forged).unwrap();
    let about = "a chunk encrypted anew by a holder of the key, with its tag, beside the old hash";
    genuine.vector("forged-chunk", about, vec![overwrite(path, 0, &[&forged[..], &tag].concat())], refused("tree-root"));

    let contents = &genuine.sealed.contents;
    let entry = &contents.files()[contents.find(path).unwrap()];
    let tree = entry.tree(contents.sealing());
    let hash = tree.chunk_hash(&forged);
    let about = "a chunk encrypted anew by a holder of the key, with its tag and its hash: the root is another";
    genuine.vector("forged-chunk-and-table", about, vec![overwrite(path, 0, &[&forged[..], &tag, &hash].concat())], refused("tree-root"));

    let mut table = TableBuilder::new(tree);
    table.push(&Entry { tag, hash });
    let mut body = genuine.body();
    body.files[0].root = table.finish().1;
    let edits = |document: &SignedDocument| vec![overwrite(path, 0, &[&forged[..], &tag, &hash].concat()), put(MANIFEST_NAME, document)];
    let document = SignedDocument::sign(&body, &stranger()).unwrap();
    genuine.vector(
        "forged-manifest",
        "chunk, table and manifest, signed by a key of the forger's",
        edits(&document),
        refused("manifest-signer"),
    );
    let mut named = document;
    named.signatures[0].keyid = publisher().public().id();
    genuine.vector(
        "forged-manifest-in-the-publishers-name",
        "the same, under the publisher's key id",
        edits(&named),
        refused("manifest-signature"),
    );
}

/// What a manifest of format 2 says beyond what opens the model.
fn described(genuine: &Base) {
    let index = genuine.sealed.contents.find(MODEL).unwrap();
    let describe = |body: &mut ManifestBody| {
        body.format = 2;
        body.files[index].tensors = Some(TensorsBody { parameters: 65_536, dtypes: vec![("BF16".to_owned(), 3), ("F32".to_owned(), 1)] });
        body.model_signature = Some(SignatureBody { path: "config.json".to_owned(), key: SignerId::from_bytes([7; 32]) });
    };
    let mut body = genuine.body();
    describe(&mut body);
    let document = SignedDocument::sign(&body, &publisher()).unwrap();
    let (edits, publishers) = (vec![put(MANIFEST_NAME, &document)], vec![*publisher().public()]);
    let about = "a manifest that says what was found in the files when they were sealed";
    genuine.given("described", about, edits, genuine.opened(), *genuine.sealed.key.as_bytes(), publishers, document.digest());
    let refused = |name, about, error, change: &dyn Fn(&mut ManifestBody)| {
        genuine.body_with(name, about, error, |body| {
            describe(body);
            change(body);
        });
    };
    refused("manifest-members-of-a-later-format", "members of format 2 under format 1", "manifest-members", &|body| body.format = 1);
    genuine.body_with("manifest-without-its-members", "format 2 without a member of it", "manifest-members", |body| body.format = 2);
    refused("manifest-unknown-dtype", "a kind of elements that there is not", "manifest-tensors", &|body| {
        body.files[index].tensors = Some(TensorsBody { parameters: 1, dtypes: vec![("BF17".to_owned(), 1)] });
    });
    refused("manifest-signature-of-another-file", "the model's signature is no file of it", "manifest-signature-file", &|body| {
        body.model_signature = Some(SignatureBody { path: "absent.sig".to_owned(), key: SignerId::from_bytes([7; 32]) });
    });
}

/// What a publisher's broken tool can do: everything is signed, and the bytes are not what the format says.
fn publisher_faults() {
    for (seed, name, about, position) in [
        (21, "wrong-final-flag", "the only chunk was sealed as if another followed", ChunkPosition { index: 0, finality: Finality::More }),
        (22, "wrong-index", "the first chunk was sealed as the second", ChunkPosition { index: 1, finality: Finality::Final }),
    ] {
        let base = Base::make(name, seed, &[("weights.bin", content(seed, 100))]);
        let mut bytes = content(seed, 100);
        let tag = base.cipher("weights.bin").seal(position, &mut bytes).unwrap();
        let contents = &base.sealed.contents;
        let tree = contents.files()[0].tree(contents.sealing());
        let hash = tree.chunk_hash(&bytes);
        let mut table = TableBuilder::new(tree);
        table.push(&Entry { tag, hash });
        let mut body = base.body();
        body.files[0].root = table.finish().1;
        let document = SignedDocument::sign(&body, &publisher()).unwrap();
        let edits = vec![
            Edit::Truncate { file: "weights.bin".into(), length: 0 },
            Edit::Append { file: "weights.bin".into(), bytes: hex::encode([&bytes[..], &tag, &hash].concat()) },
            put(MANIFEST_NAME, &document),
        ];
        let expect = emitted("chunk-tag", &[("weights.bin", 0)]);
        base.given(name, about, edits, expect, *base.sealed.key.as_bytes(), vec![*publisher().public()], document.digest());
    }
}

/// The manifest as a signed document.
fn documents(genuine: &Base) {
    let document = &genuine.sealed.document;
    let text = String::from_utf8(document.to_json()).unwrap();
    let v = |name, about, text: String, error| {
        genuine.vector(name, about, vec![Edit::Put { file: MANIFEST_NAME.into(), text }], refused(error))
    };
    let mut changed = document.clone();
    changed.payload[20] ^= 1;
    v("manifest-payload-bit-flipped", "one bit of what is signed", String::from_utf8(changed.to_json()).unwrap(), "manifest-signature");
    let mut changed = document.clone();
    let mut sig = *changed.signatures[0].sig.as_bytes();
    sig[0] ^= 1;
    changed.signatures[0].sig = protocol::keys::Signature::from_bytes(sig);
    v("manifest-signature-bit-flipped", "one bit of the signature", String::from_utf8(changed.to_json()).unwrap(), "manifest-signature");
    v("manifest-truncated", "the manifest without its last byte", text[..text.len() - 1].to_owned(), "manifest-envelope");
    v("manifest-trailing-bytes", "a byte behind the manifest", text.clone() + "x", "manifest-envelope");
    v("manifest-empty", "no bytes at all", String::new(), "manifest-envelope");
    v("manifest-garbage", "no JSON", "\u{1}garbage".into(), "manifest-envelope");
    v(
        "manifest-unknown-field-in-envelope",
        "a field that the envelope does not have",
        text.replacen('{', "{\"alg\":\"none\",", 1),
        "manifest-envelope",
    );
    v(
        "manifest-unsigned",
        "no signature",
        {
            let at = text.find("\"signatures\"").unwrap();
            text[..at].to_owned() + "\"signatures\":[]}"
        },
        "manifest-envelope",
    );
    genuine.payload_with("manifest-unknown-field", "a field that a manifest does not have, signed", "manifest-body", "{", "{\"extra\":1,");
    genuine.payload_with(
        "manifest-unknown-field-of-a-file",
        "a field that a file does not have, signed",
        "manifest-body",
        "{\"path\"",
        "{\"mode\":493,\"path\"",
    );
    genuine.payload_with(
        "manifest-repeated-field",
        "a field twice, signed",
        "manifest-body",
        "\"version\":1",
        "\"version\":1,\"version\":1",
    );
    genuine.payload_with(
        "manifest-size-beyond-64-bits",
        "a size of 2^64, signed",
        "manifest-body",
        "\"size\":100,",
        "\"size\":18446744073709551616,",
    );
    genuine.payload_with("manifest-negative-size", "a size of -1, signed", "manifest-body", "\"size\":100,", "\"size\":-1,");
    let salt = genuine.body().files[0].salt.to_string();
    genuine.payload_with("manifest-short-salt", "a salt of 31 bytes, signed", "manifest-body", &salt, &salt[2..]);
    genuine.manifest(
        "manifest-of-another-type",
        "a document of another type by the same publisher",
        &signed("application/vnd.portcullis.statement+json", document.payload.clone(), &publisher()),
        "manifest-type",
    );
    genuine
        .body_with("manifest-of-another-format", "a version of the format that does not exist", "manifest-format", |body| body.format = 3);
    described(genuine);
    genuine.body_with("commitment-to-another-key", "a manifest that commits to another key", "wrong-key", |body| {
        body.key_commitment = crate::keys::KeyCommitment::from_bytes([7; 32]);
    });
    genuine.body_with("no-files", "a manifest without files", "manifest-no-files", |body| body.files.clear());
}

/// Signed manifests with paths that lead elsewhere or are no one file's.
fn paths(genuine: &Base) {
    for (name, path) in [
        ("path-escapes", "../config.json"),
        ("path-escapes-in-the-middle", "a/../../config.json"),
        ("path-absolute", "/etc/config.json"),
        ("path-backslash", "..\\config.json"),
        ("path-drive", "c:config.json"),
        ("path-empty", ""),
        ("path-empty-segment", "a//config.json"),
        ("path-dot-segment", "./config.json"),
        ("path-control-character", "config\u{0}.json"),
        ("path-not-ascii", "confi\u{301}g.json"),
        ("path-trailing-dot", "config.json."),
        ("path-of-the-manifest", "Portcullis-Manifest.json"),
    ] {
        genuine.body_with(name, "a path outside the format, signed", "manifest-path", |body| body.files[0].path = path.to_owned());
    }
    let with_first = |name, about, error, path: &str| genuine.body_with(name, about, error, |body| body.files[0].path = path.to_owned());
    with_first("path-duplicate", "a path twice, signed", "manifest-duplicate", "empty.txt");
    with_first("path-duplicate-by-case", "two paths that differ in case alone, signed", "manifest-duplicate", "Empty.txt");
    with_first("path-through-a-file", "a path through another file, signed", "manifest-file-is-directory", "Empty.txt/a");
    genuine.body_with("paths-unsorted", "paths out of order, signed", "manifest-unsorted", |body| body.files.swap(0, 1));
}

/// Signed manifests with hostile numbers.
fn numbers(genuine: &Base) {
    let with =
        |name, about, error, change: &dyn Fn(&mut FileBody)| genuine.body_with(name, about, error, |body| change(&mut body.files[2]));
    with("zero-chunk-size", "chunks of no bytes, signed", "manifest-chunk-size", &|file| file.chunk_size = 0);
    with("odd-chunk-size", "chunks of no power of two, signed", "manifest-chunk-size", &|file| file.chunk_size = 65_537);
    with("small-chunk-size", "chunks below the least, signed", "manifest-chunk-size", &|file| file.chunk_size = 32_768);
    with("huge-chunk-size", "chunks of 2^63 bytes, signed", "manifest-chunk-size", &|file| file.chunk_size = 1 << 63);
    with("hostile-size", "a file of 2^64 - 1 bytes, signed", "manifest-file-too-large", &|file| file.size = u64::MAX);
    with("size-above-the-limit", "a file of 2^44 + 1 bytes, signed", "manifest-file-too-large", &|file| file.size = (1 << 44) + 1);
    with("size-at-the-limit", "a file of 2^44 bytes is well formed, and not what lies there", "file-size", &|file| file.size = 1 << 44);
    with("another-chunk-size", "the right file under another chunk size, signed", "file-size", &|file| file.chunk_size = 131_072);
}
