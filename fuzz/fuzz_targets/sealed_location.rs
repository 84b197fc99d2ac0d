//! The place of a sealed model as people write it: what is shown names the same place, and holds no user name.

#![no_main]

use guest_client::sources::SealedLocation;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let location: SealedLocation = match text.parse() {
        Ok(location) => location,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let shown = location.to_string();
    assert_eq!(shown.parse::<SealedLocation>().as_ref(), Ok(&location));
    if let SealedLocation::Http(url) = &location {
        assert!(url.split('/').nth(2).is_some_and(|authority| !authority.is_empty() && !authority.contains('@')));
    }
});
