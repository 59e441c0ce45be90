//! `tls`: HTTP/1.1 over TLS, with connections that stay and with connections that come once.

use std::sync::Arc;

use crate::Result;
use crate::certs::Certs;
use crate::load::Asks;
use crate::measure::{Trial, in_turn};
use crate::options::Options;
use crate::peers::{Carries, Job, Peer};
use crate::table::print_requests;

const PEERS: &[Peer] = &[Peer::Ours, Peer::Beside, Peer::HaProxy, Peer::Nginx, Peer::Envoy];

pub(crate) fn run(options: &Options) -> Result<()> {
    let certs = Certs::new()?;
    let job = Job { certs: Some(Arc::clone(&certs)), ..Job::new(Carries::Http) };
    for (asks, heading) in [
        (Asks::Https(Arc::clone(&certs.client)), "tls: 32 keep-alive connections; limit: 1.2 of haproxy"),
        (
            Asks::Handshake(Arc::clone(&certs.client)),
            "tls: each request with a connection and a whole handshake; limit: 1.2 of haproxy",
        ),
    ] {
        let trial = Trial { job: job.clone(), connections: 32, asks, pace: None };
        let rows = in_turn(options, PEERS, |peer, first| trial.once(options, peer, first))?;
        print_requests(heading, &rows);
    }
    Ok(())
}
