//! The documents that the broker obeys: records, policies, revocations, as one immutable set with one digest.
//!
//! A change makes a new set; whoever decides holds one set from beginning to end. Documents of signers that the
//! configuration no longer names stay in the set's digest and decide nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use policies::{Policy, PolicyError};
use protocol::documents::{Kind, PolicyBody, Revocation, RevocationsBody, StatementBody};
use protocol::dsse::{Body, Document, DocumentError, SignedDocument};
use protocol::encoding::Fields;
use protocol::entries::Event;
use protocol::envelope::{Envelope, EnvelopeError, RecordFile};
use protocol::ids::{AnchorClass, Digest, Name, Version};
use protocol::keys::PublicKey;

use crate::config::{Config, Signer};
use crate::store::StoredDocument;

/// A record: what its publisher states, and the sealed secret.
#[derive(Debug)]
pub struct Record {
    /// The statement.
    pub statement: Document<StatementBody>,
    /// The secret, sealed.
    pub envelope: Envelope,
}

/// A policy in force.
#[derive(Debug)]
pub struct PolicyInForce {
    /// The document.
    pub document: Document<PolicyBody>,
    /// What its text says.
    pub policy: Policy,
}

/// The newest list of revocations of one authority.
#[derive(Debug)]
pub struct RevocationList {
    /// The document.
    pub document: Document<RevocationsBody>,
    /// The names that this authority speaks for.
    covers: Signer,
}

/// Whose documents count, and for which installation.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The installation.
    pub installation: PublicKey,
    /// Its class of roots.
    pub anchors: AnchorClass,
    /// Who may publish which records.
    pub publishers: Vec<Signer>,
    /// Who may put which policies and revoke which records.
    pub authorities: Vec<Signer>,
}

impl Trust {
    /// As configured.
    #[must_use]
    pub fn new(config: &Config, anchors: AnchorClass) -> Self {
        Self { installation: config.root, anchors, publishers: config.publishers.clone(), authorities: config.authorities.clone() }
    }
}

/// A document that may join the set: authenticated, for this installation, by a signer who speaks for its name.
#[derive(Clone, Debug)]
pub enum Admitted {
    /// A record.
    Record(Arc<Record>),
    /// A policy.
    Policy(Arc<PolicyInForce>),
    /// A list of revocations.
    Revocations(Arc<RevocationList>),
}

impl Trust {
    /// Admits a record: signature, installation, name, class of roots; and the envelope is the statement's own.
    ///
    /// # Errors
    /// [`PutError`], a variant per check.
    pub fn record(&self, file: RecordFile) -> Result<Admitted, PutError> {
        let (statement, signer) = authenticate::<StatementBody>(&file.statement, &self.publishers)?;
        let body = statement.body();
        self.same_installation(body.installation)?;
        covered(signer, &body.name)?;
        if body.anchors != self.anchors {
            return Err(PutError::AnchorClass { expected: self.anchors, found: body.anchors });
        }
        if file.envelope.statement != *statement.digest() {
            return Err(PutError::Envelope { expected: *statement.digest(), found: file.envelope.statement });
        }
        Ok(Admitted::Record(Arc::new(Record { statement, envelope: file.envelope })))
    }

    /// Admits a policy: signature, installation, name; and its text is a policy.
    ///
    /// # Errors
    /// [`PutError`].
    pub fn policy(&self, signed: &SignedDocument) -> Result<Admitted, PutError> {
        let (document, signer) = authenticate::<PolicyBody>(signed, &self.authorities)?;
        self.same_installation(document.body().installation)?;
        covered(signer, &document.body().name)?;
        let policy = Policy::parse(&document.body().toml)?;
        Ok(Admitted::Policy(Arc::new(PolicyInForce { document, policy })))
    }

    /// Admits a list of revocations: signature and installation.
    ///
    /// # Errors
    /// [`PutError`].
    pub fn revocations(&self, signed: &SignedDocument) -> Result<Admitted, PutError> {
        let (document, signer) = authenticate::<RevocationsBody>(signed, &self.authorities)?;
        self.same_installation(document.body().installation)?;
        Ok(Admitted::Revocations(Arc::new(RevocationList { document, covers: signer.clone() })))
    }

    fn same_installation(&self, found: PublicKey) -> Result<(), PutError> {
        if found == self.installation { Ok(()) } else { Err(PutError::Installation { expected: self.installation, found }) }
    }

    /// Admits what the store holds in a slot.
    fn stored(&self, stored: &StoredDocument) -> Result<(Digest, Result<Admitted, PutError>), LoadError> {
        let damaged = || LoadError::Damaged { slot: stored.slot.clone() };
        let signed: SignedDocument = serde_json::from_slice(&stored.signed).map_err(|_| damaged())?;
        let digest = signed.digest();
        let admitted = match (signed.payload_type.as_str(), &stored.envelope) {
            (StatementBody::PAYLOAD_TYPE, Some(envelope)) => {
                let envelope = serde_json::from_slice(envelope).map_err(|_| damaged())?;
                self.record(RecordFile { statement: signed, envelope })
            }
            (PolicyBody::PAYLOAD_TYPE, None) => self.policy(&signed),
            (RevocationsBody::PAYLOAD_TYPE, None) => self.revocations(&signed),
            _ => return Err(damaged()),
        };
        match &admitted {
            Ok(admitted) if admitted.slot() != stored.slot => Err(damaged()),
            _ => Ok((digest, admitted)),
        }
    }
}

