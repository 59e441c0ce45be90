//! The kernel's limit on open files, and the connections that fit below it.
//!
//! The admin port, and connections that are being closed, must always find room: so accepting pauses before the
//! limit is reached, in place of failing at it.

use podkit_lifecycle::raise_file_limit;

/// Descriptors that are not for proxied connections: the runtime, the listeners, the 256 connections of the admin port.
const RESERVE: u64 = 320;

/// Each client's connection has one to the upstream.
const EACH: u64 = 2;

/// Raises the limit as far as it goes, and gives the number of client connections that fit below it.
pub(crate) fn room() -> usize {
    raise_file_limit().map_or(usize::MAX, connections)
}

fn connections(limit: u64) -> usize {
    // Of a limit that is too small for the reserve, half is for connections all the same.
    let reserve = RESERVE.min(limit / 2);
    usize::try_from((limit - reserve) / EACH).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_left_at_every_limit() {
        assert_eq!(connections(1024), 352);
        assert_eq!(connections(100), 25);
        assert_eq!(connections(0), 1);
        assert!(connections(u64::MAX) > 1 << 40);
    }
}
