//! `growth`: what a request costs with ever more connections, and with two workers.

use crate::load::Asks;
use crate::measure::{Row, Trial, in_turn};
use crate::options::Options;
use crate::peers::{Carries, Job, Peer};
use crate::sockets::connections_allowed;
use crate::{Result, table};

const PEERS: &[Peer] = &[Peer::Ours, Peer::Beside, Peer::HaProxy, Peer::Nginx, Peer::Envoy];

const STEPS: [usize; 4] = [1, 32, 512, 4096];

pub(crate) fn run(options: &Options) -> Result<()> {
    let steps = STEPS.map(connections_allowed);
    for workers in [1, 2] {
        let mut columns: Vec<Vec<Row>> = Vec::new();
        for connections in steps {
            let job = Job { workers, connections: connections + 64, ..Job::new(Carries::Http) };
            let trial = Trial { job, connections, asks: Asks::Http, pace: None };
            columns.push(in_turn(options, PEERS, |peer, first| trial.once(options, peer, first))?);
        }
        let heads: Vec<String> = steps.iter().map(|step| format!("{step}: us, requests/s, p99 us")).collect();
        let mut titles = vec![""];
        titles.extend(heads.iter().map(String::as_str));
        let peers = columns.first().map_or(&[][..], Vec::as_slice);
        let lines: Vec<Vec<String>> = peers
            .iter()
            .enumerate()
            .map(|(at, first)| {
                let cells = columns.iter().map(|rows| cell(&rows[at]));
                std::iter::once(first.peer.name().to_owned()).chain(cells).collect()
            })
            .collect();
        let plural = if workers == 1 { "" } else { "s" };
        table::print(
            &format!("growth: CPU a request by keep-alive connections, {workers} worker{plural}"),
            &titles,
            &lines,
        );
    }
    Ok(())
}

fn cell(row: &Row) -> String {
    let (cpu, rate) = (row.median(|sample| sample.cpu), row.median(|sample| sample.per_second));
    format!("{cpu:.2}, {rate:.0}, {:.0}", row.median(|sample| sample.p99))
}
