//! What archives become: files with their modes, links as copies, large ones over the disk.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use crate::kit::Sandbox;
use crate::packed::{Tar, Zipped, gzip, zip, zstd};

/// A tree as tools pack it: a directory around all, links inside it, a setuid bit, a long name.
fn tree() -> (Tar, String) {
    let long = format!("top/{}/{}", "d".repeat(90), "f".repeat(120));
    let tar = Tar::default()
        .pax(b'g', "comment", "what git archive writes")
        .entry(b'5', b"top/", b"", 0o755, b"")
        .entry(b'0', b"top/bin/tool", b"", 0o4755, b"#!/bin/sh\n")
        .entry(b'0', b"top/key", b"", 0o000, b"key")
        .entry(b'0', b"./top/v1/index.html", b"", 0o644, b"<h1>1</h1>")
        .link("top/current", "v1")
        .link("top/index.html", "current/index.html")
        .hard_link("top/hard", "top/key")
        .entry(b'L', b"././@LongLink", b"", 0, format!("{long}\0").as_bytes())
        .file("cut", "long")
        .pax(b'x', "path", &format!("{long}2"))
        .file("cut", "longer");
    (tar, long)
}

#[test]
fn tar_gzip_and_zstd_are_told_by_their_bytes_and_become_the_same_files() {
    let (tar, long) = tree();
    let tar = tar.end();
    let halves = [gzip(&tar[..1000]), gzip(&tar[1000..])].concat();
    let skipped = [b"\x50\x2a\x4d\x18\x03\0\0\0abc", &zstd(&tar)[..]].concat();
    for (name, bytes) in [
        ("plain", tar.clone()),
        ("gzip", gzip(&tar)),
        ("members", halves),
        ("zstd", zstd(&tar)),
        ("skipped", skipped),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write("packed", bytes);
        sandbox.run("files: [{path: site/, archive: '@/packed', strip: 1}]\n");
        for (file, text, mode) in [
            ("bin/tool", "#!/bin/sh\n", 0o755),
            ("key", "key", 0o400),
            ("hard", "key", 0o400),
            ("v1/index.html", "<h1>1</h1>", 0o644),
            ("current/index.html", "<h1>1</h1>", 0o644),
            ("index.html", "<h1>1</h1>", 0o644),
            (&long[4..], "long", 0o644),
            (&format!("{long}2")[4..], "longer", 0o644),
        ] {
            let file = format!("site/{file}");
            assert_eq!((sandbox.read(&file).as_str(), sandbox.mode(&file)), (text, mode), "{name}: {file}");
        }
        assert!(!sandbox.target().join("site/current").is_symlink(), "{name}");
        assert!(!sandbox.target().join("site/top").exists(), "{name}");
    }
}

#[test]
fn what_the_systems_tar_packs_is_unpacked() {
    let sandbox = Sandbox::new();
    sandbox.write("in/a", "A");
    sandbox.write("in/d/b", "B".repeat(3 << 20));
    sandbox.link("in/d/link", "../a");
    for format in ["v7", "ustar", "gnu", "pax"] {
        let packed = sandbox.path("packed");
        let tar = Command::new("tar")
            .args(["--format", format, "-cf"])
            .arg(&packed)
            .arg("-C")
            .arg(sandbox.path("in"))
            .arg(".")
            .status();
        // An image without `tar` has no such archives to show either.
        let Ok(status) = tar else { return };
        assert!(status.success(), "{format}");
        sandbox.run("files: [{path: all/, archive: '@/packed', mode: '0600'}]\n");
        assert_eq!(sandbox.read("all/a"), "A", "{format}");
        assert_eq!(sandbox.read("all/d/link"), "A", "{format}");
        assert_eq!(sandbox.read("all/d/b").len(), 3 << 20, "{format}");
        assert_eq!(sandbox.mode("all/a"), 0o600, "{format}");
        fs::remove_dir_all(sandbox.target()).unwrap();
    }
}

