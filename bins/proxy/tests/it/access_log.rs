//! The access log: what each line tells, that there is one for everything, and that nobody ever waits for it.

mod end;

use std::net::SocketAddr;
use std::time::Duration;

use podkit_testkit::{Signal, eventually, free_port};
use serde_json::{Value, json};

use crate::support::authority::{self, Authority};
use crate::support::h2::{H2, get, wait};
use crate::support::{Origin, Proxy, ok};

const LOG: &str = "access_log: json";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A proxy with a log, before an origin.
fn proxy(origin: &Origin) -> (Proxy, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Proxy::yaml(origin.address, dir.path(), LOG, ""), dir)
}

fn parse(stdout: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    stdout.lines().map(parse).collect()
}

/// The lines of the log, once there are so many.
fn lines(proxy: &Proxy, count: usize) -> Vec<Value> {
    let stdout = eventually(&format!("the log has {count} lines"), || {
        let stdout = proxy.process.stdout();
        (stdout.lines().count() >= count && stdout.ends_with('\n')).then_some(stdout)
    });
    assert_eq!(stdout.lines().count(), count, "{stdout}");
    parse(&stdout)
}

#[track_caller]
fn assert_members(line: &Value, want: Value) {
    for (key, value) in want.as_object().unwrap() {
        assert_eq!(line.get(key).unwrap_or(&Value::Null), value, "{key} in {line}");
    }
}

#[test]
fn a_request_is_told_in_one_line() {
    let origin = Origin::http(|_, body| ok(std::str::from_utf8(body).unwrap()));
    let (proxy, _dir) = proxy(&origin);
    let mut client = proxy.connect();
    client.send(format!(
        "POST /a/b?c=d HTTP/1.1\r\nHost: shop\r\nUser-Agent: curl/8\r\nContent-Length: 5\r\nX-Request-ID: mine\r\n\
         traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n\r\nhello"
    ));
    assert_eq!(client.response().text(), "hello");
    let line = &lines(&proxy, 1)[0];
    assert_members(
        line,
        json!({
            "listener": "web",
            "direction": "inbound",
            "peer": client.stream.local_addr().unwrap().to_string(),
            "protocol": "HTTP/1.1",
            "method": "POST",
            "path": "/a/b?c=d",
            "host": "shop",
            "user_agent": "curl/8",
            "request_id": "mine",
            "trace_id": TRACE,
            "status": 200,
            "request_bytes": 5,
            "response_bytes": 5,
            "upstream": origin.address.to_string(),
        }),
    );
    let time = line["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'), "{time}");
    let millis = |key: &str| line[key].as_f64().unwrap();
    assert!(millis("upstream_ms") > 0.0 && millis("upstream_ms") <= millis("duration_ms"), "{line}");
    for absent in ["reason", "retries", "tls", "client_cert"] {
        assert_eq!(line.get(absent), None, "{line}");
    }
}

/// What the app is told is what the log tells, also where it was started here.
#[test]
fn a_request_has_the_names_that_the_app_knows_it_by() {
    let origin = Origin::hello();
    let (proxy, _dir) = proxy(&origin);
    proxy.connect().get("/");
    let line = &lines(&proxy, 1)[0];
    let seen = origin.seen().concat();
    let id = line["request_id"].as_str().unwrap();
    assert!(seen.contains(&format!("X-Request-ID: {id}\r\n")), "{seen}");
    let trace = line["trace_id"].as_str().unwrap();
    assert!(trace.len() == 32 && seen.contains(&format!("traceparent: 00-{trace}-")), "{seen}");
}

#[test]
fn each_request_of_a_connection_has_its_line_and_so_has_each_stream() {
    let origin = Origin::hello();
    let (proxy, _dir) = proxy(&origin);
    let mut client = proxy.connect();
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    );
    client.response();
    client.response();
    wait(async {
        let client = H2::connect(proxy.address()).await;
        client.ask(get("/3"), b"").await.unwrap();
    });
    let told: Vec<_> = lines(&proxy, 3)
        .iter()
        .map(|line| {
            (line["path"].as_str().unwrap().to_owned(), line["protocol"].as_str().unwrap().to_owned())
        })
        .collect();
    let want = [("/1", "HTTP/1.1"), ("/2", "HTTP/1.0"), ("/3", "HTTP/2")];
    assert_eq!(told, want.map(|(path, protocol)| (path.to_owned(), protocol.to_owned())));
}

