//! `layout: plain`: real files, each whole at every moment, and only what differs is written.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::kit::{Sandbox, picture};

const STATE: &str = "..podkit-seed.json";

fn plain(files: &str) -> String {
    format!("layout: plain\nfiles: [{files}]\n")
}

const ONE: &str = "{path: a, inline: one}, {path: d/e/b, inline: one, mode: '0600'}, {path: same, inline: x}";

#[test]
fn real_files_are_put_in_place_and_the_same_again_writes_nothing() {
    let sandbox = Sandbox::new();
    sandbox.run(&plain(ONE));
    assert_eq!(sandbox.names(), [STATE, "a", "d", "same"]);
    for name in ["a", "d/e/b", "same"] {
        assert!(sandbox.target().join(name).symlink_metadata().unwrap().is_file(), "{name}");
    }
    assert_eq!(
        ["a", "d/e/b", "d", "d/e", STATE].map(|name| sandbox.mode(name)),
        [0o644, 0o600, 0o755, 0o755, 0o600]
    );
    let before = sandbox.picture();
    sandbox.run(&plain(ONE)).expect_stderr("\"message\":\"unchanged\"");
    assert_eq!(sandbox.picture(), before);
}

#[test]
fn only_a_file_that_differs_is_replaced() {
    let sandbox = Sandbox::new();
    sandbox.run(&plain(ONE));
    let inode = |name: &str| fs::metadata(sandbox.target().join(name)).unwrap().ino();
    let before = ["a", "d/e/b", "same"].map(inode);
    sandbox.run(&plain(&ONE.replacen("one", "two", 1)));
    let after = ["a", "d/e/b", "same"].map(inode);
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1..], after[1..]);
    assert_eq!((sandbox.read("a"), sandbox.read("d/e/b")), ("two".to_owned(), "one".to_owned()));

    // A mode alone is a difference, too.
    sandbox.run(&plain(&ONE.replacen("one", "two", 1).replace("0600", "0640")));
    assert_eq!(sandbox.mode("d/e/b"), 0o640);
}

#[test]
fn what_is_no_longer_listed_goes_with_its_directories_and_what_others_put_there_stays() {
    let sandbox = Sandbox::new();
    fs::create_dir_all(sandbox.target().join("theirs")).unwrap();
    sandbox.run(&plain(
        "{path: a, inline: a}, {path: d/e/b, inline: b}, {path: f/c, inline: c}, {path: theirs/x, inline: x}",
    ));
    sandbox.write("out/f/theirs", "keep");
    sandbox.write("out/new", "keep");
    sandbox.run(&plain("{path: n, inline: n}"));
    assert_eq!(sandbox.names(), [STATE, "f", "n", "new", "theirs"]);
    assert_eq!((sandbox.names_in("f"), sandbox.names_in("theirs")), (vec!["theirs".to_owned()], vec![]));

    sandbox.run(&plain(""));
    assert_eq!(sandbox.names(), ["f", "new", "theirs"]);
}

#[test]
fn a_file_may_become_a_directory_and_back() {
    let sandbox = Sandbox::new();
    sandbox.run(&plain("{path: a, inline: file}"));
    sandbox.run(&plain("{path: a/b/c, inline: inside}"));
    assert_eq!(sandbox.read("a/b/c"), "inside");
    sandbox.run(&plain("{path: a, inline: file}"));
    assert_eq!(sandbox.read("a"), "file");
    assert_eq!(sandbox.names(), [STATE, "a"]);
}

#[test]
fn a_regular_file_of_others_is_replaced_and_what_else_is_in_the_way_is_told() {
    let sandbox = Sandbox::new();
    sandbox.write("outside/file", "precious");
    sandbox.write("out/a", "their default");
    sandbox.run(&plain("{path: a, inline: ours}"));
    assert_eq!(sandbox.read("a"), "ours");

    sandbox.write("out/dir/theirs", "theirs");
    sandbox.link("out/link", sandbox.path("outside/file"));
    sandbox.link("out/up", sandbox.path("outside"));
    let (inside, outside) = (sandbox.picture(), picture(&sandbox.path("outside"), true));
    for (path, what) in [
        ("dir", "\"dir\": a directory"),
        ("link", "\"link\": a link to"),
        ("up/file", "\"up\": a link to"),
        ("up/new/file", "\"up\": a link to"),
        ("dir/theirs/x", "\"dir/theirs\": a file"),
    ] {
        sandbox.config(&plain(&format!("{{path: a, inline: new}}, {{path: {path}, inline: x}}")));
        let what = what.replacen('"', &format!("cannot use \"{}/", sandbox.target().display()), 1);
        sandbox
            .seed()
            .expect_exit(1)
            .expect_stderr(&what)
            .expect_stderr("that podkit-seed did not make is in the way");
        assert_eq!(sandbox.picture(), inside, "{path}");
    }
    assert_eq!(picture(&sandbox.path("outside"), true), outside);
}

