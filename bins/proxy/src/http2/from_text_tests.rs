use http::uri::Scheme;
use proptest::prelude::*;

use super::*;

fn fields(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn a_request_has_its_pseudo_fields_and_loses_those_of_the_connection() {
    let text = "GET /a?b HTTP/1.1\r\nHost: shop:80\r\nConnection: upgrade\r\nUpgrade: x\r\nTE: gzip\r\nX-A: 1\r\n\r\nrest";
    let read = request(text.as_bytes(), &Scheme::HTTPS).unwrap();
    assert_eq!((read.length, read.body), (text.len() - 4, Body::Empty));
    assert_eq!(read.message.uri().to_string(), "https://shop:80/a?b");
    assert_eq!(fields(read.message.headers()), [pair("x-a", "1")]);
}

#[test]
fn a_grpc_request_takes_trailers() {
    let text = "POST /s/m HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n";
    let read = request(text.as_bytes(), &Scheme::HTTP).unwrap();
    assert!(matches!(read.body, Body::Chunked(_)));
    assert_eq!(
        fields(read.message.headers()),
        [pair("content-type", "application/grpc"), pair("te", "trailers")]
    );
}

#[test]
fn a_host_that_is_no_authority_stays_a_field() {
    let read = request(b"GET / HTTP/1.1\r\nHost: a:b:c\r\n\r\n", &Scheme::HTTP).unwrap();
    assert_eq!(
        (read.message.uri().authority(), fields(read.message.headers())),
        (None, vec![pair("host", "a:b:c")])
    );
}

#[test]
fn a_path_that_is_no_uri_is_encoded() {
    for (path, sent) in
        [("/a<b>`{}|?q=<\"", "/a%3Cb%3E%60%7B%7D%7C?q=%3C%22"), ("/{}|", "/{}|"), ("/\u{e9}", "/\u{e9}")]
    {
        let read =
            request(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), &Scheme::HTTP).unwrap();
        assert_eq!(read.message.uri().path_and_query().unwrap().as_str(), sent);
    }
}

#[test]
fn a_response_is_delimited_as_http_1_has_it() {
    for (text, to_head, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, Body::Length(5)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, Body::Empty),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, Body::Empty),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, Body::Chunked(Chunks::new(None))),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", false, Body::UntilClose),
        ("HTTP/1.1 204 No\r\n\r\n", false, Body::Empty),
        ("HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", false, Body::Empty),
        ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", false, Body::Empty),
    ] {
        let read = response(text.as_bytes(), to_head).unwrap();
        assert_eq!((read.length, read.body), (text.len(), body), "{text:?}");
        assert!(!read.message.headers().contains_key("connection"));
    }
}

#[test]
fn secrets_are_kept_out_of_the_compression_table() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nCookie: short\r\nX: 1\r\n\r\n";
    let read = request(text.as_bytes(), &Scheme::HTTP).unwrap();
    let sensitive: Vec<_> = read
        .message
        .headers()
        .iter()
        .filter(|(_, value)| value.is_sensitive())
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(sensitive, ["authorization", "cookie"]);
}

#[test]
fn what_is_no_message_is_an_error() {
    for text in ["", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a", "HTTP/1.1 200 OK\r\n\r\n"] {
        assert!(request(text.as_bytes(), &Scheme::HTTP).is_err(), "{text:?}");
    }
    assert!(response(b"HTTP/1.1 200", false).is_err());
    assert!(trailers(b"a: b\r\n").is_err());
}

#[test]
fn trailers_are_read() {
    let read = trailers(b"Grpc-Status: 0\r\nConnection: close\r\nX: y\r\n\r\n").unwrap();
    assert_eq!(fields(&read), [pair("grpc-status", "0"), pair("x", "y")]);
}

proptest! {
    #[test]
    fn any_path_and_host_that_the_rules_take_can_be_sent(path in "/[!-~]{0,20}", host in "[a-z0-9._~%!$&'()*+;=:\\[\\]-]{1,12}") {
        let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        prop_assume!(!path.contains('#'));
        let read = request(text.as_bytes(), &Scheme::HTTP);
        prop_assert!(read.is_ok());
    }

    #[test]
    fn no_text_panics(text in ".{0,64}") {
        let _ = request(text.as_bytes(), &Scheme::HTTP);
        let _ = response(text.as_bytes(), false);
        let _ = trailers(text.as_bytes());
    }
}
