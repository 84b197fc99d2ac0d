//! Identity: the trust domain's issuer. Guests that a policy with an `[identity]` table permits get X.509-SVIDs, JWT-SVIDs and
//! attestation results, under keys that serve nothing else.
//!
//! | module | what lives there |
//! | --- | --- |
//! | this one | [`Issuer`]: keys in use, and the one place where anything is signed with them |
//! | [`terms`] | when each key serves: a pure step |
//! | `ring`, `keep` | the keys as one set; how they lie in `keys/issuer.json` |
//! | `certificates`, `result` | the forms: X.509, and what a result says |
//! | `assigned` | what is drawn before it is recorded |
//! | [`published`] | bundle, key sets, discovery |
//! | [`federation`] | foreign trust domains |
//!
//! A guest asks by the name of a policy and has no say in who it is. What it gets is decided in [`crate::decision`], stands in the log
//! with its serial number and token ids, and only then is signed, from [`crate::release`].
//!
//! Trusted: an authority, to say who a guest is, within the paths that the configuration lets it assign.
//! Not trusted: a guest's word on anything but its own key, whose possession it proves; the file that carries a foreign bundle, for any
//! trust domain but that one.

mod assigned;
mod certificates;
pub mod federation;
mod keep;
pub mod published;
mod result;
mod ring;
pub mod terms;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use policies::Audience;
use protocol::entries::{Event, IssuerUse, KeyAction};
use protocol::ids::{AnchorClass, Name, NoRandomness, random_bytes};
use protocol::keyfile::{KeyFile, KeyFileError, Unlock};
use protocol::messages::{Identified, Item, JwtSvid, Secret, X509Svid};
use protocol::spiffe::{BundleError, TrustDomain};
use protocol::time::UnixTime;
use protocol::tokens::result::{Appraisal, CPU, EarClaims, VerifierId};
use protocol::tokens::{JwtSvidClaims, KeySetError, TokenError};
use zeroize::Zeroizing;

use crate::config;
use crate::custody::{CustodyError, Installation, key_path, read_key, write_private};
use crate::ledger::{Ledger, RecordError};
use assigned::{AssignedCertificate, AssignedResult, AssignedToken};
use certificates::Authority;
use federation::{Federation, Looked};
use keep::Place;
use ring::{Owner, Ring};
use terms::due;

pub(crate) use assigned::Assigned;
pub use keep::path as keys_path;
pub use published::Published;
pub use result::Known;
pub use terms::Terms;

/// Where guests are given identities: what a decision has to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realm {
    /// The trust domain of every SPIFFE ID.
    pub trust_domain: TrustDomain,
    /// The issuer that clouds know; `None`: nothing is given for federation.
    pub issuer: Option<String>,
}

/// The issuer of a running broker.
pub struct Issuer {
    realm: Realm,
    anchors: AnchorClass,
    terms: Terms,
    place: Place,
    current: RwLock<Arc<Current>>,
    /// A step that was begun: its keys are in the log, or some of them, and nothing is published of it yet.
    begun: tokio::sync::Mutex<Option<Begun>>,
    federation: Federation,
}

/// The keys in use, and what is published of them.
struct Current {
    ring: Ring,
    published: Option<Published>,
}

/// How long a step may take; the least overlap is twice this.
const STALE: Duration = Duration::from_secs(3600);

/// A step from one set of keys to the next.
struct Begun {
    at: UnixTime,
    events: Vec<Event>,
    ring: Ring,
}

impl Issuer {
    /// Opens the issuer's keys. Before the first start there are none; [`Self::rotate`] makes them. The key that protects them is made
    /// here for data folders that were initialised before there were identities.
    ///
    /// # Errors
    /// [`IssuerError`]; in particular [`IssuerError::TrustDomain`] where the keys are of another trust domain than the configuration's.
    pub fn open(config: &config::Identity, data: &Path, installation: &Installation, unlock: &Unlock) -> Result<Self, IssuerError> {
        if !key_path(data, KIND).exists() && !keys_path(data).exists() {
            let file = KeyFile::protect(KIND, "", &Zeroizing::new(random_bytes()?), unlock)?;
            let path = key_path(data, KIND);
            write_private(&path, file.to_json().as_bytes()).map_err(|error| IssuerError::Write { path, error: error.to_string() })?;
        }
        let place = place(data, installation, unlock)?;
        let realm = Realm { trust_domain: config.trust_domain.clone(), issuer: config.issuer.clone() };
        let ring = place.read(&realm.trust_domain)?;
        let published = if ring.keys.is_empty() { None } else { Some(Published::of(&ring, &realm)?) };
        Ok(Self {
            anchors: installation.anchors,
            terms: config.terms(),
            place,
            current: RwLock::new(Arc::new(Current { ring, published })),
            begun: tokio::sync::Mutex::new(None),
            federation: Federation::open(data, &config.federated)?,
            realm,
        })
    }

