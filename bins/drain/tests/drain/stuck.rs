//! What must not hold a drain up: a volume, a log or a file that is stuck.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::{quick, ship, timed};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
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

    /// Has renames go on.
    fn come_back(&self) {
        fs::remove_file(&self.stuck).expect("the directory is writable");
    }

    /// Waits until a rename is stuck: the file that is to be renamed is there.
    fn wait_for_rename(&self) {
        eventually("the report is about to get its name", || {
            let files = fs::read_dir(self.dir.path()).ok()?.flatten();
            files.into_iter().find(|file| file.file_name().to_string_lossy().starts_with(".drain.json"))
        });
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

/// Far from the deadline there is time for a slow volume.
#[test]
fn a_report_on_a_slow_volume_is_waited_for() {
    let (volume, ship) = (Volume::stuck(), ship(200, ""));
    let run = volume.attach(quick(&["--ship", &ship.url()])).start();
    volume.wait_for_rename();
    thread::sleep(Duration::from_millis(300));
    volume.come_back();
    run.wait().expect_exit(0).refuse_stderr("WARN");
    assert!(volume.report().exists());
}

#[test]
fn a_report_on_a_stuck_volume_is_left_in_time() {
    let (volume, ship) = (Volume::stuck(), ship(200, ""));
    volume
        .attach(quick(&["--ship", &ship.url()]))
        .expect_exit(0)
        .expect_stderr("cannot leave the report at ")
        .expect_stderr("it was not written in time");
}

/// Opening a FIFO waits for who writes into it, and no step looks at the clock meanwhile.
#[test]
fn a_step_that_is_stuck_does_not_outlast_the_budget() {
    let (dir, ship) = (tempfile::tempdir().unwrap(), ship(200, ""));
    let (fifo, config) = (dir.path().join("app.pid"), dir.path().join("drain.yaml"));
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    fs::write(&config, format!("signal: {{signal: TERM, pid_file: {}}}\n", fifo.display())).unwrap();
    let report = dir.path().join("report");
    let run = quick(&["--grace", "4s", "--ship", &ship.url(), "--config"]).arg(config);
    let (finished, took) = timed(run.arg("--report").arg(&report));
    finished
        .expect_exit(75)
        .expect_stderr("podkit-drain: the deadline passed after ")
        .expect_stderr("waiting for SIGTERM to the process in ");
    assert!(took < Duration::from_secs(12), "{took:?}");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let spent = report["spent_seconds"].as_f64().unwrap();
    assert!((2.8..3.3).contains(&spent), "a busy machine wakes it late, but not so late: {report}");
}
