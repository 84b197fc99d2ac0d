//! Secret keys at rest: one small JSON file a key, in the clear for keys that are kept offline or on tmpfs,
//! or protected by a passphrase or by the contents of a second file.
//!
//! ```text
//! {"type": "portcullis-key/v1", "kind": "signing" | "sealing" | "challenge" | "log" …, "public": "…",
//!  "protection": {"method": "none"} | {"method": "passphrase" | "key-file", "salt": …, "memory_kib": …, "passes": …, "lanes": …},
//!  "secret": base64 of the 32-byte seed, or of AES-256-GCM(key, nonce 0, AAD = LP(label) ‖ LP(kind) ‖ LP(public)) over it}
//! ```
//! The AES key is Argon2id(secret, salt) for a passphrase, HKDF's HMAC over the file's bytes and the salt for a key file;
//! each salt is fresh and serves one encryption, which is why the nonce may be zero.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::encoding::{Fields, Spacing, from_base64, hmac_sha256, place_of, secret_json, to_base64};
use crate::ids::{NoRandomness, random_bytes};

/// The largest key file that is read (bytes).
pub const LIMIT: usize = 16 * 1024;
/// The fewest bytes of a key file that protects another: 32 random ones.
pub const KEY_FILE_MIN: usize = 32;

/// What unlocks a protected key.
pub enum Unlock {
    /// Nothing: the key lies in the clear.
    Nothing,
    /// A passphrase.
    Passphrase(Zeroizing<String>),
    /// The bytes of a second file, at least [`KEY_FILE_MIN`].
    KeyFile(Zeroizing<Vec<u8>>),
}

/// A key file. What it says of itself is believed only once it opens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    #[serde(rename = "type")]
    version: FileType,
    kind: String,
    public: String,
    protection: Protection,
    #[serde(with = "erased")]
    secret: Zeroizing<String>,
}

/// The seed may lie in the clear, and this is then all of it.
mod erased {
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(text: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(deserializer).map(Zeroizing::new)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum FileType {
    #[serde(rename = "portcullis-key/v1")]
    V1,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
enum Protection {
    /// With braces: serde would let a variant without them have any field.
    None {},
    Passphrase {
        #[serde(with = "crate::encoding::hex")]
        salt: [u8; 32],
        memory_kib: u32,
        passes: u32,
        lanes: u32,
    },
    KeyFile {
        #[serde(with = "crate::encoding::hex")]
        salt: [u8; 32],
    },
}

/// Argon2id as RFC 9106 recommends for memory-constrained machines: 64 MiB, 3 passes, 4 lanes.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// More than this a file may not ask for: it is read before it is believed.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;

impl KeyFile {
    /// Protects a 32-byte seed. `kind` and `public` are bound to it.
    ///
    /// # Errors
    /// [`KeyFileError::WeakKeyFile`], [`KeyFileError::EmptyPassphrase`], [`KeyFileError::NoRandomness`].
    pub fn protect(kind: &str, public: &str, seed: &[u8; 32], unlock: &Unlock) -> Result<Self, KeyFileError> {
        let salt = random_bytes()?;
        let protection = match unlock {
            Unlock::Nothing => Protection::None {},
            Unlock::Passphrase(_) => Protection::Passphrase { salt, memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES },
            Unlock::KeyFile(_) => Protection::KeyFile { salt },
        };
        let secret = match key(&protection, unlock)? {
            None => Zeroizing::new(seed.to_vec()),
            Some(key) => {
                let aad = aad(kind, public);
                let payload = Payload { msg: seed, aad: aad.as_bytes() };
                Zeroizing::new(cipher(&key).encrypt(&Nonce::default(), payload).map_err(|_| KeyFileError::WrongUnlock)?)
            }
        };
        Ok(Self {
            version: FileType::V1,
            kind: kind.to_owned(),
            public: public.to_owned(),
            protection,
            secret: Zeroizing::new(to_base64(&secret)),
        })
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`KeyFileError::Form`].
    pub fn parse(json: &[u8]) -> Result<Self, KeyFileError> {
        if json.len() > LIMIT {
            return Err(KeyFileError::Form(format!("larger than {LIMIT} bytes")));
        }
        serde_json::from_slice(json).map_err(|error| KeyFileError::Form(place_of(&error)))
    }

    /// The JSON form, with a final line feed.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<String> {
        let json = secret_json(self, Spacing::Pretty).unwrap_or_default();
        let mut text = Zeroizing::new(String::with_capacity(json.len().saturating_add(1)));
        text.push_str(std::str::from_utf8(&json).unwrap_or_default());
        text.push('\n');
        text
    }

    /// What the file says the key is for.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What the file says the public half is.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// Whether a passphrase must be asked for.
    #[must_use]
    pub const fn wants_passphrase(&self) -> bool {
        matches!(self.protection, Protection::Passphrase { .. })
    }

    /// Opens the file as a key of `kind`.
    ///
    /// # Errors
    /// [`KeyFileError::Kind`], [`KeyFileError::OtherUnlock`], [`KeyFileError::WrongUnlock`], [`KeyFileError::Form`].
    pub fn open(&self, kind: &str, unlock: &Unlock) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
        if self.kind != kind {
            return Err(KeyFileError::Kind { expected: kind.to_owned(), found: self.kind.clone() });
        }
        let secret = Zeroizing::new(from_base64(&self.secret).ok_or_else(|| KeyFileError::Form("secret is not base64".to_owned()))?);
        let seed = match key(&self.protection, unlock)? {
            None => secret,
            Some(key) => {
                let aad = aad(kind, &self.public);
                let payload = Payload { msg: &secret, aad: aad.as_bytes() };
                Zeroizing::new(cipher(&key).decrypt(&Nonce::default(), payload).map_err(|_| KeyFileError::WrongUnlock)?)
            }
        };
        seed.as_slice().try_into().map(Zeroizing::new).map_err(|_| KeyFileError::Form("secret is not 32 bytes".to_owned()))
    }
}

fn aad(kind: &str, public: &str) -> Fields {
    Fields::new("portcullis/key-file/v1").field(kind).field(public)
}

fn cipher(key: &[u8; 32]) -> Aes256Gcm {
    Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key))
}

