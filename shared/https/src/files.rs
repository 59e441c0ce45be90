//! Files that hold secrets and certificates, read again when they change.
//!
//! Compared by content, since a Secret's volume swaps links and keeps times. What cannot be read now stays as it
//! was: a rotation that is half done must not stop the work.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use podkit_cli::{chain, read_whole};

/// Between looks: a rotated token is in force within this time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The content of some files, as it was when it was last good.
#[derive(Debug)]
pub(crate) struct Files {
    files: Vec<(PathBuf, Vec<u8>)>,
    looked: Instant,
    is_complaining: bool,
}

impl Files {
    /// Reads them for the first time.
    ///
    /// # Errors
    /// The path and reason of the first that cannot be read.
    pub(crate) fn read(paths: impl IntoIterator<Item = PathBuf>) -> Result<Self, (PathBuf, io::Error)> {
        let read = |path: PathBuf| match read_whole(&path) {
            Ok(content) => Ok((path, content)),
            Err(error) => Err((path, error)),
        };
        let files = paths.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { files, looked: Instant::now(), is_complaining: false })
    }

    pub(crate) fn content(&self, path: &Path) -> &[u8] {
        self.files.iter().find(|(known, _)| known == path).map_or(&[], |(_, content)| content)
    }

    /// Reads them again, if the last look is not too recent; true where one of them changed.
    pub(crate) fn have_changed(&mut self) -> bool {
        if self.files.is_empty() || self.looked.elapsed() < LOOK_EVERY {
            return false;
        }
        self.looked = Instant::now();
        let (mut changed, mut failed) = (false, None);
        for (path, content) in &mut self.files {
            match read_whole(path) {
                Ok(now) => {
                    changed |= now != *content;
                    *content = now;
                }
                Err(error) => failed = Some((path, error)),
            }
        }
        match failed {
            Some((path, error)) if !std::mem::replace(&mut self.is_complaining, true) => {
                let error = chain(&error);
                tracing::warn!("cannot read {path:?} again: {error}; going on with what it held before");
            }
            Some(_) => {}
            None => self.is_complaining = false,
        }
        changed
    }
}
