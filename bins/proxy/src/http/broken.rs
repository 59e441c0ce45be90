//! Why an exchange broke, told from the failure of a connection or of a body.

use super::body::BadBody;
use super::refusal::Refusal;
use super::response::BadResponse;
use crate::io::Stall;

/// Why an exchange broke.
#[derive(Debug)]
pub(super) enum Broken {
    /// The upstream closed or reset the connection.
    Upstream,
    /// The upstream did nothing with the request, and says so.
    Unseen,
    /// The upstream gave up this request alone: its connection lives.
    Reset,
    /// The upstream took or gave nothing in time.
    Timeout,
    /// The upstream's answer cannot be understood.
    Answer(BadResponse),
    /// The client is gone.
    Client,
    /// The client's body breaks a rule.
    Refused(Refusal),
}

pub(super) fn upstream_broke(stall: Stall) -> Broken {
    match stall {
        Stall::Timeout => Broken::Timeout,
        Stall::Broken(error) => match inner(&error) {
            Some(inner) if is_unseen(inner) => Broken::Unseen,
            Some(inner) if inner.is_reset() => Broken::Reset,
            _ => Broken::Upstream,
        },
    }
}

fn inner(error: &std::io::Error) -> Option<&h2::Error> {
    error.get_ref()?.downcast_ref()
}

/// Whether an HTTP/2 upstream has done nothing with a stream: it was refused, or came behind the last one that a
/// connection on its way out still serves (RFC 9113 8.7).
fn is_unseen(error: &h2::Error) -> bool {
    match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => error.is_remote(),
        Some(h2::Reason::NO_ERROR) => error.is_go_away() && error.is_remote(),
        _ => false,
    }
}

/// The client's body breaks a rule.
pub(super) fn refused(bad: BadBody) -> Broken {
    Broken::Refused(match bad {
        BadBody::Framing => Refusal::Chunk,
        BadBody::TooLarge => Refusal::BodyTooLarge,
    })
}

/// The answer's does.
pub(super) fn bad_body() -> Broken {
    Broken::Answer(BadResponse("its chunked body is malformed"))
}
