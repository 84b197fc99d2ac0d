//! `broker.toml`.

#![no_main]

use broker::config::{Config, PlainHttp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let config = match Config::parse(text) {
        Ok(config) => config,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let listen = &config.listen;
    assert!(listen.tls.is_some() || listen.address.ip().is_loopback() || listen.plain_http == PlainHttp::BehindAProxy);
    assert!(config.unlock.passphrase_file.is_none() || config.unlock.key_file.is_none());
    assert!((10..=600).contains(&config.limits.challenge_seconds));
    for signer in config.publishers.iter().chain(&config.authorities) {
        assert!(!signer.names.is_empty(), "a key that speaks for nothing");
    }
});
