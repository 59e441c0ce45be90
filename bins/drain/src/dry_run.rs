//! `--dry-run`: what the hook would do, and what its sources see now. Takes no lease and sends no signal; to
//! neighbours it sends only `GET`s.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use podkit_cli::{chain, units};
use podkit_lifecycle::Deadline;

use crate::budget::{Budget, show};
use crate::config::Config;
use crate::peers::Peers;
use crate::quiet::Sample;
use crate::sidecar::each;
use crate::source::{InetDiag, ProcNet, Source as _, SourceError, figures};
use crate::steps::find;

/// For each question; nobody waits for a dry run in a hurry.
const PATIENCE: Duration = Duration::from_secs(1);

/// The plan, one line a step, and below it what was found.
pub(crate) fn plan(config: &Config) -> String {
    let budget = Budget::new(Instant::now(), config.grace, config.reserve);
    let mut text = format!(
        "dry run: nothing is changed\nbudget  {}: {} of grace less {} for the app\n",
        show(budget.whole()),
        units::show_duration(config.grace),
        units::show_duration(config.reserve),
    );
    lease(config, &mut text);
    quiet(config, &budget, &mut text);
    after_quiet(config, &mut text);
    flush(config, &budget, &mut text);
    text
}

fn soon() -> Deadline {
    Deadline::after(PATIENCE)
}

/// A line of the plan. A text has room for every line.
fn line(text: &mut String, step: &str, what: &str) {
    let _ = writeln!(text, "{step:<8}{what}");
}

fn lease(config: &Config, text: &mut String) {
    let seen = each(&config.proxies, |proxy| figures(proxy, soon()));
    for (proxy, seen) in config.proxies.iter().zip(seen) {
        line(text, "lease", &format!("POST {}/drain", proxy.target));
        line(text, "", &format!("now: {}", told(seen)));
    }
}

fn quiet(config: &Config, budget: &Budget, text: &mut String) {
    let rule = config.rule;
    let until = budget.watch_end(config.steps_after_quiet(), budget.share_of_flush());
    let what = format!(
        "until nothing is active and nothing new has come for {}; not before {}, not after {}",
        show(rule.quiet),
        show(rule.min_delay),
        show(until),
    );
    line(text, "quiet", &what);
    line(text, "", &no_clients(&config.peers));
    if config.ports.is_empty() {
        line(text, "", "no --port: without a proxy only --min-delay is held");
        return;
    }
    let ports: Vec<String> = config.ports.iter().map(ToString::to_string).collect();
    line(text, "", &format!("on port {}", ports.join(", ")));
    let mut diag = InetDiag::new(&config.ports, &config.peers, config.idle);
    let seen = diag.poll(soon());
    line(text, "", &format!("now: {}: {}", diag.name(), told(seen)));
    let mut table = ProcNet::new("/proc/net", &config.ports, &config.peers);
    let seen = table.poll(soon());
    line(text, "", &format!("now: {}: {}", table.name(), told(seen)));
}

/// Whose connections do not count.
fn no_clients(peers: &Peers) -> String {
    let at = if peers.node_left_out().is_empty() { "at a proxy the probes of " } else { "" };
    let node = peers.node.iter().map(|node| format!("{at}the node {node} (HOST_IP)"));
    let loopback = (!peers.count_loopback).then(|| "loopback".to_owned());
    let named = peers.ignored.iter().map(units::show_network);
    let all: Vec<String> = node.chain(loopback).chain(named).collect();
    if all.is_empty() {
        "every peer is a client".to_owned()
    } else {
        format!("no clients: {}", all.join(", "))
    }
}

fn after_quiet(config: &Config, text: &mut String) {
    for call in &config.then {
        line(text, "then", &call.to_string());
    }
    for to in &config.signals {
        let wait = if to.waits() { ", and wait for its end" } else { "" };
        line(text, "signal", &format!("{to}{wait}"));
        let now = match find(to) {
            Ok(found) => {
                let ids: Vec<String> = found.iter().map(|process| process.id().to_string()).collect();
                format!("process {}", ids.join(", "))
            }
            Err(why) => why,
        };
        line(text, "", &format!("now: {now}"));
    }
    for program in &config.programs {
        line(text, "run", &program.to_string());
    }
}

fn flush(config: &Config, budget: &Budget, text: &mut String) {
    let there = each(&config.ships, |ship| ship.ask("GET", "/livez", soon()));
    for (ship, there) in config.ships.iter().zip(there) {
        line(
            text,
            "flush",
            &format!("POST {}/flush, for at least {}", ship.target, show(budget.share_of_flush())),
        );
        let now = match there {
            Ok(answer) => format!("GET /livez is answered with {}", answer.status),
            Err(error) => chain(&error),
        };
        line(text, "", &format!("now: {now}"));
    }
}

fn told(seen: Result<Sample, SourceError>) -> String {
    match seen {
        Ok(Sample { active, open, since_new }) => {
            let newest = since_new.map_or_else(String::new, |ago| format!(", the newest {} old", show(ago)));
            format!("{open} open, {active} active{newest}")
        }
        Err(error) => chain(&error),
    }
}
