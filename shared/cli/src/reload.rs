//! Reads the same configuration again: the same arguments and environment, and the file as it is now.
//!
//! Watches nothing: whoever runs asks once a second, or when a watch of its own sees the directory change. A new
//! config is handed over and no more: what of it is applied, and when, is the caller's business, and so are the
//! files that the config names. Only the log level is applied here.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::command::{Call, Tool};
use crate::failure::{Failure, chain};
use crate::logging;
use crate::section::Section;
use crate::settings;
use crate::whole::read_whole;

/// How long new content must have stayed the same before it counts: `cp` and editors write a file in parts, and the
/// first part of a YAML file is often a valid one. A `..data` swap waits this long for nothing, which nobody notices.
const SETTLED: Duration = Duration::from_millis(500);

type Read<C> = dyn Fn(&Section<'_>) -> Option<C> + Send;

/// A config that can be read again while the binary runs.
pub struct Reload<C> {
    tool: &'static Tool,
    call: Call,
    read: Box<Read<C>>,
    /// What the file held when it was read last, rightly or wrongly, or why it could not be read.
    seen: Option<u64>,
    /// Other content, and when it was first found.
    unsettled: Option<(u64, Instant)>,
    log: Option<logging::Settings>,
}

impl<C> Reload<C> {
    pub(crate) fn new(
        tool: &'static Tool,
        call: Call,
        read: impl Fn(&Section<'_>) -> Option<C> + Send + 'static,
    ) -> Self {
        Self { tool, call, read: Box::new(read), seen: None, unsettled: None, log: None }
    }

    /// The first reading: as [`read_again`](Self::read_again), with the settings of the log.
    pub(crate) fn first(&mut self) -> Result<(C, logging::Settings), Failure> {
        let content = settings::content(&self.call)?;
        self.load(content.as_deref())
    }

    /// The config file; its directory is what a watch must look at. `None` for a call without one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.call.config.as_deref()
    }

    /// Whether the file has new content: what it makes, with all its faults in one failure. `None` where the content
    /// is that of the last reading, or where there is no file or it is still being written. New content counts when a
    /// second look, at least half a second after the first, finds it unchanged: call it once a second. Faulty content
    /// is told once, and so is a file that cannot be read, or is too large to be.
    pub fn poll(&mut self) -> Option<Result<C, Failure>> {
        self.poll_at(Instant::now())
    }

    /// Reads the config now, whether the file has changed or not.
    ///
    /// # Errors
    /// All faults of the config, as at the start; or a file that cannot be read.
    pub fn read_again(&mut self) -> Result<C, Failure> {
        let content = settings::content(&self.call)?;
        self.apply(content.as_deref())
    }

    fn poll_at(&mut self, now: Instant) -> Option<Result<C, Failure>> {
        let path = self.call.config.as_ref()?;
        // A pipe can be read once: `--config <(…)`.
        let is_file = std::fs::metadata(path).is_ok_and(|meta| meta.is_file());
        let found = match is_file.then(|| read_whole(path)) {
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => None,
            // A file that is there and cannot be read is as faulty as one with a wrong key in it.
            found => found.map(|found| found.map_err(|error| chain(&error))),
        };
        let hash = found.as_ref().map(hash).filter(|hash| Some(*hash) != self.seen);
        match (hash, self.unsettled) {
            (Some(hash), Some((before, since))) if hash == before => {
                if now.saturating_duration_since(since) < SETTLED {
                    return None;
                }
                Some(match found? {
                    Ok(content) => self.apply(Some(&content)),
                    Err(why) => {
                        (self.seen, self.unsettled) = (Some(hash), None);
                        Err(settings::unreadable(path, &why))
                    }
                })
            }
            (found, _) => {
                self.unsettled = found.map(|hash| (hash, now));
                None
            }
        }
    }

    fn apply(&mut self, content: Option<&[u8]>) -> Result<C, Failure> {
        let old = self.log;
        let (config, new) = self.load(content)?;
        if let Some(old) = old {
            logging::change(old, new);
        }
        Ok(config)
    }

    fn load(&mut self, content: Option<&[u8]>) -> Result<(C, logging::Settings), Failure> {
        self.seen = content.map(|content| hash(&Ok(content)));
        self.unsettled = None;
        let (config, log) = settings::load(self.tool, &self.call, content, |root| {
            let log = logging::Settings::read(root);
            (self.read)(root).map(|config| (config, log))
        })?;
        self.log = Some(log);
        Ok((config, log))
    }
}

/// Of what was found: the content, or why it cannot be read.
fn hash<C: AsRef<[u8]>>(found: &Result<C, String>) -> u64 {
    let mut hasher = DefaultHasher::new();
    found.as_ref().map(AsRef::as_ref).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::{TOOL, call};
    use crate::units;
    use crate::whole::MAX_WHOLE;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    /// A config that is one directory, read from `t.yaml` of a directory.
    struct Mounted {
        dir: tempfile::TempDir,
        reload: Reload<PathBuf>,
        now: Instant,
    }

    fn state_dir(root: &Section<'_>) -> Option<PathBuf> {
        root.required("state_dir", units::path)
    }

    impl Mounted {
        fn new(name: &str, fill: impl FnOnce(&Path)) -> Self {
            let dir = tempfile::tempdir().unwrap();
            fill(dir.path());
            let call = call(&format!("--config {}", dir.path().join(name).display()));
            let mut reload = Reload::new(&TOOL, call, state_dir);
            reload.first().unwrap();
            Self { dir, reload, now: Instant::now() }
        }

        fn file() -> Self {
            Self::new("t.yaml", |dir| std::fs::write(dir.join("t.yaml"), "state_dir: /a\n").unwrap())
        }

        fn write(&self, text: &str) {
            std::fs::write(self.dir.path().join("t.yaml"), text).unwrap();
        }

        /// A look, a second after the one before.
        fn look(&mut self) -> Option<Result<String, String>> {
            self.now += Duration::from_secs(1);
            let found = self.reload.poll_at(self.now)?;
            let dir = self.dir.path().display().to_string();
            Some(found.map(|path| path.display().to_string()).map_err(|f| f.to_string().replace(&dir, "")))
        }
    }

    #[test]
    fn new_content_counts_once_when_it_has_settled() {
        let mut mounted = Mounted::file();
        assert_eq!((mounted.look(), mounted.look()), (None, None));
        mounted.write("state_dir: /b\n");
        assert_eq!(mounted.look(), None);
        mounted.write("state_dir: /b/c\n");
        assert_eq!(mounted.look(), None);
        assert_eq!(mounted.look(), Some(Ok("/b/c".into())));
        assert_eq!((mounted.look(), mounted.look()), (None, None));
    }

    #[test]
    fn looks_in_quick_succession_settle_nothing() {
        let mut mounted = Mounted::file();
        mounted.write("state_dir: /b\n");
        let now = mounted.now;
        assert!(mounted.reload.poll_at(now).is_none());
        assert!(mounted.reload.poll_at(now + SETTLED / 2).is_none());
        assert!(mounted.reload.poll_at(now + SETTLED).is_some());
    }

    #[test]
    fn the_same_content_written_again_is_no_change() {
        let mut mounted = Mounted::file();
        mounted.write("state_dir: /b\n");
        assert_eq!(mounted.look(), None);
        mounted.write("state_dir: /a\n");
        assert_eq!((mounted.look(), mounted.look(), mounted.look()), (None, None, None));
    }

    #[test]
    fn a_config_map_changes_by_its_data_link() {
        let swap = |dir: &Path, version: &str| {
            std::fs::create_dir(dir.join(version)).unwrap();
            std::fs::write(dir.join(version).join("t.yaml"), format!("state_dir: /{version}\n")).unwrap();
            symlink(version, dir.join("..data_tmp")).unwrap();
            std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
        };
        let mut mounted = Mounted::new("t.yaml", |dir| {
            swap(dir, "..1");
            symlink("..data/t.yaml", dir.join("t.yaml")).unwrap();
        });
        assert_eq!(mounted.look(), None);
        swap(mounted.dir.path(), "..2");
        assert_eq!((mounted.look(), mounted.look()), (None, Some(Ok("/..2".into()))));
    }

    #[test]
    fn faulty_content_is_told_once_with_all_its_faults() {
        let mut mounted = Mounted::file();
        mounted.write("state_dri: /b\nx: 1\n");
        assert_eq!(mounted.look(), None);
        let faults = mounted.look().unwrap().unwrap_err();
        assert!(
            faults.contains("/t.yaml:1: state_dri: unknown key (did you mean `state_dir`?); "),
            "{faults}"
        );
        assert!(faults.contains("/t.yaml:2: x: unknown key"), "{faults}");
        assert_eq!((mounted.look(), mounted.look()), (None, None));
        mounted.write("state_dir: /b\n");
        assert_eq!((mounted.look(), mounted.look()), (None, Some(Ok("/b".into()))));
    }

    #[test]
    fn a_file_that_is_gone_is_no_change_until_it_is_back() {
        let mut mounted = Mounted::file();
        std::fs::remove_file(mounted.dir.path().join("t.yaml")).unwrap();
        assert_eq!((mounted.look(), mounted.look()), (None, None));
        assert!(mounted.reload.read_again().unwrap_err().to_string().contains("cannot read the config file"));
        mounted.write("state_dir: /a\n");
        assert_eq!((mounted.look(), mounted.look()), (None, None));
        mounted.write("state_dir: /b\n");
        assert_eq!((mounted.look(), mounted.look()), (None, Some(Ok("/b".into()))));
    }

    #[test]
    fn a_file_that_has_grown_too_large_is_told_once() {
        let mut mounted = Mounted::file();
        let grow = |mounted: &Mounted, beyond: u64| {
            let file = std::fs::File::create(mounted.dir.path().join("t.yaml")).unwrap();
            file.set_len(MAX_WHOLE + beyond).unwrap();
        };
        grow(&mounted, 1);
        assert_eq!(mounted.look(), None);
        let fault = mounted.look().unwrap().unwrap_err();
        assert!(
            fault.contains("cannot read the config file \"/t.yaml\": it is larger than 16MiB"),
            "{fault}"
        );
        grow(&mounted, 2);
        assert_eq!((mounted.look(), mounted.look()), (None, None));
        mounted.write("state_dir: /b\n");
        assert_eq!((mounted.look(), mounted.look()), (None, Some(Ok("/b".into()))));
    }

    #[test]
    fn text_that_is_no_text_is_a_fault() {
        let mut mounted = Mounted::file();
        std::fs::write(mounted.dir.path().join("t.yaml"), b"state_dir: /\xff\n").unwrap();
        assert_eq!(mounted.look(), None);
        assert!(mounted.look().unwrap().unwrap_err().contains("byte 12 is not UTF-8"));
    }

    #[test]
    fn on_demand_it_is_read_at_once_and_then_no_news() {
        let mut mounted = Mounted::file();
        mounted.write("state_dir: /b\n");
        assert_eq!(mounted.reload.read_again().unwrap(), Path::new("/b"));
        assert_eq!((mounted.look(), mounted.look()), (None, None));
    }

    #[test]
    fn without_a_file_nothing_changes() {
        let mut reload = Reload::new(&TOOL, call("--state-dir /flag"), state_dir);
        assert_eq!(reload.first().unwrap().0, Path::new("/flag"));
        assert!(reload.path().is_none() && reload.poll().is_none());
        assert_eq!(reload.read_again().unwrap(), Path::new("/flag"));
    }
}
