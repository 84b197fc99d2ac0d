//! What the front page promises exists: its commands, its links, its demo; and the samples that people copy are good.

use std::fs;
use std::path::{Path, PathBuf};

use portcullis_tests::arguments;
use portcullis_tests::demo::{Afterwards, tell};
use portcullis_tests::demo::{Page, Style, Wishes};
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
fn the_demo_tells_its_story_from_beginning_to_end() {
    let mut story = Vec::new();
    let wishes = Wishes { model: None, after: Afterwards::Remove };
    tell(&wishes, Path::new(env!("CARGO_BIN_EXE_portcullis-demo")), std::sync::Arc::default(), &mut Page::new(&mut story, Style::Plain))
        .unwrap();
    let story = String::from_utf8(story).unwrap();
    let refusals = [
        "DENIED  by check snp-measurement",
        "DENIED  by check snp-debug",
        "DENIED  by check snp-tcb-committed",
        "DENIED  by check configuration",
        "REJECTED  by check challenge-replayed",
        "REJECTED  by check snp-report-data",
        "DENIED  by check record-revoked",
    ];
    let mut rest = story.as_str();
    for part in ["initialised acme at broker, anchor class test", "RELEASED  and opened"]
        .into_iter()
        .chain(refusals)
        .chain(["the log is whole", "Everything went as told."])
    {
        let (_, after) = rest.split_once(part).unwrap_or_else(|| panic!("no {part:?} behind what came before in:\n{story}"));
        rest = after;
    }
    assert!(!story.contains('\u{1b}'), "colours where there is no terminal");
    // What the front page shows of it is what it prints.
    let readme = read("README.md");
    let shown = readme.split("```").filter(|block| block.contains("RELEASED  and opened") || block.contains("DENIED  by check"));
    for line in shown.flat_map(str::lines).filter(|line| line.contains("DENIED") || line.contains("RELEASED") || is_heading(line)) {
        assert!(story.contains(line), "README.md shows {line:?}, which the demo does not print");
    }
}

/// `6. A genuine guest asks`.
fn is_heading(line: &str) -> bool {
    line.split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok())
}

#[test]
fn the_demo_says_what_it_takes_and_refuses_what_it_does_not() {
    let run = |argument: &str| std::process::Command::new(env!("CARGO_BIN_EXE_portcullis-demo")).arg(argument).output().unwrap();
    let help = run("--help");
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("--model") && help.contains("--keep"), "{help}");
    assert_eq!(run("--no-such-flag").status.code(), Some(2));
    let missing = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis-demo")).args(["--model", "no-such-folder"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("no-such-folder"));
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
    let mut waiting = vec![root().join("deploy"), root().join("docs")];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                waiting.push(path);
            } else if name.starts_with("broker") && name.ends_with(".toml") {
                seen += 1;
                programs().run(Part::Broker, arguments!["check-config", "--syntax-only", &path]).unwrap().expect(0).unwrap();
            } else if name.starts_with("guest") && name.ends_with(".toml") {
                seen += 1;
                programs().run(Part::Guest, arguments!["config-digest", "--config", &path]).unwrap().expect(0).unwrap();
            }
        }
    }
    if seen == 0 {
        println!("skipped: no sample configuration in deploy or docs");
    }
}
