//! Wakes the shipper when files change: one inotify instance on directories, or polling where that fails.
//!
//! ```text
//!   quiet:  kernel ─► notify's thread ─► Changes ─► next()      a look at the files at most each 10 to 25 ms
//!   flood:  no inotify, next() comes each 25 to 250 ms          until a trial finds fewer events
//! ```
//!
//! Tells that something changed, and roughly what; it never looks at files itself.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use notify::event::{EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use crate::files::volume::Kind;

/// Between scans that nothing asked for while the kernel tells of changes: covers what it may have missed. With 1,000
/// files one takes 10 ms, so half a thousandth of a core.
const SAFETY_SCAN: Duration = Duration::from_secs(20);
/// Between scans where the kernel tells nothing.
const POLL: Duration = Duration::from_millis(500);
/// Writes in quick succession are taken together: short against the 50 ms in which a new line is to be read.
const MIN_SETTLE: Duration = Duration::from_millis(10);
/// With many files a look costs more, so more is taken together.
const MAX_SETTLE: Duration = Duration::from_millis(25);
/// For each file: asking for its size costs a tenth of a microsecond, so half a percent of a core for a thousand.
const SETTLE_SHARE: Duration = Duration::from_micros(20);

/// An app that makes and removes files all the time must not have a large directory read all the time: what a scan
/// took is paused for this often, which is 5 percent of a core, but no longer than half of the second in which a new
/// file is to be found.
const SCAN_SHARE: u32 = 20;

/// How long notify's thread lets events pile up in the kernel's queue, like after like as one; with the longest
/// settling still within 50 ms. The queue holds 16,384.
const HOLD: Duration = Duration::from_millis(10);
/// How long it then takes them without a further pause.
const CATCH_UP: Duration = Duration::from_millis(1);

/// Events in a second that cost more than to ask each file for its size unasked, files aside: about 1.5 us each.
const FLOOD: u64 = 2_000;
/// The same for each file: up to 25 looks in a second, of half a microsecond to one.
const FLOOD_SHARE: u64 = 2;
/// Between two looks in a flood, at most. No longer than a quarter of a batch's age, and so not seen behind it.
const MAX_FLOOD_LOOK: Duration = Duration::from_millis(250);
/// A rate is taken over at least this time.
const RATE_TIME: Duration = Duration::from_millis(200);
/// While the events are not listened to, how long until they are tried again.
const TRIAL: Duration = Duration::from_secs(5);
/// File systems stamp directories with a clock that ticks every 10 ms at worst: a name may be added within the tick.
const TICK: Duration = Duration::from_millis(20);

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
    events: AtomicU64,
    wake: Notify,
}

const WRITTEN: u8 = 1;
const SCAN: u8 = 2;

impl Changes {
    fn note(&self, level: u8) {
        self.level.fetch_max(level, Ordering::AcqRel);
        self.wake.notify_one();
    }

    /// Takes what notify's thread brings.
    fn handle(&self, event: &notify::Result<notify::Event>) {
        self.events.fetch_add(1, Ordering::Relaxed);
        match event {
            // Our own reads come back as accesses.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
            // The kernel's queue ran over: what was in it is not known.
            Ok(event) if event.need_rescan() => self.note(SCAN),
            Ok(event) if matches!(event.kind, EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any)) => {
                self.note(WRITTEN);
            }
            Ok(event) if matches!(event.kind, EventKind::Modify(ModifyKind::Metadata(_))) => {}
            Ok(_) | Err(_) => self.note(SCAN),
        }
    }
}

/// The watched directories.
pub(crate) struct Watch {
    changes: Arc<Changes>,
    /// `None` where the kernel gives no inotify instance, and during a flood.
    watcher: Option<RecommendedWatcher>,
    /// By path and inode: a directory that is made anew at once has lost its watch.
    watched: BTreeSet<(PathBuf, Option<u64>)>,
    directories: BTreeSet<PathBuf>,
    /// Some directory cannot be watched, so scans must come often.
    polling: bool,
    /// Directories on file systems that other nodes write to; their changes are polled for.
    remote: BTreeSet<PathBuf>,
    files: usize,
    settle: Duration,
    /// Between two looks in a flood.
    flood_look: Duration,
    /// When everything was last looked at; when that began, while it goes on.
    scanned: Instant,
    scanning: Option<Instant>,
    /// No scan for names that changed comes sooner after the last.
    scan_pause: Duration,
    /// Names changed, and were not looked at yet.
    owes_scan: bool,
    flood: Flood,
}

/// What is known about the rate of events.
struct Flood {
    /// While there is one: since when, and when each directory last had a name added or removed.
    since: Option<Instant>,
    stamps: RefCell<BTreeMap<PathBuf, Option<SystemTime>>>,
    compared: Instant,
    /// Since when the events are counted.
    counted: Instant,
}

impl Watch {
    /// Starts to watch; the directories come with [`follow`](Self::follow). What is written waits for its batch for
    /// `batch_age` anyhow.
    pub(crate) fn new(batch_age: Duration) -> Self {
        let changes = Arc::new(Changes::default());
        let watcher = watcher(&changes)
            .inspect_err(|error| tracing::warn!("no inotify instance ({error}); polling every {POLL:?}"))
            .ok();
        let now = Instant::now();
        let flood = Flood { since: None, stamps: RefCell::default(), compared: now, counted: now };
        Self {
            changes,
            polling: watcher.is_none(),
            watcher,
            watched: BTreeSet::new(),
            directories: BTreeSet::new(),
            remote: BTreeSet::new(),
            files: 0,
            settle: MIN_SETTLE,
            flood_look: (batch_age / 4).clamp(MAX_SETTLE, MAX_FLOOD_LOOK),
            scanned: now,
            scanning: None,
            scan_pause: Duration::ZERO,
            owes_scan: false,
            flood,
        }
    }