fn authenticate<'a, B: Body>(signed: &SignedDocument, signers: &'a [Signer]) -> Result<(Document<B>, &'a Signer), PutError> {
    let keys: Vec<_> = signers.iter().map(|signer| signer.key).collect();
    let document = signed.authenticate::<B>(&keys)?;
    let signer = signers
        .iter()
        .find(|signer| signer.key == *document.signer())
        .ok_or(PutError::Document(DocumentError::UnknownSigner { found: document.signer().id() }))?;
    Ok((document, signer))
}

fn covered(signer: &Signer, name: &Name) -> Result<(), PutError> {
    if signer.covers(name) { Ok(()) } else { Err(PutError::Name { signer: signer.key, found: name.clone() }) }
}

impl Admitted {
    /// What this is the newest of. Each version of a record is a slot; of policies and lists only the newest is kept.
    #[must_use]
    pub fn slot(&self) -> String {
        match self {
            Self::Record(record) => {
                let body = record.statement.body();
                format!("record/{}/{}@{}", body.kind.as_str(), body.name, body.version)
            }
            Self::Policy(policy) => format!("policy/{}/{}", policy.document.signer(), policy.document.body().name),
            Self::Revocations(list) => format!("revocations/{}", list.document.signer()),
        }
    }

    /// The document's digest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        match self {
            Self::Record(record) => record.statement.digest(),
            Self::Policy(policy) => policy.document.digest(),
            Self::Revocations(list) => list.document.digest(),
        }
    }

    /// What goes into the store.
    #[must_use]
    pub fn to_stored(&self) -> StoredDocument {
        let (signed, envelope) = match self {
            Self::Record(record) => (record.statement.signed(), serde_json::to_vec(&record.envelope).ok()),
            Self::Policy(policy) => (policy.document.signed(), None),
            Self::Revocations(list) => (list.document.signed(), None),
        };
        StoredDocument { slot: self.slot(), signed: signed.to_json(), envelope }
    }

    /// What goes into the log.
    #[must_use]
    pub fn to_event(&self) -> Event {
        match self {
            Self::Record(record) => {
                let body = record.statement.body();
                let (name, version) = (body.name.clone(), body.version);
                Event::RecordPut { name, version, statement: *record.statement.digest(), publisher: *record.statement.signer() }
            }
            Self::Policy(policy) => {
                let body = policy.document.body();
                let (name, version) = (body.name.clone(), body.version);
                Event::PolicyPut { name, version, document: *policy.document.digest(), authority: *policy.document.signer() }
            }
            Self::Revocations(list) => {
                let body = list.document.body();
                let revoked = u64::try_from(body.revoked.len()).unwrap_or(u64::MAX);
                Event::RevocationsPut {
                    version: body.version,
                    document: *list.document.digest(),
                    authority: *list.document.signer(),
                    revoked,
                }
            }
        }
    }
}

/// The whole active set.
#[derive(Clone, Debug)]
pub struct ActiveDocuments {
    digest: Digest,
    slots: BTreeMap<String, Digest>,
    records: BTreeMap<(Name, &'static str), BTreeMap<Version, Arc<Record>>>,
    policies: HashMap<(PublicKey, Name), Arc<PolicyInForce>>,
    revocations: HashMap<PublicKey, Arc<RevocationList>>,
}

impl Default for ActiveDocuments {
    fn default() -> Self {
        let slots = BTreeMap::new();
        Self { digest: digest(&slots), slots, records: BTreeMap::new(), policies: HashMap::new(), revocations: HashMap::new() }
    }
}

/// The digest of a set: every slot and the document in it, in the order of the slots.
fn digest(slots: &BTreeMap<String, Digest>) -> Digest {
    slots.iter().fold(Fields::new("portcullis/documents/v1"), |fields, (slot, digest)| fields.field(slot).field(digest)).sha256()
}

impl ActiveDocuments {
    /// Reads the stored set. Documents that are no longer admitted are reported, and decide nothing.
    ///
    /// # Errors
    /// [`LoadError::Damaged`] where a slot holds what no broker ever put there.
    pub fn load(stored: &[StoredDocument], trust: &Trust) -> Result<(Self, Vec<(String, PutError)>), LoadError> {
        let (mut set, mut left_out) = (Self::default(), Vec::new());
        for document in stored {
            let (digest, admitted) = trust.stored(document)?;
            set.slots.insert(document.slot.clone(), digest);
            match admitted {
                Ok(admitted) => set.insert(admitted),
                Err(error) => left_out.push((document.slot.clone(), error)),
            }
        }
        set.digest = digest(&set.slots);
        Ok((set, left_out))
    }

