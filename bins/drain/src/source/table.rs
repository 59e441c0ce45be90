//! What the kernel's socket table means, whichever way it is read: which sockets are connections of clients on our
//! ports, which of these hold the drain, and which are new since the last look.
//!
//! A connection that comes and goes between two looks is seen only by what it leaves behind (`TIME_WAIT`).

use std::collections::HashSet;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState};
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

/// A client's connection: its ports and its peer, mixed. Two that mix alike are taken for one, with a chance of one in
/// 10^10 among 50,000, and then a new one is not noticed at this look: less than is missed between two looks anyway.
type Connection = u64;

/// What is mixed already needs no other hash.
#[derive(Debug, Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 ^= word;
    }
}

type Connections = HashSet<Connection, BuildHasherDefault<Mixed>>;

/// Remembers the connections of the last look.
#[derive(Debug)]
pub(super) struct Table {
    ports: Vec<u16>,
    peers: Peers,
    /// So that nobody can choose peers that share a place in the set.
    seed: u64,
    /// `None` before the first look, which cannot tell new from old.
    known: Option<Connections>,
}

/// What one look has found so far.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Every connection on the ports, ended ones too.
    connections: Connections,
    active: u64,
    idle: u64,
}

impl Table {
    pub(super) fn new(ports: &[u16], peers: &Peers) -> Self {
        let seed = RandomState::new().hash_one(std::process::id());
        Self { ports: ports.to_vec(), peers: peers.clone(), seed, known: None }
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
        let connections = Connections::with_capacity_and_hasher(size, BuildHasherDefault::default());
        Look { connections, ..Look::default() }
    }

    /// Adds a row, if it is a client's. The kernel gives `/proc/net/tcp` in pieces, and a row in two of them where sockets
    /// come and go meanwhile: it counts once.
    pub(super) fn take(&self, row: Row, look: &mut Look) {
        if !self.is_ours(&row) || !self.peers.count(row.peer.0) {
            return;
        }
        let is_first = look.connections.insert(self.mixed(&row));
        match row.state {
            // An active one holds the drain even where its last row of the same ports was that of an ended one.
            State::Active if is_first || look.active == 0 => look.active += 1,
            State::Idle if is_first => look.idle += 1,
            _ => {}
        }
    }

    fn mixed(&self, row: &Row) -> Connection {
        let (peer, peer_port) = row.peer;
        let ports = u64::from(row.local_port) << 16 | u64::from(peer_port);
        let (high, low) = match peer {
            IpAddr::V4(v4) => (u64::MAX, u64::from(v4.to_bits())),
            IpAddr::V6(v6) => ((v6.to_bits() >> 64) as u64, v6.to_bits() as u64),
        };
        [high, low, ports].into_iter().fold(self.seed, |mixed, word| {
            // All bits of a factor reach the middle of the product; its halves together are as good as a hash.
            let product = u128::from(mixed ^ word) * 0x9E37_79B9_7F4A_7C15;
            product as u64 ^ (product >> 64) as u64
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_comes_twice_counts_once_and_an_active_one_is_never_missed() {
        let mut table = Table::new(&[80], &Peers::default());
        let row = |state| Row { local_port: 80, peer: ([10, 0, 0, 1].into(), 5), state, quiet: None };
        let mut open = |states: &[State]| {
            let mut look = table.begin();
            states.iter().for_each(|state| table.take(row(*state), &mut look));
            let sample = table.end(look);
            (sample.open, sample.active)
        };
        assert_eq!(open(&[State::Active, State::Active]), (1, 1));
        assert_eq!(open(&[State::Idle, State::Idle]), (1, 0));
        assert_eq!(open(&[State::Over, State::Active]), (1, 1));
    }

    /// Neighbours in every part, of both families.
    #[test]
    fn connections_are_told_apart_by_each_of_their_parts() {
        let table = Table::new(&[80], &Peers::default());
        let mut seen = Connections::default();
        let mut count = 0;
        for address in 0..100_u128 {
            let v4 = IpAddr::from((0x0A00_0000 + address as u32).to_be_bytes());
            for peer in [v4, IpAddr::from((address << 64).to_be_bytes()), IpAddr::from(address.to_be_bytes())]
            {
                for port in 0..20 {
                    for local_port in [80, 81] {
                        let row = Row { local_port, peer: (peer, port), state: State::Active, quiet: None };
                        count += usize::from(seen.insert(table.mixed(&row)));
                    }
                }
            }
        }
        // The address of zeros is one of both kinds of IPv6 addresses.
        assert_eq!(count, 299 * 20 * 2);
    }
}
