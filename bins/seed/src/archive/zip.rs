//! Reads zip by its central directory (PKWARE's APPNOTE 6.3.10), stored and deflated entries only.
//!
//! Not by a crate: the one at hand (`zip` 8) makes room for as many entries as the archive claims, and of two with one
//! name it keeps the last without a word. Here all entries are looked at before the first is unpacked: their number,
//! that they do not overlap, and that both places that name an entry agree.

use std::io::{BufReader, Read};
use std::path::PathBuf;

use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::{Contents, Job, Stop, Unpacked, checked, plain_mode, refuse};
use crate::content::Body;
use crate::path::RelPath;

/// The record at the end without its comment, a central and a local header without their names.
const END: usize = 22;
const CENTRAL: usize = 46;
const LOCAL: usize = 30;
/// The length of a comment has 16 bits.
const MAX_COMMENT: usize = 0xffff;
/// The longest text of a link that the kernel takes (`PATH_MAX`).
const MAX_LINK: u64 = 4096;
/// What files get that were packed where there are no modes.
const DEFAULT_MODE: u32 = 0o644;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const AES: u16 = 99;
/// Encrypted, strongly encrypted, or with masked headers.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;

/// Where the central directory is.
struct Directory {
    entries: usize,
    offset: u64,
    end: u64,
}

/// One entry of the central directory.
struct Entry {
    name: Vec<u8>,
    path: RelPath,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    /// Type and permissions, where it was packed on a system that has them.
    mode: Option<u32>,
    offset: u64,
}

/// Reads the archive.
pub(super) fn read(job: &Job<'_>) -> Result<Contents, Stop> {
    let directory = find_directory(job.packed)?;
    job.budget.has_entries(directory.entries)?;
    let mut from =
        BufReader::new(job.packed.reader_at(directory.offset).take(directory.end - directory.offset));
    let mut entries = Vec::new();
    for _ in 0..directory.entries {
        job.budget.entry()?;
        entries.extend(central(&mut from)?);
    }
    if from.read(&mut [0])? != 0 {
        return refuse("it is broken: there are more entries than its end says");
    }
    let mut ranges = Vec::new();
    for entry in &entries {
        let data = locate(job.packed, entry)?;
        ranges.push((entry.offset, data + entry.packed, data));
    }
    no_overlap(&entries, &ranges, directory.offset)?;
    let mut contents = Contents::default();
    for (entry, (_, _, data)) in entries.iter().zip(ranges) {
        contents.add(&entry.path, unpack(job, entry, data)?)?;
    }
    Ok(contents)
}

fn find_directory(archive: &Body) -> Result<Directory, Stop> {
    let length = archive.len();
    let tail_at = length.saturating_sub((END + MAX_COMMENT) as u64);
    let mut tail = Vec::new();
    archive.reader_at(tail_at).read_to_end(&mut tail)?;
    // The comment reaches to the very end, so that nothing can stand behind the archive.
    let found = tail.windows(END).enumerate().rev().find(|(at, record)| {
        record.starts_with(b"PK\x05\x06") && usize::from(u16_at(record, 20)) == tail.len() - at - END
    });
    let Some((at, record)) = found else {
        return refuse("it is broken: the record at its end is not there, as if cut off");
    };
    let (disk, directory_disk) = (u16_at(record, 4), u16_at(record, 6));
    let (here, entries) = (u16_at(record, 8), u16_at(record, 10));
    let (size, offset) = (u32_at(record, 12), u32_at(record, 16));
    if entries == u16::MAX || size == u32::MAX || offset == u32::MAX {
        return refuse("it is a zip64 archive, which is not read; pack it as tar.gz");
    }
    if disk != 0 || directory_disk != 0 || here != entries {
        return refuse("it is a part of a split archive");
    }
    let (offset, end) = (u64::from(offset), tail_at + at as u64);
    if offset + u64::from(size) != end {
        return refuse("it is broken: its directory is not where its end says");
    }
    Ok(Directory { entries: entries.into(), offset, end })
}

