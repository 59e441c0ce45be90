//! Why a request is not carried: the answer's status, and the reason as the metrics count it.

use std::time::Duration;

use crate::guard::TooEarly;

/// A request that we refuse, by the rule it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not `METHOD target HTTP/1.x`.
    RequestLine,
    /// A version other than 1.0 and 1.1.
    Version,
    /// CONNECT: this is no forward proxy.
    Connect,
    /// TRACE: its answer would show the client what proxies have added.
    Trace,
    /// An OPTIONS that may go no further (RFC 9110 7.6.2), and we have none to tell.
    MaxForwards,
    /// A line that ends in LF alone (RFC 9112 2.2 allows it, and two servers may disagree).
    BareLf,
    /// A NUL within the head.
    Nul,
    /// A field continued on a second line (RFC 9112 5.2).
    FoldedField,
    /// White space before the colon (RFC 9112 5.1).
    SpaceBeforeColon,
    /// Any other malformed field.
    Field,
    HeadTooLarge,
    TooManyFields,
    /// No Host in HTTP/1.1 (RFC 9112 3.2).
    HostMissing,
    HostDuplicate,
    HostInvalid,
    /// The target names another host than the Host field.
    HostMismatch,
    /// A Content-Length that is no number, or a list.
    LengthInvalid,
    LengthDuplicate,
    /// Content-Length together with Transfer-Encoding (RFC 9112 6.1).
    LengthWithEncoding,
    /// A Transfer-Encoding other than exactly `chunked`, or in HTTP/1.0.
    Encoding,
    /// A Connection field that names framing or routing, or too many fields.
    ConnectionOption,
    /// An expectation other than `100-continue` (RFC 9110 10.1.1).
    Expectation,
    /// Malformed chunked framing, trailers included.
    Chunk,
    BodyTooLarge,
    /// The head did not come in time.
    HeaderTimeout,
    /// The body stalled.
    BodyTimeout,
    /// The client does not take its answer; it cannot be told.
    Unread,
    /// All clients of the listener together ask too often.
    Rate(Seconds),
    /// This client asks too often.
    PeerRate(Seconds),
    /// As many requests wait for their turn as may.
    QueueFull,
    /// The turn did not come in time.
    QueueTimeout,
}

/// How long to wait before a retry, rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seconds(u64);

impl From<TooEarly> for Refusal {
    fn from(early: TooEarly) -> Self {
        let seconds = |wait: Duration| Seconds(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        match early {
            TooEarly::Rate { retry } => Self::Rate(seconds(retry)),
            TooEarly::PeerRate { retry } => Self::PeerRate(seconds(retry)),
        }
    }
}

impl Refusal {
    /// The status of the answer.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Version => 505,
            Self::Connect | Self::Trace | Self::MaxForwards => 501,
            Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::BodyTooLarge => 413,
            Self::Expectation => 417,
            Self::HeaderTimeout | Self::BodyTimeout | Self::Unread => 408,
            Self::PeerRate(_) => 429,
            Self::Rate(_) | Self::QueueFull | Self::QueueTimeout => 503,
            _ => 400,
        }
    }

    /// The label of `podkit_proxy_refused_requests_total`.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::RequestLine => "request_line",
            Self::Version => "version",
            Self::Connect => "connect_method",
            Self::Trace => "trace_method",
            Self::MaxForwards => "max_forwards",
            Self::BareLf => "bare_lf",
            Self::Nul => "nul",
            Self::FoldedField => "folded_field",
            Self::SpaceBeforeColon => "space_before_colon",
            Self::Field => "field",
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyFields => "too_many_fields",
            Self::HostMissing => "host_missing",
            Self::HostDuplicate => "host_duplicate",
            Self::HostInvalid => "host_invalid",
            Self::HostMismatch => "host_mismatch",
            Self::LengthInvalid => "length_invalid",
            Self::LengthDuplicate => "length_duplicate",
            Self::LengthWithEncoding => "length_with_encoding",
            Self::Encoding => "transfer_encoding",
            Self::ConnectionOption => "connection_option",
            Self::Expectation => "expectation",
            Self::Chunk => "chunk",
            Self::BodyTooLarge => "body_too_large",
            Self::HeaderTimeout => "header_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::Unread => "write_timeout",
            Self::Rate(_) => "rate",
            Self::PeerRate(_) => "peer_rate",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
        }
    }

    /// After how many seconds the client may try again, where that would help.
    pub(crate) fn retry_after(self) -> Option<u64> {
        match self {
            Self::Rate(Seconds(wait)) | Self::PeerRate(Seconds(wait)) => Some(wait),
            Self::QueueFull | Self::QueueTimeout => Some(1),
            _ => None,
        }
    }

    /// What the client is told.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::RequestLine => "the request line is malformed",
            Self::Version => "only HTTP/1.0 and HTTP/1.1 are spoken here",
            Self::Connect => "CONNECT is not offered",
            Self::Trace => "TRACE is not offered",
            Self::MaxForwards => "OPTIONS of this hop are not offered",
            Self::BareLf => "a line ends without a carriage return",
            Self::Nul => "the head has a NUL in it",
            Self::FoldedField => "a field is folded over two lines",
            Self::SpaceBeforeColon => "a field name ends in white space",
            Self::Field => "a field is malformed",
            Self::HeadTooLarge => "the head is too large",
            Self::TooManyFields => "the head has too many fields",
            Self::HostMissing => "the Host field is missing",
            Self::HostDuplicate => "there is more than one Host field",
            Self::HostInvalid => "the Host field is malformed",
            Self::HostMismatch => "the target and the Host field name different hosts",
            Self::LengthInvalid => "the Content-Length is malformed",
            Self::LengthDuplicate => "there is more than one Content-Length",
            Self::LengthWithEncoding => "Content-Length and Transfer-Encoding exclude each other",
            Self::Encoding => "the only Transfer-Encoding taken is chunked, in HTTP/1.1",
            Self::ConnectionOption => "the Connection field names what it must not",
            Self::Expectation => "the only expectation known is 100-continue",
            Self::Chunk => "the chunked body is malformed",
            Self::BodyTooLarge => "the body is too large",
            Self::HeaderTimeout => "the head did not come in time",
            Self::BodyTimeout => "the body did not come in time",
            Self::Unread => "the answer was not taken in time",
            Self::Rate(_) => "too many requests from all clients together",
            Self::PeerRate(_) => "too many requests from this client",
            Self::QueueFull | Self::QueueTimeout => "too many requests are in flight",
        }
    }
}
