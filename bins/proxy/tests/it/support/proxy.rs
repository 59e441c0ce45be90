use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;

use podkit_testkit::{Process, Reply, eventually, free_port, http, program};
use serde_json::Value;

use super::Client;

const PROXY: &str = env!("CARGO_BIN_EXE_podkit-proxy");

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) process: Process,
    pub(crate) admin: SocketAddr,
    pub(crate) listeners: Vec<SocketAddr>,
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Writes a config with a listener `web` and an upstream `app`, and gives its path and where `web` listens.
fn write_config(origin: impl Display, dir: &Path, listener: &str, upstream: &str) -> (String, SocketAddr) {
    let listen = loopback(free_port());
    let text = format!(
        "listeners:\n- {{name: web, listen: \"{listen}\", to: app, {listener}}}\n\
         upstreams:\n- {{name: app, address: \"{origin}\", {upstream}}}\n",
    );
    let file = dir.join("proxy.yaml");
    std::fs::write(&file, text).unwrap();
    (file.to_str().unwrap().to_owned(), listen)
}

impl Proxy {
    /// An HTTP listener before `origin`.
    pub(crate) fn http(origin: SocketAddr) -> Self {
        Self::http_with(origin, &[])
    }

    pub(crate) fn http_with(origin: SocketAddr, args: &[&str]) -> Self {
        let listen = loopback(free_port());
        Self::start(
            &[&["--forward", &format!("http://{listen}=http://{origin}")], args].concat(),
            vec![listen],
        )
    }

    /// A TCP listener before `origin`.
    pub(crate) fn tcp(origin: SocketAddr, args: &[&str]) -> Self {
        let listen = loopback(free_port());
        Self::start(&[&["--forward", &format!("tcp://{listen}=tcp://{origin}")], args].concat(), vec![listen])
    }

    /// One listener `web` with further YAML of its own, and an upstream `app` with further YAML.
    pub(crate) fn yaml(origin: impl Display, dir: &Path, listener: &str, upstream: &str) -> Self {
        Self::yaml_with(origin, dir, listener, upstream, &[])
    }

    /// As [`yaml`](Self::yaml), with flags.
    pub(crate) fn yaml_with(
        origin: impl Display,
        dir: &Path,
        listener: &str,
        upstream: &str,
        args: &[&str],
    ) -> Self {
        let (file, listen) = write_config(origin, dir, listener, upstream);
        Self::start(&[&["--config", file.as_str()], args].concat(), vec![listen])
    }

    /// As [`yaml`](Self::yaml), in a process that another program changes first.
    pub(crate) fn yaml_under(program: &[&str], origin: SocketAddr, dir: &Path, listener: &str) -> Self {
        let (file, listen) = write_config(origin, dir, listener, "");
        Self::launch(&[program, &[PROXY, "--config", &file]].concat(), vec![listen])
    }

    /// An HTTP listener before `origin`, in a process that another program changes first.
    pub(crate) fn http_under(program: &[&str], origin: SocketAddr) -> Self {
        let listen = loopback(free_port());
        let forward = format!("http://{listen}=http://{origin}");
        Self::launch(&[program, &[PROXY, "--forward", &forward]].concat(), vec![listen])
    }

    /// Starts it, and waits until it listens.
    pub(crate) fn start(args: &[&str], listeners: Vec<SocketAddr>) -> Self {
        Self::launch(&[&[PROXY], args].concat(), listeners)
    }

    fn launch(command: &[&str], listeners: Vec<SocketAddr>) -> Self {
        let admin = loopback(free_port());
        let run = program(command[0]).args(&command[1..]).args(["--admin", &admin.to_string()]);
        let mut proxy = Self { process: run.start(), admin, listeners };
        eventually("the proxy listens", || {
            assert!(!proxy.process.has_ended(), "the proxy ended: {}", proxy.process.stderr());
            http("GET", admin, "/startupz").ok().filter(|reply| reply.status == 200)
        });
        proxy
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listeners[0]
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// A request to the admin port.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Reply {
        http(method, self.admin, path).unwrap_or_else(|error| panic!("{error}\n{}", self.process.stderr()))
    }

    pub(crate) fn drain_state(&self) -> Value {
        self.ask("GET", "/drain").json()
    }

    /// The sum of a metric over all label sets that contain `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.ask("GET", "/metrics").body;
        text.lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(labels))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    pub(crate) fn wait_for_metric(&self, name: &str, labels: &str, value: f64) {
        eventually(&format!("{name}{{{labels}}} is {value}"), || {
            (self.metric(name, labels) == value).then_some(())
        });
    }

    pub(crate) fn wait_for_phase(&self, phase: &str) {
        eventually(&format!("the phase is {phase}"), || (self.drain_state()["phase"] == phase).then_some(()));
    }
}
