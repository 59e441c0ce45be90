//! How a source's lines are read: their format, which of them belong together, and the zone of their times.

use podkit_cli::{Invalid, Item, Section, units};
use regex::{Regex, RegexBuilder, bytes};
use serde_json::{Value, json};

use super::name_of;
use crate::event::{Languages, Multiline, Zone};

/// How a line becomes an event.
#[derive(Debug, Clone)]
pub(crate) enum Format {
    /// A JSON object is kept as it is; any other line is text.
    Auto,
    /// Every line is text.
    Text,
    /// Every line is a JSON object.
    Json,
    /// Every line is `key=value` pairs.
    Logfmt,
    /// Every line is what a container runtime makes of one.
    Cri,
    /// Every line matches, and the named groups are its parts.
    Regex(Regex),
}

const FORMATS: &[(&str, Format)] = &[
    ("auto", Format::Auto),
    ("text", Format::Text),
    ("json", Format::Json),
    ("logfmt", Format::Logfmt),
    ("cri", Format::Cri),
];

const LANGUAGES: &[(&str, Languages)] = &[
    ("auto", Languages::ALL),
    ("java", Languages::JAVA),
    ("python", Languages::PYTHON),
    ("go", Languages::GO),
    ("ruby", Languages::RUBY),
    ("node", Languages::NODE),
    ("dotnet", Languages::DOTNET),
];

/// Of a compiled regex, in bytes: far more than a log line's layout needs, and little beside the memory budget.
const REGEX_SIZE: usize = 256 << 10;

impl Format {
    /// Reads `format`: `auto`, `text`, `json`, `logfmt`, `cri`, or `{regex: '..'}`.
    pub(crate) fn read(section: &Section<'_>) -> Self {
        let format = match section.item("format") {
            None => None,
            Some(Item::Text(text)) => match units::choice(FORMATS)(&text) {
                Ok(format) => Some(format),
                Err(what) => {
                    section.fault("format", what);
                    None
                }
            },
            Some(Item::Section(inner)) => inner.required("regex", named_groups).map(Self::Regex),
        };
        format.unwrap_or(Self::Auto)
    }

    /// As a config file has it.
    pub(crate) fn effective(&self) -> Value {
        match self {
            Self::Auto => json!("auto"),
            Self::Text => json!("text"),
            Self::Json => json!("json"),
            Self::Logfmt => json!("logfmt"),
            Self::Cri => json!("cri"),
            Self::Regex(regex) => json!({"regex": regex.as_str()}),
        }
    }
}

impl Multiline {
    /// Reads `multiline`: `off`, `auto`, a language or a list of some, or `{start: '..'}`.
    pub(crate) fn read(section: &Section<'_>) -> Self {
        // Which of the three shapes it has is seen before it is read as that.
        if let Some(Value::Object(_)) = section.json("multiline") {
            let Some(Item::Section(inner)) = section.item("multiline") else { return Self::None };
            return inner.required("start", start).map_or(Self::None, Self::Start);
        }
        let names = section.list("multiline", |text| match text {
            // YAML 1.1 tools write `off` as `false`.
            "off" | "false" => Ok(None),
            _ => units::choice(LANGUAGES)(text).map(Some).map_err(|what| {
                what.hint("write `off`, `auto`, one or several of java, python, go, ruby, node, dotnet, or `{start: '^\\d{4}-'}`")
            }),
        });
        if names.len() > 1 && names.contains(&None) {
            section.fault("multiline", Invalid::new("is `off` and on at once").hint("remove `off`"));
        }
        let languages = names.into_iter().flatten().reduce(Languages::union);
        languages.map_or(Self::None, Self::Traces)
    }

    /// As a config file has it.
    pub(crate) fn effective(&self) -> Value {
        match self {
            Self::None => json!("off"),
            Self::Start(start) => json!({"start": start.as_str()}),
            Self::Traces(languages) => match name_of(LANGUAGES, languages) {
                "" => LANGUAGES[1..]
                    .iter()
                    .filter(|(_, language)| languages.any(*language))
                    .map(|(name, _)| Value::from(*name))
                    .collect(),
                name => json!(name),
            },
        }
    }
}

