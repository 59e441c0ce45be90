//! Messages for people, as `protoc --decode` prints them. Pure; knows a message only by the table it is given.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{Value, each_field};

/// The fields of a message: number, name and kind.
pub(in crate::delivery::format) struct Message(
    pub(in crate::delivery::format) &'static [(u64, &'static str, Kind)],
);

/// How a field's value is shown.
#[derive(Clone, Copy)]
pub(in crate::delivery::format) enum Kind {
    Text,
    /// Bytes that are no text.
    Hex,
    /// `int32`, `int64` or an enum by its number.
    Int,
    Bool,
    Fixed,
    Double,
    Message(&'static Message),
}

/// The fields of a message in their order, one a line, those of inner messages indented. Fields that the table does
/// not have are told by their numbers.
pub(in crate::delivery::format) fn show(message: &Message, bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    show_at(message, bytes, 0, &mut out);
    out
}

fn show_at(message: &Message, bytes: &[u8], depth: usize, out: &mut String) {
    let whole = each_field(bytes, |number, value| {
        let known = message.0.iter().find(|(known, ..)| *known == number);
        let name = known.map_or_else(|| Cow::Owned(number.to_string()), |(_, name, _)| Cow::Borrowed(*name));
        let _ = write!(out, "{:indent$}{name}", "", indent = 2 * depth);
        match (known.map(|(.., kind)| *kind), value) {
            (Some(Kind::Message(inner)), Value::Bytes(bytes)) => {
                out.push_str(" {\n");
                show_at(inner, bytes, depth + 1, out);
                let _ = writeln!(out, "{:indent$}}}", "", indent = 2 * depth);
            }
            (kind, value) => {
                let _ = writeln!(out, ": {}", show_value(kind, value));
            }
        }
    });
    if !whole {
        let _ = writeln!(out, "{:indent$}# the rest is no message", "", indent = 2 * depth);
    }
}

fn show_value(kind: Option<Kind>, value: Value<'_>) -> String {
    match (kind, value) {
        (Some(Kind::Bool), Value::Uint(value)) => (value != 0).to_string(),
        // Negative numbers are written as 64 bits whatever their type.
        (Some(Kind::Int), Value::Uint(value)) => (value as i64).to_string(),
        (Some(Kind::Double), Value::Fixed64(bits)) => format!("{:?}", f64::from_bits(bits)),
        (_, Value::Uint(value) | Value::Fixed64(value)) => value.to_string(),
        (_, Value::Fixed32(value)) => value.to_string(),
        (Some(Kind::Text), Value::Bytes(bytes)) => format!("{:?}", String::from_utf8_lossy(bytes)),
        (_, Value::Bytes(bytes)) => bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::format::protobuf::{bytes, fixed32, fixed64, message, uint};
    use proptest::prelude::*;

    static TREE: Message = Message(&[
        (1, "name", Kind::Text),
        (2, "id", Kind::Hex),
        (3, "count", Kind::Int),
        (4, "on", Kind::Bool),
        (5, "at", Kind::Fixed),
        (6, "share", Kind::Double),
        (7, "inner", Kind::Message(&TREE)),
    ]);

    #[test]
    fn each_field_is_a_line_and_messages_are_indented() {
        let mut out = Vec::new();
        bytes(1, "a \"b\"\n\u{e9}".as_bytes(), &mut out);
        bytes(2, &[0, 0xaf], &mut out);
        uint(3, -5_i64 as u64, &mut out);
        uint(4, 1, &mut out);
        message(7, &mut out, |out| {
            fixed64(5, 17, out);
            message(7, out, |_| ());
            fixed64(6, 1.5_f64.to_bits(), out);
        });
        fixed32(9, 3, &mut out);
        let want = "name: \"a \\\"b\\\"\\n\u{e9}\"\nid: 00af\ncount: -5\non: true\ninner {\n  at: 17\n  inner {\n  }\n  \
                    share: 1.5\n}\n9: 3\n";
        assert_eq!(show(&TREE, &out), want);
        assert!(show(&TREE, &out[..out.len() - 1]).ends_with("}\n# the rest is no message\n"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            show(&TREE, &bytes);
        }
    }
}
