//! The layers of a config: what was typed, the environment, and a file with its variables expanded.
//!
//! Brings them together and hands out the root [`Section`]; which fields there are is the binaries' business.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;

use crate::command::{Call, Task, Tool};
use crate::expand::expand;
use crate::failure::{Exit, Failure, chain};
use crate::fault::{Fault, Invalid, Place};
use crate::flag::Given;
use crate::section::Section;
use crate::whole::read_whole;
use crate::yaml::{self, Kind, Node};

/// What all sections of one config share.
pub(crate) struct Context<'a> {
    pub(crate) tool: &'static Tool,
    pub(crate) given: &'a Given,
    pub(crate) task: &'a Task,
    /// The file's name for messages; `None` without a config file.
    pub(crate) file: Option<String>,
    pub(crate) faults: RefCell<Vec<Fault>>,
}

/// What the config file of a call holds; `None` where the call names none.
pub(crate) fn content(call: &Call) -> Result<Option<Vec<u8>>, Failure> {
    let Some(path) = &call.config else { return Ok(None) };
    read_whole(path).map(Some).map_err(|error| unreadable(path, &chain(&error)))
}

/// Reads the config of a call: the file's content, with variables expanded, below flags and environment.
pub(crate) fn load<C>(
    tool: &'static Tool,
    call: &Call,
    content: Option<&[u8]>,
    read: impl FnOnce(&Section<'_>) -> Option<C>,
) -> Result<C, Failure> {
    let mut document = match (&call.config, content) {
        (Some(path), Some(content)) => parse(path, content)?,
        _ => Node { line: 1, kind: Kind::Map(Vec::new()) },
    };
    let context = Context {
        tool,
        given: &call.given,
        task: &call.task,
        file: call.config.as_ref().map(|path| path.display().to_string()),
        faults: RefCell::default(),
    };
    expand_all(&context, "", &mut document);
    let unexpanded = context.faults.borrow().len();
    let config = match &document.kind {
        Kind::Map(entries) => {
            let root = Section::new(&context, String::new(), document.line, entries, true);
            read(&root)
        }
        _ => {
            let found = document.describe();
            let what = Invalid::new(format!("the config must be a mapping of keys, and is {found}"));
            context.fault(context.in_file(document.line, ""), what);
            None
        }
    };
    let faults = context.faults.into_inner();
    match config {
        Some(config) if faults.is_empty() => Ok(config),
        _ => Err(refuse(faults, unexpanded)),
    }
}

/// All faults by their place; the first so many are of variables that are not set. Apart from [`load`], so that it is
/// compiled once for all types of config.
fn refuse(mut faults: Vec<Fault>, unexpanded: usize) -> Failure {
    if faults.is_empty() {
        return Failure::new(Exit::Usage, "these settings make no config");
    }
    // Of a value that has a variable which is not set, nothing else is known.
    let unknown: Vec<Place> = faults[..unexpanded].iter().map(|fault| fault.place.clone()).collect();
    let mut index = 0;
    faults.retain(|fault| {
        index += 1;
        index <= unexpanded || !unknown.contains(&fault.place)
    });
    faults.sort_by(|a, b| a.place.cmp(&b.place));
    Failure::faults(faults)
}

/// The address of the running instance's admin port, for verbs that only talk to it.
pub(crate) fn admin_only(tool: &'static Tool, call: &Call) -> Result<SocketAddr, Failure> {
    let content = content(call)?;
    let admin = load(tool, call, content.as_deref(), |root| {
        let admin = root.admin();
        root.ignore_rest();
        Some(admin)
    })?;
    admin.ok_or_else(|| {
        Failure::new(Exit::Usage, "--admin is off, so there is no instance to ask")
            .hint("give the address of the running instance: `--admin 127.0.0.1:PORT`")
    })
}

pub(crate) fn unreadable(path: &Path, why: &str) -> Failure {
    Failure::new(Exit::Usage, format!("cannot read the config file {path:?}: {why}"))
        .hint("check `--config` and the volume that the file is mounted from")
}

fn parse(path: &Path, content: &[u8]) -> Result<Node, Failure> {
    let text = std::str::from_utf8(content)
        .map_err(|error| unreadable(path, &format!("byte {} is not UTF-8", error.valid_up_to())))?;
    yaml::parse(text)
        .map_err(|bad| Failure::new(Exit::Usage, format!("{}:{}: {}", path.display(), bad.line, bad.message)))
}

fn expand_all(context: &Context<'_>, path: &str, node: &mut Node) {
    match &mut node.kind {
        Kind::Scalar { text, plain } => {
            if text.contains('$') {
                match expand(text, |name| std::env::var(name).ok()) {
                    // What a variable holds is text, also where it spells `null` or a number.
                    Ok(expanded) => (*text, *plain) = (expanded, false),
                    Err(what) => context.fault(context.in_file(node.line, path), what),
                }
            }
        }
        Kind::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                expand_all(context, &format!("{path}[{index}]"), item);
            }
        }
        Kind::Map(entries) => {
            for entry in entries {
                expand_all(context, &join(path, &entry.key), &mut entry.value);
            }
        }
    }
}

pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl Context<'_> {
    pub(crate) fn in_file(&self, line: usize, field: &str) -> Place {
        match self.file.clone() {
            Some(path) => Place::File { path, line, field: field.to_owned() },
            None => Place::Field(field.to_owned()),
        }
    }

    pub(crate) fn fault(&self, place: Place, what: Invalid) {
        self.faults.borrow_mut().push(Fault { place, what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::{TOOL, call};
    use crate::units;
    use std::time::Duration;

    /// The faults of a config as "place: message", and the value that `read` made.
    fn read<C>(yaml: &str, line: &str, read: impl FnOnce(&Section<'_>) -> C) -> (Option<C>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.yaml");
        std::fs::write(&file, yaml).unwrap();
        let call = call(&format!("--config {} {line}", file.display()));
        let mut made = None;
        let content = content(&call).unwrap();
        let result = load(&TOOL, &call, content.as_deref(), |root| {
            made = Some(read(root));
            Some(())
        });
        let faults =
            result.err().map(|failure| failure.messages().map(str::to_owned).collect()).unwrap_or_default();
        (made, without_directory(faults, dir.path()))
    }

    fn without_directory(faults: Vec<String>, dir: &Path) -> Vec<String> {
        faults.into_iter().map(|fault| fault.replace(&format!("{}/", dir.display()), "")).collect()
    }

    #[test]
    fn flag_over_file_over_default() {
        let yaml = "state_dir: /file\nbatch: {age: 2s}\ninclude: [a, b]\n";
        let get = |s: &Section<'_>| {
            let dir = s.value_or("state_dir", units::path, "/default".into());
            let age = s.section("batch").value_or("age", units::duration, Duration::ZERO);
            (dir.display().to_string(), age, s.list("include", units::text), s.switch("once"))
        };
        let (made, faults) = read(yaml, "", get);
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(
            made.unwrap(),
            ("/file".into(), Duration::from_secs(2), vec!["a".into(), "b".into()], false)
        );
        let (made, _) = read(yaml, "--state-dir /flag --batch-age 3s --include c --once", get);
        assert_eq!(made.unwrap(), ("/flag".into(), Duration::from_secs(3), vec!["c".into()], true));
        let (made, _) = read("", "", get);
        assert_eq!(made.unwrap(), ("/default".into(), Duration::ZERO, vec![], false));
    }

    #[test]
    fn every_fault_is_found_with_its_line() {
        let yaml = "state_dri: /x\nbatch:\n  age: 5\n  size: 1MB\nsources:\n  - include: [a]\n    incldue: b\n  - 7\nonce: \n";
        let (_, faults) = read(yaml, "", |s| {
            s.required("state_dir", units::path);
            s.section("batch").value("age", units::duration);
            for source in s.sections("sources") {
                source.list("include", units::text);
            }
            s.switch("once");
        });
        assert_eq!(
            faults,
            [
                "t.yaml:1: state_dir: is required",
                "t.yaml:1: state_dri: unknown key",
                "t.yaml:3: batch.age: \"5\" has no unit",
                "t.yaml:4: batch.size: unknown key",
                "t.yaml:7: sources[0].incldue: unknown key",
                "t.yaml:8: sources[1]: must be a mapping, and is a single value",
                "t.yaml:9: once: has no value",
            ]
        );
    }

    #[test]
    fn a_list_may_mix_texts_and_mappings() {
        let get = |s: &Section<'_>| {
            let source = s.section("source");
            source.items("redact", units::duration, |item| item.required("regex", units::duration))
        };
        let (made, faults) = read("source:\n  redact: [1s, {regex: 2s}]\n", "", get);
        assert_eq!((made.unwrap().len(), faults), (2, vec![]));
        assert_eq!(read("source: {redact: 1s}\n", "", get).0.unwrap(), [Duration::from_secs(1)]);
        assert_eq!(read("source: {redact: {regex: 1s}}\n", "", get).0.unwrap(), [Duration::from_secs(1)]);
        let yaml = "source:\n  redact:\n    - x\n    - regex: y\n      regexp: 1s\n    - []\n    - {}\n";
        assert_eq!(
            read(yaml, "", get).1,
            [
                "t.yaml:3: source.redact[0]: \"x\" is not a duration",
                "t.yaml:4: source.redact[1].regex: \"y\" is not a duration",
                "t.yaml:5: source.redact[1].regexp: unknown key",
                "t.yaml:6: source.redact[2]: must be a single value or a mapping, and is a list",
                "t.yaml:7: source.redact[3].regex: is required",
            ]
        );
    }

    #[test]
    fn a_flag_replaces_a_list_of_texts_and_mappings() {
        let get = |s: &Section<'_>| {
            s.items("include", units::duration, |item| item.required("after", units::duration))
        };
        let yaml = "include:\n  - {after: 2s}\n  - 3s\n";
        let seconds = |seconds: &[u64]| seconds.iter().copied().map(Duration::from_secs).collect::<Vec<_>>();
        assert_eq!(read(yaml, "", get), (Some(seconds(&[2, 3])), vec![]));
        assert_eq!(read(yaml, "--include 7s --include 8s", get), (Some(seconds(&[7, 8])), vec![]));
        assert_eq!(read(yaml, "--include x", get).1, ["--include: \"x\" is not a duration"]);
    }

    #[test]
    fn command_lines_are_words_or_split_without_a_shell() {
        let get = |s: &Section<'_>| {
            s.command_lines("include", |words| {
                if words.is_empty() { Err(Invalid::new("is empty")) } else { Ok(words) }
            })
        };
        let lines = |yaml: &str, line: &str| {
            let (made, faults) = read(yaml, line, get);
            (made.unwrap().iter().map(|words| words.join("|")).collect::<Vec<_>>(), faults)
        };
        let none = Vec::<String>::new;
        assert_eq!(
            lines("include: [[/bin/a, 'b c', 7], d  'e']\n", ""),
            (vec!["/bin/a|b c|7".into(), "d|'e'".into()], none())
        );
        assert_eq!(lines("include: a b\n", ""), (vec!["a|b".into()], none()));
        assert_eq!(lines("include: [[a]]\n", "--include b;c"), (vec!["b;c".into()], none()));
        assert_eq!(
            lines("include:\n  - []\n  - {a: b}\n  - [a, [b]]\n  - ' '\n", "").1,
            [
                "t.yaml:2: include[0]: is empty",
                "t.yaml:3: include[1]: must be a text or a list of words, and is a mapping",
                "t.yaml:4: include[2][1]: must be a single value, and is a list",
                "t.yaml:5: include[3]: is empty",
            ]
        );
    }

    #[test]
    fn an_unset_variable_is_a_fault_where_it_stands() {
        let yaml = "fields:\n  pod: ${PODKIT_TEST_SURELY_UNSET}\n";
        let (_, faults) = read(yaml, "", |s| s.map("fields"));
        assert_eq!(faults, ["t.yaml:2: fields.pod: the variable `PODKIT_TEST_SURELY_UNSET` is not set"]);
        let (_, faults) =
            read("age: ${PODKIT_TEST_SURELY_UNSET}\n", "", |s| s.required("age", units::duration));
        assert_eq!(faults, ["t.yaml:1: age: the variable `PODKIT_TEST_SURELY_UNSET` is not set"]);
    }

    #[test]
    fn a_fault_in_a_flag_names_the_flag() {
        let (_, faults) = read("", "--batch-age 5", |s| s.section("batch").value("age", units::duration));
        assert_eq!(faults, ["--batch-age: \"5\" has no unit"]);
    }

    #[test]
    fn the_admin_port_can_be_off() {
        assert_eq!(read("", "", |s| s.admin()).0.unwrap(), Some("0.0.0.0:9899".parse().unwrap()));
        assert_eq!(read("admin: off\n", "", |s| s.admin()).0.unwrap(), None);
        assert_eq!(
            read("", "--admin 127.0.0.1:0", |s| s.admin()).0.unwrap(),
            Some("127.0.0.1:0".parse().unwrap())
        );
    }
}
