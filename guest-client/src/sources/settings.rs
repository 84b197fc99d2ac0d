//! `[storage]` of `guest.toml`: how sealed models are fetched. None of it is in the configuration's digest, because nothing that a
//! storage says is believed; whether plain HTTP is spoken to other machines is said once, for broker and storage.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use connection::PlainHttp;
use serde::{Deserialize, Serialize};

use crate::retry::{Pace, SystemPace};

const MIB: usize = 1024 * 1024;

/// How sealed models are fetched.
#[derive(Clone)]
pub struct Storage {
    /// Requests at once, 1 to 64.
    pub connections: usize,
    /// Bytes of one range, 64 KiB to 64 MiB: what one request asks for.
    pub range: usize,
    /// Bytes of ranges that are held or under way, at least two ranges.
    pub memory: usize,
    /// A connection on which nothing comes for so long is given up.
    pub idle: Duration,
    /// A range that does not get on for so long is given up.
    pub patience: Duration,
    /// Authorities that may vouch for the storage's host, PEM; `None`: those of the web.
    pub ca_file: Option<PathBuf>,
    /// Where plain HTTP is spoken.
    pub plain_http: PlainHttp,
    /// Amazon S3 and its like.
    pub s3: S3,
    /// Google Cloud Storage.
    pub gcs: Gcs,
    /// Azure Blob Storage.
    pub azure: Azure,
    /// Elapsed time and chance, for waiting between attempts.
    pub pace: Arc<dyn Pace>,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            connections: 8,
            range: 4 * MIB,
            memory: 64 * MIB,
            idle: Duration::from_secs(30),
            patience: Duration::from_secs(120),
            ca_file: None,
            plain_http: PlainHttp::LoopbackOnly,
            s3: S3::default(),
            gcs: Gcs::default(),
            azure: Azure::default(),
            pace: Arc::new(SystemPace::start()),
        }
    }
}

/// A store that speaks S3. What is not said here is taken from the environment, by the names that AWS's tools use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct S3 {
    /// Its URL, for any store but Amazon's own; else `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`.
    pub endpoint: Option<String>,
    /// Its region; else `AWS_REGION`, `AWS_DEFAULT_REGION`, and `us-east-1` in the end.
    pub region: Option<String>,
    /// Where the bucket's name stands in a URL.
    #[serde(default)]
    pub addressing: Addressing,
    /// Whom it is read as.
    #[serde(default)]
    pub credentials: Credentials,
}

/// Where a bucket's name stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Addressing {
    /// In the host for Amazon's own, in the path for any other endpoint.
    #[default]
    Auto,
    /// In the path, as MinIO and its like have it.
    Path,
    /// In the host: `https://BUCKET.HOST`.
    VirtualHost,
}

/// Whom a store is read as. Nobody asks an instance's metadata service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Credentials {
    /// Whom `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` name; nobody, where they are not set.
    #[default]
    Environment,
    /// Nobody: requests are not signed.
    Anonymous,
    /// Whom a file names. It is read for each request, so it can be replaced while a model is mounted.
    File(PathBuf),
}

impl TryFrom<String> for Credentials {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        match (text.as_str(), text.strip_prefix("file:")) {
            ("environment", _) => Ok(Self::Environment),
            ("anonymous", _) => Ok(Self::Anonymous),
            (_, Some(path)) if path.starts_with('/') => Ok(Self::File(PathBuf::from(path))),
            _ => Err("expected environment, anonymous or file:/ABSOLUTE/PATH"),
        }
    }
}

impl From<Credentials> for String {
    fn from(credentials: Credentials) -> Self {
        match credentials {
            Credentials::Environment => "environment".to_owned(),
            Credentials::Anonymous => "anonymous".to_owned(),
            Credentials::File(path) => format!("file:{}", path.display()),
        }
    }
}

/// Google Cloud Storage, in builds with the feature `gcs`. Public objects need none of it: `https://storage.googleapis.com/BUCKET`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Gcs {
    /// The key of a service account, JSON.
    pub service_account: Option<PathBuf>,
}

/// Azure Blob Storage, in builds with the feature `azure`. Public blobs need none of it: `https://ACCOUNT.blob.core.windows.net/CONTAINER`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Azure {
    /// The storage account.
    pub account: Option<String>,
    /// A file that holds its key, base64.
    pub key_file: Option<PathBuf>,
}

/// `[storage]`, word for word.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StorageFile {
    connections: Option<usize>,
    range_mib: Option<usize>,
    memory_mib: Option<usize>,
    idle_seconds: Option<u64>,
    retry_seconds: Option<u64>,
    ca_file: Option<PathBuf>,
    s3: S3,
    gcs: Gcs,
    azure: Azure,
}

impl StorageFile {
    /// With the defaults for what is not said.
    ///
    /// # Errors
    /// Which key is out of bounds.
    pub fn settings(self, plain_http: PlainHttp) -> Result<Storage, String> {
        let default = Storage::default();
        let within = |name: &str, value: Option<usize>, default: usize, least: usize, most: usize| match value {
            Some(value) if !(least..=most).contains(&value) => Err(format!("storage.{name}: expected {least} to {most}, found {value}")),
            value => Ok(value.unwrap_or(default)),
        };
        let range = within("range-mib", self.range_mib, default.range.div_euclid(MIB), 1, 64)?;
        let memory = within(
            "memory-mib",
            self.memory_mib,
            default.memory.div_euclid(MIB).max(range.saturating_mul(2)),
            range.saturating_mul(2),
            4096,
        )?;
        let idle = match self.idle_seconds {
            Some(0) => return Err("storage.idle-seconds: expected 1 or more".to_owned()),
            seconds => seconds.map_or(default.idle, Duration::from_secs),
        };
        Ok(Storage {
            connections: within("connections", self.connections, default.connections, 1, 64)?,
            range: range.saturating_mul(MIB),
            memory: memory.saturating_mul(MIB),
            idle,
            patience: self.retry_seconds.map_or(default.patience, Duration::from_secs),
            ca_file: self.ca_file,
            plain_http,
            s3: self.s3,
            gcs: self.gcs,
            azure: self.azure,
            ..default
        })
    }
}

