//! Where a document belongs: what it is a version of, and the slot of the store that it takes.

use protocol::documents::{PolicyBody, RevocationsBody, StatementBody, TcbBaselinesBody};
use protocol::dsse::{Body, SignedDocument};
use protocol::ids::Version;
use protocol::keys::KeyId;

/// Where a document belongs, by its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it is a version of, such as `policy/KEY/NAME`.
    pub subject: String,
    /// Which version.
    pub version: Version,
    /// The slot. Each version of a record has its own; of policies and lists only the newest is kept.
    pub slot: String,
}

impl Place {
    /// Of a record. Publishers of one name share its versions.
    #[must_use]
    pub fn of_record(body: &StatementBody) -> Self {
        let subject = format!("record/{}/{}", body.kind.as_str(), body.name);
        let slot = format!("{subject}@{}", body.version);
        Self { subject, version: body.version, slot }
    }

    /// Of a policy. Each authority has policies of its own, whatever their names.
    #[must_use]
    pub fn of_policy(body: &PolicyBody, authority: KeyId) -> Self {
        let subject = format!("policy/{authority}/{}", body.name);
        Self { slot: subject.clone(), subject, version: body.version }
    }

    /// Of a list of revocations.
    #[must_use]
    pub fn of_revocations(body: &RevocationsBody, authority: KeyId) -> Self {
        let subject = format!("revocations/{authority}");
        Self { slot: subject.clone(), subject, version: body.version }
    }

    /// Of a TCB calendar. Each authority has calendars of its own, whatever their names.
    #[must_use]
    pub fn of_calendar(body: &TcbBaselinesBody, authority: KeyId) -> Self {
        let subject = format!("tcb-baselines/{authority}/{}", body.name);
        Self { slot: subject.clone(), subject, version: body.version }
    }

    /// Of a stored document whose signer nobody vouches for any more. `None` where it is no document of ours.
    pub(super) fn claimed(signed: &SignedDocument) -> Option<Self> {
        let key = signed.signatures[0].keyid;
        let payload = signed.payload.as_slice();
        match signed.payload_type.as_str() {
            StatementBody::PAYLOAD_TYPE => serde_json::from_slice(payload).ok().map(|body| Self::of_record(&body)),
            PolicyBody::PAYLOAD_TYPE => serde_json::from_slice(payload).ok().map(|body| Self::of_policy(&body, key)),
            RevocationsBody::PAYLOAD_TYPE => serde_json::from_slice(payload).ok().map(|body| Self::of_revocations(&body, key)),
            TcbBaselinesBody::PAYLOAD_TYPE => serde_json::from_slice(payload).ok().map(|body| Self::of_calendar(&body, key)),
            _ => None,
        }
    }
}
