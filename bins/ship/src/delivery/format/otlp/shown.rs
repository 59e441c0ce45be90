//! What the fields of opentelemetry-proto's messages are called, for [`show`](crate::delivery::format::Format::show).

use crate::delivery::format::protobuf::{Kind, Message};

pub(super) static EXPORT_LOGS_SERVICE_REQUEST: Message =
    Message(&[(1, "resource_logs", Kind::Message(&RESOURCE_LOGS))]);
static RESOURCE_LOGS: Message =
    Message(&[(1, "resource", Kind::Message(&RESOURCE)), (2, "scope_logs", Kind::Message(&SCOPE_LOGS))]);
static RESOURCE: Message = Message(&[(1, "attributes", Kind::Message(&KEY_VALUE))]);
static SCOPE_LOGS: Message =
    Message(&[(1, "scope", Kind::Message(&SCOPE)), (2, "log_records", Kind::Message(&LOG_RECORD))]);
static SCOPE: Message = Message(&[(1, "name", Kind::Text), (2, "version", Kind::Text)]);
static LOG_RECORD: Message = Message(&[
    (1, "time_unix_nano", Kind::Fixed),
    (11, "observed_time_unix_nano", Kind::Fixed),
    (2, "severity_number", Kind::Int),
    (3, "severity_text", Kind::Text),
    (5, "body", Kind::Message(&ANY_VALUE)),
    (6, "attributes", Kind::Message(&KEY_VALUE)),
    (8, "flags", Kind::Fixed),
    (9, "trace_id", Kind::Hex),
    (10, "span_id", Kind::Hex),
]);
static KEY_VALUE: Message = Message(&[(1, "key", Kind::Text), (2, "value", Kind::Message(&ANY_VALUE))]);
static ANY_VALUE: Message = Message(&[
    (1, "string_value", Kind::Text),
    (2, "bool_value", Kind::Bool),
    (3, "int_value", Kind::Int),
    (4, "double_value", Kind::Double),
    (5, "array_value", Kind::Message(&ARRAY_VALUE)),
    (6, "kvlist_value", Kind::Message(&KEY_VALUE_LIST)),
]);
static ARRAY_VALUE: Message = Message(&[(1, "values", Kind::Message(&ANY_VALUE))]);
static KEY_VALUE_LIST: Message = Message(&[(1, "values", Kind::Message(&KEY_VALUE))]);
