//! What the answer to a bulk request says of each event (elastic.co/docs/api, "Bulk index or delete documents").
//!
//! Items come in the order of the request. An answer that does not fit the request tells nothing: the events are
//! sent again, which their ids make harmless.

use super::members::{each_element, each_member, string};
use super::{Answer, Fate, Verdict, Why, status};

/// What an answer says about the `count` events of a request.
pub(super) fn judge(answer: &Answer, count: usize) -> Verdict {
    if !(200..300).contains(&answer.status) {
        return status::judge(answer.status, &refusal(&answer.body));
    }
    if all_created(&answer.body, count) {
        return Verdict::Delivered;
    }
    let unexpected = |what: &str| {
        let said = status::excerpt(&answer.body);
        Verdict::Later(Why::new("unexpected", format!("the answer to a bulk request {what}: {said}")))
    };
    let Ok(body) = std::str::from_utf8(&answer.body) else { return unexpected("is not UTF-8") };
    let (mut errors, mut items) = (None, None);
    let whole = each_member(body, |name, value| match name {
        "errors" => errors = Some(value),
        "items" => items = Some(value),
        _ => {}
    });
    if whole.is_err() {
        return unexpected("is not one JSON object");
    }
    let Some(items) = items else {
        return if errors == Some("false") { Verdict::Delivered } else { unexpected("has no items") };
    };
    let (mut seen, mut fates) = (0, Vec::new());
    let list = each_element(items, |item| {
        if let Some(fate) = fate(item) {
            fates.push((seen, fate));
        }
        seen += 1;
    });
    if list.is_err() || seen != count {
        return unexpected(&format!("has {seen} items for {count} events"));
    }
    if fates.is_empty() { Verdict::Delivered } else { Verdict::Partly(fates) }
}

/// Whether the answer is, to the byte, what Elasticsearch and OpenSearch say when every document was created: no
/// need to read it then. False where it takes a closer look.
fn all_created(body: &[u8], count: usize) -> bool {
    const ITEM: &[u8] = b"{\"create\":{\"status\":201}}";
    let Some(rest) = body.trim_ascii().strip_prefix(b"{\"errors\":false") else { return false };
    if rest == b"}" {
        return true;
    }
    let items = rest.strip_prefix(b",\"items\":[").and_then(|rest| rest.strip_suffix(b"]}"));
    items.is_some_and(|items| {
        items.len() + 1 == count * (ITEM.len() + 1)
            && items
                .chunks(ITEM.len() + 1)
                .all(|item| item.strip_prefix(ITEM).is_some_and(|rest| matches!(rest, b"," | b"")))
    })
}

/// What becomes of an event whose document was not created; `{"create":{"status":429,"error":{…}}}`.
fn fate(item: &str) -> Option<Fate> {
    let (mut status, mut error) = (None, None);
    // The one member is the action; what cannot be read has no status.
    let _ = each_member(item, |_, action| {
        let _ = each_member(action, |name, value| match name {
            "status" => status = value.parse::<u16>().ok(),
            "error" => error = Some(value),
            _ => {}
        });
    });
    let error = error.map(Said::read).unwrap_or_default();
    match status {
        // 409: a document of this id is there. The id is ours, so the event has been delivered before.
        Some(200..=299 | 409) => None,
        Some(code @ (401 | 403 | 404 | 408 | 429 | 500..=599)) => {
            Some(Fate::Later(status::later(code, &error.text)))
        }
        Some(code @ 400..=499) if error.is_of_the_cluster() => {
            Some(Fate::Later(Why::new("unavailable", format!("status {code}: {}", error.text))))
        }
        Some(code @ 400..=499) => {
            Some(Fate::Refused(Why::new("refused", format!("status {code}: {}", error.text))))
        }
        _ => Some(Fate::Later(Why::new(
            "unexpected",
            format!("an item without a status: {}", status::clip(item)),
        ))),
    }
}

/// An error of Elasticsearch.
#[derive(Default)]
struct Said {
    kind: String,
    /// `type: reason`
    text: String,
}

impl Said {
    /// An object with `type` and `reason`, or a text.
    fn read(error: &str) -> Self {
        let mut cause = None;
        let Some((kind, mut text)) = kind_and_reason(error, |value| cause = Some(value)) else {
            let text = string(error).map_or_else(|| status::clip(error), |text| status::clip(&text));
            return Self { kind: String::new(), text };
        };
        if let Some((_, cause)) = cause.and_then(|cause| kind_and_reason(cause, |_| ())) {
            text = format!("{text} ({cause})");
        }
        Self { kind, text: status::clip(&text) }
    }

    /// Some errors of the index or the cluster come as 400, as if the document were to blame: the index is closed,
    /// or the cluster has as many shards as it may have. Operators mend both.
    fn is_of_the_cluster(&self) -> bool {
        matches!(self.kind.as_str(), "index_closed_exception" | "validation_exception")
    }
}

/// The `type` of an error, and it with its `reason`; `cause` gets the error that lies behind it.
fn kind_and_reason<'j>(error: &'j str, mut cause: impl FnMut(&'j str)) -> Option<(String, String)> {
    let (mut kind, mut reason) = (None, None);
    each_member(error, |name, value| match name {
        "type" => kind = string(value),
        "reason" => reason = string(value),
        "caused_by" => cause(value),
        _ => {}
    })
    .ok()?;
    let kind = kind?.into_owned();
    let text = format!("{kind}: {}", reason.unwrap_or_default());
    Some((kind, text))
}

