use http::{HeaderMap, HeaderValue, Request, Response};
use proptest::prelude::*;

use super::*;
use crate::buffer::Buffer;
use crate::config::Limits;
use crate::http::request::{Rules, read};

fn request(method: &str, uri: &str, fields: &[(&str, &str)]) -> request::Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn said(parts: &request::Parts, ends: bool) -> Result<(Framing, String), Malformed> {
    let mut out = Vec::new();
    let framing = request_head(parts, ends, &mut out)?;
    Ok((framing, String::from_utf8(out).unwrap()))
}

fn response(status: u16, fields: &[(&str, &str)], ends: bool, to_head: bool) -> (Framing, String) {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    let mut out = Vec::new();
    let framing = response_head(&response.body(()).unwrap().into_parts().0, ends, to_head, &mut out).unwrap();
    (framing, String::from_utf8(out).unwrap())
}

/// What the rules for all requests say of a text.
fn judged(text: &str) -> Result<String, &'static str> {
    let limits = Limits::default();
    let rules = Rules::plain(&limits);
    let mut out = Buffer::default();
    read(text.as_bytes(), &rules, &mut out, None).map_err(|refusal| refusal.reason())?;
    Ok(String::from_utf8(out.filled().to_vec()).unwrap())
}

#[test]
fn the_authority_becomes_the_host() {
    let (framing, text) = said(&request("GET", "http://shop:8080/a?b=c", &[("x-a", "1")]), true).unwrap();
    assert_eq!(
        (framing, &*text),
        (Framing::None, "GET /a?b=c HTTP/1.1\r\nhost: shop:8080\r\nx-a: 1\r\n\r\n")
    );
    let (_, text) = said(&request("GET", "/", &[("host", "shop")]), true).unwrap();
    assert_eq!(text, "GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    let (_, text) = said(&request("OPTIONS", "*", &[("host", "shop")]), true).unwrap();
    assert_eq!(text, "OPTIONS * HTTP/1.1\r\nhost: shop\r\n\r\n");
}

#[test]
fn an_authority_and_a_host_must_agree() {
    let parts = request("GET", "http://shop/a", &[("host", "SHOP")]);
    assert_eq!(said(&parts, true).unwrap().1, "GET /a HTTP/1.1\r\nhost: SHOP\r\n\r\n");
    for (uri, hosts, reason) in [
        ("http://shop/", &[("host", "evil")][..], "host_mismatch"),
        ("http://shop/", &[("host", "shop"), ("host", "evil")], "host_duplicate"),
        ("http://shop/", &[("host", "shop"), ("host", "shop")], "host_duplicate"),
        ("http://user@shop/", &[], "host_invalid"),
        ("/", &[], "host_missing"),
    ] {
        let (_, text) = said(&request("GET", uri, hosts), true).unwrap();
        assert_eq!(judged(&text), Err(reason), "{text:?}");
    }
}

#[test]
fn connect_is_said_and_refused_by_the_rules_for_all() {
    let (_, text) = said(&request("CONNECT", "shop:443", &[]), true).unwrap();
    assert_eq!(text, "CONNECT shop:443 HTTP/1.1\r\nhost: shop:443\r\n\r\n");
    assert_eq!(judged(&text), Err("connect_method"));
}

#[test]
fn crumbs_of_cookies_become_one_field() {
    let parts =
        request("GET", "http://a/", &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]);
    let (_, text) = said(&parts, true).unwrap();
    assert_eq!(text, "GET / HTTP/1.1\r\nhost: a\r\ncookie: a=1; b=2; c=3\r\nx: y\r\n\r\n");
}

