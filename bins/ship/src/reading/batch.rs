//! Events on their way to one destination, and which bytes of which files they stand for.

use crate::checkpoint::Position;

/// Events that are read, sent and acknowledged together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// What the destination's format made of each event, one after the other.
    pub(crate) chunks: Vec<u8>,
    pub(crate) items: Vec<Item>,
    pub(crate) spans: Vec<Span>,
}

/// One event of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub(crate) generation: u64,
    /// Where the event begins in its file.
    pub(crate) offset: u64,
    /// How many of the file's bytes it takes.
    pub(crate) length: u32,
    /// Where its chunk ends; it begins where the last one ends.
    pub(crate) end: u32,
    /// The group of the format that its chunk belongs to.
    pub(crate) group: u32,
    /// It goes on in the next event.
    pub(crate) split: bool,
}

/// Bytes of a generation, read one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) generation: u64,
    /// The generation's, which may be let go before the batch is answered.
    pub(crate) key: u64,
    pub(crate) to: Position,
    /// Bytes of events that the source's filters hold back.
    pub(crate) filtered: u64,
}

impl Batch {
    /// Whether it neither has events nor moves a position.
    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Adds an event whose chunk was appended to `chunks`.
    pub(crate) fn push(&mut self, generation: u64, offset: u64, length: usize, group: u32, split: bool) {
        self.items.push(Item {
            generation,
            offset,
            // A line is at most 64 MiB, and a batch not much more than that.
            length: u32::try_from(length).unwrap_or(u32::MAX),
            end: u32::try_from(self.chunks.len()).unwrap_or(u32::MAX),
            group,
            split,
        });
    }

    /// Notes how far a generation has been read.
    pub(crate) fn cover(&mut self, generation: u64, key: u64, to: Position, filtered: u64) {
        match self.spans.iter_mut().find(|span| span.generation == generation) {
            Some(span) => {
                span.to = to;
                span.filtered += filtered;
            }
            None => self.spans.push(Span { generation, key, to, filtered }),
        }
    }

    /// The key of the generation that an event is of.
    pub(crate) fn key(&self, item: usize) -> u64 {
        let generation = self.items[item].generation;
        self.spans.iter().find(|span| span.generation == generation).map_or(0, |span| span.key)
    }

    /// What the format made of an event, with its group.
    pub(crate) fn chunk(&self, item: usize) -> (u32, &[u8]) {
        let start = item.checked_sub(1).map_or(0, |before| self.items[before].end);
        let Item { end, group, .. } = self.items[item];
        (group, &self.chunks[start as usize..end as usize])
    }

    /// Empties it for the next use; the memory is kept.
    pub(crate) fn clear(&mut self) {
        self.chunks.clear();
        self.items.clear();
        self.spans.clear();
    }
}
