//! Is this file a new one, one we knew before a restart, or a copy of one we follow?
//!
//! Compares content at known places; it changes nothing. In doubt a file is new: reading twice is better than
//! not reading.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::checkpoint::{Position, Saved};
use crate::files::Fingerprint;
use crate::files::generation::{Generation, Identity};
use crate::files::listing::is_neighbour;

/// Whether a file is the one that the checkpoint speaks of.
///
/// The inode must be the same, the device too unless there was a reboot in between (device numbers are given anew),
/// and the content at its beginning and before the furthest position.
pub(crate) fn is_saved(saved: &Saved, same_boot: bool, identity: Identity, file: &File) -> io::Result<bool> {
    let same_place = saved.inode == identity.inode && (saved.device == identity.device || !same_boot);
    Ok(same_place && holds(saved.head, saved.positions.values(), file)?)
}

/// Whether a file holds all that was followed up to some positions: the same head, the same tail before the furthest.
/// What lies before the others may have been freed since: not all of them hold that back.
pub(crate) fn holds<'a>(
    head: Fingerprint,
    positions: impl IntoIterator<Item = &'a Position>,
    file: &File,
) -> io::Result<bool> {
    if head.grown(file)?.is_none() {
        return Ok(false);
    }
    let Some(furthest) = positions.into_iter().max_by_key(|position| position.offset) else {
        return Ok(true);
    };
    Ok(file.metadata()?.len() >= furthest.offset && furthest.tail.is_tail(file, furthest.offset)?)
}

/// Where the positions of a generation are in a file that may be its copy; `None` where it is none. Without a head
/// the file is known to be one.
///
/// An app goes on writing between the copy and the cut, and those lines may have been delivered from the original:
/// a position beyond the copy's end is at its end.
pub(crate) fn positions_in(
    head: Option<Fingerprint>,
    positions: &[Position],
    file: &File,
) -> io::Result<Option<Vec<Position>>> {
    let size = file.metadata()?.len();
    let end = Position { offset: size, tail: Fingerprint::tail(file, size)? };
    let carried: Vec<Position> =
        positions.iter().map(|position| if position.offset > size { end } else { *position }).collect();
    let is_copy = match head {
        Some(head) => holds(head, &carried, file)?,
        None => true,
    };
    Ok(is_copy.then_some(carried))
}

/// Opens a file to read. A pipe that has taken a log's name must not hold us up until somebody writes to it.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)
}

/// Whether a file is, or is becoming, a copy of a generation, as `copytruncate` of logrotate makes them: under a
/// rotated name, with nothing in it that the generation has not.
pub(crate) fn is_copy_of(generation: &Generation, path: &Path, file: &File) -> io::Result<bool> {
    if !is_neighbour(path, &generation.name) {
        return Ok(false);
    }
    let size = file.metadata()?.len();
    if size > generation.file.metadata()?.len() {
        return Ok(false);
    }
    let head = Fingerprint::head(file)?;
    Ok(head.grown(&generation.file)?.is_some()
        && Fingerprint::tail(file, size)?.is_tail(&generation.file, size)?)
}
