//! The answers that the proxy gives itself: short, in JSON, and never with anything of the upstream's in them.

use super::refusal::Refusal;
use super::request::Request;
use crate::buffer::Buffer;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    /// To HEAD: the head alone.
    Head,
    /// To a gRPC call: a status of its own kind, in trailers alone, and always 200.
    Grpc,
}

impl Form {
    pub(super) fn for_request(request: &Request) -> Self {
        match request {
            Request { grpc: true, .. } => Self::Grpc,
            Request { is_head: true, .. } => Self::Head,
            _ => Self::Json,
        }
    }
}

/// What a client is told in place of an answer of the upstream's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) message: &'static str,
    /// After how many seconds a retry may succeed.
    pub(super) retry_after: Option<u64>,
}

impl Answer {
    pub(super) fn new(status: u16, message: &'static str) -> Self {
        Self { status, message, retry_after: None }
    }

    /// More is asked of us, or of the app, than can be served: the connection goes too, and its client may ask another
    /// replica.
    pub(super) fn is_overload(self) -> bool {
        self.status == 503
    }

    /// Appends the whole response.
    pub(super) fn write(self, close: bool, form: Form, out: &mut Buffer) {
        let Self { status, message, .. } = self;
        let retry = self.retry_after.map_or(String::new(), |wait| format!("Retry-After: {wait}\r\n"));
        let connection = if close { "Connection: close\r\n" } else { "" };
        if form == Form::Grpc {
            let code = grpc_status(status);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\
                 grpc-status: {code}\r\ngrpc-message: {message}\r\n{retry}{connection}\r\n",
            );
            return out.push(head.as_bytes());
        }
        let title = title(status);
        let body = format!("{{\"error\":\"{title}\",\"message\":\"{message}\"}}\n");
        let head = format!(
            "HTTP/1.1 {status} {title}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{retry}{connection}\r\n",
            body.len(),
        );
        out.push(head.as_bytes());
        if form != Form::Head {
            out.push(body.as_bytes());
        }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self { status: refusal.status(), message: refusal.message(), retry_after: refusal.retry_after() }
    }
}

/// As gRPC's "HTTP to gRPC Status Code Mapping" has it.
fn grpc_status(status: u16) -> u8 {
    match status {
        // INTERNAL, UNAVAILABLE, UNKNOWN.
        400 => 13,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        408 => "Request Timeout",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(status: u16, close: bool, form: Form) -> String {
        let mut out = Buffer::default();
        Answer::new(status, "why").write(close, form, &mut out);
        String::from_utf8(out.filled().to_vec()).unwrap()
    }

    #[test]
    fn an_answer_to_head_has_the_length_and_not_the_body() {
        let whole = written(502, true, Form::Json);
        let head = written(502, true, Form::Head);
        assert_eq!(whole, format!("{head}{{\"error\":\"Bad Gateway\",\"message\":\"why\"}}\n"));
        assert!(head.contains("Content-Length: 40\r\nConnection: close\r\n\r\n"), "{head}");
    }

    #[test]
    fn a_grpc_call_gets_a_status_of_its_own_kind() {
        for (status, code) in [(400, 13), (408, 2), (413, 2), (429, 14), (502, 14), (503, 14), (504, 14)] {
            let answer = written(status, false, Form::Grpc);
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n"), "{answer}");
            assert!(
                answer.ends_with(&format!("grpc-status: {code}\r\ngrpc-message: why\r\n\r\n")),
                "{answer}"
            );
        }
    }
}
