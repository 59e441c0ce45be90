//! podkit-ship as a process: real files, real receivers, real signals.

#![expect(clippy::unwrap_used, reason = "a panic fails the test, as it should")]

mod backends;
mod config;
mod delivering;
mod disk;
mod elasticsearch;
mod faults;
mod filters;
mod following;
mod formats;
mod kills;
mod kills_elasticsearch;
mod life;
mod loki;
mod otlp;
mod plain;
mod receiver;
mod reclaim;
mod reload;
mod resend;
mod returning;
mod sample;
mod setup;
mod splunk;
mod stalls;
mod throttling;
mod transport;
