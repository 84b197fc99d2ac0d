//! The few DER encodings (ITU-T X.690) that certificates and revocation lists need, each as a function from values to bytes.

/// `TRUE`, as the critical flag of an extension or as `cA`.
pub const TRUE: [u8; 3] = [0x01, 0x01, 0xff];

/// `NULL`.
pub const NULL: [u8; 2] = [0x05, 0x00];

/// Any element: tag byte, definite length, content.
#[must_use]
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=0x7f => out.push(short as u8),
        long => {
            let bytes = long.to_be_bytes();
            let bytes = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(0)..];
            out.push(0x80 | bytes.len() as u8);
            out.extend_from_slice(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

/// `SEQUENCE` of already encoded parts.
#[must_use]
pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

/// `SET` of one already encoded part: all that a relative distinguished name needs.
#[must_use]
pub fn set(part: &[u8]) -> Vec<u8> {
    element(0x31, part)
}

/// Constructed context tag `[number]`, explicit or around a constructed type.
#[must_use]
pub fn context(number: u8, content: &[u8]) -> Vec<u8> {
    element(0xa0 | number, content)
}

/// `INTEGER` of a value that is not negative; 0x80 and above take a leading zero byte (X.690 section 8.3.2).
#[must_use]
pub fn integer(value: u64) -> Vec<u8> {
    unsigned(&value.to_be_bytes())
}

/// `INTEGER` from big-endian bytes read as a value that is not negative.
#[must_use]
pub fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let mut content = bytes[start..].to_vec();
    if content.first().is_none_or(|byte| *byte >= 0x80) {
        content.insert(0, 0);
    }
    element(0x02, &content)
}

/// `OBJECT IDENTIFIER` from its dotted form.
///
/// # Panics
/// When `dotted` is not at least two numbers: identifiers here are constants.
#[must_use]
pub fn oid(dotted: &str) -> Vec<u8> {
    let arcs: Vec<u64> = dotted.split('.').map(|arc| arc.parse().expect("an arc is a number")).collect();
    let mut content = Vec::new();
    for arc in std::iter::once(arcs[0] * 40 + arcs[1]).chain(arcs[2..].iter().copied()) {
        let mut groups = vec![(arc & 0x7f) as u8];
        let mut rest = arc >> 7;
        while rest > 0 {
            groups.push(0x80 | (rest & 0x7f) as u8);
            rest >>= 7;
        }
        content.extend(groups.iter().rev());
    }
    element(0x06, &content)
}

/// `OCTET STRING`.
#[must_use]
pub fn octet_string(bytes: &[u8]) -> Vec<u8> {
    element(0x04, bytes)
}

/// `BIT STRING` of whole bytes.
#[must_use]
pub fn bit_string(bytes: &[u8]) -> Vec<u8> {
    element(0x03, &[&[0], bytes].concat())
}

/// `BIT STRING` of named bits, trailing zero bits removed as DER demands (X.690 section 11.2.2): key usage.
#[must_use]
pub fn named_bits(bits: &[u8]) -> Vec<u8> {
    let Some(last) = bits.iter().max() else {
        return element(0x03, &[0]);
    };
    let mut content = vec![0; usize::from(last / 8) + 2];
    content[0] = 7 - last % 8;
    for bit in bits {
        content[usize::from(bit / 8) + 1] |= 0x80 >> (bit % 8);
    }
    element(0x03, &content)
}

/// `UTF8String`.
#[must_use]
pub fn utf8_string(text: &str) -> Vec<u8> {
    element(0x0c, text.as_bytes())
}

/// `PrintableString`.
#[must_use]
pub fn printable_string(text: &str) -> Vec<u8> {
    element(0x13, text.as_bytes())
}

/// `IA5String`.
#[must_use]
pub fn ia5_string(text: &str) -> Vec<u8> {
    element(0x16, text.as_bytes())
}

/// A time in seconds since 1970-01-01 UTC: `UTCTime` before 2050, `GeneralizedTime` from then on (RFC 5280 section 4.1.2.5).
#[must_use]
pub fn time(seconds: u64) -> Vec<u8> {
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let rest = format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    if year < 2050 {
        element(0x17, format!("{:02}{rest}", year % 100).as_bytes())
    } else {
        element(0x18, format!("{year:04}{rest}").as_bytes())
    }
}

/// Year, month and day of a number of days since 1970-01-01 in the Gregorian calendar.
pub(crate) fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month as u64 + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_from_0x80_takes_two_content_bytes() {
        assert_eq!(integer(0), [0x02, 1, 0]);
        assert_eq!(integer(0x7f), [0x02, 1, 0x7f]);
        assert_eq!(integer(0xd9), [0x02, 2, 0, 0xd9]);
        assert_eq!(integer(0x01_0000), [0x02, 3, 1, 0, 0]);
    }

    #[test]
    fn a_length_from_0x80_takes_the_long_form() {
        assert_eq!(element(0x04, &[0; 0x7f])[..2], [0x04, 0x7f]);
        assert_eq!(element(0x04, &[0; 0x80])[..3], [0x04, 0x81, 0x80]);
        assert_eq!(element(0x04, &[0; 0x100])[..4], [0x04, 0x82, 1, 0]);
    }

    #[test]
    fn an_arc_from_128_takes_several_groups() {
        assert_eq!(oid("1.3.6.1.4.1.3704.1.3.9"), [0x06, 10, 0x2b, 6, 1, 4, 1, 0x9c, 0x78, 1, 3, 9]);
        assert_eq!(oid("2.5.4.3"), [0x06, 3, 0x55, 4, 3]);
    }

    #[test]
    fn key_usage_bits_lose_their_trailing_zeros() {
        assert_eq!(named_bits(&[5]), [0x03, 2, 2, 0x04]);
        assert_eq!(named_bits(&[5, 6]), [0x03, 2, 1, 0x06]);
        assert_eq!(named_bits(&[]), [0x03, 1, 0]);
    }

    #[test]
    fn a_year_from_2050_is_a_generalized_time() {
        assert_eq!(time(1_603_387_385), element(0x17, b"201022172305Z"));
        assert_eq!(time(951_782_400), element(0x17, b"000229000000Z"));
        assert_eq!(time(2_524_607_999), element(0x17, b"491231235959Z"));
        assert_eq!(time(2_524_608_000), element(0x18, b"20500101000000Z"));
    }
}
