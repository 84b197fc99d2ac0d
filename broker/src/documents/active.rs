//! The documents in force, as one immutable set with one digest.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use protocol::documents::{Kind, Revocation};
use protocol::encoding::Fields;
use protocol::ids::{Digest, Name, Platform, Version};
use protocol::keys::PublicKey;
use protocol::time::UnixTime;

use super::{Admitted, CalendarInForce, LoadError, PolicyInForce, PutError, Record, RevocationList, Trust};
use crate::collateral::{Piece, PieceKey};
use crate::store::StoredDocument;

/// The whole active set.
#[derive(Clone, Debug)]
pub struct ActiveDocuments {
    digest: Digest,
    /// The digest of what is stored in each slot.
    slots: BTreeMap<String, Digest>,
    /// The newest version of each subject, of documents that decide nothing too.
    newest: HashMap<String, Version>,
    records: BTreeMap<(Name, &'static str), BTreeMap<Version, Arc<Record>>>,
    policies: HashMap<(PublicKey, Name), Arc<PolicyInForce>>,
    revocations: HashMap<PublicKey, Arc<RevocationList>>,
    calendars: HashMap<(PublicKey, Name), Arc<CalendarInForce>>,
}

impl Default for ActiveDocuments {
    fn default() -> Self {
        let mut empty = Self {
            digest: Digest::from([0; 32]),
            slots: BTreeMap::new(),
            newest: HashMap::new(),
            records: BTreeMap::new(),
            policies: HashMap::new(),
            revocations: HashMap::new(),
            calendars: HashMap::new(),
        };
        empty.renew_digest();
        empty
    }
}

/// The digest of one slot: every byte that is stored there. A signature that is changed would otherwise turn a revocation
/// list into one of an unknown signer, which decides nothing.
fn stored_digest(stored: &StoredDocument) -> Digest {
    Fields::new("portcullis/stored-document/v1").field(&stored.signed).optional(stored.envelope.as_deref()).sha256()
}

impl ActiveDocuments {
    /// Reads the stored set. Documents of signers that the configuration no longer names, and policies that this version of
    /// the language no longer reads, are reported, and decide nothing.
    ///
    /// # Errors
    /// [`LoadError::Damaged`] where a slot holds what no broker ever put there.
    pub fn load(stored: &[StoredDocument], trust: &Trust) -> Result<(Self, Vec<(String, PutError)>), LoadError> {
        let (mut set, mut left_out) = (Self::default(), Vec::new());
        for document in stored {
            let (place, admitted) = trust.stored(document)?;
            set.slots.insert(place.slot.clone(), stored_digest(document));
            let newest = set.newest.entry(place.subject).or_insert(place.version);
            *newest = place.version.max(*newest);
            match admitted {
                Ok(admitted) => set.insert(admitted),
                Err(error) => left_out.push((place.slot, error)),
            }
        }
        set.renew_digest();
        Ok((set, left_out))
    }

    /// The set with one more document.
    ///
    /// # Errors
    /// [`PutError::Unchanged`] where this very document is in force; [`PutError::Version`] where the version does not grow.
    pub fn with(&self, admitted: Admitted) -> Result<Self, PutError> {
        if self.has(&admitted) {
            return Err(PutError::Unchanged);
        }
        let place = admitted.place();
        if let Some(newest) = self.newest.get(&place.subject)
            && place.version <= *newest
        {
            return Err(PutError::Version { newest: *newest, found: place.version });
        }
        let mut set = self.clone();
        set.slots.insert(place.slot, stored_digest(&admitted.to_stored()));
        set.newest.insert(place.subject, place.version);
        set.insert(admitted);
        set.renew_digest();
        Ok(set)
    }

