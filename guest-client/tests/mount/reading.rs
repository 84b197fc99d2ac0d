//! What readers of an untouched model get.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::statvfs;

use crate::support::{CHUNK, Model, SIZE, noise, read};

/// Every file and folder below the mount, by its path: inode, size and mode.
fn listed(root: &std::path::Path) -> BTreeMap<String, (u64, u64, u32)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            assert_eq!(entry.file_type().unwrap().is_dir(), metadata.is_dir());
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
            let path = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            found.insert(path, (metadata.ino(), metadata.len(), metadata.permissions().mode()));
        }
    }
    found
}

#[test]
fn a_mounted_model_is_the_plaintext_with_its_names_sizes_and_modes() {
    let model = Model::new(1);
    let Some(server) = model.mount_with(&[]) else { return };
    for path in ["a.bin", "b.bin", "config.json", "empty.txt", "nested/deep/c.bin"] {
        assert!(fs::read(server.path(path)).unwrap() == model.plain(path), "{path}");
    }
    let listing = listed(&server.at);
    let sizes: Vec<_> = listing.iter().map(|(path, (_, size, mode))| (path.as_str(), *size, *mode)).collect();
    assert_eq!(
        sizes,
        [
            ("a.bin", SIZE, 0o100_444),
            ("b.bin", SIZE, 0o100_444),
            ("config.json", 3, 0o100_444),
            ("empty.txt", 0, 0o100_444),
            ("nested", 0, 0o040_555),
            ("nested/deep", 0, 0o040_555),
            ("nested/deep/c.bin", 3 * CHUNK, 0o100_444),
        ]
    );
    let inodes: std::collections::BTreeSet<_> = listing.values().map(|(inode, ..)| inode).collect();
    assert_eq!(inodes.len(), listing.len());
    let metadata = fs::metadata(&server.at).unwrap();
    assert_eq!((metadata.ino(), metadata.nlink(), metadata.mode()), (1, 3, 0o040_555));
    assert_eq!(fs::metadata(server.path("a.bin")).unwrap().blocks(), SIZE.div_ceil(512));
    let room = statvfs(&server.at).unwrap();
    let blocks = 2 * SIZE.div_ceil(4096) + 1 + 3 * CHUNK / 4096;
    assert_eq!((room.f_blocks * room.f_frsize, room.f_bfree, room.f_files, room.f_namemax), (blocks * 4096, 0, 8, 255));

    drop(server);
    let Some(again) = model.mount() else { return };
    assert_eq!(listed(&again.at), listing, "inodes are the manifest's");
}

#[test]
fn nothing_in_it_can_be_changed_and_nothing_else_is_there() {
    let model = Model::new(2);
    let Some(server) = model.mount() else { return };
    let refused = |result: std::io::Result<()>| result.unwrap_err().kind();
    assert_eq!(refused(fs::write(server.path("new"), "x")), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(refused(OpenOptions::new().append(true).open(server.path("a.bin")).map(drop)), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(refused(fs::remove_file(server.path("a.bin"))), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(refused(fs::rename(server.path("a.bin"), server.path("z"))), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(refused(fs::metadata(server.path("portcullis-manifest.json")).map(drop)), ErrorKind::NotFound);
    assert_eq!(refused(fs::metadata(server.path("nested/a.bin")).map(drop)), ErrorKind::NotFound);
    assert_eq!(refused(fs::metadata(server.path("a.bin/x")).map(drop)), ErrorKind::NotADirectory);
    assert_eq!(refused(fs::read(server.path("nested")).map(drop)), ErrorKind::IsADirectory);
}

#[test]
fn many_readers_of_any_ranges_get_them_all_right() {
    let model = Model::new(3);
    // Less room than the files have, so that chunks come and go.
    let Some(mut server) = model.mount_with(&["--held", "1", "--ahead", "1"]) else { return };
    let plain = [model.plain("a.bin"), model.plain("b.bin")];
    let paths = ["a.bin", "b.bin"].map(|path| server.path(path));
    thread::scope(|scope| {
        for reader in 0..8_u64 {
            let (paths, plain) = (&paths, &plain);
            scope.spawn(move || {
                let picks = noise(reader + 1, 400);
                for pick in picks.chunks_exact(8) {
                    let file = usize::from(pick[0] & 1);
                    let offset = u64::from(u32::from_le_bytes([pick[1], pick[2], pick[3], 0])) % (SIZE + CHUNK);
                    let length = usize::from(u16::from_le_bytes([pick[4], pick[5]])) * 3;
                    let found = read(&paths[file], offset, length).unwrap();
                    let whole = &plain[file];
                    let start = usize::try_from(offset).unwrap().min(whole.len());
                    assert!(found == whole[start..(start + length).min(whole.len())], "{offset} {length}");
                }
            });
        }
    });
    use std::io::Write;
    writeln!(server.orders.as_mut().unwrap(), "counters").unwrap();
    let counted = server.event().unwrap();
    assert_eq!((&counted["event"], &counted["tampered"], &counted["unreadable"]), (&"counters".into(), &0.into(), &0.into()));
    assert!(counted["reads"].as_u64() > Some(0) && counted["bytes"].as_u64() >= Some(SIZE) && counted["chunks"].as_u64() >= Some(17));
}

#[test]
fn a_chunk_is_decrypted_once_and_then_the_page_cache_has_it() {
    let model = Model::new(4);
    let Some(mut server) = model.mount_with(&[]) else { return };
    let mut counted = || {
        use std::io::Write;
        writeln!(server.orders.as_mut().unwrap(), "counters").unwrap();
        server.event().unwrap()
    };
    let path = model.at().join("a.bin");
    let whole = model.plain("a.bin");
    assert!(fs::read(&path).unwrap() == whole);
    // A read is counted once it is answered, so whoever has the last answer may ask before that.
    let until = Instant::now() + Duration::from_secs(30);
    let first = loop {
        let first = counted();
        if first["bytes"].as_u64() >= u64::try_from(whole.len()).ok() || Instant::now() > until {
            break first;
        }
    };
    assert_eq!((&first["bytes"], &first["chunks"]), (&whole.len().into(), &17.into()));
    for _ in 0..3 {
        assert!(fs::read(&path).unwrap() == model.plain("a.bin"));
        let mut file = File::open(&path).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
    }
    assert_eq!((&counted()["reads"], &counted()["chunks"]), (&first["reads"], &first["chunks"]));
}

#[test]
fn a_folder_of_many_files_is_listed_whole() {
    let files: Vec<(String, Vec<u8>)> = (0..1500).map(|number| (format!("many/file-{number:04}"), vec![1])).collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(path, bytes)| (path.as_str(), bytes.clone())).collect();
    let model = Model::of(&files);
    let Some(server) = model.mount() else { return };
    let mut names: Vec<_> =
        fs::read_dir(server.path("many")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, (0..1500).map(|number| format!("file-{number:04}")).collect::<Vec<_>>());
}
