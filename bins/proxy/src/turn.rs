//! The time for what is counted and estimated, asked of the kernel once in a turn of a worker's event loop.
//!
//! A busy worker does a dozen requests a turn, each of which wants the time several times. Nothing that must end at a
//! moment goes by this clock.

use std::cell::Cell;
use std::time::Instant;

/// So many questions are answered from one look at the kernel's clock, so that a turn that never ends does not stop
/// time: a few dozen requests, well below a millisecond.
const LOOKS: u32 = 128;

#[derive(Debug, Clone, Copy)]
enum Turn {
    /// No event loop on this thread says when it turns.
    None,
    /// It has waited since the last look.
    Begun,
    /// What the last look showed, and how often it may still be told.
    Seen(Instant, u32),
}

thread_local! {
    static TURN: Cell<Turn> = const { Cell::new(Turn::None) };
}

/// The event loop of this thread has waited. From the first call on, it tells of all its turns.
pub(crate) fn begin() {
    TURN.set(Turn::Begun);
}

/// The time, late by a turn at most.
pub(crate) fn now() -> Instant {
    TURN.with(|turn| match turn.get() {
        Turn::Seen(now, left @ 1..) => {
            turn.set(Turn::Seen(now, left - 1));
            now
        }
        Turn::None => Instant::now(),
        Turn::Begun | Turn::Seen(..) => {
            let now = Instant::now();
            turn.set(Turn::Seen(now, LOOKS));
            now
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_stands_within_a_turn_but_never_for_long() {
        assert!(now() < now(), "without an event loop it moves with each question");
        begin();
        let seen = now();
        assert_eq!(now(), seen);
        let last = (0..LOOKS).fold(seen, |_, _| now());
        assert!(last > seen, "a turn without end");
        begin();
        assert!(now() > last, "a new turn");
    }
}
