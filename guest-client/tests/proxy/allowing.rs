//! What is on the list goes on, as a new request with the credential; what is not goes nowhere.

use std::io::Write;

use crate::scene::{KEY, Scene};

#[test]
fn a_listed_request_goes_on_with_the_credential_and_nothing_of_the_agents_own() {
    let scene = Scene::new("");
    let headers = "Authorization: Bearer mine\r\nCookie: a=b\r\nAccept-Encoding: gzip\r\nX-Forwarded-Host: evil.example\r\n\
                   Proxy-Authorization: Basic bWluZQ==\r\nConnection: keep-alive\r\nX-Stainless-Lang: python\r\n";
    let answer = scene.ask("GET", "/v1/models?limit=2", headers);
    assert_eq!((answer.status(), answer.body()), (200, "{\"data\":[]}"));
    let heard = scene.upstream.only();
    assert_eq!(heard.first_line(), "GET /v1/models?limit=2 HTTP/1.1");
    assert_eq!(heard.values("authorization"), [format!("Bearer {KEY}")]);
    assert_eq!(heard.values("host"), [format!("localhost:{}", scene.upstream.port)]);
    assert_eq!(heard.server_name.as_deref(), Some("localhost"));
    assert_eq!(heard.values("accept-encoding"), ["identity"]);
    assert_eq!(heard.values("x-stainless-lang"), ["python"]);
    for gone in ["cookie", "x-forwarded-host", "proxy-authorization", "connection"] {
        assert!(heard.values(gone).is_empty(), "{gone}: {}", heard.head);
    }
    scene.await_tally("counted", |tally| tally.answers.get("2xx") == Some(&1) && tally.received == 11 && tally.cuts.is_empty());
}