    /// Watches the directories that a scan has just read, and no others, for the sake of so many files.
    pub(crate) fn follow(&mut self, directories: &BTreeSet<PathBuf>, files: usize) {
        self.files = files;
        self.scanned = Instant::now();
        let cost = self.scanning.take().map_or(Duration::ZERO, |began| began.elapsed());
        self.scan_pause = (cost * SCAN_SHARE).min(POLL);
        self.settle = (SETTLE_SHARE * u32::try_from(files).unwrap_or(u32::MAX)).clamp(MIN_SETTLE, MAX_SETTLE);
        for dir in directories.difference(&self.directories) {
            let kind = Kind::of_path(dir);
            if kind.is_remote && self.remote.insert(dir.clone()) {
                tracing::info!(
                    "{dir:?} is on {}, where the kernel does not tell what other nodes write; polling every {POLL:?}",
                    kind.name
                );
            }
        }
        self.remote.retain(|dir| directories.contains(dir));
        self.directories.clone_from(directories);
        self.watch_all();
    }

    fn watch_all(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let inode = |dir: &PathBuf| std::fs::metadata(dir).ok().map(|meta| meta.ino());
        let directories: BTreeSet<_> = self.directories.iter().map(|dir| (dir.clone(), inode(dir))).collect();
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
    /// kernel tells of changes: for what cannot be watched yet. `look_soon` asks for a look at the files.
    pub(crate) async fn next(&mut self, scan_soon: bool, look_soon: bool) -> Wake {
        let is_polled = self.polling || scan_soon || !self.remote.is_empty();
        let patience = if is_polled { POLL } else { SAFETY_SCAN };
        let level = if self.flood.since.is_some() {
            self.next_in_flood().await
        } else {
            let patience = if self.owes_scan { self.scan_pause } else { patience };
            self.next_event(patience.saturating_sub(self.scanned.elapsed()), look_soon).await
        };
        self.owes_scan |= level == SCAN;
        // However many writes there are, a scan that is due comes.
        let patience = if self.owes_scan { self.scan_pause } else { patience };
        if self.scanned.elapsed() < patience {
            return Wake::Written;
        }
        self.owes_scan = false;
        self.scanning = Some(Instant::now());
        Wake::Scan
    }

    async fn next_event(&mut self, patience: Duration, look_soon: bool) -> u8 {
        let patience = if look_soon { patience.min(POLL) } else { patience };
        if tokio::time::timeout(patience, self.changes.wake.notified()).await.is_err() {
            return WRITTEN;
        }
        tokio::time::sleep(self.settle).await;
        let level = self.changes.level.swap(0, Ordering::AcqRel);
        self.judge_rate();
        level
    }

    /// Stops to listen where the events cost more than looking at each file without being told.
    fn judge_rate(&mut self) {
        let time = self.flood.counted.elapsed();
        if time < RATE_TIME {
            return;
        }
        let events = self.changes.events.swap(0, Ordering::Relaxed);
        self.flood.counted = Instant::now();
        // After a long silence the rate says nothing; the next one does.
        let limit = FLOOD + FLOOD_SHARE * self.files as u64;
        if time < 5 * RATE_TIME && u128::from(events) * 1_000 > u128::from(limit) * time.as_millis() {
            tracing::debug!(
                "{events} events in {time:?}; looking at the files every {:?} instead",
                self.flood_look
            );
            self.flood.since = Some(Instant::now());
            self.flood.stamps.replace(BTreeMap::new());
            self.watcher = None;
            self.watched.clear();
        }
    }

    async fn next_in_flood(&mut self) -> u8 {
        tokio::time::sleep(self.flood_look).await;
        if self.flood.since.is_some_and(|since| since.elapsed() >= TRIAL) {
            self.flood.since = None;
            self.changes.events.store(0, Ordering::Relaxed);
            self.flood.counted = Instant::now();
            self.watcher = watcher(&self.changes).ok();
            self.polling = self.watcher.is_none();
            self.watch_all();
            // What came between the last comparison and the first watch.
            return SCAN;
        }
        if self.flood.compared.elapsed() >= POLL {
            self.flood.compared = Instant::now();
            if self.names_changed() {
                return SCAN;
            }
        }
        WRITTEN
    }

    /// Whether a name was added to or removed from a directory since this was last asked.
    fn names_changed(&self) -> bool {
        let stamp = |dir: &Path| std::fs::metadata(dir).and_then(|meta| meta.modified()).ok();
        let now = SystemTime::now();
        // A stamp that is this young may be given to one more change.
        let is_old = |stamp: &SystemTime| now.duration_since(*stamp).is_ok_and(|age| age > TICK);
        let stamps: BTreeMap<PathBuf, Option<SystemTime>> =
            self.directories.iter().map(|dir| (dir.clone(), stamp(dir).filter(is_old))).collect();
        let is_same = stamps.values().all(Option::is_some) && *self.flood.stamps.borrow() == stamps;
        self.flood.stamps.replace(stamps);
        !is_same
    }
}

fn watcher(changes: &Arc<Changes>) -> notify::Result<RecommendedWatcher> {
    let changes = Arc::clone(changes);
    let mut held = Instant::now();
    let handler = move |event: notify::Result<notify::Event>| {
        changes.handle(&event);
        // What is written while this thread sleeps is taken with the same look, and costs no wake-up of its own.
        if held.elapsed() >= CATCH_UP {
            std::thread::sleep(HOLD);
            held = Instant::now();
        }
    };
    RecommendedWatcher::new(handler, notify::Config::default().with_follow_symlinks(false))
}

#[cfg(test)]
mod tests;
