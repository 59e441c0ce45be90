//! Whether somebody still writes to a file: what the kernel knows, and `/proc` of another container does not tell.
//!
//! A read lease (fcntl(2), `F_SETLEASE`) is granted only on a file that nobody has open for writing. It is given back at
//! once. The kernel grants it to the file's owner alone, and not on every file system: then it does not tell.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Once;

use nix::libc;

/// Whether a process has the file open for writing, if that can be told. The file is one that is open to read only.
pub(crate) fn is_open_for_writing(file: &File) -> Option<bool> {
    static IGNORE: Once = Once::new();
    // Who opens the file in the moment of the lease waits for its end, and the kernel sends us a SIGIO, which kills.
    // SAFETY: no handler is installed, and none was: nobody else in this program uses the signal.
    #[expect(unsafe_code, reason = "there is no safe call for it")]
    IGNORE.call_once(|| {
        unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    });
    let set = |lease: libc::c_int| {
        // SAFETY: the descriptor is open as long as `file` lives, and the call takes a number and no memory of ours.
        #[expect(unsafe_code, reason = "there is no safe call for it")]
        let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, lease) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    match set(libc::F_RDLCK) {
        Ok(()) => {
            // It goes with the descriptor at the latest.
            let _ = set(libc::F_UNLCK);
            Some(false)
        }
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Some(true),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_shows_until_it_closes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        let writer = File::create(&path).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(is_open_for_writing(&file), Some(true));
        drop(writer);
        assert_eq!(is_open_for_writing(&file), Some(false));
        // The lease is over: nobody has to wait for us.
        let _writer = File::options().append(true).open(&path).unwrap();
        assert_eq!(is_open_for_writing(&file), Some(true));
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_not_told() {
        assert_eq!(is_open_for_writing(&File::open("/dev/null").unwrap()), None);
    }
}
