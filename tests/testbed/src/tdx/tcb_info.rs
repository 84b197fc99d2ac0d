//! TCB info (Intel PCS API version 4, "Get TDX TCB Info"), every member of it public, rendered as Intel renders it.

use super::document::{IsvLevel, Standing, array, date_time, upper_hex};

/// What a TDX module must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleIdentity {
    /// `id`: `TDX_` and two hex digits of the module's major version. The plain `tdxModule` has none.
    pub id: String,
    /// `mrsigner`.
    pub mrsigner: [u8; 48],
    /// `attributes`.
    pub attributes: [u8; 8],
    /// `attributesMask`.
    pub attributes_mask: [u8; 8],
    /// `tcbLevels`, as listed. The plain `tdxModule` has none.
    pub levels: Vec<IsvLevel>,
}

/// A TCB level of the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformLevel {
    /// `sgxtcbcomponents`: SVNs; sixteen in Intel's.
    pub sgx: Vec<u32>,
    /// `pcesvn`.
    pub pce_svn: u32,
    /// `tdxtcbcomponents`: SVNs; sixteen in Intel's.
    pub tdx: Vec<u32>,
    /// What it means.
    pub standing: Standing,
}

/// TCB info before it is rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcbInfo {
    /// `id`: `TDX`.
    pub id: String,
    /// `version`: 3.
    pub version: u32,
    /// `issueDate`, seconds since 1970-01-01 UTC.
    pub issued: u64,
    /// `nextUpdate`, seconds since 1970-01-01 UTC.
    pub next_update: u64,
    /// `fmspc`: upper-case hex in Intel's newer documents, lower-case in older ones.
    pub fmspc: String,
    /// `pceId`.
    pub pce_id: String,
    /// `tcbType`: 0.
    pub tcb_type: u32,
    /// `tcbEvaluationDataNumber`.
    pub evaluation: u32,
    /// `tdxModule`.
    pub module: Option<ModuleIdentity>,
    /// `tdxModuleIdentities`; `None` leaves the member out.
    pub module_identities: Option<Vec<ModuleIdentity>>,
    /// `tcbLevels`, as listed.
    pub levels: Vec<PlatformLevel>,
}

impl TcbInfo {
    /// Applies a change and hands the document back.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The identity with this `id`.
    ///
    /// # Panics
    /// When there is none.
    pub fn module_identity(&mut self, id: &str) -> &mut ModuleIdentity {
        self.module_identities.iter_mut().flatten().find(|identity| identity.id == id).expect("an identity with this id")
    }

    /// The value of `tcbInfo`, minified.
    #[must_use]
    pub fn json(&self) -> String {
        let module = self.module.as_ref().map(|module| format!(",\"tdxModule\":{{{}}}", module.members())).unwrap_or_default();
        let identities = self.module_identities.as_ref().map(|list| array(list.iter().map(ModuleIdentity::json)));
        let identities = identities.map(|list| format!(",\"tdxModuleIdentities\":{list}")).unwrap_or_default();
        format!(
            "{{\"id\":\"{}\",\"version\":{},\"issueDate\":\"{}\",\"nextUpdate\":\"{}\",\"fmspc\":\"{}\",\"pceId\":\"{}\",\"tcbType\":{},\
             \"tcbEvaluationDataNumber\":{}{module}{identities},\"tcbLevels\":{}}}",
            self.id,
            self.version,
            date_time(self.issued),
            date_time(self.next_update),
            self.fmspc,
            self.pce_id,
            self.tcb_type,
            self.evaluation,
            array(self.levels.iter().map(PlatformLevel::json)),
        )
    }
}

impl ModuleIdentity {
    /// Intel's module: its signer and attributes are all zero.
    #[must_use]
    pub fn intel(id: &str, levels: Vec<IsvLevel>) -> Self {
        Self { id: id.to_owned(), mrsigner: [0; 48], attributes: [0; 8], attributes_mask: [0xff; 8], levels }
    }

    fn members(&self) -> String {
        let (mrsigner, attributes, mask) = (upper_hex(&self.mrsigner), upper_hex(&self.attributes), upper_hex(&self.attributes_mask));
        format!("\"mrsigner\":\"{mrsigner}\",\"attributes\":\"{attributes}\",\"attributesMask\":\"{mask}\"")
    }

    fn json(&self) -> String {
        let levels = array(self.levels.iter().map(IsvLevel::json));
        format!("{{\"id\":\"{}\",{},\"tcbLevels\":{levels}}}", self.id, self.members())
    }
}

/// What Intel says of the components that have a name; the others have an SVN alone.
const SGX_NAMES: [&str; 8] = [
    r#","category":"BIOS","type":"Early Microcode Update""#,
    r#","category":"OS/VMM","type":"SGX Late Microcode Update""#,
    r#","category":"OS/VMM","type":"TXT SINIT""#,
    r#","category":"BIOS""#,
    r#","category":"BIOS""#,
    r#","category":"BIOS""#,
    "",
    r#","category":"OS/VMM","type":"SEAMLDR ACM""#,
];
const TDX_NAMES: [&str; 3] = [
    r#","category":"OS/VMM","type":"TDX Module""#,
    r#","category":"OS/VMM","type":"TDX Module""#,
    r#","category":"OS/VMM","type":"TDX Late Microcode Update""#,
];

impl PlatformLevel {
    fn json(&self) -> String {
        format!(
            "{{\"tcb\":{{\"sgxtcbcomponents\":{},\"pcesvn\":{},\"tdxtcbcomponents\":{}}},{}}}",
            components(&self.sgx, &SGX_NAMES),
            self.pce_svn,
            components(&self.tdx, &TDX_NAMES),
            self.standing.members(),
        )
    }
}

fn components(svns: &[u32], names: &[&str]) -> String {
    let names = names.iter().copied().chain(std::iter::repeat(""));
    array(svns.iter().zip(names).map(|(svn, name)| format!("{{\"svn\":{svn}{name}}}")))
}
