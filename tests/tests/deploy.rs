//! What people copy from `deploy/` is good: Kubernetes' schemas take the manifests, our own parsers take the configurations in them, the
//! probes are those of the sidecar, systemd takes the units, and the script that needs neither runs.

mod world;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use guest_client::config::Config;
use guest_client::evidence::Choice;
use guest_client::sidecar::catalog::Catalog;
use guest_client::sidecar::config::{SidecarConfig, Way};
use guest_client::sidecar::probes;
use guest_client::sidecar::shown::Shown;
use portcullis_tests::installation::MODEL;
use portcullis_tests::python::Python;
use serde_json::Value;
use world::{GENUINE, World};

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy").join(name)
}

/// The files of a folder with this ending, in order.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    files.sort();
    files
}

fn validator() -> Option<Python> {
    Python::with(&["kubernetes_validate", "yaml"]).inspect_err(|skipped| println!("{skipped}")).ok()
}

/// A deployment with what its sidecar is told.
struct Pod {
    spec: Value,
    guest: Config,
    sidecar: SidecarConfig,
    file: String,
}

impl Pod {
    /// Those of all manifests, once the schemas have taken them.
    fn all(python: &Python) -> Vec<Self> {
        let said = python.run("manifests.py", files(&deploy("kubernetes"), ".yaml")).unwrap();
        let documents: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let kind = |kind: &str| documents.iter().filter(move |line| line["document"]["kind"] == kind).cloned().collect::<Vec<_>>();
        let maps = kind("ConfigMap");
        assert_eq!(kind("NetworkPolicy").len(), 1);
        kind("Deployment").into_iter().map(|line| Self::of(&line, &maps)).collect()
    }

    fn of(line: &Value, maps: &[Value]) -> Self {
        let file = line["file"].as_str().unwrap().to_owned();
        let spec = line["document"]["spec"]["template"]["spec"].clone();
        let volumes = spec["volumes"].as_array().unwrap();
        let name = volumes.iter().find_map(|volume| volume["configMap"]["name"].as_str()).unwrap();
        let map = maps.iter().find(|map| map["file"] == line["file"] && map["document"]["metadata"]["name"] == name).unwrap();
        let text = |key: &str| map["document"]["data"][key].as_str().unwrap();
        let guest = Config::parse(text("guest.toml")).unwrap_or_else(|error| panic!("{file}: guest.toml: {error}"));
        let sidecar = SidecarConfig::parse(text("sidecar.toml")).unwrap_or_else(|error| panic!("{file}: sidecar.toml: {error}"));
        Self { spec, guest, sidecar, file }
    }

    fn containers(&self) -> impl Iterator<Item = &Value> {
        self.spec["initContainers"].as_array().unwrap().iter().chain(self.spec["containers"].as_array().unwrap())
    }

    fn container(&self, name: &str) -> &Value {
        self.containers().find(|container| container["name"] == name).unwrap_or_else(|| panic!("{}: no {name}", self.file))
    }

    fn engine(&self) -> &Value {
        &self.spec["containers"][0]
    }

    /// The folder under which its models appear.
    fn models(&self) -> &Path {
        self.sidecar.models.as_deref().unwrap_or_else(|| panic!("{}: no folder of models", self.file))
    }

    /// How `container` mounts the volume that has this path.
    fn mount<'a>(&self, container: &'a Value, path: &Path) -> &'a Value {
        let mounts = container["volumeMounts"].as_array().unwrap();
        let found = mounts.iter().find(|mount| path.starts_with(mount["mountPath"].as_str().unwrap()));
        found.unwrap_or_else(|| panic!("{}: {} mounts nothing for {}", self.file, container["name"], path.display()))
    }

    fn volume(&self, mount: &Value) -> &Value {
        self.spec["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == mount["name"]).unwrap()
    }
}

/// `20Gi` in bytes.
fn bytes(quantity: &Value) -> u64 {
    let text = quantity.as_str().unwrap();
    let (number, unit) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap());
    number.parse::<u64>().unwrap()
        << match unit {
            "Mi" => 20,
            "Gi" => 30,
            other => panic!("{other}"),
        }
}

