//! The times that a request is carried under, and how slow a side may be.

use std::cell::Cell;
use std::time::Duration;

use crate::io::{self, Stall};
use crate::wire::Wire;
use crate::worker::{NEVER, Tick, Watch};

/// The bytes a second that a side must keep up, whenever the time without any is limited: else a byte now and then
/// would hold a request for ever. The same as Kestrel's `MinRequestBodyDataRate`; a modem is faster.
const SLOWEST: u64 = 240;

#[derive(Debug, Clone, Copy)]
pub(super) struct Pace<'a> {
    pub(super) watch: &'a Watch,
    /// How long the source may send nothing, and how far it may fall behind [`SLOWEST`]; zero is no limit.
    pub(super) read: Duration,
    /// How long the sink may take nothing.
    pub(super) write: Duration,
    /// The end of the whole request's time.
    pub(super) until: Tick,
    /// Once it is so, both sides talk as they please, and `read` holds no more.
    pub(super) is_dialogue: &'a Cell<bool>,
}

impl Pace<'_> {
    /// By when the source must send more, if it began at `started` and has sent so many bytes.
    pub(super) fn read_until(&self, started: Tick, received: u64) -> Tick {
        if self.read.is_zero() || self.is_dialogue.get() {
            return self.until;
        }
        let earned = Duration::from_millis(received.saturating_mul(1000) / SLOWEST);
        started.plus(self.read.saturating_add(earned)).min(self.watch.after(self.read)).min(self.until)
    }

    /// Whether the whole request's time is over.
    pub(super) fn is_over(&self) -> bool {
        self.until != NEVER && self.until <= self.watch.now()
    }

    /// Writes two spans one behind the other, as long as the sink takes some; `written` counts along.
    ///
    /// That there is no room says little: the kernel tells of room only when a third of the megabytes that it may hold
    /// is free, which can take a slow reader minutes. So it is asked twice what the peer has taken, in between of which
    /// must be enough.
    pub(super) async fn write(
        &self,
        to: &Wire,
        mut spans: [&[u8]; 2],
        written: &Cell<u64>,
    ) -> Result<(), Stall> {
        let half = self.write / 2;
        let enough = SLOWEST * half.as_millis() as u64 / 1000;
        let mut last = None;
        loop {
            let before = written.get();
            let until = self.watch.after(half).min(self.until);
            match io::write(to, spans, self.watch, until, written).await {
                Err(Stall::Timeout) if !self.is_over() => {}
                outcome => return outcome,
            }
            let moved = written.get() - before;
            spans = skip(spans, moved as usize);
            let untaken = to.untaken();
            let taken = match (last.replace(untaken), untaken) {
                (None, _) => continue,
                (Some(Some(last)), Some(now)) => (last + moved).saturating_sub(now),
                _ => moved,
            };
            if taken < enough.max(1) {
                return Err(Stall::Timeout);
            }
        }
    }
}

/// What is left behind so many bytes.
fn skip([first, second]: [&[u8]; 2], count: usize) -> [&[u8]; 2] {
    let of_first = count.min(first.len());
    [&first[of_first..], &second[count - of_first..]]
}
