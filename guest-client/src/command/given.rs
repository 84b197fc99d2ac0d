//! How a program gets the credentials that it is run with: as environment variables, as files, or as descriptors that it inherits.
//!
//! No value stands in an argument, in this process's environment, or in the environment of the process that becomes the program: it reads
//! the variables from a piece of memory without a name ([`memory`]) that is empty before the program runs.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use protocol::credential::{Content, VariableName};
use protocol::ids::{Name, Version};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use zeroize::Zeroizing;

use super::args::Named;
use crate::credentials::Held;
use crate::credentials::files::{self, Place};

/// The most that the variables may take together (bytes): 64 secrets and their names.
const ENVIRONMENT: u64 = 4 * 1024 * 1024;

/// `[VARIABLE[,VARIABLE]=]NAME[@VERSION]`. There is no word for all variables of a set: whoever publishes it would choose them, and many
/// decide where a program sends what it has from others, as `HTTPS_PROXY` and the base addresses of APIs do.
#[derive(Clone, Debug)]
pub struct CredentialFor {
    /// The variables that it goes to: of a set, its variables of these names; of anything else, one at most.
    pub variables: Vec<VariableName>,
    /// The credential.
    pub credential: Named,
}

impl FromStr for CredentialFor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (variables, credential) = match text.split_once('=') {
            None => (Vec::new(), text),
            Some(("*", _)) => {
                return Err("which variables a set has says whoever publishes it: name those that are taken, A,B=NAME".to_owned());
            }
            Some((variables, credential)) => {
                let variable = |text: &str| text.parse::<VariableName>().map_err(|error| error.to_string());
                (variables.split(',').map(variable).collect::<Result<Vec<_>, _>>()?, credential)
            }
        };
        Ok(Self { variables, credential: credential.parse().map_err(|error: protocol::ids::BadId| error.to_string())? })
    }
}

/// In which form a credential is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// As the variable's value.
    Environment,
    /// As a file, whose path is the variable's value.
    File(PathBuf),
    /// As an inherited descriptor, by whose path under `/proc/self/fd` it is the variable's value.
    Descriptor,
}

impl FromStr for Way {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "env" => Ok(Self::Environment),
            "fd" => Ok(Self::Descriptor),
            _ => match text.strip_prefix("file:").map(Path::new) {
                Some(path) if path.is_absolute() => Ok(Self::File(path.to_owned())),
                _ => Err("expected env, fd, or file: and an absolute path"),
            },
        }
    }
}

/// One credential and how the program gets it.
#[derive(Clone, Debug)]
pub struct Given {
    /// Its name.
    pub name: Name,
    /// The version; the newest without it.
    pub version: Option<Version>,
    variables: Vec<VariableName>,
    way: Way,
}

/// Why a credential cannot be given in the way that was asked for. No value stands in it.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    /// A variable of a set that has none of this name.
    #[error("{name} has no variable {variable}")]
    NoVariable {
        /// The credential.
        name: Name,
        /// What was asked for.
        variable: VariableName,
    },
    /// Several variables of what is no set.
    #[error("{name} is no set of variables")]
    NoSet {
        /// The credential.
        name: Name,
    },
    /// A value that cannot stand in an environment.
    #[error("{name} has a zero byte, which no variable can have")]
    ZeroByte {
        /// The credential.
        name: Name,
    },
    /// No memory without a name.
    #[error("the system gives no memory for it: {0}")]
    Memory(#[from] io::Error),
}

impl GivenError {
    /// A stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoVariable { .. } => "credential-no-variable",
            Self::NoSet { .. } => "credential-no-set",
            Self::ZeroByte { .. } => "credential-zero-byte",
            Self::Memory(_) => "credential-memory",
        }
    }

    /// What may help.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoVariable { .. } => "each name before = must be one of the set's own",
            Self::NoSet { .. } => "name one variable that shall hold it: --credential VARIABLE=NAME",
            Self::ZeroByte { .. } => "give it as a file: --as file:PATH",
            Self::Memory(_) => "the kernel must have memfd_create(2)",
        }
    }
}

