//! Unpacks tar and zip archives into a tree of files. Nothing leaves the place of the entry, no limit is passed, and
//! nothing touches the target.
//!
//! What an archive is, its first bytes say, never its name. What two tools would read as two different trees (a name
//! twice, bytes after the end, two sizes for one entry) is refused: somebody checked one of them, and would get the
//! other.

mod budget;
mod contents;
mod tar;
mod zip;

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::Path;

use crate::config::Archive;
use crate::content::{Body, Spooler, Tree};
use crate::error::Error;
use crate::limits::Limits;
use crate::path::RelPath;

use budget::Budget;
use contents::{Contents, Unpacked};

/// Files are copied in pieces of this size.
const PIECE: usize = 64 << 10;
/// `log2` of the largest window that a zstd frame may ask memory for: 8 MiB, as RFC 9659 has it for the web. `zstd`
/// packs so up to level 19.
const ZSTD_WINDOW: u32 = 23;
/// What the library says of a larger one (`ZSTD_error_frameParameter_windowTooLarge`); it gives us no number.
const ZSTD_TOO_LARGE: &str = "Frame requires too much memory for decoding";

/// Unpacks an archive below `at`. `name` is for messages.
///
/// # Errors
/// It is no archive, is broken, holds what must not be unpacked, or passes a limit. Or the disk is full, or the run
/// was stopped.
pub(crate) fn unpack(
    name: &str,
    packed: &Body,
    spec: &Archive,
    at: &RelPath,
    spooler: &Spooler,
    limits: &Limits,
) -> Result<Tree, Error> {
    let budget = Budget::new(spec.limits, packed.len(), limits);
    let job = Job { packed, budget: &budget, spooler };
    let tree = job.contents().and_then(|contents| {
        let tree = contents.into_tree(at, spec.strip, &budget)?;
        if tree.is_empty() {
            return refuse(match spec.strip {
                0 => "there is no file in it".to_owned(),
                strip => format!("`strip: {strip}` leaves no file of it"),
            });
        }
        Ok(tree)
    });
    tree.map_err(|stop| match stop {
        Stop::Refused(why) => Error::Archive { archive: name.to_owned(), why },
        Stop::Failed(error) => *error,
    })
}

/// Why unpacking ended early.
#[derive(Debug)]
enum Stop {
    /// The archive is of no use, or not to be trusted.
    Refused(String),
    /// Something else than the archive.
    Failed(Box<Error>),
}

fn refuse<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Refused(why.into()))
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// So that a reader below a decoder can say why it does not go on.
impl From<Stop> for io::Error {
    fn from(stop: Stop) -> Self {
        Self::other(stop)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(stop) => stop,
            Err(error) if error.to_string() == ZSTD_TOO_LARGE => Self::Refused(
                "it is packed by zstd with a window above 8MiB; pack it without `--long` and `--ultra`"
                    .to_owned(),
            ),
            Err(error) => Self::Refused(format!("it is broken: {error}")),
        }
    }
}

impl std::error::Error for Stop {}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// One archive on its way.
struct Job<'a> {
    packed: &'a Body,
    budget: &'a Budget<'a>,
    spooler: &'a Spooler,
}

impl Job<'_> {
    fn contents(&self) -> Result<Contents, Stop> {
        let mut packed = BufReader::with_capacity(PIECE, self.packed.reader());
        let head = packed.fill_buf()?;
        match head {
            [] => refuse("it is empty"),
            [0x1f, 0x8b, ..] => tar::read(
                self,
                flate2::bufread::MultiGzDecoder::new(packed),
                "what gzip packed in it is no tar",
            ),
            // Some packers begin with a frame that is to be skipped (RFC 8878 section 3.1.2).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                let mut decoder = zstd::Decoder::with_buffer(packed)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                tar::read(self, decoder, "what zstd packed in it is no tar")
            }
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => zip::read(self),
            _ => {
                let why = format!("it is {}, and not tar, tar.gz, tar.zst or zip", guess(head));
                tar::read(self, packed, &why)
            }
        }
    }

    /// All of `from`, which must be `size` bytes.
    fn file(&self, path: &Path, mut from: impl Read, size: u64) -> Result<Body, Stop> {
        self.budget.has_room_for(size)?;
        let mut spool = self.spooler.begin();
        let mut piece = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE).saturating_add(1))];
        let mut left = size;
        loop {
            let read = from.read(&mut piece)?;
            if read == 0 && left > 0 {
                return refuse(format!("it ends in the middle of {path:?}"));
            }
            if read == 0 {
                return Ok(spool.finish());
            }
            self.budget.take(read as u64)?;
            left = left
                .checked_sub(read as u64)
                .ok_or_else(|| Stop::Refused(format!("{path:?} is longer than it says")))?;
            spool
                .write_all(&piece[..read])
                .map_err(|source| self.spooler.cannot_keep(format!("{path:?} of the archive"), source))?;
        }
    }
}

/// What a file that is no archive of ours may be, for the message.
fn guess(head: &[u8]) -> &'static str {
    match head {
        [b'B', b'Z', b'h', ..] => "bzip2",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
        [b'7', b'z', 0xbc, 0xaf, ..] => "7-Zip",
        [b'R', b'a', b'r', b'!', ..] => "RAR",
        [0x04, 0x22, 0x4d, 0x18, ..] => "lz4",
        [b'<', ..] => "text such as HTML",
        _ => "something else",
    }
}

/// The permission bits that are taken over: no setuid, setgid or sticky, and its owner can always read it.
fn plain_mode(mode: u32) -> u32 {
    mode & 0o777 | 0o400
}

/// A name as an archive has it. Absolute ones, `..` and line breaks are refused, not mended.
fn checked(name: &[u8]) -> Result<RelPath, Stop> {
    use std::os::unix::ffi::OsStrExt as _;
    RelPath::parse(std::ffi::OsStr::from_bytes(name))
        .map_err(|bad| Stop::Refused(format!("the name of an entry cannot be used: {bad}")))
}

#[cfg(test)]
mod tests;
