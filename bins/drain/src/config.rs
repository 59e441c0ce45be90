//! From what was typed to what it means. Nothing past this file sees a raw text.

mod call;
mod program;
mod signal;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use podkit_cli::units::MOST_PEERS;
use podkit_cli::{Effective, Flag, Invalid, Section, Tool, Verb, mask_url, units};
use podkit_http_client::Target;
use serde_json::{Value, json};

use crate::peers::Peers;
use crate::quiet::Rule;
use crate::sidecar::Sidecar;

pub(crate) use call::Call;
pub(crate) use program::Program;
pub(crate) use signal::{Receiver, SignalTo};

/// Kubernetes' own default, `terminationGracePeriodSeconds: 30`.
const GRACE: Duration = Duration::from_secs(30);
/// What an app usually needs between its SIGTERM and its end.
const RESERVE: Duration = Duration::from_secs(5);
/// Longer than the pauses of a client that still comes here.
const QUIET: Duration = Duration::from_secs(3);
/// What the change of the endpoints usually needs to reach the nodes.
const MIN_DELAY: Duration = Duration::from_secs(2);
/// As long as a client thinks between two requests of one page.
const IDLE: Duration = Duration::from_secs(5);
/// Contract 2: the proxy's admin port, by loopback.
const PROXY: &str = "http://127.0.0.1:9802";
/// Contract 2: ship's admin port, by loopback.
const SHIP: &str = "http://127.0.0.1:9801";

/// The command line of `podkit-drain`.
pub static TOOL: Tool = Tool {
    name: "drain",
    about: "Holds a pod's termination until traffic has left and the logs are delivered; a preStop exec hook",
    examples: "  podkit-drain --grace 30s --port 8080\n      \
        watch the app's port, and the proxy and ship where they run\n  \
        podkit-drain --port 8080 --then 'POST http://127.0.0.1:8080/shutdown'\n      \
        tell the app when traffic has left\n  \
        podkit-drain --port 8080 --dry-run\n      \
        say what the hook would do, and what it sees now\n  \
        podkit-drain watch --port 8080\n      \
        show who is connected, for debugging by kubectl exec\n  \
        podkit-drain install /podkit\n      \
        copy this binary to a shared volume, in an init container\n",
    flags: &[
        Flag::value("grace", "DURATION", "The pod's termination grace period [default: 30s]"),
        Flag::value("reserve", "DURATION", "How much of it is kept for the app's own stop [default: 5s]"),
        Flag::list("port", "PORT", "A port that the app serves on; repeatable"),
        Flag::list(
            "proxy",
            "URL",
            "podkit-proxy's admin port; repeatable [default: http://127.0.0.1:9802, if it is there]",
        ),
        Flag::list(
            "ship",
            "URL",
            "podkit-ship's admin port; repeatable [default: http://127.0.0.1:9801, if it is there]",
        ),
        Flag::value("quiet", "DURATION", "How long no new connection may have come [default: 3s]"),
        Flag::value(
            "idle",
            "DURATION",
            "How long nothing went over a connection that is no longer waited for [default: 5s]",
        ),
        Flag::value("min-delay", "DURATION", "Never end the watch before this [default: 2s]"),
        Flag::list(
            "then",
            "CALL",
            "A request to send when traffic has left, 'METHOD URL'; repeatable, in order",
        ),
        Flag::list(
            "signal",
            "SIGNAL:PROCESS",
            "A signal to send after the calls, 'TERM:app', and to wait for the end; repeatable",
        ),
        Flag::list(
            "run",
            "COMMAND",
            "A program to run after the signals; split at white space, without a shell or quotes; repeatable",
        ),
        Flag::list(
            "ignore-peer",
            "ADDRESS",
            "A peer or CIDR that is no client; repeatable, at most 64 [default: $HOST_IP]",
        ),
        Flag::switch("count-loopback", "Count connections from loopback as traffic"),
        Flag::value(
            "log",
            "FILE",
            "Where the log goes [default: /proc/1/fd/1 where it can be written, else stderr]",
        ),
        Flag::value("report", "FILE", "Leave the figures of the drain here as JSON, for reading later"),
        Flag::switch("dry-run", "Say what would be done, and what the sources see now; change nothing")
            .of("run"),
        Flag::switch("once", "Show one look").of("watch"),
        Flag::value("for", "DURATION", "Show a look every second for so long [default: until Ctrl-C]")
            .of("watch"),
    ],
    verbs: &[
        Verb::Install,
        Verb::Own {
            name: "watch",
            about: "Show the connections on the ports by peer, and how long it has been quiet",
            argument: None,
        },
    ],
    admin: None,
    // The hook runs in the app's container: its termination message is the app's own.
    termination_message: false,
};

/// A checked config.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The pod's grace period.
    pub(crate) grace: Duration,
    /// What of it belongs to the app; shorter than `grace`.
    pub(crate) reserve: Duration,
    /// When traffic counts as gone.
    pub(crate) rule: Rule,
    /// When a connection of which nothing is owed no longer holds the drain.
    pub(crate) idle: Duration,
    /// The app's ports; may be none.
    pub(crate) ports: Vec<u16>,
    /// Whose connections count.
    pub(crate) peers: Peers,
    /// Where the lease is taken; at least one.
    pub(crate) proxies: Vec<Sidecar>,
    /// Where the logs are flushed; at least one.
    pub(crate) ships: Vec<Sidecar>,
    /// What to send when traffic has left.
    pub(crate) then: Vec<Call>,
    /// Whom to signal after that.
    pub(crate) signals: Vec<SignalTo>,
    /// What to run after that.
    pub(crate) programs: Vec<Program>,
    /// Where the log was asked to go.
    pub(crate) log: Option<PathBuf>,
    /// Where the figures are left.
    pub(crate) report: Option<PathBuf>,
}

