//! Archives for tests, byte by byte where no tool would write them.

use std::io::Write as _;

use tar::Header;

/// A tar archive on its way.
#[derive(Default)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    /// An entry of any kind, with a size of its own if that is not its data's.
    pub(crate) fn entry(mut self, kind: u8, name: &[u8], link: &[u8], mode: u32, data: &[u8]) -> Self {
        self.header(kind, name, link, mode, data.len() as u64);
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, data: &str) -> Self {
        self.entry(b'0', name.as_bytes(), b"", 0o644, data.as_bytes())
    }

    pub(crate) fn link(self, name: &str, to: &str) -> Self {
        self.entry(b'2', name.as_bytes(), to.as_bytes(), 0o777, b"")
    }

    pub(crate) fn hard_link(self, name: &str, to: &str) -> Self {
        self.entry(b'1', name.as_bytes(), to.as_bytes(), 0o644, b"")
    }

    /// Only the header, whatever comes after it.
    pub(crate) fn claim(mut self, name: &str, size: u64) -> Self {
        self.header(b'0', name.as_bytes(), b"", 0o644, size);
        self
    }

    /// A record of pax before the next entry.
    pub(crate) fn pax(self, kind: u8, key: &str, value: &str) -> Self {
        let rest = format!(" {key}={value}\n");
        let mut length = rest.len();
        while length != rest.len() + length.to_string().len() {
            length = rest.len() + length.to_string().len();
        }
        self.entry(kind, b"pax", b"", 0o644, format!("{length}{rest}").as_bytes())
    }

    fn header(&mut self, kind: u8, name: &[u8], link: &[u8], mode: u32, size: u64) {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.as_old_mut().linkflag = [kind];
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
    }

    /// Whole, with the two empty blocks at its end.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }

    /// As far as it is.
    pub(crate) fn cut(self) -> Vec<u8> {
        self.0
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One entry of a zip archive; both places that describe it say what is here.
#[derive(Clone)]
pub(crate) struct Zipped {
    pub(crate) name: &'static str,
    /// The name in the local header, if it is another.
    pub(crate) local_name: Option<&'static str>,
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) mode: u32,
    pub(crate) data: Vec<u8>,
    pub(crate) size: u32,
    pub(crate) crc: u32,
    /// Uses the data of the entry before it.
    pub(crate) overlaps: bool,
}

impl Zipped {
    pub(crate) fn new(name: &'static str, mode: u32, text: &[u8]) -> Self {
        let mut crc = flate2::Crc::new();
        crc.update(text);
        Self {
            name,
            local_name: None,
            flags: 0,
            method: 8,
            mode,
            data: deflate(text),
            size: u32::try_from(text.len()).unwrap(),
            crc: crc.sum(),
            overlaps: false,
        }
    }

    fn middle(&self, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [self.flags, self.method, 0, 0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let packed = u32::try_from(self.data.len()).unwrap();
        for number in [self.crc, packed, self.size] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&u16::try_from(name.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&0_u16.to_le_bytes());
        bytes
    }
}

/// A zip archive of these entries.
pub(crate) fn zip(entries: &[Zipped]) -> Vec<u8> {
    let (mut bytes, mut directory, mut offset) = (Vec::new(), Vec::new(), 0);
    for entry in entries {
        if !entry.overlaps {
            offset = u32::try_from(bytes.len()).unwrap();
            let name = entry.local_name.unwrap_or(entry.name);
            bytes.extend_from_slice(b"PK\x03\x04\x14\0");
            bytes.extend(entry.middle(name));
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(&entry.data);
        }
        directory.extend_from_slice(b"PK\x01\x02\x14\x03\x14\0");
        directory.extend(entry.middle(entry.name));
        directory.extend_from_slice(&[0; 6]);
        directory.extend_from_slice(&(entry.mode << 16).to_le_bytes());
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(entry.name.as_bytes());
    }
    let (at, count) = (u32::try_from(bytes.len()).unwrap(), u16::try_from(entries.len()).unwrap());
    bytes.extend_from_slice(&directory);
    bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(directory.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(&at.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes
}
