//! What is in force before this run, to read from: files in either layout, and what the last run remembered. Opened
//! name by name, no link followed; never writes.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::sys::stat::FileStat;

use crate::content::{Body, Content, Tree};
use crate::dir::{Dir, Kind, kind_of};
use crate::error::Error;
use crate::path::RelPath;
use crate::state::{Download, MAX_STATE, STATE, Seal, Sealer, State, Validators};
use crate::target::Target;

/// What was there before: nothing, where nothing was seeded yet.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// The generation in force, or in the plain layout the target; nothing, where nothing was seeded yet.
    root: Option<Arc<Dir>>,
    /// Whether the root is a generation, in which every file is ours.
    is_generation: bool,
    /// What the last run remembered.
    pub(crate) state: State,
    /// Whether it left something that is of no use.
    pub(crate) is_state_lost: bool,
}

impl Before {
    /// Looks at what is in force.
    ///
    /// # Errors
    /// The target cannot be read, or `..data` is not ours.
    pub(crate) fn look(target: &Target) -> Result<Self, Error> {
        let (state, is_state_lost) = match read_state(target) {
            Some(state) => (state, false),
            None => (State::default(), true),
        };
        let seen = match target.generation()? {
            Some(generation) => Self { state, ..Self::of_generation(generation) },
            None => Self::of_plain(Arc::clone(&target.dir), state),
        };
        Ok(Self { is_state_lost, ..seen })
    }

    /// The files of a generation, with nothing remembered.
    pub(crate) fn of_generation(generation: Dir) -> Self {
        Self { root: Some(Arc::new(generation)), is_generation: true, ..Self::default() }
    }

    /// The files of the plain layout that the state tells of.
    pub(crate) fn of_plain(target: Arc<Dir>, state: State) -> Self {
        Self { root: (!state.files.is_empty()).then_some(target), state, ..Self::default() }
    }

    /// A file in force, if it is there, is a regular file, and is ours.
    pub(crate) fn file(&self, path: &RelPath) -> io::Result<Option<File>> {
        let Some(root) = self.root_of(path) else { return Ok(None) };
        none_if_gone(root.file_at(path))
    }

    /// When the file in force was last written to.
    pub(crate) fn modified(&self, path: &RelPath) -> Option<SystemTime> {
        self.file(path).ok()??.metadata().ok()?.modified().ok()
    }

    /// Gives the file in force a second name in `into`, the last of its path.
    ///
    /// # Errors
    /// Also where the file system or the kernel's `fs.protected_hardlinks` forbid it, or the file was swapped for a link.
    pub(crate) fn link_into(&self, into: &Dir, path: &RelPath) -> io::Result<()> {
        let root = self.root_of(path).ok_or(io::ErrorKind::NotFound)?;
        let (above, name) = root.above(path)?;
        into.link_file(name, above.as_ref().unwrap_or(root), name)?;
        if into.kind(name)? == Some(Kind::File) {
            return Ok(());
        }
        into.unlink(name)?;
        Err(io::ErrorKind::InvalidData.into())
    }

    /// A file in force as content, as [`file`](Self::file): its mode, its bytes, not read yet.
    pub(crate) fn content(&self, path: &RelPath) -> io::Result<Option<Content>> {
        let Some(root) = self.root_of(path) else { return Ok(None) };
        let Some(stat) = none_if_gone(root.stat_at(path))? else { return Ok(None) };
        Ok((kind_of(&stat) == Kind::File).then(|| kept(root, path, &stat)))
    }

    /// All files in force at or below `path`, as [`content`](Self::content).
    pub(crate) fn tree(&self, path: &RelPath) -> io::Result<Tree> {
        let mut tree = Tree::new();
        if let Some(root) = &self.root {
            self.each_below(path, &mut |path, stat| {
                tree.insert(path.clone(), kept(root, path, stat));
            })?;
        }
        Ok(tree)
    }

    /// How the server named the version that is in force at `path`, of a file or an archive; nothing if a file of it
    /// was changed or removed since.
    pub(crate) fn validators(&self, path: &RelPath) -> Option<&Validators> {
        self.download(path)?.validators.as_ref()
    }

