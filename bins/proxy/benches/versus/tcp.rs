//! `tcp`: small messages to and fro over 32 connections.

use crate::Result;
use crate::load::Asks;
use crate::measure::{Trial, in_turn};
use crate::options::Options;
use crate::peers::{Carries, Job, Peer};
use crate::table::print_requests;

const PEERS: &[Peer] = &[Peer::Ours, Peer::Beside, Peer::Bare, Peer::HaProxy, Peer::Envoy];

pub(crate) fn run(options: &Options) -> Result<()> {
    let trial = Trial { job: Job::new(Carries::Tcp), connections: 32, asks: Asks::Echo(128), pace: None };
    let rows = in_turn(options, PEERS, |peer, first| trial.once(options, peer, first))?;
    print_requests("tcp: round trips of 128 bytes over 32 connections; limit: 1.05 of the bare relay", &rows);
    Ok(())
}
