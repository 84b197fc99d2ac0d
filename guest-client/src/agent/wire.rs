//! What crosses an agent's socket: one question, one answer, each a big-endian `u32` length and that many bytes of JSON.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use protocol::hpke::RecipientKey;
use protocol::ids::{Digest, Nonce, Platform, Role};
use protocol::keys::PublicKey;
use protocol::limits::AGENT_MESSAGE;
use protocol::messages::EvidenceMessage;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::evidence::AttestInputs;

/// The version of these messages. Another one is refused: there is no negotiation.
pub const VERSION: u32 = 1;

/// The refusal of an agent that already serves as many as it may.
pub const AGENT_BUSY: &str = "agent-busy";

/// A workload's question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// [`VERSION`].
    pub version: u32,
    /// The broker's nonce.
    pub nonce: Nonce,
    /// The installation that the guest pinned.
    pub installation: PublicKey,
    /// The guest's HPKE key.
    pub hpke_key: RecipientKey,
    /// The guest's signing key.
    pub signing_key: PublicKey,
    /// SHA-256 of the guest's effective configuration.
    pub configuration: Digest,
}

impl Question {
    /// About these inputs.
    #[must_use]
    pub fn new(inputs: &AttestInputs) -> Self {
        let AttestInputs { nonce, installation, hpke_key, signing_key, configuration } = inputs.clone();
        Self { version: VERSION, nonce, installation, hpke_key, signing_key, configuration }
    }

    /// The inputs.
    #[must_use]
    pub fn into_inputs(self) -> AttestInputs {
        let Self { version: _, nonce, installation, hpke_key, signing_key, configuration } = self;
        AttestInputs { nonce, installation, hpke_key, signing_key, configuration }
    }
}

/// The agent's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// Evidence over the transcript of the question's fields, this platform, this role, and the event log beside the evidence.
    Attested {
        /// The kind of confidential VM.
        platform: Platform,
        /// The role of the socket.
        role: Role,
        /// The evidence.
        evidence: EvidenceMessage,
    },
    /// None.
    Refused {
        /// A stable code.
        code: String,
        /// In words.
        what: String,
    },
}

/// A stream that is used until a deadline, however the peer divides its bytes.
pub struct Timed<'a> {
    stream: &'a UnixStream,
    deadline: Instant,
}

impl<'a> Timed<'a> {
    /// For `span` from now.
    #[must_use]
    pub fn new(stream: &'a UnixStream, span: Duration) -> Self {
        Self { stream, deadline: Instant::now() + span }
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

/// The kernel reports a socket's timeout as `EAGAIN`.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(buffer).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Why a message cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The peer is gone, or too slow.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// Longer than [`AGENT_MESSAGE`].
    #[error("a message of {found} bytes, more than {AGENT_MESSAGE}")]
    TooLong {
        /// Its length in bytes.
        found: u64,
    },
    /// Not this message.
    #[error("not the expected message: {0}")]
    Form(String),
}

/// Writes one message.
///
/// # Errors
/// [`WireError`].
pub fn write<M: Serialize>(stream: &mut impl Write, message: &M) -> Result<(), WireError> {
    let json = serde_json::to_vec(message).map_err(|error| WireError::Form(error.to_string()))?;
    let length = u32::try_from(json.len()).ok().filter(|length| fits(*length)).ok_or(WireError::TooLong { found: json.len() as u64 })?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(&json);
    stream.write_all(&frame)?;
    Ok(stream.flush()?)
}

/// Reads one message. The length is judged before anything is allocated.
///
/// # Errors
/// [`WireError`].
pub fn read<M: DeserializeOwned>(stream: &mut impl Read) -> Result<M, WireError> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if !fits(length) {
        return Err(WireError::TooLong { found: length.into() });
    }
    let mut json = Vec::new();
    let got = stream.take(length.into()).read_to_end(&mut json)?;
    if u32::try_from(got) != Ok(length) {
        return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
    }
    serde_json::from_slice(&json).map_err(|error| WireError::Form(error.to_string()))
}

fn fits(length: u32) -> bool {
    usize::try_from(length).is_ok_and(|length| length <= AGENT_MESSAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal() -> Reply {
        Reply::Refused { code: AGENT_BUSY.into(), what: "busy".into() }
    }

    #[test]
    fn a_message_reads_back() {
        let mut bytes = Vec::new();
        write(&mut bytes, &refusal()).unwrap();
        assert_eq!(read::<Reply>(&mut bytes.as_slice()).unwrap(), refusal());
    }

    #[test]
    fn a_length_is_judged_before_the_bytes_come() {
        let hostile = u32::MAX.to_be_bytes();
        assert!(matches!(read::<Reply>(&mut hostile.as_slice()), Err(WireError::TooLong { found }) if found == u64::from(u32::MAX)));
        let largest = u32::try_from(AGENT_MESSAGE).unwrap().to_be_bytes();
        assert!(matches!(read::<Reply>(&mut largest.as_slice()), Err(WireError::Io(error)) if error.kind() == ErrorKind::UnexpectedEof));
    }

    #[test]
    fn a_message_is_exactly_what_its_length_says_and_knows_its_fields() {
        let framed = |json: &str| [&u32::try_from(json.len()).unwrap().to_be_bytes(), json.as_bytes()].concat();
        let good = r#"{"result":"refused","code":"a","what":"b"}"#;
        assert!(read::<Reply>(&mut framed(good).as_slice()).is_ok());
        for bad in [&good[..good.len() - 1], &format!("{good} 1"), &good.replace("\"what\"", "\"more\":1,\"what\""), "", "null"] {
            assert!(matches!(read::<Reply>(&mut framed(bad).as_slice()), Err(WireError::Form(_))), "{bad}");
        }
    }
}
