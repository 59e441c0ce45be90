//! From events to acknowledgements.
//!
//! ```text
//!   Batch ─► Format.body() ─► Encoder ─► Sink ─► Format.judge() ─► delivered: positions move, the checkpoint is saved
//!     ▲                                              │ later: again, alone, for ever, with jitter
//!     └──────────── halved, or only some ────────────┤ too large, or refused and nobody knows which: in halves
//!                                                    └ refused for good: dead letters
//! ```

mod compress;
mod concurrency;
mod control;
mod dead_letters;
mod deliver;
mod format;
mod open;
mod pipeline;
mod shared;
mod sink;
mod transport;

pub(crate) use control::Control;
pub(crate) use dead_letters::{DeadLetter, DeadLetters, read as read_letters, take as take_letters};
pub(crate) use deliver::Deliverer;
pub(crate) use format::{AnyFormat, AnyPrepared, Format, Framing, Index, Json, Label, Origin, each_member};
pub(crate) use open::{format, open};
pub(crate) use pipeline::Pipeline;
pub(crate) use shared::Shared;
