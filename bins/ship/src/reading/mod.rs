//! From bytes in files to a batch of events.
//!
//! ```text
//!   Generation ─► Reader (one a destination: its own cursors) ─► lines ─► groups ─► Teller ─► filter ─► Batch
//! ```
//!
//! Reads ahead of what is acknowledged, in memory only: a position moves nowhere but in the catalog.

mod batch;
mod filling;
mod group;
mod lines;
mod reader;
mod tell;
mod turn;

pub(crate) use batch::Batch;
pub(crate) use filling::{Filled, Limits};
pub(crate) use group::{Grouper, Next, Rest};
pub(crate) use reader::Reader;
pub(crate) use tell::{Teller, retell, told_again};
