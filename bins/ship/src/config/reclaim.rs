//! What becomes of bytes on disk once every destination has acknowledged them.

use podkit_cli::{Invalid, Item, Section, units};
use serde_json::{Value, json};

/// What stays of a live file behind what is acknowledged, for who reads it by hand.
const DEFAULT_KEEP: u64 = 1 << 20;
/// What deleted files that are not delivered yet may hold on disk: they have no name any more, so nobody sees what
/// fills the volume.
pub(super) const DEFAULT_DELETED: u64 = 1 << 30;

/// What is given back to the volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Reclaim {
    #[default]
    Off,
    /// Rotated files are removed once they are acknowledged to their end and get no more bytes.
    DeleteRotated,
    /// Acknowledged ranges of live files are freed, but for the last `keep` bytes.
    Punch { keep: u64 },
}

const NAMES: &[(&str, Reclaim)] = &[
    ("off", Reclaim::Off),
    ("delete-rotated", Reclaim::DeleteRotated),
    ("punch", Reclaim::Punch { keep: DEFAULT_KEEP }),
];

/// `reclaim: off`, `delete-rotated`, `punch`, or `{punch: {keep: 16MiB}}`.
pub(super) fn read(section: &Section<'_>) -> Reclaim {
    let faults = section.fault_count();
    match section.item("reclaim") {
        Some(Item::Section(shape)) if shape.keys().eq(["punch"]) => {
            Reclaim::Punch { keep: shape.section("punch").value_or("keep", units::size, DEFAULT_KEEP) }
        }
        Some(Item::Section(shape)) => {
            let hint =
                "write `reclaim: delete-rotated`, `reclaim: punch` or `reclaim: {punch: {keep: 16MiB}}`";
            shape.fault_here(Invalid::new("must be one way to reclaim").hint(hint));
            shape.keys().for_each(|key| drop(shape.json(key)));
            Reclaim::Off
        }
        // It has another shape, which is a fault already.
        None if section.fault_count() > faults => Reclaim::Off,
        Some(Item::Text(_)) | None => section.value_or("reclaim", units::choice(NAMES), Reclaim::Off),
    }
}

impl Reclaim {
    pub(super) fn effective(self) -> Value {
        match self {
            Self::Off => json!("off"),
            Self::DeleteRotated => json!("delete-rotated"),
            Self::Punch { keep } => json!({"punch": {"keep": units::show_size(keep)}}),
        }
    }
}
