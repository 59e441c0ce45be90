//! A batch's body as it goes over the wire.

use std::borrow::Cow;
use std::io;

use flate2::{Compress, FlushCompress, Status};

use crate::config::Compression;

/// Fast levels: beside an app the processor is scarcer than the network.
const GZIP_LEVEL: u32 = 1;
/// In bits, the largest there is.
const GZIP_WINDOW: u8 = 15;
/// No higher one: `.cargo/config.toml` leaves out the strategies of the others.
const ZSTD_LEVEL: i32 = 1;

/// Encodes bodies; keeps what can be used again from one to the next.
pub(crate) enum Encoder {
    Identity,
    /// A third of a megabyte of tables and window, which would be cleared for each batch if it was made anew.
    Gzip(Compress),
    Zstd(zstd::bulk::Compressor<'static>),
    /// The block format, without frames: what Loki and Prometheus mean by snappy.
    Snappy(Box<snap::raw::Encoder>),
}

impl Encoder {
    pub(crate) fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::Auto | Compression::Gzip => {
                Self::Gzip(Compress::new_gzip(flate2::Compression::new(GZIP_LEVEL), GZIP_WINDOW))
            }
            Compression::Zstd => Self::Zstd(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
            Compression::Snappy => Self::Snappy(Box::new(snap::raw::Encoder::new())),
            Compression::None => Self::Identity,
        })
    }

    /// The value of `Content-Encoding`, if there is one to send.
    pub(crate) fn token(&self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip(_) => Some("gzip"),
            Self::Zstd(_) => Some("zstd"),
            Self::Snappy(_) => Some("snappy"),
        }
    }

    /// Encodes a body.
    pub(crate) fn encode(&mut self, body: Cow<'_, [u8]>) -> io::Result<Vec<u8>> {
        match self {
            Self::Identity => Ok(body.into_owned()),
            Self::Gzip(compress) => gzip(compress, &body),
            Self::Zstd(compressor) => compressor.compress(&body),
            Self::Snappy(encoder) => encoder.compress_vec(&body).map_err(io::Error::other),
        }
    }
}

fn gzip(compress: &mut Compress, body: &[u8]) -> io::Result<Vec<u8>> {
    // Logs shrink to a fifth and less.
    let mut out = Vec::with_capacity(body.len() / 4 + 64);
    compress.reset();
    loop {
        let taken = usize::try_from(compress.total_in()).map_err(io::Error::other)?;
        match compress.compress_vec(&body[taken..], &mut out, FlushCompress::Finish)? {
            Status::StreamEnd => return Ok(out),
            Status::Ok | Status::BufError => out.reserve(body.len() / 4 + 64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn what_is_encoded_is_decoded() {
        let body = b"{\"message\":\"x\"}\n".repeat(1000);
        let encode = |compression| Encoder::new(compression).unwrap().encode(body.as_slice().into()).unwrap();
        let mut gunzipped = Vec::new();
        let gzip = encode(Compression::Gzip);
        flate2::read::GzDecoder::new(gzip.as_slice()).read_to_end(&mut gunzipped).unwrap();
        assert_eq!(gunzipped, body);
        assert_eq!(zstd::decode_all(encode(Compression::Zstd).as_slice()).unwrap(), body);
        let snappy = encode(Compression::Snappy);
        assert_eq!(snap::raw::Decoder::new().decompress_vec(&snappy).unwrap(), body);
        assert_eq!(encode(Compression::None), body);
    }

    #[test]
    fn one_body_leaves_nothing_behind_for_the_next() {
        let mut encoder = Encoder::new(Compression::Gzip).unwrap();
        // What does not shrink is longer than is made room for at first.
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(100_000).collect();
        for body in [noise.as_slice(), b"", b"x", &[b'x'; 100_000], noise.as_slice()] {
            let mut gunzipped = Vec::new();
            let gzip = encoder.encode(body.into()).unwrap();
            flate2::read::GzDecoder::new(gzip.as_slice()).read_to_end(&mut gunzipped).unwrap();
            assert_eq!(gunzipped, body);
        }
    }
}
