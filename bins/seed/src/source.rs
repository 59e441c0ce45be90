//! Reads inputs: templates, values, files and directories to copy. The only place that opens an input.
//!
//! A mounted ConfigMap or Secret changes by a swap of its `..data` link, at any moment. [`Sources`] remembers each
//! such link that lies above an input, so that its owner can tell whether all inputs are of one time, and read them
//! again if not. Never writes.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use podkit_cli::read_whole_of;

use crate::content::{Content, Spooler, Tree};
use crate::error::Error;
use crate::generation::DATA;
use crate::inputs::Inputs;
use crate::path::RelPath;

/// Deeper than any volume of config; more means a directory that contains itself through a mount.
const MAX_DEPTH: usize = 64;

/// Files are copied in pieces of this size.
const PIECE: usize = 64 << 10;

/// What an input is, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputKind {
    File,
    Directory,
}

/// All inputs of one attempt.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// Directories above the inputs, each with its `..data` link as it was at first sight.
    data_links: Mutex<BTreeMap<PathBuf, Option<DataLink>>>,
    /// All that was opened, or looked for.
    pub(crate) inputs: Inputs,
}

impl Sources {
    /// A directory whose volume was swapped since it was first read, if there is one.
    pub(crate) fn swapped(&self) -> Option<PathBuf> {
        let links = self.data_links.lock().unwrap_or_else(PoisonError::into_inner);
        links.iter().find(|(dir, was)| data_link(dir) != **was).map(|(dir, _)| dir.clone())
    }

    /// Whether the input is a file or a directory.
    pub(crate) fn kind(&self, path: &Path) -> Result<InputKind, Error> {
        self.remember(path);
        let metadata = fs::metadata(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Ok(if metadata.is_dir() { InputKind::Directory } else { InputKind::File })
    }

    /// A text file.
    pub(crate) fn text(&self, path: &Path) -> Result<String, Error> {
        let (file, metadata) = self.open(path)?;
        let bytes = read_whole_of(file, metadata.len())
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let line = 1 + error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
            Error::Input { path: path.to_owned(), why: format!("it is not UTF-8 text (line {line})") }
        })
    }

    /// A copy of a file, which may change while it is read again, and its permission bits; setuid, setgid and sticky are not carried over.
    pub(crate) fn file(&self, path: &Path, spooler: &Spooler) -> Result<Content, Error> {
        let (mut file, metadata) = self.open(path)?;
        let mut spool = spooler.begin();
        let mut piece =
            vec![0; PIECE.min(usize::try_from(metadata.len()).unwrap_or(PIECE).saturating_add(1))];
        loop {
            let read =
                file.read(&mut piece).map_err(|source| Error::Read { path: path.to_owned(), source })?;
            if read == 0 {
                return Ok(Content::new(spool.finish(), metadata.permissions().mode() & 0o777));
            }
            spool
                .write_all(&piece[..read])
                .map_err(|source| spooler.cannot_keep(format!("a copy of {path:?}"), source))?;
        }
    }

    fn open(&self, path: &Path) -> Result<(File, Metadata), Error> {
        self.remember(path);
        match open_regular(path) {
            Ok(Some(opened)) => Ok(opened),
            Ok(None) => {
                Err(Error::Input { path: path.to_owned(), why: "it is not a regular file".to_owned() })
            }
            Err(source) => Err(Error::Read { path: path.to_owned(), source }),
        }
    }

    /// All files below a directory, as `at/…`. Links are followed; names that begin with `..` are the machinery of
    /// a Kubernetes volume and are left out. Empty directories are not carried over.
    pub(crate) fn directory(&self, path: &Path, at: &RelPath, spooler: &Spooler) -> Result<Tree, Error> {
        let mut tree = Tree::new();
        self.walk(path, at, spooler, &mut Vec::new(), &mut tree)?;
        Ok(tree)
    }

    fn walk(
        &self,
        dir: &Path,
        at: &RelPath,
        spooler: &Spooler,
        above: &mut Vec<(u64, u64)>,
        tree: &mut Tree,
    ) -> Result<(), Error> {
        let cannot_read = |source| Error::Read { path: dir.to_owned(), source };
        let unusable = |path: &Path, why: String| Error::Input { path: path.to_owned(), why };
        self.remember(dir);
        let metadata = fs::metadata(dir).map_err(cannot_read)?;
        let identity = (metadata.dev(), metadata.ino());
        if above.contains(&identity) {
            return Err(unusable(dir, "the directory contains itself through a link".to_owned()));
        }
        if above.len() == MAX_DEPTH {
            return Err(unusable(dir, format!("directories are nested more than {MAX_DEPTH} deep")));
        }
        above.push(identity);
        for entry in fs::read_dir(dir).map_err(cannot_read)? {
            let name = entry.map_err(cannot_read)?.file_name();
            if name.as_encoded_bytes().starts_with(b"..") {
                continue;
            }
            let path = dir.join(&name);
            let at = at.join(&name).map_err(|why| unusable(&path, why.to_string()))?;
            match self.kind(&path)? {
                InputKind::Directory => self.walk(&path, &at, spooler, above, tree)?,
                InputKind::File => {
                    tree.insert(at, self.file(&path, spooler)?);
                }
            }
        }
        above.pop();
        Ok(())
    }

    /// Remembers the `..data` links of an input, if it is a directory, and of all directories above it.
    fn remember(&self, path: &Path) {
        self.inputs.note(path);
        let mut links = self.data_links.lock().unwrap_or_else(PoisonError::into_inner);
        for dir in path.ancestors() {
            let link = links.entry(dir.to_owned()).or_insert_with(|| data_link(dir));
            if link.is_some() {
                self.inputs.note(&dir.join(DATA));
            }
        }
    }
}

