//! The credential is in no answer, no log and no error. (Every answer that a test reads is looked through for it: see `Answer::read`.)

use std::io::{Read, Write};

use crate::scene::{Answer, KEY, Scene, log};

/// In a query; queries are not logged.
const QUERY: &str = "query-marker-5f2a";

#[test]
fn an_upstream_that_sends_the_credential_back_is_cut_off_before_it_arrives() {
    let scene = Scene::new("");
    let refused = scene.get("/v1/echo-header");
    assert_eq!((refused.status(), refused.code().as_str()), (502, "credential-echoed"));
    for target in ["/v1/echo", "/v1/echo-pieces", "/v1/echo-trailer"] {
        let mut stream = scene.connect();
        stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\n\r\n").as_bytes()).unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        // Divided into pieces of three characters, its beginning goes on, and its end does not.
        assert!(!text.contains(KEY) && !text.contains("\r\n1\r\nf\r\n"), "{target}: {text}");
        assert!(!text.ends_with("0\r\n\r\n") && !text.contains("behind"), "{target}: {text}");
    }
    scene.await_tally("noted", |tally| tally.cuts.get("credential-echoed") == Some(&3));
    let reason = scene.get("/v1/echo-reason");
    assert!(reason.text.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "the words behind a status are our own: {}", reason.text);
}

#[test]
fn a_guess_comes_back_at_once_whether_it_begins_as_the_credential_does_or_not() {
    let scene = Scene::new("");
    for guess in ["sk-live-012345678", "sk-live-x12345678", &KEY[..KEY.len() - 1], "sk-live-0123456789abcdex"] {
        let mut stream = scene.connect();
        stream.write_all(format!("GET /v1/say HTTP/1.1\r\nHost: localhost\r\nX-Say: {guess}\r\n\r\n").as_bytes()).unwrap();
        // The upstream waits behind the guess: were it held, this would never come.
        let mut text = String::new();
        while !text.contains(guess) {
            let mut piece = [0; 1024];
            let length = stream.read(&mut piece).unwrap();
            assert!(length > 0, "{text}");
            text.push_str(std::str::from_utf8(&piece[..length]).unwrap());
        }
        assert!(text.ends_with(&format!("\r\n{:x}\r\n{guess}\r\n", guess.len())), "in a piece of its own: {text:?}");
        scene.upstream.open_gate(1);
        Answer::read(stream);
    }
}

#[test]
fn a_credential_that_no_header_holds_is_not_sent() {
    let scene = Scene::new("");
    for bad in [
        "",
        "short",
        "two\r\nlines: of-it",
        "has\u{0}null-in-it",
        " begins-with-a-space",
        "n\u{f6}t-ascii-at-all",
        "two-lines\n\n",
        &"a".repeat(8000),
    ] {
        scene.put(bad);
        let refused = scene.get("/v1/models");
        assert_eq!((refused.status(), refused.code().as_str()), (502, "credential-form"), "{bad:?}");
    }
    assert_eq!(scene.upstream.begun(), 0);
    for good in [format!("{KEY}\n"), format!("{KEY}\r\n"), "8-bytes!".to_owned(), "with a space".to_owned()] {
        scene.put(&good);
        assert_eq!(scene.get("/v1/models").status(), 200, "{good:?}");
    }
}

#[test]
fn nothing_that_is_logged_holds_the_credential_or_a_query() {
    let scene = Scene::new("");
    assert_eq!(scene.get(&format!("/v1/models?{QUERY}")).status(), 200);
    assert_eq!(scene.get(&format!("/v1/a/b?{QUERY}")).code(), "not-allowed");
    assert_eq!(scene.get(&format!("/v1/echo-header?{QUERY}")).code(), "credential-echoed");
    assert_eq!(scene.get(&format!("/v1/switch?{QUERY}")).code(), "upstream-answer");
    let broken = Scene::new("upstream = \"https://localhost:1\"");
    assert_eq!(broken.get(&format!("/v1/models?{QUERY}")).code(), "upstream-unreachable");
    scene.revoke();
    assert_eq!(scene.get(&format!("/v1/models?{QUERY}")).code(), "credential-absent");
    let text = log().text();
    assert!(!text.contains(KEY) && !text.contains("sk-live-0"), "the log holds the credential");
    assert!(!text.contains(QUERY), "the log holds a query");
    for told in ["the credential was used", "/v1/models", "not-allowed", "upstream-unreachable", "credential-absent"] {
        assert!(text.contains(told), "{told}");
    }
}

#[test]
fn an_agents_own_words_reach_no_log_line_of_their_own() {
    let scene = Scene::new("");
    // A terminal's escapes, a false log line: none of it is in a path, and what is refused is logged by its code.
    for target in ["/v1/a%0aINFO", "/v1/\u{1b}[31m"] {
        let answer: Answer = scene.get(target);
        assert!(matches!(answer.code().as_str(), "target-encoding" | "head-request-line"));
    }
    assert!(!log().text().contains("[31m"));
    let long = format!("/v1/{}", "a".repeat(4000));
    assert_eq!(scene.get(&long).status(), 200);
    scene.await_tally("ended", |tally| tally.open == 0);
    assert!(!log().text().contains(&"a".repeat(300)), "a path is shown up to a length");
}
