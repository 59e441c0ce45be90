//! The app behind all proxies: one thread that does next to nothing.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use nix::sys::epoll::{EpollFlags, EpollTimeout};

use crate::Result;
use crate::bulk::discard;
use crate::sockets::{Waiter, accept, listen};

/// The first argument of the child that is the origin.
pub(crate) const ROLE: &str = "origin";

/// A request for this path is answered with its own head: what a proxy has made of it.
pub(crate) const MIRROR: &str = "/mirror";

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!";

/// The bytes of the body of a small answer.
pub(crate) const BODY: usize = 13;

/// What the origin does with what it gets.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Answers {
    /// A small HTTP answer to each head.
    Http,
    /// The same bytes.
    Echo,
    /// Nothing.
    Sink,
    /// Bytes without end.
    Source,
}

impl Answers {
    const ALL: [Self; 4] = [Self::Http, Self::Echo, Self::Sink, Self::Source];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Echo => "echo",
            Self::Sink => "sink",
            Self::Source => "source",
        }
    }
}

/// Serves until it is killed.
pub(crate) fn run(port: &str, answers: &str) -> Result<()> {
    let answers = Answers::ALL.into_iter().find(|one| one.word() == answers).ok_or("no such origin")?;
    let listener = listen(port.parse()?)?;
    let mut waiter = Waiter::new()?;
    waiter.add(&listener, usize::MAX, EpollFlags::EPOLLIN)?;
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut free = Vec::new();
    let flags = if answers == Answers::Source { EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
    let mut buffer = vec![0; 256 * 1024];
    let mut ready = Vec::new();
    loop {
        ready.clear();
        ready.extend(waiter.wait(EpollTimeout::NONE)?.iter().map(|event| event.data() as usize));
        for number in ready.drain(..) {
            if number == usize::MAX {
                while let Some(stream) = accept(&listener)? {
                    let number = free.pop().unwrap_or_else(|| {
                        streams.push(None);
                        streams.len() - 1
                    });
                    waiter.add(&stream, number, flags)?;
                    streams[number] = Some(stream);
                }
                continue;
            }
            let Some(stream) = streams[number].as_mut() else { continue };
            if !answer(stream, &mut buffer, answers) {
                streams[number] = None;
                free.push(number);
            }
        }
    }
}

/// Reads once and answers; false once the connection is over.
fn answer(stream: &mut TcpStream, buffer: &mut [u8], answers: Answers) -> bool {
    let moved = match answers {
        Answers::Sink => discard(stream),
        Answers::Source => stream.write(buffer),
        Answers::Http | Answers::Echo => stream.read(buffer),
    };
    let length = match moved {
        Ok(0) => return false,
        Ok(_) if matches!(answers, Answers::Sink | Answers::Source) => return true,
        Ok(length) => length,
        Err(error) => return error.kind() == ErrorKind::WouldBlock,
    };
    let got = &buffer[..length];
    if answers == Answers::Echo {
        return stream.write_all(got).is_ok();
    }
    if got.starts_with(b"GET /mirror") {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        return stream.write_all(&[head.as_bytes(), got].concat()).is_ok();
    }
    // A small head comes in one piece.
    memchr::memmem::find_iter(got, b"\r\n\r\n").all(|_| stream.write_all(ANSWER).is_ok())
}
