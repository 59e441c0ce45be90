//! A real binary as a child process: its output captured, its end awaited, its failure explained.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal;
use nix::unistd::Pid;

use crate::PATIENCE;

pub use nix::sys::signal::Signal;

/// The binary `podkit-<name>` of this workspace, about to be run.
///
/// # Panics
/// When it is not built: `cargo test -p` builds only the package's own binary.
#[must_use]
pub fn pod(name: &str) -> Run {
    let test = std::env::current_exe().expect("the kernel knows this program");
    // target/<profile>/deps/<test>, or target/<profile>/<program>
    let path = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(format!("podkit-{name}")))
        .find(|path| path.exists());
    program(path.unwrap_or_else(|| panic!("podkit-{name} is not built; run `cargo build --workspace`")))
}

/// Any program, about to be run.
#[must_use]
pub fn program(path: impl Into<PathBuf>) -> Run {
    Run { path: path.into(), args: Vec::new(), envs: Vec::new(), shown: None }
}

/// A command that is about to be run; it gets no standard input.
#[derive(Debug)]
pub struct Run {
    path: PathBuf,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    shown: Option<PathBuf>,
}

impl Run {
    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(self, arg: impl AsRef<OsStr>) -> Self {
        self.args([arg])
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Lets it open only so many files at once.
    #[must_use]
    pub fn limit_files(mut self, limit: u32) -> Self {
        let script = format!("ulimit -n {limit}; exec \"$@\"");
        let path = std::mem::replace(&mut self.path, "/bin/sh".into());
        let shell = ["-c".into(), script.into(), "sh".into(), path.into_os_string()];
        self.args.splice(0..0, shell);
        self
    }

    /// Names a directory whose listing is a part of the explanation of a failure.
    #[must_use]
    pub fn show(mut self, dir: impl Into<PathBuf>) -> Self {
        self.shown = Some(dir.into());
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(self) -> Process {
        let mut command = Command::new(&self.path);
        // Settings of whoever runs the tests are not the test's.
        let is_setting = |name: &str| name.starts_with("PODKIT_") || name.to_lowercase().ends_with("_proxy");
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command.args(&self.args).envs(self.envs.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {:?}: {error}", self.path));
        let stdout = Captured::from(child.stdout.take().expect("stdout is piped"));
        let stderr = Captured::from(child.stderr.take().expect("stderr is piped"));
        Process { run: self, child, stdout, stderr }
    }

    /// Runs it to its end.
    #[must_use]
    pub fn finish(self) -> Finished {
        self.start().wait()
    }

    /// Runs it to its end, which must be this exit code.
    pub fn expect_exit(self, code: i32) -> Finished {
        self.finish().expect_exit(code)
    }
}

/// A running child; it is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    run: Run,
    child: Child,
    stdout: Captured,
    stderr: Captured,
}

impl Process {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process is gone and reaped.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("process ids fit"));
        signal::kill(pid, signal).expect("an unreaped child takes signals");
    }

    /// What it has written on stdout so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written on stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until stderr has this text, and returns the line that has it.
    ///
    /// # Panics
    /// When the process ends or [`PATIENCE`] does before the text comes.
    pub fn wait_for_stderr(&self, text: &str) -> String {
        match self.stderr.wait_for(text) {
            Some(line) => line,
            None => panic!("no {text:?} on stderr\n{}", self.explain(None)),
        }
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// When the kernel does not know the child.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the child is ours").is_some()
    }

    /// Kills it with SIGKILL and waits for its end.
    #[must_use]
    pub fn kill(self) -> Finished {
        self.signal(Signal::SIGKILL);
        self.wait()
    }

    /// Sends SIGTERM and waits for its end.
    #[must_use]
    pub fn terminate(self) -> Finished {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within [`PATIENCE`].
    #[must_use]
    pub fn wait(mut self) -> Finished {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end\n{}", self.explain(None));
            std::thread::sleep(Duration::from_millis(2));
        };
        self.stdout.join();
        self.stderr.join();
        let explanation = self.explain(Some(status));
        Finished { status, stdout: self.stdout.text(), stderr: self.stderr.text(), explanation }
    }

