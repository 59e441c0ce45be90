//! A directory of its own for each test, and pictures of trees to compare.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

pub(crate) use podkit_testkit::is_possible;
use podkit_testkit::{Finished, Run, program};
use tempfile::TempDir;

/// A temporary directory with inputs, a config and the target `out` in it.
pub(crate) struct Sandbox {
    dir: TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.path("out")
    }

    /// Writes a file of the sandbox, with the directories above it.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn link(&self, name: &str, to: impl AsRef<Path>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
    }

    /// Writes the config; `@` stands for the sandbox. The target is `@/out` unless the text names one.
    pub(crate) fn config(&self, yaml: &str) -> PathBuf {
        let head = if yaml.contains("target:") { "" } else { "target: \"@/out\"\n" };
        let yaml = format!("{head}{yaml}").replace('@', self.dir.path().to_str().unwrap());
        self.write("seed.yaml", yaml)
    }

    /// The binary with the config as it was last written.
    pub(crate) fn seed(&self) -> Run {
        seed().args(["--config", "seed.yaml"].map(|arg| self.in_sandbox(arg))).show(self.dir.path())
    }

    /// The binary through a shell, after `setup`: for umasks and limits.
    pub(crate) fn seed_after(&self, setup: &str) -> Run {
        let script = format!("{setup}; exec \"$0\" --config \"$1\"");
        let binary = env!("CARGO_BIN_EXE_podkit-seed");
        program("/bin/sh").args(["-c", &script, binary, &self.in_sandbox("seed.yaml")]).show(self.dir.path())
    }

    fn in_sandbox(&self, arg: &str) -> String {
        if arg.starts_with("--") { arg.to_owned() } else { self.path(arg).to_str().unwrap().to_owned() }
    }

    /// Writes the config and runs it to its end, which must be good.
    pub(crate) fn run(&self, yaml: &str) -> Finished {
        self.config(yaml);
        self.seed().expect_exit(0)
    }

    /// The text of a file in the target, read as an app would.
    pub(crate) fn read(&self, name: &str) -> String {
        let path = self.target().join(name);
        fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", path.display(), self.picture()))
    }

    /// The permission bits of a file in the target.
    pub(crate) fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.target().join(name)).unwrap().permissions().mode() & 0o7777
    }

    /// The names in the target, sorted; generations are shown as `..GENERATION`.
    pub(crate) fn names(&self) -> Vec<String> {
        self.names_in("")
    }

    /// The names in a directory of the target, as [`names`](Self::names).
    pub(crate) fn names_in(&self, dir: &str) -> Vec<String> {
        let entries = fs::read_dir(self.target().join(dir)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| hide_generation(entry.unwrap().file_name().to_str().unwrap())).collect();
        names.sort();
        names
    }

    /// All of the target down to inodes and modification times.
    pub(crate) fn picture(&self) -> String {
        picture(&self.target(), true)
    }

    /// The same without the modification time of the target itself: for failures after the first write.
    pub(crate) fn picture_inside(&self) -> String {
        picture(&self.target(), false)
    }
}

/// The binary.
pub(crate) fn seed() -> Run {
    program(env!("CARGO_BIN_EXE_podkit-seed"))
}

/// The generation's directory name, by which `..data` names it.
pub(crate) fn generation(target: &Path) -> String {
    fs::read_link(target.join("..data")).unwrap().to_str().unwrap().to_owned()
}

fn hide_generation(name: &str) -> String {
    if name.starts_with("..2") { "..GENERATION".to_owned() } else { name.to_owned() }
}

pub(crate) fn picture(path: &Path, with_top: bool) -> String {
    let mut text = String::new();
    draw(path, 0, with_top, &mut text);
    text
}

fn draw(path: &Path, depth: usize, with_time: bool, out: &mut String) {
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        Err(error) => {
            let _ = writeln!(out, "{}: {error}", path.display());
            return;
        }
    };
    let name = path.file_name().unwrap().display();
    let _ =
        write!(out, "{:indent$}{name} inode {} mode {:o}", "", meta.ino(), meta.mode(), indent = depth * 2);
    if with_time {
        let _ = write!(out, " mtime {}.{:09}", meta.mtime(), meta.mtime_nsec());
    }
    if meta.is_symlink() {
        let _ = writeln!(out, " -> {}", fs::read_link(path).unwrap().display());
    } else if meta.is_dir() {
        out.push('\n');
        let mut inside: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        inside.sort();
        for path in inside {
            draw(&path, depth + 1, true, out);
        }
    } else if meta.is_file() {
        let _ = writeln!(out, " {:?}", String::from_utf8_lossy(&fs::read(path).unwrap()));
    } else {
        out.push_str(" special\n");
    }
}
