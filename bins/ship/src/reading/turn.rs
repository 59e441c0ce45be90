//! One file's turn in a fill: bytes are read, shown to be the file's still, and made events of.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::config::Source;
use crate::delivery::{AnyPrepared, Format as _};
use crate::files::{Fingerprint, Generation, skip_hole};
use crate::filter::{Filter, Judgement};
use crate::reading::filling::Filling;
use crate::reading::group::{Grouper, Next, Piece, Rest};
use crate::reading::tell::Teller;

/// Read at once: large enough that the cost of a read call does not show.
pub(super) const CHUNK: usize = 64 << 10;
/// What a buffer has at first: a chunk, and before it the bytes that tell whether it goes on from where the cursor is.
pub(super) const BUFFER: usize = Fingerprint::TAIL + CHUNK;
/// Taken from one file before the next has its turn, so that a busy file does not starve the others.
const TURN: usize = 4 * CHUNK;
/// A stack trace is written in one go; after this long without a byte no more of it comes.
pub(super) const QUIET: Duration = Duration::from_secs(1);

/// How the files of one source are read.
pub(super) struct Rules {
    pub(super) grouper: Grouper,
    pub(super) teller: Teller,
    pub(super) filter: Option<Filter>,
    /// The rate of the source allows no event before this.
    pub(super) paused_until: Option<Instant>,
}

pub(super) struct Cursor {
    pub(super) offset: u64,
    /// The bytes before the offset, as they were read.
    pub(super) tail: Fingerprint,
    /// The file's size when nothing whole was left: nothing to do until it is another.
    pub(super) partial_at: Option<u64>,
    /// Then, too, a group of lines is whole.
    pub(super) held_until: Option<Instant>,
    /// It could not be read; complained of once.
    pub(super) is_failing: bool,
    pub(super) prepared: AnyPrepared,
}

impl Cursor {
    /// Complains of a file that cannot be read, once until it can be.
    pub(super) fn note_failure(&mut self, error: Option<&io::Error>, path: &Path) {
        let was_failing = std::mem::replace(&mut self.is_failing, error.is_some());
        if let (Some(error), false) = (error, was_failing) {
            let error = podkit_cli::chain(error);
            tracing::warn!("cannot read {path:?}: {error}; trying again until it can be read");
        }
    }
}

/// A turn, with what it found.
pub(super) struct Turn<'a> {
    pub(super) rules: &'a mut Rules,
    pub(super) cursor: &'a mut Cursor,
    pub(super) source: &'a Source,
    pub(super) generation: &'a Generation,
    /// What is known of the bytes that come after those that the file has now.
    pub(super) rest: Rest,
    /// Where the cursor was.
    pub(super) start: u64,
    /// Bytes of which nothing is sent.
    pub(super) filtered: u64,
    /// The file is not what it was.
    pub(super) replaced: bool,
}

/// What became of the bytes of one read.
struct Taken {
    bytes: usize,
    /// Behind those are whole lines that the next one may belong to.
    is_held: bool,
}

