//! `sidecar.toml`: which models, from where, to where, and what the end of a lease does; which credentials, and for whom.
//!
//! It decides nothing about trust: whatever it names, the broker decides about, and what opens is what was released. Who wants it
//! measured nevertheless names it under `covers` in `guest.toml`.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::ids::{Name, Version};
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
use crate::credentials::CREDENTIALS;
use crate::credentials::files::Place;
use crate::identity;
use crate::identity::config::{IdentityWords, WantedIdentity};
use crate::proxy::config::{Listen, ProxyConfig, ProxyWords};
use crate::users;

/// Where it lies unless `--pod` says otherwise.
pub const PATH: &str = "/etc/portcullis/sidecar.toml";
/// The largest file (bytes): a few lines for each of [`MODELS`] models.
const FILE: u64 = 256 * 1024;
/// Models at most: what one request may release (`protocol::limits::ASKS`). What is asked about beside that takes more requests.
pub const MODELS: usize = protocol::limits::ASKS;

/// How a version is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// To a folder in the guest's memory: needs no privilege, and twice the time of a `cp`.
    #[default]
    Open,
    /// As a FUSE mount: there at once, decrypted on first touch; needs the privilege to mount.
    Mount,
}

/// What the end of a lease does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnExpiry {
    /// Nothing: metrics and the log say it.
    Keep,
    /// Readiness fails until a renewal succeeds; the files stay.
    #[default]
    Unready,
    /// The files are put away, whoever has them open or not, and readiness fails.
    Remove,
}

/// What a denied renewal does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDenial {
    /// The lease runs out as if the broker had not answered.
    #[default]
    AtExpiry,
    /// The lease ends now.
    AtOnce,
}

/// A model that is to be kept open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Wanted {
    /// Its name.
    pub name: Name,
    /// The version; without it, the highest that is published, and later ones as they come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Where its sealed files are. `{version}` in it stands for the version's number.
    pub sealed: String,
    /// The model that this one is an adapter of, which must be open before it and stay open beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Name>,
    /// How it is opened, where not as the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<Way>,
}

impl Wanted {
    /// Where the sealed files of `version` are.
    #[must_use]
    pub fn sealed(&self, version: Version) -> String {
        self.sealed.replace("{version}", &version.number().to_string())
    }
}

/// A credential that is to be held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedCredential {
    /// Its name.
    pub name: Name,
    /// The version; without it, the newest that is not revoked, and later ones as they come.
    pub version: Option<Version>,
    /// Where it is kept as a file; with `/` at its end, the folder, its own alone, that holds it under its own file name.
    pub file: Option<PathBuf>,
    /// The file's permission bits.
    pub mode: u32,
    /// Users besides the sidecar's own that may read it by the local API.
    pub users: Vec<u32>,
}

impl WantedCredential {
    /// Where it is kept as a file.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        self.file.as_deref().map(|file| Place::new(file, self.mode))
    }
}

/// The same, word for word.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct CredentialTable {
    name: Name,
    version: Option<Version>,
    file: Option<PathBuf>,
    mode: Option<String>,
    #[serde(default)]
    users: Vec<u32>,
}

impl CredentialTable {
    fn read(self) -> Result<WantedCredential, String> {
        let Self { name, version, file, mode, users } = self;
        if let Some(relative) = file.as_ref().filter(|path| !path.is_absolute()) {
            return Err(format!("{} is not an absolute path", relative.display()));
        }
        users::check(&users).map_err(|what| format!("users of {name}: {what}"))?;
        if mode.is_some() && file.is_none() {
            return Err(format!("{name} has a mode and no file"));
        }
        let mode = mode.as_deref().map_or(Some(0o600), permissions).filter(|mode| mode & 0o133 == 0);
        let mode = mode.ok_or_else(|| {
            format!("mode of {name}: expected octal digits such as \"640\": nobody executes it, and its user alone writes it")
        })?;
        Ok(WantedCredential { name, version, file, mode, users })
    }
}

