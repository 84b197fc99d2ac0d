//! The challenge: a nonce that any replica of the broker can check without shared state.
//!
//! ```text
//! challenge = version (1 byte, 0x01) ‖ nonce (32) ‖ expiry (8, seconds since 1970, big-endian) ‖ tag (32)
//! tag       = HMAC-SHA256(secret, LP("portcullis/challenge/v1") ‖ LP(installation root key) ‖ LP(nonce) ‖ LP(expiry))
//! ```
//! The secret is the broker's and is not in its database, so that the database's editor cannot mint a nonce.
//! That a nonce is spent once is the store's to enforce; it need remember one no longer than the expiry.

use std::time::Duration;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::encoding::Fields;
use crate::ids::{NoRandomness, Nonce};
use crate::keys::PublicKey;
use crate::time::UnixTime;

/// The size of a challenge in bytes.
pub const CHALLENGE: usize = 73;
/// How long a challenge may live at most: evidence takes seconds to collect, and a spent nonce is remembered this long.
pub const LONGEST_LIFE: Duration = Duration::from_secs(600);
const VERSION: u8 = 1;

/// What a broker mints challenges with and checks them by.
pub struct ChallengeKey {
    secret: Zeroizing<[u8; 32]>,
    installation: PublicKey,
}

impl ChallengeKey {
    /// From 32 secret bytes that all replicas share.
    #[must_use]
    pub const fn new(secret: Zeroizing<[u8; 32]>, installation: PublicKey) -> Self {
        Self { secret, installation }
    }

    /// A fresh challenge that expires `life` after `at`, at most [`LONGEST_LIFE`].
    ///
    /// # Errors
    /// Where the operating system gives no random bytes.
    pub fn mint(&self, at: UnixTime, life: Duration) -> Result<Challenge, NoRandomness> {
        let nonce = Nonce::random()?;
        let expires = at.plus(life.min(LONGEST_LIFE));
        let mut bytes = Vec::with_capacity(CHALLENGE);
        bytes.push(VERSION);
        bytes.extend_from_slice(nonce.as_bytes());
        bytes.extend_from_slice(&expires.seconds().to_be_bytes());
        bytes.extend_from_slice(&self.tag(&nonce, expires));
        Ok(Challenge { nonce, expires, bytes })
    }

    /// Checks that a challenge is this broker's and has not expired.
    ///
    /// # Errors
    /// [`ChallengeError`], in the order of its variants.
    pub fn check(&self, bytes: &[u8], at: UnixTime) -> Result<Challenge, ChallengeError> {
        let challenge = Challenge::parse(bytes)?;
        let tag = self.tag(&challenge.nonce, challenge.expires);
        let found = bytes.last_chunk::<32>().ok_or(ChallengeError::Form)?;
        if !bool::from(tag.ct_eq(found)) {
            return Err(ChallengeError::NotOurs);
        }
        if at > challenge.expires || challenge.expires > at.plus(LONGEST_LIFE) {
            return Err(ChallengeError::Expired { expires: challenge.expires, at });
        }
        Ok(challenge)
    }

    fn tag(&self, nonce: &Nonce, expires: UnixTime) -> [u8; 32] {
        Fields::new("portcullis/challenge/v1")
            .field(self.installation.as_bytes())
            .field(nonce)
            .number(expires.seconds())
            .hmac_sha256(&self.secret)
    }
}

/// A challenge as a guest sees it: a nonce to attest to, and bytes to hand back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    nonce: Nonce,
    expires: UnixTime,
    bytes: Vec<u8>,
}

impl Challenge {
    /// Reads a challenge without checking whose it is.
    ///
    /// # Errors
    /// [`ChallengeError::Form`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ChallengeError> {
        let array: &[u8; CHALLENGE] = bytes.try_into().map_err(|_| ChallengeError::Form)?;
        let form = || ChallengeError::Form;
        let (version, rest) = array.split_first().ok_or_else(form)?;
        let (nonce, rest) = rest.split_first_chunk::<32>().ok_or_else(form)?;
        let (expires, _) = rest.split_first_chunk::<8>().ok_or_else(form)?;
        if *version != VERSION {
            return Err(ChallengeError::Form);
        }
        let expires = UnixTime::from_seconds(u64::from_be_bytes(*expires));
        Ok(Self { nonce: Nonce::from(*nonce), expires, bytes: bytes.to_vec() })
    }

    /// The nonce.
    #[must_use]
    pub const fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// The last second at which it may be used.
    #[must_use]
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }

    /// The 73 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why a challenge is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// Not 73 bytes of version 1.
    #[error("not a challenge: expected 73 bytes of version 1")]
    Form,
    /// Not minted by this installation.
    #[error("the challenge was not minted by this installation")]
    NotOurs,
    /// Past its expiry.
    #[error("the challenge expired at {expires}; it is {at}")]
    Expired {
        /// Its last second.
        expires: UnixTime,
        /// The time of checking.
        at: UnixTime,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: u8, installation: u8) -> ChallengeKey {
        ChallengeKey::new(Zeroizing::new([secret; 32]), PublicKey::from_bytes([installation; 32]))
    }

    const AT: UnixTime = UnixTime::from_seconds(1000);
    const LIFE: Duration = Duration::from_secs(60);

    #[test]
    fn any_replica_with_the_secret_accepts_it_until_it_expires() {
        let minted = key(1, 1).mint(AT, LIFE).unwrap();
        assert_eq!(key(1, 1).check(minted.as_bytes(), AT.plus(LIFE)).unwrap(), minted);
        let late = AT.plus(LIFE + Duration::from_secs(1));
        assert_eq!(key(1, 1).check(minted.as_bytes(), late), Err(ChallengeError::Expired { expires: AT.plus(LIFE), at: late }));
    }

    #[test]
    fn another_secret_or_installation_refuses_it() {
        let minted = key(1, 1).mint(AT, LIFE).unwrap();
        assert_eq!(key(2, 1).check(minted.as_bytes(), AT), Err(ChallengeError::NotOurs));
        assert_eq!(key(1, 2).check(minted.as_bytes(), AT), Err(ChallengeError::NotOurs));
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let minted = key(1, 1).mint(AT, LIFE).unwrap();
        for at in 0..CHALLENGE {
            let mut bytes = minted.as_bytes().to_vec();
            bytes[at] ^= 1;
            let expected = if at == 0 { ChallengeError::Form } else { ChallengeError::NotOurs };
            assert_eq!(key(1, 1).check(&bytes, AT), Err(expected), "byte {at}");
        }
        for wrong in [&minted.as_bytes()[..72], &[minted.as_bytes(), &[0]].concat(), &[]] {
            assert_eq!(key(1, 1).check(wrong, AT), Err(ChallengeError::Form));
        }
    }

    #[test]
    fn one_that_outlives_the_longest_life_is_refused() {
        let mint = |ahead: u64| key(1, 1).mint(AT.plus(LONGEST_LIFE - LIFE + Duration::from_secs(ahead)), LIFE).unwrap();
        assert!(key(1, 1).check(mint(0).as_bytes(), AT).is_ok());
        let expires = AT.plus(LONGEST_LIFE + Duration::from_secs(1));
        assert_eq!(key(1, 1).check(mint(1).as_bytes(), AT), Err(ChallengeError::Expired { expires, at: AT }));
    }

    #[test]
    fn a_life_is_cut_to_the_longest() {
        assert_eq!(key(1, 1).mint(AT, LONGEST_LIFE * 2).unwrap().expires(), AT.plus(LONGEST_LIFE));
    }
}
