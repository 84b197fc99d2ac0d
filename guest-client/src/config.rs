//! `guest.toml`: what a guest pins, and the digest by which a policy can demand that it does.
//!
//! The *effective configuration* is the file with what the command line changes in it. Its digest stands in the transcript of
//! every attestation, so a host that changes what matters changes a claim. What matters is what decides whom the guest believes
//! and where plaintext may go; where the broker answers and how evidence is come by decide neither, because every answer is
//! checked against the pinned root and every report is judged by the broker.
//!
//! ```text
//! digest = SHA-256( LP("portcullis/guest-configuration/v1") ‖ LP(root) ‖ LP(plaintext) ‖ LP(stdout) ‖ LP(plain-http)
//!                   ‖ optional(state) ‖ LP(n) ‖ n times: LP(path) ‖ LP(SHA-256 of that covered file)
//!                   ‖ where there are any: LP("model-signers") ‖ LP(m) ‖ m times: LP(model) ‖ LP(key id) ‖ LP(contents) )
//! ```
//! with `LP` and `optional` as in [`protocol::transcript`], words as they stand in the file, numbers as eight big-endian bytes.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use models_manifest::signature::{self, Depth, ModelSigner, SignatureError};
use models_manifest::{Progress, RangeSource, SealedModel};
use protocol::encoding::{Fields, sha256};
use protocol::ids::{Digest, Name};
use protocol::keys::PublicKey;
use serde::Deserialize;

use crate::evidence::{self, Choice, EventLogChoice, Interfaces};
use crate::sources::settings::{Storage, StorageFile};
use connection::{Endpoint, PlainHttp};

/// Where the configuration lies unless `--config` says otherwise.
pub const PATH: &str = "/etc/portcullis/guest.toml";
/// The largest configuration (bytes): a few lines.
const FILE: u64 = 64 * 1024;
/// The largest covered file (bytes): a configuration of something else.
const COVERED_FILE: u64 = 1024 * 1024;
/// Covered files at most.
const COVERED_FILES: usize = 32;
/// Models with a required signer at most; the file's own limit is nearer.
const MODEL_SIGNERS: usize = 256;

/// Where plaintext may be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plaintext {
    /// To memory of the guest only: tmpfs or ramfs, no active swap.
    #[default]
    Memory,
    /// Anywhere. The host reads what is written to its disks and shared folders.
    Disk,
}

impl Plaintext {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// Whether a secret may be written to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stdout {
    /// No: a container's standard output is the host's log.
    #[default]
    Refused,
    /// Yes.
    Allowed,
}

impl Stdout {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Allowed => "allowed",
        }
    }
}

/// The file, word for word.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    root: PublicKey,
    broker: String,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    plain_http: PlainHttpWord,
    #[serde(default)]
    timeout_seconds: Option<u64>,
    #[serde(default)]
    evidence: Option<String>,
    #[serde(default)]
    event_log: Option<String>,
    #[serde(default)]
    configfs: Option<PathBuf>,
    #[serde(default)]
    state: Option<PathBuf>,
    #[serde(default)]
    plaintext: Plaintext,
    #[serde(default)]
    stdout: Stdout,
    #[serde(default)]
    covers: Vec<PathBuf>,
    #[serde(default)]
    storage: StorageFile,
    #[serde(default)]
    model_signers: Vec<ModelSignerWords>,
}

/// `[[model-signers]]`, word for word.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ModelSignerWords {
    model: Name,
    key: String,
    #[serde(default)]
    contents: SignedContents,
}

/// Whether the guest itself holds each file of a model to the digest that its signer signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignedContents {
    /// Yes: the whole model is read once before it is opened.
    #[default]
    Hashed,
    /// No: the publisher did, and its signature says so. Signature and list of files are verified all the same.
    PublisherVouches,
}

impl SignedContents {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hashed => "hashed",
            Self::PublisherVouches => "publisher-vouches",
        }
    }
}

/// Whose OpenSSF model signature a model must bear before this guest uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredModelSigner {
    /// The model.
    pub model: Name,
    /// Its signer. Trusted: for what the model is, beside the publisher.
    pub key: ModelSigner,
    /// Whether the guest hashes the files itself.
    pub contents: SignedContents,
}

