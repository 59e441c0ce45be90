//! What the catalog gives back to the volume: acknowledged ranges, rotated files, deleted files beyond their budget.
//!
//! Nothing is given back before the positions that say it is acknowledged are on disk: a crash would go back to the
//! old ones, and find other bytes there.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use podkit_cli::{chain, units};

use super::{Catalog, LINGER};
use crate::config::Reclaim;
use crate::files::Include;
use crate::files::generation::{Generation, Identity};
use crate::files::listing::{Found, is_neighbour, is_rotation_among};
use crate::files::space::{Removal, punch, punchable, remove};
use crate::files::volume::Kind;

impl Catalog {
    /// The positions as they are now are on disk.
    pub(crate) fn saved(&mut self) {
        (self.unsaved, self.rescanned) = (false, false);
        for generation in self.generations.values_mut().filter(|generation| generation.moved) {
            generation.moved = false;
            generation.durable =
                generation.positions.iter().map(|position| position.offset).min().unwrap_or(0);
        }
        self.punch();
    }

    /// Whether a save frees disk space that an app needs.
    pub(crate) fn frees_what_is_saved(&self) -> bool {
        self.sources.iter().any(|source| matches!(source.reclaim, Reclaim::Punch { .. }))
    }

    /// Whether a generation is followed whose key is not on disk yet: to be saved before anything of it is sent, so
    /// that a restart sends it under the same key.
    pub(crate) fn needs_save(&self) -> bool {
        self.unsaved
    }

