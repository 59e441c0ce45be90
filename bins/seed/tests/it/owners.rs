//! Whose the files are: owners by number, volumes that hand their group down, and files of a user who may not link.
//! Where the tests do not run as root, only what any user may do is tested.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use nix::unistd::{getegid, geteuid};
use podkit_testkit::{Run, program};

use crate::kit::{Sandbox, is_possible};

/// The user and the group of the restricted profile's images.
const USER: u32 = 65532;

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

/// The binary as an ordinary user without capabilities, who owns the sandbox but not the target.
fn as_user(sandbox: &Sandbox, groups: &str) -> Run {
    chown(sandbox.path(""), Some(USER), None).unwrap();
    // The build's own directories may be closed to others.
    let binary = sandbox.path("podkit-seed");
    if !binary.exists() {
        fs::copy(env!("CARGO_BIN_EXE_podkit-seed"), &binary).unwrap();
    }
    let user = USER.to_string();
    program("setpriv")
        .args(["--reuid", &user, "--regid", &user, groups, "--inh-caps=-all", "--bounding-set=-all"])
        .arg(binary)
        .args([Path::new("--config"), &sandbox.path("seed.yaml")])
        .show(sandbox.path(""))
}

fn is_root() -> bool {
    is_possible("root", geteuid().is_root())
}

#[test]
fn an_owner_that_is_so_already_needs_no_right() {
    let sandbox = Sandbox::new();
    let me = format!("{}:{}", geteuid(), getegid());
    for layout in ["links", "plain"] {
        let yaml = format!("layout: {layout}\nfiles: [{{path: a, inline: a, owner: '{me}'}}]\n");
        sandbox.run(&yaml);
        let before = sandbox.picture();
        sandbox.run(&yaml);
        assert_eq!(sandbox.picture(), before);
    }
}

#[test]
fn files_are_given_to_their_owners_and_another_owner_is_a_change() {
    if !is_root() {
        return;
    }
    for layout in ["links", "plain"] {
        let sandbox = Sandbox::new();
        let yaml = format!(
            "layout: {layout}\nfiles:\n  - {{path: a, inline: a, owner: '1234:5678', mode: '0640'}}\n  - {{path: b, inline: b}}\n"
        );
        let owners = || ["a", "b"].map(|name| owner(sandbox.target().join(name)));
        sandbox.run(&yaml);
        assert_eq!((owners(), sandbox.mode("a")), ([(1234, 5678), (0, 0)], 0o640));
        let before = sandbox.picture();
        sandbox.run(&yaml);
        assert_eq!(sandbox.picture(), before);

        sandbox.run(&yaml.replace("1234", "4321")).expect_stderr("\"changed\":1");
        assert_eq!(owners(), [(4321, 5678), (0, 0)]);
    }
    // An owner that is no longer asked for is taken back.
    let sandbox = Sandbox::new();
    sandbox.run("files: [{path: a, inline: a, owner: '1234:5678'}]\n");
    sandbox.run("files: [{path: a, inline: a}]\n").expect_stderr("\"changed\":1");
    assert_eq!(owner(sandbox.target().join("a")), (0, 0));
}

#[test]
fn an_owner_that_may_not_be_set_is_told_with_what_would_help() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.config("files: [{path: a, inline: a, owner: '1234:5678'}]\n");
    let failed = as_user(&sandbox, "--clear-groups").expect_exit(1);
    assert_eq!(
        failed.stderr,
        "podkit-seed: cannot give \"a\" to 1234:5678: operation not permitted\n\
         hint: run as that user, or with CAP_CHOWN; or leave `owner` out and let the volume's `fsGroup` set the group\n"
    );
    assert!(!sandbox.target().exists());
}

/// As the kubelet leaves a volume with `fsGroup: 4444`: the group's, and setgid.
#[test]
fn on_a_volume_with_a_group_all_that_is_made_belongs_to_the_group() {
    if !is_root() {
        return;
    }
    for layout in ["links", "plain"] {
        let sandbox = Sandbox::new();
        fs::create_dir(sandbox.target()).unwrap();
        chown(sandbox.target(), Some(0), Some(4444)).unwrap();
        fs::set_permissions(sandbox.target(), Permissions::from_mode(0o2775)).unwrap();
        for word in ["one", "two"] {
            sandbox.config(&format!(
                "layout: {layout}\nfiles: [{{path: a, inline: {word}}}, {{path: d/e/b, inline: same}}]\n"
            ));
            // As in a pod, the group alone gives the right to write.
            as_user(&sandbox, "--groups=4444").expect_exit(0);
            for (path, mode) in [("a", 0o644), ("d", 0o2755), ("d/e", 0o2755), ("d/e/b", 0o644)] {
                let path = sandbox.target().join(path);
                let metadata = fs::metadata(&path).unwrap();
                assert_eq!(
                    (metadata.gid(), metadata.mode() & 0o7777),
                    (4444, mode),
                    "{layout}: {}",
                    path.display()
                );
            }
        }
        assert_eq!((sandbox.mode(""), owner(sandbox.target())), (0o2775, (0, 4444)));
    }
}

/// `fs.protected_hardlinks` forbids a second name for a file of another user that may not be written.
#[test]
fn an_unchanged_file_that_may_not_be_linked_is_copied_and_keeps_its_time() {
    let is_protected = fs::read_to_string("/proc/sys/fs/protected_hardlinks").unwrap().trim() != "0";
    if !is_root() || !is_possible("fs.protected_hardlinks", is_protected) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.run("files: [{path: a, inline: one}, {path: b, inline: same}]\n");
    chown(sandbox.target(), Some(USER), None).unwrap();
    let before = fs::metadata(sandbox.target().join("b")).unwrap();
    sandbox.config("files: [{path: a, inline: two}, {path: b, inline: same}]\n");
    // What root left cannot be removed: that is told, and is no failure.
    as_user(&sandbox, "--clear-groups").expect_exit(0).expect_stderr("cannot remove; it is no longer used");
    let after = fs::metadata(sandbox.target().join("b")).unwrap();
    assert_eq!((sandbox.read("a"), sandbox.read("b")), ("two".to_owned(), "same".to_owned()));
    assert_ne!(before.ino(), after.ino());
    assert_eq!((before.mtime(), before.mtime_nsec()), (after.mtime(), after.mtime_nsec()));
    assert_eq!(after.uid(), USER);
}
