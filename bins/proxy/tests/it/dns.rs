//! Upstreams by name: what the proxy makes of what the DNS says, and of its silence.

use std::net::SocketAddr;

use podkit_testkit::{eventually, free_port};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Dns, Mood, Origin, Proxy, ok};

/// The last part of an origin's loopback address, which is also what it answers.
type Number = u8;

/// Origins at one port of several loopback addresses, each of which answers its number.
fn origins(numbers: &[Number]) -> (u16, Vec<Origin>) {
    let port = free_port();
    let start = |number: &Number| {
        let body = number.to_string();
        Origin::http_on(SocketAddr::from(([127, 0, 0, *number], port)), move |_, _| ok(&body))
    };
    (port, numbers.iter().map(start).collect())
}

/// A proxy before a name, which it balances in turn.
fn proxy(dns: &Dns, address: &str, more: &str) -> (Proxy, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let upstream = format!("balance: round-robin, {}, {more}", dns.yaml(1));
    (Proxy::yaml(address, dir.path(), "", &upstream), dir)
}

/// The answers to so many requests, in order of size.
fn answers(proxy: &Proxy, count: usize) -> Vec<String> {
    let mut client = proxy.connect();
    let mut answers: Vec<String> = (0..count).map(|_| client.get("/").text().to_owned()).collect();
    answers.sort();
    answers
}

fn addresses(proxy: &Proxy) -> Vec<String> {
    let status = proxy.ask("GET", "/status").json();
    let endpoints = status["upstreams"][0]["endpoints"].as_array().unwrap();
    endpoints.iter().map(|one| one["address"].as_str().unwrap().to_owned()).collect()
}

fn dns_error(proxy: &Proxy) -> Value {
    proxy.ask("GET", "/status").json()["upstreams"][0]["dns_error"].clone()
}

