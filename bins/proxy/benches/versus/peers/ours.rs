//! podkit-proxy, as the bench profile builds it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use super::{Carries, Job, Ports};
use crate::Result;

/// The binary under test.
pub(super) const PROXY: &str = env!("CARGO_BIN_EXE_podkit-proxy");

pub(super) fn command(program: &OsStr, job: &Job, ports: Ports, dir: &Path) -> Result<Command> {
    let protocol = match job.carries {
        Carries::Http => "http",
        Carries::Tcp => "tcp",
    };
    let tls = job.certs.as_ref().map_or_else(String::new, |certs| {
        format!("    tls: {{cert: {}, key: {}}}\n", certs.cert().display(), certs.key().display())
    });
    let config = format!(
        "admin: off\nworkers: {}\nlisteners:\n  - name: bench\n    direction: inbound\n    listen: 127.0.0.1:{}\n    protocol: {protocol}\n    to: origin\n{tls}    \
         limits: {{connections: {}}}\nupstreams:\n  - name: origin\n    address: 127.0.0.1:{}\n    pool: {{max_idle: {}}}\n",
        job.workers, ports.listen, job.connections, ports.origin, job.connections
    );
    let path = dir.join("proxy.yaml");
    std::fs::write(&path, config)?;
    let mut command = Command::new(program);
    command.arg("--config").arg(path);
    Ok(command)
}
