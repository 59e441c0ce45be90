//! The manifests in `examples/` against the real binaries: every flag is known, every value is accepted, and the
//! promises that the binaries rely on (security context, one grace period, the node's address) are kept.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use saphyr_parser::{Event, Parser};
use serde_json::{Map, Value, json};

use crate::{binaries::Binaries, screen::Screen};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Where the manifests mount their ConfigMaps.
const MOUNTS: [&str; 2] = ["/seed/", "/proxy/"];

/// One call of a podkit binary in a manifest.
#[derive(Debug)]
struct Call {
    place: String,
    binary: String,
    args: Vec<String>,
}

#[tokio::test]
async fn every_flag_and_value_in_the_manifests_is_accepted_by_the_binaries() {
    let binaries = Binaries::build(&Screen::new()).await.unwrap();
    let mut seen = Vec::new();
    for (name, documents) in manifests() {
        let config = tempfile::tempdir().unwrap();
        write_config_maps(&documents, config.path());
        for call in documents.iter().flat_map(|document| calls(&name, document)) {
            let program = binaries.get(&call.binary);
            knows_the_flags(&program, &call);
            accepts_the_values(&program, &call, config.path());
            seen.push(call.binary);
        }
    }
    for binary in ["podkit-seed", "podkit-proxy", "podkit-ship", "podkit-drain"] {
        assert!(seen.iter().any(|seen| seen == binary), "no manifest runs {binary}");
    }
}

#[test]
fn every_image_of_ours_is_of_this_version() {
    for (name, pod) in pods() {
        for container in containers(&pod) {
            let image = container["image"].as_str().expect("an image");
            let (repository, tag) = image.rsplit_once(':').expect("a tag");
            // What is on this machine alone, we have built.
            if repository.contains("podkit") || repository.starts_with("localhost/") {
                assert_eq!(tag, env!("CARGO_PKG_VERSION"), "{name}: {image}");
            }
        }
    }
}

#[test]
fn every_container_is_restricted() {
    for (name, pod) in pods() {
        assert_eq!(pod["securityContext"]["runAsNonRoot"], json!("true"), "{name}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], json!("RuntimeDefault"), "{name}");
        for container in containers(&pod) {
            let security = &container["securityContext"];
            assert_eq!(security["readOnlyRootFilesystem"], json!("true"), "{name}: {}", container["name"]);
            assert_eq!(security["allowPrivilegeEscalation"], json!("false"), "{name}: {}", container["name"]);
            assert_eq!(security["capabilities"]["drop"], json!(["ALL"]), "{name}: {}", container["name"]);
            assert!(container["resources"]["limits"]["memory"].is_string(), "{name}: {}", container["name"]);
        }
    }
}

#[test]
fn drain_and_the_kubelet_count_with_the_same_grace_period() {
    let mut hooks = 0;
    for (name, pod) in pods() {
        let grace = format!("--grace={}s", pod["terminationGracePeriodSeconds"].as_str().expect("a number"));
        for container in containers(&pod).filter(|container| container.get("lifecycle").is_some()) {
            let hook = strings(&container["lifecycle"]["preStop"]["exec"]["command"]);
            assert!(hook.contains(&grace), "{name}: {hook:?} has no {grace}");
            // podman knows no such field, and has no probes from a node.
            let env = container["env"].as_array().map_or(&[][..], Vec::as_slice);
            let told = env.iter().any(|variable| variable["name"] == "HOST_IP");
            assert!(told != name.starts_with("podman/"), "{name}: HOST_IP");
            hooks += 1;
        }
    }
    assert!(hooks > 0, "no manifest has a preStop hook");
}

/// Native sidecars stop one after the other, when the hook and the app have ended; plain ones at the same time. Who is not done when the grace period
/// is gets a SIGKILL, and ship's ledger is not written.
#[test]
fn the_reserve_is_enough_for_the_sidecars() {
    let mut budgets = 0;
    for (name, documents) in manifests() {
        let files = || documents.iter().filter_map(|document| document["data"].as_object()).flatten();
        for pod in documents.iter().filter_map(pod_of) {
            let hooks = containers(pod).map(|one| strings(&one["lifecycle"]["preStop"]["exec"]["command"]));
            let Some(reserve) = hooks.flatten().find_map(|word| seconds_of(&word, "--reserve=")) else {
                continue;
            };
            let (native, plain): (Vec<_>, Vec<_>) = containers(pod)
                .filter(|one| stops_with_a_deadline(one))
                .partition(|one| one["restartPolicy"] == json!("Always"));
            let deadline = |container: &&Value| {
                let args = strings(&container["args"]);
                let given = args.iter().find_map(|arg| seconds_of(arg, "--shutdown-deadline="));
                let file =
                    args.iter().find_map(|arg| MOUNTS.iter().find_map(|mount| arg.strip_prefix(mount)));
                let of_it = files().find(|(name, _)| Some(name.as_str()) == file);
                let in_file = of_it.and_then(|(_, text)| seconds_of(text.as_str()?, "shutdown: {deadline: "));
                given.or(in_file).unwrap_or(20)
            };
            // Plain ones get their SIGTERM side by side.
            let needed: u64 = native.iter().map(deadline).sum::<u64>()
                + plain.iter().map(deadline).max().unwrap_or_default();
            assert!(needed < reserve, "{name}: the sidecars may take {needed}s of a reserve of {reserve}s");
            budgets += 1;
        }
    }
    assert!(budgets > 0, "no manifest has a hook with a reserve");
}

fn stops_with_a_deadline(container: &Value) -> bool {
    let image = container["image"].as_str().unwrap_or_default();
    image.contains("podkit-proxy") || image.contains("podkit-ship")
}

/// The whole seconds behind a mark: `--reserve=15s`.
fn seconds_of(text: &str, mark: &str) -> Option<u64> {
    let (_, rest) = text.split_once(mark)?;
    rest.split_once('s')?.0.parse().ok()
}

fn knows_the_flags(program: &Path, call: &Call) {
    let help = Command::new(program).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let known =
        |flag: &str| help.split(|c: char| !(c.is_alphanumeric() || c == '-')).any(|word| word == flag);
    for flag in call.args.iter().filter(|arg| arg.starts_with("--")) {
        let name = flag.split('=').next().unwrap_or(flag);
        assert!(known(name), "{}: {} knows no {name}\n{help}", call.place, call.binary);
    }
}

fn accepts_the_values(program: &Path, call: &Call, config: &Path) {
    if call.args.first().is_some_and(|arg| arg == "install") {
        return;
    }
    let args = call.args.iter().map(|arg| local(arg, config));
    let output = Command::new(program).arg("check").args(args).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {} check {:?}: {told}", call.place, call.binary, call.args);
}

/// A text with the mount points of ConfigMaps moved to `dir`.
fn local(text: &str, dir: &Path) -> String {
    MOUNTS.iter().fold(text.to_owned(), |text, mount| text.replace(mount, &format!("{}/", dir.display())))
}

/// The files of each ConfigMap.
fn write_config_maps(documents: &[Value], dir: &Path) {
    for (name, text) in documents.iter().filter_map(|document| document["data"].as_object()).flatten() {
        fs::write(dir.join(name), local(text.as_str().expect("text"), dir)).unwrap();
    }
}

fn calls(manifest: &str, document: &Value) -> Vec<Call> {
    let mut calls = Vec::new();
    let Some(pod) = pod_of(document) else { return calls };
    for container in containers(pod) {
        let place = format!("{manifest}: {}", container["name"].as_str().expect("a name"));
        let image = container["image"].as_str().expect("an image");
        let repository = image.rsplit_once(':').map_or(image, |(repository, _)| repository);
        let hook = strings(&container["lifecycle"]["preStop"]["exec"]["command"]);
        let mut own = vec![repository.to_owned()];
        own.extend(strings(&container["args"]));
        for words in [own, hook] {
            let Some((program, args)) = words.split_first() else { continue };
            let binary = program.rsplit('/').next().unwrap_or(program).to_owned();
            if binary.starts_with("podkit-") {
                calls.push(Call { place: place.clone(), binary, args: args.to_vec() });
            }
        }
    }
    calls
}

fn pods() -> Vec<(String, Value)> {
    let all = manifests().into_iter();
    let pods = all.flat_map(|(name, documents)| {
        documents.into_iter().filter_map(move |document| Some((name.clone(), pod_of(&document)?.clone())))
    });
    let pods: Vec<_> = pods.collect();
    assert!(pods.len() >= 2, "a Deployment and a Job");
    pods
}

fn pod_of(document: &Value) -> Option<&Value> {
    if document["kind"] == "Pod" {
        return document.get("spec");
    }
    document["spec"].get("template")?.get("spec")
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"].into_iter().filter_map(|list| pod[list].as_array()).flatten()
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|word| Some(word.as_str()?.to_owned())).collect()
}

