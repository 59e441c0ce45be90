//! Any bytes as an HTTP/1.1 app's.

#![no_main]

use libfuzzer_sys::fuzz_target;
use podkit_proxy::fuzzing::Asked;

fuzz_target!(|data: &[u8]| {
    let [step, flags, wire @ ..] = data else { return };
    let is_set = |bit: u8| flags >> bit & 1 == 1;
    let asked = Asked {
        step: usize::from(*step) + 1,
        is_head: is_set(0),
        http10: is_set(1),
        upgrade: is_set(2),
        ended: is_set(3),
        close: is_set(4),
    };
    podkit_proxy::fuzzing::response(wire, asked);
});
