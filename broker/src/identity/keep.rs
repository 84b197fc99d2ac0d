//! `keys/issuer.json`: the issuer's keys at rest, in one file that is whole or not there.
//!
//! ```text
//! {"type": "portcullis-issuer/v1",
//!  "public": {"trust_domain": …, "sequence": …, "keys": [{"use": …, "kid": …, "signs": …, "ends": …, "certificate": …}]},
//!  "salt": 32 bytes in hex, fresh for each writing,
//!  "secret": base64 of AES-256-GCM(key, nonce 0, AAD) over LP(PKCS#8) of each key in turn}
//! key = HKDF-SHA256(salt, seed of keys/issuer.key, LP("portcullis/issuer-keys/v1") ‖ LP(installation))
//! AAD = LP("portcullis/issuer-keys/v1") ‖ LP(installation) ‖ LP(public, as this program writes it)
//! ```
//! A key serves one encryption, so the nonce may be zero. The public parts are believed only once the file opens: whoever edits one of
//! them, or leaves a key out, has a file that does not open. An older file that is put back whole opens; it brings back keys that this
//! broker has retired, in whose tokens nobody believes who has seen the bundle since, and whose sequence gives it away to everybody who
//! has.

use std::path::{Path, PathBuf};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use hkdf::Hkdf;
use protocol::encoding::{Fields, from_base64, to_base64};
use protocol::entries::IssuerUse;
use protocol::ids::random_bytes;
use protocol::keys::PublicKey;
use protocol::spiffe::TrustDomain;
use protocol::time::UnixTime;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::IssuerError;
use super::ring::{IssuerKey, Ring};
use super::terms::Term;
use crate::custody::replace_private;

const LABEL: &str = "portcullis/issuer-keys/v1";

/// The largest file that is read (bytes): a handful of keys of some 2 KiB.
const LIMIT: usize = 256 * 1024;

