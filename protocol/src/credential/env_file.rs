//! A set of environment variables as people write it: a line a variable.
//!
//! ```text
//! # a comment
//! OPENAI_API_KEY=sk-live-1234
//! export REGION='eu-west-1'
//! MOTTO="two\nlines, a \"quote\" and a \\"
//! ```
//! Without quotes the value is what stands behind `=`, to the end of the line, `#` and spaces included. In single quotes everything is
//! as it stands. In double quotes `\n`, `\t`, `\"` and `\\` are known, and no other. Nothing is ever expanded.

use zeroize::Zeroizing;

use super::{CredentialError, VARIABLES, Variable, VariableName};
use crate::messages::Secret;

/// Why a text is no set of variables. No value stands in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvFileError {
    /// A line without `=`.
    #[error("line {line}: expected NAME=VALUE")]
    NoValue {
        /// Its number, from 1.
        line: usize,
    },
    /// The name or the value is not a credential's.
    #[error("line {line}: {error}")]
    Variable {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        error: CredentialError,
    },
    /// A quote that is not closed at the end of its line, or closed before it.
    #[error("line {line}: the quote must end with the line")]
    Quote {
        /// Its number, from 1.
        line: usize,
    },
    /// A backslash before something else than `n`, `t`, `"` or `\`.
    #[error("line {line}: expected \\n, \\t, \\\" or \\\\ in double quotes")]
    Escape {
        /// Its number, from 1.
        line: usize,
    },
    /// A name that stands twice.
    #[error("line {line}: {name} stands twice")]
    Twice {
        /// The number of the second line, from 1.
        line: usize,
        /// The variable.
        name: VariableName,
    },
    /// No variable, or too many.
    #[error(transparent)]
    Count(CredentialError),
}

/// Reads a set of variables, and puts it in order.
///
/// # Errors
/// [`EnvFileError`].
pub fn read_env_file(text: &str) -> Result<Vec<Variable>, EnvFileError> {
    let mut variables: Vec<Variable> = Vec::new();
    for (number, line) in (1..).zip(text.split('\n')) {
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let variable = read_line(line, number)?;
        if variables.iter().any(|known| known.name == variable.name) {
            return Err(EnvFileError::Twice { line: number, name: variable.name });
        }
        variables.push(variable);
    }
    if variables.is_empty() || variables.len() > VARIABLES {
        return Err(EnvFileError::Count(CredentialError::Count { limit: VARIABLES, found: variables.len() }));
    }
    variables.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(variables)
}

/// The same text form, each value in double quotes: what [`read_env_file`] reads, shells too as long as no value has a `$` or a `` ` ``.
#[must_use]
pub fn write_env_file(variables: &[Variable]) -> Zeroizing<Vec<u8>> {
    let room = variables.iter().map(|variable| variable.name.as_str().len() + 2 * variable.value.expose().len() + 4).sum();
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    for Variable { name, value } in variables {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b"=\"");
        for byte in value.expose() {
            match byte {
                b'\n' => text.extend_from_slice(b"\\n"),
                b'"' | b'\\' => text.extend_from_slice(&[b'\\', *byte]),
                byte => text.push(*byte),
            }
        }
        text.extend_from_slice(b"\"\n");
    }
    text
}

fn read_line(line: &str, number: usize) -> Result<Variable, EnvFileError> {
    let refused = |error| EnvFileError::Variable { line: number, error };
    let (name, value) = line.split_once('=').ok_or(EnvFileError::NoValue { line: number })?;
    let name = name.strip_prefix("export ").map_or(name, str::trim_start);
    let name: VariableName = name.trim_end().parse().map_err(refused)?;
    let variable = Variable { name, value: Secret::new(unquoted(value, number)?) };
    super::is_text(&variable).map_err(refused)?;
    Ok(variable)
}

