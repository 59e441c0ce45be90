//! One measurement: a proxy, a load, and the books before and after. And many of them, in turn.

use std::time::{Duration, Instant};

use crate::bulk::Way;
use crate::line::Line;
use crate::load::{Asks, Load};
use crate::options::Options;
use crate::origin::Answers;
use crate::peers::{Carries, Job, Peer, Running};
use crate::table::median;
use crate::{Result, mirror};

/// What is asked of all alike.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    pub(crate) job: Job,
    pub(crate) connections: usize,
    pub(crate) asks: Asks,
    /// Requests a second; as fast as answers come where there is none.
    pub(crate) pace: Option<u32>,
}

/// What one run showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// CPU microseconds per request.
    pub(crate) cpu: f64,
    pub(crate) per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Bytes under load.
    pub(crate) resident: f64,
}

/// One peer's runs.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) peer: Peer,
    pub(crate) samples: Vec<Sample>,
}

impl Row {
    pub(crate) fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(of))
    }
}

/// Runs all peers in turn, so that what else the machine does falls on all alike. `once` also hears whether it is the
/// first run of a peer.
pub(crate) fn in_turn(
    options: &Options,
    peers: &[Peer],
    once: impl Fn(Peer, bool) -> Result<Sample>,
) -> Result<Vec<Row>> {
    let peers = options.peers(peers);
    let mut rows: Vec<Row> = peers.iter().map(|peer| Row { peer: *peer, samples: Vec::new() }).collect();
    for run in 0..options.runs {
        for row in &mut rows {
            let name = row.peer.name();
            row.samples.push(once(row.peer, run == 0).map_err(|error| format!("{name}: {error}"))?);
        }
    }
    Ok(rows)
}

impl Trial {
    /// Starts a peer and measures it under this load.
    pub(crate) fn once(&self, options: &Options, peer: Peer, rehearse: bool) -> Result<Sample> {
        let answers = match self.asks {
            Asks::Echo(_) => Answers::Echo,
            Asks::Byte(Way::Down) => Answers::Source,
            Asks::Byte(Way::Up) => Answers::Sink,
            Asks::Http | Asks::Https(_) | Asks::Handshake(_) => Answers::Http,
        };
        let running = Running::start(peer, &self.job, answers)?;
        if rehearse && peer != Peer::Bare && self.job.carries == Carries::Http {
            let tls = self.job.certs.as_ref().map(|certs| &certs.client);
            mirror::check(Line::open(running.port, tls)?)?;
        }
        let load = Load::start(running.port, self.connections, self.asks.clone(), self.pace)?;
        let measured = under_load(options, &running, &load);
        // A load that broke says why; what it caused is of no interest then.
        let latency = load.end().map_err(|error| format!("{error}{}", running.said()))?;
        let (cpu, done, elapsed, resident) = measured?;
        Ok(Sample {
            cpu: cpu as f64 / 1000.0 / done as f64,
            per_second: done as f64 / elapsed.as_secs_f64(),
            p50: latency.p50,
            p99: latency.p99,
            resident: resident as f64,
        })
    }
}

fn under_load(options: &Options, running: &Running, load: &Load) -> Result<(u64, u64, Duration, u64)> {
    std::thread::sleep(options.warm_up);
    let started = Instant::now();
    let before = (running.cpu()?, load.done());
    load.measure();
    while started.elapsed() < options.window && !load.has_failed() {
        std::thread::sleep(Duration::from_millis(20).min(options.window));
    }
    let after = (running.cpu()?, load.done());
    if after.1 == before.1 {
        return Err("no request was answered".into());
    }
    Ok((after.0 - before.0, after.1 - before.1, started.elapsed(), running.resident()?))
}
