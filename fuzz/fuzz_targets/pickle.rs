//! Files that may run code when they are loaded: opcodes of pickles, directories of zip archives.
//!
//! Input: any bytes of a file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use models_manifest::content::archive;
use models_manifest::content::pickle::{PickleSign, by_head};

fuzz_target!(|data: &[u8]| {
    let head = by_head(data);
    assert!(!matches!(head, Some(PickleSign::Archive { .. } | PickleSign::Extension { .. })));
    if let Some(PickleSign::Protocol { protocol: 2..=5 }) = head {
        assert_eq!(data[0], 0x80);
    }
    let archive = archive::look_at(data).expect("memory is read");
    if data.starts_with(b"PK\x03\x04") && !data.windows(4).any(|window| window == b"PK\x05\x06") {
        assert_eq!(archive, Some(PickleSign::UnreadableArchive), "an archive without a directory is not to be told");
    }
});
