//! The bytes of a connection to the Workload API: percents of an authority become dashes, nothing else changes, and it is the same in whatever
//! pieces they come.

#![no_main]

use guest_client::identity::workload_api::authority::Authority;
use libfuzzer_sys::fuzz_target;

fn passed(bytes: &[u8], size: usize) -> Vec<u8> {
    let (mut bytes, mut authority) = (bytes.to_vec(), Authority::default());
    bytes.chunks_mut(size).for_each(|piece| authority.pass(piece));
    bytes
}

fuzz_target!(|data: &[u8]| {
    let Some((size, bytes)) = data.split_first() else { return };
    let whole = passed(bytes, bytes.len().max(1));
    assert_eq!(whole.len(), bytes.len());
    assert!(whole.iter().zip(bytes).all(|(new, old)| new == old || (*old, *new) == (b'%', b'-')));
    assert_eq!(passed(bytes, usize::from(*size).max(1)), whole);
    assert_eq!(passed(&whole, bytes.len().max(1)), whole, "what was changed is not changed again");
});
