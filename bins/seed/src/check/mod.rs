//! Checks files before any of them is visible: as a format, against a JSON Schema, by a program.
//!
//! Reads bodies, never changes them. Of a file that is secret nothing is shown but the place of the fault.

mod dotenv;
mod format;
mod ini;
mod json;
mod program;
mod properties;
mod schema;

use std::borrow::Cow;
use std::sync::Arc;

use std::time::Duration;

use podkit_cli::units::show_size;

use crate::config::{Check, Format};
use crate::content::{Content, Tree};
use crate::error::Error;
use crate::limits::Limits;
use crate::path::RelPath;
use crate::source::Sources;

use schema::Schema;

/// What is looked at as a whole must fit into memory, and whoever checks larger files has a program for it.
const MAX_SIZE: u64 = 64 << 20;
/// For checks that keep all values of a file, which take ten times and more of its size.
const MAX_TREE: u64 = 8 << 20;
/// Of the line with the fault. The rest of a line tells nobody more.
const MAX_SHOWN: usize = 120;

/// Runs the checks of one entry on each of its files.
///
/// # Errors
/// The first that a file does not pass. A schema that is none, a program that cannot be run, or the run's end.
pub(crate) fn run(
    tree: &Tree,
    checks: &[Check],
    sources: &Arc<Sources>,
    limits: &Limits,
) -> Result<(), Error> {
    for check in checks {
        let ready = Ready::of(check, sources)?;
        for (path, content) in tree {
            limits.check(|| format!("before \"{path}\" was checked"))?;
            ready.look(path, content, limits).map_err(|failed| match failed {
                Failed::Why(why) => Error::Check { path: path.to_string(), check: check.name(), why },
                Failed::Ended => limits.ended(format!("while \"{path}\" was checked")),
            })?;
        }
    }
    Ok(())
}

/// A check with all that it needs.
enum Ready<'a> {
    Format(Format),
    Schema(Schema),
    Program(&'a [String], Duration),
}

/// Why a file does not pass.
enum Failed {
    Why(String),
    /// The run is over.
    Ended,
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self::Why(why)
    }
}

impl<'a> Ready<'a> {
    fn of(check: &'a Check, sources: &Arc<Sources>) -> Result<Self, Error> {
        Ok(match check {
            Check::Format(format) => Self::Format(*format),
            Check::Schema(path) => Self::Schema(Schema::load(path, sources)?),
            Check::Run { command, timeout } => Self::Program(command, *timeout),
        })
    }

    fn look(&self, path: &RelPath, content: &Content, limits: &Limits) -> Result<(), Failed> {
        match self {
            Self::Format(Format::Nonempty) => nonempty(content)?,
            Self::Format(format) => {
                let bytes = small_enough(content, format::max_size(*format))?;
                format::check(*format, &bytes).map_err(|fault| fault.show(content, &bytes))?;
            }
            Self::Schema(schema) => {
                schema.check(&small_enough(content, MAX_TREE)?, content.is_secret)?;
            }
            Self::Program(command, timeout) => program::run(command, *timeout, path, content, limits)?,
        }
        Ok(())
    }
}

fn nonempty(content: &Content) -> Result<(), String> {
    let is_blank = match content.body.len() {
        0 => true,
        1..=MAX_SIZE => small_enough(content, MAX_SIZE)?.iter().all(u8::is_ascii_whitespace),
        _ => false,
    };
    if is_blank { Err("it is empty".to_owned()) } else { Ok(()) }
}

fn small_enough(content: &Content, max: u64) -> Result<Cow<'_, [u8]>, String> {
    if content.body.len() > max {
        return Err(format!("it is larger than {}, the most that is looked at", show_size(max)));
    }
    content.body.bytes().map_err(|error| format!("it cannot be read: {}", podkit_cli::chain(&error)))
}

/// What is wrong with a text, and where.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    /// From 1; 0 where only the whole is wrong.
    line: usize,
    /// From 1, in characters; 0 where it is the whole line.
    column: usize,
    why: String,
}

impl Fault {
    fn new(line: usize, column: usize, why: impl Into<String>) -> Self {
        Self { line, column, why: why.into() }
    }

    /// At a position in a text, in bytes.
    fn at(text: &str, position: usize, why: impl Into<String>) -> Self {
        let mut position = position.min(text.len());
        while !text.is_char_boundary(position) {
            position -= 1;
        }
        let before = &text[..position];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self::new(1 + before.matches('\n').count(), 1 + before[line_start..].chars().count(), why)
    }

    /// With the line that it is about, unless the file is secret: then only its place.
    fn show(&self, content: &Content, text: &[u8]) -> String {
        let place = match (self.line, self.column) {
            (0, _) => String::new(),
            (line, 0) => format!("line {line}: "),
            (line, column) => format!("line {line} column {column}: "),
        };
        if content.is_secret {
            return format!("{place}no more is shown, for the file is secret");
        }
        let line = text.split(|byte| *byte == b'\n').nth(self.line.wrapping_sub(1)).unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        match line.trim() {
            "" => format!("{place}{}", self.why),
            line => format!("{place}{}: `{}`", self.why, cut(line)),
        }
    }
}

/// As much of a text as is shown.
fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((at, _)) => Cow::Owned(format!("{}…", &text[..at])),
        None => Cow::Borrowed(text),
    }
}

/// The bytes as text, a byte order mark left out.
fn text(bytes: &[u8]) -> Result<&str, Fault> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            Err(Fault::new(line, 0, "it is not UTF-8 text"))
        }
    }
}

#[cfg(test)]
mod tests;
