//! Evidence that is handed in otherwise than as the bytes that are judged: what it is, and what to do about it.

use std::fmt;

use protocol::encoding::{from_base64, from_hex};

use super::is_td_quote;

/// What a file is that is no report and no TD quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recognised {
    /// A report or a quote in hex digits.
    Hex,
    /// A report or a quote in base64.
    Base64,
    /// A quote of an SGX enclave.
    SgxQuote,
}

impl fmt::Display for Recognised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hex => "evidence as text, in hex digits; expected its bytes",
            Self::Base64 => "evidence as text, in base64; expected its bytes",
            Self::SgxQuote => "a quote of an SGX enclave; expected one of a TD",
        })
    }
}

impl Recognised {
    /// What may help.
    pub(super) const fn hint(self) -> &'static str {
        match self {
            Self::Hex => "make bytes of it first: xxd -r -p FILE quote.bin",
            Self::Base64 => "make bytes of it first: base64 -d FILE > quote.bin",
            Self::SgxQuote => "enclaves are not judged here, only confidential VMs",
        }
    }
}

/// What bytes are, where they are recognised. Text counts only where it holds what would be judged: no report or quote begins as text does.
pub(super) fn of(bytes: &[u8]) -> Option<Recognised> {
    if is_sgx_quote(bytes) {
        return Some(Recognised::SgxQuote);
    }
    let text: String = core::str::from_utf8(bytes).ok()?.chars().filter(|letter| !letter.is_whitespace()).collect();
    let digits = text.strip_prefix("0x").unwrap_or(&text).to_ascii_lowercase();
    // As many as tell what they are of.
    let first: Option<[u8; 8]> = digits.get(..16).and_then(from_hex);
    if digits.bytes().all(|letter| letter.is_ascii_hexdigit()) && first.is_some_and(|bytes| is_evidence(&bytes)) {
        return Some(Recognised::Hex);
    }
    from_base64(&text).filter(|bytes| is_evidence(bytes)).map(|_| Recognised::Base64)
}

/// Whether bytes begin as a TD quote, an SGX quote, or an SNP report of a version that has been seen.
fn is_evidence(bytes: &[u8]) -> bool {
    is_td_quote(bytes) || is_sgx_quote(bytes) || matches!(bytes, [2..=5, 0, 0, 0, _, _, _, _, ..])
}

/// Whether bytes begin as an SGX quote: version 3 to 5, a key type, and no TEE type (version 3 has zeros in its place).
fn is_sgx_quote(bytes: &[u8]) -> bool {
    matches!(bytes, [3..=5, 0, low, high, 0, 0, 0, 0, ..] if (*low, *high) != (0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::encoding::to_base64;

    const TD: [u8; 9] = [4, 0, 2, 0, 0x81, 0, 0, 0, 1];
    const SNP: [u8; 9] = [2, 0, 0, 0, 7, 0, 0, 0, 1];

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02X}")).collect()
    }

    #[test]
    fn text_is_recognised_where_it_holds_evidence_and_bytes_are_left_alone() {
        for bytes in [TD, SNP] {
            assert_eq!(of(&bytes), None);
            for text in [hex(&bytes), format!("0x{}\n", hex(&bytes).to_lowercase()), format!("{}0", hex(&bytes))] {
                assert_eq!(of(text.as_bytes()), Some(Recognised::Hex), "{text}");
            }
            assert_eq!(of(format!("{}\n", to_base64(&bytes)).as_bytes()), Some(Recognised::Base64));
        }
        for other in ["", "deadbeef", "hello", "{}", &hex(&[1, 0, 0, 0, 7, 0, 0, 0]), &to_base64(b"something else")] {
            assert_eq!(of(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn an_enclaves_quote_is_none_of_a_td() {
        for version in 3..=5 {
            assert_eq!(of(&[version, 0, 2, 0, 0, 0, 0, 0, 9]), Some(Recognised::SgxQuote));
            assert_eq!(of(&[version, 0, 0, 0, 0, 0, 0, 0, 9]), None, "a report of that version");
        }
        assert_eq!(of(&[2, 0, 2, 0, 0, 0, 0, 0, 9]), None);
    }
}
