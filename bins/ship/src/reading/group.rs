//! Lines to the text of events: lines that belong together are joined. Pure.
//!
//! Keeps nothing between calls: a group that is not known to be whole stays in the file, and is looked at again when
//! there is more of it. So a crash in the middle of a stack trace costs nothing.

use crate::event::{Multiline, cri};
use crate::reading::lines;

/// A piece of a buffer that becomes one event.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Piece<'a> {
    /// Without its last line ending.
    pub(crate) text: &'a [u8],
    /// How many bytes of the buffer it takes, endings included.
    pub(crate) taken: usize,
    /// The line, or the group, goes on: it is longer than is allowed.
    pub(crate) split: bool,
}

/// What a buffer begins with.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Next<'a> {
    Piece(Piece<'a>),
    /// A line that is not whole, or nothing.
    Partial,
    /// Whole lines that the next one may belong to.
    Held,
}

/// What is known of the bytes that follow a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rest {
    /// More may come at any moment.
    Open,
    /// None have come for a while, so groups are whole; a line without its end is not.
    Quiet,
    /// None will come.
    End,
}

/// Enough of a line to tell whether it belongs to the one before.
const BEGINNING: usize = 1 << 10;

/// How the lines of one source are joined.
#[derive(Debug)]
pub(crate) struct Grouper {
    multiline: Multiline,
    /// Lines have the container runtime's head, which may say that a line goes on in the next one.
    is_cri: bool,
    max: usize,
}

impl Grouper {
    pub(crate) fn new(multiline: Multiline, is_cri: bool, max: usize) -> Self {
        Self { multiline, is_cri, max }
    }

    /// The longest group, in bytes.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// The first event's text.
    pub(crate) fn next<'a>(&self, buffer: &'a [u8], rest: Rest) -> Next<'a> {
        let Some(first) = lines::next(buffer, self.max, rest == Rest::End) else { return Next::Partial };
        if first.split || (matches!(self.multiline, Multiline::None) && !self.is_cri) {
            let lines::Piece { text, taken, split } = first;
            return Next::Piece(Piece { text, taken, split });
        }
        if self.is_cri { self.cri(buffer, first, rest) } else { self.plain(buffer, first, rest) }
    }

    /// The line after a group's `taken` bytes, or the beginning of one that the group has no room for: to wait for all
    /// of that would take a buffer of twice the longest line.
    fn after<'a>(&self, buffer: &'a [u8], taken: usize, rest: Rest) -> Option<lines::Piece<'a>> {
        let room = self.max.saturating_sub(taken).max(BEGINNING);
        lines::next(&buffer[taken..], room, rest == Rest::End)
    }

    /// Lines that belong together by what they say: a slice of the buffer as it is.
    fn plain<'a>(&self, buffer: &'a [u8], first: lines::Piece<'a>, rest: Rest) -> Next<'a> {
        let piece = |end: usize, taken, split| Next::Piece(Piece { text: &buffer[..end], taken, split });
        let (mut end, mut taken) = (first.text.len(), first.taken);
        let mut group = self.multiline.begin(first.text);
        while group.may_go_on() {
            let Some(line) = self.after(buffer, taken, rest) else {
                return if rest == Rest::Open { Next::Held } else { piece(end, taken, false) };
            };
            if !group.takes(&self.multiline, line.text) {
                break;
            }
            if line.split || taken + line.text.len() > self.max {
                return piece(end, taken, true);
            }
            end = taken + line.text.len();
            taken += line.taken;
        }
        piece(end, taken, false)
    }

    /// Lines with the runtime's head: parts of a line are joined by it, lines by what they say after it. What the heads
    /// say stays in the text, for the parser.
    fn cri<'a>(&self, buffer: &'a [u8], first: lines::Piece<'a>, rest: Rest) -> Next<'a> {
        let piece = |end: usize, taken, split| Next::Piece(Piece { text: &buffer[..end], taken, split });
        let (mut end, mut taken) = (first.text.len(), first.taken);
        let Some((head, content)) = cri::split_bytes(first.text) else { return piece(end, taken, false) };
        let mut is_partial = head.partial;
        // By its first line's beginning: what a part goes on with is no beginning of a line.
        let mut group = self.multiline.begin(content);
        while is_partial || group.may_go_on() {
            let Some(line) = self.after(buffer, taken, rest) else {
                return if rest == Rest::Open { Next::Held } else { piece(end, taken, false) };
            };
            let next = cri::split_bytes(line.text).filter(|(next, _)| next.stream == head.stream);
            let Some((next, content)) = next else { break };
            if !is_partial && !group.takes(&self.multiline, content) {
                break;
            }
            if line.split || taken + line.text.len() > self.max {
                return piece(end, taken, true);
            }
            end = taken + line.text.len();
            taken += line.taken;
            is_partial = next.partial;
        }
        piece(end, taken, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Languages;
    use proptest::prelude::*;

    const MAX: usize = 4 << 10;

    fn groupers() -> [Grouper; 3] {
        let traces = || Multiline::Traces(Languages::ALL);
        [
            Grouper::new(Multiline::None, true, MAX),
            Grouper::new(traces(), true, MAX),
            Grouper::new(traces(), false, MAX),
        ]
    }

    fn lines() -> impl Strategy<Value = Vec<u8>> {
        let heads = prop_oneof![
            Just("2026-11-22T05:00:00Z stdout P "),
            Just("2026-11-22T05:00:00Z stdout F "),
            Just("2026-11-22T05:00:00Z ERROR "),
            Just("\tat a.b.C("),
            Just("x"),
        ];
        let line = (heads, prop_oneof![0..80_usize, (MAX - 80)..(MAX + 80)], prop::bool::ANY);
        prop::collection::vec(line, 1..12).prop_map(|lines| {
            let text = |(head, length, end): (&str, usize, bool)| {
                format!("{head}{}{}", "y".repeat(length), if end { "\n" } else { "\r\n" })
            };
            lines.into_iter().map(text).collect::<String>().into_bytes()
        })
    }

    proptest! {
        /// A reader's buffer has room for the longest line and some more. Were it full and nothing to be taken of it,
        /// the file would stand still for ever.
        #[test]
        fn a_full_buffer_has_something_to_take(lines in lines(), room in (2 * BEGINNING)..(8 * BEGINNING)) {
            for grouper in groupers() {
                let mut rest = lines.as_slice();
                while rest.len() > MAX + room {
                    let next = grouper.next(&rest[..MAX + room], Rest::Open);
                    let Next::Piece(piece) = next else { panic!("{next:?} of a full buffer") };
                    prop_assert!(piece.taken > 0 && piece.text.len() <= MAX + 2);
                    rest = &rest[piece.taken..];
                }
                while let Next::Piece(piece) = grouper.next(rest, Rest::End) {
                    rest = &rest[piece.taken..];
                }
                prop_assert!(rest.is_empty());
            }
        }
    }
}
