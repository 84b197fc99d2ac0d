//! Foreign trust domains: each one's newest bundle, from a file that somebody carries here. The broker asks nobody.
//!
//! A file that is refused changes nothing: the last good bundle stays, as long as anything in it holds. One exception: a bundle without
//! keys says that the trust domain is revoked, and then nothing of it is handed out. What was accepted last is kept in the data folder,
//! so that an older bundle is still an older one after a restart.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use protocol::encoding::sha256;
use protocol::entries::Event;
use protocol::limits;
use protocol::spiffe::{Bundle, BundleError, TrustDomain};
use protocol::time::UnixTime;
use serde::{Deserialize, Serialize};

use super::IssuerError;
use crate::config::Federated;
use crate::custody::replace_private;
use crate::ledger::{Ledger, RecordError};

/// Every foreign trust domain of the configuration.
pub(super) struct Federation {
    /// Where the newest bundle of each is kept.
    folder: PathBuf,
    domains: RwLock<Vec<Domain>>,
}

/// A file's bytes, or why there are none.
type Content = Result<Vec<u8>, String>;
/// That a file's bundle was taken, or the code by which it was refused.
type Judged = Result<(), &'static str>;

#[derive(Clone)]
struct Domain {
    trust_domain: TrustDomain,
    file: PathBuf,
    newest: Option<Newest>,
    /// What the file held when it was last looked at, and the code of what became of it.
    last: Option<(Content, Judged)>,
}

/// The newest bundle that was accepted.
#[derive(Clone)]
struct Newest {
    bundle: Bundle,
    kept: Kept,
}

/// The same, as it lies in the data folder.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// The bundle, as it came.
    bundle: String,
    /// Whether a bundle without keys has come since.
    revoked: bool,
}

/// What became of one file: the number of its bundle, or why it does not count.
pub type Looked = (TrustDomain, Result<u64, FederationError>);

impl Federation {
    /// With what was kept of these trust domains; their files are first looked at by [`Self::refresh`].
    pub(super) fn open(data: &Path, federated: &[Federated]) -> Result<Self, IssuerError> {
        let folder = data.join("federated");
        let domain = |federated: &Federated| {
            let (trust_domain, file) = (federated.trust_domain.clone(), federated.bundle.clone());
            let newest = read_kept(&kept_path(&folder, &trust_domain), &trust_domain)?;
            Ok::<_, IssuerError>(Domain { trust_domain, file, newest, last: None })
        };
        let domains = federated.iter().map(domain).collect::<Result<_, _>>()?;
        Ok(Self { folder, domains: RwLock::new(domains) })
    }

    /// Looks at each file, and takes what is new and good; nobody else may be looking. One outcome for each file that changed, or of
    /// which something else became than the last time.
    pub(super) async fn refresh(&self, ledger: &Ledger, at: UnixTime) -> Vec<Looked> {
        let domains = self.domains.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut looked = Vec::new();
        for (index, before) in domains.into_iter().enumerate() {
            let content = read(&before.file);
            let same = before.last.as_ref().is_some_and(|(last, _)| *last == content);
            if same && before.last.as_ref().is_some_and(|(_, outcome)| outcome.is_ok()) {
                continue;
            }
            let (newest, outcome) = self.judge(&before, &content, ledger, at).await;
            let code = outcome.as_ref().map(|_| ()).map_err(FederationError::code);
            if !same || before.last.as_ref().is_none_or(|(_, last)| *last != code) {
                looked.push((before.trust_domain.clone(), outcome));
            }
            let after = Domain { newest, last: Some((content, code)), ..before };
            if let Some(domain) = self.domains.write().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
                *domain = after;
            }
        }
        looked
    }

    /// What is the newest bundle after this content was seen, and what became of it.
    async fn judge(
        &self,
        domain: &Domain,
        content: &Result<Vec<u8>, String>,
        ledger: &Ledger,
        at: UnixTime,
    ) -> (Option<Newest>, Result<u64, FederationError>) {
        match accept(domain, content, at) {
            Ok(newest) if domain.newest.as_ref().is_some_and(|known| known.kept == newest.kept) => {
                (domain.newest.clone(), Ok(newest.bundle.sequence()))
            }
            Ok(newest) => match self.take(domain, &newest, ledger).await {
                Ok(()) => {
                    let sequence = newest.bundle.sequence();
                    (Some(newest), Ok(sequence))
                }
                Err(error) => (domain.newest.clone(), Err(error)),
            },
            Err(error) => {
                let mut newest = domain.newest.clone();
                if let (FederationError::Bundle(BundleError::Empty { .. }), Some(newest)) = (&error, &mut newest) {
                    newest.kept.revoked = true;
                    // Where that cannot be kept, the file says it again after a restart.
                    drop(self.keep(domain, &newest.kept));
                }
                (newest, Err(error))
            }
        }
    }

    /// Records that a bundle counts from now on, and keeps it: durable before its effect.
    async fn take(&self, domain: &Domain, newest: &Newest, ledger: &Ledger) -> Result<(), FederationError> {
        let (sequence, digest) = (newest.bundle.sequence(), sha256(newest.kept.bundle.as_bytes()));
        ledger.note(Event::IdentityFederated { trust_domain: domain.trust_domain.clone(), sequence, digest }).await?;
        self.keep(domain, &newest.kept)
    }

    fn keep(&self, domain: &Domain, kept: &Kept) -> Result<(), FederationError> {
        let path = kept_path(&self.folder, &domain.trust_domain);
        let json = serde_json::to_vec_pretty(kept).unwrap_or_default();
        let written = std::fs::create_dir_all(&self.folder).and_then(|()| replace_private(&path, &json));
        written.map_err(|error| FederationError::Write { path, error: error.to_string() })
    }

    /// The bundles that hold now, as they came.
    pub(super) fn bundles(&self, at: UnixTime) -> BTreeMap<TrustDomain, String> {
        let domains = self.domains.read().unwrap_or_else(PoisonError::into_inner);
        let live = |domain: &Domain| {
            let newest = domain.newest.as_ref().filter(|newest| !newest.kept.revoked && newest.bundle.check_live(at).is_ok())?;
            Some((domain.trust_domain.clone(), newest.kept.bundle.clone()))
        };
        domains.iter().filter_map(live).collect()
    }
}

