//! The access log: one JSON object a line on stdout, for each request and each TCP connection at its end.
//!
//! | member | what |
//! |---|---|
//! | `time` | when its head had arrived, or the connection was ready; UTC, RFC 3339 |
//! | `listener`, `direction` | where it came in |
//! | `peer` | the client's address and port, also behind a PROXY protocol header; not on Unix sockets |
//! | `tls`, `client_cert` | the version, and the certificate that was checked, as in `X-Forwarded-Client-Cert` |
//! | `protocol` | `HTTP/1.0`, `HTTP/1.1`, `HTTP/2` or `TCP` |
//! | `method`, `path`, `host`, `user_agent` | as received, the query included |
//! | `request_id`, `trace_id` | as passed on or started |
//! | `status` | what the client was answered; missing where it got no answer |
//! | `reason` | what went wrong, if anything did: the metrics' word for it, or `client_closed` (the client left early), `idle_timeout`, `broken` (a TCP or upgraded connection), `cut_off` (at the end of a stop) |
//! | `request_bytes`, `response_bytes` | of the bodies, as they came from and went to the client |
//! | `duration_ms` | from `time` to the end of the answer |
//! | `upstream`, `upstream_ms` | which address served it, and the time to the first byte of its answer |
//! | `retries` | how often it was sent again, if it was |
//!
//! What is not known is left out. Of a sampled log the share is of what went well: what went wrong (a `reason`, or a
//! status of 500 and above) is always there, for that is what one looks for. Nothing waits for the log: lines that
//! nobody takes are dropped and counted (`podkit_proxy_access_log_dropped_total`).

mod entry;
mod line;
mod writer;

use std::cell::RefCell;

pub(crate) use entry::{Bytes, Entry};
pub(crate) use line::Line;
use writer::Batch;
pub(crate) use writer::Writer;

/// So much is handed over at once; less at each tick of the worker's clock.
const BATCH: usize = 32 * 1024;

/// How many buffers for lines wait for use: as many as requests may often be in flight.
const SPARE: usize = 64;

/// The lines of one worker that are to be handed over.
#[derive(Debug, Default)]
pub(crate) struct Log {
    lines: RefCell<Batch>,
    spare: RefCell<Vec<Vec<u8>>>,
}

impl Log {
    pub(crate) fn begin(&self) -> Line {
        Line::begin(self.spare.borrow_mut().pop().unwrap_or_default())
    }

    /// Takes in a line.
    pub(crate) fn put(&self, line: Line, writer: &Writer) {
        let line = line.end();
        let mut lines = self.lines.borrow_mut();
        lines.bytes.extend_from_slice(&line);
        lines.lines += 1;
        if lines.bytes.len() >= BATCH {
            writer.offer(std::mem::take(&mut lines));
        }
        self.keep(line);
    }

    /// Takes back a line that is not wanted.
    pub(crate) fn discard(&self, line: Line) {
        self.keep(line.end());
    }

    /// Hands over what is there.
    pub(crate) fn flush(&self, writer: &Writer) {
        let lines = self.lines.take();
        if lines.lines > 0 {
            writer.offer(lines);
        }
    }

    fn keep(&self, mut buffer: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_lines_are_used_again_and_lines_stay_whole() {
        let (log, dropped) = (Log::default(), prometheus::IntCounter::new("dropped", "dropped").unwrap());
        let writer = Writer::new(dropped);
        for n in 0..3 {
            let mut line = log.begin();
            line.number("n", n);
            if n == 1 { log.discard(line) } else { log.put(line, &writer) }
        }
        assert_eq!(log.lines.borrow().bytes, b"{\"n\":0}\n{\"n\":2}\n");
        assert_eq!((log.lines.borrow().lines, log.spare.borrow().len()), (2, 1));
    }
}
