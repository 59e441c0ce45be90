//! What the upstream reads of a client, and what a client can make it read.

use super::super::request::{Request, Rules, read};
use super::*;
use crate::config::Limits;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

const CLIENT: Client<'static> =
    Client { ip: Some("10.1.2.3"), is_secure: false, certificate: None, is_trusted: true };

const BOTH: Forwarded = Forwarded { x_forwarded: true, rfc7239: true };

/// The head that the upstream gets for a GET of `shop` with further fields.
fn head(fields: &str, client: Client<'_>, forwarded: Option<Forwarded>) -> String {
    let raw = format!("GET / HTTP/1.1\r\nHost: shop\r\n{fields}\r\n");
    let limits = Limits::default();
    let rules = Rules { limits: &limits, client, forwarded, start_trace: true, default_host: "app" };
    let mut out = Buffer::default();
    let _: Request = read(raw.as_bytes(), &rules, &mut out, None).unwrap();
    String::from_utf8(out.filled().to_vec()).unwrap()
}

/// The values of a field in a head.
fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

#[track_caller]
fn assert_values(head: &str, want: &[(&str, &[&str])]) {
    for (name, want) in want {
        assert_eq!(values(head, name), *want, "{name} in {head}");
    }
}

#[test]
fn where_a_request_came_from_is_started() {
    let told = head("", CLIENT, Some(BOTH));
    assert_values(
        &told,
        &[
            ("x-forwarded-for", &["10.1.2.3"]),
            ("x-forwarded-proto", &["http"]),
            ("x-forwarded-host", &["shop"]),
            ("forwarded", &["for=10.1.2.3;host=shop;proto=http"]),
            ("x-forwarded-client-cert", &[]),
            ("tracestate", &[]),
        ],
    );
    assert_eq!((values(&told, "x-request-id")[0].len(), values(&told, "traceparent")[0].len()), (36, 55));
}

#[test]
fn where_a_request_came_from_is_passed_on_and_added_to() {
    let fields = format!(
        "X-Forwarded-For: 1.1.1.1\r\nX-Request-Id: mine\r\nForwarded: for=1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: www\r\nForwarded: for=\"[::2]\";proto=https\r\nX-Real-IP: 1.1.1.1\r\n\
         traceparent: {TRACE}\r\ntracestate: a=1\r\ntracestate: b=2\r\nX-Forwarded-For:\r\n"
    );
    assert_values(
        &head(&fields, CLIENT, Some(BOTH)),
        &[
            ("x-forwarded-for", &["1.1.1.1, 2.2.2.2, 10.1.2.3"]),
            ("x-forwarded-proto", &["https"]),
            ("x-forwarded-host", &["www"]),
            ("forwarded", &["for=1.1.1.1, for=\"[::2]\";proto=https, for=10.1.2.3;host=shop;proto=http"]),
            ("x-real-ip", &["1.1.1.1"]),
            ("x-request-id", &["mine"]),
            ("traceparent", &[TRACE]),
            ("tracestate", &["a=1", "b=2"]),
        ],
    );
}

#[test]
fn a_client_that_is_not_trusted_says_nothing_about_where_a_request_came_from() {
    let stranger = Client { is_trusted: false, is_secure: true, ..CLIENT };
    let fields = format!(
        "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: www\r\nX-Forwarded-Port: 1\r\n\
         X-Forwarded-Prefix: /x\r\nX-Real-IP: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Request-ID: mine\r\n\
         traceparent: {TRACE}\r\ntracestate: a=1\r\nX-Kept: 1\r\n"
    );
    let told = head(&fields, stranger, Some(BOTH));
    assert_values(
        &told,
        &[
            ("x-forwarded-for", &["10.1.2.3"]),
            ("x-forwarded-proto", &["https"]),
            ("x-forwarded-host", &["shop"]),
            ("x-forwarded-port", &[]),
            ("x-forwarded-prefix", &[]),
            ("x-real-ip", &[]),
            ("forwarded", &["for=10.1.2.3;host=shop;proto=https"]),
            ("tracestate", &[]),
            ("x-kept", &["1"]),
        ],
    );
    assert!(values(&told, "x-request-id") != ["mine"] && values(&told, "traceparent") != [TRACE], "{told}");
    let off = Forwarded { x_forwarded: false, rfc7239: false };
    assert_values(&head(&fields, stranger, Some(off)), &[("x-forwarded-for", &[]), ("forwarded", &[])]);
}

#[test]
fn which_fields_tell_of_the_client_is_the_listeners_choice() {
    for (by, x_forwarded, forwarded) in [
        (Forwarded { x_forwarded: false, rfc7239: false }, "1.1.1.1", "for=1.1.1.1"),
        (Forwarded { x_forwarded: true, rfc7239: false }, "1.1.1.1, 10.1.2.3", "for=1.1.1.1"),
        (
            Forwarded { x_forwarded: false, rfc7239: true },
            "1.1.1.1",
            "for=1.1.1.1, for=10.1.2.3;host=shop;proto=http",
        ),
    ] {
        let told = head("X-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\n", CLIENT, Some(by));
        assert_values(&told, &[("x-forwarded-for", &[x_forwarded]), ("forwarded", &[forwarded])]);
    }
}

#[test]
fn a_forwarded_element_is_quoted_where_it_must_be() {
    let ipv6 = Client { ip: Some("2001:db8::1"), ..CLIENT };
    let told = |client: Client<'_>, host: &[u8]| {
        let mut out = Buffer::default();
        client.push_element(Some(host), b"http", &mut out);
        String::from_utf8(out.filled().to_vec()).unwrap()
    };
    assert_eq!(told(ipv6, b"shop:8080"), "for=\"[2001:db8::1]\";host=\"shop:8080\";proto=http");
    assert_eq!(told(Client { ip: None, ..CLIENT }, b""), "for=unknown;proto=http");
    let swallowing = head("Forwarded: for=\"1.1.1.1\r\n", CLIENT, Some(BOTH));
    assert_values(&swallowing, &[("forwarded", &["for=10.1.2.3;host=shop;proto=http"])]);
}