/// Whether a file's content may be its trust domain's newest bundle.
fn accept(domain: &Domain, content: &Result<Vec<u8>, String>, at: UnixTime) -> Result<Newest, FederationError> {
    let bytes = content.as_ref().map_err(|error| FederationError::Read { path: domain.file.clone(), error: error.clone() })?;
    let bundle = Bundle::parse(&domain.trust_domain, bytes)?;
    if let Some(newest) = &domain.newest {
        bundle.follows(&newest.bundle)?;
        // Behind a revocation only a newer one may come: the old file put back is no news. Where a domain does not number its bundles, another
        // one is newer.
        let (expected, found) = (newest.bundle.sequence().saturating_add(1), bundle.sequence());
        let is_unnumbered_news = found == 0 && expected == 1 && newest.kept.bundle.as_bytes() != bytes.as_slice();
        if newest.kept.revoked && found < expected && !is_unnumbered_news {
            return Err(BundleError::RolledBack { expected, found }.into());
        }
    }
    bundle.check_live(at)?;
    let text = String::from_utf8(bytes.clone()).map_err(|_| BundleError::Form { what: "not UTF-8".to_owned() })?;
    Ok(Newest { bundle, kept: Kept { bundle: text, revoked: false } })
}

/// One byte more than a bundle may have is enough to refuse it.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(limits::SPIFFE_BUNDLE).unwrap_or(u64::MAX).saturating_add(1);
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|error| error.to_string())
}

/// A trust domain's name has no slash in it.
fn kept_path(folder: &Path, trust_domain: &TrustDomain) -> PathBuf {
    folder.join(format!("{trust_domain}.json"))
}

fn read_kept(path: &Path, trust_domain: &TrustDomain) -> Result<Option<Newest>, IssuerError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(IssuerError::Read { path: path.to_owned(), error: error.to_string() }),
    };
    let damaged = |error: String| IssuerError::Kept { path: path.to_owned(), error };
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    let bundle = Bundle::parse(trust_domain, kept.bundle.as_bytes()).map_err(|error| damaged(error.to_string()))?;
    Ok(Some(Newest { bundle, kept }))
}

/// Why the file of a foreign trust domain is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FederationError {
    /// It cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        error: String,
    },
    /// It is refused.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// It could not be recorded, so it does not count.
    #[error("not recorded: {0}")]
    Record(#[from] RecordError),
    /// It could not be kept, so it does not count.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        error: String,
    },
}

impl FederationError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "bundle-unreadable",
            Self::Bundle(error) => error.code(),
            Self::Record(_) => "not-recorded",
            Self::Write { .. } => "bundle-not-kept",
        }
    }
}
