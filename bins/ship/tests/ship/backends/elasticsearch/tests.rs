use serde_json::{Value, json};

use super::{Backend as _, Cluster, ItemFate, filter_path};
use crate::backends::{Request, Response};

fn request(target: &str, body: &str) -> Request {
    Request {
        method: "POST".to_owned(),
        target: target.to_owned(),
        headers: vec![("Content-Type".to_owned(), "application/x-ndjson".to_owned())],
        body: body.as_bytes().to_vec(),
        encoding: "identity".to_owned(),
    }
}

fn parsed(response: Response) -> (u16, Value) {
    (response.status, serde_json::from_slice(&response.body).unwrap())
}

/// Creates documents, each with its id, and returns the items.
fn create(cluster: &mut Cluster, index: &str, documents: &[(&str, Value)]) -> Vec<Value> {
    let body: String = documents
        .iter()
        .map(|(id, source)| format!("{}\n{source}\n", json!({"create": {"_index": index, "_id": id}})))
        .collect();
    let (status, answer) = parsed(cluster.take(&request("/_bulk", &body)));
    assert_eq!(status, 200, "{answer}");
    answer["items"].as_array().unwrap().iter().map(|item| item["create"].clone()).collect()
}

#[test]
fn an_id_is_created_once() {
    let mut cluster = Cluster::default();
    let items = create(&mut cluster, "logs", &[("a", json!({"m": "1"})), ("a", json!({"m": "1"}))]);
    assert_eq!((&items[0]["status"], &items[0]["result"]), (&json!(201), &json!("created")));
    assert_eq!(items[1]["status"], 409);
    assert_eq!(items[1]["error"]["type"], "version_conflict_engine_exception");
    assert_eq!((cluster.len(), cluster.conflicts(), cluster.clashes().len()), (1, 1, 0));
    create(&mut cluster, "logs", &[("a", json!({"m": "2"}))]);
    assert_eq!(cluster.clashes(), ["logs/a"]);
}

#[test]
fn a_request_that_is_not_in_order_is_refused_whole() {
    let mut cluster = Cluster::default();
    let long = format!("{}\n{{}}\n", json!({"create": {"_index": "a", "_id": "x".repeat(513)}}));
    for (target, body, status, kind) in [
        ("/_bulk", "{\"create\":{\"_index\":\"a\"}}\n{}", 400, "illegal_argument_exception"),
        ("/_bulk", "", 400, "parse_exception"),
        ("/_bulk?op_type=create", "{\"create\":{\"_index\":\"a\"}}\n{}\n", 400, "illegal_argument_exception"),
        (
            "/_bulk",
            "{\"create\":{\"_index\":\"a\",\"_type\":\"b\"}}\n{}\n",
            400,
            "illegal_argument_exception",
        ),
        ("/_bulk", "{\"m\":1}\n{}\n", 400, "illegal_argument_exception"),
        ("/_bulk", "{\"create\":{}}\n{}\n", 400, "action_request_validation_exception"),
        ("/_bulk", long.as_str(), 400, "action_request_validation_exception"),
    ] {
        let (got, answer) = parsed(cluster.take(&request(target, body)));
        assert_eq!((got, &answer["error"]["type"]), (status, &json!(kind)), "{target} {body}: {answer}");
    }
    assert_eq!(cluster.take(&request("/", "")).status, 400);
    let mut text = request("/_bulk", "{\"create\":{\"_index\":\"a\"}}\n{}\n");
    text.headers[0].1 = "text/plain".to_owned();
    assert_eq!(cluster.take(&text).status, 406);
    assert_eq!(cluster.len(), 0);
}

