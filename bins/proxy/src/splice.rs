//! Pipes for bytes that pass from socket to socket inside the kernel, without a copy through our memory.
//!
//! A worker has few of them, and lends one to a direction of a connection only while it carries much: where there is
//! none, or the kernel gives none, bytes are read and written as ever.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use crate::wire::Socket;
use crate::worker::{Clock, Tick};

/// How many pipes a worker has at most, in use or not: 2 descriptors each, well within the reserve.
const LIMIT: usize = 16;

/// What a pipe is to hold: a few full windows of a fast connection. A user may have 64 MiB of this in all (pipe(7)).
const SIZE: i32 = 256 * 1024;

/// Below this a pipe takes less at a time than a buffer.
const LEAST: i32 = 64 * 1024;

/// How long no pipe is tried for after a failure: copying is the smaller cost then.
const PAUSE: Duration = Duration::from_secs(5);

/// A worker's pipes.
#[derive(Debug)]
pub(crate) struct Pipes {
    clock: Rc<Clock>,
    free: RefCell<Vec<Pipe>>,
    /// In use or free.
    made: Cell<usize>,
    /// No pipe is made before.
    not_before: Cell<Option<Tick>>,
}

#[derive(Debug)]
struct Pipe {
    end: OwnedFd,
    start: OwnedFd,
}

impl Pipes {
    pub(crate) fn new(clock: Rc<Clock>) -> Rc<Self> {
        Rc::new(Self { clock, free: RefCell::default(), made: Cell::new(0), not_before: Cell::new(None) })
    }

    /// Lends an empty pipe, if there is one.
    pub(crate) fn lend(self: &Rc<Self>) -> Option<LentPipe> {
        let free = self.free.borrow_mut().pop();
        let pipe = free.or_else(|| self.make())?;
        Some(LentPipe { pipe: Some(pipe), held: 0, home: Rc::clone(self) })
    }

    fn make(&self) -> Option<Pipe> {
        let too_early = self.not_before.get().is_some_and(|moment| self.clock.now() < moment);
        if self.made.get() >= LIMIT || too_early {
            return None;
        }
        match Pipe::new() {
            Ok(pipe) => {
                self.made.set(self.made.get() + 1);
                Some(pipe)
            }
            Err(error) => {
                tracing::debug!("cannot make a pipe, bytes are copied: {error}");
                self.not_before.set(Some(self.clock.after(PAUSE)));
                None
            }
        }
    }
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (end, start) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // The kernel may refuse to make it larger, and a user that has many gets tiny ones.
        let size = match fcntl(&start, FcntlArg::F_SETPIPE_SZ(SIZE)) {
            Ok(size) => size,
            Err(_) => fcntl(&start, FcntlArg::F_GETPIPE_SZ)?,
        };
        if size < LEAST {
            return Err(io::Error::other(format!("the kernel gives {size} bytes only")));
        }
        Ok(Self { end, start })
    }
}

/// A pipe on loan; dropping it gives it back, or closes it where bytes are left in it.
#[derive(Debug)]
pub(crate) struct LentPipe {
    pipe: Option<Pipe>,
    held: usize,
    home: Rc<Pipes>,
}

impl LentPipe {
    /// Whether no bytes wait in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes in what a socket has, at most so many bytes; 0 is the end of the stream. Only while it is empty: one that
    /// is full looks to the kernel like a socket with nothing to read.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &Socket,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(self.is_empty(), "a pipe that holds bytes was filled");
        let start = self.pipe().start.as_fd();
        let poll = from.poll_splice_out_of(cx, start, most);
        if let Poll::Ready(Ok(count)) = &poll {
            self.held = *count;
        }
        poll
    }

    /// Hands on to a socket of what it holds.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>, to: &Socket) -> Poll<io::Result<usize>> {
        let end = self.pipe().end.as_fd();
        let poll = to.poll_splice_into(cx, end, self.held);
        if let Poll::Ready(Ok(count)) = &poll {
            self.held -= *count;
        }
        poll
    }

    fn pipe(&self) -> &Pipe {
        self.pipe.as_ref().expect("only the drop takes the pipe")
    }
}

impl Drop for LentPipe {
    fn drop(&mut self) {
        match self.pipe.take() {
            Some(pipe) if self.held == 0 => self.home.free.borrow_mut().push(pipe),
            _ => self.home.made.set(self.home.made.get() - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_few_and_come_back_but_never_with_bytes_in_them() {
        let pipes = Pipes::new(Rc::new(Clock::new()));
        let mut lent: Vec<LentPipe> = (0..LIMIT).map(|_| pipes.lend().expect("below the limit")).collect();
        assert!(pipes.lend().is_none());
        drop(lent.pop());
        assert_eq!((pipes.made.get(), pipes.free.borrow().len()), (LIMIT, 1));
        let mut again = pipes.lend().expect("one came back");
        again.held = 1;
        drop(again);
        assert_eq!((pipes.made.get(), pipes.free.borrow().len()), (LIMIT - 1, 0));
    }
}