/// The file, word for word.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    models: Option<PathBuf>,
    #[serde(default)]
    way: Way,
    socket: Option<PathBuf>,
    socket_mode: Option<String>,
    #[serde(default)]
    peers: Vec<u32>,
    probes: Option<SocketAddr>,
    check_every_seconds: Option<u64>,
    #[serde(default)]
    on_expiry: OnExpiry,
    #[serde(default)]
    on_denial: OnDenial,
    #[serde(default)]
    on_change: Vec<String>,
    #[serde(default)]
    model: Vec<Wanted>,
    #[serde(default)]
    identity: Vec<IdentityWords>,
    #[serde(default)]
    credential: Vec<CredentialTable>,
    #[serde(default)]
    proxy: Vec<ProxyWords>,
}

/// What the sidecar is told.
#[derive(Clone, Debug)]
pub struct SidecarConfig {
    /// The folder under which models appear; `None`: there are none, and none can be added.
    pub models: Option<PathBuf>,
    /// How models are opened.
    pub way: Way,
    /// The local API's socket; `None`: there is no local API.
    pub socket: Option<PathBuf>,
    /// The socket's permission bits.
    pub socket_mode: u32,
    /// Users besides the sidecar's own that may use the local API.
    pub peers: Vec<u32>,
    /// Where probes and metrics are served.
    pub probes: SocketAddr,
    /// How often the broker is asked for new versions and revocations, at least.
    pub check_every: Duration,
    /// What the end of a lease does.
    pub on_expiry: OnExpiry,
    /// What a denied renewal does.
    pub on_denial: OnDenial,
    /// A command with its arguments, run on each change; empty: none.
    pub on_change: Vec<String>,
    /// The models.
    pub wanted: Vec<Wanted>,
    /// The identities.
    pub identities: Vec<WantedIdentity>,
    /// The credentials.
    pub credentials: Vec<WantedCredential>,
    /// The credential proxies.
    pub proxies: Vec<ProxyConfig>,
}

/// Probes and metrics, where the file does not say: this machine only, as a kubelet on a host network would not reach; pods name `0.0.0.0`.
const PROBES: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9901);
/// How often the broker is asked, where the file does not say.
const CHECK_EVERY: Duration = Duration::from_secs(300);

impl SidecarConfig {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let io = |error| ConfigError::Io { path: path.to_owned(), error };
        let mut text = String::new();
        std::fs::File::open(path).map_err(io)?.take(FILE + 1).read_to_string(&mut text).map_err(io)?;
        if text.len() as u64 > FILE {
            return Err(ConfigError::TooLarge { path: path.to_owned(), limit: FILE });
        }
        Self::parse(&text).map_err(|what| ConfigError::Form { path: path.to_owned(), what })
    }

    /// From the text of a file; the error says line and column.
    ///
    /// # Errors
    /// What is wrong, with its place.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let relative = [file.models.as_ref(), file.socket.as_ref()].into_iter().flatten().find(|path| !path.is_absolute());
        if let Some(relative) = relative {
            return Err(format!("{} is not an absolute path", relative.display()));
        }
        let socket_mode =
            file.socket_mode.as_deref().map_or(Some(0o600), permissions).ok_or("socket-mode: expected three octal digits, as \"660\"")?;
        if file.check_every_seconds == Some(0) {
            return Err("check-every-seconds: expected 1 or more".to_owned());
        }
        users::check(&file.peers).map_err(|what| format!("peers: {what}"))?;
        if let (None, Some(model)) = (&file.models, file.model.first()) {
            return Err(format!("models: the folder under which {} is to appear is missing", model.name));
        }
        check(&file.model)?;
        let credentials = file.credential.into_iter().map(CredentialTable::read).collect::<Result<Vec<_>, _>>()?;
        check_credentials(&credentials)?;
        let (identities, proxies) = (identity::config::read(file.identity)?, ProxyConfig::all(file.proxy)?);
        if file.models.is_none() && identities.is_empty() && credentials.is_empty() && proxies.is_empty() {
            return Err("there is nothing to keep: no models, [[identity]], [[credential]] or [[proxy]]".to_owned());
        }
        let sockets = proxies.iter().filter_map(|proxy| if let Listen::Socket(path) = &proxy.listen { Some(path.as_path()) } else { None });
        let others = file.socket.as_deref().into_iter().chain(identities.iter().flat_map(WantedIdentity::paths)).chain(sockets);
        check_files(&credentials, &others.collect::<Vec<_>>())?;
        Ok(Self {
            models: file.models,
            way: file.way,
            socket: file.socket,
            socket_mode,
            peers: file.peers,
            probes: file.probes.unwrap_or(PROBES),
            check_every: file.check_every_seconds.map_or(CHECK_EVERY, Duration::from_secs),
            on_expiry: file.on_expiry,
            on_denial: file.on_denial,
            on_change: file.on_change,
            wanted: file.model,
            identities,
            credentials,
            proxies,
        })
    }
}

