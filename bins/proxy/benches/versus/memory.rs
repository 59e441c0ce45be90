//! `memory`: a proxy at rest, and with thousands of connections that are kept alive and silent.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use crate::line::Line;
use crate::load::{GET, is_whole};
use crate::options::Options;
use crate::origin::Answers;
use crate::peers::{Carries, Job, Peer, Running};
use crate::sockets::connections_allowed;
use crate::table::median;
use crate::{Result, table};

const PEERS: &[Peer] = &[Peer::Ours, Peer::Beside, Peer::HaProxy, Peer::Nginx, Peer::Envoy];

const CONNECTIONS: usize = 10_000;

/// How many ask at a time: nobody's queue is the measure here.
const AT_A_TIME: usize = 100;

/// How long a proxy may settle before it is looked at.
const REST: Duration = Duration::from_secs(1);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(options: &Options) -> Result<()> {
    let connections = connections_allowed(CONNECTIONS);
    let mut lines = Vec::new();
    for peer in options.peers(PEERS) {
        let mut samples = Vec::new();
        for _ in 0..options.runs {
            samples.push(once(peer, connections).map_err(|error| format!("{}: {error}", peer.name()))?);
        }
        let rest = median(samples.iter().map(|(rest, _)| *rest));
        let each = median(samples.iter().map(|(_, each)| *each));
        lines.push(vec![peer.name().to_owned(), format!("{:.1}", rest / 1e6), format!("{each:.0}")]);
    }
    table::print(
        &format!(
            "memory: at rest, and for each of {connections} idle keep-alive connections; limits: 6 MB, 10 KB"
        ),
        &["", "RSS MB", "bytes a connection"],
        &lines,
    );
    Ok(())
}

/// Resident bytes at rest, and per connection.
fn once(peer: Peer, connections: usize) -> Result<(f64, f64)> {
    let job = Job { connections: connections + 64, ..Job::new(Carries::Http) };
    let running = Running::start(peer, &job, Answers::Http)?;
    std::thread::sleep(REST);
    let before = running.resident()? as f64;
    let mut lines = Vec::with_capacity(connections);
    while lines.len() < connections {
        let mut some = Vec::new();
        for _ in 0..AT_A_TIME.min(connections - lines.len()) {
            let mut line = Line::open(running.port, None)?;
            line.write_all(GET)?;
            some.push(line);
        }
        some.iter_mut().try_for_each(answer)?;
        lines.append(&mut some);
    }
    std::thread::sleep(REST);
    Ok((before, (running.resident()? as f64 - before) / connections as f64))
}

fn answer(line: &mut Line) -> Result<()> {
    let (mut got, mut buffer, started) = (Vec::new(), [0; 4096], Instant::now());
    while !is_whole(&got)? {
        match line.read(&mut buffer) {
            Ok(0) => return Err("a connection was closed before its answer".into()),
            Ok(length) => got.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock && started.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_micros(100));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
