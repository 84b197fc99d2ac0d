//! The head of a storage's answer to a request for a range: what is taken of its body was asked for, and lies in the object.

#![no_main]

use arbitrary::Arbitrary;
use guest_client::sources::answer::{Answer, Asked, judge};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    start: u64,
    length: u64,
    status: u16,
    head: &'a str,
}

fuzz_target!(|input: Input| {
    let asked = Asked { start: input.start, length: input.length.max(1) };
    let mut headers = HeaderMap::new();
    for line in input.head.lines() {
        let Some((name, value)) = line.split_once(": ") else { continue };
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    }
    match judge(asked, 200 + input.status % 320, &headers) {
        Ok(Answer::Body(accepted)) => {
            assert!((1..=asked.length).contains(&accepted.length));
            assert!(asked.start.checked_add(accepted.length).is_some_and(|end| end <= accepted.total));
        }
        Ok(Answer::Empty) => assert_eq!(asked.start, 0),
        Ok(Answer::EndsBefore(total)) => assert!(total <= asked.start && asked.start > 0),
        Ok(Answer::Elsewhere(to)) => assert!(to.is_ascii()),
        Err(error) => assert!(!error.to_string().is_empty() && !error.hint().is_empty()),
    }
});
