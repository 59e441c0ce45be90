//! A path below the target, checked: what it may be, and which paths exclude each other.
//!
//! Pure. Whoever holds a [`RelPath`] knows that it cannot leave the target by its text; that no symlink on the disk
//! leads it out is the work of [`crate::dir`].

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use podkit_cli::Invalid;

/// The kernel's `NAME_MAX`: a longer name cannot be created on any common file system.
const NAME_MAX: usize = 255;
/// Well under the kernel's `PATH_MAX` of 4096, which counts the target's own path too.
const PATH_MAX: usize = 2048;

/// A relative path of ordinary names only: no `..`, no root, no control characters, not empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RelPath(PathBuf);

impl RelPath {
    /// Checks a path as typed; `./` and doubled slashes are dropped, a slash at the end too.
    ///
    /// # Errors
    /// What is wrong with it, in words that fit after the field's name.
    pub(crate) fn parse(text: impl AsRef<Path>) -> Result<Self, Invalid> {
        let typed = text.as_ref();
        let bytes = typed.as_os_str().as_bytes();
        let bad = |why: &str| Err(Invalid::new(format!("{typed:?} {why}")));
        if bytes.is_empty() {
            return Err(Invalid::new("the path is empty"));
        }
        if bytes.contains(&0) {
            return bad("has a NUL in it");
        }
        if bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            return bad("has a line break in it");
        }
        if bytes.len() > PATH_MAX {
            return Err(Invalid::new(format!("the path is longer than {PATH_MAX} bytes")));
        }
        let mut path = PathBuf::new();
        for component in typed.components() {
            match component {
                Component::Normal(name) if name.len() > NAME_MAX => {
                    return Err(Invalid::new(format!("a name in the path is longer than {NAME_MAX} bytes")));
                }
                Component::Normal(name)
                    if path.as_os_str().is_empty() && name.as_bytes().starts_with(b"..") =>
                {
                    return bad("begins with \"..\", which is kept for generations");
                }
                Component::Normal(name) => path.push(name),
                Component::CurDir => {}
                Component::ParentDir => {
                    return Err(Invalid::new(format!("{typed:?} has \"..\" in it"))
                        .hint("a path is relative to the target and stays below it"));
                }
                Component::RootDir | Component::Prefix(_) => {
                    return Err(Invalid::new(format!("{typed:?} is absolute"))
                        .hint("a path is relative to the target and stays below it"));
                }
            }
        }
        if path.as_os_str().is_empty() {
            return bad("names the target itself");
        }
        Ok(Self(path))
    }

    /// The same path, one name deeper.
    ///
    /// # Errors
    /// As [`RelPath::parse`], for names found on a disk.
    pub(crate) fn join(&self, name: &OsStr) -> Result<Self, Invalid> {
        Self::parse(self.0.join(name))
    }

    /// The first name: the one that is visible in the target.
    pub(crate) fn first(&self) -> &OsStr {
        self.names().next().unwrap_or_default()
    }

    /// The last name.
    pub(crate) fn last(&self) -> &OsStr {
        self.0.file_name().unwrap_or_default()
    }

    /// The names from the outermost directory to the file.
    pub(crate) fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.0.iter()
    }

    /// The names of the directories that lead to the file, outermost first.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &OsStr> {
        self.0.parent().into_iter().flat_map(Path::iter)
    }

    /// The directories above, nearest first, without the target itself.
    pub(crate) fn parents(&self) -> impl Iterator<Item = RelPath> {
        self.0
            .ancestors()
            .skip(1)
            .filter(|path| !path.as_os_str().is_empty())
            .map(|path| RelPath(path.to_owned()))
    }

    /// Whether it is the other path, or lies below it.
    pub(crate) fn is_within(&self, other: &RelPath) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The path as the system calls take it.
    pub(crate) fn as_path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// Two entries of the config that cannot both be there: `later` is the position of the one to complain about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Clash {
    /// Position of the later of the two.
    pub(crate) later: usize,
    /// What is wrong, in words that fit after the field's name.
    pub(crate) message: String,
}

