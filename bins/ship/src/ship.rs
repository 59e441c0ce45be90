//! The process: signals, the state directory and the admin port, under one config after the other.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use podkit_cli::{Exit, Failure, Loaded, Reload};
use podkit_lifecycle::{Phase, SharedPhase, Signals, Stop, raise_file_limit};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::checkpoint::Store;
use crate::config::Config;
use crate::error::Error;
use crate::instance::{FlushRequest, Heartbeat, Shipper, View};
use crate::metrics::Reloads;
use crate::session::{Estate, Process, Session, Turn};

/// Flushes that may wait at once: each container's preStop asks for one.
const MAX_FLUSHES: usize = 16;
/// Between looks at the config file.
const LOOK_AT_CONFIG: Duration = Duration::from_secs(1);

/// Ships until it is told to end, or with `once` until all is delivered.
pub(crate) fn run(loaded: Loaded<Config>) -> Result<Exit, Failure> {
    // Each followed file is kept open, and the soft limit of a container is often 1024 with far more allowed.
    let file_limit = raise_file_limit().map_err(Error::Runtime)?;
    let signals = Signals::install().map_err(Error::Runtime)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let outcome = LocalSet::new().block_on(&runtime, ship(loaded, signals, max_files(file_limit)));
    // A write to a stdout that nobody reads must not hold up the end.
    runtime.shutdown_background();
    outcome
}

/// The files that may be open at once: the limit less what the backends, the admin port and the runtime need, which
/// is half of a limit that is very small.
fn max_files(limit: u64) -> usize {
    const RESERVE: u64 = 320;
    usize::try_from(limit - RESERVE.min(limit / 2)).unwrap_or(usize::MAX)
}

async fn ship(loaded: Loaded<Config>, signals: Signals, max_files: usize) -> Result<Exit, Failure> {
    let Loaded { config, reload, .. } = loaded;
    let process = Rc::new(Process {
        stop: Stop::on_signal(signals).map_err(Error::Runtime)?,
        store: Rc::new(Store::open(&config.state_dir)?),
        heartbeat: Heartbeat::new(),
        max_files,
        reloads: Reloads::new().expect("each metric has a valid name of its own"),
    });
    let checkpoint = process.store.load()?;
    let (is_once, admin) = (config.once, config.admin);
    let session = Session::new(config, &process, Estate { checkpoint, held: Vec::new() });
    let (flushes, mut requests) = mpsc::channel(MAX_FLUSHES);
    let phase = SharedPhase::default();
    let view = Arc::new(View::new(&session.ledger, &session.metrics));
    let serve = |address| {
        let (phase, stop, heartbeat) = (phase.clone(), process.stop.clone(), process.heartbeat.clone());
        let shipper = Shipper { phase, stop, heartbeat, view: Arc::clone(&view), flushes };
        podkit_admin::serve(address, Arc::new(shipper))
    };
    let admin = admin.map(serve).transpose()?;
    let outcome = if is_once {
        once(session, &phase, &mut requests).await
    } else {
        follow(session, reload, &process, &phase, &view, &mut requests).await
    };
    if let Some(admin) = admin {
        admin.rest(podkit_admin::LAST_ANSWERS);
    }
    outcome
}

async fn once(
    mut session: Session,
    phase: &SharedPhase,
    requests: &mut mpsc::Receiver<FlushRequest>,
) -> Result<Exit, Failure> {
    session.start()?;
    phase.set(Phase::Stopping);
    session.once(requests).await
}

/// Ships under one config after the other, until the stop begins.
async fn follow(
    mut session: Session,
    reload: Reload<Config>,
    process: &Rc<Process>,
    phase: &SharedPhase,
    view: &View,
    requests: &mut mpsc::Receiver<FlushRequest>,
) -> Result<Exit, Failure> {
    session.start()?;
    phase.set(Phase::Running);
    let (tell, mut configs) = mpsc::channel(1);
    tokio::task::spawn_local(watch_config(reload, process.reloads.clone(), tell));
    loop {
        match session.follow(requests, &mut configs).await {
            Turn::Stop => {
                phase.set(Phase::Stopping);
                return session.end(requests).await;
            }
            Turn::Reload(new) => {
                if let Some(key) = session.fixed_key(&new) {
                    refuse(&process.reloads, &format!("`{key}` cannot change without a restart"));
                    continue;
                }
                let (old, estate, flushes) = session.rest().await;
                session = take_over(*new, old, process, estate)?;
                view.show(&session.ledger, &session.metrics);
                flushes.into_iter().for_each(|request| session.flush(request));
            }
        }
    }
}

/// Looks at the config file now and then, and hands over what is new in it and has no fault.
async fn watch_config(mut reload: Reload<Config>, reloads: Reloads, configs: mpsc::Sender<Box<Config>>) {
    loop {
        tokio::time::sleep(LOOK_AT_CONFIG).await;
        match reload.poll() {
            None => {}
            Some(Ok(config)) => {
                // Fails only when the stop has begun.
                let _ = configs.send(Box::new(config)).await;
            }
            Some(Err(failure)) => refuse(&reloads, &failure.to_string()),
        }
    }
}

fn refuse(reloads: &Reloads, why: &str) {
    reloads.refused.inc();
    tracing::error!("the new config is refused, the old one stays in force: {why}");
}

/// Starts with a new config; with the old one where the new one does not work.
fn take_over(new: Config, old: Config, process: &Rc<Process>, estate: Estate) -> Result<Session, Error> {
    let mut session = Session::new(new, process, estate.clone());
    match session.start() {
        Ok(()) => {
            process.reloads.taken.inc();
            tracing::info!("the new config is in force");
            return Ok(session);
        }
        Err(error) => refuse(&process.reloads, &podkit_cli::chain(&error)),
    }
    let mut session = Session::new(old, process, estate);
    session.start()?;
    Ok(session)
}
