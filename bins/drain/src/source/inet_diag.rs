//! The kernel's socket table by netlink: `INET_DIAG` of sock_diag(7), open to anyone about the sockets of the own network
//! namespace.
//!
//! Beside states and peers it tells when bytes last went which way (`tcp_info`), and so a keep-alive connection at rest
//! from one with a request in flight. It asks for our ports only; never changes anything.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;
use podkit_lifecycle::Deadline;

use super::table::{Row, State, Table};
use super::{Rows, Source, SourceError};
use crate::peers::Peers;
use crate::quiet::Sample;

/// `SOCK_DIAG_BY_FAMILY` of linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// `TCPDIAG_GETSOCK` of linux/inet_diag.h: the older question, which is about all families. The kernel goes through all
/// sockets of the namespace for each question, whatever it is about, so that one costs less than two.
const ALL_FAMILIES: u16 = 18;
/// `NLM_F_REQUEST | NLM_F_DUMP` of linux/netlink.h.
const DUMP: u16 = 0x301;
/// Message types of linux/netlink.h.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `INET_DIAG_INFO` of linux/inet_diag.h, as an attribute; as a request it is the bit before it.
const INFO: u16 = 2;
/// `INET_DIAG_REQ_BYTECODE`
const BYTECODE: u16 = 1;
/// `INET_DIAG_BC_S_GE` and `INET_DIAG_BC_S_LE`: the local port compared with that of the next operation.
const PORT_GE: u8 = 2;
const PORT_LE: u8 = 3;
/// `INET_DIAG_BC_JMP`: to where it does not hold.
const JUMP: u8 = 1;
/// All states but `LISTEN`, which is no connection.
const STATES: u32 = !(1 << 10);
/// Far more than an app has; more are told apart here.
const MOST_FILTERED: usize = 256;
/// `struct nlmsghdr`, `struct inet_diag_req_v2`, its socket's id, `struct inet_diag_req`, `struct inet_diag_msg`.
const HEADER: usize = 16;
const REQUEST: usize = 56;
const SOCKET_ID: usize = 48;
const OLD_REQUEST: usize = 60;
const MESSAGE: usize = 72;
/// What the kernel fills for each read, if it may.
const BUFFER: usize = 32 * 1024;
/// `ESTABLISHED` and `CLOSE_WAIT` of include/net/tcp_states.h.
const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;

/// The source; each poll sees both families.
pub(crate) struct InetDiag {
    table: Table,
    /// How long nothing must have gone either way on a connection at rest.
    idle: Duration,
    buffer: Vec<u8>,
    /// The kernel does not take the question about all families.
    by_family: bool,
}

impl InetDiag {
    pub(crate) fn new(ports: &[u16], peers: &Peers, idle: Duration) -> Self {
        Self { table: Table::new(ports, peers), idle, buffer: vec![0; BUFFER], by_family: false }
    }

    /// What a look finds, of both families.
    fn dump<L>(
        &mut self,
        deadline: Deadline,
        begin: impl Fn(&Table) -> L,
        take: impl Fn(&Table, Row, &mut L),
    ) -> Result<L, SourceError> {
        let Self { table, idle, buffer, by_family } = self;
        let ask = |family, take: &mut dyn FnMut(Row)| {
            let request = request(family, table.ports());
            ask(&request, *idle, buffer, deadline, take)
        };
        both(by_family, || begin(table), |row, look| take(table, row, look), ask).map_err(SourceError::Diag)
    }
}

/// Asks about all families at once, or about one after the other where that fails; then the look begins afresh, so that
/// what it has found is not counted again. A kernel that does not take the first question is not asked it any more.
fn both<L>(
    by_family: &mut bool,
    begin: impl Fn() -> L,
    take: impl Fn(Row, &mut L),
    mut ask: impl FnMut(Option<AddressFamily>, &mut dyn FnMut(Row)) -> io::Result<()>,
) -> io::Result<L> {
    if !*by_family {
        let (mut look, mut is_known) = (begin(), false);
        let asked = ask(None, &mut |row| {
            is_known = true;
            take(row, &mut look);
        });
        match asked {
            Err(error) if error.kind() != io::ErrorKind::TimedOut => *by_family = !is_known,
            asked => return asked.map(|()| look),
        }
    }
    let mut look = begin();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        match ask(Some(family), &mut |row| take(row, &mut look)) {
            // A kernel without IPv6 does not know the family.
            Err(error) if family == AddressFamily::Inet6 && error.kind() == io::ErrorKind::NotFound => {}
            asked => asked?,
        }
    }
    Ok(look)
}