/// Where the keys lie, and what opens them.
pub(super) struct Place {
    path: PathBuf,
    seed: Zeroizing<[u8; 32]>,
    installation: PublicKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "type")]
    version: FileType,
    public: Public,
    #[serde(with = "protocol::encoding::hex")]
    salt: [u8; 32],
    secret: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum FileType {
    #[serde(rename = "portcullis-issuer/v1")]
    V1,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Public {
    trust_domain: TrustDomain,
    sequence: u64,
    keys: Vec<PublicPart>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicPart {
    #[serde(rename = "use")]
    usage: IssuerUse,
    kid: String,
    signs: UnixTime,
    ends: UnixTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
}

impl Place {
    pub(super) fn new(data: &Path, seed: Zeroizing<[u8; 32]>, installation: PublicKey) -> Self {
        Self { path: path(data), seed, installation }
    }

    /// Reads the keys of `trust_domain`; none are there before the first start.
    pub(super) fn read(&self, trust_domain: &TrustDomain) -> Result<Ring, IssuerError> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Ring::default()),
            Err(error) => return Err(IssuerError::Read { path: self.path.clone(), error: error.to_string() }),
        };
        if bytes.len() > LIMIT {
            return Err(IssuerError::Form(format!("larger than {LIMIT} bytes")));
        }
        let file: File = serde_json::from_slice(&bytes).map_err(|error| IssuerError::Form(error.to_string()))?;
        let secret = from_base64(&file.secret).ok_or_else(|| IssuerError::Form("secret is not base64".to_owned()))?;
        let aad = self.aad(&file.public)?;
        let payload = Payload { msg: &secret, aad: aad.as_bytes() };
        let plain = Zeroizing::new(self.cipher(&file.salt)?.decrypt(&Nonce::default(), payload).map_err(|_| IssuerError::DoesNotOpen)?);
        if file.public.trust_domain != *trust_domain {
            return Err(IssuerError::TrustDomain { expected: trust_domain.clone(), found: file.public.trust_domain });
        }
        let mut rest = plain.as_slice();
        let mut ring = Ring { sequence: file.public.sequence, keys: Vec::new() };
        for part in file.public.keys {
            let pkcs8 = next(&mut rest).ok_or_else(|| IssuerError::Form("fewer private keys than public ones".to_owned()))?;
            let certificate = part.certificate.map(|text| from_base64(&text).ok_or(IssuerError::DoesNotOpen)).transpose()?;
            let key = IssuerKey::restore(part.usage, Term { signs: part.signs, ends: part.ends }, pkcs8, certificate)?;
            if key.kid() != part.kid {
                return Err(IssuerError::Form("a key is not the one that it says".to_owned()));
            }
            ring.keys.push(key.into());
        }
        if rest.is_empty() { Ok(ring) } else { Err(IssuerError::Form("more private keys than public ones".to_owned())) }
    }

    /// Writes the keys in the place of those that are there.
    pub(super) fn write(&self, trust_domain: &TrustDomain, ring: &Ring) -> Result<(), IssuerError> {
        let part = |key: &std::sync::Arc<IssuerKey>| PublicPart {
            usage: key.usage,
            kid: key.kid().to_owned(),
            signs: key.term.signs,
            ends: key.term.ends,
            certificate: key.certificate().map(|der| to_base64(der)),
        };
        let public = Public { trust_domain: trust_domain.clone(), sequence: ring.sequence, keys: ring.keys.iter().map(part).collect() };
        let mut plain = Zeroizing::new(Vec::with_capacity(LIMIT));
        for key in &ring.keys {
            let pkcs8 = key.to_pkcs8()?;
            plain.extend_from_slice(&u32::try_from(pkcs8.len()).unwrap_or(u32::MAX).to_be_bytes());
            plain.extend_from_slice(&pkcs8);
        }
        let salt = random_bytes()?;
        let aad = self.aad(&public)?;
        let payload = Payload { msg: &plain, aad: aad.as_bytes() };
        let secret = self.cipher(&salt)?.encrypt(&Nonce::default(), payload).map_err(|_| IssuerError::DoesNotOpen)?;
        let file = File { version: FileType::V1, public, salt, secret: to_base64(&secret) };
        let mut json = serde_json::to_vec_pretty(&file).map_err(|error| IssuerError::Form(error.to_string()))?;
        json.push(b'\n');
        replace_private(&self.path, &json).map_err(|error| IssuerError::Write { path: self.path.clone(), error: error.to_string() })
    }

    fn aad(&self, public: &Public) -> Result<Fields, IssuerError> {
        let public = serde_json::to_vec(public).map_err(|error| IssuerError::Form(error.to_string()))?;
        Ok(Fields::new(LABEL).field(self.installation.as_bytes()).field(public))
    }

    fn cipher(&self, salt: &[u8; 32]) -> Result<Aes256Gcm, IssuerError> {
        let mut key = Zeroizing::new([0; 32]);
        let info = Fields::new(LABEL).field(self.installation.as_bytes());
        let expanded = Hkdf::<Sha256>::new(Some(salt), &*self.seed).expand(info.as_bytes(), key.as_mut());
        expanded.map_err(|_| IssuerError::DoesNotOpen)?;
        Ok(Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key)))
    }
}

/// Where the file lies in the data folder.
#[must_use]
pub fn path(data: &Path) -> PathBuf {
    data.join("keys").join("issuer.json")
}

/// The next length-prefixed piece.
fn next<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk::<4>()?;
    let (piece, behind) = behind.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *rest = behind;
    Some(piece)
}

#[cfg(test)]
mod tests {
    use super::super::ring::Owner;
    use super::super::terms::{Terms, due};
    use super::*;
    use protocol::ids::AnchorClass;
    use std::time::Duration;

    const AT: UnixTime = UnixTime::from_seconds(1_800_000_000);

    fn domain() -> TrustDomain {
        "acme.example".parse().unwrap()
    }

