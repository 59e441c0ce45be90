//! What must not hold a drain up: a volume, a log or a file that is stuck.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{quick, ship};
use podkit_testkit::{Run, Signal, eventually};

/// Renames nothing while `$DRAIN_TEST_STUCK` is there, as on a volume whose server is away.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int rename(const char *from, const char *to) {
    const char *stuck = getenv("DRAIN_TEST_STUCK");
    while (stuck && access(stuck, F_OK) == 0) usleep(5000);
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
"#;

/// A directory on which renames get stuck until it is told otherwise.
struct Volume {
    dir: tempfile::TempDir,
    library: PathBuf,
    stuck: PathBuf,
}

impl Volume {
    fn stuck() -> Self {
        let dir = tempfile::tempdir().expect("the temporary directory is writable");
        let at = |name: &str| dir.path().join(name);
        let (source, library, stuck) = (at("stuck.c"), at("stuck.so"), at("stuck"));
        fs::write(&source, SOURCE).expect("the directory is writable");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
        assert!(built.expect("there is a C compiler").success(), "{source:?} does not compile");
        fs::write(&stuck, "").expect("the directory is writable");
        Self { dir, library, stuck }
    }

    fn report(&self) -> PathBuf {
        self.dir.path().join("drain.json")
    }

    /// Has the program leave its report here.
    fn attach(&self, run: Run) -> Run {
        run.arg("--report")
            .arg(self.report())
            .env("LD_PRELOAD", &self.library)
            .env("DRAIN_TEST_STUCK", &self.stuck)
    }
}

/// The report is what the drain still has to do when its end is known, and here it takes long enough to see that nothing
/// else is done.
#[test]
fn no_program_starts_once_the_drain_is_ended() {
    let volume = Volume::stuck();
    let at = |name: &str| volume.dir.path().join(name);
    let (first, ship) = (at("first"), ship(200, ""));
    fs::write(&first, format!("#!/bin/sh\ntouch {}\nexec sleep 600\n", at("runs").display())).unwrap();
    fs::set_permissions(&first, fs::Permissions::from_mode(0o755)).unwrap();
    let run = quick(&["--ship", &ship.url(), "--run", first.to_str().unwrap()])
        .args(["--run", &format!("touch {}", at("second").display())]);
    let run = volume.attach(run).start();
    eventually("the first program runs", || at("runs").exists().then_some(()));
    run.signal(Signal::SIGTERM);
    run.wait()
        .expect_exit(75)
        .expect_stderr(&format!("waiting for {}", first.display()))
        .refuse_stderr("touch");
    assert!(!at("second").exists());
}
