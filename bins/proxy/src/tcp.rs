//! A connection of a TCP listener: one connection to the upstream, and bytes both ways.

use std::rc::Rc;
use std::time::Instant;

use crate::access_log::{Bytes, Entry};
use crate::arrival::Peer;
use crate::drain::Standing;
use crate::io::Stall;
use crate::listener::Service;
use crate::tls::Alpn;
use crate::tunnel::tunnel;
use crate::upstream::Purpose;
use crate::wire::Wire;
use crate::worker::Seat;

/// Whether the listener's rates let a connection in. One that they do not is counted; its caller cuts it, for a plain
/// close could be taken for an upstream that had nothing to say.
pub(crate) fn admit(service: &Rc<Service>, peer: &Peer) -> bool {
    let listener = &service.listener;
    let ip = peer.address.map(|address| address.ip());
    let Err(early) = listener.guard.admit(ip, Instant::now()) else { return true };
    listener.numbers.connections.refused.count(early.reason());
    if let Some(entry) = begin(service, peer) {
        entry.ended(Some(early.reason()));
    }
    false
}

/// The connection's line in the log, where there is one.
fn begin(service: &Rc<Service>, peer: &Peer) -> Option<Box<Entry>> {
    let mut entry = Entry::begin(service, peer)?;
    entry.line().text("protocol", b"TCP");
    Some(entry)
}

/// Carries one client's connection to its end.
pub(crate) async fn serve(client: Wire, peer: Rc<Peer>, service: Rc<Service>, seat: Seat) {
    let listener = &service.listener;
    let counts = &listener.numbers.connections;
    let entry = begin(&service, &peer);
    let ended = |reason| {
        if let Some(entry) = &entry {
            entry.ended(reason);
        }
    };
    let link = match service.pool.connect_any(Purpose { ends: peer.ends(), alpn: Alpn::None }).await {
        Ok(link) => link,
        Err(error) => {
            counts.upstream_errors.count(error.reason());
            ended(Some(error.reason()));
            service.complain(&podkit_cli::chain(&error));
            // As above.
            return client.cut();
        }
    };
    if let Some(entry) = &entry {
        entry.goes_to(link.endpoint());
    }
    let (idle, none) = (listener.config.timeouts.idle, Bytes::default());
    let bytes = entry.as_ref().map_or(&none, |entry| &entry.bytes);
    let carried = tunnel([&client, &link.wire], [None, None], idle, &seat, counts, bytes).await;
    ended(carried.as_ref().err().map(Stall::reason));
    // A probe only connects. While one that does more was open, it held the drain as such.
    let is_prober = || service.standing(|| peer.address.map(|address| address.ip())) == Standing::Prober;
    if !seat.is_traffic() && bytes.received.get() > 0 && is_prober() {
        service.is_traffic_after_all(&seat);
    }
    if let Some(why) = link.wire.fault() {
        service.complain(&format!("the upstream broke TLS off: {why}"));
    }
    match carried {
        Ok(()) => {}
        Err(Stall::Timeout) => {
            tracing::debug!(listener = listener.config.name, "a connection was idle too long");
        }
        Err(Stall::Broken(error)) => {
            tracing::debug!(listener = listener.config.name, "a connection broke: {error}");
        }
    }
}
