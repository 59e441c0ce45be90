//! What a run leaves beside the files for the next one: how servers name the versions of downloads, the sums of
//! archives, and in the plain layout which files are ours. Losing it costs a download, or leaves what is no longer
//! listed; never more.
//!
//! Pure: [`crate::before`] reads it, [`crate::write`] writes it. It lies on a volume that others may write to, so
//! nothing in it is trusted further than a path that another run could have been given.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::path::RelPath;

/// The file in the target. No path of the config can begin with `..`.
pub(crate) const STATE: &str = "..podkit-seed.json";
/// The same before it is renamed into force.
pub(crate) const STATE_NEXT: &str = "..podkit-seed.json_tmp";

/// A larger file is none that we wrote: a path takes about a hundred bytes, and a volume of config holds thousands.
pub(crate) const MAX_STATE: u64 = 64 << 20;

/// How a server names one version of a download (RFC 9110 section 8.8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Validators {
    /// Where it was downloaded from, as a [hash](hash_url): a URL may hold a secret.
    pub(crate) url: u64,
    /// `ETag`, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) etag: Option<String>,
    /// `Last-Modified`, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_modified: Option<String>,
}

/// The hash of a URL for [`Validators::url`].
pub(crate) fn hash_url(url: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    url.hash(&mut hasher);
    hasher.finish()
}

/// Tells whether files are still the very ones that were written: a hash over inodes, sizes and times of
/// modification. What was remembered of a download counts only while it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seal(u64);

/// Makes a [`Seal`] over any number of files.
#[derive(Default)]
pub(crate) struct Sealer(DefaultHasher);

impl Sealer {
    /// Adds a file. The time of the last status change is left out: it moves with each link that is made or removed.
    pub(crate) fn add(&mut self, path: &RelPath, inode: u64, size: u64, modified: (i64, i64)) {
        (path, inode, size, modified).hash(&mut self.0);
    }

    pub(crate) fn seal(&self) -> Seal {
        Seal(self.0.finish())
    }
}

/// What is known of a download: of a file, or of an archive by the path that it is unpacked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Download {
    /// Of all files that came of it.
    pub(crate) seal: Seal,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) validators: Option<Validators>,
    /// SHA-256 of an archive's own bytes, packed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sum: Option<[u8; 32]>,
}

/// All that one run tells the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) downloads: BTreeMap<Key, Download>,
    /// Our files in the plain layout.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) files: BTreeMap<Key, Seal>,
    /// The directories that we made in the plain layout.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) directories: BTreeSet<Key>,
    /// The files that hold secrets, whose old values nobody knows any more when they are to be masked.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) secret: BTreeSet<Key>,
}

impl State {
    /// Reads what [`bytes`](Self::bytes) gave.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The file; nothing if there is nothing to tell.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        if *self == Self::default() {
            return Vec::new();
        }
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A path as a key of JSON: bytes that are no plain ASCII are written `%XX`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) RelPath);

/// So that a map is asked by the path itself: both compare alike.
impl Borrow<RelPath> for Key {
    fn borrow(&self) -> &RelPath {
        &self.0
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::new();
        for byte in self.0.as_path().as_os_str().as_bytes() {
            match byte {
                b'%' | ..0x20 | 0x7f.. => {
                    let _ = write!(text, "%{byte:02x}");
                }
                _ => text.push(char::from(*byte)),
            }
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bad = || serde::de::Error::custom("a path is not written as podkit-seed writes it");
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'%' => {
                    let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                    let (high, low) = (digit(rest.next()), digit(rest.next()));
                    let value = high.zip(low).map(|(high, low)| high * 16 + low);
                    value.and_then(|value| u8::try_from(value).ok()).ok_or_else(bad)?
                }
                byte => byte,
            });
        }
        let path = OsString::from_vec(bytes);
        RelPath::parse(Path::new(&path)).map(Self).map_err(|_| bad())
    }
}

/// What is to be remembered of archives, collected while the entries are made. Of single files,
/// [`Content::validators`](crate::content::Content) tells.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<BTreeMap<RelPath, ArchiveNote>>);

/// What is to be remembered of one archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArchiveNote {
    /// SHA-256 of its own bytes, packed.
    pub(crate) sum: [u8; 32],
    pub(crate) validators: Option<Validators>,
}

impl Notes {
    /// Remembers the archive that is unpacked at `path`, also if it is the same as before.
    pub(crate) fn remember(&self, path: &RelPath, sum: [u8; 32], validators: Option<Validators>) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.insert(path.clone(), ArchiveNote { sum, validators });
    }

    /// All of them.
    pub(crate) fn all(&self) -> BTreeMap<RelPath, ArchiveNote> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(bytes: &[u8]) -> Key {
        Key(RelPath::parse(Path::new(&OsString::from_vec(bytes.to_vec()))).unwrap())
    }

    #[test]
    fn what_is_written_is_read_again_and_says_no_more_than_it_must() {
        let mut sealer = Sealer::default();
        sealer.add(&key(b"geo").0, 7, 5, (1, 2));
        let validators = Validators { url: u64::MAX, etag: Some("W/\"1\"".to_owned()), last_modified: None };
        let state = State {
            downloads: BTreeMap::from([(
                key(b"geo"),
                Download { seal: sealer.seal(), validators: Some(validators), sum: Some([9; 32]) },
            )]),
            files: BTreeMap::from([(key(b"a%\xff\xc3\xbc/b"), Seal(3))]),
            directories: BTreeSet::from([key(b"a%\xff\xc3\xbc")]),
            secret: BTreeSet::from([key(b"geo")]),
        };
        let bytes = state.bytes();
        assert_eq!(State::parse(&bytes).unwrap(), state);
        assert!(String::from_utf8(bytes).unwrap().contains("\"a%25%ff%c3%bc/b\":3"));
        assert_eq!(State::default().bytes(), b"");
    }

    #[test]
    fn a_path_that_leaves_the_target_is_not_taken_from_a_file_that_others_may_write() {
        for bad in ["../x", "/etc/passwd", "..data/x", "%2e%2e/x", "a%00", "a%0ab", "%", "%+f", ""] {
            let text = format!("{{\"files\": {{\"{bad}\": 1}}}}");
            assert!(State::parse(text.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_seal_breaks_with_each_of_its_parts() {
        let seal = |inode, size, modified| {
            let mut sealer = Sealer::default();
            sealer.add(&key(b"a").0, inode, size, modified);
            sealer.seal()
        };
        let first = seal(1, 2, (3, 4));
        assert_eq!(first, seal(1, 2, (3, 4)));
        for other in [seal(0, 2, (3, 4)), seal(1, 0, (3, 4)), seal(1, 2, (0, 4)), seal(1, 2, (3, 0))] {
            assert_ne!(first, other);
        }
    }

    proptest! {
        #[test]
        fn any_path_survives(bytes in prop::collection::vec(1_u8.., 1..20)) {
            let path = OsString::from_vec(bytes);
            if let Ok(path) = RelPath::parse(Path::new(&path)) {
                let text = serde_json::to_string(&Key(path.clone())).unwrap();
                prop_assert_eq!(serde_json::from_str::<Key>(&text).unwrap().0, path);
            }
        }

        #[test]
        fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = State::parse(&bytes);
        }
    }
}
