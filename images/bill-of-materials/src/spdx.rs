//! The SBOM of one image, SPDX 2.3 in JSON: its files, what its binary is made of, and where that is from. The same
//! binary, files and date give the same bytes.

use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    time::{Duration, SystemTime},
};

use auditable_info::audit_info_from_slice;
use auditable_serde::{DependencyKind, Package, Source, VersionInfo};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::{
    error::Error,
    facts::{self, Fact, Facts, Origin},
    parts::{self, Part},
};

const PROJECT: &str = env!("CARGO_PKG_REPOSITORY");
/// In bytes, unpacked: a list of 150 crates has 12 KB.
const LIST_AT_MOST: usize = 1 << 20;
/// The end of the year 9999, in seconds since 1970: what a date of four digits for its year can say.
const LAST: u64 = 253_402_300_799;
const IMAGE: &str = "SPDXRef-Image";
/// The bundle of authorities and the crate that it is written from: see images/rootfs.
const AUTHORITIES: (&str, &str) = ("./etc/ssl/certs/ca-certificates.crt", "webpki-roots");

/// Of the image that has this binary at its root, and these files.
pub(crate) fn of_image(binary: &Path, rootfs: &Path) -> Result<Vec<u8>, Error> {
    let bytes = read(binary)?;
    let info = audit_info_from_slice(&bytes, LIST_AT_MOST)
        .map_err(|source| Error::NoList { path: binary.to_owned(), source })?;
    let mut files = BTreeMap::new();
    collect(rootfs, ".", &mut files)?;
    let name = binary.file_name().unwrap_or_default().to_string_lossy();
    files.insert(format!("./{name}"), bytes.clone());
    let image = Image {
        info: &info,
        files: &files,
        facts: &facts::gather()?,
        parts: parts::of_binary(binary, &bytes)?,
        created: date(&env::var("SOURCE_DATE_EPOCH").unwrap_or_default())?,
        revision: env::var("REVISION").ok().filter(|revision| can_be_fetched(revision)),
    };
    let mut text = serde_json::to_vec_pretty(&image.document()?).map_err(Error::Metadata)?;
    text.push(b'\n');
    Ok(text)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// Every file below, by its path in the image.
fn collect(dir: &Path, name: &str, files: &mut BTreeMap<String, Vec<u8>>) -> Result<(), Error> {
    let failed = |source| Error::Read { path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, name) = (entry.path(), format!("{name}/{}", entry.file_name().to_string_lossy()));
        if entry.file_type().map_err(failed)?.is_dir() {
            collect(&path, &name, files)?;
        } else {
            files.insert(name, read(&path)?);
        }
    }
    Ok(())
}

/// No repository has what was never committed, nor what a tree without git calls its revision.
fn can_be_fetched(revision: &str) -> bool {
    revision != "unknown" && !revision.ends_with("-dirty")
}

fn date(text: &str) -> Result<SystemTime, Error> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= LAST);
    let since = seconds.map(Duration::from_secs).ok_or_else(|| Error::Date(text.to_owned()))?;
    Ok(SystemTime::UNIX_EPOCH + since)
}

struct Image<'a> {
    info: &'a VersionInfo,
    files: &'a BTreeMap<String, Vec<u8>>,
    facts: &'a Facts,
    parts: Vec<Part>,
    created: SystemTime,
    revision: Option<String>,
}

