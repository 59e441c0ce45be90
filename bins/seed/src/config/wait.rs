//! `wait`: what must be there, or gone, before anything is rendered.
//!
//! Each item names one condition by its key; the keys beside it say how it is waited for. [`Condition`]'s `Display` is
//! what logs and errors call it, without secrets.

mod command;
mod file;
mod http;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use podkit_cli::{Invalid, Section, units};
use serde_json::{Value, json};

use super::name_of;

pub(crate) use command::Program;
pub(crate) use file::{FileCheck, NewerThan};
pub(crate) use http::{HttpCheck, StatusSet};

/// Each condition has a thread of its own while it is waited for.
const MAX_CONDITIONS: usize = 100;

/// The longest pause between tries: late by a second at most, and no load for what is waited for.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// A shorter interval would be a busy loop.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// One entry of `wait`.
#[derive(Debug, Clone)]
pub(crate) struct Wait {
    pub(crate) condition: Condition,
    pub(crate) until: Until,
    /// Its own, within that of the run.
    pub(crate) deadline: Option<Duration>,
    /// The longest pause between two tries.
    pub(crate) interval: Duration,
    /// For one try; of no meaning where [`Condition::default_timeout`] is `None`.
    pub(crate) timeout: Duration,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    There,
    Gone,
}

/// Something that can be asked.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    /// A TCP connection can be opened.
    Tcp { host: String, port: u16 },
    /// A request is answered as wanted.
    Http(Box<HttpCheck>),
    /// The name has an address.
    Dns(String),
    /// There is something at a path.
    File(FileCheck),
    /// Nobody listens on a TCP port.
    PortFree(Port),
    /// A program ends with 0.
    Command(Program),
}

/// A port of this pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// On all addresses of both families.
    Everywhere(u16),
    At(SocketAddr),
}

const UNTIL: &[(&str, Until)] = &[("there", Until::There), ("gone", Until::Gone)];
const KINDS: &[&str] = &["tcp", "http", "dns", "file", "port_free", "command"];
/// Beside each of them.
const COMMON: &[&str] = &["until", "deadline", "interval", "timeout"];

impl Wait {
    /// Reads the key `wait`.
    pub(super) fn read_all(root: &Section<'_>) -> Vec<Self> {
        let items = root.sections("wait");
        if items.len() > MAX_CONDITIONS {
            root.fault(
                "wait",
                Invalid::new(format!("has {} items, and {MAX_CONDITIONS} is the most", items.len())),
            );
        }
        items.iter().filter_map(Self::read).collect()
    }

    fn read(section: &Section<'_>) -> Option<Self> {
        // Each kind is asked for, so that all are known, and the faults of all are told.
        let conditions = [
            section.value("tcp", units::host_port).map(|(host, port)| Condition::Tcp { host, port }),
            HttpCheck::read(section).map(|check| Condition::Http(Box::new(check))),
            section.value("dns", name).map(Condition::Dns),
            FileCheck::read(section).map(Condition::File),
            section.value("port_free", port).map(Condition::PortFree),
            Program::read(section).map(Condition::Command),
        ];
        let until = section.value_or("until", units::choice(UNTIL), Until::There);
        let deadline = section.value("deadline", units::positive_duration);
        let interval = section.value_or("interval", interval, DEFAULT_INTERVAL);
        let timeout = section.value("timeout", units::positive_duration);
        match KINDS.iter().filter(|key| section.has(key)).count() {
            // A key that nobody knows is what was meant, and is told by itself.
            0 if section.keys().any(|key| !COMMON.contains(&key)) => {}
            0 => section.fault_here(
                Invalid::new("names no condition").hint(format!("give it one of {}", KINDS.join(", "))),
            ),
            1 => {}
            _ => section.fault_here(
                Invalid::new("names more than one condition")
                    .hint("give each its own item, with its own `-`"),
            ),
        }
        let condition = conditions.into_iter().flatten().next()?;
        let default = condition.default_timeout();
        if default.is_none() && section.has("timeout") {
            let what = format!("`{}` is looked at in no time: it has no `timeout`", condition.key());
            section.fault("timeout", Invalid::new(what).hint("`deadline` is how long it is waited for"));
        }
        let timeout = timeout.or(default).unwrap_or_default();
        Some(Self { condition, until, deadline, interval, timeout })
    }

