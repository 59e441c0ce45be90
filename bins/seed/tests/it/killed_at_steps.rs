//! A run killed before each single step that changes the disk: traced to its Nth such call and killed there, for each N
//! until a run gets to its end. What a reader finds then is old or new, each file whole; the next run ends clean.

#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::atomic::{expect_clean, expect_clean_plain, paired_config, read_generation, read_names};
use crate::kit::Sandbox;

/// Runs mostly wait for their readers, so several go on at once.
const AT_ONCE: usize = 8;

/// The system calls that change the disk, and what makes of them one that does.
const STEPS: &[(i64, &str)] = &[
    (libc::SYS_openat, "create"),
    (libc::SYS_write, "write"),
    (libc::SYS_copy_file_range, "copy"),
    (libc::SYS_mkdirat, "mkdir"),
    (libc::SYS_fchmod, "chmod"),
    (libc::SYS_fchown, "chown"),
    (libc::SYS_utimensat, "utimens"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_symlinkat, "symlink"),
    (libc::SYS_linkat, "link"),
    (libc::SYS_renameat, "rename"),
    (libc::SYS_renameat2, "rename"),
    (libc::SYS_unlinkat, "unlink"),
];

/// A call on its way into the kernel: its number and its first three arguments.
struct Entry {
    number: i64,
    args: [u64; 3],
}

/// The call that the stopped thread is about to make; nothing if it has just been made.
#[cfg(target_arch = "x86_64")]
fn entry(thread: Pid) -> nix::Result<Option<Entry>> {
    let regs = ptrace::getregs(thread)?;
    // The kernel puts this there on the way in (`arch/x86/entry`).
    let is_entry = regs.rax.cast_signed() == -i64::from(libc::ENOSYS);
    let entry = Entry { number: regs.orig_rax.cast_signed(), args: [regs.rdi, regs.rsi, regs.rdx] };
    Ok(is_entry.then_some(entry))
}

/// The call that the stopped thread is about to make; nothing if it has just been made.
#[cfg(target_arch = "aarch64")]
fn entry(thread: Pid) -> nix::Result<Option<Entry>> {
    let regs = ptrace::getregs(thread)?.regs;
    // x7 is 0 on the way in and 1 on the way out (`arch/arm64/kernel/ptrace.c`).
    let entry = Entry { number: regs[8].cast_signed(), args: [regs[0], regs[1], regs[2]] };
    Ok((regs[7] == 0).then_some(entry))
}

impl Entry {
    fn step(&self) -> Option<&'static str> {
        let (_, name) = STEPS.iter().find(|(number, _)| *number == self.number)?;
        let creates = u64::try_from(libc::O_CREAT).unwrap();
        match self.number {
            libc::SYS_openat if self.args[2] & creates == 0 => None,
            // What is said on stderr is not of the disk.
            libc::SYS_write if self.args[0] <= 2 => None,
            _ => Some(name),
        }
    }
}

/// Whose steps are counted. Those of one thread always come in the same order; what is waited for beside it does not.
#[derive(Clone, Copy, PartialEq)]
enum By {
    MainThread,
    OtherThreads,
}

/// Runs the config until its `nth` step and kills it there: the step is not taken. Gives the step's name, or nothing
/// if the run came to its end before.
fn kill_at(sandbox: &Sandbox, by: By, nth: usize) -> Option<&'static str> {
    let script = "read go; exec \"$0\" --config \"$1\" 2>/dev/null";
    #[expect(clippy::zombie_processes, reason = "the tracer waits for it below")]
    let mut shell = Command::new("/bin/sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_podkit-seed")])
        .arg(sandbox.path("seed.yaml"))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let main = Pid::from_raw(i32::try_from(shell.id()).unwrap());
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(main, options).unwrap();
    ptrace::interrupt(main).unwrap();
    let mut stdin = shell.stdin.take();
    let (mut is_seed, mut steps, mut killed) = (false, 0, None);
    // Other tests have children, too: only those of this thread are waited for, and it has but this one.
    let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    loop {
        let (stopped, signal) = match waitpid(None, Some(flags)).unwrap() {
            WaitStatus::Exited(pid, code) if pid == main => {
                assert!(killed.is_none() && code == 0, "step {nth}: {killed:?}, exit {code}");
                break;
            }
            WaitStatus::Signaled(pid, signal, _) if pid == main => {
                assert!(killed.is_some() && signal == Signal::SIGKILL, "step {nth}: {signal}");
                break;
            }
            WaitStatus::PtraceSyscall(pid) => {
                let counts = is_seed && (by == By::MainThread) == (pid == main);
                let step = entry(pid).unwrap().filter(|_| counts).and_then(|entry| entry.step());
                steps += usize::from(step.is_some());
                if step.is_some() && steps == nth && killed.is_none() {
                    killed = step;
                    kill(main, Signal::SIGKILL).unwrap();
                    continue;
                }
                (pid, None)
            }
            WaitStatus::PtraceEvent(pid, _, event) => {
                // The first is the interruption, or the shell's own start, which takes the other's place.
                is_seed |= event == Event::PTRACE_EVENT_EXEC as i32 && stdin.is_none();
                if let Some(mut stdin) = stdin.take() {
                    stdin.write_all(b"go\n").unwrap();
                }
                (pid, None)
            }
            WaitStatus::Stopped(pid, signal) => (pid, Some(signal)),
            _ => continue,
        };
        match ptrace::syscall(stopped, signal) {
            // Killed a moment ago.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => panic!("{error}"),
        }
    }
    killed
}