/// A `..data` link: where it points, its inode, and when that was last changed. Each swap makes a new one, also where it
/// points to where another one did.
#[derive(Debug, PartialEq, Eq)]
struct DataLink {
    to: PathBuf,
    inode: u64,
    changed: (i64, i64),
}

fn data_link(dir: &Path) -> Option<DataLink> {
    let path = dir.join(DATA);
    let to = fs::read_link(&path).ok()?;
    let metadata = fs::symlink_metadata(&path).ok()?;
    Some(DataLink { to, inode: metadata.ino(), changed: (metadata.ctime(), metadata.ctime_nsec()) })
}

/// A regular file, opened, or `None` if it is something else: a pipe would block, a device never end.
fn open_regular(path: &Path) -> io::Result<Option<(File, Metadata)>> {
    let file: File =
        OpenOptions::new().read(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(path)?;
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then_some((file, metadata)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_volume_of_kubernetes_is_read_through_its_links() {
        let root = tempfile::tempdir().unwrap();
        let volume = root.path();
        fs::create_dir_all(volume.join("..2026_x/sub")).unwrap();
        fs::write(volume.join("..2026_x/a"), "A").unwrap();
        fs::write(volume.join("..2026_x/sub/b"), "B").unwrap();
        symlink("..2026_x", volume.join("..data")).unwrap();
        symlink("..data/a", volume.join("a")).unwrap();
        symlink("..data/sub", volume.join("sub")).unwrap();

        let sources = Sources::default();
        let tree = sources.directory(volume, &RelPath::parse("x").unwrap(), &Spooler::default()).unwrap();
        let paths: Vec<String> = tree.keys().map(ToString::to_string).collect();
        assert_eq!(paths, ["x/a", "x/sub/b"]);
        assert_eq!(sources.swapped(), None);

        // As the kubelet does it. To where it was before is a swap, too: there may have been another one between.
        for to in ["..2026_y", "..2026_x"] {
            symlink(to, volume.join("..data_tmp")).unwrap();
            fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
            assert_eq!(sources.swapped(), Some(volume.to_owned()));
        }
    }

    #[test]
    fn a_directory_that_contains_itself_ends() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("sub")).unwrap();
        symlink(root.path(), root.path().join("sub/up")).unwrap();
        let error = Sources::default()
            .directory(root.path(), &RelPath::parse("x").unwrap(), &Spooler::default())
            .unwrap_err();
        assert!(error.to_string().ends_with("the directory contains itself through a link"), "{error}");
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let error = Sources::default().file(Path::new("/dev/zero"), &Spooler::default()).unwrap_err();
        assert_eq!(error.to_string(), "cannot use \"/dev/zero\": it is not a regular file");
    }
}
