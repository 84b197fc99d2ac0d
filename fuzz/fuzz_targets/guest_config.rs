//! `guest.toml`.

#![no_main]

use guest_client::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let config = match Config::parse(text) {
        Ok(config) => config,
        Err(error) => return assert!(!error.is_empty()),
    };
    assert!(config.covers.iter().chain(&config.state).all(|path| path.is_absolute()));
    if config.covers.is_empty() {
        // The same text pins the same.
        let again = Config::parse(text).expect("the same text");
        assert_eq!(config.digest().expect("no file to read"), again.digest().expect("no file to read"));
    }
});