impl Given {
    /// Pairs credentials and ways: without ways all stand in the environment, else there is one for each. None takes another's variable or
    /// place.
    ///
    /// # Errors
    /// What does not fit together, for people.
    pub fn pair(credentials: &[CredentialFor], ways: &[Way]) -> Result<Vec<Self>, &'static str> {
        if !ways.is_empty() && ways.len() != credentials.len() {
            return Err("--as stands once for each --credential, in the same order, or not at all");
        }
        let ways = ways.iter().cloned().chain(std::iter::repeat(Way::Environment));
        let given: Vec<Self> = credentials.iter().zip(ways).map(|(credential, way)| Self::of(credential, way)).collect::<Result<_, _>>()?;
        for (at, one) in given.iter().enumerate() {
            let twice = |other: &Self| (&other.name, other.version) == (&one.name, one.version);
            if given.iter().skip(at + 1).any(twice) {
                return Err("a credential is named twice");
            }
            let meets = |other: &Self| one.place().zip(other.place()).is_some_and(|(place, other)| place.meets(&other));
            if given.iter().skip(at + 1).any(meets) {
                return Err("two credentials may come to lie at one path: a path is one credential's alone, and so is a folder");
            }
        }
        let mut variables = BTreeSet::new();
        if !given.iter().flat_map(|one| &one.variables).all(|variable| variables.insert(variable)) {
            return Err("a variable is named twice");
        }
        Ok(given)
    }

    fn of(credential: &CredentialFor, way: Way) -> Result<Self, &'static str> {
        match (credential.variables.as_slice(), &way) {
            ([], Way::Environment | Way::Descriptor) => return Err("--credential needs VARIABLE=NAME, but with --as file:PATH"),
            ([_, _, ..], Way::File(_) | Way::Descriptor) => return Err("several variables of a credential are for the environment alone"),
            _ => {}
        }
        let (name, version) = (credential.credential.name.clone(), credential.credential.version());
        Ok(Self { name, version, variables: credential.variables.clone(), way })
    }

    /// Where it lies as a file, readable for the user alone.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        if let Way::File(path) = &self.way { Some(Place::new(path, 0o600)) } else { None }
    }

    /// Removes what one that was killed has left at its place.
    pub fn clear(&self) {
        if let Some(place) = self.place() {
            place.clear(&self.name);
        }
    }

    /// Whether the program sees another version without being started again.
    #[must_use]
    pub const fn is_replaced(&self) -> bool {
        matches!(self.way, Way::File(_))
    }

    /// Adds it to what the program is started with.
    ///
    /// # Errors
    /// [`GivenError`].
    pub fn give(&self, held: &Held, bundle: &mut Bundle) -> Result<(), GivenError> {
        let body = &held.body;
        match (&self.way, self.variables.as_slice(), &body.content) {
            (Way::File(_), variables, _) => {
                let path = self.place().map(|place| place.path(&self.name, body)).unwrap_or_default();
                variables.iter().for_each(|variable| bundle.variable(variable.as_str(), path.as_os_str().as_bytes()));
            }
            (Way::Descriptor, variables, _) => {
                let memory = sealed(&files::bytes(body))?;
                let path = path_of(&memory);
                variables.iter().for_each(|variable| bundle.variable(variable.as_str(), path.as_os_str().as_bytes()));
                bundle.descriptors.push(memory);
            }
            (Way::Environment, asked, Content::Variables(variables)) => {
                for asked in asked {
                    let found = variables.iter().find(|variable| variable.name == *asked);
                    let found = found.ok_or_else(|| GivenError::NoVariable { name: self.name.clone(), variable: asked.clone() })?;
                    bundle.variable(asked.as_str(), found.value.expose());
                }
            }
            (Way::Environment, [variable], Content::Opaque(value) | Content::File { value, .. }) => {
                if value.expose().contains(&0) {
                    return Err(GivenError::ZeroByte { name: self.name.clone() });
                }
                bundle.variable(variable.as_str(), value.expose());
            }
            (Way::Environment, _, _) => return Err(GivenError::NoSet { name: self.name.clone() }),
        }
        Ok(())
    }
}

/// What one start of the program inherits. No `Debug`, no `Clone`: it holds secrets.
#[derive(Default)]
pub struct Bundle {
    /// `NAME=value`, each behind the other and followed by a zero byte.
    variables: Vec<Zeroizing<Vec<u8>>>,
    descriptors: Vec<OwnedFd>,
}

impl Bundle {
    fn variable(&mut self, name: &str, value: &[u8]) {
        let mut line = Zeroizing::new(Vec::with_capacity(name.len() + value.len() + 2));
        line.extend_from_slice(name.as_bytes());
        line.push(b'=');
        line.extend_from_slice(value);
        line.push(0);
        self.variables.push(line);
    }

