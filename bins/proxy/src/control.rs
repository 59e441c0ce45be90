//! The control thread: which listeners are open, on which upstreams, under the config in force.
//!
//! A new config is applied whole or not at all: all new listeners are bound before anything else changes. What is
//! equal in both configs is left alone, and so are its connections. Those of what is changed or gone are told to leave
//! with their next answer; none is closed under a client that may just be asking.

use std::fs;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::bind::{Sockets, bind};
use crate::config::{self, Config, ListenAddress};
use crate::crew::{Crew, Order};
use crate::error::Error;
use crate::guard::Guard;
use crate::metrics::Role;
use crate::state::{Listener, Numbers, State};
use crate::tls::{Origination, Termination};
use crate::upstream::Upstream;

/// How often a closed listener is looked at, whether its last connection has ended.
const LOOK: Duration = Duration::from_millis(100);

/// All that is open.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) state: Arc<State>,
    pub(crate) crew: Crew,
    doors: Vec<Door>,
    next_door: u64,
    upstreams: Vec<Kept>,
}

/// A listener that accepts.
#[derive(Debug)]
struct Door {
    number: u64,
    listener: Arc<Listener>,
}

/// An upstream in use, and the task that keeps it up to date.
#[derive(Debug, Clone)]
struct Kept {
    upstream: Arc<Upstream>,
    _task: Rc<Task>,
}

