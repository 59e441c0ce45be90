//! One body from one side to the other, in bounded pieces, as it arrives.

use std::cell::Cell;

use super::body::{BadBody, Body, Piece};
use super::fields::may_trail;
use super::head::write_field;
use super::pace::Pace;
use crate::buffer::{BUFFER_SIZE, Buffer, Lent};
use crate::io::{self, Stall};
use crate::wire::Wire;

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
    (from, to): (&Wire, &Wire),
    buffer: &mut Lent,
    body: &mut Body,
    keep_framing: bool,
    mut next: Piece,
    pace: Pace<'_>,
    count: impl Fn(Moved),
) -> Result<(), Failed> {
    let (mut started, mut received) = (pace.watch.now(), 0);
    loop {
        match next {
            Piece::Forward(length) => {
                let written = Cell::new(0);
                let spans = [&buffer.filled()[..length], &[]];
                let before = pace.watch.now();
                let result = pace.write(to, spans, &written).await;
                // The time that the sink took is not the source's.
                started = started.moved(before, pace.watch.now());
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
                    let result = pace.write(to, spans, &written).await;
                    count(Moved::Out(written.get()));
                    result.map_err(Failed::Sink)?;
                }
            }
            Piece::More => {
                if !buffer.make_room(BUFFER_SIZE) {
                    return Err(Failed::Bad(BadBody::Framing));
                }
                match io::read(from, buffer, pace.watch, pace.read_until(started, received)).await {
                    Ok(0) if *body == Body::UntilClose => return Ok(()),
                    Ok(0) => return Err(Failed::Truncated),
                    Ok(length) => {
                        received += length as u64;
                        count(Moved::In(length as u64));
                    }
                    // It became a dialogue while we waited.
                    Err(Stall::Timeout) if pace.is_dialogue.get() && !pace.is_over() => {}
                    Err(stall) => return Err(Failed::Source(stall)),
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

/// Checks the fields of a trailer section, blank line included and its lines known to end in CRLF, and writes it without what must not stand there.
pub(super) fn write_trailers(section: &[u8], out: &mut Buffer) -> Result<(), BadBody> {
    const LIMIT: usize = 32;
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
        for bad in ["X : 1\r\n\r\n", " X: 1\r\n\r\n", "X\r\n\r\n", "X: \0\r\n\r\n", "X: 1\r\n Y\r\n\r\n"] {
            assert_eq!(
                write_trailers(bad.as_bytes(), &mut Buffer::default()),
                Err(BadBody::Framing),
                "{bad:?}"
            );
        }
    }
}
