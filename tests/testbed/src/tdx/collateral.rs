//! What Intel's service says of a soft machine: TCB info, QE identity, revocation lists, with their issuer chains.

use super::document::{Document, IsvLevel, Standing, upper_hex};
use super::enclave::TD_QE_SIGNER;
use super::platform::{Role, SoftTdx};
use super::qe_identity::QeIdentity;
use super::signature::SignatureFlaw;
use super::tcb_info::{ModuleIdentity, PlatformLevel, TcbInfo};

/// `tcbDate` of the newest levels: 2025-08-13.
pub const NEWEST_TCB: u64 = 1_755_043_200;
/// `tcbDate` of the levels before: 2024-03-13.
pub const OLDER_TCB: u64 = 1_710_288_000;
/// `tcbDate` of the oldest levels: 2023-08-09.
pub const OLDEST_TCB: u64 = 1_691_539_200;

/// Everything that a verifier of this machine's quotes needs beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftTdxCollateral {
    /// Signed TCB info.
    pub tcb_info: Vec<u8>,
    /// Signed QE identity.
    pub qe_identity: Vec<u8>,
    /// PEM chain of the signer of both.
    pub issuer_chain: String,
    /// The root's revocation list, DER.
    pub root_list: Vec<u8>,
    /// The PCK authority's revocation list, DER.
    pub pck_list: Vec<u8>,
    /// PEM chain of the PCK authority.
    pub pck_list_issuer_chain: String,
}

impl SoftTdx {
    /// Genuine collateral: everything up to date, nothing revoked.
    #[must_use]
    pub fn collateral(&self) -> SoftTdxCollateral {
        SoftTdxCollateral {
            tcb_info: self.tcb_info_body(|_| ()),
            qe_identity: self.qe_identity_body(|_| ()),
            issuer_chain: self.tcb_issuer_chain(),
            root_list: self.root_list_der(&[]),
            pck_list: self.pck_list_der(&[]),
            pck_list_issuer_chain: self.pck_list_issuer_chain(),
        }
    }

    /// TCB info of this machine's FMSPC. The newest level is what [`SoftTdx::new`] has; an older one and the oldest are out of date.
    #[must_use]
    pub fn tcb_info(&self) -> TcbInfo {
        let newest = Self::new();
        let level = |lower_by: u32, standing: Standing| PlatformLevel {
            sgx: newest.components.iter().zip(0..).map(|(svn, index)| u32::from(*svn) - if index < 2 { lower_by } else { 0 }).collect(),
            pce_svn: u32::from(newest.pce_svn) - lower_by,
            tdx: [5, 0, 4 - lower_by].into_iter().chain([0; 13]).collect(),
            standing,
        };
        let older = ["INTEL-SA-90001", "INTEL-SA-90002"];
        TcbInfo {
            id: "TDX".to_owned(),
            version: 3,
            issued: self.validity.documents.not_before,
            next_update: self.validity.documents.not_after,
            fmspc: self.fmspc_hex(),
            pce_id: upper_hex(&self.pce_id),
            tcb_type: 0,
            evaluation: self.evaluation,
            module: Some(ModuleIdentity::intel("", Vec::new())),
            module_identities: Some(vec![
                ModuleIdentity::intel("TDX_03", vec![IsvLevel::new(5, "UpToDate", NEWEST_TCB)]),
                ModuleIdentity::intel(
                    "TDX_01",
                    vec![
                        IsvLevel::new(11, "UpToDate", NEWEST_TCB),
                        IsvLevel { isv_svn: 6, standing: Standing::new("OutOfDate", OLDER_TCB).advising(&["INTEL-SA-90003"]) },
                        IsvLevel { isv_svn: 2, standing: Standing::new("Revoked", OLDEST_TCB).advising(&["INTEL-SA-90003"]) },
                    ],
                ),
            ]),
            levels: vec![
                level(0, Standing::new("UpToDate", NEWEST_TCB)),
                level(1, Standing::new("OutOfDate", OLDER_TCB).advising(&older)),
                level(2, Standing::new("OutOfDateConfigurationNeeded", OLDEST_TCB).advising(&older)),
            ],
        }
    }

    /// QE identity of the soft machine's quoting enclave, with one older level that is out of date.
    #[must_use]
    pub fn qe_identity(&self) -> QeIdentity {
        let mut attributes = [0; 16];
        attributes[0] = 0x11;
        let mut attributes_mask = [0; 16];
        attributes_mask[..8].copy_from_slice(&[0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        QeIdentity {
            id: "TD_QE".to_owned(),
            version: 2,
            issued: self.validity.documents.not_before,
            next_update: self.validity.documents.not_after,
            evaluation: self.evaluation,
            misc_select: [0; 4],
            misc_select_mask: [0xff; 4],
            attributes,
            attributes_mask,
            mrsigner: TD_QE_SIGNER,
            isv_prod_id: 2,
            levels: vec![
                IsvLevel::new(8, "UpToDate", NEWEST_TCB),
                IsvLevel { isv_svn: 6, standing: Standing::new("OutOfDate", OLDER_TCB).advising(&["INTEL-SA-90004"]) },
            ],
        }
    }

    /// A document of TCB info, ready to be signed or broken.
    #[must_use]
    pub fn tcb_info_document(&self, info: &TcbInfo) -> Document {
        self.document("tcbInfo", info.json())
    }

    /// A document of QE identity, ready to be signed or broken.
    #[must_use]
    pub fn qe_identity_document(&self, identity: &QeIdentity) -> Document {
        self.document("enclaveIdentity", identity.json())
    }

    /// A document of any text, under the TCB signer's key.
    #[must_use]
    pub fn document(&self, member: &str, json: String) -> Document {
        Document { member: member.to_owned(), json, signer: self.key(Role::TcbSigner), signature: SignatureFlaw::None }
    }

    /// The signed body of this machine's TCB info, with a change made before it is signed.
    #[must_use]
    pub fn tcb_info_body(&self, change: impl FnOnce(&mut TcbInfo)) -> Vec<u8> {
        self.tcb_info_document(&self.tcb_info().with(change)).bytes()
    }

    /// The signed body of this machine's QE identity, with a change made before it is signed.
    #[must_use]
    pub fn qe_identity_body(&self, change: impl FnOnce(&mut QeIdentity)) -> Vec<u8> {
        self.qe_identity_document(&self.qe_identity().with(change)).bytes()
    }
}