    /// Reads what [`Self::open`] would, and changes nothing.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn check(config: &config::Identity, data: &Path, installation: &Installation, unlock: &Unlock) -> Result<(), IssuerError> {
        Federation::open(data, &config.federated)?;
        if key_path(data, KIND).exists() || keys_path(data).exists() {
            place(data, installation, unlock)?.read(&config.trust_domain)?;
        }
        Ok(())
    }

    /// Where guests are given identities.
    #[must_use]
    pub const fn realm(&self) -> &Realm {
        &self.realm
    }

    /// What is published; `None` before the first step.
    #[must_use]
    pub fn published(&self) -> Option<Published> {
        self.current().published.clone()
    }

    /// Makes and retires the keys for which it is time. Each is an entry of the log before it is in use. A step that could not be
    /// finished is gone on with by the next call.
    ///
    /// # Errors
    /// [`IssuerError`]; the keys in use stay as they were.
    pub async fn rotate(&self, ledger: &Ledger, at: UnixTime) -> Result<(), IssuerError> {
        let mut begun = self.begun.lock().await;
        // A step that took this long is begun anew: its keys would sign sooner after they are published than the overlap promises.
        if begun.as_ref().is_none_or(|step| at.since(step.at) > STALE) {
            *begun = self.begin(at)?;
        }
        let Some(step) = begun.as_mut() else { return Ok(()) };
        while let Some(event) = step.events.last() {
            ledger.note(event.clone()).await?;
            step.events.pop();
        }
        let published = Some(Published::of(&step.ring, &self.realm)?);
        self.place.write(&self.realm.trust_domain, &step.ring)?;
        if let Some(step) = begun.take() {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Current { ring: step.ring, published });
        }
        Ok(())
    }

    /// The step that is due, its events in reverse.
    fn begin(&self, at: UnixTime) -> Result<Option<Begun>, IssuerError> {
        let current = self.current();
        let due = due(&current.ring.serving(), self.served(), self.terms, at);
        if due.is_empty() {
            return Ok(None);
        }
        let ring = current.ring.after(&due, &Owner { trust_domain: &self.realm.trust_domain, anchors: self.anchors }, at)?;
        let created = ring.keys.iter().filter(|key| current.ring.keys.iter().all(|old| old.kid() != key.kid()));
        let created = created.map(|key| (key.usage, key.kid(), KeyAction::Created, key.term));
        let retired = current.ring.keys.iter().filter(|key| ring.keys.iter().all(|new| new.kid() != key.kid()));
        let retired = retired.map(|key| (key.usage, key.kid(), KeyAction::Retired, key.term));
        let event = |(usage, kid, action, term): (IssuerUse, &str, KeyAction, terms::Term)| Event::IssuerKey {
            usage,
            kid: kid.to_owned(),
            action,
            not_before: term.signs,
        };
        let mut events: Vec<_> = created.chain(retired).map(event).collect();
        events.reverse();
        Ok(Some(Begun { at, events, ring }))
    }

    /// The uses that there is a key for: RS256 is for clouds alone.
    const fn served(&self) -> &'static [IssuerUse] {
        match self.realm.issuer {
            Some(_) => &[IssuerUse::X509, IssuerUse::JwtEs256, IssuerUse::JwtRs256, IssuerUse::Result],
            None => &[IssuerUse::X509, IssuerUse::JwtEs256, IssuerUse::Result],
        }
    }

    /// Looks at the files of foreign trust domains. One outcome for each that changed.
    pub async fn refresh_federation(&self, ledger: &Ledger, at: UnixTime) -> Vec<Looked> {
        self.federation.refresh(ledger, at).await
    }

    /// The bundles of foreign trust domains that hold now, as JSON.
    #[must_use]
    pub fn federated(&self, at: UnixTime) -> BTreeMap<TrustDomain, String> {
        self.federation.bundles(at)
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Signs what was assigned to a guest and recorded. Nothing holds longer than the permit, which `expires`.
    pub(crate) fn issue(
        &self,
        item: Item,
        assigned: &Assigned,
        known: Known<'_>,
        expires: UnixTime,
        at: UnixTime,
    ) -> Result<Identified, IssuerError> {
        let current = self.current();
        let issuing = Issuing { issuer: self, ring: &current.ring, assigned, expires, at };
        let published = current.published.as_ref().ok_or(IssuerError::NoKey("bundle"))?;
        Ok(Identified {
            spiffe_id: assigned.spiffe_id.clone(),
            expires,
            x509: assigned.x509.as_ref().map(|asked| issuing.x509(asked)).transpose()?,
            jwt: assigned.jwt.iter().map(|asked| issuing.jwt(asked)).collect::<Result<_, _>>()?,
            result: assigned.result.as_ref().map(|asked| issuing.result(asked, known, &item.name)).transpose()?,
            bundle: published.bundle.to_string(),
            federated: self.federated(at),
            item,
        })
    }
}

/// One identity that is being signed.
struct Issuing<'a> {
    issuer: &'a Issuer,
    ring: &'a Ring,
    assigned: &'a Assigned,
    expires: UnixTime,
    at: UnixTime,
}

