//! `http`: 32 keep-alive connections with small answers, as fast as they go and at a steady pace.

use crate::Result;
use crate::load::Asks;
use crate::measure::{Trial, in_turn};
use crate::options::Options;
use crate::peers::{Carries, Job, Peer};
use crate::table::print_requests;

const PEERS: &[Peer] = &[Peer::Ours, Peer::Beside, Peer::HaProxy, Peer::Nginx, Peer::Envoy, Peer::Bare];

const CONNECTIONS: usize = 32;

/// Requests a second that all of them can do with room to spare.
const PACE: u32 = 5000;

pub(crate) fn run(options: &Options) -> Result<()> {
    let busy = Trial { job: Job::new(Carries::Http), connections: CONNECTIONS, asks: Asks::Http, pace: None };
    let rows = in_turn(options, PEERS, |peer, first| busy.once(options, peer, first))?;
    print_requests(
        "http: 32 keep-alive connections, as fast as answers come; limit: 0.9 of haproxy, aim 0.8",
        &rows,
    );
    let paced = Trial { pace: Some(PACE), ..busy.clone() };
    let rows = in_turn(options, PEERS, |peer, first| paced.once(options, peer, first))?;
    print_requests("http: the same, 5,000 requests a second; limit: p99 no worse than nginx's", &rows);
    Ok(())
}
