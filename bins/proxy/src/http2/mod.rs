//! HTTP/2, at the edges: the `h2` crate speaks it, and each stream is a [`Wire`](crate::wire::Wire) that speaks
//! HTTP/1.1 to the relay.
//!
//! ```text
//!   client ═► server ─► a stream: to_text ─► incoming ─► relay ─► a Wire to the upstream
//!          ◄═          ◄─ outgoing ◄─ from_text ◄─────── relay ◄─
//! ```
//!
//! So every rule, limit, retry, log line and number is the relay's. `to_text` and `from_text` are pure.

mod client;
mod from_text;
mod incoming;
mod io;
mod outgoing;
mod resets;
mod server;
mod to_text;

pub(crate) use client::Shared;
pub(crate) use from_text::{request, response};
pub(crate) use incoming::{Incoming, broken};
pub(crate) use outgoing::Outgoing;
pub(crate) use resets::Resets;
pub(crate) use server::{Streams, serve};
pub(crate) use to_text::{Framing, response_head};

/// What a client with prior knowledge sends first, up to the blank line that ends an HTTP/1.1 head (RFC 9113 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
