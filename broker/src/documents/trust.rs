//! Whose documents count, and what each is checked for before it may join the set.

use std::sync::Arc;

use policies::{Calendar, Policy};
use protocol::collateral::CollateralBundleBody;
use protocol::documents::{PolicyBody, RevocationsBody, StatementBody, TcbBaselinesBody};
use protocol::dsse::{Body, Document, DocumentError, SignedDocument};
use protocol::envelope::RecordFile;
use protocol::ids::{AnchorClass, Name};
use protocol::keys::PublicKey;

use super::{Admitted, CalendarInForce, LoadError, Place, PolicyInForce, PutError, Record, RevocationList};
use crate::config::{Config, Signer};
use crate::store::StoredDocument;

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
        Ok(Admitted::Policy(Arc::new(PolicyInForce { document, policy, assigns: signer.identities.clone() })))
    }

    /// Admits a list of revocations: signature and installation.
    ///
    /// # Errors
    /// [`PutError`].
    pub fn revocations(&self, signed: &SignedDocument) -> Result<Admitted, PutError> {
        let (document, signer) = authenticate::<RevocationsBody>(signed, &self.authorities)?;
        self.same_installation(document.body().installation)?;
        Ok(Admitted::Revocations(Arc::new(RevocationList::new(document, signer.clone()))))
    }

    /// Admits a bundle of collateral: carried by an authority. What it carries is verified piece by piece.
    ///
    /// # Errors
    /// [`PutError::Document`].
    pub fn collateral(&self, signed: &SignedDocument) -> Result<Document<CollateralBundleBody>, PutError> {
        Ok(authenticate(signed, &self.authorities)?.0)
    }

    /// Admits a TCB calendar: signature, installation, name.
    ///
    /// # Errors
    /// [`PutError`].
    pub fn calendar(&self, signed: &SignedDocument) -> Result<Admitted, PutError> {
        let (document, signer) = authenticate::<TcbBaselinesBody>(signed, &self.authorities)?;
        self.same_installation(document.body().installation)?;
        covered(signer, &document.body().name)?;
        let calendar = Calendar::new(&document);
        Ok(Admitted::Calendar(Arc::new(CalendarInForce { document, calendar })))
    }

    fn same_installation(&self, found: PublicKey) -> Result<(), PutError> {
        if found == self.installation { Ok(()) } else { Err(PutError::Installation { expected: self.installation, found }) }
    }

    /// Admits what the store holds in a slot, and says where it belongs. A refusal is a reason of the configuration or of the
    /// language of policies; whatever else could be wrong, no broker put it there.
    pub(super) fn stored(&self, stored: &StoredDocument) -> Result<(Place, Result<Admitted, PutError>), LoadError> {
        let damaged = || LoadError::Damaged { slot: stored.slot.clone() };
        let signed: SignedDocument = serde_json::from_slice(&stored.signed).map_err(|_| damaged())?;
        let place = Place::claimed(&signed).filter(|place| place.slot == stored.slot).ok_or_else(damaged)?;
        let admitted = match (signed.payload_type.as_str(), &stored.envelope) {
            (StatementBody::PAYLOAD_TYPE, Some(envelope)) => {
                let envelope = serde_json::from_slice(envelope).map_err(|_| damaged())?;
                self.record(RecordFile { statement: signed, envelope })
            }
            (PolicyBody::PAYLOAD_TYPE, None) => self.policy(&signed),
            (RevocationsBody::PAYLOAD_TYPE, None) => self.revocations(&signed),
            (TcbBaselinesBody::PAYLOAD_TYPE, None) => self.calendar(&signed),
            _ => return Err(damaged()),
        };
        match &admitted {
            Ok(_) | Err(PutError::Document(DocumentError::UnknownSigner { .. }) | PutError::Name { .. } | PutError::Policy(_)) => {
                Ok((place, admitted))
            }
            Err(_) => Err(damaged()),
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
