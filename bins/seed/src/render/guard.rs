//! Refuses templates that the engine would run out of stack on. It bounds how deep brackets and blocks are nested, but
//! takes stack for each link of a chain too: of operators, filters, calls, `elif`.

/// More in one `{{ … }}` or `{% … %}` is data, which belongs into a file of values.
const LONGEST_TAG: usize = 8 << 10;

/// A sign is the one link of a chain that takes a single byte.
const MOST_SIGNS: usize = 2000;

/// Branches of one `if`; more of them are a mapping.
const MOST_BRANCHES: usize = 500;

/// Why a template is not parsed, with the line, if it is not.
pub(super) fn refuse(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    let mut branches = 0;
    let mut at = 0;
    while let Some(begin) = text[at..].find('{').map(|found| at + found) {
        let Some(close) = close_of(bytes.get(begin + 1)) else {
            at = begin + 1;
            continue;
        };
        let Some(length) = text[begin + 2..].find(close) else { return Ok(()) };
        let tag = &text[begin + 2..begin + 2 + length];
        let line = || 1 + text[..begin].matches('\n').count();
        let is_comment = close == "#}";
        let signs = || tag.split(|letter| letter != '-').any(|signs| signs.len() > MOST_SIGNS);
        if !is_comment && (length > LONGEST_TAG || signs()) {
            let most = LONGEST_TAG >> 10;
            return Err(format!(
                "line {}: more than {most} KiB between the braces; put data into values",
                line()
            ));
        }
        match tag.trim_start_matches(['-', '+', ' ', '\t', '\n', '\r']) {
            tag if tag.starts_with("elif") => branches += 1,
            tag if tag.starts_with("if") => branches = 0,
            _ => {}
        }
        if branches > MOST_BRANCHES {
            return Err(format!("line {}: more than {MOST_BRANCHES} branches of one `if`", line()));
        }
        at = begin + 2 + length;
    }
    Ok(())
}

/// What ends a tag by what follows its brace; comments are skipped whole.
fn close_of(byte: Option<&u8>) -> Option<&'static str> {
    match byte? {
        b'{' => Some("}}"),
        b'%' => Some("%}"),
        b'#' => Some("#}"),
        _ => None,
    }
}
