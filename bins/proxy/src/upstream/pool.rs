//! One worker's connections to one upstream: those that are open and idle, and new ones.
//!
//! Never hands out one that is known to have ended, and closes them before the app's own keep-alive would.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::connect::{ConnectError, connect};
use super::endpoint::Endpoint;
use super::start::Opened;
use super::streams::{Opener, Opening, Streams};
use super::{Endpoints, Purpose, Upstream};
use crate::tls::Alpn;
use crate::turn;
use crate::wire::Wire;
use crate::worker::{Clock, Tick};

/// How much sooner than it said we leave a connection that the app will close.
const AHEAD: Duration = Duration::from_secs(1);

/// How often one request waits for a connection that others have begun to open: each fills up with some.
const WAITS: usize = 8;

/// A connection to an endpoint, or a stream of one, at work for one request at a time. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) wire: Wire,
    /// It has carried a request before, so its end may be on the way already.
    pub(crate) is_reused: bool,
    upstream: Arc<Upstream>,
    endpoint: Arc<Endpoint>,
    /// When it was handed out.
    began: Cell<Instant>,
    /// Whether it counts as at work.
    busy: Cell<bool>,
}

impl Link {
    fn new(upstream: &Arc<Upstream>, wire: Wire, endpoint: Arc<Endpoint>, is_reused: bool) -> Self {
        if !wire.is_stream() {
            upstream.metrics.open.inc();
        }
        let link = Self {
            wire,
            is_reused,
            upstream: Arc::clone(upstream),
            endpoint,
            began: Cell::new(turn::now()),
            busy: Cell::new(false),
        };
        link.set_busy(true);
        link
    }

    /// Where it goes.
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The head of an answer has come; returns how long that took.
    pub(crate) fn answered(&self, status: u16) -> Duration {
        let now = turn::now();
        self.upstream.answered(&self.endpoint, status, self.began.get(), now);
        now.saturating_duration_since(self.began.get())
    }

    /// There was no answer, or none that can be used.
    pub(crate) fn failed(&self, why: &str) {
        self.upstream.failed(&self.endpoint, why.to_owned(), turn::now());
    }

    fn set_busy(&self, busy: bool) {
        match (self.busy.replace(busy), busy) {
            (false, true) => self.endpoint.begin(),
            (true, false) => self.endpoint.end(),
            _ => {}
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.set_busy(false);
        if !self.wire.is_stream() {
            self.upstream.metrics.open.dec();
        }
    }
}

/// The tries of one request.
#[derive(Debug)]
pub(crate) struct Tries {
    /// It can be sent a second time without harm.
    repeatable: bool,
    /// Those that have failed it.
    tried: Vec<Arc<Endpoint>>,
    /// A pooled connection has failed it, so others may have ended, too.
    fresh: bool,
    /// Tries again that count.
    again: u32,
    purpose: Purpose,
    /// When the try began.
    began: Instant,
}

#[derive(Debug)]
struct Idle {
    link: Link,
    until: Tick,
}

#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) upstream: Arc<Upstream>,
    clock: Rc<Clock>,
    news: RefCell<watch::Receiver<Arc<Endpoints>>>,
    shelf: RefCell<Shelf>,
}

/// The endpoints that this worker knows, and its idle connections to each. The latest one is used first, so that the
/// surplus grows old and is closed.
#[derive(Debug)]
struct Shelf {
    set: Arc<Endpoints>,
    /// As many as `set` has endpoints, as is the next.
    idle: Vec<Vec<Idle>>,
    streams: Vec<Streams>,
    count: usize,
}

impl Shelf {
    fn index_of(&self, endpoint: &Arc<Endpoint>) -> Option<usize> {
        self.set.all().iter().position(|known| Arc::ptr_eq(known, endpoint))
    }
}

impl Pool {
    pub(crate) fn new(upstream: Arc<Upstream>, clock: Rc<Clock>) -> Rc<Self> {
        let mut news = upstream.endpoints.subscribe();
        let set = Arc::clone(&news.borrow_and_update());
        let idle = set.all().iter().map(|_| Vec::new()).collect();
        let streams = set.all().iter().map(|_| Streams::default()).collect();
        let shelf = RefCell::new(Shelf { set, idle, streams, count: 0 });
        Rc::new(Self { upstream, clock, news: RefCell::new(news), shelf })
    }

