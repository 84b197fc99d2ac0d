//! By what others are believed: the keys of this trust domain and of those that it is federated with, each for its own names alone.

use std::collections::BTreeMap;

use protocol::messages::Identified;
use protocol::spiffe::{Bundle, BundleError, TrustDomain};
use protocol::time::UnixTime;
use protocol::tokens::svid::{unverified_id, verify_svid};
use protocol::tokens::{SvidError, VerifiedSvid};

/// Bundles, one for each trust domain. They are never merged.
#[derive(Debug)]
pub struct Bundles {
    own: Bundle,
    federated: BTreeMap<TrustDomain, Bundle>,
}

impl Bundles {
    /// Those that came with an identity.
    ///
    /// # Errors
    /// [`BundlesError`].
    pub fn read(identified: &Identified) -> Result<Self, BundlesError> {
        let refuse = |trust_domain: &TrustDomain| {
            let trust_domain = trust_domain.clone();
            move |error| BundlesError::Form { trust_domain, error }
        };
        let trust_domain = identified.spiffe_id.trust_domain();
        let own = Bundle::parse(trust_domain, identified.bundle.as_bytes()).map_err(refuse(trust_domain))?;
        let mut federated = BTreeMap::new();
        for (domain, json) in &identified.federated {
            if domain == trust_domain {
                return Err(BundlesError::OwnAsFederated { trust_domain: domain.clone() });
            }
            federated.insert(domain.clone(), Bundle::parse(domain, json.as_bytes()).map_err(refuse(domain))?);
        }
        Ok(Self { own, federated })
    }

    /// This trust domain's.
    #[must_use]
    pub const fn own(&self) -> &Bundle {
        &self.own
    }

    /// Those of the others.
    pub fn federated(&self) -> impl Iterator<Item = &Bundle> {
        self.federated.values()
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Bundle> {
        std::iter::once(&self.own).chain(self.federated())
    }

    /// The bundle of one trust domain.
    #[must_use]
    pub fn of(&self, trust_domain: &TrustDomain) -> Option<&Bundle> {
        self.all().find(|bundle| bundle.trust_domain() == trust_domain)
    }

    /// That none is older than what is held: keys that were taken away do not come back. Of a foreign trust domain the one that is held stays in
    /// the place of an older one; what is returned says so of each. Their numbers are not this broker's doing, and are no reason to be nobody.
    ///
    /// # Errors
    /// [`BundlesError::Older`], where this trust domain's own is.
    pub fn follow(&mut self, held: &Self) -> Result<Vec<BundlesError>, BundlesError> {
        if let Some(older) = held.of(self.own.trust_domain()) {
            follows(&self.own, older)?;
        }
        let mut stayed = Vec::new();
        for (trust_domain, bundle) in &mut self.federated {
            if let Some(older) = held.of(trust_domain)
                && let Err(error) = follows(bundle, older)
            {
                *bundle = older.clone();
                stayed.push(error);
            }
        }
        Ok(stayed)
    }

    /// Verifies a JWT-SVID that somebody presented, by the keys of the trust domain that it names itself of, and no others.
    ///
    /// # Errors
    /// [`ForeignToken`].
    pub fn verify_jwt_svid(&self, token: &str, audience: &str, at: UnixTime) -> Result<VerifiedSvid, ForeignToken> {
        let id = unverified_id(token)?;
        let bundle = self.of(id.trust_domain()).ok_or_else(|| ForeignToken::UnknownTrustDomain { found: id.trust_domain().clone() })?;
        Ok(verify_svid(token, bundle, audience, at)?)
    }
}

fn follows(bundle: &Bundle, older: &Bundle) -> Result<(), BundlesError> {
    bundle.follows(older).map_err(|error| BundlesError::Older { trust_domain: bundle.trust_domain().clone(), error })
}

/// Why a presented token is not believed.
#[derive(Debug, thiserror::Error)]
pub enum ForeignToken {
    /// Its trust domain is none of those whose keys are held.
    #[error("its trust domain {found} is neither this one nor federated with it")]
    UnknownTrustDomain {
        /// What it names.
        found: TrustDomain,
    },
    /// It does not hold.
    #[error(transparent)]
    Token(#[from] SvidError),
}

/// Why bundles are not taken.
#[derive(Debug, thiserror::Error)]
pub enum BundlesError {
    /// Not a bundle of its trust domain.
    #[error("the bundle of {trust_domain}: {error}")]
    Form {
        /// Which.
        trust_domain: TrustDomain,
        /// Why.
        error: BundleError,
    },
    /// This trust domain stands among those that it is federated with.
    #[error("{trust_domain} is federated with itself")]
    OwnAsFederated {
        /// Which.
        trust_domain: TrustDomain,
    },
    /// Older than the one that is held.
    #[error("the bundle of {trust_domain} is older than the one that is held: {error}")]
    Older {
        /// Which.
        trust_domain: TrustDomain,
        /// Why.
        error: BundleError,
    },
}

impl BundlesError {
    /// A stable name.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Form { .. } => "identity-bundle",
            Self::OwnAsFederated { .. } => "identity-bundle-own-federated",
            Self::Older { .. } => "identity-bundle-older",
        }
    }
}
