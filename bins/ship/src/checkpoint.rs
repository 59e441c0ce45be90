//! The positions on disk: what a restarted shipper goes on from.
//!
//! ```text
//!   checkpoint.json            all generations: temporary file, fsync, rename, fsync of the directory
//!   checkpoint.json.journal    a line for each save since: those generations that moved, fsync
//! ```
//!
//! Only written after the backend has acknowledged. A file that cannot be read back is set aside, never trusted and
//! never fatal; a line of the journal that was torn by a crash was never promised, and ends it.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::files::Fingerprint;

const NAME: &str = "checkpoint.json";
const JOURNAL: &str = "checkpoint.json.journal";
/// Not ours to write, but in the same directory, and no log of the app.
pub(crate) const DEAD_LETTERS: &str = "dead-letters.ndjson";
const VERSION: u32 = 1;
/// A longer journal is taken up in a new checkpoint: some thousand saves, read back in milliseconds.
const MAX_JOURNAL: u64 = 1 << 20;

/// All positions at one moment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    version: u32,
    /// The journal's lines that go with it have the same.
    #[serde(default)]
    serial: u64,
    /// Device numbers may change with a reboot; this tells whether one was in between.
    pub(crate) boot: String,
    /// When the files were last looked at.
    pub(crate) looked: Option<SystemTime>,
    pub(crate) generations: Vec<Saved>,
}

/// One line of the journal.
#[derive(Debug, Serialize, Deserialize)]
struct Moves {
    serial: u64,
    looked: Option<SystemTime>,
    generations: Vec<Saved>,
}

/// The journal that goes with the checkpoint on disk.
#[derive(Debug)]
struct Journal {
    file: File,
    serial: u64,
    length: u64,
}

/// One generation of a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Saved {
    #[serde(with = "any_path")]
    pub(crate) name: PathBuf,
    #[serde(with = "any_path")]
    pub(crate) path: PathBuf,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// 0 in checkpoints from before there were keys.
    #[serde(default)]
    pub(crate) key: u64,
    pub(crate) size: u64,
    pub(crate) head: Fingerprint,
    /// By destination.
    pub(crate) positions: BTreeMap<String, Position>,
}

/// A path as text, or as bytes where it is not UTF-8: one odd name must not keep all positions from being saved.
mod any_path {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => text.serialize(serializer),
            None => path.as_os_str().as_bytes().serialize(serializer),
        }
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Text(PathBuf),
        Bytes(Vec<u8>),
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(match Stored::deserialize(deserializer)? {
            Stored::Text(path) => path,
            Stored::Bytes(bytes) => OsString::from_vec(bytes).into(),
        })
    }
}

/// How far a destination has acknowledged, and the bytes just before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) offset: u64,
    pub(crate) tail: Fingerprint,
}

/// The state directory, held by this process alone.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    boot: String,
    /// `None` until a whole checkpoint is saved, and after a failure: a torn line would hide those after it.
    journal: RefCell<Option<Journal>>,
    _lock: Flock<File>,
}

