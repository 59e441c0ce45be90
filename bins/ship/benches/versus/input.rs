//! Logs as apps write them, the same in every run.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::Result;

const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const PATHS: [&str; 5] =
    ["/cart", "/checkout/confirm", "/products/search", "/api/v2/orders", "/account/settings"];
const LEVELS: [&str; 4] = ["INFO", "INFO", "WARN", "ERROR"];

/// Lines of about 170 bytes of text. Returns the file's size.
pub(crate) fn text(path: &Path, lines: usize) -> Result<u64> {
    write(path, lines, |out, n, id| {
        writeln!(
            out,
            "2026-11-22T05:{:02}:{:02}.{:03}Z {} [worker-{}] com.shop.web.RequestHandler - {} {} user={} trace={id:016x}{:08x} status={} took {} ms \"Mozilla/5\"",
            n / 60_000 % 60,
            n / 1000 % 60,
            n % 1000,
            LEVELS[n % 4],
            n % 16,
            METHODS[n % 4],
            PATHS[n % 5],
            id % 100_000,
            id >> 40,
            [200, 200, 201, 404, 500][n % 5],
            id % 900,
        )
    })
}

/// Lines of about 240 bytes of JSON.
pub(crate) fn json(path: &Path, lines: usize) -> Result<u64> {
    write(path, lines, |out, n, id| {
        writeln!(
            out,
            "{{\"time\":\"2026-11-22T05:{:02}:{:02}.{:03}Z\",\"level\":\"{}\",\"logger\":\"com.shop.web.RequestHandler\",\"thread\":\"worker-{}\",\"message\":\"{} {} served\",\"user\":{},\"trace_id\":\"{id:016x}{:016x}\",\"status\":{},\"took_ms\":{}.{}}}",
            n / 60_000 % 60,
            n / 1000 % 60,
            n % 1000,
            LEVELS[n % 4],
            n % 16,
            METHODS[n % 4],
            PATHS[n % 5],
            id % 100_000,
            id.rotate_left(17),
            [200, 200, 201, 404, 500][n % 5],
            id % 900,
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
