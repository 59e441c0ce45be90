//! A podkit-seed that stays, and what it tells of itself.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use podkit_testkit::{Finished, Process, Reply, eventually, http};
use serde_json::Value;

use crate::kit::Sandbox;

/// A running instance.
pub(crate) struct Watcher {
    pub(crate) process: Process,
    admin: SocketAddr,
}

impl Watcher {
    /// Starts one with the config as it was last written.
    pub(crate) fn start(sandbox: &Sandbox) -> Self {
        Self::of(sandbox.seed().args(["--watch", "--admin", "127.0.0.1:0"]).start())
    }

    /// One that was started in another way.
    pub(crate) fn of(process: Process) -> Self {
        let line = process.wait_for_stderr("admin port listens on ");
        let line: Value = serde_json::from_str(&line).unwrap();
        let address = line["message"].as_str().unwrap().rsplit(' ').next().unwrap();
        Self { process, admin: address.parse().unwrap() }
    }

    /// Writes the config, starts one, and waits for its first seeding.
    pub(crate) fn seeded(sandbox: &Sandbox, yaml: &str) -> Self {
        sandbox.config(yaml);
        let watcher = Self::start(sandbox);
        eventually("it is ready", || (watcher.get("/readyz").status == 200).then_some(()));
        watcher
    }

    pub(crate) fn admin(&self) -> String {
        self.admin.to_string()
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        http("GET", self.admin, path).unwrap()
    }

    pub(crate) fn post(&self, path: &str) -> Reply {
        http("POST", self.admin, path).unwrap()
    }

    pub(crate) fn status(&self) -> Value {
        self.get("/status").json()
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        let metrics = self.get("/metrics");
        metrics.metric(name).unwrap_or_else(|| panic!("no {name} in\n{}", metrics.body))
    }

    pub(crate) fn passes(&self, result: &str) -> f64 {
        self.metric(&format!("podkit_seed_passes_total{{result=\"{result}\"}}"))
    }

    /// Waits until a file of the target holds this.
    pub(crate) fn expect(&self, sandbox: &Sandbox, name: &str, text: &str) {
        let what = format!("{name} is {text:?}; stderr: {}", self.process.stderr());
        eventually(&what, || {
            fs::read_to_string(sandbox.target().join(name)).is_ok_and(|found| found == text).then_some(())
        });
    }

    /// Waits until as many tries to tell the app ended so.
    pub(crate) fn expect_notifications(&self, result: &str, count: f64) {
        let name = format!("podkit_seed_notifications_total{{result=\"{result}\"}}");
        eventually(&format!("{name} is {count}"), || (self.metric(&name) >= count).then_some(()));
        assert!((self.metric(&name) - count).abs() < 0.5, "{}", self.process.stderr());
    }

    /// SIGTERM; the end must be a good one.
    pub(crate) fn end(self) -> Finished {
        self.process.terminate().expect_exit(0)
    }
}

/// Swaps a volume as the kubelet does: all of the new version, one rename, and the old one goes.
pub(crate) fn swap(volume: &Path, version: &str, files: &[(&str, &str)]) {
    let old = fs::read_link(volume.join("..data")).ok();
    let dir = volume.join(version);
    fs::create_dir_all(&dir).unwrap();
    for (name, text) in files {
        fs::write(dir.join(name), text).unwrap();
        let link = volume.join(name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
    symlink(version, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    if let Some(old) = old {
        fs::remove_dir_all(volume.join(old)).unwrap();
    }
}
