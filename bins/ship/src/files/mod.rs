//! Which files there are, and which bytes belong to which.
//!
//! ```text
//!   pattern ─► catalog.scan() ─► Generation (device + inode + fingerprint + position)
//!   watch ───► wake             ─► followed until read to its end, under whatever name
//! ```
//!
//! Owns the identity of files. It reads fingerprints, never log lines, and delivers nothing.

mod admission;
mod catalog;
mod fingerprint;
mod generation;
mod key;
mod listing;
mod pattern;
mod space;
mod volume;
mod watch;
mod writers;

pub(crate) use catalog::{Catalog, Held};
pub(crate) use fingerprint::Fingerprint;
pub(crate) use generation::Generation;
pub(crate) use pattern::{Exclude, Include};
pub(crate) use space::skip_hole;
pub(crate) use watch::{Wake, Watch};
pub(crate) use writers::is_open_for_writing;
