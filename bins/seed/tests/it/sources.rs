//! What files are made of: templates, inline text, copies, values; and what is said when they cannot be made.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::kit::{Sandbox, seed};

#[test]
fn a_template_is_rendered_from_values_environment_and_files() {
    let sandbox = Sandbox::new();
    sandbox.write("base.yaml", "db: {host: localhost, port: 5432}\nlist: [b, a]\n");
    sandbox.write("prod.json", "{\"db\": {\"host\": \"db.prod\"}, \"debug\": false}");
    let motd = sandbox.write("motd", "hello\n");
    sandbox.write(
        "app.j2",
        format!(
            "url={{{{ values.db.host }}}}:{{{{ values.db.port }}}} pod={{{{ env.POD }}}} debug={{{{ values.debug }}}}\n\
             {{% for x in values.list -%}}\n{{{{ x }}}}\n{{% endfor -%}}\n\
             {{{{ file('{}') }}}}$host ${{x}} & <b>\n\n",
            motd.display()
        ),
    );
    sandbox.config(
        "values: ['@/base.yaml', '@/prod.json']\nfiles:\n  - {path: app.html, template: '@/app.j2'}\n",
    );
    sandbox.seed().env("POD", "web-1").expect_exit(0);
    assert_eq!(
        sandbox.read("app.html"),
        "url=db.prod:5432 pod=web-1 debug=false\nb\na\nhello\n$host ${x} & <b>\n\n"
    );
    assert_eq!(sandbox.mode("app.html"), 0o644);
}

#[test]
fn inline_text_is_a_template_after_the_config_is_expanded() {
    let sandbox = Sandbox::new();
    sandbox.config(
        "files:\n  - path: a/b/c.env\n    inline: |\n      POD=${POD}\n      ZONE=${ZONE:-none}\n      N={{ 6 * 7 }}\n      \
         COST=$${x}\n  - path: empty\n    inline: ''\n  - path: no-newline\n    inline: x\n",
    );
    sandbox.seed().env("POD", "{{ web }}".replace("{{ web }}", "web-1")).expect_exit(0);
    assert_eq!(sandbox.read("a/b/c.env"), "POD=web-1\nZONE=none\nN=42\nCOST=${x}\n");
    assert_eq!(sandbox.read("empty"), "");
    assert_eq!(sandbox.read("no-newline"), "x");
}

