//! What the proxy is told with a lease: who holds it, and whose connections are no traffic.

use std::time::Duration;

use crate::support::{Answer, Neighbour, Proxy, Traffic, drain, lease_of, quick, ship};
use podkit_testkit::Signal;

/// The query's values of this name in a request's line.
fn values<'a>(line: &'a str, name: &str) -> Vec<&'a str> {
    let query = line.split_once('?').map_or("", |(_, query)| query);
    query.split('&').filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).collect()
}

/// The line of the first request for a lease, of a drain with these flags.
fn asked(args: &[&str], host_ip: &str) -> String {
    let (proxy, ship) = (Proxy::new(Traffic::default()), ship(200, ""));
    quick(args).args(["--proxy", &proxy.url(), "--ship", &ship.url()]).env("HOST_IP", host_ip).expect_exit(0);
    proxy.server.lines()[0].clone()
}

#[test]
fn the_node_and_loopback_are_told_as_probers() {
    let line = asked(&[], "192.0.2.7");
    assert_eq!(values(&line, "probe_peer"), ["192.0.2.7", "127.0.0.0/8", "::1"], "{line}");
    assert_eq!(values(&line, "ignore_peer"), [""; 0], "{line}");
    let line = asked(&[], "192.0.2.7,2001:db8::7");
    assert_eq!(values(&line, "probe_peer"), ["192.0.2.7", "2001:db8::7", "127.0.0.0/8", "::1"], "{line}");
    let line = asked(&["--count-loopback"], "");
    assert_eq!(values(&line, "probe_peer"), [""; 0], "{line}");
}

#[test]
fn peers_that_are_named_are_told_as_no_clients() {
    let args = ["--count-loopback", "--ignore-peer", "10.0.0.0/8", "--ignore-peer", "fd00::1"];
    let line = asked(&args, "192.0.2.7");
    assert_eq!(values(&line, "ignore_peer"), ["10.0.0.0/8", "fd00::1"], "{line}");
    assert_eq!(values(&line, "probe_peer"), ["192.0.2.7"], "the node's probes are none either: {line}");
}

#[test]
fn a_config_that_was_printed_tells_the_proxy_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("drain.yaml");
    let probers = ["192.0.2.7", "127.0.0.0/8", "::1"];
    for (args, ignored) in
        [(vec!["check"], vec![]), (vec!["check", "--ignore-peer", "::ffff:10.0.0.0/104"], vec!["10.0.0.0/8"])]
    {
        let shown = drain(&args).env("HOST_IP", "192.0.2.7").expect_exit(0).stdout;
        std::fs::write(&path, shown).unwrap();
        let line = asked(&["--config", path.to_str().unwrap()], "192.0.2.7");
        assert_eq!((values(&line, "ignore_peer"), values(&line, "probe_peer")), (ignored, probers.into()));
    }
}

#[test]
fn each_drain_holds_the_proxy_by_a_name_of_its_own() {
    let (proxy, ship) = (Proxy::new(Traffic { in_flight: 1, ..Traffic::default() }), ship(200, ""));
    let start = || quick(&["--reserve", "22s", "--proxy", &proxy.url(), "--ship", &ship.url()]).start();
    let (first, second) = (start(), start());
    proxy.server.wait_for("POST /drain?lease=", 4);
    first.signal(Signal::SIGINT);
    first.wait().expect_exit(1).expect_stderr("the lease was given back to");
    proxy.set(Traffic::default());
    second.wait().expect_exit(0);

    let lines = proxy.server.lines();
    let of = |start: &str| -> Vec<&str> {
        lines.iter().filter(|line| line.starts_with(start)).flat_map(|line| values(line, "holder")).collect()
    };
    let mut holders = of("POST");
    holders.sort_unstable();
    holders.dedup();
    assert_eq!(holders.len(), 2, "the same one for each renewal: {lines:?}");
    let gone = of("DELETE");
    assert!(gone.len() == 1 && holders.contains(&gone[0]), "it gives back only its own: {lines:?}");
}

