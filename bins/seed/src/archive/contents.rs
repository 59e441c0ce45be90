//! What an archive holds, by name, until all of it is known; then the tree of files that it stands for.
//!
//! There are no links in the tree: each one that stays inside the archive becomes a copy of what it leads to, and one
//! that leads out is refused. So no later step has to ask where a link goes. Pure.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Component, Path, PathBuf};

use super::budget::Budget;
use super::{Stop, refuse};
use crate::content::{Body, Content, Tree};
use crate::path::RelPath;

/// As many links in a row as the kernel follows (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// All entries of an archive.
#[derive(Debug, Default)]
pub(super) struct Contents(BTreeMap<PathBuf, Unpacked>);

/// One entry.
#[derive(Debug, Clone)]
pub(super) enum Unpacked {
    File(Body, u32),
    Directory,
    /// A symlink with its text.
    Link(PathBuf),
}

impl Contents {
    /// Adds an entry, of which there must be no other at its place or in its way. A directory may come again.
    pub(super) fn add(&mut self, path: &RelPath, entry: Unpacked) -> Result<(), Stop> {
        let path = path.as_path();
        let is_directory = matches!(entry, Unpacked::Directory);
        for above in path.ancestors().skip(1) {
            if !matches!(self.0.get(above), None | Some(Unpacked::Directory)) {
                return refuse(format!("{above:?} is a file in it, and a directory"));
            }
        }
        if !is_directory && self.has_below(path) {
            return refuse(format!("{path:?} is a file in it, and a directory"));
        }
        match self.0.insert(path.to_owned(), entry) {
            None => Ok(()),
            Some(Unpacked::Directory) if is_directory => Ok(()),
            Some(before) if is_directory || matches!(before, Unpacked::Directory) => {
                refuse(format!("{path:?} is a file in it, and a directory"))
            }
            Some(_) => refuse(format!("{path:?} is in it twice")),
        }
    }

    /// The file that an earlier entry holds.
    pub(super) fn file(&self, path: &RelPath) -> Option<&Unpacked> {
        self.0.get(path.as_path()).filter(|entry| matches!(entry, Unpacked::File(..)))
    }

    /// All files below `at`, without the first `strip` names of each.
    pub(super) fn into_tree(self, at: &RelPath, strip: usize, budget: &Budget<'_>) -> Result<Tree, Stop> {
        let mut files = Vec::new();
        for (path, entry) in &self.0 {
            self.expand(path.clone(), path, entry, &mut Vec::new(), budget, &mut files)?;
        }
        // Once more through the same checks: names that differ in what is left out may now be the same.
        let mut stripped = Self::default();
        for (path, body, mode) in files {
            let rest: PathBuf = path.iter().skip(strip).collect();
            if !rest.as_os_str().is_empty() {
                stripped.add(&relative(&rest)?, Unpacked::File(body, mode))?;
            }
        }
        let mut tree = Tree::new();
        for (path, entry) in stripped.0 {
            if let Unpacked::File(body, mode) = entry {
                tree.insert(relative(&at.as_path().join(path))?, Content::new(body, mode));
            }
        }
        Ok(tree)
    }

    /// The files that the entry `from` stands for, to be at `to`. `open` are the directories that are being copied.
    fn expand(
        &self,
        to: PathBuf,
        from: &Path,
        entry: &Unpacked,
        open: &mut Vec<PathBuf>,
        budget: &Budget<'_>,
        files: &mut Vec<(PathBuf, Body, u32)>,
    ) -> Result<(), Stop> {
        let text = match entry {
            Unpacked::Directory => return Ok(()),
            Unpacked::File(body, mode) => {
                files.push((to, body.clone(), *mode));
                return Ok(());
            }
            Unpacked::Link(text) => text,
        };
        let what = format!("{from:?} is a link to {text:?}");
        let above = from.parent().unwrap_or(Path::new(""));
        let leads_to = match self.follow(above, text, &mut 0) {
            Ok(path) => path,
            Err(why) => return refuse(format!("{what}, which {why}")),
        };
        budget.entry()?;
        if let Some(Unpacked::File(body, mode)) = self.0.get(&leads_to) {
            budget.take(body.len())?;
            files.push((to, body.clone(), *mode));
            return Ok(());
        }
        if !leads_to.as_os_str().is_empty() && !self.0.contains_key(&leads_to) && !self.has_below(&leads_to) {
            return refuse(format!("{what}, which is not in the archive"));
        }
        if from.starts_with(&leads_to) || open.contains(&leads_to) {
            return refuse(format!("{what}, and so contains itself"));
        }
        open.push(leads_to.clone());
        for (path, entry) in self.below(&leads_to) {
            let Ok(rest) = path.strip_prefix(&leads_to) else { break };
            if let Unpacked::File(body, _) = entry {
                budget.entry()?;
                budget.take(body.len())?;
            }
            self.expand(relative(&to.join(rest))?.as_path().to_owned(), path, entry, open, budget, files)?;
        }
        open.pop();
        Ok(())
    }

    /// Where `text` leads from the directory `from`, as the kernel would go; the empty path is the archive's top.
    fn follow(&self, from: &Path, text: &Path, links: &mut usize) -> Result<PathBuf, &'static str> {
        let mut path = from.to_owned();
        for component in text.components() {
            match component {
                Component::CurDir => {}
                Component::ParentDir if path.pop() => {}
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    return Err("leads out of the archive");
                }
                Component::Normal(name) => {
                    if let Some(Unpacked::Link(text)) = self.0.get(&path.join(name)) {
                        *links += 1;
                        if *links > MAX_LINKS {
                            return Err("leads through too many links");
                        }
                        path = self.follow(&path, text, links)?;
                    } else {
                        path.push(name);
                    }
                }
            }
        }
        Ok(path)
    }

    fn has_below(&self, path: &Path) -> bool {
        self.below(path).next().is_some()
    }

    /// All entries below a directory. Paths are ordered name by name, so they stand together right after it.
    fn below(&self, path: &Path) -> impl Iterator<Item = (&PathBuf, &Unpacked)> {
        let path = path.to_owned();
        self.0
            .range::<Path, _>((Bound::Excluded(path.as_path()), Bound::Unbounded))
            .take_while(move |(below, _)| below.starts_with(&path))
    }
}

fn relative(path: &Path) -> Result<RelPath, Stop> {
    RelPath::parse(path).map_err(|bad| Stop::Refused(format!("the name of an entry cannot be used: {bad}")))
}
