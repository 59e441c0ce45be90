//! A new config while the proxy runs: what it adds opens, what it drops drains, what it leaves alone is left alone, and
//! a bad one changes nothing.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use podkit_testkit::{Signal, eventually, free_port};

use crate::support::{Client, Origin, Proxy};

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// A listener and its upstream, as YAML; `more` is further YAML of the listener.
struct Way<'a> {
    name: &'a str,
    listen: SocketAddr,
    origin: &'a Origin,
    more: &'a str,
}

fn yaml(ways: &[Way<'_>]) -> String {
    let mut text = "listeners:\n".to_owned();
    for Way { name, listen, more, .. } in ways {
        text += &format!("- {{name: {name}, listen: \"{listen}\", to: {name}, {more}}}\n");
    }
    text += "upstreams:\n";
    for Way { name, origin, .. } in ways {
        text += &format!("- {{name: {name}, address: \"{}\"}}\n", origin.address);
    }
    text
}

/// A volume of a ConfigMap, as the kubelet lays it out and changes it (contract 3, point 7).
struct Volume {
    dir: tempfile::TempDir,
    generation: u32,
}

impl Volume {
    fn new(config: &str) -> Self {
        let mut volume = Self { dir: tempfile::tempdir().unwrap(), generation: 0 };
        symlink("..data/proxy.yaml", volume.file()).unwrap();
        volume.swap(config);
        volume
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("proxy.yaml")
    }

    fn swap(&mut self, config: &str) {
        self.generation += 1;
        let path = |name: &str| self.dir.path().join(name);
        let (new, link) = (format!("..{}", self.generation), path("..data_tmp"));
        fs::create_dir(path(&new)).unwrap();
        fs::write(path(&new).join("proxy.yaml"), config).unwrap();
        symlink(&new, &link).unwrap();
        fs::rename(link, path("..data")).unwrap();
    }
}

fn start(file: &Path, listeners: Vec<SocketAddr>) -> Proxy {
    Proxy::start(&["--config", file.to_str().unwrap(), "--shutdown-quiet", "100ms"], listeners)
}

fn wait_for_reload(proxy: &Proxy, result: &str, count: f64) {
    proxy.wait_for_metric("podkit_proxy_config_reloads_total", result, count);
}

#[test]
fn what_is_new_opens_what_is_gone_drains_and_the_rest_keeps_its_connections() {
    let (stays, goes, comes) = (Origin::hello(), Origin::hello(), Origin::hello());
    let at = [address(), address(), address()];
    let way = |name, listen, origin| Way { name, listen, origin, more: "" };
    let mut volume = Volume::new(&yaml(&[way("stays", at[0], &stays), way("goes", at[1], &goes)]));
    let proxy = start(&volume.file(), at.to_vec());
    let (mut kept, mut idle, mut busy) =
        (Client::connect(at[0]), Client::connect(at[1]), Client::connect(at[1]));
    assert_eq!(kept.get("/").text(), "hello");
    assert_eq!(idle.get("/").text(), "hello");
    busy.send("POST /upload HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nha");
    goes.wait_for("/upload");

    volume.swap(&yaml(&[way("stays", at[0], &stays), way("comes", at[2], &comes)]));
    wait_for_reload(&proxy, "applied", 1.0);
    assert_eq!(Client::connect(at[2]).get("/new").text(), "hello");
    comes.wait_for("/new");
    let kept_on = kept.get("/again");
    assert_eq!((kept_on.text(), kept_on.closes()), ("hello", false), "the untouched listener's connection");
    let last = idle.get("/last");
    assert_eq!((last.text(), last.closes()), ("hello", true), "an idle connection is served once more");
    busy.send("lf");
    let last = busy.response();
    assert_eq!((last.text(), last.closes()), ("hello", true), "a request under way is answered");
    eventually("the closed listener is gone from the status", || {
        let status = proxy.ask("GET", "/status").json();
        let names: Vec<_> =
            status["listeners"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
        (names == ["stays", "comes"]).then_some(())
    });
    std::net::TcpStream::connect(at[1]).unwrap_err();
    proxy.process.terminate().expect_exit(0);
}

#[test]
fn other_settings_of_a_listener_are_for_new_connections_and_the_old_ones_leave() {
    let origin = Origin::hello();
    let listen = address();
    let way = |more| [Way { name: "web", listen, origin: &origin, more }];
    let mut volume = Volume::new(&yaml(&way("limits: {body: 1KiB}")));
    let proxy = start(&volume.file(), vec![listen]);
    let mut old = proxy.connect();
    let post = "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\n12345";
    assert_eq!(old.send(post).response().status, 200);

    volume.swap(&yaml(&way("limits: {body: 4B}")));
    wait_for_reload(&proxy, "applied", 1.0);
    assert_eq!(proxy.connect().send(post).response().status, 413);
    let last = old.send(post).response();
    assert_eq!(
        (last.status, last.closes()),
        (200, true),
        "an open connection keeps its settings, and leaves"
    );
    proxy.process.terminate().expect_exit(0);
}

#[test]
fn another_upstream_takes_over_without_a_refused_connection() {
    let (blue, green) =
        (Origin::http(|_, _| crate::support::ok("blue")), Origin::http(|_, _| crate::support::ok("green")));
    let listen = address();
    let way = |origin| [Way { name: "web", listen, origin, more: "" }];
    let mut volume = Volume::new(&yaml(&way(&blue)));
    let proxy = start(&volume.file(), vec![listen]);
    assert_eq!(proxy.connect().get("/").text(), "blue");
    volume.swap(&yaml(&way(&green)));
    // Each connect succeeds: the port is never closed.
    eventually("requests go to the new upstream", || {
        (proxy.connect().get("/").text() == "green").then_some(())
    });
    proxy.process.terminate().expect_exit(0);
}

#[test]
fn a_bad_config_changes_nothing_and_is_counted_and_told() {
    let origin = Origin::hello();
    let (listen, other, taken) = (address(), address(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let way = |name, listen| Way { name, listen, origin: &origin, more: "" };
    let good = yaml(&[way("web", listen)]);
    let mut volume = Volume::new(&good);
    let proxy = start(&volume.file(), vec![listen]);
    let mut client = proxy.connect();
    client.get("/");

    volume.swap(&good.replace("to: web", "too: web"));
    wait_for_reload(&proxy, "refused", 1.0);
    // All or nothing: the port of another process keeps the free one from being opened too.
    let clash = yaml(&[way("web", listen), way("more", other), way("clash", taken.local_addr().unwrap())]);
    volume.swap(&clash);
    wait_for_reload(&proxy, "refused", 2.0);
    volume.swap(&format!("admin: 127.0.0.1:1\n{good}"));
    assert_eq!(client.get("/").text(), "hello", "the connection is untouched");
    std::net::TcpStream::connect(other).unwrap_err();
    proxy.process.wait_for_stderr("listeners[0].too: unknown key");
    let clash_at = format!("cannot listen on {} (listener \\\"clash\\\")", taken.local_addr().unwrap());
    proxy.process.wait_for_stderr(&clash_at);

    drop(taken);
    volume.swap(&clash);
    // The same content as a refused one is told once, and tried once; a change tries anew.
    volume.swap(&(clash + "\n"));
    wait_for_reload(&proxy, "applied", 1.0);
    assert_eq!(Client::connect(other).get("/").text(), "hello");
    proxy.process.signal(Signal::SIGTERM);
    proxy.process.wait().expect_exit(0);
}

#[test]
fn workers_cannot_change_without_a_restart() {
    let origin = Origin::hello();
    let listen = address();
    let config = yaml(&[Way { name: "web", listen, origin: &origin, more: "" }]);
    let mut volume = Volume::new(&config);
    let proxy = start(&volume.file(), vec![listen]);
    volume.swap(&format!("workers: 2\n{config}"));
    wait_for_reload(&proxy, "refused", 1.0);
    proxy.process.wait_for_stderr("`workers` cannot change without a restart");
    proxy.process.terminate().expect_exit(0);
}

#[test]
fn a_listener_is_told_of_by_its_present_name_and_address() {
    let origin = Origin::hello();
    let at = [address(), address()];
    let way = |name, listen| yaml(&[Way { name, listen, origin: &origin, more: "" }]);
    let mut volume = Volume::new(&way("old", at[0]));
    let proxy = start(&volume.file(), at.to_vec());
    assert_eq!(proxy.connect().get("/").text(), "hello");
    const ENDPOINTS: &str = "podkit_proxy_upstream_endpoints";
    proxy.wait_for_metric(ENDPOINTS, "state=\"healthy\",upstream=\"old\"", 1.0);
    for (name, listen) in [("new", at[0]), ("new", at[1])] {
        volume.swap(&way(name, listen));
        eventually("the status tells of this one alone", || {
            let status = proxy.ask("GET", "/status").json();
            let told: Vec<_> = status["listeners"].as_array().unwrap().iter().collect();
            (told.len() == 1 && told[0]["name"] == name && told[0]["listen"] == listen.to_string())
                .then_some(())
        });
    }
    proxy.wait_for_metric(ENDPOINTS, "upstream=\"old\"", 0.0);
    proxy.process.terminate().expect_exit(0);
}

#[test]
fn a_stop_waits_for_the_connections_of_a_listener_that_is_gone() {
    let (goes, stays) = (Origin::hello(), Origin::hello());
    let at = [address(), address()];
    let out = || Way { name: "out", listen: at[1], origin: &stays, more: "direction: outbound" };
    let mut volume =
        Volume::new(&yaml(&[Way { name: "web", listen: at[0], origin: &goes, more: "" }, out()]));
    let proxy = start(&volume.file(), at.to_vec());
    let mut busy = proxy.connect();
    busy.send("POST /upload HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nha");
    goes.wait_for("/upload");
    volume.swap(&yaml(&[out()]));
    wait_for_reload(&proxy, "applied", 1.0);
    proxy.process.signal(Signal::SIGTERM);
    proxy.wait_for_phase("stopping");
    // Many times the quiet period.
    std::thread::sleep(std::time::Duration::from_millis(600));
    let last = busy.send("lf").response();
    assert_eq!((last.text(), last.closes()), ("hello", true));
    proxy.process.wait().expect_exit(0);
}