    fn explain(&self, status: Option<ExitStatus>) -> String {
        let mut text = format!("$ {}", self.run.path.display());
        for arg in &self.run.args {
            let _ = write!(text, " {arg:?}");
        }
        for (name, value) in &self.run.envs {
            let _ = write!(text, "\n  with {}={value:?}", name.display());
        }
        match status {
            Some(status) => {
                let _ = write!(text, "\n{status}");
            }
            None => text.push_str("\nstill running"),
        }
        let _ = write!(text, "\n--- stdout\n{}\n--- stderr\n{}", self.stdout(), self.stderr());
        if let Some(dir) = &self.run.shown {
            let _ = write!(text, "\n--- {}\n", dir.display());
            list(dir, 0, &mut text);
        }
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A child that has ended. Each `expect` fails the test with the whole story: command, status, both streams.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
    explanation: String,
}

impl Finished {
    /// The exit code must be this.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn expect_exit(self, code: i32) -> Self {
        assert!(self.status.code() == Some(code), "expected exit code {code}\n{}", self.explanation);
        self
    }

    /// Stderr must have this text in it.
    ///
    /// # Panics
    /// When it has not.
    #[track_caller]
    pub fn expect_stderr(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "expected {text:?} on stderr\n{}", self.explanation);
        self
    }

    /// Stderr must not have this text in it.
    ///
    /// # Panics
    /// When it has.
    #[track_caller]
    pub fn refuse_stderr(self, text: &str) -> Self {
        assert!(!self.stderr.contains(text), "{text:?} must not be on stderr\n{}", self.explanation);
        self
    }

    /// Stdout must have this text in it.
    ///
    /// # Panics
    /// When it has not.
    #[track_caller]
    pub fn expect_stdout(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "expected {text:?} on stdout\n{}", self.explanation);
        self
    }
}

/// A stream that a thread reads to its end.
#[derive(Debug)]
struct Captured {
    shared: Arc<(Mutex<Text>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    ended: bool,
}

impl Captured {
    fn from(mut stream: impl Read + Send + 'static) -> Self {
        let shared = Arc::new((Mutex::new(Text::default()), Condvar::new()));
        let writer = Arc::clone(&shared);
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 16 << 10];
            loop {
                let length = stream.read(&mut chunk).unwrap_or(0);
                let mut text = writer.0.lock().expect("no reader panics");
                text.bytes.extend_from_slice(&chunk[..length]);
                text.ended = length == 0;
                writer.1.notify_all();
                if length == 0 {
                    return;
                }
            }
        });
        Self { shared, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shared.0.lock().expect("no reader panics").bytes).into_owned()
    }

    fn wait_for(&self, wanted: &str) -> Option<String> {
        let find = |text: &Text| {
            // A line that is still being written may lack what comes after the wanted text.
            let whole = if text.ended {
                text.bytes.len()
            } else {
                text.bytes.iter().rposition(|b| *b == b'\n').unwrap_or(0)
            };
            let all = String::from_utf8_lossy(&text.bytes[..whole]).into_owned();
            all.lines().find(|line| line.contains(wanted)).map(str::to_owned)
        };
        let text = self.shared.0.lock().expect("no reader panics");
        let waiting = |text: &mut Text| !text.ended && find(text).is_none();
        let (text, _) = self.shared.1.wait_timeout_while(text, PATIENCE, waiting).expect("no reader panics");
        find(&text)
    }

    fn join(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no reader panics");
        }
    }
}

fn list(dir: &Path, depth: usize, out: &mut String) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let Ok(meta) = entry.path().symlink_metadata() else { continue };
        let _ = write!(out, "{:indent$}{}", "", entry.file_name().display(), indent = depth * 2);
        match std::fs::read_link(entry.path()) {
            Ok(to) => {
                let _ = writeln!(out, " -> {}", to.display());
            }
            Err(_) if meta.is_dir() => {
                out.push_str("/\n");
                list(&entry.path(), depth + 1, out);
            }
            Err(_) => {
                let _ = writeln!(out, "  {} bytes", meta.len());
            }
        }
    }
}
