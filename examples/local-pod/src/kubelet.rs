//! The order of a pod's life, as the kubelet keeps it for native sidecars.
//!
//! ```text
//!   init       install drain, then seed, one after the other, each to its end
//!   start      ship, then proxy, each until its startup probe passes; the app; readiness
//!   load       requests come; with --chaos things break
//!   preStop    the hook runs while endpoints are still being told; traffic goes elsewhere a moment later
//!   stop       SIGTERM to the app; when it has ended, to proxy, then to ship: one grace period for all
//! ```
//!
//! Owns every process of the pod until `termination` ends them. It judges nothing: what it saw goes into [`Life`], for
//! `report`.

use std::time::Duration;

use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, interval, sleep, sleep_until},
};

use crate::{
    backend::{Backend, Mood},
    chaos::{self, Fault},
    database::Database,
    error::Error,
    load::{Counts, Load},
    options::Options,
    pod::{End, Launch, Process},
    probe,
    screen::Screen,
    spec::{Addresses, Reservation, Spec},
    termination::{Container, Event, Kind, Step, Termination},
};

/// An init container of this pod takes a second, most of it waiting for the database.
const INIT: Duration = Duration::from_secs(30);

/// From a start until the probe passes; generous, since the machine may be busy with a build.
const STARTUP: Duration = Duration::from_secs(20);

/// How often the hook's log is looked at.
const LOOK: Duration = Duration::from_millis(25);

/// How long seed has to wait for the database.
const DATABASE_LATE: Duration = Duration::from_secs(1);

/// From the start of the termination until the last client has heard of it.
const ENDPOINTS_LATE: Duration = Duration::from_secs(1);

/// Between two lines of progress.
const NEWS: Duration = Duration::from_secs(1);

