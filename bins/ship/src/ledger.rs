//! The books: for each generation of a file and each destination, where every byte went.
//!
//! `read = acknowledged + filtered + dead_lettered + pending`, at every moment. Read by the admin thread while the
//! pipelines write, so it holds numbers only and does no I/O.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

mod lag;

use lag::Lag;

/// The accounts of all generations that are still known, and the sums of those that were let go.
#[derive(Debug)]
pub(crate) struct Ledger {
    destinations: Vec<String>,
    open: Mutex<Vec<Arc<Account>>>,
    /// One sum for each destination.
    closed: Mutex<Vec<Sums>>,
    pub(crate) disk: Disk,
}

/// What was done about disk space, over all files since the start.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// Bytes that were freed of live files.
    pub(crate) punched: Number,
    /// Rotated files that were removed, and what they held on disk.
    pub(crate) removed_files: Number,
    pub(crate) removed_bytes: Number,
    /// Deleted files that are open still, and what they hold on disk now.
    pub(crate) held_files: Number,
    pub(crate) held_bytes: Number,
    /// Bytes that went before they were delivered.
    pub(crate) lost: Number,
}

/// A number that one thread writes and another reads.
#[derive(Debug, Default)]
pub(crate) struct Number(AtomicU64);

impl Number {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One generation's account.
#[derive(Debug)]
pub(crate) struct Account {
    /// The name that the file was first seen under.
    pub(crate) file: String,
    /// Device and inode: tells generations of one name apart.
    pub(crate) generation: String,
    read: AtomicU64,
    entries: Vec<Entry>,
}

/// What became of a generation's bytes at one destination.
#[derive(Debug, Default)]
struct Entry {
    acknowledged: AtomicU64,
    filtered: AtomicU64,
    dead_lettered: AtomicU64,
    lag: Mutex<Lag>,
}

/// Bytes, summed over generations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) read: u64,
    pub(crate) acknowledged: u64,
    pub(crate) filtered: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) pending: u64,
}

impl Sums {
    fn add(&mut self, other: Self) {
        self.read += other.read;
        self.acknowledged += other.acknowledged;
        self.filtered += other.filtered;
        self.dead_lettered += other.dead_lettered;
        self.pending += other.pending;
    }

    fn json(self) -> Value {
        json!({
            "read": self.read,
            "acknowledged": self.acknowledged,
            "filtered": self.filtered,
            "dead_lettered": self.dead_lettered,
            "pending": self.pending,
        })
    }
}

impl Account {
    /// The bytes that the file is known to hold.
    pub(crate) fn set_read(&self, bytes: u64) {
        self.read.store(bytes, Ordering::Release);
        (0..self.entries.len()).for_each(|destination| self.note_lag(destination));
    }

    pub(crate) fn acknowledge(&self, destination: usize, bytes: u64) {
        self.entries[destination].acknowledged.fetch_add(bytes, Ordering::AcqRel);
        self.note_lag(destination);
    }

    pub(crate) fn dead_letter(&self, destination: usize, bytes: u64) {
        self.entries[destination].dead_lettered.fetch_add(bytes, Ordering::AcqRel);
        self.note_lag(destination);
    }

    pub(crate) fn filter(&self, destination: usize, bytes: u64) {
        self.entries[destination].filtered.fetch_add(bytes, Ordering::AcqRel);
        self.note_lag(destination);
    }

    /// To be called after each change of a destination's numbers.
    fn note_lag(&self, destination: usize) {
        let Sums { read, pending, .. } = self.sums(destination);
        lock(&self.entries[destination].lag).note(read - pending, read, Instant::now());
    }

    /// The age of the oldest bytes that are pending at a destination; zero while none are.
    pub(crate) fn lag(&self, destination: usize, now: Instant) -> Duration {
        lock(&self.entries[destination].lag).age(now)
    }

    pub(crate) fn sums(&self, destination: usize) -> Sums {
        let entry = &self.entries[destination];
        let acknowledged = entry.acknowledged.load(Ordering::Acquire);
        let filtered = entry.filtered.load(Ordering::Acquire);
        let dead_lettered = entry.dead_lettered.load(Ordering::Acquire);
        let gone = acknowledged + filtered + dead_lettered;
        // Bytes may be acknowledged before the next scan has measured the file again.
        let read = self.read.load(Ordering::Acquire).max(gone);
        Sums { read, acknowledged, filtered, dead_lettered, pending: read - gone }
    }
}

impl Ledger {
    pub(crate) fn new(destinations: Vec<String>) -> Self {
        let closed = Mutex::new(vec![Sums::default(); destinations.len()]);
        Self { destinations, open: Mutex::default(), closed, disk: Disk::default() }
    }

    /// Opens the account of a generation.
    pub(crate) fn open(&self, file: String, generation: String) -> Arc<Account> {
        let entries = self.destinations.iter().map(|_| Entry::default()).collect();
        let account = Arc::new(Account { file, generation, read: AtomicU64::new(0), entries });
        lock(&self.open).push(Arc::clone(&account));
        account
    }

