//! All generations that are followed, brought up to date by looking at the disk.
//!
//! A generation begins when a file is found, goes on under any name it is given, and is let go when it has no name
//! of ours any more, gets no more bytes, and is delivered to its end.

mod admit;
mod leave;
mod reclaim;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::checkpoint::{Checkpoint, Position, Saved};
use crate::config::Source;
use crate::files::Fingerprint;
use crate::files::generation::{Generation, Identity, Look};
use crate::files::is_open_for_writing;
use crate::files::key::Keys;
use crate::files::listing::{Found, Listing};
use crate::ledger::Ledger;

/// How long a file without a name of ours is kept open after it last grew: an app may go on writing to a renamed
/// file until it is told of the rotation.
const LINGER: Duration = Duration::from_secs(10);

/// The time between two looks that also see a rewrite of the same length, for each followed file: they cost about
/// half a microsecond each, so a tenth of a percent of a core.
const LOOK_SHARE: Duration = Duration::from_micros(500);

/// More files than a volume holds whose directory went away; ends the growth of the checkpoint.
const MAX_KNOWN: usize = 10_000;

/// The files of all sources.
pub(crate) struct Catalog {
    sources: Vec<Source>,
    ledger: Arc<Ledger>,
    generations: BTreeMap<u64, Generation>,
    next_id: u64,
    /// Generations that are not followed now, but are known should their file turn up: those of the checkpoint
    /// until they are found, and those that were let go.
    known: Vec<Saved>,
    same_boot: bool,
    /// Rotated files that are not ours to read, with the time of their last write when that was decided: a later
    /// one makes them ours.
    foreign: HashMap<Identity, Option<SystemTime>>,
    /// When the last scan began, before a restart too; `None` at the very first start.
    last_look: Option<SystemTime>,
    directories: BTreeSet<PathBuf>,
    scanned: bool,
    /// Files that could not be read, so that each is complained of once.
    unreadable: HashSet<PathBuf>,
    /// As many files as there are descriptors for.
    max_files: usize,
    keys: Keys,
    /// There are generations whose key is not on disk.
    unsaved: bool,
    /// Names may have changed since the last save, or generations come or gone.
    rescanned: bool,
    /// When every followed file was last looked at, and whether one was only measured since.
    looked: Instant,
    owes_look: bool,
    /// What deleted files may hold on disk.
    deleted_budget: u64,
    /// Files of which nothing can be given back to the volume.
    kept: HashSet<Identity>,
    /// Devices that refused to give space back, so that each is complained of once.
    complained: HashSet<u64>,
    /// Files that the catalog before this one had open, until the first scan.
    held: Vec<Held>,
}

/// An open file that goes from one catalog to the next.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    key: u64,
    file: Rc<File>,
    is_copy: bool,
}

impl Catalog {
    /// A catalog that goes on from a checkpoint, and keeps at most so many files open.
    pub(crate) fn new(
        sources: Vec<Source>,
        ledger: Arc<Ledger>,
        checkpoint: Checkpoint,
        boot: &str,
        max_files: usize,
        deleted_budget: u64,
    ) -> Self {
        Self {
            sources,
            ledger,
            generations: BTreeMap::new(),
            next_id: 0,
            same_boot: checkpoint.boot == boot,
            known: checkpoint.generations,
            foreign: HashMap::new(),
            last_look: checkpoint.looked,
            directories: BTreeSet::new(),
            scanned: false,
            unreadable: HashSet::new(),
            max_files,
            keys: Keys::new(),
            unsaved: false,
            rescanned: true,
            looked: Instant::now(),
            owes_look: false,
            deleted_budget,
            kept: HashSet::new(),
            complained: HashSet::new(),
            held: Vec::new(),
        }
    }

    /// Takes over the open files of a catalog that was before this in the same process: some may have no name any more.
    pub(crate) fn take_over(&mut self, held: Vec<Held>) {
        self.held = held;
    }

    /// The open files, for a catalog that comes after this one.
    pub(crate) fn held(&self) -> Vec<Held> {
        let held =
            |file: &Generation| Held { key: file.key, file: Rc::clone(&file.file), is_copy: file.is_copy };
        self.generations.values().map(held).collect()
    }

