//! The bytes of one side of one connection, and the stock they are lent from.
//!
//! A buffer is lent while bytes are on the move and goes back while nothing is there to read, so ten thousand idle
//! connections hold none, and a request in the steady state allocates none. Never knows what the bytes mean.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// What one read takes at most; also the size of nearly every head. The same as HAProxy's `tune.bufsize`.
pub(crate) const BUFFER_SIZE: usize = 16 * 1024;

/// What a head that we write takes, nearly always: one waits with each request that is being answered.
pub(crate) const HEAD_SIZE: usize = 2 * 1024;

/// Bytes of the buffers that wait for use: the busy hour of a small pod. More go back to the allocator.
const STOCK: usize = 1 << 20;

/// Bytes `start..end` are filled; behind them is space.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn with_room(size: usize) -> Self {
        Self { bytes: vec![0; size], start: 0, end: 0 }
    }

    /// What has arrived and is not yet consumed.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// As [`filled`](Self::filled), to be changed in place.
    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn has_memory(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Room to read into.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    /// Says that `count` bytes of the space are now filled.
    pub(crate) fn fill(&mut self, count: usize) {
        debug_assert!(self.end + count <= self.bytes.len(), "more was filled than there was room for");
        self.end += count;
    }

    /// Forgets the first `count` filled bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.start, "more was consumed than was filled");
        self.start += count;
        if self.start == self.end {
            self.clear();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Makes room for at least one byte, by moving the filled bytes to the front or by growing up to `limit`.
    /// False where the buffer holds `limit` bytes already.
    pub(crate) fn make_room(&mut self, limit: usize) -> bool {
        if self.end < self.bytes.len() {
            return true;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            return true;
        }
        let size = (self.bytes.len() * 2).max(BUFFER_SIZE).min(limit);
        if size <= self.bytes.len() {
            return false;
        }
        self.bytes.resize(size, 0);
        true
    }

    /// Appends bytes, growing as needed: for what we write ourselves, which is bounded by what was read.
    // Inline: most of what is written is a constant of a few bytes, which needs no call then.
    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let end = self.end + bytes.len();
        if end > self.bytes.len() {
            self.grow(end);
        }
        self.bytes[self.end..end].copy_from_slice(bytes);
        self.end = end;
    }

    /// Appends bytes if they fit as it is; false where they do not. One span is written faster than two.
    pub(crate) fn join(&mut self, bytes: &[u8]) -> bool {
        let fits = bytes.len() <= self.bytes.len() - self.end;
        if fits {
            self.push(bytes);
        }
        fits
    }

    /// Forgets all filled bytes behind the first `count`.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.end = self.end.min(self.start + count);
    }

    /// Makes space for so many bytes, growing as needed.
    pub(crate) fn reserve(&mut self, count: usize) {
        if self.end + count > self.bytes.len() {
            self.grow(self.end + count);
        }
    }

    #[cold]
    fn grow(&mut self, size: usize) {
        self.bytes.resize(size.next_power_of_two(), 0);
    }
}

/// A worker's stock of buffers.
#[derive(Debug)]
pub(crate) struct Buffers {
    size: usize,
    free: RefCell<Vec<Buffer>>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self::of_size(BUFFER_SIZE)
    }
}

impl Buffers {
    pub(crate) fn of_size(size: usize) -> Self {
        Self { size, free: RefCell::default() }
    }

    /// Lends an empty buffer.
    pub(crate) fn lend(self: &Rc<Self>) -> Lent {
        Lent { buffer: self.hand_out(), home: Rc::clone(self) }
    }

    /// Lends an empty buffer as soon as it is written to.
    pub(crate) fn promise(self: &Rc<Self>) -> Lent {
        Lent { buffer: Buffer::default(), home: Rc::clone(self) }
    }

    fn hand_out(&self) -> Buffer {
        self.free.borrow_mut().pop().unwrap_or_else(|| Buffer::with_room(self.size))
    }

