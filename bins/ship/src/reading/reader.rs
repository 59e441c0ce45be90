//! One destination's view of all files: how far each is read, and the next batch from there.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::SystemTime;

use crate::checkpoint::Position;
use crate::files::{Catalog, Fingerprint, Generation};
use crate::reading::batch::Batch;
use crate::reading::lines;
use crate::reading::record::Shape;

/// Read at once: large enough that the cost of a read call does not show.
const CHUNK: usize = 64 << 10;
/// Taken from one file before the next has its turn, so that a busy file does not starve the others.
const TURN: usize = 4 * CHUNK;

/// How far one destination has read, ahead of what it has acknowledged.
pub(crate) struct Reader {
    destination: usize,
    buffer: Vec<u8>,
    cursors: HashMap<u64, Cursor>,
    /// The generation that had the last turn.
    last: u64,
}

struct Cursor {
    offset: u64,
    /// The bytes before the offset, as they were read.
    tail: Fingerprint,
    /// The file's size when only a partial line was left: nothing to do until it is another.
    partial_at: Option<u64>,
    shape: Shape,
}

/// How a fill ended.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Filled {
    pub(crate) lines: u64,
    pub(crate) split: u64,
    pub(crate) invalid_utf8: u64,
    /// A file is not what it was: the catalog should look again.
    pub(crate) replaced: bool,
}

impl Reader {
    pub(crate) fn new(destination: usize) -> Self {
        Self { destination, buffer: vec![0; CHUNK], cursors: HashMap::new(), last: 0 }
    }

    /// Goes back to what is acknowledged: the batch that was read is given up.
    pub(crate) fn rewind(&mut self) {
        self.cursors.clear();
    }

    /// Reads until the batch is full or nothing whole is left. `finishing` takes partial lines too.
    pub(crate) fn fill(&mut self, catalog: &Catalog, batch: &mut Batch, finishing: bool) -> Filled {
        let mut filled = Filled::default();
        self.cursors.retain(|id, _| catalog.get(*id).is_some());
        let mut ids = catalog.ids();
        let next = ids.partition_point(|id| *id <= self.last);
        ids.rotate_left(next);
        let timestamp = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        while !batch.is_full() && !ids.is_empty() {
            ids.retain(|id| {
                let Some(generation) = catalog.get(*id) else { return false };
                if batch.is_full() {
                    return true;
                }
                self.last = *id;
                let at_end = finishing || catalog.is_settled(*id);
                let shape = || {
                    let source = catalog.source(generation);
                    Shape::new(source.format, &generation.name.to_string_lossy(), &source.fields)
                };
                let max_line = catalog.source(generation).max_line;
                match self.turn(generation, shape, max_line, batch, at_end, &timestamp, &mut filled) {
                    Ok(more) => more,
                    Err(error) => {
                        tracing::warn!("cannot read {:?}: {}", generation.path, podkit_cli::chain(&error));
                        false
                    }
                }
            });
        }
        filled
    }

    /// One generation's turn; true if it has more to read.
    #[expect(
        clippy::too_many_arguments,
        reason = "what differs from turn to turn; a struct would only rename it"
    )]
    fn turn(
        &mut self,
        generation: &Generation,
        shape: impl FnOnce() -> Shape,
        max_line: usize,
        batch: &mut Batch,
        at_end: bool,
        timestamp: &str,
        filled: &mut Filled,
    ) -> io::Result<bool> {
        let acknowledged = generation.positions[self.destination];
        let cursor = self.cursors.entry(generation.id).or_insert_with(|| Cursor {
            offset: acknowledged.offset,
            tail: acknowledged.tail,
            partial_at: None,
            shape: shape(),
        });
        let start = cursor.offset;
        let mut more = false;
        let mut replaced = false;
        while cursor.offset < generation.size && (at_end || cursor.partial_at != Some(generation.size)) {
            let length = generation.file.read_at(&mut self.buffer, cursor.offset)?;
            let read_to = cursor.offset + length as u64;
            // A truncation may have come after the last look: these bytes would be another content's. A short
            // read before the known end is one, too.
            let is_short = length < self.buffer.len() && read_to < generation.size;
            if is_short
                || !generation.still_holds(read_to)?
                || !cursor.tail.is_tail(&generation.file, cursor.offset)?
            {
                replaced = true;
                break;
            }
            let bytes = &self.buffer[..length];
            let mut taken = 0;
            while !batch.is_full() {
                let last_bytes = at_end && read_to >= generation.size;
                let Some(piece) = lines::next(&bytes[taken..], max_line, last_bytes) else { break };
                let notes = cursor.shape.write(piece.text, piece.split, timestamp, &mut batch.body);
                batch.count();
                filled.lines += 1;
                filled.split += u64::from(piece.split);
                filled.invalid_utf8 += u64::from(notes.invalid_utf8);
                taken += piece.taken;
            }
            if taken > 0 {
                cursor.offset += taken as u64;
                cursor.tail = Fingerprint::tail(&generation.file, cursor.offset)?;
            }
            if batch.is_full() {
                more = true;
                break;
            }
            if taken == 0 {
                if read_to >= generation.size {
                    cursor.partial_at = Some(generation.size);
                    break;
                }
                // A line longer than the buffer, which grows up to the longest line that is taken whole.
                self.buffer.resize((self.buffer.len() * 2).min(max_line + CHUNK), 0);
            } else if cursor.offset - start >= TURN as u64 {
                more = true;
                break;
            }
        }
        if cursor.offset > start {
            batch.cover(generation.id, Position { offset: cursor.offset, tail: cursor.tail });
        }
        if replaced {
            // What was read stays in the batch; what comes next is read from where the catalog says.
            generation.suspect.set(true);
            filled.replaced = true;
            if cursor.offset == start {
                self.cursors.remove(&generation.id);
            }
        }
        Ok(more)
    }
}
