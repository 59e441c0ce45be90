//! The first stage: the PROXY protocol header, where the listener wants one.

use std::io;
use std::net::IpAddr;

use crate::io::before;
use crate::proxy_protocol::{Ends, Header, LIMIT, Malformed, parse};
use crate::wire::Socket;
use crate::worker::{Tick, Watch};

/// Why a connection is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("its PROXY protocol header is not trusted: {0} is not in `trust`")]
    Untrusted(IpAddr),
    #[error(transparent)]
    Malformed(Malformed),
    #[error("its PROXY protocol header did not come in time")]
    Timeout,
    /// Before its header was whole.
    #[error("it left before its PROXY protocol header was whole")]
    Left,
}

impl Refused {
    /// The label of `podkit_proxy_refused_connections_total`.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Untrusted(_) => "proxy_header_untrusted",
            Self::Malformed(malformed) => malformed.reason(),
            Self::Timeout => "proxy_header_timeout",
            Self::Left => "proxy_header_incomplete",
        }
    }
}

/// Reads the header and not a byte more; `None` where the sender speaks for itself.
pub(super) async fn read(socket: &Socket, watch: &Watch, until: Tick) -> Result<Option<Ends>, Refused> {
    let mut bytes = vec![0; LIMIT];
    let mut length = 0;
    loop {
        let seen = count(before(watch, until, |cx| socket.poll_peek(cx, &mut bytes[length..])).await)?;
        let (end, header) = match parse(&bytes[..length + seen]) {
            Ok(Some(header @ Header { length, .. })) => (length, Some(header)),
            // All of it is the header's.
            Ok(None) => (length + seen, None),
            Err(malformed) => return Err(Refused::Malformed(malformed)),
        };
        while length < end {
            length += count(before(watch, until, |cx| socket.poll_read(cx, &mut bytes[length..end])).await)?;
        }
        if let Some(header) = header {
            return Ok(header.ends);
        }
    }
}

fn count(read: Option<io::Result<usize>>) -> Result<usize, Refused> {
    match read {
        Some(Ok(count @ 1..)) => Ok(count),
        Some(_) => Err(Refused::Left),
        None => Err(Refused::Timeout),
    }
}
