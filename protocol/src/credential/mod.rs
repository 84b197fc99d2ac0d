//! What the secret of a credential's record is: bytes, a file, or a set of environment variables; and until when it may be used.
//!
//! A broker never reads it: it is sealed by the publisher, and opened by the guest. Bytes without an end stand as they are. Everything
//! else begins with [`MAGIC`], which no key of any service begins with:
//!
//! ```text
//! MAGIC (8 bytes) ‖ kind (1: 0 opaque, 1 file, 2 variables) ‖ end (1: 0 none; 1, then seconds since 1970 as 8 bytes) ‖ content
//! opaque     the value, to the end
//! file       length of the name (2) ‖ name ‖ the value, to the end
//! variables  their number (2) ‖ for each, in order of names: length of the name (2) ‖ name ‖ length of the value (4) ‖ value
//! ```
//! Numbers are big-endian. There is one spelling: what is read is written back byte for byte.

mod env_file;

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::limits;
use crate::messages::Secret;
use crate::time::UnixTime;

pub use env_file::{EnvFileError, read_env_file, write_env_file};

/// What a secret begins with that is more than bytes. The last byte is the version of the form.
pub const MAGIC: [u8; 8] = *b"\0pccred\x01";

/// A credential: what it holds, and until when it may be used.
#[derive(Debug, PartialEq, Eq)]
pub struct CredentialBody {
    /// The last second at which it may be used; `None`: as long as the broker releases it.
    pub expires: Option<UnixTime>,
    /// What it holds.
    pub content: Content,
}

/// What a credential holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// Bytes, such as an API key.
    Opaque(Secret),
    /// A file, such as a service account's key.
    File {
        /// What it is called.
        name: FileName,
        /// Its bytes.
        value: Secret,
    },
    /// Environment variables, by name, each once.
    Variables(Vec<Variable>),
}

/// One environment variable.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: VariableName,
    /// Its value: text without zero bytes, which an environment cannot have.
    pub value: Secret,
}

/// The three kinds, as people write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// Bytes.
    Opaque,
    /// A file.
    File,
    /// Environment variables.
    Variables,
}

impl CredentialKind {
    /// `opaque`, `file` or `env`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::File => "file",
            Self::Variables => "env",
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Opaque => 0,
            Self::File => 1,
            Self::Variables => 2,
        }
    }
}

/// Why something is no credential's body, or cannot be written as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// A secret outside 1 to [`limits::SECRET`] bytes.
    #[error("the credential has {found} bytes, expected 1 to {limit}")]
    Size {
        /// The limit in bytes.
        limit: usize,
        /// The size in bytes.
        found: usize,
    },
    /// It ends before what it announces.
    #[error("the credential is cut short")]
    Short,
    /// A kind that is not known.
    #[error("the credential is of kind {found}, expected 0, 1 or 2")]
    Kind {
        /// What it says.
        found: u8,
    },
    /// The byte before the end is neither 0 nor 1.
    #[error("the credential's end is marked by {found}, expected 0 or 1")]
    Mark {
        /// What it says.
        found: u8,
    },
    /// An end behind the year 9999, which has no text form.
    #[error("the credential ends at second {found}, behind the year 9999")]
    End {
        /// What it says.
        found: u64,
    },
    /// No value where there must be one.
    #[error("the credential's value is empty")]
    Empty,
    /// Bytes without an end, in the long form.
    #[error("the credential is spelled in the long form, and needs none")]
    Spelling,
    /// Not a file name.
    #[error("not a file name: expected 1 to {max} characters of A-Z a-z 0-9 . _ -, and not . or ..", max = FileName::MAX)]
    FileName,
    /// Not the name of a variable.
    #[error("not the name of a variable: expected 1 to {max} characters of A-Z a-z 0-9 _, the first no digit", max = VariableName::MAX)]
    VariableName,
    /// The variable decides which code a program runs.
    #[error("the variable {name} decides which code a program runs, and is no credential")]
    Reserved {
        /// Its name.
        name: String,
    },
    /// A zero byte in a variable's value.
    #[error("the value of {name} has a zero byte")]
    ZeroByte {
        /// The variable.
        name: VariableName,
    },
    /// A variable's value that is no text.
    #[error("the value of {name} is not UTF-8")]
    NotText {
        /// The variable.
        name: VariableName,
    },
    /// No variable, or too many.
    #[error("{found} variables, expected 1 to {limit}")]
    Count {
        /// The limit.
        limit: usize,
        /// How many there are.
        found: usize,
    },
    /// Variables that are not in order of their names, or one twice.
    #[error("the variable {name} stands twice, or out of order")]
    Order {
        /// The second of the two.
        name: VariableName,
    },
    /// Bytes behind the last variable.
    #[error("{found} bytes behind the last variable")]
    Trailing {
        /// How many.
        found: usize,
    },
}

