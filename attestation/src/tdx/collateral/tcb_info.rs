//! TCB info of TDX (Intel PCS API version 4, "Get TDX TCB Info", TCB info version 3).

use protocol::time::UnixTime;
use serde::Deserialize;

use super::json::{self, Hex, RawIsvTcb, RawLevel};
use super::levels::{IsvLevel, LevelName, Verdict, by_isv_svn, descending};
use super::{Content, TCB_INFO};
use crate::claims::CollateralSource;
use crate::tdx::rejection::TdxRejection;

/// What Intel says of the platforms of one FMSPC.
pub(in crate::tdx) struct TcbInfo {
    source: CollateralSource,
    pub(in crate::tdx) fmspc: [u8; 6],
    pub(in crate::tdx) pceid: [u8; 2],
    /// The module of major version 0.
    pub(in crate::tdx) module: Signer,
    /// Those of later major versions, each once.
    pub(in crate::tdx) modules: Vec<Module>,
    /// The highest first.
    pub(in crate::tdx) levels: Vec<PlatformLevel>,
}

/// What the signer of a TDX module, and its attributes, must be. As stored.
pub(in crate::tdx) struct Signer {
    pub(in crate::tdx) mrsigner: [u8; 48],
    pub(in crate::tdx) attributes: [u8; 8],
}

/// A TDX module by its major version.
pub(in crate::tdx) struct Module {
    pub(in crate::tdx) version: u8,
    pub(in crate::tdx) signer: Signer,
    /// The highest first.
    pub(in crate::tdx) levels: Vec<IsvLevel>,
}

/// A level of the platform: the least SVNs that it asks for.
pub(in crate::tdx) struct PlatformLevel {
    pub(in crate::tdx) sgx: [u8; 16],
    pub(in crate::tdx) pce_svn: u16,
    pub(in crate::tdx) tdx: [u8; 16],
    pub(in crate::tdx) verdict: Verdict,
}

impl Content for TcbInfo {
    const DOCUMENT: &'static str = TCB_INFO;
    const NAME: &'static str = "tcbInfo";

    fn read(value: &str) -> Result<Self, TdxRejection> {
        let raw: RawTcbInfo = json::read(value, TCB_INFO)?;
        raw.check()
    }

    fn source(&self) -> &CollateralSource {
        &self.source
    }

    fn levels(&mut self) -> Vec<(LevelName, &mut Verdict)> {
        let fmspc = self.fmspc;
        let platform = self.levels.iter_mut().map(|PlatformLevel { sgx, pce_svn, tdx, verdict }| {
            (LevelName::Platform { fmspc, sgx: *sgx, pce_svn: *pce_svn, tdx: *tdx }, verdict)
        });
        let modules = self.modules.iter_mut().flat_map(|Module { version, levels, .. }| {
            let version = *version;
            levels.iter_mut().map(move |level| (LevelName::Module { fmspc, version, isv_svn: level.isv_svn }, &mut level.verdict))
        });
        platform.chain(modules).collect()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawTcbInfo {
    id: String,
    version: u32,
    issue_date: UnixTime,
    next_update: UnixTime,
    fmspc: Hex<6>,
    pce_id: Hex<2>,
    tcb_type: u32,
    tcb_evaluation_data_number: u32,
    tdx_module: RawSigner,
    #[serde(default)]
    tdx_module_identities: Vec<RawModule>,
    tcb_levels: Vec<RawLevel<RawPlatformTcb>>,
}

/// attributesMask is left out: every attribute has to be zero.
#[derive(Deserialize)]
struct RawSigner {
    mrsigner: Hex<48>,
    attributes: Hex<8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawModule {
    id: String,
    mrsigner: Hex<48>,
    attributes: Hex<8>,
    tcb_levels: Vec<RawLevel<RawIsvTcb>>,
}

#[derive(Deserialize)]
struct RawPlatformTcb {
    sgxtcbcomponents: Vec<RawComponent>,
    pcesvn: u16,
    tdxtcbcomponents: Vec<RawComponent>,
}

#[derive(Deserialize)]
struct RawComponent {
    svn: u8,
}

impl RawTcbInfo {
    fn check(self) -> Result<TcbInfo, TdxRejection> {
        if self.id != "TDX" {
            return Err(TdxRejection::DocumentId { document: TCB_INFO, expected: "TDX", found: self.id });
        }
        if self.version != 3 {
            return Err(TdxRejection::DocumentVersion { document: TCB_INFO, expected: 3, found: self.version });
        }
        if self.tcb_type != 0 {
            return Err(TdxRejection::TcbType { found: self.tcb_type });
        }
        let levels: Vec<PlatformLevel> = self.tcb_levels.into_iter().map(platform_level).collect::<Result<_, _>>()?;
        Ok(TcbInfo {
            source: CollateralSource {
                evaluation: self.tcb_evaluation_data_number,
                issued: self.issue_date,
                next_update: self.next_update,
            },
            fmspc: self.fmspc.0,
            pceid: self.pce_id.0,
            module: Signer { mrsigner: self.tdx_module.mrsigner.0, attributes: self.tdx_module.attributes.0 },
            modules: modules(self.tdx_module_identities)?,
            levels: descending(levels, |level| (level.sgx, level.pce_svn, level.tdx), TCB_INFO)?,
        })
    }
}

fn platform_level(raw: RawLevel<RawPlatformTcb>) -> Result<PlatformLevel, TdxRejection> {
    let (RawPlatformTcb { sgxtcbcomponents, pcesvn, tdxtcbcomponents }, verdict) = raw.check(TCB_INFO)?;
    Ok(PlatformLevel { sgx: sixteen(&sgxtcbcomponents)?, pce_svn: pcesvn, tdx: sixteen(&tdxtcbcomponents)?, verdict })
}

fn sixteen(components: &[RawComponent]) -> Result<[u8; 16], TdxRejection> {
    let svns: Vec<u8> = components.iter().map(|component| component.svn).collect();
    svns.try_into().map_err(|svns: Vec<u8>| TdxRejection::TcbComponents { found: svns.len() })
}

fn modules(raw: Vec<RawModule>) -> Result<Vec<Module>, TdxRejection> {
    let mut modules: Vec<Module> = Vec::with_capacity(raw.len());
    for RawModule { id, mrsigner, attributes, tcb_levels } in raw {
        let malformed = |what: &str| TdxRejection::DocumentMalformed { document: TCB_INFO, what: format!("TDX module {id:?}: {what}") };
        let version = major_version(&id).ok_or_else(|| malformed("expected TDX_ and two hex digits"))?;
        if modules.iter().any(|earlier| earlier.version == version) {
            return Err(malformed("stands twice"));
        }
        let signer = Signer { mrsigner: mrsigner.0, attributes: attributes.0 };
        modules.push(Module { version, signer, levels: by_isv_svn(tcb_levels, TCB_INFO)? });
    }
    Ok(modules)
}

/// `TDX_0A` is 10, in either case.
fn major_version(id: &str) -> Option<u8> {
    let id = id.to_ascii_lowercase();
    protocol::encoding::from_hex(id.strip_prefix("tdx_")?).map(|[version]| version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_named_by_two_hex_digits_of_either_case() {
        let names = [("TDX_01", Some(1)), ("TDX_0A", Some(10)), ("tdx_0a", Some(10)), ("TDX_1", None), ("TDX_001", None), ("SGX_01", None)];
        for (id, version) in names {
            assert_eq!(major_version(id), version, "{id}");
        }
    }
}
