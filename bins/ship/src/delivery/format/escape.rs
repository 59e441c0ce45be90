//! The content of a JSON string (RFC 8259 section 7).
//!
//! Nearly every byte of a log line goes through here, and nearly none of them needs an escape: whole blocks are
//! looked at together and copied as they are.

use crate::event::json;

/// A block is looked at in one go; two vectors of the oldest processors that we run on.
const BLOCK: usize = 32;

/// Appends `text` as the content of a JSON string.
pub(super) fn escape(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut plain = 0;
    while let Some(at) = special(bytes, plain) {
        out.extend_from_slice(&bytes[plain..at]);
        plain = at + 1;
        short(bytes[at], out);
    }
    out.extend_from_slice(&bytes[plain..]);
}

/// Appends `,"name":"value"`.
pub(super) fn member(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    escape(name, out);
    out.extend_from_slice(b"\":\"");
    escape(value, out);
    out.push(b'"');
}

/// Where the first byte from `from` on stands that needs an escape.
fn special(bytes: &[u8], mut from: usize) -> Option<usize> {
    while let Some(block) = bytes.get(from..from + BLOCK) {
        // Without an early exit, so that it compiles to vector instructions.
        if block.iter().fold(false, |found, byte| found | needs_escape(*byte)) {
            break;
        }
        from += BLOCK;
    }
    while let Some(eight) = bytes.get(from..from + 8) {
        if let Some(place) = json::special(u64::from_le_bytes(eight.try_into().unwrap_or_default())) {
            return Some(from + place);
        }
        from += 8;
    }
    bytes[from..].iter().position(|byte| needs_escape(*byte)).map(|at| from + at)
}

fn needs_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

fn short(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 0xf)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        escape(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_json_forbids_in_strings_is_escaped() {
        assert_eq!(escaped("a\"b\\c\n\r\t\u{0}\u{1f}\u{7f}é/"), "a\\\"b\\\\c\\n\\r\\t\\u0000\\u001f\u{7f}é/");
        let long = "x".repeat(100) + "\"" + &"y".repeat(100);
        assert_eq!(escaped(&long), long.replace('"', "\\\""));
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in "[ -~\\x00-\\x1f\"\\\\é☃]{0,200}") {
            let json = format!("\"{}\"", escaped(&text));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
