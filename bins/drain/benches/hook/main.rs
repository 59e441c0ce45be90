//! What the hook costs the app's container: its size, its start, its memory, and each look at a full socket table.
//!
//! ```text
//!   cargo bench -p podkit-drain --bench hook
//!   PODKIT_DRAIN_BENCH_BINARY=stage/podkit-drain cargo bench -p podkit-drain --bench hook -- --sockets 10000
//! ```
//!
//! The binary is the bench profile's, or the one that the variable names: the images have a smaller one. Connections are
//! made in a network namespace of its own, so that nothing of this machine is counted and no port of it taken.

#![expect(clippy::print_stdout, reason = "the table is what a bench is for")]

mod crowd;
#[path = "../../tests/drain/kernel.rs"]
mod kernel;
mod peer;

use std::fs;
use std::io::Read as _;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crowd::Crowd;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};
use peer::Peer;
use serde_json::Value;

/// What goes wrong ends the bench with one sentence.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The words of a program that this one becomes, one a line, once netlink is refused to it.
const BECOME: &str = "PODKIT_DRAIN_BENCH_BECOME";
/// The binary to measure.
const BINARY: &str = "PODKIT_DRAIN_BENCH_BINARY";
/// How often the start is measured.
const STARTS: usize = 50;
/// How long each watch of a full table takes.
const WATCH: &str = "11s";

