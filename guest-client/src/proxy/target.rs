//! The target of an agent's request: what is read as a path, and what is refused before any allow-list is asked.
//!
//! Servers differ in what they make of a path: they decode it once or twice, fold `//` and `..`, read `\` as `/`, cut at `;`. A path that two
//! readers could take for two things is therefore no path here. What is left has one spelling, and every server reads it alike:
//!
//! - printable ASCII, without `\`, `;` and `#`;
//! - segments that are not empty and not of dots alone; only the last may be empty (`/v1/files/`);
//! - `%XX` only where the character could not stand there by itself, and never for `/`, `\`, `.`, `;`, `%`, `?`, `#`, a control character, or what is
//!   beyond ASCII.
//!
//! A query is printable ASCII without `#`, and without `"`, `<` and `>`, which no URL holds unescaped. It is handed on as it is, and matched by nothing.

/// The longest target (bytes).
pub const TARGET: usize = 8 * 1024;
/// What a path may not hold even where it is escaped: a second reader would give it a meaning.
const NEVER_ESCAPED: &[u8] = b"/\\.;%?#";
/// What of printable ASCII does not stand in a query unescaped, beside `#`, which ends it (RFC 3986, 3.4, but for what browsers send all the same).
const NEVER_IN_A_QUERY: &[u8] = b"\"<>";
/// What stands in a path unescaped beside letters and digits (RFC 3986, 3.3), without `;`.
const PLAIN: &[u8] = b"-._~!$&'()*+,=:@";

/// Why a target is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// More than [`TARGET`] bytes.
    #[error("the request target has more than {TARGET} bytes")]
    TooLong,
    /// Neither `/PATH` nor a whole URL.
    #[error("the request target is neither a path nor a URL")]
    Form,
    /// A whole URL, of another host.
    #[error("the request target names another host than the upstream")]
    OtherHost,
    /// A character that no path or query holds, or that servers read differently.
    #[error("the request target holds a character that may not stand there")]
    Character,
    /// A fragment, which is nothing to send.
    #[error("the request target holds a fragment")]
    Fragment,
    /// `%` without two hex digits, or an escape of what needs none or may not be there.
    #[error("the path holds an escape that is none, that needs none, or that hides a separator")]
    Encoding,
    /// `//`.
    #[error("the path holds an empty segment")]
    EmptySegment,
    /// `.`, `..` and the like.
    #[error("the path holds a segment of dots")]
    DotSegment,
}

impl TargetError {
    /// A stable name for each variant.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooLong => "target-too-long",
            Self::Form => "target-form",
            Self::OtherHost => "target-host",
            Self::Character => "target-character",
            Self::Fragment => "target-fragment",
            Self::Encoding => "target-encoding",
            Self::EmptySegment => "target-empty-segment",
            Self::DotSegment => "target-dot-segment",
        }
    }
}

/// A target that has one reading. Only [`Self::parse`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    text: String,
    path: usize,
}

impl Target {
    /// Reads a request's target: `/PATH[?QUERY]`, or the same behind `http://` or `https://` and one of `hosts`, which are in lower case.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn parse(text: &str, hosts: &[String]) -> Result<Self, TargetError> {
        if text.len() > TARGET {
            return Err(TargetError::TooLong);
        }
        let text = if text.starts_with('/') { text } else { behind_host(text, hosts)? };
        if text.contains('#') {
            return Err(TargetError::Fragment);
        }
        let path = text.find('?').unwrap_or(text.len());
        let (before, behind) = text.split_at(path);
        check_path(before)?;
        if behind.bytes().all(|byte| byte.is_ascii_graphic() && !NEVER_IN_A_QUERY.contains(&byte)) {
            Ok(Self { text: text.to_owned(), path })
        } else {
            Err(TargetError::Character)
        }
    }

    /// The path: begins with `/`, holds no query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.split_at(self.path).0
    }

    /// Path and query, as they go on.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// What stands behind `http://HOST`, where the host is one of these.
fn behind_host<'a>(text: &'a str, hosts: &[String]) -> Result<&'a str, TargetError> {
    let (scheme, rest) = text.split_once("://").ok_or(TargetError::Form)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(TargetError::Form);
    }
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    if !hosts.iter().any(|known| known.eq_ignore_ascii_case(host)) {
        return Err(TargetError::OtherHost);
    }
    if path.starts_with('/') { Ok(path) } else { Err(TargetError::Form) }
}

/// Whether a path has one reading, as the head of this file says.
///
/// # Errors
/// [`TargetError`].
pub fn check_path(path: &str) -> Result<(), TargetError> {
    let behind = path.strip_prefix('/').ok_or(TargetError::Form)?;
    let mut segments = behind.split('/').peekable();
    while let Some(segment) = segments.next() {
        check_segment(segment)?;
        if segment.is_empty() && segments.peek().is_some() {
            return Err(TargetError::EmptySegment);
        }
    }
    Ok(())
}

