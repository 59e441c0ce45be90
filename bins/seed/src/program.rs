//! Runs a program to its end, or ends it: at a deadline, or when its caller asks. No shell, nothing kept.
//!
//! The program leads a process group of its own, so that what it starts is ended with it. Its output is read all the
//! time, or it would block, and only the end of it is kept.

use std::io::{self, PipeReader, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use podkit_lifecycle::Deadline;

/// Between looks at a program that says nothing: short at first, for most of them end at once.
const FIRST_TURN: Duration = Duration::from_millis(1);
const LONGEST_TURN: Duration = Duration::from_millis(50);
/// What is kept of the output: enough for a long last line.
const KEPT: usize = 4 << 10;
/// Reads in one turn, so that one who never stops talking is still looked at.
const READS: usize = 16;
/// For the kernel to end what was killed; it may be stuck in a disk.
const REAP: Duration = Duration::from_secs(1);

/// How a program ended, with the last line that it wrote on either stream.
#[derive(Debug)]
pub(crate) enum Ended {
    Itself { status: ExitStatus, said: Option<String> },
    Killed { said: Option<String> },
}

/// Runs it until it ends, the deadline passes, or `is_over` says so.
///
/// # Errors
/// It cannot be started.
pub(crate) fn run(
    mut command: Command,
    input: Stdio,
    by: Deadline,
    is_over: impl Fn() -> bool,
) -> io::Result<Ended> {
    let (output, end) = io::pipe()?;
    // Only our end: the program finds its own as it expects it.
    fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    command.stdin(input).stdout(end.try_clone()?).stderr(end).process_group(0);
    let mut child = command.spawn()?;
    // Its copy of the end would keep the pipe open.
    drop(command);

    let mut output = Output { pipe: Some(output), tail: Vec::new() };
    let mut turn = FIRST_TURN;
    loop {
        // Before the output is read: then all that it wrote is in the pipe.
        let status = child.try_wait().inspect_err(|_| kill(&mut child))?;
        let was_open = output.pipe.is_some();
        output.read();
        if let Some(status) = status {
            return Ok(Ended::Itself { status, said: output.last_line() });
        }
        if by.expired() || is_over() {
            kill(&mut child);
            return Ok(Ended::Killed { said: output.last_line() });
        }
        if was_open && output.pipe.is_none() {
            // It closes its output as it ends, a moment before it can be waited for.
            turn = FIRST_TURN;
        }
        output.wait(by.within(turn).remaining());
        turn = (turn * 2).min(LONGEST_TURN);
    }
}

/// Ends the program and all that is left of its group. It is not reaped yet, so the number is still its own.
fn kill(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // Fails only where nobody is left.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let by = Deadline::after(REAP);
    while matches!(child.try_wait(), Ok(None)) && !by.expired() {
        thread::sleep(FIRST_TURN);
    }
}

/// What the program writes.
struct Output {
    /// `None` once nobody can write any more.
    pipe: Option<PipeReader>,
    tail: Vec<u8>,
}

impl Output {
    /// Reads what is there.
    fn read(&mut self) {
        let mut chunk = [0; KEPT];
        for _ in 0..READS {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut chunk) {
                Ok(length) if length > 0 => {
                    self.tail.extend_from_slice(&chunk[..length]);
                    self.tail.drain(..self.tail.len().saturating_sub(KEPT));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => self.pipe = None,
            }
        }
    }

    /// Waits until there is something to read.
    fn wait(&self, time: Duration) {
        let Some(pipe) = &self.pipe else { return thread::sleep(time) };
        // Rounded up: at zero it would not wait at all.
        let timeout = PollTimeout::try_from(time + Duration::from_millis(1)).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => thread::sleep(time),
        }
    }

    fn last_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.tail);
        text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(ToOwned::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(30);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    /// The last line of one that ends by itself.
    fn said(script: &str) -> Option<String> {
        match run(shell(script), Stdio::null(), Deadline::after(LONG), || false).unwrap() {
            Ended::Itself { said, .. } => said,
            Ended::Killed { said } => panic!("killed; it said {said:?}"),
        }
    }

    #[test]
    fn the_last_line_of_either_stream_is_kept() {
        assert_eq!(said("echo a; echo b >&2; echo ' c '; echo"), Some("c".to_owned()));
        assert_eq!(said("true"), None);
        assert_eq!(said("printf 'a\\377'"), Some("a\u{fffd}".to_owned()));
    }

    #[test]
    fn more_output_than_a_pipe_holds_blocks_nobody() {
        let line = said("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end");
        assert_eq!(line, Some("end".to_owned()));
        let line = said("head -c 3000000 /dev/zero | tr '\\0' x").unwrap();
        assert_eq!(line.len(), KEPT);
    }

    #[test]
    fn one_who_closes_its_output_or_leaves_it_to_others_is_waited_for_all_the_same() {
        let begun = Instant::now();
        assert_eq!(said("exec >&- 2>&-; sleep 0.1; exit 3"), None);
        // The sleeper has the pipe, and is none of ours to wait for.
        assert_eq!(said("sleep 60 & echo left $!").map(|line| line.starts_with("left ")), Some(true));
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn all_that_it_started_ends_with_it() {
        let by = Deadline::after(LONG);
        let seen = Cell::new(0);
        // Asked once a turn: long enough for the shell to start.
        let is_over = || seen.replace(seen.get() + 1) > 10;
        let ended = run(shell("sleep 600 & echo $!; wait"), Stdio::null(), by, is_over).unwrap();
        let Ended::Killed { said: Some(pid) } = ended else { panic!("{ended:?}") };
        let pid = Pid::from_raw(pid.parse().unwrap());
        // Init may take a moment to reap it; a zombie has no command line.
        let command_line = || std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        podkit_testkit::eventually("the sleeper is gone", || command_line().is_empty().then_some(()));
    }

    #[test]
    fn nobody_outlives_the_deadline() {
        let begun = Instant::now();
        for script in ["sleep 600", "trap '' TERM INT; while :; do echo x; done", "exec >&- 2>&-; sleep 600"]
        {
            let by = Deadline::after(Duration::from_millis(50));
            let ended = run(shell(script), Stdio::null(), by, || false).unwrap();
            assert!(matches!(ended, Ended::Killed { .. }), "{ended:?}");
        }
        assert!(begun.elapsed() < LONG);
    }
}
