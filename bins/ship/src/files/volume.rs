//! What kind of file system a file lies on, and what may be expected of it there.
//!
//! Asks the kernel (statfs(2)) and names what it says; it decides nothing.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use nix::libc;
use nix::sys::statfs::{fstatfs, statfs};

/// A kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Other nodes may write to it, and the kernel here is not told when they do.
    pub(crate) is_remote: bool,
}

/// The magic numbers of linux/magic.h, and of those file systems that keep theirs elsewhere.
const KINDS: &[(i64, &str, bool)] = &[
    (0xEF53, "ext4", false),
    (0x5846_5342, "xfs", false),
    (0x9123_683E, "btrfs", false),
    (0x0102_1994, "tmpfs", false),
    (0x794C_7630, "overlayfs", false),
    (0xF2F5_2010, "f2fs", false),
    (0x2FC1_2FC1, "zfs", false),
    (0x6969, "nfs", true),
    (0xFF53_4D42, "cifs", true),
    (0xFE53_4D42, "smb", true),
    (0x517B, "smb", true),
    (0x6573_5546, "fuse", true),
    (0x0102_1997, "9p", true),
    (0x00C3_6400, "ceph", true),
    (0x0BD0_0BD0, "lustre", true),
    (0x4750_4653, "gpfs", true),
    (0x5346_414F, "afs", true),
    (0x7375_7245, "coda", true),
];

impl Kind {
    /// Of the file system that a path is on; of an unknown one where the path is not there.
    pub(crate) fn of_path(path: &Path) -> Self {
        statfs(path).map_or(Self::UNKNOWN, |stat| Self::of(magic(stat.filesystem_type())))
    }

    /// Of the file system that an open file is on.
    pub(crate) fn of_file(file: &File) -> Self {
        fstatfs(file.as_fd()).map_or(Self::UNKNOWN, |stat| Self::of(magic(stat.filesystem_type())))
    }

    const UNKNOWN: Self = Self { name: "unknown", is_remote: false };

    fn of(magic: i64) -> Self {
        let known = KINDS.iter().find(|(number, ..)| *number == magic);
        known.map_or(Self::UNKNOWN, |(_, name, is_remote)| Self { name, is_remote: *is_remote })
    }
}

/// The field has another type on each C library; the magic numbers are 32 bits on all of them, signed on some.
fn magic(of: nix::sys::statfs::FsType) -> i64 {
    (of.0 as libc::c_longlong) & 0xFFFF_FFFF
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_named_and_the_remote_ones_told() {
        assert_eq!(Kind::of(0xEF53), Kind { name: "ext4", is_remote: false });
        assert_eq!(Kind::of(0x6969), Kind { name: "nfs", is_remote: true });
        assert_eq!(Kind::of(0x6573_5546), Kind { name: "fuse", is_remote: true });
        assert_eq!(Kind::of(1), Kind::UNKNOWN);
        assert_eq!(Kind::of_path(Path::new("/proc/none")), Kind::UNKNOWN);
    }

    #[test]
    fn the_kernel_is_asked() {
        if Path::new("/dev/shm").is_dir() {
            assert_eq!(Kind::of_path(Path::new("/dev/shm")).name, "tmpfs");
        }
    }
}
