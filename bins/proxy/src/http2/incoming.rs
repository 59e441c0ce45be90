//! One stream's message on its way in: what `h2` received, as the bytes of an HTTP/1.1 message.
//!
//! Holds one DATA frame at most; the rest waits in the stream's window, so a reader that stalls stalls its peer.

use std::io::{self, Write as _};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::RecvStream;

use super::to_text::{Framing, last_chunk};

/// What is to be read next, behind `text` and `data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Body,
    Trailers,
    Done,
}

/// A message's bytes.
#[derive(Debug)]
pub(crate) struct Incoming {
    stream: RecvStream,
    chunked: bool,
    /// Bytes of a body that is not chunked that are still to be read.
    left: u64,
    stage: Stage,
    /// The head, or framing; it goes before `data`.
    text: Vec<u8>,
    /// How much of `text` was read.
    at: usize,
    data: Bytes,
}

impl Incoming {
    /// A message whose head is `head`.
    pub(crate) fn new(head: Vec<u8>, framing: Framing, stream: RecvStream) -> Self {
        let stage = if framing == Framing::None { Stage::Done } else { Stage::Body };
        let chunked = framing == Framing::Chunked;
        let left = if let Framing::Plain(length) = framing { length } else { 0 };
        Self { stream, chunked, left, stage, text: head, at: 0, data: Bytes::new() }
    }

    /// Whether the peer has sent its last byte, and all of them were read.
    pub(crate) fn is_over(&self) -> bool {
        self.stage == Stage::Done && self.at == self.text.len()
    }

    /// The stream, where the message is whole by its length but the stream has not ended yet.
    pub(crate) fn into_rest(self) -> Option<RecvStream> {
        let is_whole = !self.chunked && self.left == 0 && self.at == self.text.len();
        (is_whole && !self.stream.is_end_stream()).then_some(self.stream)
    }

    /// Reads what there is, at most `space`; 0 is the end of the message.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut filled = 0;
        loop {
            filled += self.copy(&mut space[filled..]);
            if filled == space.len() || self.is_over() {
                return Poll::Ready(Ok(filled));
            }
            match self.poll_more(cx) {
                Poll::Ready(Ok(())) => {}
                // What came before it is handed on first.
                _ if filled > 0 => return Poll::Ready(Ok(filled)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Copies what is there of `text` and `data`.
    fn copy(&mut self, space: &mut [u8]) -> usize {
        let of_text = (self.text.len() - self.at).min(space.len());
        let (for_text, space) = space.split_at_mut(of_text);
        for_text.copy_from_slice(&self.text[self.at..self.at + of_text]);
        self.at += of_text;
        let of_data = self.data.len().min(space.len());
        if of_data > 0 {
            self.data.copy_to_slice(&mut space[..of_data]);
            self.left = self.left.saturating_sub(of_data as u64);
            // Fails only where more is given back than was taken.
            let _ = self.stream.flow_control().release_capacity(of_data);
            if self.data.is_empty() && self.chunked {
                self.start_text().extend_from_slice(b"\r\n");
            }
        }
        of_text + of_data
    }

    /// Gets the next of `text` or `data`, once both are empty.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.at < self.text.len() || !self.data.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match self.stage {
            Stage::Body => match ready!(self.stream.poll_data(cx)) {
                Some(data) => {
                    self.data = data.map_err(broken)?;
                    if self.chunked && !self.data.is_empty() {
                        let length = self.data.len();
                        // Writing to a vector does not fail.
                        let _ = write!(self.start_text(), "{length:x}\r\n");
                    }
                }
                None if self.chunked => self.stage = Stage::Trailers,
                None => self.stage = Stage::Done,
            },
            Stage::Trailers => {
                let trailers = ready!(self.stream.poll_trailers(cx)).map_err(broken)?.unwrap_or_default();
                self.stage = Stage::Done;
                last_chunk(&trailers, self.start_text()).map_err(|_| io::ErrorKind::InvalidData)?;
            }
            Stage::Done => {}
        }
        Poll::Ready(Ok(()))
    }

    fn start_text(&mut self) -> &mut Vec<u8> {
        self.at = 0;
        self.text.clear();
        &mut self.text
    }
}

/// The stream, or its connection, has ended before the message did.
pub(crate) fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}