/// Octal permission bits.
fn permissions(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777)
}

/// Credentials are there once, and there are not too many.
fn check_credentials(credentials: &[WantedCredential]) -> Result<(), String> {
    if credentials.len() > CREDENTIALS {
        return Err(format!("{} credentials, more than {CREDENTIALS}", credentials.len()));
    }
    for (at, one) in credentials.iter().enumerate() {
        if credentials.iter().skip(at + 1).any(|other| other.name == one.name) {
            return Err(format!("the credential {} is listed twice", one.name));
        }
    }
    Ok(())
}

/// No credential's file can come to lie where another's does, or anything else that is named: whoever publishes a credential names its file
/// in a folder, so that a folder is one credential's alone.
fn check_files(credentials: &[WantedCredential], others: &[&Path]) -> Result<(), String> {
    let places: Vec<(&Name, Place)> = credentials.iter().filter_map(|wanted| Some((&wanted.name, wanted.place()?))).collect();
    for (at, (name, place)) in places.iter().enumerate() {
        if let Some((other, _)) = places.iter().skip(at + 1).find(|(_, other)| place.meets(other)) {
            return Err(format!("the file of {name} may be another credential's too, of {other}: a folder is for one alone"));
        }
        if let Some(other) = others.iter().find(|other| place.may_be(other)) {
            return Err(format!("the file of {name} may come to lie at {}, where something else is", other.display()));
        }
    }
    Ok(())
}

