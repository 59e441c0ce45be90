//! `h2`: HTTP/2 clients before an HTTP/1.1 origin, in clear text with prior knowledge, and over TLS.

use std::path::Path;
use std::process::Command;

use crate::certs::Certs;
use crate::load::{Latency, Times};
use crate::measure::{Sample, in_turn};
use crate::options::Options;
use crate::origin::Answers;
use crate::peers::{Carries, Job, Peer, Running, program};
use crate::table::print_requests;
use crate::{Result, origin};

const PEERS: &[Peer] = &[Peer::Ours, Peer::Beside, Peer::HaProxy, Peer::Nginx, Peer::Envoy];

const CONNECTIONS: usize = 8;
const STREAMS: usize = 8;

/// Requests of the run that tells how fast it goes.
const FIRST: u64 = 5000;

pub(crate) fn run(options: &Options) -> Result<()> {
    for certs in [None, Some(Certs::new()?)] {
        let name = if certs.is_some() { "over TLS" } else { "in clear text" };
        let job = Job { certs, http2: true, ..Job::new(Carries::Http) };
        let rows = in_turn(options, PEERS, |peer, _| once(options, peer, &job))?;
        let heading = format!(
            "h2: {CONNECTIONS} connections with {STREAMS} requests at a time {name}; limit: 1.2 of haproxy"
        );
        print_requests(&heading, &rows);
    }
    Ok(())
}

fn once(options: &Options, peer: Peer, job: &Job) -> Result<Sample> {
    let running = Running::start(peer, job, Answers::Http)?;
    let dir = tempfile::tempdir()?;
    let first = load(&running, job, FIRST, dir.path())?;
    let count = (first.per_second * options.window.as_secs_f64()).max(1000.0) as u64;
    let before = running.cpu()?;
    let done = load(&running, job, count, dir.path())?;
    let cpu = (running.cpu()? - before) as f64 / 1000.0 / count as f64;
    let Latency { p50, p99 } = done.latency;
    Ok(Sample { cpu, per_second: done.per_second, p50, p99, resident: running.resident()? as f64 })
}

struct Done {
    per_second: f64,
    latency: Latency,
}

/// Runs h2load; all its requests must be answered well.
fn load(running: &Running, job: &Job, count: u64, dir: &Path) -> Result<Done> {
    let h2load = program("h2load", "H2LOAD", "`apt-get install nghttp2-client` adds it")?;
    let scheme = if job.certs.is_some() { "https" } else { "http" };
    let log = dir.join("times");
    let mut command = Command::new(h2load);
    command.arg("-n").arg(count.to_string()).arg("-c").arg(CONNECTIONS.to_string());
    command.arg("-m").arg(STREAMS.to_string()).arg("--log-file").arg(&log);
    command.arg(format!("{scheme}://127.0.0.1:{}/api/v1/items?page=2", running.port));
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !text.contains(&format!(" {count} succeeded, 0 failed")) {
        return Err(format!("not all requests were answered: {text}{}", running.said()).into());
    }
    if !text.contains(&format!("({}", origin::BODY)) && !text.contains("data") {
        return Err(format!("h2load says something else than it did: {text}").into());
    }
    let rate = text.lines().find_map(|line| line.split(", ").nth(1)?.strip_suffix(" req/s"));
    let per_second = rate.ok_or("h2load told no rate")?.parse()?;
    let mut times = Times::new();
    // Start, status, microseconds.
    for line in std::fs::read_to_string(log)?.lines() {
        times.add(line.rsplit('\t').next().unwrap_or_default().parse()?);
    }
    Ok(Done { per_second, latency: times.latency() })
}