/// Ends with the last that holds it.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Control {
    pub(crate) fn new(state: Arc<State>, crew: Crew) -> Self {
        Self { state, crew, doors: Vec::new(), next_door: 0, upstreams: Vec::new() }
    }

    /// The listeners that accept.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = &Arc<Listener>> {
        self.doors.iter().map(|door| &door.listener)
    }

    /// Puts a config in force, or changes nothing.
    pub(crate) async fn apply(&mut self, config: &Config) -> Result<(), Error> {
        let doors = self.doors_for(config);
        let bound: Vec<Option<Sockets>> = config
            .listeners
            .iter()
            .zip(&doors)
            .map(|(listener, door)| match door {
                None => bind(listener, self.crew.count()).map(Some),
                Some(_) => Ok(None),
            })
            .collect::<Result<_, _>>()?;

        let mut kept = Vec::new();
        let listeners: Vec<Arc<Listener>> = config
            .listeners
            .iter()
            .map(|listener| self.listener(listener, config, &mut kept))
            .collect::<Result<_, _>>()?;
        let mut open = Vec::new();
        for ((listener, door), sockets) in listeners.into_iter().zip(doors).zip(bound) {
            open.push(match (door, sockets) {
                (Some(number), _) => self.keep_open(number, listener).await?,
                (None, Some(sockets)) => self.open(sockets, listener).await?,
                (None, None) => unreachable!("a listener without a door was bound above"),
            });
        }
        let gone = std::mem::replace(&mut self.doors, open);
        self.upstreams = kept;
        self.tell();
        for door in gone.into_iter().filter(|old| !self.doors.iter().any(|door| door.number == old.number)) {
            self.close(door.number, &door.listener).await?;
        }
        for old in self.state.listeners() {
            // Closed, or of another name now at the same address.
            if !self.listeners().any(|open| Arc::ptr_eq(&open.numbers, &old.numbers)) {
                self.forget_when_over(old);
            }
        }
        Ok(())
    }

    /// For each listener of a config the number of the door that is open at its address.
    fn doors_for(&self, config: &Config) -> Vec<Option<u64>> {
        let mut free: Vec<&Door> = self.doors.iter().collect();
        let mut take = |listener: &config::Listener| {
            let any_port = matches!(&listener.listen, ListenAddress::Tcp(address) if address.port() == 0);
            let same = |door: &&Door| {
                let open = &door.listener.config;
                open.listen == listener.listen && (!any_port || open.name == listener.name)
            };
            free.iter().position(same).map(|at| free.swap_remove(at).number)
        };
        config.listeners.iter().map(&mut take).collect()
    }

    /// The listener as it runs: the same one as before where nothing has changed for it.
    fn listener(
        &self,
        listener: &config::Listener,
        config: &Config,
        kept: &mut Vec<Kept>,
    ) -> Result<Arc<Listener>, Error> {
        let upstream = self.upstream(&listener.upstream, kept)?;
        let quiet = config.shutdown.quiet;
        let same = self.listeners().find(|open| {
            open.config == *listener && Arc::ptr_eq(&open.upstream, &upstream) && open.quiet == quiet
        });
        if let Some(same) = same {
            return Ok(Arc::clone(same));
        }
        let tls = self.termination(listener)?;
        let known = self.state.listeners().into_iter().find(|other| {
            let other = &other.config;
            (&other.name, other.direction, other.protocol)
                == (&listener.name, listener.direction, listener.protocol)
        });
        let numbers = match &known {
            Some(known) => Arc::clone(&known.numbers),
            None => Arc::new(Numbers::new(listener, &self.state.metrics)),
        };
        let guard = match &known {
            Some(known) if known.config.limits == listener.limits => Arc::clone(&known.guard),
            _ => Arc::new(Guard::new(&listener.limits)),
        };
        let (config, address) = (listener.clone(), OnceLock::new());
        Ok(Arc::new(Listener { config, address, tls, upstream, quiet, numbers, guard }))
    }

    /// The listener's TLS: the same one as before where nothing has changed for it.
    fn termination(&self, listener: &config::Listener) -> Result<Option<Termination>, Error> {
        let Some(config) = &listener.tls else { return Ok(None) };
        let same = |open: &&Arc<Listener>| {
            let open = &open.config;
            (&open.name, &open.tls, open.protocol) == (&listener.name, &listener.tls, listener.protocol)
        };
        if let Some(same) = self.listeners().find(same) {
            return Ok(same.tls.clone());
        }
        let metrics = self.state.metrics.certificate_of(Role::Listener, &listener.name);
        let termination = Termination::load(listener, config, metrics)
            .map_err(|source| Error::Tls { told_by: listener.told_by.clone(), source: Box::new(source) })?;
        tokio::task::spawn_local(termination.clone().follow());
        Ok(Some(termination))
    }

    fn upstream(&self, config: &Arc<config::Upstream>, kept: &mut Vec<Kept>) -> Result<Arc<Upstream>, Error> {
        if let Some(known) = kept.iter().find(|known| known.upstream.config == *config) {
            return Ok(Arc::clone(&known.upstream));
        }
        let known = self.upstreams.iter().find(|known| known.upstream.config == *config).cloned();
        let kept_on = match known {
            Some(known) => known,
            None => {
                let upstream =
                    Upstream::new(Arc::clone(config), &self.state.metrics, self.origination(config)?);
                let task = tokio::task::spawn_local(Arc::clone(&upstream).keep());
                Kept { upstream, _task: Rc::new(Task(task)) }
            }
        };
        let upstream = Arc::clone(&kept_on.upstream);
        kept.push(kept_on);
        Ok(upstream)
    }

    /// The TLS of a new upstream.
    fn origination(&self, upstream: &config::Upstream) -> Result<Option<Origination>, Error> {
        let Some(config) = &upstream.tls else { return Ok(None) };
        let metrics = self.state.metrics.certificate_of(Role::Upstream, &upstream.name);
        let origination = Origination::load(upstream, config, metrics).map_err(|source| Error::Tls {
            told_by: format!("upstream {:?}", upstream.name),
            source: Box::new(source),
        })?;
        tokio::task::spawn_local(origination.clone().follow());
        Ok(Some(origination))
    }

    async fn open(&mut self, sockets: Sockets, listener: Arc<Listener>) -> Result<Door, Error> {
        let number = self.next_door;
        self.next_door += 1;
        if let Some(address) = sockets.address {
            listener.address.get_or_init(|| address);
        }
        let at = sockets.address.map_or_else(|| listener.config.listen.to_string(), |at| at.to_string());
        let orders = sockets.each.into_iter().map(|socket| Order::Open {
            door: number,
            listener: Arc::clone(&listener),
            socket,
        });
        self.crew.order(orders).await.map_err(Error::Crew)?;
        tracing::info!(
            listener = listener.config.name,
            direction = listener.config.direction.as_str(),
            "listening on {at} for {}",
            listener.config.upstream.address,
        );
        Ok(Door { number, listener })
    }

    async fn keep_open(&self, number: u64, listener: Arc<Listener>) -> Result<Door, Error> {
        if !self.listeners().any(|open| Arc::ptr_eq(open, &listener)) {
            let door = self.doors.iter().find(|door| door.number == number);
            if let Some(address) = door.and_then(|door| door.listener.address.get()) {
                listener.address.get_or_init(|| *address);
            }
            let order = || Order::Change { door: number, listener: Arc::clone(&listener) };
            self.crew.order_all(order).await.map_err(Error::Crew)?;
            tracing::info!(listener = listener.config.name, "the settings changed");
        }
        Ok(Door { number, listener })
    }

    /// Closes the doors of some listeners; their connections stay.
    pub(crate) async fn close_doors(&mut self, of: impl Fn(&Listener) -> bool) -> Result<(), Error> {
        let (closing, open) =
            std::mem::take(&mut self.doors).into_iter().partition(|door| of(&door.listener));
        self.doors = open;
        let closing: Vec<Door> = closing;
        for door in &closing {
            self.close(door.number, &door.listener).await?;
        }
        Ok(())
    }

    async fn close(&self, door: u64, listener: &Listener) -> Result<(), Error> {
        self.crew.order_all(|| Order::Close { door }).await.map_err(Error::Crew)?;
        if let ListenAddress::Unix(path) = &listener.config.listen {
            // Gone already is as good.
            let _ = fs::remove_file(path);
        }
        tracing::info!(listener = listener.config.name, "the listener is closed");
        Ok(())
    }

    /// Has the idle connections of a listener end.
    pub(crate) async fn close_idle(&self, listener: &Arc<Listener>) -> Result<(), Error> {
        let order = || Order::CloseIdle { listener: Arc::clone(listener) };
        self.crew.order_all(order).await.map_err(Error::Crew)
    }

    /// Has the admin port tell of the listeners that are open, and of those that are not but have connections.
    fn tell(&self) {
        let mut listeners: Vec<_> = self.listeners().cloned().collect();
        for old in self.state.listeners() {
            let is_open = listeners.iter().any(|open| Arc::ptr_eq(&open.numbers, &old.numbers));
            if !is_open {
                listeners.push(old);
            }
        }
        self.state.set_listeners(listeners);
    }

    /// Tells no more of a closed listener once its last connection has ended.
    fn forget_when_over(&self, listener: Arc<Listener>) {
        let state = Arc::clone(&self.state);
        tokio::task::spawn_local(async move {
            while listener.numbers.connections.open.get() > 0 {
                tokio::time::sleep(LOOK).await;
            }
            // It may have been opened again, with other settings, since.
            let mut listeners = state.listeners();
            listeners.retain(|other| !Arc::ptr_eq(other, &listener));
            state.set_listeners(listeners);
        });
    }
}
