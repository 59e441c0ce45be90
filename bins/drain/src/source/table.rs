//! What the kernel's socket table means, whichever way it is read: which sockets are connections of clients on our
//! ports, which of these hold the drain, and which are new since the last look.
//!
//! A connection that comes and goes between two looks is seen only by what it leaves behind (`TIME_WAIT`).

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::peers::Peers;
use crate::quiet::Sample;

/// One socket that is or was a connection, or listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) local_port: u16,
    pub(crate) peer: (IpAddr, u16),
    pub(crate) state: State,
    /// How long no byte went either way; `None` where the kernel was not asked or does not know.
    pub(crate) quiet: Option<Duration>,
}

/// The states of `include/net/tcp_states.h`, as far as the drain tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Bytes may still go either way, or wait for their acknowledgement.
    Active,
    /// Open, but nothing has gone either way for a while, and nothing is owed: a keep-alive connection at rest.
    Idle,
    /// The connection is over, or waits only for the peer to close: all that we sent was acknowledged.
    Over,
    /// No connection.
    Listening,
}

impl State {
    /// By the kernel's number; `None` for one that is not known.
    pub(super) fn from_number(number: u32) -> Option<Self> {
        match number {
            // ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1 (an answer not yet acknowledged), CLOSE_WAIT (the peer has
            // said all, we may still answer), LAST_ACK, CLOSING, NEW_SYN_RECV.
            0x01..=0x04 | 0x08 | 0x09 | 0x0B | 0x0C => Some(Self::Active),
            // FIN_WAIT2, TIME_WAIT, CLOSE.
            0x05..=0x07 => Some(Self::Over),
            // LISTEN, and BOUND_INACTIVE of Linux 6.8.
            0x0A | 0x0D => Some(Self::Listening),
            _ => None,
        }
    }
}

/// A client's connection: our port, and the peer.
type Connection = (u16, IpAddr, u16);

/// Remembers the connections of the last look.
#[derive(Debug)]
pub(super) struct Table {
    ports: Vec<u16>,
    peers: Peers,
    /// `None` before the first look, which cannot tell new from old.
    known: Option<HashSet<Connection>>,
}

/// What one look has found so far.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Every connection on the ports, ended ones too.
    connections: HashSet<Connection>,
    active: u64,
    idle: u64,
}

impl Table {
    pub(super) fn new(ports: &[u16], peers: &Peers) -> Self {
        Self { ports: ports.to_vec(), peers: peers.clone(), known: None }
    }

    pub(super) fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Whether a row is a connection on our ports, of whichever peer.
    pub(super) fn is_ours(&self, row: &Row) -> bool {
        row.state != State::Listening && self.ports.contains(&row.local_port)
    }

    /// A look that has found nothing yet.
    pub(super) fn begin(&self) -> Look {
        // As large as the last one: a full table of a busy pod is not moved while it grows.
        let size = self.known.as_ref().map_or(0, HashSet::len);
        Look { connections: HashSet::with_capacity(size), ..Look::default() }
    }

    /// Adds a row, if it is a client's.
    pub(super) fn take(&self, row: Row, look: &mut Look) {
        let (peer, peer_port) = row.peer;
        if !self.is_ours(&row) || !self.peers.count(peer) {
            return;
        }
        look.connections.insert((row.local_port, peer, peer_port));
        match row.state {
            State::Active => look.active += 1,
            State::Idle => look.idle += 1,
            State::Over | State::Listening => {}
        }
    }

    /// The look is over.
    pub(super) fn end(&mut self, look: Look) -> Sample {
        let is_new = self.known.as_ref().is_some_and(|known| !look.connections.is_subset(known));
        self.known = Some(look.connections);
        Sample {
            active: look.active,
            open: look.active + look.idle,
            since_new: is_new.then_some(Duration::ZERO),
        }
    }
}