/// That a container has no more than it needs.
fn assert_unprivileged(pod: &Pod, container: &Value) {
    let context = &container["securityContext"];
    let name = format!("{} {}", pod.file, container["name"]);
    assert_eq!((&context["runAsNonRoot"], &context["privileged"]), (&true.into(), &Value::Null), "{name}");
    assert_ne!(context["runAsUser"], 0, "{name}");
    assert_eq!((&context["allowPrivilegeEscalation"], &context["readOnlyRootFilesystem"]), (&false.into(), &true.into()), "{name}");
    assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]), "{name}");
}

#[test]
fn the_schemas_refuse_a_manifest_with_a_slip_and_take_ours() {
    let Some(python) = validator() else { return };
    assert!(Pod::all(&python).len() >= 3);
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(deploy("kubernetes/vllm.yaml")).unwrap();
    for (right, wrong, place) in [
        ("readinessProbe:", "readynessProbe:", "readynessProbe"),
        ("failureThreshold: 120", "failureThreshold: often", "failureThreshold"),
        ("{medium: Memory, sizeLimit: 19Gi}", "{medium: Memory, sizelimit: 19Gi}", "sizelimit"),
        ("      runtimeClassName: kata-qemu-snp", "      runtimeClassName: a\n      runtimeClassName: b", "twice"),
    ] {
        assert!(text.contains(right), "{right}");
        let path = folder.path().join("slip.yaml");
        fs::write(&path, text.replacen(right, wrong, 1)).unwrap();
        let said = python.run("manifests.py", [&path]).unwrap_err();
        assert!(said.contains(place), "{wrong}: {said}");
    }
}

#[test]
fn the_configurations_in_the_manifests_are_ours_and_fit_what_is_around_them() {
    let Some(python) = validator() else { return };
    for pod in Pod::all(&python) {
        let (sidecar, file) = (pod.container("portcullis"), &pod.file);
        assert_eq!((&sidecar["restartPolicy"], &sidecar["args"][0]), (&"Always".into(), &"sidecar".into()), "{file}: a native sidecar");
        assert!(pod.guest.covers.contains(&PathBuf::from("/etc/portcullis/sidecar.toml")), "{file}: it names a command");
        let Choice::Agent(agent) = &pod.guest.evidence else { panic!("{file}: {:?}", pod.guest.evidence) };
        pod.mount(sidecar, agent);
        if let Some(socket) = &pod.sidecar.socket {
            pod.mount(sidecar, socket);
        }
        for model in &pod.sidecar.wanted {
            assert_eq!(pod.mount(sidecar, Path::new(&model.sealed))["readOnly"], true, "{file}: {}", model.sealed);
        }
        // Plaintext is in memory that is bounded, and the engine cannot write there.
        let (written, read) = (pod.mount(sidecar, pod.models()), pod.mount(pod.engine(), pod.models()));
        assert_eq!((&written["name"], &written["readOnly"], &read["readOnly"]), (&read["name"], &Value::Null, &true.into()), "{file}");
        let folder = &pod.volume(written)["emptyDir"];
        assert_eq!(folder["medium"], "Memory", "{file}");
        let limit = bytes(&sidecar["resources"]["limits"]["memory"]);
        assert!(bytes(&folder["sizeLimit"]) < limit, "{file}: tmpfs is charged to the sidecar");
        for volume in pod.spec["volumes"].as_array().unwrap() {
            assert!(
                volume["emptyDir"].is_null() || volume["emptyDir"]["medium"] == "Memory",
                "{file}: {} may reach a disk",
                volume["name"]
            );
        }
        match pod.sidecar.way {
            Way::Open => {
                assert_unprivileged(&pod, sidecar);
                assert_eq!((&written["mountPropagation"], &read["mountPropagation"]), (&Value::Null, &Value::Null), "{file}");
            }
            Way::Mount => {
                assert_eq!(sidecar["securityContext"]["privileged"], true, "{file}: Kubernetes demands it for Bidirectional");
                let ways = (&written["mountPropagation"], &read["mountPropagation"]);
                assert_eq!(ways, (&"Bidirectional".into(), &"HostToContainer".into()), "{file}");
            }
        }
        assert_unprivileged(&pod, pod.engine());
        assert_ne!(pod.engine()["securityContext"]["runAsUser"], sidecar["securityContext"]["runAsUser"], "{file}");
    }
}

