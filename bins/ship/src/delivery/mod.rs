//! From a batch to an acknowledgement.
//!
//! ```text
//!   Batch ─► compress ─► Destination.send() ─► acknowledged: the catalog's position moves, the checkpoint is saved
//!                             │ refused: retried for ever, with jitter; nothing is read meanwhile
//! ```

mod compress;
mod destination;
mod pipeline;

pub(crate) use destination::Sink;
pub(crate) use pipeline::{Pipeline, Shared};