impl Issuing<'_> {
    /// A leaf for the guest's key. It ends no later than the permit and than the authority's certificate.
    fn x509(&self, asked: &AssignedCertificate) -> Result<X509Svid, IssuerError> {
        let (key, ends) = self.ring.authority(self.at)?;
        let authority = Authority { trust_domain: &self.issuer.realm.trust_domain, anchors: self.issuer.anchors, key };
        let not_after = self.at.plus(asked.life).min(self.expires).min(ends);
        if not_after < self.at {
            return Err(IssuerError::Ended { ends, at: self.at });
        }
        let leaf = authority.leaf(&self.assigned.spiffe_id.uri(), asked, self.at, not_after)?;
        Ok(X509Svid { certificates: vec![leaf], serial: asked.serial.to_hex(), not_after })
    }

    /// A JWT-SVID: for a cloud by RS256 and with the issuer's URL, for anybody else by ES256.
    fn jwt(&self, asked: &AssignedToken) -> Result<JwtSvid, IssuerError> {
        let (usage, iss) = match asked.kind {
            Audience::Workload => (IssuerUse::JwtEs256, None),
            Audience::Federation => (IssuerUse::JwtRs256, Some(self.issuer.realm.issuer.clone().ok_or(IssuerError::NoKey("issuer"))?)),
        };
        let expires = self.at.plus(asked.life).min(self.expires);
        let claims = JwtSvidClaims {
            iss,
            sub: self.assigned.spiffe_id.clone(),
            aud: vec![asked.audience.clone()],
            iat: self.at,
            nbf: None,
            exp: expires,
            jti: asked.jti.clone(),
            anchors: Some(self.issuer.anchors),
        };
        let token = Zeroizing::new(claims.sign(self.ring.signing(usage, self.at)?.signer())?.into_bytes());
        Ok(JwtSvid { audience: asked.audience.clone(), token: Secret::new(token), jti: asked.jti.clone(), expires })
    }

    /// An attestation result, bound to the key that the evidence proves.
    fn result(&self, asked: &AssignedResult, known: Known<'_>, policy: &Name) -> Result<String, IssuerError> {
        let appraisal = Appraisal::new(known.vector(), Some(policy.to_string()));
        let ear = EarClaims {
            iss: self.issuer.realm.trust_domain.id(),
            sub: Some(self.assigned.spiffe_id.uri()),
            aud: asked.audience.clone(),
            iat: self.at,
            exp: self.at.plus(asked.life).min(self.expires),
            jti: asked.jti.clone(),
            nonce: None,
            verifier: VerifierId::this(),
            submods: BTreeMap::from([(CPU.to_owned(), appraisal)]),
            key: known.claims.transcript().signing_key,
            anchors: known.claims.anchors(),
        };
        Ok(ear.sign(self.ring.signing(IssuerUse::Result, self.at)?.signer())?)
    }
}

/// The kind of the key file that protects the issuer's keys.
const KIND: &str = "issuer";

fn place(data: &Path, installation: &Installation, unlock: &Unlock) -> Result<Place, IssuerError> {
    let seed = read_key(&key_path(data, KIND), KIND, unlock)?;
    Ok(Place::new(data, seed, installation.root))
}

/// Why the issuer's keys cannot be had, or do not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// The key that protects them.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// That key cannot be made.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        error: String,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        error: String,
    },
    /// Not a file of an issuer's keys.
    #[error("not an issuer's keys: {0}")]
    Form(String),
    /// Protected by another key, of another installation, or changed.
    #[error("the issuer's keys do not open: keys/issuer.json was changed, or belongs to another keys/issuer.key or installation")]
    DoesNotOpen,
    /// The keys are of another trust domain.
    #[error("the issuer's keys are of trust domain {found}, the configuration names {expected}: keys never change their trust domain")]
    TrustDomain {
        /// By the configuration.
        expected: TrustDomain,
        /// By the file.
        found: TrustDomain,
    },
    /// What was kept of a foreign trust domain.
    #[error("{} is no bundle that this broker kept: {error}", path.display())]
    Kept {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// There is no such key.
    #[error("the issuer has no key for {0}")]
    NoKey(&'static str),
    /// The authority's certificate has ended.
    #[error("the authority's certificate ended at {ends}; it is {at}")]
    Ended {
        /// When.
        ends: UnixTime,
        /// Now.
        at: UnixTime,
    },
    /// A time that no certificate can have.
    #[error("no certificate can hold until {0}")]
    Time(UnixTime),
    /// A certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Certificate(String),
    /// A token cannot be made.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The bundle cannot be made.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A key set cannot be made.
    #[error(transparent)]
    KeySet(#[from] KeySetError),
    /// A key cannot be recorded, so it is not in use.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// No random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl From<rcgen::Error> for IssuerError {
    fn from(error: rcgen::Error) -> Self {
        Self::Certificate(error.to_string())
    }
}
