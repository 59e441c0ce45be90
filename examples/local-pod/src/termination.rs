//! How the kubelet ends the containers of a pod: the one place that knows its order and its arithmetic.
//!
//! What `killContainer` and `terminationOrdering` of the kubelet do, for all containers at the same time:
//!
//! 1. The preStop hook, in each container that has one; all begin when the termination begins. A hook that is not
//!    over when the grace period is, is given up: it dies with its container.
//! 2. A native sidecar waits for its turn: for the end of all main containers and of the sidecars that started
//!    after it. A plain container waits for nobody.
//! 3. SIGTERM, and SIGKILL when the container's rest of the grace period is over. The time of 1 and 2 counts, each
//!    in whole seconds, rounded down; but everyone gets [`MINIMUM`], also a sidecar whose turn has not come when
//!    the grace period is over: all that are left then get their SIGTERM at once.
//!
//! Owns the processes while it ends them; dropped before its end, it leaves none. It judges nothing.

use std::{collections::BTreeSet, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    error::Error,
    pod::{End, Launch, Process},
};

/// What the kubelet gives every container between SIGTERM and SIGKILL, in seconds: `minimumGracePeriodInSeconds`.
const MINIMUM: u64 = 2;

/// What a container is to the kubelet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One of `containers`; sidecars of clusters before 1.29 are such too.
    Main,
    /// One of `initContainers` with `restartPolicy: Always`.
    Sidecar,
}

/// A running container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) process: Process,
    pub(crate) kind: Kind,
    /// Its preStop hook.
    pub(crate) hook: Option<Launch>,
}

/// Something that happened to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) at: Instant,
    pub(crate) container: &'static str,
    pub(crate) step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    HookStarted,
    HookEnded(End),
    /// The grace period was over before the hook was.
    HookGivenUp,
    Term,
    Ended(End),
}

/// A termination under way.
#[derive(Debug)]
pub(crate) struct Termination {
    tasks: JoinSet<Result<(), Error>>,
    events: mpsc::UnboundedReceiver<Event>,
}

impl Termination {
    /// Ends a pod's containers, given in the order in which they were started.
    pub(crate) fn of_pod(containers: Vec<Container>, grace: u64) -> Self {
        let (tell, events) = mpsc::unbounded_channel();
        let (ended, gone) = watch::channel(BTreeSet::new());
        let names: Vec<_> = containers.iter().map(|one| (one.process.name(), one.kind)).collect();
        let mut tasks = JoinSet::new();
        for (index, container) in containers.into_iter().enumerate() {
            let before = match container.kind {
                Kind::Main => BTreeSet::new(),
                Kind::Sidecar => turn(&names, index),
            };
            let end = Kill {
                container,
                grace,
                before,
                gone: gone.clone(),
                ended: ended.clone(),
                tell: tell.clone(),
            };
            tasks.spawn(end.run());
        }
        Self { tasks, events }
    }

    /// Ends one container of a pod that lives on, as for a failed liveness probe: nobody else is told.
    pub(crate) fn of_container(container: Container, grace: u64) -> Self {
        Self::of_pod(vec![container], grace)
    }

    /// What happened next; none once all have ended.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, Error> {
        match self.events.recv().await {
            Some(event) => Ok(Some(event)),
            // Every task has ended, for each holds a sender.
            None => {
                while let Some(ended) = self.tasks.join_next().await {
                    ended.map_err(|error| Error::io("end the pod")(error.into()))??;
                }
                Ok(None)
            }
        }
    }
}