    /// The followed generations in the order they were found.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.generations.keys().copied().collect()
    }

    /// All followed generations.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Generation> {
        self.generations.values()
    }

    /// The sources of the config, by the index that generations have.
    pub(crate) fn sources(&self) -> &[Source] {
        &self.sources
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Generation> {
        self.generations.get(&id)
    }

    pub(crate) fn source(&self, generation: &Generation) -> &Source {
        &self.sources[generation.source]
    }

    /// The number of files that are followed.
    pub(crate) fn len(&self) -> usize {
        self.generations.len()
    }

    /// Whether a generation gets no more bytes as far as one can tell: its name is gone, or is to be removed, and
    /// it has been quiet.
    pub(crate) fn is_settled(&self, id: u64) -> bool {
        self.get(id).is_some_and(|generation| {
            (!generation.listed || self.is_to_be_removed(generation)) && generation.grown.elapsed() >= LINGER
        })
    }

    /// A file that somebody has open for writing, or that was written to in the last `quiet`.
    pub(crate) fn written(&self, quiet: Duration) -> Option<&PathBuf> {
        let is_written = |file: &&Generation| {
            !file.is_copy && (file.grown.elapsed() < quiet || is_open_for_writing(&file.file) == Some(true))
        };
        self.generations.values().find(is_written).map(|file| &file.path)
    }

    /// The directories that the last scan read, to be watched.
    pub(crate) fn directories(&self) -> &BTreeSet<PathBuf> {
        &self.directories
    }

    /// Whether a change may come that the kernel cannot tell of: a directory that is not there yet, or a file that
    /// waits to be let go or removed.
    pub(crate) fn needs_scans(&self) -> bool {
        let mut includes = self.sources.iter().flat_map(|source| &source.include);
        let mut files = self.generations.values();
        files.any(|file| !file.listed || self.is_to_be_removed(file))
            || includes.any(|include| !include.base().is_dir())
    }

    /// Whether files were only measured at the last look, and a rewrite of the same length is not looked for yet.
    pub(crate) fn owes_look(&self) -> bool {
        self.owes_look
    }

    /// Moves a destination's position after an acknowledgement. Of the bytes up to there, so many were held back by
    /// filters, and so many are dead letters.
    pub(crate) fn acknowledge(
        &mut self,
        id: u64,
        destination: usize,
        to: Position,
        filtered: u64,
        dead_lettered: u64,
    ) {
        let Some(generation) = self.generations.get_mut(&id) else { return };
        let mut to = to;
        if generation.is_copy && to.offset > generation.size {
            // It went on in a copy that ends before what was sent of the original.
            let tail = Fingerprint::tail(&generation.file, generation.size).unwrap_or_default();
            to = Position { offset: generation.size, tail };
        }
        let position = &mut generation.positions[destination];
        // Read twice, after a look at a file that seemed to be another one, and acknowledged before.
        let Some(moved) = to.offset.checked_sub(position.offset).filter(|moved| *moved > 0) else { return };
        // Of a batch that begins before the position, not all is new.
        let dead_lettered = dead_lettered.min(moved);
        let filtered = filtered.min(moved - dead_lettered);
        generation.account.filter(destination, filtered);
        generation.account.dead_letter(destination, dead_lettered);
        generation.account.acknowledge(destination, moved - filtered - dead_lettered);
        *position = to;
        generation.moved = true;
        if !to.tail.is_tail(&generation.file, to.offset).unwrap_or(false) {
            generation.suspect.set(true);
        }
    }

    /// When the last scan began: what a restart must not take for older than it is.
    pub(crate) fn last_look(&self) -> Option<SystemTime> {
        self.last_look
    }

    /// What moved since the last save; `None` where only a whole checkpoint tells all that changed.
    pub(crate) fn moves(&self) -> Option<Vec<Saved>> {
        let moved = self.generations.values().filter(|generation| generation.moved);
        (!self.rescanned)
            .then(|| moved.map(|generation| generation.save(self.ledger.destinations())).collect())
    }

    /// What the checkpoint keeps.
    pub(crate) fn save(&self) -> Vec<Saved> {
        let destinations = self.ledger.destinations();
        let followed = self.generations.values().map(|generation| generation.save(destinations));
        followed.chain(self.known.iter().cloned()).collect()
    }

    /// The destinations that have positions and that the config does not name.
    pub(crate) fn absent(&self) -> BTreeSet<String> {
        let destinations = self.ledger.destinations();
        let known = self.known.iter().flat_map(|saved| saved.positions.keys());
        let followed = self.generations.values().flat_map(|generation| generation.absent.keys());
        known.chain(followed).filter(|name| !destinations.contains(name)).cloned().collect()
    }

    /// The number of files with bytes that are not acknowledged everywhere.
    pub(crate) fn pending_files(&self) -> usize {
        self.generations.values().filter(|generation| generation.is_pending()).count()
    }

    /// The files that are there and could not be read, in no order.
    pub(crate) fn unreadable(&self) -> impl ExactSizeIterator<Item = &PathBuf> {
        self.unreadable.iter()
    }

    /// Where each file's last whole line ends now.
    pub(crate) fn line_ends(&self) -> HashMap<u64, u64> {
        let end = |generation: &Generation| generation.last_line_end().unwrap_or(generation.size);
        self.generations.values().map(|generation| (generation.id, end(generation))).collect()
    }

    /// Bytes up to some ends that are not acknowledged everywhere.
    pub(crate) fn pending_up_to(&self, ends: &HashMap<u64, u64>) -> u64 {
        let pending = |(id, end): (&u64, &u64)| {
            let positions =
                self.get(*id).map(|generation| generation.positions.as_slice()).unwrap_or_default();
            positions.iter().map(|position| end.saturating_sub(position.offset)).sum::<u64>()
        };
        ends.iter().map(pending).sum()
    }

    /// Bytes behind some ends: of lines that were not whole then, or came later.
    pub(crate) fn bytes_beyond(&self, ends: &HashMap<u64, u64>) -> u64 {
        let beyond = |(id, end): (&u64, &u64)| self.get(*id).map_or(0, |file| file.size.saturating_sub(*end));
        ends.iter().map(beyond).sum()
    }

    /// Looks only at files that are open already, which is enough after a write. False where it showed that a
    /// file was replaced, so that a whole [`scan`](Self::scan) is needed.
    pub(crate) fn refresh(&mut self) -> bool {
        let share = LOOK_SHARE * u32::try_from(self.len()).unwrap_or(u32::MAX);
        self.owes_look = self.looked.elapsed() < share;
        let measures = self.owes_look;
        if !measures {
            self.looked = Instant::now();
        }
        let look = if measures { Generation::measure } else { Generation::glance };
        self.look_at_all(look).is_empty()
    }

    /// Looks at everything: new files, renamed files, cut files, files that are gone.
    pub(crate) fn scan(&mut self) {
        let begun = SystemTime::now();
        self.rescanned = true;
        let first = !std::mem::replace(&mut self.scanned, true);
        let mut listing = Listing::of(&self.sources);
        self.note_names(&listing.found);
        let cut = self.look_at_all(Generation::look);
        (self.looked, self.owes_look) = (Instant::now(), false);
        // At every scan: a file may have been made, written and rotated since the last look, or be written to
        // after it was let go.
        listing.add_neighbours(&self.sources, &self.live_names(&listing.found));
        for id in cut {
            self.end(id, &listing.found);
        }
        let followed: HashSet<Identity> = self.generations.values().map(|file| file.identity).collect();
        for file in listing.found.iter().filter(|file| !followed.contains(&file.identity)) {
            self.admit(file);
        }
        self.admit_held();
        self.note_rotations(&listing.found);
        self.forget_deleted(&listing, first);
        self.unreadable.retain(|path| listing.found.iter().any(|file| file.path == *path));
        self.remove_rotated();
        self.limit_deleted();
        self.release();
        self.directories = listing.directories;
        self.last_look = Some(begun);
    }

    /// Brings the names of the followed files up to date.
    fn note_names(&mut self, found: &[Found]) {
        let by_identity: HashMap<Identity, &Found> = found.iter().map(|file| (file.identity, file)).collect();
        for generation in self.generations.values_mut() {
            let file = by_identity.get(&generation.identity);
            generation.listed = file.is_some();
            if let Some(file) = file {
                generation.path.clone_from(&file.path);
            }
        }
    }

    /// Looks at every followed file; returns those whose content was replaced.
    fn look_at_all(&mut self, look: impl Fn(&mut Generation) -> io::Result<Look>) -> Vec<u64> {
        let mut replaced = Vec::new();
        for generation in self.generations.values_mut() {
            match look(generation) {
                Ok(Look::Replaced) => replaced.push(generation.id),
                Ok(Look::Same | Look::Grown) if self.unreadable.is_empty() => {}
                Ok(Look::Same | Look::Grown) => drop(self.unreadable.remove(&generation.path)),
                Err(error) if self.unreadable.insert(generation.path.clone()) => {
                    tracing::warn!("cannot look at {:?}: {}", generation.path, podkit_cli::chain(&error));
                }
                Err(_) => {}
            }
        }
        replaced
    }

    /// The names that files are or were written under, as opposed to those that a rotation gives them.
    fn live_names(&self, found: &[Found]) -> BTreeSet<(usize, PathBuf)> {
        let found = found.iter().map(|file| (file.source, file.path.clone()));
        let followed = self.generations.values().map(|file| (file.source, file.name.clone()));
        let known = self.known.iter().filter_map(|saved| {
            let source = self.sources.iter().position(|source| source.covers(&saved.name))?;
            Some((source, saved.name.clone()))
        });
        found.chain(followed).chain(known).collect()
    }
}
