//! The head of a request to the credential proxy: what goes on is what another parser reads too, has one path by any number of readings, and is on the
//! allow-list.

#![no_main]

use std::sync::LazyLock;

use guest_client::proxy::asked::{Asked, Length, Rules};
use guest_client::proxy::head;
use hyper::header::HeaderName;
use hyper::http::uri::PathAndQuery;
use libfuzzer_sys::fuzz_target;

static RULES: LazyLock<Rules> = LazyLock::new(|| Rules {
    upstream: vec!["a.example".to_owned(), "a.example:443".to_owned()],
    names: vec!["localhost".to_owned()],
    header: HeaderName::from_static("x-api-key"),
    allow: ["GET /v1/**", "POST /v1/*", "DELETE /v1/files/*"].map(|line| line.parse().expect("a line")).to_vec(),
    body: 4096,
});

fuzz_target!(|data: &[u8]| {
    // Wherever the bytes are divided, the head ends at the same place, if it has one.
    let at_once = head::end(data, 0);
    for cut in [data.len() / 2, data.len().saturating_sub(1)] {
        match head::end(data.get(..cut).unwrap_or_default(), 0) {
            Ok(None) => assert_eq!(head::end(data, cut), at_once),
            early => assert_eq!(early, at_once),
        }
    }
    let Ok(Some(end)) = at_once else { return };
    let bytes = data.get(..end).expect("the head is of these bytes");
    match Asked::judge(bytes, &RULES) {
        Ok(asked) => check(&asked, bytes),
        Err(error) => assert!(!error.code().is_empty() && (400..600).contains(&error.status())),
    }
});

fn check(asked: &Asked, bytes: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut other = httparse::Request::new(&mut fields);
    assert_eq!(other.parse(bytes), Ok(httparse::Status::Complete(bytes.len())));
    assert_eq!((other.method, other.version), (Some(asked.method()), Some(1)));
    assert!(other.path.is_some_and(|path| path.ends_with(asked.target().as_str())));
    let values = |name: &str| {
        other.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value).collect::<Vec<_>>()
    };
    match asked.length() {
        Length::None => assert!(values("transfer-encoding").is_empty()),
        Length::Known(length) => {
            let texts: Vec<&str> = values("content-length").into_iter().map(|value| std::str::from_utf8(value).expect("digits")).collect();
            assert!(matches!(texts.as_slice(), [text] if text.parse() == Ok(length)));
        }
        Length::Chunked => assert!(values("content-length").is_empty() && values("transfer-encoding").len() == 1),
    }
    assert_eq!(values("host").len(), 1);
    for name in
        ["host", "connection", "content-length", "transfer-encoding", "authorization", "cookie", "x-api-key", "te", "trailer", "upgrade"]
    {
        assert!(!asked.headers().contains_key(name), "{name}");
    }
    let text = asked.target().as_str();
    assert!(text.parse::<PathAndQuery>().is_ok_and(|path| path.as_str() == text));
    let path = asked.target().path();
    let once = decoded(path.as_bytes());
    assert_eq!(decoded(&once), once, "an escape hides no escape");
    let segments: Vec<&[u8]> = once.split(|byte| *byte == b'/').collect();
    assert_eq!(segments.len(), path.split('/').count(), "an escape hides no separator");
    for segment in segments {
        assert!(
            segment != b"." && segment != b".." && !segment.iter().any(|byte| matches!(byte, b'\\' | b';' | b'?' | b'#' | 0..32 | 127..))
        );
    }
    assert!(RULES.allow.iter().any(|line| line.covers(asked.method(), asked.target())));
}

/// As a server decodes a path.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(*first);
                rest = behind;
            }
        }
    }
    out
}
