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

mod shape;

use regex::bytes::Regex;

use shape::{
    has, is_chain, is_exception, is_exception_line, is_go_call, is_goroutine, is_more, is_node_source,
    is_object, is_rails_head, is_register, is_ruby_frame, is_ruby_head, is_traceback,
};

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

#[cfg(test)]
mod tests;