/// One question. The rows come as the kernel sends them: a full table never lies in memory as a whole.
fn ask(
    request: &[u8],
    idle: Duration,
    buffer: &mut [u8],
    deadline: Deadline,
    take: &mut dyn FnMut(Row),
) -> io::Result<()> {
    let socket = connect(deadline)?;
    sendto(socket.as_raw_fd(), request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    loop {
        let length = match recv(socket.as_raw_fd(), buffer, MsgFlags::empty()) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error.into()),
        };
        for message in Messages(&buffer[..length]) {
            match message? {
                (DONE, _) => return Ok(()),
                (BY_FAMILY | ALL_FAMILIES, body) => row(body, idle).into_iter().for_each(&mut *take),
                _ => {}
            }
        }
        if deadline.expired() {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

impl Source for InetDiag {
    fn name(&self) -> String {
        "the kernel's socket table (INET_DIAG)".to_owned()
    }

    fn poll(&mut self, deadline: Deadline) -> Result<Sample, SourceError> {
        let look = self.dump(deadline, Table::begin, Table::take)?;
        Ok(self.table.end(look))
    }
}

impl Rows for InetDiag {
    fn rows(&mut self, deadline: Deadline) -> Result<Vec<Row>, SourceError> {
        let take = |table: &Table, row, rows: &mut Vec<Row>| {
            rows.extend(Some(row).filter(|row| table.is_ours(row)));
        };
        self.dump(deadline, |_| Vec::new(), take)
    }
}

fn connect(deadline: Deadline) -> io::Result<OwnedFd> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    // The kernel answers at once, or the machine is in trouble. Zero would mean for ever.
    let wait = deadline.remaining().max(Duration::from_millis(1));
    let wait = TimeVal::new(wait.as_secs().try_into().unwrap_or(i64::MAX), wait.subsec_micros().into());
    setsockopt(&socket, sockopt::ReceiveTimeout, &wait)?;
    Ok(socket)
}

/// All sockets on these ports, of a family or of all, with their `tcp_info`.
fn request(family: Option<AddressFamily>, ports: &[u16]) -> Vec<u8> {
    const TCP_INFO: u8 = 1 << (INFO - 1);
    let (kind, asked) = if family.is_some() { (BY_FAMILY, REQUEST) } else { (ALL_FAMILIES, OLD_REQUEST) };
    let filter = if ports.len() > MOST_FILTERED { Vec::new() } else { filter(ports) };
    let attribute = if filter.is_empty() { 0 } else { 4 + filter.len() };
    let length = HEADER + asked + attribute;
    let mut message = Vec::with_capacity(length);
    message.extend(u32::try_from(length).unwrap_or_default().to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(DUMP.to_ne_bytes());
    message.extend([0; 8]); // sequence number and sender: there is one request on the socket
    let any_socket = [0; SOCKET_ID];
    if let Some(family) = family {
        message.extend([family as u8, nix::libc::IPPROTO_TCP as u8, TCP_INFO, 0]);
        message.extend(STATES.to_ne_bytes());
        message.extend(any_socket);
    } else {
        message.extend([0, 0, 0, TCP_INFO]);
        message.extend(any_socket);
        message.extend(STATES.to_ne_bytes());
        message.extend([0; 4]);
    }
    if attribute > 0 {
        message.extend(u16::try_from(attribute).unwrap_or_default().to_ne_bytes());
        message.extend(BYTECODE.to_ne_bytes());
        message.extend(filter);
    }
    message
}

/// `struct inet_diag_bc_op`s that take a socket whose local port is one of these: for each port two comparisons, and a
/// jump to the very end, which takes the socket. What goes four bytes beyond the end is refused. The kernel wants to
/// come by every operation by going on where a comparison holds, and so the jump goes on as if it did not jump.
fn filter(ports: &[u16]) -> Vec<u8> {
    const BLOCK: u16 = 20;
    let mut code = Vec::with_capacity(ports.len() * usize::from(BLOCK));
    let mut operation = |kind: u8, yes: u8, no: u16| {
        code.extend([kind, yes]);
        code.extend(no.to_ne_bytes());
    };
    for (port, after) in ports.iter().zip((0..ports.len()).rev()) {
        // Where it does not hold: to the next port, and from the last one beyond the end.
        operation(PORT_GE, 8, BLOCK);
        operation(0, 0, *port);
        operation(PORT_LE, 8, BLOCK - 8);
        operation(0, 0, *port);
        if after > 0 {
            let to_the_end = after * usize::from(BLOCK);
            operation(
                JUMP,
                4,
                u16::try_from(to_the_end).expect("there are no more than `MOST_FILTERED` ports"),
            );
        }
    }
    code
}

/// The messages of one read: type and body.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = io::Result<(u16, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let message = self.split();
        if message.is_none() {
            self.0 = &[];
        }
        Some(match message {
            Some((ERROR, body)) => Err(refusal(body)),
            Some(message) => Ok(message),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "a message of the kernel is cut off")),
        })
    }
}

