//! What Cargo knows of the crates by name and version: licence, checksum, where they are from.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;

use crate::{error::Error, list::cargo};

/// Of one crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) licence: Option<String>,
    pub(crate) origin: Origin,
}

/// Where its source comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// crates.io, with the SHA-256 of the archive.
    Registry { sha256: String },
    /// A directory of this tree, relative to its root; the tree's own repository.
    Tree { directory: String, repository: Option<String> },
}

/// By name and version.
pub(crate) type Facts = BTreeMap<(String, String), Fact>;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Described>,
    workspace_root: String,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    version: String,
    license: Option<String>,
    repository: Option<String>,
    manifest_path: String,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// Of every crate in Cargo.lock, whichever target it is for.
pub(crate) fn gather() -> Result<Facts, Error> {
    let metadata: Metadata =
        serde_json::from_str(&cargo(&["metadata", "--locked", "--format-version", "1"])?)
            .map_err(Error::Metadata)?;
    let path = Path::new(&metadata.workspace_root).join("Cargo.lock");
    let text = fs::read_to_string(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
    let lock: Lock = toml::from_str(&text).map_err(|source| Error::Lock { path, source })?;
    Ok(join(metadata, lock))
}

fn join(metadata: Metadata, lock: Lock) -> Facts {
    let mut checksums: BTreeMap<(String, String), Option<String>> =
        lock.package.into_iter().map(|locked| ((locked.name, locked.version), locked.checksum)).collect();
    let known = metadata.packages.into_iter().filter_map(|described| {
        let id = (described.name, described.version);
        let origin = match checksums.remove(&id)? {
            Some(sha256) => Origin::Registry { sha256 },
            None => Origin::Tree {
                directory: relative(&described.manifest_path, &metadata.workspace_root),
                repository: described.repository,
            },
        };
        let licence = described.license.map(|text| expression(&text));
        Some((id, Fact { licence, origin }))
    });
    known.collect()
}

fn relative(manifest: &str, root: &str) -> String {
    let directory = Path::new(manifest).parent().unwrap_or(Path::new(""));
    directory.strip_prefix(root).unwrap_or(directory).to_string_lossy().into_owned()
}

/// Cargo took `MIT/Apache-2.0` for a choice once; SPDX never has.
fn expression(text: &str) -> String {
    text.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_of_licences_is_an_spdx_expression() {
        for old in ["MIT/Apache-2.0", "MIT / Apache-2.0", "MIT OR Apache-2.0"] {
            assert_eq!(expression(old), "MIT OR Apache-2.0");
        }
    }

    #[test]
    fn every_crate_of_the_lock_file_has_its_facts() {
        let facts = gather().unwrap();
        let Fact { licence, origin } =
            &facts[&("podkit-cli".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
        assert_eq!(licence.as_deref(), Some("Apache-2.0"));
        let repository = Some("https://github.com/podkit/podkit".to_owned());
        assert_eq!(*origin, Origin::Tree { directory: "shared/cli".to_owned(), repository });
        let (_, serde) = facts.iter().find(|((name, _), _)| name == "serde").unwrap();
        assert_eq!(serde.licence.as_deref(), Some("MIT OR Apache-2.0"));
        assert!(matches!(&serde.origin, Origin::Registry { sha256 } if sha256.len() == 64));
        assert!(facts.values().all(|fact| fact.licence.is_some()));
    }
}
