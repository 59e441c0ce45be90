//! One pod of a rehearsal: started, loaded, ended by the kubelet's rules, and everything that was seen of it.
//!
//! It judges nothing; that is for `verdict`.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, sleep_until},
};

use super::{
    clients::{Clients, Listed, Seen},
    plan::{Plan, Way},
    samples::{Sample, Samples},
};
use crate::{
    backend::{Backend, Mood},
    binaries::Binaries,
    database::Database,
    error::Error,
    pod::{Launch, Process},
    probe,
    sequence::Delivery,
    spec::{Addresses, Spec},
    termination::{Container, Event, Kind, Step, Termination},
    volumes::{Volumes, Written},
};

/// From a start until the probe passes; generous, since many pods start at once on a busy machine.
const STARTUP: Duration = Duration::from_secs(60);

/// How often a probe is sent.
const PROBE_PERIOD: Duration = Duration::from_millis(50);

/// What everybody else calls the fixed time.
const SLEEP: &str = "15";

/// What was seen of one pod.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) plan: Plan,
    pub(crate) volumes: Volumes,
    /// When the termination started: the preStop hooks do.
    pub(crate) start: Instant,
    /// Of the termination, in order.
    pub(crate) events: Vec<Event>,
    /// What else happened.
    pub(crate) marks: Vec<(Instant, String)>,
    pub(crate) seen: Seen,
    pub(crate) samples: Vec<Sample>,
    pub(crate) written: Written,
    pub(crate) delivery: Delivery,
    /// What ship says of itself at its end.
    pub(crate) ledger: Option<Value>,
}

impl Outcome {
    /// From the start of the hooks to the end of the last container.
    pub(crate) fn took(&self) -> Duration {
        self.events.last().map_or(Duration::ZERO, |event| event.at.saturating_duration_since(self.start))
    }

    /// From the first SIGTERM to the end of the last container.
    pub(crate) fn stop_took(&self) -> Duration {
        let term = self.events.iter().find(|event| event.step == Step::Term);
        let last = self.events.last();
        term.zip(last).map_or(Duration::ZERO, |(term, last)| last.at.saturating_duration_since(term.at))
    }
}

/// A pod at work, with what is around it.
struct Pod {
    plan: Plan,
    volumes: Volumes,
    spec: Spec,
    addresses: Addresses,
    backend: Backend,
    clients: Arc<Clients>,
    marks: Vec<(Instant, String)>,
    /// Not before the app listens.
    running: Vec<Process>,
    /// What else goes on; ends with the pod.
    around: JoinSet<()>,
    _database: Database,
}

/// Runs a pod from its first container to its last. With `watched`, looks at it all the time.
pub(crate) async fn live(plan: Plan, binaries: &Binaries, watched: bool) -> Result<Outcome, Error> {
    let mut pod = Pod::start(plan, binaries).await?;
    let samples = watched.then(|| Samples::start(&pod.addresses));
    pod.schedule_outage();
    sleep(pod.plan.load).await;
    if pod.plan.way == Way::Restart {
        pod.restart_app().await?;
    }
    let start = Instant::now();
    pod.be_unlisted(start + pod.plan.late);
    let events = pod.terminate().await?;
    let samples = samples.map(Samples::end).unwrap_or_default();
    pod.around.shutdown().await;
    // All ports are closed now: the last idle connection ends.
    let clients = Arc::into_inner(pod.clients).expect("all that held the clients is shut down");
    let seen = clients.leave().await;
    let (written, ledger) = (pod.volumes.written()?, pod.volumes.ledger());
    let delivery = pod.backend.stored().tally.compare(&written.numbers);
    let Pod { plan, volumes, marks, .. } = pod;
    Ok(Outcome { plan, volumes, start, events, marks, seen, samples, written, delivery, ledger })
}

impl Pod {
    async fn start(plan: Plan, binaries: &Binaries) -> Result<Self, Error> {
        let volumes = Volumes::create(None)?;
        let backend = Backend::open().await?;
        let (addresses, ports) = Addresses::reserve_at(home(plan.number))?;
        let mut spec = Spec::write(&volumes, binaries, &addresses, backend.address(), &plan.settings)?;
        spec.prepare(&volumes, &binaries.get("podkit-drain"))?;
        let database = Database::open(addresses.database).await?;
        ports.release();
        let mut running = vec![spec.ship.start()?, spec.proxy.start()?];
        for (admin, name) in [(addresses.ship_admin, "ship"), (addresses.proxy_admin, "proxy")] {
            probe::passes(admin, "/startupz", name, &mut running, STARTUP).await?;
        }
        running.push(spec.app.start()?);
        probe::passes(addresses.app, "/healthz", "app", &mut running, STARTUP).await?;
        let clients = Arc::new(Clients::start(addresses.web, plan.crowd, plan.seed));
        let (marks, around) = (Vec::new(), JoinSet::new());
        Ok(Self {
            plan,
            volumes,
            spec,
            addresses,
            backend,
            clients,
            marks,
            running,
            around,
            _database: database,
        })
    }

