//! What can go wrong: another program, a file, or a form that is not the one we know.

use std::{io, path::PathBuf};

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot run `{command}`")]
    Start { command: String, source: io::Error },
    #[error("`{command}` failed: {told}")]
    Failed { command: String, told: String },
    #[error("`{command}` printed what is not understood: {line:?}")]
    Output { command: &'static str, line: String },
    #[error("cannot read {path:?}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path:?} is not TOML")]
    Lock { path: PathBuf, source: toml::de::Error },
    #[error("cannot understand `cargo metadata`")]
    Metadata(#[source] serde_json::Error),
    #[error("{path:?} carries no list of what it is made of; images/binaries puts it in")]
    NoList { path: PathBuf, source: auditable_info::Error },
    #[error("{path:?} does not say which rustc made it")]
    NoCompiler { path: PathBuf },
    #[error(
        "{name} {version} is in the binary's list, but not in Cargo.lock: it was built from another tree"
    )]
    Unknown { name: String, version: String },
    #[error("{name} is not in the list of packages that `cargo tree` prints")]
    NoRoot { name: String },
    #[error(
        "SOURCE_DATE_EPOCH is not the seconds since 1970, up to the year 9999, that the SBOM is to be dated with: {0:?}"
    )]
    Date(String),
    #[error("cannot write to stdout")]
    Write(#[source] io::Error),
}

/// The error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}
