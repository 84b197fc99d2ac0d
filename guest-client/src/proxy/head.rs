//! The head of an agent's request, read to the letter before any HTTP library sees it: what two readers could divide or understand differently
//! is refused, not repaired.
//!
//! ```text
//! METHOD SP TARGET SP HTTP/1.1 CRLF
//! NAME ":" [SP|HTAB] VALUE [SP|HTAB] CRLF      at most 64 lines, 32 KiB in all
//! CRLF
//! ```
//! Lines end with CRLF and nowhere else; nothing is folded; a name is a token without `_` (which gateways read as `-`); a value is printable ASCII.
//! HTTP/1.0 is not spoken.

/// The largest head (bytes), its empty line included.
pub const HEAD: usize = 32 * 1024;
/// Header lines at most; the HTTP library behind this takes 100.
pub const FIELDS: usize = 64;
/// The longest method.
const METHOD: usize = 32;

/// Why a head is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// More than [`HEAD`] bytes.
    #[error("the head of the request has more than {HEAD} bytes")]
    TooLarge,
    /// More than [`FIELDS`] lines.
    #[error("the request has more than {FIELDS} header lines")]
    TooMany,
    /// CR or LF by itself.
    #[error("a line of the head does not end with CR LF")]
    LineEnding,
    /// Not method, target and version with one space between them.
    #[error("the request line is not METHOD TARGET HTTP/1.1")]
    RequestLine,
    /// Another version than HTTP/1.1.
    #[error("the request is not HTTP/1.1")]
    Version,
    /// A line that goes on in the next.
    #[error("a header line is folded")]
    Folded,
    /// Not a token before the colon, or one with an underscore.
    #[error("a header's name is no token, or holds an underscore")]
    Name,
    /// Something else than printable ASCII.
    #[error("a header's value holds something else than printable ASCII")]
    Value,
}

impl HeadError {
    /// A stable name for each variant.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "head-too-large",
            Self::TooMany => "head-too-many-fields",
            Self::LineEnding => "head-line-ending",
            Self::RequestLine => "head-request-line",
            Self::Version => "head-version",
            Self::Folded => "head-folded",
            Self::Name => "head-field-name",
            Self::Value => "head-field-value",
        }
    }
}

/// Where a head ends that may not have come whole: behind its empty line. `from` says how much of it was looked at before.
///
/// # Errors
/// [`HeadError::LineEnding`], [`HeadError::TooLarge`].
pub fn end(bytes: &[u8], from: usize) -> Result<Option<usize>, HeadError> {
    // What was looked at before may have ended in the middle of an ending.
    let mut at = from.saturating_sub(3);
    while let Some(byte) = bytes.get(at).filter(|_| at < HEAD) {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        match (byte, before) {
            (b'\n', Some(b'\r')) if at.checked_sub(3).and_then(|start| bytes.get(start..=at)) == Some(b"\r\n\r\n") => {
                return Ok(Some(at + 1));
            }
            (b'\n', Some(b'\r')) => {}
            (b'\n', _) | (_, Some(b'\r')) => return Err(HeadError::LineEnding),
            _ => {}
        }
        at += 1;
    }
    if bytes.len() >= HEAD { Err(HeadError::TooLarge) } else { Ok(None) }
}

/// A head, in pieces. Names are as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a str,
    /// The target.
    pub target: &'a str,
    /// Names and values, in their order.
    pub fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Head<'a> {
    /// Reads a whole head, up to and with its empty line.
    ///
    /// # Errors
    /// [`HeadError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HeadError> {
        if bytes.len() > HEAD {
            return Err(HeadError::TooLarge);
        }
        // Whatever is no text is no part of a line either; which part, decides the code.
        let head = bytes.strip_suffix(b"\r\n\r\n").ok_or(HeadError::LineEnding)?;
        let mut lines = split_lines(head);
        let (method, target) = request_line(lines.next().unwrap_or_default())?;
        let mut fields = Vec::new();
        for line in lines {
            if fields.len() == FIELDS {
                return Err(HeadError::TooMany);
            }
            fields.push(field(line)?);
        }
        Ok(Self { method, target, fields })
    }

    /// The values of a header, whatever the case of its name.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// The lines between the CRLFs.
fn split_lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let whole = rest?;
        let end = whole.windows(2).position(|pair| pair == b"\r\n");
        let (line, behind) = end.map_or((whole, None), |end| (whole.get(..end).unwrap_or_default(), whole.get(end + 2..)));
        rest = behind;
        Some(line)
    })
}

fn request_line(line: &[u8]) -> Result<(&str, &str), HeadError> {
    check_ending(line)?;
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(HeadError::RequestLine);
    };
    if method.is_empty() || method.len() > METHOD || !method.iter().all(|byte| is_token(*byte)) {
        return Err(HeadError::RequestLine);
    }
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(HeadError::RequestLine);
    }
    if version != b"HTTP/1.1" {
        return Err(if version.starts_with(b"HTTP/") { HeadError::Version } else { HeadError::RequestLine });
    }
    Ok((text(method, HeadError::RequestLine)?, text(target, HeadError::RequestLine)?))
}

