//! The least that a shipper must do, on one thread: read, split into lines, escape and wrap each as JSON with four
//! constant fields, compress. Nothing is sent, nothing is remembered.

use std::fs::File;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::Result;

/// The first argument of the child that runs this.
pub(crate) const ROLE: &str = "limit";
/// What is compressed at once; podkit-ship's own default.
const BATCH: usize = 1 << 20;
const READ: usize = 256 << 10;
const TEXT_PREFIX: &[u8] = b"{\"timestamp\":\"2026-11-22T05:00:00.000Z\",\"message\":\"";
const FIELDS: &[u8] =
    b"\"file\":\"/var/log/app/app.log\",\"service\":\"shop\",\"pod\":\"web-7d4b9c-x2x1z\",\"namespace\":\"prod\"}\n";

enum Compressor {
    Zstd(zstd::bulk::Compressor<'static>, Vec<u8>),
    Gzip(Vec<u8>),
}

impl Compressor {
    fn compress(&mut self, batch: &[u8]) -> Result<()> {
        match self {
            Self::Zstd(compressor, out) => {
                out.resize(zstd::zstd_safe::compress_bound(batch.len()), 0);
                black_box(compressor.compress_to_buffer(batch, out.as_mut_slice())?);
            }
            Self::Gzip(out) => {
                out.clear();
                let mut encoder = GzEncoder::new(out, Compression::new(1));
                encoder.write_all(batch)?;
                black_box(encoder.finish()?.len());
            }
        }
        Ok(())
    }
}

/// Runs the loop over a file.
pub(crate) fn run(kind: &str, compression: &str, path: &Path) -> Result<()> {
    let mut compressor = match compression {
        "zstd" => Compressor::Zstd(zstd::bulk::Compressor::new(1)?, Vec::new()),
        _ => Compressor::Gzip(Vec::new()),
    };
    let wrap: fn(&[u8], &mut Vec<u8>) = if kind == "text" { text } else { json };
    let mut file = File::open(path)?;
    let mut buffer = vec![0; READ];
    let (mut filled, mut batch) = (0, Vec::with_capacity(BATCH + READ));
    loop {
        if filled == buffer.len() {
            return Err("a line is longer than the buffer".into());
        }
        let read = file.read(&mut buffer[filled..])?;
        filled += read;
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &buffer[..filled]) {
            wrap(&buffer[start..end], &mut batch);
            start = end + 1;
            if batch.len() >= BATCH {
                compressor.compress(&batch)?;
                batch.clear();
            }
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
        if read == 0 {
            return compressor.compress(&batch);
        }
    }
}

fn text(line: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(TEXT_PREFIX);
    let mut plain = 0;
    for (at, byte) in line.iter().enumerate() {
        if *byte < 0x20 || *byte == b'"' || *byte == b'\\' {
            out.extend_from_slice(&line[plain..at]);
            // The generated lines have no control characters but these.
            out.extend_from_slice(&[b'\\', if *byte == b'\t' { b't' } else { *byte }]);
            plain = at + 1;
        }
    }
    out.extend_from_slice(&line[plain..]);
    out.extend_from_slice(b"\",");
    out.extend_from_slice(FIELDS);
}

/// A line that is an object keeps its members; ours come after them.
fn json(line: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&line[..line.len().saturating_sub(1)]);
    out.push(b',');
    out.extend_from_slice(FIELDS);
}
