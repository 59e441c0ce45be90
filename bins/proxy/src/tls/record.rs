//! One step of a session: what rustls asks for next, and plain bytes from and into records.

use std::collections::VecDeque;
use std::rc::Rc;

use rustls::Error;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus,
    WriteTraffic,
};

use crate::buffer::{Buffer, Buffers, Lent};

/// The most plain bytes in one record (RFC 8446 5.1).
const RECORD: usize = 16 * 1024;

/// What a buffer for records holds: the largest record of any version with its header and tag (RFC 5246 6.2.3), and
/// some of what is behind it.
pub(super) const BUFFER: usize = 20 * 1024;

/// What a record is longer than its plain bytes, at most, of the ciphers that we speak.
const OVERHEAD: usize = 64;

/// Plain bytes in two places become one record if they are no more than this: else the copy costs more than a record.
const JOINED: usize = 4 * 1024;

thread_local! {
    /// A worker's stock.
    static STOCK: Rc<Buffers> = Rc::new(Buffers::of_size(BUFFER));
}

pub(super) fn lend() -> Lent {
    STOCK.with(Buffers::lend)
}

/// What one step came to.
pub(super) enum Step {
    /// Another may follow at once.
    Again,
    /// The peer has ended its direction.
    Ended,
    /// More must arrive first.
    Blocked,
    /// What was to be written is, as far as it fits.
    Written(Result<usize, Error>),
}

/// What is to be done when the connection can be written.
#[derive(Clone, Copy)]
pub(super) enum Wish<'a> {
    Nothing,
    Write([&'a [u8]; 2]),
    Close,
}

/// Where decrypted bytes go: to the reader as far as it has room, the rest aside.
pub(super) struct Plain<'a> {
    pub(super) into: &'a mut [u8],
    pub(super) count: &'a mut usize,
    pub(super) aside: &'a mut VecDeque<Vec<u8>>,
}

impl Plain<'_> {
    fn push(&mut self, bytes: &[u8]) {
        let space = &mut self.into[*self.count..];
        let (fits, rest) = bytes.split_at(bytes.len().min(space.len()));
        space[..fits.len()].copy_from_slice(fits);
        *self.count += fits.len();
        if !rest.is_empty() {
            self.aside.push_back(rest.to_vec());
        }
    }
}

/// Does what a state asks for. Gives how many bytes of the records are done with.
pub(super) fn advance<D>(
    status: UnbufferedStatus<'_, '_, D>,
    wish: Wish<'_>,
    plain: &mut Plain<'_>,
    output: &mut Option<Lent>,
) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = state.and_then(|state| match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                discard += record.discard;
                plain.push(record.payload);
            }
            Ok(Step::Again)
        }
        ConnectionState::EncodeTlsData(message) => {
            encode(message, output.get_or_insert_with(lend)).map(|()| Step::Again)
        }
        ConnectionState::TransmitTlsData(transmit) => {
            // It waits in `output`, and nothing is sent before it.
            transmit.done();
            Ok(Step::Again)
        }
        ConnectionState::WriteTraffic(traffic) => Ok(match wish {
            Wish::Nothing => Step::Blocked,
            Wish::Write(spans) => Step::Written(seal(traffic, spans, output.get_or_insert_with(lend))),
            Wish::Close => Step::Written(say_closed(traffic, output.get_or_insert_with(lend))),
        }),
        ConnectionState::PeerClosed => Ok(Step::Ended),
        ConnectionState::BlockedHandshake | ConnectionState::Closed => Ok(Step::Blocked),
        // Early data could be replayed, so it is never offered.
        _ => Err(Error::General("early data was not asked for".to_owned())),
    });
    (discard, step)
}

fn encode<D>(mut message: EncodeTlsData<'_, D>, output: &mut Buffer) -> Result<(), Error> {
    let mut encoded = message.encode(output.space());
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = encoded {
        output.reserve(required_size);
        encoded = message.encode(output.space());
    }
    let length = encoded.map_err(|error| Error::General(error.to_string()))?;
    output.fill(length);
    Ok(())
}

/// Encrypts spans into as few records as may be.
fn seal<D>(mut traffic: WriteTraffic<'_, D>, spans: [&[u8]; 2], output: &mut Buffer) -> Result<usize, Error> {
    let [first, second] = spans;
    let total = first.len() + second.len();
    let mut joined;
    let spans = if !first.is_empty() && !second.is_empty() && total <= JOINED {
        joined = [0; JOINED];
        joined[..first.len()].copy_from_slice(first);
        joined[first.len()..total].copy_from_slice(second);
        [&joined[..total], &[]]
    } else {
        spans
    };
    let mut count = 0;
    for mut span in spans {
        while !span.is_empty() {
            let room = output.space().len().saturating_sub(OVERHEAD);
            if count > 0 && room < span.len().min(1024) {
                return Ok(count);
            }
            let (record, rest) = span.split_at(span.len().min(RECORD).min(room.max(1024)));
            let length = grow_for(output, |space| traffic.encrypt(record, space))?;
            output.fill(length);
            count += record.len();
            span = rest;
        }
    }
    Ok(count)
}

fn say_closed<D>(mut traffic: WriteTraffic<'_, D>, output: &mut Buffer) -> Result<usize, Error> {
    let length = grow_for(output, |space| traffic.queue_close_notify(space))?;
    output.fill(length);
    Ok(0)
}

fn grow_for(
    output: &mut Buffer,
    mut encrypt: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<usize, Error> {
    let mut encrypted = encrypt(output.space());
    if let Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) = encrypted {
        output.reserve(required_size);
        encrypted = encrypt(output.space());
    }
    encrypted.map_err(|error| Error::General(error.to_string()))
}