#[test]
fn what_is_refused_is_told_with_its_reason() {
    let origin = Origin::hello();
    let (proxy, _dir) = proxy(&origin);
    for raw in [
        "GET /host HTTP/1.1\r\nUser-Agent: x\r\n\r\n",
        "nonsense\r\n\r\n",
        "GET /lf HTTP/1.1\nHost: a\n\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    ] {
        proxy.connect().send(raw).response();
    }
    let lines = lines(&proxy, 4);
    let host =
        json!({"method": "GET", "path": "/host", "user_agent": "x", "status": 400, "reason": "host_missing"});
    assert_members(&lines[0], host);
    assert_members(&lines[1], json!({"status": 400, "reason": "request_line", "upstream": null}));
    assert_members(&lines[2], json!({"status": 400, "reason": "bare_lf"}));
    assert_members(&lines[3], json!({"method": "CONNECT", "status": 501, "reason": "connect_method"}));
}

#[test]
fn what_fails_is_told_with_its_reason() {
    let origin = Origin::start(|mut connection| {
        let head = connection.head().unwrap_or_default();
        if head.contains("/half") {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        } else if head.contains("/bad") {
            connection.send("what?\r\n\r\n");
        } else if head.contains("/hangs") {
            connection.drain();
        }
    });
    let (proxy, _dir) = proxy(&origin);
    let ask = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    for path in ["/closes", "/half", "/bad"] {
        let _ = proxy.connect().send(ask(path)).try_response(false);
    }
    let mut leaving = proxy.connect();
    leaving.send(ask("/hangs"));
    origin.wait_for("/hangs");
    socket2::SockRef::from(&leaving.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(leaving);
    let lines = lines(&proxy, 4);
    assert_members(&lines[0], json!({"path": "/closes", "status": 502, "reason": "closed"}));
    let half = json!({"path": "/half", "status": 200, "reason": "truncated", "response_bytes": 4});
    assert_members(&lines[1], half);
    assert_members(&lines[2], json!({"path": "/bad", "status": 502, "reason": "bad_response"}));
    let left = json!({"path": "/hangs", "status": null, "reason": "client_closed", "request_bytes": 1});
    assert_members(&lines[3], left);
    assert_eq!(lines[3]["upstream"], origin.address.to_string());
}

#[test]
fn an_app_that_is_not_there_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let nobody: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let proxy = Proxy::yaml(nobody, dir.path(), LOG, "connect_timeout: 100ms, health: off");
    assert_eq!(proxy.connect().get("/").status, 502);
    assert_members(&lines(&proxy, 1)[0], json!({"status": 502, "reason": "connect"}));
}

#[test]
fn a_request_that_was_sent_again_says_so() {
    let origin = Origin::start(|mut connection| {
        if connection.request().is_some() {
            connection.ok("hello");
            // The next one comes, and finds this connection closed.
            connection.more();
        }
    });
    let (proxy, _dir) = proxy(&origin);
    let mut client = proxy.connect();
    assert_eq!((client.get("/first").status, client.get("/second").status), (200, 200));
    let lines = lines(&proxy, 2);
    assert_members(&lines[0], json!({"path": "/first", "retries": null, "reason": null}));
    assert_members(&lines[1], json!({"path": "/second", "retries": 1, "reason": null, "status": 200}));
}

