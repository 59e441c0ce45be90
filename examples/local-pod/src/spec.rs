//! The pod's manifest: which process runs with which flags, where its files are, and on which ports.
//!
//! The same pod as `examples/deployment.yaml` describes, with loopback addresses in place of the pod's own and
//! folders in place of volumes. Nothing is started from here.

use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;

use crate::{binaries::Binaries, error::Error, pod::Launch, volumes::Volumes};

/// `terminationGracePeriodSeconds` of the demo's pod.
const GRACE: u64 = 20;

/// The log file's size at rotation: one rotation a second or so in a calm run, several in chaos.
const ROTATE_AT: u64 = 12 << 10;
const ROTATE_AT_IN_CHAOS: u64 = 4 << 10;

/// What one pod has otherwise than another.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    /// `terminationGracePeriodSeconds`: what the hooks, the app and the sidecars may take together.
    pub(crate) grace: u64,
    /// What of it the hooks leave to the rest.
    pub(crate) reserve: Duration,
    /// The hooks' own settings; none: their defaults.
    pub(crate) quiet: Option<Duration>,
    pub(crate) min_delay: Option<Duration>,
    /// What the sidecars may take from their SIGTERM to their end; none: their defaults.
    pub(crate) proxy_deadline: Option<Duration>,
    pub(crate) ship_deadline: Option<Duration>,
    /// The sidecars are plain containers, which get SIGTERM with the app: ship has to wait for the app's end by itself.
    pub(crate) plain: bool,
    pub(crate) rotate_at: u64,
    /// What the app does for so long between its last answer and its last line.
    pub(crate) linger: Duration,
}

impl Settings {
    /// The demo's own pod.
    pub(crate) fn demo(chaos: bool) -> Self {
        Self {
            grace: GRACE,
            reserve: Duration::from_secs(3),
            quiet: Some(Duration::from_secs(1)),
            min_delay: Some(Duration::from_millis(500)),
            proxy_deadline: None,
            ship_deadline: None,
            plain: false,
            rotate_at: if chaos { ROTATE_AT_IN_CHAOS } else { ROTATE_AT },
            linger: Duration::ZERO,
        }
    }
}

/// Where everything listens.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// The database, outside the pod.
    pub(crate) database: SocketAddr,
    /// The app, on its localhost.
    pub(crate) app: SocketAddr,
    /// The proxy's inbound listener: what clients know.
    pub(crate) web: SocketAddr,
    /// The proxy's outbound listener: what the app knows of the database.
    pub(crate) outbound: SocketAddr,
    pub(crate) proxy_admin: SocketAddr,
    pub(crate) ship_admin: SocketAddr,
}

/// Ports of the system's choice, held so that nobody else is given one of them.
#[derive(Debug)]
pub(crate) struct Reservation {
    held: Vec<TcpListener>,
}

impl Addresses {
    /// Reserves all of them. The pod's own ports stay held until the reservation is dropped; the database's is free,
    /// since seed has to find it closed.
    pub(crate) fn reserve() -> Result<(Self, Reservation), Error> {
        Self::reserve_at(Ipv4Addr::LOCALHOST)
    }

    /// The same at another address of loopback (all of 127.0.0.0/8 is): where many pods live at once each has its own,
    /// so that no connection from anywhere has one of the ports as its own when the pod opens it.
    pub(crate) fn reserve_at(ip: Ipv4Addr) -> Result<(Self, Reservation), Error> {
        let mut held = Vec::new();
        let mut next = || -> std::io::Result<SocketAddr> {
            let listener = TcpListener::bind((ip, 0))?;
            let address = listener.local_addr()?;
            held.push(listener);
            Ok(address)
        };
        let mut reserve = || {
            Ok(Self {
                database: next()?,
                app: next()?,
                web: next()?,
                outbound: next()?,
                proxy_admin: next()?,
                ship_admin: next()?,
            })
        };
        let addresses = reserve().map_err(Error::io("reserve ports on loopback"))?;
        held.remove(0);
        Ok((addresses, Reservation { held }))
    }
}