impl Image<'_> {
    fn document(&self) -> Result<Value, Error> {
        let root = self.info.packages.iter().find(|package| package.root);
        let root = root.ok_or_else(|| Error::NoRoot { name: "the binary".to_owned() })?;
        let name = format!("{}-{}", root.name, root.version);
        let mut packages = vec![self.image(root)];
        let inside = || self.info.packages.iter().filter(|package| package.kind == DependencyKind::Runtime);
        for package in inside() {
            packages.push(self.krate(package)?);
        }
        let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", IMAGE)];
        relations.extend(self.files.keys().map(|path| relation(IMAGE, "CONTAINS", &file_id(path))));
        let binary = file_id(&format!("./{}", root.name));
        relations.push(relation(&binary, "GENERATED_FROM", &crate_id(root)));
        for package in inside() {
            let needed = package.dependencies.iter().map(|index| &self.info.packages[*index]);
            for needed in needed.filter(|needed| needed.kind == DependencyKind::Runtime) {
                relations.push(relation(&crate_id(package), "DEPENDS_ON", &crate_id(needed)));
            }
        }
        for part in &self.parts {
            let id = format!("SPDXRef-{}", part.name);
            relations.push(relation(&binary, "STATIC_LINK", &id));
            packages.push(part.package(&id));
        }
        if self.files.contains_key(AUTHORITIES.0) {
            let source = self.authorities()?;
            relations.push(relation(&file_id(AUTHORITIES.0), "GENERATED_FROM", &crate_id(&source)));
            if !inside().any(|package| package.name == source.name) {
                packages.push(self.krate(&source)?);
            }
        }
        let mut document = json!({
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": name,
            "documentNamespace": "",
            "creationInfo": {
                "created": humantime::format_rfc3339_seconds(self.created).to_string(),
                "creators": ["Organization: podkit", concat!("Tool: bill-of-materials-", env!("CARGO_PKG_VERSION"))],
            },
            "packages": packages,
            "files": self.files.iter().map(|(path, bytes)| file(path, bytes)).collect::<Vec<_>>(),
            "relationships": relations,
        });
        // SPDX wants another name for each other document: this one is what it says.
        let digest = hex(&Sha256::digest(document.to_string()));
        document["documentNamespace"] = json!(format!("{PROJECT}/spdx/{name}-{digest}"));
        Ok(document)
    }

    fn image(&self, root: &Package) -> Value {
        let mut sums: Vec<String> = self.files.values().map(|bytes| hex(&Sha1::digest(bytes))).collect();
        sums.sort();
        json!({
            "SPDXID": IMAGE,
            "name": root.name,
            "versionInfo": root.version.to_string(),
            "primaryPackagePurpose": "CONTAINER",
            "supplier": "Organization: podkit",
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": true,
            "packageVerificationCode": {"packageVerificationCodeValue": hex(&Sha1::digest(sums.concat()))},
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "Apache-2.0",
            "copyrightText": "NOASSERTION",
        })
    }

    fn krate(&self, package: &Package) -> Result<Value, Error> {
        let (name, version) = (&package.name, package.version.to_string());
        let Some(Fact { licence, origin }) = self.facts.get(&(name.clone(), version.clone())) else {
            return Err(Error::Unknown { name: name.clone(), version });
        };
        let mut described = json!({
            "SPDXID": crate_id(package),
            "name": name,
            "versionInfo": version,
            "primaryPackagePurpose": if package.root { "APPLICATION" } else { "LIBRARY" },
            "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": licence.as_deref().unwrap_or("NOASSERTION"),
            "copyrightText": "NOASSERTION",
        });
        match origin {
            Origin::Registry { sha256 } => {
                described["downloadLocation"] =
                    json!(format!("https://static.crates.io/crates/{name}/{name}-{version}.crate"));
                described["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": sha256}]);
                described["externalRefs"] = json!([{
                    "referenceCategory": "PACKAGE-MANAGER",
                    "referenceType": "purl",
                    "referenceLocator": format!("pkg:cargo/{name}@{}", version.replace('+', "%2B")),
                }]);
            }
            Origin::Tree { directory, repository } => {
                described["supplier"] = json!("Organization: podkit");
                described["downloadLocation"] = match (repository, &self.revision) {
                    (Some(repository), Some(revision)) => {
                        json!(format!("git+{repository}@{revision}#{directory}"))
                    }
                    _ => json!("NOASSERTION"),
                };
            }
        }
        Ok(described)
    }

    /// The crate that the bundle is written from, which need not be in the binary.
    fn authorities(&self) -> Result<Package, Error> {
        let of = self.facts.keys().find(|(name, _)| name == AUTHORITIES.1);
        let unknown =
            || Error::Unknown { name: AUTHORITIES.1.to_owned(), version: "for the authorities".to_owned() };
        let version = of.and_then(|(_, version)| version.parse().ok()).ok_or_else(unknown)?;
        Ok(Package {
            name: AUTHORITIES.1.to_owned(),
            version,
            source: Source::CratesIo,
            kind: DependencyKind::Build,
            dependencies: Vec::new(),
            root: false,
        })
    }
}

impl Part {
    fn package(&self, id: &str) -> Value {
        let mut described = json!({
            "SPDXID": id,
            "name": self.name,
            "primaryPackagePurpose": "LIBRARY",
            "downloadLocation": self.from,
            "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": self.licence,
            "copyrightText": "NOASSERTION",
        });
        if let Some(version) = &self.version {
            described["versionInfo"] = json!(version);
        }
        described
    }
}

fn file(path: &str, bytes: &[u8]) -> Value {
    json!({
        "SPDXID": file_id(path),
        "fileName": path,
        "fileTypes": [if bytes.starts_with(b"\x7fELF") { "BINARY" } else { "TEXT" }],
        "checksums": [
            {"algorithm": "SHA1", "checksumValue": hex(&Sha1::digest(bytes))},
            {"algorithm": "SHA256", "checksumValue": hex(&Sha256::digest(bytes))},
        ],
        "licenseConcluded": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    })
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}

fn crate_id(package: &Package) -> String {
    id("Crate", &format!("{}-{}", package.name, package.version))
}

fn file_id(path: &str) -> String {
    id("File", path.trim_start_matches("./"))
}

