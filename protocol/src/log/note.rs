//! Signed notes (`c2sp.org/signed-note`): a text, a blank line, and a line for each signature. Ed25519 only.

use std::fmt;
use std::str::FromStr;

use crate::encoding::{from_base64, sha256, to_base64};
use crate::keys::{PublicKey, Signature, SigningKey};
use crate::limits;

/// What every signature line begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// The byte that stands for Ed25519 in key ids and verifier keys.
const ED25519: u8 = 0x01;

/// The name of a log, which is also the name of its key: 1 to 320 printable ASCII characters without space or `+`,
/// by convention a URL without its scheme.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(String);

impl Origin {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is no [`Origin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a log's name: expected 1 to {max} printable ASCII characters without space or +", max = limits::LOG_ORIGIN)]
pub struct BadOrigin;

impl FromStr for Origin {
    type Err = BadOrigin;
    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        let good = (1..=limits::LOG_ORIGIN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+');
        if good { Ok(Self(text.to_owned())) } else { Err(BadOrigin) }
    }
}

/// The four bytes by which a signature line, together with the name, says which key made it. A hint, not a hash to rely on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NoteKeyId([u8; 4]);

impl fmt::Display for NoteKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for NoteKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who may sign a note: a name and an Ed25519 key. In text, a "vkey": `NAME+HEX8+BASE64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    /// The name that its signature lines bear.
    pub name: Origin,
    /// The key.
    pub key: PublicKey,
}

impl VerifierKey {
    /// What its signature lines name it by: the first four bytes of SHA-256 of `name ‖ 0x0A ‖ 0x01 ‖ key`.
    #[must_use]
    pub fn id(&self) -> NoteKeyId {
        let digest = sha256(&[self.name.as_str().as_bytes(), b"\n", &self.typed_key()].concat());
        let [a, b, c, d, ..] = *digest.as_bytes();
        NoteKeyId([a, b, c, d])
    }

    /// The key behind the byte that says its kind.
    fn typed_key(&self) -> Vec<u8> {
        [&[ED25519], self.key.as_bytes().as_slice()].concat()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}+{}", self.name, self.id(), to_base64(&self.typed_key()))
    }
}

/// Why a text is no [`VerifierKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadVerifierKey {
    /// Not three parts of a name, hex digits and base64.
    #[error("not a verifier key: expected NAME+HEX8+BASE64")]
    Form,
    /// The name is no [`Origin`].
    #[error(transparent)]
    Name(#[from] BadOrigin),
    /// Another kind of key.
    #[error("not an Ed25519 key: expected kind 1, found {found}")]
    Kind {
        /// The byte that says the kind.
        found: u8,
    },
    /// The id is not that of the name and the key.
    #[error("key id {found} does not belong to this name and key, expected {expected}")]
    Id {
        /// What the name and the key give.
        expected: NoteKeyId,
        /// What the text says.
        found: NoteKeyId,
    },
}

impl FromStr for VerifierKey {
    type Err = BadVerifierKey;
    fn from_str(text: &str) -> Result<Self, BadVerifierKey> {
        let (name, rest) = text.split_once('+').ok_or(BadVerifierKey::Form)?;
        let (id, key) = rest.split_once('+').ok_or(BadVerifierKey::Form)?;
        let found = crate::encoding::from_hex(id).map(NoteKeyId).ok_or(BadVerifierKey::Form)?;
        let key = from_base64(key).ok_or(BadVerifierKey::Form)?;
        let name = name.parse()?;
        let (kind, key) = key.split_first().ok_or(BadVerifierKey::Form)?;
        if *kind != ED25519 {
            return Err(BadVerifierKey::Kind { found: *kind });
        }
        let key = Self { name, key: PublicKey::from_bytes(key.try_into().map_err(|_| BadVerifierKey::Form)?) };
        let expected = key.id();
        if expected == found { Ok(key) } else { Err(BadVerifierKey::Id { expected, found }) }
    }
}

/// Signs `text` under `name`. The text ends in a newline and has no other control character; its writers see to that.
pub(super) fn sign(text: &str, name: &Origin, key: &SigningKey) -> String {
    let verifier = VerifierKey { name: name.clone(), key: *key.public() };
    let signature = key.sign(text.as_bytes());
    let bytes = [verifier.id().0.as_slice(), signature.as_bytes()].concat();
    format!("{text}\n{DASH}{name} {}\n", to_base64(&bytes))
}

/// Reads a note that at least one of `keys` has signed, and gives its text with the final newline. Signatures of keys
/// not among `keys` are passed over, whatever their kind.
///
/// # Errors
/// The [`NoteError`] that says what is wrong. One bad signature of one of `keys` refuses the note, whatever the others say.
pub fn open<'a>(note: &'a str, keys: &[VerifierKey]) -> Result<&'a str, NoteError> {
    let (text, signatures) = divide(note)?;
    let mut signed = false;
    for (number, line) in (1..).zip(signatures.split('\n')) {
        if number > limits::LOG_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        let line = SignatureLine::parse(line).ok_or(NoteError::SignatureLine { number })?;
        let mut known = keys.iter().filter(|key| key.name.as_str() == line.name && key.id() == line.id).peekable();
        if let Some(named) = known.peek() {
            let bad = NoteError::BadSignature { name: named.name.clone(), id: line.id };
            let signature = line.signature.as_slice().try_into().map(Signature::from_bytes);
            let good = signature.is_ok_and(|signature| known.any(|key| key.key.verify(text.as_bytes(), &signature).is_ok()));
            if !good {
                return Err(bad);
            }
            signed = true;
        }
    }
    if signed { Ok(text) } else { Err(NoteError::NoKnownSignature) }
}

