//! Answers come piece by piece, and end when they should: with the upstream, with the credential, with the agent.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::scene::{Answer, KEY, Scene, log};
use crate::upstream::until;

const STREAM: &[u8] = b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nConnection: TE\r\n\r\n";

/// Reads until this has come, and gives all that has.
fn read_to(stream: &mut impl Read, wanted: &str) -> String {
    let mut text = String::new();
    let mut piece = [0; 1024];
    while !text.contains(wanted) {
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0, "the end, behind {text:?}");
        text.push_str(std::str::from_utf8(&piece[..length]).unwrap());
    }
    text
}

/// Reads what is left, whether the connection ends well or not.
fn rest(mut stream: impl Read) -> String {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    String::from_utf8(text).unwrap()
}

/// Ends what runs beside a test, also where that fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_first_event_arrives_before_the_second_is_sent_and_trailers_come_behind() {
    let scene = Scene::new("");
    let mut stream = scene.connect();
    stream.write_all(STREAM).unwrap();
    // The upstream waits: there is no second event yet that this could have waited for.
    let first = read_to(&mut stream, "data: 1\n\n");
    assert!(first.contains("content-type: text/event-stream") && !first.contains("data: 2"), "{first}");
    scene.upstream.open_gate(1);
    let second = rest(&mut stream);
    assert!(second.contains("data: 2\n\n") && second.ends_with("0\r\nx-sum: 7\r\n\r\n"), "{second:?}");
    scene.await_tally("ended well", |tally| tally.open == 0 && tally.received == 18 && tally.cuts.is_empty());
}

#[test]
fn what_has_no_length_comes_to_its_end() {
    let scene = Scene::new("");
    assert_eq!(scene.get("/v1/until-closed").pieces().concat(), "until the end");
    scene.await_tally("ended well", |tally| tally.open == 0 && tally.cuts.is_empty());
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    let scene = Scene::new("");
    let mut stream = scene.connect();
    stream.write_all(b"GET /v1/break HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let text = rest(stream);
    assert!(text.contains("content-length: 100") && text.ends_with("ten bytes."), "{text:?}");
    scene.await_tally("noted", |tally| tally.cuts.get("upstream-broken") == Some(&1));
}

#[test]
fn an_answer_may_come_before_the_body_has_gone() {
    let scene = Scene::new("");
    let mut stream = scene.connect();
    stream.write_all(b"POST /v1/early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nabc").unwrap();
    let answer = Answer::read(stream);
    assert!(answer.status() == 413 || answer.code() == "upstream-unreachable", "{}", answer.text);
}

#[test]
fn a_revoked_credential_ends_what_is_under_way_and_lets_nothing_begin() {
    let scene = Scene::new("");
    let (mut streaming, mut waiting) = (scene.connect(), scene.connect());
    streaming.write_all(STREAM).unwrap();
    read_to(&mut streaming, "data: 1\n\n");
    waiting.write_all(b"GET /v1/hold HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    scene.upstream.await_begun(2);
    scene.revoke();
    let left = rest(streaming);
    assert!(!left.contains("data: 2") && !left.ends_with("0\r\n\r\n"), "cut, and not taken for whole: {left:?}");
    let refused = Answer::read(waiting);
    assert_eq!((refused.status(), refused.code().as_str()), (503, "credential-absent"));
    assert_eq!(scene.get("/v1/models").code(), "credential-absent");
    scene.upstream.await_ended(2);
    assert_eq!(scene.upstream.begun(), 2);
    scene.await_tally("noted", |tally| tally.cuts.get("credential-absent") == Some(&1));
    scene.put(KEY);
    assert_eq!(scene.get("/v1/models").status(), 200);
}

#[test]
fn a_credential_that_nobody_keeps_is_none() {
    let mut scene = Scene::new("");
    assert_eq!(scene.get("/v1/models").status(), 200);
    let mut streaming = scene.connect();
    streaming.write_all(STREAM).unwrap();
    read_to(&mut streaming, "data: 1\n\n");
    scene.abandon();
    assert!(!rest(streaming).contains("data: 2"));
    assert_eq!(scene.get("/v1/models").code(), "credential-absent");
}

#[test]
fn rotation_under_load_loses_no_request_and_new_ones_bear_the_new_credential() {
    let scene = Scene::new("");
    let keys: Vec<String> = (0..20).map(|at| format!("{KEY}-{at:02}")).collect();
    let mut streaming = scene.connect();
    streaming.write_all(STREAM).unwrap();
    read_to(&mut streaming, "data: 1\n\n");
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ending = Ending(&ended);
        for _ in 0..3 {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    assert_eq!(scene.get("/v1/models").status(), 200);
                }
            });
        }
        for key in &keys {
            scene.put(key);
            let before = scene.upstream.heard().len();
            until("requests go on", || scene.upstream.heard().len() > before + 3);
        }
    });
    scene.upstream.open_gate(1);
    assert!(rest(streaming).contains("data: 2"), "an answer under way goes on under the credential that it began with");
    assert_eq!(scene.get("/v1/models").status(), 200);
    let heard = scene.upstream.heard();
    assert_eq!(heard.last().unwrap().values("authorization"), [format!("Bearer {}", keys[19])]);
    let known = |value: &str| value == format!("Bearer {KEY}") || keys.iter().any(|key| value == format!("Bearer {key}"));
    assert!(heard.iter().all(|heard| matches!(heard.values("authorization").as_slice(), [value] if known(value))));
    assert!(scene.tally().refusals.is_empty());
}