    /// Begins the tries of a request. Its retries come out of a budget that each request adds to.
    pub(crate) fn begin(&self, repeatable: bool, purpose: Purpose) -> Tries {
        let began = turn::now();
        self.upstream.budget.request(self.upstream.stamp(began));
        Tries { repeatable, tried: Vec::new(), fresh: false, again: 0, purpose, began }
    }

    /// A connection for the next try: an idle one that is open as far as can be told, a stream of one that is shared, or
    /// a new one.
    pub(crate) async fn link(&self, tries: &mut Tries) -> Result<Link, ConnectError> {
        let mut waits = 0;
        loop {
            let chosen = match self.take(tries) {
                Ok(link) => return Ok(link),
                Err(chosen) => chosen,
            };
            // Many that come at once share what the first of them opens, as long as that comes to something.
            match self.on_its_way(chosen.as_ref(), tries) {
                Some(opening) if waits < WAITS && opening.wait().await => waits += 1,
                // In a box: a connection's task should not be large for what it rarely does.
                _ => return Box::pin(self.connect(chosen, tries)).await,
            }
        }
    }

    fn on_its_way(&self, chosen: Option<&Arc<Endpoint>>, tries: &Tries) -> Option<Rc<Opening>> {
        let shelf = self.shelf.borrow();
        let streams = &shelf.streams[shelf.index_of(chosen?)?];
        streams.on_its_way().filter(|_| self.shares(tries))
    }

    /// Whether the connections of a request may be shared with others.
    fn shares(&self, tries: &Tries) -> bool {
        matches!(tries.purpose.alpn, Alpn::Http2 | Alpn::Both)
            && self.upstream.config.proxy_protocol.is_none()
    }

    /// A new connection, for whatever it will carry.
    pub(crate) async fn connect_any(&self, purpose: Purpose) -> Result<Link, ConnectError> {
        let began = turn::now();
        let mut tries = Tries { repeatable: false, tried: Vec::new(), fresh: true, again: 0, purpose, began };
        let link = self.connect(None, &mut tries).await?;
        let now = turn::now();
        link.endpoint.succeeded(now.saturating_duration_since(began), self.upstream.stamp(now));
        Ok(link)
    }

    async fn connect(&self, chosen: Option<Arc<Endpoint>>, tries: &mut Tries) -> Result<Link, ConnectError> {
        let shares = self.shares(tries);
        let opener = chosen.as_ref().filter(|_| shares).and_then(|chosen| {
            let mut shelf = self.shelf.borrow_mut();
            let index = shelf.index_of(chosen)?;
            Some(shelf.streams[index].open())
        });
        let opened = connect(&self.upstream, chosen, &mut tries.tried, tries.purpose).await;
        let (opened, endpoint) = opened?;
        let shared = match &opened {
            Opened::Shared(shared) => Some(Rc::clone(shared)),
            Opened::Wire(_) => None,
        };
        let link = Link::new(&self.upstream, opened.into_wire(), Arc::clone(&endpoint), false);
        let mut shelf = self.shelf.borrow_mut();
        if let Some(index) = shelf.index_of(&endpoint).filter(|_| shares) {
            opener.iter().filter(|_| shared.is_some()).for_each(Opener::succeeded);
            shelf.streams[index].learn(shared);
        }
        Ok(link)
    }

