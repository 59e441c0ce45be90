//! Elasticsearch's `_bulk`, as version 8 takes and answers it (docs: "Bulk API", "Data streams", "Dynamic mapping").
//! Stores documents by index and id, remembers what each field is, and refuses what the real one refuses.

use std::collections::{HashMap, VecDeque};

use serde_json::{Map, Value, json};

use crate::backends::{Backend, Request, Response, Server};

mod filter_path;
mod mapping;

use mapping::Mapping;

/// A running Elasticsearch.
pub(crate) type Elasticsearch = Server<Cluster>;

/// What the next item meets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ItemFate {
    /// It is taken, if it is in order.
    Take,
    /// 429 `es_rejected_execution_exception`.
    Throttle,
    /// 503 `unavailable_shards_exception`.
    Unavailable,
    /// 400 `document_parsing_exception`.
    Refuse,
}

/// Indexes and what is in them.
#[derive(Default)]
pub(crate) struct Cluster {
    indexes: HashMap<String, Index>,
    /// Names of data streams; anything else is an index.
    data_streams: Vec<String>,
    items: VecDeque<ItemFate>,
    /// Each document in the order it came: index, id, source.
    documents: Vec<(String, String, Value)>,
    refused_items: Vec<String>,
    conflicts: usize,
    clashes: Vec<String>,
}

#[derive(Default)]
struct Index {
    /// Positions in `documents`, by id.
    ids: HashMap<String, usize>,
    mapping: Mapping,
}

/// Whether two documents are one event: a line that tells no time has that of its reading, which may be another.
fn is_same_event(one: &Value, other: &Value) -> bool {
    let without_time = |document: &Value| {
        let mut document = document.clone();
        document.as_object_mut().map(|members| members.shift_remove("@timestamp"));
        document
    };
    without_time(one) == without_time(other)
}

impl Cluster {
    /// Makes a data stream.
    pub(crate) fn data_stream(&mut self, name: &str) {
        self.data_streams.push(name.to_owned());
    }

    /// Queues what the next items meet, each one item.
    pub(crate) fn items(&mut self, fates: impl IntoIterator<Item = ItemFate>) {
        self.items.extend(fates);
    }

    /// How many of the queued fates have not met an item yet.
    pub(crate) fn items_left(&self) -> usize {
        self.items.len()
    }

    /// Each document: index, id, source.
    pub(crate) fn documents(&self) -> &[(String, String, Value)] {
        &self.documents
    }

    /// How often an id came again.
    pub(crate) fn conflicts(&self) -> usize {
        self.conflicts
    }

    /// Ids that came again with another content: two events were given one name.
    pub(crate) fn clashes(&self) -> &[String] {
        &self.clashes
    }

    /// Items that were refused with 400, of our own accord or because we were told to.
    pub(crate) fn refused_items(&self) -> &[String] {
        &self.refused_items
    }

    fn bulk(&mut self, request: &Request) -> Result<Value, Response> {
        let mut default_index = None;
        match request.path().trim_matches('/').split('/').collect::<Vec<_>>().as_slice() {
            ["_bulk"] => {}
            [index, "_bulk"] => default_index = Some((*index).to_owned()),
            _ => {
                let what =
                    format!("no handler found for uri [{}] and method [{}]", request.target, request.method);
                return Err(Response::json(400, json!({"error": what})));
            }
        }
        if !matches!(request.method.as_str(), "POST" | "PUT") {
            let what =
                format!("Incorrect HTTP method for uri [{}] and method [{}]", request.target, request.method);
            return Err(Response::json(405, json!({"error": what, "status": 405})));
        }
        let query = request.query();
        if let Some((name, _)) = query.iter().find(|(name, _)| !PARAMETERS.contains(&name.as_str())) {
            let what = format!("request [{}] contains unrecognized parameter: [{name}]", request.path());
            return Err(failure(400, "illegal_argument_exception", &what));
        }
        if !matches!(request.media_type().as_str(), "application/json" | "application/x-ndjson") {
            let given = request.header("content-type").unwrap_or_default();
            let what =
                json!({"error": format!("Content-Type header [{given}] is not supported"), "status": 406});
            return Err(Response::json(406, what));
        }
        if request.body.is_empty() {
            return Err(failure(400, "parse_exception", "request body is required"));
        }
        if request.body.last() != Some(&b'\n') {
            let what = "The bulk request must be terminated by a newline [\\n]";
            return Err(failure(400, "illegal_argument_exception", what));
        }
        let actions = actions(&request.body, default_index.as_deref())?;
        let mut items = Vec::new();
        for action in actions {
            items.push(self.item(action));
        }
        let errors =
            items.iter().any(|item| item["create"].get("error").or(item["index"].get("error")).is_some());
        let answer = json!({"errors": errors, "took": 3, "items": items});
        let filters = query.iter().find(|(name, _)| name == "filter_path").map(|(_, paths)| paths.as_str());
        Ok(filter_path::filter(answer, filters.unwrap_or_default()))
    }

