//! Headers of safetensors files, as the publisher downloaded them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use models_manifest::content::safetensors::Tensors;

fuzz_target!(|data: &[u8]| {
    let Ok(tensors) = Tensors::of_bytes(data) else { return };
    assert_eq!(tensors.dtypes().values().sum::<u64>(), tensors.count());
    assert!(tensors.dtypes().values().all(|count| *count > 0));
    // Each element has half a byte at least, and the header is no data.
    assert!(tensors.parameters().div_ceil(2) <= data.len() as u64, "more elements than the file can hold");
    let longer = [data, &[0]].concat();
    assert!(Tensors::of_bytes(&longer).is_err(), "bytes behind the last tensor");
    assert!(Tensors::of_bytes(&data[..data.len() - 1]).is_err(), "a file without its last byte");
});
