//! Event logs of TDs, replayed to whatever registers they extend to.
//!
//! Input: the log.

#![no_main]

use attestation::{EventLog, EventLogError, MeasuredEvent};
use aws_lc_rs::digest::{Context, SHA384};
use libfuzzer_sys::fuzz_target;
use testbed::tdx::{Ending, EventRecord};

fuzz_target!(|log: &[u8]| {
    let Some((rtmrs, events)) = replayed(log) else { return };
    // What the claims say is what was extended, and nothing else replays.
    assert_eq!(extended(&events), rtmrs);
    for event in &events {
        assert!(event.data.as_ref().is_none_or(|data| hash(&[data]) == event.digest));
    }
    for rtmr in 0..4 {
        let mut other = rtmrs;
        other[rtmr][0] ^= 1;
        assert!(matches!(EventLog::replay(log, &other), Err(EventLogError::Replay { .. })));
    }
    // The same events in a log of their own, written by somebody who shares no code with the reader.
    let mut again = testbed::tdx::EventLog::empty().with(|log| log.ending = Ending::None);
    for event in &events {
        again = again.then(EventRecord::given(event.rtmr, event.kind, event.digest, event.data.as_deref().unwrap_or_default()));
    }
    assert_eq!(again.rtmrs(), rtmrs);
    let events_again = EventLog::replay(&again.bytes(), &rtmrs).expect("a genuine log");
    let digests = |events: &[MeasuredEvent]| events.iter().map(|event| (event.rtmr, event.kind, event.digest)).collect::<Vec<_>>();
    assert_eq!(digests(events_again.events().expect("a log")), digests(&events));
});

/// The registers that a well-formed log replays to, each learned from the refusal of another, and its events.
fn replayed(log: &[u8]) -> Option<([[u8; 48]; 4], Vec<MeasuredEvent>)> {
    let mut rtmrs = [[0; 48]; 4];
    for _ in 0..=4 {
        match EventLog::replay(log, &rtmrs) {
            Ok(EventLog::Replayed { events }) => return Some((rtmrs, events)),
            Ok(EventLog::Absent) => unreachable!("a log came"),
            Err(EventLogError::Replay { rtmr, found, .. }) => rtmrs[usize::from(rtmr)] = *found.as_bytes(),
            Err(_) => return None,
        }
    }
    unreachable!("four registers were learned")
}

fn extended(events: &[MeasuredEvent]) -> [[u8; 48]; 4] {
    let mut rtmrs = [[0; 48]; 4];
    for event in events {
        let rtmr = &mut rtmrs[usize::from(event.rtmr)];
        *rtmr = hash(&[&*rtmr, &event.digest]);
    }
    rtmrs
}

fn hash(parts: &[&[u8]]) -> [u8; 48] {
    let mut context = Context::new(&SHA384);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().try_into().expect("48 bytes")
}
