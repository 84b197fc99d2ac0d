//! What the collateral of now says of a platform that was seen earlier: for forecasts. It proves nothing, and nothing is released on it.

use protocol::encoding::hex;
use protocol::time::UnixTime;
use serde::{Deserialize, Serialize};

use super::collateral::{Content, Prepared};
use super::rejection::TdxRejection;
use super::tcb;
use crate::claims::{CollateralSource, PckAuthority, Revocation, TcbVerdict, TdxClaims};
use crate::collateral::Lapsed;
use crate::rejection::HexBytes;
use crate::x509::crl;

/// What of a TDX guest's claims Intel's collateral judges. Plain data that can be kept for long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TdxTcb {
    authority: PckAuthority,
    #[serde(with = "hex")]
    fmspc: [u8; 6],
    #[serde(with = "hex")]
    pceid: [u8; 2],
    #[serde(with = "hex")]
    components: [u8; 16],
    pce_svn: u16,
    qe_isv_svn: u16,
    #[serde(with = "hex")]
    tee_tcb_svn: [u8; 16],
    tee_tcb_svn_2: Option<[u8; 16]>,
}

impl From<&TdxClaims> for TdxTcb {
    fn from(claims: &TdxClaims) -> Self {
        let platform = &claims.platform;
        Self {
            authority: platform.authority,
            fmspc: platform.fmspc,
            pceid: platform.pceid,
            components: platform.components,
            pce_svn: platform.pce_svn,
            qe_isv_svn: claims.qe_isv_svn,
            tee_tcb_svn: claims.tee_tcb_svn,
            tee_tcb_svn_2: claims.tee_tcb_svn_2,
        }
    }
}

/// What collateral says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdxStanding {
    /// As in [`TdxClaims::tcb`].
    pub tcb: TcbVerdict,
    /// The TCB info that says so.
    pub tcb_info: CollateralSource,
    /// The quoting enclave identity that says so.
    pub qe_identity: CollateralSource,
    /// The PCK authority's list.
    pub revocation: Revocation,
    /// The root's list.
    pub root_revocation: Revocation,
}

impl From<&TdxClaims> for TdxStanding {
    /// What was said when it was seen.
    fn from(claims: &TdxClaims) -> Self {
        Self {
            tcb: claims.tcb.clone(),
            tcb_info: claims.tcb_info,
            qe_identity: claims.qe_identity,
            revocation: claims.revocation,
            root_revocation: claims.root_revocation,
        }
    }
}

impl Prepared {
    /// Steps 4, 5 and 10 for a platform that was seen earlier, and how fresh the lists are.
    pub(crate) fn standing(&self, of: &TdxTcb, at: UnixTime) -> Result<TdxStanding, TdxRejection> {
        let info = self.tcb_info(of.fmspc, Lapsed::Claimed, at)?;
        let identity = self.qe_identity(of.fmspc, Lapsed::Claimed, at)?;
        if of.pceid != info.pceid {
            return Err(TdxRejection::PceidMismatch { expected: HexBytes::from(of.pceid), found: info.pceid.into() });
        }
        let subject = tcb::Subject { components: &of.components, pce_svn: of.pce_svn, qe_isv_svn: of.qe_isv_svn, info, identity };
        let tcb = tcb::evaluate(subject, of.tee_tcb_svn, of.tee_tcb_svn_2)?;
        Ok(TdxStanding {
            tcb,
            tcb_info: *info.source(),
            qe_identity: *identity.source(),
            revocation: crl::status(&self.lists.windows_of(of.authority), at),
            root_revocation: crl::status(&self.lists.root_windows(), at),
        })
    }
}
