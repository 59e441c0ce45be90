//! A group of lines to an event, by the source's format. In two steps, so that what is secret can be taken out
//! between them: [`Parser::decode`] makes text of bytes, [`Parser::parse_text`] finds out what the text says.
//!
//! Text and JSON cost no allocation. What was not borrowed at the beginning (bytes that were replaced, secrets taken
//! out) is copied once more.

use std::borrow::Cow;

use super::logfmt::{self, Pair};
use super::named::{Named, Role};
use super::object::{self, Keys, MESSAGES, Told, Value};
use super::stamp::Finder;
use super::time::Zone;
use super::{Body, Event, Level, Object, Time, cri};
use crate::config::Format;

/// Makes events of a source's lines.
#[derive(Debug, Clone)]
pub(crate) struct Parser {
    layout: Layout,
    finder: Finder,
    keys: Keys,
}

#[derive(Debug, Clone)]
enum Layout {
    Auto,
    Text,
    Json,
    Logfmt,
    Cri,
    Named(Named),
}

/// What a text says.
struct Read<'a> {
    body: Body<'a>,
    time: Option<Time>,
    level: Option<Level>,
    pairs: Vec<Pair<'a>>,
    unparsed: bool,
}

impl Parser {
    /// `zone` is that of times without one, `fields` the names of the source's fields.
    pub(crate) fn new(format: &Format, zone: Zone, fields: &[String]) -> Self {
        let layout = match format {
            Format::Auto => Layout::Auto,
            Format::Text => Layout::Text,
            Format::Json => Layout::Json,
            Format::Logfmt => Layout::Logfmt,
            Format::Cri => Layout::Cri,
            Format::Regex(regex) => Layout::Named(Named::new(regex)),
        };
        Self { layout, finder: Finder::new(zone), keys: Keys::new(fields) }
    }