impl Reservation {
    /// Lets the ports go: their owners start now.
    pub(crate) fn release(self) {
        drop(self.held);
    }
}

/// The containers.
#[derive(Debug)]
pub(crate) struct Spec {
    /// Init container: puts podkit-drain where the app's container can run it.
    pub(crate) install: Launch,
    /// Init container.
    pub(crate) seed: Launch,
    /// Native sidecar, started first and stopped last.
    pub(crate) ship: Launch,
    /// Native sidecar.
    pub(crate) proxy: Launch,
    /// The main container.
    pub(crate) app: Launch,
    /// The main container's preStop hook.
    pub(crate) drain: Launch,
    /// The same hook in the sidecars' containers, where those are plain ones.
    pub(crate) drain_of_proxy: Launch,
    pub(crate) drain_of_ship: Launch,
    /// What seed makes of the template, for a pod without it.
    app_config: String,
}

impl Spec {
    /// Writes what comes with the manifest, and names every process.
    pub(crate) fn write(
        volumes: &Volumes,
        binaries: &Binaries,
        addresses: &Addresses,
        backend: SocketAddr,
        settings: &Settings,
    ) -> Result<Self, Error> {
        volumes.write("templates/seed.yaml", &seed_yaml(volumes, addresses.database))?;
        volumes.write("templates/proxy.yaml", &proxy_yaml(addresses))?;
        volumes.write("templates/app.json.j2", APP_TEMPLATE)?;
        let launch = |name: &'static str, program: PathBuf, args: Vec<OsString>| Launch {
            name,
            program,
            args,
            env: Vec::new(),
            log: volumes.path(&format!("log/{name}.log")),
        };
        let podkit = |name: &'static str, args: Vec<OsString>| {
            launch(name, binaries.get(&format!("podkit-{name}")), args)
        };
        let own = std::env::current_exe().map_err(Error::io("find the demo's own file"))?;
        let logs = volumes.path("logs");
        let mut seed = podkit("seed", args(["--config"], [volumes.path("templates/seed.yaml")]));
        seed.args.extend(TEXT.map(OsString::from));
        seed.env = app_environment(addresses, &logs.join("app.log"), settings);
        let app_config = seed.env.iter().fold(APP_TEMPLATE.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{{ env.{name} }}}}"), value)
        });
        let mut ship = podkit("ship", args(["--include"], [logs.join("app.log*")]));
        ship.args.extend(args(["--state-dir"], [logs.join(".podkit")]));
        ship.args.extend(words(format!(
            "--to http://{backend}/ --compression zstd --admin {}",
            addresses.ship_admin
        )));
        ship.args.extend(deadline(settings.ship_deadline));
        if settings.plain {
            ship.args.extend(words(format!("--shutdown-quiet {}ms", SHIP_QUIET.as_millis())));
        }
        ship.args.extend(TEXT.map(OsString::from));
        let inbound = format!(
            "--forward http://{}=http://{} --admin {}",
            addresses.web, addresses.app, addresses.proxy_admin
        );
        let mut proxy = podkit("proxy", words(inbound));
        proxy.args.extend(args(["--config"], [volumes.path("templates/proxy.yaml")]));
        proxy.args.extend(deadline(settings.proxy_deadline));
        proxy.args.extend(TEXT.map(OsString::from));
        let hook = |name: &'static str| {
            let mut hook = launch(name, volumes.path("bin/podkit-drain"), drain_flags(addresses, settings));
            // In a pod the hook's lines belong to the first process; here that is somebody else's.
            hook.args.extend(args(["--log"], [hook.log.clone()]));
            hook.args.extend(args(["--report"], [volumes.path(&format!("log/{name}.json"))]));
            hook.args.extend(TEXT.map(OsString::from));
            hook
        };
        Ok(Self {
            install: launch(
                "install",
                binaries.get("podkit-drain"),
                args(["install"], [volumes.path("bin")]),
            ),
            seed,
            ship,
            proxy,
            app: launch("app", own, args(["app", "--config"], [volumes.path("config/app.json")])),
            drain: hook("drain"),
            drain_of_proxy: hook("drain-proxy"),
            drain_of_ship: hook("drain-ship"),
            app_config,
        })
    }

    /// Does what the init containers do, for a pod that is not about them.
    pub(crate) fn prepare(&mut self, volumes: &Volumes, drain: &Path) -> Result<(), Error> {
        for hook in [&mut self.drain, &mut self.drain_of_proxy, &mut self.drain_of_ship] {
            hook.program = drain.to_owned();
        }
        volumes.write("config/app.json", &self.app_config)
    }
}

