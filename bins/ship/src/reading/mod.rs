//! From bytes in files to a batch of records.
//!
//! ```text
//!   Generation ─► Reader (one a destination: its own cursors) ─► lines ─► record ─► Batch
//! ```
//!
//! Reads ahead of what is acknowledged, in memory only: a position moves nowhere but in the catalog.

mod batch;
mod lines;
mod reader;
mod record;

pub(crate) use batch::Batch;
pub(crate) use reader::{Filled, Reader};
