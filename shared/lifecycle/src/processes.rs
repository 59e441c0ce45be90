//! Processes of the pod, by name or by pid file: to signal them, and to see them end. Reads `/proc`.
//!
//! Other containers' processes are there only where the pod shares its PID namespace (`shareProcessNamespace: true`).

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::Deadline;

/// `PF_KTHREAD` of `linux/sched.h`: a thread of the kernel, which has no program.
const KERNEL_THREAD: u64 = 0x0020_0000;
/// Between looks at a process that should end.
const LOOK: Duration = Duration::from_millis(50);

/// A process, told from a later one with the same number by the time of its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    /// In clock ticks since the boot.
    started: u64,
}

impl Process {
    /// All processes of this name, without those whose parent has it too: a server's workers are its own to tell.
    /// The name is that of the program (`nginx`), as `ps -o comm` shows it, or of the file that was started. This
    /// process itself is left out.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn named(name: &str) -> io::Result<Vec<Self>> {
        Self::named_in(Path::new("/proc"), name)
    }

    fn named_in(proc: &Path, name: &str) -> io::Result<Vec<Self>> {
        let own = own_pid();
        let mut found = Vec::new();
        for entry in fs::read_dir(proc)? {
            let name_of_entry = entry?.file_name();
            let Some(pid) = name_of_entry.to_str().and_then(|name| name.parse().ok()) else { continue };
            // A process may end while this looks at it.
            let Ok(stat) = stat(proc, pid) else { continue };
            if pid == own || !stat.is_process() {
                continue;
            }
            let first = || fs::read(proc.join(&name_of_entry).join("cmdline")).unwrap_or_default();
            if has_name(name, &stat.comm, first) {
                found.push((Self { pid, started: stat.started }, stat.parent));
            }
        }
        let pids: Vec<i32> = found.iter().map(|(process, _)| process.pid).collect();
        found.retain(|(_, parent)| !pids.contains(parent));
        Ok(found.into_iter().map(|(process, _)| process).collect())
    }

    /// The process whose number is in a file.
    ///
    /// # Errors
    /// The file cannot be read or holds no number of another process; `NotFound` also where that process is gone.
    pub fn in_pid_file(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        // Zero and below are groups of processes to the kernel.
        let pid =
            text.trim().parse().ok().filter(|pid| *pid > 0).ok_or_else(|| bad("it holds no process id"))?;
        if pid == own_pid() {
            return Err(bad("it names this very process: a number of another PID namespace"));
        }
        match stat(Path::new("/proc"), pid) {
            Ok(stat) if stat.is_process() => Ok(Self { pid, started: stat.started }),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no process {pid}"))),
        }
    }

    /// Its number.
    #[must_use]
    pub fn id(self) -> i32 {
        self.pid
    }

    /// Sends it a signal, by the signal's number.
    ///
    /// # Errors
    /// It has ended, or belongs to another user.
    pub fn signal(self, number: i32) -> io::Result<()> {
        if !self.is_running() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("process {} has ended", self.pid)));
        }
        let signal = Signal::try_from(number)?;
        Ok(signal::kill(Pid::from_raw(self.pid), signal)?)
    }

    /// Whether it has not ended; one that is dead and not buried has.
    #[must_use]
    pub fn is_running(self) -> bool {
        stat(Path::new("/proc"), self.pid).is_ok_and(|stat| stat.started == self.started && stat.is_process())
    }

    /// Waits for its end, at most until the deadline; whether it came.
    #[must_use]
    pub fn wait(self, deadline: Deadline) -> bool {
        while self.is_running() {
            if deadline.expired() {
                return false;
            }
            std::thread::sleep(LOOK.min(deadline.remaining()));
        }
        true
    }
}

fn own_pid() -> i32 {
    Pid::this().as_raw()
}