    pub(super) fn effective(&self) -> Value {
        let mut shown = json!({
            self.condition.key(): self.condition.effective(),
            "until": name_of(UNTIL, &self.until),
        });
        if let Some(deadline) = self.deadline {
            shown["deadline"] = units::show_duration(deadline).into();
        }
        shown["interval"] = units::show_duration(self.interval).into();
        if self.condition.default_timeout().is_some() {
            shown["timeout"] = units::show_duration(self.timeout).into();
        }
        shown
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.until {
            Until::There => write!(f, "{}", self.condition),
            Until::Gone => write!(f, "{} to be gone", self.condition),
        }
    }
}

impl Condition {
    fn key(&self) -> &'static str {
        match self {
            Self::Tcp { .. } => "tcp",
            Self::Http(_) => "http",
            Self::Dns(_) => "dns",
            Self::File(_) => "file",
            Self::PortFree(_) => "port_free",
            Self::Command(_) => "command",
        }
    }

    /// For one try; `None` where a try does not wait.
    fn default_timeout(&self) -> Option<Duration> {
        match self {
            // Long enough for one retransmitted SYN (1 s), short enough to look up the name again soon.
            Self::Tcp { .. } => Some(Duration::from_secs(3)),
            // A health check that takes longer is not healthy.
            Self::Http(_) | Self::Dns(_) => Some(Duration::from_secs(5)),
            // Starting an interpreter at 100m CPU takes seconds.
            Self::Command(_) => Some(Duration::from_secs(10)),
            Self::File(_) | Self::PortFree(_) => None,
        }
    }

    fn effective(&self) -> Value {
        match self {
            Self::Tcp { host, port } => address(host, *port).into(),
            Self::Http(check) => check.effective(),
            Self::Dns(name) => json!(name),
            Self::File(check) => check.effective(),
            Self::PortFree(port) => json!(port.to_string()),
            Self::Command(program) => program.effective(),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.key())?;
        match self {
            Self::Tcp { host, port } => f.write_str(&address(host, *port)),
            Self::Http(check) => check.fmt(f),
            Self::Dns(name) => f.write_str(name),
            Self::File(check) => check.fmt(f),
            Self::PortFree(port) => port.fmt(f),
            Self::Command(program) => program.fmt(f),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere(port) => port.fmt(f),
            Self::At(address) => address.fmt(f),
        }
    }
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn interval(text: &str) -> Result<Duration, Invalid> {
    match units::positive_duration(text)? {
        short if short < MIN_INTERVAL => {
            Err(Invalid::new(format!("{text:?} must be at least {}", units::show_duration(MIN_INTERVAL))))
        }
        interval => Ok(interval),
    }
}

/// `8080`, or `127.0.0.1:8080`.
fn port(text: &str) -> Result<Port, Invalid> {
    let bad = || {
        Invalid::new(format!("{text:?} is no port of this pod"))
            .hint("write `8080`, `127.0.0.1:8080` or `[::1]:8080`")
    };
    if let Ok(port) = units::port(text) {
        return Ok(Port::Everywhere(port));
    }
    let address: SocketAddr = text.parse().map_err(|_| bad())?;
    if address.port() == 0 { Err(bad()) } else { Ok(Port::At(address)) }
}

/// A name that a name server can be asked for (RFC 1035 2.3.4; `_` as in the names of services).
fn name(text: &str) -> Result<String, Invalid> {
    let bad =
        |why: &str| Invalid::new(format!("{text:?} {why}")).hint("write `db` or `db.shop.svc.cluster.local`");
    if text.parse::<IpAddr>().is_ok() {
        return Err(bad("is an address, and needs no name server"));
    }
    let whole = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if whole.len() <= 253 && whole.split('.').all(is_label) {
        Ok(text.to_owned())
    } else {
        Err(bad("is no host name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ports() {
        assert_eq!(port("8080"), Ok(Port::Everywhere(8080)));
        assert_eq!(port("[::1]:80"), Ok(Port::At("[::1]:80".parse().unwrap())));
        for bad in ["", "0", "65536", "localhost:80", "127.0.0.1:0", ":80", "+80"] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names() {
        for good in ["db", "db.", "a-b.c_d.e", "_http._tcp.web", &"a".repeat(63)] {
            assert_eq!(name(good).unwrap(), good);
        }
        for bad in ["", ".", "a..b", "db:80", "a b", "http://db", "10.0.0.1", "::1", "ä", &"a".repeat(64)] {
            assert!(name(bad).is_err(), "{bad}");
        }
        assert!(name(&["a"; 128].join(".")).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "\\PC{0,40}") {
            let _ = (port(&text), name(&text), interval(&text));
        }
    }
}
