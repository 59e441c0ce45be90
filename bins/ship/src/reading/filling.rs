//! One filling of a batch: what it may take, and what is counted on the way.

use std::time::Instant;

use crate::delivery::AnyFormat;
use crate::event::Time;
use crate::filter::Reason;
use crate::reading::batch::Batch;

/// Passed over in one fill without an event to send: a tenth of a second at most, so that a backlog of which nothing is
/// wanted stops neither the other destinations nor signals.
const MAX_PASSED: u64 = 8 << 20;

/// When a batch is full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) bytes: usize,
    pub(crate) events: usize,
}

impl Limits {
    fn are_reached(self, batch: &Batch) -> bool {
        batch.chunks.len() >= self.bytes || batch.items.len() >= self.events
    }
}

/// How a fill ended.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Filled {
    pub(crate) events: u64,
    pub(crate) split: u64,
    pub(crate) invalid_utf8: u64,
    pub(crate) unparsed: u64,
    pub(crate) redacted: u64,
    /// Events that were held back, by [`Reason`].
    pub(crate) filtered: [u64; Reason::ALL.len()],
    /// A file is not what it was: the catalog should look again.
    pub(crate) replaced: bool,
}

/// One fill, with what does not change in it.
pub(super) struct Filling<'a> {
    pub(super) format: &'a mut AnyFormat,
    pub(super) batch: &'a mut Batch,
    pub(super) limits: Limits,
    pub(super) is_finishing: bool,
    pub(super) is_hurried: bool,
    pub(super) now: Instant,
    pub(super) time: Time,
    pub(super) filled: Filled,
    /// Bytes of which nothing is sent.
    pub(super) passed: u64,
}

impl Filling<'_> {
    pub(super) fn is_over(&self) -> bool {
        self.limits.are_reached(self.batch) || self.passed >= MAX_PASSED
    }
}
