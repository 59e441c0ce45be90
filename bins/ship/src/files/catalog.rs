//! All generations that are followed, brought up to date by looking at the disk.
//!
//! A generation begins when a file is found, goes on under any name it is given, and is let go when it has no name
//! of ours any more, gets no more bytes, and is delivered to its end.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::checkpoint::{Checkpoint, Position, Saved};
use crate::config::{Source, Start};
use crate::files::Fingerprint;
use crate::files::admission::{holds, is_copy_of, is_saved};
use crate::files::generation::{Generation, Identity, Look};
use crate::files::listing::{Found, Listing, is_neighbour};
use crate::ledger::Ledger;

/// How long a file without a name of ours is kept open after it last grew: an app may go on writing to a renamed
/// file until it is told of the rotation.
const LINGER: Duration = Duration::from_secs(10);

/// File times have the coarse clock of the kernel (a tick, 10 ms at most); a file this much "older" may be newer.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

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
    /// Rotated files that are not ours to read, as they were when that was decided.
    foreign: HashMap<Identity, Option<SystemTime>>,
    /// When the last scan began, or when the checkpoint was written; `None` at the very first start.
    last_look: Option<SystemTime>,
    directories: BTreeSet<PathBuf>,
    scanned: bool,
    /// Files that could not be read, so that each is complained of once.
    unreadable: HashSet<PathBuf>,
}

impl Catalog {
    /// A catalog that goes on from a checkpoint.
    pub(crate) fn new(sources: Vec<Source>, ledger: Arc<Ledger>, checkpoint: Checkpoint, boot: &str) -> Self {
        Self {
            sources,
            ledger,
            generations: BTreeMap::new(),
            next_id: 0,
            same_boot: checkpoint.boot == boot,
            known: checkpoint.generations,
            foreign: HashMap::new(),
            last_look: checkpoint.written,
            directories: BTreeSet::new(),
            scanned: false,
            unreadable: HashSet::new(),
        }
    }

    /// The followed generations in the order they were found.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.generations.keys().copied().collect()
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Generation> {
        self.generations.get(&id)
    }

    pub(crate) fn source(&self, generation: &Generation) -> &Source {
        &self.sources[generation.source]
    }

    /// Whether a generation gets no more bytes as far as one can tell: its name is gone, and it has been quiet.
    pub(crate) fn is_settled(&self, id: u64) -> bool {
        self.get(id).is_some_and(|generation| !generation.listed && generation.grown.elapsed() >= LINGER)
    }

    /// The directories that the last scan read, to be watched.
    pub(crate) fn directories(&self) -> &BTreeSet<PathBuf> {
        &self.directories
    }

    /// Whether a change may come that the kernel cannot tell of: a directory that is not there yet, or a file
    /// that waits to be let go.
    pub(crate) fn needs_scans(&self) -> bool {
        let mut includes = self.sources.iter().flat_map(|source| &source.include);
        includes.any(|include| !include.base().is_dir()) || self.generations.values().any(|file| !file.listed)
    }

    /// Moves a destination's position after an acknowledgement.
    pub(crate) fn acknowledge(&mut self, id: u64, destination: usize, to: Position) {
        let Some(generation) = self.generations.get_mut(&id) else { return };
        let position = &mut generation.positions[destination];
        generation.account.acknowledge(destination, to.offset.saturating_sub(position.offset));
        *position = to;
    }

    /// What the checkpoint keeps.
    pub(crate) fn save(&self) -> Vec<Saved> {
        let destinations = self.ledger.destinations();
        let followed = self.generations.values().map(|generation| generation.save(destinations));
        followed.chain(self.known.iter().cloned()).collect()
    }

