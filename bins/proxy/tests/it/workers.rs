//! Several workers, and Unix sockets on both sides.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

use podkit_testkit::{Signal, eventually, pod};

use crate::support::{Client, Origin, PATIENCE, Proxy};

/// The threads of a process that carry traffic.
fn workers(proxy: &Proxy) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", proxy.process.id())).unwrap();
    let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap());
    let mut workers: Vec<String> = names.filter(|name| name.starts_with("worker-")).collect();
    workers.sort();
    workers
}

#[test]
fn each_worker_carries_connections_and_all_stop_together() {
    let origin = Origin::hello();
    let proxy = Proxy::http_with(origin.address, &["--workers", "3", "--shutdown-quiet", "100ms"]);
    assert_eq!(workers(&proxy), ["worker-0\n", "worker-1\n", "worker-2\n"]);
    // The kernel spreads connections by a hash of their ports: the pools tell, since each worker has its own.
    let mut clients: Vec<Client> = Vec::new();
    let connections = eventually("three workers have connected to the origin", || {
        let mut client = proxy.connect();
        assert_eq!(client.get("/").text(), "hello");
        clients.push(client);
        (origin.connections() >= 3).then(|| origin.connections())
    });
    assert_eq!(connections, 3, "a worker that has an idle connection to the origin uses it");
    assert_eq!(proxy.metric("podkit_proxy_open_connections", ""), clients.len() as f64);
    proxy.ask("POST", "/drain?lease=60s");
    for client in &mut clients {
        assert!(client.get("/").closes(), "every worker sends its clients away");
    }
    proxy.process.signal(Signal::SIGTERM);
    proxy.process.wait().expect_exit(0);
}

#[test]
fn requests_come_by_one_unix_socket_and_go_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let (front, back) = (dir.path().join("front.sock"), dir.path().join("back.sock"));
    let app = UnixListener::bind(&back).unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = app.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi").unwrap();
        String::from_utf8(head).unwrap()
    });
    let file = dir.path().join("proxy.yaml");
    std::fs::write(
        &file,
        format!(
            "listeners: [{{name: web, listen: \"unix:{}\", to: app}}]\nupstreams: [{{name: app, address: \"unix:{}\", health: off}}]\n",
            front.display(),
            back.display()
        ),
    )
    .unwrap();
    let proxy = Proxy::start(
        &["--config", file.to_str().unwrap(), "--workers", "2", "--shutdown-quiet", "50ms"],
        Vec::new(),
    );
    let mut client = UnixStream::connect(&front).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"GET /u HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhi"), "{answer}");
    let head = served.join().unwrap();
    assert!(head.starts_with("GET /u HTTP/1.1\r\nHost: shop\r\n"), "{head}");
    assert!(!head.contains("X-Forwarded-For"), "a Unix socket has no address to tell: {head}");
    proxy.process.terminate().expect_exit(0);
    assert!(!front.exists(), "the socket goes with the listener");
}

#[test]
fn the_socket_of_a_killed_proxy_is_taken_over_and_one_in_use_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let front = dir.path().join("front.sock");
    let origin = Origin::hello();
    let file = dir.path().join("proxy.yaml");
    std::fs::write(
        &file,
        format!(
            "listeners: [{{name: web, listen: \"unix:{}\", to: app}}]\nupstreams: [{{name: app, address: \"{}\"}}]\n",
            front.display(),
            origin.address
        ),
    )
    .unwrap();
    let args = ["--config", file.to_str().unwrap()];
    let first = Proxy::start(&args, Vec::new());
    let second = pod("proxy").args(args).args(["--admin", "off"]).expect_exit(1);
    second.expect_stderr(&format!("cannot listen on unix:{} (listener \"web\")", front.display()));
    drop(first.process.kill());
    let third = Proxy::start(&args, Vec::new());
    let mut client = UnixStream::connect(&front).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("hello"), "{answer}");
    let names: HashSet<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    third.process.terminate().expect_exit(0);
}
