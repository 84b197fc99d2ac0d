//! The example policies beside the crate are policies, and the reference's own example is one.

use policies::Policy;
use std::path::Path;

#[test]
fn every_example_is_a_policy_with_a_description() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let policy = Policy::parse(&text).unwrap_or_else(|error| panic!("{}: {error}\nhint: {}", path.display(), error.hint()));
        assert!(policy.description().is_some_and(|text| !text.is_empty()), "{}", path.display());
        assert!(text.starts_with("# "), "{} opens with a comment that says what it is for", path.display());
        count += 1;
    }
    assert_eq!(count, 10, "examples");
}

#[test]
fn the_reference_opens_with_a_whole_policy() {
    let reference = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("LANGUAGE.md")).unwrap();
    let text = reference.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    Policy::parse(&text.replace("<96 hex digits>", &"1".repeat(96))).unwrap();
}
