//! Which lines belong together: a stack trace to the line that it explains. Decides line by line, from the first line
//! and a small state; knows nothing of files or of how long to wait. Pure.
//!
//! The rules, for `auto` (all languages) and for some of them alike:
//! - A frame (`at ..`, `File ".."`, `from ..`) or a cause (`Caused by:`) belongs to the line before it.
//! - A line that begins with a time or a level (*labelled*) also takes lines that are indented, and the head of a
//!   trace (`java.lang.X: ..`, `Traceback ..`, `goroutine 1 [..]:`) that has no label of its own: loggers print the
//!   exception so. After any other line such a head begins an event of its own: two traces in a row stay two.
//! - Within a trace, what is indented belongs to it. The first line that fits nothing begins a new event.
//! - A line that is a JSON object is whole: it takes nothing and is taken by nothing.
//!
//! Fluent Bit and detect-exceptions part the trace from the line that logged it, and so from its time and level;
//! Datadog takes everything up to the next time, and so joins what is only printed without one. This is between.

use regex::bytes::Regex;

use super::{level, stamp};

/// How a source's lines are put together.
#[derive(Debug, Clone)]
pub(crate) enum Multiline {
    /// Each line is an event.
    None,
    /// Stack traces of these languages are put together.
    Traces(Languages),
    /// An event begins where this matches, and takes all lines up to the next such.
    Start(Regex),
}

/// A set of languages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Languages(u8);

impl Languages {
    pub(crate) const JAVA: Self = Self(1);
    pub(crate) const PYTHON: Self = Self(2);
    pub(crate) const GO: Self = Self(4);
    pub(crate) const RUBY: Self = Self(8);
    pub(crate) const NODE: Self = Self(16);
    pub(crate) const DOTNET: Self = Self(32);
    pub(crate) const ALL: Self = Self(63);

    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any language is in both.
    pub(crate) fn any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }
}

/// Frames are `at ..` in these.
const AT: Languages = Languages(Languages::JAVA.0 | Languages::NODE.0 | Languages::DOTNET.0);

/// The lines of one event so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing can follow.
    Over,
    /// Up to the next line that begins an event.
    Open,
    /// A line, and what is indented below it.
    Line {
        labelled: bool,
    },
    /// Within a trace whose frames are indented; `brace` is open in Node's trace.
    Frames {
        brace: bool,
    },
    /// Rails: the exception, before its frames.
    RailsHead,
    /// Node shows the source line that threw, then the trace, then its version.
    NodeSource,
    NodeFrames {
        brace: bool,
    },
    NodeGap,
    /// After `Traceback (most recent call last):`.
    PythonFrames,
    /// After the exception's own line, a blank one, and the line that tells of another trace.
    PythonOver,
    PythonGap,
    PythonChain,
    /// After `panic: ..`, in a goroutine's frames, and after a blank line.
    GoPanic,
    GoFrames,
    GoGap,
}

impl Multiline {
    /// The group that a first line opens.
    pub(crate) fn begin(&self, first: &[u8]) -> Group {
        let state = match self {
            Self::None => State::Over,
            _ if is_object(first) => State::Over,
            Self::Start(_) => State::Open,
            Self::Traces(languages) => languages.open(first),
        };
        Group { state }
    }
}

impl Group {
    /// Whether `line` belongs to the group, which then has it; else it begins a new event. `multiline` is the one
    /// that began the group.
    pub(crate) fn takes(&mut self, multiline: &Multiline, line: &[u8]) -> bool {
        if self.state == State::Over || is_object(line) {
            return false;
        }
        match multiline {
            Multiline::None => false,
            Multiline::Start(start) => !start.is_match(line),
            Multiline::Traces(languages) => {
                let next = languages.next(self.state, line);
                if let Some(state) = next {
                    self.state = state;
                }
                next.is_some()
            }
        }
    }

