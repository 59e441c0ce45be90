//! The pod's volumes: one directory with a folder for each of them.
//!
//! Temporary unless `--keep` names a place. A kept directory may hold an older run of the demo, which is then
//! replaced; anything else in it is somebody's, and is refused rather than removed.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{error::Error, sequence};

/// The folders, each removed and made anew by the next run.
const FOLDERS: [&str; 5] = ["bin", "config", "log", "logs", "templates"];

/// Says that the directory is the demo's own.
const MARK: &str = "local-pod.txt";
const MARK_TEXT: &str = "This directory belongs to `cargo demo --keep`; the next run replaces it.

bin/        podkit-drain, as its init container installed it for the app's container
config/     what podkit-seed rendered
log/        the output of each process
logs/       the log volume: what the app wrote, and podkit-ship's checkpoints in .podkit
templates/  seed.yaml, proxy.yaml and the template of the app's config
";

/// A directory tree that is there for as long as the pod.
#[derive(Debug)]
pub(crate) struct Volumes {
    root: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Volumes {
    /// Makes the folders, in `keep` or in a temporary directory.
    pub(crate) fn create(keep: Option<&Path>) -> Result<Self, Error> {
        let volumes = match keep {
            Some(dir) => Self { root: kept(dir)?, temporary: None },
            None => {
                let temporary = tempfile::Builder::new().prefix("local-pod-").tempdir();
                let temporary = temporary.map_err(Error::io("make a temporary directory"))?;
                Self { root: temporary.path().into(), temporary: Some(temporary) }
            }
        };
        for folder in FOLDERS {
            let path = volumes.path(folder);
            fs::create_dir(&path).map_err(Error::io(format!("make {path:?}")))?;
        }
        Ok(volumes)
    }

    /// Those of a pod that somebody else runs, laid out in the same way. Nothing is made.
    pub(crate) fn of(dir: &Path) -> Self {
        Self { root: dir.into(), temporary: None }
    }

    /// Whether the files are still there afterwards.
    pub(crate) fn is_kept(&self) -> bool {
        self.temporary.is_none()
    }

    /// A path below the root.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Writes a file that in a pod would come with the manifest.
    pub(crate) fn write(&self, relative: &str, text: &str) -> Result<(), Error> {
        let path = self.path(relative);
        fs::write(&path, text).map_err(Error::io(format!("write {path:?}")))
    }

    /// The last lines of a process's output.
    pub(crate) fn tail(&self, process: &str, lines: usize) -> Vec<String> {
        let text = fs::read(self.path(&format!("log/{process}.log"))).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
    }

    /// What a hook leaves with `--report`.
    pub(crate) fn report(&self, hook: &str) -> Option<serde_json::Value> {
        serde_json::from_slice(&fs::read(self.path(&format!("log/{hook}.json"))).ok()?).ok()
    }

    /// The totals of the ledger that ship printed when it ended: `{"read": …, "acknowledged": …, "pending": …}`.
    pub(crate) fn ledger(&self) -> Option<serde_json::Value> {
        let text = fs::read_to_string(self.path("log/ship.log")).ok()?;
        let last = text.lines().rev().find(|line| line.starts_with("{\"ledger\""))?;
        let mut ledger: serde_json::Value = serde_json::from_str(last).ok()?;
        Some(ledger["ledger"]["total"].take())
    }

    /// Counts what the app wrote, from the files themselves.
    pub(crate) fn written(&self) -> Result<Written, Error> {
        let logs = self.path("logs");
        read_written(&logs).map_err(Error::io(format!("read the app's log in {logs:?}")))
    }
}

/// What is in the app's log files.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Written {
    pub(crate) numbers: BTreeSet<u64>,
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

fn read_written(logs: &Path) -> io::Result<Written> {
    let mut written = Written::default();
    for entry in fs::read_dir(logs)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b"app.log") {
            continue;
        }
        written.files += 1;
        let text = fs::read_to_string(entry.path())?;
        written.bytes += text.len() as u64;
        written.numbers.extend(text.lines().filter_map(sequence::of_line));
    }
    Ok(written)
}

/// The directory given with `--keep`, empty but for its mark.
fn kept(dir: &Path) -> Result<PathBuf, Error> {
    let tell = |what: &str| Error::io(format!("{what} {dir:?}"));
    fs::create_dir_all(dir).map_err(tell("make"))?;
    let root = dir.canonicalize().map_err(tell("find"))?;
    let mark = root.join(MARK);
    let empty = fs::read_dir(&root).map_err(tell("read"))?.next().is_none();
    if !empty && !mark.is_file() {
        return Err(Error::Keep(format!(
            "--keep {dir:?}: the directory holds files that are not the demo's"
        )));
    }
    fs::write(&mark, MARK_TEXT).map_err(tell("write to"))?;
    for folder in FOLDERS.map(|folder| root.join(folder)).iter().filter(|folder| folder.exists()) {
        fs::remove_dir_all(folder).map_err(Error::io(format!("remove {folder:?} of an older run")))?;
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_run_is_replaced_and_a_strangers_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let pod = dir.path().join("pod");
        let first = Volumes::create(Some(&pod)).unwrap();
        first.write("logs/app.log", "INFO seq=1 hello\n").unwrap();
        assert_eq!(first.written().unwrap(), Written { numbers: [1].into(), files: 1, bytes: 17 });
        let second = Volumes::create(Some(&pod)).unwrap();
        assert_eq!(second.written().unwrap(), Written::default());
        assert!(second.is_kept());

        let refused = Volumes::create(Some(dir.path())).unwrap_err();
        assert!(refused.to_string().contains("not the demo's"), "{refused}");
        assert!(pod.is_dir());
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let volumes = Volumes::create(None).unwrap();
        volumes.write("log/ship.log", "one\ntwo\nthree\n").unwrap();
        assert_eq!(volumes.tail("ship", 2), ["two", "three"]);
        assert!(volumes.tail("seed", 2).is_empty());
    }

    #[test]
    fn the_ledger_is_the_last_one() {
        let volumes = Volumes::create(None).unwrap();
        assert_eq!(volumes.ledger(), None);
        let line = |read: u32| format!("{{\"ledger\":{{\"total\":{{\"read\":{read}}}}}}}\n");
        volumes.write("log/ship.log", &format!("INFO up\n{}{}", line(1), line(2))).unwrap();
        assert_eq!(volumes.ledger(), Some(serde_json::json!({"read": 2})));
    }
}
