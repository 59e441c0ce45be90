//! Records on their way to one destination, and which bytes of which files they stand for.

use std::time::Instant;

use crate::checkpoint::Position;
use crate::config::BatchLimits;

/// Records that are sent and acknowledged together.
#[derive(Debug)]
pub(crate) struct Batch {
    limits: BatchLimits,
    /// As many lines as the backend is known to take; at most those of the limits.
    accepted: usize,
    /// One record a line.
    pub(crate) body: Vec<u8>,
    pub(crate) lines: usize,
    pub(crate) spans: Vec<Span>,
    first: Option<Instant>,
}

/// Bytes of a generation, from where the last span or the acknowledged position ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) generation: u64,
    pub(crate) to: Position,
}

impl Batch {
    pub(crate) fn new(limits: BatchLimits) -> Self {
        Self { limits, accepted: limits.lines, body: Vec::new(), lines: 0, spans: Vec::new(), first: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// Whether a limit is reached other than the age.
    pub(crate) fn is_full(&self) -> bool {
        self.body.len() >= self.limits.size || self.lines >= self.accepted
    }

    /// When the first record becomes too old to wait for more; `None` while there is none.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.first.map(|first| first + self.limits.age)
    }

    /// Counts a record that was appended to the body.
    pub(crate) fn count(&mut self) {
        self.lines += 1;
        self.first.get_or_insert_with(Instant::now);
    }

    /// Notes how far a generation has been read.
    pub(crate) fn cover(&mut self, generation: u64, to: Position) {
        match self.spans.iter_mut().find(|span| span.generation == generation) {
            Some(span) => span.to = to,
            None => self.spans.push(Span { generation, to }),
        }
    }

    /// Empties it for the next use; the memory is kept.
    pub(crate) fn clear(&mut self) {
        self.body.clear();
        self.lines = 0;
        self.spans.clear();
        self.first = None;
    }

    /// The backend refused this batch as too large: the next one has half its lines.
    pub(crate) fn shrink(&mut self) {
        self.accepted = (self.lines / 2).max(1);
    }

    /// The backend took this batch: the next one may have some more lines, up to the limit.
    pub(crate) fn grow(&mut self) {
        self.accepted = (self.accepted + self.accepted.div_ceil(8)).min(self.limits.lines);
    }
}
