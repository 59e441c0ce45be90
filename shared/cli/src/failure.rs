//! From an outcome to what the world sees: one line on stderr, the termination message, the exit code.
//!
//! The chain of causes is joined here and nowhere else.

use std::error::Error;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use crate::command::Tool;
use crate::fault::{Fault, Invalid};

/// How a binary ended; the same codes for all four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All was done.
    Done = 0,
    /// Something failed; the message says what.
    Failed = 1,
    /// A dry run found that something would change.
    Different = 2,
    /// Bad flags or config (`EX_USAGE` of sysexits.h).
    Usage = 64,
    /// A deadline passed with work left (`EX_TEMPFAIL` of sysexits.h); the message says what was left.
    Deadline = 75,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What a binary's own error adds to its text: the exit code and, where one is known, the fix.
pub trait Report: Error {
    /// The exit code that this error ends the binary with.
    fn exit(&self) -> Exit {
        Exit::Failed
    }

    /// How to mend it, printed as a second line.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// A failed call: the exit code and the lines to print.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    /// Message and hint, one pair a fault.
    lines: Vec<(String, Option<String>)>,
    /// Whether it is the end of the container's own work, which the termination message is for.
    ends_container: bool,
}

impl Failure {
    /// A failure with one message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, lines: vec![(message.into(), None)], ends_container: true }
    }

    /// Adds how to mend it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Some(last) = self.lines.last_mut() {
            last.1 = Some(hint.into());
        }
        self
    }

    /// The failure of a question to a running instance: the container works on.
    pub(crate) fn of_question(self) -> Self {
        Self { ends_container: false, ..self }
    }

    /// The messages, one for each fault, without hints.
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(|(message, _)| message.as_str())
    }

    /// What is wrong with the value of a flag that has no config key: `--for`.
    #[must_use]
    pub fn of_flag(flag: &str, what: Invalid) -> Self {
        let lines = vec![(format!("{flag}: {what}"), what.hint)];
        Self { exit: Exit::Usage, lines, ends_container: true }
    }

    pub(crate) fn faults(faults: Vec<Fault>) -> Self {
        let lines = faults.into_iter().map(|fault| (fault.to_string(), fault.what.hint)).collect();
        Self { exit: Exit::Usage, lines, ends_container: true }
    }
}

/// All messages and hints as one line, for a log.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (message, hint)) in self.lines.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            f.write_str(&one_line(message))?;
            if let Some(hint) = hint {
                write!(f, " ({})", one_line(hint))?;
            }
        }
        Ok(())
    }
}

impl<R: Report> From<R> for Failure {
    fn from(error: R) -> Self {
        Self { exit: error.exit(), lines: vec![(chain(&error), error.hint())], ends_container: true }
    }
}

/// An error and its causes as one line, each said once: `cannot rename "a" to "b": read-only file system`.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut line = plain(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = plain(&error.to_string());
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}

/// The standard library's `Permission denied (os error 13)` as a part of a sentence: `permission denied`.
fn plain(text: &str) -> String {
    let text = match text.split_once(" (os error ") {
        Some((before, number)) => {
            format!("{before}{}", number.split_once(')').map_or("", |(_, after)| after))
        }
        None => text.to_owned(),
    };
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text,
    }
}

/// Maps an outcome to the exit code; prints a failure's lines, and leaves them where `kubectl describe pod` looks.
pub fn report(tool: &Tool, outcome: Result<Exit, Failure>) -> ExitCode {
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => tell(tool, &failure, Path::new("/dev/termination-log")).into(),
    }
}

fn tell(tool: &Tool, failure: &Failure, termination_log: &Path) -> Exit {
    let mut text = String::new();
    for (message, hint) in &failure.lines {
        text.push_str(&format!("podkit-{}: {}\n", tool.name, one_line(message)));
        if let Some(hint) = hint {
            text.push_str(&format!("hint: {}\n", one_line(hint)));
        }
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
    if tool.termination_message && failure.ends_container {
        leave_termination_message(termination_log, &text);
    }
    failure.exit
}

/// One line, whatever a name in it holds: control characters are escaped.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() { line.extend(letter.escape_default()) } else { line.push(letter) }
    }
    line
}

/// Writes the message where the kubelet looks for it, if the file is there: it creates the file, we never do.
/// (Kubernetes docs, "Determine the Reason for Pod Failure": at most 4096 bytes are kept.)
fn leave_termination_message(path: &Path, text: &str) {
    const LIMIT: usize = 4096;
    let end = (0..=text.len().min(LIMIT)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    if let Ok(mut file) = OpenOptions::new().write(true).truncate(true).open(path) {
        let _ = file.write_all(text[..end].trim_end().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot rename \"a\" to \"b\"")]
    struct Rename(#[source] std::io::Error);

    #[test]
    fn a_chain_is_one_line_without_the_error_number() {
        let error = Rename(std::io::Error::from_raw_os_error(30));
        assert_eq!(chain(&error), "cannot rename \"a\" to \"b\": read-only file system");
    }

    #[test]
    fn a_cause_that_is_already_told_is_not_told_again() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot start: {0}")]
        struct Outer(#[source] Rename);
        let error = Outer(Rename(std::io::Error::other("disk is gone")));
        assert_eq!(chain(&error), "cannot start: cannot rename \"a\" to \"b\": disk is gone");
    }

    #[test]
    fn names_in_capitals_stay_as_they_are() {
        assert_eq!(plain("TLS failed"), "TLS failed");
        assert_eq!(plain("No such file or directory (os error 2)"), "no such file or directory");
        assert_eq!(plain("no (os error 2), yes"), "no, yes");
    }

    #[test]
    fn the_termination_message_is_cut_between_characters_and_its_file_is_never_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("termination-log");
        leave_termination_message(&path, "x");
        assert!(!path.exists());
        std::fs::write(&path, "what was there before").unwrap();
        leave_termination_message(&path, "podkit-test: it failed\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "podkit-test: it failed");
        leave_termination_message(&path, &format!("x{}", "é".repeat(4096)));
        assert_eq!(std::fs::read_to_string(&path).unwrap().len(), 4095);
    }

    #[test]
    fn only_what_ends_the_container_is_left_as_its_termination_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("termination-log");
        std::fs::write(&path, "").unwrap();
        let left = || std::fs::read_to_string(&path).unwrap();
        let tool = Tool { termination_message: true, ..crate::command::tests::TOOL };
        tell(&tool, &Failure::new(Exit::Failed, "no answer").of_question(), &path);
        tell(&crate::command::tests::TOOL, &Failure::new(Exit::Failed, "not our container"), &path);
        assert_eq!(left(), "");
        tell(&tool, &Failure::new(Exit::Deadline, "2 lines are left").hint("wait"), &path);
        assert_eq!(left(), "podkit-test: 2 lines are left\nhint: wait");
    }

    #[test]
    fn a_name_with_a_line_end_stays_on_its_line() {
        assert_eq!(one_line("a\nb\u{1b}[31mé"), "a\\nb\\u{1b}[31mé");
    }
}
