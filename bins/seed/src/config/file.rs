//! One entry of `files`: its place, its one source, and what is asked of it.

use std::path::PathBuf;

use podkit_cli::{Invalid, Section, units};
use serde_json::{Value, json};

use super::{Archive, Check, EnvFile, Envsubst, Remote};
use crate::path::{self, RelPath};

/// The keys that name a source.
const SOURCES: &[&str] = &["template", "inline", "envsubst", "copy", "url", "archive", "env"];

/// One entry of `files`.
#[derive(Debug)]
pub(crate) struct FileSpec {
    pub(crate) path: RelPath,
    /// Whether the path was written with a slash at its end.
    pub(crate) names_directory: bool,
    pub(crate) source: Source,
    pub(crate) mode: Option<u32>,
    pub(crate) owner: Option<Owner>,
    /// Its content is never shown.
    pub(crate) is_secret: bool,
    pub(crate) checks: Vec<Check>,
}

/// User and group, by number: an image from scratch knows no names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// Where the content of an entry comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A template.
    Template(Text),
    /// A text in which chosen variables are replaced.
    Envsubst(Envsubst),
    /// A file or a directory, taken as it is.
    Copy(PathBuf),
    /// A download.
    Url(Remote),
    /// What a tar or zip file holds.
    Archive(Archive),
    /// A set of variables.
    Env(EnvFile),
}

impl Source {
    /// Whether it makes a directory, or may make one.
    fn may_be_directory(&self) -> bool {
        matches!(self, Self::Copy(_) | Self::Archive(_))
    }
}

/// A text, or the file that holds it.
#[derive(Debug)]
pub(crate) enum Text {
    Inline(String),
    File(PathBuf),
}

impl Text {
    pub(super) fn effective(&self) -> Value {
        match self {
            Self::File(path) => json!(path),
            // Variables are expanded in it by now, and they may be secrets.
            Self::Inline(text) => json!(format!("({} bytes)", text.len())),
        }
    }
}

/// Reads all entries, and finds those that are in each other's way.
pub(super) fn read_all(sections: &[Section<'_>]) -> Vec<FileSpec> {
    let read: Vec<_> = sections.iter().map(read).collect();
    let paths: Vec<_> = read.iter().map(|(path, _)| path.clone()).collect();
    for clash in path::clashes(&paths) {
        sections[clash.later].fault("path", Invalid::new(clash.message));
    }
    read.into_iter().filter_map(|(_, spec)| spec).collect()
}

/// One entry; its path also where the rest of it has faults, to find clashes.
fn read(section: &Section<'_>) -> (Option<RelPath>, Option<FileSpec>) {
    let path = section.required("path", |text| Ok((RelPath::parse(text)?, text.ends_with('/'))));
    let mode = section.value("mode", units::mode);
    let owner = section.value("owner", owner);
    let is_secret = section.switch("secret");
    let checks = Check::read_all(section);
    let template = section.value("template", units::path).map(Text::File).map(Source::Template);
    let inline = section.value("inline", |text| Ok(text.to_owned())).map(Text::Inline).map(Source::Template);
    let copy = section.value("copy", units::path).map(Source::Copy);
    let envsubst = Envsubst::read(section).map(Source::Envsubst);
    let url = Remote::read(section, "url").map(Source::Url);
    let archive = Archive::read(section).map(Source::Archive);
    let env = EnvFile::read(section).map(Source::Env);

    let given: Vec<_> = SOURCES.iter().filter(|key| section.has(key)).collect();
    match given[..] {
        [_] => {}
        [] => section.fault_here(
            Invalid::new("has no source").hint(format!("give it one of `{}`", SOURCES.join("`, `"))),
        ),
        [first, second, ..] => {
            section.fault(second, Invalid::new(format!("stands beside `{first}`, and a file has one source")))
        }
    }
    let Some((path, names_directory)) = path else { return (None, None) };
    let Some(source) = template.or(inline).or(envsubst).or(copy).or(url).or(archive).or(env) else {
        return (Some(path), None);
    };
    match &source {
        Source::Archive(_) if !names_directory => section.fault(
            "path",
            Invalid::new(format!("\"{path}\" is to hold an archive, and that is a directory"))
                .hint(format!("write \"{path}/\"")),
        ),
        source if names_directory && !source.may_be_directory() => section.fault(
            "path",
            Invalid::new(format!("\"{path}/\" names a directory, and only `copy` and `archive` make one")),
        ),
        _ => {}
    }
    let spec = FileSpec { path: path.clone(), names_directory, source, mode, owner, is_secret, checks };
    (Some(path), Some(spec))
}

fn owner(text: &str) -> Result<Owner, Invalid> {
    let bad = || {
        Invalid::new(format!("{text:?} is not a user and a group by number"))
            .hint("write it as \"1000:1000\"")
    };
    let (user, group) = text.split_once(':').ok_or_else(bad)?;
    let number = |text: &str| text.parse().map_err(|_| bad());
    Ok(Owner { user: number(user)?, group: number(group)? })
}

impl FileSpec {
    pub(super) fn effective(&self) -> Value {
        let slash = if self.names_directory { "/" } else { "" };
        let mut shown = json!({ "path": format!("{}{slash}", self.path) });
        match &self.source {
            Source::Template(text @ Text::File(_)) => shown["template"] = text.effective(),
            Source::Template(text) => shown["inline"] = text.effective(),
            Source::Envsubst(envsubst) => shown["envsubst"] = envsubst.effective(),
            Source::Copy(path) => shown["copy"] = json!(path),
            Source::Url(remote) => remote.show("url", &mut shown),
            Source::Archive(archive) => archive.show(&mut shown),
            Source::Env(env) => shown["env"] = env.effective(),
        }
        if !self.checks.is_empty() {
            shown["check"] = self.checks.iter().map(Check::effective).collect();
        }
        if let Some(mode) = self.mode {
            shown["mode"] = json!(format!("{mode:04o}"));
        }
        if let Some(Owner { user, group }) = self.owner {
            shown["owner"] = json!(format!("{user}:{group}"));
        }
        if self.is_secret {
            shown["secret"] = json!(true);
        }
        shown
    }
}
