//! The documents that the broker obeys: records, policies, revocations, TCB calendars, as one immutable set with one digest.
//!
//! A change makes a new set; whoever decides holds one set from beginning to end. The set's digest covers every stored byte,
//! signatures and envelopes included, and every log entry commits to it: whoever edits the store changes the digest, and the
//! broker does not start. Documents of signers that the configuration no longer names stay in the digest and decide nothing;
//! their versions are remembered, so that no older one takes their place.

mod active;
mod error;
mod place;
mod trust;

use std::collections::HashMap;
use std::sync::Arc;

use policies::{Calendar, Policy};
use protocol::documents::{Kind, PolicyBody, Revocation, RevocationsBody, StatementBody, TcbBaselinesBody};
use protocol::dsse::{Document, SignedDocument};
use protocol::entries::Event;
use protocol::envelope::Envelope;
use protocol::ids::{Digest, Name, Version};

use crate::config::Signer;
use crate::store::StoredDocument;

pub use active::ActiveDocuments;
pub use error::{LoadError, PutError};
pub use place::Place;
pub use trust::Trust;

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
    /// The paths of SPIFFE IDs that its authority may assign, by the configuration of now.
    pub assigns: Vec<String>,
}

/// A TCB calendar in force.
#[derive(Debug)]
pub struct CalendarInForce {
    /// The document.
    pub document: Document<TcbBaselinesBody>,
    /// What it says, ready to be asked.
    pub calendar: Calendar,
}

/// The newest list of revocations of one authority.
#[derive(Debug)]
pub struct RevocationList {
    /// The document.
    pub document: Document<RevocationsBody>,
    /// The names that this authority speaks for.
    covers: Signer,
    /// Where each name stands in the list: a guest may ask for many items, and the list may be long.
    by_name: HashMap<Name, Vec<usize>>,
}

impl RevocationList {
    fn new(document: Document<RevocationsBody>, covers: Signer) -> Self {
        let mut by_name: HashMap<Name, Vec<usize>> = HashMap::new();
        for (at, entry) in document.body().revoked.iter().enumerate() {
            by_name.entry(entry.name.clone()).or_default().push(at);
        }
        Self { document, covers, by_name }
    }

    /// The revocation of what has this kind, name and version, where its authority speaks for the name.
    #[must_use]
    pub fn find(&self, kind: Kind, name: &Name, version: Version) -> Option<&Revocation> {
        if !self.covers.covers(name) {
            return None;
        }
        let entries = self.by_name.get(name)?.iter().filter_map(|at| self.document.body().revoked.get(*at));
        entries.into_iter().find(|entry| entry.covers(kind, version))
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
    /// A TCB calendar.
    Calendar(Arc<CalendarInForce>),
}

impl Admitted {
    /// The signed document.
    #[must_use]
    pub fn signed(&self) -> &SignedDocument {
        match self {
            Self::Record(record) => record.statement.signed(),
            Self::Policy(policy) => policy.document.signed(),
            Self::Revocations(list) => list.document.signed(),
            Self::Calendar(calendar) => calendar.document.signed(),
        }
    }

    /// The document's digest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        match self {
            Self::Record(record) => record.statement.digest(),
            Self::Policy(policy) => policy.document.digest(),
            Self::Revocations(list) => list.document.digest(),
            Self::Calendar(calendar) => calendar.document.digest(),
        }
    }

    /// Where it belongs.
    #[must_use]
    pub fn place(&self) -> Place {
        let key = self.signed().signatures[0].keyid;
        match self {
            Self::Record(record) => Place::of_record(record.statement.body()),
            Self::Policy(policy) => Place::of_policy(policy.document.body(), key),
            Self::Revocations(list) => Place::of_revocations(list.document.body(), key),
            Self::Calendar(calendar) => Place::of_calendar(calendar.document.body(), key),
        }
    }

    /// What goes into the store.
    #[must_use]
    pub fn to_stored(&self) -> StoredDocument {
        let envelope = match self {
            Self::Record(record) => serde_json::to_vec(&record.envelope).ok(),
            Self::Policy(_) | Self::Revocations(_) | Self::Calendar(_) => None,
        };
        StoredDocument { slot: self.place().slot, signed: self.signed().to_json(), envelope }
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
                let (document, authority) = (*list.document.digest(), *list.document.signer());
                Event::RevocationsPut { version: body.version, document, authority, revoked }
            }
            Self::Calendar(calendar) => {
                let body = calendar.document.body();
                let (name, version) = (body.name.clone(), body.version);
                Event::TcbBaselinesPut { name, version, document: *calendar.document.digest(), authority: *calendar.document.signer() }
            }
        }
    }
}
