//! One file before and after as a unified diff. Pure: bytes in, text out. What must not be shown is decided by the
//! caller, and is told by its sizes.

use std::fmt::Write as _;

use similar::TextDiff;

use crate::config::Owner;
use crate::path::RelPath;

/// A text that is larger takes long to compare, and nobody reads the outcome.
pub(crate) const LARGEST: u64 = 1 << 20;

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";

/// One side of a comparison.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side<'a> {
    pub(crate) mode: u32,
    /// Where one is asked for.
    pub(crate) owner: Option<Owner>,
    pub(crate) size: u64,
    pub(crate) shown: Shown<'a>,
}

/// How much of a side may be seen.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shown<'a> {
    Text(&'a str),
    Binary,
    /// The bytes of the other side.
    Same,
    /// In a word why it is not shown: `secret`, `large`.
    Not(&'static str),
}

/// The bytes as text, if they are one.
pub(crate) fn as_text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// The diff of one file. A side that is missing was created or is removed.
pub(crate) fn file(path: &RelPath, old: Option<Side<'_>>, new: Option<Side<'_>>) -> String {
    let name = |side: Option<Side<'_>>, prefix: &str| match side {
        Some(_) => format!("{prefix}/{path}"),
        None => "/dev/null".to_owned(),
    };
    let (a, b) = (name(old, "a"), name(new, "b"));
    let mut text = String::new();
    match (old, new) {
        (Some(old), Some(new)) if old.mode != new.mode => {
            let _ = writeln!(text, "{b}: mode {:04o} -> {:04o}", old.mode, new.mode);
        }
        (None, Some(new)) => {
            let _ = writeln!(text, "{b}: mode {:04o}", new.mode);
        }
        _ => {}
    }
    let size = |side: Option<Side<'_>>| side.map_or(0, |side| side.size);
    let sizes = format!("{} -> {} bytes", size(old), size(new));
    match (old.map(|old| old.shown), new.map(|new| new.shown)) {
        (Some(Shown::Not(why)), _) | (_, Some(Shown::Not(why))) => {
            let _ = writeln!(text, "--- {a}\n+++ {b}\nFiles differ ({why}, {sizes})");
        }
        (Some(Shown::Same), Some(Shown::Same)) => {
            if let (true, Some(owner)) = (text.is_empty(), new.and_then(|new| new.owner)) {
                let _ = writeln!(text, "{b}: owner {}:{}", owner.user, owner.group);
            }
        }
        (Some(Shown::Binary), _) | (_, Some(Shown::Binary)) => {
            let _ = writeln!(text, "Binary files {a} and {b} differ ({sizes})");
        }
        (Some(Shown::Text(old_text)), Some(Shown::Text(new_text))) if old_text == new_text => {
            // The same but for what is masked.
            let _ = writeln!(text, "--- {a}\n+++ {b}\nFiles differ (secret, {sizes})");
        }
        (old, new) => {
            let [old_text, new_text] = [old, new].map(|shown| match shown {
                Some(Shown::Text(text)) => text,
                _ => "",
            });
            if old_text == new_text {
                let _ = writeln!(text, "--- {a}\n+++ {b}");
            } else {
                let diff = TextDiff::from_lines(old_text, new_text);
                let _ = write!(text, "{}", diff.unified_diff().header(&a, &b));
            }
        }
    }
    text
}

/// The same with the colours that `git diff` and `kubectl diff` have.
pub(crate) fn coloured(diff: &str) -> String {
    let mut out = String::with_capacity(diff.len() * 2);
    let mut in_hunk = false;
    for line in diff.split_inclusive('\n') {
        let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
        in_hunk |= body.starts_with("@@");
        let colour = match body.as_bytes().first() {
            Some(b'@') => CYAN,
            Some(b'-') if in_hunk => RED,
            Some(b'+') if in_hunk => GREEN,
            Some(b' ' | b'\\') if in_hunk => "",
            _ => BOLD,
        };
        if colour.is_empty() || body.is_empty() {
            out.push_str(line);
        } else {
            let _ = write!(out, "{colour}{body}{PLAIN}{end}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Option<Side<'_>> {
        Some(Side { mode: 0o644, owner: None, size: text.len() as u64, shown: Shown::Text(text) })
    }

    fn diff(old: Option<Side<'_>>, new: Option<Side<'_>>) -> String {
        file(&RelPath::parse("d/app.yaml").unwrap(), old, new)
    }

    #[test]
    fn texts_differ_line_by_line() {
        assert_eq!(
            diff(text("a\nb\nc\n"), text("a\nB\nc")),
            "--- a/d/app.yaml\n+++ b/d/app.yaml\n@@ -1,3 +1,3 @@\n a\n-b\n-c\n+B\n+c\n\\ No newline at end of file\n"
        );
        assert_eq!(
            diff(None, text("x\n")),
            "b/d/app.yaml: mode 0644\n--- /dev/null\n+++ b/d/app.yaml\n@@ -0,0 +1 @@\n+x\n"
        );
        assert_eq!(diff(None, text("")), "b/d/app.yaml: mode 0644\n--- /dev/null\n+++ b/d/app.yaml\n");
    }

    #[test]
    fn a_mode_is_a_line_and_so_is_an_owner() {
        let old = Side { mode: 0o600, ..text("x").unwrap() };
        let same = |mode, owner| Some(Side { mode, owner, size: 1, shown: Shown::Same });
        assert_eq!(diff(same(0o600, None), same(0o644, None)), "b/d/app.yaml: mode 0600 -> 0644\n");
        let owner = Some(Owner { user: 1000, group: 2000 });
        assert_eq!(diff(same(0o600, None), same(0o600, owner)), "b/d/app.yaml: owner 1000:2000\n");
        assert!(
            diff(Some(old), text("y")).starts_with("b/d/app.yaml: mode 0600 -> 0644\n--- a/d/app.yaml\n")
        );
    }

    #[test]
    fn what_is_not_shown_is_told_by_its_size() {
        let side = |shown, size| Some(Side { mode: 0o644, owner: None, size, shown });
        assert_eq!(
            diff(side(Shown::Binary, 3), text("x")),
            "Binary files a/d/app.yaml and b/d/app.yaml differ (3 -> 1 bytes)\n"
        );
        assert_eq!(
            diff(side(Shown::Not("secret"), 3), None),
            "--- a/d/app.yaml\n+++ /dev/null\nFiles differ (secret, 3 -> 0 bytes)\n"
        );
        assert_eq!(
            diff(text("p: ***\n"), side(Shown::Text("p: ***\n"), 12)),
            "--- a/d/app.yaml\n+++ b/d/app.yaml\nFiles differ (secret, 7 -> 12 bytes)\n"
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_binary() {
        assert_eq!(as_text("ü".as_bytes()), Some("ü"));
        assert_eq!((as_text(b"a\0b"), as_text(b"\xff")), (None, None));
    }

    #[test]
    fn colours_are_those_of_git() {
        assert_eq!(
            coloured("b/x: mode 0644\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n c\n"),
            "\x1b[1mb/x: mode 0644\x1b[0m\n\x1b[1m--- a/x\x1b[0m\n\x1b[1m+++ b/x\x1b[0m\n\x1b[36m@@ -1 +1 @@\x1b[0m\n\
             \x1b[31m-a\x1b[0m\n\x1b[32m+b\x1b[0m\n c\n"
        );
    }
}