impl Store {
    /// Opens the state directory; makes it if its parent is there, and takes its lock.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let cannot = |source| Error::StateDir { path: dir.to_owned(), source };
        match fs::create_dir(dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(cannot(error)),
        }
        let lock = File::create(dir.join("lock")).map_err(cannot)?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            nix::errno::Errno::EWOULDBLOCK => Error::StateDirTaken { path: dir.to_owned() },
            other => cannot(other.into()),
        })?;
        // Only fails where /proc is not mounted; then every start counts as one after a reboot.
        let boot =
            fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let store = Self { dir: dir.to_owned(), boot, journal: RefCell::default(), _lock: lock };
        // Now rather than after the first batch: a directory that takes no files must end the start.
        store.probe().map_err(cannot)?;
        Ok(store)
    }

    /// Whether a file in a state directory is one of ours.
    pub(crate) fn owns(dir: &Path, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_name =
            name.starts_with(NAME) || name.starts_with(DEAD_LETTERS) || name == "lock" || name == "probe.tmp";
        // By any path: were our own files followed, each save would be news to save.
        let is_dir = |parent: &Path| {
            parent == dir
                || parent.canonicalize().is_ok_and(|real| dir.canonicalize().is_ok_and(|dir| dir == real))
        };
        is_name && path.parent().is_some_and(is_dir)
    }

    pub(crate) fn boot(&self) -> &str {
        &self.boot
    }

    /// What was saved last; empty where nothing was. A damaged or foreign file is set aside with a warning.
    pub(crate) fn load(&self) -> Result<Checkpoint, Error> {
        let path = self.dir.join(NAME);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Checkpoint::default()),
            Err(source) => return Err(Error::StateDir { path, source }),
        };
        let why = match serde_json::from_slice::<Checkpoint>(&text) {
            Ok(mut checkpoint) if checkpoint.version == VERSION => {
                checkpoint.replay(&fs::read(self.dir.join(JOURNAL)).unwrap_or_default());
                return Ok(checkpoint);
            }
            Ok(checkpoint) => format!("it has version {}, and {VERSION} is known", checkpoint.version),
            Err(error) => error.to_string(),
        };
        let stamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let aside = self.dir.join(format!("{NAME}.bad-{stamp}"));
        fs::rename(&path, &aside).map_err(|source| Error::StateDir { path: path.clone(), source })?;
        tracing::warn!(
            "the checkpoint {path:?} cannot be used ({why}); it is kept as {aside:?}, and all files are read from \
             their beginning"
        );
        Ok(Checkpoint::default())
    }

    /// All positions at this moment, for who goes on in this process.
    pub(crate) fn checkpoint(&self, looked: Option<SystemTime>, generations: Vec<Saved>) -> Checkpoint {
        Checkpoint { version: VERSION, serial: 0, boot: self.boot.clone(), looked, generations }
    }

    /// Saves all generations; the old checkpoint stays until the new one is on disk.
    pub(crate) fn save(&self, looked: Option<SystemTime>, generations: Vec<Saved>) -> io::Result<()> {
        self.journal.take();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Never the same again, not even after a checkpoint was set aside.
        let serial = u64::try_from(now.as_nanos()).unwrap_or_default();
        let checkpoint = Checkpoint { serial, ..self.checkpoint(looked, generations) };
        // Before the directory is synced, so that it is there after a crash. Lines of an older serial mean nothing.
        let file = File::options().append(true).create(true).open(self.dir.join(JOURNAL))?;
        self.write(&serde_json::to_vec(&checkpoint)?)?;
        file.set_len(0)?;
        self.journal.replace(Some(Journal { file, serial, length: 0 }));
        Ok(())
    }

    /// Saves those generations that moved since the last save. False where a whole checkpoint is needed instead.
    pub(crate) fn save_moves(&self, looked: Option<SystemTime>, generations: Vec<Saved>) -> io::Result<bool> {
        let mut slot = self.journal.borrow_mut();
        let Some(mut journal) = slot.take().filter(|journal| journal.length < MAX_JOURNAL) else {
            return Ok(false);
        };
        let mut line = serde_json::to_vec(&Moves { serial: journal.serial, looked, generations })?;
        line.push(b'\n');
        journal.file.write_all(&line)?;
        journal.file.sync_data()?;
        journal.length += line.len() as u64;
        *slot = Some(journal);
        Ok(true)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let temp = self.dir.join(format!("{NAME}.tmp"));
        let mut file = File::create(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temp, self.dir.join(NAME))?;
        File::open(&self.dir)?.sync_all()
    }

    fn probe(&self) -> io::Result<()> {
        let probe = self.dir.join("probe.tmp");
        fs::write(&probe, b"x")?;
        fs::remove_file(&probe)
    }
}