/// What the proxies before this one did with a name that they did not know.
#[test]
fn an_older_proxy_that_knows_lengths_only_is_drained_all_the_same() {
    let mut looks = 0;
    let proxy = Neighbour::new(move |line| match line {
        line if lease_of(line).is_some() && line.contains('&') => {
            Answer::Reply(400, r#"{"error":"\"holder=x\" is not known here; write `lease=5s`"}"#.to_owned())
        }
        "GET /drain" => {
            looks += 1;
            let in_flight = u32::from(looks < 6);
            Answer::Reply(200, format!(r#"{{"in_flight":{in_flight},"ms_since_last_connection":null}}"#))
        }
        line if lease_of(line).is_some() || line == "DELETE /drain" => Answer::Reply(200, "{}".to_owned()),
        _ => Answer::Unknown,
    });
    let ship = ship(200, "");
    quick(&["--proxy", &proxy.url(), "--ship", &ship.url()])
        .expect_exit(0)
        .expect_stderr("takes only the length of a lease, so that probes are traffic to it: 400: ")
        .expect_stderr("holder=x")
        .expect_stderr("drains, for ");
    let lines = proxy.lines();
    assert!(lines[0].contains("&holder=") && !lines[1].contains('&') && lease_of(&lines[1]) > Some(20));
    assert_eq!(lines.iter().filter(|line| line.contains("holder")).count(), 1, "{lines:?}");
}

/// A head may be too long for who reads it, or a word be none for another reason.
#[test]
fn whatever_is_refused_of_a_lease_its_length_is_asked_for_alone() {
    for status in [404, 413, 431] {
        let proxy = Neighbour::new(move |line| match line {
            line if lease_of(line).is_some() && line.contains('&') => Answer::Reply(status, String::new()),
            "GET /drain" => {
                Answer::Reply(200, r#"{"in_flight":0,"ms_since_last_connection":null}"#.to_owned())
            }
            line if lease_of(line).is_some() => Answer::Reply(200, "{}".to_owned()),
            _ => Answer::Unknown,
        });
        let ship = ship(200, "");
        quick(&["--proxy", &proxy.url(), "--ship", &ship.url()])
            .expect_exit(0)
            .expect_stderr(&format!("so that probes are traffic to it: {status}\""))
            .expect_stderr("drains, for ");
    }
}

#[test]
fn a_refusal_names_what_was_asked_and_why_it_was_refused() {
    for (status, is_long) in [(503, true), (400, false)] {
        let body = r#"{"error":"too late"}"#;
        let proxy = Neighbour::new(move |line| match line {
            "GET /drain" => {
                Answer::Reply(200, r#"{"in_flight":0,"ms_since_last_connection":null}"#.to_owned())
            }
            line if lease_of(line).is_some() => Answer::Reply(status, body.to_owned()),
            _ => Answer::Unknown,
        });
        let ship = ship(200, "");
        let finished = quick(&["--proxy", &proxy.url(), "--ship", &ship.url()]).finish();
        let finished = finished.expect_stderr(&format!(" was answered with {status}: too late"));
        assert_eq!(finished.stderr.contains("&holder="), is_long, "{}", finished.stderr);
    }
}

#[test]
fn the_lease_is_given_back_to_an_older_proxy_too() {
    let proxy = Neighbour::new(|line| match line {
        line if line.contains('&') => Answer::Reply(400, String::new()),
        "GET /drain" => Answer::Reply(200, r#"{"in_flight":1,"ms_since_last_connection":null}"#.to_owned()),
        line if lease_of(line).is_some() || line == "DELETE /drain" => Answer::Reply(200, "{}".to_owned()),
        _ => Answer::Unknown,
    });
    let run = quick(&["--proxy", &proxy.url()]).start();
    proxy.wait_for("GET /drain", 1);
    run.signal(Signal::SIGINT);
    run.wait().expect_exit(1).expect_stderr("the lease was given back to");
    assert_eq!(proxy.count("DELETE /drain"), 1);
}

/// A proxy that took the lease and answered too late would stay unready for as long as the lease is.
#[test]
fn a_lease_that_may_have_been_taken_is_given_back() {
    let proxy = Neighbour::new(|line| match line {
        line if line.starts_with("DELETE /drain?holder=") => Answer::Reply(200, "{}".to_owned()),
        _ => Answer::Silence,
    });
    let run = quick(&["--proxy", &proxy.url()]).start();
    run.wait_for_stderr("got no answer in time");
    run.signal(Signal::SIGINT);
    run.wait().expect_exit(1).expect_stderr("the lease was given back to");
    assert_eq!(proxy.count("DELETE"), 1);
}

#[test]
fn a_lease_that_was_refused_or_never_asked_for_is_not_given_back() {
    let proxy = Neighbour::new(|line| match line {
        "GET /drain" => Answer::Reply(200, r#"{"in_flight":1,"ms_since_last_connection":null}"#.to_owned()),
        line if lease_of(line).is_some() => Answer::Reply(503, String::new()),
        _ => Answer::Unknown,
    });
    let gone = format!("http://127.0.0.1:{}", podkit_testkit::free_port());
    let run = quick(&["--proxy", &proxy.url(), "--proxy", &gone]).start();
    proxy.wait_for("GET /drain", 1);
    run.signal(Signal::SIGINT);
    run.wait().expect_exit(1).expect_stderr("no lease was held");
}

/// The giving back of another one takes long meanwhile.
#[test]
fn a_lease_that_is_given_back_is_not_asked_for_again() {
    let refusing = Neighbour::new(|line| match line {
        "GET /drain" => Answer::Reply(200, r#"{"in_flight":1,"ms_since_last_connection":null}"#.to_owned()),
        line if lease_of(line).is_some() => Answer::Reply(503, String::new()),
        _ => Answer::Unknown,
    });
    let silent = Neighbour::new(|_| Answer::Silence);
    let run = quick(&["--proxy", &refusing.url(), "--proxy", &silent.url()]).start();
    refusing.wait_for("GET /drain", 1);
    run.signal(Signal::SIGINT);
    silent.wait_for("DELETE /drain", 1);
    let cancelled = std::time::Instant::now();
    run.wait().expect_exit(1).expect_stderr("the lease could not be given back");
    // It is asked every 500 ms while it refuses, and the one that is silent has 2 s.
    let late = refusing.requests().into_iter().filter(|request| request.line.starts_with("POST"));
    let late: Vec<_> = late.filter(|request| request.at > cancelled + Duration::from_millis(500)).collect();
    assert!(late.is_empty(), "{late:?}");
}

/// Looks are frequent at first and where something changes, and rare where nothing does.
#[test]
fn looks_become_rarer_until_something_changes() {
    let proxy = Proxy::new(Traffic { in_flight: 1, open: 1, last: None });
    let ship = ship(200, "");
    let run = quick(&["--proxy", &proxy.url(), "--ship", &ship.url()]).start();
    proxy.server.wait_for("GET /drain", 14);
    let gaps = || -> Vec<Duration> {
        let looks: Vec<_> =
            proxy.server.requests().into_iter().filter(|request| request.line == "GET /drain").collect();
        looks.windows(2).map(|two| two[1].at - two[0].at).collect()
    };
    let calm = gaps();
    // A pause is never shorter than it should be; a busy machine makes some of them longer.
    let shortest = |gaps: &[Duration]| *gaps.iter().min().expect("there are looks");
    assert!(shortest(&calm[..3]) < Duration::from_millis(400), "{calm:?}");
    assert!(shortest(&calm[9..]) > Duration::from_millis(400), "{calm:?}");
    for open in 2..8 {
        let looks = proxy.server.count("GET /drain");
        proxy.set(Traffic { in_flight: 1, open, last: None });
        proxy.server.wait_for("GET /drain", looks + 1);
    }
    let changing = gaps();
    assert!(shortest(&changing[calm.len() + 1..]) < Duration::from_millis(400), "{changing:?}");
    proxy.set(Traffic::default());
    run.wait().expect_exit(0);
}