#[test]
fn an_upstream_that_falls_silent_is_given_up() {
    let scene = Scene::new("idle-seconds = 1\nanswer-seconds = 1");
    let began = Instant::now();
    let refused = scene.get("/v1/hold");
    assert_eq!((refused.status(), refused.code().as_str()), (504, "upstream-timeout"));
    let mut stream = scene.connect();
    stream.write_all(STREAM).unwrap();
    assert!(!rest(stream).contains("data: 2"));
    assert!(began.elapsed() < Duration::from_secs(20));
    scene.await_tally("noted", |tally| tally.cuts.get("upstream-idle") == Some(&1));
    scene.upstream.await_ended(2);
}

#[test]
fn a_whole_exchange_has_a_longest() {
    let scene = Scene::new("whole-seconds = 1");
    let mut stream = scene.connect();
    stream.write_all(STREAM).unwrap();
    assert!(!rest(stream).contains("data: 2"));
    scene.await_tally("noted", |tally| tally.cuts.get("agent-gone") == Some(&1) && tally.open == 0);
    scene.upstream.await_ended(1);
}

#[test]
fn an_agent_that_does_not_read_holds_nothing_for_ever() {
    let scene = Scene::new("whole-seconds = 2");
    let mut stream = scene.connect();
    stream.write_all(b"GET /v1/flood HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    scene.await_tally("it flows", |tally| tally.open == 1 && tally.answers.contains_key("2xx"));
    scene.await_tally("it is ended", |tally| tally.open == 0);
    scene.upstream.await_ended(1);
    // What had gone on meanwhile is what sockets and buffers hold, not what the upstream could send.
    assert!(scene.tally().received < 32 * 1024 * 1024, "{:?}", scene.tally());
    assert_eq!(scene.tally().cuts.get("agent-gone"), Some(&1));
}

#[test]
fn an_agent_that_leaves_takes_its_request_with_it() {
    let scene = Scene::new("");
    let mut stream = scene.connect();
    stream.write_all(STREAM).unwrap();
    read_to(&mut stream, "data: 1\n\n");
    drop(stream);
    scene.upstream.await_ended(1);
    let mut stream = scene.connect();
    stream.write_all(b"POST /v1/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc").unwrap();
    scene.upstream.await_begun(2);
    drop(stream);
    scene.upstream.await_ended(2);
    scene.await_tally("noted", |tally| tally.open == 0 && tally.cuts.get("agent-gone") == Some(&1));
    assert_eq!(scene.upstream.heard().len(), 1, "half a request is none");
}

#[test]
fn connections_have_a_number_and_are_free_again() {
    let scene = Scene::new("connections = 2");
    let mut held: Vec<_> = (0..2).map(|_| scene.connect()).collect();
    scene.await_tally("two are open", |tally| tally.open == 2);
    let refused = scene.get("/v1/models");
    assert_eq!((refused.status(), refused.code().as_str(), refused.header("retry-after")), (503, "proxy-busy", Some("1")));
    held.pop();
    scene.await_tally("one is free", |tally| tally.open == 1);
    assert_eq!(scene.get("/v1/models").status(), 200);
}

/// What each line about whoever was turned away by this proxy says was not told.
fn untold(scene: &Scene) -> Vec<u64> {
    let name = scene.socket.display().to_string();
    let text = log().text();
    let lines = text.lines().filter(|line| line.contains("a request was refused") && line.contains(&name) && line.contains("proxy-busy"));
    lines.map(|line| line.split_once("untold=").unwrap().1.split(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn whoever_is_turned_away_is_told_of_once_a_second() {
    let scene = Scene::new("connections = 1");
    let mut held = scene.connect();
    held.write_all(STREAM).unwrap();
    scene.upstream.await_begun(1);
    let began = Instant::now();
    let turn_away = |times: u64| {
        drop(scene.connect());
        scene.await_tally("turned away", |tally| tally.refusals.get("proxy-busy") == Some(&times));
    };
    (1..50).for_each(turn_away);
    let mut times = 50;
    let told = loop {
        turn_away(times);
        // Whoever comes a second after the last line is told, and with that how many came between.
        std::thread::sleep(Duration::from_millis(1100));
        let told = untold(&scene);
        if u64::try_from(told.len()).unwrap() + told.iter().sum::<u64>() == times {
            break told;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{times} times: {told:?}");
        times += 1;
    };
    assert!(u64::try_from(told.len()).unwrap() <= began.elapsed().as_secs() + 1, "{told:?}");
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let scene = Scene::new("");
    let mut stream = scene.connect();
    stream.write_all(b"GET /v1/a HTTP/1.1\r\nHost: loc").unwrap();
    let refused = Answer::read(stream);
    assert_eq!((refused.status(), refused.code().as_str()), (408, "head-timeout"));
}