impl Checkpoint {
    /// Takes up what a journal says, up to the first line that is torn.
    fn replay(&mut self, journal: &[u8]) {
        let mut places: HashMap<u64, usize> =
            self.generations.iter().enumerate().map(|(place, saved)| (saved.key, place)).collect();
        for line in journal.split_inclusive(|byte| *byte == b'\n') {
            let Some(line) = line.strip_suffix(b"\n") else { return };
            let Ok(moves) = serde_json::from_slice::<Moves>(line) else { return };
            // A crash came between a new checkpoint and the emptying of the old one's journal.
            if moves.serial != self.serial {
                continue;
            }
            self.looked = moves.looked;
            for saved in moves.generations {
                match places.get(&saved.key) {
                    Some(place) => self.generations[*place] = saved,
                    None => {
                        places.insert(saved.key, self.generations.len());
                        self.generations.push(saved);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn saved() -> Saved {
        Saved {
            name: "/a.log".into(),
            path: "/a.log.1".into(),
            device: 1,
            inode: 2,
            key: 3,
            size: 30,
            head: Fingerprint::default(),
            positions: [("http".to_owned(), Position { offset: 20, ..Position::default() })].into(),
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state")).unwrap();
        assert!(store.load().unwrap().generations.is_empty());
        store.save(None, vec![saved()]).unwrap();
        let loaded = store.load().unwrap();
        assert_eq!(loaded.generations[0].positions["http"].offset, 20);
        assert_eq!(loaded.boot, store.boot());
    }

    fn moved(to: u64) -> Saved {
        let positions = [("http".to_owned(), Position { offset: to, ..Position::default() })].into();
        Saved { positions, ..saved() }
    }

    #[test]
    fn moves_are_taken_up_by_the_checkpoint_that_they_go_with() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(!store.save_moves(None, vec![moved(21)]).unwrap(), "there is nothing that it goes with");
        store.save(None, vec![saved(), Saved { key: 9, ..saved() }]).unwrap();
        assert!(store.save_moves(None, vec![moved(21)]).unwrap());
        assert!(store.save_moves(None, vec![moved(22)]).unwrap());
        let offsets = |store: &Store| -> Vec<u64> {
            let generations = store.load().unwrap().generations;
            generations.iter().map(|saved| saved.positions["http"].offset).collect()
        };
        assert_eq!(offsets(&store), [22, 20]);
        // A crash tears the last line.
        let journal = dir.path().join(JOURNAL);
        let lines = fs::read(&journal).unwrap();
        for cut in 1..lines.len() / 2 {
            fs::write(&journal, &lines[..lines.len() - cut]).unwrap();
            assert_eq!(offsets(&store), [21, 20]);
        }
        // A crash comes between the new checkpoint and the emptying of the journal.
        store.save(None, vec![moved(30)]).unwrap();
        fs::write(&journal, &lines).unwrap();
        assert_eq!(offsets(&store), [30]);
    }

    #[test]
    fn a_long_journal_asks_for_a_new_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.save(None, vec![saved()]).unwrap();
        let mut saves = 0;
        while store.save_moves(None, vec![moved(saves); 100]).unwrap() {
            saves += 1;
        }
        let length = fs::metadata(dir.path().join(JOURNAL)).unwrap().len();
        assert!((MAX_JOURNAL..MAX_JOURNAL + (64 << 10)).contains(&length), "{length}");
        store.save(None, vec![saved()]).unwrap();
        assert_eq!(fs::metadata(dir.path().join(JOURNAL)).unwrap().len(), 0);
    }

    #[test]
    fn a_state_directory_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let _store = Store::open(dir.path()).unwrap();
        assert!(matches!(Store::open(dir.path()), Err(Error::StateDirTaken { .. })));
    }

    #[test]
    fn a_torn_or_foreign_checkpoint_is_set_aside() {
        for content in
            ["", "{\"version\":1,\"gener", "[1]", "{\"version\":99,\"boot\":\"\",\"generations\":[]}"]
        {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).unwrap();
            fs::write(dir.path().join(NAME), content).unwrap();
            assert!(store.load().unwrap().generations.is_empty(), "{content}");
            let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert!(
                names.iter().any(|name| name.to_string_lossy().contains(".bad-")),
                "{content}: {names:?}"
            );
            assert!(!names.iter().any(|name| name == NAME), "{content}: {names:?}");
        }
    }

    #[test]
    fn a_name_that_is_not_utf8_is_saved_as_well() {
        use std::os::unix::ffi::OsStringExt as _;
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let odd = PathBuf::from(std::ffi::OsString::from_vec(b"/logs/a\xff.log".to_vec()));
        store.save(None, vec![saved(), Saved { name: odd.clone(), path: odd.clone(), ..saved() }]).unwrap();
        let loaded = store.load().unwrap().generations;
        assert_eq!((loaded[0].name.to_str(), &loaded[1].name), (Some("/a.log"), &odd));
    }

    proptest! {
        #[test]
        fn no_content_makes_the_decoder_panic(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = serde_json::from_slice::<Checkpoint>(&content);
            Checkpoint::default().replay(&content);
        }
    }
}
