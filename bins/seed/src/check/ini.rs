//! INI: sections, `name = value` or `name: value`, comments with `;` or `#`, and nothing else.
//!
//! Its parsers differ in what they let pass; a line that is none of these is a mistake for most of them.

use super::Fault;

pub(super) fn check(text: &str) -> Result<(), Fault> {
    for (index, line) in text.lines().enumerate() {
        let start = line.chars().take_while(|letter| letter.is_whitespace()).count();
        let fault = |why: &str| Err(Fault::new(index + 1, start + 1, why));
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            let Some((name, rest)) = section.split_once(']') else {
                return fault("a section without its `]`");
            };
            let rest = rest.trim_start();
            if name.trim().is_empty() {
                return fault("a section without a name");
            }
            if !rest.is_empty() && !rest.starts_with([';', '#']) {
                return fault("there is more after the `]` of a section");
            }
            continue;
        }
        match line.split_once(['=', ':']) {
            Some(("", _)) => return fault("a value without a name"),
            Some(_) => {}
            None => return fault("neither a section, nor `name = value`, nor a comment"),
        }
    }
    Ok(())
}
