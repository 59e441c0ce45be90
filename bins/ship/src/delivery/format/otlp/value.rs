//! `AnyValue` and `KeyValue` of opentelemetry-proto's `common/v1/common.proto`, from texts and from JSON.

use crate::delivery::format::members::{each_element, each_member, string};
use crate::delivery::format::protobuf::{bytes, fixed64, message, uint};

/// How deep arrays and objects are told as such; what lies deeper is told as its JSON text. A level takes three
/// messages in one another, of which decoders take 100.
const MAX_DEPTH: usize = 24;

/// A `KeyValue` as a field, its value written by `write`.
pub(super) fn key_value(field: u32, key: &str, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    message(field, out, |out| {
        bytes(1, key.as_bytes(), out);
        message(2, out, write);
    });
}

/// A `KeyValue` with a text.
pub(super) fn key_value_text(field: u32, key: &str, value: &str, out: &mut Vec<u8>) {
    key_value(field, key, out, |out| text_value(value, out));
}

/// The content of an `AnyValue` that is a text.
pub(super) fn text_value(text: &str, out: &mut Vec<u8>) {
    bytes(1, text.as_bytes(), out);
}

/// The content of an `AnyValue` that is of the type that the JSON value has.
pub(super) fn json_value(json: &str, out: &mut Vec<u8>) {
    json_value_at(json, 0, out);
}

fn json_value_at(json: &str, depth: usize, out: &mut Vec<u8>) {
    let json = json.trim_ascii();
    let start = out.len();
    let told = match json.as_bytes().first() {
        Some(b'"') => string(json).map(|value| text_value(&value, out)).is_some(),
        Some(b't' | b'f') => {
            uint(2, u64::from(json.starts_with('t')), out);
            true
        }
        Some(b'n') => true,
        Some(b'[') if depth < MAX_DEPTH => {
            let mut read = Ok(());
            message(5, out, |out| {
                read = each_element(json, |value| {
                    message(1, out, |out| json_value_at(value, depth + 1, out));
                });
            });
            read.is_ok()
        }
        Some(b'{') if depth < MAX_DEPTH => {
            let mut read = Ok(());
            message(6, out, |out| {
                read = each_member(json, |name, value| {
                    key_value(1, name, out, |out| json_value_at(value, depth + 1, out));
                });
            });
            read.is_ok()
        }
        Some(b'-' | b'0'..=b'9') => number(json, out),
        _ => false,
    };
    if !told {
        // Too deep, too large a number, half a surrogate pair: the text as it was written loses nothing.
        out.truncate(start);
        text_value(json, out);
    }
}

/// Writes a number as its type; false, with nothing written, where it has none that holds it.
fn number(json: &str, out: &mut Vec<u8>) -> bool {
    if json.contains(['.', 'e', 'E']) {
        let value = json.parse::<f64>().ok().filter(|value| value.is_finite());
        value.map(|value| fixed64(4, value.to_bits(), out)).is_some()
    } else {
        json.parse::<i64>().map(|value| uint(3, value as u64, out)).is_ok()
    }
}