/// What `/proc/PID/stat` tells (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    comm: String,
    state: char,
    parent: i32,
    flags: u64,
    started: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name may hold spaces and parentheses of its own.
        let (before, after) = text.rsplit_once(')')?;
        let (_, comm) = before.split_once('(')?;
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        Some(Self {
            comm: comm.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            flags: fields.get(6)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// Neither dead nor of the kernel.
    fn is_process(&self) -> bool {
        !matches!(self.state, 'Z' | 'X') && self.flags & KERNEL_THREAD == 0
    }
}

fn stat(proc: &Path, pid: i32) -> io::Result<Stat> {
    let bytes = fs::read(proc.join(pid.to_string()).join("stat"))?;
    Stat::parse(&String::from_utf8_lossy(&bytes)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn has_name(name: &str, comm: &str, arguments: impl FnOnce() -> Vec<u8>) -> bool {
    if comm == name {
        return true;
    }
    // The kernel keeps the first 15 bytes of a name, and a program may give itself another: node is `MainThread`.
    let arguments = arguments();
    let first =
        String::from_utf8_lossy(arguments.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
    Path::new(&first).file_name().is_some_and(|file| file == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    /// Ends with the test.
    struct Sleeper(Child);

    impl Sleeper {
        fn start(program: &Path) -> Self {
            Self(Command::new(program).arg("600").spawn().unwrap())
        }

        fn pid(&self) -> i32 {
            i32::try_from(self.0.id()).unwrap()
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// A program of this name that sleeps; the kernel takes the name of the link that was started.
    fn program(dir: &Path, name: &str) -> std::path::PathBuf {
        let path = dir.join(name);
        std::os::unix::fs::symlink("/bin/sleep", &path).unwrap();
        path
    }

    /// Those of a name, once there are some: whoever starts a program goes on before the kernel has given it its name.
    fn running(name: &str) -> Vec<Process> {
        let deadline = Deadline::after(Duration::from_secs(30));
        loop {
            let found = Process::named(name).unwrap();
            if !found.is_empty() {
                return found;
            }
            assert!(!deadline.expired(), "no process is called {name}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_stat_line_is_read_whatever_the_name_holds() {
        let line = "12 (a) R (b) S 7 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 10 11 12";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.comm.as_str(), stat.state, stat.parent, stat.started), ("a) R (b", 'S', 7, 98765));
        for bad in ["", "1 (a", "1 (a) S", "1 a) S 7"] {
            assert_eq!(Stat::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_process_is_found_by_name_signalled_and_seen_to_end() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["podkit-t-short", "podkit-test-with-a-longer-name"] {
            let mut sleeper = Sleeper::start(&program(dir.path(), name));
            let found = running(name);
            assert_eq!(found.iter().map(|process| process.id()).collect::<Vec<_>>(), [sleeper.pid()]);
            let process = found[0];
            assert!(!process.wait(Deadline::after(Duration::ZERO)));
            process.signal(Signal::SIGTERM as i32).unwrap();
            // Nobody has buried it yet, and it counts as ended all the same.
            assert!(process.wait(Deadline::after(Duration::from_secs(30))));
            sleeper.0.wait().unwrap();
            assert_eq!(process.signal(Signal::SIGTERM as i32).unwrap_err().kind(), io::ErrorKind::NotFound);
            assert_eq!(Process::named(name).unwrap(), []);
        }
    }

    #[test]
    fn workers_are_left_to_their_parent_and_the_kernels_threads_are_none() {
        let proc = tempfile::tempdir().unwrap();
        let add = |pid: i32, comm: &str, state: char, parent: i32, flags: u64, arguments: &str| {
            let dir = proc.path().join(pid.to_string());
            fs::create_dir(&dir).unwrap();
            let rest = "1 2 3 4 5 6 7 8 20 0 1 0 55 10";
            fs::write(dir.join("stat"), format!("{pid} ({comm}) {state} {parent} 1 1 0 -1 {flags} {rest}"))
                .unwrap();
            fs::write(dir.join("cmdline"), arguments).unwrap();
        };
        fs::create_dir(proc.path().join("sys")).unwrap();
        add(1_000_001, "nginx", 'S', 1, 0, "nginx: master process nginx\0");
        add(1_000_002, "nginx", 'S', 1_000_001, 0, "nginx: worker process\0");
        add(1_000_003, "nginx", 'Z', 1, 0, "");
        add(1_000_004, "nginx", 'S', 2, KERNEL_THREAD, "");
        add(1_000_005, "busybox", 'S', 1, 0, "/usr/sbin/httpd\0-f\0");
        add(1_000_007, "MainThread", 'S', 1, 0, "/usr/local/bin/node\0server.js\0");
        add(1_000_006, "sh", 'S', 1, 0, "sh\0/opt/nginx\0");
        let named = |name| -> Vec<i32> {
            Process::named_in(proc.path(), name).unwrap().into_iter().map(Process::id).collect()
        };
        assert_eq!(named("nginx"), [1_000_001]);
        assert_eq!(named("httpd"), [1_000_005]);
        assert_eq!(named("node"), [1_000_007]);
        assert_eq!(named("worker"), [] as [i32; 0]);
    }

    #[test]
    fn a_pid_file_names_one_process_or_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("app.pid");
        let sleeper = Sleeper::start(&program(dir.path(), "podkit-t-pid"));
        let read = |text: &str| {
            fs::write(&file, text).unwrap();
            Process::in_pid_file(&file)
        };
        assert_eq!(read(&format!("{}\n", sleeper.pid())).unwrap().id(), sleeper.pid());
        for text in ["", "app", "0", "-1", "-7", "99999999999", &own_pid().to_string()] {
            assert_eq!(read(text).unwrap_err().kind(), io::ErrorKind::InvalidData, "{text:?}");
        }
        assert_eq!(read("2147483647").unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::remove_file(&file).unwrap();
        assert_eq!(Process::in_pid_file(&file).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
