//! One file with one content: what it is called may change, what it is does not.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::checkpoint::{Position, Saved};
use crate::files::Fingerprint;
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
    /// When its content or anything else of it changed, at the last look. Unlike the modification time nobody can
    /// set it back (inode(7)).
    pub(crate) changed: (i64, i64),
    /// Whether the last scan found it under a name that the patterns cover.
    pub(crate) listed: bool,
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
    pub(crate) account: Arc<Account>,
}

/// The time of the last change, in seconds and nanoseconds.
pub(crate) fn changed(meta: &Metadata) -> (i64, i64) {
    (meta.ctime(), meta.ctime_nsec())
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
    pub(crate) fn furthest(&self) -> Position {
        self.positions.iter().copied().max_by_key(|position| position.offset).unwrap_or_default()
    }

    /// Whether a destination still waits for bytes.
    pub(crate) fn is_pending(&self) -> bool {
        self.positions.iter().any(|position| position.offset < self.size)
    }

    /// Looks at the open file: its size, and whether its content is still the one that was followed.
    pub(crate) fn look(&mut self) -> io::Result<Look> {
        let meta = self.file.metadata()?;
        let (size, changed) = (meta.len(), changed(&meta));
        if size == self.size && changed == self.changed && !self.suspect.take() {
            return Ok(Look::Same);
        }
        let furthest = self.furthest();
        let head = self.head.grown(&self.file)?;
        let (Some(head), true) = (head, size >= furthest.offset) else { return Ok(Look::Replaced) };
        if !furthest.tail.is_tail(&self.file, furthest.offset)? {
            return Ok(Look::Replaced);
        }
        let has_grown = size != self.size || head != self.head;
        if size > self.size {
            self.grown = Instant::now();
        }
        self.head = head;
        self.size = size;
        self.changed = changed;
        self.account.set_read(size);
        Ok(if has_grown { Look::Grown } else { Look::Same })
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
        let positions: BTreeMap<_, _> =
            destinations.iter().cloned().zip(self.positions.iter().copied()).collect();
        Saved {
            name: self.name.clone(),
            path: self.path.clone(),
            device: self.identity.device,
            inode: self.identity.inode,
            size: self.size,
            head: self.head,
            positions,
        }
    }
}
