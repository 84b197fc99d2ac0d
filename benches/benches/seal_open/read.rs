//! Reading and decrypting, with nothing written: what the library and its checks cost over `pread` and the bare cipher.
//!
//! The contender that does not check the tree root is put together here from the library's public parts. The library has no switch for it.

use std::fs::File;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use models_manifest::geometry::{Chunk, Geometry, TAG};
use models_manifest::tree::Entry;
use models_manifest::{Backend, ChunkBuffer, Contents, FolderSource, ModelPath, RangeSource, unlock_folder};

use crate::model::Model;

/// A chunk and its file's number.
type Item = (usize, Chunk);

pub fn round(model: &Model, threads: NonZero<usize>, turn: &mut dyn FnMut(String, Duration)) {
    let unlocked = unlock_folder(model.opening(), model.key()).expect("our model");
    let contents = unlocked.contents();
    let items: Vec<Item> =
        contents.files().iter().enumerate().flat_map(|(file, entry)| entry.geometry().iter().map(move |chunk| (file, chunk))).collect();
    let source = FolderSource::new(&model.sealed);
    let tags = tags(contents, &source);

    let files: Vec<File> =
        contents.files().iter().map(|entry| File::open(model.sealed.join(entry.path().to_path())).expect("a file")).collect();
    let keys: Vec<LessSafeKey> = contents
        .files()
        .iter()
        .map(|entry| {
            let key = model.key().file_key(contents.sealing(), entry.path(), entry.salt()).expect("a key");
            LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_bytes()).expect("a key"))
        })
        .collect();
    let time = spread(threads, &items, Vec::new, |buffer: &mut Vec<u8>, (file, chunk)| {
        buffer.resize(chunk.length, 0);
        files[file].read_exact_at(buffer, chunk.offset).expect("the chunk");
        let nonce = Nonce::assume_unique_for_key(chunk.position.nonce());
        let tag = &tags[file][usize::try_from(chunk.position.index).expect("small")];
        keys[file].open_in_place_separate_tag(nonce, Aad::from(chunk.position.additional_data()), tag, buffer).expect("our chunk");
    });
    turn(format!("bare cipher, {threads} threads"), time);

    let ciphers: Vec<_> = contents
        .files()
        .iter()
        .map(|entry| {
            let key = model.key().file_key(contents.sealing(), entry.path(), entry.salt()).expect("a key");
            Backend::AwsLc.cipher(key).expect("a cipher")
        })
        .collect();
    let time = spread(threads, &items, Vec::new, |buffer: &mut Vec<u8>, (file, chunk)| {
        buffer.resize(chunk.length, 0);
        source.read_at(contents.files()[file].path(), chunk.offset, buffer).expect("the chunk");
        ciphers[file].open(chunk.position, buffer, &tags[file][usize::try_from(chunk.position.index).expect("small")]).expect("our chunk");
    });
    turn(format!("read, root not checked, {threads} threads"), time);

    let start = Instant::now();
    let opened: Vec<_> = contents.files().iter().map(|entry| unlocked.file(entry.path().as_str()).expect("our file")).collect();
    let tables = start.elapsed();
    let time = spread(threads, &items, ChunkBuffer::new, |buffer, (file, chunk)| {
        opened[file].chunk(chunk, buffer).expect("our chunk");
    });
    turn(format!("read, root checked, {threads} threads"), tables + time);
}

/// The tags of all chunks, as the table has them.
fn tags(contents: &Contents, source: &FolderSource) -> Vec<Vec<[u8; TAG]>> {
    let of = |path: &ModelPath, geometry: Geometry| {
        let blocks = (0..geometry.blocks()).map(|index| geometry.block(index).expect("a block"));
        blocks
            .flat_map(|block| {
                let mut bytes = vec![0; block.length];
                source.read_at(path, block.offset, &mut bytes).expect("the table");
                (0..).map_while(move |index| Entry::read(&bytes, index)).map(|entry| entry.tag).collect::<Vec<_>>()
            })
            .collect()
    };
    contents.files().iter().map(|entry| of(entry.path(), entry.geometry())).collect()
}

/// Does all items by so many threads, each with a buffer of its own; the time.
fn spread<B>(threads: NonZero<usize>, items: &[Item], buffer: impl Fn() -> B + Sync, each: impl Fn(&mut B, Item) + Sync) -> Duration {
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads.get() {
            scope.spawn(|| {
                let mut buffer = buffer();
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    each(&mut buffer, *item);
                }
            });
        }
    });
    start.elapsed()
}
