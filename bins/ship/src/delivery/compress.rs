//! A batch's body as it goes over the wire.

use std::io::{self, Write as _};

use flate2::write::GzEncoder;

use crate::config::Compression;

/// Fast levels: beside an app the processor is scarcer than the network.
const GZIP_LEVEL: u32 = 1;
const ZSTD_LEVEL: i32 = 1;

/// How a body is encoded, as HTTP names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// The encoding for a backend of which nothing is known: gzip is what any HTTP server takes.
    pub(crate) fn for_http(compression: Compression) -> Self {
        match compression {
            Compression::Auto | Compression::Gzip => Self::Gzip,
            Compression::Zstd => Self::Zstd,
            Compression::None => Self::Identity,
        }
    }

    /// The value of `Content-Encoding`, if there is one to send.
    pub(crate) fn token(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }

    /// Encodes a body.
    pub(crate) fn encode(self, body: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Identity => Ok(body.to_vec()),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL));
                encoder.write_all(body)?;
                encoder.finish()
            }
            Self::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL),
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
        let mut gunzipped = Vec::new();
        let gzip = Encoding::Gzip.encode(&body).unwrap();
        flate2::read::GzDecoder::new(gzip.as_slice()).read_to_end(&mut gunzipped).unwrap();
        assert_eq!(gunzipped, body);
        assert_eq!(zstd::decode_all(Encoding::Zstd.encode(&body).unwrap().as_slice()).unwrap(), body);
        assert_eq!(Encoding::Identity.encode(&body).unwrap(), body);
    }
}
