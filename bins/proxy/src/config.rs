//! What was typed becomes what is meant: listeners, upstreams, limits and times, all checked.
//!
//! `--forward` and the YAML lists end in the same values. Nothing past this module sees a raw string.

mod clash;
mod forward;
mod listener;
mod show;
mod upstream;
mod values;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use podkit_cli::{Invalid, Section, units};

use crate::quota::MAX_WORKERS;
pub(crate) use listener::{
    AccessLog, ClientCerts, Direction, Forwarded, Limits, ListenAddress, Listener, ListenerTls, MAX_HEADERS,
    Protocol, Rate, Timeouts,
};
pub(crate) use upstream::{
    Address, Balance, Dns, Eject, Health, Identity, ProxyProtocol, Upstream, UpstreamProtocol, UpstreamTls,
};

/// Everything `podkit-proxy` was told.
#[derive(Debug)]
pub(crate) struct Config {
    /// Threads that carry traffic; `None` follows the CPU quota.
    pub(crate) workers: Option<NonZeroUsize>,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    pub(crate) shutdown: Shutdown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shutdown {
    /// From the signal to the end.
    pub(crate) deadline: Duration,
    /// How long no new connection must have come before the listeners close.
    pub(crate) quiet: Duration,
}

impl Config {
    /// Reads the settings; `None` where there are faults.
    pub(crate) fn read(root: &Section<'_>) -> Option<Self> {
        let workers = root.value_or("workers", workers, None);
        let admin = root.admin();
        let shutdown = Shutdown::read(&root.section("shutdown"));
        let faults = root.fault_count();
        let mut upstreams = Upstreams::read(root);
        let sections = root.sections("listeners");
        let mut listeners: Vec<Listener> = Vec::new();
        // Where the faults of each listener belong.
        let mut places: Vec<(&Section<'_>, [&str; 2])> = Vec::new();
        for section in &sections {
            let Some(listener) = Listener::read(section, &upstreams) else { continue };
            if listeners.iter().any(|other| other.name == listener.name) {
                let what = format!("{:?} is the name of another listener", listener.name);
                section.fault("name", Invalid::new(what));
            }
            listeners.push(listener);
            places.push((section, ["listen", "to"]));
        }
        for listener in forward::read(root, &listeners, &upstreams.all) {
            upstreams.add(Arc::clone(&listener.upstream));
            listeners.push(listener);
            places.push((root, ["forward", "forward"]));
        }
        let taken = clash::clashes(&listeners, admin);
        for (index, what) in taken {
            let (section, [listen, _]) = places[index];
            section.fault(listen, what);
        }
        for (index, what) in clash::circles(&listeners) {
            let (section, [_, to]) = places[index];
            section.fault(to, what);
        }
        if !root.has("forward") && !root.has("listeners") {
            let hint = "give `--forward 'http://0.0.0.0:8080=http://127.0.0.1:8081'`, or `listeners:` in a config file";
            root.fault("forward", Invalid::new("there is nothing to carry").hint(hint));
        } else if listeners.is_empty() && root.fault_count() == faults {
            root.fault("listeners", Invalid::new("there is no listener"));
        }
        upstreams.check_apps(&mut listeners);
        Some(Self { workers, admin, listeners, upstreams: upstreams.all, shutdown })
    }
}

fn workers(text: &str) -> Result<Option<NonZeroUsize>, Invalid> {
    match text {
        "auto" => Ok(None),
        _ => match units::count(text)
            .map_err(|what| what.hint("write `auto`, or how many threads carry traffic"))?
        {
            count if count.get() <= MAX_WORKERS => Ok(Some(count)),
            _ => Err(Invalid::new(format!("{text:?} is more than {MAX_WORKERS}"))),
        },
    }
}

impl Shutdown {
    fn read(section: &Section<'_>) -> Self {
        let deadline = section.value_or("deadline", units::positive_duration, Duration::from_secs(20));
        // By itself never so long that a short deadline could not be kept.
        let quiet = section.value_or("quiet", units::duration, Duration::from_secs(1).min(deadline / 4));
        if quiet >= deadline {
            let (quiet, deadline) = (units::show_duration(quiet), units::show_duration(deadline));
            let what = Invalid::new(format!("{quiet} is not shorter than the deadline, {deadline}"));
            section.fault(
                "quiet",
                what.hint("a stop could never end cleanly: lower the one or raise the other"),
            );
        }
        Self { deadline, quiet }
    }
}

/// The upstreams that listeners can name.
struct Upstreams {
    all: Vec<Arc<Upstream>>,
    /// The names of those for which nothing is said about their health.
    silent: Vec<String>,
    /// The names of those that have faults of their own.
    faulty: Vec<String>,
}

impl Upstreams {
    fn read(root: &Section<'_>) -> Self {
        let mut upstreams = Self { all: Vec::new(), silent: Vec::new(), faulty: Vec::new() };
        for section in root.sections("upstreams") {
            let name = section.required("name", units::text);
            let upstream = Upstream::read(&section, name.as_deref().unwrap_or_default());
            let Some(name) = name else { continue };
            if upstreams.all.iter().any(|other| other.name == name) {
                section.fault("name", Invalid::new(format!("{name:?} is the name of another upstream")));
            }
            match upstream.map(Arc::new) {
                None => upstreams.faulty.push(name),
                Some(upstream) if section.has("health") => upstreams.all.push(upstream),
                Some(upstream) => upstreams.add(upstream),
            }
        }
        upstreams
    }

    /// The one that a listener names in `to`.
    fn named_in(&self, listener: &Section<'_>) -> Option<Arc<Upstream>> {
        let name = listener.required("to", units::text)?;
        let found = self.all.iter().find(|upstream| upstream.name == name);
        if found.is_none() && !self.faulty.contains(&name) {
            let names: Vec<&str> = self.all.iter().map(|upstream| upstream.name.as_str()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let what = Invalid::new(format!("{name:?} is not the name of an upstream"));
            listener.fault("to", what.hint(format!("there are: {names}")));
        }
        found.cloned()
    }

    /// Adds one for which nothing is said about its health.
    fn add(&mut self, upstream: Arc<Upstream>) {
        self.silent.push(upstream.name.clone());
        self.all.push(upstream);
    }

    /// Readiness follows the app: what inbound listeners reach on this side is checked unless it is told otherwise.
    fn check_apps(&mut self, listeners: &mut [Listener]) {
        for upstream in &mut self.all {
            let users = || listeners.iter().filter(|one| Arc::ptr_eq(&one.upstream, upstream));
            let is_app =
                users().any(|one| one.direction == Direction::Inbound) && upstream.address.is_local();
            if !is_app || !self.silent.contains(&upstream.name) {
                continue;
            }
            let checked =
                Arc::new(Upstream { health: Some(Health::connect(true)), ..Upstream::clone(upstream) });
            for listener in listeners.iter_mut().filter(|one| Arc::ptr_eq(&one.upstream, upstream)) {
                listener.upstream = Arc::clone(&checked);
            }
            *upstream = checked;
        }
    }
}
