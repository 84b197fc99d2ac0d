//! Looks for the credential in what the upstream sends. An upstream that shows a caller its own headers, or names the key that it refuses, would
//! hand the agent what the proxy keeps from it.
//!
//! Only the credential's own bytes are found, whole: not an encoding of them and not a part. And nothing is ever held back to see how it goes on. An agent can
//! make many an upstream send back what it likes; if an end that looks like the credential's beginning came later, or in another piece, than an
//! end that does not, then an agent could guess the credential one character after the other. As it is, whoever guesses learns something once the whole is
//! right; so nothing shorter than [`SHORTEST`] is looked for. What that costs: where an upstream divides the credential between two pieces, its
//! beginning has gone on when the rest is cut.
//!
//! This narrows what a careless upstream gives away. That no allowed request makes the upstream tell the credential stays the operator's to see to.

use std::sync::Arc;

use protocol::messages::Secret;

use super::upstream::bare;

/// The shortest credential that is looked for (bytes): a shorter one could be guessed, many at a time, by what is cut.
pub const SHORTEST: usize = 16;

/// The credential was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found;

/// Looks through a stream, piece by piece (Knuth, Morris, Pratt).
pub struct Watch {
    secret: Arc<Secret>,
    /// For each length of a beginning, the length of its longest own beginning that it also ends in; empty where nothing is looked for.
    back: Vec<usize>,
    /// How many bytes of the credential the stream now ends in.
    length: usize,
}

impl Watch {
    /// For this credential.
    #[must_use]
    pub fn new(secret: Arc<Secret>) -> Self {
        let needle = bare(&secret);
        let mut back: Vec<usize> = Vec::new();
        if needle.len() >= SHORTEST {
            back.push(0);
            for byte in needle.iter().skip(1) {
                let length = next(needle, &back, back.last().copied().unwrap_or_default(), *byte);
                back.push(length);
            }
        }
        Self { secret, back, length: 0 }
    }

    /// The next piece of the stream.
    ///
    /// # Errors
    /// [`Found`]: the credential ends in this piece, which may not go on.
    pub fn pass(&mut self, piece: &[u8]) -> Result<(), Found> {
        let needle = bare(&self.secret);
        if self.back.is_empty() {
            return Ok(());
        }
        for byte in piece {
            self.length = next(needle, &self.back, self.length, *byte);
            if self.length == needle.len() {
                return Err(Found);
            }
        }
        Ok(())
    }

    /// Whether these bytes, which are whole, hold the credential.
    #[must_use]
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        let needle = bare(&self.secret);
        !self.back.is_empty() && bytes.windows(needle.len()).any(|window| window == needle)
    }
}

/// How many bytes of the credential a stream ends in that ended in `length`, and now in this byte too.
fn next(needle: &[u8], back: &[usize], mut length: usize, byte: u8) -> usize {
    while length > 0 && needle.get(length) != Some(&byte) {
        length = back.get(length - 1).copied().unwrap_or_default();
    }
    length + usize::from(needle.get(length) == Some(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    const KEY: &str = "sk-live-sk-live-abcd";

    fn watch(secret: &str) -> Watch {
        Watch::new(Arc::new(Secret::new(Zeroizing::new(secret.as_bytes().to_vec()))))
    }

    /// What a stream in pieces of this size comes to.
    fn through(secret: &str, stream: &[u8], size: usize) -> Result<(), Found> {
        let mut watch = watch(secret);
        stream.chunks(size).try_for_each(|piece| watch.pass(piece))
    }

    #[test]
    fn a_stream_without_it_comes_through_whatever_its_pieces() {
        for stream in ["", "sk-live-sk-live-abc", "sk-live-sk-live-sk-live-abcsk-live-", "sk-sk-sk-sk-", "nothing of it at all"] {
            for size in 1..=stream.len().max(1) {
                assert_eq!(through(KEY, stream.as_bytes(), size), Ok(()), "{stream} by {size}");
            }
        }
        assert_eq!(through("aabaaabaaaabaabaaa", b"aabaaabaaaabaabaabaaabaaaabaabaa", 3), Ok(()));
    }

    #[test]
    fn it_is_found_wherever_the_pieces_divide_it() {
        let streams =
            [KEY.to_owned(), format!("{{\"error\":\"bad key {KEY}\"}}"), format!("sk-live-{KEY}"), format!("sk-live-sk-live-sk-l{KEY}")];
        for stream in streams {
            for size in 1..=stream.len() {
                assert_eq!(through(KEY, stream.as_bytes(), size), Err(Found), "{stream} by {size}");
            }
        }
        assert_eq!(through("aabaaabaaaabaabaaa", b"aabaaabaaaabaabaabaaabaaaabaabaaa", 2), Err(Found));
        assert_eq!(through(&format!("{KEY}\n"), format!("it is {KEY}!").as_bytes(), 4), Err(Found), "a final line ending is no part of it");
        assert!(watch(KEY).is_in(format!("Bearer {KEY}").as_bytes()));
        assert!(!watch(KEY).is_in(&KEY.as_bytes()[1..]) && !watch(KEY).is_in(b""));
    }

    #[test]
    fn what_is_short_enough_to_be_guessed_is_not_looked_for() {
        let (short, long) = ("a".repeat(SHORTEST - 1), "a".repeat(SHORTEST));
        for secret in ["", &short] {
            assert_eq!(through(secret, "a".repeat(100).as_bytes(), 7), Ok(()));
            assert!(!watch(secret).is_in("a".repeat(100).as_bytes()));
        }
        assert_eq!(through(&long, "a".repeat(100).as_bytes(), 7), Err(Found));
    }
}
