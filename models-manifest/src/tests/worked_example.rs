//! SPEC.md's worked example, computed once more from hash functions and ciphers alone.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

use super::vectors::{Vector, vectors};
use crate::manifest::ManifestBody;

/// `LP`: each field behind its length.
fn lp(fields: &[&[u8]]) -> Vec<u8> {
    fields.iter().flat_map(|field| [&(field.len() as u32).to_be_bytes()[..], field].concat()).collect()
}

fn hkdf(key: &[u8], info: &[u8]) -> [u8; 32] {
    let mut derived = [0; 32];
    Hkdf::<Sha256>::new(None, key).expand(info, &mut derived).unwrap();
    derived
}

#[test]
fn the_worked_example_of_the_specification_holds() {
    let spec = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("SPEC.md")).unwrap();
    let vector: Vector = serde_json::from_slice(&fs::read(vectors().join("one-byte-over.json")).unwrap()).unwrap();
    let folder = vectors().join("sealed/one-byte-over");
    let manifest: protocol::dsse::SignedDocument = serde_json::from_slice(&fs::read(folder.join(crate::MANIFEST_NAME)).unwrap()).unwrap();
    let body: ManifestBody = serde_json::from_slice(&manifest.payload).unwrap();
    let sealed = fs::read(folder.join("weights.bin")).unwrap();
    let [file] = &body.files[..] else { panic!("one file") };
    let (sealing, salt, path) = (body.sealing.as_bytes(), file.salt.as_bytes(), file.path.as_bytes());

    let commitment = hkdf(&vector.key, &lp(&[b"portcullis/model-key-commitment/v1", sealing]));
    assert_eq!(&commitment, body.key_commitment.as_bytes());
    let file_key = hkdf(&vector.key, &lp(&[b"portcullis/model-file-key/v1", sealing, path, salt]));
    let number = |number: u64| number.to_be_bytes();
    let identity: [u8; 32] =
        Sha256::digest(lp(&[b"portcullis/model-file/v1", &number(1), sealing, path, salt, &number(65_537), &number(65_536)])).into();
    let level = |name: &str| -> [u8; 32] { Sha256::digest(lp(&[b"portcullis/model-tree/v1", name.as_bytes(), &identity])).into() };

    let (ciphertext, table) = sealed.split_at(65_537);
    let cipher = Aes256Gcm::new(&file_key.into());
    let mut plaintext = Vec::new();
    for (index, (chunk, entry)) in ciphertext.chunks(65_536).zip(table.chunks(48)).enumerate() {
        let nonce: [u8; 12] = [&[0; 4][..], &(index as u64).to_be_bytes()].concat().try_into().unwrap();
        let aad = [&1u32.to_be_bytes()[..], &(index as u64).to_be_bytes(), &[u8::from(index == 1)]].concat();
        let msg = &[chunk, &entry[..16]].concat();
        plaintext.extend(cipher.decrypt(&nonce.into(), Payload { msg, aad: &aad }).unwrap());
        assert_eq!(blake3::keyed_hash(&level("chunk"), chunk).as_bytes(), &entry[16..]);
    }
    assert_eq!(plaintext, super::content(13, 65_537));
    let block = blake3::keyed_hash(&level("block"), table);
    let root = blake3::keyed_hash(&level("root"), block.as_bytes());
    assert_eq!(root.as_bytes(), file.root.as_bytes());

    for (what, value) in [
        ("model key", &vector.key[..]),
        ("sealing", sealing),
        ("salt", salt),
        ("commitment", &commitment),
        ("file key", &file_key),
        ("identity", &identity),
        ("chunk level", &level("chunk")),
        ("block level", &level("block")),
        ("root level", &level("root")),
        ("entry 0", &table[..48]),
        ("entry 1", &table[48..]),
        ("last byte", &ciphertext[65_536..]),
        ("block hash", block.as_bytes()),
        ("root", root.as_bytes()),
        ("manifest digest", vector.released.as_bytes()),
    ] {
        let value = hex::encode(value);
        assert!(spec.contains(&value), "SPEC.md lacks the {what}: {value}");
    }
}