    fn item(&mut self, action: Action<'_>) -> Value {
        let Action { op, index, id, source } = action;
        let id = id.unwrap_or_else(|| format!("auto-{}", self.documents.len()));
        let (status, outcome) = match self.store(op, &index, &id, source) {
            Ok(created) => {
                let result = if created { (201, "created") } else { (200, "updated") };
                let shards = json!({"total": 2, "successful": 1, "failed": 0});
                let outcome = json!({"_version": 1, "result": result.1, "_shards": shards,
                    "_seq_no": self.documents.len() - 1, "_primary_term": 1});
                (result.0, outcome)
            }
            Err((status, kind, reason)) => {
                if status == 400 {
                    self.refused_items.push(format!("{index}/{id}: {kind}: {reason}"));
                }
                (status, json!({"error": {"type": kind, "reason": reason}}))
            }
        };
        let mut item = Map::new();
        item.insert("_index".into(), index.into());
        item.insert("_id".into(), id.into());
        if let Value::Object(outcome) = outcome {
            // The status comes after the result and before the error.
            let (error, rest): (Vec<_>, Vec<_>) = outcome.into_iter().partition(|(name, _)| name == "error");
            item.extend(rest);
            item.insert("status".into(), status.into());
            item.extend(error);
        }
        json!({op: item})
    }

    /// Whether the document is new, or the status, type and reason of a refusal.
    fn store(
        &mut self,
        op: &str,
        index: &str,
        id: &str,
        source: &[u8],
    ) -> Result<bool, (u16, &'static str, String)> {
        match self.items.pop_front().unwrap_or(ItemFate::Take) {
            ItemFate::Take => {}
            ItemFate::Throttle => {
                let why = "rejected execution of coordinating operation [coordinating_and_primary_bytes=1]";
                return Err((429, "es_rejected_execution_exception", why.to_owned()));
            }
            ItemFate::Unavailable => {
                let why = format!("[{index}][0] primary shard is not active Timeout: [1m]");
                return Err((503, "unavailable_shards_exception", why));
            }
            ItemFate::Refuse => return Err((400, "document_parsing_exception", "[1:1] told to".to_owned())),
        }
        if let Some(why) = bad_index_name(index) {
            return Err((
                400,
                "invalid_index_name_exception",
                format!("Invalid index name [{index}], {why}"),
            ));
        }
        if id.is_empty() {
            let why = "if _id is specified it must not be empty";
            return Err((400, "illegal_argument_exception", why.to_owned()));
        }
        let is_stream = self.data_streams.iter().any(|stream| stream == index);
        if is_stream && op != "create" {
            let why = "only write ops with an op_type of create are allowed in data streams";
            return Err((400, "illegal_argument_exception", why.to_owned()));
        }
        let unreadable = |why: String| (400, "document_parsing_exception", why);
        let document: Value = serde_json::from_slice(source)
            .map_err(|error| unreadable(format!("[1:1] failed to parse: {error}")))?;
        let Value::Object(members) = &document else {
            return Err(unreadable("[1:1] failed to parse: not_x_content_exception".to_owned()));
        };
        if is_stream && !members.contains_key("@timestamp") {
            return Err(unreadable("[1:1] data stream timestamp field [@timestamp] is missing".to_owned()));
        }
        let known = self.indexes.entry(index.to_owned()).or_default();
        if let Some(position) = known.ids.get(id) {
            if op == "create" {
                self.conflicts += 1;
                if !is_same_event(&self.documents[*position].2, &document) {
                    self.clashes.push(format!("{index}/{id}"));
                }
                let why = format!("[{id}]: version conflict, document already exists (current version [1])");
                return Err((409, "version_conflict_engine_exception", why));
            }
            known.mapping.admit(members, id, is_stream).map_err(unreadable)?;
            self.documents[*position].2 = document;
            return Ok(false);
        }
        known.mapping.admit(members, id, is_stream).map_err(unreadable)?;
        known.ids.insert(id.to_owned(), self.documents.len());
        self.documents.push((index.to_owned(), id.to_owned(), document));
        Ok(true)
    }
}

/// What `_bulk` may be asked besides.
const PARAMETERS: &[&str] = &[
    "filter_path",
    "pipeline",
    "pretty",
    "refresh",
    "require_alias",
    "require_data_stream",
    "routing",
    "timeout",
    "wait_for_active_shards",
];

