//! What was sealed opens to the same bytes: for any size near a chunk's border, read whole or in any pieces, by either cipher.

use proptest::prelude::*;
use std::path::Path;
use std::thread;

use super::vectors::{files, write};
use super::{content, publisher};
use crate::folder::{OpenFolder, Opening, SealFolder, open_folder, seal_folder, unlock_folder};
use crate::{Backend, ChunkSize, Reader, Sealed, Silent, Workers};

const C: usize = 65_536;

fn seal(source: &Path, destination: &Path, backend: Backend) -> Sealed {
    let name = "acme/tiny".parse().unwrap();
    let version = protocol::ids::Version::FIRST;
    let workers = Workers::default();
    let order = SealFolder { source, destination, name, version, chunk_size: ChunkSize::SMALLEST, backend, workers };
    seal_folder(&order, &publisher(), &mut Silent).unwrap()
}

fn backend() -> impl Strategy<Value = Backend> {
    prop_oneof![Just(Backend::AwsLc), Just(Backend::Portable)]
}

/// Near a border of the first chunks.
fn size() -> impl Strategy<Value = usize> {
    (0..4usize, -2..=2isize).prop_map(|(chunks, near)| (chunks * C).saturating_add_signed(near))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_folder_opens_to_what_was_sealed(sizes in prop::collection::vec(size(), 1..4), sealer in backend(), opener in backend()) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (index, size) in sizes.iter().enumerate() {
            write(&at("source"), &format!("shard{index}/weights.bin"), &content(index as u64, *size));
        }
        let sealed = seal(&at("source"), &at("sealed"), sealer);
        let (publishers, released) = ([*publisher().public()], sealed.document.digest());
        let order = OpenFolder { sealed: &at("sealed"), publishers: &publishers, released: &released, backend: opener };
        let contents = open_folder(order, sealed.key, Opening::to(&at("opened")), &mut Silent).unwrap();
        prop_assert_eq!(files(&at("opened")), files(&at("source")));
        prop_assert_eq!(contents, sealed.contents);
    }

    #[test]
    fn any_range_reads_as_the_plaintext_has_it(size in size(), reads in prop::collection::vec((0..5 * C as u64, 0..2 * C), 1..12), opener in backend()) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let plaintext = content(7, size);
        write(&at("source"), "weights.bin", &plaintext);
        let sealed = seal(&at("source"), &at("sealed"), Backend::AwsLc);
        let (publishers, released) = ([*publisher().public()], sealed.document.digest());
        let order = OpenFolder { sealed: &at("sealed"), publishers: &publishers, released: &released, backend: opener };
        let reader = Reader::new(unlock_folder(order, sealed.key).unwrap());
        for (offset, length) in reads {
            let mut buffer = vec![0xaa; length];
            let read = reader.read_at("weights.bin", offset, &mut buffer).unwrap();
            let rest = plaintext.get(offset as usize..).unwrap_or_default();
            let expected = &rest[..length.min(rest.len())];
            prop_assert_eq!(&buffer[..read], expected);
            prop_assert!(buffer[read..].iter().all(|byte| *byte == 0xaa));
        }
    }
}

#[test]
fn many_threads_read_one_model() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let plaintext: Vec<_> = (0..3).map(|index| content(index, 5 * C + 17)).collect();
    for (index, bytes) in plaintext.iter().enumerate() {
        write(&at("source"), &format!("{index}.bin"), bytes);
    }
    let sealed = seal(&at("source"), &at("sealed"), Backend::AwsLc);
    let (publishers, released) = ([*publisher().public()], sealed.document.digest());
    let order = OpenFolder { sealed: &at("sealed"), publishers: &publishers, released: &released, backend: Backend::AwsLc };
    let reader = Reader::new(unlock_folder(order, sealed.key).unwrap());
    thread::scope(|scope| {
        for thread in 0..4usize {
            let (reader, plaintext) = (&reader, &plaintext);
            scope.spawn(move || {
                for step in 0..200usize {
                    let index = (thread + step) % 3;
                    let offset = (thread * 7919 + step * 10_007) % (5 * C);
                    let mut buffer = vec![0; 4096];
                    let read = reader.read_file_at(index, offset as u64, &mut buffer).unwrap();
                    assert_eq!(buffer[..read], plaintext[index][offset..][..read]);
                    assert!(read == 4096 || offset + read == plaintext[index].len());
                }
            });
        }
    });
}
