//! The README's configs, as they stand, against the real parser.

use crate::kit::{Sandbox, seed};

#[test]
fn every_config_of_the_readme_is_accepted() {
    let readme = include_str!("../../README.md");
    let blocks = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut checked = 0;
    for block in blocks {
        let sandbox = Sandbox::new();
        // Fragments leave out what goes without saying.
        let target = if block.contains("target:") { "" } else { "target: /shared/config\n" };
        let files = if block.contains("files:") || block.contains("wait:") { "" } else { "files: []\n" };
        let text = format!("{target}{files}{block}").replace("\"…\"", &"0".repeat(64));
        let path = sandbox.write("seed.yaml", text);
        seed().args(["check", "--config", path.to_str().unwrap()]).expect_exit(0);
        checked += 1;
    }
    assert!(checked >= 8, "the README has lost its configs: {checked} left");
}
