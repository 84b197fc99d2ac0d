//! What is a credential's body and what is not, each refusal beside what passes.

use super::*;

fn secret(bytes: &[u8]) -> Secret {
    kept(bytes)
}

fn end(seconds: u64) -> Option<UnixTime> {
    Some(UnixTime::from_seconds(seconds))
}

fn variable(name: &str, value: &str) -> Variable {
    Variable { name: name.parse().unwrap(), value: secret(value.as_bytes()) }
}

fn variables(names: &[&str]) -> CredentialBody {
    CredentialBody { expires: None, content: Content::Variables(names.iter().map(|name| variable(name, "v")).collect()) }
}

/// The long form, with this behind the magic.
fn long(parts: &[&[u8]]) -> Vec<u8> {
    [&MAGIC[..], &parts.concat()].concat()
}

fn refused(parts: &[&[u8]]) -> CredentialError {
    CredentialBody::read(&long(parts)).unwrap_err()
}

#[test]
fn every_kind_is_read_as_it_was_written() {
    let file = |expires| CredentialBody {
        expires,
        content: Content::File { name: "service-account.json".parse().unwrap(), value: secret(b"{}\0") },
    };
    let bodies = [
        CredentialBody::opaque(secret(b"sk-1")),
        CredentialBody { expires: end(9), content: Content::Opaque(secret(b"sk-1")) },
        CredentialBody::opaque(secret(&long(&[b"as it happens"]))),
        file(None),
        file(end(253_402_300_799)),
        variables(&["A", "B"]),
        CredentialBody { expires: end(0), content: Content::Variables(vec![variable("A", "")]) },
    ];
    for body in bodies {
        let written = body.write().unwrap();
        assert_eq!(CredentialBody::read(&written).unwrap(), body);
    }
}

#[test]
fn bytes_without_an_end_stand_as_they_are() {
    assert_eq!(**CredentialBody::opaque(secret(b"sk-1\n")).write().unwrap(), *b"sk-1\n");
    let body = CredentialBody::read(b"\0pccred\x02sk").unwrap();
    assert_eq!((body.kind(), body.expires), (CredentialKind::Opaque, None));
}

#[test]
fn the_bytes_are_these() {
    let body = CredentialBody { expires: end(1), content: Content::Variables(vec![variable("A", "xy")]) };
    let expected = long(&[&[2, 1, 0, 0, 0, 0, 0, 0, 0, 1], &[0, 1], &[0, 1], b"A", &[0, 0, 0, 2], b"xy"]);
    assert_eq!(**body.write().unwrap(), *expected);
    let file = CredentialBody { expires: None, content: Content::File { name: "k".parse().unwrap(), value: secret(b"v") } };
    assert_eq!(**file.write().unwrap(), *long(&[&[1, 0], &[0, 1], b"k", b"v"]));
}

#[test]
fn what_is_cut_short_or_goes_on_is_refused() {
    let whole = variables(&["A", "B"]).write().unwrap();
    for length in MAGIC.len()..whole.len() {
        assert_eq!(CredentialBody::read(&whole[..length]).unwrap_err(), CredentialError::Short, "{length}");
    }
    assert_eq!(CredentialBody::read(&[&whole[..], &[0, 0]].concat()).unwrap_err(), CredentialError::Trailing { found: 2 });
    assert!(CredentialBody::read(&whole).is_ok());
}

#[test]
fn a_form_that_is_not_known_is_refused() {
    assert_eq!(refused(&[&[3, 0], b"v"]), CredentialError::Kind { found: 3 });
    assert_eq!(refused(&[&[0, 2], b"v"]), CredentialError::Mark { found: 2 });
    let late = 253_402_300_800_u64;
    assert_eq!(refused(&[&[0, 1], &late.to_be_bytes(), b"v"]), CredentialError::End { found: late });
    assert!(CredentialBody::read(&long(&[&[0, 1], &(late - 1).to_be_bytes(), b"v"])).is_ok());
    assert_eq!(refused(&[&[0, 0], b"v"]), CredentialError::Spelling);
    assert_eq!(refused(&[&[0, 1, 0, 0, 0, 0, 0, 0, 0, 1]]), CredentialError::Empty);
    assert_eq!(refused(&[&[1, 0], &[0, 1], b"k"]), CredentialError::Empty);
}

#[test]
fn names_of_files_do_not_climb() {
    for bad in ["", ".", "..", "a/b", "../a", "a\0", "a b", "ä", &"a".repeat(256)] {
        assert_eq!(bad.parse::<FileName>(), Err(CredentialError::FileName), "{bad:?}");
    }
    for good in ["a", ".netrc", "...", "Service_Account-1.json", &"a".repeat(255)] {
        assert!(good.parse::<FileName>().is_ok(), "{good:?}");
    }
    assert_eq!(refused(&[&[1, 0], &[0, 4], b"../a", b"v"]), CredentialError::FileName);
    assert_eq!(refused(&[&[1, 0], &[0, 1], &[0xff], b"v"]), CredentialError::FileName);
}

