//! `.env` files, as the crate `dotenvy` reads them: stricter than a shell, so that all other readers agree.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use super::Fault;

pub(super) fn check(text: &str) -> Result<(), Fault> {
    let line = Rc::new(Cell::new(0));
    let lines = Lines { rest: text.as_bytes(), is_new: true, line: Rc::clone(&line), ended: false };
    for variable in dotenvy::from_read_iter(lines) {
        let bad = match variable {
            Ok(_) => continue,
            Err(dotenvy::Error::LineParse(bad, at)) => (bad, at),
            Err(_) => return Err(Fault::new(line.get(), 0, UNREADABLE)),
        };
        return Err(place(text, line.get(), &bad.0, bad.1));
    }
    Ok(())
}

pub(super) const UNREADABLE: &str = "neither `NAME=value` nor a comment; a value with blanks needs quotes";

/// The reader tells a whole line and a position in it, or only its value and a position in that. A value in quotes may
/// have many lines: the fault is where it begins. One that is never closed is told with all that follows it.
fn place(text: &str, read: usize, bad: &str, at: usize) -> Fault {
    let breaks = bad.matches('\n').count();
    if at == bad.len() && breaks > 0 {
        // The last of the breaks is the one that `Lines` adds.
        let first = (read + 1 + usize::from(text.ends_with('\n'))).saturating_sub(breaks);
        return Fault::new(first, 0, "a quote that is not closed");
    }
    if breaks > 0 {
        return Fault::new(read.saturating_sub(breaks), 0, UNREADABLE);
    }
    let line = text.lines().nth(read.wrapping_sub(1)).unwrap_or_default().trim_end();
    let column = line.strip_suffix(bad.trim_end()).map_or(0, |before| before.chars().count() + at + 1);
    Fault::new(read, column, UNREADABLE)
}

/// Hands out one line at a time, so that it is known which one is read. With a line's end at the end: without one the
/// reader takes blanks there for an open quote.
struct Lines<'a> {
    rest: &'a [u8],
    is_new: bool,
    line: Rc<Cell<usize>>,
    ended: bool,
}

impl Read for Lines<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() && !self.ended {
            self.ended = true;
            buffer[..1].copy_from_slice(b"\n");
            return Ok(1);
        }
        let end = self.rest.iter().position(|byte| *byte == b'\n').map_or(self.rest.len(), |at| at + 1);
        let (now, later) = self.rest.split_at(end.min(buffer.len()));
        buffer[..now.len()].copy_from_slice(now);
        if std::mem::replace(&mut self.is_new, now.ends_with(b"\n")) && !now.is_empty() {
            self.line.set(self.line.get() + 1);
        }
        self.rest = later;
        Ok(now.len())
    }
}