/// Whose end the sidecar at `index` waits for.
fn turn(names: &[(&'static str, Kind)], index: usize) -> BTreeSet<&'static str> {
    let mains = names.iter().filter(|(_, kind)| *kind == Kind::Main);
    let later = names[index + 1..].iter().filter(|(_, kind)| *kind == Kind::Sidecar);
    mains.chain(later).map(|(name, _)| *name).collect()
}

struct Kill {
    container: Container,
    grace: u64,
    before: BTreeSet<&'static str>,
    gone: watch::Receiver<BTreeSet<&'static str>>,
    ended: watch::Sender<BTreeSet<&'static str>>,
    tell: mpsc::UnboundedSender<Event>,
}

impl Kill {
    async fn run(mut self) -> Result<(), Error> {
        let start = Instant::now();
        // Held until the container has ended: one that was given up goes with it.
        let _hook = self.hook().await?;
        let mut left = rest(self.grace, start.elapsed());
        if left > 0 && !self.before.is_empty() {
            let start = Instant::now();
            let before = std::mem::take(&mut self.before);
            // Whether its turn has come or the time is over, SIGTERM is next.
            let _ = timeout(Duration::from_secs(left), self.gone.wait_for(|gone| gone.is_superset(&before)))
                .await;
            left = rest(left, start.elapsed());
        }
        self.tell(Step::Term);
        let deadline = Instant::now() + Duration::from_secs(left.max(MINIMUM));
        let end = self.container.process.stop(deadline).await?;
        self.tell(Step::Ended(end));
        let name = self.container.process.name();
        self.ended.send_if_modified(|ended| ended.insert(name));
        Ok(())
    }

    async fn hook(&mut self) -> Result<Option<Process>, Error> {
        let Some(hook) = self.container.hook.as_ref().filter(|_| self.grace > 0) else { return Ok(None) };
        self.tell(Step::HookStarted);
        let mut process = hook.start()?;
        let step = match timeout(Duration::from_secs(self.grace), process.wait()).await {
            Ok(end) => Step::HookEnded(end?),
            Err(_) => Step::HookGivenUp,
        };
        self.tell(step);
        Ok(Some(process))
    }

    fn tell(&self, step: Step) {
        let event = Event { at: Instant::now(), container: self.container.process.name(), step };
        // Who does not listen any more has dropped the termination, and this task with it.
        let _ = self.tell.send(event);
    }
}

/// What is left of a grace period: the kubelet counts in whole seconds.
fn rest(grace: u64, spent: Duration) -> u64 {
    grace.saturating_sub(spent.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pod {
        dir: tempfile::TempDir,
        containers: Vec<Container>,
    }

    impl Pod {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap(), containers: Vec::new() }
        }

        fn launch(&self, name: &'static str, script: &str) -> Launch {
            Launch {
                name,
                program: "/bin/sh".into(),
                args: vec!["-c".into(), script.into()],
                env: Vec::new(),
                log: self.dir.path().join(name),
            }
        }

        /// A container that ends at once on SIGTERM, and one that never does.
        async fn with(mut self, name: &'static str, kind: Kind, stubborn: bool, hook: Option<&str>) -> Self {
            let trap = if stubborn { "''" } else { "'exit 0'" };
            let script = format!("trap {trap} TERM; echo up; while :; do sleep 0.01; done");
            let launch = self.launch(name, &script);
            let process = launch.start().unwrap();
            let limit = Instant::now() + Duration::from_secs(20);
            while !std::fs::read_to_string(&launch.log).unwrap().contains("up") && Instant::now() < limit {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let hook = hook.map(|script| self.launch("hook", script));
            self.containers.push(Container { process, kind, hook });
            self
        }

        async fn end(self, grace: u64) -> Vec<(&'static str, Step)> {
            let mut termination = Termination::of_pod(self.containers, grace);
            let mut events = Vec::new();
            while let Some(event) = termination.next().await.unwrap() {
                events.push((event.container, event.step));
            }
            events
        }
    }

    fn at(events: &[(&'static str, Step)], container: &str, step: Step) -> usize {
        let found = events.iter().position(|event| *event == (container, step));
        found.unwrap_or_else(|| panic!("no {step:?} of {container} in {events:?}"))
    }

    const CLEAN: Step = Step::Ended(End::Code(0));

    #[tokio::test]
    async fn native_sidecars_end_after_the_app_in_reverse_order() {
        let pod = Pod::new().with("ship", Kind::Sidecar, false, None).await;
        let pod = pod.with("proxy", Kind::Sidecar, false, Some("exit 0")).await;
        let events = pod.with("app", Kind::Main, false, Some("sleep 0.3; exit 3")).await.end(30).await;
        let order = [
            at(&events, "app", Step::HookStarted),
            at(&events, "app", Step::HookEnded(End::Code(3))),
            at(&events, "app", Step::Term),
            at(&events, "app", CLEAN),
            at(&events, "proxy", Step::Term),
            at(&events, "proxy", CLEAN),
            at(&events, "ship", Step::Term),
            at(&events, "ship", CLEAN),
        ];
        assert!(order.is_sorted(), "{events:?}");
        // A sidecar's own hook does not wait for its turn.
        let hook = at(&events, "proxy", Step::HookEnded(End::Code(0)));
        assert!(hook < at(&events, "app", Step::HookEnded(End::Code(3))), "{events:?}");
    }

    #[tokio::test]
    async fn plain_containers_wait_for_their_own_hook_alone() {
        let pod = Pod::new().with("ship", Kind::Main, false, None).await;
        let events = pod.with("app", Kind::Main, false, Some("sleep 0.5")).await.end(30).await;
        assert!(at(&events, "ship", CLEAN) < at(&events, "app", Step::Term), "{events:?}");
    }

    #[tokio::test]
    async fn whose_turn_does_not_come_is_stopped_when_the_grace_period_is_over() {
        let pod = Pod::new().with("ship", Kind::Sidecar, false, None).await;
        let start = Instant::now();
        let events = pod.with("app", Kind::Main, true, Some("exec sleep 60")).await.end(1).await;
        at(&events, "app", Step::HookGivenUp);
        at(&events, "app", Step::Ended(End::Overdue));
        assert!(at(&events, "ship", CLEAN) < at(&events, "app", Step::Ended(End::Overdue)), "{events:?}");
        // One second for the hook, and the least that everyone gets.
        assert!(start.elapsed() >= Duration::from_secs(1 + MINIMUM));
    }

    #[test]
    fn the_kubelet_counts_in_whole_seconds() {
        assert_eq!(rest(30, Duration::from_millis(2_999)), 28);
        assert_eq!(rest(1, Duration::from_millis(5_000)), 0);
    }
}
