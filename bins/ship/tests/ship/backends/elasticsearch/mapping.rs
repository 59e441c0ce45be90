//! What the fields of an index are: each takes its type from the first value (docs: "Dynamic field mapping"), and
//! refuses later values that cannot be read as that. Pure.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Docs: "Mapping limit settings", `index.mapping.total_fields.limit`.
const MAX_FIELDS: usize = 1000;

/// The fields by their whole name, `a.b.c`.
#[derive(Default)]
pub(super) struct Mapping {
    fields: HashMap<String, Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Long,
    Float,
    Boolean,
    Date,
    Object,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Long => "long",
            Self::Float => "float",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Object => "object",
        }
    }

    /// What a field becomes by its first value; `None` for what says nothing.
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Null | Value::Array(_) => None,
            Value::Bool(_) => Some(Self::Boolean),
            Value::Number(number) if number.is_f64() => Some(Self::Float),
            Value::Number(_) => Some(Self::Long),
            Value::String(text) if is_date(text) => Some(Self::Date),
            Value::String(_) => Some(Self::Text),
            Value::Object(_) => Some(Self::Object),
        }
    }

    /// Whether a field takes a value, with the conversions that `coerce` makes.
    fn takes(self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Null) | (Self::Object, Value::Object(_)) | (Self::Boolean, Value::Bool(_)) => true,
            (Self::Object, _) | (_, Value::Object(_)) => false,
            (Self::Text, _) | (Self::Long | Self::Float | Self::Date, Value::Number(_)) => true,
            (Self::Long | Self::Float, Value::String(text)) => text.parse::<f64>().is_ok(),
            (Self::Boolean, Value::String(text)) => matches!(text.as_str(), "true" | "false" | ""),
            (Self::Date, Value::String(text)) => is_date(text) || text.parse::<i64>().is_ok(),
            _ => false,
        }
    }
}

impl Mapping {
    /// Takes the members of a document into the mapping, or says why not; then nothing has changed. In a data stream
    /// `@timestamp` is a date from the beginning.
    pub(super) fn admit(
        &mut self,
        members: &Map<String, Value>,
        id: &str,
        is_stream: bool,
    ) -> Result<(), String> {
        let mut new = HashMap::new();
        if is_stream {
            new.insert("@timestamp".to_owned(), Kind::Date);
        }
        self.object("", members, id, &mut new)?;
        if self.fields.len() + new.len() > MAX_FIELDS {
            return Err(format!(
                "[1:1] failed to parse: Limit of total fields [{MAX_FIELDS}] has been exceeded"
            ));
        }
        self.fields.extend(new);
        Ok(())
    }

    fn object(
        &self,
        path: &str,
        members: &Map<String, Value>,
        id: &str,
        new: &mut HashMap<String, Kind>,
    ) -> Result<(), String> {
        for (name, value) in members {
            // Dots in a name are objects.
            if name.is_empty() || name.split('.').any(|part| part.trim().is_empty()) {
                return Err(format!("[1:1] failed to parse: field name [{name}] has an empty part"));
            }
            let mut parent = path.to_owned();
            let parts: Vec<&str> = name.split('.').collect();
            for part in &parts[..parts.len() - 1] {
                parent = join(&parent, part);
                self.field(&parent, &Value::Object(Map::new()), id, new)?;
            }
            self.field(&join(&parent, parts[parts.len() - 1]), value, id, new)?;
        }
        Ok(())
    }

    fn field(
        &self,
        path: &str,
        value: &Value,
        id: &str,
        new: &mut HashMap<String, Kind>,
    ) -> Result<(), String> {
        if let Value::Array(elements) = value {
            return elements.iter().try_for_each(|element| self.field(path, element, id, new));
        }
        let known = self.fields.get(path).or_else(|| new.get(path)).copied();
        match (known, Kind::of(value)) {
            (Some(kind), _) if !kind.takes(value) => {
                return Err(if kind == Kind::Object {
                    format!(
                        "[1:1] object mapping for [{path}] tried to parse field [{path}] as object, but found a concrete value"
                    )
                } else {
                    format!(
                        "[1:1] failed to parse field [{path}] of type [{}] in document with id '{id}'. Preview of field's value: '{value}'",
                        kind.name()
                    )
                });
            }
            (None, Some(kind)) => {
                new.insert(path.to_owned(), kind);
            }
            _ => {}
        }
        match value {
            Value::Object(members) => self.object(path, members, id, new),
            _ => Ok(()),
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Docs: "Date detection"; `strict_date_optional_time`: `2026-11-22`, with or without a time and an offset.
fn is_date(text: &str) -> bool {
    let (date, time) = text.split_once('T').map_or((text, None), |(date, time)| (date, Some(time)));
    shape(date) == "dddd-dd-dd"
        && time.is_none_or(|time| {
            let offset = time.find(['Z', '+', '-']).map_or("", |at| &time[at..]);
            let time = &time[..time.len() - offset.len()];
            let (whole, fraction) = time.split_once('.').unwrap_or((time, "0"));
            let digits =
                fraction.len() <= 9 && !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
            digits
                && matches!(shape(whole).as_str(), "dd" | "dd:dd" | "dd:dd:dd")
                && matches!(
                    shape(offset).as_str(),
                    "" | "Z" | "+dd:dd" | "-dd:dd" | "+dddd" | "-dddd" | "+dd" | "-dd"
                )
        })
}

/// The text with `d` for each digit.
fn shape(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_digit() { 'd' } else { c }).collect()
}