    /// Whether another line could belong to the group: if not, it need not wait for one.
    pub(crate) fn may_go_on(self) -> bool {
        self.state != State::Over
    }
}

impl Languages {
    fn open(self, first: &[u8]) -> State {
        // Most lines have a time. `panic:` and `Error:` are heads of traces before they are levels.
        if stamp::begins_with_time(first) {
            return State::Line { labelled: true };
        }
        self.head(first).unwrap_or_else(|| State::Line { labelled: level::begins_with_level(first) })
    }

    /// The state after a line that is the head of a trace.
    fn head(self, line: &[u8]) -> Option<State> {
        if self.any(Self::PYTHON.union(Self::RUBY)) && is_traceback(line) {
            // A group of exceptions has its last line indented too.
            let grouped = line.trim_ascii_start().starts_with(b"+");
            Some(if grouped { State::Frames { brace: false } } else { State::PythonFrames })
        } else if self.any(Self::GO) && is_goroutine(line) {
            Some(State::GoFrames)
        } else if self.any(Self::GO) && (line.starts_with(b"panic: ") || line.starts_with(b"fatal error: ")) {
            Some(State::GoPanic)
        } else if self.any(Self::RUBY) && is_rails_head(line) {
            Some(State::RailsHead)
        } else if self.any(Self::NODE) && is_node_source(line) {
            Some(State::NodeSource)
        } else if self.any(AT) && is_exception(line) || self.any(Self::RUBY) && is_ruby_head(line) {
            Some(State::Frames { brace: false })
        } else {
            None
        }
    }

    /// The state after a line that belongs to the group; `None` where it begins another.
    fn next(self, state: State, line: &[u8]) -> Option<State> {
        if matches!(state, State::Line { .. }) && line.first().is_some_and(u8::is_ascii_digit) {
            // Most lines begin with a time, and nothing that goes on does; a Ruby frame may, in a file of that name.
            let frame = self.any(Self::RUBY) && is_ruby_frame(line);
            return frame.then_some(State::Frames { brace: false });
        }
        let text = line.trim_ascii();
        let blank = text.is_empty();
        let indented = !blank && matches!(line[0], b' ' | b'\t');
        let brace_after = || State::Frames { brace: self.any(Self::NODE) && text.ends_with(b"{") };
        match state {
            State::Over | State::Open => None,
            State::Line { labelled } => {
                if blank {
                    None
                } else if self.goes_on(text, indented) {
                    Some(brace_after())
                } else if !labelled {
                    None
                } else if indented {
                    Some(state)
                } else {
                    // A panic is no part of what was logged before it.
                    self.head(line).filter(|state| *state != State::GoPanic && *state != State::NodeSource)
                }
            }
            State::Frames { brace } => {
                self.frames(text, indented, brace).map(|brace| State::Frames { brace })
            }
            State::RailsHead => {
                let frame = is_ruby_frame(text);
                if frame { Some(brace_after()) } else { (blank || indented).then_some(state) }
            }
            State::NodeSource => {
                let head = is_exception(line);
                let after = if head { State::NodeFrames { brace: text.ends_with(b"{") } } else { state };
                (blank || indented || head).then_some(after)
            }
            State::NodeFrames { .. } | State::NodeGap if text.starts_with(b"Node.js v") => Some(State::Over),
            State::NodeFrames { .. } if blank => Some(State::NodeGap),
            State::NodeFrames { brace } => {
                self.frames(text, indented, brace).map(|brace| State::NodeFrames { brace })
            }
            State::NodeGap => None,
            State::PythonFrames => {
                let last = !blank && !indented && is_exception_line(text);
                if last { Some(State::PythonOver) } else { indented.then_some(state) }
            }
            State::PythonOver if blank => Some(State::PythonGap),
            State::PythonOver | State::PythonGap if is_chain(text) => Some(State::PythonChain),
            State::PythonOver => indented.then_some(state),
            State::PythonGap => None,
            State::PythonChain if is_traceback(line) => Some(State::PythonFrames),
            State::PythonChain => blank.then_some(state),
            State::GoPanic | State::GoFrames | State::GoGap => go(state, text, blank, indented),
        }
    }

