//! What a credential's secret holds, and the set of variables that a publisher writes: one spelling, nothing that climbs, nothing that decides
//! about code.
//!
//! Input: a byte that chooses the form, then the bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::credential::{Content, CredentialBody, MAGIC, VARIABLES, Variable, read_env_file, write_env_file};

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    match choice % 2 {
        // As it came; then behind the magic, so that the long form is reached.
        0 => [bytes.to_vec(), [&MAGIC[..], bytes].concat()].iter().for_each(|secret| body(secret)),
        _ => env_file(bytes),
    }
});

fn body(secret: &[u8]) {
    let Ok(body) = CredentialBody::read(secret) else { return };
    assert_eq!(body.write().expect("what was read can be written").as_slice(), secret, "one spelling");
    match &body.content {
        Content::Opaque(value) => assert!(!value.expose().is_empty()),
        Content::File { name, value } => {
            assert!(!value.expose().is_empty() && !name.as_str().contains('/') && name.as_str() != "..");
        }
        Content::Variables(variables) => {
            set(variables);
            assert_eq!(read_again(variables), *variables);
        }
    }
}

fn env_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(variables) = read_env_file(text) else { return };
    set(&variables);
    assert_eq!(read_again(&variables), variables);
}

fn read_again(variables: &[Variable]) -> Vec<Variable> {
    let text = write_env_file(variables);
    read_env_file(std::str::from_utf8(&text).expect("text")).expect("what was written can be read")
}

fn set(variables: &[Variable]) {
    assert!((1..=VARIABLES).contains(&variables.len()));
    assert!(variables.windows(2).all(|pair| pair[0].name < pair[1].name), "in order, and each once");
    for variable in variables {
        assert!(!variable.value.expose().contains(&0) && !variable.name.as_str().starts_with("LD_"));
    }
}
