//! The lines that a container runtime writes: `2026-11-22T05:00:00.123456789Z stdout F text`. A line of the app that
//! was too long is in several, all but the last marked `P`.

/// One line of a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CriLine<'a> {
    /// RFC 3339.
    pub(crate) time: &'a str,
    /// `stdout` or `stderr`.
    pub(crate) stream: &'a str,
    /// The app's line goes on in the next line of the same stream.
    pub(crate) partial: bool,
    /// What the app wrote.
    pub(crate) content: &'a str,
}

/// Splits a line; `None` where it is not a runtime's.
pub(crate) fn split(line: &str) -> Option<CriLine<'_>> {
    let (time, rest) = line.split_once(' ')?;
    let (stream, rest) = rest.split_once(' ')?;
    let (tags, content) = rest.split_once(' ').unwrap_or((rest, ""));
    // Tags are parted by colons; the first tells whether the line is full.
    let partial = match tags.split(':').next()? {
        "P" => true,
        "F" => false,
        _ => return None,
    };
    let timed = time.len() >= "2026-11-22T05:00:00Z".len() && time.as_bytes()[0].is_ascii_digit();
    let known = matches!(stream, "stdout" | "stderr");
    (timed && known).then_some(CriLine { time, stream, partial, content })
}

/// The same for bytes that were not looked at yet: what is not UTF-8 can only be in the content.
pub(crate) fn split_bytes(line: &[u8]) -> Option<(CriLine<'_>, &[u8])> {
    /// Longer than any time, stream and tags.
    const HEAD: usize = 80;
    let head = &line[..line.len().min(HEAD)];
    let end = memchr::memchr_iter(b' ', head).nth(2).map_or(head.len(), |at| at + 1);
    let found = split(std::str::from_utf8(&head[..end]).ok()?)?;
    Some((found, &line[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_of_a_runtime_is_split() {
        let line = "2026-11-22T05:00:00.123456789Z stderr P  two  words ";
        let found = split(line).unwrap();
        assert_eq!((found.time, found.stream), ("2026-11-22T05:00:00.123456789Z", "stderr"));
        assert_eq!((found.partial, found.content), (true, " two  words "));
        assert!(!split("2026-11-22T05:00:00.1+02:00 stdout F x").unwrap().partial);
        assert_eq!(split("2026-11-22T05:00:00.1Z stdout F ").unwrap().content, "");
        assert_eq!(split("2026-11-22T05:00:00.1Z stdout F").unwrap().content, "");
        assert!(split("2026-11-22T05:00:00.1Z stdout P:x y").unwrap().partial);
    }

    #[test]
    fn other_lines_are_none() {
        for line in [
            "",
            "x",
            "2026-11-22T05:00:00Z",
            "a stdout F x",
            "2026-11-22T05:00:00Z stdin F x",
            "2026-11-22T05:00:00Z stdout X x",
        ] {
            assert_eq!(split(line), None, "{line}");
            assert_eq!(split_bytes(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn content_may_be_any_bytes() {
        let (line, content) = split_bytes(b"2026-11-22T05:00:00.1Z stdout F a\xff b").unwrap();
        assert_eq!((line.stream, line.partial, content), ("stdout", false, &b"a\xff b"[..]));
    }

    proptest! {
        #[test]
        fn no_byte_of_the_content_is_lost(content in "\\PC{0,40}") {
            let line = format!("2026-11-22T05:00:00Z stdout F {content}");
            prop_assert_eq!(split(&line).unwrap().content, content.as_str());
            prop_assert_eq!(split_bytes(line.as_bytes()).unwrap().1, content.as_bytes());
        }

        #[test]
        fn no_bytes_make_it_panic(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            split_bytes(&line);
        }
    }
}
