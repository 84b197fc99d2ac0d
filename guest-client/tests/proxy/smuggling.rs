//! Requests that are meant to be two, or another one than they seem. Each is refused by name, and nothing of it reaches the upstream.

use std::io::Write;

use crate::scene::{Answer, KEY, Scene};

/// Heads, each with the code that it is refused by. `^` stands for the line that a good request begins with.
const REFUSED: &[(&str, &str)] = &[
    // Two lengths.
    ("POST /v1/a HTTP/1.1\r\n^Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", "two-lengths"),
    ("POST /v1/a HTTP/1.1\r\n^Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "two-lengths"),
    ("POST /v1/a HTTP/1.1\r\n^Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", "content-length"),
    ("POST /v1/a HTTP/1.1\r\n^Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde", "content-length"),
    ("POST /v1/a HTTP/1.1\r\n^Content-Length: 5, 6\r\n\r\nabcdef", "content-length"),
    ("POST /v1/a HTTP/1.1\r\n^Content-Length: +5\r\n\r\nabcde", "content-length"),
    ("POST /v1/a HTTP/1.1\r\n^Content-Length: 5\u{0}\r\n\r\nabcde", "head-field-value"),
    ("POST /v1/a HTTP/1.1\r\n^Content-Length : 5\r\n\r\nabcde", "head-field-name"),
    ("POST /v1/a HTTP/1.1\r\n^Content_Length: 5\r\n\r\nabcde", "head-field-name"),
    ("POST /v1/a HTTP/1.1\r\n^Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", "transfer-encoding"),
    ("POST /v1/a HTTP/1.1\r\n^Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "transfer-encoding"),
    ("POST /v1/a HTTP/1.1\r\n^Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "transfer-encoding"),
    ("POST /v1/a HTTP/1.1\r\n^Transfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n", "head-field-value"),
    ("POST /v1/a HTTP/1.1\r\n^Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "head-folded"),
    ("POST /v1/a HTTP/1.1\r\n^X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "head-line-ending"),
    ("POST /v1/a HTTP/1.1\r\n^X: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "head-line-ending"),
    ("GET /v1/a HTTP/1.1\r\n^Content-Length: 40\r\n\r\nGET /admin HTTP/1.1\r\nHost: localhost\r\n\r\n", "unexpected-body"),
    ("GET /v1/a HTTP/1.1\r\n^Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "unexpected-body"),
    // Another host.
    ("GET /v1/a HTTP/1.1\r\n\r\n", "host-count"),
    ("GET /v1/a HTTP/1.1\r\n^Host: localhost\r\n\r\n", "host-count"),
    ("GET /v1/a HTTP/1.1\r\n^host: evil.example\r\n\r\n", "host-count"),
    ("GET /v1/a HTTP/1.1\r\nHost: evil.example\r\n\r\n", "host-unknown"),
    ("GET /v1/a HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n", "host-unknown"),
    ("GET https://evil.example/v1/a HTTP/1.1\r\n^\r\n", "target-host"),
    ("GET https://localhost@evil.example/v1/a HTTP/1.1\r\n^\r\n", "target-host"),
    ("GET //evil.example/v1/a HTTP/1.1\r\n^\r\n", "target-empty-segment"),
    ("GET @evil.example/v1/a HTTP/1.1\r\n^\r\n", "target-form"),
    ("GET evil.example/v1/a HTTP/1.1\r\n^\r\n", "target-form"),
    ("OPTIONS * HTTP/1.1\r\n^\r\n", "target-form"),
    // Another protocol, another method.
    ("CONNECT evil.example:443 HTTP/1.1\r\n^\r\n", "method-refused"),
    ("CONNECT /v1/a HTTP/1.1\r\n^\r\n", "method-refused"),
    ("TRACE /v1/a HTTP/1.1\r\n^\r\n", "method-refused"),
    ("GET /v1/a HTTP/1.1\r\n^Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "upgrade"),
    ("GET /v1/a HTTP/1.1\r\n^Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n", "upgrade"),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "head-version"),
    ("GET /v1/a HTTP/1.0\r\n^\r\n", "head-version"),
    ("GET /v1/a\r\n\r\n", "head-request-line"),
    ("POST /v1/a HTTP/1.1\r\n^X-HTTP-Method-Override: DELETE\r\n\r\n", "override-header"),
    ("GET /v1/a HTTP/1.1\r\n^X-Original-URL: /admin\r\n\r\n", "override-header"),
    ("GET /v1/a HTTP/1.1\r\n^Connection: close, Authorization\r\n\r\n", "connection-option"),
    ("GET /v1/a HTTP/1.1\r\n^Expect: 200-ok\r\n\r\n", "expectation"),
    ("POST /v1/a HTTP/1.1\r\n^Origin: https://evil.example\r\n\r\n", "web-page"),
    // Another path.
    ("GET /v1/../admin HTTP/1.1\r\n^\r\n", "target-dot-segment"),
    ("GET /v1/./a HTTP/1.1\r\n^\r\n", "target-dot-segment"),
    ("GET /v1/%2e%2e HTTP/1.1\r\n^\r\n", "target-encoding"),
    ("GET /v1/a%2f..%2f..%2fadmin HTTP/1.1\r\n^\r\n", "target-encoding"),
    ("GET /v1/%252e%252e HTTP/1.1\r\n^\r\n", "target-encoding"),
    ("GET /v1/%c0%ae%c0%ae HTTP/1.1\r\n^\r\n", "target-encoding"),
    ("GET /v1/a%0d%0aX:%20b HTTP/1.1\r\n^\r\n", "target-encoding"),
    ("GET /v1/a%00 HTTP/1.1\r\n^\r\n", "target-encoding"),
    ("GET /v1//a HTTP/1.1\r\n^\r\n", "target-empty-segment"),
    ("GET /v1/..;/admin HTTP/1.1\r\n^\r\n", "target-character"),
    ("GET /v1\\..\\admin HTTP/1.1\r\n^\r\n", "target-character"),
    ("GET /v1/a#/../admin HTTP/1.1\r\n^\r\n", "target-fragment"),
    ("GET /v1/a HTTP/1.1 \r\n^\r\n", "head-request-line"),
    ("GET /v1/a b HTTP/1.1\r\n^\r\n", "head-request-line"),
    ("GET  /v1/a HTTP/1.1\r\n^\r\n", "head-request-line"),
    ("\r\nGET /v1/a HTTP/1.1\r\n^\r\n", "head-request-line"),
    ("GET /v1/a HTTP/1.1\n^\r\n", "head-line-ending"),
    ("GET /v1/a HTTP/1.1\r\n^\n", "head-line-ending"),
    // Not HTTP at all.
    ("\u{16}\u{3}\u{1}\u{2}\n", "head-line-ending"),
    ("hello\r\n\r\n", "head-request-line"),
];

#[test]
fn each_attempt_is_refused_by_name_and_reaches_nothing() {
    let scene = Scene::new("allow = [\"GET /v1/*\", \"POST /v1/*\", \"OPTIONS /v1/*\"]");
    for (text, code) in REFUSED {
        let answer = scene.raw(text.replace('^', "Host: localhost\r\n").as_bytes());
        assert_eq!(answer.code(), *code, "{text:?}: {}", answer.text);
        assert!((400..=599).contains(&answer.status()), "{text:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{text:?}");
    }
    assert_eq!(scene.upstream.begun(), 0);
    // What they are near misses of.
    assert_eq!(scene.get("/v1/a").status(), 200);
    assert_eq!(scene.raw(b"POST /v1/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nabcde").status(), 200);
    assert_eq!(scene.upstream.heard().len(), 2);
}

#[test]
fn a_second_request_on_a_connection_is_read_by_nobody() {
    let scene = Scene::new("");
    let one = "GET /v1/a HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = scene.raw(one.repeat(3).as_bytes());
    assert_eq!(answer.text.matches("HTTP/1.1").count(), 1, "{}", answer.text);
    let body = format!("POST /v1/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nab{one}");
    assert_eq!(scene.raw(body.as_bytes()).text.matches("HTTP/1.1").count(), 1);
    let chunked = format!("POST /v1/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n{one}");
    assert_eq!(scene.raw(chunked.as_bytes()).text.matches("HTTP/1.1").count(), 1);
    assert_eq!(scene.get("/v1/models").status(), 200, "on the upstream's connection nothing is left over");
    let heard = scene.upstream.heard();
    let bodies: Vec<&[u8]> = heard.iter().map(|heard| heard.body.as_slice()).collect();
    assert_eq!(bodies, [&b""[..], b"ab", b"ab", b""]);
}

#[test]
fn chunks_that_are_none_end_the_request_on_both_sides() {
    let scene = Scene::new("");
    for body in [
        "0x5\r\nabcde\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "5\nabcde\r\n0\r\n\r\n",
        "5\r\nabcdefg\r\n0\r\n\r\n",
        "\r\n",
        "g\r\n",
        "fffffffffffffffff\r\na",
    ] {
        let answer = scene.raw(format!("POST /v1/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{body}").as_bytes());
        assert_eq!(answer.code(), "body-broken", "{body:?}");
    }
    assert!(scene.upstream.heard().is_empty(), "{:?}", scene.upstream.heard());
}

#[test]
fn trailers_of_a_request_end_at_the_proxy() {
    let scene = Scene::new("");
    let text = "POST /v1/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\nTE: trailers\r\n\r\n\
                2\r\nab\r\n0\r\nAuthorization: Bearer mine\r\nX-Original-URL: /admin\r\n\r\n";
    assert_eq!(scene.raw(text.as_bytes()).body(), "2 bytes");
    let heard = scene.upstream.only();
    assert_eq!(heard.body, b"ab");
    assert!(heard.values("trailer").is_empty());
    assert_eq!(heard.values("authorization"), [format!("Bearer {KEY}")]);
}

#[test]
fn bytes_may_come_one_by_one_and_mean_the_same() {
    let scene = Scene::new("");
    let slowly = |text: &str| {
        let mut stream = scene.connect();
        for byte in text.as_bytes() {
            if stream.write_all(&[*byte]).is_err() {
                break;
            }
        }
        Answer::read(stream)
    };
    assert_eq!(
        slowly("POST /v1/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n").body(),
        "2 bytes"
    );
    assert_eq!(slowly("GET /v1/a HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n").code(), "host-count");
    assert_eq!(slowly("GET /v1/a HTTP/1.1\r\nHost: localhost\n\r\n\r\n").code(), "head-line-ending");
    assert_eq!(scene.upstream.heard().len(), 1);
}

#[test]
fn a_head_has_bounds() {
    let scene = Scene::new("");
    let long = format!("GET /v1/a HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "a".repeat(40_000));
    assert_eq!((scene.raw(long.as_bytes()).status(), scene.raw(long.as_bytes()).code().as_str()), (431, "head-too-large"));
    let many = format!("GET /v1/a HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: a\r\n".repeat(64));
    assert_eq!(scene.raw(many.as_bytes()).code(), "head-too-many-fields");
    let target = format!("GET /v1/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(9000));
    assert_eq!((scene.raw(target.as_bytes()).status(), scene.raw(target.as_bytes()).code().as_str()), (414, "target-too-long"));
    let fits = format!("GET /v1/a HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: a\r\n".repeat(63));
    assert_eq!(scene.raw(fits.as_bytes()).status(), 200);
}

#[test]
fn an_answer_that_cannot_be_handed_on_is_not() {
    let scene = Scene::new("");
    for target in ["/v1/switch", "/v1/coded"] {
        let refused = scene.get(target);
        assert_eq!((refused.status(), refused.code().as_str()), (502, "upstream-answer"), "{target}");
    }
    assert_eq!(scene.get("/v1/models").status(), 200);
}
