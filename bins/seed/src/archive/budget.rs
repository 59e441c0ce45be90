//! What an archive may grow to, counted while it is read: so a bomb ends when it passes a limit, not when it is full.

use std::cell::Cell;
use std::io::{self, Read};

use podkit_cli::units::show_size;

use super::{Stop, refuse};
use crate::config::ArchiveLimits;
use crate::limits::Limits;

/// A small archive of mostly empty files may have any ratio: it is no bomb before it fills a buffer.
const RATIO_COUNTS_FROM: u64 = 1 << 20;

/// What is spent of the limits. Shared between an unpacker and the reader below it, so counted behind a `&`.
pub(super) struct Budget<'a> {
    limits: ArchiveLimits,
    /// All that a decoder may yield, by the ratio.
    yields: u64,
    run: &'a Limits,
    bytes: Cell<u64>,
    entries: Cell<usize>,
}

impl<'a> Budget<'a> {
    /// For an archive of `packed` bytes.
    pub(super) fn new(limits: ArchiveLimits, packed: u64, run: &'a Limits) -> Self {
        let ratio = limits.ratio.get() as u64;
        let yields = packed.saturating_mul(ratio).max(RATIO_COUNTS_FROM);
        Self { limits, yields, run, bytes: Cell::new(0), entries: Cell::new(0) }
    }

    /// Counts one more entry.
    pub(super) fn entry(&self) -> Result<(), Stop> {
        self.run.check(|| "while unpacking an archive".to_owned())?;
        self.entries.set(self.entries.get() + 1);
        self.has_entries(self.entries.get())
    }

    /// Whether there may be so many entries.
    pub(super) fn has_entries(&self, entries: usize) -> Result<(), Stop> {
        let limit = self.limits.entries;
        if entries <= limit.get() {
            return Ok(());
        }
        refuse(format!("it holds more than {limit} entries (`limits: {{entries}}`)"))
    }

    /// Counts bytes of files.
    pub(super) fn take(&self, bytes: u64) -> Result<(), Stop> {
        self.has_room_for(bytes)?;
        self.bytes.set(self.bytes.get() + bytes);
        self.run.check(|| "while unpacking an archive".to_owned())?;
        self.yielded(self.bytes.get())
    }

    /// Whether a file of this size may come: what is said to be too large need not be read.
    pub(super) fn has_room_for(&self, bytes: u64) -> Result<(), Stop> {
        let limit = self.limits.bytes;
        if self.bytes.get().saturating_add(bytes) <= limit {
            return Ok(());
        }
        refuse(format!("it unpacks to more than {} (`limits: {{bytes}}`)", show_size(limit)))
    }

    fn yielded(&self, bytes: u64) -> Result<(), Stop> {
        if bytes <= self.yields {
            return Ok(());
        }
        refuse(format!("it unpacks to more than {} times its size (`limits: {{ratio}}`)", self.limits.ratio))
    }
}

/// What a decoder yields, counted.
pub(super) struct Counted<'a, R> {
    inner: R,
    yielded: u64,
    budget: &'a Budget<'a>,
    /// Whether the end has been read.
    pub(super) has_ended: bool,
}

impl<'a, R: Read> Counted<'a, R> {
    pub(super) fn new(inner: R, budget: &'a Budget<'a>) -> Self {
        Self { inner, yielded: 0, budget, has_ended: false }
    }
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.has_ended |= read == 0 && !buffer.is_empty();
        self.yielded += read as u64;
        self.budget.yielded(self.yielded)?;
        self.budget.run.check(|| "while unpacking an archive".to_owned()).map_err(Stop::from)?;
        Ok(read)
    }
}
