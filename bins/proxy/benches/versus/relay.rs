//! The bare relay: accept, connect, read, write and nothing else. What no proxy can go below.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use nix::sys::epoll::{EpollFlags, EpollTimeout};

use crate::Result;
use crate::sockets::{Waiter, accept, connect, listen};

/// The first argument of the child that is the relay.
pub(crate) const ROLE: &str = "relay";

const BUFFER: usize = 16 * 1024;

/// One connection; its other side has the number with the last bit turned.
struct Side {
    stream: TcpStream,
    /// What the other side has sent and this one did not take yet.
    waiting: Vec<u8>,
}

/// Relays until it is killed. A small message is never more than one read, so the end of either side ends both.
pub(crate) fn run(port: &str, origin: &str) -> Result<()> {
    let (listener, origin) = (listen(port.parse()?)?, origin.parse()?);
    let mut waiter = Waiter::new()?;
    waiter.add(&listener, usize::MAX, EpollFlags::EPOLLIN)?;
    let mut sides: Vec<Option<Side>> = Vec::new();
    let mut buffer = vec![0; BUFFER];
    let mut ready = Vec::new();
    loop {
        ready.clear();
        ready.extend_from_slice(waiter.wait(EpollTimeout::NONE)?);
        for event in ready.drain(..) {
            let number = event.data() as usize;
            if number == usize::MAX {
                while let Some(client) = accept(&listener)? {
                    for stream in [client, connect(origin)?] {
                        waiter.add(&stream, sides.len(), EpollFlags::EPOLLIN)?;
                        sides.push(Some(Side { stream, waiting: Vec::new() }));
                    }
                }
            } else if !turn(&mut sides, number, event.events(), &mut buffer, &waiter)? {
                sides[number] = None;
                sides[number ^ 1] = None;
            }
        }
    }
}

/// Moves what one side is ready for; false once it is over.
fn turn(
    sides: &mut [Option<Side>],
    number: usize,
    events: EpollFlags,
    buffer: &mut [u8],
    waiter: &Waiter,
) -> Result<bool> {
    let other = number ^ 1;
    let Some(side) = sides[number].as_mut() else { return Ok(true) };
    if events.contains(EpollFlags::EPOLLOUT) {
        let Some(taken) = taken(side.stream.write(&side.waiting)) else { return Ok(false) };
        side.waiting.drain(..taken);
        if side.waiting.is_empty() {
            waiter.change(&side.stream, number, EpollFlags::EPOLLIN)?;
            let Some(source) = &sides[other] else { return Ok(false) };
            waiter.change(&source.stream, other, EpollFlags::EPOLLIN)?;
        }
        return Ok(true);
    }
    let length = match side.stream.read(buffer) {
        Ok(0) => return Ok(false),
        Ok(length) => length,
        Err(error) => return Ok(error.kind() == ErrorKind::WouldBlock),
    };
    let Some(sink) = sides[other].as_mut() else { return Ok(false) };
    let Some(taken) = taken(sink.stream.write(&buffer[..length])) else { return Ok(false) };
    if taken < length {
        sink.waiting.extend_from_slice(&buffer[taken..length]);
        waiter.change(&sink.stream, other, EpollFlags::EPOLLOUT)?;
        let Some(source) = &sides[number] else { return Ok(false) };
        waiter.change(&source.stream, number, EpollFlags::empty())?;
    }
    Ok(true)
}

/// What a write took; `None` where it broke.
fn taken(result: std::io::Result<usize>) -> Option<usize> {
    match result {
        Ok(count) => Some(count),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Some(0),
        Err(_) => None,
    }
}
