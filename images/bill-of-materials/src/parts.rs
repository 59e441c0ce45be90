//! Rust's own library, the C library and the compiler's: in each binary, and no crates. Its bytes tell which they are.

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

/// Rust's own library and the C library; a static binary has both in it. What unwinds the stack comes with Rust for musl,
/// and from GCC for glibc.
pub(crate) fn of_binary(binary: &Path, bytes: &[u8]) -> Result<Vec<Part>, Error> {
    let rust =
        word_after(bytes, "rustc version ").ok_or_else(|| Error::NoCompiler { path: binary.to_owned() })?;
    let std = Part {
        name: "rust-std",
        licence: "MIT OR Apache-2.0",
        from: format!("https://static.rust-lang.org/dist/rustc-{rust}-src.tar.xz"),
        version: Some(rust),
    };
    let mut parts = vec![std];
    // glibc looks for its tunables at the start. Which one it is, only the machine that it is from can tell: this one.
    if word_after(bytes, "GLIBC_TUNABLES").is_some() {
        let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
        let version = told.ok().and_then(|output| word_after(&output.stdout, "glibc "));
        let glibc = Part {
            name: "glibc",
            version,
            licence: "LGPL-2.1-or-later",
            from: "https://ftp.gnu.org/gnu/glibc/".to_owned(),
        };
        // `GCC: (Debian 12.2.0-14) 12.2.0`, in the section `.comment`.
        let version = after(bytes, "GCC: (").and_then(|told| word_after(told, ") "));
        let libgcc = Part {
            name: "libgcc",
            version,
            licence: "GPL-3.0-or-later WITH GCC-exception-3.1",
            from: "https://ftp.gnu.org/gnu/gcc/".to_owned(),
        };
        parts.extend([glibc, libgcc]);
    } else {
        parts.push(Part {
            name: "musl",
            version: None,
            licence: "MIT",
            from: "https://musl.libc.org/releases/".to_owned(),
        });
    }
    Ok(parts)
}

/// What follows this text, where it is first found.
fn after<'a>(bytes: &'a [u8], text: &str) -> Option<&'a [u8]> {
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes())?;
    Some(&bytes[at + text.len()..])
}

/// The text between this one, where it is first found, and the next space, line end or NUL.
fn word_after(bytes: &[u8], text: &str) -> Option<String> {
    let word = after(bytes, text)?.split(|byte| b" \n\0".contains(byte)).next()?;
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

    #[test]
    fn with_glibc_comes_the_library_of_gcc() {
        let parts = |bytes: &[u8]| {
            let parts = of_binary(Path::new("app"), bytes).unwrap();
            parts.into_iter().map(|part| (part.name, part.version)).collect::<Vec<_>>()
        };
        let rust = ("rust-std", Some("1.95.0".to_owned()));
        let musl = parts(b"rustc version 1.95.0 (x)\0GCC: (Debian 12.2.0-14+deb12u1) 12.2.0\0");
        assert_eq!(musl, [rust.clone(), ("musl", None)]);
        let told = b"GLIBC_TUNABLES\0rustc version 1.95.0 (x)\0GCC: (Debian 12.2.0-14+deb12u1) 12.2.0\0";
        let glibc = parts(told);
        assert_eq!((&glibc[0], glibc[1].0), (&rust, "glibc"));
        assert_eq!(glibc[2], ("libgcc", Some("12.2.0".to_owned())));
        assert_eq!(parts(b"GLIBC_TUNABLES\0rustc version 1.95.0\0")[2], ("libgcc", None));
    }
}
