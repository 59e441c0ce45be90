//! Waiting for what must be there first: each condition, met and not, and how a wait ends.

mod ends;
mod http;
mod kinds;
mod secrets;
