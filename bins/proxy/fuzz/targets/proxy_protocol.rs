//! Any bytes at the start of a connection that must begin with a PROXY header.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| podkit_proxy::fuzzing::proxy_protocol(data));