    /// The set with one more document.
    ///
    /// # Errors
    /// [`PutError::Version`] where the version does not grow; [`PutError::Unchanged`] where this very document is there.
    pub fn with(&self, admitted: Admitted) -> Result<Self, PutError> {
        let slot = admitted.slot();
        if self.slots.get(&slot) == Some(admitted.digest()) {
            return Err(PutError::Unchanged);
        }
        let (newest, found) = self.versions(&admitted);
        if newest.is_some_and(|newest| found <= newest) {
            return Err(PutError::Version { newest, found });
        }
        let mut set = self.clone();
        set.slots.insert(slot, *admitted.digest());
        set.insert(admitted);
        set.digest = digest(&set.slots);
        Ok(set)
    }

    /// The newest version that is there, and the one that wants to join.
    fn versions(&self, admitted: &Admitted) -> (Option<Version>, Version) {
        match admitted {
            Admitted::Record(record) => {
                let body = record.statement.body();
                let versions = self.records.get(&(body.name.clone(), body.kind.as_str()));
                (versions.and_then(|versions| versions.last_key_value()).map(|(version, _)| *version), body.version)
            }
            Admitted::Policy(policy) => {
                let body = policy.document.body();
                let newest = self.policies.get(&(*policy.document.signer(), body.name.clone()));
                (newest.map(|policy| policy.document.body().version), body.version)
            }
            Admitted::Revocations(list) => {
                let newest = self.revocations.get(list.document.signer());
                (newest.map(|list| list.document.body().version), list.document.body().version)
            }
        }
    }

    fn insert(&mut self, admitted: Admitted) {
        match admitted {
            Admitted::Record(record) => {
                let body = record.statement.body();
                let versions = self.records.entry((body.name.clone(), body.kind.as_str())).or_default();
                versions.insert(body.version, record);
            }
            Admitted::Policy(policy) => {
                self.policies.insert((*policy.document.signer(), policy.document.body().name.clone()), policy);
            }
            Admitted::Revocations(list) => {
                self.revocations.insert(*list.document.signer(), list);
            }
        }
    }

    /// The digest of the whole set.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The record of this name: of this version, or the newest.
    #[must_use]
    pub fn record(&self, kind: Kind, name: &Name, version: Option<Version>) -> Option<&Arc<Record>> {
        let versions = self.records.get(&(name.clone(), kind.as_str()))?;
        match version {
            Some(version) => versions.get(&version),
            None => versions.last_key_value().map(|(_, record)| record),
        }
    }

    /// All records, by name, kind and version.
    pub fn records(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.values().flat_map(BTreeMap::values)
    }

    /// The policy of this name by this authority.
    #[must_use]
    pub fn policy(&self, authority: &PublicKey, name: &Name) -> Option<&Arc<PolicyInForce>> {
        self.policies.get(&(*authority, name.clone()))
    }

    /// All policies of this name, whoever signed them.
    pub fn policies<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a Arc<PolicyInForce>> {
        self.policies.values().filter(move |policy| policy.document.body().name == *name)
    }

    /// The lists of revocations, one an authority.
    pub fn revocation_lists(&self) -> impl Iterator<Item = &Arc<RevocationList>> {
        self.revocations.values()
    }

    /// The revocation of this record by any authority that speaks for its name.
    #[must_use]
    pub fn revocation(&self, name: &Name, version: Version) -> Option<&Revocation> {
        self.revocations.values().filter(|list| list.covers.covers(name)).find_map(|list| list.document.body().find(name, version))
    }
}

/// Why a document does not join the set.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// Not signed by a signer of the configuration, or not a document of this type.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// For another installation.
    #[error("the document is for installation {found}, not for {expected}")]
    Installation {
        /// This installation.
        expected: PublicKey,
        /// What the document names.
        found: PublicKey,
    },
    /// The signer does not speak for this name.
    #[error("{signer} does not speak for the name {found}")]
    Name {
        /// Who signed.
        signer: PublicKey,
        /// The document's name.
        found: Name,
    },
    /// The record is for another class of roots.
    #[error("the record is for anchor class {found}; this installation's is {expected}")]
    AnchorClass {
        /// This installation's.
        expected: AnchorClass,
        /// The record's.
        found: AnchorClass,
    },
    /// The envelope is another statement's.
    #[error("the envelope belongs to statement {found}, not to {expected}")]
    Envelope {
        /// The statement's digest.
        expected: Digest,
        /// What the envelope names.
        found: Digest,
    },
    /// The envelope does not hold, for this broker's sealing key, what the statement commits to.
    #[error("this broker cannot open the envelope: {0}")]
    DoesNotOpen(EnvelopeError),
    /// The text is no policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The version does not grow.
    #[error("version {found} is not higher than {}", newest.map_or(0, Version::number))]
    Version {
        /// The newest that is there.
        newest: Option<Version>,
        /// The document's.
        found: Version,
    },
    /// This very document is there already.
    #[error("this very document is in force already")]
    Unchanged,
}

/// Why the stored set cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A slot holds what no broker ever put there.
    #[error("slot {slot} of the store holds what no broker put there")]
    Damaged {
        /// The slot.
        slot: String,
    },
}
