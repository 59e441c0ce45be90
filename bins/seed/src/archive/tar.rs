//! Reads tar: the old format, ustar, GNU's and POSIX's (pax).
//!
//! The crate `tar` reads headers and finds their data. Records that extend the next header are read here, with a bound
//! and by their lengths: the crate keeps them whole whatever their size, and cuts them at line breaks, so that a name
//! with one in it would be another name than for other tools.

use std::ffi::OsString;
use std::io::{Cursor, Read};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use tar::{Archive, Entry, EntryType, Header};

use super::budget::Counted;
use super::{Contents, Job, Stop, Unpacked, checked, plain_mode, refuse};

/// More than any name and all the attributes that a file system keeps.
const MAX_RECORD: u64 = 1 << 20;
const BLOCK: usize = 512;

/// Reads the archive that `from` yields; `other` is what to say if it is no tar.
pub(super) fn read(job: &Job<'_>, from: impl Read, other: &str) -> Result<Contents, Stop> {
    let mut from = Counted::new(from, job.budget);
    let mut first = Vec::with_capacity(BLOCK);
    (&mut from).take(BLOCK as u64).read_to_end(&mut first)?;
    if !begins_tar(&first) {
        return refuse(other);
    }
    let mut archive = Archive::new(Cursor::new(first).chain(from));
    let mut contents = Contents::default();
    let mut extension = Extension::default();
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if !extension.read(kind, &mut entry)? {
            add(job, &mut contents, kind, entry, std::mem::take(&mut extension))?;
        }
    }
    let mut rest = archive.into_inner().into_inner().1;
    if extension.is_some() || rest.has_ended {
        return refuse("it ends without the mark of its end, as if cut off");
    }
    let mut piece = vec![0; super::PIECE];
    loop {
        let read = rest.read(&mut piece)?;
        if read == 0 {
            return Ok(contents);
        }
        if piece[..read].iter().any(|byte| *byte != 0) {
            return refuse("there is more after its end");
        }
    }
}

fn add(
    job: &Job<'_>,
    contents: &mut Contents,
    kind: EntryType,
    entry: Entry<'_, impl Read>,
    extension: Extension,
) -> Result<(), Stop> {
    job.budget.entry()?;
    let header = entry.header();
    let size = header.entry_size()?;
    let name = extension.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let link = extension.link.or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
    // The old format has no other way to say that it is a directory.
    let is_directory = kind.is_dir() || (kind.is_file() && name.ends_with(b"/"));
    // `tar -C dir .` begins with the directory itself.
    if is_directory && matches!(name.as_slice(), b"." | b"./") {
        return Ok(());
    }
    let path = checked(&name)?;
    let shown = path.as_path();
    if extension.size.is_some_and(|other| other != size) {
        return refuse(format!("{shown:?} has two sizes"));
    }
    let is_file = (kind.is_file() || kind.is_contiguous()) && !is_directory;
    if !is_file && size > 0 {
        return refuse(format!("{shown:?} is no file, and has content"));
    }
    let unpacked = if is_directory {
        Unpacked::Directory
    } else if is_file {
        let mode = plain_mode(header.mode()?);
        Unpacked::File(job.file(shown, entry, size)?, mode)
    } else if kind.is_symlink() {
        let text = link.unwrap_or_default();
        if text.is_empty() || text.contains(&0) {
            return refuse(format!("{shown:?} is a link to nothing"));
        }
        Unpacked::Link(PathBuf::from(OsString::from_vec(text)))
    } else if kind.is_hard_link() {
        let of = checked(&link.unwrap_or_default())?;
        let Some(Unpacked::File(body, mode)) = contents.file(&of) else {
            return refuse(format!(
                "{shown:?} is a hard link to \"{of}\", and no file of that name comes before it"
            ));
        };
        job.budget.take(body.len())?;
        Unpacked::File(body.clone(), *mode)
    } else {
        return refuse(format!("{shown:?} is {}", describe(kind)));
    };
    contents.add(&path, unpacked)
}

fn describe(kind: EntryType) -> String {
    match kind {
        EntryType::Block | EntryType::Char => "a device".to_owned(),
        EntryType::Fifo => "a pipe".to_owned(),
        EntryType::GNUSparse => "a sparse file; pack it without `--sparse`".to_owned(),
        kind => format!("of an unknown kind, {:?}", char::from(kind.as_byte())),
    }
}

/// Whether a file that begins so is tar: a header with its checksum, or the end of an empty archive.
fn begins_tar(block: &[u8]) -> bool {
    let Ok(bytes) = <&[u8; BLOCK]>::try_from(block) else { return false };
    let mut header = Header::new_old();
    *header.as_mut_bytes() = *bytes;
    let without_sum = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum::<u32>();
    let sum = without_sum + 8 * u32::from(b' ');
    bytes.iter().all(|byte| *byte == 0) || header.cksum().is_ok_and(|known| known == sum)
}

/// What records before a header say of it.
#[derive(Debug, Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    has_pax: bool,
}

impl Extension {
    /// Whether the entry was such a record.
    fn read(&mut self, kind: EntryType, entry: &mut Entry<'_, impl Read>) -> Result<bool, Stop> {
        let is_record = matches!(
            kind,
            EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader
        );
        if !is_record {
            return Ok(false);
        }
        let size = entry.header().entry_size()?;
        if size > MAX_RECORD {
            return refuse("one of its extended headers is larger than 1MiB");
        }
        let mut record = Vec::new();
        entry.read_to_end(&mut record)?;
        if record.len() as u64 != size {
            return refuse("it ends in the middle of an extended header");
        }
        match kind {
            EntryType::GNULongName => set(&mut self.path, c_string(record))?,
            EntryType::GNULongLink => set(&mut self.link, c_string(record))?,
            EntryType::XHeader => {
                if std::mem::replace(&mut self.has_pax, true) {
                    return refuse(AMBIGUOUS);
                }
                self.pax(&record)?;
            }
            _ => {
                let mut global = Self::default();
                global.pax(&record)?;
                if global.path.is_some() || global.link.is_some() || global.size.is_some() {
                    return refuse("it gives one name or size to all entries");
                }
            }
        }
        Ok(true)
    }

    fn is_some(&self) -> bool {
        self.has_pax || self.path.is_some() || self.link.is_some()
    }

    /// Lines of `LENGTH KEY=VALUE`, where the length is that of the whole line (POSIX, "pax Extended Header").
    fn pax(&mut self, mut record: &[u8]) -> Result<(), Stop> {
        while !record.is_empty() {
            let Some((key, value, rest)) = pax_line(record) else {
                return refuse("one of its extended headers is malformed");
            };
            record = rest;
            match key {
                b"path" => set(&mut self.path, value.to_owned())?,
                b"linkpath" => set(&mut self.link, value.to_owned())?,
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    let Some(size) = size else {
                        return refuse("one of its extended headers is malformed");
                    };
                    set(&mut self.size, size)?;
                }
                _ if key.starts_with(b"GNU.sparse.") => {
                    return refuse("it holds a sparse file; pack it without `--sparse`");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

const AMBIGUOUS: &str = "it names an entry in two ways";

fn set<T>(slot: &mut Option<T>, value: T) -> Result<(), Stop> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => refuse(AMBIGUOUS),
    }
}

fn pax_line(record: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = record.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&record[..space]).ok()?.parse().ok()?;
    let line = record.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = line.iter().position(|byte| *byte == b'=')?;
    Some((&line[..equals], &line[equals + 1..], &record[length..]))
}

/// GNU's long names end with a NUL.
fn c_string(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}
