//! Challenges, as a guest reads them and as a broker checks them.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::{NOW, Signer};
use protocol::challenge::{CHALLENGE, Challenge, ChallengeKey, LONGEST_LIFE};
use protocol::encoding::Fields;
use protocol::time::UnixTime;
use zeroize::Zeroizing;

const SECRET: [u8; 32] = [3; 32];

fuzz_target!(|data: &[u8]| {
    let root = *Signer::Root.key().public();
    let key = ChallengeKey::new(Zeroizing::new(SECRET), root);
    let Ok(challenge) = Challenge::parse(data) else {
        assert!(data.len() != CHALLENGE || data[0] != 1);
        assert!(key.check(data, NOW).is_err());
        return;
    };
    assert_eq!(challenge.as_bytes(), data);
    let fields = Fields::new("portcullis/challenge/v1").field(root.as_bytes()).field(challenge.nonce());
    let tag = fields.number(challenge.expires().seconds()).hmac_sha256(&SECRET);
    assert!(key.check(data, NOW).is_err() || data.ends_with(&tag), "a challenge that was not minted");
    // With a good tag, the window alone decides.
    let mut minted = data[..CHALLENGE - 32].to_vec();
    minted.extend_from_slice(&tag);
    for at in [NOW, challenge.expires(), challenge.expires().plus(Duration::from_secs(1)), UnixTime::from_seconds(0)] {
        let within = at <= challenge.expires() && challenge.expires() <= at.plus(LONGEST_LIFE);
        assert_eq!(key.check(&minted, at).is_ok(), within, "{at}");
    }
});
