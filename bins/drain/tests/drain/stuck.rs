//! What must not hold a drain up: a volume, a log or a file that is stuck.

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read as _, Write, pipe};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::{quick, ship, timed};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::O_NONBLOCK;
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
    assert!((2.8..4.0).contains(&spent), "a busy machine wakes it late, but not so late: {report}");
}

/// Has a pipe as full as it can be.
fn fill(mut writer: impl AsFd + Write) {
    let size = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4_096)).expect("it is a pipe");
    let text = vec![b'.'; usize::try_from(size).expect("a size is positive")];
    writer.write_all(&text).expect("somebody may read");
}

/// A pipe that is full and stays so, as of a caller who no longer reads.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = pipe().expect("descriptors are left");
    fill(&writer);
    (reader, writer)
}

/// Starts it with this as its standard error.
fn start_with(mut command: Command, stderr: PipeWriter) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().expect("it is a program")
}

fn end(mut child: Child) -> ExitStatus {
    eventually("the drain has ended", || child.try_wait().expect("it is our child"))
}

/// As `quick` has it, but with a log and a standard error of its own.
fn brief(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podkit-drain"));
    command.args(["--grace", "25s", "--quiet", "300ms", "--min-delay", "50ms"]).args(args);
    command
}

#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let (dir, ship) = (tempfile::tempdir().unwrap(), ship(200, ""));
    let fifo = dir.path().join("log");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let run = || quick(&["--ship", &ship.url(), "--log"]).arg(&fifo);
    // Nobody has it open.
    run().expect_exit(0).expect_stderr("going on with standard error");
    let reader = File::options().read(true).custom_flags(O_NONBLOCK).open(&fifo).unwrap();
    fill(File::options().write(true).open(&fifo).unwrap());
    run().expect_exit(0);
    assert_eq!(ship.count("POST /flush"), 2);
    drop(reader);
}

/// Nor does the caller's end of standard error, whether that is the log or only for the failure's line.
#[test]
fn a_caller_who_does_not_read_holds_nothing_up() {
    let (dir, ship) = (tempfile::tempdir().unwrap(), ship(504, ""));
    let file = dir.path().join("log");
    for log in ["/nowhere/log", file.to_str().unwrap()] {
        let (reader, writer) = full_pipe();
        let child = start_with(brief(&["--ship", &ship.url(), "--log", log]), writer);
        assert_eq!(end(child).code(), Some(75));
        drop(reader);
    }
    assert_eq!(ship.count("POST /flush"), 2);
}

/// To a program a log that is full for now must not be one that fails.
#[test]
fn a_program_waits_for_who_reads_the_log() {
    let ship = ship(200, "");
    let own = format!("/proc/{}/fd", std::process::id());
    for is_log in [true, false] {
        let (mut reader, writer) = pipe().unwrap();
        let kept = writer.try_clone().unwrap();
        let path = format!("{own}/{}", kept.as_raw_fd());
        let log = if is_log { path.as_str() } else { "/nowhere/log" };
        let command = brief(&["--ship", &ship.url(), "--log", log, "--run", "seq 1 60000"]);
        let child = start_with(command, writer);
        let drained = thread::spawn(move || {
            let status = end(child);
            drop(kept);
            status
        });
        let (mut text, mut chunk) = (Vec::new(), [0; 4_096]);
        while let Ok(length @ 1..) = reader.read(&mut chunk) {
            text.extend_from_slice(&chunk[..length]);
            thread::sleep(Duration::from_millis(1));
        }
        assert!(drained.join().unwrap().success(), "{}", String::from_utf8_lossy(&text));
        let text = String::from_utf8(text).unwrap();
        let numbers = text.lines().filter_map(|line| line.parse::<u32>().ok());
        assert!(numbers.eq(1..=60_000), "not all of it is in the log");
    }
}
