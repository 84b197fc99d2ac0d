//! An object's URL, signed where the store wants that. `object_store` knows how each store addresses and signs; it has no way to
//! the network here, so whatever it would like to ask (a metadata service, a token service) stays unasked.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use connection::{PlainHttp, is_loopback};
use hyper::{Method, Uri};
use object_store::ClientOptions;
use object_store::aws::AmazonS3Builder;
use object_store::client::{HttpClient, HttpConnector};
use object_store::path::Path as Key;
use object_store::signer::Signer;
use serde::Deserialize;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::error::FetchError;
use super::location::{SealedLocation, Store};
use super::settings::{Addressing, Credentials, S3, Storage};

/// For how long a signature holds: a range that is under way may be resumed under a new one.
const SIGNED_FOR: Duration = Duration::from_secs(900);
/// The largest file of credentials (bytes).
const CREDENTIALS_FILE: u64 = 64 * 1024;

/// Where the objects of one sealed model are.
pub enum Address {
    /// Names put behind a URL.
    Plain(String),
    /// Keys of a bucket, whose URLs a store's rules make.
    Bucket {
        /// What signs.
        signing: Signing,
        /// What all keys begin with.
        prefix: String,
    },
}

/// What makes a bucket's URLs.
pub enum Signing {
    /// By Amazon's rules.
    S3 {
        /// The bucket.
        bucket: String,
        /// The store.
        settings: S3,
    },
    /// By the rules of another store, of those that were built in.
    Other(Box<dyn Signer>),
}

impl Address {
    /// Of a location that is no folder.
    ///
    /// # Errors
    /// [`FetchError::Settings`], [`FetchError::PlainHttp`], [`FetchError::Credentials`].
    pub fn of(location: &SealedLocation, storage: &Storage) -> Result<Self, FetchError> {
        match location {
            SealedLocation::Folder(_) => Err(FetchError::Settings { what: "a folder is not fetched".to_owned() }),
            SealedLocation::Http(url) => {
                may_ask(url, storage.plain_http)?;
                Ok(Self::Plain(url.clone()))
            }
            SealedLocation::Bucket { store, bucket, prefix } => {
                let signing = match store {
                    Store::S3 => {
                        let settings = completed(&storage.s3);
                        if let Some(endpoint) = &settings.endpoint {
                            may_ask(endpoint, storage.plain_http)?;
                        }
                        Signing::S3 { bucket: bucket.clone(), settings }
                    }
                    Store::Gcs => Signing::Other(gcs(bucket, storage)?),
                    Store::Azure => Signing::Other(azure(bucket, storage)?),
                };
                Ok(Self::Bucket { signing, prefix: prefix.clone() })
            }
        }
    }

