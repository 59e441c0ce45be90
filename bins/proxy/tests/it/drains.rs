//! Rolling updates: proxies are replaced one after the other under a load that never pauses, as Kubernetes does it,
//! and not one request fails.

use std::sync::Arc;
use std::time::Duration;

use podkit_testkit::{Signal, eventually};

use crate::support::load::{Endpoints, Kind, Load};
use crate::support::{Origin, Proxy};

/// Replicas of the app, replaced side by side.
const SLOTS: usize = 5;

/// How often each is replaced: fifty drains in all.
const ROUNDS: usize = 10;

/// For so long a drained replica still gets new connections: endpoints propagate late.
const LATE: Duration = Duration::from_millis(80);

/// What counts as quiet, for who waits for it and for the proxy.
const QUIET: Duration = Duration::from_millis(400);

const KINDS: [Kind; 6] =
    [Kind::KeepAlive, Kind::Closing, Kind::Chunked, Kind::Pausing, Kind::WebSocket, Kind::Http2];

/// Between two requests of a client: leaves the processor to fifty proxies that start.
const REST: Duration = Duration::from_millis(1);

/// An app that answers, and echoes what comes behind an upgrade.
fn app() -> Origin {
    Origin::start(|mut connection| {
        while let Some((head, _)) = connection.request() {
            if !head.starts_with("GET /ws ") {
                connection.ok("hello");
                continue;
            }
            connection.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            );
            connection.mirror();
            connection.send("bye");
            return;
        }
    })
}

fn replica(app: &Origin) -> Proxy {
    let quiet = format!("{}ms", QUIET.as_millis());
    Proxy::http_with(app.address, &["--shutdown-quiet", &quiet, "--shutdown-deadline", "20s"])
}

/// How a replica is told to go.
#[derive(Clone, Copy)]
enum Way {
    /// By `podkit-drain`, which waits until nothing is under way any more.
    Waited,
    /// By a hook that only gives the endpoints time: requests and sessions are under way when SIGTERM comes.
    Hasty,
    /// As `Waited`, but by a second drain: the first was undone.
    Undone,
}

/// What the kubelet and the preStop hook do to a replica whose successor is there.
fn retire(proxy: Proxy, way: Way, endpoints: &Endpoints) {
    proxy.ask("POST", "/drain?lease=60s");
    std::thread::sleep(LATE);
    if matches!(way, Way::Undone) {
        proxy.ask("DELETE", "/drain");
        std::thread::sleep(LATE);
        proxy.ask("POST", "/drain?lease=60s");
    }
    endpoints.remove(proxy.address());
    eventually("the replica is quiet", || {
        let state = proxy.drain_state();
        let silent = |name: &str| state[name].as_u64().is_none_or(|ms| u128::from(ms) >= QUIET.as_millis());
        let quiet = silent("ms_since_last_connection") && silent("ms_since_last_request");
        (matches!(way, Way::Hasty) || quiet && state["in_flight"] == 0).then_some(())
    });
    assert_eq!(proxy.metric("podkit_proxy_requests_total", "code=\"5xx\""), 0.0);
    proxy.process.signal(Signal::SIGTERM);
    proxy.process.wait().expect_exit(0).refuse_stderr("WARN");
}

#[test]
fn fifty_drains_under_load_fail_no_request() {
    let app = Arc::new(app());
    let endpoints = Arc::new(Endpoints::default());
    let replicas: Vec<Proxy> = (0..SLOTS).map(|_| replica(&app)).collect();
    replicas.iter().for_each(|proxy| endpoints.add(proxy.address()));
    let load = Load::start(&endpoints, &KINDS, REST);
    let slots: Vec<_> = replicas
        .into_iter()
        .map(|mut current| {
            let (app, endpoints) = (Arc::clone(&app), Arc::clone(&endpoints));
            std::thread::spawn(move || {
                for way in [Way::Waited, Way::Hasty, Way::Undone].into_iter().cycle().take(ROUNDS) {
                    let next = replica(&app);
                    endpoints.add(next.address());
                    retire(std::mem::replace(&mut current, next), way, &endpoints);
                }
                current
            })
        })
        .collect();
    let replicas: Vec<_> =
        slots.into_iter().map(|slot| slot.join().expect("each drain ends cleanly")).collect();
    let served = load.stop();
    drop(replicas);
    assert!(served > 1000, "only {served} requests were served");
    println!("{served} requests through {} drains", SLOTS * ROUNDS);
}
