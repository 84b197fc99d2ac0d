//! What people write for the place of a sealed model: a path, `https://HOST/PREFIX`, `s3://BUCKET/PREFIX`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use hyper::Uri;
use models_manifest::ModelPath;

/// Which object store a bucket is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Amazon S3, and whatever speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage; a bucket is a container of the configured account.
    Azure,
}

impl Store {
    const ALL: [Self; 3] = [Self::S3, Self::Gcs, Self::Azure];

    /// The URL scheme.
    #[must_use]
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }
}

/// Where a sealed model lies. Holds no secret, so it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealedLocation {
    /// A folder.
    Folder(PathBuf),
    /// A web server that serves ranges: `https://HOST[:PORT][/PREFIX]` without a final slash, or `http://`, which the settings allow or not.
    Http(String),
    /// Objects of a bucket.
    Bucket {
        /// Of which store.
        store: Store,
        /// The bucket.
        bucket: String,
        /// What all keys begin with, without slashes at its ends; empty: the bucket is the model.
        prefix: String,
    },
}

/// Not a [`SealedLocation`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// A scheme that nobody here speaks.
    #[error("{found}:// is not spoken: expected a folder, https://HOST/PREFIX, s3://BUCKET/PREFIX, gs:// or az://")]
    Scheme {
        /// The scheme.
        found: String,
    },
    /// Not a URL of a web server.
    #[error("not the URL of a sealed model: {what}")]
    Url {
        /// Why.
        what: &'static str,
    },
    /// Not a bucket's name.
    #[error("{found:?} is no bucket: 3 to 222 letters, digits, dots, hyphens and underscores")]
    Bucket {
        /// The text.
        found: String,
    },
    /// A prefix that keys of a sealed model cannot have.
    #[error("{found:?} is no prefix: segments of printable ASCII between single slashes")]
    Prefix {
        /// The text.
        found: String,
    },
    /// Nothing.
    #[error("no place is named")]
    Empty,
}

impl FromStr for SealedLocation {
    type Err = LocationError;
    fn from_str(text: &str) -> Result<Self, LocationError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return if text.is_empty() { Err(LocationError::Empty) } else { Ok(Self::Folder(PathBuf::from(text))) };
        };
        if let Some(store) = Store::ALL.into_iter().find(|store| store.scheme() == scheme) {
            return bucket(store, rest);
        }
        match scheme {
            "http" | "https" => http(text),
            // A path with a colon and two slashes in it is a path where it begins like one.
            _ if text.starts_with(['/', '.']) => Ok(Self::Folder(PathBuf::from(text))),
            _ => Err(LocationError::Scheme { found: scheme.chars().take(32).collect() }),
        }
    }
}

fn http(text: &str) -> Result<SealedLocation, LocationError> {
    let bad = |what| LocationError::Url { what };
    let uri: Uri = text.parse().map_err(|_| bad("it cannot be parsed"))?;
    let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or(bad("it names no host"))?;
    if authority.as_str().contains('@') {
        return Err(bad("it holds a user name; credentials do not belong in a URL"));
    }
    if uri.query().is_some() || text.contains('#') {
        return Err(bad("it has a query or a fragment, which names of files cannot be put behind"));
    }
    Ok(SealedLocation::Http(text.trim_end_matches('/').to_owned()))
}

fn bucket(store: Store, rest: &str) -> Result<SealedLocation, LocationError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if !(3..=222).contains(&bucket.len()) || !bucket.bytes().all(fits) || bucket.starts_with('.') {
        return Err(LocationError::Bucket { found: bucket.chars().take(64).collect() });
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if !prefix.is_empty() && prefix.parse::<ModelPath>().is_err() {
        return Err(LocationError::Prefix { found: prefix.chars().take(64).collect() });
    }
    Ok(SealedLocation::Bucket { store, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

impl fmt::Display for SealedLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Http(url) => f.write_str(url),
            Self::Bucket { store, bucket, prefix } if prefix.is_empty() => write!(f, "{}://{bucket}", store.scheme()),
            Self::Bucket { store, bucket, prefix } => write!(f, "{}://{bucket}/{prefix}", store.scheme()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_names_one_place() {
        let s3 = |bucket: &str, prefix: &str| SealedLocation::Bucket { store: Store::S3, bucket: bucket.into(), prefix: prefix.into() };
        for (text, expected, shown) in [
            ("/mnt/models/llama", SealedLocation::Folder("/mnt/models/llama".into()), "/mnt/models/llama"),
            ("./a://b", SealedLocation::Folder("./a://b".into()), "./a://b"),
            ("https://h/a/b/", SealedLocation::Http("https://h/a/b".into()), "https://h/a/b"),
            ("http://127.0.0.1:80", SealedLocation::Http("http://127.0.0.1:80".into()), "http://127.0.0.1:80"),
            ("s3://acme-models/llama/3/", s3("acme-models", "llama/3"), "s3://acme-models/llama/3"),
            ("s3://acme", s3("acme", ""), "s3://acme"),
        ] {
            let location: SealedLocation = text.parse().unwrap();
            assert_eq!((&location, location.to_string().as_str()), (&expected, shown));
            assert_eq!(shown.parse(), Ok(expected), "what is shown is what was written");
        }
        assert!(matches!("gs://acme/a".parse(), Ok(SealedLocation::Bucket { store: Store::Gcs, .. })));
        assert!(matches!("az://acme/a".parse(), Ok(SealedLocation::Bucket { store: Store::Azure, .. })));
    }

    #[test]
    fn everything_else_is_refused_by_what_is_wrong_with_it() {
        let refused = |text: &str| text.parse::<SealedLocation>().unwrap_err();
        assert_eq!(refused(""), LocationError::Empty);
        assert_eq!(refused("ftp://h/a"), LocationError::Scheme { found: "ftp".into() });
        for url in ["https://", "https:///a", "https://user:word@h/a", "https://h/a?sig=1", "https://h/a#b", "https://h/a b"] {
            assert!(matches!(refused(url), LocationError::Url { .. }), "{url}");
        }
        for bucket in ["s3://", "s3://a", "s3:///a", "s3://a b c/a", "s3://a%2fb/a", "s3://..a/b"] {
            assert!(matches!(refused(bucket), LocationError::Bucket { .. }), "{bucket}");
        }
        for prefix in ["s3://acme/a//b", "s3://acme/../b", "s3://acme//a", "s3://acme/\u{e4}"] {
            assert!(matches!(refused(prefix), LocationError::Prefix { .. }), "{prefix}");
        }
    }
}