#[test]
fn a_client_on_a_unix_socket_has_no_address() {
    let local = Client { ip: None, ..CLIENT };
    let told = head("X-Forwarded-For: 1.1.1.1\r\n", local, Some(BOTH));
    assert_values(
        &told,
        &[("x-forwarded-for", &["1.1.1.1"]), ("forwarded", &["for=unknown;host=shop;proto=http"])],
    );
}

#[test]
fn a_certificates_word_is_only_ever_ours() {
    let forged =
        "X-Forwarded-Client-Cert: Subject=\"CN=admin\"\r\nx_forwarded_client_cert: Subject=\"CN=admin\"\r\n";
    assert!(
        !head(forged, CLIENT, Some(BOTH)).contains("admin"),
        "trusted with the rest, but never with this"
    );
    assert!(!head(forged, CLIENT, None).contains("admin"));
    let certified = Client { certificate: Some("Subject=\"CN=shop\""), ..CLIENT };
    let told = head(forged, certified, Some(BOTH));
    assert_values(&told, &[("x-forwarded-client-cert", &["Subject=\"CN=shop\""])]);
    assert!(!told.contains("admin"), "{told}");
}

#[test]
fn a_name_with_underscores_does_not_pass_for_one_of_ours() {
    let told =
        head("X_Forwarded_For: 1.1.1.1\r\nX-Forwarded_Proto: https\r\nX_Other: 1\r\n", CLIENT, Some(BOTH));
    assert!(
        !told.contains("1.1.1.1") && !told.contains("https") && told.contains("X_Other: 1\r\n"),
        "{told}"
    );
}

#[test]
fn a_client_cannot_strip_our_word_by_naming_it_in_connection() {
    let fields = format!(
        "X-Forwarded-For: 1.1.1.1\r\nX-Request-ID: mine\r\ntraceparent: {TRACE}\r\n\
         Connection: X-Forwarded-For, x-request-id, traceparent, forwarded, x-forwarded-client-cert\r\n"
    );
    let certified = Client { certificate: Some("Subject=\"CN=shop\""), ..CLIENT };
    let told = head(&fields, certified, Some(BOTH));
    assert_values(
        &told,
        &[
            ("x-forwarded-for", &["10.1.2.3"]),
            ("forwarded", &["for=10.1.2.3;host=shop;proto=http"]),
            ("x-forwarded-client-cert", &["Subject=\"CN=shop\""]),
        ],
    );
    assert!(values(&told, "x-request-id") != ["mine"] && values(&told, "traceparent") != [TRACE], "{told}");
}

#[test]
fn outbound_requests_do_not_tell_of_the_app() {
    let told = head("X-Forwarded-For: 1.1.1.1\r\n", CLIENT, None);
    assert_values(
        &told,
        &[("x-forwarded-for", &["1.1.1.1"]), ("x-forwarded-proto", &[]), ("forwarded", &[])],
    );
}

#[test]
fn unsound_names_of_a_request_are_replaced() {
    let long = "x".repeat(129);
    for id in ["", "a b", long.as_str(), "a\r\nX-Request-ID: b"] {
        let told = head(&format!("X-Request-ID: {id}\r\n"), CLIENT, None);
        let ids = values(&told, "x-request-id");
        assert!(ids.len() == 1 && ids[0].len() == 36, "{id:?} became {ids:?}");
    }
    let two = format!("{TRACE}\r\ntraceparent: {TRACE}");
    for trace in ["", "00-1-2-01", two.as_str()] {
        let told = head(&format!("traceparent: {trace}\r\ntracestate: a=1\r\n"), CLIENT, None);
        let traces = values(&told, "traceparent");
        assert!(
            traces.len() == 1 && traces[0].len() == 55 && traces[0] != TRACE,
            "{trace:?} became {traces:?}"
        );
        assert_values(&told, &[("tracestate", &[])]);
    }
}

#[test]
fn a_trace_is_not_started_where_it_should_not_be() {
    let limits = Limits::default();
    let rules =
        Rules { limits: &limits, client: CLIENT, forwarded: None, start_trace: false, default_host: "app" };
    for (fields, want) in [("", None), ("traceparent: x\r\ntracestate: a=1\r\n", None), (TRACE, Some(TRACE))]
    {
        let field = if want.is_some() { format!("traceparent: {fields}\r\n") } else { fields.to_owned() };
        let raw = format!("GET / HTTP/1.1\r\nHost: shop\r\n{field}\r\n");
        let mut out = Buffer::default();
        read(raw.as_bytes(), &rules, &mut out, None).unwrap();
        let told = std::str::from_utf8(out.filled()).unwrap();
        assert_eq!((values(told, "traceparent"), values(told, "tracestate")), (Vec::from_iter(want), vec![]));
    }
}

#[test]
fn only_a_list_with_closed_quotes_may_come_before_ours() {
    for good in ["", "for=1.1.1.1", "for=\"[::1]\"", "for=\"a\\\"b\"", "for=a\\"] {
        assert!(closes_its_quotes(good.as_bytes()), "{good:?}");
    }
    for bad in ["for=\"1.1.1.1", "\"", "for=\"a\\\"", "for=a\", for=b\"c\""] {
        assert!(!closes_its_quotes(bad.as_bytes()), "{bad:?}");
    }
}