#[test]
fn the_engines_in_the_manifests_are_given_models_that_are_kept() {
    let Some(python) = validator() else { return };
    for pod in Pod::all(&python) {
        let engine = pod.engine();
        let words = ["command", "args"].iter().filter_map(|part| engine[part].as_array()).flatten().filter_map(Value::as_str);
        let below = format!("{}/", pod.models().display());
        let mut named: Vec<String> = words.filter_map(|word| Some(word.split_once(&below)?.1.to_owned())).collect();
        assert!(!named.is_empty(), "{}", pod.file);
        let parts = engine["volumeMounts"].as_array().unwrap().iter().filter_map(|mount| mount["subPath"].as_str());
        named.extend(parts.map(str::to_owned));
        for path in named {
            let (name, version) = path.split_once('@').unwrap_or_else(|| panic!("{}: {path}", pod.file));
            let model = pod.sidecar.wanted.iter().find(|model| model.name.as_str() == name);
            let model = model.unwrap_or_else(|| panic!("{}: {name} is not kept", pod.file));
            let pinned = model.version.map(|version| version.number().to_string());
            assert!(version == "current" || Some(version) == pinned.as_deref(), "{}: {path}", pod.file);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probes_in_the_manifests_are_those_of_the_sidecar() {
    let Some(python) = validator() else { return };
    let mut asked = BTreeSet::new();
    for pod in Pod::all(&python) {
        let address = pod.sidecar.probes;
        assert!(address.ip().is_unspecified(), "{}: a kubelet asks the pod's address", pod.file);
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            let get = &pod.container("portcullis")[probe]["httpGet"];
            assert_eq!(get["port"], address.port(), "{} {probe}", pod.file);
            asked.insert((probe, get["path"].as_str().unwrap().to_owned()));
        }
    }
    // One path for each, and a sidecar whose models are not open yet says so on each: it lives, and is neither started nor ready.
    let config = SidecarConfig::parse("models = \"/models\"\n[[model]]\nname = \"acme/a\"\nsealed = \"/s\"\n").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = probes::serve(listener, Shown::models(Arc::new(Catalog::new(&config)))).unwrap();
    let expected = [("livenessProbe", 200), ("readinessProbe", 503), ("startupProbe", 503)];
    assert_eq!(asked.len(), expected.len(), "{asked:?}");
    for ((probe, path), (name, status)) in asked.iter().zip(expected) {
        let head = tokio::task::spawn_blocking({
            let path = path.clone();
            move || get(TcpStream::connect(address).unwrap(), &path)
        });
        assert_eq!((*probe, head.await.unwrap()), (name, status), "{path}");
    }
    serving.abort();
}

fn get(mut stream: TcpStream, path: &str) -> u16 {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: sidecar\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn systemd_takes_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return println!("skipped: no systemd-analyze here");
    }
    let folder = tempfile::tempdir().unwrap();
    let units: Vec<PathBuf> = [".service", ".mount"].iter().flat_map(|ending| files(&deploy("systemd"), ending)).collect();
    assert!(units.len() >= 4, "{units:?}");
    let verify = |unit: &Path| {
        let said = Command::new("systemd-analyze").args(["verify", "--man=no", "--recursive-errors=no"]).arg(unit).output().unwrap();
        (said.status.success(), String::from_utf8(said.stderr).unwrap())
    };
    for unit in units {
        // The programs are not installed here: one that is stands in for them.
        let text = fs::read_to_string(&unit).unwrap();
        let copy = folder.path().join(unit.file_name().unwrap());
        let there: Vec<String> = text.lines().map(|line| if line.starts_with("Exec") { stand_in(line) } else { line.to_owned() }).collect();
        fs::write(&copy, there.join("\n")).unwrap();
        let name = copy.file_name().unwrap().to_string_lossy().into_owned();
        let (good, said) = verify(&copy);
        assert!(good && !said.contains(&name), "{said}");
        // A slip is noticed.
        fs::write(&copy, there.join("\n").replace("[Unit]", "[Unit]\nDescribtion=x")).unwrap();
        assert!(verify(&copy).1.contains("Describtion"));
    }
}

fn stand_in(line: &str) -> String {
    line.replace("/usr/local/bin/portcullis-broker", "/bin/true").replace("/usr/local/bin/portcullis-guest", "/bin/true")
}

#[test]
fn the_pod_without_kubernetes_runs_its_engine_and_leaves_nothing() {
    let world = World::with_model();
    let folder = world.installation.path("");
    // What a person has on the path: the programs under their names.
    let bin = world.installation.path("bin");
    fs::create_dir(&bin).unwrap();
    let program = bin.join("portcullis-guest");
    fs::write(&program, format!("#!/bin/bash\nexec -a portcullis-guest '{}' \"$@\"\n", world.executable().display())).unwrap();
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open(&program, 0o755);
    // The sidecar runs as a user of its own.
    world.open_to_all();
    let temporary = world.installation.path("temporary");
    fs::create_dir(&temporary).unwrap();
    let run = |way: &str, more: &[&str]| {
        let mut command = Command::new("bash");
        command.arg(deploy("pod-without-kubernetes.sh")).current_dir(&folder);
        command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())).env("TMPDIR", &temporary);
        command.args(["--config", "guest.toml", "--evidence", &format!("agent:{}", world.installation.path(GENUINE).display())]);
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        command.args(["--probes", &free.to_string(), "--way", way, "--size", "64M", "--model", &format!("{MODEL}=sealed")]).args(more);
        let ended = command.output().unwrap();
        (ended.status.code(), format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr)))
    };
    let usage = Command::new("bash").arg(deploy("pod-without-kubernetes.sh")).arg("--help").output().unwrap();
    assert!(usage.status.success() && String::from_utf8_lossy(&usage.stdout).contains("--model NAME=SEALED"));
    let (code, said) = run("open", &["--", "sh", "-c", "true"]);
    if said.contains("skipped:") {
        return println!("{}", said.lines().find(|line| line.contains("skipped:")).unwrap());
    }
    assert_eq!(code, Some(0), "{said}");
    let can_mount = guest_client::mount::place::ready(Path::new("/nonexistent"));
    let has_fuse = !matches!(can_mount, Err(guest_client::mount::place::PlaceError::NoDevice { .. }));
    let ways: &[&str] = if has_fuse { &["open", "mount"] } else { &["open"] };
    for way in ways {
        // The engine sees the files, cannot write there, has no capability, and its exit code is the script's.
        let engine = "set -e; cat \"$MODEL/config.json\"; if touch \"$MODEL/x\" 2>/dev/null; then echo written; fi; grep -E 'CapEff|NoNewPrivs' /proc/self/status; exit 7";
        let (code, said) = run(way, &["--", "sh", "-c", engine]);
        assert_eq!(code, Some(7), "{way}: {said}");
        for part in ["LlamaForCausalLM", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
            assert!(said.contains(part), "{way}: no {part}: {said}");
        }
        assert!(!said.contains("written"), "{way}: {said}");
    }
    let left = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!left.contains("portcullis-pod"), "{left}");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
    // Who is denied gets no engine, and the reason.
    let text = portcullis_tests::policy::accepting(portcullis_tests::machine::Tee::Snp, &[&"0".repeat(64)]);
    world.installation.put_policy_text(10, &text).unwrap();
    let (code, said) = run("open", &["--wait", "3", "--", "echo", "the engine ran"]);
    assert!(code == Some(1) && said.contains("configuration") && !said.contains("the engine ran\n"), "{code:?} {said}");
}