    fn place(data: &Path, seed: u8) -> Place {
        std::fs::create_dir_all(data.join("keys")).unwrap();
        Place::new(data, Zeroizing::new([seed; 32]), PublicKey::from_bytes([1; 32]))
    }

    fn ring() -> Ring {
        let served = [IssuerUse::X509, IssuerUse::JwtEs256, IssuerUse::JwtRs256, IssuerUse::Result];
        let terms = Terms { life: Duration::from_secs(30 * 86400), overlap: Duration::from_secs(86400) };
        let (due, domain) = (due(&[], &served, terms, AT), domain());
        Ring::default().after(&due, &Owner { trust_domain: &domain, anchors: AnchorClass::Test }, AT).unwrap()
    }

    fn same(one: &Ring, other: &Ring) -> bool {
        one.serving() == other.serving() && one.sequence == other.sequence
    }

    #[test]
    fn what_is_written_reads_back_and_the_next_writing_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path(), 7);
        assert_eq!(place.read(&domain()).unwrap().keys.len(), 0, "nothing before the first start");
        let mut ring = ring();
        for sequence in [1, 2] {
            ring.sequence = sequence;
            place.write(&domain(), &ring).unwrap();
            let read = place.read(&domain()).unwrap();
            assert!(same(&ring, &read));
            let certificates = |ring: &Ring| ring.keys.iter().map(|key| key.certificate().cloned()).collect::<Vec<_>>();
            assert_eq!(certificates(&ring), certificates(&read));
        }
        let files: Vec<_> = std::fs::read_dir(folder.path().join("keys")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(files, ["issuer.json"], "nothing is left beside it");
    }

    #[test]
    fn a_file_opens_by_its_own_key_for_its_own_installation_and_trust_domain() {
        let folder = tempfile::tempdir().unwrap();
        place(folder.path(), 7).write(&domain(), &ring()).unwrap();
        assert_eq!(place(folder.path(), 8).read(&domain()).err(), Some(IssuerError::DoesNotOpen));
        let other = Place { installation: PublicKey::from_bytes([2; 32]), ..place(folder.path(), 7) };
        assert_eq!(other.read(&domain()).err(), Some(IssuerError::DoesNotOpen));
        let expected: TrustDomain = "other.example".parse().unwrap();
        let found = IssuerError::TrustDomain { expected: expected.clone(), found: domain() };
        assert_eq!(place(folder.path(), 7).read(&expected).err(), Some(found));
    }

    #[test]
    fn whoever_changes_a_public_part_has_a_file_that_does_not_open() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path(), 7);
        place.write(&domain(), &ring()).unwrap();
        let text = std::fs::read_to_string(path(folder.path())).unwrap();
        let changed = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            std::fs::write(path(folder.path()), text.replacen(from, to, 1)).unwrap();
            place.read(&domain()).err()
        };
        for (from, to) in [
            ("\"sequence\": 1", "\"sequence\": 9"),
            ("\"signs\": \"2027", "\"signs\": \"2026"),
            ("\"ends\": \"2027", "\"ends\": \"2037"),
            ("\"use\": \"jwt-es256\"", "\"use\": \"result\""),
        ] {
            assert_eq!(changed(from, to), Some(IssuerError::DoesNotOpen), "{from}");
        }
        assert!(matches!(changed("\"sequence\"", "\"more\": 1, \"sequence\""), Some(IssuerError::Form(_))));
        std::fs::write(path(folder.path()), text).unwrap();
        assert!(place.read(&domain()).is_ok());
    }

    #[test]
    fn no_private_key_lies_in_the_file_in_the_clear() {
        let folder = tempfile::tempdir().unwrap();
        let (place, ring) = (place(folder.path(), 7), ring());
        place.write(&domain(), &ring).unwrap();
        let text = std::fs::read_to_string(path(folder.path())).unwrap();
        for key in &ring.keys {
            let pkcs8 = key.to_pkcs8().unwrap();
            assert!(!text.contains(&to_base64(&pkcs8[30..60])));
        }
    }
}
