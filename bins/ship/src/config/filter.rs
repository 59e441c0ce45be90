//! What of a source is delivered, and what is masked in it: `redact`, `drop`, `keep`, `sample`, `rate_limit`.

use podkit_cli::{Invalid, Item, Section, units};
use serde_json::{Map, Value, json};

use crate::config::name_of;
use crate::filter::{
    DEFAULT_WITH, Excess, LEVELS, Patterns, Rate, RateLimit, RedactRule, Redactor, Rules, Sample, Share,
    compile,
};

const EXCESSES: &[(&str, Excess)] = &[("drop", Excess::Drop), ("wait", Excess::Wait)];
/// The key of `sample` for events that have no level.
const UNKNOWN: &str = "unknown";

/// The filters of one source, checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filters {
    redact: Vec<RedactRule>,
    /// `None` where nothing is masked.
    pub(crate) redactor: Option<Redactor>,
    pub(crate) rules: Rules,
}

impl Filters {
    /// Reads the filters of a source; what is wrong is a fault there.
    pub(super) fn read(source: &Section<'_>) -> Self {
        let redact = source.items("redact", RedactRule::preset, own_rule);
        let redactor = Redactor::new(&redact).unwrap_or_else(|what| {
            source.fault("redact", what);
            None
        });
        let rules = Rules {
            drop: patterns(source, "drop"),
            keep: patterns(source, "keep"),
            sample: sample(&source.section("sample")),
            rate_limit: rate_limit(source),
        };
        Self { redact, redactor, rules }
    }

    /// Under their keys, those that are set.
    pub(super) fn effective(&self) -> Value {
        let mut set = Map::new();
        if !self.redact.is_empty() {
            set.insert("redact".to_owned(), self.redact.iter().map(show_rule).collect());
        }
        for (key, patterns) in [("drop", &self.rules.drop), ("keep", &self.rules.keep)] {
            if let Some(patterns) = patterns {
                set.insert(key.to_owned(), patterns.texts().collect());
            }
        }
        let sample = show_sample(&self.rules.sample);
        if !sample.is_empty() {
            set.insert("sample".to_owned(), Value::Object(sample));
        }
        if let Some(limit) = &self.rules.rate_limit {
            let excess = name_of(EXCESSES, &limit.excess);
            let limit = json!({"lines": limit.rate.text(), "burst": limit.burst, "excess": excess});
            set.insert("rate_limit".to_owned(), limit);
        }
        Value::Object(set)
    }
}

fn own_rule(item: &Section<'_>) -> Option<RedactRule> {
    let regex = item.required("regex", RedactRule::regex);
    let with = item.value_or("with", |text| Ok(text.to_owned()), DEFAULT_WITH.to_owned());
    RedactRule::new(regex?, &with).map_err(|what| item.fault("with", what)).ok()
}

fn show_rule(rule: &RedactRule) -> Value {
    match rule {
        RedactRule::Preset(preset) => json!(preset.name),
        RedactRule::Regex { regex, with } => json!({"regex": regex.as_str(), "with": with}),
    }
}

fn patterns(source: &Section<'_>, key: &str) -> Option<Patterns> {
    Patterns::new(source.list(key, compile)).unwrap_or_else(|what| {
        source.fault(key, what);
        None
    })
}

fn sample(section: &Section<'_>) -> Sample {
    let levels = LEVELS.map(|level| section.value(level.name(), Share::parse));
    Sample { levels, unknown: section.value(UNKNOWN, Share::parse) }
}

fn show_sample(sample: &Sample) -> Map<String, Value> {
    let names = LEVELS.iter().map(|level| level.name()).chain([UNKNOWN]);
    let shares = sample.levels.iter().chain([&sample.unknown]);
    let set =
        names.zip(shares).filter_map(|(name, share)| Some((name.to_owned(), json!(share.as_ref()?.value()))));
    set.collect()
}

fn rate_limit(source: &Section<'_>) -> Option<RateLimit> {
    match source.item("rate_limit")? {
        Item::Text(text) => match Rate::parse(&text) {
            Ok(rate) => Some(RateLimit { rate, burst: rate.lines, excess: Excess::Drop }),
            Err(what) => {
                source.fault("rate_limit", what);
                None
            }
        },
        Item::Section(limit) => {
            let rate = limit.required("lines", Rate::parse);
            let burst = limit.value("burst", burst);
            let excess = limit.value_or("excess", units::choice(EXCESSES), Excess::Drop);
            let rate = rate?;
            Some(RateLimit { rate, burst: burst.unwrap_or(rate.lines), excess })
        }
    }
}

