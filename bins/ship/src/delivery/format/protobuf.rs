//! The protobuf wire format (protobuf.dev/programming-guides/encoding), as far as Loki and OTLP need it, and requests
//! put together from events of several groups.

use std::collections::HashMap;

mod show;

pub(super) use show::{Kind, Message, show};

/// Wire types.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const FIXED32: u32 = 5;

pub(super) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes a varint takes.
pub(super) fn varint_len(value: u64) -> usize {
    ((value | 1).ilog2() / 7 + 1) as usize
}

fn tag(field: u32, wire: u32, out: &mut Vec<u8>) {
    varint(u64::from(field << 3 | wire), out);
}

/// A field of type `uint64`, `int64`, `int32`, `bool` or an enum.
pub(super) fn uint(field: u32, value: u64, out: &mut Vec<u8>) {
    tag(field, VARINT, out);
    varint(value, out);
}

pub(super) fn fixed64(field: u32, value: u64, out: &mut Vec<u8>) {
    tag(field, FIXED64, out);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn fixed32(field: u32, value: u32, out: &mut Vec<u8>) {
    tag(field, FIXED32, out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A field of type `string`, `bytes` or a message that is encoded already.
pub(super) fn bytes(field: u32, value: &[u8], out: &mut Vec<u8>) {
    bytes_head(field, value.len(), out);
    out.extend_from_slice(value);
}

/// The beginning of a field whose `len` bytes follow.
pub(super) fn bytes_head(field: u32, len: usize, out: &mut Vec<u8>) {
    tag(field, BYTES, out);
    varint(len as u64, out);
}

/// A field that is a message, written by `write`.
pub(super) fn message(field: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    tag(field, BYTES, out);
    // Nearly all have a length of one byte or two; where it takes more than is kept free, the message moves.
    let place = out.len();
    out.push(0);
    write(out);
    let len = out.len() - place - 1;
    let more = varint_len(len as u64) - 1;
    if more > 0 {
        out.resize(out.len() + more, 0);
        out.copy_within(place + 1..place + 1 + len, place + 1 + more);
    }
    let mut rest = len;
    for byte in &mut out[place..place + more] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[place + more] = rest as u8;
}

/// A field's value on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Uint(u64),
    Bytes(&'a [u8]),
    Fixed64(u64),
    Fixed32(u32),
}

/// Hands each field of a message to `each`; false where the bytes are no message.
pub(super) fn each_field<'a>(mut bytes: &'a [u8], mut each: impl FnMut(u64, Value<'a>)) -> bool {
    while !bytes.is_empty() {
        let Some(field) = read_field(&mut bytes) else { return false };
        each(field.0, field.1);
    }
    true
}

fn read_field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = read_varint(bytes)?;
    let value = match (tag & 7) as u32 {
        VARINT => Value::Uint(read_varint(bytes)?),
        BYTES => {
            let len = usize::try_from(read_varint(bytes)?).ok()?;
            Value::Bytes(bytes.split_off(..len)?)
        }
        FIXED64 => Value::Fixed64(u64::from_le_bytes(bytes.split_off(..8)?.try_into().ok()?)),
        FIXED32 => Value::Fixed32(u32::from_le_bytes(bytes.split_off(..4)?.try_into().ok()?)),
        _ => return None,
    };
    (tag >> 3 > 0).then_some((tag >> 3, value))
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// What the events of a group share, by the number of the group. Numbers stay as long as the format lives, since
/// chunks wait to be sent with them.
#[derive(Debug, Default)]
pub(super) struct Groups {
    numbers: HashMap<Box<[u8]>, u32>,
    shared: Vec<Box<[u8]>>,
}

impl Groups {
    /// The number of the group that shares these bytes, a new one if need be.
    pub(super) fn number(&mut self, shared: &[u8]) -> u32 {
        if let Some(number) = self.numbers.get(shared) {
            return *number;
        }
        let number = self.shared.len() as u32;
        self.numbers.insert(shared.into(), number);
        self.shared.push(shared.into());
        number
    }

    pub(super) fn find(&self, shared: &[u8]) -> Option<u32> {
        self.numbers.get(shared).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.shared.len()
    }

    /// Writes the chunks group by group, in order within each. `head` writes what stands before the chunks of a
    /// group: it gets what the group shares and how many bytes the chunks have together.
    pub(super) fn gather<'c>(
        &self,
        chunks: impl Iterator<Item = (u32, &'c [u8])> + Clone,
        out: &mut Vec<u8>,
        head: impl Fn(&[u8], usize, &mut Vec<u8>),
    ) {
        // The bytes of each group, then where its next chunk goes.
        let mut places = vec![0; self.shared.len()];
        for (group, chunk) in chunks.clone() {
            places[group as usize] += chunk.len();
        }
        for (place, shared) in places.iter_mut().zip(&self.shared) {
            if *place > 0 {
                let size = *place;
                head(shared, size, out);
                *place = out.len();
                out.resize(out.len() + size, 0);
            }
        }
        for (group, chunk) in chunks {
            let place = &mut places[group as usize];
            out[*place..*place + chunk.len()].copy_from_slice(chunk);
            *place += chunk.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message as _;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Sample {
        #[prost(uint64, tag = "1")]
        number: u64,
        #[prost(bytes = "vec", tag = "2")]
        bytes: Vec<u8>,
        #[prost(fixed64, tag = "3")]
        eight: u64,
        #[prost(fixed32, tag = "4")]
        four: u32,
        #[prost(message, optional, boxed, tag = "5")]
        inner: Option<Box<Sample>>,
    }

    fn write(sample: &Sample, out: &mut Vec<u8>) {
        uint(1, sample.number, out);
        bytes(2, &sample.bytes, out);
        fixed64(3, sample.eight, out);
        fixed32(4, sample.four, out);
        if let Some(inner) = &sample.inner {
            message(5, out, |out| write(inner, out));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number: u64, small in 0..300_u64, eight: u64, four: u32, len in 0..40_000_usize) {
            let inner = Sample { number, bytes: vec![7; len], eight, four, inner: None };
            let sample = Sample { number: small, inner: Some(Box::new(inner)), ..Sample::default() };
            let mut out = Vec::new();
            write(&sample, &mut out);
            prop_assert_eq!(Sample::decode(out.as_slice()).unwrap(), sample);
            let mut fields = Vec::new();
            prop_assert!(each_field(&out, |field, _| fields.push(field)));
            prop_assert_eq!(fields, [1, 2, 3, 4, 5]);
            prop_assert!(!each_field(&out[..out.len() - 1], |_, _| ()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            each_field(&bytes, |_, _| ());
        }

        #[test]
        fn groups_keep_their_order(chunks in proptest::collection::vec((0..4_u32, 1..5_usize), 0..20)) {
            let mut groups = Groups::default();
            for group in 0..4_u8 {
                prop_assert_eq!(groups.number(&[group]), u32::from(group));
            }
            let chunks: Vec<_> =
                chunks.iter().enumerate().map(|(at, (group, len))| (*group, vec![at as u8; *len])).collect();
            let mut out = Vec::new();
            groups.gather(chunks.iter().map(|(group, chunk)| (*group, chunk.as_slice())), &mut out, |_, _, _| ());
            let mut want = chunks.clone();
            want.sort_by_key(|(group, _)| *group);
            prop_assert_eq!(out, want.into_iter().flat_map(|(_, chunk)| chunk).collect::<Vec<_>>());
        }
    }
}