    /// Whether an answer may send us elsewhere: a signature is for one host, so a store's may not.
    #[must_use]
    pub const fn follows_redirects(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// The URL of the object `name`, a path in the sealed folder. What is behind `?` in it may be a signature: it is not shown.
    ///
    /// # Errors
    /// [`FetchError::Credentials`], [`FetchError::Settings`].
    pub async fn url(&self, name: &str) -> Result<String, FetchError> {
        let (signing, prefix) = match self {
            Self::Plain(base) => return Ok(format!("{base}/{}", encoded(name))),
            Self::Bucket { signing, prefix } => (signing, prefix),
        };
        let key = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        let key = Key::parse(&key).map_err(settings)?;
        match signing {
            Signing::S3 { bucket, settings } => s3_url(bucket, settings, &key).await,
            Signing::Other(signer) => Ok(signer.signed_url(Method::GET, &key, SIGNED_FOR).await.map_err(settings)?.into()),
        }
    }
}

/// Whether a URL may be asked, by its scheme and host.
fn may_ask(url: &str, plain_http: PlainHttp) -> Result<(), FetchError> {
    let bad = || FetchError::Settings { what: format!("{url:?} is not https://HOST or http://HOST") };
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let host = uri.host().ok_or_else(bad)?;
    match (uri.scheme_str(), plain_http) {
        (Some("https"), _) | (Some("http"), PlainHttp::Anywhere) => Ok(()),
        (Some("http"), PlainHttp::LoopbackOnly) if is_loopback(host) => Ok(()),
        (Some("http"), PlainHttp::LoopbackOnly) => Err(FetchError::PlainHttp { host: host.to_owned() }),
        _ => Err(bad()),
    }
}

/// Percent-encodes all but what RFC 3986 leaves unreserved, and the slashes between segments.
fn encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn settings(error: impl fmt::Display) -> FetchError {
    FetchError::Settings { what: error.to_string() }
}

/// What is not configured, from the environment.
fn completed(s3: &S3) -> S3 {
    let first = |names: [&str; 2]| names.into_iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    S3 {
        endpoint: s3.endpoint.clone().or_else(|| first(["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])),
        region: s3.region.clone().or_else(|| first(["AWS_REGION", "AWS_DEFAULT_REGION"])),
        ..s3.clone()
    }
}

/// A key of an S3 store, and the token of a session.
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct AccessKey {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
}

impl AccessKey {
    /// `None`: requests are not signed.
    fn of(credentials: &Credentials) -> Result<Option<Self>, FetchError> {
        match credentials {
            Credentials::Anonymous => Ok(None),
            Credentials::Environment => Self::from_environment(|name| std::env::var(name).ok()),
            Credentials::File(path) => Self::read(path).map(Some),
        }
    }

    fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, FetchError> {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        match (set("AWS_ACCESS_KEY_ID"), set("AWS_SECRET_ACCESS_KEY")) {
            (Some(access_key_id), Some(secret_access_key)) => {
                Ok(Some(Self { access_key_id, secret_access_key, session_token: set("AWS_SESSION_TOKEN") }))
            }
            (None, None) => Ok(None),
            _ => Err(FetchError::Credentials { what: "the environment has one half of an access key".to_owned() }),
        }
    }

    /// The error never quotes the file: it is a secret.
    fn read(path: &Path) -> Result<Self, FetchError> {
        let refuse = |what: String| FetchError::Credentials { what: format!("{}: {what}", path.display()) };
        let mut text = Zeroizing::new(String::new());
        let file = File::open(path).map_err(|error| refuse(error.to_string()))?;
        file.take(CREDENTIALS_FILE).read_to_string(&mut text).map_err(|error| refuse(error.to_string()))?;
        toml::from_str(&text)
            .map_err(|error| refuse(format!("expected access-key-id, secret-access-key, session-token: {}", error.message())))
    }
}

/// The signed URL of an object; of an anonymous reader, the same without signature.
async fn s3_url(bucket: &str, s3: &S3, key: &Key) -> Result<String, FetchError> {
    let access = AccessKey::of(&s3.credentials)?;
    let virtual_host = match s3.addressing {
        Addressing::Auto => s3.endpoint.is_none(),
        Addressing::Path => false,
        Addressing::VirtualHost => true,
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(s3.region.as_deref().unwrap_or("us-east-1"))
        .with_virtual_hosted_style_request(virtual_host)
        .with_http_connector(Offline);
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(if virtual_host { in_host(bucket, endpoint)? } else { endpoint.clone() });
    }
    builder = match &access {
        Some(key) => builder.with_access_key_id(&key.access_key_id).with_secret_access_key(&key.secret_access_key),
        // Signed in nobody's name, for the address alone; the signature is taken off below.
        None => builder.with_access_key_id("nobody").with_secret_access_key("nothing"),
    };
    if let Some(token) = access.as_ref().and_then(|key| key.session_token.as_ref()) {
        builder = builder.with_token(token);
    }
    let mut url = builder.build().map_err(settings)?.signed_url(Method::GET, key, SIGNED_FOR).await.map_err(settings)?;
    if access.is_none() {
        url.set_query(None);
    }
    Ok(url.into())
}

/// `https://HOST` with the bucket before the host.
fn in_host(bucket: &str, endpoint: &str) -> Result<String, FetchError> {
    let (scheme, host) = endpoint.split_once("://").ok_or_else(|| settings("the endpoint is no URL"))?;
    Ok(format!("{scheme}://{bucket}.{host}"))
}

/// No way to the network.
#[derive(Debug)]
struct Offline;

impl HttpConnector for Offline {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(unreachable::Unreachable))
    }
}

mod unreachable {
    //! The client that `object_store` insists on holding.

    use std::future::{Future, ready};
    use std::pin::Pin;

    use object_store::client::{HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService};

    #[derive(Debug)]
    pub(super) struct Unreachable;

    #[derive(Debug, thiserror::Error)]
    #[error("nothing is asked over the network to sign an address")]
    struct NothingIsAsked;

    type Answer<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

    impl HttpService for Unreachable {
        fn call<'s, 'a>(&'s self, _: HttpRequest) -> Answer<'a>
        where
            's: 'a,
            Self: 'a,
        {
            Box::pin(ready(Err(HttpError::new(HttpErrorKind::Unknown, NothingIsAsked))))
        }
    }
}

#[cfg(feature = "gcs")]
fn gcs(bucket: &str, storage: &Storage) -> Result<Box<dyn Signer>, FetchError> {
    let key = storage.gcs.service_account.as_ref().ok_or_else(|| settings("[storage.gcs] names no service-account"))?;
    let builder = object_store::gcp::GoogleCloudStorageBuilder::new().with_bucket_name(bucket).with_http_connector(Offline);
    Ok(Box::new(builder.with_service_account_path(key.to_string_lossy()).build().map_err(settings)?))
}

#[cfg(not(feature = "gcs"))]
fn gcs(_: &str, _: &Storage) -> Result<Box<dyn Signer>, FetchError> {
    Err(settings("this build has no Google Cloud Storage (cargo feature gcs)"))
}

#[cfg(feature = "azure")]
fn azure(container: &str, storage: &Storage) -> Result<Box<dyn Signer>, FetchError> {
    let (Some(account), Some(path)) = (&storage.azure.account, &storage.azure.key_file) else {
        return Err(settings("[storage.azure] names no account and key-file"));
    };
    let refuse = |error: std::io::Error| FetchError::Credentials { what: format!("{}: {error}", path.display()) };
    let key = Zeroizing::new(std::fs::read_to_string(path).map_err(refuse)?);
    let builder = object_store::azure::MicrosoftAzureBuilder::new().with_account(account).with_container_name(container);
    Ok(Box::new(builder.with_access_key(key.trim()).with_http_connector(Offline).build().map_err(settings)?))
}

#[cfg(not(feature = "azure"))]
fn azure(_: &str, _: &Storage) -> Result<Box<dyn Signer>, FetchError> {
    Err(settings("this build has no Azure Blob Storage (cargo feature azure)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(location: &str, s3: S3, name: &str) -> Result<String, FetchError> {
        let storage = Storage { s3, ..Storage::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { Address::of(&location.parse().unwrap(), &storage)?.url(name).await })
    }

    fn anonymous() -> S3 {
        S3 { credentials: Credentials::Anonymous, region: Some("eu-west-1".into()), endpoint: None, addressing: Addressing::Auto }
    }

    #[test]
    fn a_name_is_one_path_of_a_url_whatever_is_in_it() {
        let at = |name| url("https://h/a/", S3::default(), name).unwrap();
        assert_eq!(at("b/c-d_e.f~g"), "https://h/a/b/c-d_e.f~g");
        assert_eq!(at("b c?d#e%f&g+h"), "https://h/a/b%20c%3Fd%23e%25f%26g%2Bh");
    }

    #[test]
    fn plain_http_stays_on_this_machine_also_for_an_endpoint() {
        let refused = Err(FetchError::PlainHttp { host: "10.0.0.1".into() });
        assert_eq!(url("http://10.0.0.1/a", S3::default(), "b"), refused);
        let at = |endpoint: &str| url("s3://acme/p", S3 { endpoint: Some(endpoint.into()), ..anonymous() }, "b");
        assert_eq!(at("http://10.0.0.1"), refused);
        assert_eq!(at("http://127.0.0.1:9000").unwrap(), "http://127.0.0.1:9000/acme/p/b");
        assert!(matches!(at("minio.example.com"), Err(FetchError::Settings { .. })));
    }

    #[test]
    fn a_bucket_stands_where_its_store_has_it() {
        let aws = |addressing| url("s3://acme", S3 { addressing, ..anonymous() }, "a b/c").unwrap();
        assert_eq!(aws(Addressing::Auto), "https://acme.s3.eu-west-1.amazonaws.com/a%20b/c");
        assert_eq!(aws(Addressing::Path), "https://s3.eu-west-1.amazonaws.com/acme/a%20b/c");
        let other = |addressing| {
            let endpoint = Some("https://minio.example.com".into());
            url("s3://acme/p", S3 { addressing, endpoint, ..anonymous() }, "b").unwrap()
        };
        assert_eq!(other(Addressing::Auto), "https://minio.example.com/acme/p/b");
        assert_eq!(other(Addressing::VirtualHost), "https://acme.minio.example.com/p/b");
    }

    #[test]
    fn a_file_of_credentials_signs_and_is_read_for_each_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s3.toml");
        let s3 = S3 { credentials: Credentials::File(path.clone()), ..anonymous() };
        let signed = || url("s3://acme/p", s3.clone(), "b");
        assert!(matches!(signed(), Err(FetchError::Credentials { .. })));
        std::fs::write(&path, "access-key-id = \"AKIA1\"\nsecret-access-key = \"secret-1\"\n").unwrap();
        let first = signed().unwrap();
        assert!(
            first.contains("X-Amz-Credential=AKIA1%2F") && first.contains("X-Amz-Signature=") && !first.contains("secret-1"),
            "{first}"
        );
        std::fs::write(&path, "access-key-id = \"AKIA2\"\nsecret-access-key = \"secret-2\"\nsession-token = \"tok\"\n").unwrap();
        let second = signed().unwrap();
        assert!(second.contains("X-Amz-Credential=AKIA2%2F") && second.contains("X-Amz-Security-Token=tok"), "{second}");
        std::fs::write(&path, "access-key-id = \"AKIA2\"\nsecret-key = \"secret-3\"\n").unwrap();
        let refused = signed().unwrap_err();
        assert!(matches!(refused, FetchError::Credentials { .. }) && !refused.to_string().contains("secret-3"), "{refused}");
    }

    #[test]
    fn half_an_access_key_in_the_environment_is_an_error_and_none_is_nobody() {
        let with = |names: &'static [&str]| AccessKey::from_environment(move |name| names.contains(&name).then(|| "x".to_owned()));
        assert!(matches!(with(&[]), Ok(None)));
        assert!(matches!(with(&["AWS_ACCESS_KEY_ID"]), Err(FetchError::Credentials { .. })));
        assert!(matches!(with(&["AWS_SECRET_ACCESS_KEY"]), Err(FetchError::Credentials { .. })));
        assert!(matches!(with(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]), Ok(Some(key)) if key.session_token.is_none()));
    }

    #[cfg(not(any(feature = "gcs", feature = "azure")))]
    #[test]
    fn a_store_that_was_not_built_in_says_so() {
        for location in ["gs://acme/a", "az://acme/a"] {
            let refused = url(location, S3::default(), "b");
            assert!(matches!(&refused, Err(FetchError::Settings { what }) if what.contains("cargo feature")), "{refused:?}");
        }
    }
}
