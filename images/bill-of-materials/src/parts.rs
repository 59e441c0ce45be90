//! Rust's own library and the C library: in each binary, and no crates. Its bytes tell which they are.

use std::{path::Path, process::Command};

use crate::error::Error;

/// What is in the binary without being a crate.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) version: Option<String>,
    pub(crate) licence: &'static str,
    /// Where its source is.
    pub(crate) from: String,
}

/// Rust's own library and the C library; a static binary has both in it.
pub(crate) fn of_binary(binary: &Path, bytes: &[u8]) -> Result<Vec<Part>, Error> {
    let rust =
        word_after(bytes, "rustc version ").ok_or_else(|| Error::NoCompiler { path: binary.to_owned() })?;
    let std = Part {
        name: "rust-std",
        licence: "MIT OR Apache-2.0",
        from: format!("https://static.rust-lang.org/dist/rustc-{rust}-src.tar.xz"),
        version: Some(rust),
    };
    // glibc looks for its tunables at the start. Which one it is, only the machine that it is from can tell: this one.
    let libc = if word_after(bytes, "GLIBC_TUNABLES").is_some() {
        let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
        let version = told.ok().and_then(|output| word_after(&output.stdout, "glibc "));
        Part {
            name: "glibc",
            version,
            licence: "LGPL-2.1-or-later",
            from: "https://ftp.gnu.org/gnu/glibc/".to_owned(),
        }
    } else {
        Part {
            name: "musl",
            version: None,
            licence: "MIT",
            from: "https://musl.libc.org/releases/".to_owned(),
        }
    };
    Ok(vec![std, libc])
}

/// The text between this one, where it is first found, and the next space, line end or NUL.
fn word_after(bytes: &[u8], text: &str) -> Option<String> {
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes())? + text.len();
    let word = bytes[at..].split(|byte| b" \n\0".contains(byte)).next()?;
    Some(String::from_utf8_lossy(word).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_a_binary() {
        assert_eq!(word_after(b"\0rustc version 1.95.0 (x)\0", "rustc version ").as_deref(), Some("1.95.0"));
        assert_eq!(word_after(b"glibc 2.36\n", "glibc ").as_deref(), Some("2.36"));
        assert_eq!(word_after(b"short", "rustc version "), None);
    }
}