fn burst(text: &str) -> Result<u32, Invalid> {
    let lines = units::count(text)?.get();
    u32::try_from(lines).map_err(|_| Invalid::new(format!("{text:?} is more than {}", u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The filters of a source as it would be written in a config file, and the faults found in it.
    fn read(yaml: &str) -> (Filters, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ship.yaml");
        let yaml: String = yaml.lines().map(|line| format!("    {line}\n")).collect();
        std::fs::write(&file, format!("sources:\n  -\n{yaml}")).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let read = move |root: &Section<'_>| {
            root.admin();
            tell.send(root.sections("sources").first().map(Filters::read)).unwrap();
            None::<crate::config::Config>
        };
        let args = ["ship", "check", "--config", file.to_str().unwrap()].map(Into::into);
        let failure = podkit_cli::dispatch(&crate::TOOL, args, read, |_| unreachable!()).unwrap_err();
        let place = format!("{}:", file.display());
        let faults = failure.messages().filter_map(|fault| fault.strip_prefix(&place));
        (told.recv().unwrap().unwrap(), faults.map(str::to_owned).collect())
    }

    fn effective(yaml: &str) -> Value {
        let (filters, faults) = read(yaml);
        assert_eq!(faults, Vec::<String>::new(), "{yaml}");
        filters.effective()
    }

    #[test]
    fn nothing_said_is_nothing_done() {
        let (filters, faults) = read("{}");
        assert_eq!(faults, Vec::<String>::new());
        assert!(filters.redactor.is_none() && crate::filter::Filter::new(&filters.rules).is_none());
        assert_eq!(filters.effective(), json!({}));
    }

    #[test]
    fn what_is_in_force_reads_back() {
        let yaml = r"
redact: [bearer, credit_card, {regex: 'password=\S+', with: 'password=***'}, {regex: '(a)$', with: $1}]
drop: ['GET /healthz', '^$|b$']
keep: 'ERROR'
sample: {debug: 10%, info: 0.5, unknown: 7%}
rate_limit: 500/s";
        let want = json!({
            "redact": [
                "bearer",
                "credit_card",
                {"regex": r"password=\S+", "with": "password=***"},
                {"regex": "(a)$", "with": "$1"},
            ],
            "drop": ["GET /healthz", "^$|b$"],
            "keep": ["ERROR"],
            "sample": {"debug": 0.1, "info": 0.5, "unknown": 0.07},
            "rate_limit": {"lines": "500/s", "burst": 500, "excess": "drop"},
        });
        assert_eq!(effective(yaml), want);
        // JSON is YAML; `check` doubles the dollars when it prints.
        assert_eq!(effective(&want.to_string().replace('$', "$$")), want);
        let wait = effective("rate_limit: {lines: 6/m, burst: 1000, excess: wait}");
        assert_eq!(wait, json!({"rate_limit": {"lines": "6/m", "burst": 1000, "excess": "wait"}}));
        assert_eq!(effective(&wait.to_string()), wait);
    }

    #[test]
    fn every_fault_has_its_place() {
        let yaml = "redact:
  - bearr
  - regex: a(
  - {regex: 'a*'}
  - {regex: 'a', with: $1}
  - {with: x}
drop: ['', b]
keep: ['c(?=d)']
sample: {debug: 200%, verbose: 1%, unknown: many}
rate_limit: {lines: 500, excess: block, burst: 0}";
        assert_eq!(
            read(yaml).1,
            [
                "4: sources[0].redact[0]: \"bearr\" is not a preset",
                "5: sources[0].redact[1].regex: \"a(\" is not a regex (unclosed group)",
                "6: sources[0].redact[2].regex: the regex \"a*\" matches where nothing is",
                "7: sources[0].redact[3].with: \"$1\" names the group `$1`, and the regex has no groups",
                "8: sources[0].redact[4].regex: is required",
                "9: sources[0].drop[0]: the regex is empty",
                "10: sources[0].keep[0]: \"c(?=d)\" is not a regex (look-around, including look-ahead and look-behind, is not supported)",
                "11: sources[0].sample.debug: \"200%\" is not between 0% and 100%",
                "11: sources[0].sample.unknown: \"many\" is not a share of all events",
                "11: sources[0].sample.verbose: unknown key",
                "12: sources[0].rate_limit.burst: \"0\" is not a whole number of at least 1",
                "12: sources[0].rate_limit.excess: \"block\" is not one of drop, wait",
                "12: sources[0].rate_limit.lines: \"500\" has no `/s`, `/m` or `/h`",
            ]
        );
        assert_eq!(
            read("rate_limit: 5/d\nredact: {regex: a, wiht: b}").1,
            [
                "3: sources[0].rate_limit: \"5/d\" has an unknown unit",
                "4: sources[0].redact.wiht: unknown key",
            ]
        );
    }
}
