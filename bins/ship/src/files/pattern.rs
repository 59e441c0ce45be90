//! `include` and `exclude` patterns to file names. Reads directories; opens no file.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};
use podkit_cli::Invalid;

/// `*` does not cross a slash, and a hidden file is only matched by a pattern that starts with a dot.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Deeper than any log directory; ends a walk through a loop of directories.
const MAX_DEPTH: usize = 32;

/// One `include` pattern, split at its first wildcard.
#[derive(Debug, Clone)]
pub(crate) struct Include {
    text: String,
    base: PathBuf,
    rest: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    /// `**`: any number of directories.
    AnyDepth,
    /// One path component, with or without wildcards.
    Name(Pattern),
}

impl Include {
    /// Parses an absolute pattern such as `/var/log/app/**/*.log`.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        let path = Path::new(text);
        if !path.is_absolute() {
            return Err(Invalid::new(format!("{text:?} is not an absolute path"))
                .hint("write the whole path: `/var/log/app/*.log`"));
        }
        let mut base = PathBuf::from("/");
        let mut rest = Vec::new();
        for component in path.components() {
            let Component::Normal(name) = component else {
                if component == Component::RootDir {
                    continue;
                }
                return Err(Invalid::new(format!("{text:?} has `..` in it")));
            };
            let name = name.to_string_lossy();
            if rest.is_empty() && !name.contains(['*', '?', '[']) {
                base.push(&*name);
            } else if name == "**" {
                rest.push(Part::AnyDepth);
            } else {
                rest.push(Part::Name(pattern(&name)?));
            }
        }
        if rest.is_empty() {
            // A plain file name: look for it in its directory.
            let name =
                base.file_name().map(|name| Pattern::escape(&name.to_string_lossy())).unwrap_or_default();
            base.pop();
            rest.push(Part::Name(pattern(&name)?));
        }
        Ok(Self { text: text.to_owned(), base, rest })
    }

    /// The directory before the first wildcard.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// The pattern as it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether a path matches, be a file there or not.
    pub(crate) fn covers(&self, path: &Path) -> bool {
        glob::Pattern::new(&self.text).is_ok_and(|pattern| pattern.matches_path_with(path, OPTIONS))
    }

    /// All paths that match now, and the directories that were read for them.
    pub(crate) fn expand(&self) -> Expansion {
        let mut found = Expansion::default();
        walk(&self.base, &self.rest, 0, &mut found);
        found
    }
}

/// What a pattern stands for at one moment.
#[derive(Debug, Default)]
pub(crate) struct Expansion {
    pub(crate) paths: BTreeSet<PathBuf>,
    /// Those of the paths that are symbolic links.
    pub(crate) links: BTreeSet<PathBuf>,
    pub(crate) directories: BTreeSet<PathBuf>,
}

fn walk(dir: &Path, parts: &[Part], depth: usize, found: &mut Expansion) {
    let Some((part, rest)) = parts.split_first() else { return };
    if depth > MAX_DEPTH {
        return;
    }
    // A directory that is gone or closed to us has no files for us; it is looked at again with the next scan.
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    found.directories.insert(dir.to_owned());
    if matches!(part, Part::AnyDepth) {
        walk(dir, rest, depth, found);
    }
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_dir = || entry.file_type().is_ok_and(|kind| kind.is_dir());
        match part {
            // `**` follows no links, or a loop of links would be walked again and again.
            Part::AnyDepth if !name.starts_with('.') && is_dir() => {
                walk(&entry.path(), parts, depth + 1, found)
            }
            Part::Name(pattern) if pattern.matches_with(&name, OPTIONS) => {
                if rest.is_empty() {
                    if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                        found.links.insert(entry.path());
                    }
                    found.paths.insert(entry.path());
                } else if entry.path().is_dir() {
                    walk(&entry.path(), rest, depth + 1, found);
                }
            }
            _ => {}
        }
    }
}

fn pattern(text: &str) -> Result<Pattern, Invalid> {
    Pattern::new(text).map_err(|error| Invalid::new(format!("{text:?} is not a pattern ({})", error.msg)))
}