impl Turn<'_> {
    /// Reads until the batch is full, the turn is over or nothing whole is left; true if there is more to read.
    ///
    /// # Errors
    /// The file cannot be read; what was read before stays in the batch.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>, filling: &mut Filling<'_>) -> io::Result<bool> {
        let size = self.generation.size;
        let mut wanted = CHUNK;
        while self.cursor.offset < size && !self.is_stuck() {
            // With the bytes before the offset, which show that the file is what it was.
            let from = self.cursor.offset.saturating_sub(Fingerprint::TAIL as u64);
            let lead = usize::try_from(self.cursor.offset - from).unwrap_or_default();
            let length = self.generation.file.read_at(&mut buffer[..lead + wanted], from)?;
            let read_to = from + length as u64;
            // A truncation may have come after the last look: these bytes would be another content's. A short read
            // before the known end is one, too.
            let is_short = length < lead || (length < lead + wanted && read_to < size);
            if is_short
                || !self.cursor.tail.is_tail_of(&buffer[..lead])
                || !self.generation.still_holds(read_to)?
            {
                self.replaced = true;
                return Ok(false);
            }
            let bytes = &buffer[lead..length];
            if bytes.first() == Some(&0) && self.is_past_hole(filling)? {
                if filling.is_over() {
                    return Ok(true);
                }
                continue;
            }
            let is_all = read_to >= size;
            let taken = self.take(bytes, if is_all { self.rest } else { Rest::Open }, filling);
            if taken.bytes > 0 {
                self.cursor.offset += taken.bytes as u64;
                self.cursor.tail = Fingerprint::tail_of(&buffer[..lead + taken.bytes]);
            }
            if filling.is_over() {
                return Ok(true);
            }
            if self.rules.paused_until.is_some_and(|until| until > filling.now) {
                return Ok(false);
            }
            if taken.bytes > 0 {
                if self.cursor.offset - self.start >= TURN as u64 {
                    return Ok(true);
                }
            } else if is_all {
                self.cursor.partial_at = Some(size);
                self.cursor.held_until = taken.is_held.then(|| self.generation.grown + QUIET);
            } else {
                // A line longer than what was read, up to the longest that is taken whole.
                let longest = self.rules.grouper.max() + CHUNK;
                if wanted == longest {
                    return Err(io::Error::other("a line that is longer than `max_line` is not split"));
                }
                wanted = (wanted * 2).min(longest);
                buffer.resize(buffer.len().max(Fingerprint::TAIL + wanted), 0);
            }
        }
        Ok(false)
    }

    /// Nothing whole was left the last time, and no more has come, nor will what is held be whole by waiting.
    fn is_stuck(&self) -> bool {
        self.cursor.partial_at == Some(self.generation.size)
            && (self.rest == Rest::Open || (self.rest == Rest::Quiet && self.cursor.held_until.is_none()))
    }

    /// Goes past a hole: what was freed, or cut away under an app that does not append, reads as NULs, perhaps for
    /// gigabytes. False where there is none. One that goes up to the end may be filled yet.
    fn is_past_hole(&mut self, filling: &mut Filling<'_>) -> io::Result<bool> {
        let (offset, size) = (self.cursor.offset, self.generation.size);
        let data = skip_hole(&self.generation.file, offset, size);
        if data == offset {
            return Ok(false);
        }
        if data >= size && self.rest != Rest::End {
            (self.cursor.partial_at, self.cursor.held_until) = (Some(size), None);
            return Ok(true);
        }
        self.filtered += data - offset;
        filling.passed += data - offset;
        self.cursor.tail = Fingerprint::tail(&self.generation.file, data)?;
        self.cursor.offset = data;
        Ok(true)
    }

    /// Makes events of bytes that begin at the cursor.
    fn take(&mut self, bytes: &[u8], rest: Rest, filling: &mut Filling<'_>) -> Taken {
        let mut taken = Taken { bytes: 0, is_held: false };
        while !filling.is_over() {
            let piece = match self.rules.grouper.next(&bytes[taken.bytes..], rest) {
                Next::Piece(piece) => piece,
                left => {
                    taken.is_held = left == Next::Held;
                    break;
                }
            };
            let offset = self.cursor.offset + taken.bytes as u64;
            if !self.tell(piece, offset, filling) {
                break;
            }
            taken.bytes += piece.taken;
        }
        taken
    }

    /// Adds the event of a piece to the batch, or counts why there is none; false where it must wait.
    fn tell(&mut self, piece: Piece<'_>, offset: u64, filling: &mut Filling<'_>) -> bool {
        let Some((mut event, text)) = self.rules.teller.tell(piece.text, piece.split, filling.time) else {
            self.pass(piece.taken, filling);
            return true;
        };
        if let Some(filter) = &mut self.rules.filter {
            match filter.judge(&text, event.level, self.generation.key, offset, filling.now) {
                Judgement::Wait(until) if !filling.is_finishing => {
                    self.rules.paused_until = Some(until);
                    return false;
                }
                Judgement::Pass | Judgement::Wait(_) => {}
                Judgement::Drop(reason) => {
                    filling.filled.filtered[reason as usize] += 1;
                    self.pass(piece.taken, filling);
                    return true;
                }
            }
        }
        let Filling { format, batch, filled, .. } = filling;
        self.source.redact(&mut event, &mut filled.redacted);
        let group = format.write(&event, &self.cursor.prepared, offset, &mut batch.chunks);
        batch.push(self.generation.id, offset, piece.taken, group, event.split);
        filled.events += 1;
        filled.split += u64::from(event.split);
        filled.invalid_utf8 += u64::from(event.invalid_utf8);
        filled.unparsed += u64::from(event.unparsed);
        true
    }

    /// Counts bytes of which nothing is sent.
    fn pass(&mut self, bytes: usize, filling: &mut Filling<'_>) {
        self.filtered += bytes as u64;
        filling.passed += bytes as u64;
    }
}