/// Settings as one process hands them to another of the same program: what is in force, not what was written. They name files and
/// environment variables that hold credentials, and hold none.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct InForce {
    connections: usize,
    range: usize,
    memory: usize,
    idle_milliseconds: u64,
    retry_milliseconds: u64,
    ca_file: Option<PathBuf>,
    plain_http_anywhere: bool,
    s3: S3,
    gcs: Gcs,
    azure: Azure,
}

impl From<&Storage> for InForce {
    fn from(storage: &Storage) -> Self {
        let milliseconds = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self {
            connections: storage.connections,
            range: storage.range,
            memory: storage.memory,
            idle_milliseconds: milliseconds(storage.idle),
            retry_milliseconds: milliseconds(storage.patience),
            ca_file: storage.ca_file.clone(),
            plain_http_anywhere: storage.plain_http == PlainHttp::Anywhere,
            s3: storage.s3.clone(),
            gcs: storage.gcs.clone(),
            azure: storage.azure.clone(),
        }
    }
}

impl InForce {
    /// As they are used; `None` where nothing could be fetched under them.
    #[must_use]
    pub fn settings(self) -> Option<Storage> {
        let fits = self.range > 0 && self.memory >= self.range.saturating_mul(2) && (1..=64).contains(&self.connections);
        fits.then(|| Storage {
            connections: self.connections,
            range: self.range,
            memory: self.memory,
            idle: Duration::from_millis(self.idle_milliseconds),
            patience: Duration::from_millis(self.retry_milliseconds),
            ca_file: self.ca_file,
            plain_http: if self.plain_http_anywhere { PlainHttp::Anywhere } else { PlainHttp::LoopbackOnly },
            s3: self.s3,
            gcs: self.gcs,
            azure: self.azure,
            ..Storage::default()
        })
    }
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage")
            .field("connections", &self.connections)
            .field("range", &self.range)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Storage, String> {
        toml::from_str::<StorageFile>(text).map_err(|error| error.to_string())?.settings(PlainHttp::LoopbackOnly)
    }

    #[test]
    fn what_is_said_is_taken_and_the_rest_has_defaults() {
        let all = "connections = 3\nrange-mib = 8\nmemory-mib = 100\nidle-seconds = 5\nretry-seconds = 0\nca-file = \"/a\"\n\
                   [s3]\nendpoint = \"http://127.0.0.1:9000\"\nregion = \"x\"\naddressing = \"path\"\ncredentials = \"file:/run/s3.toml\"";
        let settings = read(all).unwrap();
        assert_eq!((settings.connections, settings.range, settings.memory), (3, 8 * MIB, 100 * MIB));
        assert_eq!((settings.idle, settings.patience), (Duration::from_secs(5), Duration::ZERO));
        assert_eq!((settings.s3.addressing, settings.s3.credentials), (Addressing::Path, Credentials::File("/run/s3.toml".into())));
        let settings = read("range-mib = 64").unwrap();
        assert_eq!(settings.memory, 128 * MIB, "two ranges always fit");
        assert_eq!(read("").unwrap().s3, S3::default());
    }

    #[test]
    fn settings_are_handed_on_as_they_are() {
        let text = "connections = 3\nrange-mib = 8\nidle-seconds = 5\nca-file = \"/a\"\n[s3]\nendpoint = \"http://127.0.0.1:9000\"\n\
                    addressing = \"path\"\ncredentials = \"file:/run/s3.toml\"\n[azure]\naccount = \"acme\"";
        for credentials in [Credentials::Environment, Credentials::Anonymous, Credentials::File("/run/a".into())] {
            let mut settings = toml::from_str::<StorageFile>(text).unwrap().settings(PlainHttp::Anywhere).unwrap();
            settings.s3.credentials = credentials;
            let json = serde_json::to_string(&InForce::from(&settings)).unwrap();
            let again = serde_json::from_str::<InForce>(&json).unwrap().settings().unwrap();
            assert_eq!(format!("{:?}", InForce::from(&again)), format!("{:?}", InForce::from(&settings)));
            assert!(serde_json::from_str::<InForce>(&json.replacen("\"range\"", "\"rnge\"", 1)).is_err());
        }
        let refused = |storage: Storage| InForce::from(&storage).settings().is_none();
        let default = Storage::default;
        assert!(refused(Storage { connections: 0, ..default() }) && refused(Storage { connections: 65, ..default() }));
        assert!(refused(Storage { range: 0, ..default() }) && refused(Storage { memory: 2 * default().range - 1, ..default() }));
        assert!(!refused(Storage { memory: 2 * default().range, ..default() }));
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_by_name() {
        for (text, name) in [
            ("connections = 0", "storage.connections"),
            ("connections = 65", "storage.connections"),
            ("range-mib = 0", "storage.range-mib"),
            ("range-mib = 65", "storage.range-mib"),
            ("memory-mib = 7", "storage.memory-mib"),
            ("idle-seconds = 0", "storage.idle-seconds"),
            ("conections = 1", "conections"),
            ("[s3]\naddressing = \"dns\"", "addressing"),
            ("[s3]\ncredentials = \"imds\"", "credentials"),
            ("[s3]\ncredentials = \"file:relative\"", "credentials"),
        ] {
            assert!(read(text).unwrap_err().contains(name), "{text}");
        }
        assert!(read("connections = 64\nmemory-mib = 8").is_ok());
    }
}