    /// Whether a line goes on with a trace whatever the line before it was.
    fn goes_on(self, text: &[u8], indented: bool) -> bool {
        let frame = indented
            && (self.any(AT) && text.starts_with(b"at ")
                || self.any(Self::JAVA) && is_more(text)
                || self.any(Self::DOTNET) && text.starts_with(b"---> ")
                || self.any(Self::PYTHON) && text.starts_with(b"File \"")
                || self.any(Self::RUBY) && text.starts_with(b"from ") && has(text, b":in "));
        frame || self.any(Self::RUBY) && is_ruby_frame(text) || self.is_cause(text)
    }

    /// What tells of the exception behind the one before, indented or not.
    fn is_cause(self, text: &[u8]) -> bool {
        const CAUSES: [&[u8]; 3] = [b"Caused by: ", b"Suppressed: ", b"Wrapped by: "];
        self.any(Self::JAVA) && CAUSES.iter().any(|cause| text.starts_with(cause))
            || self.any(Self::DOTNET) && text.starts_with(b"--- End of ")
    }

    /// Whether a line is within a trace of indented frames, and whether Node's brace is open after it.
    fn frames(self, text: &[u8], indented: bool, brace: bool) -> Option<bool> {
        if text.is_empty() {
            None
        } else if indented {
            // The brace of the outermost error closes at the line's beginning.
            Some(brace || self.any(Self::NODE) && text.ends_with(b"{"))
        } else if brace && text == b"}" {
            Some(false)
        } else {
            self.goes_on(text, false).then_some(brace)
        }
    }
}

fn go(state: State, text: &[u8], blank: bool, indented: bool) -> Option<State> {
    if blank {
        return Some(State::GoGap);
    }
    if is_goroutine(text) && !indented || text == b"runtime stack:" {
        return Some(State::GoFrames);
    }
    if text.starts_with(b"exit status ") && state != State::GoPanic {
        return Some(State::Over);
    }
    let within = match state {
        State::GoPanic => indented || text.starts_with(b"[signal ") || text.starts_with(b"panic: "),
        State::GoFrames => {
            indented
                || text.starts_with(b"created by ")
                || text.starts_with(b"...additional frames")
                || is_go_call(text)
                || is_register(text)
        }
        // After a blank line only a goroutine, or the registers, go on.
        _ => is_register(text),
    };
    let after = if state == State::GoPanic { state } else { State::GoFrames };
    within.then_some(after)
}

fn has(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

/// `{..}`: near enough to an object to be an event of its own.
fn is_object(line: &[u8]) -> bool {
    // Most lines are told by their first byte.
    matches!(line.first(), Some(b'{' | b' ' | b'\t')) && {
        let text = line.trim_ascii();
        text.starts_with(b"{\"") && text.ends_with(b"}")
    }
}

/// Python's first line; Ruby's too, where it shows the last call last.
fn is_traceback(line: &[u8]) -> bool {
    let text = line.trim_ascii_start();
    let text = text.strip_prefix(b"+ Exception Group ").unwrap_or(text);
    text.starts_with(b"Traceback (most recent call last):")
}

/// `ValueError: x`, `KeyboardInterrupt`, and Ruby's `x.rb:1:in 'f': x (RuntimeError)`.
fn is_exception_line(text: &[u8]) -> bool {
    let name =
        text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.')).count();
    let named = name > 0 && !text[0].is_ascii_digit() && matches!(text.get(name), None | Some(b':'));
    named || is_ruby_head(text)
}

fn is_chain(text: &[u8]) -> bool {
    text.starts_with(b"During handling of the above exception, another")
        || text.starts_with(b"The above exception was the direct cause of")
}

/// `goroutine 1 [running]:`
fn is_goroutine(line: &[u8]) -> bool {
    line.strip_prefix(b"goroutine ").is_some_and(|rest| {
        rest.first().is_some_and(u8::is_ascii_digit) && has(rest, b" [") && line.ends_with(b"]:")
    })
}

/// `main.(*T).f(0xc000, ...)`, `panic({0x1, 0x2})`
fn is_go_call(text: &[u8]) -> bool {
    let name = memchr::memchr2(b'(', b' ', text).unwrap_or(0);
    let (name, rest) = text.split_at(name);
    // The receiver is in parentheses too: `main.(*T)`.
    rest.starts_with(b"(") && text.ends_with(b")") && (name == b"panic" || name.contains(&b'.'))
}

/// `rax    0xca`
fn is_register(text: &[u8]) -> bool {
    let name = text.iter().take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()).count();
    (2..=6).contains(&name) && text[name..].trim_ascii_start().starts_with(b"0x") && text[name] == b' '
}

