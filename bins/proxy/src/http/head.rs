//! A message's head as bytes: where it ends, what kinds of fields it has, and a copy without some of them.
//!
//! Pure functions over bytes: never does I/O.

use std::ops::Range;

use httparse::Header;

use super::fields::{CHUNKED, Connection, Field, Fields, plain_length};
use super::refusal::Refusal;
use crate::buffer::Buffer;

/// Looks for the end of a request's head as its bytes arrive, each byte once.
#[derive(Debug, Default)]
pub(crate) struct HeadEnd {
    seen: usize,
}

impl HeadEnd {
    /// The length of the head, once `bytes`, all that has arrived of it, hold its end. What cannot become a head
    /// is refused at once.
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        if bytes
            .first()
            .is_some_and(|first| !first.is_ascii_alphabetic() && !b"!#$%&'*+-.^_`|~\r".contains(first))
        {
            return Err(Refusal::RequestLine);
        }
        // An empty line would have been skipped; a CR by itself is no line.
        if let [b'\r', second, ..] = bytes
            && *second != b'\n'
        {
            return Err(Refusal::RequestLine);
        }
        for at in memchr::memchr_iter(b'\n', &bytes[self.seen..]).map(|at| self.seen + at) {
            match at.checked_sub(1).map(|before| bytes[before]) {
                Some(b'\r') if at >= 3 && &bytes[at - 3..at - 1] == b"\r\n" => return Ok(Some(at + 1)),
                Some(b'\r') => {}
                _ => return Err(Refusal::BareLf),
            }
        }
        self.seen = bytes.len();
        Ok(None)
    }
}

/// The fields of a head that was parsed, each with its kind.
#[derive(Debug)]
pub(super) struct Head<'a, 'h> {
    raw: &'a [u8],
    headers: &'h [Header<'a>],
    kinds: &'h mut [Field],
    present: Fields,
}

impl<'a, 'h> Head<'a, 'h> {
    /// The fields that were parsed from `raw`; `kinds` has room for as many. One in disguise is dropped, as a forged
    /// one would be, or refused where it would delimit the message.
    pub(super) fn new(
        raw: &'a [u8],
        headers: &'h [Header<'a>],
        kinds: &'h mut [Field],
    ) -> Result<Self, Refusal> {
        let kinds = &mut kinds[..headers.len()];
        let mut present = Fields::default();
        for (header, kind) in headers.iter().zip(&mut *kinds) {
            *kind = match Field::of(header.name) {
                Field::Other => match Field::in_disguise(header.name) {
                    Field::Other => Field::Other,
                    Field::ContentLength | Field::TransferEncoding => return Err(Refusal::Field),
                    _ => Field::Dropped,
                },
                known => known,
            };
            present = present.with(*kind);
        }
        Ok(Self { raw, headers, kinds, present })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Field, &'a str, &'a [u8])> {
        self.headers.iter().zip(&*self.kinds).map(|(header, kind)| (*kind, header.name, header.value))
    }

    /// Whether there is such a field, dropped ones aside.
    pub(super) fn has(&self, kind: Field) -> bool {
        self.present.has(kind)
    }

    /// The values of one kind of field, in their order.
    pub(super) fn values(&self, kind: Field) -> impl Iterator<Item = &'a [u8]> {
        // Most heads have none of most kinds.
        let all = if self.has(kind) { self.headers.len() } else { 0 };
        self.iter().take(all).filter_map(move |(of, _, value)| (of == kind).then_some(value))
    }

    /// The value, where there is exactly one field of a kind.
    pub(super) fn only(&self, kind: Field) -> Option<&'a [u8]> {
        let mut values = self.values(kind);
        values.next().filter(|_| values.next().is_none())
    }

    /// Forgets the fields that end at this hop because the Connection field names them.
    pub(super) fn drop_named(&mut self, connection: &Connection<'_>) {
        if connection.names_some() {
            self.drop_if(|_, name| connection.names(name));
        }
    }

    /// Forgets the fields of some kinds.
    pub(super) fn drop_all(&mut self, kinds: Fields) {
        if self.present.overlaps(kinds) {
            self.drop_if(|kind, _| kinds.has(kind));
        }
    }

    fn drop_if(&mut self, dropped: impl Fn(Field, &str) -> bool) {
        self.present = Fields::default();
        for (header, kind) in self.headers.iter().zip(&mut *self.kinds) {
            if dropped(*kind, header.name) {
                *kind = Field::Dropped;
            }
            self.present = self.present.with(*kind);
        }
    }

    /// Appends all fields to `out` but those of some kinds.
    pub(super) fn copy(&self, without: Fields, out: &mut Buffer) {
        let mut copy = Copy::new(self.raw, 0, out);
        for (kind, name, value) in self.iter().filter(|(kind, ..)| !without.has(*kind)) {
            copy.field(kind, name, value);
        }
        copy.end();
    }
}

