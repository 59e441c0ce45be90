//! The thread that writes the access log, and the bounded way to it.
//!
//! Workers hand over whole batches and never wait: what does not fit because nobody reads the other end is dropped and
//! counted. The thread is started with the first batch, so a log that is off costs nothing.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use podkit_lifecycle::Deadline;
use prometheus::IntCounter;

/// The most bytes that wait for the thread: some seconds of a busy pod.
const PENDING_LIMIT: usize = 1 << 20;

/// Between tries to write to a pipe that is full and does not block: whoever made it also made it so.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// Whole lines.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: u64,
}

/// Where the batches of all workers go.
#[derive(Debug)]
pub(crate) struct Writer {
    thread: Mutex<Option<Running>>,
    pending: Arc<AtomicUsize>,
    dropped: IntCounter,
}

#[derive(Debug)]
struct Running {
    batches: Sender<Batch>,
    /// Ends with the thread.
    ended: Receiver<()>,
}

impl Writer {
    pub(crate) fn new(dropped: IntCounter) -> Self {
        Self { thread: Mutex::default(), pending: Arc::default(), dropped }
    }

    /// Takes a batch, or drops it.
    pub(super) fn offer(&self, batch: Batch) {
        let (size, lines) = (batch.bytes.len(), batch.lines);
        let fits = self.pending.fetch_add(size, Ordering::Relaxed) + size <= PENDING_LIMIT;
        if !fits || !self.send(batch) {
            self.pending.fetch_sub(size, Ordering::Relaxed);
            self.dropped.inc_by(lines);
        }
    }

    fn send(&self, batch: Batch) -> bool {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            *thread = self
                .start()
                .inspect_err(|error| {
                    tracing::error!("cannot start the thread of the access log: {error}");
                })
                .ok();
        }
        thread.as_ref().is_some_and(|running| running.batches.send(batch).is_ok())
    }

    fn start(&self) -> io::Result<Running> {
        // Not the buffered one of the standard library: a batch is written as it is.
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let (batches, incoming) = mpsc::channel();
        let (alive, ended) = mpsc::channel();
        let (pending, dropped) = (Arc::clone(&self.pending), self.dropped.clone());
        thread::Builder::new().name("access-log".into()).spawn(move || {
            write_all(&incoming, stdout, &pending, &dropped);
            drop::<Sender<()>>(alive);
        })?;
        Ok(Running { batches, ended })
    }

    /// Returns when all that was offered is written, or the deadline has come. Nothing must be offered any more.
    pub(crate) fn end(&self, deadline: Deadline) {
        let running = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { batches, ended }) = running {
            drop(batches);
            // Either way there is nothing left to do.
            let _ = ended.recv_timeout(deadline.remaining());
        }
    }
}

/// Writes until the last sender is gone.
fn write_all(incoming: &Receiver<Batch>, mut to: impl Write, pending: &AtomicUsize, dropped: &IntCounter) {
    let mut is_broken = false;
    for batch in incoming {
        let result = write(&mut to, &batch.bytes);
        pending.fetch_sub(batch.bytes.len(), Ordering::Relaxed);
        if let Err(error) = &result {
            dropped.inc_by(batch.lines);
            if !is_broken {
                tracing::error!("cannot write the access log: {error}");
            }
        }
        is_broken = result.is_err();
    }
}

fn write(to: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn batch(text: &str) -> Batch {
        Batch { bytes: text.into(), lines: text.lines().count() as u64 }
    }

    fn counter() -> IntCounter {
        IntCounter::new("dropped", "dropped").unwrap()
    }

    /// Takes a byte at a time, and not every time.
    #[derive(Default)]
    struct Reluctant {
        taken: Vec<u8>,
        tries: usize,
    }

    impl Write for &mut Reluctant {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.tries += 1;
            match self.tries % 3 {
                0 => Err(ErrorKind::Interrupted.into()),
                1 if self.tries < 10 => Err(ErrorKind::WouldBlock.into()),
                _ => {
                    self.taken.push(bytes[0]);
                    Ok(1)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_of_a_batch_is_written_however_little_is_taken_at_a_time() {
        let (batches, incoming) = channel();
        for text in ["{1}\n{2}\n", "{3}\n"] {
            batches.send(batch(text)).unwrap();
        }
        drop(batches);
        let (mut to, pending, dropped) = (Reluctant::default(), AtomicUsize::new(12), counter());
        write_all(&incoming, &mut to, &pending, &dropped);
        assert_eq!(to.taken, b"{1}\n{2}\n{3}\n");
        assert_eq!((pending.into_inner(), dropped.get()), (0, 0));
    }

    #[test]
    fn what_cannot_be_written_is_counted_line_by_line() {
        let (batches, incoming) = channel();
        batches.send(batch("{1}\n{2}\n")).unwrap();
        batches.send(batch("{3}\n")).unwrap();
        drop(batches);
        let (pending, dropped) = (AtomicUsize::new(12), counter());
        // A file that is open for reading only.
        write_all(&incoming, File::open("/dev/null").unwrap(), &pending, &dropped);
        assert_eq!((pending.into_inner(), dropped.get()), (0, 3));
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let (writer, (batches, incoming), (_alive, ended)) = (Writer::new(counter()), channel(), channel());
        *writer.thread.lock().unwrap() = Some(Running { batches, ended });
        let line = "x".repeat(PENDING_LIMIT / 4 - 1) + "\n";
        for _ in 0..6 {
            writer.offer(batch(&line));
        }
        assert_eq!((incoming.try_iter().count(), writer.dropped.get()), (4, 2));
    }
}
