//! That every check has a test that asserts its very rejection: a new variant without one does not pass.

use std::fs;
use std::path::{Path, PathBuf};

/// The enums of rejections, and how many variants they have at least: fewer were found only if they are written in another way.
const ENUMS: [(&str, &str, usize); 3] =
    [("Rejection", "src/rejection.rs", 55), ("TdxRejection", "src/tdx/rejection.rs", 83), ("EventLogError", "src/event_log/error.rs", 25)];

fn crate_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The variants in the order of the file: each stands under its step, code and sentence.
fn variants(file: &str) -> Vec<String> {
    let text = fs::read_to_string(crate_folder().join(file)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let declares = |line: &str| line.starts_with("    ") && line.trim_start().starts_with(|first: char| first.is_ascii_digit());
    let pairs = lines.windows(2).filter(|pair| declares(pair[0]) && pair[0].matches('"').count() >= 4);
    pairs.filter_map(|pair| pair[1].trim().split_once(" {").map(|(name, _)| name.to_owned())).collect()
}

/// The source of every test of this crate.
fn tests(folder: &Path, found: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let whole = path.starts_with(crate_folder().join("tests")) || path.file_name().is_some_and(|name| name == "tests.rs");
        let own = if whole { Some(text.as_str()) } else { text.split_once("#[cfg(test)]").map(|(_, tests)| tests) };
        found.push_str(own.unwrap_or_default());
    }
}

#[test]
fn every_rejection_has_a_test_that_asserts_it() {
    let mut text = String::new();
    tests(&crate_folder().join("tests"), &mut text);
    tests(&crate_folder().join("src"), &mut text);
    let part_of_word = |letter: char| letter.is_alphanumeric();
    let names = |name: &str| {
        let mut places = text.match_indices(name).map(|(at, _)| (&text[..at], &text[at + name.len()..]));
        places.any(|(before, behind)| !before.ends_with(part_of_word) && !behind.starts_with(part_of_word))
    };
    for (name, file, least) in ENUMS {
        let variants = variants(file);
        assert!(variants.len() >= least, "only {} variants of {name} were found", variants.len());
        let untested: Vec<&String> = variants.iter().filter(|variant| !names(&format!("{name}::{variant}"))).collect();
        assert!(untested.is_empty(), "no test names {name}::{untested:?}");
    }
}