#[test]
fn items_are_refused_alone() {
    let mut cluster = Cluster::default();
    let good = json!({"m": "x"});
    let items = create(&mut cluster, "Logs", &[("a", good.clone())]);
    assert_eq!(items[0]["error"]["type"], "invalid_index_name_exception");
    let items = create(&mut cluster, "logs", &[("a", json!([1])), ("b", good.clone()), ("", good.clone())]);
    assert_eq!(
        items.iter().map(|item| item["status"].as_u64().unwrap()).collect::<Vec<_>>(),
        [400, 201, 400]
    );
    cluster.items([ItemFate::Throttle, ItemFate::Take, ItemFate::Unavailable, ItemFate::Refuse]);
    let items = create(
        &mut cluster,
        "logs",
        &[("c", good.clone()), ("d", good.clone()), ("e", good.clone()), ("f", good)],
    );
    assert_eq!(
        items.iter().map(|item| item["status"].as_u64().unwrap()).collect::<Vec<_>>(),
        [429, 201, 503, 400]
    );
    assert_eq!((cluster.items_left(), cluster.refused_items().len()), (0, 4));
}

#[test]
fn a_data_stream_takes_what_has_a_time_and_is_created() {
    let mut cluster = Cluster::default();
    cluster.data_stream("logs-app-default");
    let time = "2026-11-22T05:00:00.123Z";
    let documents = [
        ("a", json!({"@timestamp": time})),
        ("b", json!({"timestamp": time})),
        ("c", json!({"@timestamp": "today"})),
        ("d", json!({"@timestamp": 1_763_000_000_000_u64})),
    ];
    let items = create(&mut cluster, "logs-app-default", &documents);
    assert_eq!(
        items.iter().map(|item| item["status"].as_u64().unwrap()).collect::<Vec<_>>(),
        [201, 400, 400, 201]
    );
    let body =
        format!("{}\n{}\n", json!({"index": {"_index": "logs-app-default"}}), json!({"@timestamp": time}));
    let (_, answer) = parsed(cluster.take(&request("/_bulk", &body)));
    assert_eq!(answer["items"][0]["index"]["status"], 400);
}

#[test]
fn a_field_keeps_the_type_of_its_first_value() {
    for (first, second, status) in [
        (json!({"a": 1}), json!({"a": "2"}), 201),
        (json!({"a": 1}), json!({"a": "x"}), 400),
        (json!({"a": 1}), json!({"a": true}), 400),
        (json!({"a": "x"}), json!({"a": 1}), 201),
        (json!({"a": "x"}), json!({"a": {"b": 1}}), 400),
        (json!({"a": {"b": 1}}), json!({"a": "x"}), 400),
        (json!({"a": {"b": 1}}), json!({"a.b": 2}), 201),
        (json!({"a": "x"}), json!({"a.b": 2}), 400),
        (json!({"a": true}), json!({"a": "false"}), 201),
        (json!({"a": true}), json!({"a": 0}), 400),
        (json!({"a": "2026-11-22"}), json!({"a": "soon"}), 400),
        (json!({"a": null}), json!({"a": "x"}), 201),
        (json!({"a": [1, 2]}), json!({"a": ["x"]}), 400),
        (json!({"a": 1}), json!({"": 1}), 400),
    ] {
        let mut cluster = Cluster::default();
        let items = create(&mut cluster, "logs", &[("1", first.clone()), ("2", second.clone())]);
        assert_eq!(
            (&items[0]["status"], &items[1]["status"]),
            (&json!(201), &json!(status)),
            "{first} {second}"
        );
    }
}

#[test]
fn filter_path_keeps_what_it_names() {
    let answer = json!({"took": 1, "errors": true, "items": [
        {"create": {"_id": "a", "status": 201}},
        {"create": {"_id": "b", "status": 429, "error": {"type": "t", "reason": "r"}}},
    ]});
    for (paths, want) in [
        ("", answer.clone()),
        ("errors", json!({"errors": true})),
        (
            "errors,items.*.status",
            json!({"errors": true, "items": [{"create": {"status": 201}}, {"create": {"status": 429}}]}),
        ),
        ("items.*.error", json!({"items": [{"create": {"error": {"type": "t", "reason": "r"}}}]})),
        ("**.type", json!({"items": [{"create": {"error": {"type": "t"}}}]})),
        ("nothing", json!({})),
        ("-items,-took", json!({"errors": true})),
    ] {
        assert_eq!(filter_path::filter(answer.clone(), paths), want, "{paths}");
    }
}
