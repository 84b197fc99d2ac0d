//! Why a range was not fetched: a variant for each thing that storage does, with what may help.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::Duration;

use connection::HttpError;
use models_manifest::OpenError;

/// Why a range was not fetched, after all that was tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The settings do not lead to a storage.
    #[error("the storage cannot be used: {what}")]
    Settings {
        /// Why.
        what: String,
    },
    /// Plain HTTP to another machine, which is not allowed.
    #[error("plain HTTP to {host} is not allowed")]
    PlainHttp {
        /// The host.
        host: String,
    },
    /// There are credentials to sign with, and they cannot be used.
    #[error("the credentials of the storage cannot be used: {what}")]
    Credentials {
        /// Why, without them.
        what: String,
    },
    /// No connection, or it broke.
    #[error("the storage cannot be reached: {what}")]
    Unreachable {
        /// Why.
        what: String,
    },
    /// Nothing came for so long.
    #[error("the storage sent nothing for {} s", after.as_secs_f32())]
    Idle {
        /// The idle limit.
        after: Duration,
    },
    /// The storage cannot serve now, or asks to be left alone.
    #[error("the storage cannot serve now (HTTP status {status})")]
    Busy {
        /// 408, 425, 429, 500, 502, 503, 504.
        status: u16,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// A body ended before the range did.
    #[error("the body ended after {found} of {expected} bytes")]
    CutShort {
        /// What was promised.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// There is no such object.
    #[error("the storage has no such object (HTTP status {status})")]
    Missing {
        /// 404 or 410.
        status: u16,
    },
    /// The storage does not let us read.
    #[error("the storage refuses to serve it (HTTP status {status})")]
    Forbidden {
        /// 401 or 403.
        status: u16,
    },
    /// A status that no server answers such a request with.
    #[error("the storage answers with HTTP status {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// A redirect that is not followed.
    #[error("the storage redirects to {to}: {what}")]
    Redirect {
        /// Where to, without query.
        to: String,
        /// Why it is not followed.
        what: &'static str,
    },
    /// A range was asked for from the middle of an object, and the whole object came.
    #[error("the storage does not serve ranges: asked from byte {start} on, it sends the whole object")]
    NoRanges {
        /// What was asked for.
        start: u64,
    },
    /// An answer that does not say how long the object is.
    #[error("the storage does not say how long the object is")]
    NoLength,
    /// Another range than was asked for.
    #[error("the storage answers with another range: expected bytes {expected}, found {found:?}")]
    WrongRange {
        /// What was asked for: `FIRST-LAST`.
        expected: String,
        /// Its `Content-Range`.
        found: String,
    },
    /// A coded body, which was not asked for: its bytes are not the object's.
    #[error("the storage sends the object as {coding:?}")]
    Coded {
        /// Its `Content-Encoding`.
        coding: String,
    },
    /// The object is another one than before, by its length or its entity tag.
    #[error("the object changed while it was read: {what} {expected}, now {found}")]
    Changed {
        /// `length` or `entity tag`.
        what: &'static str,
        /// What it was.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The object has another length than the sealed file.
    #[error("it has {found} bytes; sealed it has {expected}")]
    OtherSize {
        /// The size of the sealed file by the manifest.
        expected: u64,
        /// What the storage says.
        found: u64,
    },
    /// The manifest is longer than any manifest.
    #[error("the manifest has {found} bytes, more than {limit}")]
    ManifestTooLarge {
        /// The limit in bytes.
        limit: u64,
        /// What the storage says.
        found: u64,
    },
    /// Whoever reads has ended it.
    #[error("the fetching was ended")]
    Stopped,
}

/// What trying again may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hope {
    /// It passes: again, until patience ends.
    Passing,
    /// A wrong answer: one server behind an address may be broken, so it is asked again, a few times.
    Doubtful,
    /// It does not change.
    None,
}

impl FetchError {
    /// What trying again may do.
    #[must_use]
    pub const fn hope(&self) -> Hope {
        match self {
            Self::Unreachable { .. } | Self::Idle { .. } | Self::Busy { .. } | Self::CutShort { .. } => Hope::Passing,
            Self::WrongRange { .. } | Self::NoLength | Self::Coded { .. } => Hope::Doubtful,
            Self::Settings { .. }
            | Self::PlainHttp { .. }
            | Self::Credentials { .. }
            | Self::Missing { .. }
            | Self::Forbidden { .. }
            | Self::Status { .. }
            | Self::Redirect { .. }
            | Self::NoRanges { .. }
            | Self::Changed { .. }
            | Self::OtherSize { .. }
            | Self::ManifestTooLarge { .. }
            | Self::Stopped => Hope::None,
        }
    }

    /// How long the storage asks to be left alone.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// A stable name for each variant.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Settings { .. } => "storage-settings",
            Self::PlainHttp { .. } => "storage-plain-http",
            Self::Credentials { .. } => "storage-credentials",
            Self::Unreachable { .. } => "storage-unreachable",
            Self::Idle { .. } => "storage-idle",
            Self::Busy { .. } => "storage-busy",
            Self::CutShort { .. } => "storage-cut-short",
            Self::Missing { .. } => "storage-missing",
            Self::Forbidden { .. } => "storage-forbidden",
            Self::Status { .. } => "storage-status",
            Self::Redirect { .. } => "storage-redirect",
            Self::NoRanges { .. } => "storage-no-ranges",
            Self::NoLength => "storage-no-length",
            Self::WrongRange { .. } => "storage-wrong-range",
            Self::Coded { .. } => "storage-coded",
            Self::Changed { .. } => "storage-changed",
            Self::OtherSize { .. } => "file-size",
            Self::ManifestTooLarge { .. } => "manifest-too-large",
            Self::Stopped => "cancelled",
        }
    }

    /// What may help.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Settings { .. } => "see [storage] in guest.toml",
            Self::PlainHttp { .. } => "use https, or allow plain HTTP by name (plain-http = \"anywhere\", --allow-plain-http)",
            Self::Credentials { .. } => {
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go together; a credentials file is TOML and this process's to read"
            }
            Self::Unreachable { .. } => {
                "is the address right, and does the network let this guest reach it? For a private authority, name [storage] ca-file"
            }
            Self::Idle { .. } | Self::CutShort { .. } => {
                "the storage or the network to it is overloaded; [storage] idle-seconds and retry-seconds wait longer"
            }
            Self::Busy { .. } => "the storage throttles: lower [storage] connections, or wait longer with retry-seconds",
            Self::Missing { .. } => "is everything uploaded, portcullis-manifest.json too, and the prefix right?",
            Self::Forbidden { .. } => {
                "give this guest credentials that may read it; a store that may not be listed also answers so for a missing object"
            }
            Self::Status { .. } => "whatever answers there is no storage that serves files by ranges; for S3, check endpoint and region",
            Self::Redirect { .. } => "name the place that it redirects to; for S3, set [storage.s3] region",
            Self::NoRanges { .. } => "use a server that serves ranges (nginx, Caddy, any object store; not Python's http.server)",
            Self::NoLength | Self::WrongRange { .. } => "something between storage and guest rewrites answers: a cache, a proxy, a filter?",
            Self::Coded { .. } => "switch compression off for the sealed files: ciphertext does not get smaller",
            Self::Changed { .. } => "is it being uploaded just now, or do several servers answer with different copies? Open it again",
            Self::OtherSize { .. } => "another file lies there, or the upload was cut short",
            Self::ManifestTooLarge { .. } => "whatever lies there is no manifest",
            Self::Stopped => "nothing was left behind",
        }
    }

    /// What stands below an opener's error, where it was the storage's.
    #[must_use]
    pub fn below(error: &OpenError) -> Option<&Self> {
        match error {
            OpenError::Io { error, .. } => error.get_ref().and_then(|inner| inner.downcast_ref::<Self>()),
            _ => None,
        }
    }

    /// Of a broken connection, with its causes.
    pub(crate) fn unreachable(error: &(dyn Error + 'static)) -> Self {
        Self::Unreachable { what: connection::chain(error) }
    }
}

impl From<FetchError> for io::Error {
    fn from(error: FetchError) -> Self {
        let kind = match error {
            FetchError::Missing { .. } => ErrorKind::NotFound,
            FetchError::Forbidden { .. } | FetchError::PlainHttp { .. } => ErrorKind::PermissionDenied,
            FetchError::Idle { .. } => ErrorKind::TimedOut,
            FetchError::Stopped => ErrorKind::Interrupted,
            _ => ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl From<HttpError> for FetchError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::PlainHttp { host } => Self::PlainHttp { host },
            other => Self::Settings { what: other.to_string() },
        }
    }
}