#[test]
fn all_addresses_of_a_name_are_used_in_turn() {
    let (port, _origins) = origins(&[2, 3, 4]);
    let dns = Dns::start();
    dns.set("shop.test.", 60, &["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    let (proxy, _dir) = proxy(&dns, &format!("shop.test:{port}"), "");
    assert_eq!(answers(&proxy, 9), ["2", "2", "2", "3", "3", "3", "4", "4", "4"]);
    assert!(proxy.metric("podkit_proxy_dns_resolutions_total", "result=\"ok\"") >= 1.0);
    assert_eq!(proxy.metric("podkit_proxy_upstream_endpoints", "state=\"healthy\""), 3.0);
}

#[test]
fn both_address_families_and_aliases_are_used() {
    let (port, _origins) = origins(&[2]);
    let Ok(address) = format!("[::1]:{port}").parse::<SocketAddr>() else { unreachable!() };
    if std::net::TcpListener::bind(address).is_err() {
        eprintln!("there is no IPv6 here");
        return;
    }
    let _v6 = Origin::http_on(address, |_, _| ok("v6"));
    let dns = Dns::start();
    dns.set_alias("shop.test.", 60, "web.test.");
    dns.set("web.test.", 60, &["127.0.0.2", "::1"]);
    let (proxy, _dir) = proxy(&dns, &format!("shop.test:{port}"), "");
    assert_eq!(answers(&proxy, 4), ["2", "2", "v6", "v6"]);
}

#[test]
fn a_change_is_followed_and_connections_to_what_is_gone_are_left() {
    let (port, origins) = origins(&[2, 3]);
    let dns = Dns::start();
    dns.set("shop.test.", 0, &["127.0.0.2"]);
    let (proxy, _dir) = proxy(&dns, &format!("shop.test:{port}"), "");
    assert_eq!(answers(&proxy, 3), ["2", "2", "2"]);
    dns.set("shop.test.", 0, &["127.0.0.3"]);
    let mut client = proxy.connect();
    eventually("the change is followed", || (client.get("/").text() == "3").then_some(()));
    assert_eq!(answers(&proxy, 3), ["3", "3", "3"]);
    assert_eq!(addresses(&proxy), [format!("127.0.0.3:{port}")]);
    origins[0].kill();
    assert_eq!(answers(&proxy, 3), ["3", "3", "3"]);
    proxy.wait_for_metric("podkit_proxy_upstream_open_connections", "", 1.0);
}

#[test]
fn without_dns_the_last_answer_serves_and_it_is_logged_once() {
    let (port, _origins) = origins(&[2, 3]);
    let dns = Dns::start();
    dns.set("shop.test.", 0, &["127.0.0.2", "127.0.0.3"]);
    let (proxy, _dir) = proxy(&dns, &format!("shop.test:{port}"), "");
    assert_eq!(answers(&proxy, 2), ["2", "3"]);
    dns.set_mood(Mood::Broken);
    let failed = "result=\"failed\"";
    eventually("it has failed often", || {
        (proxy.metric("podkit_proxy_dns_resolutions_total", failed) >= 3.0).then_some(())
    });
    assert_eq!(answers(&proxy, 2), ["2", "3"]);
    assert!(!dns_error(&proxy).is_null());
    dns.set_mood(Mood::Well);
    proxy.process.wait_for_stderr("is resolved again");
    assert!(dns_error(&proxy).is_null());
    let log = proxy.process.stderr();
    assert_eq!(log.matches("cannot resolve").count(), 1, "{log}");
    assert!(log.contains("the last answer is kept"), "{log}");
}

#[test]
fn a_name_that_is_gone_is_believed_gone_after_the_longest_ttl() {
    let (port, _origins) = origins(&[2]);
    let dns = Dns::start();
    dns.set("shop.test.", 0, &["127.0.0.2"]);
    let (proxy, _dir) = proxy(&dns, &format!("shop.test:{port}"), "connect_timeout: 100ms");
    assert_eq!(answers(&proxy, 1), ["2"]);
    dns.forget("shop.test.");
    proxy.process.wait_for_stderr("the last answer is kept");
    assert_eq!(answers(&proxy, 1), ["2"]);
    proxy.process.wait_for_stderr("no address is left");
    assert_eq!(proxy.connect().get("/").status, 502);
    assert_eq!(proxy.metric("podkit_proxy_upstream_errors_total", "reason=\"resolve\""), 1.0);
    dns.set("shop.test.", 0, &["127.0.0.2"]);
    eventually("it is back", || (proxy.connect().get("/").status == 200).then_some(()));
}

#[test]
fn a_request_waits_for_the_first_answer_and_the_start_does_not() {
    let (port, _origins) = origins(&[2]);
    let dns = Dns::start();
    dns.set_mood(Mood::Broken);
    dns.set("shop.test.", 60, &["127.0.0.2"]);
    let (proxy, _dir) = proxy(&dns, &format!("shop.test:{port}"), "connect_timeout: 20s");
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok");
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 1.0);
    dns.set_mood(Mood::Well);
    assert_eq!(client.response().text(), "2");
}

#[test]
fn a_name_server_that_says_nothing_is_asked_again() {
    let (port, _origins) = origins(&[2]);
    let dns = Dns::start();
    dns.set_mood(Mood::Silent);
    dns.set("shop.test.", 60, &["127.0.0.2"]);
    let (proxy, _dir) = proxy(&dns, &format!("shop.test:{port}"), "connect_timeout: 20s");
    eventually("it was asked", || (!dns.asked().is_empty()).then_some(()));
    dns.set_mood(Mood::Well);
    assert_eq!(answers(&proxy, 1), ["2"]);
    assert!(dns.asked().iter().all(|asked| asked.starts_with("shop.test. ")), "{:?}", dns.asked());
}

#[test]
fn an_answer_too_large_for_udp_is_had_over_tcp() {
    let dns = Dns::start();
    let many: Vec<String> = (1..=200).map(|number| format!("127.0.1.{number}")).collect();
    dns.set("shop.test.", 60, &many.iter().map(String::as_str).collect::<Vec<_>>());
    dns.set_mood(Mood::Terse);
    let (proxy, _dir) = proxy(&dns, "shop.test:80", "");
    eventually("all addresses are known", || (addresses(&proxy).len() == 200).then_some(()));
}

#[test]
fn a_service_has_its_ports_its_weights_and_its_priorities() {
    let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
    let start = |(index, port): (usize, &u16)| {
        let body = index.to_string();
        Origin::http_on(SocketAddr::from(([127, 0, 0, 2], *port)), move |_, _| ok(&body))
    };
    let origins: Vec<Origin> = ports.iter().enumerate().map(start).collect();
    let dns = Dns::start();
    dns.set("a.test.", 60, &["127.0.0.2"]);
    let name = "_http._tcp.shop.test.";
    let instances = [(5, 30, ports[0], "a.test."), (5, 10, ports[1], "a.test."), (9, 1, ports[2], "a.test.")];
    dns.set_services(name, 60, &instances);
    let eject = "eject: {failures: 1, for: 60s}, health: {interval: 100ms}";
    let (proxy, _dir) = proxy(&dns, &format!("srv:{name}"), eject);
    assert_eq!(answers(&proxy, 8), ["0", "0", "0", "0", "0", "0", "1", "1"]);
    origins[0].kill();
    origins[1].kill();
    proxy.wait_for_metric("podkit_proxy_upstream_endpoints", "state=\"unhealthy\"", 2.0);
    assert_eq!(answers(&proxy, 3), ["2", "2", "2"]);
}