/// After SIGTERM, how long nobody may have written to the logs until a ship that is a plain container ends.
const SHIP_QUIET: Duration = Duration::from_millis(500);

fn drain_flags(addresses: &Addresses, settings: &Settings) -> Vec<OsString> {
    let mut flags = words(format!(
        "--grace {}s --reserve {}ms --port {} --proxy http://{} --ship http://{}",
        settings.grace,
        settings.reserve.as_millis(),
        addresses.app.port(),
        addresses.proxy_admin,
        addresses.ship_admin
    ));
    for (flag, value) in [("--quiet", settings.quiet), ("--min-delay", settings.min_delay)] {
        flags.extend(value.into_iter().flat_map(|value| words(format!("{flag} {}ms", value.as_millis()))));
    }
    flags
}

fn deadline(given: Option<Duration>) -> Vec<OsString> {
    given.map(|deadline| words(format!("--shutdown-deadline {}ms", deadline.as_millis()))).unwrap_or_default()
}

/// People read these logs.
const TEXT: [&str; 2] = ["--log-format", "text"];

/// A line of flags without spaces in their values.
fn words(line: String) -> Vec<OsString> {
    line.split(' ').map(OsString::from).collect()
}

fn args<const F: usize, const P: usize>(flags: [&str; F], paths: [PathBuf; P]) -> Vec<OsString> {
    flags.into_iter().map(OsString::from).chain(paths.map(OsString::from)).collect()
}

/// JSON is YAML, and quotes any path.
fn seed_yaml(volumes: &Volumes, database: SocketAddr) -> String {
    let config = json!({
        "target": volumes.path("config"),
        "deadline": "20s",
        "wait": [{"tcp": database}],
        "files": [{
            "path": "app.json",
            "template": volumes.path("templates/app.json.j2"),
            "mode": "0640",
        }],
    });
    format!("{config:#}\n")
}

/// The way out of the pod. In a cluster `--forward tcp://127.0.0.1:5432=tcp://db:5432` says the same; here the
/// database is on loopback too, so that the direction has to be told.
fn proxy_yaml(addresses: &Addresses) -> String {
    let config = json!({
        "listeners": [{
            "name": "database",
            "direction": "outbound",
            "listen": addresses.outbound,
            "protocol": "tcp",
            "to": "database",
        }],
        "upstreams": [{"name": "database", "address": addresses.database}],
    });
    format!("{config:#}\n")
}

/// The app's config as its developers would write it.
const APP_TEMPLATE: &str = r#"{
  "listen": "{{ env.APP_LISTEN }}",
  "database": "{{ env.APP_DATABASE }}",
  "log": "{{ env.APP_LOG }}",
  "rotate_at": {{ env.APP_ROTATE_AT }},
  "linger_ms": {{ env.APP_LINGER_MS }}
}
"#;

fn app_environment(addresses: &Addresses, log: &Path, settings: &Settings) -> Vec<(&'static str, String)> {
    vec![
        ("APP_LISTEN", addresses.app.to_string()),
        ("APP_DATABASE", addresses.outbound.to_string()),
        ("APP_LOG", log.display().to_string()),
        ("APP_ROTATE_AT", settings.rotate_at.to_string()),
        ("APP_LINGER_MS", settings.linger.as_millis().to_string()),
    ]
}