    /// The memory with the variables, which `command` is told of; it and the descriptors must live until the command was started.
    ///
    /// # Errors
    /// The system's.
    pub fn hand_over(self, command: &mut Command) -> io::Result<Vec<OwnedFd>> {
        let mut inherited = self.descriptors;
        if !self.variables.is_empty() {
            let memory = memory("environment")?;
            let mut file = File::from(memory);
            self.variables.iter().try_for_each(|line| file.write_all(line))?;
            let memory = OwnedFd::from(file);
            command.arg("--environment").arg(memory.as_raw_fd().to_string());
            inherited.push(memory);
        }
        Ok(inherited)
    }
}

/// Reads the variables that [`Bundle::hand_over`] left in descriptor `number`, and empties it: the program inherits nothing of it.
///
/// # Errors
/// The system's; [`io::ErrorKind::InvalidData`] for anything else than variables.
pub fn take_over(number: u32, command: &mut Command) -> io::Result<()> {
    let path = PathBuf::from(format!("/proc/self/fd/{number}"));
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    if length > ENVIRONMENT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0)));
    (&file).take(ENVIRONMENT).read_to_end(&mut bytes)?;
    file.set_len(0)?;
    for line in bytes.split_inclusive(|byte| *byte == 0) {
        let line = line.strip_suffix(&[0]).ok_or(io::ErrorKind::InvalidData)?;
        let at = line.iter().position(|byte| *byte == b'=').ok_or(io::ErrorKind::InvalidData)?;
        let (name, value) = line.split_at(at);
        // The next thing that this process does is to become the program, or to end.
        command.env(OsString::from_vec(name.to_vec()), OsString::from_vec(value[1..].to_vec()));
    }
    Ok(())
}

/// Memory without a name, which children inherit.
fn memory(what: &str) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::ALLOW_SEALING;
    match memfd_create(what, flags | MemfdFlags::NOEXEC_SEAL) {
        // Before Linux 6.3.
        Err(rustix::io::Errno::INVAL) => Ok(memfd_create(what, flags)?),
        made => Ok(made?),
    }
}

/// The same with this in it, for good.
fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memory("credential")?);
    file.write_all(bytes)?;
    let memory = OwnedFd::from(file);
    fcntl_add_seals(&memory, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(memory)
}

