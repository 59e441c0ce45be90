//! The list of crates that a binary carries, in `cargo auditable`'s format: which are in it, and which took part in its
//! build only. `cargo tree` knows: it resolves features as the build does, for these packages and this target.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use auditable_serde::{DependencyKind, Package, Source, VersionInfo};
use semver::Version;

use crate::error::Error;

/// As `cargo auditable` with a stable cargo: procedural macros and what they need count as of the build.
const FORMAT: u32 = 1;
/// Miniz's best; the list is small.
const LEVEL: u8 = 10;

/// The bytes for the section `.dep-v0` of the binary of `root`, from a build of `packages` in one go for `target`.
pub(crate) fn from_cargo(root: &str, target: &str, packages: &[&str]) -> Result<Vec<u8>, Error> {
    let tree = |edges| -> Result<Tree, Error> {
        let mut args = vec!["tree", "--locked", "--charset", "ascii", "--prefix", "depth", "--format", "{p}"];
        args.extend(["--target", target, "--edges", edges]);
        for package in packages {
            args.extend(["--package", package]);
        }
        Tree::parse(&cargo(&args)?)
    };
    let info = version_info(root, &tree("normal,no-proc-macro")?, &tree("normal,build")?)?;
    let json = serde_json::to_vec(&info).map_err(Error::Metadata)?;
    Ok(miniz_oxide::deflate::compress_to_vec_zlib(&json, LEVEL))
}

/// What this prints, under the tree that we stand in.
pub(crate) fn cargo(args: &[&str]) -> Result<String, Error> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let command = || format!("cargo {}", args.join(" "));
    let output = Command::new(cargo)
        .args(args)
        .output()
        .map_err(|source| Error::Start { command: command(), source })?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Failed { command: command(), told });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A crate at a version: Cargo.lock has each once from one source.
type Id = (String, Version);

/// What `cargo tree` prints, as a graph. What is printed more than once is one node.
#[derive(Debug, Default)]
struct Tree {
    /// Whether it is of this tree, not of a registry.
    local: BTreeMap<Id, bool>,
    edges: BTreeMap<Id, BTreeSet<Id>>,
}

impl Tree {
    fn parse(text: &str) -> Result<Self, Error> {
        let mut tree = Tree::default();
        let mut path: Vec<Id> = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let strange = || Error::Output { command: "cargo tree", line: line.to_owned() };
            let name_at = line.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(strange)?;
            let depth: usize = line[..name_at].parse().map_err(|_| strange())?;
            let mut words = line[name_at..].split(' ');
            let (Some(name), Some(version)) = (words.next(), words.next()) else { return Err(strange()) };
            let version =
                version.strip_prefix('v').and_then(|text| Version::parse(text).ok()).ok_or_else(strange)?;
            if depth > path.len() {
                return Err(strange());
            }
            let id = (name.to_owned(), version);
            tree.local.insert(id.clone(), words.any(|word| word.starts_with("(/")));
            path.truncate(depth);
            if let Some(parent) = path.last() {
                tree.edges.entry(parent.clone()).or_default().insert(id.clone());
            }
            path.push(id);
        }
        Ok(tree)
    }

    /// All that the crate leads to, with itself.
    fn reached_from(&self, root: &Id) -> BTreeSet<Id> {
        let mut reached = BTreeSet::new();
        let mut ahead = vec![root.clone()];
        while let Some(id) = ahead.pop() {
            ahead.extend(self.edges.get(&id).into_iter().flatten().cloned());
            reached.insert(id);
            ahead.retain(|id| !reached.contains(id));
        }
        reached
    }
}

/// Sorted by name and version: the same tree gives the same list.
fn version_info(root: &str, runtime: &Tree, all: &Tree) -> Result<VersionInfo, Error> {
    let root = all
        .local
        .keys()
        .find(|(name, _)| name == root)
        .ok_or_else(|| Error::NoRoot { name: root.to_owned() })?;
    let inside = runtime.reached_from(root);
    let listed = all.reached_from(root);
    let index: BTreeMap<&Id, usize> = listed.iter().enumerate().map(|(index, id)| (id, index)).collect();
    let package = |id: &Id| Package {
        name: id.0.clone(),
        version: id.1.clone(),
        source: if all.local[id] { Source::Local } else { Source::CratesIo },
        kind: if inside.contains(id) { DependencyKind::Runtime } else { DependencyKind::Build },
        dependencies: all.edges.get(id).into_iter().flatten().map(|id| index[id]).collect(),
        root: id == root,
    };
    Ok(VersionInfo { packages: listed.iter().map(package).collect(), format: FORMAT })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNTIME: &str = "0app v0.1.0 (/tree/app)\n1shared v0.1.0 (/tree/shared)\n2libc v0.2.1\n1sys v1.0.0\n2libc v0.2.1\n\n\
         0other v0.1.0 (/tree/other)\n1shared v0.1.0 (/tree/shared) (*)\n1tokio v1.2.3\n";
    const ALL: &str = "0app v0.1.0 (/tree/app)\n1shared v0.1.0 (/tree/shared)\n2derive v2.0.0 (proc-macro)\n\
         3quote v1.0.0\n2libc v0.2.1\n1sys v1.0.0\n2libc v0.2.1\n2cc v1.1.1+a\n\n\
         0other v0.1.0 (/tree/other)\n1shared v0.1.0 (/tree/shared) (*)\n1tokio v1.2.3\n";

    fn listed(root: &str) -> Vec<String> {
        let info = version_info(root, &Tree::parse(RUNTIME).unwrap(), &Tree::parse(ALL).unwrap()).unwrap();
        let name = |package: &Package| {
            let needs: Vec<&str> =
                package.dependencies.iter().map(|index| info.packages[*index].name.as_str()).collect();
            let local = if package.source == Source::Local { " local" } else { "" };
            let root = if package.root { " root" } else { "" };
            let build = if package.kind == DependencyKind::Build { " build" } else { "" };
            format!("{} {}{local}{root}{build} -> {}", package.name, package.version, needs.join(","))
        };
        info.packages.iter().map(name).collect()
    }

    #[test]
    fn what_is_in_the_binary_and_what_only_built_it() {
        let expected = [
            "app 0.1.0 local root -> shared,sys",
            "cc 1.1.1+a build -> ",
            "derive 2.0.0 build -> quote",
            "libc 0.2.1 -> ",
            "quote 1.0.0 build -> ",
            "shared 0.1.0 local -> derive,libc",
            "sys 1.0.0 -> cc,libc",
        ];
        assert_eq!(listed("app"), expected);
    }

    #[test]
    fn a_package_of_the_same_build_is_not_listed_but_what_it_shares_is() {
        let expected = [
            "derive 2.0.0 build -> quote",
            "libc 0.2.1 -> ",
            "other 0.1.0 local root -> shared,tokio",
            "quote 1.0.0 build -> ",
            "shared 0.1.0 local -> derive,libc",
            "tokio 1.2.3 -> ",
        ];
        assert_eq!(listed("other"), expected);
    }

    #[test]
    fn a_line_that_is_not_a_crate_is_an_error() {
        for line in ["warning: unused", "0app", "0app 1.0.0", "1app v1.0.0", "0app vone"] {
            let error = Tree::parse(line).unwrap_err();
            assert!(matches!(error, Error::Output { .. }), "{line}: {error}");
        }
    }
}
