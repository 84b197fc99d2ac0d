//! The allow-list: `METHOD /PATH`, a line for each thing that an agent may ask of the upstream. What is not on it is refused.
//!
//! A segment `*` stands for one segment that is not empty, a last segment `**` for one or more. Everything else stands for itself, to the letter and
//! in its case. A query is not looked at: what a query can do is the upstream's to limit.

use std::fmt;
use std::str::FromStr;

use super::target::{Target, TargetError, check_path};

/// The longest method.
const METHOD: usize = 32;

/// Why a line of the allow-list is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllowError {
    /// Not a method, one space, and a path.
    #[error("expected a method and a path, as \"GET /v1/models\"")]
    Form,
    /// A method that is never let through: `CONNECT` opens a tunnel, `TRACE` sends the credential back.
    #[error("CONNECT and TRACE are never let through")]
    Method,
    /// A path that no request could have.
    #[error("no request has this path: {0}")]
    Path(#[from] TargetError),
    /// `*` beside other characters, or `**` before the end.
    #[error("* stands for one whole segment, and ** for the rest at the end")]
    Wildcard,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Text(String),
    One,
    Rest,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    method: String,
    segments: Vec<Segment>,
}

/// Whether a method may be in a request at all.
#[must_use]
pub fn is_forwarded(method: &str) -> bool {
    !method.eq_ignore_ascii_case("CONNECT") && !method.eq_ignore_ascii_case("TRACE")
}

impl Allowed {
    /// Whether this line lets the request through.
    #[must_use]
    pub fn covers(&self, method: &str, target: &Target) -> bool {
        self.method == method && self.covers_path(target.path())
    }

    fn covers_path(&self, path: &str) -> bool {
        let mut found = path.split('/').skip(1);
        for wanted in &self.segments {
            let Some(segment) = found.next() else { return false };
            match wanted {
                Segment::Text(text) if text == segment => {}
                Segment::One if !segment.is_empty() => {}
                Segment::Rest => return !segment.is_empty(),
                Segment::Text(_) | Segment::One => return false,
            }
        }
        found.next().is_none()
    }
}

impl FromStr for Allowed {
    type Err = AllowError;
    fn from_str(line: &str) -> Result<Self, AllowError> {
        let (method, path) = line.split_once(' ').ok_or(AllowError::Form)?;
        if method.is_empty() || method.len() > METHOD || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
            return Err(AllowError::Form);
        }
        if !is_forwarded(method) {
            return Err(AllowError::Method);
        }
        check_path(path)?;
        let mut segments = Vec::new();
        for segment in path.split('/').skip(1) {
            match segment {
                _ if segments.last() == Some(&Segment::Rest) => return Err(AllowError::Wildcard),
                "*" => segments.push(Segment::One),
                "**" => segments.push(Segment::Rest),
                text if text.contains('*') => return Err(AllowError::Wildcard),
                text => segments.push(Segment::Text(text.to_owned())),
            }
        }
        Ok(Self { method: method.to_owned(), segments })
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.method)?;
        for segment in &self.segments {
            match segment {
                Segment::Text(text) => write!(f, "/{text}")?,
                Segment::One => f.write_str("/*")?,
                Segment::Rest => f.write_str("/**")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(line: &str, method: &str, path: &str) -> bool {
        line.parse::<Allowed>().unwrap().covers(method, &Target::parse(path, &[]).unwrap())
    }

    #[test]
    fn a_line_lets_through_what_it_says() {
        for (line, method, path) in [
            ("GET /v1/models", "GET", "/v1/models"),
            ("GET /v1/models", "GET", "/v1/models?limit=1"),
            ("GET /v1/files/*", "GET", "/v1/files/file-1"),
            ("GET /v1/files/*/content", "GET", "/v1/files/file-1/content"),
            ("GET /v1/**", "GET", "/v1/a"),
            ("GET /v1/**", "GET", "/v1/a/b/c/"),
            ("GET /v1/files/", "GET", "/v1/files/"),
            ("GET /", "GET", "/"),
        ] {
            assert!(covers(line, method, path), "{line}: {method} {path}");
        }
    }

    #[test]
    fn a_line_lets_nothing_else_through() {
        for (line, method, path) in [
            ("GET /v1/models", "POST", "/v1/models"),
            ("GET /v1/models", "get", "/v1/models"),
            ("GET /v1/models", "HEAD", "/v1/models"),
            ("GET /v1/models", "GET", "/v1/models/"),
            ("GET /v1/models", "GET", "/v1/models/a"),
            ("GET /v1/models", "GET", "/v1/Models"),
            ("GET /v1/models", "GET", "/v1"),
            ("GET /v1/files/*", "GET", "/v1/files"),
            ("GET /v1/files/*", "GET", "/v1/files/"),
            ("GET /v1/files/*", "GET", "/v1/files/a/content"),
            ("GET /v1/files/*", "GET", "/v1/files/a/"),
            ("GET /v1/**", "GET", "/v1"),
            ("GET /v1/**", "GET", "/v1/"),
            ("GET /v1/**", "GET", "/v2/a"),
            ("GET /", "GET", "/a"),
        ] {
            assert!(!covers(line, method, path), "{line}: {method} {path}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_meant_is_refused() {
        let refused = |line: &str| line.parse::<Allowed>().unwrap_err();
        for form in ["", "GET", "/v1", "get /v1", " /v1", "G T /v1"] {
            assert!(matches!(refused(form), AllowError::Form | AllowError::Path(TargetError::Form)), "{form}");
        }
        assert_eq!(refused("CONNECT /a"), AllowError::Method);
        assert_eq!(refused("TRACE /a"), AllowError::Method);
        assert_eq!(refused("GET  /v1"), AllowError::Path(TargetError::Form));
        assert_eq!(refused("GET /v1/../a"), AllowError::Path(TargetError::DotSegment));
        assert_eq!(refused("GET /v1//a"), AllowError::Path(TargetError::EmptySegment));
        assert_eq!(refused("GET /v1?a"), AllowError::Path(TargetError::Character));
        assert_eq!(refused("GET /v1/a*"), AllowError::Wildcard);
        assert_eq!(refused("GET /**/a"), AllowError::Wildcard);
        assert_eq!(refused("GET /***"), AllowError::Wildcard);
    }

    #[test]
    fn a_line_is_shown_as_it_was_written() {
        for line in ["GET /", "POST /v1/chat/completions", "GET /v1/files/*", "PATCH /v1/*/a/**", "GET /v1/files/"] {
            assert_eq!(line.parse::<Allowed>().unwrap().to_string(), line);
        }
    }
}
