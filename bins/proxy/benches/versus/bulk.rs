//! `bulk`: a few TCP connections that carry all they can, one way.

use std::io::{self, ErrorKind, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::sync::Arc;

use nix::libc::MSG_TRUNC;
use nix::sys::epoll::{EpollFlags, EpollTimeout};
use socket2::SockRef;

use crate::load::{Asks, Shared, Times};
use crate::measure::{Trial, in_turn};
use crate::options::Options;
use crate::peers::{Carries, Job, Peer};
use crate::sockets::{Waiter, connect};
use crate::{Result, table};

const PEERS: &[Peer] = &[Peer::Ours, Peer::Beside, Peer::HaProxy, Peer::Envoy, Peer::Bare];

const CONNECTIONS: usize = 4;

/// What is written or thrown away at a time.
const PIECE: usize = 256 * 1024;

/// Where the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Down,
    Up,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    for (way, name) in [(Way::Down, "to the client"), (Way::Up, "to the origin")] {
        let job = Job { is_bulk: true, ..Job::new(Carries::Tcp) };
        let trial = Trial { job, connections: CONNECTIONS, asks: Asks::Byte(way), pace: None };
        let rows = in_turn(options, PEERS, |peer, first| trial.once(options, peer, first))?;
        // Microseconds a byte: megabytes a second are the reciprocal.
        let speed = |cpu: f64| 1.0 / cpu;
        let haproxy = rows.iter().find(|row| row.peer == Peer::HaProxy);
        let haproxy = haproxy.map(|row| speed(row.median(|sample| sample.cpu)));
        let lines: Vec<Vec<String>> = rows
            .iter()
            .map(|row| {
                let mine = speed(row.median(|sample| sample.cpu));
                let ratio = haproxy.map_or_else(|| "?".to_owned(), |other| format!("{:.2}", mine / other));
                let per_second = row.median(|sample| sample.per_second) / 1e6;
                vec![row.peer.name().to_owned(), format!("{mine:.0}"), ratio, format!("{per_second:.0}")]
            })
            .collect();
        table::print(
            &format!("bulk: {CONNECTIONS} TCP connections, {name}; limit: at least haproxy's with splice"),
            &["", "MB per CPU second", "of haproxy", "MB/s"],
            &lines,
        );
    }
    Ok(())
}

/// The client's side: reads and throws away, or writes.
pub(crate) fn stream(port: u16, connections: usize, way: Way, shared: &Arc<Shared>) -> Result<Times> {
    let mut waiter = Waiter::new()?;
    let flags = if way == Way::Down { EpollFlags::EPOLLIN } else { EpollFlags::EPOLLOUT };
    let mut streams = Vec::new();
    for number in 0..connections {
        let stream = connect(port)?;
        waiter.add(&stream, number, flags)?;
        streams.push(stream);
    }
    let zeros = vec![0; PIECE];
    while !shared.is_over() {
        for event in waiter.wait(EpollTimeout::from(100u8))? {
            let stream = &mut streams[event.data() as usize];
            let moved = if way == Way::Down { discard(stream) } else { stream.write(&zeros) };
            match moved {
                Ok(0) => return Err("a connection was closed under load".into()),
                Ok(count) => shared.count(count as u64),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(format!("a connection broke under load: {error}").into()),
            }
        }
    }
    Ok(Times::new())
}

/// Throws away what has arrived without a copy of it: who is measured is the proxy.
pub(crate) fn discard(stream: &TcpStream) -> io::Result<usize> {
    // TCP with MSG_TRUNC writes nothing into the buffer (tcp(7)).
    let mut nothing = [const { MaybeUninit::uninit() }; PIECE];
    SockRef::from(stream).recv_with_flags(&mut nothing, MSG_TRUNC)
}
