//! A proxy under test, an origin that records every byte, and a client that reads whole responses.

pub(crate) mod authority;
mod client;
mod dns;
pub(crate) mod frames;
pub(crate) mod h2;
pub(crate) mod h2_origin;
pub(crate) mod load;
mod origin;
mod proxy;
pub(crate) mod strict;

pub(crate) use client::Client;
pub(crate) use dns::{Dns, Mood};
pub(crate) use origin::{Origin, ok};
pub(crate) use proxy::Proxy;

use std::time::Duration;

/// How long a socket of a test waits: a hang becomes a failure, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes that repeat nowhere near, so that a lost or doubled piece shows.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}
