//! `archive`: a tar or zip file, on the disk or at a URL, that is unpacked.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use podkit_cli::{Section, units};
use serde_json::{Value, json};

use super::Remote;
use super::remote::{checksum, hex};

const DEFAULT_BYTES: u64 = 512 << 20;
const DEFAULT_ENTRIES: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");
/// Text shrinks to a tenth or twentieth; what shrinks to less than a hundredth is a bomb.
const DEFAULT_RATIO: NonZeroUsize = NonZeroUsize::new(100).expect("not zero");

/// Something to unpack.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(crate) from: Location,
    /// How many leading names of each entry are left out.
    pub(crate) strip: usize,
    pub(crate) limits: ArchiveLimits,
}

/// Where an archive is.
#[derive(Debug)]
pub(crate) enum Location {
    Url(Box<Remote>),
    File {
        path: PathBuf,
        /// What its bytes must hash to, where that is given.
        sha256: Option<[u8; 32]>,
    },
}

/// What an archive may grow to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ArchiveLimits {
    /// Of all files together, unpacked.
    pub(crate) bytes: u64,
    pub(crate) entries: NonZeroUsize,
    /// Unpacked bytes for each packed one.
    pub(crate) ratio: NonZeroUsize,
}

impl Archive {
    pub(super) fn read(file: &Section<'_>) -> Option<Self> {
        if !file.has("archive") {
            return None;
        }
        let is_url = file.value("archive", |text| Ok(text.contains("://")))?;
        let from = if is_url {
            Remote::read(file, "archive").map(Box::new).map(Location::Url)
        } else {
            let sha256 = checksum(file, false);
            file.value("archive", units::path).map(|path| Location::File { path, sha256 })
        };
        let strip = file.value_or("strip", units::parsed("a number of names"), 0);
        let limits = file.section("limits");
        let limits = ArchiveLimits {
            bytes: limits.value_or("bytes", units::size, DEFAULT_BYTES),
            entries: limits.value_or("entries", units::count, DEFAULT_ENTRIES),
            ratio: limits.value_or("ratio", units::count, DEFAULT_RATIO),
        };
        Some(Self { from: from?, strip, limits })
    }

    pub(super) fn show(&self, shown: &mut Value) {
        match &self.from {
            Location::Url(remote) => remote.show("archive", shown),
            Location::File { path, sha256 } => {
                shown["archive"] = json!(path);
                if let Some(sum) = sha256 {
                    shown["sha256"] = json!(hex(sum));
                }
            }
        }
        if self.strip > 0 {
            shown["strip"] = json!(self.strip);
        }
        shown["limits"] = json!({
            "bytes": units::show_size(self.limits.bytes),
            "entries": self.limits.entries,
            "ratio": self.limits.ratio,
        });
    }
}
