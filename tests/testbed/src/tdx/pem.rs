//! PEM (RFC 7468), as quotes and issuer chains carry certificates.

/// These certificates one behind the other, a line break behind each.
#[must_use]
pub fn chain(certificates: &[Vec<u8>]) -> String {
    certificates.iter().map(|der| format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", base64_lines(der))).collect()
}

/// Base64 in lines of 64 characters, each with its end.
pub(crate) fn base64_lines(bytes: &[u8]) -> String {
    bytes.chunks(48).map(|line| base64(line) + "\n").collect()
}

/// Base64 (RFC 4648, section 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = if place > group.len() { '=' } else { char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize]) };
            text.push(letter);
        }
    }
    text
}
