//! `file`: what is at a path, links followed.

use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use podkit_cli::chain;
use podkit_cli::units::show_duration;

use super::Seen;
use crate::config::{FileCheck, NewerThan};

pub(super) fn look(check: &FileCheck) -> Seen {
    match compare(check) {
        Ok(seen) => seen,
        Err((path, error)) => {
            let error = chain(&error);
            Seen::Unclear(if path == check.path { error } else { format!("{}: {error}", path.display()) })
        }
    }
}

/// What cannot be read, and why, where it cannot be told.
fn compare(check: &FileCheck) -> Result<Seen, (&Path, io::Error)> {
    let path = check.path.as_path();
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Seen::Gone(chain(&error)));
        }
        Err(error) => return Err((path, error)),
    };
    if check.nonempty && is_empty(path, &metadata).map_err(|error| (path, error))? {
        return Ok(Seen::gone("it is empty"));
    }
    let changed = |path, metadata: &Metadata| metadata.modified().map_err(|error| (path, error));
    match &check.newer_than {
        None => {}
        Some(NewerThan::File(other)) => {
            let other = other.as_path();
            let than = other.metadata().map_err(|error| (other, error))?;
            if changed(path, &metadata)? <= changed(other, &than)? {
                return Ok(Seen::gone(format!("it is not newer than {}", other.display())));
            }
        }
        Some(NewerThan::Age(age)) => {
            // A time in the future, by another node's clock, is newer than anything.
            let since = SystemTime::now().duration_since(changed(path, &metadata)?).unwrap_or_default();
            if since >= *age {
                return Ok(Seen::gone(format!("it was not changed within {}", show_duration(*age))));
            }
        }
    }
    Ok(Seen::there("it is there"))
}

/// A file without a byte, or a directory without an entry. The `..data` of a mounted ConfigMap does not count.
fn is_empty(path: &Path, metadata: &Metadata) -> io::Result<bool> {
    if !metadata.is_dir() {
        return Ok(metadata.len() == 0);
    }
    for entry in fs::read_dir(path)? {
        if !entry?.file_name().as_encoded_bytes().starts_with(b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::time::Duration;

    fn check(path: PathBuf, nonempty: bool, newer_than: Option<NewerThan>) -> Seen {
        look(&FileCheck { path, nonempty, newer_than })
    }

    fn set_time(path: &Path, time: SystemTime) {
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn a_path_is_there_when_what_it_leads_to_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let missing = Seen::gone("no such file or directory");
        assert_eq!(check(at("a"), false, None), missing);
        symlink("a", at("link")).unwrap();
        assert_eq!(check(at("link"), false, None), missing);
        fs::write(at("a"), "").unwrap();
        for name in ["a", "link", "."] {
            assert_eq!(check(at(name), false, None), Seen::there("it is there"), "{name}");
        }
        assert_eq!(check(at("a/b"), false, None), Seen::gone("not a directory"));
        symlink("loop", at("loop")).unwrap();
        assert!(matches!(check(at("loop"), false, None), Seen::Unclear(_)));
    }

    #[test]
    fn empty_files_and_directories_can_be_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("volume/..2026_x/file");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        let volume = dir.path().join("volume");
        symlink("..2026_x", volume.join("..data")).unwrap();
        for path in [&file, &volume] {
            assert_eq!(check(path.clone(), true, None), Seen::gone("it is empty"));
        }
        fs::write(&file, "x").unwrap();
        symlink("..data/file", volume.join("file")).unwrap();
        for path in [&file, &volume] {
            assert_eq!(check(path.clone(), true, None), Seen::there("it is there"));
        }
    }

    #[test]
    fn times_are_compared() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&path, "").unwrap();
        let now = SystemTime::now();
        let than_other = || check(path.clone(), false, Some(NewerThan::File(other.clone())));
        let than_minute = || check(path.clone(), false, Some(NewerThan::Age(Duration::from_secs(60))));
        let unclear = format!("{}: no such file or directory", other.display());
        assert_eq!(than_other(), Seen::unclear(unclear), "without the other there is no telling");
        fs::write(&other, "").unwrap();
        set_time(&other, now);
        set_time(&path, now);
        assert_eq!(than_other(), Seen::gone(format!("it is not newer than {}", other.display())));
        assert_eq!(than_minute(), Seen::there("it is there"));
        set_time(&path, now + Duration::from_secs(3600));
        assert_eq!(than_other(), Seen::there("it is there"));
        assert_eq!(than_minute(), Seen::there("it is there"), "the clock of another node may be ahead");
        set_time(&path, now - Duration::from_secs(61));
        assert_eq!(than_minute(), Seen::gone("it was not changed within 1m"));
    }
}
