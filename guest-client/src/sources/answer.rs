//! Whether an HTTP answer is the range that was asked for (RFC 9110, sections 14.4 and 15.3.7). A pure function of status and
//! headers, which a storage that lies writes as it likes.

use connection::retry_after;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, LOCATION};

use super::error::FetchError;

/// The longest entity tag that is compared (bytes); a longer one is taken for none.
const TAG: usize = 256;

/// A range of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its first byte.
    pub start: u64,
    /// Its bytes, at least 1; the object may end before.
    pub length: u64,
}

impl Asked {
    /// Its last byte.
    #[must_use]
    pub const fn last(self) -> u64 {
        self.start.saturating_add(self.length.saturating_sub(1))
    }

    /// As HTTP writes it: `FIRST-LAST`.
    #[must_use]
    pub fn range(self) -> String {
        format!("{}-{}", self.start, self.last())
    }
}

/// What an answer holds, by its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The range, or its beginning.
    Body(Accepted),
    /// The object has no bytes.
    Empty,
    /// The object ends before the range: so many bytes it has.
    EndsBefore(u64),
    /// It is elsewhere.
    Elsewhere(String),
}

/// A body that is worth reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// How many bytes of it are of the range: never more than were asked for, and none behind the object's end.
    pub length: u64,
    /// How long the object is.
    pub total: u64,
    /// Its strong entity tag. Weak ones say too little to compare.
    pub tag: Option<String>,
}

/// Holds status and headers against what was asked for.
///
/// # Errors
/// [`FetchError::Busy`], [`FetchError::Missing`], [`FetchError::Forbidden`], [`FetchError::Status`], [`FetchError::Coded`],
/// [`FetchError::NoRanges`], [`FetchError::NoLength`], [`FetchError::WrongRange`].
pub fn judge(asked: Asked, status: u16, headers: &HeaderMap) -> Result<Answer, FetchError> {
    match status {
        206 | 200 => {}
        301 | 302 | 303 | 307 | 308 => return text(headers, LOCATION).map(Answer::Elsewhere).ok_or(FetchError::Status { status }),
        404 | 410 => return Err(FetchError::Missing { status }),
        401 | 403 => return Err(FetchError::Forbidden { status }),
        408 | 425 | 429 | 500 | 502 | 503 | 504 => return Err(FetchError::Busy { status, retry_after: retry_after(headers) }),
        416 => return unsatisfied(asked, headers).ok_or(FetchError::Status { status }),
        _ => return Err(FetchError::Status { status }),
    }
    if let Some(coding) = text(headers, CONTENT_ENCODING).filter(|coding| !coding.eq_ignore_ascii_case("identity")) {
        return Err(FetchError::Coded { coding });
    }
    let tag = text(headers, ETAG).filter(|tag| tag.starts_with('"') && tag.len() <= TAG);
    if status == 200 {
        if asked.start > 0 {
            return Err(FetchError::NoRanges { start: asked.start });
        }
        let total = text(headers, CONTENT_LENGTH).and_then(|length| number(&length)).ok_or(FetchError::NoLength)?;
        if total == 0 {
            return Ok(Answer::Empty);
        }
        return Ok(Answer::Body(Accepted { length: asked.length.min(total), total, tag }));
    }
    let found = text(headers, CONTENT_RANGE).unwrap_or_default();
    let (first, last, total) = content_range(&found).ok_or_else(|| wrong(asked, &found))?;
    // A server may send less than was asked for; never something else, and nothing behind the end.
    if first != asked.start || last < first || last > asked.last() || last >= total {
        return Err(wrong(asked, &found));
    }
    Ok(Answer::Body(Accepted { length: last.saturating_sub(first).saturating_add(1), total, tag }))
}

/// An object that has nothing of the range, by what it says of its length.
fn unsatisfied(asked: Asked, headers: &HeaderMap) -> Option<Answer> {
    let found = text(headers, CONTENT_RANGE)?;
    let total = number(found.strip_prefix("bytes */")?).filter(|total| *total <= asked.start)?;
    Some(if asked.start == 0 { Answer::Empty } else { Answer::EndsBefore(total) })
}

fn wrong(asked: Asked, found: &str) -> FetchError {
    FetchError::WrongRange { expected: asked.range(), found: found.chars().take(80).collect() }
}

/// `bytes FIRST-LAST/TOTAL`.
fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((number(first)?, number(last)?, number(total)?))
}

