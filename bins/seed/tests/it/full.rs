//! A volume that is full, at each place where something large comes to it: the run fails and says so, nothing is left
//! behind, and what was in force still is.
//!
//! The volume is a small tmpfs in a mount namespace of the test's own, which not all machines allow.

use std::process::Command;

use podkit_testkit::{Finished, program};

use crate::kit::{Sandbox, is_possible};
use crate::packed::{Tar, gzip};
use crate::server::{Answer, Server};

/// Room for a small generation, and for none of the large bodies.
const SIZE: &str = "2m";
/// Larger than what is kept in memory, and than the volume.
const LARGE: usize = 3 << 20;

/// What the directory holds and the disk has given, before and after a run that must fail; then a run with the old
/// config, which must find nothing to do.
const SCRIPT: &str = r#"
    set -e
    look() { cd "$1"; find . -mindepth 1 -printf '%y %m %i %s %p %l\n' | sort; stat -f -c '%f free %d inodes' .; cd /; }
    mount -t tmpfs -o "size=$3" none "$1"
    mkdir "$1/tmp"
    "$0" --config "$2/old.yaml" 2>/dev/null
    look "$1" > "$2/before"
    code=0
    TMPDIR="$1/tmp" "$0" --config "$2/seed.yaml" $4 || code=$?
    look "$1" > "$2/after"
    cat "$1/out/got"
    "$0" --config "$2/old.yaml" 2>&1 | grep -c '"message":"unchanged"' > "$2/unchanged"
    exit $code
"#;

fn unshare() -> podkit_testkit::Run {
    program("unshare").args(["--user", "--map-root-user", "--mount", "/bin/sh", "-c"])
}

fn can_mount(sandbox: &Sandbox) -> bool {
    // One that is not there cannot be run by the kit, whose tests need what they run.
    let is_there = Command::new("unshare").arg("--version").output().is_ok();
    let mount = || unshare().arg("mount -t tmpfs none \"$0\"").arg(sandbox.path("vol")).finish();
    is_possible("`unshare`, user and mount namespaces", is_there && mount().status.success())
}

/// Runs the config on the small volume, where it must fail with this code and these lines.
fn fails(sandbox: &Sandbox, files: &str, flags: &str, code: i32, text: &str) -> Finished {
    let head = "target: '@/vol/out'\ndeadline: 20s\n";
    sandbox.config(&format!("{head}files: [{{path: got, inline: old}}]\n"));
    std::fs::rename(sandbox.path("seed.yaml"), sandbox.path("old.yaml")).unwrap();
    sandbox.config(&format!("{head}files:\n- {{path: got, inline: new}}\n{files}"));
    let finished = unshare()
        .args([SCRIPT, env!("CARGO_BIN_EXE_podkit-seed")])
        .args([sandbox.path("vol"), sandbox.path("")])
        .args([SIZE, flags])
        .show(sandbox.path(""))
        .expect_exit(code);
    let text = text.replace('@', sandbox.path("").to_str().unwrap().trim_end_matches('/'));
    let finished = finished.expect_stderr(&text);
    let read = |name: &str| std::fs::read_to_string(sandbox.path(name)).unwrap();
    assert_eq!(read("after"), read("before"), "{}", finished.stderr);
    assert_eq!(finished.stdout, "old");
    assert_eq!(read("unchanged"), "2\n", "the file and the total");
    finished
}

#[test]
fn what_does_not_fit_is_told_with_its_place_and_leaves_all_as_it_was() {
    const HINT: &str = "hint: free space on the volume, or raise its `sizeLimit`\n";
    let sandbox = Sandbox::new();
    sandbox.write("vol/x", "");
    if !can_mount(&sandbox) {
        return;
    }
    let noise: Vec<u8> =
        (0..LARGE as u32 / 4).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    sandbox.write("large", &noise);
    let text = String::from_utf8(noise.iter().map(|byte| b'a' + byte % 16).collect()).unwrap();
    sandbox.write("large.txt", &text);
    let packed = gzip(&Tar::default().file("top/small", "x").file("top/large", &text).end());
    sandbox.write("packed", &packed);
    let server = Server::start(move |_, request| match request.path.as_str() {
        "/packed" => Answer::ok(packed.clone()),
        _ => Answer::ok(noise.clone()),
    });
    let (url, archive) = (server.url("/x"), server.url("/packed"));
    let no_room = |what: &str| format!("podkit-seed: {what}: no space left on device\n{HINT}");
    for (files, what) in [
        (
            "- {path: a, copy: '@/large'}\n",
            "cannot keep a copy of \"@/large\" on the volume of \"@/vol/out\"",
        ),
        (
            &format!("- {{path: a, url: '{url}', unverified: true}}\n"),
            &format!("cannot download {url}: cannot keep it on the volume of \"@/vol/out\""),
        ),
        (
            "- {path: a/, archive: '@/packed'}\n",
            "cannot keep \"top/large\" of the archive on the volume of \"@/vol/out\"",
        ),
        (
            &format!("- {{path: a/, archive: '{archive}', unverified: true}}\n"),
            // The archive itself is kept first, and takes most of the room.
            "cannot keep \"top/large\" of the archive on the volume of \"@/vol/out\"",
        ),
        ("- {path: a, template: '@/large.txt'}\n", "cannot write \"@/vol/out/a\""),
    ] {
        fails(&sandbox, files, "", 1, &no_room(what));
    }
    // A dry run keeps it where temporary files go.
    let files = "- {path: a, copy: '@/large'}\n";
    let what = "cannot keep a copy of \"@/large\" on the volume of \"@/vol/tmp\"";
    fails(&sandbox, files, "--dry-run", 1, &no_room(what));
    assert_eq!(server.count(), 2, "it would be full the next time, too");
}
