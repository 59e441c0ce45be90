//! Gives disk space back: frees ranges of a file, removes a name, and finds the way through holes.
//!
//! Each call checks that the path is still that very file before it changes anything. When and what to give back is
//! the catalog's decision.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FallocateFlags, fallocate};
use nix::sys::stat::fstatat;
use nix::unistd::{UnlinkatFlags, Whence, lseek, unlinkat};

use crate::files::generation::Identity;

/// The beginning that is never freed: the fingerprint lies there. A block of most file systems.
pub(super) const HEAD_BLOCK: u64 = 4 << 10;
/// Bytes before a position that a fingerprint covers.
const TAIL: u64 = 256;
/// What is freed at once is at least this and at most [`MAX_STEP`]: a call costs the journal of the file system a
/// record, however little it frees.
const MIN_STEP: u64 = 64 << 10;
const MAX_STEP: u64 = 1 << 20;

/// The range to free of a file that is acknowledged up to `durable`, of which `keep` bytes stay, and whose bytes up
/// to `punched` are free already. `None` while it is too little to be worth a call.
pub(crate) fn punchable(durable: u64, keep: u64, punched: u64, block: u64) -> Option<Range<u64>> {
    // Some file systems tell their preferred transfer size, which may be huge and no power of two.
    let block = block.clamp(HEAD_BLOCK, MAX_STEP);
    let start = punched.max(HEAD_BLOCK).next_multiple_of(block);
    let end = durable.saturating_sub(keep.max(TAIL)) / block * block;
    (end.saturating_sub(start) >= keep.clamp(MIN_STEP, MAX_STEP)).then_some(start..end)
}

/// Where the freed beginning of a file ends; 0 where nothing is freed.
pub(crate) fn punched(file: &File, size: u64) -> u64 {
    match skip_hole(file, HEAD_BLOCK, size) {
        HEAD_BLOCK => 0,
        data => data,
    }
}

/// The place of the first byte at or after `offset` that is not in a hole; `size` where there is none. A file system
/// that knows no holes has all its bytes as data.
///
/// Moves the file's own position, which nobody uses.
pub(crate) fn skip_hole(file: &File, offset: u64, size: u64) -> u64 {
    let Ok(from) = i64::try_from(offset) else { return offset };
    match lseek(file.as_fd(), from, Whence::SeekData) {
        Ok(data) => u64::try_from(data).unwrap_or(offset).clamp(offset, size.max(offset)),
        // Nothing but a hole up to the end.
        Err(Errno::ENXIO) => size.max(offset),
        Err(_) => offset,
    }
}

/// Frees a range of a file, whose size stays. Returns the bytes of disk that this gave back.
pub(crate) fn punch(path: &Path, identity: Identity, range: Range<u64>) -> io::Result<u64> {
    let file = OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let before = file.metadata()?;
    if Identity::from(&before) != identity {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let offset = |at: u64| i64::try_from(at).map_err(io::Error::other);
    fallocate(file.as_fd(), mode, offset(range.start)?, offset(range.end - range.start)?)?;
    Ok(before.blocks().saturating_sub(file.metadata()?.blocks()) * BLOCK)
}

/// The unit of `st_blocks` (stat(2)), whatever the file system's own blocks are.
pub(crate) const BLOCK: u64 = 512;

/// What became of a wish to remove a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    Removed,
    /// The name is gone, or is another file's now.
    NotThere,
    /// The file has other names: removing this one would free nothing, and who made the other wants the content.
    HasOtherNames,
    /// A link on the way leads out of the directories that the patterns name.
    Outside,
}

