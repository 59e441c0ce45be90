//! A proxy under test, an origin that records every byte, and a client that reads whole responses.

mod client;
mod origin;
mod proxy;

pub(crate) use client::Client;
pub(crate) use origin::{Origin, ok};
pub(crate) use proxy::Proxy;

use std::time::Duration;

/// How long a socket of a test waits: a hang becomes a failure, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