/// All pairs of paths that name the same file, or of which one is a directory of the other.
pub(crate) fn clashes(paths: &[Option<RelPath>]) -> Vec<Clash> {
    let mut clashes = Vec::new();
    let mut first_at: BTreeMap<&RelPath, usize> = BTreeMap::new();
    let known = || paths.iter().enumerate().filter_map(|(at, path)| Some((at, path.as_ref()?)));
    for (at, path) in known() {
        match first_at.get(path) {
            Some(first) => {
                clashes.push(Clash {
                    later: at,
                    message: format!("\"{path}\" is also the path of files[{first}]"),
                });
            }
            None => {
                first_at.insert(path, at);
            }
        }
    }
    for (&path, &at) in &first_at {
        for above in path.parents() {
            let Some(&dir_at) = first_at.get(&above) else { continue };
            let message = if at > dir_at {
                format!("\"{path}\" lies in \"{above}\", which is the path of files[{dir_at}]")
            } else {
                format!("\"{above}\" is a directory of \"{path}\", the path of files[{at}]")
            };
            clashes.push(Clash { later: at.max(dir_at), message });
        }
    }
    clashes.sort_by_key(|clash| clash.later);
    clashes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_normalised() {
        for (typed, path) in
            [("a", "a"), ("./a", "a"), ("a//b", "a/b"), ("tls/", "tls"), ("a/./b", "a/b"), (".env", ".env")]
        {
            assert_eq!(RelPath::parse(typed).unwrap().to_string(), path);
        }
    }

    #[test]
    fn paths_that_could_leave_the_target_are_refused() {
        for (typed, why) in [
            ("", "the path is empty"),
            ("..", "\"..\" has \"..\" in it"),
            ("../a", "\"../a\" has \"..\" in it"),
            ("a/../../b", "\"a/../../b\" has \"..\" in it"),
            ("/etc/passwd", "\"/etc/passwd\" is absolute"),
            (".", "\".\" names the target itself"),
            ("a\0b", "\"a\\0b\" has a NUL in it"),
            ("a\nb", "\"a\\nb\" has a line break in it"),
            ("..data", "\"..data\" begins with \"..\", which is kept for generations"),
            ("..data/x", "\"..data/x\" begins with \"..\", which is kept for generations"),
        ] {
            assert_eq!(RelPath::parse(typed).unwrap_err().to_string(), why);
        }
        assert!(RelPath::parse("x".repeat(256)).is_err());
        assert!(RelPath::parse("x/".repeat(1100)).is_err());
    }

    fn clash_messages(paths: &[&str]) -> Vec<(usize, String)> {
        let paths: Vec<_> = paths.iter().map(|path| Some(RelPath::parse(path).unwrap())).collect();
        clashes(&paths).into_iter().map(|clash| (clash.later, clash.message)).collect()
    }

    #[test]
    fn clashes_name_the_later_entry() {
        assert_eq!(clash_messages(&["a", "b/c", "b/d", "ab"]), []);
        assert_eq!(
            clash_messages(&["a", "b", "./a"]),
            [(2, "\"a\" is also the path of files[0]".to_owned())]
        );
        assert_eq!(
            clash_messages(&["a", "a/b"]),
            [(1, "\"a/b\" lies in \"a\", which is the path of files[0]".to_owned())]
        );
        assert_eq!(
            clash_messages(&["a/b/c", "a"]),
            [(1, "\"a\" is a directory of \"a/b/c\", the path of files[0]".to_owned())]
        );
    }

    proptest! {
        #[test]
        fn a_checked_path_never_leaves(text in "[a./\\n\\x00]{0,12}") {
            if let Ok(path) = RelPath::parse(&text) {
                prop_assert!(path.as_path().components().all(|c| matches!(c, Component::Normal(_))));
                prop_assert!(!path.first().is_empty());
                prop_assert_eq!(RelPath::parse(path.as_path()).unwrap(), path);
            }
        }
    }
}