fn path_of(memory: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use protocol::credential::{CredentialBody, Variable};
    use protocol::ids::Digest;
    use protocol::keys::PublicKey;
    use protocol::messages::Secret;

    use super::*;

    fn secret(bytes: &[u8]) -> Secret {
        Secret::new(Zeroizing::new(bytes.to_vec()))
    }

    fn held(content: Content) -> Held {
        let body = CredentialBody { expires: None, content };
        Held { version: Version::FIRST, statement: Digest::from([1; 32]), publisher: PublicKey::from_bytes([2; 32]), body }
    }

    fn set() -> Held {
        let variable = |name: &str, value: &str| Variable { name: name.parse().unwrap(), value: secret(value.as_bytes()) };
        held(Content::Variables(vec![variable("A", "one"), variable("B", "a=b")]))
    }

    fn opaque(bytes: &[u8]) -> Held {
        held(Content::Opaque(secret(bytes)))
    }

    fn given(credential: &str, way: &str) -> Result<Given, &'static str> {
        Given::pair(&[credential.parse().unwrap()], &[way.parse().unwrap()]).map(|mut given| given.remove(0))
    }

    /// What a command that takes it over has in its environment.
    fn environment(given: &Given, held: &Held) -> Result<Vec<(String, String)>, GivenError> {
        let mut bundle = Bundle::default();
        given.give(held, &mut bundle)?;
        let (mut first, mut second) = (Command::new("first"), Command::new("second"));
        let inherited = bundle.hand_over(&mut first).unwrap();
        let arguments: Vec<&OsStr> = first.get_args().collect();
        if let [_, number] = arguments.as_slice() {
            take_over(number.to_str().unwrap().parse().unwrap(), &mut second).unwrap();
            let environment = inherited.last().unwrap();
            assert_eq!(std::fs::metadata(path_of(environment)).unwrap().len(), 0, "nothing is left in it");
        }
        let text = |text: &OsStr| text.to_str().unwrap().to_owned();
        Ok(second.get_envs().map(|(name, value)| (text(name), text(value.unwrap()))).collect())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn variables_hold_values_or_paths() {
        assert_eq!(environment(&given("K=a", "env").unwrap(), &opaque(b"sk=1")).unwrap(), pairs(&[("K", "sk=1")]));
        assert_eq!(environment(&given("A=a", "env").unwrap(), &set()).unwrap(), pairs(&[("A", "one")]));
        assert_eq!(environment(&given("A,B=a", "env").unwrap(), &set()).unwrap(), pairs(&[("A", "one"), ("B", "a=b")]));
        assert_eq!(environment(&given("B=a", "env").unwrap(), &set()).unwrap(), pairs(&[("B", "a=b")]), "what is not named is not taken");
        assert_eq!(environment(&given("K=a", "file:/run/k").unwrap(), &opaque(b"v")).unwrap(), pairs(&[("K", "/run/k")]));
        assert_eq!(environment(&given("K=x/a", "file:/run/").unwrap(), &opaque(b"v")).unwrap(), pairs(&[("K", "/run/a")]));
        assert!(environment(&given("a", "file:/run/k").unwrap(), &opaque(b"v")).unwrap().is_empty());
    }

    #[test]
    fn a_descriptor_holds_the_bytes_for_good() {
        let mut bundle = Bundle::default();
        given("K=a", "fd").unwrap().give(&opaque(b"v\0w"), &mut bundle).unwrap();
        let [memory] = bundle.descriptors.as_slice() else { panic!("one descriptor") };
        assert_eq!(std::fs::read(path_of(memory)).unwrap(), b"v\0w");
        assert!(OpenOptions::new().write(true).open(path_of(memory)).and_then(|mut file| file.write_all(b"x")).is_err());
        assert_eq!(**bundle.variables[0], *[b"K=", path_of(memory).as_os_str().as_bytes(), b"\0"].concat());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refused = |credential: &str, held: &Held| environment(&given(credential, "env").unwrap(), held).unwrap_err().code();
        assert_eq!(refused("C=a", &set()), "credential-no-variable");
        assert_eq!(refused("A,C=a", &set()), "credential-no-variable");
        assert_eq!(refused("A,B=a", &opaque(b"v")), "credential-no-set");
        assert_eq!(refused("K=a", &opaque(b"v\0")), "credential-zero-byte");
        for (credential, way) in [("a", "env"), ("a", "fd"), ("A,B=a", "fd"), ("A,B=a", "file:/run/k"), ("A,A=a", "env")] {
            assert!(given(credential, way).is_err(), "{credential} {way}");
        }
        let parse = |text: &str| text.parse::<CredentialFor>().unwrap();
        assert!(Given::pair(&[parse("A=a"), parse("B=b")], &[]).is_ok());
        assert!(Given::pair(&[parse("A=a"), parse("B=b")], &[Way::Environment]).is_err());
        assert!(Given::pair(&[parse("A=a"), parse("B=a")], &[]).is_err());
        assert!(Given::pair(&[parse("A=a"), parse("B=a@1")], &[]).is_ok());
        for bad in ["LD_PRELOAD=a", "A,LD_PRELOAD=a", "1=a", "A=", "=a", "A,=a", "A, B=a", "A=../a", "A=a@0", "*=a", "A,*=a"] {
            assert!(bad.parse::<CredentialFor>().is_err(), "{bad}");
        }
        for bad in ["", "file", "file:", "file:relative", "descriptor"] {
            assert!(bad.parse::<Way>().is_err(), "{bad}");
        }
    }

    #[test]
    fn no_credential_takes_anothers_variable_or_place() {
        let pair = |ways: [&str; 2], credentials: [&str; 2]| {
            let (credentials, ways) =
                (credentials.map(|text| text.parse::<CredentialFor>().unwrap()), ways.map(|way| way.parse::<Way>().unwrap()));
            Given::pair(&credentials, &ways).map(drop)
        };
        assert_eq!(pair(["env", "env"], ["OPENAI_API_KEY=a", "USER_ID,OPENAI_API_KEY=b"]), Err("a variable is named twice"));
        assert_eq!(pair(["env", "env"], ["OPENAI_API_KEY=a", "USER_ID,OPENAI_API_KEY_2=b"]), Ok(()));
        assert_eq!(pair(["env", "file:/run/b"], ["K=a", "K=b"]), Err("a variable is named twice"));
        // Whoever publishes `b` may call its file `a`.
        for [one, other] in [["/run/a", "/run/a"], ["/run/c/", "/run/c/"], ["/run/c/", "/run/c/a"], ["/run/c/a", "/run/c//"]] {
            let refused = pair([&format!("file:{one}"), &format!("file:{other}")], ["A=a", "B=b"]).unwrap_err();
            assert!(refused.contains("one path"), "{one} {other}: {refused}");
        }
        for [one, other] in [["/run/a", "/run/b"], ["/run/c/", "/run/d/"], ["/run/c/", "/run/d"], ["/run/c/", "/run/ca"]] {
            assert_eq!(pair([&format!("file:{one}"), &format!("file:{other}")], ["A=a", "B=b"]), Ok(()), "{one} {other}");
        }
    }
}
