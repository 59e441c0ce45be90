//! `http`: whether a request is answered with the wanted status and body. Redirects are not followed.
//!
//! Each try has a connection of its own, and reads its certificates and secrets anew: what an earlier one was told
//! may come from a server that is gone.

use std::error::Error as _;
use std::io;

use podkit_cli::chain;
use podkit_cli::units::show_duration;
use podkit_dns::Failure;
use podkit_https::{Client, Timeouts};
use podkit_lifecycle::Deadline;
use reqwest::{Response, StatusCode};

use super::{Seen, dns, tcp};
use crate::config::{HttpCheck, StatusSet, Until, Wait};
use crate::net::{self, USER_AGENT};

/// Of a body, as far as it is matched: a health check says a few words.
const MAX_BODY: usize = 1 << 20;

pub(super) fn look(check: &HttpCheck, wait: &Wait, by: Deadline) -> Seen {
    if wait.until == Until::Gone
        // A name server that hangs is not to be taken for a server that does.
        && let Err(seen) = dns::addresses(check.url.host_str().unwrap_or_default(), by)
    {
        return seen;
    }
    // Not on the shared runtime: a file that hangs would hold up all others there.
    let timeouts = Timeouts { connect: by.remaining(), request: None };
    let client = match Client::open(check.access.clone(), USER_AGENT, timeouts) {
        Ok(client) => client,
        Err(error) => return Seen::Unclear(chain(&error)),
    };
    match net::run_until(by, ask(check, &client)) {
        Ok(seen) => seen,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            Seen::gone(format!("no answer within {}", show_duration(wait.timeout)))
        }
        Err(error) => Seen::Unclear(chain(&error)),
    }
}

async fn ask(check: &HttpCheck, client: &Client) -> Seen {
    let request = client.request(check.method.clone(), check.url.clone()).headers(check.headers.clone());
    match request.send().await {
        Ok(response) => compare(check, response).await,
        Err(error) => failed(error),
    }
}

async fn compare(check: &HttpCheck, response: Response) -> Seen {
    let status = response.status();
    if !check.status.iter().any(|wanted| wanted.has(status.as_u16())) {
        return Seen::Gone(unwanted(status, &check.status));
    }
    let Some(pattern) = &check.body else {
        return Seen::there(format!("answers with status {}", status.as_u16()));
    };
    match body(response).await {
        Ok(body) if pattern.is_match(&body) => {
            Seen::there(format!("answers with status {} and this body", status.as_u16()))
        }
        // What it holds is not told: it may be anything.
        Ok(_) => Seen::gone(format!("status {}, and the body does not match", status.as_u16())),
        Err(error) => failed(error),
    }
}

fn unwanted(status: StatusCode, wanted: &[StatusSet]) -> String {
    let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    let redirect = if status.is_redirection() { ": a redirect, which is not followed" } else { "" };
    format!("status {} and not {}{redirect}", status.as_u16(), wanted.join(" or "))
}

/// The body, or the beginning of a long one.
async fn body(mut response: Response) -> Result<String, reqwest::Error> {
    let mut body = Vec::new();
    while body.len() < MAX_BODY
        && let Some(chunk) = response.chunk().await?
    {
        let room = MAX_BODY - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// What an error shows. Its own text has the URL, with whatever is in it.
fn failed(error: reqwest::Error) -> Seen {
    let error = error.without_url();
    if error.is_timeout() {
        return Seen::gone("connection timed out");
    }
    let is_connect = error.is_connect();
    let mut cause = error.source();
    let mut last = None;
    while let Some(error) = cause {
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return dns::failed(failure);
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return tcp::failed(error);
        }
        last = Some(error);
        cause = error.source();
    }
    let why = last.map_or_else(|| chain(&error), chain);
    // It could not be asked, or it did not answer as wanted.
    if is_connect { Seen::Unclear(why) } else { Seen::Gone(why) }
}
