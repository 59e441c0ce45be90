//! One file with one content: what it is called may change, what it is does not.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io;
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::checkpoint::{Position, Saved};
use crate::files::Fingerprint;
use crate::files::space::BLOCK;
use crate::ledger::Account;

/// Where a file is stored: the same under every name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl From<&Metadata> for Identity {
    fn from(meta: &Metadata) -> Self {
        Self { device: meta.dev(), inode: meta.ino() }
    }
}

/// A file whose content only grows, followed from its first byte to its last.
#[derive(Debug)]
pub(crate) struct Generation {
    /// Counts up in the order of discovery.
    pub(crate) id: u64,
    /// Tells it from every other generation of this pod and of all others, over restarts too.
    pub(crate) key: u64,
    /// The source of the config that it belongs to.
    pub(crate) source: usize,
    /// The name it was first seen under: what a person calls the file.
    pub(crate) name: PathBuf,
    /// The name it was last seen under.
    pub(crate) path: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) head: Fingerprint,
    pub(crate) file: Rc<File>,
    /// Its size at the last look.
    pub(crate) size: u64,
    /// As it was when its content was last compared.
    pub(crate) compared: Stamp,
    /// As it was when it was last glanced at; `None` where it was only measured since.
    pub(crate) seen: Option<Stamp>,
    /// The file system's unit.
    pub(crate) block: u64,
    /// Its names in the file system, and what it holds on disk, at the last look.
    pub(crate) links: u64,
    pub(crate) on_disk: u64,
    /// Whether the last scan found it under a name that the patterns cover.
    pub(crate) listed: bool,
    /// Whether that name, or the neighbour's that it has now, is one that a rotation gave it.
    pub(crate) rotated: bool,
    /// What was read or acknowledged is not what the file holds: the next look must compare the content.
    pub(crate) suspect: Cell<bool>,
    /// The file that was seen to be its copy while both were there.
    pub(crate) copy: Option<Identity>,
    /// It goes on in a copy that was made before its file was cut: there will be no more bytes.
    pub(crate) is_copy: bool,
    /// When it last grew, or was found.
    pub(crate) grown: Instant,
    /// One for each destination.
    pub(crate) positions: Vec<Position>,
    /// Those of destinations that the config does not name now, should they come back. They hold back nothing.
    pub(crate) absent: BTreeMap<String, Position>,
    /// Whether a position moved since the last save.
    pub(crate) moved: bool,
    /// Up to here the saved positions of all destinations go: what lies before is read by nobody again.
    pub(crate) durable: u64,
    /// Up to here its beginning is freed.
    pub(crate) punched: u64,
    pub(crate) account: Arc<Account>,
}

/// A file's size, and when its content or anything else of it changed, in seconds and nanoseconds. Unlike the
/// modification time nobody can set that back (inode(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(u64, i64, i64);

impl From<&Metadata> for Stamp {
    fn from(meta: &Metadata) -> Self {
        Self(meta.len(), meta.ctime(), meta.ctime_nsec())
    }
}

/// What a look at an open file told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing new.
    Same,
    /// It has more bytes, or its fingerprint more to go by.
    Grown,
    /// Its content is not the one that was followed.
    Replaced,
}

impl Generation {
    /// The position furthest into the file.
    fn furthest(&self) -> Position {
        let positions = self.positions.iter().chain(self.absent.values());
        positions.copied().max_by_key(|position| position.offset).unwrap_or_default()
    }

    /// The most bytes that a destination still waits for.
    pub(crate) fn undelivered(&self) -> u64 {
        let wanting = self.positions.iter().map(|position| self.size.saturating_sub(position.offset));
        wanting.max().unwrap_or(0)
    }

    /// Whether a destination still waits for bytes.
    pub(crate) fn is_pending(&self) -> bool {
        self.positions.iter().any(|position| position.offset < self.size)
    }

    /// Whether every byte is acknowledged everywhere, and the positions that say so are on disk.
    pub(crate) fn is_done(&self) -> bool {
        self.durable >= self.size
    }

    /// Whether no name leads to it any more.
    pub(crate) fn is_deleted(&self) -> bool {
        self.links == 0
    }