    fn take_back(&self, mut buffer: Buffer) {
        let mut free = self.free.borrow_mut();
        // One that grew for a rare large head is not worth keeping.
        if free.len() < STOCK / self.size && buffer.bytes.len() == self.size {
            buffer.clear();
            free.push(buffer);
        }
    }
}

/// A buffer on loan; dropping it gives it back. One that was given back before is lent again with the next write.
#[derive(Debug)]
pub(crate) struct Lent {
    buffer: Buffer,
    home: Rc<Buffers>,
}

impl Lent {
    /// Gives the buffer back if it is empty: while nothing arrives, others can use it.
    pub(crate) fn give_back(&mut self) {
        if self.buffer.is_empty() && self.buffer.has_memory() {
            self.home.take_back(std::mem::take(&mut self.buffer));
        }
    }
}

impl Deref for Lent {
    type Target = Buffer;
    fn deref(&self) -> &Buffer {
        &self.buffer
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Buffer {
        if !self.buffer.has_memory() {
            self.buffer = self.home.hand_out();
        }
        &mut self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.take_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_moves_then_grows_then_refuses() {
        let mut buffer = Buffer::with_room(BUFFER_SIZE);
        buffer.fill(BUFFER_SIZE);
        buffer.consume(10);
        assert!(buffer.make_room(2 * BUFFER_SIZE));
        assert_eq!((buffer.filled().len(), buffer.space().len()), (BUFFER_SIZE - 10, 10));
        buffer.fill(10);
        assert!(buffer.make_room(2 * BUFFER_SIZE));
        assert_eq!(buffer.space().len(), BUFFER_SIZE);
        buffer.fill(BUFFER_SIZE);
        assert!(!buffer.make_room(2 * BUFFER_SIZE));
    }

    #[test]
    fn consuming_all_starts_over_and_pushing_grows() {
        let mut buffer = Buffer::with_room(BUFFER_SIZE);
        buffer.push(b"hello");
        buffer.consume(2);
        assert_eq!(buffer.filled(), b"llo");
        buffer.consume(3);
        assert_eq!(buffer.space().len(), BUFFER_SIZE);
        buffer.push(&vec![7; 3 * BUFFER_SIZE]);
        assert_eq!(buffer.filled().len(), 3 * BUFFER_SIZE);
    }

    #[test]
    fn what_fits_is_joined_and_taken_off_again() {
        let mut buffer = Buffer::with_room(8);
        buffer.push(b"head");
        assert!(!buffer.join(b"a body"));
        assert!(buffer.join(b"body"));
        assert_eq!(buffer.filled(), b"headbody");
        buffer.consume(1);
        buffer.truncate(3);
        assert_eq!(buffer.filled(), b"ead");
    }

    #[test]
    fn a_lent_buffer_comes_back_empty_and_is_lent_again() {
        let stock = Rc::new(Buffers::default());
        let mut lent = stock.lend();
        lent.push(b"secret");
        drop(lent);
        assert_eq!(stock.free.borrow().len(), 1);
        assert!(stock.lend().is_empty());
        let mut large = stock.lend();
        large.push(&vec![0; 2 * BUFFER_SIZE]);
        drop(large);
        assert_eq!(stock.free.borrow().len(), 0, "a grown buffer is not kept");
    }

    #[test]
    fn a_buffer_that_was_given_back_is_lent_again_with_the_next_write() {
        let stock = Rc::new(Buffers::default());
        let mut lent = stock.promise();
        assert!(lent.is_empty());
        lent.push(b"kept");
        lent.give_back();
        assert_eq!((lent.filled(), stock.free.borrow().len()), (&b"kept"[..], 0), "bytes are not given away");
        lent.consume(4);
        lent.give_back();
        lent.give_back();
        assert_eq!((lent.filled(), stock.free.borrow().len()), (&b""[..], 1));
        assert_eq!(lent.space().len(), BUFFER_SIZE);
        assert_eq!(stock.free.borrow().len(), 0);
    }
}
