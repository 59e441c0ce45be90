//! What must be on the disk before what: a power cut cannot be had in a test, the order of fsync and rename can.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kit::{Sandbox, generation};

/// Writes each fsync and rename of a program to `$PODKIT_TEST_CALLS`: `fsync /out/..2026…/a`, `rename ..data_tmp ..data`.
const RECORDER: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
static void note(const char *what, const char *a, const char *b) {
    char line[9000];
    int length = snprintf(line, sizeof line, "%s %s%s%s\n", what, a, b ? " " : "", b ? b : "");
    int fd = open(getenv("PODKIT_TEST_CALLS"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (write(fd, line, length) != length) abort();
    close(fd);
}
static void note_fd(const char *what, int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    note(what, path, NULL);
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
"#;

/// Builds the recorder with the C compiler that the workspace needs anyhow.
fn recorder(sandbox: &Sandbox) -> PathBuf {
    let (source, library) = (sandbox.write("recorder.c", RECORDER), sandbox.path("recorder.so"));
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(built.unwrap().success());
    library
}

/// The calls of one run, in order.
fn calls(sandbox: &Sandbox) -> Vec<String> {
    let log = sandbox.path("calls");
    let _ = fs::remove_file(&log);
    let run = sandbox.seed().env("LD_PRELOAD", recorder(sandbox)).env("PODKIT_TEST_CALLS", &log);
    let _ = run.expect_exit(0);
    fs::read_to_string(log).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
fn all_is_on_the_disk_before_the_switch_and_the_switch_before_the_end() {
    let sandbox = Sandbox::new();
    for word in ["one", "two"] {
        sandbox
            .config(&format!("files:\n  - {{path: a, inline: {word}}}\n  - {{path: d/b, inline: {word}}}\n"));
        let calls = calls(&sandbox);
        let target = sandbox.target().canonicalize().unwrap();
        let new = target.join(generation(&target));
        let synced = |path: &Path| format!("fsync {}", path.display());
        let switch = calls.iter().position(|call| call == "rename ..data_tmp ..data").expect("no switch");
        for path in [new.join("a"), new.join("d/b"), new.join("d"), new.clone(), target.clone()] {
            assert!(calls[..switch].contains(&synced(&path)), "not before the switch: {path:?}\n{calls:#?}");
        }
        assert!(calls[switch..].contains(&synced(&target)), "the switch is not on the disk\n{calls:#?}");
    }
}