impl<'a> Messages<'a> {
    fn split(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::try_from(u32_at(self.0, 0)?).ok()?;
        let kind = u16_at(self.0, 4)?;
        let body = self.0.get(HEADER..length)?;
        // The next one begins at a multiple of four; after the last one there may be nothing.
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    }
}

/// `struct nlmsgerr` begins with an error number below zero.
fn refusal(body: &[u8]) -> io::Error {
    match u32_at(body, 0).map(u32::cast_signed) {
        Some(number) if number < 0 => io::Error::from_raw_os_error(-number),
        _ => io::ErrorKind::InvalidData.into(),
    }
}

/// Reads a `struct inet_diag_msg` and its attributes; `None` for what is no TCP socket.
fn row(message: &[u8], idle: Duration) -> Option<Row> {
    let head = message.get(..MESSAGE)?;
    let (family, number) = (head[0], head[1]);
    let local_port = u16::from_be_bytes([head[4], head[5]]);
    let peer_port = u16::from_be_bytes([head[6], head[7]]);
    let peer = &head[24..40];
    let peer = match i32::from(family) {
        nix::libc::AF_INET => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(&peer[..4]).ok()?)),
        nix::libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(peer).ok()?)).to_canonical(),
        _ => return None,
    };
    let state = State::from_number(number.into())?;
    let (received, sent) = (u32_at(head, 56)?, u32_at(head, 60)?);
    // The peer's end is one that is counted as a byte until the app has read it.
    let owes = received > u32::from(number == CLOSE_WAIT) || sent > 0;
    // An app that never closes what its client has closed would hold the drain by it for ever.
    let info = info(message).filter(|_| matches!(number, ESTABLISHED | CLOSE_WAIT));
    let is_at_rest = !owes && info.is_some_and(|info| is_at_rest(info, idle));
    let state = if is_at_rest { State::Idle } else { state };
    let quiet = info.map(|info| info.last_sent.min(info.last_received));
    Some(Row { local_port, peer: (peer, peer_port), state, quiet })
}

/// When bytes last went each way, counted back from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Info {
    last_sent: Duration,
    last_received: Duration,
    /// Something came in, and nothing ever went out; false on a kernel before Linux 4.6, which does not count.
    is_unanswered: bool,
}

/// Whether no request is in flight, as far as bytes tell. What came in after the last that went out is a request without
/// its answer, however long ago. The kernel tells these times by its ticks of 1 to 10 ms: equal ones are most often those
/// of a request that was answered at once. On a fresh connection both times are that of its handshake, and a first request
/// may come within the same tick, so that one is told by the counts.
fn is_at_rest(info: Info, idle: Duration) -> bool {
    !info.is_unanswered && info.last_received >= info.last_sent && info.last_sent >= idle
}

/// What `struct tcp_info` (linux/tcp.h) tells: `tcpi_last_data_sent` and `tcpi_last_data_recv`, milliseconds each, and
/// `tcpi_data_segs_in` and `tcpi_data_segs_out`.
fn info(message: &[u8]) -> Option<Info> {
    const LAST_DATA_SENT: usize = 44;
    const LAST_DATA_RECEIVED: usize = 52;
    const DATA_SEGMENTS_IN: usize = 152;
    const DATA_SEGMENTS_OUT: usize = 156;
    let mut attributes = message.get(MESSAGE..)?;
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let body = attributes.get(4..length)?;
        if u16_at(attributes, 2)? == INFO {
            let at = |place| u32_at(body, place).map(|millis| Duration::from_millis(millis.into()));
            let came = u32_at(body, DATA_SEGMENTS_IN).is_some_and(|count| count > 0);
            let is_unanswered = came && u32_at(body, DATA_SEGMENTS_OUT) == Some(0);
            return Some(Info {
                last_sent: at(LAST_DATA_SENT)?,
                last_received: at(LAST_DATA_RECEIVED)?,
                is_unanswered,
            });
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
#[path = "inet_diag_tests.rs"]
mod tests;
