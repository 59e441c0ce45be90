//! The same kills with a backend that knows each event by its id: nothing is lost and nothing is there twice.

use crate::backends::elasticsearch::{Elasticsearch, ItemFate};
use crate::kills::{BATCH, assert_none_lost, under_kills};
use crate::setup::Volume;

#[test]
fn a_hundred_kills_make_no_duplicate() {
    let (volume, cluster) = (Volume::new(), Elasticsearch::start());
    cluster.with(|cluster| {
        cluster.data_stream("logs-app-default");
        // Now and then an item is refused for now.
        cluster.items((0..20_000).map(|item| match item % 290 {
            3 => ItemFate::Throttle,
            170 => ItemFate::Unavailable,
            _ => ItemFate::Take,
        }));
    });
    let destination = format!("elasticsearch: {{url: \"{}\", index: logs-app-default}}", cluster.url());
    let batch = BATCH.to_string();
    let total =
        under_kills(&volume, &cluster, || volume.configured(&destination).0.args(["--batch-lines", &batch]));
    let messages = cluster.messages();
    assert_none_lost(total, &messages);
    assert_eq!(messages.len(), total, "each line once");
    cluster.with(|cluster| {
        assert!(cluster.clashes().is_empty(), "{:?}", cluster.clashes());
        assert!(cluster.refused_items().is_empty(), "{:?}", cluster.refused_items());
    });
    assert!(volume.dead_letters().is_empty());
}
