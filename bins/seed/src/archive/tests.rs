use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{ArchiveLimits, Location};

fn spec(strip: usize) -> Archive {
    let limits =
        ArchiveLimits { bytes: 1 << 20, entries: 100.try_into().unwrap(), ratio: 100.try_into().unwrap() };
    Archive { from: Location::File { path: "packed".into(), sha256: None }, strip, limits }
}

/// The paths of what an archive becomes.
fn unpacked(bytes: Vec<u8>, strip: usize, limits: &Limits) -> Result<Vec<String>, String> {
    let at = RelPath::parse("at").unwrap();
    let tree = unpack("packed", &bytes.into(), &spec(strip), &at, &Spooler::default(), limits);
    let tree = tree.map_err(|error| error.to_string())?;
    Ok(tree.keys().map(ToString::to_string).collect())
}

/// One for all cases: signal handlers stay installed.
static LIMITS: LazyLock<Limits> = LazyLock::new(|| Limits::begin(Duration::from_secs(600)).unwrap());

/// One block of tar: the fields as given, and a checksum that is right.
fn header(name: &[u8], link: &[u8], kind: u8, size: &[u8], magic: &[u8]) -> Vec<u8> {
    let mut header = ::tar::Header::new_old();
    for (at, field) in [(0, name), (157, link), (124, size), (257, magic), (156, &[kind][..])] {
        header.as_mut_bytes()[at..at + field.len()].copy_from_slice(field);
    }
    header.set_mode(0o644);
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn a_run_that_was_ended_ends_unpacking() {
    let limits = Limits::begin(Duration::ZERO).unwrap();
    let archive = [header(b"a", b"", b'0', b"0", b""), vec![0; 1024]].concat();
    let error = unpacked(archive, 0, &limits).unwrap_err();
    assert!(error.ends_with("passed while unpacking an archive"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_make_it_panic(
        magic in prop::sample::select(vec![&b""[..], b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"PK\x05\x06"]),
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let _ = unpacked([magic, &bytes].concat(), 0, &LIMITS);
    }

    /// Whatever the headers say, no file of the tree is outside its place.
    #[test]
    fn no_tar_headers_lead_out(
        entries in prop::collection::vec(
            (
                "[ab./\\n]{1,9}",
                "[ab./]{0,9}",
                prop::sample::select(b"012356LKxgSV\0".to_vec()),
                "[0-7]{0,4}|\\PC{0,2}",
                prop::sample::select(vec![&b""[..], b"ustar\x0000", b"ustar  \0"]),
            ),
            0..12,
        ),
        strip in 0_usize..3,
    ) {
        let mut archive = Vec::new();
        for (name, link, kind, size, magic) in &entries {
            archive.extend(header(name.as_bytes(), link.as_bytes(), *kind, size.as_bytes(), magic));
            let data = usize::from_str_radix(size, 8).unwrap_or_default();
            archive.resize(archive.len() + data.next_multiple_of(512), b'a');
        }
        archive.resize(archive.len() + 1024, 0);
        for path in unpacked(archive, strip, &LIMITS).unwrap_or_default() {
            prop_assert!(path.starts_with("at/") && !path.split('/').any(|name| name == ".."), "{}", path);
        }
    }

    /// A zip archive with some bytes changed is refused or is as harmless as before.
    #[test]
    fn no_change_of_a_zip_leads_out(changes in prop::collection::vec((0_usize..250, any::<u8>()), 0..6)) {
        let mut archive = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\x8b\x9e\xd9\xd3\x01\0\0\0\x01\0\0\0\x03\0\0\0d/aA".to_vec();
        let directory = archive.len();
        archive.extend(b"PK\x01\x02\x14\x03\x14\0\0\0\0\0\0\0\0\0\x8b\x9e\xd9\xd3\x01\0\0\0\x01\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\xa4\x81\0\0\0\0d/a");
        let size = archive.len() - directory;
        archive.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
        archive.extend([u8::try_from(size).unwrap(), 0, 0, 0, u8::try_from(directory).unwrap(), 0, 0, 0, 0, 0]);
        if changes.is_empty() {
            prop_assert_eq!(unpacked(archive.clone(), 0, &LIMITS), Ok(vec!["at/d/a".to_owned()]));
        }
        for (at, byte) in changes {
            let at = at % archive.len();
            archive[at] = byte;
        }
        for path in unpacked(archive, 0, &LIMITS).unwrap_or_default() {
            prop_assert!(path.starts_with("at/") && !path.split('/').any(|name| name == ".."), "{}", path);
        }
    }
}
