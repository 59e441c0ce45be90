//! The pod's processes: started with nothing but what their launch says, stopped as the kubelet does it, and never
//! left behind.
//!
//! A child dies with the demo in three ways: by [`Process::stop`] in the ordinary case, by `kill_on_drop` on
//! every early return, and by the kernel's parent-death signal where the demo itself is killed.

use std::{
    ffi::OsString,
    fmt,
    fs::OpenOptions,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::{Pid, getppid},
};
use tokio::{
    process::{Child, Command},
    time::{Instant, timeout, timeout_at},
};

use crate::error::Error;

/// How a SIGKILL may take at most until the process is reaped.
const REAP: Duration = Duration::from_secs(5);

/// What a container's spec says, for a process.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(&'static str, String)>,
    /// Takes stdout and stderr; restarts append.
    pub(crate) log: PathBuf,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, with this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// By SIGKILL, because the grace period was over.
    Overdue,
}

impl End {
    pub(crate) fn is_clean(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "{code}"),
            Self::Signal(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "{signal}"),
                Err(_) => write!(f, "signal {number}"),
            },
            Self::Overdue => write!(f, "SIGKILL after the grace period"),
        }
    }
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> Self {
        match status.code() {
            Some(code) => Self::Code(code),
            None => Self::Signal(status.signal().unwrap_or_default()),
        }
    }
}

/// A running container, as far as this machine has one.
#[derive(Debug)]
pub(crate) struct Process {
    launch: Launch,
    child: Child,
}

impl Launch {
    /// Starts it.
    pub(crate) fn start(&self) -> Result<Process, Error> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(Error::io(format!("open {:?}", self.log)))?;
        let again = log.try_clone().map_err(Error::io(format!("open {:?}", self.log)))?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(again)
            // Ctrl-C reaches the demo alone, which then ends the pod.
            .process_group(0)
            .kill_on_drop(true);
        die_with_parent(&mut command);
        let child = command.spawn().map_err(Error::io(format!("start {:?}", self.program)))?;
        Ok(Process { launch: self.clone(), child })
    }

    /// Starts it and waits for its end: an init container.
    pub(crate) async fn run(&self, limit: Duration) -> Result<End, Error> {
        self.start()?.end(Instant::now() + limit).await
    }
}

/// Has the kernel end the child when the thread that starts it ends. The demo's runtime has one thread only,
/// the main one, so that is the end of the demo.
fn die_with_parent(command: &mut Command) {
    let parent = Pid::this();
    let ask = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have ended before the line above: then no signal will come.
        if getppid() == parent { Ok(()) } else { Err(std::io::ErrorKind::NotConnected.into()) }
    };
    // SAFETY: between fork and exec the closure makes two plain system calls, and neither allocates nor locks.
    #[expect(unsafe_code, reason = "there is no safe way to run code in the child before exec")]
    unsafe {
        command.pre_exec(ask);
    }
}

impl Process {
    pub(crate) fn name(&self) -> &'static str {
        self.launch.name
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<End> {
        self.child.try_wait().ok().flatten().map(End::from)
    }

    /// Waits for its own end, however long it takes.
    pub(crate) async fn wait(&mut self) -> Result<End, Error> {
        let status = self.child.wait().await;
        status.map(End::from).map_err(Error::io(format!("wait for {}", self.launch.name)))
    }

    /// Waits for its own end until `deadline`, then kills it.
    pub(crate) async fn end(&mut self, deadline: Instant) -> Result<End, Error> {
        match timeout_at(deadline, self.wait()).await {
            Ok(end) => end,
            Err(_) => {
                self.kill().await;
                Ok(End::Overdue)
            }
        }
    }

    /// SIGTERM, the time until `deadline`, SIGKILL.
    pub(crate) async fn stop(&mut self, deadline: Instant) -> Result<End, Error> {
        if let Some(pid) = self.child.id() {
            // It may have ended this very moment: then there is nothing to signal, and its end tells more.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
        }
        self.end(deadline).await
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        drop(timeout(REAP, self.child.kill()).await);
    }

    /// Starts the same once more, as the kubelet does with a container that ended.
    pub(crate) fn restart(&mut self) -> Result<(), Error> {
        *self = self.launch.start()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, dir: &tempfile::TempDir) -> Launch {
        Launch {
            name: "shell",
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: vec![("GREETING", "hello".into())],
            log: dir.path().join("shell.log"),
        }
    }

    #[tokio::test]
    async fn output_goes_to_the_log_and_the_environment_is_bare() {
        let dir = tempfile::tempdir().unwrap();
        let launch = shell(r#"echo "$GREETING"; echo "home: $HOME" >&2; exit 3"#, &dir);
        assert_eq!(launch.run(Duration::from_secs(20)).await.unwrap(), End::Code(3));
        assert_eq!(std::fs::read_to_string(&launch.log).unwrap(), "hello\nhome: \n");
    }

    #[tokio::test]
    async fn who_ignores_sigterm_is_killed_at_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let launch = shell("trap '' TERM; echo up; while :; do sleep 0.01; done", &dir);
        let mut process = launch.start().unwrap();
        let limit = Instant::now() + Duration::from_secs(20);
        while !std::fs::read_to_string(&launch.log).unwrap().contains("up") && Instant::now() < limit {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let end = process.stop(Instant::now() + Duration::from_millis(100)).await.unwrap();
        assert_eq!((end, end.is_clean()), (End::Overdue, false));
    }

    #[tokio::test]
    async fn a_kill_shows_as_its_signal_and_a_restart_runs_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell("exec sleep 60", &dir).start().unwrap();
        assert_eq!(process.ended(), None);
        process.kill().await;
        assert_eq!(process.ended().unwrap().to_string(), "SIGKILL");
        process.restart().unwrap();
        assert_eq!(process.ended(), None);
        assert_eq!(process.stop(Instant::now() + REAP).await.unwrap(), End::Signal(15));
    }
}
