//! The real `podkit-proxy` between real sockets: what clients get, and what reaches a byte-recording origin.
#![expect(clippy::unwrap_used, reason = "a test's helper may fail the test")]

mod acceptance;
mod access_log;
mod bulk;
mod carrying;
mod command_line;
mod config_faults;
mod dns;
mod drain;
mod drains;
mod faults;
mod grpc;
mod http2;
mod http2_tls;
mod http2_upstream;
mod limits;
mod load;
mod proxy_protocol;
mod reference;
mod reload;
mod safety;
mod stop;
mod streaming;
mod support;
mod tcp;
mod telling;
mod tls;
mod upstreams;
mod workers;
