//! `file`: a path, or a mapping that says what must be true of it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use podkit_cli::{Invalid, Item, Section, units};
use serde_json::{Value, json};

/// Something at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileCheck {
    pub(crate) path: PathBuf,
    /// A file with at least a byte, or a directory with at least an entry.
    pub(crate) nonempty: bool,
    pub(crate) newer_than: Option<NewerThan>,
}

/// What the time of the last change is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NewerThan {
    /// That of another file.
    File(PathBuf),
    /// Now, less this.
    Age(Duration),
}

impl FileCheck {
    pub(super) fn read(wait: &Section<'_>) -> Option<Self> {
        match wait.item("file")? {
            Item::Text(_) => {
                let path = wait.value("file", units::path)?;
                Some(Self { path, nonempty: false, newer_than: None })
            }
            Item::Section(section) => {
                let path = section.required("path", units::path);
                let nonempty = section.switch("nonempty");
                let newer_than = section.value("newer_than", newer_than);
                Some(Self { path: path?, nonempty, newer_than })
            }
        }
    }

    pub(super) fn effective(&self) -> Value {
        let mut shown = json!({ "path": self.path, "nonempty": self.nonempty });
        match &self.newer_than {
            Some(NewerThan::File(path)) => shown["newer_than"] = json!(path),
            Some(NewerThan::Age(age)) => shown["newer_than"] = units::show_duration(*age).into(),
            None => {}
        }
        shown
    }
}

impl fmt::Display for FileCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// A path has a `/` in it, so that a mistyped duration is never taken for one.
fn newer_than(text: &str) -> Result<NewerThan, Invalid> {
    if text.contains('/') {
        return units::path(text).map(NewerThan::File);
    }
    units::positive_duration(text).map(NewerThan::Age).map_err(|why| {
        Invalid::new(format!("{why}, and no path either")).hint("write `5m`, or `/path/to/another`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_a_duration_are_told_apart() {
        assert_eq!(newer_than("5m"), Ok(NewerThan::Age(Duration::from_secs(300))));
        assert_eq!(newer_than("./5m"), Ok(NewerThan::File("./5m".into())));
        assert_eq!(newer_than("5").unwrap_err().to_string(), "\"5\" has no unit, and no path either");
        for bad in ["", "0s", "stamp", "a\0/"] {
            assert!(newer_than(bad).is_err(), "{bad:?}");
        }
    }
}
