//! How a file that a scan found comes to be followed: from its beginning, from where it was left, or not at all.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::Catalog;
use crate::checkpoint::{Position, Saved};
use crate::config::{Reclaim, Start};
use crate::files::Fingerprint;
use crate::files::admission::{holds, is_copy_of, is_saved, open};
use crate::files::generation::{Generation, Identity, Stamp};
use crate::files::listing::{Found, is_neighbour};
use crate::files::space::{BLOCK, HEAD_BLOCK, punched};

/// File times have the coarse clock of the kernel (a tick, 10 ms at most); a file this much "older" may be newer.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

impl Catalog {
    /// Takes a file in that is not followed yet, unless it is not ours.
    pub(super) fn admit(&mut self, found: &Found) {
        let is_foreign = || self.foreign.get(&found.identity) == Some(&found.modified);
        if !found.listed && is_foreign() {
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
                        "cannot read {:?}: {}; trying again until it can be read",
                        found.path,
                        podkit_cli::chain(&error)
                    );
                }
            }
        }
    }

    /// Goes on with what the catalog before this one had open and no name led to: what is deleted, or renamed to where
    /// nobody looks, is not delivered yet.
    pub(super) fn admit_held(&mut self) {
        for held in std::mem::take(&mut self.held) {
            if let Some(followed) = self.generations.values_mut().find(|file| file.key == held.key) {
                followed.is_copy = held.is_copy;
                continue;
            }
            let Some(index) = self.known.iter().position(|saved| saved.key == held.key) else { continue };
            let saved = &self.known[index];
            // What the new config does not cover, and what was cut just now, is not gone on with.
            let source = self.sources.iter().position(|source| source.covers(&saved.name));
            let is_whole = holds(saved.head, saved.positions.values(), &held.file).unwrap_or(false);
            let (Some(source), true, Ok(meta)) = (source, is_whole, held.file.metadata()) else { continue };
            let saved = self.known.swap_remove(index);
            let found = Found {
                source,
                path: saved.path.clone(),
                identity: Identity::from(&meta),
                modified: meta.modified().ok(),
                listed: false,
            };
            if let Err(error) = self.resume(&found, held.file, &saved, held.is_copy) {
                tracing::warn!("cannot go on with {:?}: {}", saved.path, podkit_cli::chain(&error));
            }
        }
    }

    fn try_admit(&mut self, found: &Found) -> io::Result<()> {
        if self.generations.len() >= self.max_files {
            let limit = format!(
                "{} files are followed, and the limit on open files has no room for more",
                self.max_files
            );
            return Err(io::Error::other(limit));
        }
        let file = open(&found.path)?;
        let meta = file.metadata()?;
        if Identity::from(&meta) != found.identity {
            // The name changed hands since the listing; the next scan sees what it is now.
            return Ok(());
        }
        if let Some(index) = self.known_as(found, &file)? {
            let saved = self.known.swap_remove(index);
            return self.resume(found, Rc::new(file), &saved, false);
        }
        for generation in self.generations.values_mut() {
            // If it was cut since this scan looked at it, the next scan finds the copy for it.
            let is_cut =
                is_neighbour(&found.path, &generation.name) && !generation.still_holds(generation.size)?;
            if is_cut {
                return Ok(());
            }
            if is_copy_of(generation, &found.path, &file)? {
                // Either the original is cut soon, and then the generation goes on in the copy, or it is not.
                generation.copy = Some(found.identity);
                return Ok(());
            }
        }
        // A time so far in the future that the sum overflows is new, too.
        let latest = found.modified.and_then(|modified| modified.checked_add(CLOCK_SLACK));
        let is_new = |since: SystemTime| latest.is_none_or(|latest| latest >= since);
        if !found.listed && !self.last_look.is_some_and(is_new) {
            self.foreign.insert(found.identity, found.modified);
            return Ok(());
        }
        let skips = self.sources[found.source].start == Start::End && self.last_look.is_none();
        let offset = if skips { meta.len() } else { 0 };
        let position = Position { offset, tail: Fingerprint::tail(&file, offset)? };
        let positions = vec![position; self.ledger.destinations().len()];
        let key = self.keys.next(found.identity);
        let generation = self.insert(found, self.live_name(found), Rc::new(file), positions, key)?;
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
            let file = open(&saved.path)?;
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

    fn resume(&mut self, found: &Found, file: Rc<File>, saved: &Saved, is_copy: bool) -> io::Result<()> {
        let destinations = self.ledger.destinations();
        let positions: Vec<Position> =
            destinations.iter().map(|name| saved.positions.get(name).copied().unwrap_or_default()).collect();
        let durable = positions.iter().map(|position| position.offset).min().unwrap_or(0);
        let key = if saved.key == 0 { self.keys.next(found.identity) } else { saved.key };
        let mut absent = saved.positions.clone();
        absent.retain(|name, _| !destinations.contains(name));
        let ledger = Arc::clone(&self.ledger);
        let generation = self.insert(found, saved.name.clone(), file, positions, key)?;
        (generation.durable, generation.is_copy, generation.absent) = (durable, is_copy, absent);
        for (destination, position) in generation.positions.iter_mut().enumerate() {
            generation.account.acknowledge(destination, position.offset);
            let lost = generation.punched.saturating_sub(position.offset.max(HEAD_BLOCK));
            let name = &ledger.destinations()[destination];
            if lost == 0 || !saved.positions.contains_key(name) {
                continue;
            }
            tracing::warn!(
                "{lost} bytes of {:?} were freed while {name} was not in the config, and do not go to it",
                found.path
            );
            ledger.disk.lost.add(lost);
            // In the hole there is nothing to compare with; below it the reader goes past it by itself.
            if position.offset > HEAD_BLOCK {
                generation.account.filter(destination, lost);
                let tail = Fingerprint::tail(&generation.file, generation.punched)?;
                *position = Position { offset: generation.punched, tail };
            }
        }
        Ok(())
    }

    fn insert(
        &mut self,
        found: &Found,
        name: PathBuf,
        file: Rc<File>,
        positions: Vec<Position>,
        key: u64,
    ) -> io::Result<&mut Generation> {
        let meta = file.metadata()?;
        let head = Fingerprint::head(&file)?;
        let Identity { device, inode } = found.identity;
        let account = self.ledger.open(name.display().to_string(), format!("{device:x}:{inode}"));
        account.set_read(meta.len());
        let from = positions.iter().map(|position| position.offset).min().unwrap_or(0);
        tracing::info!("following {:?} from byte {from}", found.path);
        let id = self.next_id;
        self.next_id += 1;
        self.unsaved = true;
        let punches = matches!(self.sources[found.source].reclaim, Reclaim::Punch { .. });
        let punched = if punches { punched(&file, meta.len()) } else { 0 };
        let generation = Generation {
            id,
            key,
            source: found.source,
            name,
            path: found.path.clone(),
            identity: found.identity,
            head,
            file,
            size: meta.len(),
            compared: Stamp::from(&meta),
            seen: Some(Stamp::from(&meta)),
            block: meta.blksize(),
            links: meta.nlink(),
            on_disk: meta.blocks() * BLOCK,
            listed: found.listed,
            rotated: false,
            suspect: Cell::new(false),
            copy: None,
            is_copy: false,
            grown: Instant::now(),
            positions,
            absent: BTreeMap::new(),
            moved: true,
            durable: 0,
            punched,
            account,
        };
        Ok(self.generations.entry(id).or_insert(generation))
    }
}