fn check_segment(segment: &str) -> Result<(), TargetError> {
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next(), bytes.next()].map(|digit| digit.and_then(|digit| char::from(digit).to_digit(16)));
                let [Some(high), Some(low)] = digits else { return Err(TargetError::Encoding) };
                let hidden = u8::try_from(high * 16 + low).map_err(|_| TargetError::Encoding)?;
                if !may_be_escaped(hidden) {
                    return Err(TargetError::Encoding);
                }
            }
            byte if byte.is_ascii_alphanumeric() || PLAIN.contains(&byte) => {}
            _ => return Err(TargetError::Character),
        }
    }
    if !segment.is_empty() && segment.bytes().all(|byte| byte == b'.') { Err(TargetError::DotSegment) } else { Ok(()) }
}

/// Printable ASCII and the space, but what needs no escape in any URL (RFC 3986, 2.3) and what may not be there at all.
fn may_be_escaped(byte: u8) -> bool {
    let unreserved = byte.is_ascii_alphanumeric() || b"-_~".contains(&byte);
    (byte == b' ' || byte.is_ascii_graphic()) && !unreserved && !NEVER_ESCAPED.contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Target, TargetError> {
        Target::parse(text, &["api.example.com".to_owned(), "api.example.com:443".to_owned()])
    }

    #[test]
    fn a_path_is_what_stands_before_the_query() {
        for (text, path) in [
            ("/", "/"),
            ("/v1/models", "/v1/models"),
            ("/v1/files/", "/v1/files/"),
            ("/v1/files?limit=2&after=//../%2e", "/v1/files"),
            ("/v1beta/models/gemini-1.5:generateContent", "/v1beta/models/gemini-1.5:generateContent"),
            ("/a%20b/%5B1%5D/it's", "/a%20b/%5B1%5D/it's"),
            ("/.well-known/..a/a..", "/.well-known/..a/a.."),
        ] {
            let target = parse(text).unwrap();
            assert_eq!((target.path(), target.as_str()), (path, text));
        }
    }

    #[test]
    fn a_whole_url_is_read_where_it_names_the_upstream() {
        assert_eq!(parse("https://api.example.com/v1?a").unwrap().as_str(), "/v1?a");
        assert_eq!(parse("HTTP://API.example.com:443/v1").unwrap().as_str(), "/v1");
        for other in [
            "https://evil.example/v1",
            "https://api.example.com.evil.example/v1",
            "https://api.example.com@evil.example/v1",
            "https://api.example.com:444/v1",
            "https://api.example.com:/v1",
            "https://evil.example\\@api.example.com/v1",
            "https:///v1",
        ] {
            assert_eq!(parse(other), Err(TargetError::OtherHost), "{other}");
        }
        for form in
            ["*", "v1", "", "api.example.com:443", "ftp://api.example.com/v1", "https://api.example.com", "https://api.example.com?a"]
        {
            assert_eq!(parse(form), Err(TargetError::Form), "{form}");
        }
    }

    #[test]
    fn what_two_servers_read_differently_is_refused_by_name() {
        use TargetError::{Character, DotSegment, EmptySegment, Encoding, Fragment};
        for (text, error) in [
            ("/v1/../admin", DotSegment),
            ("/v1/..", DotSegment),
            ("/./v1", DotSegment),
            ("/v1/.../a", DotSegment),
            ("//v1", EmptySegment),
            ("/v1//models", EmptySegment),
            ("/v1/models//", EmptySegment),
            ("/v1/%2e%2e/admin", Encoding),
            ("/v1/.%2E/admin", Encoding),
            ("/v1%2fadmin", Encoding),
            ("/v1%2Fadmin", Encoding),
            ("/v1%5cadmin", Encoding),
            ("/v1/%252e%252e/admin", Encoding),
            ("/v1/a%3fb", Encoding),
            ("/v1/a%23b", Encoding),
            ("/v1/a%3bb", Encoding),
            ("/v1/a%00", Encoding),
            ("/v1/a%0d%0aHost:evil", Encoding),
            ("/v1/a%7f", Encoding),
            ("/v1/%6dodels", Encoding),
            ("/v1/%c0%ae%c0%ae/admin", Encoding),
            ("/v1/%ef%bc%8f", Encoding),
            ("/v1/a%2", Encoding),
            ("/v1/a%", Encoding),
            ("/v1/a%+1", Encoding),
            ("/v1\\admin", Character),
            ("/v1/..;/admin", Character),
            ("/v1/a;b", Character),
            ("/v1/a b", Character),
            ("/v1/a\tb", Character),
            ("/v1/\u{e9}", Character),
            ("/v1/a?b\u{e9}", Character),
            ("/v1/a?b c", Character),
            ("/v1/a?b=\"c\"", Character),
            ("/v1/a?b<c", Character),
            ("/v1/a?b>c", Character),
            ("/v1/a|b", Character),
            ("/v1#a", Fragment),
            ("/v1?a#b", Fragment),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn what_is_taken_can_be_sent() {
        for byte in 0..=0x7f_u8 {
            let text = format!("/v1/a?b={}c", char::from(byte));
            let sent = text.parse::<hyper::http::uri::PathAndQuery>();
            assert_eq!(parse(&text).is_ok(), sent.is_ok_and(|sent| sent.as_str() == text), "{byte:#x}");
        }
    }

    #[test]
    fn a_target_has_a_longest() {
        let path = |length: usize| format!("/{}", "a".repeat(length - 1));
        assert!(parse(&path(TARGET)).is_ok());
        assert_eq!(parse(&path(TARGET + 1)), Err(TargetError::TooLong));
    }
}