impl RequiredModelSigner {
    /// Holds a model to its signer, before anything of it is used.
    ///
    /// # Errors
    /// As [`signature::verify`].
    pub fn verify<S: RangeSource + Sync>(&self, model: &SealedModel<S>, progress: &mut dyn Progress) -> Result<(), SignatureError> {
        let depth = match self.contents {
            SignedContents::Hashed => Depth::Contents,
            SignedContents::PublisherVouches => Depth::PublisherVouches,
        };
        signature::verify(model, &self.key, depth, progress).map(drop)
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PlainHttpWord {
    #[default]
    LoopbackOnly,
    Anywhere,
}

/// The effective configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The pinned installation root. Trusted: certifies the broker whose answers are believed.
    pub root: PublicKey,
    /// Where the broker is. Not trusted: whatever answers there is checked.
    pub broker: Endpoint,
    /// How evidence is come by. Not trusted beyond this guest: the broker judges what comes.
    pub evidence: Choice,
    /// The kernel's interfaces to evidence, and which event log goes with a quote; another configfs than the kernel's for tests.
    pub interfaces: Interfaces,
    /// Where the last checkpoint of the broker's log is kept. `None`: a log that was rolled back is not noticed here.
    pub state: Option<PathBuf>,
    /// Where plaintext may be written.
    pub plaintext: Plaintext,
    /// Whether a secret may be written to standard output.
    pub stdout: Stdout,
    /// Files whose content the digest covers, such as an engine's arguments.
    pub covers: Vec<PathBuf>,
    /// How sealed models are fetched. Not trusted: every byte that comes is checked. Not in the digest, but for plain HTTP.
    pub storage: Storage,
    /// Models that must bear a signature of their own, each named once.
    pub model_signers: Vec<RequiredModelSigner>,
}

/// What the command line changes.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Another broker URL. Not in the digest.
    pub broker: Option<String>,
    /// Another CA file. Not in the digest.
    pub ca_file: Option<PathBuf>,
    /// Plain HTTP anywhere. In the digest.
    pub plain_http: Option<PlainHttp>,
    /// Another way to evidence. Not in the digest.
    pub evidence: Option<Choice>,
    /// Another state folder. In the digest.
    pub state: Option<PathBuf>,
    /// Plaintext to disk. In the digest.
    pub plaintext: Option<Plaintext>,
    /// Secrets on standard output. In the digest.
    pub stdout: Option<Stdout>,
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let bytes = bounded(path, FILE)?;
        let text = String::from_utf8(bytes).map_err(|_| ConfigError::Form { path: path.to_owned(), what: "not UTF-8".to_owned() })?;
        Self::parse(&text).map_err(|what| ConfigError::Form { path: path.to_owned(), what })
    }

    /// From the text of a file; the error says line and column.
    ///
    /// # Errors
    /// What is wrong, with its place.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let evidence = file.evidence.as_deref().unwrap_or("auto").parse().map_err(|error| format!("evidence: {error}"))?;
        let event_log =
            file.event_log.as_deref().map_or(Ok(EventLogChoice::Auto), str::parse).map_err(|error| format!("event-log: {error}"))?;
        if file.covers.len() > COVERED_FILES {
            return Err(format!("covers: {} files, more than {COVERED_FILES}", file.covers.len()));
        }
        if let Some(relative) = file.covers.iter().chain(&file.state).find(|path| !path.is_absolute()) {
            return Err(format!("{} is not an absolute path", relative.display()));
        }
        let model_signers = model_signers(file.model_signers)?;
        let mut broker = Endpoint::new(&file.broker);
        broker.ca_file = file.ca_file;
        broker.plain_http = match file.plain_http {
            PlainHttpWord::LoopbackOnly => PlainHttp::LoopbackOnly,
            PlainHttpWord::Anywhere => PlainHttp::Anywhere,
        };
        match file.timeout_seconds {
            Some(0) => return Err("timeout-seconds: expected 1 or more".to_owned()),
            Some(seconds) => broker.timeout = Duration::from_secs(seconds),
            None => {}
        }
        let storage = file.storage.settings(broker.plain_http)?;
        Ok(Self {
            root: file.root,
            storage,
            broker,
            evidence,
            interfaces: Interfaces { configfs: file.configfs.unwrap_or_else(|| PathBuf::from(evidence::configfs::ROOT)), event_log },
            state: file.state,
            plaintext: file.plaintext,
            stdout: file.stdout,
            covers: file.covers,
            model_signers,
        })
    }

    /// Whose signature the model called `name` must bear; `None` where any sealed by a trusted publisher will do.
    #[must_use]
    pub fn model_signer(&self, name: &Name) -> Option<&RequiredModelSigner> {
        self.model_signers.iter().find(|required| required.model == *name)
    }

    /// With what the command line changes.
    #[must_use]
    pub fn overridden(mut self, overrides: Overrides) -> Self {
        self.broker.url = overrides.broker.unwrap_or(self.broker.url);
        self.broker.ca_file = overrides.ca_file.or(self.broker.ca_file);
        self.broker.plain_http = overrides.plain_http.unwrap_or(self.broker.plain_http);
        self.storage.plain_http = self.broker.plain_http;
        self.evidence = overrides.evidence.unwrap_or(self.evidence);
        self.state = overrides.state.or(self.state);
        self.plaintext = overrides.plaintext.unwrap_or(self.plaintext);
        self.stdout = overrides.stdout.unwrap_or(self.stdout);
        self
    }

    /// The word in the file for where plain HTTP is spoken.
    #[must_use]
    pub const fn plain_http(&self) -> &'static str {
        match self.broker.plain_http {
            PlainHttp::LoopbackOnly => "loopback-only",
            PlainHttp::Anywhere => "anywhere",
        }
    }

    /// The digest of the effective configuration, as the head of this file says. Reads the covered files.
    ///
    /// # Errors
    /// [`ConfigError::Io`], [`ConfigError::TooLarge`] for a covered file.
    pub fn digest(&self) -> Result<Digest, ConfigError> {
        let state = self.state.as_ref().map(|path| path.as_os_str().as_encoded_bytes());
        let mut fields = Fields::new("portcullis/guest-configuration/v1")
            .field(self.root.as_bytes())
            .field(self.plaintext.as_str())
            .field(self.stdout.as_str())
            .field(self.plain_http())
            .optional(state)
            .number(self.covers.len() as u64);
        for path in &self.covers {
            fields = fields.field(path.as_os_str().as_encoded_bytes()).field(sha256(&bounded(path, COVERED_FILE)?));
        }
        if !self.model_signers.is_empty() {
            fields = fields.field("model-signers").number(self.model_signers.len() as u64);
        }
        for RequiredModelSigner { model, key, contents } in &self.model_signers {
            fields = fields.field(model.to_string()).field(key.id().as_bytes()).field(contents.as_str());
        }
        Ok(fields.sha256())
    }
}