/// From one config to another, and what a reader may count on at each moment in between.
struct Change {
    before: Option<&'static str>,
    after: &'static str,
    read_once: fn(&Path),
}

fn config(layout: &str, word: &str) -> String {
    format!("layout: {layout}\n{}", paired_config(word))
}

fn expect_clean_in(layout: &str, sandbox: &Sandbox, word: &str) {
    match layout {
        "plain" => expect_clean_plain(sandbox, word),
        _ => expect_clean(sandbox, word),
    }
}

/// Kills at each step of the change. Then the same run again ends clean, and so does the one that undoes the change.
fn kill_at_each_step(change: &Change) {
    let mut seen = kill_at_each_step_by(By::MainThread, change);
    seen.extend(kill_at_each_step_by(By::OtherThreads, change));
    for step in ["mkdir", "create", "write", "chmod", "fsync", "symlink", "rename", "unlink"] {
        let has_none =
            step == "unlink" && change.before.is_none() || step == "symlink" && change.after == "plain";
        assert!(seen.contains(step) || has_none, "no run was killed at {step}: {seen:?}");
    }
}

/// Gives the names of the steps.
fn kill_at_each_step_by(by: By, change: &Change) -> BTreeSet<&'static str> {
    let (next, seen, last) = (AtomicUsize::new(1), Mutex::new(BTreeSet::new()), AtomicUsize::new(usize::MAX));
    let work = || {
        loop {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            if nth > last.load(Ordering::Relaxed) {
                return;
            }
            match kill_once(by, nth, change) {
                Some(step) => seen.lock().unwrap().insert(step),
                None => {
                    last.fetch_min(nth, Ordering::Relaxed);
                    return;
                }
            };
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    seen.into_inner().unwrap()
}

/// Gives the step's name; nothing if there are fewer steps.
fn kill_once(by: By, nth: usize, change: &Change) -> Option<&'static str> {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.target()).unwrap();
    sandbox.write("out/theirs", "keep");
    if let Some(before) = change.before {
        sandbox.run(&config(before, "one"));
    }
    sandbox.config(&config(change.after, "two"));
    let step = kill_at(&sandbox, by, nth)?;
    (change.read_once)(&sandbox.target());
    let (layout, word) = match change.before {
        Some(before) if nth.is_multiple_of(2) => (before, "one"),
        _ => (change.after, "two"),
    };
    sandbox.run(&config(layout, word));
    assert_eq!(sandbox.read("theirs"), "keep");
    fs::remove_file(sandbox.target().join("theirs")).unwrap();
    expect_clean_in(layout, &sandbox, word);
    Some(step)
}

#[test]
fn a_first_run_killed_at_any_step_is_completed_by_the_next() {
    for after in ["links", "plain"] {
        kill_at_each_step(&Change { before: None, after, read_once: |_| {} });
    }
}

#[test]
fn a_run_killed_at_any_step_leaves_the_old_generation_or_the_new_one() {
    let read_once = |target: &Path| {
        read_names(target);
        read_generation(target);
    };
    kill_at_each_step(&Change { before: Some("links"), after: "links", read_once });
}

#[test]
fn a_run_of_the_plain_layout_killed_at_any_step_leaves_each_file_old_or_new() {
    kill_at_each_step(&Change { before: Some("plain"), after: "plain", read_once: read_names });
}

/// A directory cannot be renamed over a link, nor a link over a directory: of those only the next run is certain.
#[test]
fn a_change_of_layout_killed_at_any_step_is_completed_or_undone_by_the_next_run() {
    let read_once = |target: &Path| {
        let text = fs::read_to_string(target.join("a")).unwrap();
        assert!(text == "one".repeat(3000) || text == "two".repeat(3000));
    };
    kill_at_each_step(&Change { before: Some("links"), after: "plain", read_once });
    kill_at_each_step(&Change { before: Some("plain"), after: "links", read_once });
}
