//! What a mount server is told, on its standard input, by whoever started it: where the sealed model lies and how it is fetched from
//! there, what to believe, and the key.
//!
//! ```text
//! {"format":2,"sealed":"s3://…","storage":{…},"manifest":"sha256:…","publishers":["ed25519:…"]}\n     one line of JSON, 64 KiB at most
//! 32 bytes                                                            the model key
//! counters\n                                                          any time later, any number of times
//! ```
//!
//! The settings of the storage name its credentials, a file or the environment, and hold none.
//!
//! The server answers on standard output with one [event](super::events::Event) a line: `ready` first, then `tampered` and
//! `unreadable` when they happen, `counters` when asked, `ended` last. Where standard input ends, whoever started the server is
//! gone, and it ends too unless it was told to outlive it.

use std::io::{self, Read, Write};

use models_manifest::ModelKey;
use protocol::ids::Digest;
use protocol::keys::PublicKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::sources::settings::InForce;
use crate::sources::{LocationError, SealedLocation, Storage};

/// The version of this form.
const FORMAT: u32 = 2;
/// The longest line (bytes).
const LINE: usize = 64 * 1024;
/// What is asked for after the order.
pub const COUNTERS: &str = "counters";

/// Why an order is none.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// Standard input failed or ended.
    #[error("no order on standard input: {0}")]
    Io(#[from] io::Error),
    /// No line within the limit.
    #[error("the order's first line is longer than {LINE} bytes")]
    TooLong,
    /// The line is not of the form.
    #[error("the order's first line is not of its form: {0}")]
    Form(serde_json::Error),
    /// Another version.
    #[error("an order of format {found}; this is {FORMAT}")]
    Format {
        /// The version found.
        found: u32,
    },
    /// No place.
    #[error("the order names no place: {0}")]
    Location(#[from] LocationError),
    /// Settings under which nothing could be fetched.
    #[error("nothing can be fetched under the order's settings of the storage")]
    Settings,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    format: u32,
    sealed: String,
    storage: InForce,
    manifest: Digest,
    publishers: Vec<PublicKey>,
}

/// What a mount server needs to know. No `Debug`, no `Clone`: it holds the key.
pub struct Order {
    /// Where the sealed model lies; a folder by its absolute path.
    pub sealed: SealedLocation,
    /// How it is fetched from elsewhere.
    pub storage: Storage,
    /// The digest of the manifest that was released.
    pub manifest: Digest,
    /// Whose manifests are believed.
    pub publishers: Vec<PublicKey>,
    /// The key that was released.
    pub key: ModelKey,
}

impl Order {
    /// Writes it to a mount server's standard input.
    ///
    /// # Errors
    /// The pipe's; [`io::ErrorKind::InvalidInput`] where the sealed folder's path is not UTF-8.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        if let SealedLocation::Folder(path) = &self.sealed
            && path.to_str().is_none()
        {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the sealed folder's path is not UTF-8"));
        }
        let line = Line {
            format: FORMAT,
            sealed: self.sealed.to_string(),
            storage: InForce::from(&self.storage),
            manifest: self.manifest,
            publishers: self.publishers.clone(),
        };
        let mut line = serde_json::to_vec(&line)?;
        line.push(b'\n');
        to.write_all(&line)?;
        to.write_all(self.key.as_bytes())?;
        to.flush()
    }

    /// Reads one, and not a byte more: what follows is for somebody else. `from` must not buffer, or the key stays behind in it.
    ///
    /// # Errors
    /// [`OrderError`].
    pub fn read(from: &mut impl Read) -> Result<Self, OrderError> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            from.read_exact(&mut byte)?;
            match byte {
                [b'\n'] => break,
                _ if line.len() >= LINE => return Err(OrderError::TooLong),
                [byte] => line.push(byte),
            }
        }
        let line: Line = serde_json::from_slice(&line).map_err(OrderError::Form)?;
        if line.format != FORMAT {
            return Err(OrderError::Format { found: line.format });
        }
        let mut key = Zeroizing::new([0; 32]);
        from.read_exact(&mut *key)?;
        let (sealed, storage) = (line.sealed.parse()?, line.storage.settings().ok_or(OrderError::Settings)?);
        Ok(Self { sealed, storage, manifest: line.manifest, publishers: line.publishers, key: ModelKey::from_bytes(key) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Vec<u8> {
        let key = ModelKey::from_bytes(Zeroizing::new([7; 32]));
        let storage = Storage { connections: 3, ..Storage::default() };
        let (sealed, publishers) = ("s3://acme/llama".parse().unwrap(), vec![PublicKey::from_bytes([2; 32])]);
        let order = Order { sealed, storage, manifest: Digest::from([1; 32]), publishers, key };
        let mut bytes = Vec::new();
        order.write(&mut bytes).unwrap();
        bytes
    }

    fn refusal(bytes: &[u8]) -> OrderError {
        Order::read(&mut &*bytes).err().unwrap()
    }

    #[test]
    fn an_order_is_read_as_it_was_written_and_nothing_behind_it() {
        let mut bytes = written();
        bytes.extend_from_slice(b"counters\n");
        let mut rest = bytes.as_slice();
        let order = Order::read(&mut rest).unwrap();
        assert_eq!((order.manifest, order.publishers.len()), (Digest::from([1; 32]), 1));
        assert_eq!((order.sealed.to_string().as_str(), order.storage.connections), ("s3://acme/llama", 3));
        assert_eq!(order.key.as_bytes(), &[7; 32]);
        assert_eq!(rest, b"counters\n");
    }

    #[test]
    fn what_is_no_order_is_refused_by_name() {
        let good = written();
        assert!(matches!(refusal(&good[..good.len() - 1]), OrderError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof));
        assert!(matches!(refusal(b""), OrderError::Io(_)));
        assert!(matches!(refusal(b"{}\n"), OrderError::Form(_)));
        assert!(matches!(refusal(&vec![b' '; LINE + 1]), OrderError::TooLong));
        let text = String::from_utf8_lossy(&good).into_owned();
        let changed = |from: &str, to: &str| {
            assert!(text.contains(from), "{text}");
            refusal(text.replace(from, to).as_bytes())
        };
        assert!(matches!(changed("\"format\":2", "\"format\":1"), OrderError::Format { found: 1 }));
        assert!(matches!(changed("s3://acme/llama", "ftp://acme/llama"), OrderError::Location(LocationError::Scheme { .. })));
        assert!(matches!(changed("\"connections\":3", "\"connections\":0"), OrderError::Settings));
        assert!(matches!(changed("\"connections\":3", "\"conections\":3"), OrderError::Form(_)));
        assert!(matches!(refusal(text.replace("{\"format\"", "{\"more\":0,\"format\"").as_bytes()), OrderError::Form(_)));
    }
}
