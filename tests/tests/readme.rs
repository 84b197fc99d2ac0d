//! What the front page promises exists: its commands and its links; and the samples that people copy are good.

use std::fs;
use std::path::{Path, PathBuf};

use portcullis_tests::arguments;
use portcullis_tests::programs::{Part, Programs};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn programs() -> Programs {
    Programs::new(env!("CARGO_BIN_EXE_portcullis-demo"), root())
}

/// The `cargo` commands in a page's blocks of code, without comments.
fn cargo_commands(page: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if let (true, Some(rest)) = (inside, line.trim_start_matches("$ ").strip_prefix("cargo ")) {
            found.push(rest.split('#').next().unwrap_or_default().trim().to_owned());
        }
    }
    found
}

#[test]
fn the_two_commands_of_the_readme_are_there_and_exist() {
    let readme = read("README.md");
    let commands = cargo_commands(&readme);
    assert!(commands.iter().any(|command| command == "demo"), "{commands:?}");
    assert!(commands.iter().any(|command| command == "test --workspace"), "{commands:?}");
    let known = ["build", "test", "run", "clippy", "fmt", "install", "bench", "doc"];
    let aliases = read(".cargo/config.toml");
    for page in ["README.md", "CONTRIBUTING.md"] {
        for command in cargo_commands(&read(page)) {
            let name = command.split_whitespace().next().unwrap_or_default().to_owned();
            let is_alias = aliases.lines().any(|line| line.starts_with(&format!("{name} = ")));
            assert!(known.contains(&name.as_str()) || name == "+nightly" || name == "fuzz" || is_alias, "{page}: cargo {command}");
        }
    }
    assert!(aliases.contains("--package portcullis-tests --bin portcullis-demo"), "{aliases}");
}

#[test]
fn every_link_between_our_own_pages_leads_somewhere() {
    let mut pages = vec![root().join("README.md")];
    for folder in [
        "",
        "docs",
        "docs/decisions",
        "protocol",
        "attestation",
        "policies",
        "models-manifest",
        "broker",
        "guest-client",
        "cli",
        "benches",
        "deploy",
        "fuzz",
    ] {
        let entries = fs::read_dir(root().join(folder)).into_iter().flatten();
        pages.extend(entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    let mut links = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") || file.contains(' ') {
                continue;
            }
            links += 1;
            assert!(page.parent().unwrap().join(file).exists(), "{}: {target}", page.display());
        }
    }
    assert!(links > 5, "{links} links");
}

#[test]
fn the_example_policies_are_policies() {
    let mut seen = 0;
    for entry in fs::read_dir(root().join("policies/examples")).unwrap() {
        let path = entry.unwrap().path();
        seen += 1;
        programs().run(Part::Command, arguments!["policy", "check", &path]).unwrap().expect(0).unwrap();
    }
    assert!(seen >= 3, "{seen}");
}

#[test]
fn the_sample_configurations_are_good() {
    let mut seen = 0;
    let mut waiting: Vec<PathBuf> = ["broker/examples", "guest-client/examples", "deploy", "docs"].map(|folder| root().join(folder)).into();
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                waiting.push(path);
            } else if name.starts_with("guest") && name.ends_with(".toml") {
                programs().run(Part::Guest, arguments!["config-digest", "--config", &path]).unwrap().expect(0).unwrap();
            } else if name.ends_with(".toml") {
                seen += 1;
                programs().run(Part::Broker, arguments!["check-config", "--syntax-only", &path]).unwrap().expect(0).unwrap();
            }
        }
    }
    assert!(seen >= 1, "no sample of a broker's configuration");
}
