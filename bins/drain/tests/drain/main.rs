//! The real binary beside scripted neighbours and real sockets.

mod after_quiet;
mod config;
mod confined;
mod kernel;
mod leases;
mod lost_proxies;
mod several;
mod shown;
mod steps;
mod stuck;
mod support;
mod together;
mod traffic;
