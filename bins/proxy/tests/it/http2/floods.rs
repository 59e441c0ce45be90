//! Clients that cost us more than they pay: what they get is an end, and what they cost is bounded.

use std::net::SocketAddr;
use std::time::Duration;

use podkit_testkit::eventually;

use crate::support::frames::*;
use crate::support::{Origin, Proxy};

/// Resident memory, in KiB.
fn resident(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("Linux tells it");
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Sends frames for ever, on a thread of its own, and gives the first answer that ends a connection.
fn flood(address: SocketAddr, mut next: impl FnMut(u32) -> Vec<u8> + Send + 'static) -> Fate {
    let mut raw = Raw::connect(address);
    let mut writer = raw.0.stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        use std::io::Write as _;
        (0..).map(|n| next(1 + 2 * n)).find(|frames| writer.write_all(frames).is_err());
    });
    let fate = raw.fate(0);
    drop(raw);
    writing.join().unwrap();
    fate
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])
}

#[test]
fn streams_that_are_reset_at_once_are_an_end() {
    let origin = Origin::start(|mut connection| {
        connection.head();
        connection.drain();
    });
    let proxy = Proxy::http(origin.address);
    let before = resident(&proxy);
    for _ in 0..5 {
        let mut raw = Raw::connect(proxy.address());
        let all: Vec<u8> =
            (0..10_000).flat_map(|n| [get(1 + 2 * n, "/"), reset(1 + 2 * n)].concat()).collect();
        assert_eq!(raw.send(all).fate(0), Fate::GoAway(ENHANCE_YOUR_CALM));
    }
    proxy.wait_for_metric("podkit_proxy_refused_requests_total", "reason=\"flood\"", 5.0);
    assert!(origin.connections() < 100, "the origin saw {}", origin.connections());
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 0.0);
    assert!(resident(&proxy) < before + 8 * 1024, "{before} KiB became {} KiB", resident(&proxy));
}

#[test]
fn streams_that_are_reset_once_their_requests_are_under_way_are_an_end_too() {
    let origin = Origin::start(|mut connection| while connection.head().is_some() {});
    let proxy = Proxy::http(origin.address);
    let mut raw = Raw::connect(proxy.address());
    let mut fate = None;
    for n in 0..10_000 {
        let stream = 1 + 2 * n;
        raw.send(get(stream, "/"));
        if n % 50 == 0 {
            // Pings are answered in order, so what came before was seen by itself.
            raw.send(frame(PING, 0, 0, &[0; 8]));
            loop {
                match raw.next() {
                    Some(frame) if frame.kind == PING => break,
                    Some(frame) if frame.kind == GOAWAY => {
                        fate = Some(Fate::GoAway(u32::from(frame.payload[7])))
                    }
                    Some(_) => {}
                    None => break,
                }
            }
        }
        raw.send(reset(stream));
        if fate.is_some() {
            break;
        }
    }
    assert_eq!(fate.unwrap_or_else(|| raw.fate(0)), Fate::GoAway(ENHANCE_YOUR_CALM));
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 0.0);
}

#[test]
fn a_field_section_without_an_end_is_an_end() {
    let proxy = Proxy::http(Origin::hello().address);
    let before = resident(&proxy);
    let mut begun = false;
    let fate = flood(proxy.address(), move |_| match std::mem::replace(&mut begun, true) {
        false => frame(HEADERS, END_STREAM, 1, &section(&request("GET", "/", &[]))),
        true => frame(CONTINUATION, 0, 1, &section(&[(b"x", &[b'y'; 100])])),
    });
    assert!(matches!(fate, Fate::GoAway(ENHANCE_YOUR_CALM | COMPRESSION_ERROR)), "{fate:?}");
    let mut begun = false;
    let fate = flood(proxy.address(), move |_| match std::mem::replace(&mut begun, true) {
        false => frame(HEADERS, END_STREAM, 1, &section(&request("GET", "/", &[]))),
        true => frame(CONTINUATION, 0, 1, &[]),
    });
    assert_eq!(fate, Fate::GoAway(ENHANCE_YOUR_CALM), "empty CONTINUATION frames");
    assert!(resident(&proxy) < before + 8 * 1024, "{before} KiB became {} KiB", resident(&proxy));
}

#[test]
fn a_field_section_that_unpacks_to_much_more_is_refused() {
    let origin = Origin::hello();
    let proxy = Proxy::http(origin.address);
    let mut raw = Raw::connect(proxy.address());
    // One field of 4,000 bytes goes into the table; each byte behind it names it again.
    let mut bomb = section(&request("GET", "/", &[]));
    bomb.extend_from_slice(&[0x40, 1, b'x', 127, 0xa1, 0x1e]);
    bomb.extend_from_slice(&[b'y'; 4000]);
    bomb.extend_from_slice(&[0xbe; 10_000]);
    assert_eq!(
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb)).fate(1),
        Fate::GoAway(ENHANCE_YOUR_CALM)
    );
    assert_eq!(origin.connections(), 0);
}

#[test]
fn empty_data_frames_are_an_end() {
    let origin = Origin::start(|mut connection| while connection.more().is_some() {});
    let proxy = Proxy::http(origin.address);
    let fate = flood(proxy.address(), |stream| match stream {
        1 => frame(HEADERS, END_HEADERS, 1, &section(&request("POST", "/", &[]))),
        _ => frame(DATA, 0, 1, &[]),
    });
    assert_eq!(fate, Fate::GoAway(ENHANCE_YOUR_CALM));
}

#[test]
fn who_sends_frames_to_be_answered_and_reads_nothing_is_not_read_either() {
    let proxy = Proxy::http(Origin::hello().address);
    let before = resident(&proxy);
    for flooding in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])] {
        let raw = Raw::connect(proxy.address());
        let mut writer = raw.0.stream.try_clone().unwrap();
        writer.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let all = flooding.repeat(10_000);
        use std::io::Write as _;
        eventually("the socket takes no more", || {
            (0..100).any(|_| writer.write_all(&all).is_err()).then_some(())
        });
        assert!(resident(&proxy) < before + 8 * 1024, "{before} KiB became {} KiB", resident(&proxy));
        assert_eq!(proxy.connect().get("/").text(), "hello", "others are served meanwhile");
    }
}

#[test]
fn one_client_holds_only_so_much_of_a_body_in_memory() {
    // The origin takes nothing.
    let origin =
        Origin::start(|connection| drop(connection.stream.peek(&mut [0]).map(|_| std::thread::park())));
    let proxy = Proxy::http(origin.address);
    let before = resident(&proxy);
    let mut raw = Raw::connect(proxy.address());
    raw.next_of(WINDOW_UPDATE);
    for n in 0..100 {
        let stream = 1 + 2 * n;
        raw.send(frame(HEADERS, END_HEADERS, stream, &section(&request("POST", "/", &[]))));
        // As much as the window of the stream allows; the connection's is gone before the last.
        if n < 16 {
            raw.send(frame(DATA, 0, stream, &[0; 16_384]).repeat(3));
        }
    }
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 100.0);
    assert!(resident(&proxy) < before + 8 * 1024, "{before} KiB became {} KiB", resident(&proxy));
}
