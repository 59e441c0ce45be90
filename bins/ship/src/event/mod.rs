//! What a line says, or several lines that belong together: its time, its level, its text or members. Pure.
//!
//! ```text
//!   bytes of a group of lines ─► Parser ─► Event ─► filter, redact ─► the destination's format
//! ```
//!
//! Borrows from the bytes that were read wherever it can; never drops or changes what the app wrote.

use std::borrow::Cow;

pub(crate) mod cri;
pub(crate) mod json;
mod level;
mod logfmt;
mod multiline;
mod named;
mod object;
mod parser;
mod stamp;
mod time;

pub(crate) use level::Level;
pub(crate) use multiline::{Languages, Multiline};
pub(crate) use parser::Parser;
pub(crate) use time::{DatePattern, Rfc3339, Time, Zone};

/// One event of an app.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event<'a> {
    /// As the line tells it, else the time of reading.
    pub(crate) time: Time,
    /// As the line tells it.
    pub(crate) level: Option<Level>,
    pub(crate) body: Body<'a>,
    /// Further members that the format found (logfmt keys, named groups, CRI's `stream`), in the line's order.
    /// Without allocation while empty.
    pub(crate) pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The line is longer than `max_line`, and goes on in the next event.
    pub(crate) split: bool,
    /// It was not UTF-8; what was not is replaced by U+FFFD.
    pub(crate) invalid_utf8: bool,
    /// It is not of the source's format, and was taken as text.
    pub(crate) unparsed: bool,
}

/// What an event consists of, its pairs aside.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body<'a> {
    /// The message of a line that is no JSON object. May have line ends in it.
    Text(Cow<'a, str>),
    Object(Object<'a>),
}

/// A line that is a JSON object, as it was written: its members are kept and never typed again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Object<'a> {
    /// From the opening to the closing brace, on one line; known to be valid.
    pub(crate) json: Cow<'a, str>,
    /// Bit *n* is set where the object has a member with the *n*th name of [`own names`](Object::has).
    pub(crate) names: u64,
}

impl Object<'_> {
    /// Whether the object has a member of this name already: an index into [`OWN_NAMES`], or that of a field
    /// after those.
    pub(crate) fn has(&self, name: usize) -> bool {
        self.names & (1 << name) != 0
    }
}

/// The members that every record may get from us; the configured fields follow in their order.
pub(crate) const OWN_NAMES: [&str; 5] = ["timestamp", "@timestamp", "level", "message", "file"];
pub(crate) const TIMESTAMP: usize = 0;
pub(crate) const AT_TIMESTAMP: usize = 1;
pub(crate) const LEVEL: usize = 2;
pub(crate) const MESSAGE: usize = 3;
pub(crate) const FILE: usize = 4;
/// The most fields a source may have, so that a set of names fits 64 bits.
pub(crate) const MAX_FIELDS: usize = 64 - OWN_NAMES.len();
