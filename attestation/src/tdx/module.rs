//! The identity of the TDX module that the TD was launched under (QVL, "TdxModuleCheck").

use super::collateral::tcb_info::{Module, TcbInfo};
use super::quote::TdReport;
use super::rejection::TdxRejection;
use crate::rejection::HexBytes;

/// The module of a TEE_TCB_SVN: byte 1 is its major version. `None` for version 0, which the platform's levels cover.
pub(super) fn find(info: &TcbInfo, tee_tcb_svn: [u8; 16]) -> Result<Option<&Module>, TdxRejection> {
    let [_, version, ..] = tee_tcb_svn;
    if version == 0 {
        return Ok(None);
    }
    info.modules.iter().find(|module| module.version == version).map(Some).ok_or(TdxRejection::ModuleUnknown { version })
}

/// That signer and attributes are those of the module's identity.
pub(super) fn check(info: &TcbInfo, module: Option<&Module>, report: &TdReport) -> Result<(), TdxRejection> {
    let expected = module.map_or(&info.module, |module| &module.signer);
    if report.mrsignerseam != expected.mrsigner {
        return Err(TdxRejection::ModuleSigner { expected: expected.mrsigner.into(), found: report.mrsignerseam.into() });
    }
    if report.seam_attributes != expected.attributes || report.seam_attributes != [0; 8] {
        let found = HexBytes::from(report.seam_attributes);
        return Err(TdxRejection::ModuleAttributes { expected: expected.attributes.into(), found });
    }
    Ok(())
}
