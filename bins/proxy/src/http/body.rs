//! Where a message's body ends, as pure functions over the bytes that have arrived.
//!
//! Chunked framing is checked byte by byte and handed on as it came, but for chunk extensions, which are cut out
//! (RFC 9112 7.1.1 lets a recipient ignore them, and two servers may read them differently). Never does I/O.

/// The most bytes of a trailer section; a head has its own limit.
const TRAILERS_LIMIT: usize = 8 * 1024;

/// The most bytes of chunk extensions in one body: they carry nothing, so many of them are an attack.
const EXTENSIONS_LIMIT: u32 = 4 * 1024;

/// The largest chunk taken, as HAProxy has it: a larger size could wrap in an upstream that keeps it in 32 bits.
const LARGEST_CHUNK: u64 = 0x7fff_ffff;

/// Digits that such a size has, leading zeros included.
const SIZE_DIGITS: u8 = 8;

/// How a body is delimited (RFC 9112 6.3), and how far it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// No body, or all of it is read.
    Empty,
    /// This many bytes are still to come.
    Length(u64),
    /// Chunks until the last one.
    Chunked(Chunks),
    /// All until the peer closes; only responses can be so.
    UntilClose,
}

/// What to do with the first of the bytes that have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Hand on this many bytes.
    Forward(usize),
    /// Drop this many bytes.
    Skip(usize),
    /// This many bytes are the trailer section, blank line included; the body ends with them.
    Trailers(usize),
    /// Nothing can be said before more has arrived.
    More,
    /// The body is over.
    End,
}

/// A body that is not carried on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadBody {
    /// Framing that two readers could understand differently.
    Framing,
    /// More data than the limit.
    TooLarge,
}

impl Body {
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Decides about the first of `bytes` and moves on behind them; the caller must consume what it is told to
    /// handle. `keep_framing` is false where the reader cannot take chunks and gets the bare data.
    pub(crate) fn next(&mut self, bytes: &[u8], keep_framing: bool) -> Result<Piece, BadBody> {
        match self {
            Self::Empty => Ok(Piece::End),
            Self::UntilClose if bytes.is_empty() => Ok(Piece::More),
            Self::UntilClose => Ok(Piece::Forward(bytes.len())),
            Self::Length(_) if bytes.is_empty() => Ok(Piece::More),
            Self::Length(left) => {
                let count = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= count as u64;
                if *left == 0 {
                    *self = Self::Empty;
                }
                Ok(Piece::Forward(count))
            }
            Self::Chunked(chunks) => {
                let piece = chunks.next(bytes, keep_framing)?;
                if chunks.state == State::Done {
                    *self = Self::Empty;
                }
                Ok(piece)
            }
        }
    }
}

/// Where a reader of chunks stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before or within the hexadecimal digits of a size.
    Size {
        digits: u8,
    },
    /// In white space or an extension behind a size; `begun` once a `;` was seen.
    Extension {
        begun: bool,
    },
    /// Behind the CR of a size line.
    SizeLf,
    /// In a chunk's data.
    Data,
    /// Behind a chunk's data.
    DataCr,
    DataLf,
    /// Behind the line of the last chunk.
    Trailers,
    Done,
}

/// Reads chunked framing (RFC 9112 7.1), strictly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunks {
    state: State,
    /// The size being read, then the bytes of data that are still to come.
    left: u64,
    /// Bytes of data that further chunks may have.
    allowed: u64,
    /// Bytes of extensions seen so far.
    extensions: u32,
}

/// What a run of bytes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Framing,
    Data,
    Extension,
}

