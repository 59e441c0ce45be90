//! The table of contract 2: from a request to an answer. Knows nothing of sockets.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, ORIGIN};
use hyper::{Method, Request, Response, StatusCode};
use podkit_cli::units;
use serde_json::{Value, json};

use crate::query;
use crate::{Flushed, Instance, Lease, Reasons, lease};

/// The wait of a `POST /flush` that names none: fits the kubelet's default grace period of 30 s.
const DEFAULT_WAIT: Duration = Duration::from_secs(25);

type Reply = Response<Full<Bytes>>;

/// Answers one request.
pub(crate) async fn answer(instance: &dyn Instance, peer: SocketAddr, request: &Request<Incoming>) -> Reply {
    let path = request.uri().path();
    let allowed: &[Method] = match path {
        "/livez" | "/readyz" | "/startupz" | "/metrics" | "/status" => &[Method::GET, Method::HEAD],
        "/drain" if instance.drain().is_some() => &[Method::GET, Method::HEAD, Method::POST, Method::DELETE],
        "/flush" | "/quit" => &[Method::POST],
        _ => return fault(StatusCode::NOT_FOUND, format!("there is no {path} here")),
    };
    let method = request.method();
    if !allowed.contains(method) {
        let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        let mut reply = fault(StatusCode::METHOD_NOT_ALLOWED, format!("{path} takes {}", names.join(", ")));
        if let Ok(value) = HeaderValue::from_str(&names.join(", ")) {
            reply.headers_mut().insert(ALLOW, value);
        }
        return reply;
    }
    if *method == Method::POST || *method == Method::DELETE {
        if let Some(why) = refusal(peer.ip(), request.headers().contains_key(ORIGIN)) {
            return fault(StatusCode::FORBIDDEN, format!("{method} {path} {why}"));
        }
        return change(instance, method, path, request.uri().query()).await;
    }
    match path {
        "/livez" => probe(instance.live()),
        "/readyz" => probe(instance.ready()),
        "/startupz" => probe(instance.startup()),
        "/metrics" => reply(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", instance.metrics()),
        "/status" => json_reply(StatusCode::OK, &instance.status()),
        _ => drain_state(instance),
    }
}

/// Why a change is not taken from there, if it is not. A browser in the pod's network sends the page's origin.
fn refusal(peer: IpAddr, has_origin: bool) -> Option<&'static str> {
    if !peer.to_canonical().is_loopback() {
        Some("is taken from inside the pod only")
    } else if has_origin {
        Some("is not taken from a web page")
    } else {
        None
    }
}

async fn change(instance: &dyn Instance, method: &Method, path: &str, query: Option<&str>) -> Reply {
    match path {
        "/drain" => {
            let Some(drain) = instance.drain() else {
                return fault(StatusCode::NOT_FOUND, "there is no drain here");
            };
            let taken = if *method == Method::DELETE {
                lease::giver(query).map(|holder| drain.undo(holder.as_deref()))
            } else {
                Lease::read(query).map(|lease| drain.start(lease))
            };
            if let Err(why) = taken {
                return fault(StatusCode::BAD_REQUEST, why);
            }
            drain_state(instance)
        }
        "/flush" => match wait_in(query) {
            Err(why) => fault(StatusCode::BAD_REQUEST, why),
            Ok(wait) => match instance.flush(wait) {
                None => fault(StatusCode::NOT_FOUND, "there is nothing to flush here"),
                Some(flushed) => match flushed.await {
                    Flushed::Done(value) => json_reply(StatusCode::OK, &value),
                    Flushed::Pending(value) => json_reply(StatusCode::GATEWAY_TIMEOUT, &value),
                },
            },
        },
        _ => {
            instance.quit();
            json_reply(StatusCode::OK, &json!({"phase": "stopping"}))
        }
    }
}

fn drain_state(instance: &dyn Instance) -> Reply {
    match instance.drain() {
        Some(drain) => json_reply(StatusCode::OK, &drain.state()),
        None => fault(StatusCode::NOT_FOUND, "there is no drain here"),
    }
}

/// How long a flush is waited for.
fn wait_in(query: Option<&str>) -> Result<Duration, String> {
    let mut wait = DEFAULT_WAIT;
    for (name, text) in query::pairs(query, &["wait"], "wait=5s")? {
        wait = units::duration(&text).map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(wait)
}

fn probe(reasons: Reasons) -> Reply {
    if reasons.is_empty() {
        json_reply(StatusCode::OK, &json!({"status": "ok"}))
    } else {
        json_reply(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "unavailable", "reasons": reasons}))
    }
}

fn fault(status: StatusCode, why: impl Into<String>) -> Reply {
    json_reply(status, &json!({"error": why.into()}))
}

fn json_reply(status: StatusCode, value: &Value) -> Reply {
    reply(status, "application/json", format!("{value}\n"))
}

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_taken_from_loopback_only() {
        let refused = |peer: &str| refusal(peer.parse().unwrap(), false).is_some();
        for peer in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            assert!(!refused(peer), "{peer}");
            assert!(refusal(peer.parse().unwrap(), true).is_some(), "{peer}");
        }
        for peer in ["10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "0.0.0.0", "::"] {
            assert!(refused(peer), "{peer}");
        }
    }
}
