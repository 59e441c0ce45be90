//! HAProxy, as Debian packs it.

use std::path::Path;
use std::process::Command;

use super::{Carries, Job, Ports, program};
use crate::Result;

pub(super) fn command(job: &Job, ports: Ports, dir: &Path) -> Result<Command> {
    let mode = match job.carries {
        Carries::Http => "mode http\n  option forwardfor\n  http-reuse always",
        Carries::Tcp if job.is_bulk => "mode tcp\n  option splice-request\n  option splice-response",
        Carries::Tcp => "mode tcp",
    };
    let bind = match (&job.certs, job.http2) {
        (None, false) => String::new(),
        (None, true) => "proto h2".to_owned(),
        (Some(certs), http2) => {
            let alpn = if http2 { "h2" } else { "http/1.1" };
            format!("ssl crt {} alpn {alpn}", certs.both().display())
        }
    };
    // It would give up idle connections to the origin once a quarter of its descriptors are in use.
    let config = format!(
        "global\n  nbthread {workers}\n  maxconn {connections}\n\
           tune.pool-low-fd-ratio 100\n  tune.pool-high-fd-ratio 100\n\
         defaults\n  {mode}\n  timeout connect 5s\n  timeout client 75s\n  timeout server 75s\n\
         listen bench\n  bind 127.0.0.1:{listen} {bind}\n  server origin 127.0.0.1:{origin}\n",
        workers = job.workers,
        connections = job.connections,
        listen = ports.listen,
        origin = ports.origin,
    );
    let path = dir.join("haproxy.cfg");
    std::fs::write(&path, config)?;
    let mut command = Command::new(program("haproxy", "HAPROXY", "`apt-get install haproxy` adds it")?);
    command.arg("-db").arg("-f").arg(path);
    Ok(command)
}
