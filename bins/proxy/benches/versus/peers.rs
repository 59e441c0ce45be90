//! The proxies that are compared: where each is found, how it is told to do a job, and the process that does it.

mod envoy;
mod haproxy;
mod nginx;
mod ours;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::certs::Certs;
use crate::origin::{self, Answers};
use crate::sockets::wait_until_listening;
use crate::{Result, books, relay};

/// Where Debian puts what only root is thought to run.
const PLACES: &[&str] = &["/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/usr/bin"];

/// Names another build of ours, that takes part too then.
pub(crate) const BESIDE: &str = "BESIDE";

/// One that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Ours,
    /// Another build of ours, to compare two.
    Beside,
    HaProxy,
    Nginx,
    Envoy,
    /// The least that any relay must do.
    Bare,
}

/// What is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carries {
    Http,
    Tcp,
}

/// What a proxy is to do.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) carries: Carries,
    /// Clients come with TLS.
    pub(crate) certs: Option<Arc<Certs>>,
    /// Clients speak HTTP/2, from the first byte.
    pub(crate) http2: bool,
    /// TCP connections carry much: who can splice should.
    pub(crate) is_bulk: bool,
    pub(crate) workers: usize,
    /// Connections that may be open at a time.
    pub(crate) connections: usize,
}

impl Job {
    pub(crate) fn new(carries: Carries) -> Self {
        Self { carries, certs: None, http2: false, is_bulk: false, workers: 1, connections: 1024 }
    }
}

/// The ports of a run.
#[derive(Clone, Copy, Debug)]
struct Ports {
    listen: u16,
    origin: u16,
}

impl Peer {
    pub(crate) const ALL: &[Self] =
        &[Self::Ours, Self::Beside, Self::HaProxy, Self::Nginx, Self::Envoy, Self::Bare];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "podkit-proxy",
            Self::Beside => "beside",
            Self::HaProxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Bare => "bare",
        }
    }

    fn command(self, job: &Job, ports: Ports, dir: &Path) -> Result<Command> {
        match self {
            Self::Ours => ours::command(ours::PROXY.as_ref(), job, ports, dir),
            Self::Beside => {
                let path = std::env::var_os(BESIDE).ok_or_else(|| format!("{BESIDE} is not set"))?;
                ours::command(&path, job, ports, dir)
            }
            Self::HaProxy => haproxy::command(job, ports, dir),
            Self::Nginx => nginx::command(job, ports, dir),
            Self::Envoy => envoy::command(job, ports, dir),
            Self::Bare => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args([relay::ROLE, &ports.listen.to_string(), &ports.origin.to_string()]);
                Ok(command)
            }
        }
    }
}

/// A proxy before its origin, for one measurement; both end when it is dropped.
pub(crate) struct Running {
    pub(crate) port: u16,
    proxy: Owned,
    _origin: Owned,
    dir: TempDir,
}

impl Running {
    pub(crate) fn start(peer: Peer, job: &Job, answers: Answers) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let ports = Ports { listen: podkit_testkit::free_port(), origin: podkit_testkit::free_port() };
        let mut command = Command::new(std::env::current_exe()?);
        command.args([origin::ROLE, &ports.origin.to_string(), answers.word()]);
        let origin = Owned(command.stdin(Stdio::null()).spawn()?);
        wait_until_listening(ports.origin)?;
        let mut command = peer.command(job, ports, dir.path())?;
        let log = std::fs::File::create(dir.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let name = command.get_program().display().to_string();
        let proxy = Owned(command.spawn().map_err(|error| format!("cannot run {name}: {error}"))?);
        let running = Self { port: ports.listen, proxy, _origin: origin, dir };
        match wait_until_listening(ports.listen) {
            Ok(()) => Ok(running),
            Err(error) => Err(format!("{}: {error}{}", peer.name(), running.said()).into()),
        }
    }

    /// CPU nanoseconds used so far.
    pub(crate) fn cpu(&self) -> Result<u64> {
        books::cpu(self.proxy.0.id())
    }

    pub(crate) fn resident(&self) -> Result<u64> {
        books::resident(self.proxy.0.id())
    }

    /// The end of what the proxy has printed.
    pub(crate) fn said(&self) -> String {
        let text = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].iter().fold(String::new(), |mut said, line| {
            let _ = write!(said, "\n    {line}");
            said
        })
    }
}

/// A child that does not outlive its owner.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let family = books::family(self.0.id());
        // A child that ended by itself needs no signal.
        let _ = self.0.kill();
        let _ = self.0.wait();
        for child in family.into_iter().skip(1).filter_map(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
    }
}

/// Finds a program by the variable that names it, then by `PATH` and where Debian puts it.
pub(crate) fn program(name: &str, variable: &str, hint: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(PLACES.iter().map(PathBuf::from));
    let found = dirs.map(|dir| dir.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        format!("{name} is not here; {hint}, or set {variable}, or add `--without {name}` where it is a peer")
            .into()
    })
}
