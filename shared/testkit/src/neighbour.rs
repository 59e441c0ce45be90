//! The other binaries of the workspace, for tests of several of them together: cargo builds only a package's own for its
//! tests, and what lies there of another one may be older than its code.

use std::path::Path;
use std::process::Command;
use std::sync::Once;

use crate::process::{Run, pod};

/// All at once: asked for one by one they would have other features, and be built once more.
const PACKAGES: [&str; 4] = ["podkit-seed", "podkit-proxy", "podkit-ship", "podkit-drain"];

/// The binary `podkit-<name>` as the code is now, in the profile of the test, about to be run.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn neighbour(name: &str) -> Run {
    static BUILT: Once = Once::new();
    BUILT.call_once(build);
    pod(name)
}

fn build() {
    let test = std::env::current_exe().expect("the kernel knows this program");
    // TARGET_DIR/[TRIPLE/]PROFILE/deps/TEST
    let place = test.parent().and_then(Path::parent).expect("cargo has put the test in a directory");
    let profile = match place.file_name().and_then(|name| name.to_str()) {
        // The dev profile's directory has its old name.
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let above = place.parent().expect("the profile's directory is in another one");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked", "--quiet", "--bins", "--profile", profile]);
    cargo.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml")]);
    // Cargo has built the one under test, and other tests run it right now.
    let own = std::env::var("CARGO_PKG_NAME").unwrap_or_default();
    cargo.args(PACKAGES.iter().filter(|package| **package != own).flat_map(|package| ["-p", package]));
    // Only the target directory itself has this file of cargo's.
    match above.join(".rustc_info.json").is_file() {
        true => cargo.arg("--target-dir").arg(above),
        false => {
            let triple = above.file_name().expect("a triple names the directory");
            let target = above.parent().expect("a triple's directory is in the target directory");
            cargo.arg("--target").arg(triple).arg("--target-dir").arg(target)
        }
    };
    // What describes the package under test would have the build scripts of others run again.
    for (name, _) in std::env::vars_os() {
        let is_ours = |start: &str| name.to_str().is_some_and(|name| name.starts_with(start));
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"]
            .into_iter()
            .any(is_ours)
        {
            cargo.env_remove(&name);
        }
    }
    let status = cargo.status().unwrap_or_else(|error| panic!("cannot run {cargo:?}: {error}"));
    assert!(status.success(), "{cargo:?} ended with {status}");
}