/// `... 12 more`, `... 3 common frames omitted`
fn is_more(text: &[u8]) -> bool {
    text.strip_prefix(b"... ").is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit))
}

/// An exception's name and message, as Java, .NET and Node show it: `java.lang.IllegalStateException: x`.
fn is_exception(line: &[u8]) -> bool {
    const BEFORE: [&[u8]; 4] =
        [b"Unhandled exception. ", b"Unhandled Exception: ", b"Uncaught ", b"Exception in thread \""];
    let mut text = line;
    for before in BEFORE {
        if let Some(rest) = text.strip_prefix(before) {
            text = rest;
            if before.ends_with(b"\"") {
                let Some(quote) = memchr::memmem::find(rest, b"\" ") else { return false };
                text = &rest[quote + 2..];
            }
            break;
        }
    }
    let name = text
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$' | b'`' | b'+'))
        .count();
    let rest = &text[name..];
    let ends =
        rest.is_empty() || rest.starts_with(b":") || rest.starts_with(b" [") || rest.starts_with(b" (0x");
    let name = &text[..name];
    ends && (name.ends_with(b"Exception") || name.ends_with(b"Error") || name.ends_with(b"Throwable"))
}

/// `/app/x.js:3`, `file:///app/x.mjs:3`, `node:internal/modules:1`
fn is_node_source(line: &[u8]) -> bool {
    let begins = line.starts_with(b"/") || line.starts_with(b"file:///") || line.starts_with(b"node:");
    begins
        && !line.contains(&b' ')
        && memchr::memrchr(b':', line)
            .is_some_and(|colon| colon + 1 < line.len() && line[colon + 1..].iter().all(u8::is_ascii_digit))
}

/// `/app/x.rb:1:in 'f'`, without a message: one of a list.
fn is_ruby_frame(text: &[u8]) -> bool {
    text.ends_with(b"'") && ruby_place(text)
}

/// `/app/x.rb:1:in 'f': message (RuntimeError)`
fn is_ruby_head(text: &[u8]) -> bool {
    text.ends_with(b")") && ruby_place(text)
}

/// Whether a text begins with a place and what was called there: `x.rb:1:in `.
fn ruby_place(text: &[u8]) -> bool {
    memchr::memmem::find(text, b":in ").is_some_and(|at| {
        let (place, call) = text.split_at(at);
        let line = place.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let path = &place[..place.len() - line];
        line > 0
            && path.len() > 1
            && path.ends_with(b":")
            && !path.contains(&b' ')
            && matches!(call.get(4), Some(b'`' | b'\''))
    })
}

/// `ActionView::Template::Error (message):`
fn is_rails_head(line: &[u8]) -> bool {
    let name =
        line.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':')).count();
    line.first().is_some_and(u8::is_ascii_uppercase)
        && line[name..].starts_with(b" (")
        && line.ends_with(b"):")
}

#[cfg(test)]
mod tests;
