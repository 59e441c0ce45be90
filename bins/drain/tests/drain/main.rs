//! The real binary beside scripted neighbours and real sockets.

mod config;
mod steps;
mod support;
mod traffic;