fn key(protection: &Protection, unlock: &Unlock) -> Result<Option<Zeroizing<[u8; 32]>>, KeyFileError> {
    match (protection, unlock) {
        (Protection::None {}, Unlock::Nothing) => Ok(None),
        (Protection::Passphrase { salt, memory_kib, passes, lanes }, Unlock::Passphrase(passphrase)) => {
            if passphrase.is_empty() {
                return Err(KeyFileError::EmptyPassphrase);
            }
            let bad = || KeyFileError::Form("argon2 parameters out of range".to_owned());
            if *memory_kib > MEMORY_KIB_MAX || *passes > 16 {
                return Err(bad());
            }
            let parameters = argon2::Params::new(*memory_kib, *passes, *lanes, Some(32)).map_err(|_| bad())?;
            let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, parameters);
            let mut key = Zeroizing::new([0; 32]);
            argon2.hash_password_into(passphrase.as_bytes(), salt, key.as_mut()).map_err(|_| bad())?;
            Ok(Some(key))
        }
        (Protection::KeyFile { salt }, Unlock::KeyFile(bytes)) => {
            if bytes.len() < KEY_FILE_MIN {
                return Err(KeyFileError::WeakKeyFile { expected: KEY_FILE_MIN, found: bytes.len() });
            }
            let extracted = Zeroizing::new(hmac_sha256(salt, bytes));
            Ok(Some(Zeroizing::new(Fields::new("portcullis/key-file-key/v1").hmac_sha256(&extracted))))
        }
        _ => Err(KeyFileError::OtherUnlock { expected: name(protection) }),
    }
}

const fn name(protection: &Protection) -> &'static str {
    match protection {
        Protection::None {} => "nothing",
        Protection::Passphrase { .. } => "a passphrase",
        Protection::KeyFile { .. } => "a key file",
    }
}