#[test]
fn variables_have_names_in_order_and_decide_about_no_code() {
    for bad in ["", "1A", "A-B", "A=B", "A B", &"A".repeat(129)] {
        assert_eq!(bad.parse::<VariableName>(), Err(CredentialError::VariableName), "{bad:?}");
    }
    for bad in
        ["LD_PRELOAD", "PATH", "PYTHONPATH", "BASH_ENV", "NODE_OPTIONS", "PORTCULLIS_ROOT", "GIT_CONFIG_COUNT", "LUA_INIT_5_4", "LESSOPEN"]
    {
        assert_eq!(bad.parse::<VariableName>(), Err(CredentialError::Reserved { name: bad.to_owned() }));
    }
    for good in ["A", "_a1", "PATHS", "OPENAI_API_KEY", "PYTH", "LD", "GIT_TOKEN", &"A".repeat(128)] {
        assert!(good.parse::<VariableName>().is_ok(), "{good:?}");
    }
    assert!(RESERVED_BEGINNINGS.iter().all(|beginning| RESERVED.contains(beginning)) && RESERVED.is_sorted());
    let two = |first: &[u8], second: &[u8]| refused(&[&[2, 0, 0, 2], &[0, 1], first, &[0; 4], &[0, 1], second, &[0; 4]]);
    let order = |name: &str| CredentialError::Order { name: name.parse().unwrap() };
    assert_eq!(two(b"B", b"A"), order("A"));
    assert_eq!(two(b"A", b"A"), order("A"));
    assert_eq!(variables(&["B", "A"]).write().unwrap_err(), order("A"));
    let zero = CredentialError::ZeroByte { name: "A".parse().unwrap() };
    assert_eq!(refused(&[&[2, 0, 0, 1], &[0, 1], b"A", &[0, 0, 0, 1], &[0]]), zero);
    let not_text = CredentialError::NotText { name: "A".parse().unwrap() };
    assert_eq!(refused(&[&[2, 0, 0, 1], &[0, 1], b"A", &[0, 0, 0, 1], &[0xff]]), not_text);
    let body = CredentialBody { expires: None, content: Content::Variables(vec![variable("A", "x\0")]) };
    assert_eq!(body.write().unwrap_err(), zero);
}

#[test]
fn sizes_and_counts_have_limits() {
    let size = |found| CredentialError::Size { limit: limits::SECRET, found };
    assert_eq!(CredentialBody::read(b"").unwrap_err(), size(0));
    assert_eq!(CredentialBody::read(&vec![1; limits::SECRET + 1]).unwrap_err(), size(limits::SECRET + 1));
    assert!(CredentialBody::read(&vec![1; limits::SECRET]).is_ok());
    assert_eq!(CredentialBody::opaque(secret(b"")).write().unwrap_err(), size(0));
    let with_end = |length| CredentialBody { expires: end(1), content: Content::Opaque(secret(&vec![1; length])) };
    let room = limits::SECRET - MAGIC.len() - 10;
    assert!(with_end(room).write().is_ok());
    assert_eq!(with_end(room + 1).write().unwrap_err(), size(limits::SECRET + 1));
    assert_eq!(with_end(0).write().unwrap_err(), CredentialError::Empty);
    let count = |found| CredentialError::Count { limit: VARIABLES, found };
    assert_eq!(variables(&[]).write().unwrap_err(), count(0));
    assert_eq!(refused(&[&[2, 0, 0, 0]]), count(0));
    assert_eq!(refused(&[&[2, 0, 0, 65]]), count(65));
    let names: Vec<String> = (0..=VARIABLES).map(|at| format!("A{at:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(variables(&names).write().unwrap_err(), count(65));
    assert!(variables(&names[1..]).write().is_ok());
}

#[test]
fn an_end_is_the_last_second() {
    let body = CredentialBody { expires: end(10), content: Content::Opaque(secret(b"v")) };
    assert!(!body.is_over(UnixTime::from_seconds(10)));
    assert!(body.is_over(UnixTime::from_seconds(11)));
    assert!(!CredentialBody::opaque(secret(b"v")).is_over(UnixTime::from_seconds(u64::MAX)));
}

#[test]
fn one_value_is_what_is_not_a_set_of_several() {
    assert_eq!(CredentialBody::opaque(secret(b"v")).single(), Some(&secret(b"v")));
    assert_eq!(variables(&["A"]).single(), Some(&secret(b"v")));
    assert_eq!(variables(&["A", "B"]).single(), None);
}

#[test]
fn nothing_shows_a_value() {
    let body = CredentialBody { expires: end(1), content: Content::Variables(vec![variable("A", "sesame")]) };
    assert!(!format!("{body:?}").contains("sesame"), "{body:?}");
}