/// A batch comes about once a second under load; without one the kill goes ahead.
const BATCH: Duration = Duration::from_secs(3);

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Life {
    pub(crate) phases: Vec<(&'static str, Duration)>,
    pub(crate) ends: Vec<(&'static str, End)>,
    pub(crate) load: Counts,
    /// How often ship was killed on purpose.
    pub(crate) kills: usize,
    /// What should not have happened, besides a process's bad end.
    pub(crate) faults: Vec<String>,
    /// What cut the life short.
    pub(crate) trouble: Option<Error>,
}

/// One pod's kubelet.
#[derive(Debug)]
pub(crate) struct Kubelet<'a> {
    pub(crate) screen: &'a Screen,
    pub(crate) spec: &'a Spec,
    pub(crate) addresses: &'a Addresses,
    pub(crate) backend: &'a Backend,
    pub(crate) options: &'a Options,
    /// The pod's grace period in seconds.
    grace: u64,
    life: Life,
    /// In the order of their start.
    running: Vec<Process>,
    database: Option<Database>,
    load: Option<Load>,
}

impl<'a> Kubelet<'a> {
    pub(crate) fn new(
        screen: &'a Screen,
        spec: &'a Spec,
        addresses: &'a Addresses,
        backend: &'a Backend,
        options: &'a Options,
        grace: u64,
    ) -> Self {
        let (life, running) = (Life::default(), Vec::new());
        Self { screen, spec, addresses, backend, options, grace, life, running, database: None, load: None }
    }

    /// Runs the pod from its first step to its last. Whatever happens, no process is left.
    pub(crate) async fn live(mut self, ports: Reservation) -> Life {
        let outcome = tokio::select! {
            outcome = self.phases(ports) => outcome,
            interrupted = interruption() => Err(interrupted),
        };
        if let Err(error) = outcome {
            self.life.trouble = Some(error);
        }
        // Where the life was cut short: first the clients, so that the end of the rest is no failure of theirs.
        if let Some(load) = self.load.take() {
            self.life.load = load.counts().clone();
        }
        for process in &mut self.running {
            process.kill().await;
        }
        self.life
    }

    async fn phases(&mut self, ports: Reservation) -> Result<(), Error> {
        self.timed("init", async |kubelet| kubelet.init().await).await?;
        ports.release();
        self.timed("start", async |kubelet| kubelet.start().await).await?;
        self.timed("load", async |kubelet| kubelet.serve().await).await?;
        self.terminate().await
    }

    async fn timed(
        &mut self,
        phase: &'static str,
        work: impl AsyncFnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let start = Instant::now();
        let outcome = work(self).await;
        self.life.phases.push((phase, start.elapsed()));
        outcome
    }

    async fn init(&mut self) -> Result<(), Error> {
        let (spec, addresses) = (self.spec, self.addresses);
        let end = spec.install.run(INIT).await?;
        self.ended("install", end, "while it copied itself onto the volume")?;
        self.screen.line("init", "podkit-drain is installed on a shared volume");
        self.screen.line("init", format_args!("seed waits for the database at {}", addresses.database));
        let mut seed = spec.seed.start()?;
        sleep(DATABASE_LATE).await;
        if let Some(end) = seed.ended() {
            self.life.faults.push(format!("seed ended with {end} before its dependency was there"));
        }
        self.screen.line("init", "the database opens");
        self.database = Some(Database::open(addresses.database).await?);
        let end = seed.end(Instant::now() + INIT).await?;
        self.ended("seed", end, "instead of rendering the app's config")?;
        self.screen.line("init", "seed has rendered the app's config");
        Ok(())
    }

    /// Notes how a process ended; anything but 0 ends the pod's life here.
    fn ended(&mut self, process: &'static str, end: End, when: &'static str) -> Result<(), Error> {
        self.life.ends.push((process, end));
        if end.is_clean() { Ok(()) } else { Err(Error::Ended { process, end: end.to_string(), when }) }
    }

    async fn start(&mut self) -> Result<(), Error> {
        let (spec, addresses) = (self.spec, self.addresses);
        for (launch, admin) in [(&spec.ship, addresses.ship_admin), (&spec.proxy, addresses.proxy_admin)] {
            self.run(launch)?;
            probe::passes(admin, "/startupz", launch.name, &mut self.running, STARTUP).await?;
            self.screen.line("start", format_args!("{} is up, admin port {}", launch.name, admin.port()));
        }
        self.run(&spec.app)?;
        for (address, path, name) in
            [(addresses.app, "/healthz", "app"), (addresses.proxy_admin, "/readyz", "proxy")]
        {
            probe::passes(address, path, name, &mut self.running, STARTUP).await?;
        }
        self.screen.line(
            "start",
            format_args!("the app serves on {}, the pod is ready on {}", addresses.app, addresses.web),
        );
        Ok(())
    }

    fn run(&mut self, launch: &Launch) -> Result<(), Error> {
        self.running.push(launch.start()?);
        Ok(())
    }

    fn all_run(&mut self, when: &'static str) -> Result<(), Error> {
        let gone = self.running.iter_mut().find_map(|process| Some((process.name(), process.ended()?)));
        match gone {
            None => Ok(()),
            Some((process, end)) => {
                self.life.ends.push((process, end));
                Err(Error::Ended { process, end: end.to_string(), when })
            }
        }
    }

    async fn serve(&mut self) -> Result<(), Error> {
        let start = Instant::now();
        let end = start + self.options.seconds;
        self.screen.line("load", format_args!("{} requests a second", self.options.rate));
        self.load = Some(Load::start(self.addresses.web, self.options.rate));
        let script = if self.options.chaos { chaos::script(self.options.seconds) } else { Vec::new() };
        let mut faults = script.into_iter().map(|(at, fault)| (start + at, fault)).peekable();
        let mut news = start + NEWS;
        while Instant::now() < end {
            let next = faults.peek().map_or(end, |(at, _)| *at).min(news).min(end);
            sleep_until(next).await;
            self.all_run("under load")?;
            if let Some((_, fault)) = faults.next_if(|(at, _)| *at <= next) {
                self.commit(fault).await?;
            }
            if news <= next {
                news += NEWS;
                self.tell();
            }
        }
        Ok(())
    }

    /// One line of progress.
    fn tell(&self) {
        let Some(load) = &self.load else { return };
        let (sent, failed) = load.counts().progress();
        let delivered = self.backend.stored().tally.delivered();
        let counts = format_args!("{sent} requests, {failed} failed; {delivered} lines at the backend");
        self.screen.line("load", counts);
    }

    async fn commit(&mut self, fault: Fault) -> Result<(), Error> {
        match fault {
            Fault::BackendLeaves => {
                self.backend.set_mood(Mood::Refuses);
                self.screen.line("chaos", "the backend answers 503 from now on");
            }
            Fault::BackendReturns => {
                let refused = self.backend.stored().refused;
                self.backend.set_mood(Mood::Well);
                self.screen
                    .line("chaos", format_args!("the backend works again, after {refused} refused batches"));
            }
            Fault::KillMidBatch => {
                let caught = tokio::time::timeout(BATCH, self.backend.batch_in_flight()).await.is_ok();
                self.kill_ship(if caught { "with a batch in flight" } else { "with no batch in flight" })
                    .await?;
            }
            Fault::Kill => self.kill_ship("while the backend is away").await?,
        }
        Ok(())
    }

    async fn kill_ship(&mut self, when: &str) -> Result<(), Error> {
        let admin = self.addresses.ship_admin;
        let Some(ship) = self.running.iter_mut().find(|process| process.name() == "ship") else {
            return Ok(());
        };
        // Before the signal: an answer that is sent after it reaches nobody.
        self.backend.next_wave();
        ship.kill().await;
        self.life.kills += 1;
        ship.restart()?;
        self.screen.line("chaos", format_args!("ship is killed (SIGKILL) {when}, and started again"));
        probe::passes(admin, "/startupz", "ship", &mut self.running, STARTUP).await
    }

    /// The hook, while clients still come for a while, and then everyone's end.
    async fn terminate(&mut self) -> Result<(), Error> {
        let lag = format_args!("podkit-drain runs; clients still come for {}s", ENDPOINTS_LATE.as_secs());
        self.screen.line("preStop", lag);
        let start = Instant::now();
        let before = self.database.as_ref().map_or(0, Database::writes);
        let containers = std::mem::take(&mut self.running).into_iter().map(|process| self.container(process));
        let mut termination = Termination::of_pod(containers.collect(), self.grace);
        let mut looks = interval(LOOK);
        let (mut shown, mut hook_took) = (0, Duration::ZERO);
        loop {
            let event = tokio::select! {
                event = termination.next() => event?,
                _ = looks.tick() => {
                    shown = self.show_hook(shown);
                    if start.elapsed() >= ENDPOINTS_LATE {
                        self.leave().await;
                    }
                    continue;
                }
            };
            let Some(Event { at, container, step }) = event else { break };
            match step {
                Step::HookStarted => {}
                Step::HookEnded(end) => {
                    self.hook_ended(end, shown).await;
                    hook_took = at - start;
                }
                Step::HookGivenUp => {
                    self.life.ends.push(("drain", End::Overdue));
                    hook_took = at - start;
                }
                Step::Term => self.screen.line("stop", format_args!("SIGTERM to {container}")),
                Step::Ended(end) => self.container_ended(container, end, before),
            }
        }
        self.life.phases.push(("preStop", hook_took));
        self.life.phases.push(("stop", start.elapsed().saturating_sub(hook_took)));
        Ok(())
    }

    fn container(&self, process: Process) -> Container {
        match process.name() {
            "app" => Container { process, kind: Kind::Main, hook: Some(self.spec.drain.clone()) },
            _ => Container { process, kind: Kind::Sidecar, hook: None },
        }
    }

    async fn hook_ended(&mut self, end: End, shown: usize) {
        self.show_hook(shown);
        if self.load.is_some() {
            self.life.faults.push(format!("drain ended with {end} while clients still came"));
            self.leave().await;
        }
        self.life.ends.push(("drain", end));
        self.screen.line("preStop", format_args!("podkit-drain has ended with {end}"));
    }

    fn container_ended(&mut self, container: &'static str, end: End, writes_before: u64) {
        self.life.ends.push((container, end));
        let mut note = "";
        if container == "app" {
            let outbound = self.database.as_ref().map_or(0, Database::writes) > writes_before;
            note = match outbound {
                true => "; its last write reached the database",
                false => "; its last write did not reach the database",
            };
            if !outbound {
                self.life.faults.push("the app could not write to the database while it shut down".into());
            }
        }
        self.screen.line("stop", format_args!("{container} has ended with {end}{note}"));
    }

    /// Traffic goes elsewhere.
    async fn leave(&mut self) {
        if let Some(load) = self.load.take() {
            self.life.load = load.leave().await;
            let (sent, failed) = self.life.load.progress();
            self.screen
                .line("preStop", format_args!("traffic goes elsewhere: {sent} requests, {failed} failed"));
        }
    }

    /// Shows what the hook has logged since `shown` bytes, as `kubectl logs` would; returns the new length.
    fn show_hook(&self, shown: usize) -> usize {
        let text = std::fs::read_to_string(&self.spec.drain.log).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text.get(shown..whole).unwrap_or_default().lines() {
            // Without the time, which is on the screen already, and the usual level.
            let told = line.split_once(" INFO ").map_or(line, |(_, told)| told);
            self.screen.line("preStop", format_args!("drain: {told}"));
        }
        whole
    }
}

/// Ctrl-C, or whoever wants the demo to end.
async fn interruption() -> Error {
    let both = signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
    match both {
        Ok((mut int, mut term)) => {
            tokio::select! {
                _ = int.recv() => {}
                _ = term.recv() => {}
            }
            Error::Interrupted
        }
        Err(source) => Error::Io { doing: "listen for signals".into(), source },
    }
}