    /// SHA-256 of the archive of which [`tree`](Self::tree) gives the files; nothing if one was changed or removed since.
    pub(crate) fn archive_sum(&self, path: &RelPath) -> Option<[u8; 32]> {
        self.download(path)?.sum
    }

    fn download(&self, path: &RelPath) -> Option<&Download> {
        let known = self.state.downloads.get(path)?;
        (self.seal(path).ok()?? == known.seal).then_some(known)
    }

    /// The seal over all files at or below `path`; nothing if there are none.
    pub(crate) fn seal(&self, path: &RelPath) -> io::Result<Option<Seal>> {
        let mut sealer = None;
        self.each_below(path, &mut |path, stat| {
            sealer.get_or_insert_with(Sealer::default).add_stat(path, stat);
        })?;
        Ok(sealer.map(|sealer| sealer.seal()))
    }

    fn root_of(&self, path: &RelPath) -> Option<&Arc<Dir>> {
        let root = self.root.as_ref()?;
        (self.is_generation || self.state.files.contains_key(path)).then_some(root)
    }

    /// Calls `visit` for each of our regular files at or below `path`, in the order of their paths' names.
    fn each_below(&self, path: &RelPath, visit: &mut dyn FnMut(&RelPath, &FileStat)) -> io::Result<()> {
        let Some(root) = &self.root else { return Ok(()) };
        if !self.is_generation {
            let ours = self.state.files.range::<RelPath, _>(path..).map(|(key, _)| &key.0);
            for ours in ours.take_while(|ours| ours.is_within(path)) {
                match none_if_gone(root.stat_at(ours))? {
                    Some(stat) if kind_of(&stat) == Kind::File => visit(ours, &stat),
                    _ => {}
                }
            }
            return Ok(());
        }
        let Some(stat) = none_if_gone(root.stat_at(path))? else { return Ok(()) };
        match kind_of(&stat) {
            Kind::File => visit(path, &stat),
            Kind::Directory => walk(&root.dir_at(path)?, path, visit)?,
            Kind::Link | Kind::Other => {}
        }
        Ok(())
    }
}

fn walk(dir: &Dir, at: &RelPath, visit: &mut dyn FnMut(&RelPath, &FileStat)) -> io::Result<()> {
    for (name, kind) in dir.entries()? {
        let Ok(path) = at.join(&name) else { continue };
        match kind {
            Kind::Directory => walk(&dir.dir(&name)?, &path, visit)?,
            Kind::File => visit(&path, &dir.stat(&name)?),
            Kind::Link | Kind::Other => {}
        }
    }
    Ok(())
}

fn kept(root: &Arc<Dir>, path: &RelPath, stat: &FileStat) -> Content {
    let length = u64::try_from(stat.st_size).unwrap_or_default();
    Content::new(Body::Kept(Arc::clone(root), path.clone(), length), stat.st_mode & 0o777)
}

impl Sealer {
    /// Adds a file by what the kernel tells of it.
    pub(crate) fn add_stat(&mut self, path: &RelPath, stat: &FileStat) {
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        self.add(path, stat.st_ino, size, (stat.st_mtime, stat.st_mtime_nsec));
    }
}

/// A path of which a directory is missing, or is now a file or a link, leads to no file of ours.
pub(crate) fn none_if_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(Errno::ELOOP as i32)
}

/// What the last run remembered; `None` if that is of no use. It is never needed, so nothing that is wrong with it ends
/// a run.
fn read_state(target: &Target) -> Option<State> {
    let name = OsStr::new(STATE);
    let read = || -> io::Result<Option<Vec<u8>>> {
        let file = match target.dir.file(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_STATE).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    };
    let parsed = match read() {
        Ok(None) => return Some(State::default()),
        Ok(Some(bytes)) => State::parse(&bytes).map_err(io::Error::from),
        Err(error) => Err(error),
    };
    let told = |error: &io::Error| {
        let path = target.show(name);
        let error = podkit_cli::chain(error);
        tracing::warn!(?path, error, "cannot use what the last run remembered; going on without");
    };
    parsed.inspect_err(told).ok()
}