/// An identifier has letters, digits, dots and dashes. Names that differ in nothing else, crates.io does not take.
fn id(kind: &str, name: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' };
    format!("SPDXRef-{kind}-{}", name.chars().map(plain).collect::<String>())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, kind: DependencyKind, dependencies: &[usize]) -> Package {
        Package {
            name: name.to_owned(),
            version: "1.0.0+a".parse().unwrap(),
            source: Source::CratesIo,
            kind,
            dependencies: dependencies.to_vec(),
            root: dependencies.len() > 1,
        }
    }

    fn document(revision: Option<&str>) -> Value {
        let kinds = (DependencyKind::Runtime, DependencyKind::Build);
        let packages = vec![
            package("app", kinds.0, &[1, 2]),
            package("in_it", kinds.0, &[3]),
            package("derive", kinds.1, &[]),
            package("cc", kinds.1, &[]),
        ];
        let fact = |origin| Fact { licence: Some("MIT".to_owned()), origin };
        let id = |name: &str| (name.to_owned(), "1.0.0+a".to_owned());
        let repository = Some("https://example.org/app".to_owned());
        let facts = Facts::from([
            (id("app"), fact(Origin::Tree { directory: "bins/app".to_owned(), repository })),
            (id("in_it"), fact(Origin::Registry { sha256: "ab".repeat(32) })),
            (id("webpki-roots"), fact(Origin::Registry { sha256: "cd".repeat(32) })),
        ]);
        let files = BTreeMap::from([
            ("./app".to_owned(), b"\x7fELF".to_vec()),
            (AUTHORITIES.0.to_owned(), b"-----BEGIN".to_vec()),
        ]);
        let rust = Part {
            name: "rust-std",
            version: Some("1.2.3".to_owned()),
            licence: "MIT",
            from: "x".to_owned(),
        };
        let image = Image {
            info: &VersionInfo { packages, format: 1 },
            files: &files,
            facts: &facts,
            parts: vec![rust],
            created: SystemTime::UNIX_EPOCH,
            revision: revision.map(str::to_owned),
        };
        image.document().unwrap()
    }

    #[test]
    fn what_only_took_part_in_the_build_is_not_named() {
        let document = document(Some("abc"));
        let names: Vec<_> =
            document["packages"].as_array().unwrap().iter().map(|package| &package["name"]).collect();
        assert_eq!(names, ["app", "app", "in_it", "rust-std", "webpki-roots"]);
        let relations: Vec<String> = document["relationships"]
            .as_array()
            .unwrap()
            .iter()
            .map(|relation| {
                let end =
                    |key: &str| relation[key].as_str().unwrap().trim_start_matches("SPDXRef-").to_owned();
                format!("{} {} {}", end("spdxElementId"), end("relationshipType"), end("relatedSpdxElement"))
            })
            .collect();
        let expected = [
            "DOCUMENT DESCRIBES Image",
            "Image CONTAINS File-app",
            "Image CONTAINS File-etc-ssl-certs-ca-certificates.crt",
            "File-app GENERATED_FROM Crate-app-1.0.0-a",
            "Crate-app-1.0.0-a DEPENDS_ON Crate-in-it-1.0.0-a",
            "File-app STATIC_LINK rust-std",
            "File-etc-ssl-certs-ca-certificates.crt GENERATED_FROM Crate-webpki-roots-1.0.0-a",
        ];
        assert_eq!(relations, expected);
    }

    #[test]
    fn a_crate_has_its_archive_its_checksum_and_its_package_url() {
        let document = document(Some("abc"));
        let described = &document["packages"][2];
        assert_eq!(
            described["downloadLocation"],
            "https://static.crates.io/crates/in_it/in_it-1.0.0+a.crate"
        );
        assert_eq!(described["checksums"][0]["checksumValue"], "ab".repeat(32));
        assert_eq!(described["externalRefs"][0]["referenceLocator"], "pkg:cargo/in_it@1.0.0%2Ba");
        assert_eq!(document["packages"][1]["downloadLocation"], "git+https://example.org/app@abc#bins/app");
        assert_eq!(document["creationInfo"]["created"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn the_namespace_is_of_what_the_document_says() {
        let (one, same, other) = (document(Some("abc")), document(Some("abc")), document(None));
        assert_eq!(one, same);
        assert_ne!(one["documentNamespace"], other["documentNamespace"]);
        assert_eq!(other["packages"][1]["downloadLocation"], "NOASSERTION");
    }

    #[test]
    fn a_date_has_a_year_of_four_digits() {
        for (text, written) in [
            ("0", "1970-01-01T00:00:00Z"),
            ("1700000000", "2023-11-14T22:13:20Z"),
            ("253402300799", "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(humantime::format_rfc3339_seconds(date(text).unwrap()).to_string(), written);
        }
        // The third counts milliseconds.
        for wrong in ["", "abc", "1700000000000", "253402300800", "18446744073709551616"] {
            assert!(matches!(date(wrong), Err(Error::Date(text)) if text == wrong), "{wrong}");
        }
    }

    #[test]
    fn only_what_is_committed_can_be_fetched() {
        assert_eq!(["abc", "abc-dirty", "unknown"].map(can_be_fetched), [true, false, false]);
    }
}
