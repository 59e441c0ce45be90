//! Short hashes of a file's content that tell one file from another that took its name or its inode.
//!
//! Reads at given positions only; it never moves a file's own position and never decides what a difference means.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The head grows to this many bytes: enough to get past a banner that each of an app's files starts with.
const HEAD: usize = 1024;

/// The hash of a few bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    length: u16,
    hash: u64,
}

impl Fingerprint {
    /// The bytes before a position that are remembered: a log line or two.
    pub(crate) const TAIL: usize = 256;

    fn of(bytes: &[u8]) -> Self {
        // At most HEAD bytes come here.
        Self { length: u16::try_from(bytes.len()).unwrap_or(u16::MAX), hash: xxh3_64(bytes) }
    }

    /// The first bytes of a file, as many as there are up to 1 KiB.
    pub(crate) fn head(file: &File) -> io::Result<Self> {
        let mut bytes = [0; HEAD];
        let length = read_at_most(file, &mut bytes, 0)?;
        Ok(Self::of(&bytes[..length]))
    }

    /// Compares with a file's first bytes: the grown fingerprint where they start with ours, `None` where they
    /// do not.
    pub(crate) fn grown(self, file: &File) -> io::Result<Option<Self>> {
        let mut bytes = [0; HEAD];
        let length = read_at_most(file, &mut bytes, 0)?;
        let own = usize::from(self.length);
        Ok((length >= own && Self::of(&bytes[..own]).is(self)).then(|| Self::of(&bytes[..length])))
    }

    /// The last bytes before `position`.
    pub(crate) fn tail(file: &File, position: u64) -> io::Result<Self> {
        let mut bytes = [0; Self::TAIL];
        let start = position.saturating_sub(Self::TAIL as u64);
        let wanted = usize::try_from(position - start).unwrap_or_default();
        let length = read_at_most(file, &mut bytes[..wanted], start)?;
        Ok(Self::of(&bytes[..length]))
    }

    /// The tail at the end of these bytes, which are all that a file has there, or as many as count.
    pub(crate) fn tail_of(bytes: &[u8]) -> Self {
        Self::of(&bytes[bytes.len().saturating_sub(Self::TAIL)..])
    }

    /// Whether these bytes end so.
    pub(crate) fn is_tail_of(self, bytes: &[u8]) -> bool {
        Self::tail_of(bytes).is(self)
    }

    /// Whether a file has these bytes before `position`.
    pub(crate) fn is_tail(self, file: &File, position: u64) -> io::Result<bool> {
        Ok(Self::tail(file, position)?.is(self))
    }

    /// Equal, where nothing equals nothing whatever its hash is.
    fn is(self, other: Self) -> bool {
        self.length == other.length && (self.length == 0 || self.hash == other.hash)
    }

    /// Whether it has its whole length, so that it grows no more.
    pub(crate) fn is_whole(self) -> bool {
        usize::from(self.length) == HEAD
    }

    /// Whether there is nothing to compare yet.
    pub(crate) fn is_empty(self) -> bool {
        self.length == 0
    }
}

fn read_at_most(file: &File, bytes: &mut [u8], position: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], position + length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn a_head_grows_with_its_file_and_with_no_other() {
        let small = Fingerprint::head(&file(b"first\n")).unwrap();
        let grown = small.grown(&file(b"first\nsecond\n")).unwrap().unwrap();
        assert_ne!(small, grown);
        assert_eq!(small.grown(&file(b"First\nsecond\n")).unwrap(), None);
        assert_eq!(grown.grown(&file(b"first\n")).unwrap(), None, "a shorter file is another file");
        assert!(Fingerprint::default().grown(&file(b"x")).unwrap().is_some(), "an empty head fits any file");
    }

    #[test]
    fn a_tail_tells_files_with_equal_heads_apart() {
        let banner = vec![b'='; 2 * HEAD];
        let one = [banner.as_slice(), b"one"].concat();
        let two = [banner.as_slice(), b"two"].concat();
        let head = Fingerprint::head(&file(&one)).unwrap();
        assert_eq!(head.grown(&file(&two)).unwrap(), Some(head));
        let tail = Fingerprint::tail(&file(&one), one.len() as u64).unwrap();
        assert!(tail.is_tail(&file(&one), one.len() as u64).unwrap());
        assert!(!tail.is_tail(&file(&two), two.len() as u64).unwrap());
        assert!(!tail.is_tail(&file(&one), one.len() as u64 - 1).unwrap());
        assert!(tail.is_tail_of(&one) && !tail.is_tail_of(&two) && !tail.is_tail_of(&one[1800..]));
        assert_eq!(Fingerprint::tail(&file(b"short"), 5).unwrap(), Fingerprint::tail_of(b"short"));
    }
}
