//! Sealed storage that changes while it is mounted: the read that meets it is an I/O error with an event that names it, never wrong
//! bytes; other files, and where possible other chunks of the same file, go on; what is put right again is read again.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use crate::support::{CHUNK, ENTRY, Model, SIZE, Server, errno, read};

const EIO: i32 = 5;

/// Changes one byte of a file.
fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

/// Moves a file away and another in its place, as storage that replaces objects does.
fn replace(path: &Path, with: &Path) {
    let beside = path.with_extension("new");
    fs::copy(with, &beside).unwrap();
    fs::rename(beside, path).unwrap();
}

/// That reading page `offset` of `a.bin` fails and says why, that `b.bin` is read whole, and that all of `a.bin` is once `mend` has
/// undone the harm.
fn refused(model: &Model, server: &mut Server, offset: u64, reason: &str, mend: impl FnOnce()) {
    let a = server.path("a.bin");
    assert_eq!(errno(&a, offset), Some(EIO), "{reason}");
    let event = server.event().unwrap();
    let field = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    assert_eq!((field("event"), field("file"), field("reason")), ("tampered".into(), "a.bin".into(), reason.into()));
    assert_eq!((field("model"), event["chunk"].as_u64()), ("acme/llama@1".into(), Some(offset / CHUNK)));
    assert!(event["time"].as_u64() > Some(1_600_000_000));
    assert!(fs::read(server.path("nested/deep/c.bin")).unwrap() == model.plain("nested/deep/c.bin"), "{reason}");
    mend();
    assert!(read(&a, 0, usize::try_from(SIZE).unwrap()).unwrap() == model.plain("a.bin"), "{reason}");
    use std::io::Write;
    writeln!(server.orders.as_mut().unwrap(), "counters").unwrap();
    let counted = loop {
        let event = server.event().unwrap();
        if event["event"] == "counters" {
            break event;
        }
    };
    assert!(counted["tampered"].as_u64() > Some(0));
    server.signal(rustix::process::Signal::TERM);
    let (status, said) = server.end();
    assert!(status.success());
    assert!(said.lines().any(|line| line.contains("\"tampered\"") && line.contains(reason)), "{said}");
}

/// A chunk in the middle of `a.bin`, and a page in the middle of it.
const CHUNK_9: u64 = 9 * CHUNK;
const PAGE: u64 = CHUNK_9 + 4096;

#[test]
fn a_flipped_byte_in_a_chunk() {
    let model = Model::new(1);
    let Some(mut server) = model.mount() else { return };
    let sealed = model.sealed("a.bin");
    flip(&sealed, CHUNK_9);
    // The chunks before and behind it are untouched.
    let plain = model.plain("a.bin");
    for good in [0, 7 * CHUNK, 12 * CHUNK] {
        let start = usize::try_from(good).unwrap();
        assert!(read(&server.path("a.bin"), good, 4096).unwrap() == plain[start..start + 4096]);
    }
    refused(&model, &mut server, PAGE, "chunk-hash", || flip(&sealed, CHUNK_9));
}

#[test]
fn a_flipped_byte_in_the_table_before_the_file_was_touched() {
    let model = Model::new(2);
    let Some(mut server) = model.mount() else { return };
    let sealed = model.sealed("a.bin");
    flip(&sealed, SIZE + 9 * ENTRY);
    refused(&model, &mut server, PAGE, "tree-root", || flip(&sealed, SIZE + 9 * ENTRY));
}

#[test]
fn a_flipped_byte_in_the_table_after_it_was_checked() {
    let model = Model::new(3);
    let Some(server) = model.mount() else { return };
    let plain = model.plain("a.bin");
    assert!(read(&server.path("a.bin"), 0, 4096).unwrap() == plain[..4096]);
    let sealed = model.sealed("a.bin");
    flip(&sealed, SIZE + 9 * ENTRY);
    // Other files, so that a reader's buffer that remembers this file's table is used for theirs.
    for path in ["b.bin", "nested/deep/c.bin"] {
        assert!(fs::read(server.path(path)).unwrap() == model.plain(path));
    }
    let start = usize::try_from(PAGE).unwrap();
    match read(&server.path("a.bin"), PAGE, 4096) {
        // The table that was checked is still at hand, and is the right one.
        Ok(bytes) => assert!(bytes == plain[start..start + 4096]),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(EIO));
            assert_eq!(server.event().unwrap()["reason"], "table-changed");
        }
    }
    flip(&sealed, SIZE + 9 * ENTRY);
    assert!(fs::read(server.path("a.bin")).unwrap() == plain);
}

#[test]
fn a_file_that_was_cut() {
    let model = Model::new(4);
    let Some(mut server) = model.mount() else { return };
    let sealed = model.sealed("a.bin");
    let whole = fs::read(&sealed).unwrap();
    OpenOptions::new().write(true).open(&sealed).unwrap().set_len(whole.len() as u64 - 1).unwrap();
    refused(&model, &mut server, PAGE, "file-size", || fs::write(&sealed, whole).unwrap());
}

#[test]
fn a_file_that_was_extended() {
    let model = Model::new(5);
    let Some(mut server) = model.mount() else { return };
    let sealed = model.sealed("a.bin");
    let whole = fs::read(&sealed).unwrap();
    OpenOptions::new().write(true).open(&sealed).unwrap().set_len(whole.len() as u64 + 1).unwrap();
    refused(&model, &mut server, PAGE, "file-size", || fs::write(&sealed, whole).unwrap());
}

