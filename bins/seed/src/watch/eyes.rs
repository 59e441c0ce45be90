//! Sees that something changed in the directories of the inputs; what changed is for others to find out. One inotify
//! instance, and one watch a directory; where the kernel gives none, inputs are polled.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// The watched directories.
pub(super) struct Eyes {
    /// `None` where the kernel gives no inotify instance.
    watcher: Option<RecommendedWatcher>,
    /// By path and inode: a directory that is made anew has lost its watch.
    watched: BTreeSet<(PathBuf, u64)>,
    is_polling: bool,
}

impl Eyes {
    /// Each sign of a change is sent on, unless one waits to be taken already.
    pub(super) fn open(wake: SyncSender<()>) -> Self {
        let handler = move |event: notify::Result<notify::Event>| {
            // Our own reads come back as accesses.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                let _ = wake.try_send(());
            }
        };
        let config = notify::Config::default().with_follow_symlinks(false);
        Self::with(RecommendedWatcher::new(handler, config))
    }

    fn with(watcher: notify::Result<RecommendedWatcher>) -> Self {
        let watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "no inotify instance; polling every second"))
            .ok();
        Self { is_polling: watcher.is_none(), watcher, watched: BTreeSet::new() }
    }

    /// Whether some directory is not watched, so that its inputs must be looked at often.
    pub(super) fn is_polling(&self) -> bool {
        self.is_polling
    }

    /// Watches these directories and no others.
    pub(super) fn follow(&mut self, directories: BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        let inode = |dir: PathBuf| std::fs::metadata(&dir).ok().map(|meta| (dir, meta.ino()));
        let wanted: BTreeSet<_> = directories.into_iter().filter_map(inode).collect();
        for (gone, _) in self.watched.difference(&wanted) {
            // The kernel has already dropped the watch of a directory that was removed.
            let _ = watcher.unwatch(gone);
        }
        let mut failed = None;
        let mut watched: BTreeSet<_> = self.watched.intersection(&wanted).cloned().collect();
        for (dir, inode) in wanted.difference(&self.watched) {
            match watcher.watch(dir, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert((dir.clone(), *inode));
                }
                Err(error) => failed = Some((dir.clone(), error)),
            }
        }
        self.watched = watched;
        if let Some((dir, error)) = &failed
            && !self.is_polling
        {
            tracing::warn!(?dir, %error, "cannot watch a directory of inputs; polling every second");
        }
        self.is_polling = failed.is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn changes_in_followed_directories_are_seen_and_reads_are_not() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (wake, wakes) = mpsc::sync_channel(1);
        let mut eyes = Eyes::open(wake);
        let file = first.path().join("a");
        std::fs::write(&file, "x").unwrap();
        eyes.follow(BTreeSet::from([first.path().to_owned()]));
        assert!(!eyes.is_polling());
        std::fs::read(&file).unwrap();
        std::fs::write(second.path().join("a"), "x").unwrap();
        assert!(wakes.recv_timeout(Duration::from_millis(100)).is_err());
        std::fs::rename(&file, first.path().join("b")).unwrap();
        wakes.recv_timeout(Duration::from_secs(30)).unwrap();

        eyes.follow(BTreeSet::from([second.path().to_owned()]));
        std::fs::write(second.path().join("a"), "y").unwrap();
        wakes.recv_timeout(Duration::from_secs(30)).unwrap();
    }

    #[test]
    fn where_the_kernel_gives_no_watch_inputs_are_polled() {
        let mut eyes = Eyes::with(Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch)));
        eyes.follow(BTreeSet::from([PathBuf::from("/")]));
        assert!(eyes.is_polling());
    }
}
