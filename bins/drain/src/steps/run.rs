//! The programs after quiet. No shell, no input; what they write goes to the log as it is.
//!
//! A program leads a process group of its own, so that where it must be ended, what it started is ended with it. What it
//! leaves behind when it ends by itself is left alone: whoever starts a helper so wants it to go on.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use podkit_cli::chain;
use podkit_lifecycle::Deadline;

use crate::config::Program;
use crate::progress::Progress;

/// Between looks at it: short at first, for most end at once.
const FIRST_TURN: Duration = Duration::from_millis(2);
const LONGEST_TURN: Duration = Duration::from_millis(50);
/// For the kernel to end what was killed; it may be stuck in a disk.
const REAP: Duration = Duration::from_millis(20);

/// Runs one program to its end, or ends it at the deadline. What came of it, or why it failed.
pub(super) fn run(
    program: &Program,
    deadline: Deadline,
    output: Option<&OwnedFd>,
    progress: &Progress,
) -> Result<String, String> {
    let failed = |error: io::Error| format!("{program} could not be run: {}", chain(&error));
    let mut child = progress.start(|| start(program, output)).map_err(failed)?;
    let ended = wait(&mut child, deadline);
    if ended.as_ref().map_or(true, Option::is_none) {
        progress.kill();
        // It is ours to bury, or it would stay a zombie of the container's first process.
        let _ = wait(&mut child, Deadline::after(REAP));
    }
    progress.ended();
    match ended.map_err(failed)? {
        Some(status) if status.success() => Ok(format!("{program} has ended well")),
        Some(status) => Err(format!("{program} ended with {status}")),
        None => Err(format!("{program} has not ended in time and was killed")),
    }
}

fn start(program: &Program, output: Option<&OwnedFd>) -> io::Result<Child> {
    let log = output.map_or_else(|| io::stderr().as_fd().try_clone_to_owned(), OwnedFd::try_clone)?;
    let mut command = Command::new(&program.name);
    command
        .args(&program.arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    command.spawn()
}

/// `None` at the deadline.
fn wait(child: &mut Child, deadline: Deadline) -> io::Result<Option<ExitStatus>> {
    let mut turn = FIRST_TURN;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if deadline.expired() {
            return Ok(None);
        }
        thread::sleep(turn.min(deadline.remaining()));
        turn = (turn * 2).min(LONGEST_TURN);
    }
}
