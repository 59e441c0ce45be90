//! gRPC, from its clients to its servers: calls of all four kinds, their trailers, and what a client is told when the
//! proxy itself has to fail a call.

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request};
use podkit_testkit::free_port;
use tempfile::TempDir;

use crate::support::h2::{Answer, H2, answer, request, upload, wait};
use crate::support::h2_origin::{H2Origin, begin, map};
use crate::support::{Origin, Proxy};

/// The head of a call.
fn call(method: &str) -> Request<()> {
    let mut call = request("POST", &format!("/shop.Shop/{method}"));
    for (name, value) in
        [("content-type", "application/grpc+proto"), ("te", "trailers"), ("grpc-timeout", "5S")]
    {
        call.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    call
}

async fn message(stream: &mut RecvStream) -> Option<Bytes> {
    let message = stream.data().await?.expect("the stream is whole");
    stream.flow_control().release_capacity(message.len()).unwrap();
    Some(message)
}

fn send(stream: &mut SendStream<Bytes>, message: &Bytes) {
    stream.send_data(message.clone(), false).unwrap();
}

/// A server that answers each message as it comes, `None` without a message, and then with its status.
async fn serve(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let path = request.uri().path().to_owned();
    let mut incoming = request.into_body();
    let content = [("content-type", "application/grpc+proto")];
    if path.ends_with("/None") {
        let fields = [content[0], ("grpc-status", "5"), ("grpc-message", "no%20such%20thing")];
        begin(&mut respond, &fields, true);
        return;
    }
    let mut outgoing = begin(&mut respond, &content, false);
    while let Some(message) = message(&mut incoming).await {
        send(&mut outgoing, &message);
    }
    outgoing.send_trailers(map(&[("grpc-status", "0"), ("x-trailing", "1")])).unwrap();
}

fn grpc_status(fields: &HeaderMap) -> &str {
    fields.get("grpc-status").map_or("", |value| value.to_str().unwrap())
}

/// The status of HTTP, and those of gRPC in the head and in the trailers.
fn status(answer: &Answer) -> (u16, &str, &str) {
    (answer.status, grpc_status(&answer.fields), grpc_status(&answer.trailers))
}

#[test]
fn a_call_passes_with_its_deadline_and_its_status() {
    let origin = H2Origin::start(serve);
    let proxy = Proxy::http(origin.address);
    let got =
        wait(async { H2::connect(proxy.address()).await.ask(call("Buy"), b"\0\0\0\0\x02hi").await }).unwrap();
    assert_eq!((status(&got), got.text()), ((200, "", "0"), "\0\0\0\0\x02hi"));
    assert_eq!(got.trailers.get("x-trailing").unwrap(), "1");
    assert_eq!(got.field("content-type"), Some("application/grpc+proto"));
    let seen = origin.seen().remove(0);
    assert_eq!((seen.method.as_str(), seen.uri.path()), ("POST", "/shop.Shop/Buy"));
    for (name, value) in
        [("te", "trailers"), ("grpc-timeout", "5S"), ("content-type", "application/grpc+proto")]
    {
        assert_eq!(seen.headers.get(name).unwrap(), value);
    }
}

#[test]
fn an_answer_of_trailers_alone_stays_one() {
    let origin = H2Origin::start(serve);
    let proxy = Proxy::http(origin.address);
    let got = wait(async { H2::connect(proxy.address()).await.ask(call("None"), b"").await }).unwrap();
    assert_eq!(status(&got), (200, "5", ""));
    assert_eq!((got.field("grpc-message"), got.text()), (Some("no%20such%20thing"), ""));
}

#[test]
fn messages_pass_both_ways_as_they_come() {
    let origin = H2Origin::start(serve);
    let proxy = Proxy::http(origin.address);
    wait(async {
        let client = H2::connect(proxy.address()).await;
        let (response, mut outgoing) = client.begin(call("Chat"), false).await;
        let mut incoming = response.await.expect("the head comes before any message").into_body();
        for n in 0..20 {
            let sent = Bytes::from(format!("message {n}"));
            send(&mut outgoing, &sent);
            assert_eq!(
                message(&mut incoming).await.unwrap(),
                sent,
                "each is answered before the next one is sent"
            );
        }
        outgoing.send_data(Bytes::new(), true).unwrap();
        assert_eq!(message(&mut incoming).await, None);
        assert_eq!(incoming.trailers().await.unwrap().unwrap().get("grpc-status").unwrap(), "0");
    });
}

#[test]
fn a_stream_of_messages_passes_in_either_direction_alone() {
    let origin = H2Origin::start(|request, mut respond| async move {
        let path = request.uri().path().to_owned();
        let mut incoming = request.into_body();
        let mut count = 0;
        while message(&mut incoming).await.is_some() {
            count += 1;
        }
        let outgoing = begin(&mut respond, &[("content-type", "application/grpc")], false);
        let body = if path.ends_with("/Upload") { vec![count] } else { vec![7; 300_000] };
        upload(outgoing, &body, Some(map(&[("grpc-status", "0")]))).await;
    });
    let proxy = Proxy::http(origin.address);
    wait(async {
        let client = H2::connect(proxy.address()).await;
        let (response, mut outgoing) = client.begin(call("Upload"), false).await;
        for _ in 0..10 {
            outgoing.reserve_capacity(16_384);
            poll_fn(|cx| outgoing.poll_capacity(cx)).await.unwrap().unwrap();
            send(&mut outgoing, &Bytes::from_static(&[1; 1000]));
        }
        outgoing.send_data(Bytes::new(), true).unwrap();
        let got = answer(response).await.unwrap();
        assert_eq!((status(&got), got.body.len()), ((200, "", "0"), 1));
        let got = client.ask(call("Download"), b"\0\0\0\0\0").await.unwrap();
        assert_eq!((status(&got), got.body.len()), ((200, "", "0"), 300_000));
    });
}

#[test]
fn calls_go_by_http_2_and_all_else_by_http_1() {
    let (old, new) = (Origin::hello(), H2Origin::start(serve));
    let origin = crate::support::h2_origin::either(old.address, new.address);
    let proxy = Proxy::http(origin);
    wait(async {
        let client = H2::connect(proxy.address()).await;
        assert_eq!(client.get("/").await.unwrap().text(), "hello");
        assert_eq!(status(&client.ask(call("Buy"), b"x").await.unwrap()), (200, "", "0"));
    });
    assert_eq!((old.connections(), new.connections()), (1, 1));
}

#[test]
fn a_call_that_the_proxy_has_to_fail_gets_a_status_of_its_own_kind() {
    let dead = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let dir = TempDir::new().unwrap();
    let proxy = Proxy::yaml(dead, dir.path(), "", "connect_timeout: 50ms");
    wait(async {
        let client = H2::connect(proxy.address()).await;
        let got = client.ask(call("Buy"), b"").await.unwrap();
        assert_eq!(status(&got), (200, "14", ""), "UNAVAILABLE");
        assert_eq!(got.field("content-type"), Some("application/grpc"));
        assert_eq!(got.field("grpc-message"), Some("the upstream cannot be reached"));
        assert_eq!(got.text(), "");
        assert_eq!(client.get("/").await.unwrap().status, 502, "what is no call is answered as ever");
    });
    assert_eq!(
        proxy.metric("podkit_proxy_requests_total", "code=\"5xx\""),
        2.0,
        "it is counted as what it is"
    );
}

#[test]
fn a_call_whose_server_vanishes_is_reset() {
    let origin = H2Origin::start(|_, mut respond| async move {
        let mut outgoing = begin(&mut respond, &[("content-type", "application/grpc")], false);
        send(&mut outgoing, &Bytes::from_static(b"part"));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        outgoing.send_reset(h2::Reason::CANCEL);
    });
    let proxy = Proxy::http(origin.address);
    let error = wait(async { H2::connect(proxy.address()).await.ask(call("Buy"), b"x").await }).unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR), "{error}");
}