/// The next entry of the central directory; `None` for the top itself.
fn central(from: &mut impl Read) -> Result<Option<Entry>, Stop> {
    let mut header = [0; CENTRAL];
    from.read_exact(&mut header)?;
    if !header.starts_with(b"PK\x01\x02") {
        return refuse("it is broken: its directory ends early");
    }
    let mut name = vec![0; usize::from(u16_at(&header, 28))];
    from.read_exact(&mut name)?;
    let more = u64::from(u16_at(&header, 30)) + u64::from(u16_at(&header, 32));
    if std::io::copy(&mut from.take(more), &mut std::io::sink())? != more {
        return refuse("it is broken: its directory ends early");
    }
    if std::str::from_utf8(&name).is_err() || name.contains(&b'\\') {
        let shown = String::from_utf8_lossy(&name);
        return refuse(format!("the name of an entry, {shown:?}, is read differently by different tools"));
    }
    if name == b"./" {
        return Ok(None);
    }
    let path = checked(&name)?;
    let shown = path.as_path();
    let (flags, method) = (u16_at(&header, 8), u16_at(&header, 10));
    if flags & ENCRYPTED != 0 || method == AES {
        return refuse(format!("{shown:?} is encrypted"));
    }
    if method != STORED && method != DEFLATED {
        return refuse(format!("{shown:?} is packed by method {method}; `deflate` and `store` are read"));
    }
    let (packed, size, offset) = (u32_at(&header, 20), u32_at(&header, 24), u32_at(&header, 42));
    if [packed, size, offset].contains(&u32::MAX) {
        return refuse("it is a zip64 archive, which is not read; pack it as tar.gz");
    }
    let is_unix = matches!(header[5], 3 | 19);
    Ok(Some(Entry {
        name,
        method,
        crc: u32_at(&header, 16),
        packed: packed.into(),
        size: size.into(),
        mode: is_unix.then(|| u32_at(&header, 38) >> 16),
        offset: offset.into(),
        path,
    }))
}

/// Where the data of an entry begins.
fn locate(archive: &Body, entry: &Entry) -> Result<u64, Stop> {
    let mut header = [0; LOCAL];
    let mut from = archive.reader_at(entry.offset);
    let mut name = vec![0; entry.name.len()];
    let is_there = from.read_exact(&mut header).is_ok()
        && header.starts_with(b"PK\x03\x04")
        && usize::from(u16_at(&header, 26)) == name.len()
        && from.read_exact(&mut name).is_ok()
        && name == entry.name;
    if !is_there {
        return refuse(format!("it is broken: \"{}\" is not where its directory says", entry.path));
    }
    Ok(entry.offset + (LOCAL + name.len()) as u64 + u64::from(u16_at(&header, 28)))
}

/// Data that many entries share makes a bomb of any size (Fifield 2019, "A better zip bomb").
fn no_overlap(entries: &[Entry], ranges: &[(u64, u64, u64)], end: u64) -> Result<(), Stop> {
    let mut order: Vec<_> = ranges.iter().zip(entries).collect();
    order.sort_by_key(|((start, ..), _)| *start);
    let starts = order.iter().skip(1).map(|((start, ..), _)| *start).chain([end]);
    for (((_, data_end, _), entry), next) in order.iter().zip(starts) {
        if *data_end > next {
            return refuse(format!("\"{}\" overlaps with what comes after it", entry.path));
        }
    }
    Ok(())
}

fn unpack(job: &Job<'_>, entry: &Entry, data: u64) -> Result<Unpacked, Stop> {
    // The bits of `st_mode` for the type of a file; the same numbers on every Unix.
    const TYPE: u32 = 0o170_000;
    const REGULAR: u32 = 0o100_000;
    const DIRECTORY: u32 = 0o040_000;
    const LINK: u32 = 0o120_000;
    let shown = entry.path.as_path();
    let mode = entry.mode.unwrap_or(DEFAULT_MODE);
    let is_directory = entry.name.ends_with(b"/");
    match mode & TYPE {
        DIRECTORY | 0 if is_directory && entry.size == 0 => Ok(Unpacked::Directory),
        REGULAR | 0 if !is_directory => Ok(Unpacked::File(content(job, entry, data)?, plain_mode(mode))),
        LINK if !is_directory && entry.size <= MAX_LINK => {
            use std::os::unix::ffi::OsStringExt as _;
            let text = content(job, entry, data)?.bytes()?.into_owned();
            if text.is_empty() || text.contains(&0) {
                return refuse(format!("{shown:?} is a link to nothing"));
            }
            Ok(Unpacked::Link(PathBuf::from(std::ffi::OsString::from_vec(text))))
        }
        REGULAR | DIRECTORY | LINK | 0 => refuse(format!("{shown:?} is a file in it, and a directory")),
        _ => refuse(format!("{shown:?} is a device or a pipe")),
    }
}

fn content(job: &Job<'_>, entry: &Entry, data: u64) -> Result<Body, Stop> {
    let packed = job.packed.reader_at(data).take(entry.packed);
    let shown = entry.path.as_path();
    let mut crc = Crc::new();
    let body = if entry.method == STORED {
        job.file(shown, Summed { inner: packed, crc: &mut crc }, entry.size)?
    } else {
        job.file(shown, Summed { inner: DeflateDecoder::new(packed), crc: &mut crc }, entry.size)?
    };
    if crc.sum() != entry.crc {
        return refuse(format!("it is broken: the checksum of {shown:?} is wrong"));
    }
    Ok(body)
}

/// Sums up what is read.
struct Summed<'a, R> {
    inner: R,
    crc: &'a mut Crc,
}

impl<R: Read> Read for Summed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.crc.update(&buffer[..read]);
        Ok(read)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
