//! How a file that a scan found comes to be followed: from its beginning, from where it was left, or not at all.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use super::Catalog;
use crate::checkpoint::{Position, Saved};
use crate::config::Start;
use crate::files::Fingerprint;
use crate::files::admission::{holds, is_copy_of, is_saved, open};
use crate::files::generation::{Generation, Identity, changed};
use crate::files::listing::{Found, is_neighbour};

/// File times have the coarse clock of the kernel (a tick, 10 ms at most); a file this much "older" may be newer.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

impl Catalog {
    /// Takes a file in, unless it is followed already or not ours.
    pub(super) fn admit(&mut self, found: &Found) {
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
                        "cannot read {:?}: {}; trying again until it can be read",
                        found.path,
                        podkit_cli::chain(&error)
                    );
                }
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
            return self.resume(found, file, &saved);
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
            changed: changed(&meta),
            listed: found.listed,
            suspect: Cell::new(false),
            copy: None,
            is_copy: false,
            grown: Instant::now(),
            positions,
            account,
        };
        Ok(self.generations.entry(id).or_insert(generation))
    }
}