/// A head that is written anew from parts of another one: each field as `name: value`, and what delimits the body in the
/// one spelling that every server reads alike. What stands so already, one behind the other, is copied in one go.
pub(super) struct Copy<'a, 'o> {
    raw: &'a [u8],
    run: Range<usize>,
    out: &'o mut Buffer,
}

impl<'a, 'o> Copy<'a, 'o> {
    /// Appends to `out`, the first `start` bytes of `raw` as they are.
    pub(super) fn new(raw: &'a [u8], start: usize, out: &'o mut Buffer) -> Self {
        Self { raw, run: 0..start, out }
    }

    /// Appends a field, whose name and value are parts of the raw head.
    pub(super) fn field(&mut self, kind: Field, name: &str, value: &[u8]) {
        let plain = match kind {
            Field::TransferEncoding => CHUNKED,
            Field::ContentLength => plain_length(value),
            _ => value,
        };
        let line = self.place(name)..self.place(value).wrapping_add(value.len()).wrapping_add(2);
        let is_plain = self.raw.get(line.clone()).is_some_and(|raw| {
            plain == value
                && raw.len() == name.len() + value.len() + 4
                && raw[name.len()..].starts_with(b": ")
                && raw.ends_with(b"\r\n")
        });
        if is_plain && self.run.end == line.start {
            self.run.end = line.end;
            return;
        }
        self.out.push(&self.raw[std::mem::replace(&mut self.run, 0..0)]);
        if is_plain {
            self.run = line;
        } else {
            write_field(self.out, name, plain);
        }
    }

    /// Appends what is left.
    pub(super) fn end(self) {
        self.out.push(&self.raw[self.run]);
    }

    /// Where in the head a part of it begins. Empty values may be anywhere, which `field` can stand.
    fn place(&self, part: impl AsRef<[u8]>) -> usize {
        (part.as_ref().as_ptr() as usize).wrapping_sub(self.raw.as_ptr() as usize)
    }
}

/// Appends `name: value` and the line end.
#[inline]
pub(super) fn write_field(out: &mut Buffer, name: &str, value: &[u8]) {
    out.push(name.as_bytes());
    out.push(b": ");
    out.push(value);
    out.push(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All fields but those of a kind, copied and written one by one.
    fn both(fields: &str, without: Fields) -> (String, String) {
        let raw = format!("{fields}\r\n");
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let Ok(httparse::Status::Complete((_, headers))) =
            httparse::parse_headers(raw.as_bytes(), &mut headers)
        else {
            return Default::default();
        };
        let mut kinds = [Field::Other; 32];
        let head = Head::new(raw.as_bytes(), headers, &mut kinds).unwrap();
        let (mut copied, mut written) = (Buffer::default(), Buffer::default());
        head.copy(without, &mut copied);
        for (_, name, value) in head.iter().filter(|(kind, ..)| !without.has(*kind)) {
            write_field(&mut written, name, value);
        }
        let text = |buffer: Buffer| String::from_utf8(buffer.filled().to_vec()).unwrap();
        (text(copied), text(written))
    }

    #[test]
    fn a_copy_has_each_field_in_its_order_and_in_one_form() {
        let fields = "A: 1\r\nB:2\r\nC: \t3  \r\nD:\t4\r\nTE: x\r\nE: 5\r\nF:\r\nG: \r\nH: 6\r\nTE: y\r\n";
        let (copied, _) = both(fields, Fields::of([Field::Te]));
        assert_eq!(copied, "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\nF: \r\nG: \r\nH: 6\r\n");
        let fields = "Content-Length: 010\r\nB: 2\r\ntransfer-encoding: CHUNKED\r\n";
        assert_eq!(
            both(fields, Fields::default()).0,
            "Content-Length: 10\r\nB: 2\r\ntransfer-encoding: chunked\r\n"
        );
        assert_eq!(both("", Fields::default()).0, "");
        assert_eq!(both("TE: x\r\n", Fields::of([Field::Te])).0, "");
    }

    proptest! {
        #[test]
        fn copying_runs_is_writing_field_by_field(fields in "((TE|[A-Z]{1,3}):[ \t]{0,2}[a-z ]{0,4}\r\n){0,8}") {
            let (copied, written) = both(&fields, Fields::of([Field::Te]));
            prop_assert_eq!(copied, written);
        }
    }
}