#[test]
fn a_hard_link_to_a_file_elsewhere_is_replaced_and_that_file_stays_as_it_is() {
    let sandbox = Sandbox::new();
    let outside = sandbox.write("outside/file", "precious");
    fs::create_dir(sandbox.target()).unwrap();
    fs::hard_link(&outside, sandbox.target().join("a")).unwrap();
    sandbox.run(&plain("{path: a, inline: ours, mode: '0600'}"));
    assert_eq!(
        (sandbox.read("a"), fs::read_to_string(&outside).unwrap()),
        ("ours".to_owned(), "precious".to_owned())
    );
    assert_eq!(fs::metadata(&outside).unwrap().mode() & 0o777, 0o644);
}

#[test]
fn a_failure_before_the_first_rename_leaves_all_as_it_was() {
    let sandbox = Sandbox::new();
    sandbox.run(&plain(ONE));
    let before = sandbox.picture_inside();
    sandbox.config(&plain(&format!("{{path: a, inline: two}}, {{path: z, inline: {}}}", "x".repeat(4096))));
    sandbox.seed_after("trap '' XFSZ; ulimit -f 1").expect_exit(1);
    assert_eq!(sandbox.picture_inside(), before);

    let sandbox = Sandbox::new();
    sandbox.config(&plain(&format!("{{path: z, inline: {}}}", "x".repeat(4096))));
    sandbox.seed_after("trap '' XFSZ; ulimit -f 1").expect_exit(1);
    assert!(!sandbox.target().exists());
}

#[test]
fn the_layout_may_change_both_ways_and_leaves_nothing_of_the_other() {
    let sandbox = Sandbox::new();
    let links = |files: &str| format!("files: [{files}]\n");
    let two = "{path: a, inline: one}, {path: d/f, inline: two}, {path: n/m, inline: two}";
    sandbox.run(&links(ONE));
    for _ in 0..2 {
        sandbox.write("out/theirs", "keep");
        let inode = fs::metadata(sandbox.target().join("a")).unwrap().ino();
        sandbox.run(&plain(two));
        assert_eq!(sandbox.names(), [STATE, "a", "d", "n", "theirs"]);
        assert_eq!((sandbox.names_in("d"), sandbox.read("d/f")), (vec!["f".to_owned()], "two".to_owned()));
        assert_eq!(
            fs::symlink_metadata(sandbox.target().join("a")).unwrap().ino(),
            inode,
            "it was written again"
        );

        sandbox.run(&links(ONE));
        assert_eq!(sandbox.names(), ["..GENERATION", "..data", "a", "d", "same", "theirs"]);
        assert_eq!((sandbox.read("a"), sandbox.read("d/e/b")), ("one".to_owned(), "one".to_owned()));
        assert!(sandbox.target().join("a").is_symlink() && sandbox.target().join("d").is_symlink());
        assert_eq!(fs::metadata(sandbox.target().join("a")).unwrap().ino(), inode, "it was written again");
    }
}

#[test]
fn a_directory_that_holds_files_of_others_does_not_become_a_link() {
    let sandbox = Sandbox::new();
    sandbox.run(&plain("{path: d/a, inline: a}"));
    sandbox.write("out/d/theirs", "keep");
    let before = sandbox.picture();
    sandbox.config("files: [{path: d/a, inline: b}]\n");
    sandbox.seed().expect_exit(1).expect_stderr("/out/d\": a directory that podkit-seed did not make");
    assert_eq!(sandbox.picture(), before);
}

#[test]
fn a_state_that_is_of_no_use_is_told_and_ends_no_run() {
    let sandbox = Sandbox::new();
    sandbox.run(&plain(ONE));
    for broken in ["", "{", "7", "{\"files\": {\"../../etc/passwd\": 1}}"] {
        sandbox.write(&format!("out/{STATE}"), broken);
        sandbox.run(&plain(ONE)).expect_stderr("cannot use what the last run remembered; going on without");
        sandbox.run(&plain(ONE)).refuse_stderr("remembered");
    }
    // Not even one that would lead elsewhere.
    let outside = sandbox.write("outside", "precious");
    fs::remove_file(sandbox.target().join(STATE)).unwrap();
    sandbox.link(&format!("out/{STATE}"), &outside);
    sandbox.run(&plain(ONE)).expect_stderr("going on without");
    assert_eq!(fs::read_to_string(outside).unwrap(), "precious");
    assert_eq!(sandbox.names(), [STATE, "a", "d", "same"]);
    // Whose the directories are is not known any more.
    sandbox.run(&plain(""));
    assert_eq!((sandbox.names(), sandbox.names_in("d/e")), (vec!["d".to_owned()], vec![]));
}

#[test]
fn names_that_are_no_text_are_remembered_as_they_are() {
    use std::os::unix::ffi::OsStringExt as _;
    let sandbox = Sandbox::new();
    let name = std::ffi::OsString::from_vec(b"50%\xff\t".to_vec());
    sandbox.write("in/a", "a");
    fs::write(sandbox.path("in").join(&name), "b").unwrap();
    let yaml = "layout: plain\nfiles: [{path: all/, copy: '@/in'}]\n";
    sandbox.run(yaml);
    assert_eq!(fs::read(sandbox.target().join("all").join(&name)).unwrap(), b"b");
    let before = sandbox.picture();
    sandbox.run(yaml);
    assert_eq!(sandbox.picture(), before);
    fs::remove_file(sandbox.path("in").join(&name)).unwrap();
    sandbox.run(yaml);
    assert_eq!(sandbox.names_in("all"), ["a"]);
}
