//! What others planted in the target is never followed and never touched.

use std::fs;

use crate::kit::{Sandbox, generation, picture};

const GENERATION: &str = "..2026_01_02_03_04_05.000000006";

/// A sandbox with a directory outside the target that must stay as it is.
fn with_outside() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("outside/file", "precious");
    sandbox.write("outside/sub/file", "precious");
    fs::create_dir(sandbox.target()).unwrap();
    sandbox
}

/// Runs `yaml`, which must be refused with exactly this message and leave both sides untouched.
fn refused(sandbox: &Sandbox, yaml: &str, name: &str, what: &str) {
    let (outside, inside) = (picture(&sandbox.path("outside"), true), sandbox.picture());
    sandbox.config(yaml);
    let failed = sandbox.seed().expect_exit(1);
    assert_eq!(
        failed.stderr,
        format!(
            "podkit-seed: cannot use {:?}: {what} that podkit-seed did not make is in the way\n\
             hint: remove it, or choose another target or path\n",
            sandbox.target().join(name)
        )
    );
    assert_eq!(picture(&sandbox.path("outside"), true), outside);
    assert_eq!(sandbox.picture(), inside);
}

#[test]
fn a_planted_link_at_a_visible_name_is_not_followed() {
    for path in ["sub/file", "sub/new", "sub"] {
        let sandbox = with_outside();
        let outside = sandbox.path("outside/sub");
        sandbox.link("out/sub", &outside);
        refused(
            &sandbox,
            &format!("files: [{{path: {path}, inline: x}}]\n"),
            "sub",
            &format!("a link to {outside:?}"),
        );
    }
}

#[test]
fn a_link_of_ours_that_was_bent_is_not_followed() {
    let sandbox = with_outside();
    sandbox.run("files: [{path: sub/file, inline: x}]\n");
    fs::remove_file(sandbox.target().join("sub")).unwrap();
    sandbox.link("out/sub", "../outside/sub");
    refused(&sandbox, "files: [{path: sub/file, inline: y}]\n", "sub", "a link to \"../outside/sub\"");
}

#[test]
fn a_planted_data_link_is_not_followed() {
    for to in ["outside", "..", "../outside"] {
        let sandbox = with_outside();
        let to = if to == "outside" { sandbox.path(to) } else { to.into() };
        sandbox.link("out/..data", &to);
        refused(&sandbox, "files: [{path: file, inline: x}]\n", "..data", &format!("a link to {to:?}"));
    }
}

#[test]
fn a_planted_link_with_the_name_of_a_generation_is_neither_followed_nor_removed() {
    let sandbox = with_outside();
    let outside = sandbox.path("outside");
    sandbox.link(&format!("out/{GENERATION}"), &outside);
    // Not in force: it is not ours, and not in the way.
    sandbox.run("files: [{path: file, inline: x}]\n");
    sandbox.run("files: [{path: file, inline: y}]\n");
    assert!(sandbox.target().join(GENERATION).is_symlink());
    assert_eq!(fs::read_to_string(sandbox.path("outside/file")).unwrap(), "precious");

    // In force by a bent `..data`: it would be read, and removed after the switch.
    let sandbox = with_outside();
    sandbox.link(&format!("out/{GENERATION}"), &outside);
    sandbox.link("out/..data", GENERATION);
    fs::create_dir_all(&outside).unwrap();
    let failed = {
        sandbox.config("files: [{path: file, inline: x}]\n");
        sandbox.seed().expect_exit(1)
    };
    failed.expect_stderr("that podkit-seed did not make is in the way");
    assert_eq!(fs::read_to_string(sandbox.path("outside/file")).unwrap(), "precious");
}

#[test]
fn a_planted_link_inside_the_generation_in_force_is_replaced_and_what_it_names_stays() {
    let sandbox = with_outside();
    sandbox.run("files: [{path: d/file, inline: x}, {path: e/file, inline: x}]\n");
    let current = sandbox.target().join(generation(&sandbox.target()));
    fs::remove_dir_all(current.join("d")).unwrap();
    fs::remove_file(current.join("e/file")).unwrap();
    sandbox.link(&format!("out/{}/d", generation(&sandbox.target())), sandbox.path("outside"));
    sandbox.link(&format!("out/{}/e/file", generation(&sandbox.target())), sandbox.path("outside/file"));
    let outside = picture(&sandbox.path("outside"), true);

    sandbox.run("files: [{path: d/file, inline: x}, {path: e/file, inline: x}]\n");
    assert_eq!((sandbox.read("d/file"), sandbox.read("e/file")), ("x".to_owned(), "x".to_owned()));
    assert!(!current.exists());
    assert_eq!(picture(&sandbox.path("outside"), true), outside);
}

#[test]
fn debris_with_links_in_it_is_removed_without_following_them() {
    let sandbox = with_outside();
    sandbox.link(&format!("out/{GENERATION}/d"), sandbox.path("outside"));
    sandbox.link(&format!("out/{GENERATION}/e/f"), sandbox.path("outside/sub"));
    let outside = picture(&sandbox.path("outside"), true);
    sandbox.run("files: [{path: file, inline: x}]\n");
    assert_eq!(sandbox.names(), ["..GENERATION", "..data", "file"]);
    assert_eq!(picture(&sandbox.path("outside"), true), outside);
}

#[test]
fn what_others_have_put_at_our_names_is_told_before_anything_changes() {
    let yaml = "files: [{path: a, inline: x}, {path: taken, inline: x}]\n";
    let sandbox = with_outside();
    sandbox.write("out/taken", "theirs");
    refused(&sandbox, yaml, "taken", "a file");

    let sandbox = with_outside();
    sandbox.write("out/taken/file", "theirs");
    refused(&sandbox, yaml, "taken", "a directory");

    let sandbox = with_outside();
    sandbox.write("out/..data/file", "theirs");
    refused(&sandbox, yaml, "..data", "a directory");

    let sandbox = with_outside();
    sandbox.write("out/..data_tmp", "theirs");
    refused(&sandbox, yaml, "..data_tmp", "a file");
}
