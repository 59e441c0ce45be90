//! The kernel itself is asked, about sockets of these tests.

use super::*;
use proptest::prelude::*;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// A source that sees loopback, and calls a connection idle at once.
fn source(ports: &[u16], idle: Duration) -> InetDiag {
    InetDiag::new(ports, &Peers { count_loopback: true, ..Peers::default() }, idle)
}

/// What a poll sees once it sees this many connections at work.
fn until_active(source: &mut InetDiag, active: u64) -> Sample {
    let deadline = soon();
    loop {
        let sample = source.poll(soon()).unwrap();
        if sample.active == active {
            return sample;
        }
        assert!(!deadline.expired(), "{sample:?}");
        std::thread::yield_now();
    }
}

#[test]
fn the_kernel_tells_a_request_in_flight_from_a_connection_at_rest() {
    for (address, by_family) in
        [("127.0.0.1:0", false), ("[::1]:0", false), ("127.0.0.1:0", true), ("[::1]:0", true)]
    {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        let idle = Duration::from_millis(20);
        let mut source = InetDiag { by_family, ..source(&[port], idle) };
        assert_eq!(source.poll(soon()).unwrap().open, 0, "the listener itself is no connection");

        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut served, _) = listener.accept().unwrap();
        let fresh = until_active(&mut source, 0);
        assert_eq!(fresh.open, 1, "a connection without a request comes to rest");

        client.write_all(b"request").unwrap();
        until_active(&mut source, 1);
        let mut read = [0; 7];
        served.read_exact(&mut read).unwrap();
        std::thread::sleep(idle * 3);
        assert_eq!(source.poll(soon()).unwrap().active, 1, "the app has read it and thinks");
        served.write_all(b"answer!").unwrap();
        client.read_exact(&mut read).unwrap();
        assert_eq!(until_active(&mut source, 0).open, 1, "answered, and at rest again");
        assert_eq!(source.by_family, by_family, "one question is enough here");
    }
}

/// An app that leaks its sockets is not at work on them; one whose client has said all may be.
#[test]
fn what_its_client_has_closed_comes_to_rest_once_it_is_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut source = source(&[listener.local_addr().unwrap().port()], Duration::from_millis(20));
    let connect = || {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    };
    let (mut client, mut answered) = connect();
    client.write_all(b"request").unwrap();
    answered.read_exact(&mut [0; 7]).unwrap();
    // Not within the same tick of the kernel's clock.
    std::thread::sleep(Duration::from_millis(30));
    answered.write_all(b"answer!").unwrap();
    client.read_exact(&mut [0; 7]).unwrap();
    drop(client);
    let (unused, _never_read) = connect();
    drop(unused);
    assert_eq!(until_active(&mut source, 0).open, 2, "both ends wait for the app, which never closes them");
    assert_eq!(answered.read(&mut [0]).unwrap(), 0);
    assert_eq!(until_active(&mut source, 0).open, 2, "nor once it has read the end");

    let (mut asking, mut served) = connect();
    asking.write_all(b"request").unwrap();
    served.read_exact(&mut [0; 7]).unwrap();
    asking.shutdown(std::net::Shutdown::Write).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(source.poll(soon()).unwrap().active, 1, "the answer is still to come");
    served.write_all(b"answer!").unwrap();
    asking.read_exact(&mut [0; 7]).unwrap();
    until_active(&mut source, 0);
}

/// One row of each family; the question about all of them fails after so many rows.
fn rows_where_all_families_fail(after: usize, by_family: &mut bool) -> usize {
    let peer = IpAddr::from([192, 0, 2, 1]);
    let row = Row { local_port: 80, peer: (peer, 1), state: State::Active, quiet: None };
    let ask = |family: Option<AddressFamily>, take: &mut dyn FnMut(Row)| {
        (0..if family.is_some() { 1 } else { after }).for_each(|_| take(row));
        if family.is_some() { Ok(()) } else { Err(Errno::ENOBUFS.into()) }
    };
    both(by_family, Vec::new, |row, rows: &mut Vec<Row>| rows.push(row), ask).unwrap().len()
}

#[test]
fn what_a_question_told_before_it_failed_is_not_counted_again() {
    let mut by_family = false;
    assert_eq!(rows_where_all_families_fail(2, &mut by_family), 2);
    assert!(!by_family, "the kernel takes the question");
    assert_eq!(rows_where_all_families_fail(0, &mut by_family), 2);
    assert!(by_family, "it may not");
    assert_eq!(rows_where_all_families_fail(2, &mut by_family), 2);
}

/// The kernel's clock for this is coarse: both happen in the same tick, most of these times.
#[test]
fn a_first_request_that_comes_with_the_connection_is_in_flight() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut source = source(&[listener.local_addr().unwrap().port()], Duration::ZERO);
    let mut open = Vec::new();
    for count in 1..=20 {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"?").unwrap();
        let (mut served, _) = listener.accept().unwrap();
        served.read_exact(&mut [0]).unwrap();
        open.push((client, served));
        assert_eq!(source.poll(soon()).unwrap().active, count);
    }
}

#[test]
fn new_connections_are_told_by_comparing_looks() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut source = source(&[1, port, 65535], Duration::ZERO);
    source.poll(soon()).unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(source.poll(soon()).unwrap().since_new, Some(Duration::ZERO));
    assert_eq!(source.poll(soon()).unwrap().since_new, None);
}

#[test]
fn the_kernel_takes_filters_of_any_number_of_ports() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let others = (1..).filter(|other| *other != port);
    for count in [0, 1, 2, 7, MOST_FILTERED - 1, MOST_FILTERED] {
        let mut ports: Vec<u16> = others.clone().take(count).collect();
        let without = source(&ports, Duration::ZERO).poll(soon()).unwrap();
        ports.insert(count / 2, port);
        let with = source(&ports, Duration::ZERO).poll(soon()).unwrap();
        assert_eq!(with.open, without.open + 1, "{count} other ports");
    }
}

#[test]
fn rest_is_when_all_that_came_in_was_answered_a_while_ago() {
    let of = Duration::from_millis;
    let info = |last_received, last_sent| Info {
        last_received: of(last_received),
        last_sent: of(last_sent),
        is_unanswered: false,
    };
    let at_rest = |last_received, last_sent| is_at_rest(info(last_received, last_sent), of(5_000));
    assert!(at_rest(6_000, 5_000), "answered five seconds ago");
    assert!(at_rest(5_000, 5_000), "opened five seconds ago");
    assert!(!at_rest(6_000, 4_999), "answered just now");
    assert!(!at_rest(60_000, 61_000), "a request of a minute ago has no answer yet");
    let first = Info { is_unanswered: true, ..info(60_000, 60_000) };
    assert!(!is_at_rest(first, of(5_000)), "a first request came with the handshake and has no answer yet");
}

proptest! {
    #[test]
    fn no_bytes_of_the_kernel_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), length in 0_u32..400) {
        let _ = row(&bytes, Duration::ZERO);
        let mut framed = length.to_ne_bytes().to_vec();
        framed.extend(&bytes);
        for message in Messages(&framed).take(1_000) {
            let _ = message.map(|(_, body)| row(body, Duration::ZERO));
        }
    }
}
