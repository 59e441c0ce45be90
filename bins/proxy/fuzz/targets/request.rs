//! Any bytes as an HTTP/1.1 client's.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&first, wire)) = data.split_first() else { return };
    podkit_proxy::fuzzing::request(wire, usize::from(first >> 1) + 1, first & 1 == 1);
    podkit_proxy::fuzzing::request_again(wire);
});
