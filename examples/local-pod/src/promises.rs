//! What the README promises against what is there: its command lines, its exit codes, the arrows between crates.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use podkit_cli::Exit;

use crate::binaries::Binaries;
use crate::screen::Screen;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

/// The texts between two marks, every second piece: `code` for one mark, blocks for three.
fn between<'a>(text: &'a str, mark: &str) -> Vec<&'a str> {
    text.split(mark).skip(1).step_by(2).collect()
}

/// A command line as a shell splits it; single quotes are all that the README uses.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().expect("never empty").push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[tokio::test]
async fn every_command_line_of_the_readme_is_accepted() {
    let binaries = Binaries::build(&Screen::new()).await.unwrap();
    let readme = read("README.md");
    let dir = tempfile::tempdir().unwrap();
    let yaml = between(&readme, "```").into_iter().find_map(|block| block.strip_prefix("yaml\n")).unwrap();
    fs::write(dir.path().join("seed.yaml"), yaml).unwrap();
    let prose: String = readme.split("```").step_by(2).collect();
    let lines = between(&prose, "`").into_iter().map(|code| words(&code.replace('\n', " ")));
    let mut checked = Vec::new();
    for line in lines
        .filter(|line| line[0].starts_with("podkit-") && line.get(1).is_some_and(|arg| arg.starts_with("--")))
    {
        let output = Command::new(binaries.get(&line[0]))
            .arg("check")
            .args(&line[1..])
            .current_dir(&dir)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line:?}: {told}");
        checked.push(line[0].clone());
    }
    checked.sort();
    assert_eq!(checked, ["podkit-drain", "podkit-proxy", "podkit-seed", "podkit-ship"]);
}

#[test]
fn the_readme_has_each_exit_code_and_no_other() {
    let readme = read("README.md");
    let table = readme.split("### Exit codes").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let told: Vec<u8> =
        table.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok()).collect();
    let codes = [Exit::Done, Exit::Failed, Exit::Different, Exit::Usage, Exit::Deadline];
    assert_eq!(told, codes.map(|exit| exit as u8));
}

/// The names of the crates of this workspace in a folder, with those that each depends on outside of its tests.
fn crates(folder: &str) -> Vec<(String, Vec<String>)> {
    let dirs = fs::read_dir(Path::new(ROOT).join(folder)).unwrap();
    let manifests =
        dirs.map(|entry| entry.unwrap().path().join("Cargo.toml")).filter(|path: &PathBuf| path.exists());
    let parse = |path: PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let name = text.split("name = \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
        let dependencies =
            text.split("\n[dependencies]").nth(1).unwrap_or_default().split("\n[").next().unwrap_or_default();
        let names = dependencies.lines().filter_map(|line| line.split(['.', ' ']).next());
        (name, names.filter(|name| !name.is_empty()).map(str::to_owned).collect())
    };
    manifests.map(parse).collect()
}

#[test]
fn arrows_go_from_bins_to_shared_only_and_each_shared_crate_has_two_users() {
    let (bins, shared) = (crates("bins"), crates("shared"));
    assert_eq!((bins.len(), shared.len()), (4, 7));
    for (name, dependencies) in bins.iter().chain(&shared) {
        let wrong = dependencies.iter().find(|dependency| bins.iter().any(|(bin, _)| bin == *dependency));
        assert_eq!(wrong, None, "{name} depends on a binary");
    }
    for (name, _) in shared.iter().filter(|(name, _)| name != "podkit-testkit") {
        let users =
            bins.iter().chain(&shared).filter(|(_, dependencies)| dependencies.contains(name)).count();
        assert!(users >= 2, "{name} has {users} user");
    }
}

#[test]
fn drain_stays_tiny() {
    let drain = crates("bins").into_iter().find(|(name, _)| name == "podkit-drain").unwrap();
    for heavy in ["tokio", "hyper", "reqwest", "rustls", "podkit-admin"] {
        assert!(!drain.1.iter().any(|dependency| dependency == heavy), "podkit-drain depends on {heavy}");
    }
}

/// `1.88` or `1.88.0` as numbers.
fn release(text: &str) -> Vec<u32> {
    text.split('.').take(2).map(|part| part.parse().unwrap()).collect()
}

#[test]
fn no_dependency_needs_a_newer_compiler_than_the_readme_says() {
    let args = ["metadata", "--locked", "--format-version", "1"];
    let output = Command::new(env!("CARGO")).args(args).current_dir(ROOT).output().unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let ours = env!("CARGO_PKG_RUST_VERSION");
    let newer: Vec<_> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| package["rust_version"].as_str().is_some_and(|text| release(text) > release(ours)))
        .map(|package| (&package["name"], &package["rust_version"]))
        .collect();
    assert!(newer.is_empty(), "newer than {ours}: {newer:?}");
    assert!(read("README.md").contains(&format!("Rust ({ours} or later)")), "README.md does not say {ours}");
}
