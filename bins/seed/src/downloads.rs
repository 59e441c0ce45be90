//! Entries that come from a URL: what is in force already is kept, all else is fetched, once a run however often the
//! entries are made.
//!
//! A file with a checksum is never asked for while the one in force has it. Without, the server is asked whether it
//! has another one. Of an archive only what came of it is in force, so its sum is remembered; what changed on the
//! volume since is not taken for the archive's.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read as _};

use podkit_cli::mask_url;
use sha2::{Digest as _, Sha256};

use crate::archive;
use crate::before::Before;
use crate::config::{Archive, FileSpec, Remote};
use crate::content::{Body, Content, Spooler, Tree};
use crate::error::Error;
use crate::fetch::{self, Fetched, mismatch};
use crate::limits::Limits;
use crate::path::RelPath;
use crate::state::{Notes, Validators, hash_url};

/// All downloads of one run.
pub(crate) struct Downloads<'a> {
    before: &'a Before,
    spooler: &'a Spooler,
    notes: &'a Notes,
    limits: &'a Limits,
    /// What was fetched in this run, by the path of the entry.
    fetched: RefCell<BTreeMap<RelPath, Fetched>>,
}

impl<'a> Downloads<'a> {
    pub(crate) fn new(
        before: &'a Before,
        spooler: &'a Spooler,
        notes: &'a Notes,
        limits: &'a Limits,
    ) -> Self {
        Self { before, spooler, notes, limits, fetched: RefCell::default() }
    }

    /// The file of an entry, with this mode.
    ///
    /// # Errors
    /// It can neither be kept nor fetched.
    pub(crate) fn file(&self, spec: &FileSpec, remote: &Remote, mode: u32) -> Result<Content, Error> {
        // What cannot be read is fetched again.
        let kept = self.before.content(&spec.path).ok().flatten();
        let kept = kept.map(|kept| Content {
            validators: self.before.validators(&spec.path).cloned(),
            ..Content::new(kept.body, mode)
        });
        let name = hash_url(remote.url.as_str());
        let known = match (&remote.sha256, kept) {
            (Some(wanted), Some(kept)) if sum(&kept.body).is_ok_and(|sum| sum == *wanted) => {
                tracing::debug!(path = %spec.path, "in force already, by its checksum");
                return Ok(kept);
            }
            (None, Some(kept)) => kept.validators.clone().filter(|known| known.url == name).zip(Some(kept)),
            _ => None,
        };
        let known = known.as_ref();
        match (self.fetch(spec, remote, known.map(|(validators, _)| validators))?, known) {
            (Fetched::New(new), _) => {
                Ok(Content { validators: new.validators, ..Content::new(new.body, mode) })
            }
            (Fetched::Unchanged, Some((_, kept))) => Ok(kept.clone()),
            (Fetched::Unchanged, None) => Err(unasked(remote)),
        }
    }

    /// All files of an entry that is an archive.
    ///
    /// # Errors
    /// It can neither be kept nor fetched and unpacked.
    pub(crate) fn archive(&self, spec: &FileSpec, archive: &Archive, remote: &Remote) -> Result<Tree, Error> {
        // The same archive unpacked in another way is another tree.
        let Archive { strip, limits, .. } = archive;
        let recipe = format!("strip {strip} mode {:?} {limits:?}", spec.mode);
        let name = hash_url(&format!("{} {recipe}", remote.url));
        let in_force = self.before.archive_sum(&spec.path);
        let validators = self.before.validators(&spec.path).cloned();
        let keep = |sum, validators| {
            let tree = self.before.tree(&spec.path).ok()?;
            self.notes.remember(&spec.path, sum, validators);
            Some(tree)
        };
        let wanted = remote.sha256.map(|sum| unpacked_sum(&sum, &recipe));
        if let Some(sum) = in_force.filter(|sum| wanted == Some(*sum))
            && let Some(tree) = keep(sum, validators.clone())
        {
            tracing::debug!(path = %spec.path, "in force already, by its checksum");
            return Ok(tree);
        }
        let known = validators.filter(|known| wanted.is_none() && known.url == name).zip(in_force);
        let fetched = match self.fetch(spec, remote, known.as_ref().map(|(validators, _)| validators))? {
            Fetched::New(new) => new,
            Fetched::Unchanged => {
                let tree = known.and_then(|(validators, sum)| keep(sum, Some(validators)));
                return tree.ok_or_else(|| unasked(remote));
            }
        };
        let shown = mask_url(remote.url.as_str());
        let tree = archive::unpack(&shown, &fetched.body, archive, &spec.path, self.spooler, self.limits)?;
        let validators = fetched.validators.map(|named| Validators { url: name, ..named });
        self.notes.remember(&spec.path, unpacked_sum(&fetched.sum, &recipe), validators);
        Ok(tree)
    }

    fn fetch(&self, spec: &FileSpec, remote: &Remote, known: Option<&Validators>) -> Result<Fetched, Error> {
        if let Some(fetched) = self.fetched.borrow().get(&spec.path) {
            return Ok(fetched.clone());
        }
        let fetched = fetch::get(remote, known, self.spooler, self.limits)?;
        self.fetched.borrow_mut().insert(spec.path.clone(), fetched.clone());
        Ok(fetched)
    }
}

/// Checks a body against its sum, where there is one.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn check_sum(body: &Body, wanted: Option<&[u8; 32]>) -> Result<(), String> {
    let Some(wanted) = wanted else { return Ok(()) };
    let sum = sum(body).map_err(|error| format!("it cannot be read: {}", podkit_cli::chain(&error)))?;
    if sum == *wanted { Ok(()) } else { Err(mismatch(&sum, wanted)) }
}

fn sum(body: &Body) -> io::Result<[u8; 32]> {
    let (mut sum, mut reader, mut buffer) = (Sha256::new(), body.reader(), vec![0; 64 << 10]);
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(sum.finalize().into()),
            read => sum.update(&buffer[..read]),
        }
    }
}

/// What is remembered of an archive in place of its own sum.
fn unpacked_sum(sum: &[u8; 32], recipe: &str) -> [u8; 32] {
    Sha256::new().chain_update(sum).chain_update(recipe).finalize().into()
}

/// A server that speaks of a version that nobody named.
fn unasked(remote: &Remote) -> Error {
    let why = "the server has nothing new, and nothing of it is in force".to_owned();
    Error::Fetch { url: mask_url(remote.url.as_str()), why, hint: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::hex;

    #[test]
    fn a_body_is_checked_against_its_sum() {
        let body = Body::from(b"abc".to_vec());
        // FIPS 180-2, appendix B.1.
        let wanted = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let sum = sum(&body).unwrap();
        assert_eq!(hex(&sum), wanted);
        assert_eq!(check_sum(&body, Some(&sum)), Ok(()));
        assert_eq!(check_sum(&body, None), Ok(()));
        let why = check_sum(&body, Some(&[0; 32])).unwrap_err();
        assert_eq!(why, format!("its SHA-256 is {wanted}, not {}", "0".repeat(64)));
    }

    #[test]
    fn an_archive_unpacked_in_another_way_is_another() {
        let sums = ["strip 0", "strip 1"].map(|recipe| unpacked_sum(&[1; 32], recipe));
        assert_ne!(sums[0], sums[1]);
        assert_ne!(unpacked_sum(&[2; 32], "strip 0"), sums[0]);
    }
}