fn unquoted(value: &str, line: usize) -> Result<Zeroizing<Vec<u8>>, EnvFileError> {
    if let Some(rest) = value.strip_prefix('\'') {
        let inner = rest.trim_end().strip_suffix('\'').filter(|inner| !inner.contains('\''));
        return inner.map(|inner| Zeroizing::new(inner.as_bytes().to_vec())).ok_or(EnvFileError::Quote { line });
    }
    let Some(rest) = value.strip_prefix('"') else { return Ok(Zeroizing::new(value.as_bytes().to_vec())) };
    let mut bytes = Zeroizing::new(Vec::with_capacity(rest.len()));
    let mut characters = rest.bytes();
    loop {
        match characters.next() {
            Some(b'"') => break,
            Some(b'\\') => bytes.push(match characters.next() {
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(known @ (b'"' | b'\\')) => known,
                _ => return Err(EnvFileError::Escape { line }),
            }),
            Some(byte) => bytes.push(byte),
            None => return Err(EnvFileError::Quote { line }),
        }
    }
    if characters.all(|byte| byte == b' ') { Ok(bytes) } else { Err(EnvFileError::Quote { line }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let pair = |variable: &Variable| (variable.name.to_string(), String::from_utf8(variable.value.expose().to_vec()).unwrap());
        read_env_file(text).unwrap().iter().map(pair).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn values_are_as_they_stand_unless_they_are_quoted() {
        let text = "# comment\n\nB=b c # d  \n  export A='x \"y\" $HOME'\nC=\"1\\n2\\t\\\"\\\\\" \nD=\r\nE =e\n";
        let expected = [("A", "x \"y\" $HOME"), ("B", "b c # d  "), ("C", "1\n2\t\"\\"), ("D", ""), ("E", "e")];
        assert_eq!(read(text), pairs(&expected));
    }

    #[test]
    fn what_is_no_set_is_refused_with_its_line() {
        let refused = |text: &str| read_env_file(text).unwrap_err();
        assert_eq!(refused("A=1\nB"), EnvFileError::NoValue { line: 2 });
        assert_eq!(refused("1A=1"), EnvFileError::Variable { line: 1, error: CredentialError::VariableName });
        let reserved = CredentialError::Reserved { name: "LD_PRELOAD".into() };
        assert_eq!(refused("LD_PRELOAD=/x.so"), EnvFileError::Variable { line: 1, error: reserved });
        let zero = CredentialError::ZeroByte { name: "A".parse().unwrap() };
        assert_eq!(refused("A=1\u{0}2"), EnvFileError::Variable { line: 1, error: zero });
        assert_eq!(refused("A='1"), EnvFileError::Quote { line: 1 });
        assert_eq!(refused("A='1'2'"), EnvFileError::Quote { line: 1 });
        assert_eq!(refused("A=\"1"), EnvFileError::Quote { line: 1 });
        assert_eq!(refused("A=\"1\"2"), EnvFileError::Quote { line: 1 });
        assert_eq!(refused("A=\"\\x\""), EnvFileError::Escape { line: 1 });
        assert_eq!(refused("A=1\nA=2"), EnvFileError::Twice { line: 2, name: "A".parse().unwrap() });
        let count = |found| EnvFileError::Count(CredentialError::Count { limit: VARIABLES, found });
        assert_eq!(refused("# nothing\n"), count(0));
        let many = |number: usize| (0..number).map(|at| format!("A{at}=1\n")).collect::<String>();
        assert_eq!(refused(&many(VARIABLES + 1)), count(VARIABLES + 1));
        assert_eq!(read_env_file(&many(VARIABLES)).unwrap().len(), VARIABLES);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let value = "a \"quoted\" \\ line\nand \t $another ' # \u{e4}\r";
        let made = |name: &str, value: &str| Variable { name: name.parse().unwrap(), value: super::super::kept(value.as_bytes()) };
        let variables = [made("A", value), made("B", "")];
        assert_eq!(read_env_file(std::str::from_utf8(&write_env_file(&variables)).unwrap()).unwrap(), variables);
    }

    #[test]
    fn no_error_shows_a_value() {
        for text in ["A='sesame", "A=\"sesame\\x\"", "A=\"sesame\"x", "A=sesame\0", "A=sesame\nA=sesame"] {
            let error = read_env_file(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("sesame"), "{error:?}");
        }
    }
}