/// Removes a file's name, if it is still that very file, a plain one and not a link, below one of `bases`.
pub(crate) fn remove(path: &Path, identity: Identity, bases: &[PathBuf]) -> io::Result<Removal> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Removal::NotThere) };
    let real = parent.canonicalize()?;
    if !bases.iter().any(|base| base.canonicalize().is_ok_and(|base| real.starts_with(base))) {
        return Ok(Removal::Outside);
    }
    let dir = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW)
        .open(&real)?;
    let stat = match fstatat(dir.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::ENOENT) => return Ok(Removal::NotThere),
        Err(error) => return Err(error.into()),
    };
    // Another file may take the name between this look and the removal, within microseconds; one that is followed
    // is read to its end all the same, since it is open.
    if (Identity { device: stat.st_dev, inode: stat.st_ino }) != identity {
        return Ok(Removal::NotThere);
    }
    if stat.st_nlink > 1 {
        return Ok(Removal::HasOtherNames);
    }
    unlinkat(dir.as_fd(), name, UnlinkatFlags::NoRemoveDir)?;
    Ok(Removal::Removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::FileExt as _;

    const MIB: u64 = 1 << 20;

    fn identity(path: &Path) -> Identity {
        Identity::from(&std::fs::metadata(path).unwrap())
    }

    #[test]
    fn what_is_freed_leaves_the_head_the_tail_and_what_is_kept() {
        assert_eq!(punchable(3 * MIB, MIB, 0, 4096), Some(4096..2 * MIB));
        assert_eq!(punchable(3 * MIB, MIB, 2 * MIB, 4096), None, "free already");
        assert_eq!(punchable(2 * MIB, MIB, 0, 4096), None, "too little");
        assert_eq!(punchable(128 << 10, 0, 0, 4096), Some(4096..(124 << 10)), "the tail's block stays");
        assert_eq!(punchable(0, 0, 0, 4096), None);
    }

    proptest! {
        #[test]
        fn no_fingerprint_is_ever_freed(
            durable in 0..(1_u64 << 40), keep in 0..(1_u64 << 34), punched in 0..(1_u64 << 40), block in 0..(1_u64 << 24),
        ) {
            if let Some(range) = punchable(durable, keep, punched, block) {
                prop_assert!(range.start >= 4096 && range.start >= punched && range.start < range.end);
                prop_assert!(range.end + keep.max(256) <= durable);
            }
        }
    }

    #[test]
    fn a_freed_range_is_a_hole_that_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        std::fs::write(&path, vec![b'x'; 3 * MIB as usize]).unwrap();
        let file = File::open(&path).unwrap();
        file.sync_all().unwrap();
        assert_eq!((skip_hole(&file, 5, 3 * MIB), super::punched(&file, 3 * MIB)), (5, 0));
        match punch(&path, identity(&path), 4096..2 * MIB) {
            Ok(freed) => assert!(freed >= MIB, "{freed}"),
            Err(error) if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => return,
            Err(error) => panic!("{error}"),
        }
        let meta = file.metadata().unwrap();
        assert_eq!(meta.len(), 3 * MIB);
        assert!(meta.blocks() * BLOCK <= MIB + (64 << 10), "{}", meta.blocks());
        assert_eq!(skip_hole(&file, 4096, 3 * MIB), 2 * MIB);
        assert_eq!(super::punched(&file, 3 * MIB), 2 * MIB);
        let mut byte = [0];
        file.read_exact_at(&mut byte, 2 * MIB).unwrap();
        assert_eq!(byte, [b'x']);
    }

    #[test]
    fn a_hole_at_the_end_ends_at_the_size() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(MIB).unwrap();
        let end = skip_hole(&file, 0, MIB);
        assert!(end == MIB || end == 0, "{end}: a file system either knows holes or does not");
    }

    #[test]
    fn only_the_very_file_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (old, path) = (dir.path().join("old"), dir.path().join("a.log"));
        std::fs::write(&old, "x").unwrap();
        std::fs::write(&path, "y").unwrap();
        assert_eq!(punch(&path, identity(&old), 0..4096).unwrap_err().kind(), io::ErrorKind::NotFound);
        let bases = [dir.path().to_owned()];
        assert_eq!(remove(&path, identity(&old), &bases).unwrap(), Removal::NotThere);
        assert_eq!(remove(&dir.path().join("none"), identity(&old), &bases).unwrap(), Removal::NotThere);
        assert_eq!(std::fs::read(&path).unwrap(), b"y");
        assert_eq!(remove(&path, identity(&path), &bases).unwrap(), Removal::Removed);
        assert!(!path.exists());
    }

    #[test]
    fn links_and_further_names_are_left_alone() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bases = [dir.path().to_owned()];
        let target = outside.path().join("a.log.1");
        std::fs::write(&target, "x").unwrap();
        let link = dir.path().join("a.log.1");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(remove(&link, identity(&target), &bases).unwrap(), Removal::NotThere);
        let through = dir.path().join("sub");
        std::os::unix::fs::symlink(outside.path(), &through).unwrap();
        assert_eq!(remove(&through.join("a.log.1"), identity(&target), &bases).unwrap(), Removal::Outside);
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&one, "x").unwrap();
        std::fs::hard_link(&one, &two).unwrap();
        assert_eq!(remove(&one, identity(&one), &bases).unwrap(), Removal::HasOtherNames);
        assert!(target.exists() && one.exists());
    }
}
