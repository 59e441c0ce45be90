//! What a status says where the backend has no rules of its own (RFC 9110 section 15), and how refusals are told.
//!
//! Only what the request itself is to blame for is refused for good. What an operator can mend (credentials, a path,
//! an index that is not there) is tried again until it is mended: the file is the buffer.

use super::{Answer, Verdict, Why};

/// The longest text of a backend that is kept, in bytes: a request may have thousands of refusals.
const SAID_LIMIT: usize = 300;

impl Why {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// What a status says about a whole request; `said` is what the backend has said in the body.
pub(super) fn judge(status: u16, said: &str) -> Verdict {
    let why = |reason| Why::new(reason, told(status, said));
    match status {
        200..=299 => Verdict::Delivered,
        413 => Verdict::TooLarge(why("too_large")),
        400 | 422 => Verdict::Refused(why("refused")),
        _ => Verdict::Later(later(status, said)),
    }
}

/// Why something is to be sent again after this status.
pub(super) fn later(status: u16, said: &str) -> Why {
    let (reason, mend) = match status {
        429 => ("throttled", ""),
        408 | 500..=599 => ("unavailable", ""),
        401 | 403 => ("unauthorized", "; check the credentials of this destination and what they may do"),
        404 => ("unexpected", "; check the URL of this destination"),
        _ => ("unexpected", ""),
    };
    Why::new(reason, told(status, said) + mend)
}

fn told(status: u16, said: &str) -> String {
    if said.is_empty() { format!("status {status}") } else { format!("status {status}: {said}") }
}

/// The beginning of a body on one line, for people.
pub(super) fn excerpt(body: &[u8]) -> String {
    // Four times: a character of UTF-8 has at most four bytes, and what is not UTF-8 becomes longer.
    clip(&String::from_utf8_lossy(&body[..body.len().min(4 * SAID_LIMIT)]))
}

/// The beginning of a text on one line.
pub(super) fn clip(text: &str) -> String {
    let mut said = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !said.is_empty() {
            said.push(' ');
        }
        said.push_str(word);
        if said.len() > SAID_LIMIT {
            said.truncate((0..=SAID_LIMIT).rev().find(|at| said.is_char_boundary(*at)).unwrap_or(0));
            said.push('…');
            break;
        }
    }
    said
}

/// The verdict of a plain HTTP server.
pub(super) fn http(answer: &Answer) -> Verdict {
    judge(answer.status, &excerpt(&answer.body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason(verdict: Verdict) -> &'static str {
        match verdict {
            Verdict::Later(why) => why.reason,
            Verdict::Delivered => "delivered",
            Verdict::TooLarge(_) => "TOO LARGE",
            Verdict::Refused(_) => "REFUSED",
            Verdict::Partly(_) | Verdict::SomeRefused(_) => "other",
        }
    }

    #[test]
    fn each_status_has_its_verdict() {
        for (status, want) in [
            (200, "delivered"),
            (204, "delivered"),
            (301, "unexpected"),
            (400, "REFUSED"),
            (401, "unauthorized"),
            (403, "unauthorized"),
            (404, "unexpected"),
            (408, "unavailable"),
            (413, "TOO LARGE"),
            (418, "unexpected"),
            (422, "REFUSED"),
            (429, "throttled"),
            (500, "unavailable"),
            (503, "unavailable"),
            (599, "unavailable"),
            (100, "unexpected"),
            (700, "unexpected"),
        ] {
            assert_eq!(reason(judge(status, "")), want, "{status}");
        }
    }

    #[test]
    fn a_refusal_says_what_the_backend_said() {
        let answer = Answer { status: 503, body: b"<html>\n  busy\xff</html>".to_vec() };
        let Verdict::Later(why) = http(&answer) else { panic!() };
        assert_eq!(why.message, "status 503: <html> busy\u{fffd}</html>");
        assert_eq!(later(500, "").message, "status 500");
        assert_eq!(clip(&"é".repeat(1000)), "é".repeat(150) + "…");
    }

    proptest! {
        #[test]
        fn only_2xx_is_delivered(status: u16, body: Vec<u8>) {
            let delivered = http(&Answer { status, body }) == Verdict::Delivered;
            prop_assert_eq!(delivered, (200..300).contains(&status));
        }
    }
}
