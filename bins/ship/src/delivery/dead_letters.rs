//! Events that a backend refused for good: kept as readable NDJSON with the reason, to be sent again by hand.
//!
//! Bounded. What finds no room is not dropped: it waits, and so does its destination, until somebody has looked.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use podkit_cli::units;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::checkpoint::DEAD_LETTERS;

/// One refused event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DeadLetter {
    /// When it was refused, in RFC 3339.
    pub(crate) time: String,
    /// The destination's name.
    pub(crate) destination: String,
    /// What the backend said.
    pub(crate) reason: String,
    pub(crate) file: String,
    /// The generation's key in 16 hex digits: with the offset it names the event.
    pub(crate) generation: String,
    /// Where the event begins in its file, in bytes.
    pub(crate) offset: u64,
    /// When the event was, in RFC 3339.
    pub(crate) event_time: String,
    /// Whether the line was a JSON object itself.
    pub(crate) object: bool,
    /// Members of the record that are not of the line: each destination adds them in its own way.
    pub(crate) added: Vec<String>,
    /// The fields of the source, those too that the line has members of its own for.
    pub(crate) fields: Map<String, Value>,
    /// The event as NDJSON has it.
    pub(crate) record: Box<RawValue>,
}

impl DeadLetter {
    /// The generation's key.
    pub(crate) fn key(&self) -> u64 {
        u64::from_str_radix(&self.generation, 16).unwrap_or_default()
    }
}

/// The file of all destinations' dead letters.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    path: PathBuf,
    limit: u64,
}

impl DeadLetters {
    pub(crate) fn new(state_dir: &Path, limit: u64) -> Self {
        Self { path: state_dir.join(DEAD_LETTERS), limit }
    }

    /// A file of any name and size.
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), limit: u64::MAX }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends as many of these letters as there is room for, in their order, and syncs them; returns how many. An
    /// empty file has room for one of any size, so that none waits for ever.
    ///
    /// # Errors
    /// The disk refuses; none is kept then.
    pub(crate) fn append(&self, letters: &[DeadLetter]) -> io::Result<usize> {
        if letters.is_empty() {
            return Ok(0);
        }
        let mut file = lock(&self.path, true)?;
        let length = file.metadata()?.len();
        let (mut lines, mut kept) = (Vec::new(), 0);
        for letter in letters {
            let end = lines.len();
            serde_json::to_writer(&mut lines, letter)?;
            lines.push(b'\n');
            let needed = length + lines.len() as u64;
            if needed > self.limit && (length > 0 || kept > 0) {
                lines.truncate(end);
                break;
            }
            kept += 1;
        }
        let written = file.write_all(&lines).and_then(|()| file.sync_data());
        if written.is_err() {
            let _ = file.set_len(length);
        }
        written.map(|()| kept)
    }

    /// What is said while there is no room.
    pub(crate) fn full(&self) -> io::Error {
        let what = format!("{:?} may hold {} and has no room", self.path, units::show_size(self.limit));
        io::Error::new(io::ErrorKind::StorageFull, what)
    }
}

/// Opens a file for this process alone. A file that lost its name before the lock was ours is let go.
fn lock(path: &Path, create: bool) -> io::Result<Flock<File>> {
    loop {
        let file = OpenOptions::new().append(true).create(create).open(path)?;
        let file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io::Error::from(errno))?;
        let own = file.metadata()?;
        if fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())) {
            return Ok(file);
        }
    }
}

/// What a file is called while it is sent again.
const TAKEN: &str = "resending";

/// A file of dead letters that no other call sends as long as this lives.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) path: PathBuf,
    _lock: Flock<File>,
}

