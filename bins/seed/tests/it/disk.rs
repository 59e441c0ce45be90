//! What must be on the disk before what: a power cut cannot be had in a test, the order of fsync and rename can.

use std::path::Path;

use podkit_testkit::Recorder;

use crate::kit::{Sandbox, generation};

/// The calls of one run, in order.
fn calls(sandbox: &Sandbox) -> Vec<String> {
    let recorder = Recorder::build(&sandbox.path(""));
    let _ = recorder.attach(sandbox.seed()).expect_exit(0);
    recorder.calls()
}

#[test]
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
fn all_is_on_the_disk_before_the_switch_and_the_switch_before_the_end() {
    let sandbox = Sandbox::new();
    for word in ["one", "two"] {
        sandbox
            .config(&format!("files:\n  - {{path: a, inline: {word}}}\n  - {{path: d/b, inline: {word}}}\n"));
        let calls = calls(&sandbox);
        let target = sandbox.target().canonicalize().unwrap();
        let new = target.join(generation(&target));
        let synced = |path: &Path| format!("fsync {}", path.display());
        let switch = calls.iter().position(|call| call == "rename ..data_tmp ..data").expect("no switch");
        for path in [new.join("a"), new.join("d/b"), new.join("d"), new.clone(), target.clone()] {
            assert!(calls[..switch].contains(&synced(&path)), "not before the switch: {path:?}\n{calls:#?}");
        }
        assert!(calls[switch..].contains(&synced(&target)), "the switch is not on the disk\n{calls:#?}");
    }
}
