//! What Python programs load from a sidecar is what was sealed: by `safetensors`, by a real model's own package, and by `transformers`,
//! all of them unchanged and told nothing but a path.

mod world;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portcullis_tests::arguments;
use portcullis_tests::programs::{Part, Server};
use portcullis_tests::python::Python;
use serde_json::Value;
use testbed::model;
use world::{GENUINE, World, can_mount};

/// How long opening may take: generous, because machines are busy.
const PATIENCE: Duration = Duration::from_secs(90);
/// The name of the model.
const NAME: &str = "acme/python";

/// A sidecar that is asked to end, and so leaves no mount, whatever becomes of the test.
struct Sidecar(Option<Server>);

impl Drop for Sidecar {
    fn drop(&mut self) {
        drop(self.0.take().map(Server::stop));
    }
}

/// A model that a script made, sealed and published, and opened each way that this machine knows.
struct Served {
    plain: PathBuf,
    /// Where `NAME@current` is, opened and mounted.
    current: Vec<PathBuf>,
    _sidecars: Vec<Sidecar>,
    world: World,
}

impl Served {
    fn new(python: &Python, script: &str) -> Self {
        let world = World::new();
        let plain = world.installation.path("plain");
        python.run(script, [Path::new("make"), &plain]).unwrap();
        world.installation.seal(&plain, NAME, 1, "sealed").unwrap();
        world.installation.publish("sealed.record.json").unwrap();
        let ways: &[&str] = if can_mount() { &["open", "mount"] } else { &["open"] };
        let (current, sidecars) = ways.iter().map(|way| sidecar(&world, way)).unzip();
        Self { plain, current, _sidecars: sidecars, world }
    }

    /// What the script makes of the plaintext and of what was served: the same, which is given back.
    fn the_same_by(&self, python: &Python, script: &str) -> Value {
        let expected = python.run(script, [Path::new("use"), &self.plain]).unwrap();
        // Away, so that nothing can be read there by mistake.
        fs::rename(&self.plain, self.plain.with_extension("away")).unwrap();
        let served = python.run(script, std::iter::once(Path::new("use")).chain(self.current.iter().map(PathBuf::as_path))).unwrap();
        let served: Vec<&str> = served.lines().collect();
        assert_eq!(served, vec![expected.trim(); self.current.len()]);
        serde_json::from_str(&expected).unwrap()
    }
}

/// Starts a sidecar that opens the model in this way, and waits until it has.
fn sidecar(world: &World, way: &str) -> (PathBuf, Sidecar) {
    let models = world.to(way);
    let text = format!(
        "models = \"{}\"\nway = \"{way}\"\nprobes = \"127.0.0.1:0\"\n[[model]]\nname = \"{NAME}\"\nsealed = \"{}\"\n",
        models.display(),
        world.installation.path("sealed").display()
    );
    let pod = format!("{way}.toml");
    world.installation.write(&pod, text.as_bytes()).unwrap();
    let how = arguments!["sidecar", "--config", "guest.toml", "--evidence", format!("agent:{GENUINE}"), "--pod", pod, "--json"];
    let serving = |line: &str| line.contains("serving probes").then(String::new);
    let server = world.installation.programs().serve(Part::Guest, how, serving).unwrap();
    let current = models.join(format!("{NAME}@current"));
    let until = Instant::now() + PATIENCE;
    while !current.is_dir() {
        assert!(Instant::now() < until, "{way}: not open\n{}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    (current, Sidecar(Some(server)))
}

fn python(modules: &[&str]) -> Option<Python> {
    Python::with(modules).inspect_err(|skipped| println!("{skipped}")).ok()
}

#[test]
fn a_real_model_gives_the_same_embeddings_opened_and_mounted() {
    let Some(python) = python(&["safetensors", "tokenizers", "wordllama"]) else { return };
    let served = Served::new(&python, "words.py");
    let files = model::read(&served.plain).unwrap();
    assert!(served.current.iter().all(|current| model::read(&fs::canonicalize(current).unwrap()).unwrap() == files));
    let found = served.the_same_by(&python, "words.py");
    assert_eq!(found["shape"], serde_json::json!([32000, 256]));
    // It is a model and no noise: what means nearly the same is near.
    let number = |name: &str| found[name].as_f64().unwrap();
    assert!(number("near") > 2.0 * number("far"), "{found}");
}

#[test]
fn transformers_loads_and_runs_a_model_opened_and_mounted() {
    let Some(python) = python(&["transformers", "safetensors", "wordllama"]) else { return };
    if !(python.has("torch") || python.has("jax") && python.has("flax")) {
        return println!("skipped: transformers computes nothing here without torch, or jax with flax");
    }
    let found = Served::new(&python, "causal.py").the_same_by(&python, "causal.py");
    assert_eq!((found["type"].as_str(), found["shape"][2].as_u64()), (Some("llama"), Some(32000)), "{found}");
}

#[test]
fn a_weight_that_was_changed_in_storage_reaches_no_python_program() {
    let Some(python) = python(&["safetensors", "tokenizers", "wordllama"]) else { return };
    if !can_mount() {
        return;
    }
    let served = Served::new(&python, "words.py");
    let mounted = served.current.last().unwrap();
    let sealed = served.world.installation.path("sealed/model.safetensors");
    let middle = File::open(&sealed).unwrap().metadata().unwrap().len() / 2;
    let flip = || {
        let file = File::options().read(true).write(true).open(&sealed).unwrap();
        let mut byte = [0];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, middle).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[byte[0] ^ 1], middle).unwrap();
    };
    flip();
    // Through a map it is SIGBUS, which ends the program before it has computed anything.
    let said = python.run("words.py", [Path::new("use"), mounted]).unwrap_err();
    assert!(!said.contains("vectors"), "{said}");
    // What is put right is read again.
    flip();
    assert!(python.run("words.py", [Path::new("use"), mounted]).unwrap().contains("vectors"));
}