/// Names are there once, an adapter stands behind its base, and there are not too many.
fn check(models: &[Wanted]) -> Result<(), String> {
    if models.len() > MODELS {
        return Err(format!("{} models, more than {MODELS}", models.len()));
    }
    let mut names = BTreeSet::new();
    for model in models {
        if let Some(base) = model.base.as_ref().filter(|base| !names.contains(base)) {
            return Err(format!("the adapter {} stands before its base {base}, or that is not listed", model.name));
        }
        if !names.insert(&model.name) {
            return Err(format!("the model {} is listed twice", model.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "models = \"/models\"\n";

    #[test]
    fn the_least_file_serves_nothing_and_opens_no_door() {
        let config = SidecarConfig::parse(LEAST).unwrap();
        assert_eq!((config.way, config.on_expiry, config.on_denial), (Way::Open, OnExpiry::Unready, OnDenial::AtExpiry));
        assert!(config.socket.is_none() && config.peers.is_empty() && config.wanted.is_empty());
        assert!(config.probes.ip().is_loopback());
    }

    #[test]
    fn a_sidecar_of_nothing_is_refused() {
        for text in ["", "socket = \"/run/sidecar.sock\"\n"] {
            assert!(SidecarConfig::parse(text).unwrap_err().contains("nothing to keep"), "{text}");
        }
        let proxy =
            "[[proxy]]\nlisten = \"/run/a.sock\"\nupstream = \"https://a.example\"\ncredential = \"a\"\nallow = [\"GET /v1/models\"]\n";
        let identity = "[[identity]]\npolicy = \"p\"\nsocket = \"/run/b/workload.sock\"\nusers = [1]\n";
        for text in [LEAST, "[[credential]]\nname = \"a\"\n", proxy, identity] {
            assert!(SidecarConfig::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_folder_is_missing_only_where_a_model_is_to_appear_in_it() {
        let others = "socket = \"/run/sidecar.sock\"\n[[identity]]\npolicy = \"p\"\nsocket = \"/run/b/workload.sock\"\nusers = [1]\n\
                      [[credential]]\nname = \"a\"\n";
        let config = SidecarConfig::parse(others).unwrap();
        assert_eq!((config.models, config.identities.len(), config.credentials.len()), (None, 1, 1));
        let with_model = format!("{others}[[model]]\nname = \"acme/a\"\nsealed = \"/s\"\n");
        let missing = "models: the folder under which acme/a is to appear is missing";
        assert_eq!(SidecarConfig::parse(&with_model).unwrap_err(), missing);
        assert_eq!(SidecarConfig::parse(&format!("{LEAST}{with_model}")).unwrap().models.as_deref(), Some(Path::new("/models")));
    }

    #[test]
    fn models_and_adapters_are_read() {
        let text = format!(
            "{LEAST}on-expiry = \"remove\"\nsocket-mode = \"660\"\n[[model]]\nname = \"acme/base\"\nsealed = \"/s/base/{{version}}\"\n\
             [[model]]\nname = \"acme/tone\"\nversion = 2\nsealed = \"/s/tone\"\nbase = \"acme/base\"\nway = \"mount\"\n"
        );
        let config = SidecarConfig::parse(&text).unwrap();
        assert_eq!((config.on_expiry, config.socket_mode), (OnExpiry::Remove, 0o660));
        assert_eq!(config.wanted[0].sealed("7".parse().unwrap()), "/s/base/7");
        assert_eq!(config.wanted[1].base, Some("acme/base".parse().unwrap()));
        assert_eq!(config.wanted[1].way, Some(Way::Mount));
    }

    #[test]
    fn credentials_are_read() {
        let text = format!(
            "{LEAST}[[credential]]\nname = \"agents/openai\"\n[[credential]]\nname = \"agents/gcp\"\nversion = 2\nfile = \"/run/c/\"\n\
             mode = \"440\"\nusers = [1000]\n"
        );
        let [plain, full] = <[WantedCredential; 2]>::try_from(SidecarConfig::parse(&text).unwrap().credentials).unwrap();
        assert_eq!((plain.version, plain.file, plain.mode, plain.users), (None, None, 0o600, vec![]));
        assert_eq!((full.version, full.file, full.mode, full.users), ("2".parse().ok(), Some("/run/c/".into()), 0o440, vec![1000]));
    }

    #[test]
    fn proxies_are_read_and_strict() {
        let proxy = |more: &str| {
            format!(
                "{LEAST}[[proxy]]\nlisten = \"/run/a.sock\"\nupstream = \"https://a.example\"\ncredential = \"agents/a\"\n\
                 allow = [\"GET /v1/models\"]\n{more}\n"
            )
        };
        assert_eq!(SidecarConfig::parse(&proxy("")).unwrap().proxies[0].credential, "agents/a".parse().unwrap());
        let error = SidecarConfig::parse(&proxy("header = \"host\"")).unwrap_err();
        assert!(error.contains("/run/a.sock") && error.contains("header"), "{error}");
        assert!(SidecarConfig::parse(&proxy("more = 1")).unwrap_err().contains("more"));
    }

    #[test]
    fn credentials_that_cannot_be_meant_are_refused() {
        let credential = |name: &str, more: &str| format!("[[credential]]\nname = \"{name}\"\n{more}\n");
        let file = |name: &str, path: &str| credential(name, &format!("file = \"{path}\""));
        for (one, other) in [("/run/c/", "/run/d/"), ("/run/c/", "/run/d"), ("/run/c/a", "/run/c/b")] {
            assert!(SidecarConfig::parse(&format!("{LEAST}{}{}", file("a", one), file("b", other))).is_ok(), "{one} {other}");
        }
        for (text, part) in [
            (file("a", "relative"), "absolute"),
            (credential("a", "mode = \"600\""), "no file"),
            (credential("a", "file = \"/f\"\nmode = \"755\""), "executes"),
            (credential("a", "file = \"/f\"\nmode = \"620\""), "alone writes"),
            (credential("a", "file = \"/f\"\nmode = \"x\""), "octal"),
            (credential("../a", ""), "name"),
            (credential("a", "more = 1"), "more"),
            (credential("a", "").repeat(2), "twice"),
            (credential("a", "users = [65534]"), "namespace"),
            (format!("{}{}", file("a", "/f"), file("b", "/f")), "another credential's"),
            (format!("{}{}", file("a", "/run/c/"), file("b", "/run/c/")), "another credential's"),
            (format!("{}{}", file("a", "/run/c/openai"), file("b", "/run/c/")), "another credential's"),
            ((0..=CREDENTIALS).map(|at| credential(&format!("c{at}"), "")).collect(), "more than"),
        ] {
            let error = SidecarConfig::parse(&format!("{LEAST}{text}")).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_credential_that_names_its_own_file_lies_beside_nothing_else() {
        let text = |folder: &str| {
            format!(
                "{LEAST}socket = \"/run/a/sidecar.sock\"\n[[credential]]\nname = \"a\"\nfile = \"{folder}\"\n\
                 [[identity]]\npolicy = \"p\"\nsocket = \"/run/b/workload.sock\"\nusers = [1]\n\
                 [[identity.token]]\naudience = \"sts\"\npath = \"/run/c/aws\"\n\
                 [[proxy]]\nlisten = \"/run/d/proxy.sock\"\nupstream = \"https://a.example\"\ncredential = \"a\"\nallow = [\"GET /v1/models\"]\n"
            )
        };
        for (folder, other) in [
            ("/run/a/", "sidecar.sock"),
            ("/run/b/", "workload.sock"),
            ("/run/c/", "aws"),
            ("/run/d/", "proxy.sock"),
            ("/run/c/aws", "aws"),
        ] {
            let error = SidecarConfig::parse(&text(folder)).unwrap_err();
            assert!(error.contains("something else") && error.contains(other), "{folder}: {error}");
        }
        for free in ["/run/e/", "/run/c/openai"] {
            assert!(SidecarConfig::parse(&text(free)).is_ok(), "{free}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_reason() {
        let model = |name: &str, more: &str| format!("[[model]]\nname = \"{name}\"\nsealed = \"/s\"\n{more}\n");
        let twice = format!("{LEAST}{}{}", model("acme/a", ""), model("acme/a", ""));
        let adrift = format!("{LEAST}{}{}", model("acme/b", "base = \"acme/a\""), model("acme/a", ""));
        for (text, part) in [
            ("models = \"relative\"".to_owned(), "absolute"),
            (format!("{LEAST}socket = \"x.sock\""), "absolute"),
            (format!("{LEAST}peers = [1000, 65534]"), "peers: 65534"),
            (format!("{LEAST}socket-mode = \"999\""), "octal"),
            (format!("{LEAST}socket-mode = \"7777\""), "octal"),
            (format!("{LEAST}check-every-seconds = 0"), "1 or more"),
            (format!("{LEAST}on-expiry = \"explode\""), "on-expiry"),
            (format!("{LEAST}modls = []"), "line 2"),
            (twice, "twice"),
            (adrift, "base"),
            (format!("{LEAST}{}", (0..=MODELS).map(|at| model(&format!("acme/m{at}"), "")).collect::<String>()), "more than"),
        ] {
            let error = SidecarConfig::parse(&text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
