//! Finds what a template includes, imports or extends: only in the one directory of the config.
//!
//! A name cannot lead out of the directory, by its text or through a link on the disk; the links of a mounted
//! ConfigMap stay within it and are followed.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use minijinja::Environment;

use super::explain::ours;
use super::guard;
use crate::source::{InputKind, Sources};

/// Lets templates include others.
pub(super) fn add(engine: &mut Environment<'static>, directory: Option<PathBuf>, sources: &Arc<Sources>) {
    let sources = Arc::clone(sources);
    // Each file is read once in an attempt: a swapped volume makes a new attempt.
    engine.set_auto_reload(false);
    engine.set_loader(move |name| match &directory {
        Some(directory) => load(directory, name, &sources),
        None => {
            Err(ours(format!("the template {name:?} is included, and there is no directory `templates`")))
        }
    });
}

/// The text of a template; `None` if there is none of that name, which an include may ignore.
fn load(directory: &Path, name: &str, sources: &Sources) -> Result<Option<String>, minijinja::Error> {
    let leaves =
        || ours(format!("the template {name:?} is outside of {directory:?}, the directory `templates`"));
    let typed = Path::new(name);
    if name.is_empty()
        || name.contains('\0')
        || !typed.components().all(|part| matches!(part, Component::Normal(_)))
    {
        return Err(leaves());
    }
    let path = directory.join(typed);
    match sources.kind(&path) {
        Ok(InputKind::File) => {}
        Ok(InputKind::Directory) => return Err(ours(format!("the template {name:?} is a directory"))),
        Err(_) if !path.exists() => return Ok(None),
        Err(error) => return Err(ours(podkit_cli::chain(&error))),
    }
    // The links are resolved once, and what they led to is read: so no other file can take its place in between.
    let real = |path: &Path| {
        fs::canonicalize(path).map_err(|error| {
            ours(format!("cannot read the template {name:?}: {}", podkit_cli::chain(&error)))
        })
    };
    let (within, found) = (real(directory)?, real(&path)?);
    if !found.starts_with(within) {
        return Err(leaves());
    }
    let text = sources.text(&found).map_err(|error| ours(podkit_cli::chain(&error)))?;
    guard::refuse(&text).map_err(|why| ours(format!("the template {name:?}, {why}")))?;
    Ok(Some(text))
}

/// The names that an include could have meant.
pub(super) fn names(directory: &Path) -> Vec<String> {
    /// Only for a hint: a directory with more is not looked through.
    const ENOUGH: usize = 1000;
    let mut names = Vec::new();
    let mut below = vec![PathBuf::new()];
    while let Some(dir) = below.pop() {
        for entry in fs::read_dir(directory.join(&dir)).into_iter().flatten().flatten() {
            let (name, path) = (entry.file_name(), dir.join(entry.file_name()));
            if name.as_encoded_bytes().starts_with(b"..") || names.len() > ENOUGH {
                continue;
            }
            // Links to directories are followed at the top only, where a mounted volume has them.
            let is_dir = if dir.as_os_str().is_empty() {
                directory.join(&path).is_dir()
            } else {
                entry.file_type().is_ok_and(|kind| kind.is_dir())
            };
            match path.to_str() {
                Some(_) if is_dir => below.push(path),
                Some(path) => names.push(path.to_owned()),
                None => {}
            }
        }
    }
    names
}