    /// The event of a group of lines without its last line end. `split`: its line goes on in the next event.
    #[cfg(test)]
    pub(crate) fn parse<'a>(&mut self, lines: &'a [u8], split: bool, now: Time) -> Event<'a> {
        let (text, invalid_utf8) = Self::decode(lines);
        self.parse_text(text, invalid_utf8, split, now)
    }

    /// Bytes to text: what is not UTF-8 is replaced by U+FFFD, which the second value tells, and CRLF within a group
    /// of lines becomes LF.
    pub(crate) fn decode(lines: &[u8]) -> (Cow<'_, str>, bool) {
        let (text, invalid_utf8) = match std::str::from_utf8(lines) {
            Ok(text) => (Cow::Borrowed(text), false),
            Err(_) => (String::from_utf8_lossy(lines), true),
        };
        let crlf = memchr::memchr(b'\r', text.as_bytes()).is_some() && text.contains("\r\n");
        (if crlf { Cow::Owned(text.replace("\r\n", "\n")) } else { text }, invalid_utf8)
    }

    /// The event of a decoded text.
    pub(crate) fn parse_text<'a>(
        &mut self,
        text: Cow<'a, str>,
        invalid_utf8: bool,
        split: bool,
        now: Time,
    ) -> Event<'a> {
        let read = match text {
            Cow::Borrowed(text) => self.read(text, split, now),
            Cow::Owned(text) => self.read(&text, split, now).into_owned(),
        };
        let Read { body, time, level, pairs, unparsed } = read;
        Event { time: time.unwrap_or(now), level, body, pairs, split, invalid_utf8, unparsed }
    }

    fn read<'a>(&mut self, text: &'a str, split: bool, now: Time) -> Read<'a> {
        if split {
            // A part of a line is of no format.
            return self.text(text, now);
        }
        match &mut self.layout {
            Layout::Auto => self.auto(text, now),
            Layout::Text => self.text(text, now),
            Layout::Json => {
                self.object(text, now).map(|(read, _)| read).unwrap_or_else(|| self.unparsed(text, now))
            }
            Layout::Logfmt => self.logfmt(text, now).unwrap_or_else(|| self.unparsed(text, now)),
            Layout::Cri => self.cri(text, now).unwrap_or_else(|| self.unparsed(text, now)),
            Layout::Named(_) => self.named(text, now).unwrap_or_else(|| self.unparsed(text, now)),
        }
    }

    fn text<'a>(&self, text: &'a str, now: Time) -> Read<'a> {
        let found = self.finder.find(text, now);
        let level = Level::find(text, found.map_or(0, |found| found.end));
        Read {
            body: Body::Text(Cow::Borrowed(text)),
            time: found.map(|found| found.time),
            level,
            pairs: Vec::new(),
            unparsed: false,
        }
    }

    fn unparsed<'a>(&self, text: &'a str, now: Time) -> Read<'a> {
        Read { unparsed: true, ..self.text(text, now) }
    }

    fn auto<'a>(&self, text: &'a str, now: Time) -> Read<'a> {
        self.object(text, now).map_or_else(|| self.text(text, now), |(read, _)| read)
    }

    /// A JSON object, and whether it has a member `stream`.
    fn object<'a>(&self, text: &'a str, now: Time) -> Option<(Read<'a>, bool)> {
        let (object, told) = object::read(text, &self.keys, &self.finder, now)?;
        let Told { time, level, stream, .. } = told;
        Some((Read { body: Body::Object(object), time, level, pairs: Vec::new(), unparsed: false }, stream))
    }

    /// What follows the first line is a trace: it goes to the message.
    fn logfmt<'a>(&self, text: &'a str, now: Time) -> Option<Read<'a>> {
        let (first, trace) = split_trace(text);
        let mut pairs = logfmt::split(first)?;
        let mut told = Told::default();
        for (key, value) in &pairs {
            if let Some(meaning) = self.keys.meaning(key) {
                told.take(meaning, Value::Text(value), &self.finder, now);
            }
        }
        let place = MESSAGES.iter().find_map(|message| pairs.iter().position(|(key, _)| key == message));
        let message = match place {
            Some(index) => with_trace(pairs.remove(index).1, trace),
            // It has to be shown as something.
            None => Cow::Borrowed(text),
        };
        let Told { time, level, .. } = told;
        Some(Read { body: Body::Text(message), time, level, pairs, unparsed: false })
    }

    fn named<'a>(&mut self, text: &'a str, now: Time) -> Option<Read<'a>> {
        let Layout::Named(named) = &mut self.layout else { return None };
        let (first, trace) = split_trace(text);
        let (finder, mut time, mut level, mut message) = (&self.finder, None, None, None);
        let mut pairs: Vec<Pair<'a>> = Vec::new();
        let matched = named.read(first, |role, name, value| {
            let taken = match role {
                Role::Time if time.is_none() => {
                    time = finder.of_value(value, now);
                    time.is_some()
                }
                Role::Level if level.is_none() => {
                    level = Level::of_value(value);
                    level.is_some()
                }
                Role::Message if message.is_none() => {
                    message = Some(value);
                    true
                }
                _ => false,
            };
            if !taken {
                pairs.push((Cow::Owned(name.to_owned()), Cow::Borrowed(value)));
            }
        });
        if !matched {
            return None;
        }
        let found = self.finder.find(text, now);
        let level = level.or_else(|| Level::find(text, found.map_or(0, |found| found.end)));
        let body = match message {
            Some(message) => with_trace(Cow::Borrowed(message), trace),
            None => Cow::Borrowed(text),
        };
        let time = time.or(found.map(|found| found.time));
        Some(Read { body: Body::Text(body), time, level, pairs, unparsed: false })
    }

    /// The runtime's lines of one or several lines of the app. The app's own time wins: it is the earlier one.
    fn cri<'a>(&self, text: &'a str, now: Time) -> Option<Read<'a>> {
        let (first, more) = split_trace(text);
        let line = cri::split(first)?;
        let (mut read, has_stream) = match more {
            None => self.content(line.content, now),
            Some(more) => {
                let mut content = line.content.to_owned();
                let mut partial = line.partial;
                for next in more.split('\n') {
                    if !partial {
                        content.push('\n');
                    }
                    let next = cri::split(next);
                    partial = next.is_some_and(|line| line.partial);
                    content.push_str(next?.content);
                }
                let (read, has_stream) = self.content(&content, now);
                (read.into_owned(), has_stream)
            }
        };
        if !has_stream {
            read.pairs.push((Cow::Borrowed("stream"), Cow::Borrowed(line.stream)));
        }
        read.time = read.time.or_else(|| self.finder.find(line.time, now).map(|found| found.time));
        Some(read)
    }

    fn content<'a>(&self, text: &'a str, now: Time) -> (Read<'a>, bool) {
        self.object(text, now).unwrap_or_else(|| (self.text(text, now), false))
    }
}

/// The first line, and those after it.
fn split_trace(text: &str) -> (&str, Option<&str>) {
    match text.split_once('\n') {
        Some((first, rest)) => (first, Some(rest)),
        None => (text, None),
    }
}

fn with_trace<'a>(message: Cow<'a, str>, trace: Option<&str>) -> Cow<'a, str> {
    match trace {
        Some(trace) => Cow::Owned(format!("{message}\n{trace}")),
        None => message,
    }
}

impl Read<'_> {
    fn into_owned(self) -> Read<'static> {
        let body = match self.body {
            Body::Text(text) => Body::Text(owned(text)),
            Body::Object(object) => Body::Object(Object { json: owned(object.json), names: object.names }),
        };
        let pairs = self.pairs.into_iter().map(|(key, value)| (owned(key), owned(value))).collect();
        Read { body, time: self.time, level: self.level, pairs, unparsed: self.unparsed }
    }
}

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

#[cfg(test)]
mod tests;
