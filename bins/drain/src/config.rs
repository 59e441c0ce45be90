//! From what was typed to what it means. Nothing past this file sees a raw text.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use podkit_cli::{Effective, Flag, Invalid, Section, Tool, Verb, mask_url, units};
use podkit_http_client::Target;
use serde_json::{Value, json};

use crate::peers::{Block, Peers};
use crate::quiet::Rule;
use crate::sidecar::Sidecar;

/// Kubernetes' own default, `terminationGracePeriodSeconds: 30`.
const GRACE: Duration = Duration::from_secs(30);
/// What an app usually needs between its SIGTERM and its end.
const RESERVE: Duration = Duration::from_secs(5);
/// Longer than the pauses of a client that still comes here.
const QUIET: Duration = Duration::from_secs(3);
/// What the change of the endpoints usually needs to reach the nodes.
const MIN_DELAY: Duration = Duration::from_secs(2);
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
        podkit-drain install /podkit\n      \
        copy this binary to a shared volume, in an init container\n",
    flags: &[
        Flag::value("grace", "DURATION", "The pod's termination grace period [default: 30s]"),
        Flag::value("reserve", "DURATION", "How much of it is kept for the app's own stop [default: 5s]"),
        Flag::list("port", "PORT", "A port that the app serves on; repeatable"),
        Flag::value(
            "proxy",
            "URL",
            "podkit-proxy's admin port [default: http://127.0.0.1:9802, if it is there]",
        ),
        Flag::value(
            "ship",
            "URL",
            "podkit-ship's admin port [default: http://127.0.0.1:9801, if it is there]",
        ),
        Flag::value("quiet", "DURATION", "How long no new connection may have come [default: 3s]"),
        Flag::value("min-delay", "DURATION", "Never end the watch before this [default: 2s]"),
        Flag::list(
            "then",
            "CALL",
            "A request to send when traffic has left, 'METHOD URL'; repeatable, in order",
        ),
        Flag::list(
            "ignore-peer",
            "ADDRESS",
            "A peer or CIDR that is no client; repeatable [default: $HOST_IP]",
        ),
        Flag::switch("count-loopback", "Count connections from loopback as traffic"),
        Flag::value(
            "log",
            "FILE",
            "Where the log goes [default: /proc/1/fd/1 where it can be written, else stderr]",
        ),
    ],
    verbs: &[Verb::Install],
    admin: None,
    // The hook runs in the app's container: its termination message is the app's own.
    termination_message: false,
};

/// A request to send when traffic has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// `POST`.
    pub(crate) method: String,
    /// `http://127.0.0.1:8080`
    pub(crate) target: Target,
    /// `/shutdown`, with its query; at least `/`.
    pub(crate) path: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, mask_url(&format!("{}{}", self.target, self.path)))
    }
}

/// A checked config.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The pod's grace period.
    pub(crate) grace: Duration,
    /// What of it belongs to the app; shorter than `grace`.
    pub(crate) reserve: Duration,
    /// When traffic counts as gone.
    pub(crate) rule: Rule,
    /// The app's ports; may be none.
    pub(crate) ports: Vec<u16>,
    /// Whose connections count.
    pub(crate) peers: Peers,
    /// Where the lease is taken.
    pub(crate) proxy: Sidecar,
    /// Where the logs are flushed.
    pub(crate) ship: Sidecar,
    /// What to send when traffic has left.
    pub(crate) then: Vec<Call>,
    /// Where the log was asked to go.
    pub(crate) log: Option<PathBuf>,
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
        let mut ports = root.list("port", units::port);
        ports.sort_unstable();
        ports.dedup();
        let mut ignored = root.list("ignore_peer", |text| text.parse::<Block>());
        if !root.has("ignore_peer") {
            ignored.extend(node_address());
        }
        let count_loopback = root.switch("count_loopback");
        let proxy = sidecar(root, "proxy", PROXY);
        let ship = sidecar(root, "ship", SHIP);
        let then = root.list("then", call);
        let log = root.value("log", units::path);
        let peers = Peers { ignored, count_loopback };
        Some(Self { grace, reserve, rule, ports, peers, proxy: proxy?, ship: ship?, then, log })
    }
}

/// The downward API's `status.hostIP`. A variable that is not ours is taken where it fits and never a fault.
fn node_address() -> Option<Block> {
    let text = std::env::var("HOST_IP").ok()?;
    text.trim().parse::<IpAddr>().ok().map(Block::from)
}

fn sidecar(root: &Section<'_>, key: &str, default: &str) -> Option<Sidecar> {
    match root.value(key, admin_port) {
        Some(target) => Some(Sidecar { target, given: true }),
        // Given wrongly is a fault already, and only then can the default be of no use.
        None => default.parse().ok().map(|target| Sidecar { target, given: false }),
    }
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

/// `POST http://127.0.0.1:8080/shutdown`
fn call(text: &str) -> Result<Call, Invalid> {
    let bad = |why: &str| {
        Invalid::new(format!("{:?} {why}", mask_url(text)))
            .hint("write `POST http://127.0.0.1:8080/shutdown`")
    };
    let (method, rest) = text.trim().split_once(' ').ok_or_else(|| bad("is not `METHOD URL`"))?;
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(bad("has no method in capitals before its URL"));
    }
    let rest = rest.trim();
    let authority = rest.find("://").map_or(0, |at| at + 3);
    let end = rest[authority..].find(['/', '?']).map_or(rest.len(), |at| authority + at);
    // The whole of it is checked, so that a path with a space in it is a fault too.
    url(rest)?;
    let (target, path) = rest.split_at(end);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(Call { method: method.to_owned(), target: url(target)?, path })
}

impl Effective for Config {
    fn effective(&self) -> Value {
        let sidecar = |sidecar: &Sidecar| sidecar.target.to_string();
        let show = units::show_duration;
        let mut value = json!({
            "grace": show(self.grace),
            "reserve": show(self.reserve),
            "port": self.ports,
            "proxy": sidecar(&self.proxy),
            "ship": sidecar(&self.ship),
            "quiet": show(self.rule.quiet),
            "min_delay": show(self.rule.min_delay),
            "then": self.then.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "ignore_peer": self.peers.ignored.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "count_loopback": self.peers.count_loopback,
        });
        if let Some(log) = &self.log {
            value["log"] = json!(log);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_a_method_and_a_url() {
        for (text, shown) in [
            ("POST http://127.0.0.1:8080/shutdown?now=1", "POST http://127.0.0.1:8080/shutdown?now=***"),
            ("PUT  http://[::1]:80/a/", "PUT http://[::1]:80/a/"),
            ("GET http://localhost", "GET http://localhost/"),
        ] {
            assert_eq!(call(text).unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "POST",
            "http://127.0.0.1/x",
            "post http://127.0.0.1/x",
            "POST https://127.0.0.1/",
            "POST http://",
            "POST http://127.0.0.1/a b",
        ] {
            assert!(call(bad).is_err(), "{bad:?}");
        }
    }

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