    /// An idle connection to a chosen endpoint, or that endpoint; no endpoint where none is known.
    fn take(&self, tries: &Tries) -> Result<Link, Option<Arc<Endpoint>>> {
        self.hear();
        let mut shelf = self.shelf.borrow_mut();
        let shelf = &mut *shelf;
        let index = self.upstream.choose(&shelf.set, &tries.tried, tries.began).ok_or(None)?;
        if self.shares(tries)
            && let Some((wire, is_reused)) = shelf.streams[index].begin()
        {
            return Ok(Link::new(&self.upstream, wire, Arc::clone(&shelf.set.all()[index]), is_reused));
        }
        if tries.purpose.alpn == Alpn::Http2 {
            return Err(Some(Arc::clone(&shelf.set.all()[index])));
        }
        while !tries.fresh
            && let Some(Idle { mut link, until }) = shelf.idle[index].pop()
        {
            shelf.count -= 1;
            // A request that could not be sent a second time asks the kernel, too.
            let has_ended = || !link.wire.is_silent() || (!tries.repeatable && link.wire.has_arrived());
            if until <= self.clock.now() || has_ended() {
                continue;
            }
            link.began.set(tries.began);
            link.is_reused = true;
            link.set_busy(true);
            return Ok(link);
        }
        Err(Some(Arc::clone(&shelf.set.all()[index])))
    }

    /// Whether a request may be tried once more, now that `link` has failed it without a byte of an answer. `free` is
    /// where the upstream has only closed an idle connection, as it may: that counts once, and against no budget.
    pub(crate) fn may_retry(&self, tries: &mut Tries, link: &Link, free: bool) -> bool {
        tries.began = turn::now();
        if free && !tries.fresh {
            tries.fresh = true;
            return true;
        }
        if tries.again >= self.upstream.config.retries.attempts {
            return false;
        }
        if !self.upstream.budget.retry(self.upstream.stamp(tries.began)) {
            self.upstream.metrics.retries_denied.inc();
            return false;
        }
        tries.again += 1;
        tries.tried.push(Arc::clone(&link.endpoint));
        true
    }

    /// Keeps a connection whose response was read to its end. `keep_alive` is for how long the app will, by its word.
    pub(crate) fn put(&self, link: Link, keep_alive: Option<Duration>) {
        // A stream is over with its request. Where each connection is opened in one client's name, it is, too.
        if link.wire.is_stream() || self.upstream.config.proxy_protocol.is_some() {
            return;
        }
        let config = &self.upstream.config.pool;
        let theirs = keep_alive.map_or(Duration::MAX, |keep_alive| keep_alive.saturating_sub(AHEAD));
        let span = config.idle_timeout.min(theirs);
        let mut shelf = self.shelf.borrow_mut();
        let index = shelf.index_of(&link.endpoint);
        // An endpoint that the DNS no longer has is left with this request.
        let Some(index) = index.filter(|_| !span.is_zero() && shelf.count < config.max_idle.get()) else {
            return;
        };
        link.set_busy(false);
        shelf.idle[index].push(Idle { link, until: self.clock.after(span) });
        shelf.count += 1;
    }

    /// Closes what has grown old or was closed by the upstream.
    pub(crate) fn sweep(&self) {
        self.hear();
        let now = self.clock.now();
        let mut shelf = self.shelf.borrow_mut();
        for idle in &mut shelf.idle {
            idle.retain(|idle| idle.until > now && idle.link.wire.is_silent());
        }
        let until = self.clock.after(self.upstream.config.pool.idle_timeout);
        for streams in &mut shelf.streams {
            streams.sweep(now, until);
        }
        shelf.count = shelf.idle.iter().map(Vec::len).sum();
    }

    /// Takes over the endpoints of a new answer, and the idle connections to those that it still has.
    fn hear(&self) {
        let mut news = self.news.borrow_mut();
        if !news.has_changed().unwrap_or_default() {
            return;
        }
        let set = Arc::clone(&news.borrow_and_update());
        let mut shelf = self.shelf.borrow_mut();
        let shelf = &mut *shelf;
        let kept = |endpoint: &Arc<Endpoint>| match shelf.index_of(endpoint) {
            Some(index) => {
                (std::mem::take(&mut shelf.idle[index]), std::mem::take(&mut shelf.streams[index]))
            }
            None => Default::default(),
        };
        let (idle, streams): (Vec<Vec<Idle>>, Vec<Streams>) = set.all().iter().map(kept).unzip();
        shelf.count = idle.iter().map(Vec::len).sum();
        (shelf.set, shelf.idle, shelf.streams) = (set, idle, streams);
    }
}
