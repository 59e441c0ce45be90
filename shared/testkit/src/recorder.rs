//! Sees what a program asks of the disk, in order, and makes the disk fail on request: by a library that is loaded
//! before the C library. Only for programs that are linked dynamically.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Run;

/// Notes each write, fsync and rename in `$PODKIT_TEST_CALLS`: `fsync /out/..2026…/a`, `rename ..data_tmp ..data`.
/// While the file `$PODKIT_TEST_CALLS.full` is there, the disk is full; while `….nohole` is, no range can be freed.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
static int told(const char *what) {
    char path[4200];
    snprintf(path, sizeof path, "%s.%s", getenv("PODKIT_TEST_CALLS"), what);
    return access(path, F_OK) == 0;
}
static void note(const char *what, const char *a, const char *b) {
    char line[9000];
    int saved = errno;
    int length = snprintf(line, sizeof line, "%s %s%s%s\n", what, a, b ? " " : "", b ? b : "");
    int fd = open(getenv("PODKIT_TEST_CALLS"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (syscall(SYS_write, fd, line, length) != length) abort();
    close(fd);
    errno = saved;
}
static int is_file(int fd, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    path[length < 0 ? 0 : length] = 0;
    return path[0] == '/' && strncmp(path, "/dev/", 5) != 0;
}
static void note_fd(const char *what, int fd) {
    char path[4096];
    if (is_file(fd, path, sizeof path)) note(what, path, NULL);
}
ssize_t write(int fd, const void *bytes, size_t length) {
    char path[4096];
    if (is_file(fd, path, sizeof path)) {
        if (told("full")) { errno = ENOSPC; return -1; }
        note("write", path, NULL);
    }
    return syscall(SYS_write, fd, bytes, length);
}
int fsync(int fd) { note_fd("fsync", fd); return syscall(SYS_fsync, fd); }
int fdatasync(int fd) { note_fd("fsync", fd); return syscall(SYS_fdatasync, fd); }
int rename(const char *a, const char *b) {
    note("rename", a, b);
    return syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 0);
}
int renameat(int x, const char *a, int y, const char *b) {
    note("rename", a, b);
    return syscall(SYS_renameat2, x, a, y, b, 0);
}
int fallocate(int fd, int mode, off_t offset, off_t length) {
    if (told("nohole")) { errno = EOPNOTSUPP; return -1; }
    return syscall(SYS_fallocate, fd, mode, offset, length);
}
int fallocate64(int fd, int mode, off_t offset, off_t length) { return fallocate(fd, mode, offset, length); }
"#;

/// The library, and the calls that programs have made under it.
#[derive(Debug)]
pub struct Recorder {
    library: PathBuf,
    log: PathBuf,
}

impl Recorder {
    /// Builds the library in a directory, with the C compiler that the workspace needs anyhow.
    ///
    /// # Panics
    /// When it cannot be built.
    #[must_use]
    pub fn build(dir: &Path) -> Self {
        let (source, library) = (dir.join("recorder.c"), dir.join("recorder.so"));
        fs::write(&source, SOURCE).expect("the test owns the directory");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
        assert!(built.expect("there is a C compiler").success(), "{source:?} does not compile");
        let log = dir.join("calls");
        let _ = fs::remove_file(&log);
        Self { library, log }
    }

    /// Has a program recorded.
    #[must_use]
    pub fn attach(&self, run: Run) -> Run {
        run.env("LD_PRELOAD", &self.library).env("PODKIT_TEST_CALLS", &self.log)
    }

    /// The calls so far, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        fs::read_to_string(&self.log).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Fills the disk, or makes room again.
    ///
    /// # Panics
    /// When the directory is gone.
    pub fn set_full(&self, is_full: bool) {
        self.set("full", is_full);
    }

    /// Whether ranges of files can be freed; they can until told otherwise.
    ///
    /// # Panics
    /// When the directory is gone.
    pub fn set_holes(&self, can_free: bool) {
        self.set("nohole", !can_free);
    }

    fn set(&self, what: &str, is_so: bool) {
        let flag = self.log.with_extension(what);
        if is_so {
            fs::write(flag, "").expect("the directory is there");
        } else {
            let _ = fs::remove_file(flag);
        }
    }
}