    fn mark(&mut self, what: impl Into<String>) {
        self.marks.push((Instant::now(), what.into()));
    }

    /// The backend leaves a moment before the termination, and comes back as planned.
    fn schedule_outage(&mut self) {
        let Some(outage) = self.plan.outage else { return };
        let start = Instant::now() + self.plan.load;
        let leave = start - outage.lead.min(self.plan.load);
        self.marks.push((leave, format!("the backend is away from now on ({:?})", outage.mood)));
        let back = outage.until.map(|until| start + until);
        if let Some(back) = back {
            self.marks.push((back, "the backend works again".into()));
        }
        let backend = self.backend.clone();
        self.around.spawn(async move {
            sleep_until(leave).await;
            backend.set_mood(outage.mood);
            if let Some(back) = back {
                sleep_until(back).await;
                backend.set_mood(Mood::Well);
            }
        });
    }

    /// The clients hear of the end.
    fn be_unlisted(&mut self, at: Instant) {
        let clients = self.clients.clone();
        self.marks.push((at, "the last client hears of it".into()));
        self.around.spawn(async move {
            sleep_until(at).await;
            clients.list(Listed::Gone);
        });
    }

    async fn terminate(&mut self) -> Result<Vec<Event>, Error> {
        let running = std::mem::take(&mut self.running);
        let containers = running.into_iter().map(|process| self.container(process)).collect();
        events_of(Termination::of_pod(containers, self.plan.settings.grace)).await
    }

    fn container(&self, process: Process) -> Container {
        let spec = &self.spec;
        let name = process.name();
        let plain = self.plan.way == Way::Plain;
        let hook = match (name, self.plan.way) {
            ("app", Way::Sleep) => Some(Launch {
                name: "sleep",
                program: "/bin/sleep".into(),
                args: vec![SLEEP.into()],
                env: Vec::new(),
                log: spec.drain.log.clone(),
            }),
            ("app", _) => Some(spec.drain.clone()),
            ("proxy", Way::Plain) => Some(spec.drain_of_proxy.clone()),
            ("ship", Way::Plain) => Some(spec.drain_of_ship.clone()),
            _ => None,
        };
        let kind = if plain || name == "app" { Kind::Main } else { Kind::Sidecar };
        Container { process, kind, hook }
    }

    /// The app's liveness probe has failed: hook, SIGTERM, start, for the app alone. The endpoints follow readiness.
    async fn restart_app(&mut self) -> Result<(), Error> {
        let follower = self.follow_readiness();
        let app = self.running.pop().expect("the app was started last");
        let container = self.container(app);
        self.mark("the liveness probe fails: the app alone is stopped");
        for event in events_of(Termination::of_container(container, self.plan.settings.grace)).await? {
            self.marks.push((event.at, format!("{} {:?}", event.container, event.step)));
        }
        self.running.push(self.spec.app.start()?);
        probe::passes(self.addresses.app, "/healthz", "app", &mut self.running, STARTUP).await?;
        self.mark("the app serves again");
        if probe::get(self.addresses.proxy_admin, "/readyz")
            .await
            .is_ok_and(|(status, _)| status.is_success())
        {
            self.mark(TOO_EARLY);
        }
        probe::passes(self.addresses.proxy_admin, "/readyz", "proxy", &mut self.running, STARTUP).await?;
        self.mark("the proxy is ready again");
        let before = self.clients.seen().sent;
        let limit = Instant::now() + STARTUP;
        while self.clients.seen().sent < before + 20 && Instant::now() < limit {
            sleep(PROBE_PERIOD).await;
        }
        let after = self.clients.seen().sent - before;
        self.mark(format!("{after} requests since"));
        follower.abort();
        Ok(())
    }

    /// Clients come while the pod is ready; they hear of a change as late as the plan says.
    fn follow_readiness(&mut self) -> AbortHandle {
        let (clients, admin, late) = (self.clients.clone(), self.addresses.proxy_admin, self.plan.late);
        self.around.spawn(async move {
            let mut listed = Listed::Yes;
            loop {
                sleep(PROBE_PERIOD).await;
                let ready = match probe::get(admin, "/readyz").await {
                    Ok((status, _)) if status.is_success() => Listed::Yes,
                    Ok(_) => Listed::No,
                    // A probe that is not answered in time on a busy machine says nothing.
                    Err(_) => listed,
                };
                if ready != listed {
                    sleep(late).await;
                    clients.list(ready);
                    listed = ready;
                }
            }
        })
    }
}

/// Not what should be seen while a lease runs.
pub(crate) const TOO_EARLY: &str = "the proxy was ready before its lease had lapsed";

async fn events_of(mut termination: Termination) -> Result<Vec<Event>, Error> {
    let mut events = Vec::new();
    while let Some(event) = termination.next().await? {
        events.push(event);
    }
    Ok(events)
}

/// An address of loopback for each pod of this process, and others for another's.
fn home(number: usize) -> Ipv4Addr {
    let process = std::process::id().to_le_bytes();
    let number = u8::try_from(number % 250).unwrap_or_default();
    Ipv4Addr::new(127, process[0] | 1, process[1], number + 2)
}