impl CredentialError {
    /// A stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Size { .. } => "credential-size",
            Self::Short => "credential-short",
            Self::Kind { .. } => "credential-kind",
            Self::Mark { .. } => "credential-mark",
            Self::End { .. } => "credential-end",
            Self::Empty => "credential-empty",
            Self::Spelling => "credential-spelling",
            Self::FileName => "credential-file-name",
            Self::VariableName => "credential-variable-name",
            Self::Reserved { .. } => "credential-variable-reserved",
            Self::ZeroByte { .. } => "credential-zero-byte",
            Self::NotText { .. } => "credential-not-text",
            Self::Count { .. } => "credential-variable-count",
            Self::Order { .. } => "credential-variable-order",
            Self::Trailing { .. } => "credential-trailing",
        }
    }
}

/// The name of a file, without folders: `[A-Za-z0-9._-]`, 1 to 255 characters, not `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName(String);

impl FileName {
    /// The longest, in characters: what Linux file systems allow.
    pub const MAX: usize = limits::MODEL_PATH_SEGMENT;

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FileName {
    type Err = CredentialError;
    fn from_str(text: &str) -> Result<Self, CredentialError> {
        let character = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let sized = (1..=Self::MAX).contains(&text.len());
        if sized && text.bytes().all(character) && text != "." && text != ".." {
            Ok(Self(text.to_owned()))
        } else {
            Err(CredentialError::FileName)
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an environment variable that may hold a credential: `[A-Za-z_][A-Za-z0-9_]*`, 1 to 128 characters, and none of those by
/// which a loader, a shell or an interpreter finds the code that it runs. Whoever publishes a credential so gets no code into
/// the program that uses it; the list is of what is known, so a guest also says which variables it takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VariableName(String);

/// Names and beginnings of names that are no credential's.
const RESERVED: [&str; 38] = [
    "BASH_ENV",
    "BASH_FUNC_",
    "CLASSPATH",
    "DOTNET_STARTUP_HOOKS",
    "DYLD_",
    "ENV",
    "GCONV_PATH",
    "GIT_CONFIG",
    "GIT_EXEC_PATH",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GLIBC_TUNABLES",
    "HOME",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LD_",
    "LESSCLOSE",
    "LESSOPEN",
    "LOCPATH",
    "LUA_INIT",
    "NODE_OPTIONS",
    "NODE_PATH",
    "OPENSSL_CONF",
    "OPENSSL_ENGINES",
    "OPENSSL_MODULES",
    "PATH",
    "PERL5",
    "PORTCULLIS_",
    "PROMPT_COMMAND",
    "PYTHON",
    "RUBYLIB",
    "RUBYOPT",
    "SHELLOPTS",
    "SSLKEYLOGFILE",
    "TMPDIR",
    "ZDOTDIR",
    "_JAVA_OPTIONS",
];
/// Those of them that stand for everything that begins so.
const RESERVED_BEGINNINGS: [&str; 8] = ["BASH_FUNC_", "DYLD_", "GIT_CONFIG", "LD_", "LUA_INIT", "PERL5", "PORTCULLIS_", "PYTHON"];

impl VariableName {
    /// The longest, in characters.
    pub const MAX: usize = 128;

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VariableName {
    type Err = CredentialError;
    fn from_str(text: &str) -> Result<Self, CredentialError> {
        let character = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let sized = (1..=Self::MAX).contains(&text.len());
        if !sized || !text.bytes().all(character) || text.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(CredentialError::VariableName);
        }
        let reserved = RESERVED.contains(&text) || RESERVED_BEGINNINGS.iter().any(|beginning| text.starts_with(beginning));
        if reserved { Err(CredentialError::Reserved { name: text.to_owned() }) } else { Ok(Self(text.to_owned())) }
    }
}

impl fmt::Display for VariableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Variables in one set: a service's key, account, region and the like.
pub const VARIABLES: usize = 64;

impl CredentialBody {
    /// Bytes that may be used as long as the broker releases them.
    #[must_use]
    pub const fn opaque(value: Secret) -> Self {
        Self { expires: None, content: Content::Opaque(value) }
    }

    /// Which kind it is of.
    #[must_use]
    pub const fn kind(&self) -> CredentialKind {
        match &self.content {
            Content::Opaque(_) => CredentialKind::Opaque,
            Content::File { .. } => CredentialKind::File,
            Content::Variables(_) => CredentialKind::Variables,
        }
    }

    /// Whether it may no longer be used.
    #[must_use]
    pub fn is_over(&self, at: UnixTime) -> bool {
        self.expires.is_some_and(|expires| at > expires)
    }

    /// The one value that it holds: a set of several variables has none.
    #[must_use]
    pub fn single(&self) -> Option<&Secret> {
        match &self.content {
            Content::Opaque(value) | Content::File { value, .. } => Some(value),
            Content::Variables(variables) => match variables.as_slice() {
                [only] => Some(&only.value),
                _ => None,
            },
        }
    }

    /// Reads the secret of a record.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn read(secret: &[u8]) -> Result<Self, CredentialError> {
        sized(secret.len())?;
        let Some(rest) = secret.strip_prefix(&MAGIC) else { return Ok(Self::opaque(kept(secret))) };
        let mut reader = Reader(rest);
        let kind = reader.byte()?;
        let expires = match reader.byte()? {
            0 => None,
            1 => Some(reader.end()?),
            found => return Err(CredentialError::Mark { found }),
        };
        let content = match kind {
            0 => Content::Opaque(reader.rest()?),
            1 => Content::File { name: reader.text()?.parse()?, value: reader.rest()? },
            2 => Content::Variables(reader.variables()?),
            found => return Err(CredentialError::Kind { found }),
        };
        let body = Self { expires, content };
        if body.is_plain() { Err(CredentialError::Spelling) } else { Ok(body) }
    }

    /// As the secret of a record.
    ///
    /// # Errors
    /// [`CredentialError`]: what [`Self::read`] would refuse.
    pub fn write(&self) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
        if let (true, Content::Opaque(value)) = (self.is_plain(), &self.content) {
            sized(value.expose().len())?;
            return Ok(Zeroizing::new(value.expose().to_vec()));
        }
        // All at once: a buffer that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * limits::SECRET));
        bytes.extend_from_slice(&MAGIC);
        bytes.push(self.kind().byte());
        match self.expires {
            None => bytes.push(0),
            Some(expires) => {
                bytes.push(1);
                bytes.extend_from_slice(&expires.seconds().to_be_bytes());
            }
        }
        match &self.content {
            Content::Opaque(value) => put_value(&mut bytes, value)?,
            Content::File { name, value } => {
                put_text(&mut bytes, name.as_str())?;
                put_value(&mut bytes, value)?;
            }
            Content::Variables(variables) => put_variables(&mut bytes, variables)?,
        }
        sized(bytes.len())?;
        Ok(bytes)
    }

    /// Whether it stands as it is: bytes without an end, which do not look like the long form.
    fn is_plain(&self) -> bool {
        matches!((&self.content, self.expires), (Content::Opaque(value), None) if !value.expose().starts_with(&MAGIC))
    }
}

fn sized(found: usize) -> Result<(), CredentialError> {
    if (1..=limits::SECRET).contains(&found) { Ok(()) } else { Err(CredentialError::Size { limit: limits::SECRET, found }) }
}

fn kept(bytes: &[u8]) -> Secret {
    Secret::new(Zeroizing::new(bytes.to_vec()))
}

fn put_value(bytes: &mut Vec<u8>, value: &Secret) -> Result<(), CredentialError> {
    if value.expose().is_empty() {
        return Err(CredentialError::Empty);
    }
    // Larger ones would make the buffer grow.
    sized(value.expose().len())?;
    bytes.extend_from_slice(value.expose());
    Ok(())
}

fn put_text(bytes: &mut Vec<u8>, text: &str) -> Result<(), CredentialError> {
    let length = u16::try_from(text.len()).map_err(|_| CredentialError::FileName)?;
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    Ok(())
}

fn put_variables(bytes: &mut Vec<u8>, variables: &[Variable]) -> Result<(), CredentialError> {
    let count = counted(variables.len())?;
    sized(variables.iter().map(|variable| variable.name.as_str().len() + variable.value.expose().len() + 6).sum())?;
    bytes.extend_from_slice(&count.to_be_bytes());
    let mut before: Option<&VariableName> = None;
    for variable in variables {
        in_order(before, &variable.name)?;
        before = Some(&variable.name);
        is_text(variable)?;
        put_text(bytes, variable.name.as_str())?;
        let length = u32::try_from(variable.value.expose().len())
            .map_err(|_| CredentialError::Size { limit: limits::SECRET, found: variable.value.expose().len() })?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(variable.value.expose());
    }
    Ok(())
}

fn counted(found: usize) -> Result<u16, CredentialError> {
    let refused = CredentialError::Count { limit: VARIABLES, found };
    if (1..=VARIABLES).contains(&found) { u16::try_from(found).map_err(|_| refused) } else { Err(refused) }
}

fn in_order(before: Option<&VariableName>, name: &VariableName) -> Result<(), CredentialError> {
    if before.is_none_or(|before| before < name) { Ok(()) } else { Err(CredentialError::Order { name: name.clone() }) }
}

fn is_text(variable: &Variable) -> Result<(), CredentialError> {
    let Variable { name, value } = variable;
    match std::str::from_utf8(value.expose()) {
        Ok(text) if text.contains('\0') => Err(CredentialError::ZeroByte { name: name.clone() }),
        Ok(_) => Ok(()),
        Err(_) => Err(CredentialError::NotText { name: name.clone() }),
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], CredentialError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CredentialError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CredentialError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(CredentialError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, CredentialError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn end(&mut self) -> Result<UnixTime, CredentialError> {
        let found = u64::from_be_bytes(self.array()?);
        let time = UnixTime::from_seconds(found);
        if time.seconds() == found { Ok(time) } else { Err(CredentialError::End { found }) }
    }

    /// Behind its length. What is no UTF-8 is no name of anything either.
    fn text(&mut self) -> Result<&'a str, CredentialError> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        Ok(std::str::from_utf8(self.take(length)?).unwrap_or_default())
    }

    fn rest(&mut self) -> Result<Secret, CredentialError> {
        if self.0.is_empty() { Err(CredentialError::Empty) } else { Ok(kept(std::mem::take(&mut self.0))) }
    }

    fn variables(&mut self) -> Result<Vec<Variable>, CredentialError> {
        let count = usize::from(u16::from_be_bytes(self.array()?));
        counted(count)?;
        let mut variables: Vec<Variable> = Vec::with_capacity(count);
        for _ in 0..count {
            let name: VariableName = self.text()?.parse()?;
            in_order(variables.last().map(|variable| &variable.name), &name)?;
            let length = usize::try_from(u32::from_be_bytes(self.array()?)).map_err(|_| CredentialError::Short)?;
            let variable = Variable { name, value: kept(self.take(length)?) };
            is_text(&variable)?;
            variables.push(variable);
        }
        if self.0.is_empty() { Ok(variables) } else { Err(CredentialError::Trailing { found: self.0.len() }) }
    }
}

#[cfg(test)]
mod tests;