#[test]
fn zip_is_unpacked_with_modes_and_links() {
    use zip::write::{SimpleFileOptions, ZipWriter};
    let sandbox = Sandbox::new();
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    writer.add_directory("top/", options).unwrap();
    writer.start_file("top/tool", options.unix_permissions(0o4755)).unwrap();
    writer.write_all(&b"tool".repeat(100)).unwrap();
    let stored = options.compression_method(zip::CompressionMethod::Stored);
    writer.start_file("top/größe", stored.unix_permissions(0o640)).unwrap();
    writer.write_all(b"stored").unwrap();
    writer.add_symlink("top/link", "tool", options).unwrap();
    sandbox.write("packed", writer.finish().unwrap().into_inner());
    sandbox.run("files: [{path: d/, archive: '@/packed', strip: 1}]\n");
    assert_eq!(sandbox.read("d/tool"), "tool".repeat(100));
    assert_eq!(sandbox.read("d/link"), "tool".repeat(100));
    assert_eq!(sandbox.read("d/größe"), "stored");
    assert_eq!((sandbox.mode("d/tool"), sandbox.mode("d/größe")), (0o755, 0o640));
}

#[test]
fn a_zip_from_a_system_without_modes_gets_ordinary_ones() {
    let sandbox = Sandbox::new();
    let mut bytes = zip(&[Zipped::new("a", 0, b"a")]);
    let made_by = bytes.windows(4).position(|four| four == b"PK\x01\x02").unwrap() + 5;
    bytes[made_by] = 0;
    sandbox.write("packed", bytes);
    sandbox.run("files: [{path: d/, archive: '@/packed'}]\n");
    assert_eq!((sandbox.read("d/a").as_str(), sandbox.mode("d/a")), ("a", 0o644));
}

#[test]
fn an_archive_that_is_not_the_one_that_was_meant_is_refused() {
    let sandbox = Sandbox::new();
    let archive = sandbox.write("packed", gzip(&Tar::default().file("a", "A").end()));
    let other = "0".repeat(64);
    let yaml = |sum: &str| format!("files: [{{path: d/, archive: '@/packed', sha256: '{sum}'}}]\n");
    sandbox.config(&yaml(&other));
    let failed = sandbox.seed().expect_exit(1);
    let start = format!("podkit-seed: cannot unpack {archive:?}: its SHA-256 is ");
    let sum = failed.stderr.strip_prefix(&start).unwrap().split(',').next().unwrap().to_owned();
    assert_eq!(failed.stderr, format!("{start}{sum}, not {other}\n"));
    sandbox.run(&yaml(&sum));
    assert_eq!(sandbox.read("d/a"), "A");
}

#[test]
fn a_large_archive_and_a_large_copy_take_little_memory() {
    const SIZE: usize = 96 << 20;
    let sandbox = Sandbox::new();
    let mut noise = vec![0; SIZE];
    let mut state = 1_u64;
    for bytes in noise.chunks_mut(8) {
        // xorshift64 (Marsaglia 2003): bytes that do not pack.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.copy_from_slice(&state.to_le_bytes());
    }
    let packed = Tar::default().entry(b'0', b"noise", b"", 0o644, &noise).end();
    sandbox.write("packed", zstd(&packed));
    drop(packed);
    sandbox.config("files: [{path: d/, archive: '@/packed'}, {path: copy, copy: '@/packed'}]\n");
    // In KiB, of the address space: well below what either of the two holds.
    sandbox.seed_after("ulimit -v 90000").expect_exit(0);
    assert!(fs::read(sandbox.target().join("d/noise")).unwrap() == noise);
    assert!(fs::read(sandbox.target().join("copy")).unwrap() == fs::read(sandbox.path("packed")).unwrap());
}

#[test]
fn a_small_archive_of_mostly_nothing_is_no_bomb() {
    let sandbox = Sandbox::new();
    let zeros = "\0".repeat(900 << 10);
    sandbox.write("packed", gzip(&Tar::default().file("zeros", &zeros).end()));
    sandbox.run("files: [{path: d/, archive: '@/packed', limits: {ratio: 2}}]\n");
    assert!(sandbox.read("d/zeros") == zeros);
}