#[test]
fn a_copied_file_keeps_its_bytes_and_its_mode_without_setuid() {
    let sandbox = Sandbox::new();
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for (name, mode) in [("bin", 0o4755), ("key", 0o600), ("plain", 0o644)] {
        let path = sandbox.write(name, &bytes);
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    sandbox.run(
        "files:\n  - {path: bin, copy: '@/bin'}\n  - {path: key, copy: '@/key'}\n  \
         - {path: plain, copy: '@/plain', mode: '0440'}\n",
    );
    assert_eq!(fs::read(sandbox.target().join("bin")).unwrap(), bytes);
    assert_eq!(["bin", "key", "plain"].map(|name| sandbox.mode(name)), [0o755, 0o600, 0o440]);
}

#[test]
fn a_mounted_volume_is_copied_through_its_links_and_without_its_machinery() {
    let sandbox = Sandbox::new();
    sandbox.write("tls/..2026_01_01_00_00_00.1/tls.crt", "CRT");
    sandbox.write("tls/..2026_01_01_00_00_00.1/ca/root.pem", "CA");
    sandbox.link("tls/..data", "..2026_01_01_00_00_00.1");
    sandbox.link("tls/tls.crt", "..data/tls.crt");
    sandbox.link("tls/ca", "..data/ca");
    sandbox.write("plain/a/b", "B");
    sandbox.run(
        "files:\n  - {path: tls/, copy: '@/tls', mode: '0400'}\n  - {path: deep/plain, copy: '@/plain'}\n",
    );
    assert_eq!(sandbox.read("tls/tls.crt"), "CRT");
    assert_eq!(sandbox.read("tls/ca/root.pem"), "CA");
    assert_eq!(sandbox.read("deep/plain/a/b"), "B");
    assert_eq!(sandbox.mode("tls/ca/root.pem"), 0o400);
    let mut names: Vec<_> =
        fs::read_dir(sandbox.target().join("tls")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["ca", "tls.crt"]);
}

/// The kubelet swaps a volume by its `..data` link at any moment: what is copied must be of one time.
#[test]
fn a_volume_that_is_swapped_while_it_is_read_never_yields_a_mix() {
    const FILES: usize = 20;
    let sandbox = Sandbox::new();
    for side in ["x", "y"] {
        for n in 0..FILES {
            sandbox.write(&format!("volume/..{side}/{n}"), side);
        }
    }
    sandbox.link("volume/..data", "..x");
    for n in 0..FILES {
        sandbox.link(&format!("volume/{n}"), format!("..data/{n}"));
    }
    sandbox.config("files:\n  - {path: all/, copy: '@/volume'}\n  - {path: first, copy: '@/volume/0'}\n");

    let done = Arc::new(AtomicBool::new(false));
    let swapper = {
        let (done, volume) = (Arc::clone(&done), sandbox.path("volume"));
        thread::spawn(move || {
            for side in ["..y", "..x"].into_iter().cycle() {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                symlink(side, volume.join("..data_tmp")).unwrap();
                fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
                // Not awaited: the pace of a swapper that knows nothing of its readers.
                thread::sleep(Duration::from_millis(15));
            }
        })
    };
    let mut whole = 0;
    for _ in 0..20 {
        let seeded = sandbox.seed().finish();
        if seeded.status.code() == Some(1) {
            // Each of its tries was slower than the swapper: that is told, and nothing is written.
            let _ = seeded.expect_stderr("was swapped each time they were read");
            continue;
        }
        let _ = seeded.expect_exit(0);
        whole += 1;
        let first = sandbox.read("first");
        for n in 0..FILES {
            assert_eq!(sandbox.read(&format!("all/{n}")), first);
        }
    }
    assert!(whole > 0, "none was faster than the swapper");
    done.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
}

#[test]
fn an_undefined_name_is_told_with_template_and_line_and_the_name_that_was_meant() {
    let sandbox = Sandbox::new();
    sandbox.write("values.yaml", "db: {port: 5432}\n");
    let template = sandbox.write("app.j2", "# config\n\nport: {{ values.db.prot }}\n");
    sandbox.config("values: '@/values.yaml'\nfiles:\n  - {path: app.yaml, template: '@/app.j2'}\n");
    let failed = sandbox.seed().expect_exit(1);
    assert_eq!(
        failed.stderr,
        format!(
            "podkit-seed: cannot render \"app.yaml\" from {template:?} line 3 column 10: `values.db.prot` is \
             undefined\nhint: line 3: port: {{{{ values.db.prot }}}} (did you mean `values.db.port`?)\n"
        )
    );
    assert!(!sandbox.target().exists());
}

#[test]
fn all_files_that_cannot_be_made_are_told_in_one_run() {
    let sandbox = Sandbox::new();
    sandbox.config(
        "files:\n  - {path: a, inline: '{{ a1 }}'}\n  - {path: b, inline: fine}\n  - {path: c, inline: '{{ c1 }}'}\n",
    );
    sandbox
        .seed()
        .expect_exit(1)
        .expect_stderr("cannot render \\\"c\\\" from its inline template line 1 column 4: `c1` is undefined")
        .expect_stderr(
            "podkit-seed: cannot render \"a\" from its inline template line 1 column 4: `a1` is undefined (and 1 more: see the log)\n",
        );
}

#[test]
fn an_input_that_is_too_large_to_be_one_is_not_read_into_memory() {
    const MOST: u64 = 16 << 20;
    let sandbox = Sandbox::new();
    sandbox.run("files: [{path: got, inline: before}]\n");
    let before = sandbox.picture();
    sandbox.write("small.yaml", "a: 1\n");
    sandbox.write("half.yaml", format!("b: {}\n", "x".repeat(9 << 20)));
    for name in ["large.yaml", "large.env", "large.j2"] {
        let path = sandbox.write(name, "");
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(MOST + 1).unwrap();
    }
    for (keys, file, why) in [
        ("values: ['@/small.yaml', '@/large.yaml']\nfiles: []\n", "large.yaml", ""),
        ("files: [{path: got, template: '@/large.j2'}]\n", "large.j2", ""),
        ("files: [{path: got, envsubst: {from: '@/large.j2', only: [A]}}]\n", "large.j2", ""),
        ("files: [{path: got, env: {set: {A: {secretRef: '@/large.env'}}}}]\n", "large.env", ""),
        ("files: [{path: got, inline: \"{{ file('@/large.j2') | length }}\"}]\n", "large.j2", ""),
        (
            "values: ['@/half.yaml', '@/small.yaml', '@/half.yaml']\nfiles: []\n",
            "half.yaml",
            "cannot use PATH: with it, the values are larger than 16MiB together\n",
        ),
    ] {
        let why = if why.is_empty() {
            "cannot read PATH: it is larger than 16MiB, the most that is read of a file\n"
        } else {
            why
        };
        sandbox.config(keys);
        sandbox
            .seed()
            .expect_exit(1)
            .expect_stderr(&why.replace("PATH", &format!("{:?}", sandbox.path(file))));
        assert_eq!(sandbox.picture(), before, "{keys}");
    }
    let why = "cannot read the config file \"/dev/zero\": it is larger than 16MiB, the most that is read of a file\n";
    seed().args(["--config", "/dev/zero"]).expect_exit(64).expect_stderr(why);
    let sandbox = Sandbox::new();
    sandbox.config(
        "files: [{path: a, url: 'http://127.0.0.1:9/', unverified: true, auth: {bearer_file: /dev/zero}}]\n",
    );
    let why = "cannot read \"/dev/zero\": it is larger than 16MiB, the most that is read of a file\n";
    sandbox.seed().expect_exit(1).expect_stderr(why);
}
