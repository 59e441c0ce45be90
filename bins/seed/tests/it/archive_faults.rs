//! Hostile and broken archives, one a row: the exact message, exit code 1, and a target that stays untouched.

use crate::kit::Sandbox;
use crate::packed::{Tar, Zipped, gzip, zip, zstd};

/// A name for the row, the archive, and what is said after `cannot unpack "…": `.
type Row = (&'static str, Vec<u8>, &'static str);

/// The same, and before what is said a key beside the archive.
type KeyedRow = (&'static str, Vec<u8>, &'static str, &'static str);

/// What is said of an entry for its name.
macro_rules! unusable {
    ($name:literal) => {
        concat!("the name of an entry cannot be used: ", $name)
    };
}

const REGULAR: u32 = 0o100_644;

fn tar() -> Tar {
    Tar::default().file("fine", "fine")
}

fn bad_name(kind: u8, name: &[u8]) -> Vec<u8> {
    tar().entry(kind, name, b"", 0o644, b"").end()
}

/// A name that stands in an entry of its own, before the one that it is for: as GNU tar writes it, and as POSIX has it.
fn long_name(name: &[u8]) -> Vec<u8> {
    tar().entry(b'L', b"././@LongLink", b"", 0, name).file("short", "").end()
}

fn pax_name(name: &str) -> Vec<u8> {
    tar().pax(b'x', "path", name).file("short", "").end()
}

fn tars() -> Vec<Row> {
    vec![
        ("absolute", bad_name(b'0', b"/etc/passwd"), unusable!("\"/etc/passwd\" is absolute")),
        ("upwards", bad_name(b'0', b"../../x"), unusable!("\"../../x\" has \"..\" in it")),
        ("a directory upwards", bad_name(b'5', b".."), unusable!("\"..\" has \"..\" in it")),
        (
            "our own names",
            bad_name(b'0', b"..data"),
            unusable!("\"..data\" begins with \"..\", which is kept for generations"),
        ),
        ("line break", bad_name(b'0', b"a\nb"), unusable!("\"a\\nb\" has a line break in it")),
        ("line break in a long name", pax_name("a\nb"), unusable!("\"a\\nb\" has a line break in it")),
        ("NUL", pax_name("a\0b"), unusable!("\"a\\0b\" has a NUL in it")),
        ("upwards in a long name", long_name(b"../x\0"), unusable!("\"../x\" has \"..\" in it")),
        (
            "too long a name",
            long_name(&[b'n'; 300]),
            unusable!("a name in the path is longer than 255 bytes"),
        ),
        (
            "too long a record",
            long_name(&[b'n'; (1 << 20) + 1]),
            "one of its extended headers is larger than 1MiB",
        ),
        (
            "two names",
            tar().pax(b'x', "path", "a").entry(b'L', b"././@LongLink", b"", 0, b"b").file("c", "").end(),
            "it names an entry in two ways",
        ),
        ("two sizes", tar().pax(b'x', "size", "3").file("a", "abcd").end(), "\"a\" has two sizes"),
        (
            "one name for all",
            tar().pax(b'g', "path", "a").file("b", "").end(),
            "it gives one name or size to all entries",
        ),
        (
            "malformed record",
            tar().entry(b'x', b"pax", b"", 0, b"99 path=a\n").file("b", "").end(),
            "one of its extended headers is malformed",
        ),
        (
            "link out",
            tar().link("l", "../x").end(),
            "\"l\" is a link to \"../x\", which leads out of the archive",
        ),
        (
            "absolute link",
            tar().link("l", "/etc/shadow").end(),
            "\"l\" is a link to \"/etc/shadow\", which leads out of the archive",
        ),
        (
            "link chain out",
            tar().link("d/a", "b").link("d/b", "../c").link("c", "d/../../x").end(),
            "\"c\" is a link to \"d/../../x\", which leads out of the archive",
        ),
        (
            "link through a link out",
            tar().file("d/e/f", "").link("up", "d/e").link("l", "up/../../../x").end(),
            "\"l\" is a link to \"up/../../../x\", which leads out of the archive",
        ),
        (
            "a file through a link",
            tar().link("l", "d").file("d/x", "").file("l/file", "planted").end(),
            "\"l\" is a file in it, and a directory",
        ),
        (
            "a link over a directory",
            tar().file("d/x", "").link("d", "/etc").end(),
            "\"d\" is a file in it, and a directory",
        ),
        (
            "dangling link",
            tar().link("l", "nowhere").end(),
            "\"l\" is a link to \"nowhere\", which is not in the archive",
        ),
        (
            "links in a circle",
            tar().link("a", "b").link("b", "a").end(),
            "\"a\" is a link to \"b\", which leads through too many links",
        ),
        (
            "a link to its own directory",
            tar().link("d/l", ".").file("d/x", "").end(),
            "\"d/l\" is a link to \".\", and so contains itself",
        ),
        (
            "directories that contain each other",
            tar().link("a/l", "../b").link("b/l", "../a").end(),
            "\"a/l\" is a link to \"../b\", and so contains itself",
        ),
        ("link to nothing", tar().link("l", "").end(), "\"l\" is a link to nothing"),
        ("hard link out", tar().hard_link("h", "../x").end(), unusable!("\"../x\" has \"..\" in it")),
        (
            "hard link to what is outside",
            tar().hard_link("h", "etc/passwd").end(),
            "\"h\" is a hard link to \"etc/passwd\", and no file of that name comes before it",
        ),
        (
            "hard link to a link",
            tar().link("l", "fine").hard_link("h", "l").end(),
            "\"h\" is a hard link to \"l\", and no file of that name comes before it",
        ),
        ("character device", bad_name(b'3', b"null"), "\"null\" is a device"),
        ("block device", bad_name(b'4', b"sda"), "\"sda\" is a device"),
        ("pipe", bad_name(b'6', b"pipe"), "\"pipe\" is a pipe"),
        ("unknown kind", bad_name(b'V', b"label"), "\"label\" is of an unknown kind, 'V'"),
        ("sparse", bad_name(b'S', b"sparse"), "\"sparse\" is a sparse file; pack it without `--sparse`"),
        (
            "sparse by pax",
            tar().pax(b'x', "GNU.sparse.major", "1").file("a", "").end(),
            "it holds a sparse file; pack it without `--sparse`",
        ),
        (
            "a directory with content",
            tar().entry(b'5', b"d/", b"", 0o755, b"hidden").end(),
            "\"d\" is no file, and has content",
        ),
        ("twice", tar().file("a", "1").file("./a", "2").end(), "\"a\" is in it twice"),
        (
            "a file in a file",
            tar().file("a", "").file("a/b", "").end(),
            "\"a\" is a file in it, and a directory",
        ),
        (
            "a file over a directory",
            tar().entry(b'5', b"a/", b"", 0o755, b"").file("a", "").end(),
            "\"a\" is a file in it, and a directory",
        ),
        (
            "a huge size that is only said",
            tar().claim("a", 1 << 60).cut(),
            "it unpacks to more than 512MiB (`limits: {bytes}`)",
        ),
        ("a size beyond all numbers", tar().claim("a", u64::MAX).cut(), "it is broken: size overflow"),
        ("cut off in a file", tar().claim("a", 1000).cut(), "it ends in the middle of \"a\""),
        ("cut off between files", tar().cut(), "it ends without the mark of its end, as if cut off"),
        (
            "cut off before what a record is for",
            tar().pax(b'x', "path", "a").end(),
            "it ends without the mark of its end, as if cut off",
        ),
        ("more after its end", [tar().end(), tar().end()].concat(), "there is more after its end"),
        ("no file", Tar::default().entry(b'5', b"d/", b"", 0o755, b"").end(), "there is no file in it"),
    ]
}

fn packed() -> Vec<Row> {
    let zeros = "\0".repeat(8 << 20);
    let bomb = tar().file("bomb", &zeros).end();
    let good = gzip(&tar().end());
    vec![
        ("empty", Vec::new(), "it is empty"),
        (
            "something else",
            b"nothing of the kind\n".repeat(100),
            "it is something else, and not tar, tar.gz, tar.zst or zip",
        ),
        (
            "an error page",
            b"<!DOCTYPE html><h1>404</h1>".to_vec(),
            "it is text such as HTML, and not tar, tar.gz, tar.zst or zip",
        ),
        ("xz", b"\xfd7zXZ\0rest".to_vec(), "it is xz, and not tar, tar.gz, tar.zst or zip"),
        ("gzip of no tar", gzip(b"a text"), "what gzip packed in it is no tar"),
        ("zstd of no tar", zstd(b"a text"), "what zstd packed in it is no tar"),
        ("gzip bomb", gzip(&bomb), "it unpacks to more than 100 times its size (`limits: {ratio}`)"),
        (
            "gzip bomb after the end",
            gzip(&[tar().end(), zeros.clone().into_bytes()].concat()),
            "it unpacks to more than 100 times its size (`limits: {ratio}`)",
        ),
        ("gzip of gzip of a bomb", gzip(&gzip(&bomb)), "what gzip packed in it is no tar"),
        ("cut off gzip", good[..good.len() - 9].to_vec(), "it is broken: incomplete deflate stream"),
        ("gzip without its sum", good[..good.len() - 4].to_vec(), "it is broken: unexpected end of file"),
        ("more after gzip", [&good[..], b"more after it"].concat(), "it is broken: invalid gzip header"),
        ("cut off zstd", zstd(&bomb)[..100].to_vec(), "it is broken: incomplete frame"),
        (
            "too large a window",
            {
                let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
                encoder.window_log(27).unwrap();
                std::io::Write::write_all(&mut encoder, &tar().end()).unwrap();
                encoder.finish().unwrap()
            },
            "it is packed by zstd with a window above 8MiB; pack it without `--long` and `--ultra`",
        ),
    ]
}

fn zips() -> Vec<Row> {
    let fine = || Zipped::new("fine", REGULAR, b"fine");
    let of = |name, mode| zip(&[fine(), Zipped::new(name, mode, b"x")]);
    let with = |entry: Zipped| zip(&[fine(), entry]);
    let good = zip(&[fine()]);
    let a = || Zipped::new("a", REGULAR, b"a");
    vec![
        ("zip: upwards", of("../x", REGULAR), unusable!("\"../x\" has \"..\" in it")),
        ("zip: absolute", of("/x", REGULAR), unusable!("\"/x\" is absolute")),
        (
            "zip: another slash",
            of("..\\x", REGULAR),
            "the name of an entry, \"..\\\\x\", is read differently by different tools",
        ),
        ("zip: twice", zip(&[fine(), fine()]), "\"fine\" is in it twice"),
        (
            "zip: a file in a file",
            zip(&[fine(), Zipped::new("fine/x", REGULAR, b"")]),
            "\"fine\" is a file in it, and a directory",
        ),
        ("zip: a directory with content", of("d/", 0o040_755), "\"d\" is a file in it, and a directory"),
        ("zip: device", of("null", 0o020_644), "\"null\" is a device or a pipe"),
        (
            "zip: link out",
            zip(&[fine(), Zipped::new("l", 0o120_777, b"../../etc/passwd")]),
            "\"l\" is a link to \"../../etc/passwd\", which leads out of the archive",
        ),
        ("zip: encrypted", with(Zipped { flags: 1, ..a() }), "\"a\" is encrypted"),
        ("zip: encrypted by AES", with(Zipped { method: 99, ..a() }), "\"a\" is encrypted"),
        (
            "zip: another method",
            with(Zipped { method: 14, ..a() }),
            "\"a\" is packed by method 14; `deflate` and `store` are read",
        ),
        (
            "zip: overlapping entries",
            zip(&[fine(), Zipped { overlaps: true, ..fine() }]),
            "\"fine\" overlaps with what comes after it",
        ),
        (
            "zip: two names",
            with(Zipped { local_name: Some("b"), ..a() }),
            "it is broken: \"a\" is not where its directory says",
        ),
        ("zip: wrong sum", with(Zipped { crc: 1, ..a() }), "it is broken: the checksum of \"a\" is wrong"),
        ("zip: longer than it says", with(Zipped { size: 0, ..a() }), "\"a\" is longer than it says"),
        ("zip: shorter than it says", with(Zipped { size: 2, ..a() }), "it ends in the middle of \"a\""),
        (
            "zip: a huge size that is only said",
            with(Zipped { size: u32::MAX - 1, ..a() }),
            "it unpacks to more than 512MiB (`limits: {bytes}`)",
        ),
        (
            "zip bomb",
            zip(&[Zipped::new("bomb", REGULAR, &vec![0; 8 << 20])]),
            "it unpacks to more than 100 times its size (`limits: {ratio}`)",
        ),
        (
            "zip: cut off",
            good[..good.len() - 1].to_vec(),
            "it is broken: the record at its end is not there, as if cut off",
        ),
        (
            "zip: more after it",
            [&good[..], b"more"].concat(),
            "it is broken: the record at its end is not there, as if cut off",
        ),
        (
            "zip: something between",
            [&good[..good.len() - 22], b"more", &good[good.len() - 22..]].concat(),
            "it is broken: its directory is not where its end says",
        ),
    ]
}

/// Those that are a fault by another key of their entry.
fn keyed() -> Vec<KeyedRow> {
    let many = (0..20).fold(tar(), |tar, n| tar.file(&format!("f{n}"), "")).end();
    let links =
        (0..20).fold(tar().file("a", &"x".repeat(100)), |tar, n| tar.link(&format!("l{n}"), "a")).end();
    let fine_and_a = [Zipped::new("fine", REGULAR, b"fine"), Zipped::new("a", REGULAR, b"a")];
    vec![
        (
            "up and down",
            bad_name(b'0', b"a/../../x"),
            "strip: 1",
            unusable!("\"a/../../x\" has \"..\" in it"),
        ),
        (
            "twice, stripped",
            tar().file("x/a", "1").file("y/a", "2").end(),
            "strip: 1",
            "\"a\" is in it twice",
        ),
        ("all stripped", tar().end(), "strip: 2", "`strip: 2` leaves no file of it"),
        (
            "too many entries",
            many,
            "limits: {entries: 20}",
            "it holds more than 20 entries (`limits: {entries}`)",
        ),
        (
            "too many bytes",
            tar().file("a", &"x".repeat(2000)).end(),
            "limits: {bytes: 2000B}",
            "it unpacks to more than 2000B (`limits: {bytes}`)",
        ),
        (
            "too many bytes by links",
            links,
            "limits: {bytes: 1KiB}",
            "it unpacks to more than 1KiB (`limits: {bytes}`)",
        ),
        (
            "zstd bomb",
            zstd(&tar().file("bomb", &"\0".repeat(8 << 20)).end()),
            "limits: {ratio: 500}",
            "it unpacks to more than 500 times its size (`limits: {ratio}`)",
        ),
        (
            "zip: too many entries",
            zip(&fine_and_a),
            "limits: {entries: 1}",
            "it holds more than 1 entries (`limits: {entries}`)",
        ),
    ]
}

#[test]
fn no_hostile_tar_changes_anything() {
    all_refused(without_keys(tars()));
}

#[test]
fn no_broken_stream_changes_anything() {
    all_refused(without_keys(packed()));
}

#[test]
fn no_hostile_zip_changes_anything() {
    all_refused(without_keys(zips()));
}

#[test]
fn no_archive_gets_past_the_strip_and_the_limits_of_its_entry() {
    all_refused(keyed());
}

fn without_keys(rows: Vec<Row>) -> Vec<KeyedRow> {
    rows.into_iter().map(|(name, bytes, why)| (name, bytes, "", why)).collect()
}

fn all_refused(rows: Vec<KeyedRow>) {
    let sandbox = Sandbox::new();
    sandbox.run("files: [{path: site/old, inline: old}]\n");
    let before = sandbox.picture();
    let mut wrong = String::new();
    for (name, bytes, keys, why) in rows {
        let archive = sandbox.write("packed", bytes);
        sandbox.config(&format!("files:\n  - path: site/\n    archive: '@/packed'\n    {keys}\n"));
        let failed = sandbox.seed().finish();
        let expected = format!("podkit-seed: cannot unpack {archive:?}: {why}");
        let said: Vec<&str> = failed.stderr.lines().filter(|line| !line.starts_with("hint: ")).collect();
        if failed.status.code() != Some(1) || said != [expected.as_str()] {
            wrong.push_str(&format!(
                "{name}: {}\n  expected {expected}\n  said     {}",
                failed.status, failed.stderr
            ));
        }
        assert_eq!(sandbox.picture(), before, "{name}");
    }
    assert!(wrong.is_empty(), "{wrong}");
}