/// Why a key file cannot be written or opened. None says anything of the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Not a key file.
    #[error("not a key file: {0}")]
    Form(String),
    /// A key for something else.
    #[error("expected a key of kind {expected}, found one of kind {found}")]
    Kind {
        /// What was needed.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Unlocked by something else.
    #[error("this key is unlocked by {expected}")]
    OtherUnlock {
        /// What unlocks it.
        expected: &'static str,
    },
    /// Wrong passphrase or key file, or a changed file.
    #[error("the key does not open: wrong passphrase or key file, or the file was changed")]
    WrongUnlock,
    /// No passphrase.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// A key file with too few bytes.
    #[error("the protecting key file has {found} bytes, expected at least {expected}")]
    WeakKeyFile {
        /// The fewest bytes.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// No random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Unlock {
        Unlock::Passphrase(Zeroizing::new(text.to_owned()))
    }

    fn key_file(byte: u8, length: usize) -> Unlock {
        Unlock::KeyFile(Zeroizing::new(vec![byte; length]))
    }

    fn written(unlock: &Unlock) -> KeyFile {
        let file = KeyFile::protect("signing", "public", &[7; 32], unlock).unwrap();
        KeyFile::parse(file.to_json().as_bytes()).unwrap()
    }

    #[test]
    fn a_key_opens_by_what_protects_it_and_by_nothing_else() {
        for (unlock, wrong) in [(passphrase("correct"), passphrase("wrong")), (key_file(1, 32), key_file(2, 32))] {
            let file = written(&unlock);
            assert_eq!(*file.open("signing", &unlock).unwrap(), [7; 32]);
            assert_eq!(file.open("signing", &wrong).unwrap_err(), KeyFileError::WrongUnlock);
            assert!(matches!(file.open("signing", &Unlock::Nothing), Err(KeyFileError::OtherUnlock { .. })));
        }
        assert_eq!(*written(&Unlock::Nothing).open("signing", &Unlock::Nothing).unwrap(), [7; 32]);
    }

    #[test]
    fn kind_and_public_half_are_bound() {
        let unlock = key_file(1, 32);
        let file = written(&unlock);
        assert_eq!(file.open("sealing", &unlock).unwrap_err(), KeyFileError::Kind { expected: "sealing".into(), found: "signing".into() });
        let relabelled = KeyFile { kind: "sealing".into(), ..file.clone() };
        assert_eq!(relabelled.open("sealing", &unlock).unwrap_err(), KeyFileError::WrongUnlock);
        let other_public = KeyFile { public: "other".into(), ..file };
        assert_eq!(other_public.open("signing", &unlock).unwrap_err(), KeyFileError::WrongUnlock);
    }

    #[test]
    fn a_file_has_no_field_besides_and_what_is_wrong_with_it_is_not_quoted() {
        let json = written(&Unlock::Nothing).to_json();
        for (from, to) in [("\"method\": \"none\"", "\"method\": \"none\", \"salt\": 1"), ("\"kind\"", "\"more\": 1, \"kind\"")] {
            let more = json.replacen(from, to, 1);
            assert_ne!(more, *json);
            assert!(matches!(KeyFile::parse(more.as_bytes()), Err(KeyFileError::Form(_))), "{to}");
        }
        let refused = KeyFile::parse(b"\"a token, in the wrong file\"").err().unwrap();
        assert_eq!(refused, KeyFileError::Form("an unexpected value or field at line 1 column 28".to_owned()));
    }

    #[test]
    fn weak_protection_is_refused() {
        let weak = KeyFile::protect("signing", "public", &[7; 32], &key_file(1, 31)).err();
        assert_eq!(weak, Some(KeyFileError::WeakKeyFile { expected: 32, found: 31 }));
        assert_eq!(KeyFile::protect("signing", "public", &[7; 32], &passphrase("")).err(), Some(KeyFileError::EmptyPassphrase));
        assert_eq!(written(&passphrase("correct")).open("signing", &passphrase("")).unwrap_err(), KeyFileError::EmptyPassphrase);
    }

    #[test]
    fn a_file_cannot_ask_for_all_memory_or_all_time() {
        let json = written(&passphrase("correct")).to_json();
        for hostile in [json.replace("65536", "1048577"), json.replace("\"passes\": 3", "\"passes\": 17")] {
            assert_ne!(hostile, *json);
            let refused = KeyFile::parse(hostile.as_bytes()).unwrap().open("signing", &passphrase("correct")).unwrap_err();
            assert_eq!(refused, KeyFileError::Form("argon2 parameters out of range".to_owned()));
        }
        assert!(matches!(KeyFile::parse(&vec![b' '; LIMIT + 1]), Err(KeyFileError::Form(_))));
    }
}