/// What the body of an answer says that is an error as a whole: `{"error":{…},"status":400}`.
fn refusal(body: &[u8]) -> String {
    let mut said = None;
    if let Ok(body) = std::str::from_utf8(body) {
        let _ = each_member(body, |name, value| {
            if name == "error" {
                said = Some(Said::read(value).text);
            }
        });
    }
    said.unwrap_or_else(|| status::excerpt(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::format::sample::{answer, any_answer, check_verdict};
    use proptest::prelude::*;

    fn reason(verdict: &Verdict) -> &str {
        match verdict {
            Verdict::Later(why) => why.reason,
            Verdict::Delivered => "delivered",
            Verdict::Refused(_) => "REFUSED",
            Verdict::TooLarge(_) => "TOO LARGE",
            _ => "partly",
        }
    }

    #[test]
    fn an_answer_without_errors_is_delivered() {
        for body in [
            r#"{"errors":false}"#,
            r#"{"took":30,"errors":false,"items":[{"create":{"status":201}},{"create":{"status":200}}]}"#,
            r#" { "items" : [{"create":{"status":201}},{"create":{"status":409}}] , "errors" : false } "#,
            r#"{"errors":true,"items":[{"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"x"}}},{"create":{"status":201}}]}"#,
        ] {
            assert_eq!(judge(&answer(200, body), 2), Verdict::Delivered, "{body}");
        }
    }

    #[test]
    fn each_item_has_its_fate() {
        let body = r#"{"errors":true,"took":3,"items":[
            {"create":{"status":201}},
            {"create":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"queue full"}}},
            {"create":{"_index":"a","status":400,"error":{"type":"document_parsing_exception","reason":"failed to parse [x]",
              "caused_by":{"type":"number_format_exception","reason":"For \"abc\"","caused_by":{}}}}},
            {"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"[1]"}}},
            {"create":{"status":403,"error":{"type":"security_exception","reason":"no"}}},
            {"create":{"status":404,"error":"no such index"}},
            {"create":{"status":503}},
            {"create":{"status":400,"error":{"type":"index_closed_exception","reason":"closed"}}},
            {"create":{}}
        ]}"#;
        let Verdict::Partly(fates) = judge(&answer(200, body), 9) else { panic!() };
        let told: Vec<_> = fates
            .iter()
            .map(|(at, fate)| match fate {
                Fate::Later(why) => format!("{at} later {} {}", why.reason, why.message),
                Fate::Refused(why) => format!("{at} refused {} {}", why.reason, why.message),
            })
            .collect();
        assert_eq!(
            told,
            [
                "1 later throttled status 429: es_rejected_execution_exception: queue full",
                "2 refused refused status 400: document_parsing_exception: failed to parse [x] (number_format_exception: For \"abc\")",
                "4 later unauthorized status 403: security_exception: no; check the credentials of this destination and what they may do",
                "5 later unexpected status 404: no such index; check the URL of this destination",
                "6 later unavailable status 503",
                "7 later unavailable status 400: index_closed_exception: closed",
                "8 later unexpected an item without a status: {\"create\":{}}",
            ]
        );
    }

    #[test]
    fn an_answer_that_does_not_fit_tells_nothing() {
        for body in [
            "",
            "<html>",
            "{}",
            r#"{"errors":true}"#,
            r#"{"a":{"errors":false}}"#,
            r#"{"errors":false"#,
            r#"{"errors":false,"items":[{"create":{"status":201}}"#,
            r#"{"errors":false,"items":[{"create":{"status":201}}]}"#,
            r#"{"errors":false,"items":[]}"#,
            r#"{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":201}},]}"#,
            r#"{"errors":true,"items":[{"create":{"status":201}}]}"#,
            r#"{"errors":false}}"#,
            "\"errors\":false}",
        ] {
            assert_eq!(reason(&judge(&answer(200, body), 2)), "unexpected", "{body}");
        }
    }

    #[test]
    fn a_refusal_of_the_whole_request_says_why() {
        let body = r#"{"error":{"root_cause":[],"type":"security_exception","reason":"missing token"},"status":401}"#;
        let Verdict::Later(why) = judge(&answer(401, body), 2) else { panic!() };
        assert!(
            why.message.starts_with("status 401: security_exception: missing token; check"),
            "{}",
            why.message
        );
        for (status, want) in [
            (413, "TOO LARGE"),
            (429, "throttled"),
            (503, "unavailable"),
            (400, "REFUSED"),
            (302, "unexpected"),
        ] {
            assert_eq!(reason(&judge(&answer(status, "x"), 2)), want);
        }
    }

    #[test]
    fn a_deep_error_is_no_deep_stack() {
        let body = r#"{"error":"#.repeat(100_000);
        judge(&answer(500, &body), 1);
        let body = format!(
            r#"{{"errors":true,"items":[{{"create":{{"status":400,"error":{}1{}}}}}]}}"#,
            r#"{"caused_by":"#.repeat(100_000),
            "}".repeat(100_000)
        );
        assert_eq!(reason(&judge(&answer(200, &body), 1)), "partly");
    }

    proptest! {
        #[test]
        fn any_answer_has_a_verdict(status in prop_oneof![Just(200), any::<u16>()], body in any_answer(), count in 1..4_usize) {
            let verdict = judge(&answer(status, &body), count);
            check_verdict(&verdict, status, count);
            if verdict == Verdict::Delivered {
                let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
                prop_assert!(value["errors"] == false || value["items"].as_array().unwrap().len() == count);
            }
        }
    }
}
