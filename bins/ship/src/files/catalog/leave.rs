//! How a generation ends: its content is replaced, it is delivered and nothing leads to it any more, or it was gone when
//! nobody looked.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::rc::Rc;
use std::time::Instant;

use super::{Catalog, MAX_KNOWN};
use crate::checkpoint::Saved;
use crate::files::Fingerprint;
use crate::files::admission::{open, positions_in};
use crate::files::generation::Identity;
use crate::files::listing::{Found, Listing, is_neighbour};

impl Catalog {
    /// Forgets what was known of files that are not there any more. A directory that could not be read now says
    /// nothing about its files.
    pub(super) fn forget_deleted(&mut self, listing: &Listing, first: bool) {
        let there: HashSet<Identity> = listing.found.iter().map(|file| file.identity).collect();
        self.foreign.retain(|identity, _| there.contains(identity));
        self.forget_kept(&there);
        self.known.retain(|saved| {
            let is_there = there.contains(&Identity { device: saved.device, inode: saved.inode });
            // Or it is there, and the config has left it out: should it come back, it is not read again.
            let is_there =
                is_there || std::fs::metadata(&saved.path).is_ok_and(|meta| meta.ino() == saved.inode);
            let was_looked_for = saved.path.parent().is_some_and(|dir| listing.directories.contains(dir));
            if first && !is_there && was_looked_for {
                self.ledger.disk.lost.add(report_missing(saved, self.ledger.destinations()));
            }
            is_there || !was_looked_for
        });
        let excess = self.known.len().saturating_sub(MAX_KNOWN);
        self.known.drain(..excess);
    }

    /// A followed file was cut or rewritten. Where a copy of the old content was made before (`copytruncate`), the
    /// generation goes on in the copy; else it ends here.
    pub(super) fn end(&mut self, id: u64, found: &[Found]) {
        let Some(mut generation) = self.generations.remove(&id) else { return };
        let followed: HashSet<Identity> = self.generations.values().map(|other| other.identity).collect();
        let is_candidate = |file: &&Found| {
            file.identity != generation.identity
                && !followed.contains(&file.identity)
                && is_neighbour(&file.path, &generation.name)
                && !generation.head.is_empty()
        };
        for candidate in found.iter().filter(is_candidate) {
            let Ok(file) = open(&candidate.path) else { continue };
            // A copy that was recognised while the original was whole needs no other proof.
            let head = (generation.copy != Some(candidate.identity)).then_some(generation.head);
            let (names, absent): (Vec<_>, Vec<_>) = generation.absent.clone().into_iter().unzip();
            let positions = [generation.positions.as_slice(), absent.as_slice()].concat();
            if let Ok(Some(mut positions)) = positions_in(head, &positions, &file) {
                tracing::info!(
                    "{:?} was cut after a copy to {:?}; going on there",
                    generation.name,
                    candidate.path
                );
                generation.identity = candidate.identity;
                generation.path.clone_from(&candidate.path);
                generation.listed = candidate.listed;
                generation.head = Fingerprint::head(&file).unwrap_or_default();
                generation.file = Rc::new(file);
                let absent = positions.split_off(generation.positions.len());
                generation.absent = names.into_iter().zip(absent).collect();
                generation.positions = positions;
                generation.is_copy = true;
                (generation.durable, generation.moved) = (0, true);
                // What the copy holds is what there is to read, be it more or less than was seen of the original.
                generation.size = generation.file.metadata().map_or(generation.size, |meta| meta.len());
                generation.account.set_read(generation.size);
                generation.grown = Instant::now();
                self.generations.insert(id, generation);
                return;
            }
        }
        match generation.undelivered() {
            0 => tracing::info!("{:?} was cut; reading it from its beginning", generation.name),
            lost => {
                self.ledger.disk.lost.add(lost);
                tracing::warn!(
                    "{:?} was cut without a copy; {lost} bytes were not delivered",
                    generation.name
                );
            }
        }
        self.ledger.close(&generation.account);
    }

    /// Lets go of files that have no name of ours, get no more bytes, and are delivered to the end.
    pub(super) fn release(&mut self) {
        let is_done = |id: &u64| {
            self.is_settled(*id) && self.get(*id).is_some_and(|file| !file.listed && !file.is_pending())
        };
        for id in self.ids().into_iter().filter(is_done).collect::<Vec<_>>() {
            let Some(generation) = self.generations.remove(&id) else { continue };
            tracing::debug!("{:?} is read to its end; letting it go", generation.path);
            self.known.push(generation.save(self.ledger.destinations()));
            let modified = generation.file.metadata().and_then(|meta| meta.modified()).ok();
            self.foreign.insert(generation.identity, modified);
            self.ledger.close(&generation.account);
        }
    }
}

/// What the checkpoint speaks of and is not there any more at a restart; returns the bytes that are lost with it to the
/// destinations. One that was taken out meanwhile misses nothing, unless nobody but such ones was to get them.
fn report_missing(saved: &Saved, destinations: &[String]) -> u64 {
    let wanted = destinations.iter().filter_map(|name| saved.positions.get(name));
    let reached = wanted.map(|position| position.offset).min();
    let reached = reached.or_else(|| saved.positions.values().map(|position| position.offset).min());
    let lost = saved.size.saturating_sub(reached.unwrap_or(0));
    if lost > 0 {
        tracing::warn!("{:?} is gone since the last run; {lost} of its bytes were not delivered", saved.path);
    }
    lost
}
