//! The four real binaries, built the way the demo itself was: same profile, same target directory.
//!
//! cargo says on stdout, as JSON, where each executable is; nothing is guessed from file names. What cargo
//! has to say about errors reaches the terminal as it is.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::{error::Error, screen::Screen};

/// The packages, each with one binary of the same name.
const PACKAGES: [&str; 4] = ["podkit-seed", "podkit-proxy", "podkit-ship", "podkit-drain"];

/// How often a long build says that it is alive.
const NEWS: Duration = Duration::from_secs(10);

/// Where the executables are.
#[derive(Debug)]
pub(crate) struct Binaries(BTreeMap<String, PathBuf>);

impl Binaries {
    /// Builds them, and shows how far it is.
    pub(crate) async fn build(screen: &Screen) -> Result<Self, Error> {
        let exe = env::current_exe().map_err(Error::io("find the demo's own file"))?;
        let place = Place::of(&exe)
            .ok_or_else(|| Error::Build(format!("{exe:?} is not in a target directory of cargo")))?;
        screen.line("build", format_args!("{} (profile {})", PACKAGES.join(", "), place.profile));
        let mut cargo = command(&place).spawn().map_err(Error::io("start cargo"))?;
        let stdout = cargo.stdout.take().expect("stdout is piped above");
        let mut messages = BufReader::new(stdout).lines();
        let mut news = interval_at(Instant::now() + NEWS, NEWS);
        news.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (mut executables, mut units) = (BTreeMap::new(), 0);
        loop {
            tokio::select! {
                line = messages.next_line() => match line.map_err(Error::io("read from cargo"))? {
                    Some(line) => {
                        units += 1;
                        executables.extend(executable(&line));
                    }
                    None => break,
                },
                _ = news.tick() => screen.line("build", format_args!("{units} crates and build scripts are ready")),
            }
        }
        let status = cargo.wait().await.map_err(Error::io("wait for cargo"))?;
        if !status.success() {
            return Err(Error::Build(format!("cargo ended with {status}")));
        }
        match PACKAGES.iter().find(|package| !executables.contains_key(**package)) {
            None => Ok(Self(executables)),
            Some(missing) => Err(Error::Build(format!("cargo named no executable {missing:?}"))),
        }
    }

    /// The executable of one of the four: `get("podkit-ship")`.
    pub(crate) fn get(&self, name: &str) -> PathBuf {
        self.0[name].clone()
    }
}

/// Files of cargo's that are in its target directory and nowhere below.
const MARKS: [&str; 2] = [".rustc_info.json", "CACHEDIR.TAG"];

/// What the demo's own path tells about its build.
#[derive(Debug, PartialEq)]
struct Place {
    target_dir: PathBuf,
    triple: Option<OsString>,
    profile: String,
}

impl Place {
    /// `TARGET/[TRIPLE/]PROFILE/local-pod`, or one level deeper for a test's executable.
    fn of(exe: &Path) -> Option<Self> {
        // cargo keeps what it knows of rustc in its target directory. The mark for backup programs it leaves only in
        // one that it made itself, which a mounted volume or the directory of a cache is not.
        let is_marked = |dir: &&Path| MARKS.iter().any(|mark| dir.join(mark).is_file());
        let target_dir = exe.ancestors().find(is_marked)?;
        let mut below = exe.parent()?.strip_prefix(target_dir).ok()?.iter().filter(|part| *part != "deps");
        let (first, second) = (below.next()?, below.next());
        let (triple, profile) = match second {
            Some(profile) => (Some(first.to_owned()), profile),
            None => (None, first),
        };
        // The dev profile's directory has its old name.
        let profile = if profile == "debug" { "dev" } else { profile.to_str()? };
        Some(Self { target_dir: target_dir.into(), triple, profile: profile.into() })
    }
}

fn command(place: &Place) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--bins", "--message-format", "json-render-diagnostics"])
        .args(PACKAGES.iter().flat_map(|package| ["-p", package]))
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml")])
        .args(["--profile", &place.profile])
        .arg("--target-dir")
        .arg(&place.target_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    if let Some(triple) = &place.triple {
        command.arg("--target").arg(triple);
    }
    // `cargo run` and `cargo test` describe this package in the environment. Build scripts that watch those
    // variables would run again for the inner cargo, and once more for the next outer one.
    for (name, _) in env::vars_os().filter(|(name, _)| describes_a_package(name)) {
        command.env_remove(name);
    }
    command
}

fn describes_a_package(variable: &std::ffi::OsStr) -> bool {
    let prefixes =
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];
    variable
        .to_str()
        .is_some_and(|name| name == "OUT_DIR" || prefixes.iter().any(|prefix| name.starts_with(prefix)))
}

/// The name and path in a message about a finished binary.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let path = message["executable"].as_str()?;
    Some((message["target"]["name"].as_str()?.into(), path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_tells_profile_triple_and_target_directory() {
        for mark in MARKS {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(mark), "").unwrap();
            let place = |path: &str| {
                let place = Place::of(&dir.path().join(path)).unwrap();
                assert_eq!(place.target_dir, dir.path());
                (place.triple.map(|triple| triple.into_string().unwrap()), place.profile)
            };
            assert_eq!(place("debug/local-pod"), (None, "dev".into()));
            assert_eq!(place("release/local-pod"), (None, "release".into()));
            assert_eq!(place("debug/deps/local_pod-1f"), (None, "dev".into()));
            let triple = "x86_64-unknown-linux-musl";
            assert_eq!(place(&format!("{triple}/small/local-pod")), (Some(triple.into()), "small".into()));
        }
        assert_eq!(Place::of(Path::new("/usr/bin/local-pod")), None);
    }

    #[test]
    fn only_messages_about_executables_count() {
        let message =
            r#"{"reason":"compiler-artifact","target":{"name":"podkit-ship"},"executable":"/t/podkit-ship"}"#;
        assert_eq!(executable(message), Some(("podkit-ship".into(), "/t/podkit-ship".into())));
        assert_eq!(executable(r#"{"target":{"name":"bytes"},"executable":null}"#), None);
        assert_eq!(executable("not json"), None);
    }
}
