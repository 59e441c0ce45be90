//! The C library's resolver, in a static binary: there is none.
//!
//! The standard library and reqwest each have code that would ask it, which never runs here, and which pulled all of
//! glibc's resolver into each binary: 0.12 MB. Whoever does come here is told that it cannot be done. This goes for all
//! that is linked statically: the images' binaries, of glibc or musl, and each build on a host of musl, where that is
//! the default.

#![expect(unsafe_code, reason = "the names and the calling convention are the C library's")]

use std::ffi::{c_char, c_int, c_void};

/// `EAI_FAIL`: non-recoverable failure in name resolution.
const EAI_FAIL: c_int = -4;

// SAFETY: the C library's own has this name and these arguments. glibc has both in one object file, musl each in its
// own: with both here the linker takes neither from the archive, and no name is there twice.
#[unsafe(no_mangle)]
extern "C" fn getaddrinfo(
    _: *const c_char,
    _: *const c_char,
    _: *const c_void,
    _: *mut *mut c_void,
) -> c_int {
    EAI_FAIL
}

// SAFETY: as above. Nothing was ever given out, so that there is nothing to free.
#[unsafe(no_mangle)]
extern "C" fn freeaddrinfo(_: *mut c_void) {}
