//! Whole or not at all: failures at each step, and readers while the generation changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use crate::kit::Sandbox;

const GOOD: &str =
    "files:\n  - {path: a, inline: one}\n  - {path: d/b, inline: one}\n  - {path: c, inline: one}\n";

#[test]
fn a_third_file_that_cannot_be_rendered_leaves_all_untouched() {
    let sandbox = Sandbox::new();
    sandbox.run(GOOD);
    let before = sandbox.picture();
    for third in ["inline: '{{ nope }}'", "template: '@/nope.j2'", "copy: '@/nope'"] {
        sandbox.config(&format!(
            "files:\n  - {{path: a, inline: two}}\n  - {{path: new, inline: two}}\n  - {{path: c, {third}}}\n"
        ));
        sandbox.seed().expect_exit(1);
        assert_eq!(sandbox.picture(), before);
    }
}

/// `ulimit -f 1` lets a file have 512 or 1024 bytes; with SIGXFSZ ignored the third file's write fails.
const SMALL_FILES: &str = "trap '' XFSZ; ulimit -f 1";

fn with_a_large_third() -> String {
    format!(
        "files:\n  - {{path: a, inline: two}}\n  - {{path: new/b, inline: two}}\n  - {{path: z, inline: {}}}\n",
        "x".repeat(4096)
    )
}

#[test]
fn a_third_file_that_cannot_be_written_leaves_the_old_generation_and_no_debris() {
    let sandbox = Sandbox::new();
    sandbox.run(GOOD);
    let before = sandbox.picture_inside();
    sandbox.config(&with_a_large_third());
    sandbox.seed_after(SMALL_FILES).expect_exit(1).expect_stderr(&format!(
        "podkit-seed: cannot write {:?}: file too large",
        sandbox.target().join("z")
    ));
    assert_eq!(sandbox.picture_inside(), before);
}

#[test]
fn a_first_run_that_fails_leaves_nothing_at_all() {
    let sandbox = Sandbox::new();
    sandbox.config(&with_a_large_third());
    sandbox.seed_after(SMALL_FILES).expect_exit(1);
    assert!(!sandbox.target().exists());

    // A target that was there stays, and stays empty.
    fs::create_dir(sandbox.target()).unwrap();
    sandbox.seed_after(SMALL_FILES).expect_exit(1);
    assert_eq!(sandbox.names(), Vec::<String>::new());
}

#[test]
fn the_switch_is_atomic_for_a_reader_that_never_rests() {
    let sandbox = Sandbox::new();
    let configs: Vec<String> = ["one", "two"].iter().map(|word| paired_config(word)).collect();
    sandbox.run(&configs[0]);
    let reader = Reader::start(&sandbox.target());
    for n in 1..=16 {
        sandbox.run(&configs[n % 2]);
    }
    let reads = reader.finish();
    assert!(reads > 16, "only {reads} reads");
}

/// Two files that must always be of one generation, and whole; each generation also has a file of its own.
pub(crate) fn paired_config(word: &str) -> String {
    let text = word.repeat(3000);
    format!(
        "files:\n  - {{path: a, inline: {text}}}\n  - {{path: d/e/b, inline: {text}}}\n  - {{path: only-{word}, inline: x}}\n"
    )
}

/// A thread that reads the files of [`paired_config`] in a loop and fails on a mix, a gap, or half a file.
pub(crate) struct Reader {
    done: Arc<AtomicBool>,
    reads: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Reader {
    /// A reader of links: each name, and several files of one generation.
    pub(crate) fn start(target: &Path) -> Self {
        Self::of(target, |target| {
            read_names(target);
            read_generation(target);
        })
    }

    /// A reader that calls `read_once` over and over.
    pub(crate) fn of(target: &Path, read_once: fn(&Path)) -> Self {
        let (done, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = thread::spawn({
            let (done, reads, target) = (Arc::clone(&done), Arc::clone(&reads), target.to_owned());
            move || {
                while !done.load(Ordering::Relaxed) {
                    read_once(&target);
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { done, reads, thread }
    }

    /// The number of reads, all of them good.
    pub(crate) fn finish(self) -> usize {
        self.done.store(true, Ordering::Relaxed);
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
        self.reads.load(Ordering::Relaxed)
    }
}

/// Reads as an app does that knows files by their visible names: each is there, and whole. They may be of two
/// generations, for two names are looked up one after the other.
pub(crate) fn read_names(target: &Path) {
    for name in ["a", "d/e/b"] {
        let text = fs::read_to_string(target.join(name)).expect("a visible file is always there");
        assert!(is_whole(&text), "half a file: {} bytes", text.len());
    }
}

/// Reads as an app does that wants several files of one generation.
pub(crate) fn read_generation(target: &Path) {
    /// So long its files stay after another generation is in force; a reader whom the machine held up for longer may
    /// find them gone.
    const PROMISED: Duration = Duration::from_millis(100);
    let began = Instant::now();
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let generation =
        open(&target.join("..data"), flags, Mode::empty()).expect("a generation is always in force");
    let read = |name| match openat(&generation, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
        Err(Errno::ENOENT) if began.elapsed() >= PROMISED => None,
        file => {
            let file = file.expect("all files of a generation are there while a reader may still look");
            Some(std::io::read_to_string(fs::File::from(file)).unwrap())
        }
    };
    let (Some(a), Some(b)) = (read("a"), read("d/e/b")) else { return };
    assert!(is_whole(&a) && a == b, "a mix: {:.6} and {:.6}", a, b);
}

fn is_whole(text: &str) -> bool {
    text == "one".repeat(3000) || text == "two".repeat(3000)
}

/// What the target should look like after a good run of [`paired_config`] in the plain layout.
pub(crate) fn expect_clean_plain(sandbox: &Sandbox, word: &str) {
    assert_eq!(sandbox.names(), ["..podkit-seed.json", "a", "d", &format!("only-{word}")]);
    assert_eq!(sandbox.names_in("d"), ["e"]);
    assert_eq!(sandbox.names_in("d/e"), ["b"]);
    for name in ["a", "d/e/b", &format!("only-{word}")] {
        assert!(sandbox.target().join(name).symlink_metadata().unwrap().is_file(), "{name}");
    }
    assert_eq!(sandbox.read("a"), word.repeat(3000));
    assert_eq!(sandbox.read("d/e/b"), word.repeat(3000));
}

/// What the target should look like after a good run of [`paired_config`], debris or not before it.
pub(crate) fn expect_clean(sandbox: &Sandbox, word: &str) {
    assert_eq!(sandbox.names(), ["..GENERATION", "..data", "a", "d", &format!("only-{word}")]);
    assert_eq!(sandbox.read("a"), word.repeat(3000));
    assert_eq!(sandbox.read("d/e/b"), word.repeat(3000));
    let generations: Vec<PathBuf> = fs::read_dir(sandbox.target())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() && !path.is_symlink())
        .collect();
    assert_eq!(generations, [fs::canonicalize(sandbox.target().join("..data")).unwrap()]);
}
