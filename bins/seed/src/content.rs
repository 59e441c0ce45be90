//! One file as it is wanted: bytes, mode, owner. Small ones are in memory, large ones in an unnamed file on the target's
//! volume, so that no download or archive takes more memory than its limit.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;

use crate::config::Owner;
use crate::dir::Dir;
use crate::error::Error;
use crate::path::RelPath;
use crate::state::Validators;

/// What is larger goes to the disk.
const IN_MEMORY: usize = 1 << 20;

/// What the kernel is asked to copy in one call.
const COPY_AT_ONCE: usize = 64 << 20;

/// One file as it is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) body: Body,
    /// The nine permission bits.
    pub(crate) mode: u32,
    pub(crate) owner: Option<Owner>,
    /// Whether it is never shown.
    pub(crate) is_secret: bool,
    /// Whether it holds something that is never shown.
    pub(crate) holds_secret: bool,
    /// How the server names this version of a download.
    pub(crate) validators: Option<Validators>,
}

/// All files that are wanted, by path.
pub(crate) type Tree = BTreeMap<RelPath, Content>;

impl Content {
    /// A file with nothing special about it.
    pub(crate) fn new(body: impl Into<Body>, mode: u32) -> Self {
        Self { body: body.into(), mode, owner: None, is_secret: false, holds_secret: false, validators: None }
    }
}

/// The bytes of a file.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Memory(Arc<[u8]>),
    /// An open file and how much of it counts; read by position, so it may be shared.
    Disk(Arc<File>, u64),
    /// A file that is in force, by its place; opened when it is read, for there may be more than descriptors.
    Kept(Arc<Dir>, RelPath, u64),
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Memory(bytes.into())
    }
}

impl Body {
    /// In bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Disk(_, length) | Self::Kept(_, _, length) => *length,
        }
    }

    /// All bytes at once, for what can only be looked at as a whole.
    pub(crate) fn bytes(&self) -> io::Result<Cow<'_, [u8]>> {
        match self {
            Self::Memory(bytes) => Ok(Cow::Borrowed(bytes)),
            Self::Disk(..) | Self::Kept(..) => {
                let mut bytes = Vec::new();
                self.reader().read_to_end(&mut bytes)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }

    /// The bytes from the beginning, piece by piece.
    pub(crate) fn reader(&self) -> Reader<'_> {
        self.reader_at(0)
    }

    /// The same from a position on; behind the end there is nothing.
    pub(crate) fn reader_at(&self, at: u64) -> Reader<'_> {
        Reader { body: self, kept: None, at }
    }

    /// Writes all bytes to a new file, by the kernel alone where it can.
    pub(crate) fn write_to(&self, into: &mut File) -> io::Result<()> {
        let Some(from) = self.file()? else { return into.write_all(&self.bytes()?) };
        let mut at = 0;
        while let left @ 1.. = self.len() - at {
            let most = usize::try_from(left).unwrap_or(COPY_AT_ONCE).min(COPY_AT_ONCE);
            let mut offset = i64::try_from(at).map_err(io::Error::other)?;
            match nix::fcntl::copy_file_range(&*from, Some(&mut offset), &mut *into, None, most) {
                Ok(copied @ 1..) => at += copied as u64,
                Err(Errno::EINTR) => {}
                // Not between these file systems, not by this kernel, or not by this seccomp profile. A real fault
                // of the disk shows again.
                Ok(0) | Err(_) => {
                    return io::copy(&mut Reader { body: self, kept: None, at }, into).map(drop);
                }
            }
        }
        Ok(())
    }

    /// The file that the bytes lie in, if they are not in memory.
    pub(crate) fn file(&self) -> io::Result<Option<Arc<File>>> {
        match self {
            Self::Memory(_) => Ok(None),
            Self::Disk(file, _) => Ok(Some(Arc::clone(file))),
            Self::Kept(dir, path, _) => Ok(Some(Arc::new(dir.file_at(path)?))),
        }
    }
}

