//! What crosses the evidence agent's socket, in both directions.
//!
//! Input: a byte that chooses the direction, then the frame.

#![no_main]

use std::fmt::Debug;

use guest_client::agent::wire::{Question, Reply, read, write};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|data: &[u8]| {
    let Some((choice, frame)) = data.split_first() else { return };
    match choice % 2 {
        0 => message::<Question>(frame),
        _ => message::<Reply>(frame),
    }
});

fn message<M: Serialize + DeserializeOwned + PartialEq + Debug>(frame: &[u8]) {
    // As it came; then with a length that fits, so that the JSON behind it is reached.
    let sized = |json: &[u8]| [&(json.len() as u32).to_be_bytes(), json].concat();
    for frame in [frame.to_vec(), sized(frame)] {
        let Ok(message) = read::<M>(&mut frame.as_slice()) else { continue };
        let mut written = Vec::new();
        write(&mut written, &message).expect("what was read can be written");
        assert_eq!(read::<M>(&mut written.as_slice()).expect("what was written can be read"), message);
    }
}
