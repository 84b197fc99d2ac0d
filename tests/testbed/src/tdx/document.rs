//! Intel's signed JSON documents: how a body is signed, and the spellings that TCB info and QE identity share.

use p256::ecdsa::SigningKey;

use super::keys;
use super::signature::SignatureFlaw;
use crate::der;

/// A document before it is signed: any text under any member name, so that a test can break the JSON before the signature is made.
/// What was signed is text; to break it afterwards, edit the bytes of [`Self::bytes`].
#[derive(Clone, Debug)]
pub struct Document {
    /// `tcbInfo` or `enclaveIdentity`.
    pub member: String,
    /// The member's value: these very bytes are signed.
    pub json: String,
    /// The key that signs: of the TCB signer.
    pub signer: SigningKey,
    /// What becomes of the signature.
    pub signature: SignatureFlaw,
}

impl Document {
    /// Applies a change and hands the document back.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Replaces a part of the text, wherever it stands, before the signature is made.
    ///
    /// # Panics
    /// When the text has no such part: the test would prove nothing.
    #[must_use]
    pub fn replacing(mut self, part: &str, by: &str) -> Self {
        assert!(self.json.contains(part), "{part} stands in {}", self.json);
        self.json = self.json.replace(part, by);
        self
    }

    /// The body as the service sends it: `{"tcbInfo":{..},"signature":".."}`.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let signature = self.signature.apply(keys::sign(&self.signer, self.json.as_bytes()));
        format!("{{\"{}\":{},\"signature\":\"{}\"}}", self.member, self.json, hex(&signature)).into_bytes()
    }
}

/// A TCB level's parts that every kind of level has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// `tcbDate`, seconds since 1970-01-01 UTC.
    pub date: u64,
    /// `tcbStatus`: any word.
    pub status: String,
    /// `advisoryIDs`; an empty list leaves the member out.
    pub advisories: Vec<String>,
}

impl Standing {
    /// This status since `date`, without advisories.
    #[must_use]
    pub fn new(status: &str, date: u64) -> Self {
        Self { date, status: status.to_owned(), advisories: Vec::new() }
    }

    /// With these advisories.
    #[must_use]
    pub fn advising(mut self, advisories: &[&str]) -> Self {
        self.advisories = advisories.iter().map(|&advisory| advisory.to_owned()).collect();
        self
    }

    /// The members behind `tcb`.
    pub(super) fn members(&self) -> String {
        let advisories: Vec<String> = self.advisories.iter().map(|advisory| format!("\"{advisory}\"")).collect();
        let advisories = if advisories.is_empty() { String::new() } else { format!(",\"advisoryIDs\":[{}]", advisories.join(",")) };
        format!("\"tcbDate\":\"{}\",\"tcbStatus\":\"{}\"{advisories}", date_time(self.date), self.status)
    }
}

/// A level that one ISVSVN reaches: of a TDX module or of a quoting enclave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsvLevel {
    /// The lowest ISVSVN.
    pub isv_svn: u16,
    /// What it means.
    pub standing: Standing,
}

impl IsvLevel {
    /// This status from this ISVSVN on, since `date`.
    #[must_use]
    pub fn new(isv_svn: u16, status: &str, date: u64) -> Self {
        Self { isv_svn, standing: Standing::new(status, date) }
    }

    pub(super) fn json(&self) -> String {
        format!("{{\"tcb\":{{\"isvsvn\":{}}},{}}}", self.isv_svn, self.standing.members())
    }
}

/// `[a,b]` of rendered elements.
pub(super) fn array(elements: impl Iterator<Item = String>) -> String {
    format!("[{}]", elements.collect::<Vec<_>>().join(","))
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Upper-case hex, as in the documents' members.
pub(super) fn upper_hex(bytes: &[u8]) -> String {
    hex(bytes).to_uppercase()
}

/// RFC 3339 with `Z` and without fractions, as Intel writes times.
pub(super) fn date_time(seconds: u64) -> String {
    let (year, month, day) = der::civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