impl Chunks {
    /// A reader before the first chunk, with a limit on the data of all chunks together.
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Self { state: State::Size { digits: 0 }, left: 0, allowed: limit.unwrap_or(u64::MAX), extensions: 0 }
    }

    /// As [`Body::next`]: as much as can be handed on in one go.
    fn next(&mut self, bytes: &[u8], keep_framing: bool) -> Result<Piece, BadBody> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            if self.state == State::Trailers {
                match trailers(rest)? {
                    Trailers::None if keep_framing => at += 2,
                    Trailers::None => {
                        self.state = State::Done;
                        return Ok(Piece::Skip(2));
                    }
                    Trailers::Unfinished if at > 0 => return Ok(Piece::Forward(at)),
                    Trailers::Unfinished => return Ok(Piece::More),
                    Trailers::Fields(_) if at > 0 => return Ok(Piece::Forward(at)),
                    Trailers::Fields(length) => {
                        self.state = State::Done;
                        return Ok(Piece::Trailers(length));
                    }
                }
                self.state = State::Done;
                return Ok(Piece::Forward(at));
            }
            let cut = matches!(self.state, State::Extension { .. });
            if rest.is_empty() || (cut && at > 0) {
                return Ok(if at > 0 { Piece::Forward(at) } else { Piece::More });
            }
            let (run, length) = self.run(rest)?;
            match run {
                Run::Extension => return Ok(Piece::Skip(length)),
                Run::Framing if !keep_framing => return Ok(Piece::Skip(length)),
                Run::Data if !keep_framing => return Ok(Piece::Forward(length)),
                Run::Framing | Run::Data => at += length,
            }
        }
    }

    /// Reads the next run of bytes of one kind; `bytes` is not empty.
    fn run(&mut self, bytes: &[u8]) -> Result<(Run, usize), BadBody> {
        let first = bytes[0];
        match self.state {
            State::Size { digits } => {
                if let Some(digit) = (first as char).to_digit(16) {
                    if digits == SIZE_DIGITS {
                        return Err(BadBody::Framing);
                    }
                    self.left = self.left << 4 | u64::from(digit);
                    if self.left > LARGEST_CHUNK {
                        return Err(BadBody::Framing);
                    }
                    self.state = State::Size { digits: digits + 1 };
                } else if digits == 0 {
                    return Err(BadBody::Framing);
                } else if first == b'\r' {
                    self.state = State::SizeLf;
                } else if matches!(first, b';' | b' ' | b'\t') {
                    self.state = State::Extension { begun: false };
                    return Ok((Run::Framing, 0));
                } else {
                    return Err(BadBody::Framing);
                }
                Ok((Run::Framing, 1))
            }
            State::Extension { begun } => self.extension(bytes, begun),
            State::SizeLf => {
                // A chunk that would be too much is refused by its size, before a byte of it has come.
                self.allowed = self.allowed.checked_sub(self.left).ok_or(BadBody::TooLarge)?;
                self.state = if self.left == 0 { State::Trailers } else { State::Data };
                line_feed(first)
            }
            State::Data => {
                let count = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.left -= count as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                Ok((Run::Data, count))
            }
            State::DataCr if first == b'\r' => {
                self.state = State::DataLf;
                Ok((Run::Framing, 1))
            }
            State::DataLf => {
                self.state = State::Size { digits: 0 };
                line_feed(first)
            }
            State::DataCr | State::Trailers | State::Done => Err(BadBody::Framing),
        }
    }

    /// `*( BWS ";" ... )` up to the CR: white space alone, a bare LF and control bytes are refused.
    fn extension(&mut self, bytes: &[u8], mut begun: bool) -> Result<(Run, usize), BadBody> {
        let length = bytes.iter().position(|byte| *byte == b'\r').unwrap_or(bytes.len());
        if length == 0 {
            self.state = State::SizeLf;
            return if begun { Ok((Run::Framing, 1)) } else { Err(BadBody::Framing) };
        }
        for byte in &bytes[..length] {
            match byte {
                b';' => begun = true,
                b' ' | b'\t' => {}
                0x21..=0x7e | 0x80..=0xff if begun => {}
                _ => return Err(BadBody::Framing),
            }
        }
        self.extensions = self.extensions.saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
        if self.extensions > EXTENSIONS_LIMIT {
            return Err(BadBody::Framing);
        }
        self.state = State::Extension { begun };
        Ok((Run::Extension, length))
    }
}

fn line_feed(byte: u8) -> Result<(Run, usize), BadBody> {
    if byte == b'\n' { Ok((Run::Framing, 1)) } else { Err(BadBody::Framing) }
}

enum Trailers {
    /// Just the blank line.
    None,
    Unfinished,
    /// Fields and the blank line, so many bytes.
    Fields(usize),
}

fn trailers(bytes: &[u8]) -> Result<Trailers, BadBody> {
    match bytes {
        [] | [b'\r'] => Ok(Trailers::Unfinished),
        [b'\r', b'\n', ..] => Ok(Trailers::None),
        [b'\r' | b'\n', ..] => Err(BadBody::Framing),
        _ => {
            for at in memchr::memchr_iter(b'\n', bytes) {
                if bytes[at - 1] != b'\r' {
                    return Err(BadBody::Framing);
                }
                if bytes[..=at].ends_with(b"\r\n\r\n") {
                    return if at < TRAILERS_LIMIT {
                        Ok(Trailers::Fields(at + 1))
                    } else {
                        Err(BadBody::Framing)
                    };
                }
            }
            if bytes.len() < TRAILERS_LIMIT { Ok(Trailers::Unfinished) } else { Err(BadBody::Framing) }
        }
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
