//! What we link: only licences that go with ours, and no crate twice without a reason.
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};

/// Licences that Apache-2.0 software may be linked with and shipped under. MPL-2.0 asks for the source of its own files, which we
/// use unchanged.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// The packages that have a binary.
const BINARIES: [&str; 3] = ["portcullis-broker", "portcullis-guest-client", "portcullis-cli"];

/// Crates under another licence that are linked all the same, by whom, and why.
const EXCEPTIONS: &[(&str, &str, &str)] =
    &[("tdx-quote", "portcullis-broker", "the second opinion on TDX quotes, behind the feature second-opinion-tdx")];

fn is_an_exception(package: &Package) -> bool {
    EXCEPTIONS.iter().any(|(name, ..)| package.name.as_str() == *name)
}

/// Crates that stand twice in what we ship, and why. A name that is no longer twice must go from here.
const TWICE: &[(&str, &str)] = &[
    ("base64", "object_store is a generation ahead of sev and sqlx"),
    ("block-buffer", "below sha2"),
    ("const-oid", "tdx-quote, the second opinion on quotes, is a generation behind"),
    ("cpufeatures", "below sha2"),
    ("crypto-common", "below sha2"),
    ("der", "tdx-quote"),
    ("digest", "below sha2"),
    ("getrandom", "ring, which rustls names for platforms that we do not build"),
    ("hashbrown", "map crates of three generations: moka and sqlx, toml, governor"),
    ("hmac", "tdx-quote"),
    ("pkcs8", "tdx-quote"),
    ("rand_core", "tdx-quote"),
    ("sha2", "sqlx is a generation behind hpke and hkdf"),
    ("spin", "sqlx is a generation behind object_store"),
    ("spki", "tdx-quote"),
    ("syn", "procedural macros only; nothing of it is linked"),
    ("synstructure", "below x509-parser, which only the tests' SPIFFE client links: rcgen names it as an option"),
    ("untrusted", "aws-lc-rs is a generation behind rustls-webpki"),
    ("windows-sys", "other operating systems only"),
];

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")).exec().expect("cargo metadata runs")
}

/// All packages that the workspace needs, tests included.
fn used(metadata: &Metadata) -> Vec<&Package> {
    let resolved: HashSet<_> = metadata.resolve.as_ref().expect("a resolved graph").nodes.iter().map(|node| &node.id).collect();
    metadata.packages.iter().filter(|package| resolved.contains(&package.id)).collect()
}

/// What the shipped binaries are built from: reachable without dev-dependencies from the three crates that have one.
fn shipped(metadata: &Metadata) -> BTreeSet<&PackageId> {
    let nodes: BTreeMap<_, _> = metadata.resolve.as_ref().expect("a resolved graph").nodes.iter().map(|node| (&node.id, node)).collect();
    let roots = metadata.packages.iter().filter(|package| BINARIES.contains(&package.name.as_str()));
    let mut waiting: Vec<_> = roots.map(|package| &package.id).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if seen.insert(id) {
            let normal = |kinds: &[cargo_metadata::DepKindInfo]| kinds.iter().any(|kind| kind.kind != DependencyKind::Development);
            waiting.extend(nodes[id].deps.iter().filter(|dependency| normal(&dependency.dep_kinds)).map(|dependency| &dependency.pkg));
        }
    }
    seen
}

#[test]
fn every_licence_goes_with_ours() {
    let metadata = metadata();
    let mut refused = Vec::new();
    for package in used(&metadata) {
        let text = package.license.as_deref().unwrap_or("none stated").replace('/', " OR ");
        let fits = spdx::Expression::parse(&text)
            .is_ok_and(|licence| licence.evaluate(|term| term.license.id().is_some_and(|id| ALLOWED.contains(&id.name))));
        if !fits && !is_an_exception(package) {
            refused.push(format!("{} {}: {text}", package.name, package.version));
        }
    }
    assert!(refused.is_empty(), "licences that do not go with ours:\n{}", refused.join("\n"));
}

#[test]
fn what_we_ship_has_no_crate_twice_without_a_reason() {
    let metadata = metadata();
    let shipped = shipped(&metadata);
    let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for package in used(&metadata).into_iter().filter(|package| shipped.contains(&package.id)) {
        versions.entry(package.name.as_str()).or_default().insert(package.version.to_string());
    }
    let twice: BTreeMap<_, _> = versions.into_iter().filter(|(_, versions)| versions.len() > 1).collect();
    let known: BTreeSet<_> = TWICE.iter().map(|(name, _)| *name).collect();
    let unknown: Vec<_> = twice.iter().filter(|(name, _)| !known.contains(*name)).collect();
    assert!(unknown.is_empty(), "twice, without a reason in this test: {unknown:?}");
    let stale: Vec<_> = known.iter().filter(|name| !twice.contains_key(*name)).collect();
    assert!(stale.is_empty(), "no longer twice: {stale:?}");
}

#[test]
fn nothing_that_we_ship_is_copyleft_but_the_listed_exceptions() {
    let metadata = metadata();
    let shipped = shipped(&metadata);
    let copyleft = |package: &&&Package| package.license.as_deref().is_some_and(|text| text.contains("GPL") && !text.contains("OR"));
    let found: Vec<_> = used(&metadata).into_iter().filter(|package| shipped.contains(&package.id)).collect();
    let found: Vec<_> = found.iter().filter(copyleft).map(|package| package.name.as_str()).collect();
    assert_eq!(found, EXCEPTIONS.iter().map(|(name, ..)| *name).collect::<Vec<_>>());
}

#[test]
fn an_exception_is_linked_by_its_binary_alone_and_only_by_default() {
    let linked = |package: &str, more: &[&str]| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.args(["tree", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"), "--package", package]);
        let output =
            cargo.args(["--edges", "normal,build", "--prefix", "none", "--format", "{p}"]).args(more).output().expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
    };
    for (exception, binary, _) in EXCEPTIONS {
        for package in BINARIES {
            let names: HashSet<String> = linked(package, &[]);
            assert_eq!(names.contains(*exception), package == *binary, "{package}");
            assert!(!linked(package, &["--no-default-features"]).contains(*exception), "{package} without its default features");
        }
    }
}