impl Zone {
    /// Reads `timezone`, the zone of times that tell none: `UTC` or an offset.
    pub(crate) fn read(section: &Section<'_>) -> Self {
        section.value_or("timezone", Self::parse, Self::default())
    }
}

fn named_groups(text: &str) -> Result<Regex, Invalid> {
    let regex = RegexBuilder::new(text).size_limit(REGEX_SIZE).build().map_err(|error| invalid(&error))?;
    if regex.capture_names().flatten().next().is_none() {
        return Err(Invalid::new("the regex has no named group")
            .hint("name the parts of a line: `(?P<time>\\S+) (?P<level>\\w+) (?P<message>.*)`"));
    }
    Ok(regex)
}

fn start(text: &str) -> Result<bytes::Regex, Invalid> {
    let regex =
        bytes::RegexBuilder::new(text).size_limit(REGEX_SIZE).build().map_err(|error| invalid(&error))?;
    if regex.is_match(b"") {
        return Err(Invalid::new("the regex matches every line")
            .hint("say what the first line of an event begins with: `^\\d{4}-`"));
    }
    Ok(regex)
}

/// Why a regex does not compile, on one line.
fn invalid(error: &regex::Error) -> Invalid {
    match error {
        regex::Error::CompiledTooBig(_) => Invalid::new("the regex is too large")
            .hint("use fewer and smaller counted repetitions such as `{1000}`"),
        // The last line of a syntax error says what it is; those before it draw it.
        error => {
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default();
            let why = why.strip_prefix("error: ").unwrap_or(why);
            Invalid::new(format!("the regex does not compile: {why}"))
                .hint("write it in single quotes, in which YAML keeps backslashes")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podkit_cli::{Effective, Exit};
    use std::io::Write;

    struct Read(Value);

    impl Effective for Read {
        fn effective(&self) -> Value {
            self.0.clone()
        }
    }

    /// What a config comes to, or its faults.
    fn read(yaml: &str) -> Result<Value, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(yaml.as_bytes()).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let args =
            ["podkit-ship", "check", "--config"].map(Into::into).into_iter().chain([file.path().into()]);
        let result = podkit_cli::dispatch(
            &crate::TOOL,
            args,
            move |root| {
                let format = Format::read(root).effective();
                let (multiline, zone) = (Multiline::read(root).effective(), Zone::read(root).name());
                let seen = json!({"format": format, "multiline": multiline, "timezone": zone});
                tell.send(seen.clone()).unwrap();
                Some(Read(seen))
            },
            |_| Ok(Exit::Done),
        );
        result.map(|_| told.recv().unwrap()).map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn all_shapes_are_read_and_shown_as_they_were_given() {
        assert_eq!(read("{}"), Ok(json!({"format": "auto", "multiline": "off", "timezone": "UTC"})));
        for format in [json!("logfmt"), json!("cri"), json!({"regex": "^(?P<message>.*)$"})] {
            assert_eq!(read(&json!({"format": format}).to_string()).unwrap()["format"], format);
        }
        for multiline in [
            json!("off"),
            json!("auto"),
            json!("java"),
            json!(["python", "go"]),
            json!({"start": "^\\d{4}-"}),
        ] {
            assert_eq!(read(&json!({"multiline": multiline}).to_string()).unwrap()["multiline"], multiline);
        }
        assert_eq!(read("timezone: \"+0530\"").unwrap()["timezone"], "+05:30");
    }

    #[test]
    fn faults_say_what_is_wrong() {
        for (yaml, why) in [
            ("format: xml", "not one of auto, text, json, logfmt, cri"),
            ("format: {regex: '('}", "does not compile: unclosed group"),
            ("format: {regex: '(a)'}", "no named group"),
            ("format: {regex: '(?P<a>\\w{1000}){100}'}", "too large"),
            ("format: {}", "required"),
            ("multiline: perl", "not one of"),
            ("multiline: [off, java]", "at once"),
            ("multiline: {start: '.*'}", "matches every line"),
            ("multiline: {end: 'x'}", "unknown key"),
            ("timezone: Europe/Berlin", "not an offset"),
        ] {
            let faults = read(yaml).unwrap_err();
            assert!(faults.contains(why), "{yaml}: {faults}");
        }
    }
}
