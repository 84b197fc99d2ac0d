//! Identity of the TD quoting enclave (Intel PCS API version 4, "Get TDX QE Identity"), every member of it public, rendered as Intel renders it.

use super::document::{IsvLevel, array, date_time, upper_hex};

/// QE identity before it is rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QeIdentity {
    /// `id`: `TD_QE`.
    pub id: String,
    /// `version`: 2.
    pub version: u32,
    /// `issueDate`, seconds since 1970-01-01 UTC.
    pub issued: u64,
    /// `nextUpdate`, seconds since 1970-01-01 UTC.
    pub next_update: u64,
    /// `tcbEvaluationDataNumber`.
    pub evaluation: u32,
    /// `miscselect`.
    pub misc_select: [u8; 4],
    /// `miscselectMask`.
    pub misc_select_mask: [u8; 4],
    /// `attributes`.
    pub attributes: [u8; 16],
    /// `attributesMask`.
    pub attributes_mask: [u8; 16],
    /// `mrsigner`.
    pub mrsigner: [u8; 32],
    /// `isvprodid`.
    pub isv_prod_id: u16,
    /// `tcbLevels`, as listed.
    pub levels: Vec<IsvLevel>,
}

impl QeIdentity {
    /// Applies a change and hands the document back.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The value of `enclaveIdentity`, minified.
    #[must_use]
    pub fn json(&self) -> String {
        format!(
            "{{\"id\":\"{}\",\"version\":{},\"issueDate\":\"{}\",\"nextUpdate\":\"{}\",\"tcbEvaluationDataNumber\":{},\
             \"miscselect\":\"{}\",\"miscselectMask\":\"{}\",\"attributes\":\"{}\",\"attributesMask\":\"{}\",\"mrsigner\":\"{}\",\
             \"isvprodid\":{},\"tcbLevels\":{}}}",
            self.id,
            self.version,
            date_time(self.issued),
            date_time(self.next_update),
            self.evaluation,
            upper_hex(&self.misc_select),
            upper_hex(&self.misc_select_mask),
            upper_hex(&self.attributes),
            upper_hex(&self.attributes_mask),
            upper_hex(&self.mrsigner),
            self.isv_prod_id,
            array(self.levels.iter().map(IsvLevel::json)),
        )
    }
}
