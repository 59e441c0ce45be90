//! Java's properties, as `java.util.Properties.load` reads them.
//!
//! All but any bytes are such a file. What is refused is what Java refuses, a `\u` without its four digits, and a value
//! without a name, which Java takes and nobody means. In bytes: they are Latin-1 for some readers, UTF-8 for others.

use super::Fault;

pub(super) fn check(bytes: &[u8]) -> Result<(), Fault> {
    // A logical line that goes on after a backslash, and where it began.
    let mut open: Option<(usize, Vec<u8>)> = None;
    for (index, line) in lines(bytes).enumerate() {
        let text = line.trim_ascii_start();
        let is_comment = matches!(text.first(), None | Some(b'#' | b'!'));
        if open.is_none() && is_comment {
            continue;
        }
        let (start, mut logical) = open.take().unwrap_or((index + 1, Vec::new()));
        let escapes = text.iter().rev().take_while(|byte| **byte == b'\\').count();
        if escapes % 2 == 1 {
            logical.extend_from_slice(&text[..text.len() - 1]);
            open = Some((start, logical));
        } else {
            logical.extend_from_slice(text);
            check_line(&logical, start)?;
        }
    }
    match open {
        Some((start, logical)) => check_line(&logical, start),
        None => Ok(()),
    }
}

/// Lines as Java splits them: after `\n`, `\r` or both.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').flat_map(|line| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line).split(|byte| *byte == b'\r')
    })
}

fn check_line(line: &[u8], number: usize) -> Result<(), Fault> {
    if matches!(line.first(), Some(b'=' | b':')) {
        return Err(Fault::new(number, 0, "a value without a name"));
    }
    let mut rest = line;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        let escape = &rest[at + 1..];
        if escape.first() == Some(&b'u')
            && !escape.get(1..5).is_some_and(|four| four.iter().all(u8::is_ascii_hexdigit))
        {
            return Err(Fault::new(number, 0, "a `\\u` without four hexadecimal digits"));
        }
        rest = escape.get(1..).unwrap_or_default();
    }
    Ok(())
}