/// Each model once, each with a key.
fn model_signers(words: Vec<ModelSignerWords>) -> Result<Vec<RequiredModelSigner>, String> {
    if words.len() > MODEL_SIGNERS {
        return Err(format!("model-signers: {} models, more than {MODEL_SIGNERS}", words.len()));
    }
    let mut read: Vec<RequiredModelSigner> = Vec::with_capacity(words.len());
    for ModelSignerWords { model, key, contents } in words {
        let key = key.parse::<ModelSigner>().map_err(|error| format!("model-signers: {model}: {error}"))?;
        if read.iter().any(|other| other.model == model) {
            return Err(format!("model-signers: {model} stands twice"));
        }
        read.push(RequiredModelSigner { model, key, contents });
    }
    Ok(read)
}

fn bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ConfigError> {
    let io = |error| ConfigError::Io { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(io)?.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > limit { Err(ConfigError::TooLarge { path: path.to_owned(), limit }) } else { Ok(bytes) }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// A file is too large.
    #[error("{} has more than {limit} bytes", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// Not a configuration.
    #[error("{} is not a guest's configuration: {what}", path.display())]
    Form {
        /// Which.
        path: PathBuf,
        /// What is wrong, with its place.
        what: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(more: &str) -> String {
        format!("root = \"{}\"\nbroker = \"https://broker.example.com\"\n{more}", PublicKey::from_bytes([1; 32]))
    }

    fn digest(more: &str) -> Digest {
        Config::parse(&text(more)).unwrap().digest().unwrap()
    }

    #[test]
    fn the_digest_of_the_least_configuration_is_this_one() {
        // Whoever changes the canonical form changes its label too.
        let expected = Fields::new("portcullis/guest-configuration/v1")
            .field([1; 32])
            .field("memory")
            .field("refused")
            .field("loopback-only")
            .optional(None)
            .number(0)
            .sha256();
        assert_eq!(digest(""), expected);
        assert_eq!(expected.to_string(), "cd7e19ebf62202a4c3cf05fb08dfc47f858389429e206248d650b23841dc4b0c");
    }

    #[test]
    fn what_decides_trust_changes_the_digest_and_nothing_else_does() {
        let other = text("").replace(&PublicKey::from_bytes([1; 32]).to_string(), &PublicKey::from_bytes([2; 32]).to_string());
        let mut digests = vec![digest(""), Config::parse(&other).unwrap().digest().unwrap()];
        for matters in
            ["plaintext = \"disk\"", "stdout = \"allowed\"", "plain-http = \"anywhere\"", "state = \"/run/a\"", "state = \"/run/b\""]
        {
            digests.push(digest(matters));
        }
        let distinct: std::collections::HashSet<_> = digests.iter().collect();
        assert_eq!(distinct.len(), digests.len());
        for indifferent in [
            "evidence = \"device\"",
            "event-log = \"none\"",
            "ca-file = \"/a\"",
            "timeout-seconds = 5",
            "configfs = \"/x\"",
            "plaintext = \"memory\"",
            "# note",
        ] {
            assert_eq!(digest(indifferent), digest(""), "{indifferent}");
        }
    }

    /// An elliptic curve key: the generator of P-256.
    const MAKER: &str = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\n\
        6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n\
        -----END PUBLIC KEY-----\n";

    fn signer(model: &str, more: &str) -> String {
        format!("[[model-signers]]\nmodel = \"{model}\"\nkey = \"\"\"\n{MAKER}\"\"\"\n{more}\n")
    }

    #[test]
    fn a_required_signer_is_part_of_the_digest() {
        let one = signer("acme/llama", "");
        let config = Config::parse(&text(&one)).unwrap();
        let required = config.model_signer(&"acme/llama".parse().unwrap()).unwrap();
        assert_eq!(required.contents, SignedContents::Hashed);
        assert!(config.model_signer(&"acme/other".parse().unwrap()).is_none());
        let mut digests = vec![digest(""), digest(&one)];
        digests.push(digest(&signer("acme/other", "")));
        digests.push(digest(&signer("acme/llama", "contents = \"publisher-vouches\"")));
        digests.push(digest(&[one.clone(), signer("acme/other", "")].concat()));
        let distinct: std::collections::HashSet<_> = digests.iter().collect();
        assert_eq!(distinct.len(), digests.len());
        assert_eq!(digest(&signer("acme/llama", "contents = \"hashed\"")), digest(&one));
    }

    #[test]
    fn a_required_signer_is_one_key_for_one_model() {
        let refused = |more: &str| Config::parse(&text(more)).unwrap_err();
        assert!(refused(&signer("acme/llama", "").repeat(2)).contains("acme/llama stands twice"));
        assert!(refused("[[model-signers]]\nmodel = \"a\"\nkey = \"none\"\n").contains("not one PEM block"));
        assert!(refused("[[model-signers]]\nmodel = \"a\"\n").contains("key"));
        assert!(refused(&signer("a", "contents = \"anything\"")).contains("contents"));
        assert!(refused(&signer("a", "more = 1")).contains("more"));
        let many = |number: usize| (0..number).map(|index| signer(&format!("m{index}"), "")).collect::<String>();
        assert!(Config::parse(&text(&many(MODEL_SIGNERS))).is_ok());
        assert!(refused(&many(MODEL_SIGNERS + 1)).contains("more than"));
    }

    #[test]
    fn a_flag_that_changes_trust_changes_the_digest() {
        let plain = Config::parse(&text("")).unwrap();
        let same = Overrides { broker: Some("https://other".into()), evidence: Some(Choice::Device), ..Overrides::default() };
        assert_eq!(plain.clone().overridden(same).digest().unwrap(), digest(""));
        for (overrides, line) in [
            (Overrides { plaintext: Some(Plaintext::Disk), ..Overrides::default() }, "plaintext = \"disk\""),
            (Overrides { stdout: Some(Stdout::Allowed), ..Overrides::default() }, "stdout = \"allowed\""),
            (Overrides { plain_http: Some(PlainHttp::Anywhere), ..Overrides::default() }, "plain-http = \"anywhere\""),
            (Overrides { state: Some("/run/a".into()), ..Overrides::default() }, "state = \"/run/a\""),
        ] {
            assert_eq!(plain.clone().overridden(overrides).digest().unwrap(), digest(line));
        }
    }

    #[test]
    fn a_covered_file_is_part_of_the_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.args");
        let line = format!("covers = [{:?}]", path.display().to_string());
        std::fs::write(&path, "--model /models/a").unwrap();
        let before = digest(&line);
        assert_ne!(before, digest(""));
        std::fs::write(&path, "--model /models/b").unwrap();
        assert_ne!(before, digest(&line));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Config::parse(&text(&line)).unwrap().digest(), Err(ConfigError::Io { .. })));
        std::fs::write(&path, vec![0; 1024 * 1024 + 1]).unwrap();
        assert!(matches!(Config::parse(&text(&line)).unwrap().digest(), Err(ConfigError::TooLarge { .. })));
    }

    #[test]
    fn the_file_is_strict_and_an_error_names_its_line() {
        let error = Config::parse(&text("plaintxt = \"disk\"")).unwrap_err();
        assert!(error.contains("line 3") && error.contains("plaintxt"), "{error}");
        for bad in [
            "plaintext = \"everywhere\"",
            "evidence = \"tpm\"",
            "event-log = \"relative\"",
            "covers = [\"relative\"]",
            "state = \"relative\"",
            "timeout-seconds = 0",
        ] {
            assert!(Config::parse(&text(bad)).is_err(), "{bad}");
        }
        assert!(Config::parse("broker = \"https://a\"").unwrap_err().contains("root"), "no default for the pinned root");
        let many = format!("covers = [{}]", vec!["\"/a\""; COVERED_FILES + 1].join(","));
        assert!(Config::parse(&text(&many)).is_err());
    }
}