fn manifests() -> Vec<(String, Vec<Value>)> {
    let folders = [EXAMPLES.to_owned(), format!("{EXAMPLES}/podman")];
    let files = folders.iter().flat_map(|dir| fs::read_dir(dir).unwrap()).map(|entry| entry.unwrap().path());
    let yaml = files.filter(|path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml"));
    yaml.map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(EXAMPLES).unwrap().to_string_lossy().into_owned();
        let documents = documents(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, documents)
    })
    .collect()
}

/// All documents of a YAML stream, every scalar as text.
fn documents(text: &str) -> Result<Vec<Value>, saphyr_parser::ScanError> {
    /// A list or mapping that is still open, its anchor, and the key that waits for a value.
    struct Open {
        node: Value,
        anchor: usize,
        key: Option<String>,
    }
    let (mut documents, mut open, mut anchors) = (Vec::new(), Vec::<Open>::new(), HashMap::new());
    for event in Parser::new_from_str(text) {
        let (node, anchor) = match event?.0 {
            Event::Scalar(text, _, anchor, _) => (Value::String(text.into_owned()), anchor),
            Event::Alias(anchor) => (Value::clone(&anchors[&anchor]), 0),
            Event::SequenceStart(anchor, _) => {
                open.push(Open { node: json!([]), anchor, key: None });
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push(Open { node: Value::Object(Map::new()), anchor, key: None });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let closed = open.pop().expect("the parser pairs starts and ends");
                (closed.node, closed.anchor)
            }
            _ => continue,
        };
        anchors.insert(anchor, node.clone());
        match open.last_mut() {
            None => documents.push(node),
            Some(Open { node: Value::Array(list), .. }) => list.push(node),
            Some(Open { node: Value::Object(map), key, .. }) => match key.take() {
                Some(name) => drop(map.insert(name, node)),
                None => *key = Some(node.as_str().expect("keys are text").to_owned()),
            },
            Some(Open { .. }) => unreachable!("only lists and mappings are open"),
        }
    }
    Ok(documents)
}
