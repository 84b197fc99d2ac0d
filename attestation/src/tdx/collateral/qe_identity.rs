//! Identity of the TD quoting enclave (Intel PCS API version 4, "Get TDX QE Identity", enclave identity version 2).

use protocol::time::UnixTime;
use serde::Deserialize;

use super::json::{self, Hex, RawIsvTcb, RawLevel};
use super::levels::{IsvLevel, LevelName, Verdict, by_isv_svn};
use super::{Content, QE_IDENTITY};
use crate::claims::CollateralSource;
use crate::tdx::rejection::TdxRejection;

/// What Intel's quoting enclave is. Byte strings as stored in its report.
pub(in crate::tdx) struct QeIdentity {
    source: CollateralSource,
    pub(in crate::tdx) miscselect: Masked<4>,
    pub(in crate::tdx) attributes: Masked<16>,
    pub(in crate::tdx) mrsigner: [u8; 32],
    pub(in crate::tdx) isv_prod_id: u16,
    /// The highest first.
    pub(in crate::tdx) levels: Vec<IsvLevel>,
}

/// A value of which the bits of a mask count.
pub(in crate::tdx) struct Masked<const N: usize> {
    pub(in crate::tdx) value: [u8; N],
    pub(in crate::tdx) mask: [u8; N],
}

impl<const N: usize> Masked<N> {
    /// Whether `found`, under the mask, is the value. A value with a bit outside its mask is never found.
    pub(in crate::tdx) fn is(&self, found: &[u8; N]) -> bool {
        let bytes = self.value.iter().zip(&self.mask).zip(found);
        bytes.fold(true, |same, ((value, mask), found)| same && found & mask == *value)
    }
}

impl Content for QeIdentity {
    const DOCUMENT: &'static str = QE_IDENTITY;
    const NAME: &'static str = "enclaveIdentity";

    fn read(value: &str) -> Result<Self, TdxRejection> {
        let raw: RawQeIdentity = json::read(value, QE_IDENTITY)?;
        raw.check()
    }

    fn source(&self) -> &CollateralSource {
        &self.source
    }

    fn levels(&mut self) -> Vec<(LevelName, &mut Verdict)> {
        let levels = self.levels.iter_mut();
        levels.map(|level| (LevelName::QuotingEnclave { isv_svn: level.isv_svn }, &mut level.verdict)).collect()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawQeIdentity {
    id: String,
    version: u32,
    issue_date: UnixTime,
    next_update: UnixTime,
    tcb_evaluation_data_number: u32,
    miscselect: Hex<4>,
    miscselect_mask: Hex<4>,
    attributes: Hex<16>,
    attributes_mask: Hex<16>,
    mrsigner: Hex<32>,
    isvprodid: u16,
    tcb_levels: Vec<RawLevel<RawIsvTcb>>,
}

impl RawQeIdentity {
    fn check(self) -> Result<QeIdentity, TdxRejection> {
        if self.id != "TD_QE" {
            return Err(TdxRejection::DocumentId { document: QE_IDENTITY, expected: "TD_QE", found: self.id });
        }
        if self.version != 2 {
            return Err(TdxRejection::DocumentVersion { document: QE_IDENTITY, expected: 2, found: self.version });
        }
        Ok(QeIdentity {
            source: CollateralSource {
                evaluation: self.tcb_evaluation_data_number,
                issued: self.issue_date,
                next_update: self.next_update,
            },
            miscselect: Masked { value: self.miscselect.0, mask: self.miscselect_mask.0 },
            attributes: Masked { value: self.attributes.0, mask: self.attributes_mask.0 },
            mrsigner: self.mrsigner.0,
            isv_prod_id: self.isvprodid,
            levels: by_isv_svn(self.tcb_levels, QE_IDENTITY)?,
        })
    }
}
