//! The house as it is built, held against the house as it is drawn: who may depend on whom, and what no crate of ours does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// A room of the house.
struct Room {
    folder: &'static str,
    /// What it may depend on of ours, in words of `docs/architecture.md`, and as folders.
    said: &'static str,
    may: &'static [&'static str],
}

const EVERY: &[&str] = &[
    "protocol",
    "attestation",
    "policies",
    "models-manifest",
    "broker",
    "guest-client",
    "guest-client/connection",
    "cli",
    "tests",
    "tests/testbed",
    "benches",
];

/// DESIGN section 2, as `docs/architecture.md` tells it. The testbed is for tests alone: nobody but `tests` and `benches` depends on it,
/// and everybody may in their own tests.
const HOUSE: &[Room] = &[
    Room { folder: "protocol", said: "nothing of ours", may: &[] },
    Room { folder: "attestation", said: "protocol", may: &["protocol"] },
    Room { folder: "policies", said: "attestation, protocol", may: &["attestation", "protocol"] },
    Room { folder: "models-manifest", said: "protocol", may: &["protocol"] },
    Room { folder: "broker", said: "attestation, policies, protocol", may: &["attestation", "policies", "protocol"] },
    Room {
        folder: "guest-client",
        said: "connection, models-manifest, protocol",
        may: &["guest-client/connection", "models-manifest", "protocol"],
    },
    Room { folder: "guest-client/connection", said: "protocol", may: &["protocol"] },
    Room {
        folder: "cli",
        said: "attestation, connection, models-manifest, policies, protocol",
        may: &["attestation", "guest-client/connection", "models-manifest", "policies", "protocol"],
    },
    Room { folder: "tests", said: "all", may: EVERY },
    Room { folder: "tests/testbed", said: "protocol at most", may: &["protocol"] },
    Room { folder: "benches", said: "all", may: EVERY },
];

/// Rooms that take bytes and a time and give a value: no runtime, no HTTP, no clock, no logging.
const PURE: [&str; 4] = ["protocol", "attestation", "policies", "models-manifest"];
/// What a pure room does not link.
const IMPURE: &[&str] = &[
    "anyhow",
    "async-std",
    "axum",
    "chrono",
    "env_logger",
    "futures",
    "hyper",
    "hyper-util",
    "log",
    "reqwest",
    "smol",
    "tokio",
    "tokio-rustls",
    "tower",
    "tracing",
    "tracing-subscriber",
    "ureq",
];
/// The modules in which unsafe code is allowed: each wraps one interface of the operating system, or of the allocator, that leaves no other way.
const UNSAFE: &[&str] = &[
    "models-manifest/tests/memory.rs: mod counting {",
    "guest-client/src/evidence/mod.rs: mod ioctl;",
    "guest-client/src/sidecar/mod.rs: pub mod in_use;",
    "tests/testbed/src/lib.rs: pub mod mapped;",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap()
}

/// The folder of a member, from the root.
fn folder(package: &Package) -> String {
    let folder = package.manifest_path.parent().unwrap();
    let root = root().canonicalize().unwrap();
    Path::new(folder.as_str()).canonicalize().unwrap().strip_prefix(root).unwrap().to_str().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn each_room_depends_on_what_the_drawing_says_and_nothing_else_of_ours() {
    let metadata = metadata();
    let names: BTreeMap<String, String> = metadata.packages.iter().map(|package| (package.name.to_string(), folder(package))).collect();
    let expected: BTreeSet<&str> = HOUSE.iter().map(|room| room.folder).collect();
    assert_eq!(names.values().map(String::as_str).collect::<BTreeSet<_>>(), expected, "the members of the workspace");
    for package in &metadata.packages {
        let own = folder(package);
        let room = HOUSE.iter().find(|room| room.folder == own).unwrap();
        for dependency in &package.dependencies {
            let Some(other) = names.get(&dependency.name) else { continue };
            let for_tests = dependency.kind == DependencyKind::Development && other == "tests/testbed";
            assert!(for_tests || room.may.contains(&other.as_str()), "{own} depends on {other}");
        }
    }
}

#[test]
fn the_drawing_in_the_docs_is_this_one() {
    let drawing = read("docs/architecture.md");
    for room in HOUSE {
        let row = format!("| `{}/` | {} |", room.folder, room.said);
        assert!(drawing.contains(&row), "docs/architecture.md has no row {row}");
    }
}

#[test]
fn pure_rooms_link_no_runtime_no_http_no_logging() {
    let metadata = metadata();
    let mut seen = 0;
    for package in metadata.packages.iter().filter(|package| PURE.contains(&folder(package).as_str())) {
        seen += 1;
        let linked = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
        let impure: Vec<&str> = linked.map(|dependency| dependency.name.as_str()).filter(|name| IMPURE.contains(name)).collect();
        assert!(impure.is_empty(), "{} links {impure:?}", package.name);
    }
    assert_eq!(seen, PURE.len());
}

#[test]
fn pure_rooms_read_no_clock_and_open_no_socket() {
    // `models-manifest` opens folders; nothing else here touches the machine.
    for room in PURE {
        for (path, text) in sources(room) {
            let code: String = text.lines().take_while(|line| !line.contains("#[cfg(test)]")).collect::<Vec<_>>().join("\n");
            for needle in ["SystemTime", "Instant::now", "std::net", "std::env", "std::process"] {
                let in_tests = path.contains("/tests") || path.ends_with("vectors.rs");
                assert!(in_tests || !code.contains(needle), "{path} uses {needle}");
            }
        }
    }
}

/// One of our packages as far as it matters for copyleft: dependencies by name, whether optional, and the features that it asks them for.
struct Links<'a> {
    name: &'a str,
    dependencies: Vec<(&'a str, bool, Vec<&'a str>)>,
    features: BTreeMap<&'a str, Vec<&'a str>>,
}

