//! A shared volume with logs, and a shipper on it.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use podkit_testkit::{Process, Run, free_port, pod};
use tempfile::TempDir;

/// The volume that app and shipper share.
pub(crate) struct Volume {
    dir: TempDir,
}

impl Volume {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a whole file.
    pub(crate) fn write(&self, name: &str, content: &str) {
        std::fs::write(self.file(name), content).unwrap();
    }

    /// Appends to a file, which is made if it is not there.
    pub(crate) fn append(&self, name: &str, content: &str) {
        self.open(name).write_all(content.as_bytes()).unwrap();
    }

    /// A file that is kept open for appending, as an app does.
    pub(crate) fn open(&self, name: &str) -> File {
        OpenOptions::new().append(true).create(true).open(self.file(name)).unwrap()
    }

    pub(crate) fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.file(from), self.file(to)).unwrap();
    }

    /// A shipper of `*.log` to a URL, without an admin port, in batches that do not wait.
    pub(crate) fn ship(&self, to: &str) -> Run {
        self.ship_only("*.log", to)
    }

    /// A shipper that waits for its batches to fill, unless something hurries it.
    pub(crate) fn ship_lazily(&self, to: &str) -> (Run, SocketAddr) {
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        (self.bare("*.log", to).args(["--batch-age", "60s", "--admin"]).arg(admin.to_string()), admin)
    }

    /// A shipper of the files that match a pattern.
    pub(crate) fn ship_only(&self, pattern: &str, to: &str) -> Run {
        self.bare(pattern, to).args(["--batch-age", "20ms", "--admin", "off"])
    }

    /// A shipper with an admin port, and its address.
    pub(crate) fn ship_with_admin(&self, to: &str) -> (Run, SocketAddr) {
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        (self.bare("*.log", to).args(["--batch-age", "20ms", "--admin"]).arg(admin.to_string()), admin)
    }

    fn bare(&self, pattern: &str, to: &str) -> Run {
        let include = self.file(pattern);
        pod("ship")
            .arg("--include")
            .arg(include)
            .args(["--to", to, "--state-dir"])
            .arg(self.file("state"))
            .show(self.path())
    }
}

/// Starts a shipper and waits until it follows its files.
pub(crate) fn started(run: Run) -> Process {
    let process = run.args(["--log-format", "text"]).start();
    process.wait_for_stderr("shipping");
    process
}

/// `from..to` as numbered lines.
pub(crate) fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|number| format!("line {number}\n")).collect()
}

/// The messages of [`lines`].
pub(crate) fn messages(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("line {number}")).collect()
}
