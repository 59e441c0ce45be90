//! The string values of a JSON text, and their content as what it says (RFC 8259, section 7).
//!
//! Works on texts that are known to be valid; on any other it finds something or nothing, and never panics.

use std::borrow::Cow;
use std::iter;
use std::ops::Range;

/// Where the contents of the string values are, without their quotes. Names of members are left out.
pub(super) fn string_values(json: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = json.as_bytes();
    let mut at = 0;
    iter::from_fn(move || {
        loop {
            let start = at + memchr::memchr(b'"', bytes.get(at..)?)? + 1;
            let end = closing_quote(bytes, start)?;
            at = end + 1;
            let next = bytes[at..].iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
            if next != Some(&b':') {
                return Some(start..end);
            }
        }
    })
}

fn closing_quote(json: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        at += memchr::memchr2(b'"', b'\\', json.get(at..)?)?;
        if json[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// A part of a string's content: as it is written, and what it says.
struct Piece<'a> {
    raw: &'a str,
    says: Says<'a>,
}

#[derive(Clone, Copy)]
enum Says<'a> {
    Plain(&'a str),
    Char(char),
}

/// The content in parts: runs without an escape, and escapes.
fn pieces(raw: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = raw;
    iter::from_fn(move || {
        let (length, says) = match memchr::memchr(b'\\', rest.as_bytes()) {
            None if rest.is_empty() => return None,
            None => (rest.len(), Says::Plain(rest)),
            Some(0) => escaped(rest),
            Some(at) => (at, Says::Plain(&rest[..at])),
        };
        let raw = &rest[..length];
        rest = &rest[length..];
        Some(Piece { raw, says })
    })
}

/// The escape at the beginning of a text: its length, and what it says. Half of a surrogate pair says U+FFFD.
fn escaped(text: &str) -> (usize, Says<'_>) {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(digits, 16).ok()
    };
    let one = match text.as_bytes().get(1) {
        Some(b'n') => '\n',
        Some(b't') => '\t',
        Some(b'r') => '\r',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'u') => {
            let Some(first) = unit(0) else { return (1, Says::Char('\\')) };
            if let (0xD800..0xDC00, Some(second @ 0xDC00..0xE000)) = (first, unit(6)) {
                let both = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                return (12, Says::Char(char::from_u32(both).unwrap_or(char::REPLACEMENT_CHARACTER)));
            }
            return (6, Says::Char(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)));
        }
        Some(byte @ (b'"' | b'\\' | b'/')) => char::from(*byte),
        _ => return (1, Says::Char('\\')),
    };
    (2, Says::Char(one))
}

/// What a string's content says. Uses `buffer` where there are escapes.
pub(super) fn decode<'a>(raw: &'a str, buffer: &'a mut String) -> &'a str {
    if memchr::memchr(b'\\', raw.as_bytes()).is_none() {
        return raw;
    }
    buffer.clear();
    for piece in pieces(raw) {
        match piece.says {
            Says::Plain(text) => buffer.push_str(text),
            Says::Char(char) => buffer.push(char),
        }
    }
    buffer
}

/// A string's content with the ranges of what it says replaced; they ascend and do not overlap. All around them
/// stays as it is written.
pub(super) fn splice(raw: &str, replaced: &[(Range<usize>, Cow<'_, str>)]) -> String {
    let mut out = String::with_capacity(raw.len() + 16);
    let mut places = Places { pieces: pieces(raw), raw: 0, decoded: 0, piece: None };
    let mut kept = 0;
    for (range, with) in replaced {
        out.push_str(&raw[kept..places.find(range.start)]);
        escape(with, &mut out);
        kept = places.find(range.end);
    }
    out.push_str(&raw[kept..]);
    out
}

/// Walks from places in what a content says to places in what is written.
struct Places<'a, I: Iterator<Item = Piece<'a>>> {
    pieces: I,
    /// Where the piece begins.
    raw: usize,
    decoded: usize,
    piece: Option<Piece<'a>>,
}

impl<'a, I: Iterator<Item = Piece<'a>>> Places<'a, I> {
    /// Each `decoded` must be at or after the one before.
    fn find(&mut self, decoded: usize) -> usize {
        loop {
            let Some(piece) = &self.piece else {
                match self.pieces.next() {
                    None => return self.raw,
                    piece => self.piece = piece,
                }
                continue;
            };
            let into = decoded - self.decoded;
            let length = match piece.says {
                Says::Plain(text) => text.len(),
                Says::Char(char) => char.len_utf8(),
            };
            if into < length {
                return match piece.says {
                    Says::Plain(_) => self.raw + into,
                    Says::Char(_) => self.raw,
                };
            }
            self.raw += piece.raw.len();
            self.decoded += length;
            self.piece = None;
        }
    }
}

fn escape(text: &str, out: &mut String) {
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..' ' => out.push_str(&format!("\\u{:04x}", u32::from(char))),
            _ => out.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(json: &str) -> Vec<&str> {
        string_values(json).map(|range| &json[range]).collect()
    }

    #[test]
    fn only_values_are_found() {
        let json = r#"{"a":"1", "b" : ["2",{"c":"" , "d":3}], "e\"":"4\\", "f":null,"g":"x:\"y"}"#;
        assert_eq!(values(json), ["1", "2", "", r"4\\", r#"x:\"y"#]);
        for broken in ["", "\"", "{\"a", "{\"a\\", "{\"a\":\"\\\"", "}\"\""] {
            values(broken);
        }
    }

    #[test]
    fn what_is_around_a_splice_stays_as_written() {
        let raw = r"\u00e9\/a\ud83d\ude00b\ud800\n";
        let mut buffer = String::new();
        let text = decode(raw, &mut buffer);
        assert_eq!(text, "é/a😀b\u{fffd}\n");
        let (from, to) = (text.find('a').unwrap(), text.find('b').unwrap());
        assert_eq!(splice(raw, &[(from..to, "\"\u{1}".into())]), "\\u00e9\\/\\\"\\u0001b\\ud800\\n");
        assert_eq!(
            splice(raw, &[(0..2, "".into()), (text.len() - 1..text.len(), "".into())]),
            &raw[6..raw.len() - 2]
        );
        assert_eq!(splice(raw, &[]), raw);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\\\\"u0dD89: {}a-cé]{0,40}") {
            for range in string_values(&text) {
                let mut buffer = String::new();
                let says = decode(&text[range.clone()], &mut buffer).to_owned();
                prop_assert_eq!(splice(&text[range.clone()], &[(0..says.len(), "".into())]), "");
                prop_assert_eq!(splice(&text[range.clone()], &[]), &text[range]);
            }
        }

        #[test]
        fn strings_are_decoded_as_serde_does(text in "\\PC{0,40}|[\\x00-\\x7f]{0,20}") {
            let json = serde_json::to_string(&text).unwrap();
            let mut buffer = String::new();
            prop_assert_eq!(decode(&json[1..json.len() - 1], &mut buffer), &text);
            let mut escaped = String::new();
            escape(&text, &mut escaped);
            prop_assert_eq!(serde_json::from_str::<String>(&format!("\"{escaped}\"")).unwrap(), text);
        }
    }
}