/// Why copyleft code could be linked by somebody else than the broker. `copyleft` are names of packages.
fn copyleft_outside_the_broker(members: &[Links<'_>], copyleft: &[&str]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut enabling: Vec<(&str, BTreeSet<&str>)> = Vec::new();
    for member in members {
        let links: Vec<_> = member.dependencies.iter().filter(|(name, ..)| copyleft.contains(name)).collect();
        if links.is_empty() {
            continue;
        }
        broken.extend(links.iter().filter(|(_, optional, _)| !optional).map(|(name, ..)| format!("{} always links {name}", member.name)));
        let mut features = BTreeSet::new();
        // A feature enables it directly or by another feature; the list is short, so go round until nothing is new.
        loop {
            let before = features.len();
            for (feature, enables) in &member.features {
                let direct = |text: &str| {
                    copyleft.iter().any(|name| text == *name || text.contains(&format!(":{name}")) || text.starts_with(&format!("{name}/")))
                };
                if enables.iter().any(|text| direct(text) || features.contains(text)) {
                    features.insert(*feature);
                }
            }
            if features.len() == before {
                break;
            }
        }
        if features.contains("default") {
            broken.push(format!("{} links it by default", member.name));
        }
        enabling.push((member.name, features));
    }
    // What is measured beside the broker, and never shipped, links what the broker links.
    for member in members.iter().filter(|member| !["portcullis-broker", "portcullis-benches"].contains(&member.name)) {
        for (name, _, asked) in &member.dependencies {
            let features = enabling.iter().find(|(package, _)| package == name).map(|(_, features)| features);
            let asks: Vec<_> = asked.iter().filter(|feature| features.is_some_and(|features| features.contains(*feature))).collect();
            if !asks.is_empty() {
                broken.push(format!("{} asks {name} for {asks:?}", member.name));
            }
        }
        // By whatever name the dependency has here.
        for (feature, enables) in &member.features {
            let passes_on = |text: &&&str| {
                let asked = text.split_once('/').map(|(_, asked)| asked);
                asked.is_some_and(|asked| enabling.iter().any(|(_, features)| features.contains(asked)))
            };
            broken.extend(enables.iter().filter(passes_on).map(|text| format!("{}'s {feature} enables {text}", member.name)));
        }
    }
    broken
}

#[test]
fn only_the_broker_may_ask_for_copyleft_code() {
    let member = |name, dependencies, features: &[(&'static str, &[&'static str])]| Links {
        name,
        dependencies,
        features: features.iter().map(|(name, enables)| (*name, enables.to_vec())).collect(),
    };
    let attestation = |optional, default: &'static [&'static str]| {
        let features: [(&str, &[&str]); 2] = [("second-opinion", &["dep:tdx-quote"]), ("default", default)];
        member("portcullis-attestation", vec![("tdx-quote", optional, vec![])], &features)
    };
    let asking = |name| member(name, vec![("portcullis-attestation", false, vec!["second-opinion"])], &[]);
    let broken = |members: &[Links<'_>]| copyleft_outside_the_broker(members, &["tdx-quote"]).len();
    assert_eq!(broken(&[attestation(true, &[]), asking("portcullis-broker")]), 0);
    assert_eq!(broken(&[attestation(false, &[])]), 1);
    assert_eq!(broken(&[attestation(true, &["second-opinion"])]), 1);
    assert_eq!(broken(&[attestation(true, &[]), asking("portcullis-cli")]), 1);
    let passing_on = |name| member(name, vec![("portcullis-attestation", false, vec![])], &[("default", &["attestation/second-opinion"])]);
    assert_eq!(broken(&[attestation(true, &[]), passing_on("portcullis-broker")]), 0);
    assert_eq!(broken(&[attestation(true, &[]), passing_on("portcullis-cli")]), 1);

    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).exec().unwrap();
    let is_copyleft = |package: &&Package| package.license.as_deref().is_some_and(|text| text.contains("AGPL"));
    let copyleft: Vec<&str> = metadata.packages.iter().filter(is_copyleft).map(|package| package.name.as_str()).collect();
    let members: Vec<Links<'_>> = metadata
        .workspace_packages()
        .into_iter()
        .map(|package| Links {
            name: package.name.as_str(),
            dependencies: package
                .dependencies
                .iter()
                .map(|dependency| (dependency.name.as_str(), dependency.optional, dependency.features.iter().map(String::as_str).collect()))
                .collect(),
            features: package
                .features
                .iter()
                .map(|(name, enables)| (name.as_str(), enables.iter().map(String::as_str).collect()))
                .collect(),
        })
        .collect();
    assert_eq!(copyleft_outside_the_broker(&members, &copyleft), Vec::<String>::new());
}

