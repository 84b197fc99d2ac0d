//! That every check has a test that asserts its very rejection: a new variant without one does not pass.

use std::fs;
use std::path::{Path, PathBuf};

/// The enums of rejections, and how many variants they have at least: fewer were found only if they are written in another way.
const ENUMS: [(&str, &str, usize); 3] =
    [("Rejection", "src/rejection.rs", 56), ("TdxRejection", "src/tdx/rejection.rs", 83), ("EventLogError", "src/event_log/error.rs", 25)];

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

/// The source of every test of this crate, without comments.
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
        for line in own.unwrap_or_default().lines().filter(|line| !line.trim_start().starts_with("//")) {
            found.push_str(line);
            found.push('\n');
        }
    }
}

/// Whether a text has a variant as a value, with all that its fields say: a pattern that leaves fields out (`..`) asserts nothing of them.
fn stands_whole(text: &str, variant: &str) -> bool {
    let part_of_word = |letter: char| letter.is_alphanumeric();
    text.match_indices(variant).any(|(at, _)| {
        let (before, behind) = (&text[..at], &text[at + variant.len()..]);
        !before.ends_with(part_of_word) && fields(behind).is_some_and(|fields| !fields.ends_with(".."))
    })
}

/// What stands in the braces with which a text begins.
fn fields(text: &str) -> Option<&str> {
    let inner = text.strip_prefix(" {")?;
    let mut depth = 1;
    let end = inner.find(|letter| {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        depth == 0
    })?;
    Some(inner[..end].trim_end())
}

#[test]
fn every_rejection_has_a_test_that_asserts_it() {
    let mut text = String::new();
    tests(&crate_folder().join("tests"), &mut text);
    tests(&crate_folder().join("src"), &mut text);
    for (name, file, least) in ENUMS {
        let variants = variants(file);
        assert!(variants.len() >= least, "only {} variants of {name} were found", variants.len());
        let untested: Vec<&String> = variants.iter().filter(|variant| !stands_whole(&text, &format!("{name}::{variant}"))).collect();
        assert!(untested.is_empty(), "no test asserts {name}::{untested:?} with its fields");
    }
}

#[test]
fn a_pattern_that_leaves_fields_out_is_no_assertion_of_them() {
    for (text, whole) in [
        ("assert_eq!(found, R::TooMany { limit: 3, found });", true),
        ("assert_eq!(found, R::TooMany { what: text(&[..2]), at: Place { line: 1 } });", true),
        ("assert_eq!(found, R::TooMany {});", true),
        ("assert!(matches!(found, R::TooMany { .. }));", false),
        ("assert!(matches!(found, R::TooMany { limit: 3, .. }));", false),
        ("assert_eq!(found, OtherR::TooMany { limit: 3 });", false),
        ("assert_eq!(found, R::TooManyMore { limit: 3 });", false),
        ("assert!(matches!(found, R::TooMany { .. })); assert_eq!(found, R::TooMany { limit: 3 });", true),
    ] {
        assert_eq!(stands_whole(text, "R::TooMany"), whole, "{text}");
    }
}