/// The reserve where none is given: [`RESERVE`], or a quarter of a grace period that is no longer than that.
fn default_reserve(grace: Duration) -> Duration {
    if grace > RESERVE { RESERVE } else { grace / 4 }
}

impl Config {
    /// Reads all fields; faults are collected in the section.
    pub(crate) fn read(root: &Section<'_>) -> Option<Self> {
        let grace = root.value_or("grace", units::positive_duration, GRACE);
        let reserve = root.value_or("reserve", units::duration, default_reserve(grace));
        if reserve >= grace {
            let (reserve, grace) = (units::show_duration(reserve), units::show_duration(grace));
            let what = Invalid::new(format!("{reserve} is not shorter than the grace period, {grace}")).hint(
                "the drain has the grace period less the reserve: lower `--reserve` or raise `--grace`",
            );
            root.fault("reserve", what);
        }
        let rule = Rule {
            quiet: root.value_or("quiet", units::duration, QUIET),
            min_delay: root.value_or("min_delay", units::duration, MIN_DELAY),
        };
        let idle = root.value_or("idle", units::duration, IDLE);
        let mut ports = root.list("port", units::port);
        ports.sort_unstable();
        ports.dedup();
        let peers = Peers {
            ignored: ignored(root),
            node: node_addresses(),
            count_loopback: root.switch("count_loopback"),
        };
        Some(Self {
            grace,
            reserve,
            rule,
            idle,
            ports,
            peers,
            proxies: sidecars(root, "proxy", PROXY),
            ships: sidecars(root, "ship", SHIP),
            then: call::read_all(root),
            signals: signal::read_all(root),
            programs: program::read_all(root),
            log: root.value("log", units::path),
            report: root.value("report", units::path),
        })
    }

    /// The number of steps between the watch and the flush.
    pub(crate) fn steps_after_quiet(&self) -> usize {
        self.then.len() + self.signals.len() + self.programs.len()
    }
}

/// As many as a proxy takes with a lease: without them it would count what they ask.
fn ignored(root: &Section<'_>) -> Vec<IpNet> {
    let ignored = root.list("ignore_peer", units::network);
    if ignored.len() > MOST_PEERS {
        let what = format!("{} are more peers than a proxy is told of, {MOST_PEERS}", ignored.len());
        root.fault("ignore_peer", Invalid::new(what).hint("give larger blocks, such as `10.0.0.0/8`"));
    }
    ignored
}

/// The downward API's `status.hostIP`, or `status.hostIPs`, of both families with a comma between them. A variable that
/// is not ours is taken where it fits and never a fault.
fn node_addresses() -> Vec<IpAddr> {
    let text = std::env::var("HOST_IP").unwrap_or_default();
    text.split(',').filter_map(|one| Some(one.trim().parse::<IpAddr>().ok()?.to_canonical())).collect()
}

/// Those that are given, or the default one. A list that is given wrongly is a fault already.
fn sidecars(root: &Section<'_>, key: &str, default: &str) -> Vec<Sidecar> {
    let mut given: Vec<Sidecar> = Vec::new();
    for target in root.list(key, admin_port) {
        if given.iter().all(|sidecar| sidecar.target != target) {
            given.push(Sidecar { target, given: true });
        }
    }
    if given.is_empty() {
        given.extend(default.parse().ok().map(|target| Sidecar { target, given: false }));
    }
    given
}

fn url(text: &str) -> Result<Target, Invalid> {
    text.parse().map_err(|error| {
        Invalid::new(format!("{:?} is not a URL in this pod: {error}", mask_url(text)))
            .hint("write `http://127.0.0.1:PORT/PATH`")
    })
}

fn admin_port(text: &str) -> Result<Target, Invalid> {
    let target = url(text)?;
    if target.base().is_empty() {
        Ok(target)
    } else {
        Err(Invalid::new(format!("{:?} has a path", mask_url(text)))
            .hint("give the address of the admin port alone"))
    }
}

impl Effective for Config {
    fn effective(&self) -> Value {
        let sidecars = |all: &[Sidecar]| all.iter().map(|one| one.target.to_string()).collect::<Vec<_>>();
        let show = units::show_duration;
        let mut value = json!({
            "grace": show(self.grace),
            "reserve": show(self.reserve),
            "port": self.ports,
            "proxy": sidecars(&self.proxies),
            "ship": sidecars(&self.ships),
            "quiet": show(self.rule.quiet),
            "min_delay": show(self.rule.min_delay),
            "idle": show(self.idle),
            "then": self.then.iter().map(Call::effective).collect::<Vec<_>>(),
            "signal": self.signals.iter().map(SignalTo::effective).collect::<Vec<_>>(),
            "run": self.programs.iter().map(Program::effective).collect::<Vec<_>>(),
            "ignore_peer": self.peers.ignored.iter().map(units::show_network).collect::<Vec<_>>(),
            "count_loopback": self.peers.count_loopback,
        });
        if let Some(log) = &self.log {
            value["log"] = json!(log);
        }
        if let Some(report) = &self.report {
            value["report"] = json!(report);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_port_has_no_path() {
        assert!(admin_port("http://127.0.0.1:9802/").is_ok());
        assert!(admin_port("http://127.0.0.1:9802/drain").is_err());
    }

    #[test]
    fn the_defaults_are_valid() {
        assert!(admin_port(PROXY).is_ok() && admin_port(SHIP).is_ok() && RESERVE < GRACE);
    }
}
