//! Wakes the shipper when files change: one inotify instance on directories, or polling where that fails.
//!
//! Tells that something changed, and roughly what; it never looks at files itself.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use notify::event::{EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// Between scans that nothing asked for while the kernel tells of changes: covers what it may have missed.
const SAFETY_SCAN: Duration = Duration::from_secs(10);
/// Between scans where the kernel tells nothing.
const POLL: Duration = Duration::from_millis(500);
/// Writes in quick succession are taken together: short against the 50 ms in which a new line is to be read.
const SETTLE: Duration = Duration::from_millis(10);

/// What a wake-up calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Files that are open have new bytes.
    Written,
    /// Names changed, or nobody knows: look at everything.
    Scan,
}

/// The changes since they were last asked for.
#[derive(Debug, Default)]
struct Changes {
    level: AtomicU8,
    wake: Notify,
}

const WRITTEN: u8 = 1;
const SCAN: u8 = 2;

impl Changes {
    fn note(&self, level: u8) {
        self.level.fetch_max(level, Ordering::AcqRel);
        self.wake.notify_one();
    }
}

/// The watched directories.
pub(crate) struct Watch {
    changes: Arc<Changes>,
    /// `None` where the kernel gives no inotify instance.
    watcher: Option<RecommendedWatcher>,
    /// By path and inode: a directory that is made anew at once has lost its watch.
    watched: BTreeSet<(PathBuf, Option<u64>)>,
    /// A directory could not be watched, so scans must come often.
    polling: bool,
}

impl Watch {
    /// Starts to watch; the directories come with [`follow`](Self::follow).
    pub(crate) fn new() -> Self {
        let changes = Arc::new(Changes::default());
        let noted = Arc::clone(&changes);
        let handler = move |event: notify::Result<notify::Event>| match event {
            // Our own reads come back as accesses.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
            Ok(event) if event.need_rescan() => noted.note(SCAN),
            Ok(event) if matches!(event.kind, EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any)) => {
                noted.note(WRITTEN);
            }
            Ok(event) if matches!(event.kind, EventKind::Modify(ModifyKind::Metadata(_))) => {}
            Ok(_) | Err(_) => noted.note(SCAN),
        };
        let config = notify::Config::default().with_follow_symlinks(false);
        let watcher = RecommendedWatcher::new(handler, config)
            .inspect_err(|error| tracing::warn!("no inotify instance ({error}); polling every {POLL:?}"))
            .ok();
        Self { changes, polling: watcher.is_none(), watcher, watched: BTreeSet::new() }
    }

    /// Watches these directories, and no others.
    pub(crate) fn follow(&mut self, directories: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        let inode = |dir: &PathBuf| std::fs::metadata(dir).ok().map(|meta| meta.ino());
        let directories: BTreeSet<_> = directories.iter().map(|dir| (dir.clone(), inode(dir))).collect();
        for (gone, _) in self.watched.difference(&directories) {
            // The kernel has already dropped the watch of a directory that was removed.
            let _ = watcher.unwatch(gone);
        }
        let mut watched: BTreeSet<_> = self.watched.intersection(&directories).cloned().collect();
        for (new, inode) in directories.difference(&self.watched) {
            match watcher.watch(new, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert((new.clone(), *inode));
                }
                Err(error) if !self.polling => {
                    tracing::warn!("cannot watch {new:?} ({error}); polling every {POLL:?}");
                    self.polling = true;
                }
                Err(_) => {}
            }
        }
        self.watched = watched;
    }

    /// Waits for a change, or for the time of a scan. `scan_soon` asks for scans in short order even while the
    /// kernel tells of changes: for what cannot be watched yet.
    pub(crate) async fn next(&self, scan_soon: bool) -> Wake {
        let patience = if self.polling || scan_soon { POLL } else { SAFETY_SCAN };
        if tokio::time::timeout(patience, self.changes.wake.notified()).await.is_err() {
            return Wake::Scan;
        }
        tokio::time::sleep(SETTLE).await;
        match self.changes.level.swap(0, Ordering::AcqRel) {
            SCAN => Wake::Scan,
            _ => Wake::Written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn writes_and_new_names_wake_differently() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.log");
        std::fs::write(&file, "x").unwrap();
        let mut watch = Watch::new();
        watch.follow(&[dir.path().to_owned()].into());
        std::fs::OpenOptions::new()
            .append(true)
            .open(&file)
            .and_then(|mut f| std::io::Write::write_all(&mut f, b"y"))
            .unwrap();
        assert_eq!(watch.next(false).await, Wake::Written);
        std::fs::rename(&file, dir.path().join("a.log.1")).unwrap();
        assert_eq!(watch.next(false).await, Wake::Scan);
    }

    #[tokio::test]
    async fn reading_wakes_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.log");
        std::fs::write(&file, "x").unwrap();
        let mut watch = Watch::new();
        watch.follow(&[dir.path().to_owned()].into());
        std::fs::read(&file).unwrap();
        let woken = tokio::time::timeout(Duration::from_millis(200), watch.next(false)).await;
        assert!(woken.is_err(), "{woken:?}");
    }
}