/// What an action line may say of its document.
const METADATA: &[&str] =
    &["_index", "_id", "routing", "pipeline", "require_alias", "require_data_stream", "dynamic_templates"];

/// An `_id` is at most this long (docs: "_id field").
const MAX_ID: usize = 512;

struct Action<'a> {
    op: &'static str,
    index: String,
    id: Option<String>,
    source: &'a [u8],
}

/// The actions of a bulk body. A line that is no action makes the whole request fail.
fn actions<'a>(body: &'a [u8], default_index: Option<&str>) -> Result<Vec<Action<'a>>, Response> {
    let bad = |why: String| failure(400, "illegal_argument_exception", &why);
    let mut actions = Vec::new();
    let mut too_long = Vec::new();
    let mut lines = body[..body.len() - 1].split(|byte| *byte == b'\n').enumerate();
    while let Some((number, line)) = lines.next() {
        let number = number + 1;
        let malformed = || bad(format!("Malformed action/metadata line [{number}], expected START_OBJECT"));
        let action: Map<String, Value> = serde_json::from_slice(line).map_err(|_| malformed())?;
        let Some((op, Value::Object(metadata))) = action.iter().next().filter(|_| action.len() == 1) else {
            return Err(malformed());
        };
        let op = match op.as_str() {
            "create" => "create",
            "index" => "index",
            other => {
                let what = format!(
                    "Malformed action/metadata line [{number}], expected field [create], [delete], [index] or [update] but found [{other}]"
                );
                return Err(bad(what));
            }
        };
        if let Some(name) = metadata.keys().find(|name| !METADATA.contains(&name.as_str())) {
            return Err(bad(format!(
                "Action/metadata line [{number}] contains an unknown parameter [{name}]"
            )));
        }
        let text = |name: &str| metadata.get(name).and_then(Value::as_str).map(str::to_owned);
        let Some(index) = text("_index").or_else(|| default_index.map(str::to_owned)) else {
            return Err(failure(
                400,
                "action_request_validation_exception",
                "Validation Failed: 1: index is missing;",
            ));
        };
        let id = text("_id");
        if let Some(id) = id.as_ref().filter(|id| id.len() > MAX_ID) {
            too_long.push(format!(
                "id [{id}] is too long, must be no longer than {MAX_ID} bytes but was: {}",
                id.len()
            ));
        }
        let Some((_, source)) = lines.next() else {
            return Err(bad("The bulk request must be terminated by a newline [\\n]".to_owned()));
        };
        actions.push(Action { op, index, id, source });
    }
    if too_long.is_empty() {
        return Ok(actions);
    }
    let numbered =
        too_long.iter().enumerate().map(|(at, why)| format!(" {}: {why};", at + 1)).collect::<String>();
    Err(failure(400, "action_request_validation_exception", &format!("Validation Failed:{numbered}")))
}

/// Why an index cannot have this name (docs: "Create index API", path parameters).
fn bad_index_name(name: &str) -> Option<&'static str> {
    if name.chars().any(char::is_uppercase) {
        Some("must be lowercase")
    } else if name.contains(['\\', '/', '*', '?', '"', '<', '>', '|', ' ', ',', '#', ':']) {
        Some("must not contain the following characters [' ','\"','*',',','/','<','>','?','\\','|']")
    } else if name.starts_with(['_', '-', '+']) {
        Some("must not start with '_', '-', or '+'")
    } else if name.is_empty() || name == "." || name == ".." {
        Some("must not be '.' or '..'")
    } else if name.len() > 255 {
        Some("index name is too long")
    } else {
        None
    }
}

/// A request that failed as a whole.
fn failure(status: u16, kind: &str, reason: &str) -> Response {
    let cause = json!({"type": kind, "reason": reason});
    let error = json!({"root_cause": [cause], "type": kind, "reason": reason});
    Response::json(status, json!({"error": error, "status": status}))
}

impl Backend for Cluster {
    const PATH: &'static str = "";
    const ENCODINGS: &'static [&'static str] = &["gzip"];

    fn count(request: &Request) -> usize {
        actions(&request.body, Some("any")).map_or(0, |actions| actions.len())
    }

    fn take(&mut self, request: &Request) -> Response {
        self.bulk(request).map_or_else(|refused| refused, |answer| Response::json(200, answer))
    }

    fn records(&self) -> Vec<Value> {
        self.documents.iter().map(|(_, _, source)| source.clone()).collect()
    }

    fn len(&self) -> usize {
        self.documents.len()
    }
}

#[cfg(test)]
mod tests;
