//! Much at a time over TCP: what passes through the kernel's pipes is the same bytes with the same ends.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use podkit_testkit::eventually;

use crate::support::{self, Origin, Proxy};

const MEGABYTE: usize = 1 << 20;

/// Bytes of which no two blocks of a buffer's or a page's size are alike.
fn pattern() -> &'static [u8] {
    static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| support::pattern(MEGABYTE + 7));
    &PATTERN
}

/// Writes `total` bytes of the repeated pattern.
fn send(mut to: &TcpStream, total: usize) -> io::Result<()> {
    let pattern = pattern();
    let mut left = total;
    while left > 0 {
        let length = left.min(pattern.len());
        to.write_all(&pattern[..length])?;
        left -= length;
    }
    Ok(())
}

/// Reads to the end or `total` bytes, which must be the repeated pattern, and tells how many there were.
fn receive(mut from: &TcpStream, total: usize) -> io::Result<usize> {
    let pattern = pattern();
    let mut buffer = vec![0; 256 * 1024];
    let mut got = 0;
    while got < total {
        let at = got % pattern.len();
        let most = buffer.len().min(pattern.len() - at).min(total - got);
        match from.read(&mut buffer[..most])? {
            0 => break,
            count => {
                assert!(buffer[..count] == pattern[at..at + count], "other bytes near {got}");
                got += count;
            }
        }
    }
    Ok(got)
}

/// As [`receive`], and nothing behind it but the end.
fn receive_all(from: &TcpStream, total: usize) {
    assert_eq!(receive(from, usize::MAX).unwrap(), total);
}

fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// The ends of pipes that the proxy has open.
fn pipes(proxy: &Proxy) -> usize {
    let fds = std::fs::read_dir(format!("/proc/{}/fd", proxy.process.id())).unwrap();
    let links = fds.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("pipe:")).count()
}

#[test]
fn hundreds_of_megabytes_pass_unchanged_both_ways_at_once() {
    const TOTAL: usize = 200 * MEGABYTE + 3;
    let both = |stream: &TcpStream| {
        thread::scope(|scope| {
            scope.spawn(|| {
                send(stream, TOTAL).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            });
            receive_all(stream, TOTAL);
        });
    };
    let (done, is_done) = mpsc::channel();
    let origin = Origin::start(move |connection| {
        both(&connection.stream);
        done.send(()).unwrap();
    });
    let proxy = Proxy::tcp(origin.address, &[]);
    let before = pipes(&proxy);
    both(&proxy.connect().stream);
    is_done.recv().unwrap();
    assert!(pipes(&proxy) > before, "nothing passed through a pipe");
    proxy.wait_for_metric("podkit_proxy_received_bytes_total", "", TOTAL as f64);
    proxy.wait_for_metric("podkit_proxy_sent_bytes_total", "", TOTAL as f64);
}

#[test]
fn after_bulk_each_direction_still_ends_by_itself() {
    const TOTAL: usize = 20 * MEGABYTE + 1;
    let origin = Origin::start(|connection| {
        receive_all(&connection.stream, TOTAL);
        // The client has ended, and gets the answer all the same.
        send(&connection.stream, TOTAL).unwrap();
    });
    let proxy = Proxy::tcp(origin.address, &[]);
    let client = proxy.connect();
    send(&client.stream, TOTAL).unwrap();
    client.stream.shutdown(Shutdown::Write).unwrap();
    receive_all(&client.stream, TOTAL);

    let origin = Origin::start(|connection| {
        send(&connection.stream, TOTAL).unwrap();
        connection.shutdown().unwrap();
        receive_all(&connection.stream, TOTAL);
        reset(&connection.stream);
    });
    let proxy = Proxy::tcp(origin.address, &[]);
    let client = proxy.connect();
    send(&client.stream, 1).unwrap();
    receive_all(&client.stream, TOTAL);
    // The pattern goes on where it was.
    let rest = pattern();
    (&client.stream).write_all(&rest[1..]).unwrap();
    send(&client.stream, TOTAL - rest.len()).unwrap();
    client.stream.shutdown(Shutdown::Write).unwrap();
    proxy.wait_for_metric("podkit_proxy_open_connections", "", 0.0);
}

#[test]
fn a_reset_amid_bulk_is_a_reset_on_the_other_side() {
    const SOME: usize = 10 * MEGABYTE;
    let origin = Origin::start(|connection| {
        send(&connection.stream, SOME).unwrap();
        reset(&connection.stream);
    });
    let proxy = Proxy::tcp(origin.address, &[]);
    let client = proxy.connect();
    send(&client.stream, 1).unwrap();
    let error = receive(&client.stream, usize::MAX).expect_err("a reset must not look like an end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    let (tell, told) = mpsc::channel();
    let origin = Origin::start(move |connection| tell.send(receive(&connection.stream, usize::MAX)).unwrap());
    let proxy = Proxy::tcp(origin.address, &[]);
    let client = proxy.connect();
    send(&client.stream, SOME).unwrap();
    reset(&client.stream);
    drop(client);
    let error = told.recv().unwrap().expect_err("a reset must not look like an end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn small_messages_between_bulk_keep_their_place() {
    let sizes = [1, 5 * MEGABYTE, 2, 16 * 1024, 64 * 1024, 3 * MEGABYTE + 1, 16 * 1024 - 1, 7, MEGABYTE];
    let origin = Origin::start(move |connection| {
        for size in sizes {
            assert_eq!(receive(&connection.stream, size).unwrap(), size);
            send(&connection.stream, size).unwrap();
        }
    });
    let proxy = Proxy::tcp(origin.address, &[]);
    let client = proxy.connect();
    for size in sizes {
        send(&client.stream, size).unwrap();
        assert_eq!(receive(&client.stream, size).unwrap(), size);
    }
    receive_all(&client.stream, 0);
}

#[test]
fn more_bulk_than_there_are_pipes_is_carried_all_the_same() {
    const CONNECTIONS: usize = 40;
    const TOTAL: usize = 16 * MEGABYTE;
    let origin = Origin::start(|connection| {
        // What is left unread would turn the end into a reset.
        receive(&connection.stream, 1).unwrap();
        send(&connection.stream, TOTAL).unwrap();
    });
    let proxy = Proxy::tcp(origin.address, &["--workers", "1"]);
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| proxy.connect()).collect();
    let before = pipes(&proxy);
    for client in &clients {
        send(&client.stream, 1).unwrap();
    }
    // Nobody reads yet, so those that got a pipe keep it.
    eventually("all pipes are in use", || (pipes(&proxy) == before + 2 * 16).then_some(()));
    thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| receive_all(&client.stream, TOTAL));
        }
    });
    drop(clients);
    proxy.wait_for_metric("podkit_proxy_open_connections", "", 0.0);
    assert_eq!(
        pipes(&proxy),
        before + 2 * 16,
        "pipes are kept for the next bulk, and are no more than before"
    );
}
