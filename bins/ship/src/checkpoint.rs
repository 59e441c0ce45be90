//! The positions on disk: what a restarted shipper goes on from.
//!
//! Written whole or not at all (temporary file, fsync, rename, fsync of the directory), and only after the backend
//! has acknowledged. A file that cannot be read back is set aside, never trusted and never fatal.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::files::Fingerprint;

const NAME: &str = "checkpoint.json";
const VERSION: u32 = 1;

/// All positions at one moment.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    version: u32,
    /// Device numbers may change with a reboot; this tells whether one was in between.
    pub(crate) boot: String,
    /// When the files were last looked at.
    pub(crate) looked: Option<SystemTime>,
    pub(crate) generations: Vec<Saved>,
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
        let store = Self { dir: dir.to_owned(), boot, _lock: lock };
        // Now rather than after the first batch: a directory that takes no files must end the start.
        store.probe().map_err(cannot)?;
        Ok(store)
    }

    /// Whether a file in a state directory is one of ours.
    pub(crate) fn owns(dir: &Path, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.parent() == Some(dir) && (name.starts_with(NAME) || name == "lock" || name == "probe.tmp")
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
            Ok(checkpoint) if checkpoint.version == VERSION => return Ok(checkpoint),
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

    /// Saves positions; the old ones stay until the new ones are on disk.
    pub(crate) fn save(&self, looked: Option<SystemTime>, generations: Vec<Saved>) -> io::Result<()> {
        let checkpoint = Checkpoint { version: VERSION, boot: self.boot.clone(), looked, generations };
        self.write(&serde_json::to_vec(&checkpoint)?)
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
        }
    }
}