/// One `exclude` pattern: against the file's name, or against the whole path if it has a slash.
#[derive(Debug, Clone)]
pub(crate) struct Exclude(Pattern);

impl Exclude {
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        pattern(text).map(Self)
    }

    pub(crate) fn covers(&self, path: &Path) -> bool {
        let subject = if self.0.as_str().contains('/') { Some(path.as_os_str()) } else { path.file_name() };
        let options = MatchOptions { require_literal_leading_dot: false, ..OPTIONS };
        subject.is_some_and(|subject| self.0.matches_with(&subject.to_string_lossy(), options))
    }

    /// The pattern as it was written.
    pub(crate) fn text(&self) -> &str {
        self.0.as_str()
    }
}

/// Whether `name` is what a log rotation makes of `live`: `app.log.1`, `app.log-20261122`, but not `app.log.gz`.
pub(crate) fn is_rotation_of(name: &str, live: &str) -> bool {
    name.strip_prefix(live).is_some_and(|suffix| {
        let mut letters = suffix.chars();
        matches!(letters.next(), Some('.' | '-' | '_'))
            && suffix.contains(|c: char| c.is_ascii_digit())
            && letters.all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '_' | ':' | 'T' | 'Z'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        dir
    }

    fn expand(dir: &Path, pattern: &str) -> Vec<String> {
        let include = Include::parse(&format!("{}/{pattern}", dir.display())).unwrap();
        let names = include.expand().paths.into_iter();
        names.map(|path| path.strip_prefix(dir).unwrap().display().to_string()).collect()
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        let dir = tree(&["a.log", "b.log", "b.txt", ".hidden.log", "x/c.log", "x/y/d.log", "[z].log"]);
        for (pattern, want) in [
            ("a.log", &["a.log"][..]),
            ("*.log", &["[z].log", "a.log", "b.log"]),
            ("?.log", &["a.log", "b.log"]),
            ("[ab].*", &["a.log", "b.log", "b.txt"]),
            ("*/*.log", &["x/c.log"]),
            ("**/*.log", &["[z].log", "a.log", "b.log", "x/c.log", "x/y/d.log"]),
            ("**/y/*.log", &["x/y/d.log"]),
            (".*.log", &[".hidden.log"]),
            ("none/*.log", &[]),
        ] {
            assert_eq!(expand(dir.path(), pattern), want, "{pattern}");
        }
    }

    #[test]
    fn directories_on_the_way_are_told() {
        let dir = tree(&["x/c.log", "y/d.txt"]);
        let include = Include::parse(&format!("{}/*/*.log", dir.path().display())).unwrap();
        let expansion = include.expand();
        assert_eq!(expansion.directories.len(), 3, "{expansion:?}");
        assert_eq!(include.base(), dir.path());
    }

    #[test]
    fn bad_patterns_are_faults() {
        for (text, why) in [
            ("logs/*.log", "\"logs/*.log\" is not an absolute path"),
            ("/a/../b", "\"/a/../b\" has `..` in it"),
            ("/a/[b", "\"[b\" is not a pattern (invalid range pattern)"),
        ] {
            assert_eq!(Include::parse(text).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn excludes_take_names_and_paths() {
        let covers = |pattern: &str, path: &str| Exclude::parse(pattern).unwrap().covers(Path::new(path));
        assert!(covers("*.gz", "/var/log/app.log.gz"));
        assert!(!covers("*.gz", "/var/log/app.log"));
        assert!(covers("/var/log/debug/*", "/var/log/debug/a.log"));
        assert!(!covers("/var/log/debug/*", "/var/log/a.log"));
    }

    #[test]
    fn rotations_are_told_from_other_neighbours() {
        for name in
            ["app.log.1", "app.log.12", "app.log-20261122", "app.log.2026-11-22T05:00:00Z", "app.log_3"]
        {
            assert!(is_rotation_of(name, "app.log"), "{name}");
        }
        for name in
            ["app.log", "app.log.gz", "app.log.1.gz", "app.log.bak", "app.log2", "xapp.log.1", "app.log."]
        {
            assert!(!is_rotation_of(name, "app.log"), "{name}");
        }
    }
}
