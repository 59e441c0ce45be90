//! What the text of one event says.

use std::borrow::Cow;
use std::os::unix::fs::FileExt as _;
use std::time::SystemTime;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::config::{Format, Source};
use crate::delivery::{DeadLetter, Format as _, Framing, Json, Origin, each_member};
use crate::event::{Body, Event, FILE, LEVEL, MESSAGE, OWN_NAMES, Parser, TIMESTAMP, Time, Zone};
use crate::files::{Catalog, Generation};
use crate::reading::batch::Item;
use crate::reading::group::{Next, Rest};

/// Tells events of one source: nothing is kept from one to the next, so all its files share it.
pub(crate) struct Teller {
    parser: Parser,
}

impl Teller {
    pub(crate) fn new(source: &Source) -> Self {
        Self { parser: source.parser() }
    }

    /// The event that a text is, and the text as the file has it; `None` where there is only a hole of NULs, as a
    /// truncation leaves one before the next line of an app that does not append.
    pub(crate) fn tell<'a>(
        &mut self,
        bytes: &'a [u8],
        split: bool,
        now: Time,
    ) -> Option<(Event<'a>, Cow<'a, str>)> {
        let text = without_hole(bytes);
        if text.is_empty() && !bytes.is_empty() {
            return None;
        }
        let (text, invalid_utf8) = Parser::decode(text);
        let event = self.parser.parse_text(text.clone(), invalid_utf8, split, now);
        Some((event, text))
    }
}

/// What all events of a file have in common.
pub(crate) fn origin(generation: &Generation, source: &Source) -> Origin {
    Origin { file: generation.name.display().to_string(), fields: source.fields.clone(), key: generation.key }
}

/// Without NULs at either end.
fn without_hole(bytes: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| *byte != 0;
    let start = bytes.iter().position(is_text).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(is_text).map_or(start, |last| last + 1);
    &bytes[start..end]
}

/// An event of a file, told once more for people.
pub(crate) struct Told {
    pub(crate) file: String,
    /// When the event was.
    pub(crate) time: Time,
    /// Whether the line was a JSON object itself.
    pub(crate) object: bool,
    /// Members of the record that are not of the line.
    pub(crate) added: Vec<String>,
    /// The fields of its source.
    pub(crate) fields: Map<String, Value>,
    /// The event as NDJSON has it.
    pub(crate) record: Box<RawValue>,
}

/// Reads an event again that is not acknowledged yet. Where the file holds it no more, what was sent of it has to do.
pub(crate) fn retell(catalog: &Catalog, item: &Item, chunk: &[u8]) -> Told {
    let generation = catalog.get(item.generation);
    let file = generation.map(|generation| generation.name.display().to_string()).unwrap_or_default();
    let now = Time::from(SystemTime::now());
    let again = generation.and_then(|generation| {
        let source = catalog.source(generation);
        let mut bytes = vec![0; item.length as usize];
        generation.file.read_exact_at(&mut bytes, item.offset).ok()?;
        let Next::Piece(piece) = source.grouper().next(&bytes, Rest::End) else { return None };
        let (mut event, _) = Teller::new(source).tell(piece.text, item.split, now)?;
        source.redact(&mut event, &mut 0);
        let mut json = Json::new(Framing::Lines);
        let prepared = json.prepare(&origin(generation, source));
        let mut record = Vec::new();
        json.write(&event, &prepared, item.offset, &mut record);
        let record = String::from_utf8(record).ok()?;
        let record = RawValue::from_string(record.trim_end().to_owned()).ok()?;
        let object = matches!(event.body, Body::Object(_));
        Some((event.time, object, added(&event, &source.fields), record))
    });
    let (time, object, added, record) = again.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(chunk);
        // Where a line says what to do with the next, the last one is the record.
        let record = text.trim_end().rsplit('\n').next().unwrap_or_default();
        let quoted = || serde_json::value::to_raw_value(&text).unwrap_or_default();
        let record = RawValue::from_string(record.to_owned()).unwrap_or_else(|_| quoted());
        (now, true, Vec::new(), record)
    });
    let fields = generation.map(|generation| catalog.source(generation).fields.iter());
    let fields = fields.into_iter().flatten().map(|(name, value)| (name.clone(), json!(value))).collect();
    Told { file, time, object, added, fields, record }
}

/// The members that NDJSON adds to what an event's line says.
fn added(event: &Event<'_>, fields: &[(String, String)]) -> Vec<String> {
    let fields = fields.iter().map(|(name, _)| name.as_str()).zip(OWN_NAMES.len()..);
    let is_text = matches!(event.body, Body::Text(_));
    let own = [(TIMESTAMP, true), (LEVEL, event.level.is_some()), (MESSAGE, is_text), (FILE, true)];
    let own = own.into_iter().filter(|(_, adds)| *adds).map(|(at, _)| (OWN_NAMES[at], at));
    let is_own = |name: &str, at: usize| {
        let is_member = matches!(&event.body, Body::Object(object) if object.has(at));
        is_member || event.pairs.iter().any(|(pair, _)| pair == name)
    };
    own.chain(fields).filter(|(name, at)| !is_own(name, *at)).map(|(name, _)| name.to_owned()).collect()
}

/// The event of a dead letter as it was, and the fields of its source.
pub(crate) fn told_again(letter: &DeadLetter) -> (Event<'static>, Vec<(String, String)>) {
    let record = letter.record.get();
    let now = Time::from(SystemTime::now());
    let read = |names: &[String], text: String| {
        Parser::new(&Format::Json, Zone::default(), names).parse_text(Cow::Owned(text), false, false, now)
    };
    let stamp = json!({"timestamp": letter.event_time}).to_string();
    let (time, level) = (read(&[], stamp).time, read(&[], record.to_owned()).level);
    let fields = letter.fields.iter();
    let fields = fields.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    let fields: Vec<(String, String)> = fields.collect();
    let (mut message, mut split) = (None, false);
    let mut pairs: Vec<(Cow<'static, str>, Cow<'static, str>)> = Vec::new();
    let mut object = String::new();
    let is_object = each_member(record, |name, value| {
        let text = || serde_json::from_str::<String>(value).unwrap_or_else(|_| value.to_owned());
        let is_added = letter.added.iter().any(|added| added == name);
        match name {
            _ if is_added && name == OWN_NAMES[MESSAGE] => message = Some(text()),
            _ if is_added => {}
            "split" if !letter.object => split = true,
            _ if letter.object => {
                object.push(if object.is_empty() { '{' } else { ',' });
                object.push_str(&json!(name).to_string());
                object.push(':');
                object.push_str(value);
            }
            _ => pairs.push((name.to_owned().into(), text().into())),
        }
    });
    let names: Vec<String> = fields.iter().map(|(name, _)| name.clone()).collect();
    let event = if is_object.is_err() {
        read(&names, record.to_owned())
    } else if letter.object {
        read(&names, if object.is_empty() { "{}".to_owned() } else { object + "}" })
    } else {
        let body = Body::Text(message.unwrap_or_default().into());
        Event { time, level, body, pairs, split, invalid_utf8: false, unparsed: false }
    };
    (Event { time, level, ..event }, fields)
}