#[test]
fn fields_of_a_connection_do_not_pass() {
    let fields = [
        ("connection", "x-a"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "gzip"),
        ("upgrade", "h2c"),
    ];
    let (_, text) = said(&request("GET", "http://a/", &fields), true).unwrap();
    assert_eq!(text, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(response(200, &fields, true, false).1, "HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n");
}

#[test]
fn a_body_has_its_length_or_comes_in_chunks() {
    let of = |method: &str, fields: &[(&str, &str)], ends: bool| {
        said(&request(method, "http://a/", fields), ends).unwrap()
    };
    let length = ("content-length", "5");
    assert_eq!(of("POST", &[length], false).0, Framing::Plain(5));
    let (framing, text) = of("POST", &[], false);
    assert!(framing == Framing::Chunked && text.ends_with("transfer-encoding: chunked\r\n\r\n"), "{text:?}");
    for trailing in [("trailer", "x-sum"), ("content-type", "application/grpc+proto")] {
        let (framing, text) = of("POST", &[length, trailing], false);
        assert!(framing == Framing::Chunked && !text.contains("content-length"), "{text:?}");
    }
    for (method, length) in
        [("POST", true), ("PUT", true), ("PATCH", true), ("GET", false), ("DELETE", false)]
    {
        let (framing, text) = of(method, &[], true);
        assert_eq!((framing, text.contains("content-length: 0")), (Framing::None, length), "{text:?}");
    }
}

#[test]
fn a_response_is_framed_as_its_request_and_status_say() {
    let length = &[("content-length", "5")][..];
    assert_eq!(response(200, length, false, false).0, Framing::Plain(5));
    assert_eq!(response(200, &[], false, false).0, Framing::Chunked);
    for (status, fields, ends, to_head) in [
        (200, length, true, true),
        (204, &[], true, false),
        (304, length, true, false),
        (103, &[], false, false),
    ] {
        let (framing, text) = response(status, fields, ends, to_head);
        assert_eq!(framing, Framing::None);
        assert!(!text.contains("content-length: 0") && !text.contains("transfer-encoding"), "{text:?}");
    }
    let (framing, text) = response(200, &[("grpc-status", "5")], true, false);
    assert_eq!(
        (framing, &*text),
        (Framing::None, "HTTP/1.1 200 \r\ngrpc-status: 5\r\ncontent-length: 0\r\n\r\n")
    );
}

#[test]
fn trailers_stand_behind_the_last_chunk() {
    let mut out = Vec::new();
    let mut trailers = HeaderMap::new();
    last_chunk(&trailers, &mut out).unwrap();
    assert_eq!(out, b"0\r\n\r\n");
    trailers.append("grpc-status", HeaderValue::from_static("0"));
    trailers.append("connection", HeaderValue::from_static("close"));
    out.clear();
    last_chunk(&trailers, &mut out).unwrap();
    assert_eq!(out, b"0\r\ngrpc-status: 0\r\n\r\n");
}

#[test]
fn a_value_in_white_space_is_malformed() {
    for value in [" a", "a ", "\ta", "a\t"] {
        assert_eq!(said(&request("GET", "http://a/", &[("x", value)]), true), Err(Malformed("field")));
    }
    assert!(said(&request("GET", "http://a/", &[("x", ""), ("y", "a b\tc")]), true).is_ok());
}

fn a_field() -> impl Strategy<Value = (String, Vec<u8>)> {
    let name = prop_oneof![
        "[a-z0-9!#$%&'*+.^_`|~-]{1,12}",
        Just("cookie".to_owned()),
        Just("host".to_owned()),
        Just("content-length".to_owned()),
        Just("transfer-encoding".to_owned()),
        Just("connection".to_owned()),
        Just("expect".to_owned()),
    ];
    let value = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..24),
        "[ -~\t]{0,24}".prop_map(String::into_bytes),
        "(GET / HTTP/1.1)?\r?\n?[a-z]{0,4}: ?x\r\n\r\n".prop_map(String::into_bytes),
        Just(b"chunked".to_vec()),
        Just(b"4".to_vec()),
    ];
    (name, value)
}

proptest! {
    /// Whatever a client sends that `http` takes for a message: one head comes of it, with no field that was not sent,
    /// and nothing behind its blank line.
    #[test]
    fn no_field_becomes_two_and_no_head_becomes_another(
        path in "(/|\\*|x|http://evil/)[ -~]{0,16}",
        authority in proptest::option::of("[a-z@:%\\[\\].]{1,8}"),
        fields in proptest::collection::vec(a_field(), 0..8),
        ends in any::<bool>(),
    ) {
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = path.parse().ok();
        uri.authority = authority.and_then(|authority| authority.parse().ok());
        uri.scheme = uri.authority.is_some().then_some(http::uri::Scheme::HTTPS);
        let Ok(uri) = http::Uri::from_parts(uri) else { return Ok(()) };
        let mut request = Request::new(());
        *request.uri_mut() = uri;
        for (name, value) in &fields {
            let (name, value) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value));
            if let (Ok(name), Ok(value)) = (name, value) {
                request.headers_mut().append(name, value);
            }
        }
        let parts = request.into_parts().0;
        let mut text = Vec::new();
        let Ok(framing) = request_head(&parts, ends, &mut text) else { return Ok(()) };

        let mut parsed = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Request::new(&mut parsed);
        let Ok(httparse::Status::Complete(length)) = head.parse(&text) else {
            prop_assert!(judged(&String::from_utf8_lossy(&text)).is_err());
            return Ok(());
        };
        prop_assert_eq!(length, text.len(), "all of the text is one head");
        for field in head.headers.iter() {
            let sent = parts.headers.get_all(field.name).iter().any(|value| value.as_bytes() == field.value);
            let ours = matches!(field.name, "host" | "transfer-encoding" | "cookie" | "content-length");
            prop_assert!(sent || ours, "{:?} was not sent", field);
        }
        let chunked = head.headers.iter().filter(|field| field.name == "transfer-encoding").count();
        prop_assert_eq!(chunked, usize::from(framing == Framing::Chunked));
    }
}