/// Digits and nothing else: `u64::from_str` also takes a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A header that stands there once, in visible ASCII.
fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then(|| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const ASKED: Asked = Asked { start: 100, length: 50 };

    fn head(headers: &[(&'static str, &str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn ranged(range: &str) -> Result<Answer, FetchError> {
        judge(ASKED, 206, &head(&[("content-range", range)]))
    }

    fn body(length: u64, total: u64) -> Result<Answer, FetchError> {
        Ok(Answer::Body(Accepted { length, total, tag: None }))
    }

    #[test]
    fn the_range_that_was_asked_for_is_taken_whole_or_in_part() {
        assert_eq!(ranged("bytes 100-149/1000"), body(50, 1000));
        assert_eq!(ranged("bytes 100-149/150"), body(50, 150));
        assert_eq!(ranged("bytes 100-100/101"), body(1, 101));
        assert_eq!(ranged("bytes 100-120/1000"), body(21, 1000));
    }

    #[test]
    fn any_other_range_is_refused() {
        for range in [
            "bytes 99-149/1000",
            "bytes 101-149/1000",
            "bytes 100-150/1000",
            "bytes 100-149/149",
            "bytes 100-99/1000",
            "bytes 100-149/*",
            "bytes */1000",
            "bytes +100-149/1000",
            "bytes 100-149/1000, bytes 0-1/1000",
            "bytes 100-149/99999999999999999999999",
            "items 100-149/1000",
            "",
        ] {
            let expected = FetchError::WrongRange { expected: "100-149".into(), found: range.into() };
            assert_eq!(ranged(range), Err(expected), "{range:?}");
        }
        let mut twice = head(&[("content-range", "bytes 100-149/1000")]);
        twice.append("content-range", "bytes 0-49/1000".parse().unwrap());
        assert!(matches!(judge(ASKED, 206, &twice), Err(FetchError::WrongRange { .. })));
    }

    #[test]
    fn a_whole_object_is_taken_from_its_start_only() {
        let whole = head(&[("content-length", "1000")]);
        assert_eq!(judge(ASKED, 200, &whole), Err(FetchError::NoRanges { start: 100 }));
        assert_eq!(judge(Asked { start: 0, length: 50 }, 200, &whole), body(50, 1000));
        assert_eq!(judge(Asked { start: 0, length: 5000 }, 200, &whole), body(1000, 1000));
        assert_eq!(judge(Asked { start: 0, length: 50 }, 200, &head(&[])), Err(FetchError::NoLength));
        assert_eq!(judge(Asked { start: 0, length: 50 }, 200, &head(&[("content-length", "-1")])), Err(FetchError::NoLength));
    }

    #[test]
    fn an_empty_object_has_no_range() {
        let start = Asked { start: 0, length: 50 };
        assert_eq!(judge(start, 416, &head(&[("content-range", "bytes */0")])), Ok(Answer::Empty));
        assert_eq!(judge(start, 200, &head(&[("content-length", "0")])), Ok(Answer::Empty));
        assert_eq!(judge(start, 416, &head(&[("content-range", "bytes */10")])), Err(FetchError::Status { status: 416 }));
    }

    #[test]
    fn an_object_that_ends_before_the_range_says_how_long_it_is() {
        let unsatisfied = |range: &str| judge(ASKED, 416, &head(&[("content-range", range)]));
        assert_eq!(unsatisfied("bytes */0"), Ok(Answer::EndsBefore(0)));
        assert_eq!(unsatisfied("bytes */100"), Ok(Answer::EndsBefore(100)));
        for lie in ["bytes */101", "bytes */*", "bytes 0-9/10", ""] {
            assert_eq!(unsatisfied(lie), Err(FetchError::Status { status: 416 }), "{lie:?}");
        }
    }

    #[test]
    fn only_a_strong_tag_is_compared() {
        let tag = |tag: &str| match judge(ASKED, 206, &head(&[("content-range", "bytes 100-149/1000"), ("etag", tag)])) {
            Ok(Answer::Body(accepted)) => accepted.tag,
            other => panic!("{other:?}"),
        };
        assert_eq!(tag("\"abc\"").as_deref(), Some("\"abc\""));
        assert_eq!(tag("W/\"abc\""), None);
        assert_eq!(tag(&format!("\"{}\"", "x".repeat(TAG))), None);
    }

    #[test]
    fn a_coded_body_is_refused() {
        let coded = |coding: &str| judge(ASKED, 206, &head(&[("content-range", "bytes 100-149/1000"), ("content-encoding", coding)]));
        assert_eq!(coded("gzip"), Err(FetchError::Coded { coding: "gzip".into() }));
        assert_eq!(coded("identity"), body(50, 1000));
    }

    #[test]
    fn every_other_status_has_its_meaning() {
        let status = |status| judge(ASKED, status, &head(&[("retry-after", "7"), ("location", "/b")]));
        for busy in [408, 425, 429, 500, 502, 503, 504] {
            assert_eq!(status(busy), Err(FetchError::Busy { status: busy, retry_after: Some(Duration::from_secs(7)) }));
        }
        assert_eq!(status(404), Err(FetchError::Missing { status: 404 }));
        assert_eq!(status(403), Err(FetchError::Forbidden { status: 403 }));
        assert_eq!(status(302), Ok(Answer::Elsewhere("/b".into())));
        assert_eq!(judge(ASKED, 302, &head(&[])), Err(FetchError::Status { status: 302 }));
        for other in [100, 204, 304, 400, 412, 501] {
            assert_eq!(status(other), Err(FetchError::Status { status: other }));
        }
    }
}
