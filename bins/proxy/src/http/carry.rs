//! One body from one side to the other, in bounded pieces, as it arrives.

use std::cell::Cell;
use std::time::Duration;

use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::body::{BadBody, Body, Piece};
use super::fields::may_trail;
use super::request::write_field;
use crate::buffer::{BUFFER_SIZE, Buffer};
use crate::io::{self, Stall};
use crate::worker::{NEVER, Tick, Watch};

/// The times that a body is carried under.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace<'a> {
    pub(super) watch: &'a Watch,
    /// Without a byte from the source; zero is no limit.
    pub(super) read: Duration,
    /// Without room at the sink.
    pub(super) write: Duration,
    /// The end of the whole request's time.
    pub(super) until: Tick,
}

impl Pace<'_> {
    pub(super) fn read_until(&self) -> Tick {
        self.watch.after(self.read).min(self.until)
    }

    pub(super) fn write_until(&self) -> Tick {
        self.watch.after(self.write).min(self.until)
    }

    /// Whether the whole request's time is over.
    pub(super) fn is_over(&self) -> bool {
        self.until != NEVER && self.until <= self.watch.now()
    }
}

/// Why a body was not carried to its end.
#[derive(Debug)]
pub(super) enum Failed {
    Source(Stall),
    /// The source ended before the body did.
    Truncated,
    Sink(Stall),
    Bad(BadBody),
}

/// Carries the body to its end. `next` is the piece that was decided on before; `count` hears of each read and write.
pub(super) async fn carry(
    (from, to): (&mut ReadHalf<'_>, &mut WriteHalf<'_>),
    buffer: &mut Buffer,
    body: &mut Body,
    keep_framing: bool,
    mut next: Piece,
    pace: Pace<'_>,
    count: impl Fn(Moved),
) -> Result<(), Failed> {
    loop {
        match next {
            Piece::Forward(length) => {
                let written = Cell::new(0);
                let spans = [&buffer.filled()[..length], &[]];
                let result = io::write(to, spans, pace.watch, pace.write_until(), &written).await;
                count(Moved::Out(written.get()));
                result.map_err(Failed::Sink)?;
                buffer.consume(length);
            }
            Piece::Skip(length) => buffer.consume(length),
            Piece::Trailers(length) => {
                let mut section = Buffer::default();
                write_trailers(&buffer.filled()[..length], &mut section).map_err(Failed::Bad)?;
                buffer.consume(length);
                let written = Cell::new(0);
                if keep_framing {
                    let spans = [section.filled(), &[]];
                    let result = io::write(to, spans, pace.watch, pace.write_until(), &written).await;
                    count(Moved::Out(written.get()));
                    result.map_err(Failed::Sink)?;
                }
            }
            Piece::More => {
                if !buffer.make_room(BUFFER_SIZE) {
                    return Err(Failed::Bad(BadBody::Framing));
                }
                match io::read(from, buffer, pace.watch, pace.read_until()).await.map_err(Failed::Source)? {
                    0 if *body == Body::UntilClose => return Ok(()),
                    0 => return Err(Failed::Truncated),
                    length => count(Moved::In(length as u64)),
                }
            }
            Piece::End => return Ok(()),
        }
        next = body.next(buffer.filled(), keep_framing).map_err(Failed::Bad)?;
    }
}

/// Bytes that were read or written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moved {
    In(u64),
    Out(u64),
}

/// Checks a trailer section, blank line included, and writes it without what must not stand there.
fn write_trailers(section: &[u8], out: &mut Buffer) -> Result<(), BadBody> {
    const LIMIT: usize = 32;
    let bare = |at: usize| at == 0 || section[at - 1] != b'\r';
    if memchr::memchr_iter(b'\n', section).any(bare) {
        return Err(BadBody::Framing);
    }
    let mut fields = [httparse::EMPTY_HEADER; LIMIT];
    match httparse::parse_headers(section, &mut fields) {
        Ok(httparse::Status::Complete((length, fields))) if length == section.len() => {
            for field in fields.iter().filter(|field| may_trail(field.name)) {
                write_field(out, field.name, field.value);
            }
            out.push(b"\r\n");
            Ok(())
        }
        _ => Err(BadBody::Framing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_lose_what_would_be_framing_or_routing() {
        let mut out = Buffer::default();
        let section =
            b"X-Sum: 1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: x\r\nX-Last: 2\r\n\r\n";
        write_trailers(section, &mut out).unwrap();
        assert_eq!(out.filled(), b"X-Sum: 1\r\nX-Last: 2\r\n\r\n");
    }

    #[test]
    fn malformed_trailers_are_refused() {
        for bad in [
            "X : 1\r\n\r\n",
            "X: 1\nY: 2\r\n\r\n",
            " X: 1\r\n\r\n",
            "X\r\n\r\n",
            "X: \0\r\n\r\n",
            "X: 1\r\n Y\r\n\r\n",
        ] {
            assert_eq!(
                write_trailers(bad.as_bytes(), &mut Buffer::default()),
                Err(BadBody::Framing),
                "{bad:?}"
            );
        }
    }
}