/// The text with its final newline, and the signature lines without theirs.
fn divide(note: &str) -> Result<(&str, &str), NoteError> {
    if note.len() > limits::LOG_CHECKPOINT {
        return Err(NoteError::TooLong { found: note.len() });
    }
    if let Some(found) = note.chars().find(|character| *character < ' ' && *character != '\n') {
        return Err(NoteError::ControlCharacter { found });
    }
    // The last blank line divides: the text may have others.
    let blank = note.rfind("\n\n").ok_or(NoteError::NoBlankLine)?;
    let (text, signatures) = note.split_at_checked(blank + 1).ok_or(NoteError::NoBlankLine)?;
    let signatures = signatures.strip_prefix('\n').ok_or(NoteError::NoBlankLine)?;
    let signatures = signatures.strip_suffix('\n').ok_or(NoteError::NoFinalNewline)?;
    Ok((text, signatures))
}

/// One signature, not yet checked.
struct SignatureLine<'a> {
    name: &'a str,
    id: NoteKeyId,
    signature: Vec<u8>,
}

impl<'a> SignatureLine<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix(DASH)?.split_once(' ')?;
        if name.is_empty() || name.contains(|character: char| character.is_whitespace() || character == '+') {
            return None;
        }
        let bytes = from_base64(encoded)?;
        let (id, signature) = bytes.split_first_chunk()?;
        (!signature.is_empty()).then(|| Self { name, id: NoteKeyId(*id), signature: signature.to_vec() })
    }
}

