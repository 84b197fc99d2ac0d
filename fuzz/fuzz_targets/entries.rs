//! Entries of the audit log, as guests and auditors read them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::entries::{Entry, EntryError};

fuzz_target!(|data: &[u8]| {
    let Ok(entry) = Entry::parse(data) else { return };
    match entry.to_bytes() {
        Ok(written) => {
            assert_eq!(Entry::parse(&written).as_ref(), Ok(&entry));
            assert_eq!(entry.to_bytes().as_ref(), Ok(&written), "an entry has one form");
        }
        // Canonical JSON may spell a string longer than it came.
        Err(error) => assert!(matches!(error, EntryError::TooLarge { .. }), "{error}"),
    }
});