#[test]
fn an_answer_comes_without_what_is_between_proxy_and_upstream() {
    let scene = Scene::new("");
    let answer = scene.get("/v1/models");
    for kept in [("content-type", "application/json"), ("x-request-id", "r-1"), ("date", "Thu, 01 Jan 2026 00:00:00 GMT")] {
        assert_eq!(answer.header(kept.0), Some(kept.1));
    }
    for gone in ["set-cookie", "alt-svc", "x-hop", "transfer-encoding"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    assert_eq!((answer.header("content-length"), answer.header("connection")), (Some("11"), Some("close")));
}

#[test]
fn what_is_not_on_the_list_goes_nowhere() {
    let scene = Scene::new("");
    for (method, target) in
        [("GET", "/"), ("GET", "/v1"), ("GET", "/v1/a/b"), ("PUT", "/v1/models"), ("HEAD", "/v1/chat"), ("get", "/v1/models")]
    {
        let answer = scene.ask(method, target, "");
        assert_eq!(answer.status(), 403, "{method} {target}");
        if method != "HEAD" {
            assert_eq!(answer.code(), "not-allowed");
        }
    }
    assert_eq!(scene.upstream.begun(), 0);
    assert_eq!(scene.tally().refusals.get("not-allowed"), Some(&6));
    assert_eq!(scene.get("/v1/models").status(), 200);
}

#[test]
fn the_credential_goes_into_the_header_and_between_the_words_that_are_configured() {
    let scene = Scene::new("header = \"x-api-key\"");
    scene.put(&format!("{KEY}\n"));
    assert_eq!(scene.ask("GET", "/v1/models", "X-Api-Key: mine\r\nx-api-key: mine\r\nauthorization: mine\r\n").status(), 200);
    let heard = scene.upstream.only();
    assert_eq!(heard.values("x-api-key"), [KEY]);
    assert!(heard.values("authorization").is_empty());
    let scene = Scene::new("value = \"token {credential}; v=1\"");
    assert_eq!(scene.get("/v1/models").status(), 200);
    assert_eq!(scene.upstream.only().values("authorization"), [format!("token {KEY}; v=1")]);
}

#[test]
fn bodies_arrive_whole_however_they_are_sent() {
    let scene = Scene::new("");
    let body = "a".repeat(200_000);
    let answer = scene.raw(format!("POST /v1/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n{body}").as_bytes());
    assert_eq!((answer.status(), answer.body()), (200, "200000 bytes"));
    let chunked = "POST /v1/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n00002\r\nde\r\n0\r\n\r\n";
    assert_eq!(scene.raw(chunked.as_bytes()).body(), "5 bytes");
    assert_eq!(scene.ask("POST", "/v1/a", "").body(), "0 bytes");
    assert_eq!(scene.raw(b"DELETE /v1/files/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}").body(), "2 bytes");
    let heard = scene.upstream.heard();
    assert_eq!(heard[0].values("content-length"), ["200000"]);
    assert_eq!((heard[1].values("transfer-encoding"), heard[1].body.as_slice()), (vec!["chunked"], &b"abcde"[..]));
    assert_eq!(heard[2].values("content-length"), ["0"]);
    let head = scene.ask("HEAD", "/v1/models", "");
    assert_eq!((head.status(), head.body()), (200, ""));
}

#[test]
fn a_client_that_waits_for_continue_gets_it() {
    let scene = Scene::new("");
    let mut stream = scene.connect();
    stream.write_all(b"POST /v1/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n").unwrap();
    scene.upstream.await_begun(1);
    stream.write_all(b"ab").unwrap();
    let answer = crate::scene::Answer::read(stream);
    assert!(answer.text.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{}", answer.text);
    assert!(scene.upstream.only().values("expect").is_empty());
}

#[test]
fn a_body_has_a_longest() {
    let scene = Scene::new("body-bytes = 10");
    let known = |length: usize| format!("POST /v1/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{}", "a".repeat(length));
    assert_eq!(scene.raw(known(10).as_bytes()).body(), "10 bytes");
    let refused = scene.raw(known(11).as_bytes());
    assert_eq!((refused.status(), refused.code().as_str()), (413, "body-too-large"));
    assert_eq!(scene.upstream.begun(), 1, "a length that is known is refused before anything is sent");
    let chunked = |length: usize| {
        format!(
            "POST /v1/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{}\r\n0\r\n\r\n",
            "a".repeat(length)
        )
    };
    assert_eq!(scene.raw(chunked(10).as_bytes()).body(), "10 bytes");
    let refused = scene.raw(chunked(11).as_bytes());
    assert_eq!((refused.status(), refused.code().as_str()), (413, "body-too-large"));
    assert_eq!(scene.upstream.heard().len(), 2);
}

#[test]
fn a_whole_url_of_the_upstream_is_its_path() {
    let scene = Scene::new("");
    let target = format!("https://LOCALHOST:{}/v1/a?b", scene.upstream.port);
    assert_eq!(scene.get(&target).status(), 200);
    let heard = scene.upstream.only();
    assert_eq!(heard.first_line(), "GET /v1/a?b HTTP/1.1");
    assert_eq!(heard.values("host"), [format!("localhost:{}", scene.upstream.port)]);
    assert_eq!(scene.get(&format!("https://localhost:{}/v1/a", scene.upstream.port ^ 1)).code(), "target-host");
}

#[test]
fn a_refusal_arrives_though_the_body_was_not_read() {
    let scene = Scene::new("");
    let post = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n\r\n{}", "a".repeat(500_000));
    assert_eq!(scene.raw(post("/admin").as_bytes()).code(), "not-allowed");
    scene.revoke();
    assert_eq!(scene.raw(post("/v1/a").as_bytes()).code(), "credential-absent");
    assert_eq!(scene.upstream.begun(), 0);
}

#[test]
fn a_redirect_comes_back_and_is_not_followed() {
    let (scene, elsewhere) = (Scene::new(""), Scene::new(""));
    for to in [format!("{}/v1/models", elsewhere.upstream.url()), "/v1/models".to_owned(), "http://127.0.0.1/".to_owned()] {
        let answer = scene.ask("GET", "/v1/away", &format!("X-To: {to}\r\n"));
        assert_eq!((answer.status(), answer.header("location")), (307, Some(to.as_str())));
    }
    assert_eq!((scene.upstream.heard().len(), elsewhere.upstream.begun()), (3, 0));
    scene.await_tally("counted", |tally| tally.answers.get("3xx") == Some(&3));
}

#[test]
fn a_port_is_called_by_its_own_names_only() {
    let scene = Scene::on_a_port();
    let port = scene.address.unwrap().port();
    let ask = |host: &str| scene.raw(format!("GET /v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    let upstream = format!("localhost:{}", scene.upstream.port);
    for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), upstream] {
        assert_eq!(ask(&host).status(), 200, "{host}");
    }
    for host in ["evil.example", "localhost", &format!("evil.example:{port}")] {
        assert_eq!(ask(host).code(), "host-unknown", "{host}: a name that a web page may have made point here");
    }
    assert_eq!(scene.upstream.heard().len(), 3);
}

#[test]
fn another_user_is_refused_and_a_named_one_is_not() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be another user");
        return;
    }
    let (strict, named) = (Scene::new("socket-mode = \"666\""), Scene::new("users = [1000]"));
    for scene in [&strict, &named] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(scene.socket.parent().unwrap(), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let as_user = |user: u32, scene: &Scene| {
        let ask = || {
            let user = rustix::process::Uid::from_raw(user);
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            scene.get("/v1/models")
        };
        std::thread::scope(|scope| scope.spawn(ask).join().unwrap())
    };
    let refused = as_user(1000, &strict);
    assert_eq!((refused.status(), refused.code().as_str()), (403, "other-user"));
    assert_eq!(as_user(1001, &named).code(), "other-user");
    assert_eq!(strict.upstream.begun() + named.upstream.begun(), 0);
    assert_eq!(as_user(1000, &named).status(), 200);
    assert_eq!(strict.get("/v1/models").status(), 200, "our own user");
}

#[test]
fn an_upstream_that_cannot_be_believed_or_reached_gets_nothing() {
    let other = crate::upstream::Upstream::start();
    for (lines, name) in [
        (format!("ca-file = {:?}", other.ca()), "another authority"),
        (format!("upstream = \"https://127.0.0.1:{}\"\nca-file = {:?}", other.port, other.ca()), "another name than the certificate's"),
        (format!("upstream = \"https://localhost:1\"\nca-file = {:?}", other.ca()), "nobody there"),
    ] {
        let scene = Scene::new(&lines);
        let refused = scene.get("/v1/models");
        assert_eq!((refused.status(), refused.code().as_str()), (502, "upstream-unreachable"), "{name}");
        assert_eq!(scene.upstream.begun() + other.begun(), 0, "{name}");
    }
}
