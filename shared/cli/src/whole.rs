//! Reads files that are held in memory as a whole, and none that is larger than any of them may be.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::units::show_size;

/// The most that is read of a file at once: sixteen times what a ConfigMap or Secret may hold. What is larger is the
/// wrong file (a device, a log), and would take the memory of the whole container.
pub const MAX_WHOLE: u64 = 16 << 20;

/// All of a file, or of a pipe.
///
/// # Errors
/// It cannot be read, or it is larger than [`MAX_WHOLE`], of which no more is read then.
pub fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    read_whole_of(file, length)
}

/// All of a file that is open; `length` is what is expected of it.
///
/// # Errors
/// As [`read_whole`].
pub fn read_whole_of(file: File, length: u64) -> io::Result<Vec<u8>> {
    let too_large = || {
        let why = format!("it is larger than {}, the most that is read of a file", show_size(MAX_WHOLE));
        io::Error::new(io::ErrorKind::FileTooLarge, why)
    };
    if length > MAX_WHOLE {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    // Files of `/proc` and devices say nothing of their size, and others grow.
    file.take(MAX_WHOLE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_WHOLE { Err(too_large()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let sized = |name: &str, size: u64| {
            let path = dir.path().join(name);
            File::create(&path).unwrap().set_len(size).unwrap();
            path
        };
        let why = "it is larger than 16MiB, the most that is read of a file";
        assert_eq!(read_whole(&sized("fits", MAX_WHOLE)).unwrap().len() as u64, MAX_WHOLE);
        assert_eq!(read_whole(&sized("large", MAX_WHOLE + 1)).unwrap_err().to_string(), why);
        assert_eq!(read_whole(Path::new("/dev/zero")).unwrap_err().to_string(), why);
        let grown = File::open(sized("grown", MAX_WHOLE + 1)).unwrap();
        assert_eq!(read_whole_of(grown, 5).unwrap_err().to_string(), why);
    }
}