#[test]
fn two_files_that_were_swapped() {
    let model = Model::new(6);
    let Some(mut server) = model.mount() else { return };
    let (a, b) = (model.sealed("a.bin"), model.sealed("b.bin"));
    let swap = || {
        let between = a.with_extension("between");
        fs::rename(&a, &between).unwrap();
        fs::rename(&b, &a).unwrap();
        fs::rename(&between, &b).unwrap();
    };
    swap();
    assert_eq!(errno(&server.path("b.bin"), 0), Some(EIO));
    assert_eq!(server.event().unwrap()["file"], "b.bin");
    refused(&model, &mut server, PAGE, "tree-root", swap);
}

#[test]
fn two_files_that_were_swapped_after_their_tables_were_checked() {
    let model = Model::new(7);
    let Some(server) = model.mount() else { return };
    assert!(read(&server.path("a.bin"), 0, 4096).unwrap() == model.plain("a.bin")[..4096]);
    let a = model.sealed("a.bin");
    let own = a.with_file_name("own");
    fs::rename(&a, &own).unwrap();
    replace(&a, &model.sealed("b.bin"));
    // Whether the table or the chunk is what is met first hangs on whether the table's block is at hand.
    assert_eq!(errno(&server.path("a.bin"), PAGE), Some(EIO));
    let event = server.event().unwrap();
    assert!(["table-changed", "chunk-hash"].contains(&event["reason"].as_str().unwrap()), "{event}");
    fs::rename(&own, &a).unwrap();
    assert!(fs::read(server.path("a.bin")).unwrap() == model.plain("a.bin"));
}

#[test]
fn two_chunks_of_a_file_that_were_swapped_with_their_entries() {
    let model = Model::new(8);
    let Some(mut server) = model.mount() else { return };
    assert!(read(&server.path("a.bin"), 0, 4096).unwrap() == model.plain("a.bin")[..4096]);
    let sealed = model.sealed("a.bin");
    let swap = || {
        let file = OpenOptions::new().read(true).write(true).open(&sealed).unwrap();
        let (mut one, mut other) = (vec![0; 65_536], vec![0; 65_536]);
        file.read_exact_at(&mut one, CHUNK_9).unwrap();
        file.read_exact_at(&mut other, CHUNK_9 + CHUNK).unwrap();
        file.write_all_at(&other, CHUNK_9).unwrap();
        file.write_all_at(&one, CHUNK_9 + CHUNK).unwrap();
    };
    swap();
    refused(&model, &mut server, PAGE, "chunk-hash", swap);
}

#[test]
fn another_models_file_in_its_place() {
    let (model, other) = (Model::new(9), Model::new(10));
    let Some(mut server) = model.mount() else { return };
    let sealed = model.sealed("a.bin");
    let whole = fs::read(&sealed).unwrap();
    replace(&sealed, &other.sealed("a.bin"));
    refused(&model, &mut server, PAGE, "tree-root", || fs::write(&sealed, whole).unwrap());
}

#[test]
fn a_file_that_was_deleted_also_while_it_was_open() {
    let model = Model::new(11);
    let Some(mut server) = model.mount() else { return };
    assert!(read(&server.path("a.bin"), 0, 4096).unwrap() == model.plain("a.bin")[..4096]);
    let sealed = model.sealed("a.bin");
    let whole = fs::read(&sealed).unwrap();
    fs::remove_file(&sealed).unwrap();
    // What the page cache has is the guest's own memory.
    assert!(read(&server.path("a.bin"), 0, 4096).unwrap() == model.plain("a.bin")[..4096]);
    refused(&model, &mut server, PAGE, "file-missing", || fs::write(&sealed, whole).unwrap());
}

#[test]
fn a_link_to_the_very_same_file() {
    let model = Model::new(12);
    let Some(mut server) = model.mount() else { return };
    let sealed = model.sealed("a.bin");
    let elsewhere = sealed.with_file_name("elsewhere");
    fs::rename(&sealed, &elsewhere).unwrap();
    symlink(&elsewhere, &sealed).unwrap();
    refused(&model, &mut server, PAGE, "special-file", || fs::rename(&elsewhere, &sealed).unwrap());
}

#[test]
fn a_folder_in_its_place() {
    let model = Model::new(13);
    let Some(mut server) = model.mount() else { return };
    let sealed = model.sealed("a.bin");
    let elsewhere = sealed.with_file_name("elsewhere");
    fs::rename(&sealed, &elsewhere).unwrap();
    fs::create_dir(&sealed).unwrap();
    refused(&model, &mut server, PAGE, "special-file", || {
        fs::remove_dir(&sealed).unwrap();
        fs::rename(&elsewhere, &sealed).unwrap();
    });
}

#[test]
fn the_near_miss_another_file_with_the_same_bytes_and_another_time_is_read() {
    let model = Model::new(14);
    let Some(mut server) = model.mount() else { return };
    assert!(read(&server.path("a.bin"), 0, 4096).unwrap() == model.plain("a.bin")[..4096]);
    for path in ["a.bin", "b.bin"] {
        replace(&model.sealed(path), &model.sealed(path));
    }
    // A byte that is changed and changed back.
    flip(&model.sealed("a.bin"), CHUNK_9);
    flip(&model.sealed("a.bin"), CHUNK_9);
    for path in ["a.bin", "b.bin"] {
        assert!(fs::read(server.path(path)).unwrap() == model.plain(path));
    }
    server.signal(rustix::process::Signal::TERM);
    assert!(server.end().1.is_empty());
}

#[test]
fn whoever_reads_the_same_bad_chunk_again_and_again_is_told_of_once() {
    let model = Model::new(15);
    let Some(mut server) = model.mount() else { return };
    flip(&model.sealed("a.bin"), CHUNK_9);
    for _ in 0..20 {
        assert_eq!(errno(&server.path("a.bin"), PAGE), Some(EIO));
    }
    server.signal(rustix::process::Signal::TERM);
    let said = server.end().1;
    assert_eq!(said.lines().filter(|line| line.contains("tampered")).count(), 1, "{said}");
}
