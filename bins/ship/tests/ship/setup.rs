//! A shared volume with logs, and a shipper on it.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use podkit_testkit::{Finished, Process, Run, eventually, free_port, http, pod};
use serde_json::Value;
use tempfile::TempDir;

/// The volume that app and shipper share.
pub(crate) struct Volume {
    dir: TempDir,
}

impl Volume {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// A volume on the file system of a directory.
    pub(crate) fn on(dir: &Path) -> Self {
        Self { dir: tempfile::tempdir_in(dir).unwrap() }
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

    /// Waits until a position is on disk.
    pub(crate) fn wait_until_saved(&self, offset: u64) {
        eventually(&format!("the position {offset} is on disk"), || {
            let read =
                |name: &str| std::fs::read_to_string(self.file("state").join(name)).unwrap_or_default();
            let saved = read("checkpoint.json") + &read("checkpoint.json.journal");
            saved.contains(&format!("\"offset\":{offset},")).then_some(())
        });
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

    /// A shipper with a config file of one destination, as YAML on one line, and an admin port; `service: shop` is a
    /// field of all events.
    pub(crate) fn configured(&self, destination: &str) -> (Run, SocketAddr) {
        let dir = self.path().display();
        self.write(
            "ship.yaml",
            &format!(
                "state_dir: {dir}/state\nsources:\n  - include: [{dir}/*.log]\n    fields: {{service: shop}}\n\
                 destinations:\n  - {destination}\n"
            ),
        );
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let run = pod("ship").arg("--config").arg(self.file("ship.yaml")).show(self.path());
        (run.args(["--batch-age", "20ms", "--admin"]).arg(admin.to_string()), admin)
    }

    /// A shipper with a config file of one source, one or several destinations and further settings, each as YAML on
    /// one line, and an admin port. Batches do not wait.
    pub(crate) fn configured_as(&self, source: &str, destinations: &[&str], more: &str) -> (Run, SocketAddr) {
        self.write("ship.yaml", &self.config(source, destinations, more));
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let run = pod("ship").arg("--config").arg(self.file("ship.yaml")).show(self.path());
        (run.args(["--batch-age", "20ms", "--admin"]).arg(admin.to_string()), admin)
    }

    /// The content of such a file.
    pub(crate) fn config(&self, source: &str, destinations: &[&str], more: &str) -> String {
        let dir = self.path().display();
        let source = if source.is_empty() { String::new() } else { format!(", {source}") };
        let destinations: String = destinations.iter().map(|to| format!("  - {to}\n")).collect();
        format!(
            "state_dir: {dir}/state\nsources:\n  - {{include: [\"{dir}/*.log\"]{source}}}\ndestinations:\n\
             {destinations}{more}\n"
        )
    }

    /// `podkit-ship resend` of a file, under the config of [`configured`](Self::configured).
    pub(crate) fn resend(&self, file: &str) -> Run {
        let run = pod("ship").arg("resend").arg(self.file(file)).arg("--config").arg(self.file("ship.yaml"));
        run.show(self.path())
    }

    /// The events that were refused for good.
    pub(crate) fn dead_letters(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.file("state/dead-letters.ndjson")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
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

/// Messages of [`lines`] in the order of their numbers, where they come from files or batches side by side.
pub(crate) fn by_number(mut messages: Vec<String>) -> Vec<String> {
    messages.sort_by_key(|message| message[5..].parse::<usize>().unwrap());
    messages
}

/// The sum of a metric over all series that have these labels: `metric(admin, "x_total", &["state=\"pending\""])`.
pub(crate) fn metric(admin: SocketAddr, name: &str, labels: &[&str]) -> f64 {
    let body = http("GET", admin, "/metrics").unwrap().body;
    let series = body.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let rest = series.strip_prefix(name)?;
        let is_it = rest.is_empty() || rest.starts_with('{');
        (is_it && labels.iter().all(|label| rest.contains(label))).then(|| value.parse::<f64>().unwrap())
    });
    series.sum()
}

/// The ledger line at the end.
pub(crate) fn ledger(finished: &Finished) -> Value {
    let line = finished.stderr.lines().find(|line| line.starts_with("{\"ledger\"")).expect("a ledger line");
    serde_json::from_str::<Value>(line).unwrap()["ledger"].take()
}

/// Each row of a ledger, and its total, adds up.
#[track_caller]
pub(crate) fn assert_balanced(ledger: &Value) {
    for row in ledger["generations"].as_array().unwrap().iter().chain([&ledger["total"]]) {
        assert_adds_up(row);
    }
}

/// `read = acknowledged + filtered + dead_lettered + pending`
#[track_caller]
pub(crate) fn assert_adds_up(row: &Value) {
    let column = |name: &str| row[name].as_u64().unwrap();
    let gone = column("acknowledged") + column("filtered") + column("dead_lettered") + column("pending");
    assert_eq!(column("read"), gone, "{row}");
}

/// Bytes that are in the files and not delivered.
pub(crate) fn pending(admin: SocketAddr) -> f64 {
    metric(admin, "podkit_ship_ledger_bytes", &["state=\"pending\""])
}

/// The numbers of `line 0`, `line 1` … that are not among the messages.
pub(crate) fn missing(total: usize, messages: &[String]) -> Vec<usize> {
    let seen: HashSet<&str> = messages.iter().map(String::as_str).collect();
    (0..total).filter(|number| !seen.contains(format!("line {number}").as_str())).collect()
}

/// The most memory that a process has had, in bytes.
pub(crate) fn most_resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap().to_owned();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
