//! Bytes to lines. Pure.

/// A piece of a buffer that becomes one record.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Piece<'a> {
    /// Without its line ending (`\n` or `\r\n`).
    pub(crate) text: &'a [u8],
    /// How many bytes of the buffer it takes, ending included.
    pub(crate) taken: usize,
    /// The line goes on: it is longer than is allowed.
    pub(crate) split: bool,
}

/// The first line in `buffer`, or `None` while it is not whole.
///
/// A line longer than `max` bytes comes in pieces of at most `max` bytes, cut between characters. `at_end` takes
/// what is left as a line, since no more bytes will come.
pub(crate) fn next(buffer: &[u8], max: usize, at_end: bool) -> Option<Piece<'_>> {
    let window = &buffer[..buffer.len().min(max + 1)];
    if let Some(end) = memchr::memchr(b'\n', window) {
        let text = &buffer[..end];
        return Some(Piece { text: text.strip_suffix(b"\r").unwrap_or(text), taken: end + 1, split: false });
    }
    if buffer.len() > max {
        let taken = boundary(buffer, max);
        return Some(Piece { text: &buffer[..taken], taken, split: true });
    }
    (at_end && !buffer.is_empty()).then_some(Piece { text: buffer, taken: buffer.len(), split: false })
}

/// The last place at or before `at` that is not inside a UTF-8 character (at most 3 bytes before).
fn boundary(bytes: &[u8], at: usize) -> usize {
    let is_inside = |place: usize| bytes.get(place).is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000);
    (at.saturating_sub(3)..=at).rev().find(|place| *place > 0 && !is_inside(*place)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(mut buffer: &[u8], max: usize, at_end: bool) -> Vec<(String, bool)> {
        let mut lines = Vec::new();
        while let Some(piece) = next(buffer, max, at_end) {
            lines.push((String::from_utf8_lossy(piece.text).into_owned(), piece.split));
            buffer = &buffer[piece.taken..];
        }
        lines
    }

    #[test]
    fn a_partial_line_waits_until_the_end() {
        assert_eq!(
            all(b"one\ntwo\r\n\nthr", 100, false),
            [("one".into(), false), ("two".into(), false), (String::new(), false)]
        );
        assert_eq!(all(b"one\nthr", 100, true), [("one".into(), false), ("thr".into(), false)]);
        assert_eq!(next(b"", 100, true), None);
    }

    #[test]
    fn a_long_line_is_split_between_characters_and_marked() {
        assert_eq!(
            all(b"abcdef\ng\n", 4, false),
            [("abcd".into(), true), ("ef".into(), false), ("g".into(), false)]
        );
        assert_eq!(all("aéé\n".as_bytes(), 4, false), [("aé".into(), true), ("é".into(), false)]);
        assert_eq!(all(b"abcd\n", 4, false), [("abcd".into(), false)]);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_told_twice(
            buffer in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..300),
            max in 4_usize..40,
        ) {
            let mut rest = buffer.as_slice();
            let mut rebuilt = Vec::new();
            while let Some(piece) = next(rest, max, true) {
                prop_assert!(piece.taken > 0 && piece.text.len() <= max);
                prop_assert!(rest.starts_with(piece.text));
                rebuilt.extend_from_slice(&rest[..piece.taken]);
                rest = &rest[piece.taken..];
            }
            prop_assert_eq!(rebuilt, buffer);
        }
    }
}
