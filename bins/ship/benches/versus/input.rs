//! Logs as apps write them, the same in every run.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::Result;

const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const PATHS: [&str; 5] =
    ["/cart", "/checkout/confirm", "/products/search", "/api/v2/orders", "/account/settings"];
const STATUSES: [u16; 5] = [200, 200, 201, 404, 500];
const LEVELS: [&str; 4] = ["INFO", "INFO", "WARN", "ERROR"];

/// What an app tells of a request, in whichever form.
struct Served {
    /// Of the day, to the millisecond.
    clock: String,
    level: &'static str,
    worker: usize,
    method: &'static str,
    path: &'static str,
    user: u64,
    status: u16,
    took: u64,
}

impl Served {
    fn new(n: usize, id: u64) -> Self {
        Self {
            clock: format!("05:{:02}:{:02}.{:03}", n / 60_000 % 60, n / 1000 % 60, n % 1000),
            level: LEVELS[n % 4],
            worker: n % 16,
            method: METHODS[n % 4],
            path: PATHS[n % 5],
            user: id % 100_000,
            status: STATUSES[n % 5],
            took: id % 900,
        }
    }
}

/// Lines of about 170 bytes of text. Returns the file's size.
pub(crate) fn text(path: &Path, lines: usize) -> Result<u64> {
    write(path, lines, |out, n, id| {
        let Served { clock, level, worker, method, path, user, status, took } = Served::new(n, id);
        writeln!(
            out,
            "2026-11-22T{clock}Z {level} [worker-{worker}] com.shop.web.RequestHandler - {method} {path} user={user} trace={id:016x}{:08x} status={status} took {took} ms \"Mozilla/5\"",
            id >> 40,
        )
    })
}

/// Lines of about 240 bytes of JSON.
pub(crate) fn json(path: &Path, lines: usize) -> Result<u64> {
    write(path, lines, |out, n, id| {
        let Served { clock, level, worker, method, path, user, status, took } = Served::new(n, id);
        writeln!(
            out,
            "{{\"time\":\"2026-11-22T{clock}Z\",\"level\":\"{level}\",\"logger\":\"com.shop.web.RequestHandler\",\"thread\":\"worker-{worker}\",\"message\":\"{method} {path} served\",\"user\":{user},\"trace_id\":\"{id:016x}{:016x}\",\"status\":{status},\"took_ms\":{took}.{}}}",
            id.rotate_left(17),
            n % 10,
        )
    })
}

fn write(
    path: &Path,
    lines: usize,
    mut line: impl FnMut(&mut BufWriter<File>, usize, u64) -> std::io::Result<()>,
) -> Result<u64> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    // A fixed seed: every run has the same input.
    let mut random = fastrand::Rng::with_seed(42);
    for number in 0..lines {
        line(&mut out, number, random.u64(..))?;
    }
    let file = out.into_inner()?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}