fn field(line: &[u8]) -> Result<(&str, &str), HeadError> {
    check_ending(line)?;
    if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
        return Err(HeadError::Folded);
    }
    let colon = line.iter().position(|byte| *byte == b':').ok_or(HeadError::Name)?;
    let (name, value) = (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default());
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte) && *byte != b'_') {
        return Err(HeadError::Name);
    }
    if !value.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
        return Err(HeadError::Value);
    }
    Ok((text(name, HeadError::Name)?, text(value, HeadError::Value)?.trim_matches([' ', '\t'])))
}

fn check_ending(line: &[u8]) -> Result<(), HeadError> {
    if line.iter().any(|byte| matches!(byte, b'\r' | b'\n')) { Err(HeadError::LineEnding) } else { Ok(()) }
}

fn text(bytes: &[u8], otherwise: HeadError) -> Result<&str, HeadError> {
    std::str::from_utf8(bytes).map_err(|_| otherwise)
}

/// RFC 9110, 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Head<'_>, HeadError> {
        Head::parse(text.as_bytes())
    }

    #[test]
    fn a_head_is_read_in_pieces() {
        let head = parse("POST /v1/a?b HTTP/1.1\r\nHost: localhost\r\nX-A:\t b c \t\r\nx-a:\r\n\r\n").unwrap();
        assert_eq!((head.method, head.target), ("POST", "/v1/a?b"));
        assert_eq!(head.fields, [("Host", "localhost"), ("X-A", "b c"), ("x-a", "")]);
        assert_eq!(head.values("x-A").collect::<Vec<_>>(), ["b c", ""]);
        assert!(parse("GET / HTTP/1.1\r\n\r\n").unwrap().fields.is_empty());
    }

    #[test]
    fn what_is_not_to_the_letter_is_refused_by_name() {
        use HeadError::{Folded, LineEnding, Name, RequestLine, Value, Version};
        for (text, error) in [
            ("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", LineEnding),
            ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", LineEnding),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", LineEnding),
            ("GET / HTTP/1.1\r\nHost: a\r\n", LineEnding),
            ("GET / HTTP/1.1\r\nHost: a\n\n", LineEnding),
            ("", LineEnding),
            ("\r\nGET / HTTP/1.1\r\n\r\n", RequestLine),
            ("GET  / HTTP/1.1\r\n\r\n", RequestLine),
            ("GET / HTTP/1.1 \r\n\r\n", RequestLine),
            (" GET / HTTP/1.1\r\n\r\n", RequestLine),
            ("GET /\r\n\r\n", RequestLine),
            ("GET\t/\tHTTP/1.1\r\n\r\n", RequestLine),
            ("GET /\u{e9} HTTP/1.1\r\n\r\n", RequestLine),
            ("G(T / HTTP/1.1\r\n\r\n", RequestLine),
            ("GET / http/1.1\r\n\r\n", RequestLine),
            ("GET / HTTP/1.0\r\n\r\n", Version),
            ("GET / HTTP/2.0\r\n\r\n", Version),
            ("GET / HTTP/1.1\r\nHost: a\r\n X: b\r\n\r\n", Folded),
            ("GET / HTTP/1.1\r\n\tX: b\r\n\r\n", Folded),
            ("GET / HTTP/1.1\r\nContent-Length : 5\r\n\r\n", Name),
            ("GET / HTTP/1.1\r\nHost\r\n\r\n", Name),
            ("GET / HTTP/1.1\r\n: a\r\n\r\n", Name),
            ("GET / HTTP/1.1\r\nX_Api_Key: a\r\n\r\n", Name),
            ("GET / HTTP/1.1\r\nX\u{0}: a\r\n\r\n", Name),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n", Value),
            ("GET / HTTP/1.1\r\nX: a\u{0}\r\n\r\n", Value),
            ("GET / HTTP/1.1\r\nX: \u{e9}\r\n\r\n", Value),
            ("GET / HTTP/1.1\r\nX: \u{7f}\r\n\r\n", Value),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn the_end_is_found_however_the_bytes_come() {
        let whole = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\n\r";
        let length = whole.len() - 6;
        for cut in 0..length {
            assert_eq!(end(whole.get(..cut).unwrap(), 0), Ok(None), "{cut}");
            assert_eq!(end(whole, cut), Ok(Some(length)), "{cut}");
        }
        assert_eq!(end(b"GET / HTTP/1.1\n", 0), Err(HeadError::LineEnding));
        assert_eq!(end(b"GET / HTTP/1.1\rX", 0), Err(HeadError::LineEnding));
        assert_eq!(end(b"\n", 0), Err(HeadError::LineEnding));
    }

    #[test]
    fn a_head_has_a_largest() {
        let head = |more: usize| format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(more));
        let least = head(0).len();
        let fits = head(HEAD - least);
        assert_eq!(end(fits.as_bytes(), 0), Ok(Some(HEAD)));
        assert!(parse(&fits).is_ok());
        let larger = head(HEAD - least + 1);
        assert_eq!(end(larger.as_bytes(), 0), Err(HeadError::TooLarge));
        assert_eq!(parse(&larger), Err(HeadError::TooLarge));
        assert_eq!(end(&[b'a'; HEAD], 0), Err(HeadError::TooLarge));
        let lines = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "X: a\r\n".repeat(count));
        assert!(parse(&lines(FIELDS)).is_ok());
        assert_eq!(parse(&lines(FIELDS + 1)), Err(HeadError::TooMany));
    }
}