    fn has(&self, admitted: &Admitted) -> bool {
        match admitted {
            Admitted::Record(record) => {
                let body = record.statement.body();
                let there = self.record(body.kind, &body.name, Some(body.version));
                there.is_some_and(|there| there.statement.digest() == record.statement.digest())
            }
            Admitted::Policy(policy) => {
                let there = self.policy(policy.document.signer(), &policy.document.body().name);
                there.is_some_and(|there| there.document.digest() == policy.document.digest())
            }
            Admitted::Revocations(list) => {
                let there = self.revocations.get(list.document.signer());
                there.is_some_and(|there| there.document.digest() == list.document.digest())
            }
            Admitted::Calendar(calendar) => {
                let there = self.calendar(calendar.document.signer(), &calendar.document.body().name);
                there.is_some_and(|there| there.document.digest() == calendar.document.digest())
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
            Admitted::Calendar(calendar) => {
                self.calendars.insert((*calendar.document.signer(), calendar.document.body().name.clone()), calendar);
            }
        }
    }

    /// Every slot and what is in it, in the order of the slots.
    fn renew_digest(&mut self) {
        let fields = Fields::new("portcullis/documents/v1");
        self.digest = self.slots.iter().fold(fields, |fields, (slot, digest)| fields.field(slot).field(digest)).sha256();
    }

    /// The digest of the whole set.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The record of this name: of this version, or the newest; of a credential the newest that is not revoked, where there is one, so
    /// that revoking the newest version goes back to the one before it.
    #[must_use]
    pub fn record(&self, kind: Kind, name: &Name, version: Option<Version>) -> Option<&Arc<Record>> {
        let versions = self.records.get(&(name.clone(), kind.as_str()))?;
        match version {
            Some(version) => versions.get(&version),
            None if kind == Kind::Credential => {
                let mut newest_first = versions.iter().rev();
                let valid = newest_first.find(|(version, _)| self.revocation(kind, name, **version).is_none());
                valid.or_else(|| versions.last_key_value()).map(|(_, record)| record)
            }
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

    /// The last second at which some policy in force takes a piece of collateral; the piece's own where none has a say in it.
    #[must_use]
    pub fn usable_until(&self, piece: &Piece) -> UnixTime {
        let Piece { issued, until, .. } = *piece;
        let takes = |policy: &PolicyInForce| match piece.key {
            PieceKey::AmdCrl(_) => policy.policy.takes_list_until(Platform::SevSnp, issued, until),
            PieceKey::PckCrl(_) => policy.policy.takes_list_until(Platform::Tdx, issued, until),
            PieceKey::RootCrl => policy.policy.takes_root_list_until(issued, until),
            PieceKey::TcbInfo(_) | PieceKey::QeIdentity => policy.policy.takes_document_until(issued, until),
            PieceKey::AmdAuthority(..) | PieceKey::Vcek(_) => None,
        };
        self.policies.values().filter_map(|policy| takes(policy)).max().unwrap_or(until)
    }

    /// All policies of this name, whoever signed them.
    pub fn policies<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a Arc<PolicyInForce>> {
        self.policies.values().filter(move |policy| policy.document.body().name == *name)
    }

    /// The TCB calendar of this name by this authority.
    #[must_use]
    pub fn calendar(&self, authority: &PublicKey, name: &Name) -> Option<&Arc<CalendarInForce>> {
        self.calendars.get(&(*authority, name.clone()))
    }

    /// All TCB calendars of this name, whoever signed them.
    pub fn calendars<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a Arc<CalendarInForce>> {
        self.calendars.values().filter(move |calendar| calendar.document.body().name == *name)
    }

    /// The lists of revocations, one an authority.
    pub fn revocation_lists(&self) -> impl Iterator<Item = &Arc<RevocationList>> {
        self.revocations.values()
    }

    /// The revocation of what has this kind, name and version by any authority that speaks for its name.
    #[must_use]
    pub fn revocation(&self, kind: Kind, name: &Name, version: Version) -> Option<&Revocation> {
        self.revocations.values().find_map(|list| list.find(kind, name, version))
    }
}