/// Takes a file of dead letters out of the way of a shipper that adds to it. One that an earlier call has taken is
/// taken as it is.
///
/// # Errors
/// There is no such file, it has a line that is no dead letter, an earlier call has left one that must be sent first, or
/// another call is sending it.
pub(crate) fn take(path: &Path) -> io::Result<Taken> {
    if path.extension().is_some_and(|extension| extension == TAKEN) {
        let file = OpenOptions::new().append(true).open(path)?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            nix::errno::Errno::EWOULDBLOCK => io::Error::other("another call is sending it"),
            other => other.into(),
        })?;
        return Ok(Taken { path: path.to_owned(), _lock: lock });
    }
    let mut taken = path.as_os_str().to_owned();
    taken.push(".");
    taken.push(TAKEN);
    let taken = PathBuf::from(taken);
    let is_left = || {
        let what = format!("{taken:?} is left from an earlier call; send that one first");
        if taken.exists() { Err(io::Error::new(io::ErrorKind::AlreadyExists, what)) } else { Ok(()) }
    };
    is_left()?;
    // Under the lock of the file, which goes with it under its new name, no other call takes one.
    let lock = lock(path, false)?;
    is_left()?;
    // What is none of ours stays where it is.
    read(path)?;
    fs::rename(path, &taken)?;
    Ok(Taken { path: taken, _lock: lock })
}

/// The letters of a file.
///
/// # Errors
/// The file cannot be read, or a line is no dead letter: its number, and why.
pub(crate) fn read(path: &Path) -> io::Result<Vec<DeadLetter>> {
    let text = fs::read_to_string(path)?;
    let letter = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("line {}: {error}", number + 1))
        })
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(offset: u64) -> DeadLetter {
        DeadLetter {
            time: "2026-11-22T05:00:00.000Z".into(),
            destination: "http://sink/".into(),
            reason: "mapper_parsing_exception: \"n\"".into(),
            file: "/a.log".into(),
            generation: "00000000000000ff".into(),
            offset,
            event_time: "2026-11-22T04:00:00Z".into(),
            object: true,
            added: vec!["timestamp".into()],
            fields: Map::new(),
            record: RawValue::from_string(r#"{"n": 1.50, "m": "x"}"#.into()).unwrap(),
        }
    }

    #[test]
    fn letters_are_readable_lines_that_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(dir.path(), 1 << 20);
        letters.append(&[letter(1), letter(2)]).unwrap();
        letters.append(&[letter(3)]).unwrap();
        let back = read(letters.path()).unwrap();
        assert_eq!(back.iter().map(|letter| letter.offset).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(back[0].record.get(), r#"{"n": 1.50, "m": "x"}"#);
    }

    #[test]
    fn what_finds_no_room_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(dir.path(), 500);
        letters.append(&[letter(1)]).unwrap();
        assert_eq!(letters.append(&[letter(2)]).unwrap(), 0);
        assert_eq!(read(letters.path()).unwrap().len(), 1);
    }

    #[test]
    fn more_letters_than_fit_are_kept_one_file_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(dir.path(), 800);
        assert_eq!(letters.append(&[letter(1), letter(2), letter(3)]).unwrap(), 2);
        let letters = DeadLetters::new(dir.path(), 10);
        assert_eq!(letters.append(&[letter(3)]).unwrap(), 0);
        fs::remove_file(letters.path()).unwrap();
        // Larger than all that is allowed.
        assert_eq!(letters.append(&[letter(3), letter(4)]).unwrap(), 1);
    }

    #[test]
    fn a_taken_file_is_out_of_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(dir.path(), 1 << 20);
        letters.append(&[letter(1)]).unwrap();
        let taken = take(letters.path()).unwrap();
        letters.append(&[letter(2)]).unwrap();
        assert_eq!(read(&taken.path).unwrap()[0].offset, 1);
        assert_eq!(read(letters.path()).unwrap()[0].offset, 2);
        assert_eq!(take(letters.path()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(take(&taken.path).unwrap_err().to_string().contains("another call"));
        let path = taken.path.clone();
        drop(taken);
        assert_eq!(take(&path).unwrap().path, path);
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "\n{}\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().starts_with("line 2: "));
    }
}
