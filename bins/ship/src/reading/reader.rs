//! One destination's view of all files: how far each is read, and the next batch from there.

use std::collections::{HashMap, HashSet};
use std::time::{Instant, SystemTime};

use crate::checkpoint::Position;
use crate::config::Source;
use crate::delivery::{AnyFormat, Format as _};
use crate::event::Time;
use crate::files::{Catalog, Generation};
use crate::filter::Filter;
use crate::reading::batch::Batch;
use crate::reading::filling::{Filled, Filling, Limits};
use crate::reading::group::Rest;
use crate::reading::tell::{Teller, origin};
use crate::reading::turn::{BUFFER, Cursor, QUIET, Rules, Turn};

/// How far one destination has read, ahead of what it has acknowledged.
pub(crate) struct Reader {
    destination: usize,
    /// What is read, and before it the bytes that tell whether it goes on from where the cursor is.
    buffer: Vec<u8>,
    sources: Vec<Rules>,
    cursors: HashMap<u64, Cursor>,
    /// The generation that had the last turn.
    last: u64,
    /// When a group that is held back will be whole, or a rate allows the next event.
    held_until: Option<Instant>,
}

impl Reader {
    pub(crate) fn new(destination: usize, sources: &[Source]) -> Self {
        let rules = |source: &Source| Rules {
            grouper: source.grouper(),
            teller: Teller::new(source),
            filter: Filter::new(&source.filters.rules),
            paused_until: None,
        };
        Self {
            destination,
            buffer: vec![0; BUFFER],
            sources: sources.iter().map(rules).collect(),
            cursors: HashMap::new(),
            last: 0,
            held_until: None,
        }
    }

    /// How many bytes there are to read in the files that are not `busy`.
    pub(crate) fn unread(&mut self, catalog: &Catalog, busy: &HashSet<u64>, finishing: bool) -> u64 {
        let now = Instant::now();
        let mut bytes = 0;
        let mut held_until: Option<Instant> = None;
        for generation in catalog.all().filter(|generation| !busy.contains(&generation.id)) {
            let paused = self.sources[generation.source].paused_until;
            if let Some(until) = paused.filter(|until| *until > now && !finishing) {
                held_until = Some(held_until.map_or(until, |held| held.min(until)));
                continue;
            }
            let Some(cursor) = self.cursors.get(&generation.id) else {
                let from = generation.positions[self.destination].offset;
                bytes += generation.size.saturating_sub(from);
                continue;
            };
            let left = generation.size.saturating_sub(cursor.offset);
            let is_partial = cursor.partial_at == Some(generation.size)
                && !finishing
                && !(left > 0 && catalog.is_settled(generation.id));
            match cursor.held_until.filter(|_| is_partial) {
                None if is_partial => {}
                Some(until) if until > now => {
                    held_until = Some(held_until.map_or(until, |held| held.min(until)));
                }
                _ => bytes += left,
            }
        }
        self.held_until = held_until;
        bytes
    }

    /// When something that [`unread`](Self::unread) did not count can be read without a change of the files.
    pub(crate) fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// Reads until the batch is full or nothing whole is left. In a hurry groups are taken as whole; `finishing`
    /// takes partial lines too.
    #[expect(
        clippy::too_many_arguments,
        reason = "what differs from fill to fill; a struct would only rename it"
    )]
    pub(crate) fn fill(
        &mut self,
        catalog: &Catalog,
        format: &mut AnyFormat,
        batch: &mut Batch,
        limits: Limits,
        busy: &HashSet<u64>,
        hurried: bool,
        finishing: bool,
    ) -> Filled {
        let mut filling = Filling {
            format,
            batch,
            limits,
            is_finishing: finishing,
            is_hurried: hurried,
            now: Instant::now(),
            time: Time::from(SystemTime::now()),
            filled: Filled::default(),
            passed: 0,
        };
        filling.format.read_at(filling.time);
        self.cursors.retain(|id, _| catalog.get(*id).is_some());
        let mut ids = catalog.ids();
        ids.retain(|id| !busy.contains(id));
        let next = ids.partition_point(|id| *id <= self.last);
        ids.rotate_left(next);
        while !filling.is_over() && !ids.is_empty() {
            ids.retain(|id| {
                let Some(generation) = catalog.get(*id) else { return false };
                if filling.is_over() {
                    return true;
                }
                self.last = *id;
                self.turn(catalog, generation, &mut filling)
            });
        }
        if self.buffer.len() > BUFFER {
            // Long lines are rare, and each destination has a buffer.
            self.buffer.truncate(BUFFER);
            self.buffer.shrink_to_fit();
        }
        filling.filled
    }

    /// One generation's turn; true if it has more to read.
    fn turn(&mut self, catalog: &Catalog, generation: &Generation, filling: &mut Filling<'_>) -> bool {
        let source = catalog.source(generation);
        let rules = &mut self.sources[generation.source];
        if rules.paused_until.is_some_and(|until| until > filling.now) && !filling.is_finishing {
            return false;
        }
        let rest = if filling.is_finishing || catalog.is_settled(generation.id) {
            Rest::End
        } else if filling.is_hurried || generation.grown.elapsed() >= QUIET {
            Rest::Quiet
        } else {
            Rest::Open
        };
        let acknowledged = generation.positions[self.destination];
        let cursor = self.cursors.entry(generation.id).or_insert_with(|| Cursor {
            offset: acknowledged.offset,
            tail: acknowledged.tail,
            partial_at: None,
            held_until: None,
            is_failing: false,
            prepared: filling.format.prepare(&origin(generation, source)),
        });
        let start = cursor.offset;
        let mut turn = Turn { rules, cursor, source, generation, rest, start, filtered: 0, replaced: false };
        let outcome = turn.read(&mut self.buffer, filling);
        let Turn { cursor, filtered, replaced, .. } = turn;
        if cursor.offset > start {
            let to = Position { offset: cursor.offset, tail: cursor.tail };
            filling.batch.cover(generation.id, generation.key, to, filtered);
        }
        cursor.note_failure(outcome.as_ref().err(), &generation.path);
        if replaced {
            // What was read stays in the batch; what comes next is read from where the catalog says.
            generation.suspect.set(true);
            filling.filled.replaced = true;
            if cursor.offset == start {
                self.cursors.remove(&generation.id);
            }
        }
        outcome.unwrap_or(false)
    }
}