    /// Frees what is acknowledged of live files.
    fn punch(&mut self) {
        for generation in self.generations.values_mut() {
            let Reclaim::Punch { keep } = self.sources[generation.source].reclaim else { continue };
            // A rotated file is the app's to keep or to remove.
            let is_live = generation.listed && !generation.rotated && !generation.is_copy;
            if !is_live || self.kept.contains(&generation.identity) {
                continue;
            }
            let Some(range) = punchable(generation.durable, keep, generation.punched, generation.block)
            else {
                continue;
            };
            let end = range.end;
            match punch(&generation.path, generation.identity, range) {
                Ok(freed) => {
                    generation.punched = end;
                    self.ledger.disk.punched.add(freed);
                }
                // Renamed since the last scan; the next one tells.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    self.kept.insert(generation.identity);
                    // One volume refuses all its files alike; one complaint is enough.
                    if self.complained.insert(generation.identity.device) {
                        tracing::warn!("{}", unpunchable(generation, &error));
                    }
                }
            }
        }
    }

    /// Brings up to date under which names the followed files are, and whether a rotation gave them.
    pub(super) fn note_rotations(&mut self, found: &[Found]) {
        let listed: HashSet<&Path> =
            found.iter().filter(|file| file.listed).map(|file| file.path.as_path()).collect();
        let neighbours: Vec<&Found> = found.iter().filter(|file| !file.listed).collect();
        for generation in self.generations.values_mut() {
            if generation.listed {
                generation.rotated = is_neighbour(&generation.path, &generation.name)
                    || is_rotation_among(&generation.path, &listed);
            } else if let Some(file) = neighbours.iter().find(|file| file.identity == generation.identity) {
                generation.path.clone_from(&file.path);
                generation.rotated = true;
            } else {
                generation.rotated = false;
            }
        }
    }

    /// Whether a file is one that a rotation put aside, and is to be removed once it is done with.
    pub(super) fn is_to_be_removed(&self, generation: &Generation) -> bool {
        generation.rotated
            && !generation.is_deleted()
            && self.sources[generation.source].reclaim == Reclaim::DeleteRotated
            && !self.kept.contains(&generation.identity)
    }

    /// Removes rotated files that are acknowledged to their end and get no more bytes.
    pub(super) fn remove_rotated(&mut self) {
        let is_due = |generation: &&Generation| {
            self.is_to_be_removed(generation) && generation.is_done() && generation.grown.elapsed() >= LINGER
        };
        let due: Vec<u64> =
            self.generations.values().filter(is_due).map(|generation| generation.id).collect();
        for id in due {
            let Some(generation) = self.generations.get_mut(&id) else { continue };
            let includes = &self.sources[generation.source].include;
            let bases: Vec<PathBuf> = includes.iter().map(Include::base).map(Path::to_owned).collect();
            let path = &generation.path;
            match remove(path, generation.identity, &bases) {
                Ok(Removal::Removed) => {
                    let freed = generation.on_disk;
                    tracing::info!("removed {path:?}: all its {} bytes are acknowledged", generation.size);
                    self.ledger.disk.removed_files.add(1);
                    self.ledger.disk.removed_bytes.add(freed);
                    // It stays open for as long as a renamed file does: an app may write to it even now.
                    generation.links = 0;
                    generation.listed = false;
                    generation.grown = Instant::now();
                }
                Ok(Removal::NotThere) => {}
                Ok(Removal::HasOtherNames) => {
                    self.kept.insert(generation.identity);
                    tracing::info!("{path:?} has other names (hard links) and is not removed");
                }
                Ok(Removal::Outside) => {
                    self.kept.insert(generation.identity);
                    tracing::warn!(
                        "{path:?} is outside of what `include` names, behind a link; it is not removed"
                    );
                }
                Err(error) => {
                    self.kept.insert(generation.identity);
                    if self.complained.insert(generation.identity.device) {
                        tracing::warn!(
                            "cannot remove {path:?} on {} ({}); rotated files stay, so have them removed by who \
                             rotates them, or let this user write to the directory",
                            Kind::of_file(&generation.file).name,
                            chain(&error)
                        );
                    }
                }
            }
        }
    }

    /// Keeps what deleted files hold on disk within the budget: those that are done go first, then the oldest.
    pub(super) fn limit_deleted(&mut self) {
        let mut held: Vec<(bool, u64, u64)> = self
            .generations
            .values()
            .filter(|generation| generation.is_deleted())
            .map(|generation| (generation.is_pending(), generation.id, generation.on_disk))
            .collect();
        held.sort_unstable();
        let mut bytes: u64 = held.iter().map(|(.., on_disk)| on_disk).sum();
        let mut files = held.len();
        for (is_pending, id, on_disk) in held {
            if bytes <= self.deleted_budget {
                break;
            }
            let Some(generation) = self.generations.remove(&id) else { continue };
            if is_pending {
                let lost = generation.undelivered();
                tracing::error!(
                    "letting go of {:?}, which is deleted and holds {on_disk} bytes on disk: deleted files may hold {} \
                     together (`deleted`); {lost} bytes of it were not delivered",
                    generation.path,
                    units::show_size(self.deleted_budget)
                );
                self.ledger.disk.lost.add(lost);
            }
            self.ledger.close(&generation.account);
            bytes -= on_disk;
            files -= 1;
        }
        self.ledger.disk.held_bytes.set(bytes);
        self.ledger.disk.held_files.set(files as u64);
    }

    /// Forgets which files could not be reclaimed once they are gone: their inodes may come again.
    pub(super) fn forget_kept(&mut self, there: &HashSet<Identity>) {
        self.kept.retain(|identity| there.contains(identity));
    }
}

fn unpunchable(generation: &Generation, error: &io::Error) -> String {
    let kind = Kind::of_file(&generation.file).name;
    let why = match error.raw_os_error() {
        Some(nix::libc::EOPNOTSUPP | nix::libc::ENOSYS) => {
            "that file system cannot free ranges of a file; put the logs on ext4, xfs, btrfs or tmpfs, or rotate \
             them and use `reclaim: delete-rotated`"
        }
        Some(nix::libc::EACCES | nix::libc::EPERM) => {
            "the shipper may not write to it; let it run as the app's user or group, and take off what keeps the file \
             from being changed (read-only mode, append-only attribute)"
        }
        Some(nix::libc::EROFS) => {
            "the volume is mounted read-only; mount it so that the shipper may write to it"
        }
        _ => "the file keeps its size on disk; rotate it, or use `reclaim: off`",
    };
    format!("cannot free the acknowledged part of {:?} on {kind} ({}): {why}", generation.path, chain(error))
}
