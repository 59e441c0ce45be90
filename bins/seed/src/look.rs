//! What is in the target, held against what is wanted: reads and compares, never writes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use crate::before::none_if_gone;
use crate::config::Layout;
use crate::content::{Body, Content, Tree};
use crate::descent::Descent;
use crate::dir::{Dir, Kind};
use crate::path::RelPath;
use crate::plan::{Found, FoundTree, Seen, SeenTree};
use crate::state::State;

/// Two pieces are held while two files are compared, so that a large file is not held in memory twice.
const PIECE: usize = 16 << 10;

/// Who a file belongs to if the config says nothing: whoever makes our directories. Asked of a directory and not of
/// the kernel, for a network volume may give our files to someone else.
type User = Option<u32>;

/// All files of a generation.
pub(crate) fn generation(target: &Dir, name: &OsStr, wanted: &Tree) -> io::Result<SeenTree> {
    let user = Some(target.stat(name)?.st_uid);
    let mut seen = SeenTree::new();
    compare(&target.dir(name)?, None, wanted, user, &mut seen)?;
    Ok(seen)
}

/// Compares the files below `dir` with what is wanted there.
fn compare(
    dir: &Dir,
    at: Option<&RelPath>,
    wanted: &Tree,
    user: User,
    seen: &mut SeenTree,
) -> io::Result<()> {
    for (name, kind) in dir.entries()? {
        let path = match at {
            Some(at) => at.join(&name),
            None => RelPath::parse(Path::new(&name)),
        };
        // A path that we would not have written: it goes with its generation, and is no file of ours to tell of.
        let Ok(path) = path else { continue };
        match kind {
            Kind::Directory => compare(&dir.dir(&name)?, Some(&path), wanted, user, seen)?,
            Kind::File => {
                let found = look(dir, &name, wanted.get(&path), user)?;
                seen.insert(path, found);
            }
            Kind::Link | Kind::Other => {
                seen.insert(path, Seen { size: 0, same: false });
            }
        }
    }
    Ok(())
}

/// What stands at the places of the plain layout: where it is wanted, or where an earlier run used it.
pub(crate) fn found(target: &Dir, wanted: &Tree, state: &State, layout: Layout) -> io::Result<FoundTree> {
    let files = state.files.keys().chain(&state.directories).map(|key| &key.0);
    let mut paths: BTreeSet<RelPath> = files.cloned().collect();
    if layout == Layout::Plain {
        for path in wanted.keys() {
            paths.extend(path.parents());
            paths.insert(path.clone());
        }
    }
    let mut found = FoundTree::new();
    let mut descent = Descent::new(target);
    for path in paths {
        let Some(dir) = none_if_gone(descent.above(&path))? else { continue };
        let name = path.last();
        let what = match dir.kind(name)? {
            None => continue,
            Some(Kind::File) => Found::File(look(dir, name, wanted.get(&path), None)?),
            Some(Kind::Link) => Found::Link(dir.link(name)?),
            Some(Kind::Other) => Found::Other,
            Some(Kind::Directory) => Found::Directory {
                only_ours: state.directories.contains(&path) && is_ours(&dir.dir(name)?, &path, state)?,
            },
        };
        found.insert(path, what);
    }
    Ok(found)
}

/// The files among them.
pub(crate) fn files(found: &FoundTree) -> SeenTree {
    let files = found.iter().filter_map(|(path, what)| match what {
        Found::File(seen) => Some((path.clone(), *seen)),
        _ => None,
    });
    files.collect()
}

/// Whether all below the directory is ours.
fn is_ours(dir: &Dir, at: &RelPath, state: &State) -> io::Result<bool> {
    for (name, kind) in dir.entries()? {
        let is_ours = match (at.join(&name), kind) {
            (Ok(path), Kind::File) => state.files.contains_key(&path),
            (Ok(path), Kind::Directory) => {
                state.directories.contains(&path) && is_ours(&dir.dir(&name)?, &path, state)?
            }
            _ => false,
        };
        if !is_ours {
            return Ok(false);
        }
    }
    Ok(true)
}

fn look(dir: &Dir, name: &OsStr, wanted: Option<&Content>, user: User) -> io::Result<Seen> {
    let seen = || -> io::Result<Seen> {
        let file = dir.file(name)?;
        let metadata = file.metadata()?;
        let same = match wanted {
            Some(wanted) => {
                is_as_wanted(&metadata, wanted, user) && same_bytes(file, &metadata, &wanted.body)?
            }
            None => false,
        };
        Ok(Seen { size: metadata.len(), same })
    };
    match seen() {
        // A file that we may not read cannot be known to be the same.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Seen { size: 0, same: false }),
        seen => seen,
    }
}

/// All but the bytes. The group is compared only where it is asked for: a volume with `fsGroup` gives its own.
fn is_as_wanted(metadata: &Metadata, wanted: &Content, user: User) -> bool {
    let owner = match wanted.owner {
        Some(owner) => (metadata.uid(), metadata.gid()) == (owner.user, owner.group),
        None => user.is_none_or(|user| metadata.uid() == user),
    };
    owner
        && metadata.is_file()
        && metadata.len() == wanted.body.len()
        && metadata.permissions().mode() & 0o7777 == wanted.mode
}

fn same_bytes(mut file: File, metadata: &Metadata, wanted: &Body) -> io::Result<bool> {
    if let Some(wanted) = wanted.file()? {
        let wanted = wanted.metadata()?;
        if (wanted.dev(), wanted.ino()) == (metadata.dev(), metadata.ino()) {
            return Ok(true);
        }
    }
    let mut wanted = wanted.reader();
    let (mut piece, mut other) = ([0; PIECE], [0; PIECE]);
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(wanted.read(&mut other[..1])? == 0);
        }
        if wanted.read_exact(&mut other[..read]).is_err() || piece[..read] != other[..read] {
            return Ok(false);
        }
    }
}
