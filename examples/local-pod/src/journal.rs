//! The app's log file: numbered lines, text and JSON in turn, rotated by rename and create.
//!
//! This is the plain way in which many apps log: one `write` for each line, no fsync, `app.log` renamed to
//! `app.log.1` and the older ones moved up. Old files are never deleted, so that they can be counted at the end.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::sequence;

/// A log that numbers its lines.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    size: u64,
    rotate_at: u64,
    rotated: u32,
    last: u64,
}

impl Journal {
    /// Opens the log at `path`, rotated once it holds `rotate_at` bytes. Where the app had a life before this one, its
    /// numbers go on; its last file is rotated, since the last line has no end.
    pub(crate) fn open(path: &Path, rotate_at: u64) -> io::Result<Self> {
        let mut journal =
            Self { path: path.into(), file: append(path)?, size: 0, rotate_at, rotated: 0, last: 0 };
        while journal.numbered(journal.rotated + 1).exists() {
            journal.rotated += 1;
        }
        for number in 0..=journal.rotated {
            let text = fs::read_to_string(journal.numbered(number))?;
            journal.last = text.lines().filter_map(sequence::of_line).fold(journal.last, u64::max);
        }
        if journal.file.metadata()?.len() > 0 {
            journal.rotate()?;
        }
        Ok(journal)
    }

    /// Writes one line, rotating first where the file is full.
    pub(crate) fn line(&mut self, message: &str) -> io::Result<()> {
        if self.size >= self.rotate_at {
            self.rotate()?;
        }
        self.write(message, "\n")
    }

    /// Writes the last line the way that a process does which is cut short: without its newline.
    pub(crate) fn last_words(&mut self, message: &str) -> io::Result<()> {
        self.write(message, "")
    }

    fn write(&mut self, message: &str, end: &str) -> io::Result<()> {
        self.last += 1;
        let seq = self.last;
        let line = if seq.is_multiple_of(2) {
            format!("{}{end}", json!({"level": "info", "seq": seq, "message": message}))
        } else {
            format!("INFO seq={seq} {message}{end}")
        };
        self.size += line.len() as u64;
        self.file.write_all(line.as_bytes())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for older in (1..=self.rotated).rev() {
            fs::rename(self.numbered(older), self.numbered(older + 1))?;
        }
        fs::rename(&self.path, self.numbered(1))?;
        self.file = append(&self.path)?;
        self.rotated += 1;
        self.size = 0;
        Ok(())
    }

    /// The newest is number 0.
    fn numbered(&self, number: u32) -> PathBuf {
        if number == 0 {
            return self.path.clone();
        }
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_moves_the_older_files_up_and_keeps_every_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        let mut journal = Journal::open(&path, 64).unwrap();
        for _ in 0..9 {
            journal.line("GET /hello 200").unwrap();
        }
        journal.last_words("bye").unwrap();

        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(read("app.log.4").starts_with("INFO seq=1 GET /hello 200\n{"), "{}", read("app.log.4"));
        assert!(!read("app.log").ends_with('\n'));
        let all = ["app.log.4", "app.log.3", "app.log.2", "app.log.1", "app.log"].map(read).concat();
        let numbers: Vec<_> = all.lines().filter_map(sequence::of_line).collect();
        assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
    }

    #[test]
    fn a_second_life_goes_on_with_the_numbers_in_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        for life in 1..=3 {
            let mut journal = Journal::open(&path, 64).unwrap();
            for _ in 0..4 {
                journal.line("GET /hello 200").unwrap();
            }
            journal.last_words("bye").unwrap();
            assert_eq!(journal.last, life * 5);
        }
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&dir).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            numbers.extend(text.lines().filter_map(sequence::of_line));
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=15).collect::<Vec<_>>());
    }
}