    /// Asks only for the size of the open file, by a seek: half the price of a glance, but it does not see a rewrite
    /// of the same length. Whatever else than growth there is, is [glanced](Self::glance) at.
    pub(crate) fn measure(&mut self) -> io::Result<Look> {
        let size = (&*self.file).seek(SeekFrom::End(0))?;
        if self.suspect.get() || size < self.size || !self.head.is_whole() {
            return self.glance();
        }
        if size == self.size {
            return Ok(Look::Same);
        }
        self.seen = None;
        self.grow(size);
        Ok(Look::Grown)
    }

    /// Asks for the size and the time of the last change. Growth is believed, once the fingerprint has its whole
    /// length: the reader compares before it reads, and each scan does. Anything else is [compared](Self::look).
    pub(crate) fn glance(&mut self) -> io::Result<Look> {
        let meta = self.file.metadata()?;
        let is_suspect = self.suspect.get();
        if self.seen == Some(Stamp::from(&meta)) && !is_suspect {
            return Ok(Look::Same);
        }
        // Where the size was asked for in between, the time of that change is learnt only now.
        let has_grown = meta.len() > self.size || (meta.len() == self.size && self.seen.is_none());
        if !has_grown || !self.head.is_whole() || is_suspect {
            return self.look_with(&meta);
        }
        self.note(&meta);
        Ok(Look::Grown)
    }

    /// Looks at the open file: its size, and whether its content is still the one that was followed.
    pub(crate) fn look(&mut self) -> io::Result<Look> {
        let meta = self.file.metadata()?;
        self.look_with(&meta)
    }

    fn look_with(&mut self, meta: &Metadata) -> io::Result<Look> {
        let is_suspect = self.suspect.take();
        if Stamp::from(meta) == self.compared && !is_suspect {
            return Ok(Look::Same);
        }
        let furthest = self.furthest();
        let head = self.head.grown(&self.file)?;
        let (Some(head), true) = (head, meta.len() >= furthest.offset) else { return Ok(Look::Replaced) };
        if !furthest.tail.is_tail(&self.file, furthest.offset)? {
            return Ok(Look::Replaced);
        }
        let has_grown = meta.len() != self.size || head != self.head;
        self.head = head;
        self.compared = Stamp::from(meta);
        self.note(meta);
        Ok(if has_grown { Look::Grown } else { Look::Same })
    }

    fn note(&mut self, meta: &Metadata) {
        self.grow(meta.len());
        self.seen = Some(Stamp::from(meta));
        self.links = meta.nlink();
        self.on_disk = meta.blocks() * BLOCK;
    }

    fn grow(&mut self, size: u64) {
        if size > self.size {
            self.grown = Instant::now();
        }
        self.size = size;
        self.account.set_read(size);
    }

    /// Whether bytes that were just read belong to this generation still: a truncation may have come in between.
    pub(crate) fn still_holds(&self, position: u64) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() >= position && self.head.grown(&self.file)?.is_some())
    }

    /// The end of the last whole line: what a flush waits for.
    pub(crate) fn last_line_end(&self) -> io::Result<u64> {
        const STEP: u64 = 16 << 10;
        let stop = self.positions.iter().map(|position| position.offset).min().unwrap_or(0);
        let mut end = self.size;
        let mut bytes = vec![0; usize::try_from(STEP).unwrap_or_default()];
        while end > stop {
            let start = end.saturating_sub(STEP).max(stop);
            let step = &mut bytes[..usize::try_from(end - start).unwrap_or_default()];
            match self.file.read_exact_at(step, start) {
                Ok(()) => {}
                // Cut since the last look: nothing to wait for here.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(stop),
                Err(error) => return Err(error),
            }
            if let Some(newline) = memchr::memrchr(b'\n', step) {
                return Ok(start + newline as u64 + 1);
            }
            end = start;
        }
        Ok(stop)
    }

    /// What the checkpoint keeps of it.
    pub(crate) fn save(&self, destinations: &[String]) -> Saved {
        let mut positions = self.absent.clone();
        positions.extend(destinations.iter().cloned().zip(self.positions.iter().copied()));
        Saved {
            name: self.name.clone(),
            path: self.path.clone(),
            device: self.identity.device,
            inode: self.identity.inode,
            key: self.key,
            size: self.size,
            head: self.head,
            positions,
        }
    }
}