/// Reads a body once.
pub(crate) struct Reader<'a> {
    body: &'a Body,
    /// The file of [`Body::Kept`], once it is open.
    kept: Option<File>,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self.body {
            Body::Memory(bytes) => {
                let rest = usize::try_from(self.at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
                let length = rest.len().min(buffer.len());
                buffer[..length].copy_from_slice(&rest[..length]);
                length
            }
            Body::Disk(file, length) => read_within(file, *length, self.at, buffer)?,
            Body::Kept(dir, path, length) => {
                let file = match &self.kept {
                    Some(file) => file,
                    None => self.kept.insert(dir.file_at(path)?),
                };
                read_within(file, *length, self.at, buffer)?
            }
        };
        self.at += read as u64;
        Ok(read)
    }
}

fn read_within(file: &File, length: u64, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let left = usize::try_from(length.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
    file.read_at(&mut buffer[..left], at)
}

/// Where large bodies go until they have a name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spooler {
    /// `None` keeps all in memory.
    dir: Option<Arc<Dir>>,
    /// The directory's path, for messages.
    place: PathBuf,
}

impl Spooler {
    /// Onto the volume of this directory.
    pub(crate) fn onto(dir: Arc<Dir>, place: &Path) -> Self {
        Self { dir: Some(dir), place: place.to_owned() }
    }

    /// What came of it, where `what` cannot be kept there.
    pub(crate) fn cannot_keep(&self, what: impl Into<String>, source: io::Error) -> Error {
        Error::Keep { what: what.into(), place: self.place.clone(), source }
    }

    /// A body that is written piece by piece.
    pub(crate) fn begin(&self) -> Spool {
        Spool { spooler: self.clone(), memory: Vec::new(), file: None, length: 0 }
    }
}

/// A body on its way; what is not finished leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Spool {
    spooler: Spooler,
    memory: Vec<u8>,
    file: Option<File>,
    length: u64,
}

impl Spool {
    /// All that was written.
    pub(crate) fn finish(self) -> Body {
        match self.file {
            Some(file) => Body::Disk(Arc::new(file), self.length),
            None => self.memory.into(),
        }
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match (&mut self.file, &self.spooler.dir) {
            (Some(file), _) => file.write(bytes)?,
            (None, Some(dir)) if self.memory.len() + bytes.len() > IN_MEMORY => {
                let mut file = dir.unnamed_file()?;
                file.write_all(&std::mem::take(&mut self.memory))?;
                self.file.insert(file).write(bytes)?
            }
            (None, _) => {
                self.memory.extend_from_slice(bytes);
                bytes.len()
            }
        };
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek as _, SeekFrom};

    fn written(body: &Body) -> Vec<u8> {
        let mut file = tempfile::tempfile().unwrap();
        body.write_to(&mut file).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_body_is_the_same_wherever_it_lies() {
        let root = tempfile::tempdir().unwrap();
        let dir = Arc::new(Dir::open(root.path()).unwrap());
        let bytes: Vec<u8> = (0..=255).cycle().take(IN_MEMORY + 4321).collect();
        std::fs::create_dir(root.path().join("d")).unwrap();
        std::fs::write(root.path().join("d/kept"), &bytes).unwrap();
        let mut spool = Spooler::onto(Arc::clone(&dir), root.path()).begin();
        bytes.chunks(5000).for_each(|piece| spool.write_all(piece).unwrap());
        let spooled = spool.finish();
        assert!(matches!(spooled, Body::Disk(..)));
        let kept = Body::Kept(dir, RelPath::parse("d/kept").unwrap(), bytes.len() as u64);
        for body in [Body::from(bytes.clone()), spooled, kept] {
            assert_eq!(body.len(), bytes.len() as u64);
            assert!(*body.bytes().unwrap() == bytes && written(&body) == bytes);
        }
    }

    #[test]
    fn only_the_part_that_counts_is_written() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        assert_eq!(written(&Body::Disk(Arc::new(file), 4)), b"0123");
    }
}