    /// Adds a generation that is let go to the sums. What it still had pending is gone for good, and is not
    /// pending any more.
    pub(crate) fn close(&self, account: &Arc<Account>) {
        lock(&self.open).retain(|open| !Arc::ptr_eq(open, account));
        for (destination, closed) in lock(&self.closed).iter_mut().enumerate() {
            let sums = account.sums(destination);
            closed.add(Sums { read: sums.read - sums.pending, pending: 0, ..sums });
        }
    }

    /// The number of generations that are followed.
    pub(crate) fn followed(&self) -> usize {
        lock(&self.open).len()
    }

    /// The sums of one destination over all generations, known and let go.
    pub(crate) fn total(&self, destination: usize) -> Sums {
        let mut total = lock(&self.closed)[destination];
        for account in lock(&self.open).iter() {
            total.add(account.sums(destination));
        }
        total
    }

    /// Bytes that are not delivered yet, over all destinations.
    pub(crate) fn pending(&self) -> u64 {
        (0..self.destinations.len()).map(|destination| self.total(destination).pending).sum()
    }

    /// The destinations by name, in their order.
    pub(crate) fn destinations(&self) -> &[String] {
        &self.destinations
    }

    /// The age of the oldest bytes that are pending at a destination, over all known generations.
    pub(crate) fn lag(&self, destination: usize, now: Instant) -> Duration {
        lock(&self.open).iter().map(|account| account.lag(destination, now)).max().unwrap_or_default()
    }

    /// The whole ledger: a row for each known generation and destination, and the totals.
    pub(crate) fn json(&self) -> Value {
        let mut total = Sums::default();
        (0..self.destinations.len()).for_each(|destination| total.add(self.total(destination)));
        json!({"total": total.json(), "generations": self.rows(|_, _, _| json!({}))})
    }

    /// The rows of the ledger with size and lag before the columns of the books.
    pub(crate) fn lags(&self, now: Instant) -> Vec<Value> {
        self.rows(|account, destination, sums| {
            json!({
                "size": sums.read,
                "acknowledged": sums.acknowledged,
                "lag_bytes": sums.pending,
                "lag_seconds": seconds(account.lag(destination, now)),
            })
        })
    }

    fn rows(&self, first: impl Fn(&Account, usize, Sums) -> Value) -> Vec<Value> {
        let mut rows = Vec::new();
        for account in lock(&self.open).iter() {
            for (destination, name) in self.destinations.iter().enumerate() {
                let whose = json!({
                    "file": account.file, "generation": account.generation, "destination": name,
                });
                let sums = account.sums(destination);
                let parts = [whose, first(account, destination, sums), sums.json()];
                let mut row = Map::new();
                for part in parts {
                    if let Value::Object(part) = part {
                        row.extend(part);
                    }
                }
                rows.push(Value::Object(row));
            }
        }
        rows
    }
}

/// Seconds for people and charts: to the millisecond.
pub(crate) fn seconds(time: Duration) -> f64 {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).as_secs_f64()
}

/// The numbers stay right whatever a panicking thread was doing with them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_in_one_column() {
        let ledger = Ledger::new(vec!["a".into(), "b".into()]);
        let account = ledger.open("/x.log".into(), "1:2".into());
        account.set_read(100);
        account.filter(0, 10);
        account.acknowledge(0, 60);
        let want = Sums { read: 100, acknowledged: 60, filtered: 10, dead_lettered: 0, pending: 30 };
        assert_eq!(account.sums(0), want);
        assert_eq!(account.sums(1).pending, 100);
        assert_eq!(ledger.pending(), 130);
        assert_eq!(ledger.json()["generations"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn size_and_lag_stand_before_the_books() {
        let now = Instant::now();
        let ledger = Ledger::new(vec!["a".into(), "b".into()]);
        let account = ledger.open("/x.log".into(), "1:2".into());
        account.set_read(100);
        account.acknowledge(0, 90);
        account.filter(0, 10);
        assert_eq!(ledger.lag(0, now), Duration::ZERO);
        let rows = ledger.lags(now);
        let columns = |row: &Value| {
            ["size", "acknowledged", "lag_bytes", "pending"].map(|name| row[name].as_u64().unwrap())
        };
        assert_eq!((columns(&rows[0]), columns(&rows[1])), ([100, 90, 0, 0], [100, 0, 100, 100]));
        assert_eq!(rows[0]["lag_seconds"], 0.0);
        ledger.close(&account);
        assert_eq!(ledger.lag(1, now), Duration::ZERO);
    }

    #[test]
    fn what_is_let_go_stays_in_the_totals() {
        let ledger = Ledger::new(vec!["a".into()]);
        let account = ledger.open("/x.log".into(), "1:2".into());
        account.set_read(100);
        account.acknowledge(0, 100);
        ledger.close(&account);
        assert_eq!(ledger.followed(), 0);
        let want = Sums { read: 100, acknowledged: 100, ..Sums::default() };
        assert_eq!(ledger.total(0), want);
    }

    #[test]
    fn acknowledged_bytes_count_as_read_before_the_next_scan() {
        let ledger = Ledger::new(vec!["a".into()]);
        let account = ledger.open("/x.log".into(), "1:2".into());
        account.acknowledge(0, 7);
        let sums = account.sums(0);
        assert_eq!((sums.read, sums.pending), (7, 0));
    }
}
