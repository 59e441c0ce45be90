//! The cost of followed files: memory for each, CPU while all of them grow slowly, and CPU while nothing happens.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::sink::{Does, Sink};
use crate::{Options, Result, SHIP};

const FILES: usize = 1000;
/// Lines that each file gets in a second.
const PACE: u32 = 10;
const LINE: &[u8] =
    b"2026-11-22T05:00:00.000Z INFO [worker-1] com.shop.web.RequestHandler - GET /cart served in 12 ms\n";

/// Prints the table of followed files.
pub(crate) fn run(options: &Options) -> Result<()> {
    let interval = Duration::from_secs(options.seconds);
    let one = observe(1, interval, 0)?;
    let idle = observe(FILES, interval, 0)?;
    let busy = observe(FILES, interval, PACE)?;
    let of_each =
        |state: &Observed| (state.resident.saturating_sub(one.resident)) as f64 / (FILES - 1) as f64;
    println!();
    println!(
        "| {FILES} files for {} s | CPU, % of a core | MB resident | bytes for each file |",
        options.seconds
    );
    println!("|---|---|---|---|");
    println!("| 1 file, idle | {:.3} | {:.1} | |", one.share * 100.0, one.resident as f64 / 1e6);
    for (name, state) in [("idle", &idle), ("10 lines/s each", &busy)] {
        let (share, resident) = (state.share * 100.0, state.resident as f64 / 1e6);
        println!("| {FILES} files, {name} | {share:.3} | {resident:.1} | {:.0} |", of_each(state));
    }
    println!();
    println!(
        "{} of {} lines were delivered while 10 lines/s were written to each",
        busy.delivered, busy.written
    );
    Ok(())
}

struct Observed {
    /// CPU seconds for each second.
    share: f64,
    /// Bytes.
    resident: u64,
    written: usize,
    delivered: usize,
}

/// Follows files for an interval, while so many lines a second are written to each.
fn observe(files: usize, interval: Duration, pace: u32) -> Result<Observed> {
    let dir = tempfile::tempdir()?;
    let mut open: Vec<File> = Vec::new();
    for number in 0..files {
        let path = dir.path().join(format!("{number}.log"));
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        // Each its own beginning, as each app has.
        writeln!(file, "app {number} started")?;
        open.push(file);
    }
    let sink = Sink::start(Does { count: true, items: false })?;
    let shipper = Shipper::start(dir.path(), &sink)?;
    if !sink.wait_for(files) {
        return Err(format!("{} of {files} first lines arrived", sink.lines()).into());
    }
    // What the start left to do is no part of following.
    std::thread::sleep(Duration::from_secs(2));
    let (before, start) = (shipper.cpu()?, Instant::now());
    let mut written = files;
    let mut round = 0;
    while start.elapsed() < interval {
        if pace == 0 {
            std::thread::sleep(interval.saturating_sub(start.elapsed()));
            continue;
        }
        // A tenth of the files at a time, so that lines come evenly.
        for part in open.chunks_mut(FILES / 10) {
            for file in part {
                file.write_all(LINE)?;
                written += 1;
            }
            round += 1;
            let due = Duration::from_secs(1) * round / (10 * pace);
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
    let share = (shipper.cpu()? - before).as_secs_f64() / start.elapsed().as_secs_f64();
    let observed = Observed { share, resident: shipper.resident()?, written, delivered: sink.lines() };
    shipper.stop()?;
    Ok(observed)
}

struct Shipper(Child);

impl Shipper {
    fn start(dir: &Path, sink: &Sink) -> Result<Self> {
        let mut command = Command::new(SHIP);
        command
            .arg("--include")
            .arg(dir.join("*.log"))
            .arg("--to")
            .arg(format!("http://{}/logs", sink.address()));
        command.args(["--admin", "off", "--compression", "zstd"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn()?))
    }

    /// CPU time of all threads so far, to the nanosecond (`schedstat`; the ticks of `stat` are 10 ms).
    fn cpu(&self) -> Result<Duration> {
        let mut nanos = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            nanos += text.split_whitespace().next().ok_or("schedstat is empty")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    fn resident(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.split_whitespace().next().ok_or("no number")?.parse::<u64>()? * 1024)
    }

    fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.0.id())?), Signal::SIGTERM)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