/// Why a note is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// More bytes than [`limits::LOG_CHECKPOINT`].
    #[error("a note of {found} bytes, more than {max}", max = limits::LOG_CHECKPOINT)]
    TooLong {
        /// How many.
        found: usize,
    },
    /// A control character other than a newline.
    #[error("the note has a control character {found:?}")]
    ControlCharacter {
        /// Which.
        found: char,
    },
    /// No blank line divides a text from signatures.
    #[error("no blank line divides the note's text from its signatures")]
    NoBlankLine,
    /// The last signature line does not end.
    #[error("the note does not end in a newline")]
    NoFinalNewline,
    /// More signatures than [`limits::LOG_SIGNATURES`].
    #[error("the note has more than {max} signatures", max = limits::LOG_SIGNATURES)]
    TooManySignatures,
    /// A line behind the blank line is no signature.
    #[error("line {number} behind the blank line is no signature")]
    SignatureLine {
        /// Which line, from 1.
        number: usize,
    },
    /// A known key's signature does not verify.
    #[error("the signature of {name} with key id {id} does not verify")]
    BadSignature {
        /// The key's name.
        name: Origin,
        /// The key's id.
        id: NoteKeyId,
    },
    /// None of the signatures is of a known key.
    #[error("no known key has signed the note")]
    NoKnownSignature,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of c2sp.org/signed-note.
    const KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const NOTE: &str = "This is an example message.\n\n\
        \u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    fn key(name: &str, seed: u8) -> (SigningKey, VerifierKey) {
        let key = SigningKey::from_seed(&[seed; 32]).unwrap();
        let verifier = VerifierKey { name: name.parse().unwrap(), key: *key.public() };
        (key, verifier)
    }

    fn line(text: &str, name: &str, seed: u8) -> String {
        let (key, verifier) = key(name, seed);
        sign(text, &verifier.name, &key).strip_prefix(text).unwrap().trim_start_matches('\n').to_owned()
    }

    #[test]
    fn the_example_of_the_specification_opens() {
        let key: VerifierKey = KEY.parse().unwrap();
        assert_eq!(key.to_string(), KEY);
        assert_eq!(open(NOTE, &[key]), Ok("This is an example message.\n"));
    }

    #[test]
    fn a_verifier_key_is_refused_by_name() {
        for (text, reason) in [
            ("example.com/foo", BadVerifierKey::Form),
            ("example.com/foo+530d903a", BadVerifierKey::Form),
            ("example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", BadVerifierKey::Form),
            ("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U", BadVerifierKey::Form),
            ("example.com/foo+530d903a+", BadVerifierKey::Form),
            ("example.com/foo+530d903a+AekyeRrm", BadVerifierKey::Form),
            ("a b+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", BadVerifierKey::Name(BadOrigin)),
            ("+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", BadVerifierKey::Name(BadOrigin)),
            ("example.com/foo+530d903a+BOkyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", BadVerifierKey::Kind { found: 4 }),
            (
                "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
                BadVerifierKey::Id { expected: NoteKeyId([0x53, 0x0d, 0x90, 0x3a]), found: NoteKeyId([0x53, 0x0d, 0x90, 0x3b]) },
            ),
        ] {
            assert_eq!(text.parse::<VerifierKey>(), Err(reason), "{text}");
        }
    }

    #[test]
    fn a_name_has_no_space_plus_or_control_character() {
        for bad in ["", "a b", "a+b", "a\nb", "a\u{a0}b", "\u{e4}", &"a".repeat(321)] {
            assert_eq!(bad.parse::<Origin>(), Err(BadOrigin), "{bad:?}");
        }
        assert!("a".repeat(320).parse::<Origin>().is_ok() && "a.example/log-1".parse::<Origin>().is_ok());
    }

    #[test]
    fn a_malformed_note_is_refused_by_name() {
        let keys = [KEY.parse().unwrap()];
        let refusal = |note: &str| open(note, &keys).unwrap_err();
        let long = format!("{}{NOTE}", "x".repeat(limits::LOG_CHECKPOINT - NOTE.len() + 1));
        assert_eq!(refusal(&long), NoteError::TooLong { found: limits::LOG_CHECKPOINT + 1 });
        assert!(matches!(refusal(&long[1..]), NoteError::BadSignature { .. }));
        assert_eq!(refusal(&NOTE.replace("message.", "message.\t")), NoteError::ControlCharacter { found: '\t' });
        assert_eq!(refusal(&NOTE.replace('\n', "\r\n")), NoteError::ControlCharacter { found: '\r' });
        assert_eq!(refusal(""), NoteError::NoBlankLine);
        assert_eq!(refusal(&NOTE.replace("\n\n", "\n")), NoteError::NoBlankLine);
        assert_eq!(refusal(NOTE.trim_end()), NoteError::NoFinalNewline);
        assert_eq!(refusal("text\n\n"), NoteError::NoFinalNewline);
        assert_eq!(refusal("text\n\n\n"), NoteError::NoFinalNewline);
        for bad in
            ["-", "\u{2014}", "\u{2014} name", "\u{2014}  AAAAAAA=", "\u{2014} a+b AAAAAAA=", "\u{2014} name AAAAAA==", "\u{2014} name !"]
        {
            assert_eq!(refusal(&format!("{NOTE}{bad}\n")), NoteError::SignatureLine { number: 2 }, "{bad}");
        }
        assert!(open(&format!("{NOTE}\u{2014} name AAAAAAA=\n"), &keys).is_ok());
    }

    #[test]
    fn unknown_signatures_are_passed_over() {
        let (_, known) = key("log.example", 1);
        let text = "text\n";
        let (good, other) = (line(text, "log.example", 1), line(text, "log.example", 2));
        let renamed = line(text, "witness.example", 1);
        // The known key's own bytes under another name are another key.
        let keys = [known];
        assert_eq!(open(&format!("{text}\n{other}{good}{renamed}"), &keys), Ok(text));
        assert_eq!(open(&format!("{text}\n{other}"), &keys), Err(NoteError::NoKnownSignature));
        assert_eq!(open(&format!("{text}\n{renamed}"), &keys), Err(NoteError::NoKnownSignature));
        assert_eq!(open(&format!("{text}\n{good}"), &[]), Err(NoteError::NoKnownSignature));
        // A cosignature of 2420 + 8 bytes, as ML-DSA-44 makes them, from a key that is not known.
        let cosignature = format!("\u{2014} witness.example {}\n", to_base64(&[9; 2432]));
        assert_eq!(open(&format!("{text}\n{cosignature}{good}"), &keys), Ok(text));
    }

    #[test]
    fn one_bad_signature_of_a_known_key_refuses_the_note() {
        let ((_, first), (_, second)) = (key("log.example", 1), key("log.example", 2));
        let (text, id) = ("text\n", second.id());
        let keys = [first.clone(), second.clone()];
        let (good, bad) = (line(text, "log.example", 1), line("other\n", "log.example", 2));
        let refusal = Err(NoteError::BadSignature { name: second.name.clone(), id });
        assert_eq!(open(&format!("{text}\n{good}{bad}"), &keys), refusal);
        assert_eq!(open(&format!("{text}\n{bad}{good}"), &keys), refusal);
        assert_eq!(open(&format!("{text}\n{good}{bad}"), &[first]), Ok(text));
        // Of another length: a known key makes 64 bytes.
        let short = format!("\u{2014} log.example {}\n", to_base64(&[id.0.as_slice(), &[0; 63]].concat()));
        assert_eq!(open(&format!("{text}\n{good}{short}"), &keys), refusal);
    }

    #[test]
    fn as_many_signatures_as_the_limit_says_are_read() {
        let (_, known) = key("log.example", 1);
        let others: String = (2..=32).map(|seed| line("text\n", "other.example", seed)).collect();
        let note = format!("text\n\n{others}{}", line("text\n", "log.example", 1));
        assert_eq!(open(&note, std::slice::from_ref(&known)), Ok("text\n"));
        let note = format!("{note}{}", line("text\n", "other.example", 33));
        assert_eq!(open(&note, &[known]), Err(NoteError::TooManySignatures));
    }
}