    /// The number of files with bytes that are not acknowledged everywhere.
    pub(crate) fn pending_files(&self) -> usize {
        self.generations.values().filter(|generation| generation.is_pending()).count()
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

    /// Looks only at files that are open already, which is enough after a write. False where it showed that a
    /// file was replaced, so that a whole [`scan`](Self::scan) is needed.
    pub(crate) fn refresh(&mut self) -> bool {
        self.look_at_all().is_empty()
    }

    /// Looks at everything: new files, renamed files, cut files, files that are gone.
    pub(crate) fn scan(&mut self) {
        let begun = SystemTime::now();
        let first = !std::mem::replace(&mut self.scanned, true);
        let mut listing = Listing::of(&self.sources);
        let renamed = self.note_names(&listing.found);
        let cut = self.look_at_all();
        if first || renamed || !cut.is_empty() {
            listing.add_neighbours(&self.sources, &self.live_names(&listing.found));
            self.forget_deleted(&listing.found, first);
        }
        for id in cut {
            self.end(id, &listing.found);
        }
        for file in &listing.found {
            self.admit(file);
        }
        if first {
            self.report_missing();
        }
        self.release();
        self.directories = listing.directories;
        self.last_look = Some(begun);
    }

    /// Brings the names of the followed files up to date; true if one was given another name, or lost its own.
    fn note_names(&mut self, found: &[Found]) -> bool {
        let by_identity: HashMap<Identity, &Found> = found.iter().map(|file| (file.identity, file)).collect();
        let mut renamed = false;
        for generation in self.generations.values_mut() {
            let file = by_identity.get(&generation.identity);
            renamed |= match file {
                Some(file) => generation.path != file.path,
                None => generation.listed,
            };
            generation.listed = file.is_some();
            if let Some(file) = file {
                generation.path.clone_from(&file.path);
            }
        }
        renamed
    }

    /// Looks at every followed file; returns those whose content was replaced.
    fn look_at_all(&mut self) -> Vec<u64> {
        let mut replaced = Vec::new();
        for generation in self.generations.values_mut() {
            match generation.look() {
                Ok(Look::Replaced) => replaced.push(generation.id),
                Ok(Look::Same | Look::Grown) => {}
                Err(error) => tracing::warn!("cannot look at {:?}: {error}", generation.path),
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

    /// Forgets what was known of files that are not there any more. What the checkpoint told is kept through the
    /// first scan, which may still find it.
    fn forget_deleted(&mut self, found: &[Found], first: bool) {
        let there: HashSet<Identity> = found.iter().map(|file| file.identity).collect();
        self.foreign.retain(|identity, _| there.contains(identity));
        if !first {
            self.known.retain(|saved| there.contains(&Identity { device: saved.device, inode: saved.inode }));
        }
    }

    /// A followed file was cut or rewritten. Where a copy of the old content was made before (`copytruncate`), the
    /// generation goes on in the copy; else it ends here.
    fn end(&mut self, id: u64, found: &[Found]) {
        let Some(mut generation) = self.generations.remove(&id) else { return };
        let followed: HashSet<Identity> = self.generations.values().map(|other| other.identity).collect();
        let is_candidate = |file: &&Found| {
            file.identity != generation.identity
                && !followed.contains(&file.identity)
                && is_neighbour(&file.path, &generation.name)
                && !generation.head.is_empty()
        };
        for candidate in found.iter().filter(is_candidate) {
            let Ok(file) = File::open(&candidate.path) else { continue };
            if holds(generation.head, &generation.positions, &file).unwrap_or(false) {
                tracing::info!(
                    "{:?} was cut after a copy to {:?}; going on there",
                    generation.name,
                    candidate.path
                );
                generation.identity = candidate.identity;
                generation.path.clone_from(&candidate.path);
                generation.listed = candidate.listed;
                generation.file = Rc::new(file);
                // What the copy holds is what there is to read, be it more or less than was seen of the original.
                generation.size = generation.file.metadata().map_or(generation.size, |meta| meta.len());
                generation.account.set_read(generation.size);
                generation.grown = Instant::now();
                self.generations.insert(id, generation);
                return;
            }
        }
        match generation
            .positions
            .iter()
            .map(|position| generation.size.saturating_sub(position.offset))
            .max()
        {
            Some(lost @ 1..) => {
                tracing::warn!(
                    "{:?} was cut without a copy; {lost} bytes were not delivered",
                    generation.name
                );
            }
            _ => tracing::info!("{:?} was cut; reading it from its beginning", generation.name),
        }
        self.ledger.close(&generation.account);
    }

    /// Takes a file in, unless it is followed already or not ours.
    fn admit(&mut self, found: &Found) {
        let is_followed = self.generations.values().any(|generation| generation.identity == found.identity);
        let is_foreign = || self.foreign.get(&found.identity) == Some(&found.modified);
        if is_followed || (!found.listed && is_foreign()) {
            return;
        }
        match self.try_admit(found) {
            Ok(()) => {
                self.unreadable.remove(&found.path);
            }
            // Renamed or removed since it was listed; the next scan sees what it is now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                if self.unreadable.insert(found.path.clone()) {
                    tracing::warn!(
                        "cannot read {:?}: {error}; trying again until it can be read",
                        found.path
                    );
                }
            }
        }
    }

    fn try_admit(&mut self, found: &Found) -> io::Result<()> {
        let file = File::open(&found.path)?;
        let meta = file.metadata()?;
        if Identity::from(&meta) != found.identity {
            // The name changed hands since the listing; the next scan sees what it is now.
            return Ok(());
        }
        if let Some(index) = self.known_as(found, &file)? {
            let saved = self.known.swap_remove(index);
            return self.resume(found, file, &saved);
        }
        for generation in self.generations.values() {
            if is_copy_of(generation, &found.path, &file)? {
                // Either the original is cut soon, and then the generation goes on in the copy, or it is not.
                return Ok(());
            }
        }
        let is_new =
            |since: SystemTime| found.modified.is_none_or(|modified| modified + CLOCK_SLACK >= since);
        if !found.listed && !self.last_look.is_some_and(is_new) {
            self.foreign.insert(found.identity, found.modified);
            return Ok(());
        }
        let skips = self.sources[found.source].start == Start::End && self.last_look.is_none();
        let offset = if skips { meta.len() } else { 0 };
        let position = Position { offset, tail: Fingerprint::tail(&file, offset)? };
        let positions = vec![position; self.ledger.destinations().len()];
        let generation = self.insert(found, self.live_name(found), file, positions)?;
        for destination in 0..generation.positions.len() {
            generation.account.filter(destination, offset);
        }
        Ok(())
    }

    /// The known generation that a file holds: as itself, or as the copy of an original that was cut while
    /// nobody looked.
    fn known_as(&self, found: &Found, file: &File) -> io::Result<Option<usize>> {
        for (index, saved) in self.known.iter().enumerate() {
            if is_saved(saved, self.same_boot, found.identity, file)? {
                return Ok(Some(index));
            }
        }
        for (index, saved) in self.known.iter().enumerate() {
            if is_neighbour(&found.path, &saved.name)
                && holds(saved.head, saved.positions.values(), file)?
                && !self.is_there(saved)
            {
                tracing::info!("{:?} was cut after a copy to {:?}; going on there", saved.name, found.path);
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Whether a known generation still stands under its last name. An empty one cannot be told from a copy.
    fn is_there(&self, saved: &Saved) -> bool {
        let look = || {
            let file = File::open(&saved.path)?;
            is_saved(saved, self.same_boot, Identity::from(&file.metadata()?), &file)
        };
        saved.head.is_empty() || look().unwrap_or(false)
    }

    /// A rotated file that was missed under its own name is called by that name.
    fn live_name(&self, found: &Found) -> PathBuf {
        let is_live = |name: &&Path| !found.listed && is_neighbour(&found.path, name);
        let names = self.generations.values().map(|generation| generation.name.as_path());
        names.into_iter().find(is_live).unwrap_or(&found.path).to_owned()
    }

    fn resume(&mut self, found: &Found, file: File, saved: &Saved) -> io::Result<()> {
        let destinations = self.ledger.destinations();
        let positions: Vec<Position> =
            destinations.iter().map(|name| saved.positions.get(name).copied().unwrap_or_default()).collect();
        let generation = self.insert(found, saved.name.clone(), file, positions)?;
        for (destination, position) in generation.positions.iter().enumerate() {
            generation.account.acknowledge(destination, position.offset);
        }
        Ok(())
    }

    fn insert(
        &mut self,
        found: &Found,
        name: PathBuf,
        file: File,
        positions: Vec<Position>,
    ) -> io::Result<&Generation> {
        let meta = file.metadata()?;
        let head = Fingerprint::head(&file)?;
        let Identity { device, inode } = found.identity;
        let account = self.ledger.open(name.display().to_string(), format!("{device:x}:{inode}"));
        account.set_read(meta.len());
        let from = positions.iter().map(|position| position.offset).min().unwrap_or(0);
        tracing::info!("following {:?} from byte {from}", found.path);
        let id = self.next_id;
        self.next_id += 1;
        let generation = Generation {
            id,
            source: found.source,
            name,
            path: found.path.clone(),
            identity: found.identity,
            head,
            file: Rc::new(file),
            size: meta.len(),
            modified: meta.modified().ok(),
            listed: found.listed,
            grown: Instant::now(),
            positions,
            account,
        };
        Ok(self.generations.entry(id).or_insert(generation))
    }

    /// After the first scan of a restart: what the checkpoint speaks of and is not there any more.
    fn report_missing(&mut self) {
        for saved in std::mem::take(&mut self.known) {
            let reached = saved.positions.values().map(|position| position.offset).min().unwrap_or(0);
            if reached < saved.size {
                let lost = saved.size - reached;
                tracing::warn!(
                    "{:?} is gone since the last run; {lost} of its bytes were not delivered",
                    saved.path
                );
            }
        }
    }

    /// Lets go of files that have no name of ours, get no more bytes, and are delivered to the end.
    fn release(&mut self) {
        let is_done = |id: &u64| self.is_settled(*id) && self.get(*id).is_some_and(|file| !file.is_pending());
        for id in self.ids().into_iter().filter(is_done).collect::<Vec<_>>() {
            let Some(generation) = self.generations.remove(&id) else { continue };
            tracing::debug!("{:?} is read to its end; letting it go", generation.path);
            self.known.push(generation.save(self.ledger.destinations()));
            self.foreign.insert(generation.identity, generation.modified);
            self.ledger.close(&generation.account);
        }
    }
}
