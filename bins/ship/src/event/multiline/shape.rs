//! What single lines of traces look like, language by language. Pure.

pub(super) fn has(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

/// `{..}`: near enough to an object to be an event of its own.
pub(super) fn is_object(line: &[u8]) -> bool {
    // Most lines are told by their first byte.
    matches!(line.first(), Some(b'{' | b' ' | b'\t')) && {
        let text = line.trim_ascii();
        text.starts_with(b"{\"") && text.ends_with(b"}")
    }
}

/// Python's first line; Ruby's too, where it shows the last call last.
pub(super) fn is_traceback(line: &[u8]) -> bool {
    let text = line.trim_ascii_start();
    let text = text.strip_prefix(b"+ Exception Group ").unwrap_or(text);
    text.starts_with(b"Traceback (most recent call last):")
}

/// `ValueError: x`, `KeyboardInterrupt`, and Ruby's `x.rb:1:in 'f': x (RuntimeError)`.
pub(super) fn is_exception_line(text: &[u8]) -> bool {
    let name =
        text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.')).count();
    let named = name > 0 && !text[0].is_ascii_digit() && matches!(text.get(name), None | Some(b':'));
    named || is_ruby_head(text)
}

pub(super) fn is_chain(text: &[u8]) -> bool {
    text.starts_with(b"During handling of the above exception, another")
        || text.starts_with(b"The above exception was the direct cause of")
}

/// `goroutine 1 [running]:`
pub(super) fn is_goroutine(line: &[u8]) -> bool {
    line.strip_prefix(b"goroutine ").is_some_and(|rest| {
        rest.first().is_some_and(u8::is_ascii_digit) && has(rest, b" [") && line.ends_with(b"]:")
    })
}

/// `main.(*T).f(0xc000, ...)`, `panic({0x1, 0x2})`
pub(super) fn is_go_call(text: &[u8]) -> bool {
    let name = memchr::memchr2(b'(', b' ', text).unwrap_or(0);
    let (name, rest) = text.split_at(name);
    // The receiver is in parentheses too: `main.(*T)`.
    rest.starts_with(b"(") && text.ends_with(b")") && (name == b"panic" || name.contains(&b'.'))
}

/// `rax    0xca`
pub(super) fn is_register(text: &[u8]) -> bool {
    let name = text.iter().take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()).count();
    (2..=6).contains(&name) && text[name..].trim_ascii_start().starts_with(b"0x") && text[name] == b' '
}

/// `... 12 more`, `... 3 common frames omitted`
pub(super) fn is_more(text: &[u8]) -> bool {
    text.strip_prefix(b"... ").is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit))
}

/// An exception's name and message, as Java, .NET and Node show it: `java.lang.IllegalStateException: x`.
pub(super) fn is_exception(line: &[u8]) -> bool {
    const BEFORE: [&[u8]; 4] =
        [b"Unhandled exception. ", b"Unhandled Exception: ", b"Uncaught ", b"Exception in thread \""];
    let mut text = line;
    for before in BEFORE {
        if let Some(rest) = text.strip_prefix(before) {
            text = rest;
            if before.ends_with(b"\"") {
                let Some(quote) = memchr::memmem::find(rest, b"\" ") else { return false };
                text = &rest[quote + 2..];
            }
            break;
        }
    }
    let name = text
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$' | b'`' | b'+'))
        .count();
    let rest = &text[name..];
    let ends =
        rest.is_empty() || rest.starts_with(b":") || rest.starts_with(b" [") || rest.starts_with(b" (0x");
    let name = &text[..name];
    ends && (name.ends_with(b"Exception") || name.ends_with(b"Error") || name.ends_with(b"Throwable"))
}

/// `/app/x.js:3`, `file:///app/x.mjs:3`, `node:internal/modules:1`
pub(super) fn is_node_source(line: &[u8]) -> bool {
    let begins = line.starts_with(b"/") || line.starts_with(b"file:///") || line.starts_with(b"node:");
    begins
        && !line.contains(&b' ')
        && memchr::memrchr(b':', line)
            .is_some_and(|colon| colon + 1 < line.len() && line[colon + 1..].iter().all(u8::is_ascii_digit))
}

/// `/app/x.rb:1:in 'f'`, without a message: one of a list.
pub(super) fn is_ruby_frame(text: &[u8]) -> bool {
    text.ends_with(b"'") && ruby_place(text)
}

/// `/app/x.rb:1:in 'f': message (RuntimeError)`
pub(super) fn is_ruby_head(text: &[u8]) -> bool {
    text.ends_with(b")") && ruby_place(text)
}

/// Whether a text begins with a place and what was called there: `x.rb:1:in `.
fn ruby_place(text: &[u8]) -> bool {
    memchr::memmem::find(text, b":in ").is_some_and(|at| {
        let (place, call) = text.split_at(at);
        let line = place.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let path = &place[..place.len() - line];
        line > 0
            && path.len() > 1
            && path.ends_with(b":")
            && !path.contains(&b' ')
            && matches!(call.get(4), Some(b'`' | b'\''))
    })
}

/// `ActionView::Template::Error (message):`
pub(super) fn is_rails_head(line: &[u8]) -> bool {
    let name =
        line.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':')).count();
    line.first().is_some_and(u8::is_ascii_uppercase)
        && line[name..].starts_with(b" (")
        && line.ends_with(b"):")
}