#[test]
fn an_upgraded_connection_is_told_at_its_end() {
    let origin = Origin::start(|mut connection| {
        connection.head();
        connection.send("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
        let bytes = connection.exactly(4).unwrap();
        connection.send(bytes.repeat(2));
    });
    let (proxy, _dir) = proxy(&origin);
    let mut client = proxy.connect();
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    assert!(client.head().unwrap().contains("101"));
    client.send("ping").exactly(8).unwrap();
    drop(client);
    let want = json!({"path": "/ws", "status": 101, "request_bytes": 4, "response_bytes": 8, "reason": null});
    assert_members(&lines(&proxy, 1)[0], want);
}

#[test]
fn a_tcp_connection_is_told_at_its_end() {
    let origin = Origin::start(|mut connection| {
        let bytes = connection.exactly(4).unwrap();
        connection.send(bytes.repeat(2));
        connection.drain();
    });
    let dir = tempfile::tempdir().unwrap();
    let listener = format!("{LOG}, protocol: tcp, limits: {{rate: 1/h}}");
    let proxy = Proxy::yaml(origin.address, dir.path(), &listener, "");
    let mut client = proxy.connect();
    let address = client.stream.local_addr().unwrap().to_string();
    client.send("ping").exactly(8).unwrap();
    assert_eq!(proxy.process.stdout(), "", "it is not over yet");
    drop(client);
    let want = json!({
        "listener": "web", "protocol": "TCP", "peer": address, "upstream": origin.address.to_string(),
        "request_bytes": 4, "response_bytes": 8, "reason": null, "status": null,
    });
    assert_members(&lines(&proxy, 1)[0], want);
    proxy.connect().rest().unwrap_err();
    assert_members(&lines(&proxy, 2)[1], json!({"reason": "rate", "upstream": null}));
}

#[test]
fn a_client_with_a_certificate_is_told_by_it() {
    let origin = Origin::hello();
    let (authority, dir) = (Authority::new("authority"), tempfile::tempdir().unwrap());
    authority.write(dir.path());
    authority.issue("localhost").write(dir.path(), "tls");
    let path = dir.path().display();
    let tls = format!("tls: {{cert: {path}/tls.crt, key: {path}/tls.key, client_ca: {path}/ca.crt}}");
    let proxy = Proxy::yaml(origin.address, dir.path(), &format!("{LOG}, {tls}"), "");
    let identity = authority.issue("shop");
    let mut client = authority::connect(proxy.address(), authority.client(Some(&identity)));
    assert_eq!(client.get("/").status, 200);
    let line = &lines(&proxy, 1)[0];
    assert_eq!(line["tls"], "1.3");
    assert_eq!(line["client_cert"], "CN=shop");
}

#[test]
fn no_client_can_forge_a_line() {
    let origin = Origin::hello();
    let (proxy, _dir) = proxy(&origin);
    let evil = b"\"},{\"status\":200} \\\" \xc2\x9b31m \xff \xe2\x80\xa8";
    let mut client = proxy.connect();
    client.send("GET /\"},{\"status\":200}\\ HTTP/1.1\r\nHost: a\r\nUser-Agent: ");
    client.send(evil).send("\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let line = &lines(&proxy, 1)[0];
    assert_eq!(line["path"], "/\"},{\"status\":200}\\");
    assert_eq!(line["user_agent"], String::from_utf8_lossy(evil).as_ref());
    assert!(!proxy.process.stdout().trim_end().contains(char::is_control));
}

#[test]
fn of_a_sample_everything_that_went_wrong_is_there() {
    let origin = Origin::http(|head, _| match head.contains("/broken") {
        true => b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        false => ok("hello"),
    });
    let dir = tempfile::tempdir().unwrap();
    let log = "access_log: {format: json, sample: 0.01%}";
    let proxy = Proxy::yaml(origin.address, dir.path(), log, "");
    let mut client = proxy.connect();
    for _ in 0..100 {
        client.get("/fine");
    }
    assert_eq!(client.get("/broken").status, 500);
    proxy.connect().send("GET /refused HTTP/1.1\r\n\r\n").response();
    proxy.process.signal(Signal::SIGTERM);
    let ended = proxy.process.wait();
    let paths: Vec<_> =
        parse(&ended.stdout).iter().map(|line| line["path"].as_str().unwrap().to_owned()).collect();
    assert!(paths.contains(&"/broken".to_owned()) && paths.contains(&"/refused".to_owned()), "{paths:?}");
    // One of them may be in the share of 1 in 10,000.
    assert!(paths.len() < 10, "{paths:?}");
}

#[test]
fn nothing_is_written_where_the_log_is_off() {
    let origin = Origin::hello();
    let proxy = Proxy::http(origin.address);
    proxy.connect().get("/");
    proxy.connect().send("bad\n").response();
    proxy.process.signal(Signal::SIGTERM);
    proxy.process.wait().expect_exit(0).expect_stdout("");
}

#[test]
fn a_log_that_a_reload_turns_on_begins() {
    let origin = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(origin.address, dir.path(), "access_log: off", "");
    proxy.connect().get("/before");
    let file = dir.path().join("proxy.yaml");
    let text = std::fs::read_to_string(&file).unwrap().replace("access_log: off", LOG);
    std::fs::write(&file, text).unwrap();
    proxy.wait_for_metric("podkit_proxy_config_reloads_total", "result=\"applied\"", 1.0);
    proxy.connect().get("/after");
    assert_members(&lines(&proxy, 1)[0], json!({"path": "/after"}));
}