fn main() -> ExitCode {
    if let Ok(words) = std::env::var(BECOME) {
        let words: Vec<&str> = words.lines().collect();
        eprintln!("hook: {}", kernel::become_without_netlink(&words, BECOME));
        return ExitCode::FAILURE;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [crowd::ROLE, port, client, from, to] => return crowd::child(port, client, from, to),
        // `cargo test --all-targets` runs benches too, without `--bench`.
        words if !words.contains(&"--bench") => {
            println!("hook: run it with `cargo bench -p podkit-drain --bench hook`");
            Ok(())
        }
        words => sockets(words).and_then(hook),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hook: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How many sockets there are on the port.
fn sockets(words: &[&str]) -> Result<usize> {
    let mut count = 50_000;
    let mut words = words.iter().filter(|word| **word != "--bench");
    while let Some(word) = words.next() {
        match (*word, words.next()) {
            ("--sockets", Some(number)) => count = number.parse()?,
            _ => return Err(format!("unknown argument {word}; there is `--sockets NUMBER`").into()),
        }
    }
    Ok(count)
}

fn hook(sockets: usize) -> Result<()> {
    let binary = std::env::var(BINARY).unwrap_or_else(|_| env!("CARGO_BIN_EXE_podkit-drain").to_owned());
    println!("{binary}: {} bytes", fs::metadata(&binary)?.len());
    let namespace = unshare(CloneFlags::CLONE_NEWNET).inspect(|()| kernel::raise_loopback());
    starts(&binary)?;
    memory(&binary)?;
    match namespace {
        Ok(()) => table(&binary, sockets),
        Err(error) => {
            println!("NOT MEASURED HERE: a full socket table needs a network namespace of its own: {error}");
            Ok(())
        }
    }
}

/// A hook with nothing in its way, and nobody who listens to it.
fn command(binary: &str, args: &[&str]) -> Command {
    let mut command = Command::new(binary);
    command.args(args).args(["--log", "/dev/stderr", "--log-format", "json", "--count-loopback"]).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// From before the fork to the first request at a proxy, and to the first look at the kernel's table.
fn starts(binary: &str) -> Result<()> {
    let mut to_proxy = Vec::new();
    for _ in 0..STARTS {
        let mut proxy = Peer::proxy()?;
        let begun = Instant::now();
        let child =
            command(binary, &["--proxy", &proxy.url(), "--quiet", "0s", "--min-delay", "0s"]).spawn()?;
        to_proxy.push(proxy.first_request()?.duration_since(begun));
        ended(child)?;
    }
    tell("start to the first request at a proxy", &mut to_proxy);
    let (mut to_look, mut inside) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        // All that a process costs that looks once: fork, exec, the one look, and the end.
        let begun = Instant::now();
        let mut child = command(binary, &["--port", "1", "--quiet", "0s", "--min-delay", "0s"])
            .stderr(Stdio::piped())
            .spawn()?;
        let report = report(&mut child)?;
        to_look.push(begun.elapsed());
        inside.push(Duration::from_secs_f64(report["first_look_seconds"].as_f64().ok_or("it never looked")?));
        ended(child)?;
    }
    tell("main to the end of the first look by netlink", &mut inside);
    tell("start to the end of a hook of one look", &mut to_look);
    Ok(())
}

/// The peak of a hook that has done all its steps.
fn memory(binary: &str) -> Result<()> {
    let (mut proxy, mut ship) = (Peer::proxy()?, Peer::ship()?);
    let args = ["--proxy", &proxy.url(), "--ship", &ship.url(), "--port", "1", "--quiet", "1s", "--then"];
    let call = format!("POST {}/stop", proxy.url());
    let child = command(binary, &[&args[..], &[&call]].concat()).spawn()?;
    proxy.first_request()?;
    ship.first_request()?;
    println!("{:<58} {}", "memory at most, all steps done", peak(&child)?);
    ship.go_on();
    ended(child)
}

/// `VmHWM` and its part that is not the file's, which other containers of the image share.
fn peak(child: &Child) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    Ok(format!("{} (now anonymous {}, file {})", of("VmHWM:"), of("RssAnon:"), of("RssFile:")))
}

/// CPU of a look at so many sockets, by each source.
fn table(binary: &str, sockets: usize) -> Result<()> {
    let none = cost(binary, "1", true)?;
    for all in [false, true] {
        let crowd = Crowd::of(sockets, all)?;
        println!(
            "{sockets} sockets in the namespace, {} of them the app's:",
            if all { "all" } else { "half" }
        );
        for (name, by_netlink) in [("INET_DIAG", true), ("/proc/net", false)] {
            let full = cost(binary, &crowd.port, by_netlink)?;
            let a_look = |of: fn(&Cost) -> Duration| {
                of(&full).saturating_sub(of(&none)).as_secs_f64() * 1e3 / full.looks.max(1.0)
            };
            let (user, kernel) = (a_look(|cost| cost.user), a_look(|cost| cost.kernel));
            let what = format!("  CPU of one look by {name}");
            println!("{what:<58} {:.1} ms ({user:.1} own, {kernel:.1} kernel)", user + kernel);
            println!("{:<58} {} after {} looks", "  memory at most", full.peak, full.looks);
        }
    }
    Ok(())
}

struct Cost {
    user: Duration,
    kernel: Duration,
    looks: f64,
    peak: String,
}

/// What a watch costs that never becomes quiet.
fn cost(binary: &str, port: &str, by_netlink: bool) -> Result<Cost> {
    let args = ["--port", port, "--grace", WATCH, "--reserve", "1s", "--idle", "1h", "--quiet", "1h"];
    let mut hook = command(binary, &args);
    if !by_netlink {
        let words: Vec<String> = [binary.to_owned()]
            .into_iter()
            .chain(hook.get_args().map(|arg| arg.to_string_lossy().into_owned()))
            .collect();
        hook = Command::new(std::env::current_exe()?);
        hook.env_clear().env(BECOME, words.join("\n")).stdin(Stdio::null()).stdout(Stdio::null());
    }
    let before = spent()?;
    let mut child = hook.stderr(Stdio::piped()).spawn()?;
    // The peak is that of a process that lives, and it comes with the second look at the latest.
    std::thread::sleep(Duration::from_secs(8));
    let peak = peak(&child)?;
    let report = report(&mut child)?;
    let _ = child.wait()?;
    let source = report["source"].as_str().unwrap_or_default();
    if source.contains("INET_DIAG") != by_netlink {
        return Err(format!("it looked by {source:?}").into());
    }
    let (user, kernel) = spent()?;
    let looks = report["looks"].as_f64().unwrap_or(0.0);
    Ok(Cost { user: user.saturating_sub(before.0), kernel: kernel.saturating_sub(before.1), looks, peak })
}

/// CPU time of all children that have ended, their own and the kernel's for them: those of a crowd have not.
fn spent() -> Result<(Duration, Duration)> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = |time: TimeVal| Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap_or(0));
    Ok((time(usage.user_time()), time(usage.system_time())))
}

/// The report of a hook whose standard error is piped: the last line of its log.
fn report(child: &mut Child) -> Result<Value> {
    let mut text = String::new();
    if let Some(mut stream) = child.stderr.take() {
        stream.read_to_string(&mut text)?;
    }
    let line =
        text.lines().rfind(|line| line.starts_with("{\"report\"")).ok_or(format!("no report in {text:?}"))?;
    Ok(serde_json::from_str(line)?)
}

fn ended(mut child: Child) -> Result<()> {
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the hook ended with {status}").into()) }
}

fn tell(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e3;
    println!("{what:<58} {:.2} ms (fastest {:.2}, 90 % {:.2})", at(50), at(0), at(90));
}