#[test]
fn unsafe_code_is_denied_but_in_the_listed_modules() {
    assert!(read("Cargo.toml").contains("unsafe_code = \"deny\""));
    for room in HOUSE {
        assert!(read(&format!("{}/Cargo.toml", room.folder)).contains("[lints]\nworkspace = true"), "{} has lints of its own", room.folder);
    }
    let mut found = Vec::new();
    for (path, text) in HOUSE.iter().flat_map(|room| sources(room.folder)) {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for pair in lines.windows(2) {
            let [attribute, item] = pair else { continue };
            if attribute.starts_with("#")
                && ["allow(", "expect(", "warn("].iter().any(|how| attribute.contains(&format!("{how}unsafe_code")))
            {
                found.push(format!("{path}: {item}"));
            }
        }
    }
    assert_eq!(found, UNSAFE);
}

#[test]
fn every_source_file_says_first_what_lives_in_it() {
    let mut without = Vec::new();
    let mut seen = 0;
    for (path, text) in HOUSE.iter().flat_map(|room| sources(room.folder)) {
        seen += 1;
        if !text.starts_with("//! ") {
            without.push(path);
        }
    }
    assert!(seen > 100, "{seen} files");
    assert!(without.is_empty(), "{without:?}");
}

/// The Rust files of a room, by path from the root, without those of a room inside it.
fn sources(room: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = ["src", "tests", "benches", "examples"].iter().map(|part| root().join(room).join(part)).collect();
    while let Some(next) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&next) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Tracked files that are text; `None`, and one line, where this is no git checkout.
fn tracked() -> Option<Vec<(String, String)>> {
    let listed = Command::new("git").arg("-C").arg(root()).args(["ls-files", "-z"]).output();
    let Some(listed) = listed.ok().filter(|listed| listed.status.success()) else {
        println!("skipped: this is no git checkout, or there is no git");
        return None;
    };
    let names = String::from_utf8(listed.stdout).unwrap();
    let text = |name: &str| Some((name.to_owned(), fs::read_to_string(root().join(name)).ok()?));
    Some(names.split('\0').filter(|name| !name.is_empty()).filter_map(text).collect())
}

#[test]
fn no_tracked_file_names_a_place_on_somebodys_machine() {
    let Some(files) = tracked() else { return };
    // Written so that this file does not name them either.
    let places = ["home", "root", "Users"].map(|folder| format!("/{folder}/"));
    let temporary = format!("/{}/", "tmp");
    assert!(files.len() > 100);
    for (name, text) in &files {
        for (number, line) in text.lines().enumerate() {
            let place = places.iter().chain([&temporary]).find(|place| begins_a_path(line, place));
            assert!(place.is_none(), "{name}:{}: {line}", number + 1);
        }
    }
}

/// Whether `place` stands in the line as the beginning of an absolute path.
fn begins_a_path(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        before.is_none_or(|character| !(character.is_alphanumeric() || "._-~/}*".contains(character)))
    })
}

#[test]
fn dependencies_come_from_the_public_registry_by_its_own_name() {
    for line in read("Cargo.lock").lines().filter(|line| line.starts_with("source = ")) {
        assert_eq!(line, "source = \"registry+https://github.com/rust-lang/crates.io-index\"");
    }
    let Some(files) = tracked() else { return };
    for (name, text) in files.iter().filter(|(name, _)| name.ends_with("Cargo.toml") || name.starts_with(".cargo/")) {
        for key in ["[source", "[registries", "replace-with", "registry =", "git = \""] {
            assert!(
                !text.lines().any(|line| line.trim_start().starts_with(key) || (key == "git = \"" && line.contains(key))),
                "{name} has {key}"
            );
        }
    }
}
