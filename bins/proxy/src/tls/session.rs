//! One TLS connection without its socket: records in and out on one side, plain bytes on the other.
//!
//! Records are decrypted where they arrived, and written to a buffer of our own: both are on loan from a stock and go
//! back as soon as they are empty, so an idle connection holds none, and a read takes a whole record in one call.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, CommonState, Error, ProtocolVersion, ServerConfig};

use super::Alpn;
use super::record::{BUFFER, Plain, Step, Wish, advance, lend};
use crate::buffer::Lent;

/// The most that a handshake message takes before it is whole: what rustls allows, and one record.
const INPUT_LIMIT: usize = (64 << 10) + BUFFER;

/// A TLS connection.
pub(crate) struct Session {
    side: Side,
    /// Records that have arrived.
    input: Option<Lent>,
    /// Records that wait to be sent.
    output: Option<Lent>,
    /// Decrypted, and not read yet. More than one record lies here only where a write came between.
    aside: VecDeque<Vec<u8>>,
    /// Where reading stopped though whole records may have arrived.
    stopped: bool,
    /// The peer has said that it sends no more.
    ended: bool,
    /// We have said so.
    closed: bool,
    failed: Option<Error>,
}

enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl Side {
    fn common(&self) -> &CommonState {
        match self {
            Self::Server(connection) => connection,
            Self::Client(connection) => connection,
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Session").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Session {
    /// As the server.
    pub(crate) fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        UnbufferedServerConnection::new(config).map(|connection| Self::new(Side::Server(connection)))
    }

    /// As the client, of the server with this name.
    pub(crate) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        alpn: Alpn,
    ) -> Result<Self, Error> {
        let connection = UnbufferedClientConnection::new_with_alpn(config, name, alpn.protocols())?;
        Ok(Self::new(Side::Client(connection)))
    }

    fn new(side: Side) -> Self {
        Self {
            side,
            input: None,
            output: None,
            aside: VecDeque::new(),
            stopped: false,
            ended: false,
            closed: false,
            failed: None,
        }
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.side.common().is_handshaking()
    }

    /// The protocol that was agreed on.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.side.common().alpn_protocol()
    }

    /// The version that is spoken, as people write it.
    pub(crate) fn version(&self) -> Option<&'static str> {
        match self.side.common().protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some("1.2"),
            ProtocolVersion::TLSv1_3 => Some("1.3"),
            _ => None,
        }
    }

    /// The certificate that the peer has shown, verified.
    pub(crate) fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.side.common().peer_certificates()?.first()
    }

    /// Whether a read may give something, be it the end, without more from the socket.
    pub(crate) fn may_have_plain(&self) -> bool {
        self.stopped || self.is_known_to_have_plain()
    }

    /// Whether a read does.
    pub(crate) fn has_plain(&mut self) -> bool {
        if self.stopped && !self.is_known_to_have_plain() {
            self.work(&mut []);
        }
        self.is_known_to_have_plain()
    }

    fn is_known_to_have_plain(&self) -> bool {
        !self.aside.is_empty() || self.ended || self.failed.is_some()
    }

    /// Why it broke off.
    pub(crate) fn fault(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    /// Whether a part of a record has arrived.
    pub(crate) fn has_part(&self) -> bool {
        self.input.is_some()
    }

    /// The first byte that has arrived of what is not yet understood.
    pub(crate) fn first_byte(&self) -> Option<u8> {
        self.input.as_ref()?.filled().first().copied()
    }

    /// Room for records from the socket; none where a message has no end.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        let input = self.input.get_or_insert_with(lend);
        input.make_room(INPUT_LIMIT);
        input.space()
    }

    /// Says how much of the space is filled.
    pub(crate) fn received(&mut self, count: usize) {
        if let Some(input) = &mut self.input {
            input.fill(count);
        }
        self.give_back();
    }

    /// The records that are to be sent.
    pub(crate) fn output(&self) -> &[u8] {
        self.output.as_ref().map_or(&[], |output| output.filled())
    }

    /// Says how much of them is sent.
    pub(crate) fn sent(&mut self, count: usize) {
        if let Some(output) = &mut self.output {
            output.consume(count);
        }
        self.give_back();
    }

    fn give_back(&mut self) {
        self.input.take_if(|input| input.is_empty());
        self.output.take_if(|output| output.is_empty());
    }

    /// Works through what has arrived, without reading it.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        if self.aside.is_empty() && !self.ended && self.failed.is_none() {
            self.work(&mut []);
        }
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Works through what has arrived. Gives the plain bytes, as far as there is room; 0 is the end, and `None` says
    /// that more must arrive first. May leave something to send, also where it fails.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Error> {
        let mut count = self.take_aside(into);
        let is_idle = self.input.is_none() && !self.stopped;
        if count == 0 && !is_idle && !self.ended && self.failed.is_none() {
            count = self.work(into);
        }
        match &self.failed {
            _ if count > 0 => Ok(Some(count)),
            Some(error) => Err(error.clone()),
            None if self.ended => Ok(Some(0)),
            None => Ok(None),
        }
    }

    fn take_aside(&mut self, into: &mut [u8]) -> usize {
        let mut count = 0;
        while let Some(chunk) = self.aside.front_mut() {
            let length = chunk.len().min(into.len() - count);
            into[count..count + length].copy_from_slice(&chunk[..length]);
            count += length;
            if length < chunk.len() {
                chunk.drain(..length);
                break;
            }
            self.aside.pop_front();
        }
        count
    }

    /// Works through records until there is enough to read, or no whole one is left. Without room it stops at the
    /// first plain bytes.
    fn work(&mut self, into: &mut [u8]) -> usize {
        let mut count = 0;
        self.stopped = false;
        loop {
            match self.step(Wish::Nothing, into, &mut count) {
                _ if self.failed.is_some() => break,
                Step::Again if count < into.len() || into.is_empty() && self.aside.is_empty() => {}
                Step::Again => {
                    self.stopped = true;
                    break;
                }
                Step::Ended | Step::Blocked | Step::Written(_) => break,
            }
        }
        self.give_back();
        count
    }

    /// Encrypts as much of two spans, one behind the other, as fits, and gives how much that is. What was written
    /// before must have been sent.
    pub(crate) fn write(&mut self, spans: [&[u8]; 2]) -> Result<usize, Error> {
        self.carry_out(Wish::Write(spans))
    }

    /// Says to the peer that no more comes.
    pub(crate) fn close(&mut self) -> Result<(), Error> {
        if !self.closed {
            self.carry_out(Wish::Close)?;
            self.closed = true;
        }
        Ok(())
    }

    fn carry_out(&mut self, wish: Wish<'_>) -> Result<usize, Error> {
        let result = loop {
            if let Some(error) = &self.failed {
                break Err(error.clone());
            }
            match self.step(wish, &mut [], &mut 0) {
                Step::Again | Step::Ended => {}
                Step::Written(result) => break result,
                Step::Blocked if self.failed.is_some() => {}
                Step::Blocked => break Err(Error::HandshakeNotComplete),
            }
        };
        self.give_back();
        result
    }

    /// One step of the protocol. The records are always shown to it, also for a write: it remembers where in them it
    /// stopped.
    fn step(&mut self, wish: Wish<'_>, into: &mut [u8], count: &mut usize) -> Step {
        let records: &mut [u8] = match &mut self.input {
            Some(input) => input.filled_mut(),
            None => &mut [],
        };
        let mut plain = Plain { into, count, aside: &mut self.aside };
        let (discard, result) = match &mut self.side {
            Side::Server(connection) => {
                advance(connection.process_tls_records(records), wish, &mut plain, &mut self.output)
            }
            Side::Client(connection) => {
                advance(connection.process_tls_records(records), wish, &mut plain, &mut self.output)
            }
        };
        if let Some(input) = &mut self.input {
            input.consume(discard);
        }
        match result {
            Ok(Step::Ended) => {
                self.ended = true;
                // What comes behind the end is to be ignored (RFC 8446 6.1).
                self.input = None;
                Step::Ended
            }
            Ok(step) => step,
            Err(error) if self.failed.is_some() => Step::Written(Err(error)),
            Err(error) => {
                self.failed = Some(error);
                // The alert that tells the peer; the records must not be looked at again.
                while self.side.common().wants_write() {
                    self.step(Wish::Nothing, &mut [], &mut 0);
                }
                Step::Blocked
            }
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
